/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/bounce.h"
#include "actors/push.h"
#include "actors/user_call.h"
#include "unit/actors/stage_user.h"
#include "user/shelf.h"

/* Messages with keep_s: nobody's before they are on the disk, then in order, and from the disk in
 * windows when there was no room. The inbox of the stage has 4 places and 200 bytes. */

static struct deliver_message *to_store(struct stage *stage, uint64_t request, const char *payload)
{
    struct deliver_message *message = deliver_from_bob(stage, request, payload);
    message->arrived_ms = 0;
    message->keep_s = 60;
    return message;
}

static void store(struct stage *stage, uint64_t request, const char *payload)
{
    stage_receive(stage, &to_store(stage, request, payload)->header);
}

/* All of the change are on the disk; the first one's mid. */
static void synced(struct stage *stage, uint64_t mid)
{
    assert_non_null(stage->change);
    assert_int_equal(stage->change->kind, CHANGE_STORE);
    for (struct deliver_message *message = stage->change->stored; message != NULL;
         message = (struct deliver_message *)message->header.next)
        message->mid = mid++;
    stage_commit(stage, 0);
}

/* The window that was asked for has these mids, each one's payload being its number. */
static void read_window(struct stage *stage, uint64_t first, uint64_t last, bool more)
{
    struct change *change = stage->change;
    assert_non_null(change);
    assert_int_equal(change->kind, CHANGE_WINDOW);
    struct message_list list = {0};
    for (uint64_t mid = first; mid <= last; mid++) {
        char payload[24];
        snprintf(payload, sizeof(payload), "%llu", (unsigned long long)mid);
        struct deliver_message *message =
            deliver_create(bytes_of_text("bob"), bytes_of_text(payload));
        message->mid = mid;
        message_append(&list, &message->header);
    }
    change->stored = (struct deliver_message *)list.first;
    change->more = more;
    stage_commit(stage, 0);
}

static void ack(struct stage *stage, uint64_t seq)
{
    put_ack(stage, seq);
    stage_play(stage, 10);
}

/* --- the sender ------------------------------------------------------------------------------- */

static void what_is_to_be_stored_goes_as_any_message(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_stored(stage, 7, "bob", "hi", 60, 5);
    put_stored(stage, 8, "bob", "at most", 1000, 0);
    stage_play(stage, 10);
    EXPECT(stage, "forward bob deliver #7 from=ann 'hi' keep=60 tag=5",
           "forward bob deliver #8 from=ann 'at most' keep=1000 tag=0", "10 consumed");
}

static void what_cannot_be_kept_so_is_refused(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    Usher__V1__Send send = USHER__V1__SEND__INIT;
    send.to = (char *)"bob";
    send.keep_s = 1;
    send.transient = true;
    put_send_of(stage, 1, &send);
    send.transient = false;
    send.until = USHER__V1__SEND__UNTIL__DELIVERED;
    put_send_of(stage, 2, &send);
    put_stored(stage, 3, "bob", "", 1001, 0);
    put_stored(stage, 4, "bob", "", UINT32_MAX, 0);
    stage_play(stage, 10);
    EXPECT(stage, "10 error #1 PROTOCOL", "10 error #2 PROTOCOL", "10 error #3 TOO_LARGE",
           "10 error #4 TOO_LARGE", "10 consumed");
    assert_null(stage->session.requests);
}

static void one_player_stores_so_many_in_a_second(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_turn_messages = 10;
    stage_login(stage, 10, true);
    for (uint64_t id = 1; id <= 4; id++)
        put_stored(stage, id, "bob", "x", 60, 0);
    stage_play(stage, 10);
    EXPECT(stage, "forward bob deliver #1 from=ann 'x' keep=60 tag=0",
           "forward bob deliver #2 from=ann 'x' keep=60 tag=0",
           "forward bob deliver #3 from=ann 'x' keep=60 tag=0",
           "10 error #4 RATE_LIMITED retry=334", "10 consumed");
    COUNTED(stage, stored_refused_rate, 1);
    stage->limits.inbox_stored_per_second = 0;
    put_stored(stage, 5, "bob", "y", 60, 0);
    stage_play(stage, 10);
    EXPECT(stage, "forward bob deliver #5 from=ann 'y' keep=60 tag=0", "10 consumed");
}

static void result_of_stored(struct stage *stage, uint64_t request, uint64_t epoch, uint64_t mid)
{
    struct result_message *result = message_create(MESSAGE_RESULT, sizeof(*result));
    result->request = request;
    result->asker_epoch = stage->session.epoch;
    result->epoch = epoch;
    result->offset = 0;
    result->mid = mid;
    result->code = 0;
    stage_receive(stage, &result->header);
}

