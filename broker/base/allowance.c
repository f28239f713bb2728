/* SPDX-License-Identifier: Apache-2.0 */
#include "base/allowance.h"

#include "base/check.h"

/* The number is the time at which the bucket would be full again. Each spending moves it by one
 * interval, and it is never more than `burst` intervals ahead: so whoever waits for as long as he
 * was told gets through, and whoever spends above his means only stays where he is.
 *
 * Threads read the clock each for itself. One that is behind sees a little more spent than there
 * is; nothing is given back twice. */

enum { NS_PER_MS = 1000000 };

static uint64_t whole_ns(struct allowance_terms terms)
{
    CHECK(terms.burst > 0 && terms.interval_ns > 0);
    return terms.interval_ns * terms.burst;
}

static uint64_t spent_ns(const struct allowance *allowance, struct allowance_terms terms,
                         uint64_t now_ns)
{
    uint64_t spent = allowance->due_ns > now_ns ? allowance->due_ns - now_ns : 0;
    return spent < whole_ns(terms) ? spent : whole_ns(terms);
}

bool allowance_is_whole(const struct allowance *allowance, uint64_t now_ms)
{
    return allowance->due_ns <= now_ms * NS_PER_MS;
}

uint32_t allowance_wait_ms(const struct allowance *allowance, struct allowance_terms terms,
                           uint64_t now_ms)
{
    uint64_t after_ns = spent_ns(allowance, terms, now_ms * NS_PER_MS) + terms.interval_ns;
    return after_ns > whole_ns(terms)
               ? (uint32_t)((after_ns - whole_ns(terms) + NS_PER_MS - 1) / NS_PER_MS)
               : 0;
}

void allowance_spend(struct allowance *allowance, struct allowance_terms terms, uint64_t now_ms)
{
    uint64_t now_ns = now_ms * NS_PER_MS;
    uint64_t after_ns = spent_ns(allowance, terms, now_ns) + terms.interval_ns;
    allowance->due_ns = now_ns + (after_ns < whole_ns(terms) ? after_ns : whole_ns(terms));
}
