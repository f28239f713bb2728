/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/record.h"

#include <errno.h>
#include <stdalign.h>
#include <stdio.h>
#include <string.h>

#include "backend.pb-c.h"
#include "base/check.h"
#include "proto/arena.h"
#include "proto/traceparent.h"
#include "record.pb-c.h"
#include "storage/record_private.h"

/* What lies on disk may have been hit by anything, so reading trusts nothing: version, checksum,
 * a protobuf of known shape, lengths. The last check packs the message again and compares the
 * size. That catches what the unpacked form cannot show: a NUL inside of a text, a field given
 * twice, a number in a longer form than needed.
 *
 * Unpacking allocates from an arena whose memory is on the stack: a record is small, a listing
 * unpacks many of them, and a damaged one that passes the checksum by luck costs no more. Only
 * saved messages are of any size; their arena is the caller's, sized after the record. */

/* Half a byte at a time, sixteen of them at once: what each contributes depends on how many follow
 * it, and on nothing else. 1 KiB of table, and some ten times as fast as one after the other: a
 * start reads hundreds of megabytes of the log. */
uint32_t record_crc32c(uint32_t crc, struct bytes data)
{
    enum { HALVES = 16, WORD_BYTES = 8 };
    static const uint32_t table[HALVES][16] = {
        {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362,
         0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab,
         0xe330a81a, 0xf36e6f75},
        {0x00000000, 0xf26b8303, 0xe13b70f7, 0x1350f3f4, 0xc79a971f, 0x35f1141c, 0x26a1e7e8,
         0xd4ca64eb, 0x8ad958cf, 0x78b2dbcc, 0x6be22838, 0x9989ab3b, 0x4d43cfd0, 0xbf284cd3,
         0xac78bf27, 0x5e133c24},
        {0x00000000, 0x3fc5f181, 0x7f8be302, 0x404e1283, 0xff17c604, 0xc0d23785, 0x809c2506,
         0xbf59d487, 0xfbc3faf9, 0xc4060b78, 0x844819fb, 0xbb8de87a, 0x04d43cfd, 0x3b11cd7c,
         0x7b5fdfff, 0x449a2e7e},
        {0x00000000, 0x13a29877, 0x274530ee, 0x34e7a899, 0x4e8a61dc, 0x5d28f9ab, 0x69cf5132,
         0x7a6dc945, 0x9d14c3b8, 0x8eb65bcf, 0xba51f356, 0xa9f36b21, 0xd39ea264, 0xc03c3a13,
         0xf4db928a, 0xe7790afd},
        {0x00000000, 0x70a27d8a, 0xe144fb14, 0x91e6869e, 0xc76580d9, 0xb7c7fd53, 0x26217bcd,
         0x56830647, 0x8b277743, 0xfb850ac9, 0x6a638c57, 0x1ac1f1dd, 0x4c42f79a, 0x3ce08a10,
         0xad060c8e, 0xdda47104},
        {0x00000000, 0xa541927e, 0x4f6f520d, 0xea2ec073, 0x9edea41a, 0x3b9f3664, 0xd1b1f617,
         0x74f06469, 0x38513ec5, 0x9d10acbb, 0x773e6cc8, 0xd27ffeb6, 0xa68f9adf, 0x03ce08a1,
         0xe9e0c8d2, 0x4ca15aac},
        {0x00000000, 0xe964b13d, 0xd725148b, 0x3e41a5b6, 0xaba65fe7, 0x42c2eeda, 0x7c834b6c,
         0x95e7fa51, 0x52a0c93f, 0xbbc47802, 0x8585ddb4, 0x6ce16c89, 0xf90696d8, 0x106227e5,
         0x2e238253, 0xc747336e},
        {0x00000000, 0xdd45aab8, 0xbf672381, 0x62228939, 0x7b2231f3, 0xa6679b4b, 0xc4451272,
         0x1900b8ca, 0xf64463e6, 0x2b01c95e, 0x49234067, 0x9466eadf, 0x8d665215, 0x5023f8ad,
         0x32017194, 0xef44db2c},
        {0x00000000, 0x8f2261d3, 0x1ba8b557, 0x948ad484, 0x37516aae, 0xb8730b7d, 0x2cf9dff9,
         0xa3dbbe2a, 0x6ea2d55c, 0xe180b48f, 0x750a600b, 0xfa2801d8, 0x59f3bff2, 0xd6d1de21,
         0x425b0aa5, 0xcd796b76},
        {0x00000000, 0x38116fac, 0x7022df58, 0x4833b0f4, 0xe045beb0, 0xd854d11c, 0x906761e8,
         0xa8760e44, 0xc5670b91, 0xfd76643d, 0xb545d4c9, 0x8d54bb65, 0x2522b521, 0x1d33da8d,
         0x55006a79, 0x6d1105d5},
        {0x00000000, 0xc00c303e, 0x85f4168d, 0x45f826b3, 0x0e045beb, 0xce086bd5, 0x8bf04d66,
         0x4bfc7d58, 0x1c08b7d6, 0xdc0487e8, 0x99fca15b, 0x59f09165, 0x120cec3d, 0xd200dc03,
         0x97f8fab0, 0x57f4ca8e},
        {0x00000000, 0xef306b19, 0xdb8ca0c3, 0x34bccbda, 0xb2f53777, 0x5dc55c6e, 0x697997b4,
         0x8649fcad, 0x6006181f, 0x8f367306, 0xbb8ab8dc, 0x54bad3c5, 0xd2f32f68, 0x3dc34471,
         0x097f8fab, 0xe64fe4b2},
        {0x00000000, 0x9c5bfaa6, 0x3d5b83bd, 0xa100791b, 0x7ab7077a, 0xe6ecfddc, 0x47ec84c7,
         0xdbb77e61, 0xf56e0ef4, 0x6935f452, 0xc8358d49, 0x546e77ef, 0x8fd9098e, 0x1382f328,
         0xb2828a33, 0x2ed97095},
        {0x00000000, 0x68032cc8, 0xd0065990, 0xb8057558, 0xa5e0c5d1, 0xcde3e919, 0x75e69c41,
         0x1de5b089, 0x4e2dfd53, 0x262ed19b, 0x9e2ba4c3, 0xf628880b, 0xebcd3882, 0x83ce144a,
         0x3bcb6112, 0x53c84dda},
        {0x00000000, 0x847609b4, 0x0d006599, 0x89766c2d, 0x1a00cb32, 0x9e76c286, 0x1700aeab,
         0x9376a71f, 0x34019664, 0xb0779fd0, 0x3901f3fd, 0xbd77fa49, 0x2e015d56, 0xaa7754e2,
         0x230138cf, 0xa777317b},
        {0x00000000, 0x493c7d27, 0x9278fa4e, 0xdb448769, 0x211d826d, 0x6821ff4a, 0xb3657823,
         0xfa590504, 0x423b04da, 0x0b0779fd, 0xd043fe94, 0x997f83b3, 0x632686b7, 0x2a1afb90,
         0xf15e7cf9, 0xb86201de},
    };
    crc = ~crc;
    size_t at = 0;
    for (; data.size - at >= WORD_BYTES; at += WORD_BYTES) {
        uint64_t word = 0;
        for (int i = 0; i < WORD_BYTES; i++) /* one load, where the machine is of that order */
            word |= (uint64_t)data.data[at + (size_t)i] << (8 * i);
        word ^= crc;
        crc = 0;
#pragma GCC unroll 16
        for (int i = 0; i < HALVES; i++)
            crc ^= table[HALVES - 1 - i][word >> (4 * i) & 15];
    }
    for (; at < data.size; at++) {
        crc ^= data.data[at];
        crc = table[0][crc & 15] ^ (crc >> 4);
        crc = table[0][crc & 15] ^ (crc >> 4);
    }
    return ~crc;
}

