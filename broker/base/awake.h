/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_AWAKE_H
#define USHER_BASE_AWAKE_H

/* The time that the process was awake. A process is stopped, frozen or its machine paused, and when
 * it goes on, what others have said meanwhile waits in its sockets while every deadline has passed.
 * So a broker's deadlines are told by a clock that stands still while it does.
 *
 * Somebody beats, at least every AWAKE_BEAT_MS. A beat that is missing for AWAKE_STALL_MS means
 * that nobody ran: all but AWAKE_STALL_MS of that is left out. The clock never goes back. Any
 * thread; a reading takes two atomics more than the machine's. */

#include <stdatomic.h>

#include "base/env.h"
#include "base/lock.h"

enum { AWAKE_BEAT_MS = 250, AWAKE_STALL_MS = 500 };

struct awake {
    struct env env; /* what others read; its wall clock and chance are the machine's */
    const struct env *machine;
    _Atomic uint64_t beat_ns; /* the machine's time of the last one; 0: nobody beats */
    _Atomic uint64_t lost_ns;
    struct lock lock; /* of those who change them */
    uint64_t told_ns; /* under lock: what awake_beat has given of lost_ns */
};

/* Nobody beats yet: until the first beat the time is the machine's. `machine` is borrowed. */
void awake_init(struct awake *awake, const struct env *machine);
void awake_fini(struct awake *awake);

/* Gives for how many ms the process stood still since the last one. */
uint64_t awake_beat(struct awake *awake);

/* There will be no more beats: nothing is left out any more. */
void awake_rest(struct awake *awake);

#endif
