/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_RATE_H
#define USHER_USER_RATE_H

/* How fast one user's requests come. Zeroed memory is a user who has been quiet. Pure. */

#include <stdbool.h>
#include <stdint.h>

#include "base/allowance.h"

struct rate {
    struct allowance allowance;
    uint32_t refused; /* since the allowance was last whole */
};

/* One request at now_ms: 0 when it may pass, otherwise in how many ms one may. A second's worth may
 * come at once. per_second 0: all pass. */
uint32_t rate_take(struct rate *rate, uint32_t per_second, uint64_t now_ms);

/* What has passed was as much as some more of them: they are spent, or what is left is. */
void rate_spend(struct rate *rate, uint32_t per_second, uint32_t times, uint64_t now_ms);

/* It goes on: as many were refused as may pass in a second, and never was all given back. */
bool rate_is_hopeless(const struct rate *rate, uint32_t per_second);

#endif
