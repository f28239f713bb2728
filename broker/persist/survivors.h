/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_SURVIVORS_H
#define USHER_PERSIST_SURVIVORS_H

/* Who outlives the process: their sessions are restored by a start (restore.h), and what waits for
 * them is saved by a stop (save.h). Both go by this, filled by who made the parts, which outlive
 * it. */

#include "base/env.h"
#include "base/limits.h"
#include "base/log.h"
#include "persist/stored.h"
#include "runtime/scheduler.h"
#include "storage/store.h"

struct survivors {
    struct store *store;
    struct stored *stored;  /* NULL: nothing is */
    const char *store_path; /* for the log and for who reads why a start failed */
    const struct env *env;
    struct log *log;
    struct registry *registry;
    struct scheduler *scheduler;
    struct runner *runner;                        /* whose turns restore the sessions */
    const struct behaviour *user;                 /* of their actors, with a struct session each */
    uint64_t users_max;                           /* so many can be restored */
    const struct limits *limits;                  /* the resume window that each of them gets */
    _Atomic uint64_t *epoch_last, *presence_last; /* set by the start */
};

#endif
