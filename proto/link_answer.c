/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/link_answer.h"

#include <assert.h>
#include <errno.h>

#include "proto/field.h"
#include "proto/number.h"

/* Every message here is a list of fields that one loop measures and another one writes (field.h).
 * Sizes are worked out first, then room is taken once, then the bytes are put, and only then does
 * the buffer grow. So a failure leaves nothing half-written.
 *
 * What is repeated is written before the message around it, because how many there are shows only
 * while they are read: they are whole fields, which the list of the outer message takes as they
 * are. protobuf-c would want all of them as structs first, with copies of each text.
 *
 * The few numbers that are said though they are 0 were always sent so; a reader sees no
 * difference. Numbers are those of backend.proto. */

enum {
    ANSWER_ACCEPTED = 1,
    ANSWER_BATCH = 2,
    ANSWER_RESULTS = 3,
    ANSWER_REFUSED = 4,
    BATCH_MAIL = 1,
    BATCH_PRESENCE = 2,
    MAIL_CALL = 2,
    MAIL_CONTROL = 3,
    MAIL_AUTH = 4,
    MAIL_ASK = 5,
    MAIL_NEWS = 6,
    MAIL_WATCH = 7,
    MAIL_STORED = 8,
    WATCH_TARGET = 4,
    RESULTS_RESULT = 2,
    RESULT_SESSIONS = 2,
    RESULT_EVENTS = 3,
    RESULT_NUMBERS = 4,
    RESULT_PUSH = 5,
    RESULT_LINES = 6,
    RESULT_ROOMS = 7,
    RESULT_MEMBERS = 8,
    RESULT_HISTORY = 9,
    RESULT_STORED = 10,
    ITEM = 1,    /* of SessionList, EventList, NumberList and LineList */
    FAILURE = 2, /* of PushReport */
};

