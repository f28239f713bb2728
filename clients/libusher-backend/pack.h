/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_BACKEND_PACK_H
#define USHER_LIBUSHER_BACKEND_PACK_H

/* What protobuf-c packs: it wants char * and uint8_t * where it only reads, and these give it that.
 * What they give is borrowed, so nothing made of it outlives the call. */

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

/* NULL is the empty text. */
static inline char *pack_text(const char *borrowed)
{
    return (char *)(uintptr_t)(borrowed != NULL ? borrowed : "");
}

static inline ProtobufCBinaryData pack_bytes(const void *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data};
}

#endif
