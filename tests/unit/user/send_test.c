/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/bounce.h"
#include "actors/push.h"
#include "base/memory.h"
#include "proto/broker_frame.h"
#include "unit/actors/stage_user.h"

/* Send, from both sides: ann sends and hears how it ended; ann receives. */

/* --- ann sends -------------------------------------------------------------------------------- */

static void a_send_goes_to_the_receiver_by_name(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_send(stage, 7, "bob", "hi");
    put_send_bytes(stage, 8, "ann", "me", 2, USHER__V1__SEND__UNTIL__DELIVERED);
    put_send(stage, 0, "bob", "no answer");
    stage_play(stage, 10);
    EXPECT(stage, "forward bob deliver #7 from=ann 'hi'",
           "forward ann deliver #8 from=ann 'me' until_delivered",
           "forward bob deliver from=ann 'no answer'", "10 consumed");
    assert_int_equal(requests_count(stage->session.requests), 2);
    stage_result(stage, 7, 1, 0);
    EXPECT(stage, "10 done #7 epoch=33");
    stage_result(stage, 7, 1, 0); /* there is one answer */
    EXPECT_NOTHING(stage);
    COUNTED(stage, replies_late, 1);
}

static void a_name_that_cannot_be_is_refused(void **state)
{
    char longest[USERNAME_BYTES_MAX + 2];
    memset(longest, 'n', sizeof(longest));
    longest[USERNAME_BYTES_MAX + 1] = '\0';
    const char *const names[] = {"", "a b", "!shop/1", "j\xc3\xb6rg", longest};
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        put_send(stage, 7, names[i], "hi");
        put_send(stage, 0, names[i], "hi");
        stage_play(stage, 10);
        EXPECT(stage, "10 error #7 INVALID_NAME", "10 consumed");
    }
    assert_null(stage->session.requests); /* answered: the id is free again */
    longest[USERNAME_BYTES_MAX] = '\0';
    put_send(stage, 7, longest, "hi");
    stage_play(stage, 10);
    assert_int_equal(requests_count(stage->session.requests), 1);
}

static void every_refusal_has_its_answer(void **state)
{
    static const struct {
        uint16_t code;
        const char *line;
    } rows[] = {
        {USHER__V1__ERROR__CODE__NOT_ONLINE, "10 error #7 NOT_ONLINE"},
        {USHER__V1__ERROR__CODE__INBOX_FULL, "10 error #7 INBOX_FULL retry=1000"},
        {USHER__V1__ERROR__CODE__BUSY, "10 error #7 BUSY retry=100"},
        {USHER__V1__ERROR__CODE__TOO_LARGE, "10 error #7 TOO_LARGE"},
        {USHER__V1__ERROR__CODE__UNDELIVERED, "10 error #7 UNDELIVERED"},
    };
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        put_send(stage, 7, "bob", "hi");
        stage_play(stage, 10);
        stage_result(stage, 7, 1, rows[i].code);
        EXPECT(stage, rows[i].line);
    }
}

static void an_id_in_flight_twice_is_a_protocol_error(void **state)
{
    const char *const receivers[] = {"bob", "not a name"};
    for (size_t i = 0; i < 2; i++) {
        struct stage *stage = *state;
        stage_login(stage, 10, true);
        put_send(stage, 7, "bob", "one");
        put_send(stage, 7, receivers[i], "two");
        put_send(stage, 8, "bob", "three");
        stage_play(stage, 10);
        EXPECT(stage, "forward bob deliver #7 from=ann 'one'", "10 error #7 PROTOCOL",
               "10 close PROTOCOL_ERROR", "10 release", "10 consumed",
               i == 0 ? "store DETACH DETACHED PROTOCOL epoch=1 until=5060000"
                      : "store DETACH DETACHED PROTOCOL epoch=2 until=5060000");
        stage_commit(stage, 0);
    }
}

static void requests_in_flight_are_limited(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage->limits.limits_turn_messages = 100;
    for (uint64_t id = 1; id <= stage->settings.requests_max; id++)
        put_send(stage, id, "bob", "hi");
    stage_play(stage, 10);
    assert_int_equal(requests_count(stage->session.requests), stage->settings.requests_max);
    put_send(stage, 99, "bob", "one too many");
    put_send(stage, 0, "bob", "needs no memory");
    stage_play(stage, 10);
    EXPECT(stage, "10 error #99 BUSY retry=100", "forward bob deliver from=ann 'needs no memory'",
           "10 consumed");
    stage_result(stage, 1, 1, 0);
    put_send(stage, 99, "bob", "now");
    stage_play(stage, 10);
    EXPECT(stage, "forward bob deliver #99 from=ann 'now'", "10 consumed");
}

