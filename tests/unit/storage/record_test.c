/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend.pb-c.h"
#include "record.pb-c.h"
#include "storage/record.h"

/* Records: what is packed comes back, anything else is refused. */

static uint8_t rooms_full[STORE_ROOMS_BYTES_MAX + 1];

static struct session_record session_full(void)
{
    memset(rooms_full, 'r', sizeof(rooms_full));
    struct session_record record = {
        .epoch = UINT64_MAX,
        .since_ms = UINT64_MAX,
        .token_ends_ms = UINT64_MAX,
        .state = SESSION_DETACHED,
        .acks = true,
    };
    memset(record.secret, 0xFF, sizeof(record.secret));
    memset(record.address, 'a', STORE_ADDRESS_BYTES_MAX);
    memset(record.client, 'c', STORE_CLIENT_BYTES_MAX);
    memset(record.transport, 't', STORE_TRANSPORT_BYTES_MAX);
    record.rooms = (struct bytes){rooms_full, STORE_ROOMS_BYTES_MAX};
    return record;
}

static struct presence_event event_full(void)
{
    struct presence_event event = {
        .seq = UINT64_MAX,
        .time_ms = UINT64_MAX,
        .epoch = UINT64_MAX,
        .previous_epoch = UINT64_MAX,
        .until_ms = UINT64_MAX,
        .kind = UINT8_MAX,
        .cause = UINT8_MAX,
    };
    memset(event.user, 'u', STORE_NAME_BYTES_MAX);
    memset(event.address, 'a', STORE_ADDRESS_BYTES_MAX);
    memset(event.client, 'c', STORE_CLIENT_BYTES_MAX);
    return event;
}

static void crc_is_castagnoli(void **state)
{
    struct bytes digits = bytes_of_text("123456789");
    assert_int_equal(record_crc32c(0, digits), 0xE3069283);
    struct bytes head = {digits.data, 4};
    struct bytes tail = {digits.data + 4, 5};
    assert_int_equal(record_crc32c(record_crc32c(0, head), tail), 0xE3069283);
    /* In pieces of any size it is the same as byte by byte. */
    uint8_t data[64];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 37 + 11);
    for (size_t size = 0; size <= sizeof(data); size++) {
        uint32_t crc = 7;
        for (size_t i = 0; i < size; i++)
            crc = record_crc32c(crc, (struct bytes){data + i, 1});
        assert_int_equal(record_crc32c(7, (struct bytes){data, size}), crc);
    }
}

static void assert_session_round(const char *user, const struct session_record *record)
{
    uint8_t bytes[RECORD_BYTES_MAX];
    struct session_record got;
    int size = record_pack_session(user, record, bytes);
    assert_true(size > RECORD_HEADER_BYTES);
    memset(&got, 0xA5, sizeof(got));
    assert_int_equal(record_unpack_session(user, (struct bytes){bytes, (size_t)size}, &got), 0);
    assert_int_equal(got.epoch, record->epoch);
    assert_int_equal(got.since_ms, record->since_ms);
    assert_int_equal(got.token_ends_ms, record->token_ends_ms);
    assert_int_equal(got.state, record->state);
    assert_int_equal(got.acks, record->acks);
    assert_memory_equal(got.secret, record->secret, STORE_SECRET_BYTES);
    assert_string_equal(got.address, record->address);
    assert_string_equal(got.client, record->client);
    assert_string_equal(got.transport, record->transport);
    assert_true(bytes_equal(got.rooms, record->rooms));
    /* Under another name it is damage. */
    assert_int_equal(record_unpack_session("other", (struct bytes){bytes, (size_t)size}, &got),
                     -EUCLEAN);
}

static void sessions_come_back(void **state)
{
    struct session_record full = session_full();
    struct session_record small = {.state = SESSION_ONLINE};
    assert_session_round("u", &full);
    assert_session_round("u", &small);
}

