/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "actors/push.h"
#include "actors/tracing.h"
#include "base/memory.h"
#include "proto/broker_frame.h"
#include "client.pb-c.h"

/* A message on its last step: into the inbox, onto the connection, or back as refused.
 *
 * With acks, a message stays in the inbox until it is acknowledged, whether sent or not. Without,
 * it is done as soon as it is handed to the connection, and only a session without a connection
 * keeps any. Either way the inbox is in order of seq and its limits decide what is taken: what
 * was accepted is delivered or reported. */

static size_t append_frame(struct turn *turn, const struct deliver_message *message)
{
    size_t offset = turn->out.size;
    const struct push_body *body = push_body_of(message);
    if (body != NULL) {
        struct bytes tail = {body->tail, body->tail_size};
        MEMORY_MUST(broker_frame_messages_of(&turn->out, message->seq, &tail, 1,
                                             message->redelivered) == 0, "a message");
        return offset;
    }
    struct message_fields fields = {
        .seq = message->seq,
        .payload = deliver_payload(message),
        .time_ms = message->time_ms,
        .redelivered = message->redelivered,
    };
    if (message->from_service)
        fields.service = deliver_name(message);
    else
        fields.from = deliver_name(message);
    MEMORY_MUST(broker_frame_message(&turn->out, &fields) == 0, "a message");
    return offset;
}

static void hand_out(struct session *session, struct deliver_message *message, struct turn *turn)
{
    size_t offset = append_frame(turn, message);
    turn_send(turn, session->conn, offset);
    turn_mark(turn, HISTOGRAM_delivery_latency, message->stamp_us);
    message->stamp_us = 0; /* not what a redelivery takes */
    turn_count(turn, message->sent || message->redelivered ? METRIC_messages_redelivered
                                                           : METRIC_messages_delivered, 1);
    trace_message(session, turn, TRACE_SENT, message);
    message->sent = true;
}

void deliver_refuse(struct turn *turn, struct deliver_message *message, uint16_t code)
{
    turn_count(turn, METRIC_messages_refused, 1);
    turn_result(turn, message->sender, message->request, message->sender_epoch, 0, code);
    message_destroy(&message->header);
}

/* Done with a message that its sender wanted to see delivered. */
static void deliver_done(struct session *session, struct turn *turn,
                         struct deliver_message *message)
{
    if (message->until_delivered)
        turn_result(turn, message->sender, message->request, message->sender_epoch,
                    session->epoch, 0);
    message_destroy(&message->header);
}

/* Whether a look at the frame itself is needed: everything else in it is less than that. */
static bool may_be_too_large(uint32_t payload_bytes, const struct settings *settings)
{
    return payload_bytes + 128u > settings->frame_bytes_max;
}

/* As the largest frame that it can become: under the next seq, redelivered. */
static bool is_too_large(const struct session *session, const struct deliver_message *message,
                         const struct settings *settings)
{
    if (!may_be_too_large(message->payload_size, settings))
        return false;
    struct message_fields fields = {.seq = session->next_seq, .from = deliver_name(message),
                                    .payload = deliver_payload(message),
                                    .time_ms = message->time_ms, .redelivered = true};
    return broker_frame_message_size(&fields) > settings->frame_bytes_max;
}

