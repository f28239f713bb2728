/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/inbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/message.h"

enum { MESSAGES_MAX = 64, BYTES_MAX = 20000, SIZE_MAX_BYTES = 700, ROUNDS = 200000 };

static struct deliver_message *make(size_t payload_bytes, uint64_t seq)
{
    static const uint8_t payload[256];
    struct deliver_message *message =
        deliver_create(bytes_of_text("bob"), (struct bytes){payload, payload_bytes});
    assert_non_null(message);
    message->seq = seq;
    return message;
}

static void pop(struct inbox *inbox, uint64_t seq)
{
    struct deliver_message *message = inbox_pop(inbox);
    assert_non_null(message);
    assert_int_equal(message->seq, seq);
    assert_null(message->header.next);
    message_destroy(&message->header);
}

static void the_oldest_comes_first(void **state)
{
    struct inbox inbox = {0};
    assert_null(inbox_pop(&inbox));
    inbox_push(&inbox, make(1, 1));
    inbox_push(&inbox, make(2, 2));
    assert_int_equal(inbox.count, 2);
    assert_int_equal(inbox.bytes, 3 + 1 + 3 + 2); /* names count */
    pop(&inbox, 1);
    inbox_push(&inbox, make(3, 3));
    pop(&inbox, 2);
    pop(&inbox, 3);
    assert_null(inbox_pop(&inbox));
    assert_int_equal(inbox.bytes, 0);
    assert_null(inbox.last);
}

static void room_ends_at_n_messages(void **state)
{
    struct inbox inbox = {0};
    for (uint64_t seq = 1; seq <= 3; seq++) {
        assert_true(inbox_has_room(&inbox, 4, 3, BYTES_MAX));
        inbox_push(&inbox, make(1, seq));
    }
    assert_false(inbox_has_room(&inbox, 0, 3, BYTES_MAX));
    pop(&inbox, 1);
    assert_true(inbox_has_room(&inbox, 0, 3, BYTES_MAX));
    pop(&inbox, 2);
    pop(&inbox, 3);
}

static void room_ends_at_n_bytes(void **state)
{
    struct inbox inbox = {0};
    assert_true(inbox_has_room(&inbox, 10, 3, 10));
    assert_false(inbox_has_room(&inbox, 11, 3, 10));
    inbox_push(&inbox, make(3, 1)); /* 6 bytes */
    assert_true(inbox_has_room(&inbox, 4, 3, 10));
    assert_false(inbox_has_room(&inbox, 5, 3, 10));
    assert_false(inbox_has_room(&inbox, UINT32_MAX, 3, 10)); /* the sum must not wrap */
    /* A limit that was lowered meanwhile. */
    assert_false(inbox_has_room(&inbox, 0, 3, 5));
    pop(&inbox, 1);
}

/* What the message of that seq is; about one in three must be held as it is. */
static struct deliver_message *make_of(uint64_t seq, uint32_t size)
{
    uint8_t payload[SIZE_MAX_BYTES];
    memset(payload, (int)(seq * 7 + 1), size);
    struct deliver_message *message =
        deliver_create(bytes_of_text("bob"), (struct bytes){payload, size});
    message->seq = seq;
    message->arrived_ms = seq * 3;
    message->time_ms = seq * 5;
    message->from_service = seq % 2;
    message->sent = false;
    message->redelivered = seq % 11 == 0;
    message->until_delivered = seq % 3 == 0;
    message->request = seq % 3 == 0 ? seq : 0;
    return message;
}

static void expect_kept(const struct kept_message *kept, uint64_t seq, uint32_t size)
{
    struct deliver_message *wanted = make_of(seq, size);
    assert_int_equal(kept->seq, seq);
    assert_int_equal(kept->arrived_ms, wanted->arrived_ms);
    assert_int_equal(kept->time_ms, wanted->time_ms);
    assert_int_equal(kept->from_service, wanted->from_service);
    assert_int_equal(kept->sent, wanted->sent);
    assert_int_equal(kept->redelivered, wanted->redelivered);
    assert_true(bytes_equal(kept->name, deliver_name(wanted)));
    assert_true(bytes_equal(kept->payload, deliver_payload(wanted)));
    message_destroy(&wanted->header);
}

