/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "operate/backends_private.h"
#include "operate/members_json.h"

/* Results as JSON, by the names of backend.proto, and the status that goes with each code. A text
 * that is not ours to choose may be any bytes to JSON: what is not UTF-8 is "?". */

static json_t *text_json(const char *text)
{
    json_t *json = json_string(text);
    return json != NULL ? json : json_string("?");
}

static json_t *number_json(uint64_t number)
{
    return json_integer((json_int_t)number);
}

static const char *name_of(const ProtobufCEnumDescriptor *words, int value)
{
    const ProtobufCEnumValue *word = protobuf_c_enum_descriptor_get_value(words, value);
    return word != NULL ? word->name : "UNKNOWN";
}

static const char *code_name(uint32_t code)
{
    return name_of(&usher__v1__result__code__descriptor, (int)code);
}

/* --- codes ------------------------------------------------------------------------------------ */

struct code_row {
    unsigned status;
    const char *detail;
};

static const struct code_row *row_of(uint32_t code)
{
    static const struct code_row rows[] = {
        [USHER__V1__RESULT__CODE__OK] = {200, ""},
        [USHER__V1__RESULT__CODE__NOT_ONLINE] = {404, "that user has no session"},
        [USHER__V1__RESULT__CODE__STALE_EPOCH] = {409, "that user has another epoch by now"},
        [USHER__V1__RESULT__CODE__GONE] = {410, "that is gone"},
        [USHER__V1__RESULT__CODE__INBOX_FULL] = {429, "no room in that inbox or mailbox now"},
        [USHER__V1__RESULT__CODE__TOO_LARGE] = {413,
                                                "too large for its receiver, or the answer is"},
        [USHER__V1__RESULT__CODE__MALFORMED] = {400, "the command makes no sense"},
        [USHER__V1__RESULT__CODE__UNAVAILABLE] = {503, "the store refused; try again"},
        [USHER__V1__RESULT__CODE__FORBIDDEN] = {403, "the configuration does not allow that"},
        [USHER__V1__RESULT__CODE__NO_ROOM] = {404, "there is no such room, or no class for it"},
        [USHER__V1__RESULT__CODE__ROOM_FULL] = {409, "the room is full"},
        [USHER__V1__RESULT__CODE__NOT_MEMBER] = {404, "that user is not in the room"},
        [USHER__V1__RESULT__CODE__RATE_LIMITED] = {429, "too many for now"},
        [USHER__V1__RESULT__CODE__FULL] = {409, "a limit of users, rooms or targets is reached"},
    };
    static const struct code_row other = {500, "a code that this version does not know"};
    return code < sizeof(rows) / sizeof(rows[0]) ? &rows[code] : &other;
}

static unsigned show_code(uint32_t code, json_t *answer)
{
    const struct code_row *row = row_of(code);
    return admin_fail(answer, row->status, code_name(code), row->detail);
}

/* --- values ----------------------------------------------------------------------------------- */

static json_t *session_json(const Usher__V1__SessionInfo *session)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:I, s:s, s:o, s:I, s:s}", "user", session->user,
                     "state",
                     name_of(&usher__v1__session_info__state__descriptor, (int)session->state),
                     "epoch", (json_int_t)session->epoch, "node", session->node, "since_ms",
                     (json_int_t)session->since_ms, "address", session->address, "client",
                     text_json(session->client), "inbox_messages",
                     (json_int_t)session->inbox_messages, "transport", session->transport);
}

/* The name for `after` of the next page. */
static void add_next(json_t *answer, bool more, const char *next)
{
    json_object_set_new(answer, "more", json_boolean(more));
    if (more)
        json_object_set_new(answer, "next", text_json(next));
}

static unsigned show_sessions(const Usher__V1__SessionList *list, bool single, json_t *answer)
{
    size_t count = list->n_sessions;
    bool gone =
        single && count == 1 && list->sessions[0]->state == USHER__V1__SESSION_INFO__STATE__GONE;
    unsigned status = gone ? show_code(USHER__V1__RESULT__CODE__NOT_ONLINE, answer) : 200;
    json_object_set_new(answer, "presence_seq", number_json(list->presence_seq));
    if (single && !gone && count == 1)
        json_object_set_new(answer, "session", session_json(list->sessions[0]));
    if (single)
        return status;
    json_t *sessions = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(sessions, session_json(list->sessions[i]));
    json_object_set_new(answer, "sessions", sessions);
    add_next(answer, list->more && count > 0, count > 0 ? list->sessions[count - 1]->user : "");
    return status;
}

static void show_numbers(const Usher__V1__NumberList *list, json_t *answer)
{
    for (size_t i = 0; i < list->n_numbers; i++)
        json_object_set_new(answer, list->numbers[i]->name, number_json(list->numbers[i]->value));
}

