/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/kinds.h"
#include "directory/services.h"
#include "door/admission.h"
#include "persist/committer.h"
#include "unit/broker/broker_fixture.h"

#include "token_make.h"

/* Logins that are judged: what the I/O thread does with them before and after, played on the
 * test's own thread, and once with the real threads. Connections are numbers from 1 on. */

enum { WAITING_MAX = 30, FAILED_MAX = 10, NOW_S = 1700000000 }; /* as glue_wall_ms says */

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

static void set_keys(struct glue *glue, const char *json)
{
    char error[KEYRING_ERROR_BYTES];
    struct keyring *keyring;
    assert_int_equal(keyring_read(&keyring, bytes_of_text(json), error), 0);
    admission_set_keys(glue->broker.admission, keyring);
}

static struct glue *begin(void)
{
    struct glue *glue = glue_make_with(NULL, 100, true, by_token);
    set_keys(glue, TOKEN_KEYS);
    glue->address = "10.0.0.1:5";
    return glue;
}

/* --- what an I/O thread does ------------------------------------------------------------------ */

static void give_frame(struct glue *glue, conn_handle conn, Usher__V1__ClientFrame *frame)
{
    uint8_t bytes[8192];
    size_t size = usher__v1__client_frame__get_packed_size(frame);
    size_t head = 0;
    for (size_t left = size;; left >>= 7) {
        bytes[head++] = (uint8_t)(left < 128 ? left : (left & 127) | 128);
        if (left < 128)
            break;
    }
    usher__v1__client_frame__pack(frame, bytes + head);
    const struct net_events *events = &glue->broker.net_events;
    events->on_frames(events->context, &glue->broker.threads[0], conn, 0,
                      (struct bytes){bytes, head + size}, false);
}

static void give_login(struct glue *glue, conn_handle conn, const char *user, const char *claims)
{
    char token[TOKEN_MAKE_BYTES] = "";
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Login login = USHER__V1__LOGIN__INIT;
    if (claims != NULL)
        token_make(token, TOKEN_HEADER, claims);
    login.username = (char *)(uintptr_t)user;
    login.token = (ProtobufCBinaryData){strlen(token), (uint8_t *)token};
    frame.id = 7;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_LOGIN;
    frame.login = &login;
    give_frame(glue, conn, &frame);
}

static void give_end(struct glue *glue, conn_handle conn, enum conn_end end)
{
    const struct net_events *events = &glue->broker.net_events;
    events->on_end(events->context, &glue->broker.threads[0], conn, 0, end);
}

static void next_batch(struct glue *glue)
{
    const struct net_events *events = &glue->broker.net_events;
    events->on_begin(events->context, &glue->broker.threads[0], atomic_load(&glue->now_ms));
}

static void judge_all(struct glue *glue)
{
    while (admission_step(glue->broker.admission))
        continue;
    next_batch(glue);
    while (run_turns(glue) > 0 || committer_step(glue->broker.committer))
        continue;
}

static uint64_t count(struct glue *glue, enum metric_id id)
{
    return metrics_read(glue->broker.metrics, id);
}

/* --- what the client saw ---------------------------------------------------------------------- */

static void expect_said(struct glue *glue, conn_handle conn, unsigned number, int body,
                        uint32_t code)
{
    struct told told = find_told(glue, TOLD_WRITE, conn, number);
    assert_int_equal(told.body, body);
    assert_int_equal(told.code, code);
}

static void expect_refused(struct glue *glue, conn_handle conn, uint32_t error, uint32_t reason)
{
    expect_said(glue, conn, 0, USHER__V1__BROKER_FRAME__BODY_ERROR, error);
    expect_said(glue, conn, 1, USHER__V1__BROKER_FRAME__BODY_CLOSE, reason);
    assert_int_equal(count_told(glue, TOLD_WRITE, conn), 2);
    assert_int_equal(count_told(glue, TOLD_RELEASE, conn), 1);
}

static void expect_welcome(struct glue *glue, conn_handle conn)
{
    assert_int_not_equal(find_told(glue, TOLD_WRITE, conn, 0).epoch, 0);
    assert_int_equal(count_told(glue, TOLD_RELEASE, conn), 0);
}

