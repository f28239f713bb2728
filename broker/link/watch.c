/* SPDX-License-Identifier: Apache-2.0 */
#include "link/private.h"

#include <errno.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/lock.h"

/* Four faults of nng that nothing reports, looked after by one thread that wakes each second: for
 * the listeners of the link and for that of the feed.
 *
 * A listener dies when a peer leaves in the middle of the handshake (link/gate.c keeps most of them
 * from it): it stays bound, the transport below it even completes later handshakes, and nothing
 * ever comes up. The only trace is its counter `other`, which every lost connection moves as well.
 * So it is a reason to knock, not a proof: connect, make the handshake, and see whether nng counts
 * a connection of this listener
 * (`accept`). That needs no free context, so a broker that is merely busy is not taken for a dead
 * one; a connection of anybody else at that moment proves the same. Our own knock moves the counter
 * when it leaves, and is excused for a few ticks; should an excuse hide a death after all, the
 * next lost connection shows it, or the knock that comes every half minute without any reason.
 * We do not close the dead listener, because that closes its living pipes. We go by nng's numbers
 * and not by its callbacks, which may still run when what they refer to is gone.
 *
 * nng counts its timers on the wall clock: set back by an hour they stand still for an hour, and
 * then an answer that its peer does not read would hold its exchange so long. So nothing here has a
 * timer of nng's: this thread, which waits by the monotonic clock, ends such answers at its second
 * look. It may meet one that has just been sent, and end the receive behind it, which is begun
 * again. Where nng has timers of its own (the canary's dialer) what waits for them is made anew.
 *
 * What a dead listener has accepted can turn nng's poller into a loop: link/orphans.c.
 *
 * The reaper is nng's single thread for dead pipes. Once it hangs, no loss is ever reported again.
 * The canary is a private pair of sockets whose connection we close now and then: the report has
 * to come within a tick, and the pair has to be connected again later. If it comes after all, the
 * alarm is taken back. */

/* Nobody is to come any more: what is found then is no fault. */
static bool is_ending(struct link *link)
{
    lock_take(&link->lock);
    bool ending = link->closing || link->hidden;
    lock_give(&link->lock);
    return ending;
}

void watch_judge(struct endpoint *endpoint, uint64_t troubles)
{
    uint64_t rise = troubles - endpoint->troubles;
    uint64_t excused = rise < endpoint->excuses ? rise : endpoint->excuses;
    endpoint->troubles = troubles;
    endpoint->excuses -= (unsigned)excused;
    endpoint->suspect = endpoint->suspect || rise > excused;
    if (endpoint->excused_ticks > 0 && --endpoint->excused_ticks == 0)
        endpoint->excuses = 0;
}

/* False: the link closes. */
static bool rest(struct link *link, uint64_t until_ms)
{
    lock_take(&link->lock);
    while (!link->closing && link_wait(link, until_ms)) {
    }
    bool closing = link->closing;
    lock_give(&link->lock);
    return !closing;
}

enum finding { ALIVE, DEAD, UNKNOWN };

/* Leaving before the listener has said its part is just what kills it. Whoever does not say it in
 * time is replaced, so it does not matter that we leave then. */
static bool greeted_by(int fd, uint64_t until_ms)
{
    uint64_t now_ms = env_monotonic_ms(env_system());
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return poll(&wait, 1, now_ms < until_ms ? (int)(until_ms - now_ms) : 0) == 1 &&
           (wait.revents & POLLIN) != 0;
}

/* We speak first, as everybody has to (link/gate.c). */
static enum finding listen_to(struct link *link, const struct endpoint *endpoint, int fd)
{
    uint64_t before = endpoint_number(endpoint, "accept");
    uint64_t now_ms = env_monotonic_ms(env_system());
    uint64_t until_ms = now_ms + LINK_PROBE_MS;
    if (!endpoint_greet(endpoint, fd))
        return DEAD;
    if (!greeted_by(fd, until_ms))
        return is_ending(link) ? UNKNOWN : DEAD;
    while ((now_ms = env_monotonic_ms(env_system())) < until_ms) {
        if (endpoint_number(endpoint, "accept") > before)
            return ALIVE;
        if (!rest(link, now_ms + LINK_PAUSE_MS))
            return UNKNOWN;
    }
    return DEAD;
}

