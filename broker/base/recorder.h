/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_RECORDER_H
#define USHER_BASE_RECORDER_H

/* The flight recorder: the last events of the log in a fixed piece of memory, also those that the
 * level or the rate limit kept out of the log; but no event fills it alone (log.c). One JSON object
 * per line; the log feeds it. It holds what the log holds, so no payload and no secret. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct recorder;

enum { RECORDER_BYTES_MIN = 4096, RECORDER_LINE_BYTES_MAX = 16 * 1024 };

/* NULL without memory; `bytes` is at least RECORDER_BYTES_MIN, which holds some lines. */
struct recorder *recorder_create(size_t bytes);

/* Nobody else uses it any more, and it is not the one of recorder_crash_to. NULL is fine. */
void recorder_destroy(struct recorder *recorder);

/* What recorder_create was given. */
size_t recorder_capacity(const struct recorder *recorder);

/* Takes a copy of one line with its newline at the end; the oldest ones make room. Longer than the
 * whole room or RECORDER_LINE_BYTES_MAX: dropped. Any thread; blocks for a memory move at most.
 * NULL is fine. */
void recorder_add(struct recorder *recorder, const char *line, size_t size);

/* The line is without its newline and borrowed for the call; false ends the reading before it. */
typedef bool recorder_each(void *context, const char *line, size_t size);

/* Calls `each` for the lines at and after `position` (0: the oldest), in their order, and gives the
 * position to go on from. With `user` other than NULL or "" only for those that have it as their
 * field `user`. Any thread; `each` runs without a lock and may take its time: what is overwritten
 * meanwhile is left out. */
uint64_t recorder_read(struct recorder *recorder, uint64_t position, const char *user,
                       recorder_each *each, void *context);

/* The position from which recorder_read gives the newest `count` lines of `user`, or fewer. */
uint64_t recorder_newest(struct recorder *recorder, const char *user, size_t count);

/* Writes all lines into the file, whose content of before goes to `path`.old. 0 or -errno; blocks
 * on the disk. */
int recorder_write(struct recorder *recorder, const char *path);

/* From now on SIGSEGV, SIGABRT, SIGBUS, SIGILL and SIGFPE write the lines into that file, and one
 * more that names the signal; then what was to happen before happens: mostly the process dies of
 * it. Both are borrowed until recorder_crash_forget. One recorder in a process; one thread calls. 0
 * or -errno. */
int recorder_crash_to(struct recorder *recorder, const char *path);
void recorder_crash_forget(void);

#endif