static bool is_known(struct glue *glue, const char *user)
{
    return registry_find(glue->broker.registry, user, strlen(user)) != 0;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void a_good_token_is_welcomed(void **state)
{
    struct glue *glue = begin();
    give_login(glue, 1, "alice", GOOD);
    assert_non_null(glue->kept[1]);
    assert_false(is_known(glue, "alice"));
    assert_int_equal(glue->told_count, 1); /* the frames are consumed, nothing else */
    assert_true(admission_step(glue->broker.admission));
    assert_int_equal(count_told(glue, TOLD_WAKE, 1), 1);
    assert_false(is_known(glue, "alice")); /* the I/O thread alone attaches */
    judge_all(glue);
    expect_welcome(glue, 1);
    assert_null(glue->kept[1]);
    assert_int_equal(count(glue, METRIC_logins_checked), 1);
    glue_free(glue);
}

static void the_name_may_come_from_the_token(void **state)
{
    struct glue *glue = begin();
    give_login(glue, 1, "", GOOD);
    judge_all(glue);
    expect_welcome(glue, 1);
    assert_true(is_known(glue, "alice"));
    glue_free(glue);
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
        struct glue *glue = begin();
        give_login(glue, 1, rows[i].user, rows[i].claims);
        judge_all(glue);
        expect_refused(glue, 1, UNAUTHENTICATED, USHER__V1__CLOSE__REASON__AUTH_FAILED);
        assert_int_equal(count(glue, rows[i].counter), 1);
        assert_int_equal(registry_count(glue->broker.registry), 0);
        assert_null(glue->kept[1]);
        glue_free(glue);
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
            struct glue *glue = begin();
            give_login(glue, 1, "alice", GOOD);
            if (judged_first)
                assert_true(admission_step(glue->broker.admission));
            give_end(glue, 1, rows[i].end);
            assert_int_equal(count_told(glue, TOLD_WRITE, 1), rows[i].writes);
            if (rows[i].writes > 0)
                expect_refused(glue, 1, rows[i].error, rows[i].reason);
            judge_all(glue);
            assert_int_equal(count_told(glue, TOLD_WRITE, 1), rows[i].writes);
            assert_int_equal(count_told(glue, TOLD_RELEASE, 1), 1);
            assert_int_equal(registry_count(glue->broker.registry), 0);
            glue_free(glue);
        }
}

/* Who was silent while others came: told so, with a time to come back. */
static void who_goes_for_a_newcomer_is_told(void **state)
{
    struct glue *glue = begin();
    give_end(glue, 1, CONN_DISPLACED);
    expect_said(glue, 1, 0, USHER__V1__BROKER_FRAME__BODY_CLOSE,
                USHER__V1__CLOSE__REASON__OVERLOADED);
    assert_int_equal(count_told(glue, TOLD_WRITE, 1), 1);
    assert_int_equal(count_told(glue, TOLD_RELEASE, 1), 1);
    assert_int_equal(count(glue, METRIC_closed_protocol), 0);
    glue_free(glue);
}

static void so_many_wait_and_no_more(void **state)
{
    struct glue *glue = begin();
    for (conn_handle conn = 1; conn <= WAITING_MAX + 1; conn++)
        give_login(glue, conn, "alice", GOOD);
    assert_int_equal(count_told(glue, TOLD_WRITE, WAITING_MAX), 0);
    expect_said(glue, WAITING_MAX + 1, 0, USHER__V1__BROKER_FRAME__BODY_ERROR,
                USHER__V1__ERROR__CODE__BUSY);
    assert_int_equal(count_told(glue, TOLD_RELEASE, WAITING_MAX + 1), 0);
    assert_int_equal(count(glue, METRIC_logins_refused_busy), 1);
    /* It may try again, on the same connection. */
    assert_true(admission_step(glue->broker.admission));
    give_login(glue, WAITING_MAX + 1, "alice", GOOD);
    assert_int_equal(count_told(glue, TOLD_WRITE, WAITING_MAX + 1), 1);
    assert_non_null(glue->kept[(WAITING_MAX + 1) % GLUE_CONNS]);
    glue_free(glue);
}

