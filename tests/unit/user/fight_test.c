/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "user/fight.h"

/* The allowance of each host: n, n + 1, how it comes back, and whom it does not touch. */

static uint32_t takeover(struct fight **fight, const char *address, uint32_t per_minute,
                         uint64_t now_ms)
{
    const struct fight_owner nobody = {0};
    return fight_takeover(fight, nobody, bytes_of_text(address), per_minute, now_ms);
}

static uint32_t takeover_of(struct fight **fight, struct spent *spent, const char *name,
                            const char *address, uint64_t now_ms)
{
    const struct fight_owner owner = {bytes_of_text(name), spent};
    return fight_takeover(fight, owner, bytes_of_text(address), 1, now_ms);
}

static void n_pass_and_one_more_waits(void **state)
{
    struct fight *fight = NULL;
    for (unsigned i = 0; i < 30; i++)
        assert_int_equal(takeover(&fight, "10.0.0.1:1", 30, 5000), 0);
    assert_int_equal(takeover(&fight, "10.0.0.1:2", 30, 5000), 2000);
    assert_int_equal(takeover(&fight, "10.0.0.1:2", 30, 6999), 1);
    assert_int_equal(takeover(&fight, "10.0.0.1:2", 30, 7000), 0);
    assert_int_equal(takeover(&fight, "10.0.0.1:2", 30, 7000), 2000);
    fight_destroy(fight);
}

static void all_of_it_is_back_after_a_minute(void **state)
{
    struct fight *fight = NULL;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 7; i++)
            assert_int_equal(takeover(&fight, "[::1]:1", 7, 1 + round * 60004), 0);
        assert_int_not_equal(takeover(&fight, "[::1]:1", 7, 1 + round * 60004), 0);
    }
    fight_destroy(fight);
}

static void a_clock_that_stands_or_lags_gives_nothing_back(void **state)
{
    struct fight *fight = NULL;
    assert_int_equal(takeover(&fight, "a:1", 1, 9000), 0);
    assert_int_equal(takeover(&fight, "a:1", 1, 8000), 60000);
    assert_int_equal(takeover(&fight, "a:1", 1, 9001), 59999);
    fight_destroy(fight);
}

static void each_host_has_its_own(void **state)
{
    struct fight *fight = NULL;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(takeover(&fight, "10.0.0.1:1", 2, 0), 0);
    assert_int_not_equal(takeover(&fight, "10.0.0.1:1", 2, 0), 0);
    /* Many others come once; the one who fights is not forgotten for them. */
    for (unsigned i = 0; i < 100; i++) {
        char address[32];
        snprintf(address, sizeof(address), "10.0.1.%u:1", i);
        assert_int_equal(takeover(&fight, address, 2, 0), 0);
    }
    assert_int_not_equal(takeover(&fight, "10.0.0.1:1", 2, 0), 0);
    fight_destroy(fight);
}

/* Whoever has one address of a /64 has them all: they share one allowance. */
static void many_addresses_of_one_network_are_one(void **state)
{
    struct fight *fight = NULL;
    for (unsigned i = 0; i < 5; i++) {
        char address[32];
        snprintf(address, sizeof(address), "[2001:db8::%u]:1", i);
        uint32_t wait_ms = takeover(&fight, address, 3, 0);
        assert_int_equal(wait_ms != 0, i >= 3);
    }
    assert_int_equal(takeover(&fight, "[2001:db8:0:1::1]:1", 3, 0), 0);
    fight_destroy(fight);
}

/* Addresses of one network that is larger: its first 56 bits have twice as much, 48 four times. */
static void wider_networks_have_a_limit_too(void **state)
{
    struct spent *spent = spent_create(env_system());
    struct fight *fight = NULL;
    const struct fight_owner ann = {bytes_of_text("ann"), spent};
    unsigned taken = 0, in_one = 0;
    for (unsigned i = 0; i < 64; i++) {
        char address[48];
        snprintf(address, sizeof(address), "[2001:db8:7:%x::1]:1", i);
        in_one += fight_takeover(&fight, ann, bytes_of_text(address), 3, 1000) == 0;
    }
    assert_int_equal(in_one, 6);
    taken = in_one;
    for (unsigned i = 1; i < 64; i++) {
        char address[48];
        snprintf(address, sizeof(address), "[2001:db8:7:%x::1]:1", i << 8);
        taken += fight_takeover(&fight, ann, bytes_of_text(address), 3, 1000) == 0;
    }
    assert_int_equal(taken, 12);
    /* Forgotten neither for many others nor with the session. */
    for (unsigned i = 0; i < 100; i++) {
        char address[48];
        snprintf(address, sizeof(address), "[2001:db8:%x::1]:1", i + 16);
        assert_int_equal(fight_takeover(&fight, ann, bytes_of_text(address), 3, 1000), 0);
    }
    assert_int_equal(fight_takeover(&fight, ann, bytes_of_text("[2001:db8:7:ff00::1]:1"), 3, 1000),
                     5000);
    fight_remember(fight, ann);
    fight_destroy(fight);
    fight = NULL;
    assert_int_equal(fight_takeover(&fight, ann, bytes_of_text("[2001:db8:7:ff00::1]:1"), 3, 1000),
                     5000);
    fight_destroy(fight);
    spent_destroy(spent);
}

static void none_means_no_limit(void **state)
{
    struct fight *fight = NULL;
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(takeover(&fight, "10.0.0.1:1", 0, 0), 0);
    assert_null(fight);
}

/* A Logout between two takeovers gives nothing back, to nobody else's fight either. */
static void a_fight_outlives_the_session(void **state)
{
    struct spent *spent = spent_create(env_system());
    const struct fight_owner ann = {bytes_of_text("ann"), spent};
    struct fight *fight = NULL;
    assert_int_equal(takeover_of(&fight, spent, "ann", "10.0.0.1:7", 1000), 0);
    fight_remember(fight, ann);
    fight_destroy(fight);
    fight = NULL;
    assert_int_equal(takeover_of(&fight, spent, "bob", "10.0.0.1:7", 1000), 0);
    fight_destroy(fight);
    fight = NULL;
    assert_int_equal(takeover_of(&fight, spent, "ann", "10.0.0.2:7", 1000), 0);
    assert_int_equal(takeover_of(&fight, spent, "ann", "10.0.0.1:7", 1000), 60000);
    fight_destroy(fight);
    fight_remember(NULL, ann);
    spent_destroy(spent);
}

/* More of them than there are places, in turns: each has what one may have, and not once more. */
static void many_hosts_in_turns_are_not_forgotten(void **state)
{
    struct spent *spent = spent_create(env_system());
    struct fight *fight = NULL;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 20; i++) {
            char address[32];
            snprintf(address, sizeof(address), "10.0.0.%u:1", i + 1);
            uint32_t wait_ms = takeover_of(&fight, spent, "ann", address, 1000 + 20 * round + i);
            assert_int_equal(wait_ms, round == 0 ? 0 : 60000 - 20 * round);
        }
    }
    fight_destroy(fight);
    spent_destroy(spent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(n_pass_and_one_more_waits),
        cmocka_unit_test(all_of_it_is_back_after_a_minute),
        cmocka_unit_test(a_clock_that_stands_or_lags_gives_nothing_back),
        cmocka_unit_test(each_host_has_its_own),
        cmocka_unit_test(many_addresses_of_one_network_are_one),
        cmocka_unit_test(wider_networks_have_a_limit_too),
        cmocka_unit_test(none_means_no_limit),
        cmocka_unit_test(a_fight_outlives_the_session),
        cmocka_unit_test(many_hosts_in_turns_are_not_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
