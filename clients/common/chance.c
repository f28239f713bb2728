/* SPDX-License-Identifier: Apache-2.0 */
#include "common/chance.h"

#include <sys/random.h>

/* The remainder favours small numbers by a part in 2^64 / most, which no pause shows. */

uint64_t chance_up_to(uint64_t most)
{
    uint64_t value = 0;
    if (getrandom(&value, sizeof(value), GRND_NONBLOCK) != (ssize_t)sizeof(value))
        return most;
    return most < UINT64_MAX ? value % (most + 1) : value;
}
