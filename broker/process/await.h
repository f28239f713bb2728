/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROCESS_AWAIT_H
#define USHER_PROCESS_AWAIT_H

/* A start that waits for an address which is not there yet, or in use. Of the main thread. */

#include "base/env.h"
#include "base/log.h"

enum { AWAIT_ERROR_BYTES = 512 }; /* of a line for a person */

struct await {
    const struct env *env;
    struct log *log;
    uint64_t wait_ms;  /* for all addresses together */
    uint64_t until_ms; /* its own; 0 at first: nothing had to be waited for */
};

/* Calls `open` again and again while it gives -EADDRNOTAVAIL or -EADDRINUSE, with a line in `error`
 * (AWAIT_ERROR_BYTES): what it gave last, or -ECANCELED when termination was asked for meanwhile.
 * Blocks. */
int await_address(struct await *await, int (*open)(void *context, char *error), void *context,
                  char *error);

#endif
