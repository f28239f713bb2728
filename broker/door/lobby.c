/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/kinds.h"
#include "actors/proof.h"
#include "actors/refusals.h"
#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "door/admission.h"
#include "door/gate.h"
#include "door/lobby.h"
#include "proto/broker_frame.h"

/* Connections that belong to no user yet.
 *
 * Until a Login or Resume has been posted to its user's actor the gate decides and the I/O thread
 * itself answers, because the write side is its own. Everything here runs on the I/O thread of the
 * connection.
 *
 * With auth.mode other than open a Login waits for the admission threads in between. Its
 * connection stays unbound, with all the limits of that, and remembers the job (net_keep). The end
 * of the connection forgets the job; the verdict of a job that nobody remembers is dropped.
 *
 * A Resume is judged here, by the proof that the user's actor shows (registry.h): whoever does not
 * know the secret reaches no actor, and is answered the same, and as soon, whether there is such a
 * session or not.
 *
 * Who has reset his connection before his request is looked at is gone: nothing is done with it. He
 * could not be counted where he came from, and no limit per source would hold for him.
 *
 * One rule for what comes behind a Login or Resume that is not answered yet: it waits (net.h). Is
 * the answer a refusal, it is looked at like anything else before login. */

enum { BUSY_RETRY_MS = 1000, DISPLACED_RETRY_MS = 1000 };

static const char *end_text(enum conn_end end)
{
    switch (end) {
    case CONN_LOGIN_DEADLINE:
        return "log in within the deadline";
    case CONN_PRELOGIN_BYTES:
        return "too many bytes before the login";
    case CONN_FRAME_TOO_LARGE:
        return "a frame larger than frame_bytes_max";
    case CONN_BROKEN_MESSAGE:
        return "it breaks the rules of WebSocket";
    case CONN_FRAGMENTS:
        return "a message of too many fragments (ws.fragments)";
    case CONN_CONTROL_FLOOD:
        return "too many control frames (ws.control_per_second)";
    case CONN_EVICTED:
    case CONN_CROWDING:
        return "it does not read, and memory is short";
    default:
        return "a frame length of more than five bytes";
    }
}

static void say(const struct lobby *lobby, struct runner *runner, conn_handle conn,
                const struct buffer *out)
{
    net_write(lobby->net, runner->index, conn, out->data, out->size);
}

static void say_error(const struct lobby *lobby, struct runner *runner, conn_handle conn,
                      uint64_t id, uint32_t code, const char *detail, uint32_t retry_after_ms)
{
    struct buffer out = {0};
    if (id != 0 && broker_frame_error(&out, id, code, detail, retry_after_ms) == 0)
        say(lobby, runner, conn, &out);
    buffer_fini(&out);
}

static void say_close(const struct lobby *lobby, struct runner *runner, conn_handle conn,
                      uint32_t reason, const char *detail, uint32_t retry_after_ms)
{
    struct buffer out = {0};
    if (broker_frame_close(&out, reason, detail, retry_after_ms, false) == 0)
        say(lobby, runner, conn, &out);
    buffer_fini(&out);
    net_farewell(lobby->net, conn, reason, detail);
    net_release(lobby->net, conn);
}

/* For the history. `limit` is an option of that value, or NULL. */
static void note_refusal(const struct lobby *lobby, const struct attach_message *login,
                         const char *detail, const char *limit, uint64_t bound)
{
    const struct refusal refusal = {
        .kind = HISTORY_LOGIN_REFUSED,
        .user = login->user,
        .address = login->address,
        .client = login->client,
        .transport = listener_name(login->listener),
        .detail = detail,
        .limit = limit,
        .bound = bound,
    };
    refusals_note(lobby->refusals, &refusal);
}

