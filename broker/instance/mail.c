/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "actors/refuse.h"
#include "actors/user_call.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "instance/private.h"
#include "proto/link_answer.h"

/* What a Fetch gets: the mail after its cursor and the presence events after its cursor.
 *
 * The cursors in the request acknowledge everything before them, so a lost answer is simply asked
 * for again: a Batch is made from the first item that is not acknowledged, or behind those of
 * which the Fetch says that they have arrived and are being worked on. A Fetch that finds nothing
 * waits; whatever arrives in the meantime answers it at the end of that turn, so what arrives
 * together leaves together, and while one answer travels the next one grows.
 *
 * Presence is not kept here: the stream is in the store, the instance has a cursor. It asks for
 * the events after it (LINK_QUERY) and keeps one answer, encoded, to put into a Batch. */

/* A call that nobody waits for any more is not handed out: it is taken out of the mail when a Batch
 * comes to it, some at a time. So mail is numbered when a Batch first carries it. */

enum {
    BATCH_OVERHEAD = 64, /* the fields around mail and events */
    MAIL_OVERHEAD = 64,
    BYTES_MAX_LEAST = 512,
    LATE_STEP = 512, /* calls that came too late, in one turn */
    HAVE_MAX = 4096, /* mail that a peer has and has not acknowledged; with more he waits */
    READ_AGAIN_MS = 1000,
};

static bool is_one_way(const struct user_call_message *mail)
{
    return mail->call == 0 && mail->control == 0;
}

/* A backend, this or an earlier one of that name, may know it. */
static bool is_seen(const struct instance *instance, const struct user_call_message *mail)
{
    return mail->mail_seq <= instance->seen_seq || mail->mail_seq <= instance->sent_seq;
}

static uint32_t weight(const struct user_call_message *call)
{
    return (uint32_t)(sizeof(*call) + call->user_size + call->method_size + call->payload_size +
                      user_call_traceparent(call).size);
}

static struct user_call_message *first_of(const struct instance *instance)
{
    return (struct user_call_message *)instance->mail.first;
}

/* No mail, or one at each end; and no bytes without any. */
static void check_ends(const struct instance *instance)
{
    bool none = instance->mail_count == 0;
    CHECK((instance->mail.first == NULL) == none && (instance->mail.last == NULL) == none);
    CHECK(!none || instance->mail_bytes == 0);
}

/* As many as are counted, in the order of their numbers. */
static bool is_whole(const struct instance *instance)
{
    uint32_t count = 0;
    uint64_t bytes = 0, seq = 0;
    const struct user_call_message *mail = first_of(instance);
    for (; mail != NULL; mail = (const struct user_call_message *)mail->header.next) {
        if (mail->mail_seq <= seq)
            return false;
        seq = mail->mail_seq;
        bytes += weight(mail);
        count++;
    }
    return count == instance->mail_count && bytes == instance->mail_bytes;
}

/* Takes out the one behind `before`, or the first. */
static struct user_call_message *take_behind(struct instance *instance, struct message *before)
{
    struct user_call_message *taken =
        (struct user_call_message *)message_take_behind(&instance->mail, before);
    CHECK(taken != NULL && instance->mail_count > 0 && instance->mail_bytes >= weight(taken));
    instance->mail_count--;
    instance->mail_bytes -= weight(taken);
    check_ends(instance);
    if (taken->control == USHER__V1__CONTROL__KIND__DRAIN)
        instance->drain_waits = false;
    if (is_one_way(taken))
        shares_give(&instance->shares, taken->share);
    return taken;
}

struct user_call_message *instance_take_mail(struct instance *instance)
{
    if (instance->mail.first == NULL)
        return NULL;
    struct user_call_message *first = take_behind(instance, NULL);
    first->redelivered = first->redelivered || is_seen(instance, first);
    return first;
}

static void append_numbered(struct instance *instance, struct user_call_message *item)
{
    message_append(&instance->mail, &item->header);
    instance->mail_count++;
    instance->mail_bytes += weight(item);
    check_ends(instance);
}

