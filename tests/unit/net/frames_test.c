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

/* A large frame whose end comes byte by byte costs next to nothing for each byte. It is copied once
 * when it is whole, and not for each. */
static void the_end_of_a_large_frame_costs_no_more(void **state)
{
    struct fixture *fixture = *state;
    enum { LARGE = 8 * 1024 * 1024, PIECES = 2000 };
    fixture->limits.limits_frame_bytes = LARGE;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct buffer out = {0};
    add_frame(&out, LARGE, 'f');
    add_frame(&out, 20, 'g');
    uint64_t bytes = metric_of(fixture, METRIC_bytes_in);
    size_t at = out.size - PIECES;
    send_all(peer.fd, out.data, at);
    WAIT_FOR(metric_of(fixture, METRIC_bytes_in) == bytes + at);
    uint64_t cpu = cpu_ms();
    for (; at < out.size; at++) {
        send_all(peer.fd, out.data + at, 1);
        WAIT_FOR(metric_of(fixture, METRIC_bytes_in) == bytes + at + 1);
    }
    cpu = cpu_ms() - cpu;
    if (cpu > PIECES) /* a copy of it takes more than a ms, and there would be two for each */
        fail_msg("%u bytes cost %llu ms", PIECES, (unsigned long long)cpu);
    expect_frames(fixture, peer.conn, out.data, out.size);
    close(peer.fd);
    buffer_fini(&out);
}

/* Frames around the sizes at which the way of carrying changes, cut at every place near them. */
static void large_carries_are_whole(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    for (size_t power = 8192; power <= 65536; power *= 2)
        for (size_t cut = power - 4; cut <= power + 4 && cut <= 65536; cut++) {
            struct buffer out = {0};
            add_frame(&out, cut < 65532 ? cut + 4 : 65536, (uint8_t)cut);
            add_frame(&out, 7, 'x');
            uint64_t bytes = metric_of(fixture, METRIC_bytes_in);
            send_all(peer.fd, out.data, cut);
            WAIT_FOR(metric_of(fixture, METRIC_bytes_in) == bytes + cut);
            send_all(peer.fd, out.data + cut, 1);
            WAIT_FOR(metric_of(fixture, METRIC_bytes_in) == bytes + cut + 1);
            send_all(peer.fd, out.data + cut + 1, out.size - cut - 1);
            expect_frames(fixture, peer.conn, out.data, out.size);
            forget_frames(fixture, peer.conn);
            buffer_fini(&out);
        }
    close(peer.fd);
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
    send_frame(peer.fd, 1, 'b');
    WAIT_FOR(look(fixture, peer.conn).calls == 1);
    assert_int_equal(look(fixture, peer.conn).owner, OWNER);
    assert_true(look(fixture, peer.conn).welcomed);
    assert_ptr_equal(look(fixture, peer.conn).thread, &fixture->threads[0]);
    close(peer.fd);
}

/* --- behind a request that is being judged ---------------------------------------------------- */

/* A bound peer that has sent three frames behind the one that bound it, in the same write when it
 * is `together`. */
static struct peer impatient(struct fixture *fixture, bool together)
{
    struct buffer out = {0};
    unsigned before = records_count(fixture);
    struct peer peer = {.fd = client(fixture)};
    add_frame(&out, 1, 'l');
    if (!together) {
        send_all(peer.fd, out.data, out.size);
        WAIT_FOR(records_count(fixture) > before);
        out.size = 0;
    }
    for (unsigned i = 0; i < 3; i++)
        add_frame(&out, 10, (uint8_t)('a' + i));
    uint64_t bytes = metric_of(fixture, METRIC_bytes_in);
    send_all(peer.fd, out.data, out.size);
    WAIT_FOR(metric_of(fixture, METRIC_bytes_in) == bytes + out.size);
    WAIT_FOR(records_count(fixture) > before);
    peer.conn = record_handle(fixture, before);
    buffer_fini(&out);
    nap_ms(20);
    assert_int_equal(look(fixture, peer.conn).calls, 1);
    forget_frames(fixture, peer.conn);
    return peer;
}

/* Nothing is lost, nothing comes twice, and the order is kept, whatever the verdict. */
static void what_comes_behind_a_login_waits_for_its_answer(void **state)
{
    struct fixture *fixture = *state;
    struct buffer behind = {0};
    for (unsigned i = 0; i < 3; i++)
        add_frame(&behind, 10, (uint8_t)('a' + i));
    fixture->judges = true;
    start(fixture);
    for (unsigned together = 0; together < 2; together++) {
        fixture->binds = true;
        struct peer refused = impatient(fixture, together);
        struct peer welcome = impatient(fixture, together);
        struct peer released = impatient(fixture, together);
        fixture->binds = false;
        net_unbind(fixture->net, refused.conn, "no", 2);
        expect_bytes(refused.fd, "no", 2);
        expect_frames(fixture, refused.conn, behind.data, behind.size);
        assert_int_equal(look(fixture, refused.conn).calls, 3); /* one by one, as before */
        assert_int_equal(look(fixture, refused.conn).owner, 0);
        net_welcome(fixture->net, welcome.conn);
        expect_frames(fixture, welcome.conn, behind.data, behind.size);
        assert_int_equal(look(fixture, welcome.conn).owner, OWNER);
        assert_false(look(fixture, welcome.conn).welcomed); /* they came before it */
        forget_frames(fixture, welcome.conn);
        send_frame(welcome.fd, 1, 'x');
        WAIT_FOR(look(fixture, welcome.conn).calls == 1);
        assert_true(look(fixture, welcome.conn).welcomed);
        net_release(fixture->net, released.conn);
        expect_end(released.fd);
        assert_int_equal(look(fixture, released.conn).calls, 0);
        close(refused.fd);
        close(welcome.fd);
        close(released.fd);
    }
    buffer_fini(&behind);
}

