/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_PASSAGE_H
#define USHER_BASE_PASSAGE_H

/* A way that many threads go at once, and that one may close: whoever comes then waits until it is
 * open again, and who closes it waits until nobody is in it. Going through costs two atomics. A
 * thread that is in it must not come again. Any thread; blocks as said. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"
#include "base/lock.h"

struct passage {
    _Atomic uint32_t inside;
    _Atomic bool closed;
    struct lock lock;
    pthread_cond_t changed;
};

void passage_init(struct passage *passage);
void passage_destroy(struct passage *passage);

/* NULL is one that nobody ever closes. */
void passage_enter(struct passage *passage);
void passage_leave(struct passage *passage);

/* Blocks until that time at most. False: somebody is still in it, and it is open again. One closes
 * it at a time. */
bool passage_close(struct passage *passage, const struct env *env, uint64_t until_ms);
void passage_open(struct passage *passage);

#endif
