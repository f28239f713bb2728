/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROCESS_PREPARE_H
#define USHER_PROCESS_PREPARE_H

/* What a process sees to before anything else. Of the main thread, while there is no other. */

#include <stdbool.h>

/* Whoever starts us may have closed 0, 1 or 2, and the next file opened, perhaps the store, would
 * then be taken for stderr and written over by the log. So these three are always something.
 *
 * The limit of the stack is that of each thread, too, and one that is too small ends in a fault
 * with no word of why, at the start or when somebody reloads. So below PREPARE_STACK_BYTES_MIN
 * nothing is begun, and stderr has a line.
 *
 * 0 or an exit code (failure.h). */
enum { PREPARE_STACK_BYTES_MIN = 512 * 1024 /* a reload, the deepest, has used 52 KiB */ };
int prepare_process(void);

/* What the process needs never: more rights than it was started with, files for others, and unless
 * asked for, a picture of its memory on the disk. */
void prepare_rights(bool core_dumps);

/* What the service manager says of the stream that it gave us: device and inode. Whoever redirects
 * stderr elsewhere leaves the variable behind, so it is compared. */
bool prepare_is_journal(void);

#endif
