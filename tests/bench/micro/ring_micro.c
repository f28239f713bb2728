/* SPDX-License-Identifier: Apache-2.0 */
#include "micro.h"
#include "runtime/ring.h"

/* A value through the run queue: push and pop. */

static struct ring ring;

void micro_setup(void)
{
    micro_need(ring_init(&ring, 1024) == 0, "ring_init");
}

void micro_loop(void)
{
    for (uint32_t i = 0; i < MICRO_ROUNDS; i++) {
        uint32_t value = 0;

        micro_need(ring_push(&ring, i) && ring_pop(&ring, &value), "ring");
        micro_sink += value;
    }
}
