/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/listeners.h"
#include "base/log.h"
#include "base/memory.h"
#include "door/private.h"
#include "proto/utf8.h"
#include "web/base64.h"

/* auth.mode http: a login becomes a POST to auth.http.url, and what is answered decides it
 * (docs/webhooks.md has both). One thread does it, for it waits for nobody: libcurl has
 * auth.http.connections requests under way and keeps their connections.
 *
 * What strangers cost: a request each, so many at a time, and each no longer than auth.deadline_ms,
 * counted from when it was submitted. Those who wait stand in the queue of admission.c within its
 * limits, in the order of their deadlines; whoever is late there is told so without a request. A
 * refusal counts against the address as that of a token does, silence does not: so somebody at
 * whose tokens the receiver hangs could keep all connections for himself and come again for ever.
 * Of one source no more than a quarter of them are asked about at once, of a network half; others
 * pass by (but where limits.prelogin_per_source is 0, because all come by one address).
 *
 * Only a whole answer of the documented form lets anybody in; everything else is UNAVAILABLE, which
 * is nobody's fault and may be tried again. */

enum {
    REASON_BYTES_MAX = 200,
    QUEUE_LOOK_MS = 50, /* whether somebody who waits is late while all connections are busy, which
                         * is so after a reload that makes the deadline less */
    IDLE_MS = 60 * 1000,
    STATUS_GOOD = 200,
    STATUS_UNAUTHORIZED = 401,
    STATUS_FORBIDDEN = 403,
};

/* --- the question ----------------------------------------------------------------------------- */

static void wipe(char *text)
{
    if (text != NULL)
        explicit_bzero(text, strlen(text));
    free(text);
}

static char *make_question(const struct admission *admission, const struct login_job *job)
{
    const struct attach_message *login = job->attach;
    char *token;
    MEMORY_MUST((token = web_base64((struct bytes){job->token, job->token_size})) != NULL,
                "a login");
    json_t *client = json_string(login->client);
    json_t *object = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:o}", "node", admission->options.options->node_name, "user",
        login->user, "token", token, "address", login->address, "transport",
        listener_rows[login->listener].name, "client", client != NULL ? client : json_string("?"));
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    wipe(token);
    return text;
}

/* --- the answer ------------------------------------------------------------------------------- */

static enum token_refusal read_rooms(struct login_job *job, const json_t *list)
{
    char rooms[TOKEN_ROOMS_BYTES_MAX + 1] = "";
    size_t index;
    json_t *room;
    if (list != NULL && !json_is_array(list))
        return TOKEN_CLAIMS;
    json_array_foreach(list, index, room)
    {
        const char *text = json_string_value(room);
        if (text == NULL || !token_add_room(rooms, index, bytes_of_text(text)))
            return TOKEN_CLAIMS;
    }
    admission_set_rooms(job, rooms);
    return TOKEN_GOOD;
}

static enum token_refusal read_yes(const struct admission *admission, struct login_job *job,
                                   const json_t *object)
{
    const json_t *user = json_object_get(object, "user");
    const json_t *ends = json_object_get(object, "ends_ms");
    bool sound = (user == NULL || json_is_string(user)) &&
                 (ends == NULL || (json_is_integer(ends) && json_integer_value(ends) >= 0));
    if (!sound)
        return TOKEN_CLAIMS;
    const char *name = user != NULL ? json_string_value(user) : "";
    enum token_refusal refusal = admission_read_name(job, bytes_of_text(name));
    if (refusal == TOKEN_GOOD)
        refusal = read_rooms(job, json_object_get(object, "rooms"));
    uint64_t ends_ms = ends != NULL ? (uint64_t)json_integer_value(ends) : 0;
    return refusal == TOKEN_GOOD ? admission_read_end(admission, job, ends_ms) : refusal;
}

/* One line for the client, if the answer has one that may be shown. */
static void read_reason(struct login_job *job, const json_t *object)
{
    const char *reason = json_string_value(json_object_get(object, "reason"));
    if (reason == NULL || reason[0] == '\0' || strlen(reason) > REASON_BYTES_MAX)
        return;
    MEMORY_MUST((job->detail = strdup(reason)) != NULL, "a login");
    utf8_tame(job->detail);
}