void record_event_key(uint64_t seq, uint8_t key[RECORD_EVENT_KEY_BYTES])
{
    for (int i = RECORD_EVENT_KEY_BYTES - 1; i >= 0; i--) {
        key[i] = (uint8_t)seq;
        seq >>= 8;
    }
}

uint64_t record_event_seq(const uint8_t key[RECORD_EVENT_KEY_BYTES])
{
    uint64_t seq = 0;
    for (int i = 0; i < RECORD_EVENT_KEY_BYTES; i++)
        seq = seq << 8 | key[i];
    return seq;
}

static uint32_t checksum(struct bytes key, uint8_t version, struct bytes body)
{
    uint32_t crc = record_crc32c(0, key);
    crc = record_crc32c(crc, (struct bytes){&version, 1});
    return record_crc32c(crc, body);
}

static void header_write(uint8_t *out, struct bytes key, size_t body_bytes)
{
    struct bytes body = {out + RECORD_HEADER_BYTES, body_bytes};
    uint32_t crc = checksum(key, RECORD_VERSION, body);
    out[0] = RECORD_VERSION;
    for (int i = 0; i < 4; i++)
        out[1 + i] = (uint8_t)(crc >> (8 * i));
}

static int header_check(struct bytes key, struct bytes bytes, struct bytes *body)
{
    if (bytes.size < RECORD_HEADER_BYTES)
        return -EUCLEAN;
    if (bytes.data[0] != RECORD_VERSION)
        return -EUCLEAN;
    uint32_t crc = 0;
    for (int i = 0; i < 4; i++)
        crc |= (uint32_t)bytes.data[1 + i] << (8 * i);
    *body = (struct bytes){bytes.data + RECORD_HEADER_BYTES, bytes.size - RECORD_HEADER_BYTES};
    return crc == checksum(key, bytes.data[0], *body) ? 0 : -EUCLEAN;
}