static void note_resume_refused(const struct lobby *lobby, conn_handle conn, struct bytes user,
                                const char *address, const char *detail,
                                const struct login_wait *wait)
{
    char name[USERNAME_BYTES_MAX + 1];
    message_copy_text(name, sizeof(name), user);
    const struct refusal refusal = {.kind = HISTORY_RESUME_REFUSED,
                                    .user = name,
                                    .address = address,
                                    .transport = listener_name(net_listener(lobby->net, conn)),
                                    .detail = detail,
                                    .limit = wait->limit,
                                    .bound = wait->bound};
    refusals_note(lobby->refusals, &refusal);
}

/* A Login that waits for its verdict waits no more; it is answered. */
static void forget_login(const struct lobby *lobby, struct runner *runner, conn_handle conn,
                         uint32_t code, const char *detail)
{
    const struct login_job *job = net_kept(lobby->net, conn);
    if (job == NULL)
        return;
    net_keep(lobby->net, conn, NULL);
    note_refusal(lobby, job->attach, detail, NULL, 0);
    say_error(lobby, runner, conn, job->attach->id, code, detail, 0);
}

/* A few threads that look at the same time may let in a few more. */
static bool is_one_too_many(const struct lobby *lobby, const struct attach_message *attach)
{
    return registry_count_of(lobby->registry, KIND_USER) >= lobby->users_max &&
           registry_find(lobby->registry, attach->user, strlen(attach->user)) == 0;
}

/* Posts it to the user's actor, making it for a login; takes the message. False: there is no room
 * for another user, and nothing was done. */
static bool post_attach(const struct lobby *lobby, struct runner *runner,
                        struct attach_message *attach)
{
    if (is_one_too_many(lobby, attach))
        return false;
    CHECK(attach->user[0] != '\0'); /* the gate or the verdict has seen to it */
    /* The actor may retire between the claim and the post; then the next claim makes a new one. */
    for (;;) {
        actor_handle user =
            registry_claim(lobby->registry, attach->user, strlen(attach->user), lobby->user);
        net_bind(lobby->net, attach->conn, user);
        if (user == 0)
            return false;
        if (scheduler_post(lobby->scheduler, runner, user, &attach->header) == 0)
            return true;
    }
}

void lobby_attach(const struct lobby *lobby, struct runner *runner, struct attach_message *message)
{
    if (post_attach(lobby, runner, message))
        return;
    LOG(lobby->log, LIMIT_HIT, LOG_S("limit", "limits.users"),
        LOG_U("users", registry_count(lobby->registry)));
    note_refusal(lobby, message, "the broker is full", "limits.users", lobby->users_max);
    say_error(lobby, runner, message->conn, message->id, USHER__V1__ERROR__CODE__BUSY,
              "limits.users is reached", env_spread_ms(lobby->env, BUSY_RETRY_MS));
    message_destroy(&message->header);
}

/* Whether it was answered; else it comes in time. It may try again on the same connection, when its
 * time has come. */
static bool too_soon(const struct lobby *lobby, struct runner *runner, conn_handle conn,
                     uint64_t id, const struct login_wait *wait, struct bytes user,
                     const char *address)
{
    if (wait->ms == 0)
        return false;
    metrics_add(lobby->metrics, runner->index, METRIC_logins_refused_rate, 1);
    LOG(lobby->log, LIMIT_HIT, LOG_S("limit", wait->limit), LOG_B("user", user.data, user.size),
        LOG_S("address", address));
    char detail[96];
    snprintf(detail, sizeof(detail), "more logins than %s", wait->limit);
    say_error(lobby, runner, conn, id, USHER__V1__ERROR__CODE__RATE_LIMITED, detail, wait->ms);
    return true;
}

/* A login whose credentials are good. Takes the message. */
static void let_in(const struct lobby *lobby, struct runner *runner, struct attach_message *login)
{
    struct bytes user = bytes_of_text(login->user);
    const struct login_wait wait =
        logins_take(lobby->logins, user, bytes_of_text(login->address), false);
    if (!too_soon(lobby, runner, login->conn, login->id, &wait, user, login->address)) {
        lobby_attach(lobby, runner, login);
        return;
    }
    note_refusal(lobby, login, "it logged in too often", wait.limit, wait.bound);
    message_destroy(&login->header);
}

