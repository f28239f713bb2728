/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "actors/gate.h"
#include "base/check.h"
#include "broker/parts.h"
#include "proto/arena.h"
#include "proto/broker_frame.h"
#include "client.pb-c.h"
#include "proto/frame.h"
#include "proto/link_frame.h"

/* Everything that arrives, turned into posts.
 *
 * A connection is unbound until a Login or Resume was posted to its user's actor; until then the
 * gate decides and the I/O thread itself answers, because the write side is its own. From the
 * post on, all of its frames go to that actor, which answers. Order is kept by the mailbox: the
 * login first, what was read behind it after.
 *
 * With auth.mode other than open a Login waits for the admission threads in between. Its
 * connection stays unbound, with all the limits of that, and remembers the job (net_keep).
 * Whatever ends the wait early, a request out of place or the connection's end, forgets the job;
 * the verdict of a job that nobody remembers is dropped. */

enum { BUSY_RETRY_MS = 1000, BATCHES_PER_SAMPLE = 64 };

static const char *end_text(enum conn_end end)
{
    switch (end) {
    case CONN_LOGIN_DEADLINE:
        return "log in within the deadline";
    case CONN_PRELOGIN_BYTES:
        return "too many bytes before the login";
    case CONN_FRAME_TOO_LARGE:
        return "a frame larger than frame_bytes_max";
    default:
        return "a frame length of more than five bytes";
    }
}

/* --- unbound connections: the I/O thread answers ---------------------------------------------- */

static void say(struct broker *broker, struct thread *thread, conn_handle conn,
                const struct buffer *out)
{
    net_write(broker->net, thread->runner.index, conn, out->data, out->size);
}

static void say_error(struct broker *broker, struct thread *thread, conn_handle conn, uint64_t id,
                      uint32_t code, const char *detail, uint32_t retry_after_ms)
{
    struct buffer out = {0};
    if (id != 0 && broker_frame_error(&out, id, code, detail, retry_after_ms) == 0)
        say(broker, thread, conn, &out);
    buffer_fini(&out);
}

static void say_close(struct broker *broker, struct thread *thread, conn_handle conn,
                      uint32_t reason, const char *detail, uint32_t retry_after_ms)
{
    struct buffer out = {0};
    if (broker_frame_close(&out, reason, detail, retry_after_ms, false) == 0)
        say(broker, thread, conn, &out);
    buffer_fini(&out);
    net_release(broker->net, conn);
}

/* A Login that waits for its verdict waits no more; it is answered. */
static void forget_login(struct broker *broker, struct thread *thread, conn_handle conn,
                         uint32_t code, const char *detail)
{
    const struct login_job *job = net_kept(broker->net, conn);
    if (job == NULL)
        return;
    net_keep(broker->net, conn, NULL);
    say_error(broker, thread, conn, job->attach->id, code, detail, 0);
}

/* A few threads that look at the same time may let in a few more. */
static bool is_one_too_many(struct broker *broker, const struct attach_message *attach)
{
    uint32_t users = registry_count(broker->registry) -
                     atomic_load_explicit(&broker->counters.instances, memory_order_relaxed);
    return users >= broker->options->limits_users &&
           registry_find(broker->registry, attach->user, strlen(attach->user)) == 0;
}

bool ingress_attach(struct broker *broker, struct runner *runner, struct attach_message *attach)
{
    if (is_one_too_many(broker, attach))
        return false;
    /* The actor may retire between the claim and the post; then the next claim makes a new one. */
    for (;;) {
        actor_handle user = registry_claim(broker->registry, attach->user, strlen(attach->user),
                                           &user_behaviour);
        net_bind(broker->net, attach->conn, user);
        if (user == 0)
            return false;
        if (scheduler_post(broker->scheduler, runner, user, &attach->header, 0) == 0)
            return true;
    }
}

