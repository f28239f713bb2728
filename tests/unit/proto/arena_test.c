/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "client.pb-c.h"
#include "proto/arena.h"

static void *allocate(struct arena *arena, size_t size)
{
    ProtobufCAllocator *allocator = arena_allocator(arena);
    return allocator->alloc(allocator->allocator_data, size);
}

static void test_ceiling(void **state)
{
    struct arena arena;
    assert_int_equal(arena_init(&arena, 100), 0);
    assert_null(allocate(&arena, 101));
    assert_null(allocate(&arena, SIZE_MAX));
    assert_non_null(allocate(&arena, 100));
    assert_null(allocate(&arena, 1));
    arena_reset(&arena);
    assert_non_null(allocate(&arena, 99));
    assert_null(allocate(&arena, 2));
    arena_fini(&arena);
}

static void test_apart_and_aligned(void **state)
{
    struct arena arena;
    uint8_t *given[64];
    size_t count = 0;
    assert_int_equal(arena_init(&arena, 1024), 0);
    while ((given[count] = allocate(&arena, count + 1)) != NULL) {
        assert_int_equal((uintptr_t)given[count] % alignof(max_align_t), 0);
        memset(given[count], (int)count, count + 1);
        count++;
    }
    assert_true(count > 20);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k <= i; k++)
            assert_int_equal(given[i][k], i);
    arena_fini(&arena);
}

/* The allocator follows an arena that was copied to another place. */
static void test_moved(void **state)
{
    struct arena first, second;
    assert_int_equal(arena_init(&first, 64), 0);
    arena_allocator(&first);
    second = first;
    assert_non_null(allocate(&second, 32));
    assert_int_equal(first.used, 0);
    assert_int_equal(second.used, 32);
    arena_fini(&second);
}

static void test_zeroed(void **state)
{
    struct arena arena = {0};
    assert_null(allocate(&arena, 1));
    arena_fini(&arena);
    arena_fini(&arena);
}

/* Many small unknown fields: fails cleanly whatever the capacity, with no leak. */
static void test_unpack_fails_cleanly(void **state)
{
    uint8_t frame[4096];
    for (size_t i = 0; i < sizeof(frame); i += 2) {
        frame[i] = 0x78;
        frame[i + 1] = 0;
    }
    for (size_t capacity = 0; capacity < 65536; capacity += 1 + capacity / 16) {
        struct arena arena;
        assert_int_equal(arena_init(&arena, capacity), 0);
        assert_null(usher__v1__client_frame__unpack(arena_allocator(&arena), sizeof(frame), frame));
        arena_fini(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_apart_and_aligned),
        cmocka_unit_test(test_moved),
        cmocka_unit_test(test_zeroed),
        cmocka_unit_test(test_unpack_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
