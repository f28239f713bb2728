/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "client.pb-c.h"
#include "proto/broker_frame.h"
#include "proto/frame.h"

/* Each writer against protobuf-c: the fields come back, and the bytes are those that protobuf-c
 * writes itself, so nothing is left out or longer than needed. */

/* `ordered`: also in the order of their numbers. */
static Usher__V1__BrokerFrame *take_as(struct buffer *out, bool ordered)
{
    struct bytes frame;
    size_t used;
    assert_int_equal(frame_next((struct bytes){out->data, out->size}, SIZE_MAX, &frame, &used), 1);
    assert_int_equal(used, out->size);
    Usher__V1__BrokerFrame *read = usher__v1__broker_frame__unpack(NULL, frame.size, frame.data);
    assert_non_null(read);
    assert_int_equal(usher__v1__broker_frame__get_packed_size(read), frame.size);
    uint8_t *packed = malloc(frame.size + 1);
    assert_non_null(packed);
    assert_int_equal(usher__v1__broker_frame__pack(read, packed), frame.size);
    if (ordered)
        assert_memory_equal(packed, frame.data, frame.size);
    free(packed);
    out->size = 0;
    return read;
}

static Usher__V1__BrokerFrame *take(struct buffer *out)
{
    return take_as(out, true);
}

static void drop(Usher__V1__BrokerFrame *read)
{
    usher__v1__broker_frame__free_unpacked(read, NULL);
}

static const uint64_t numbers[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX};

enum { NUMBERS = sizeof(numbers) / sizeof(numbers[0]) };

/* The two ways to write a Message agree to the byte. */
static void check_message_of_tail(const struct buffer *whole, const struct message_fields *fields)
{
    static uint8_t tail[20000];
    struct buffer out = {0};
    size_t size = broker_frame_tail_size(fields);
    assert_true(size < sizeof(tail));
    memset(tail, 0xee, sizeof(tail));
    broker_frame_tail_write(tail, fields);
    assert_int_equal(tail[size], 0xee);
    assert_int_equal(broker_frame_messages_of(&out, fields->seq, &(struct bytes){tail, size}, 1,
                                              fields->redelivered),
                     0);
    assert_int_equal(out.size, whole->size);
    assert_memory_equal(out.data, whole->data, whole->size);
    buffer_fini(&out);
}

/* Several at once are the same as one after the other. */
static void test_messages_of(void **state)
{
    static uint8_t tail[400];
    struct bytes tails[16];
    memset(tail, 0xa5, sizeof(tail));
    for (size_t count = 0; count <= 16; count++) {
        for (size_t number = 0; number < NUMBERS; number++) {
            struct buffer alone = {0}, together = {0};
            assert_int_equal(buffer_append(&together, "before", 6), 0);
            for (size_t i = 0; i < count; i++) {
                tails[i] = (struct bytes){tail, i * 25}; /* some below 128 bytes, some above */
                uint64_t seq = numbers[number] != 0 ? numbers[number] + i : 0; /* 0: none has one */
                assert_int_equal(broker_frame_messages_of(&alone, seq, &tails[i], 1, false), 0);
            }
            assert_int_equal(
                broker_frame_messages_of(&together, numbers[number], tails, count, false), 0);
            assert_int_equal(together.size, 6 + alone.size);
            assert_memory_equal(together.data, "before", 6);
            if (alone.size > 0)
                assert_memory_equal(together.data + 6, alone.data, alone.size);
            buffer_fini(&alone);
            buffer_fini(&together);
        }
    }
}

