/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "storage/record.h"

/* A record from disk is refused, or it is exactly what packing gives. The checksum stands in
 * the way of everything else, so each input is tried as it is and with the right one put in.
 *
 * Input: 1 byte, which record (modulo 6); 8 bytes, the seq of its key; the record. */

enum { INPUT_HEAD_BYTES = 9 };

static const char user[] = "anna";

static void check_session(struct bytes bytes)
{
    struct session_record record;
    uint8_t again[RECORD_BYTES_MAX];
    if (record_unpack_session(user, bytes, &record) != 0)
        return;
    FUZZ_CHECK(record_text_fits(record.address, STORE_ADDRESS_BYTES_MAX));
    FUZZ_CHECK(record_text_fits(record.client, STORE_CLIENT_BYTES_MAX));
    FUZZ_CHECK(record_text_fits(record.transport, STORE_TRANSPORT_BYTES_MAX));
    int size = record_pack_session(user, &record, again);
    FUZZ_CHECK(size > 0 && (size_t)size <= bytes.size);
    struct session_record same;
    FUZZ_CHECK(record_unpack_session(user, (struct bytes){again, (size_t)size}, &same) == 0);
    FUZZ_CHECK(same.epoch == record.epoch && same.state == record.state);
    FUZZ_CHECK(strcmp(same.client, record.client) == 0);
    FUZZ_CHECK(strcmp(same.transport, record.transport) == 0);
    FUZZ_CHECK(bytes_equal(same.rooms, record.rooms));
}

static void check_event(struct bytes bytes, uint64_t seq)
{
    struct presence_event event;
    uint8_t again[RECORD_BYTES_MAX];
    if (record_unpack_event(seq, bytes, &event) != 0)
        return;
    FUZZ_CHECK(event.seq == seq && event.user[0] != '\0');
    FUZZ_CHECK(record_text_fits(event.user, STORE_NAME_BYTES_MAX));
    int size = record_pack_event(&event, again);
    FUZZ_CHECK(size > 0 && (size_t)size <= bytes.size);
    struct presence_event same;
    FUZZ_CHECK(record_unpack_event(seq, (struct bytes){again, (size_t)size}, &same) == 0);
    FUZZ_CHECK(same.epoch == event.epoch && strcmp(same.user, event.user) == 0);
}

static void check_inbox(struct bytes bytes)
{
    struct saved_inbox inbox;
    uint8_t again[RECORD_BYTES_MAX];
    if (record_unpack_inbox(user, bytes, &inbox) != 0)
        return;
    int size = record_pack_inbox(user, &inbox, again);
    FUZZ_CHECK(size > 0 && (size_t)size <= bytes.size);
    struct saved_inbox same;
    FUZZ_CHECK(record_unpack_inbox(user, (struct bytes){again, (size_t)size}, &same) == 0);
    FUZZ_CHECK(same.epoch == inbox.epoch && same.next_seq == inbox.next_seq);
    FUZZ_CHECK(same.acked_seq == inbox.acked_seq && same.unnumbered == inbox.unnumbered &&
               same.loss_untold == inbox.loss_untold);
}

static void check_message(struct bytes bytes, uint64_t seq)
{
    struct saved_message message;
    struct saved_message same;
    struct arena arena = {0};
    struct arena arena_again = {0};
    if (record_unpack_message(user, seq, bytes, &arena, &message) == 0) {
        FUZZ_CHECK(message.seq == seq && message.name.size <= STORE_NAME_BYTES_MAX);
        int size = record_message_size(&message);
        FUZZ_CHECK(size > 0 && (size_t)size <= bytes.size);
        uint8_t *again = malloc((size_t)size);
        FUZZ_CHECK(again != NULL);
        record_pack_message(user, &message, again);
        struct bytes packed = {again, (size_t)size};
        FUZZ_CHECK(record_unpack_message(user, seq, packed, &arena_again, &same) == 0);
        FUZZ_CHECK(bytes_equal(same.name, message.name));
        FUZZ_CHECK(bytes_equal(same.payload, message.payload));
        FUZZ_CHECK(bytes_equal(same.traceparent, message.traceparent));
        free(again);
    }
    arena_fini(&arena);
    arena_fini(&arena_again);
}

