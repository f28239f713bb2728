/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "sim.h"
#include "sim_room.h"

/* What backends submit, and what they are told about it.
 *
 * A Submit holds some commands of any kinds, in one of three lanes; two can be under way at once.
 * With each command is kept what its result can be judged by. Rules beside those of the pages
 * (sim_stream.c): MAIL (one result per command, of its kind), FENCE (what is asked of an epoch
 * happens to that one or not at all, and is refused as stale only when it is), KICK, D. */

enum { PAYLOAD_MAX = 512 };

/* The commands and what they point to. */
struct order {
    struct errand *errand;
    uint32_t backend;
    Usher__V1__Command commands[COMMANDS], *list[COMMANDS];
    union {
        Usher__V1__ReplyTo reply_to;
        Usher__V1__Push push;
        Usher__V1__PushAll push_all;
        Usher__V1__Kick kick;
        Usher__V1__Lookup lookup;
        Usher__V1__List list;
        Usher__V1__Count count;
        Usher__V1__Snapshot snapshot;
        Usher__V1__Events events;
        Usher__V1__Stats stats;
        Usher__V1__Drain drain;
        Usher__V1__WatchList watch_list;
    } bodies[COMMANDS];
    char *names[COMMANDS][(int)COMMANDS > (int)USERS ? (int)COMMANDS : (int)USERS];
    uint8_t payloads[COMMANDS][PAYLOAD_MAX];
};

static struct asked_command *add(struct order *order, Usher__V1__Command__BodyCase kind)
{
    uint32_t at = order->errand->count++;
    Usher__V1__Command *command = &order->commands[at];
    usher__v1__command__init(command);
    command->body_case = kind;
    command->reply_to = &order->bodies[at].reply_to; /* the oneof is a union of pointers */
    order->list[at] = command;
    order->errand->commands[at] = (struct asked_command){.kind = kind, .parcels = NOBODY};
    return &order->errand->commands[at];
}

static uint32_t last_of(const struct order *order)
{
    return order->errand->count - 1;
}

/* --- what it does ----------------------------------------------------------------------------- */

static void add_reply(struct world *world, struct order *order)
{
    struct backend *backend = &world->backends[order->backend];
    uint32_t which = below(world, backend->todo_count);
    int parcel = backend->todo[which].parcel;
    add(order, USHER__V1__COMMAND__BODY_REPLY_TO);
    uint32_t at = last_of(order);
    Usher__V1__ReplyTo *reply = &order->bodies[at].reply_to;
    usher__v1__reply_to__init(reply);
    reply->call = backend->todo[which].call;
    parcel_fill(world, parcel, order->payloads[at]);
    reply->payload = (ProtobufCBinaryData){world->parcels[parcel].size, order->payloads[at]};
    backend->todo[which] = backend->todo[--backend->todo_count];
}

static void choose_names(struct world *world, struct asked_command *asked)
{
    asked->names = one_in(world, 3) ? 2 + (int)below(world, COMMANDS - 1) : 1;
    uint32_t first = below(world, USERS);
    for (int i = 0; i < asked->names; i++)
        asked->users[i] = (int)((first + (uint32_t)i) % USERS);
}

/* Mostly any epoch, or the one that is there, or the one before it. */
static void choose_fence(struct world *world, struct asked_command *asked)
{
    const struct user *user = &world->users[asked->users[0]];
    uint32_t chance = below(world, 8);
    asked->fence = chance < 4 ? 0 : chance < 6 ? user->epoch : user->epoch_before;
    asked->user_epoch = user->epoch;
    asked->user_live_step = user->live_step;
}

/* One group in four. */
static bool make_transient(struct world *world, int first, int names)
{
    bool transient = one_in(world, 4);
    for (int i = 0; i < names; i++)
        world->parcels[first + i].transient = transient;
    return transient;
}

