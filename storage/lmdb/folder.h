/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LMDB_FOLDER_H
#define USHER_LMDB_FOLDER_H

/* The folder that a store lives in. All calls touch the disk and may block; they are made while
 * opening, by one thread. Errors are negative errno, with a line for a person in `error`. */

/* Makes the folder and its missing parents with mode 0700. 0, -EACCES, -ENOTDIR, ... */
int folder_make(const char *path, char *error);

/* Takes the lock file usher.lock in it. Gives a descriptor that holds the lock until it is closed
 * (or the process is gone), or -EBUSY when another holds it. */
int folder_lock(const char *path, char *error);

/* Makes the names in the folder durable. */
int folder_sync(const char *path);

#endif
