/* SPDX-License-Identifier: Apache-2.0 */
#include "user/inbox.h"

#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/memory.h"

/* Records behind each other in runs of memory, oldest first; a run is freed with its last record.
 *
 * Why not the delivered messages themselves, linked: with acks each stays for a round trip, so
 * thousands of them are older than any cache, and to forget one is to fetch it. A record is half
 * as large as a message, lies where the processor looks next, and the message goes back to malloc
 * while it is still warm (docs/decisions/0061).
 *
 * A message that is large, shared with others or has somebody to tell of its end is held as it is;
 * its record then ends with the pointer instead of the bytes. What changes while it is kept (seq,
 * redelivered, sent) is the record's, and the message gets it when it is popped.
 *
 * Messages are handed out in their order, so what the present connection has been given is the
 * front of the queue and what waits for it the end, and the same holds for what any connection has
 * been given: two counts, and the place between them. */

enum { RECORD_BYTES_MAX = 400 /* of name, payload and traceparent */ };
enum { HELD = 1, FROM_SERVICE = 2, REDELIVERED = 4, SENT = 8, TRACED = 16, STORED = 32 };

struct record {
    uint64_t seq;
    union {
        uint64_t arrived_ms;
        uint64_t mid; /* STORED: it has no age, so no record is larger for it */
    };
    uint64_t time_ms;
    uint16_t payload_size;
    uint8_t name_size;
    uint8_t flags;
    uint8_t
        bytes[]; /* name, payload, and if it is TRACED a traceparent; of a held one: its address */
};

/* The first run of an inbox is small, for those who have a message or two. */
enum { RUN_SMALL_BYTES = 224, RUN_BYTES = 1008 };

struct inbox_run {
    struct inbox_run *next;
    uint16_t begin, end, size; /* of `data` */
    alignas(struct record) uint8_t data[];
};

static uint32_t record_size(uint32_t bytes)
{
    uint32_t size = (uint32_t)offsetof(struct record, bytes) + bytes;
    return (size + alignof(struct record) - 1) / alignof(struct record) * alignof(struct record);
}

/* Of one that is not held. */
static uint32_t bytes_of(const struct record *record)
{
    return (uint32_t)record->name_size + record->payload_size +
           (record->flags & TRACED ? (uint32_t)TRACEPARENT_BYTES : 0);
}

static uint32_t size_of(const struct record *record)
{
    return record_size(record->flags & HELD ? (uint32_t)sizeof(struct deliver_message *)
                                            : bytes_of(record));
}

static struct record *record_at(const struct inbox_run *run, uint32_t at)
{
    return (struct record *)(run->data + at);
}

static struct deliver_message *held_by(const struct record *record)
{
    struct deliver_message *message = NULL;
    if (record->flags & HELD)
        memcpy(&message, record->bytes, sizeof(message));
    return message;
}

/* Front and end of the queue: what was handed out is before what waits, and what some connection
 * has seen before what none has. */
static bool is_in_order(const struct inbox *inbox)
{
    return inbox->unseen <= inbox->waiting && inbox->waiting <= inbox->count;
}

static uint32_t bytes_kept(const struct kept_message *kept)
{
    return (uint32_t)(kept->name.size + kept->payload.size + kept->traceparent.size);
}

/* As many records and bytes as are counted, in the order of their numbers. */
static bool is_whole(const struct inbox *inbox)
{
    uint32_t count = 0, bytes = 0, of_services = 0;
    struct inbox_place place = {0};
    struct kept_message kept;
    for (uint64_t seq = 0; inbox_read(inbox, &place, &kept); seq = kept.seq) {
        if (count > 0 && kept.seq <= seq)
            return false;
        count++;
        bytes += bytes_kept(&kept);
        of_services += kept.from_service;
    }
    return count == inbox->count && bytes == inbox->bytes && of_services == inbox->service_count;
}

/* --- room ------------------------------------------------------------------------------------- */

uint32_t inbox_bytes_of(const struct deliver_message *message)
{
    return deliver_size(message);
}

static uint64_t sender_of(const struct inbox *inbox, struct bytes name)
{
    return hash_keyed(inbox->share_key, name.data, name.size);
}

static void add_share(struct inbox *inbox, struct bytes name, uint32_t bytes)
{
    MEMORY_MUST(shares_add(&inbox->shares, sender_of(inbox, name), bytes) == 0,
                "the shares of an inbox");
}