static void add_push(struct world *world, struct order *order)
{
    struct asked_command asked = {.kind = USHER__V1__COMMAND__BODY_PUSH};
    choose_names(world, &asked);
    if (asked.names == 1)
        choose_fence(world, &asked);
    int from = USERS + (int)(order->backend * LANES + order->errand->lane);
    asked.parcels = parcel_make(world, PARCEL_PUSH, from, asked.users, asked.names, NOBODY);
    if (asked.parcels == NOBODY)
        return;
    *add(order, USHER__V1__COMMAND__BODY_PUSH) = asked;
    uint32_t at = last_of(order);
    Usher__V1__Push *push = &order->bodies[at].push;
    usher__v1__push__init(push);
    parcel_fill(world, asked.parcels, order->payloads[at]);
    if (asked.fence == 0)
        push->keep_s = stored_keep_s(world, asked.parcels, asked.names);
    if (push->keep_s != 0)
        count(world, COUNT_stored_sends);
    else
        push->transient = make_transient(world, asked.parcels, asked.names);
    for (int i = 0; i < asked.names; i++)
        order->names[at][i] = world->users[asked.users[i]].name;
    push->to = order->names[at];
    push->n_to = (size_t)asked.names;
    push->epoch = asked.fence;
    push->payload = (ProtobufCBinaryData){world->parcels[asked.parcels].size, order->payloads[at]};
    world->parcels[asked.parcels].fence = asked.fence;
    count(world, asked.names > 1    ? COUNT_pushes_wide
                 : asked.fence != 0 ? COUNT_pushes_fenced
                                    : COUNT_pushes);
}

static void add_push_all(struct world *world, struct order *order)
{
    int everybody[USERS];
    for (int i = 0; i < USERS; i++)
        everybody[i] = i;
    int from = USERS + (int)(order->backend * LANES + order->errand->lane);
    int parcel = parcel_make(world, PARCEL_PUSH, from, everybody, USERS, NOBODY);
    if (parcel == NOBODY)
        return;
    add(order, USHER__V1__COMMAND__BODY_PUSH_ALL);
    uint32_t at = last_of(order);
    Usher__V1__PushAll *push = &order->bodies[at].push_all;
    usher__v1__push_all__init(push);
    parcel_fill(world, parcel, order->payloads[at]);
    push->transient = make_transient(world, parcel, USERS);
    push->payload = (ProtobufCBinaryData){world->parcels[parcel].size, order->payloads[at]};
    count(world, COUNT_pushes_wide);
}

static void add_kick(struct world *world, struct order *order)
{
    if (world->kick_count == KICKS_MAX)
        return;
    struct asked_command *asked = add(order, USHER__V1__COMMAND__BODY_KICK);
    asked->names = 1;
    asked->users[0] = (int)below(world, USERS);
    choose_fence(world, asked);
    Usher__V1__Kick *kick = &order->bodies[last_of(order)].kick;
    usher__v1__kick__init(kick);
    kick->user = world->users[asked->users[0]].name;
    kick->epoch = asked->fence;
    world->kicks[world->kick_count++] =
        (struct kick){.user = asked->users[0], .fence = asked->fence};
    tell(world, "kick of %s %llu", kick->user, (unsigned long long)kick->epoch);
}

static void add_drain(struct world *world, struct order *order)
{
    add(order, USHER__V1__COMMAND__BODY_DRAIN);
    usher__v1__drain__init(&order->bodies[last_of(order)].drain);
    world->backends[order->backend].drains = true;
    tell(world, "backend %u drains", order->backend);
}

static void add_watch_list(struct world *world, struct order *order)
{
    struct asked_command asked = {.kind = USHER__V1__COMMAND__BODY_WATCH_LIST, .parcels = NOBODY};
    if (!friends_list(world, &asked))
        return;
    *add(order, USHER__V1__COMMAND__BODY_WATCH_LIST) = asked;
    uint32_t at = last_of(order);
    Usher__V1__WatchList *list = &order->bodies[at].watch_list;
    usher__v1__watch_list__init(list);
    list->user = world->users[asked.users[0]].name;
    list->epoch = asked.fence;
    list->mode = (Usher__V1__WatchList__Mode)asked.friends_mode;
    list->targets = order->names[at];
    list->n_targets = friends_list_names(world, &asked, order->names[at]);
    tell(world, "list %d of %x for %s %llu", (int)list->mode, asked.friends_mask, list->user,
         (unsigned long long)list->epoch);
}

/* --- what it asks ----------------------------------------------------------------------------- */

