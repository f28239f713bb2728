/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_ACTORS_STAGE_USER_H
#define USHER_TESTS_ACTORS_STAGE_USER_H

/* The user "ann" on the stage: everything that can reach his actor. Connections are small numbers
 * (10, 20, ...), other actors numbers from 901 on. */

#include "actors/push.h"
#include "base/listeners.h"
#include "unit/actors/stage.h"

enum { OTHER = 901 };

static inline void stage_receive(struct stage *stage, struct message *message)
{
    stage_begin(stage);
    if (message_is_transient(message) && output_is_unseen(&stage->session, &stage->turn))
        output_look(&stage->session, &stage->turn, stage->unsent);
    user_receive(&stage->session, message, &stage->turn);
    stage_end(stage);
}

/* The store has answered: 0 or an error. */
static inline void stage_commit(struct stage *stage, int error)
{
    struct change *change = stage->change;
    assert_non_null(change);
    stage->change = NULL;
    change->error = error;
    stage_begin(stage);
    user_committed(&stage->session, change, &stage->turn);
    assert_null(change->cause);
    free(change);
    stage_end(stage);
}

/* --- from the front end ----------------------------------------------------------------------- */

static inline void stage_attach(struct stage *stage, uint64_t conn, bool acks)
{
    struct bytes rooms = bytes_of_text(stage->rooms != NULL ? stage->rooms : "");
    struct attach_message *attach = message_create(MESSAGE_ATTACH, sizeof(*attach) + rooms.size);
    assert_non_null(attach);
    bytes_put((uint8_t *)(attach + 1), rooms);
    attach->conn = conn;
    attach->id = 1;
    attach->token_ends_ms = stage->token_ends_ms;
    attach->last_mid = 0;
    attach->stamp_us = 0;
    attach->acks = acks;
    attach->listener = LISTENER_tls; /* not the one that is 0 */
    strcpy(attach->user, "ann");
    snprintf(attach->address, sizeof(attach->address), "10.0.0.%u:7", (unsigned)conn);
    snprintf(attach->client, sizeof(attach->client), "client of %u", (unsigned)conn);
    stage_receive(stage, &attach->header);
}

static inline void stage_login(struct stage *stage, uint64_t conn, bool acks)
{
    stage_attach(stage, conn, acks);
    stage_commit(stage, 0);
    assert_int_equal(stage->session.conn, conn);
}

/* With the secret of the last Welcome. */
static inline struct resume_message *resume_create(struct stage *stage, uint64_t conn,
                                                   uint64_t last_seq)
{
    struct resume_message *resume = message_create(MESSAGE_RESUME, sizeof(*resume));
    assert_non_null(resume);
    resume->position_count = 0;
    resume->conn = conn;
    resume->id = 1;
    resume->epoch = stage->session.epoch;
    resume->last_seq = last_seq;
    resume->received_seq = 0;
    resume->last_mid = 0;
    resume->listener = LISTENER_tcp;
    memcpy(resume->secret, stage->secret, SECRET_BYTES);
    snprintf(resume->address, sizeof(resume->address), "10.0.0.%u:7", (unsigned)conn);
    return resume;
}

static inline void stage_resume(struct stage *stage, uint64_t conn, uint64_t last_seq)
{
    stage_receive(stage, &resume_create(stage, conn, last_seq)->header);
}

static inline void stage_conn_end(struct stage *stage, uint64_t conn, enum loss loss)
{
    struct conn_end_message *end = conn_end_create(conn, loss);
    assert_non_null(end);
    stage_receive(stage, &end->header);
}

static inline void stage_detach(struct stage *stage)
{
    stage_conn_end(stage, stage->session.conn, LOSS_GONE);
    stage_commit(stage, 0);
    assert_int_equal(stage->session.status, SESSION_IS_DETACHED);
}

static inline void stage_bare(struct stage *stage, enum message_kind kind)
{
    struct message *message = message_create(kind, sizeof(*message));
    assert_non_null(message);
    stage_receive(stage, message);
}

/* A tick for due_ms is on its way; far ones may be rounded up a little. */
#define EXPECT_TICK_FOR(stage_, due_ms_) \
    assert_in_range((stage_)->timer_ms, (due_ms_), (due_ms_) + 50)

/* The tick that is on its way arrives, `late_ms` after its time. */
static inline void stage_tick(struct stage *stage, uint64_t late_ms)
{
    assert_int_not_equal(stage->timer_ms, 0);
    assert_true(stage->timer_ms + late_ms >= stage->now_ms);
    stage->now_ms = stage->timer_ms + late_ms;
    stage->timer_ms = 0;
    stage_bare(stage, MESSAGE_TICK);
}

