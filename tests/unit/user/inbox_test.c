/* SPDX-License-Identifier: Apache-2.0 */
#include "user/inbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
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

/* --- room ------------------------------------------------------------------------------------- */

static const uint64_t key[2] = {1, 2};

static struct deliver_message *make_from(const char *name, size_t payload_bytes, bool service)
{
    static const uint8_t payload[256];
    struct deliver_message *message =
        deliver_create(bytes_of_text(name), (struct bytes){payload, payload_bytes});
    assert_non_null(message);
    message->from_service = service;
    return message;
}

/* Whether it takes one more; takes it then. */
static bool offer_bytes(struct inbox *inbox, const struct inbox_limits *limits, const char *name,
                        size_t payload_bytes, enum inbox_room otherwise)
{
    struct deliver_message *message = make_from(name, payload_bytes, strcmp(name, "svc") == 0);
    enum inbox_room room = inbox_room_for(inbox, message, limits);
    if (room == INBOX_HAS_ROOM) {
        inbox_push(inbox, message);
        return true;
    }
    assert_int_equal(room, otherwise);
    message_destroy(&message->header);
    return false;
}

static bool offer(struct inbox *inbox, const struct inbox_limits *limits, const char *name,
                  enum inbox_room otherwise)
{
    return offer_bytes(inbox, limits, name, 1, otherwise);
}

/* Until it is refused; gives how many were taken. */
static uint32_t fill(struct inbox *inbox, const struct inbox_limits *limits, const char *name,
                     enum inbox_room otherwise)
{
    uint32_t taken = 0;
    while (offer(inbox, limits, name, otherwise))
        taken++;
    return taken;
}

static void empty(struct inbox *inbox)
{
    struct deliver_message *message;
    while ((message = inbox_pop(inbox)) != NULL)
        message_destroy(&message->header);
    assert_null(inbox->share_key);
    assert_int_equal(inbox->shares.size, 0);
    assert_int_equal(inbox->service_count + inbox->service_bytes, 0);
}

static void one_sender_gets_n_messages(void **state)
{
    const struct inbox_limits limits = {3, BYTES_MAX, key};
    struct inbox inbox = {0};
    assert_int_equal(fill(&inbox, &limits, "bob", INBOX_HAS_OTHER_SENDERS), 3);
    empty(&inbox);
    assert_int_equal(fill(&inbox, &limits, "bob", INBOX_HAS_OTHER_SENDERS), 3);
    struct deliver_message *message = inbox_pop(&inbox);
    message_destroy(&message->header);
    assert_true(offer(&inbox, &limits, "bob", INBOX_HAS_ROOM));
    empty(&inbox);
}

static void one_sender_gets_n_bytes(void **state)
{
    struct inbox_limits limits = {9, 10, key};
    struct inbox inbox = {0};
    assert_false(offer_bytes(&inbox, &limits, "bob", 8, INBOX_HAS_NO_ROOM));
    assert_true(offer_bytes(&inbox, &limits, "bob", 3, INBOX_HAS_NO_ROOM)); /* 6 bytes */
    assert_false(offer_bytes(&inbox, &limits, "bob", 2, INBOX_HAS_OTHER_SENDERS));
    assert_true(offer_bytes(&inbox, &limits, "bob", 1, INBOX_HAS_NO_ROOM));
    /* A limit that was lowered meanwhile. */
    limits.bytes_max = 5;
    assert_false(offer_bytes(&inbox, &limits, "bob", 0, INBOX_HAS_NO_ROOM));
    empty(&inbox);
}

/* However many send without end, and in whatever order: who has nothing there gets in. */
static void four_spammers_leave_room_for_a_friend(void **state)
{
    const struct inbox_limits limits = {100, BYTES_MAX, key};
    struct inbox inbox = {0};
    static const char *const spammers[] = {"s1", "s2", "s3", "s4"};
    uint32_t taken[4] = {0};
    for (unsigned round = 0; round < 500; round++)
        for (unsigned i = 0; i < 4; i++)
            taken[i] += offer(&inbox, &limits, spammers[i], INBOX_HAS_OTHER_SENDERS);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(taken[i], 40); /* a fifth of 200 each, and a fifth is free */
    assert_int_equal(fill(&inbox, &limits, "friend", INBOX_HAS_OTHER_SENDERS), 20);
    assert_true(offer(&inbox, &limits, "stranger", INBOX_HAS_OTHER_SENDERS));
    empty(&inbox);
}