static void done_says_the_mid(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_stored(stage, 7, "bob", "hi", 60, 5);
    stage_play(stage, 10);
    result_of_stored(stage, 7, 33, 4711);
    EXPECT(stage, "10 done #7 epoch=33 mid=4711");
}

/* Two for users who are away, and then none for such until one is given back. */
static void so_many_for_those_who_are_away(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    for (uint64_t id = 1; id <= 3; id++) {
        stage->now_ms += 1000;
        put_stored(stage, id, "bob", "x", 60, 0);
        stage_play(stage, 10);
        EXPECT(stage,
               id == 1   ? "forward bob deliver #1 from=ann 'x' keep=60 tag=0"
               : id == 2 ? "forward bob deliver #2 from=ann 'x' keep=60 tag=0"
                         : "forward bob deliver #3 from=ann 'x' keep=60 tag=0 for_present",
               "10 consumed");
        result_of_stored(stage, id, 0, 50 + id);
    }
    stage->now_ms += 3600 * 1000;
    put_stored(stage, 4, "bob", "x", 60, 0);
    stage_play(stage, 10);
    EXPECT(stage, "forward bob deliver #4 from=ann 'x' keep=60 tag=0", "10 consumed");
}

/* --- the receiver: to the disk ---------------------------------------------------------------- */

static void nobody_sees_it_before_it_is_synced(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    store(stage, 7, "gift");
    EXPECT(stage, "store 'gift'");
    synced(stage, 100);
    EXPECT(stage, "to 901 result #7 OK epoch=1 asker=9 mid=100",
           "10 message 1 from=bob 'gift' mid=100");
    stage_deliver(stage, 8, "then");
    EXPECT(stage, "to 901 result #8 OK epoch=1 asker=9", "10 message 2 from=bob 'then'");
    ack(stage, 2);
    EXPECT(stage, "done up to 100", "10 consumed");
    ack(stage, 2);
    EXPECT(stage, "10 consumed");
    assert_null(stage->session.inbox);
}

static void a_store_that_fails_refuses_it(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    store(stage, 7, "gift");
    stage_commit(stage, -5);
    EXPECT(stage, "to 901 result #7 UNAVAILABLE epoch=0 asker=9");
    store(stage, 8, "gift");
    stage->change->stored->refusal = USHER__V1__ERROR__CODE__INBOX_FULL;
    stage_commit(stage, 0);
    EXPECT(stage, "to 901 result #8 INBOX_FULL epoch=0 asker=9");
    assert_null(stage->session.inbox);
}

static void a_repeated_one_has_the_mid_of_the_first(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    store(stage, 7, "gift");
    stage->change->stored->repeated = true;
    synced(stage, 60);
    EXPECT(stage, "to 901 result #7 OK epoch=1 asker=9 mid=60");
    assert_null(stage->session.inbox);
}

static void those_that_follow_each_other_are_one_change(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    struct deliver_message *first = to_store(stage, 7, "one");
    struct deliver_message *second = to_store(stage, 8, "two");
    struct deliver_message *third = deliver_from_bob(stage, 9, "three");
    stage_begin(stage);
    assert_false(shelf_joins(&stage->turn, &second->header));
    user_receive(&stage->session, &first->header, &stage->turn);
    assert_true(shelf_joins(&stage->turn, &second->header));
    assert_false(shelf_joins(&stage->turn, &third->header));
    user_receive(&stage->session, &second->header, &stage->turn);
    stage_end(stage);
    EXPECT(stage, "store 'one' 'two'");
    synced(stage, 100);
    EXPECT(stage, "to 901 result #7 OK epoch=1 asker=9 mid=100",
           "10 message 1 from=bob 'one' mid=100", "to 901 result #8 OK epoch=1 asker=9 mid=101",
           "10 message 2 from=bob 'two' mid=101");
    message_destroy(&third->header);
}

static void what_nobody_could_ever_get_is_too_large(void **state)
{
    char longest[201];
    memset(longest, 'l', sizeof(longest));
    longest[198] = '\0';
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    store(stage, 7, longest); /* and bob: 201 */
    EXPECT(stage, "to 901 result #7 TOO_LARGE epoch=0 asker=9");
    longest[197] = '\0';
    store(stage, 8, longest);
    EXPECT(stage, "store <197 bytes>");
}

