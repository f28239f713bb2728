/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/broker_frame.h"
#include "unit/actors/stage_link.h"

#include "base/memory.h"
#include "instance/private.h"

/* Commands: each has one effect and one result, however often it is asked for. */

static void submit_count(struct stage *stage, uint64_t exchange, uint32_t lane, uint64_t seq)
{
    struct script *script = script_create();
    say_count(script);
    link_submit(stage, exchange, lane, seq, script);
}

/* --- lanes ------------------------------------------------------------------------------------ */

static void a_repeated_seq_gets_the_same_results(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_call(stage, 1, "a");
    for (uint64_t exchange = 51; exchange <= 53; exchange++) {
        struct script *script = script_create();
        say_reply(script, 1, 0, "x");
        link_submit(stage, exchange, 1, 1, script);
        if (exchange == 51)
            EXPECT(stage, "to 901 call_result #101 call=1 epoch=3 OK status=0 'x'",
                   "answer 51 results 1: OK");
        else /* not GONE: the command was not run again */
            assert_string_equal(stage->tape + strlen("answer 52"), " results 1: OK\n");
    }
}

static void a_seq_out_of_order_is_refused_and_has_no_effect(void **state)
{
    static const uint64_t wrong[] = {0, 1, 4, UINT64_MAX};
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_submit(stage, 51, 1, 0, script_create()); /* seq begins with 1 */
    EXPECT(stage, "answer 51 refused MALFORMED");
    link_submit(stage, 51, 1, 2, script_create());
    EXPECT(stage, "answer 51 refused MALFORMED");
    link_submit(stage, 52, 1, 1, script_create());
    EXPECT(stage, "answer 52 results 1:");
    link_submit(stage, 53, 1, 2, script_create());
    EXPECT(stage, "answer 53 results 2:");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct script *script = script_create();
        say_push_1(script, "bob", "hi");
        link_submit(stage, 54, 1, wrong[i], script);
        EXPECT(stage, "answer 54 refused MALFORMED");
    }
    link_submit(stage, 55, 1, 3, script_create());
    EXPECT(stage, "answer 55 results 3:");
}

static void lanes_are_independent_and_limited(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    for (uint32_t lane = 0; lane < 16; lane++) {
        link_submit(stage, 51, lane * 7, 1, script_create());
        EXPECT(stage, "answer 51 results 1:");
    }
    link_submit(stage, 52, 1000, 1, script_create());
    EXPECT(stage, "answer 52 refused MALFORMED");
    link_submit(stage, 53, 7, 2, script_create());
    EXPECT(stage, "answer 53 results 2:");
}

static void a_repetition_takes_over_what_is_still_running(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    submit_count(stage, 51, 1, 1);
    EXPECT(stage, "link query count room=3840");
    uint64_t token = stage->tokens[0];
    submit_count(stage, 52, 1, 1);
    EXPECT(stage, "answer 51 refused BUSY");
    submit_count(stage, 53, 2, 1); /* another lane is none of its business */
    EXPECT(stage, "link query count room=3840");
    link_number(stage, token, 1, 5);
    EXPECT(stage, "answer 52 results 1: OK n=5");
    submit_count(stage, 54, 1, 1);
    EXPECT(stage, "answer 54 results 1: OK n=5");
}

static void the_next_seq_may_come_while_one_is_running(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    submit_count(stage, 51, 1, 1);
    uint64_t first = stage->tokens[0];
    submit_count(stage, 52, 1, 2);
    uint64_t second = stage->tokens[0];
    link_number(stage, second, 1, 2);
    EXPECT(stage, "answer 52 results 2: OK n=2");
    link_number(stage, first, 1, 1);
    EXPECT(stage, "answer 51 results 1: OK n=1");
    submit_count(stage, 53, 1, 2); /* the lane keeps its newest */
    EXPECT(stage, "answer 53 results 2: OK n=2");
}

