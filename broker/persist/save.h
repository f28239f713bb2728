/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_SAVE_H
#define USHER_PERSIST_SAVE_H

/* Inboxes, for the next start. */

#include "persist/survivors.h"

/* After each transaction: so many sessions have been saved. */
typedef void save_progress(uint64_t sessions);

/* Saves what waits in every inbox, for the next start. Runs when no thread runs a turn any more;
 * blocks on the disk. What could not be saved is logged and lost: gives of how many sessions.
 * `saved_so_far` may be NULL. */
uint64_t save_inboxes(const struct survivors *survivors, save_progress *saved_so_far);

#endif
