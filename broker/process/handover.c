/* SPDX-License-Identifier: Apache-2.0 */
#include "process/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/env.h"

/* A pair of sockets that keep the bounds of what is sent. The new process finds its end as
 * descriptor 3 and is told so by the environment, where a program of an older kind looks for
 * nothing. Both ends are closed by an exec, so the channel ends with the process: whoever reads its
 * end knows that the other one is gone, whatever else is still open.
 *
 * Everything else that the old process has open is closed before the exec, since not all of the
 * libraries mark theirs: the new one has what it was sent and nothing else (94-upgrade-manager).
 *
 * The bytes are a memfd, sealed before it is sent: what the new process has read and compared
 * cannot become something else afterwards, whoever still holds it. */

enum { CHANNEL_FD = 3, END_WAIT_MS = 200, END_NAP_US = 2000 };

static const char VARIABLE[] = "USHER_TAKE_OVER";

/* Of the service manager, for one process: a number of it, or of its descriptors. */
static const char *const OTHERS[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID",
                                     VARIABLE};

struct handover {
    int fd;
    pid_t process; /* of the new one, in the old one; 0: it is the new one */
    pid_t parent;  /* of the new one, which is the old one as long as that lives */
};

static struct handover *make(int fd, pid_t process)
{
    struct handover *handover = malloc(sizeof(*handover));
    if (handover != NULL)
        *handover = (struct handover){fd, process, getppid()};
    return handover;
}

/* --- starting the other one ------------------------------------------------------------------- */

static bool is_for_us_alone(const char *entry)
{
    for (size_t i = 0; i < sizeof(OTHERS) / sizeof(OTHERS[0]); i++) {
        size_t size = strlen(OTHERS[i]);
        if (strncmp(entry, OTHERS[i], size) == 0 && entry[size] == '=')
            return true;
    }
    return false;
}

/* The environment for it: pointers into ours, and the variable. NULL without memory. */
static char **make_environment(char variable[sizeof(VARIABLE) + 2])
{
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    char **list = calloc(count + 2, sizeof(*list));
    if (list == NULL)
        return NULL;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (!is_for_us_alone(environ[i]))
            list[kept++] = environ[i];
    snprintf(variable, sizeof(VARIABLE) + 2, "%s=1", VARIABLE);
    list[kept] = variable;
    return list;
}

/* Signals are blocked in all our threads, and ignored ones stay so over an exec: it gets what a
 * program finds at its start, and does with it what it did the first time. */