/* --- logins that are judged ------------------------------------------------------------------- */

static const enum metric_id refusal_metrics[TOKEN_REFUSALS] = {
#define REFUSAL(id, name, text) [TOKEN_##id] = METRIC_logins_refused_##name,
#include "identity/refusal.def"
#undef REFUSAL
};

/* Answers, counts, closes. The username is a name, or empty; the token is told to nobody. */
static void refuse_login(const struct lobby *lobby, struct runner *runner,
                         const struct login_job *job)
{
    const struct attach_message *login = job->attach;
    const char *text = job->detail != NULL ? job->detail : token_refusal_text(job->refusal);
    bool limited = job->refusal == TOKEN_LIMITED;
    metrics_add(lobby->metrics, runner->index, refusal_metrics[job->refusal], 1);
    LOG(lobby->log, LOGIN_REFUSED, LOG_S("reason", token_refusal_name(job->refusal)),
        LOG_S("user", login->user), LOG_S("address", login->address));
    note_refusal(lobby, login, text, limited ? "limits.failed_logins_per_source" : NULL,
                 limited ? limits_failed_logins_per_source(lobby->limits) : 0);
    if (job->refusal == TOKEN_UNAVAILABLE) { /* nobody's fault: it may try again */
        say_error(lobby, runner, login->conn, login->id, USHER__V1__ERROR__CODE__UNAVAILABLE, text,
                  env_spread_ms(lobby->env, BUSY_RETRY_MS));
        return;
    }
    say_error(lobby, runner, login->conn, login->id,
              limited ? USHER__V1__ERROR__CODE__RATE_LIMITED
                      : USHER__V1__ERROR__CODE__UNAUTHENTICATED,
              text, job->retry_after_ms);
    say_close(lobby, runner, login->conn,
              limited ? USHER__V1__CLOSE__REASON__RATE_LIMITED
                      : USHER__V1__CLOSE__REASON__AUTH_FAILED,
              text, job->retry_after_ms);
}

/* A Login that comes when memory is short: it may try again, a Resume is still taken. */
static void refuse_for_memory(const struct lobby *lobby, struct runner *runner, conn_handle conn,
                              uint64_t id, const char *user, const char *address)
{
    const struct refusal refusal = {.kind = HISTORY_LOGIN_REFUSED,
                                    .user = user,
                                    .address = address,
                                    .transport = listener_name(net_listener(lobby->net, conn)),
                                    .detail = "memory was short",
                                    .limit = "limits.memory_bytes",
                                    .bound = limits_memory_bytes(lobby->limits)};
    refusals_note(lobby->refusals, &refusal);
    metrics_add(lobby->metrics, runner->index, METRIC_logins_refused_memory, 1);
    LOG(lobby->log, LIMIT_HIT, LOG_S("limit", "limits.memory_bytes"));
    say_error(lobby, runner, conn, id, USHER__V1__ERROR__CODE__UNAVAILABLE,
              "memory is short (limits.memory_bytes); try again later", BUSY_RETRY_MS);
}

/* Too many wait to be judged: it may try again. */
static void refuse_busy(const struct lobby *lobby, struct runner *runner,
                        const struct attach_message *login, const char *limit, uint64_t bound,
                        const char *detail)
{
    metrics_add(lobby->metrics, runner->index, METRIC_logins_refused_busy, 1);
    LOG(lobby->log, LIMIT_HIT, LOG_S("limit", limit), LOG_S("address", login->address));
    note_refusal(lobby, login, "too many logins waited to be checked", limit, bound);
    say_error(lobby, runner, login->conn, login->id, USHER__V1__ERROR__CODE__BUSY, detail,
              env_spread_ms(lobby->env, BUSY_RETRY_MS));
}

