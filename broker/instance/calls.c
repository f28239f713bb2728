/* SPDX-License-Identifier: Apache-2.0 */
#include "instance/calls.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/table.h"

/* A table as in base/table.h. Call numbers rise by one, so they are mixed: neighbours would make
 * one long run, and each deletion walks to the end of its run.
 *
 * A walk is a place and how many are left from there. What is taken out at a place brings another
 * call to it, so that place is looked at again; a table that has grown is walked from its
 * beginning. */

struct calls {
    struct call *slots;
    uint32_t size;
    uint32_t count;
    uint32_t walk_at, walk_left;
};

TABLE_ROW(struct call, call);

enum { SIZE_MIN = 64 };

struct calls *calls_create(void)
{
    struct calls *calls = calloc(1, sizeof(*calls));
    if (calls == NULL)
        return NULL;
    calls->size = SIZE_MIN;
    calls->slots = calloc(calls->size, sizeof(*calls->slots));
    if (calls->slots == NULL) {
        free(calls);
        return NULL;
    }
    return calls;
}

void calls_destroy(struct calls *calls)
{
    if (calls != NULL)
        free(calls->slots);
    free(calls);
}

static uint32_t mix(uint64_t number, const uint64_t *seed)
{
    return (uint32_t)(number * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

static struct table table_of(const struct calls *calls)
{
    return (struct table){calls->slots, calls->size, sizeof(*calls->slots), mix, NULL};
}

static uint32_t find(const struct calls *calls, uint64_t number)
{
    const struct table table = table_of(calls);
    return table_find(&table, number);
}

static int grow(struct calls *calls)
{
    if (!table_is_full(calls->count, calls->size))
        return 0;
    struct calls bigger = {.size = calls->size * 2, .count = calls->count};
    bigger.slots = calloc(bigger.size, sizeof(*bigger.slots));
    if (bigger.slots == NULL)
        return -ENOMEM;
    const struct table from = table_of(calls);
    const struct table to = table_of(&bigger);
    table_move(&to, &from);
    if (calls->walk_left > 0)
        bigger.walk_left = bigger.size;
    free(calls->slots);
    *calls = bigger;
    return 0;
}

int calls_add(struct calls *calls, const struct call *call)
{
    CHECK(call->call != 0);
    int error = grow(calls);
    if (error != 0)
        return error;
    uint32_t at = find(calls, call->call);
    if (calls->slots[at].call != 0)
        return -EEXIST;
    calls->slots[at] = *call;
    calls->count++;
    CHECK(calls->count < calls->size); /* or a search would not end */
    return 0;
}

static void remove_at(struct calls *calls, uint32_t at)
{
    const struct table table = table_of(calls);
    table_free(&table, at);
    calls->count--;
}

bool calls_take(struct calls *calls, uint64_t number, struct call *call)
{
    uint32_t at = find(calls, number);
    if (number == 0 || calls->slots[at].call == 0)
        return false;
    *call = calls->slots[at];
    remove_at(calls, at);
    return true;
}

bool calls_has(const struct calls *calls, uint64_t number)
{
    return number != 0 && calls->slots[find(calls, number)].call != 0;
}

uint32_t calls_count(const struct calls *calls)
{
    return calls->count;
}

const struct call *calls_next(const struct calls *calls, uint32_t *place)
{
    while (*place < calls->size) {
        const struct call *call = &calls->slots[(*place)++];
        if (call->call != 0)
            return call;
    }
    return NULL;
}

void calls_walk(struct calls *calls)
{
    calls->walk_left = calls->size;
}

bool calls_walk_is_over(const struct calls *calls)
{
    return calls->walk_left == 0 || calls->count == 0;
}

bool calls_walk_on(struct calls *calls, const struct calls_wanted *wanted, uint32_t *places,
                   struct call *call)
{
    CHECK(calls->walk_left <= calls->size && calls->walk_at < calls->size);
    while (*places > 0 && !calls_walk_is_over(calls)) {
        const struct call *here = &calls->slots[calls->walk_at];
        --*places;
        if (here->call != 0 &&
            (here->deadline_ms <= wanted->due_ms || here->mail_seq <= wanted->mail_seq)) {
            *call = *here;
            remove_at(calls, calls->walk_at);
            return true;
        }
        calls->walk_at = (calls->walk_at + 1) & (calls->size - 1);
        calls->walk_left--;
    }
    return false;
}
