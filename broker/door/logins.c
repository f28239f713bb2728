/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/lock.h"
#include "base/source.h"
#include "door/logins.h"
#include "identity/failures.h"

/* How often good logins come. Each is a transaction and an event that all backends read, and the
 * store keeps a number of those: who logs in and out in a loop pushes everybody else's out.
 *
 * Counted by user and source together, so that nobody who logs in under a name keeps its owner out,
 * and by source, because one machine may have many users. A resume counts for its user too, since
 * it makes as many events, but for no source: a crowd behind one address that comes back after an
 * outage has proved who it is, and each of it was a login once (docs/decisions/0066). Both tables
 * are of a fixed size (identity/failures.c). One short lock, taken for a login or a resume, which
 * costs a transaction anyway. */

struct logins {
    const struct env *env;
    uint64_t key[2];
    struct lock lock;
    const struct limits *limits;
    struct failures *sources, *users; /* under lock */
};

int logins_open(struct logins **out, const struct limits *limits, const struct env *env)
{
    struct logins *logins = calloc(1, sizeof(*logins));
    if (logins == NULL)
        return -ENOMEM;
    *out = logins;
    logins->env = env;
    logins->limits = limits;
    env_random(env, logins->key, sizeof(logins->key));
    lock_init(&logins->lock);
    logins->sources = failures_create(limits_logins_per_minute_per_source, limits, logins->key);
    logins->users = failures_create(limits_logins_per_minute_per_user, limits, logins->key);
    return logins->sources != NULL && logins->users != NULL ? 0 : -ENOMEM;
}

void logins_close(struct logins *logins)
{
    if (logins == NULL)
        return;
    failures_destroy(logins->sources);
    failures_destroy(logins->users);
    lock_destroy(&logins->lock);
    free(logins);
}

/* One user from one source; never 0. */
static uint64_t number_of(const struct logins *logins, struct bytes user, struct bytes address)
{
    struct {
        uint64_t user, source;
    } both = {hash_keyed(logins->key, user.data, user.size),
              source_of_text(address.data, address.size)};
    return hash_keyed(logins->key, &both, sizeof(both)) | 1;
}

struct login_wait logins_take(struct logins *logins, struct bytes user, struct bytes address,
                              bool resume)
{
    CHECK(user.size > 0); /* nobody logs in without a name */
    uint64_t name = number_of(logins, user, address);
    uint64_t now_ms = env_monotonic_ms(logins->env);
    struct login_wait wait = {0};
    lock_take(&logins->lock);
    wait.ms = failures_wait_of(logins->users, name, now_ms);
    wait.limit = "limits.logins_per_minute_per_user";
    wait.bound = limits_logins_per_minute_per_user(logins->limits);
    if (wait.ms == 0 && !resume) {
        wait.ms = failures_wait_ms(logins->sources, address, now_ms);
        wait.limit = "limits.logins_per_minute_per_source";
        wait.bound = limits_logins_per_minute_per_source(logins->limits);
    }
    if (wait.ms == 0) {
        failures_note_of(logins->users, name, now_ms);
        if (!resume)
            failures_note(logins->sources, address, now_ms);
    }
    lock_give(&logins->lock);
    return wait;
}

void logins_move_out(const struct logins *logins, uint64_t now_ns, uint64_t key[2],
                     allowance_each *source, allowance_each *user, void *context)
{
    memcpy(key, logins->key, sizeof(logins->key));
    failures_move_out(logins->sources, now_ns, source, context);
    failures_move_out(logins->users, now_ns, user, context);
}

void logins_move_key(struct logins *logins, const uint64_t key[2])
{
    memcpy(logins->key, key, sizeof(logins->key));
}

void logins_move_in_source(struct logins *logins, uint64_t number, struct allowance allowance)
{
    failures_move_in(logins->sources, number, allowance);
}

void logins_move_in_user(struct logins *logins, uint64_t number, struct allowance allowance)
{
    failures_move_in(logins->users, number, allowance);
}