static void check_position(struct bytes bytes)
{
    uint64_t epoch_last;
    uint64_t presence_last;
    uint8_t again[RECORD_POSITION_BYTES];
    if (record_unpack_position(bytes, &epoch_last, &presence_last) != 0)
        return;
    record_pack_position(epoch_last, presence_last, again);
    FUZZ_CHECK(bytes_equal(bytes, (struct bytes){again, sizeof(again)}));
}

/* The key that the bytes themselves are, and keys that are packed. */
static void check_key(struct bytes bytes, uint64_t seq)
{
    uint8_t key[RECORD_INBOX_KEY_BYTES_MAX];
    uint64_t got = 0;
    int result = record_inbox_seq(user, bytes, &got);
    FUZZ_CHECK(result == 0 || result == 1 || result == -EUCLEAN);
    if (result == 1) {
        size_t size = record_inbox_key(user, got, key);
        FUZZ_CHECK(got != 0 && bytes_equal(bytes, (struct bytes){key, size}));
    }
    size_t size = record_inbox_key(user, seq, key);
    FUZZ_CHECK(record_inbox_seq(user, (struct bytes){key, size}, &got) == (seq != 0));
    FUZZ_CHECK(got == seq);
}

static void check(unsigned kind, uint64_t seq, struct bytes bytes)
{
    switch (kind) {
    case 0:
        check_session(bytes);
        break;
    case 1:
        check_event(bytes, seq);
        break;
    case 2:
        check_inbox(bytes);
        break;
    case 3:
        check_message(bytes, seq);
        break;
    case 4:
        check_position(bytes);
        break;
    default:
        check_key(bytes, seq);
    }
}

/* The key under which a record of this kind lies. */
static size_t key_of(unsigned kind, uint64_t seq, uint8_t key[RECORD_INBOX_KEY_BYTES_MAX])
{
    static const char position[] = "position";
    switch (kind) {
    case 1:
        record_event_key(seq, key);
        return RECORD_EVENT_KEY_BYTES;
    case 2:
        return record_inbox_key(user, 0, key);
    case 3:
        return record_inbox_key(user, seq, key);
    case 4:
        memcpy(key, position, sizeof(position) - 1);
        return sizeof(position) - 1;
    default:
        memcpy(key, user, sizeof(user) - 1);
        return sizeof(user) - 1;
    }
}

static void seal(unsigned kind, uint64_t seq, uint8_t *record, size_t size)
{
    uint8_t key[RECORD_INBOX_KEY_BYTES_MAX];
    uint32_t crc = record_crc32c(0, (struct bytes){key, key_of(kind, seq, key)});
    record[0] = RECORD_VERSION;
    crc = record_crc32c(crc, (struct bytes){record, 1});
    crc = record_crc32c(crc,
                        (struct bytes){record + RECORD_HEADER_BYTES, size - RECORD_HEADER_BYTES});
    for (int i = 0; i < 4; i++)
        record[1 + i] = (uint8_t)(crc >> (8 * i));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < INPUT_HEAD_BYTES)
        return 0;
    unsigned kind = data[0] % 6;
    uint64_t seq = record_event_seq(data + 1);
    size_t record_size = size - INPUT_HEAD_BYTES;
    /* A copy of just that size: a read beyond the end is seen. */
    uint8_t *record = malloc(record_size > 0 ? record_size : 1);
    FUZZ_CHECK(record != NULL);
    if (record_size > 0)
        memcpy(record, data + INPUT_HEAD_BYTES, record_size);
    check(kind, seq, (struct bytes){record, record_size});
    if (record_size >= RECORD_HEADER_BYTES && kind < 5) {
        seal(kind, seq, record, record_size);
        check(kind, seq, (struct bytes){record, record_size});
    }
    free(record);
    return 0;
}
