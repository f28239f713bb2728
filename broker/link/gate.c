/* SPDX-License-Identifier: Apache-2.0 */
#include "link/private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/env.h"
#include "base/lock.h"

/* Who connects and leaves before the handshake is over ends nng's listener, every time; the
 * watchdog needs a second to open another. Fifty such visits a second and no backend comes in. And
 * who connects and says nothing keeps a descriptor for ten seconds by the wall clock, however many
 * there are: all that the process may have. So nng must not see a connection before its peer has
 * said its part.
 *
 * nng takes connections by accept(), which it calls through the dynamic linker: here is one of the
 * same name, which stands in front of the C library's for the whole process. For all descriptors
 * but the listening ones of our paths and addresses it is the system call and nothing else. For
 * those it hands out a connection when the eight bytes of a peer's header are there and right, and
 * its end is not; one that is gone or says something else is closed here. What has said nothing yet
 * is kept aside and watched by a thread, for as long as nng would; when its header is there, the
 * thread knocks at our own door, so that nng asks again, and the knock is closed like any other
 * visit. So a connection costs a look more, and a message nothing.
 *
 * What can happen after the header: a peer that leaves in the microseconds until nng answers it.
 * Then nng's own header meets EPIPE, which to its listener means that itself was closed: it
 * accepts no more. So sendmsg(), by which nng writes, stands here too. It is the system call; when
 * that says EPIPE, on a connection to one of our doors, all is said to be sent, as it is to a peer
 * that leaves a moment later, and nng finds the end where it does no harm, when it reads.
 *
 * A listener that has died all the same stays bound, and nng closes it only together with the
 * connections that came by it. So another socket is put under the number of its descriptor, as
 * link/orphans.c does: path or address are free, and another listener takes them.
 *
 * The state is the process's, because accept() is: nng has nothing to hand to it but a descriptor.
 *
 * `lock` is taken in each accept(), so nobody waits for the thread under it. Who begins or ends
 * the thread holds `doorway` besides, until that is done: the watchdog opens a door again while
 * another may close. */

enum {
    DOORS_MAX = LINK_URLS_MAX + 1,
    WAITING_MAX = 256, /* of all doors; the oldest goes for the newest */
    ACCEPTS_MAX = 64,  /* in one call, which is on nng's one poller */
    WAITING_MS = 10000,
    PART_MS = 50, /* between two looks at one that has said a part */
    LOOK_MS = 1000
};

enum verdict_of_peer { PEER_SILENT, PEER_PARTIAL, PEER_GOOD, PEER_BAD };

struct door {
    struct place place; /* its size is 0: no door */
    uint8_t visitor;
    int listener; /* nng's descriptor, since nng has asked with it; -1: not yet */
};

struct waiting {
    int fd;
    unsigned door;
    uint64_t until_ms;
    enum verdict_of_peer verdict; /* PEER_GOOD: nng is to take it */
};

static struct gate {
    struct lock doorway; /* before lock; thread and wake change only under it */
    struct lock lock;
    _Atomic unsigned doors_open;         /* written under lock */
    struct door doors[DOORS_MAX];        /* under lock, as all that follows */
    struct waiting waiting[WAITING_MAX]; /* the oldest first */
    unsigned count;
    unsigned most; /* may wait */
    bool closing;
    int wake;
    pthread_t thread;
} gate = {.doorway = LOCK_INITIALIZER, .lock = LOCK_INITIALIZER, .most = WAITING_MAX, .wake = -1};

/* --- one peer --------------------------------------------------------------------------------- */

static enum verdict_of_peer judge(int fd, uint8_t visitor)
{
    const uint8_t hello[8] = {0, 'S', 'P', 0, 0, visitor, 0, 0};
    uint8_t said[sizeof(hello)];
    struct pollfd end = {.fd = fd, .events = POLLRDHUP};
    ssize_t size = recv(fd, said, sizeof(said), MSG_PEEK | MSG_DONTWAIT);
    if (size < 0)
        return errno == EAGAIN ? PEER_SILENT : PEER_BAD;
    if (size == 0 || memcmp(said, hello, (size_t)size) != 0 || poll(&end, 1, 0) != 0)
        return PEER_BAD;
    return size == sizeof(hello) ? PEER_GOOD : PEER_PARTIAL;
}

/* The lock is held, as for all that follow. */
static void forget(unsigned i)
{
    CHECK(lock_held(&gate.lock) && i < gate.count);
    memmove(&gate.waiting[i], &gate.waiting[i + 1], (gate.count - i - 1) * sizeof(gate.waiting[0]));
    gate.count--;
}

static void keep_aside(int fd, unsigned door, enum verdict_of_peer verdict)
{
    if (gate.count >= gate.most) {
        close(gate.waiting[0].fd);
        forget(0);
    }
    CHECK(lock_held(&gate.lock) && gate.count < WAITING_MAX && door < DOORS_MAX);
    gate.waiting[gate.count++] =
        (struct waiting){fd, door, env_monotonic_ms(env_system()) + WAITING_MS, verdict};
}

