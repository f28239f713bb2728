/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_LIMITS_H
#define USHER_BASE_LIMITS_H

/* The numbers of the configuration, as the layers go by them: one struct for the process, which its
 * layers hold as const and ask each time. A row of options.def that is UNSIGNED is a member here
 * and a function of the same name:
 *
 *     if (count >= limits_inbox_messages(turn->limits))
 *
 * Those that are LIVE change by a reload while others read them, on any thread: whoever reads one
 * twice may see two values, each of them a good one, and no rule depends on two of them agreeing.
 * Those that are START never change while there are threads. config/limits.c writes them. */

#include <stdatomic.h>
#include <stdint.h>

/* What UNSIGNED keeps of its row, and the other types do not. */
#define LIMIT_OF_UNSIGNED(...) __VA_ARGS__
#define LIMIT_OF_BOOL(...)
#define LIMIT_OF_TEXT(...)
#define LIMIT_OF_ENUM(...)
#define LIMIT_OF_TEXT_LIST(...)

#define LIMIT_TYPE_START uint64_t
#define LIMIT_TYPE_LIVE _Atomic uint64_t

/* Relaxed: a limit orders nothing else. */
#define LIMIT_READ_START(place) (*(place))
#define LIMIT_READ_LIVE(place) atomic_load_explicit(place, memory_order_relaxed)

struct limits {
#define OPTION(field, key, type, holds, default_text, min, max, unit, help) \
    LIMIT_OF_##type(LIMIT_TYPE_##holds field;)
#include "base/options.def"
#undef OPTION
};

#define LIMIT_READER(field, holds)                            \
    static inline uint64_t field(const struct limits *limits) \
    {                                                         \
        return LIMIT_READ_##holds(&limits->field);            \
    }
#define OPTION(field, key, type, holds, default_text, min, max, unit, help) \
    LIMIT_OF_##type(LIMIT_READER(field, holds))
#include "base/options.def"
#undef OPTION

/* One of these, for a part that goes by a limit and does not care which. */
typedef uint64_t limit_reader(const struct limits *limits);

/* --- what follows from several of them -------------------------------------------------------- */

/* What ends a connection when it waits there: limits.output_bytes, or what a frame of the largest
 * size needs that others send, and some answers beside it; he would be closed as a slow one however
 * fast he reads. */
static inline uint64_t output_max(const struct limits *limits)
{
    uint64_t output = limits_output_bytes(limits);
    uint64_t frame = limits_frame_bytes(limits) + output / 4;
    return output > frame ? output : frame;
}

/* How much may wait in a connection for long: limits.output_soft_bytes, and half of what ends it at
 * once, so that what others send leaves room for answers. */
static inline uint64_t output_window(const struct limits *limits)
{
    uint64_t soft = limits_output_soft_bytes(limits);
    uint64_t half = output_max(limits) / 2;
    return soft < half ? soft : half;
}

#endif
