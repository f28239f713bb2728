/* SPDX-License-Identifier: Apache-2.0 */
#include "limit.h"

/* The 'limit' reference: the least a single-threaded broker can do (limit.c is its loop).
 *
 * Wire format, both ways: u32 big-endian length, then u32 id, then payload.
 * First frame from a client (length 4) says who it is and is echoed back.
 * Later frames carry the destination id; the server overwrites it with the
 * sender's id and appends the frame to the destination's output.  Id
 * 0xffffffff goes to everyone but the sender.
 *
 * usage: echo_forward PORT
 */

#define MAXID (1u << 20)

static struct conn **by_id;
static uint32_t max_id;

static void on_drop(struct conn *c)
{
    if (c->known && by_id[c->id] == c)
        by_id[c->id] = NULL;
}

static uint32_t consume(struct conn *c, uint8_t *p, uint32_t n)
{
    uint32_t at = 0;
    while (n - at >= 4) {
        uint32_t len = get32(p + at), id;
        if (len < 4 || len > LIMIT_READ_BYTES / 2)
            return UINT32_MAX;
        if (n - at < 4 + len)
            break;
        id = get32(p + at + 4);
        if (!c->known) {
            if (id >= MAXID)
                return UINT32_MAX;
            c->known = 1;
            c->id = id;
            by_id[id] = c;
            if (id > max_id)
                max_id = id;
            buf_add(&c->out, p + at, 4 + len);
            mark(c);
        } else if (id == UINT32_MAX) {
            put32(p + at + 4, c->id);
            for (uint32_t i = 0; i <= max_id; i++) {
                struct conn *d = by_id[i];
                if (!d || d == c)
                    continue;
                buf_add(&d->out, p + at, 4 + len);
                mark(d);
            }
        } else {
            struct conn *d = id < MAXID ? by_id[id] : NULL;
            if (d) {
                put32(p + at + 4, c->id);
                buf_add(&d->out, p + at, 4 + len);
                mark(d);
            }
        }
        at += 4 + len;
    }
    return at;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 2;
    }
    by_id = calloc(MAXID, sizeof(*by_id));
    limit.consume = consume;
    limit.on_drop = on_drop;
    limit_run(atoi(argv[1]));
}
