/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "sim.h"

/* Chance, time and history.
 *
 * The random bytes that the broker asks for come from a generator of their own: what it draws
 * must not change what the world does next, or a small change of the broker would make an old
 * seed another world. */

enum { LEAP_MS = 50 };

static uint64_t draw(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

uint32_t below(struct world *world, uint32_t n)
{
    return (uint32_t)((draw(&world->chance) >> 33) % n);
}

bool one_in(struct world *world, uint32_t n)
{
    return below(world, n) == 0;
}

static void remember(struct world *world, const char *text)
{
    for (; *text != '\0'; text++)
        world->history = (world->history ^ (uint8_t)*text) * UINT64_C(1099511628211);
}

void tell(struct world *world, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    char stamp[48];
    snprintf(stamp, sizeof(stamp), "%6llu %8llu ", (unsigned long long)world->step,
             (unsigned long long)world->now_ms);
    remember(world, stamp);
    remember(world, line);
    if (world->options.verbose)
        printf("%s%s\n", stamp, line);
}

void broken(struct world *world, const char *rule, const char *format, ...)
{
    if (world->rule != NULL)
        return;
    world->rule = rule;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(world->what, sizeof(world->what), format, arguments);
    va_end(arguments);
    tell(world, "BROKEN %s: %s", rule, world->what);
}

static uint64_t monotonic_ns(void *context)
{
    return ((struct world *)context)->now_ms * 1000000;
}

static uint64_t wall_ms(void *context)
{
    const struct world *world = context;
    const uint64_t start_ms = UINT64_C(1780000000000);
    return (uint64_t)((int64_t)(start_ms + world->now_ms) + world->wall_offset_ms);
}

static void random_bytes(void *context, void *to, size_t size)
{
    struct world *world = context;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)to)[i] = (uint8_t)(draw(&world->secrets) >> 56);
}

void env_init(struct world *world, uint64_t seed)
{
    /* Neighbouring seeds must not begin alike, and a generator must not begin with 0. */
    world->chance = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    world->secrets = (seed + 1) * UINT64_C(0xd1342543de82ef95) | 1;
    for (unsigned i = 0; i < 8; i++)
        (void)draw(&world->chance);
    world->history = UINT64_C(14695981039346656037);
    world->now_ms = 1000;
    world->env = (struct env){.monotonic_ns = monotonic_ns,
                              .wall_ms = wall_ms,
                              .random_bytes = random_bytes,
                              .context = world};
}

void advance(struct world *world, uint64_t ms)
{
    world->now_ms += ms;
    if (ms > LEAP_MS)
        world->leap_ms = world->now_ms;
}
