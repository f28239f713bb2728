/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.pb-c.h"
#include "base/check.h"
#include "sim.h"

/* Two instances of one service. Each has a connection that fetches and one that submits; it
 * answers calls, late or never, pushes, kicks and asks for snapshots, stalls and dies. Number 0
 * follows the presence stream, over its own deaths and those of the broker.
 *
 * Rules: MAIL (numbers without a gap, a call is what its user sent, in his order), FEED (the
 * stream as fetched is the stream as stored, without a gap), SNAP (a page is true for the event
 * it names), D. */

enum { COMMANDS = 4, PAYLOAD_MAX = 512 };

void backends_make(struct world *world)
{
    for (unsigned i = 0; i < BACKENDS; i++)
        world->backends[i].wants_hello = true;
}

void backend_die(struct world *world, uint32_t index)
{
    struct backend *backend = &world->backends[index];
    uint64_t incarnation = backend->incarnation;
    actor_handle actor = backend->actor;
    uint64_t seen = backend->presence_seen;
    tell(world, "backend %u dies", index);
    for (unsigned i = 0; i < CHANNELS; i++)
        link_cut(world, &backend->channels[i]);
    *backend = (struct backend){
        .actor = actor, .incarnation = incarnation, .presence_seen = seen, .wants_hello = true};
}

/* --- asking ----------------------------------------------------------------------------------- */

static void ask(struct backend *backend, unsigned which, const Usher__V1__LinkRequest *request)
{
    struct channel *channel = &backend->channels[which];
    channel->request.size = 0;
    uint8_t *to = buffer_reserve(&channel->request,
                                 usher__v1__link_request__get_packed_size(request) + 1);
    CHECK_DEBT(to != NULL, "no memory for the simulation");
    channel->request.size = usher__v1__link_request__pack(request, to);
    channel->to_send = true;
}

static void ask_hello(struct world *world, uint32_t index)
{
    struct backend *backend = &world->backends[index];
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    Usher__V1__Hello hello = USHER__V1__HELLO__INIT;
    hello.service = (char *)"svc";
    hello.instance = index == 0 ? (char *)"a" : (char *)"b";
    hello.incarnation = backend->incarnation;
    hello.presence = index == 0;
    hello.presence_after = backend->presence_seen;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_HELLO;
    request.hello = &hello;
    ask(backend, CHANNEL_FETCH, &request);
}

static void ask_fetch(struct world *world, struct backend *backend)
{
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    Usher__V1__Fetch fetch = USHER__V1__FETCH__INIT;
    fetch.link = backend->link;
    fetch.mail_done = backend->mail_seen;
    fetch.presence_done = backend->presence_seen;
    fetch.bytes_max = one_in(world, 4) ? 600 : 0;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_FETCH;
    request.fetch = &fetch;
    ask(backend, CHANNEL_FETCH, &request);
}

/* The commands of one Submit and what they point to. */
struct order {
    Usher__V1__Command commands[COMMANDS], *list[COMMANDS];
    Usher__V1__ReplyTo replies[COMMANDS];
    Usher__V1__Push pushes[COMMANDS];
    Usher__V1__Kick kick;
    Usher__V1__Snapshot snapshot;
    char *names[COMMANDS];
    uint8_t payloads[COMMANDS][PAYLOAD_MAX];
    uint32_t count;
};

static Usher__V1__Command *add_command(struct order *order)
{
    Usher__V1__Command *command = &order->commands[order->count];
    usher__v1__command__init(command);
    order->list[order->count++] = command;
    return command;
}

static void add_reply(struct world *world, struct backend *backend, struct order *order)
{
    uint32_t which = below(world, backend->todo_count);
    uint32_t at = order->count;
    int parcel = backend->todo[which].parcel;
    Usher__V1__ReplyTo *reply = &order->replies[at];
    usher__v1__reply_to__init(reply);
    reply->call = backend->todo[which].call;
    parcel_fill(world, parcel, order->payloads[at]);
    reply->payload = (ProtobufCBinaryData){world->parcels[parcel].size, order->payloads[at]};
    backend->todo[which] = backend->todo[--backend->todo_count];
    Usher__V1__Command *command = add_command(order);
    command->body_case = USHER__V1__COMMAND__BODY_REPLY_TO;
    command->reply_to = reply;
}

