/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "backend.pb-c.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "room/private.h"

/* Who comes, goes, is away and back, and what he is told then.
 *
 * All of it comes from the member's own turn, in its order, and says of which login it is. So what
 * is late, of a login that is over, is known by its epoch and changes nothing of the one that
 * followed. */

/* --- what a member is told -------------------------------------------------------------------- */

/* Where the messages that he is to get begin, and whether some before are gone. */
struct replay {
    uint64_t from; /* he has everything up to it */
    bool complete;
};

static struct replay replay_of(const struct room *room, uint64_t incarnation, uint64_t offset)
{
    uint64_t first = history_first(room);
    if (incarnation == 0)
        return (struct replay){first - 1, first == 1};
    bool same = incarnation == room->incarnation && offset <= room->offset;
    if (same && (offset >= room->sealed || offset + 1 >= first))
        return (struct replay){offset, true};
    return (struct replay){first - 1, false};
}

static struct room_state_message *state_for(const struct room *room, const struct member *member,
                                            struct bytes frames, struct turn *turn)
{
    struct room_state_message *state;
    MEMORY_MUST((state = room_state_create(frames)) != NULL, "a RoomState");
    state->room = turn->self;
    state->user = member->user;
    state->incarnation = room->incarnation;
    state->epoch = member->epoch;
    state->carry = member->carry;
    return state;
}

/* The answer to a Join. What he is to get of the history he pulls. */
static void tell_joined(const struct room *room, const struct member *member,
                        const struct room_join_message *join, bool again, struct turn *turn)
{
    struct buffer frames = {0};
    struct replay replay = {room->offset, true};
    uint8_t word =
        again ? USHER__V1__ROOM_STATE__REPLAY__COMPLETE : USHER__V1__ROOM_STATE__REPLAY__NONE;
    if (join->recover) {
        replay = replay_of(room, join->incarnation, join->offset);
        word = replay.complete ? USHER__V1__ROOM_STATE__REPLAY__COMPLETE
                               : USHER__V1__ROOM_STATE__REPLAY__PARTIAL;
        turn_count(turn, METRIC_room_partial, !replay.complete);
    }
    roster_state(room, turn, join->user_request, word, &frames);
    struct room_state_message *state =
        state_for(room, member, (struct bytes){frames.data, frames.size}, turn);
    state->request = join->user_request;
    state->joined = true;
    state->again = again;
    state->recovers = join->recover;
    state->partial = !replay.complete;
    state->live = replay.from >= room->sealed;
    state->offset = replay.from;
    turn_post(turn, member->user, &state->header);
    buffer_fini(&frames);
}

void member_pull(struct room *room, struct room_pull_message *pull, struct turn *turn)
{
    struct member *member = members_find(room, pull->user);
    struct buffer frames = {0};
    if (member == NULL || member->epoch != pull->epoch) {
        message_destroy(&pull->header);
        return;
    }
    if (pull->new_epoch != 0)
        member->epoch = pull->new_epoch;
    if (pull->back && member->away) {
        members_set_away(room, member, false);
        roster_note(room, member, USHER__V1__ROOM_CHANGE__KIND__BACK, turn);
        news_tell(room,
                  &(struct news){.kind = USHER__V1__ROOM_NEWS__KIND__BACK,
                                 .user = bytes_of_text(member->name),
                                 .epoch = member->epoch},
                  turn);
    }
    struct replay replay = pull->fresh ? (struct replay){room->offset, true}
                                       : replay_of(room, pull->incarnation, pull->offset);
    replay.complete = replay.complete && !pull->partial;
    bool roster = pull->roster || member->roster_owed;
    members_set_owed(room, member, false);
    member->roster_owed = false;
    if (pull->fresh || pull->resumed || pull->request != 0 || roster || !replay.complete)
        roster_state(room, turn, pull->request,
                     pull->fresh       ? USHER__V1__ROOM_STATE__REPLAY__NONE
                     : replay.complete ? USHER__V1__ROOM_STATE__REPLAY__COMPLETE
                                       : USHER__V1__ROOM_STATE__REPLAY__PARTIAL,
                     &frames);
    turn_count(turn, METRIC_room_pulls, 1);
    turn_count(turn, METRIC_room_partial, !replay.complete);
    uint32_t left = frames.size < pull->bytes_max ? pull->bytes_max - (uint32_t)frames.size : 0;
    uint64_t offset =
        replay.from < room->sealed ? history_replay(room, replay.from, left, &frames) : replay.from;
    struct room_state_message *state =
        state_for(room, member, (struct bytes){frames.data, frames.size}, turn);
    state->request = pull->request;
    state->pull = pull->pull;
    state->live = offset >= room->sealed;
    state->offset = offset;
    turn_post(turn, member->user, &state->header);
    buffer_fini(&frames);
    message_destroy(&pull->header);
}

