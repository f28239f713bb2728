/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROCESS_PREPARE_H
#define USHER_PROCESS_PREPARE_H

/* What a process sees to before anything else. Of the main thread, while there is no other. */

#include <stdbool.h>

/* Whoever starts us may have closed 0, 1 or 2, and the next file opened, perhaps the store, would
 * then be taken for stderr and written over by the log. So these three are always something. False:
 * there is not even /dev/null. */
bool prepare_standard_files(void);

/* What the process needs never: more rights than it was started with, files for others, and unless
 * asked for, a picture of its memory on the disk. */
void prepare_rights(bool core_dumps);

/* What the service manager says of the stream that it gave us: device and inode. Whoever redirects
 * stderr elsewhere leaves the variable behind, so it is compared. */
bool prepare_is_journal(void);

#endif