/* A Submit that waits holds an exchange: one link may hold so many, however it numbers them. */
static void so_many_submits_of_a_link_and_no_more(void **state)
{
    struct stage *stage = *state;
    uint64_t tokens[16];
    link_hello(stage, 50, 1);
    link_call(stage, 1, "a");
    for (uint64_t i = 0; i < 16; i++) {
        submit_count(stage, 51 + i, (uint32_t)(i % 4), 1 + i / 4);
        EXPECT(stage, "link query count room=3840");
        tokens[i] = stage->tokens[0];
    }
    submit_count(stage, 70, 1, 5);
    EXPECT(stage, "answer 70 refused BUSY");
    submit_count(stage, 71, 3, 4); /* the last of its lane once more */
    EXPECT(stage, "answer 66 refused BUSY");
    struct script *script = script_create();
    say_reply(script, 1, 0, "x"); /* waits for nobody */
    link_submit(stage, 72, 9, 1, script);
    EXPECT(stage, "to 901 call_result #101 call=1 epoch=3 OK status=0 'x'",
           "answer 72 results 1: OK");
    link_number(stage, tokens[0], 1, 5);
    EXPECT(stage, "answer 51 results 1: OK n=5");
    submit_count(stage, 73, 1, 5); /* BUSY has changed nothing */
    EXPECT(stage, "link query count room=3840");
}

static void ask_without_a_link(struct stage *stage, uint64_t exchange, bool stranger)
{
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    Usher__V1__Submit submit = USHER__V1__SUBMIT__INIT;
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Count count = USHER__V1__COUNT__INIT;
    Usher__V1__Command *commands[] = {&command};
    command.body_case = USHER__V1__COMMAND__BODY_COUNT;
    command.count = &count;
    submit.seq = submit.n_commands = 1;
    submit.commands = commands;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_SUBMIT;
    request.submit = &submit;
    struct message *message = request_create(exchange, &request);
    ((struct link_request_message *)message)->stranger = stranger;
    link_receive(stage, message);
}

/* The share of strangers is the link's own to say: they keep nobody from asking who is none. */
static void strangers_are_not_counted_with_others(void **state)
{
    struct stage *stage = *state;
    for (uint64_t i = 0; i < 20; i++) {
        ask_without_a_link(stage, 50 + i, true);
        EXPECT(stage, "link query count room=3840");
    }
    for (uint64_t i = 0; i < 16; i++) {
        ask_without_a_link(stage, 70 + i, false);
        EXPECT(stage, "link query count room=3840");
    }
    ask_without_a_link(stage, 90, false);
    EXPECT(stage, "answer 90 refused BUSY");
}

/* Takes the script. */
static void ask_by_http(struct stage *stage, uint64_t exchange, struct script *script)
{
    struct message *message = submit_create(stage, exchange, 0, 0, script);
    strcpy(((struct link_request_message *)message)->by_http, "192.0.2.7");
    link_receive(stage, message);
}

/* HTTP has no link: it changes what it likes all the same, and counts for itself who waits. */
static void who_asks_by_http_needs_no_link(void **state)
{
    struct stage *stage = *state;
    for (uint64_t i = 0; i < 40; i++) {
        struct script *script = script_create();
        say_push(script, (const char *const[]){"ann", NULL}, "hi", 9);
        ask_by_http(stage, 50 + i, script);
        EXPECT(stage, "forward ann deliver service=http 'hi' wanted=9");
    }
    struct script *script = script_create();
    say_kick(script, "bob");
    ask_by_http(stage, 100, script);
    EXPECT(stage, "forward bob kick KICKED 'kicked by http' by http 192.0.2.7");
    script = script_create();
    say_count(script);
    ask_by_http(stage, 101, script);
    EXPECT(stage, "link query count room=261888");
    link_number(stage, stage->tokens[0], 1, 5);
    EXPECT(stage, "answer 101 results 0: OK n=5");
    script = script_create();
    say_kick(script, "bob");
    link_submit(stage, 102, 0, 0, script);
    EXPECT(stage, "answer 102 refused MALFORMED");
}

/* What waits for the store is not taken from there when a link ends, so it still counts. */
static void questions_of_ended_links_count(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct script *script = script_create();
    for (unsigned i = 0; i < 1000; i++)
        say_count(script);
    link_submit(stage, 51, 1, 1, script);
    uint64_t token = stage->tokens[0];
    for (uint64_t incarnation = 2; incarnation <= 4; incarnation++) {
        link_hello(stage, 52, incarnation);
        script = script_create();
        for (unsigned i = 0; i < 1000; i++)
            say_count(script);
        link_submit(stage, 53, 1, 1, script);
        assert_null(strstr(stage->tape, "BUSY"));
    }
    link_hello(stage, 54, 5);
    script = script_create();
    for (unsigned i = 0; i < 97; i++)
        say_count(script);
    link_submit(stage, 55, 1, 1, script);
    EXPECT(stage, "answer 55 refused BUSY");
    link_number(stage, token, 1, 5); /* one of the first link's: there is room for one more */
    script = script_create();
    for (unsigned i = 0; i < 97; i++)
        say_count(script);
    link_submit(stage, 56, 1, 1, script);
    assert_null(strstr(stage->tape, "BUSY"));
}

