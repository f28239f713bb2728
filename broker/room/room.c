/* SPDX-License-Identifier: Apache-2.0 */
#include "room/room.h"

#include <stdlib.h>
#include <string.h>

#include "actors/bounce.h"
#include "backend.pb-c.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/broker_frame.h"
#include "room/private.h"

/* The life of a room, and its turns.
 *
 * It is made by the first message that may make it, opens when somebody may (a Join whose user may
 * make it, the owner's yes, a RoomOpen), and then has an incarnation. It closes when a service says
 * so, or when nobody has been in it for as long as its class allows; what was published before goes
 * out first, then RoomState(CLOSED), and then the actor retires. Whoever writes to its name
 * afterwards finds another one, or none.
 *
 * Its class is looked at in each turn that finds another table than the last one: a reload changes
 * rooms that are there. One whose class is gone goes on by what it said last. */

static const char *cause_name(uint8_t cause)
{
    return cause == USHER__V1__ROOM_NEWS__CAUSE__IDLE      ? "idle"
           : cause == USHER__V1__ROOM_NEWS__CAUSE__SERVICE ? "service"
                                                           : "asked";
}

static void follow_class(struct room *room, const struct turn *turn)
{
    const struct room_classes *classes = turn->settings->room_classes;
    if (room->classes == classes && room->class.members_max != 0)
        return;
    room->classes = classes;
    const struct bytes name = bytes_of_text(room->name);
    const struct room_class *class =
        room->named_class[0] != '\0'
            ? room_class_named(classes, bytes_of_text(room->named_class), name)
            : room_class_of(classes, name);
    if (class == NULL)
        return;
    room->class = *class;
    room->class_place = (uint32_t)(class - classes->classes);
}

static struct room *make(const struct turn *turn)
{
    struct room *room;
    size_t size = strlen(turn->name);
    CHECK(turn->name[0] == ROOM_SIGN && size >= 2 && size <= ROOM_ACTOR_NAME_BYTES_MAX);
    MEMORY_MUST((room = calloc(1, sizeof(*room))) != NULL, "a room");
    memory_account(MEMORY_OF_ROOMS, (int64_t)sizeof(*room));
    memcpy(room->name, turn->name + 1, size);
    memcpy(room->key, turn->settings->requests_key, sizeof(room->key));
    return room;
}

void room_open(struct room *room, uint8_t cause, struct turn *turn)
{
    CHECK(room->incarnation == 0 && room->class.members_max > 0);
    room->incarnation =
        atomic_fetch_add_explicit(&turn->counters->incarnation_last, 1, memory_order_relaxed) + 1;
    room->opened_ms = turn->wall_ms;
    turn_count(turn, METRIC_rooms_opened, 1);
    LOG(turn->log, ROOM_OPENED, LOG_S("room", room->name), LOG_U("incarnation", room->incarnation),
        LOG_S("class", room->class.pattern));
    news_tell(room, &(struct news){.kind = USHER__V1__ROOM_NEWS__KIND__OPENED, .cause = cause},
              turn);
}

void room_close(struct room *room, uint8_t cause, struct bytes detail, struct turn *turn)
{
    CHECK(room_is_open(room));
    room->closing = true;
    room->close_cause = cause;
    message_copy_text(room->close_detail, sizeof(room->close_detail), detail);
    join_refuse_all(room, turn, USHER__V1__ERROR__CODE__NO_ROOM);
}

/* --- messages --------------------------------------------------------------------------------- */

/* The class that the first RoomOpen names holds for this life of the room. */
static void name_class(struct room *room, const struct room_command_message *command,
                       const struct turn *turn)
{
    if (room->incarnation != 0 || command->command != ROOM_OPEN || command->text_size == 0 ||
        command->text_size >= sizeof(room->named_class))
        return;
    const struct bytes pattern = {command->bytes + command->call.name_size, command->text_size};
    *bytes_put((uint8_t *)room->named_class, pattern) = '\0';
    room->class.members_max = 0;
    follow_class(room, turn);
}

static void drop_gone(struct room *room, struct turn *turn)
{
    for (uint32_t i = 0; i < room->places && room->gone > 0; i++)
        if (room->members[i].user != 0 && room->members[i].gone)
            member_drop(room, &room->members[i], USHER__V1__ROOM_NEWS__CAUSE__LOST, turn);
}