/* Takes the login. */
static void ask_admission(const struct lobby *lobby, struct runner *runner,
                          struct attach_message *login, struct bytes token)
{
    struct login_job *job = admission_job_create(runner->index, login, token);
    if (job == NULL) {
        memory_refused();
        refuse_for_memory(lobby, runner, login->conn, login->id, login->user, login->address);
        message_destroy(&login->header);
        return;
    }
    int error = admission_submit(lobby->admission, job);
    if (error == 0) {
        net_keep(lobby->net, login->conn, job);
        return;
    }
    if (error == -EBUSY) {
        refuse_busy(lobby, runner, login, "limits.logins_waiting",
                    limits_logins_waiting(lobby->limits), "limits.logins_waiting is reached");
    } else if (error == -EDQUOT) {
        refuse_busy(lobby, runner, login, "limits.prelogin_per_source",
                    limits_prelogin_per_source(lobby->limits),
                    "more logins from your address wait to be checked than "
                    "limits.prelogin_per_source");
    } else {
        job->refusal = TOKEN_LIMITED;
        refuse_login(lobby, runner, job);
    }
    admission_job_destroy(job);
}

/* What the verdict says of rooms becomes part of the login, here and not where it was found out:
 * until now the login is read by this thread, too. */
static struct attach_message *with_rooms(struct attach_message *login, const char *rooms)
{
    if (rooms != NULL)
        MEMORY_MUST((login = attach_with_rooms(login, bytes_of_text(rooms))) != NULL, "a login");
    return login;
}

/* Takes the job. */
static void take_verdict(const struct lobby *lobby, struct runner *runner, struct login_job *job)
{
    struct attach_message *login = job->attach;
    CHECK(job->home == runner->index && login != NULL);
    if (job->refusal != TOKEN_LIMITED)
        metrics_add(lobby->metrics, runner->index, METRIC_logins_checked, 1);
    if (net_kept(lobby->net, login->conn) == job) {
        net_keep(lobby->net, login->conn, NULL);
        if (job->refusal == TOKEN_GOOD) {
            job->attach = NULL;
            let_in(lobby, runner, with_rooms(login, job->rooms));
        } else {
            refuse_login(lobby, runner, job);
        }
    }
    admission_job_destroy(job);
}

void lobby_take_verdicts(const struct lobby *lobby, struct runner *runner)
{
    if (lobby->admission == NULL)
        return;
    struct mailbox *verdicts = admission_verdicts(lobby->admission, runner->index);
    if (mailbox_is_idle(verdicts))
        return;
    do {
        struct message *verdict = mailbox_take(verdicts);
        while (verdict != NULL) {
            struct message *next = verdict->next;
            take_verdict(lobby, runner, (struct login_job *)verdict);
            verdict = next;
        }
    } while (!mailbox_mark_idle(verdicts));
}

/* --- frames before login ---------------------------------------------------------------------- */

/* A Login whose name may be attached. */
static void login(const struct lobby *lobby, struct runner *runner, conn_handle conn,
                  const struct client_frame *frame, const char *address)
{
    if (memory_level() >= MEMORY_TIGHT) {
        char user[USERNAME_BYTES_MAX + 1];
        message_copy_text(user, sizeof(user), frame->login.username);
        refuse_for_memory(lobby, runner, conn, frame->id, user, address);
        return;
    }
    struct attach_message *message = message_create(MESSAGE_ATTACH, sizeof(*message));
    message_count_as(&message->header, MEMORY_OF_LOGINS);
    message->conn = conn;
    message->id = frame->id;
    message->stamp_us = env_stamp_us(lobby->env);
    message->token_ends_ms = 0; /* until somebody looks at one */
    message->last_mid = frame->login.last_mid;
    message->acks = frame->login.acks;
    message->listener = (uint8_t)net_listener(lobby->net, conn);
    message_copy_text(message->user, sizeof(message->user), frame->login.username);
    message_copy_text(message->client, sizeof(message->client), frame->login.client);
    message_copy_text(message->address, sizeof(message->address), bytes_of_text(address));
    if (lobby->admission != NULL)
        ask_admission(lobby, runner, message, frame->login.token);
    else
        let_in(lobby, runner, message);
}

