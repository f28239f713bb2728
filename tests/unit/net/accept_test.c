/* SPDX-License-Identifier: Apache-2.0 */
#include "net_fixture.h"

#include <dirent.h>
#include <sys/resource.h>

#include "client.pb-c.h"

/* Who gets in: limits, lack of descriptors, several I/O threads, opening and stopping. */

/* Refused with Close(OVERLOADED), then the end. */
static void expect_overloaded(int fd)
{
    uint8_t bytes[256];
    size_t size = 0;
    ssize_t got;
    while ((got = recv(fd, bytes + size, sizeof(bytes) - size, 0)) > 0)
        size += (size_t)got;
    assert_int_equal(got, 0);
    struct bytes frame;
    size_t used;
    assert_int_equal(frame_next((struct bytes){bytes, size}, sizeof(bytes), &frame, &used), 1);
    assert_int_equal(used, size);
    Usher__V1__BrokerFrame *said = usher__v1__broker_frame__unpack(NULL, frame.size, frame.data);
    assert_non_null(said);
    assert_int_equal(said->body_case, USHER__V1__BROKER_FRAME__BODY_CLOSE);
    assert_int_equal(said->close->reason, USHER__V1__CLOSE__REASON__OVERLOADED);
    assert_true(said->close->retry_after_ms > 0);
    usher__v1__broker_frame__free_unpacked(said, NULL);
    close(fd);
}

static void connections_limit(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.connections_max = 3;
    fixture->binds = true;
    start(fixture);
    struct peer peers[3];
    for (unsigned i = 0; i < 3; i++)
        peers[i] = new_peer(fixture);
    expect_overloaded(client(fixture));
    expect_overloaded(client(fixture));
    assert_int_equal(net_count(fixture->net), 3);
    send_frame(peers[2].fd, 1, 'x');
    WAIT_FOR(look(fixture, peers[2].conn).calls == 1);
    close(peers[0].fd);
    WAIT_FOR(net_count(fixture->net) == 2);
    struct peer next = new_peer(fixture);
    expect_overloaded(client(fixture));
    close(next.fd);
    close(peers[1].fd);
    close(peers[2].fd);
}

static void unbound_limit(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_prelogin_connections = 2;
    start(fixture);
    struct peer one = new_peer(fixture);
    struct peer two = new_peer(fixture);
    expect_overloaded(client(fixture));
    /* A login makes room, a refused one takes it back, an end makes room again. */
    fixture->binds = fixture->judges = true;
    send_frame(one.fd, 1, 'x');
    WAIT_FOR(look(fixture, one.conn).calls == 1);
    fixture->binds = false;
    struct peer three = new_peer(fixture);
    expect_overloaded(client(fixture));
    close(three.fd);
    WAIT_FOR(net_count(fixture->net) == 2);
    net_unbind(fixture->net, one.conn, "no", 2);
    expect_bytes(one.fd, "no", 2);
    expect_overloaded(client(fixture));
    close(two.fd);
    WAIT_FOR(net_count(fixture->net) == 1);
    struct peer four = new_peer(fixture);
    expect_overloaded(client(fixture));
    close(one.fd);
    close(four.fd);
}

