/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook/webhook.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "actors/turn.h"
#include "base/check.h"
#include "base/lock.h"
#include "base/thread.h"
#include "web/client.h"
#include "webhook/answer.h"
#include "webhook/news.h"
#include "webhook/stream.h"

/* The thread between the store and the receiver. What is sent next and what an answer means is
 * decided in stream.c; here it is read, sent and told.
 *
 * Two streams go that way: presence, which lies in the store, and news of rooms, which lie in a
 * queue (news.c). Of each there is one request at a time, because the order of a stream is the
 * order in which they arrive; a receiver that wants more at once is given larger ones
 * (webhook.batch). They do not wait for each other.
 *
 * Events are read from the store and not handed over by the committer, so nothing is held for a
 * receiver that is away: it costs what the store keeps anyway (store.events_kept). The committer
 * only says that there is more (webhook_tell), and only writes to the thread's wake when that is
 * about to sleep: `idle` is exchanged by both sides, so one of them sees the other.
 *
 * How far the receiver has come is given to whoever stores it after each answer, and is used here
 * at once: stored late, it costs a repetition after a crash, and the receiver knows those by their
 * seq. How far it is in the news of rooms nobody stores: they end with the process. */

enum { IDLE_MS = 60 * 1000, BUSY_MS = 1000 };

/* One of the two streams; the thread's. */
struct flow {
    struct webhook *hook;
    bool is_presence;
    struct hook_stream stream;
    struct hook_post post; /* under way */
    uint64_t read_last;    /* of the state that was read last */
};

enum { PRESENCE, ROOMS, FLOWS };

struct webhook {
    struct webhook_options options;
    pthread_t pthread;
    struct thread_mark mark; /* its thread, once it runs */
    struct web_client *web;
    struct hook_news news;
    /* the thread's */
    struct flow flows[FLOWS];
    bool aimed;
    char origin[256]; /* of its target, for the log */
    struct lock lock;
    /* under lock */
    bool ready, started;
    bool moved; /* what it had came from another process */
    bool fresh; /* `target` is to be taken */
    struct web_target *target;
    bool stopping;
    bool resting;     /* with that: nothing new is begun, and it is to go on later */
    uint64_t stop_ms; /* no longer than until then */
    /* any thread */
    _Atomic unsigned idle; /* it is about to sleep and has seen nothing to do */
    _Atomic bool shown_on, shown_failing, shown_known;
    _Atomic uint64_t shown_cursor, shown_oldest_ms, shown_news_cursor;
};

static void count(struct webhook *hook, enum metric_id id, uint64_t n)
{
    metrics_add(hook->options.metrics, hook->options.block, id, n);
}

static uint64_t now_ms(const struct webhook *hook)
{
    return env_monotonic_ms(hook->options.env);
}

static void show(struct webhook *hook)
{
    const struct hook_stream *presence = &hook->flows[PRESENCE].stream;
    const struct hook_stream *rooms = &hook->flows[ROOMS].stream;
    atomic_store(&hook->shown_cursor, presence->cursor);
    atomic_store(&hook->shown_known, presence->reset != HOOK_RESET_FIRST);
    atomic_store(&hook->shown_news_cursor, rooms->cursor);
    atomic_store(&hook->shown_failing, presence->attempts > 0 || rooms->attempts > 0);
}

/* --- what is sent ----------------------------------------------------------------------------- */

/* Some events behind the cursor, in one state of the store. */
struct page {
    struct webhook *hook;
    json_t *events;
    uint64_t oldest_ms; /* when the first of them happened; 0: there is none */
};

static bool add_event(void *context, const struct presence_event *event)
{
    struct page *page = context;
    const struct event_fields fields = presence_event_fields(event);
    if (page->oldest_ms == 0)
        page->oldest_ms = event->time_ms;
    (void)json_array_append_new(page->events, page->hook->options.event(&fields));
    return true;
}

static json_t *reset_json(const struct webhook *hook, const struct hook_post *post)
{
    json_t *reset = json_pack("{s:I, s:s, s:s, s:I}", "seq", (json_int_t)post->seq, "kind", "RESET",
                              "reason", hook_reset_name(post->reset), "time_ms",
                              (json_int_t)env_wall_ms(hook->options.env));
    if (post->first <= post->last) {
        (void)json_object_set_new(reset, "lost_first", json_integer((json_int_t)post->first));
        (void)json_object_set_new(reset, "lost_last", json_integer((json_int_t)post->last));
    }
    return json_pack("[o]", reset);
}

