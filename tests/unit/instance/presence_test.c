/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/actors/stage_link.h"

/* The presence stream as one instance follows it: where it begins, its cursor, what is missed. */

static void follow(struct stage *stage, uint64_t last, uint64_t after)
{
    Usher__V1__Hello hello = hello_of(1);
    hello.presence = true;
    hello.presence_after = after;
    atomic_store(&stage->counters.presence_last, last);
    link_hello_with(stage, 50, hello);
}

static void fetch(struct stage *stage, uint64_t exchange, uint64_t presence_done)
{
    link_fetch_with(stage, exchange, fetch_of(stage, 0, presence_done));
}

static void from_now_on_means_the_next_event(void **state)
{
    struct stage *stage = *state;
    follow(stage, 7, 0);
    EXPECT(stage, "link join shop presence", "answer 50 accepted from=8");
    fetch(stage, 51, 0);
    EXPECT_NOTHING(stage);
    link_presence(stage, 9);
    EXPECT(stage, "link query presence after=7");
    link_events(stage, 8, 9);
    EXPECT(stage, "answer 51 batch {8 u8} {9 u9} last=9");
}

static void after_n_means_n_plus_1(void **state)
{
    struct stage *stage = *state;
    follow(stage, 7, 3);
    EXPECT(stage, "link join shop presence", "answer 50 accepted from=4");
    fetch(stage, 51, 3);
    EXPECT(stage, "link query presence after=3");
    link_events(stage, 4, 6); /* as many as fitted */
    EXPECT(stage, "answer 51 batch {4 u4} {5 u5} {6 u6} last=7");
    fetch(stage, 52, 6);
    EXPECT(stage, "link query presence after=6");
    link_events(stage, 7, 7);
    EXPECT(stage, "answer 52 batch {7 u7} last=7");
    fetch(stage, 53, 7);
    EXPECT_NOTHING(stage);
}

/* It has seen events that this store never had. */
static void after_more_than_there_is_means_a_reset(void **state)
{
    struct stage *stage = *state;
    follow(stage, 7, 8);
    EXPECT(stage, "link join shop presence", "answer 50 accepted from=8");
    fetch(stage, 51, 0);
    EXPECT(stage, "answer 51 batch reset last=7");
    fetch(stage, 52, 7);
    EXPECT_NOTHING(stage);
}

static void after_the_last_is_no_reset(void **state)
{
    struct stage *stage = *state;
    follow(stage, 7, 7);
    fetch(stage, 51, 7);
    EXPECT_NOTHING(stage);
}

static void who_does_not_follow_gets_nothing(void **state)
{
    struct stage *stage = *state;
    atomic_store(&stage->counters.presence_last, 7);
    link_hello(stage, 50, 1);
    fetch(stage, 51, 3);
    link_presence(stage, 9);
    EXPECT_NOTHING(stage);
    link_tick(stage, STAGE_NOW_MS + 10000);
    EXPECT(stage, "answer 51 batch last=9");
}

static void events_without_a_fetch_wait_in_the_store(void **state)
{
    struct stage *stage = *state;
    follow(stage, 7, 0);
    link_presence(stage, 8);
    link_presence(stage, 9);
    EXPECT_NOTHING(stage);
    fetch(stage, 51, 0);
    EXPECT(stage, "link query presence after=7");
}

static void one_query_at_a_time(void **state)
{
    struct stage *stage = *state;
    follow(stage, 7, 0);
    fetch(stage, 51, 0);
    link_presence(stage, 8);
    EXPECT(stage, "link query presence after=7");
    link_presence(stage, 9);
    EXPECT_NOTHING(stage);
    link_events(stage, 8, 8);
    EXPECT(stage, "answer 51 batch {8 u8} last=9");
    fetch(stage, 52, 8);
    EXPECT(stage, "link query presence after=8");
}

static void events_are_sent_again_until_the_cursor_passes_them(void **state)
{
    struct stage *stage = *state;
    follow(stage, 7, 0);
    fetch(stage, 51, 0);
    link_presence(stage, 9);
    link_events(stage, 8, 9);
    fetch(stage, 52, 0); /* the answer was lost: from memory, not from the store */
    EXPECT(stage, "answer 52 batch {8 u8} {9 u9} last=9");
    fetch(stage, 53, 8); /* the first alone is done with */
    EXPECT(stage, "answer 53 batch {9 u9} last=9");
    fetch(stage, 54, 7); /* back is no direction */
    EXPECT(stage, "answer 54 batch {9 u9} last=9");
    fetch(stage, 55, 9);
    EXPECT_NOTHING(stage);
}

