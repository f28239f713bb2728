/* SPDX-License-Identifier: Apache-2.0 */
#include "net/private.h"
#include "tls_fixture.h"

#include "client.pb-c.h"
#include "net/proxy_header.h"

/* Connections of a proxy: who they are for, what becomes of those that do not say so, and that
 * nobody else is believed. The proxy is 127.0.0.2. */

enum { PROXY = 0x7f000002, STRANGER = 0x7f000003 };

static struct files files;
static struct identity server;

static void trust(struct fixture *fixture, const char *text)
{
    struct net_trust trust = {.proxies.count = text != NULL};
    if (text != NULL)
        assert_true(prefix_read(&trust.proxies.items[0], text));
    net_set_trust(fixture->net, &trust);
}

static void start_trusting(struct fixture *fixture)
{
    if (fixture->limits.limits_handshakes == 0)
        fixture->limits.limits_handshakes = 16;
    if (fixture->limits.limits_handshake_deadline_ms == 0)
        fixture->limits.limits_handshake_deadline_ms = 60000;
    start(fixture);
    trust(fixture, "127.0.0.2");
}

static int connect_from(struct fixture *fixture, uint32_t address, enum listener_kind kind)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    int fd = new_socket();
    assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
    assert_int_equal(connect_to(fixture, fd, kind), 0);
    return fd;
}

static int proxy(struct fixture *fixture)
{
    return connect_from(fixture, PROXY, LISTENER_tcp);
}

/* The n-th port of that address. */
static size_t header_of(char *to, const char *address, unsigned port)
{
    return (size_t)sprintf(to, "PROXY TCP4 %s 127.0.0.1 %u 7400\r\n", address, port);
}

static size_t binary_of(uint8_t *to, const uint8_t address[4], uint8_t command, size_t extra)
{
    static const uint8_t rest[8] = {127, 0, 0, 1, 0x12, 0x34, 0x1c, 0xe8};
    size_t block = 12 + extra;
    memcpy(to, "\r\n\r\n\0\r\nQUIT\n", 12);
    to[12] = command;
    to[13] = 0x11;
    to[14] = (uint8_t)(block >> 8);
    to[15] = (uint8_t)block;
    memcpy(to + 16, address, 4);
    memcpy(to + 20, rest, sizeof(rest));
    memset(to + 28, 0xee, extra);
    return 16 + block;
}

static void send_header(int fd, const char *address, unsigned port)
{
    char text[PROXY_HEADER_LINE_BYTES_MAX + 1];
    send_all(fd, text, header_of(text, address, port));
}

/* A connection for that address, known by its first frame. */
static struct peer behind_proxy(struct fixture *fixture, const char *address, unsigned port)
{
    unsigned before = records_count(fixture);
    struct peer peer = {.fd = proxy(fixture)};
    send_header(peer.fd, address, port);
    send_frame(peer.fd, 1, 'h');
    WAIT_FOR(records_count(fixture) > before);
    peer.conn = record_handle(fixture, before);
    forget_frames(fixture, peer.conn);
    return peer;
}

static void expect_address(struct fixture *fixture, conn_handle conn, const char *address)
{
    struct question question = ask(fixture, conn);
    assert_true(question.has_address);
    assert_string_equal(question.address, address);
}

static void expect_counts(struct fixture *fixture, uint64_t proxied, uint64_t local,
                          uint64_t refused, uint64_t late)
{
    WAIT_FOR(metric_of(fixture, METRIC_proxied) == proxied);
    WAIT_FOR(metric_of(fixture, METRIC_proxied_local) == local);
    WAIT_FOR(metric_of(fixture, METRIC_proxy_refused) == refused);
    WAIT_FOR(metric_of(fixture, METRIC_proxy_late) == late);
}

