/* SPDX-License-Identifier: Apache-2.0 */
#include "base/passage.h"

#include "base/wait.h"

/* Who enters counts himself and then looks whether it is closed; who closes it says so and then
 * looks whether anybody is counted. Both are sequentially consistent, so one of them sees the
 * other: either who came in goes back, or he is waited for. */

void passage_init(struct passage *passage)
{
    atomic_init(&passage->inside, 0);
    atomic_init(&passage->closed, false);
    lock_init(&passage->lock);
    wait_condition_init(&passage->changed);
}

void passage_destroy(struct passage *passage)
{
    CHECK(atomic_load(&passage->inside) == 0);
    lock_destroy(&passage->lock);
    pthread_cond_destroy(&passage->changed);
}

static bool is_closed(struct passage *passage)
{
    return atomic_load_explicit(&passage->closed, memory_order_seq_cst);
}

void passage_enter(struct passage *passage)
{
    if (passage == NULL)
        return;
    for (;;) {
        atomic_fetch_add_explicit(&passage->inside, 1, memory_order_seq_cst);
        if (!is_closed(passage))
            return;
        passage_leave(passage);
        lock_take(&passage->lock);
        while (is_closed(passage))
            lock_wait(&passage->lock, &passage->changed);
        lock_give(&passage->lock);
    }
}

void passage_leave(struct passage *passage)
{
    if (passage == NULL)
        return;
    uint32_t before = atomic_fetch_sub_explicit(&passage->inside, 1, memory_order_seq_cst);
    CHECK(before > 0);
    if (before > 1 || !is_closed(passage))
        return;
    lock_take(&passage->lock);
    pthread_cond_broadcast(&passage->changed);
    lock_give(&passage->lock);
}

bool passage_close(struct passage *passage, const struct env *env, uint64_t until_ms)
{
    const struct timespec until = env_until(env, until_ms);
    bool in_time = true;
    lock_take(&passage->lock);
    CHECK(!is_closed(passage));
    atomic_store_explicit(&passage->closed, true, memory_order_seq_cst);
    while (in_time && atomic_load_explicit(&passage->inside, memory_order_seq_cst) > 0)
        in_time = lock_wait_until(&passage->lock, &passage->changed, &until);
    bool empty = atomic_load_explicit(&passage->inside, memory_order_seq_cst) == 0;
    lock_give(&passage->lock);
    if (!empty)
        passage_open(passage);
    return empty;
}

void passage_open(struct passage *passage)
{
    lock_take(&passage->lock);
    atomic_store_explicit(&passage->closed, false, memory_order_seq_cst);
    pthread_cond_broadcast(&passage->changed);
    lock_give(&passage->lock);
}
