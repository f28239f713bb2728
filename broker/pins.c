/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/pins.h"

#include <stdlib.h>

/* Open addressing. Nothing is ever deleted alone: who ended and what left is found out when the
 * table is full, by asking, so that neither the end of a user nor that of an instance has to walk
 * the pins. */

enum { SIZE_MIN = 16 };

static struct pin *probe(struct pin *slots, size_t size, uint64_t key)
{
    size_t at = (size_t)key & (size - 1);
    while (slots[at].key != 0 && slots[at].key != key)
        at = (at + 1) & (size - 1);
    return &slots[at];
}

struct pin *pins_find(struct pins *pins, uint64_t key)
{
    if (pins->count == 0)
        return NULL;
    struct pin *pin = probe(pins->slots, pins->size, key);
    return pin->key != 0 ? pin : NULL;
}

/* Into a table with room for twice the pins that are wanted. */
static bool rebuild(struct pins *pins, pin_is_wanted *wanted, void *context)
{
    size_t count = 0;
    for (size_t i = 0; i < pins->size; i++) {
        struct pin *pin = &pins->slots[i];
        count += pin->key != 0 && wanted(context, pin);
    }
    size_t size = SIZE_MIN;
    while (size < 2 * (count + 1))
        size *= 2;
    struct pin *slots = calloc(size, sizeof(*slots));
    if (slots == NULL)
        return false;
    pins->count = 0;
    for (size_t i = 0; i < pins->size; i++) {
        struct pin *pin = &pins->slots[i];
        if (pin->key != 0 && wanted(context, pin)) {
            *probe(slots, size, pin->key) = *pin;
            pins->count++;
        }
    }
    free(pins->slots);
    pins->slots = slots;
    pins->size = size;
    return true;
}

bool pins_set(struct pins *pins, const struct pin *pin, pin_is_wanted *wanted, void *context)
{
    if (4 * (pins->count + 1) > 3 * pins->size && !rebuild(pins, wanted, context))
        return false;
    *probe(pins->slots, pins->size, pin->key) = *pin;
    pins->count++;
    return true;
}

void pins_clear(struct pins *pins)
{
    free(pins->slots);
    *pins = (struct pins){0};
}
