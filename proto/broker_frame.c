/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/broker_frame.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "proto/field.h"

/* A frame is written straight into the connection's output: the sizes are worked out first, then
 * room is taken once, then the bytes are put, and only then does the buffer grow. So a failure
 * leaves nothing half-written.
 *
 * Message is what the broker sends most, and is written out by hand; room is taken for the most
 * that its head may need, which is cheaper than to measure it. The other bodies are a list
 * of fields that one loop measures and another one writes (field.h). Numbers are those of
 * client.proto. */

enum {
    ID_NUMBER = 1,
    WELCOME_NUMBER = 2,
    MESSAGE_NUMBER = 3,
    DONE_NUMBER = 4,
    REPLY_NUMBER = 5,
    ERROR_NUMBER = 6,
    PONG_NUMBER = 7,
    CLOSE_NUMBER = 8,
    ROOM_STATE_NUMBER = 9,
    ROOM_MESSAGES_NUMBER = 10,
    ROOM_EVENT_NUMBER = 11,
    FRIENDS_NUMBER = 12,
};

/* What is repeated in them. */
enum { STATE_ROSTER = 9, MESSAGES_MESSAGE = 3, EVENT_CHANGE = 3, FRIENDS_FRIEND = 2 };

/* The message without the length in front of it. */
static size_t envelope_size(uint64_t id, size_t body_bytes)
{
    return number_size(id) + 1 + varint_size(body_bytes) + body_bytes;
}

/* Everything up to the first field of the body. */
static uint8_t *envelope_put(uint8_t *at, size_t envelope_bytes, uint64_t id, unsigned body,
                             size_t body_bytes)
{
    at += varint_write(at, envelope_bytes);
    at = number_put(at, ID_NUMBER, id);
    at = tag_put(at, body, WIRE_RUN);
    return at + varint_write(at, body_bytes);
}

/* The traceparent stands in it, though its number comes behind that of redelivered: to all who get
 * a message in common it is the same. */
static size_t tail_size(const struct message_fields *m)
{
    return run_size(m->from) + run_size(m->service) + run_size(m->payload) +
           number_size(m->time_ms) + run_size(m->traceparent);
}

static uint8_t *tail_put(uint8_t *at, const struct message_fields *m)
{
    at = run_put(at, 2, m->from);
    at = run_put(at, 3, m->service);
    at = run_put(at, 4, m->payload);
    at = number_put(at, 5, m->time_ms);
    return run_put(at, 8, m->traceparent);
}

size_t broker_frame_tail_size(const struct message_fields *m)
{
    return tail_size(m);
}

void broker_frame_tail_write(uint8_t *to, const struct message_fields *m)
{
    tail_put(to, m);
}

static size_t message_body_size(const struct message_fields *m)
{
    return number_size(m->seq) + tail_size(m) + number_size(m->redelivered) + number_size(m->mid);
}

size_t broker_frame_message_size(const struct message_fields *m)
{
    size_t envelope_bytes = envelope_size(0, message_body_size(m));
    return varint_size(envelope_bytes) + envelope_bytes;
}

enum {
    /* a Message's envelope and seq */
    MESSAGE_HEAD_BYTES_MAX = VARINT_BYTES_MAX + 1 + VARINT_BYTES_MAX + 1 + VARINT_BYTES_MAX,
    REDELIVERED_BYTES = 2,
    ONE_BYTE_MAX = 0x7f, /* of a varint */
};

/* Most are short, and then no length needs to be measured. */
static uint8_t *message_head_put(uint8_t *at, uint64_t seq, size_t body_bytes)
{
    size_t envelope_bytes = 2 + body_bytes;
    if (envelope_bytes <= ONE_BYTE_MAX) {
        *at++ = (uint8_t)envelope_bytes;
        at = tag_put(at, MESSAGE_NUMBER, WIRE_RUN);
        *at++ = (uint8_t)body_bytes;
    } else {
        at = envelope_put(at, envelope_size(0, body_bytes), 0, MESSAGE_NUMBER, body_bytes);
    }
    return number_put(at, 1, seq);
}

static uint8_t *message_of_put(uint8_t *at, uint64_t seq, struct bytes tail, bool redelivered)
{
    at = message_head_put(at, seq, number_size(seq) + tail.size + number_size(redelivered));
    if (tail.size > 0)
        memcpy(at, tail.data, tail.size);
    return number_put(at + tail.size, 6, redelivered);
}

