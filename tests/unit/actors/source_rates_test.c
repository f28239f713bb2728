/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "actors/source_rates.h"

/* Sources: who shares one, what many at once may spend, and that nothing is left of who left. */

static struct source_rate *enter(struct source_rates *rates, const char *address)
{
    return source_rates_enter(rates, bytes_of_text(address));
}

static void one_source_one_entry(void **state)
{
    const struct limits limits = {.limits_requests_per_second_per_source = 10};
    struct source_rates *rates = source_rates_create(&limits, env_system());
    struct source_rate *first = enter(rates, "10.0.0.1:1000");
    assert_non_null(first);
    assert_ptr_equal(first, enter(rates, "10.0.0.1:2000"));
    struct source_rate *other = enter(rates, "10.0.0.2:1000");
    assert_ptr_not_equal(first, other);
    struct source_rate *six = enter(rates, "[2001:db8::1]:1");
    assert_ptr_equal(six, enter(rates, "[2001:db8::ffff]:2"));
    assert_null(enter(rates, "no address"));
    source_rates_leave(rates, first);
    assert_ptr_equal(first, enter(rates, "10.0.0.1:3000")); /* one still holds it */
    for (int i = 0; i < 2; i++)
        source_rates_leave(rates, first);
    source_rates_leave(rates, other);
    for (int i = 0; i < 2; i++)
        source_rates_leave(rates, six);
    source_rates_leave(rates, NULL);
    source_rates_destroy(rates); /* checks that it is empty */
}

/* Nobody has an address of 8000::/3, where the wider sources get their numbers; who takes one all
 * the same shares an entry with one of those, whoever is there first. */
static void an_address_that_nobody_has_is_no_harm(void **state)
{
    const struct limits limits = {.limits_requests_per_second_per_source = 10};
    struct source_rates *rates = source_rates_create(&limits, env_system());
    const char *const addresses[] = {"[2000::1]:1", "[8000::1]:1"};
    for (unsigned i = 0; i < 2; i++) {
        struct source_rate *first = enter(rates, addresses[i]);
        struct source_rate *second = enter(rates, addresses[!i]);
        assert_int_equal(source_rate_take(rates, first, 5), 0);
        assert_int_equal(source_rate_take(rates, second, 5), 0);
        source_rates_leave(rates, first);
        assert_int_equal(source_rate_take(rates, second, 5), 0);
        source_rates_leave(rates, second);
    }
    source_rates_destroy(rates);
}

static void a_limit_that_comes_later_holds_for_those_who_are_there(void **state)
{
    struct limits limits = {0};
    struct source_rates *rates = source_rates_create(&limits, env_system());
    assert_null(enter(NULL, "10.0.0.1:1000"));
    assert_int_equal(source_rate_take(rates, NULL, 5), 0);
    struct source_rate *rate = enter(rates, "10.0.0.1:1000");
    for (int i = 0; i < 100; i++)
        assert_int_equal(source_rate_take(rates, rate, 5), 0);
    limits.limits_requests_per_second_per_source = 10;
    for (int i = 0; i < 10; i++)
        assert_int_equal(source_rate_take(rates, rate, 5), 0);
    assert_int_not_equal(source_rate_take(rates, rate, 5), 0);
    limits.limits_requests_per_second_per_source = 0;
    assert_int_equal(source_rate_take(rates, rate, 5), 0);
    source_rates_leave(rates, rate);
    source_rates_destroy(rates);
}

static void a_second_at_once_and_back_evenly(void **state)
{
    const struct limits limits = {.limits_requests_per_second_per_source = 40};
    struct source_rates *rates = source_rates_create(&limits, env_system());
    struct source_rate *rate = enter(rates, "10.0.0.1:1000");
    for (int i = 0; i < 40; i++)
        assert_int_equal(source_rate_take(rates, rate, 1000), 0);
    uint32_t wait_ms = source_rate_take(rates, rate, 1000);
    assert_int_equal(wait_ms, 25);
    assert_int_equal(source_rate_take(rates, rate, 1000 + wait_ms), 0);
    assert_int_not_equal(source_rate_take(rates, rate, 1000 + wait_ms), 0);
    source_rates_leave(rates, rate);
    source_rates_destroy(rates);
}