/* Whose secret is shown; 0: nobody's. The same work whether there is such a user or not. */
static actor_handle prove(const struct lobby *lobby, const struct client_frame *frame)
{
    struct bytes name = frame->resume.username;
    struct bytes secret = frame->resume.secret;
    actor_handle user = registry_find(lobby->registry, name.data, name.size);
    uint64_t wanted = user != 0 ? registry_proof(lobby->registry, user) : 0;
    uint64_t shown = proof_of_resume(lobby->proof_key, frame->resume.epoch, secret);
    return shown != 0 && shown == wanted ? user : 0;
}

static uint32_t count_positions(struct client_list list)
{
    struct client_position position;
    uint32_t count = 0;
    while (client_list_position(&list, &position))
        count++;
    return count;
}

/* With the positions, of which a frame of that size cannot hold many. */
static struct resume_message *resume_of(const struct client_frame *frame)
{
    struct client_list list = frame->resume.rooms;
    uint32_t count = count_positions(list);
    struct resume_message *message;
    size_t bytes = sizeof(*message) + count * sizeof(message->positions[0]);
    MEMORY_MUST((message = message_create(MESSAGE_RESUME, bytes)) != NULL, "a resume");
    message->position_count = count;
    for (uint32_t i = 0; i < count; i++)
        client_list_position(&list, &message->positions[i]);
    return message;
}

static bool post_resume(const struct lobby *lobby, struct runner *runner, conn_handle conn,
                        const struct client_frame *frame, const char *address, actor_handle user)
{
    struct resume_message *message = resume_of(frame);
    message->conn = conn;
    message->id = frame->id;
    message->epoch = frame->resume.epoch;
    message->last_seq = frame->resume.last_seq;
    message->received_seq = frame->resume.received_seq;
    message->last_mid = frame->resume.last_mid;
    message->listener = (uint8_t)net_listener(lobby->net, conn);
    memcpy(message->secret, frame->resume.secret.data, SECRET_BYTES);
    message_copy_text(message->address, sizeof(message->address), bytes_of_text(address));
    net_bind(lobby->net, conn, user);
    if (scheduler_post(lobby->scheduler, runner, user, &message->header) == 0)
        return true;
    net_bind(lobby->net, conn, 0);
    message_destroy(&message->header);
    return false;
}

static void resume(const struct lobby *lobby, struct runner *runner, conn_handle conn,
                   const struct client_frame *frame, const char *address)
{
    actor_handle user = prove(lobby, frame);
    struct bytes name = frame->resume.username;
    struct login_wait wait = {0};
    if (user != 0)
        wait = logins_take(lobby->logins, name, bytes_of_text(address), true);
    if (too_soon(lobby, runner, conn, frame->id, &wait, name, address)) {
        note_resume_refused(lobby, conn, name, address, "it came back too often", &wait);
        return;
    }
    if (user != 0 && post_resume(lobby, runner, conn, frame, address, user))
        return;
    metrics_add(lobby->metrics, runner->index, METRIC_resumes_rejected, 1);
    note_resume_refused(lobby, conn, name, address,
                        "there is no such session, or it showed another secret",
                        &(struct login_wait){0});
    say_error(lobby, runner, conn, frame->id, USHER__V1__ERROR__CODE__RESUME_REJECTED,
              "no such session to resume; log in", 0);
}

/* Closes for what the gate does not let through. */
static void refuse_frame(const struct lobby *lobby, struct runner *runner, conn_handle conn,
                         const struct gate_decision *decision, const char *address)
{
    bool name = decision->code == USHER__V1__ERROR__CODE__INVALID_NAME;
    if (name)
        metrics_add(lobby->metrics, runner->index, METRIC_logins_refused_name_invalid, 1);
    LOG(lobby->log, LOGIN_REFUSED, LOG_S("reason", name ? "name_invalid" : "protocol"),
        LOG_S("address", address), LOG_S("detail", decision->detail));
    say_close(lobby, runner, conn, decision->reason, decision->detail, 0);
}