void member_hints(struct room *room, struct turn *turn)
{
    uint32_t left = memory_level() != MEMORY_FULL ? ROOM_POSTS : 0; /* later, all of them */
    room->hint_ms = room->owed > left ? turn->now_ms + ROOM_HINT_MS : 0;
    for (uint32_t i = 0; i < room->places && room->owed > 0 && left > 0; i++) {
        struct member *member = &room->members[i];
        if (member->user == 0 || !member->owed)
            continue;
        left--;
        members_set_owed(room, member, false);
        struct room_state_message *hint = state_for(room, member, (struct bytes){0}, turn);
        hint->owed = true;
        hint->offset = room->sealed;
        turn_post(turn, member->user, &hint->header);
    }
}

/* --- coming ----------------------------------------------------------------------------------- */

static void refuse(struct room_join_message *join, uint16_t code, struct bytes why,
                   struct turn *turn)
{
    struct room_state_message *state = room_join_refusal(join, code, why);
    state->too_many = join->again_only && code == USHER__V1__ERROR__CODE__ROOM_FULL;
    turn_post(turn, join->user, &state->header);
    turn_result(turn, join->call.asker, join->call.request, 0, join->epoch, code);
    message_destroy(&join->call.header);
}

static void refuse_with(struct room_join_message *join, uint16_t code, const char *why,
                        struct turn *turn)
{
    refuse(join, code, bytes_of_text(why), turn);
}

static void admit(struct room *room, struct room_join_message *join, struct turn *turn)
{
    struct bytes name = {join->bytes + join->call.name_size, join->user_size};
    if (room->count >= members_max(room)) {
        refuse_with(join, USHER__V1__ERROR__CODE__ROOM_FULL,
                    "the room has all the members that it may", turn);
        return;
    }
    struct member *member = members_add(room, join->user, join->epoch, name);
    bool by_service = join->call.request != 0;
    member->carry = join->carry;
    turn_count(turn, METRIC_room_joins, 1);
    turn_count(turn, METRIC_room_members, 1);
    tell_joined(room, member, join, false, turn);
    turn_result(turn, join->call.asker, join->call.request, 0, join->epoch, 0);
    roster_note(room, member, USHER__V1__ROOM_CHANGE__KIND__JOINED, turn);
    news_tell(room,
              &(struct news){.kind = USHER__V1__ROOM_NEWS__KIND__JOINED,
                             .cause = by_service ? USHER__V1__ROOM_NEWS__CAUSE__SERVICE
                                                 : USHER__V1__ROOM_NEWS__CAUSE__ASKED,
                             .user = name,
                             .epoch = join->epoch},
              turn);
    message_destroy(&join->call.header);
}

/* One user does not fill the list. */
static bool waits_already(const struct room *room, const struct room_join_message *join)
{
    const struct ask *ask = room->asks;
    while (ask != NULL && (ask->join->user != join->user || ask->join->epoch != join->epoch))
        ask = ask->next;
    return ask != NULL;
}

void join_wait(struct room *room, const struct ask *ask)
{
    struct ask *waits;
    MEMORY_MUST((waits = calloc(1, sizeof(*waits))) != NULL, "a question");
    memory_account(MEMORY_OF_ROOMS, (int64_t)sizeof(*waits));
    *waits = *ask;
    struct ask **at = &room->asks;
    while (*at != NULL)
        at = &(*at)->next;
    *at = waits;
    room->ask_count++;
}

