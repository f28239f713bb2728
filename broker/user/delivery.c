/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "actors/push.h"
#include "actors/refuse.h"
#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/broker_frame.h"
#include "proto/number.h"
#include "user/shelf.h"
#include "user/tracing.h"
#include "user/user.h"

/* A message on its last step: into the inbox, onto the connection, or back as refused.
 *
 * With acks, a message stays in the inbox until it is acknowledged, whether sent or not. Without,
 * it is done as soon as it is handed to the connection, and only a session without a connection
 * keeps any. Either way the inbox is in order of seq and its limits decide what is taken: what
 * was accepted is delivered or reported.
 *
 * A transient message knows only the connection: it goes to that at once or nowhere
 * (docs/decisions/0116). */

static void append_frame(struct turn *turn, const struct deliver_message *message)
{
    const struct push_body *body = push_body_of(message);
    if (body != NULL && !message->stored) {
        struct bytes tail = {body->tail, body->tail_size};
        MEMORY_MUST(
            broker_frame_messages_of(&turn->out, message->seq, &tail, 1, message->redelivered) == 0,
            "a message");
        return;
    }
    struct message_fields fields = {
        .seq = message->seq,
        .payload = deliver_payload(message),
        .time_ms = message->time_ms,
        .redelivered = message->redelivered,
        .traceparent = deliver_traceparent(message),
        .mid = deliver_mid(message),
    };
    if (message->from_service)
        fields.service = deliver_name(message);
    else
        fields.from = deliver_name(message);
    MEMORY_MUST(broker_frame_message(&turn->out, &fields) == 0, "a message");
}

/* To the connection, which takes it. */
static void hand_out(struct session *session, struct deliver_message *message, struct turn *turn)
{
    size_t offset = turn->out.size;
    append_frame(turn, message);
    output_send(session, turn, offset);
    turn_mark(turn, HISTOGRAM_delivery_latency, message->stamp_us);
    message->stamp_us = 0; /* not what a redelivery takes */
    turn_count(turn,
               message->sent || message->redelivered ? METRIC_messages_redelivered
                                                     : METRIC_messages_delivered,
               1);
    turn_count(turn, METRIC_stored_delivered, message->stored);
    trace_message(session, turn, TRACE_SENT, message);
    message->sent = true;
}

/* Done with a message that its sender wanted to see delivered. */
static void deliver_done(struct session *session, struct turn *turn,
                         struct deliver_message *message)
{
    if (message->until_delivered)
        turn_result(turn, message->sender, message->request, message->sender_epoch, session->epoch,
                    0);
    message_destroy(&message->header);
}

/* Whose inbox holds no more than this part of what it may, acknowledges what he gets. */
enum { LISTENS_PART = 64 };

/* Everything in a Message frame but its payload and traceparent is less than that. */
enum { FRAME_MORE_BYTES = 128 };

static uint32_t frame_bytes_of(const struct deliver_message *message)
{
    return deliver_size(message) - message->name_size;
}

/* Whether a look at the frame itself is needed. */
static bool may_be_too_large(uint32_t payload_bytes, const struct limits *limits)
{
    return payload_bytes + FRAME_MORE_BYTES > limits_frame_bytes(limits);
}

/* As the largest frame that it can become: under the next seq, redelivered. */
static bool is_too_large(const struct session *session, const struct deliver_message *message,
                         const struct limits *limits)
{
    if (!may_be_too_large(frame_bytes_of(message), limits))
        return false;
    struct message_fields fields = {.seq = session->next_seq,
                                    .from = deliver_name(message),
                                    .payload = deliver_payload(message),
                                    .time_ms = message->time_ms,
                                    .redelivered = true,
                                    .traceparent = deliver_traceparent(message),
                                    .mid = message->keep_s != 0 ? NUMBER_TOLD_MAX : 0};
    return broker_frame_message_size(&fields) > limits_frame_bytes(limits);
}

/* At once, past nobody else who waits. */
static bool goes_out(const struct session *session, uint32_t payload_bytes, const struct turn *turn)
{
    return session->conn != 0 && (session->inbox == NULL || session->inbox->waiting == 0) &&
           output_takes(session, turn, payload_bytes + FRAME_MORE_BYTES);
}

static uint16_t too_large(struct turn *turn)
{
    turn_count(turn, METRIC_errors_too_large, 1);
    return USHER__V1__ERROR__CODE__TOO_LARGE;
}

/* Shares bound what one player leaves in one inbox; there are as many inboxes as users. So of the
 * memory that all have together, messages of players to those who do not read get half: who comes
 * in, who talks to somebody that listens, and services have the rest (docs/decisions/0101). */
