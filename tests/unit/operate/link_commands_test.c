/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/link_commands.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/kinds.h"
#include "storage/store_ops.h"

/* Commands of operators: what changes something asks for the link's token itself, whoever has let
 * the command come so far. */

enum { SESSIONS = 7, EVENTS_KEPT = 5 };

/* --- in place of what they do ----------------------------------------------------------------- */

static unsigned drains, restarts, reloads;
static int drain_answers, restart_answers;

int leave_ask_drain(struct leave *leave, uint64_t ms)
{
    drains++;
    return drain_answers;
}

enum leave_state leave_state(const struct leave *leave)
{
    return LEAVE_SERVING;
}

int leave_ask_restart(struct leave *leave, char error[BROKER_ERROR_BYTES])
{
    restarts++;
    snprintf(error, BROKER_ERROR_BYTES, "why");
    return restart_answers;
}

void reload_restart_lines(struct reload *reload, const char *error, recorder_each *each,
                          void *context)
{
    each(context, error, strlen(error));
}

int reload_run(struct reload *reload, struct reload_report *report)
{
    reloads++;
    return 0;
}

void reload_lines(struct reload *reload, const struct reload_report *report, recorder_each *each,
                  void *context)
{
}

uint32_t reload_exposed(const struct reload *reload)
{
    return 3;
}

struct link_health link_health(struct link *link)
{
    return (struct link_health){.listening = true};
}

/* --- a user and a store ----------------------------------------------------------------------- */

struct desk {
    struct registry *registry;
    struct scheduler *scheduler;
    struct traces *traces;
    struct metrics *metrics;
    struct store *store;
    struct settings settings;
    struct follow follow;
    struct link_commands commands;
};

static unsigned marks; /* that the user has got */

static bool receive(void *context, struct runner *runner, actor_handle self, void *state,
                    struct message *message)
{
    marks += message->kind == MESSAGE_TRACE;
    message_destroy(message);
    return true;
}

static enum verdict finish(void *context, struct runner *runner, actor_handle self, void *state)
{
    return VERDICT_GO_ON;
}

static const struct behaviour user = {
    .name = "user", .kind = KIND_USER, .receive = receive, .finish = finish};

static void fill_store(struct store *store)
{
    for (unsigned i = 0; i < SESSIONS; i++) {
        struct session_record record = {.epoch = 100 + i, .state = SESSION_ONLINE};
        struct presence_event event = {.epoch = 100 + i, .user = {(char)('a' + i)}};
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_put_session(store, event.user, &record), 0);
        assert_int_equal(store_append_event(store, &event), 0);
        assert_int_equal(store_commit(store, 100 + i), 0);
    }
}

static int set_up(void **state)
{
    struct desk *desk = calloc(1, sizeof(*desk));
    const struct store_options kept = {.events_kept_max = EVENTS_KEPT};
    assert_non_null(desk);
    assert_int_equal(registry_create(&desk->registry, 10, 8, env_system()), 0);
    const struct scheduler_options scheduler = {
        .registry = desk->registry, .env = env_system(), .turn_messages = 8, .wake_backlog = 10};
    assert_int_equal(scheduler_create(&desk->scheduler, &scheduler), 0);
    assert_int_equal(store_open_memory(&desk->store, &kept), 0);
    desk->traces = traces_create();
    desk->metrics = metrics_create(1);
    assert_true(desk->traces != NULL && desk->metrics != NULL);
    desk->follow =
        (struct follow){desk->registry, desk->scheduler, NULL, desk->traces, env_system(), NULL};
    desk->commands = (struct link_commands){
        .settings = &desk->settings,
        .metrics = desk->metrics,
        .store = desk->store,
        .registry = desk->registry,
        .follow = &desk->follow,
    };
    *state = desk;
    return 0;
}

static int tear_down(void **state)
{
    struct desk *desk = *state;
    scheduler_destroy(desk->scheduler);
    registry_destroy(desk->registry);
    store_close(desk->store);
    traces_destroy(desk->traces);
    metrics_destroy(desk->metrics);
    free(desk);
    return 0;
}