/* Takes the message. False: it was answered, the connection stays unbound. */
static bool attach(struct broker *broker, struct thread *thread, struct attach_message *message)
{
    if (ingress_attach(broker, &thread->runner, message))
        return true;
    LOG(broker->log, LIMIT_HIT, LOG_S("limit", "limits.users"),
        LOG_U("users", registry_count(broker->registry)));
    say_error(broker, thread, message->conn, message->id, USHER__V1__ERROR__CODE__BUSY,
              "limits.users is reached", BUSY_RETRY_MS);
    message_destroy(&message->header);
    return false;
}

/* A login whose actor had retired before it came there; it has been judged. */
static void on_returned(void *context, void *thread_, conn_handle conn, void *item)
{
    attach(context, thread_, item);
}

/* --- logins that are judged ---------------------------------------------------------------------- */

static const enum metric_id refusal_metrics[TOKEN_REFUSALS] = {
#define REFUSAL(id, name, text) [TOKEN_##id] = METRIC_logins_refused_##name,
#include "identity/refusal.def"
#undef REFUSAL
};

/* Answers, counts, closes. The username is a name, or empty; the token is told to nobody. */
static void refuse_login(struct broker *broker, struct thread *thread, const struct login_job *job)
{
    const struct attach_message *login = job->attach;
    const char *text = token_refusal_text(job->refusal);
    bool limited = job->refusal == TOKEN_LIMITED;
    metrics_add(broker->metrics, thread->runner.index, refusal_metrics[job->refusal], 1);
    LOG(broker->log, LOGIN_REFUSED, LOG_S("reason", token_refusal_name(job->refusal)),
        LOG_S("user", login->user), LOG_S("address", login->address));
    if (job->refusal == TOKEN_UNAVAILABLE) { /* nobody's fault: it may try again */
        say_error(broker, thread, login->conn, login->id, USHER__V1__ERROR__CODE__UNAVAILABLE,
                  text, BUSY_RETRY_MS);
        return;
    }
    say_error(broker, thread, login->conn, login->id,
              limited ? USHER__V1__ERROR__CODE__RATE_LIMITED
                      : USHER__V1__ERROR__CODE__UNAUTHENTICATED,
              text, job->retry_after_ms);
    say_close(broker, thread, login->conn,
              limited ? USHER__V1__CLOSE__REASON__RATE_LIMITED
                      : USHER__V1__CLOSE__REASON__AUTH_FAILED,
              text, job->retry_after_ms);
}

/* Takes the login. True: the connection is closed. */
static bool ask_admission(struct broker *broker, struct thread *thread,
                          struct attach_message *login, struct bytes token)
{
    struct login_job *job = login_job_create(thread, login, token);
    CHECK_DEBT(job != NULL, "no memory for a login");
    int error = admission_submit(broker->admission, job);
    if (error == 0) {
        net_keep(broker->net, login->conn, job);
        return false;
    }
    if (error == -EBUSY) {
        metrics_add(broker->metrics, thread->runner.index, METRIC_logins_refused_busy, 1);
        LOG(broker->log, LIMIT_HIT, LOG_S("limit", "limits.logins_waiting"));
        say_error(broker, thread, login->conn, login->id, USHER__V1__ERROR__CODE__BUSY,
                  "limits.logins_waiting is reached", BUSY_RETRY_MS);
    } else {
        job->refusal = TOKEN_LIMITED;
        refuse_login(broker, thread, job);
    }
    login_job_destroy(job);
    return error != -EBUSY;
}

/* Takes the job. */
static void take_verdict(struct broker *broker, struct thread *thread, struct login_job *job)
{
    struct attach_message *login = job->attach;
    if (job->refusal != TOKEN_LIMITED)
        metrics_add(broker->metrics, thread->runner.index, METRIC_logins_checked, 1);
    if (net_kept(broker->net, login->conn) == job) {
        net_keep(broker->net, login->conn, NULL);
        if (job->refusal == TOKEN_GOOD) {
            job->attach = NULL;
            attach(broker, thread, login);
        } else {
            refuse_login(broker, thread, job);
        }
    }
    login_job_destroy(job);
}