static void check_message(struct buffer *out, const struct message_fields *fields)
{
    assert_int_equal(broker_frame_message(out, fields), 0);
    check_message_of_tail(out, fields);
    assert_int_equal(out->size, broker_frame_message_size(fields));
    /* What many have in common is in front of what one alone may have: redelivered. */
    Usher__V1__BrokerFrame *read =
        take_as(out, !fields->redelivered || fields->traceparent.size == 0);
    assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_MESSAGE);
    assert_int_equal(read->id, 0);
    const Usher__V1__Message *message = read->message;
    assert_true(message->seq == fields->seq && message->time_ms == fields->time_ms);
    assert_true(bytes_equal(bytes_of_text(message->from), fields->from));
    assert_true(bytes_equal(bytes_of_text(message->service), fields->service));
    assert_true(
        bytes_equal((struct bytes){message->payload.data, message->payload.len}, fields->payload));
    assert_int_equal(message->redelivered, fields->redelivered);
    assert_true(bytes_equal(bytes_of_text(message->traceparent), fields->traceparent));
    drop(read);
}

/* Payloads around every size at which a length gets one more byte. */
static void test_message(void **state)
{
    static uint8_t payload[17000];
    struct buffer out = {0};
    memset(payload, 0xa5, sizeof(payload));
    for (size_t size = 0; size < sizeof(payload); size += size < 300 || size > 16300 ? 1 : 100) {
        struct message_fields fields = {
            .seq = numbers[size % NUMBERS],
            .from = bytes_of_text(size % 2 ? "alice" : ""),
            .service = bytes_of_text(size % 3 ? "" : "chat"),
            .payload = {size == 0 ? NULL : payload, size},
            .time_ms = numbers[size / 2 % NUMBERS],
            .redelivered = size % 5 == 0,
            .traceparent = bytes_of_text(
                size % 7 == 0 ? "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" : ""),
        };
        check_message(&out, &fields);
    }
    buffer_fini(&out);
}

static void test_message_empty(void **state)
{
    struct buffer out = {0};
    struct message_fields fields = {0};
    check_message(&out, &fields);
    assert_int_equal(broker_frame_message(&out, &fields), 0);
    assert_int_equal(out.size, 3);
    assert_memory_equal(out.data, "\x02\x1a\x00", 3);
    buffer_fini(&out);
}

static void test_welcome(void **state)
{
    struct buffer out = {0};
    struct welcome_fields fields = {
        .epoch = 1ull << 40,
        .secret = bytes_of_text("0123456789abcdef"),
        .replay = USHER__V1__WELCOME__REPLAY__PARTIAL,
        .next_seq = 300,
        .heartbeat_ms = 30000,
        .resume_ms = 60000,
        .frame_bytes_max = 65536,
        .time_ms = 1700000000000,
        .node = bytes_of_text("node-1"),
        .token_ms = 1ull << 33,
    };
    assert_int_equal(broker_frame_welcome(&out, 42, &fields), 0);
    Usher__V1__BrokerFrame *read = take(&out);
    assert_int_equal(read->id, 42);
    assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_WELCOME);
    const Usher__V1__Welcome *welcome = read->welcome;
    assert_true(welcome->epoch == fields.epoch && welcome->time_ms == fields.time_ms);
    assert_int_equal(welcome->secret.len, 16);
    assert_memory_equal(welcome->secret.data, "0123456789abcdef", 16);
    assert_int_equal(welcome->replay, USHER__V1__WELCOME__REPLAY__PARTIAL);
    assert_int_equal(welcome->next_seq, 300);
    assert_true(welcome->token_ms == fields.token_ms);
    assert_int_equal(welcome->heartbeat_ms, 30000);
    assert_int_equal(welcome->resume_ms, 60000);
    assert_int_equal(welcome->frame_bytes_max, 65536);
    assert_string_equal(welcome->node, "node-1");
    drop(read);
    buffer_fini(&out);
}

static void test_done_and_pong(void **state)
{
    struct buffer out = {0};
    for (size_t i = 0; i < NUMBERS; i++) {
        bool dropped = i % 2 == 1;
        assert_int_equal(broker_frame_done(&out, numbers[i], numbers[NUMBERS - 1 - i], dropped), 0);
        Usher__V1__BrokerFrame *read = take(&out);
        assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_DONE);
        assert_true(read->id == numbers[i] && read->done->epoch == numbers[NUMBERS - 1 - i]);
        assert_int_equal(read->done->dropped, dropped);
        drop(read);
        assert_int_equal(broker_frame_pong(&out, numbers[i], numbers[NUMBERS - 1 - i], 5), 0);
        read = take(&out);
        assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_PONG);
        assert_true(read->id == numbers[i] && read->pong->stamp == numbers[NUMBERS - 1 - i]);
        assert_int_equal(read->pong->time_ms, 5);
        drop(read);
    }
    buffer_fini(&out);
}

