/* SPDX-License-Identifier: Apache-2.0 */
/* The loop of the `limit` references: one thread, one epoll set, one read per readable connection
 * and turn, one send per connection that has output. What the bytes mean is the program's. */
#ifndef BENCH_LIMIT_H
#define BENCH_LIMIT_H

#include "benchnet.h"

enum { LIMIT_READ_BYTES = 256 * 1024 };

struct conn {
    int fd;
    uint32_t id;
    uint32_t place; /* in its room */
    uint8_t dirty, wantw, known;
    struct room *room;
    struct buf in, out;
};

struct limit {
    int ep;
    struct conn **by_fd;
    struct conn **dirty;
    uint32_t ndirty, cap_dirty;
    /* Takes whole frames; gives the bytes used, or UINT32_MAX: they cannot be. */
    uint32_t (*consume)(struct conn *c, uint8_t *p, uint32_t n);
    void (*on_drop)(struct conn *c);
};

extern struct limit limit;

/* It has output. */
static inline void mark(struct conn *c)
{
    if (c->dirty)
        return;
    c->dirty = 1;
    if (limit.ndirty == limit.cap_dirty) {
        limit.cap_dirty = limit.cap_dirty ? limit.cap_dirty * 2 : 1024;
        limit.dirty = realloc(limit.dirty, limit.cap_dirty * sizeof(*limit.dirty));
    }
    limit.dirty[limit.ndirty++] = c;
}

/* Never returns. */
void limit_run(int port);
#endif
