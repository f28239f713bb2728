/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/inbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/message.h"

enum { MESSAGES_MAX = 16, BYTES_MAX = 600, ROUNDS = 100000 };

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
        uint32_t size = (uint32_t)rand() % 100;
        bool room = next - first < MESSAGES_MAX && bytes + size + 3 <= BYTES_MAX;
        assert_true(inbox_has_room(&inbox, size + 3, MESSAGES_MAX, BYTES_MAX) == room);
        if (rand() % 2 == 0 && room) {
            inbox_push(&inbox, make(size, next));
            sizes[next++ % MESSAGES_MAX] = size + 3;
            bytes += size + 3;
        } else if (first < next) {
            bytes -= sizes[first % MESSAGES_MAX];
            pop(&inbox, first++);
        }
        assert_int_equal(inbox.count, next - first);
        assert_int_equal(inbox.bytes, bytes);
    }
    while (first < next)
        pop(&inbox, first++);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_comes_first),
        cmocka_unit_test(room_ends_at_n_messages),
        cmocka_unit_test(room_ends_at_n_bytes),
        cmocka_unit_test(it_does_what_a_queue_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
