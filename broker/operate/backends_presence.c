/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "actors/held.h"
#include "admin/route.h"
#include "base/check.h"
#include "operate/backends_private.h"
#include "operate/presence_json.h"

/* The numbered stream of presence, behind a cursor: as pages, for which one may wait (a long poll),
 * and as server-sent events, each with its seq as id.
 *
 * The cursor is the asker's, and nothing of him is kept here: who comes again, to this start of the
 * broker or to a later one, says what he has processed and goes on behind it. So nothing is lost or
 * told twice while what he wants is still kept, and when it is not he is told so (GONE) before
 * anything else: he lists who is there, and goes on behind the presence_seq of the first page.
 *
 * Many streams tell the same events, and making JSON is most of what that costs: an event's text is
 * made once, and kept for the others who tell it soon (TOLD_EVENTS).
 *
 * A stream has one page at a time, and asks for the next when that is written: whoever reads slowly
 * holds no more than one. Full pages follow each other at once. When all is told it is parked, and
 * the thread that follows (backends_follow.c) asks for all that are, some fifty times a second at
 * most. */

enum { WAIT_MS_MAX = 60000, STREAM_ROWS = 256, BEAT_MS = 15000 };

uint64_t presence_last(const struct backends *backends)
{
    return atomic_load_explicit(&backends->options.counters->presence_last, memory_order_acquire);
}

struct link_request_message *presence_question(const struct ask *ask)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Events events = USHER__V1__EVENTS__INIT;
    events.after = ask->after;
    events.limit = ask->limit;
    command.body_case = USHER__V1__COMMAND__BODY_EVENTS;
    command.events = &events;
    return ask_wrap(ask, &command);
}

/* --- a page ----------------------------------------------------------------------------------- */

static unsigned show_gone(uint64_t last, json_t *answer)
{
    unsigned status = admin_fail(
        answer, 410, "GONE",
        "events behind that cursor are not kept any more; list the sessions, and go on behind the "
        "presence_seq of the first page");
    json_object_set_new(answer, "presence_last", json_integer((json_int_t)last));
    return status;
}

/* Takes the events. */
static unsigned show_page(json_t *events, uint64_t next, uint64_t last, json_t *answer)
{
    json_object_set_new(answer, "code", json_string("OK"));
    json_object_set_new(answer, "events", events);
    json_object_set_new(answer, "next", json_integer((json_int_t)next));
    json_object_set_new(answer, "presence_last", json_integer((json_int_t)last));
    return 200;
}

static void count_told(struct backends *backends, size_t count)
{
    metrics_add(backends->options.metrics, backends->options.block, METRIC_http_events, count);
}

static unsigned show_events(struct backends *backends, struct ask *ask,
                            const Usher__V1__EventList *list, json_t *answer)
{
    json_t *events = json_array();
    for (size_t i = 0; i < list->n_events; i++) {
        const struct event_fields fields = show_event(list->events[i]);
        json_array_append_new(events, presence_json(&fields));
        ask->after = fields.seq;
    }
    count_told(backends, list->n_events);
    return show_page(events, ask->after, list->presence_last, answer);
}

/* --- a piece of a stream ---------------------------------------------------------------------- */

/* False: no memory. */
static bool put(struct ask *ask, const char *text)
{
    return held_append(&ask->text, text, strlen(text)) == 0;
}

/* The text of an event, made once for all streams that tell it. False: no memory. */
static bool make_told(struct told_event *told, const Usher__V1__PresenceEvent *event)
{
    const struct event_fields fields = show_event(event);
    char id[40];
    json_t *json = presence_json(&fields);
    char *text = json_dumps(json, JSON_COMPACT);
    held_fini(&told->text);
    snprintf(id, sizeof(id), "id: %" PRIu64 "\ndata: ", fields.seq);
    bool whole = text != NULL && held_append(&told->text, id, strlen(id)) == 0 &&
                 held_append(&told->text, text, strlen(text)) == 0 &&
                 held_append(&told->text, "\n\n", 2) == 0;
    told->seq = whole ? fields.seq : 0;
    free(text);
    json_decref(json);
    return whole;
}

static bool put_event(struct backends *backends, struct ask *ask,
                      const Usher__V1__PresenceEvent *event)
{
    struct told_event *told = &backends->told[event->seq % TOLD_EVENTS];
    if (told->seq != event->seq && !make_told(told, event))
        return false;
    if (held_append(&ask->text, told->text.data, told->text.size) != 0)
        return false;
    ask->after = event->seq;
    return true;
}

