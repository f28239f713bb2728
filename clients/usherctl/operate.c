/* SPDX-License-Identifier: Apache-2.0 */
#include "usherctl/ctl.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"

/* What operators look at and order: the flight recorder, traces, reload, drain, the store.
 *
 * The node answers in lines of JSON, which are printed as such: a person who wants a table has jq.
 * A node's lines hold nothing that harms a terminal, but whoever answers need not be one. */

enum {
    RELOAD_TIMEOUT_MS = 20000, /* it reads files */
    POLL_MS = 200
};

/* Only those of that trace; NULL: all. */
static void print_lines_of(const struct usher_backend_answer *answer, const char *trace_id)
{
    char wanted[64] = "";
    if (trace_id != NULL)
        snprintf(wanted, sizeof(wanted), "\"trace_id\":\"%s\"", trace_id);
    for (size_t i = 0; i < answer->line_count; i++)
        if (strstr(answer->lines[i], wanted) != NULL)
            print_json_line(stdout, answer->lines[i]);
    fflush(stdout);
}

static void print_lines(const struct usher_backend_answer *answer)
{
    print_lines_of(answer, NULL);
}

static void complain(const struct usher_backend_query *query, enum usher_backend_code code)
{
    if (query->kind == USHER_BACKEND_RELOAD && code == USHER_BACKEND_MALFORMED)
        fputs("usherctl: refused: the configuration has a fault; nothing has changed\n", stderr);
    else
        fprintf(stderr, "usherctl: refused: %s%s\n", usher_backend_code_name(code),
                code == USHER_BACKEND_FORBIDDEN ? " (see --token-file)" : "");
}

/* Opens, asks, closes. The lines are printed whatever the answer is. */
static int order(const struct ctl *ctl, const struct usher_backend_query *query)
{
    struct usher_backend *backend;
    struct usher_backend_answer *answer = NULL;
    int result = ctl_open(ctl, NULL, NULL, &backend);
    if (result != CTL_OK)
        return result;
    int error = usher_backend_query(backend, query, &answer);
    if (error != 0)
        result = ctl_complain(ctl, error);
    else
        print_lines(answer);
    if (answer != NULL && answer->code != USHER_BACKEND_OK) {
        complain(query, answer->code);
        result = CTL_REFUSED;
    } else if (answer != NULL && query->kind == USHER_BACKEND_RELOAD && answer->line_count == 0) {
        fputs("usherctl: read again; no option has changed\n", stderr);
    }
    usher_backend_answer_free(answer);
    usher_backend_close(backend);
    return result;
}

int ctl_reload(const struct ctl *ctl)
{
    const struct usher_backend_query query = {.kind = USHER_BACKEND_RELOAD,
                                              .timeout_ms = RELOAD_TIMEOUT_MS};
    return order(ctl, &query);
}

int ctl_drain(const struct ctl *ctl)
{
    const struct usher_backend_query query = {.kind = USHER_BACKEND_DRAIN_NODE,
                                              .seconds = (uint32_t)ctl->seconds,
                                              .restart = ctl->restart};
    if (ctl->restart && ctl->seconds != 0) {
        fprintf(stderr, "usherctl: a restart sends nobody away before: --restart or --seconds\n");
        return CTL_USAGE;
    }
    return order(ctl, &query);
}

/* Page after page until there is nothing more; with `follow` nothing more means a pause. */
static int print_all(const struct ctl *ctl, struct usher_backend *backend,
                     struct usher_backend_query *query, bool follow)
{
    bool more = true;
    int result = CTL_OK;
    while (more && result == CTL_OK && !ferror(stdout)) {
        struct usher_backend_answer *answer = NULL;
        result = ctl_ask(ctl, backend, query, &answer);
        if (answer == NULL)
            break;
        print_lines_of(answer, ctl->trace_id);
        /* A node that does not get ahead would be asked, and printed, without end. */
        if (answer->more && answer->seq <= query->after_seq && (!follow || answer->line_count > 0))
            result = ctl_complain(ctl, -EPROTO);
        query->after_seq = answer->seq;
        more = answer->more;
        if (more && follow && answer->line_count == 0)
            clock_pause_ms(POLL_MS);
        usher_backend_answer_free(answer);
    }
    return result;
}

int ctl_recorder(const struct ctl *ctl)
{
    struct usher_backend_query query = {.kind = USHER_BACKEND_RECORDER, .user = ctl->user};
    struct usher_backend *backend;
    int result = ctl_open(ctl, NULL, NULL, &backend);
    if (result == CTL_OK)
        result = print_all(ctl, backend, &query, false);
    usher_backend_close(backend);
    return result;
}

int ctl_trace(const struct ctl *ctl)
{
    struct usher_backend_query query = {.kind = USHER_BACKEND_TRACE_START,
                                        .user = ctl->arguments[0],
                                        .seconds = (uint32_t)ctl->seconds,
                                        .one_in = (uint32_t)ctl->one_in};
    struct usher_backend *backend;
    struct usher_backend_answer *answer = NULL;
    int result = ctl_open(ctl, NULL, NULL, &backend);
    if (result == CTL_OK)
        result = ctl_ask(ctl, backend, &query, &answer);
    usher_backend_answer_free(answer);
    query.kind = USHER_BACKEND_TRACE_READ;
    signal(SIGPIPE, SIG_IGN);
    if (result == CTL_OK)
        result = print_all(ctl, backend, &query, true);
    usher_backend_close(backend);
    return result;
}

/* The program beside this one, or the one on the path. */
int ctl_store(const struct ctl *ctl)
{
    char **arguments = calloc(ctl->argument_count + 2, sizeof(*arguments));
    char path[4096];
    ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - sizeof "/usher-store");
    if (arguments == NULL)
        return ctl_complain(ctl, -ENOMEM);
    arguments[0] = (char[]){"usher-store"};
    memcpy(arguments + 1, ctl->arguments, ctl->argument_count * sizeof(*arguments));
    if (size > 0) {
        path[size] = '\0';
        strcpy(strrchr(path, '/'), "/usher-store");
        execv(path, arguments);
    }
    execvp("usher-store", arguments);
    fprintf(stderr, "usherctl: cannot start usher-store: %s\n", strerror(errno));
    free(arguments);
    return CTL_REFUSED;
}
