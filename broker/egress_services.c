/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "base/memory.h"
#include "broker/egress.h"
#include "client.pb-c.h"
#include "directory/services.h"
#include "instance/instance.h"
#include "persist/queries.h"

/* What turns ask of the directory of services: a user's call goes to an instance, and an instance
 * joins, drains, leaves step by step, and asks the store by the queries. */

enum { CALLS_PER_SAMPLE = 16 };

void egress_call(struct egress *egress, struct runner *runner, struct message *message)
{
    struct user_call_message *call = (struct user_call_message *)message;
    uint16_t code = 0;
    if (call->call % CALLS_PER_SAMPLE == 0)
        call->stamp_us = env_stamp_us(egress->env);
    if (services_route(egress->services, runner, call, &code) != 0)
        return;
    metrics_add(egress->metrics, runner->index,
                call->body == MAIL_ROOM_NEWS                 ? METRIC_room_news_lost
                : code == USHER__V1__ERROR__CODE__NO_SERVICE ? METRIC_calls_no_service
                                                             : METRIC_calls_lost,
                1);
    if (call->call != 0) {
        struct call_result_message *result;
        MEMORY_MUST((result = call_result_create(code, 0, (struct bytes){0})) != NULL, "a result");
        result->request = call->request;
        result->call = call->call;
        result->epoch = call->epoch;
        egress_post(egress, runner, call->caller, &result->header);
    }
    message_destroy(message);
}

/* A step on an instance's way out; the next one comes in a turn of its own. */
static void perform_leave(struct egress *egress, struct runner *runner, struct turn *turn,
                          const struct effect *effect)
{
    bool begun = effect->value != LEAVE_BEGIN || services_begin_leave(egress->services, turn->self);
    services_hand_on(egress->services, runner, turn->self, effect->message);
    if (effect->value == LEAVE_ALL && services_leave(egress->services, turn->self)) {
        turn->retire = true;
        return;
    }
    struct leave_message *more = message_create(MESSAGE_LEAVE, sizeof(*more));
    more->begun = begun;
    egress_post(egress, runner, turn->self, &more->header);
}

/* What an instance asks of the directory of services. */
void egress_link(struct egress *egress, struct runner *runner, struct turn *turn,
                 const struct effect *effect)
{
    switch ((enum link_effect)effect->detail) {
    case LINK_JOIN: {
        struct join_message *join = (struct join_message *)effect->message;
        join->error = services_join(egress->services, join->service, turn->self, join->presence);
        egress_post(egress, runner, turn->self, &join->header);
        break;
    }
    case LINK_DRAIN:
        services_drain(egress->services, turn->self, effect->value != 0);
        break;
    case LINK_LEAVE:
        perform_leave(egress, runner, turn, effect);
        break;
    case LINK_QUERY:
        queries_submit(egress->queries, (struct query_message *)effect->message);
        break;
    case LINK_PUSH_ALL:
        CHECK(false); /* egress_perform takes them by the bundle */
        break;
    }
}
