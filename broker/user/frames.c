/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/refuse.h"
#include "backend.pb-c.h"
#include "base/check.h"
#include "client.pb-c.h"
#include "proto/client_frame.h"
#include "proto/frame.h"
#include "user/tracing.h"
#include "user/user.h"

/* A batch of frames as it was read. The front end has found their lengths; here each is read in
 * place and handled, a limited number in each turn, so that nobody's long batch delays others; what
 * is left waits in the session and the actor reminds itself. Frames of a connection that no longer
 * holds the session have no effect: that is how a takeover silences its predecessor, whatever is
 * still on the way. */

enum { RATE_RETRY_MS = 1000 };

void user_protocol_error(struct session *session, struct turn *turn, uint64_t id,
                         const char *detail)
{
    CHECK(session->conn != 0);
    turn_count(turn, METRIC_closed_protocol, 1);
    LOG(turn->log, PROTOCOL_ERROR, LOG_S("user", turn->name), LOG_U("epoch", session->epoch),
        LOG_S("detail", detail));
    refuse_request(turn, session->conn, id, USHER__V1__ERROR__CODE__PROTOCOL, detail, 0);
    refuse_shut(turn, session->conn, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR, detail, 0, false);
    change_detach(session, turn, USHER__V1__PRESENCE_EVENT__CAUSE__PROTOCOL);
    turn_note(turn, detail, NULL, 0, 0);
}

/* The same for all who come from where he comes from. Nobody is closed for it: who it is that sends
 * too much is not to be seen here, and whoever is too fast by himself has his own limit. */
static bool refuse_source(struct session *session, const struct client_frame *frame,
                          struct turn *turn)
{
    uint32_t wait_ms =
        source_rate_take(turn->settings->source_rates, session->source, turn->now_ms);
    if (wait_ms == 0)
        return false;
    turn_count(turn, METRIC_requests_limited_source, 1);
    if (source_rate_is_news(session->source, turn->now_ms))
        LOG(turn->log, LIMIT_HIT, LOG_S("limit", "limits.requests_per_second_per_source"),
            LOG_S("address", session_address(session)), LOG_S("user", turn->name));
    answer_error(session, turn, frame->id, USHER__V1__ERROR__CODE__RATE_LIMITED,
                 "more requests from your address than limits.requests_per_second_per_source",
                 wait_ms);
    return true;
}

/* How many of these come is up to those who send to him, and nobody is kept from leaving. Behind a
 * Logout no frame is looked at until that is stored or has failed; who tries again sooner than he
 * was told pays for it. */
static bool is_free(const struct session *session, const struct client_frame *frame,
                    const struct turn *turn)
{
    if (frame->body == CLIENT_LOGOUT)
        return session_logout_wait_ms(session, turn) == 0;
    return frame->body == CLIENT_ACK && frame->ack.seq > delivery_acked_seq(session);
}

/* True: the frame came too fast, and was refused. */
static bool refuse_flood(struct session *session, const struct client_frame *frame,
                         struct turn *turn)
{
    uint32_t per_second = limits_requests_per_second(turn->limits);
    if (is_free(session, frame, turn))
        return false;
    uint32_t wait_ms = rate_take(&session->rate, per_second, turn->now_ms);
    if (wait_ms == 0)
        return refuse_source(session, frame, turn);
    turn_count(turn, METRIC_requests_limited, 1);
    answer_error(session, turn, frame->id, USHER__V1__ERROR__CODE__RATE_LIMITED,
                 "more requests than limits.requests_per_second", wait_ms);
    if (!rate_is_hopeless(&session->rate, per_second))
        return true;
    turn_count(turn, METRIC_closed_rate_limited, 1);
    uint32_t refused = session->rate.refused;
    LOG(turn->log, RATE_LIMITED, LOG_S("user", turn->name), LOG_U("epoch", session->epoch));
    refuse_shut(turn, session->conn, USHER__V1__CLOSE__REASON__RATE_LIMITED,
                "more requests than limits.requests_per_second, and it goes on", RATE_RETRY_MS,
                false);
    session->rate.refused = 0; /* who comes back begins with what is left of his allowance */
    change_detach(session, turn, USHER__V1__PRESENCE_EVENT__CAUSE__PROTOCOL);
    turn_note(turn, "it went on above its rate after so many refusals",
              "limits.requests_per_second", per_second, refused);
    return true;
}

