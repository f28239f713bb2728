/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_STORAGE_RECORD_H
#define USHER_STORAGE_RECORD_H

/* Records <-> bytes, as they lie on disk:
 *
 *   1 byte   version of the layout (RECORD_VERSION)
 *   4 bytes  CRC-32C, little-endian, over the key, the version byte and the body
 *   body     a message of record.proto, or PresenceEvent of backend.proto
 *
 * and under which keys:
 *
 *   sessions   name                                SessionRecord
 *   events     seq, 8 bytes                        PresenceEvent
 *   inboxes    name, NUL                           InboxRecord
 *              name, NUL, seq, 8 bytes             MessageRecord
 *   history    seq, 8 bytes                        HistoryRecord
 *   refusals   the same
 *   log        number, 8 bytes                     entries of storage/log_entry.h
 *   meta       "position"                          both counters, 8 bytes each
 *              "log"                               the last number and the bytes, 8 bytes each
 *              "cursor/", reader                   how far that one has come, 8 bytes
 *              "schema"                            the version as text, without a header
 *
 * Numbers in keys are big-endian, so byte order is number order, and an inbox is its head followed
 * by its messages. The key is in the checksum but not in the bytes, so a record that lies under
 * another's key is damaged too. Schema "usher-store-2" is the same without the log, and
 * "usher-store-1" without inboxes too; a store of any schema may be without history and refusals,
 * which the next start adds.
 *
 * Pure functions: any thread, no allocation unless said, never block. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/bytes.h"
#include "storage/store.h"

#define RECORD_LOG_KEY "log"

enum {
    RECORD_VERSION = 1,
    RECORD_HEADER_BYTES = 5,
    RECORD_BYTES_MAX = 320 + STORE_ROOMS_BYTES_MAX + 1,
    RECORD_EVENT_KEY_BYTES = 8,
    RECORD_INBOX_KEY_BYTES_MAX = STORE_NAME_BYTES_MAX + 1 + RECORD_EVENT_KEY_BYTES,
    RECORD_MESSAGE_BYTES_MAX = STORE_PAYLOAD_BYTES_MAX + RECORD_BYTES_MAX,
    RECORD_POSITION_BYTES = RECORD_HEADER_BYTES + 16,
    RECORD_LOG_BYTES = RECORD_HEADER_BYTES + 16,
    RECORD_CURSOR_BYTES = RECORD_HEADER_BYTES + 8,
    RECORD_CURSOR_KEY_BYTES_MAX = 7 + STORE_READER_BYTES_MAX,
};

/* Gives how many bytes of `out` are used, or -EINVAL for a record that breaks the limits of
 * store.h. */
int record_pack_session(const char *user, const struct session_record *record,
                        uint8_t out[RECORD_BYTES_MAX]);
int record_pack_event(const struct presence_event *event, uint8_t out[RECORD_BYTES_MAX]);

/* 0, or -EUCLEAN when the bytes are not exactly what packing gives; *record and *event are
 * undefined then. record->rooms lies in `bytes`. `seq` is that of the key. */
int record_unpack_session(const char *user, struct bytes bytes, struct session_record *record);
int record_unpack_event(uint64_t seq, struct bytes bytes, struct presence_event *event);

/* As those of events. record_history_is_of looks at the first bytes alone: whether the record may
 * be that user's. */
int record_pack_history(const struct history_record *record, uint8_t out[RECORD_BYTES_MAX]);
int record_unpack_history(uint64_t seq, struct bytes bytes, struct history_record *record);
bool record_history_is_of(struct bytes bytes, const char *user);

int record_pack_inbox(const char *user, const struct saved_inbox *inbox,
                      uint8_t out[RECORD_BYTES_MAX]);
int record_unpack_inbox(const char *user, struct bytes bytes, struct saved_inbox *inbox);

/* Whether it may be stored, and what was stored is one. */
bool record_message_is_usable(const struct saved_message *message);

/* Messages are of any size: how many bytes packing takes (-EINVAL as above), and packing into
 * just so many. */
int record_message_size(const struct saved_message *message);
void record_pack_message(const char *user, const struct saved_message *message, uint8_t *out);

/* As above. name and payload lie in the arena, which is emptied first and grown when the record
 * needs it: -ENOMEM when that fails. Zeroed memory will do for an arena; the caller ends it. */
int record_unpack_message(const char *user, uint64_t seq, struct bytes bytes, struct arena *arena,
                          struct saved_message *message);

/* Gives the size of the key: of the head for seq 0, of a message for the others. */
size_t record_inbox_key(const char *user, uint64_t seq, uint8_t key[RECORD_INBOX_KEY_BYTES_MAX]);

/* 1 and the seq when the key is one of this user's messages, 0 when it is of another inbox (or of
 * this one's head), -EUCLEAN when it is no key. */
int record_inbox_seq(const char *user, struct bytes key, uint64_t *seq);

/* The two counters of the store under one checksum. */
void record_pack_position(uint64_t epoch_last, uint64_t presence_last,
                          uint8_t out[RECORD_POSITION_BYTES]);
int record_unpack_position(struct bytes bytes, uint64_t *epoch_last, uint64_t *presence_last);

/* The same of the log. */
void record_pack_log(uint64_t last, uint64_t bytes, uint8_t out[RECORD_LOG_BYTES]);
int record_unpack_log(struct bytes record, uint64_t *last, uint64_t *bytes);

/* The value with that number, behind RECORD_HEADER_BYTES of header. 0 or -EUCLEAN; it lies in the
 * record. */
void record_pack_log_value(uint64_t number, struct bytes value, uint8_t *out);
int record_unpack_log_value(uint64_t number, struct bytes record, struct bytes *value);

/* Of a reader: gives the size of the key. */
size_t record_cursor_key(const char *reader, char key[RECORD_CURSOR_KEY_BYTES_MAX + 1]);
void record_pack_cursor(const char *reader, uint64_t seq, uint8_t out[RECORD_CURSOR_BYTES]);
int record_unpack_cursor(const char *reader, struct bytes bytes, uint64_t *seq);

/* A presence seq as key: big-endian, so that byte order is number order. */
void record_event_key(uint64_t seq, uint8_t key[RECORD_EVENT_KEY_BYTES]);
uint64_t record_event_seq(const uint8_t key[RECORD_EVENT_KEY_BYTES]);

/* Whether the text ends within `bytes_max` bytes and its NUL; reads no further. */
bool record_text_fits(const char *text, size_t bytes_max);

/* CRC-32C of `data` after bytes whose checksum is `crc` (0 at the start). */
uint32_t record_crc32c(uint32_t crc, struct bytes data);

#endif
