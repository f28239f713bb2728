/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "sim.h"

/* Which faults a run has, and what happened in it.
 *
 * A run with every kind at once hides what a few of them do: crashes keep histories short, lost
 * connections keep inboxes short. So the seed chooses: no fault, one kind alone, all, or mostly
 * each with an even chance. What is counted is summed over all runs, because a fault that never
 * strikes tests nothing. */

void faults_choose(struct world *world)
{
    uint32_t mode = below(world, 8);
    uint32_t alone = below(world, FAULTS);
    for (uint32_t i = 0; i < FAULTS; i++)
        world->has_fault[i] = mode == 0   ? false
                              : mode == 1 ? i == alone
                              : mode == 2 ? true
                                          : one_in(world, 2);
}

bool faults_has(const struct world *world, enum fault fault)
{
    return world->has_fault[fault];
}

bool strikes(struct world *world, enum fault fault, uint32_t n)
{
    return world->has_fault[fault] && one_in(world, n);
}

void count(struct world *world, enum count which)
{
    world->counts[which]++;
}

bool counts_print(const uint64_t counts[COUNTS])
{
    static const char *const texts[COUNTS] = {
#define FAULT(name, text)
#define COUNT(name, text) text,
#include "sim_counts.def"
#undef COUNT
#undef FAULT
    };
    bool all = true;
    for (unsigned i = 0; i < COUNTS; i++) {
        printf("%12llu  %s\n", (unsigned long long)counts[i], texts[i]);
        all = all && counts[i] > 0;
    }
    return all;
}