/* A crowd that arrives at once, while the I/O threads that get them are busy. */
static void unbound_limit_holds_against_a_crowd(void **state)
{
    struct fixture *fixture = *state;
    enum { CROWD = 24, LIMIT = 5 };
    fixture->limits.limits_prelogin_connections = LIMIT;
    fixture->options.reactors = 3;
    start(fixture);
    int fds[CROWD];
    for (unsigned i = 0; i < CROWD; i++)
        fds[i] = client(fixture);
    WAIT_FOR(metric_of(fixture, METRIC_refused_prelogin) == CROWD - LIMIT);
    WAIT_FOR(net_count(fixture->net) ==
             LIMIT); /* those at the door of a busy thread are refused by it */
    unsigned let_in = 0;
    for (unsigned i = 0; i < CROWD; i++) {
        uint8_t byte;
        nap_ms(1);
        let_in += recv(fds[i], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
        close(fds[i]);
    }
    assert_int_equal(let_in, LIMIT);
    WAIT_FOR(net_count(fixture->net) == 0);
    struct peer peer = new_peer(fixture);
    close(peer.fd);
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count - 3; /* ".", "..", the folder itself */
}

struct shortage {
    struct rlimit before;
    int fillers[1024];
    unsigned count;
};

/* Leaves `room` descriptors to the process. */
static void begin_shortage(struct shortage *shortage, unsigned room)
{
    int fd;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &shortage->before), 0);
    struct rlimit low = {.rlim_cur = 512, .rlim_max = shortage->before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    for (shortage->count = 0; (fd = dup(STDIN_FILENO)) >= 0; shortage->count++)
        shortage->fillers[shortage->count] = fd;
    for (; room > 0; room--)
        close(shortage->fillers[--shortage->count]);
}

static void end_shortage(struct shortage *shortage)
{
    while (shortage->count > 0)
        close(shortage->fillers[--shortage->count]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &shortage->before), 0);
}

static void out_of_descriptors_it_pauses(void **state)
{
    struct fixture *fixture = *state;
    enum { CLIENTS = 6 };
    fixture->binds = true;
    start(fixture);
    struct peer first = new_peer(fixture);
    int fds[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++)
        fds[i] = new_socket();
    struct shortage shortage;
    begin_shortage(&shortage, 0);
    for (unsigned i = 0; i < CLIENTS; i++)
        assert_int_equal(connect_socket(fixture, fds[i]), 0);
    WAIT_FOR(metric_of(fixture, METRIC_accept_paused) > 0);
    uint64_t cpu = cpu_ms();
    uint64_t batches = batches_count(fixture);
    nap_ms(400);
    uint64_t spent_cpu = cpu_ms() - cpu;
    uint64_t spent_batches = batches_count(fixture) - batches;
    /* Who is in is served meanwhile. */
    send_frame(first.fd, 1, 'x');
    WAIT_FOR(look(fixture, first.conn).calls == 1);
    end_shortage(&shortage);
    assert_true(spent_cpu < 200);
    assert_true(spent_batches < 30);
    WAIT_FOR(net_count(fixture->net) == 1 + CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++) {
        send_frame(fds[i], 1, 'x');
        close(fds[i]);
    }
    WAIT_FOR(net_count(fixture->net) == 1);
    assert_int_equal(records_count(fixture), 1 + CLIENTS);
    close(first.fd);
}

/* Stopped in the middle of a pause. */
static void a_pause_does_not_outlive_the_stop(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    int fd = new_socket();
    struct shortage shortage;
    begin_shortage(&shortage, 0);
    assert_int_equal(connect_socket(fixture, fd), 0);
    WAIT_FOR(metric_of(fixture, METRIC_accept_paused) > 0);
    net_stop_accepting(fixture->net);
    nap_ms(50);
    end_shortage(&shortage);
    nap_ms(200);
    assert_int_equal(net_count(fixture->net), 0);
    close(fd);
}

static void several_reactors_share_the_connections(void **state)
{
    struct fixture *fixture = *state;
    enum { REACTORS = 3, EACH = 4 };
    fixture->options.reactors = REACTORS;
    fixture->binds = true;
    start(fixture);
    struct peer peers[REACTORS * EACH];
    unsigned counts[REACTORS] = {0};
    for (unsigned i = 0; i < REACTORS * EACH; i++) {
        peers[i] = new_peer(fixture);
        unsigned index = (unsigned)(peers[i].conn >> 24 & 0xff);
        assert_true(index < REACTORS);
        counts[index]++;
        assert_ptr_equal(look(fixture, peers[i].conn).thread, &fixture->threads[index]);
    }
    for (unsigned i = 0; i < REACTORS; i++)
        assert_int_equal(counts[i], EACH);
    for (unsigned i = 0; i < REACTORS * EACH; i++) {
        send_frame(peers[i].fd, 1, (uint8_t)('a' + i));
        uint8_t frame[2] = {1, (uint8_t)('a' + i)};
        expect_frames(fixture, peers[i].conn, frame, 2);
        assert_int_equal(net_write(fixture->net, 3, peers[i].conn, frame, 2), 0);
        net_release(fixture->net, peers[i].conn);
    }
    for (unsigned i = 0; i < REACTORS * EACH; i++) {
        uint8_t frame[2] = {1, (uint8_t)('a' + i)};
        expect_bytes(peers[i].fd, frame, 2);
        expect_end(peers[i].fd);
        close(peers[i].fd);
    }
    WAIT_FOR(net_count(fixture->net) == 0);
}