bool record_text_fits(const char *text, size_t bytes_max)
{
    return strnlen(text, bytes_max + 1) <= bytes_max;
}

/* Copies with the NUL. False when it does not fit. */
bool record_text_copy(char *out, const char *text, size_t bytes_max)
{
    size_t size = strnlen(text, bytes_max + 1);
    if (size > bytes_max)
        return false;
    memcpy(out, text, size);
    out[size] = '\0';
    return true;
}

/* The message behind its header. The size is checked first: packing itself has no bound. */
int record_message_pack(const ProtobufCMessage *message, struct bytes key, uint8_t *out)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    if (size > RECORD_BYTES_MAX - RECORD_HEADER_BYTES)
        return -EINVAL;
    CHECK(protobuf_c_message_pack(message, out + RECORD_HEADER_BYTES) == size);
    header_write(out, key, size);
    return (int)(RECORD_HEADER_BYTES + size);
}

/* The message lives in the arena; NULL when it is damaged. */
ProtobufCMessage *record_message_unpack(const ProtobufCMessageDescriptor *descriptor,
                                        struct bytes key, struct bytes bytes, size_t bytes_max,
                                        struct arena *arena)
{
    struct bytes body;
    if (bytes.size > bytes_max || header_check(key, bytes, &body) < 0)
        return NULL;
    ProtobufCMessage *message =
        protobuf_c_message_unpack(descriptor, arena_allocator(arena), body.size, body.data);
    if (message == NULL || protobuf_c_message_get_packed_size(message) != body.size)
        return NULL;
    return message;
}

int record_pack_session(const char *user, const struct session_record *record,
                        uint8_t out[RECORD_BYTES_MAX])
{
    if (!record_text_fits(record->address, STORE_ADDRESS_BYTES_MAX) ||
        !record_text_fits(record->client, STORE_CLIENT_BYTES_MAX) ||
        !record_text_fits(record->transport, STORE_TRANSPORT_BYTES_MAX) ||
        record->rooms.size > STORE_ROOMS_BYTES_MAX)
        return -EINVAL;
    if (record->state != SESSION_ONLINE && record->state != SESSION_DETACHED)
        return -EINVAL;
    Usher__V1__SessionRecord message = USHER__V1__SESSION_RECORD__INIT;
    message.epoch = record->epoch;
    message.state = (uint32_t)record->state;
    message.since_ms = record->since_ms;
    message.secret.data = (uint8_t *)record->secret;
    message.secret.len = STORE_SECRET_BYTES;
    message.address = (char *)record->address;
    message.client = (char *)record->client;
    message.acks = record->acks;
    message.token_ends_ms = record->token_ends_ms;
    message.transport = (char *)record->transport;
    char rooms[STORE_ROOMS_BYTES_MAX + 1];
    bytes_put((uint8_t *)rooms, record->rooms);
    rooms[record->rooms.size] = '\0';
    message.rooms = rooms;
    return record_message_pack(&message.base, bytes_of_text(user), out);
}

