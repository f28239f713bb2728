/* SPDX-License-Identifier: Apache-2.0 */
#include "net_fixture.h"

#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "broken.h"
#include "net/private.h"

/* How connections begin and end: deadlines, bind, unbind, return, release, resets, handles. */

/* --- deadlines -------------------------------------------------------------------------------- */

static void login_deadline(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_login_deadline_ms = 300;
    start(fixture);
    uint64_t begin_ms = clock_ms();
    int silent = client(fixture);
    struct peer talks = new_peer(fixture); /* talking does not help, only a login does */
    while (look(fixture, talks.conn).ends == 0 && clock_ms() < begin_ms + SLACK_MS) {
        send(talks.fd, "", 1, MSG_NOSIGNAL);
        nap_ms(20);
    }
    WAIT_FOR(records_count(fixture) == 2);
    for (unsigned i = 0; i < 2; i++) {
        conn_handle conn = record_handle(fixture, i);
        WAIT_FOR(look(fixture, conn).ends == 1);
        assert_int_equal(look(fixture, conn).end, CONN_LOGIN_DEADLINE);
        assert_in_range(look(fixture, conn).end_ms - begin_ms, 299, SLACK_MS);
    }
    expect_end(silent);
    close(silent);
    close(talks.fd);
}

/* One that has ended, but is not released, stands in no queue any more. */
static void login_deadline_in_spite_of_one_that_goes(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_login_deadline_ms = 300;
    fixture->binds = fixture->keeps = true;
    start(fixture);
    struct peer ended = new_peer(fixture);
    close(ended.fd);
    WAIT_FOR(look(fixture, ended.conn).ends == 1);
    int silent = client(fixture);
    WAIT_FOR(net_count(fixture->net) == 2);
    net_release(fixture->net, ended.conn);
    WAIT_FOR(net_count(fixture->net) == 1);
    fixture->keeps = false;
    WAIT_FOR(records_count(fixture) == 2);
    assert_int_equal(look(fixture, record_handle(fixture, 1)).end, CONN_LOGIN_DEADLINE);
    expect_end(silent);
    close(silent);
}

/* Its login waits for the store. */
static void login_deadline_spares_bound_ones(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_login_deadline_ms = 100;
    fixture->binds = fixture->judges = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    expect_silence(peer.fd, 400);
    assert_int_equal(look(fixture, peer.conn).ends, 0);
    /* Refused at last: its time is over. */
    net_unbind(fixture->net, peer.conn, "no", 2);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(look(fixture, peer.conn).end, CONN_LOGIN_DEADLINE);
    expect_bytes(peer.fd, "no", 2);
    expect_end(peer.fd);
    close(peer.fd);
}

static void silence(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.silence_ms = 400;
    fixture->binds = true;
    start(fixture);
    struct peer talks = new_peer(fixture);
    uint64_t begin_ms = clock_ms();
    struct peer silent = new_peer(fixture);
    while (look(fixture, silent.conn).ends == 0 && clock_ms() < begin_ms + SLACK_MS) {
        send_frame(talks.fd, 1, 'p');
        nap_ms(20);
    }
    assert_int_equal(look(fixture, silent.conn).ends, 1);
    assert_int_equal(look(fixture, silent.conn).end, CONN_SILENT);
    assert_int_equal(look(fixture, silent.conn).end_owner, OWNER);
    assert_in_range(look(fixture, silent.conn).end_ms - begin_ms, 399, SLACK_MS);
    assert_int_equal(look(fixture, talks.conn).ends, 0);
    WAIT_FOR(look(fixture, talks.conn).ends == 1);
    assert_int_equal(look(fixture, talks.conn).end, CONN_SILENT);
    close(silent.fd);
    close(talks.fd);
}

/* The low 32 bits of the clock begin anew after 49 days; here 150 ms from now, between the start
 * and the deadline. */