static void add_lookup(struct world *world, struct order *order)
{
    struct asked_command *asked = add(order, USHER__V1__COMMAND__BODY_LOOKUP);
    uint32_t at = last_of(order);
    choose_names(world, asked);
    usher__v1__lookup__init(&order->bodies[at].lookup);
    for (int i = 0; i < asked->names; i++)
        order->names[at][i] = world->users[asked->users[i]].name;
    order->bodies[at].lookup.users = order->names[at];
    order->bodies[at].lookup.n_users = (size_t)asked->names;
}

static void choose_page(struct world *world, struct asked_command *asked)
{
    if (one_in(world, 3))
        snprintf(asked->after_name, sizeof(asked->after_name), "%s",
                 world->users[below(world, USERS)].name);
    asked->limit = one_in(world, 2) ? 1 + below(world, 3) : 0;
}

static void add_list(struct world *world, struct order *order)
{
    static const char *const prefixes[] = {"", "b", "cl", "eve", "x"};
    struct asked_command *asked = add(order, USHER__V1__COMMAND__BODY_LIST);
    Usher__V1__List *list = &order->bodies[last_of(order)].list;
    choose_page(world, asked);
    snprintf(asked->prefix, sizeof(asked->prefix), "%s", prefixes[below(world, 5)]);
    usher__v1__list__init(list);
    list->prefix = asked->prefix;
    list->after = asked->after_name;
    list->limit = (uint32_t)asked->limit;
}

static void add_snapshot(struct world *world, struct order *order, bool resync)
{
    struct asked_command *asked = add(order, USHER__V1__COMMAND__BODY_SNAPSHOT);
    Usher__V1__Snapshot *snapshot = &order->bodies[last_of(order)].snapshot;
    asked->resync = resync;
    if (!resync)
        choose_page(world, asked);
    usher__v1__snapshot__init(snapshot);
    snapshot->after = asked->after_name;
    snapshot->limit = (uint32_t)asked->limit;
}

static void add_events(struct world *world, struct order *order)
{
    struct asked_command *asked = add(order, USHER__V1__COMMAND__BODY_EVENTS);
    Usher__V1__Events *events = &order->bodies[last_of(order)].events;
    asked->after = below(world, (uint32_t)world->event_count + 2);
    asked->limit = 1 + below(world, 20);
    usher__v1__events__init(events);
    events->after = asked->after;
    events->limit = (uint32_t)asked->limit;
}

static void add_question(struct world *world, struct order *order)
{
    switch (below(world, 6)) {
    case 0:
        add_lookup(world, order);
        break;
    case 1:
        add_list(world, order);
        break;
    case 2:
        add_snapshot(world, order, false);
        break;
    case 3:
        add_events(world, order);
        break;
    case 4:
        add(order, USHER__V1__COMMAND__BODY_COUNT);
        usher__v1__count__init(&order->bodies[last_of(order)].count);
        break;
    default:
        add(order, USHER__V1__COMMAND__BODY_STATS);
        usher__v1__stats__init(&order->bodies[last_of(order)].stats);
        break;
    }
}

/* --- the Submit ------------------------------------------------------------------------------- */

static bool has_room(const struct order *order)
{
    return order->errand->count < COMMANDS;
}

static bool add_of_room(struct world *world, struct order *order)
{
    struct errand *errand = order->errand;
    uint32_t at = errand->count;
    if (!rooms_command(world, order->backend, errand->lane, at, &order->commands[at],
                       &errand->commands[at]))
        return false;
    order->list[at] = &order->commands[at];
    errand->count++;
    return true;
}

static void fill(struct world *world, struct order *order)
{
    const struct backend *backend = &world->backends[order->backend];
    bool instance = order->backend < INSTANCES;
    while (order->errand->count < COMMANDS - 1 && backend->todo_count > 0 && !one_in(world, 4))
        add_reply(world, order);
    if (backend->mirror.lost && has_room(order))
        add_snapshot(world, order, true);
    if (instance && has_room(order) && (world->healing || one_in(world, 3)))
        add_watch_list(world, order);
    while (has_room(order) && add_of_room(world, order))
        continue;
    if (world->healing)
        return;
    if (instance && has_room(order) && one_in(world, 2))
        add_push(world, order);
    for (unsigned odds = 16; instance && has_room(order) && one_in(world, odds); odds = 2)
        add_push_all(world, order);
    if (has_room(order) && one_in(world, 30))
        add_kick(world, order);
    if (instance && has_room(order) && !backend->drains && one_in(world, 60))
        add_drain(world, order);
    if (has_room(order) && one_in(world, 6))
        add_question(world, order);
}

