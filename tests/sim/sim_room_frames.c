/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "sim_room.h"

/* What clients are told of rooms, and the rules over it:
 *
 *   R1        two members never see another content at an offset, nor one message at two
 *   R2        the offsets that a wire brings have no gap and no repetition between JOINED and the
 *             end, but where PARTIAL was said; COMPLETE brings what is behind the position, and
 *             PARTIAL is said where the history does not reach back, and only there
 *   R3        a publisher's own messages keep their order
 *   R4        what exists comes to whoever is a member in the quiet end
 *   R5        nothing of a room behind LEFT, REMOVED and CLOSED, nor before JOINED; nobody is told
 *             the end of what he is not in
 *   ROSTER    in the end the lists and numbers of members that members have are true
 *   MEMBER    what becomes of memberships is as the table of the protocol says: each position that
 *             a Resume names is answered, a service's member who stays does, nobody gets in without
 *             leave, who is a member is not told that he is none
 *
 * and P5, A2, A5 as for other requests and messages. */

static bool may_be_old(const struct world *world, const struct life *life, uint64_t offset)
{
    const struct sim_room *room = &world->rooms->rooms[life->room];
    if (room->history_ms > 3600000 / 2)
        return false;
    if (offset >= life->contents_size || life->contents[offset] == NOBODY)
        return true;
    return world->now_ms >= world->rooms->published[life->contents[offset]].ms + room->history_ms;
}

/* --- contents --------------------------------------------------------------------------------- */

static int read_payload(struct world *world, struct bytes payload)
{
    uint8_t right[ROOM_PAYLOAD_MAX];
    uint32_t which = 0;
    for (uint32_t i = 0; i < 4 && i < payload.size; i++)
        which |= (uint32_t)payload.data[i] << (8 * i);
    if (payload.size >= 4 && which < world->rooms->published_count &&
        world->rooms->published[which].size == payload.size) {
        room_fill(world, (int)which, right);
        if (memcmp(right, payload.data, payload.size) == 0)
            return (int)which;
    }
    broken(world, "R1", "a room's message of %zu bytes that nobody published", payload.size);
    return NOBODY;
}

static int *content_at(struct life *life, uint64_t offset)
{
    if (offset >= life->contents_size) {
        uint64_t size = (offset + 1) * 2;
        life->contents = realloc(life->contents, size * sizeof(*life->contents));
        CHECK_DEBT(life->contents != NULL, "no memory for the simulation");
        for (uint64_t i = life->contents_size; i < size; i++)
            life->contents[i] = NOBODY;
        life->contents_size = size;
    }
    return &life->contents[offset];
}

static void check_order(struct world *world, const struct life *life, uint64_t offset, int which)
{
    const struct published *all = world->rooms->published;
    for (uint64_t i = 1; i < life->contents_size; i++) {
        int other = life->contents[i];
        if (other == NOBODY || all[other].from != all[which].from || i == offset)
            continue;
        if ((i < offset) != (other < which))
            broken(world, "R3", "%d at %llu and %d at %llu of %s are of one publisher", other,
                   (unsigned long long)i, which, (unsigned long long)offset,
                   world->rooms->rooms[life->room].name);
    }
}

void check_offset(struct world *world, int which, uint64_t incarnation, uint64_t offset)
{
    struct published *published = &world->rooms->published[which];
    if (published->offset != 0 && published->offset != offset)
        broken(world, "R1", "message %d is at %llu and at %llu", which,
               (unsigned long long)published->offset, (unsigned long long)offset);
    if (published->incarnation != 0 && incarnation != 0 && published->incarnation != incarnation)
        broken(world, "R1", "message %d is in %llu and in %llu", which,
               (unsigned long long)published->incarnation, (unsigned long long)incarnation);
    published->offset = offset;
    if (incarnation != 0)
        published->incarnation = incarnation;
    if (published->incarnation != 0)
        life_knows(life_of(world, published->incarnation, published->room), offset);
}

