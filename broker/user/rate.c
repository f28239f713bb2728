/* SPDX-License-Identifier: Apache-2.0 */
#include "user/rate.h"

/* It belongs to the user, not to the connection or the session: a client that reconnects and
 * resumes, or takes itself over, has the same allowance, and for who logs out and in again it is
 * remembered (spent.c). */

enum { SECOND_US = 1000000 };

uint32_t rate_take(struct rate *rate, uint32_t per_second, uint64_t now_ms)
{
    if (per_second == 0)
        return 0;
    struct allowance_terms terms = allowance_over(per_second, SECOND_US);
    if (allowance_is_whole(&rate->allowance, now_ms))
        rate->refused = 0;
    uint32_t wait_ms = allowance_wait_ms(&rate->allowance, terms, now_ms);
    if (wait_ms == 0)
        allowance_spend(&rate->allowance, terms, now_ms);
    else
        rate->refused++;
    return wait_ms;
}

void rate_spend(struct rate *rate, uint32_t per_second, uint32_t times, uint64_t now_ms)
{
    if (per_second == 0)
        return;
    struct allowance_terms terms = allowance_over(per_second, SECOND_US);
    for (uint32_t i = 0; i < times && i < per_second; i++)
        allowance_spend(&rate->allowance, terms, now_ms);
}

bool rate_is_hopeless(const struct rate *rate, uint32_t per_second)
{
    return rate->refused >= per_second;
}