static void what_the_store_no_longer_has_means_a_reset(void **state)
{
    struct stage *stage = *state;
    follow(stage, 700, 3);
    fetch(stage, 51, 3);
    EXPECT(stage, "link query presence after=3");
    link_events_of(stage, 0, 0, true, 1);
    EXPECT(stage, "answer 51 batch reset last=700");
    fetch(stage, 52, 700); /* a Snapshot was taken, true for 700 */
    EXPECT_NOTHING(stage);
    link_presence(stage, 701);
    EXPECT(stage, "link query presence after=700");
    link_events(stage, 701, 701);
    EXPECT(stage, "answer 52 batch {701 u701} last=701");
}

/* While the store was read, the cursor of another Fetch passed what is gone. */
static void a_cursor_that_has_moved_on_missed_nothing(void **state)
{
    struct stage *stage = *state;
    follow(stage, 700, 3);
    fetch(stage, 51, 3);
    EXPECT(stage, "link query presence after=3");
    fetch(stage, 52, 698);
    link_events_of(stage, 0, 0, true, 1);
    EXPECT(stage, "link query presence after=698");
    link_events(stage, 699, 700);
    EXPECT(stage, "answer 52 batch {699 u699} {700 u700} last=700");
}

/* The Batch that said so may be lost: it is said until the cursor shows that it was heard. */
static void events_that_fail(struct stage *stage)
{
    struct query_result_message *result = message_create(MESSAGE_QUERY_RESULT, sizeof(*result));
    assert_non_null(result);
    *result = (struct query_result_message){
        .header = result->header, .kind = QUERY_PRESENCE, .token = 3, .failed = true};
    link_receive(stage, &result->header);
}

/* Or the queries' thread and this actor would have nothing else to do. */
static void a_store_that_fails_is_asked_again_a_second_later(void **state)
{
    struct stage *stage = *state;
    follow(stage, 7, 3);
    fetch(stage, 51, 3);
    EXPECT(stage, "link query presence after=3");
    events_that_fail(stage);
    assert_null(strstr(stage->tape, "query"));
    link_presence(stage, 9);
    assert_null(strstr(stage->tape, "query"));
    link_tick(stage, STAGE_NOW_MS + 999);
    assert_null(strstr(stage->tape, "query"));
    link_tick(stage, STAGE_NOW_MS + 1000);
    assert_non_null(strstr(stage->tape, "link query presence after=3"));
    link_events(stage, 4, 4);
    assert_non_null(strstr(stage->tape, "batch {4 u4} last=9"));
}

static void a_reset_is_said_until_it_is_heard(void **state)
{
    struct stage *stage = *state;
    follow(stage, 700, 3);
    fetch(stage, 51, 3);
    link_events_of(stage, 0, 0, true, 1);
    EXPECT(stage, "answer 51 batch reset last=700");
    fetch(stage, 52, 3); /* as before: at once would be a loop, so with what comes next */
    EXPECT_NOTHING(stage);
    link_presence(stage, 701);
    EXPECT(stage, "link query presence after=700");
    link_events(stage, 701, 701);
    EXPECT(stage, "answer 52 batch {701 u701} reset last=701");
    fetch(stage, 53, 699); /* not there yet */
    EXPECT(stage, "answer 53 batch {701 u701} reset last=701");
    fetch(stage, 54, 701);
    EXPECT_NOTHING(stage);
    link_presence(stage, 702);
    EXPECT(stage, "link query presence after=701");
    link_events(stage, 702, 702);
    EXPECT(stage, "answer 54 batch {702 u702} last=702");
}

/* A cursor of another life of the store says nothing about this one. */
static void a_cursor_beyond_the_stream_moves_nothing(void **state)
{
    struct stage *stage = *state;
    follow(stage, 7, 5000);
    fetch(stage, 51, 5000);
    EXPECT(stage, "answer 51 batch reset last=7");
    fetch(stage, 52, 5000);
    link_presence(stage, 8);
    EXPECT(stage, "link query presence after=7");
    link_events(stage, 8, 8);
    EXPECT(stage, "answer 52 batch {8 u8} reset last=8");
}