bool room_receive(struct room **state, struct message *message, struct turn *turn)
{
    struct room *room = *state;
    if (room == NULL)
        room = *state = make(turn);
    follow_class(room, turn);
    switch (message->kind) {
    case MESSAGE_ROOM_JOIN:
        join_take(room, (struct room_join_message *)message, turn);
        break;
    case MESSAGE_ROOM_PUBLISH:
        publish_take(room, (struct room_publish_message *)message, turn);
        break;
    case MESSAGE_ROOM_COMMAND:
        name_class(room, (struct room_command_message *)message, turn);
        command_take(room, (struct room_command_message *)message, turn);
        break;
    case MESSAGE_ROOM_PULL:
        member_pull(room, (struct room_pull_message *)message, turn);
        break;
    case MESSAGE_ROOM_AWAY:
        member_away(room, (struct room_away_message *)message, turn);
        break;
    case MESSAGE_ROOM_LEAVE:
        member_leave(room, (struct room_leave_message *)message, turn);
        break;
    case MESSAGE_CALL_RESULT:
        join_answered(room, (struct call_result_message *)message, turn);
        break;
    case MESSAGE_ROOM_MORE:
        room->told_more = false;
        drop_gone(room, turn);
        message_destroy(message);
        break;
    case MESSAGE_TICK:
        room->timer_ms = 0;
        message_destroy(message);
        break;
    case MESSAGE_STOP:
        message_destroy(message);
        break;
    case MESSAGE_MOVED:
        room_moved(room, message, turn);
        follow_class(room, turn);
        break;
    default:
        bounce(message, turn);
        break;
    }
    return true;
}

/* --- the end of a turn ------------------------------------------------------------------------ */

static bool is_due(uint64_t when_ms, const struct turn *turn)
{
    return when_ms != 0 && when_ms <= turn->now_ms;
}

/* The last that its members hear of it: as it is for who has everything, and for who has not. */
static void tell_closed(struct room *room, struct turn *turn)
{
    struct buffer frames = {0};
    struct room_state_fields fields = {
        .name = bytes_of_text(room->name),
        .room = room_number(turn->self),
        .incarnation = room->incarnation,
        .offset = room->offset,
        .state = USHER__V1__ROOM_STATE__STATE__CLOSED,
        .detail = bytes_of_text(room->close_detail),
    };
    MEMORY_MUST(broker_frame_room_state(&frames, 0, &fields) == 0, "a RoomState");
    uint32_t first_size = (uint32_t)frames.size;
    fields.replay = USHER__V1__ROOM_STATE__REPLAY__PARTIAL;
    MEMORY_MUST(broker_frame_room_state(&frames, 0, &fields) == 0, "a RoomState");
    struct room_bundle *bundle = out_bundle(room, ROOM_CLOSED, turn, frames.size);
    memcpy(bundle->bytes, frames.data, frames.size);
    bundle->first = room->offset;
    bundle->size = first_size;
    bundle->second_size = (uint32_t)frames.size - first_size;
    out_add(room, bundle);
    buffer_fini(&frames);
}

static void finish_closing(struct room *room, struct turn *turn)
{
    if (!room->closing || room->closed)
        return;
    room->closed = true;
    tell_closed(room, turn);
    room->out_ready = room->out_count;
    turn_count(turn, METRIC_rooms_closed, 1);
    turn_count(turn, METRIC_room_members, (uint64_t)0 - room->count); /* they go with it */
    LOG(turn->log, ROOM_CLOSED, LOG_S("room", room->name), LOG_U("incarnation", room->incarnation),
        LOG_S("cause", cause_name(room->close_cause)), LOG_U("messages", room->offset));
    news_tell(
        room,
        &(struct news){.kind = USHER__V1__ROOM_NEWS__KIND__CLOSED, .cause = room->close_cause},
        turn);
}

/* Nobody is in it, and nobody waits to be. */
static void look_whether_idle(struct room *room, struct turn *turn)
{
    if (room->incarnation == 0 || room->closing)
        return;
    bool empty = room->count == 0 && room->asks == NULL;
    if (!empty)
        room->empty_since_ms = 0;
    else if (room->empty_since_ms == 0)
        room->empty_since_ms = turn->now_ms != 0 ? turn->now_ms : 1;
    if (empty && room->class.idle_ms != UINT64_MAX &&
        room->empty_since_ms + room->class.idle_ms <= turn->now_ms)
        room_close(room, USHER__V1__ROOM_NEWS__CAUSE__IDLE, (struct bytes){0}, turn);
}

