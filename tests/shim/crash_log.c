/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/crash_log.h"

#include <errno.h>
#include <string.h>

#include "shim/crash_disk.h"

enum { VALUES_MAX = 6, DROPS_MAX = 7, LARGE_ONE_IN = 25, LARGE_BYTES = 9000, LIVING_MAX = 300 };

static int append(struct store *store, uint64_t *seed)
{
    uint8_t value[LARGE_BYTES];
    uint64_t number;
    bool is_large = crash_random(seed) % LARGE_ONE_IN == 0;
    size_t size = 1 + crash_random(seed) % (is_large ? LARGE_BYTES : STORE_LOG_VALUE_BYTES);
    memset(value, (int)(crash_random(seed) % 256), size);
    int result = store_append_log(store, (struct bytes){value, size}, &number);
    return result == 0 ? -ENOSPC : result;
}

/* The oldest when there are many, and any. */
static int drop(struct store *store, const struct store_position *position, uint64_t *seed)
{
    uint64_t span = position->log_last + 1 - position->log_first;
    uint64_t most = crash_random(seed) % DROPS_MAX;
    int result = 0;
    for (uint64_t i = 0; result == 0 && i < most; i++) {
        uint64_t number = span > LIVING_MAX ? position->log_first + i
                                            : position->log_first + crash_random(seed) % (span + 1);
        result = store_drop_log(store, number);
    }
    return result;
}

static int change(struct store *store, const struct store_position *position, uint64_t *seed)
{
    int result = store_begin(store);
    for (uint64_t values = crash_random(seed) % VALUES_MAX; result >= 0 && values > 0; values--)
        result = append(store, seed);
    return result < 0 ? result : drop(store, position, seed);
}

int crash_log_step(struct store *store, uint64_t k)
{
    struct store_position position;
    uint64_t seed = k * 977 + 1;
    int result = store_position(store, &position);
    if (result == 0 && k % 5 == 0) {
        uint64_t other = k;
        result = change(store, &position, &other);
        store_abort(store);
    }
    if (result == 0)
        result = change(store, &position, &seed);
    return result < 0 ? result : store_commit(store, k);
}

static uint64_t mix(uint64_t digest, uint64_t number)
{
    return (digest ^ number) * UINT64_C(0x100000001b3);
}

struct digesting {
    uint64_t digest;
    bool is_damaged;
};

static bool add_value(void *context, uint64_t number, struct bytes value)
{
    struct digesting *digesting = context;
    digesting->is_damaged = value.data == NULL;
    digesting->digest = mix(mix(digesting->digest, number), value.size);
    for (size_t i = 0; !digesting->is_damaged && i < value.size; i++)
        digesting->digest = mix(digesting->digest, value.data[i]);
    return !digesting->is_damaged;
}

int crash_log_digest(struct store *store, uint64_t *digest)
{
    struct store_position position;
    struct digesting digesting = {.digest = 1};
    int result = store_position(store, &position);
    if (result == 0)
        result = store_read_log(store, 0, add_value, &digesting);
    if (result < 0 || digesting.is_damaged)
        return result < 0 ? result : -EUCLEAN;
    digesting.digest = mix(digesting.digest, position.log_first);
    digesting.digest = mix(digesting.digest, position.log_last);
    digesting.digest = mix(digesting.digest, position.log_values);
    *digest = mix(digesting.digest, position.log_bytes);
    return 0;
}
