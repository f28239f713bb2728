/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_LEAVE_H
#define USHER_OPERATE_LEAVE_H

/* How the broker goes: drained, to begin again, or at once. Any thread asks for it; the thread that
 * waits for signals does it. */

#include "base/log.h"
#include "base/thread.h"
#include "net/net.h"
#include "operate/goodbye.h"
#include "operate/reload.h"

enum leave_state { LEAVE_SERVING, LEAVE_DRAINING, LEAVE_STOPPING };

const char *leave_state_name(enum leave_state state);

/* A drain that is under way. */
struct drain {
    uint64_t begun_ms, total_ms;
    uint64_t users, told;
    uint32_t cursor;
};

/* All that it points to outlives it. */
struct leave {
    /* set once */
    struct goodbye goodbye;
    struct net *net;
    struct reload *reload;
    struct log *log;
    const _Atomic uint32_t *goaways; /* backends that are to hear of it and have not */
    /* any thread */
    _Atomic int state;         /* enum leave_state */
    _Atomic uint64_t drain_ms; /* what was asked for; 0: the option */
    _Atomic bool restart;      /* or this */
    /* of the thread that waits for signals, from its first step on */
    struct thread_mark mark;
    struct drain drain;
};

/* Any thread. */
enum leave_state leave_state(const struct leave *leave);

/* Asks the thread that waits for signals to drain, over so many ms (0: process.drain_ms), by the
 * signal SIGUSR2. 0, or -EALREADY while a drain or stop goes on. Any thread; returns at once. */
int leave_ask_drain(struct leave *leave, uint64_t ms);

/* Asks it in the same way to stop without a drain and to begin again. -EINVAL: the start would
 * refuse the configuration or a file that it names, `error` says which, and nothing was asked for.
 * Any thread; blocks on the disk. */
int leave_ask_restart(struct leave *leave, char error[BROKER_ERROR_BYTES]);
bool leave_restarts(const struct leave *leave);

/* For that thread: begins the drain that was asked for, or goes on with it. True: everybody has
 * been sent away, stop. Otherwise it is to be called again within *wait_ms. */
bool leave_drain_step(struct leave *leave, unsigned *wait_ms);

/* For that thread: accepts nobody any more, tells everybody that the broker stops, and waits until
 * clients and backends have heard it and no turn is left. Bounded in time. */
void leave_stop(struct leave *leave);

#endif
