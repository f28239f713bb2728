/* SPDX-License-Identifier: Apache-2.0 */
#include "door_stand.h"
#include "token_make.h"

/* Logins that are judged: what the I/O thread does with them before and after, played on the
 * test's own thread, and once with the real threads. Connections are numbers from 1 on. */

enum { WAITING_MAX = 30, FAILED_MAX = 10, NOW_S = 1700000000 }; /* as hall_wall_ms says */

#define UNAUTHENTICATED USHER__V1__ERROR__CODE__UNAUTHENTICATED
#define GOOD "{\"sub\":\"alice\",\"exp\":1700000300}"
#define EXPIRED "{\"sub\":\"alice\",\"exp\":1600000000}"

static void by_token(struct options *options)
{
    options->auth_mode = AUTH_MODE_TOKEN;
    options->limits_logins_waiting = WAITING_MAX;
    options->limits_failed_logins_per_source = FAILED_MAX;
    options->threads_admission = 3;
}

static void set_keys(struct stand *stand, const char *json)
{
    char error[KEYRING_ERROR_BYTES];
    struct keyring *keyring;
    assert_int_equal(keyring_read(&keyring, bytes_of_text(json), error), 0);
    admission_set_keys(stand->admission, keyring);
}

static struct stand *begin(void)
{
    struct stand *stand = stand_make(true, by_token);
    set_keys(stand, TOKEN_KEYS);
    stand->net.address = "10.0.0.1:5";
    return stand;
}

static void give_login(struct stand *stand, conn_handle conn, const char *user, const char *claims)
{
    char token[TOKEN_MAKE_BYTES] = "";
    if (claims != NULL)
        token_make(token, TOKEN_HEADER, claims);
    give_token(stand, conn, user, token);
}