static void append(struct instance *instance, struct user_call_message *item)
{
    item->mail_seq = ++instance->mail_seq;
    append_numbered(instance, item);
}

void instance_put_moved(struct instance *instance, struct user_call_message *mail)
{
    CHECK(mail->mail_seq > instance->mail_seq);
    instance->mail_seq = mail->mail_seq;
    append_numbered(instance, mail);
    if (is_one_way(mail))
        MEMORY_MUST(shares_take(&instance->shares, mail->share, UINT32_MAX) == 0, "a share");
}

/* --- whose calls they are --------------------------------------------------------------------- */

/* One user's calls at an instance are limited here, by his name, because the instance has them for
 * as long as they last, and the session that asked may end before: who logs out and in again, or
 * takes himself over, is the same user. Logins are nobody's calls: the name is only claimed. What a
 * room asks because a user wants in is one of that user's calls; what it tells its owner is one
 * way, and the room's own. */

static void tell_too_many(const struct instance *instance, const struct user_call_message *call,
                          const char *limit, struct turn *turn)
{
    char name[sizeof(ROOM_KEY) + USERNAME_BYTES_MAX];
    message_copy_text(name, sizeof(name), user_call_sharer(call));
    LOG(turn->log, LIMIT_HIT, LOG_S("limit", limit), LOG_S("user", name),
        LOG_S("service", instance->service));
}

/* One that leaves takes what its heirs refuse if need be. False: he has too many. */
static bool take_share(struct shares *shares, uint64_t key, uint32_t max,
                       const struct instance *instance)
{
    int error;
    MEMORY_MUST((error = shares_take(shares, key, instance->leaving ? UINT32_MAX : max)) != -ENOMEM,
                "a share");
    return error == 0;
}

static uint64_t share_of(const struct user_call_message *call, const struct turn *turn)
{
    struct bytes user = user_call_sharer(call);
    return hash_keyed(turn->settings->requests_key, user.data, user.size);
}

/* Of these nobody knows but the mail that they wait in. */
static bool take_one_way(struct instance *instance, struct user_call_message *call,
                         struct turn *turn)
{
    bool is_news = call->body == MAIL_ROOM_NEWS;
    uint32_t max =
        is_news ? rooms_news_waiting(turn->limits) : limits_one_way_calls_per_user(turn->limits);
    call->share = share_of(call, turn);
    if (take_share(&instance->shares, call->share, max, instance))
        return true;
    tell_too_many(instance, call, is_news ? "rooms.news_waiting" : "limits.one_way_calls_per_user",
                  turn);
    return false;
}

/* Those whose time is over do not count, though they may not have been met yet. */
static bool take_asked(struct instance *instance, const struct user_call_message *call,
                       struct call *entry, struct turn *turn)
{
    uint32_t max = limits_calls_per_user(turn->limits);
    entry->share = call->body == MAIL_LOGIN ? 0 : share_of(call, turn);
    if (call->body == MAIL_LOGIN || take_share(&instance->asked, entry->share, max, instance))
        return true;
    instance_sweep(instance, turn);
    if (take_share(&instance->asked, entry->share, max, instance))
        return true;
    tell_too_many(instance, call, "limits.calls_per_user", turn);
    return false;
}

static void give_asked(struct instance *instance, const struct call *call)
{
    if (call->share != 0)
        shares_give(&instance->asked, call->share);
}

bool instance_close_call(struct instance *instance, uint64_t number, struct call *call)
{
    bool there = calls_take(instance->calls, number, call);
    if (there)
        give_asked(instance, call);
    return there;
}

bool instance_close_next(struct instance *instance, const struct calls_wanted *wanted,
                         uint32_t *places, struct call *call)
{
    bool there = calls_walk_on(instance->calls, wanted, places, call);
    if (there)
        give_asked(instance, call);
    return there;
}

/* --- in -------------------------------------------------------------------------------------- */

static bool has_room(const struct instance *instance, const struct user_call_message *call,
                     const struct turn *turn)
{
    return instance->leaving ||
           (instance->mail_count < link_mail_items(turn->limits) &&
            instance->mail_bytes + weight(call) <= link_mail_bytes(turn->limits));
}

