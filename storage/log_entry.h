/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_STORAGE_LOG_ENTRY_H
#define USHER_STORAGE_LOG_ENTRY_H

/* Entries <-> bytes, as they lie in the values of the log of stored messages (store_append_log):
 * one behind the other, with nothing between them.
 *
 *   1 byte   kind
 *   1 byte   flags: 1 from a service, 2 has a tag, 4 has a traceparent
 *   varint   bytes that follow
 *   varint   mid
 *   varint   time                      not in DONE
 *   varint   expiry, from the time on  KEPT
 *   varint   tag                       if the flag says so
 *   26 bytes traceparent               KEPT, if the flag says so: packed (proto/traceparent.h)
 *   run      sender                    KEPT, TAG: a byte that is its size, and the name
 *   varint   receivers, then a run for each
 *   rest     payload                   KEPT
 *
 * Numbers have their shortest form, so there is one way to write an entry. The checksum over all of
 * a value is the store's. A flag that is not known here is damage: whoever wrote it knows more.
 *
 * Pure functions: any thread, no allocation, never block. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"

/* They lie on disk. */
enum log_entry_kind {
    LOG_ENTRY_KEPT = 1, /* a message for each of the receivers */
    LOG_ENTRY_DONE = 2, /* everything of the receiver up to mid that stands before it is done */
    LOG_ENTRY_TAG = 3,  /* of a message that is gone, as long as it is not to be stored again */
    LOG_ENTRY_LOST = 4, /* something of the receiver up to mid went before he had it */
};

/* Runs are borrowed. What a kind does not have is 0. */
struct log_entry {
    enum log_entry_kind kind;
    bool from_service;
    uint64_t mid;
    uint64_t time_ms;         /* Unix, as the next */
    uint64_t expires_ms;      /* any, but times that lie before time_ms cost more bytes */
    uint64_t tag;             /* 0: none */
    struct bytes traceparent; /* packed, and valid; empty: none */
    struct bytes sender;      /* STORE_NAME_BYTES_MAX at most */
    struct bytes payload;
    uint32_t receiver_count; /* at least 1 */
    struct bytes receivers;  /* so many runs: a byte that is its size, and a name that is not empty
                              * and no longer than STORE_NAME_BYTES_MAX */
};

/* How many bytes it takes, at most LOG_ENTRY_HEAD_BYTES_MAX and those of receivers and payload; and
 * writing just so many. Gives where they end. The entry keeps to its limits. */
size_t log_entry_size(const struct log_entry *entry);
uint8_t *log_entry_put(uint8_t *to, const struct log_entry *entry);

enum { LOG_ENTRY_HEAD_BYTES_MAX = 160 };

/* The first one of *rest, which then is what stands behind it. The runs lie there. False: nothing
 * is left (rest->size is 0), or it is no entry, and *rest is as it was. Trusts nothing. */
bool log_entry_read(struct bytes *rest, struct log_entry *entry);

/* One name after the other of an entry that was read. False: there is none left. */
bool log_receiver_next(struct bytes *receivers, struct bytes *name);

#endif
