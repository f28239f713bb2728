/* SPDX-License-Identifier: Apache-2.0 */
#include "limit.h"

enum { FD_MAX = 1 << 20, EVENTS_MAX = 1024, ACCEPTS_MAX = 256 };

struct limit limit;

static void drop(struct conn *c)
{
    limit.on_drop(c);
    limit.by_fd[c->fd] = NULL;
    close(c->fd);
    buf_free(&c->in);
    buf_free(&c->out);
    if (c->dirty)
        for (uint32_t i = 0; i < limit.ndirty; i++)
            if (limit.dirty[i] == c)
                limit.dirty[i--] = limit.dirty[--limit.ndirty];
    free(c);
}

static void want_write(struct conn *c, int on)
{
    struct epoll_event ev = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.fd = c->fd};
    if (c->wantw == on)
        return;
    c->wantw = (uint8_t)on;
    epoll_ctl(limit.ep, EPOLL_CTL_MOD, c->fd, &ev);
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

static void on_read(struct conn *c, uint8_t *rb)
{
    uint32_t have = c->in.len - c->in.off, used;
    ssize_t n;
    if (have)
        memcpy(rb, c->in.p + c->in.off, have);
    n = recv(c->fd, rb + have, LIMIT_READ_BYTES - have, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            drop(c);
        return;
    }
    used = limit.consume(c, rb, have + (uint32_t)n);
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

static void accept_all(int lfd)
{
    int one = 1;
    for (int k = 0; k < ACCEPTS_MAX; k++) {
        int s = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct epoll_event ev = {.events = EPOLLIN, .data.fd = s};
        struct conn *c;
        if (s < 0)
            break;
        setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        c = calloc(1, sizeof(*c));
        c->fd = s;
        limit.by_fd[s] = c;
        epoll_ctl(limit.ep, EPOLL_CTL_ADD, s, &ev);
    }
}

void limit_run(int port)
{
    struct epoll_event evs[EVENTS_MAX];
    static uint8_t rb[LIMIT_READ_BYTES];
    int lfd = listen_on("127.0.0.1", port);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = lfd};
    raise_nofile();
    limit.by_fd = calloc(FD_MAX, sizeof(*limit.by_fd));
    limit.ep = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(limit.ep, EPOLL_CTL_ADD, lfd, &ev);
    for (;;) {
        int n = epoll_wait(limit.ep, evs, EVENTS_MAX, -1);
        for (int i = 0; i < n; i++) {
            int fd = evs[i].data.fd;
            struct conn *c = limit.by_fd[fd];
            if (fd == lfd)
                accept_all(lfd);
            if (!c)
                continue;
            if (evs[i].events & EPOLLOUT)
                mark(c);
            if (evs[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                on_read(c, rb);
        }
        for (uint32_t i = 0; i < limit.ndirty; i++) {
            limit.dirty[i]->dirty = 0;
            flush(limit.dirty[i]);
        }
        limit.ndirty = 0;
    }
}