static uint64_t nearly_over_ns(void *context)
{
    const uint64_t *ahead_ns = context;
    return env_monotonic_ns(env_system()) + *ahead_ns;
}

static void where_32_bits_end(void **state, void test(void **state))
{
    struct fixture *fixture = *state;
    uint64_t now_ns = env_monotonic_ns(env_system());
    const uint64_t end_ns = (UINT64_C(1) << 32) * 1000000;
    uint64_t ahead_ns = end_ns - 150000000 - now_ns % end_ns;
    struct env env = *env_system();
    env.monotonic_ns = nearly_over_ns;
    env.context = &ahead_ns;
    fixture->options.env = &env;
    test(state);
    net_stop(fixture->net);
    net_close(fixture->net);
    fixture->net = NULL;
}

static void login_deadline_where_32_bits_end(void **state)
{
    where_32_bits_end(state, login_deadline);
}

static void silence_where_32_bits_end(void **state)
{
    where_32_bits_end(state, silence);
}

/* More of them than fit one look at the sockets have said something in time; then the I/O thread
 * comes to itself long after their deadlines. What is read is not judged by what is not read yet.
 */
enum { MANY = 300, LATE_MS = 3600000 };

static _Atomic uint64_t later_ms;

static uint64_t later_ns(void *context)
{
    return env_monotonic_ns(env_system()) + atomic_load(&later_ms) * 1000000;
}

static const struct env *env_of_later(void)
{
    static struct env env;
    env = *env_system();
    env.monotonic_ns = later_ns;
    return &env;
}

static void late_it_reads_before_it_judges(void **state)
{
    struct fixture *fixture = *state;
    atomic_store(&later_ms, 0);
    fixture->options.env = env_of_later();
    fixture->options.connections_max = 2 * MANY;
    fixture->limits.limits_prelogin_connections = 2 * MANY;
    start(fixture);
    struct peer first = new_peer(fixture);
    fixture->binds = true;
    struct peer peers[MANY];
    for (unsigned i = 0; i < MANY; i++)
        peers[i] = new_peer(fixture);
    int late = client(fixture);
    WAIT_FOR(net_count(fixture->net) == MANY + 2);
    gate(fixture, true); /* the thread stands still in this one's frame */
    send_frame(first.fd, 1, 'x');
    WAIT_FOR(look(fixture, first.conn).calls == 1);
    send_frame(late, 1, 'l'); /* its login waits at the door */
    for (unsigned i = 0; i < MANY; i++)
        if (i % 100 != 50)
            send_frame(peers[i].fd, 1, 'p');
    unsigned before = records_count(fixture);
    atomic_store(&later_ms, LATE_MS);
    gate(fixture, false);
    WAIT_FOR(records_count(fixture) > before); /* it was read */
    for (unsigned i = 0; i < MANY; i++) {
        bool silent = i % 100 == 50;
        if (silent)
            WAIT_FOR(look(fixture, peers[i].conn).ends == 1);
        else
            WAIT_FOR(look(fixture, peers[i].conn).calls == 1);
    }
    nap_ms(100);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(look(fixture, peers[i].conn).ends, i % 100 == 50);
    assert_int_equal(look(fixture, record_handle(fixture, before)).ends, 0);
    close(late);
    close(first.fd);
    for (unsigned i = 0; i < MANY; i++)
        close(peers[i].fd);
}

static void linger_is_bounded(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_close_linger_ms = 200;
    fixture->binds = true;
    start(fixture);
    struct peer stays = new_peer(fixture);
    uint64_t begin_ms = clock_ms();
    assert_int_equal(net_write(fixture->net, 0, stays.conn, "bye", 3), 0);
    net_release(fixture->net, stays.conn);
    expect_bytes(stays.fd, "bye", 3);
    expect_end(stays.fd);
    assert_int_equal(net_count(fixture->net), 1);
    WAIT_FOR(net_count(fixture->net) == 0);
    assert_in_range(clock_ms() - begin_ms, 199, SLACK_MS);
    assert_int_equal(metric_of(fixture, METRIC_connections_open), 0);
    close(stays.fd);
}

