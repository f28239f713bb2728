/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/http_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/kinds.h"
#include "client.pb-c.h"

/* What a room answers to an operator, or does not. It is an actor that answers as the test wants,
 * on a thread of its own; the endpoint is there, but nobody speaks HTTP. */

static struct options config = {.admin_listen = (char *)"127.0.0.1:0"};
static struct room_classes *_Atomic no_classes;

struct desk {
    struct registry *registry;
    struct scheduler *scheduler;
    struct limits limits;
    struct http *http;
    json_t *answer;
};

static struct script {
    uint16_t code;     /* of the answer */
    bool one_before;   /* the answer to an earlier question comes first, and this one twice */
    const char *bytes; /* of the Result */
    struct scheduler *scheduler;
    uint64_t incarnation; /* that was asked for */
    uint8_t command;
} script;

static void bounce(void *context, struct runner *runner, struct message *message)
{
    message_destroy(message);
}

static void say(struct runner *runner, const struct room_command_message *command, int which)
{
    struct room_answer_message *told = room_answer_create(command->call.request + (uint64_t)which,
                                                          script.code, bytes_of_text(script.bytes));
    assert_non_null(told);
    assert_int_equal(scheduler_post(script.scheduler, runner, command->call.asker, &told->header),
                     0);
}

static bool receive(void *context, struct runner *runner, actor_handle self, void *state,
                    struct message *message)
{
    struct room_command_message *command = (struct room_command_message *)message;
    script.command = command->command;
    script.incarnation = command->incarnation;
    if (script.one_before)
        say(runner, command, -1);
    say(runner, command, 0);
    if (script.one_before)
        say(runner, command, 0);
    message_destroy(message);
    return true;
}

static enum verdict finish(void *context, struct runner *runner, actor_handle self, void *state)
{
    return VERDICT_GO_ON;
}

static void show(const void *state, uint64_t numbers[ACTOR_NUMBERS])
{
    numbers[ROOM_NUMBER_INCARNATION] = 5;
    numbers[ROOM_NUMBER_MEMBERS] = UINT64_C(1) << 32 | 3;
}

static const struct behaviour a_room = {
    .name = "room", .kind = KIND_ROOM, .receive = receive, .finish = finish, .show = show};
static const struct behaviour a_user = {
    .name = "user", .kind = KIND_USER, .receive = receive, .finish = finish, .show = show};

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
                                      .room_classes = &no_classes,
                                      .bounce = bounce};
    assert_int_equal(http_open(&desk->http, &http), 0);
    assert_int_not_equal(registry_claim(desk->registry, "#hall", 5, &a_room), 0);
    assert_int_not_equal(registry_claim(desk->registry, "hall", 4, &a_user), 0);
    assert_int_equal(scheduler_start(desk->scheduler, 1, prepare), 0);
    desk->answer = json_object();
    /* members 8: {members 1: {user 1: "ann"}, next 2: "7"} */
    script = (struct script){.bytes = "B\x0a\x0a\x05\x0a\x03"
                                      "ann"
                                      "\x12\x01"
                                      "7",
                             .scheduler = desk->scheduler};
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

static unsigned ask(struct desk *desk, admin_answer *function, const char *room, json_t *body)
{
    const struct admin_query query = {
        .user = room, .after_name = "", .prefix = "", .by = "", .body = body, .address = "here"};
    json_object_clear(desk->answer);
    unsigned status = function(desk->http, &query, desk->answer);
    json_decref(body);
    return status;
}

static void members_are_what_the_room_says(void **state)
{
    struct desk *desk = *state;
    for (unsigned times = 0; times < 2; times++) {
        assert_int_equal(ask(desk, http_room, "hall", json_object()), 200);
        assert_int_equal(script.command, ROOM_MEMBERS);
        json_t *members = json_object_get(desk->answer, "members");
        assert_int_equal(json_array_size(members), 1);
        json_t *user = json_object_get(json_array_get(members, 0), "user");
        assert_string_equal(json_string_value(user), "ann");
        assert_string_equal(json_string_value(json_object_get(desk->answer, "next")), "7");
        json_t *room = json_object_get(desk->answer, "room");
        assert_int_equal(json_integer_value(json_object_get(room, "members")), 3);
        assert_int_equal(json_integer_value(json_object_get(room, "away")), 1);
        script.one_before = true; /* what is late, or comes again, is nobody's */
    }
}

static void what_is_no_answer_is_no_success(void **state)
{
    struct desk *desk = *state;
    script.bytes = "\xff\xff";
    assert_int_equal(ask(desk, http_room, "hall", json_object()), 503);
    script.bytes = "";
    assert_int_equal(ask(desk, http_room, "hall", json_object()), 503);
    script.code = USHER__V1__ERROR__CODE__NO_ROOM; /* it has just closed */
    assert_int_equal(ask(desk, http_room, "hall", json_object()), 404);
    script.code = USHER__V1__ERROR__CODE__BUSY;
    assert_int_equal(ask(desk, http_room, "hall", json_object()), 409);
}

static void a_room_is_no_user(void **state)
{
    struct desk *desk = *state;
    assert_int_equal(ask(desk, http_room, "nobody", json_object()), 404);
    assert_int_equal(ask(desk, http_room, "#hall", json_object()), 400);
    assert_int_equal(ask(desk, http_room_close, "nobody", json_object()), 404);
    assert_int_equal(script.command, 0);
    assert_int_equal(ask(desk, http_rooms, "", json_object()), 200);
    assert_int_equal(json_array_size(json_object_get(desk->answer, "rooms")), 1);
}

static void only_the_life_that_was_meant_is_closed(void **state)
{
    struct desk *desk = *state;
    script.bytes = "";
    assert_int_equal(ask(desk, http_room_close, "hall", json_pack("{s:i}", "incarnation", 5)), 200);
    assert_int_equal(script.command, ROOM_CLOSE);
    assert_int_equal(script.incarnation, 5);
    script.code = RESULT_STALE_EPOCH;
    assert_int_equal(ask(desk, http_room_close, "hall", json_object()), 409);
    assert_int_equal(script.incarnation, 0);
    assert_string_equal(json_string_value(json_object_get(desk->answer, "code")), "STALE_EPOCH");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(members_are_what_the_room_says),
        TEST(what_is_no_answer_is_no_success),
        TEST(a_room_is_no_user),
        TEST(only_the_life_that_was_meant_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