static inline void stage_stop(struct stage *stage)
{
    struct stop_message *stop = message_create(MESSAGE_STOP, sizeof(*stop));
    stop->later = false;
    stop->why = "the node was stopped";
    assert_non_null(stop);
    stop->retry_after_ms = 700;
    stage_receive(stage, &stop->header);
}

static inline struct restore_message *restore_create(struct stage *stage, uint64_t epoch, bool acks)
{
    struct bytes rooms = bytes_of_text(stage->rooms != NULL ? stage->rooms : "");
    struct restore_message *restore =
        message_create(MESSAGE_RESTORE, sizeof(*restore) + rooms.size);
    assert_non_null(restore);
    bytes_put((uint8_t *)(restore + 1), rooms);
    restore->saved = false;
    restore->unnumbered = true;
    restore->loss_untold = restore->stored_left = false;
    restore->next_seq = 0;
    restore->inbox = NULL;
    restore->epoch = epoch;
    restore->since_ms = 4000;
    restore->token_ends_ms = stage->token_ends_ms;
    restore->acks = acks;
    restore->listener = LISTENERS;
    memset(restore->secret, 77, SECRET_BYTES);
    memset(stage->secret, 77, SECRET_BYTES);
    strcpy(restore->address, "10.9.9.9:9");
    strcpy(restore->client, "stored");
    return restore;
}

static inline void stage_restore(struct stage *stage, uint64_t epoch, bool acks)
{
    stage_receive(stage, &restore_create(stage, epoch, acks)->header);
}

/* --- frames of the client: put any number, then play them as one batch ------------------------ */

static inline void put_frame(struct stage *stage, const Usher__V1__ClientFrame *frame)
{
    size_t size = usher__v1__client_frame__get_packed_size(frame);
    uint8_t *to = buffer_reserve(&stage->input, size + FRAME_PREFIX_BYTES_MAX);
    assert_non_null(to);
    assert_true(size < 1 << 14);
    size_t prefix = 0;
    if (size >= 128)
        to[prefix++] = (uint8_t)(size | 0x80);
    to[prefix++] = (uint8_t)(size >= 128 ? size >> 7 : size);
    stage->input.size += prefix + usher__v1__client_frame__pack(frame, to + prefix);
}

static inline void put_bytes(struct stage *stage, const void *data, uint8_t size)
{
    assert_int_equal(buffer_append(&stage->input, &size, 1), 0);
    assert_int_equal(buffer_append(&stage->input, data, size), 0);
}

static inline void put_send_of(struct stage *stage, uint64_t id, Usher__V1__Send *send)
{
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_SEND;
    frame.send = send;
    put_frame(stage, &frame);
}

static inline void put_send_bytes(struct stage *stage, uint64_t id, const char *to,
                                  const void *payload, size_t size, uint32_t until)
{
    Usher__V1__Send send = USHER__V1__SEND__INIT;
    send.to = (char *)to;
    send.payload = (ProtobufCBinaryData){size, (uint8_t *)payload};
    send.until = until;
    put_send_of(stage, id, &send);
}

static inline void put_transient(struct stage *stage, uint64_t id, const char *to,
                                 const char *payload, uint32_t until)
{
    Usher__V1__Send send = USHER__V1__SEND__INIT;
    send.to = (char *)to;
    send.payload = (ProtobufCBinaryData){strlen(payload), (uint8_t *)payload};
    send.until = until;
    send.transient = true;
    put_send_of(stage, id, &send);
}

static inline void put_stored(struct stage *stage, uint64_t id, const char *to, const char *payload,
                              uint32_t keep_s, uint64_t tag)
{
    Usher__V1__Send send = USHER__V1__SEND__INIT;
    send.to = (char *)to;
    send.payload = (ProtobufCBinaryData){strlen(payload), (uint8_t *)payload};
    send.keep_s = keep_s;
    send.tag = tag;
    put_send_of(stage, id, &send);
}

static inline void put_send(struct stage *stage, uint64_t id, const char *to, const char *payload)
{
    put_send_bytes(stage, id, to, payload, strlen(payload), USHER__V1__SEND__UNTIL__ACCEPTED);
}

static inline void put_call_of(struct stage *stage, uint64_t id, const char *service,
                               const char *method, size_t payload_bytes, uint32_t timeout_ms)
{
    Usher__V1__Call call = USHER__V1__CALL__INIT;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    uint8_t *payload = malloc(payload_bytes + 1);
    assert_non_null(payload);
    memset(payload, 'p', payload_bytes);
    call.service = (char *)service;
    call.method = (char *)method;
    call.payload = (ProtobufCBinaryData){payload_bytes, payload};
    call.timeout_ms = timeout_ms;
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_CALL;
    frame.call = &call;
    put_frame(stage, &frame);
    free(payload);
}

