/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_SUCCESSION_H
#define USHER_OPERATE_SUCCESSION_H

/* Another process in the place of this one, without an end for anybody: any thread asks for it, the
 * thread that waits for signals does it, and whoever asks hears how it went. */

#include <stdatomic.h>

#include "base/lock.h"
#include "operate/leave.h"
#include "process/failure.h"

/* As far as the last one that was asked for in this process has come. One that goes well ends the
 * process, so nobody ever sees that here: there is another process number then. */
enum succession_state { SUCCESSION_NONE, SUCCESSION_ASKED, SUCCESSION_FAILED };

struct succession_look {
    enum succession_state state;
    uint64_t tries;     /* that have come to an end */
    uint64_t frozen_ms; /* of the last one: for so long nobody was served */
    char error[BROKER_ERROR_BYTES];
};

/* All that it points to outlives it. */
struct succession {
    /* set once */
    struct leave *leave;
    /* Does it; comes back if that has failed, with a line in `error` (BROKER_ERROR_BYTES). NULL:
     * this broker cannot. On the thread that waits for signals. */
    void (*hand_over)(void *context, uint64_t *frozen_ms, char *error);
    void *context;
    struct lock lock;
    struct succession_look look; /* under lock */
};

void succession_init(struct succession *succession);
void succession_fini(struct succession *succession);

/* Asks for it, by the signal SIGUSR2. 0; -EALREADY: it is asked for already; -EBUSY: the broker is
 * on its way out; -ENOTSUP. Any thread; returns at once. */
int succession_ask(struct succession *succession);

/* Any thread. */
struct succession_look succession_look(struct succession *succession);

/* For the thread that waits for signals, after one: does what was asked for, if it was. */
void succession_do(struct succession *succession);

#endif
