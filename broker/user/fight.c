/* SPDX-License-Identifier: Apache-2.0 */
#include "user/fight.h"

#include <stdlib.h>
#include <string.h>

#include "base/allowance.h"
#include "base/check.h"
#include "base/source.h"
#include "proto/username.h"

/* Two devices of one user that both log in again whenever they are thrown out would take turns as
 * fast as the store commits, and every backend would hear of each turn.
 *
 * Each source that takes the user over has an allowance of its own: per_minute takeovers, given
 * back evenly over a minute. So a fight is slowed down to that rate, and one who comes from
 * elsewhere is not hindered by it: whoever has stolen a password can annoy its owner, and cannot
 * lock him out. It counts for wider sources too (source_steps), or one server with 65,536 sources
 * of IPv6 would have as many allowances (docs/decisions/0093). It outlives the session (spent.c),
 * or a Logout between two takeovers would end the limit with the session. A login that is refused
 * costs no allowance. A few sources have a place here; a further one takes that of the one which
 * has spent least, and what that has spent goes where it would go at the end of the session. So
 * those who fight are not forgotten, however many they are. */

enum {
    PLACES = 2 * SOURCE_STEPS, /* of two who fight */
    MINUTE_US = 60000000
};

struct place {
    uint64_t source;
    struct allowance allowance;
};

struct fight {
    struct place places[PLACES];
};

enum { NAME_BYTES = USERNAME_BYTES_MAX + sizeof(uint64_t) };

/* Of one source's fight for one name. */
static struct bytes fight_name(uint8_t to[NAME_BYTES], struct bytes name, uint64_t source)
{
    CHECK(name.size <= USERNAME_BYTES_MAX);
    memcpy(to, &source, sizeof(source));
    if (name.size > 0) /* without any, data may be NULL */
        memcpy(to + sizeof(source), name.data, name.size);
    return (struct bytes){to, sizeof(source) + name.size};
}

static void remember(const struct place *place, struct fight_owner owner)
{
    uint8_t bytes[NAME_BYTES];
    spent_put(owner.spent, fight_name(bytes, owner.name, place->source), place->allowance);
}

/* Until the next call: that may give its place to another. */
static struct place *find(struct fight *fight, struct fight_owner owner, uint64_t source)
{
    uint8_t bytes[NAME_BYTES];
    struct place *least = &fight->places[0];
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *place = &fight->places[i];
        if (place->source == source)
            return place;
        if (place->allowance.due_ns < least->allowance.due_ns)
            least = place;
    }
    remember(least, owner);
    *least = (struct place){source, spent_take(owner.spent, fight_name(bytes, owner.name, source))};
    return least;
}

static struct allowance_terms terms_of(uint32_t per_minute, unsigned step)
{
    return allowance_over(source_allowed(per_minute, step), MINUTE_US);
}

uint32_t fight_takeover(struct fight **fight, struct fight_owner owner, struct bytes address,
                        uint32_t per_minute, uint64_t now_ms)
{
    if (per_minute == 0)
        return 0;
    if (*fight == NULL)
        *fight = calloc(1, sizeof(**fight));
    if (*fight == NULL)
        return 0;
    uint64_t steps[SOURCE_STEPS];
    unsigned count = source_steps(source_of_text(address.data, address.size), steps);
    count += count == 0; /* those of no kind that we know are one */
    uint32_t wait_ms = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct allowance *spent = &find(*fight, owner, steps[i])->allowance;
        uint32_t step_ms = allowance_wait_ms(spent, terms_of(per_minute, i), now_ms);
        wait_ms = step_ms > wait_ms ? step_ms : wait_ms;
    }
    for (unsigned i = 0; wait_ms == 0 && i < count; i++)
        allowance_spend(&find(*fight, owner, steps[i])->allowance, terms_of(per_minute, i), now_ms);
    return wait_ms;
}

void fight_remember(const struct fight *fight, struct fight_owner owner)
{
    for (unsigned i = 0; fight != NULL && i < PLACES; i++)
        remember(&fight->places[i], owner);
}

void fight_destroy(struct fight *fight)
{
    free(fight);
}