/* --- questions -------------------------------------------------------------------------------- */

static struct link_token *new_token(const char *text)
{
    struct link_token *token = calloc(1, sizeof(*token) + strlen(text));
    assert_non_null(token);
    token->size = strlen(text);
    memcpy(token->bytes, text, token->size);
    return token;
}

/* The caller's to free. */
static Usher__V1__Result *result_of(struct desk *desk, const Usher__V1__Command *command)
{
    struct buffer out = {0};
    assert_true(link_commands_answer(&desk->commands, command, 65536, &out));
    Usher__V1__Result *result = usher__v1__result__unpack(NULL, out.size, out.data);
    assert_non_null(result);
    buffer_fini(&out);
    return result;
}

/* The code of its Result. */
static uint32_t run(struct desk *desk, const Usher__V1__Command *command)
{
    Usher__V1__Result *result = result_of(desk, command);
    uint32_t code = result->code;
    usher__v1__result__free_unpacked(result, NULL);
    return code;
}

static ProtobufCBinaryData bytes_in(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
}

static uint32_t end_node(struct desk *desk, const char *token, uint32_t seconds, bool restart)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__DrainNode node = USHER__V1__DRAIN_NODE__INIT;
    node.token = bytes_in(token);
    node.seconds = seconds;
    node.restart = restart;
    command.body_case = USHER__V1__COMMAND__BODY_DRAIN_NODE;
    command.drain_node = &node;
    return run(desk, &command);
}

static uint32_t drain(struct desk *desk, const char *token)
{
    return end_node(desk, token, 1, false);
}

static uint32_t reload(struct desk *desk, const char *token)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Reload again = USHER__V1__RELOAD__INIT;
    again.token = bytes_in(token);
    command.body_case = USHER__V1__COMMAND__BODY_RELOAD;
    command.reload = &again;
    return run(desk, &command);
}

static uint32_t trace(struct desk *desk, const char *token, int action)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Trace follow = USHER__V1__TRACE__INIT;
    follow.token = bytes_in(token);
    follow.action = action;
    follow.user = (char *)"ann";
    follow.seconds = 1;
    command.body_case = USHER__V1__COMMAND__BODY_TRACE;
    command.trace = &follow;
    return run(desk, &command);
}

static void what_changes_something_asks_for_the_token(void **state)
{
    struct desk *desk = *state;
    const char *const wrong[] = {"", "secre", "secret ", "Secret"};
    struct link_token *token = new_token("secret");
    atomic_store(&desk->settings.link_token, token);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(drain(desk, wrong[i]), USHER__V1__RESULT__CODE__FORBIDDEN);
        assert_int_equal(end_node(desk, wrong[i], 0, true), USHER__V1__RESULT__CODE__FORBIDDEN);
        assert_int_equal(reload(desk, wrong[i]), USHER__V1__RESULT__CODE__FORBIDDEN);
        assert_int_equal(trace(desk, wrong[i], USHER__V1__TRACE__ACTION__START),
                         USHER__V1__RESULT__CODE__FORBIDDEN);
        assert_int_equal(trace(desk, wrong[i], USHER__V1__TRACE__ACTION__STOP),
                         USHER__V1__RESULT__CODE__FORBIDDEN);
    }
    assert_int_equal(drains + restarts + reloads, 0);
    assert_int_equal(trace(desk, "secret", USHER__V1__TRACE__ACTION__START),
                     USHER__V1__RESULT__CODE__NOT_ONLINE);
    assert_int_equal(drain(desk, "secret"), USHER__V1__RESULT__CODE__OK);
    assert_int_equal(reload(desk, "secret"), USHER__V1__RESULT__CODE__OK);
    assert_true(drains == 1 && reloads == 1);
    assert_int_equal(end_node(desk, "secret", 0, true), USHER__V1__RESULT__CODE__OK);
    assert_true(drains == 1 && restarts == 1);
    /* Seconds in which nothing would happen are a mistake. */
    assert_int_equal(end_node(desk, "secret", 1, true), USHER__V1__RESULT__CODE__MALFORMED);
    assert_true(drains == 1 && restarts == 1);
    atomic_store(&desk->settings.link_token, NULL);
    assert_int_equal(drain(desk, ""), USHER__V1__RESULT__CODE__OK); /* none is asked for */
    free(token);
}

