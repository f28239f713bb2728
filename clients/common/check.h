/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_COMMON_CHECK_H
#define USHER_COMMON_CHECK_H

/* Promises whose breach would cost the program that a library lives in its memory, or a message its
 * being told exactly once. A failed check writes one line to stderr and aborts, as free() does when
 * it is given what it never gave: to go on would do harm elsewhere, later, and without a word.
 *
 * Never what a peer can reach, what memory or descriptors can lack, or what the program does wrong
 * and can be told by an error: a library does not end its host for these (decision 106). Any
 * thread; does not return when it fails; allocates nothing. */

#include <stdnoreturn.h>

/* What the library's own code promises itself. Costs a compare and a branch. */
#define CHECK(condition) \
    ((condition) ? (void)0 : promise_broken(__FILE__, __LINE__, #condition, "broken invariant"))

/* A call that the header forbids, that cannot give an error, and that would free what is in use. */
#define CHECK_CALL(condition, what) \
    ((condition) ? (void)0 : promise_broken(__FILE__, __LINE__, #condition, what))

__attribute__((cold)) noreturn void promise_broken(const char *file, int line,
                                                   const char *condition, const char *what);

#endif