/* They are the last of the record, as packing puts them: so they are found in its own bytes, where
 * the caller may read them on. */
static int find_rooms(struct bytes bytes, const char *text, struct session_record *record)
{
    struct bytes rooms = bytes_of_text(text);
    record->rooms = (struct bytes){0};
    if (rooms.size == 0)
        return 0;
    if (rooms.size > STORE_ROOMS_BYTES_MAX || rooms.size > bytes.size)
        return -EUCLEAN;
    record->rooms = (struct bytes){bytes.data + bytes.size - rooms.size, rooms.size};
    return bytes_equal(record->rooms, rooms) ? 0 : -EUCLEAN;
}

int record_unpack_session(const char *user, struct bytes bytes, struct session_record *record)
{
    alignas(max_align_t) uint8_t memory[ARENA_BYTES];
    struct arena arena = {.data = memory, .capacity = sizeof(memory)};
    ProtobufCMessage *base =
        record_message_unpack(&usher__v1__session_record__descriptor, bytes_of_text(user), bytes,
                              RECORD_BYTES_MAX, &arena);
    if (base == NULL)
        return -EUCLEAN;
    const Usher__V1__SessionRecord *message = (const Usher__V1__SessionRecord *)base;
    if (message->state != SESSION_ONLINE && message->state != SESSION_DETACHED)
        return -EUCLEAN;
    if (message->secret.len != STORE_SECRET_BYTES)
        return -EUCLEAN;
    record->epoch = message->epoch;
    record->since_ms = message->since_ms;
    record->state = (enum session_state)message->state;
    record->acks = message->acks;
    record->token_ends_ms = message->token_ends_ms;
    memcpy(record->secret, message->secret.data, STORE_SECRET_BYTES);
    bool fits = record_text_copy(record->address, message->address, STORE_ADDRESS_BYTES_MAX) &&
                record_text_copy(record->client, message->client, STORE_CLIENT_BYTES_MAX) &&
                record_text_copy(record->transport, message->transport, STORE_TRANSPORT_BYTES_MAX);
    return fits ? find_rooms(bytes, message->rooms, record) : -EUCLEAN;
}

/* seq is left out of the body: the key holds it, and the checksum covers the key. */
int record_pack_event(const struct presence_event *event, uint8_t out[RECORD_BYTES_MAX])
{
    if (event->user[0] == '\0' || !record_text_fits(event->user, STORE_NAME_BYTES_MAX) ||
        !record_text_fits(event->address, STORE_ADDRESS_BYTES_MAX) ||
        !record_text_fits(event->client, STORE_CLIENT_BYTES_MAX))
        return -EINVAL;
    Usher__V1__PresenceEvent message = USHER__V1__PRESENCE_EVENT__INIT;
    message.time_ms = event->time_ms;
    message.user = (char *)event->user;
    message.kind = (Usher__V1__PresenceEvent__Kind)event->kind;
    message.epoch = event->epoch;
    message.previous_epoch = event->previous_epoch;
    message.cause = (Usher__V1__PresenceEvent__Cause)event->cause;
    message.until_ms = event->until_ms;
    message.address = (char *)event->address;
    message.client = (char *)event->client;
    uint8_t key[RECORD_EVENT_KEY_BYTES];
    record_event_key(event->seq, key);
    return record_message_pack(&message.base, (struct bytes){key, sizeof(key)}, out);
}