int broker_frame_message(struct buffer *out, const struct message_fields *m)
{
    size_t body_bytes = message_body_size(m);
    uint8_t *start = buffer_reserve(out, MESSAGE_HEAD_BYTES_MAX + body_bytes);
    if (start == NULL)
        return -ENOMEM;
    uint8_t *at = message_head_put(start, m->seq, body_bytes);
    at = tail_put(at, m);
    at = number_put(at, 6, m->redelivered);
    at = number_put(at, 7, m->mid);
    out->size += (size_t)(at - start);
    return 0;
}

int broker_frame_messages_of(struct buffer *out, uint64_t first_seq, const struct bytes *tails,
                             size_t count, bool redelivered)
{
    size_t bytes_max = 0;
    for (size_t i = 0; i < count; i++)
        bytes_max += MESSAGE_HEAD_BYTES_MAX + tails[i].size + REDELIVERED_BYTES;
    uint8_t *start = buffer_reserve(out, bytes_max);
    if (start == NULL)
        return -ENOMEM;
    uint8_t *at = start;
    for (size_t i = 0; i < count; i++)
        at = message_of_put(at, first_seq != 0 ? first_seq + i : 0, tails[i], redelivered);
    out->size += (size_t)(at - start);
    return 0;
}

static int body_append(struct buffer *out, uint64_t id, unsigned body, const struct field *fields,
                       unsigned count)
{
    size_t body_bytes = fields_size(fields, count);
    size_t envelope_bytes = envelope_size(id, body_bytes);
    uint8_t *start = buffer_reserve(out, varint_size(envelope_bytes) + envelope_bytes);
    if (start == NULL)
        return -ENOMEM;
    uint8_t *at = envelope_put(start, envelope_bytes, id, body, body_bytes);
    at = fields_put(at, fields, count);
    out->size += (size_t)(at - start);
    return 0;
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

int broker_frame_welcome(struct buffer *out, uint64_t id, const struct welcome_fields *w)
{
    const struct field fields[] = {
        {.value = w->epoch},           {.run = w->secret},         {.value = w->replay},
        {.value = w->next_seq},        {.value = w->heartbeat_ms}, {.value = w->resume_ms},
        {.value = w->frame_bytes_max}, {.value = w->time_ms},      {.run = w->node},
        {.value = w->token_ms},        {.value = w->stored},       {.value = w->stored_messages},
    };
    static_assert(COUNT(fields) == 12, "as many as Welcome has");
    return body_append(out, id, WELCOME_NUMBER, fields, COUNT(fields));
}

int broker_frame_done(struct buffer *out, uint64_t id, uint64_t epoch, bool dropped)
{
    const struct field fields[] = {{.value = epoch}, {.value = dropped}};
    return body_append(out, id, DONE_NUMBER, fields, COUNT(fields));
}

int broker_frame_stored(struct buffer *out, uint64_t id, uint64_t epoch, uint64_t mid)
{
    const struct field fields[] = {{.value = epoch}, {0}, {0}, {.value = mid}};
    return body_append(out, id, DONE_NUMBER, fields, COUNT(fields));
}

int broker_frame_reply(struct buffer *out, uint64_t id, uint32_t status, struct bytes payload)
{
    const struct field fields[] = {{.value = status}, {.run = payload}};
    return body_append(out, id, REPLY_NUMBER, fields, COUNT(fields));
}

size_t broker_frame_reply_size(uint64_t id, uint32_t status, struct bytes payload)
{
    size_t bytes = envelope_size(id, number_size(status) + run_size(payload));
    return varint_size(bytes) + bytes;
}

int broker_frame_error(struct buffer *out, uint64_t id, uint32_t code, const char *detail,
                       uint32_t retry_after_ms)
{
    const struct field fields[] = {
        {.value = code}, {.run = bytes_of_text(detail)}, {.value = retry_after_ms}};
    return body_append(out, id, ERROR_NUMBER, fields, COUNT(fields));
}

int broker_frame_pong(struct buffer *out, uint64_t id, uint64_t stamp, uint64_t time_ms)
{
    const struct field fields[] = {{.value = stamp}, {.value = time_ms}};
    return body_append(out, id, PONG_NUMBER, fields, COUNT(fields));
}

int broker_frame_close(struct buffer *out, uint32_t reason, const char *detail,
                       uint32_t retry_after_ms, bool do_not_return)
{
    const struct field fields[] = {{.value = reason},
                                   {.run = bytes_of_text(detail)},
                                   {.value = retry_after_ms},
                                   {.value = do_not_return}};
    return body_append(out, 0, CLOSE_NUMBER, fields, COUNT(fields));
}

int broker_frame_published(struct buffer *out, uint64_t id, uint64_t offset)
{
    const struct field fields[] = {{0}, {0}, {.value = offset}};
    return body_append(out, id, DONE_NUMBER, fields, COUNT(fields));
}

/* --- rooms and friends ------------------------------------------------------------------------ */

/* A message as the field `number` of what is repeated. */
static int item_append(struct buffer *out, unsigned number, const struct field *fields,
                       unsigned count)
{
    size_t bytes = fields_size(fields, count);
    uint8_t *start = buffer_reserve(out, 1 + varint_size(bytes) + bytes);
    if (start == NULL)
        return -ENOMEM;
    uint8_t *at = tag_put(start, number, WIRE_RUN);
    at = fields_put(at + varint_write(at, bytes), fields, count);
    out->size += (size_t)(at - start);
    return 0;
}

int broker_frame_room_member(struct buffer *roster, struct bytes user, bool away)
{
    const struct field fields[] = {{.run = user}, {.value = away}};
    return item_append(roster, STATE_ROSTER, fields, COUNT(fields));
}

int broker_frame_room_message(struct buffer *messages, struct bytes from, struct bytes service,
                              struct bytes payload, uint64_t time_ms)
{
    const struct field fields[] = {
        {.run = from}, {.run = service}, {.run = payload}, {.value = time_ms}};
    return item_append(messages, MESSAGES_MESSAGE, fields, COUNT(fields));
}

int broker_frame_room_change(struct buffer *changes, struct bytes user, uint32_t kind)
{
    const struct field fields[] = {{.run = user}, {.value = kind}};
    return item_append(changes, EVENT_CHANGE, fields, COUNT(fields));
}

int broker_frame_room_state(struct buffer *out, uint64_t id, const struct room_state_fields *s)
{
    const struct field fields[] = {
        {.run = s->name},      {.value = s->room},    {.value = s->incarnation},
        {.value = s->offset},  {.value = s->state},   {.value = s->replay},
        {.value = s->members}, {.value = s->tick_ms}, {.run = s->roster, .whole = true},
        {.run = s->detail},
    };
    static_assert(COUNT(fields) == 10, "as many as RoomState has");
    return body_append(out, id, ROOM_STATE_NUMBER, fields, COUNT(fields));
}

static size_t room_messages_body_size(uint32_t room, uint64_t offset, size_t messages_bytes)
{
    return number_size(room) + number_size(offset) + messages_bytes;
}

int broker_frame_room_messages(struct buffer *out, uint32_t room, uint64_t offset,
                               struct bytes messages)
{
    const struct field fields[] = {
        {.value = room}, {.value = offset}, {.run = messages, .whole = true}};
    return body_append(out, 0, ROOM_MESSAGES_NUMBER, fields, COUNT(fields));
}

size_t broker_frame_room_messages_size(uint32_t room, uint64_t offset, size_t messages_bytes)
{
    size_t bytes = envelope_size(0, room_messages_body_size(room, offset, messages_bytes));
    return varint_size(bytes) + bytes;
}

int broker_frame_room_event(struct buffer *out, uint32_t room, uint32_t members,
                            struct bytes changes)
{
    const struct field fields[] = {
        {.value = room}, {.value = members}, {.run = changes, .whole = true}};
    return body_append(out, 0, ROOM_EVENT_NUMBER, fields, COUNT(fields));
}

int broker_frame_friend(struct buffer *friends, struct bytes user, uint32_t state,
                        uint64_t since_ms, struct bytes status)
{
    const struct field fields[] = {
        {.run = user}, {.value = state}, {.value = since_ms}, {.run = status}};
    return item_append(friends, FRIENDS_FRIEND, fields, COUNT(fields));
}

int broker_frame_friends(struct buffer *out, bool snapshot, struct bytes friends)
{
    const struct field fields[] = {{.value = snapshot}, {.run = friends, .whole = true}};
    return body_append(out, 0, FRIENDS_NUMBER, fields, COUNT(fields));
}
