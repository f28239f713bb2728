/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "net/private.h"

/* What others may see of the connections while the I/O threads go on. Everything read here is an
 * atomic that its owner writes anyway, so nobody waits and nobody is slowed down; in return the
 * numbers are of slightly different moments. A slot may change hands between the reading of its
 * size and of its owner: the generation before and after says so, and it is left out. */

void net_look(struct net *net, struct net_look *look)
{
    *look = (struct net_look){.output_bytes =
                                  atomic_load_explicit(&net->output_total, memory_order_relaxed)};
    for (unsigned i = 0; i < net->started; i++) {
        struct reactor *reactor = &net->reactors[i];
        if (atomic_load_explicit(&reactor->accept_resume_ms, memory_order_relaxed) != 0)
            look->accept_paused = true;
    }
}

/* Keeps the list in order, the fullest first. */
static size_t insert(struct net_waiting *fullest, size_t count, size_t max,
                     struct net_waiting waiting)
{
    size_t at = count;
    while (at > 0 && fullest[at - 1].bytes < waiting.bytes)
        at--;
    if (at == max)
        return count;
    size_t kept = count < max ? count : max - 1;
    memmove(&fullest[at + 1], &fullest[at], (kept - at) * sizeof(*fullest));
    fullest[at] = waiting;
    return kept + 1;
}

size_t net_fullest(struct net *net, struct net_waiting *fullest, size_t max)
{
    size_t count = 0;
    for (unsigned i = 0; i < net->options.reactors && max > 0; i++) {
        struct reactor *reactor = &net->reactors[i];
        uint32_t made = atomic_load_explicit(&reactor->slots_made, memory_order_acquire);
        for (uint32_t slot = 0; slot < made; slot++) {
            struct conn *conn = slot_conn(reactor, slot);
            uint32_t before = atomic_load_explicit(&conn->generation, memory_order_acquire);
            struct net_waiting waiting = {
                .bytes = atomic_load_explicit(&conn->output_bytes, memory_order_relaxed)};
            if (waiting.bytes == 0)
                continue;
            waiting.owner = atomic_load_explicit(&conn->owner, memory_order_acquire);
            uint32_t after = atomic_load_explicit(&conn->generation, memory_order_acquire);
            if (before == after && waiting.owner != 0)
                count = insert(fullest, count, max, waiting);
        }
    }
    return count;
}
