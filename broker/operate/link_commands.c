/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/link_commands.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/memory.h"
#include "instance/access.h"
#include "proto/link_answer.h"
#include "proto/username.h"

/* The commands of operators on the link: the flight recorder, traces, reload and drain, each one a
 * call of a plain function whose answer is lines of JSON, and all numbers. The admin endpoint calls
 * the same functions.
 *
 * They come with link 0 as questions do, since who asks is no service. What changes something
 * therefore brings the link's token itself. A repetition does no harm: a reload that is done twice
 * changes nothing the second time, and a drain goes on. */

static bool add_line(void *context, const char *line, size_t size)
{
    struct link_page *page = context;
    const struct bytes text = {(const uint8_t *)line, size};
    int error = 0;
    MEMORY_MUST((error = link_page_line(page, text)) != -ENOMEM, "lines");
    return error == 0;
}

/* Ends the page. */
static void put_lines(struct buffer *out, struct link_page *page, uint32_t code, uint64_t next)
{
    MEMORY_MUST(link_result_lines(out, code, page, next, page->full) == 0, "lines");
    buffer_fini(&page->items);
}

static void put_code(struct buffer *out, uint32_t code)
{
    MEMORY_MUST(link_result_code(out, code) == 0, "a result");
}

static bool may_change(const struct link_commands *commands, ProtobufCBinaryData token,
                       struct buffer *out)
{
    if (access_token_is_right(commands->settings, (struct bytes){token.data, token.len}))
        return true;
    put_code(out, USHER__V1__RESULT__CODE__FORBIDDEN);
    return false;
}

static void read_recorder(const struct link_commands *commands, const Usher__V1__Recorder *asked,
                          size_t room, struct buffer *out)
{
    struct recorder *recorder = log_recorder(commands->log);
    struct link_page page = {.room = room};
    uint64_t next = asked->after;
    if (recorder != NULL)
        next = recorder_read(recorder, asked->after, asked->user, add_line, &page);
    put_lines(out, &page, USHER__V1__RESULT__CODE__OK, next);
}

static void reload(const struct link_commands *commands, const Usher__V1__Reload *asked,
                   size_t room, struct buffer *out)
{
    if (!may_change(commands, asked->token, out))
        return;
    struct reload_report *report;
    struct link_page page = {.room = room};
    MEMORY_MUST((report = malloc(sizeof(*report))) != NULL, "a reload");
    int failed = reload_run(commands->reload, report);
    reload_lines(commands->reload, report, add_line, &page);
    put_lines(out, &page,
              failed == 0 ? USHER__V1__RESULT__CODE__OK : USHER__V1__RESULT__CODE__MALFORMED, 0);
    free(report);
}

/* Refused: the node would not come back. */
static void restart_node(const struct link_commands *commands, size_t room, struct buffer *out)
{
    struct link_page page = {.room = room};
    char error[BROKER_ERROR_BYTES];
    int failed = leave_ask_restart(commands->leave, error);
    if (failed == -EINVAL)
        reload_restart_lines(commands->reload, error, add_line, &page);
    put_lines(out, &page,
              failed == 0 || failed == -EALREADY ? USHER__V1__RESULT__CODE__OK
              : failed == -EINVAL                ? USHER__V1__RESULT__CODE__MALFORMED
                                                 : USHER__V1__RESULT__CODE__UNAVAILABLE,
              0);
}

static void drain_node(const struct link_commands *commands, const Usher__V1__DrainNode *asked,
                       size_t room, struct buffer *out)
{
    if (!may_change(commands, asked->token, out))
        return;
    if (asked->restart && asked->seconds != 0) {
        put_code(out, USHER__V1__RESULT__CODE__MALFORMED);
        return;
    }
    if (asked->restart) {
        restart_node(commands, room, out);
        return;
    }
    int failed = leave_ask_drain(commands->leave, (uint64_t)asked->seconds * 1000);
    put_code(out, failed == 0 || failed == -EALREADY ? USHER__V1__RESULT__CODE__OK
                                                     : USHER__V1__RESULT__CODE__UNAVAILABLE);
}

/* What is asked for goes on when this thread is stopped: who asked looks until it is over. */
static void upgrade_node(const struct link_commands *commands, const Usher__V1__UpgradeNode *asked,
                         struct buffer *out)
{
    if (!may_change(commands, asked->token, out))
        return;
    int failed = asked->look ? 0 : succession_ask(commands->succession);
    struct succession_look look = succession_look(commands->succession);
    json_t *answer = json_pack("{s:I, s:s, s:I, s:I, s:s}", "pid", (json_int_t)getpid(), "state",
                               look.state == SUCCESSION_ASKED    ? "asked"
                               : look.state == SUCCESSION_FAILED ? "failed"
                                                                 : "none",
                               "tries", (json_int_t)look.tries, "frozen_ms",
                               (json_int_t)look.frozen_ms, "error", look.error);
    char *line = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;
    struct link_page page = {.room = SIZE_MAX};
    if (line != NULL)
        (void)add_line(&page, line, strlen(line));
    put_lines(out, &page,
              failed == 0 || failed == -EALREADY ? USHER__V1__RESULT__CODE__OK
                                                 : USHER__V1__RESULT__CODE__UNAVAILABLE,
              0);
    free(line);
    json_decref(answer);
}

/* --- history ---------------------------------------------------------------------------------- */

static int add_record(struct link_page *page, const struct history_record *record)
{
    char words[PAST_WORDS_MAX];
    past_words(record, words);
    const struct history_fields fields = {
        .time_ms = record->time_ms,
        .kind = record->kind,
        .cause = record->cause,
        .epoch = record->epoch,
        .address = record->address,
        .client = record->client,
        .transport = record->transport,
        .by = record->by,
        .detail = record->detail,
        .limit = record->limit,
        .bound = record->bound,
        .value = record->value,
        .missing = record->missing,
        .count = record->count,
        .text = words,
    };
    int error = 0;
    MEMORY_MUST((error = link_page_history(page, &fields)) != -ENOMEM, "a page");
    return error;
}

