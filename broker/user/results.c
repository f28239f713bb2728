/* SPDX-License-Identifier: Apache-2.0 */
#include "client.pb-c.h"
#include "user/friends.h"
#include "user/shelf.h"
#include "user/user.h"

/* What others have answered to a Send or a Call, for the client. What comes for a request that has
 * its answer, or of an earlier login, is late, and counted. */

static const char *explain(uint16_t code)
{
    switch (code) {
    case USHER__V1__ERROR__CODE__NOT_ONLINE:
        return "that user has no session";
    case USHER__V1__ERROR__CODE__INBOX_FULL:
        return "the receiver's inbox is full, or holds your share of it";
    case USHER__V1__ERROR__CODE__BUSY:
        return "the receiver, or the room, is busy";
    case USHER__V1__ERROR__CODE__TOO_LARGE:
        return "it would be larger than its receiver can get";
    case USHER__V1__ERROR__CODE__UNDELIVERED:
        return "the message was given up before it was acknowledged";
    case USHER__V1__ERROR__CODE__NO_SERVICE:
        return "no instance of that service is linked";
    case USHER__V1__ERROR__CODE__SERVICE_LOST:
        return "the instance that had the call is lost";
    case USHER__V1__ERROR__CODE__NO_ROOM:
        return "there is no room of that name";
    case USHER__V1__ERROR__CODE__NOT_MEMBER:
        return "you are not in that room";
    case USHER__V1__ERROR__CODE__FORBIDDEN:
        return "only services publish in that room";
    case USHER__V1__ERROR__CODE__RATE_LIMITED:
        return "more in this room than rooms.deliveries_per_second, or more messages to users who "
               "are "
               "away than inbox.offline_per_hour";
    case USHER__V1__ERROR__CODE__UNAVAILABLE:
        return "it could not be stored; try again";
    default:
        return "";
    }
}

static uint32_t retry_hint_ms(uint16_t code)
{
    switch (code) {
    case USHER__V1__ERROR__CODE__BUSY:
    case USHER__V1__ERROR__CODE__RATE_LIMITED:
        return 100;
    case USHER__V1__ERROR__CODE__INBOX_FULL:
    case USHER__V1__ERROR__CODE__NO_SERVICE:
    case USHER__V1__ERROR__CODE__SERVICE_LOST:
    case USHER__V1__ERROR__CODE__UNAVAILABLE:
        return 1000;
    default:
        return 0;
    }
}

/* How a Send of this user ended. */
void user_result(struct session *session, struct message *message, struct turn *turn)
{
    struct result_message *result = (struct result_message *)message;
    bool waits = result->asker_epoch == session->epoch &&
                 requests_find(session->requests, result->request) != NULL;
    if (!waits) {
        turn_count(turn, METRIC_replies_late, 1);
    } else {
        requests_remove(&session->requests, result->request);
        if (result->code == 0 && result->mid != 0 && result->epoch == 0)
            shelf_for_away(session, turn);
        if (result->code == 0 && result->mid != 0)
            answer_stored(session, turn, result->request, result->epoch, result->mid);
        else if (result->code == 0 && result->offset != 0)
            answer_published(session, turn, result->request, result->offset);
        else if (result->code == 0)
            answer_done(session, turn, result->request, result->epoch);
        else if (result->code == RESULT_DROPPED)
            answer_dropped(session, turn, result->request, result->epoch);
        else
            answer_error(session, turn, result->request, result->code, explain(result->code),
                         retry_hint_ms(result->code));
    }
    message_destroy(message);
}

void user_call_result(struct session *session, struct message *message, struct turn *turn)
{
    struct call_result_message *result = (struct call_result_message *)message;
    const struct request *request = requests_find(session->requests, result->request);
    if (result->epoch != session->epoch || request == NULL || request->call != result->call) {
        turn_count(turn, METRIC_replies_late, 1);
    } else {
        bool watch = request->watch;
        requests_remove(&session->requests, result->request);
        call_ended(turn, 1);
        turn_count(turn, result->code == 0 ? METRIC_calls_answered : METRIC_calls_lost, 1);
        if (result->code == 0)
            turn_mark(turn, HISTOGRAM_call_latency, result->stamp_us);
        if (result->code == 0 && watch)
            friends_answered(session, result, turn);
        else if (result->code == 0)
            answer_reply(session, turn, result->request, result->status,
                         (struct bytes){result->payload, result->payload_size});
        else
            answer_error(session, turn, result->request, result->code, explain(result->code),
                         retry_hint_ms(result->code));
    }
    message_destroy(message);
}
