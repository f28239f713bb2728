/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_SHIM_CONTROL_H
#define USHER_TESTS_SHIM_CONTROL_H

/* Inside of the preload library: the control file, the verdict on a call, the log. Any thread;
 * none of the calls changes errno unless it says so. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/shim.h"

/* The control file, NULL when there is none. Maps it at the first call. */
struct shim_control *shim_control(void);

/* Whether a path lies below the watched folder, or is the folder, and is no lock file. */
bool shim_watches(const char *path);

/* Waits while calls of that kind are held, and for the delay of a sync; then takes the lock under
 * which one watched call after the other is made, judged and recorded. */
void shim_enter(unsigned kind);
void shim_leave(void);

/* Between enter and leave: whether the call is to fail, and in which manner. */
bool shim_fails(unsigned kind, unsigned *manner, int *error);

/* Between enter and leave: appends one record. `data` is borrowed. */
void shim_record(enum shim_record_kind kind, const char *name, uint64_t offset, const void *data,
                 size_t bytes);

/* The function behind ours, looked up once and kept in *cache. */
void *shim_next(_Atomic(void *) *cache, const char *name);

#endif
