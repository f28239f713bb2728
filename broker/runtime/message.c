/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/message.h"

#include <stdlib.h>

#include "base/check.h"

void *message_create(uint16_t kind, size_t size)
{
    CHECK(size >= sizeof(struct message) && size <= UINT32_MAX);
    struct message *message = malloc(size);
    if (message == NULL)
        return NULL;
    *message = (struct message){.kind = kind, .size = (uint32_t)size};
    return message;
}

void message_destroy(struct message *message)
{
    free(message);
}
