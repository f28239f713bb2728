/* SPDX-License-Identifier: Apache-2.0 */
#include "instance/access.h"
#include "unit/actors/stage_link.h"

#include "instance/private.h"
#include "proto/username.h"

/* The life of an instance: Hello, Fetch and the mail, lost, handed over. */

/* --- Hello ------------------------------------------------------------------------------------ */

static void an_instance_has_a_name_that_no_user_can_have(void **state)
{
    char longest[USERNAME_BYTES_MAX + 2];
    memset(longest, 'n', sizeof(longest));
    longest[USERNAME_BYTES_MAX + 1] = '\0';
    const struct {
        const char *service, *instance, *key;
    } rows[] = {{"shop", "1", "!shop/1"}, {"", "watch", "!/watch"}, {"shop", "", NULL},
                {"a b", "1", NULL},       {"shop", "a/b", NULL},    {"!shop", "1", NULL},
                {longest, "1", NULL},     {"shop", longest, NULL}};
    char key[INSTANCE_KEY_BYTES];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        Usher__V1__Hello hello = USHER__V1__HELLO__INIT;
        hello.service = (char *)rows[i].service;
        hello.instance = (char *)rows[i].instance;
        assert_true(instance_key(&hello, key) == (rows[i].key != NULL));
        if (rows[i].key != NULL)
            assert_string_equal(key, rows[i].key);
    }
    longest[USERNAME_BYTES_MAX] = '\0';
    Usher__V1__Hello hello = USHER__V1__HELLO__INIT;
    hello.service = hello.instance = longest;
    assert_true(instance_key(&hello, key));
    assert_int_equal(strlen(key) + 1, INSTANCE_KEY_BYTES);
    assert_false(username_valid(bytes_of_text(INSTANCE_VISITORS)));
}

static void a_hello_joins_and_gives_a_link(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    EXPECT(stage, "link join shop", "answer 50 accepted from=1");
    uint32_t slot;
    assert_true(access_slot(stage->settings.link_key, stage->link, &slot));
    assert_int_equal(slot, actor_slot(STAGE_SELF));
    assert_int_equal(stage->link_shown, 1); /* the log's, and people's */
    struct join_message *joined = message_create(MESSAGE_JOINED, sizeof(*joined));
    joined->error = 0;
    link_receive(stage, &joined->header);
    EXPECT_NOTHING(stage);
}

/* Each kind of request with which a peer shows that it may be here, and none of the others. */
static void who_has_a_link_is_vouched_for(void **state)
{
    struct stage *stage = *state;
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    Usher__V1__Hello hello = hello_of(1);
    Usher__V1__Submit submit = USHER__V1__SUBMIT__INIT;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_HELLO;
    request.hello = &hello;
    link_ask_strange(stage, 50, &request);
    EXPECT(stage, "vouch 50", "link join shop", "answer 50 accepted from=1");
    Usher__V1__Fetch fetch = fetch_of(stage, 0, 0);
    request.body_case = USHER__V1__LINK_REQUEST__BODY_FETCH;
    request.fetch = &fetch;
    link_ask_strange(stage, 51, &request);
    EXPECT(stage, "vouch 51");
    submit.link = stage->link;
    submit.seq = 1;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_SUBMIT;
    request.submit = &submit;
    link_ask_strange(stage, 52, &request);
    EXPECT(stage, "vouch 52", "answer 52 results 1:");
    submit.link ^= 1;
    link_ask_strange(stage, 53, &request);
    EXPECT(stage, "answer 53 refused STALE_LINK");
    fetch.link = 0;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_FETCH;
    request.fetch = &fetch;
    link_ask_strange(stage, 54, &request);
    EXPECT(stage, "answer 54 refused STALE_LINK");
}

static void the_same_incarnation_goes_on_with_its_link(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 7);
    uint64_t link = stage->link;
    link_call(stage, 1, "a");
    link_fetch(stage, 51, 0);
    link_hello(stage, 52, 7);
    EXPECT(stage, "answer 52 accepted from=1");
    assert_int_equal(stage->link, link);
    link_fetch(stage, 53, 0); /* its cursor, too */
    EXPECT(stage, "answer 53 batch [1 a user=ann call=1 left=5000] last=0");
}

static void an_older_incarnation_is_banned(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 7);
    uint64_t link = stage->link;
    link_hello(stage, 51, 6);
    EXPECT(stage, "answer 51 refused BANNED");
    link_fetch(stage, 52, 0);
    EXPECT_NOTHING(stage); /* waits: the link is good */
    assert_int_equal(stage->link, link);
}

/* What was acknowledged and not answered nobody will answer; the rest is sent again, marked if an
 * older incarnation may have seen it. */
static void a_newer_incarnation_supersedes(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 7);
    uint64_t old_link = stage->link;
    link_call(stage, 1, "acknowledged");
    link_call(stage, 2, "sent");
    link_fetch(stage, 51, 0);
    link_fetch(stage, 52, 1);
    link_call(stage, 3, "waits");
    link_hello(stage, 53, 8);
    EXPECT(stage, "to 901 call_result #101 call=1 epoch=3 SERVICE_LOST",
           "answer 53 accepted from=1");
    assert_true(stage->link != old_link);
    link_fetch(stage, 54, 0);
    EXPECT(stage, "answer 54 batch [1 sent user=ann call=2 left=5000 again]"
                  " [2 waits user=ann call=3 left=5000] last=0");
    Usher__V1__Fetch old = fetch_of(stage, 2, 0);
    old.link = old_link;
    link_fetch_with(stage, 55, old);
    EXPECT(stage, "answer 55 refused STALE_LINK");
}

