/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/messages.h"

#include <string.h>

#include "base/check.h"

/* Making the messages that carry names and payloads: one allocation, everything copied once. */

void message_copy_text(char *to, size_t room, struct bytes from)
{
    CHECK(room > 0);
    size_t size = from.size < room ? from.size : room - 1;
    while (size < from.size && size > 0 && (from.data[size] & 0xc0) == 0x80)
        size--;
    bytes_put((uint8_t *)to, (struct bytes){from.data, size});
    to[size] = '\0';
}

/* What stands behind the first `size` bytes of a message. */
static struct bytes behind(const struct message *message, size_t size)
{
    CHECK(message->size >= size);
    return (struct bytes){(const uint8_t *)message + size, message->size - size};
}

struct bytes attach_rooms(const struct attach_message *attach)
{
    return behind(&attach->header, sizeof(*attach));
}

struct bytes restore_rooms(const struct restore_message *restore)
{
    return behind(&restore->header, sizeof(*restore));
}

struct attach_message *attach_with_rooms(struct attach_message *attach, struct bytes rooms)
{
    struct attach_message *with = message_create(MESSAGE_ATTACH, sizeof(*with) + rooms.size);
    if (with == NULL)
        return NULL;
    message_count_as(&with->header, MEMORY_OF_LOGINS);
    struct message header = with->header;
    *with = *attach;
    with->header = header;
    bytes_put((uint8_t *)(with + 1), rooms);
    message_destroy(&attach->header);
    return with;
}

struct deliver_message *deliver_create(struct bytes name, struct bytes payload)
{
    return deliver_create_traced(name, payload, (struct bytes){0});
}

struct deliver_message *deliver_create_traced(struct bytes name, struct bytes payload,
                                              struct bytes traceparent)
{
    CHECK(name.size <= UINT8_MAX && payload.size <= UINT32_MAX / 2 &&
          (traceparent.size == 0 || traceparent.size == TRACEPARENT_BYTES));
    struct deliver_message *message = message_create(
        MESSAGE_DELIVER, sizeof(*message) + name.size + payload.size + traceparent.size);
    if (message == NULL)
        return NULL;
    memset((uint8_t *)message + sizeof(struct message), 0,
           sizeof(*message) - sizeof(struct message));
    message->name_size = (uint8_t)name.size;
    message->payload_size = (uint32_t)payload.size;
    message->traced = traceparent.size > 0;
    bytes_put(bytes_put(bytes_put(message->bytes, name), payload), traceparent);
    return message;
}

static struct call_result_message *result_create(uint16_t code, uint32_t status,
                                                 struct bytes payload, size_t rooms_size)
{
    CHECK(payload.size <= UINT32_MAX / 2 && rooms_size <= UINT32_MAX / 2);
    struct call_result_message *message =
        message_create(MESSAGE_CALL_RESULT, sizeof(*message) + payload.size + rooms_size);
    if (message == NULL)
        return NULL;
    message->rooms_size = (uint32_t)rooms_size;
    message->request = message->call = message->epoch = 0;
    message->token_ends_ms = 0;
    message->code = code;
    message->stamp_us = 0;
    message->status = status;
    message->payload_size = (uint32_t)payload.size;
    bytes_put(message->payload, payload);
    return message;
}

struct call_result_message *call_result_create(uint16_t code, uint32_t status, struct bytes payload)
{
    return result_create(code, status, payload, 0);
}

struct call_result_message *call_result_with_rooms(uint32_t status, struct bytes payload,
                                                   char *const *rooms, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += strlen(rooms[i]) + 1;
    struct call_result_message *message = result_create(0, status, payload, size);
    uint8_t *at = message != NULL ? message->payload + payload.size : NULL;
    for (size_t i = 0; message != NULL && i < count; i++)
        at = bytes_put(at, (struct bytes){(const uint8_t *)rooms[i], strlen(rooms[i]) + 1});
    return message;
}

struct bytes call_result_rooms(const struct call_result_message *result)
{
    return (struct bytes){result->payload + result->payload_size, result->rooms_size};
}

struct conn_end_message *conn_end_create(uint64_t conn, enum loss loss)
{
    struct conn_end_message *end = message_create(MESSAGE_CONN_END, sizeof(*end));
    end->conn = conn;
    end->loss = loss;
    end->reset = false;
    end->detail = end->limit = NULL;
    end->bound = end->value = 0;
    return end;
}

void conn_end_blame(struct conn_end_message *end, const char *limit, uint64_t bound, uint64_t value)
{
    end->limit = limit;
    end->bound = bound;
    end->value = value;
}
