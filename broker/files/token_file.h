/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_FILES_TOKEN_FILE_H
#define USHER_FILES_TOKEN_FILE_H

/* Private to our own programs, and the same for all of them: secrets that stand in files. All block
 * on the disk; any thread. */

#include <stdbool.h>
#include <stddef.h>

enum { TOKEN_FILE_BYTES_MAX = 4096, NAMED_FILE_BYTES_MAX = 1 << 20 };

/* The token in a file: its first line, without the end of the line (LF, or CR and LF) and without
 * blanks in front and behind. What stands below is not looked at. Gives 0 and `size` bytes with a
 * NUL behind, the caller's to free; or what the file system says, -ENODATA: the first line is
 * empty, -EMSGSIZE: it has more than TOKEN_FILE_BYTES_MAX bytes, -EILSEQ: there is a NUL in it. */
int token_file_read(const char *path, char **token, size_t *size);

/* What is wrong, for a person: "the first line is empty". */
const char *token_file_fault(int error);

/* Whether a file that a configuration names will be read to its end, and at once, by whoever reads
 * it next: 0; what the file system says; -ENOTSUP: it is a pipe, a device or a folder, so whoever
 * opens it may wait for ever; -EFBIG: it has more than NAMED_FILE_BYTES_MAX bytes. */
int file_check(const char *path);

/* What is wrong, for a person. */
const char *file_fault(int error);

/* Whether others than the owner and the group may read what is in this file or folder, or write to
 * it. False also when it cannot be looked at. `mode` gets the bits of its permissions. */
bool file_is_open_to_others(const char *path, unsigned *mode);

#endif
