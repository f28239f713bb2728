/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_MICRO_H
#define BENCH_MICRO_H

/* One program per part: micro_setup, then micro_loop with a fixed number of rounds. The script
 * `micro` runs it under callgrind and counts the instructions of micro_loop alone, so the result
 * depends on the code and the compiler, not on the clock or on who else uses the machine. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { MICRO_ROUNDS = 2000 };

/* Whatever has been computed goes here, so that the compiler keeps it. */
extern volatile uint64_t micro_sink;

void micro_setup(void);
void micro_loop(void);

static inline void micro_need(int is_true, const char *what)
{
    if (!is_true) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

#endif