/* Also into the table of those that want an answer. False: no room for it, or too many of his. */
static bool take_in(struct instance *instance, struct user_call_message *call, struct call *entry,
                    struct turn *turn)
{
    if (!has_room(instance, call, turn))
        return false;
    if (call->call == 0)
        return take_one_way(instance, call, turn);
    if (!take_asked(instance, call, entry, turn))
        return false;
    int error;
    MEMORY_MUST((error = calls_add(instance->calls, entry)) != -ENOMEM, "a call");
    CHECK(error == 0);
    return true;
}

void instance_take_call(struct instance *instance, struct user_call_message *call,
                        struct turn *turn)
{
    struct call entry = {.call = call->call,
                         .caller = call->caller,
                         .epoch = call->epoch,
                         .request = call->request,
                         .deadline_ms = call->deadline_ms,
                         .mail_seq = instance->mail_seq + 1,
                         .inner = call->body != MAIL_CALL,
                         .stamp_us = call->stamp_us};
    if (take_in(instance, call, &entry, turn)) {
        append(instance, call);
        return;
    }
    turn_count(turn,
               call->call != 0                ? METRIC_calls_refused
               : call->body == MAIL_ROOM_NEWS ? METRIC_room_news_lost
                                              : METRIC_calls_one_way_refused,
               1);
    if (call->call != 0)
        instance_lose_call(turn, &entry, USHER__V1__ERROR__CODE__BUSY);
    message_destroy(&call->header);
}

void instance_put_control(struct instance *instance, uint8_t kind, struct turn *turn)
{
    CHECK(kind != 0);
    struct bytes none = {0};
    struct user_call_message *item;
    MEMORY_MUST((item = user_call_create(none, none, none, none)) != NULL, "mail");
    item->control = kind;
    append(instance, item);
}

void instance_goaway_done(struct instance *instance, struct turn *turn)
{
    if (instance->goaway)
        CHECK(atomic_fetch_sub_explicit(&turn->counters->goaways, 1, memory_order_release) > 0);
    instance->goaway = false;
}

void instance_rewind_mail(struct instance *instance)
{
    const struct user_call_message *first = first_of(instance);
    CHECK_SLOW(is_whole(instance));
    if (instance->sent_seq > instance->seen_seq)
        instance->seen_seq = instance->sent_seq;
    instance->mail_base = first != NULL ? first->mail_seq - 1 : instance->mail_seq;
    instance->sent_seq = instance->mail_base;
    instance->mail_number = 0;
    CHECK(instance->mail_base <= instance->mail_seq && instance->seen_seq <= instance->mail_seq);
}

/* --- composing -------------------------------------------------------------------------------- */

static uint32_t left_ms(const struct user_call_message *call, const struct turn *turn)
{
    return call->deadline_ms > turn->now_ms ? (uint32_t)(call->deadline_ms - turn->now_ms) : 0;
}

static bool is_redelivered(const struct instance *instance, const struct user_call_message *call)
{
    return call->redelivered || call->mail_seq <= instance->seen_seq;
}

/* Who the client is stands behind the token. */
static int put_login(const struct instance *instance, struct buffer *out,
                     const struct user_call_message *call, struct turn *turn)
{
    struct bytes payload = user_call_payload(call);
    size_t token_size = payload.size - call->client_size;
    const struct auth_call_fields fields = {
        .call = call->call,
        .user = user_call_user(call),
        .token = {payload.data, token_size},
        .address = user_call_method(call),
        .client = {payload.data + token_size, call->client_size},
        .timeout_ms = left_ms(call, turn),
        .redelivered = is_redelivered(instance, call),
    };
    return link_batch_auth(out, call->mail_number, &fields);
}

static int put_user_call(const struct instance *instance, struct buffer *out,
                         const struct user_call_message *call, struct turn *turn)
{
    const struct user_call_fields fields = {
        .call = call->call,
        .user = user_call_user(call),
        .epoch = call->epoch,
        .method = user_call_method(call),
        .payload = user_call_payload(call),
        .timeout_ms = left_ms(call, turn),
        .redelivered = is_redelivered(instance, call),
        .traceparent = user_call_traceparent(call),
    };
    return link_batch_call(out, call->mail_number, &fields);
}

