/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_STORAGE_RECORD_PRIVATE_H
#define USHER_STORAGE_RECORD_PRIVATE_H

/* Private to record.c and record_history.c: a message behind its header, and back. */

#include <protobuf-c/protobuf-c.h>

#include "storage/record.h"

enum { ARENA_BYTES = 4096 }; /* of a record that is unpacked, on the stack */

/* Gives how many bytes of `out` are used, or -EINVAL. */
int record_message_pack(const ProtobufCMessage *message, struct bytes key, uint8_t *out);

/* The message lives in the arena; NULL when it is damaged. */
ProtobufCMessage *record_message_unpack(const ProtobufCMessageDescriptor *descriptor,
                                        struct bytes key, struct bytes bytes, size_t bytes_max,
                                        struct arena *arena);

/* Copies with the NUL. False when it does not fit. */
bool record_text_copy(char *out, const char *text, size_t bytes_max);

#endif