static uint16_t refusal(struct session *session, const struct deliver_message *message,
                        struct turn *turn)
{
    const struct settings *settings = turn->settings;
    if (session->status == SESSION_NONE)
        return USHER__V1__ERROR__CODE__NOT_ONLINE;
    if (is_too_large(session, message, settings)) {
        turn_count(turn, METRIC_errors_too_large, 1);
        return USHER__V1__ERROR__CODE__TOO_LARGE;
    }
    const struct inbox empty = {0};
    bool kept = session->acks || session->conn == 0;
    if (kept &&
        !inbox_has_room(session->inbox != NULL ? session->inbox : &empty, inbox_bytes_of(message),
                        settings->inbox_messages_max, settings->inbox_bytes_max)) {
        turn_count(turn, METRIC_inbox_full, 1);
        return USHER__V1__ERROR__CODE__INBOX_FULL;
    }
    return 0;
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

void session_deliver(struct session *session, struct deliver_message *message, struct turn *turn)
{
    uint16_t code = refusal(session, message, turn);
    if (code != 0) {
        trace_message(session, turn, TRACE_REFUSED, message);
        deliver_refuse(turn, message, code);
        return;
    }
    message->seq = session->next_seq++;
    trace_message(session, turn, TRACE_QUEUED, message);
    turn_count(turn, METRIC_messages_accepted, 1);
    if (!message->until_delivered) {
        turn_result(turn, message->sender, message->request, message->sender_epoch,
                    session->epoch, 0);
        message->request = 0; /* answered: given up later, it has nobody to tell */
    }
    if (session->conn != 0)
        hand_out(session, message, turn);
    if (session->acks || session->conn == 0)
        session_keep(session, message);
    else
        deliver_done(session, turn, message);
}

/* Straight onto the connection: nobody keeps, follows or may refuse any of them. */
static bool passes(const struct session *session, const struct push_bundle *bundle,
                   const struct settings *settings)
{
    return session->status != SESSION_NONE && session->conn != 0 && !session->acks &&
           !is_traced(session) && !may_be_too_large(bundle->payload_bytes_max, settings);
}

static void pass(struct session *session, const struct push_bundle *bundle, struct turn *turn)
{
    size_t offset = turn->out.size;
    struct bytes tails[PUSH_BUNDLE_MAX];
    for (uint32_t i = 0; i < bundle->count; i++)
        tails[i] = (struct bytes){bundle->bodies[i].tail, bundle->bodies[i].tail_size};
    MEMORY_MUST(broker_frame_messages_of(&turn->out, session->next_seq, tails, bundle->count,
                                         false) == 0, "messages");
    session->next_seq += bundle->count;
    turn_send(turn, session->conn, offset);
    turn_count(turn, METRIC_messages_accepted, bundle->count);
    turn_count(turn, METRIC_messages_delivered, bundle->count);
}

void session_deliver_bundle(struct session *session, struct bundle_message *message,
                            struct turn *turn)
{
    const struct push_bundle *bundle = push_bundle_of(message);
    if (passes(session, bundle, turn->settings)) {
        pass(session, bundle, turn);
    } else {
        for (uint32_t i = 0; i < bundle->count; i++)
            session_deliver(session, push_single(message, i), turn);
    }
    message_destroy(&message->header);
}

void session_keep(struct session *session, struct deliver_message *message)
{
    inbox_push(inbox_of(session), push_keep(message));
}

void session_acknowledge(struct session *session, struct turn *turn, uint64_t seq)
{
    struct kept_message kept;
    if (session->inbox != NULL && !is_traced(session))
        inbox_forget(session->inbox, seq);
    while (session->inbox != NULL && inbox_oldest(session->inbox, &kept) && kept.seq <= seq) {
        struct deliver_message *message = inbox_pop(session->inbox);
        trace_message(session, turn, TRACE_ACKED, message);
        deliver_done(session, turn, message);
    }
    drop_empty_inbox(session);
    if (seq > session->acked_seq)
        session->acked_seq = seq;
}

void session_replay(struct session *session, struct turn *turn, uint64_t last_seq)
{
    if (session->inbox == NULL)
        return;
    struct inbox old = *session->inbox;
    *session->inbox = (struct inbox){0};
    struct deliver_message *message;
    while ((message = inbox_pop(&old)) != NULL) {
        message->redelivered = message->redelivered || message->sent;
        if (message->seq > last_seq)
            hand_out(session, message, turn);
        if (session->acks)
            inbox_push(session->inbox, message);
        else
            deliver_done(session, turn, message);
    }
    drop_empty_inbox(session);
}

void session_renumber(struct session *session, uint64_t first)
{
    session->next_seq = first;
    if (session->inbox != NULL) {
        inbox_renumber(session->inbox, first);
        session->next_seq += session->inbox->count;
    }
    session->acked_seq = first - 1;
}

void session_age(struct session *session, struct turn *turn)
{
    uint32_t age = turn->settings->inbox_age_ms;
    struct kept_message kept;
    while (age != 0 && session->inbox != NULL && inbox_oldest(session->inbox, &kept) &&
           turn->now_ms >= kept.arrived_ms + age) {
        /* Not by their difference: the sender's thread may have read the clock after this one. */
        if (kept.seq > session->acked_seq)
            session->acked_seq = kept.seq;
        deliver_refuse(turn, inbox_pop(session->inbox), USHER__V1__ERROR__CODE__UNDELIVERED);
    }
    drop_empty_inbox(session);
}
