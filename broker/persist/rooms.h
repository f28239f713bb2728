/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_ROOMS_H
#define USHER_PERSIST_ROOMS_H

/* The rooms that there are, a page at a time, by what they show of themselves: numbers of a moment
 * each, and no promise. Any thread that may take some milliseconds: all actors are looked at. */

#include "proto/link_answer.h"
#include "rules/room_classes.h"
#include "runtime/registry.h"

struct room_page {
    const char *prefix, *after; /* "" */
    size_t limit;               /* 1 at least */
    bool more;                  /* out: some are left */
};

/* Those whose names begin with `prefix` and come behind `after`, in the order of their names, as
 * long as they fit `out`. 0 or -ENOMEM. */
int rooms_list(struct registry *registry, const struct room_classes *classes,
               struct room_page *page, struct link_page *out);

#endif