static void told_once_a_second(void **state)
{
    const struct limits limits = {.limits_requests_per_second_per_source = 1};
    struct source_rates *rates = source_rates_create(&limits, env_system());
    struct source_rate *rate = enter(rates, "10.0.0.1:1000");
    assert_true(source_rate_is_news(rate, 5000));
    assert_false(source_rate_is_news(rate, 5999));
    assert_true(source_rate_is_news(rate, 6000));
    source_rates_leave(rates, rate);
    source_rates_destroy(rates);
}

enum { THREADS = 4, TRIES = 20000, PER_SECOND = 5000 };

struct shared {
    struct source_rates *rates;
    _Atomic unsigned passed;
};

static void *spend(void *argument)
{
    struct shared *shared = argument;
    for (int i = 0; i < TRIES; i++) {
        struct source_rate *rate = enter(shared->rates, i % 2 ? "10.0.0.1:7" : "10.0.0.1:8");
        if (source_rate_take(shared->rates, rate, 1000) == 0)
            atomic_fetch_add(&shared->passed, 1);
        source_rates_leave(shared->rates, rate);
    }
    return NULL;
}

/* The clock stands still, so exactly a second's worth passes, whoever asks. */
static void many_threads_spend_no_more(void **state)
{
    const struct limits limits = {.limits_requests_per_second_per_source = PER_SECOND};
    struct shared shared = {.rates = source_rates_create(&limits, env_system())};
    struct source_rate *held = enter(shared.rates, "10.0.0.1:1000"); /* it is not forgotten */
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, spend, &shared), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&shared.passed), PER_SECOND);
    source_rates_leave(shared.rates, held);
    source_rates_destroy(shared.rates);
}

/* Nobody is left of a source, and somebody comes again: it has what it had, until that matters no
 * more. */
static void a_source_that_left_has_spent_what_it_has_spent(void **state)
{
    const struct limits limits = {.limits_requests_per_second_per_source = 10};
    struct source_rates *rates = source_rates_create(&limits, env_system());
    struct source_rate *rate = enter(rates, "10.0.0.1:1000");
    for (int i = 0; i < 10; i++)
        assert_int_equal(source_rate_take(rates, rate, 1000), 0);
    source_rates_leave(rates, rate);
    rate = enter(rates, "10.0.0.1:2000");
    assert_int_equal(source_rate_take(rates, rate, 1000), 100);
    source_rates_leave(rates, rate);
    rate = enter(rates, "10.0.0.1:3000");
    for (int i = 0; i < 10; i++)
        assert_int_equal(source_rate_take(rates, rate, 2000), 0);
    source_rates_leave(rates, rate);
    source_rates_destroy(rates);
}

/* A second's worth of one source, twice for its /56, four times for its /48. */
static void who_has_more_addresses_has_little_more(void **state)
{
    const struct limits limits = {.limits_requests_per_second_per_source = 10};
    struct source_rates *rates = source_rates_create(&limits, env_system());
    struct source_rate *held[64];
    unsigned passed = 0;
    for (unsigned i = 0; i < 64; i++) {
        char text[64];
        snprintf(text, sizeof(text), "[2001:db8:7:%x::1]:5", i << 8);
        held[i] = enter(rates, text);
        passed += source_rate_take(rates, held[i], 1000) == 0;
    }
    assert_int_equal(passed, 40);
    struct source_rate *other = enter(rates, "[2001:db8:8::1]:5");
    assert_int_equal(source_rate_take(rates, other, 1000), 0);
    source_rates_leave(rates, other);
    passed = 0;
    struct source_rate *home[32];
    for (unsigned i = 0; i < 32; i++) {
        char text[64];
        snprintf(text, sizeof(text), "[2001:db8:9:12%02x::1]:5", i);
        home[i] = enter(rates, text);
        passed += source_rate_take(rates, home[i], 1000) == 0;
    }
    assert_int_equal(passed, 20);
    for (unsigned i = 0; i < 64; i++)
        source_rates_leave(rates, held[i]);
    for (unsigned i = 0; i < 32; i++)
        source_rates_leave(rates, home[i]);
    source_rates_destroy(rates); /* checks that it is empty */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_source_one_entry),
        cmocka_unit_test(an_address_that_nobody_has_is_no_harm),
        cmocka_unit_test(who_has_more_addresses_has_little_more),
        cmocka_unit_test(a_limit_that_comes_later_holds_for_those_who_are_there),
        cmocka_unit_test(a_second_at_once_and_back_evenly),
        cmocka_unit_test(told_once_a_second),
        cmocka_unit_test(many_threads_spend_no_more),
        cmocka_unit_test(a_source_that_left_has_spent_what_it_has_spent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