/* --- release ---------------------------------------------------------------------------------- */

static void release_ends_when_the_peer_ends(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    net_release(fixture->net, peer.conn);
    expect_end(peer.fd);
    /* What it says after that is read and dropped, and answered by no reset. */
    struct buffer out = {0};
    add_frame(&out, 60000, 'x');
    for (unsigned i = 0; i < 20; i++)
        send_all(peer.fd, out.data, out.size);
    assert_int_equal(net_count(fixture->net), 1);
    close(peer.fd);
    WAIT_FOR(net_count(fixture->net) == 0);
    assert_int_equal(look(fixture, peer.conn).calls, 0);
    assert_int_equal(look(fixture, peer.conn).ends, 0);
    buffer_fini(&out);
}

static void release_delivers_a_mebibyte_to_a_slow_reader(void **state)
{
    struct fixture *fixture = *state;
    enum { PART = 64 * 1024, WAITING = 1024 * 1024 };
    fixture->limits.limits_output_bytes = 2 * WAITING;
    fixture->binds = fixture->flushes_not = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    uint8_t *data = malloc(PART);
    unsigned parts = 0;
    /* The sockets take what they take; a mebibyte waits behind that. */
    for (const struct conn *conn = slot_find(fixture->net, peer.conn);
         conn->pending_size - conn->pending_offset < WAITING; parts++) {
        memset(data, (int)parts & 0xff, PART);
        assert_int_equal(net_write(fixture->net, 0, peer.conn, data, PART), 0);
    }
    net_release(fixture->net, peer.conn);
    for (unsigned i = 0; i < parts; i++) {
        memset(data, (int)i & 0xff, PART);
        expect_bytes(peer.fd, data, PART);
        nap_ms(2);
    }
    expect_end(peer.fd);
    close(peer.fd);
    WAIT_FOR(net_count(fixture->net) == 0);
    free(data);
}

/* The peer writes on while it is told good-bye: a reset would eat our last words. */
static void release_reads_on_so_that_the_last_words_arrive(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct buffer out = {0};
    add_frame(&out, 65000, 'x');
    gate(fixture, true); /* its bytes lie unread when it is released */
    send_all(peer.fd, out.data, out.size);
    WAIT_FOR(look(fixture, peer.conn).calls == 1);
    for (unsigned i = 0; i < 10; i++)
        send_all(peer.fd, out.data, out.size);
    assert_int_equal(net_write(fixture->net, 0, peer.conn, "last words", 10), 0);
    net_release(fixture->net, peer.conn);
    gate(fixture, false);
    for (unsigned i = 0; i < 10; i++)
        send_all(peer.fd, out.data, out.size);
    nap_ms(50);
    expect_bytes(peer.fd, "last words", 10);
    expect_end(peer.fd);
    close(peer.fd);
    WAIT_FOR(net_count(fixture->net) == 0);
    buffer_fini(&out);
}

static void a_second_release_means_nothing(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    gate(fixture, true); /* both before the I/O thread looks */
    send_frame(peer.fd, 1, 'x');
    WAIT_FOR(look(fixture, peer.conn).calls == 1);
    net_release(fixture->net, peer.conn);
    net_release(fixture->net, peer.conn);
    gate(fixture, false);
    expect_end(peer.fd);
    close(peer.fd);
    WAIT_FOR(net_count(fixture->net) == 0);
    net_release(fixture->net, peer.conn); /* it is gone */
}

/* Between its last look at the orders and its wait a thread may be held here. */
static _Atomic bool holds_waits, waits_held;

int epoll_wait(int epoll, struct epoll_event *events, int max, int timeout_ms)
{
    while (atomic_load(&holds_waits)) {
        atomic_store(&waits_held, true);
        nap_ms(1);
    }
    return (int)syscall(SYS_epoll_pwait, epoll, events, max, timeout_ms, NULL, 8);
}