void presence_fini(struct backends *backends)
{
    for (unsigned i = 0; i < TOLD_EVENTS; i++)
        held_fini(&backends->told[i].text);
}

/* What is not whole is not told: the stream ends, and who comes again gets it. */
static void put_events(struct backends *backends, struct ask *ask, const Usher__V1__EventList *list)
{
    for (size_t i = 0; i < list->n_events && !ask->ends; i++) {
        size_t before = ask->text.size;
        ask->ends = !put_event(backends, ask, list->events[i]);
        if (ask->ends)
            ask->text.size = before;
    }
    ask->more = list->n_events > 0 && ask->after < list->presence_last;
    count_told(backends, list->n_events);
}

static void put_reset(struct ask *ask, uint64_t last)
{
    char text[96];
    snprintf(text, sizeof(text), "event: reset\ndata: {\"presence_last\":%" PRIu64 "}\n\n", last);
    (void)put(ask, text);
    ask->ends = true;
}

/* Where it begins, before anything has happened; and how soon to come again when it ends. */
static bool put_start(struct ask *ask)
{
    char text[64];
    snprintf(text, sizeof(text), "retry: 1000\nid: %" PRIu64 "\n\n", ask->after);
    return put(ask, text);
}

/* A page has come, or a fault, which ends the stream. */
static void take_page(struct backends *backends, struct ask *ask)
{
    unsigned status;
    struct buffer frame = ask_take_frame(backends, ask);
    json_t *fault = json_object();
    const Usher__V1__Result *result = ask_result(backends, &frame, fault, &status);
    if (result == NULL || result->value_case != USHER__V1__RESULT__VALUE_EVENTS)
        ask->ends = true;
    else if (result->events->reset)
        put_reset(ask, result->events->presence_last);
    else
        put_events(backends, ask, result->events);
    json_decref(fault);
    held_fini(&frame);
}

static size_t copy_text(struct ask *ask, char *to, size_t room)
{
    size_t left = ask->text.size - ask->written;
    size_t size = left < room ? left : room;
    memcpy(to, ask->text.data + ask->written, size);
    ask->written += size;
    if (ask->written == ask->text.size) {
        held_fini(&ask->text);
        ask->written = 0;
    }
    return size;
}

enum next { NEXT_PAGE, NEXT_QUESTION, NEXT_BEAT, NEXT_WAIT, NEXT_END };

/* What a stream does that has nothing to write. NEXT_WAIT: it is parked and suspended. */
static enum next next_of(struct backends *backends, struct ask *ask)
{
    enum next next = NEXT_WAIT;
    lock_take(&backends->lock);
    CHECK(ask->state == ASK_IDLE || ask->state == ASK_ANSWERED);
    if (ask->ends || ask->gone || backends->closing) {
        next = NEXT_END;
    } else if (ask->state == ASK_ANSWERED) {
        next = NEXT_PAGE;
    } else if (ask->more) {
        next = NEXT_QUESTION;
    } else if (ask->due_ms != 0 && ask->due_ms <= env_monotonic_ms(backends->options.env)) {
        next = NEXT_BEAT;
        ask->due_ms = 0;
    } else {
        ask->state = ASK_PARKED;
        ask->due_ms = env_monotonic_ms(backends->options.env) + BEAT_MS;
        ask->suspended = true;
        admin_suspend(ask->exchange);
        pthread_cond_signal(&backends->changed);
    }
    lock_give(&backends->lock);
    return next;
}

ssize_t backends_read(void *context, void *own, struct exchange *exchange, char *to, size_t room)
{
    struct backends *backends = context;
    struct ask *ask = own;
    for (;;) {
        if (ask->text.size > 0)
            return (ssize_t)copy_text(ask, to, room);
        switch (next_of(backends, ask)) {
        case NEXT_PAGE:
            take_page(backends, ask);
            ask->due_ms = 0;
            break;
        case NEXT_BEAT:
            ask->ends = !put(ask, ":\n\n");
            break;
        case NEXT_QUESTION:
            ask->more = false;
            if (!ask_post(backends, ask, presence_question(ask)))
                return -1;
            return 0;
        case NEXT_WAIT:
            return 0;
        case NEXT_END:
            return -1;
        }
    }
}

void backends_gone(void *context, void *own)
{
    struct backends *backends = context;
    struct ask *ask = own;
    lock_take(&backends->lock);
    ask->gone = true;
    if (ask->state == ASK_PARKED) {
        ask->state = ASK_IDLE;
        ask_wake(backends, ask);
    }
    lock_give(&backends->lock);
}

