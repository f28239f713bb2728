/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/rooms.h"

#include "actors/kinds.h"
#include "actors/refuse.h"
#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "room/room.h"

/* A room that nobody is in retires while somebody is on his way to it: then his message bounces
 * (egress_bounce) or is not taken here, and he looks for the name again, and makes the room anew.
 *
 * The fan-out is the hottest loop of a room: one small message for each member, made by the block,
 * that holds the bundle and says nothing more. Who has no room for it in his mailbox is not told
 * now; the room remembers that it owes him. But that the room is closed comes to everybody: it is
 * the last thing that the room says, and nothing would come behind it that showed the gap. */

static size_t actor_name(char *to, struct bytes room)
{
    CHECK(room.size <= USERNAME_BYTES_MAX);
    to[0] = ROOM_SIGN;
    bytes_put((uint8_t *)to + 1, room);
    return room.size + 1;
}

/* Enough for any race with a room that ends; who loses all of them is told to come again. */
enum { TRIES = 8 };

/* 0: there is none, and `code` says why. */
static actor_handle find_or_make(const struct rooms_directory *rooms, const struct room_call *call,
                                 uint16_t *code)
{
    char name[ROOM_ACTOR_NAME_BYTES_MAX];
    size_t size = actor_name(name, room_call_name(call));
    actor_handle room = registry_find(rooms->registry, name, size);
    *code = USHER__V1__ERROR__CODE__NO_ROOM;
    if (room != 0 || call->may_create == ROOM_MAY_NOT)
        return room;
    *code = RESULT_ROOMS_FULL;
    if (registry_count_of(rooms->registry, KIND_ROOM) >= rooms->rooms_max)
        return 0;
    return registry_claim(rooms->registry, name, size, rooms->behaviour);
}

/* What closes a room, or asks who is in it, is taken also when memory is full: it gives some back.
 */
static bool takes_memory(const struct room_call *call)
{
    return call->header.kind != MESSAGE_ROOM_COMMAND ||
           ((const struct room_command_message *)call)->command == ROOM_OPEN;
}

uint16_t rooms_send(const struct rooms_directory *rooms, struct runner *runner,
                    struct room_call *call)
{
    uint16_t code = USHER__V1__ERROR__CODE__BUSY;
    if (memory_level() == MEMORY_FULL && takes_memory(call))
        return code;
    bool by_name = call->name_size > 0; /* else the room that he is in, and no other life of it */
    actor_handle from = call->from_service ? 0 : call->asker;
    for (unsigned i = 0; i < TRIES; i++) {
        if (by_name)
            call->room = find_or_make(rooms, call, &code);
        if (call->room == 0)
            return code;
        int error = scheduler_post_from(rooms->scheduler, runner, from, call->room, &call->header,
                                        limits_mailbox_messages(rooms->limits));
        if (error == 0)
            return 0;
        if (error == -ENOBUFS)
            break;
        if (!by_name)
            return USHER__V1__ERROR__CODE__NOT_MEMBER; /* it is gone, and so is he */
    }
    return USHER__V1__ERROR__CODE__BUSY;
}

/* A Join of a client has its answer from the room, or from here. */
static void refuse_join(struct turn *turn, struct room_join_message *join, uint16_t code)
{
    struct room_state_message *state = room_join_refusal(join, code, (struct bytes){0});
    state->too_many = join->again_only && code == RESULT_ROOMS_FULL;
    turn_post(turn, join->user, &state->header);
}

void rooms_refuse(struct turn *turn, struct room_call *call, uint16_t code)
{
    bool is_join = call->header.kind == MESSAGE_ROOM_JOIN;
    turn_count(turn, METRIC_room_messages_refused, call->header.kind == MESSAGE_ROOM_PUBLISH);
    struct room_join_message *join = is_join ? (struct room_join_message *)call : NULL;
    if (is_join && join->again_only && code == USHER__V1__ERROR__CODE__NO_ROOM)
        code = RESULT_ROOMS_FULL; /* for who is in all that he may the room is not made */
    if (is_join)
        refuse_join(turn, join, code);
    if (call->request != 0 && call->from_service && !is_join) {
        struct room_answer_message *answer;
        MEMORY_MUST((answer = room_answer_create(call->request, code, (struct bytes){0})) != NULL,
                    "an answer");
        turn_post(turn, call->asker, &answer->header);
    } else {
        turn_result(turn, call->asker, call->request, call->asker_epoch, 0, code);
    }
    message_destroy(&call->header);
}