static void expect_close(int fd, Usher__V1__Close__Reason reason)
{
    uint8_t data[512], *at = data;
    struct bytes frame;
    size_t used;
    ssize_t got;
    while ((got = recv(fd, at, sizeof(data) - (size_t)(at - data), 0)) > 0)
        at += got;
    assert_int_equal(got, 0);
    assert_int_equal(frame_next((struct bytes){data, (size_t)(at - data)}, 512, &frame, &used), 1);
    Usher__V1__BrokerFrame *message = usher__v1__broker_frame__unpack(NULL, frame.size, frame.data);
    assert_non_null(message);
    assert_int_equal(message->body_case, USHER__V1__BROKER_FRAME__BODY_CLOSE);
    assert_int_equal(message->close->reason, reason);
    usher__v1__broker_frame__free_unpacked(message, NULL);
    close(fd);
}

/* --- who they are for ------------------------------------------------------------------------- */

static void a_line_names_the_peer(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start_trusting(fixture);
    struct peer peer = behind_proxy(fixture, "203.0.113.7", 4711);
    expect_address(fixture, peer.conn, "203.0.113.7:4711");
    assert_int_equal(net_write(fixture->net, 0, peer.conn, "hello", 5), 0);
    expect_bytes(peer.fd, "hello", 5);
    net_release(fixture->net, peer.conn);
    expect_end(peer.fd);
    close(peer.fd);
    WAIT_FOR(net_count(fixture->net) == 0);
    expect_counts(fixture, 1, 0, 0, 0);
}

static void a_binary_header_names_the_peer(void **state)
{
    static const uint8_t address[4] = {203, 0, 113, 7};
    struct fixture *fixture = *state;
    uint8_t header[PROXY_HEADER_BYTES_MAX + 8];
    start_trusting(fixture);
    for (size_t extra = 0; extra <= PROXY_HEADER_BYTES_MAX - 28; extra += 127) {
        unsigned before = records_count(fixture);
        int fd = proxy(fixture);
        send_all(fd, header, binary_of(header, address, 0x21, extra));
        send_frame(fd, 1, 'h');
        WAIT_FOR(records_count(fixture) > before);
        conn_handle conn = record_handle(fixture, before);
        expect_frames(fixture, conn, "\1h", 2);
        expect_address(fixture, conn, "203.0.113.7:4660");
        close(fd);
    }
    WAIT_FOR(net_count(fixture->net) == 0);
}

/* What is behind the header is left to whoever reads next, to the byte. */
static void byte_by_byte(void **state)
{
    struct fixture *fixture = *state;
    char text[PROXY_HEADER_LINE_BYTES_MAX + 3];
    start_trusting(fixture);
    size_t size = header_of(text, "203.0.113.7", 4711);
    memcpy(text + size, "\1h", 2);
    int fd = proxy(fixture);
    for (size_t i = 0; i < size + 2; i++) {
        assert_int_equal(records_count(fixture), 0);
        send_all(fd, text + i, 1);
        nap_ms(2);
    }
    WAIT_FOR(records_count(fixture) == 1);
    expect_frames(fixture, record_handle(fixture, 0), "\1h", 2);
    expect_address(fixture, record_handle(fixture, 0), "203.0.113.7:4711");
    close(fd);
}

static void everything_in_one_segment(void **state)
{
    struct fixture *fixture = *state;
    char text[PROXY_HEADER_LINE_BYTES_MAX + 9];
    fixture->options.reactors = 3;
    start_trusting(fixture);
    for (unsigned i = 0; i < 12; i++) {
        char address[32];
        snprintf(address, sizeof(address), "203.0.113.7:%u", 1000 + i);
        size_t size = header_of(text, "203.0.113.7", 1000 + i);
        memcpy(text + size, "\1h\1e\1y", 6);
        int fd = proxy(fixture);
        send_all(fd, text, size + 6);
        WAIT_FOR(records_count(fixture) == i + 1);
        expect_frames(fixture, record_handle(fixture, i), "\1h\1e\1y", 6);
        expect_address(fixture, record_handle(fixture, i), address);
        close(fd);
    }
    WAIT_FOR(net_count(fixture->net) == 0);
}

