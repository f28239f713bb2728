/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "net_fixture.h"

#include <netinet/in.h>

#include "client.pb-c.h"

/* What one stranger, and all slow readers together, may take: each limit at n and n + 1. */

/* The detail of Close(OVERLOADED), then the end. */
static void expect_refusal(int fd, const char *names)
{
    uint8_t bytes[512];
    size_t size = 0;
    ssize_t got;
    while ((got = recv(fd, bytes + size, sizeof(bytes) - size, 0)) > 0)
        size += (size_t)got;
    struct bytes frame;
    size_t used;
    assert_int_equal(frame_next((struct bytes){bytes, size}, 1000, &frame, &used), 1);
    Usher__V1__BrokerFrame *read = usher__v1__broker_frame__unpack(NULL, frame.size, frame.data);
    assert_non_null(read);
    assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_CLOSE);
    assert_int_equal(read->close->reason, USHER__V1__CLOSE__REASON__OVERLOADED);
    if (strstr(read->close->detail, names) == NULL)
        fail_msg("'%s' does not name %s", read->close->detail, names);
    usher__v1__broker_frame__free_unpacked(read, NULL);
    close(fd);
}

static int client_from(struct fixture *fixture, uint32_t address)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    int fd = new_socket();
    assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
    assert_int_equal(connect_socket(fixture, fd), 0);
    return fd;
}

static void one_source(void **state)
{
    struct fixture *fixture = *state;
    enum { LIMIT = 4 };
    fixture->limits.limits_prelogin_per_source = LIMIT;
    start(fixture);
    int fds[LIMIT];
    for (unsigned i = 0; i < LIMIT; i++)
        fds[i] = client(fixture);
    WAIT_FOR(net_count(fixture->net) == LIMIT);
    expect_refusal(client(fixture), "limits.prelogin_per_source");
    assert_int_equal(metric_of(fixture, METRIC_refused_source), 1);
    /* Others are not concerned. */
    int other = client_from(fixture, 0x7f000002);
    WAIT_FOR(net_count(fixture->net) == LIMIT + 1);
    /* An end makes room, and so does a login. */
    close(fds[0]);
    WAIT_FOR(net_count(fixture->net) == LIMIT);
    fixture->binds = fixture->judges = true;
    struct peer bound = new_peer(fixture);
    struct peer more = new_peer(fixture);
    assert_int_equal(metric_of(fixture, METRIC_refused_source), 1);
    /* One whose login is refused counts again. */
    fixture->binds = false;
    net_unbind(fixture->net, bound.conn, "no", 2);
    expect_bytes(bound.fd, "no", 2);
    expect_refusal(client(fixture), "limits.prelogin_per_source");
    close(bound.fd);
    close(more.fd);
    close(other);
    for (unsigned i = 1; i < LIMIT; i++)
        close(fds[i]);
    WAIT_FOR(net_count(fixture->net) == 0);
    for (unsigned i = 0; i < LIMIT; i++)
        fds[i] = client(fixture);
    WAIT_FOR(net_count(fixture->net) == LIMIT);
    for (unsigned i = 0; i < LIMIT; i++)
        close(fds[i]);
}

static void the_other_limits_say_their_names(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.connections_max = 3;
    fixture->limits.limits_prelogin_connections = 2;
    start(fixture);
    struct peer peers[3] = {new_peer(fixture), new_peer(fixture)};
    expect_refusal(client(fixture), "limits.prelogin_connections");
    fixture->binds = true;
    send_frame(peers[0].fd, 1, 'b');
    WAIT_FOR(look(fixture, peers[0].conn).calls == 1);
    peers[2] = new_peer(fixture);
    expect_refusal(client(fixture), "limits.connections");
    assert_int_equal(metric_of(fixture, METRIC_refused_prelogin), 1);
    assert_int_equal(metric_of(fixture, METRIC_refused_connections), 1);
    for (unsigned i = 0; i < 3; i++)
        close(peers[i].fd);
}

static void a_reload_narrows_the_room(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_prelogin_connections = 2;
    start(fixture);
    struct peer peer = new_peer(fixture);
    fixture->limits.limits_prelogin_connections = 1;
    expect_refusal(client(fixture), "limits.prelogin_connections");
    close(peer.fd);
}

/* --- output before login ---------------------------------------------------------------------- */

