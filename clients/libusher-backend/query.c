/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher-backend/backend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libusher-backend/pack.h"
#include "libusher-backend/rooms.h"
#include "proto/link_frame.h"

/* Questions that block.
 *
 * They go out on a connection of their own, opened by the first one, so that they may be asked
 * from any thread and from within callbacks while the link does its work. They change nothing at
 * the node, so they bear link 0, and one without an answer is simply asked again. */

enum {
    LOOK_MS = 100, /* the wake-up does not depend on it */
    ROW_TEXTS_MAX = 7,
};

/* What the commands of operators are made of. */
struct order {
    Usher__V1__Recorder recorder;
    Usher__V1__Trace trace;
    Usher__V1__Reload reload;
    Usher__V1__DrainNode drain;
    Usher__V1__UpgradeNode upgrade;
};

static void pack_trace(Usher__V1__Trace *trace, const struct usher_backend_query *query,
                       ProtobufCBinaryData token)
{
    usher__v1__trace__init(trace);
    trace->user = pack_text(query->user);
    trace->after = query->after_seq;
    trace->seconds = query->seconds;
    trace->one_in = query->one_in;
    trace->token = token;
    trace->action = query->kind == USHER_BACKEND_TRACE_START  ? USHER__V1__TRACE__ACTION__START
                    : query->kind == USHER_BACKEND_TRACE_STOP ? USHER__V1__TRACE__ACTION__STOP
                                                              : USHER__V1__TRACE__ACTION__READ;
}

/* False: it is none of them. */
static bool pack_order(const struct usher_backend *backend, Usher__V1__Command *command,
                       struct order *order, const struct usher_backend_query *query)
{
    ProtobufCBinaryData token = pack_bytes(backend->token, backend->token_size);
    switch (query->kind) {
    case USHER_BACKEND_RECORDER:
        usher__v1__recorder__init(&order->recorder);
        order->recorder.user = pack_text(query->user);
        order->recorder.after = query->after_seq;
        command->body_case = USHER__V1__COMMAND__BODY_RECORDER;
        command->recorder = &order->recorder;
        return true;
    case USHER_BACKEND_TRACE_READ:
    case USHER_BACKEND_TRACE_START:
    case USHER_BACKEND_TRACE_STOP:
        pack_trace(&order->trace, query, token);
        command->body_case = USHER__V1__COMMAND__BODY_TRACE;
        command->trace = &order->trace;
        return true;
    case USHER_BACKEND_RELOAD:
        usher__v1__reload__init(&order->reload);
        order->reload.token = token;
        command->body_case = USHER__V1__COMMAND__BODY_RELOAD;
        command->reload = &order->reload;
        return true;
    case USHER_BACKEND_DRAIN_NODE:
        usher__v1__drain_node__init(&order->drain);
        order->drain.seconds = query->seconds;
        order->drain.restart = query->restart;
        order->drain.token = token;
        command->body_case = USHER__V1__COMMAND__BODY_DRAIN_NODE;
        command->drain_node = &order->drain;
        return true;
    case USHER_BACKEND_UPGRADE_NODE:
    case USHER_BACKEND_UPGRADE_LOOK:
        usher__v1__upgrade_node__init(&order->upgrade);
        order->upgrade.token = token;
        order->upgrade.look = query->kind == USHER_BACKEND_UPGRADE_LOOK;
        command->body_case = USHER__V1__COMMAND__BODY_UPGRADE_NODE;
        command->upgrade_node = &order->upgrade;
        return true;
    default:
        return false;
    }
}

/* What questions about rooms are made of. */
struct room_question {
    Usher__V1__Rooms rooms;
    Usher__V1__RoomMembers members;
};

