/* SPDX-License-Identifier: Apache-2.0 */
#include "net_fixture.h"

#include <sys/syscall.h>

#include "net/private.h"

/* The write side: full sockets, limits, other threads; and the back-pressure on the read side. */

/* --- back-pressure ---------------------------------------------------------------------------- */

enum { BATCHES_MAX = 8 };

static void a_receiver_that_is_busy_stops_the_reading(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    fixture->holds = true;
    struct buffer out = {0};
    for (unsigned i = 0; i < 30; i++) {
        size_t before = out.size;
        add_frame(&out, 10 + i, (uint8_t)('a' + i));
        send_all(peer.fd, out.data + before, out.size - before);
        if (i < BATCHES_MAX)
            WAIT_FOR(look(fixture, peer.conn).calls == i + 1);
    }
    nap_ms(100);
    assert_int_equal(look(fixture, peer.conn).calls, BATCHES_MAX);
    uint64_t cpu = cpu_ms();
    nap_ms(300);
    assert_true(cpu_ms() - cpu < 150); /* it waits, it does not spin */
    net_consumed(fixture->net, peer.conn);
    WAIT_FOR(look(fixture, peer.conn).calls == BATCHES_MAX + 1);
    for (unsigned i = 0; i < BATCHES_MAX; i++)
        net_consumed(fixture->net, peer.conn);
    expect_frames(fixture, peer.conn, out.data, out.size);
    close(peer.fd);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    buffer_fini(&out);
}

/* Megabytes against a receiver that counts from another thread, one batch at a time. */
static void nothing_is_lost_to_back_pressure(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    fixture->holds = true;
    struct buffer out = {0};
    for (unsigned i = 0; out.size < 3 * 1024 * 1024; i++)
        add_frame(&out, 1 + i * 37 % 20000, (uint8_t)i);
    struct timeval soon = {.tv_usec = 1000};
    setsockopt(peer.fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon));
    size_t sent = 0;
    unsigned counted = 0;
    unsigned ahead = 0;
    uint64_t give_up_ms = clock_ms() + WAIT_MS_MAX;
    while (frames_size(fixture, peer.conn) < out.size && clock_ms() < give_up_ms) {
        ssize_t some =
            sent < out.size ? send(peer.fd, out.data + sent, out.size - sent, MSG_NOSIGNAL) : 0;
        sent += some > 0 ? (size_t)some : 0;
        unsigned calls = look(fixture, peer.conn).calls;
        ahead = calls - counted > ahead ? calls - counted : ahead;
        if (calls > counted) {
            net_consumed(fixture->net, peer.conn);
            counted++;
        }
    }
    expect_frames(fixture, peer.conn, out.data, out.size);
    assert_in_range(ahead, 1, BATCHES_MAX);
    close(peer.fd);
    buffer_fini(&out);
}

/* The end of a connection whose receiver is busy comes after all that it sent. */
static void the_end_waits_for_a_busy_receiver(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    fixture->holds = true;
    struct buffer out = {0};
    for (unsigned i = 0; i < BATCHES_MAX + 2; i++) {
        size_t before = out.size;
        add_frame(&out, 10 + i, (uint8_t)('a' + i));
        send_all(peer.fd, out.data + before, out.size - before);
        if (i < BATCHES_MAX)
            WAIT_FOR(look(fixture, peer.conn).calls == i + 1);
    }
    close(peer.fd);
    nap_ms(50);
    assert_int_equal(look(fixture, peer.conn).ends, 0);
    for (unsigned i = 0; i < BATCHES_MAX; i++)
        net_consumed(fixture->net, peer.conn);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    expect_frames(fixture, peer.conn, out.data, out.size);
    assert_int_equal(look(fixture, peer.conn).calls_after_end, 0);
    buffer_fini(&out);
}

/* --- limits ----------------------------------------------------------------------------------- */

/* How many bytes wait. Nobody else uses the write side. */
static size_t waiting(struct fixture *fixture, conn_handle handle)
{
    struct conn *conn = slot_find(fixture->net, handle);
    assert_non_null(conn);
    return conn->pending_size - conn->pending_offset;
}

