/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_NUMBERS_H
#define USHER_TESTS_NUMBERS_H

/* Walks every uint64 of what a broker said, of client.proto or backend.proto, and finds one that a
 * double does not hold. What its peer gave itself is left out: it comes back as it was. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <protobuf-c/protobuf-c.h>

#include "proto/number.h"

static inline bool number_is_the_peers(const char *message, const char *field)
{
    static const char *const theirs[][2] = {
        {"BrokerFrame", "id"},
        {"Pong", "stamp"},
        {"Results", "seq"},
        {"LineList", "next"}, /* at least `after` */
    };
    for (size_t i = 0; i < sizeof(theirs) / sizeof(theirs[0]); i++)
        if (strcmp(message, theirs[i][0]) == 0 && strcmp(field, theirs[i][1]) == 0)
            return true;
    return false;
}

static inline bool number_is_there(const ProtobufCMessage *message,
                                   const ProtobufCFieldDescriptor *field)
{
    bool oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    const uint8_t *at = (const uint8_t *)message + field->quantifier_offset;
    return !oneof || *(const uint32_t *)at == field->id;
}

/* The name of the first field that holds too large a number; NULL: none does. */
static inline const char *number_too_large(const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        const uint8_t *at = (const uint8_t *)message + field->offset;
        bool many = field->label == PROTOBUF_C_LABEL_REPEATED;
        size_t count = many ? *(const size_t *)((const uint8_t *)message + field->quantifier_offset)
                       : number_is_there(message, field) ? 1
                                                         : 0;
        const char *found = NULL;
        for (size_t k = 0; k < count && found == NULL; k++) {
            const uint8_t *first = many ? *(const uint8_t *const *)at : at;
            if (field->type == PROTOBUF_C_TYPE_UINT64 &&
                ((const uint64_t *)first)[k] > NUMBER_TOLD_MAX &&
                !number_is_the_peers(type->short_name, field->name))
                found = field->name;
            else if (field->type == PROTOBUF_C_TYPE_MESSAGE &&
                     ((const ProtobufCMessage *const *)first)[k] != NULL)
                found = number_too_large(((const ProtobufCMessage *const *)first)[k]);
        }
        if (found != NULL)
            return found;
    }
    return NULL;
}

#endif