static void test_reply(void **state)
{
    struct buffer out = {0};
    assert_int_equal(broker_frame_reply(&out, 7, 200, bytes_of_text("fine")), 0);
    assert_int_equal(out.size, broker_frame_reply_size(7, 200, bytes_of_text("fine")));
    Usher__V1__BrokerFrame *read = take(&out);
    assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_REPLY);
    assert_int_equal(read->id, 7);
    assert_int_equal(read->reply->status, 200);
    assert_int_equal(read->reply->payload.len, 4);
    assert_memory_equal(read->reply->payload.data, "fine", 4);
    drop(read);
    buffer_fini(&out);
}

static void test_error(void **state)
{
    struct buffer out = {0};
    assert_int_equal(broker_frame_error(&out, 9, USHER__V1__ERROR__CODE__BUSY, "wait", 250), 0);
    Usher__V1__BrokerFrame *read = take(&out);
    assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_ERROR);
    assert_int_equal(read->id, 9);
    assert_int_equal(read->error->code, USHER__V1__ERROR__CODE__BUSY);
    assert_string_equal(read->error->detail, "wait");
    assert_int_equal(read->error->retry_after_ms, 250);
    drop(read);
    assert_int_equal(broker_frame_error(&out, 9, 1, NULL, 0), 0);
    read = take(&out);
    assert_string_equal(read->error->detail, "");
    drop(read);
    buffer_fini(&out);
}

static void test_close(void **state)
{
    struct buffer out = {0};
    uint32_t reason = USHER__V1__CLOSE__REASON__REPLACED;
    assert_int_equal(broker_frame_close(&out, reason, "elsewhere", 1000, true), 0);
    Usher__V1__BrokerFrame *read = take(&out);
    assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_CLOSE);
    assert_int_equal(read->id, 0);
    assert_int_equal(read->close->reason, reason);
    assert_string_equal(read->close->detail, "elsewhere");
    assert_int_equal(read->close->retry_after_ms, 1000);
    assert_true(read->close->do_not_return);
    drop(read);
    buffer_fini(&out);
}

/* Frames line up behind what is there already. */
static void test_appends(void **state)
{
    struct buffer out = {0};
    for (uint64_t id = 1; id <= 100; id++)
        assert_int_equal(broker_frame_done(&out, id, id, false), 0);
    struct bytes rest = {out.data, out.size};
    for (uint64_t id = 1; id <= 100; id++) {
        struct bytes frame;
        size_t used;
        assert_int_equal(frame_next(rest, 100, &frame, &used), 1);
        Usher__V1__BrokerFrame *read =
            usher__v1__broker_frame__unpack(NULL, frame.size, frame.data);
        assert_non_null(read);
        assert_int_equal(read->id, id);
        drop(read);
        rest = (struct bytes){rest.data + used, rest.size - used};
    }
    assert_int_equal(rest.size, 0);
    buffer_fini(&out);
}

static void test_published(void **state)
{
    struct buffer out = {0};
    for (size_t i = 0; i < NUMBERS; i++) {
        assert_int_equal(broker_frame_published(&out, 7, numbers[i]), 0);
        Usher__V1__BrokerFrame *read = take(&out);
        assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_DONE);
        assert_true(read->id == 7 && read->done->offset == numbers[i]);
        assert_true(read->done->epoch == 0 && !read->done->dropped);
        drop(read);
    }
    buffer_fini(&out);
}

/* --- what is repeated ------------------------------------------------------------------------- */

static const char *const names[] = {"alice", "bob", "", "a.name-that_is:longer+than@the.others"};

enum { NAMES = sizeof(names) / sizeof(names[0]) };