static void check_publisher(struct world *world, const struct published *published,
                            const char *from, const char *service)
{
    bool user = published->from < USERS;
    const char *right = user ? world->users[published->from].name : "svc";
    if (strcmp(user ? from : service, right) != 0 || *(user ? service : from) != '\0')
        broken(world, "R1", "a message of %s is called one of '%s', '%s'", right, from, service);
    if (published->wire == NOBODY)
        return;
    uint64_t since = world->wires[published->wire].superseded_step;
    if (since != 0 && published->step > since)
        broken(world, "A2", "what was published on wire %d after its replacement is there",
               published->wire);
}

void check_content(struct world *world, struct life *life, uint64_t offset, struct bytes payload,
                   const char *from, const char *service)
{
    int which = read_payload(world, payload);
    if (which == NOBODY)
        return;
    struct published *published = &world->rooms->published[which];
    int *content = content_at(life, offset);
    if (published->room != life->room)
        broken(world, "R1", "message %d is in another room", which);
    if (*content != NOBODY && *content != which)
        broken(world, "R1", "at %llu of %s is %d, and %d", (unsigned long long)offset,
               world->rooms->rooms[life->room].name, *content, which);
    check_publisher(world, published, from, service);
    check_offset(world, which, life->incarnation, offset);
    if (*content == NOBODY) {
        *content = which;
        check_order(world, life, offset, which);
    }
}

/* --- views ------------------------------------------------------------------------------------ */

static struct view *view_numbered(struct world *world, uint32_t wire, uint32_t number)
{
    struct view *views = world->rooms->wires[wire].views;
    for (int i = 0; i < ROOMS; i++)
        if (views[i].joined && views[i].number == number)
            return &views[i];
    return NULL;
}

static int room_of(struct world *world, uint32_t wire, const struct view *view)
{
    return (int)(view - world->rooms->wires[wire].views);
}

/* The client looks at that wire: what it has is where it is. */
static void note_place(struct world *world, uint32_t wire, int room)
{
    int session = world->wires[wire].session;
    if (session == NOBODY || world->sessions[session].wire != (int)wire)
        return;
    const struct view *view = &world->rooms->wires[wire].views[room];
    struct place *place = &world->rooms->sessions[session].places[room];
    *place = (struct place){.joined = view->joined,
                            .number = view->number,
                            .incarnation = view->incarnation,
                            .offset = view->next_min > 0 ? view->next_min - 1 : 0};
}

static struct named *named_for(struct world *world, uint32_t wire, uint32_t number,
                               uint64_t incarnation)
{
    struct wire_rooms *rooms = &world->rooms->wires[wire];
    for (uint32_t i = 0; i < rooms->named_count; i++)
        if (rooms->named[i].number == number && rooms->named[i].incarnation == incarnation &&
            !rooms->named[i].answered)
            return &rooms->named[i];
    return NULL;
}

/* --- JOINED ----------------------------------------------------------------------------------- */

/* What the client has said of where it is; `said` false: nothing. */
struct base {
    bool said;
    bool resumed; /* in its Resume */
    uint64_t incarnation, offset;
};

static struct base base_of(struct world *world, uint32_t wire, const struct view *view,
                           const Usher__V1__RoomState *state, const struct join *join)
{
    struct named *named = named_for(world, wire, state->room, state->incarnation);
    if (named != NULL)
        named->answered = true;
    if (join != NULL && join->recover) /* it counts from there, whatever a Resume named */
        return (struct base){true, false,
                             join->incarnation != 0 ? join->incarnation : state->incarnation,
                             join->incarnation != 0 ? join->offset : 0};
    if (named != NULL)
        return (struct base){true, true, named->incarnation, named->offset};
    if (view->joined)
        return (struct base){true, false, state->incarnation, view->next_min - 1};
    return (struct base){0};
}

