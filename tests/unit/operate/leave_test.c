/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/leave.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "actors/kinds.h"

/* Who is told what, and when, while the broker goes. Time is the test's own; users are actors that
 * count what they are told; in place of net/ is a number of connections. */

enum { USERS = 10, DRAIN_MS = 1000 };

static struct world {
    uint64_t now_ms;
    uint32_t connections;
    bool accepting;
    int start_is_good;
    unsigned warned, told; /* users */
    unsigned others_told;
    uint32_t last_after_ms;
} world;

uint32_t net_count(struct net *net)
{
    return world.connections;
}

void net_drain(struct net *net)
{
    net_stop_accepting(net);
}

void net_stop_accepting(struct net *net)
{
    world.accepting = false;
}

int reload_check_start(struct reload *reload, char *error)
{
    return world.start_is_good;
}

/* --- time, users ------------------------------------------------------------------------------ */

static uint64_t now_ns(void *context)
{
    return world.now_ms * 1000000;
}

/* Each look at the clock while it waits takes a moment. */
static uint64_t passing_ns(void *context)
{
    return (world.now_ms += 50) * 1000000;
}

static uint64_t wall_ms(void *context)
{
    return 1700000000000;
}

static void no_random(void *context, void *to, size_t size)
{
    memset(to, 0, size);
}

static bool take(struct message *message, bool is_user)
{
    const struct stop_message *stop = (const struct stop_message *)message;
    assert_int_equal(message->kind, MESSAGE_STOP);
    world.others_told += !is_user;
    world.warned += is_user && stop->later;
    world.told += is_user && !stop->later;
    world.last_after_ms = stop->retry_after_ms;
    message_destroy(message);
    return true;
}

static enum verdict finish(void *context, struct runner *runner, actor_handle self, void *state)
{
    return VERDICT_GO_ON;
}

static bool receive_as_user(void *context, struct runner *runner, actor_handle self, void *state,
                            struct message *message)
{
    return take(message, true);
}

static bool receive_as_other(void *context, struct runner *runner, actor_handle self, void *state,
                             struct message *message)
{
    return take(message, false);
}

static const struct behaviour user = {
    .name = "user", .kind = KIND_USER, .receive = receive_as_user, .finish = finish};
static const struct behaviour instance = {
    .name = "instance", .kind = KIND_INSTANCE, .receive = receive_as_other, .finish = finish};

/* --- a broker that goes ----------------------------------------------------------------------- */

struct going {
    struct env env;
    struct registry *registry;
    struct scheduler *scheduler;
    struct limits limits;
    _Atomic uint32_t goaways;
    struct leave leave;
};

static int set_up(void **state)
{
    static struct going going;
    going = (struct going){.env = {now_ns, wall_ms, no_random, NULL}};
    world = (struct world){.now_ms = 5000, .connections = USERS, .accepting = true};
    going.limits.limits_close_linger_ms = 100;
    going.limits.process_drain_ms = DRAIN_MS;
    assert_int_equal(registry_create(&going.registry, 100, 8, &going.env), 0);
    const struct scheduler_options scheduler = {
        .registry = going.registry, .env = &going.env, .turn_messages = 8, .wake_backlog = 100};
    assert_int_equal(scheduler_create(&going.scheduler, &scheduler), 0);
    for (char name = 'a'; name < 'a' + USERS; name++)
        assert_int_not_equal(registry_claim(going.registry, &name, 1, &user), 0);
    assert_int_not_equal(registry_claim(going.registry, "shop", 4, &instance), 0);
    going.leave = (struct leave){
        .goodbye = {going.registry, going.scheduler, &going.env, &going.limits},
        .goaways = &going.goaways,
    };
    *state = &going;
    return 0;
}

static int tear_down(void **state)
{
    struct going *going = *state;
    scheduler_destroy(going->scheduler);
    registry_destroy(going->registry);
    return 0;
}

static void run_turns(struct going *going)
{
    struct runner runner = {.drains = true};
    (void)scheduler_run(going->scheduler, &runner, 1000);
}