void lobby_admit(const struct lobby *lobby, struct runner *runner, conn_handle conn,
                 struct bytes bytes)
{
    struct client_frame frame;
    struct gate_decision decision = gate_frame(bytes, lobby->admission != NULL, &frame);
    char address[NET_ADDRESS_BYTES_MAX] = "";
    metrics_add(lobby->metrics, runner->index, METRIC_frames_in, 1);
    if (decision.verdict != GATE_ANSWER && !net_address(lobby->net, conn, address)) {
        metrics_add(lobby->metrics, runner->index, METRIC_frames_stale, 1);
        return;
    }
    CHECK(net_kept(lobby->net, conn) == NULL); /* one frame, until it is answered */
    if (decision.verdict == GATE_ATTACH) {
        login(lobby, runner, conn, &frame, address);
        return;
    }
    if (decision.verdict == GATE_RESUME) {
        resume(lobby, runner, conn, &frame, address);
        return;
    }
    metrics_add(lobby->metrics, runner->index, METRIC_errors_protocol, 1);
    say_error(lobby, runner, conn, frame.id, decision.code, decision.detail, 0);
    if (decision.verdict == GATE_CLOSE)
        refuse_frame(lobby, runner, conn, &decision, address);
}

/* --- ends ------------------------------------------------------------------------------------- */

static uint32_t close_reason(enum conn_end end)
{
    switch (end) {
    case CONN_LOGIN_DEADLINE:
    case CONN_SILENT:
        return USHER__V1__CLOSE__REASON__AUTH_TIMEOUT;
    case CONN_CONTROL_FLOOD:
        return USHER__V1__CLOSE__REASON__RATE_LIMITED;
    default:
        return USHER__V1__CLOSE__REASON__PROTOCOL_ERROR;
    }
}

/* An unbound connection that this side ends. */
static void close_unbound(const struct lobby *lobby, struct runner *runner, conn_handle conn,
                          enum conn_end end)
{
    bool late = end == CONN_LOGIN_DEADLINE || end == CONN_SILENT;
    const char *text = end_text(late ? CONN_LOGIN_DEADLINE : end);
    char address[NET_ADDRESS_BYTES_MAX];
    net_address(lobby->net, conn, address);
    metrics_add(lobby->metrics, runner->index,
                late ? METRIC_closed_auth_timeout : METRIC_closed_protocol, 1);
    if (late)
        LOG(lobby->log, AUTH_TIMEOUT, LOG_S("address", address));
    else
        LOG(lobby->log, PROTOCOL_ERROR, LOG_S("address", address), LOG_S("detail", text));
    forget_login(lobby, runner, conn,
                 late ? USHER__V1__ERROR__CODE__TIMEOUT : USHER__V1__ERROR__CODE__PROTOCOL, text);
    say_close(lobby, runner, conn, close_reason(end), text, 0);
}

void lobby_end(const struct lobby *lobby, struct runner *runner, conn_handle conn,
               enum conn_end end)
{
    if (end == CONN_LOST || end == CONN_STARVED) {
        net_keep(lobby->net, conn, NULL);
        net_release(lobby->net, conn);
    } else if (end == CONN_STOPPING) {
        forget_login(lobby, runner, conn, USHER__V1__ERROR__CODE__DRAINING, "the broker stops");
        say_close(lobby, runner, conn, USHER__V1__CLOSE__REASON__SHUTDOWN, "the broker stops", 0);
    } else if (end == CONN_DISPLACED) {
        say_close(lobby, runner, conn, USHER__V1__CLOSE__REASON__OVERLOADED,
                  "not logged in yet, and the room is needed (limits.prelogin_connections, "
                  "limits.prelogin_per_source); log in sooner after the connect",
                  env_spread_ms(lobby->env, DISPLACED_RETRY_MS));
    } else {
        close_unbound(lobby, runner, conn, end);
    }
}
