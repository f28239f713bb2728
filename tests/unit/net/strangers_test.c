/* SPDX-License-Identifier: Apache-2.0 */
#include "net_fixture.h"

/* A newcomer who finds the room of the strangers full: who goes for him, and who does not. The
 * clock is the test's. */

enum { AGE_MS = 100000, LIMIT = 4 };

static _Atomic uint64_t skipped_ms;

static uint64_t skipping_ns(void *context)
{
    return env_monotonic_ns(env_system()) + atomic_load(&skipped_ms) * 1000000;
}

static uint64_t wall_ms(void *context)
{
    return env_wall_ms(env_system());
}

static void random_bytes(void *context, void *to, size_t size)
{
    env_random(env_system(), to, size);
}

static const struct env skipping = {
    .monotonic_ns = skipping_ns, .wall_ms = wall_ms, .random_bytes = random_bytes};

static void skip_ms(unsigned ms)
{
    atomic_fetch_add(&skipped_ms, ms);
}

/* So many in all, of which LIMIT of one address. In a test's own time nobody grows old. */
static void start_room(struct fixture *fixture, unsigned unbound_max)
{
    fixture->options.env = &skipping;
    fixture->options.unbound_age_ms = AGE_MS;
    fixture->limits.limits_login_deadline_ms = 100 * AGE_MS;
    fixture->limits.limits_handshake_deadline_ms = fixture->limits.limits_close_linger_ms =
        100 * AGE_MS;
    fixture->limits.limits_prelogin_connections = unbound_max;
    fixture->limits.limits_prelogin_per_source = LIMIT;
    start(fixture);
}

/* All have come to their threads, and the rounds that were under way are over: in each it is as
 * late as at its beginning. */
static void settle(struct fixture *fixture)
{
    uint64_t before = batches_count(fixture);
    net_wake_all(fixture->net);
    WAIT_FOR(metric_of(fixture, METRIC_connections_open) == net_count(fixture->net));
    WAIT_FOR(batches_count(fixture) > before);
    nap_ms(30);
}

static void grow(struct fixture *fixture, unsigned ms)
{
    settle(fixture);
    skip_ms(ms);
}

static void grow_old(struct fixture *fixture)
{
    grow(fixture, AGE_MS);
}

static int stranger_from(struct fixture *fixture, uint32_t address)
{
    unsigned accepted = (unsigned)metric_of(fixture, METRIC_connections_accepted);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    int fd = new_socket();
    assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
    assert_int_equal(connect_socket(fixture, fd), 0);
    WAIT_FOR(metric_of(fixture, METRIC_connections_accepted) == accepted + 1);
    return fd;
}

static void fill(struct fixture *fixture, uint32_t address, int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        fds[i] = stranger_from(fixture, address);
}