/* Before the handshake: nng makes a connection of it behind that. */
static void confess(struct link *link, int fd)
{
    nng_sockaddr from = endpoint_address(fd);
    lock_take(&link->lock);
    link->knock = from;
    lock_give(&link->lock);
}

static enum finding knock(struct link *link, const struct endpoint *endpoint)
{
    int fd = endpoint_knock(endpoint);
    if (fd == -ECONNREFUSED || fd == -ENOENT || fd == -EAGAIN)
        return is_ending(link) ? UNKNOWN : DEAD;
    if (fd < 0)
        return UNKNOWN; /* our own trouble, such as no free descriptor: look again */
    confess(link, fd);
    enum finding finding = listen_to(link, endpoint, fd);
    close(fd);
    return finding;
}

static bool listen_again(struct link *link, struct endpoint *endpoint)
{
    CHECK(on_thread(&link->watchdog));
    char error[LINK_ERROR_BYTES];
    if (endpoint_listen(endpoint, error) != 0)
        return false;
    endpoint->troubles = 0;
    endpoint->excuses = 0;
    endpoint->suspect = endpoint->taken = false;
    metrics_add(link->metrics, 0, METRIC_link_listener_repairs, 1);
    LOG(link->log, LINK_LISTENER_REPAIRED, LOG_S("url", endpoint->url));
    return true;
}

static void move_on(struct link *link, struct endpoint *dead)
{
    for (size_t i = 0; i < link->endpoint_count && dead->socket.id == link->socket.id; i++) {
        struct endpoint *spare = &link->endpoints[i];
        if (spare->path == NULL && atomic_load(&spare->state) == ENDPOINT_SPARE &&
            listen_again(link, spare)) {
            atomic_store(&dead->state, ENDPOINT_SPENT);
            return;
        }
    }
}

/* Tried again each tick until it works. Where the dead one is bound another is opened; a spare
 * takes over only if that cannot be. The feed has no spares. */
static void repair(struct link *link, struct endpoint *dead)
{
    CHECK(on_thread(&link->watchdog) && atomic_load(&dead->state) == ENDPOINT_DEAD);
    if (dead->path != NULL)
        endpoint_unlink(dead);
    dead->taken = gate_take_place(&dead->place) || dead->taken;
    if ((dead->path != NULL || dead->taken) && listen_again(link, dead))
        return;
    if (dead->path == NULL)
        move_on(link, dead);
}

static void examine(struct link *link, struct endpoint *endpoint)
{
    CHECK(on_thread(&link->watchdog) && atomic_load(&endpoint->state) == ENDPOINT_SERVING);
    enum finding finding = knock(link, endpoint);
    endpoint->suspect = finding == UNKNOWN;
    if (finding == ALIVE) {
        endpoint->excuses++;
        endpoint->excused_ticks = LINK_EXCUSE_TICKS;
    } else if (finding == DEAD) {
        atomic_store(&endpoint->state, ENDPOINT_DEAD);
        metrics_add(link->metrics, 0, METRIC_link_listener_deaths, 1);
        LOG(link->log, LINK_LISTENER_DEAD, LOG_S("url", endpoint->url));
    }
}

static void check_listeners(struct link *link)
{
    bool routine = link->ticks % link->knock_ticks == 0;
    for (size_t i = 0; i < link->watched_count && !is_ending(link); i++) {
        struct endpoint *endpoint = link->watched[i];
        if (atomic_load(&endpoint->state) == ENDPOINT_SERVING) {
            watch_judge(endpoint, endpoint_number(endpoint, "other"));
            if (endpoint->suspect || routine)
                examine(link, endpoint);
        }
        if (atomic_load(&endpoint->state) == ENDPOINT_DEAD)
            repair(link, endpoint);
    }
}

static void check_orphans(struct link *link)
{
    CHECK(on_thread(&link->watchdog));
    unsigned swept = orphans_sweep(&link->orphans);
    if (swept == 0)
        return;
    metrics_add(link->metrics, 0, METRIC_link_orphans, swept);
    LOG(link->log, LINK_ORPHANS, LOG_U("connections", swept));
}

