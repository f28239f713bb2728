/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "net/forwarded.h"

/* The list of X-Forwarded-For: who is named is no proxy, and it is what the list says without
 * whatever stands in front of his entry. */

static bool read_list(const uint8_t *data, size_t size, const struct prefixes *trusted,
                      struct sockaddr_storage *address)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    FUZZ_CHECK(copy != NULL);
    memcpy(copy, data, size);
    bool found = forwarded_address((struct bytes){copy, size}, trusted, address);
    free(copy);
    return found;
}

static bool are_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    size_t size =
        a->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    return memcmp(a, b, size) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct prefixes trusted = {.count = 2}, nobody = {.count = 0};
    struct sockaddr_storage address, again;
    FUZZ_CHECK(prefix_read(&trusted.items[0], "10.0.0.0/8"));
    FUZZ_CHECK(prefix_read(&trusted.items[1], "fd00::/8"));
    size = size < 512 ? size : 512;
    bool found = read_list(data, size, &trusted, &address);
    if (found) {
        FUZZ_CHECK(address.ss_family == AF_INET || address.ss_family == AF_INET6);
        FUZZ_CHECK(!prefixes_hold(&trusted, (struct sockaddr *)&address));
    }
    if (read_list(data, size, &nobody, &again) && found &&
        !prefixes_hold(&trusted, (struct sockaddr *)&again))
        FUZZ_CHECK(are_equal(&address, &again));
    /* What stands in front of the entry that counts says nothing. */
    bool seen = false;
    for (size_t at = size; at-- > 0 && !seen;) {
        if (data[at] != ',' && at != 0)
            continue;
        size_t from = at + (data[at] == ',');
        seen = read_list(data + from, size - from, &trusted, &again);
        FUZZ_CHECK(!seen || (found && are_equal(&address, &again)));
    }
    FUZZ_CHECK(seen == found);
    return 0;
}
