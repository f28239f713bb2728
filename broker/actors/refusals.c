/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/refusals.h"

#include <stdlib.h>
#include <string.h>

#include "base/lock.h"
#include "base/memory.h"
#include "base/source.h"
#include "proto/username.h"

/* Strangers say these names, as many as they like, so everything here has an end: a fixed room that
 * is made at the start, one place for all equal ones of an address, and where there is no place
 * more they are counted, and the next one that has a place says how many there were.
 *
 * They wait for a commit that comes anyway (persist/committer.c), which takes them every few
 * seconds at most; so a flood of refusals is at most so many records in that time. */

struct refusals {
    const struct env *env;
    struct metrics *metrics;
    struct lock lock;
    _Atomic uint32_t count; /* changed under the lock */
    uint64_t missing;
    struct history_record list[REFUSALS_WAITING_MAX];
};

struct refusals *refusals_create(const struct env *env, struct metrics *metrics)
{
    struct refusals *refusals = calloc(1, sizeof(*refusals));
    if (refusals == NULL)
        return NULL;
    refusals->env = env;
    refusals->metrics = metrics;
    lock_init(&refusals->lock);
    memory_account(MEMORY_OF_OWN, sizeof(*refusals));
    return refusals;
}

void refusals_destroy(struct refusals *refusals)
{
    if (refusals == NULL)
        return;
    memory_account(MEMORY_OF_OWN, -(int64_t)sizeof(*refusals));
    lock_destroy(&refusals->lock);
    free(refusals);
}

static void copy(char *to, size_t bytes_max, const char *from)
{
    size_t size = from != NULL ? strnlen(from, bytes_max) : 0;
    if (size > 0)
        memcpy(to, from, size);
    to[size] = '\0';
}

static void fill(struct history_record *record, const struct refusal *refusal, uint64_t time_ms)
{
    *record = (struct history_record){
        .time_ms = time_ms, .kind = (uint8_t)refusal->kind, .bound = refusal->bound, .count = 1};
    copy(record->user, STORE_NAME_BYTES_MAX, refusal->user);
    copy(record->address, STORE_ADDRESS_BYTES_MAX, refusal->address);
    copy(record->client, STORE_CLIENT_BYTES_MAX, refusal->client);
    copy(record->transport, STORE_TRANSPORT_BYTES_MAX, refusal->transport);
    copy(record->detail, STORE_DETAIL_BYTES_MAX, refusal->detail);
    copy(record->limit, STORE_LIMIT_BYTES_MAX, refusal->limit);
}

static uint64_t source_of(const char *address)
{
    return source_of_text((const uint8_t *)address, strlen(address));
}

/* The same again, from the same host. */
static bool is_equal(const struct history_record *one, const struct history_record *other)
{
    return one->kind == other->kind && strcmp(one->user, other->user) == 0 &&
           strcmp(one->detail, other->detail) == 0 &&
           source_of(one->address) == source_of(other->address);
}

static void add(struct refusals *refusals, struct history_record *record)
{
    uint32_t count = refusals->count;
    for (uint32_t i = 0; i < count; i++) {
        struct history_record *present = &refusals->list[i];
        if (!is_equal(present, record))
            continue;
        record->count = present->count < UINT32_MAX ? present->count + 1 : present->count;
        record->missing = present->missing;
        *present = *record;
        return;
    }
    if (count == REFUSALS_WAITING_MAX) {
        refusals->missing++;
        metrics_add(refusals->metrics, 0, METRIC_history_missing, 1);
        return;
    }
    record->missing = refusals->missing;
    refusals->missing = 0;
    refusals->list[count] = *record;
    refusals->count = count + 1;
}

void refusals_note(struct refusals *refusals, const struct refusal *refusal)
{
    struct history_record record;
    if (refusals == NULL || !username_valid(bytes_of_text(refusal->user)))
        return;
    fill(&record, refusal, env_wall_ms(refusals->env));
    lock_take(&refusals->lock);
    add(refusals, &record);
    lock_give(&refusals->lock);
}

bool refusals_wait(const struct refusals *refusals)
{
    return refusals != NULL && refusals->count > 0;
}

size_t refusals_take(struct refusals *refusals, struct history_record list[REFUSALS_WAITING_MAX])
{
    lock_take(&refusals->lock);
    uint32_t count = refusals->count;
    memcpy(list, refusals->list, count * sizeof(list[0]));
    refusals->count = 0;
    lock_give(&refusals->lock);
    return count;
}
