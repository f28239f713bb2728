/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "actors/bounce.h"
#include "actors/events.h"
#include "actors/kinds.h"
#include "actors/push.h"
#include "actors/refuse.h"
#include "base/check.h"
#include "base/memory.h"
#include "broker/parts.h"
#include "client.pb-c.h"
#include "directory/services.h"
#include "persist/committer.h"
#include "persist/queries.h"

/* Everything that leaves: the effects of a turn, carried out in their order on the thread that
 * ran it. A turn with a change is then held: the committer stores it and goes on from there
 * (committer.c), so what reports the change cannot leave before it is synced. */

enum { CALLS_PER_SAMPLE = 16 };

/* Posts a message of our own making; when the actor is gone nobody waits for it. */
static void post(struct broker *broker, struct runner *runner, actor_handle to,
                 struct message *message)
{
    if (scheduler_post(broker->scheduler, runner, to, message) != 0)
        egress_bounce(broker, runner, message);
}

static void perform_send(struct broker *broker, struct runner *runner, struct turn *turn,
                         const struct effect *effect)
{
    int error = net_write(broker->net, runner->index, effect->value,
                          turn->out.data + effect->offset, effect->size);
    if (error != -ENOBUFS)
        return;
    /* Over the output limit: the session hears of it like of any other loss. */
    struct conn_end_message *end = message_create(MESSAGE_CONN_END, sizeof(*end));
    end->conn = effect->value;
    end->loss = LOSS_SLOW;
    post(broker, runner, turn->self, &end->header);
}

/* Whom a turn wrote to last. Who writes to somebody often does so again in the same breath, and
 * finding him is an eighth of what a message costs outside the kernel. */
struct receiver {
    uint32_t offset, size; /* of the name, in turn->out */
    actor_handle user;
};

static actor_handle find_receiver(struct broker *broker, const struct turn *turn,
                                  const struct effect *effect, struct receiver *last)
{
    const uint8_t *name = turn->out.data + effect->offset;
    if (last->user == 0 || last->size != effect->size ||
        memcmp(turn->out.data + last->offset, name, effect->size) != 0)
        *last = (struct receiver){effect->offset, effect->size,
                                  registry_find(broker->registry, name, effect->size)};
    return last->user;
}

/* What users send counts for who it is, what services push for all of them. */
static int post_delivery(struct broker *broker, struct runner *runner, const struct turn *turn,
                         actor_handle user, struct deliver_message *message)
{
    return scheduler_post_from(broker->scheduler, runner, message->from_service ? 0 : turn->self,
                               user, &message->header, limits_mailbox_messages(&broker->limits));
}

/* To a user by name: deliveries, which the mailbox limit may refuse, and kicks. */
static void perform_forward(struct broker *broker, struct runner *runner, struct turn *turn,
                            const struct effect *effect, struct receiver *last)
{
    struct message *message = effect->message;
    actor_handle user = find_receiver(broker, turn, effect, last);
    bool deliver = message->kind == MESSAGE_DELIVER;
    int error = !deliver ? scheduler_post(broker->scheduler, runner, user, message)
                : memory_level() == MEMORY_FULL
                    ? -ENOBUFS
                    : post_delivery(broker, runner, turn, user, (struct deliver_message *)message);
    if (error == 0)
        return;
    last->user = 0; /* he may be gone: the next one looks again */
    if (deliver) {
        struct deliver_message *refused = (struct deliver_message *)message;
        if (error == -ESRCH)
            metrics_add(broker->metrics, runner->index, METRIC_sends_not_online, 1);
        deliver_refuse(turn, refused,
                       error == -ENOBUFS ? USHER__V1__ERROR__CODE__BUSY
                                         : USHER__V1__ERROR__CODE__NOT_ONLINE);
    } else {
        bounce(message, turn);
    }
}

static void perform_call(struct broker *broker, struct runner *runner, struct message *message)
{
    struct user_call_message *call = (struct user_call_message *)message;
    uint16_t code = 0;
    if (call->call % CALLS_PER_SAMPLE == 0)
        call->stamp_us = env_stamp_us(broker->env);
    if (services_route(broker->services, runner, call, &code) != 0)
        return;
    metrics_add(broker->metrics, runner->index,
                code == USHER__V1__ERROR__CODE__NO_SERVICE ? METRIC_calls_no_service
                                                           : METRIC_calls_lost,
                1);
    if (call->call != 0) {
        struct call_result_message *result;
        MEMORY_MUST((result = call_result_create(code, 0, (struct bytes){0})) != NULL, "a result");
        result->request = call->request;
        result->call = call->call;
        result->epoch = call->epoch;
        post(broker, runner, call->caller, &result->header);
    }
    message_destroy(message);
}

