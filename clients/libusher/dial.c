/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/dial.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"

/* An address that does not answer must not keep the others from being tried: a network without
 * working IPv6, or one dead host of two, swallows what is sent there without a word. So an attempt
 * that has not come to its end in DIAL_PACE_MS stays under way and the next one begins beside it;
 * an attempt that fails begins the next one at once. The first that stands wins and the others are
 * closed.
 *
 * Who began earlier and lost is remembered like one that failed, so that the next time begins with
 * the one that won. Nothing is forgotten by that: what failed comes last, not never.
 *
 * When all others have failed, those that have failed before get DIAL_DOUBT_MS and not the whole
 * patience: while a broker restarts, its own address refuses and the dead one swallows, and to wait
 * for that one would be to come back late.
 *
 * The owner's program waits for one descriptor, and there may be several sockets: an epoll set
 * stands for all of them. */

void dial_init(struct dial *dial)
{
    *dial = (struct dial){.epoll = -1};
}

/* The pace is such that each address gets its chance within the patience. */
static void begin_race(struct dial *dial, uint64_t now_ms, uint64_t end_ms)
{
    uint64_t share_ms = (end_ms - now_ms) / (dial->count + 1);
    dial->chosen = dial->count;
    dial->error = -EHOSTUNREACH;
    dial->pace_ms = share_ms < DIAL_PACE_MS ? share_ms : DIAL_PACE_MS;
    dial->next_ms = now_ms;
    dial->end_ms = end_ms;
}

void dial_begin(struct dial *dial, const struct addresses *found, struct address_memory *memory,
                uint64_t now_ms, uint64_t end_ms)
{
    dial_close(dial);
    dial->memory = memory;
    dial->count = found->count < DIAL_ADDRESSES_MAX ? found->count : DIAL_ADDRESSES_MAX;
    for (size_t i = 0; i < dial->count; i++)
        dial->attempts[i] =
            (struct dial_attempt){.address = found->list[i],
                                  .fd = -1,
                                  .doubtful = address_has_failed(memory, &found->list[i])};
    begin_race(dial, now_ms, end_ms);
}

static void close_attempt(struct dial_attempt *attempt)
{
    if (attempt->fd >= 0)
        close(attempt->fd);
    attempt->fd = -1;
}

static void fail(struct dial *dial, struct dial_attempt *attempt, int error)
{
    close_attempt(attempt);
    attempt->failed = true;
    dial->error = error;
    address_failed(dial->memory, &attempt->address);
}