/* They are counted from when somebody may have too much until there is half of that: so the walk
 * over all comes once for as much as a sender may have. */
static void count_shares(struct inbox *inbox, const struct inbox_limits *limits)
{
    struct inbox_place place = {0};
    struct kept_message kept;
    if (inbox->share_key != NULL)
        return;
    inbox->share_key = limits->key;
    while (inbox_read(inbox, &place, &kept))
        if (!kept.from_service)
            add_share(inbox, kept.name, bytes_kept(&kept));
}

static void drop_shares(struct inbox *inbox)
{
    shares_fini(&inbox->shares);
    inbox->share_key = NULL;
}

/* At most `max`, and no more than what is free of twice that. */
static bool is_too_much(uint64_t own, uint64_t all, uint32_t max)
{
    return own + all > 2 * (uint64_t)max;
}

enum inbox_room inbox_room_for(struct inbox *inbox, const struct deliver_message *message,
                               const struct inbox_limits *limits)
{
    uint32_t count_max = limits->messages_max;
    uint32_t bytes_max = limits->bytes_max;
    uint64_t bytes = inbox_bytes_of(message);
    if (message->from_service)
        return inbox->service_count + 1 <= count_max && inbox->service_bytes + bytes <= bytes_max
                   ? INBOX_HAS_ROOM
                   : INBOX_HAS_NO_ROOM;
    uint64_t all = inbox->count - inbox->service_count + 1;
    uint64_t all_bytes = inbox->bytes - inbox->service_bytes + bytes;
    if (inbox->share_key != NULL && all * 2 <= count_max && all_bytes * 2 <= bytes_max)
        drop_shares(inbox);
    if (bytes <= bytes_max && all <= count_max && all_bytes <= bytes_max)
        return INBOX_HAS_ROOM; /* were it all his own */
    if (bytes > bytes_max || all > 2 * (uint64_t)count_max || all_bytes > 2 * (uint64_t)bytes_max)
        return INBOX_HAS_NO_ROOM;
    count_shares(inbox, limits);
    struct share own = shares_look(&inbox->shares, sender_of(inbox, deliver_name(message)));
    bool too_much = own.count > 0 && (is_too_much(own.count + 1, all, count_max) ||
                                      is_too_much(own.bytes + bytes, all_bytes, bytes_max));
    return too_much ? INBOX_HAS_OTHER_SENDERS : INBOX_HAS_ROOM;
}

static size_t run_bytes(uint32_t size)
{
    return sizeof(struct inbox_run) + size;
}

static void add_run(struct inbox *inbox, uint32_t size)
{
    struct inbox_run *run;
    MEMORY_MUST((run = malloc(run_bytes(size))) != NULL, "an inbox");
    memory_account(MEMORY_OF_INBOXES, (int64_t)run_bytes(size));
    *run = (struct inbox_run){.size = (uint16_t)size};
    if (inbox->last != NULL)
        inbox->last->next = run;
    else
        inbox->first = run;
    inbox->last = run;
}

static void free_first_run(struct inbox *inbox)
{
    struct inbox_run *run = inbox->first;
    CHECK(run->begin == run->end && (inbox->waiting == 0 || inbox->next.run != run));
    inbox->first = run->next;
    if (inbox->first == NULL)
        inbox->last = NULL;
    memory_account(MEMORY_OF_INBOXES, -(int64_t)run_bytes(run->size));
    free(run);
}

/* What comes behind those that wait, waits. */
static void note_waiting(struct inbox *inbox, struct record *record)
{
    if ((record->flags & SENT) != 0 && inbox->waiting == 0)
        return;
    record->flags &= (uint8_t)~SENT;
    if (inbox->waiting++ == 0)
        inbox->next = (struct inbox_place){inbox->last,
                                           (uint32_t)((const uint8_t *)record - inbox->last->data)};
    inbox->unseen++;
}

static void note_sender(struct inbox *inbox, const struct deliver_message *message)
{
    uint32_t bytes = inbox_bytes_of(message);
    inbox->count++;
    inbox->bytes += bytes;
    if (message->from_service) {
        inbox->service_count++;
        inbox->service_bytes += bytes;
    } else if (inbox->share_key != NULL) {
        add_share(inbox, deliver_name(message), bytes);
    }
}