/* Whoever answers with a Close hears no more of it. */
static void behind_a_release_nothing_is_looked_at(void **state)
{
    struct fixture *fixture = *state;
    fixture->releases = true;
    start(fixture);
    struct buffer out = {0};
    for (unsigned i = 0; i < 3; i++)
        add_frame(&out, 10, 'x');
    int fd = client(fixture);
    send_all(fd, out.data, out.size);
    expect_end(fd);
    assert_int_equal(look(fixture, record_handle(fixture, 0)).calls, 1);
    close(fd);
    WAIT_FOR(net_count(fixture->net) == 0);
    buffer_fini(&out);
}

/* A welcome from another thread, at the moment when the I/O thread puts by what came behind. */
static void a_welcome_meets_what_is_just_put_by(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->judges = true;
    start(fixture);
    for (unsigned i = 0; i < 300; i++) {
        unsigned before = records_count(fixture) % RECORDS_MAX;
        struct peer peer = {.fd = client(fixture)};
        send_frame(peer.fd, 1, 'l');
        WAIT_FOR(records_count(fixture) > before);
        peer.conn = record_handle(fixture, before);
        send_frame(peer.fd, 1, 'x');
        net_welcome(fixture->net, peer.conn);
        WAIT_FOR(look(fixture, peer.conn).calls == 2);
        close(peer.fd);
        WAIT_FOR(net_count(fixture->net) == 0);
    }
}

/* The welcome comes while the I/O thread already holds the event of more: that event leads to what
 * was put by, and what it announced is read all the same. The welcome's order comes after both. */
static void what_comes_with_the_welcome_is_read(void **state)
{
    struct fixture *fixture = *state;
    struct buffer all = {0};
    fixture->binds = true;
    start(fixture);
    struct peer first = new_peer(fixture);
    struct peer second = new_peer(fixture);
    fixture->judges = true;
    struct peer peer = new_peer(fixture);
    uint64_t bytes = metric_of(fixture, METRIC_bytes_in);
    send_frame(peer.fd, 10, 'a');
    WAIT_FOR(metric_of(fixture, METRIC_bytes_in) == bytes + 11);
    gate(fixture, true);
    send_frame(first.fd, 1, 'x');
    WAIT_FOR(look(fixture, first.conn).calls == 1);
    send_frame(second.fd, 1, 'x'); /* these two in one look at the sockets, in this order */
    send_frame(peer.fd, 10, 'b');
    gate_pass(fixture);
    WAIT_FOR(look(fixture, second.conn).calls == 1);
    net_welcome(fixture->net, peer.conn);
    gate(fixture, false);
    add_frame(&all, 10, 'a');
    add_frame(&all, 10, 'b');
    expect_frames(fixture, peer.conn, all.data, all.size);
    buffer_fini(&all);
    close(first.fd);
    close(second.fd);
    close(peer.fd);
}

/* The limits of before the login hold until the welcome: n, and n + 1. */
static void what_waits_counts_as_before_the_login(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->judges = true;
    fixture->limits.limits_frame_bytes =
        fixture->limits.limits_prelogin_bytes; /* no room to spare */
    start(fixture);
    for (unsigned more = 0; more < 2; more++) {
        struct peer peer = new_peer(fixture); /* has sent 2 */
        size_t room = 2 * 4096 + 64 - 2 + more;
        uint8_t *data = calloc(1, room); /* frames of no bytes */
        uint64_t bytes = metric_of(fixture, METRIC_bytes_in);
        send_all(peer.fd, data, room);
        WAIT_FOR(metric_of(fixture, METRIC_bytes_in) == bytes + room);
        nap_ms(20);
        assert_int_equal(look(fixture, peer.conn).ends, more);
        assert_int_equal(look(fixture, peer.conn).calls, 0);
        if (more)
            assert_int_equal(look(fixture, peer.conn).end, CONN_PRELOGIN_BYTES);
        close(peer.fd);
        free(data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(frames_cut_anywhere_arrive_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(frames_come_byte_by_byte, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_frames_come_in_few_calls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_frames_cross_the_read_buffer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_of_a_large_frame_costs_no_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_carries_are_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(frame_limit_of_bound_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(frame_limit_of_unbound_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(total_limit_of_unbound_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bound_ones_send_more_than_unbound_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(frames_say_who_owns_and_whether_welcomed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_comes_behind_a_login_waits_for_its_answer, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(behind_a_release_nothing_is_looked_at, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_welcome_meets_what_is_just_put_by, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_comes_with_the_welcome_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_waits_counts_as_before_the_login, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
