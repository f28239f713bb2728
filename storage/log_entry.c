/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/log_entry.h"

#include "base/check.h"
#include "proto/traceparent.h"
#include "proto/varint.h"
#include "storage/store.h"

/* What is read may have been hit by anything, also behind a checksum that is right: each size is
 * held against what is there, and each number against its shortest form. So what is read is what
 * putting it again writes, which the fuzz target looks at.
 *
 * An expiry is written from the time on: some days instead of some decades, which is a byte or two
 * less for each message that is stored. */

enum { FLAG_SERVICE = 1, FLAG_TAG = 2, FLAG_TRACED = 4, FLAGS_ALL = 7, HEAD_BYTES = 2 };

static bool has_sender(enum log_entry_kind kind)
{
    return kind == LOG_ENTRY_KEPT || kind == LOG_ENTRY_TAG;
}

/* --- writing ------------------------------------------------------------------------------ */

static size_t body_size(const struct log_entry *entry)
{
    size_t size = varint_size(entry->mid) + varint_size(entry->receiver_count);
    if (entry->kind != LOG_ENTRY_DONE)
        size += varint_size(entry->time_ms);
    if (entry->kind == LOG_ENTRY_KEPT)
        size += varint_size(entry->expires_ms - entry->time_ms) + entry->payload.size;
    if (entry->tag != 0)
        size += varint_size(entry->tag);
    if (has_sender(entry->kind))
        size += 1 + entry->sender.size;
    size += entry->traceparent.size;
    return size + entry->receivers.size;
}

size_t log_entry_size(const struct log_entry *entry)
{
    size_t size = body_size(entry);
    return HEAD_BYTES + varint_size(size) + size;
}

static uint8_t *put_number(uint8_t *to, uint64_t number)
{
    return to + varint_write(to, number);
}

uint8_t *log_entry_put(uint8_t *to, const struct log_entry *entry)
{
    CHECK(entry->kind >= LOG_ENTRY_KEPT && entry->kind <= LOG_ENTRY_LOST);
    CHECK(entry->sender.size <= STORE_NAME_BYTES_MAX && entry->receiver_count > 0);
    CHECK(entry->traceparent.size == 0 ||
          (entry->kind == LOG_ENTRY_KEPT && entry->traceparent.size == TRACEPARENT_PACKED_BYTES));
    size_t size = body_size(entry);
    *to++ = (uint8_t)entry->kind;
    *to++ = (uint8_t)((entry->from_service ? FLAG_SERVICE : 0) | (entry->tag != 0 ? FLAG_TAG : 0) |
                      (entry->traceparent.size != 0 ? FLAG_TRACED : 0));
    to = put_number(to, size);
    const uint8_t *body = to;
    to = put_number(to, entry->mid);
    if (entry->kind != LOG_ENTRY_DONE)
        to = put_number(to, entry->time_ms);
    if (entry->kind == LOG_ENTRY_KEPT)
        to = put_number(to, entry->expires_ms - entry->time_ms);
    if (entry->tag != 0)
        to = put_number(to, entry->tag);
    to = bytes_put(to, entry->traceparent);
    if (has_sender(entry->kind)) {
        *to++ = (uint8_t)entry->sender.size;
        to = bytes_put(to, entry->sender);
    }
    to = put_number(to, entry->receiver_count);
    to = bytes_put(to, entry->receivers);
    if (entry->kind == LOG_ENTRY_KEPT)
        to = bytes_put(to, entry->payload);
    CHECK((size_t)(to - body) == size);
    return to;
}

/* --- reading ------------------------------------------------------------------------------ */

static struct bytes behind(struct bytes from, size_t size)
{
    return (struct bytes){from.data + size, from.size - size};
}

static bool take_number(struct bytes *from, uint64_t *number)
{
    int used = varint_read(*from, number);
    if (used <= 0 || (size_t)used != varint_size(*number))
        return false;
    *from = behind(*from, (size_t)used);
    return true;
}

/* A byte that is the size, and so many. */
static bool take_name(struct bytes *from, struct bytes *name)
{
    if (from->size == 0 || from->data[0] > STORE_NAME_BYTES_MAX || from->data[0] >= from->size)
        return false;
    *name = (struct bytes){from->data + 1, from->data[0]};
    *from = behind(*from, 1 + name->size);
    return true;
}

bool log_receiver_next(struct bytes *receivers, struct bytes *name)
{
    return take_name(receivers, name) && name->size > 0;
}

static bool take_receivers(struct bytes *from, struct log_entry *entry)
{
    struct bytes name;
    uint64_t count;
    if (!take_number(from, &count) || count == 0 || count > UINT32_MAX)
        return false;
    entry->receiver_count = (uint32_t)count;
    entry->receivers.data = from->data;
    for (; count > 0; count--)
        if (!log_receiver_next(from, &name))
            return false;
    entry->receivers.size = (size_t)(from->data - entry->receivers.data);
    return true;
}

static bool take_traceparent(struct bytes *from, struct bytes *packed)
{
    uint8_t text[TRACEPARENT_BYTES];
    if (from->size < TRACEPARENT_PACKED_BYTES || !traceparent_unpack(from->data, text))
        return false;
    *packed = (struct bytes){from->data, TRACEPARENT_PACKED_BYTES};
    *from = behind(*from, TRACEPARENT_PACKED_BYTES);
    return true;
}

/* All of the body: of those that have no payload nothing is left. */
static bool take_body(struct bytes body, unsigned flags, struct log_entry *entry)
{
    if (!take_number(&body, &entry->mid))
        return false;
    if (entry->kind != LOG_ENTRY_DONE && !take_number(&body, &entry->time_ms))
        return false;
    if (entry->kind == LOG_ENTRY_KEPT) {
        if (!take_number(&body, &entry->expires_ms))
            return false;
        entry->expires_ms += entry->time_ms;
    }
    if (flags & FLAG_TAG && (!take_number(&body, &entry->tag) || entry->tag == 0))
        return false;
    if (flags & FLAG_TRACED &&
        (entry->kind != LOG_ENTRY_KEPT || !take_traceparent(&body, &entry->traceparent)))
        return false;
    if (has_sender(entry->kind) && !take_name(&body, &entry->sender))
        return false;
    if (!take_receivers(&body, entry))
        return false;
    if (entry->kind == LOG_ENTRY_KEPT)
        entry->payload = body;
    return entry->kind == LOG_ENTRY_KEPT || body.size == 0;
}

bool log_entry_read(struct bytes *rest, struct log_entry *entry)
{
    uint64_t size;
    if (rest->size <= HEAD_BYTES)
        return false;
    unsigned kind = rest->data[0];
    unsigned flags = rest->data[1];
    struct bytes body = behind(*rest, HEAD_BYTES);
    if (kind < LOG_ENTRY_KEPT || kind > LOG_ENTRY_LOST || flags > FLAGS_ALL ||
        !take_number(&body, &size) || size > body.size)
        return false;
    *entry = (struct log_entry){
        .kind = (enum log_entry_kind)kind,
        .from_service = (flags & FLAG_SERVICE) != 0,
    };
    if (!take_body((struct bytes){body.data, (size_t)size}, flags, entry))
        return false;
    *rest = behind(body, (size_t)size);
    return true;
}
