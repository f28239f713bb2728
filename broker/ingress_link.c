/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "broker/parts.h"
#include "proto/arena.h"
#include "proto/link_frame.h"

/* What arrives from backends, turned into posts to the actors of their instances. A request is
 * looked at just far enough to find that actor, which reads it for itself: what it says may depend
 * on what came before. Runs on nng's threads, and on as many of them as there are requests. */

static void refuse_link(struct broker *broker, uint64_t exchange, uint32_t code,
                        const char *detail)
{
    struct buffer out = {0};
    metrics_add(broker->metrics, 0, METRIC_link_refused, 1);
    LOG(broker->log, LINK_REFUSED, LOG_U("code", code), LOG_S("detail", detail));
    instance_refusal(&out, code, detail);
    link_answer(broker->link, exchange, (struct bytes){out.data, out.size});
    buffer_fini(&out);
}

/* The actor that a request is for, or 0 with the refusal sent. */
static actor_handle link_target(struct broker *broker, uint64_t exchange,
                                const Usher__V1__LinkRequest *request)
{
    char key[INSTANCE_KEY_BYTES];
    uint64_t id;
    if (request->body_case == USHER__V1__LINK_REQUEST__BODY_HELLO) {
        if (!instance_key(request->hello, key)) {
            refuse_link(broker, exchange, USHER__V1__REFUSED__CODE__MALFORMED,
                        "Hello: service and instance must be names");
            return 0;
        }
        id = registry_find(broker->registry, key, strlen(key));
        if (id == 0 && atomic_load(&broker->counters.instances) < broker_instances_max(broker))
            id = registry_claim(broker->registry, key, strlen(key), &instance_behaviour);
    } else if (request->body_case == USHER__V1__LINK_REQUEST__BODY_SUBMIT &&
               request->submit->link == 0) {
        id = registry_claim(broker->registry, INSTANCE_VISITORS, strlen(INSTANCE_VISITORS),
                            &instance_behaviour);
    } else {
        uint64_t link = request->body_case == USHER__V1__LINK_REQUEST__BODY_SUBMIT
                            ? request->submit->link
                            : request->fetch->link;
        id = registry_at(broker->registry, (uint32_t)link & 0xffffff);
        if (id == 0 || link == 0) {
            refuse_link(broker, exchange, USHER__V1__REFUSED__CODE__STALE_LINK,
                        "this link is not known; say Hello again");
            return 0;
        }
    }
    if (id == 0)
        refuse_link(broker, exchange, USHER__V1__REFUSED__CODE__BUSY,
                    "no room for another instance; see limits.services");
    return id;
}

static uint64_t on_request(void *context, uint64_t exchange, struct bytes frame)
{
    struct broker *broker = context;
    struct arena arena;
    actor_handle target = 0;
    if (arena_init(&arena, INSTANCE_ARENA_BYTES) != 0) {
        refuse_link(broker, exchange, USHER__V1__REFUSED__CODE__BUSY, "no memory");
        return 0;
    }
    const Usher__V1__LinkRequest *request = link_request_read(&arena, frame);
    if (request == NULL || request->body_case == USHER__V1__LINK_REQUEST__BODY__NOT_SET)
        refuse_link(broker, exchange, USHER__V1__REFUSED__CODE__MALFORMED,
                    "not a LinkRequest that this version knows");
    else
        target = link_target(broker, exchange, request);
    arena_fini(&arena);
    if (target == 0)
        return 0;
    struct link_request_message *message =
        message_create(MESSAGE_LINK_REQUEST, sizeof(*message) + frame.size);
    if (message == NULL) {
        refuse_link(broker, exchange, USHER__V1__REFUSED__CODE__BUSY, "no memory");
        return 0;
    }
    message->exchange = exchange;
    message->size = (uint32_t)frame.size;
    memcpy(message->bytes, frame.data, frame.size);
    struct runner *runner = link_turns_begin(broker);
    if (scheduler_post(broker->scheduler, runner, target, &message->header, 0) != 0) {
        message_destroy(&message->header);
        refuse_link(broker, exchange, USHER__V1__REFUSED__CODE__STALE_LINK,
                    "this link is gone; say Hello again");
        target = 0;
    }
    link_turns_end(broker, runner);
    return target;
}

static void on_gone(void *context, uint64_t owner, uint64_t exchange)
{
    struct broker *broker = context;
    struct link_gone_message *message = message_create(MESSAGE_LINK_GONE, sizeof(*message));
    message->exchange = exchange;
    if (scheduler_post(broker->scheduler, NULL, owner, &message->header, 0) != 0)
        message_destroy(&message->header);
}

void ingress_wire_link(struct broker *broker)
{
    broker->link_events = (struct link_events){
        .on_request = on_request, .on_gone = on_gone, .context = broker};
}