/* Whoever begins anew with a cursor that is good has missed nothing. */
static void a_new_hello_takes_the_reset_back(void **state)
{
    struct stage *stage = *state;
    follow(stage, 7, 5000);
    fetch(stage, 51, 5000);
    EXPECT(stage, "answer 51 batch reset last=7");
    follow(stage, 7, 6);
    fetch(stage, 52, 6);
    EXPECT(stage, "link query presence after=6");
    link_events(stage, 7, 7);
    EXPECT(stage, "answer 52 batch {7 u7} last=7");
}

/* Events that stand in a result with a reset are not the next ones. */
static void events_that_leave_a_gap_are_not_sent(void **state)
{
    struct stage *stage = *state;
    follow(stage, 700, 3);
    fetch(stage, 51, 3);
    link_events_of(stage, 690, 700, true, 1);
    EXPECT(stage, "answer 51 batch reset last=700");
    fetch(stage, 52, 700);
    link_presence(stage, 703);
    EXPECT(stage, "link query presence after=700");
    link_events(stage, 702, 703); /* without a reset: not believed, asked again */
    EXPECT(stage, "link query presence after=700");
}

static void mail_and_events_share_a_batch(void **state)
{
    struct stage *stage = *state;
    follow(stage, 7, 0);
    link_call(stage, 1, "a");
    fetch(stage, 51, 0);
    EXPECT(stage, "answer 51 batch [1 a user=ann call=1 left=5000] last=7");
    link_presence(stage, 8);
    link_fetch_with(stage, 52, fetch_of(stage, 1, 0));
    link_events(stage, 8, 8);
    EXPECT(stage, "answer 52 batch {8 u8} last=8");
    link_call(stage, 2, "b");
    link_fetch_with(stage, 53, fetch_of(stage, 1, 0));
    EXPECT(stage, "answer 53 batch [2 b user=ann call=2 left=5000] {8 u8} last=8");
}

/* Large events and large mail: each gets its turn and no answer exceeds the frame. */
static void large_events_and_large_mail_take_turns(void **state)
{
    struct stage *stage = *state;
    stage->limits.link_mail_bytes = 1 << 20;
    follow(stage, 7, 0);
    fetch(stage, 51, 0);
    link_presence(stage, 27);
    link_receive(stage,
                 &call_create(stage, 1, "big", stage->limits.link_frame_bytes - 512)->header);
    EXPECT(stage, "answer 51 batch [1 big user=ann call=1 left=5000] last=27");
    link_events_of(stage, 8, 27, false, 60);
    fetch(stage, 52, 0); /* both: the mail comes first, then as many events as fit */
    assert_non_null(strstr(stage->tape, "answer 52 batch [1 big user=ann call=1 left=5000] {8 u"));
    assert_null(strstr(stage->tape, "{27 u"));
    assert_true(stage->answer_bytes <= stage->limits.link_frame_bytes);
    link_fetch_with(stage, 53, fetch_of(stage, 1, 0));
    assert_non_null(strstr(stage->tape, "answer 53 batch {8 u"));
    assert_non_null(strstr(stage->tape, "{27 u"));
}

/* One who asks for little gets little, from the same page that was read ahead. */
static void no_answer_is_larger_than_was_asked_for(void **state)
{
    struct stage *stage = *state;
    follow(stage, 7, 0);
    fetch(stage, 51, 0);
    link_presence(stage, 27);
    link_events_of(stage, 8, 27, false, 60);
    uint64_t done = 7;
    for (uint64_t exchange = 52; done < 27; exchange++) {
        Usher__V1__Fetch small = fetch_of(stage, 0, done);
        small.bytes_max = 512;
        char first[32];
        snprintf(first, sizeof(first), "batch {%llu u", (unsigned long long)done + 1);
        link_fetch_with(stage, exchange, small);
        assert_non_null(strstr(stage->tape, first));
        assert_true(stage->answer_bytes <= 512);
        uint64_t before = done;
        for (const char *at = stage->tape; (at = strchr(at, '{')) != NULL; at++)
            done++;
        assert_true(done > before + 1);
    }
    assert_int_equal(done, 27);
}

/* A new Hello sets the cursor anew; what was read for the old one does not count. */
static void a_new_hello_begins_where_it_says(void **state)
{
    struct stage *stage = *state;
    follow(stage, 7, 0);
    fetch(stage, 51, 0);
    link_presence(stage, 9);
    EXPECT(stage, "link query presence after=7");
    follow(stage, 9, 5);
    assert_non_null(strstr(stage->tape, "answer 50 accepted from=6\n"));
    link_events(stage, 8, 9); /* of the query before */
    assert_null(strstr(stage->tape, "batch"));
    fetch(stage, 52, 0);
    assert_null(strstr(stage->tape, "batch"));
    link_events(stage, 6, 9);
    EXPECT(stage, "answer 52 batch {6 u6} {7 u7} {8 u8} {9 u9} last=9");
}