static void close_all(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

static bool is_open(int fd)
{
    uint8_t byte;
    return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
}

/* He is in when his frame comes through. */
static void expect_in(struct fixture *fixture, int fd)
{
    unsigned before = records_count(fixture);
    send_frame(fd, 1, 'i');
    WAIT_FOR(records_count(fixture) > before);
    assert_true(is_open(fd));
}

static void expect_counts(struct fixture *fixture, uint64_t displaced, enum metric_id refused,
                          uint64_t refusals)
{
    assert_int_equal(metric_of(fixture, METRIC_strangers_displaced), displaced);
    assert_int_equal(metric_of(fixture, refused), refusals);
}

/* --- one address ------------------------------------------------------------------------------ */

/* The n-th comes in as he is, the one after him for the oldest. */
static void the_oldest_of_the_address_goes(void **state)
{
    struct fixture *fixture = *state;
    int fds[LIMIT + 1];
    start_room(fixture, 32);
    fds[0] = stranger_from(fixture, 0x7f000009);
    grow(fixture, 1);
    int other = stranger_from(fixture, 0x7f000008);
    fill(fixture, 0x7f000009, fds + 1, LIMIT - 1);
    expect_counts(fixture, 0, METRIC_refused_source, 0);
    grow_old(fixture);
    fds[LIMIT] = stranger_from(fixture, 0x7f000009);
    expect_end(fds[0]);
    expect_in(fixture, fds[LIMIT]);
    for (unsigned i = 1; i <= LIMIT; i++)
        assert_true(is_open(fds[i]));
    assert_true(is_open(other));
    expect_counts(fixture, 1, METRIC_refused_source, 0);
    assert_int_equal(look(fixture, record_handle(fixture, 0)).end, CONN_DISPLACED);
    close_all(fds, LIMIT + 1);
    close(other);
    WAIT_FOR(net_count(fixture->net) == 0);
}

/* Who is refused leaves the counts as they were. */
static void the_young_stay(void **state)
{
    struct fixture *fixture = *state;
    int fds[LIMIT];
    start_room(fixture, 32);
    fill(fixture, 0x7f000009, fds, LIMIT);
    grow(fixture, AGE_MS / 2);
    int refused = stranger_from(fixture, 0x7f000009);
    WAIT_FOR(metric_of(fixture, METRIC_refused_source) == 1);
    for (unsigned i = 0; i < LIMIT; i++)
        assert_true(is_open(fds[i]));
    WAIT_FOR(net_count(fixture->net) == LIMIT);
    grow(fixture, AGE_MS / 2);
    int next = stranger_from(fixture, 0x7f000009);
    expect_in(fixture, next);
    expect_counts(fixture, 1, METRIC_refused_source, 1);
    close(refused);
    close(next);
    close_all(fds, LIMIT);
}

/* Each of a crowd has one who goes for him, whichever thread both are of. One more has nobody: they
 * have all just come. */
static void a_crowd_takes_the_room(void **state)
{
    struct fixture *fixture = *state;
    enum { ROOM = 12 };
    int fds[ROOM], crowd[ROOM + 1];
    fixture->options.reactors = 3;
    start_room(fixture, ROOM);
    for (unsigned i = 0; i < ROOM; i++)
        fds[i] = stranger_from(fixture, 0x7f000010 + i);
    grow_old(fixture);
    for (unsigned i = 0; i < ROOM; i++)
        crowd[i] = stranger_from(fixture, 0x7f000020 + i);
    for (unsigned i = 0; i < ROOM; i++)
        expect_end(fds[i]);
    WAIT_FOR(net_count(fixture->net) == ROOM);
    expect_counts(fixture, ROOM, METRIC_refused_prelogin, 0);
    crowd[ROOM] = stranger_from(fixture, 0x7f000020 + ROOM);
    WAIT_FOR(metric_of(fixture, METRIC_refused_prelogin) == 1);
    expect_in(fixture, crowd[0]);
    close_all(fds, ROOM);
    close_all(crowd, ROOM + 1);
    WAIT_FOR(net_count(fixture->net) == 0);
}

/* --- all together ----------------------------------------------------------------------------- */

static void the_address_with_most_pays(void **state)
{
    struct fixture *fixture = *state;
    int few[1], most[3];
    start_room(fixture, 4);
    fill(fixture, 0x7f000008, few, 1);
    grow(fixture, 1);
    fill(fixture, 0x7f000009, most, 1);
    grow(fixture, 1);
    fill(fixture, 0x7f000009, most + 1, 2);
    expect_counts(fixture, 0, METRIC_refused_prelogin, 0);
    grow_old(fixture);
    int next = stranger_from(fixture, 0x7f000007);
    expect_end(most[0]);
    expect_in(fixture, next);
    assert_true(is_open(few[0]) && is_open(most[1]) && is_open(most[2]));
    expect_counts(fixture, 1, METRIC_refused_prelogin, 0);
    close_all(few, 1);
    close_all(most, 3);
    close(next);
}

static void whoever_is_judged_stays(void **state)
{
    struct fixture *fixture = *state;
    start_room(fixture, 2);
    fixture->remembers = true;
    struct peer judged = new_peer(fixture);
    fixture->remembers = false;
    int silent = client(fixture);
    WAIT_FOR(net_count(fixture->net) == 2);
    grow_old(fixture);
    int first = client(fixture);
    expect_end(silent);
    expect_in(fixture, first);
    int second = client(fixture);
    WAIT_FOR(metric_of(fixture, METRIC_refused_prelogin) == 1);
    assert_true(is_open(judged.fd) && is_open(first));
    close(judged.fd);
    close(silent);
    close(first);
    close(second);
}

/* His Login waits in his socket, behind the newcomer, for a thread that has much to do. */
static void what_was_sent_is_read_first(void **state)
{
    struct fixture *fixture = *state;
    start_room(fixture, 2);
    int speaks = client(fixture);
    WAIT_FOR(net_count(fixture->net) == 1);
    fixture->remembers = true;
    gate(fixture, true);
    int holds = client(fixture);
    send_frame(holds, 1, 'h');
    WAIT_FOR(records_count(fixture) == 1);
    skip_ms(AGE_MS);
    int next = client(fixture);
    send_frame(speaks, 1, 's');
    gate(fixture, false);
    WAIT_FOR(metric_of(fixture, METRIC_refused_prelogin) == 1);
    expect_counts(fixture, 0, METRIC_refused_prelogin, 1);
    assert_true(is_open(speaks) && is_open(holds));
    close(speaks);
    close(holds);
    close(next);
}

/* Told that it is over, he neither reads nor goes: he is not waited for. */
static void whoever_was_told_goes_too(void **state)
{
    struct fixture *fixture = *state;
    start_room(fixture, 1);
    int told = client(fixture);
    send_all(told, "\xff\xff\xff\xff\xff\xff", 6);
    expect_end(told);
    grow_old(fixture);
    int next = client(fixture);
    expect_in(fixture, next);
    WAIT_FOR(net_count(fixture->net) == 1);
    expect_counts(fixture, 1, METRIC_refused_prelogin, 0);
    close(told);
    close(next);
}

/* The layer above has not said his last words yet: his place is free all the same. */
static void who_goes_holds_no_place(void **state)
{
    struct fixture *fixture = *state;
    fixture->keeps = true;
    start_room(fixture, 1);
    int silent = client(fixture);
    WAIT_FOR(net_count(fixture->net) == 1);
    grow_old(fixture);
    int next = client(fixture);
    WAIT_FOR(metric_of(fixture, METRIC_strangers_displaced) == 1);
    fixture->releases = true;
    send_frame(next, 1, 'n');
    expect_end(next);
    close(next);
    WAIT_FOR(net_count(fixture->net) == 1);
    fixture->releases = false;
    int last = client(fixture);
    expect_in(fixture, last);
    expect_counts(fixture, 1, METRIC_refused_prelogin, 0);
    close(silent);
    close(last);
}

/* More than wait at the door at a time, one after the other: let in, and refused. */
static void the_door_is_not_used_up(void **state)
{
    struct fixture *fixture = *state;
    enum { MANY = 300 };
    start_room(fixture, 1);
    int last = stranger_from(fixture, 0x7f000001);
    for (unsigned i = 1; i <= MANY; i++) {
        close(stranger_from(fixture, 0x7f000001));
        WAIT_FOR(metric_of(fixture, METRIC_refused_prelogin) == i);
    }
    for (unsigned i = 1; i <= MANY; i++) {
        skip_ms(2 * AGE_MS);
        int next = stranger_from(fixture, 0x7f000001);
        expect_end(last);
        close(last);
        last = next;
    }
    expect_counts(fixture, MANY, METRIC_refused_prelogin, MANY);
    close(last);
}

/* Those who have logged in stand in the queue of those who have not, until their time is up. */
static void whoever_is_in_is_passed_over(void **state)
{
    struct fixture *fixture = *state;
    enum { IN = 20 };
    struct peer in[IN];
    start_room(fixture, 1);
    fixture->binds = true;
    for (unsigned i = 0; i < IN; i++)
        in[i] = new_peer(fixture);
    fixture->binds = false;
    int silent = client(fixture);
    WAIT_FOR(net_count(fixture->net) == IN + 1);
    grow(fixture, AGE_MS);
    int next = client(fixture);
    expect_end(silent);
    expect_in(fixture, next);
    /* They are looked after as before. */
    grow(fixture, 3 * AGE_MS);
    net_wake_all(fixture->net);
    for (unsigned i = 0; i < IN; i++) {
        expect_end(in[i].fd);
        close(in[i].fd);
    }
    close(silent);
    close(next);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_oldest_of_the_address_goes), TEST(the_young_stay),
        TEST(the_address_with_most_pays),     TEST(a_crowd_takes_the_room),
        TEST(whoever_is_judged_stays),        TEST(what_was_sent_is_read_first),
        TEST(whoever_was_told_goes_too),      TEST(who_goes_holds_no_place),
        TEST(the_door_is_not_used_up),        TEST(whoever_is_in_is_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