/* Takes the events. */
static char *body_of(const struct flow *flow, json_t *events, uint64_t stream_last)
{
    const struct webhook_options *options = &flow->hook->options;
    json_t *body = flow->is_presence
                       ? json_pack("{s:s, s:I, s:o}", "node", options->settings->node,
                                   "presence_last", (json_int_t)stream_last, "events", events)
                       : json_pack("{s:s, s:s, s:I, s:o}", "node", options->settings->node, "boot",
                                   options->settings->node_boot, "news_last",
                                   (json_int_t)stream_last, "room_news", events);
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    return text;
}

/* --- what came of it -------------------------------------------------------------------------- */

static struct hook_pace pace_of(const struct webhook *hook)
{
    const struct limits *limits = hook->options.limits;
    struct hook_pace pace = {webhook_retry_min_ms(limits), webhook_retry_max_ms(limits)};
    if (pace.max_ms < pace.min_ms) /* a reload is between the two */
        pace.max_ms = pace.min_ms;
    return pace;
}

static uint32_t chance(const struct webhook *hook)
{
    uint32_t random;
    env_random(hook->options.env, &random, sizeof(random));
    return random;
}

/* The newest seq that the stream has given. Of presence it is read here before the others are told
 * of it. */
static uint64_t stream_last(const struct flow *flow)
{
    uint64_t told = flow->is_presence ? atomic_load(flow->hook->options.presence_last) : 0;
    return told > flow->read_last ? told : flow->read_last;
}

static const char *stream_name(const struct flow *flow)
{
    return flow->is_presence ? "presence" : "rooms";
}

static void tell_failure(struct flow *flow, unsigned status, const char *error)
{
    struct webhook *hook = flow->hook;
    const struct hook_stream *stream = &flow->stream;
    uint64_t now = now_ms(hook);
    count(hook, METRIC_webhook_failures, 1);
    LOG(hook->options.log, WEBHOOK_FAILING, LOG_S("url", hook->origin),
        LOG_S("stream", stream_name(flow)), LOG_U("status", status), LOG_S("error", error),
        LOG_U("attempts", stream->attempts),
        LOG_U("again_in_ms", stream->due_ms > now ? stream->due_ms - now : 0),
        LOG_U("cursor", stream->cursor), LOG_U("stream_last", stream_last(flow)));
}

/* Nothing was sent, or nothing came back. */
static void fail(struct flow *flow, const char *error)
{
    struct webhook *hook = flow->hook;
    const struct hook_pace pace = pace_of(hook);
    hook_stream_failed(&flow->stream, 0, &pace, chance(hook), now_ms(hook));
    tell_failure(flow, 0, error);
    show(hook);
}

/* That rooms of another boot are gone is no news of a fault. */
static void tell_reset(struct flow *flow)
{
    struct webhook *hook = flow->hook;
    const struct hook_post *post = &flow->post;
    if (post->reset == HOOK_RESET_BOOT)
        return;
    count(hook, METRIC_webhook_resets, 1);
    LOG(hook->options.log, WEBHOOK_RESET, LOG_S("url", hook->origin),
        LOG_S("stream", stream_name(flow)), LOG_S("reason", hook_reset_name(post->reset)),
        LOG_U("lost_first", post->first), LOG_U("lost_last", post->last), LOG_U("seq", post->seq));
}

/* Counts and logs what an answer has changed. */
static void tell_moved(struct flow *flow, enum hook_result result)
{
    struct webhook *hook = flow->hook;
    const struct hook_stream *stream = &flow->stream;
    const struct hook_post *post = &flow->post;
    if (result == HOOK_TAKEN && post->kind == HOOK_RESET) {
        tell_reset(flow);
    } else if (result == HOOK_TAKEN) {
        count(hook, flow->is_presence ? METRIC_webhook_events : METRIC_webhook_news,
              stream->cursor - (post->first - 1));
    } else if (result == HOOK_REWOUND) {
        count(hook, METRIC_webhook_rewinds, 1);
        LOG(hook->options.log, WEBHOOK_REWOUND, LOG_S("url", hook->origin),
            LOG_S("stream", stream_name(flow)), LOG_U("from", post->first - 1),
            LOG_U("to", stream->cursor));
    }
}