static int take_good(unsigned door)
{
    CHECK(lock_held(&gate.lock) && door < DOORS_MAX);
    for (unsigned i = 0; i < gate.count; i++) {
        int fd = gate.waiting[i].fd;
        if (gate.waiting[i].door != door || gate.waiting[i].verdict != PEER_GOOD)
            continue;
        bool good = judge(fd, gate.doors[door].visitor) == PEER_GOOD;
        forget(i--);
        if (good)
            return fd;
        close(fd);
    }
    return -1;
}

/* --- in front of nng -------------------------------------------------------------------------- */

/* A connection to a wildcard address has another one of its own. */
static bool covers(const struct place *door, const struct place *place)
{
    if (door->any.sa_family != place->any.sa_family)
        return false;
    switch (door->any.sa_family) {
    case AF_UNIX:
        return strcmp(door->path.sun_path, place->path.sun_path) == 0;
    case AF_INET:
        return door->v4.sin_port == place->v4.sin_port &&
               (door->v4.sin_addr.s_addr == htonl(INADDR_ANY) ||
                door->v4.sin_addr.s_addr == place->v4.sin_addr.s_addr);
    case AF_INET6:
        return door->v6.sin6_port == place->v6.sin6_port &&
               (IN6_IS_ADDR_UNSPECIFIED(&door->v6.sin6_addr) ||
                memcmp(&door->v6.sin6_addr, &place->v6.sin6_addr, sizeof(struct in6_addr)) == 0);
    default:
        return false;
    }
}

/* DOORS_MAX: there is none. */
static unsigned door_at(const struct place *place)
{
    CHECK(lock_held(&gate.lock));
    unsigned i = 0;
    while (i < DOORS_MAX && (gate.doors[i].place.size == 0 || !covers(&gate.doors[i].place, place)))
        i++;
    return i;
}

/* DOORS_MAX: it is at none of our places. */
static unsigned door_of(int fd)
{
    struct place place = {.size = sizeof(place.path)};
    if (getsockname(fd, &place.any, &place.size) != 0)
        return DOORS_MAX;
    place.path.sun_path[sizeof(place.path.sun_path) - 1] = '\0';
    return door_at(&place);
}

/* -1 with errno: EAGAIN also when there may be more. */
static int next_good(int listener, unsigned door)
{
    int good = take_good(door);
    for (unsigned i = 0; good < 0 && i < ACCEPTS_MAX; i++) {
        int fd = (int)syscall(SYS_accept4, listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return -1;
        enum verdict_of_peer verdict = judge(fd, gate.doors[door].visitor);
        if (verdict == PEER_GOOD)
            return fd;
        if (verdict == PEER_BAD)
            close(fd);
        else
            keep_aside(fd, door, verdict);
    }
    errno = EAGAIN;
    return good;
}

int accept(int listener, struct sockaddr *restrict address, socklen_t *restrict size)
{
    int fd;
    if (atomic_load_explicit(&gate.doors_open, memory_order_acquire) == 0 || address != NULL)
        return (int)syscall(SYS_accept4, listener, address, size, 0);
    lock_take(&gate.lock);
    unsigned door = door_of(listener);
    if (door < DOORS_MAX) {
        unsigned before = gate.count;
        gate.doors[door].listener = listener;
        fd = next_good(listener, door);
        int error = errno;
        if (gate.count > before)
            (void)eventfd_write(gate.wake, 1);
        errno = error;
    }
    lock_give(&gate.lock);
    return door < DOORS_MAX ? fd : (int)syscall(SYS_accept4, listener, address, size, 0);
}

static size_t bytes_of(const struct msghdr *message)
{
    size_t bytes = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++)
        bytes += message->msg_iov[i].iov_len;
    return bytes;
}

/* Of a connection it is the place of who accepted it. */
static bool is_ours(int fd)
{
    lock_take(&gate.lock);
    bool ours = door_of(fd) < DOORS_MAX;
    lock_give(&gate.lock);
    return ours;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    ssize_t sent = syscall(SYS_sendmsg, fd, message, flags);
    if (sent >= 0 || errno != EPIPE ||
        atomic_load_explicit(&gate.doors_open, memory_order_acquire) == 0)
        return sent;
    if (is_ours(fd))
        return (ssize_t)bytes_of(message);
    errno = EPIPE;
    return sent;
}

/* --- those who wait --------------------------------------------------------------------------- */

