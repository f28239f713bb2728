/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROCESS_FAILURE_H
#define USHER_PROCESS_FAILURE_H

/* Why a start fails, for who reads the exit code and for who reads the line. Pure, but for
 * failure_of_disk. */

#include <stddef.h>

/* How the process ends (sysexits.h); CONFIG_USAGE and CONFIG_INVALID of config.h are the others. */
enum {
    EXIT_DAMAGED = 65,
    EXIT_IN_USE = 69,
    EXIT_INTERNAL = 70,
    EXIT_RESOURCES = 71,
    EXIT_NO_ROOM = 73,
    EXIT_DISK = 74,
    EXIT_UNSAVED = 75,
    EXIT_CONFIGURATION = 78,
};

/* Of the line for a person, wherever a start, or a reload, can fail. */
enum { BROKER_ERROR_BYTES = 512 };

/* What a start ends with when termination was asked for while it waited for an address. */
enum { BROKER_CANCELLED = -1 };

/* The exit code of a negative errno, and what somebody can do about it: appended to the line in
 * `error`, of `size` bytes, which is cut for it. */
int failure_code(int failed);
void failure_advise(int failed, char *error, size_t size);

/* What failed in truth when a look at the store's folder tells, with the line in `error`; else
 * `failed`. `what` could not be done there ("open the store"). Blocks on the disk. */
int failure_of_disk(const char *store_path, int failed, const char *what, char *error, size_t size);

#endif
