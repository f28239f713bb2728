/* SPDX-License-Identifier: Apache-2.0 */
#include "net_fixture.h"

#include <fcntl.h>

#include "net/private.h"

/* Connections that go over to another front end: every byte of both directions comes once and in
 * order, and nobody on the other end of a socket can tell. The other front end is in this process;
 * its descriptors are duplicates, as they are when a process gets them from another. */

enum { MOVED_MAX = 64 };

struct crate {
    struct net_moved moved[MOVED_MAX];
    size_t count, left;
    uint32_t generation;
    int listener;
};

static struct bytes copy(struct bytes from)
{
    uint8_t *to = malloc(from.size + 1);
    assert_non_null(to);
    if (from.size > 0)
        memcpy(to, from.data, from.size);
    return (struct bytes){to, from.size};
}

static int again(int fd)
{
    int copied = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    assert_true(copied >= 0);
    return copied;
}

static void pack_one(void *context, const struct net_moved *moved)
{
    struct crate *crate = context;
    assert_in_range(crate->count, 0, MOVED_MAX - 1);
    struct net_moved *to = &crate->moved[crate->count++];
    *to = *moved;
    to->fd = again(moved->fd);
    to->carry = copy(moved->carry);
    to->pending = copy(moved->pending);
    to->peer = moved->peer != NULL ? strdup(moved->peer) : NULL;
}

static void free_crate(struct crate *crate)
{
    for (size_t i = 0; i < crate->count; i++) {
        free((void *)(uintptr_t)crate->moved[i].carry.data);
        free((void *)(uintptr_t)crate->moved[i].pending.data);
        free((void *)(uintptr_t)crate->moved[i].peer);
    }
}

static void pack(struct fixture *fixture, struct crate *crate)
{
    *crate = (struct crate){0};
    net_pause(fixture->net);
    while (net_settle(fixture->net))
        continue;
    crate->listener = again(net_listen_fd(fixture->net, LISTENER_tcp));
    crate->generation = net_generation(fixture->net);
    crate->left = net_move_out(fixture->net, pack_one, crate);
}

/* The front end from now on is another one, with all of that in it. */
static void put_in(struct fixture *fixture, struct crate *crate)
{
    struct net *before = fixture->net;
    char error[256] = "";
    fixture->options.listen[LISTENER_tcp] = (struct net_listen){NULL, crate->listener};
    assert_int_equal(open_front(fixture, error), 0);
    net_begin_above(fixture->net, crate->generation);
    for (size_t i = 0; i < crate->count; i++)
        assert_int_equal(net_move_in(fixture->net, &crate->moved[i]), 0);
    for (size_t i = 0; i < crate->count; i++)
        assert_int_equal(net_move_watch(fixture->net, crate->moved[i].handle), 0);
    net_close(before);
    free_crate(crate);
}

static void unpack(struct fixture *fixture, struct crate *crate)
{
    put_in(fixture, crate);
    assert_int_equal(net_start(fixture->net), 0);
}

static void move(struct fixture *fixture)
{
    struct crate crate;
    pack(fixture, &crate);
    assert_int_equal(crate.left, 0);
    unpack(fixture, &crate);
}

/* --- what goes over --------------------------------------------------------------------------- */

static void half_a_frame_goes_on_over_there(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct buffer out = {0};
    add_frame(&out, 20000, 'x');
    add_frame(&out, 5, 'y');
    send_all(peer.fd, out.data, 12345);
    struct conn *conn = slot_find(fixture->net, peer.conn);
    WAIT_FOR(atomic_load(&conn->carry_size) == 12345);
    move(fixture);
    assert_int_equal(frames_size(fixture, peer.conn), 0);
    send_all(peer.fd, out.data + 12345, out.size - 12345);
    expect_frames(fixture, peer.conn, out.data, out.size);
    assert_int_equal(look(fixture, peer.conn).owner, OWNER);
    assert_true(look(fixture, peer.conn).welcomed);
    assert_int_equal(net_write(fixture->net, 0, peer.conn, "answer", 6), 0);
    expect_bytes(peer.fd, "answer", 6);
    assert_int_equal(look(fixture, peer.conn).ends,
                     0); /* and whoever ends it comes after the write */
    close(peer.fd);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    buffer_fini(&out);
}

static uint8_t byte_at(size_t at)
{
    return (uint8_t)(at % 251);
}

static size_t write_some(struct fixture *fixture, conn_handle conn, size_t from, size_t size)
{
    uint8_t *data = malloc(size);
    for (size_t i = 0; i < size; i++)
        data[i] = byte_at(from + i);
    assert_int_equal(net_write(fixture->net, 0, conn, data, size), 0);
    free(data);
    return from + size;
}

