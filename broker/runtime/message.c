/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/message.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/memory.h"

void *message_create(uint16_t kind, size_t size)
{
    CHECK(size >= sizeof(struct message) && size <= UINT32_MAX);
    struct message *message = malloc(size);
    if (message == NULL && size > MESSAGE_SMALL_BYTES) {
        memory_refused();
        return NULL;
    }
    if (message == NULL)
        MEMORY_MUST((message = malloc(size)) != NULL, "an event");
    memory_account((int64_t)size);
    *message = (struct message){.kind = kind, .size = (uint32_t)size};
    return message;
}

void message_destroy(struct message *message)
{
    if (message != NULL)
        memory_account(-(int64_t)message->size);
    free(message);
}
