/* SPDX-License-Identifier: Apache-2.0 */
#include "net_fixture.h"

#include "broken.h"
#include "net/carry.h"
#include "net/private.h"

/* What the front end's own code promises itself: each is broken once, in a process of its own.
 * There the test's thread is the only one left, so it is nobody's I/O thread; and where none was
 * started, it may do an I/O thread's work. */

struct scene {
    struct fixture *fixture;
    struct net *net;
    struct reactor *reactor;
    struct conn *conn;
    conn_handle handle;
};

struct promise {
    const char *name;
    void (*act)(void *scene);
    const char *check;
};

static void keep_promises(struct scene *scene, const struct promise *promises, size_t count)
{
    unsigned unkept = 0;
    for (size_t i = 0; i < count; i++)
        if (!is_broken(promises[i].act, scene, promises[i].check)) {
            print_message("nobody objects: %s\n", promises[i].name);
            unkept++;
        }
    assert_int_equal(unkept, 0);
}

#define KEEP(scene, promises) keep_promises(scene, promises, sizeof(promises) / sizeof(*(promises)))

/* --- which thread ----------------------------------------------------------------------------- */

static void asks_for_the_owner(void *argument)
{
    struct scene *scene = argument;
    net_owner(scene->net, scene->handle);
}

static void asks_what_is_kept(void *argument)
{
    struct scene *scene = argument;
    net_kept(scene->net, scene->handle);
}

static void asks_for_the_address(void *argument)
{
    struct scene *scene = argument;
    char text[NET_ADDRESS_BYTES_MAX];
    net_address(scene->net, scene->handle, text);
}

static void asks_by_which_listener(void *argument)
{
    struct scene *scene = argument;
    net_listener(scene->net, scene->handle);
}

static void keeps_something(void *argument)
{
    struct scene *scene = argument;
    net_keep(scene->net, scene->handle, scene);
}

static void binds(void *argument)
{
    struct scene *scene = argument;
    net_bind(scene->net, scene->handle, OWNER);
}

static void writes(void *argument)
{
    struct scene *scene = argument;
    net_write(scene->net, 0, scene->handle, "x", 1);
}

static void closes(void *argument)
{
    struct scene *scene = argument;
    conn_close(scene->reactor, scene->conn);
}

static void ends(void *argument)
{
    struct scene *scene = argument;
    conn_end(scene->reactor, scene->conn, CONN_LOST);
}

static void reads(void *argument)
{
    struct scene *scene = argument;
    conn_read(scene->reactor, scene->conn);
}

static void takes_a_slot(void *argument)
{
    struct scene *scene = argument;
    slot_take(scene->reactor);
}

static void accepts(void *argument)
{
    struct scene *scene = argument;
    listener_accept(scene->reactor, LISTENER_tcp);
}

static void stops_to_listen(void *argument)
{
    struct scene *scene = argument;
    listener_stop(scene->reactor);
}

static void runs_a_round(void *argument)
{
    struct scene *scene = argument;
    reactor_round(scene->reactor, false);
}

static void closes_what_runs(void *argument)
{
    struct scene *scene = argument;
    net_close(scene->net);
}

static void starts_twice(void *argument)
{
    struct scene *scene = argument;
    net_start(scene->net);
}

static void only_the_io_thread_may(void **state)
{
    static const struct promise promises[] = {
        {"net_owner", asks_for_the_owner, "on_io_thread"},
        {"net_kept", asks_what_is_kept, "on_io_thread"},
        {"net_address", asks_for_the_address, "on_io_thread"},
        {"net_listener", asks_by_which_listener, "on_io_thread"},
        {"net_keep", keeps_something, "on_io_thread"},
        {"net_bind", binds, "on_io_thread"},
        {"net_write, unbound", writes, "conn->owner != 0 || on_io_thread"},
        {"conn_close", closes, "on_io_thread"},
        {"conn_end", ends, "on_io_thread"},
        {"conn_read", reads, "on_io_thread"},
        {"slot_take", takes_a_slot, "on_io_thread"},
        {"listener_accept", accepts, "on_io_thread"},
        {"listener_stop", stops_to_listen, "on_io_thread"},
        {"reactor_round", runs_a_round, "on_io_thread"},
        {"net_close", closes_what_runs, "net->started == 0"},
        {"net_start", starts_twice, "net->started == 0"},
    };
    struct fixture *fixture = *state;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct scene scene = {fixture, fixture->net, &fixture->net->reactors[0],
                          slot_find(fixture->net, peer.conn), peer.conn};
    KEEP(&scene, promises);
    close(peer.fd);
}