static bool waits(struct glue *glue, conn_handle conn, const char *address)
{
    glue->address = address;
    give_login(glue, conn, "alice", GOOD);
    bool kept = glue->kept[conn] != NULL;
    if (!kept)
        expect_said(glue, conn, 0, USHER__V1__BROKER_FRAME__BODY_ERROR,
                    USHER__V1__ERROR__CODE__BUSY);
    return kept;
}

static void set_per_source(struct glue *glue, uint64_t max)
{
    glue->options.limits_prelogin_per_source = max;
    admission_set_limits(glue->broker.admission, &glue->options);
}

/* Those count whose connection has ended: they are judged like the others. */
static void of_one_source_so_many_wait(void **state)
{
    struct glue *glue = begin();
    set_per_source(glue, 2);
    assert_true(waits(glue, 1, "10.0.0.1:1"));
    assert_true(waits(glue, 2, "10.0.0.1:2"));
    give_end(glue, 1, CONN_LOST);
    give_end(glue, 2, CONN_PRELOGIN_BYTES);
    assert_false(waits(glue, 3, "10.0.0.1:3"));
    assert_int_equal(count(glue, METRIC_logins_refused_busy), 1);
    assert_true(waits(glue, 4, "10.0.0.2:3"));
    assert_true(admission_step(glue->broker.admission));
    assert_true(waits(glue, 5, "10.0.0.1:4"));
    assert_false(waits(glue, 6, "10.0.0.1:5"));
    /* Whatever the limit is when the verdict comes. */
    set_per_source(glue, 0);
    assert_true(waits(glue, 7, "10.0.0.1:6"));
    set_per_source(glue, 2);
    judge_all(glue);
    assert_true(waits(glue, 8, "10.0.0.1:7"));
    assert_true(waits(glue, 9, "10.0.0.1:8"));
    assert_false(waits(glue, 10, "10.0.0.1:9"));
    glue_free(glue);
}

static void wider_sources_wait_too(void **state)
{
    struct glue *glue = begin();
    set_per_source(glue, 1);
    assert_true(waits(glue, 1, "[2001:db8:0:1::1]:1"));
    assert_false(waits(glue, 2, "[2001:db8:0:1::2]:1"));
    assert_true(waits(glue, 3, "[2001:db8:0:2::1]:1"));
    assert_false(waits(glue, 4, "[2001:db8:0:3::1]:1"));
    assert_true(waits(glue, 5, "[2001:db8:0:103::1]:1"));
    judge_all(glue);
    assert_true(waits(glue, 6, "[2001:db8:0:3::1]:1"));
    glue_free(glue);
}

static void many_failures_are_refused_unseen(void **state)
{
    struct glue *glue = begin();
    for (conn_handle conn = 1; conn <= FAILED_MAX; conn++) {
        give_login(glue, conn, "alice", EXPIRED);
        judge_all(glue);
        expect_refused(glue, conn, UNAUTHENTICATED, USHER__V1__CLOSE__REASON__AUTH_FAILED);
    }
    assert_int_equal(count(glue, METRIC_logins_checked), FAILED_MAX);
    give_login(glue, 20, "alice", GOOD); /* nobody looks */
    expect_refused(glue, 20, USHER__V1__ERROR__CODE__RATE_LIMITED,
                   USHER__V1__CLOSE__REASON__RATE_LIMITED);
    assert_false(admission_step(glue->broker.admission));
    assert_int_equal(count(glue, METRIC_logins_checked), FAILED_MAX);
    glue->address = "10.0.0.2:5"; /* elsewhere nothing has happened */
    give_login(glue, 21, "alice", GOOD);
    judge_all(glue);
    expect_welcome(glue, 21);
    glue->address = "10.0.0.1:5";
    atomic_fetch_add(&glue->now_ms, 6000); /* one is given back */
    give_login(glue, 22, "alice", GOOD);
    judge_all(glue);
    expect_welcome(glue, 22);
    glue_free(glue);
}