static bool is_to_wait_elsewhere(const struct session *session,
                                 const struct deliver_message *message, const struct limits *limits)
{
    if (message->from_service || !memory_half_held())
        return false;
    uint32_t bytes = session->inbox != NULL ? session->inbox->bytes : 0;
    return session->conn == 0 || bytes > limits_inbox_bytes(limits) / LISTENS_PART;
}

static struct inbox_limits inbox_limits_of(const struct turn *turn)
{
    return (struct inbox_limits){(uint32_t)limits_inbox_messages(turn->limits),
                                 (uint32_t)limits_inbox_bytes(turn->limits),
                                 turn->settings->requests_key};
}

static enum inbox_room room_for(struct session *session, const struct deliver_message *message,
                                const struct inbox_limits *limits)
{
    struct inbox empty = {0};
    return inbox_room_for(session->inbox != NULL ? session->inbox : &empty, message, limits);
}

/* Why the inbox does not take it; 0: it does. */
static uint16_t inbox_refusal(struct session *session, const struct deliver_message *message,
                              struct turn *turn)
{
    const struct inbox_limits limits = inbox_limits_of(turn);
    /* Its sender may wait as long as he likes, unless the connection takes it without the inbox. */
    if (inbox_bytes_of(message) > limits.bytes_max && (session->acks || session->conn == 0))
        return too_large(turn);
    if (is_to_wait_elsewhere(session, message, turn->limits)) {
        turn_count(turn, METRIC_inbox_memory_full, 1);
        return USHER__V1__ERROR__CODE__BUSY;
    }
    enum inbox_room room = room_for(session, message, &limits);
    if (room == INBOX_HAS_ROOM)
        return 0;
    turn_count(turn, METRIC_inbox_full, 1);
    if (room == INBOX_HAS_OTHER_SENDERS)
        turn_count(turn, METRIC_inbox_share_full, 1);
    return USHER__V1__ERROR__CODE__INBOX_FULL;
}

/* `kept`: it is to stay in the inbox. */
static uint16_t refusal(struct session *session, const struct deliver_message *message, bool kept,
                        struct turn *turn)
{
    if (session->status == SESSION_NONE)
        return USHER__V1__ERROR__CODE__NOT_ONLINE;
    if (is_too_large(session, message, turn->limits))
        return too_large(turn);
    if (shelf_waits(session) && !message->transient) {
        turn_count(turn, METRIC_inbox_full, 1);
        return USHER__V1__ERROR__CODE__INBOX_FULL; /* it would overtake what is on the disk */
    }
    return kept ? inbox_refusal(session, message, turn) : 0;
}

static struct inbox *inbox_of(struct session *session)
{
    if (session->inbox == NULL)
        MEMORY_MUST((session->inbox = calloc(1, sizeof(*session->inbox))) != NULL, "an inbox");
    return session->inbox;
}

static void drop_empty_inbox(struct session *session)
{
    if (session->inbox != NULL && session->inbox->count == 0) {
        free(session->inbox);
        session->inbox = NULL;
    }
}

/* What is worth something only now. It never waits, and never overtakes: where anything is on its
 * way to him already, it would come late, and the next one of its kind will be newer. */
static bool goes_now(const struct session *session, uint32_t payload_bytes, uint64_t arrived_ms,
                     const struct turn *turn)
{
    return goes_out(session, payload_bytes, turn) && !output_is_behind(session) &&
           !shelf_waits(session) &&
           turn->now_ms <= arrived_ms + limits_transient_age_ms(turn->limits);
}

/* It has no number, and nobody holds it afterwards. */
static void take_transient(struct session *session, struct deliver_message *message,
                           struct turn *turn)
{
    CHECK(message->seq == 0 && !message->until_delivered);
    uint16_t code = refusal(session, message, false, turn);
    if (code != 0) {
        trace_message(session, turn, TRACE_REFUSED, message);
        refuse_message(turn, message, code);
        return;
    }
    if (!goes_now(session, frame_bytes_of(message), message->arrived_ms, turn)) {
        trace_message(session, turn, TRACE_DROPPED, message);
        refuse_transient(turn, message, session->epoch);
        return;
    }
    size_t offset = turn->out.size;
    append_frame(turn, message);
    output_send(session, turn, offset);
    turn_mark(turn, HISTOGRAM_delivery_latency, message->stamp_us);
    turn_count(turn, METRIC_transient_delivered, 1);
    trace_message(session, turn, TRACE_SENT, message);
    turn_result(turn, message->sender, message->request, message->sender_epoch, session->epoch, 0);
    message_destroy(&message->header);
}

uint16_t delivery_stored_refusal(struct session *session, const struct deliver_message *message,
                                 struct turn *turn)
{
    bool fits = inbox_bytes_of(message) <= limits_inbox_bytes(turn->limits) &&
                !is_too_large(session, message, turn->limits);
    return fits ? 0 : too_large(turn);
}

