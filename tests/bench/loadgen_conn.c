/* SPDX-License-Identifier: Apache-2.0 */
#include "loadgen.h"

/* One read per ready connection and turn, one write per connection with output: so the generator
 * makes no system call that its clients would not, and costs all servers the same. */

enum { EVENTS_MAX = 1024 };

static void mark(struct load *load, struct conn *conn)
{
    if (!conn->dirty) {
        conn->dirty = 1;
        load->dirty[load->dirty_count++] = conn->id;
    }
}

void load_output(struct load *load, struct conn *conn, const void *bytes, uint32_t size)
{
    buf_add(&conn->out, bytes, size);
    mark(load, conn);
}

void load_send(struct load *load, struct conn *conn, uint64_t stamp)
{
    uint32_t seq = conn->next_seq++;
    uint32_t suffix_bytes = (uint32_t)strlen(load->protocol->suffix);

    memcpy(load->payload, &stamp, 8);
    memcpy(load->payload + 8, &conn->id, 4);
    memcpy(load->payload + 12, &seq, 4);
    uint8_t *at = buf_room(&conn->out, conn->prefix_bytes + load->payload_bytes + suffix_bytes);
    memcpy(at, conn->prefix, conn->prefix_bytes);
    at += conn->prefix_bytes;
    memcpy(at, load->payload, load->payload_bytes);
    memcpy(at + load->payload_bytes, load->protocol->suffix, suffix_bytes);
    conn->out.len += conn->prefix_bytes + load->payload_bytes + suffix_bytes;
    mark(load, conn);
    load->sent++;
}

static void want_write(struct load *load, struct conn *conn, bool wants)
{
    struct epoll_event event = {.events = EPOLLIN | (wants ? EPOLLOUT : 0), .data.u32 = conn->id};

    if (conn->wantw != wants)
        epoll_ctl(load->epoll, EPOLL_CTL_MOD, conn->fd, &event);
    conn->wantw = wants;
}

static void flush(struct load *load, struct conn *conn)
{
    while (conn->out.off < conn->out.len) {
        ssize_t sent = send(conn->fd, conn->out.p + conn->out.off, conn->out.len - conn->out.off,
                            MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN)
                die("send");
            want_write(load, conn, true);
            return;
        }
        conn->out.off += (uint32_t)sent;
    }
    conn->out.off = conn->out.len = 0;
    want_write(load, conn, false);
}

void load_flush(struct load *load)
{
    for (uint32_t i = 0; i < load->dirty_count; i++) {
        load->conns[load->dirty[i]].dirty = 0;
        flush(load, &load->conns[load->dirty[i]]);
    }
    load->dirty_count = 0;
}

/* --- what the parsers tell ------------------------------------------------------------------- */

void on_ready(struct load *load, struct conn *conn)
{
    if (conn->state != LOGIN)
        return;
    conn->state = READY;
    load->ready++;
    load->connecting--;
    if (load->scenario == IDLE) /* keep this process small */
        buf_free(&conn->out);
}

static bool is_expected(const struct load *load, const struct conn *conn, uint32_t sender)
{
    if (load->scenario == ROOM)
        return sender < load->users && load_room(load, sender) == load_room(load, conn->id);
    return sender == (load->scenario == FANOUT ? 0 : (conn->id + load->users - 1) % load->users);
}

void on_message(struct load *load, struct conn *conn, const uint8_t *payload, uint32_t size)
{
    uint32_t sender, seq;
    uint64_t stamp;

    if (size != load->payload_bytes) {
        load->bad++;
        return;
    }
    memcpy(&stamp, payload, 8);
    memcpy(&sender, payload + 8, 4);
    memcpy(&seq, payload + 12, 4);
    if (!is_expected(load, conn, sender)) {
        load->bad++;
        return;
    }
    /* Of a room with several publishers only the first one's order is looked at. */
    if (load->scenario != ROOM || sender % (load->users / load->rooms) == 0) {
        load->order_errors += seq != conn->exp_seq;
        conn->exp_seq = seq + 1;
    }
    load->got++;
    if (load->recording)
        histogram_add(&load->latency, load->now > stamp ? load->now - stamp : 0);
    struct conn *from = &load->conns[sender];
    bool follows = load->scenario == FORWARD || load->scenario == IDLE;
    if (!load->running || load->rate != 0 || !follows || from->credit == 0)
        return;
    if (from->credit != CREDIT_ENDLESS)
        from->credit--;
    load_send(load, from, load->now);
}

/* --- connecting and turns -------------------------------------------------------------------- */