/* Whoever asks a second time has what he wants. */
static void a_drain_that_is_on_is_no_fault(void **state)
{
    struct desk *desk = *state;
    drain_answers = -EALREADY;
    assert_int_equal(drain(desk, ""), USHER__V1__RESULT__CODE__OK);
    drain_answers = -EINVAL;
    assert_int_equal(drain(desk, ""), USHER__V1__RESULT__CODE__UNAVAILABLE);
    drain_answers = 0;
}

/* A node that would not come back is not sent away. */
static void a_restart_that_would_fail_is_refused(void **state)
{
    struct desk *desk = *state;
    restart_answers = -EINVAL;
    assert_int_equal(end_node(desk, "", 0, true), USHER__V1__RESULT__CODE__MALFORMED);
    restart_answers = -EALREADY;
    assert_int_equal(end_node(desk, "", 0, true), USHER__V1__RESULT__CODE__OK);
    restart_answers = -EPERM;
    assert_int_equal(end_node(desk, "", 0, true), USHER__V1__RESULT__CODE__UNAVAILABLE);
    restart_answers = 0;
}

static void lines_say_where_the_next_ones_begin(void **state)
{
    struct desk *desk = *state; /* it has no recorder, so the next are those that were asked for */
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Recorder asked = USHER__V1__RECORDER__INIT;
    asked.after = 70000;
    command.body_case = USHER__V1__COMMAND__BODY_RECORDER;
    command.recorder = &asked;
    Usher__V1__Result *result = result_of(desk, &command);
    assert_int_equal(result->lines->next, 70000);
    assert_false(result->lines->more);
    usher__v1__result__free_unpacked(result, NULL);
}

/* Whether more may come, when the trace of ann is read. */
static bool goes_on(struct desk *desk)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Trace asked = USHER__V1__TRACE__INIT;
    asked.action = USHER__V1__TRACE__ACTION__READ;
    asked.user = (char *)"ann";
    command.body_case = USHER__V1__COMMAND__BODY_TRACE;
    command.trace = &asked;
    Usher__V1__Result *result = result_of(desk, &command);
    assert_int_equal(result->code, USHER__V1__RESULT__CODE__OK);
    bool more = result->lines->more;
    usher__v1__result__free_unpacked(result, NULL);
    return more;
}

static void a_trace_says_whether_it_goes_on(void **state)
{
    struct desk *desk = *state;
    assert_int_not_equal(registry_claim(desk->registry, "ann", 3, &user), 0);
    assert_int_equal(trace(desk, "", USHER__V1__TRACE__ACTION__START), USHER__V1__RESULT__CODE__OK);
    struct runner runner = {.drains = true};
    (void)scheduler_run(desk->scheduler, &runner, 10);
    assert_int_equal(marks, 1);
    assert_true(goes_on(desk));
    assert_int_equal(trace(desk, "", USHER__V1__TRACE__ACTION__STOP), USHER__V1__RESULT__CODE__OK);
    assert_false(goes_on(desk));
}

static uint64_t number_of(const Usher__V1__Result *result, const char *name)
{
    assert_int_equal(result->code, USHER__V1__RESULT__CODE__OK);
    assert_int_equal(result->value_case, USHER__V1__RESULT__VALUE_NUMBERS);
    for (size_t i = 0; i < result->numbers->n_numbers; i++)
        if (strcmp(result->numbers->numbers[i]->name, name) == 0)
            return result->numbers->numbers[i]->value;
    fail_msg("no number %s", name);
    return 0;
}

static Usher__V1__Result *numbers(struct desk *desk)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Stats stats = USHER__V1__STATS__INIT;
    command.body_case = USHER__V1__COMMAND__BODY_STATS;
    command.stats = &stats;
    return result_of(desk, &command);
}

