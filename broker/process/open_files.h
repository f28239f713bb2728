/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROCESS_OPEN_FILES_H
#define USHER_PROCESS_OPEN_FILES_H

/* How many files this process may have open. */

#include <stdint.h>

/* As many as the system allows. */
void open_files_raise(void);

/* UINT64_MAX: as many as it likes. */
uint64_t open_files_max(void);

/* What is left of them beside those that are reserved, at least 1 and at most `most`. */
uint64_t open_files_left(uint64_t reserved, uint64_t most);

#endif