static void a_result_for_an_older_epoch_is_dropped(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_send(stage, 7, "bob", "hi");
    stage_play(stage, 10);
    stage_login(stage, 20, true);
    assert_null(stage->session.requests);
    put_send(stage, 7, "bob", "under the same id");
    stage_play(stage, 20);
    stage_result(stage, 7, 1, USHER__V1__ERROR__CODE__NOT_ONLINE);
    EXPECT_NOTHING(stage);
    stage_result(stage, 7, 2, 0);
    EXPECT(stage, "20 done #7 epoch=33");
}

static void an_answer_waits_for_a_resume(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_send(stage, 7, "bob", "a");
    put_send(stage, 8, "bob", "b");
    stage_play(stage, 10);
    stage_deliver(stage, 5, "one");
    stage_detach(stage);
    stage_result(stage, 7, 1, 0);
    EXPECT_NOTHING(stage);
    stage_result(stage, 8, 1, USHER__V1__ERROR__CODE__NOT_ONLINE);
    EXPECT_NOTHING(stage);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1",
           "20 message 1 from=bob 'one' again", "20 done #7 epoch=33", "20 error #8 NOT_ONLINE");
    stage_resume(stage, 30, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 close STALE_SESSION do_not_return", "20 release", "30 welcomed",
           "30 welcome #1 epoch=1 COMPLETE next=1", "30 message 1 from=bob 'one' again");
}

static void a_kept_answer_is_not_for_the_next_epoch(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_send(stage, 7, "bob", "a");
    stage_play(stage, 10);
    stage_detach(stage);
    stage_result(stage, 7, 1, 0);
    stage_login(stage, 20, true);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=2 FRESH next=1");
    stage_detach(stage);
    stage_resume(stage, 30, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "30 welcomed", "30 welcome #1 epoch=2 COMPLETE next=1");
}

/* A Done of these ids is 7 bytes. */
static void kept_answers_are_limited(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage->limits.limits_inbox_bytes = 14;
    put_send(stage, 7, "bob", "a");
    put_send(stage, 8, "bob", "b");
    put_send(stage, 9, "bob", "c");
    stage_play(stage, 10);
    stage_detach(stage);
    stage_result(stage, 7, 1, 0);
    stage_result(stage, 8, 1, 0);
    COUNTED(stage, replies_late, 0);
    stage_result(stage, 9, 1, 0);
    COUNTED(stage, replies_late, 1);
    assert_null(stage->session.requests);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1", "20 done #7 epoch=33",
           "20 done #8 epoch=33");
}

/* --- ann receives ----------------------------------------------------------------------------- */

static void accepted_is_answered_at_once_delivered_with_the_ack(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver(stage, 5, "one");
    EXPECT(stage, "to 901 result #5 OK epoch=1 asker=9", "10 message 1 from=bob 'one'");
    stage_deliver_until(stage, 6, "two");
    EXPECT(stage, "10 message 2 from=bob 'two'");
    stage_deliver_until(stage, 7, "three");
    stage_deliver_until(stage, 0, "nobody asks");
    EXPECT(stage, "10 message 4 from=bob 'nobody asks'");
    put_ack(stage, 2);
    stage_play(stage, 10);
    EXPECT(stage, "to 901 result #6 OK epoch=1 asker=9", "10 consumed");
    put_ack(stage, 1); /* lower than before: ignored */
    put_ack(stage, 4);
    stage_play(stage, 10);
    EXPECT(stage, "to 901 result #7 OK epoch=1 asker=9", "10 consumed");
    assert_null(stage->session.inbox);
    COUNTED(stage, messages_accepted, 4);
    COUNTED(stage, messages_delivered, 4);
    COUNTED(stage, messages_redelivered, 0);
}