static void earlier(uint64_t *due_ms, uint64_t when_ms)
{
    if (when_ms != 0 && when_ms < *due_ms)
        *due_ms = when_ms;
}

static void arm(struct room *room, struct turn *turn)
{
    uint64_t due_ms = UINT64_MAX;
    if (!room_is_sending(room))
        earlier(&due_ms, room->flush_ms);
    earlier(&due_ms, room->event_ms);
    earlier(&due_ms, room->hint_ms);
    earlier(&due_ms, join_due_ms(room));
    earlier(&due_ms, history_due_ms(room));
    if (room->empty_since_ms != 0 && room->class.idle_ms != UINT64_MAX)
        earlier(&due_ms, room->empty_since_ms + room->class.idle_ms);
    if (due_ms == UINT64_MAX || (room->timer_ms != 0 && room->timer_ms <= due_ms))
        return;
    room->timer_ms = due_ms > 0 ? due_ms : 1;
    turn_effect(turn, EFFECT_TIMER, room->timer_ms);
}

void room_finish(struct room **state, struct turn *turn)
{
    struct room *room = *state;
    if (room == NULL)
        return;
    if (room->moved) { /* and nobody may hear anything: those whom it knows are perhaps yet to come
                        */
        room->moved = false;
        arm(room, turn);
        return;
    }
    join_expire(room, turn);
    look_whether_idle(room, turn);
    if (is_due(room->event_ms, turn) && room->out_count >= ROOM_WAITING_MAX)
        room->event_ms = turn->now_ms + ROOM_EVENT_MS; /* they have not heard the last ones */
    bool tells = room->closing || is_due(room->event_ms, turn);
    if (tells || (is_due(room->flush_ms, turn) && !room_is_sending(room))) {
        publish_seal(room, turn); /* also what was published before they came or went */
        if (tells)
            roster_tell(room, turn);
        room->flush_ms = 0;
        room->out_ready = room->out_count;
    }
    if (room->class.tick_ms == 0)
        room->out_ready = room->out_count;
    finish_closing(room, turn);
    history_age(room, turn->now_ms);
    if (room->owed > 0 && room->hint_ms == 0)
        room->hint_ms = turn->now_ms + ROOM_HINT_MS;
    if (is_due(room->hint_ms, turn))
        member_hints(room, turn);
    members_compact(room);
    if (room->out_ready > 0)
        turn_effect(turn, EFFECT_ROOM_OUT, 0);
    arm(room, turn);
}

bool room_is_over(const struct room *room)
{
    if (room == NULL)
        return true;
    bool unborn = room->incarnation == 0 && room->asks == NULL;
    return unborn || (room->closed && room->out_count == 0);
}

void room_show(struct room_place *place)
{
    const struct room *room = place->room;
    const uint64_t numbers[ROOM_NUMBERS] = {
        [ROOM_NUMBER_INCARNATION] = room->incarnation,
        [ROOM_NUMBER_OFFSET] = room->offset,
        [ROOM_NUMBER_MEMBERS] = (uint64_t)room->away << 32 | room->count,
        [ROOM_NUMBER_HISTORY_MESSAGES] = room->kept_messages,
        [ROOM_NUMBER_HISTORY_BYTES] = room->kept_bytes,
        [ROOM_NUMBER_DELIVERIES] = room->deliveries,
        [ROOM_NUMBER_OPENED_MS] = room->opened_ms,
        [ROOM_NUMBER_CLASS] = room->class_place,
    };
    for (unsigned i = 0; i < ROOM_NUMBERS; i++)
        atomic_store_explicit(&place->shown.numbers[i], numbers[i], memory_order_relaxed);
}

void room_show_numbers(const struct room_place *place, uint64_t numbers[ROOM_NUMBERS])
{
    for (unsigned i = 0; i < ROOM_NUMBERS; i++)
        numbers[i] = atomic_load_explicit(&place->shown.numbers[i], memory_order_relaxed);
}

void room_fini(struct room **state)
{
    struct room *room = *state;
    if (room == NULL)
        return;
    join_free(room);
    roster_free(room);
    out_free(room);
    history_free(room);
    members_free(room);
    publish_free(room);
    memory_account(MEMORY_OF_ROOMS, -(int64_t)sizeof(*room));
    free(room);
    *state = NULL;
}