static void take_verdicts(struct broker *broker, struct thread *thread)
{
    if (mailbox_is_idle(&thread->verdicts))
        return;
    do {
        struct message *verdict = mailbox_take(&thread->verdicts);
        while (verdict != NULL) {
            struct message *next = verdict->next;
            take_verdict(broker, thread, (struct login_job *)verdict);
            verdict = next;
        }
    } while (!mailbox_mark_idle(&thread->verdicts));
}

/* --- frames before login ------------------------------------------------------------------------- */

/* A Login whose name may be attached. True: the connection is bound now, or closed. */
static bool login(struct broker *broker, struct thread *thread, conn_handle conn,
                  const struct client_frame *frame, bool *bound)
{
    struct attach_message *message = message_create(MESSAGE_ATTACH, sizeof(*message));
    CHECK_DEBT(message != NULL, "no memory for a login");
    message->conn = conn;
    message->id = frame->id;
    message->stamp_us = env_stamp_us(broker->env);
    message->acks = frame->login.acks;
    text_copy(message->user, sizeof(message->user), frame->login.username);
    text_copy(message->client, sizeof(message->client), frame->login.client);
    net_address(broker->net, conn, message->address);
    if (broker->admission != NULL)
        return ask_admission(broker, thread, message, frame->login.token);
    return *bound = attach(broker, thread, message);
}

static bool resume(struct broker *broker, struct thread *thread, conn_handle conn,
                   const struct client_frame *frame)
{
    struct bytes name = frame->resume.username;
    struct bytes secret = frame->resume.secret;
    struct resume_message *message = message_create(MESSAGE_RESUME, sizeof(*message));
    CHECK_DEBT(message != NULL, "no memory for a resume");
    message->conn = conn;
    message->id = frame->id;
    message->epoch = frame->resume.epoch;
    message->last_seq = frame->resume.last_seq;
    message->secret_given = secret.size == SECRET_BYTES;
    memset(message->secret, 0, SECRET_BYTES);
    if (message->secret_given)
        memcpy(message->secret, secret.data, SECRET_BYTES);
    net_address(broker->net, conn, message->address);
    actor_handle user = registry_find(broker->registry, name.data, name.size);
    if (user != 0) {
        net_bind(broker->net, conn, user);
        if (scheduler_post(broker->scheduler, &thread->runner, user, &message->header, 0) == 0)
            return true;
        net_bind(broker->net, conn, 0);
    }
    message_destroy(&message->header);
    metrics_add(broker->metrics, thread->runner.index, METRIC_resumes_rejected, 1);
    say_error(broker, thread, conn, frame->id, USHER__V1__ERROR__CODE__RESUME_REJECTED,
              "no such session to resume; log in", 0);
    return false;
}

/* Closes for what the gate does not let through. */
static void refuse_frame(struct broker *broker, struct thread *thread, conn_handle conn,
                         const struct gate_decision *decision)
{
    char address[NET_ADDRESS_BYTES_MAX];
    bool name = decision->code == USHER__V1__ERROR__CODE__INVALID_NAME;
    net_address(broker->net, conn, address);
    if (name)
        metrics_add(broker->metrics, thread->runner.index, METRIC_logins_refused_name_invalid, 1);
    LOG(broker->log, LOGIN_REFUSED, LOG_S("reason", name ? "name_invalid" : "protocol"),
        LOG_S("address", address), LOG_S("detail", decision->detail));
    forget_login(broker, thread, conn, decision->code, decision->detail);
    say_close(broker, thread, conn, decision->reason, decision->detail, 0);
}