/* All are on their way before the first is found to be bad. */
static void a_burst_of_failures_costs_no_more(void **state)
{
    struct glue *glue = begin();
    for (conn_handle conn = 1; conn <= WAITING_MAX; conn++)
        give_login(glue, conn, "alice", EXPIRED);
    judge_all(glue);
    assert_int_equal(count(glue, METRIC_logins_refused_expired), FAILED_MAX);
    assert_int_equal(count(glue, METRIC_logins_refused_limited), WAITING_MAX - FAILED_MAX);
    assert_int_equal(count(glue, METRIC_logins_checked), FAILED_MAX);
    glue_free(glue);
}

static void good_logins_are_never_limited(void **state)
{
    struct glue *glue = begin();
    for (conn_handle conn = 1; conn <= 40; conn++) {
        char claims[128], user[16];
        snprintf(user, sizeof(user), "u%u", (unsigned)conn);
        snprintf(claims, sizeof(claims), "{\"sub\":\"%s\",\"exp\":1700000300}", user);
        give_login(glue, conn, user, claims);
        judge_all(glue);
        expect_welcome(glue, conn);
    }
    glue_free(glue);
}

static void new_keys_hold_at_once(void **state)
{
    struct glue *glue = begin();
    give_login(glue, 1, "alice", GOOD);
    set_keys(glue, "{\"keys\":[{\"alg\":\"HS256\",\"kty\":\"oct\","
                   "\"k\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}");
    judge_all(glue);
    expect_refused(glue, 1, UNAUTHENTICATED, USHER__V1__CLOSE__REASON__AUTH_FAILED);
    assert_int_equal(count(glue, METRIC_logins_refused_signature), 1);
    set_keys(glue, TOKEN_KEYS);
    give_login(glue, 2, "alice", GOOD);
    judge_all(glue);
    expect_welcome(glue, 2);
    glue_free(glue);
}

static void one_wake_for_many_verdicts(void **state)
{
    struct glue *glue = begin();
    for (conn_handle conn = 1; conn <= 5; conn++)
        give_login(glue, conn, "alice", GOOD);
    while (admission_step(glue->broker.admission))
        continue;
    assert_int_equal(count_told(glue, TOLD_WAKE, 0), 1);
    next_batch(glue);
    give_login(glue, 6, "alice", GOOD);
    assert_true(admission_step(glue->broker.admission));
    assert_int_equal(count_told(glue, TOLD_WAKE, 0), 2);
    glue_free(glue); /* and with verdicts that nobody took, nothing leaks */
}

static void nothing_leaks_wherever_a_login_is(void **state)
{
    struct glue *glue = begin();
    give_login(glue, 1, "alice", GOOD);
    assert_true(admission_step(glue->broker.admission));
    give_login(glue, 2, "alice", GOOD);
    glue_free(glue);
}

static void with_real_threads(void **state)
{
    struct glue *glue = begin();
    assert_int_equal(admission_start(glue->broker.admission), 0);
    for (unsigned round = 0; round < 20; round++) {
        for (conn_handle conn = 1; conn <= 20; conn++)
            give_login(glue, conn, "alice", GOOD);
        for (unsigned i = 0; i < 50; i++)
            set_keys(glue, TOKEN_KEYS);
        uint64_t wanted = (round + 1) * 20;
        WAIT_FOR((next_batch(glue), count(glue, METRIC_logins_checked) == wanted));
    }
    glue_free(glue);
}

/* Until when a session may be is handed on with the login; the issuer's clock is forgiven here too.
 */
