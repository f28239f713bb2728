/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "net/private.h"

/* Where connections lie, and the handles by which they are known.
 *
 * A slot's memory is never freed and its generation rises when it is given back, so an event or an
 * order for an earlier life finds nothing. */

struct conn *slot_conn(struct reactor *reactor, uint32_t slot)
{
    struct conn *chunk =
        atomic_load_explicit(&reactor->chunks[slot / CHUNK_CONNS], memory_order_acquire);
    CHECK(chunk != NULL);
    return chunk + slot % CHUNK_CONNS;
}

struct conn *slot_find(struct net *net, conn_handle handle)
{
    struct conn *conn = slot_conn(reactor_of(net, handle), (uint32_t)handle & 0xffffff);
    uint32_t generation = atomic_load_explicit(&conn->generation, memory_order_acquire);
    return generation == (uint32_t)(handle >> 32) ? conn : NULL;
}

bool handle_list_add(struct handle_list *list, conn_handle handle)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        conn_handle *items = realloc(list->items, capacity * sizeof(*items));
        if (items == NULL)
            return false;
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = handle;
    return true;
}

/* One that has never been. */
static struct conn *make(struct reactor *reactor)
{
    uint32_t slot = atomic_load_explicit(&reactor->slots_made, memory_order_relaxed);
    if (slot >= reactor->net->slots_max)
        return NULL;
    if (slot % CHUNK_CONNS == 0) {
        struct conn *chunk = calloc(CHUNK_CONNS, sizeof(*chunk));
        if (chunk == NULL)
            return NULL;
        atomic_store_explicit(&reactor->chunks[slot / CHUNK_CONNS], chunk, memory_order_release);
    }
    /* Release: who looks for the largest output of all finds the chunk. */
    atomic_store_explicit(&reactor->slots_made, slot + 1, memory_order_release);
    struct conn *conn = slot_conn(reactor, slot);
    conn->slot = slot;
    conn->queue = DEADLINES;
    atomic_store_explicit(&conn->generation, reactor->net->generation_before + 1,
                          memory_order_release);
    return conn;
}

struct conn *slot_take(struct reactor *reactor)
{
    CHECK(on_io_thread(reactor));
    if (reactor->first_free == 0)
        return make(reactor);
    struct conn *conn = slot_conn(reactor, reactor->first_free - 1);
    CHECK(conn->state == CONN_FREE && conn->slot == reactor->first_free - 1);
    reactor->first_free = conn->next;
    return conn;
}

static void put_free(struct reactor *reactor, struct conn *conn)
{
    conn->next = reactor->first_free;
    reactor->first_free = conn->slot + 1;
}

struct conn *slot_claim(struct reactor *reactor, uint32_t slot, uint32_t generation)
{
    CHECK(on_io_thread(reactor) && slot >= reactor->slots_made);
    struct conn *conn;
    while ((conn = make(reactor)) != NULL && conn->slot < slot)
        put_free(reactor, conn);
    if (conn != NULL)
        atomic_store_explicit(&conn->generation, generation, memory_order_release);
    return conn;
}

void slot_give(struct reactor *reactor, struct conn *conn)
{
    CHECK(on_io_thread(reactor) && conn->state == CONN_FREE);
    CHECK(conn->carry == NULL && conn->pending == NULL && conn->wire == NULL &&
          conn->errand == NULL);
    CHECK(conn->queue == DEADLINES && !conn->stranger);
    atomic_fetch_add_explicit(&conn->generation, 1, memory_order_release);
    put_free(reactor, conn);
}