static void stop_accepting_ends_the_unbound(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.reactors = 2;
    fixture->binds = true;
    start(fixture);
    struct peer bound[2] = {new_peer(fixture), new_peer(fixture)};
    fixture->binds = false;
    struct peer unbound[2] = {new_peer(fixture), new_peer(fixture)};
    int silent[2] = {client(fixture), client(fixture)};
    WAIT_FOR(net_count(fixture->net) == 6);
    net_stop_accepting(fixture->net);
    for (unsigned i = 0; i < 2; i++) {
        WAIT_FOR(look(fixture, unbound[i].conn).ends == 1);
        assert_int_equal(look(fixture, unbound[i].conn).end, CONN_STOPPING);
        expect_end(unbound[i].fd);
        expect_end(silent[i]);
        close(unbound[i].fd);
        close(silent[i]);
    }
    WAIT_FOR(net_count(fixture->net) == 2);
    int late = new_socket();
    assert_int_equal(connect_socket(fixture, late), -ECONNREFUSED);
    close(late);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(look(fixture, bound[i].conn).ends, 0);
        send_frame(bound[i].fd, 1, 'x');
        WAIT_FOR(look(fixture, bound[i].conn).calls == 1);
        assert_int_equal(net_write(fixture->net, 0, bound[i].conn, "x", 1), 0);
        expect_bytes(bound[i].fd, "x", 1);
        close(bound[i].fd);
    }
    WAIT_FOR(net_count(fixture->net) == 0);
}

static void idle_it_costs_nothing(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.reactors = 2;
    fixture->binds = true;
    start(fixture);
    struct peer peers[10];
    for (unsigned i = 0; i < 10; i++)
        peers[i] = new_peer(fixture);
    nap_ms(50);
    uint64_t cpu = cpu_ms();
    uint64_t batches = batches_count(fixture);
    nap_ms(500);
    assert_true(cpu_ms() - cpu < 50);
    assert_int_equal(batches_count(fixture), batches);
    for (unsigned i = 0; i < 10; i++)
        close(peers[i].fd);
}

/* Orders from other threads wake a sleeping I/O thread at once, whatever its next deadline. */
static void orders_wake_a_sleeper(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->judges = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    for (unsigned i = 0; i < 500; i++) {
        net_unbind(fixture->net, peer.conn, "w", 1);
        expect_bytes(peer.fd, "w", 1);
        send_frame(peer.fd, 0, 0);
        WAIT_FOR(look(fixture, peer.conn).calls == i + 1);
    }
    close(peer.fd);
}

/* --- opening ---------------------------------------------------------------------------------- */

static void a_port_in_use(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    char address[32];
    char error[256] = "";
    snprintf(address, sizeof(address), "127.0.0.1:%u", net_port(fixture->net, LISTENER_tcp));
    struct net *first = fixture->net;
    unsigned before = open_descriptors();
    fixture->options.listen[LISTENER_tcp].address = address;
    fixture->net = NULL;
    assert_int_equal(open_front(fixture, error), -EADDRINUSE);
    assert_null(fixture->net);
    assert_non_null(strstr(error, address));
    assert_non_null(strstr(error, "listen.tcp"));
    assert_non_null(strstr(error, "give another port")); /* what to do */
    assert_int_equal(open_descriptors(), before);
    fixture->net = first;
}

