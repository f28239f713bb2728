/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "libusher/session.h"
#include "unit/libusher/fake_broker.h"

/* A name with several addresses of which some lead nowhere: in what order they are tried, and that
 * none of them keeps the client from the one where the broker is. Hosts are of this machine
 * (fake_host), each with a fault of its own, and the resolver is this test's. */

enum { SWALLOWED_MAX = 4 };

/* --- the resolver ------------------------------------------------------------------------ */

static struct {
    uint8_t hosts[ADDRESSES_MAX]; /* for fake_host */
    size_t count;
    int calls;
    int delay_ms;
} name;

static struct address loopback(uint8_t host, uint16_t port)
{
    struct address address = {.at.v4 = {.sin_family = AF_INET, .sin_port = htons(port)}};
    address.at.v4.sin_addr.s_addr = htonl(fake_host(host));
    return address;
}

static int find_hosts(const char *host, uint16_t port, struct addresses *found)
{
    assert_string_equal(host, "game.test");
    name.calls++;
    poll(NULL, 0, name.delay_ms);
    found->count = name.count;
    for (size_t i = 0; i < name.count; i++)
        found->list[i] = loopback(name.hosts[i], port);
    return 0;
}

static void name_has(size_t count, const uint8_t *hosts)
{
    memset(&name, 0, sizeof(name));
    memcpy(name.hosts, hosts, count);
    name.count = count;
}

#define NAME_HAS(...) name_has(sizeof((uint8_t[]){__VA_ARGS__}), (uint8_t[]){__VA_ARGS__})

/* --- hosts with a fault ------------------------------------------------------------------ */