/* Writes until something waits; the bytes are 0, 1, 2 ... modulo 251. */
static size_t fill_socket(struct fixture *fixture, conn_handle conn)
{
    uint8_t data[4096];
    size_t written = 0;
    while (waiting(fixture, conn) == 0) {
        for (size_t i = 0; i < sizeof(data); i++)
            data[i] = (uint8_t)((written + i) % 251);
        assert_int_equal(net_write(fixture->net, 0, conn, data, sizeof(data)), 0);
        written += sizeof(data);
        assert_true(written < 64 * 1024 * 1024);
    }
    return written;
}

static void expect_pattern(int fd, size_t size)
{
    uint8_t data[4096];
    for (size_t at = 0; at < size;) {
        size_t part = size - at < sizeof(data) ? size - at : sizeof(data);
        read_exactly(fd, data, part);
        for (size_t i = 0; i < part; i++)
            if (data[i] != (at + i) % 251)
                fail_msg("byte %zu is wrong", at + i);
        at += part;
    }
}

static void output_hard_limit(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_output_bytes = 100000;
    fixture->limits.limits_close_linger_ms = 50;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    uint8_t *data = calloc(1, 100001);
    fill_socket(fixture, peer.conn);
    size_t room = 100000 - waiting(fixture, peer.conn);
    assert_int_equal(net_write(fixture->net, 0, peer.conn, data, room), 0);
    assert_int_equal(waiting(fixture, peer.conn), 100000);
    assert_int_equal(net_write(fixture->net, 0, peer.conn, data, 1), -ENOBUFS);
    /* Nothing more is written, and nothing is kept. */
    assert_int_equal(net_write(fixture->net, 0, peer.conn, data, 1), -EPIPE);
    assert_int_equal(net_flush(fixture->net, 0, peer.conn), -EPIPE);
    assert_int_equal(waiting(fixture, peer.conn), 0);
    /* It is read from until it is released. */
    send_frame(peer.fd, 1, 'x');
    WAIT_FOR(look(fixture, peer.conn).calls == 1);
    assert_int_equal(look(fixture, peer.conn).ends, 0);
    net_release(fixture->net, peer.conn);
    WAIT_FOR(net_count(fixture->net) == 0);
    close(peer.fd);
    free(data);
}

/* A limit below a frame: one of the largest size may wait all the same, with some answers. */
static void one_frame_may_wait_whatever_the_limit(void **state)
{
    struct fixture *fixture = *state;
    enum { FRAME = 65536, OUTPUT = 4096, MOST = FRAME + OUTPUT / 4, REST = FRAME_PREFIX_BYTES_MAX };
    _Static_assert((int)MOST - FRAME >= (int)REST, "a frame has room with its prefix");
    fixture->limits.limits_frame_bytes = FRAME;
    fixture->binds = fixture->flushes_not = true;
    start(fixture);
    uint8_t *data = calloc(1, MOST);
    for (int reloaded = 0; reloaded < 2; reloaded++) {
        fixture->limits.limits_output_bytes = OUTPUT;
        struct peer peer = new_peer(fixture);
        fill_socket(fixture, peer.conn);
        size_t room = MOST - waiting(fixture, peer.conn);
        assert_int_equal(net_write(fixture->net, 0, peer.conn, data, room), 0);
        assert_int_equal(net_write(fixture->net, 0, peer.conn, data, 1), -ENOBUFS);
        net_release(fixture->net, peer.conn);
        close(peer.fd);
    }
    WAIT_FOR(net_count(fixture->net) == 0);
    free(data);
}

/* One write larger than everything. */
static void one_write_above_the_hard_limit(void **state)
{
    struct fixture *fixture = *state;
    enum { SIZE = 32 * 1024 * 1024 };
    fixture->limits.limits_output_bytes = 65536;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    uint8_t *data = calloc(1, SIZE);
    assert_int_equal(net_write(fixture->net, 0, peer.conn, data, SIZE), -ENOBUFS);
    net_release(fixture->net, peer.conn);
    WAIT_FOR(net_count(fixture->net) == 0);
    close(peer.fd);
    free(data);
}

