/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/failures.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/source.h"

/* Each source has an allowance of per_minute failures, given back evenly over a minute. Only a
 * failure makes an entry, so a source whose tokens are good is never met here.
 *
 * The table is fixed: a source belongs to one bucket, by a keyed hash that strangers cannot aim,
 * and takes the place of the one there that has spent least. So a flood from very many sources
 * lets some of them try more often, and never hinders one that has not failed. Entries hold the
 * whole source: two never share one. A failure counts for the wider sources too (base/source.h). */

enum { BUCKETS = 1024, PLACES = 8, MINUTE_US = 60000000 };

struct entry {
    uint64_t source; /* 0: unused */
    struct allowance allowance;
};

struct failures {
    limit_reader *per_minute;
    const struct limits *limits;
    uint64_t key[2];
    struct entry entries[BUCKETS][PLACES];
};

struct failures *failures_create(limit_reader *per_minute, const struct limits *limits,
                                 const uint64_t key[2])
{
    struct failures *failures = calloc(1, sizeof(*failures));
    if (failures != NULL) {
        failures->per_minute = per_minute;
        failures->limits = limits;
        memcpy(failures->key, key, sizeof(failures->key));
    }
    return failures;
}

void failures_destroy(struct failures *failures)
{
    free(failures);
}

/* Once for each call: a reload may change it, and 0 has no terms. */
static uint32_t limit_of(const struct failures *failures)
{
    return (uint32_t)failures->per_minute(failures->limits);
}

static struct entry *bucket_of(struct failures *failures, uint64_t source)
{
    return failures->entries[hash_keyed(failures->key, &source, sizeof(source)) % BUCKETS];
}

static uint32_t wait_of(struct failures *failures, uint64_t source, uint32_t allowed,
                        uint64_t now_ms)
{
    const struct entry *bucket = bucket_of(failures, source);
    for (unsigned i = 0; i < PLACES; i++)
        if (bucket[i].source == source)
            return allowance_wait_ms(&bucket[i].allowance, allowance_over(allowed, MINUTE_US),
                                     now_ms);
    return 0;
}

/* Its place, or that of the one which has spent least, emptied for it. */
static struct entry *place_of(struct failures *failures, uint64_t source)
{
    struct entry *bucket = bucket_of(failures, source);
    struct entry *place = &bucket[0];
    for (unsigned i = 0; i < PLACES && place->source != source; i++)
        if (bucket[i].source == source || bucket[i].allowance.due_ns < place->allowance.due_ns)
            place = &bucket[i];
    if (place->source != source)
        *place = (struct entry){.source = source};
    return place;
}

static void note(struct failures *failures, uint64_t source, uint32_t allowed, uint64_t now_ms)
{
    struct entry *place = place_of(failures, source);
    allowance_spend(&place->allowance, allowance_over(allowed, MINUTE_US), now_ms);
}

/* Gives how many; 0: nobody whom a limit could be held against. */
static unsigned steps_of(uint32_t per_minute, struct bytes address, uint64_t steps[SOURCE_STEPS])
{
    return per_minute == 0 ? 0 : source_steps(source_of_text(address.data, address.size), steps);
}

uint32_t failures_wait_ms(struct failures *failures, struct bytes address, uint64_t now_ms)
{
    uint64_t steps[SOURCE_STEPS];
    uint32_t per_minute = limit_of(failures);
    unsigned count = steps_of(per_minute, address, steps);
    uint32_t longest_ms = 0;
    for (unsigned step = 0; step < count; step++) {
        uint32_t wait_ms = wait_of(failures, steps[step], source_allowed(per_minute, step), now_ms);
        longest_ms = wait_ms > longest_ms ? wait_ms : longest_ms;
    }
    return longest_ms;
}

void failures_note(struct failures *failures, struct bytes address, uint64_t now_ms)
{
    uint64_t steps[SOURCE_STEPS];
    uint32_t per_minute = limit_of(failures);
    unsigned count = steps_of(per_minute, address, steps);
    for (unsigned step = 0; step < count; step++)
        note(failures, steps[step], source_allowed(per_minute, step), now_ms);
}

uint32_t failures_wait_of(struct failures *failures, uint64_t number, uint64_t now_ms)
{
    uint32_t per_minute = limit_of(failures);
    return per_minute == 0 ? 0 : wait_of(failures, number, per_minute, now_ms);
}

void failures_note_of(struct failures *failures, uint64_t number, uint64_t now_ms)
{
    uint32_t per_minute = limit_of(failures);
    if (per_minute != 0)
        note(failures, number, per_minute, now_ms);
}

void failures_move_out(const struct failures *failures, uint64_t now_ns, allowance_each *each,
                       void *context)
{
    for (unsigned i = 0; i < BUCKETS * PLACES; i++) {
        const struct entry *entry = &failures->entries[i / PLACES][i % PLACES];
        if (entry->source != 0 && entry->allowance.due_ns > now_ns)
            each(context, entry->source, entry->allowance);
    }
}

void failures_move_in(struct failures *failures, uint64_t number, struct allowance allowance)
{
    place_of(failures, number)->allowance = allowance;
}
