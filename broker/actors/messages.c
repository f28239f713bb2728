/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/messages.h"

#include <string.h>

#include "base/check.h"

/* Making the messages that carry names and payloads: one allocation, everything copied once. */

static uint8_t *put(uint8_t *to, struct bytes from)
{
    if (from.size > 0)
        memcpy(to, from.data, from.size);
    return to + from.size;
}

void message_copy_text(char *to, size_t room, struct bytes from)
{
    CHECK(room > 0);
    size_t size = from.size < room ? from.size : room - 1;
    while (size < from.size && size > 0 && (from.data[size] & 0xc0) == 0x80)
        size--;
    put((uint8_t *)to, (struct bytes){from.data, size});
    to[size] = '\0';
}

struct deliver_message *deliver_create(struct bytes name, struct bytes payload)
{
    CHECK(name.size <= UINT8_MAX && payload.size <= UINT32_MAX / 2);
    struct deliver_message *message =
        message_create(MESSAGE_DELIVER, sizeof(*message) + name.size + payload.size);
    if (message == NULL)
        return NULL;
    memset((uint8_t *)message + sizeof(struct message), 0,
           sizeof(*message) - sizeof(struct message));
    message->name_size = (uint8_t)name.size;
    message->payload_size = (uint32_t)payload.size;
    put(put(message->bytes, name), payload);
    return message;
}

struct call_result_message *call_result_create(uint16_t code, uint32_t status, struct bytes payload)
{
    CHECK(payload.size <= UINT32_MAX / 2);
    struct call_result_message *message =
        message_create(MESSAGE_CALL_RESULT, sizeof(*message) + payload.size);
    if (message == NULL)
        return NULL;
    message->request = message->call = message->epoch = 0;
    message->token_ends_ms = 0;
    message->code = code;
    message->stamp_us = 0;
    message->status = status;
    message->payload_size = (uint32_t)payload.size;
    put(message->payload, payload);
    return message;
}

struct user_call_message *user_call_create(struct bytes user, struct bytes service,
                                           struct bytes method, struct bytes payload)
{
    CHECK(user.size <= UINT8_MAX && service.size <= UINT8_MAX && method.size <= UINT8_MAX &&
          payload.size <= UINT32_MAX / 2);
    size_t size = user.size + service.size + method.size + payload.size;
    struct user_call_message *message = message_create(MESSAGE_USER_CALL, sizeof(*message) + size);
    if (message == NULL)
        return NULL;
    memset((uint8_t *)message + sizeof(struct message), 0,
           sizeof(*message) - sizeof(struct message));
    message->user_size = (uint8_t)user.size;
    message->service_size = (uint8_t)service.size;
    message->method_size = (uint8_t)method.size;
    message->payload_size = (uint32_t)payload.size;
    put(put(put(put(message->bytes, user), service), method), payload);
    return message;
}

struct bytes user_call_user(const struct user_call_message *message)
{
    return (struct bytes){message->bytes, message->user_size};
}

struct bytes user_call_service(const struct user_call_message *message)
{
    return (struct bytes){message->bytes + message->user_size, message->service_size};
}

struct bytes user_call_method(const struct user_call_message *message)
{
    return (struct bytes){message->bytes + message->user_size + message->service_size,
                          message->method_size};
}

struct bytes user_call_payload(const struct user_call_message *message)
{
    return (struct bytes){message->bytes + message->user_size + message->service_size +
                              message->method_size,
                          message->payload_size};
}