/* Its waiting Fetch must not carry off what the new one is to get. */
static void a_superseded_fetch_is_refused(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 7);
    link_fetch(stage, 51, 0);
    link_hello(stage, 52, 8);
    EXPECT(stage, "answer 51 refused STALE_LINK", "answer 52 accepted from=1");
    link_call(stage, 1, "a");
    EXPECT_NOTHING(stage);
    link_fetch(stage, 53, 0);
    EXPECT(stage, "answer 53 batch [1 a user=ann call=1 left=5000] last=0");
}

/* --- Fetch ------------------------------------------------------------------------------------ */

static void a_fetch_needs_the_right_link(void **state)
{
    struct stage *stage = *state;
    Usher__V1__Fetch fetch = USHER__V1__FETCH__INIT;
    link_fetch_with(stage, 50, fetch); /* before the Hello, with link 0 */
    EXPECT(stage, "answer 50 refused STALE_LINK");
    link_hello(stage, 51, 1);
    fetch.link = stage->link + (1 << 24);
    link_fetch_with(stage, 52, fetch);
    EXPECT(stage, "answer 52 refused STALE_LINK");
}

static void a_fetch_waits_for_mail_or_for_the_heartbeat(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_fetch(stage, 51, 0);
    EXPECT_NOTHING(stage);
    link_call(stage, 1, "a");
    EXPECT(stage, "answer 51 batch [1 a user=ann call=1 left=5000] last=0");
    link_fetch(stage, 52, 1);
    assert_in_range(stage->timer_ms, STAGE_NOW_MS + 10000, STAGE_NOW_MS + 10001);
    link_tick(stage, STAGE_NOW_MS + 9999);
    EXPECT_NOTHING(stage);
    assert_in_range(stage->timer_ms, STAGE_NOW_MS + 10000, STAGE_NOW_MS + 10001);
    link_tick(stage, STAGE_NOW_MS + 10000);
    EXPECT(stage, "answer 52 batch last=0");
    link_tick(stage, STAGE_NOW_MS + 10001);
    EXPECT_NOTHING(stage);
}

static void a_fetch_may_wait_less_but_not_longer(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    Usher__V1__Fetch fetch = fetch_of(stage, 0, 0);
    fetch.wait_ms = 100;
    link_fetch_with(stage, 51, fetch);
    link_tick(stage, STAGE_NOW_MS + 100);
    EXPECT(stage, "answer 51 batch last=0");
    fetch.wait_ms = 1000000;
    link_fetch_with(stage, 52, fetch);
    link_tick(stage, STAGE_NOW_MS + 10100);
    EXPECT(stage, "answer 52 batch last=0");
}

static void the_newest_fetch_is_answered(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_fetch(stage, 51, 0);
    link_fetch(stage, 52, 0);
    EXPECT(stage, "answer 51 refused BUSY");
    link_call(stage, 1, "a");
    EXPECT(stage, "answer 52 batch [1 a user=ann call=1 left=5000] last=0");
}

static void mail_is_sent_again_until_the_cursor_passes_it(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_call(stage, 1, "a");
    link_call(stage, 0, "b");
    link_call(stage, 3, "c");
    link_fetch(stage, 51, 0);
    const char all[] = " batch [1 a user=ann call=1 left=5000] [2 b user=ann call=0 left=5000]"
                       " [3 c user=ann call=3 left=5000] last=0\n";
    assert_string_equal(stage->tape + strlen("answer 51"), all);
    link_fetch(stage, 52, 0); /* the answer was lost on its way */
    assert_string_equal(stage->tape + strlen("answer 52"), all);
    stage->now_ms += 1000;
    link_fetch(stage, 53, 2);
    EXPECT(stage, "answer 53 batch [3 c user=ann call=3 left=4000] last=0");
    link_fetch(stage, 54, 1); /* back is no direction */
    EXPECT(stage, "answer 54 batch [3 c user=ann call=3 left=4000] last=0");
    link_fetch(stage, 55, 3);
    EXPECT_NOTHING(stage);
    link_call(stage, 4, "d");
    EXPECT(stage, "answer 55 batch [4 d user=ann call=4 left=5000] last=0");
}

/* A number of the backend's choice must not drop calls that it never got. */
static void a_cursor_beyond_what_was_sent_drops_nothing_unsent(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_call(stage, 1, "a");
    link_fetch(stage, 51, 0);
    link_call(stage, 2, "b");
    link_fetch(stage, 52, UINT64_MAX);
    EXPECT(stage, "answer 52 batch [2 b user=ann call=2 left=5000] last=0");
}

static void what_arrives_together_leaves_together(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_fetch(stage, 51, 0);
    struct message *calls[] = {&call_create(stage, 1, "a", 1)->header,
                               &call_create(stage, 2, "b", 1)->header};
    link_turn(stage, calls, 2);
    EXPECT(stage, "answer 51 batch [1 a user=ann call=1 left=5000]"
                  " [2 b user=ann call=2 left=5000] last=0");
}

