/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_IDENTITY_FAILURES_H
#define USHER_IDENTITY_FAILURES_H

/* Failed logins by where they came from, so that somebody who tries many tokens soon costs
 * nothing. A fixed size; one user at a time. */

#include <stdint.h>

#include "base/allowance.h"
#include "base/limits.h"
#include "proto/bytes.h"

struct failures;

/* `per_minute` is asked each time, so another limit holds for those who have failed before as well;
 * 0: nothing is limited. The limits are borrowed. The key is a random one, for the table's hash.
 * NULL without memory. */
struct failures *failures_create(limit_reader *per_minute, const struct limits *limits,
                                 const uint64_t key[2]);
void failures_destroy(struct failures *failures);

/* Whether the source (base/source.h) of `address` has failed too often lately: 0, or the ms after
 * which it may try again. An address that has none is never limited. */
uint32_t failures_wait_ms(struct failures *failures, struct bytes address, uint64_t now_ms);

/* One more failed login of that source. */
void failures_note(struct failures *failures, struct bytes address, uint64_t now_ms);

/* The same for whoever has that number, which is not 0 (broker/door/logins.c counts good logins
 * so). */
uint32_t failures_wait_of(struct failures *failures, uint64_t number, uint64_t now_ms);
void failures_note_of(struct failures *failures, uint64_t number, uint64_t now_ms);

/* All that is not whole again, for another process; and there, when nothing is in it yet. */
void failures_move_out(const struct failures *failures, uint64_t now_ns, allowance_each *each,
                       void *context);
void failures_move_in(struct failures *failures, uint64_t number, struct allowance allowance);

#endif
