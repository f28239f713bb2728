/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/wait.h"

/* Each queue and buffer of the broker has a limit of its own, but the sum of all limits is more
 * than any machine has. So what is held is summed as well: messages (which are what mailboxes,
 * inboxes, calls and unread frames are made of), waiting output, carried input, requests in flight,
 * answers that wait for a resume or for a repetition. Not in it are what has a bound of its own by
 * number: sessions, connections, the store's map.
 *
 * The books. A message is made on one thread and dropped on another, some millions of times in a
 * second, so each thread keeps a difference of its own and adds it to the sum when it has become
 * STEP_BYTES, and one for each part, which goes with it or when it has become as much by itself.
 * The level follows the sum, and falls only when it is 1/16 of the budget below the mark at which
 * it rose, so that it does not flicker.
 *
 * The reserve. When malloc has nothing more, the level has mostly been MEMORY_FULL for long and
 * little is asked for; what still must be had (an answer, an event) is small. The reserve is
 * given back to the heap for it, and taken again as soon as the level is ample. */

enum { STEP_BYTES = 64 * 1024, RESERVE_BYTES = 1024 * 1024, PAUSE_MS = 1, TRIES = 3000 };

/* The process has one heap, and those who free a message know of nothing else. */
static struct {
    const struct limits *limits; /* NULL: there is no budget; set once, as the next two */
    struct log *log;
    struct metrics *metrics;
    _Atomic int64_t held_bytes;
    _Atomic int level;
    _Atomic(void *) reserve;
} memory;

static const enum metric_id gauges[MEMORY_PARTS] = {
    [MEMORY_OF_MESSAGES] = METRIC_memory_messages_bytes,
    [MEMORY_OF_FRAMES] = METRIC_memory_frames_bytes,
    [MEMORY_OF_PAYLOADS] = METRIC_memory_payloads_bytes,
    [MEMORY_OF_INBOXES] = METRIC_memory_inboxes_bytes,
    [MEMORY_OF_STORED] = METRIC_memory_stored_bytes,
    [MEMORY_OF_REQUESTS] = METRIC_memory_requests_bytes,
    [MEMORY_OF_ANSWERS] = METRIC_memory_answers_bytes,
    [MEMORY_OF_CALLS] = METRIC_memory_calls_bytes,
    [MEMORY_OF_LOGINS] = METRIC_memory_logins_bytes,
    [MEMORY_OF_ROOMS] = METRIC_memory_rooms_bytes,
    [MEMORY_OF_ROOM_HISTORIES] = METRIC_memory_room_histories_bytes,
    [MEMORY_OF_FRIENDS] = METRIC_memory_friends_bytes,
    [MEMORY_OF_OUTPUT] = METRIC_memory_output_bytes,
    [MEMORY_OF_INPUT] = METRIC_memory_input_bytes,
    [MEMORY_OF_WEBSOCKET] = METRIC_memory_websocket_bytes,
    [MEMORY_OF_BACKENDS] = METRIC_memory_backends_bytes,
    [MEMORY_OF_HTTP] = METRIC_memory_http_bytes,
    [MEMORY_OF_SESSIONS] = METRIC_memory_sessions_bytes,
    [MEMORY_OF_OWN] = METRIC_memory_own_bytes,
};

/* Of this thread, what is not summed yet. */
static _Thread_local struct {
    int64_t all;
    int64_t of[MEMORY_PARTS];
} difference;

static uint64_t budget(void)
{
    return memory.limits != NULL ? limits_memory_bytes(memory.limits) : 0;
}

static uint64_t mark(enum memory_level level)
{
    return budget() / 8 * (level == MEMORY_FULL ? 7 : 6);
}

static uint64_t held(void)
{
    int64_t bytes = atomic_load_explicit(&memory.held_bytes, memory_order_relaxed);
    return bytes > 0 ? (uint64_t)bytes : 0;
}

/* Where a level ends that has begun. */
static uint64_t end_of(enum memory_level level)
{
    return mark(level) - budget() / 16;
}