static void a_new_incarnation_begins_its_lanes_anew(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    submit_count(stage, 51, 1, 1);
    uint64_t token = stage->tokens[0];
    link_hello(stage, 52, 2);
    EXPECT(stage, "answer 51 refused STALE_LINK", "answer 52 accepted from=1");
    link_number(stage, token, 1, 5); /* nobody waits for it */
    EXPECT_NOTHING(stage);
    submit_count(stage, 53, 1, 1);
    EXPECT(stage, "link query count room=3840");
}

/* --- ReplyTo ---------------------------------------------------------------------------------- */

static void a_call_is_replied_to_once(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_call(stage, 1, "a");
    link_call(stage, 2, "b");
    struct script *script = script_create();
    say_reply(script, 2, 0, "");
    say_reply(script, 1, 7, "status is the service's");
    say_reply(script, 1, 0, "again");
    say_reply(script, 3, 0, "never given");
    say_reply(script, 0, 0, "one way");
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "to 901 call_result #102 call=2 epoch=3 OK status=0 ''",
           "to 901 call_result #101 call=1 epoch=3 OK status=7 'status is the service's'",
           "answer 51 results 1: OK OK GONE GONE GONE");
    COUNTED(stage, replies_late, 3);
}

/* Of a call whose way is measured, and of no other. */
static void the_stamp_of_a_call_comes_back_with_its_reply(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    for (uint32_t stamp_us = 0; stamp_us < 78; stamp_us += 77) {
        struct user_call_message *call = call_create(stage, 1 + stamp_us, "a", 1);
        call->stamp_us = stamp_us;
        link_receive(stage, &call->header);
    }
    struct script *script = script_create();
    say_reply(script, 1, 0, "");
    say_reply(script, 78, 0, "");
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "to 901 call_result #101 call=1 epoch=3 OK status=0 ''",
           "to 901 call_result #178 call=78 epoch=3 stamp=77 OK status=0 ''",
           "answer 51 results 1: OK OK");
}

static void a_reply_after_the_deadline_is_gone(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_call(stage, 1, "a");
    link_call(stage, 2, "b");
    stage->now_ms = STAGE_NOW_MS + 4999;
    struct script *script = script_create();
    say_reply(script, 1, 0, "in time");
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "to 901 call_result #101 call=1 epoch=3 OK status=0 'in time'",
           "answer 51 results 1: OK");
    stage->now_ms = STAGE_NOW_MS + 5000;
    script = script_create();
    say_reply(script, 2, 0, "late");
    link_submit(stage, 52, 1, 2, script);
    EXPECT(stage, "answer 52 results 2: GONE");
}

/* The payload with which the Reply to request #101 has `frame` bytes. */
static struct bytes payload_for(size_t frame, char text[])
{
    struct bytes payload = {(uint8_t *)text, frame};
    memset(text, 'r', frame);
    while (broker_frame_reply_size(101, 0, payload) > frame)
        payload.size--;
    text[payload.size] = '\0';
    return payload;
}

/* Of what was promised to him; the service hears of it as well. */
static void a_reply_fits_the_callers_frame_or_is_refused(void **state)
{
    struct stage *stage = *state;
    char text[2048];
    link_hello(stage, 50, 1);
    for (uint32_t more = 0; more < 2; more++) {
        payload_for(stage->limits.limits_frame_bytes + more, text);
        link_call(stage, 1 + more, "a");
        struct script *script = script_create();
        say_reply(script, 1 + more, 0, text);
        link_submit(stage, 51, 1, 1 + more, script);
        if (more == 0)
            assert_non_null(strstr(stage->tape, "answer 51 results 1: OK"));
        else
            EXPECT(stage, "to 901 call_result #102 call=2 epoch=3 TOO_LARGE",
                   "answer 51 results 2: TOO_LARGE");
    }
    COUNTED(stage, replies_late, 0);
}

/* --- Push ------------------------------------------------------------------------------------- */