static void note_gone(struct inbox *inbox, bool from_service, struct bytes name, uint32_t bytes)
{
    CHECK(inbox->count > 0 && inbox->bytes >= bytes && is_in_order(inbox));
    inbox->unseen -= inbox->unseen == inbox->count;
    inbox->waiting -= inbox->waiting == inbox->count;
    inbox->count--;
    inbox->bytes -= bytes;
    if (from_service) {
        CHECK(inbox->service_count > 0 && inbox->service_bytes >= bytes);
        inbox->service_count--;
        inbox->service_bytes -= bytes;
    } else if (inbox->share_key != NULL) {
        shares_remove(&inbox->shares, sender_of(inbox, name), bytes);
    }
    if (inbox->waiting == inbox->count)
        inbox->next = (struct inbox_place){0};
    if (inbox->count == 0)
        drop_shares(inbox);
    CHECK(inbox->count > 0 || (inbox->bytes == 0 && inbox->service_bytes == 0));
}

static struct record *append(struct inbox *inbox, uint32_t size)
{
    if (inbox->last == NULL || inbox->last->size - inbox->last->end < (int)size)
        add_run(inbox,
                inbox->last == NULL && size <= RUN_SMALL_BYTES ? RUN_SMALL_BYTES : RUN_BYTES);
    CHECK(size <= (uint32_t)(inbox->last->size - inbox->last->end));
    struct record *record = record_at(inbox->last, inbox->last->end);
    inbox->last->end = (uint16_t)(inbox->last->end + size);
    return record;
}

/* --- a message in, a message out -------------------------------------------------------------- */

static bool is_to_be_held(const struct deliver_message *message)
{
    return !message_is_plain(&message->header) || message->request != 0 || message->stamp_us != 0 ||
           inbox_bytes_of(message) > RECORD_BYTES_MAX;
}

void inbox_push(struct inbox *inbox, struct deliver_message *message)
{
    bool held = is_to_be_held(message);
    uint32_t bytes = inbox_bytes_of(message);
    struct record *record = append(inbox, record_size(held ? sizeof(message) : bytes));
    record->seq = message->seq;
    if (message->stored)
        record->mid = message->mid;
    else
        record->arrived_ms = message->arrived_ms;
    record->time_ms = message->time_ms;
    record->payload_size = held ? 0 : (uint16_t)message->payload_size;
    record->name_size = held ? 0 : message->name_size;
    record->flags =
        (uint8_t)((held ? HELD : 0) | (message->from_service ? FROM_SERVICE : 0) |
                  (message->redelivered ? REDELIVERED : 0) | (message->sent ? SENT : 0) |
                  (message->traced ? TRACED : 0) | (message->stored ? STORED : 0));
    note_sender(inbox, message);
    note_waiting(inbox, record);
    if (held) {
        message->header.next = NULL;
        memcpy(record->bytes, &message, sizeof(message));
    } else {
        memcpy(record->bytes, message->bytes, bytes);
        message_destroy(&message->header);
    }
}

static struct bytes traceparent_of(const struct record *record)
{
    return record->flags & TRACED
               ? (struct bytes){record->bytes + record->name_size + record->payload_size,
                                TRACEPARENT_BYTES}
               : (struct bytes){0};
}

static struct deliver_message *message_of(const struct record *record)
{
    struct deliver_message *message = held_by(record);
    if (message == NULL) {
        struct bytes name = {record->bytes, record->name_size};
        struct bytes payload = {record->bytes + record->name_size, record->payload_size};
        MEMORY_MUST((message = deliver_create_traced(name, payload, traceparent_of(record))) !=
                        NULL,
                    "a kept message");
        message->stored = record->flags & STORED;
        if (message->stored)
            message->mid = record->mid;
        else
            message->arrived_ms = record->arrived_ms;
        message->time_ms = record->time_ms;
        message->from_service = record->flags & FROM_SERVICE;
    }
    message->seq = record->seq;
    message->redelivered = record->flags & REDELIVERED;
    message->sent = record->flags & SENT;
    return message;
}

/* The oldest record is done with. */
static void drop_record(struct inbox *inbox, uint32_t size)
{
    CHECK(size <= (uint32_t)(inbox->first->end - inbox->first->begin));
    inbox->first->begin = (uint16_t)(inbox->first->begin + size);
    if (inbox->first->begin == inbox->first->end)
        free_first_run(inbox);
}