static void expect_message(struct deliver_message *message, uint64_t seq, uint32_t size)
{
    assert_non_null(message);
    struct kept_message kept = {message->seq, message->arrived_ms, message->time_ms,
                                message->from_service, message->redelivered, message->sent,
                                deliver_name(message), deliver_payload(message)};
    expect_kept(&kept, seq, size);
    assert_int_equal(message->request, seq % 3 == 0 ? seq : 0); /* whoever waits is not lost */
    assert_int_equal(message->until_delivered, seq % 3 == 0);
    assert_null(message->header.next);
    message_destroy(&message->header);
}

/* Reads all of it, which changes nothing. */
static void expect_all(const struct inbox *inbox, uint64_t first, uint64_t next,
                       const uint32_t sizes[MESSAGES_MAX])
{
    struct inbox_place place = {0};
    struct kept_message kept;
    for (uint64_t seq = first; seq < next; seq++) {
        assert_true(inbox_read(inbox, &place, &kept));
        expect_kept(&kept, seq, sizes[seq % MESSAGES_MAX]);
    }
    assert_false(inbox_read(inbox, &place, &kept));
    assert_int_equal(inbox_oldest(inbox, &kept), first < next);
}

/* A queue of numbers says what must come out. */
static void it_does_what_a_queue_does(void **state)
{
    struct inbox inbox = {0};
    uint32_t sizes[MESSAGES_MAX];
    uint64_t first = 1;
    uint64_t next = 1;
    uint32_t bytes = 0;
    srand(2);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t size = (uint32_t)rand() % (rand() % 4 == 0 ? SIZE_MAX_BYTES : 60);
        bool room = next - first < MESSAGES_MAX && bytes + size + 3 <= BYTES_MAX;
        assert_true(inbox_has_room(&inbox, size + 3, MESSAGES_MAX, BYTES_MAX) == room);
        int what = rand() % 200;
        if (what < 110 && room) {
            inbox_push(&inbox, make_of(next, size));
            sizes[next++ % MESSAGES_MAX] = size;
            bytes += size + 3;
        } else if (what < 190 && first < next) {
            bytes -= sizes[first % MESSAGES_MAX] + 3;
            expect_message(inbox_pop(&inbox), first, sizes[first % MESSAGES_MAX]);
            first++;
        } else if (what < 198) {
            uint64_t last = first + (uint64_t)rand() % 5;
            inbox_forget(&inbox, last);
            for (; first < next && first <= last && first % 3 != 0 &&
                   sizes[first % MESSAGES_MAX] <= 397; first++)
                bytes -= sizes[first % MESSAGES_MAX] + 3;
        } else {
            expect_all(&inbox, first, next, sizes);
        }
        assert_int_equal(inbox.count, next - first);
        assert_int_equal(inbox.bytes, bytes);
    }
    for (; first < next; first++)
        expect_message(inbox_pop(&inbox), first, sizes[first % MESSAGES_MAX]);
    assert_null(inbox.first);
}

static void new_numbers_are_those_of_redelivered_ones(void **state)
{
    struct inbox inbox = {0};
    for (uint64_t seq = 1; seq <= 50; seq++)
        inbox_push(&inbox, make_of(seq, 20));
    inbox_renumber(&inbox, 1000);
    for (uint64_t seq = 1000; seq < 1050; seq++) {
        struct deliver_message *message = inbox_pop(&inbox);
        assert_int_equal(message->seq, seq);
        assert_true(message->redelivered);
        assert_int_equal(message->arrived_ms, (seq - 999) * 3);
        message_destroy(&message->header);
    }
    assert_null(inbox_pop(&inbox));
}

/* When it was not handed out yet, how long it has waited is still to be told. */
static void what_is_timed_stays_timed(void **state)
{
    struct inbox inbox = {0};
    struct deliver_message *message = make(5, 1);
    message->stamp_us = 77;
    inbox_push(&inbox, message);
    message = inbox_pop(&inbox);
    assert_int_equal(message->stamp_us, 77);
    message_destroy(&message->header);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_comes_first),
        cmocka_unit_test(room_ends_at_n_messages),
        cmocka_unit_test(room_ends_at_n_bytes),
        cmocka_unit_test(it_does_what_a_queue_does),
        cmocka_unit_test(new_numbers_are_those_of_redelivered_ones),
        cmocka_unit_test(what_is_timed_stays_timed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