void command_submit(struct world *world, uint32_t index, unsigned channel)
{
    struct backend *backend = &world->backends[index];
    struct errand *errand = &backend->errands[channel];
    struct order order = {.errand = errand, .backend = index};
    uint32_t lane = channel == CHANNEL_SUBMIT ? below(world, LANES - 1) : LANES - 1;
    *errand = (struct errand){.lane = lane, .step = world->step, .stream_seq = world->event_count};
    fill(world, &order);
    if (errand->count == 0)
        return;
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    Usher__V1__Submit submit = USHER__V1__SUBMIT__INIT;
    submit.link = backend->link;
    submit.lane = 7 * lane; /* any number will do */
    submit.seq = ++backend->lane_seq[lane];
    submit.commands = order.list;
    submit.n_commands = errand->count;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_SUBMIT;
    request.submit = &submit;
    tell(world, "backend %u submits %u commands in lane %u", index, errand->count, lane);
    backend_ask(backend, channel, &request);
}

/* --- results ---------------------------------------------------------------------------------- */

/* Of a command about one user, perhaps about one epoch. */
static void check_fence(struct world *world, const struct errand *errand,
                        const struct asked_command *asked, uint32_t code)
{
    const struct user *user = &world->users[asked->users[0]];
    bool stayed = asked->user_live_step != 0 && asked->user_live_step == user->live_step &&
                  asked->user_epoch == user->epoch;
    if (code == USHER__V1__RESULT__CODE__NOT_ONLINE)
        check_not_online(world, asked->users[0], errand->step);
    if (code == USHER__V1__RESULT__CODE__OK && asked->fence != 0 &&
        asked->fence < asked->user_epoch)
        broken(world, "FENCE", "what was asked of %s %llu was done to a later epoch", user->name,
               (unsigned long long)asked->fence);
    if (code == USHER__V1__RESULT__CODE__STALE_EPOCH &&
        (asked->fence == 0 || (stayed && asked->fence == user->epoch)))
        broken(world, "FENCE", "what was asked of %s %llu was refused as stale", user->name,
               (unsigned long long)asked->fence);
}

/* `dropped` of the names: known for one name alone. */
static void on_pushed(struct world *world, const struct errand *errand,
                      const struct asked_command *asked, int which, uint32_t code, uint32_t dropped,
                      uint64_t mid)
{
    struct parcel *parcel = &world->parcels[asked->parcels + which];
    const struct user *user = &world->users[parcel->to];
    bool nothing_done =
        code == USHER__V1__RESULT__CODE__OK && dropped > 0; /* also of a stale one */
    if (asked->names == 1 && !nothing_done)
        check_fence(world, errand, asked, code);
    else if (code == USHER__V1__RESULT__CODE__NOT_ONLINE)
        check_not_online(world, parcel->to, errand->step);
    if (code == USHER__V1__RESULT__CODE__STALE_EPOCH)
        count(world, COUNT_pushes_stale);
    if (code != USHER__V1__RESULT__CODE__OK)
        return;
    if (parcel->keep) {
        stored_told(world, asked->parcels + which, asked->names == 1 ? mid : 0);
        return;
    }
    if (parcel->transient || dropped > 0) {
        bool known = asked->names == 1;
        check_transient_answer(world, asked->parcels + which, known && dropped == 0,
                               known && dropped > 0);
        return;
    }
    parcel->accepted = true;
    parcel->accepted_step = world->step;
    if (asked->names == 1 && asked->user_epoch == user->epoch)
        parcel->accepted_epoch = user->epoch;
}

static uint32_t code_of_name(const struct world *world, const Usher__V1__PushReport *report,
                             int user)
{
    for (size_t i = 0; i < report->n_failures; i++)
        if (strcmp(report->failures[i]->user, world->users[user].name) == 0)
            return report->failures[i]->code;
    return USHER__V1__RESULT__CODE__OK;
}