/* The verdict, or TOKEN_UNAVAILABLE with *problem. */
static enum token_refusal read_answer(const struct admission *admission, struct login_job *job,
                                      const struct web_answer *answer, const char **problem)
{
    json_error_t error;
    enum token_refusal refusal = TOKEN_UNAVAILABLE;
    bool refused = answer->status == STATUS_UNAUTHORIZED || answer->status == STATUS_FORBIDDEN;
    *problem = answer->error != NULL ? answer->error : "another status than 200, 401 and 403";
    if (answer->error != NULL || (answer->status != STATUS_GOOD && !refused))
        return refusal;
    json_t *object = json_loadb((const char *)answer->body.data, answer->body.size,
                                JSON_REJECT_DUPLICATES, &error);
    const json_t *allow = json_object_get(object, "allow");
    *problem = "a 200 whose JSON has no allow that is true or false";
    if (refused || json_is_false(allow)) {
        read_reason(job, object);
        refusal = TOKEN_SERVICE;
    } else if (json_is_true(allow)) {
        refusal = read_yes(admission, job, object);
    }
    json_decref(object);
    return refusal;
}

static void tell_failure(const struct admission *admission, unsigned status, const char *problem)
{
    metrics_add(admission->options.metrics, admission->options.block, METRIC_auth_http_failures, 1);
    LOG(admission->options.log, AUTH_HTTP_FAILED, LOG_U("status", status), LOG_S("error", problem));
}

static void on_answer(void *context, const struct web_answer *answer)
{
    struct login_job *job = context;
    struct admission *admission = job->admission;
    const char *problem;
    enum token_refusal refusal = read_answer(admission, job, answer, &problem);
    if (refusal == TOKEN_UNAVAILABLE)
        tell_failure(admission, answer->status, problem);
    admission_decide(admission, job, refusal);
}

/* --- the thread ------------------------------------------------------------------------------- */

/* Takes the job. */
static void ask(struct admission *admission, struct login_job *job, uint64_t left_ms)
{
    if (job->token_size > TOKEN_BYTES_MAX) {
        admission_decide(admission, job, TOKEN_TOO_LONG);
        return;
    }
    char *question = make_question(admission, job);
    job->admission = admission;
    int failed = question == NULL ? -ENOMEM
                                  : web_client_post(admission->web, bytes_of_text(question),
                                                    left_ms, on_answer, job);
    wipe(question);
    metrics_add(admission->options.metrics, admission->options.block, METRIC_auth_http_posts,
                failed == 0);
    if (failed == 0)
        return;
    tell_failure(admission, 0, strerror(-failed));
    admission_decide(admission, job, TOKEN_UNAVAILABLE);
}

static void take_target(struct admission *admission)
{
    lock_take(&admission->lock);
    struct web_target *target = admission->target;
    admission->target = NULL;
    lock_give(&admission->lock);
    if (target != NULL)
        web_client_aim(admission->web, target);
}

/* Whether the oldest who waits is late; false when nobody waits. */
static bool is_late(struct admission *admission, bool *waits)
{
    lock_take(&admission->lock);
    const struct login_job *first = (const struct login_job *)admission->jobs.first;
    bool late = first != NULL && first->due_ms <= env_monotonic_ms(admission->options.env);
    *waits = first != NULL;
    lock_give(&admission->lock);
    return late;
}

bool admission_http_step(struct admission *admission)
{
    struct keyring *none = NULL;
    bool waits, late = is_late(admission, &waits);
    take_target(admission);
    web_client_run(admission->web, 0);
    bool busy =
        web_client_busy(admission->web) >= admission->options.options->auth_http_connections;
    struct login_job *job = NULL;
    if (late)
        job = admission_take_job(admission, &none);
    else if (waits && !busy)
        job = admission_take_fair(admission);
    if (job == NULL)
        return false;
    uint64_t now_ms = env_monotonic_ms(admission->options.env);
    if (job->retry_after_ms != 0)
        admission_decide(admission, job, TOKEN_LIMITED);
    else if (job->due_ms <= now_ms)
        admission_decide(admission, job, TOKEN_UNAVAILABLE);
    else
        ask(admission, job, job->due_ms - now_ms);
    return true;
}

void *admission_http_run(void *context)
{
    struct admission *admission = context;
    bool open = true;
    while (open) {
        if (admission_http_step(admission))
            continue;
        bool waits;
        (void)is_late(admission, &waits);
        web_client_run(admission->web, waits ? QUEUE_LOOK_MS : IDLE_MS);
        lock_take(&admission->lock);
        open = !admission->closing;
        lock_give(&admission->lock);
    }
    return NULL;
}

int admission_prepare_http(struct admission *admission)
{
    const struct web_client_options web = {
        .agent = "usher/" USHER_VERSION,
        .connections = (unsigned)admission->options.options->auth_http_connections,
        .env = admission->options.env,
    };
    return web_client_open(&admission->web, &web);
}
