/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/room_rates.h"

#include <stdlib.h>

#include "actors/kinds.h"
#include "base/memory.h"

/* Two samples are kept, so that a rate is of SAMPLE_MS at least however often and by however many
 * it is asked: as soon as the newer one is that old it is what rates are compared with, and a new
 * one takes the place of the older. Who looks again after an hour sees the mean of that hour once,
 * and what is going on from then on. */

enum { SAMPLE_MS = 2000, CAPACITY_MIN = 256 };

static bool grow(struct rate_sample *sample)
{
    size_t capacity = sample->capacity != 0 ? sample->capacity * 2 : CAPACITY_MIN;
    struct rate_row *rows = realloc(sample->rows, capacity * sizeof(*rows));
    if (rows == NULL)
        return false;
    memory_account(MEMORY_OF_OWN, (int64_t)((capacity - sample->capacity) * sizeof(*rows)));
    sample->rows = rows;
    sample->capacity = capacity;
    return true;
}

static void drop(struct rate_sample *sample)
{
    memory_account(MEMORY_OF_OWN, -(int64_t)(sample->capacity * sizeof(*sample->rows)));
    free(sample->rows);
    *sample = (struct rate_sample){0};
}

static int by_incarnation(const void *one, const void *other)
{
    uint64_t first = ((const struct rate_row *)one)->incarnation;
    uint64_t second = ((const struct rate_row *)other)->incarnation;
    return first < second ? -1 : first > second;
}

static bool add(struct rate_sample *sample, const struct registry_row *row)
{
    if (row->behaviour->kind != KIND_ROOM || row->numbers[ROOM_NUMBER_INCARNATION] == 0)
        return true;
    if (sample->count == sample->capacity && !grow(sample))
        return false;
    sample->rows[sample->count++] =
        (struct rate_row){.incarnation = row->numbers[ROOM_NUMBER_INCARNATION],
                          .offset = row->numbers[ROOM_NUMBER_OFFSET],
                          .deliveries = row->numbers[ROOM_NUMBER_DELIVERIES]};
    return true;
}

/* An empty sample: there was no memory. */
static struct rate_sample take(struct registry *registry, uint64_t now_ms)
{
    struct rate_sample sample = {.at_ms = now_ms};
    struct registry_row rows[REGISTRY_SCAN_ROWS];
    uint64_t cursor = 0;
    size_t count;
    while ((count = registry_scan(registry, &cursor, rows)) > 0)
        for (size_t i = 0; i < count; i++)
            if (!add(&sample, &rows[i])) {
                drop(&sample);
                return sample;
            }
    if (sample.count > 0)
        qsort(sample.rows, sample.count, sizeof(*sample.rows), by_incarnation);
    return sample;
}

static bool is_old_enough(const struct rate_sample *sample, uint64_t now_ms)
{
    return sample->at_ms != 0 && now_ms >= sample->at_ms + SAMPLE_MS;
}

void room_rates_look(struct room_rates *rates, struct registry *registry, uint64_t now_ms,
                     uint64_t wall_ms)
{
    rates->now_ms = now_ms;
    rates->wall_ms = wall_ms;
    if (rates->newer.at_ms == 0 || is_old_enough(&rates->newer, now_ms)) {
        drop(&rates->older);
        rates->older = rates->newer;
        rates->newer = take(registry, now_ms);
    }
    rates->base = rates->older.at_ms != 0 ? &rates->older : NULL;
}

static const struct rate_row *find(const struct rate_sample *base, uint64_t incarnation)
{
    const struct rate_row wanted = {.incarnation = incarnation};
    if (base == NULL || base->count == 0)
        return NULL;
    return bsearch(&wanted, base->rows, base->count, sizeof(wanted), by_incarnation);
}

struct room_rate room_rates_of(const struct room_rates *rates, const uint64_t numbers[ROOM_NUMBERS])
{
    const struct rate_row *before = find(rates->base, numbers[ROOM_NUMBER_INCARNATION]);
    uint64_t opened_ms = numbers[ROOM_NUMBER_OPENED_MS];
    uint64_t lived_ms = rates->wall_ms > opened_ms ? rates->wall_ms - opened_ms : 0;
    uint64_t over_ms = before != NULL ? rates->now_ms - rates->base->at_ms : lived_ms;
    double seconds = over_ms > 1000 ? (double)over_ms / 1000 : 1;
    uint64_t offset = before != NULL ? before->offset : 0;
    uint64_t deliveries = before != NULL ? before->deliveries : 0;
    return (struct room_rate){
        .messages = (double)(numbers[ROOM_NUMBER_OFFSET] - offset) / seconds,
        .deliveries = (double)(numbers[ROOM_NUMBER_DELIVERIES] - deliveries) / seconds,
    };
}

void room_rates_clear(struct room_rates *rates)
{
    drop(&rates->older);
    drop(&rates->newer);
}
