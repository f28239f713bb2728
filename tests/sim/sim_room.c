/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_room.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* The rooms of a world, and what clients do with them: they join, with and without a position,
 * publish by number and by name, leave, and name in each Resume where they are, wrongly at times.
 * Nothing of it breaks the protocol; what a client says of its position is its own affair. */

enum { HEAL_ROUNDS = 6, ITEM_BYTES = 256, NO_NUMBER = 9999 };

static const char *const names[ROOMS] = {"duo", "crew", "hall", "court", "gate"};

/* --- classes ---------------------------------------------------------------------------------- */

static void say(char *item, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(char *item, const char *format, ...)
{
    size_t size = strlen(item);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(item + size, ITEM_BYTES - size, format, arguments);
    va_end(arguments);
}

static void draw_doors(struct world *world, struct sim_room *room, char *item)
{
    static const char *const creates[] = {"client", "client", "client", "service", "backend"};
    static const char *const joins[] = {"any", "any", "any", "service", "token"};
    static const char *const publishes[] = {"member", "member", "member", "any", "any", "backend"};
    uint32_t create = below(world, 5), join = below(world, 5), publish = below(world, 6);
    if (join == 4 && world->broker_options.auth_mode != AUTH_MODE_TOKEN)
        join = 0; /* nobody has a claim */
    room->asks = join == 3;
    room->any = publish == 3 || publish == 4;
    room->owned = room->asks || create == 3 || one_in(world, 3);
    room->follows = room->owned && one_in(world, 3);
    say(item, " create=%s join=%s publish=%s%s%s", creates[create], joins[join], publishes[publish],
        room->owned ? " owner=svc" : "", room->follows ? " follow=messages" : "");
}

static void draw_history(struct world *world, struct sim_room *room, char *item)
{
    room->history = one_in(world, 5) ? 0 : 1 + below(world, 12);
    room->history_ms = one_in(world, 4) ? 2000 : 3600000;
    if (room->history > 0)
        say(item, " history=%u/%ums", room->history, (unsigned)room->history_ms);
}

static void draw_class(struct world *world, int which)
{
    static const unsigned ticks[] = {0, 0, 0, 30, 100, 250};
    char item[ITEM_BYTES] = "";
    struct sim_room *room = &world->rooms->rooms[which];
    uint32_t roster = below(world, 3);
    *room = (struct sim_room){.name = names[which], .lists = roster == 2, .counts = roster == 1};
    say(item, "%s members=%u roster=%s", room->name, 2 + below(world, USERS - 1),
        room->lists    ? "list"
        : room->counts ? "count"
                       : "none");
    draw_doors(world, room, item);
    draw_history(world, room, item);
    say(item, " tick=%ums", ticks[below(world, 6)]);
    room->idle_ms = one_in(world, 6) ? UINT64_MAX : 200 + below(world, 2000);
    if (room->idle_ms == UINT64_MAX)
        say(item, " idle=never");
    else
        say(item, " idle=%ums", (unsigned)room->idle_ms);
    tell(world, "room %s", item);
    struct text_list *list = &world->broker_options.rooms_classes;
    list->items[list->count++] = strdup(item);
}

static void *room_for(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    CHECK_DEBT(memory != NULL, "no memory for the simulation");
    return memory;
}

void rooms_make(struct world *world)
{
    struct rooms_world *rooms = world->rooms = room_for(1, sizeof(*rooms));
    rooms->on = !one_in(world, 3);
    if (!rooms->on)
        return;
    rooms->lives = room_for(LIVES_MAX, sizeof(*rooms->lives));
    rooms->published = room_for(PUBLISHED_MAX, sizeof(*rooms->published));
    rooms->joins = room_for(JOINS_MAX, sizeof(*rooms->joins));
    rooms->wires = room_for(WIRES_MAX, sizeof(*rooms->wires));
    rooms->sessions = room_for(SESSIONS_MAX, sizeof(*rooms->sessions));
    rooms->grants = room_for(GRANTS_MAX, sizeof(*rooms->grants));
    rooms->pages = room_for(PAGES_MAX, sizeof(*rooms->pages));
    struct options *options = &world->broker_options;
    for (int i = 0; i < ROOMS; i++)
        draw_class(world, i);
    options->rooms_count = one_in(world, 6) ? 2 : 16384;
    options->rooms_per_user = one_in(world, 2) ? 64 : 1 + below(world, 4);
    options->rooms_publish_per_second = one_in(world, 3) ? 1 + below(world, 20) : 0;
    options->rooms_deliveries_per_second = one_in(world, 4) ? 20 + below(world, 100) : 0;
    options->rooms_ask_ms = 100 + below(world, 600);
    tell(world, "rooms: %u, %u of a user", (unsigned)options->rooms_count,
         (unsigned)options->rooms_per_user);
}

void rooms_free(struct world *world)
{
    struct rooms_world *rooms = world->rooms;
    for (uint32_t i = 0; i < rooms->life_count; i++) {
        free(rooms->lives[i].contents);
        free(rooms->lives[i].news);
    }
    free(rooms->lives);
    free(rooms->published);
    free(rooms->joins);
    free(rooms->wires);
    free(rooms->sessions);
    free(rooms->grants);
    free(rooms->pages);
    free(rooms);
}

void rooms_forget(struct world *world)
{
    world->rooms->up_step = world->step;
    world->rooms->news_gaps = 0;
    memset(world->rooms->carries, 0, sizeof(world->rooms->carries));
    memset(world->rooms->removes, 0, sizeof(world->rooms->removes));
}

/* --- what is known ---------------------------------------------------------------------------- */

int room_named(struct world *world, const char *name)
{
    for (int i = 0; i < ROOMS; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    broken(world, "BYTES", "a room that nobody named: %s", name);
    return NOBODY;
}

struct life *life_find(struct world *world, uint64_t incarnation)
{
    struct rooms_world *rooms = world->rooms;
    for (uint32_t i = rooms->life_count; i > 0; i--)
        if (rooms->lives[i - 1].incarnation == incarnation)
            return &rooms->lives[i - 1];
    return NULL;
}

struct life *life_of(struct world *world, uint64_t incarnation, int room)
{
    struct rooms_world *rooms = world->rooms;
    struct life *life = life_find(world, incarnation);
    if (life != NULL && life->room != room)
        broken(world, "R1", "incarnation %llu is one of %s and of %s",
               (unsigned long long)incarnation, names[life->room], names[room]);
    if (life != NULL)
        return life;
    CHECK_DEBT(rooms->life_count < LIVES_MAX, "too many lives of rooms");
    life = &rooms->lives[rooms->life_count++];
    life->room = room;
    life->incarnation = incarnation;
    count(world, COUNT_room_lives);
    return life;
}

void life_knows(struct life *life, uint64_t offset)
{
    if (offset > life->newest)
        life->newest = offset;
}

int room_publication(struct world *world, int from, int room, int wire)
{
    struct rooms_world *rooms = world->rooms;
    if (rooms->published_count == PUBLISHED_MAX)
        return NOBODY;
    rooms->published[rooms->published_count] = (struct published){
        .from = from,
        .room = room,
        .wire = wire,
        .step = world->step,
        .ms = world->now_ms,
        .size = 4 + (one_in(world, 8) ? below(world, ROOM_PAYLOAD_MAX - 4) : below(world, 24)),
    };
    count(world, COUNT_room_publishes);
    return (int)rooms->published_count++;
}

void room_fill(struct world *world, int which, uint8_t *payload)
{
    for (uint32_t i = 0; i < world->rooms->published[which].size; i++)
        payload[i] = (uint8_t)(i < 4 ? (uint32_t)which >> (8 * i) : (uint32_t)which * 17 + i);
}

/* --- what clients do -------------------------------------------------------------------------- */

/* A position in that room that some client of the user's may have: the session's own, mostly. */
static struct place *remember(struct world *world, int number, int room)
{
    const struct wire *wire = &world->wires[number];
    int session = wire->session;
    if (one_in(world, 4))
        session = (int)below(world, world->session_count);
    return &world->rooms->sessions[session].places[room];
}

static void choose_position(struct world *world, int number, struct join *join)
{
    const struct place *place = remember(world, number, join->room);
    uint32_t chance = below(world, 8);
    if (chance == 0)
        return; /* from the oldest on */
    join->incarnation = place->incarnation;
    join->offset = place->offset;
    if (chance == 1)
        join->offset = below(world, (uint32_t)place->offset + 4);
    if (chance == 2)
        join->incarnation += 1 + below(world, 3);
}

/* What exists for certain of the newest life that anybody was told of. */
static void note_known(struct world *world, struct join *join)
{
    const struct rooms_world *rooms = world->rooms;
    for (uint32_t i = 0; i < rooms->life_count; i++) {
        const struct life *life = &rooms->lives[i];
        if (life->room == join->room && life->incarnation > join->known_incarnation) {
            join->known_incarnation = life->incarnation;
            join->known = life->newest;
        }
    }
}

static void ask_join(struct world *world, int number, int room)
{
    struct rooms_world *rooms = world->rooms;
    if (rooms->join_count == JOINS_MAX)
        return;
    struct join *join = &rooms->joins[rooms->join_count];
    *join = (struct join){.room = room, .wire = number, .recover = one_in(world, 2)};
    if (join->recover)
        choose_position(world, number, join);
    note_known(world, join);
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Join body = USHER__V1__JOIN__INIT;
    body.room = (char *)names[room];
    body.recover = join->recover;
    body.incarnation = join->incarnation;
    body.offset = join->offset;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_JOIN;
    frame.join = &body;
    if (join->recover || !one_in(world, 6))
        frame.id = request_make(world, ASK_JOIN, number, (int)rooms->join_count++);
    if (frame.id == 0 && join->recover)
        return; /* no number is left, and the answer could not be told from another */
    rooms->wires[number].views[room].joins++;
    tell(world, "wire %d: join %s id %llu%s %llu/%llu", number, body.room,
         (unsigned long long)frame.id, join->recover ? " recover" : "",
         (unsigned long long)join->incarnation, (unsigned long long)join->offset);
    wire_send(world, &world->wires[number], &frame);
}

static void ask_leave(struct world *world, int number, int room)
{
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Leave body = USHER__V1__LEAVE__INIT;
    struct carry *carry = &world->rooms->carries[world->wires[number].user][room];
    const struct view *view = &world->rooms->wires[number].views[room];
    body.room = view->joined ? view->number : NO_NUMBER;
    frame.id = one_in(world, 5) ? 0 : request_make(world, ASK_LEAVE, number, room);
    if (frame.id == 0)
        world->rooms->wires[number].views[room].leaves_untold++;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_LEAVE;
    frame.leave = &body;
    carry->step = 0;
    carry->left_step = world->step;
    carry->leaves++;
    tell(world, "wire %d: leave %s %u id %llu", number, names[room], body.room,
         (unsigned long long)frame.id);
    wire_send(world, &world->wires[number], &frame);
}

static void ask_publish(struct world *world, int number, int room, bool by_name)
{
    uint8_t payload[ROOM_PAYLOAD_MAX];
    int which = room_publication(world, world->wires[number].user, room, number);
    if (which == NOBODY)
        return;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Publish body = USHER__V1__PUBLISH__INIT;
    struct published *published = &world->rooms->published[which];
    room_fill(world, which, payload);
    body.payload = (ProtobufCBinaryData){published->size, payload};
    if (by_name) {
        count(world, COUNT_room_publishes_named);
        body.name = (char *)names[room];
    } else {
        const struct view *view = &world->rooms->wires[number].views[room];
        body.room = view->joined ? view->number : NO_NUMBER;
        published->incarnation = view->joined ? view->incarnation : 0;
    }
    frame.id = one_in(world, 5) ? 0 : request_make(world, ASK_PUBLISH, number, which);
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_PUBLISH;
    frame.publish = &body;
    tell(world, "wire %d: publish %d to %s %s id %llu", number, which, names[room],
         by_name ? "by name" : "", (unsigned long long)frame.id);
    wire_send(world, &world->wires[number], &frame);
}

static void speak_inside(struct world *world, int wire, int room)
{
    uint32_t chance = below(world, 100);
    if (chance < 78)
        ask_publish(world, wire, room, chance < 8);
    else if (chance < 88)
        ask_leave(world, wire, room);
    else
        ask_join(world, wire, room);
}

bool rooms_speak(struct world *world, int wire)
{
    struct rooms_world *rooms = world->rooms;
    if (!rooms->on)
        return false;
    int room = (int)below(world, ROOMS);
    for (int i = 0; i < ROOMS && one_in(world, 2); i++) /* mostly one where he is */
        if (rooms->wires[wire].views[(room + i) % ROOMS].joined) {
            room = (room + i) % ROOMS;
            break;
        }
    if (rooms->wires[wire].views[room].joined)
        speak_inside(world, wire, room);
    else if (one_in(world, 6))
        ask_publish(world, wire, room, !one_in(world, 3));
    else if (one_in(world, 16))
        ask_leave(world, wire, room);
    else
        ask_join(world, wire, room);
    return true;
}

/* --- positions of a Resume -------------------------------------------------------------------- */

static void name_position(struct world *world, struct wire_rooms *wire, const struct named *named)
{
    wire->named[wire->named_count++] = *named;
    tell(world, "  names room %u, %llu/%llu", named->number, (unsigned long long)named->incarnation,
         (unsigned long long)named->offset);
}

static void forge(struct world *world, struct named *named)
{
    switch (below(world, 12)) {
    case 0:
        named->offset += 1 + below(world, 3);
        count(world, COUNT_room_positions_wrong);
        break;
    case 1:
        named->offset = below(world, (uint32_t)named->offset + 1);
        count(world, COUNT_room_positions_wrong);
        break;
    case 2:
        named->incarnation += 1 + below(world, 2);
        count(world, COUNT_room_positions_wrong);
        break;
    case 3:
        named->number = below(world, 40);
        count(world, COUNT_room_positions_wrong);
        break;
    default:
        break;
    }
}

void rooms_no_positions(struct world *world, int wire)
{
    if (world->rooms->on)
        world->rooms->wires[wire].named_count = 0;
}

void rooms_put_positions(struct world *world, int number, int session, Usher__V1__Resume *resume)
{
    struct rooms_world *rooms = world->rooms;
    if (!rooms->on)
        return;
    struct wire_rooms *wire = &rooms->wires[number];
    bool none = one_in(world, 10);
    for (int i = 0; i < ROOMS; i++) {
        struct place *place = &rooms->sessions[session].places[i];
        struct named named = {.room = i,
                              .number = place->number,
                              .incarnation = place->incarnation,
                              .offset = place->offset};
        place->unsure = true;
        if (none || place->incarnation == 0 || (!place->joined && !one_in(world, 8)) ||
            one_in(world, 8))
            continue;
        forge(world, &named);
        bool twice = false;
        for (uint32_t k = 0; k < wire->named_count; k++)
            twice = twice || wire->named[k].number == named.number;
        if (twice)
            continue;
        place->unsure = named.number != place->number || named.incarnation != place->incarnation;
        name_position(world, wire, &named);
    }
    for (uint32_t i = 0; i < wire->named_count; i++) {
        usher__v1__room_position__init(&rooms->positions[i]);
        rooms->positions[i].room = wire->named[i].number;
        rooms->positions[i].incarnation = wire->named[i].incarnation;
        rooms->positions[i].offset = wire->named[i].offset;
        rooms->position_list[i] = &rooms->positions[i];
    }
    resume->rooms = rooms->position_list;
    resume->n_rooms = wire->named_count;
}

/* --- healing ---------------------------------------------------------------------------------- */

void rooms_heal(struct world *world)
{
    struct rooms_world *rooms = world->rooms;
    rooms->heal_rounds++;
    if (!rooms->on || rooms->heal_rounds > HEAL_ROUNDS)
        return;
    for (uint32_t i = 0; i < world->wire_count; i++) {
        const struct wire *wire = &world->wires[i];
        if (!wire->welcomed || wire->client_closed || wire->reset || wire->over)
            continue;
        for (int k = 0; k < ROOMS; k++)
            if (rooms->wires[i].views[k].joined && one_in(world, 2))
                ask_publish(world, (int)i, k, false);
    }
}
