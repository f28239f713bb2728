/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_SAMPLES_H
#define USHER_OPERATE_SAMPLES_H

/* What the numbers of the last hour were, for the charts of a console that is opened now. One
 * thread's; never blocks. */

#include <jansson.h>

#include "base/env.h"
#include "base/metrics.h"

enum { SAMPLE_MS = 5000, SAMPLES_MAX = 720 };

struct samples;

/* NULL without memory. All of it is made now, and is in the book of memory. */
struct samples *samples_create(const struct env *env, struct metrics *metrics);
void samples_destroy(struct samples *samples); /* NULL is fine */

/* The next one, now. */
void samples_take(struct samples *samples);

/* Puts them into the object, oldest first. */
void samples_tell(const struct samples *samples, json_t *answer);

#endif