/* --- who owns the write side ------------------------------------------------------------------ */

static void writes_after_its_release(void *argument)
{
    struct scene *scene = argument;
    net_release(scene->net, scene->handle);
    net_write(scene->net, 0, scene->handle, "x", 1);
}

static void flushes_after_unbinding(void *argument)
{
    struct scene *scene = argument;
    net_unbind(scene->net, scene->handle, NULL, 0);
    net_flush(scene->net, 0, scene->handle);
}

static void returns_it_twice(void *argument)
{
    struct scene *scene = argument;
    net_return(scene->net, scene->handle, NULL);
    net_return(scene->net, scene->handle, NULL);
}

static void welcomes_a_stale_one(void *argument)
{
    struct scene *scene = argument;
    net_welcome(scene->net, scene->handle + (UINT64_C(1) << 32));
}

static void who_has_given_it_back_does_not_write(void **state)
{
    static const struct promise promises[] = {
        {"net_write after net_release", writes_after_its_release, "ORDERS_GIVE"},
        {"net_flush after net_unbind", flushes_after_unbinding, "ORDERS_GIVE"},
        {"net_return twice", returns_it_twice, "ORDERS_GIVE"},
        {"net_welcome, stale", welcomes_a_stale_one, "conn != NULL"},
    };
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer peer = new_peer(fixture);
    struct scene scene = {fixture, fixture->net, &fixture->net->reactors[0], NULL, peer.conn};
    KEEP(&scene, promises);
    close(peer.fd);
}

/* --- states, counts, lists: without a thread -------------------------------------------------- */

static void closes_twice(void *argument)
{
    struct scene *scene = argument;
    conn_close(scene->reactor, scene->conn);
    conn_close(scene->reactor, scene->conn);
}

/* The actor that it was bound to has retired before the post (door/lobby.c). */
static void binds_again_and_not_at_all(struct scene *scene)
{
    uint32_t strangers = atomic_load(&scene->net->unbound);
    net_bind(scene->net, scene->handle, OWNER);
    net_bind(scene->net, scene->handle, OWNER + 1);
    assert_int_equal(net_owner(scene->net, scene->handle), OWNER + 1);
    assert_int_equal(atomic_load(&scene->net->unbound), strangers - 1);
    net_bind(scene->net, scene->handle, 0);
    net_bind(scene->net, scene->handle, 0);
    assert_int_equal(net_owner(scene->net, scene->handle), 0);
    assert_int_equal(atomic_load(&scene->net->unbound), strangers);
}

/* What was delayed may find no memory to go on, which ends the connection: not in the hands of
 * whoever has judged it and is about to answer. */
static void goes_on_by_an_order(struct scene *scene)
{
    net_keep(scene->net, scene->handle, scene);
    atomic_store(&scene->conn->delayed, true);
    net_keep(scene->net, scene->handle, NULL);
    assert_false(scene->conn->again);
    assert_int_equal(atomic_load(&scene->conn->orders), ORDER_GO_ON);
    conn_orders(scene->reactor, scene->conn, ORDER_GO_ON);
    assert_true(scene->conn->again);
}

/* Accepting has stopped and the socket takes bytes again, both in one batch of events. */
static void is_flushed_though_it_was_released(struct scene *scene)
{
    struct conn *conn = scene->conn;
    conn->pending = malloc(1);
    *conn->pending = 'x';
    conn->pending_size = conn->pending_capacity = 1;
    atomic_store(&conn->wants_write, true);
    net_release(scene->net, scene->handle);
    conn_writable(scene->reactor, conn);
    assert_null(conn->pending);
}

static void ends_for_no_reason(void *argument)
{
    struct scene *scene = argument;
    conn_end(scene->reactor, scene->conn, 0);
}

static void finishes_what_is_open(void *argument)
{
    struct scene *scene = argument;
    conn_finish(scene->reactor, scene->conn);
}