/* --- who is away ------------------------------------------------------------------------------ */

static void a_player_stores_nothing_for_who_is_away(void **state)
{
    struct stage *stage = *state;
    store(stage, 7, "gift");
    EXPECT(stage, "to 901 result #7 NOT_ONLINE epoch=0 asker=9", "retire");
    stage->settings.stored_for_away = true;
    struct deliver_message *message = to_store(stage, 8, "too many");
    message->for_present = true;
    stage_receive(stage, &message->header);
    EXPECT(stage, "to 901 result #8 RATE_LIMITED epoch=0 asker=9", "retire");
    COUNTED(stage, stored_refused_rate, 1);
    store(stage, 9, "gift");
    EXPECT(stage, "store away 'gift'");
    synced(stage, 100);
    EXPECT(stage, "to 901 result #9 OK epoch=0 asker=9 mid=100", "retire");
}

static void a_service_stores_for_who_is_away_and_another_hears_of_it(void **state)
{
    struct stage *stage = *state;
    stage->settings.stored_service = "phones";
    struct deliver_message *message = to_store(stage, 8, "gift");
    message->from_service = true;
    stage_receive(stage, &message->header);
    EXPECT(stage, "store away 'gift'");
    stage->change->stored_count = 3;
    struct change *change = stage->change;
    change->stored->mid = 100;
    stage->change = NULL;
    stage_begin(stage);
    user_committed(&stage->session, change, &stage->turn);
    free(change);
    assert_int_equal(stage->turn.count, 2);
    const struct user_call_message *mail =
        (const struct user_call_message *)stage->turn.effects[1].message;
    struct stored_notice_fields notice = user_call_stored(mail);
    assert_true(bytes_equal(notice.user, bytes_of_text("ann")));
    assert_true(bytes_equal(notice.service, bytes_of_text("bob")));
    assert_int_equal(notice.from.size, 0);
    assert_int_equal(notice.mid, 100);
    assert_int_equal(notice.count, 3);
    assert_int_equal(notice.payload_bytes, 4);
    assert_int_equal(notice.time_ms, stage->wall_ms);
    assert_int_equal(mail->call, 0);
    stage_end(stage);
}

static void one_that_bounces_may_come_again(void **state)
{
    struct stage *stage = *state;
    stage_begin(stage);
    bounce(&to_store(stage, 7, "to nobody")->header, &stage->turn);
    struct deliver_message *message = to_store(stage, 8, "a gift");
    message->from_service = true;
    bounce(&message->header, &stage->turn);
    stage_end(stage);
    EXPECT(stage, "to 901 result #7 NOT_ONLINE epoch=0 asker=9",
           "to 901 result #8 BUSY epoch=0 asker=9");
}

/* --- from the disk ---------------------------------------------------------------------------- */

/* Four fit; the rest stays on the disk, and nothing overtakes it. */
static void what_has_no_room_stays_on_the_disk(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    for (uint64_t i = 1; i <= 6; i++) {
        store(stage, 0, "x");
        synced(stage, 100 + i);
        assert_int_equal(stage->session.inbox->count, i < 4 ? i : 4);
    }
    EXPECT_NOTHING(stage);
    stage_deliver(stage, 7, "volatile");
    EXPECT(stage, "to 901 result #7 INBOX_FULL epoch=0 asker=9");
    stage_transient(stage, 8, "transient");
    EXPECT(stage, "to 901 result #8 DROPPED epoch=1 asker=9");
    ack(stage, 1);
    EXPECT(stage, "done up to 101", "10 consumed");
    ack(stage, 2); /* half of it is free */
    EXPECT(stage, "done up to 102", "10 consumed", "window after=104 n=2 bytes=192");
    read_window(stage, 105, 106, false);
    EXPECT(stage, "10 message 5 from=bob '105' mid=105", "10 message 6 from=bob '106' mid=106");
    stage_deliver(stage, 7, "volatile");
    EXPECT(stage, "to 901 result #7 INBOX_FULL epoch=0 asker=9"); /* it is full again */
    ack(stage, 6);
    EXPECT(stage, "done up to 106", "10 consumed");
    stage_deliver(stage, 9, "volatile");
    EXPECT(stage, "to 901 result #9 OK epoch=1 asker=9", "10 message 7 from=bob 'volatile'");
}

