/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_RECORDER_PRIVATE_H
#define USHER_BASE_RECORDER_PRIVATE_H

/* Private to recorder.c, which fills the ring, and recorder_crash.c, which saves it. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lock.h"

struct recorder {
    struct lock lock;            /* a leaf; not taken by the signal handler */
    _Atomic uint64_t tail, head; /* written under the lock */
    atomic_bool frozen;          /* the process dies: nothing is added any more */
    size_t size;
    char bytes[];
};

#endif
