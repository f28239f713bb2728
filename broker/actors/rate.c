/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/rate.h"

/* A token bucket in one number: the time at which the bucket would be full again. Each request
 * moves it by one interval; a request that would move it more than a second ahead is refused and moves
 * nothing, so whoever pauses for as long as he is told gets through.
 *
 * It belongs to the session, not to the connection: a client that reconnects and resumes, or takes
 * itself over, has the same allowance. */

enum { SECOND_US = 1000000 };

uint32_t rate_take(struct rate *rate, uint32_t per_second, uint64_t now_ms)
{
    if (per_second == 0)
        return 0;
    uint64_t now_us = now_ms * 1000;
    uint64_t interval_us = SECOND_US / per_second;
    if (rate->due_us <= now_us) {
        rate->due_us = now_us;
        rate->refused = 0;
    }
    uint64_t after_us = rate->due_us + interval_us;
    uint64_t most_us = now_us + interval_us * per_second;
    if (after_us > most_us) {
        rate->refused++;
        return (uint32_t)((after_us - most_us + 999) / 1000);
    }
    rate->due_us = after_us;
    return 0;
}

bool rate_is_hopeless(const struct rate *rate, uint32_t per_second)
{
    return rate->refused >= per_second;
}
