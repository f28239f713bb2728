/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_STORAGE_RECORD_H
#define USHER_STORAGE_RECORD_H

/* Records <-> bytes, as they lie on disk:
 *
 *   1 byte   version of the layout (RECORD_VERSION)
 *   4 bytes  CRC-32C, little-endian, over the key, the version byte and the body
 *   body     SessionRecord of record.proto or PresenceEvent of backend.proto
 *
 * The key is in the checksum but not in the bytes, so a record that lies under another's key is
 * damaged too. Pure functions: any thread, no allocation, never block. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"
#include "storage/store.h"

enum {
    RECORD_VERSION = 1,
    RECORD_HEADER_BYTES = 5,
    RECORD_BYTES_MAX = 320,
    RECORD_EVENT_KEY_BYTES = 8,
    RECORD_POSITION_BYTES = RECORD_HEADER_BYTES + 16,
};

/* Gives how many bytes of `out` are used, or -EINVAL for a record that breaks the limits of
 * store.h. */
int record_pack_session(const char *user, const struct session_record *record,
                        uint8_t out[RECORD_BYTES_MAX]);
int record_pack_event(const struct presence_event *event, uint8_t out[RECORD_BYTES_MAX]);

/* 0, or -EUCLEAN when the bytes are not exactly what packing gives; *record and *event are
 * undefined then. `seq` is that of the key. */
int record_unpack_session(const char *user, struct bytes bytes, struct session_record *record);
int record_unpack_event(uint64_t seq, struct bytes bytes, struct presence_event *event);

/* The two counters of the store under one checksum. */
void record_pack_position(uint64_t epoch_last, uint64_t presence_last,
                          uint8_t out[RECORD_POSITION_BYTES]);
int record_unpack_position(struct bytes bytes, uint64_t *epoch_last, uint64_t *presence_last);

/* A presence seq as key: big-endian, so that byte order is number order. */
void record_event_key(uint64_t seq, uint8_t key[RECORD_EVENT_KEY_BYTES]);
uint64_t record_event_seq(const uint8_t key[RECORD_EVENT_KEY_BYTES]);

/* Whether the text ends within `bytes_max` bytes and its NUL; reads no further. */
bool record_text_fits(const char *text, size_t bytes_max);

/* CRC-32C of `data` after bytes whose checksum is `crc` (0 at the start). */
uint32_t record_crc32c(uint32_t crc, struct bytes data);

#endif