/* The order and the peer's answer to what was written with it are found in one round. */
static void an_answer_to_the_last_words_is_not_heard(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer other = new_peer(fixture);
    struct peer peer = new_peer(fixture);
    atomic_store(&waits_held, false);
    atomic_store(&holds_waits, true);
    send_frame(other.fd, 1, 'x');
    WAIT_FOR(atomic_load(&waits_held));
    assert_int_equal(net_write(fixture->net, 0, peer.conn, "bye", 3), 0);
    net_release(fixture->net, peer.conn);
    expect_bytes(peer.fd, "bye", 3);
    send_frame(peer.fd, 1, 'a');
    nap_ms(20);
    atomic_store(&holds_waits, false);
    expect_end(peer.fd);
    assert_int_equal(look(fixture, peer.conn).calls, 0);
    close(peer.fd);
    close(other.fd);
    WAIT_FOR(net_count(fixture->net) == 0);
}

/* --- unbind and return ------------------------------------------------------------------------ */

static void unbind_leaves_it_free_to_log_in(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_prelogin_connections = 2;
    fixture->binds = fixture->judges = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    fixture->binds = false;
    net_unbind(fixture->net, peer.conn, "refused", 7);
    expect_bytes(peer.fd, "refused", 7);
    send_frame(peer.fd, 1, 'a');
    WAIT_FOR(look(fixture, peer.conn).calls == 1);
    assert_int_equal(look(fixture, peer.conn).owner, 0);
    assert_false(look(fixture, peer.conn).welcomed);
    fixture->binds = true;
    fixture->judges = false;
    send_frame(peer.fd, 1, 'b');
    WAIT_FOR(look(fixture, peer.conn).calls == 2);
    send_frame(peer.fd, 1, 'c');
    WAIT_FOR(look(fixture, peer.conn).calls == 3);
    assert_int_equal(look(fixture, peer.conn).owner, OWNER);
    assert_int_equal(net_write(fixture->net, 0, peer.conn, "hi", 2), 0);
    expect_bytes(peer.fd, "hi", 2);
    close(peer.fd);
}

/* What the peer sends in answer to the last words finds it unbound, whatever the timing. */
static void answers_to_last_words_find_it_unbound(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->judges = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    for (unsigned i = 0; i < 300; i++) {
        net_unbind(fixture->net, peer.conn, "again", 5);
        expect_bytes(peer.fd, "again", 5);
        send_frame(peer.fd, 1, 'x');
        WAIT_FOR(look(fixture, peer.conn).calls == i + 1);
        assert_int_equal(look(fixture, peer.conn).owner, 0); /* and bound again by it */
    }
    close(peer.fd);
}

static void unbound_after_its_end_it_ends_again(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->judges = fixture->keeps = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    shutdown(peer.fd, SHUT_WR);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(look(fixture, peer.conn).end_owner, OWNER);
    fixture->keeps = false;
    net_unbind(fixture->net, peer.conn, "refused", 7);
    WAIT_FOR(look(fixture, peer.conn).ends == 2);
    assert_int_equal(look(fixture, peer.conn).end_owner, 0);
    assert_int_equal(look(fixture, peer.conn).end, CONN_LOST);
    expect_bytes(peer.fd, "refused", 7);
    expect_end(peer.fd);
    WAIT_FOR(net_count(fixture->net) == 0);
    close(peer.fd);
}

static uint64_t *item_of(uint64_t owner)
{
    uint64_t *item = malloc(sizeof(*item));
    assert_non_null(item);
    *item = owner;
    return item;
}

