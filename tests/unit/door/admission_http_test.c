/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/web_server.h"

#include "door_stand.h"
#include "web/target.h"

/* auth.mode http: what becomes of a login by what the web server answers, one by one; and what
 * strangers can make it do. The thread is played by the test. */

enum { FAILED_MAX = 5, CONNECTIONS = 8, DEADLINE_MS = 20000, SHORT_MS = 300 };

#define UNAUTHENTICATED USHER__V1__ERROR__CODE__UNAUTHENTICATED
#define UNAVAILABLE USHER__V1__ERROR__CODE__UNAVAILABLE
#define AUTH_FAILED USHER__V1__CLOSE__REASON__AUTH_FAILED

static struct web_server *server;

static void by_http(struct options *options)
{
    options->auth_mode = AUTH_MODE_HTTP;
    options->auth_http_connections = CONNECTIONS;
    options->auth_deadline_ms = DEADLINE_MS;
    options->limits_failed_logins_per_source = FAILED_MAX;
}

static void by_http_soon(struct options *options)
{
    by_http(options);
    options->auth_deadline_ms = SHORT_MS;
}

static void by_one_connection(struct options *options)
{
    by_http(options);
    options->auth_http_connections = 1;
}

static void aim(struct stand *stand, const struct web_server *at)
{
    char url[64];
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/login", at->port);
    admission_set_target(stand->admission, web_target_create(url, "", "secret", NULL));
}

static struct stand *begin(void (*prepare)(struct options *options))
{
    server = web_server_open();
    struct stand *stand = stand_make(true, prepare);
    aim(stand, server);
    stand->net.address = "10.0.0.1:5";
    return stand;
}

static void end(struct stand *stand)
{
    stand_free(stand);
    web_server_close(server);
}

static void step(struct stand *stand)
{
    while (admission_step(stand->admission))
        continue;
    next_batch(stand);
    hall_run(&stand->hall);
    nap_ms(1);
}

static bool is_decided(struct stand *stand, conn_handle conn)
{
    return attach_of(stand, conn) != NULL || told_times(&stand->net, TOLD_WRITE, conn) > 0;
}

static void judge(struct stand *stand, conn_handle conn)
{
    uint64_t give_up_ms = clock_ms() + HALL_WAIT_MS;
    while (!is_decided(stand, conn) && clock_ms() < give_up_ms)
        step(stand);
    assert_true(is_decided(stand, conn));
}

static void expect_unavailable(struct stand *stand, conn_handle conn)
{
    expect_said(stand, conn, 0, USHER__V1__BROKER_FRAME__BODY_ERROR, UNAVAILABLE);
    assert_int_equal(told_times(&stand->net, TOLD_RELEASE, conn), 0); /* it may try again */
}

