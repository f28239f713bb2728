/* SPDX-License-Identifier: Apache-2.0 */
#include "usherctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "usherctl/print.h"

/* The questions of usherctl. They need no link: one request, one answer, page after page. */

static int complain_nobody(const struct ctl *ctl)
{
    fprintf(stderr,
            "usherctl: no broker answers at %s: is usherd running? Start it, or name one of its "
            "link.urls with --url or USHER_LINK\n",
            ctl->url);
    return CTL_NO_BROKER;
}

static int complain_forbidden(const char *path)
{
    fprintf(stderr,
            "usherctl: permission denied: this user may not open the socket %s; run it as usherd's "
            "user, or as a member of the socket's group\n",
            path);
    return CTL_REFUSED;
}

/* What can be told of a socket file without asking anybody: CTL_OK, or an exit code, and it was
 * said why. To connect takes the right to write, and to pass through the folders. */
static int look_at_socket(const struct ctl *ctl)
{
    const char *path = ctl->url + strlen("ipc://");
    if (strncmp(ctl->url, "ipc://", strlen("ipc://")) != 0)
        return CTL_OK;
    if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0)
        return CTL_OK;
    if (errno == ENOENT)
        return complain_nobody(ctl);
    return errno == EACCES ? complain_forbidden(path) : CTL_OK;
}

int ctl_complain(const struct ctl *ctl, int error)
{
    switch (error) {
    case -ETIMEDOUT:
    case -ECONNRESET:
        return complain_nobody(ctl);
    case -EACCES:
        fprintf(stderr, "usherctl: the broker at %s refuses us: check --token-file\n", ctl->url);
        return CTL_REFUSED;
    case -EBUSY:
        fprintf(stderr, "usherctl: the broker at %s is busy: try again\n", ctl->url);
        return CTL_REFUSED;
    case -EMSGSIZE:
        fputs("usherctl: too large for one frame of the link: send less at once\n", stderr);
        return CTL_USAGE;
    case -EINVAL:
        fprintf(stderr, "usherctl: %s is not a link: use ipc://PATH or tcp://HOST:PORT\n",
                ctl->url);
        return CTL_USAGE;
    case -EPROTO:
        fprintf(stderr, "usherctl: what answers at %s is no usherd, or one of another version\n",
                ctl->url);
        return CTL_REFUSED;
    default:
        fprintf(stderr, "usherctl: %s\n", strerror(-error));
        return CTL_REFUSED;
    }
}

int ctl_open(const struct ctl *ctl, const struct usher_backend_callbacks *callbacks, void *context,
             struct usher_backend **backend)
{
    struct usher_backend_options options = {
        .urls = &ctl->url,
        .url_count = 1,
        .token = ctl->token,
        .token_size = ctl->token_size,
        .wait_ms = 100, /* so that the end need not wait for a long fetch */
        .presence = ctl->follow,
        .presence_after = ctl->after,
        .context = context,
    };
    int error;
    *backend = NULL;
    if (callbacks != NULL)
        options.callbacks = *callbacks;
    if (ctl->follow)
        options.wait_ms = 0;
    int result = look_at_socket(ctl);
    if (result != CTL_OK)
        return result;
    error = usher_backend_open(backend, &options);
    return error == 0 ? CTL_OK : ctl_complain(ctl, error);
}

int ctl_ask(const struct ctl *ctl, struct usher_backend *backend,
            const struct usher_backend_query *query, struct usher_backend_answer **answer)
{
    int error = usher_backend_query(backend, query, answer);
    *answer = error == 0 ? *answer : NULL;
    if (error != 0)
        return ctl_complain(ctl, error);
    if ((*answer)->code == USHER_BACKEND_OK)
        return CTL_OK;
    fprintf(stderr, "usherctl: refused: %s%s\n", usher_backend_code_name((*answer)->code),
            (*answer)->code == USHER_BACKEND_FORBIDDEN ? ": check --token-file" : "");
    usher_backend_answer_free(*answer);
    *answer = NULL;
    return CTL_REFUSED;
}

/* Whether the page ends behind the name after which it was asked for. */
static bool gets_ahead(const struct usher_backend_answer *page, const char *after)
{
    return strcmp(page->sessions[page->session_count - 1].user, after) > 0;
}