static void the_end_of_a_token_goes_with_the_login(void **state)
{
    struct glue *glue = begin();
    struct session_record record;
    give_login(glue, 1, "alice", GOOD);
    judge_all(glue);
    expect_welcome(glue, 1);
    assert_int_equal(store_get_session(glue->broker.store, "alice", &record), 0);
    assert_int_equal(record.token_ends_ms,
                     (uint64_t)1700000300 * 1000 + glue->options.auth_skew_ms);
    assert_true(glue->options.auth_skew_ms > 0);
    glue_free(glue);
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

static struct glue *begin_asking(struct probe **instance)
{
    struct glue *glue = glue_make_with(NULL, 100, true, by_service);
    assert_int_equal(registry_count_of(glue->broker.registry, KIND_USER), 0); /* who asks */
    assert_int_equal(registry_count_of(glue->broker.registry, KIND_INSTANCE), 0);
    glue->address = "10.0.0.1:5";
    *instance = new_probe(glue, "!door/one");
    assert_int_equal(services_join(glue->broker.services, "door", (*instance)->self, false), 0);
    return glue;
}

/* What the instance was asked; the caller's. */
static struct user_call_message *asked(struct glue *glue, struct probe *instance)
{
    judge_all(glue);
    struct user_call_message *call = (struct user_call_message *)probe_take(glue, instance);
    assert_non_null(call);
    assert_int_equal(call->header.kind, MESSAGE_USER_CALL);
    assert_true(call->login);
    return call;
}

/* As the instance's actor does. Takes the call. */
static void answer_until(struct glue *glue, struct user_call_message *call, uint16_t code,
                         uint32_t status, const char *payload, uint64_t token_ends_ms)
{
    struct call_result_message *result = call_result_create(code, status, bytes_of_text(payload));
    assert_non_null(result);
    result->call = call->call;
    result->token_ends_ms = token_ends_ms;
    if (scheduler_post(glue->broker.scheduler, own_runner(glue), call->caller, &result->header) !=
        0)
        message_destroy(&result->header);
    message_destroy(&call->header);
    run_turns(glue);
    judge_all(glue);
}

static void answer(struct glue *glue, struct user_call_message *call, uint16_t code,
                   uint32_t status, const char *payload)
{
    answer_until(glue, call, code, status, payload, 0);
}

static void the_service_hears_all_of_it(void **state)
{
    struct probe *instance;
    struct glue *glue = begin_asking(&instance);
    give_login(glue, 1, "alice", GOOD);
    struct user_call_message *call = asked(glue, instance);
    struct bytes payload = user_call_payload(call);
    char token[TOKEN_MAKE_BYTES];
    token_make(token, TOKEN_HEADER, GOOD);
    assert_true(bytes_equal(user_call_user(call), bytes_of_text("alice")));
    assert_true(bytes_equal(user_call_method(call), bytes_of_text("10.0.0.1:5")));
    assert_int_equal(call->client_size, 0);
    assert_true(bytes_equal(payload, bytes_of_text(token)));
    assert_int_equal(call->deadline_ms, 1000 + ASK_DEADLINE_MS);
    assert_int_equal(count_told(glue, TOLD_WRITE, 1), 0);
    answer(glue, call, 0, 0, "");
    expect_welcome(glue, 1);
    assert_true(is_known(glue, "alice"));
    glue_free(glue);
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
        struct glue *glue = begin_asking(&instance);
        give_login(glue, 1, rows[i].user, NULL);
        answer(glue, asked(glue, instance), rows[i].code, rows[i].status, rows[i].payload);
        assert_int_equal(is_known(glue, "alice"), rows[i].refusal == TOKEN_GOOD);
        if (rows[i].refusal == TOKEN_GOOD)
            expect_welcome(glue, 1);
        else if (rows[i].refusal != TOKEN_UNAVAILABLE)
            expect_refused(glue, 1, UNAUTHENTICATED, USHER__V1__CLOSE__REASON__AUTH_FAILED);
        assert_int_equal(count(glue, METRIC_logins_refused_service),
                         rows[i].refusal == TOKEN_SERVICE);
        glue_free(glue);
    }
}