static void after_a_login_they_come_in_windows(void **state)
{
    struct stage *stage = *state;
    stage_attach(stage, 10, true);
    assert_int_equal(stage->change->last_mid, 0);
    stage->change->stored_count = 7;
    stage_commit(stage, 0);
    EXPECT(stage, "10 welcomed", "10 welcome #1 epoch=1 FRESH next=1 stored COMPLETE 7",
           "window after=0 n=4 bytes=200");
    read_window(stage, 51, 54, true);
    EXPECT(stage, "10 message 1 from=bob '51' mid=51", "10 message 2 from=bob '52' mid=52",
           "10 message 3 from=bob '53' mid=53", "10 message 4 from=bob '54' mid=54");
    ack(stage, 4);
    EXPECT(stage, "done up to 54", "10 consumed", "window after=54 n=4 bytes=200");
    read_window(stage, 55, 57, false);
    ack(stage, 7);
    EXPECT(stage, "done up to 57", "10 consumed");
}

/* He has come, and his client has had some of them. */
static void what_was_lost_is_said(void **state)
{
    struct stage *stage = *state;
    struct attach_message *attach = message_create(MESSAGE_ATTACH, sizeof(*attach));
    struct message header = attach->header;
    memset(attach, 0, sizeof(*attach));
    attach->header = header;
    attach->conn = 10;
    attach->id = 1;
    attach->acks = true;
    attach->last_mid = 40;
    strcpy(attach->user, "ann");
    stage_receive(stage, &attach->header);
    assert_int_equal(stage->change->last_mid, 40);
    stage->change->stored_lost = true;
    stage_commit(stage, 0);
    EXPECT(stage, "10 welcomed", "10 welcome #1 epoch=1 FRESH next=1 stored PARTIAL 0");
}

/* It is tried again, but not at once. */
static void a_window_may_fail(void **state)
{
    struct stage *stage = *state;
    stage_attach(stage, 10, true);
    stage->change->stored_count = 1;
    stage_commit(stage, 0);
    stage_commit(stage, -5);
    EXPECT_NOTHING(stage);
    assert_true(shelf_waits(&stage->session));
    assert_int_equal(stage->timer_ms, stage->now_ms + 1000);
    stage->now_ms += 1000;
    stage_tick(stage, 0);
    EXPECT(stage, "window after=0 n=4 bytes=200");
    read_window(stage, 1, 0, true); /* those were damaged; there are others */
    EXPECT_NOTHING(stage);
    assert_true(shelf_waits(&stage->session));
    assert_int_equal(stage->timer_ms, stage->now_ms + 1000);
    stage_tick(stage, 0);
    read_window(stage, 1, 0, false);
    assert_false(shelf_waits(&stage->session));
}

/* What has come with an earlier window, or of itself, does not come again. */
static void a_window_repeats_nothing(void **state)
{
    struct stage *stage = *state;
    stage_attach(stage, 10, true);
    stage->change->stored_count = 2;
    stage_commit(stage, 0);
    read_window(stage, 51, 52, false);
    stage_detach(stage);
    stage_resume(stage, 20, 0);
    stage->change->stored_count = 2;
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1 stored COMPLETE 2",
           "20 message 1 from=bob '51' again mid=51", "20 message 2 from=bob '52' again mid=52",
           "window after=52 n=2 bytes=190");
    read_window(stage, 50, 53, false);
    EXPECT(stage, "20 message 3 from=bob '53' mid=53");
}

/* The next login gets what the last one's client did not process, with the same mids. */
static void a_takeover_inherits_them(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    store(stage, 0, "one");
    synced(stage, 51);
    store(stage, 0, "two");
    synced(stage, 52);
    stage_attach(stage, 20, true);
    stage->change->last_mid = 51; /* as its Login says */
    stage->change->stored_count = 1;
    stage_commit(stage, 0);
    EXPECT(stage, "10 close REPLACED do_not_return", "10 release", "20 welcomed",
           "20 welcome #1 epoch=2 FRESH next=1 stored COMPLETE 1",
           "20 message 1 from=bob 'two' again mid=52", "window after=52 n=3 bytes=194");
    read_window(stage, 1, 0, false);
}

static void without_acks_it_is_done_with_the_socket(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, false);
    store(stage, 7, "gift");
    synced(stage, 51);
    EXPECT(stage, "to 901 result #7 OK epoch=1 asker=9 mid=51",
           "10 message 1 from=bob 'gift' mid=51", "done up to 51");
    stage_detach(stage);
    store(stage, 8, "while away");
    synced(stage, 52);
    EXPECT(stage, "to 901 result #8 OK epoch=1 asker=9 mid=52");
    stage_resume(stage, 20, 1);
    stage->change->stored_count = 1;
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=2 stored COMPLETE 1",
           "20 message 2 from=bob 'while away' mid=52", "done up to 52",
           "window after=52 n=4 bytes=200");
    read_window(stage, 1, 0, false);
}

