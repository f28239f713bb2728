/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "actors/kinds.h"
#include "backend.pb-c.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "operate/http_private.h"
#include "operate/members_json.h"
#include "persist/rooms.h"
#include "proto/username.h"

/* Rooms for operators. What rooms show of themselves is read by this thread and costs them nothing;
 * who is in one, and its end, is asked of its own turn, a page at a time. */

enum { ROOMS_DEFAULT = 100, MEMBERS_DEFAULT = 100, MEMBERS_BYTES = 128 * 1024 };

static unsigned no_memory(json_t *answer)
{
    return admin_fail(answer, 503, "unavailable", "no memory");
}

/* --- what they show --------------------------------------------------------------------------- */

static json_t *room_json(struct http *http, const struct room_row *row)
{
    const uint64_t *numbers = row->numbers;
    const struct room_class *class = rooms_class(atomic_load(http->options.room_classes), row);
    struct room_rate rate = room_rates_of(&http->rates, numbers);
    return json_pack("{s:s, s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}",
                     "room", row->name, "number", (json_int_t)row->number, "incarnation",
                     (json_int_t)numbers[ROOM_NUMBER_INCARNATION], "class",
                     class != NULL ? class->pattern : "", "owner",
                     class != NULL ? class->owner : "", "opened_ms",
                     (json_int_t)numbers[ROOM_NUMBER_OPENED_MS], "members",
                     (json_int_t)(uint32_t)numbers[ROOM_NUMBER_MEMBERS], "away",
                     (json_int_t)(numbers[ROOM_NUMBER_MEMBERS] >> 32), "offset",
                     (json_int_t)numbers[ROOM_NUMBER_OFFSET], "deliveries",
                     (json_int_t)numbers[ROOM_NUMBER_DELIVERIES], "history_messages",
                     (json_int_t)numbers[ROOM_NUMBER_HISTORY_MESSAGES], "history_bytes",
                     (json_int_t)numbers[ROOM_NUMBER_HISTORY_BYTES], "messages_per_s",
                     rate.messages, "deliveries_per_s", rate.deliveries);
}

static uint64_t by_members(void *context, const uint64_t numbers[ROOM_NUMBERS])
{
    return (uint32_t)numbers[ROOM_NUMBER_MEMBERS];
}

static uint64_t by_messages(void *context, const uint64_t numbers[ROOM_NUMBERS])
{
    return (uint64_t)(room_rates_of(context, numbers).messages * 1000);
}

static uint64_t by_deliveries(void *context, const uint64_t numbers[ROOM_NUMBERS])
{
    return (uint64_t)(room_rates_of(context, numbers).deliveries * 1000);
}

static bool take_order(const char *by, struct room_page *page)
{
    static const struct {
        const char *name;
        uint64_t (*rank)(void *context, const uint64_t numbers[ROOM_NUMBERS]);
    } orders[] = {{"", NULL},
                  {"name", NULL},
                  {"members", by_members},
                  {"messages", by_messages},
                  {"deliveries", by_deliveries}};
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
        if (strcmp(by, orders[i].name) == 0) {
            page->rank = orders[i].rank;
            return true;
        }
    return false;
}

static void look(struct http *http)
{
    const struct http_options *options = &http->options;
    room_rates_look(&http->rates, options->registry, env_monotonic_ms(options->env),
                    env_wall_ms(options->env));
}

unsigned http_rooms(void *context, const struct admin_query *query, json_t *answer)
{
    struct http *http = http_of(context);
    struct room_page page = {.prefix = query->prefix,
                             .after = query->after_name,
                             .limit = query->limit != 0 ? query->limit : ROOMS_DEFAULT,
                             .context = &http->rates};
    struct room_row *rows;
    size_t count;
    if (!take_order(query->by, &page))
        return admin_fail(answer, 400, "bad_request",
                          "by is name, members, messages or deliveries");
    look(http);
    if (rooms_pick(http->options.registry, &page, &rows, &count) != 0)
        return no_memory(answer);
    json_t *rooms = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(rooms, room_json(http, &rows[i]));
    json_object_set_new(answer, "rooms", rooms);
    json_object_set_new(answer, "more", json_boolean(page.more));
    if (page.more && page.rank == NULL)
        json_object_set_new(answer, "next", json_string(rows[count - 1].name));
    free(rows);
    return 200;
}

/* --- one of them ------------------------------------------------------------------------------ */

struct room_name {
    uint8_t bytes[ROOM_ACTOR_NAME_BYTES_MAX];
    size_t size;
};

/* False: that is no name of a room. */
static bool name_actor(const char *room, struct room_name *name)
{
    struct bytes text = bytes_of_text(room);
    if (!username_valid(text))
        return false;
    name->bytes[0] = ROOM_SIGN;
    bytes_put(name->bytes + 1, text);
    name->size = text.size + 1;
    return true;
}

static unsigned no_room(json_t *answer)
{
    return admin_fail(answer, 404, "not_found", "there is no such room");
}

