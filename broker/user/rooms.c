/* SPDX-License-Identifier: Apache-2.0 */
#include "user/rooms.h"

#include <stdlib.h>
#include <string.h>

#include "backend.pb-c.h"
#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/broker_frame.h"
#include "user/user.h"

/* A user's memberships, and what becomes of them as his session does.
 *
 * What a room says goes to the connection while the membership is LIVE, and its offset says up to
 * where. Whenever that is not so (nobody is connected, more waits in the connection than it takes,
 * a bundle is missing) live messages are dropped, and he pulls: the room answers with what it still
 * has, as much as he asked for, until he has come to its newest. Pulls have a number, so that what
 * answers an earlier one, of a connection that is gone perhaps, is known and dropped; and they go
 * one after the other, so that all rooms together do not ask for more than one connection takes. */

enum {
    CAPACITY_MIN = 1,   /* most are in one room */
    CAPACITY_ENDED = 4, /* below it what he was in is not given up for more */
    PULL_BYTES_MIN = 4096,
};

static size_t rooms_bytes(uint32_t capacity)
{
    return sizeof(struct rooms) + capacity * sizeof(struct membership);
}

struct rooms *rooms_of(struct session *session)
{
    struct company *company = company_of(session);
    if (company->rooms == NULL) {
        MEMORY_MUST((company->rooms = calloc(1, rooms_bytes(CAPACITY_MIN))) != NULL, "a session");
        memory_account(MEMORY_OF_ROOMS, (int64_t)rooms_bytes(CAPACITY_MIN));
        company->rooms->capacity = CAPACITY_MIN;
    }
    return company->rooms;
}

static struct rooms *rooms_if_any(const struct session *session)
{
    return session->company != NULL ? session->company->rooms : NULL;
}

void rooms_clear(struct session *session)
{
    struct rooms *rooms = rooms_if_any(session);
    if (rooms == NULL)
        return;
    memory_account(MEMORY_OF_ROOMS, -(int64_t)rooms_bytes(rooms->capacity));
    free(rooms);
    session->company->rooms = NULL;
}

void rooms_drop_empty(struct session *session, const struct turn *turn)
{
    struct rooms *rooms = rooms_if_any(session);
    if (rooms == NULL || rooms->count > 0 || rooms->asked > 0 ||
        !allowance_is_whole(&rooms->by_name, turn->now_ms) ||
        !allowance_is_whole(&rooms->joins, turn->now_ms) ||
        !allowance_is_whole(&rooms->left, turn->now_ms))
        return;
    rooms_clear(session);
    company_drop_empty(session);
}

static bool was_member(const struct membership *membership)
{
    return membership->state >= MEMBER_WAS_REMOVED;
}

struct membership *rooms_find(const struct session *session, actor_handle room,
                              uint64_t incarnation)
{
    struct rooms *rooms = rooms_if_any(session);
    for (uint32_t i = 0; rooms != NULL && i < rooms->count; i++) {
        struct membership *membership = &rooms->memberships[i];
        if (membership->room == room && !was_member(membership) &&
            (incarnation == 0 || membership->incarnation == incarnation))
            return membership;
    }
    return NULL;
}

struct membership *rooms_find_number(const struct session *session, uint32_t number)
{
    struct rooms *rooms = rooms_if_any(session);
    for (uint32_t i = 0; rooms != NULL && i < rooms->count; i++)
        if (room_number(rooms->memberships[i].room) == number &&
            !was_member(&rooms->memberships[i]))
            return &rooms->memberships[i];
    return NULL;
}

bool rooms_are_full(const struct session *session, const struct turn *turn)
{
    const struct rooms *rooms = rooms_if_any(session);
    uint32_t count = rooms != NULL ? rooms->asked : 0;
    for (uint32_t i = 0; rooms != NULL && i < rooms->count; i++)
        count += !was_member(&rooms->memberships[i]);
    return count >= rooms_per_user(turn->limits);
}