/* --- a request -------------------------------------------------------------------------------- */

/* A long poll waits for the next event. False: it has come by now, or nobody waits any more. */
static bool park(struct backends *backends, struct ask *ask)
{
    lock_take(&backends->lock);
    bool waits = !backends->closing && presence_last(backends) <= ask->after;
    if (waits) {
        ask->state = ASK_PARKED;
        ask->due_ms = ask->until_ms;
        ask->suspended = true;
        admin_suspend(ask->exchange);
        pthread_cond_signal(&backends->changed);
    }
    lock_give(&backends->lock);
    return waits;
}

static unsigned begin_page(struct backends *backends, struct ask *ask, json_t *answer)
{
    uint64_t last = presence_last(backends);
    if (ask->after >= last && !ask->waits)
        return show_page(json_array(), ask->after, last, answer);
    if (ask->after >= last && park(backends, ask))
        return ADMIN_LATER;
    return ask_post(backends, ask, presence_question(ask)) ? ADMIN_LATER : ask_draining(answer);
}

static unsigned begin_stream(struct backends *backends, struct ask *ask, json_t *answer)
{
    ask->limit = STREAM_ROWS;
    if (!put_start(ask))
        return admin_fail(answer, 503, "UNAVAILABLE", "no memory");
    if (ask->after >= presence_last(backends))
        return ADMIN_STREAM;
    return ask_post(backends, ask, presence_question(ask)) ? ADMIN_LATER : ask_draining(answer);
}

/* False: it is none. */
static bool take_cursor(const struct admin_query *query, unsigned route, const char **text,
                        uint64_t *after)
{
    bool again = route == BACKEND_STREAM && query->event_id[0] != '\0';
    *text = again ? query->event_id : query->after_name;
    return (*text)[0] == '\0' || route_number(*text, after);
}

unsigned presence_begin(struct backends *backends, struct exchange *exchange, unsigned route,
                        const struct admin_query *query, json_t *answer)
{
    uint64_t last = presence_last(backends);
    uint64_t after = last;
    const char *cursor;
    bool waits = route == BACKEND_STREAM || query->wait_ms > 0;
    uint64_t wait_ms = query->wait_ms < WAIT_MS_MAX ? query->wait_ms : WAIT_MS_MAX;
    if (!take_cursor(query, route, &cursor, &after))
        return admin_fail(answer, 400, "MALFORMED", "the cursor is the seq of an event, or 0");
    if (after > last) /* another life of the store */
        return show_gone(last, answer);
    if (route == BACKEND_PRESENCE && cursor[0] == '\0')
        return show_page(json_array(), last, last, answer);
    struct ask *ask = ask_take(backends, exchange, query, route, waits);
    if (ask == NULL)
        return ask_busy(backends, answer,
                        waits ? "as many wait for events as http.waits says"
                              : "as many requests wait as http.requests says");
    ask->after = after;
    ask->limit = query->limit != 0 ? query->limit : HTTP_ROWS;
    ask->until_ms = env_monotonic_ms(backends->options.env) + wait_ms;
    return route == BACKEND_STREAM ? begin_stream(backends, ask, answer)
                                   : begin_page(backends, ask, answer);
}

/* Nothing has happened while it was parked. */
static bool has_waited(struct backends *backends, const struct ask *ask)
{
    lock_take(&backends->lock);
    bool waited = ask->state == ASK_IDLE;
    lock_give(&backends->lock);
    return waited;
}

unsigned presence_go_on(struct backends *backends, struct ask *ask, json_t *answer)
{
    unsigned status = ADMIN_STREAM;
    if (has_waited(backends, ask))
        return show_page(json_array(), ask->after, presence_last(backends), answer);
    struct buffer frame = ask_take_frame(backends, ask);
    const Usher__V1__Result *result = ask_result(backends, &frame, answer, &status);
    ask->due_ms = 0;
    if (result != NULL && result->value_case != USHER__V1__RESULT__VALUE_EVENTS)
        status = show_result(result, false, answer);
    else if (result != NULL && result->events->reset)
        status = show_gone(result->events->presence_last, answer);
    else if (result != NULL && ask->route == BACKEND_STREAM)
        put_events(backends, ask, result->events);
    else if (result != NULL)
        status = show_events(backends, ask, result->events, answer);
    held_fini(&frame);
    return status;
}
