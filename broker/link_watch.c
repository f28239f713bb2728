/* SPDX-License-Identifier: Apache-2.0 */
#include "link_private.h"

#include <errno.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Two faults of nng that nothing reports, looked after by one thread that wakes each second.
 *
 * A listener dies when a peer leaves in the middle of the handshake: it stays bound, the transport
 * below it even completes later handshakes, and nothing ever comes up. The only trace is its
 * counter `other`, which every lost connection moves as well. So it is a reason to knock, not a
 * proof: connect, send the handshake, and see whether nng gives the socket a new pipe of this
 * listener. That needs no free context, so a broker that is merely busy is not taken for a dead
 * one; a pipe of anybody else at that moment proves the same. Our own knock moves the counter
 * when it leaves, and is excused for a few ticks; should an excuse hide a death after all, the
 * next lost connection shows it, or the knock that comes every half minute without any reason.
 * We do not close the dead listener, because that closes its living pipes.
 *
 * The reaper is nng's single thread for dead pipes. Once it hangs, no loss is ever reported again.
 * The canary is a private pair of sockets whose connection we close now and then: the report has
 * to come within a tick, and the pair has to be connected again later. If it comes after all, the
 * alarm is taken back. */

static bool is_closing(struct link *link)
{
    pthread_mutex_lock(&link->lock);
    bool closing = link->closing;
    pthread_mutex_unlock(&link->lock);
    return closing;
}

static uint64_t child_value(nng_stat *stat, const char *name)
{
    for (nng_stat *child = nng_stat_child(stat); child != NULL; child = nng_stat_next(child))
        if (strcmp(nng_stat_name(child), name) == 0)
            return nng_stat_value(child);
    return 0;
}

static void judge(struct endpoint *endpoint, uint64_t troubles)
{
    uint64_t rise = troubles - endpoint->troubles;
    uint64_t excused = rise < endpoint->excuses ? rise : endpoint->excuses;
    endpoint->troubles = troubles;
    endpoint->excuses -= (unsigned)excused;
    endpoint->suspect = endpoint->suspect || rise > excused;
    if (endpoint->excused_ticks > 0 && --endpoint->excused_ticks == 0)
        endpoint->excuses = 0;
}

/* Listeners stand in the tree beside the sockets, under ids of their own. Only this thread
 * changes endpoint->listener once the link is open, so it may read it without the lock. */
static void look_for_trouble(struct link *link)
{
    nng_stat *root;
    if (nng_stats_get(&root) != 0)
        return;
    for (nng_stat *stat = nng_stat_child(root); stat != NULL; stat = nng_stat_next(stat)) {
        if (strcmp(nng_stat_name(stat), "listener") != 0)
            continue;
        for (size_t i = 0; i < link->endpoint_count; i++) {
            struct endpoint *endpoint = &link->endpoints[i];
            if (endpoint->state != ENDPOINT_SERVING ||
                child_value(stat, "id") != (uint64_t)nng_listener_id(endpoint->listener))
                continue;
            judge(endpoint, child_value(stat, "other"));
        }
    }
    nng_stats_free(root);
}

enum finding {
    ALIVE,
    DEAD,
    UNKNOWN
};

/* Leaving before the listener has said its part is just what kills it. Whoever does not say it in
 * time is replaced, so it does not matter that we leave then. */
static bool greeted_by(int fd, uint64_t until_ms)
{
    uint64_t now_ms = env_monotonic_ms(env_system());
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return poll(&wait, 1, now_ms < until_ms ? (int)(until_ms - now_ms) : 0) == 1 &&
           (wait.revents & POLLIN) != 0;
}

static enum finding knock(struct link *link, struct endpoint *endpoint)
{
    pthread_mutex_lock(&link->lock);
    uint64_t before = endpoint->arrivals;
    pthread_mutex_unlock(&link->lock);
    int fd = endpoint_knock(endpoint, endpoint->listener);
    if (fd == -ECONNREFUSED || fd == -ENOENT || fd == -EAGAIN)
        return DEAD;
    if (fd < 0)
        return UNKNOWN; /* our own trouble, such as no free descriptor: look again */
    uint64_t until_ms = env_monotonic_ms(env_system()) + LINK_PROBE_MS;
    pthread_mutex_lock(&link->lock);
    while (endpoint->arrivals == before && !link->closing && link_wait(link, until_ms)) {
    }
    bool arrived = endpoint->arrivals != before;
    bool closing = link->closing;
    pthread_mutex_unlock(&link->lock);
    bool greeted = !closing && greeted_by(fd, until_ms);
    close(fd);
    if (closing)
        return UNKNOWN;
    return arrived && greeted ? ALIVE : DEAD;
}

static void set_state(struct link *link, struct endpoint *endpoint, enum endpoint_state state)
{
    pthread_mutex_lock(&link->lock);
    endpoint->state = state;
    pthread_mutex_unlock(&link->lock);
}

static bool listen_again(struct link *link, struct endpoint *endpoint)
{
    char error[LINK_ERROR_BYTES];
    if (link_listen(link, endpoint, error) != 0)
        return false;
    endpoint->troubles = 0;
    endpoint->excuses = 0;
    endpoint->suspect = false;
    metrics_add(link->metrics, 0, METRIC_link_listener_repairs, 1);
    LOG(link->log, LINK_LISTENER_REPAIRED, LOG_S("url", endpoint->url));
    return true;
}

