/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_CRASH_CHECK_H
#define USHER_TESTS_CRASH_CHECK_H

/* What a store must hold after a loss of power: a beginning of the stream that was really written,
 * at least as long as what had been acknowledged, and the session map that belongs to it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/crash_stored.h"
#include "storage/store.h"

enum { CRASH_TEXT_BYTES = 512 };

/* Something that a client or a backend was told when the log had `position` records. */
struct crash_ack {
    uint64_t position;
    uint64_t seq; /* of the event in the stream that it stands for */
};

/* A session's secret, as its Welcome said it. */
struct crash_secret {
    uint64_t epoch;
    uint8_t bytes[STORE_SECRET_BYTES];
};

struct crash_truth {
    struct presence_event *events; /* the whole stream, from seq 1 */
    size_t events_count;
    struct crash_ack *acks;
    size_t acks_count;
    struct crash_secret *secrets;
    size_t secrets_count;
    struct crash_ack *commits; /* of the life of crash_log.h: k in the place of seq */
    size_t commits_count;
    uint64_t *digests; /* what the log is after each of them, from 0 on */
    uint64_t digests_count;
    struct crash_stored_list stored; /* for users */
};

/* Reads the stream of a store that has everything. False with a line in `text`. */
bool crash_truth_load(struct crash_truth *truth, struct store *store, char *text);

/* Reads the list of what was told, one per line:
 *   welcome POSITION USER EPOCH SECRET     a Welcome to a Login; the secret in hexadecimal
 *   logout POSITION USER EPOCH             Done to a Logout
 *   event POSITION SEQ USER EPOCH KIND     an event that a backend saw; KIND is the number
 *   commit POSITION K                      the commit of usher-log-writer
 *   stored, done                           crash_stored.h
 * Each must be in the stream: what was told and is not there was invented or lost. */
bool crash_truth_read(struct crash_truth *truth, const char *path, char *text);

void crash_truth_fini(struct crash_truth *truth);

/* Opens the store in `folder`, checks it against what was told up to `position`, and logs one more
 * user in. Gives how many events it has. */
bool crash_check(const struct crash_truth *truth, const char *folder, uint64_t position,
                 uint64_t *events, char *text);

#endif