static void a_batch_has_a_limit_and_at_least_one_call(void **state)
{
    struct stage *stage = *state;
    stage->limits.link_mail_items = 100;
    stage->limits.link_mail_bytes = 1 << 20;
    link_hello(stage, 50, 1);
    for (uint64_t call = 1; call <= 40; call++)
        link_receive(stage, &call_create(stage, call, "buy", 300)->header);
    uint64_t done = 0;
    for (int batches = 0; done < 40; batches++) {
        assert_true(batches < 20);   /* full ones */
        link_fetch(stage, 51, done); /* the tape checks the size against the frame */
        char next[32];
        snprintf(next, sizeof(next), "batch [%u buy", (unsigned)done + 1);
        assert_non_null(strstr(stage->tape, next)); /* no gap, no repetition */
        while (snprintf(next, sizeof(next), "[%u buy", (unsigned)done + 1) > 0 &&
               strstr(stage->tape, next) != NULL)
            done++;
    }
    /* The largest payload that a user may send fits, whatever the backend asks for. */
    link_receive(stage,
                 &call_create(stage, 41, "buy", stage->limits.link_frame_bytes - 512)->header);
    link_call(stage, 42, "small");
    Usher__V1__Fetch fetch = fetch_of(stage, done, 0);
    fetch.bytes_max = 1;
    link_fetch_with(stage, 52, fetch);
    EXPECT(stage, "answer 52 batch [41 buy user=ann call=41 left=5000] last=0");
    fetch.mail_done = 41;
    fetch.bytes_max = UINT32_MAX;
    link_fetch_with(stage, 53, fetch);
    EXPECT(stage, "answer 53 batch [42 small user=ann call=42 left=5000] last=0");
}