static int set_signals(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int failed = posix_spawnattr_setsigmask(attributes, &none);
    failed = failed != 0 ? failed : posix_spawnattr_setsigdefault(attributes, &all);
    return failed != 0 ? failed
                       : posix_spawnattr_setflags(attributes,
                                                  POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

/* `fd` becomes its descriptor 3. 0 or an errno. */
static int spawn(pid_t *process, const char *program, char *const argv[], char *const environment[],
                 int fd)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    CHECK(fd > CHANNEL_FD); /* one that is put in its own place would be closed by the exec */
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed != 0)
        return failed;
    failed = posix_spawnattr_init(&attributes);
    if (failed == 0) {
        failed = set_signals(&attributes);
        if (failed == 0)
            failed = posix_spawn_file_actions_adddup2(&actions, fd, CHANNEL_FD);
        if (failed == 0)
            failed = posix_spawn_file_actions_addclosefrom_np(&actions, CHANNEL_FD + 1);
        if (failed == 0)
            failed = posix_spawn(process, program, &actions, &attributes, argv, environment);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return failed;
}

/* Its end of the pair is moved out of the way of the place that it gets there. */
static int make_pair(int ends[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return -errno;
    int moved = fcntl(ends[1], F_DUPFD_CLOEXEC, CHANNEL_FD + 1);
    int error = moved < 0 ? -errno : 0;
    close(ends[1]);
    ends[1] = moved;
    if (error != 0)
        close(ends[0]);
    return error;
}

static int start(struct handover **out, const char *program, char *const argv[])
{
    int ends[2];
    int error = make_pair(ends);
    if (error != 0)
        return error;
    char variable[sizeof(VARIABLE) + 2];
    char **environment = make_environment(variable);
    pid_t process = 0;
    *out = make(ends[0], 0);
    error = environment == NULL || *out == NULL
                ? -ENOMEM
                : -spawn(&process, program, argv, environment, ends[1]);
    free(environment);
    close(ends[1]);
    if (error == 0) {
        (*out)->process = process;
        return 0;
    }
    close(ends[0]);
    free(*out);
    *out = NULL;
    return error;
}

int handover_start(struct handover **out, const char *program, char *const argv[], char *error)
{
    int failed = start(out, program, argv);
    if (failed != 0)
        snprintf(error, HANDOVER_ERROR_BYTES, "cannot start %.300s: %s", program,
                 strerror(-failed));
    return failed;
}

const char *handover_program(const char *called, char *found)
{
    static const char gone[] = " (deleted)";
    if (strchr(called, '/') != NULL)
        return called;
    ssize_t size = readlink("/proc/self/exe", found, PATH_MAX - 1);
    found[size > 0 ? size : 0] = '\0';
    char *end = strstr(found, gone);
    if (end != NULL && end[sizeof(gone) - 1] == '\0')
        *end = '\0';
    return found;
}

int64_t handover_process(const struct handover *handover)
{
    return handover->process;
}

bool handover_is_wanted(void)
{
    sigset_t pending;
    return sigpending(&pending) == 0 && sigismember(&pending, SIGUSR2) == 1;
}

void handover_pass_signals(const struct handover *handover)
{
    static const int numbers[] = {SIGHUP, SIGUSR1, SIGTERM, SIGINT};
    sigset_t pending;
    if (sigpending(&pending) != 0)
        return;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (sigismember(&pending, numbers[i]) == 1)
            (void)kill(handover->process, numbers[i]);
}

/* It may be ending by itself, and says why on its way. */
static void wait_for_end(pid_t process)
{
    const uint64_t until_ms = env_monotonic_ms(env_system()) + END_WAIT_MS;
    while (waitpid(process, NULL, WNOHANG) == 0) {
        if (env_monotonic_ms(env_system()) >= until_ms)
            kill(process, SIGKILL);
        usleep(END_NAP_US);
    }
}

void handover_cancel(struct handover *handover)
{
    if (handover == NULL)
        return;
    close(handover->fd);
    if (handover->process != 0)
        wait_for_end(handover->process);
    free(handover);
}

/* --- being the other one ---------------------------------------------------------------------- */

int handover_take(struct handover **out)
{
    const char *value = getenv(VARIABLE);
    int type = 0;
    socklen_t size = sizeof(type);
    if (value == NULL)
        return -ENOENT;
    unsetenv(VARIABLE);
    if (getsockopt(CHANNEL_FD, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET)
        return -ENOENT; /* somebody has set the variable by himself */
    if (fcntl(CHANNEL_FD, F_SETFD, FD_CLOEXEC) != 0)
        return -errno;
    *out = make(CHANNEL_FD, 0);
    return *out != NULL ? 0 : -ENOMEM;
}

void handover_close(struct handover *handover)
{
    if (handover == NULL)
        return;
    close(handover->fd);
    free(handover);
}

/* --- words ------------------------------------------------------------------------------------ */

/* Until `events` are there, or the other side has ended. */
static int wait_until(const struct handover *handover, short events, uint64_t until_ms)
{
    for (;;) {
        const uint64_t now_ms = env_monotonic_ms(env_system());
        struct pollfd poll_fd = {.fd = handover->fd, .events = events};
        int left_ms = now_ms >= until_ms ? 0 : (int)(until_ms - now_ms);
        int count = poll(&poll_fd, 1, left_ms);
        if (count > 0)
            return 0;
        if (count == 0 && left_ms == 0)
            return -ETIMEDOUT;
        if (count < 0 && errno != EINTR)
            return -errno;
    }
}

/* In front of the body. */
struct envelope {
    uint32_t size;
    uint16_t fd_count;
    uint8_t word;
    uint8_t reserved;
};

union control {
    struct cmsghdr header; /* for its alignment */
    uint8_t bytes[CMSG_SPACE(HANDOVER_DESCRIPTORS_MAX * sizeof(int))];
};

static void put_descriptors(struct msghdr *header, union control *control,
                            const struct handover_message *message)
{
    size_t bytes = message->fd_count * sizeof(int);
    if (bytes == 0)
        return;
    memset(control, 0, sizeof(*control));
    header->msg_control = control;
    header->msg_controllen = CMSG_SPACE(bytes);
    struct cmsghdr *rights = CMSG_FIRSTHDR(header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(rights), message->fds, bytes);
}

int handover_say(struct handover *handover, const struct handover_message *message,
                 uint64_t until_ms)
{
    CHECK(message->word > 0 && message->word < HANDOVER_WORDS);
    CHECK(message->size <= HANDOVER_BODY_BYTES_MAX &&
          message->fd_count <= HANDOVER_DESCRIPTORS_MAX);
    struct envelope envelope = {message->size, message->fd_count, message->word, 0};
    struct iovec parts[] = {{&envelope, sizeof(envelope)},
                            {(void *)(uintptr_t)message->body, message->size}};
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = 2};
    union control control;
    put_descriptors(&header, &control, message);
    for (;;) {
        ssize_t sent = sendmsg(handover->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0)
            return 0;
        /* ETOOMANYREFS: as many descriptors are on their way as may be; some will arrive. */
        bool full = errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS;
        if (!full && errno != EINTR)
            return errno == ECONNRESET ? -EPIPE : -errno;
        int error = full ? wait_until(handover, POLLOUT, until_ms) : 0;
        if (error != 0)
            return error;
        if (full)
            usleep(END_NAP_US / 4);
    }
}

static void close_all(struct handover_message *message)
{
    for (unsigned i = 0; i < message->fd_count; i++)
        close(message->fds[i]);
    message->fd_count = 0;
}

/* All that came, and nothing of it is left open if it is not given to the caller. */
static void take_descriptors(struct handover_message *message, struct msghdr *header)
{
    message->fd_count = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part != NULL;
         part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(message->fds + message->fd_count, CMSG_DATA(part), count * sizeof(int));
        message->fd_count = (uint16_t)(message->fd_count + count);
    }
}

/* Nobody keeps what comes with another word. */
static bool may_have_descriptors(uint8_t word)
{
    return word == HANDOVER_DESCRIPTORS || word == HANDOVER_STATE;
}

/* One message, whichever it is. */
static int receive(struct handover *handover, struct handover_message *message, uint64_t until_ms)
{
    struct envelope envelope = {0};
    struct iovec parts[] = {{&envelope, sizeof(envelope)}, {message->body, sizeof(message->body)}};
    union control control;
    ssize_t received;
    struct msghdr header;
    do {
        int error = wait_until(handover, POLLIN, until_ms);
        if (error != 0)
            return error;
        header = (struct msghdr){.msg_iov = parts,
                                 .msg_iovlen = 2,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof(control)};
        received = recvmsg(handover->fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        /* ECONNRESET: it has ended without reading what we said, and is told once, before what it
         * said itself. */
    } while (received < 0 && (errno == EINTR || errno == EAGAIN || errno == ECONNRESET));
    if (received <= 0)
        return received == 0 ? -EPIPE : -errno;
    take_descriptors(message, &header);
    message->word = envelope.word;
    message->size = envelope.size;
    bool whole = (size_t)received >= sizeof(envelope) && envelope.size <= sizeof(message->body) &&
                 (size_t)received == sizeof(envelope) + envelope.size &&
                 envelope.fd_count == message->fd_count &&
                 (envelope.fd_count == 0 || may_have_descriptors(envelope.word)) &&
                 (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
    if (!whole)
        close_all(message);
    return whole ? 0 : -EPROTO;
}

static void copy_line(char *error, const struct handover_message *message)
{
    size_t size =
        message->size < HANDOVER_ERROR_BYTES - 1 ? message->size : HANDOVER_ERROR_BYTES - 1;
    memcpy(error, message->body, size);
    error[size] = '\0';
    for (size_t i = 0; i < size; i++)
        if ((uint8_t)error[i] < ' ')
            error[i] = ' ';
}

static int fail(struct handover_message *message, int failed, char *error)
{
    if (failed == -ECANCELED)
        copy_line(error, message);
    else
        snprintf(error, HANDOVER_ERROR_BYTES, "%s",
                 failed == -EPIPE       ? "the other process has ended"
                 : failed == -ETIMEDOUT ? "the other process has said nothing in time"
                 : failed == -EPROTO    ? "the other process has said something that cannot be"
                                        : strerror(-failed));
    return failed;
}

int handover_hear_some(struct handover *handover, struct handover_message *message,
                       uint64_t until_ms, char *error)
{
    int failed = receive(handover, message, until_ms);
    if (failed == 0 && message->word != HANDOVER_REFUSED)
        return 0;
    if (failed == 0)
        close_all(message);
    return fail(message, failed == 0 ? -ECANCELED : failed, error);
}

int handover_hear(struct handover *handover, enum handover_word word,
                  struct handover_message *message, uint64_t until_ms, char *error)
{
    int failed = handover_hear_some(handover, message, until_ms, error);
    if (failed != 0 || message->word == word)
        return failed;
    close_all(message);
    return fail(message, -EPROTO, error);
}

/* Its end of the channel is closed somewhat before all the rest of it. */
int handover_await_end(struct handover *handover, uint64_t until_ms)
{
    while (getppid() == handover->parent) {
        if (env_monotonic_ms(env_system()) >= until_ms)
            return -ETIMEDOUT;
        usleep(END_NAP_US / 4);
    }
    return 0;
}

void handover_refuse(struct handover *handover, const char *why)
{
    struct handover_message message = {.word = HANDOVER_REFUSED};
    message.size = (uint32_t)strnlen(why, HANDOVER_ERROR_BYTES - 1);
    memcpy(message.body, why, message.size);
    (void)handover_say(handover, &message, env_monotonic_ms(env_system()));
}

/* --- bytes ------------------------------------------------------------------------------------ */

static const int SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

static int write_all(int fd, const uint8_t *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t written = write(fd, data + done, size - done);
        if (written < 0 && errno != EINTR)
            return -errno;
        done += written > 0 ? (size_t)written : 0;
    }
    return 0;
}

int handover_seal(const void *data, size_t size)
{
    int fd = memfd_create("usher-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    int error = write_all(fd, data, size);
    if (error == 0 && fcntl(fd, F_ADD_SEALS, SEALS) != 0)
        error = -errno;
    if (error != 0)
        close(fd);
    return error == 0 ? fd : error;
}

int handover_map(int fd, const uint8_t **data, size_t *size)
{
    struct stat file;
    static const uint8_t nothing[1];
    if (fcntl(fd, F_GET_SEALS) != SEALS || fstat(fd, &file) != 0)
        return -EPROTO;
    *size = (size_t)file.st_size;
    *data = nothing;
    if (*size == 0)
        return 0;
    void *memory = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    *data = memory;
    return 0;
}

void handover_unmap(const uint8_t *data, size_t size)
{
    if (size > 0)
        munmap((void *)(uintptr_t)data, size);
}
