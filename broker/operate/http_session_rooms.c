/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "actors/kinds.h"
#include "client.pb-c.h"
#include "operate/http_private.h"
#include "proto/username.h"

/* Which rooms a user is in: his own turn knows them by their handles, and what rooms show of
 * themselves has the names. One look at all actors, which stops nobody. */

struct wanted {
    const struct room_of_user *rows;
    size_t count;
};

static int by_room(const void *one, const void *other)
{
    actor_handle left = ((const struct room_of_user *)one)->room;
    actor_handle right = ((const struct room_of_user *)other)->room;
    return left < right ? -1 : left > right;
}

/* NULL: he is not in it. */
static const struct room_of_user *find(const struct wanted *wanted, actor_handle room)
{
    const struct room_of_user key = {.room = room};
    return bsearch(&key, wanted->rows, wanted->count, sizeof(key), by_room);
}

static json_t *room_json(const struct registry_row *row, const struct room_of_user *his)
{
    uint64_t offset = row->numbers[ROOM_NUMBER_OFFSET];
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:b, s:b}", "room", row->name + 1, "incarnation",
                     (json_int_t)his->incarnation, "members",
                     (json_int_t)(uint32_t)row->numbers[ROOM_NUMBER_MEMBERS], "offset",
                     (json_int_t)his->offset, "newest", (json_int_t)offset, "behind",
                     (int)his->behind, "away", (int)his->away);
}

static void add_rooms(struct registry *registry, const struct wanted *wanted, json_t *rooms)
{
    struct registry_row rows[REGISTRY_SCAN_ROWS];
    uint64_t cursor = 0;
    size_t count;
    while (json_array_size(rooms) < wanted->count &&
           (count = registry_scan(registry, &cursor, rows)) > 0)
        for (size_t i = 0; i < count; i++) {
            const struct room_of_user *his = find(wanted, rows[i].handle);
            if (rows[i].behaviour->kind == KIND_ROOM && his != NULL)
                json_array_append_new(rooms, room_json(&rows[i], his));
        }
}

/* In an order that finds them, and out of the message, which need not be aligned for it. */
static int sort(const struct room_answer_message *told, struct room_of_user **rows, size_t *count)
{
    *count = told->size / sizeof(**rows);
    *rows = calloc(*count + 1, sizeof(**rows));
    if (*rows == NULL)
        return -ENOMEM;
    bytes_put((uint8_t *)*rows, (struct bytes){told->bytes, *count * sizeof(**rows)});
    if (*count > 1)
        qsort(*rows, *count, sizeof(**rows), by_room);
    return 0;
}

/* 0 with *told, which the caller frees, or the status. */
static unsigned ask_user(struct http *http, const char *user, json_t *answer, struct message **told)
{
    struct result_message result;
    struct rooms_look_message *look = message_create(MESSAGE_ROOMS_LOOK, sizeof(*look));
    look->asker = http->actor;
    look->token = http_expect(http);
    int error = http_ask(http, bytes_of_text(user), &look->header, &result, told);
    if (error == 0 && result.code == 0 && *told != NULL)
        return 0;
    message_destroy(*told);
    if (error == -ETIMEDOUT)
        return admin_fail(answer, 503, "timeout", "no answer came");
    if (error == -ENOBUFS)
        return http_conflict(answer, "BUSY", "that user's mailbox is full");
    return admin_fail(answer, 404, "not_found", "that user has no session");
}

unsigned http_session_rooms(void *context, const struct admin_query *query, json_t *answer)
{
    struct http *http = http_of(context);
    struct message *told = NULL;
    struct room_of_user *rows;
    size_t count;
    if (!username_valid(bytes_of_text(query->user)))
        return admin_fail(answer, 400, "bad_request", "that is no username");
    unsigned status = ask_user(http, query->user, answer, &told);
    if (status != 0)
        return status;
    int error = sort((const struct room_answer_message *)told, &rows, &count);
    message_destroy(told);
    if (error != 0)
        return admin_fail(answer, 503, "unavailable", "no memory");
    json_t *rooms = json_array();
    add_rooms(http->options.registry, &(struct wanted){rows, count}, rooms);
    free(rows);
    json_object_set_new(answer, "rooms", rooms);
    return 200;
}