static void events_read_ahead_are_dropped_by_a_new_hello(void **state)
{
    struct stage *stage = *state;
    follow(stage, 7, 0);
    fetch(stage, 51, 0);
    link_presence(stage, 9);
    link_events(stage, 8, 9);
    follow(stage, 9, 7);
    fetch(stage, 52, 7);
    EXPECT(stage, "link query presence after=7");
}

/* --- the encoding ----------------------------------------------------------------------------- */

static void a_stored_event_is_packed_whole_or_not(void **state)
{
    struct presence_event event = {.seq = 5,
                                   .time_ms = 6,
                                   .epoch = 7,
                                   .previous_epoch = 4,
                                   .until_ms = 9,
                                   .kind = 1,
                                   .cause = 2,
                                   .user = "ann",
                                   .address = "10.0.0.1:7",
                                   .client = "c"};
    uint8_t bytes[512];
    size_t size = presence_event_pack(&event, bytes, sizeof(bytes));
    Usher__V1__PresenceEvent *read = usher__v1__presence_event__unpack(NULL, size, bytes);
    assert_non_null(read);
    assert_int_equal(read->seq, 5);
    assert_int_equal(read->time_ms, 6);
    assert_int_equal(read->epoch, 7);
    assert_int_equal(read->previous_epoch, 4);
    assert_int_equal(read->until_ms, 9);
    assert_int_equal(read->kind, USHER__V1__PRESENCE_EVENT__KIND__ONLINE);
    assert_int_equal(read->cause, USHER__V1__PRESENCE_EVENT__CAUSE__TAKEOVER);
    assert_string_equal(read->user, "ann");
    assert_string_equal(read->address, "10.0.0.1:7");
    assert_string_equal(read->client, "c");
    usher__v1__presence_event__free_unpacked(read, NULL);
    assert_int_equal(presence_event_pack(&event, bytes, size), size);
    assert_int_equal(presence_event_pack(&event, bytes, size - 1), 0);
}

static void the_largest_event_fits_the_room_that_is_kept_for_it(void **state)
{
    struct presence_event event;
    uint8_t bytes[512];
    memset(&event, 0xff, sizeof(event));
    memset(event.user, 'u', sizeof(event.user));
    memset(event.address, 'a', sizeof(event.address));
    memset(event.client, 'c', sizeof(event.client));
    event.user[STORE_NAME_BYTES_MAX] = '\0';
    event.address[STORE_ADDRESS_BYTES_MAX] = '\0';
    event.client[STORE_CLIENT_BYTES_MAX] = '\0';
    assert_int_not_equal(presence_event_pack(&event, bytes, sizeof(bytes)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        stage_test(from_now_on_means_the_next_event),
        stage_test(after_n_means_n_plus_1),
        stage_test(after_more_than_there_is_means_a_reset),
        stage_test(after_the_last_is_no_reset),
        stage_test(who_does_not_follow_gets_nothing),
        stage_test(events_without_a_fetch_wait_in_the_store),
        stage_test(one_query_at_a_time),
        stage_test(events_are_sent_again_until_the_cursor_passes_them),
        stage_test(what_the_store_no_longer_has_means_a_reset),
        stage_test(a_cursor_that_has_moved_on_missed_nothing),
        stage_test(a_store_that_fails_is_asked_again_a_second_later),
        stage_test(a_reset_is_said_until_it_is_heard),
        stage_test(a_cursor_beyond_the_stream_moves_nothing),
        stage_test(a_new_hello_takes_the_reset_back),
        stage_test(events_that_leave_a_gap_are_not_sent),
        stage_test(mail_and_events_share_a_batch),
        stage_test(large_events_and_large_mail_take_turns),
        stage_test(no_answer_is_larger_than_was_asked_for),
        stage_test(a_new_hello_begins_where_it_says),
        stage_test(events_read_ahead_are_dropped_by_a_new_hello),
        stage_test(a_stored_event_is_packed_whole_or_not),
        stage_test(the_largest_event_fits_the_room_that_is_kept_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
