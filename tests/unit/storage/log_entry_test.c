/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/traceparent.h"
#include "storage/log_entry.h"
#include "storage/store.h"

/* Entries of the log: what is put comes back, and bytes that putting does not give are refused. */

#define TRACEPARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static struct log_entry kept(void)
{
    return (struct log_entry){
        .kind = LOG_ENTRY_KEPT,
        .mid = 0x123456789abc,
        .time_ms = 1764550000000,
        .expires_ms = 1764550000000 + 7 * 86400000ull,
        .sender = bytes_of_text("anna"),
        .payload = bytes_of_text("hello"),
        .receiver_count = 1,
        .receivers = bytes_of_text("\003bob"),
    };
}

static void assert_same(const struct log_entry *a, const struct log_entry *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->from_service, b->from_service);
    assert_int_equal(a->mid, b->mid);
    assert_int_equal(a->time_ms, b->time_ms);
    assert_int_equal(a->expires_ms, b->expires_ms);
    assert_int_equal(a->tag, b->tag);
    assert_true(bytes_equal(a->traceparent, b->traceparent));
    assert_true(bytes_equal(a->sender, b->sender));
    assert_true(bytes_equal(a->payload, b->payload));
    assert_int_equal(a->receiver_count, b->receiver_count);
    assert_true(bytes_equal(a->receivers, b->receivers));
}

/* Packed, in memory of just that size. The caller frees. */
static struct bytes put(const struct log_entry *entries, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += log_entry_size(&entries[i]);
    uint8_t *data = malloc(size);
    uint8_t *end = data;
    assert_non_null(data);
    for (size_t i = 0; i < count; i++)
        end = log_entry_put(end, &entries[i]);
    assert_ptr_equal(end, data + size);
    return (struct bytes){data, size};
}

static void assert_round(const struct log_entry *entries, size_t count)
{
    struct bytes bytes = put(entries, count);
    struct bytes rest = bytes;
    for (size_t i = 0; i < count; i++) {
        struct log_entry got;
        assert_true(log_entry_read(&rest, &got));
        assert_same(&got, &entries[i]);
    }
    struct log_entry none;
    assert_int_equal(rest.size, 0);
    assert_false(log_entry_read(&rest, &none));
    free((void *)bytes.data);
}

static void what_is_put_comes_back(void **state)
{
    (void)state;
    static char name[STORE_NAME_BYTES_MAX + 1];
    static uint8_t receiver[STORE_NAME_BYTES_MAX + 1] = {STORE_NAME_BYTES_MAX};
    static uint8_t payload[70000], trace[TRACEPARENT_PACKED_BYTES];
    traceparent_pack(bytes_of_text(TRACEPARENT), trace);
    memset(name, 'n', STORE_NAME_BYTES_MAX);
    memset(receiver + 1, 'r', STORE_NAME_BYTES_MAX);
    struct log_entry full = {
        .kind = LOG_ENTRY_KEPT,
        .from_service = true,
        .mid = UINT64_MAX,
        .time_ms = UINT64_MAX,
        .expires_ms = UINT64_MAX - 1,
        .tag = UINT64_MAX,
        .traceparent = {trace, sizeof(trace)},
        .sender = bytes_of_text(name),
        .payload = {payload, sizeof(payload)},
        .receiver_count = 1,
        .receivers = {receiver, sizeof(receiver)},
    };
    assert_true(log_entry_size(&full) <=
                LOG_ENTRY_HEAD_BYTES_MAX + sizeof(payload) + sizeof(receiver));
    struct log_entry small = {
        .kind = LOG_ENTRY_KEPT, .receiver_count = 1, .receivers = bytes_of_text("\001b")};
    struct log_entry many = kept();
    many.receiver_count = 3;
    many.receivers = bytes_of_text("\001a\002bc\003def");
    struct log_entry done = {.kind = LOG_ENTRY_DONE,
                             .mid = 9,
                             .receiver_count = 1,
                             .receivers = bytes_of_text("\003bob")};
    struct log_entry tag = {.kind = LOG_ENTRY_TAG,
                            .mid = 9,
                            .time_ms = 5,
                            .tag = 1,
                            .sender = bytes_of_text("anna"),
                            .receiver_count = 1,
                            .receivers = bytes_of_text("\003bob")};
    struct log_entry lost = done;
    lost.kind = LOG_ENTRY_LOST;
    lost.time_ms = 77;
    const struct log_entry all[] = {kept(), full, small, many, done, tag, lost, kept()};
    assert_round(all, sizeof(all) / sizeof(all[0]));
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        assert_round(&all[i], 1);
}