static int put_room_ask(const struct instance *instance, struct buffer *out,
                        const struct user_call_message *call, struct turn *turn)
{
    struct room_ask_fields fields = user_call_room_ask(call);
    fields.timeout_ms = left_ms(call, turn);
    fields.redelivered = is_redelivered(instance, call);
    return link_batch_ask(out, call->mail_number, &fields);
}

static int put_room_news(const struct instance *instance, struct buffer *out,
                         const struct user_call_message *call)
{
    struct room_news_fields fields = user_call_room_news(call);
    fields.redelivered = is_redelivered(instance, call);
    return link_batch_news(out, call->mail_number, &fields);
}

static int put_watch_ask(const struct instance *instance, struct buffer *out,
                         const struct user_call_message *call, struct turn *turn)
{
    struct watch_ask_fields fields = user_call_watch_ask(call);
    fields.timeout_ms = left_ms(call, turn);
    fields.redelivered = is_redelivered(instance, call);
    return link_batch_watch(out, call->mail_number, &fields);
}

static int put_call(const struct instance *instance, struct buffer *out,
                    const struct user_call_message *call, struct turn *turn)
{
    if (call->control != 0)
        return link_batch_control(out, call->mail_number, call->control);
    switch ((enum mail_body)call->body) {
    case MAIL_LOGIN:
        return put_login(instance, out, call, turn);
    case MAIL_ROOM_ASK:
        return put_room_ask(instance, out, call, turn);
    case MAIL_ROOM_NEWS:
        return put_room_news(instance, out, call);
    case MAIL_WATCH_ASK:
        return put_watch_ask(instance, out, call, turn);
    case MAIL_STORED: {
        const struct stored_notice_fields fields = user_call_stored(call);
        return link_batch_stored(out, call->mail_number, &fields);
    }
    case MAIL_CALL:
        break;
    }
    return put_user_call(instance, out, call, turn);
}

/* Its caller was told TIMEOUT, and no Batch of this incarnation has carried it: one that has comes
 * again until it is acknowledged, so that its number is not missed. */
static bool is_late(const struct instance *instance, const struct user_call_message *mail,
                    const struct turn *turn)
{
    return mail->call != 0 && mail->mail_seq > instance->sent_seq &&
           mail->deadline_ms <= turn->now_ms;
}

static void number(struct instance *instance, struct user_call_message *mail)
{
    if (mail->mail_seq <= instance->sent_seq)
        return;
    CHECK(mail->mail_seq <= instance->mail_seq);
    instance->sent_seq = mail->mail_seq;
    mail->mail_number = ++instance->mail_number;
}

/* Gives the last mail that the peer has, though it is not acknowledged; NULL: none. What no Batch
 * has carried nobody has, whatever the Fetch says. *full: he has too many to be looked through. */
static struct message *last_held(const struct instance *instance, bool *full)
{
    uint32_t count = 0;
    struct message *last = NULL;
    const struct user_call_message *mail = first_of(instance);
    while (mail != NULL && mail->mail_seq <= instance->sent_seq &&
           mail->mail_number <= instance->mail_have && count < HAVE_MAX) {
        last = (struct message *)(uintptr_t)&mail->header;
        mail = (const struct user_call_message *)mail->header.next;
        count++;
    }
    *full = count == HAVE_MAX;
    return last;
}

/* Mail from the first on that the peer neither has nor acknowledged, as long as it fits. Gives how
 * many. */
