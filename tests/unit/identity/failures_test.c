/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/failures.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static const uint64_t key[2] = {1, 2};

/* So many in a minute. */
static struct failures *create(struct limits *limits, uint64_t per_minute)
{
    *limits = (struct limits){.limits_failed_logins_per_source = per_minute};
    return failures_create(limits_failed_logins_per_source, limits, key);
}

static uint32_t wait_ms(struct failures *failures, const char *address, uint64_t now_ms)
{
    return failures_wait_ms(failures, bytes_of_text(address), now_ms);
}

static void note(struct failures *failures, const char *address, uint64_t now_ms)
{
    failures_note(failures, bytes_of_text(address), now_ms);
}

static void ten_and_no_eleventh(void **state)
{
    struct limits limits;
    struct failures *failures = create(&limits, 10);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(wait_ms(failures, "10.0.0.1:5", 1000), 0);
        note(failures, "10.0.0.1:6", 1000);
    }
    assert_int_equal(wait_ms(failures, "10.0.0.1:7", 1000), 6000);
    assert_int_equal(wait_ms(failures, "10.0.0.1:7", 6999), 1);
    assert_int_equal(wait_ms(failures, "10.0.0.1:7", 7000), 0); /* one is given back */
    note(failures, "10.0.0.1:7", 7000);
    assert_int_equal(wait_ms(failures, "10.0.0.1:7", 7000), 6000);
    assert_int_equal(wait_ms(failures, "10.0.0.1:7", 67000), 0);
    failures_destroy(failures);
}

/* What had been submitted before the limit was reached fails too: that must not lengthen it. */
static void more_failures_than_allowed_cost_no_more(void **state)
{
    struct limits limits;
    struct failures *failures = create(&limits, 10);
    for (unsigned i = 0; i < 1000; i++)
        note(failures, "10.0.0.1:5", 1000);
    assert_int_equal(wait_ms(failures, "10.0.0.1:5", 1000), 6000);
    failures_destroy(failures);
}

static void zero_is_no_limit(void **state)
{
    struct limits limits;
    struct failures *failures = create(&limits, 0);
    for (unsigned i = 0; i < 100; i++)
        note(failures, "10.0.0.1:5", 1000);
    assert_int_equal(wait_ms(failures, "10.0.0.1:5", 1000), 0);
    failures_destroy(failures);
}

static void a_source_is_more_than_one_address(void **state)
{
    struct limits limits;
    struct failures *failures = create(&limits, 1);
    note(failures, "[2001:db8:0:1::1]:5", 1000);
    assert_int_not_equal(wait_ms(failures, "[2001:db8:0:1:9999::1]:6", 1000), 0);
    assert_int_equal(wait_ms(failures, "[2001:db8:0:2::1]:5", 1000), 0);
    failures_destroy(failures);
}

static void who_has_no_address_is_never_limited(void **state)
{
    struct limits limits;
    struct failures *failures = create(&limits, 1);
    note(failures, "", 1000);
    assert_int_equal(wait_ms(failures, "", 1000), 0);
    failures_destroy(failures);
}

/* 200,000 sources fail; nobody else is hindered, and who fails most is not forgotten. */
static void a_full_table_hinders_nobody(void **state)
{
    struct limits limits;
    struct failures *failures = create(&limits, 10);
    char address[32];
    for (unsigned i = 0; i < 200000; i++) {
        if (i % 20 == 0)
            note(failures, "10.0.0.1:5", 1000);
        snprintf(address, sizeof(address), "11.%u.%u.%u:5", i >> 16 & 255, i >> 8 & 255, i & 255);
        note(failures, address, 1000);
    }
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(address, sizeof(address), "12.0.%u.%u:5", i >> 8 & 255, i & 255);
        assert_int_equal(wait_ms(failures, address, 1000), 0);
    }
    assert_int_not_equal(wait_ms(failures, "10.0.0.1:5", 1000), 0);
    failures_destroy(failures);
}

/* Lower, none, and higher again: for those who have failed before, too. */
static void another_limit(void **state)
{
    struct limits limits;
    struct failures *failures = create(&limits, 10);
    for (unsigned i = 0; i < 9; i++)
        note(failures, "10.0.0.1:5", 1000);
    assert_int_equal(wait_ms(failures, "10.0.0.1:5", 1000), 0);
    limits.limits_failed_logins_per_source = 5;
    assert_int_not_equal(wait_ms(failures, "10.0.0.1:5", 1000), 0);
    limits.limits_failed_logins_per_source = 0;
    assert_int_equal(wait_ms(failures, "10.0.0.1:5", 1000), 0);
    limits.limits_failed_logins_per_source = 10;
    note(failures, "10.0.0.2:5", 1000);
    assert_int_equal(wait_ms(failures, "10.0.0.2:5", 1000), 0);
    failures_destroy(failures);
}

static void a_clock_that_steps_back(void **state)
{
    struct limits limits;
    struct failures *failures = create(&limits, 1);
    note(failures, "10.0.0.1:5", 100000);
    assert_int_equal(wait_ms(failures, "10.0.0.1:5", 1000), 60000);
    failures_destroy(failures);
}

/* A /48 whose addresses fail one after the other: four times what one may. */
static void who_has_more_addresses_has_little_more(void **state)
{
    struct limits limits;
    struct failures *failures = create(&limits, 3);
    unsigned tried = 0;
    for (unsigned i = 0; i < 256; i++) {
        char text[64];
        snprintf(text, sizeof(text), "[2001:db8:7:%x::1]:5", i << 8);
        if (wait_ms(failures, text, 1000) != 0)
            continue;
        note(failures, text, 1000);
        tried++;
    }
    assert_int_equal(tried, 12);
    assert_int_equal(wait_ms(failures, "[2001:db8:8::1]:5", 1000), 0);
    failures_destroy(failures);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_and_no_eleventh),
        cmocka_unit_test(more_failures_than_allowed_cost_no_more),
        cmocka_unit_test(who_has_more_addresses_has_little_more),
        cmocka_unit_test(zero_is_no_limit),
        cmocka_unit_test(a_source_is_more_than_one_address),
        cmocka_unit_test(who_has_no_address_is_never_limited),
        cmocka_unit_test(a_full_table_hinders_nobody),
        cmocka_unit_test(another_limit),
        cmocka_unit_test(a_clock_that_steps_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
