/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A buffer doubles when it must grow, so appending is cheap in the long run, and never shrinks:
 * whoever wants the memory back ends the buffer. Sizes come from checked limits of the callers;
 * the overflow test here is for the caller that forgot one.
 *
 * memcpy and memcmp with NULL are undefined even for size 0, and an empty run may well be NULL:
 * therefore the tests for size 0. */

enum { CAPACITY_MIN = 64 };

struct bytes bytes_of_text(const char *text)
{
    return (struct bytes){(const uint8_t *)text, text != NULL ? strlen(text) : 0};
}

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

uint8_t *bytes_put(uint8_t *to, struct bytes from)
{
    if (from.size > 0)
        memcpy(to, from.data, from.size);
    return to + from.size;
}

uint8_t *buffer_reserve(struct buffer *buffer, size_t extra)
{
    if (extra > SIZE_MAX / 2 - buffer->size)
        return NULL;
    size_t needed = buffer->size + extra;
    if (buffer->data == NULL || needed > buffer->capacity) {
        size_t capacity = buffer->capacity < CAPACITY_MIN ? CAPACITY_MIN : buffer->capacity;
        while (capacity < needed)
            capacity *= 2;
        uint8_t *data = realloc(buffer->data, capacity);
        if (data == NULL)
            return NULL;
        buffer->data = data;
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->size;
}

int buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    if (size == 0)
        return 0;
    uint8_t *to = buffer_reserve(buffer, size);
    if (to == NULL)
        return -ENOMEM;
    memcpy(to, data, size);
    buffer->size += size;
    return 0;
}

void buffer_consume(struct buffer *buffer, size_t size)
{
    size_t left = size < buffer->size ? buffer->size - size : 0;
    if (left > 0 && size > 0)
        memmove(buffer->data, buffer->data + size, left);
    buffer->size = left;
}

void buffer_fini(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}