static void add_push(struct world *world, uint32_t index, struct order *order)
{
    struct backend *backend = &world->backends[index];
    int to = (int)below(world, USERS);
    int parcel = parcel_make(world, PARCEL_PUSH, USERS + (int)index, to, NOBODY);
    if (parcel == NOBODY)
        return;
    uint32_t at = order->count;
    Usher__V1__Push *push = &order->pushes[at];
    usher__v1__push__init(push);
    parcel_fill(world, parcel, order->payloads[at]);
    order->names[at] = world->users[to].name;
    push->to = &order->names[at];
    push->n_to = 1;
    push->payload = (ProtobufCBinaryData){world->parcels[parcel].size, order->payloads[at]};
    backend->pushed[at] = parcel;
    Usher__V1__Command *command = add_command(order);
    command->body_case = USHER__V1__COMMAND__BODY_PUSH;
    command->push = push;
}

static void add_kick(struct world *world, struct order *order)
{
    const struct user *user = &world->users[below(world, USERS)];
    usher__v1__kick__init(&order->kick);
    order->kick.user = (char *)user->name;
    order->kick.epoch = one_in(world, 2) ? user->epoch : 0;
    tell(world, "kick of %s %llu", user->name, (unsigned long long)order->kick.epoch);
    Usher__V1__Command *command = add_command(order);
    command->body_case = USHER__V1__COMMAND__BODY_KICK;
    command->kick = &order->kick;
}

static void add_snapshot(struct order *order)
{
    usher__v1__snapshot__init(&order->snapshot);
    Usher__V1__Command *command = add_command(order);
    command->body_case = USHER__V1__COMMAND__BODY_SNAPSHOT;
    command->snapshot = &order->snapshot;
}

