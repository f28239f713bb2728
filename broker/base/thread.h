/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_THREAD_H
#define USHER_BASE_THREAD_H

/* Which thread something belongs to, so that "for the I/O thread only" can be a check:
 *
 *     struct reactor { struct thread_mark mark; ... };
 *     thread_begin(&reactor->mark);           first thing that its thread does
 *     CHECK(on_thread(&reactor->mark));       in what only that thread may call
 *     CHECK(off_thread(&reactor->mark));      in what is for before its start and after its end
 *     thread_end(&reactor->mark);             last thing that it does
 *
 * A zeroed mark belongs to nobody. What may be called by its thread, and by whoever starts and
 * ends that while it does not run, checks `!on_another_thread(m)`. Any thread may ask; nothing
 * blocks, and an answer costs a load and a compare. It is no order: whoever joined the
 * thread, or was started after it, has that from elsewhere.
 *
 * A simulation runs what are threads elsewhere in one: that one marks each of them. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

struct thread_mark {
    _Atomic uintptr_t thread; /* 0: nobody's */
};

/* The calling thread; no other that runs has the same, and none has 0. */
static inline uintptr_t thread_self(void)
{
    return (uintptr_t)__builtin_thread_pointer();
}

/* True for one thread alone: only it stores its own number, so it needs no order to find it. */
static inline bool on_thread(const struct thread_mark *mark)
{
    return atomic_load_explicit(&mark->thread, memory_order_relaxed) == thread_self();
}

/* No thread has it now. */
static inline bool off_thread(const struct thread_mark *mark)
{
    return atomic_load_explicit(&mark->thread, memory_order_relaxed) == 0;
}

/* Another thread has it now. */
static inline bool on_another_thread(const struct thread_mark *mark)
{
    uintptr_t thread = atomic_load_explicit(&mark->thread, memory_order_relaxed);
    return thread != 0 && thread != thread_self();
}

/* From now on it is the calling thread's. It was nobody's. */
static inline void thread_begin(struct thread_mark *mark)
{
    CHECK(off_thread(mark));
    atomic_store_explicit(&mark->thread, thread_self(), memory_order_relaxed);
}

/* On its thread: it is nobody's again. */
static inline void thread_end(struct thread_mark *mark)
{
    CHECK(on_thread(mark));
    atomic_store_explicit(&mark->thread, 0, memory_order_relaxed);
}

#endif
