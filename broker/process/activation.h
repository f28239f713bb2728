/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROCESS_ACTIVATION_H
#define USHER_PROCESS_ACTIVATION_H

/* Listening sockets of the service manager (LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID). */

#include "base/listeners.h"
#include "config/config.h"

enum { ACTIVATION_ERROR_BYTES = 512 }; /* of a line for a person */

struct passed_sockets {
    int fds[LISTENERS];      /* of each kind; 0: none, and the options say where to listen */
    bool managed[LISTENERS]; /* the manager has opened it, and has it still */
};

/* Takes what was passed to this process, once: the variables are gone afterwards. 0, also when
 * nothing was passed; -EINVAL with a line in `error` (ACTIVATION_ERROR_BYTES) when a descriptor is
 * not what can be used. Not while other threads read the environment. */
int activation_take(struct passed_sockets *passed, const struct options *options, char *error);

/* Those of the manager once more, for a process that begins again: others than `passed`, under the
 * names of their options. */
enum { ACTIVATION_FDS_MAX = LISTENERS, ACTIVATION_NAMES_BYTES = ACTIVATION_FDS_MAX * 32 };

struct kept_sockets {
    int count; /* 0: none was passed */
    int fds[ACTIVATION_FDS_MAX];
    char names[ACTIVATION_NAMES_BYTES];
};

void activation_keep(struct kept_sockets *kept, const struct passed_sockets *passed);

/* As they were passed, for the program that follows in this process. Nothing else may be open that
 * it is to find. */
void activation_give(const struct kept_sockets *kept);

#endif