static void a_push_reports_whom_it_did_not_reach(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct script *script = script_create();
    say_push(script, (const char *const[]){"ann", "bob", "eve", NULL}, "hi", 9);
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "forward ann deliver service=shop 'hi' wanted=9",
           "forward bob deliver service=shop 'hi' wanted=9",
           "forward eve deliver service=shop 'hi' wanted=9");
    uint64_t tokens[3];
    memcpy(tokens, stage->tokens, sizeof(tokens));
    link_result(stage, tokens[2], RESULT_STALE_EPOCH);
    link_result(stage, tokens[0], USHER__V1__ERROR__CODE__NOT_ONLINE);
    EXPECT_NOTHING(stage);
    link_result(stage, tokens[1], 0);
    EXPECT(stage, "answer 51 results 1: OK(1 eve STALE_EPOCH ann NOT_ONLINE)");
}

static void a_push_to_one_has_his_code(void **state)
{
    static const struct {
        uint16_t code;
        const char *line;
    } rows[] = {
        {0, "answer 51 results 1: OK(1)"},
        {USHER__V1__ERROR__CODE__NOT_ONLINE, "answer 51 results 2: NOT_ONLINE(0 bob NOT_ONLINE)"},
        {USHER__V1__ERROR__CODE__INBOX_FULL, "answer 51 results 3: INBOX_FULL(0 bob INBOX_FULL)"},
        {USHER__V1__ERROR__CODE__BUSY, "answer 51 results 4: INBOX_FULL(0 bob INBOX_FULL)"},
        {USHER__V1__ERROR__CODE__TOO_LARGE, "answer 51 results 5: TOO_LARGE(0 bob TOO_LARGE)"},
        {RESULT_STALE_EPOCH, "answer 51 results 6: STALE_EPOCH(0 bob STALE_EPOCH)"},
        {USHER__V1__ERROR__CODE__UNAVAILABLE,
         "answer 51 results 7: UNAVAILABLE(0 bob UNAVAILABLE)"},
        {USHER__V1__ERROR__CODE__INTERNAL, "answer 51 results 8: UNAVAILABLE(0 bob UNAVAILABLE)"},
    };
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    for (uint64_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct script *script = script_create();
        say_push_1(script, "bob", "hi");
        link_submit(stage, 51, 1, i + 1, script);
        link_result(stage, stage->tokens[0], rows[i].code);
        EXPECT(stage, rows[i].line);
    }
}

/* The number of a name has 16 bits of a token. */
static void a_push_has_n_names(void **state)
{
    static char *names[UINT16_MAX + 1];
    struct stage *stage = *state;
    for (size_t i = 0; i <= UINT16_MAX; i++)
        names[i] = (char *)"bob";
    Usher__V1__Submit submit = USHER__V1__SUBMIT__INIT;
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Command *commands[] = {&command};
    Usher__V1__Push push = USHER__V1__PUSH__INIT;
    submit.link = 1;
    submit.n_commands = 1;
    submit.commands = commands;
    command.body_case = USHER__V1__COMMAND__BODY_PUSH;
    command.push = &push;
    push.to = names;
    push.n_to = UINT16_MAX;
    assert_null(instance_submit_fault(&submit, false, &stage->limits));
    push.n_to++;
    assert_non_null(instance_submit_fault(&submit, false, &stage->limits));
}

static void a_push_to_nobody_reaches_nobody(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct script *script = script_create();
    say_push(script, (const char *const[]){NULL}, "hi", 0);
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "answer 51 results 1: OK(0)");
}

static void a_push_to_all_comes_back_with_a_number(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct script *script = script_create();
    say_push_all(script, "maintenance");
    say_push_all(script, "");
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "link push_all shop 'maintenance'", "link push_all shop ''");
    uint64_t tokens[2];
    memcpy(tokens, stage->tokens, sizeof(tokens));
    for (unsigned i = 0; i < 2; i++) {
        struct push_all_message *push = message_create(MESSAGE_PUSHED_ALL, sizeof(*push));
        push->token = tokens[i];
        push->accepted = 30 + i;
        push->missed = 3; /* of an ordinary one nobody hears */
        push->transient = false;
        link_receive(stage, &push->header);
    }
    EXPECT(stage, "answer 51 results 1: OK(30) OK(31)");
}

/* What did not go is counted, and is no failure. */
static void a_traceparent_goes_with_a_push_if_it_is_one(void **state)
{
    static const char parent[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    static const char none[] = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct script *script = script_create();
    say_push_1(script, "bob", "hi");
    script->list[0]->push->traceparent = (char *)parent;
    say_push_1(script, "bob", "ho");
    script->list[1]->push->traceparent = (char *)none;
    say_push_all(script, "all");
    script->list[2]->push_all->traceparent = (char *)parent;
    say_push_all(script, "all");
    script->list[3]->push_all->traceparent = (char *)none;
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage,
           "forward bob deliver service=shop 'hi' "
           "trace=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
           "forward bob deliver service=shop 'ho'",
           "link push_all shop 'all' trace=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
           "link push_all shop 'all'");
    COUNTED(stage, traceparents_invalid, 2);
}

