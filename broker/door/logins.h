/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_DOOR_LOGINS_H
#define USHER_DOOR_LOGINS_H

/* How often one may log in: a user, and an address. */

#include "base/allowance.h"
#include "base/env.h"
#include "base/limits.h"
#include "proto/bytes.h"

struct logins;

/* By limits.logins_per_minute_*. 0 or -ENOMEM. `limits` and `env` outlive it. */
int logins_open(struct logins **logins, const struct limits *limits, const struct env *env);
void logins_close(struct logins *logins); /* NULL is fine */

/* A login of that user from that address ("host:port"), or a resume, is to happen now: it is
 * counted, and `ms` is 0; or it comes too soon, after so many logins, and is not. Any thread. */
struct login_wait {
    uint32_t ms;
    const char *limit; /* the option, of that value */
    uint64_t bound;
};
struct login_wait logins_take(struct logins *logins, struct bytes user, struct bytes address,
                              bool resume);

/* What was counted lately, for another process: by address, and by user under that key; and there,
 * the key first. No other thread. */
void logins_move_out(const struct logins *logins, uint64_t now_ns, uint64_t key[2],
                     allowance_each *source, allowance_each *user, void *context);
void logins_move_key(struct logins *logins, const uint64_t key[2]);
void logins_move_in_source(struct logins *logins, uint64_t number, struct allowance allowance);
void logins_move_in_user(struct logins *logins, uint64_t number, struct allowance allowance);

#endif