/* Tried again each tick until it works. */
static void repair(struct link *link, struct endpoint *dead)
{
    if (dead->path != NULL) {
        endpoint_unlink(dead);
        listen_again(link, dead);
        return;
    }
    for (size_t i = 0; i < link->endpoint_count; i++) {
        struct endpoint *spare = &link->endpoints[i];
        if (spare->path == NULL && spare->state == ENDPOINT_SPARE && listen_again(link, spare)) {
            set_state(link, dead, ENDPOINT_SPENT);
            return;
        }
    }
}

static void examine(struct link *link, struct endpoint *endpoint)
{
    enum finding finding = knock(link, endpoint);
    endpoint->suspect = finding == UNKNOWN;
    if (finding == ALIVE) {
        endpoint->excuses++;
        endpoint->excused_ticks = LINK_EXCUSE_TICKS;
    } else if (finding == DEAD) {
        set_state(link, endpoint, ENDPOINT_DEAD);
        metrics_add(link->metrics, 0, METRIC_link_listener_deaths, 1);
        LOG(link->log, LINK_LISTENER_DEAD, LOG_S("url", endpoint->url));
    }
}

static void check_listeners(struct link *link)
{
    bool routine = link->ticks % LINK_KNOCK_TICKS == 0;
    look_for_trouble(link);
    for (size_t i = 0; i < link->endpoint_count && !is_closing(link); i++) {
        struct endpoint *endpoint = &link->endpoints[i];
        if (endpoint->state == ENDPOINT_SERVING && (endpoint->suspect || routine))
            examine(link, endpoint);
        if (endpoint->state == ENDPOINT_DEAD)
            repair(link, endpoint);
    }
}

static void on_canary_added(nng_pipe pipe, nng_pipe_ev event, void *argument)
{
    struct link *link = argument;
    pthread_mutex_lock(&link->lock);
    link->canary.pipe = pipe;
    pthread_mutex_unlock(&link->lock);
}

static void on_canary_removed(nng_pipe pipe, nng_pipe_ev event, void *argument)
{
    struct link *link = argument;
    pthread_mutex_lock(&link->lock);
    if (link->canary.closing == pipe.id)
        link->canary.closing = 0;
    if (link->canary.pipe.id == pipe.id)
        link->canary.pipe.id = 0;
    pthread_mutex_unlock(&link->lock);
}

static int open_canary(struct link *link)
{
    struct canary *canary = &link->canary;
    char url[64];
    snprintf(url, sizeof(url), "inproc://usher-canary-%p", (void *)link);
    int failed = nng_pub0_open(&canary->publisher);
    if (failed != 0)
        return errno_of_nng(failed);
    failed = nng_sub0_open(&canary->subscriber);
    if (failed != 0) {
        close_bounded(canary->publisher);
        return errno_of_nng(failed);
    }
    canary->open = true;
    nng_pipe_notify(canary->publisher, NNG_PIPE_EV_ADD_POST, on_canary_added, link);
    nng_pipe_notify(canary->publisher, NNG_PIPE_EV_REM_POST, on_canary_removed, link);
    failed = nng_listen(canary->publisher, url, NULL, 0);
    if (failed == 0)
        failed = nng_dial(canary->subscriber, url, NULL, 0);
    return errno_of_nng(failed);
}

static void check_reaper(struct link *link)
{
    struct canary *canary = &link->canary;
    bool close_it = link->ticks % LINK_CANARY_TICKS == 0;
    pthread_mutex_lock(&link->lock);
    nng_pipe pipe = canary->pipe;
    bool unreported = canary->closing != 0;
    close_it = close_it && !unreported;
    if (close_it)
        canary->missing = pipe.id == 0 ? canary->missing + 1 : 0;
    bool stuck = unreported || canary->missing > 1;
    bool alarm = stuck && !link->reaper_stuck;
    link->reaper_stuck = stuck;
    close_it = close_it && pipe.id != 0;
    if (close_it)
        canary->closing = pipe.id;
    pthread_mutex_unlock(&link->lock);
    if (alarm)
        LOG(link->log, NNG_REAPER_STUCK);
    if (close_it)
        nng_pipe_close(pipe);
}

/* False: the link closes. */
static bool sleep_a_tick(struct link *link)
{
    uint64_t until_ms = env_monotonic_ms(env_system()) + LINK_TICK_MS;
    pthread_mutex_lock(&link->lock);
    while (!link->closing && link_wait(link, until_ms)) {
    }
    bool closing = link->closing;
    pthread_mutex_unlock(&link->lock);
    return !closing;
}

static void *watch(void *argument)
{
    struct link *link = argument;
    while (sleep_a_tick(link)) {
        link->ticks++;
        check_listeners(link);
        check_reaper(link);
    }
    return NULL;
}

int watch_start(struct link *link)
{
    int code = open_canary(link);
    if (code != 0)
        return code;
    code = -pthread_create(&link->watch_thread, NULL, watch, link);
    link->watching = code == 0;
    return code;
}

void watch_stop(struct link *link)
{
    if (link->watching)
        pthread_join(link->watch_thread, NULL);
    link->watching = false;
}
