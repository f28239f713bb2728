/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LMDB_CHECK_H
#define USHER_LMDB_CHECK_H

#include <stdint.h>

/* A data file of LMDB, from outside. All calls block on the disk, and nobody may write to the file
 * meanwhile. Errors are negative errno, with a line for a person in `error` unless it is NULL. */

/* Whether LMDB may be trusted with the file. Reads every page once, writes nothing. 0, -ENOENT
 * when there is no file, -EUCLEAN when it is damaged. */
int lmdb_file_check(const char *path, char *error);

/* What the file shows now is on the disk when this gives 0. -ENOENT, -EIO. */
int lmdb_file_sync(const char *path, char *error);

/* Takes back, durably, the one transaction after `transaction_last`, whose commit failed: 0 when
 * `transaction_last` is the newest afterwards, also when it was before. -EUCLEAN when the file
 * shows any other transaction and is left alone. */
int lmdb_file_undo(const char *path, uint64_t transaction_last);

/* Where the file begins in memory: `inside` is a value in the map as LMDB gave it, on a page that
 * is committed. NULL when that cannot be told. */
void *lmdb_file_map(const void *inside, uint64_t page_bytes);

#endif