static uint32_t put_mails(struct instance *instance, struct buffer *out, uint32_t room,
                          struct turn *turn)
{
    uint32_t count = 0;
    uint32_t late = 0;
    size_t start = out->size;
    bool full;
    struct message *before = last_held(instance, &full);
    if (full)
        return 0;
    struct user_call_message *mail =
        before != NULL ? (struct user_call_message *)before->next : first_of(instance);
    while (mail != NULL && late < LATE_STEP) {
        struct user_call_message *next = (struct user_call_message *)mail->header.next;
        if (is_late(instance, mail, turn)) {
            message_destroy(&take_behind(instance, before)->header);
            late++;
        } else {
            if (out->size - start + weight(mail) + MAIL_OVERHEAD > room && count > 0)
                break;
            number(instance, mail);
            MEMORY_MUST(put_call(instance, out, mail, turn) == 0, "a batch");
            if (mail->control == USHER__V1__CONTROL__KIND__GOAWAY)
                instance_goaway_done(instance, turn);
            before = &mail->header;
            count++;
        }
        mail = next;
    }
    turn_count(turn, METRIC_calls_late, late);
    if (late == LATE_STEP)
        instance_arm(instance, turn, turn->now_ms + 1); /* the others, in the next turn */
    return count;
}

void instance_drop_events(struct instance *instance)
{
    if (instance->events != NULL)
        message_destroy(&instance->events->header);
    instance->events = NULL;
    instance->events_offset = 0;
}

static uint32_t event_size(const struct instance *instance, uint32_t offset)
{
    const struct query_result_message *events = instance->events;
    CHECK(offset < events->size);
    size_t size =
        link_batch_item_size((struct bytes){events->bytes + offset, events->size - offset});
    CHECK(size > 0);
    return (uint32_t)size;
}

/* Leaves what comes after the cursor, if that is what was read ahead. */
static void skip_events(struct instance *instance)
{
    struct query_result_message *events = instance->events;
    if (events == NULL)
        return;
    if (events->last <= instance->presence_done || events->first > instance->presence_done + 1) {
        instance_drop_events(instance);
        return;
    }
    for (; events->first <= instance->presence_done; events->first++)
        instance->events_offset += event_size(instance, instance->events_offset);
    CHECK(instance->events_offset < events->size); /* its last is behind the cursor */
}

/* As many as fit. */
static uint32_t put_events(const struct instance *instance, struct buffer *out, uint32_t room)
{
    uint32_t from = instance->events_offset;
    uint32_t end = from;
    while (end < instance->events->size && end - from + event_size(instance, end) <= room)
        end += event_size(instance, end);
    if (end > from)
        MEMORY_MUST(buffer_append(out, instance->events->bytes + from, end - from) == 0, "a batch");
    return end - from;
}

static void read_events(struct instance *instance, struct turn *turn)
{
    uint64_t last = atomic_load_explicit(&turn->counters->presence_last, memory_order_acquire);
    if (!instance->presence || instance->reading || instance->events != NULL ||
        instance->presence_done >= last)
        return;
    if (instance->read_again_ms > turn->now_ms) {
        instance_arm(instance, turn, instance->read_again_ms);
        return;
    }
    struct query_message *query = message_create(0, sizeof(*query));
    query->asker = turn->self;
    query->kind = QUERY_PRESENCE;
    query->linked = true;
    query->source = actor_slot(turn->self);
    query->token = query->after = instance->presence_done;
    query->until = last;
    query->bytes_max = link_frame_bytes(turn->limits) / 2;
    query->size = 0;
    struct effect *effect = turn_effect(turn, EFFECT_LINK, 0);
    effect->detail = LINK_QUERY;
    effect->message = &query->header;
    instance->reading = true;
}

void instance_reset_presence(struct instance *instance, uint64_t last)
{
    instance->presence_done = last;
    instance->reset_from = last + 1;
    instance->reset_said = false;
}

void instance_take_events(struct instance *instance, struct query_result_message *result,
                          struct turn *turn)
{
    CHECK(instance->reading);
    instance->reading = false;
    /* A store that fails is not asked again in the same breath. */
    instance->read_again_ms = result->failed ? turn->now_ms + READ_AGAIN_MS : 0;
    instance_drop_events(instance);
    /* The cursor may have moved on while the store was read: then it is asked again whether
     * something is missed by this one. */
    if (result->reset && result->token == instance->presence_done)
        instance_reset_presence(instance, result->stream_last);
    if (result->first != 0) {
        instance->events = result;
        skip_events(instance);
    } else {
        message_destroy(&result->header);
    }
}