static void output_soft_limit(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_output_soft_bytes = 50000;
    fixture->limits.limits_output_soft_ms = 300;
    fixture->binds = fixture->keeps = fixture->flushes_not = true;
    start(fixture);
    struct peer at_limit = new_peer(fixture);
    struct peer above = new_peer(fixture);
    uint8_t *data = calloc(1, 50001);
    fill_socket(fixture, at_limit.conn);
    fill_socket(fixture, above.conn);
    size_t room = 50000 - waiting(fixture, at_limit.conn);
    assert_int_equal(net_write(fixture->net, 0, at_limit.conn, data, room), 0);
    uint64_t begin_ms = clock_ms();
    room = 50000 - waiting(fixture, above.conn);
    assert_int_equal(net_write(fixture->net, 0, above.conn, data, room + 1), 0);
    /* No traffic from here on. */
    WAIT_FOR(look(fixture, above.conn).ends == 1);
    assert_int_equal(look(fixture, above.conn).end, CONN_SLOW);
    assert_int_equal(look(fixture, above.conn).end_owner, OWNER);
    assert_in_range(look(fixture, above.conn).end_ms - begin_ms, 298, SLACK_MS);
    nap_ms(300);
    assert_int_equal(look(fixture, at_limit.conn).ends, 0);
    net_release(fixture->net, above.conn);
    close(above.fd);
    close(at_limit.fd);
    WAIT_FOR(look(fixture, at_limit.conn).ends == 1);
    net_release(fixture->net, at_limit.conn);
    free(data);
}

/* Above it for a moment is fine, also a second time. */
static void output_soft_limit_forgives_a_reader_in_time(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_output_soft_bytes = 1000;
    fixture->limits.limits_output_soft_ms = 700;
    fixture->limits.limits_output_bytes = 16 * 1024 * 1024;
    fixture->binds = fixture->keeps = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    uint8_t *data = calloc(1, 50000);
    for (unsigned i = 0; i < 3; i++) {
        fixture->flushes_not = true;
        size_t size = fill_socket(fixture, peer.conn);
        assert_int_equal(net_write(fixture->net, 0, peer.conn, data, 50000), 0);
        fixture->flushes_not = false;
        uint64_t begin_ms = clock_ms();
        expect_pattern(peer.fd, size);
        expect_bytes(peer.fd, data, 50000);
        if (clock_ms() - begin_ms > 500) {
            free(data);
            skip(); /* the machine is too busy to be in time */
        }
        nap_ms(500);
        assert_int_equal(look(fixture, peer.conn).ends, 0);
    }
    close(peer.fd);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(look(fixture, peer.conn).end, CONN_LOST);
    net_release(fixture->net, peer.conn);
    free(data);
}

/* --- a full socket ---------------------------------------------------------------------------- */

static void a_full_socket_says_when_it_takes_more(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->flushes_not = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    size_t size = fill_socket(fixture, peer.conn);
    nap_ms(50);
    size_t left = waiting(fixture, peer.conn);
    /* The owner flushes by itself here, so the write side is the test's alone. */
    expect_pattern(peer.fd, size - left);
    WAIT_FOR(look(fixture, peer.conn).writables > 0);
    assert_int_equal(net_flush(fixture->net, 0, peer.conn), 0);
    assert_int_equal(waiting(fixture, peer.conn), 0);
    uint8_t rest[4096];
    read_exactly(peer.fd, rest, left);
    for (size_t i = 0; i < left; i++)
        assert_int_equal(rest[i], (size - left + i) % 251);
    assert_int_equal(net_flush(fixture->net, 0, peer.conn), 0);
    unsigned writables = look(fixture, peer.conn).writables;
    assert_int_equal(net_write(fixture->net, 0, peer.conn, "more", 4), 0);
    expect_bytes(peer.fd, "more", 4);
    nap_ms(30);
    assert_int_equal(look(fixture, peer.conn).writables, writables);
    close(peer.fd);
}

/* The owner is not told of a socket that nothing waits for: neither after it has taken all, nor of
 * one in whose slot something waited. */
