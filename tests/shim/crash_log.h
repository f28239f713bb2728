/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_CRASH_LOG_H
#define USHER_TESTS_CRASH_LOG_H

/* A life of the log of stored messages that is the same each time: what commit k does depends on k
 * and on what was there, and on nothing else. Who has done it in a store in memory knows what one
 * on disk must hold after each commit. */

#include <stdbool.h>
#include <stdint.h>

#include "storage/store.h"

/* The k-th commit, with epoch_last k: values of all sizes come, old ones and any others go, and
 * before some of them the same is begun and aborted. 0 or the error. */
int crash_log_step(struct store *store, uint64_t k);

/* A number over all that the log holds, and its counters. 0 or the error; a damaged value is one.
 */
int crash_log_digest(struct store *store, uint64_t *digest);

#endif
