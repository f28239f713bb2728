/* SPDX-License-Identifier: Apache-2.0 */
#include "micro.h"

/* The loop is run once before it counts: tables have grown, pages are there. */

volatile uint64_t micro_sink;

/* Its name is what callgrind is told to count. */
__attribute__((noinline)) static void measured(void)
{
    micro_loop();
}

int main(void)
{
    micro_setup();
    micro_loop();
    measured();
    printf("%d rounds\n", MICRO_ROUNDS);
    return 0;
}