static void a_transient_push_says_how_many_it_missed(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct script *script = script_create();
    say_push_transient(script, (const char *const[]){"ann", "bob", "eve", NULL}, "at 3");
    say_push_1(script, "ann", "hi");
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "forward ann deliver service=shop 'at 3' transient",
           "forward bob deliver service=shop 'at 3' transient",
           "forward eve deliver service=shop 'at 3' transient",
           "forward ann deliver service=shop 'hi'");
    uint64_t tokens[4];
    memcpy(tokens, stage->tokens, sizeof(tokens));
    link_result(stage, tokens[0], RESULT_DROPPED);
    link_result(stage, tokens[1], 0);
    link_result(stage, tokens[2], USHER__V1__ERROR__CODE__NOT_ONLINE);
    link_result(stage, tokens[3], 0);
    EXPECT(stage, "answer 51 results 1: OK(1 dropped=1 eve NOT_ONLINE) OK(1)");
}

static void a_transient_push_to_all_is_one(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct script *script = script_create();
    say_push_all(script, "at 3");
    script->list[0]->push_all->transient = true;
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "link push_all shop 'at 3' transient");
    struct push_all_message *push = message_create(MESSAGE_PUSHED_ALL, sizeof(*push));
    push->token = stage->tokens[0];
    push->accepted = 30;
    push->missed = 2;
    push->transient = true;
    link_receive(stage, &push->header);
    EXPECT(stage, "answer 51 results 1: OK(30 dropped=2)");
    COUNTED(stage, transient_dropped, 2);
}

/* --- Kick ------------------------------------------------------------------------------------- */

static void a_kick_says_what_the_backend_says(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct script *script = script_create();
    say_kick(script, "bob");
    Usher__V1__Kick *kick = say_kick(script, "eve");
    kick->epoch = 4;
    kick->reason = USHER__V1__CLOSE__REASON__RATE_LIMITED;
    kick->detail = (char *)"slow down";
    kick->retry_after_ms = 900;
    kick->do_not_return = true;
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "forward bob kick KICKED 'kicked by shop' by shop/1",
           "forward eve kick epoch=4 RATE_LIMITED retry=900 'slow down' do_not_return by shop/1");
    uint64_t tokens[2];
    memcpy(tokens, stage->tokens, sizeof(tokens));
    link_result(stage, tokens[0], USHER__V1__ERROR__CODE__NOT_ONLINE);
    link_result(stage, tokens[1], 0);
    EXPECT(stage, "answer 51 results 1: NOT_ONLINE OK");
}

/* What goes to the client must be UTF-8, so a text that is too long is cut between characters. */
static void a_long_detail_is_cut_between_characters(void **state)
{
    static const struct {
        unsigned before;    /* letters */
        const char *behind; /* what follows them */
        unsigned size;      /* that goes to the client */
    } rows[] = {{120, "", 120},
                {121, "", 120},
                {5000, "", 120},
                {117, "\xe2\x82\xac", 120},
                {118, "\xe2\x82\xac", 118},
                {119, "\xe2\x82\xac", 119},
                {120, "\xe2\x82\xac", 120},
                {116, "\xf0\x9f\x8e\xb2", 120},
                {117, "\xf0\x9f\x8e\xb2", 117},
                {119, "\xf0\x9f\x8e\xb2!", 119},
                {118, "\xc3\xa4", 120},
                {119, "\xc3\xa4\xc3\xa4", 119}};
    char detail[5100];
    char line[DETAIL_BYTES_MAX + 40];
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        memset(detail, 'd', rows[i].before);
        strcpy(detail + rows[i].before, rows[i].behind);
        struct script *script = script_create();
        say_kick(script, "bob")->detail = detail;
        link_submit(stage, 51, 1, i + 1, script);
        snprintf(line, sizeof(line), "forward bob kick KICKED '%.*s' by shop/1", (int)rows[i].size,
                 detail);
        EXPECT(stage, line);
        link_result(stage, stage->tokens[0], 0);
    }
}

/* --- queries ---------------------------------------------------------------------------------- */

