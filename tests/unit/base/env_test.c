/* SPDX-License-Identifier: Apache-2.0 */
#include "base/env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_clocks(void **state)
{
    (void)state;
    const struct env *env = env_system();
    uint64_t before_ns = env_monotonic_ns(env);
    uint64_t now_ms = env_monotonic_ms(env);
    uint64_t after_ns = env_monotonic_ns(env);
    assert_true(before_ns / 1000000 <= now_ms && now_ms <= after_ns / 1000000);
    assert_true(env_wall_ms(env) > UINT64_C(1700000000000)); /* milliseconds, after 2023 */
    assert_true(env_wall_ms(env) < UINT64_C(7000000000000));
}

static void test_random_fills_exactly(void **state)
{
    (void)state;
    uint8_t first[300] = {0};
    uint8_t second[300] = {0};
    env_random(env_system(), first, 299);
    env_random(env_system(), second, 299);
    assert_int_equal(first[299], 0);
    assert_true(memcmp(first, second, 299) != 0);
    uint8_t none[16] = {0};
    assert_true(memcmp(first + 283, none, 16) != 0);
    env_random(env_system(), first, 0);
}

static uint64_t fixed_ns(void *context)
{
    return *(uint64_t *)context;
}

static void test_replaceable(void **state)
{
    (void)state;
    uint64_t now_ns = 1234567890;
    const struct env env = {.monotonic_ns = fixed_ns, .wall_ms = fixed_ns, .context = &now_ns};
    assert_int_equal(env_monotonic_ms(&env), 1234);
    now_ns = 7;
    assert_int_equal(env_wall_ms(&env), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_random_fills_exactly),
        cmocka_unit_test(test_replaceable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
