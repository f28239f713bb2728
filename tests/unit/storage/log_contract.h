/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_LOG_CONTRACT_H
#define USHER_TESTS_LOG_CONTRACT_H

/* What storage/store.h promises of the log of stored messages, against every store. */

#include "unit/storage/store_contract.h"

struct contract_log {
    size_t count, stop_after; /* 0: never */
    uint64_t numbers[256];
    size_t sizes[256];
    uint8_t firsts[256]; /* 0: damaged */
};

/* A value is `size` times the same byte. */
static inline bool contract_take_log(void *context, uint64_t number, struct bytes value)
{
    struct contract_log *log = context;
    assert_true(log->count < 256 && value.size > 0);
    for (size_t i = 0; value.data != NULL && i < value.size; i++)
        assert_int_equal(value.data[i], value.data[0]);
    log->numbers[log->count] = number;
    log->sizes[log->count] = value.size;
    log->firsts[log->count++] = value.data != NULL ? value.data[0] : 0;
    return log->count != log->stop_after;
}

/* Within a transaction. Gives the number. */
static inline uint64_t contract_append(struct store *store, uint8_t byte, size_t size)
{
    uint8_t *value = malloc(size);
    uint64_t number = 0;
    assert_non_null(value);
    memset(value, byte, size);
    assert_int_equal(store_append_log(store, (struct bytes){value, size}, &number), 1);
    free(value);
    return number;
}

/* Each in a transaction of its own. */
static inline uint64_t contract_append_one(struct store *store, uint8_t byte, size_t size)
{
    assert_int_equal(store_begin(store), 0);
    uint64_t number = contract_append(store, byte, size);
    assert_int_equal(store_commit(store, 0), 0);
    return number;
}

static inline void contract_drop_one(struct store *store, uint64_t number)
{
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_drop_log(store, number), 0);
    assert_int_equal(store_commit(store, 0), 0);
}

static inline struct contract_log contract_log_of(struct store *store, uint64_t from)
{
    struct contract_log log = {.count = 0};
    assert_int_equal(store_read_log(store, from, contract_take_log, &log), 0);
    return log;
}

static inline void contract_assert_log(struct store *store, uint64_t first, uint64_t last,
                                       uint64_t values, uint64_t bytes)
{
    struct store_position position;
    assert_int_equal(store_position(store, &position), 0);
    assert_int_equal(position.log_first, first);
    assert_int_equal(position.log_last, last);
    assert_int_equal(position.log_values, values);
    assert_int_equal(position.log_bytes, bytes);
    assert_int_equal(contract_log_of(store, 0).count, values);
}

static inline void contract_log_comes_back(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    static const size_t sizes[] = {1, 100, STORE_LOG_VALUE_BYTES, STORE_LOG_VALUE_BYTES + 1, 70000};
    contract_assert_log(store, 1, 0, 0, 0);
    assert_int_equal(store_begin(store), 0);
    for (uint8_t i = 0; i < 5; i++)
        assert_int_equal(contract_append(store, (uint8_t)(i + 1), sizes[i]), i + 1u);
    assert_int_equal(contract_log_of(store, 0).count, 0); /* not before the commit */
    assert_int_equal(store_commit(store, 0), 0);
    for (int again = 0; again < 2; again++) {
        contract_assert_log(store, 1, 5, 5, 101 + 2 * STORE_LOG_VALUE_BYTES + 1 + 70000);
        for (uint64_t from = 0; from <= 6; from++) {
            uint64_t first = from == 0 ? 1 : from;
            struct contract_log log = contract_log_of(store, from);
            assert_int_equal(log.count, 6 - first);
            for (size_t i = 0; i < log.count; i++) {
                assert_int_equal(log.numbers[i], first + i);
                assert_int_equal(log.sizes[i], sizes[first - 1 + i]);
                assert_int_equal(log.firsts[i], first + i);
            }
        }
        if (!fixture->contract->keeps)
            break;
        contract_reopen(fixture);
        store = fixture->store;
    }
    struct contract_log log = {.stop_after = 2};
    assert_int_equal(store_read_log(store, 2, contract_take_log, &log), 0);
    assert_int_equal(log.count, 2);
    assert_int_equal(contract_log_of(store, UINT64_MAX).count, 0);
}

/* In the order asked for, those that are there. */
static inline void contract_log_by_number(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    for (uint8_t i = 1; i <= 9; i++)
        contract_append_one(store, i, 10u * i);
    contract_drop_one(store, 4);
    static const uint64_t asked[] = {7, 4, 1, 0, 9, UINT64_MAX, 7, 10, 2};
    static const uint64_t wanted[] = {7, 1, 9, 7, 2};
    struct contract_log log = {.count = 0};
    assert_int_equal(store_get_log(store, asked, 9, contract_take_log, &log), 0);
    assert_int_equal(log.count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(log.numbers[i], wanted[i]);
        assert_int_equal(log.sizes[i], 10 * wanted[i]);
        assert_int_equal(log.firsts[i], wanted[i]);
    }
    log = (struct contract_log){.stop_after = 2};
    assert_int_equal(store_get_log(store, asked, 9, contract_take_log, &log), 0);
    assert_int_equal(log.count, 2);
    assert_int_equal(store_get_log(store, asked, 0, contract_take_log, &log), 0);
    assert_int_equal(log.count, 2);
}