static void judge_all(struct stand *stand)
{
    while (admission_step(stand->admission))
        continue;
    next_batch(stand);
    hall_run(&stand->hall);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void a_good_token_is_welcomed(void **state)
{
    struct stand *stand = begin();
    give_login(stand, 1, "alice", GOOD);
    assert_non_null(stand->net.kept[1]);
    assert_false(hall_knows(&stand->hall, "alice"));
    assert_int_equal(stand->net.told_count, 0);
    assert_true(admission_step(stand->admission));
    assert_int_equal(told_times(&stand->net, TOLD_WAKE, 1), 1);
    assert_false(hall_knows(&stand->hall, "alice")); /* the I/O thread alone attaches */
    judge_all(stand);
    expect_attached(stand, 1);
    assert_null(stand->net.kept[1]);
    assert_int_equal(hall_metric(&stand->hall, METRIC_logins_checked), 1);
    stand_free(stand);
}

static void the_name_may_come_from_the_token(void **state)
{
    struct stand *stand = begin();
    give_login(stand, 1, "", GOOD);
    judge_all(stand);
    expect_attached(stand, 1);
    assert_true(hall_knows(&stand->hall, "alice"));
    stand_free(stand);
}

static void a_bad_token_touches_nobody(void **state)
{
    static const struct {
        const char *user, *claims;
        enum metric_id counter;
    } rows[] = {
        {"alice", NULL, METRIC_logins_refused_missing},
        {"", NULL, METRIC_logins_refused_missing},
        {"alice", EXPIRED, METRIC_logins_refused_expired},
        {"bob", GOOD, METRIC_logins_refused_name},
        {"alice2", GOOD, METRIC_logins_refused_name},
        {"alice", "{}", METRIC_logins_refused_claims},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct stand *stand = begin();
        give_login(stand, 1, rows[i].user, rows[i].claims);
        judge_all(stand);
        expect_refused(stand, 1, UNAUTHENTICATED, USHER__V1__CLOSE__REASON__AUTH_FAILED);
        assert_int_equal(hall_metric(&stand->hall, rows[i].counter), 1);
        assert_int_equal(registry_count(stand->hall.registry), 0);
        assert_null(stand->net.kept[1]);
        stand_free(stand);
    }
}

static void whoever_ends_meanwhile_is_not_attached(void **state)
{
    static const struct {
        enum conn_end end;
        unsigned writes;
        uint32_t error, reason;
    } rows[] = {
        {CONN_LOST, 0, 0, 0},
        {CONN_LOGIN_DEADLINE, 2, USHER__V1__ERROR__CODE__TIMEOUT,
         USHER__V1__CLOSE__REASON__AUTH_TIMEOUT},
        {CONN_PRELOGIN_BYTES, 2, USHER__V1__ERROR__CODE__PROTOCOL,
         USHER__V1__CLOSE__REASON__PROTOCOL_ERROR},
        {CONN_STOPPING, 2, USHER__V1__ERROR__CODE__DRAINING, USHER__V1__CLOSE__REASON__SHUTDOWN},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        for (int judged_first = 0; judged_first < 2; judged_first++) {
            struct stand *stand = begin();
            give_login(stand, 1, "alice", GOOD);
            if (judged_first)
                assert_true(admission_step(stand->admission));
            give_end(stand, 1, rows[i].end);
            assert_int_equal(told_times(&stand->net, TOLD_WRITE, 1), rows[i].writes);
            if (rows[i].writes > 0)
                expect_refused(stand, 1, rows[i].error, rows[i].reason);
            judge_all(stand);
            assert_int_equal(told_times(&stand->net, TOLD_WRITE, 1), rows[i].writes);
            assert_int_equal(told_times(&stand->net, TOLD_RELEASE, 1), 1);
            assert_int_equal(registry_count(stand->hall.registry), 0);
            stand_free(stand);
        }
}

/* Who was silent while others came: told so, with a time to come back. */
static void who_goes_for_a_newcomer_is_told(void **state)
{
    struct stand *stand = begin();
    give_end(stand, 1, CONN_DISPLACED);
    expect_said(stand, 1, 0, USHER__V1__BROKER_FRAME__BODY_CLOSE,
                USHER__V1__CLOSE__REASON__OVERLOADED);
    assert_int_equal(told_times(&stand->net, TOLD_WRITE, 1), 1);
    assert_int_equal(told_times(&stand->net, TOLD_RELEASE, 1), 1);
    assert_int_equal(hall_metric(&stand->hall, METRIC_closed_protocol), 0);
    stand_free(stand);
}

static void so_many_wait_and_no_more(void **state)
{
    struct stand *stand = begin();
    for (conn_handle conn = 1; conn <= WAITING_MAX + 1; conn++)
        give_login(stand, conn, "alice", GOOD);
    assert_int_equal(told_times(&stand->net, TOLD_WRITE, WAITING_MAX), 0);
    expect_said(stand, WAITING_MAX + 1, 0, USHER__V1__BROKER_FRAME__BODY_ERROR,
                USHER__V1__ERROR__CODE__BUSY);
    assert_int_equal(told_times(&stand->net, TOLD_RELEASE, WAITING_MAX + 1), 0);
    assert_int_equal(hall_metric(&stand->hall, METRIC_logins_refused_busy), 1);
    /* It may try again, on the same connection. */
    assert_true(admission_step(stand->admission));
    give_login(stand, WAITING_MAX + 1, "alice", GOOD);
    assert_int_equal(told_times(&stand->net, TOLD_WRITE, WAITING_MAX + 1), 1);
    assert_non_null(stand->net.kept[(WAITING_MAX + 1) % TOLD_CONNS]);
    stand_free(stand);
}

static bool waits(struct stand *stand, conn_handle conn, const char *address)
{
    stand->net.address = address;
    give_login(stand, conn, "alice", GOOD);
    bool kept = stand->net.kept[conn] != NULL;
    if (!kept)
        expect_said(stand, conn, 0, USHER__V1__BROKER_FRAME__BODY_ERROR,
                    USHER__V1__ERROR__CODE__BUSY);
    return kept;
}

static void set_per_source(struct stand *stand, uint64_t max)
{
    stand->limits.limits_prelogin_per_source = max;
}

/* Those count whose connection has ended: they are judged like the others. */
static void of_one_source_so_many_wait(void **state)
{
    struct stand *stand = begin();
    set_per_source(stand, 2);
    assert_true(waits(stand, 1, "10.0.0.1:1"));
    assert_true(waits(stand, 2, "10.0.0.1:2"));
    give_end(stand, 1, CONN_LOST);
    give_end(stand, 2, CONN_PRELOGIN_BYTES);
    assert_false(waits(stand, 3, "10.0.0.1:3"));
    assert_int_equal(hall_metric(&stand->hall, METRIC_logins_refused_busy), 1);
    assert_true(waits(stand, 4, "10.0.0.2:3"));
    assert_true(admission_step(stand->admission));
    assert_true(waits(stand, 5, "10.0.0.1:4"));
    assert_false(waits(stand, 6, "10.0.0.1:5"));
    /* Whatever the limit is when the verdict comes. */
    set_per_source(stand, 0);
    assert_true(waits(stand, 7, "10.0.0.1:6"));
    set_per_source(stand, 2);
    judge_all(stand);
    assert_true(waits(stand, 8, "10.0.0.1:7"));
    assert_true(waits(stand, 9, "10.0.0.1:8"));
    assert_false(waits(stand, 10, "10.0.0.1:9"));
    stand_free(stand);
}

static void wider_sources_wait_too(void **state)
{
    struct stand *stand = begin();
    set_per_source(stand, 1);
    assert_true(waits(stand, 1, "[2001:db8:0:1::1]:1"));
    assert_false(waits(stand, 2, "[2001:db8:0:1::2]:1"));
    assert_true(waits(stand, 3, "[2001:db8:0:2::1]:1"));
    assert_false(waits(stand, 4, "[2001:db8:0:3::1]:1"));
    assert_true(waits(stand, 5, "[2001:db8:0:103::1]:1"));
    judge_all(stand);
    assert_true(waits(stand, 6, "[2001:db8:0:3::1]:1"));
    stand_free(stand);
}

static void many_failures_are_refused_unseen(void **state)
{
    struct stand *stand = begin();
    for (conn_handle conn = 1; conn <= FAILED_MAX; conn++) {
        give_login(stand, conn, "alice", EXPIRED);
        judge_all(stand);
        expect_refused(stand, conn, UNAUTHENTICATED, USHER__V1__CLOSE__REASON__AUTH_FAILED);
    }
    assert_int_equal(hall_metric(&stand->hall, METRIC_logins_checked), FAILED_MAX);
    give_login(stand, 20, "alice", GOOD); /* nobody looks */
    expect_refused(stand, 20, USHER__V1__ERROR__CODE__RATE_LIMITED,
                   USHER__V1__CLOSE__REASON__RATE_LIMITED);
    assert_false(admission_step(stand->admission));
    assert_int_equal(hall_metric(&stand->hall, METRIC_logins_checked), FAILED_MAX);
    stand->net.address = "10.0.0.2:5"; /* elsewhere nothing has happened */
    give_login(stand, 21, "alice", GOOD);
    judge_all(stand);
    expect_attached(stand, 21);
    stand->net.address = "10.0.0.1:5";
    atomic_fetch_add(&stand->hall.now_ms, 6000); /* one is given back */
    give_login(stand, 22, "alice", GOOD);
    judge_all(stand);
    expect_attached(stand, 22);
    stand_free(stand);
}

/* All are on their way before the first is found to be bad. */
static void a_burst_of_failures_costs_no_more(void **state)
{
    struct stand *stand = begin();
    for (conn_handle conn = 1; conn <= WAITING_MAX; conn++)
        give_login(stand, conn, "alice", EXPIRED);
    judge_all(stand);
    assert_int_equal(hall_metric(&stand->hall, METRIC_logins_refused_expired), FAILED_MAX);
    assert_int_equal(hall_metric(&stand->hall, METRIC_logins_refused_limited),
                     WAITING_MAX - FAILED_MAX);
    assert_int_equal(hall_metric(&stand->hall, METRIC_logins_checked), FAILED_MAX);
    stand_free(stand);
}

static void good_logins_are_never_limited(void **state)
{
    struct stand *stand = begin();
    for (conn_handle conn = 1; conn <= 40; conn++) {
        char claims[128], user[16];
        snprintf(user, sizeof(user), "u%u", (unsigned)conn);
        snprintf(claims, sizeof(claims), "{\"sub\":\"%s\",\"exp\":1700000300}", user);
        give_login(stand, conn, user, claims);
        judge_all(stand);
        expect_attached(stand, conn);
    }
    stand_free(stand);
}

static void new_keys_hold_at_once(void **state)
{
    struct stand *stand = begin();
    give_login(stand, 1, "alice", GOOD);
    set_keys(stand, "{\"keys\":[{\"alg\":\"HS256\",\"kty\":\"oct\","
                    "\"k\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}");
    judge_all(stand);
    expect_refused(stand, 1, UNAUTHENTICATED, USHER__V1__CLOSE__REASON__AUTH_FAILED);
    assert_int_equal(hall_metric(&stand->hall, METRIC_logins_refused_signature), 1);
    set_keys(stand, TOKEN_KEYS);
    give_login(stand, 2, "alice", GOOD);
    judge_all(stand);
    expect_attached(stand, 2);
    stand_free(stand);
}

static void one_wake_for_many_verdicts(void **state)
{
    struct stand *stand = begin();
    for (conn_handle conn = 1; conn <= 5; conn++)
        give_login(stand, conn, "alice", GOOD);
    while (admission_step(stand->admission))
        continue;
    assert_int_equal(told_times(&stand->net, TOLD_WAKE, 0), 1);
    next_batch(stand);
    give_login(stand, 6, "alice", GOOD);
    assert_true(admission_step(stand->admission));
    assert_int_equal(told_times(&stand->net, TOLD_WAKE, 0), 2);
    stand_free(stand); /* and with verdicts that nobody took, nothing leaks */
}

static void nothing_leaks_wherever_a_login_is(void **state)
{
    struct stand *stand = begin();
    give_login(stand, 1, "alice", GOOD);
    assert_true(admission_step(stand->admission));
    give_login(stand, 2, "alice", GOOD);
    stand_free(stand);
}

static void with_real_threads(void **state)
{
    struct stand *stand = begin();
    assert_int_equal(admission_start(stand->admission), 0);
    for (unsigned round = 0; round < 20; round++) {
        for (conn_handle conn = 1; conn <= 20; conn++)
            give_login(stand, conn, "alice", GOOD);
        for (unsigned i = 0; i < 50; i++)
            set_keys(stand, TOKEN_KEYS);
        uint64_t wanted = (round + 1) * 20;
        WAIT_FOR((next_batch(stand), hall_metric(&stand->hall, METRIC_logins_checked) == wanted));
    }
    stand_free(stand);
}

/* Until when a session may be is handed on with the login; the issuer's clock is forgiven here too.
 */
static void the_end_of_a_token_goes_with_the_login(void **state)
{
    struct stand *stand = begin();
    give_login(stand, 1, "alice", GOOD);
    judge_all(stand);
    expect_attached(stand, 1);
    assert_int_equal(attach_of(stand, 1)->token_ends_ms,
                     (uint64_t)1700000300 * 1000 + stand->options.auth_skew_ms);
    assert_true(stand->options.auth_skew_ms > 0);
    stand_free(stand);
}

/* Few tokens have rooms, and only their logins are longer for it. */
static void the_rooms_of_a_token_go_with_the_login(void **state)
{
    struct stand *stand = begin();
    give_login(stand, 1, "alice",
               "{\"sub\":\"alice\",\"exp\":1700000300,\"rooms\":[\"lobby\",\"m:*\"]}");
    give_login(stand, 2, "alice", GOOD);
    judge_all(stand);
    expect_attached(stand, 2);
    const struct attach_message *attach = attach_of(stand, 1);
    assert_true(bytes_equal(attach_rooms(attach), bytes_of_text("lobby m:*")));
    assert_string_equal(attach->user, "alice");
    assert_int_equal(attach->token_ends_ms,
                     (uint64_t)1700000300 * 1000 + stand->options.auth_skew_ms);
    assert_int_equal(attach_rooms(attach_of(stand, 2)).size, 0);
    stand_free(stand);
}

/* --- auth.mode service ------------------------------------------------------------------------ */

enum { ASK_DEADLINE_MS = 500, LINK_FRAME = 4096 };

static void by_service(struct options *options)
{
    by_token(options);
    options->auth_mode = AUTH_MODE_SERVICE;
    free(options->auth_service);
    options->auth_service = strdup("door");
    options->auth_deadline_ms = ASK_DEADLINE_MS;
    options->link_frame_bytes = LINK_FRAME;
}

static struct stand *begin_asking(struct probe **instance)
{
    struct stand *stand = stand_make(true, by_service);
    assert_int_equal(registry_count_of(stand->hall.registry, KIND_USER), 0); /* who asks */
    assert_int_equal(registry_count_of(stand->hall.registry, KIND_INSTANCE), 0);
    stand->net.address = "10.0.0.1:5";
    *instance = hall_probe(&stand->hall, "!door/one");
    assert_int_equal(services_join(stand->services, "door", (*instance)->self, false), 0);
    return stand;
}

/* What the instance was asked; the caller's. */
static struct user_call_message *asked(struct stand *stand, struct probe *instance)
{
    judge_all(stand);
    struct user_call_message *call = (struct user_call_message *)probe_take(instance);
    assert_non_null(call);
    assert_int_equal(call->header.kind, MESSAGE_USER_CALL);
    assert_int_equal(call->body, MAIL_LOGIN);
    return call;
}

/* As the instance's actor does. Takes both. */
static void give_result(struct stand *stand, struct user_call_message *call,
                        struct call_result_message *result)
{
    result->call = call->call;
    if (scheduler_post(stand->hall.scheduler, &stand->hall.runner, call->caller, &result->header) !=
        0)
        message_destroy(&result->header);
    message_destroy(&call->header);
    hall_run(&stand->hall);
    judge_all(stand);
}

static void answer_until(struct stand *stand, struct user_call_message *call, uint16_t code,
                         uint32_t status, const char *payload, uint64_t token_ends_ms)
{
    struct call_result_message *result = call_result_create(code, status, bytes_of_text(payload));
    assert_non_null(result);
    result->token_ends_ms = token_ends_ms;
    give_result(stand, call, result);
}

static void answer(struct stand *stand, struct user_call_message *call, uint16_t code,
                   uint32_t status, const char *payload)
{
    answer_until(stand, call, code, status, payload, 0);
}

static void the_service_hears_all_of_it(void **state)
{
    struct probe *instance;
    struct stand *stand = begin_asking(&instance);
    give_login(stand, 1, "alice", GOOD);
    struct user_call_message *call = asked(stand, instance);
    struct bytes payload = user_call_payload(call);
    char token[TOKEN_MAKE_BYTES];
    token_make(token, TOKEN_HEADER, GOOD);
    assert_true(bytes_equal(user_call_user(call), bytes_of_text("alice")));
    assert_true(bytes_equal(user_call_method(call), bytes_of_text("10.0.0.1:5")));
    assert_int_equal(call->client_size, 0);
    assert_true(bytes_equal(payload, bytes_of_text(token)));
    assert_int_equal(call->deadline_ms, 1000 + ASK_DEADLINE_MS);
    assert_int_equal(told_times(&stand->net, TOLD_WRITE, 1), 0);
    answer(stand, call, 0, 0, "");
    expect_attached(stand, 1);
    assert_true(hall_knows(&stand->hall, "alice"));
    stand_free(stand);
}

static void what_the_service_says_counts(void **state)
{
    static const struct {
        const char *user;
        uint16_t code;
        uint32_t status;
        const char *payload;
        enum token_refusal refusal;
    } rows[] = {
        {"alice", 0, 0, "", TOKEN_GOOD},
        {"alice", 0, 0, "alice", TOKEN_GOOD},
        {"", 0, 0, "alice", TOKEN_GOOD},
        {"alice", 0, 0, "bob", TOKEN_NAME},
        {"alice", 0, 0, "alice2", TOKEN_NAME},
        {"", 0, 0, "", TOKEN_SUBJECT},
        {"", 0, 0, "a b", TOKEN_SUBJECT},
        {"", 0, 0, "!door/one", TOKEN_SUBJECT},
        {"alice", 0, 1, "", TOKEN_SERVICE},
        {"alice", 0, 403, "alice", TOKEN_SERVICE},
        {"alice", USHER__V1__ERROR__CODE__SERVICE_LOST, 0, "", TOKEN_UNAVAILABLE},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct probe *instance;
        struct stand *stand = begin_asking(&instance);
        give_login(stand, 1, rows[i].user, NULL);
        answer(stand, asked(stand, instance), rows[i].code, rows[i].status, rows[i].payload);
        assert_int_equal(hall_knows(&stand->hall, "alice"), rows[i].refusal == TOKEN_GOOD);
        if (rows[i].refusal == TOKEN_GOOD)
            expect_attached(stand, 1);
        else if (rows[i].refusal != TOKEN_UNAVAILABLE)
            expect_refused(stand, 1, UNAUTHENTICATED, USHER__V1__CLOSE__REASON__AUTH_FAILED);
        assert_int_equal(hall_metric(&stand->hall, METRIC_logins_refused_service),
                         rows[i].refusal == TOKEN_SERVICE);
        stand_free(stand);
    }
}

/* The claim is kept with the login, and one that is none makes the yes none. */
static void the_service_says_which_rooms(void **state)
{
    static char long_name[USERNAME_BYTES_MAX + 2];
    static char *rows[][TOKEN_ROOMS_MAX + 2] = {
        {NULL},
        {"match:7", NULL},
        {"match:*", "hall", "*", NULL},
        {"a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", NULL},
        {"a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", NULL},
        {"a b", NULL},
        {"hall", "", NULL},
        {"*a", NULL},
        {long_name, NULL},
    };
    static const char *const kept[] = {"", "match:7", "match:* hall *",
                                       "a a a a a a a a a a a a a a a a"};
    memset(long_name, 'x', sizeof(long_name) - 1);
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct probe *instance;
        struct stand *stand = begin_asking(&instance);
        size_t count = 0;
        bool good = i < sizeof(kept) / sizeof(*kept);
        while (rows[i][count] != NULL)
            count++;
        give_login(stand, 1, "alice", NULL);
        struct user_call_message *call = asked(stand, instance);
        give_result(stand, call, call_result_with_rooms(0, bytes_of_text("alice"), rows[i], count));
        assert_int_equal(hall_knows(&stand->hall, "alice"), good);
        if (good)
            assert_true(bytes_equal(attach_rooms(attach_of(stand, 1)), bytes_of_text(kept[i])));
        else
            expect_refused(stand, 1, UNAUTHENTICATED, USHER__V1__CLOSE__REASON__AUTH_FAILED);
        stand_free(stand);
    }
}

/* A yes that holds no longer is a no. */
static void the_service_says_until_when(void **state)
{
    const uint64_t now_ms = (uint64_t)NOW_S * 1000;
    const uint64_t skew_ms = 30000;
    const struct {
        const char *user;
        uint64_t says, ends;
        bool good;
    } rows[] = {
        {"alice", 0, 0, true},
        {"alice", now_ms + 5, now_ms + 5 + skew_ms, true},
        {"", now_ms + 5, now_ms + 5 + skew_ms, true},
        {"alice", now_ms - skew_ms + 1, now_ms + 1, true},
        {"alice", now_ms - skew_ms, 0, false},
        {"", 1, 0, false},
        {"alice", UINT64_MAX, UINT64_MAX, true},
        {"alice", UINT64_MAX - skew_ms, UINT64_MAX, true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct probe *instance;
        struct stand *stand = begin_asking(&instance);
        assert_int_equal(stand->options.auth_skew_ms, skew_ms);
        give_login(stand, 1, rows[i].user, NULL);
        answer_until(stand, asked(stand, instance), 0, 0, "alice", rows[i].says);
        assert_int_equal(hall_knows(&stand->hall, "alice"), rows[i].good);
        assert_int_equal(hall_metric(&stand->hall, METRIC_logins_refused_expired), !rows[i].good);
        if (rows[i].good)
            assert_true(attach_of(stand, 1)->token_ends_ms == rows[i].ends);
        else
            expect_refused(stand, 1, UNAUTHENTICATED, USHER__V1__CLOSE__REASON__AUTH_FAILED);
        stand_free(stand);
    }
}

static void expect_unavailable(struct stand *stand, conn_handle conn)
{
    expect_said(stand, conn, 0, USHER__V1__BROKER_FRAME__BODY_ERROR,
                USHER__V1__ERROR__CODE__UNAVAILABLE);
    assert_int_equal(told_times(&stand->net, TOLD_WRITE, conn), 1);
    assert_int_equal(told_times(&stand->net, TOLD_RELEASE, conn), 0); /* it may try again */
    assert_null(stand->net.kept[conn]);
}

static void nobody_is_there_to_ask(void **state)
{
    struct stand *stand = stand_make(true, by_service);
    assert_int_equal(registry_count_of(stand->hall.registry, KIND_USER), 0); /* who asks */
    assert_int_equal(registry_count_of(stand->hall.registry, KIND_INSTANCE), 0);
    for (unsigned i = 0; i < 2 * FAILED_MAX; i++) { /* which is no failure of the client */
        give_login(stand, 1 + i, "alice", GOOD);
        judge_all(stand);
        expect_unavailable(stand, 1 + i);
    }
    assert_int_equal(hall_metric(&stand->hall, METRIC_logins_refused_unavailable), 2 * FAILED_MAX);
    stand_free(stand);
}

static void a_service_that_is_late(void **state)
{
    struct probe *instance;
    struct stand *stand = begin_asking(&instance);
    give_login(stand, 1, "alice", GOOD);
    struct user_call_message *call = asked(stand, instance);
    atomic_fetch_add(&stand->hall.now_ms, ASK_DEADLINE_MS - 1);
    judge_all(stand);
    assert_int_equal(told_times(&stand->net, TOLD_WRITE, 1), 0);
    atomic_fetch_add(&stand->hall.now_ms, 1);
    judge_all(stand);
    expect_unavailable(stand, 1);
    answer(stand, call, 0, 0, ""); /* nobody waits for it */
    expect_unavailable(stand, 1);
    assert_false(hall_knows(&stand->hall, "alice"));
    give_login(stand, 1, "alice", GOOD);
    answer(stand, asked(stand, instance), 0, 0, "");
    assert_true(hall_knows(&stand->hall, "alice"));
    stand_free(stand);
}

/* By a reload: for those who wait, and nobody stands behind an older, later deadline. */
static void a_deadline_that_becomes_less(void **state)
{
    struct probe *instance;
    struct stand *stand = begin_asking(&instance);
    give_login(stand, 1, "alice", GOOD);
    message_destroy(&asked(stand, instance)->header);
    stand->limits.auth_deadline_ms = ASK_DEADLINE_MS / 5;
    admission_review(stand->admission);
    give_login(stand, 2, "bob", GOOD);
    message_destroy(&asked(stand, instance)->header);
    atomic_fetch_add(&stand->hall.now_ms, ASK_DEADLINE_MS / 5 - 1);
    judge_all(stand);
    assert_int_equal(
        told_times(&stand->net, TOLD_WRITE, 1) + told_times(&stand->net, TOLD_WRITE, 2), 0);
    atomic_fetch_add(&stand->hall.now_ms, 1);
    judge_all(stand);
    expect_unavailable(stand, 1);
    expect_unavailable(stand, 2);
    stand->limits.auth_deadline_ms = ASK_DEADLINE_MS; /* and more again: for those who come */
    admission_review(stand->admission);
    stand_free(stand);
}

/* Answers in another order than the questions; one of the clients is gone. */
static void answers_find_their_login(void **state)
{
    struct probe *instance;
    struct stand *stand = begin_asking(&instance);
    struct user_call_message *calls[3];
    for (unsigned i = 0; i < 3; i++) {
        char user[2] = {(char)('a' + i), '\0'};
        give_login(stand, 1 + i, user, NULL);
        calls[i] = asked(stand, instance);
    }
    give_end(stand, 2, CONN_LOST);
    answer(stand, calls[2], 0, 0, "");
    expect_attached(stand, 3);
    answer(stand, calls[1], 0, 0, "");
    answer(stand, calls[0], 0, 1, "");
    expect_refused(stand, 1, UNAUTHENTICATED, USHER__V1__CLOSE__REASON__AUTH_FAILED);
    assert_false(hall_knows(&stand->hall, "a"));
    assert_false(hall_knows(&stand->hall, "b"));
    assert_true(hall_knows(&stand->hall, "c"));
    stand_free(stand);
}

static void those_who_were_asked_about_count_as_waiting(void **state)
{
    struct probe *instance;
    struct stand *stand = begin_asking(&instance);
    for (conn_handle conn = 1; conn <= WAITING_MAX; conn++)
        give_login(stand, conn, "alice", NULL);
    judge_all(stand);
    give_login(stand, WAITING_MAX + 1, "alice", NULL);
    expect_said(stand, WAITING_MAX + 1, 0, USHER__V1__BROKER_FRAME__BODY_ERROR,
                USHER__V1__ERROR__CODE__BUSY);
    answer(stand, (struct user_call_message *)probe_take(instance), 0, 1, "");
    give_login(stand, WAITING_MAX + 1, "alice", NULL);
    assert_int_equal(told_times(&stand->net, TOLD_WRITE, WAITING_MAX + 1), 1);
    stand_free(stand); /* with many asked about: nothing leaks */
}

/* What does not fit a link frame is not sent. */
static void a_token_too_long_to_ask_about(void **state)
{
    struct probe *instance;
    struct stand *stand = begin_asking(&instance);
    for (int i = 0; i < 2; i++) {
        char claims[LINK_FRAME];
        /* 13 and 43 characters around the claims, in base64. */
        int padding = ((LINK_FRAME - 512 - 64) * 3 / 4) + (i == 0 ? -60 : 60);
        snprintf(claims, sizeof(claims), "%0*d", padding, 7);
        give_login(stand, 1 + (conn_handle)i, "alice", claims);
    }
    judge_all(stand);
    assert_int_equal(hall_metric(&stand->hall, METRIC_logins_refused_too_long), 1);
    assert_int_equal(probe_count(instance), 1);
    stand_free(stand);
}

/* The names are the strangers' choice: nothing is remembered of them. */
static void stray_mail_harms_nobody(void **state)
{
    struct probe *instance;
    struct stand *stand = begin_asking(&instance);
    give_login(stand, 1, "alice", NULL);
    struct user_call_message *call = asked(stand, instance);
    actor_handle actor = call->caller;
    struct message *strays[] = {message_create(MESSAGE_LEAVE, sizeof(struct message)),
                                message_create(MESSAGE_TICK, sizeof(struct message))};
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(
            scheduler_post(stand->hall.scheduler, &stand->hall.runner, actor, strays[i]), 0);
    answer(stand, call, 0, 0, "");
    expect_attached(stand, 1);
    stand_free(stand);
}

/* The thread itself wakes for the deadline. */
static void late_with_real_threads(void **state)
{
    struct stand *stand = stand_make(false, by_service);
    struct probe *instance = hall_probe(&stand->hall, "!door/one");
    assert_int_equal(services_join(stand->services, "door", instance->self, false), 0);
    assert_int_equal(admission_start(stand->admission), 0);
    give_login(stand, 1, "alice", GOOD);
    uint64_t began_ms = clock_ms();
    WAIT_FOR((next_batch(stand), told_times(&stand->net, TOLD_WRITE, 1) == 1));
    assert_true(clock_ms() - began_ms >= ASK_DEADLINE_MS - 1);
    expect_unavailable(stand, 1);
    stand_free(stand);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_token_is_welcomed),
        cmocka_unit_test(the_end_of_a_token_goes_with_the_login),
        cmocka_unit_test(the_rooms_of_a_token_go_with_the_login),
        cmocka_unit_test(the_name_may_come_from_the_token),
        cmocka_unit_test(a_bad_token_touches_nobody),
        cmocka_unit_test(whoever_ends_meanwhile_is_not_attached),
        cmocka_unit_test(who_goes_for_a_newcomer_is_told),
        cmocka_unit_test(so_many_wait_and_no_more),
        cmocka_unit_test(of_one_source_so_many_wait),
        cmocka_unit_test(wider_sources_wait_too),
        cmocka_unit_test(many_failures_are_refused_unseen),
        cmocka_unit_test(a_burst_of_failures_costs_no_more),
        cmocka_unit_test(good_logins_are_never_limited),
        cmocka_unit_test(new_keys_hold_at_once),
        cmocka_unit_test(one_wake_for_many_verdicts),
        cmocka_unit_test(nothing_leaks_wherever_a_login_is),
        cmocka_unit_test(with_real_threads),
        cmocka_unit_test(the_service_hears_all_of_it),
        cmocka_unit_test(what_the_service_says_counts),
        cmocka_unit_test(the_service_says_which_rooms),
        cmocka_unit_test(the_service_says_until_when),
        cmocka_unit_test(nobody_is_there_to_ask),
        cmocka_unit_test(a_service_that_is_late),
        cmocka_unit_test(a_deadline_that_becomes_less),
        cmocka_unit_test(answers_find_their_login),
        cmocka_unit_test(those_who_were_asked_about_count_as_waiting),
        cmocka_unit_test(a_token_too_long_to_ask_about),
        cmocka_unit_test(stray_mail_harms_nobody),
        cmocka_unit_test(late_with_real_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
