/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libusher/frame.h"
#include "proto/broker_frame.h"
#include "proto/frame.h"

/* What the broker writes is what is read here. */
static struct broker_frame read_back(struct buffer *out)
{
    struct broker_frame frame;
    struct bytes inner;
    size_t used;

    assert_int_equal(frame_next((struct bytes){out->data, out->size}, 1 << 20, &inner, &used), 1);
    assert_int_equal(used, out->size);
    assert_int_equal(broker_frame_read(inner, &frame), 0);
    return frame;
}

static void test_message(void **state)
{
    struct buffer out = {0};
    struct message_fields fields = {.seq = 300,
                                    .from = bytes_of_text("alice"),
                                    .payload = bytes_of_text("hello"),
                                    .time_ms = 1,
                                    .redelivered = true,
                                    .traceparent = bytes_of_text("any")};

    assert_int_equal(broker_frame_message(&out, &fields), 0);
    struct broker_frame frame = read_back(&out);
    assert_int_equal(frame.body, BROKER_MESSAGE);
    assert_int_equal(frame.number[MESSAGE_SEQ], 300);
    assert_int_equal(frame.number[MESSAGE_REDELIVERED], 1);
    assert_true(bytes_equal(frame.run[MESSAGE_TRACEPARENT], bytes_of_text("any")));
    assert_true(bytes_equal(frame.run[MESSAGE_PAYLOAD], bytes_of_text("hello")));
    buffer_fini(&out);
}

static void test_welcome(void **state)
{
    struct buffer out = {0};
    struct welcome_fields fields = {.epoch = UINT64_C(1) << 60,
                                    .secret = bytes_of_text("0123456789abcdef"),
                                    .replay = 2,
                                    .next_seq = 5,
                                    .heartbeat_ms = 30000,
                                    .node = bytes_of_text("usher-1")};

    assert_int_equal(broker_frame_welcome(&out, 77, &fields), 0);
    struct broker_frame frame = read_back(&out);
    assert_int_equal(frame.body, BROKER_WELCOME);
    assert_int_equal(frame.id, 77);
    assert_true(frame.number[WELCOME_EPOCH] == UINT64_C(1) << 60);
    assert_int_equal(frame.run[WELCOME_SECRET].size, 16);
    assert_int_equal(frame.number[WELCOME_REPLAY], 2);
    assert_int_equal(frame.number[WELCOME_NEXT_SEQ], 5);
    assert_int_equal(frame.number[WELCOME_HEARTBEAT_MS], 30000);
    buffer_fini(&out);
}

static void test_answers(void **state)
{
    struct buffer out = {0};

    assert_int_equal(broker_frame_reply(&out, 3, 404, bytes_of_text("no")), 0);
    struct broker_frame frame = read_back(&out);
    assert_int_equal(frame.body, BROKER_REPLY);
    assert_int_equal(frame.number[REPLY_STATUS], 404);
    assert_true(bytes_equal(frame.run[REPLY_PAYLOAD], bytes_of_text("no")));
    out.size = 0;
    assert_int_equal(broker_frame_error(&out, 4, 7, "busy", 250), 0);
    frame = read_back(&out);
    assert_int_equal(frame.body, BROKER_ERROR);
    assert_int_equal(frame.number[ERROR_CODE], 7);
    assert_int_equal(frame.number[REFUSAL_RETRY_AFTER_MS], 250);
    out.size = 0;
    assert_int_equal(broker_frame_close(&out, 12, "full", 1000, false), 0);
    frame = read_back(&out);
    assert_int_equal(frame.body, BROKER_CLOSE);
    assert_int_equal(frame.number[CLOSE_REASON], 12);
    assert_int_equal(frame.number[REFUSAL_RETRY_AFTER_MS], 1000);
    buffer_fini(&out);
}

/* Every cut of a frame and every byte turned: answered, and nothing read behind the end (which the
 * address sanitizer sees, because each input has its own allocation). */
