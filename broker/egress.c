/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/egress.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "actors/bounce.h"
#include "actors/presence.h"
#include "actors/refuse.h"
#include "base/memory.h"
#include "broker/kinds.h"
#include "broker/thread.h"
#include "client.pb-c.h"
#include "directory/away.h"
#include "directory/everybody.h"
#include "directory/services.h"
#include "instance/instance.h"
#include "persist/committer.h"
#include "persist/queries.h"
#include "room/room.h"
#include "webhook/webhook.h"

/* Everything that leaves: the effects of a turn, carried out in their order on the thread that
 * ran it. A turn with a change is then held: the committer stores it and goes on from there
 * (committer.c), so what reports the change cannot leave before it is synced. */

void egress_post(struct egress *egress, struct runner *runner, actor_handle to,
                 struct message *message)
{
    if (scheduler_post(egress->scheduler, runner, to, message) != 0)
        egress_bounce(egress, runner, message);
}

/* The client does not read as fast as he is answered: the session hears of it like of any other
 * loss. */
static void give_up(struct egress *egress, struct runner *runner, const struct turn *turn,
                    conn_handle conn, int error)
{
    const struct limits *limits = egress->limits;
    struct conn_end_message *end = conn_end_create(conn, LOSS_SLOW);
    if (error == -ENOBUFS)
        conn_end_blame(end, "limits.output_bytes", limits_output_bytes(limits), 0);
    else if (error == -EDQUOT)
        conn_end_blame(end, "limits.output_total_bytes", limits_output_total_bytes(limits), 0);
    else
        conn_end_blame(end, "limits.memory_bytes", limits_memory_bytes(limits), 0);
    egress_post(egress, runner, turn->self, &end->header);
}

static void perform_send(struct egress *egress, struct runner *runner, struct turn *turn,
                         const struct effect *effect)
{
    int error = net_write(egress->net, runner->index, effect->value,
                          turn->out.data + effect->offset, effect->size);
    if (error != 0 && error != -EPIPE)
        give_up(egress, runner, turn, effect->value, error);
}

/* Whom a turn wrote to last. Who writes to somebody often does so again in the same breath, and
 * finding him is an eighth of what a message costs outside the kernel. */
struct receiver {
    uint32_t offset, size; /* of the name, in turn->out */
    actor_handle user;
};

static actor_handle find_receiver(struct egress *egress, const struct turn *turn,
                                  const struct effect *effect, struct receiver *last)
{
    const uint8_t *name = turn->out.data + effect->offset;
    if (last->user == 0 || last->size != effect->size ||
        memcmp(turn->out.data + last->offset, name, effect->size) != 0)
        *last = (struct receiver){effect->offset, effect->size,
                                  registry_find(egress->registry, name, effect->size)};
    return last->user;
}

/* What users send counts for who it is, what services push for all of them. */
static int post_delivery(struct egress *egress, struct runner *runner, const struct turn *turn,
                         actor_handle user, struct deliver_message *message)
{
    return scheduler_post_from(egress->scheduler, runner, message->from_service ? 0 : turn->self,
                               user, &message->header, limits_mailbox_messages(egress->limits));
}

/* To a user by name: deliveries, which the mailbox limit may refuse, and kicks. */
static void perform_forward(struct egress *egress, struct runner *runner, struct turn *turn,
                            const struct effect *effect, struct receiver *last)
{
    struct message *message = effect->message;
    if (deliver_is_to_be_stored(message)) {
        const struct away away = {egress->registry, egress->scheduler, egress->metrics,
                                  egress->limits, &user_behaviour};
        away_forward(&away, runner, turn, effect);
        return;
    }
    actor_handle user = find_receiver(egress, turn, effect, last);
    bool deliver = message->kind == MESSAGE_DELIVER;
    if (message->kind == MESSAGE_ROOM_INVITE || message->kind == MESSAGE_ROOM_EXPEL)
        rooms_resolve(&egress->rooms, (struct room_member_message *)message);
    int error = !deliver ? scheduler_post(egress->scheduler, runner, user, message)
                : memory_level() == MEMORY_FULL
                    ? -ENOBUFS
                    : post_delivery(egress, runner, turn, user, (struct deliver_message *)message);
    if (error == 0)
        return;
    last->user = 0; /* he may be gone: the next one looks again */
    if (deliver) {
        struct deliver_message *refused = (struct deliver_message *)message;
        if (error == -ESRCH)
            metrics_add(egress->metrics, runner->index, METRIC_sends_not_online, 1);
        refuse_message(turn, refused,
                       error == -ENOBUFS ? USHER__V1__ERROR__CODE__BUSY
                                         : USHER__V1__ERROR__CODE__NOT_ONLINE);
    } else {
        bounce(message, turn);
    }
}

