/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "sim_room.h"

/* What backends do with rooms: they open and close them, add users (to stay, at times) and remove
 * them, publish, ask who is in them, and answer who may come in. Of asked_command `after` is the
 * room, `limit` is when it was asked, `resync` says that a RoomAdd was to stay
 * and `prefix` that nothing was under way that may end it. */

enum { FINAL_ROUND = 12 };

static int which_room(struct world *world)
{
    return (int)below(world, ROOMS);
}

static void take(struct world *world, Usher__V1__Command *to, Usher__V1__Command__BodyCase kind,
                 union room_body *body, struct asked_command *asked)
{
    usher__v1__command__init(to);
    to->body_case = kind;
    to->reply_to = &body->reply_to; /* the oneof is a union of pointers */
    *asked = (struct asked_command){.kind = kind, .parcels = NOBODY, .limit = world->step};
}

static void grant(struct world *world, int user, int room, uint64_t epoch)
{
    struct rooms_world *rooms = world->rooms;
    if (rooms->grant_count < GRANTS_MAX)
        rooms->grants[rooms->grant_count++] = (struct grant){user, room, epoch};
}

/* --- commands --------------------------------------------------------------------------------- */

static void reply(struct world *world, uint32_t index, union room_body *body)
{
    static uint8_t no[] = "no";
    struct rooms_world *rooms = world->rooms;
    uint32_t which = below(world, rooms->ask_count[index]);
    const struct room_ask ask = rooms->asks[index][which];
    rooms->asks[index][which] = rooms->asks[index][--rooms->ask_count[index]];
    usher__v1__reply_to__init(&body->reply_to);
    body->reply_to.call = ask.call;
    body->reply_to.status = one_in(world, 5);
    if (body->reply_to.status != 0)
        body->reply_to.payload = (ProtobufCBinaryData){2, no};
    else
        grant(world, ask.user, ask.room, ask.epoch);
    tell(world, "backend %u: %s may %sbe in %s", index, world->users[ask.user].name,
         body->reply_to.status != 0 ? "not " : "", rooms->rooms[ask.room].name);
}

static void choose_users(struct world *world, uint32_t at, struct asked_command *asked)
{
    asked->names = one_in(world, 3) ? 2 + (int)below(world, COMMANDS - 1) : 1;
    uint32_t first = below(world, USERS);
    for (int i = 0; i < asked->names; i++) {
        asked->users[i] = (int)((first + (uint32_t)i) % USERS);
        world->rooms->names[at][i] = world->users[asked->users[i]].name;
    }
}

static void add_users(struct world *world, uint32_t at, union room_body *body,
                      struct asked_command *asked)
{
    struct rooms_world *rooms = world->rooms;
    choose_users(world, at, asked);
    asked->resync = one_in(world, 2);
    bool fenced = one_in(world, 3);
    usher__v1__room_add__init(&body->add);
    body->add.room = (char *)rooms->rooms[asked->after].name;
    body->add.users = rooms->names[at];
    body->add.n_users = (size_t)asked->names;
    body->add.carry = asked->resync;
    asked->prefix[0] = asked->resync && rooms->removes[asked->after] == 0;
    for (int i = 0; i < asked->names; i++) {
        const struct user *user = &world->users[asked->users[i]];
        if (rooms->carries[asked->users[i]][asked->after].leaves > 0)
            asked->prefix[0] = 0;
        rooms->epochs[at][i] = one_in(world, 4) ? user->epoch_before : user->epoch;
        grant(world, asked->users[i], (int)asked->after, 0);
    }
    if (fenced) {
        body->add.epochs = rooms->epochs[at];
        body->add.n_epochs = (size_t)asked->names;
        asked->fence = rooms->epochs[at][0];
        asked->user_epoch = world->users[asked->users[0]].epoch;
    }
    tell(world, "  adds %d from %s on to %s%s", asked->names, rooms->names[at][0], body->add.room,
         asked->resync ? ", to stay" : "");
}

static void forget_carries(struct world *world, int room)
{
    for (int i = 0; i < USERS; i++)
        world->rooms->carries[i][room].step = 0;
    world->rooms->removes[room]++;
    world->rooms->ended_step[room] = world->step;
}

