/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/held.h"
#include "backend.pb-c.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/link_answer.h"
#include "room/private.h"

/* What services, and operators, ask of a room itself. */

static void answer(actor_handle asker, uint64_t token, uint16_t code, struct bytes result,
                   struct turn *turn)
{
    if (token == 0)
        return;
    struct room_answer_message *message;
    MEMORY_MUST((message = room_answer_create(token, code, result)) != NULL, "an answer");
    turn_post(turn, asker, &message->header);
}

void command_answer_room(const struct room *room, uint64_t offset, actor_handle asker,
                         uint64_t token, struct turn *turn)
{
    struct link_page page = {.room = SIZE_MAX};
    struct buffer result = {0};
    const struct room_fields fields = {
        .name = bytes_of_text(room->name),
        .incarnation = room->incarnation,
        .offset = offset,
        .members = room->count,
        .pattern = bytes_of_text(room->class.pattern),
        .owner = bytes_of_text(room->class.owner),
        .away = room->away,
        .history_messages = room->kept_messages,
        .history_bytes = room->kept_bytes,
        .deliveries = room->deliveries,
        .opened_ms = room->opened_ms,
    };
    MEMORY_MUST(link_page_room(&page, &fields) == 0 &&
                    link_result_rooms(&result, &page, false) == 0,
                "a result");
    answer(asker, token, 0, (struct bytes){result.data, result.size}, turn);
    buffer_fini(&page.items);
    buffer_fini(&result);
}

static void open_room(struct room *room, const struct room_command_message *command,
                      struct turn *turn)
{
    if (command->members_max != 0)
        room->members_asked = command->members_max;
    if (room->incarnation == 0)
        room_open(room, USHER__V1__ROOM_NEWS__CAUSE__SERVICE, turn);
    command_answer_room(room, room->offset, command->call.asker, command->call.request, turn);
}

/* --- a page of members ------------------------------------------------------------------------ */

enum { PAGE_MORE_BYTES = 96, MEMBERS_PER_PAGE = 4096 };

static void list_members(struct room *room, const struct room_command_message *command,
                         struct bytes after, struct turn *turn)
{
    char text[24] = "";
    bytes_put((uint8_t *)text, (struct bytes){after.data, after.size < 23 ? after.size : 23});
    uint32_t place = members_behind(room, strtoull(text, NULL, 10));
    uint32_t most = command->limit != 0 && command->limit < MEMBERS_PER_PAGE ? command->limit
                                                                             : MEMBERS_PER_PAGE;
    struct link_page page = {
        .room = command->bytes_max > PAGE_MORE_BYTES ? command->bytes_max - PAGE_MORE_BYTES : 0};
    uint64_t last = 0;
    for (uint32_t count = 0; place < room->places && count < most; place++) {
        const struct member *member = &room->members[place];
        if (member->user == 0)
            continue;
        if (link_page_room_member(&page, bytes_of_text(member->name), member->epoch, member->away,
                                  member->carry) != 0)
            break;
        last = member->number;
        count++;
    }
    struct buffer result = {0};
    while (place < room->places && room->members[place].user == 0)
        place++;
    bool more = place < room->places && last != 0;
    snprintf(text, sizeof(text), "%llu", (unsigned long long)last);
    MEMORY_MUST(link_result_members(&result, &page, more ? bytes_of_text(text) : (struct bytes){0},
                                    room->news_seq, room->incarnation, room->offset) == 0,
                "a result");
    answer(command->call.asker, command->call.request, 0, (struct bytes){result.data, result.size},
           turn);
    buffer_fini(&page.items);
    buffer_fini(&result);
}

static void close_room(struct room *room, const struct room_command_message *command,
                       struct bytes detail, struct turn *turn)
{
    bool stale = command->incarnation != 0 && command->incarnation != room->incarnation;
    if (!stale)
        room_close(room, USHER__V1__ROOM_NEWS__CAUSE__SERVICE, detail, turn);
    answer(command->call.asker, command->call.request, stale ? RESULT_STALE_EPOCH : 0,
           (struct bytes){0}, turn);
}

void command_take(struct room *room, struct room_command_message *command, struct turn *turn)
{
    struct bytes text = {command->bytes + command->call.name_size, command->text_size};
    bool opens = command->command == ROOM_OPEN && !room->closing;
    if (room->class.members_max == 0 || (!opens && !room_is_open(room))) {
        answer(command->call.asker, command->call.request, USHER__V1__ERROR__CODE__NO_ROOM,
               (struct bytes){0}, turn);
    } else if (command->command == ROOM_OPEN) {
        open_room(room, command, turn);
    } else if (command->command == ROOM_CLOSE) {
        close_room(room, command, text, turn);
    } else {
        list_members(room, command, text, turn);
    }
    message_destroy(&command->call.header);
}
