/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "actors/session.h"
#include "base/check.h"
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
    size_t offset = turn->out.size;
    CHECK_DEBT(broker_frame_message(&turn->out, &fields) == 0, "no memory for a message");
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

static uint16_t refusal(struct session *session, const struct deliver_message *message,
                        struct turn *turn)
{
    const struct settings *settings = turn->settings;
    if (session->status == SESSION_NONE)
        return USHER__V1__ERROR__CODE__NOT_ONLINE;
    struct message_fields fields = {.seq = session->next_seq, .from = deliver_name(message),
                                    .payload = deliver_payload(message),
                                    .time_ms = message->time_ms, .redelivered = true};
    if (message->payload_size + 128u > settings->frame_bytes_max &&
        broker_frame_message_size(&fields) > settings->frame_bytes_max) {
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
        session->inbox = calloc(1, sizeof(*session->inbox));
    CHECK_DEBT(session->inbox != NULL, "no memory for an inbox");
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
        deliver_refuse(turn, message, code);
        return;
    }
    message->seq = session->next_seq++;
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

void session_keep(struct session *session, struct deliver_message *message)
{
    inbox_push(inbox_of(session), message);
}

void session_acknowledge(struct session *session, struct turn *turn, uint64_t seq)
{
    while (session->inbox != NULL && session->inbox->first != NULL &&
           session->inbox->first->seq <= seq)
        deliver_done(session, turn, inbox_pop(session->inbox));
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
    uint64_t seq = first;
    if (session->inbox != NULL)
        for (struct deliver_message *message = session->inbox->first; message != NULL;
             message = (struct deliver_message *)message->header.next) {
            message->seq = seq++;
            message->redelivered = true;
        }
    session->next_seq = seq;
    session->acked_seq = first - 1;
}

void session_age(struct session *session, struct turn *turn)
{
    uint32_t age = turn->settings->inbox_age_ms;
    while (age != 0 && session->inbox != NULL && session->inbox->first != NULL &&
           turn->now_ms >= session->inbox->first->arrived_ms + age) {
        /* Not by their difference: the sender's thread may have read the clock after this one. */
        if (session->inbox->first->seq > session->acked_seq)
            session->acked_seq = session->inbox->first->seq;
        deliver_refuse(turn, inbox_pop(session->inbox), USHER__V1__ERROR__CODE__UNDELIVERED);
    }
    drop_empty_inbox(session);
}