int record_unpack_event(uint64_t seq, struct bytes bytes, struct presence_event *event)
{
    uint8_t key[RECORD_EVENT_KEY_BYTES];
    record_event_key(seq, key);
    alignas(max_align_t) uint8_t memory[ARENA_BYTES];
    struct arena arena = {.data = memory, .capacity = sizeof(memory)};
    ProtobufCMessage *base =
        record_message_unpack(&usher__v1__presence_event__descriptor,
                              (struct bytes){key, sizeof(key)}, bytes, RECORD_BYTES_MAX, &arena);
    if (base == NULL)
        return -EUCLEAN;
    const Usher__V1__PresenceEvent *message = (const Usher__V1__PresenceEvent *)base;
    unsigned kind = (unsigned)message->kind;
    unsigned cause = (unsigned)message->cause;
    if (message->seq != 0 || kind > UINT8_MAX || cause > UINT8_MAX || message->user[0] == '\0')
        return -EUCLEAN;
    event->seq = seq;
    event->time_ms = message->time_ms;
    event->epoch = message->epoch;
    event->previous_epoch = message->previous_epoch;
    event->until_ms = message->until_ms;
    event->kind = (uint8_t)kind;
    event->cause = (uint8_t)cause;
    bool fits = record_text_copy(event->user, message->user, STORE_NAME_BYTES_MAX) &&
                record_text_copy(event->address, message->address, STORE_ADDRESS_BYTES_MAX) &&
                record_text_copy(event->client, message->client, STORE_CLIENT_BYTES_MAX);
    return fits ? 0 : -EUCLEAN;
}

/* --- inboxes ----------------------------------------------------------------------------- */

size_t record_inbox_key(const char *user, uint64_t seq, uint8_t key[RECORD_INBOX_KEY_BYTES_MAX])
{
    size_t size = strnlen(user, STORE_NAME_BYTES_MAX);
    CHECK(user[size] == '\0'); /* cut, it would be the key of somebody else */
    memcpy(key, user, size);
    key[size++] = '\0';
    if (seq == 0)
        return size;
    record_event_key(seq, key + size);
    return size + RECORD_EVENT_KEY_BYTES;
}

int record_inbox_seq(const char *user, struct bytes key, uint64_t *seq)
{
    const uint8_t *end = key.size == 0 ? NULL : memchr(key.data, '\0', key.size);
    if (end == NULL)
        return -EUCLEAN;
    size_t name_bytes = (size_t)(end - key.data);
    size_t seq_bytes = key.size - name_bytes - 1;
    if (name_bytes == 0 || name_bytes > STORE_NAME_BYTES_MAX)
        return -EUCLEAN;
    if (seq_bytes != 0 && seq_bytes != RECORD_EVENT_KEY_BYTES)
        return -EUCLEAN;
    *seq = seq_bytes == 0 ? 0 : record_event_seq(end + 1);
    if (seq_bytes != 0 && *seq == 0)
        return -EUCLEAN;
    return *seq != 0 && bytes_equal((struct bytes){key.data, name_bytes}, bytes_of_text(user));
}

int record_pack_inbox(const char *user, const struct saved_inbox *inbox,
                      uint8_t out[RECORD_BYTES_MAX])
{
    uint8_t key[RECORD_INBOX_KEY_BYTES_MAX];
    size_t key_size = record_inbox_key(user, 0, key);
    Usher__V1__InboxRecord message = USHER__V1__INBOX_RECORD__INIT;
    message.epoch = inbox->epoch;
    message.next_seq = inbox->next_seq;
    message.acked_seq = inbox->acked_seq;
    message.unnumbered = inbox->unnumbered;
    message.loss_untold = inbox->loss_untold;
    return record_message_pack(&message.base, (struct bytes){key, key_size}, out);
}