/* A yes that holds no longer is a no. */
static void the_service_says_until_when(void **state)
{
    const uint64_t now_ms = (uint64_t)NOW_S * 1000;
    const uint64_t skew_ms = 30000;
    const struct {
        const char *user;
        uint64_t says, stored;
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
        struct session_record record;
        struct glue *glue = begin_asking(&instance);
        assert_int_equal(glue->options.auth_skew_ms, skew_ms);
        give_login(glue, 1, rows[i].user, NULL);
        answer_until(glue, asked(glue, instance), 0, 0, "alice", rows[i].says);
        assert_int_equal(is_known(glue, "alice"), rows[i].good);
        assert_int_equal(count(glue, METRIC_logins_refused_expired), !rows[i].good);
        assert_int_equal(store_get_session(glue->broker.store, "alice", &record),
                         rows[i].good ? 0 : -ENOENT);
        if (rows[i].good)
            assert_true(record.token_ends_ms == rows[i].stored);
        else
            expect_refused(glue, 1, UNAUTHENTICATED, USHER__V1__CLOSE__REASON__AUTH_FAILED);
        glue_free(glue);
    }
}

static void expect_unavailable(struct glue *glue, conn_handle conn)
{
    expect_said(glue, conn, 0, USHER__V1__BROKER_FRAME__BODY_ERROR,
                USHER__V1__ERROR__CODE__UNAVAILABLE);
    assert_int_equal(count_told(glue, TOLD_WRITE, conn), 1);
    assert_int_equal(count_told(glue, TOLD_RELEASE, conn), 0); /* it may try again */
    assert_null(glue->kept[conn]);
}

static void nobody_is_there_to_ask(void **state)
{
    struct glue *glue = glue_make_with(NULL, 100, true, by_service);
    assert_int_equal(registry_count_of(glue->broker.registry, KIND_USER), 0); /* who asks */
    assert_int_equal(registry_count_of(glue->broker.registry, KIND_INSTANCE), 0);
    for (unsigned i = 0; i < 2 * FAILED_MAX; i++) { /* which is no failure of the client */
        give_login(glue, 1 + i, "alice", GOOD);
        judge_all(glue);
        expect_unavailable(glue, 1 + i);
    }
    assert_int_equal(count(glue, METRIC_logins_refused_unavailable), 2 * FAILED_MAX);
    glue_free(glue);
}

static void a_service_that_is_late(void **state)
{
    struct probe *instance;
    struct glue *glue = begin_asking(&instance);
    give_login(glue, 1, "alice", GOOD);
    struct user_call_message *call = asked(glue, instance);
    atomic_fetch_add(&glue->now_ms, ASK_DEADLINE_MS - 1);
    judge_all(glue);
    assert_int_equal(count_told(glue, TOLD_WRITE, 1), 0);
    atomic_fetch_add(&glue->now_ms, 1);
    judge_all(glue);
    expect_unavailable(glue, 1);
    answer(glue, call, 0, 0, ""); /* nobody waits for it */
    expect_unavailable(glue, 1);
    assert_false(is_known(glue, "alice"));
    give_login(glue, 1, "alice", GOOD);
    answer(glue, asked(glue, instance), 0, 0, "");
    assert_true(is_known(glue, "alice"));
    glue_free(glue);
}

/* By a reload: for those who wait, and nobody stands behind an older, later deadline. */
static void a_deadline_that_becomes_less(void **state)
{
    struct probe *instance;
    struct glue *glue = begin_asking(&instance);
    struct options options = *glue->broker.options;
    give_login(glue, 1, "alice", GOOD);
    message_destroy(&asked(glue, instance)->header);
    options.auth_deadline_ms = ASK_DEADLINE_MS / 5;
    admission_set_limits(glue->broker.admission, &options);
    give_login(glue, 2, "bob", GOOD);
    message_destroy(&asked(glue, instance)->header);
    atomic_fetch_add(&glue->now_ms, ASK_DEADLINE_MS / 5 - 1);
    judge_all(glue);
    assert_int_equal(count_told(glue, TOLD_WRITE, 1) + count_told(glue, TOLD_WRITE, 2), 0);
    atomic_fetch_add(&glue->now_ms, 1);
    judge_all(glue);
    expect_unavailable(glue, 1);
    expect_unavailable(glue, 2);
    options.auth_deadline_ms = ASK_DEADLINE_MS; /* and more again: for those who come */
    admission_set_limits(glue->broker.admission, &options);
    glue_free(glue);
}

