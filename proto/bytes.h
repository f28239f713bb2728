/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_BYTES_H
#define USHER_PROTO_BYTES_H

/* Runs of bytes: one borrowed, one owned. No locks, never blocks; any thread, one at a time. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A borrowed run. Valid as long as its owner says; data may be NULL when size is 0. */
struct bytes {
    const uint8_t *data;
    size_t size;
};

/* NULL is the empty text. */
struct bytes bytes_of_text(const char *text);
bool bytes_equal(struct bytes a, struct bytes b);

/* Writes them to where there is room; gives where they end. */
uint8_t *bytes_put(uint8_t *to, struct bytes from);

/* An owned run that grows. Zeroed memory is an empty buffer. */
struct buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

/* Room for `extra` more bytes behind size: gives where to write them, or NULL without memory.
 * The caller raises size itself by what it wrote. */
uint8_t *buffer_reserve(struct buffer *buffer, size_t extra);

/* 0 or -ENOMEM; a failed append leaves the buffer as it was. */
int buffer_append(struct buffer *buffer, const void *data, size_t size);

/* Drops the first `size` bytes. */
void buffer_consume(struct buffer *buffer, size_t size);

/* Frees the bytes; the buffer is empty and usable afterwards. */
void buffer_fini(struct buffer *buffer);

#endif