static void handle_unknown(struct session *session, const struct client_frame *frame,
                           struct turn *turn)
{
    turn_count(turn, METRIC_errors_protocol, 1);
    answer_error(session, turn, frame->id, USHER__V1__ERROR__CODE__PROTOCOL,
                 "a frame without a body that this version knows", 0);
}

/* To the handler of its row. */
static void dispatch(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    switch (frame->body) {
    case CLIENT_NONE:
        handle_unknown(session, frame, turn);
        break;
#define FIELD(body, number, kind, name)
#define BODY(number, NAME, name, handler, fields) \
    case CLIENT_##NAME:                           \
        handler(session, frame, turn);            \
        break;
#include "proto/client_bodies.def"
#undef BODY
#undef FIELD
    }
}

static void handle_one(struct session *session, struct bytes bytes,
                       const struct frames_message *batch, struct turn *turn)
{
    struct client_frame frame;
    CHECK(session->conn == batch->conn && turn->change == NULL);
    if (client_frame_read(bytes, &frame) != 0) {
        user_protocol_error(session, turn, 0, "a frame that is not a valid ClientFrame");
        return;
    }
    if (!batch->welcomed) {
        user_protocol_error(session, turn, frame.id, "a request before the Welcome");
        return;
    }
    trace_frame(session, turn, &frame, batch->arrived_us);
    if (requests_find(session->requests, frame.id) != NULL) {
        user_protocol_error(session, turn, frame.id, "a second request under an id in flight");
        return;
    }
    if (refuse_flood(session, &frame, turn))
        return;
    dispatch(session, &frame, turn);
    if (session->conn != 0)
        session->loss_untold = false; /* he goes on, so he has read his Welcome */
}

/* Handles up to *budget frames of one batch. True: the batch is done with. */
static bool handle_batch(struct session *session, struct frames_message *frames, uint32_t *budget,
                         struct turn *turn)
{
    while (frames->done < frames->size) {
        struct bytes left = {frames->bytes + frames->done, frames->size - frames->done};
        struct bytes frame;
        size_t used;
        if (session->conn != frames->conn || session->conn == 0) {
            turn_count(turn, METRIC_frames_stale, 1);
            return true;
        }
        if (*budget == 0 || turn->change != NULL)
            return false;
        CHECK(frame_next(left, left.size, &frame, &used) == 1); /* whole ones, says net.h */
        frames->done += (uint32_t)used;
        CHECK(frames->done <= frames->size);
        (*budget)--;
        turn_count(turn, METRIC_frames_in, 1);
        turn->stamp_us = frames->stamp_us;
        handle_one(session, frame, frames, turn);
    }
    return true;
}

static void batch_done(struct frames_message *frames, struct turn *turn)
{
    turn_effect(turn, EFFECT_CONSUMED, frames->conn);
    message_destroy(&frames->header);
}

/* As many frames as one turn may handle; the rest waits behind what others have sent. */
static void go_on(struct session *session, struct turn *turn)
{
    /* As many as a receiver takes in one turn, so that neither outruns the other. */
    uint32_t budget = limits_turn_messages(turn->limits);
    while (session->unread.first != NULL) {
        struct frames_message *first = (struct frames_message *)session->unread.first;
        if (!handle_batch(session, first, &budget, turn)) {
            struct message *more = message_create(MESSAGE_MORE_FRAMES, sizeof(*more));
            turn_post(turn, turn->self, more);
            return;
        }
        message_take(&session->unread);
        batch_done(first, turn);
    }
}

void user_frames(struct session *session, struct message *message, struct turn *turn)
{
    const struct frames_message *frames = (const struct frames_message *)message;
    bool waits = session->unread.first != NULL;
    CHECK(frames->done == 0 && frames->size <= message->size - sizeof(*frames));
    message_append(&session->unread, message);
    if (!waits)
        go_on(session, turn);
}

void user_more_frames(struct session *session, struct message *message, struct turn *turn)
{
    message_destroy(message);
    go_on(session, turn);
}

void frames_drop(struct session *session, struct turn *turn)
{
    struct message *first;
    while ((first = message_take(&session->unread)) != NULL) {
        turn_count(turn, METRIC_frames_stale, 1);
        batch_done((struct frames_message *)first, turn);
    }
}

void user_second_login(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    user_protocol_error(session, turn, frame->id, "this connection is logged in already");
}
