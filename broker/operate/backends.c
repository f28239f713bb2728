/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/backends.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actors/held.h"
#include "base/wait.h"
#include "instance/instance.h"
#include "net/net.h"
#include "operate/backends_private.h"
#include "operate/start_files.h"
#include "process/failure.h"

/* Opens and closes the endpoint of backends: the server of the admin endpoint with another face, at
 * an address, with a token, threads and numbers of its own. The two have nothing else in common, so
 * whoever fills one of them keeps nobody from the other. */

enum { STOP_MS = 1000, ANSWER_ARENA_BYTES = 2 * 1024 * 1024 };

static const struct admin_path paths[BACKEND_ROUTES] = {
#define BACKEND(name, method, path, change, make) {method, path, change},
#include "operate/backends.def"
#undef BACKEND
};

static const char *const arguments[] = {"limit", "prefix", "after", "wait_ms", NULL};

static void fill_face(struct backends *backends)
{
    backends->face = (struct admin_face){
        .name = HTTP_SERVICE,
        .token_option = "http.token_file",
        .host_option = "http.host",
        .page = "there is no such path; see docs/backend-http.md",
        .paths = paths,
        .path_count = BACKEND_ROUTES,
        .arguments = arguments,
        .body_bytes_max = (size_t)backends->options.config->http_body_bytes,
        .waiting_max = backends->requests_max + backends->waits_max,
        .requests = METRIC_http_requests,
        .refused = METRIC_http_refused,
        .late = METRIC_http_late,
        .quiet = METRIC_http_quiet,
        .displaced = METRIC_http_displaced,
        .asker = {backends_step, backends_read, backends_gone, backends_over},
    };
}

static int make_tables(struct backends *backends)
{
    uint32_t count = backends->requests_max + backends->waits_max;
    backends->asks = calloc(count, sizeof(*backends->asks));
    backends->due = calloc(count, sizeof(*backends->due));
    if (backends->asks == NULL || backends->due == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        backends->asks[i].index = i;
    return arena_init(&backends->arena, ANSWER_ARENA_BYTES);
}

int backends_open(struct backends **out, const struct backends_options *options)
{
    *out = NULL;
    if (options->config->http_listen[0] == '\0')
        return 0;
    struct backends *backends = calloc(1, sizeof(*backends));
    if (backends == NULL)
        return -ENOMEM;
    backends->options = *options;
    backends->listener = -1;
    backends->requests_max = (uint32_t)options->config->http_requests;
    backends->waits_max = (uint32_t)options->config->http_waits;
    fill_face(backends);
    lock_init(&backends->lock);
    wait_condition_init(&backends->changed);
    wait_condition_init(&backends->over);
    *out = backends;
    backends->actor =
        registry_claim(options->registry, INSTANCE_HTTP, strlen(INSTANCE_HTTP), options->behaviour);
    return backends->actor != 0 ? make_tables(backends) : -ENOMEM;
}

int backends_listen(struct backends *backends, char *error)
{
    if (backends == NULL || backends->listener >= 0)
        return 0;
    backends->listener =
        net_listen("http.listen", backends->options.config->http_listen, &backends->port, error);
    return backends->listener < 0 ? backends->listener : 0;
}

static void keep_first(void *context, const char *option, const char *text)
{
    char *error = context;
    if (error[0] == '\0')
        snprintf(error, BROKER_ERROR_BYTES, "%s", text);
}

int backends_start(struct backends *backends, char *error)
{
    if (backends == NULL)
        return 0;
    const struct options *options = backends->options.config;
    const struct admin_options admin = {
        .face = &backends->face,
        .listener = backends->listener,
        .node = options->node_name,
        .host = options->http_host,
        .token_file = options->http_token_file,
        .view_token_file = "",
        .connections_max = (unsigned)options->http_connections,
        .env = backends->options.env,
        .log = backends->options.log,
        .metrics = backends->options.metrics,
        .block = backends->options.block,
        .context = backends,
    };
    error[0] = '\0';
    start_files_check_http_token(options, keep_first, error);
    int failed = error[0] == '\0' ? follow_start(backends) : -EINVAL;
    if (failed == 0)
        failed = admin_start(&backends->admin, &admin, error);
    if (failed == 0)
        backends->listener = -1;
    return failed;
}

uint16_t backends_port(const struct backends *backends)
{
    return backends != NULL ? backends->port : 0;
}

/* What was answered goes out, if it is read at once. */
static void wait_for_answers(struct backends *backends)
{
    uint64_t until_ms = env_monotonic_ms(backends->options.env) + STOP_MS;
    struct timespec until = env_until(backends->options.env, until_ms);
    bool late = false;
    lock_take(&backends->lock);
    while (backends->requests + backends->waits > 0 && !late)
        late = !lock_wait_until(&backends->lock, &backends->over, &until);
    lock_give(&backends->lock);
}

void backends_stop(struct backends *backends)
{
    if (backends == NULL)
        return;
    follow_stop(backends);
    if (backends->admin == NULL)
        return;
    wait_for_answers(backends);
    admin_stop(backends->admin);
    backends->admin = NULL;
}

void backends_close(struct backends *backends)
{
    if (backends == NULL)
        return;
    if (backends->listener >= 0)
        close(backends->listener);
    arena_fini(&backends->arena);
    presence_fini(backends);
    free(backends->asks);
    free(backends->due);
    lock_destroy(&backends->lock);
    pthread_cond_destroy(&backends->changed);
    pthread_cond_destroy(&backends->over);
    free(backends);
}