void rooms_set(struct session *session, struct membership *membership, enum membership_state state)
{
    struct rooms *rooms = rooms_of(session);
    rooms->behind -= membership->state == MEMBER_BEHIND;
    rooms->behind += state == MEMBER_BEHIND;
    if (membership->state == MEMBER_PULLING)
        rooms->pulling = false;
    if (state == MEMBER_PULLING)
        rooms->pulling = true;
    membership->state = (uint8_t)state;
}

void rooms_remove(struct session *session, struct membership *membership)
{
    struct rooms *rooms = rooms_of(session);
    CHECK(rooms->count > 0);
    if (rooms->left.due_ns < membership->rate.due_ns)
        rooms->left = membership->rate;
    rooms_set(session, membership, MEMBER_AWAY); /* out of the counts */
    *membership = rooms->memberships[--rooms->count];
}

/* Of those that he was in the first goes. */
static void make_room(struct session *session, struct rooms *rooms)
{
    for (uint32_t i = 0; i < rooms->count; i++)
        if (was_member(&rooms->memberships[i])) {
            rooms_remove(session, &rooms->memberships[i]);
            return;
        }
}

struct rooms *rooms_with_room(struct session *session, uint32_t capacity)
{
    struct rooms *rooms = rooms_of(session);
    if (rooms->capacity >= capacity)
        return rooms;
    struct rooms *more;
    MEMORY_MUST((more = realloc(rooms, rooms_bytes(capacity))) != NULL, "a membership");
    memory_account(MEMORY_OF_ROOMS, (int64_t)(rooms_bytes(capacity) - rooms_bytes(more->capacity)));
    more->capacity = capacity;
    session->company->rooms = more;
    return more;
}

struct membership *rooms_add(struct session *session, actor_handle room, uint64_t incarnation)
{
    struct rooms *rooms = rooms_of(session);
    CHECK(rooms_find(session, room, incarnation) == NULL);
    if (rooms->count == rooms->capacity && rooms->capacity >= CAPACITY_ENDED)
        make_room(session, rooms);
    if (rooms->count == rooms->capacity)
        rooms = rooms_with_room(session, rooms->capacity * 2);
    struct membership *membership = &rooms->memberships[rooms->count++];
    *membership =
        (struct membership){.room = room, .incarnation = incarnation, .state = MEMBER_AWAY};
    membership->rate = rooms->left; /* who leaves and comes again has not got a new one by that */
    return membership;
}

void rooms_leave(struct turn *turn, actor_handle room, uint64_t epoch, uint8_t cause,
                 actor_handle asker, uint64_t token)
{
    struct room_leave_message *leave = message_create(MESSAGE_ROOM_LEAVE, sizeof(*leave));
    leave->user = turn->self;
    leave->epoch = epoch;
    leave->cause = cause;
    leave->asker = asker;
    leave->token = token;
    turn_post(turn, room, &leave->header);
}

void rooms_tell_away(const struct session *session, struct turn *turn, actor_handle room)
{
    struct room_away_message *away = message_create(MESSAGE_ROOM_AWAY, sizeof(*away));
    away->user = turn->self;
    away->epoch = session->epoch;
    turn_post(turn, room, &away->header);
}

void rooms_say(struct session *session, struct turn *turn, uint32_t number, uint64_t incarnation,
               uint32_t state, struct bytes detail)
{
    if (session->conn == 0)
        return;
    size_t offset = turn->out.size;
    const struct room_state_fields fields = {
        .room = number, .incarnation = incarnation, .state = state, .detail = detail};
    MEMORY_MUST(broker_frame_room_state(&turn->out, 0, &fields) == 0, "a RoomState");
    output_send(session, turn, offset);
}

/* --- what is missing -------------------------------------------------------------------------- */

/* Never above the mark: who stays above it is closed as a slow consumer, and what a room says is
 * there also for who reads slowly. What is larger than that goes alone. */
bool rooms_fit(const struct session *session, const struct turn *turn, size_t size)
{
    return session->output == 0 || session->output + (uint64_t)size <= output_window(turn->limits);
}

