/* SPDX-License-Identifier: Apache-2.0 */
#include "link/private.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"

/* Which connections live, and what each of them has outstanding. nng itself cannot be asked: it
 * still knows a pipe while it already reports the loss, so a request that arrives late would wait
 * for a report that has been.
 *
 * Open addressing with the id itself as the hash, because nng counts its ids upwards. At most half
 * of the cells are taken. A removal moves the following run back, so there are no tombstones. */

enum { PIPE_MASK = 0x7fffffff }; /* nng's ids have 31 bits */

int peers_init(struct peers *peers, uint32_t max)
{
    uint32_t cells = 2;
    while (cells < 2 * max)
        cells *= 2;
    *peers = (struct peers){.mask = cells - 1, .max = max};
    peers->cells = calloc(cells, sizeof(*peers->cells));
    return peers->cells != NULL ? 0 : -ENOMEM;
}

void peers_fini(struct peers *peers)
{
    free(peers->cells);
    *peers = (struct peers){0};
}

/* The cell of the pipe, or the free one where it belongs. */
static uint32_t cell_of(const struct peers *peers, uint32_t pipe)
{
    uint32_t cell = pipe & peers->mask;
    while (peers->cells[cell].pipe != 0 && peers->cells[cell].pipe != pipe)
        cell = (cell + 1) & peers->mask;
    return cell;
}

struct peer *peers_find(const struct peers *peers, uint32_t pipe)
{
    struct peer *peer = &peers->cells[cell_of(peers, pipe)];
    return peer->pipe != 0 ? peer : NULL;
}

int peers_add(struct peers *peers, uint32_t pipe)
{
    CHECK(pipe != 0);
    if (peers->count == peers->max)
        return -ENOSPC;
    struct peer *peer = &peers->cells[cell_of(peers, pipe)];
    CHECK(peer->pipe == 0);
    *peer = (struct peer){.pipe = pipe};
    peers->count++;
    return 0;
}

static bool is_idle_stranger(const struct peer *peer)
{
    return peer->pipe != 0 && !peer->vouched && !peer->leaving && peer->waiting == 0 &&
           peer->sending == 0;
}

uint32_t peers_displace(struct peers *peers, uint32_t newest)
{
    struct peer *oldest = NULL;
    uint32_t oldest_age = 0;
    for (uint32_t i = 0; i <= peers->mask; i++) {
        struct peer *peer = &peers->cells[i];
        uint32_t age = (newest - peer->pipe) & PIPE_MASK;
        if (age <= oldest_age || !is_idle_stranger(peer))
            continue;
        oldest = peer;
        oldest_age = age;
    }
    if (oldest == NULL)
        return 0;
    peers_let_go(peers, oldest->pipe);
    return oldest->pipe;
}

void peers_let_go(struct peers *peers, uint32_t pipe)
{
    struct peer *peer = peers_find(peers, pipe);
    CHECK(peer != NULL && !peer->leaving);
    peer->leaving = true;
    peers->leaving++;
}

void peers_remove(struct peers *peers, uint32_t pipe)
{
    uint32_t gap = cell_of(peers, pipe);
    if (peers->cells[gap].pipe == 0)
        return;
    peers->leaving -= peers->cells[gap].leaving;
    uint32_t mask = peers->mask;
    for (uint32_t next = (gap + 1) & mask; peers->cells[next].pipe != 0; next = (next + 1) & mask) {
        uint32_t from_home = (next - peers->cells[next].pipe) & mask;
        if (from_home >= ((next - gap) & mask)) { /* its home is not behind the gap */
            peers->cells[gap] = peers->cells[next];
            gap = next;
        }
    }
    peers->cells[gap] = (struct peer){0};
    peers->count--;
}