static void ask_submit(struct world *world, uint32_t index)
{
    struct backend *backend = &world->backends[index];
    struct order order = {0};
    for (unsigned i = 0; i < PUSHES_MAX; i++)
        backend->pushed[i] = NOBODY;
    while (order.count < COMMANDS - 1 && backend->todo_count > 0 && !one_in(world, 4))
        add_reply(world, backend, &order);
    if (!world->healing && order.count < COMMANDS && one_in(world, 2))
        add_push(world, index, &order);
    if (!world->healing && order.count < COMMANDS && one_in(world, 40))
        add_kick(world, &order);
    if (order.count < COMMANDS && one_in(world, 10))
        add_snapshot(&order);
    if (order.count == 0)
        return;
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    Usher__V1__Submit submit = USHER__V1__SUBMIT__INIT;
    submit.link = backend->link;
    submit.lane = 1;
    submit.seq = ++backend->submit_seq;
    submit.commands = order.list;
    submit.n_commands = backend->command_count = order.count;
    backend->submit_step = world->step;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_SUBMIT;
    request.submit = &submit;
    tell(world, "backend %u submits %u commands", index, order.count);
    ask(backend, CHANNEL_SUBMIT, &request);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void on_call(struct world *world, uint32_t index, const Usher__V1__UserCall *call)
{
    struct backend *backend = &world->backends[index];
    int number = parcel_read(world, (struct bytes){call->payload.data, call->payload.len});
    if (number == NOBODY)
        return;
    struct parcel *parcel = &world->parcels[number];
    uint64_t since =
        parcel->wire != NOBODY ? world->wires[parcel->wire].superseded_step : 0;
    if (since != 0 && parcel->step > since)
        broken(world, "A2", "a call that was made on wire %d after its replacement arrived",
               parcel->wire);
    bool right = parcel->kind == PARCEL_CALL && parcel->epoch == call->epoch &&
                 strcmp(world->users[parcel->from].name, call->user) == 0;
    if (!right)
        broken(world, "MAIL", "parcel %d as a call of %s %llu", number, call->user,
               (unsigned long long)call->epoch);
    if (!call->redelivered) {
        /* Calls that waited for an instance that left may arrive at another behind newer ones. */
        bool moved = world->moved_step >= parcel->step;
        if (parcel->processed++ > 0 ||
            (parcel->order <= backend->call_order[parcel->from] && !moved))
            broken(world, "C1", "call %llu of %s comes after %llu",
                   (unsigned long long)parcel->order, call->user,
                   (unsigned long long)backend->call_order[parcel->from]);
        backend->call_order[parcel->from] = parcel->order;
    }
    if (call->call != 0 && backend->todo_count < TODO_MAX && !one_in(world, 6)) {
        backend->todo[backend->todo_count].call = call->call;
        backend->todo[backend->todo_count++].parcel = number;
    }
}

static void on_mail(struct world *world, uint32_t index, const Usher__V1__Mail *mail)
{
    struct backend *backend = &world->backends[index];
    if (mail->seq <= backend->mail_seen)
        return; /* again; or control mail outside of the numbers, 0 */
    if (mail->seq != backend->mail_seen + 1)
        broken(world, "MAIL", "mail %llu of backend %u follows %llu",
               (unsigned long long)mail->seq, index, (unsigned long long)backend->mail_seen);
    backend->mail_seen = mail->seq;
    if (mail->body_case != USHER__V1__MAIL__BODY_CALL)
        return;
    tell(world, "backend %u: call %llu of %s%s", index, (unsigned long long)mail->call->call,
         mail->call->user, mail->call->redelivered ? " again" : "");
    on_call(world, index, mail->call);
}

static void on_presence(struct world *world, struct backend *backend,
                        const Usher__V1__PresenceEvent *event)
{
    if (event->seq < backend->presence_next)
        return;
    if (event->seq != backend->presence_next || event->seq > world->event_count) {
        broken(world, "FEED", "event %llu was fetched, expected %llu",
               (unsigned long long)event->seq, (unsigned long long)backend->presence_next);
        return;
    }
    const struct presence_event *stored = &world->events[event->seq - 1];
    bool same = strcmp(stored->user, event->user) == 0 && stored->epoch == event->epoch &&
                (int)event->kind == stored->kind &&
                (int)event->cause == stored->cause &&
                stored->previous_epoch == event->previous_epoch;
    if (!same)
        broken(world, "FEED", "event %llu is not what was stored",
               (unsigned long long)event->seq);
    backend->presence_next++;
    backend->presence_seen = event->seq;
}

static void on_batch(struct world *world, uint32_t index, const Usher__V1__Batch *batch)
{
    struct backend *backend = &world->backends[index];
    for (size_t i = 0; i < batch->n_mail; i++)
        on_mail(world, index, batch->mail[i]);
    for (size_t i = 0; i < batch->n_presence; i++)
        on_presence(world, backend, batch->presence[i]);
    if (batch->presence_reset)
        broken(world, "FEED", "backend %u is told that events are missing", index);
}

static void on_accepted(struct world *world, struct backend *backend,
                        const Usher__V1__Accepted *accepted)
{
    backend->wants_hello = false;
    if (backend->link != accepted->link || backend->new_boot)
        backend->mail_seen = backend->submit_seq = backend->todo_count = 0;
    backend->link = accepted->link;
    backend->new_boot = false;
    if (backend->presence_seen != 0 && accepted->presence_from != backend->presence_seen + 1)
        broken(world, "FEED", "events from %llu on after %llu",
               (unsigned long long)accepted->presence_from,
               (unsigned long long)backend->presence_seen);
    backend->presence_next = accepted->presence_from;
}

static void on_snapshot(struct world *world, const Usher__V1__SessionList *list)
{
    for (int i = 0; i < USERS && !list->more; i++) {
        const Usher__V1__SessionInfo *found = NULL;
        for (size_t k = 0; k < list->n_sessions; k++)
            if (strcmp(list->sessions[k]->user, world->users[i].name) == 0)
                found = list->sessions[k];
        check_state_at(world, i, list->presence_seq, found != NULL ? (int)found->state : 0,
                       found != NULL ? found->epoch : 0);
    }
}

static void on_results(struct world *world, uint32_t index, const Usher__V1__Results *results)
{
    struct backend *backend = &world->backends[index];
    if (results->n_results != backend->command_count || results->seq != backend->submit_seq) {
        broken(world, "MAIL", "%zu results to %u commands", results->n_results,
               backend->command_count);
        return;
    }
    for (size_t i = 0; i < results->n_results; i++) {
        const Usher__V1__Result *result = results->results[i];
        if (result->value_case == USHER__V1__RESULT__VALUE_SESSIONS)
            on_snapshot(world, result->sessions);
        if (i >= PUSHES_MAX || backend->pushed[i] == NOBODY)
            continue;
        struct parcel *parcel = &world->parcels[backend->pushed[i]];
        if (result->code == USHER__V1__RESULT__CODE__NOT_ONLINE)
            check_not_online(world, parcel->to, backend->submit_step);
        parcel->accepted = result->code == USHER__V1__RESULT__CODE__OK;
    }
}

static void on_refused(struct backend *backend, unsigned which, uint32_t code)
{
    if (which == CHANNEL_SUBMIT)
        backend->submit_seq--; /* it had no effect: its number is free again */
    if (code == USHER__V1__REFUSED__CODE__STALE_LINK)
        backend->wants_hello = true;
}

static void on_answer(struct world *world, uint32_t index, unsigned which)
{
    struct backend *backend = &world->backends[index];
    struct channel *channel = &backend->channels[which];
    channel->waiting = channel->answered = false;
    Usher__V1__LinkAnswer *answer = usher__v1__link_answer__unpack(
        NULL, channel->answer.size, channel->answer.data);
    if (answer == NULL) {
        broken(world, "BYTES", "backend %u got an answer that is none", index);
        return;
    }
    tell(world, "backend %u: answer %d of %zu bytes", index, (int)answer->body_case,
         channel->answer.size);
    if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_ACCEPTED)
        on_accepted(world, backend, answer->accepted);
    else if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_BATCH)
        on_batch(world, index, answer->batch);
    else if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_RESULTS)
        on_results(world, index, answer->results);
    else
        on_refused(backend, which, answer->refused->code);
    usher__v1__link_answer__free_unpacked(answer, NULL);
}

