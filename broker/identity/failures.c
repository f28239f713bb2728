/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/failures.h"

#include <stdlib.h>
#include <string.h>

#include "base/allowance.h"
#include "base/hash.h"
#include "base/source.h"

/* Each source has an allowance of per_minute failures, given back evenly over a minute. Only a
 * failure makes an entry, so a source whose tokens are good is never met here.
 *
 * The table is fixed: a source belongs to one bucket, by a keyed hash that strangers cannot aim,
 * and takes the place of the one there that has spent least. So a flood from very many sources
 * lets some of them try more often, and never hinders one that has not failed. Entries hold the
 * whole source: two never share one. */

enum {
    BUCKETS = 1024,
    PLACES = 8,
    MINUTE_US = 60000000
};

struct entry {
    uint64_t source; /* 0: unused */
    struct allowance allowance;
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

void failures_set_limit(struct failures *failures, uint32_t per_minute)
{
    failures->per_minute = per_minute;
}

/* 0: nobody whom a limit could be held against. */
static uint64_t source_of(const struct failures *failures, struct bytes address)
{
    return failures->per_minute == 0 ? 0 : source_of_text(address.data, address.size);
}

static struct entry *bucket_of(struct failures *failures, uint64_t source)
{
    return failures->entries[siphash13(failures->key, &source, sizeof(source)) % BUCKETS];
}

uint32_t failures_wait_ms(struct failures *failures, struct bytes address, uint64_t now_ms)
{
    uint64_t source = source_of(failures, address);
    if (source == 0)
        return 0;
    const struct entry *bucket = bucket_of(failures, source);
    struct allowance_terms terms = allowance_over(failures->per_minute, MINUTE_US);
    for (unsigned i = 0; i < PLACES; i++)
        if (bucket[i].source == source)
            return allowance_wait_ms(&bucket[i].allowance, terms, now_ms);
    return 0;
}

void failures_note(struct failures *failures, struct bytes address, uint64_t now_ms)
{
    uint64_t source = source_of(failures, address);
    if (source == 0)
        return;
    struct entry *bucket = bucket_of(failures, source);
    struct entry *place = &bucket[0];
    for (unsigned i = 0; i < PLACES && place->source != source; i++)
        if (bucket[i].source == source || bucket[i].allowance.due_us < place->allowance.due_us)
            place = &bucket[i];
    if (place->source != source)
        *place = (struct entry){.source = source};
    allowance_spend(&place->allowance, allowance_over(failures->per_minute, MINUTE_US), now_ms);
}