/* All pages of a List or Snapshot. */
static int print_pages(const struct ctl *ctl, struct usher_backend *backend,
                       enum usher_backend_query_kind kind)
{
    struct usher_backend_query query = {.kind = kind, .prefix = ctl->prefix};
    struct usher_backend_answer *page = NULL;
    struct usher_backend_answer *before = NULL;
    uint64_t seq = 0;
    int result = CTL_OK;
    bool more = true;
    while (more && result == CTL_OK) {
        result = ctl_ask(ctl, backend, &query, &page);
        if (page != NULL && before == NULL)
            print_session_head(ctl);
        more = page != NULL && page->more && page->session_count > 0;
        /* A node that does not get ahead would be asked, and printed, without end. */
        if (more && before != NULL && !gets_ahead(page, query.after_user))
            result = ctl_complain(ctl, -EPROTO);
        for (size_t i = 0; result == CTL_OK && i < page->session_count; i++)
            print_session(ctl, &page->sessions[i]);
        if (page != NULL && seq == 0)
            seq = page->seq;
        usher_backend_answer_free(before);
        before = page;
        if (more)
            query.after_user = page->sessions[page->session_count - 1].user;
    }
    usher_backend_answer_free(before);
    if (result == CTL_OK && kind == USHER_BACKEND_SNAPSHOT)
        print_number(ctl, "presence_seq", seq);
    return result;
}

static int with_pages(const struct ctl *ctl, enum usher_backend_query_kind kind)
{
    struct usher_backend *backend;
    int result = ctl_open(ctl, NULL, NULL, &backend);
    if (result == CTL_OK)
        result = print_pages(ctl, backend, kind);
    usher_backend_close(backend);
    return result;
}

int ctl_who(const struct ctl *ctl)
{
    return with_pages(ctl, USHER_BACKEND_LIST);
}

int ctl_snapshot(const struct ctl *ctl)
{
    return with_pages(ctl, USHER_BACKEND_SNAPSHOT);
}

/* One question and its answer, as ctl_ask gives it. */
static int ask_once(const struct ctl *ctl, const struct usher_backend_query *query,
                    struct usher_backend_answer **answer)
{
    struct usher_backend *backend;
    *answer = NULL;
    int result = ctl_open(ctl, NULL, NULL, &backend);
    if (result == CTL_OK)
        result = ctl_ask(ctl, backend, query, answer);
    usher_backend_close(backend);
    return result;
}

int ctl_find(const struct ctl *ctl)
{
    struct usher_backend_query query = {
        .kind = USHER_BACKEND_LOOKUP,
        .users = (const char *const *)ctl->arguments,
        .user_count = ctl->argument_count,
    };
    struct usher_backend_answer *answer;
    int result = ask_once(ctl, &query, &answer);
    if (answer != NULL) {
        print_session_head(ctl);
        for (size_t i = 0; i < answer->session_count; i++) {
            print_session(ctl, &answer->sessions[i]);
            if (answer->sessions[i].state == USHER_BACKEND_SESSION_GONE)
                result = CTL_REFUSED;
        }
        if (answer->session_count < ctl->argument_count)
            result = CTL_REFUSED;
    }
    usher_backend_answer_free(answer);
    return result;
}

static int with_numbers(const struct ctl *ctl, enum usher_backend_query_kind kind)
{
    struct usher_backend_query query = {.kind = kind};
    struct usher_backend_answer *answer;
    int result = ask_once(ctl, &query, &answer);
    for (size_t i = 0; answer != NULL && i < answer->number_count; i++)
        print_number(ctl, answer->numbers[i].name, answer->numbers[i].value);
    usher_backend_answer_free(answer);
    return result;
}

int ctl_count(const struct ctl *ctl)
{
    return with_numbers(ctl, USHER_BACKEND_COUNT);
}

int ctl_stats(const struct ctl *ctl)
{
    return with_numbers(ctl, USHER_BACKEND_STATS);
}

/* The events after ctl->after, until the newest or the oldest that is not there yet. */
static int print_events(const struct ctl *ctl, struct usher_backend *backend)
{
    struct usher_backend_query query = {.kind = USHER_BACKEND_EVENTS, .after_seq = ctl->after};
    bool first = true;
    int result;
    for (;;) {
        struct usher_backend_answer *page = NULL;
        uint64_t last = query.after_seq;
        result = ctl_ask(ctl, backend, &query, &page);
        if (page == NULL)
            return result;
        if (first)
            print_event_head(ctl);
        first = false;
        if (page->reset)
            fprintf(
                stderr, "usherctl: older events than those after %llu are no longer kept\n",
                (unsigned long long)(page->event_count > 0 ? page->events[0].seq - 1 : page->seq));
        for (size_t i = 0; i < page->event_count; i++) {
            print_event(ctl, &page->events[i]);
            last = page->events[i].seq;
        }
        bool ahead = last > query.after_seq && last < page->seq;
        usher_backend_answer_free(page);
        if (!ahead)
            return result;
        query.after_seq = last;
    }
}

int ctl_presence(const struct ctl *ctl)
{
    struct usher_backend *backend;
    int result;
    if (ctl->follow)
        return ctl_follow(ctl);
    result = ctl_open(ctl, NULL, NULL, &backend);
    if (result == CTL_OK)
        result = print_events(ctl, backend);
    usher_backend_close(backend);
    return result;
}
