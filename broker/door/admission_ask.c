/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "actors/kinds.h"
#include "base/check.h"
#include "base/memory.h"
#include "base/passage.h"
#include "client.pb-c.h"
#include "directory/services.h"
#include "door/admission.h"
#include "door/private.h"

/* auth.mode service: a login becomes mail to an instance of auth.service, as a user's call does,
 * and its ReplyTo comes back as a call's result does. Whom such a result is posted to must be an
 * actor, so there is one for all logins: its state is who made it, and its turns only hand the
 * answer to the job that waits for it.
 *
 * Jobs that were asked about stand in a list in the order of asking, which is that of their
 * deadlines, under admission's lock: a reload that makes auth.deadline_ms less does so for those
 * too who wait already, or newer ones would stand behind their later deadlines. Whoever takes one
 * out (the answer, the deadline, a route that fails) decides it; the others find nothing. A job is
 * in the list before its call is posted, for the answer may come at once.
 *
 * A mail is not taken back when its login is given up: the late answer finds nobody. */

#define ADMISSION_ACTOR "!admission" /* no instance's name, since those have a slash */

enum { CALL_OVERHEAD_BYTES = 512 };

/* --- the list --------------------------------------------------------------------------------- */

/* No later than what auth.deadline_ms says now. */
static void hasten(const struct admission *admission, struct login_job *job, uint64_t now_ms)
{
    CHECK(lock_held(&admission->lock));
    uint64_t latest_ms = now_ms + auth_deadline_ms(admission->options.limits);
    job->due_ms = job->due_ms < latest_ms ? job->due_ms : latest_ms;
}

void admission_hasten(struct admission *admission)
{
    uint64_t now_ms = env_monotonic_ms(admission->options.env);
    for (struct message *at = admission->asked.first; at != NULL; at = at->next)
        hasten(admission, (struct login_job *)at, now_ms);
}

static void append(struct admission *admission, struct login_job *job)
{
    CHECK(job->call != 0); /* by which its answer finds it */
    lock_take(&admission->lock);
    hasten(admission, job,
           env_monotonic_ms(admission->options.env)); /* a reload since it was asked */
    message_append(&admission->asked, &job->header);
    lock_give(&admission->lock);
}

/* Takes out the one behind `before` (NULL: the first). */
static struct login_job *unlink_behind(struct admission *admission, struct message *before)
{
    CHECK(lock_held(&admission->lock));
    struct message *taken = message_take_behind(&admission->asked, before);
    CHECK(taken != NULL);
    return (struct login_job *)taken;
}

/* NULL: somebody else has decided it. */
static struct login_job *take_asked(struct admission *admission, uint64_t call)
{
    struct login_job *found = NULL;
    struct message *before = NULL;
    lock_take(&admission->lock);
    for (struct message *at = admission->asked.first; at != NULL; at = at->next) {
        if (((struct login_job *)at)->call == call) {
            found = unlink_behind(admission, before);
            break;
        }
        before = at;
    }
    lock_give(&admission->lock);
    return found;
}

bool admission_give_up_late(struct admission *admission)
{
    struct login_job *late = NULL;
    lock_take(&admission->lock);
    const struct login_job *first = (const struct login_job *)admission->asked.first;
    if (first != NULL && first->due_ms <= env_monotonic_ms(admission->options.env))
        late = unlink_behind(admission, NULL);
    lock_give(&admission->lock);
    if (late != NULL)
        admission_decide(admission, late, TOKEN_UNAVAILABLE);
    return late != NULL;
}

/* --- asking ----------------------------------------------------------------------------------- */

static struct user_call_message *make_call(struct admission *admission, const struct login_job *job)
{
    const struct attach_message *login = job->attach;
    size_t client_size = strlen(login->client);
    struct buffer payload = {0};
    MEMORY_MUST(buffer_append(&payload, job->token, job->token_size) == 0, "a login");
    MEMORY_MUST(buffer_append(&payload, login->client, client_size) == 0, "a login");
    struct user_call_message *call;
    struct bytes service = bytes_of_text(admission->options.options->auth_service);
    struct bytes body = {payload.data, payload.size};
    MEMORY_MUST((call = user_call_create(bytes_of_text(login->user), service,
                                         bytes_of_text(login->address), body)) != NULL,
                "a login");
    if (payload.data != NULL)
        explicit_bzero(payload.data, payload.size);
    buffer_fini(&payload);
    call->body = MAIL_LOGIN;
    call->client_size = (uint8_t)client_size;
    call->caller = admission->actor;
    call->call = job->call;
    call->deadline_ms = job->due_ms;
    return call;
}

