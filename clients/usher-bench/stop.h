/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_BENCH_STOP_H
#define USHER_USHER_BENCH_STOP_H

/* Ctrl-C and SIGTERM, as something to look at. Main thread only, before it makes others. */

#include <stdbool.h>

/* From now on they wait to be looked at, in threads made from now on too. A descriptor, or -1: they
 * end the process as ever. */
int stop_open(void);

/* Whether one has come. From then on the next one ends the process. Does not block. */
bool stop_wanted(int stop);

void stop_close(int stop);

#endif