static void bad_addresses(void **state)
{
    struct fixture *fixture = *state;
    static const char *const bad[] = {"",           "7400",           "127.0.0.1",
                                      "127.0.0.1:", "127.0.0.1:x7",   "no such host:1",
                                      "[::1:7400",  "127.0.0.1:99999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char error[256] = "";
        fixture->options.listen[LISTENER_tcp].address = bad[i];
        int failed = open_front(fixture, error);
        if (failed != -EINVAL || strstr(error, "listen.tcp") == NULL || fixture->net != NULL)
            fail_msg("'%s': %d %s", bad[i], failed, error);
    }
    /* Of nobody here: what bind says. */
    char error[256] = "";
    fixture->options.listen[LISTENER_tcp].address = "192.0.2.1:0";
    assert_int_equal(open_front(fixture, error), -EADDRNOTAVAIL);
    assert_non_null(strstr(error, "192.0.2.1"));
}

/* At whichever descriptor it fails, nothing is left behind. */
static void opening_without_descriptors(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.reactors = 2;
    unsigned open_before = open_descriptors();
    for (unsigned room = 0; room < 5; room++) { /* it needs five */
        char error[256] = "";
        struct shortage shortage;
        begin_shortage(&shortage, room);
        int failed = open_front(fixture, error);
        end_shortage(&shortage);
        assert_int_not_equal(failed, 0);
        assert_null(fixture->net);
        assert_string_not_equal(error, "");
        assert_int_equal(open_descriptors(), open_before);
    }
    start(fixture);
}

static void closed_unstarted(void **state)
{
    struct fixture *fixture = *state;
    char error[256];
    unsigned before = open_descriptors();
    assert_int_equal(open_front(fixture, error), 0);
    assert_true(net_port(fixture->net, LISTENER_tcp) > 0);
    net_stop(fixture->net);
    net_close(fixture->net);
    fixture->net = NULL;
    assert_int_equal(open_descriptors(), before);
}

/* Whatever is open, written or waiting: all of it goes with the front end. */
static void closed_with_everything_open(void **state)
{
    struct fixture *fixture = *state;
    unsigned before = open_descriptors();
    fixture->options.reactors = 2;
    fixture->binds = fixture->judges = fixture->keeps = true;
    start(fixture);
    struct peer peers[4];
    for (unsigned i = 0; i < 4; i++)
        peers[i] = new_peer(fixture);
    uint8_t *data = calloc(1, 1024 * 1024);
    int error = 0;
    while (error == 0) /* something waits */
        error = net_write(fixture->net, 0, peers[0].conn, data, 100000);
    send_all(peers[1].fd, "\x09xyz", 4); /* half a frame */
    net_unbind(fixture->net, peers[2].conn, data, 100);
    net_stop(fixture->net);
    net_close(fixture->net);
    fixture->net = NULL;
    for (unsigned i = 0; i < 4; i++)
        close(peers[i].fd);
    assert_int_equal(open_descriptors(), before);
    free(data);
}

static void addresses_as_text(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct sockaddr_in own;
    socklen_t size = sizeof(own);
    char expected[NET_ADDRESS_BYTES_MAX];
    char text[NET_ADDRESS_BYTES_MAX];
    assert_int_equal(getsockname(peer.fd, (struct sockaddr *)&own, &size), 0);
    snprintf(expected, sizeof(expected), "127.0.0.1:%u", ntohs(own.sin_port));
    snprintf(text, sizeof(text), "%s", ask(fixture, peer.conn).address);
    assert_string_equal(text, expected);
    close(peer.fd);
}

/* Told for people, and counted: to come by another one is another row's number. */
static void by_which_listener_they_came(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    assert_int_equal(ask(fixture, peer.conn).listener, LISTENER_tcp);
    for (unsigned kind = 0; kind < LISTENERS; kind++) {
        bool his = kind == LISTENER_tcp;
        assert_int_equal(metric_of(fixture, listener_rows[kind].accepted), his);
        assert_int_equal(metric_of(fixture, listener_rows[kind].open), his);
    }
    close(peer.fd);
    WAIT_FOR(metric_of(fixture, METRIC_connections_open) == 0);
    assert_int_equal(metric_of(fixture, METRIC_connections_open_tcp), 0);
    assert_int_equal(metric_of(fixture, METRIC_connections_accepted_tcp), 1);
}

