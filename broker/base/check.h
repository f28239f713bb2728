/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_CHECK_H
#define USHER_BASE_CHECK_H

/* Invariants that stay on in release builds. A failed check writes one line to stderr and aborts.
 * Only for what our own code promises itself: a peer's bytes, a damaged store and a lack of memory
 * are answered, never checked here. Worth a check is what would otherwise be lost or corrupted
 * silently: a lock that its caller did not take (base/lock.h), a thread that is not the one
 * (base/thread.h), a state that the function does not know, a count below zero, sums that differ.
 * Any thread; does not return when it fails; allocates nothing. */

#include <stdnoreturn.h>

/* A broken invariant: the memory can no longer be trusted. Costs a compare and a branch. */
#define CHECK(condition) \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, "broken invariant"))

/* The same where it costs a walk: in debug and sanitizer builds only, and never with effects. */
#ifdef USHER_CHECK_SLOW
#define CHECK_SLOW(condition) CHECK(condition)
#else
#define CHECK_SLOW(condition) ((void)(0 && (condition)))
#endif

/* An operating condition that we ought to handle one day; `what` says which. */
#define CHECK_DEBT(condition, what) \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, "not handled: " what))

__attribute__((cold)) noreturn void check_failed(const char *file, int line, const char *condition,
                                                 const char *what);

#endif