static struct bytes all_of(const struct buffer *items)
{
    return (struct bytes){items->data, items->size};
}

/* With rosters from none on. */
static void test_room_state(void **state)
{
    struct buffer out = {0}, roster = {0};
    for (size_t count = 0; count < 40; count++) {
        struct room_state_fields fields = {
            .name = bytes_of_text(count % 2 ? "match:1" : ""),
            .room = (uint32_t)numbers[count % NUMBERS],
            .incarnation = numbers[count % NUMBERS],
            .offset = numbers[(count + 1) % NUMBERS],
            .state = (uint32_t)count % 4,
            .replay = (uint32_t)count % 3,
            .members = (uint32_t)numbers[(count + 2) % NUMBERS],
            .tick_ms = (uint32_t)count % 5 * 100,
            .roster = all_of(&roster),
            .detail = bytes_of_text(count % 3 ? "" : "the match is over"),
        };
        assert_int_equal(broker_frame_room_state(&out, count, &fields), 0);
        Usher__V1__BrokerFrame *read = take(&out);
        assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_ROOM_STATE);
        assert_int_equal(read->id, count);
        const Usher__V1__RoomState *room = read->room_state;
        assert_true(bytes_equal(bytes_of_text(room->name), fields.name));
        assert_true(bytes_equal(bytes_of_text(room->detail), fields.detail));
        assert_true(room->room == fields.room && room->members == fields.members);
        assert_true(room->incarnation == fields.incarnation && room->offset == fields.offset);
        assert_true((uint32_t)room->state == fields.state &&
                    (uint32_t)room->replay == fields.replay);
        assert_int_equal(room->tick_ms, fields.tick_ms);
        assert_int_equal(room->n_roster, count);
        for (size_t i = 0; i < count; i++) {
            assert_string_equal(room->roster[i]->user, names[i % NAMES]);
            assert_int_equal(room->roster[i]->away, i % 3 == 0);
        }
        drop(read);
        struct bytes name = bytes_of_text(names[count % NAMES]);
        assert_int_equal(broker_frame_room_member(&roster, name, count % 3 == 0), 0);
    }
    buffer_fini(&roster);
    buffer_fini(&out);
}

/* One message more in each round, of sizes around those at which a length gets a byte more. */
static void test_room_messages(void **state)
{
    static uint8_t payload[17000];
    static const size_t sizes[] = {0, 1, 100, 127, 128, 129, 16383, 16384, 16999};
    enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
    struct buffer out = {0}, messages = {0};
    memset(payload, 0xa5, sizeof(payload));
    for (size_t count = 0; count <= 2 * SIZES; count++) {
        uint32_t number = (uint32_t)numbers[count % NUMBERS];
        uint64_t offset = numbers[(count + 3) % NUMBERS];
        assert_int_equal(broker_frame_room_messages(&out, number, offset, all_of(&messages)), 0);
        assert_int_equal(out.size, broker_frame_room_messages_size(number, offset, messages.size));
        Usher__V1__BrokerFrame *read = take(&out);
        assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_ROOM_MESSAGES);
        assert_int_equal(read->id, 0);
        const Usher__V1__RoomMessages *room = read->room_messages;
        assert_true(room->room == number && room->offset == offset);
        assert_int_equal(room->n_messages, count);
        for (size_t i = 0; i < count; i++) {
            const Usher__V1__RoomMessage *message = room->messages[i];
            assert_string_equal(message->from, i % 2 ? "" : names[i % NAMES]);
            assert_string_equal(message->service, i % 2 ? "maker" : "");
            assert_int_equal(message->payload.len, sizes[i % SIZES]);
            assert_true(message->time_ms == numbers[i % NUMBERS]);
        }
        drop(read);
        assert_int_equal(broker_frame_room_message(
                             &messages, bytes_of_text(count % 2 ? "" : names[count % NAMES]),
                             bytes_of_text(count % 2 ? "maker" : ""),
                             (struct bytes){payload, sizes[count % SIZES]},
                             numbers[count % NUMBERS]),
                         0);
    }
    buffer_fini(&messages);
    buffer_fini(&out);
}

