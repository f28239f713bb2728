/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/pins.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/table.h"

/* Tables as in base/table.h. Nothing is ever deleted alone: who ended and what left is found out
 * when the table is full, by asking, so that neither the end of a user nor that of an instance has
 * to walk the pins.
 *
 * As there may be hundreds of thousands, a full table is not rebuilt at once. The pins move to the
 * next one some places at a time, with each pin that is added; until then they are looked for in
 * both. What stands before `moved_to` in the old one is void: it has moved, or was dropped. The
 * next table is larger if most pins of a sample are wanted, otherwise as large; and it has room for
 * all of them and those that are added meanwhile even if the sample was wrong: at most three
 * quarters of its places, and one eighth. A sample is wrong when those who were gone come back
 * while their pins move, as the players of an evening do, and it can be wrong twice: so where the
 * last move has left more than three quarters, the next table is larger whatever a sample says. */

TABLE_ROW(struct pin, key);

enum { SIZE_MIN = 16, MOVE_STEP = 8, SAMPLE = 256 };

static uint32_t half(uint64_t key, const uint64_t *seed)
{
    return (uint32_t)(key >> 1); /* keys are odd */
}

static struct pin *probe(struct pin *slots, size_t size, uint64_t key)
{
    const struct table table = {slots, (uint32_t)size, sizeof(*slots), half, NULL};
    return &slots[table_find(&table, key)];
}

struct pin *pins_find(struct pins *pins, uint64_t key)
{
    if (pins->count == 0)
        return NULL;
    struct pin *pin = probe(pins->slots, pins->size, key);
    if (pin->key != 0)
        return pin;
    if (pins->old == NULL)
        return NULL;
    pin = probe(pins->old, pins->old_size, key);
    return pin->key != 0 && pin >= pins->old + pins->moved_to ? pin : NULL;
}

/* Whether most of the pins are wanted, as far as some of them tell. */
static bool most_are_wanted(const struct pins *pins, pin_is_wanted *wanted, void *context)
{
    size_t step = pins->size > SAMPLE ? pins->size / SAMPLE : 1;
    size_t seen = 0;
    size_t count = 0;
    for (size_t i = 0; i < pins->size; i += step) {
        const struct pin *pin = &pins->slots[i];
        seen += pin->key != 0;
        count += pin->key != 0 && wanted(context, pin);
    }
    return 2 * count >= seen;
}

static size_t next_size(const struct pins *pins, pin_is_wanted *wanted, void *context)
{
    if (pins->size == 0)
        return SIZE_MIN;
    bool crowded = 4 * pins->count > 3 * pins->size;
    return crowded || most_are_wanted(pins, wanted, context) ? 2 * pins->size : pins->size;
}

static bool begin_move(struct pins *pins, pin_is_wanted *wanted, void *context)
{
    CHECK(pins->old == NULL && (pins->size & (pins->size - 1)) == 0);
    size_t size = next_size(pins, wanted, context);
    struct pin *slots = calloc(size, sizeof(*slots));
    if (slots == NULL)
        return false;
    pins->old = pins->slots;
    pins->old_size = pins->size;
    pins->moved_to = 0;
    pins->slots = slots;
    pins->size = size;
    return true;
}

static void move_some(struct pins *pins, pin_is_wanted *wanted, void *context)
{
    for (unsigned i = 0; i < MOVE_STEP && pins->moved_to < pins->old_size; i++) {
        const struct pin *pin = &pins->old[pins->moved_to++];
        if (pin->key == 0)
            continue;
        CHECK(pins->count > 0);
        if (wanted(context, pin))
            *probe(pins->slots, pins->size, pin->key) = *pin;
        else
            pins->count--;
    }
    if (pins->moved_to < pins->old_size)
        return;
    free(pins->old);
    pins->old = NULL;
}

bool pins_set(struct pins *pins, const struct pin *pin, pin_is_wanted *wanted, void *context)
{
    CHECK(pin->key % 2 == 1);
    CHECK_SLOW(pins_find(pins, pin->key) == NULL);
    if (pins->old == NULL && 4 * (pins->count + 1) > 3 * pins->size &&
        !begin_move(pins, wanted, context))
        return false;
    if (pins->old != NULL)
        move_some(pins, wanted, context);
    struct pin *to = probe(pins->slots, pins->size, pin->key);
    CHECK(to->key == 0);
    *to = *pin;
    pins->count++;
    CHECK(pins->count < pins->size); /* or a search would not end */
    return true;
}

void pins_clear(struct pins *pins)
{
    free(pins->slots);
    free(pins->old);
    *pins = (struct pins){0};
}