bool delivery_has_room(struct session *session, const struct deliver_message *message,
                       struct turn *turn)
{
    const struct inbox_limits limits = inbox_limits_of(turn);
    bool kept = session->acks || !goes_out(session, frame_bytes_of(message), turn);
    return !kept || (!is_to_wait_elsewhere(session, message, turn->limits) &&
                     room_for(session, message, &limits) == INBOX_HAS_ROOM);
}

void delivery_take_stored(struct session *session, struct deliver_message *message,
                          struct turn *turn)
{
    CHECK(message->stored && message->request == 0);
    bool goes = goes_out(session, frame_bytes_of(message), turn);
    message->seq = session->next_seq++;
    trace_message(session, turn, TRACE_QUEUED, message);
    turn_count(turn, METRIC_messages_accepted, 1);
    if (goes)
        hand_out(session, message, turn);
    if (session->acks || !goes) {
        delivery_keep(session, message);
        return;
    }
    shelf_done(turn, message->mid);
    message_destroy(&message->header);
}

void delivery_take(struct session *session, struct deliver_message *message, struct turn *turn)
{
    if (message->transient) {
        take_transient(session, message, turn);
        return;
    }
    bool goes = goes_out(session, frame_bytes_of(message), turn);
    bool kept = session->acks || !goes;
    CHECK(message->header.kind == MESSAGE_DELIVER);
    uint16_t code = refusal(session, message, kept, turn);
    if (code != 0) {
        trace_message(session, turn, TRACE_REFUSED, message);
        refuse_message(turn, message, code);
        return;
    }
    message->seq = session->next_seq++;
    trace_message(session, turn, TRACE_QUEUED, message);
    turn_count(turn, METRIC_messages_accepted, 1);
    if (!message->until_delivered) {
        turn_result(turn, message->sender, message->request, message->sender_epoch, session->epoch,
                    0);
        message->request = 0; /* answered: given up later, it has nobody to tell */
    }
    if (goes)
        hand_out(session, message, turn);
    if (kept)
        delivery_keep(session, message);
    else
        deliver_done(session, turn, message);
}

/* Straight onto the connection: nobody keeps, follows or may refuse any of them. */
static bool passes(const struct session *session, const struct push_bundle *bundle,
                   const struct turn *turn)
{
    uint32_t bytes = bundle->count * (bundle->payload_bytes_max + FRAME_MORE_BYTES);
    if (session->status == SESSION_NONE || is_traced(session) || shelf_waits(session) ||
        may_be_too_large(bundle->payload_bytes_max, turn->limits))
        return false;
    return bundle->transient ? goes_now(session, bytes, bundle->arrived_ms, turn)
                             : !session->acks && goes_out(session, bytes, turn);
}

static void pass(struct session *session, const struct push_bundle *bundle, struct turn *turn)
{
    size_t offset = turn->out.size;
    struct bytes tails[PUSH_BUNDLE_MAX];
    for (uint32_t i = 0; i < bundle->count; i++)
        tails[i] = (struct bytes){bundle->bodies[i].tail, bundle->bodies[i].tail_size};
    uint64_t first_seq = bundle->transient ? 0 : session->next_seq;
    MEMORY_MUST(broker_frame_messages_of(&turn->out, first_seq, tails, bundle->count, false) == 0,
                "messages");
    output_send(session, turn, offset);
    if (bundle->transient) {
        turn_count(turn, METRIC_transient_delivered, bundle->count);
        return;
    }
    session->next_seq += bundle->count;
    turn_count(turn, METRIC_messages_accepted, bundle->count);
    turn_count(turn, METRIC_messages_delivered, bundle->count);
}

void delivery_take_bundle(struct session *session, struct bundle_message *message,
                          struct turn *turn)
{
    CHECK(message->header.kind == MESSAGE_BUNDLE);
    const struct push_bundle *bundle = push_bundle_of(message);
    if (passes(session, bundle, turn))
        pass(session, bundle, turn);
    else
        for (uint32_t i = 0; i < bundle->count; i++)
            delivery_take(session, push_single(message, i), turn);
    message_destroy(&message->header);
}

void delivery_keep(struct session *session, struct deliver_message *message)
{
    CHECK(message->seq < session->next_seq && !message->transient);
    inbox_push(inbox_of(session), push_own(message));
}