static void test_room_event(void **state)
{
    struct buffer out = {0}, changes = {0};
    for (uint32_t count = 0; count < 40; count++) {
        assert_int_equal(broker_frame_room_event(&out, 300, count, all_of(&changes)), 0);
        Usher__V1__BrokerFrame *read = take(&out);
        assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_ROOM_EVENT);
        assert_true(read->id == 0 && read->room_event->room == 300);
        assert_int_equal(read->room_event->members, count);
        assert_int_equal(read->room_event->n_changes, count);
        for (uint32_t i = 0; i < count; i++) {
            assert_string_equal(read->room_event->changes[i]->user, names[i % NAMES]);
            assert_int_equal(read->room_event->changes[i]->kind, i % 4);
        }
        drop(read);
        struct bytes name = bytes_of_text(names[count % NAMES]);
        assert_int_equal(broker_frame_room_change(&changes, name, count % 4), 0);
    }
    buffer_fini(&changes);
    buffer_fini(&out);
}

static void test_friends(void **state)
{
    struct buffer out = {0}, friends = {0};
    for (uint32_t count = 0; count < 40; count++) {
        assert_int_equal(broker_frame_friends(&out, count % 2 == 0, all_of(&friends)), 0);
        Usher__V1__BrokerFrame *read = take(&out);
        assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_FRIENDS);
        assert_int_equal(read->id, 0);
        assert_int_equal(read->friends->snapshot, count % 2 == 0);
        assert_int_equal(read->friends->n_friends, count);
        for (uint32_t i = 0; i < count; i++) {
            const Usher__V1__FriendState *friend = read->friends->friends[i];
            assert_string_equal(friend->user, names[i % NAMES]);
            assert_int_equal(friend->state, i % 3);
            assert_true(friend->since_ms == numbers[i % NUMBERS]);
            assert_int_equal(friend->status.len, i % 2 ? 4 : 0);
        }
        drop(read);
        assert_int_equal(broker_frame_friend(&friends, bytes_of_text(names[count % NAMES]),
                                             count % 3, numbers[count % NUMBERS],
                                             bytes_of_text(count % 2 ? "play" : "")),
                         0);
    }
    buffer_fini(&friends);
    buffer_fini(&out);
}

/* A payload whose size cannot be: refused, and what was there stays. */
static void test_no_memory(void **state)
{
    struct buffer out = {0};
    assert_int_equal(broker_frame_done(&out, 1, 1, false), 0);
    struct buffer before = out;
    struct bytes huge = {out.data, SIZE_MAX / 2};
    struct message_fields fields = {.seq = 1, .payload = huge};
    assert_true(broker_frame_message(&out, &fields) < 0);
    struct bytes tails[] = {{out.data, 1}, huge};
    assert_true(broker_frame_messages_of(&out, 1, tails, 2, false) < 0);
    assert_true(broker_frame_reply(&out, 1, 0, huge) < 0);
    assert_true(broker_frame_room_messages(&out, 1, 1, huge) < 0);
    assert_true(broker_frame_room_event(&out, 1, 1, huge) < 0);
    assert_true(broker_frame_friends(&out, true, huge) < 0);
    assert_true(broker_frame_room_message(&out, tails[0], tails[0], huge, 1) < 0);
    assert_true(broker_frame_friend(&out, tails[0], 1, 1, huge) < 0);
    assert_memory_equal(&out, &before, sizeof(out));
    buffer_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message),       cmocka_unit_test(test_messages_of),
        cmocka_unit_test(test_message_empty), cmocka_unit_test(test_welcome),
        cmocka_unit_test(test_done_and_pong), cmocka_unit_test(test_reply),
        cmocka_unit_test(test_error),         cmocka_unit_test(test_close),
        cmocka_unit_test(test_appends),       cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_published),     cmocka_unit_test(test_room_state),
        cmocka_unit_test(test_room_messages), cmocka_unit_test(test_room_event),
        cmocka_unit_test(test_friends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