/* False: it is none of them. */
static bool pack_rooms(Usher__V1__Command *command, struct room_question *question,
                       const struct usher_backend_query *query)
{
    switch (query->kind) {
    case USHER_BACKEND_ROOMS:
        usher__v1__rooms__init(&question->rooms);
        question->rooms.prefix = pack_text(query->prefix);
        question->rooms.after = pack_text(query->after_user);
        question->rooms.limit = query->limit;
        command->body_case = USHER__V1__COMMAND__BODY_ROOMS;
        command->rooms = &question->rooms;
        return true;
    case USHER_BACKEND_ROOM_MEMBERS:
        usher__v1__room_members__init(&question->members);
        question->members.room = pack_text(query->room);
        question->members.after = pack_text(query->after_user);
        question->members.limit = query->limit;
        command->body_case = USHER__V1__COMMAND__BODY_ROOM_MEMBERS;
        command->room_members = &question->members;
        return true;
    default:
        return false;
    }
}

/* Builds the command on the stack of this call, because its parts are borrowed from one another. */
static int pack_query(struct usher_backend *backend, struct buffer *out,
                      const struct usher_backend_query *query)
{
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    Usher__V1__Submit submit = USHER__V1__SUBMIT__INIT;
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Command *commands[] = {&command};
    Usher__V1__Lookup lookup = USHER__V1__LOOKUP__INIT;
    Usher__V1__List list = USHER__V1__LIST__INIT;
    Usher__V1__Snapshot snapshot = USHER__V1__SNAPSHOT__INIT;
    Usher__V1__Events events = USHER__V1__EVENTS__INIT;
    Usher__V1__Count count = USHER__V1__COUNT__INIT;
    Usher__V1__Stats stats = USHER__V1__STATS__INIT;
    struct order order;
    struct room_question rooms;
    Usher__V1__Inbox inbox = USHER__V1__INBOX__INIT;
    Usher__V1__History history = USHER__V1__HISTORY__INIT;
    switch (query->kind) {
    case USHER_BACKEND_LOOKUP:
        lookup.n_users = query->user_count;
        lookup.users = (char **)(uintptr_t)query->users;
        command.body_case = USHER__V1__COMMAND__BODY_LOOKUP;
        command.lookup = &lookup;
        break;
    case USHER_BACKEND_LIST:
        list.prefix = pack_text(query->prefix);
        list.after = pack_text(query->after_user);
        list.limit = query->limit;
        command.body_case = USHER__V1__COMMAND__BODY_LIST;
        command.list = &list;
        break;
    case USHER_BACKEND_SNAPSHOT:
        snapshot.after = pack_text(query->after_user);
        snapshot.limit = query->limit;
        command.body_case = USHER__V1__COMMAND__BODY_SNAPSHOT;
        command.snapshot = &snapshot;
        break;
    case USHER_BACKEND_EVENTS:
        events.after = query->after_seq;
        events.limit = query->limit;
        command.body_case = USHER__V1__COMMAND__BODY_EVENTS;
        command.events = &events;
        break;
    case USHER_BACKEND_COUNT:
        command.body_case = USHER__V1__COMMAND__BODY_COUNT;
        command.count = &count;
        break;
    case USHER_BACKEND_STATS:
        command.body_case = USHER__V1__COMMAND__BODY_STATS;
        command.stats = &stats;
        break;
    case USHER_BACKEND_HISTORY:
        history.user = pack_text(query->user);
        history.limit = query->limit;
        command.body_case = USHER__V1__COMMAND__BODY_HISTORY;
        command.history = &history;
        break;
    case USHER_BACKEND_INBOX:
        inbox.user = pack_text(query->user);
        inbox.after_mid = query->mid;
        inbox.limit = query->limit;
        command.body_case = USHER__V1__COMMAND__BODY_INBOX;
        command.inbox = &inbox;
        break;
    default:
        if (!pack_order(backend, &command, &order, query) && !pack_rooms(&command, &rooms, query))
            return -EINVAL;
        break;
    }
    submit.seq = 1;
    submit.token = pack_bytes(backend->token, backend->token_size);
    submit.n_commands = 1;
    submit.commands = commands;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_SUBMIT;
    request.submit = &submit;
    if (usher__v1__link_request__get_packed_size(&request) > FRAME_BYTES_DEFAULT)
        return -EMSGSIZE;
    return request_pack(out, &request);
}