/* Gives how many users take it. */
static uint32_t push_to_all(struct broker *broker, struct runner *runner, struct push_run *run)
{
    uint32_t cursor = 0;
    uint32_t accepted = 0;
    actor_handle user;
    while ((user = registry_next(broker->registry, &cursor, KIND_USER)) != 0) {
        struct bundle_message *message = push_next_bundle(run);
        if (message == NULL)
            continue; /* not accepted, as with a full mailbox */
        if (memory_level() != MEMORY_FULL &&
            scheduler_post_from(broker->scheduler, runner, 0, user, &message->header,
                                limits_mailbox_messages(&broker->limits)) == 0)
            accepted++;
        else
            message_destroy(&message->header);
    }
    return accepted;
}

/* The PushAll that this effect is, or NULL. */
static struct push_all_message *push_all_of(const struct effect *effect)
{
    return effect->kind == EFFECT_LINK && effect->detail == LINK_PUSH_ALL
               ? (struct push_all_message *)effect->message
               : NULL;
}

/* This PushAll and those that follow it at once, as one bundle; gives how many. */
static uint32_t perform_push_all(struct broker *broker, struct runner *runner, struct turn *turn,
                                 size_t first)
{
    struct push pushes[PUSH_BUNDLE_MAX];
    struct push_all_message *messages[PUSH_BUNDLE_MAX];
    uint32_t count = 0;
    size_t bytes = 0;
    struct push_run run;
    for (size_t i = first; i < turn->count && count < PUSH_BUNDLE_MAX; i++) {
        messages[count] = push_all_of(&turn->effects[i]);
        if (messages[count] == NULL)
            break;
        pushes[count] = push_all_text(messages[count]);
        bytes += pushes[count].payload.size;
        if (count > 0 && bytes > PUSH_BUNDLE_BYTES_MAX)
            break;
        count++;
    }
    MEMORY_MUST(push_begin_bundle(&run, pushes, count, turn->wall_ms, turn->now_ms,
                                  registry_count(broker->registry)) == 0,
                "a push");
    uint32_t accepted = push_to_all(broker, runner, &run);
    push_end(&run);
    for (uint32_t i = 0; i < count; i++) {
        messages[i]->accepted = accepted;
        post(broker, runner, turn->self, &messages[i]->header);
    }
    return count;
}

/* A step on an instance's way out; the next one comes in a turn of its own. */
static void perform_leave(struct broker *broker, struct runner *runner, struct turn *turn,
                          const struct effect *effect)
{
    bool begun = effect->value != LEAVE_BEGIN || services_begin_leave(broker->services, turn->self);
    services_hand_on(broker->services, runner, turn->self, effect->message);
    if (effect->value == LEAVE_ALL && services_leave(broker->services, turn->self)) {
        turn->retire = true;
        return;
    }
    struct leave_message *more = message_create(MESSAGE_LEAVE, sizeof(*more));
    more->begun = begun;
    post(broker, runner, turn->self, &more->header);
}

/* What an instance asks of the directory of services. */
static void perform_link(struct broker *broker, struct runner *runner, struct turn *turn,
                         const struct effect *effect)
{
    switch ((enum link_effect)effect->detail) {
    case LINK_JOIN: {
        struct join_message *join = (struct join_message *)effect->message;
        join->error = services_join(broker->services, join->service, turn->self, join->presence);
        post(broker, runner, turn->self, &join->header);
        break;
    }
    case LINK_DRAIN:
        services_drain(broker->services, turn->self, effect->value != 0);
        break;
    case LINK_LEAVE:
        perform_leave(broker, runner, turn, effect);
        break;
    case LINK_QUERY:
        queries_submit(broker->queries, (struct query_message *)effect->message);
        break;
    case LINK_PUSH_ALL:
        CHECK(false); /* egress_perform takes them by the bundle */
        break;
    }
}

