/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "actors/messages.h"
#include "base/check.h"

/* A call on its way to a service: user, service, method and payload stand behind each other. */

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
    bytes_put(bytes_put(bytes_put(bytes_put(message->bytes, user), service), method), payload);
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