static inline void put_traced_call(struct stage *stage, uint64_t id, const char *traceparent)
{
    Usher__V1__Call call = USHER__V1__CALL__INIT;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    call.service = (char *)"shop";
    call.method = (char *)"buy";
    call.traceparent = (char *)traceparent;
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_CALL;
    frame.call = &call;
    put_frame(stage, &frame);
}

static inline void put_call(struct stage *stage, uint64_t id, uint32_t timeout_ms)
{
    put_call_of(stage, id, "shop", "buy", 1, timeout_ms);
}

static inline void put_ack(struct stage *stage, uint64_t seq)
{
    Usher__V1__Ack ack = USHER__V1__ACK__INIT;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    ack.seq = seq;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_ACK;
    frame.ack = &ack;
    put_frame(stage, &frame);
}

static inline void put_ping(struct stage *stage, uint64_t id, uint64_t stamp)
{
    Usher__V1__Ping ping = USHER__V1__PING__INIT;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    ping.stamp = stamp;
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_PING;
    frame.ping = &ping;
    put_frame(stage, &frame);
}

static inline void put_logout(struct stage *stage, uint64_t id)
{
    Usher__V1__Logout logout = USHER__V1__LOGOUT__INIT;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_LOGOUT;
    frame.logout = &logout;
    put_frame(stage, &frame);
}

static inline void put_login(struct stage *stage, uint64_t id)
{
    Usher__V1__Login login = USHER__V1__LOGIN__INIT;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    login.username = (char *)"ann";
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_LOGIN;
    frame.login = &login;
    put_frame(stage, &frame);
}

static inline struct frames_message *frames_create(struct stage *stage, uint64_t conn,
                                                   bool welcomed)
{
    struct frames_message *frames =
        message_create(MESSAGE_FRAMES, sizeof(*frames) + stage->input.size);
    assert_non_null(frames);
    frames->arrived_us = 0;
    frames->conn = conn;
    frames->welcomed = welcomed;
    frames->done = 0;
    frames->size = (uint32_t)stage->input.size;
    memcpy(frames->bytes, stage->input.data, stage->input.size);
    stage->input.size = 0;
    return frames;
}

static inline void stage_play(struct stage *stage, uint64_t conn)
{
    stage_receive(stage, &frames_create(stage, conn, true)->header);
}

/* --- from other actors ------------------------------------------------------------------------ */

static inline struct deliver_message *deliver_from_bob(struct stage *stage, uint64_t request,
                                                       const char *payload)
{
    struct deliver_message *message = deliver_create(bytes_of_text("bob"), bytes_of_text(payload));
    assert_non_null(message);
    message->sender = OTHER;
    message->sender_epoch = 9;
    message->request = request;
    message->time_ms = stage->wall_ms;
    message->arrived_ms = stage->now_ms;
    return message;
}

static inline void stage_deliver(struct stage *stage, uint64_t request, const char *payload)
{
    stage_receive(stage, &deliver_from_bob(stage, request, payload)->header);
}

static inline void stage_transient(struct stage *stage, uint64_t request, const char *payload)
{
    struct deliver_message *message = deliver_from_bob(stage, request, payload);
    message->transient = true;
    stage_receive(stage, &message->header);
}

static inline void stage_deliver_until(struct stage *stage, uint64_t request, const char *payload)
{
    struct deliver_message *message = deliver_from_bob(stage, request, payload);
    message->until_delivered = true;
    stage_receive(stage, &message->header);
}

/* How a Send of ann's ended. */
static inline void stage_result(struct stage *stage, uint64_t request, uint64_t asker_epoch,
                                uint16_t code)
{
    struct result_message *result = message_create(MESSAGE_RESULT, sizeof(*result));
    result->offset = result->mid = 0;
    assert_non_null(result);
    result->request = request;
    result->asker_epoch = asker_epoch;
    result->epoch = code == 0 || code == RESULT_DROPPED ? 33 : 0;
    result->code = code;
    stage_receive(stage, &result->header);
}

static inline void stage_call_result(struct stage *stage, uint64_t request, uint64_t call,
                                     uint64_t epoch, uint16_t code)
{
    struct call_result_message *result =
        call_result_create(code, 2, bytes_of_text(code == 0 ? "sold" : ""));
    assert_non_null(result);
    result->request = request;
    result->call = call;
    result->epoch = epoch;
    stage_receive(stage, &result->header);
}

static inline struct kick_message *kick_create(uint64_t epoch)
{
    struct kick_message *kick = message_create(MESSAGE_KICK, sizeof(*kick));
    assert_non_null(kick);
    kick->by = OTHER;
    kick->request = 44;
    kick->epoch = epoch;
    kick->reason = USHER__V1__CLOSE__REASON__KICKED;
    kick->retry_after_ms = 500;
    kick->do_not_return = true;
    strcpy(kick->detail, "enough");
    strcpy(kick->kicker, "shop/1");
    return kick;
}

#endif