static void receivers_one_by_one(void **state)
{
    (void)state;
    struct bytes receivers = bytes_of_text("\001a\002bc\003def");
    struct bytes name;
    assert_true(log_receiver_next(&receivers, &name) && bytes_equal(name, bytes_of_text("a")));
    assert_true(log_receiver_next(&receivers, &name) && bytes_equal(name, bytes_of_text("bc")));
    assert_true(log_receiver_next(&receivers, &name) && bytes_equal(name, bytes_of_text("def")));
    assert_false(log_receiver_next(&receivers, &name));
    static const char *const wrong[] = {"\002a", "A", "\101"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        receivers = bytes_of_text(wrong[i]);
        assert_false(log_receiver_next(&receivers, &name));
    }
    receivers = (struct bytes){(const uint8_t *)"\0a", 2};
    assert_false(log_receiver_next(&receivers, &name));
}

static bool is_refused(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size > 0 ? size : 1); /* a read beyond the end is seen */
    assert_non_null(exact);
    if (size > 0)
        memcpy(exact, data, size);
    struct bytes rest = {exact, size};
    struct log_entry entry;
    bool refused = !log_entry_read(&rest, &entry);
    if (refused)
        assert_true(rest.data == exact && rest.size == size);
    free(exact);
    return refused;
}

/* What a program wrote that knew of no traceparent is read as ever, and written again the same. */
static void what_is_older_is_read(void **state)
{
    (void)state;
    static const uint8_t older[] = {1,   2,   16,  9, 5, 7,   0xac, 0x02, 4,  'a',
                                    'n', 'n', 'a', 1, 3, 'b', 'o',  'b',  '!'};
    struct bytes rest = {older, sizeof(older)};
    struct log_entry entry;
    assert_true(log_entry_read(&rest, &entry));
    assert_int_equal(rest.size, 0);
    assert_int_equal(entry.traceparent.size, 0);
    assert_int_equal(entry.tag, 300);
    assert_int_equal(entry.payload.size, 1);
    struct bytes again = put(&entry, 1);
    assert_int_equal(again.size, sizeof(older));
    assert_memory_equal(again.data, older, sizeof(older));
    free((void *)again.data);
}

/* Of other kinds none, and none that is none. */
static void a_traceparent_that_cannot_be(void **state)
{
    (void)state;
    struct log_entry entry = kept(), got;
    uint8_t trace[TRACEPARENT_PACKED_BYTES] = {0};
    entry.traceparent = (struct bytes){trace, sizeof(trace)};
    struct bytes none = put(&entry, 1), rest = none;
    assert_false(log_entry_read(&rest, &got));
    free((void *)none.data);
    traceparent_pack(bytes_of_text(TRACEPARENT), trace);
    struct bytes good = put(&entry, 1);
    rest = good;
    assert_true(log_entry_read(&rest, &got));
    for (int kind = LOG_ENTRY_DONE; kind <= LOG_ENTRY_LOST; kind++) {
        ((uint8_t *)good.data)[0] = (uint8_t)kind;
        assert_true(is_refused(good.data, good.size));
    }
    free((void *)good.data);
}

/* A message of 128 bytes costs some 40 more: the figure of docs/performance.md rests on it. */
static void it_is_small(void **state)
{
    (void)state;
    static uint8_t payload[128];
    struct log_entry entry = kept();
    entry.sender = bytes_of_text("player-1234");
    entry.receivers = bytes_of_text("\013player-5678");
    entry.payload = (struct bytes){payload, sizeof(payload)};
    assert_in_range(log_entry_size(&entry), 128 + 30, 128 + 48);
}

