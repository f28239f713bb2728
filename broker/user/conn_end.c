/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/refuse.h"
#include "backend.pb-c.h"
#include "base/check.h"
#include "client.pb-c.h"
#include "user/user.h"

/* The connection is lost or must go. The late end of a connection that was replaced meanwhile finds
 * another one bound and does nothing: remove by handle, never by name. */

struct loss_row {
    uint32_t reason; /* 0: nobody is there to read a Close */
    uint8_t cause;
    enum metric_id metric;
    const char *detail;
};

static const struct loss_row losses[] = {
    [LOSS_GONE] = {0, USHER__V1__PRESENCE_EVENT__CAUSE__LOST, METRIC_COUNT, ""},
    [LOSS_PROTOCOL] = {USHER__V1__CLOSE__REASON__PROTOCOL_ERROR,
                       USHER__V1__PRESENCE_EVENT__CAUSE__PROTOCOL, METRIC_closed_protocol,
                       "a frame length of more than five bytes"},
    [LOSS_TOO_LARGE] = {USHER__V1__CLOSE__REASON__PROTOCOL_ERROR,
                        USHER__V1__PRESENCE_EVENT__CAUSE__PROTOCOL, METRIC_errors_too_large,
                        "a frame larger than frame_bytes_max"},
    [LOSS_SILENT] = {USHER__V1__CLOSE__REASON__HEARTBEAT_TIMEOUT,
                     USHER__V1__PRESENCE_EVENT__CAUSE__HEARTBEAT, METRIC_closed_heartbeat,
                     "nothing was heard for two heartbeats"},
    [LOSS_SLOW] = {USHER__V1__CLOSE__REASON__SLOW_CONSUMER,
                   USHER__V1__PRESENCE_EVENT__CAUSE__SLOW_CONSUMER, METRIC_closed_slow_consumer,
                   "the client does not read what it is sent"},
    [LOSS_MESSAGE] = {USHER__V1__CLOSE__REASON__PROTOCOL_ERROR,
                      USHER__V1__PRESENCE_EVENT__CAUSE__PROTOCOL, METRIC_closed_protocol,
                      "it breaks the rules of WebSocket"},
    [LOSS_FLOOD] = {USHER__V1__CLOSE__REASON__RATE_LIMITED,
                    USHER__V1__PRESENCE_EVENT__CAUSE__PROTOCOL, METRIC_closed_rate_limited,
                    "too many control frames (ws.control_per_second)"},
};

static void log_loss(struct session *session, const struct loss_row *row, enum loss loss,
                     struct turn *turn)
{
    if (row->metric != METRIC_COUNT)
        turn_count(turn, row->metric, 1);
    if (loss == LOSS_SILENT)
        LOG(turn->log, HEARTBEAT_TIMEOUT, LOG_S("user", turn->name),
            LOG_U("epoch", session->epoch));
    else if (loss == LOSS_SLOW)
        LOG(turn->log, SLOW_CONSUMER, LOG_S("user", turn->name), LOG_U("epoch", session->epoch));
    else if (loss != LOSS_GONE)
        LOG(turn->log, PROTOCOL_ERROR, LOG_S("user", turn->name), LOG_U("epoch", session->epoch),
            LOG_S("detail", row->detail));
}

/* For the history, which says the numbers beside it. */
static const char *words_of(const struct conn_end_message *end)
{
    switch (end->loss) {
    case LOSS_GONE:
        return end->limit != NULL ? "memory was short"
               : end->reset       ? "the connection broke"
                                  : "the client closed the connection";
    case LOSS_SILENT:
        return "";
    default:
        return end->detail != NULL ? end->detail : losses[end->loss].detail;
    }
}

void user_conn_end(struct session *session, struct message *message, struct turn *turn)
{
    struct conn_end_message *end = (struct conn_end_message *)message;
    if (session->conn != end->conn || session->conn == 0) {
        turn_count(turn, METRIC_events_stale, 1);
        LOG(turn->log, STALE_EVENT, LOG_S("user", turn->name), LOG_U("epoch", session->epoch));
        message_destroy(message);
        return;
    }
    if (session->unread.first != NULL && end->loss != LOSS_SLOW) {
        /* What it sent before it ended comes first. */
        turn_post(turn, turn->self, message);
        return;
    }
    CHECK(end->loss >= LOSS_GONE && end->loss <= LOSS_FLOOD);
    const struct loss_row *row = &losses[end->loss];
    log_loss(session, row, end->loss, turn);
    frames_drop(session, turn);
    if (row->reason != 0)
        refuse_shut(turn, session->conn, row->reason, row->detail, 0, false);
    else
        turn_effect(turn, EFFECT_RELEASE, session->conn);
    change_detach(session, turn, row->cause);
    turn_note(turn, words_of(end), end->limit, end->bound, end->value);
    message_destroy(message);
}