/* One frame before login. True: the connection is bound now, or closed. */
static bool admit(struct broker *broker, struct thread *thread, conn_handle conn,
                  struct bytes bytes, bool *bound)
{
    struct client_frame frame;
    struct gate_decision decision = gate_frame(bytes, broker->admission != NULL, &frame);
    bool request = decision.verdict == GATE_ATTACH || decision.verdict == GATE_RESUME;
    if (request && net_kept(broker->net, conn) != NULL)
        decision = gate_impatience();
    metrics_add(broker->metrics, thread->runner.index, METRIC_frames_in, 1);
    if (decision.verdict == GATE_ATTACH)
        return login(broker, thread, conn, &frame, bound);
    if (decision.verdict == GATE_RESUME)
        return *bound = resume(broker, thread, conn, &frame);
    metrics_add(broker->metrics, thread->runner.index, METRIC_errors_protocol, 1);
    say_error(broker, thread, conn, frame.id, decision.code, decision.detail, 0);
    if (decision.verdict == GATE_ANSWER)
        return false;
    refuse_frame(broker, thread, conn, &decision);
    return true;
}

static void post_frames(struct broker *broker, struct thread *thread, conn_handle conn,
                        uint64_t owner, struct bytes frames, bool welcomed)
{
    struct frames_message *message =
        message_create(MESSAGE_FRAMES, sizeof(*message) + frames.size);
    CHECK_DEBT(message != NULL, "no memory for frames");
    message->conn = conn;
    message->stamp_us =
        ++thread->batches % BATCHES_PER_SAMPLE == 0 ? env_stamp_us(broker->env) : 0;
    message->welcomed = welcomed;
    message->done = 0;
    message->size = (uint32_t)frames.size;
    memcpy(message->bytes, frames.data, frames.size);
    if (scheduler_post(broker->scheduler, &thread->runner, owner, &message->header, 0) != 0) {
        /* The session has ended; the connection is about to be closed. */
        message_destroy(&message->header);
        net_consumed(broker->net, conn);
        metrics_add(broker->metrics, thread->runner.index, METRIC_frames_stale, 1);
    }
}

static void on_frames(void *context, void *thread_, conn_handle conn, uint64_t owner,
                      struct bytes frames, bool welcomed)
{
    struct broker *broker = context;
    struct thread *thread = thread_;
    if (owner != 0) {
        post_frames(broker, thread, conn, owner, frames, welcomed);
        return;
    }
    bool done = false;
    bool bound = false;
    while (!done && frames.size > 0) {
        struct bytes frame;
        size_t used;
        CHECK(frame_next(frames, broker->settings.frame_bytes_max, &frame, &used) == 1);
        frames = (struct bytes){frames.data + used, frames.size - used};
        done = admit(broker, thread, conn, frame, &bound);
    }
    if (bound && frames.size > 0)
        post_frames(broker, thread, conn, net_owner(broker->net, conn), frames, false);
    else
        net_consumed(broker->net, conn);
}

/* --- ends ------------------------------------------------------------------------------------- */

/* An unbound connection that this side ends. */
static void close_unbound(struct broker *broker, struct thread *thread, conn_handle conn,
                          enum conn_end end)
{
    bool late = end == CONN_LOGIN_DEADLINE || end == CONN_SILENT;
    const char *text = end_text(late ? CONN_LOGIN_DEADLINE : end);
    char address[NET_ADDRESS_BYTES_MAX];
    net_address(broker->net, conn, address);
    metrics_add(broker->metrics, thread->runner.index,
                late ? METRIC_closed_auth_timeout : METRIC_closed_protocol, 1);
    if (late)
        LOG(broker->log, AUTH_TIMEOUT, LOG_S("address", address));
    else
        LOG(broker->log, PROTOCOL_ERROR, LOG_S("address", address), LOG_S("detail", text));
    forget_login(broker, thread, conn,
                 late ? USHER__V1__ERROR__CODE__TIMEOUT : USHER__V1__ERROR__CODE__PROTOCOL, text);
    say_close(broker, thread, conn,
              late ? USHER__V1__CLOSE__REASON__AUTH_TIMEOUT
                   : USHER__V1__CLOSE__REASON__PROTOCOL_ERROR,
              text, 0);
}

