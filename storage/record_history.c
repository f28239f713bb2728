/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdalign.h>
#include <string.h>

#include "proto/wire.h"
#include "record.pb-c.h"
#include "storage/record_private.h"

/* Records of the history, read as warily as the others (record.c). A walk for one user passes most
 * of them over, so the name is the first field, and is compared where it lies. */

enum { USER_FIELD = 1 }; /* its length is one byte, since names have 64 at most */

int record_pack_history(const struct history_record *record, uint8_t out[RECORD_BYTES_MAX])
{
    Usher__V1__HistoryRecord message = USHER__V1__HISTORY_RECORD__INIT;
    message.user = (char *)record->user;
    message.time_ms = record->time_ms;
    message.kind = record->kind;
    message.cause = record->cause;
    message.epoch = record->epoch;
    message.address = (char *)record->address;
    message.client = (char *)record->client;
    message.transport = (char *)record->transport;
    message.by = (char *)record->by;
    message.detail = (char *)record->detail;
    message.limit = (char *)record->limit;
    message.bound = record->bound;
    message.value = record->value;
    message.until_ms = record->until_ms;
    message.count = record->count;
    message.missing = record->missing;
    uint8_t key[RECORD_EVENT_KEY_BYTES];
    record_event_key(record->seq, key);
    return record_message_pack(&message.base, (struct bytes){key, sizeof(key)}, out);
}

bool record_history_is_of(struct bytes bytes, const char *user)
{
    size_t size = strlen(user);
    const uint8_t *body = bytes.data + RECORD_HEADER_BYTES;
    return bytes.size >= RECORD_HEADER_BYTES + 2 + size &&
           body[0] == WIRE_TAG(USER_FIELD, WIRE_RUN) && body[1] == size &&
           memcmp(body + 2, user, size) == 0;
}

static bool copy_texts(struct history_record *record, const Usher__V1__HistoryRecord *message)
{
    return record_text_copy(record->user, message->user, STORE_NAME_BYTES_MAX) &&
           record_text_copy(record->address, message->address, STORE_ADDRESS_BYTES_MAX) &&
           record_text_copy(record->client, message->client, STORE_CLIENT_BYTES_MAX) &&
           record_text_copy(record->transport, message->transport, STORE_TRANSPORT_BYTES_MAX) &&
           record_text_copy(record->by, message->by, STORE_BY_BYTES_MAX) &&
           record_text_copy(record->detail, message->detail, STORE_DETAIL_BYTES_MAX) &&
           record_text_copy(record->limit, message->limit, STORE_LIMIT_BYTES_MAX);
}

int record_unpack_history(uint64_t seq, struct bytes bytes, struct history_record *record)
{
    uint8_t key[RECORD_EVENT_KEY_BYTES];
    record_event_key(seq, key);
    alignas(max_align_t) uint8_t memory[ARENA_BYTES];
    struct arena arena = {.data = memory, .capacity = sizeof(memory)};
    ProtobufCMessage *base =
        record_message_unpack(&usher__v1__history_record__descriptor,
                              (struct bytes){key, sizeof(key)}, bytes, RECORD_BYTES_MAX, &arena);
    if (base == NULL)
        return -EUCLEAN;
    const Usher__V1__HistoryRecord *message = (const Usher__V1__HistoryRecord *)base;
    if (message->kind == 0 || message->kind >= HISTORY_KINDS || message->cause > UINT8_MAX ||
        message->user[0] == '\0')
        return -EUCLEAN;
    record->seq = seq;
    record->time_ms = message->time_ms;
    record->epoch = message->epoch;
    record->bound = message->bound;
    record->value = message->value;
    record->until_ms = message->until_ms;
    record->missing = message->missing;
    record->count = message->count;
    record->kind = (uint8_t)message->kind;
    record->cause = (uint8_t)message->cause;
    return copy_texts(record, message) ? 0 : -EUCLEAN;
}
