/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "micro.h"
#include "runtime/registry.h"

/* Finding a user by name among 2,000. */

static const struct behaviour nothing = {.name = "nothing"};
static struct registry *registry;
static char names[MICRO_ROUNDS][16];

static uint64_t no_time(void *context)
{
    return 0;
}

/* The same numbers in each run, so that the tables are laid out alike. */
static void no_chance(void *context, void *to, size_t size)
{
    memset(to, 0x5a, size);
}

static const struct env fixed = {no_time, no_time, no_chance, NULL};

void micro_setup(void)
{
    micro_need(registry_create(&registry, 2 * MICRO_ROUNDS, 64, &fixed) == 0, "registry_create");
    for (unsigned i = 0; i < MICRO_ROUNDS; i++) {
        snprintf(names[i], sizeof(names[i]), "bench-%u", i);
        micro_need(registry_claim(registry, names[i], strlen(names[i]), &nothing) != 0, "claim");
    }
}

void micro_loop(void)
{
    for (unsigned i = 0; i < MICRO_ROUNDS; i++)
        micro_sink += registry_find(registry, names[i], strlen(names[i]));
}