/* Also to the next incarnation; and its bytes count, in the mail and in a batch. */
static void a_traceparent_is_in_the_mail(void **state)
{
    static const char parent[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    struct stage *stage = *state;
    link_hello(stage, 50, 7);
    link_receive(stage, &call_create_traced(stage, 1, "buy", 1, parent)->header);
    link_receive(stage, &call_create(stage, 2, "buy", 1)->header);
    uint64_t bytes = stage->instance->mail_bytes;
    link_fetch(stage, 51, 0);
    EXPECT(stage, "answer 51 batch [1 buy user=ann call=1 left=5000 "
                  "trace=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01]"
                  " [2 buy user=ann call=2 left=5000] last=0");
    link_hello(stage, 52, 8);
    link_fetch(stage, 53, 0);
    EXPECT(stage, "answer 53 batch [1 buy user=ann call=1 left=5000 again "
                  "trace=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01]"
                  " [2 buy user=ann call=2 left=5000 again] last=0");
    for (uint64_t call = 3; call <= 4; call++)
        link_receive(stage, &call_create(stage, call, "buy", 1)->header);
    assert_int_equal(stage->instance->mail_bytes, 2 * bytes - strlen(parent));
    /* The largest that a user may send, with the longest names and a traceparent, fits a frame. */
    char method[129];
    memset(method, 'm', sizeof(method) - 1);
    method[sizeof(method) - 1] = '\0';
    struct user_call_message *large = call_create_traced(
        stage, UINT64_C(1) << 52, method, stage->limits.link_frame_bytes - 512, parent);
    stage->limits.link_mail_bytes = 1 << 20;
    stage->limits.link_mail_items = 100;
    link_receive(stage, &large->header);
    link_fetch(stage, 54, 2);
    link_fetch(stage, 55, 4); /* the tape checks the size against the frame */
    assert_non_null(strstr(stage->tape, parent));
}

static void a_backend_may_ask_for_smaller_batches(void **state)
{
    struct stage *stage = *state;
    stage->limits.link_mail_items = 100;
    link_hello(stage, 50, 1);
    for (uint64_t call = 1; call <= 10; call++)
        link_receive(stage, &call_create(stage, call, "buy", 100)->header);
    Usher__V1__Fetch fetch = fetch_of(stage, 0, 0);
    fetch.bytes_max = 600;
    link_fetch_with(stage, 51, fetch);
    assert_true(stage->answer_bytes <= 600);
    assert_non_null(strstr(stage->tape, "[2 buy"));
}

/* Who works on several calls at once says which it has: those do not come again with each Batch. */
static void what_a_backend_has_is_not_sent_again(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    for (uint64_t call = 1; call <= 3; call++)
        link_call(stage, call, "m");
    Usher__V1__Fetch fetch = fetch_of(stage, 0, 0);
    fetch.mail_have = UINT64_MAX; /* nobody has what was never sent */
    link_fetch_with(stage, 51, fetch);
    EXPECT(stage, "answer 51 batch [1 m user=ann call=1 left=5000] [2 m user=ann call=2 left=5000] "
                  "[3 m user=ann call=3 left=5000] last=0");
    fetch.mail_have = 2; /* of the third it does not say so: its answer was lost */
    link_fetch_with(stage, 52, fetch);
    EXPECT(stage, "answer 52 batch [3 m user=ann call=3 left=5000] last=0");
    fetch.mail_have = 3;
    fetch.mail_done = 1;
    link_fetch_with(stage, 53, fetch); /* waits */
    EXPECT_NOTHING(stage);
    link_call(stage, 4, "m"); /* ends the waiting */
    EXPECT(stage, "answer 53 batch [4 m user=ann call=4 left=5000] last=0");
    link_fetch(stage, 54, 1); /* who does not speak of it gets all that is not acknowledged */
    EXPECT(stage, "answer 54 batch [2 m user=ann call=2 left=5000] [3 m user=ann call=3 left=5000] "
                  "[4 m user=ann call=4 left=5000] last=0");
    link_hello(stage, 55, 2); /* nor does it hold for a later incarnation */
    fetch = fetch_of(stage, 0, 0);
    fetch.mail_have = 4;
    link_fetch_with(stage, 56, fetch);
    EXPECT(stage, "answer 56 batch [1 m user=ann call=2 left=5000 again] [2 m user=ann call=3 "
                  "left=5000 again] [3 m user=ann call=4 left=5000 again] last=0");
}

static void who_has_too_much_waits(void **state)
{
    enum { HAVE_MAX = 4096 }; /* in mail.c */
    struct stage *stage = *state;
    stage->limits.link_mail_items = HAVE_MAX + 10;
    stage->limits.link_mail_bytes = 1 << 22;
    stage->limits.limits_calls_per_user = HAVE_MAX + 10;
    link_hello(stage, 50, 1);
    for (uint64_t call = 1; call <= HAVE_MAX; call++)
        link_call(stage, call, "m");
    Usher__V1__Fetch fetch = fetch_of(stage, 0, 0);
    for (int batches = 0; stage->instance->sent_seq < HAVE_MAX; batches++) {
        assert_true(batches < 1000);
        fetch.mail_have = stage->instance->sent_seq;
        link_fetch_with(stage, 51, fetch);
    }
    fetch.mail_have = HAVE_MAX;
    link_fetch_with(stage, 52, fetch);
    link_call(stage, HAVE_MAX + 1, "m");
    EXPECT_NOTHING(stage);
    fetch.mail_done = 1;
    link_fetch_with(stage, 53, fetch);
    assert_non_null(strstr(stage->tape, "answer 53 batch [4097 m"));
}

/* --- the limits of the mail ------------------------------------------------------------------- */

static void the_mail_takes_n_items(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    for (uint64_t call = 1; call <= stage->limits.link_mail_items; call++) {
        link_call(stage, call, "a");
        EXPECT_NOTHING(stage);
    }
    link_call(stage, 5, "one too many");
    EXPECT(stage, "to 901 call_result #105 call=5 epoch=3 BUSY");
    link_call(stage, 0, "one way");
    EXPECT_NOTHING(stage);
    link_fetch(stage, 51, 0);
    link_fetch(stage, 52, 1); /* room for one */
    link_call(stage, 6, "now");
    EXPECT_NOTHING(stage);
    link_call(stage, 7, "again too many");
    EXPECT(stage, "to 901 call_result #107 call=7 epoch=3 BUSY");
    COUNTED(stage, calls_refused, 2);
    COUNTED(stage, calls_one_way_refused, 1);
    link_fetch(stage, 53, 4);
    EXPECT(stage, "answer 53 batch [5 now user=ann call=6 left=5000] last=0");
}

static void the_mail_takes_n_bytes(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct user_call_message *call = call_create(stage, 1, "buy", 1000);
    uint64_t weight = sizeof(*call) + 3 + 3 + 1000;
    stage->limits.link_mail_bytes = 2 * weight;
    link_receive(stage, &call->header);
    link_receive(stage, &call_create(stage, 2, "buy", 1001)->header);
    EXPECT(stage, "to 901 call_result #102 call=2 epoch=3 BUSY");
    link_receive(stage, &call_create(stage, 3, "buy", 1000)->header);
    EXPECT_NOTHING(stage);
    link_receive(stage, &call_create(stage, 4, "", 0)->header);
    EXPECT(stage, "to 901 call_result #104 call=4 epoch=3 BUSY");
    link_fetch(stage, 51, 0);
    link_fetch(stage, 52, 1); /* what is acknowledged gives its bytes back */
    link_receive(stage, &call_create(stage, 5, "buy", 1000)->header);
    EXPECT_NOTHING(stage);
    link_receive(stage, &call_create(stage, 6, "", 0)->header);
    EXPECT(stage, "to 901 call_result #106 call=6 epoch=3 BUSY");
}

/* --- lost ------------------------------------------------------------------------------------- */

static void lose_by_silence(struct stage *stage)
{
    link_tick(stage, stage->now_ms + stage->limits.link_fetch_timeout_ms);
    EXPECT(stage, "to self leave");
}

static struct message *leave_create(bool begun)
{
    struct leave_message *leave = message_create(MESSAGE_LEAVE, sizeof(*leave));
    assert_non_null(leave);
    leave->begun = begun;
    return &leave->header;
}

static void link_leave(struct stage *stage)
{
    link_receive(stage, leave_create(true));
}

static void silence_loses_an_instance(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    assert_in_range(stage->timer_ms, STAGE_NOW_MS + 25000, STAGE_NOW_MS + 25001);
    link_tick(stage, STAGE_NOW_MS + 24999);
    EXPECT_NOTHING(stage);
    link_tick(stage, STAGE_NOW_MS + 25000);
    EXPECT(stage, "to self leave");
    link_hello(stage, 51, 1);
    EXPECT(stage, "answer 51 refused BUSY");
    link_fetch(stage, 52, 0);
    EXPECT(stage, "answer 52 refused STALE_LINK");
    link_submit(stage, 53, 1, 1, script_create());
    EXPECT(stage, "answer 53 refused STALE_LINK");
    link_tick(stage, STAGE_NOW_MS + 90000);
    EXPECT_NOTHING(stage); /* it leaves once */
    link_leave(stage);
    EXPECT(stage, "link leave");
}

static void who_fetches_is_not_lost(void **state)
{
    struct stage *stage = *state;
    stage->limits.link_park_ms = 100000; /* longer than the timeout */
    link_hello(stage, 50, 1);
    link_fetch(stage, 51, 0);
    link_tick(stage, STAGE_NOW_MS + 99999);
    EXPECT_NOTHING(stage);
    link_tick(stage, STAGE_NOW_MS + 100000);
    EXPECT(stage, "answer 51 batch last=0");
    link_tick(stage, STAGE_NOW_MS + 124999); /* the answer begins a new wait */
    EXPECT_NOTHING(stage);
    link_tick(stage, STAGE_NOW_MS + 125000);
    EXPECT(stage, "to self leave");
}

static bool shows_lost(const struct stage *stage)
{
    struct instance_place place = {.instance = stage->instance};
    instance_show(&place);
    return place.shown.lost;
}

static void a_gone_peer_has_a_grace(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_fetch(stage, 51, 0);
    link_gone(stage, 49); /* some other exchange */
    link_gone(stage, 0);
    EXPECT_NOTHING(stage);
    link_gone(stage, 51);
    EXPECT(stage, "answer 51 refused STALE_LINK");
    assert_true(shows_lost(stage));
    link_tick(stage, STAGE_NOW_MS + 2999);
    EXPECT_NOTHING(stage);
    assert_in_range(stage->timer_ms, STAGE_NOW_MS + 3000, STAGE_NOW_MS + 3001);
    link_fetch(stage, 52, 0); /* back in time */
    assert_false(shows_lost(stage));
    link_tick(stage, STAGE_NOW_MS + 3000);
    EXPECT_NOTHING(stage);
    link_gone(stage, 52);
    assert_in_range(stage->timer_ms, STAGE_NOW_MS + 6000, STAGE_NOW_MS + 6001);
    link_tick(stage, STAGE_NOW_MS + 6000);
    EXPECT(stage, "to self leave");
}

/* Who is busy has no Fetch that waits; then the end of his last one's connection says the same. */
static void a_busy_one_has_the_same_grace(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_fetch(stage, 51, 0);
    link_tick(stage, STAGE_NOW_MS + 100000);
    EXPECT(stage, "answer 51 batch last=0"); /* and so lost at 125000 */
    link_gone(stage, 50);                    /* the Hello's, which is none of it */
    assert_false(shows_lost(stage));
    stage->now_ms = STAGE_NOW_MS + 101000;
    link_gone(stage, 51);
    EXPECT_NOTHING(stage);
    assert_true(shows_lost(stage));
    link_tick(stage, STAGE_NOW_MS + 103999);
    EXPECT_NOTHING(stage);
    link_fetch(stage, 52, 0); /* back in time */
    assert_false(shows_lost(stage));
    link_gone(stage, 51); /* of an earlier connection */
    assert_false(shows_lost(stage));
    link_tick(stage, STAGE_NOW_MS + 203999);
    EXPECT(stage, "answer 52 batch last=0");
    link_hello(stage, 53, 1); /* the same process: so it is back, for as long as any Hello says */
    link_gone(stage, 52);
    assert_false(shows_lost(stage));
    link_tick(stage, STAGE_NOW_MS + 208000);
    EXPECT_NOTHING(stage);
    link_fetch(stage, 54, 0);
    link_tick(stage, STAGE_NOW_MS + 308000);
    EXPECT(stage, "answer 54 batch last=0"); /* lost at 333000, however late its end is told */
    stage->now_ms = STAGE_NOW_MS + 332000;
    link_gone(stage, 54);
    link_tick(stage, STAGE_NOW_MS + 333000);
    EXPECT(stage, "to self leave");
    link_gone(stage, 54);
    EXPECT_NOTHING(stage);
}

/* The peer of a Submit may go: its commands run on, and the answer finds nobody. */
static void a_gone_peer_of_a_submit_loses_nothing(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct script *script = script_create();
    say_count(script);
    link_submit(stage, 51, 1, 1, script);
    uint64_t token = stage->tokens[0];
    link_gone(stage, 51);
    EXPECT_NOTHING(stage);
    link_number(stage, token, 1, 3);
    EXPECT(stage, "answer 51 results 1: OK n=3");
}

static void a_lost_instance_hands_its_mail_on_in_order(void **state)
{
    struct stage *stage = *state;
    stage->limits.link_mail_items = 100;
    link_hello(stage, 50, 1);
    link_call(stage, 1, "acknowledged");
    link_call(stage, 2, "answered");
    link_call(stage, 3, "sent");
    link_call(stage, 0, "one-way");
    link_fetch(stage, 51, 0);
    link_fetch(stage, 52, 1);
    struct script *script = script_create();
    say_reply(script, 2, 0, "x");
    link_submit(stage, 53, 1, 1, script);
    link_call(stage, 5, "not-sent");
    lose_by_silence(stage);
    link_call(stage, 6, "late");
    EXPECT_NOTHING(stage);
    link_leave(stage);
    EXPECT(stage, "to 901 call_result #101 call=1 epoch=3 SERVICE_LOST",
           "link leave [sent again] [one-way again] [not-sent] [late]");
}

/* A call whose caller was told TIMEOUT is nobody's business any more. */
static void calls_that_timed_out_are_not_handed_on(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_call(stage, 1, "old");
    link_tick(stage, STAGE_NOW_MS + 5000); /* its deadline, and the sweep's second */
    link_call(stage, 2, "new");
    link_tick(stage, STAGE_NOW_MS + 26000);
    EXPECT(stage, "to self leave");
    link_leave(stage);
    EXPECT(stage, "link leave [new]");
}

/* The directory refuses the leaving while a call is on its way to the instance: what has arrived
 * since is handed on in the next step. */
static void what_comes_between_two_steps_is_handed_on(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_call(stage, 1, "a");
    link_call(stage, 2, "b");
    link_fetch(stage, 51, 0);
    link_call(stage, 3, "c");
    lose_by_silence(stage);
    link_leave(stage);
    EXPECT(stage, "link leave [a again] [b again] [c]");
    link_call(stage, 4, "d");
    link_call(stage, 5, "e");
    link_leave(stage);
    EXPECT(stage, "link leave [d] [e]");
    link_leave(stage); /* once more, with nothing new */
    EXPECT(stage, "link leave");
}

/* In one batch: what stands behind the order to leave is in the mail when the turn ends. */
static void a_call_behind_the_leave_is_handed_on_with_the_rest(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_call(stage, 1, "a");
    lose_by_silence(stage);
    link_receive(stage, leave_create(false));
    EXPECT(stage, "link leave?");
    struct message *batch[] = {&call_create(stage, 2, "b", 0)->header, leave_create(true),
                               &call_create(stage, 3, "c", 0)->header,
                               &call_create(stage, 0, "d", 0)->header};
    link_turn(stage, batch, 4);
    EXPECT(stage, "link leave [a] [b] [c] [d]");
}

static unsigned handed_on(const struct stage *stage)
{
    unsigned count = 0;
    for (const struct message *mail = stage->mail; mail != NULL; mail = mail->next)
        count++;
    return count;
}

/* However much waits, a turn hands on 256 calls. */
static void a_large_mail_is_handed_on_in_steps(void **state)
{
    struct stage *stage = *state;
    stage->limits.link_mail_items = 1000;
    stage->limits.link_mail_bytes = 1 << 20;
    link_hello(stage, 50, 1);
    for (uint64_t call = 1; call <= 513; call++)
        link_call(stage, call, "m");
    lose_by_silence(stage);
    for (unsigned step = 0; step < 3; step++) {
        link_leave(stage);
        assert_int_equal(strncmp(stage->tape, step < 2 ? "link leave some [m]" : "link leave [m]",
                                 14 + 5 * (step < 2)),
                         0);
        assert_int_equal(handed_on(stage), step < 2 ? 256 : 1);
    }
}

static unsigned said_lost(const struct stage *stage)
{
    unsigned count = 0;
    for (const char *at = stage->tape; (at = strstr(at, "SERVICE_LOST")) != NULL; at++)
        count++;
    return count;
}

static void acknowledge_many(struct stage *stage, uint32_t calls)
{
    stage->limits.link_mail_items = 2000;
    stage->limits.link_mail_bytes = 1 << 20;
    link_hello(stage, 50, 1);
    for (uint64_t call = 1; call <= calls; call++)
        link_call(stage, call, "m");
    Usher__V1__Fetch all = fetch_of(stage, 0, 0);
    for (uint64_t done = 0; done < calls;) {
        all.mail_done = done;
        link_fetch_with(stage, 51, all);
        done = stage->instance->sent_seq;
    }
    link_fetch(stage, 52, calls);
}

/* Their table has 2048 places, and a turn looks at 512. */
static void many_lost_calls_are_answered_in_steps(void **state)
{
    struct stage *stage = *state;
    acknowledge_many(stage, 1200);
    link_hello(stage, 53, 2);
    unsigned lost = said_lost(stage);
    unsigned turns = 1;
    link_call(stage, 2000, "new"); /* of the new incarnation: it is not looked for */
    while (lost < 1200) {
        assert_in_range(++turns, 2, 10);
        link_bare(stage, MESSAGE_WALK);
        assert_in_range(said_lost(stage), 0, 512);
        lost += said_lost(stage);
    }
    assert_int_equal(lost, 1200);
    assert_in_range(turns, 4, 10);
    link_fetch(stage, 54, 0);
    EXPECT(stage, "answer 54 batch [1 new user=ann call=2000 left=5000] last=0");
}

/* A backend that answers for its predecessor comes too late, also before the walk has been there.
 */
static void nobody_answers_for_an_earlier_incarnation(void **state)
{
    struct stage *stage = *state;
    acknowledge_many(stage, 1200);
    link_hello(stage, 53, 2);
    unsigned lost = said_lost(stage);
    for (uint64_t call = 1; call <= 1200; call++) {
        struct script *script = script_create();
        say_reply(script, call, 0, "x");
        link_submit(stage, 54, 1, call, script);
        assert_non_null(strstr(stage->tape, "results"));
        assert_non_null(strstr(stage->tape, "GONE"));
        lost += said_lost(stage);
    }
    assert_int_equal(lost, 1200);
}

/* It may have joined before: then its place must go with it. */
static void one_without_a_place_leaves_as_others_do(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct join_message *joined = message_create(MESSAGE_JOINED, sizeof(*joined));
    joined->error = -ENOSPC;
    link_receive(stage, &joined->header);
    EXPECT(stage, "to self leave");
    link_leave(stage);
    EXPECT(stage, "link leave");
}

static void a_full_mail_takes_what_comes_while_leaving(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    for (uint64_t call = 1; call <= stage->limits.link_mail_items; call++)
        link_call(stage, call, "m");
    lose_by_silence(stage);
    link_call(stage, 5, "n"); /* was routed before the leaving */
    EXPECT_NOTHING(stage);
    link_leave(stage);
    EXPECT(stage, "link leave [m] [m] [m] [m] [n]");
}

/* The end of the actor carries nothing out any more, so it must be said before. */
static void a_lost_instance_refuses_its_running_submits(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct script *script = script_create();
    say_count(script);
    link_submit(stage, 51, 1, 1, script);
    uint64_t token = stage->tokens[0];
    link_tick(stage, STAGE_NOW_MS + 25000);
    EXPECT(stage, "answer 51 refused STALE_LINK", "to self leave");
    link_number(stage, token, 1, 3);
    EXPECT_NOTHING(stage);
}

/* Calls that want no answer count nowhere else. Another user has a share of his own; what is
 * acknowledged gives its share back. */
/* Nobody waits for it any more, so no backend hears of it, and the numbers show no gap. What is
 * sent already, is one way or has time is sent. */
static void a_call_that_is_late_is_not_handed_out(void **state)
{
    struct stage *stage = *state;
    stage->limits.link_mail_items = 5;
    link_hello(stage, 50, 1);
    link_call(stage, 1, "sent");
    link_fetch(stage, 51, 0);
    link_call(stage, 2, "late");
    link_call(stage, 0, "one-way");
    link_call(stage, 3, "late");
    stage->now_ms += 4999;
    link_call(stage, 4, "in-time");
    stage->now_ms += 1;
    link_fetch(stage, 52, 0);
    EXPECT(stage,
           "answer 52 batch [1 sent user=ann call=1 left=0] [2 one-way user=ann call=0 left=0]"
           " [3 in-time user=ann call=4 left=4999] last=0");
    COUNTED(stage, calls_late, 2);
    link_fetch(stage, 53, 3);
    EXPECT_NOTHING(stage);
    link_call(stage, 5, "next");
    EXPECT(stage, "answer 53 batch [4 next user=ann call=5 left=5000] last=0");
}

/* A call is in time until its deadline, and a turn takes 512 late ones out. */
static void late_calls_are_taken_out_in_steps(void **state)
{
    struct stage *stage = *state;
    stage->limits.link_mail_items = 2000;
    stage->limits.link_mail_bytes = 1 << 20;
    link_hello(stage, 50, 1);
    for (uint64_t call = 1; call <= 513; call++)
        link_call(stage, call, "late");
    link_call(stage, 0, "one-way");
    stage->now_ms += 5000;
    link_fetch(stage, 51, 0);
    EXPECT_NOTHING(stage);
    COUNTED(stage, calls_late, 512);
    assert_in_range(stage->instance->timer_ms, stage->now_ms, stage->now_ms + 1);
    link_tick(stage, stage->now_ms + 1);
    COUNTED(stage, calls_late, 513);
    assert_non_null(
        strstr(stage->tape, "answer 51 batch [1 one-way user=ann call=0 left=0] last=0"));
}

static void a_user_has_n_one_way_calls_in_the_mail(void **state)
{
    struct stage *stage = *state;
    stage->limits.link_mail_items = 10;
    link_hello(stage, 50, 1);
    for (unsigned i = 0; i < 3 + 2; i++)
        link_call(stage, 0, "a");
    COUNTED(stage, calls_one_way_refused, 2);
    struct user_call_message *other = user_call_create(bytes_of_text("bob"), bytes_of_text("shop"),
                                                       bytes_of_text("b"), (struct bytes){NULL, 0});
    other->deadline_ms = stage->now_ms + 5000;
    link_receive(stage, &other->header);
    link_call(stage, 7, "c"); /* it waits for an answer, and counts with those */
    EXPECT_NOTHING(stage);
    link_fetch(stage, 51, 0);
    EXPECT(stage, "answer 51 batch [1 a user=ann call=0 left=5000] [2 a user=ann call=0 left=5000]"
                  " [3 a user=ann call=0 left=5000] [4 b user=bob call=0 left=5000]"
                  " [5 c user=ann call=7 left=5000] last=0");
    link_call(stage, 0, "a"); /* fetched is not acknowledged */
    COUNTED(stage, calls_one_way_refused, 3);
    link_fetch(stage, 52, 1);
    link_call(stage, 0, "d");
    COUNTED(stage, calls_one_way_refused, 3);
    link_call(stage, 0, "d");
    COUNTED(stage, calls_one_way_refused, 4);
    /* One that leaves takes what was on its way to it. */
    link_tick(stage, stage->now_ms + stage->limits.link_park_ms);
    link_tick(stage, stage->now_ms + stage->limits.link_fetch_timeout_ms);
    EXPECT(stage, "to self leave");
    link_call(stage, 0, "e");
    link_leave(stage);
    COUNTED(stage, calls_one_way_refused, 4);
}

/* The limit of one user's calls, whichever session asks: as long as each may be answered. */
static void a_user_has_n_calls_at_an_instance(void **state)
{
    struct stage *stage = *state;
    stage->limits.link_mail_items = 100;
    stage->limits.limits_calls_per_user = 2;
    link_hello(stage, 50, 1);
    link_call(stage, 1, "a");
    EXPECT_NOTHING(stage);
    link_call(stage, 2, "a");
    EXPECT_NOTHING(stage);
    link_call(stage, 3, "one too many");
    EXPECT(stage, "to 901 call_result #103 call=3 epoch=3 BUSY");
    link_call(stage, 0, "one way"); /* counts apart */
    struct user_call_message *other = user_call_create(bytes_of_text("bob"), bytes_of_text("shop"),
                                                       bytes_of_text("b"), (struct bytes){NULL, 0});
    other->call = 4;
    other->deadline_ms = stage->now_ms + 9000;
    link_receive(stage, &other->header);
    EXPECT_NOTHING(stage);
    link_fetch(stage, 51, 0);
    link_fetch(stage, 52, 4);
    link_call(stage, 10, "acknowledged is not answered");
    EXPECT(stage, "to 901 call_result #110 call=10 epoch=3 BUSY");
    struct script *script = script_create();
    say_reply(script, 2, 0, "r");
    say_reply(script, 4, 0, "is bob's");
    link_submit(stage, 53, 0, 1, script);
    link_call(stage, 11, "answered");
    EXPECT(stage, "answer 52 batch [5 answered user=ann call=11 left=5000] last=0");
    link_call(stage, 12, "one too many");
    EXPECT(stage, "to 901 call_result #112 call=12 epoch=3 BUSY");
    stage->now_ms += 5000; /* of neither anybody waits for the answer */
    link_call(stage, 13, "over");
    EXPECT_NOTHING(stage);
    link_call(stage, 14, "over");
    EXPECT_NOTHING(stage);
    link_call(stage, 15, "one too many");
    EXPECT(stage, "to 901 call_result #115 call=15 epoch=3 BUSY");
}

/* A Login only claims to be somebody: else strangers would use up his share. */
static void logins_are_nobodys_calls(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_calls_per_user = 1;
    link_hello(stage, 50, 1);
    for (uint64_t call = 1; call <= 3; call++) {
        struct user_call_message *login = call_create(stage, call, "127.0.0.1:1", 1);
        login->body = MAIL_LOGIN;
        link_receive(stage, &login->header);
        EXPECT_NOTHING(stage);
    }
    link_call(stage, 4, "a");
    EXPECT_NOTHING(stage);
    assert_int_equal(stage->instance->asked.count, 1);
}

static void who_leaves_takes_any_number_of_calls(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_calls_per_user = 1;
    link_hello(stage, 50, 1);
    link_call(stage, 1, "a");
    link_tick(stage, stage->now_ms + stage->limits.link_fetch_timeout_ms);
    EXPECT(stage, "to self leave");
    link_call(stage, 2, "on its way");
    EXPECT_NOTHING(stage);
    link_call(stage, 3, "on its way");
    EXPECT_NOTHING(stage);
    link_leave(stage);
    assert_int_equal(stage->instance->asked.count, 0);
}

/* --- control ---------------------------------------------------------------------------------- */

static void a_stop_sends_the_backend_away(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_fetch(stage, 51, 0);
    link_bare(stage, MESSAGE_STOP);
    EXPECT(stage, "answer 51 batch [ GOAWAY ] last=0");
    assert_int_equal(atomic_load(&stage->counters.goaways), 0);
    link_fetch(stage, 52, 1);
    EXPECT_NOTHING(stage);
}

static void the_next_fetch_hears_of_a_stop(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_call(stage, 1, "a");
    link_bare(stage, MESSAGE_STOP);
    EXPECT_NOTHING(stage);
    assert_int_equal(atomic_load(&stage->counters.goaways), 1); /* the stop waits for it */
    link_bare(stage, MESSAGE_STOP);
    assert_int_equal(atomic_load(&stage->counters.goaways), 1);
    link_fetch(stage, 51, 0);
    EXPECT(stage, "answer 51 batch [1 a user=ann call=1 left=5000] [ GOAWAY ] last=0");
    assert_int_equal(atomic_load(&stage->counters.goaways), 0);
}

/* --- messages that are for users -------------------------------------------------------------- */

/* A backend may name anything, also an actor that is no user: it is nobody's name. */
static void an_instance_is_not_a_user(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct deliver_message *deliver = deliver_create(bytes_of_text("shop"), bytes_of_text("hi"));
    deliver->sender = 905;
    deliver->request = 77;
    link_receive(stage, &deliver->header);
    EXPECT(stage, "to 905 result #77 NOT_ONLINE epoch=0");
    struct kick_message *kick = message_create(MESSAGE_KICK, sizeof(*kick));
    kick->by = 905;
    kick->request = 78;
    link_receive(stage, &kick->header);
    EXPECT(stage, "to 905 result #78 NOT_ONLINE epoch=0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        stage_test(an_instance_has_a_name_that_no_user_can_have),
        stage_test(a_hello_joins_and_gives_a_link),
        stage_test(who_has_a_link_is_vouched_for),
        stage_test(the_same_incarnation_goes_on_with_its_link),
        stage_test(an_older_incarnation_is_banned),
        stage_test(a_newer_incarnation_supersedes),
        stage_test(a_superseded_fetch_is_refused),
        stage_test(a_fetch_needs_the_right_link),
        stage_test(a_fetch_waits_for_mail_or_for_the_heartbeat),
        stage_test(a_fetch_may_wait_less_but_not_longer),
        stage_test(the_newest_fetch_is_answered),
        stage_test(mail_is_sent_again_until_the_cursor_passes_it),
        stage_test(a_cursor_beyond_what_was_sent_drops_nothing_unsent),
        stage_test(what_arrives_together_leaves_together),
        stage_test(a_batch_has_a_limit_and_at_least_one_call),
        stage_test(a_traceparent_is_in_the_mail),
        stage_test(a_backend_may_ask_for_smaller_batches),
        stage_test(what_a_backend_has_is_not_sent_again),
        stage_test(who_has_too_much_waits),
        stage_test(the_mail_takes_n_items),
        stage_test(the_mail_takes_n_bytes),
        stage_test(a_call_that_is_late_is_not_handed_out),
        stage_test(late_calls_are_taken_out_in_steps),
        stage_test(a_user_has_n_one_way_calls_in_the_mail),
        stage_test(a_user_has_n_calls_at_an_instance),
        stage_test(logins_are_nobodys_calls),
        stage_test(who_leaves_takes_any_number_of_calls),
        stage_test(silence_loses_an_instance),
        stage_test(who_fetches_is_not_lost),
        stage_test(a_gone_peer_has_a_grace),
        stage_test(a_busy_one_has_the_same_grace),
        stage_test(a_gone_peer_of_a_submit_loses_nothing),
        stage_test(a_lost_instance_hands_its_mail_on_in_order),
        stage_test(calls_that_timed_out_are_not_handed_on),
        stage_test(what_comes_between_two_steps_is_handed_on),
        stage_test(a_call_behind_the_leave_is_handed_on_with_the_rest),
        stage_test(a_large_mail_is_handed_on_in_steps),
        stage_test(many_lost_calls_are_answered_in_steps),
        stage_test(nobody_answers_for_an_earlier_incarnation),
        stage_test(one_without_a_place_leaves_as_others_do),
        stage_test(a_full_mail_takes_what_comes_while_leaving),
        stage_test(a_lost_instance_refuses_its_running_submits),
        stage_test(a_stop_sends_the_backend_away),
        stage_test(the_next_fetch_hears_of_a_stop),
        stage_test(an_instance_is_not_a_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
