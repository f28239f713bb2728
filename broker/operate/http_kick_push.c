/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "actors/kinds.h"
#include "backend.pb-c.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "operate/http.h"

/* Kick and push for operators: the same messages that a backend's commands become, so they mean the
 * same. Their results come to an actor of our own, which hands them to the one thread that waits.
 * One that comes too late finds another number, and is dropped. */

enum { COMMAND_MS = 3000 };

#define PUSH_NAME "admin" /* the service that a pushed message is from */

/* --- the actor -------------------------------------------------------------------------------- */

static bool receive(void *context, struct runner *runner, actor_handle self, void *state,
                    struct message *message)
{
    struct broker *broker = context;
    struct admin_glue *glue = broker->admin;
    if (message->kind != MESSAGE_RESULT) {
        egress_bounce(broker, runner, message); /* a link's number that points here by chance */
        return true;
    }
    const struct result_message *result = (const struct result_message *)message;
    pthread_mutex_lock(&glue->lock);
    if (result->request == glue->request) {
        glue->result = *result;
        glue->answered = true;
        pthread_cond_signal(&glue->done);
    }
    pthread_mutex_unlock(&glue->lock);
    message_destroy(message);
    return true;
}

static enum verdict finish(void *context, struct runner *runner, actor_handle self, void *state)
{
    return VERDICT_GO_ON;
}

const struct behaviour admin_behaviour = {
    .name = "admin", .kind = KIND_ADMIN, .receive = receive, .finish = finish};

/* --- one command ------------------------------------------------------------------------------ */

/* The number under which its result will come. */
static uint64_t expect_result(struct admin_glue *glue)
{
    pthread_mutex_lock(&glue->lock);
    uint64_t request = ++glue->request;
    glue->answered = false;
    pthread_mutex_unlock(&glue->lock);
    return request;
}

/* False: no result came in time. */
static bool await_result(struct admin_glue *glue, struct result_message *result)
{
    uint64_t until_ms = env_monotonic_ms(glue->broker->env) + COMMAND_MS;
    struct timespec until = env_until(glue->broker->env, until_ms);
    int error = 0;
    pthread_mutex_lock(&glue->lock);
    while (!glue->answered && error == 0)
        error = pthread_cond_timedwait(&glue->done, &glue->lock, &until);
    bool answered = glue->answered;
    *result = glue->result;
    pthread_mutex_unlock(&glue->lock);
    return answered;
}

static unsigned conflict(json_t *answer, const char *code, const char *detail)
{
    admin_fail(answer, 409, "refused", detail);
    json_object_set_new(answer, "code", json_string(code));
    return 409;
}

/* Takes the message. */
static unsigned run_command(struct admin_glue *glue, const char *user, struct message *message,
                            json_t *answer)
{
    struct broker *broker = glue->broker;
    struct result_message result;
    actor_handle handle = registry_find(broker->registry, user, strlen(user));
    int error = scheduler_post_from(broker->scheduler, NULL, 0, handle, message,
                                    limits_mailbox_messages(&broker->limits));
    if (error != 0) {
        message_destroy(message);
        return error == -ESRCH ? conflict(answer, "NOT_ONLINE", "that user has no session")
                               : conflict(answer, "BUSY", "that user's mailbox is full");
    }
    if (!await_result(glue, &result))
        return admin_fail(answer, 503, "timeout", "no result came; it may still take effect");
    switch (result.code) {
    case 0:
        json_object_set_new(answer, "code", json_string("OK"));
        json_object_set_new(answer, "epoch", json_integer((json_int_t)result.epoch));
        return 200;
    case RESULT_STALE_EPOCH:
        return conflict(answer, "STALE_EPOCH", "that user has another epoch by now");
    case USHER__V1__ERROR__CODE__NOT_ONLINE:
        return conflict(answer, "NOT_ONLINE", "that user has no session");
    case USHER__V1__ERROR__CODE__INBOX_FULL:
        return conflict(answer, "INBOX_FULL", "that user's inbox is full");
    default:
        return conflict(answer, "UNAVAILABLE", "the store refused, or the message is too large");
    }
}

bool admin_number_of(const json_t *body, const char *key, uint64_t *number)
{
    const json_t *value = json_object_get(body, key);
    *number =
        value != NULL && json_integer_value(value) > 0 ? (uint64_t)json_integer_value(value) : 0;
    return value == NULL || (json_is_integer(value) && json_integer_value(value) >= 0);
}

unsigned admin_kick(void *context, const struct admin_query *query, json_t *answer)
{
    struct admin_glue *glue = context;
    const json_t *detail = json_object_get(query->body, "detail");
    const json_t *stay = json_object_get(query->body, "do_not_return");
    uint64_t epoch, retry_after_ms;
    bool good = admin_number_of(query->body, "epoch", &epoch) &&
                admin_number_of(query->body, "retry_after_ms", &retry_after_ms) &&
                retry_after_ms <= UINT32_MAX && (detail == NULL || json_is_string(detail)) &&
                (stay == NULL || json_is_boolean(stay));
    if (!good)
        return admin_fail(answer, 400, "bad_request",
                          "epoch and retry_after_ms are numbers, detail a text, do_not_return true "
                          "or false");
    struct kick_message *kick = message_create(MESSAGE_KICK, sizeof(*kick));
    kick->by = glue->actor;
    kick->request = expect_result(glue);
    kick->epoch = epoch;
    kick->reason = USHER__V1__CLOSE__REASON__KICKED;
    kick->retry_after_ms = (uint32_t)retry_after_ms;
    kick->do_not_return = json_is_true(stay);
    text_copy(kick->detail, sizeof(kick->detail),
              bytes_of_text(detail != NULL && json_string_length(detail) > 0
                                ? json_string_value(detail)
                                : "kicked by an operator"));
    snprintf(kick->kicker, sizeof(kick->kicker), "admin %s", query->address);
    return run_command(glue, query->user, &kick->header, answer);
}

unsigned admin_push(void *context, const struct admin_query *query, json_t *answer)
{
    struct admin_glue *glue = context;
    struct broker *broker = glue->broker;
    const json_t *text = json_object_get(query->body, "text");
    uint64_t epoch;
    if (!json_is_string(text) || !admin_number_of(query->body, "epoch", &epoch))
        return admin_fail(answer, 400, "bad_request", "text is a text, epoch a number");
    struct deliver_message *deliver = deliver_create(
        bytes_of_text(PUSH_NAME),
        (struct bytes){(const uint8_t *)json_string_value(text), json_string_length(text)});
    if (deliver == NULL) {
        memory_refused();
        return admin_fail(answer, 503, "unavailable", "no memory");
    }
    deliver->sender = glue->actor;
    deliver->request = expect_result(glue);
    deliver->epoch_wanted = epoch;
    deliver->from_service = true;
    deliver->time_ms = env_wall_ms(broker->env);
    deliver->arrived_ms = env_monotonic_ms(broker->env);
    return run_command(glue, query->user, &deliver->header, answer);
}
