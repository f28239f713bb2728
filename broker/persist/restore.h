/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_RESTORE_H
#define USHER_PERSIST_RESTORE_H

/* Sessions and inboxes of the process before. */

#include "persist/survivors.h"

/* Reads the session map and the saved inboxes, marks every session detached with one event, and
 * makes its actor. Runs before any other thread. 0 or -errno with `error` (BROKER_ERROR_BYTES) set.
 */
int restore_sessions(const struct survivors *survivors, char *error);

#endif