static void end_unread_answers(struct link *link)
{
    for (uint32_t i = 0; i < link->exchange_count; i++) {
        struct exchange *exchange = &link->exchanges[i];
        lock_take(&link->lock);
        bool unread = exchange->state == EXCHANGE_SENDING && ++exchange->ticks >= LINK_SEND_TICKS;
        lock_give(&link->lock);
        if (unread)
            nng_aio_abort(exchange->aio, NNG_ETIMEDOUT);
    }
}

static void on_canary_added(nng_pipe pipe, nng_pipe_ev event, void *argument)
{
    struct link *link = argument;
    lock_take(&link->lock);
    link->canary.pipe = pipe;
    lock_give(&link->lock);
}

static void on_canary_removed(nng_pipe pipe, nng_pipe_ev event, void *argument)
{
    struct link *link = argument;
    lock_take(&link->lock);
    if (link->canary.closing == pipe.id)
        link->canary.closing = 0;
    if (link->canary.pipe.id == pipe.id)
        link->canary.pipe.id = 0;
    lock_give(&link->lock);
}

static void canary_url(const struct link *link, char *url, size_t size)
{
    snprintf(url, size, "inproc://usher-canary-%p", (const void *)link);
}

static int open_canary(struct link *link)
{
    struct canary *canary = &link->canary;
    char url[64];
    canary_url(link, url, sizeof(url));
    int failed = nng_pub0_open(&canary->publisher);
    if (failed != 0)
        return link_errno(failed);
    failed = nng_sub0_open(&canary->subscriber);
    if (failed != 0) {
        bounded_close(canary->publisher);
        return link_errno(failed);
    }
    canary->open = true;
    nng_pipe_notify(canary->publisher, NNG_PIPE_EV_ADD_POST, on_canary_added, link);
    nng_pipe_notify(canary->publisher, NNG_PIPE_EV_REM_POST, on_canary_removed, link);
    failed = nng_listen(canary->publisher, url, NULL, 0);
    if (failed == 0)
        failed = nng_dial(canary->subscriber, url, &canary->dialer, 0);
    return link_errno(failed);
}

/* A dialer that waits for the wall clock is replaced: a new one dials at once. */
static void dial_again(void *argument)
{
    struct link *link = argument;
    char url[64];
    canary_url(link, url, sizeof(url));
    nng_dialer_close(link->canary.dialer);
    nng_dial(link->canary.subscriber, url, &link->canary.dialer, NNG_FLAG_NONBLOCK);
}

static void check_reaper(struct link *link)
{
    CHECK(on_thread(&link->watchdog));
    struct canary *canary = &link->canary;
    bool close_it = link->ticks % LINK_CANARY_TICKS == 0;
    lock_take(&link->lock);
    nng_pipe pipe = canary->pipe;
    bool unreported = canary->closing != 0;
    close_it = close_it && !unreported;
    if (close_it)
        canary->missing = pipe.id == 0 ? canary->missing + 1 : 0;
    bool stuck = unreported || canary->missing > 1;
    bool redial = close_it && canary->missing == 1;
    bool alarm = stuck && !link->reaper_stuck;
    link->reaper_stuck = stuck;
    close_it = close_it && pipe.id != 0;
    if (close_it)
        canary->closing = pipe.id;
    lock_give(&link->lock);
    if (alarm)
        LOG(link->log, NNG_REAPER_STUCK);
    if (close_it)
        nng_pipe_close(pipe);
    if (redial)
        (void)bounded_run(dial_again, link);
}

static void *watch(void *argument)
{
    struct link *link = argument;
    thread_begin(&link->watchdog);
    while (rest(link, env_monotonic_ms(env_system()) + LINK_TICK_MS)) {
        link->ticks++;
        end_unread_answers(link);
        check_listeners(link);
        check_orphans(link);
        check_reaper(link);
    }
    thread_end(&link->watchdog);
    return NULL;
}

int watch_start(struct link *link)
{
    CHECK(!link->watching);
    int code = open_canary(link);
    if (code != 0)
        return code;
    (void)orphans_open(&link->orphans); /* without it nng's fault is merely not mended */
    code = -pthread_create(&link->watch_thread, NULL, watch, link);
    link->watching = code == 0;
    return code;
}

void watch_stop(struct link *link)
{
    if (link->watching)
        pthread_join(link->watch_thread, NULL);
    if (link->watching)
        orphans_close(&link->orphans);
    link->watching = false;
}
