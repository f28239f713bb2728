/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/push.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/broker_frame.h"

enum { TIME_MS = 1700000, ARRIVED_MS = 77, MANY = 2 * MESSAGE_BLOCK_MAX + 3 };

static struct push_run begin(const char *service, const char *payload, uint32_t receivers)
{
    struct push_run run;
    struct push push = {bytes_of_text(service), bytes_of_text(payload), false, {0}};
    assert_int_equal(push_begin(&run, push, TIME_MS, ARRIVED_MS, receivers), 0);
    return run;
}

static void check(const struct deliver_message *message, const char *service, const char *payload)
{
    assert_non_null(message);
    assert_int_equal(message->header.kind, MESSAGE_DELIVER);
    assert_true(bytes_equal(deliver_name(message), bytes_of_text(service)));
    assert_true(bytes_equal(deliver_payload(message), bytes_of_text(payload)));
    assert_true(message->from_service && !message->redelivered && !message->until_delivered);
    assert_int_equal(message->time_ms, TIME_MS);
    assert_int_equal(message->arrived_ms, ARRIVED_MS);
    assert_true(message->sender == 0 && message->request == 0 && message->epoch_wanted == 0);
    assert_false(message->transient);
}

/* The tail is what an encoder makes of the fields that the message tells. */
static void check_tail(const struct deliver_message *message)
{
    const struct push_body *body = push_body_of(message);
    struct message_fields fields = {.service = deliver_name(message),
                                    .payload = deliver_payload(message),
                                    .time_ms = message->time_ms,
                                    .traceparent = deliver_traceparent(message)};
    uint8_t tail[600];
    assert_non_null(body);
    assert_int_equal(body->tail_size, broker_frame_tail_size(&fields));
    assert_true(body->tail_size <= sizeof(tail));
    broker_frame_tail_write(tail, &fields);
    assert_memory_equal(body->tail, tail, body->tail_size);
}

static void many_share_one_payload(void **state)
{
    static struct deliver_message *messages[MANY];
    struct push_run run = begin("shop", "sale", MANY);
    for (unsigned i = 0; i < MANY; i++) {
        messages[i] = push_next(&run);
        check(messages[i], "shop", "sale");
        check_tail(messages[i]);
        messages[i]->seq = i; /* each is its receiver's own */
        assert_ptr_equal(push_body_of(messages[i]), push_body_of(messages[0]));
    }
    push_end(&run);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(messages[i]->seq, i);
        message_destroy(&messages[i]->header);
    }
}

static void one_has_it_to_himself(void **state)
{
    struct push_run run = begin("shop", "sale", 1);
    for (unsigned i = 0; i < 2; i++) {
        struct deliver_message *message = push_next(&run);
        check(message, "shop", "sale");
        assert_null(push_body_of(message));
        assert_ptr_equal(push_own(message), message);
        message_destroy(&message->header);
    }
    push_end(&run);
}

static void more_may_come_than_were_expected(void **state)
{
    for (uint32_t expected = 0; expected < 4; expected += 2) {
        struct push_run run = begin("shop", "sale", expected);
        for (unsigned i = 0; i < 5; i++) {
            struct deliver_message *message = push_next(&run);
            check(message, "shop", "sale");
            message_destroy(&message->header);
        }
        push_end(&run);
    }
}

static void empty_and_long_ones_are_read_back(void **state)
{
    char text[301];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    const char *const texts[] = {"", "a", text + 300 - 127, text + 300 - 128, text};
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct push_run run = begin(i % 2 ? "" : "chat", texts[i], 2);
        struct deliver_message *message = push_next(&run);
        check(message, i % 2 ? "" : "chat", texts[i]);
        check_tail(message);
        message_destroy(&message->header);
        push_end(&run);
    }
}