static void tell_result(struct flow *flow, enum hook_result result, bool was_failing,
                        unsigned status, const char *problem)
{
    tell_moved(flow, result);
    if (result == HOOK_FAILED && problem == NULL)
        problem = "the answer says that nothing of it was taken";
    if (result == HOOK_AHEAD)
        problem = "the receiver has a seq that this node has not given: it is told to begin anew";
    if (problem != NULL)
        tell_failure(flow, status, problem);
    else if (result == HOOK_TAKEN && was_failing)
        LOG(flow->hook->options.log, WEBHOOK_RECOVERED, LOG_S("url", flow->hook->origin),
            LOG_S("stream", stream_name(flow)), LOG_U("cursor", flow->stream.cursor));
}

static void on_answer(void *context, const struct web_answer *from)
{
    struct flow *flow = context;
    struct webhook *hook = flow->hook;
    struct hook_answer answer;
    const struct hook_pace pace = pace_of(hook);
    const char *problem = hook_answer_read(from, &answer);
    bool was_failing = flow->stream.attempts > 0;
    CHECK(flow->post.kind != HOOK_NOTHING);
    enum hook_result result = hook_stream_answered(
        &flow->stream, &flow->post, &answer, stream_last(flow), &pace, chance(hook), now_ms(hook));
    if (flow->is_presence && (result == HOOK_TAKEN || result == HOOK_REWOUND))
        hook->options.keep(hook->options.context, flow->stream.cursor);
    tell_result(flow, result, was_failing, from->status, problem);
    flow->post.kind = HOOK_NOTHING;
    show(hook);
}

/* --- the thread ------------------------------------------------------------------------------- */

/* Sends flow->post; takes its events. */
static void send(struct flow *flow, json_t *events, uint64_t stream_last)
{
    struct webhook *hook = flow->hook;
    char *text = body_of(flow, events, stream_last);
    int failed = text == NULL
                     ? -ENOMEM
                     : web_client_post(hook->web, bytes_of_text(text),
                                       webhook_timeout_ms(hook->options.limits), on_answer, flow);
    free(text);
    count(hook, METRIC_webhook_posts, failed == 0);
    if (failed == 0)
        return;
    flow->post.kind = HOOK_NOTHING;
    fail(flow, strerror(-failed));
}

static uint32_t batch_of(const struct flow *flow)
{
    uint32_t batch = (uint32_t)webhook_batch(flow->hook->options.limits);
    const struct hook_stream *stream = &flow->stream;
    return stream->batch != 0 && stream->batch < batch ? stream->batch : batch;
}

/* Reads, and sends what is there. False: there is nothing. */
static bool send_presence(struct flow *flow)
{
    struct webhook *hook = flow->hook;
    struct store_position position;
    uint32_t batch = batch_of(flow);
    struct page page = {hook, json_array(), 0};
    int failed = store_read_events(hook->options.store, flow->stream.cursor, batch, add_event,
                                   &page, &position);
    if (failed != 0) {
        json_decref(page.events);
        fail(flow, store_error_text(failed));
        return true;
    }
    const struct hook_kept kept = {position.presence_first, position.presence_last};
    flow->read_last = kept.last;
    flow->post = hook_stream_next(&flow->stream, &kept, batch);
    atomic_store(&hook->shown_oldest_ms, page.oldest_ms);
    if (flow->post.kind == HOOK_EVENTS) {
        CHECK(json_array_size(page.events) == flow->post.last - flow->post.first + 1);
        send(flow, page.events, kept.last);
        return true;
    }
    json_decref(page.events);
    if (flow->post.kind == HOOK_RESET)
        send(flow, reset_json(hook, &flow->post), kept.last);
    return flow->post.kind == HOOK_RESET;
}

static bool send_rooms(struct flow *flow)
{
    struct webhook *hook = flow->hook;
    uint32_t batch = batch_of(flow);
    const struct hook_kept kept = hook_news_window(&hook->news, flow->stream.cursor, batch);
    flow->read_last = hook->news.seen_last;
    flow->post = hook_stream_next(&flow->stream, &kept, batch);
    if (flow->post.kind == HOOK_EVENTS)
        send(flow, hook_news_json(&hook->news, flow->post.first, flow->post.last), flow->read_last);
    else if (flow->post.kind == HOOK_RESET)
        send(flow, reset_json(hook, &flow->post), flow->read_last);
    return flow->post.kind != HOOK_NOTHING;
}

static bool send_next(struct flow *flow)
{
    return flow->is_presence ? send_presence(flow) : send_rooms(flow);
}