/* Any of them; numbers are never given again, also when nothing is left. */
static inline void contract_log_drops(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    for (uint8_t i = 1; i <= 6; i++)
        contract_append_one(store, i, 10);
    contract_drop_one(store, 3);
    contract_assert_log(store, 1, 6, 5, 50);
    contract_drop_one(store, 3);
    contract_drop_one(store, 0);
    contract_drop_one(store, 99);
    contract_assert_log(store, 1, 6, 5, 50);
    contract_drop_one(store, 1);
    contract_drop_one(store, 6);
    contract_assert_log(store, 2, 6, 3, 30);
    assert_int_equal(contract_append_one(store, 7, 10), 7);
    assert_int_equal(store_begin(store), 0);
    for (uint64_t number = 1; number <= 7; number++)
        assert_int_equal(store_drop_log(store, number), 0);
    assert_int_equal(contract_append(store, 8, 10), 8);
    assert_int_equal(store_drop_log(store, 8), 0);
    assert_int_equal(store_commit(store, 0), 0);
    contract_assert_log(store, 9, 8, 0, 0);
    if (fixture->contract->keeps)
        contract_reopen(fixture);
    contract_assert_log(fixture->store, 9, 8, 0, 0);
    assert_int_equal(contract_append_one(fixture->store, 9, 10), 9);
    contract_assert_log(fixture->store, 9, 9, 1, 10);
}

/* What was aborted never was: what it appended, what it dropped, and the numbers that it took. */
static inline void contract_log_aborts(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    contract_append_one(store, 1, 10);
    contract_append_one(store, 2, 10);
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_drop_log(store, 1), 0);
    assert_int_equal(contract_append(store, 3, 20), 3);
    assert_int_equal(contract_append(store, 4, 20), 4);
    store_abort(store);
    contract_assert_log(store, 1, 2, 2, 20);
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(contract_append(store, 5, 30), 3);
    assert_int_equal(store_put_inbox(store, "", &(struct saved_inbox){0}), -EINVAL);
    assert_int_equal(
        store_append_log(store, (struct bytes){(const uint8_t *)"x", 1}, &(uint64_t){0}),
        -EINVAL); /* what went wrong before */
    assert_int_equal(store_drop_log(store, 1), -EINVAL);
    assert_int_equal(store_commit(store, 0), -EINVAL);
    contract_assert_log(store, 1, 2, 2, 20);
    assert_int_equal(contract_append_one(store, 6, 30), 3);
    struct contract_log log = contract_log_of(store, 3);
    assert_int_equal(log.count, 1);
    assert_int_equal(log.firsts[0], 6);
}

static inline void contract_log_bad_arguments(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct bytes value = {(const uint8_t *)"x", 1};
    uint64_t number = 0;
    assert_int_equal(store_append_log(store, value, &number), -EINVAL); /* no transaction */
    assert_int_equal(store_drop_log(store, 1), -EINVAL);
    for (int i = 0; i < 2; i++) {
        value.size = i == 0 ? 0 : (size_t)STORE_LOG_VALUE_BYTES_MAX + 1;
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_append_log(store, value, &number), -EINVAL);
        assert_int_equal(store_commit(store, 0), -EINVAL);
    }
    contract_assert_log(store, 1, 0, 0, 0);
}

/* Any changes against an array. */
static inline void contract_log_model(void **state)
{
    struct fixture *fixture = *state;
    uint8_t model[2000] = {0}; /* of each number, its byte; 0: it is not there */
    uint64_t last = 0;
    uint32_t seed = 7;
    for (int round = 0; round < 300; round++) {
        uint8_t next[2000];
        uint64_t next_last = last;
        memcpy(next, model, sizeof(next));
        assert_int_equal(store_begin(fixture->store), 0);
        for (unsigned i = model_random(&seed, 9); i > 0; i--) {
            if (model_random(&seed, 2) == 0) {
                uint8_t byte = (uint8_t)(1 + model_random(&seed, 255));
                size_t size = 1 + model_random(&seed, model_random(&seed, 20) == 0 ? 9000 : 2000);
                assert_int_equal(contract_append(fixture->store, byte, size), ++next_last);
                next[next_last] = byte;
            } else {
                uint64_t number = model_random(&seed, (uint32_t)next_last + 2);
                assert_int_equal(store_drop_log(fixture->store, number), 0);
                next[number] = 0;
            }
        }
        if (model_random(&seed, 4) == 0) {
            store_abort(fixture->store);
        } else {
            assert_int_equal(store_commit(fixture->store, 0), 0);
            memcpy(model, next, sizeof(next));
            last = next_last;
        }
        if (fixture->contract->keeps && model_random(&seed, 30) == 0)
            contract_reopen(fixture);
        /* Windows, since a look holds no more than 256. */
        struct contract_log log = {.stop_after = 50};
        uint64_t number = model_random(&seed, (uint32_t)last + 2);
        assert_int_equal(store_read_log(fixture->store, number, contract_take_log, &log), 0);
        for (size_t i = 0; i < log.count; i++, number++) {
            while (model[number] == 0 && number < last)
                number++;
            assert_int_equal(log.numbers[i], number);
            assert_int_equal(log.firsts[i], model[number]);
        }
        for (; log.count < 50 && number <= last; number++)
            assert_int_equal(model[number], 0);
    }
    assert_true(last > 400);
}

#define CONTRACT_LOG_TESTS(setup)                                                                \
    CONTRACT_TEST(contract_log_comes_back, setup), CONTRACT_TEST(contract_log_by_number, setup), \
        CONTRACT_TEST(contract_log_drops, setup), CONTRACT_TEST(contract_log_aborts, setup),     \
        CONTRACT_TEST(contract_log_bad_arguments, setup), CONTRACT_TEST(contract_log_model, setup)

#endif