static void end_unbound(struct broker *broker, struct thread *thread, conn_handle conn,
                        enum conn_end end)
{
    if (end == CONN_LOST) {
        net_keep(broker->net, conn, NULL);
        net_release(broker->net, conn);
    } else if (end == CONN_STOPPING) {
        forget_login(broker, thread, conn, USHER__V1__ERROR__CODE__DRAINING, "the broker stops");
        say_close(broker, thread, conn, USHER__V1__CLOSE__REASON__SHUTDOWN, "the broker stops",
                  0);
    } else {
        close_unbound(broker, thread, conn, end);
    }
}

static void on_end(void *context, void *thread_, conn_handle conn, uint64_t owner,
                   enum conn_end end)
{
    static const enum loss losses[] = {
        [CONN_LOST] = LOSS_GONE,           [CONN_BROKEN_FRAME] = LOSS_PROTOCOL,
        [CONN_FRAME_TOO_LARGE] = LOSS_TOO_LARGE, [CONN_PRELOGIN_BYTES] = LOSS_TOO_LARGE,
        [CONN_LOGIN_DEADLINE] = LOSS_SILENT, [CONN_SILENT] = LOSS_SILENT,
        [CONN_SLOW] = LOSS_SLOW,           [CONN_STOPPING] = LOSS_GONE,
        [CONN_EVICTED] = LOSS_SLOW,
    };
    struct broker *broker = context;
    struct thread *thread = thread_;
    if (owner == 0) {
        end_unbound(broker, thread, conn, end);
        return;
    }
    struct conn_end_message *message = message_create(MESSAGE_CONN_END, sizeof(*message));
    CHECK_DEBT(message != NULL, "no memory for an event");
    message->conn = conn;
    message->loss = losses[end];
    /* An actor that is gone has released its connection, or left it unbound, on its way. */
    if (scheduler_post(broker->scheduler, &thread->runner, owner, &message->header, 0) != 0)
        message_destroy(&message->header);
}

static void on_writable(void *context, void *thread_, conn_handle conn, uint64_t owner)
{
    struct broker *broker = context;
    struct thread *thread = thread_;
    struct writable_message *message = message_create(MESSAGE_WRITABLE, sizeof(*message));
    CHECK_DEBT(message != NULL, "no memory for an event");
    message->conn = conn;
    if (scheduler_post(broker->scheduler, &thread->runner, owner, &message->header, 0) != 0)
        message_destroy(&message->header);
}

static void on_begin(void *context, void *thread_, uint64_t now_ms)
{
    struct broker *broker = context;
    struct thread *thread = thread_;
    thread->runner.now_ms = now_ms;
    thread->runner.wall_ms = env_wall_ms(broker->env);
    if (broker->admission != NULL)
        take_verdicts(broker, thread);
}

/* An I/O thread runs what its batch caused. Beyond this many turns it looks at its sockets first
 * and leaves the rest to whoever is free. */
enum { BATCH_TURNS_MAX = 4096 };

static bool on_batch_end(void *context, void *thread_)
{
    struct broker *broker = context;
    struct thread *thread = thread_;
    scheduler_run(broker->scheduler, &thread->runner, BATCH_TURNS_MAX);
    if (!scheduler_backlog(broker->scheduler))
        return false;
    scheduler_wake(broker->scheduler);
    return true;
}

/* --- backends --------------------------------------------------------------------------------- */

static void refuse_link(struct broker *broker, uint64_t exchange, uint32_t code,
                        const char *detail)
{
    struct buffer out = {0};
    metrics_add(broker->metrics, 0, METRIC_link_refused, 1);
    LOG(broker->log, LINK_REFUSED, LOG_U("code", code), LOG_S("detail", detail));
    instance_refusal(&out, code, detail);
    link_answer(broker->link, exchange, (struct bytes){out.data, out.size});
    buffer_fini(&out);
}