/* PARTIAL: the history does not reach back to the position, or may not. */
static void begin_partial(struct world *world, struct view *view, const struct life *life,
                          const struct base *base, uint64_t newest)
{
    const struct sim_room *room = &world->rooms->rooms[life->room];
    bool known = base->said && base->incarnation == life->incarnation && base->offset <= newest;
    bool old = may_be_old(world, life, base->offset + 1);
    if (known && base->offset + room->history >= newest && !old)
        broken(world, "R2", "behind %llu of %llu in %s PARTIAL is said, the history has %u",
               (unsigned long long)base->offset, (unsigned long long)newest, room->name,
               room->history);
    view->next_min = known ? base->offset + 1 : 1;
    view->next_max = newest + 1;
    if (room->history_ms > 3600000 / 2) /* what the history has of it is not left out */
        view->next_max = newest > room->history ? newest - room->history + 1 : 1;
    if (view->next_max < view->next_min)
        view->next_max = view->next_min;
}

static void begin(struct world *world, uint32_t wire, struct view *view, const struct life *life,
                  const Usher__V1__RoomState *state, const struct join *join)
{
    bool was_joined = view->joined;
    const struct base base = base_of(world, wire, view, state, join);
    const char *name = world->rooms->rooms[life->room].name;
    if (state->replay == USHER__V1__ROOM_STATE__REPLAY__PARTIAL) {
        count(world, base.resumed ? COUNT_room_resumes_partial : COUNT_room_partials);
        begin_partial(world, view, life, &base, state->offset);
    } else if (state->replay == USHER__V1__ROOM_STATE__REPLAY__COMPLETE) {
        count(world, base.resumed ? COUNT_room_resumes_complete
                     : base.said  ? COUNT_room_completes
                                  : COUNT_room_completes);
        if (!base.said)
            broken(world, "R2", "wire %u is told COMPLETE of %s and named no position", wire, name);
        if (base.incarnation != life->incarnation || base.offset > state->offset)
            broken(world, "R2", "COMPLETE behind %llu/%llu, but %s is at %llu/%llu",
                   (unsigned long long)base.incarnation, (unsigned long long)base.offset, name,
                   (unsigned long long)life->incarnation, (unsigned long long)state->offset);
        bool named = base.resumed || (join != NULL && join->recover);
        if (named || !was_joined)
            view->next_min = view->next_max = base.offset + 1;
    } else {
        count(world, COUNT_room_nones);
        if (base.resumed || was_joined ||
            (join != NULL && join->recover && join->wire == (int)wire))
            broken(world, "MEMBER", "wire %u, which has a position of %s, is told NONE", wire,
                   name);
        view->next_min = view->next_max = state->offset + 1;
    }
}

static bool has_leave(const struct world *world, int user, uint64_t epoch, int room)
{
    const struct rooms_world *rooms = world->rooms;
    if (!rooms->rooms[room].asks)
        return true;
    for (uint32_t i = 0; i < rooms->grant_count; i++)
        if (rooms->grants[i].user == user && rooms->grants[i].room == room &&
            (rooms->grants[i].epoch == 0 || rooms->grants[i].epoch == epoch))
            return true;
    return rooms->grant_count == GRANTS_MAX;
}

static void read_roster(struct world *world, struct view *view, const Usher__V1__RoomState *state,
                        int room)
{
    const struct sim_room *class = &world->rooms->rooms[room];
    view->roster = view->away = 0;
    view->members = state->members;
    for (size_t i = 0; i < state->n_roster; i++) {
        uint32_t bit = 1u << user_named(world, state->roster[i]->user);
        if (view->roster & bit)
            broken(world, "ROSTER", "%s is listed twice", state->roster[i]->user);
        view->roster |= bit;
        view->away |= state->roster[i]->away ? bit : 0;
    }
    if (class->lists != (state->n_roster > 0) ||
        (class->lists && state->n_roster != state->members) ||
        (!class->lists && !class->counts && state->members != 0))
        broken(world, "ROSTER", "%s lists %zu of %u members", class->name, state->n_roster,
               state->members);
}