static void drains_what_is_open(void *argument)
{
    struct scene *scene = argument;
    conn_drain(scene->reactor, scene->conn);
}

static void unbinds_a_stranger(void *argument)
{
    struct scene *scene = argument;
    conn_orders(scene->reactor, scene->conn, ORDER_UNBIND);
}

static void orders_nothing(void *argument)
{
    struct scene *scene = argument;
    conn_orders(scene->reactor, scene->conn, 0);
}

static void shakes_hands_when_it_is_in(void *argument)
{
    struct scene *scene = argument;
    handshake_list(scene->reactor, scene->conn);
}

static void is_late_in_no_handshake(void *argument)
{
    struct scene *scene = argument;
    handshake_expire(scene->reactor, scene->conn);
}

static void waits_twice(void *argument)
{
    struct scene *scene = argument;
    deadline_enter(scene->reactor, scene->conn, DEADLINE_SILENCE);
}

static void waits_in_a_broken_list(void *argument)
{
    struct scene *scene = argument;
    scene->reactor->queues[DEADLINE_LOGIN].last = NO_SLOT;
    deadline_leave(scene->reactor, scene->conn);
}

static void closes_one_too_many(void *argument)
{
    struct scene *scene = argument;
    atomic_store(&scene->net->open, 0);
    conn_close(scene->reactor, scene->conn);
}

static void leaves_an_empty_room(void *argument)
{
    struct scene *scene = argument;
    atomic_store(&scene->net->unbound, 0);
    conn_leaves_strangers(scene->reactor, scene->conn);
}

static void gives_back_what_is_used(void *argument)
{
    struct scene *scene = argument;
    scene->conn->state = CONN_FREE;
    slot_give(scene->reactor, scene->conn);
}

static void takes_a_slot_in_use(void *argument)
{
    struct scene *scene = argument;
    scene->reactor->first_free = scene->conn->slot + 1;
    slot_take(scene->reactor);
}

static void finds_no_reactor(void *argument)
{
    struct scene *scene = argument;
    slot_find(scene->net, scene->handle | 0x3f000000);
}

static void finds_no_slot(void *argument)
{
    struct scene *scene = argument;
    slot_conn(scene->reactor, CHUNK_CONNS);
}

static void comes_in_unjudged(void *argument)
{
    struct scene *scene = argument;
    const struct arrival arrival = {.fd = -1, .source = SOURCE_NONE, .full = 1};
    conn_adopt(scene->reactor, &arrival);
}

static void fills_the_door(void *argument)
{
    struct scene *scene = argument;
    const struct arrival arrival = {.fd = -1, .source = SOURCE_NONE, .full = 1};
    for (unsigned i = 0; i <= DOOR_MAX; i++)
        strangers_enter(scene->reactor, &arrival);
}

static void accepts_elsewhere(void *argument)
{
    struct scene *scene = argument;
    listener_resume(&scene->net->reactors[1]);
}

static void admits_elsewhere(void *argument)
{
    struct scene *scene = argument;
    struct arrival arrival = {.fd = -1, .source = SOURCE_NONE};
    const struct sockaddr_storage from = {.ss_family = AF_UNIX};
    strangers_admit(&scene->net->reactors[1], &arrival, &from);
}

static void evicts_what_was_not_counted(void *argument)
{
    struct scene *scene = argument;
    scene->conn->evicted_bytes = 1;
    evict_done(scene->reactor, scene->conn);
}

static void owes_output(void *argument)
{
    struct scene *scene = argument;
    atomic_store(&scene->conn->output_bytes, 1);
    evict_account(scene->net, scene->reactor, scene->conn, 0);
}

static void is_on_the_list_unmarked(void *argument)
{
    struct scene *scene = argument;
    handle_list_add(&scene->reactor->slow, scene->handle);
    deadline_check_slow(scene->reactor);
}

static void carries_what_is_not_there(void *argument)
{
    struct scene *scene = argument;
    atomic_store(&scene->conn->carry_size, 1);
    carry_drop(scene->reactor, scene->conn);
}

static void carries_too_much(void *argument)
{
    struct scene *scene = argument;
    carry_keep(scene->reactor, scene->conn,
               (struct bytes){scene->reactor->input, scene->reactor->input_bytes + 1});
}

