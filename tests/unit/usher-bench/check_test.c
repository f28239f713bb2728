/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "usher-bench/check.h"

/* What the checker says when these arrive, in this order, of `sent` messages. */
static struct check arrivals(uint32_t sent, const uint32_t *seqs, unsigned count)
{
    struct check check = {.sent = sent};
    struct lane lane = {0};

    for (unsigned i = 0; i < count; i++)
        check_receive(&check, &lane, seqs[i], false);
    return check;
}

static void test_all_is_well(void **state)
{
    const uint32_t seqs[] = {0, 1, 2, 3};
    struct check check = arrivals(4, seqs, 4);

    assert_true(check_clean(&check));
    assert_int_equal(check.received, 4);
    assert_int_equal(check_lost(&check), 0);
}

static void test_a_lost_message_is_found(void **state)
{
    const uint32_t middle[] = {0, 1, 3};
    const uint32_t first[] = {1, 2, 3};
    const uint32_t last[] = {0, 1, 2};
    const uint32_t *cases[] = {middle, first, last};

    for (unsigned i = 0; i < 3; i++) {
        struct check check = arrivals(4, cases[i], 3);

        assert_false(check_clean(&check));
        assert_int_equal(check_lost(&check), 1);
        assert_int_equal(check.disordered, 0);
    }
}

static void test_swapped_messages_are_found(void **state)
{
    const uint32_t seqs[] = {0, 2, 1, 3};
    struct check check = arrivals(4, seqs, 4);

    assert_false(check_clean(&check));
    assert_int_equal(check.disordered, 1);
    assert_int_equal(check.received, 4);
    assert_int_equal(check_lost(&check), 0);
}

/* The memory is 64 long: at its end a late message is still told from a double. */
static void test_a_late_message_is_found(void **state)
{
    for (uint32_t late = 1; late <= 64; late++) {
        struct check check = {.sent = late + 1};
        struct lane lane = {0};

        for (uint32_t seq = 1; seq < late + 1; seq++)
            check_receive(&check, &lane, seq, false);
        check_receive(&check, &lane, 0, false);
        /* 0 is late + 1 places back when everything else has come. */
        assert_int_equal(check.disordered, late < 64 ? 1 : 0);
        assert_int_equal(check.doubled, late < 64 ? 0 : 1);
        check_receive(&check, &lane, 0, false);
        assert_int_equal(check.doubled, late < 64 ? 1 : 2);
        assert_false(check_clean(&check));
    }
}

/* Twice is not once, and does not make up for one that is lost. */
static void test_a_double_is_found(void **state)
{
    const uint32_t twice[] = {0, 1, 1, 2, 3};
    const uint32_t instead[] = {0, 1, 1, 3};
    struct check check = arrivals(4, twice, 5);

    assert_false(check_clean(&check));
    assert_int_equal(check.doubled, 1);
    assert_int_equal(check_lost(&check), 0);
    check = arrivals(4, instead, 4);
    assert_int_equal(check.doubled, 1);
    assert_int_equal(check_lost(&check), 1);
}

/* The broker may repeat if it says so. */
static void test_repeated_as_promised(void **state)
{
    struct check check = {.sent = 2};
    struct lane lane = {0};

    check_receive(&check, &lane, 0, false);
    check_receive(&check, &lane, 0, true);
    check_receive(&check, &lane, 1, true);
    assert_true(check_clean(&check));
    assert_int_equal(check.repeated, 1);
    assert_int_equal(check.received, 2);
}

/* A refusal explains a gap, one gap only. */
static void test_refusals(void **state)
{
    const uint32_t seqs[] = {0, 3};
    struct check check = arrivals(4, seqs, 2);

    check.refused = 1;
    assert_int_equal(check_lost(&check), 1);
    check.refused = 2;
    assert_true(check_clean(&check));
}

static void test_numbers_may_wrap(void **state)
{
    struct check check = {.sent = 3};
    struct lane lane = {.next = UINT32_MAX};

    check_receive(&check, &lane, UINT32_MAX, false);
    check_receive(&check, &lane, 0, false);
    check_receive(&check, &lane, 1, false);
    assert_true(check_clean(&check));
}

static void test_strange_is_not_clean(void **state)
{
    struct check check = {.strange = 1};
    struct check sum = {0};

    assert_false(check_clean(&check));
    check_merge(&sum, &check);
    check_merge(&sum, &check);
    assert_int_equal(sum.strange, 2);
}

static void test_stamp(void **state)
{
    const struct stamp stamp = {0x0123456789abcdef, 7, 9};
    uint8_t payload[100], pattern[100];
    struct stamp read;

    stamp_pattern(pattern, sizeof(pattern));
    stamp_pattern(payload, sizeof(payload));
    stamp_write(payload, &stamp);
    assert_true(stamp_read((struct bytes){payload, 100}, (struct bytes){pattern, 100}, &read));
    assert_true(read.due_ns == stamp.due_ns && read.sender == 7 && read.seq == 9);
    assert_true(stamp_read((struct bytes){payload, 16}, (struct bytes){pattern, 16}, &read));
    /* cut, grown, or with one bit turned anywhere behind the stamp */
    assert_false(stamp_read((struct bytes){payload, 99}, (struct bytes){pattern, 100}, &read));
    assert_false(stamp_read((struct bytes){payload, 100}, (struct bytes){pattern, 99}, &read));
    assert_false(stamp_read((struct bytes){payload, 15}, (struct bytes){pattern, 15}, &read));
    for (unsigned i = STAMP_BYTES; i < 100; i++) {
        payload[i] ^= 1;
        assert_false(stamp_read((struct bytes){payload, 100}, (struct bytes){pattern, 100}, &read));
        payload[i] ^= 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_is_well),
        cmocka_unit_test(test_a_lost_message_is_found),
        cmocka_unit_test(test_swapped_messages_are_found),
        cmocka_unit_test(test_a_late_message_is_found),
        cmocka_unit_test(test_a_double_is_found),
        cmocka_unit_test(test_repeated_as_promised),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_numbers_may_wrap),
        cmocka_unit_test(test_strange_is_not_clean),
        cmocka_unit_test(test_stamp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
