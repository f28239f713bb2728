/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/link_commands.h"
#include "operate/reload.h"
#include "persist/committer.h"
#include "unit/broker/broker_fixture.h"

/* Commands of operators: what changes something asks for the link's token itself, whoever has let
 * the command come so far. */

/* --- in place of what they do ----------------------------------------------------------------- */

static unsigned drains, restarts, reloads;
static int drain_answers, restart_answers;

int broker_drain(struct broker *broker, uint64_t ms)
{
    drains++;
    return drain_answers;
}

int broker_restart(struct broker *broker, char error[BROKER_ERROR_BYTES])
{
    restarts++;
    snprintf(error, BROKER_ERROR_BYTES, "why");
    return restart_answers;
}

void restart_lines(struct broker *broker, const char *error, recorder_each *each, void *context)
{
    each(context, error, strlen(error));
}

int broker_reload(struct broker *broker, struct reload_report *report)
{
    reloads++;
    return 0;
}

void reload_lines(struct broker *broker, const struct reload_report *report, recorder_each *each,
                  void *context)
{
}

static struct link_token *new_token(const char *text)
{
    struct link_token *token = calloc(1, sizeof(*token) + strlen(text));
    assert_non_null(token);
    token->size = strlen(text);
    memcpy(token->bytes, text, token->size);
    return token;
}

/* The caller's to free. */
static Usher__V1__Result *result_of(struct glue *glue, const Usher__V1__Command *command)
{
    struct buffer out = {0};
    assert_true(operate(&glue->broker, command, 65536, &out));
    Usher__V1__Result *result = usher__v1__result__unpack(NULL, out.size, out.data);
    assert_non_null(result);
    buffer_fini(&out);
    return result;
}

/* The code of its Result. */
static uint32_t run(struct glue *glue, const Usher__V1__Command *command)
{
    Usher__V1__Result *result = result_of(glue, command);
    uint32_t code = result->code;
    usher__v1__result__free_unpacked(result, NULL);
    return code;
}

static ProtobufCBinaryData bytes_in(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
}

static uint32_t end_node(struct glue *glue, const char *token, uint32_t seconds, bool restart)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__DrainNode node = USHER__V1__DRAIN_NODE__INIT;
    node.token = bytes_in(token);
    node.seconds = seconds;
    node.restart = restart;
    command.body_case = USHER__V1__COMMAND__BODY_DRAIN_NODE;
    command.drain_node = &node;
    return run(glue, &command);
}

static uint32_t drain(struct glue *glue, const char *token)
{
    return end_node(glue, token, 1, false);
}

static uint32_t reload(struct glue *glue, const char *token)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Reload again = USHER__V1__RELOAD__INIT;
    again.token = bytes_in(token);
    command.body_case = USHER__V1__COMMAND__BODY_RELOAD;
    command.reload = &again;
    return run(glue, &command);
}

static uint32_t trace(struct glue *glue, const char *token, int action)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Trace follow = USHER__V1__TRACE__INIT;
    follow.token = bytes_in(token);
    follow.action = action;
    follow.user = (char *)"ann";
    follow.seconds = 1;
    command.body_case = USHER__V1__COMMAND__BODY_TRACE;
    command.trace = &follow;
    return run(glue, &command);
}

