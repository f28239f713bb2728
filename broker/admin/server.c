/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/admin_private.h"
#include "admin/prometheus.h"
#include "admin/route.h"
#include "base/lock.h"
#include "base/wait.h"

/* Starting and stopping libmicrohttpd: one thread of its own with epoll, its own limits set, and
 * nothing of it that writes to stderr, which is the log's. */

static const char *const operators_arguments[] = {"limit", "prefix", "after", "state", "by", NULL};

static const struct admin_face operators_face = {
    .name = "admin",
    .token_option = "admin.token_file",
    .host_option = "admin.host",
    .page = "there is no such path; see docs/admin.md",
    .paths = admin_routes,
    .path_count = ADMIN_ROUTES,
    .arguments = operators_arguments,
    .body_bytes_max = BODY_BYTES_MAX,
    .waiting_max = JOBS_MAX,
    .requests = METRIC_admin_requests,
    .refused = METRIC_admin_refused,
    .late = METRIC_admin_late,
    .quiet = METRIC_admin_quiet,
    .displaced = METRIC_admin_displaced,
};

/* Paths and arguments are decoded by route.c, after they were matched. */
static size_t leave_encoded(void *context, struct MHD_Connection *connection, char *text)
{
    return strlen(text);
}

static struct MHD_Daemon *start_daemon(struct admin *admin)
{
    const struct admin_options *options = &admin->options;
    return MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC, 0, NULL, NULL,
        request_handle, admin, MHD_OPTION_LISTEN_SOCKET, options->listener,
        MHD_OPTION_CONNECTION_LIMIT,
        options->connections_max + ADMIN_SPARE_CONNECTIONS(admin->face->waiting_max),
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(ANSWER_MS / 1000),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_BYTES_MAX, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_UNESCAPE_CALLBACK, leave_encoded, NULL, MHD_OPTION_NOTIFY_COMPLETED,
        request_completed, admin, MHD_OPTION_NOTIFY_CONNECTION, conns_notify, admin,
        MHD_OPTION_END);
}

/* Keeps the first one. */
static void keep_fault(void *context, const char *option, const char *text)
{
    char *error = context;
    if (error[0] == '\0')
        snprintf(error, ADMIN_ERROR_BYTES, "%s", text);
}

static int load_tokens(struct admin *admin, char *error)
{
    const struct admin_options *options = &admin->options;
    if (options->face != NULL)
        access_read_one(&admin->access.change, options->face->token_option, options->token_file,
                        keep_fault, error);
    else
        access_read(&admin->access, options->token_file, options->view_token_file, keep_fault,
                    error);
    return error[0] == '\0' ? 0 : -EINVAL;
}

static void destroy(struct admin *admin)
{
    lock_destroy(&admin->lock);
    pthread_cond_destroy(&admin->more);
    pthread_cond_destroy(&admin->closed);
    explicit_bzero(&admin->access.change, sizeof(admin->access.change));
    explicit_bzero(&admin->access.view, sizeof(admin->access.view));
    free(admin);
}

static struct admin *create(const struct admin_options *options)
{
    struct admin *admin = calloc(1, sizeof(*admin));
    if (admin == NULL)
        return NULL;
    admin->options = *options;
    admin->face = options->face != NULL ? options->face : &operators_face;
    admin->process_started = process_started();
    lock_init(&admin->lock);
    wait_condition_init(&admin->more);
    wait_condition_init(&admin->closed);
    return admin;
}

int admin_start(struct admin **out, const struct admin_options *options, char *error)
{
    struct admin *admin = create(options);
    error[0] = '\0';
    if (admin == NULL)
        return -ENOMEM;
    int failed = load_tokens(admin, error);
    if (failed == 0 && admin->face->asker.step == NULL)
        failed = jobs_start(admin);
    if (failed == 0)
        failed = conns_start(admin);
    if (failed == 0) {
        admin->daemon = start_daemon(admin);
        failed = admin->daemon != NULL ? 0 : -ENOMEM;
    }
    if (failed != 0) {
        jobs_stop(admin);
        conns_stop(admin);
        destroy(admin);
        return failed;
    }
    *out = admin;
    return 0;
}

void admin_stop(struct admin *admin)
{
    /* Nobody may be suspended when the daemon ends. */
    jobs_stop(admin);
    MHD_stop_daemon(admin->daemon);
    conns_stop(admin);
    destroy(admin);
}
