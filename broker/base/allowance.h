/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_ALLOWANCE_H
#define USHER_BASE_ALLOWANCE_H

/* How often somebody may do something: a token bucket in one number. Zeroed memory is one who has
 * done nothing yet. Pure. */

#include <stdbool.h>
#include <stdint.h>

/* Packed because each session has one, beside a number of four bytes. */
struct __attribute__((packed, aligned(4))) allowance {
    uint64_t due_ns; /* when all that was spent will have been given back */
};

/* `burst` times at once, and what was spent comes back one by one. Neither is 0. */
struct allowance_terms {
    uint64_t interval_ns;
    uint32_t burst;
};

/* `count` times, given back evenly over the period; count is not 0. It is exact to one nanosecond
 * in the time for each: a hundredth of ten millions in a second. */
static inline struct allowance_terms allowance_over(uint32_t count, uint64_t period_us)
{
    return (struct allowance_terms){.interval_ns = (period_us * 1000 + count - 1) / count,
                                    .burst = count};
}

/* Nothing is spent at now_ms. */
bool allowance_is_whole(const struct allowance *allowance, uint64_t now_ms);

/* 0 when one more may be spent at now_ms, otherwise the ms after which it may. Spends nothing. */
uint32_t allowance_wait_ms(const struct allowance *allowance, struct allowance_terms terms,
                           uint64_t now_ms);

/* Spends one, or what is left. */
void allowance_spend(struct allowance *allowance, struct allowance_terms terms, uint64_t now_ms);

/* One of a table that goes over to another process, by the number that it has there. */
typedef void allowance_each(void *context, uint64_t number, struct allowance allowance);

#endif