static void queries_go_to_the_store_with_a_share_of_the_answer(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct script *script = script_create();
    say_lookup(script);
    say_list(script);
    say_snapshot(script);
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "link query lookup room=1280", "link query list room=1280",
           "link query snapshot room=1280");
    script = script_create();
    for (unsigned i = 0; i < 3; i++) {
        say_count(script);
        say_events(script);
        say_stats(script);
    }
    link_submit(stage, 52, 2, 1, script);
    EXPECT(stage, "link query count room=1024", "link query events room=1024",
           "link query stats room=1024", "link query count room=1024",
           "link query events room=1024", "link query stats room=1024",
           "link query count room=1024", "link query events room=1024",
           "link query stats room=1024");
}

static void a_submit_is_answered_when_no_command_waits(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_call(stage, 1, "a");
    struct script *script = script_create();
    say_count(script);
    say_reply(script, 1, 0, "x");
    say_push_1(script, "bob", "hi");
    say_nothing(script);
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "link query count room=1024",
           "to 901 call_result #101 call=1 epoch=3 OK status=0 'x'",
           "forward bob deliver service=shop 'hi'");
    uint64_t tokens[2];
    memcpy(tokens, stage->tokens, sizeof(tokens));
    link_result(stage, tokens[1], 0);
    EXPECT_NOTHING(stage);
    link_number(stage, tokens[0], 1, 4);
    EXPECT(stage, "answer 51 results 1: OK n=4 OK OK(1) MALFORMED");
    link_result(stage, tokens[1], 0); /* told twice */
    EXPECT_NOTHING(stage);
}

/* --- what a Submit may not -------------------------------------------------------------------- */

static void a_submit_needs_the_right_link(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    stage->link++;
    submit_count(stage, 51, 1, 1);
    EXPECT(stage, "answer 51 refused STALE_LINK");
    stage->link = 0;
    submit_count(stage, 51, 1, 1);
    EXPECT(stage, "answer 51 refused STALE_LINK");
}

/* The visitors' actor: no Hello, no link, no lanes. */
static void visitors_may_ask_and_nothing_else(void **state)
{
    struct stage *stage = *state;
    for (unsigned i = 0; i < 3; i++) { /* any lane and seq, any time */
        submit_count(stage, 51 + i, 0, 0);
        EXPECT(stage, "link query count room=3840");
        link_number(stage, stage->tokens[0], 1, i);
        assert_non_null(strstr(stage->tape, "results 0: OK n="));
    }
    struct script *scripts[] = {script_create(), script_create(), script_create(),
                                script_create(), script_create(), script_create()};
    say_reply(scripts[0], 1, 0, "x");
    say_push_1(scripts[1], "bob", "hi");
    say_push_all(scripts[2], "hi");
    say_kick(scripts[3], "bob");
    say_drain(scripts[4]);
    say_nothing(scripts[5]);
    for (unsigned i = 0; i < 6; i++) {
        say_count(scripts[i]);
        link_submit(stage, 60, 0, 0, scripts[i]);
        EXPECT(stage, "answer 60 refused MALFORMED");
    }
}

static void two_visitors_get_their_own_answers(void **state)
{
    struct stage *stage = *state;
    submit_count(stage, 51, 1, 1);
    uint64_t first = stage->tokens[0];
    submit_count(stage, 52, 1, 1);
    uint64_t second = stage->tokens[0];
    link_number(stage, second, 1, 2);
    EXPECT(stage, "answer 52 results 1: OK n=2");
    link_number(stage, first, 1, 1);
    EXPECT(stage, "answer 51 results 1: OK n=1");
}

/* --- the answer fits the frame ---------------------------------------------------------------- */

/* The tape checks every answer against link_frame_bytes_max. */
static void results_that_do_not_fit_are_too_large(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct script *script = script_create();
    for (unsigned i = 0; i < 3; i++)
        say_count(script);
    link_submit(stage, 51, 1, 1, script);
    uint64_t tokens[3];
    memcpy(tokens, stage->tokens, sizeof(tokens));
    link_number(stage, tokens[0], 30, 1);
    link_number(stage, tokens[1], 4096, 2);
    link_number(stage, tokens[2], 30, 3);
    char name[31];
    memset(name, 'n', 30);
    name[30] = '\0';
    char line[160];
    snprintf(line, sizeof(line), "answer 51 results 1: OK %s=1 TOO_LARGE OK %s=3", name, name);
    EXPECT(stage, line);
    submit_count(stage, 52, 1, 2);
    link_number(stage, stage->tokens[0], 4000, 1);
    assert_null(strstr(stage->tape, "TOO_LARGE"));
}