static void without_acks_delivered_means_handed_to_the_socket(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, false);
    stage_deliver_until(stage, 6, "one");
    EXPECT(stage, "10 message 1 from=bob 'one'", "to 901 result #6 OK epoch=1 asker=9");
    assert_null(stage->session.inbox);
    stage_detach(stage);
    stage_deliver_until(stage, 7, "two");
    EXPECT_NOTHING(stage);
    stage_deliver(stage, 8, "three");
    EXPECT(stage, "to 901 result #8 OK epoch=1 asker=9");
    assert_int_equal(stage->session.inbox->count, 2);
}

static void the_inbox_takes_n_messages(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    for (uint64_t i = 1; i <= stage->limits.limits_inbox_messages; i++)
        stage_deliver(stage, i, "m");
    EXPECT(stage, "to 901 result #4 OK epoch=1 asker=9", "10 message 4 from=bob 'm'");
    stage_deliver(stage, 5, "m");
    EXPECT(stage, "to 901 result #5 INBOX_FULL epoch=0 asker=9");
    COUNTED(stage, inbox_full, 1);
    put_ack(stage, 1);
    stage_play(stage, 10);
    stage_deliver(stage, 6, "m"); /* the refused one left no gap */
    EXPECT(stage, "to 901 result #6 OK epoch=1 asker=9", "10 message 5 from=bob 'm'");
}

static void deliver_bytes(struct stage *stage, uint64_t request, size_t size)
{
    uint8_t *payload = calloc(1, size + 1);
    assert_non_null(payload);
    struct deliver_message *message =
        deliver_create(bytes_of_text("bob"), (struct bytes){payload, size});
    assert_non_null(message);
    free(payload);
    message->sender = OTHER;
    message->request = request;
    message->arrived_ms = stage->now_ms;
    stage_receive(stage, &message->header);
}

static void the_inbox_takes_n_bytes(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_detach(stage);
    deliver_bytes(stage, 1, 100); /* the name counts: 103 */
    deliver_bytes(stage, 2, 95);
    EXPECT(stage, "to 901 result #2 INBOX_FULL epoch=0");
    deliver_bytes(stage, 3, 94);
    EXPECT(stage, "to 901 result #3 OK epoch=1");
    assert_int_equal(stage->session.inbox->bytes, stage->limits.limits_inbox_bytes);
    deliver_bytes(stage, 4, 0);
    EXPECT(stage, "to 901 result #4 INBOX_FULL epoch=0");
}

/* Also an empty inbox has its limit. */
static void the_inbox_takes_no_message_larger_than_itself(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    deliver_bytes(stage, 1, stage->limits.limits_inbox_bytes - 3 + 1);
    EXPECT(stage,
           "to 901 result #1 TOO_LARGE epoch=0"); /* and no INBOX_FULL: waiting never helps */
    deliver_bytes(stage, 2, stage->limits.limits_inbox_bytes - 3);
    EXPECT(stage, "to 901 result #2 OK epoch=1", "10 message 1 from=bob <197 bytes>");
}

/* Nothing is kept, so the inbox has no say. */
static void without_acks_a_bound_connection_takes_all(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, false);
    for (uint64_t i = 1; i <= stage->limits.limits_inbox_messages + 3u; i++)
        deliver_bytes(stage, i, 300);
    EXPECT(stage, "to 901 result #7 OK epoch=1", "10 message 7 from=bob <300 bytes>");
    COUNTED(stage, inbox_full, 0);
}

static void a_message_must_fit_a_frame(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage->limits.limits_inbox_bytes = 1 << 20;
    /* As it would be sent: seq 1, redelivered; its length is counted with it. */
    struct message_fields fields = {.seq = 1, .from = bytes_of_text("bob"), .redelivered = true};
    uint8_t payload[1024] = {0};
    fields.payload = (struct bytes){payload, 900};
    size_t size = 900 + stage->limits.limits_frame_bytes - broker_frame_message_size(&fields);
    deliver_bytes(stage, 1, size + 1);
    EXPECT(stage, "to 901 result #1 TOO_LARGE epoch=0");
    COUNTED(stage, errors_too_large, 1);
    deliver_bytes(stage, 2, size);
    assert_non_null(strstr(stage->tape, "10 message 1 from=bob <"));
}