static void perform_room(struct egress *egress, struct runner *runner, struct turn *turn,
                         struct room_call *call)
{
    uint16_t code = rooms_send(&egress->rooms, runner, call);
    if (code != 0)
        rooms_refuse(turn, call, code);
}

static void perform_room_out(struct egress *egress, struct runner *runner, struct turn *turn)
{
    struct actor *actor = registry_actor(egress->registry, actor_slot(turn->self));
    struct room *room = ((struct room_place *)actor->state)->room;
    struct rooms_posted posted = rooms_fan_out(&egress->rooms, runner, room);
    metrics_add(egress->metrics, runner->index, METRIC_room_deliveries, posted.count);
    metrics_add(egress->metrics, runner->index, METRIC_room_missed, posted.missed);
    if (room_out_done(room))
        egress_post(egress, runner, turn->self,
                    message_create(MESSAGE_ROOM_MORE, sizeof(struct message)));
    runner->pauses = room_out_is_left(room);
}

static void perform_answer(struct egress *egress, uint64_t exchange, struct bytes frame)
{
    if ((exchange & EXCHANGE_OF_HTTP) == 0)
        link_answer(egress->link, exchange, frame);
    else if (egress->http.answer != NULL)
        egress->http.answer(egress->http.context, exchange, frame);
}

static void perform(struct egress *egress, struct runner *runner, struct turn *turn,
                    const struct effect *effect, struct receiver *last)
{
    switch ((enum effect_kind)effect->kind) {
    case EFFECT_SEND:
        perform_send(egress, runner, turn, effect);
        break;
    case EFFECT_FLUSH:
        net_flush(egress->net, runner->index, effect->value);
        break;
    case EFFECT_PROOF:
        registry_set_proof(egress->registry, turn->self, effect->value);
        break;
    case EFFECT_WELCOMED:
        net_welcome(egress->net, effect->value);
        break;
    case EFFECT_FAREWELL:
        net_farewell(egress->net, effect->value, effect->detail,
                     (const char *)turn->out.data + effect->offset);
        break;
    case EFFECT_RELEASE:
        net_release(egress->net, effect->value);
        break;
    case EFFECT_UNBIND:
        net_unbind(egress->net, effect->value,
                   effect->size > 0 ? turn->out.data + effect->offset : NULL, effect->size);
        break;
    case EFFECT_CONSUMED:
        net_consumed(egress->net, effect->value);
        break;
    case EFFECT_POST:
        egress_post(egress, runner, effect->value, effect->message);
        break;
    case EFFECT_FORWARD:
        perform_forward(egress, runner, turn, effect, last);
        break;
    case EFFECT_ROOM:
        perform_room(egress, runner, turn, (struct room_call *)effect->message);
        break;
    case EFFECT_ROOM_OUT:
        perform_room_out(egress, runner, turn);
        break;
    case EFFECT_CALL:
        egress_call(egress, runner, effect->message);
        break;
    case EFFECT_ROOM_NEWS:
        webhook_take_news(egress->webhook, runner->index, effect->message);
        break;
    case EFFECT_TIMER:
        clock_set(egress->clock, turn->self, effect->value);
        break;
    case EFFECT_ANSWER:
        perform_answer(egress, effect->value,
                       (struct bytes){turn->out.data + effect->offset, effect->size});
        break;
    case EFFECT_VOUCH:
        link_vouch(egress->link, effect->value);
        break;
    case EFFECT_LINK:
        egress_link(egress, runner, turn, effect);
        break;
    case EFFECT_DONE:
        committer_done(egress->committer, turn->name, effect->value);
        break;
    case EFFECT_LOOK_UP:
        queries_look_up(egress->queries, (struct watch_look_message *)effect->message);
        break;
    }
}

