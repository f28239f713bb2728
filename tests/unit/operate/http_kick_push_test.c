/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/http_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/kinds.h"
#include "base/wait.h"
#include "client.pb-c.h"

/* A command waits for its own result and for no other. The user is an actor that answers as the
 * test wants, on a thread of its own; the endpoint is there, but nobody speaks HTTP. */

enum { EPOCH = 7 };

static struct options config = {.admin_listen = (char *)"127.0.0.1:0"};

struct desk {
    struct registry *registry;
    struct scheduler *scheduler;
    struct limits limits;
    struct http *http;
    json_t *answer;
};

static struct script {
    uint16_t code;        /* of the result */
    bool late_one_before; /* the result of an earlier command comes first */
    bool transient;       /* the last push was */
    struct kick_message kick;
    struct scheduler *scheduler;
} script;

static unsigned bounced;

static void bounce(void *context, struct runner *runner, struct message *message)
{
    bounced++;
    message_destroy(message);
}

static void answer(struct runner *runner, uint64_t request, uint16_t code)
{
    struct result_message *result = message_create(MESSAGE_RESULT, sizeof(*result));
    result->offset = result->mid = 0;
    result->request = request;
    result->code = code;
    result->epoch = EPOCH;
    assert_int_equal(scheduler_post(script.scheduler, runner, script.kick.by, &result->header), 0);
}

/* The late one has a turn of its own before the right one comes. */
static bool receive(void *context, struct runner *runner, actor_handle self, void *state,
                    struct message *message)
{
    if (message->kind == MESSAGE_KICK)
        script.kick = *(const struct kick_message *)message;
    if (message->kind == MESSAGE_DELIVER) {
        const struct deliver_message *push = (const struct deliver_message *)message;
        script.kick.by = push->sender;
        script.kick.request = push->request;
        script.transient = push->transient;
    }
    bool late = message->kind == MESSAGE_KICK && script.late_one_before;
    if (late) {
        struct message *again = message_create(MESSAGE_TICK, sizeof(*again));
        answer(runner, script.kick.request - 1, RESULT_STALE_EPOCH);
        assert_int_equal(scheduler_post(script.scheduler, runner, self, again), 0);
    } else {
        if (message->kind == MESSAGE_TICK)
            wait_nap(100); /* so that who takes it for his own has done so */
        answer(runner, script.kick.request, script.code);
    }
    message_destroy(message);
    return !late;
}

static enum verdict finish(void *context, struct runner *runner, actor_handle self, void *state)
{
    return VERDICT_GO_ON;
}

static const struct behaviour user = {
    .name = "user", .kind = KIND_USER, .receive = receive, .finish = finish};

static void prepare(void *context, struct runner *runner, unsigned worker)
{
}

static int set_up(void **state)
{
    struct desk *desk = calloc(1, sizeof(*desk));
    assert_non_null(desk);
    assert_int_equal(registry_create(&desk->registry, 10, 64, env_system()), 0);
    const struct scheduler_options scheduler = {.registry = desk->registry,
                                                .env = env_system(),
                                                .turn_messages = 8,
                                                .wake_backlog = 10,
                                                .bounce = bounce};
    assert_int_equal(scheduler_create(&desk->scheduler, &scheduler), 0);
    atomic_store(&desk->limits.limits_mailbox_messages, 100);
    const struct http_options http = {.config = &config,
                                      .env = env_system(),
                                      .limits = &desk->limits,
                                      .registry = desk->registry,
                                      .scheduler = desk->scheduler,
                                      .bounce = bounce};
    assert_int_equal(http_open(&desk->http, &http), 0);
    assert_int_not_equal(registry_claim(desk->registry, "ann", 3, &user), 0);
    assert_int_equal(scheduler_start(desk->scheduler, 1, prepare), 0);
    desk->answer = json_object();
    script = (struct script){.scheduler = desk->scheduler};
    *state = desk;
    return 0;
}

static int tear_down(void **state)
{
    struct desk *desk = *state;
    scheduler_stop(desk->scheduler);
    scheduler_destroy(desk->scheduler);
    registry_destroy(desk->registry);
    http_close(desk->http);
    json_decref(desk->answer);
    free(desk);
    return 0;
}

static unsigned kick(struct desk *desk, const char *name)
{
    const struct admin_query query = {.user = name, .body = json_object(), .address = "here"};
    json_object_clear(desk->answer);
    unsigned status = http_kick(desk->http, &query, desk->answer);
    json_decref((json_t *)query.body);
    return status;
}

static const char *code_of(const struct desk *desk)
{
    return json_string_value(json_object_get(desk->answer, "code"));
}

static void a_result_is_told(void **state)
{
    struct desk *desk = *state;
    assert_int_equal(kick(desk, "ann"), 200);
    assert_string_equal(code_of(desk), "OK");
    assert_int_equal(json_integer_value(json_object_get(desk->answer, "epoch")), EPOCH);
    assert_string_equal(script.kick.kicker, "admin here");
    script.code = RESULT_STALE_EPOCH;
    assert_int_equal(kick(desk, "ann"), 409);
    assert_string_equal(code_of(desk), "STALE_EPOCH");
}

static unsigned push(struct desk *desk, json_t *transient)
{
    const struct admin_query query = {
        .user = "ann", .body = json_pack("{s:s, s:o*}", "text", "hi", "transient", transient)};
    json_object_clear(desk->answer);
    unsigned status = http_push(desk->http, &query, desk->answer);
    json_decref((json_t *)query.body);
    return status;
}

static void a_transient_push_that_did_not_go_is_no_failure(void **state)
{
    struct desk *desk = *state;
    assert_int_equal(push(desk, NULL), 200);
    assert_false(script.transient);
    assert_int_equal(push(desk, json_true()), 200);
    assert_true(script.transient);
    assert_null(json_object_get(desk->answer, "dropped"));
    script.code = RESULT_DROPPED;
    assert_int_equal(push(desk, json_true()), 200);
    assert_string_equal(code_of(desk), "OK");
    assert_true(json_is_true(json_object_get(desk->answer, "dropped")));
    assert_int_equal(json_integer_value(json_object_get(desk->answer, "epoch")), EPOCH);
    assert_int_equal(push(desk, json_string("yes")), 400);
}

static void a_result_that_is_late_is_nobodys(void **state)
{
    struct desk *desk = *state;
    assert_int_equal(kick(desk, "ann"), 200);
    script.late_one_before = true;
    assert_int_equal(kick(desk, "ann"), 200);
    assert_string_equal(code_of(desk), "OK");
}

static void who_is_not_there_is_not_waited_for(void **state)
{
    struct desk *desk = *state;
    uint64_t begun_ms = env_monotonic_ms(env_system());
    assert_int_equal(kick(desk, "bob"), 409);
    assert_string_equal(code_of(desk), "NOT_ONLINE");
    assert_true(env_monotonic_ms(env_system()) - begun_ms < 2000);
}

static void what_is_no_result_bounces(void **state)
{
    struct desk *desk = *state;
    unsigned before = bounced;
    struct message *stray = message_create(MESSAGE_TICK, sizeof(*stray));
    assert_int_equal(scheduler_post(desk->scheduler, NULL, desk->http->actor, stray), 0);
    assert_int_equal(kick(desk, "ann"), 200); /* by then it has had its turn */
    assert_int_equal(bounced, before + 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_result_is_told),
        TEST(a_transient_push_that_did_not_go_is_no_failure),
        TEST(a_result_that_is_late_is_nobodys),
        TEST(who_is_not_there_is_not_waited_for),
        TEST(what_is_no_result_bounces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