#define PARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static void a_traceparent_goes_with_a_message_if_it_is_one(void **state)
{
    struct stage *stage = *state;
    Usher__V1__Send send = USHER__V1__SEND__INIT;
    stage_login(stage, 10, true);
    send.to = (char *)"bob";
    send.traceparent = (char *)PARENT;
    put_send_of(stage, 7, &send);
    stage_play(stage, 10);
    EXPECT(stage, "forward bob deliver #7 from=ann '' trace=" PARENT, "10 consumed");
    send.traceparent = (char *)PARENT "1";
    put_send_of(stage, 8, &send);
    stage_play(stage, 10);
    EXPECT(stage, "forward bob deliver #8 from=ann ''", "10 consumed");
    COUNTED(stage, traceparents_invalid, 1);
}

/* At once, kept and come again, and restored as a message of its own; its bytes are in the book of
 * the inbox, and of the frame. */
static void a_traceparent_stays_with_its_message(void **state)
{
    struct stage *stage = *state;
    struct bytes parent = bytes_of_text(PARENT);
    stage_login(stage, 10, true);
    struct deliver_message *message =
        deliver_create_traced(bytes_of_text("bob"), bytes_of_text("hi"), parent);
    message->arrived_ms = stage->now_ms;
    stage_receive(stage, &message->header);
    EXPECT(stage, "10 message 1 from=bob 'hi' trace=" PARENT);
    assert_int_equal(stage->session.inbox->bytes, strlen("bobhi") + parent.size);
    stage_detach(stage);
    stage_resume(stage, 30, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "30 welcomed", "30 welcome #1 epoch=1 COMPLETE next=1",
           "30 message 1 from=bob 'hi' again trace=" PARENT);
    /* Beside the longest name it is more than what is left for all that is no payload. */
    char name[64];
    memset(name, 'b', sizeof(name));
    struct message_fields fields = {.seq = 2,
                                    .from = {(const uint8_t *)name, sizeof(name)},
                                    .time_ms = UINT64_C(1) << 50,
                                    .redelivered = true,
                                    .traceparent = parent};
    uint8_t payload[1024] = {0};
    fields.payload = (struct bytes){payload, 800};
    stage->limits.limits_inbox_bytes = 1 << 20;
    fields.payload.size +=
        stage->limits.limits_frame_bytes - broker_frame_message_size(&fields) + 1;
    assert_true(fields.payload.size + 128 <= stage->limits.limits_frame_bytes);
    message = deliver_create_traced(fields.from, fields.payload, parent);
    message->time_ms = fields.time_ms;
    message->sender = OTHER;
    message->request = 1;
    stage_receive(stage, &message->header);
    EXPECT(stage, "to 901 result #1 TOO_LARGE epoch=0");
}

static void a_push_is_for_one_epoch_or_any(void **state)
{
    static const struct {
        uint64_t wanted;
        const char *line;
    } rows[] = {{1, "to 901 result #5 STALE_EPOCH epoch=0"},
                {3, "to 901 result #5 STALE_EPOCH epoch=0"},
                {2, "to 901 result #5 OK epoch=2"},
                {0, "to 901 result #5 OK epoch=2"}};
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_login(stage, 20, true);
    stage_detach(stage);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct deliver_message *message = deliver_from_bob(stage, 5, "hi");
        message->sender_epoch = 0;
        message->epoch_wanted = rows[i].wanted;
        stage_receive(stage, &message->header);
        EXPECT(stage, rows[i].line);
    }
}

static void a_push_names_its_service(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    struct deliver_message *message = deliver_create(bytes_of_text("shop"), bytes_of_text("sale"));
    message->from_service = true;
    message->arrived_ms = stage->now_ms;
    stage_receive(stage, &message->header);
    EXPECT(stage, "10 message 1 service=shop 'sale'");
}

/* What many share reads like what one gets, also when it is kept, comes again and is acknowledged.
 */