/* One after the other: the first takes half of it, the next a third, and so on; one message is for
 * everybody until there is no place left, and then it is full for all. */
static void each_newcomer_gets_one_until_it_is_full(void **state)
{
    const struct inbox_limits limits = {8, BYTES_MAX, key};
    struct inbox inbox = {0};
    static const uint32_t shares[] = {8, 4, 2, 1, 1};
    char name[8];
    for (unsigned i = 0; i < 5; i++) {
        snprintf(name, sizeof(name), "s%u", i);
        uint32_t taken =
            fill(&inbox, &limits, name, i < 4 ? INBOX_HAS_OTHER_SENDERS : INBOX_HAS_NO_ROOM);
        assert_int_equal(taken, shares[i]);
    }
    assert_false(offer(&inbox, &limits, "late", INBOX_HAS_NO_ROOM));
    /* Services have a part of their own, and it ends as well. */
    assert_int_equal(fill(&inbox, &limits, "svc", INBOX_HAS_NO_ROOM), 8);
    assert_int_equal(inbox.count, 24);
    empty(&inbox);
}

/* With 7 of 16 taken: four, when five are free still. A fifth would leave him more than is free. */
static void a_share_is_what_is_free_then_and_no_more(void **state)
{
    const struct inbox_limits limits = {8, BYTES_MAX, key};
    struct inbox inbox = {0};
    for (unsigned i = 0; i < 7; i++)
        assert_true(offer(&inbox, &limits, "first", INBOX_HAS_ROOM));
    assert_int_equal(fill(&inbox, &limits, "second", INBOX_HAS_OTHER_SENDERS), 4);
    empty(&inbox);
}

static void services_leave_the_players_part_alone(void **state)
{
    const struct inbox_limits limits = {4, 400, key};
    struct inbox inbox = {0};
    assert_int_equal(fill(&inbox, &limits, "svc", INBOX_HAS_NO_ROOM), 4);
    assert_int_equal(fill(&inbox, &limits, "bob", INBOX_HAS_OTHER_SENDERS), 4);
    empty(&inbox);
    assert_true(offer_bytes(&inbox, &limits, "svc", 200, INBOX_HAS_NO_ROOM));
    assert_false(offer_bytes(&inbox, &limits, "svc", 195, INBOX_HAS_NO_ROOM));
    assert_true(offer_bytes(&inbox, &limits, "svc", 194, INBOX_HAS_NO_ROOM));
    assert_true(offer_bytes(&inbox, &limits, "bob", 200, INBOX_HAS_NO_ROOM));
    empty(&inbox);
}

/* The table is there only while somebody could have too much, and it counts right: a walk says so.
 */
static void the_shares_are_those_of_the_inbox(void **state)
{
    const struct inbox_limits limits = {40, BYTES_MAX, key};
    struct inbox inbox = {0};
    srand(5);
    unsigned with_table = 0;
    for (int round = 0; round < 20000; round++) {
        char name[8];
        snprintf(name, sizeof(name), "s%d", rand() % 30);
        bool filling = round / 200 % 2 == 0;
        if (rand() % 10 < (filling ? 8 : 3)) {
            struct deliver_message *message =
                make_from(name, (size_t)rand() % 200, rand() % 4 == 0);
            if (inbox_room_for(&inbox, message, &limits) == INBOX_HAS_ROOM)
                inbox_push(&inbox, message);
            else
                message_destroy(&message->header);
        } else if (inbox.count > 0) {
            struct deliver_message *message = inbox_pop(&inbox);
            message_destroy(&message->header);
        }
        struct inbox_place place = {0};
        struct kept_message kept;
        uint32_t services = 0;
        struct share counted = {0};
        while (inbox_read(&inbox, &place, &kept)) {
            services += kept.from_service;
            if (!kept.from_service && bytes_equal(kept.name, bytes_of_text(name))) {
                counted.count++;
                counted.bytes += (uint32_t)(kept.name.size + kept.payload.size);
            }
        }
        assert_int_equal(services, inbox.service_count);
        if (inbox.share_key == NULL)
            continue;
        struct share share = shares_look(&inbox.shares, hash_keyed(key, name, strlen(name)));
        assert_int_equal(share.count, counted.count);
        assert_int_equal(share.bytes, counted.bytes);
        with_table++;
    }
    assert_in_range(with_table, 1000, 19000);
    empty(&inbox);
}

