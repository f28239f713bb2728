/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "broker/parts.h"
#include "instance/access.h"
#include "operate/link_commands.h"
#include "operate/reload.h"
#include "proto/link_answer.h"
#include "proto/username.h"
#include "user/tracing.h"

/* The commands of operators on the link: the flight recorder, traces, reload and drain, each one a
 * call of a plain function whose answer is lines of JSON. The admin endpoint calls the same
 * functions.
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

static bool may_change(struct broker *broker, ProtobufCBinaryData token, struct buffer *out)
{
    if (link_token_is_right(&broker->settings, (struct bytes){token.data, token.len}))
        return true;
    put_code(out, USHER__V1__RESULT__CODE__FORBIDDEN);
    return false;
}

static void read_recorder(struct broker *broker, const Usher__V1__Recorder *asked, size_t room,
                          struct buffer *out)
{
    struct recorder *recorder = log_recorder(broker->log);
    struct link_page page = {.room = room};
    uint64_t next = asked->after;
    if (recorder != NULL)
        next = recorder_read(recorder, asked->after, asked->user, add_line, &page);
    put_lines(out, &page, USHER__V1__RESULT__CODE__OK, next);
}

static void reload(struct broker *broker, const Usher__V1__Reload *asked, size_t room,
                   struct buffer *out)
{
    if (!may_change(broker, asked->token, out))
        return;
    struct reload_report *report;
    struct link_page page = {.room = room};
    MEMORY_MUST((report = malloc(sizeof(*report))) != NULL, "a reload");
    int failed = broker_reload(broker, report);
    reload_lines(broker, report, add_line, &page);
    put_lines(out, &page,
              failed == 0 ? USHER__V1__RESULT__CODE__OK : USHER__V1__RESULT__CODE__MALFORMED, 0);
    free(report);
}

/* Refused: the node would not come back. */
static void restart_node(struct broker *broker, size_t room, struct buffer *out)
{
    struct link_page page = {.room = room};
    char error[BROKER_ERROR_BYTES];
    int failed = broker_restart(broker, error);
    if (failed == -EINVAL)
        restart_lines(broker, error, add_line, &page);
    put_lines(out, &page,
              failed == 0 || failed == -EALREADY ? USHER__V1__RESULT__CODE__OK
              : failed == -EINVAL                ? USHER__V1__RESULT__CODE__MALFORMED
                                                 : USHER__V1__RESULT__CODE__UNAVAILABLE,
              0);
}

static void drain_node(struct broker *broker, const Usher__V1__DrainNode *asked, size_t room,
                       struct buffer *out)
{
    if (!may_change(broker, asked->token, out))
        return;
    if (asked->restart && asked->seconds != 0) {
        put_code(out, USHER__V1__RESULT__CODE__MALFORMED);
        return;
    }
    if (asked->restart) {
        restart_node(broker, room, out);
        return;
    }
    int failed = broker_drain(broker, (uint64_t)asked->seconds * 1000);
    put_code(out, failed == 0 || failed == -EALREADY ? USHER__V1__RESULT__CODE__OK
                                                     : USHER__V1__RESULT__CODE__UNAVAILABLE);
}

/* --- traces ----------------------------------------------------------------------------------- */

int broker_trace(struct broker *broker, const char *user, uint32_t seconds, uint32_t one_in)
{
    uint8_t slot;
    if (!username_valid(bytes_of_text(user)))
        return -EINVAL; /* and not the name of an instance, which is no user */
    actor_handle actor = registry_find(broker->registry, user, strlen(user));
    if (actor == 0)
        return -ENOENT;
    int error =
        trace_start(broker->traces, user, seconds, one_in, env_monotonic_ns(broker->env) / 1000,
                    env_wall_ms(broker->env) * 1000, &slot);
    if (error != 0)
        return error;
    struct trace_message *message = message_create(MESSAGE_TRACE, sizeof(*message));
    message->slot = slot;
    error = scheduler_post(broker->scheduler, NULL, actor, &message->header);
    if (error == 0) {
        /* To whom somebody speaks is his own: who looks leaves a trace, too. */
        LOG(broker->log, FOLLOWED, LOG_S("user", user),
            LOG_U("seconds", seconds != 0 ? seconds : TRACE_SECONDS_DEFAULT),
            LOG_U("one_in", one_in != 0 ? one_in : 1));
        return 0;
    }
    message_destroy(&message->header);
    (void)trace_stop(broker->traces, user);
    return -ENOENT;
}

static void read_trace(struct broker *broker, const Usher__V1__Trace *asked, size_t room,
                       struct buffer *out)
{
    struct link_page page = {.room = room};
    struct trace_state state;
    if (trace_read(broker->traces, asked->user, asked->after, env_monotonic_ns(broker->env) / 1000,
                   add_line, &page, &state) != 0) {
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

static void trace(struct broker *broker, const Usher__V1__Trace *asked, size_t room,
                  struct buffer *out)
{
    if (asked->action == USHER__V1__TRACE__ACTION__READ)
        read_trace(broker, asked, room, out);
    else if (!may_change(broker, asked->token, out))
        return;
    else if (asked->action == USHER__V1__TRACE__ACTION__START)
        put_code(out, code_of(broker_trace(broker, asked->user, asked->seconds, asked->one_in)));
    else
        put_code(out, code_of(trace_stop(broker->traces, asked->user)));
}

bool operate(struct broker *broker, const Usher__V1__Command *command, size_t room,
             struct buffer *out)
{
    switch (command->body_case) {
    case USHER__V1__COMMAND__BODY_RECORDER:
        read_recorder(broker, command->recorder, room, out);
        return true;
    case USHER__V1__COMMAND__BODY_TRACE:
        trace(broker, command->trace, room, out);
        return true;
    case USHER__V1__COMMAND__BODY_RELOAD:
        reload(broker, command->reload, room, out);
        return true;
    case USHER__V1__COMMAND__BODY_DRAIN_NODE:
        drain_node(broker, command->drain_node, room, out);
        return true;
    default:
        return false;
    }
}
