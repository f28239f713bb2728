/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_ROOMS_H
#define USHER_PERSIST_ROOMS_H

/* The rooms that there are, a page at a time, by what they show of themselves: numbers of a moment
 * each, and no promise. Any thread that may take some milliseconds: all actors are looked at. */

#include "actors/room_messages.h"
#include "proto/link_answer.h"
#include "rules/room_classes.h"
#include "runtime/registry.h"

struct room_row {
    char name[USERNAME_BYTES_MAX + 1];
    uint64_t numbers[ROOM_NUMBERS];
    uint32_t number; /* as clients know it */
    uint64_t rank;   /* what page.rank says */
};

struct room_page {
    const char *prefix, *after; /* "" */
    size_t limit;               /* 1 at least */
    bool more;                  /* out: some are left */
    /* NULL: in the order of their names. Otherwise those of which it says most come first, and
     * names decide among equals; `after` says nothing then. */
    uint64_t (*rank)(void *context, const uint64_t numbers[ROOM_NUMBERS]);
    void *context;
};

/* Those whose names begin with `prefix` and come behind `after`, `limit` at most. 0 with *rows,
 * which are the caller's to free, or -ENOMEM. */
int rooms_pick(struct registry *registry, struct room_page *page, struct room_row **rows,
               size_t *count);

/* The class that the room says it is of, unless a reload has just come between; NULL: none. */
const struct room_class *rooms_class(const struct room_classes *classes,
                                     const struct room_row *row);

/* The same for a backend, as long as they fit `out`. 0 or -ENOMEM. */
int rooms_list(struct registry *registry, const struct room_classes *classes,
               struct room_page *page, struct link_page *out);

#endif