static void a_typical_session_is_small(void **state)
{
    struct session_record record = {
        .epoch = 1000000,
        .since_ms = 1700000000000,
        .state = SESSION_ONLINE,
        .acks = true,
        .address = "203.0.113.7:40000",
        .client = "game/1.2",
    };
    uint8_t bytes[RECORD_BYTES_MAX];
    memset(record.secret, 1, sizeof(record.secret));
    int size = record_pack_session("anna", &record, bytes);
    assert_in_range(size, 1, 72);
}

static void events_come_back(void **state)
{
    struct presence_event event = event_full();
    struct presence_event got;
    uint8_t bytes[RECORD_BYTES_MAX];
    int size = record_pack_event(&event, bytes);
    assert_true(size > RECORD_HEADER_BYTES);
    memset(&got, 0, sizeof(got));
    struct bytes packed = {bytes, (size_t)size};
    assert_int_equal(record_unpack_event(event.seq, packed, &got), 0);
    assert_int_equal(got.seq, event.seq);
    assert_int_equal(got.time_ms, event.time_ms);
    assert_int_equal(got.epoch, event.epoch);
    assert_int_equal(got.previous_epoch, event.previous_epoch);
    assert_int_equal(got.until_ms, event.until_ms);
    assert_int_equal(got.kind, event.kind);
    assert_int_equal(got.cause, event.cause);
    assert_string_equal(got.user, event.user);
    assert_string_equal(got.address, event.address);
    assert_string_equal(got.client, event.client);
    assert_int_equal(record_unpack_event(event.seq - 1, packed, &got), -EUCLEAN);
}

static void keys_sort_as_numbers(void **state)
{
    static const uint64_t seqs[] = {0, 1, 255, 256, 65535, 65536, UINT64_C(1) << 40, UINT64_MAX};
    for (size_t i = 0; i < sizeof(seqs) / sizeof(seqs[0]); i++) {
        uint8_t key[RECORD_EVENT_KEY_BYTES];
        uint8_t before[RECORD_EVENT_KEY_BYTES];
        record_event_key(seqs[i], key);
        assert_int_equal(record_event_seq(key), seqs[i]);
        record_event_key(i == 0 ? 0 : seqs[i - 1], before);
        assert_true(i == 0 || memcmp(before, key, sizeof(key)) < 0);
    }
}