int record_unpack_inbox(const char *user, struct bytes bytes, struct saved_inbox *inbox)
{
    uint8_t key[RECORD_INBOX_KEY_BYTES_MAX];
    size_t key_size = record_inbox_key(user, 0, key);
    alignas(max_align_t) uint8_t memory[ARENA_BYTES];
    struct arena arena = {.data = memory, .capacity = sizeof(memory)};
    ProtobufCMessage *base =
        record_message_unpack(&usher__v1__inbox_record__descriptor, (struct bytes){key, key_size},
                              bytes, RECORD_BYTES_MAX, &arena);
    if (base == NULL)
        return -EUCLEAN;
    const Usher__V1__InboxRecord *message = (const Usher__V1__InboxRecord *)base;
    inbox->epoch = message->epoch;
    inbox->next_seq = message->next_seq;
    inbox->acked_seq = message->acked_seq;
    inbox->unnumbered = message->unnumbered;
    inbox->loss_untold = message->loss_untold;
    return 0;
}

static Usher__V1__MessageRecord message_record(const struct saved_message *message)
{
    Usher__V1__MessageRecord record = USHER__V1__MESSAGE_RECORD__INIT;
    record.time_ms = message->time_ms;
    record.age_ms = message->age_ms;
    record.from_service = message->from_service;
    record.redelivered = message->redelivered;
    record.sent = message->sent;
    record.mid = message->mid;
    record.name.data = (uint8_t *)message->name.data;
    record.name.len = message->name.size;
    record.payload.data = (uint8_t *)message->payload.data;
    record.payload.len = message->payload.size;
    record.traceparent.data = (uint8_t *)message->traceparent.data;
    record.traceparent.len = message->traceparent.size;
    return record;
}

bool record_message_is_usable(const struct saved_message *message)
{
    return message->seq != 0 && message->name.size <= STORE_NAME_BYTES_MAX &&
           message->payload.size <= STORE_PAYLOAD_BYTES_MAX &&
           (message->traceparent.size == 0 || traceparent_valid(message->traceparent));
}

int record_message_size(const struct saved_message *message)
{
    if (!record_message_is_usable(message))
        return -EINVAL;
    Usher__V1__MessageRecord record = message_record(message);
    return RECORD_HEADER_BYTES + (int)protobuf_c_message_get_packed_size(&record.base);
}

void record_pack_message(const char *user, const struct saved_message *message, uint8_t *out)
{
    uint8_t key[RECORD_INBOX_KEY_BYTES_MAX];
    size_t key_size = record_inbox_key(user, message->seq, key);
    Usher__V1__MessageRecord record = message_record(message);
    size_t size = protobuf_c_message_pack(&record.base, out + RECORD_HEADER_BYTES);
    CHECK(RECORD_HEADER_BYTES + (int)size == record_message_size(message)); /* what was reserved */
    header_write(out, (struct bytes){key, key_size}, size);
}

/* Room for what the unpacked form of `size` bytes takes. */
static int arena_fit(struct arena *arena, size_t size)
{
    arena_reset(arena);
    CHECK(size <= RECORD_MESSAGE_BYTES_MAX);
    if (arena->capacity >= size + ARENA_BYTES)
        return 0;
    arena_fini(arena);
    return arena_init(arena, size + ARENA_BYTES);
}

int record_unpack_message(const char *user, uint64_t seq, struct bytes bytes, struct arena *arena,
                          struct saved_message *message)
{
    uint8_t key[RECORD_INBOX_KEY_BYTES_MAX];
    size_t key_size = record_inbox_key(user, seq, key);
    if (seq == 0 || bytes.size > RECORD_MESSAGE_BYTES_MAX)
        return -EUCLEAN;
    if (arena_fit(arena, bytes.size) < 0)
        return -ENOMEM;
    ProtobufCMessage *base =
        record_message_unpack(&usher__v1__message_record__descriptor, (struct bytes){key, key_size},
                              bytes, RECORD_MESSAGE_BYTES_MAX, arena);
    if (base == NULL)
        return -EUCLEAN;
    const Usher__V1__MessageRecord *record = (const Usher__V1__MessageRecord *)base;
    *message = (struct saved_message){
        .seq = seq,
        .time_ms = record->time_ms,
        .age_ms = record->age_ms,
        .from_service = record->from_service,
        .redelivered = record->redelivered,
        .sent = record->sent,
        .mid = record->mid,
        .name = {record->name.data, record->name.len},
        .payload = {record->payload.data, record->payload.len},
        .traceparent = {record->traceparent.data, record->traceparent.len},
    };
    return record_message_is_usable(message) ? 0 : -EUCLEAN;
}