static enum memory_level level_at(uint64_t bytes, enum memory_level now)
{
    if (budget() == 0)
        return MEMORY_AMPLE;
    if (bytes >= mark(MEMORY_FULL) || (now == MEMORY_FULL && bytes >= end_of(MEMORY_FULL)))
        return MEMORY_FULL;
    if (bytes >= mark(MEMORY_TIGHT) || (now >= MEMORY_TIGHT && bytes >= end_of(MEMORY_TIGHT)))
        return MEMORY_TIGHT;
    return MEMORY_AMPLE;
}

static void set_level(uint64_t bytes)
{
    static const char *const names[] = {"ample", "tight", "full"};
    int now = atomic_load_explicit(&memory.level, memory_order_relaxed);
    int then = level_at(bytes, now);
    if (then == now || !atomic_compare_exchange_strong_explicit(
                           &memory.level, &now, then, memory_order_relaxed, memory_order_relaxed))
        return;
    if (then > now)
        metrics_add(memory.metrics, 0,
                    then == MEMORY_FULL ? METRIC_memory_full : METRIC_memory_tight, 1);
    LOG(memory.log, MEMORY_LEVEL, LOG_S("memory", names[then]), LOG_U("held_bytes", bytes),
        LOG_U("budget_bytes", budget()));
}

static void take_reserve(void)
{
    void *nothing = NULL;
    if (atomic_load_explicit(&memory.reserve, memory_order_relaxed) != NULL)
        return;
    void *reserve = malloc(RESERVE_BYTES);
    if (reserve != NULL && !atomic_compare_exchange_strong(&memory.reserve, &nothing, reserve))
        free(reserve);
}

void memory_open(const struct limits *limits, struct log *log, struct metrics *metrics)
{
    memory.log = log;
    memory.metrics = metrics;
    memory.limits = limits;
    take_reserve();
}

void memory_review(void)
{
    set_level(held());
}

void memory_close(void)
{
    memory.limits = NULL;
    memory.log = NULL;
    memory.metrics = NULL;
    atomic_store(&memory.level, MEMORY_AMPLE);
    free(atomic_exchange(&memory.reserve, NULL));
}

static void add_up(void)
{
    int64_t bytes = difference.all;
    difference.all = 0;
    atomic_fetch_add_explicit(&memory.held_bytes, bytes, memory_order_relaxed);
    for (int part = 0; part < MEMORY_PARTS; part++) {
        if (difference.of[part] != 0)
            metrics_add(memory.metrics, 0, gauges[part], (uint64_t)difference.of[part]);
        difference.of[part] = 0;
    }
    if (memory.metrics == NULL) /* memory_open was not called: a test, a tool */
        return;
    metrics_add(memory.metrics, 0, METRIC_memory_held_bytes, (uint64_t)bytes);
    set_level(held());
    if (memory_level() == MEMORY_AMPLE)
        take_reserve();
}

static bool is_much(int64_t bytes)
{
    return bytes >= STEP_BYTES || bytes <= -STEP_BYTES;
}

void memory_account(enum memory_part part, int64_t bytes)
{
    difference.all += bytes;
    difference.of[part] += bytes;
    if (is_much(difference.all) || is_much(difference.of[part]))
        add_up();
}

enum memory_level memory_level(void)
{
    return atomic_load_explicit(&memory.level, memory_order_relaxed);
}

bool memory_half_held(void)
{
    return budget() != 0 && held() >= budget() / 2;
}

uint64_t memory_excess(enum memory_level level)
{
    uint64_t bytes = held();
    bool is_there = memory_level() >= level && bytes >= end_of(level);
    return is_there ? bytes - end_of(level) + 1 : 0; /* at its end a level goes on */
}

void memory_refused(void)
{
    metrics_add(memory.metrics, 0, METRIC_memory_failures, 1);
    LOG(memory.log, MEMORY_FAILED, LOG_U("held_bytes", held()));
}

void memory_missing(unsigned tries, const char *file, int line, const char *what)
{
    if (tries >= TRIES)
        check_failed(file, line, what, "nothing was freed for seconds");
    if (tries == 0)
        memory_refused();
    void *reserve = atomic_exchange(&memory.reserve, NULL);
    free(reserve);
    if (reserve == NULL)
        wait_nap(PAUSE_MS);
}