static void remove_users(struct world *world, uint32_t at, union room_body *body,
                         struct asked_command *asked)
{
    choose_users(world, at, asked);
    forget_carries(world, (int)asked->after);
    usher__v1__room_remove__init(&body->remove);
    body->remove.room = (char *)world->rooms->rooms[asked->after].name;
    body->remove.users = world->rooms->names[at];
    body->remove.n_users = (size_t)asked->names;
    tell(world, "  removes %d from %s on from %s", asked->names, world->rooms->names[at][0],
         body->remove.room);
}

static bool publish(struct world *world, int from, uint32_t at, union room_body *body,
                    struct asked_command *asked)
{
    struct rooms_world *rooms = world->rooms;
    int room = (int)asked->after;
    asked->parcels = room_publication(world, from, room, NOBODY);
    if (asked->parcels == NOBODY)
        return false;
    room_fill(world, asked->parcels, rooms->payloads[at]);
    usher__v1__room_publish__init(&body->publish);
    body->publish.room = (char *)rooms->rooms[room].name;
    body->publish.payload =
        (ProtobufCBinaryData){rooms->published[asked->parcels].size, rooms->payloads[at]};
    tell(world, "  publishes %d to %s", asked->parcels, body->publish.room);
    return true;
}

static void list_members(struct world *world, union room_body *body, struct asked_command *asked)
{
    usher__v1__room_members__init(&body->members);
    body->members.room = (char *)world->rooms->rooms[asked->after].name;
}

static void open_or_close(struct world *world, bool open, union room_body *body,
                          struct asked_command *asked)
{
    char *name = (char *)world->rooms->rooms[asked->after].name;
    if (open) {
        usher__v1__room_open__init(&body->open);
        body->open.room = name;
    } else {
        forget_carries(world, (int)asked->after);
        usher__v1__room_close__init(&body->close);
        body->close.room = name;
        body->close.detail = (char *)"over";
    }
    tell(world, "  %s %s", open ? "opens" : "closes", name);
}

static Usher__V1__Command__BodyCase choose_kind(struct world *world)
{
    uint32_t chance = below(world, 100);
    return chance < 15   ? USHER__V1__COMMAND__BODY_ROOM_OPEN
           : chance < 45 ? USHER__V1__COMMAND__BODY_ROOM_ADD
           : chance < 56 ? USHER__V1__COMMAND__BODY_ROOM_REMOVE
           : chance < 80 ? USHER__V1__COMMAND__BODY_ROOM_PUBLISH
           : chance < 84 ? USHER__V1__COMMAND__BODY_ROOM_CLOSE
                         : USHER__V1__COMMAND__BODY_ROOM_MEMBERS;
}

static bool is_final(const struct world *world)
{
    const struct rooms_world *rooms = world->rooms;
    return world->healing && rooms->heal_rounds >= FINAL_ROUND && rooms->final_pages < ROOMS;
}

bool rooms_have_work(const struct world *world, uint32_t index)
{
    const struct rooms_world *rooms = world->rooms;
    return rooms->on && (rooms->ask_count[index] > 0 || (index == 0 && is_final(world)));
}

static void fill(struct world *world, uint32_t at, union room_body *body,
                 struct asked_command *asked)
{
    switch (asked->kind) {
    case USHER__V1__COMMAND__BODY_ROOM_ADD:
        add_users(world, at, body, asked);
        break;
    case USHER__V1__COMMAND__BODY_ROOM_REMOVE:
        remove_users(world, at, body, asked);
        break;
    case USHER__V1__COMMAND__BODY_ROOM_MEMBERS:
        list_members(world, body, asked);
        break;
    default:
        open_or_close(world, asked->kind == USHER__V1__COMMAND__BODY_ROOM_OPEN, body, asked);
        break;
    }
}

bool rooms_command(struct world *world, uint32_t index, uint32_t lane, uint32_t at,
                   Usher__V1__Command *to, struct asked_command *asked)
{
    struct rooms_world *rooms = world->rooms;
    union room_body *body = &rooms->bodies[at];
    if (!rooms->on || index >= INSTANCES)
        return false;
    if (rooms->ask_count[index] > 0 && (world->healing || !one_in(world, 4))) {
        take(world, to, USHER__V1__COMMAND__BODY_REPLY_TO, body, asked);
        reply(world, index, body);
        return true;
    }
    bool final = index == 0 && is_final(world);
    if (!final && (world->healing || !one_in(world, 3)))
        return false;
    take(world, to, final ? USHER__V1__COMMAND__BODY_ROOM_MEMBERS : choose_kind(world), body,
         asked);
    asked->after = final ? rooms->final_pages++ : (uint64_t)which_room(world);
    if (asked->kind == USHER__V1__COMMAND__BODY_ROOM_PUBLISH)
        return publish(world, USERS + (int)(index * LANES + lane), at, body, asked);
    fill(world, at, body, asked);
    return true;
}