static void a_push_to_many_reads_the_same(void **state)
{
    struct stage *stage = *state;
    struct push_run run;
    stage_login(stage, 10, true);
    struct push push = {bytes_of_text("shop"), bytes_of_text("sale"), false, bytes_of_text(PARENT)};
    assert_int_equal(push_begin(&run, push, stage->wall_ms, stage->now_ms, 1000), 0);
    stage_receive(stage, &push_next(&run)->header);
    EXPECT(stage, "10 message 1 service=shop 'sale' trace=" PARENT);
    stage_detach(stage);
    stage_receive(stage, &push_next(&run)->header);
    push_end(&run);
    EXPECT_NOTHING(stage);
    assert_int_equal(stage->session.inbox->count, 2);
    assert_int_equal(stage->session.inbox->bytes, 2 * strlen("shopsale" PARENT));
    stage_resume(stage, 30, 0);
    EXPECT(stage, "store RESUME RESUMED UNKNOWN epoch=1");
    stage_commit(stage, 0);
    EXPECT(stage, "30 welcomed", "30 welcome #1 epoch=1 COMPLETE next=1",
           "30 message 1 service=shop 'sale' again trace=" PARENT,
           "30 message 2 service=shop 'sale' trace=" PARENT);
    put_ack(stage, 2);
    stage_play(stage, 30);
    assert_null(stage->session.inbox);
}

static struct message *bundle_of(struct stage *stage, const char *first, const char *second)
{
    struct push pushes[] = {{bytes_of_text("shop"), bytes_of_text(first), false, {0}},
                            {bytes_of_text("shop"), bytes_of_text(second), false, {0}}};
    struct push_run run;
    assert_int_equal(push_begin_bundle(&run, pushes, 2, stage->wall_ms, stage->now_ms, 1000), 0);
    struct message *message = &push_next_bundle(&run)->header;
    push_end(&run);
    return message;
}

static void a_bundle_is_several_messages(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, false);
    stage_receive(stage, bundle_of(stage, "sale", "sold"));
    EXPECT(stage, "10 message 1 service=shop 'sale'", "10 message 2 service=shop 'sold'");
    stage_receive(stage, bundle_of(stage, "", "late"));
    EXPECT(stage, "10 message 3 service=shop ''", "10 message 4 service=shop 'late'");
    assert_null(stage->session.inbox);
    COUNTED(stage, messages_accepted, 4);
    COUNTED(stage, messages_delivered, 4);
}

/* With acks each stands in the inbox and is acknowledged by itself; so it is without a connection.
 */
static void what_a_bundle_brings_is_kept_one_by_one(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_receive(stage, bundle_of(stage, "one", "two"));
    EXPECT(stage, "10 message 1 service=shop 'one'", "10 message 2 service=shop 'two'");
    put_ack(stage, 1);
    stage_play(stage, 10);
    EXPECT(stage, "10 consumed");
    assert_int_equal(stage->session.inbox->count, 1);
    stage_detach(stage);
    stage_receive(stage, bundle_of(stage, "three", "four"));
    EXPECT_NOTHING(stage);
    assert_int_equal(stage->session.inbox->count, 3);
    assert_int_equal(stage->session.inbox->bytes, strlen("shoptwo"
                                                         "shopthree"
                                                         "shopfour"));
    stage_resume(stage, 30, 2);
    EXPECT(stage, "store RESUME RESUMED UNKNOWN epoch=1");
    stage_commit(stage, 0);
    EXPECT(stage, "30 welcomed", "30 welcome #1 epoch=1 COMPLETE next=3",
           "30 message 3 service=shop 'three'", "30 message 4 service=shop 'four'");
}

static void a_full_inbox_takes_the_beginning_of_a_bundle(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_inbox_messages = 3;
    stage_login(stage, 10, true);
    stage_receive(stage, bundle_of(stage, "one", "two"));
    EXPECT(stage, "10 message 1 service=shop 'one'", "10 message 2 service=shop 'two'");
    stage_receive(stage, bundle_of(stage, "three", "four"));
    EXPECT(stage, "10 message 3 service=shop 'three'");
    COUNTED(stage, messages_accepted, 3);
    COUNTED(stage, messages_refused, 1);
    COUNTED(stage, inbox_full, 1);
}

static void each_of_a_bundle_fits_a_frame_or_is_refused(void **state)
{
    struct stage *stage = *state;
    char large[4096];
    stage_login(stage, 10, false);
    memset(large, 'x', sizeof(large));
    large[stage->limits.limits_frame_bytes] = '\0';
    stage_receive(stage, bundle_of(stage, large, "small"));
    EXPECT(stage, "10 message 1 service=shop 'small'");
    COUNTED(stage, errors_too_large, 1);
    COUNTED(stage, messages_refused, 1);
}

/* Half of what all may hold is held: players wait for those who do not read, services do not, and
 * who reads gets his messages. */