static void output_before_the_welcome(void **state)
{
    struct fixture *fixture = *state;
    enum { LIMIT = 1000 };
    uint8_t data[LIMIT + 1] = {0};
    fixture->limits.limits_prelogin_output_bytes = LIMIT;
    /* The write sides are this thread's, until it releases them. */
    fixture->binds = fixture->judges = fixture->keeps = true;
    start(fixture);
    struct peer exact = new_peer(fixture);
    assert_int_equal(net_write(fixture->net, 0, exact.conn, data, LIMIT - 1), 0);
    assert_int_equal(net_write(fixture->net, 0, exact.conn, data, 1), 0);
    expect_bytes(exact.fd, data, LIMIT);
    /* After the welcome nothing of this counts. */
    net_welcome(fixture->net, exact.conn);
    assert_int_equal(net_write(fixture->net, 0, exact.conn, data, LIMIT + 1), 0);
    expect_bytes(exact.fd, data, LIMIT + 1);
    struct peer over = new_peer(fixture);
    assert_int_equal(net_write(fixture->net, 0, over.conn, data, LIMIT), 0);
    assert_int_equal(net_write(fixture->net, 0, over.conn, data, 1), -ENOBUFS);
    assert_int_equal(net_write(fixture->net, 0, over.conn, data, 1), -EPIPE);
    struct peer large = new_peer(fixture);
    assert_int_equal(net_write(fixture->net, 0, large.conn, data, LIMIT + 1), -ENOBUFS);
    net_stop(fixture->net); /* everything is ours again */
    close(exact.fd);
    close(over.fd);
    close(large.fd);
}

/* An unbound one is ended by the I/O thread that has answered it. */
static void unbound_output_ends_it(void **state)
{
    struct fixture *fixture = *state;
    enum { LIMIT = 1000 };
    uint8_t data[LIMIT] = {0};
    fixture->limits.limits_prelogin_output_bytes = LIMIT;
    fixture->binds = fixture->judges = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    fixture->binds = false;
    assert_int_equal(net_write(fixture->net, 0, peer.conn, data, LIMIT), 0);
    net_unbind(fixture->net, peer.conn, "x", 1);
    expect_bytes(peer.fd, data, LIMIT);
    /* At once: it waits for an answer, and will say nothing before. */
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(look(fixture, peer.conn).end, CONN_PRELOGIN_BYTES);
    expect_end(peer.fd);
    close(peer.fd);
}

/* --- output of all ---------------------------------------------------------------------------- */

/* A reader whose socket is full, so that what is written from now on waits. */
static struct peer stuffed(struct fixture *fixture)
{
    static const uint8_t data[4096];
    struct peer peer = new_peer(fixture);
    unsigned writables = look(fixture, peer.conn).writables;
    for (;;) {
        uint64_t before = metric_of(fixture, METRIC_bytes_out);
        assert_int_equal(net_write(fixture->net, 0, peer.conn, data, sizeof(data)), 0);
        if (metric_of(fixture, METRIC_bytes_out) - before < sizeof(data))
            break;
    }
    assert_int_equal(look(fixture, peer.conn).writables, writables);
    return peer;
}

static void waits(struct fixture *fixture, struct peer *peer, size_t size)
{
    static const uint8_t data[1024];
    for (size_t done = 0; done < size; done += sizeof(data))
        assert_int_equal(net_write(fixture->net, 0, peer->conn, data, sizeof(data)), 0);
}

/* The memory of 100 KiB that wait is 128 KiB, because buffers double. */
static void the_largest_goes_first(void **state)
{
    struct fixture *fixture = *state;
    enum { PEERS = 6 };
    fixture->limits.limits_output_total_bytes = 1024 * 1024; /* it begins above 768 KiB */
    fixture->options.reactors = 2;
    /* The write sides are this thread's, until it releases them. */
    fixture->binds = fixture->keeps = fixture->flushes_not = true;
    start(fixture);
    struct peer peers[PEERS];
    for (unsigned i = 0; i < PEERS; i++)
        peers[i] = stuffed(fixture);
    for (unsigned i = 0; i < PEERS; i++)
        waits(fixture, &peers[i], i == 3 ? 200 * 1024 : 100 * 1024 - 8192);
    /* 5 * 128 + 256 KiB are too many; without the largest it is 640. */
    WAIT_FOR(metric_of(fixture, METRIC_output_evicted) > 0);
    WAIT_FOR(look(fixture, peers[3].conn).ends == 1);
    assert_int_equal(look(fixture, peers[3].conn).ends, 1);
    assert_int_equal(look(fixture, peers[3].conn).end, CONN_EVICTED);
    net_release(fixture->net, peers[3].conn);
    WAIT_FOR(net_count(fixture->net) == PEERS - 1);
    /* There is room again, and nobody else goes. */
    struct peer next = stuffed(fixture);
    waits(fixture, &next, 100 * 1024 - 8192);
    nap_ms(100);
    assert_int_equal(metric_of(fixture, METRIC_output_evicted), 1);
    net_stop(fixture->net); /* everything is ours again */
    for (unsigned i = 0; i < PEERS; i++)
        close(peers[i].fd);
    close(next.fd);
}

