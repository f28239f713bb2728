/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_COMMON_CHANCE_H
#define USHER_COMMON_CHANCE_H

/* Chance, for pauses that shall not end at the same moment everywhere. Any thread; never blocks. */

#include <stdint.h>

/* A number from 0 to `most`. Without randomness it is `most`: the pause is just the longest. */
uint64_t chance_up_to(uint64_t most);

#endif
