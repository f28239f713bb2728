/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/watch.h"

#include <string.h>

#include "base/check.h"
#include "base/memory.h"

/* Making the messages about friends. None of them can be refused: each is small, and its number is
 * bounded by whoever asked for it. */

struct watch_record *watch_record_create(struct bytes name, uint8_t state, uint64_t since_ms,
                                         struct bytes status)
{
    struct watch_record *record;
    size_t size = sizeof(*record) + name.size + status.size;
    CHECK(name.size <= UINT8_MAX && status.size <= WATCH_STATUS_BYTES_MAX);
    MEMORY_MUST((record = shared_create(size)) != NULL, "a friend");
    record->since_ms = since_ms;
    record->state = state;
    record->name_size = (uint8_t)name.size;
    record->status_size = (uint8_t)status.size;
    bytes_put(bytes_put(record->bytes, name), status);
    return record;
}

bool watch_record_equal(const struct watch_record *a, const struct watch_record *b)
{
    return a == b ||
           (a->state == b->state && bytes_equal(watch_record_status(a), watch_record_status(b)));
}

struct watch_message *watch_message_create(uint16_t kind, actor_handle watcher, uint32_t capacity,
                                           size_t names_bytes)
{
    struct watch_message *message;
    size_t size = sizeof(*message) + capacity * sizeof(message->pairs[0]) + names_bytes;
    CHECK(capacity <= WATCH_PAIRS_MAX && names_bytes <= capacity * (size_t)UINT8_MAX);
    MEMORY_MUST((message = message_create(kind, size)) != NULL, "friends");
    message->watcher = watcher;
    message->asks = false;
    message->count = message->names_bytes = 0;
    message->capacity = capacity;
    return message;
}

static uint8_t *names_of(const struct watch_message *message)
{
    return (uint8_t *)(uintptr_t)(message->pairs + message->capacity);
}

void watch_message_add(struct watch_message *message, uint64_t hash, uint32_t position,
                       uint32_t serial, struct bytes name)
{
    uint32_t at = message->names_bytes;
    CHECK(message->count < message->capacity &&
          names_of(message) + at + name.size <= (uint8_t *)message + message->header.size);
    message->pairs[message->count++] =
        (struct watch_pair){hash, position, serial, at, (uint32_t)name.size};
    bytes_put(names_of(message) + at, name);
    message->names_bytes += (uint32_t)name.size;
}

struct bytes watch_message_name(const struct watch_message *message, uint32_t index)
{
    CHECK(index < message->count);
    const struct watch_pair *pair = &message->pairs[index];
    return (struct bytes){names_of(message) + pair->name_at, pair->name_size};
}

struct watch_status_message *watch_status_create(struct bytes name, struct bytes status)
{
    struct watch_status_message *message;
    CHECK(name.size <= UINT8_MAX && status.size <= WATCH_STATUS_BYTES_MAX);
    message = message_create(MESSAGE_WATCH_STATUS, sizeof(*message) + name.size + status.size);
    message->epoch = 0;
    message->invisible = message->gone = false;
    message->name_size = (uint8_t)name.size;
    message->status_size = (uint8_t)status.size;
    bytes_put(bytes_put(message->bytes, name), status);
    return message;
}

struct watch_event_message *watch_event_create(const struct presence_event *event)
{
    struct watch_event_message *message;
    struct bytes name = bytes_of_text(event->user);
    message = message_create(MESSAGE_WATCH_EVENT, sizeof(*message) + name.size);
    message->seq = event->seq;
    message->epoch = event->epoch;
    message->time_ms = event->time_ms;
    message->kind = event->kind;
    message->name_size = (uint8_t)name.size;
    bytes_put(message->name, name);
    return message;
}

struct watch_look_message *watch_look_create(uint32_t count)
{
    struct watch_look_message *message;
    size_t size = sizeof(*message) + count * sizeof(message->rows[0]);
    CHECK(count <= WATCH_LOOK_MAX);
    MEMORY_MUST((message = message_create(MESSAGE_WATCH_LOOKED, size)) != NULL, "a query");
    memset((uint8_t *)message + sizeof(struct message), 0, size - sizeof(struct message));
    message->count = count;
    return message;
}

void watch_listed(struct turn *turn, actor_handle to, uint64_t request, uint16_t code,
                  uint32_t accepted, const struct watch_failure *failures, uint32_t count)
{
    struct watch_listed_message *message;
    size_t size = sizeof(*message) + count * sizeof(*failures);
    MEMORY_MUST((message = message_create(MESSAGE_WATCH_LISTED, size)) != NULL, "a result");
    message->request = request;
    message->code = code;
    message->accepted = accepted;
    message->count = count;
    if (count > 0)
        memcpy(message->failures, failures, count * sizeof(*failures));
    turn_post(turn, to, &message->header);
}
