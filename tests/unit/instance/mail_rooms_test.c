/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/user_call.h"
#include "unit/actors/stage_link.h"

#include "instance/private.h"

/* Mail that no user has sent: what rooms ask and tell their owner, and whom a client may watch. */

static void ask(struct stage *stage, uint64_t call, const char *room, const char *user)
{
    const struct room_ask fields = {.room = bytes_of_text(room),
                                    .owner = bytes_of_text("shop"),
                                    .user = bytes_of_text(user),
                                    .epoch = 3,
                                    .kind = USHER__V1__ROOM_ASK__KIND__JOIN,
                                    .caller = CALLER,
                                    .request = call + 100,
                                    .call = call,
                                    .deadline_ms = stage->now_ms + 5000};
    link_receive(stage, &room_ask_create(&fields)->header);
}

static void tell(struct stage *stage, uint64_t news_seq, const char *room)
{
    const struct room_news fields = {.room = bytes_of_text(room),
                                     .owner = bytes_of_text("shop"),
                                     .incarnation = 70,
                                     .news_seq = news_seq,
                                     .kind = USHER__V1__ROOM_NEWS__KIND__MESSAGE,
                                     .cause = USHER__V1__ROOM_NEWS__CAUSE__SERVICE,
                                     .user = bytes_of_text("ann"),
                                     .epoch = 3,
                                     .offset = 9,
                                     .payload = bytes_of_text("hi"),
                                     .service = bytes_of_text("maker"),
                                     .time_ms = 44,
                                     .actor = CALLER};
    link_receive(stage, &room_news_create(&fields)->header);
}

static void watch(struct stage *stage, uint64_t call)
{
    const struct bytes targets[] = {bytes_of_text("bob"), bytes_of_text("eve")};
    const struct watch_ask fields = {.user = bytes_of_text("ann"),
                                     .service = bytes_of_text("shop"),
                                     .epoch = 3,
                                     .targets = targets,
                                     .target_count = 2,
                                     .caller = CALLER,
                                     .request = call + 100,
                                     .call = call,
                                     .deadline_ms = stage->now_ms + 5000};
    link_receive(stage, &watch_ask_create(&fields)->header);
}

static void each_says_what_it_was_made_of(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    ask(stage, 1, "match", "ann");
    tell(stage, 5, "match");
    watch(stage, 2);
    EXPECT_NOTHING(stage);
    link_fetch(stage, 51, 0);
    EXPECT(stage, "answer 51 batch [1 JOIN match user=ann call=1 epoch=3 left=5000]"
                  " [2 match life=70 news=5 MESSAGE user=ann epoch=3 SERVICE offset=9 'hi' time=44"
                  " by=maker] [3 watch user=ann call=2 epoch=3 left=5000 bob eve] last=0");
}

/* What the owner answers comes back to whom it was asked for, a no with its text. */
static void an_ask_is_answered_as_a_call_is(void **state)
{
    struct stage *stage = *state;
    struct script *script = script_create();
    link_hello(stage, 50, 1);
    ask(stage, 1, "match", "ann");
    watch(stage, 2);
    say_reply(script, 1, 1, "full");
    say_reply(script, 2, 0, "grant");
    say_reply(script, 1, 0, "");
    link_submit(stage, 51, 0, 1, script);
    EXPECT(stage, "to 901 call_result #101 call=1 epoch=3 OK status=1 'full'",
           "to 901 call_result #102 call=2 epoch=3 OK status=0 'grant'",
           "answer 51 results 1: OK OK GONE");
    assert_int_equal(calls_count(stage->instance->calls), 0);
}

/* No client gets it, so it need not fit a client's frame. */
static void a_grant_may_be_longer_than_a_frame(void **state)
{
    struct stage *stage = *state;
    struct script *script = script_create();
    char grant[2000] = {0};
    memset(grant, 'g', sizeof(grant) - 1);
    stage->limits.limits_frame_bytes = 1024;
    link_hello(stage, 50, 1);
    watch(stage, 2);
    link_call(stage, 3, "m");
    say_reply(script, 2, 0, grant);
    say_reply(script, 3, 0, grant);
    link_submit(stage, 51, 0, 1, script);
    assert_non_null(strstr(stage->tape, "call=2 epoch=3 OK status=0"));
    assert_non_null(strstr(stage->tape, "call=3 epoch=3 TOO_LARGE"));
    assert_non_null(strstr(stage->tape, "OK TOO_LARGE"));
}