/* --- results ---------------------------------------------------------------------------------- */

static uint32_t code_of(const struct world *world, const struct asked_command *asked, int which,
                        const Usher__V1__Result *result)
{
    for (size_t i = 0; i < result->push->n_failures; i++)
        if (strcmp(result->push->failures[i]->user, world->users[asked->users[which]].name) == 0)
            return result->push->failures[i]->code;
    return USHER__V1__RESULT__CODE__OK;
}

static void on_report(struct world *world, const struct asked_command *asked,
                      const Usher__V1__Result *result)
{
    struct rooms_world *rooms = world->rooms;
    int room = (int)asked->after;
    bool add = asked->kind == USHER__V1__COMMAND__BODY_ROOM_ADD;
    if (result->value_case != USHER__V1__RESULT__VALUE_PUSH ||
        result->push->accepted + result->push->n_failures != (size_t)asked->names) {
        broken(world, "MAIL", "what was asked of %d names for a room is reported otherwise",
               asked->names);
        return;
    }
    if (asked->limit <= rooms->up_step)
        return; /* of a process that is gone */
    if (!add)
        rooms->removes[room] -= rooms->removes[room] > 0;
    for (int i = 0; i < asked->names; i++) {
        uint32_t code = code_of(world, asked, i, result);
        if (code != USHER__V1__RESULT__CODE__OK)
            continue;
        count(world, add ? COUNT_room_adds : COUNT_room_removes);
        struct carry *carry = &rooms->carries[asked->users[i]][room];
        if (add && asked->prefix[0] && rooms->removes[room] == 0 && carry->leaves == 0 &&
            asked->limit > rooms->ended_step[room] && asked->limit > carry->left_step)
            carry->step = asked->limit;
        if (i == 0 && asked->fence != 0 && asked->fence < asked->user_epoch)
            broken(world, "FENCE", "%s %llu was added to a room, and was over",
                   world->users[asked->users[0]].name, (unsigned long long)asked->fence);
    }
}

static void on_room(struct world *world, const struct asked_command *asked,
                    const Usher__V1__Result *result)
{
    if (result->code != USHER__V1__RESULT__CODE__OK)
        return;
    if (result->value_case != USHER__V1__RESULT__VALUE_ROOMS || result->rooms->n_rooms != 1 ||
        room_named(world, result->rooms->rooms[0]->name) != (int)asked->after) {
        broken(world, "MAIL", "a command about a room is answered by another");
        return;
    }
    const Usher__V1__RoomInfo *info = result->rooms->rooms[0];
    struct life *life = life_of(world, info->incarnation, (int)asked->after);
    if (asked->parcels != NOBODY)
        check_offset(world, asked->parcels, info->incarnation, info->offset);
    else
        count(world, COUNT_room_opens);
    life_knows(life, info->offset);
}

static void on_closed(struct world *world, const struct asked_command *asked)
{
    uint32_t *removes = &world->rooms->removes[asked->after];
    *removes -= *removes > 0 && asked->limit > world->rooms->up_step;
}

bool rooms_result(struct world *world, const struct asked_command *asked,
                  const Usher__V1__Result *result)
{
    switch (asked->kind) {
    case USHER__V1__COMMAND__BODY_ROOM_ADD:
    case USHER__V1__COMMAND__BODY_ROOM_REMOVE:
        on_report(world, asked, result);
        return true;
    case USHER__V1__COMMAND__BODY_ROOM_OPEN:
    case USHER__V1__COMMAND__BODY_ROOM_PUBLISH:
        on_room(world, asked, result);
        return true;
    case USHER__V1__COMMAND__BODY_ROOM_CLOSE:
        on_closed(world, asked);
        return true;
    case USHER__V1__COMMAND__BODY_ROOM_MEMBERS:
        if (result->code == USHER__V1__RESULT__CODE__OK &&
            result->value_case == USHER__V1__RESULT__VALUE_MEMBERS)
            rooms_page(world, result->members, (int)asked->after);
        return true;
    default:
        return false;
    }
}