/* Just below, nobody goes. */
static void below_it_nobody_goes(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_output_total_bytes = 1024 * 1024;
    fixture->binds = fixture->keeps = fixture->flushes_not = true;
    start(fixture);
    struct peer peers[6];
    for (unsigned i = 0; i < 6; i++) { /* exactly 768 KiB */
        peers[i] = stuffed(fixture);
        waits(fixture, &peers[i], 100 * 1024 - 8192);
    }
    nap_ms(100);
    assert_int_equal(metric_of(fixture, METRIC_output_evicted), 0);
    struct peer one_more = stuffed(fixture);
    WAIT_FOR(metric_of(fixture, METRIC_output_evicted) > 0);
    net_stop(fixture->net);
    for (unsigned i = 0; i < 6; i++)
        close(peers[i].fd);
    close(one_more.fd);
}

/* Filled faster than anybody is ended: the write that would exceed it fails, and its memory is not
 * taken. */
static void the_total_is_never_exceeded(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t data[300 * 1024];
    fixture->limits.limits_output_total_bytes = 512 * 1024;
    fixture->binds = fixture->keeps = fixture->flushes_not = true;
    start(fixture);
    struct peer one = stuffed(fixture);
    struct peer two = stuffed(fixture);
    assert_int_equal(net_write(fixture->net, 0, one.conn, data, 100 * 1024), 0);
    assert_int_equal(net_write(fixture->net, 0, two.conn, data, sizeof(data)), -EDQUOT);
    assert_int_equal(net_write(fixture->net, 0, one.conn, data, 10), 0);
    nap_ms(50);
    assert_int_equal(metric_of(fixture, METRIC_output_evicted), 0);
    net_stop(fixture->net);
    close(one.fd);
    close(two.fd);
}

/* --- memory of all ---------------------------------------------------------------------------- */

static _Atomic uint64_t later_ns;

static uint64_t later_clock(void *context)
{
    return env_monotonic_ns(env_system()) + later_ns;
}

/* A frame whose end does not come, of which so much is carried. */
static void begin_frame(struct fixture *fixture, struct peer *peer, size_t size)
{
    static const uint8_t data[65536];
    uint64_t before = metric_of(fixture, METRIC_bytes_in);
    send_all(peer->fd, "\xd0\x86\x03", 3); /* of 50000 bytes */
    send_all(peer->fd, data, size - 3);
    WAIT_FOR(metric_of(fixture, METRIC_bytes_in) >= before + size);
}

/* Frames of which none is large fill the memory and never end: while it is full nobody goes for
 * that; when it was so for long they go until it is ample. Who keeps little stays. */
static void many_frames_that_never_end(void **state)
{
    struct fixture *fixture = *state;
    enum { HOLDERS = 28, BUDGET = 1024 * 1024, LONG_MS = 10000 };
    struct env env = *env_system();
    env.monotonic_ns = later_clock;
    fixture->options.env = &env;
    fixture->binds = true;
    fixture->limits.limits_memory_bytes = BUDGET;
    memory_open(&fixture->limits, NULL, fixture->metrics);
    start(fixture);
    struct peer peers[HOLDERS], little = new_peer(fixture);
    begin_frame(fixture, &little, 8000);
    for (unsigned i = 0; i < HOLDERS; i++) { /* 32 KiB each: the last one fills seven eighths */
        peers[i] = new_peer(fixture);
        begin_frame(fixture, &peers[i], 20000);
    }
    WAIT_FOR(memory_level() == MEMORY_FULL);
    nap_ms(300);
    assert_int_equal(metric_of(fixture, METRIC_input_evicted), 0);
    later_ns += LONG_MS * UINT64_C(1000000);
    WAIT_FOR(memory_level() == MEMORY_AMPLE);
    nap_ms(300); /* and no more than that */
    uint64_t gone = metric_of(fixture, METRIC_input_evicted);
    assert_in_range(gone, 5, 12);
    assert_int_equal(look(fixture, little.conn).ends, 0);
    unsigned ended = 0;
    for (unsigned i = 0; i < HOLDERS; i++) {
        struct record record = look(fixture, peers[i].conn);
        assert_true(record.ends == 0 || record.end == CONN_STARVED);
        ended += record.ends;
        close(peers[i].fd);
    }
    assert_int_equal(ended, gone);
    close(little.fd);
    net_stop(fixture->net);
    net_close(fixture->net);
    fixture->net = NULL;
    memory_close();
    later_ns = 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_source),
        TEST(the_other_limits_say_their_names),
        TEST(a_reload_narrows_the_room),
        TEST(output_before_the_welcome),
        TEST(unbound_output_ends_it),
        TEST(the_largest_goes_first),
        TEST(below_it_nobody_goes),
        TEST(the_total_is_never_exceeded),
        TEST(many_frames_that_never_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