/* What the socket did not take is written behind what it did, whoever writes it. */
static void what_waits_for_the_socket_is_sent_over_there(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_output_bytes = 32 * 1024 * 1024;
    fixture->limits.limits_output_soft_bytes = 32 * 1024 * 1024;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    size_t written = 0;
    while (net_waiting(fixture->net, peer.conn) < 300000)
        written = write_some(fixture, peer.conn, written, 100000);
    struct crate crate;
    pack(fixture, &crate);
    put_in(fixture, &crate);
    assert_in_range(net_waiting(fixture->net, peer.conn), 1, written);
    written = write_some(fixture, peer.conn, written, 5000); /* one thread at a time */
    assert_int_equal(net_start(fixture->net), 0);
    uint8_t *got = malloc(written);
    read_exactly(peer.fd, got, written);
    for (size_t i = 0; i < written; i++)
        if (got[i] != byte_at(i))
            fail_msg("byte %zu of %zu", i, written);
    free(got);
    close(peer.fd);
}

/* It comes while nobody listens, also from somebody new. */
static void what_is_sent_meanwhile_waits_in_the_socket(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct crate crate;
    pack(fixture, &crate);
    struct buffer out = {0};
    add_frame(&out, 700, 'm');
    send_all(peer.fd, out.data, out.size);
    int newcomer = client(fixture);
    send_frame(newcomer, 3, 'n');
    int leaver = crate.moved[0].fd;
    assert_true(leaver >= 0);
    unpack(fixture, &crate);
    expect_frames(fixture, peer.conn, out.data, out.size);
    WAIT_FOR(records_count(fixture) == 2);
    assert_int_not_equal(record_handle(fixture, 1), peer.conn);
    close(newcomer);
    close(peer.fd);
    buffer_fini(&out);
}

static void an_end_that_came_meanwhile_is_told(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct crate crate;
    pack(fixture, &crate);
    close(peer.fd);
    unpack(fixture, &crate);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(look(fixture, peer.conn).end, CONN_LOST);
    assert_int_equal(look(fixture, peer.conn).end_owner, OWNER);
}

/* Slots between those that are in use, and generations that have been through some lives. */
static void handles_stay_what_they_were(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.reactors = 2;
    fixture->binds = true;
    start(fixture);
    struct peer peers[12];
    for (unsigned i = 0; i < 12; i++)
        peers[i] = new_peer(fixture);
    for (unsigned i = 0; i < 12; i += 3) {
        close(peers[i].fd);
        WAIT_FOR(look(fixture, peers[i].conn).ends == 1);
    }
    WAIT_FOR(net_count(fixture->net) == 8);
    peers[0] = new_peer(fixture);
    for (unsigned round = 0; round < 3; round++) {
        move(fixture);
        assert_int_equal(net_count(fixture->net), 9);
        for (unsigned i = 0; i < 12; i++) {
            if (i > 0 && i % 3 == 0)
                continue;
            send_frame(peers[i].fd, 4 + i, (uint8_t)('a' + i));
            WAIT_FOR(frames_size(fixture, peers[i].conn) == 5 + i);
            forget_frames(fixture, peers[i].conn);
        }
    }
    struct peer fresh = new_peer(fixture); /* into a slot between them */
    for (unsigned i = 0; i < 12; i++)
        assert_int_not_equal(fresh.conn, peers[i].conn);
    for (unsigned i = 0; i < 12; i++)
        close(peers[i].fd);
    close(fresh.fd);
}

/* Who has not logged in is still somebody who has not. */
static void strangers_stay_strangers(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_login_deadline_ms = 1500;
    start(fixture);
    struct peer peer = new_peer(fixture);
    send_all(peer.fd, "\x50half", 5);
    nap_ms(400);
    uint64_t began_ms = clock_ms();
    move(fixture);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(look(fixture, peer.conn).end, CONN_LOGIN_DEADLINE);
    assert_in_range(clock_ms() - began_ms, 900, 1500 + SLACK_MS); /* as of when it came */
    close(peer.fd);
}

/* --- and what does not ------------------------------------------------------------------------ */

/* Nothing has become of it: the same front end goes on. */
static void a_pause_is_nothing_but_a_pause(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    for (unsigned i = 0; i < 3; i++) {
        struct crate crate;
        pack(fixture, &crate);
        assert_int_equal(crate.count, 1);
        send_frame(peer.fd, 10, 'p');
        close(crate.listener);
        close(crate.moved[0].fd);
        free_crate(&crate);
        assert_int_equal(net_start(fixture->net), 0);
        WAIT_FOR(frames_size(fixture, peer.conn) == 11);
        forget_frames(fixture, peer.conn);
        assert_int_equal(net_write(fixture->net, 0, peer.conn, "on", 2), 0);
        expect_bytes(peer.fd, "on", 2);
        struct peer other = new_peer(fixture);
        close(other.fd);
    }
    close(peer.fd);
}

/* What was ordered before is done, though the threads that do it are gone. */
static void orders_are_carried_out_in_a_pause(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    net_pause(fixture->net);
    net_release(fixture->net, peer.conn);
    unsigned batches = fixture->batches;
    assert_true(net_settle(fixture->net));
    assert_false(net_settle(fixture->net));
    assert_int_equal(batches, fixture->batches); /* or turns are run that nobody counts */
    struct crate crate = {0};
    assert_int_equal(net_move_out(fixture->net, pack_one, &crate), 1); /* it is on its way out */
    assert_int_equal(crate.count, 0);
    expect_end(peer.fd);
    assert_int_equal(net_start(fixture->net), 0);
    close(peer.fd);
    WAIT_FOR(net_count(fixture->net) == 0);
}

