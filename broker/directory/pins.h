/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_DIRECTORY_PINS_H
#define USHER_DIRECTORY_PINS_H

/* Which instance of one service each user's calls go to. Belongs to the directory of services and
 * is used under its lock; never blocks. A zeroed struct is empty. */

#include <stdbool.h>
#include <stddef.h>

#include "runtime/actor.h"

struct pin {
    uint64_t key; /* hash of the user's name, odd: never 0 */
    actor_handle user;
    actor_handle instance;
    actor_handle heir; /* where the user's mail goes while that one leaves, and he after it; or 0 */
    uint64_t until_ms; /* deadline of the user's last call */
};

struct pins {
    struct pin *slots;
    size_t size; /* power of two, or 0 */
    size_t count;
    /* while pins move to a new table; see pins.c */
    struct pin *old;
    size_t old_size, moved_to;
};

/* False: a pin that means nothing any more. */
typedef bool pin_is_wanted(void *context, const struct pin *pin);

/* NULL: the user has no pin. May be changed, but for its key; valid until the next set. */
struct pin *pins_find(struct pins *pins, uint64_t key);

/* Adds a pin for a key that has none. When there is no room, pins that are not wanted are dropped,
 * some with each pin that is added, so the table grows with those that are. Takes a bounded number
 * of steps, however many there are. False: no memory, nothing was changed. */
bool pins_set(struct pins *pins, const struct pin *pin, pin_is_wanted *wanted, void *context);

void pins_clear(struct pins *pins);

#endif