static void send_batch(struct instance *instance, struct turn *turn, const struct buffer *items)
{
    size_t offset = turn->out.size;
    CHECK(instance->fetch_exchange != 0);
    MEMORY_MUST(link_answer_batch(&turn->out, (struct bytes){items->data, items->size},
                                  instance->reset_from != 0,
                                  atomic_load_explicit(&turn->counters->presence_last,
                                                       memory_order_acquire)) == 0,
                "a batch");
    instance->reset_said = true;
    instance_answer(turn, instance->fetch_exchange, offset);
    instance->fetch_exchange = 0;
    instance->lost_due_ms = turn->now_ms + link_fetch_timeout_ms(turn->limits);
    instance_arm(instance, turn, instance->lost_due_ms + 1);
}

void instance_answer_fetch(struct instance *instance, struct turn *turn, bool even_if_empty)
{
    CHECK(instance->fetch_exchange != 0 && instance->fetch_bytes_max > BATCH_OVERHEAD);
    struct buffer items = {0};
    skip_events(instance);
    read_events(instance, turn);
    uint32_t room = instance->fetch_bytes_max - BATCH_OVERHEAD;
    uint32_t for_events =
        instance->events != NULL ? instance->events->size - instance->events_offset : 0;
    for_events = for_events < room / 2 ? for_events : room / 2;
    uint32_t count = put_mails(instance, &items, room - for_events, turn);
    if (instance->events != NULL && items.size < room)
        count += put_events(instance, &items, room - (uint32_t)items.size);
    bool reset = instance->reset_from != 0 && !instance->reset_said;
    if (count > 0 || reset || even_if_empty)
        send_batch(instance, turn, &items);
    buffer_fini(&items);
}

/* A cursor beyond the stream is of another life of the store, and acknowledges nothing. One that
 * has come to where the missed events end shows that the reset was heard: it is that of a
 * snapshot, or of later events. */
static void move_cursor(struct instance *instance, uint64_t done, struct turn *turn)
{
    if (done > atomic_load_explicit(&turn->counters->presence_last, memory_order_acquire))
        return;
    if (done > instance->presence_done)
        instance->presence_done = done;
    if (instance->reset_said && done + 1 >= instance->reset_from)
        instance->reset_from = 0;
}

void instance_fetch(struct instance *instance, uint64_t exchange, const Usher__V1__Fetch *fetch,
                    struct turn *turn)
{
    turn_count(turn, METRIC_link_fetches, 1);
    if (instance->fetch_exchange != 0)
        refuse_exchange(turn, instance->fetch_exchange, USHER__V1__REFUSED__CODE__BUSY,
                        "another Fetch of this link came");
    /* What was never sent cannot be acknowledged, whatever the cursor says. */
    while (instance->mail.first != NULL && first_of(instance)->mail_seq <= instance->sent_seq &&
           first_of(instance)->mail_number <= fetch->mail_done)
        message_destroy(&instance_take_mail(instance)->header);
    move_cursor(instance, fetch->presence_done, turn);
    uint32_t bytes_max = link_frame_bytes(turn->limits);
    if (fetch->bytes_max != 0 && fetch->bytes_max < bytes_max)
        bytes_max = fetch->bytes_max < BYTES_MAX_LEAST ? BYTES_MAX_LEAST : fetch->bytes_max;
    uint32_t wait_ms = link_park_ms(turn->limits);
    if (fetch->wait_ms != 0 && fetch->wait_ms < wait_ms)
        wait_ms = fetch->wait_ms;
    instance->mail_have = fetch->mail_have;
    instance->fetch_exchange = instance->heard_exchange = exchange;
    instance->fetched_ms = turn->wall_ms;
    instance->gone = false;
    instance->fetch_bytes_max = bytes_max;
    instance->park_due_ms = turn->now_ms + wait_ms;
    instance_arm(instance, turn, instance->park_due_ms + 1);
}