static void states_counts_and_lists(void **state)
{
    static const struct promise promises[] = {
        {"conn_close twice", closes_twice, "conn->state != CONN_FREE"},
        {"conn_end for no reason", ends_for_no_reason, "end != 0"},
        {"conn_finish of an open one", finishes_what_is_open, "conn->state == CONN_CLOSING"},
        {"conn_drain of an open one", drains_what_is_open, "conn->state == CONN_CLOSING"},
        {"unbind of a stranger", unbinds_a_stranger, "conn->owner != 0"},
        {"an order for nothing", orders_nothing, "orders != 0"},
        {"handshake_list", shakes_hands_when_it_is_in, "conn->state == CONN_SHAKING"},
        {"handshake_expire", is_late_in_no_handshake, "conn->state == CONN_SHAKING"},
        {"deadline_enter twice", waits_twice, "conn->queue == DEADLINES"},
        {"deadline_leave, a broken list", waits_in_a_broken_list, "*back_to_it == conn->slot"},
        {"one closed too many", closes_one_too_many, "atomic_fetch_sub"},
        {"an empty room", leaves_an_empty_room, "atomic_fetch_sub"},
        {"slot_give of one in use", gives_back_what_is_used, "conn->queue == DEADLINES"},
        {"slot_take of one in use", takes_a_slot_in_use, "conn->state == CONN_FREE"},
        {"a handle of no thread", finds_no_reactor, "index < net->options.reactors"},
        {"a slot that was never made", finds_no_slot, "chunk != NULL"},
        {"conn_adopt of one at the door", comes_in_unjudged, "arrival->full == 0"},
        {"more at the door than there is room for", fills_the_door, "door_count < DOOR_MAX"},
        {"listener_resume on another thread", accepts_elsewhere, "reactor->index == 0"},
        {"strangers_admit on another thread", admits_elsewhere, "reactor->index == 0"},
        {"evict_done of nothing", evicts_what_was_not_counted, "evicting >= conn->evicted_bytes"},
        {"output below zero", owes_output, "total >= 0"},
        {"slow, but not listed", is_on_the_list_unmarked, "conn->slow_listed"},
        {"a carry without memory", carries_what_is_not_there, "carry_size"},
        {"a carry larger than what was read", carries_too_much, "rest.size <="},
    };
    struct fixture *fixture = *state;
    char error[256];
    fixture->options.reactors = 2;
    assert_int_equal(open_front(fixture, error), 0);
    int fd = client(fixture);
    struct reactor *reactor = &fixture->net->reactors[0];
    listener_accept(reactor, LISTENER_tcp);
    struct conn *conn = slot_conn(reactor, 0);
    struct scene scene = {fixture, fixture->net, reactor, conn, conn_handle_of(reactor, conn)};
    assert_int_equal(conn->state, CONN_OPEN);
    binds_again_and_not_at_all(&scene);
    KEEP(&scene, promises);
    goes_on_by_an_order(&scene);
    is_flushed_though_it_was_released(&scene);
    close(fd);
}

/* --- sources ---------------------------------------------------------------------------------- */

static struct sources *new_sources(uint32_t *source)
{
    const struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(1)};
    static const struct limits limits = {.limits_prelogin_per_source = 4};
    struct sources *sources = sources_create(&limits, env_system());
    sources_take(sources, (const struct sockaddr *)&address, source);
    return sources;
}

static void gives_one_twice(void *argument)
{
    uint32_t source;
    struct sources *sources = new_sources(&source);
    sources_give(sources, source);
    sources_give(sources, source);
}

static void gives_what_there_is_not(void *argument)
{
    uint32_t source;
    struct sources *sources = new_sources(&source);
    sources_give(sources, 1000);
}

static void what_was_taken_is_given_once(void **state)
{
    static const struct promise promises[] = {
        {"sources_give twice", gives_one_twice, "item->count > 0"},
        {"sources_give of nothing", gives_what_there_is_not, "source < sources->made"},
    };
    struct scene scene = {0};
    KEEP(&scene, promises);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_the_io_thread_may),
        TEST(who_has_given_it_back_does_not_write),
        TEST(states_counts_and_lists),
        cmocka_unit_test(what_was_taken_is_given_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