/* One request until it is answered or end_ms has come; each URL gets its share of the time. */
static int exchange(struct usher_backend *backend, struct bytes request, uint64_t end_ms,
                    struct bytes *answer)
{
    struct channel *channel = backend->query_channel;
    uint64_t share_ms = (end_ms - clock_ms()) / backend->urls.count;
    for (;;) {
        uint64_t now_ms = clock_ms();
        uint64_t left_ms = now_ms < end_ms ? end_ms - now_ms : 0;
        int error;
        if (left_ms == 0)
            return -ETIMEDOUT;
        error = channel_start(channel, request,
                              (unsigned)(left_ms < share_ms ? left_ms : share_ms) + 1);
        if (error != 0)
            return error;
        while ((error = channel_take(channel, answer)) == -EAGAIN)
            wake_wait(backend->query_wake, LOOK_MS);
        if (error == 0)
            return 0;
        channel_failed(channel, error);
        if (error == -ECONNRESET)
            wake_wait(backend->query_wake, BACKOFF_MS_MIN);
    }
}

/* A question is not said again by itself, so its asker gets a reason that he can act on. */
static int refused_error(const Usher__V1__Refused *refused)
{
    switch (refused->code) {
    case USHER__V1__REFUSED__CODE__BANNED:
        return -EACCES;
    case USHER__V1__REFUSED__CODE__BUSY:
        return -EBUSY;
    default:
        return -EPROTO;
    }
}

/* The answer and the texts that it points to are one piece of memory. */
struct texts {
    char *next;
    size_t left;
};

/* Room was counted before; a text for which there is none would be empty, and not beyond the end.
 */
static const char *text_copy(struct texts *texts, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = texts->next;
    if (size > texts->left)
        return "";
    memcpy(copy, text, size);
    texts->next += size;
    texts->left -= size;
    return copy;
}

static void copy_sessions(struct usher_backend_answer *answer, struct usher_backend_session *rows,
                          struct texts *texts, const Usher__V1__SessionList *list)
{
    for (size_t i = 0; i < list->n_sessions; i++) {
        struct usher_backend_session *session = &rows[i];
        session_convert(session, list->sessions[i]);
        session->user = text_copy(texts, session->user);
        session->node = text_copy(texts, session->node);
        session->address = text_copy(texts, session->address);
        session->client = text_copy(texts, session->client);
        session->transport = text_copy(texts, session->transport);
    }
    answer->sessions = rows;
    answer->session_count = list->n_sessions;
    answer->seq = list->presence_seq;
    answer->more = list->more;
}

static void copy_events(struct usher_backend_answer *answer, struct usher_backend_event *rows,
                        struct texts *texts, const Usher__V1__EventList *list)
{
    for (size_t i = 0; i < list->n_events; i++) {
        struct usher_backend_event *event = &rows[i];
        event_convert(event, list->events[i]);
        event->user = text_copy(texts, event->user);
        event->address = text_copy(texts, event->address);
        event->client = text_copy(texts, event->client);
    }
    answer->events = rows;
    answer->event_count = list->n_events;
    answer->seq = list->presence_last;
    answer->reset = list->reset;
}

static void copy_numbers(struct usher_backend_answer *answer, struct usher_backend_number *rows,
                         struct texts *texts, const Usher__V1__NumberList *list)
{
    for (size_t i = 0; i < list->n_numbers; i++) {
        rows[i].name = text_copy(texts, list->numbers[i]->name);
        rows[i].value = list->numbers[i]->value;
    }
    answer->numbers = rows;
    answer->number_count = list->n_numbers;
}

static void copy_rooms(struct usher_backend_answer *answer, struct usher_backend_room *rows,
                       struct texts *texts, const Usher__V1__RoomList *list)
{
    for (size_t i = 0; i < list->n_rooms; i++) {
        struct usher_backend_room *room = &rows[i];
        room_convert(room, list->rooms[i]);
        room->name = text_copy(texts, room->name);
        room->room_class = text_copy(texts, room->room_class);
        room->owner = text_copy(texts, room->owner);
    }
    answer->rooms = rows;
    answer->room_count = list->n_rooms;
    answer->more = list->more;
}