/* Every fifth has one. */
static const char *parent_of(uint64_t seq)
{
    return seq % 5 == 0 ? "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" : "";
}

static uint32_t bytes_beside(uint64_t seq)
{
    return (uint32_t)(strlen("bob") + strlen(parent_of(seq)));
}

/* What the message of that seq is; about one in three must be held as it is, and one in seven is
 * stored. */
static bool is_stored(uint64_t seq)
{
    return seq % 7 == 0;
}

static struct deliver_message *make_of(uint64_t seq, uint32_t size)
{
    uint8_t payload[SIZE_MAX_BYTES];
    memset(payload, (int)(seq * 7 + 1), size);
    struct deliver_message *message = deliver_create_traced(
        bytes_of_text("bob"), (struct bytes){payload, size}, bytes_of_text(parent_of(seq)));
    message->seq = seq;
    message->stored = is_stored(seq);
    if (message->stored)
        message->mid = seq * 13;
    else
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
    assert_int_equal(kept->arrived_ms, is_stored(seq) ? 0 : seq * 3);
    assert_int_equal(kept->mid, deliver_mid(wanted));
    assert_int_equal(kept->time_ms, wanted->time_ms);
    assert_int_equal(kept->from_service, wanted->from_service);
    assert_int_equal(kept->sent, wanted->sent);
    assert_int_equal(kept->redelivered, wanted->redelivered);
    assert_true(bytes_equal(kept->name, deliver_name(wanted)));
    assert_true(bytes_equal(kept->payload, deliver_payload(wanted)));
    assert_true(bytes_equal(kept->traceparent, bytes_of_text(parent_of(seq))));
    message_destroy(&wanted->header);
}

static void expect_message(struct deliver_message *message, uint64_t seq, uint32_t size)
{
    assert_non_null(message);
    struct kept_message kept = {.seq = message->seq,
                                .arrived_ms = message->stored ? 0 : message->arrived_ms,
                                .time_ms = message->time_ms,
                                .mid = deliver_mid(message),
                                .from_service = message->from_service,
                                .redelivered = message->redelivered,
                                .sent = message->sent,
                                .name = deliver_name(message),
                                .payload = deliver_payload(message),
                                .traceparent = deliver_traceparent(message)};
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
        bool room = next - first < MESSAGES_MAX && bytes + size + bytes_beside(next) <= BYTES_MAX;
        int what = rand() % 200;
        if (what < 110 && room) {
            inbox_push(&inbox, make_of(next, size));
            bytes += size + bytes_beside(next);
            sizes[next++ % MESSAGES_MAX] = size;
        } else if (what < 190 && first < next) {
            bytes -= sizes[first % MESSAGES_MAX] + bytes_beside(first);
            expect_message(inbox_pop(&inbox), first, sizes[first % MESSAGES_MAX]);
            first++;
        } else if (what < 198) {
            uint64_t last = first + (uint64_t)rand() % 5;
            uint64_t mid = 0;
            uint64_t told = inbox_forget(&inbox, last);
            for (; first < next && first <= last && first % 3 != 0 &&
                   sizes[first % MESSAGES_MAX] + bytes_beside(first) <= 400;
                 first++) {
                bytes -= sizes[first % MESSAGES_MAX] + bytes_beside(first);
                mid = is_stored(first) ? first * 13 : mid;
            }
            assert_int_equal(told, mid);
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
        if (message->stored)
            assert_int_equal(message->mid, (seq - 999) * 13);
        else
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
        cmocka_unit_test(one_sender_gets_n_messages),
        cmocka_unit_test(one_sender_gets_n_bytes),
        cmocka_unit_test(four_spammers_leave_room_for_a_friend),
        cmocka_unit_test(each_newcomer_gets_one_until_it_is_full),
        cmocka_unit_test(a_share_is_what_is_free_then_and_no_more),
        cmocka_unit_test(services_leave_the_players_part_alone),
        cmocka_unit_test(the_shares_are_those_of_the_inbox),
        cmocka_unit_test(it_does_what_a_queue_does),
        cmocka_unit_test(new_numbers_are_those_of_redelivered_ones),
        cmocka_unit_test(what_is_timed_stays_timed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