/* The owner is asked; the Join waits. */
static void ask(struct room *room, struct room_join_message *join, bool creates, struct turn *turn)
{
    uint64_t call =
        atomic_fetch_add_explicit(&turn->counters->call_last, 1, memory_order_relaxed) + 1;
    uint64_t deadline_ms = turn->now_ms + rooms_ask_ms(turn->limits);
    if (room->ask_count >= ROOM_ASKS_MAX || waits_already(room, join)) {
        refuse_with(join, USHER__V1__ERROR__CODE__BUSY,
                    "the owner is being asked about you, or about too many others", turn);
        return;
    }
    if (!news_ask(room, join, creates, call, deadline_ms, turn)) {
        refuse_with(join, USHER__V1__ERROR__CODE__NO_SERVICE, "the room has no owner to ask", turn);
        return;
    }
    join_wait(
        room,
        &(struct ask){.call = call, .deadline_ms = deadline_ms, .creates = creates, .join = join});
}

/* Somebody of that name has come by another actor: one of the two logins is over, and its end,
 * which removes it, is on its way. The older one is. True: that is this one, and it is dealt with.
 */
static bool meets_namesake(struct room *room, struct room_join_message *join, struct turn *turn)
{
    const struct bytes name = {join->bytes + join->call.name_size, join->user_size};
    struct member *member = members_find_name(room, name);
    if (member == NULL || member->user == join->user)
        return false;
    if (member->epoch > join->epoch) {
        refuse_with(join, RESULT_STALE_EPOCH, "", turn);
        return true;
    }
    member_drop(room, member, USHER__V1__ROOM_NEWS__CAUSE__LOST, turn);
    return false;
}

/* Somebody of that slot is in it already. True: the Join is dealt with. */
static bool meets_member(struct room *room, struct room_join_message *join, struct turn *turn)
{
    if (meets_namesake(room, join, turn))
        return true;
    struct member *member = members_find_slot(room, join->user);
    if (member == NULL)
        return false;
    if (member->user != join->user && member->epoch < join->epoch) { /* whose actor is gone */
        member_drop(room, member, USHER__V1__ROOM_NEWS__CAUSE__LOST, turn);
        return false;
    }
    if (member->epoch < join->epoch) { /* of a login that is over; he goes on as a new one */
        join->carry = join->carry || member->carry;
        member_drop(room, member, USHER__V1__ROOM_NEWS__CAUSE__TAKEOVER, turn);
        return false;
    }
    if (member->epoch > join->epoch) { /* that of a Join for which the owner took his time, say */
        refuse_with(join, RESULT_STALE_EPOCH, "", turn);
        return true;
    }
    member->carry = member->carry || join->carry;
    tell_joined(room, member, join, true, turn);
    turn_result(turn, join->call.asker, join->call.request, 0, join->epoch, 0);
    message_destroy(&join->call.header);
    return true;
}

/* The room is open, or this one opens it. True: the Join is dealt with. */
static bool opens(struct room *room, struct room_join_message *join, struct turn *turn)
{
    if (room->closing || room->class.members_max == 0) {
        refuse_with(join, USHER__V1__ERROR__CODE__NO_ROOM, "the room is just being closed", turn);
        return true;
    }
    if (room->incarnation != 0)
        return false;
    if (join->call.may_create == ROOM_MAY) {
        room_open(room, USHER__V1__ROOM_NEWS__CAUSE__ASKED, turn);
        return false;
    }
    if (join->call.may_create == ROOM_MAY_IF_OWNER)
        ask(room, join, true, turn);
    else
        refuse_with(join, USHER__V1__ERROR__CODE__NO_ROOM, "there is no room of that name", turn);
    return true;
}

void join_take(struct room *room, struct room_join_message *join, struct turn *turn)
{
    if (opens(room, join, turn) || meets_member(room, join, turn))
        return;
    if (join->again_only)
        refuse_with(join, USHER__V1__ERROR__CODE__ROOM_FULL, JOIN_TOO_MANY, turn);
    else if (join->may_join == ROOM_MAY)
        admit(room, join, turn);
    else if (join->may_join == ROOM_MAY_IF_OWNER)
        ask(room, join, false, turn);
    else
        refuse_with(join, USHER__V1__ERROR__CODE__FORBIDDEN, "this room is not open to you", turn);
}

/* --- the owner's word ------------------------------------------------------------------------- */

static struct ask *take_ask(struct room *room, struct ask **at)
{
    struct ask *ask = *at;
    *at = ask->next;
    room->ask_count--;
    return ask;
}

static void free_ask(struct ask *ask)
{
    memory_account(MEMORY_OF_ROOMS, -(int64_t)sizeof(*ask));
    free(ask);
}