/* What a frame cannot carry is not kept until the last answer is there: the book does not grow with
 * what was asked. */
static void answers_that_no_frame_carries_are_not_kept(void **state)
{
    enum { QUESTIONS = 200, LONG = 1500, STEP_OF_BOOK = 64 * 1024 };
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    memory_open(&stage->limits, NULL, stage->metrics);
    struct script *script = script_create();
    for (unsigned i = 0; i < QUESTIONS; i++)
        say_count(script);
    link_submit(stage, 51, 1, 1, script);
    uint64_t first = stage->tokens[0] & ~UINT64_C(0xffffffff); /* the index of a command is in it */
    uint64_t before = metrics_read(stage->metrics, METRIC_memory_held_bytes);
    for (uint64_t i = 0; i < QUESTIONS - 1; i++)
        link_number(stage, first | i << 16, LONG, i);
    assert_true(metrics_read(stage->metrics, METRIC_memory_held_bytes) - before <= STEP_OF_BOOK);
    link_number(stage, first | (QUESTIONS - 1) << 16, 3, 7);
    assert_non_null(strstr(stage->tape, "TOO_LARGE TOO_LARGE OK nnn=7"));
    memory_close();
}

static void a_report_of_many_failures_does_not_exceed_the_frame(void **state)
{
    struct stage *stage = *state;
    char name[65];
    memset(name, 'n', 64);
    name[64] = '\0';
    stage->limits.link_frame_bytes = 1024;
    link_hello(stage, 50, 1);
    struct script *script = script_create();
    for (unsigned i = 0; i < 3; i++)
        say_push(script, (const char *const[]){name, name, name, name, name, name, name, NULL},
                 "hi", 0);
    link_submit(stage, 51, 1, 1, script);
    /* The tokens of 21 names: number of the Submit, command, name. */
    uint64_t first = stage->tokens[6] & ~UINT64_C(0xffffffff);
    for (uint64_t command = 0; command < 3; command++)
        for (uint64_t i = 0; i < 7; i++)
            link_result(stage, first | command << 16 | i, USHER__V1__ERROR__CODE__NOT_ONLINE);
    assert_non_null(strstr(stage->tape, "answer 51 results 1: OK(0 nnn"));
    assert_non_null(strstr(stage->tape, " TOO_LARGE\n"));
}

static size_t count_of(const char *text, const char *word)
{
    size_t count = 0;
    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word))
        count++;
    return count;
}

/* Commands of two bytes have results of four: the frame must hold them all, with their codes. */
static void many_small_commands_have_their_own_results(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    for (uint64_t n = 900; n <= 1010; n += 10) {
        struct script *script = script_create();
        for (uint64_t i = 0; i < n; i++)
            say_nothing(script);
        link_submit(stage, 51, 1, (n - 900) / 10 + 1, script);
        assert_int_equal(count_of(stage->tape, " MALFORMED"), n);
    }
}

static void more_commands_than_the_frame_has_room_for_are_refused(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    uint64_t seq = 1;
    for (uint64_t n = 1000; n <= 1100; n++) {
        struct script *script = script_create();
        for (uint64_t i = 0; i < n; i++)
            say_nothing(script);
        link_submit(stage, 51, 1, seq, script);
        bool refused = strcmp(stage->tape, "answer 51 refused MALFORMED\n") == 0;
        assert_true(refused || count_of(stage->tape, " MALFORMED") == n);
        assert_true(refused || n < 1024);
        seq += !refused; /* a refusal leaves the lane as it was */
    }
}

/* The numbers in the tokens have 32 bits. Around their end each Submit has its answer, also beside
 * one that has been in progress for 4 billion others. */
static void submits_go_on_when_their_numbers_come_again(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    struct script *script = script_create();
    say_push_1(script, "ann", "first");
    link_submit(stage, 51, 1, 1, script);
    uint64_t first = stage->tokens[0];
    stage->instance->submit_number = UINT32_MAX - 2;
    for (uint64_t seq = 2; seq < 10; seq++) {
        script = script_create();
        say_push_1(script, "bob", "hi");
        link_submit(stage, 52, 1, seq, script);
        uint64_t token = stage->tokens[0];
        assert_int_not_equal(token, 0);
        assert_int_not_equal(token, first);
        link_result(stage, token, 0);
        assert_non_null(strstr(stage->tape, "answer 52 results"));
    }
    link_result(stage, first, 0);
    assert_non_null(strstr(stage->tape, "answer 51 results"));
}

