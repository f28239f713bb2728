/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "actors/room_messages.h"
#include "base/memory.h"
#include "instance/submit.h"
#include "proto/username.h"

/* Commands that concern rooms. What concerns the room alone goes to it by its name (EFFECT_ROOM),
 * and it answers with a Result. Whom a service adds or removes hears of it himself, by name, and
 * his own turn tells the room: so a room hears of each member from one producer, in the order in
 * which things happened to him. Services may do everything in every room that has a class; what
 * stands in the class binds clients.
 *
 * The listing of all rooms is a query like that of sessions, and not here. */

bool submit_is_of_room(const Usher__V1__Command *command)
{
    return command->body_case >= USHER__V1__COMMAND__BODY_ROOM_OPEN &&
           command->body_case <= USHER__V1__COMMAND__BODY_ROOM_MEMBERS;
}

char *const *submit_names(const Usher__V1__Command *command, size_t *count)
{
    switch (command->body_case) {
    case USHER__V1__COMMAND__BODY_PUSH:
        *count = command->push->n_to;
        return command->push->to;
    case USHER__V1__COMMAND__BODY_ROOM_ADD:
        *count = command->room_add->n_users;
        return command->room_add->users;
    case USHER__V1__COMMAND__BODY_ROOM_REMOVE:
        *count = command->room_remove->n_users;
        return command->room_remove->users;
    case USHER__V1__COMMAND__BODY_WATCH_LIST:
        *count = command->watch_list->n_targets;
        return command->watch_list->targets;
    default:
        *count = 0;
        return NULL;
    }
}

/* --- to the room ------------------------------------------------------------------------------ */

/* Takes the call. */
static void send(const struct running *running, struct room_call *call, struct turn *turn)
{
    call->from_service = true;
    call->asker = turn->self;
    call->request = submit_await(running, 0);
    turn_effect(turn, EFFECT_ROOM, 0)->message = &call->header;
}

/* Without a class that fits there is no such room, and none is made. */
static void open_room(const struct running *running, const Usher__V1__RoomOpen *open,
                      struct turn *turn)
{
    const struct room_classes *classes = atomic_load(&turn->settings->room_classes);
    struct bytes room = bytes_of_text(open->room);
    struct bytes pattern = bytes_of_text(open->class_);
    if ((pattern.size > 0 ? room_class_named(classes, pattern, room)
                          : room_class_of(classes, room)) == NULL) {
        running->result->code = USHER__V1__RESULT__CODE__NO_ROOM;
        return;
    }
    struct room_command_message *command;
    MEMORY_MUST((command = room_command_create(ROOM_OPEN, room, pattern)) != NULL, "a command");
    command->members_max = open->members_max;
    command->call.may_create = ROOM_MAY;
    send(running, &command->call, turn);
}

static void close_room(const struct running *running, const Usher__V1__RoomClose *close,
                       struct turn *turn)
{
    char detail[DETAIL_BYTES_MAX + 1];
    message_copy_text(detail, sizeof(detail), bytes_of_text(close->detail));
    struct room_command_message *command;
    MEMORY_MUST((command = room_command_create(ROOM_CLOSE, bytes_of_text(close->room),
                                               bytes_of_text(detail))) != NULL,
                "a command");
    send(running, &command->call, turn);
}

static void publish(const struct running *running, const Usher__V1__RoomPublish *publish,
                    struct turn *turn)
{
    struct bytes payload = {publish->payload.data, publish->payload.len};
    struct room_publish_message *message;
    MEMORY_MUST(
        (message = room_publish_create(bytes_of_text(publish->room),
                                       bytes_of_text(running->instance->service), payload)) != NULL,
        "a message");
    message->time_ms = turn->wall_ms;
    send(running, &message->call, turn);
}

static void list_members(const struct running *running, const Usher__V1__RoomMembers *members,
                         struct turn *turn)
{
    struct bytes after = bytes_of_text(members->after);
    if (after.size > UINT8_MAX) {
        running->result->code = USHER__V1__RESULT__CODE__MALFORMED;
        return;
    }
    struct room_command_message *command;
    MEMORY_MUST(
        (command = room_command_create(ROOM_MEMBERS, bytes_of_text(members->room), after)) != NULL,
        "a command");
    command->limit = members->limit;
    command->bytes_max = submit_room_of(running->submit, turn);
    send(running, &command->call, turn);
}

