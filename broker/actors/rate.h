/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_RATE_H
#define USHER_ACTORS_RATE_H

/* How fast one user's requests come. Zeroed memory is a user who has been quiet. Pure. */

#include <stdbool.h>
#include <stdint.h>

/* Packed because each session has one: four bytes less. */
struct __attribute__((packed, aligned(4))) rate {
    uint64_t due_us;  /* when all that was spent is given back */
    uint32_t refused; /* since it was last given back entirely */
};

/* One request at now_ms: 0 when it may pass, otherwise in how many ms one may. A second's worth may
 * come at once. per_second 0: all pass. */
uint32_t rate_take(struct rate *rate, uint32_t per_second, uint64_t now_ms);

/* It goes on: as many were refused as may pass in a second, and never was all given back. */
bool rate_is_hopeless(const struct rate *rate, uint32_t per_second);

#endif
