/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/http.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/wait.h"
#include "operate/http_private.h"

/* Opens and closes the admin endpoint.
 *
 * * An address that is in use ends the start, also when it is the default one: at that moment
 * somebody is looking and can name another address or none, while an endpoint that is silently
 * missing is missed when it is needed. It listens before the sessions are restored, so this shows
 * at once, and answers when all the parts that it asks are there. */

static void set_answers(admin_answer *answers[ADMIN_ROUTES])
{
    answers[ADMIN_NODE] = http_node;
    answers[ADMIN_SESSIONS] = http_sessions;
    answers[ADMIN_SESSION] = http_session;
    answers[ADMIN_SESSION_ROOMS] = http_session_rooms;
    answers[ADMIN_SAMPLES] = http_samples;
    answers[ADMIN_SLOWEST] = slowest_users;
    answers[ADMIN_SERVICES] = http_services;
    answers[ADMIN_PRESENCE] = http_presence;
    answers[ADMIN_ROOMS] = http_rooms;
    answers[ADMIN_ROOM] = http_room;
    answers[ADMIN_ROOM_CLOSE] = http_room_close;
    answers[ADMIN_RECORDER] = http_recorder;
    answers[ADMIN_RELOAD] = http_reload;
    answers[ADMIN_DRAIN] = http_drain;
    answers[ADMIN_TRACE] = http_trace;
    answers[ADMIN_TRACE_END] = http_trace_end;
    answers[ADMIN_TRACE_READ] = http_trace_read;
    answers[ADMIN_KICK] = http_kick;
    answers[ADMIN_PUSH] = http_push;
}

struct http *http_of(void *context)
{
    struct http *http = context;
    if (off_thread(&http->mark))
        thread_begin(&http->mark);
    CHECK(on_thread(&http->mark));
    return http;
}

/* --- what its first thread asks --------------------------------------------------------------- */

static void read_health(void *context, uint64_t readings[READING_COUNT])
{
    health_read(&((struct http *)context)->health, readings);
}

static const char *state_word(void *context)
{
    return leave_state_name(leave_state(((struct http *)context)->options.leave));
}

/* On the second thread, between two answers. */
static void take_sample(void *context)
{
    samples_take(http_of(context)->samples);
}

static unsigned check_alive(void *context, struct admin_check checks[ADMIN_CHECKS_MAX])
{
    return health_alive(&((struct http *)context)->health, checks);
}

static unsigned check_ready(void *context, struct admin_check checks[ADMIN_CHECKS_MAX])
{
    return health_ready(&((struct http *)context)->health, checks);
}

/* --- its life --------------------------------------------------------------------------------- */

int http_open(struct http **out, const struct http_options *options)
{
    *out = NULL;
    if (options->config->admin_listen[0] == '\0')
        return 0;
    struct http *http = calloc(1, sizeof(*http));
    if (http == NULL)
        return -ENOMEM;
    http->options = *options;
    http->health = options->health;
    http->listener = -1;
    http->started_ms = env_wall_ms(options->env);
    http->health.up_ms = env_monotonic_ms(options->env);
    lock_init(&http->lock);
    wait_condition_init(&http->done);
    *out = http;
    http->samples = samples_create(options->env, options->metrics);
    return http->samples != NULL ? http_claim_actor(http) : -ENOMEM;
}

int http_listen(struct http *http, char *error)
{
    if (http == NULL || http->listener >= 0) /* it does, and another address is awaited */
        return 0;
    http->listener =
        net_listen("admin.listen", http->options.config->admin_listen, &http->port, error);
    return http->listener < 0 ? http->listener : 0;
}

void http_join_link(struct http *http, struct link *link)
{
    if (http != NULL)
        http->health.link = link;
}

int http_start(struct http *http, char *error)
{
    if (http == NULL)
        return 0;
    const struct options *options = http->options.config;
    CHECK(http->health.link != NULL);
    struct admin_options admin = {
        .listener = http->listener,
        .node = options->node_name,
        .host = options->admin_host,
        .token_file = options->admin_token_file,
        .view_token_file = options->admin_view_token_file,
        .connections_max = (unsigned)options->admin_connections,
        .env = http->options.env,
        .log = http->options.log,
        .metrics = http->options.metrics,
        .block = http->options.block,
        .context = http,
        .read = read_health,
        .state = state_word,
        .alive = check_alive,
        .ready = check_ready,
        .tick = take_sample,
        .tick_ms = SAMPLE_MS,
    };
    set_answers(admin.answers);
    int failed = admin_start(&http->admin, &admin, error);
    if (failed == 0)
        http->listener = -1;
    return failed;
}

uint16_t http_port(const struct http *http)
{
    return http != NULL ? http->port : 0;
}

void http_stop(struct http *http)
{
    if (http != NULL && http->admin != NULL)
        admin_stop(http->admin);
    if (http != NULL)
        http->admin = NULL;
}

void http_close(struct http *http)
{
    if (http == NULL)
        return;
    if (http->listener >= 0)
        close(http->listener);
    message_destroy(http->told);
    room_rates_clear(&http->rates);
    samples_destroy(http->samples);
    lock_destroy(&http->lock);
    pthread_cond_destroy(&http->done);
    free(http);
}