/* 0, or why it cannot even begin. */
static int begin_attempt(struct dial *dial, size_t place)
{
    struct dial_attempt *attempt = &dial->attempts[place];
    const struct address *address = &attempt->address;
    struct epoll_event event = {.events = EPOLLOUT, .data.u64 = place};
    int on = 1; /* only speed depends on it, so a refusal does not matter */
    if (dial->epoll < 0)
        dial->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (dial->epoll < 0)
        return -errno;
    attempt->fd = socket(address->at.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (attempt->fd < 0)
        return -errno;
    (void)setsockopt(attempt->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(attempt->fd, &address->at.any, address_size(address)) != 0 &&
        errno != EINPROGRESS && errno != EINTR)
        return -errno;
    return epoll_ctl(dial->epoll, EPOLL_CTL_ADD, attempt->fd, &event) == 0 ? 0 : -errno;
}

/* The next one that has not begun, or `count`. */
static size_t next_attempt(const struct dial *dial)
{
    size_t place = 0;
    while (place < dial->count && (dial->attempts[place].failed || dial->attempts[place].fd >= 0))
        place++;
    return place;
}

static size_t under_way(const struct dial *dial)
{
    size_t count = 0;
    for (size_t i = 0; i < dial->count; i++)
        count += dial->attempts[i].fd >= 0;
    return count;
}

/* Begins those that are due: at once when none is under way. */
static void begin_due(struct dial *dial, uint64_t now_ms)
{
    size_t place;
    while ((place = next_attempt(dial)) < dial->count &&
           (now_ms >= dial->next_ms || under_way(dial) == 0)) {
        int error = begin_attempt(dial, place);
        if (error != 0)
            fail(dial, &dial->attempts[place], error);
        else
            dial->next_ms = now_ms + dial->pace_ms;
        dial->begun_ms = now_ms;
    }
}

/* Some have failed, and what is under way has failed before. */
static bool only_doubt_is_left(const struct dial *dial)
{
    bool failed = false;
    for (size_t i = 0; i < dial->count; i++) {
        const struct dial_attempt *attempt = &dial->attempts[i];
        failed = failed || attempt->failed;
        if (!attempt->failed && (attempt->fd < 0 || !attempt->doubtful))
            return false;
    }
    return failed;
}

static void close_race(struct dial *dial)
{
    for (size_t i = 0; i < dial->count; i++)
        close_attempt(&dial->attempts[i]);
    if (dial->epoll >= 0)
        close(dial->epoll);
    dial->epoll = -1;
}

/* It stands. Who began before it and has not come yet is as good as dead. */
static int choose(struct dial *dial, size_t place)
{
    CHECK(place < dial->count && dial->attempts[place].fd >= 0);
    int fd = dial->attempts[place].fd;
    dial->attempts[place].fd = -1;
    dial->chosen = place;
    for (size_t i = 0; i < place; i++)
        if (!dial->attempts[i].failed)
            address_failed(dial->memory, &dial->attempts[i].address);
    close_race(dial);
    return fd;
}

/* 1 when one stands. Those that failed are noted, and the next one is due at once. */
static int look(struct dial *dial, uint64_t now_ms, int *fd)
{
    struct epoll_event events[DIAL_ADDRESSES_MAX];
    int count = dial->epoll >= 0 ? epoll_wait(dial->epoll, events, DIAL_ADDRESSES_MAX, 0) : 0;
    for (int i = 0; i < count; i++) {
        size_t place = (size_t)events[i].data.u64;
        struct dial_attempt *attempt = &dial->attempts[place];
        int error = 0;
        socklen_t size = sizeof(error);
        if (getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
            error = errno;
        if (error == 0) {
            *fd = choose(dial, place);
            return 1;
        }
        fail(dial, attempt, -error);
        dial->next_ms = now_ms;
    }
    return 0;
}

static int give_up(struct dial *dial, int error)
{
    for (size_t i = 0; i < dial->count; i++)
        if (dial->attempts[i].fd >= 0)
            fail(dial, &dial->attempts[i], error);
    close_race(dial);
    return error;
}

int dial_step(struct dial *dial, uint64_t now_ms, int *fd)
{
    if (look(dial, now_ms, fd) == 1)
        return 1;
    if (now_ms >= dial->end_ms)
        return give_up(dial, -ETIMEDOUT);
    begin_due(dial, now_ms);
    if (only_doubt_is_left(dial) && now_ms >= dial->begun_ms + DIAL_DOUBT_MS)
        return give_up(dial, dial->error);
    if (under_way(dial) > 0)
        return 0;
    close_race(dial);
    return dial->error;
}

uint64_t dial_due_ms(const struct dial *dial)
{
    uint64_t due_ms = dial->end_ms;
    if (next_attempt(dial) < dial->count)
        due_ms = dial->next_ms;
    else if (only_doubt_is_left(dial))
        due_ms = dial->begun_ms + DIAL_DOUBT_MS;
    return due_ms < dial->end_ms ? due_ms : dial->end_ms;
}

bool dial_again(struct dial *dial, uint64_t now_ms, uint64_t end_ms)
{
    if (dial->chosen == dial->count)
        return false;
    fail(dial, &dial->attempts[dial->chosen], dial->error);
    begin_race(dial, now_ms, end_ms);
    return next_attempt(dial) < dial->count;
}

void dial_good(struct dial *dial)
{
    if (dial->chosen < dial->count)
        address_works(dial->memory, &dial->attempts[dial->chosen].address);
}

void dial_close(struct dial *dial)
{
    close_race(dial);
    dial_init(dial);
}