static void what_changes_something_asks_for_the_token(void **state)
{
    struct glue *glue = *state;
    const char *const wrong[] = {"", "secre", "secret ", "Secret"};
    struct link_token *token = new_token("secret");
    atomic_store(&glue->broker.settings.link_token, token);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(drain(glue, wrong[i]), USHER__V1__RESULT__CODE__FORBIDDEN);
        assert_int_equal(end_node(glue, wrong[i], 0, true), USHER__V1__RESULT__CODE__FORBIDDEN);
        assert_int_equal(reload(glue, wrong[i]), USHER__V1__RESULT__CODE__FORBIDDEN);
        assert_int_equal(trace(glue, wrong[i], USHER__V1__TRACE__ACTION__START),
                         USHER__V1__RESULT__CODE__FORBIDDEN);
        assert_int_equal(trace(glue, wrong[i], USHER__V1__TRACE__ACTION__STOP),
                         USHER__V1__RESULT__CODE__FORBIDDEN);
    }
    assert_int_equal(drains + restarts + reloads, 0);
    assert_int_equal(trace(glue, "secret", USHER__V1__TRACE__ACTION__START),
                     USHER__V1__RESULT__CODE__NOT_ONLINE);
    assert_int_equal(drain(glue, "secret"), USHER__V1__RESULT__CODE__OK);
    assert_int_equal(reload(glue, "secret"), USHER__V1__RESULT__CODE__OK);
    assert_true(drains == 1 && reloads == 1);
    assert_int_equal(end_node(glue, "secret", 0, true), USHER__V1__RESULT__CODE__OK);
    assert_true(drains == 1 && restarts == 1);
    /* Seconds in which nothing would happen are a mistake. */
    assert_int_equal(end_node(glue, "secret", 1, true), USHER__V1__RESULT__CODE__MALFORMED);
    assert_true(drains == 1 && restarts == 1);
    atomic_store(&glue->broker.settings.link_token, NULL);
    assert_int_equal(drain(glue, ""), USHER__V1__RESULT__CODE__OK); /* none is asked for */
    free(token);
}

/* Whoever asks a second time has what he wants. */
static void a_drain_that_is_on_is_no_fault(void **state)
{
    struct glue *glue = *state;
    drain_answers = -EALREADY;
    assert_int_equal(drain(glue, ""), USHER__V1__RESULT__CODE__OK);
    drain_answers = -EINVAL;
    assert_int_equal(drain(glue, ""), USHER__V1__RESULT__CODE__UNAVAILABLE);
    drain_answers = 0;
}

/* A node that would not come back is not sent away. */
static void a_restart_that_would_fail_is_refused(void **state)
{
    struct glue *glue = *state;
    restart_answers = -EINVAL;
    assert_int_equal(end_node(glue, "", 0, true), USHER__V1__RESULT__CODE__MALFORMED);
    restart_answers = -EALREADY;
    assert_int_equal(end_node(glue, "", 0, true), USHER__V1__RESULT__CODE__OK);
    restart_answers = -EPERM;
    assert_int_equal(end_node(glue, "", 0, true), USHER__V1__RESULT__CODE__UNAVAILABLE);
    restart_answers = 0;
}

static void lines_say_where_the_next_ones_begin(void **state)
{
    struct glue *glue = *state; /* it has no recorder, so the next are those that were asked for */
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Recorder asked = USHER__V1__RECORDER__INIT;
    asked.after = 70000;
    command.body_case = USHER__V1__COMMAND__BODY_RECORDER;
    command.recorder = &asked;
    Usher__V1__Result *result = result_of(glue, &command);
    assert_int_equal(result->lines->next, 70000);
    assert_false(result->lines->more);
    usher__v1__result__free_unpacked(result, NULL);
}

/* Whether more may come, when the trace of ann is read. */
static bool goes_on(struct glue *glue)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Trace asked = USHER__V1__TRACE__INIT;
    asked.action = USHER__V1__TRACE__ACTION__READ;
    asked.user = (char *)"ann";
    command.body_case = USHER__V1__COMMAND__BODY_TRACE;
    command.trace = &asked;
    Usher__V1__Result *result = result_of(glue, &command);
    assert_int_equal(result->code, USHER__V1__RESULT__CODE__OK);
    bool more = result->lines->more;
    usher__v1__result__free_unpacked(result, NULL);
    return more;
}

static void a_trace_says_whether_it_goes_on(void **state)
{
    struct glue *glue = *state;
    log_in(glue, "ann", 1);
    run_turns(glue);
    committer_step(glue->broker.committer);
    assert_int_equal(trace(glue, "", USHER__V1__TRACE__ACTION__START), USHER__V1__RESULT__CODE__OK);
    run_turns(glue);
    assert_true(goes_on(glue));
    assert_int_equal(trace(glue, "", USHER__V1__TRACE__ACTION__STOP), USHER__V1__RESULT__CODE__OK);
    assert_false(goes_on(glue));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_changes_something_asks_for_the_token), TEST(a_drain_that_is_on_is_no_fault),
        TEST(a_restart_that_would_fail_is_refused),      TEST(lines_say_where_the_next_ones_begin),
        TEST(a_trace_says_whether_it_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
