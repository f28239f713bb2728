/* SPDX-License-Identifier: Apache-2.0 */
#include "net_fixture.h"

/* Bytes in, whole frames up, and the limits of both. */

static void frames_cut_anywhere_arrive_whole(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct buffer out = {0};
    add_frame(&out, 0, 0);
    add_frame(&out, 5, 'a');
    add_frame(&out, 300, 'b'); /* two bytes of length */
    for (size_t cut = 0; cut <= out.size; cut++) {
        uint64_t before = metric_of(fixture, METRIC_bytes_in);
        send_all(peer.fd, out.data, cut);
        WAIT_FOR(metric_of(fixture, METRIC_bytes_in) == before + cut);
        send_all(peer.fd, out.data + cut, out.size - cut);
        expect_frames(fixture, peer.conn, out.data, out.size);
        forget_frames(fixture, peer.conn);
    }
    close(peer.fd);
    buffer_fini(&out);
}

static void frames_come_byte_by_byte(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct buffer out = {0};
    add_frame(&out, 200, 'a');
    add_frame(&out, 0, 0);
    uint64_t before = metric_of(fixture, METRIC_bytes_in);
    for (size_t i = 0; i < out.size; i++) {
        send_all(peer.fd, out.data + i, 1);
        WAIT_FOR(metric_of(fixture, METRIC_bytes_in) == before + i + 1);
    }
    expect_frames(fixture, peer.conn, out.data, out.size);
    assert_int_equal(look(fixture, peer.conn).calls, 2);
    close(peer.fd);
    buffer_fini(&out);
}

static void many_frames_come_in_few_calls(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct buffer out = {0};
    for (unsigned i = 0; i < 5000; i++)
        add_frame(&out, i % 9, (uint8_t)i);
    send_all(peer.fd, out.data, out.size);
    expect_frames(fixture, peer.conn, out.data, out.size);
    assert_true(look(fixture, peer.conn).calls <= 100);
    close(peer.fd);
    buffer_fini(&out);
}

static void large_frames_cross_the_read_buffer(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct buffer out = {0};
    for (unsigned i = 0; i < 40; i++)
        add_frame(&out, i % 2 == 0 ? 65536 : 30001, (uint8_t)('a' + i));
    send_all(peer.fd, out.data, out.size);
    expect_frames(fixture, peer.conn, out.data, out.size);
    close(peer.fd);
    buffer_fini(&out);
}

/* Sends a good frame and then `size` bytes; the good one is handed up, then comes that end. */
static void expect_end_by(struct fixture *fixture, const void *data, size_t size, enum conn_end end)
{
    struct peer peer = new_peer(fixture);
    struct buffer out = {0};
    add_frame(&out, 3, 'g');
    size_t good = out.size;
    assert_int_equal(buffer_append(&out, data, size), 0);
    send_all(peer.fd, out.data, out.size);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    expect_frames(fixture, peer.conn, out.data, good);
    assert_int_equal(look(fixture, peer.conn).end, end);
    (void)!send(peer.fd, out.data, good, MSG_NOSIGNAL);
    expect_end(peer.fd);
    assert_int_equal(look(fixture, peer.conn).calls_after_end, 0);
    assert_int_equal(look(fixture, peer.conn).ends, 1);
    close(peer.fd);
    buffer_fini(&out);
}

static void frame_limit_of_bound_ones(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct buffer out = {0};
    add_frame(&out, 65536, 'n');
    send_all(peer.fd, out.data, out.size);
    expect_frames(fixture, peer.conn, out.data, out.size);
    assert_int_equal(look(fixture, peer.conn).ends, 0);
    close(peer.fd);
    buffer_fini(&out);
    /* The length alone is enough. */
    expect_end_by(fixture, "\x81\x80\x04", 3, CONN_FRAME_TOO_LARGE);
    expect_end_by(fixture, "\xff\xff\xff\xff\x0f", 5, CONN_FRAME_TOO_LARGE);
    expect_end_by(fixture, "\xff\xff\xff\xff\xff", 5, CONN_BROKEN_FRAME);
}

static void frame_limit_of_unbound_ones(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct buffer out = {0};
    add_frame(&out, 4096, 'n');
    send_all(peer.fd, out.data, out.size);
    expect_frames(fixture, peer.conn, out.data, out.size);
    assert_int_equal(look(fixture, peer.conn).ends, 0);
    close(peer.fd);
    buffer_fini(&out);
    expect_end_by(fixture, "\x81\x20", 2, CONN_PRELOGIN_BYTES);
    expect_end_by(fixture, "\x80\x80\x80\x80\x80", 5, CONN_BROKEN_FRAME);
}

/* Bytes before login: two frames of the largest size and 64, then one more. */
static void total_limit_of_unbound_ones(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    struct peer peer = new_peer(fixture); /* has sent 2 */
    struct buffer out = {0};
    size_t room = 2 * 4096 + 64 - 2;
    while (out.size + 101 <= room)
        add_frame(&out, 100, 'x');
    add_frame(&out, room - out.size - 1, 'y');
    assert_int_equal(out.size, room);
    send_all(peer.fd, out.data, out.size);
    expect_frames(fixture, peer.conn, out.data, out.size);
    assert_int_equal(look(fixture, peer.conn).ends, 0);
    send_all(peer.fd, "", 1);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(look(fixture, peer.conn).end, CONN_PRELOGIN_BYTES);
    assert_int_equal(frames_size(fixture, peer.conn), out.size);
    close(peer.fd);
    buffer_fini(&out);
}

/* The limit before login says nothing about afterwards. */
static void bound_ones_send_more_than_unbound_ones(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct buffer out = {0};
    for (unsigned i = 0; i < 30; i++)
        add_frame(&out, 4097, 'x');
    send_all(peer.fd, out.data, out.size);
    expect_frames(fixture, peer.conn, out.data, out.size);
    assert_int_equal(look(fixture, peer.conn).ends, 0);
    close(peer.fd);
    buffer_fini(&out);
}

static void frames_say_who_owns_and_whether_welcomed(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    struct peer stranger = new_peer(fixture);
    assert_int_equal(look(fixture, stranger.conn).owner, 0);
    send_frame(stranger.fd, 1, 'a');
    WAIT_FOR(look(fixture, stranger.conn).calls == 1);
    assert_int_equal(look(fixture, stranger.conn).owner, 0);
    close(stranger.fd);
    WAIT_FOR(net_count(fixture->net) == 0);
    fixture->binds = true;
    struct peer peer = new_peer(fixture);
    assert_int_equal(look(fixture, peer.conn).owner, 0);
    send_frame(peer.fd, 1, 'a');
    WAIT_FOR(look(fixture, peer.conn).calls == 1);
    assert_int_equal(look(fixture, peer.conn).owner, OWNER);
    assert_false(look(fixture, peer.conn).welcomed);
    net_welcome(fixture->net, peer.conn);
    send_frame(peer.fd, 1, 'b');
    WAIT_FOR(look(fixture, peer.conn).calls == 2);
    assert_true(look(fixture, peer.conn).welcomed);
    assert_ptr_equal(look(fixture, peer.conn).thread, &fixture->threads[0]);
    close(peer.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(frames_cut_anywhere_arrive_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(frames_come_byte_by_byte, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_frames_come_in_few_calls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_frames_cross_the_read_buffer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(frame_limit_of_bound_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(frame_limit_of_unbound_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(total_limit_of_unbound_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bound_ones_send_more_than_unbound_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(frames_say_who_owns_and_whether_welcomed, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