/* So much of a history fits what others may put into the connection. */
static uint32_t pull_bytes(const struct session *session, const struct turn *turn)
{
    uint64_t window = output_window(turn->limits);
    uint64_t left = session->output < window ? window - session->output : 0;
    return left > PULL_BYTES_MIN ? (uint32_t)left : PULL_BYTES_MIN;
}

static void pull_one(struct session *session, struct membership *membership, struct turn *turn)
{
    struct room_pull_message *pull = message_create(MESSAGE_ROOM_PULL, sizeof(*pull));
    pull->room = membership->room;
    pull->user = turn->self;
    pull->epoch = session->epoch;
    pull->new_epoch = 0;
    pull->request = membership->request;
    pull->incarnation = membership->incarnation;
    pull->offset = membership->offset;
    pull->bytes_max = pull_bytes(session, turn);
    pull->pull = ++membership->pull;
    pull->back = true;
    pull->fresh = membership->fresh;
    pull->resumed = membership->resumed;
    pull->partial = membership->partial;
    pull->roster = membership->roster;
    membership->roster = false;
    rooms_set(session, membership, MEMBER_PULLING);
    turn_post(turn, membership->room, &pull->header);
}

void rooms_pull(struct session *session, struct turn *turn)
{
    struct rooms *rooms = rooms_if_any(session);
    if (rooms == NULL || session->conn == 0 || rooms->behind == 0 || rooms->pulling ||
        !rooms_fit(session, turn, output_window(turn->limits) / 2))
        return;
    struct membership *membership = rooms->memberships;
    while (membership->state != MEMBER_BEHIND)
        membership++;
    CHECK(membership < rooms->memberships + rooms->count);
    pull_one(session, membership, turn);
}

bool rooms_wait(const struct session *session)
{
    const struct rooms *rooms = rooms_if_any(session);
    return rooms != NULL && rooms->behind > 0 && !rooms->pulling;
}

void rooms_feed(struct session *session, struct turn *turn)
{
    rooms_pull(session, turn);
}

/* --- what happens to the session -------------------------------------------------------------- */

void rooms_lost(struct session *session, struct turn *turn)
{
    struct rooms *rooms = rooms_if_any(session);
    for (uint32_t i = 0; rooms != NULL && i < rooms->count; i++) {
        struct membership *membership = &rooms->memberships[i];
        if (was_member(membership) || membership->state == MEMBER_AWAY)
            continue;
        rooms_set(session, membership, MEMBER_AWAY);
        rooms_tell_away(session, turn, membership->room);
    }
}

/* Back in all rooms; which of them the client has named shows next. */
static void come_back(struct session *session, struct rooms *rooms)
{
    for (uint32_t i = 0; rooms != NULL && i < rooms->count; i++) {
        struct membership *membership = &rooms->memberships[i];
        if (was_member(membership))
            continue;
        membership->fresh = true;
        membership->resumed = membership->partial = false;
        membership->pull++; /* whatever is on its way was for another connection */
        rooms_set(session, membership, MEMBER_BEHIND);
    }
}

/* One that he was in until somebody ended that; NULL: there is none. */
static struct membership *find_ended(struct rooms *rooms, const struct client_position *position)
{
    for (uint32_t i = 0; rooms != NULL && i < rooms->count; i++) {
        struct membership *membership = &rooms->memberships[i];
        if (was_member(membership) && room_number(membership->room) == position->room &&
            membership->incarnation == position->incarnation)
            return membership;
    }
    return NULL;
}

static void take_position(struct session *session, struct turn *turn,
                          const struct client_position *position)
{
    struct membership *membership = rooms_find_number(session, position->room);
    if (membership != NULL && membership->incarnation == position->incarnation) {
        /* What answers a Join with a position counts from there, and this from the Resume's. */
        rooms_answer_waiting(session, membership, USHER__V1__ERROR__CODE__BUSY,
                             "you have come back as a member: ask again", turn);
        membership->fresh = false;
        membership->resumed = true;
        membership->offset = position->offset;
        return;
    }
    const struct membership *ended = find_ended(rooms_if_any(session), position);
    bool removed = ended != NULL && ended->state == MEMBER_WAS_REMOVED;
    rooms_say(session, turn, position->room, position->incarnation,
              removed ? USHER__V1__ROOM_STATE__STATE__REMOVED
                      : USHER__V1__ROOM_STATE__STATE__CLOSED,
              (struct bytes){0});
}