/* What came behind its login is the new owner's. */
static void returned_it_can_have_another_owner(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->judges = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    uint64_t before = metric_of(fixture, METRIC_bytes_in);
    send_frame(peer.fd, 1, 'a');
    WAIT_FOR(metric_of(fixture, METRIC_bytes_in) == before + 2);
    net_return(fixture->net, peer.conn, item_of(OWNER + 1));
    WAIT_FOR(ask(fixture, peer.conn).owner == OWNER + 1);
    assert_int_equal(look(fixture, peer.conn).calls, 0);
    net_welcome(fixture->net, peer.conn);
    WAIT_FOR(look(fixture, peer.conn).calls == 1);
    assert_int_equal(look(fixture, peer.conn).owner, OWNER + 1);
    close(peer.fd);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(look(fixture, peer.conn).end_owner, OWNER + 1);
}

/* Its first owner was told of the end and is gone: the new one must hear of it. */
static void returned_after_its_end_it_ends_again(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->judges = fixture->keeps = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    close(peer.fd);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    fixture->keeps = false;
    net_return(fixture->net, peer.conn, item_of(OWNER + 1));
    WAIT_FOR(look(fixture, peer.conn).ends == 2);
    assert_int_equal(look(fixture, peer.conn).end_owner, OWNER + 1);
    WAIT_FOR(net_count(fixture->net) == 0);
}