static void take_target(struct webhook *hook)
{
    lock_take(&hook->lock);
    struct web_target *target = hook->target;
    bool fresh = hook->fresh;
    hook->target = NULL;
    hook->fresh = false;
    lock_give(&hook->lock);
    if (!fresh)
        return;
    hook->aimed = target != NULL;
    web_url_origin(target != NULL ? target->url : "", hook->origin, sizeof(hook->origin));
    LOG(hook->options.log, WEBHOOK_AIMED, LOG_S("url", hook->origin),
        LOG_U("cursor", hook->flows[PRESENCE].stream.cursor));
    web_client_aim(hook->web, target);
    for (unsigned i = 0; i < FLOWS; i++)
        hook_stream_hurry(&hook->flows[i].stream);
    show(hook);
}

/* While no class posts news of rooms, and none wait of when one did, the receiver hears nothing of
 * that stream, not even that it begins. */
static bool is_used(struct flow *flow)
{
    struct webhook *hook = flow->hook;
    return flow->is_presence ||
           room_classes_post(atomic_load(&hook->options.settings->room_classes)) ||
           (flow->stream.reset != HOOK_RESET_BOOT &&
            hook_news_behind(&hook->news, flow->stream.cursor) > 0);
}

/* Sends if that is due; gives how long nothing else is to be done. */
static uint64_t step_flow(struct flow *flow)
{
    uint64_t now = now_ms(flow->hook);
    if (flow->post.kind != HOOK_NOTHING)
        return BUSY_MS;
    if (now < flow->stream.due_ms)
        return flow->stream.due_ms - now;
    if (!is_used(flow))
        return IDLE_MS;
    if (send_next(flow))
        return BUSY_MS;
    /* What was stored before this exchange is seen by another look, what comes later wakes. */
    (void)atomic_exchange(&flow->hook->idle, 1);
    return send_next(flow) ? BUSY_MS : IDLE_MS;
}

static bool is_resting(struct webhook *hook)
{
    lock_take(&hook->lock);
    bool resting = hook->resting;
    lock_give(&hook->lock);
    return resting;
}

static uint64_t step(struct webhook *hook)
{
    uint64_t wait_ms = IDLE_MS;
    if (is_resting(hook))
        return wait_ms;
    for (unsigned i = 0; i < FLOWS && hook->aimed; i++) {
        uint64_t left_ms = step_flow(&hook->flows[i]);
        wait_ms = left_ms < wait_ms ? left_ms : wait_ms;
    }
    return !hook->aimed && web_client_busy(hook->web) > 0 ? BUSY_MS : wait_ms;
}

/* Whether there is no more to be done before the end. Lowers *wait_ms to the moment to look again.
 */
static bool is_over(struct webhook *hook, uint64_t *wait_ms)
{
    lock_take(&hook->lock);
    bool stopping = hook->stopping;
    uint64_t until_ms = hook->stop_ms;
    lock_give(&hook->lock);
    if (!stopping)
        return false;
    uint64_t now = now_ms(hook);
    uint64_t left = until_ms > now ? until_ms - now : 0;
    *wait_ms = *wait_ms < left ? *wait_ms : left;
    return left == 0 || web_client_busy(hook->web) == 0;
}

static void *run(void *context)
{
    struct webhook *hook = context;
    thread_begin(&hook->mark);
    while (true) {
        take_target(hook);
        uint64_t wait_ms = step(hook);
        if (is_over(hook, &wait_ms))
            break;
        web_client_run(hook->web, wait_ms);
        atomic_store(&hook->idle, 0);
    }
    thread_end(&hook->mark);
    return NULL;
}

/* --- life ------------------------------------------------------------------------------------- */

int webhook_open(struct webhook **out, const struct webhook_options *options)
{
    struct webhook *hook = calloc(1, sizeof(*hook));
    const struct web_client_options web = {options->agent, FLOWS, options->env};
    if (hook == NULL)
        return -ENOMEM;
    hook->options = *options;
    for (unsigned i = 0; i < FLOWS; i++)
        hook->flows[i] = (struct flow){.hook = hook, .is_presence = i == PRESENCE};
    lock_init(&hook->lock);
    hook_news_init(&hook->news);
    int error = web_client_open(&hook->web, &web);
    if (error == 0)
        *out = hook;
    else
        webhook_close(hook);
    return error;
}

