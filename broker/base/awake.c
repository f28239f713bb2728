/* SPDX-License-Identifier: Apache-2.0 */
#include "base/awake.h"

/* Whoever reads the clock first after a pause need not be who beats, so each reading looks how old
 * the last beat is, and puts it right if need be.
 *
 * The clock never goes back: a time t that was told was at most AWAKE_STALL_MS behind the last
 * beat, or it would have been put right first; and what is told when a pause has been left out is
 * that beat and AWAKE_STALL_MS. Who sees a beat sees what was lost before it (release, acquire);
 * what is lost rises before the machine is asked, so nobody takes too much from an older time. */

static const uint64_t NS_PER_MS = 1000000;

/* Under the lock. */
static uint64_t put_right(struct awake *awake)
{
    CHECK(lock_held(&awake->lock));
    const uint64_t stall_ns = AWAKE_STALL_MS * NS_PER_MS;
    uint64_t beat_ns = atomic_load_explicit(&awake->beat_ns, memory_order_relaxed);
    uint64_t now_ns = env_monotonic_ns(awake->machine);
    if (beat_ns == 0 || now_ns <= beat_ns + stall_ns)
        return now_ns;
    atomic_fetch_add_explicit(&awake->lost_ns, now_ns - beat_ns - stall_ns, memory_order_release);
    atomic_store_explicit(&awake->beat_ns, now_ns, memory_order_release);
    return now_ns;
}

static uint64_t awake_ns(void *context)
{
    struct awake *awake = context;
    uint64_t beat_ns = atomic_load_explicit(&awake->beat_ns, memory_order_acquire);
    uint64_t lost_ns = atomic_load_explicit(&awake->lost_ns, memory_order_acquire);
    uint64_t now_ns = env_monotonic_ns(awake->machine);
    if (beat_ns == 0 || now_ns <= beat_ns + AWAKE_STALL_MS * NS_PER_MS)
        return now_ns - lost_ns;
    lock_take(&awake->lock);
    now_ns = put_right(awake);
    lost_ns = atomic_load_explicit(&awake->lost_ns, memory_order_relaxed);
    lock_give(&awake->lock);
    return now_ns - lost_ns;
}

static uint64_t wall_ms(void *context)
{
    return env_wall_ms(((struct awake *)context)->machine);
}

static void random_bytes(void *context, void *to, size_t size)
{
    env_random(((struct awake *)context)->machine, to, size);
}

void awake_init(struct awake *awake, const struct env *machine)
{
    *awake = (struct awake){.env = {.monotonic_ns = awake_ns,
                                    .wall_ms = wall_ms,
                                    .random_bytes = random_bytes,
                                    .context = awake},
                            .machine = machine};
    lock_init(&awake->lock);
}

void awake_fini(struct awake *awake)
{
    lock_destroy(&awake->lock);
}

uint64_t awake_beat(struct awake *awake)
{
    lock_take(&awake->lock);
    uint64_t now_ns = put_right(awake);
    atomic_store_explicit(&awake->beat_ns, now_ns, memory_order_release);
    uint64_t lost_ns = atomic_load_explicit(&awake->lost_ns, memory_order_relaxed);
    CHECK(awake->told_ns <= lost_ns);
    uint64_t untold_ns = lost_ns - awake->told_ns;
    awake->told_ns = lost_ns;
    lock_give(&awake->lock);
    return untold_ns / NS_PER_MS;
}

void awake_rest(struct awake *awake)
{
    lock_take(&awake->lock);
    (void)put_right(awake);
    atomic_store_explicit(&awake->beat_ns, 0, memory_order_release);
    lock_give(&awake->lock);
}
