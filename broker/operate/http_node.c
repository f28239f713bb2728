/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "operate/http_private.h"

/* What operators ask and change by HTTP: flight recorder, reload, drain, traces. The same functions
 * as behind the commands of the link (operate/link_commands.c); here their lines of JSON become
 * arrays. */

enum { RECORDER_ROWS = 200, TIMELINE_ROWS = 100, TRACE_ROWS = 500, DRAIN_SECONDS_MAX = 3600 };

struct lines {
    json_t *rows;
    size_t max;
};

/* Ids are the clients' to choose, and jansson takes whole numbers below 2^63 alone: a row with a
 * larger one has its numbers as reals, because whoever chooses such ids must not be missing. A line
 * that is no JSON was cut by a crash of our own making: it is left out. */
static bool add_line(void *context, const char *line, size_t size)
{
    struct lines *lines = context;
    if (json_array_size(lines->rows) == lines->max)
        return false;
    json_t *row = json_loadb(line, size, 0, NULL);
    if (row == NULL)
        row = json_loadb(line, size, JSON_DECODE_INT_AS_REAL, NULL);
    if (row != NULL)
        json_array_append_new(lines->rows, row);
    return true;
}

static json_t *recorded(const struct http *http, const char *user, size_t max)
{
    struct recorder *recorder = log_recorder(http->options.log);
    struct lines lines = {.rows = json_array(), .max = max};
    if (recorder != NULL)
        recorder_read(recorder, recorder_newest(recorder, user, max), user, add_line, &lines);
    return lines.rows;
}

json_t *http_timeline(const struct http *http, const char *user)
{
    return recorded(http, user, TIMELINE_ROWS);
}

unsigned http_recorder(void *context, const struct admin_query *query, json_t *answer)
{
    struct http *http = http_of(context);
    if (log_recorder(http->options.log) == NULL)
        return admin_fail(answer, 503, "unavailable", "there was no memory for a flight recorder");
    size_t max = query->limit != 0 ? query->limit : RECORDER_ROWS;
    json_object_set_new(answer, "events", recorded(http, NULL, max));
    return 200;
}

static json_t *change_json(const struct option_change *change)
{
    return json_pack("{s:s, s:s, s:s}", "option", change->option, "from", change->from, "to",
                     change->to);
}

unsigned http_reload(void *context, const struct admin_query *query, json_t *answer)
{
    struct http *http = http_of(context);
    struct reload_report *report = malloc(sizeof(*report));
    if (report == NULL)
        return admin_fail(answer, 503, "unavailable", "no memory");
    if (reload_run(http->options.reload, report) != 0) {
        admin_fail(answer, 409, "refused", report->error);
        free(report);
        return 409;
    }
    json_t *changed = json_array(), *later = json_array();
    for (size_t i = 0; i < report->count; i++) {
        const struct option_change *change = &report->changes[i];
        if (change->restart)
            json_array_append_new(later, json_string(change->option));
        else
            json_array_append_new(changed, change_json(change));
    }
    json_object_set_new(answer, "changed", changed);
    json_object_set_new(answer, "restart_needed", later);
    free(report);
    return 200;
}

unsigned http_drain(void *context, const struct admin_query *query, json_t *answer)
{
    struct http *http = http_of(context);
    const json_t *restart = json_object_get(query->body, "restart");
    uint64_t seconds;
    if (!http_number_of(query->body, "seconds", &seconds) || seconds > DRAIN_SECONDS_MAX ||
        (restart != NULL && !json_is_boolean(restart)) || (json_is_true(restart) && seconds != 0))
        return admin_fail(answer, 400, "bad_request",
                          "seconds is a number up to 3600, or restart is true");
    char error[BROKER_ERROR_BYTES] = "";
    struct leave *leave = http->options.leave;
    if ((json_is_true(restart) ? leave_ask_restart(leave, error)
                               : leave_ask_drain(leave, seconds * 1000)) != 0)
        return admin_fail(answer, 409, "refused",
                          error[0] != '\0' ? error : "a drain or a stop is under way");
    json_object_set_new(answer, "state",
                        json_string(json_is_true(restart) ? "stopping" : "draining"));
    return 202;
}

/* --- traces ----------------------------------------------------------------------------------- */

unsigned http_trace(void *context, const struct admin_query *query, json_t *answer)
{
    struct http *http = http_of(context);
    const json_t *user = json_object_get(query->body, "user");
    uint64_t seconds, one_in;
    if (!json_is_string(user) || !http_number_of(query->body, "seconds", &seconds) ||
        !http_number_of(query->body, "one_in", &one_in) || seconds > TRACE_SECONDS_MAX ||
        one_in > UINT32_MAX)
        return admin_fail(answer, 400, "bad_request",
                          "user is a name, seconds a number up to 3600, one_in a number");
    int error = follow_begin(http->options.follow, json_string_value(user), (uint32_t)seconds,
                             (uint32_t)one_in);
    if (error == -ENOENT)
        return admin_fail(answer, 404, "not_found", "that user has no session");
    if (error == -EINVAL)
        return admin_fail(answer, 400, "bad_request", "user is no username");
    if (error == -EBUSY)
        return admin_fail(answer, 409, "refused", "as many users as can be are followed already");
    if (error != 0)
        return admin_fail(answer, 503, "unavailable", strerror(-error));
    json_object_set_new(answer, "user", json_string(json_string_value(user)));
    return 200;
}

unsigned http_trace_end(void *context, const struct admin_query *query, json_t *answer)
{
    struct http *http = http_of(context);
    if (follow_end(http->options.follow, query->user) != 0)
        return admin_fail(answer, 404, "not_found", "that user is not followed");
    return 200;
}

unsigned http_trace_read(void *context, const struct admin_query *query, json_t *answer)
{
    struct http *http = http_of(context);
    struct lines lines = {.rows = json_array(),
                          .max = query->limit != 0 ? query->limit : TRACE_ROWS};
    struct trace_state state;
    int error =
        follow_read(http->options.follow, query->user, query->after, add_line, &lines, &state);
    if (error != 0) {
        json_decref(lines.rows);
        return admin_fail(answer, 404, "not_found", "that user is not followed");
    }
    json_object_set_new(answer, "active", json_boolean(state.active));
    uint64_t until_ms = state.active ? env_wall_ms(http->options.env) + state.left_ms : 0;
    json_object_set_new(answer, "until_ms", json_integer((json_int_t)until_ms));
    json_object_set_new(answer, "dropped", json_integer((json_int_t)state.dropped));
    json_object_set_new(answer, "records", lines.rows);
    return 200;
}

unsigned http_samples(void *context, const struct admin_query *query, json_t *answer)
{
    samples_tell(http_of(context)->samples, answer);
    return 200;
}
