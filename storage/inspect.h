/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_STORAGE_INSPECT_H
#define USHER_STORAGE_INSPECT_H

/* A store seen from outside, by a program that is not its broker: on a copy, and on one that a
 * broker is writing to. Everything blocks on the disk. Errors as in store.h. Root does in somebody
 * else's store what that one may do there; -EPERM: it cannot become him. */

#include <stdbool.h>
#include <stdint.h>

#include "storage/store.h"

struct store_about {
    char schema[32]; /* "usher-store-3"; of an older version when no broker has upgraded it yet */
    bool live;       /* a broker has it open */
    uint64_t file_bytes; /* of data.mdb */
    uint64_t map_bytes;  /* store.map_bytes of whoever wrote last */
};

/* Checks the structure, as below, unless a broker has it open, and opens for reading alone:
 * everything of store.h that reads works, writes give -EACCES. Neither the schema nor anything else
 * is changed; a store of version 1 has no inboxes, and none before version 3 a log. To be closed by
 * store_close. -ENOENT: no store is there.
 *
 * Each read is a short transaction, so a broker that writes meanwhile is not hindered by a reader
 * that takes its time between two pages. One that is stopped in the middle of a page (SIGSTOP)
 * keeps the broker from using freed pages again until it goes on or ends; one that is killed there
 * does so until the broker looks for dead readers, which it does every few commits. */
int store_open_reader(struct store **store, const char *path, struct store_about *about,
                      char *error);

/* Whether store_open_reader would give -EBUSY: another process with the same number, in a container
 * of its own, has the store open. A child of ours has another number. */
bool store_number_is_taken(const char *path);

/* Reads every page of the file and checks the structure: what a broker does when it starts. Holds
 * the lock meanwhile, so that none starts. -EBUSY: one runs, and then the file changes under our
 * eyes; check a backup. */
int store_check_structure(const char *path, char *error);

/* Makes `folder`, or takes it when it is empty, and puts a compact copy of one consistent state
 * into it; then checks the structure of the copy and every record. *bytes is its size. -EEXIST:
 * there is a store already; -ENOSPC; -EUCLEAN: the store is damaged. What is incomplete or damaged
 * is removed; a damaged value of the log is copied as it is, since a broker starts on it too. One
 * read transaction for as long as that takes.
 */
int store_backup(const char *path, const char *folder, uint64_t *bytes, char *error);

/* Puts a copy of the store in `backup` into `folder`, for a broker that does not run: -EBUSY when
 * one does, and then nothing is touched. A store that is there is kept as data.mdb.before. As root,
 * what is made belongs to the owner of the folder. *bytes is the size. -EUCLEAN: the
 * structure of the backup or a record is damaged, and nothing is touched. */
int store_restore(const char *backup, const char *folder, uint64_t *bytes, char *error);

#endif
