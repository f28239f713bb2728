/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook/webhook.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/lock.h"
#include "base/thread.h"
#include "web/client.h"
#include "webhook/stream.h"

/* The thread between the store and the receiver. What is sent next and what an answer means is
 * decided in stream.c; here it is read, sent and told.
 *
 * One request at a time, because the order of the stream is the order in which they arrive; a
 * receiver that wants more at once is given larger ones (webhook.batch).
 *
 * Events are read from the store and not handed over by the committer, so nothing is held for a
 * receiver that is away: it costs what the store keeps anyway (store.events_kept). The committer
 * only says that there is more (webhook_tell), and only writes to the thread's wake when that is
 * about to sleep: `idle` is exchanged by both sides, so one of them sees the other.
 *
 * How far the receiver has come is given to whoever stores it after each answer, and is used here
 * at once: stored late, it costs a repetition after a crash, and the receiver knows those by their
 * seq. */

enum { IDLE_MS = 60 * 1000, BUSY_MS = 1000 };

struct webhook {
    struct webhook_options options;
    pthread_t pthread;
    struct thread_mark mark; /* its thread, once it runs */
    struct web_client *web;
    /* the thread's */
    struct hook_stream stream;
    struct hook_post post; /* under way */
    uint64_t read_last;    /* of the state that was read last */
    bool aimed;
    char origin[256]; /* of its target, for the log */
    struct lock lock;
    /* under lock */
    bool ready, started;
    bool fresh; /* `target` is to be taken */
    struct web_target *target;
    bool stopping;
    uint64_t stop_ms; /* no longer than until then */
    /* any thread */
    _Atomic unsigned idle; /* it is about to sleep and has seen nothing to do */
    _Atomic bool shown_on, shown_failing, shown_known;
    _Atomic uint64_t shown_cursor, shown_oldest_ms;
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
    const struct hook_stream *stream = &hook->stream;
    atomic_store(&hook->shown_cursor, stream->cursor);
    atomic_store(&hook->shown_known, stream->reset != HOOK_RESET_FIRST);
    atomic_store(&hook->shown_failing, stream->attempts > 0);
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

static void add_reset(struct page *page, const struct hook_post *post)
{
    json_t *reset = json_pack("{s:I, s:s, s:s, s:I}", "seq", (json_int_t)post->seq, "kind", "RESET",
                              "reason", hook_reset_name(post->reset), "time_ms",
                              (json_int_t)env_wall_ms(page->hook->options.env));
    if (post->first <= post->last) {
        (void)json_object_set_new(reset, "lost_first", json_integer((json_int_t)post->first));
        (void)json_object_set_new(reset, "lost_last", json_integer((json_int_t)post->last));
    }
    (void)json_array_clear(page->events);
    (void)json_array_append_new(page->events, reset);
}

/* Gives the events to the body. */
static char *body_of(const struct page *page, uint64_t stream_last)
{
    json_t *body = json_pack("{s:s, s:I, s:O}", "node", page->hook->options.node, "presence_last",
                             (json_int_t)stream_last, "events", page->events);
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

static void tell_failure(struct webhook *hook, unsigned status, const char *error)
{
    const struct hook_stream *stream = &hook->stream;
    uint64_t now = now_ms(hook);
    count(hook, METRIC_webhook_failures, 1);
    LOG(hook->options.log, WEBHOOK_FAILING, LOG_S("url", hook->origin), LOG_U("status", status),
        LOG_S("error", error), LOG_U("attempts", stream->attempts),
        LOG_U("again_in_ms", stream->due_ms > now ? stream->due_ms - now : 0),
        LOG_U("cursor", stream->cursor),
        LOG_U("presence_last", atomic_load(hook->options.presence_last)));
}

/* Nothing was sent, or nothing came back. */
static void fail(struct webhook *hook, const char *error)
{
    const struct hook_pace pace = pace_of(hook);
    hook_stream_failed(&hook->stream, 0, &pace, chance(hook), now_ms(hook));
    tell_failure(hook, 0, error);
    show(hook);
}

/* An object may say the receiver's seq, and then has to say it well: of one that was cut off nobody
 * knows what it would have said. Other text, as "ok", says nothing. */
static const char *read_body(struct bytes body, struct hook_answer *answer)
{
    json_error_t error;
    const char *problem = NULL;
    while (body.size > 0 && strchr(" \t\r\n", body.data[0]) != NULL && body.data[0] != '\0')
        body = (struct bytes){body.data + 1, body.size - 1};
    if (body.size == 0 || body.data[0] != '{')
        return NULL;
    json_t *object = json_loadb((const char *)body.data, body.size, JSON_REJECT_DUPLICATES, &error);
    const json_t *seq = json_object_get(object, "seq");
    if (object == NULL)
        problem = "the answer begins as a JSON object and is none";
    else if (seq != NULL && (!json_is_integer(seq) || json_integer_value(seq) < 0))
        problem = "the answer has a seq that is no number";
    answer->has_seq = problem == NULL && seq != NULL;
    answer->seq = answer->has_seq ? (uint64_t)json_integer_value(seq) : 0;
    json_decref(object);
    return problem;
}

/* NULL: it is a good one. */
static const char *read_answer(const struct web_answer *from, struct hook_answer *answer)
{
    *answer = (struct hook_answer){.retry_after_ms = from->retry_after_ms,
                                   .too_large = from->status == 413};
    if (from->error != NULL)
        return from->error;
    if (from->status / 100 == 3)
        return "a redirect, which is not followed: webhook.url has to be where it leads";
    if (from->status / 100 != 2)
        return "the receiver refuses";
    const char *problem = read_body(from->body, answer);
    answer->good = problem == NULL;
    return problem;
}

/* Counts and logs what an answer has changed. */
static void tell_moved(struct webhook *hook, enum hook_result result)
{
    const struct hook_stream *stream = &hook->stream;
    struct log *log = hook->options.log;
    const struct hook_post *post = &hook->post;
    if (result == HOOK_TAKEN && post->kind == HOOK_RESET) {
        count(hook, METRIC_webhook_resets, 1);
        LOG(log, WEBHOOK_RESET, LOG_S("url", hook->origin),
            LOG_S("reason", hook_reset_name(post->reset)), LOG_U("lost_first", post->first),
            LOG_U("lost_last", post->last), LOG_U("seq", post->seq));
    } else if (result == HOOK_TAKEN) {
        count(hook, METRIC_webhook_events, stream->cursor - (post->first - 1));
    } else if (result == HOOK_REWOUND) {
        count(hook, METRIC_webhook_rewinds, 1);
        LOG(log, WEBHOOK_REWOUND, LOG_S("url", hook->origin), LOG_U("from", post->first - 1),
            LOG_U("to", stream->cursor));
    }
}

static void tell_result(struct webhook *hook, enum hook_result result, bool was_failing,
                        unsigned status, const char *problem)
{
    tell_moved(hook, result);
    if (result == HOOK_FAILED && problem == NULL)
        problem = "the answer says that nothing of it was taken";
    if (result == HOOK_AHEAD)
        problem = "the receiver has a seq that this node has not given: it is told to begin anew";
    if (problem != NULL)
        tell_failure(hook, status, problem);
    else if (result == HOOK_TAKEN && was_failing)
        LOG(hook->options.log, WEBHOOK_RECOVERED, LOG_S("url", hook->origin),
            LOG_U("cursor", hook->stream.cursor));
}

/* The newest seq that the store has given: it is read here before the others are told of it. */
static uint64_t stream_last(const struct webhook *hook)
{
    uint64_t told = atomic_load(hook->options.presence_last);
    return told > hook->read_last ? told : hook->read_last;
}

static void on_answer(void *context, const struct web_answer *from)
{
    struct webhook *hook = context;
    struct hook_answer answer;
    const struct hook_pace pace = pace_of(hook);
    const char *problem = read_answer(from, &answer);
    bool was_failing = hook->stream.attempts > 0;
    CHECK(hook->post.kind != HOOK_NOTHING);
    enum hook_result result = hook_stream_answered(
        &hook->stream, &hook->post, &answer, stream_last(hook), &pace, chance(hook), now_ms(hook));
    if (result == HOOK_TAKEN || result == HOOK_REWOUND)
        hook->options.keep(hook->options.context, hook->stream.cursor);
    tell_result(hook, result, was_failing, from->status, problem);
    hook->post.kind = HOOK_NOTHING;
    show(hook);
}

/* --- the thread ------------------------------------------------------------------------------- */

/* Takes the page's events. */
static void send(struct webhook *hook, struct page *page, uint64_t stream_last)
{
    char *text = body_of(page, stream_last);
    int failed = text == NULL
                     ? -ENOMEM
                     : web_client_post(hook->web, bytes_of_text(text),
                                       webhook_timeout_ms(hook->options.limits), on_answer, hook);
    free(text);
    count(hook, METRIC_webhook_posts, failed == 0);
    if (failed == 0)
        return;
    hook->post.kind = HOOK_NOTHING;
    fail(hook, strerror(-failed));
}

/* Reads, and sends what is there. False: there is nothing. */
static bool send_next(struct webhook *hook)
{
    struct store_position position;
    struct hook_stream *stream = &hook->stream;
    uint32_t batch = (uint32_t)webhook_batch(hook->options.limits);
    if (stream->batch != 0 && stream->batch < batch)
        batch = stream->batch;
    struct page page = {hook, json_array(), 0};
    int failed =
        store_read_events(hook->options.store, stream->cursor, batch, add_event, &page, &position);
    if (failed != 0) {
        json_decref(page.events);
        fail(hook, store_error_text(failed));
        return true;
    }
    const struct hook_kept kept = {position.presence_first, position.presence_last};
    hook->read_last = kept.last;
    hook->post = hook_stream_next(stream, &kept, batch);
    if (hook->post.kind == HOOK_RESET)
        add_reset(&page, &hook->post);
    else if (hook->post.kind == HOOK_EVENTS)
        CHECK(json_array_size(page.events) == hook->post.last - hook->post.first + 1);
    atomic_store(&hook->shown_oldest_ms, page.oldest_ms);
    bool any = hook->post.kind != HOOK_NOTHING;
    if (any)
        send(hook, &page, kept.last);
    json_decref(page.events);
    return any;
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
        LOG_U("cursor", hook->stream.cursor));
    web_client_aim(hook->web, target);
    hook_stream_hurry(&hook->stream);
    show(hook);
}

/* Sends if that is due; gives how long nothing else is to be done. */
static uint64_t step(struct webhook *hook)
{
    uint64_t now = now_ms(hook);
    if (web_client_busy(hook->web) > 0)
        return BUSY_MS;
    if (!hook->aimed)
        return IDLE_MS;
    if (now < hook->stream.due_ms)
        return hook->stream.due_ms - now;
    if (send_next(hook))
        return BUSY_MS;
    /* What was stored before this exchange is seen by another look, what comes later wakes. */
    (void)atomic_exchange(&hook->idle, 1);
    return send_next(hook) ? BUSY_MS : IDLE_MS;
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
    const struct web_client_options web = {options->agent, 1, options->env};
    if (hook == NULL)
        return -ENOMEM;
    hook->options = *options;
    lock_init(&hook->lock);
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
    if (!hook->ready || hook->started || !hook->fresh || hook->target == NULL)
        return 0;
    int error = pthread_create(&hook->pthread, NULL, run, hook);
    hook->started = error == 0;
    return -error;
}

int webhook_start(struct webhook *hook)
{
    uint64_t cursor = 0;
    int found = store_get_cursor(hook->options.store, WEBHOOK_READER, &cursor);
    hook_stream_begin(&hook->stream, found == 0, cursor);
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

struct webhook_look webhook_look(struct webhook *hook)
{
    struct webhook_look look = {.on = atomic_load(&hook->shown_on)};
    uint64_t cursor = atomic_load(&hook->shown_cursor);
    uint64_t last = atomic_load(hook->options.presence_last);
    if (!look.on)
        return look;
    look.behind = !atomic_load(&hook->shown_known) ? 1 : last > cursor ? last - cursor : 0;
    look.oldest_ms = look.behind > 0 ? atomic_load(&hook->shown_oldest_ms) : 0;
    look.failing = atomic_load(&hook->shown_failing);
    return look;
}

void webhook_stop(struct webhook *hook, uint64_t ms)
{
    lock_take(&hook->lock);
    bool started = hook->started;
    hook->stopping = true;
    hook->ready = false;
    hook->stop_ms = now_ms(hook) + ms;
    lock_give(&hook->lock);
    web_client_wake(hook->web);
    if (started)
        pthread_join(hook->pthread, NULL);
    hook->started = false;
}

void webhook_close(struct webhook *hook)
{
    if (hook == NULL)
        return;
    CHECK(!hook->started && off_thread(&hook->mark));
    web_client_close(hook->web);
    web_target_destroy(hook->target);
    lock_destroy(&hook->lock);
    free(hook);
}