struct deliver_message *inbox_pop(struct inbox *inbox)
{
    if (inbox->first == NULL)
        return NULL;
    const struct record *record = record_at(inbox->first, inbox->first->begin);
    struct deliver_message *message = message_of(record);
    note_gone(inbox, message->from_service, deliver_name(message), inbox_bytes_of(message));
    drop_record(inbox, size_of(record));
    return message;
}

static uint64_t mid_of(const struct record *record)
{
    return record->flags & STORED ? record->mid : 0;
}

uint64_t inbox_forget(struct inbox *inbox, uint64_t seq)
{
    uint64_t mid = 0; /* they rise */
    while (inbox->first != NULL) {
        const struct record *record = record_at(inbox->first, inbox->first->begin);
        if (record->seq > seq || (record->flags & HELD) != 0)
            break;
        mid = record->flags & STORED ? record->mid : mid;
        note_gone(inbox, record->flags & FROM_SERVICE,
                  (struct bytes){record->bytes, record->name_size}, bytes_of(record));
        drop_record(inbox, size_of(record));
    }
    return mid;
}

/* --- looking ---------------------------------------------------------------------------------- */

static void look_at(const struct record *record, struct kept_message *kept)
{
    const struct deliver_message *held = held_by(record);
    *kept = (struct kept_message){
        .seq = record->seq,
        .arrived_ms = record->flags & STORED ? 0 : record->arrived_ms,
        .mid = mid_of(record),
        .time_ms = record->time_ms,
        .from_service = record->flags & FROM_SERVICE,
        .redelivered = record->flags & REDELIVERED,
        .sent = record->flags & SENT,
        .name = {record->bytes, record->name_size},
        .payload = {record->bytes + record->name_size, record->payload_size},
        .held = held,
    };
    if (held != NULL) {
        kept->name = deliver_name(held);
        kept->payload = deliver_payload(held);
    }
    kept->traceparent = held != NULL ? deliver_traceparent(held) : traceparent_of(record);
}

/* The record at the place, which then moves on; NULL: no more. */
static struct record *next_record(const struct inbox *inbox, struct inbox_place *place)
{
    if (place->run == NULL) {
        place->run = inbox->first;
        place->at = inbox->first != NULL ? inbox->first->begin : 0;
    } else if (place->at == place->run->end && place->run->next != NULL) {
        place->run = place->run->next;
        place->at = place->run->begin;
    }
    if (place->run == NULL || place->at == place->run->end)
        return NULL;
    struct record *record = record_at(place->run, place->at);
    place->at += size_of(record);
    return record;
}

bool inbox_read(const struct inbox *inbox, struct inbox_place *place, struct kept_message *kept)
{
    const struct record *record = next_record(inbox, place);
    if (record != NULL)
        look_at(record, kept);
    return record != NULL;
}

bool inbox_oldest(const struct inbox *inbox, struct kept_message *kept)
{
    return inbox_read(inbox, &(struct inbox_place){0}, kept);
}

/* --- handing out ------------------------------------------------------------------------------ */

bool inbox_next(const struct inbox *inbox, struct kept_message *kept)
{
    struct inbox_place place = inbox->next;
    return inbox->waiting > 0 && inbox_read(inbox, &place, kept);
}

struct deliver_message *inbox_sent(struct inbox *inbox)
{
    CHECK(inbox->waiting > 0 && is_in_order(inbox));
    struct record *record = next_record(inbox, &inbox->next);
    inbox->unseen -= inbox->unseen == inbox->waiting;
    inbox->waiting--;
    record->flags |= SENT;
    return held_by(record);
}

void inbox_seen(struct inbox *inbox, uint32_t unseen)
{
    CHECK(unseen <= inbox->waiting);
    inbox->unseen = unseen;
}

void inbox_rewind(struct inbox *inbox)
{
    CHECK_SLOW(is_whole(inbox));
    inbox->waiting = inbox->count;
    inbox->next = (struct inbox_place){0};
}

void inbox_renumber(struct inbox *inbox, uint64_t first)
{
    struct inbox_place place = {0};
    for (struct record *record; (record = next_record(inbox, &place)) != NULL;) {
        record->seq = first++;
        record->flags = (uint8_t)((record->flags | REDELIVERED) & ~SENT);
    }
    inbox->unseen = inbox->count;
    inbox_rewind(inbox);
}
