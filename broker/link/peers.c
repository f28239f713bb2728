/* SPDX-License-Identifier: Apache-2.0 */
#include "link/private.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/table.h"

/* Which connections live, and what each of them has outstanding. nng itself cannot be asked: it
 * still knows a pipe while it already reports the loss, so a request that arrives late would wait
 * for a report that has been.
 *
 * A table as in base/table.h with the id itself as the hash, because nng counts its ids upwards. At
 * most half of the cells are taken. */

TABLE_ROW(struct peer, pipe);

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

/* As many cells as are counted, and as many of those who leave. */
static bool is_whole(const struct peers *peers)
{
    uint32_t count = 0, leaving = 0;
    for (uint32_t i = 0; i <= peers->mask; i++) {
        count += peers->cells[i].pipe != 0;
        leaving += peers->cells[i].leaving;
    }
    return count == peers->count && leaving == peers->leaving;
}

void peers_fini(struct peers *peers)
{
    free(peers->cells);
    *peers = (struct peers){0};
}

static uint32_t itself(uint64_t pipe, const uint64_t *seed)
{
    return (uint32_t)pipe;
}

static struct table table_of(const struct peers *peers)
{
    return (struct table){peers->cells, peers->mask + 1, sizeof(*peers->cells), itself, NULL};
}

/* The cell of the pipe, or the free one where it belongs. */
static uint32_t cell_of(const struct peers *peers, uint32_t pipe)
{
    const struct table table = table_of(peers);
    return table_find(&table, pipe);
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
    CHECK(2 * (uint64_t)peers->count <= (uint64_t)peers->mask + 1);
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
        uint32_t age = (newest - (uint32_t)peer->pipe) & PIPE_MASK;
        if (age <= oldest_age || !is_idle_stranger(peer))
            continue;
        oldest = peer;
        oldest_age = age;
    }
    if (oldest == NULL)
        return 0;
    peers_let_go(peers, (uint32_t)oldest->pipe);
    return (uint32_t)oldest->pipe;
}

void peers_let_go(struct peers *peers, uint32_t pipe)
{
    struct peer *peer = peers_find(peers, pipe);
    CHECK(peer != NULL && !peer->leaving);
    peer->leaving = true;
    peers->leaving++;
    CHECK(peers->leaving <= peers->count);
}

void peers_remove(struct peers *peers, uint32_t pipe)
{
    uint32_t gap = cell_of(peers, pipe);
    if (peers->cells[gap].pipe == 0)
        return;
    CHECK(peers->count > 0 && peers->leaving >= peers->cells[gap].leaving);
    peers->leaving -= peers->cells[gap].leaving;
    const struct table table = table_of(peers);
    table_free(&table, gap);
    peers->count--;
    CHECK_SLOW(is_whole(peers));
}
