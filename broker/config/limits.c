/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

/* The numbers of the options go to where the layers read them: each row by itself, by what its
 * columns say. */

#define FILL_START(field) limits->field = options->field;
#define FILL_LIVE(field) FOLLOW_LIVE(field)
#define FOLLOW_START(field)
#define FOLLOW_LIVE(field) \
    atomic_store_explicit(&limits->field, options->field, memory_order_relaxed);

void limits_fill(struct limits *limits, const struct options *options)
{
#define OPTION(field, key, type, holds, default_text, min, max, unit, help) \
    LIMIT_OF_##type(FILL_##holds(field))
#include "base/options.def"
#undef OPTION
}

void limits_follow(struct limits *limits, const struct options *options)
{
#define OPTION(field, key, type, holds, default_text, min, max, unit, help) \
    LIMIT_OF_##type(FOLLOW_##holds(field))
#include "base/options.def"
#undef OPTION
}