static void on_joined(struct world *world, uint32_t number, const Usher__V1__RoomState *state,
                      const struct join *join)
{
    int room = room_named(world, state->name);
    if (room == NOBODY)
        return;
    struct wire *wire = &world->wires[number];
    struct view *view = &world->rooms->wires[number].views[room];
    struct life *life = life_of(world, state->incarnation, room);
    if (life->number != 0 && life->number != state->room)
        broken(world, "R1", "%s has the numbers %u and %u", state->name, life->number, state->room);
    life->number = state->room;
    if (view->joined && view->incarnation != state->incarnation)
        broken(world, "R5", "wire %u is in %s %llu, whose end was not told, and in %llu", number,
               state->name, (unsigned long long)view->incarnation,
               (unsigned long long)state->incarnation);
    if (state->incarnation < view->newest_incarnation)
        broken(world, "R5", "wire %u is told of %s %llu after a later one", number, state->name,
               (unsigned long long)state->incarnation);
    if (join != NULL && (join->room != room || (join->known_incarnation == state->incarnation &&
                                                state->offset < join->known)))
        broken(world, "R4", "%s is at %llu, and was at %llu before it was asked", state->name,
               (unsigned long long)state->offset, (unsigned long long)join->known);
    if (!has_leave(world, wire->user, world->sessions[wire->session].epoch, room))
        broken(world, "MEMBER", "%s is in %s, and nobody let him in", world->users[wire->user].name,
               state->name);
    begin(world, number, view, life, state, join);
    if (!view->joined)
        view->joined_step = world->step;
    view->joined = true;
    view->leaving = false;
    view->number = state->room;
    view->incarnation = view->newest_incarnation = state->incarnation;
    view->ended_incarnation = 0;
    life_knows(life, state->offset);
    read_roster(world, view, state, room);
    note_place(world, number, room);
}

/* --- the end of a membership ------------------------------------------------------------------ */

static void answer_named(struct world *world, uint32_t wire, struct named *named)
{
    int session = world->wires[wire].session;
    struct place *place = &world->rooms->sessions[session].places[named->room];
    named->answered = true;
    if (world->sessions[session].wire == (int)wire && place->number == named->number &&
        place->incarnation == named->incarnation)
        place->joined = false;
}

/* A membership that goes on in a new session may end before its client was told of it; once. */
/* How often he may have come into the room: by a Join of that connection, or a service's hand. */
static uint32_t ways_into(const struct world *world, uint32_t wire, int room)
{
    const struct rooms_world *rooms = world->rooms;
    uint32_t ways = rooms->wires[wire].views[room].joins;
    for (uint32_t i = 0; i < rooms->grant_count; i++)
        ways += rooms->grants[i].user == world->wires[wire].user && rooms->grants[i].room == room;
    return ways;
}

/* The end of a membership whose beginning could not be told: its connection was slow. */
static void check_untold(struct world *world, uint32_t wire, const Usher__V1__RoomState *state)
{
    const struct life *life = life_find(world, state->incarnation);
    struct view *view = life != NULL ? &world->rooms->wires[wire].views[life->room] : NULL;
    bool again = view != NULL && view->ended_incarnation == state->incarnation;
    if (state->state == USHER__V1__ROOM_STATE__STATE__LEFT ||
        (again && ++view->untold > ways_into(world, wire, life->room)))
        broken(world, "R5", "wire %u is told the end of room %u, %llu, and is not in it", wire,
               state->room, (unsigned long long)state->incarnation);
    if (view != NULL)
        view->ended_incarnation = state->incarnation;
}

