/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/traceparent.h"

/* The text of Trace Context, level 1, part 3.2. Two digits of version, then those of version 00,
 * which later ones keep as their beginning. What a later one adds behind the flags we do not take:
 * then a traceparent would have no length that can be relied on, and there is no such version yet.
 * What is not a traceparent is as none at all, as the text has it ("restart the trace"): it may
 * have come from whoever called a service of somebody's, and must not make his request fail. */

enum { ID_AT = 3, PARENT_AT = 36, FLAGS_AT = 53, PARENT_BYTES = 16 };

static bool is_hex(const uint8_t *at, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!((at[i] >= '0' && at[i] <= '9') || (at[i] >= 'a' && at[i] <= 'f')))
            return false;
    return true;
}

static bool is_zero(const uint8_t *at, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (at[i] != '0')
            return false;
    return true;
}

static bool is_id(const uint8_t *at, size_t count)
{
    return is_hex(at, count) && !is_zero(at, count);
}

bool traceparent_valid(struct bytes text)
{
    const uint8_t *at = text.data;
    if (text.size != TRACEPARENT_BYTES)
        return false;
    return is_hex(at, 2) && !(at[0] == 'f' && at[1] == 'f') && at[ID_AT - 1] == '-' &&
           is_id(at + ID_AT, TRACE_ID_BYTES) && at[PARENT_AT - 1] == '-' &&
           is_id(at + PARENT_AT, PARENT_BYTES) && at[FLAGS_AT - 1] == '-' &&
           is_hex(at + FLAGS_AT, 2);
}

bool trace_id_valid(struct bytes text)
{
    return text.size == TRACE_ID_BYTES && is_id(text.data, TRACE_ID_BYTES);
}

struct bytes traceparent_id(struct bytes traceparent)
{
    return traceparent.size == TRACEPARENT_BYTES
               ? (struct bytes){traceparent.data + ID_AT, TRACE_ID_BYTES}
               : (struct bytes){0};
}

static uint8_t digit_of(uint8_t text)
{
    return (uint8_t)(text <= '9' ? text - '0' : text - 'a' + 10);
}

static bool is_dash(unsigned at)
{
    return at == ID_AT - 1 || at == PARENT_AT - 1 || at == FLAGS_AT - 1;
}

void traceparent_pack(struct bytes valid, uint8_t packed[TRACEPARENT_PACKED_BYTES])
{
    unsigned to = 0;
    for (unsigned at = 0; at < TRACEPARENT_BYTES; at += 2) {
        at += is_dash(at);
        packed[to++] = (uint8_t)(digit_of(valid.data[at]) << 4 | digit_of(valid.data[at + 1]));
    }
}

bool traceparent_unpack(const uint8_t packed[TRACEPARENT_PACKED_BYTES],
                        uint8_t text[TRACEPARENT_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    unsigned from = 0;
    for (unsigned at = 0; at < TRACEPARENT_BYTES; at += 2) {
        if (is_dash(at))
            text[at++] = '-';
        text[at] = (uint8_t)digits[packed[from] >> 4];
        text[at + 1] = (uint8_t)digits[packed[from++] & 15];
    }
    return traceparent_valid((struct bytes){text, TRACEPARENT_BYTES});
}