static void a_socket_that_took_all_is_no_news(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->flushes_not = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    size_t size = fill_socket(fixture, peer.conn);
    nap_ms(50);
    size_t left = waiting(fixture, peer.conn);
    expect_pattern(peer.fd, size - left);
    WAIT_FOR(look(fixture, peer.conn).writables > 0);
    assert_int_equal(net_flush(fixture->net, 0, peer.conn), 0);
    assert_int_equal(waiting(fixture, peer.conn), 0);
    uint8_t rest[4096];
    read_exactly(peer.fd, rest, left);
    unsigned calls = look(fixture, peer.conn).calls;
    send_frame(peer.fd, 5, 'a'); /* what came before the flush has been told */
    WAIT_FOR(look(fixture, peer.conn).calls == calls + 1);
    nap_ms(30);
    unsigned writables = look(fixture, peer.conn).writables;
    send_frame(peer.fd, 5, 'b'); /* the socket is looked at again */
    WAIT_FOR(look(fixture, peer.conn).calls == calls + 2);
    nap_ms(30);
    assert_int_equal(look(fixture, peer.conn).writables, writables);
    fill_socket(fixture, peer.conn);
    fixture->keeps = true; /* the write side is the test's alone, so it gives it back */
    close(peer.fd);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    net_release(fixture->net, peer.conn);
    WAIT_FOR(net_count(fixture->net) == 0);
    fixture->keeps = false;
    peer = new_peer(fixture);
    calls = look(fixture, peer.conn).calls;
    send_frame(peer.fd, 5, 'c');
    WAIT_FOR(look(fixture, peer.conn).calls == calls + 1);
    nap_ms(30);
    assert_int_equal(look(fixture, peer.conn).writables, 0);
    close(peer.fd);
}

/* Unbound, the I/O thread writes; nobody but it hears of the socket. */
static void an_unbound_one_is_flushed_by_its_io_thread(void **state)
{
    struct fixture *fixture = *state;
    enum { SIZE = 8 * 1024 * 1024 };
    fixture->limits.limits_output_bytes = 2 * SIZE;
    fixture->binds = fixture->judges = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    uint8_t *data = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (uint8_t)(i % 251);
    net_unbind(fixture->net, peer.conn, data, SIZE);
    expect_pattern(peer.fd, SIZE);
    assert_int_equal(look(fixture, peer.conn).writables, 0);
    close(peer.fd);
    free(data);
}

/* The edge of a full socket comes before `wants_write` is set, and finds nothing to do: the second
 * try takes its place. `send` is ours here, and takes that moment's time. */
static _Atomic int full_fd = -1; /* the peer whose socket is drained when it is full; once */

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    ssize_t sent = syscall(SYS_sendto, fd, data, size, flags, NULL, 0);
    int error = errno;
    int peer = sent < 0 && error == EAGAIN ? atomic_exchange(&full_fd, -1) : -1;
    static uint8_t nothing[65536];
    ssize_t got = peer >= 0 ? 1 : 0;
    while (got > 0) {
        got = recv(peer, nothing, sizeof(nothing), MSG_DONTWAIT);
        nap_ms(1);
    }
    if (peer >= 0)
        nap_ms(100); /* the I/O thread has seen that it can be written to */
    errno = error;
    return sent;
}

static unsigned writables_of(struct fixture *fixture, conn_handle conn)
{
    pthread_mutex_lock(&fixture->lock);
    unsigned writables = record_of(fixture, conn)->writables;
    pthread_mutex_unlock(&fixture->lock);
    return writables;
}

/* This thread owns the write side, so it goes on itself, but only when it was told to. */
static void an_edge_that_comes_too_early(void **state)
{
    struct fixture *fixture = *state;
    enum { SIZE = 8 * 1024 * 1024 };
    unsigned told = 0;
    fixture->limits.limits_output_bytes = 2 * SIZE;
    fixture->binds = true;
    fixture->flushes_not = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    uint8_t *data = calloc(1, SIZE);
    atomic_store(&full_fd, peer.fd);
    assert_int_equal(net_write(fixture->net, 0, peer.conn, data, SIZE), 0);
    assert_int_equal(atomic_load(&full_fd), -1); /* it was full */
    for (int waited_ms = 0; metric_of(fixture, METRIC_bytes_out) < SIZE; waited_ms++) {
        if (waited_ms == WAIT_MS_MAX)
            fail_msg("%llu of %d bytes, and no more",
                     (unsigned long long)metric_of(fixture, METRIC_bytes_out), SIZE);
        if (recv(peer.fd, data, SIZE, MSG_DONTWAIT) > 0)
            waited_ms = 0;
        unsigned writables = writables_of(fixture, peer.conn);
        if (writables != told)
            net_flush(fixture->net, 0, peer.conn);
        told = writables;
        nap_ms(1);
    }
    close(peer.fd);
    free(data);
}