/* Of one name its code is that of the whole. */
static unsigned show_push(const Usher__V1__Result *result, json_t *answer)
{
    const Usher__V1__PushReport *report = result->push;
    unsigned status = result->code == USHER__V1__RESULT__CODE__OK
                          ? 200
                          : show_code((uint32_t)result->code, answer);
    json_t *failures = json_array();
    for (size_t i = 0; i < report->n_failures; i++)
        json_array_append_new(failures,
                              json_pack("{s:o, s:s}", "user", text_json(report->failures[i]->user),
                                        "code", code_name((uint32_t)report->failures[i]->code)));
    json_object_set_new(answer, "accepted", number_json(report->accepted));
    json_object_set_new(answer, "dropped", number_json(report->dropped));
    json_object_set_new(answer, "failures", failures);
    if (report->mid != 0)
        json_object_set_new(answer, "mid", number_json(report->mid));
    return status;
}

static json_t *room_json(const Usher__V1__RoomInfo *room)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:I}", "room", room->name,
                     "incarnation", (json_int_t)room->incarnation, "offset",
                     (json_int_t)room->offset, "members", (json_int_t)room->members, "away",
                     (json_int_t)room->away, "class", room->class_, "owner", room->owner,
                     "history_messages", (json_int_t)room->history_messages, "history_bytes",
                     (json_int_t)room->history_bytes, "deliveries", (json_int_t)room->deliveries,
                     "opened_ms", (json_int_t)room->opened_ms);
}

static void show_rooms(const Usher__V1__RoomList *list, json_t *answer)
{
    size_t count = list->n_rooms;
    json_t *rooms = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(rooms, room_json(list->rooms[i]));
    json_object_set_new(answer, "rooms", rooms);
    add_next(answer, list->more && count > 0, count > 0 ? list->rooms[count - 1]->name : "");
}

static void show_members(const Usher__V1__RoomMemberList *list, json_t *answer)
{
    json_object_set_new(answer, "members", members_json(list));
    json_object_set_new(answer, "news_seq", number_json(list->news_seq));
    json_object_set_new(answer, "incarnation", number_json(list->incarnation));
    json_object_set_new(answer, "offset", number_json(list->offset));
    add_next(answer, list->next[0] != '\0', list->next);
}

/* What was dropped has no messages. */
static void show_stored(const Usher__V1__StoredList *list, json_t *answer)
{
    size_t count = list->n_messages;
    json_t *messages = json_array();
    for (size_t i = 0; i < count; i++) {
        const Usher__V1__StoredInfo *info = list->messages[i];
        json_array_append_new(
            messages,
            json_pack("{s:I, s:o, s:o, s:I, s:I, s:I}", "mid", (json_int_t)info->mid, "from",
                      text_json(info->from), "service", text_json(info->service), "payload_bytes",
                      (json_int_t)info->payload_bytes, "time_ms", (json_int_t)info->time_ms,
                      "expires_ms", (json_int_t)info->expires_ms));
    }
    json_object_set_new(answer, "messages", messages);
    json_object_set_new(answer, "count", number_json(list->count));
    json_object_set_new(answer, "bytes", number_json(list->bytes));
    bool more = list->more && count > 0;
    json_object_set_new(answer, "more", json_boolean(more));
    if (more)
        json_object_set_new(answer, "next", number_json(list->messages[count - 1]->mid));
}

struct event_fields show_event(const Usher__V1__PresenceEvent *event)
{
    return (struct event_fields){
        .seq = event->seq,
        .time_ms = event->time_ms,
        .user = event->user,
        .kind = (uint32_t)event->kind,
        .epoch = event->epoch,
        .previous_epoch = event->previous_epoch,
        .cause = (uint32_t)event->cause,
        .until_ms = event->until_ms,
        .address = event->address,
        .client = event->client,
    };
}

unsigned show_result(const Usher__V1__Result *result, bool single, json_t *answer)
{
    unsigned status = 200;
    if (result->value_case == USHER__V1__RESULT__VALUE_PUSH)
        status = show_push(result, answer);
    else if (result->code != USHER__V1__RESULT__CODE__OK)
        return show_code((uint32_t)result->code, answer);
    else if (result->value_case == USHER__V1__RESULT__VALUE_SESSIONS)
        status = show_sessions(result->sessions, single, answer);
    else if (result->value_case == USHER__V1__RESULT__VALUE_NUMBERS)
        show_numbers(result->numbers, answer);
    else if (result->value_case == USHER__V1__RESULT__VALUE_ROOMS)
        show_rooms(result->rooms, answer);
    else if (result->value_case == USHER__V1__RESULT__VALUE_MEMBERS)
        show_members(result->members, answer);
    else if (result->value_case == USHER__V1__RESULT__VALUE_STORED)
        show_stored(result->stored, answer);
    if (status == 200)
        json_object_set_new(answer, "code", json_string("OK"));
    return status;
}
