/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_SOURCE_RATES_H
#define USHER_ACTORS_SOURCE_RATES_H

/* How fast the requests of all users of one source (base/source.h) come together. Sessions hold the
 * entry of the source that they were last connected from; a request costs one atomic of that entry.
 * Any thread; enter and leave take a short lock, take does not. */

#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"
#include "base/limits.h"
#include "proto/bytes.h"

struct source_rates;
struct source_rate;

/* By limits.requests_per_second_per_source, which is asked of every request, so another one holds
 * for the sources that are there too; 0: no limit. The limits are borrowed. NULL without memory. */
struct source_rates *source_rates_create(const struct limits *limits, const struct env *env);
void source_rates_destroy(struct source_rates *rates); /* NULL is fine */

/* The entry of the source of "host:port", to be left; NULL: it is not counted, because it is no
 * address or there is no memory. `rates` may be NULL. */
struct source_rate *source_rates_enter(struct source_rates *rates, struct bytes address);
void source_rates_leave(struct source_rates *rates, struct source_rate *rate); /* NULL is fine */

/* One request at now_ms: 0 when it may pass, otherwise in how many ms one may. A second's worth may
 * come at once. */
uint32_t source_rate_take(const struct source_rates *rates, struct source_rate *rate,
                          uint64_t now_ms);

/* Whether a refusal is to be logged: once in a second for each source. */
bool source_rate_is_news(struct source_rate *rate, uint64_t now_ms);

#endif