/* So that nng asks once more. On tcp nothing of it stays in the system. */
static void knock_at(const struct door *door)
{
    const struct linger at_once = {.l_onoff = 1};
    int fd = socket(door->place.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    (void)!connect(fd, &door->place.any, door->place.size);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(fd);
}

static void look_at_all(uint64_t now_ms)
{
    CHECK(lock_held(&gate.lock) && gate.count <= WAITING_MAX);
    bool knock[DOORS_MAX] = {false};
    for (unsigned i = 0; i < gate.count; i++) {
        struct waiting *waiting = &gate.waiting[i];
        waiting->verdict = judge(waiting->fd, gate.doors[waiting->door].visitor);
        if (waiting->verdict == PEER_GOOD)
            knock[waiting->door] = true;
        if (waiting->verdict != PEER_BAD && waiting->until_ms > now_ms)
            continue;
        close(waiting->fd);
        forget(i--);
    }
    for (unsigned i = 0; i < DOORS_MAX; i++)
        if (knock[i])
            knock_at(&gate.doors[i]);
}

/* What to poll for; gives until when. One that has said a part is readable all the time. */
static int fill(struct pollfd *fds, nfds_t *count)
{
    CHECK(lock_held(&gate.lock) && gate.count <= WAITING_MAX);
    int wait_ms = gate.count > 0 ? LOOK_MS : -1;
    fds[0] = (struct pollfd){.fd = gate.wake, .events = POLLIN};
    *count = 1;
    for (unsigned i = 0; i < gate.count; i++) {
        bool silent = gate.waiting[i].verdict == PEER_SILENT;
        if (silent)
            fds[(*count)++] = (struct pollfd){.fd = gate.waiting[i].fd, .events = POLLIN};
        else
            wait_ms = PART_MS;
    }
    return wait_ms;
}

static void *watch_gate(void *argument)
{
    struct pollfd fds[WAITING_MAX + 1];
    eventfd_t told;
    nfds_t count;
    lock_take(&gate.lock);
    while (!gate.closing) {
        int wait_ms = fill(fds, &count);
        lock_give(&gate.lock);
        (void)poll(fds, count, wait_ms);
        lock_take(&gate.lock);
        if (fds[0].revents != 0)
            (void)eventfd_read(gate.wake, &told);
        look_at_all(env_monotonic_ms(env_system()));
    }
    lock_give(&gate.lock);
    return NULL;
}

/* --- doors ------------------------------------------------------------------------------------ */

static int start_watching(void)
{
    CHECK(lock_held(&gate.doorway) && lock_held(&gate.lock) && gate.wake < 0);
    gate.closing = false;
    gate.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int code = gate.wake < 0 ? -errno : -pthread_create(&gate.thread, NULL, watch_gate, NULL);
    if (code != 0 && gate.wake >= 0)
        close(gate.wake);
    if (code != 0)
        gate.wake = -1;
    return code;
}

int gate_open(const struct place *place, uint8_t visitor)
{
    lock_take(&gate.doorway);
    lock_take(&gate.lock);
    bool open = door_at(place) < DOORS_MAX;
    unsigned i = 0;
    while (i < DOORS_MAX && gate.doors[i].place.size != 0)
        i++;
    int code = open ? 0 : i == DOORS_MAX ? -ENOSPC : 0;
    if (!open && code == 0 && gate.doors_open == 0)
        code = start_watching();
    if (!open && code == 0) {
        gate.doors[i] = (struct door){*place, visitor, -1};
        atomic_fetch_add_explicit(&gate.doors_open, 1, memory_order_release);
    }
    lock_give(&gate.lock);
    lock_give(&gate.doorway);
    return code;
}

void gate_limit(unsigned waiting)
{
    lock_take(&gate.lock);
    gate.most = waiting < 1 ? 1 : waiting < WAITING_MAX ? waiting : WAITING_MAX;
    lock_give(&gate.lock);
}

bool gate_take_place(const struct place *place)
{
    bool taken = false;
    lock_take(&gate.lock);
    unsigned door = door_at(place);
    int fd = door < DOORS_MAX ? gate.doors[door].listener : -1;
    int other =
        fd >= 0 && door_of(fd) == door ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
    if (other >= 0) {
        taken = dup3(other, fd, O_CLOEXEC) == fd;
        gate.doors[door].listener = -1;
        close(other);
    }
    lock_give(&gate.lock);
    return taken;
}

static void forget_those_at(unsigned door)
{
    CHECK(lock_held(&gate.lock));
    for (unsigned i = 0; i < gate.count; i++) {
        if (gate.waiting[i].door != door)
            continue;
        close(gate.waiting[i].fd);
        forget(i--);
    }
}

/* `closing` is set, and the last door is closed: nobody else asks for `wake`. */
static void end_thread(void)
{
    CHECK(lock_held(&gate.doorway) && !lock_held(&gate.lock));
    (void)eventfd_write(gate.wake, 1);
    pthread_join(gate.thread, NULL);
    close(gate.wake);
    gate.wake = -1;
}

void gate_close(const struct place *place)
{
    bool last = false;
    lock_take(&gate.doorway);
    lock_take(&gate.lock);
    unsigned door = place->size != 0 ? door_at(place) : DOORS_MAX;
    if (door < DOORS_MAX) {
        forget_those_at(door);
        gate.doors[door] = (struct door){0};
        CHECK(gate.doors_open > 0);
        last = atomic_fetch_sub_explicit(&gate.doors_open, 1, memory_order_release) == 1;
    }
    gate.closing = gate.closing || last;
    lock_give(&gate.lock);
    if (last)
        end_thread();
    lock_give(&gate.doorway);
}