static void forget_ended(struct session *session, struct rooms *rooms)
{
    for (uint32_t i = rooms != NULL ? rooms->count : 0; i-- > 0;)
        if (was_member(&rooms->memberships[i]))
            rooms_remove(session, &rooms->memberships[i]);
}

void rooms_resumed(struct session *session, struct turn *turn, const struct resume_message *resume)
{
    struct rooms *rooms = rooms_if_any(session);
    come_back(session, rooms);
    for (uint32_t i = 0; i < resume->position_count; i++)
        take_position(session, turn, &resume->positions[i]);
    forget_ended(session, rooms);
    rooms_pull(session, turn);
    rooms_drop_empty(session, turn);
}

void rooms_carry(struct session *session, struct membership *membership, struct turn *turn,
                 uint64_t old_epoch)
{
    membership->request = 0;
    membership->fresh = true;
    membership->resumed = membership->partial = false;
    struct room_pull_message *move = message_create(MESSAGE_ROOM_PULL, sizeof(*move));
    memset((uint8_t *)move + sizeof(move->header), 0, sizeof(*move) - sizeof(move->header));
    move->room = membership->room;
    move->user = turn->self;
    move->epoch = old_epoch;
    move->new_epoch = session->epoch;
    move->incarnation = membership->incarnation;
    move->pull = membership->pull; /* the answer counts not: a pull follows when it is its turn */
    move->back = move->fresh = true;
    membership->pull++;
    turn_post(turn, membership->room, &move->header);
    rooms_set(session, membership, session->conn != 0 ? MEMBER_BEHIND : MEMBER_AWAY);
    if (session->conn == 0)
        rooms_tell_away(session, turn, membership->room);
}

void rooms_taken_over(struct session *session, struct turn *turn, uint64_t old_epoch)
{
    struct rooms *rooms = rooms_if_any(session);
    if (rooms == NULL)
        return;
    rooms->asked = 0; /* what comes for the old epoch is known by it */
    forget_ended(session, rooms);
    for (uint32_t i = rooms->count; i-- > 0;) {
        struct membership *membership = &rooms->memberships[i];
        if (membership->carry) {
            rooms_carry(session, membership, turn, old_epoch);
            continue;
        }
        rooms_leave(turn, membership->room, old_epoch, USHER__V1__ROOM_NEWS__CAUSE__TAKEOVER, 0, 0);
        rooms_remove(session, membership);
    }
    rooms_pull(session, turn);
    rooms_drop_empty(session, turn);
}

static uint8_t cause_of(uint8_t presence_cause)
{
    switch (presence_cause) {
    case USHER__V1__PRESENCE_EVENT__CAUSE__LOGOUT:
        return USHER__V1__ROOM_NEWS__CAUSE__LOGOUT;
    case USHER__V1__PRESENCE_EVENT__CAUSE__KICKED:
        return USHER__V1__ROOM_NEWS__CAUSE__KICKED;
    case USHER__V1__PRESENCE_EVENT__CAUSE__TOKEN_EXPIRED:
        return USHER__V1__ROOM_NEWS__CAUSE__TOKEN_EXPIRED;
    default:
        return USHER__V1__ROOM_NEWS__CAUSE__EXPIRED;
    }
}

void rooms_ended(struct session *session, struct turn *turn, uint8_t cause)
{
    struct rooms *rooms = rooms_if_any(session);
    for (uint32_t i = 0; rooms != NULL && i < rooms->count; i++)
        if (!was_member(&rooms->memberships[i]))
            rooms_leave(turn, rooms->memberships[i].room, session->epoch, cause_of(cause), 0, 0);
}
