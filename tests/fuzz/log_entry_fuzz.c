/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "fuzz/fuzz.h"
#include "storage/log_entry.h"
#include "storage/store.h"

/* A value of the log of stored messages: each entry in it is just what putting it again writes, and
 * its names are within their limits; what is no entry ends the walk where it stands.
 *
 * Input: the value. */

static void check_receivers(const struct log_entry *entry)
{
    struct bytes receivers = entry->receivers;
    struct bytes name;
    uint32_t count = 0;
    for (; log_receiver_next(&receivers, &name); count++)
        FUZZ_CHECK(name.size > 0 && name.size <= STORE_NAME_BYTES_MAX);
    FUZZ_CHECK(count == entry->receiver_count && receivers.size == 0);
}

static void check_entry(const struct log_entry *entry, struct bytes from)
{
    size_t size = log_entry_size(entry);
    FUZZ_CHECK(size == from.size);
    FUZZ_CHECK(size <= LOG_ENTRY_HEAD_BYTES_MAX + entry->receivers.size + entry->payload.size);
    FUZZ_CHECK(entry->sender.size <= STORE_NAME_BYTES_MAX);
    uint8_t *again = malloc(size);
    FUZZ_CHECK(again != NULL);
    FUZZ_CHECK(log_entry_put(again, entry) == again + size);
    FUZZ_CHECK(memcmp(again, from.data, size) == 0);
    free(again);
    check_receivers(entry);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy of just that size: a read beyond the end is seen. */
    uint8_t *value = malloc(size > 0 ? size : 1);
    FUZZ_CHECK(value != NULL);
    if (size > 0)
        memcpy(value, data, size);
    struct bytes rest = {value, size};
    struct log_entry entry;
    for (;;) {
        struct bytes before = rest;
        if (!log_entry_read(&rest, &entry)) {
            FUZZ_CHECK(rest.data == before.data && rest.size == before.size);
            break;
        }
        FUZZ_CHECK(rest.size < before.size);
        check_entry(&entry, (struct bytes){before.data, before.size - rest.size});
    }
    free(value);
    return 0;
}
