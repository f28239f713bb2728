/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/fight.h"

#include <stdlib.h>
#include <string.h>

/* Two devices of one user that both log in again whenever they are thrown out would take turns as
 * fast as the store commits, and every backend would hear of each turn.
 *
 * Each host that takes the user over has an allowance of its own: per_minute takeovers, given back
 * evenly over a minute. So a fight is slowed down to that rate, and one who comes from elsewhere
 * is not hindered by it: whoever has stolen a password can annoy its owner, and cannot lock him
 * out. A login that is refused costs no allowance. A few hosts are remembered; a further one takes
 * the place of that which has spent least, so those who fight are not forgotten. Hosts are known by
 * a hash: two that share one share an allowance. */

enum { HOSTS = 4, MINUTE_MS = 60000 };

struct host {
    uint32_t key;      /* 0: unused */
    uint64_t spent_ms; /* what was spent, in ms of giving it back */
    uint64_t seen_ms;
};

struct fight {
    struct host hosts[HOSTS];
};

/* Of the address without its port. FNV-1a. */
static uint32_t host_key(struct bytes address)
{
    while (address.size > 0 && address.data[address.size - 1] != ':')
        address.size--;
    uint32_t key = 2166136261u;
    for (size_t i = 0; i < address.size; i++)
        key = (key ^ address.data[i]) * 16777619u;
    return key | 1;
}

static void give_back(struct host *host, uint64_t now_ms)
{
    uint64_t passed_ms = now_ms > host->seen_ms ? now_ms - host->seen_ms : 0;
    host->spent_ms = host->spent_ms > passed_ms ? host->spent_ms - passed_ms : 0;
    if (now_ms > host->seen_ms)
        host->seen_ms = now_ms;
}

static struct host *find(struct fight *fight, uint32_t key, uint64_t now_ms)
{
    struct host *least = &fight->hosts[0];
    struct host *found = NULL;
    for (unsigned i = 0; i < HOSTS; i++) {
        struct host *host = &fight->hosts[i];
        give_back(host, now_ms);
        if (host->key == key)
            found = host;
        if (host->spent_ms < least->spent_ms)
            least = host;
    }
    if (found == NULL) {
        *least = (struct host){.key = key, .seen_ms = now_ms};
        found = least;
    }
    return found;
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
    struct host *host = find(*fight, host_key(address), now_ms);
    uint64_t one_ms = (MINUTE_MS + per_minute - 1) / per_minute;
    uint64_t all_ms = one_ms * per_minute;
    if (host->spent_ms + one_ms > all_ms)
        return (uint32_t)(host->spent_ms + one_ms - all_ms);
    host->spent_ms += one_ms;
    return 0;
}

void fight_destroy(struct fight *fight)
{
    free(fight);
}
