/* SPDX-License-Identifier: Apache-2.0 */
#include "link_private.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"

/* Which connections live, and what each of them has outstanding. nng itself cannot be asked: it
 * still knows a pipe while it already reports the loss, so a request that arrives late would wait
 * for a report that has been.
 *
 * Open addressing with the id itself as the hash, because nng counts its ids upwards. At most half
 * of the cells are taken. A removal moves the following run back, so there are no tombstones. */

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

void peers_remove(struct peers *peers, uint32_t pipe)
{
    uint32_t gap = cell_of(peers, pipe);
    if (peers->cells[gap].pipe == 0)
        return;
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