static void on_ended(struct world *world, uint32_t number, const Usher__V1__RoomState *state)
{
    struct view *view = view_numbered(world, number, state->room);
    count(world, state->state == USHER__V1__ROOM_STATE__STATE__LEFT      ? COUNT_room_lefts
                 : state->state == USHER__V1__ROOM_STATE__STATE__REMOVED ? COUNT_room_removals
                                                                         : COUNT_room_closes);
    struct named *named = named_for(world, number, state->room, state->incarnation);
    if (named != NULL && (view == NULL || view->incarnation != state->incarnation)) {
        answer_named(world, number, named);
        return;
    }
    if (view == NULL || view->incarnation != state->incarnation) {
        check_untold(world, number, state);
        return;
    }
    int room = room_of(world, number, view);
    struct life *life = life_of(world, state->incarnation, room);
    bool left = state->state == USHER__V1__ROOM_STATE__STATE__LEFT;
    if (left ? !view->leaving && !view->leaves_untold : view->leaving)
        broken(world, "R5", "wire %u is told %d of %s, and has %sleft", number, (int)state->state,
               world->rooms->rooms[room].name, view->leaving ? "" : "not ");
    if (state->state == USHER__V1__ROOM_STATE__STATE__CLOSED) {
        life->closed = true;
        life_knows(life, state->offset);
        bool whole = view->next_max > state->offset;
        bool partial_of_anew =
            view->asked_anew && state->replay == USHER__V1__ROOM_STATE__REPLAY__PARTIAL;
        if (view->next_min == view->next_max && !partial_of_anew &&
            whole == (state->replay == USHER__V1__ROOM_STATE__REPLAY__PARTIAL))
            broken(world, "R2", "%s is closed at %llu, wire %u is at %llu, and is told %d",
                   world->rooms->rooms[room].name, (unsigned long long)state->offset, number,
                   (unsigned long long)view->next_max - 1, (int)state->replay);
    }
    view->leaves_untold -= left && !view->leaving;
    view->joined = view->leaving = view->asked_anew = false;
    view->ended_incarnation = state->incarnation;
    note_place(world, number, room);
}

/* --- frames ----------------------------------------------------------------------------------- */

static void on_state(struct world *world, uint32_t number, uint64_t id,
                     const Usher__V1__RoomState *state)
{
    const struct join *join = NULL;
    tell(world, "wire %u: room %u %s %llu/%llu state %d replay %d", number, state->room,
         state->name, (unsigned long long)state->incarnation, (unsigned long long)state->offset,
         (int)state->state, (int)state->replay);
    if (id != 0) {
        const struct asked *request = check_answer(world, number, id, true);
        if (request == NULL)
            return;
        if (request->kind != ASK_JOIN || state->state != USHER__V1__ROOM_STATE__STATE__JOINED) {
            broken(world, "P5", "request %llu, kind %d, is answered by a RoomState",
                   (unsigned long long)id, (int)request->kind);
            return;
        }
        join = &world->rooms->joins[request->parcel];
    }
    if (state->state == USHER__V1__ROOM_STATE__STATE__JOINED)
        on_joined(world, number, state, join);
    else
        on_ended(world, number, state);
}

/* The view that a frame of that number is for; NULL, and a broken rule: there is none. */
static struct view *view_of(struct world *world, uint32_t wire, uint32_t number)
{
    struct view *view = view_numbered(world, wire, number);
    if (view == NULL || view->leaving)
        broken(world, "R5", "wire %u gets something of room %u and %s", wire, number,
               view == NULL ? "is not in it" : "has left it");
    return view;
}

static void on_messages(struct world *world, uint32_t wire, const Usher__V1__RoomMessages *messages)
{
    struct view *view = view_of(world, wire, messages->room);
    if (view == NULL)
        return;
    int room = room_of(world, wire, view);
    tell(world, "wire %u: %zu messages of %s from %llu on", wire, messages->n_messages,
         world->rooms->rooms[room].name, (unsigned long long)messages->offset);
    if (messages->offset < view->next_min || messages->offset > view->next_max ||
        messages->n_messages == 0)
        broken(world, "R2", "wire %u gets %s from %llu on, %llu to %llu was to come", wire,
               world->rooms->rooms[room].name, (unsigned long long)messages->offset,
               (unsigned long long)view->next_min, (unsigned long long)view->next_max);
    struct life *life = life_of(world, view->incarnation, room);
    uint64_t superseded = world->wires[wire].superseded_step;
    for (size_t i = 0; i < messages->n_messages && world->rule == NULL; i++) {
        const Usher__V1__RoomMessage *message = messages->messages[i];
        uint64_t offset = messages->offset + i;
        check_content(world, life, offset,
                      (struct bytes){message->payload.data, message->payload.len}, message->from,
                      message->service);
        count(world, COUNT_room_messages);
        if (world->rule == NULL && superseded != 0 &&
            world->rooms->published[life->contents[offset]].step > superseded)
            broken(world, "A5", "wire %u got what was published after its replacement", wire);
    }
    view->next_min = view->next_max = messages->offset + messages->n_messages;
    note_place(world, wire, room);
}