/* Answers in another order than the questions; one of the clients is gone. */
static void answers_find_their_login(void **state)
{
    struct probe *instance;
    struct glue *glue = begin_asking(&instance);
    struct user_call_message *calls[3];
    for (unsigned i = 0; i < 3; i++) {
        char user[2] = {(char)('a' + i), '\0'};
        give_login(glue, 1 + i, user, NULL);
        calls[i] = asked(glue, instance);
    }
    give_end(glue, 2, CONN_LOST);
    answer(glue, calls[2], 0, 0, "");
    expect_welcome(glue, 3);
    answer(glue, calls[1], 0, 0, "");
    answer(glue, calls[0], 0, 1, "");
    expect_refused(glue, 1, UNAUTHENTICATED, USHER__V1__CLOSE__REASON__AUTH_FAILED);
    assert_false(is_known(glue, "a"));
    assert_false(is_known(glue, "b"));
    assert_true(is_known(glue, "c"));
    glue_free(glue);
}

static void those_who_were_asked_about_count_as_waiting(void **state)
{
    struct probe *instance;
    struct glue *glue = begin_asking(&instance);
    for (conn_handle conn = 1; conn <= WAITING_MAX; conn++)
        give_login(glue, conn, "alice", NULL);
    judge_all(glue);
    give_login(glue, WAITING_MAX + 1, "alice", NULL);
    expect_said(glue, WAITING_MAX + 1, 0, USHER__V1__BROKER_FRAME__BODY_ERROR,
                USHER__V1__ERROR__CODE__BUSY);
    answer(glue, (struct user_call_message *)probe_take(glue, instance), 0, 1, "");
    give_login(glue, WAITING_MAX + 1, "alice", NULL);
    assert_int_equal(count_told(glue, TOLD_WRITE, WAITING_MAX + 1), 1);
    glue_free(glue); /* with many asked about: nothing leaks */
}

/* What does not fit a link frame is not sent. */
static void a_token_too_long_to_ask_about(void **state)
{
    struct probe *instance;
    struct glue *glue = begin_asking(&instance);
    for (int i = 0; i < 2; i++) {
        char claims[LINK_FRAME];
        /* 13 and 43 characters around the claims, in base64. */
        int padding = ((LINK_FRAME - 512 - 64) * 3 / 4) + (i == 0 ? -60 : 60);
        snprintf(claims, sizeof(claims), "%0*d", padding, 7);
        give_login(glue, 1 + (conn_handle)i, "alice", claims);
    }
    judge_all(glue);
    assert_int_equal(count(glue, METRIC_logins_refused_too_long), 1);
    assert_int_equal(probe_count(glue, instance), 1);
    glue_free(glue);
}

/* The names are the strangers' choice: nothing is remembered of them. */
static void stray_mail_harms_nobody(void **state)
{
    struct probe *instance;
    struct glue *glue = begin_asking(&instance);
    give_login(glue, 1, "alice", NULL);
    struct user_call_message *call = asked(glue, instance);
    actor_handle actor = call->caller;
    struct message *strays[] = {message_create(MESSAGE_LEAVE, sizeof(struct message)),
                                message_create(MESSAGE_TICK, sizeof(struct message))};
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(scheduler_post(glue->broker.scheduler, own_runner(glue), actor, strays[i]),
                         0);
    answer(glue, call, 0, 0, "");
    expect_welcome(glue, 1);
    glue_free(glue);
}

/* The thread itself wakes for the deadline. */
static void late_with_real_threads(void **state)
{
    struct glue *glue = glue_make_with(NULL, 100, false, by_service);
    struct probe *instance = new_probe(glue, "!door/one");
    assert_int_equal(services_join(glue->broker.services, "door", instance->self, false), 0);
    assert_int_equal(admission_start(glue->broker.admission), 0);
    give_login(glue, 1, "alice", GOOD);
    uint64_t began_ms = clock_ms();
    WAIT_FOR((next_batch(glue), count_told(glue, TOLD_WRITE, 1) == 1));
    assert_true(clock_ms() - began_ms >= ASK_DEADLINE_MS - 1);
    expect_unavailable(glue, 1);
    glue_free(glue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_token_is_welcomed),
        cmocka_unit_test(the_end_of_a_token_goes_with_the_login),
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
