/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/fight.h"

#include <stdlib.h>

#include "base/allowance.h"
#include "base/source.h"

/* Two devices of one user that both log in again whenever they are thrown out would take turns as
 * fast as the store commits, and every backend would hear of each turn.
 *
 * Each source that takes the user over has an allowance of its own: per_minute takeovers, given
 * back evenly over a minute. So a fight is slowed down to that rate, and one who comes from
 * elsewhere is not hindered by it: whoever has stolen a password can annoy its owner, and cannot
 * lock him out. A login that is refused costs no allowance. A few sources are remembered; a further
 * one takes the place of that which has spent least, so those who fight are not forgotten. */

enum {
    PLACES = 4,
    MINUTE_US = 60000000
};

struct place {
    uint64_t source;
    struct allowance allowance;
};

struct fight {
    struct place places[PLACES];
};

static struct place *find(struct fight *fight, uint64_t source)
{
    struct place *least = &fight->places[0];
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *place = &fight->places[i];
        if (place->source == source)
            return place;
        if (place->allowance.due_us < least->allowance.due_us)
            least = place;
    }
    *least = (struct place){.source = source};
    return least;
}

uint32_t fight_takeover(struct fight **fight, struct bytes address, uint32_t per_minute,
                        uint64_t now_ms)
{
    if (per_minute == 0)
        return 0;
    if (*fight == NULL)
        *fight = calloc(1, sizeof(**fight));
    if (*fight == NULL)
        return 0;
    struct place *place = find(*fight, source_of_text(address.data, address.size));
    struct allowance_terms terms = allowance_over(per_minute, MINUTE_US);
    uint32_t wait_ms = allowance_wait_ms(&place->allowance, terms, now_ms);
    if (wait_ms == 0)
        allowance_spend(&place->allowance, terms, now_ms);
    return wait_ms;
}

void fight_destroy(struct fight *fight)
{
    free(fight);
}
