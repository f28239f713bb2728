/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The vectors come from another implementation of SipHash-1-3 (CPython 3.11's hash of bytes with
 * PYTHONHASHSEED=0 and 7): the hash of the bytes 0, 1, 2 ... of each size. */

struct vector {
    size_t size;
    uint64_t hash;
};

static void check_vectors(const uint64_t key[2], const struct vector *vectors, size_t count)
{
    uint8_t data[64];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)i;
    for (size_t i = 0; i < count; i++)
        assert_int_equal(hash_keyed(key, data, vectors[i].size), vectors[i].hash);
}

static void test_zero_key(void **state)
{
    (void)state;
    static const uint64_t key[2] = {0, 0};
    static const struct vector vectors[] = {
        {1, UINT64_C(0x68a914128e01e473)},  {3, UINT64_C(0x4d4c9a4a8ef6e0ad)},
        {7, UINT64_C(0x2f098ab0c751325a)},  {8, UINT64_C(0xead411e67ebe2eea)},
        {9, UINT64_C(0x75927f9d95124362)},  {15, UINT64_C(0xf30eb725bb91c9ea)},
        {16, UINT64_C(0x8972188433a5c5b7)}, {17, UINT64_C(0x4883c49a2c009c1d)},
        {31, UINT64_C(0x169739443111d49b)}, {64, UINT64_C(0x75e05fd5bbc870c6)},
    };
    check_vectors(key, vectors, sizeof(vectors) / sizeof(*vectors));
}

static void test_random_key(void **state)
{
    (void)state;
    static const uint64_t key[2] = {UINT64_C(0x12c874a1806f0e3d), UINT64_C(0x470a89d2f9d2784f)};
    static const struct vector vectors[] = {
        {1, UINT64_C(0x7e255bf0210f9775)},  {3, UINT64_C(0x3e839792e48ebc29)},
        {7, UINT64_C(0x987cfd95990dd34b)},  {8, UINT64_C(0x8450991e34fe08de)},
        {9, UINT64_C(0xa0a0a12bd6c44f35)},  {15, UINT64_C(0x1517e7dc54a43f5b)},
        {16, UINT64_C(0x642bba6a6c24ebf5)}, {17, UINT64_C(0xcc54010f13010f0d)},
        {31, UINT64_C(0xadf091e03303fd2d)}, {64, UINT64_C(0x2128138620d8ef33)},
    };
    check_vectors(key, vectors, sizeof(vectors) / sizeof(*vectors));
}

static void test_empty_and_unaligned(void **state)
{
    (void)state;
    static const uint64_t key[2] = {1, 2};
    uint8_t data[32] = {0};
    for (size_t i = 0; i < 17; i++)
        data[3 + i] = (uint8_t)(i * 7);
    uint8_t aligned[17];
    for (size_t i = 0; i < 17; i++)
        aligned[i] = (uint8_t)(i * 7);
    assert_true(hash_keyed(key, data + 3, 17) == hash_keyed(key, aligned, 17));
    assert_true(hash_keyed(key, NULL, 0) == hash_keyed(key, data, 0));
    assert_true(hash_keyed(key, data, 0) != hash_keyed(key, data, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zero_key),
        cmocka_unit_test(test_random_key),
        cmocka_unit_test(test_empty_and_unaligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