/* --- acting ----------------------------------------------------------------------------------- */

static void be_born(struct world *world, struct backend *backend)
{
    backend->alive = true;
    backend->incarnation++;
    tell(world, "backend %d is born", (int)(backend - world->backends));
}

static bool is_idle(const struct channel *channel)
{
    return !channel->to_send && !channel->waiting;
}

/* A request that fails because the broker is gone leaves its channel idle; so does an answer. */
static bool go_on(struct world *world, uint32_t index)
{
    struct backend *backend = &world->backends[index];
    bool any = false;
    for (unsigned i = 0; i < CHANNELS; i++)
        if (backend->channels[i].waiting && backend->channels[i].answered) {
            on_answer(world, index, i);
            any = true;
        }
    if (is_idle(&backend->channels[CHANNEL_FETCH]) && world->broker != NULL) {
        if (backend->wants_hello && is_idle(&backend->channels[CHANNEL_SUBMIT]))
            ask_hello(world, index);
        else if (!backend->wants_hello)
            ask_fetch(world, backend);
    }
    if (is_idle(&backend->channels[CHANNEL_SUBMIT]) && !backend->wants_hello &&
        world->broker != NULL && (!world->healing || backend->todo_count > 0))
        ask_submit(world, index);
    return any;
}

bool backend_act(struct world *world, uint32_t index, bool all)
{
    struct backend *backend = &world->backends[index];
    if (!backend->alive) {
        if (!all && !one_in(world, 10))
            return false;
        be_born(world, backend);
        return true;
    }
    if (!all && backend->stalled_until_ms > world->now_ms)
        return false;
    if (!all && one_in(world, 150)) {
        backend_die(world, index);
        return true;
    }
    if (!all && one_in(world, 100)) {
        backend->stalled_until_ms = world->now_ms + below(world, 4000);
        return true;
    }
    return go_on(world, index);
}