/* --- Drain ------------------------------------------------------------------------------------ */

static void a_drain_is_confirmed_in_the_mail(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    link_fetch(stage, 51, 0);
    struct script *script = script_create();
    say_drain(script);
    link_submit(stage, 52, 1, 1, script);
    EXPECT(stage, "link drain", "answer 52 results 1: OK", "answer 51 batch [ DRAIN ] last=0");
    link_fetch(stage, 53, 0); /* it is mail: said again until it is acknowledged */
    EXPECT(stage, "answer 53 batch [ DRAIN ] last=0");
    link_fetch(stage, 54, 1);
    EXPECT_NOTHING(stage);
    script = script_create();
    for (unsigned i = 0; i < 3; i++)
        say_drain(script);
    link_submit(stage, 52, 1, 2, script); /* it drains already: nothing is done again */
    EXPECT(stage, "answer 52 results 2: OK OK OK");
    link_hello(stage, 55, 1); /* it is back for new users */
    EXPECT(stage, "link undrain", "answer 55 accepted from=1");
}

/* Who says Hello and Drain in turns fills no mail with the news. */
static void a_drain_waits_in_the_mail_once(void **state)
{
    struct stage *stage = *state;
    link_hello(stage, 50, 1);
    for (uint64_t i = 1; i <= 5; i++) {
        struct script *script = script_create();
        say_drain(script);
        link_submit(stage, 51, 1, i, script);
        assert_non_null(strstr(stage->tape, "link drain\n"));
        link_hello(stage, 52, 1);
    }
    assert_int_equal(stage->instance->mail_count, 1);
    link_fetch(stage, 53, 0);
    EXPECT(stage, "answer 53 batch [ DRAIN ] last=0");
    link_fetch(stage, 54, 1);
    struct script *script = script_create();
    say_drain(script);
    link_submit(stage, 55, 1, 6, script); /* the last one has been heard: this one is news */
    EXPECT(stage, "link drain", "answer 55 results 6: OK", "answer 54 batch [ DRAIN ] last=0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        stage_test(a_repeated_seq_gets_the_same_results),
        stage_test(a_seq_out_of_order_is_refused_and_has_no_effect),
        stage_test(lanes_are_independent_and_limited),
        stage_test(a_repetition_takes_over_what_is_still_running),
        stage_test(the_next_seq_may_come_while_one_is_running),
        stage_test(so_many_submits_of_a_link_and_no_more),
        stage_test(strangers_are_not_counted_with_others),
        stage_test(who_asks_by_http_needs_no_link),
        stage_test(questions_of_ended_links_count),
        stage_test(a_new_incarnation_begins_its_lanes_anew),
        stage_test(a_call_is_replied_to_once),
        stage_test(the_stamp_of_a_call_comes_back_with_its_reply),
        stage_test(a_reply_after_the_deadline_is_gone),
        stage_test(a_reply_fits_the_callers_frame_or_is_refused),
        stage_test(a_push_reports_whom_it_did_not_reach),
        stage_test(a_push_to_one_has_his_code),
        stage_test(a_push_has_n_names),
        stage_test(a_push_to_nobody_reaches_nobody),
        stage_test(a_push_to_all_comes_back_with_a_number),
        stage_test(a_traceparent_goes_with_a_push_if_it_is_one),
        stage_test(a_transient_push_says_how_many_it_missed),
        stage_test(a_transient_push_to_all_is_one),
        stage_test(a_kick_says_what_the_backend_says),
        stage_test(a_long_detail_is_cut_between_characters),
        stage_test(queries_go_to_the_store_with_a_share_of_the_answer),
        stage_test(a_submit_is_answered_when_no_command_waits),
        stage_test(a_submit_needs_the_right_link),
        stage_test(visitors_may_ask_and_nothing_else),
        stage_test(two_visitors_get_their_own_answers),
        stage_test(results_that_do_not_fit_are_too_large),
        stage_test(answers_that_no_frame_carries_are_not_kept),
        stage_test(a_report_of_many_failures_does_not_exceed_the_frame),
        stage_test(many_small_commands_have_their_own_results),
        stage_test(more_commands_than_the_frame_has_room_for_are_refused),
        stage_test(submits_go_on_when_their_numbers_come_again),
        stage_test(a_drain_is_confirmed_in_the_mail),
        stage_test(a_drain_waits_in_the_mail_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