/* The actor that a request is for, or 0 with the refusal sent. */
static actor_handle link_target(struct broker *broker, uint64_t exchange,
                                const Usher__V1__LinkRequest *request)
{
    char key[INSTANCE_KEY_BYTES];
    uint64_t id;
    if (request->body_case == USHER__V1__LINK_REQUEST__BODY_HELLO) {
        if (!instance_key(request->hello, key)) {
            refuse_link(broker, exchange, USHER__V1__REFUSED__CODE__MALFORMED,
                        "Hello: service and instance must be names");
            return 0;
        }
        id = registry_find(broker->registry, key, strlen(key));
        if (id == 0 && atomic_load(&broker->counters.instances) < broker_instances_max(broker))
            id = registry_claim(broker->registry, key, strlen(key), &instance_behaviour);
    } else if (request->body_case == USHER__V1__LINK_REQUEST__BODY_SUBMIT &&
               request->submit->link == 0) {
        id = registry_claim(broker->registry, INSTANCE_VISITORS, strlen(INSTANCE_VISITORS),
                            &instance_behaviour);
    } else {
        uint64_t link = request->body_case == USHER__V1__LINK_REQUEST__BODY_SUBMIT
                            ? request->submit->link
                            : request->fetch->link;
        id = registry_at(broker->registry, (uint32_t)link & 0xffffff);
        if (id == 0 || link == 0) {
            refuse_link(broker, exchange, USHER__V1__REFUSED__CODE__STALE_LINK,
                        "this link is not known; say Hello again");
            return 0;
        }
    }
    if (id == 0)
        refuse_link(broker, exchange, USHER__V1__REFUSED__CODE__BUSY,
                    "no room for another instance; see limits.services");
    return id;
}

static uint64_t on_request(void *context, uint64_t exchange, struct bytes frame)
{
    struct broker *broker = context;
    struct arena arena;
    actor_handle target = 0;
    if (arena_init(&arena, INSTANCE_ARENA_BYTES) != 0) {
        refuse_link(broker, exchange, USHER__V1__REFUSED__CODE__BUSY, "no memory");
        return 0;
    }
    const Usher__V1__LinkRequest *request = link_request_read(&arena, frame);
    if (request == NULL || request->body_case == USHER__V1__LINK_REQUEST__BODY__NOT_SET)
        refuse_link(broker, exchange, USHER__V1__REFUSED__CODE__MALFORMED,
                    "not a LinkRequest that this version knows");
    else
        target = link_target(broker, exchange, request);
    arena_fini(&arena);
    if (target == 0)
        return 0;
    struct link_request_message *message =
        message_create(MESSAGE_LINK_REQUEST, sizeof(*message) + frame.size);
    CHECK_DEBT(message != NULL, "no memory for a backend request");
    message->exchange = exchange;
    message->size = (uint32_t)frame.size;
    memcpy(message->bytes, frame.data, frame.size);
    if (scheduler_post(broker->scheduler, NULL, target, &message->header, 0) != 0) {
        message_destroy(&message->header);
        refuse_link(broker, exchange, USHER__V1__REFUSED__CODE__STALE_LINK,
                    "this link is gone; say Hello again");
        return 0;
    }
    return target;
}

static void on_gone(void *context, uint64_t owner, uint64_t exchange)
{
    struct broker *broker = context;
    struct link_gone_message *message = message_create(MESSAGE_LINK_GONE, sizeof(*message));
    CHECK_DEBT(message != NULL, "no memory for an event");
    message->exchange = exchange;
    if (scheduler_post(broker->scheduler, NULL, owner, &message->header, 0) != 0)
        message_destroy(&message->header);
}

void ingress_wire(struct broker *broker)
{
    broker->net_events = (struct net_events){
        .context = broker,
        .on_begin = on_begin,
        .on_frames = on_frames,
        .on_end = on_end,
        .on_writable = on_writable,
        .on_returned = on_returned,
        .on_batch_end = on_batch_end,
    };
    broker->link_events = (struct link_events){
        .on_request = on_request, .on_gone = on_gone, .context = broker};
}
