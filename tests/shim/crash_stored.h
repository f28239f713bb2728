/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_CRASH_STORED_H
#define USHER_TESTS_CRASH_STORED_H

/* What must be stored for users after a loss of power, as the broker itself reads it at a start:
 * each message whose sender had heard Done, until its receiver has said that it is processed; once,
 * in the order of the mids, and nothing else. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/store.h"

struct crash_stored {
    char user[STORE_NAME_BYTES_MAX + 1];
    uint64_t mid, tag;
    uint64_t text;  /* its payload begins with this number */
    uint64_t told;  /* how many records the log had when Done was heard */
    uint64_t ended; /* and when it was said to be processed, or dropped; UINT64_MAX: never */
};

struct crash_stored_list {
    struct crash_stored *items;
    size_t count;
};

/* A line of what was told:
 *   stored POSITION USER MID TAG TEXT      Done, with that mid
 *   done POSITION USER MID                 everything of the user up to mid is going to be
 * processed False: it is none of them, or cannot be. */
bool crash_stored_line(struct crash_stored_list *list, const char *line);

/* Opens what is stored in an open store and holds it against what was told up to `position`; takes
 * one of the messages again under its tag, stores another one, and opens it once more. */
bool crash_stored_check(const struct crash_stored_list *list, struct store *store,
                        uint64_t position, char *text);

#endif
