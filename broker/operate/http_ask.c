/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "actors/kinds.h"
#include "base/check.h"
#include "base/memory.h"
#include "base/passage.h"
#include "operate/http_private.h"

/* What operators ask of an actor: the same messages that a backend's commands become, so they mean
 * the same. What comes of them comes to an actor of our own, which hands it to the one thread that
 * waits. What comes too late finds another number, and is dropped. */

enum { COMMAND_MS = 3000 };

#define ADMIN_ACTOR "!admin" /* no user and no instance can have that name */

/* --- the actor -------------------------------------------------------------------------------- */

/* True: it is what the thread waits for. Of a room's answer the message itself is kept. */
static bool take(struct http *http, uint64_t request, const struct result_message *result,
                 struct message *told)
{
    lock_take(&http->lock);
    bool wanted = request == http->request && !http->answered;
    if (wanted) {
        http->result = *result;
        http->told = told;
        http->answered = true;
        pthread_cond_signal(&http->done);
    }
    lock_give(&http->lock);
    return wanted;
}

static bool receive(void *context, struct runner *runner, actor_handle self, void *state,
                    struct message *message)
{
    struct http *http = *(struct http **)state;
    if (message->kind == MESSAGE_RESULT) {
        const struct result_message *result = (const struct result_message *)message;
        take(http, result->request, result, NULL);
        message_destroy(message);
    } else if (message->kind == MESSAGE_ROOM_ANSWER) {
        const struct room_answer_message *told = (const struct room_answer_message *)message;
        if (!take(http, told->token, &(struct result_message){.code = told->code}, message))
            message_destroy(message);
    } else { /* a link's number that points here by chance */
        http->options.bounce(http->options.context, runner, message);
    }
    return true;
}

static enum verdict finish(void *context, struct runner *runner, actor_handle self, void *state)
{
    return VERDICT_GO_ON;
}

static const struct behaviour http_behaviour = {
    .name = "admin", .kind = KIND_ADMIN, .receive = receive, .finish = finish};

int http_claim_actor(struct http *http)
{
    struct registry *registry = http->options.registry;
    http->actor = registry_claim(registry, ADMIN_ACTOR, strlen(ADMIN_ACTOR), &http_behaviour);
    if (http->actor == 0)
        return -ENOMEM;
    struct http **state = (void *)registry_actor(registry, actor_slot(http->actor))->state;
    *state = http;
    return 0;
}

/* --- one command ------------------------------------------------------------------------------ */

uint64_t http_expect(struct http *http)
{
    CHECK(on_thread(&http->mark)); /* one command at a time */
    lock_take(&http->lock);
    uint64_t request = ++http->request;
    struct message *late = http->told;
    http->told = NULL;
    http->answered = false;
    lock_give(&http->lock);
    message_destroy(late);
    return request;
}

/* False: no result came in time. */
static bool await_result(struct http *http, struct result_message *result, struct message **told)
{
    uint64_t until_ms = env_monotonic_ms(http->options.env) + COMMAND_MS;
    struct timespec until = env_until(http->options.env, until_ms);
    bool late = false;
    lock_take(&http->lock);
    while (!http->answered && !late)
        late = !lock_wait_until(&http->lock, &http->done, &until);
    bool answered = http->answered;
    *result = http->result;
    if (answered && told != NULL) {
        *told = http->told;
        http->told = NULL;
    }
    lock_give(&http->lock);
    return answered;
}

int http_ask(struct http *http, struct bytes name, struct message *message,
             struct result_message *result, struct message **told)
{
    actor_handle handle = registry_find(http->options.registry, name.data, name.size);
    passage_enter(http->options.passage);
    int error = scheduler_post_from(http->options.scheduler, NULL, 0, handle, message,
                                    limits_mailbox_messages(http->options.limits));
    passage_leave(http->options.passage);
    if (told != NULL)
        *told = NULL;
    if (error != 0) {
        message_destroy(message);
        return error;
    }
    return await_result(http, result, told) ? 0 : -ETIMEDOUT;
}

unsigned http_conflict(json_t *answer, const char *code, const char *detail)
{
    admin_fail(answer, 409, "refused", detail);
    json_object_set_new(answer, "code", json_string(code));
    return 409;
}