/* --- other threads ---------------------------------------------------------------------------- */

struct writer {
    struct fixture *fixture;
    conn_handle conn;
    unsigned count;
    unsigned failed;
};

static void *write_many(void *argument)
{
    struct writer *writer = argument;
    for (unsigned i = 0; i < writer->count; i++) {
        uint8_t data[64];
        for (unsigned k = 0; k < sizeof(data); k++)
            data[k] = (uint8_t)((i * sizeof(data) + k) % 251);
        writer->failed += net_write(writer->fixture->net, 2, writer->conn, data, sizeof(data)) != 0;
    }
    return NULL;
}

static void others_write_while_the_io_thread_reads(void **state)
{
    struct fixture *fixture = *state;
    enum { WRITERS = 3, COUNT = 3000 };
    fixture->options.reactors = 2;
    fixture->binds = true;
    start(fixture);
    struct peer peers[WRITERS];
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        peers[i] = new_peer(fixture);
        writers[i] = (struct writer){fixture, peers[i].conn, COUNT, 0};
    }
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_create(&threads[i], NULL, write_many, &writers[i]);
    struct buffer out = {0};
    for (unsigned i = 0; i < 200; i++)
        add_frame(&out, 50, (uint8_t)i);
    for (unsigned i = 0; i < WRITERS; i++)
        for (size_t at = 0; at < out.size; at += 51)
            send_all(peers[i].fd, out.data + at, 51);
    for (unsigned i = 0; i < WRITERS; i++) {
        expect_pattern(peers[i].fd, COUNT * 64);
        pthread_join(threads[i], NULL);
        assert_int_equal(writers[i].failed, 0);
        expect_frames(fixture, peers[i].conn, out.data, out.size);
        net_release(fixture->net, peers[i].conn);
        expect_end(peers[i].fd);
        close(peers[i].fd);
    }
    WAIT_FOR(net_count(fixture->net) == 0);
    assert_int_equal(metric_of(fixture, METRIC_bytes_out), WRITERS * COUNT * 64);
    buffer_fini(&out);
}

/* A writer whose peer resets in the middle; then the release from that thread. */
static void *write_until_dead(void *argument)
{
    struct writer *writer = argument;
    uint8_t data[1000] = {0};
    while (net_write(writer->fixture->net, 2, writer->conn, data, sizeof(data)) == 0)
        writer->count++;
    net_release(writer->fixture->net, writer->conn);
    return NULL;
}

static void resets_race_with_writers(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_output_bytes = 65536;
    fixture->limits.limits_close_linger_ms = 100;
    fixture->binds = fixture->keeps = fixture->flushes_not = true;
    start(fixture);
    for (unsigned round = 0; round < 20; round++) {
        struct peer peer = new_peer(fixture);
        struct writer writer = {.fixture = fixture, .conn = peer.conn};
        pthread_t thread;
        struct linger linger = {.l_onoff = 1};
        setsockopt(peer.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        pthread_create(&thread, NULL, write_until_dead, &writer);
        uint8_t byte;
        read_exactly(peer.fd, &byte, 1);
        close(peer.fd);
        pthread_join(thread, NULL);
        WAIT_FOR(net_count(fixture->net) == 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_receiver_that_is_busy_stops_the_reading),
        TEST(nothing_is_lost_to_back_pressure),
        TEST(the_end_waits_for_a_busy_receiver),
        TEST(output_hard_limit),
        TEST(one_frame_may_wait_whatever_the_limit),
        TEST(one_write_above_the_hard_limit),
        TEST(output_soft_limit),
        TEST(output_soft_limit_forgives_a_reader_in_time),
        TEST(a_full_socket_says_when_it_takes_more),
        TEST(a_socket_that_took_all_is_no_news),
        TEST(an_edge_that_comes_too_early),
        TEST(an_unbound_one_is_flushed_by_its_io_thread),
        TEST(others_write_while_the_io_thread_reads),
        TEST(resets_race_with_writers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
