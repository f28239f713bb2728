/* SPDX-License-Identifier: Apache-2.0 */
#include "base/allowance.h"

/* The number is the time at which the bucket would be full again. Each spending moves it by one
 * interval, and it is never more than `burst` intervals ahead: so whoever waits for as long as he
 * was told gets through, and whoever spends above his means only stays where he is.
 *
 * Threads read the clock each for itself. One that is behind sees a little more spent than there
 * is; nothing is given back twice. */

static uint64_t whole_us(struct allowance_terms terms)
{
    return terms.interval_us * terms.burst;
}

static uint64_t spent_us(const struct allowance *allowance, struct allowance_terms terms,
                         uint64_t now_us)
{
    uint64_t spent = allowance->due_us > now_us ? allowance->due_us - now_us : 0;
    return spent < whole_us(terms) ? spent : whole_us(terms);
}

bool allowance_is_whole(const struct allowance *allowance, uint64_t now_ms)
{
    return allowance->due_us <= now_ms * 1000;
}

uint32_t allowance_wait_ms(const struct allowance *allowance, struct allowance_terms terms,
                           uint64_t now_ms)
{
    uint64_t after_us = spent_us(allowance, terms, now_ms * 1000) + terms.interval_us;
    return after_us > whole_us(terms) ? (uint32_t)((after_us - whole_us(terms) + 999) / 1000) : 0;
}

void allowance_spend(struct allowance *allowance, struct allowance_terms terms, uint64_t now_ms)
{
    uint64_t now_us = now_ms * 1000;
    uint64_t after_us = spent_us(allowance, terms, now_us) + terms.interval_us;
    allowance->due_us = now_us + (after_us < whole_us(terms) ? after_us : whole_us(terms));
}
