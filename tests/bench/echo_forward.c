/* SPDX-License-Identifier: Apache-2.0 */
#include "benchnet.h"

/* The 'limit' reference: the least a single-threaded broker can do.
 *
 * Wire format, both ways: u32 big-endian length, then u32 id, then payload.
 * First frame from a client (length 4) says who it is and is echoed back.
 * Later frames carry the destination id; the server overwrites it with the
 * sender's id and appends the frame to the destination's output.  Id
 * 0xffffffff goes to everyone but the sender.  Per loop turn: one read per
 * readable connection and one send per connection that has output.
 *
 * usage: echo_forward PORT
 */

#define MAXID (1u << 20)
#define RBUF (256 * 1024)

struct conn {
    int fd;
    uint32_t id;
    uint8_t dirty, wantw, known;
    struct buf in, out;
};

static int ep;
static struct conn **by_fd;
static struct conn **by_id;
static uint32_t max_id;
static struct conn **dirty;
static uint32_t ndirty, cap_dirty;
static uint64_t dropped;

static void mark(struct conn *c)
{
    if (c->dirty)
        return;
    c->dirty = 1;
    if (ndirty == cap_dirty) {
        cap_dirty = cap_dirty ? cap_dirty * 2 : 1024;
        dirty = realloc(dirty, cap_dirty * sizeof(*dirty));
    }
    dirty[ndirty++] = c;
}

static void drop(struct conn *c)
{
    if (c->known && by_id[c->id] == c)
        by_id[c->id] = NULL;
    by_fd[c->fd] = NULL;
    close(c->fd);
    buf_free(&c->in);
    buf_free(&c->out);
    if (c->dirty)
        for (uint32_t i = 0; i < ndirty; i++)
            if (dirty[i] == c)
                dirty[i--] = dirty[--ndirty];
    free(c);
}

static void want_write(struct conn *c, int on)
{
    struct epoll_event ev = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.fd = c->fd};
    if (c->wantw == on)
        return;
    c->wantw = (uint8_t)on;
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
}

static void flush(struct conn *c)
{
    while (c->out.off < c->out.len) {
        ssize_t n = send(c->fd, c->out.p + c->out.off, c->out.len - c->out.off, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN)
                want_write(c, 1);
            return;
        }
        c->out.off += (uint32_t)n;
    }
    buf_free(&c->out);
    want_write(c, 0);
}

static uint32_t consume(struct conn *c, uint8_t *p, uint32_t n)
{
    uint32_t at = 0;
    while (n - at >= 4) {
        uint32_t len = get32(p + at), id;
        if (len < 4 || len > RBUF / 2)
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
            } else {
                dropped++;
            }
        }
        at += 4 + len;
    }
    return at;
}

static void on_read(struct conn *c, uint8_t *rb)
{
    uint32_t have = c->in.len - c->in.off, used;
    ssize_t n;
    if (have)
        memcpy(rb, c->in.p + c->in.off, have);
    n = recv(c->fd, rb + have, RBUF - have, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            drop(c);
        return;
    }
    used = consume(c, rb, have + (uint32_t)n);
    if (used == UINT32_MAX) {
        drop(c);
        return;
    }
    c->in.off = c->in.len = 0;
    if (have + (uint32_t)n > used)
        buf_add(&c->in, rb + used, have + (uint32_t)n - used);
    else if (c->in.p)
        buf_free(&c->in);
}

int main(int argc, char **argv)
{
    struct epoll_event evs[1024], ev;
    static uint8_t rb[RBUF];
    int lfd, one = 1;
    if (argc < 2) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 2;
    }
    raise_nofile();
    by_fd = calloc(MAXID, sizeof(*by_fd));
    by_id = calloc(MAXID, sizeof(*by_id));
    lfd = listen_on("127.0.0.1", atoi(argv[1]));
    ep = epoll_create1(EPOLL_CLOEXEC);
    ev.events = EPOLLIN;
    ev.data.fd = lfd;
    epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &ev);
    for (;;) {
        int n = epoll_wait(ep, evs, 1024, -1);
        for (int i = 0; i < n; i++) {
            int fd = evs[i].data.fd;
            struct conn *c;
            if (fd == lfd) {
                for (int k = 0; k < 256; k++) {
                    int s = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                    if (s < 0)
                        break;
                    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
                    c = calloc(1, sizeof(*c));
                    c->fd = s;
                    by_fd[s] = c;
                    ev.events = EPOLLIN;
                    ev.data.fd = s;
                    epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev);
                }
                continue;
            }
            c = by_fd[fd];
            if (!c)
                continue;
            if (evs[i].events & EPOLLOUT)
                mark(c);
            if (evs[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                on_read(c, rb);
        }
        for (uint32_t i = 0; i < ndirty; i++) {
            dirty[i]->dirty = 0;
            flush(dirty[i]);
        }
        ndirty = 0;
    }
}
