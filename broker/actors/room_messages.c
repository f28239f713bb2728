/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/room_messages.h"

#include <string.h>

#include "base/check.h"
#include "base/memory.h"

/* Making them: one allocation each, names and payloads behind the struct, everything else 0. */

static void *create(enum message_kind kind, size_t struct_bytes, size_t more_bytes)
{
    struct message *message = message_create((uint16_t)kind, struct_bytes + more_bytes);
    if (message != NULL)
        memset((uint8_t *)message + sizeof(*message), 0, struct_bytes - sizeof(*message));
    return message;
}

struct room_join_message *room_join_create(struct bytes room, struct bytes user)
{
    CHECK(room.size <= USERNAME_BYTES_MAX && user.size <= USERNAME_BYTES_MAX);
    struct room_join_message *join =
        create(MESSAGE_ROOM_JOIN, sizeof(*join), room.size + user.size);
    if (join == NULL)
        return NULL;
    join->call.name_size = (uint8_t)room.size;
    join->user_size = (uint8_t)user.size;
    bytes_put(bytes_put(join->bytes, room), user);
    return join;
}

struct room_publish_message *room_publish_create(struct bytes room, struct bytes from,
                                                 struct bytes payload)
{
    CHECK(room.size <= USERNAME_BYTES_MAX && from.size <= USERNAME_BYTES_MAX &&
          payload.size <= UINT32_MAX / 2);
    struct room_publish_message *publish =
        create(MESSAGE_ROOM_PUBLISH, sizeof(*publish), room.size + from.size + payload.size);
    if (publish == NULL)
        return NULL;
    publish->call.name_size = (uint8_t)room.size;
    publish->from_size = (uint8_t)from.size;
    publish->payload_size = (uint32_t)payload.size;
    bytes_put(bytes_put(bytes_put(publish->bytes, room), from), payload);
    return publish;
}

struct room_command_message *room_command_create(enum room_command command, struct bytes room,
                                                 struct bytes text)
{
    CHECK(room.size <= USERNAME_BYTES_MAX && text.size <= UINT8_MAX);
    struct room_command_message *message =
        create(MESSAGE_ROOM_COMMAND, sizeof(*message), room.size + text.size);
    if (message == NULL)
        return NULL;
    message->command = (uint8_t)command;
    message->call.name_size = (uint8_t)room.size;
    message->text_size = (uint8_t)text.size;
    bytes_put(bytes_put(message->bytes, room), text);
    return message;
}

struct bytes room_call_name(const struct room_call *call)
{
    const struct message *message = &call->header;
    const uint8_t *name = message->kind == MESSAGE_ROOM_JOIN
                              ? ((const struct room_join_message *)message)->bytes
                          : message->kind == MESSAGE_ROOM_PUBLISH
                              ? ((const struct room_publish_message *)message)->bytes
                              : ((const struct room_command_message *)message)->bytes;
    return (struct bytes){name, call->name_size};
}

struct room_member_message *room_member_create(enum message_kind kind, struct bytes room,
                                               struct bytes detail)
{
    CHECK(kind == MESSAGE_ROOM_INVITE || kind == MESSAGE_ROOM_EXPEL);
    CHECK(room.size <= USERNAME_BYTES_MAX && detail.size <= UINT8_MAX);
    struct room_member_message *message = create(kind, sizeof(*message), room.size + detail.size);
    if (message == NULL)
        return NULL;
    message->name_size = (uint8_t)room.size;
    message->detail_size = (uint8_t)detail.size;
    bytes_put(bytes_put(message->bytes, room), detail);
    return message;
}

struct bytes room_member_name(const struct room_member_message *message)
{
    return (struct bytes){message->bytes, message->name_size};
}

struct bytes room_member_detail(const struct room_member_message *message)
{
    return (struct bytes){message->bytes + message->name_size, message->detail_size};
}

struct room_state_message *room_state_create(struct bytes bytes)
{
    CHECK(bytes.size <= UINT32_MAX / 2);
    struct room_state_message *state = create(MESSAGE_ROOM_STATE, sizeof(*state), bytes.size);
    if (state == NULL)
        return NULL;
    state->size = (uint32_t)bytes.size;
    bytes_put(state->bytes, bytes);
    return state;
}

struct room_state_message *room_join_refusal(const struct room_join_message *join, uint16_t code,
                                             struct bytes why)
{
    struct room_state_message *state;
    MEMORY_MUST((state = room_state_create(why)) != NULL, "an answer");
    state->user = join->user;
    state->epoch = join->epoch;
    state->request = join->user_request;
    state->code = code;
    return state;
}

struct room_answer_message *room_answer_create(uint64_t token, uint16_t code, struct bytes result)
{
    CHECK(result.size <= UINT32_MAX / 2);
    struct room_answer_message *answer = create(MESSAGE_ROOM_ANSWER, sizeof(*answer), result.size);
    if (answer == NULL)
        return NULL;
    answer->token = token;
    answer->code = code;
    answer->size = (uint32_t)result.size;
    bytes_put(answer->bytes, result);
    return answer;
}