static void owner_says_yes(struct room *room, const struct ask *ask, struct turn *turn)
{
    struct room_join_message *join = ask->join;
    if (room->incarnation == 0 && ask->creates)
        room_open(room, USHER__V1__ROOM_NEWS__CAUSE__ASKED, turn);
    join->call.may_create = ROOM_MAY_NOT;
    join->may_join = ROOM_MAY; /* also by a word that it may make the room */
    join_take(room, join, turn);
}

void join_answered(struct room *room, struct call_result_message *result, struct turn *turn)
{
    struct ask **at = &room->asks;
    while (*at != NULL && (*at)->call != result->call)
        at = &(*at)->next;
    if (*at == NULL) {
        turn_count(turn, METRIC_replies_late, 1);
        message_destroy(&result->header);
        return;
    }
    struct ask *ask = take_ask(room, at);
    if (result->code != 0)
        refuse_with(ask->join, result->code, "the room's owner gave no answer", turn);
    else if (result->status != 0)
        refuse(ask->join, USHER__V1__ERROR__CODE__FORBIDDEN,
               (struct bytes){result->payload, result->payload_size}, turn);
    else
        owner_says_yes(room, ask, turn);
    free_ask(ask);
    message_destroy(&result->header);
}

void join_expire(struct room *room, struct turn *turn)
{
    while (room->asks != NULL && room->asks->deadline_ms <= turn->now_ms) {
        struct ask *ask = take_ask(room, &room->asks);
        refuse_with(ask->join, USHER__V1__ERROR__CODE__TIMEOUT,
                    "the room's owner did not answer in time", turn);
        free_ask(ask);
    }
}

uint64_t join_due_ms(const struct room *room)
{
    return room->asks != NULL ? room->asks->deadline_ms : UINT64_MAX;
}

void join_refuse_all(struct room *room, struct turn *turn, uint16_t code)
{
    while (room->asks != NULL) {
        struct ask *ask = take_ask(room, &room->asks);
        refuse_with(ask->join, code, "the room is closed", turn);
        free_ask(ask);
    }
}

void join_free(struct room *room)
{
    while (room->asks != NULL) {
        struct ask *ask = take_ask(room, &room->asks);
        message_destroy(&ask->join->call.header);
        free_ask(ask);
    }
}

/* --- going ------------------------------------------------------------------------------------ */

void member_drop(struct room *room, struct member *member, uint8_t cause, struct turn *turn)
{
    roster_note(room, member, USHER__V1__ROOM_CHANGE__KIND__LEFT, turn);
    news_tell(room,
              &(struct news){.kind = USHER__V1__ROOM_NEWS__KIND__LEFT,
                             .cause = cause,
                             .user = bytes_of_text(member->name),
                             .epoch = member->epoch},
              turn);
    turn_count(turn, METRIC_room_leaves, 1);
    turn_count(turn, METRIC_room_members, room->closed ? 0 : (uint64_t)-1);
    members_remove(room, member);
}

void member_away(struct room *room, struct room_away_message *away, struct turn *turn)
{
    struct member *member = members_find(room, away->user);
    if (member != NULL && member->epoch == away->epoch && !member->away) {
        members_set_away(room, member, true);
        roster_note(room, member, USHER__V1__ROOM_CHANGE__KIND__AWAY, turn);
        news_tell(room,
                  &(struct news){.kind = USHER__V1__ROOM_NEWS__KIND__AWAY,
                                 .user = bytes_of_text(member->name),
                                 .epoch = member->epoch},
                  turn);
    }
    message_destroy(&away->header);
}

void member_leave(struct room *room, struct room_leave_message *leave, struct turn *turn)
{
    struct member *member = members_find(room, leave->user);
    bool his = member != NULL && member->epoch == leave->epoch;
    /* Whom a service has just made one who stays goes not by a takeover: that he stays is on its
     * way to him, and then he moves to his new login. */
    bool stays = his && member->carry && leave->cause == USHER__V1__ROOM_NEWS__CAUSE__TAKEOVER;
    if (his && !stays)
        member_drop(room, member, leave->cause, turn);
    turn_result(turn, leave->asker, leave->token, 0, leave->epoch,
                his ? 0 : USHER__V1__ERROR__CODE__NOT_MEMBER);
    message_destroy(&leave->header);
}