/* Under the lock: there is a thread, if it has something to do. */
static int start_thread(struct webhook *hook)
{
    CHECK(lock_held(&hook->lock));
    bool is_needed = hook->aimed || (hook->fresh && hook->target != NULL);
    if (!hook->ready || hook->started || !is_needed)
        return 0;
    int error = pthread_create(&hook->pthread, NULL, run, hook);
    hook->started = error == 0;
    return -error;
}

int webhook_start(struct webhook *hook)
{
    uint64_t cursor = 0;
    int found = store_get_cursor(hook->options.store, WEBHOOK_READER, &cursor);
    hook_stream_begin(&hook->flows[PRESENCE].stream, found == 0, cursor);
    if (!hook->moved)
        hook_stream_begin_boot(&hook->flows[ROOMS].stream);
    show(hook);
    lock_take(&hook->lock);
    hook->ready = true;
    int error = start_thread(hook);
    lock_give(&hook->lock);
    return error;
}

int webhook_aim(struct webhook *hook, struct web_target *target)
{
    lock_take(&hook->lock);
    web_target_destroy(hook->target);
    hook->target = target;
    hook->fresh = true;
    atomic_store(&hook->shown_on, target != NULL);
    hook_news_keep(&hook->news, target != NULL);
    int error = start_thread(hook);
    lock_give(&hook->lock);
    web_client_wake(hook->web);
    return error;
}

void webhook_tell(struct webhook *hook)
{
    if (hook != NULL && atomic_exchange(&hook->idle, 0) != 0)
        web_client_wake(hook->web);
}

void webhook_take_news(struct webhook *hook, unsigned block, struct message *message)
{
    if (hook == NULL) {
        message_destroy(message);
        return;
    }
    uint64_t lost = hook_news_add(&hook->news, (struct user_call_message *)message,
                                  webhook_news_bytes(hook->options.limits));
    metrics_add(hook->options.metrics, block, METRIC_webhook_news_lost, lost);
    webhook_tell(hook);
}

struct webhook_look webhook_look(struct webhook *hook)
{
    struct webhook_look look = {.on = atomic_load(&hook->shown_on)};
    uint64_t cursor = atomic_load(&hook->shown_cursor);
    uint64_t last = atomic_load(hook->options.presence_last);
    if (!look.on)
        return look;
    look.behind = !atomic_load(&hook->shown_known) ? 1 : last > cursor ? last - cursor : 0;
    look.oldest_ms = look.behind > 0 ? atomic_load(&hook->shown_oldest_ms) : 0;
    look.news_waiting = hook_news_behind(&hook->news, atomic_load(&hook->shown_news_cursor));
    look.failing = atomic_load(&hook->shown_failing);
    return look;
}

static void end_thread(struct webhook *hook, uint64_t ms, bool rests)
{
    lock_take(&hook->lock);
    bool started = hook->started;
    hook->stopping = true;
    hook->resting = rests;
    hook->ready = false;
    hook->stop_ms = now_ms(hook) + ms;
    lock_give(&hook->lock);
    web_client_wake(hook->web);
    if (started)
        pthread_join(hook->pthread, NULL);
    hook->started = false;
}

void webhook_stop(struct webhook *hook, uint64_t ms)
{
    end_thread(hook, ms, false);
}

/* --- one process after another ---------------------------------------------------------------- */

void webhook_pause(struct webhook *hook, uint64_t ms)
{
    end_thread(hook, ms, true);
}

int webhook_go_on(struct webhook *hook)
{
    lock_take(&hook->lock);
    hook->stopping = hook->resting = false;
    hook->ready = true;
    int error = start_thread(hook);
    lock_give(&hook->lock);
    return error;
}

bool webhook_move_out(struct webhook *hook, struct buffer *out)
{
    CHECK(!hook->started && off_thread(&hook->mark));
    return hook_news_move_out(&hook->news, &hook->flows[ROOMS].stream, out);
}

void webhook_move_in(struct webhook *hook, const Usher__V1__HandoverNews *news)
{
    CHECK(!hook->started && !hook->ready && !hook->moved);
    hook->moved = true;
    hook_news_move_in(&hook->news, &hook->flows[ROOMS].stream, news);
    hook->flows[ROOMS].read_last = hook->news.last;
}

void webhook_close(struct webhook *hook)
{
    if (hook == NULL)
        return;
    CHECK(!hook->started && off_thread(&hook->mark));
    web_client_close(hook->web);
    web_target_destroy(hook->target);
    hook_news_fini(&hook->news);
    lock_destroy(&hook->lock);
    free(hook);
}