void delivery_acknowledge(struct session *session, struct turn *turn, uint64_t seq)
{
    struct kept_message kept;
    uint64_t mid = 0; /* the highest: they rise */
    if (session->inbox != NULL && !is_traced(session))
        mid = inbox_forget(session->inbox, seq);
    while (session->inbox != NULL && inbox_oldest(session->inbox, &kept) && kept.seq <= seq) {
        struct deliver_message *message = inbox_pop(session->inbox);
        mid = message->stored ? message->mid : mid;
        trace_message(session, turn, TRACE_ACKED, message);
        deliver_done(session, turn, message);
    }
    shelf_done(turn, mid);
    drop_empty_inbox(session);
}

void delivery_drop_done(struct session *session, uint64_t last_mid)
{
    struct kept_message kept;
    while (session->inbox != NULL && inbox_oldest(session->inbox, &kept) && kept.mid != 0 &&
           kept.mid <= last_mid)
        message_destroy(&inbox_pop(session->inbox)->header);
    drop_empty_inbox(session);
}

uint64_t delivery_sent_seq(const struct session *session)
{
    CHECK(session->inbox == NULL || session->inbox->unseen < session->next_seq);
    return session->next_seq - 1 - (session->inbox != NULL ? session->inbox->unseen : 0);
}

uint64_t delivery_acked_seq(const struct session *session)
{
    CHECK(session->inbox == NULL || session->inbox->count < session->next_seq);
    return session->next_seq - 1 - (session->inbox != NULL ? session->inbox->count : 0);
}

static void append_kept(struct turn *turn, const struct kept_message *kept)
{
    struct message_fields fields = {
        .seq = kept->seq,
        .payload = kept->payload,
        .time_ms = kept->time_ms,
        .redelivered = kept->redelivered || kept->sent,
        .traceparent = kept->traceparent,
        .mid = kept->mid,
    };
    if (kept->from_service)
        fields.service = kept->name;
    else
        fields.from = kept->name;
    MEMORY_MUST(broker_frame_message(&turn->out, &fields) == 0, "a message");
}

/* The oldest one that waits. With acks it stays, otherwise it is done with. */
static void feed_one(struct session *session, const struct kept_message *kept, struct turn *turn)
{
    size_t offset = turn->out.size;
    append_kept(turn, kept);
    output_send(session, turn, offset);
    turn_count(turn,
               kept->sent || kept->redelivered ? METRIC_messages_redelivered
                                               : METRIC_messages_delivered,
               1);
    turn_count(turn, METRIC_stored_delivered, kept->mid != 0);
    trace_kept(session, turn, TRACE_SENT, kept);
    if (!session->acks)
        shelf_done(turn, kept->mid);
    struct deliver_message *held =
        session->acks ? inbox_sent(session->inbox) : inbox_pop(session->inbox);
    if (held == NULL)
        return;
    turn_mark(turn, HISTOGRAM_delivery_latency, held->stamp_us);
    held->stamp_us = 0; /* not what a redelivery takes */
    if (!session->acks)
        deliver_done(session, turn, held);
}

void delivery_feed(struct session *session, struct turn *turn)
{
    struct kept_message kept;
    delivery_age(session, turn);
    while (
        session->conn != 0 && session->inbox != NULL && inbox_next(session->inbox, &kept) &&
        output_takes(session, turn, kept.payload.size + kept.traceparent.size + FRAME_MORE_BYTES))
        feed_one(session, &kept, turn);
    drop_empty_inbox(session);
}

void delivery_renumber(struct session *session, uint64_t first)
{
    session->next_seq = first;
    if (session->inbox != NULL) {
        inbox_renumber(session->inbox, first);
        session->next_seq += session->inbox->count;
    }
}

void delivery_age(struct session *session, struct turn *turn)
{
    uint32_t age = limits_inbox_age_ms(turn->limits);
    struct kept_message kept;
    while (age != 0 && session->inbox != NULL && inbox_oldest(session->inbox, &kept) &&
           kept.mid == 0 && turn->now_ms >= kept.arrived_ms + age)
        /* Not by their difference: the sender's thread may have read the clock after this one. */
        refuse_message(turn, inbox_pop(session->inbox), USHER__V1__ERROR__CODE__UNDELIVERED);
    drop_empty_inbox(session);
}

void user_deliver(struct session *session, struct message *message, struct turn *turn)
{
    struct deliver_message *deliver = (struct deliver_message *)message;
    if (deliver->keep_s != 0) /* for whoever comes: it has no epoch_wanted */
        shelf_take(session, deliver, turn);
    else if (deliver->epoch_wanted != 0 && deliver->epoch_wanted != session->epoch)
        refuse_message(turn, deliver, RESULT_STALE_EPOCH);
    else
        delivery_take(session, deliver, turn);
}

void user_bundle(struct session *session, struct message *message, struct turn *turn)
{
    delivery_take_bundle(session, (struct bundle_message *)message, turn);
}