/* Cut anywhere, and with any byte replaced by any other: it is refused, or it is just what putting
 * it again writes. */
static void hostile_bytes(void **state)
{
    (void)state;
    struct log_entry entry = kept();
    uint8_t trace[TRACEPARENT_PACKED_BYTES];
    traceparent_pack(bytes_of_text(TRACEPARENT), trace);
    entry.tag = 300;
    entry.traceparent = (struct bytes){trace, sizeof(trace)};
    entry.receiver_count = 2;
    entry.receivers = bytes_of_text("\003bob\004cleo");
    struct bytes good = put(&entry, 1);
    for (size_t size = 0; size < good.size; size++)
        assert_true(is_refused(good.data, size));
    uint8_t *bytes = malloc(good.size);
    assert_non_null(bytes);
    for (size_t at = 0; at < good.size; at++) {
        memcpy(bytes, good.data, good.size);
        for (int value = 0; value < 256; value++) {
            bytes[at] = (uint8_t)value;
            struct bytes rest = {bytes, good.size};
            struct log_entry got;
            if (!log_entry_read(&rest, &got))
                continue;
            struct bytes again = put(&got, 1);
            assert_int_equal(again.size, good.size - rest.size);
            assert_memory_equal(again.data, bytes, again.size);
            free((void *)again.data);
        }
    }
    free(bytes);
    free((void *)good.data);
}

static void what_putting_never_gives(void **state)
{
    (void)state;
    static const struct {
        const char *why;
        size_t size;
        uint8_t bytes[24];
    } wrong[] = {
        {"no such kind", 8, {5, 0, 4, 9, 1, 1, 'b', 0}},
        {"kind 0", 8, {0, 0, 4, 9, 1, 1, 'b', 0}},
        {"no such flag", 7, {2, 8, 4, 9, 1, 1, 'b'}},
        {"a traceparent that is not there", 7, {2, 4, 4, 9, 1, 1, 'b'}},
        {"something behind the receiver", 8, {2, 0, 5, 9, 1, 1, 'b', 0}},
        {"no receiver", 5, {2, 0, 2, 9, 0}},
        {"a receiver without a name", 6, {2, 0, 3, 9, 1, 0}},
        {"fewer receivers than told", 7, {2, 0, 4, 9, 2, 1, 'b'}},
        {"4 thousand million receivers", 11, {2, 0, 8, 9, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 'b'}},
        {"more", 12, {2, 0, 9, 9, 0x80, 0x80, 0x80, 0x80, 0x10, 1, 'b'}},
        {"a number that is longer than needed", 8, {2, 0, 5, 0x89, 0, 1, 1, 'b'}},
        {"a size that is longer than needed", 8, {2, 0, 0x84, 0, 9, 1, 1, 'b'}},
        {"a size beyond the end", 7, {2, 0, 5, 9, 1, 1, 'b'}},
        {"a size of 2^63",
         14,
         {2, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 9, 1}},
        {"a flag for a tag that is none", 8, {2, 2, 5, 9, 0, 1, 1, 'b'}},
        {"a sender of 65 bytes", 8, {3, 0, 5, 9, 5, 65, 'a', 1}},
        {"a sender that does not end", 8, {3, 0, 5, 9, 5, 3, 'a', 1}},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        if (!is_refused(wrong[i].bytes, wrong[i].size))
            fail_msg("taken: %s", wrong[i].why);
    static const uint8_t right[] = {2, 0, 4, 9, 1, 1, 'b'};
    assert_false(is_refused(right, sizeof(right)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_comes_back),
        cmocka_unit_test(what_is_older_is_read),
        cmocka_unit_test(a_traceparent_that_cannot_be),
        cmocka_unit_test(receivers_one_by_one),
        cmocka_unit_test(it_is_small),
        cmocka_unit_test(hostile_bytes),
        cmocka_unit_test(what_putting_never_gives),
    };
    return cmocka_run_group_tests_name("log_entry", tests, NULL, NULL);
}