static void whose_login_is_judged_stays(void **state)
{
    struct fixture *fixture = *state;
    fixture->remembers = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct crate crate;
    pack(fixture, &crate);
    assert_int_equal(crate.left, 1);
    assert_int_equal(crate.count, 0);
    close(crate.listener);
    assert_int_equal(net_start(fixture->net), 0);
    close(peer.fd);
}

/* Whoever stays is told to come back and written to his end; nothing of those who went is touched.
 */
static void who_is_left_is_sent_away(void **state)
{
    struct fixture *fixture = *state;
    static const struct net_dismissal how = {"come back", 100, 300};
    fixture->binds = true;
    start(fixture);
    struct peer goes = new_peer(fixture);
    fixture->binds = false;
    fixture->remembers = true;
    struct peer stays = new_peer(fixture);
    struct crate crate;
    pack(fixture, &crate);
    assert_int_equal(crate.count, 1);
    struct buffer out = {0};
    add_frame(&out, 900, 'g');
    send_all(goes.fd, out.data, out.size);
    assert_int_equal(net_dismiss_left(fixture->net, &how), 1);
    unpack(fixture, &crate);
    expect_frames(fixture, goes.conn, out.data, out.size);
    assert_int_equal(net_write(fixture->net, 0, goes.conn, "on", 2), 0);
    look(fixture, goes.conn); /* behind its lock, as a turn is before the end that it hears of */
    expect_bytes(goes.fd, "on", 2);
    uint8_t head;
    uint8_t words[64];
    read_exactly(stays.fd, &head, 1);
    assert_in_range(head, 1, sizeof(words));
    read_exactly(stays.fd, words, head);
    Usher__V1__BrokerFrame *read = usher__v1__broker_frame__unpack(NULL, head, words);
    assert_non_null(read);
    assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_CLOSE);
    assert_int_equal(read->close->reason, USHER__V1__CLOSE__REASON__SHUTDOWN);
    assert_string_equal(read->close->detail, "come back");
    assert_in_range(read->close->retry_after_ms, 0, 99);
    usher__v1__broker_frame__free_unpacked(read, NULL);
    expect_end(stays.fd);
    close(stays.fd);
    close(goes.fd);
    buffer_fini(&out);
}

static void what_cannot_be_is_not_taken(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    net_pause(fixture->net);
    const struct net_moved good = {
        .handle = UINT64_C(3) << 32 | 5, .owner = OWNER, .fd = 0, .welcomed = true};
    struct net_moved bad[8];
    for (unsigned i = 0; i < 8; i++)
        bad[i] = good;
    uint8_t bytes[1] = {0};
    bad[0].handle = 5;                               /* no life of a slot */
    bad[1].handle = UINT64_C(3) << 32 | 7 << 24 | 5; /* no such thread */
    bad[2].handle = UINT64_C(3) << 32 | 0xfffff0;    /* more than there may be */
    bad[3].listener = LISTENERS;
    bad[4].listener = LISTENER_tls;
    bad[5].carry = (struct bytes){bytes, 1u << 30};
    bad[6].owner = 0; /* and welcomed */
    bad[7].fd = -1;
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(net_move_in(fixture->net, &bad[i]), -EINVAL);
    struct net_moved one = good, two = good;
    one.fd = new_socket();
    two.handle -= 2;
    assert_int_equal(net_move_in(fixture->net, &one), 0);
    assert_int_equal(net_move_in(fixture->net, &two), -EINVAL); /* out of order */
    assert_int_equal(net_move_in(fixture->net, &one), -EINVAL); /* twice */
}

/* A file can be no connection, and it is the epoll that finds out. */
static void what_cannot_be_watched_is_told(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    net_pause(fixture->net);
    const struct net_moved file = {.handle = UINT64_C(3) << 32 | 5,
                                   .owner = OWNER,
                                   .fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC),
                                   .welcomed = true};
    assert_int_equal(net_move_in(fixture->net, &file), 0);
    assert_int_equal(net_move_watch(fixture->net, file.handle), -EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(half_a_frame_goes_on_over_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_waits_for_the_socket_is_sent_over_there, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_sent_meanwhile_waits_in_the_socket, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_end_that_came_meanwhile_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(handles_stay_what_they_were, set_up, tear_down),
        cmocka_unit_test_setup_teardown(strangers_stay_strangers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pause_is_nothing_but_a_pause, set_up, tear_down),
        cmocka_unit_test_setup_teardown(orders_are_carried_out_in_a_pause, set_up, tear_down),
        cmocka_unit_test_setup_teardown(whose_login_is_judged_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_left_is_sent_away, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_is_not_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_watched_is_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
