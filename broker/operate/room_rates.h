/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_ROOM_RATES_H
#define USHER_OPERATE_ROOM_RATES_H

/* How much rooms do in a second, by what they show at two looks. Rooms themselves count and know no
 * rates, so who never asks pays nothing. For one thread; a look takes as long as one at all actors.
 */

#include "actors/room_messages.h"
#include "runtime/registry.h"

struct rate_row {
    uint64_t incarnation; /* the rows are in its order; it is of one room alone */
    uint64_t offset, deliveries;
};

struct rate_sample {
    struct rate_row *rows;
    size_t count, capacity;
    uint64_t at_ms; /* monotonic; 0: there was no look */
};

/* Zeroed: nobody has looked yet. */
struct room_rates {
    struct rate_sample older, newer;
    const struct rate_sample *base; /* what rates are compared with now; NULL: nothing */
    uint64_t now_ms, wall_ms;
};

struct room_rate {
    double messages, deliveries; /* in a second */
};

/* Begins an answer: rooms are looked at, if that is due. Without memory there is no sample, and
 * rates are those of a room's whole life. */
void room_rates_look(struct room_rates *rates, struct registry *registry, uint64_t now_ms,
                     uint64_t wall_ms);

/* Since the base, some seconds ago; of a room that was not there then, since it was opened. */
struct room_rate room_rates_of(const struct room_rates *rates,
                               const uint64_t numbers[ROOM_NUMBERS]);

void room_rates_clear(struct room_rates *rates);

#endif