static void on_push(struct world *world, const struct errand *errand,
                    const struct asked_command *asked, const Usher__V1__Result *result)
{
    const Usher__V1__PushReport *report = result->push;
    if (result->value_case != USHER__V1__RESULT__VALUE_PUSH ||
        report->accepted + report->dropped + report->n_failures != (size_t)asked->names) {
        broken(world, "MAIL", "a Push to %d names is reported otherwise", asked->names);
        return;
    }
    if (asked->names == 1 &&
        (result->code == USHER__V1__RESULT__CODE__OK) != (report->accepted + report->dropped == 1))
        broken(world, "MAIL", "a Push to one name has code %d and %u accepted", (int)result->code,
               report->accepted);
    for (int i = 0; i < asked->names; i++)
        on_pushed(world, errand, asked, i, code_of_name(world, report, asked->users[i]),
                  report->dropped, report->mid);
}

static void on_kick(struct world *world, const struct errand *errand,
                    const struct asked_command *asked, uint32_t code)
{
    check_fence(world, errand, asked, code);
    if (code == USHER__V1__RESULT__CODE__STALE_EPOCH)
        count(world, COUNT_kicks_stale);
    if (code == USHER__V1__RESULT__CODE__OK &&
        !was_kicked(world, asked->users[0], asked->fence, errand->stream_seq))
        broken(world, "KICK", "%s was not kicked", world->users[asked->users[0]].name);
}

static void on_drained(struct world *world, struct backend *backend, uint32_t code)
{
    count(world, COUNT_drains);
    if (code != USHER__V1__RESULT__CODE__OK)
        broken(world, "MAIL", "a Drain is refused: %u", code);
    if (backend->drains)
        backend->drained_step = world->step;
}

static void on_sessions(struct world *world, struct backend *backend,
                        const struct asked_command *asked, const Usher__V1__SessionList *list)
{
    if (asked->kind == USHER__V1__COMMAND__BODY_LOOKUP)
        check_lookup(world, list, asked);
    else
        check_page(world, list, asked);
    if (asked->resync && !list->more && backend->mirror.lost)
        backend_resync(world, backend, list);
}

static void on_result(struct world *world, struct backend *backend, const struct errand *errand,
                      const struct asked_command *asked, const Usher__V1__Result *result)
{
    if (rooms_result(world, asked, result))
        return;
    if (result->value_case == USHER__V1__RESULT__VALUE_SESSIONS)
        on_sessions(world, backend, asked, result->sessions);
    else if (result->value_case == USHER__V1__RESULT__VALUE_EVENTS)
        check_event_page(world, result->events, asked);
    else if (asked->kind == USHER__V1__COMMAND__BODY_COUNT &&
             result->value_case == USHER__V1__RESULT__VALUE_NUMBERS)
        check_numbers(world, result->numbers, errand->stream_seq);
    else if (asked->kind == USHER__V1__COMMAND__BODY_PUSH)
        on_push(world, errand, asked, result);
    else if (asked->kind == USHER__V1__COMMAND__BODY_KICK)
        on_kick(world, errand, asked, result->code);
    else if (asked->kind == USHER__V1__COMMAND__BODY_WATCH_LIST)
        friends_listed(world, errand, asked, result);
    else if (asked->kind == USHER__V1__COMMAND__BODY_DRAIN)
        on_drained(world, backend, result->code);
    else if (asked->kind == USHER__V1__COMMAND__BODY_REPLY_TO &&
             result->code != USHER__V1__RESULT__CODE__OK &&
             result->code != USHER__V1__RESULT__CODE__GONE)
        broken(world, "MAIL", "a reply is refused: %d", (int)result->code);
}

void command_results(struct world *world, uint32_t index, unsigned channel,
                     const Usher__V1__Results *results)
{
    struct backend *backend = &world->backends[index];
    const struct errand *errand = &backend->errands[channel];
    if (results->n_results != errand->count || results->seq != backend->lane_seq[errand->lane]) {
        broken(world, "MAIL", "%zu results to %u commands", results->n_results, errand->count);
        return;
    }
    for (size_t i = 0; i < results->n_results; i++)
        on_result(world, backend, errand, &errand->commands[i], results->results[i]);
}