static void copy_members(struct usher_backend_answer *answer,
                         struct usher_backend_room_member *rows, struct texts *texts,
                         const Usher__V1__RoomMemberList *list)
{
    for (size_t i = 0; i < list->n_members; i++) {
        const Usher__V1__RoomMemberInfo *member = list->members[i];
        rows[i] = (struct usher_backend_room_member){
            .user = text_copy(texts, member->user),
            .epoch = member->epoch,
            .away = member->away,
            .carry = member->carry,
        };
    }
    answer->members = rows;
    answer->member_count = list->n_members;
    answer->next = text_copy(texts, list->next);
    answer->more = list->next[0] != '\0';
    answer->seq = list->news_seq;
    answer->incarnation = list->incarnation;
    answer->offset = list->offset;
}

static void copy_lines(struct usher_backend_answer *answer, const char **rows, struct texts *texts,
                       const Usher__V1__LineList *list)
{
    for (size_t i = 0; i < list->n_lines; i++)
        rows[i] = text_copy(texts, list->lines[i]);
    answer->lines = rows;
    answer->line_count = list->n_lines;
    answer->seq = list->next;
    answer->more = list->more;
}

static void copy_history(struct usher_backend_answer *answer, struct usher_backend_history *rows,
                         struct texts *texts, const Usher__V1__HistoryList *list)
{
    for (size_t i = 0; i < list->n_records; i++) {
        const Usher__V1__HistoryInfo *record = list->records[i];
        rows[i] = (struct usher_backend_history){
            .time_ms = record->time_ms,
            .kind = (unsigned)record->kind,
            .cause = (unsigned)record->cause,
            .epoch = record->epoch,
            .address = text_copy(texts, record->address),
            .client = text_copy(texts, record->client),
            .transport = text_copy(texts, record->transport),
            .by = text_copy(texts, record->by),
            .detail = text_copy(texts, record->detail),
            .limit = text_copy(texts, record->limit),
            .bound = record->bound,
            .value = record->value,
            .missing = record->missing,
            .count = record->count,
            .text = text_copy(texts, record->text),
        };
    }
    answer->history = rows;
    answer->history_count = list->n_records;
    answer->seq = list->kept;
    answer->first_ms = list->first_ms;
    answer->more = list->more;
}

static void copy_stored(struct usher_backend_answer *answer, struct usher_backend_stored *rows,
                        struct texts *texts, const Usher__V1__StoredList *list)
{
    for (size_t i = 0; i < list->n_messages; i++) {
        const Usher__V1__StoredInfo *message = list->messages[i];
        rows[i] = (struct usher_backend_stored){
            .mid = message->mid,
            .from = text_copy(texts, message->from),
            .service = text_copy(texts, message->service),
            .payload_bytes = message->payload_bytes,
            .time_ms = message->time_ms,
            .expires_ms = message->expires_ms,
        };
    }
    answer->stored = rows;
    answer->stored_rows = list->n_messages;
    answer->stored_count = list->count;
    answer->stored_bytes = list->bytes;
    answer->more = list->more;
}

/* How many rows there are; they are of one kind. */
static size_t rows_of(const Usher__V1__Result *result, size_t *row_bytes)
{
    switch (result->value_case) {
    case USHER__V1__RESULT__VALUE_SESSIONS:
        *row_bytes = sizeof(struct usher_backend_session);
        return result->sessions->n_sessions;
    case USHER__V1__RESULT__VALUE_EVENTS:
        *row_bytes = sizeof(struct usher_backend_event);
        return result->events->n_events;
    case USHER__V1__RESULT__VALUE_NUMBERS:
        *row_bytes = sizeof(struct usher_backend_number);
        return result->numbers->n_numbers;
    case USHER__V1__RESULT__VALUE_LINES:
        *row_bytes = sizeof(const char *);
        return result->lines->n_lines;
    case USHER__V1__RESULT__VALUE_ROOMS:
        *row_bytes = sizeof(struct usher_backend_room);
        return result->rooms->n_rooms;
    case USHER__V1__RESULT__VALUE_MEMBERS:
        *row_bytes = sizeof(struct usher_backend_room_member);
        return result->members->n_members;
    case USHER__V1__RESULT__VALUE_HISTORY:
        *row_bytes = sizeof(struct usher_backend_history);
        return result->history->n_records;
    case USHER__V1__RESULT__VALUE_STORED:
        *row_bytes = sizeof(struct usher_backend_stored);
        return result->stored->n_messages;
    default:
        *row_bytes = 0;
        return 0;
    }
}