/* One source address has too few ports for many users shortly after another run. */
static void choose_source(struct load *load, struct conn *conn)
{
    struct sockaddr_in from = {.sin_family = AF_INET};
    int one = 1;

    if (load->sources < 2)
        return;
    from.sin_addr.s_addr = htonl(0x7f000002u + conn->id % load->sources);
    setsockopt(conn->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    if (bind(conn->fd, (struct sockaddr *)&from, sizeof(from)))
        die("bind");
}

static void start_connect(struct load *load, struct conn *conn)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)load->port)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = conn->id};
    int one = 1;

    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0)
        die("socket");
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    choose_source(load, conn);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(conn->fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS)
        die("connect");
    conn->state = CONNECTING;
    conn->wantw = 1;
    load->connecting++;
    epoll_ctl(load->epoll, EPOLL_CTL_ADD, conn->fd, &event);
}

static void on_connected(struct load *load, struct conn *conn)
{
    int error = 0;
    socklen_t size = sizeof(error);

    getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        fprintf(stderr, "connect: %s\n", strerror(error));
        exit(3);
    }
    conn->state = LOGIN;
    load->protocol->login(load, conn);
}

static void on_read(struct load *load, struct conn *conn)
{
    uint32_t have = conn->in.len - conn->in.off;

    if (have)
        memcpy(load->input, conn->in.p + conn->in.off, have);
    ssize_t got = recv(conn->fd, load->input + have, READ_BYTES - have, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        fprintf(stderr, "%s: server closed connection %u (%s)\n", load->protocol->name, conn->id,
                got ? strerror(errno) : "eof");
        exit(3);
    }
    load->now = now_ns();
    uint32_t size = have + (uint32_t)got;
    uint32_t used = load->protocol->parse(load, conn, load->input, size);
    conn->in.off = conn->in.len = 0;
    if (size > used)
        buf_add(&conn->in, load->input + used, size - used);
    else if (conn->in.p && load->scenario == IDLE)
        buf_free(&conn->in);
}

void load_publish(struct load *load, uint64_t stamp)
{
    uint32_t members = load->users / load->rooms;
    uint32_t room = (uint32_t)(load->due_count % load->rooms);
    uint32_t turn = (uint32_t)(load->due_count / load->rooms % load->publishers);

    load->due_count++;
    load_send(load, &load->conns[room * members + turn], stamp);
}

/* Of one room, as usher-bench --burst counts it. */
static void publish_window(struct load *load)
{
    uint64_t members = load->users / load->rooms;

    if (load->sent * members > load->got) /* a window begins when the last one is all there */
        return;
    while (load->running && load->rate == 0 &&
           (load->sent + 1) * members <= load->got + (uint64_t)load->window * members)
        load_publish(load, load->now);
}

/* The publisher keeps a window's worth under way, counted in deliveries. */
static void publish(struct load *load)
{
    uint64_t subscribers = load->users - 1;

    while (load->running && load->rate == 0 &&
           load->sent * subscribers < load->got + load->window * subscribers)
        load_send(load, &load->conns[0], load->now);
}

void load_turn(struct load *load, int64_t wait_ns)
{
    struct epoll_event events[EVENTS_MAX];
    struct timespec wait = {wait_ns / 1000000000, wait_ns % 1000000000};
    int count = epoll_pwait2(load->epoll, events, EVENTS_MAX, &wait, NULL);

    load->now = now_ns();
    for (int i = 0; i < count; i++) {
        struct conn *conn = &load->conns[events[i].data.u32];

        if (events[i].events & EPOLLOUT) {
            if (conn->state == CONNECTING)
                on_connected(load, conn);
            mark(load, conn);
        }
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            on_read(load, conn);
    }
    if (load->scenario == FANOUT)
        publish(load);
    if (load->scenario == ROOM)
        publish_window(load);
    load_flush(load);
}

void load_quiet(struct load *load, double seconds)
{
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);

    while ((load->now = now_ns()) < end)
        load_turn(load, (int64_t)(end - load->now));
}

void load_connect(struct load *load)
{
    uint64_t end = now_ns() + 180000000000ull;

    while (load->ready < load->users) {
        while (load->connect_next < load->users && load->connecting < load->joining_max)
            start_connect(load, &load->conns[load->connect_next++]);
        load_turn(load, 1000000000);
        if (load->now > end) {
            fprintf(stderr, "%s: only %u of %u ready\n", load->protocol->name, load->ready,
                    load->users);
            exit(3);
        }
    }
}