/* As for calls; and news of which nobody knows whether they were heard come again, marked. */
static void a_newer_incarnation_hears_it_again(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 7);
    ask(stage, 1, "match", "ann");
    ask(stage, 2, "match", "bob");
    tell(stage, 1, "match");
    link_fetch(stage, 51, 0);
    link_fetch(stage, 52, 1);
    tell(stage, 2, "match");
    link_hello(stage, 53, 8);
    EXPECT(stage, "to 901 call_result #101 call=1 epoch=3 SERVICE_LOST",
           "answer 53 accepted from=1");
    link_fetch(stage, 54, 0);
    EXPECT(stage, "answer 54 batch [1 JOIN match user=bob call=2 epoch=3 left=5000 again]"
                  " [2 match life=70 news=1 MESSAGE user=ann epoch=3 SERVICE offset=9 'hi' time=44"
                  " by=maker again]"
                  " [3 match life=70 news=2 MESSAGE user=ann epoch=3 SERVICE offset=9 'hi' time=44"
                  " by=maker] last=0");
}

/* A room has a share of its own, and takes nothing of those of whom it speaks. */
static void a_room_has_n_news_in_the_mail(void **state)
{
    struct stage *stage = *state;
    stage->limits.link_mail_items = 20;
    link_hello(stage, 50, 1);
    for (unsigned i = 1; i <= 3 + 2; i++)
        tell(stage, i, "match");
    COUNTED(stage, room_news_lost, 2);
    tell(stage, 1, "other");
    link_call(stage, 0, "ann's own");
    COUNTED(stage, room_news_lost, 2);
    COUNTED(stage, calls_one_way_refused, 0);
    assert_int_equal(stage->instance->mail_count, 3 + 1 + 1);
    link_fetch(stage, 51, 0);
    link_fetch(stage, 52, 1);
    tell(stage, 6, "match");
    COUNTED(stage, room_news_lost, 2);
    tell(stage, 7, "match");
    COUNTED(stage, room_news_lost, 3);
}

/* Asks count to the calls of the user who wants in, in whatever room: a full room's crowd takes
 * nothing of its others. */
static void a_user_has_n_asks_at_an_instance(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_calls_per_user = 2;
    stage->limits.link_mail_items = 20;
    link_hello(stage, 50, 1);
    ask(stage, 1, "a", "ann");
    link_call(stage, 2, "m");
    EXPECT_NOTHING(stage);
    ask(stage, 3, "b", "ann");
    EXPECT(stage, "to 901 call_result #103 call=3 epoch=3 BUSY");
    for (unsigned i = 0; i < 5; i++) {
        char user[8];
        snprintf(user, sizeof(user), "u%u", i);
        ask(stage, 10 + i, "a", user);
    }
    EXPECT_NOTHING(stage);
    COUNTED(stage, calls_refused, 1);
}

static void a_full_mail_answers_asks_and_drops_news(void **state)
{
    struct stage *stage = *state;
    stage->limits.link_mail_items = 1;
    link_hello(stage, 50, 1);
    tell(stage, 1, "match");
    tell(stage, 2, "match");
    ask(stage, 1, "match", "ann");
    EXPECT(stage, "to 901 call_result #101 call=1 epoch=3 BUSY");
    COUNTED(stage, room_news_lost, 1);
    COUNTED(stage, calls_refused, 1);
}

static void names_may_be_as_long_as_they_can(void **state)
{
    struct stage *stage = *state;
    char name[USERNAME_BYTES_MAX + 1] = {0};
    memset(name, 'n', USERNAME_BYTES_MAX);
    stage->limits.rooms_news_waiting = 1;
    link_hello(stage, 50, 1);
    ask(stage, 1, name, name);
    tell(stage, 1, name);
    tell(stage, 2, name); /* said in the log */
    EXPECT_NOTHING(stage);
    COUNTED(stage, room_news_lost, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        stage_test(each_says_what_it_was_made_of),
        stage_test(an_ask_is_answered_as_a_call_is),
        stage_test(a_grant_may_be_longer_than_a_frame),
        stage_test(a_newer_incarnation_hears_it_again),
        stage_test(a_room_has_n_news_in_the_mail),
        stage_test(a_user_has_n_asks_at_an_instance),
        stage_test(a_full_mail_answers_asks_and_drops_news),
        stage_test(names_may_be_as_long_as_they_can),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