static void half_of_the_memory_is_not_for_those_who_do_not_read(void **state)
{
    enum { BUDGET_BYTES = 64 << 20 };
    struct stage *stage = *state;
    stage->limits.limits_inbox_bytes = 1 << 20;
    stage->limits.limits_memory_bytes = BUDGET_BYTES;
    memory_open(&stage->limits, NULL, stage->metrics);
    memory_account(MEMORY_OF_OWN, BUDGET_BYTES / 2 - (1 << 20));
    stage_login(stage, 10, true);
    stage_deliver(stage, 5, "one");
    EXPECT(stage, "to 901 result #5 OK epoch=1 asker=9", "10 message 1 from=bob 'one'");
    memory_account(MEMORY_OF_OWN, 2 << 20);
    stage_deliver(stage, 6, "two");
    EXPECT(stage, "to 901 result #6 OK epoch=1 asker=9", "10 message 2 from=bob 'two'");
    stage_detach(stage);
    stage_deliver(stage, 7, "three");
    EXPECT(stage, "to 901 result #7 BUSY epoch=0 asker=9");
    stage_receive(stage, bundle_of(stage, "four", "five"));
    EXPECT_NOTHING(stage);
    COUNTED(stage, inbox_memory_full, 1);
    assert_int_equal(stage->session.inbox->count, 4);
    memory_account(MEMORY_OF_OWN, -(2 << 20));
    stage_deliver(stage, 8, "six");
    EXPECT(stage, "to 901 result #8 OK epoch=1 asker=9");
    memory_account(MEMORY_OF_OWN, -(BUDGET_BYTES / 2 - (1 << 20)));
    memory_close();
}

static void a_bundle_for_somebody_gone_is_refused(void **state)
{
    struct stage *stage = *state;
    bounce(bundle_of(stage, "one", "two"), &stage->turn);
    COUNTED(stage, messages_refused, 2);
}

/* Accepted was the final answer. When the message is given up later, nobody may be told again: the
 * id may name another Send by then, or the command that a Push was may have ended. */
static void an_accepted_message_is_answered_once(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_detach(stage);
    stage_deliver(stage, 5, "one");
    EXPECT(stage, "to 901 result #5 OK epoch=1 asker=9");
    stage->timer_ms = STAGE_NOW_MS + stage->limits.limits_inbox_age_ms;
    stage_tick(stage, 0);
    EXPECT_NOTHING(stage);
    stage_deliver(stage, 6, "two");
    stage_receive(stage, &kick_create(0)->header);
    stage_commit(stage, 0);
    EXPECT(stage, "to 901 result #44 OK epoch=1", "retire");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        stage_test(a_send_goes_to_the_receiver_by_name),
        stage_test(a_name_that_cannot_be_is_refused),
        stage_test(every_refusal_has_its_answer),
        stage_test(an_id_in_flight_twice_is_a_protocol_error),
        stage_test(requests_in_flight_are_limited),
        stage_test(a_result_for_an_older_epoch_is_dropped),
        stage_test(an_answer_waits_for_a_resume),
        stage_test(a_kept_answer_is_not_for_the_next_epoch),
        stage_test(kept_answers_are_limited),
        stage_test(accepted_is_answered_at_once_delivered_with_the_ack),
        stage_test(without_acks_delivered_means_handed_to_the_socket),
        stage_test(the_inbox_takes_n_messages),
        stage_test(the_inbox_takes_n_bytes),
        stage_test(the_inbox_takes_no_message_larger_than_itself),
        stage_test(without_acks_a_bound_connection_takes_all),
        stage_test(a_message_must_fit_a_frame),
        stage_test(a_traceparent_goes_with_a_message_if_it_is_one),
        stage_test(a_traceparent_stays_with_its_message),
        stage_test(a_push_is_for_one_epoch_or_any),
        stage_test(a_push_names_its_service),
        stage_test(a_push_to_many_reads_the_same),
        stage_test(a_bundle_is_several_messages),
        stage_test(what_a_bundle_brings_is_kept_one_by_one),
        stage_test(a_full_inbox_takes_the_beginning_of_a_bundle),
        stage_test(each_of_a_bundle_fits_a_frame_or_is_refused),
        stage_test(half_of_the_memory_is_not_for_those_who_do_not_read),
        stage_test(a_bundle_for_somebody_gone_is_refused),
        stage_test(an_accepted_message_is_answered_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