/* The rows stand behind the head, and the texts behind the rows. In a frame a text is at least its
 * length and a tag, so frame_bytes and a NUL for each of a row's texts always suffice. */
static struct usher_backend_answer *convert(const Usher__V1__Result *result, size_t frame_bytes)
{
    size_t row_bytes;
    size_t count = rows_of(result, &row_bytes);
    size_t texts_bytes = frame_bytes + (count + 1) * ROW_TEXTS_MAX;
    struct usher_backend_answer *answer =
        calloc(1, sizeof(*answer) + count * row_bytes + texts_bytes);
    if (answer == NULL)
        return NULL;
    void *rows = answer + 1;
    struct texts texts = {(char *)rows + count * row_bytes, texts_bytes};
    answer->code = (unsigned)result->code;
    answer->next = "";
    if (result->value_case == USHER__V1__RESULT__VALUE_SESSIONS)
        copy_sessions(answer, rows, &texts, result->sessions);
    else if (result->value_case == USHER__V1__RESULT__VALUE_EVENTS)
        copy_events(answer, rows, &texts, result->events);
    else if (result->value_case == USHER__V1__RESULT__VALUE_NUMBERS)
        copy_numbers(answer, rows, &texts, result->numbers);
    else if (result->value_case == USHER__V1__RESULT__VALUE_LINES)
        copy_lines(answer, rows, &texts, result->lines);
    else if (result->value_case == USHER__V1__RESULT__VALUE_ROOMS)
        copy_rooms(answer, rows, &texts, result->rooms);
    else if (result->value_case == USHER__V1__RESULT__VALUE_MEMBERS)
        copy_members(answer, rows, &texts, result->members);
    else if (result->value_case == USHER__V1__RESULT__VALUE_HISTORY)
        copy_history(answer, rows, &texts, result->history);
    else if (result->value_case == USHER__V1__RESULT__VALUE_STORED)
        copy_stored(answer, rows, &texts, result->stored);
    return answer;
}

/* Under query_mutex: there is one channel, and one request on it. */
static int ask(struct usher_backend *backend, struct bytes request, uint32_t timeout_ms,
               struct usher_backend_answer **out)
{
    struct bytes frame;
    const Usher__V1__LinkAnswer *answer;
    int error = 0;
    if (backend->query_channel == NULL)
        error = channel_open(&backend->query_channel, &backend->urls, backend->query_wake);
    if (error == 0)
        error = exchange(backend, request,
                         clock_ms() + (timeout_ms != 0 ? timeout_ms : QUERY_TIMEOUT_MS), &frame);
    if (error != 0)
        return error;
    arena_reset(&backend->query_arena);
    answer = link_answer_read(&backend->query_arena, frame);
    if (answer == NULL)
        return -EPROTO;
    if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_REFUSED)
        return refused_error(answer->refused);
    if (answer->body_case != USHER__V1__LINK_ANSWER__BODY_RESULTS ||
        answer->results->n_results != 1)
        return -EPROTO;
    *out = convert(answer->results->results[0], frame.size);
    return *out != NULL ? 0 : -ENOMEM;
}

int usher_backend_query(struct usher_backend *backend, const struct usher_backend_query *query,
                        struct usher_backend_answer **answer)
{
    struct buffer request = {0};
    int error = pack_query(backend, &request, query);
    if (error == 0) {
        struct bytes frame = {request.data, request.size};
        pthread_mutex_lock(&backend->query_mutex);
        error = ask(backend, frame, query->timeout_ms, answer);
        pthread_mutex_unlock(&backend->query_mutex);
    }
    buffer_fini(&request);
    return error;
}

void usher_backend_answer_free(struct usher_backend_answer *answer)
{
    free(answer);
}