static void answer(unsigned status, const char *body)
{
    server->status = status;
    server->body = body;
    atomic_store(&server->does, WEB_ANSWERS);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void a_yes_lets_in(void **state)
{
    struct stand *stand = begin(by_http);
    answer(200, "{\"allow\":true}");
    give_token(stand, 1, "alice", "good");
    assert_false(hall_knows(&stand->hall, "alice"));
    judge(stand, 1);
    expect_attached(stand, 1);
    char *request = web_server_request(server);
    assert_int_equal(strncmp(request, "POST /login HTTP/1.1\r\n", 22), 0);
    assert_non_null(strstr(request, "\r\nUsher-Signature: t=1700000000,v1="));
    assert_non_null(strstr(request, "\"user\":\"alice\",\"token\":\"Z29vZA==\","
                                    "\"address\":\"10.0.0.1:5\""));
    free(request);
    assert_int_equal(hall_metric(&stand->hall, METRIC_auth_http_posts), 1);
    assert_int_equal(hall_metric(&stand->hall, METRIC_auth_http_failures), 0);
    end(stand);
}

static void a_yes_may_name_who_it_is(void **state)
{
    static const struct {
        const char *user, *body;
        bool good;
    } rows[] = {
        {"", "{\"allow\":true,\"user\":\"carol\"}", true},
        {"carol", "{\"allow\":true,\"user\":\"carol\"}", true},
        {"bob", "{\"allow\":true,\"user\":\"carol\"}", false},
        {"", "{\"allow\":true}", false},
        {"", "{\"allow\":true,\"user\":\"a b\"}", false},
        {"carol", "{\"allow\":true,\"user\":7}", false},
        {"carol", "{\"allow\":true,\"ends_ms\":-1}", false},
        {"carol", "{\"allow\":true,\"ends_ms\":1}", false}, /* long ago */
        {"carol", "{\"allow\":true,\"rooms\":{}}", false},
        {"carol", "{\"allow\":true,\"rooms\":[7]}", false},
        {"carol", "{\"allow\":true,\"rooms\":[\"match:*\"]}", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct stand *stand = begin(by_http);
        answer(200, rows[i].body);
        give_token(stand, 1, rows[i].user, "good");
        judge(stand, 1);
        if (rows[i].good)
            expect_attached(stand, 1);
        else
            expect_refused(stand, 1, UNAUTHENTICATED, AUTH_FAILED);
        assert_int_equal(hall_knows(&stand->hall, "carol"), rows[i].good);
        end(stand);
    }
}

/* And counts against its address: too many, and the server is not asked any more. */
static void a_no_is_a_failure(void **state)
{
    static const struct {
        unsigned status;
        const char *body;
    } rows[] = {{200, "{\"allow\":false}"},
                {200, "{\"allow\":false,\"reason\":\"banned until Monday\"}"},
                {401, "no"},
                {403, "{\"allow\":true}"}};
    struct stand *stand = begin(by_http);
    for (conn_handle conn = 1; conn <= FAILED_MAX; conn++) {
        answer(rows[conn % 4].status, rows[conn % 4].body);
        give_token(stand, conn, "alice", "bad");
        judge(stand, conn);
        expect_refused(stand, conn, UNAUTHENTICATED, AUTH_FAILED);
    }
    unsigned asked = atomic_load(&server->requests);
    assert_int_equal(asked, FAILED_MAX);
    answer(200, "{\"allow\":true}");
    give_token(stand, FAILED_MAX + 1, "alice", "good");
    judge(stand, FAILED_MAX + 1);
    assert_null(attach_of(stand, FAILED_MAX + 1));
    assert_int_equal(atomic_load(&server->requests), asked);
    stand->net.address = "10.0.0.2:5"; /* somebody else is not concerned */
    give_token(stand, FAILED_MAX + 2, "alice", "good");
    judge(stand, FAILED_MAX + 2);
    expect_attached(stand, FAILED_MAX + 2);
    end(stand);
}

/* Nobody's fault: it may be tried again, as often as one likes, and lets nobody in. */
static void anything_else_is_unavailable(void **state)
{
    static const struct {
        enum web_deed does;
        unsigned status;
        const char *body;
    } rows[] = {
        {WEB_ANSWERS, 200, ""},
        {WEB_ANSWERS, 200, "yes"},
        {WEB_ANSWERS, 200, "[]"},
        {WEB_ANSWERS, 200, "{}"},
        {WEB_ANSWERS, 200, "{\"allow\":1}"},
        {WEB_ANSWERS, 200, "{\"allow\":\"true\"}"},
        {WEB_ANSWERS, 200, "{\"allow\":null}"},
        {WEB_ANSWERS, 200, "{\"allow\":true"},
        {WEB_ANSWERS, 200, "{\"allow\":true} {\"allow\":false}"},
        {WEB_ANSWERS, 200, "{\"allow\":false,\"allow\":true}"},
        {WEB_ANSWERS, 201, "{\"allow\":true}"},
        {WEB_ANSWERS, 302, "{\"allow\":true}"},
        {WEB_ANSWERS, 404, "{\"allow\":true}"},
        {WEB_ANSWERS, 500, "{\"allow\":true}"},
        {WEB_CUTS, 200, "{\"allow\":true}"},
        {WEB_HANGS, 0, NULL},
        {WEB_DRIPS, 0, NULL},
        {WEB_FLOODS, 0, NULL},
        {WEB_HEADS, 0, NULL},
        {WEB_INTERIM, 0, NULL},
        {WEB_RESETS, 0, NULL},
        {WEB_BABBLES, 0, NULL},
    };
    enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
    struct stand *stand = begin(by_http_soon);
    for (conn_handle conn = 1; conn <= ROWS; conn++) {
        answer(rows[conn - 1].status, rows[conn - 1].body);
        atomic_store(&server->does, rows[conn - 1].does);
        give_token(stand, conn, "alice", "good");
        judge(stand, conn);
        expect_unavailable(stand, conn);
        assert_false(hall_knows(&stand->hall, "alice"));
    }
    assert_int_equal(hall_metric(&stand->hall, METRIC_auth_http_failures), ROWS);
    answer(200, "{\"allow\":true}");
    give_token(stand, ROWS + 1, "alice", "good");
    judge(stand, ROWS + 1);
    expect_attached(stand, ROWS + 1);
    end(stand);
}

/* Whoever has waited too long for a connection is told so without a request. */
static void late_in_the_queue(void **state)
{
    struct stand *stand = begin(by_one_connection);
    atomic_store(&server->does, WEB_HANGS);
    give_token(stand, 1, "alice", "good");
    while (atomic_load(&server->hanging) == 0)
        step(stand);
    give_token(stand, 2, "bob", "good");
    for (int i = 0; i < 20; i++)
        step(stand);
    assert_false(is_decided(stand, 2));
    atomic_fetch_add(&stand->hall.now_ms, DEADLINE_MS);
    judge(stand, 2);
    expect_unavailable(stand, 2);
    assert_false(is_decided(stand, 1)); /* its own time is libcurl's */
    assert_int_equal(atomic_load(&server->requests), 1);
    end(stand); /* with one that is asked about still */
}

/* Who knows tokens at which the server hangs has a quarter of the connections. */
static void one_source_has_a_part(void **state)
{
    struct stand *stand = begin(by_http);
    char name[16];
    atomic_store(&server->does, WEB_HANGS);
    for (conn_handle conn = 1; conn <= 6; conn++) {
        snprintf(name, sizeof(name), "user%u", (unsigned)conn);
        give_token(stand, conn, name, "slow");
    }
    while (atomic_load(&server->hanging) < CONNECTIONS / 4)
        step(stand);
    for (int i = 0; i < 50; i++)
        step(stand);
    assert_int_equal(atomic_load(&server->requests), CONNECTIONS / 4);
    stand->net.address = "172.16.0.1:5";
    answer(200, "{\"allow\":true}");
    give_token(stand, 7, "alice", "good");
    judge(stand, 7);
    expect_attached(stand, 7);
    assert_int_equal(atomic_load(&server->hanging), CONNECTIONS / 4);
    end(stand);
}

static void another_server_from_now_on(void **state)
{
    struct stand *stand = begin(by_http);
    struct web_server *other = web_server_open();
    other->body = "{\"allow\":true}";
    atomic_store(&server->does, WEB_HANGS);
    give_token(stand, 1, "alice", "good");
    while (atomic_load(&server->hanging) == 0)
        step(stand);
    aim(stand, other);
    give_token(stand, 2, "bob", "good");
    judge(stand, 2);
    expect_attached(stand, 2);
    assert_int_equal(atomic_load(&other->requests), 1);
    assert_false(is_decided(stand, 1)); /* it is asked about where it was */
    end(stand);
    web_server_close(other);
}

static void a_token_that_is_too_long(void **state)
{
    char token[TOKEN_BYTES_MAX + 2];
    struct stand *stand = begin(by_http);
    memset(token, 't', sizeof(token) - 1);
    token[sizeof(token) - 1] = '\0';
    give_token(stand, 1, "alice", token);
    judge(stand, 1);
    expect_refused(stand, 1, UNAUTHENTICATED, AUTH_FAILED);
    assert_int_equal(atomic_load(&server->requests), 0);
    end(stand);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_yes_lets_in),
        cmocka_unit_test(a_yes_may_name_who_it_is),
        cmocka_unit_test(a_no_is_a_failure),
        cmocka_unit_test(anything_else_is_unavailable),
        cmocka_unit_test(late_in_the_queue),
        cmocka_unit_test(one_source_has_a_part),
        cmocka_unit_test(another_server_from_now_on),
        cmocka_unit_test(a_token_that_is_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
