/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "actors/kinds.h"
#include "base/memory.h"
#include "broker/ingress.h"
#include "broker/kinds.h"
#include "instance/access.h"
#include "instance/instance.h"
#include "proto/arena.h"
#include "proto/link_answer.h"
#include "proto/link_frame.h"

/* What arrives from backends, turned into posts to the actors of their instances. A request is
 * looked at just far enough to find that actor, which reads it for itself: what it says may depend
 * on what came before. Runs on nng's threads, and on as many of them as there are requests. */

#define TOKEN_FAULT "the token is missing or wrong; see link.token_file"

static void refuse_link(struct ingress *ingress, uint64_t exchange, uint32_t code,
                        const char *detail)
{
    struct buffer out = {0};
    metrics_add(ingress->metrics, 0, METRIC_link_refused, 1);
    LOG(ingress->log, LINK_REFUSED, LOG_U("code", code), LOG_S("detail", detail));
    MEMORY_MUST(link_answer_refused(&out, code, detail) == 0, "an answer");
    link_answer(ingress->egress->link, exchange, (struct bytes){out.data, out.size});
    buffer_fini(&out);
}

static bool token_is_right(struct ingress *ingress, ProtobufCBinaryData token)
{
    return access_token_is_right(ingress->settings, (struct bytes){token.data, token.len});
}

/* The commands that change something have a place for the token themselves. */
static bool brings_token(struct ingress *ingress, const Usher__V1__Command *command)
{
    switch (command->body_case) {
    case USHER__V1__COMMAND__BODY_TRACE:
        return token_is_right(ingress, command->trace->token);
    case USHER__V1__COMMAND__BODY_RELOAD:
        return token_is_right(ingress, command->reload->token);
    case USHER__V1__COMMAND__BODY_DRAIN_NODE:
        return token_is_right(ingress, command->drain_node->token);
    case USHER__V1__COMMAND__BODY_UPGRADE_NODE:
        return token_is_right(ingress, command->upgrade_node->token);
    default:
        return false;
    }
}

static bool may_ask(struct ingress *ingress, const Usher__V1__Submit *submit)
{
    if (token_is_right(ingress, submit->token))
        return true;
    for (size_t i = 0; i < submit->n_commands; i++)
        if (!brings_token(ingress, submit->commands[i]))
            return false;
    return submit->n_commands > 0;
}

/* To each of its commands. */
static void forbid(struct ingress *ingress, uint64_t exchange, const Usher__V1__Submit *submit)
{
    struct buffer out = {0};
    metrics_add(ingress->metrics, 0, METRIC_link_forbidden, 1);
    metrics_add(ingress->metrics, 0, METRIC_link_refused, 1);
    LOG(ingress->log, LINK_REFUSED, LOG_S("reason", "forbidden"),
        LOG_U("commands", submit->n_commands), LOG_S("detail", TOKEN_FAULT));
    MEMORY_MUST(link_answer_codes(&out, submit->seq, USHER__V1__RESULT__CODE__FORBIDDEN,
                                  submit->n_commands) == 0,
                "an answer");
    link_answer(ingress->egress->link, exchange, (struct bytes){out.data, out.size});
    buffer_fini(&out);
}

/* A question without a link waits for the one thread that reads the store, and holds an exchange of
 * the link meanwhile. */
static bool refuse_crowd(struct ingress *ingress, uint64_t exchange)
{
    if (!link_is_stranger(ingress->egress->link, exchange) ||
        !link_is_crowded(ingress->egress->link))
        return false;
    metrics_add(ingress->metrics, 0, METRIC_link_crowded, 1);
    refuse_link(ingress, exchange, USHER__V1__REFUSED__CODE__BUSY,
                "too many ask who have no link; see link.contexts");
    return true;
}

/* Who has no link has to show the token, before any actor hears of him: to get a link, or to ask a
 * question without one. False: he has not, and is answered. */
static bool admit(struct ingress *ingress, uint64_t exchange, const Usher__V1__LinkRequest *request)
{
    if (request->body_case == USHER__V1__LINK_REQUEST__BODY_HELLO) {
        if (token_is_right(ingress, request->hello->token))
            return true;
        metrics_add(ingress->metrics, 0, METRIC_link_forbidden, 1);
        refuse_link(ingress, exchange, USHER__V1__REFUSED__CODE__BANNED, TOKEN_FAULT);
        return false;
    }
    if (request->body_case != USHER__V1__LINK_REQUEST__BODY_SUBMIT || request->submit->link != 0)
        return true; /* the number of its link says whether it may */
    if (may_ask(ingress, request->submit))
        return !refuse_crowd(ingress, exchange);
    const char *fault = instance_submit_fault(request->submit, false, ingress->limits);
    if (fault != NULL)
        refuse_link(ingress, exchange, USHER__V1__REFUSED__CODE__MALFORMED, fault);
    else
        forbid(ingress, exchange, request->submit);
    return false;
}

