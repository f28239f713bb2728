/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_CLIENTS_TOKEN_FILE_H
#define USHER_CLIENTS_TOKEN_FILE_H

/* Private to our own programs: a token that stands in a file. */

#include <stddef.h>

/* The file's bytes, at most 4096, without the newline that the editor left; the caller's to free.
 * NULL: it cannot be read. Blocks on the disk. */
void *token_file_read(const char *path, size_t *size);

#endif
