/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_FIELD_H
#define USHER_PROTO_FIELD_H

/* Fields of a message, measured and written; for the writers of this folder.
 *
 * A field that is 0 or empty takes no bytes. Each *_put writes at `at`, where there is room for
 * what the *_size of the same field says, and gives where to go on. No field number of the
 * schemas needs more than one byte of tag. Any thread; never block. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "proto/bytes.h"
#include "proto/varint.h"
#include "proto/wire.h"

static inline size_t number_size(uint64_t value)
{
    return value == 0 ? 0 : 1 + varint_size(value);
}

static inline size_t run_size(struct bytes run)
{
    return run.size == 0 ? 0 : 1 + varint_size(run.size) + run.size;
}

static inline uint8_t *tag_put(uint8_t *at, unsigned number, enum wire_type type)
{
    *at = (uint8_t)WIRE_TAG(number, type);
    return at + 1;
}

static inline uint8_t *number_put(uint8_t *at, unsigned number, uint64_t value)
{
    if (value == 0)
        return at;
    at = tag_put(at, number, WIRE_VARINT);
    return at + varint_write(at, value);
}

static inline uint8_t *run_put(uint8_t *at, unsigned number, struct bytes run)
{
    if (run.size == 0)
        return at;
    at = tag_put(at, number, WIRE_RUN);
    at += varint_write(at, run.size);
    memcpy(at, run.data, run.size);
    return at + run.size;
}

/* One field of a list; its number is its place there, counted from 1. It is either a number or a
 * run. A number that is `said` is written also when it is 0; a run that is `whole` is fields that
 * are written already, tags and all. */
struct field {
    uint64_t value;
    struct bytes run;
    bool said, whole;
};

static inline size_t field_size(const struct field *field)
{
    if (field->whole)
        return field->run.size;
    if (field->said)
        return 1 + varint_size(field->value);
    return number_size(field->value) + run_size(field->run);
}

static inline uint8_t *field_put(uint8_t *at, unsigned number, const struct field *field)
{
    if (field->whole) {
        if (field->run.size > 0)
            memcpy(at, field->run.data, field->run.size);
        return at + field->run.size;
    }
    if (field->said) {
        at = tag_put(at, number, WIRE_VARINT);
        return at + varint_write(at, field->value);
    }
    return run_put(number_put(at, number, field->value), number, field->run);
}

static inline size_t fields_size(const struct field *fields, unsigned count)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes += field_size(&fields[i]);
    return bytes;
}

static inline uint8_t *fields_put(uint8_t *at, const struct field *fields, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        at = field_put(at, i + 1, &fields[i]);
    return at;
}

#endif