static int listen_on(uint8_t host, uint16_t port, int backlog)
{
    struct address address = loopback(host, port);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    assert_true(listener >= 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    assert_int_equal(bind(listener, &address.at.any, address_size(&address)), 0);
    assert_int_equal(listen(listener, backlog), 0);
    return listener;
}

/* A host that takes no connection and says nothing: a queue that is full drops what comes. */
struct swallower {
    int listener;
    int fillers[SWALLOWED_MAX];
};

static void swallow_on(struct swallower *swallower, uint8_t host, uint16_t port)
{
    struct address address = loopback(host, port);
    swallower->listener = listen_on(host, port, 0);
    for (int i = 0; i < SWALLOWED_MAX; i++) {
        swallower->fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(swallower->fillers[i], &address.at.any, address_size(&address));
    }
    poll(NULL, 0, 10);
}

static void swallow_fini(struct swallower *swallower)
{
    for (int i = 0; i < SWALLOWED_MAX; i++)
        close(swallower->fillers[i]);
    close(swallower->listener);
}

/* --- the client -------------------------------------------------------------------------- */

static struct usher_client *client_of(const struct fake *fake, uint32_t connect_timeout_ms)
{
    struct usher_options options = fake_options(fake);
    struct usher_client *client;
    options.host = "game.test";
    options.connect_timeout_ms = connect_timeout_ms;
    assert_int_equal(usher_client_create(&options, &client), 0);
    client->find_addresses = find_hosts;
    return client;
}

/* The client comes to the broker at last, and asks that; gives how long that took. */
static uint64_t comes_with(struct fake *fake, struct usher_client *client, uint64_t epoch,
                           Usher__V1__ClientFrame__BodyCase body)
{
    uint64_t began_ms = fake_now_ms();
    fake_accept(fake, client);
    uint64_t taken_ms = fake_now_ms() - began_ms;
    uint64_t id = fake_expect(fake, client, body)->id;
    struct fake_welcome welcome = {.id = id, .epoch = epoch};
    fake_say_welcome(fake, &welcome);
    assert_int_equal(expect_event(client, USHER_WELCOME).epoch, epoch);
    return taken_ms;
}

static uint64_t comes(struct fake *fake, struct usher_client *client, uint64_t epoch)
{
    return comes_with(fake, client, epoch, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
}

/* --- order ------------------------------------------------------------------------------- */

static struct address address_of(const char *text)
{
    struct addresses found;
    assert_int_equal(addresses_of_host(text, 7400, &found), 0);
    assert_int_equal(found.count, 1);
    return found.list[0];
}

static void order_is(const struct addresses *found, const char *const *texts)
{
    for (size_t i = 0; i < found->count; i++) {
        struct address expected = address_of(texts[i]);
        assert_true(address_equal(&found->list[i], &expected));
    }
}

static void families_take_turns_and_failures_come_last(void **state)
{
    static const char *const given[] = {"2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1",
                                        "192.0.2.2"};
    struct addresses all = {.count = 5};
    struct address_memory memory = {.count = 0};
    for (size_t i = 0; i < 5; i++)
        all.list[i] = address_of(given[i]);
    struct addresses found = all;
    addresses_order(&found, &memory);
    order_is(&found, (const char *const[]){"2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2",
                                           "2001:db8::3"});
    address_failed(&memory, &all.list[0]);
    address_failed(&memory, &all.list[3]);
    found = all;
    addresses_order(&found, &memory);
    order_is(&found, (const char *const[]){"2001:db8::2", "192.0.2.2", "2001:db8::3", "2001:db8::1",
                                           "192.0.2.1"});
    address_failed(&memory, &all.list[0]); /* again: now it is the last of all */
    address_works(&memory, &all.list[1]);  /* had not failed */
    found = all;
    addresses_order(&found, &memory);
    order_is(&found, (const char *const[]){"2001:db8::2", "192.0.2.2", "2001:db8::3", "192.0.2.1",
                                           "2001:db8::1"});
    address_works(&memory, &all.list[0]);
    assert_int_equal(memory.count, 1);
}

static void the_memory_of_failures_has_an_end(void **state)
{
    struct address_memory memory = {.count = 0};
    for (unsigned i = 0; i <= ADDRESSES_MAX; i++) {
        struct address address = loopback((uint8_t)(1 + i), 1);
        assert_int_equal(memory.count, i < ADDRESSES_MAX ? i : ADDRESSES_MAX);
        address_failed(&memory, &address);
    }
    struct address oldest_kept = loopback(2, 1);
    assert_int_equal(memory.count, ADDRESSES_MAX);
    assert_true(address_equal(&memory.failed[0], &oldest_kept));
}

static void an_unknown_name_has_none(void **state)
{
    struct addresses found;
    assert_true(addresses_of_host("no.such.name.invalid", 1, &found) < 0);
    assert_int_equal(found.count, 0);
}

/* --- ways that lead nowhere ---------------------------------------------------------------- */

static void an_address_that_swallows_does_not_hold_up_the_next(void **state)
{
    struct fake fake;
    struct swallower dead;
    fake_open(&fake);
    swallow_on(&dead, 2, fake.port);
    NAME_HAS(2, 1);
    struct usher_client *client = client_of(&fake, 5000);
    assert_int_equal(usher_client_start(client), 0);
    assert_in_range(comes(&fake, client, 7), DIAL_PACE_MS - 50, 2000);
    /* A later connection begins with the one that worked. A busy machine is late now and then, and
     * a client that begins with the other one is late each time. */
    uint64_t taken_ms = DIAL_PACE_MS;
    int more = 0;
    for (; more < 5 && taken_ms > DIAL_PACE_MS - 50; more++) {
        fake_hang_up(&fake);
        expect_event(client, USHER_DISCONNECTED);
        taken_ms = comes_with(&fake, client, 7, USHER__V1__CLIENT_FRAME__BODY_RESUME);
    }
    assert_in_range(taken_ms, 0, DIAL_PACE_MS - 50);
    assert_int_equal(name.calls, 1 + more);
    usher_client_destroy(client);
    swallow_fini(&dead);
    fake_fini(&fake);
}

static void an_address_that_refuses_costs_nothing(void **state)
{
    struct fake fake;
    fake_open(&fake);
    NAME_HAS(2, 3, 1);
    struct usher_client *client = client_of(&fake, 5000);
    assert_int_equal(usher_client_start(client), 0);
    assert_in_range(comes(&fake, client, 7), 0, DIAL_PACE_MS - 50);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* Something takes the connection at the first address and never answers, hangs up, or is something
 * else: no event tells of it, and the next address is tried within the same try. */
static void gives_way(const char *says, bool hangs_up)
{
    struct fake fake, other = {.peer = -1};
    fake_open(&fake);
    other.listener = listen_on(2, fake.port, 8);
    NAME_HAS(2, 1);
    struct usher_client *client = client_of(&fake, says == NULL && !hangs_up ? 200 : 5000);
    assert_int_equal(usher_client_start(client), 0);
    fake_accept(&other, client);
    fake_expect(&other, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    if (says != NULL)
        fake_bytes(&other, says, strlen(says));
    if (hangs_up)
        fake_hang_up(&other);
    comes(&fake, client, 7); /* and the Welcome is the first event */
    fake_hang_up(&fake);
    expect_event(client, USHER_DISCONNECTED);
    fake_accept(&fake, client); /* the one that worked, again */
    usher_client_destroy(client);
    fake_fini(&other);
    fake_fini(&fake);
}

static void an_address_without_a_broker_gives_way(void **state)
{
    gives_way(NULL, false);
    gives_way(NULL, true);
    gives_way("\xff\xff\xff\xff\xff\xff\xff", false);
}

/* What a broker says is an answer, whatever it is: another address is not asked. */
static void a_refusal_is_an_answer(void **state)
{
    struct fake fake, other = {.peer = -1};
    fake_open(&fake);
    other.listener = listen_on(2, fake.port, 8);
    NAME_HAS(2, 1);
    struct usher_client *client = client_of(&fake, 5000);
    assert_int_equal(usher_client_start(client), 0);
    fake_accept(&other, client);
    uint64_t id = fake_expect(&other, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN)->id;
    fake_say_error(&other, id, USHER_ERROR_UNAVAILABLE, 1000);
    expect_event(client, USHER_ERROR);
    assert_int_equal(expect_event(client, USHER_DISCONNECTED).error, -EACCES);
    assert_true(fake_is_alone(&fake, client, 50));
    usher_client_destroy(client);
    fake_fini(&other);
    fake_fini(&fake);
}

static void a_blocking_login_tries_once(void **state)
{
    struct fake fake;
    struct swallower dead;
    struct usher_event event;
    fake_open(&fake);
    swallow_on(&dead, 2, fake.port);
    NAME_HAS(3, 2); /* nobody there, nobody answers */
    struct usher_client *client = client_of(&fake, 300);
    uint64_t began_ms = fake_now_ms();
    assert_int_equal(usher_login(client, 3000, &event), -ETIMEDOUT);
    assert_in_range(fake_now_ms() - began_ms, 250, 2000);
    assert_int_equal(name.calls, 1); /* it tried once */
    usher_client_destroy(client);
    swallow_fini(&dead);
    fake_fini(&fake);
}

/* A try ends; the next one looks the name up anew and begins with what has not failed. */
static void the_next_try_begins_elsewhere(void **state)
{
    struct fake fake;
    struct swallower dead;
    fake_open(&fake);
    swallow_on(&dead, 2, fake.port);
    NAME_HAS(2);
    struct usher_client *client = client_of(&fake, 1000);
    assert_int_equal(usher_client_start(client), 0);
    assert_int_equal(expect_event(client, USHER_DISCONNECTED).error, -ETIMEDOUT);
    NAME_HAS(2, 1);
    assert_in_range(comes(&fake, client, 7), 0, DIAL_PACE_MS - 20); /* a pause of 20 ms in it */
    usher_client_destroy(client);
    swallow_fini(&dead);
    fake_fini(&fake);
}

/* While the broker is away its address refuses and the dead one swallows: that one is known, and is
 * not waited for as long as an address of which nothing is known. */
static void a_known_dead_address_does_not_fill_the_try(void **state)
{
    struct fake fake;
    struct swallower dead;
    fake_open(&fake);
    swallow_on(&dead, 2, fake.port);
    NAME_HAS(2, 1);
    struct usher_client *client = client_of(&fake, 5000);
    assert_int_equal(usher_client_start(client), 0);
    comes(&fake, client, 7);
    close(fake.listener);
    fake_hang_up(&fake);
    uint64_t began_ms = fake_now_ms();
    expect_event(client, USHER_DISCONNECTED);
    assert_int_equal(expect_event(client, USHER_DISCONNECTED).error, -ECONNREFUSED);
    assert_in_range(fake_now_ms() - began_ms, DIAL_DOUBT_MS, DIAL_DOUBT_MS + 1000);
    fake.listener = listen_on(1, fake.port, 8);
    began_ms = fake_now_ms();
    fake_accept(&fake, client); /* the dead one comes last again */
    assert_in_range(fake_now_ms() - began_ms, 0, 500);
    usher_client_destroy(client);
    swallow_fini(&dead);
    fake_fini(&fake);
}

static void a_try_has_eight_addresses(void **state)
{
    struct fake fake;
    fake_open(&fake);
    NAME_HAS(11, 12, 13, 14, 15, 16, 17, 1);
    struct usher_client *client = client_of(&fake, 5000);
    assert_int_equal(usher_client_start(client), 0);
    comes(&fake, client, 7);
    usher_client_destroy(client);
    NAME_HAS(11, 12, 13, 14, 15, 16, 17, 18, 1);
    client = client_of(&fake, 5000);
    assert_int_equal(usher_client_start(client), 0);
    assert_int_equal(expect_event(client, USHER_DISCONNECTED).error, -ECONNREFUSED);
    comes(&fake, client, 8); /* the ninth is the first of the next try */
    assert_int_equal(name.calls, 2);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_slow_resolver_does_not_use_up_the_time(void **state)
{
    struct fake fake;
    fake_open(&fake);
    NAME_HAS(1);
    name.delay_ms = 300;
    struct usher_client *client = client_of(&fake, 200);
    assert_int_equal(usher_client_start(client), 0);
    comes(&fake, client, 7);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* What a program waits for is readable when there is something to do, and nothing is left open. */
static void an_event_loop_sees_the_race(void **state)
{
    struct fake fake;
    struct swallower dead;
    fake_open(&fake);
    swallow_on(&dead, 2, fake.port);
    NAME_HAS(2, 1);
    int free_before = dup(fake.listener);
    close(free_before);
    struct usher_client *client = client_of(&fake, 5000);
    assert_int_equal(usher_client_start(client), 0);
    uint64_t began_ms = fake_now_ms();
    int turns = 0;
    while (usher_client_state(client) == USHER_STATE_CONNECTING) {
        assert_true(fake_now_ms() - began_ms < 2000);
        assert_in_range(usher_client_timeout_ms(client), 0, 5000);
        struct pollfd watched = {.fd = usher_client_fd(client), .events = POLLIN};
        if (usher_client_wants_write(client))
            watched.events |= POLLOUT;
        assert_true(watched.fd >= 0);
        poll(&watched, 1, usher_client_timeout_ms(client));
        usher_client_process(client);
        turns++;
    }
    assert_in_range(turns, 1, 6); /* it slept between */
    usher_client_destroy(client);
    int free_after = dup(fake.listener);
    close(free_after);
    assert_int_equal(free_after, free_before);
    swallow_fini(&dead);
    fake_fini(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_take_turns_and_failures_come_last),
        cmocka_unit_test(the_memory_of_failures_has_an_end),
        cmocka_unit_test(an_unknown_name_has_none),
        cmocka_unit_test(an_address_that_swallows_does_not_hold_up_the_next),
        cmocka_unit_test(an_address_that_refuses_costs_nothing),
        cmocka_unit_test(an_address_without_a_broker_gives_way),
        cmocka_unit_test(a_refusal_is_an_answer),
        cmocka_unit_test(a_blocking_login_tries_once),
        cmocka_unit_test(the_next_try_begins_elsewhere),
        cmocka_unit_test(a_known_dead_address_does_not_fill_the_try),
        cmocka_unit_test(a_try_has_eight_addresses),
        cmocka_unit_test(a_slow_resolver_does_not_use_up_the_time),
        cmocka_unit_test(an_event_loop_sees_the_race),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