/* Backends may be there before we are told that their address is open. */
static void numbers_are_told_before_there_is_a_link(void **state)
{
    struct desk *desk = *state;
    Usher__V1__Result *result = numbers(desk);
    assert_int_equal(number_of(result, "link_listening"), 0);
    usher__v1__result__free_unpacked(result, NULL);
}

static void all_numbers_are_told(void **state)
{
    struct desk *desk = *state;
    static int link;
    atomic_store(&desk->commands.link, (struct link *)(void *)&link); /* link_health above */
    fill_store(desk->store);
    metrics_add(desk->metrics, 0, METRIC_logins, 3);
    assert_int_not_equal(registry_claim(desk->registry, "ann", 3, &user), 0);
    Usher__V1__Result *result = numbers(desk);
    assert_int_equal(number_of(result, "logins"), 3);
    assert_int_equal(number_of(result, "stored_sessions"), SESSIONS);
    assert_int_equal(number_of(result, "presence_first"), SESSIONS - EVENTS_KEPT + 1);
    assert_int_equal(number_of(result, "presence_last"), SESSIONS);
    assert_int_equal(number_of(result, "epoch_last"), 100 + SESSIONS - 1);
    assert_int_equal(number_of(result, "actors"), 1);
    assert_int_equal(number_of(result, "secrets_exposed"), 3);
    assert_int_equal(number_of(result, "link_listening"), 1);
    assert_int_equal(number_of(result, "nng_reaper_stuck"), 0);
    for (int id = 0; id < METRIC_COUNT; id++)
        (void)number_of(result, metrics_name((enum metric_id)id));
    usher__v1__result__free_unpacked(result, NULL);
}

static void *read_once(void *argument)
{
    usher__v1__result__free_unpacked(numbers(argument), NULL);
    return NULL;
}

/* The thread that answers ends with an upgrade, and another one follows if that comes to nothing.
 */
static void whichever_thread_answers(void **state)
{
    pthread_t thread;
    usher__v1__result__free_unpacked(numbers(*state), NULL);
    assert_int_equal(pthread_create(&thread, NULL, read_once, *state), 0);
    pthread_join(thread, NULL);
    usher__v1__result__free_unpacked(numbers(*state), NULL);
}

static int no_position(struct store *store, struct store_position *position)
{
    return -EIO;
}

static void the_counters_do_not_need_the_store(void **state)
{
    static const struct store_ops sick = {.position = no_position};
    struct desk *desk = *state;
    struct store store = {.ops = &sick};
    desk->commands.store = &store;
    metrics_add(desk->metrics, 0, METRIC_logins, 3);
    Usher__V1__Result *result = numbers(desk);
    assert_int_equal(number_of(result, "logins"), 3);
    for (size_t i = 0; i < result->numbers->n_numbers; i++)
        assert_string_not_equal(result->numbers->numbers[i]->name, "stored_sessions");
    usher__v1__result__free_unpacked(result, NULL);
}

/* What backends ask is for others to answer. */
static void a_backends_question_is_not_answered(void **state)
{
    struct desk *desk = *state;
    struct buffer out = {0};
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Count count = USHER__V1__COUNT__INIT;
    command.body_case = USHER__V1__COMMAND__BODY_COUNT;
    command.count = &count;
    assert_false(link_commands_answer(&desk->commands, &command, 65536, &out));
    assert_int_equal(out.size, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_changes_something_asks_for_the_token),
        TEST(a_drain_that_is_on_is_no_fault),
        TEST(a_restart_that_would_fail_is_refused),
        TEST(lines_say_where_the_next_ones_begin),
        TEST(a_trace_says_whether_it_goes_on),
        TEST(numbers_are_told_before_there_is_a_link),
        TEST(all_numbers_are_told),
        TEST(whichever_thread_answers),
        TEST(the_counters_do_not_need_the_store),
        TEST(a_backends_question_is_not_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
