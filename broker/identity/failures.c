/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/failures.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

/* A source is an IPv4 address, or the first 64 bits of an IPv6 one, because whoever has one of
 * those usually has them all. Each has an allowance of per_minute failures, given back evenly over
 * a minute. Only a failure makes an entry, so a source whose tokens are good is never met here.
 *
 * The table is fixed: a source belongs to one bucket, by a keyed hash that strangers cannot aim,
 * and takes the place of the one there that has spent least. So a flood from very many sources
 * lets some of them try more often, and never hinders one that has not failed. Entries hold the
 * whole source: two never share one. */

enum { BUCKETS = 1024, PLACES = 8, MINUTE_MS = 60000, SOURCE_BYTES = 9 };

struct entry {
    uint8_t source[SOURCE_BYTES]; /* the first byte is 4 or 6; 0: unused */
    uint32_t spent_ms;            /* what was spent, in ms of giving it back */
    uint64_t seen_ms;
};

struct failures {
    uint32_t per_minute;
    uint64_t key[2];
    struct entry entries[BUCKETS][PLACES];
};

struct failures *failures_create(uint32_t per_minute, const uint64_t key[2])
{
    struct failures *failures = calloc(1, sizeof(*failures));
    if (failures != NULL) {
        failures->per_minute = per_minute;
        memcpy(failures->key, key, sizeof(failures->key));
    }
    return failures;
}

void failures_destroy(struct failures *failures)
{
    free(failures);
}

/* False: no address that we know. */
static bool read_source(struct bytes address, uint8_t source[SOURCE_BYTES])
{
    char host[INET6_ADDRSTRLEN + 2];
    struct in6_addr ipv6;
    while (address.size > 0 && address.data[address.size - 1] != ':')
        address.size--;
    if (address.size < 2 || address.size - 1 >= sizeof(host))
        return false;
    bool bracketed = address.data[0] == '[' && address.data[address.size - 2] == ']';
    size_t size = address.size - 1 - (bracketed ? 2 : 0);
    memcpy(host, address.data + bracketed, size);
    host[size] = '\0';
    memset(source, 0, SOURCE_BYTES);
    source[0] = 4;
    if (!bracketed)
        return inet_pton(AF_INET, host, source + 1) == 1;
    if (inet_pton(AF_INET6, host, &ipv6) != 1)
        return false;
    if (IN6_IS_ADDR_V4MAPPED(&ipv6)) {
        memcpy(source + 1, ipv6.s6_addr + 12, 4);
        return true;
    }
    source[0] = 6;
    memcpy(source + 1, ipv6.s6_addr, 8);
    return true;
}

static uint32_t one_ms(const struct failures *failures)
{
    return (MINUTE_MS + failures->per_minute - 1) / failures->per_minute;
}

static void give_back(struct entry *entry, uint64_t now_ms)
{
    uint64_t passed_ms = now_ms > entry->seen_ms ? now_ms - entry->seen_ms : 0;
    entry->spent_ms = entry->spent_ms > passed_ms ? entry->spent_ms - (uint32_t)passed_ms : 0;
    if (now_ms > entry->seen_ms)
        entry->seen_ms = now_ms;
}

static struct entry *bucket_of(struct failures *failures, const uint8_t source[SOURCE_BYTES])
{
    return failures->entries[siphash13(failures->key, source, SOURCE_BYTES) % BUCKETS];
}

uint32_t failures_wait_ms(struct failures *failures, struct bytes address, uint64_t now_ms)
{
    uint8_t source[SOURCE_BYTES];
    if (failures->per_minute == 0 || !read_source(address, source))
        return 0;
    struct entry *bucket = bucket_of(failures, source);
    uint32_t all_ms = one_ms(failures) * failures->per_minute;
    for (unsigned i = 0; i < PLACES; i++) {
        struct entry *entry = &bucket[i];
        if (memcmp(entry->source, source, SOURCE_BYTES) != 0)
            continue;
        give_back(entry, now_ms);
        return entry->spent_ms + one_ms(failures) > all_ms
                   ? entry->spent_ms + one_ms(failures) - all_ms
                   : 0;
    }
    return 0;
}

void failures_note(struct failures *failures, struct bytes address, uint64_t now_ms)
{
    uint8_t source[SOURCE_BYTES];
    if (failures->per_minute == 0 || !read_source(address, source))
        return;
    struct entry *bucket = bucket_of(failures, source);
    struct entry *place = &bucket[0];
    for (unsigned i = 0; i < PLACES; i++) {
        give_back(&bucket[i], now_ms);
        if (memcmp(bucket[i].source, source, SOURCE_BYTES) == 0) {
            place = &bucket[i];
            break;
        }
        if (bucket[i].spent_ms < place->spent_ms)
            place = &bucket[i];
    }
    if (memcmp(place->source, source, SOURCE_BYTES) != 0) {
        *place = (struct entry){.seen_ms = now_ms};
        memcpy(place->source, source, SOURCE_BYTES);
    }
    uint32_t all_ms = one_ms(failures) * failures->per_minute;
    place->spent_ms += one_ms(failures);
    place->spent_ms = place->spent_ms > all_ms ? all_ms : place->spent_ms;
}