/* --- the counters ------------------------------------------------------------------------ */

static const char position_key[] = "position";

static void pack_two(const char *key, uint64_t first, uint64_t second, uint8_t *out)
{
    record_event_key(first, out + RECORD_HEADER_BYTES);
    record_event_key(second, out + RECORD_HEADER_BYTES + RECORD_EVENT_KEY_BYTES);
    header_write(out, bytes_of_text(key), (size_t)2 * RECORD_EVENT_KEY_BYTES);
}

static int unpack_two(const char *key, struct bytes bytes, uint64_t *first, uint64_t *second)
{
    struct bytes body;
    if (bytes.size != RECORD_HEADER_BYTES + (size_t)2 * RECORD_EVENT_KEY_BYTES ||
        header_check(bytes_of_text(key), bytes, &body) < 0)
        return -EUCLEAN;
    *first = record_event_seq(body.data);
    *second = record_event_seq(body.data + RECORD_EVENT_KEY_BYTES);
    return 0;
}

void record_pack_position(uint64_t epoch_last, uint64_t presence_last,
                          uint8_t out[RECORD_POSITION_BYTES])
{
    pack_two(position_key, epoch_last, presence_last, out);
}

int record_unpack_position(struct bytes bytes, uint64_t *epoch_last, uint64_t *presence_last)
{
    return unpack_two(position_key, bytes, epoch_last, presence_last);
}

void record_pack_log(uint64_t last, uint64_t bytes, uint8_t out[RECORD_LOG_BYTES])
{
    pack_two(RECORD_LOG_KEY, last, bytes, out);
}

int record_unpack_log(struct bytes record, uint64_t *last, uint64_t *bytes)
{
    return unpack_two(RECORD_LOG_KEY, record, last, bytes);
}

/* --- the log ------------------------------------------------------------------------------ */

void record_pack_log_value(uint64_t number, struct bytes value, uint8_t *out)
{
    uint8_t key[RECORD_EVENT_KEY_BYTES];
    record_event_key(number, key);
    (void)bytes_put(out + RECORD_HEADER_BYTES, value);
    header_write(out, (struct bytes){key, sizeof(key)}, value.size);
}

int record_unpack_log_value(uint64_t number, struct bytes record, struct bytes *value)
{
    uint8_t key[RECORD_EVENT_KEY_BYTES];
    record_event_key(number, key);
    int result = header_check((struct bytes){key, sizeof(key)}, record, value);
    return result == 0 && value->size == 0 ? -EUCLEAN : result;
}

/* --- how far a reader has come ------------------------------------------------------------- */

size_t record_cursor_key(const char *reader, char key[RECORD_CURSOR_KEY_BYTES_MAX + 1])
{
    return (size_t)snprintf(key, RECORD_CURSOR_KEY_BYTES_MAX + 1, "cursor/%s", reader);
}

void record_pack_cursor(const char *reader, uint64_t seq, uint8_t out[RECORD_CURSOR_BYTES])
{
    char key[RECORD_CURSOR_KEY_BYTES_MAX + 1];
    record_cursor_key(reader, key);
    record_event_key(seq, out + RECORD_HEADER_BYTES);
    header_write(out, bytes_of_text(key), RECORD_CURSOR_BYTES - RECORD_HEADER_BYTES);
}

int record_unpack_cursor(const char *reader, struct bytes bytes, uint64_t *seq)
{
    char key[RECORD_CURSOR_KEY_BYTES_MAX + 1];
    struct bytes body;
    record_cursor_key(reader, key);
    if (bytes.size != RECORD_CURSOR_BYTES || header_check(bytes_of_text(key), bytes, &body) < 0)
        return -EUCLEAN;
    *seq = record_event_seq(body.data);
    return *seq <= STORE_COUNT_MAX ? 0 : -EUCLEAN;
}