/* Found as a race of whoever asks with the thread that closes the listener. */
static void where_it_listens_is_told_while_it_stops(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    char before[NET_ADDRESS_BYTES_MAX], text[NET_ADDRESS_BYTES_MAX], expected[64];
    snprintf(expected, sizeof(expected), "127.0.0.1:%u", net_port(fixture->net, LISTENER_tcp));
    net_listen_address(fixture->net, LISTENER_tcp, before);
    assert_string_equal(before, expected);
    net_stop_accepting(fixture->net);
    for (int i = 0; i < 100; i++) {
        net_listen_address(fixture->net, LISTENER_tcp, text);
        assert_string_equal(text, before);
        nap_ms(1);
    }
}

static bool has_version_six(void)
{
    const struct sockaddr_in6 address = {.sin6_family = AF_INET6,
                                         .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
    if (fd >= 0)
        close(fd);
    return has;
}

static void version_six(void **state)
{
    struct fixture *fixture = *state;
    char error[256];
    fixture->options.listen[LISTENER_tcp].address = "[::1]:0";
    fixture->binds = true;
    if (!has_version_six())
        skip();
    assert_int_equal(open_front(fixture, error), 0);
    assert_int_equal(net_start(fixture->net), 0);
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 address = {.sin6_family = AF_INET6,
                                   .sin6_port = htons(net_port(fixture->net, LISTENER_tcp)),
                                   .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    send_frame(fd, 1, 'x');
    WAIT_FOR(records_count(fixture) == 1);
    socklen_t size = sizeof(address);
    char expected[NET_ADDRESS_BYTES_MAX];
    char text[NET_ADDRESS_BYTES_MAX];
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    snprintf(expected, sizeof(expected), "[::1]:%u", ntohs(address.sin6_port));
    snprintf(text, sizeof(text), "%s", ask(fixture, record_handle(fixture, 0)).address);
    assert_string_equal(text, expected);
    close(fd);
}

/* A socket for both: who comes by IPv4 is told as that. */
static void version_four_over_six(void **state)
{
    struct fixture *fixture = *state;
    char error[256];
    fixture->options.listen[LISTENER_tcp].address = "[::]:0";
    fixture->binds = true;
    if (!has_version_six())
        skip();
    assert_int_equal(open_front(fixture, error), 0);
    assert_int_equal(net_start(fixture->net), 0);
    struct peer peer = new_peer(fixture);
    struct sockaddr_in own;
    socklen_t size = sizeof(own);
    char expected[NET_ADDRESS_BYTES_MAX];
    char text[NET_ADDRESS_BYTES_MAX];
    assert_int_equal(getsockname(peer.fd, (struct sockaddr *)&own, &size), 0);
    snprintf(expected, sizeof(expected), "127.0.0.1:%u", ntohs(own.sin_port));
    snprintf(text, sizeof(text), "%s", ask(fixture, peer.conn).address);
    assert_string_equal(text, expected);
    close(peer.fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(connections_limit),
        TEST(unbound_limit),
        TEST(unbound_limit_holds_against_a_crowd),
        TEST(out_of_descriptors_it_pauses),
        TEST(a_pause_does_not_outlive_the_stop),
        TEST(where_it_listens_is_told_while_it_stops),
        TEST(several_reactors_share_the_connections),
        TEST(stop_accepting_ends_the_unbound),
        TEST(idle_it_costs_nothing),
        TEST(orders_wake_a_sleeper),
        TEST(a_port_in_use),
        TEST(version_four_over_six),
        TEST(bad_addresses),
        TEST(opening_without_descriptors),
        TEST(closed_unstarted),
        TEST(closed_with_everything_open),
        TEST(addresses_as_text),
        TEST(by_which_listener_they_came),
        TEST(version_six),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