static void on_event(struct world *world, uint32_t wire, const Usher__V1__RoomEvent *event)
{
    struct view *view = view_of(world, wire, event->room);
    if (view == NULL)
        return;
    count(world, COUNT_room_events);
    view->members = event->members;
    tell(world, "wire %u: room %u has %u members", wire, event->room, event->members);
    for (size_t i = 0; i < event->n_changes; i++) {
        const Usher__V1__RoomChange *change = event->changes[i];
        uint32_t bit = 1u << user_named(world, change->user);
        tell(world, "wire %u: room %u %s %d", wire, event->room, change->user, (int)change->kind);
        view->away &= ~bit;
        if (change->kind == USHER__V1__ROOM_CHANGE__KIND__LEFT)
            view->roster &= ~bit;
        else
            view->roster |= bit;
        if (change->kind == USHER__V1__ROOM_CHANGE__KIND__AWAY)
            view->away |= bit;
    }
}

void rooms_frame(struct world *world, uint32_t wire, const Usher__V1__BrokerFrame *frame)
{
    if (!world->rooms->on || !world->wires[wire].welcomed || world->wires[wire].session == NOBODY)
        broken(world, "R5", "wire %u gets something of a room and is nobody's", wire);
    else if (frame->body_case == USHER__V1__BROKER_FRAME__BODY_ROOM_STATE)
        on_state(world, wire, frame->id, frame->room_state);
    else if (frame->body_case == USHER__V1__BROKER_FRAME__BODY_ROOM_MESSAGES)
        on_messages(world, wire, frame->room_messages);
    else
        on_event(world, wire, frame->room_event);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void leave_answered(struct world *world, uint32_t wire, int room)
{
    struct carry *carry = &world->rooms->carries[world->wires[wire].user][room];
    carry->leaves -= carry->leaves > 0;
}

void rooms_done(struct world *world, uint32_t wire, const struct asked *request,
                const Usher__V1__Done *done)
{
    if (request->kind == ASK_LEAVE) {
        struct view *view = &world->rooms->wires[wire].views[request->parcel];
        leave_answered(world, wire, request->parcel);
        view->leaving = view->joined;
        return;
    }
    if (request->kind == ASK_JOIN || done->offset == 0) {
        broken(world, "P5", "a Done to request %llu, kind %d, with offset %llu",
               (unsigned long long)request->id, (int)request->kind,
               (unsigned long long)done->offset);
        return;
    }
    count(world, COUNT_room_published);
    check_offset(world, request->parcel, 0, done->offset);
}

void rooms_refused(struct world *world, uint32_t wire, const struct asked *request, uint32_t code)
{
    count(world, COUNT_room_refusals);
    if (request->kind == ASK_LEAVE)
        leave_answered(world, wire, request->parcel);
    if (request->kind == ASK_JOIN && code == USHER__V1__ERROR__CODE__NO_ROOM &&
        world->rooms->joins[request->parcel].recover)
        world->rooms->wires[wire].views[world->rooms->joins[request->parcel].room].asked_anew =
            true;
    if (request->kind != ASK_PUBLISH || code != USHER__V1__ERROR__CODE__NOT_MEMBER)
        return;
    const struct published *published = &world->rooms->published[request->parcel];
    const struct view *view = &world->rooms->wires[wire].views[published->room];
    if (request->wire == (int)wire && published->incarnation != 0 && view->joined &&
        !view->leaving && view->incarnation == published->incarnation &&
        view->joined_step < request->step)
        broken(world, "MEMBER", "wire %u is in %s and is told that it is not", wire,
               world->rooms->rooms[published->room].name);
}

/* --- in the end ------------------------------------------------------------------------------- */

/* The wire that the user's client looks at; NOBODY: there is none. */
static int wire_of_user(const struct world *world, int user)
{
    for (uint32_t i = world->wire_count; i > 0; i--) {
        const struct wire *wire = &world->wires[i - 1];
        if (wire->user == user && wire->welcomed && !wire->client_closed && !wire->reset &&
            !wire->over && wire->superseded_step == 0 && wire->session != NOBODY &&
            world->sessions[wire->session].wire == (int)i - 1)
            return (int)i - 1;
    }
    return NOBODY;
}

bool rooms_members(const struct world *world, const struct life *life, uint32_t *members)
{
    *members = 0;
    for (int i = 0; i < USERS; i++) {
        int wire = wire_of_user(world, i);
        if (wire == NOBODY && world->users[i].state != 0)
            return false;
        if (wire == NOBODY)
            continue;
        const struct view *view = &world->rooms->wires[wire].views[life->room];
        if (view->joined && view->incarnation == life->incarnation)
            *members |= 1u << i;
    }
    return true;
}

static void check_view(struct world *world, int wire, const struct view *view, int room)
{
    struct life *life = life_of(world, view->incarnation, room);
    const struct sim_room *class = &world->rooms->rooms[room];
    uint32_t members;
    if (life->closed)
        broken(world, "R5", "%s is closed, and wire %d was not told", class->name, wire);
    if (life->newest >= view->next_max)
        broken(world, "R4", "%s has come to %llu, wire %d waits for %llu", class->name,
               (unsigned long long)life->newest, wire, (unsigned long long)view->next_max);
    if (!rooms_members(world, life, &members))
        return;
    if (class->lists && (view->roster != members || view->away != 0))
        broken(world, "ROSTER", "wire %d has the members %x of %s, away %x, true is %x", wire,
               view->roster, class->name, view->away, members);
    if ((class->lists || class->counts) && view->members != (uint32_t)__builtin_popcount(members))
        broken(world, "ROSTER", "wire %d counts %u members of %s, true is %x", wire, view->members,
               class->name, members);
}

/* Who was made a member that stays is one, whatever logins there were since. */
static void check_carry(struct world *world, int user, int wire, int room)
{
    const struct carry *carry = &world->rooms->carries[user][room];
    bool stays = carry->step != 0 && carry->leaves == 0 && world->rooms->removes[room] == 0 &&
                 world->users[user].live_step != 0 && world->users[user].live_step < carry->step;
    if (!stays)
        return;
    count(world, COUNT_room_carried);
    if (!world->rooms->wires[wire].views[room].joined)
        broken(world, "MEMBER", "%s was to stay in %s, and wire %d is not in it",
               world->users[user].name, world->rooms->rooms[room].name, wire);
}

void rooms_check_healed(struct world *world)
{
    struct rooms_world *rooms = world->rooms;
    for (int i = 0; rooms->on && i < USERS; i++) {
        int wire = wire_of_user(world, i);
        if (wire == NOBODY)
            continue;
        const struct wire_rooms *own = &rooms->wires[wire];
        const struct session_rooms *session = &rooms->sessions[world->wires[wire].session];
        for (uint32_t k = 0; k < own->named_count; k++)
            if (!own->named[k].answered)
                broken(world, "MEMBER", "wire %d named room %u %llu and heard nothing", wire,
                       own->named[k].number, (unsigned long long)own->named[k].incarnation);
        for (int k = 0; k < ROOMS; k++) {
            if (own->views[k].joined)
                check_view(world, wire, &own->views[k], k);
            else if (session->places[k].joined && !session->places[k].unsure)
                broken(world, "MEMBER", "wire %d was in %s before its Resume and heard nothing",
                       wire, rooms->rooms[k].name);
            check_carry(world, i, wire, k);
        }
    }
}

void rooms_check_empty(struct world *world)
{
    for (int i = 0; world->rooms->on && i < ROOMS; i++) {
        char name[32] = "#";
        strncat(name, world->rooms->rooms[i].name, 16);
        if (world->rooms->rooms[i].idle_ms < 1500 &&
            registry_find(world->broker->registry, name, strlen(name)) != 0)
            broken(world, "P8", "%s is still there, and nobody is in it", name + 1);
    }
}