void rooms_resolve(const struct rooms_directory *rooms, struct room_member_message *message)
{
    char name[ROOM_ACTOR_NAME_BYTES_MAX];
    size_t size = actor_name(name, room_member_name(message));
    message->room = registry_find(rooms->registry, name, size);
}

/* --- to all members --------------------------------------------------------------------------- */

struct fan {
    const struct rooms_directory *rooms;
    struct runner *runner;
    struct room_out out;
    struct message_block *blocks[ROOM_OUT_MAX];
    struct rooms_posted posted;
};

/* The next message that holds the bundle; NULL without memory. */
static struct message *next_message(struct fan *fan, uint32_t bundle, uint32_t left)
{
    struct message_block **block = &fan->blocks[bundle];
    struct message *message =
        *block != NULL ? message_block_next(*block, MESSAGE_ROOM_BUNDLE) : NULL;
    if (message != NULL)
        return message;
    message_block_close(*block);
    *block =
        message_block_create(left < MESSAGE_BLOCK_MAX ? left : MESSAGE_BLOCK_MAX,
                             sizeof(struct room_bundle_message), &fan->out.bundles[bundle]->shared);
    return *block != NULL ? message_block_next(*block, MESSAGE_ROOM_BUNDLE) : NULL;
}

static int post_one(struct fan *fan, uint32_t bundle, actor_handle user, uint32_t left)
{
    bool must = fan->out.bundles[bundle]->kind == ROOM_CLOSED;
    struct message *message = next_message(fan, bundle, left);
    if (must)
        MEMORY_MUST(message != NULL || (message = next_message(fan, bundle, left)) != NULL,
                    "a room's end");
    int error = message == NULL ? -ENOBUFS
                : must          ? scheduler_post(fan->rooms->scheduler, fan->runner, user, message)
                       : scheduler_post_from(fan->rooms->scheduler, fan->runner, 0, user, message,
                                             limits_mailbox_messages(fan->rooms->limits));
    fan->posted.count += error == 0;
    if (error != 0)
        message_destroy(message);
    return error;
}

/* 0, or why he does not have all of them. */
static int post_to(struct fan *fan, actor_handle user, uint32_t left)
{
    for (uint32_t i = 0; i < fan->out.count; i++) {
        int error = post_one(fan, i, user, left);
        if (error != 0)
            return error;
    }
    return 0;
}

/* What the room has for the member at that place. */
static void tell_member(struct fan *fan, struct room *room, uint32_t place, bool full)
{
    uint32_t left = fan->out.to - place, last = fan->out.count - 1;
    bool closes = fan->out.bundles[last]->kind == ROOM_CLOSED;
    actor_handle user = room_out_member(room, place, false);
    int error = user == 0 || full ? -ENOBUFS : post_to(fan, user, left);
    if (closes && error == -ENOBUFS) {
        user = room_out_member(room, place, true);
        error = user != 0 ? post_one(fan, last, user, left) : 0;
    }
    if (user != 0 && error == -ESRCH)
        room_out_gone(room, place);
    if (user == 0 || error == 0 || error == -ESRCH)
        return;
    fan->posted.missed++;
    room_out_missed(room, place);
}

struct rooms_posted rooms_fan_out(const struct rooms_directory *rooms, struct runner *runner,
                                  struct room *room)
{
    struct fan fan = {.rooms = rooms, .runner = runner, .out = room_out_next(room)};
    const struct room_out *out = &fan.out;
    CHECK(out->count > 0 && out->count <= ROOM_OUT_MAX);
    bool full = memory_level() == MEMORY_FULL;
    for (uint32_t place = out->from; place < out->to; place++)
        tell_member(&fan, room, place, full);
    for (uint32_t i = 0; i < out->count; i++)
        message_block_close(fan.blocks[i]);
    return fan.posted;
}