/* The actor whose link may be meant, or 0. */
static actor_handle actor_of_link(struct ingress *ingress, const Usher__V1__LinkRequest *request)
{
    uint64_t number = request->body_case == USHER__V1__LINK_REQUEST__BODY_SUBMIT
                          ? request->submit->link
                          : request->fetch->link;
    uint32_t slot;
    return access_slot(ingress->settings->link_key, number, &slot)
               ? registry_at(ingress->registry, slot)
               : 0;
}

/* The actor that a request is for, or 0 with the refusal sent. */
static actor_handle link_target(struct ingress *ingress, uint64_t exchange,
                                const Usher__V1__LinkRequest *request)
{
    char key[INSTANCE_KEY_BYTES];
    uint64_t id;
    if (!admit(ingress, exchange, request))
        return 0;
    if (request->body_case == USHER__V1__LINK_REQUEST__BODY_HELLO) {
        if (!instance_key(request->hello, key)) {
            refuse_link(ingress, exchange, USHER__V1__REFUSED__CODE__MALFORMED,
                        "Hello: service and instance must be names");
            return 0;
        }
        id = registry_find(ingress->registry, key, strlen(key));
        if (id == 0 && registry_count_of(ingress->registry, KIND_INSTANCE) < ingress->instances_max)
            id = registry_claim(ingress->registry, key, strlen(key), &instance_behaviour);
    } else if (request->body_case == USHER__V1__LINK_REQUEST__BODY_SUBMIT &&
               request->submit->link == 0) {
        id = registry_claim(ingress->registry, INSTANCE_VISITORS, strlen(INSTANCE_VISITORS),
                            &visitors_behaviour);
    } else {
        id = actor_of_link(ingress, request);
        if (id == 0) {
            refuse_link(ingress, exchange, USHER__V1__REFUSED__CODE__STALE_LINK,
                        "this link is not known; say Hello again");
            return 0;
        }
    }
    if (id == 0)
        refuse_link(ingress, exchange, USHER__V1__REFUSED__CODE__BUSY,
                    "no room for another instance; see limits.services");
    return id;
}

static uint64_t take_request(struct ingress *ingress, uint64_t exchange, struct bytes frame)
{
    struct arena arena;
    actor_handle target = 0;
    if (arena_init(&arena, INSTANCE_ARENA_BYTES) != 0) {
        refuse_link(ingress, exchange, USHER__V1__REFUSED__CODE__BUSY, "no memory");
        return 0;
    }
    const Usher__V1__LinkRequest *request = link_request_read(&arena, frame);
    int body = request != NULL ? (int)request->body_case : 0;
    if (request == NULL || request->body_case == USHER__V1__LINK_REQUEST__BODY__NOT_SET)
        refuse_link(ingress, exchange, USHER__V1__REFUSED__CODE__MALFORMED,
                    "not a LinkRequest that this version knows");
    else
        target = link_target(ingress, exchange, request);
    arena_fini(&arena);
    if (target == 0)
        return 0;
    struct link_request_message *message =
        message_create(MESSAGE_LINK_REQUEST, sizeof(*message) + frame.size);
    if (message == NULL) {
        refuse_link(ingress, exchange, USHER__V1__REFUSED__CODE__BUSY, "no memory");
        return 0;
    }
    message_count_as(&message->header, MEMORY_OF_BACKENDS);
    message->exchange = exchange;
    message->stranger = link_is_stranger(ingress->egress->link, exchange);
    if (body == USHER__V1__LINK_REQUEST__BODY_FETCH)
        link_follow(ingress->egress->link, exchange);
    message->by_http[0] = '\0';
    message->size = (uint32_t)frame.size;
    memcpy(message->bytes, frame.data, frame.size);
    struct runner *runner = guest_turns_begin(&ingress->guest_turns);
    if (scheduler_post(ingress->scheduler, runner, target, &message->header) != 0) {
        message_destroy(&message->header);
        refuse_link(ingress, exchange, USHER__V1__REFUSED__CODE__STALE_LINK,
                    "this link is gone; say Hello again");
        target = 0;
    }
    guest_turns_end(&ingress->guest_turns, runner);
    return target;
}

static uint64_t on_request(void *context, uint64_t exchange, struct bytes frame)
{
    struct ingress *ingress = context;
    passage_enter(ingress->passage);
    uint64_t target = take_request(ingress, exchange, frame);
    passage_leave(ingress->passage);
    return target;
}

static void on_gone(void *context, uint64_t owner, uint64_t exchange)
{
    struct ingress *ingress = context;
    struct link_gone_message *message = message_create(MESSAGE_LINK_GONE, sizeof(*message));
    message->exchange = exchange;
    passage_enter(ingress->passage);
    scheduler_tell(ingress->scheduler, NULL, owner, &message->header);
    passage_leave(ingress->passage);
}

struct link_events ingress_link_events(struct ingress *ingress)
{
    return (struct link_events){.on_request = on_request, .on_gone = on_gone, .context = ingress};
}