/* --- to its members --------------------------------------------------------------------------- */

/* Only users have such names: a room, or an instance, is not told to join one. */
static void tell(const struct running *running, uint32_t name, const char *user,
                 struct room_member_message *message, struct turn *turn)
{
    if (!username_valid(bytes_of_text(user))) {
        submit_fail(running->result, name, USHER__V1__RESULT__CODE__NOT_ONLINE);
        message_destroy(&message->header);
        return;
    }
    message->asker = turn->self;
    message->token = submit_await(running, name);
    submit_forward(turn, user, &message->header);
}

static void add(const struct running *running, const Usher__V1__RoomAdd *add, struct turn *turn)
{
    if (add->n_epochs != 0 && add->n_epochs != add->n_users) {
        running->result->code = USHER__V1__RESULT__CODE__MALFORMED;
        return;
    }
    running->result->push = true;
    for (uint32_t i = 0; i < add->n_users; i++) {
        struct room_member_message *message;
        MEMORY_MUST((message = room_member_create(MESSAGE_ROOM_INVITE, bytes_of_text(add->room),
                                                  (struct bytes){0})) != NULL,
                    "a command");
        message->epoch = add->n_epochs > 0 ? add->epochs[i] : 0;
        message->carry = add->carry;
        tell(running, i, add->users[i], message, turn);
    }
}

static void expel(const struct running *running, const Usher__V1__RoomRemove *remove,
                  struct turn *turn)
{
    char detail[DETAIL_BYTES_MAX + 1];
    message_copy_text(detail, sizeof(detail), bytes_of_text(remove->detail));
    running->result->push = true;
    for (uint32_t i = 0; i < remove->n_users; i++) {
        struct room_member_message *message;
        MEMORY_MUST((message = room_member_create(MESSAGE_ROOM_EXPEL, bytes_of_text(remove->room),
                                                  bytes_of_text(detail))) != NULL,
                    "a command");
        tell(running, i, remove->users[i], message, turn);
    }
}

/* --- the table -------------------------------------------------------------------------------- */

static const char *room_of(const Usher__V1__Command *command)
{
    switch (command->body_case) {
    case USHER__V1__COMMAND__BODY_ROOM_OPEN:
        return command->room_open->room;
    case USHER__V1__COMMAND__BODY_ROOM_CLOSE:
        return command->room_close->room;
    case USHER__V1__COMMAND__BODY_ROOM_ADD:
        return command->room_add->room;
    case USHER__V1__COMMAND__BODY_ROOM_REMOVE:
        return command->room_remove->room;
    case USHER__V1__COMMAND__BODY_ROOM_PUBLISH:
        return command->room_publish->room;
    default:
        return command->room_members->room;
    }
}

void submit_run_of_room(const struct running *running, const Usher__V1__Command *command,
                        struct turn *turn)
{
    CHECK(submit_is_of_room(command));
    if (!username_valid(bytes_of_text(room_of(command)))) {
        running->result->code = USHER__V1__RESULT__CODE__MALFORMED;
        return;
    }
    switch (command->body_case) {
    case USHER__V1__COMMAND__BODY_ROOM_OPEN:
        open_room(running, command->room_open, turn);
        break;
    case USHER__V1__COMMAND__BODY_ROOM_CLOSE:
        close_room(running, command->room_close, turn);
        break;
    case USHER__V1__COMMAND__BODY_ROOM_ADD:
        add(running, command->room_add, turn);
        break;
    case USHER__V1__COMMAND__BODY_ROOM_REMOVE:
        expel(running, command->room_remove, turn);
        break;
    case USHER__V1__COMMAND__BODY_ROOM_PUBLISH:
        publish(running, command->room_publish, turn);
        break;
    default:
        list_members(running, command->room_members, turn);
        break;
    }
}
