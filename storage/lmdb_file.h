/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_STORAGE_LMDB_FILE_H
#define USHER_STORAGE_LMDB_FILE_H

/* Whether LMDB may be trusted with a data file. Reads every page once, writes nothing, blocks on
 * the disk. Nobody may write to the file meanwhile. 0, -ENOENT when there is no file, -EUCLEAN
 * with a line for a person in `error` when it is damaged. */
int lmdb_file_check(const char *path, char *error);

#endif
