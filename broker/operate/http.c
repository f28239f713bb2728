/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/wait.h"

/* Opens and closes the admin endpoint.
 *
 * An address that is in use ends the start, also when it is the default one: at that moment
 * somebody is looking and can name another address or none, while an endpoint that is silently
 * missing is missed when it is needed. It listens before the sessions are restored, so this shows
 * at once, and answers when all the parts that it asks are there. */

#define ADMIN_ACTOR "!admin" /* no user and no instance can have that name */

static void set_answers(admin_answer *answers[ADMIN_ROUTES])
{
    answers[ADMIN_NODE] = admin_node;
    answers[ADMIN_SESSIONS] = admin_sessions;
    answers[ADMIN_SESSION] = admin_session;
    answers[ADMIN_SLOWEST] = admin_slowest;
    answers[ADMIN_SERVICES] = admin_services;
    answers[ADMIN_PRESENCE] = admin_presence;
    answers[ADMIN_RECORDER] = admin_recorder;
    answers[ADMIN_RELOAD] = admin_reload;
    answers[ADMIN_DRAIN] = admin_drain;
    answers[ADMIN_TRACE] = admin_trace;
    answers[ADMIN_TRACE_END] = admin_trace_end;
    answers[ADMIN_TRACE_READ] = admin_trace_read;
    answers[ADMIN_KICK] = admin_kick;
    answers[ADMIN_PUSH] = admin_push;
}

int admin_glue_open(struct admin_glue **out, struct broker *broker, char *error)
{
    const struct options *options = broker->options;
    uint16_t port;
    *out = NULL;
    if (options->admin_listen[0] == '\0')
        return 0;
    int fd = net_listen("admin.listen", options->admin_listen, &port, error);
    if (fd < 0)
        return fd;
    struct admin_glue *glue = calloc(1, sizeof(*glue));
    if (glue == NULL) {
        close(fd);
        return -ENOMEM;
    }
    glue->broker = broker;
    glue->listener = fd;
    glue->port = port;
    glue->started_ms = env_wall_ms(broker->env);
    glue->up_ms = env_monotonic_ms(broker->env);
    pthread_mutex_init(&glue->lock, NULL);
    wait_condition_init(&glue->done);
    *out = glue;
    return 0;
}

int admin_glue_start(struct admin_glue *glue, char *error)
{
    if (glue == NULL)
        return 0;
    struct broker *broker = glue->broker;
    const struct options *options = broker->options;
    struct admin_options admin = {
        .listener = glue->listener,
        .node = options->node_name,
        .host = options->admin_host,
        .token_file = options->admin_token_file,
        .view_token_file = options->admin_view_token_file,
        .connections_max = (unsigned)options->admin_connections,
        .env = broker->env,
        .log = broker->log,
        .metrics = broker->metrics,
        .block = broker->io_count + broker->worker_count + 1,
        .context = glue,
        .read = admin_read,
        .state = admin_state_of,
        .alive = admin_alive,
        .ready = admin_ready,
    };
    set_answers(admin.answers);
    glue->actor =
        registry_claim(broker->registry, ADMIN_ACTOR, strlen(ADMIN_ACTOR), &admin_behaviour);
    if (glue->actor == 0)
        return -ENOMEM;
    int failed = admin_start(&glue->admin, &admin, error);
    if (failed == 0)
        glue->listener = -1;
    return failed;
}

void admin_glue_stop(struct admin_glue *glue)
{
    if (glue != NULL && glue->admin != NULL)
        admin_stop(glue->admin);
    if (glue != NULL)
        glue->admin = NULL;
}

void admin_glue_close(struct admin_glue *glue)
{
    if (glue == NULL)
        return;
    if (glue->listener >= 0)
        close(glue->listener);
    pthread_mutex_destroy(&glue->lock);
    pthread_cond_destroy(&glue->done);
    free(glue);
}
