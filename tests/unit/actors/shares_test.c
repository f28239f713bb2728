/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/shares.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void each_sender_has_n(void **state)
{
    struct shares shares = {0};
    assert_int_equal(shares_of(&shares, 7), 0);
    for (uint64_t key = 0; key < 100; key++) {
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(shares_take(&shares, key << 32, 3), 0); /* one home for all */
        assert_int_equal(shares_take(&shares, key << 32, 3), -ENOSPC);
        assert_int_equal(shares_of(&shares, key << 32), 3);
    }
    shares_give(&shares, UINT64_C(50) << 32);
    assert_int_equal(shares_take(&shares, UINT64_C(50) << 32, 3), 0);
    assert_int_equal(shares_take(&shares, UINT64_C(50) << 32, 3), -ENOSPC);
    assert_int_equal(shares_take(&shares, UINT64_C(50) << 32, 4), 0);
    assert_int_equal(shares_take(&shares, 7, 0), -ENOSPC);
    for (uint64_t key = 0; key < 100; key++)
        for (unsigned i = 0; i < 3 + (key == 50); i++)
            shares_give(&shares, key << 32);
    assert_null(shares.slots); /* the last one takes the memory with it */
}

static void it_does_what_an_array_does(void **state)
{
    enum { KEYS = 300, ROUNDS = 200000 };
    struct shares shares = {0};
    uint32_t counts[KEYS] = {0};
    srand(5);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t key = (uint32_t)rand() % KEYS;
        bool more = rand() % 100 < (round / 5000 % 2 == 0 ? 60 : 35);
        if (more) {
            assert_int_equal(shares_take(&shares, key * 3, 9), counts[key] < 9 ? 0 : -ENOSPC);
            counts[key] += counts[key] < 9;
        } else if (counts[key] > 0) {
            shares_give(&shares, key * 3);
            counts[key]--;
        }
        key = (uint32_t)rand() % KEYS;
        assert_int_equal(shares_of(&shares, key * 3), counts[key]);
    }
    for (uint32_t key = 0; key < KEYS; key++)
        for (; counts[key] > 0; counts[key]--)
            shares_give(&shares, key * 3);
    assert_null(shares.slots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_sender_has_n),
        cmocka_unit_test(it_does_what_an_array_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