static void a_proxy_that_speaks_for_itself(void **state)
{
    static const uint8_t address[4] = {203, 0, 113, 7};
    struct fixture *fixture = *state;
    uint8_t header[64];
    start_trusting(fixture);
    for (unsigned i = 0; i < 2; i++) {
        int fd = proxy(fixture);
        if (i == 0)
            send_all(fd, header, binary_of(header, address, 0x20, 0));
        else
            send_all(fd, "PROXY UNKNOWN\r\n", 15);
        send_frame(fd, 1, 'h');
        WAIT_FOR(records_count(fixture) == i + 1);
        struct question question = ask(fixture, record_handle(fixture, i));
        assert_memory_equal(question.address, "127.0.0.2:", 10);
        close(fd);
    }
    expect_counts(fixture, 0, 2, 0, 0);
}

/* --- who says nothing, or what he may not ----------------------------------------------------- */

static void from_others_it_means_nothing(void **state)
{
    struct fixture *fixture = *state;
    start_trusting(fixture);
    for (unsigned i = 0; i < 2; i++) {
        int fd = connect_from(fixture, STRANGER, LISTENER_tcp);
        if (i == 0) /* a frame of 13 bytes */
            send_all(fd, "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 16);
        else /* one of 80 */
            send_all(fd,
                     "PROXY TCP4 203.0.113.7 127.0.0.1 1 7400\r\nPROXY TCP4 203.0.113.7 "
                     "127.0.0.1 1 7400\r\n",
                     82);
        WAIT_FOR(records_count(fixture) >= i + 1);
        struct question question = ask(fixture, record_handle(fixture, i));
        assert_memory_equal(question.address, "127.0.0.3:", 10);
        close(fd);
        WAIT_FOR(net_count(fixture->net) == 0);
    }
    expect_counts(fixture, 0, 0, 0, 0);
    assert_int_equal(metric_of(fixture, METRIC_connections_accepted), 2);
}

static void without_a_header_it_is_over(void **state)
{
    static const char *const rows[] = {
        "\1h",
        "GET / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02\x01\x01",
        "PROXX",
        "PROXY TCP4 203.0.113.7 127.0.0.1 70000 7400\r\n",
        "\r\n\r\nA",
    };
    struct fixture *fixture = *state;
    const unsigned count = sizeof(rows) / sizeof(*rows);
    start_trusting(fixture);
    for (unsigned i = 0; i < count; i++) {
        int fd = proxy(fixture);
        send_all(fd, rows[i], strlen(rows[i]));
        expect_close(fd, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
    }
    expect_counts(fixture, 0, 0, count, 0);
    assert_int_equal(records_count(fixture), 0);
    assert_int_equal(net_count(fixture->net), 0);
}

/* Without a byte it was a look whether anybody listens, and nobody's fault. */
static void ended_before_the_header(void **state)
{
    struct fixture *fixture = *state;
    start_trusting(fixture);
    close(proxy(fixture));
    int fd = proxy(fixture);
    WAIT_FOR(net_count(fixture->net) == 1);
    shutdown(fd, SHUT_WR);
    expect_end(fd);
    close(fd);
    expect_counts(fixture, 0, 0, 0, 0);
    fd = proxy(fixture);
    send_all(fd, "PROXY TCP4", 10);
    WAIT_FOR(net_count(fixture->net) == 1);
    shutdown(fd, SHUT_WR);
    expect_close(fd, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
    expect_counts(fixture, 0, 0, 1, 0);
    fd = proxy(fixture);
    WAIT_FOR(net_count(fixture->net) == 1);
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd);
    WAIT_FOR(net_count(fixture->net) == 0);
}

/* In the order in which they came; what trickles in wins no time. */
static void a_header_that_does_not_come(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_handshake_deadline_ms = 600;
    start_trusting(fixture);
    uint64_t before_ms = clock_ms();
    int silent = proxy(fixture);
    int slow = proxy(fixture);
    /* Until about then; a machine that is busy may be later. */
    for (unsigned i = 0; i < 25; i++) {
        (void)!send(slow, &"PROXY UNKNOWN of many letters"[i], 1, MSG_NOSIGNAL);
        nap_ms(20);
    }
    expect_close(silent, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
    assert_in_range(clock_ms() - before_ms, 600, 600 + SLACK_MS);
    expect_close(slow, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
    expect_counts(fixture, 0, 0, 0, 2);
    assert_int_equal(net_count(fixture->net), 0);
}

/* Half of a header is looked at once, and not as long as it lies there. */
static void half_a_header_costs_nothing(void **state)
{
    struct fixture *fixture = *state;
    start_trusting(fixture);
    int fd = proxy(fixture);
    send_all(fd, "PROXY TCP4", 10);
    WAIT_FOR(net_count(fixture->net) == 1);
    uint64_t before_ms = cpu_ms(), batches = batches_count(fixture);
    nap_ms(300);
    assert_true(cpu_ms() - before_ms < 150);
    assert_true(batches_count(fixture) - batches < 50);
    close(fd);
}

/* --- how many --------------------------------------------------------------------------------- */

static void so_many_wait(void **state)
{
    struct fixture *fixture = *state;
    int fds[3];
    fixture->limits.limits_handshakes = 3;
    start_trusting(fixture);
    for (unsigned i = 0; i < 3; i++)
        fds[i] = proxy(fixture);
    WAIT_FOR(net_count(fixture->net) == 3);
    expect_close(proxy(fixture), USHER__V1__CLOSE__REASON__OVERLOADED);
    assert_int_equal(metric_of(fixture, METRIC_refused_handshakes), 1);
    /* Others have their own room, and so has who brings his header. */
    int fd = client(fixture);
    send_frame(fd, 1, 'o');
    WAIT_FOR(records_count(fixture) == 1);
    close(fd);
    /* In the middle, at the end and in front somebody goes. */
    for (unsigned i = 0; i < 9; i++) {
        unsigned which = (i + 1) % 3;
        if (i % 2)
            send_header(fds[which], "203.0.113.7", i);
        close(fds[which]);
        WAIT_FOR(net_count(fixture->net) == 2);
        fds[which] = proxy(fixture);
        WAIT_FOR(net_count(fixture->net) == 3);
    }
    expect_close(proxy(fixture), USHER__V1__CLOSE__REASON__OVERLOADED);
    assert_int_equal(metric_of(fixture, METRIC_refused_handshakes), 2);
    for (unsigned i = 0; i < 3; i++)
        close(fds[i]);
}

/* They are connections as others are. */
static void they_count_as_open(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.connections_max = 2;
    start_trusting(fixture);
    int one = proxy(fixture), two = proxy(fixture);
    WAIT_FOR(net_count(fixture->net) == 2);
    expect_close(client(fixture), USHER__V1__CLOSE__REASON__OVERLOADED);
    assert_int_equal(metric_of(fixture, METRIC_refused_connections), 1);
    expect_close(proxy(fixture), USHER__V1__CLOSE__REASON__OVERLOADED);
    send_header(one, "203.0.113.7", 1);
    send_frame(one, 1, 'h');
    WAIT_FOR(records_count(fixture) == 1);
    assert_int_equal(net_count(fixture->net), 2);
    close(one);
    close(two);
    WAIT_FOR(net_count(fixture->net) == 0);
}

static void many_in_turn(void **state)
{
    struct fixture *fixture = *state;
    enum { CROWD = 200 };
    int fds[CROWD];
    fixture->limits.limits_handshakes = CROWD;
    fixture->limits.limits_prelogin_connections = CROWD;
    fixture->options.connections_max = 2 * CROWD;
    fixture->options.reactors = 2;
    start_trusting(fixture);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < CROWD; i++)
            fds[i] = proxy(fixture);
        WAIT_FOR(net_count(fixture->net) == CROWD);
        for (unsigned i = 0; i < CROWD; i++) {
            send_header(fds[i * 7 % CROWD], "203.0.113.7", i + 1);
            if (i % 3 == 0)
                close(fds[i * 7 % CROWD]);
        }
        WAIT_FOR(metric_of(fixture, METRIC_proxied) == (round + 1) * CROWD);
        for (unsigned i = 0; i < CROWD; i++)
            if (i % 3 != 0)
                close(fds[i * 7 % CROWD]);
        WAIT_FOR(net_count(fixture->net) == 0);
    }
}

/* --- limits go by the real address ------------------------------------------------------------ */

static void quotas_are_of_who_is_behind(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_prelogin_per_source = 2;
    start_trusting(fixture);
    struct peer one = behind_proxy(fixture, "203.0.113.7", 1);
    struct peer two = behind_proxy(fixture, "203.0.113.7", 2);
    int three = proxy(fixture);
    send_header(three, "203.0.113.7", 3);
    expect_close(three, USHER__V1__CLOSE__REASON__OVERLOADED);
    assert_int_equal(metric_of(fixture, METRIC_refused_source), 1);
    struct peer other = behind_proxy(fixture, "203.0.113.8", 1);
    /* Its own address is free too, and no room of the proxy's. */
    int fd = connect_from(fixture, STRANGER, LISTENER_tcp);
    send_frame(fd, 1, 'h');
    WAIT_FOR(records_count(fixture) == 4);
    close(fd);
    close(other.fd);
    /* Who becomes a stranger again counts there again. */
    fixture->binds = fixture->judges = true;
    send_frame(one.fd, 1, 'x');
    WAIT_FOR(look(fixture, one.conn).calls == 1);
    fixture->binds = false;
    struct peer third = behind_proxy(fixture, "203.0.113.7", 3);
    net_unbind(fixture->net, one.conn, "no", 2);
    expect_bytes(one.fd, "no", 2);
    expect_address(fixture, one.conn, "203.0.113.7:1");
    close(third.fd);
    WAIT_FOR(net_count(fixture->net) == 2);
    three = proxy(fixture);
    send_header(three, "203.0.113.7", 3);
    expect_close(three, USHER__V1__CLOSE__REASON__OVERLOADED);
    assert_int_equal(metric_of(fixture, METRIC_refused_source), 2);
    close(one.fd);
    close(two.fd);
    WAIT_FOR(net_count(fixture->net) == 0);
}

/* A proxy that speaks for itself counts as itself. */
static void health_checks_are_the_proxys(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_prelogin_per_source = 1;
    start_trusting(fixture);
    int check = proxy(fixture);
    send_all(check, "PROXY UNKNOWN\r\n\1h", 17);
    WAIT_FOR(records_count(fixture) == 1);
    int again = proxy(fixture);
    send_all(again, "PROXY UNKNOWN\r\n", 15);
    expect_close(again, USHER__V1__CLOSE__REASON__OVERLOADED);
    struct peer peer = behind_proxy(fixture, "203.0.113.7", 1);
    close(peer.fd);
    close(check);
}

/* --- TLS -------------------------------------------------------------------------------------- */

static void serve_tls(struct fixture *fixture)
{
    fixture->options.listen[LISTENER_tls].address = "127.0.0.1:0";
    fixture->options.tls_certificate_file = files.certificate;
    fixture->options.tls_key_file = files.key;
    fixture->options.tls_client_ca_file = "";
    write_identity(&files, &server);
}

static void before_tls(void **state)
{
    static const struct manner any = {0};
    struct fixture *fixture = *state;
    serve_tls(fixture);
    fixture->limits.limits_prelogin_per_source = 1;
    start_trusting(fixture);
    struct tls_peer peer = {.fd = connect_from(fixture, PROXY, LISTENER_tls)};
    send_header(peer.fd, "203.0.113.7", 4711);
    peer.ssl = shake_hands(peer.fd, &any);
    assert_non_null(peer.ssl);
    tls_send_frame(peer.ssl, 1, 'h');
    WAIT_FOR(records_count(fixture) == 1);
    peer.conn = record_handle(fixture, 0);
    expect_address(fixture, peer.conn, "203.0.113.7:4711");
    /* In the handshake it counts there already. */
    int second = connect_from(fixture, PROXY, LISTENER_tls);
    send_header(second, "203.0.113.7", 4712);
    expect_end(second);
    close(second);
    assert_int_equal(metric_of(fixture, METRIC_refused_source), 1);
    tls_close(&peer);
    WAIT_FOR(net_count(fixture->net) == 0);
}

/* A ClientHello instead of the header: nothing can be said to it, and the next one is served. */
static void tls_without_a_header(void **state)
{
    static const struct manner any = {0};
    struct fixture *fixture = *state;
    serve_tls(fixture);
    start_trusting(fixture);
    int fd = connect_from(fixture, PROXY, LISTENER_tls);
    assert_null(shake_hands(fd, &any));
    close(fd);
    expect_counts(fixture, 0, 0, 1, 0);
    /* And the header from a stranger is none of TLS. */
    fd = connect_from(fixture, STRANGER, LISTENER_tls);
    send_header(fd, "203.0.113.7", 1);
    expect_close(fd, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
    assert_int_equal(metric_of(fixture, METRIC_plain_on_tls_port), 1);
    /* Behind a proxy, no TLS on its port is told as always, and TLS on the other. */
    fd = connect_from(fixture, PROXY, LISTENER_tls);
    send_header(fd, "203.0.113.7", 1);
    send_all(fd, "\1h", 2);
    expect_close(fd, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
    fd = proxy(fixture);
    send_header(fd, "203.0.113.7", 1);
    assert_null(shake_hands(fd, &any));
    close(fd);
    assert_int_equal(metric_of(fixture, METRIC_tls_on_plain_port), 1);
    WAIT_FOR(net_count(fixture->net) == 0);
}

/* --- its life --------------------------------------------------------------------------------- */

static void trust_changes(void **state)
{
    struct fixture *fixture = *state;
    start_trusting(fixture);
    int waiting = proxy(fixture);
    WAIT_FOR(net_count(fixture->net) == 1);
    trust(fixture, NULL);
    int fd = proxy(fixture);
    send_frame(fd, 1, 'h');
    WAIT_FOR(records_count(fixture) == 1);
    /* Who was accepted before goes on as he began. */
    send_header(waiting, "203.0.113.7", 1);
    send_frame(waiting, 1, 'h');
    WAIT_FOR(records_count(fixture) == 2);
    expect_address(fixture, record_handle(fixture, 1), "203.0.113.7:1");
    trust(fixture, "127.0.0.0/8");
    close(fd);
    fd = connect_from(fixture, STRANGER, LISTENER_tcp);
    send_frame(fd, 1, 'h');
    expect_close(fd, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
    close(waiting);
}

static void stop_accepting_ends_those_who_wait(void **state)
{
    struct fixture *fixture = *state;
    start_trusting(fixture);
    int one = proxy(fixture), two = proxy(fixture);
    WAIT_FOR(net_count(fixture->net) == 2);
    send_all(two, "PROXY", 5);
    net_stop_accepting(fixture->net);
    expect_end(one);
    WAIT_FOR(net_count(fixture->net) == 0);
    close(one);
    close(two);
}

static void closed_with_everything_open(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_prelogin_per_source = 1;
    serve_tls(fixture);
    start_trusting(fixture);
    (void)behind_proxy(fixture, "203.0.113.7", 1);
    int waiting = proxy(fixture);
    int shaking = connect_from(fixture, PROXY, LISTENER_tls);
    send_header(shaking, "203.0.113.8", 1);
    WAIT_FOR(metric_of(fixture, METRIC_proxied) == 2);
    WAIT_FOR(net_count(fixture->net) == 3);
    (void)waiting;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_line_names_the_peer),
        TEST(a_binary_header_names_the_peer),
        TEST(byte_by_byte),
        TEST(everything_in_one_segment),
        TEST(a_proxy_that_speaks_for_itself),
        TEST(from_others_it_means_nothing),
        TEST(without_a_header_it_is_over),
        TEST(ended_before_the_header),
        TEST(a_header_that_does_not_come),
        TEST(half_a_header_costs_nothing),
        TEST(so_many_wait),
        TEST(they_count_as_open),
        TEST(many_in_turn),
        TEST(quotas_are_of_who_is_behind),
        TEST(health_checks_are_the_proxys),
        TEST(before_tls),
        TEST(tls_without_a_header),
        TEST(trust_changes),
        TEST(stop_accepting_ends_those_who_wait),
        TEST(closed_with_everything_open),
    };
    signal(SIGPIPE, SIG_IGN);
    open_files(&files);
    server = make_identity("localhost", NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    drop_identity(&server);
    remove_files(&files);
    return failed;
}