/* What was returned to threads that have ended is nobody's. */
static void returned_too_late_it_is_freed(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->judges = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    net_stop(fixture->net);
    net_return(fixture->net, peer.conn, item_of(OWNER)); /* the leak checker looks */
    close(peer.fd);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void half_close_still_gets_its_answer(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->keeps = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct buffer out = {0};
    add_frame(&out, 1000, 'q');
    send_all(peer.fd, out.data, out.size);
    shutdown(peer.fd, SHUT_WR);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    expect_frames(fixture, peer.conn, out.data, out.size);
    assert_int_equal(look(fixture, peer.conn).end, CONN_LOST);
    assert_int_equal(net_write(fixture->net, 0, peer.conn, "answer", 6), 0);
    net_release(fixture->net, peer.conn);
    expect_bytes(peer.fd, "answer", 6);
    expect_end(peer.fd);
    WAIT_FOR(net_count(fixture->net) == 0);
    close(peer.fd);
    buffer_fini(&out);
}

static void reset_by_peer(int fd)
{
    struct linger linger = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(fd);
}

/* The I/O thread is kept busy until both have arrived, so it sees them as one event. */
static void reset_together_with_the_last_bytes(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer other = new_peer(fixture);
    struct peer peer = new_peer(fixture);
    struct buffer out = {0};
    for (unsigned i = 0; i < 5; i++)
        add_frame(&out, 8000, (uint8_t)('a' + i));
    gate(fixture, true);
    send_frame(other.fd, 1, 'x');
    WAIT_FOR(look(fixture, other.conn).calls == 1);
    send_all(peer.fd, out.data, out.size);
    int unsent = 1; /* a reset throws away what the other side does not have yet */
    WAIT_FOR(ioctl(peer.fd, SIOCOUTQ, &unsent) == 0 && unsent == 0);
    reset_by_peer(peer.fd);
    nap_ms(20);
    gate(fixture, false);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    expect_frames(fixture, peer.conn, out.data, out.size);
    assert_int_equal(look(fixture, peer.conn).end, CONN_LOST);
    assert_int_equal(look(fixture, peer.conn).calls_after_end, 0);
    WAIT_FOR(net_count(fixture->net) == 1);
    close(other.fd);
    buffer_fini(&out);
}

static void end_together_with_the_last_bytes(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    unsigned before = records_count(fixture);
    int fd = client(fixture);
    send_frame(fd, 7, 'z');
    close(fd);
    WAIT_FOR(records_count(fixture) > before);
    conn_handle conn = record_handle(fixture, before);
    WAIT_FOR(look(fixture, conn).ends == 1);
    assert_int_equal(frames_size(fixture, conn), 8);
    WAIT_FOR(net_count(fixture->net) == 0);
}

static void a_cut_frame_is_dropped_with_its_connection(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    struct peer peer = new_peer(fixture);
    send_all(peer.fd,
             "\x05"
             "ab",
             3);
    close(peer.fd);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(frames_size(fixture, peer.conn), 0);
    WAIT_FOR(net_count(fixture->net) == 0);
}

static void a_reset_peer_gives_epipe(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->keeps = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    reset_by_peer(peer.fd);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    WAIT_FOR(net_write(fixture->net, 0, peer.conn, "x", 1) == -EPIPE); /* and no SIGPIPE */
    assert_int_equal(net_write(fixture->net, 0, peer.conn, "x", 1), -EPIPE);
    assert_int_equal(net_flush(fixture->net, 0, peer.conn), -EPIPE);
    net_release(fixture->net, peer.conn);
    WAIT_FOR(net_count(fixture->net) == 0);
}

/* Given back with last words for a peer who has reset by then: he is lost, and nothing was too
 * much. The I/O thread is kept in a call until that is so. */
static void last_words_to_who_is_gone(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->judges = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    fixture->judges = false;
    struct peer other = new_peer(fixture);
    gate(fixture, true);
    send_frame(other.fd, 1, 'x');
    fixture->binds = false;
    WAIT_FOR(look(fixture, other.conn).calls == 1);
    reset_by_peer(peer.fd);
    net_unbind(fixture->net, peer.conn, "refused", 7);
    gate(fixture, false);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(look(fixture, peer.conn).end_owner, 0);
    assert_int_equal(look(fixture, peer.conn).end, CONN_LOST);
    WAIT_FOR(net_count(fixture->net) == 1);
    close(other.fd);
}

/* The same of answers to an unbound one, written while its frames are looked at. */
static void an_answer_to_who_is_gone(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    struct peer peer = new_peer(fixture);
    gate(fixture, true);
    send_frame(peer.fd, 1, 'x');
    WAIT_FOR(look(fixture, peer.conn).calls == 1);
    reset_by_peer(peer.fd);
    fixture->answers = true; /* as the layer above does */
    gate(fixture, false);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(look(fixture, peer.conn).end, CONN_LOST);
    WAIT_FOR(net_count(fixture->net) == 0);
}

/* Ended by us while its peer resets: the release must still close it. */
static void a_reset_while_it_waits_for_its_release(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->keeps = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    send_all(peer.fd, "\xff\xff\xff\xff\xff", 5);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    reset_by_peer(peer.fd);
    nap_ms(30);
    net_release(fixture->net, peer.conn);
    WAIT_FOR(net_count(fixture->net) == 0);
    assert_int_equal(look(fixture, peer.conn).ends, 1);
}

/* --- handles ---------------------------------------------------------------------------------- */

static void a_slot_is_used_again_under_a_new_generation(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer first = new_peer(fixture);
    close(first.fd);
    WAIT_FOR(net_count(fixture->net) == 0);
    struct peer second = new_peer(fixture);
    assert_int_equal((uint32_t)first.conn, (uint32_t)second.conn);
    assert_int_not_equal(first.conn, second.conn);
    /* A stale handle finds nothing, and hurts nobody. */
    struct question stale = ask(fixture, first.conn);
    assert_int_equal(stale.owner, 0);
    assert_false(stale.has_address);
    assert_string_equal(stale.address, "");
    for (unsigned i = 0; i < 20; i++)
        net_consumed(fixture->net, first.conn);
    send_frame(second.fd, 1, 'x');
    WAIT_FOR(look(fixture, second.conn).calls == 1);
    assert_int_equal(look(fixture, first.conn).calls, 0);
    close(second.fd);
}

struct letter {
    struct net *net;
    conn_handle to;
};

static void write_letter(void *argument)
{
    const struct letter *letter = argument;
    net_write(letter->net, 0, letter->to, "x", 1);
}

static void writing_to_a_stale_handle_is_a_broken_invariant(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    close(peer.fd);
    WAIT_FOR(net_count(fixture->net) == 0);
    struct letter letter = {fixture->net, peer.conn};
    assert_true(is_broken(write_letter, &letter, "conn != NULL"));
}

/* The count of a batch may arrive after its connection's slot has its next owner, when the
 * counting thread had found the old one in time. */
static void a_late_count_does_not_stop_the_slots_next_life(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct conn *conn = slot_find(fixture->net, peer.conn);
    assert_non_null(conn);
    atomic_fetch_add(&conn->chunks_done, 3);
    for (unsigned i = 1; i <= 30; i++) {
        send_frame(peer.fd, 1, 'x');
        WAIT_FOR(look(fixture, peer.conn).calls == i);
    }
    close(peer.fd);
}

static void many_come_and_go(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    fixture->limits.limits_prelogin_connections = 64;
    start(fixture);
    for (unsigned round = 0; round < 8; round++) {
        int fds[40];
        for (unsigned i = 0; i < 40; i++) {
            fds[i] = client(fixture);
            send_frame(fds[i], 3, 'm');
        }
        WAIT_FOR(records_count(fixture) == (round + 1) * 40);
        for (unsigned i = 0; i < 40; i++)
            if (i % 3 == 0)
                reset_by_peer(fds[i]);
            else
                close(fds[i]);
        WAIT_FOR(net_count(fixture->net) == 0);
    }
    for (unsigned i = 0; i < 320; i++) {
        struct record record = look(fixture, record_handle(fixture, i));
        assert_int_equal(record.ends, 1);
        assert_int_equal(record.calls, 1);
    }
    assert_int_equal(metric_of(fixture, METRIC_connections_open), 0);
    assert_int_equal(metric_of(fixture, METRIC_connections_accepted), 320);
}

/* Whoever rings when a batch has begun is heard by the next one, also when that batch was rung for.
 */
static void a_ring_while_a_batch_begins(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    struct peer peer = new_peer(fixture);
    for (unsigned i = 0; i < 20; i++) {
        fixture->rings = 3;
        net_wake(fixture->net, peer.conn);
        WAIT_FOR(fixture->rings == 0);
    }
    close(peer.fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(login_deadline),
        TEST(a_ring_while_a_batch_begins),
        TEST(login_deadline_in_spite_of_one_that_goes),
        TEST(login_deadline_spares_bound_ones),
        TEST(silence),
        TEST(login_deadline_where_32_bits_end),
        TEST(silence_where_32_bits_end),
        TEST(late_it_reads_before_it_judges),
        TEST(an_answer_to_the_last_words_is_not_heard),
        TEST(linger_is_bounded),
        TEST(release_ends_when_the_peer_ends),
        TEST(release_delivers_a_mebibyte_to_a_slow_reader),
        TEST(release_reads_on_so_that_the_last_words_arrive),
        TEST(a_second_release_means_nothing),
        TEST(unbind_leaves_it_free_to_log_in),
        TEST(answers_to_last_words_find_it_unbound),
        TEST(unbound_after_its_end_it_ends_again),
        TEST(returned_it_can_have_another_owner),
        TEST(returned_after_its_end_it_ends_again),
        TEST(returned_too_late_it_is_freed),
        TEST(half_close_still_gets_its_answer),
        TEST(reset_together_with_the_last_bytes),
        TEST(end_together_with_the_last_bytes),
        TEST(a_cut_frame_is_dropped_with_its_connection),
        TEST(a_reset_peer_gives_epipe),
        TEST(last_words_to_who_is_gone),
        TEST(an_answer_to_who_is_gone),
        TEST(a_reset_while_it_waits_for_its_release),
        TEST(a_slot_is_used_again_under_a_new_generation),
        TEST(writing_to_a_stale_handle_is_a_broken_invariant),
        TEST(a_late_count_does_not_stop_the_slots_next_life),
        TEST(many_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