/* Alone, shared, kept of it, and one of a bundle. */
static void a_traceparent_goes_to_each(void **state)
{
    static const char parent[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    struct push push = {bytes_of_text("shop"), bytes_of_text("sale"), false, bytes_of_text(parent)};
    struct push without = {bytes_of_text("shop"), bytes_of_text("sale"), false, {0}};
    struct push_run run;
    for (uint32_t receivers = 1; receivers <= 2; receivers++) {
        assert_int_equal(push_begin(&run, push, TIME_MS, ARRIVED_MS, receivers), 0);
        struct deliver_message *message = push_own(push_next(&run));
        push_end(&run);
        check(message, "shop", "sale");
        assert_true(bytes_equal(deliver_traceparent(message), bytes_of_text(parent)));
        assert_int_equal(push_body_of(message) != NULL, receivers > 1);
        if (receivers > 1)
            check_tail(message);
        message_destroy(&message->header);
    }
    const struct push both[] = {push, without};
    assert_int_equal(push_begin_bundle(&run, both, 2, TIME_MS, ARRIVED_MS, 1), 0);
    struct bundle_message *bundle = push_next_bundle(&run);
    push_end(&run);
    assert_int_equal(push_bundle_of(bundle)->payload_bytes_max, strlen("sale") + strlen(parent));
    for (uint32_t i = 0; i < 2; i++) {
        struct deliver_message *single = push_single(bundle, i);
        check(single, "shop", "sale");
        check_tail(single);
        assert_true(bytes_equal(deliver_traceparent(single), bytes_of_text(i == 0 ? parent : "")));
        message_destroy(&single->header);
    }
    message_destroy(&bundle->header);
}

static void what_is_kept_leaves_the_block_and_shares_the_payload(void **state)
{
    struct push_run run = begin("shop", "sale", 100);
    struct deliver_message *message = push_next(&run);
    message->seq = 5;
    message->request = 9;
    message->sent = true;
    struct deliver_message *kept = push_own(message);
    assert_ptr_not_equal(kept, message);
    assert_ptr_equal(push_own(kept), kept);
    assert_true(kept->seq == 5 && kept->request == 9 && kept->sent);
    assert_ptr_equal(push_body_of(kept), &run.bundle->bodies[0]);
    assert_int_equal(atomic_load(&run.bundle->shared.holders), 3); /* run, block, kept */
    push_end(&run);
    /* The block is gone, what it was made for is still there. */
    assert_int_equal(atomic_load(&message_shared(&kept->header)->holders), 1);
    assert_true(bytes_equal(deliver_payload(kept), bytes_of_text("sale")));
    check_tail(kept);
    message_destroy(&kept->header);
}

static void a_bundle_is_one_message_for_each(void **state)
{
    struct push pushes[PUSH_BUNDLE_MAX];
    char payloads[PUSH_BUNDLE_MAX][2 * PUSH_BUNDLE_MAX];
    static struct bundle_message *messages[MANY];
    for (unsigned i = 0; i < PUSH_BUNDLE_MAX; i++) {
        memset(payloads[i], 'a' + (int)i, sizeof(payloads[i]));
        payloads[i][2 * i] = '\0'; /* the first is empty */
        pushes[i] = (struct push){
            bytes_of_text(i % 2 ? "shop" : ""), bytes_of_text(payloads[i]), false, {0}};
    }
    struct push_run run;
    assert_int_equal(push_begin_bundle(&run, pushes, PUSH_BUNDLE_MAX, TIME_MS, ARRIVED_MS, MANY),
                     0);
    for (unsigned i = 0; i < MANY; i++) {
        messages[i] = push_next_bundle(&run);
        assert_int_equal(messages[i]->header.kind, MESSAGE_BUNDLE);
        assert_ptr_equal(push_bundle_of(messages[i]), push_bundle_of(messages[0]));
    }
    push_end(&run);
    const struct push_bundle *bundle = push_bundle_of(messages[0]);
    assert_int_equal(bundle->count, PUSH_BUNDLE_MAX);
    assert_int_equal(bundle->payload_bytes_max, 2 * (PUSH_BUNDLE_MAX - 1));
    struct deliver_message *singles[PUSH_BUNDLE_MAX];
    for (unsigned i = 0; i < PUSH_BUNDLE_MAX; i++)
        singles[i] = push_single(messages[MANY - 1], i);
    for (unsigned i = 0; i < MANY; i++)
        message_destroy(&messages[i]->header);
    for (unsigned i = 0; i < PUSH_BUNDLE_MAX; i++) { /* they hold what they need */
        check(singles[i], i % 2 ? "shop" : "", payloads[i]);
        check_tail(singles[i]);
        assert_ptr_equal(push_own(singles[i]), singles[i]);
        message_destroy(&singles[i]->header);
    }
}

/* Each message of it says so, whatever it is made of. */
static void a_transient_push_stays_one(void **state)
{
    struct push push = {bytes_of_text("arena"), bytes_of_text("at 3"), true, {0}};
    struct push pushes[] = {push, push};
    struct push_run run;
    for (uint32_t receivers = 1; receivers <= 2; receivers++) {
        assert_int_equal(push_begin(&run, push, TIME_MS, ARRIVED_MS, receivers), 0);
        struct deliver_message *message = push_next(&run);
        assert_true(message->transient && message_is_transient(&message->header));
        message_destroy(&message->header);
        push_end(&run);
    }
    for (unsigned transient = 0; transient < 2; transient++) {
        pushes[0].transient = pushes[1].transient = transient;
        assert_int_equal(push_begin_bundle(&run, pushes, 2, TIME_MS, ARRIVED_MS, 1), 0);
        struct bundle_message *bundle = push_next_bundle(&run);
        assert_int_equal(message_is_transient(&bundle->header), transient);
        struct deliver_message *single = push_single(bundle, 1);
        assert_int_equal(single->transient, transient);
        message_destroy(&single->header);
        message_destroy(&bundle->header);
        push_end(&run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_share_one_payload),
        cmocka_unit_test(one_has_it_to_himself),
        cmocka_unit_test(more_may_come_than_were_expected),
        cmocka_unit_test(empty_and_long_ones_are_read_back),
        cmocka_unit_test(a_traceparent_goes_to_each),
        cmocka_unit_test(what_is_kept_leaves_the_block_and_shares_the_payload),
        cmocka_unit_test(a_bundle_is_one_message_for_each),
        cmocka_unit_test(a_transient_push_stays_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
