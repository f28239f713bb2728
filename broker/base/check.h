/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_CHECK_H
#define USHER_BASE_CHECK_H

/* Invariants that stay on in release builds. A failed check writes one line to stderr and aborts.
 * Only for what our own code promises itself: a peer's bytes are answered, never checked here.
 * Any thread; does not return when it fails; allocates nothing. */

#include <stdnoreturn.h>

/* A broken invariant: the memory can no longer be trusted. */
#define CHECK(condition) \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, "broken invariant"))

/* An operating condition that we ought to handle one day; `what` says which. */
#define CHECK_DEBT(condition, what) \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, "not handled: " what))

noreturn void check_failed(const char *file, int line, const char *condition, const char *what);

#endif
