/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* One thread: capacity, order, full and empty, and what happens when numbers wrap. What several
 * threads do to each other is for tests/stress and tests/model. */

static void fill(struct ring *ring, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        assert_true(ring_push(ring, i * 7));
}

static void drain(struct ring *ring, uint32_t count)
{
    uint32_t value = 0;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(ring_pop(ring, &value));
        assert_int_equal(value, i * 7);
    }
}

static void the_capacity_is_rounded_up(void **state)
{
    static const uint32_t wanted_and_got[][2] = {{1, 2},   {2, 2},    {3, 4},      {4, 4},
                                                 {5, 8},   {7, 8},    {8, 8},      {9, 16},
                                                 {64, 64}, {65, 128}, {1000, 1024}};
    for (size_t i = 0; i < sizeof(wanted_and_got) / sizeof(wanted_and_got[0]); i++) {
        struct ring ring;
        uint32_t room = wanted_and_got[i][1];
        assert_int_equal(ring_init(&ring, wanted_and_got[i][0]), 0);
        fill(&ring, room);
        assert_int_equal(ring_length(&ring), room);
        assert_false(ring_push(&ring, 1)); /* n + 1 */
        assert_int_equal(ring_length(&ring), room);
        drain(&ring, room);
        ring_fini(&ring);
    }
}

static void an_empty_ring_gives_nothing(void **state)
{
    struct ring ring;
    uint32_t value = 123;
    assert_int_equal(ring_init(&ring, 4), 0);
    assert_false(ring_pop(&ring, &value));
    assert_int_equal(value, 123);
    fill(&ring, 4);
    drain(&ring, 4);
    assert_false(ring_pop(&ring, &value));
    assert_int_equal(ring_length(&ring), 0);
    ring_fini(&ring);
}

static void a_full_ring_takes_one_for_each_that_leaves(void **state)
{
    struct ring ring;
    uint32_t value;
    assert_int_equal(ring_init(&ring, 4), 0);
    for (uint32_t i = 0; i < 4; i++)
        assert_true(ring_push(&ring, i));
    for (uint32_t i = 0; i < 100; i++) {
        assert_false(ring_push(&ring, 999));
        assert_true(ring_pop(&ring, &value));
        assert_int_equal(value, i);
        assert_true(ring_push(&ring, i + 4));
    }
    ring_fini(&ring);
}

static void every_value_passes_unchanged(void **state)
{
    static const uint32_t values[] = {0, 1, UINT32_MAX, UINT32_MAX - 1, 0x80000000u, 0x7fffffffu};
    struct ring ring;
    uint32_t value;
    assert_int_equal(ring_init(&ring, 2), 0);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        assert_true(ring_push(&ring, values[i]));
        assert_true(ring_pop(&ring, &value));
        assert_int_equal(value, values[i]);
    }
    ring_fini(&ring);
}

/* Puts an empty ring to where it would be after `position` pushes and pops. */
static void move_to(struct ring *ring, uint64_t position)
{
    uint32_t size = ring->mask + 1;
    for (uint32_t i = 0; i < size; i++) {
        uint64_t at = position + i;
        atomic_store(&ring->cells[at & ring->mask].turn, (uint32_t)at);
    }
    atomic_store(&ring->head, position);
    atomic_store(&ring->tail, position);
}

static void the_turn_numbers_may_wrap(void **state)
{
    static const uint64_t edges[] = {UINT64_C(1) << 31, UINT64_C(1) << 32, UINT64_C(5) << 32};
    for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
        struct ring ring;
        uint32_t value;
        assert_int_equal(ring_init(&ring, 4), 0);
        move_to(&ring, edges[i] - 10);
        for (int round = 0; round < 20; round++) {
            fill(&ring, 4);
            assert_false(ring_push(&ring, 1));
            drain(&ring, 4);
            assert_false(ring_pop(&ring, &value));
        }
        ring_fini(&ring);
    }
}

/* Random pushes and pops against a list that is obviously right. */
static void it_agrees_with_a_model(void **state)
{
    struct ring ring;
    uint32_t model[16];
    size_t first = 0;
    size_t count = 0;
    assert_int_equal(ring_init(&ring, 16), 0);
    srand(7);
    for (uint32_t i = 0; i < 200000; i++) {
        if (rand() % 2) {
            assert_int_equal(ring_push(&ring, i), count < 16);
            if (count < 16)
                model[(first + count++) % 16] = i;
        } else {
            uint32_t value = 0;
            assert_int_equal(ring_pop(&ring, &value), count > 0);
            if (count > 0) {
                assert_int_equal(value, model[first % 16]);
                first++;
                count--;
            }
        }
        assert_int_equal(ring_length(&ring), count);
    }
    ring_fini(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_capacity_is_rounded_up),
        cmocka_unit_test(an_empty_ring_gives_nothing),
        cmocka_unit_test(a_full_ring_takes_one_for_each_that_leaves),
        cmocka_unit_test(every_value_passes_unchanged),
        cmocka_unit_test(the_turn_numbers_may_wrap),
        cmocka_unit_test(it_agrees_with_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