static void test_broken_bytes(void **state)
{
    struct buffer out = {0};
    struct message_fields fields = {
        .seq = 1, .from = bytes_of_text("bob"), .payload = bytes_of_text("0123456789")};
    struct broker_frame frame;

    assert_int_equal(broker_frame_message(&out, &fields), 0);
    for (size_t size = 0; size < out.size; size++) {
        uint8_t *copy = malloc(size > 0 ? size : 1);

        assert_non_null(copy);
        memcpy(copy, out.data + 1, size);
        int error = broker_frame_read((struct bytes){copy, size}, &frame);
        assert_true(error == 0 || error == -EPROTO);
        for (size_t i = 0; i < size; i++) {
            copy[i] ^= 0xff;
            error = broker_frame_read((struct bytes){copy, size}, &frame);
            assert_true(error == 0 || error == -EPROTO);
            copy[i] ^= 0xff;
        }
        free(copy);
    }
    const uint8_t cut_run[] = {0x1a, 0x05, 0x08};
    assert_int_equal(broker_frame_read((struct bytes){cut_run, 3}, &frame), -EPROTO);
    buffer_fini(&out);
}

/* All that is listed in it, whatever it is: what is read lies within it. */
static void read_items(struct bytes bytes)
{
    struct broker_frame frame, item;
    if (broker_frame_read(bytes, &frame) != 0)
        return;
    for (unsigned number = 1; number < BODY_FIELDS; number++) {
        struct bytes rest = frame.bytes;
        int result;
        size_t count = 0;
        while ((result = broker_item_read(&rest, number, &item)) == 1) {
            count++;
            for (unsigned i = 0; i < BODY_FIELDS; i++)
                assert_true(item.run[i].size <= bytes.size);
        }
        assert_true(result == 0 || result == -EPROTO);
        assert_true(count <= bytes.size / 2);
    }
}

static void test_items(void **state)
{
    struct buffer roster = {0}, out = {0};
    struct broker_frame frame, item;
    broker_frame_room_member(&roster, bytes_of_text("alice"), false);
    broker_frame_room_member(&roster, bytes_of_text("bob"), true);
    broker_frame_room_member(&roster, bytes_of_text(""), false);
    struct room_state_fields fields = {.name = bytes_of_text("match"),
                                       .room = 3,
                                       .incarnation = 1ull << 40,
                                       .members = 3,
                                       .roster = {roster.data, roster.size},
                                       .detail = bytes_of_text("why")};
    assert_int_equal(broker_frame_room_state(&out, 9, &fields), 0);
    struct bytes whole = {out.data + 1, out.size - 1};
    assert_int_equal(broker_frame_read(whole, &frame), 0);
    assert_true(frame.id == 9 && frame.body == BROKER_ROOM_STATE);
    assert_true(frame.number[STATE_ROOM] == 3 && frame.number[STATE_INCARNATION] == 1ull << 40);
    assert_true(bytes_equal(frame.run[STATE_DETAIL], bytes_of_text("why")));
    struct bytes rest = frame.bytes;
    static const char *const names[] = {"alice", "bob", ""};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(broker_item_read(&rest, STATE_ROSTER, &item), 1);
        assert_true(bytes_equal(item.run[PRESENCE_USER], bytes_of_text(names[i])));
        assert_int_equal(item.number[PRESENCE_KIND], i == 1);
    }
    assert_int_equal(broker_item_read(&rest, STATE_ROSTER, &item), 0);
    assert_int_equal(broker_item_read(&rest, STATE_ROSTER, &item), 0);
    for (size_t size = 0; size <= whole.size; size++) {
        uint8_t *copy = malloc(size > 0 ? size : 1);
        assert_non_null(copy);
        memcpy(copy, whole.data, size);
        read_items((struct bytes){copy, size});
        for (size_t i = 0; i < 8 * size; i++) {
            copy[i / 8] ^= (uint8_t)(1u << i % 8);
            read_items((struct bytes){copy, size});
            copy[i / 8] ^= (uint8_t)(1u << i % 8);
        }
        free(copy);
    }
    buffer_fini(&roster);
    buffer_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message), cmocka_unit_test(test_welcome),
        cmocka_unit_test(test_answers), cmocka_unit_test(test_broken_bytes),
        cmocka_unit_test(test_items),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