static bool step(struct going *going, uint64_t ms)
{
    unsigned wait_ms = 0;
    world.now_ms += ms;
    bool over = leave_drain_step(&going->leave, &wait_ms);
    run_turns(going);
    assert_true(over || (wait_ms > 0 && wait_ms < DRAIN_MS));
    return over;
}

/* The signal by which the other thread is asked came, and is taken. */
static bool was_signalled(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return sigtimedwait(&set, NULL, &(struct timespec){0}) == SIGUSR2;
}

static void a_drain_warns_all_and_sends_one_after_the_other_away(void **state)
{
    struct going *going = *state;
    assert_int_equal(leave_ask_drain(&going->leave, 0), 0);
    assert_true(was_signalled());
    assert_int_equal(leave_state(&going->leave), LEAVE_SERVING); /* nobody has begun yet */
    assert_false(step(going, 0));
    assert_int_equal(leave_state(&going->leave), LEAVE_DRAINING);
    assert_false(world.accepting);
    assert_true(world.warned == USERS && world.told == 0);
    assert_false(step(going, DRAIN_MS / 2));
    assert_int_equal(world.told, USERS / 2);
    assert_int_equal(world.last_after_ms, DRAIN_MS / 2); /* before that nobody lets him in */
    assert_false(step(going, DRAIN_MS / 2 - 1));
    assert_int_equal(world.told, USERS - 1);
    assert_true(step(going, 1));
    assert_true(world.told == USERS && world.others_told == 0); /* backends stay until the end */
}

static void who_asks_says_how_long(void **state)
{
    struct going *going = *state;
    assert_int_equal(leave_ask_drain(&going->leave, 4 * DRAIN_MS), 0);
    assert_true(was_signalled());
    assert_false(step(going, 0));
    assert_false(step(going, DRAIN_MS));
    assert_int_equal(world.told, USERS / 4);
}

static void a_drain_without_connections_is_over(void **state)
{
    struct going *going = *state;
    assert_int_equal(leave_ask_drain(&going->leave, 0), 0);
    assert_true(was_signalled());
    world.connections = 0;
    assert_true(step(going, 0));
}

static void who_asks_twice_is_told(void **state)
{
    struct going *going = *state;
    char error[BROKER_ERROR_BYTES];
    assert_int_equal(leave_ask_drain(&going->leave, 0), 0);
    assert_true(was_signalled());
    assert_false(step(going, 0));
    assert_int_equal(leave_ask_drain(&going->leave, 0), -EALREADY);
    assert_int_equal(leave_ask_restart(&going->leave, error), -EALREADY);
    assert_false(was_signalled());
    assert_string_equal(leave_state_name(leave_state(&going->leave)), "draining");
}

static void a_restart_tells_nobody_before_the_stop(void **state)
{
    struct going *going = *state;
    char error[BROKER_ERROR_BYTES] = "";
    world.start_is_good = -EINVAL;
    assert_int_equal(leave_ask_restart(&going->leave, error), -EINVAL);
    assert_false(was_signalled());
    assert_false(leave_restarts(&going->leave));
    world.start_is_good = 0;
    assert_int_equal(leave_ask_restart(&going->leave, error), 0);
    assert_true(was_signalled());
    assert_true(step(going, 0));
    assert_true(leave_restarts(&going->leave));
    assert_true(world.warned + world.told + world.others_told == 0 && world.accepting);
}

/* Bounded, whoever does not hear: clients that stay, a turn that waits, a backend that is dead. */
static void a_stop_tells_all_and_ends(void **state)
{
    struct going *going = *state;
    going->env.monotonic_ns = passing_ns;
    atomic_store(&going->goaways, 1);
    leave_stop(&going->leave);
    assert_int_equal(leave_state(&going->leave), LEAVE_STOPPING);
    assert_false(world.accepting);
    run_turns(going);
    assert_true(world.told == USERS && world.warned == 0 && world.others_told == 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_drain_warns_all_and_sends_one_after_the_other_away),
        TEST(who_asks_says_how_long),
        TEST(a_drain_without_connections_is_over),
        TEST(who_asks_twice_is_told),
        TEST(a_restart_tells_nobody_before_the_stop),
        TEST(a_stop_tells_all_and_ends),
    };
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