enum {
    SESSION_OVERHEAD = 16, /* tag, length, inbox_messages */
    LINE_OVERHEAD = 16,    /* what ends the list */
    RESULTS_TAG_BYTES = 6, /* tag and length of Results */
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Tag and length of the message `number`, whose fields follow. */
static size_t head_size(size_t body_bytes)
{
    return 1 + varint_size(body_bytes);
}

static uint8_t *head_put(uint8_t *at, unsigned number, size_t body_bytes)
{
    at = tag_put(at, number, WIRE_RUN);
    return at + varint_write(at, body_bytes);
}

/* A message as the field `number` of what `out` holds. */
static int append(struct buffer *out, unsigned number, const struct field *fields, unsigned count)
{
    size_t body_bytes = fields_size(fields, count);
    uint8_t *start = buffer_reserve(out, head_size(body_bytes) + body_bytes);
    if (start == NULL)
        return -ENOMEM;
    uint8_t *at = fields_put(head_put(start, number, body_bytes), fields, count);
    out->size += (size_t)(at - start);
    return 0;
}

/* The number that is field 1 of what `out` holds, also when it is 0. */
static int append_said(struct buffer *out, uint64_t value)
{
    const struct field field = {.value = value, .said = true};
    uint8_t *start = buffer_reserve(out, field_size(&field));
    if (start == NULL)
        return -ENOMEM;
    out->size += (size_t)(field_put(start, 1, &field) - start);
    return 0;
}

/* --- LinkAnswer ------------------------------------------------------------------------------- */

int link_answer_accepted(struct buffer *out, const struct accepted_fields *a)
{
    const struct field fields[] = {
        {.value = a->link},
        {.run = bytes_of_text(a->node)},
        {.run = bytes_of_text(a->node_boot)},
        {.value = a->frame_bytes_max},
        {.value = a->park_ms},
        {.value = a->presence_from},
        {.value = a->number},
    };
    return append(out, ANSWER_ACCEPTED, fields, COUNT(fields));
}

int link_answer_refused(struct buffer *out, uint32_t code, const char *detail)
{
    const struct field fields[] = {{.value = code}, {.run = bytes_of_text(detail)}};
    return append(out, ANSWER_REFUSED, fields, COUNT(fields));
}

/* Mail and events are fields 1 and 2, and stand in one run. */
int link_answer_batch(struct buffer *out, struct bytes items, bool presence_reset,
                      uint64_t presence_last)
{
    const struct field fields[] = {
        {.run = items, .whole = true},
        {0},
        {.value = presence_reset},
        {.value = presence_last, .said = true},
    };
    return append(out, ANSWER_BATCH, fields, COUNT(fields));
}

int link_answer_results(struct buffer *out, const struct link_results *results)
{
    const struct field fields[] = {
        {.run = {results->items.data, results->items.size}, .whole = true}};
    return append(out, ANSWER_RESULTS, fields, COUNT(fields));
}

/* --- what is in a Batch ----------------------------------------------------------------------- */

/* A Mail, whose body is the message `number`. */
static int append_mail(struct buffer *items, uint64_t seq, unsigned number,
                       const struct field *fields, unsigned count)
{
    size_t body_bytes = fields_size(fields, count);
    size_t mail_bytes = number_size(seq) + head_size(body_bytes) + body_bytes;
    uint8_t *start = buffer_reserve(items, head_size(mail_bytes) + mail_bytes);
    if (start == NULL)
        return -ENOMEM;
    uint8_t *at = number_put(head_put(start, BATCH_MAIL, mail_bytes), 1, seq);
    at = fields_put(head_put(at, number, body_bytes), fields, count);
    items->size += (size_t)(at - start);
    return 0;
}

int link_batch_call(struct buffer *items, uint64_t seq, const struct user_call_fields *call)
{
    const struct field fields[] = {{.value = call->call},        {.run = call->user},
                                   {.value = call->epoch},       {.run = call->method},
                                   {.run = call->payload},       {.value = call->timeout_ms},
                                   {.value = call->redelivered}, {.run = call->traceparent}};
    return append_mail(items, seq, MAIL_CALL, fields, COUNT(fields));
}

int link_batch_auth(struct buffer *items, uint64_t seq, const struct auth_call_fields *call)
{
    const struct field fields[] = {{.value = call->call},       {.run = call->user},
                                   {.run = call->token},        {.run = call->address},
                                   {.run = call->client},       {.value = call->timeout_ms},
                                   {.value = call->redelivered}};
    return append_mail(items, seq, MAIL_AUTH, fields, COUNT(fields));
}

int link_batch_ask(struct buffer *items, uint64_t seq, const struct room_ask_fields *ask)
{
    const struct field fields[] = {{.value = ask->call},       {.run = ask->user},
                                   {.value = ask->epoch},      {.run = ask->room},
                                   {.value = ask->kind},       {.value = ask->timeout_ms},
                                   {.value = ask->redelivered}};
    return append_mail(items, seq, MAIL_ASK, fields, COUNT(fields));
}

int link_batch_news(struct buffer *items, uint64_t seq, const struct room_news_fields *news)
{
    const struct field fields[] = {
        {.run = news->room},          {.value = news->incarnation}, {.value = news->news_seq},
        {.value = news->kind},        {.run = news->user},          {.value = news->epoch},
        {.value = news->cause},       {.value = news->offset},      {.run = news->payload},
        {.value = news->redelivered}, {.value = news->time_ms},     {.run = news->service},
    };
    return append_mail(items, seq, MAIL_NEWS, fields, COUNT(fields));
}

int link_batch_watch(struct buffer *items, uint64_t seq, const struct watch_ask_fields *ask)
{
    const struct field fields[] = {{.value = ask->call},       {.run = ask->user},
                                   {.value = ask->epoch},      {.run = ask->targets, .whole = true},
                                   {.value = ask->timeout_ms}, {.value = ask->redelivered}};
    return append_mail(items, seq, MAIL_WATCH, fields, COUNT(fields));
}

int link_batch_stored(struct buffer *items, uint64_t seq, const struct stored_notice_fields *stored)
{
    const struct field fields[] = {
        {.run = stored->user},    {.value = stored->mid},           {.run = stored->from},
        {.run = stored->service}, {.value = stored->payload_bytes}, {.value = stored->time_ms},
        {.value = stored->count},
    };
    return append_mail(items, seq, MAIL_STORED, fields, COUNT(fields));
}

int link_watch_target(struct buffer *targets, struct bytes name)
{
    const struct field text = {.run = name, .whole = true};
    return append(targets, WATCH_TARGET, &text, 1);
}

int link_batch_control(struct buffer *items, uint64_t seq, uint32_t kind)
{
    const struct field fields[] = {{.value = kind}};
    return append_mail(items, seq, MAIL_CONTROL, fields, COUNT(fields));
}

size_t link_batch_item_size(struct bytes items)
{
    uint64_t size;
    if (items.size < 1)
        return 0;
    int used = varint_read((struct bytes){items.data + 1, items.size - 1}, &size);
    if (used <= 0 || size > items.size - 1 - (size_t)used)
        return 0;
    return 1 + (size_t)used + (size_t)size;
}

/* --- PresenceEvent ---------------------------------------------------------------------------- */

enum { EVENT_FIELDS = 10 };

static void list_event(struct field fields[EVENT_FIELDS], const struct event_fields *event)
{
    const struct field list[] = {
        {.value = event->seq},
        {.value = event->time_ms},
        {.run = bytes_of_text(event->user)},
        {.value = event->kind},
        {.value = event->epoch},
        {.value = event->previous_epoch},
        {.value = event->cause},
        {.value = event->until_ms},
        {.run = bytes_of_text(event->address)},
        {.run = bytes_of_text(event->client)},
    };
    static_assert(COUNT(list) == EVENT_FIELDS, "as many as PresenceEvent has");
    memcpy(fields, list, sizeof(list));
}

size_t link_event_size(const struct event_fields *event)
{
    struct field fields[EVENT_FIELDS];
    list_event(fields, event);
    return fields_size(fields, EVENT_FIELDS);
}

void link_event_write(uint8_t *to, const struct event_fields *event)
{
    struct field fields[EVENT_FIELDS];
    list_event(fields, event);
    fields_put(to, fields, EVENT_FIELDS);
}

/* --- pages ------------------------------------------------------------------------------------ */

/* As append, if there is room for `needed` bytes; `taken` of them are used up. */
static int append_to_page(struct link_page *page, unsigned number, const struct field *fields,
                          unsigned count, size_t needed, size_t taken)
{
    page->full = page->full || needed > page->room;
    if (page->full)
        return -ENOSPC;
    int error = append(&page->items, number, fields, count);
    if (error == 0)
        page->room -= taken;
    return error;
}

int link_page_session(struct link_page *page, const struct session_fields *session)
{
    enum { INBOX = 8 };
    struct field fields[] = {
        {.run = bytes_of_text(session->user)},
        {.value = session->state},
        {.value = session->epoch},
        {.run = bytes_of_text(session->node)},
        {.value = session->since_ms},
        {.run = bytes_of_text(session->address)},
        {.run = bytes_of_text(session->client)},
        [INBOX - 1] = {0},
        {.run = bytes_of_text(session->transport)},
    };
    size_t bytes = fields_size(fields, COUNT(fields)) + SESSION_OVERHEAD;
    fields[INBOX - 1].value = session->inbox_messages;
    return append_to_page(page, ITEM, fields, COUNT(fields), bytes, bytes);
}

static int append_event(struct link_page *page, unsigned number, const struct event_fields *event)
{
    struct field fields[EVENT_FIELDS];
    list_event(fields, event);
    size_t bytes = fields_size(fields, EVENT_FIELDS);
    bytes += head_size(bytes);
    return append_to_page(page, number, fields, EVENT_FIELDS, bytes, bytes);
}

int link_page_event(struct link_page *page, const struct event_fields *event)
{
    return append_event(page, ITEM, event);
}

int link_page_batch_event(struct link_page *page, const struct event_fields *event)
{
    return append_event(page, BATCH_PRESENCE, event);
}

int link_page_number(struct link_page *page, const char *name, uint64_t value)
{
    uint64_t told = value < NUMBER_TOLD_MAX ? value : NUMBER_TOLD_MAX;
    const struct field fields[] = {{.run = bytes_of_text(name)}, {.value = told}};
    size_t bytes = fields_size(fields, COUNT(fields));
    bytes += head_size(bytes);
    return append_to_page(page, ITEM, fields, COUNT(fields), bytes, bytes);
}

/* A text looks like a message: its bytes stand where the fields would. An empty line is one, too.
 */
int link_page_line(struct link_page *page, struct bytes line)
{
    const struct field text = {.run = line, .whole = true};
    size_t bytes = head_size(line.size) + line.size;
    return append_to_page(page, ITEM, &text, 1, bytes + LINE_OVERHEAD, bytes);
}

int link_page_failure(struct link_page *page, const char *user, uint32_t code)
{
    const struct field fields[] = {{.run = bytes_of_text(user)}, {.value = code}};
    size_t bytes = fields_size(fields, COUNT(fields));
    bytes += head_size(bytes);
    return append_to_page(page, FAILURE, fields, COUNT(fields), bytes, bytes);
}

static int append_item(struct link_page *page, const struct field *fields, unsigned count)
{
    size_t bytes = fields_size(fields, count);
    bytes += head_size(bytes);
    return append_to_page(page, ITEM, fields, count, bytes, bytes);
}

int link_page_stored(struct link_page *page, const struct stored_fields *stored)
{
    const struct field fields[] = {
        {.value = stored->mid},           {.run = stored->from},      {.run = stored->service},
        {.value = stored->payload_bytes}, {.value = stored->time_ms}, {.value = stored->expires_ms},
    };
    return append_item(page, fields, COUNT(fields));
}

int link_page_room(struct link_page *page, const struct room_fields *room)
{
    const struct field fields[] = {
        {.run = room->name},
        {.value = room->incarnation},
        {.value = room->offset},
        {.value = room->members},
        {.run = room->pattern},
        {.run = room->owner},
        {.value = room->away},
        {.value = room->history_messages},
        {.value = room->history_bytes},
        {.value = room->deliveries},
        {.value = room->opened_ms},
    };
    return append_item(page, fields, COUNT(fields));
}

int link_page_history(struct link_page *page, const struct history_fields *record)
{
    const struct field fields[] = {
        {.value = record->time_ms},
        {.value = record->kind},
        {.value = record->cause},
        {.value = record->epoch},
        {.run = bytes_of_text(record->address)},
        {.run = bytes_of_text(record->client)},
        {.run = bytes_of_text(record->transport)},
        {.run = bytes_of_text(record->by)},
        {.run = bytes_of_text(record->detail)},
        {.run = bytes_of_text(record->limit)},
        {.value = record->bound},
        {.value = record->value},
        {.value = record->missing},
        {.value = record->count},
        {.run = bytes_of_text(record->text)},
    };
    size_t bytes = fields_size(fields, COUNT(fields));
    bytes += head_size(bytes);
    return append_to_page(page, ITEM, fields, COUNT(fields), bytes, bytes);
}

int link_page_room_member(struct link_page *page, struct bytes user, uint64_t epoch, bool away,
                          bool carry)
{
    const struct field fields[] = {
        {.run = user}, {.value = epoch}, {.value = away}, {.value = carry}};
    return append_item(page, fields, COUNT(fields));
}

/* --- Result ----------------------------------------------------------------------------------- */

/* A Result of a code and the message `number`. */
static int append_result(struct buffer *out, struct field code, unsigned number,
                         const struct field *fields, unsigned count)
{
    size_t body_bytes = fields_size(fields, count);
    uint8_t *start = buffer_reserve(out, field_size(&code) + head_size(body_bytes) + body_bytes);
    if (start == NULL)
        return -ENOMEM;
    uint8_t *at = field_put(start, 1, &code);
    at = fields_put(head_put(at, number, body_bytes), fields, count);
    out->size += (size_t)(at - start);
    return 0;
}

static struct field items_of(const struct link_page *page)
{
    return (struct field){.run = {page->items.data, page->items.size}, .whole = true};
}

static const struct field ok = {0};

int link_result_code(struct buffer *out, uint32_t code)
{
    return append_said(out, code);
}

int link_result_sessions(struct buffer *out, const struct link_page *page, uint64_t presence_seq,
                         bool more)
{
    const struct field fields[] = {items_of(page), {.value = presence_seq}, {.value = more}};
    return append_result(out, ok, RESULT_SESSIONS, fields, COUNT(fields));
}

int link_result_events(struct buffer *out, const struct link_page *page, uint64_t presence_last,
                       bool reset)
{
    const struct field fields[] = {
        items_of(page), {.value = presence_last, .said = true}, {.value = reset}};
    return append_result(out, ok, RESULT_EVENTS, fields, COUNT(fields));
}

int link_result_numbers(struct buffer *out, const struct link_page *page)
{
    const struct field fields[] = {items_of(page)};
    return append_result(out, ok, RESULT_NUMBERS, fields, COUNT(fields));
}

int link_result_lines(struct buffer *out, uint32_t code, const struct link_page *page,
                      uint64_t next, bool more)
{
    const struct field said = {.value = code, .said = true};
    const struct field fields[] = {
        items_of(page), {.value = next, .said = true}, {.value = more, .said = true}};
    return append_result(out, said, RESULT_LINES, fields, COUNT(fields));
}

int link_result_rooms(struct buffer *out, const struct link_page *page, bool more)
{
    const struct field fields[] = {items_of(page), {.value = more}};
    return append_result(out, ok, RESULT_ROOMS, fields, COUNT(fields));
}

int link_result_members(struct buffer *out, const struct link_page *page, struct bytes next,
                        uint64_t news_seq, uint64_t incarnation, uint64_t offset)
{
    const struct field fields[] = {items_of(page),
                                   {.run = next},
                                   {.value = news_seq},
                                   {.value = incarnation},
                                   {.value = offset}};
    return append_result(out, ok, RESULT_MEMBERS, fields, COUNT(fields));
}

int link_result_history(struct buffer *out, const struct link_page *page, uint64_t kept,
                        uint64_t first_ms, bool more)
{
    const struct field fields[] = {
        items_of(page), {.value = kept}, {.value = first_ms}, {.value = more}};
    return append_result(out, ok, RESULT_HISTORY, fields, COUNT(fields));
}

int link_result_stored(struct buffer *out, const struct link_page *page, bool more, uint32_t count,
                       uint64_t bytes)
{
    const struct field fields[] = {
        items_of(page), {.value = more}, {.value = count}, {.value = bytes}};
    return append_result(out, ok, RESULT_STORED, fields, COUNT(fields));
}

int link_result_push(struct buffer *out, uint32_t code, uint32_t accepted, uint32_t dropped,
                     uint64_t mid, const struct link_page *page)
{
    const struct field fields[] = {
        {.value = accepted}, items_of(page), {.value = dropped}, {.value = mid}};
    return append_result(out, (struct field){.value = code}, RESULT_PUSH, fields, COUNT(fields));
}

/* --- Results ---------------------------------------------------------------------------------- */

int link_results_begin(struct link_results *results, uint64_t seq, size_t count, size_t bytes_max)
{
    *results = (struct link_results){.bytes_max = bytes_max, .left = count};
    return append_said(&results->items, seq);
}

int link_results_add(struct link_results *results, struct bytes result)
{
    if (results->left == 0)
        return -ENOSPC;
    size_t needed = head_size(result.size) + result.size;
    size_t rest = (results->left - 1) * LINK_RESULTS_CODE_BYTES + RESULTS_TAG_BYTES;
    if (results->items.size + needed + rest > results->bytes_max)
        return -ENOSPC;
    const struct field whole = {.run = result, .whole = true};
    int error = append(&results->items, RESULTS_RESULT, &whole, 1);
    results->left -= error == 0;
    return error;
}

int link_results_code(struct link_results *results, uint32_t code)
{
    const struct field fields[] = {{.value = code}};
    int error = append(&results->items, RESULTS_RESULT, fields, COUNT(fields));
    results->left -= error == 0;
    return error;
}

int link_answer_codes(struct buffer *out, uint64_t seq, uint32_t code, size_t count)
{
    struct link_results results;
    int error = link_results_begin(&results, seq, count, 0);
    for (size_t i = 0; error == 0 && i < count; i++)
        error = link_results_code(&results, code);
    if (error == 0)
        error = link_answer_results(out, &results);
    buffer_fini(&results.items);
    return error;
}