void egress_perform(struct egress *egress, struct runner *runner, struct turn *turn)
{
    struct receiver last = {0};
    /* An effect may append others (a refusal's result), and the array may move: copy each. */
    for (size_t i = 0; i < turn->count;) {
        struct effect effect = turn->effects[i];
        if (effect.kind == EFFECT_LINK && effect.detail == LINK_PUSH_ALL) {
            const struct everybody everybody = {egress->registry, egress->scheduler,
                                                egress->limits};
            i += everybody_push(&everybody, runner, turn, i);
        } else {
            perform(egress, runner, turn, &effect, &last);
            i++;
        }
    }
    if (turn->mark_count > 0)
        turn_record_marks(turn);
}

void egress_show(struct egress *egress, actor_handle self, const struct session *session)
{
    struct actor *actor = registry_actor(egress->registry, actor_slot(self));
    uint32_t count = session->inbox != NULL ? session->inbox->count : 0;
    if (atomic_load_explicit(&actor->gauge, memory_order_relaxed) != count)
        atomic_store_explicit(&actor->gauge, count, memory_order_relaxed);
}

void egress_settle(struct egress *egress, struct runner *runner, actor_handle self,
                   struct session *session)
{
    bool writes = session->conn != 0 && session->output != 0;
    if (!output_settle(session, writes ? net_waiting(egress->net, session->conn) : 0))
        return;
    struct writable_message *more = message_create(MESSAGE_WRITABLE, sizeof(*more));
    more->conn = session->conn;
    more->go_on = true;
    egress_post(egress, runner, self, &more->header);
}

void egress_stored(void *context, struct runner *runner, const struct change *list)
{
    struct egress *egress = context;
    uint64_t last = 0, count = 0;
    for (const struct change *change = list; change != NULL; change = change->next)
        last = change->event.seq;
    /* First, since whoever asks the store is told of them from now on. */
    atomic_store_explicit(&egress->counters->presence_last, last, memory_order_release);
    for (const struct change *change = list; change != NULL; change = change->next) {
        count++;
        egress_tell_friends(egress, runner, &change->event);
        if (egress->feed == NULL)
            continue;
        char topic[16 + STORE_NAME_BYTES_MAX];
        uint8_t bytes[512];
        size_t size = presence_event_pack(&change->event, bytes, sizeof(bytes));
        snprintf(topic, sizeof(topic), "presence/%s", change->event.user);
        feed_publish(egress->feed, bytes_of_text(topic), (struct bytes){bytes, size});
        metrics_add(egress->metrics, runner->index, METRIC_feed_published, 1);
    }
    egress_see_crowd(egress, runner, count);
    services_tell_presence(egress->services, runner, last);
    if (egress->http.stored != NULL)
        egress->http.stored(egress->http.context);
    webhook_tell(egress->webhook);
}

void egress_bounce(void *context, struct runner *runner, struct message *message)
{
    struct egress *egress = context;
    if (message->kind == MESSAGE_ATTACH) {
        /* The user's last session ended between the gate and the mailbox. The I/O thread begins
         * the login anew: it alone can bind the connection to another actor without losing what
         * the peer does meanwhile. */
        net_return(egress->net, ((struct attach_message *)message)->conn, message);
        return;
    }
    struct turn turn = ((struct thread *)runner->scratch)->turn;
    turn.out = (struct buffer){0};
    turn.effects = NULL;
    turn.count = turn.capacity = 0;
    turn.change = NULL;
    turn.mark_count = 0;
    if (room_call_is(message)) /* which has just ended: the name may have another one */
        perform_room(egress, runner, &turn, (struct room_call *)message);
    else
        bounce(message, &turn);
    egress_perform(egress, runner, &turn);
    turn_fini(&turn);
}