void admission_ask(struct admission *admission, struct login_job *job)
{
    const struct admission_options *options = &admission->options;
    if (job->token_size > TOKEN_BYTES_MAX ||
        job->token_size + CALL_OVERHEAD_BYTES > link_frame_bytes(options->limits)) {
        admission_decide(admission, job, TOKEN_TOO_LONG);
        return;
    }
    uint64_t number = atomic_fetch_add_explicit(options->call_last, 1, memory_order_relaxed) + 1;
    job->call = number;
    job->due_ms = env_monotonic_ms(options->env) + auth_deadline_ms(options->limits);
    struct user_call_message *call = make_call(admission, job);
    append(admission, job);
    uint16_t code;
    passage_enter(options->passage);
    bool routed = services_route(options->services, NULL, call, &code) != 0;
    passage_leave(options->passage);
    if (routed)
        return;
    message_destroy(&call->header);
    job = take_asked(admission, number);
    if (job != NULL)
        admission_decide(admission, job, TOKEN_UNAVAILABLE);
}

/* --- answers ---------------------------------------------------------------------------------- */

enum token_refusal admission_read_end(const struct admission *admission, struct login_job *job,
                                      uint64_t token_ends_ms)
{
    uint64_t skew_ms = admission->rules.skew_ms;
    if (token_ends_ms == 0)
        return TOKEN_GOOD;
    uint64_t ends_ms = token_ends_ms <= UINT64_MAX - skew_ms ? token_ends_ms + skew_ms : UINT64_MAX;
    job->attach->token_ends_ms = ends_ms;
    return env_wall_ms(admission->options.env) < ends_ms ? TOKEN_GOOD : TOKEN_EXPIRED;
}

/* It belongs to the login as that of a token does, and what is wrong with it is as bad there. */
static enum token_refusal read_rooms(struct login_job *job, struct bytes list)
{
    char rooms[TOKEN_ROOMS_BYTES_MAX + 1] = "";
    for (size_t count = 0; list.size > 0; count++) {
        struct bytes room = {list.data, strlen((const char *)list.data)};
        if (!token_add_room(rooms, count, room))
            return TOKEN_CLAIMS;
        list.data += room.size + 1;
        list.size -= room.size + 1;
    }
    admission_set_rooms(job, rooms);
    return TOKEN_GOOD;
}

enum token_refusal admission_read_name(struct login_job *job, struct bytes name)
{
    char *user = job->attach->user;
    if (user[0] != '\0' && name.size > 0 && !bytes_equal(name, bytes_of_text(user)))
        return TOKEN_NAME;
    if (user[0] != '\0')
        return TOKEN_GOOD;
    if (!username_valid(name))
        return TOKEN_SUBJECT;
    message_copy_text(user, sizeof(job->attach->user), name);
    return TOKEN_GOOD;
}

static enum token_refusal read_answer(const struct admission *admission, struct login_job *job,
                                      const struct call_result_message *answer)
{
    struct bytes name = {answer->payload, answer->payload_size};
    if (answer->code != 0)
        return TOKEN_UNAVAILABLE;
    if (answer->status != 0)
        return TOKEN_SERVICE;
    enum token_refusal refusal = admission_read_name(job, name);
    if (refusal == TOKEN_GOOD)
        refusal = read_rooms(job, call_result_rooms(answer));
    return refusal == TOKEN_GOOD ? admission_read_end(admission, job, answer->token_ends_ms)
                                 : refusal;
}

static bool receive(void *context, struct runner *runner, actor_handle self, void *state,
                    struct message *message)
{
    struct admission *admission = *(struct admission **)state;
    CHECK(admission->actor == self);
    if (message->kind != MESSAGE_CALL_RESULT) {
        admission->options.bounce(admission->options.context, runner, message);
        return true;
    }
    const struct call_result_message *answer = (const struct call_result_message *)message;
    struct login_job *job = take_asked(admission, answer->call);
    if (job != NULL)
        admission_decide(admission, job, read_answer(admission, job, answer));
    message_destroy(message);
    return true;
}

static enum verdict finish(void *context, struct runner *runner, actor_handle self, void *state)
{
    return VERDICT_GO_ON;
}

static const struct behaviour admission_behaviour = {
    .name = "admission", .kind = KIND_ADMISSION, .receive = receive, .finish = finish};

int admission_prepare_asking(struct admission *admission)
{
    struct registry *registry = admission->options.registry;
    admission->actor =
        registry_claim(registry, ADMISSION_ACTOR, strlen(ADMISSION_ACTOR), &admission_behaviour);
    if (admission->actor == 0)
        return -ENOMEM;
    struct admission **state =
        (void *)registry_actor(registry, actor_slot(admission->actor))->state;
    *state = admission;
    return 0;
}