/* It is on the disk: no age gives it up, and no tick is asked for it. */
static void it_does_not_age(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    store(stage, 0, "gift");
    synced(stage, 51);
    stage_deliver(stage, 6, "volatile");
    assert_int_equal(stage->timer_ms, 0);
    stage->now_ms += 10 * stage->limits.limits_inbox_age_ms;
    stage_bare(stage, MESSAGE_TICK);
    EXPECT_NOTHING(stage);
    assert_int_equal(stage->session.inbox->count, 2);
    ack(stage, 1); /* and then what stood behind it has its age */
    EXPECT(stage, "done up to 51", "10 consumed");
    assert_true(stage->timer_ms <= stage->now_ms);
    stage_bare(stage, MESSAGE_TICK);
    assert_null(stage->session.inbox);
}

/* The end of a session says nothing to the disk. */
static void the_end_of_a_session_is_not_done(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    store(stage, 0, "gift");
    synced(stage, 51);
    stage_receive(stage, &kick_create(0)->header);
    stage_commit(stage, 0);
    EXPECT(stage, "to 901 result #44 OK epoch=1", "10 close KICKED retry=500 do_not_return",
           "10 release", "retire");
    COUNTED(stage, messages_refused, 0);
    COUNTED(stage, stored_delivered, 1);
}

static void a_shared_payload_has_each_ones_mid(void **state)
{
    struct stage *stage = *state;
    struct push_run run;
    stage_login(stage, 10, true);
    assert_int_equal(push_begin(&run,
                                (struct push){.service = bytes_of_text("shop"),
                                              .payload = bytes_of_text("sale")},
                                stage->wall_ms, stage->now_ms, 3),
                     0);
    push_store(&run, 60, 9);
    struct deliver_message *message = push_next(&run);
    push_end(&run);
    message->sender = OTHER;
    message->request = 7;
    assert_int_equal(message->tag, 9);
    stage_receive(stage, &message->header);
    EXPECT(stage, "store 'sale'");
    synced(stage, 51);
    EXPECT(stage, "to 901 result #7 OK epoch=1 mid=51", "10 message 1 service=shop 'sale' mid=51");
    ack(stage, 1);
    EXPECT(stage, "done up to 51", "10 consumed");
}

/* While the broker stops nothing is read for a connection that is about to go. */
static void a_stop_asks_for_no_window(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    for (uint64_t i = 1; i <= 5; i++) {
        store(stage, 0, "x");
        synced(stage, 100 + i);
    }
    struct stop_message *stop = message_create(MESSAGE_STOP, sizeof(*stop));
    stop->retry_after_ms = 0;
    stop->why = "a stop";
    stop->later = true;
    stage_receive(stage, &stop->header);
    ack(stage, 4);
    EXPECT(stage, "done up to 104", "10 consumed");
    store(stage, 7, "late");
    synced(stage, 106);
    EXPECT(stage, "to 901 result #7 OK epoch=1 asker=9 mid=106");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        stage_test(what_is_to_be_stored_goes_as_any_message),
        stage_test(what_cannot_be_kept_so_is_refused),
        stage_test(one_player_stores_so_many_in_a_second),
        stage_test(done_says_the_mid),
        stage_test(so_many_for_those_who_are_away),
        stage_test(nobody_sees_it_before_it_is_synced),
        stage_test(a_store_that_fails_refuses_it),
        stage_test(a_repeated_one_has_the_mid_of_the_first),
        stage_test(those_that_follow_each_other_are_one_change),
        stage_test(what_nobody_could_ever_get_is_too_large),
        stage_test(a_player_stores_nothing_for_who_is_away),
        stage_test(a_service_stores_for_who_is_away_and_another_hears_of_it),
        stage_test(one_that_bounces_may_come_again),
        stage_test(what_has_no_room_stays_on_the_disk),
        stage_test(after_a_login_they_come_in_windows),
        stage_test(what_was_lost_is_said),
        stage_test(a_window_may_fail),
        stage_test(a_window_repeats_nothing),
        stage_test(a_takeover_inherits_them),
        stage_test(without_acks_it_is_done_with_the_socket),
        stage_test(it_does_not_age),
        stage_test(the_end_of_a_session_is_not_done),
        stage_test(a_shared_payload_has_each_ones_mid),
        stage_test(a_stop_asks_for_no_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