static void read_history(const struct link_commands *commands, const Usher__V1__History *asked,
                         size_t room, struct buffer *out)
{
    struct link_page page = {.room = room};
    struct past_page past;
    if (!username_valid(bytes_of_text(asked->user))) {
        put_code(out, USHER__V1__RESULT__CODE__MALFORMED);
        return;
    }
    if (past_read(&commands->past, asked->user, asked->limit, &past) != 0) {
        put_code(out, USHER__V1__RESULT__CODE__UNAVAILABLE);
        return;
    }
    size_t told = 0;
    while (told < past.count && add_record(&page, &past.list[told]) == 0)
        told++;
    MEMORY_MUST(link_result_history(out, &page, past.kept, past.first_ms,
                                    past.more || told < past.count) == 0,
                "a result");
    buffer_fini(&page.items);
    free(past.list);
}

/* --- numbers ---------------------------------------------------------------------------------- */

static void put_number(struct link_page *page, const char *name, uint64_t value)
{
    MEMORY_MUST(link_page_number(page, name, value) == 0, "numbers");
}

/* The counters, and what is known without them; what the store does not tell is left out. */
static void read_numbers(const struct link_commands *commands, struct buffer *out)
{
    struct link_page page = {.room = SIZE_MAX};
    struct link *link = atomic_load_explicit(&commands->link, memory_order_acquire);
    struct link_health health = link != NULL ? link_health(link) : (struct link_health){0};
    struct store_position position;
    for (int id = 0; id < METRIC_COUNT; id++)
        put_number(&page, metrics_name((enum metric_id)id),
                   metrics_read(commands->metrics, (enum metric_id)id));
    if (store_position(commands->store, &position) == 0) {
        put_number(&page, "stored_sessions", position.sessions);
        put_number(&page, "presence_first", position.presence_first);
        put_number(&page, "presence_last", position.presence_last);
        put_number(&page, "epoch_last", position.epoch_last);
    }
    put_number(&page, "actors", registry_count(commands->registry));
    put_number(&page, "secrets_exposed", reload_exposed(commands->reload));
    put_number(&page, "link_listening", health.listening);
    put_number(&page, "nng_reaper_stuck", health.reaper_stuck);
    MEMORY_MUST(link_result_numbers(out, &page) == 0, "a result");
    buffer_fini(&page.items);
}

/* --- traces ----------------------------------------------------------------------------------- */

static void read_trace(const struct link_commands *commands, const Usher__V1__Trace *asked,
                       size_t room, struct buffer *out)
{
    struct link_page page = {.room = room};
    struct trace_state state;
    if (follow_read(commands->follow, asked->user, asked->after, add_line, &page, &state) != 0) {
        put_code(out, USHER__V1__RESULT__CODE__GONE);
        return;
    }
    /* `more` also means: it goes on. */
    page.full = page.full || state.active;
    put_lines(out, &page, USHER__V1__RESULT__CODE__OK, state.last);
}

static uint32_t code_of(int error)
{
    switch (error) {
    case 0:
        return USHER__V1__RESULT__CODE__OK;
    case -ENOENT:
        return USHER__V1__RESULT__CODE__NOT_ONLINE;
    case -EINVAL:
        return USHER__V1__RESULT__CODE__MALFORMED;
    default:
        return USHER__V1__RESULT__CODE__UNAVAILABLE;
    }
}

static void trace(const struct link_commands *commands, const Usher__V1__Trace *asked, size_t room,
                  struct buffer *out)
{
    if (asked->action == USHER__V1__TRACE__ACTION__READ)
        read_trace(commands, asked, room, out);
    else if (!may_change(commands, asked->token, out))
        return;
    else if (asked->action == USHER__V1__TRACE__ACTION__START)
        put_code(out, code_of(follow_begin(commands->follow, asked->user, asked->seconds,
                                           asked->one_in)));
    else
        put_code(out, code_of(follow_end(commands->follow, asked->user)));
}

static bool answer(struct link_commands *commands, const Usher__V1__Command *command, size_t room,
                   struct buffer *out)
{
    CHECK(on_thread(&commands->mark));
    switch (command->body_case) {
    case USHER__V1__COMMAND__BODY_RECORDER:
        read_recorder(commands, command->recorder, room, out);
        return true;
    case USHER__V1__COMMAND__BODY_TRACE:
        trace(commands, command->trace, room, out);
        return true;
    case USHER__V1__COMMAND__BODY_RELOAD:
        reload(commands, command->reload, room, out);
        return true;
    case USHER__V1__COMMAND__BODY_DRAIN_NODE:
        drain_node(commands, command->drain_node, room, out);
        return true;
    case USHER__V1__COMMAND__BODY_UPGRADE_NODE:
        upgrade_node(commands, command->upgrade_node, out);
        return true;
    case USHER__V1__COMMAND__BODY_HISTORY:
        read_history(commands, command->history, room, out);
        return true;
    case USHER__V1__COMMAND__BODY_STATS:
        read_numbers(commands, out);
        return true;
    default:
        return false;
    }
}

/* One at a time, and not always on the same thread: while that of the queries does not run, whoever
 * has ended it does its work (upgrade/freeze.c), and another one follows. */
bool link_commands_answer(struct link_commands *commands, const Usher__V1__Command *command,
                          size_t room, struct buffer *out)
{
    thread_begin(&commands->mark);
    bool answered = answer(commands, command, room, out);
    thread_end(&commands->mark);
    return answered;
}