/* 0 with *told, which the caller frees, or the status. Takes the command. */
static unsigned ask_room(struct http *http, const struct room_name *name,
                         struct room_command_message *command, json_t *answer,
                         struct room_answer_message **told)
{
    struct result_message result;
    struct message *message = NULL;
    command->call.from_service = true;
    command->call.asker = http->actor;
    command->call.request = http_expect(http);
    int error = http_ask(http, (struct bytes){name->bytes, name->size}, &command->call.header,
                         &result, &message);
    *told = (struct room_answer_message *)message;
    if (error == 0 && result.code == 0 && message != NULL)
        return 0;
    message_destroy(message);
    if (error == -ESRCH || (error == 0 && result.code == USHER__V1__ERROR__CODE__NO_ROOM))
        return no_room(answer);
    if (error == -ETIMEDOUT)
        return admin_fail(answer, 503, "timeout", "no result came; it may still take effect");
    if (error == 0 && result.code == RESULT_STALE_EPOCH)
        return http_conflict(answer, "STALE_EPOCH", "that room has another incarnation by now");
    return http_conflict(answer, "BUSY", "that room's mailbox is full, or memory is");
}

static void add_members(json_t *answer, const Usher__V1__RoomMemberList *list)
{
    json_object_set_new(answer, "members", members_json(list));
    json_object_set_new(answer, "more", json_boolean(list->next[0] != '\0'));
    if (list->next[0] != '\0')
        json_object_set_new(answer, "next", json_string(list->next));
    json_object_set_new(answer, "news_seq", json_integer((json_int_t)list->news_seq));
}

static bool add_answer(json_t *answer, const struct room_answer_message *told)
{
    Usher__V1__Result *result = usher__v1__result__unpack(NULL, told->size, told->bytes);
    bool whole = result != NULL && result->value_case == USHER__V1__RESULT__VALUE_MEMBERS;
    if (whole)
        add_members(answer, result->members);
    usher__v1__result__free_unpacked(result, NULL);
    return whole;
}

static bool look_at(struct http *http, const struct room_name *name, struct room_row *row)
{
    struct registry_row found;
    if (!registry_look(http->options.registry, name->bytes, name->size, &found) ||
        found.behaviour->kind != KIND_ROOM || found.numbers[ROOM_NUMBER_INCARNATION] == 0)
        return false;
    *row = (struct room_row){0};
    bytes_put((uint8_t *)row->name, (struct bytes){name->bytes + 1, name->size - 1});
    memcpy(row->numbers, found.numbers, sizeof(row->numbers));
    row->number = room_number(found.handle);
    return true;
}

unsigned http_room(void *context, const struct admin_query *query, json_t *answer)
{
    struct http *http = http_of(context);
    struct room_name name;
    struct room_row row;
    struct room_answer_message *told;
    if (!name_actor(query->user, &name))
        return admin_fail(answer, 400, "bad_request", "that is no name of a room");
    if (!look_at(http, &name, &row))
        return no_room(answer);
    struct room_command_message *command = room_command_create(
        ROOM_MEMBERS, bytes_of_text(query->user), bytes_of_text(query->after_name));
    if (command == NULL)
        return no_memory(answer);
    command->limit = query->limit != 0 ? query->limit : MEMBERS_DEFAULT;
    command->bytes_max = MEMBERS_BYTES;
    unsigned status = ask_room(http, &name, command, answer, &told);
    if (status != 0)
        return status;
    bool added = add_answer(answer, told);
    message_destroy(&told->header);
    if (!added)
        return no_memory(answer);
    look(http);
    json_object_set_new(answer, "room", room_json(http, &row));
    json_object_set_new(answer, "now_ms", json_integer((json_int_t)http->rates.wall_ms));
    return 200;
}

unsigned http_room_close(void *context, const struct admin_query *query, json_t *answer)
{
    struct http *http = http_of(context);
    const json_t *detail = json_object_get(query->body, "detail");
    struct room_name name;
    struct room_answer_message *told;
    uint64_t incarnation;
    if (!name_actor(query->user, &name) ||
        !http_number_of(query->body, "incarnation", &incarnation) ||
        (detail != NULL && !json_is_string(detail)))
        return admin_fail(answer, 400, "bad_request",
                          "incarnation is a number, detail a text, and the path a room's name");
    char why[DETAIL_BYTES_MAX + 1];
    message_copy_text(why, sizeof(why),
                      bytes_of_text(detail != NULL && json_string_length(detail) > 0
                                        ? json_string_value(detail)
                                        : "closed by an operator"));
    struct room_command_message *command =
        room_command_create(ROOM_CLOSE, bytes_of_text(query->user), bytes_of_text(why));
    if (command == NULL)
        return no_memory(answer);
    command->incarnation = incarnation;
    unsigned status = ask_room(http, &name, command, answer, &told);
    if (status != 0)
        return status;
    message_destroy(&told->header);
    LOG(http->options.log, ROOM_ENDED, LOG_S("room", query->user), LOG_S("by", query->address),
        LOG_S("detail", why));
    json_object_set_new(answer, "code", json_string("OK"));
    return 200;
}