static void perform(struct broker *broker, struct runner *runner, struct turn *turn,
                    const struct effect *effect, struct receiver *last)
{
    switch ((enum effect_kind)effect->kind) {
    case EFFECT_SEND:
        perform_send(broker, runner, turn, effect);
        break;
    case EFFECT_FLUSH:
        net_flush(broker->net, runner->index, effect->value);
        break;
    case EFFECT_PROOF:
        registry_set_proof(broker->registry, turn->self, effect->value);
        break;
    case EFFECT_WELCOMED:
        net_welcome(broker->net, effect->value);
        break;
    case EFFECT_RELEASE:
        net_release(broker->net, effect->value);
        break;
    case EFFECT_UNBIND:
        net_unbind(broker->net, effect->value,
                   effect->size > 0 ? turn->out.data + effect->offset : NULL, effect->size);
        break;
    case EFFECT_CONSUMED:
        net_consumed(broker->net, effect->value);
        break;
    case EFFECT_POST:
        post(broker, runner, effect->value, effect->message);
        break;
    case EFFECT_FORWARD:
        perform_forward(broker, runner, turn, effect, last);
        break;
    case EFFECT_CALL:
        perform_call(broker, runner, effect->message);
        break;
    case EFFECT_TIMER:
        clock_set(broker->clock, turn->self, effect->value);
        break;
    case EFFECT_ANSWER:
        link_answer(broker->link, effect->value,
                    (struct bytes){turn->out.data + effect->offset, effect->size});
        break;
    case EFFECT_VOUCH:
        link_vouch(broker->link, effect->value);
        break;
    case EFFECT_LINK:
        perform_link(broker, runner, turn, effect);
        break;
    }
}

static void record_marks(struct turn *turn)
{
    uint32_t now_us = env_stamp_us(turn->env);
    for (unsigned i = 0; i < turn->mark_count; i++) {
        int32_t passed_us = (int32_t)(now_us - turn->marks[i].stamp_us);
        /* Two threads' clocks may differ by a little. */
        metrics_record(turn->metrics, turn->block, turn->marks[i].histogram,
                       passed_us > 0 ? (uint64_t)passed_us * 1000 : 0);
    }
    turn->mark_count = 0;
}

void egress_perform(struct broker *broker, struct runner *runner, struct turn *turn)
{
    struct receiver last = {0};
    /* An effect may append others (a refusal's result), and the array may move: copy each. */
    for (size_t i = 0; i < turn->count;) {
        struct effect effect = turn->effects[i];
        if (push_all_of(&effect) != NULL) {
            i += perform_push_all(broker, runner, turn, i);
        } else {
            perform(broker, runner, turn, &effect, &last);
            i++;
        }
    }
    if (turn->mark_count > 0)
        record_marks(turn);
}

void egress_show(struct broker *broker, actor_handle self, const struct session *session)
{
    struct actor *actor = registry_actor(broker->registry, actor_slot(self));
    uint32_t count = session->inbox != NULL ? session->inbox->count : 0;
    if (atomic_load_explicit(&actor->gauge, memory_order_relaxed) != count)
        atomic_store_explicit(&actor->gauge, count, memory_order_relaxed);
}

void egress_settle(struct broker *broker, struct runner *runner, actor_handle self,
                   struct session *session)
{
    bool writes = session->conn != 0 && session->output != 0;
    if (!session_settle(session, writes ? net_waiting(broker->net, session->conn) : 0))
        return;
    struct writable_message *more = message_create(MESSAGE_WRITABLE, sizeof(*more));
    more->conn = session->conn;
    more->go_on = true;
    post(broker, runner, self, &more->header);
}

void egress_stored(void *context, struct runner *runner, const struct change *list)
{
    struct broker *broker = context;
    uint64_t last = 0;
    for (const struct change *change = list; change != NULL; change = change->next) {
        last = change->event.seq;
        if (broker->feed == NULL)
            continue;
        char topic[16 + STORE_NAME_BYTES_MAX];
        uint8_t bytes[512];
        size_t size = presence_event_pack(&change->event, bytes, sizeof(bytes));
        snprintf(topic, sizeof(topic), "presence/%s", change->event.user);
        feed_publish(broker->feed, bytes_of_text(topic), (struct bytes){bytes, size});
        metrics_add(broker->metrics, runner->index, METRIC_feed_published, 1);
    }
    atomic_store_explicit(&broker->counters.presence_last, last, memory_order_release);
    services_tell_presence(broker->services, runner, last);
}

void egress_bounce(void *context, struct runner *runner, struct message *message)
{
    struct broker *broker = context;
    if (message->kind == MESSAGE_ATTACH) {
        /* The user's last session ended between the gate and the mailbox. The I/O thread begins
         * the login anew: it alone can bind the connection to another actor without losing what
         * the peer does meanwhile. */
        net_return(broker->net, ((struct attach_message *)message)->conn, message);
        return;
    }
    struct turn turn = ((struct thread *)runner->scratch)->turn;
    turn.out = (struct buffer){0};
    turn.effects = NULL;
    turn.count = turn.capacity = 0;
    turn.change = NULL;
    turn.mark_count = 0;
    bounce(message, &turn);
    egress_perform(broker, runner, &turn);
    turn_fini(&turn);
}