static void every_changed_bit_is_seen(void **state)
{
    struct session_record record = session_full();
    struct presence_event event = event_full();
    uint8_t bytes[RECORD_BYTES_MAX];
    int size = record_pack_session("anna", &record, bytes);
    assert_true(size > 0);
    for (int bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct bytes changed = {bytes, (size_t)size};
        assert_int_equal(record_unpack_session("anna", changed, &record), -EUCLEAN);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    size = record_pack_event(&event, bytes);
    assert_true(size > 0);
    for (int bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct bytes changed = {bytes, (size_t)size};
        assert_int_equal(record_unpack_event(UINT64_MAX, changed, &event), -EUCLEAN);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void every_cut_is_seen(void **state)
{
    struct session_record record = session_full();
    uint8_t bytes[RECORD_BYTES_MAX + 1] = {0};
    int size = record_pack_session("anna", &record, bytes);
    for (size_t cut = 0; cut <= RECORD_BYTES_MAX + 1; cut++) {
        int wanted = cut == (size_t)size ? 0 : -EUCLEAN;
        struct bytes part = {bytes, cut};
        assert_int_equal(record_unpack_session("anna", part, &record), wanted);
    }
}

/* Puts a right header before any body: what follows is about the body alone. */
static size_t seal_bytes(struct bytes key, const void *body, size_t body_size, uint8_t *out)
{
    uint8_t version = RECORD_VERSION;
    uint32_t crc = record_crc32c(0, key);
    crc = record_crc32c(crc, (struct bytes){&version, 1});
    crc = record_crc32c(crc, (struct bytes){body, body_size});
    out[0] = version;
    for (int i = 0; i < 4; i++)
        out[1 + i] = (uint8_t)(crc >> (8 * i));
    memcpy(out + RECORD_HEADER_BYTES, body, body_size);
    return RECORD_HEADER_BYTES + body_size;
}

static size_t seal(const char *user, const void *body, size_t body_size, uint8_t *out)
{
    return seal_bytes(bytes_of_text(user), body, body_size, out);
}

static int unpack_sealed(const uint8_t *body, size_t body_size)
{
    uint8_t bytes[2 * RECORD_BYTES_MAX];
    struct session_record record;
    size_t size = seal("anna", body, body_size, bytes);
    return record_unpack_session("anna", (struct bytes){bytes, size}, &record);
}

static int unpack_message(const Usher__V1__SessionRecord *message)
{
    uint8_t body[2 * RECORD_BYTES_MAX];
    assert_true(usher__v1__session_record__get_packed_size(message) <= RECORD_BYTES_MAX);
    return unpack_sealed(body, usher__v1__session_record__pack(message, body));
}

/* The checksum is right in all of these: the content must be checked too. */
static void bad_content_is_seen(void **state)
{
    uint8_t secret[STORE_SECRET_BYTES + 1] = {1};
    char text[STORE_CLIENT_BYTES_MAX + 2];
    memset(text, 't', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    Usher__V1__SessionRecord good = USHER__V1__SESSION_RECORD__INIT;
    good.epoch = 1;
    good.state = SESSION_ONLINE;
    good.secret.data = secret;
    good.secret.len = STORE_SECRET_BYTES;
    assert_int_equal(unpack_message(&good), 0);

    Usher__V1__SessionRecord bad = good;
    bad.secret.len = STORE_SECRET_BYTES + 1;
    assert_int_equal(unpack_message(&bad), -EUCLEAN);
    bad.secret.len = 0;
    assert_int_equal(unpack_message(&bad), -EUCLEAN);
    bad = good;
    bad.state = 0;
    assert_int_equal(unpack_message(&bad), -EUCLEAN);
    bad.state = 3;
    assert_int_equal(unpack_message(&bad), -EUCLEAN);
    bad = good;
    bad.client = text;
    assert_int_equal(unpack_message(&bad), -EUCLEAN);
    bad.client = text + 1;
    assert_int_equal(unpack_message(&bad), 0);
    bad = good;
    bad.address = text + sizeof(text) - 1 - (STORE_ADDRESS_BYTES_MAX + 1);
    assert_int_equal(unpack_message(&bad), -EUCLEAN);
}

static void bad_encoding_is_seen(void **state)
{
    uint8_t body[RECORD_BYTES_MAX];
    /* state = 1, secret = 16 bytes, client = "ab" */
    static const uint8_t good[] = {0x10, 1, 0x22, 16, 0, 0, 0, 0, 0,    0, 0,   0,
                                   0,    0, 0,    0,  0, 0, 0, 0, 0x32, 2, 'a', 'b'};
    assert_int_equal(unpack_sealed(good, sizeof(good)), 0);
    memcpy(body, good, sizeof(good));
    body[sizeof(good) - 1] = '\0';
    assert_int_equal(unpack_sealed(body, sizeof(good)), -EUCLEAN); /* a NUL in the text */
    memcpy(body, good, sizeof(good));
    body[sizeof(good)] = 0x10;
    body[sizeof(good) + 1] = 1;
    assert_int_equal(unpack_sealed(body, sizeof(good) + 2), -EUCLEAN); /* a field twice */
    assert_int_equal(unpack_sealed(good, sizeof(good) - 1), -EUCLEAN); /* cut short */
    memset(body, 0xFF, sizeof(body));
    assert_int_equal(unpack_sealed(body, sizeof(body) - RECORD_HEADER_BYTES), -EUCLEAN);
    for (size_t i = 0; i < sizeof(body); i += 2) {
        body[i] = 0x78; /* an unknown number, many times: the arena is bounded */
        body[i + 1] = 1;
    }
    assert_int_equal(unpack_sealed(body, 314), -EUCLEAN);
}

/* Noise with a right checksum: must not crash, must not overrun. */
static void noise_is_survived(void **state)
{
    uint8_t body[RECORD_BYTES_MAX];
    uint32_t seed = 99;
    for (int round = 0; round < 20000; round++) {
        size_t size = 0;
        for (; size < sizeof(body) - RECORD_HEADER_BYTES; size++) {
            seed = seed * 1664525u + 1013904223u;
            body[size] = (uint8_t)(seed >> 24);
            if (seed >> 16 == 0x00FF || (seed >> 8) % 40 == 0)
                break;
        }
        int result = unpack_sealed(body, size);
        assert_true(result == 0 || result == -EUCLEAN);
    }
}

static void limits_are_kept_on_writing(void **state)
{
    uint8_t bytes[RECORD_BYTES_MAX];
    struct session_record record = session_full();
    record.state = (enum session_state)0;
    assert_int_equal(record_pack_session("anna", &record, bytes), -EINVAL);
    record = session_full();
    record.address[STORE_ADDRESS_BYTES_MAX] = 'a';
    assert_int_equal(record_pack_session("anna", &record, bytes), -EINVAL);
    struct presence_event event = event_full();
    event.user[0] = '\0';
    assert_int_equal(record_pack_event(&event, bytes), -EINVAL);
    event = event_full();
    event.user[STORE_NAME_BYTES_MAX] = 'u';
    assert_int_equal(record_pack_event(&event, bytes), -EINVAL);
}

static void inboxes_come_back(void **state)
{
    uint8_t bytes[RECORD_BYTES_MAX];
    static const struct saved_inbox inboxes[] = {
        {.epoch = 0},
        {.epoch = 1, .next_seq = 2, .acked_seq = 3, .unnumbered = true, .loss_untold = true},
        {.epoch = UINT64_MAX, .next_seq = UINT64_MAX, .acked_seq = UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof(inboxes) / sizeof(inboxes[0]); i++) {
        struct saved_inbox got = {0};
        int size = record_pack_inbox("anna", &inboxes[i], bytes);
        assert_true(size >= RECORD_HEADER_BYTES);
        struct bytes packed = {bytes, (size_t)size};
        assert_int_equal(record_unpack_inbox("anna", packed, &got), 0);
        assert_int_equal(got.epoch, inboxes[i].epoch);
        assert_int_equal(got.next_seq, inboxes[i].next_seq);
        assert_int_equal(got.acked_seq, inboxes[i].acked_seq);
        assert_int_equal(got.unnumbered, inboxes[i].unnumbered);
        assert_int_equal(got.loss_untold, inboxes[i].loss_untold);
        assert_int_equal(record_unpack_inbox("ann", packed, &got), -EUCLEAN);
        for (int bit = 0; bit < 8 * size; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(record_unpack_inbox("anna", packed, &got), -EUCLEAN);
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
}

static void assert_message_round(const struct saved_message *message, struct arena *arena)
{
    int size = record_message_size(message);
    assert_true(size >= RECORD_HEADER_BYTES);
    uint8_t *data = malloc((size_t)size);
    assert_non_null(data);
    record_pack_message("anna", message, data);
    struct bytes packed = {data, (size_t)size};
    struct saved_message got;
    memset(&got, 0xA5, sizeof(got));
    assert_int_equal(record_unpack_message("anna", message->seq, packed, arena, &got), 0);
    assert_int_equal(got.seq, message->seq);
    assert_int_equal(got.time_ms, message->time_ms);
    assert_int_equal(got.age_ms, message->age_ms);
    assert_int_equal(got.from_service, message->from_service);
    assert_int_equal(got.redelivered, message->redelivered);
    assert_int_equal(got.sent, message->sent);
    assert_true(bytes_equal(got.name, message->name));
    assert_true(bytes_equal(got.payload, message->payload));
    assert_true(bytes_equal(got.traceparent, message->traceparent));
    /* Under another name or seq it is damage, and so is any part of it. */
    assert_int_equal(record_unpack_message("bob", message->seq, packed, arena, &got), -EUCLEAN);
    assert_int_equal(record_unpack_message("anna", message->seq ^ 2, packed, arena, &got),
                     -EUCLEAN);
    for (size_t cut = 0; cut < (size_t)size; cut += 1 + cut / 8) {
        struct bytes part = {data, cut};
        assert_int_equal(record_unpack_message("anna", message->seq, part, arena, &got), -EUCLEAN);
    }
    for (size_t bit = 0; bit < 8 * (size_t)size; bit += 1 + bit / 64) {
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(record_unpack_message("anna", message->seq, packed, arena, &got),
                         -EUCLEAN);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(data);
}

static void messages_come_back(void **state)
{
    static uint8_t payload[70000];
    memset(payload, 'p', sizeof(payload));
    struct arena arena = {0};
    char name[STORE_NAME_BYTES_MAX + 1];
    memset(name, 'n', sizeof(name));
    struct saved_message full = {
        .seq = UINT64_MAX,
        .time_ms = UINT64_MAX,
        .age_ms = UINT64_MAX,
        .from_service = true,
        .redelivered = true,
        .sent = true,
        .name = {(const uint8_t *)name, STORE_NAME_BYTES_MAX},
        .payload = {payload, sizeof(payload)},
        .traceparent = bytes_of_text("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    };
    struct saved_message small = {.seq = 1};
    assert_message_round(&full, &arena);
    assert_message_round(&small, &arena);
    full.payload.size = 1;
    assert_message_round(&full, &arena);

    full.traceparent.size--;
    assert_int_equal(record_message_size(&full), -EINVAL);
    full.traceparent.size = 0;
    full.name.size++;
    assert_int_equal(record_message_size(&full), -EINVAL);
    small.seq = 0;
    assert_int_equal(record_message_size(&small), -EINVAL);
    small.seq = 1;
    small.payload.size = (size_t)STORE_PAYLOAD_BYTES_MAX + 1;
    assert_int_equal(record_message_size(&small), -EINVAL);
    arena_fini(&arena);
}

/* A name longer than names are, behind a right checksum. */
static void a_bad_message_is_seen(void **state)
{
    uint8_t body[2 + STORE_NAME_BYTES_MAX + 1] = {0x32, STORE_NAME_BYTES_MAX + 1};
    uint8_t bytes[RECORD_BYTES_MAX];
    char key[] = "anna\0\0\0\0\0\0\0\0\7";
    struct saved_message message;
    struct arena arena = {0};
    memset(body + 2, 'n', STORE_NAME_BYTES_MAX + 1);
    struct bytes long_name = {bytes, seal_bytes((struct bytes){(uint8_t *)key, sizeof(key) - 1},
                                                body, sizeof(body), bytes)};
    assert_int_equal(record_unpack_message("anna", 7, long_name, &arena, &message), -EUCLEAN);
    body[1]--;
    struct bytes good = {bytes, seal_bytes((struct bytes){(uint8_t *)key, sizeof(key) - 1}, body,
                                           sizeof(body) - 1, bytes)};
    assert_int_equal(record_unpack_message("anna", 7, good, &arena, &message), 0);
    assert_int_equal(message.name.size, STORE_NAME_BYTES_MAX);
    arena_fini(&arena);
}

static void inbox_keys_sort(void **state)
{
    static const struct {
        const char *user;
        uint64_t seq;
    } keys[] = {{"an", 0},    {"an", UINT64_MAX}, {"ann", 0},  {"ann", 1},
                {"ann", 255}, {"ann", 256},       {"ann!", 0}, {"anna", 0}};
    struct bytes before = {0};
    uint8_t bytes[2][RECORD_INBOX_KEY_BYTES_MAX];
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        struct bytes key = {bytes[i % 2],
                            record_inbox_key(keys[i].user, keys[i].seq, bytes[i % 2])};
        uint64_t seq = 7;
        assert_int_equal(record_inbox_seq(keys[i].user, key, &seq), keys[i].seq != 0);
        assert_int_equal(seq, keys[i].seq);
        assert_int_equal(record_inbox_seq("other", key, &seq), 0);
        if (i > 0) {
            size_t shared = key.size < before.size ? key.size : before.size;
            int order = memcmp(before.data, key.data, shared);
            assert_true(order < 0 || (order == 0 && before.size < key.size));
        }
        before = key;
    }
}

static void positions_come_back(void **state)
{
    uint8_t bytes[RECORD_POSITION_BYTES];
    uint64_t epoch_last = 0;
    uint64_t presence_last = 0;
    struct bytes packed = {bytes, sizeof(bytes)};
    record_pack_position(UINT64_MAX, 77, bytes);
    assert_int_equal(record_unpack_position(packed, &epoch_last, &presence_last), 0);
    assert_int_equal(epoch_last, UINT64_MAX);
    assert_int_equal(presence_last, 77);
    bytes[sizeof(bytes) - 1] ^= 1;
    assert_int_equal(record_unpack_position(packed, &epoch_last, &presence_last), -EUCLEAN);
    packed.size--;
    assert_int_equal(record_unpack_position(packed, &epoch_last, &presence_last), -EUCLEAN);
}

/* What the first programs with a history wrote of a login, to the byte: it is read for as long as
 * it is kept, and what it does not say yet is empty. */
static void history_of_the_first_layout(void **state)
{
    struct history_record first = {
        .seq = 7, .time_ms = 1764547200000, .kind = HISTORY_ONLINE, .cause = 1, .epoch = 300};
    strcpy(first.user, "anna");
    strcpy(first.address, "10.0.0.1:5");
    static const uint8_t body[] = "\x0a\x04"
                                  "anna"
                                  "\x10\x80\x88\xd6\xb9\xad\x33"
                                  "\x18\x01\x20\x01\x28\xac\x02\x32\x0a"
                                  "10.0.0.1:5";
    uint8_t bytes[RECORD_BYTES_MAX];
    int size = record_pack_history(&first, bytes);
    assert_int_equal(size, RECORD_HEADER_BYTES + sizeof(body) - 1);
    assert_memory_equal(bytes + RECORD_HEADER_BYTES, body, sizeof(body) - 1);
    struct history_record read;
    memset(&read, 0xff, sizeof(read));
    struct bytes packed = {bytes, (size_t)size};
    assert_true(record_history_is_of(packed, "anna"));
    assert_false(record_history_is_of(packed, "ann"));
    assert_false(record_history_is_of(packed, "anna2"));
    assert_int_equal(record_unpack_history(7, packed, &read), 0);
    assert_string_equal(read.user, "anna");
    assert_string_equal(read.address, "10.0.0.1:5");
    assert_int_equal(read.time_ms, 1764547200000);
    assert_int_equal(read.epoch, 300);
    assert_string_equal(read.client, "");
    assert_string_equal(read.transport, "");
    assert_string_equal(read.by, "");
    assert_string_equal(read.detail, "");
    assert_string_equal(read.limit, "");
    assert_int_equal(read.bound + read.value + read.until_ms + read.missing + read.count, 0);
    assert_int_equal(record_unpack_history(8, packed, &read), -EUCLEAN); /* another's place */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(history_of_the_first_layout),
        cmocka_unit_test(crc_is_castagnoli),
        cmocka_unit_test(sessions_come_back),
        cmocka_unit_test(a_typical_session_is_small),
        cmocka_unit_test(events_come_back),
        cmocka_unit_test(keys_sort_as_numbers),
        cmocka_unit_test(every_changed_bit_is_seen),
        cmocka_unit_test(every_cut_is_seen),
        cmocka_unit_test(bad_content_is_seen),
        cmocka_unit_test(bad_encoding_is_seen),
        cmocka_unit_test(noise_is_survived),
        cmocka_unit_test(limits_are_kept_on_writing),
        cmocka_unit_test(positions_come_back),
        cmocka_unit_test(inboxes_come_back),
        cmocka_unit_test(messages_come_back),
        cmocka_unit_test(a_bad_message_is_seen),
        cmocka_unit_test(inbox_keys_sort),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
