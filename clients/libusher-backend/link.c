/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher-backend/backend.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/chance.h"
#include "common/check.h"
#include "libusher-backend/friends.h"
#include "libusher-backend/pack.h"
#include "libusher-backend/rooms.h"
#include "libusher-backend/stored.h"
#include "proto/link_frame.h"
#include "proto/utf8.h"

/* The link: hello, fetch, submit, again.
 *
 * There is one loop, on the caller's thread, and two connections. `fetch` asks for calls and
 * presence and is answered when there are some; `submit` carries hello and commands. Completions,
 * queued commands and usher_backend_stop all set one eventfd, so the loop has one place to sleep.
 *
 * A request that got no answer (timeout, lost connection) is sent again as it was, on a new
 * connection, after a timeout to the next URL: a fetch changes nothing at the node but by its
 * cursors, and submits are numbered. A link that the node no longer knows is the end of its
 * numbers: hello again, mail from 1, submits from 1. The cursor of presence goes on, because its
 * numbers belong to the node.
 *
 * The cursor of the mail moves when on_call has returned and is told by the next fetch, so a call
 * is lost neither by a crash of this process (the node gives it to another instance) nor by a
 * lost answer (it comes again and is skipped). */

enum {
    IDLE_MS = 1000, /* the loop looks around at least this often */
    BUSY_MS = 200,
    FLUSH_MS = 2000,
    LASTING_MS = 5000,
};

static void backend_error(struct usher_backend *backend, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void backend_error(struct usher_backend *backend, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(backend->error, sizeof(backend->error), format, arguments);
    va_end(arguments);
    utf8_tame(backend->error); /* it is one line for a log, and the node's own words may be in it */
}

const char *usher_backend_error_text(const struct usher_backend *backend)
{
    return backend->error;
}

/* Any answer is a sign of life, so both sides begin to count their failures anew. */
static void tell_linked(struct usher_backend *backend)
{
    char text[URL_BYTES_MAX + 64];
    backend->fetch.failures = backend->submit.failures = 0;
    if (backend->told_linked || backend->link == 0)
        return;
    backend->told_linked = true;
    backend->told_lost = false;
    snprintf(text, sizeof(text), "linked to %s as link %llu", channel_url(backend->submit.channel),
             (unsigned long long)backend->link_number);
    if (backend->on.on_state != NULL)
        backend->on.on_state(backend->context, USHER_BACKEND_LINKED, text);
}

/* The text is in backend->error. */
static void tell_lost(struct usher_backend *backend)
{
    backend->told_linked = false;
    if (backend->told_lost)
        return;
    backend->told_lost = true;
    if (backend->on.on_state != NULL)
        backend->on.on_state(backend->context, USHER_BACKEND_LINK_LOST, backend->error);
}

/* Up to so much, and half of it at least, so that many do not come at the same moment. */
static uint64_t spread(uint64_t most_ms)
{
    return most_ms / 2 + chance_up_to(most_ms - most_ms / 2);
}

/* A link that lasted is made again at once; one that ends as soon as it is made is not, or a node
 * that is out of order would be asked as often as it can answer. */
static void hold_hello(struct usher_backend *backend)
{
    uint64_t now_ms = clock_ms();
    bool lasted = now_ms - backend->linked_ms >= LASTING_MS;
    backend->short_links = lasted ? 0 : backend->short_links + 1;
    if (backend->short_links < 2)
        return;
    unsigned shift = backend->short_links - 2 < 6 ? backend->short_links - 2 : 6;
    backend->submit.retry_at_ms = now_ms + spread((uint64_t)BACKOFF_MS_MIN << shift);
}

static void unlink_from_node(struct usher_backend *backend, const char *why)
{
    backend->link = 0;
    hold_hello(backend);
    backend_error(backend, "the node ended the link (%s); saying hello again", why);
    tell_lost(backend);
}

static const char *error_word(int error)
{
    return error == -ETIMEDOUT    ? "timeout"
           : error == -ECONNRESET ? "connection lost"
                                  : "not what usherd says";
}

/* No answer: the next try comes later, but for the first one after a connection that is lost. That
 * one waits for its dialer, which takes its time. */
static uint64_t wait_after_failure(const struct side *side, int error)
{
    if (error == -ECONNRESET && side->failures == 0)
        return 0;
    unsigned shift = side->failures < 5 ? side->failures : 5;
    uint64_t wait_ms = (uint64_t)BACKOFF_MS_MIN << shift;
    return spread(wait_ms < BACKOFF_MS_MAX ? wait_ms : BACKOFF_MS_MAX);
}

static void side_failed(struct usher_backend *backend, struct side *side, int error)
{
    if (error == -EPERM)
        backend_error(backend,
                      "permission denied at %s: a user may connect whom link.socket_mode and "
                      "link.socket_group of usherd, and the folders above, let in. Trying again",
                      channel_url(side->channel));
    else
        backend_error(backend,
                      "no answer from a node at %s (%s): is usherd running, and is this one "
                      "of its link.urls? Trying again",
                      channel_url(side->channel), error_word(error));
    side->retry_at_ms = clock_ms() + wait_after_failure(side, error);
    side->failures++;
    channel_failed(side->channel, error);
    tell_lost(backend);
}

/* NULL: a peer that does not speak our protocol. */
static const Usher__V1__LinkAnswer *side_decode(struct side *side, struct bytes frame)
{
    const Usher__V1__LinkAnswer *answer;
    arena_reset(&side->arena);
    answer = link_answer_read(&side->arena, frame);
    return answer != NULL && answer->body_case != USHER__V1__LINK_ANSWER__BODY__NOT_SET ? answer
                                                                                        : NULL;
}

int request_pack(struct buffer *out, const Usher__V1__LinkRequest *request)
{
    size_t size = usher__v1__link_request__get_packed_size(request);
    uint8_t *to;
    out->size = 0;
    to = buffer_reserve(out, size + 1); /* never of size 0 */
    if (to == NULL)
        return -ENOMEM;
    out->size = usher__v1__link_request__pack(request, to);
    return 0;
}

/* --- submit: hello and commands --- */

static int hello_build(struct usher_backend *backend)
{
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    Usher__V1__Hello hello = USHER__V1__HELLO__INIT;
    hello.service = backend->service;
    hello.instance = backend->instance;
    hello.incarnation = backend->incarnation;
    hello.token = pack_bytes(backend->token, backend->token_size);
    hello.presence = backend->presence.following;
    hello.presence_after = backend->presence.done;
    hello.node_boot = backend->node_boot;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_HELLO;
    request.hello = &hello;
    return request_pack(&backend->request, &request);
}

static uint32_t clamp(uint32_t value, uint32_t otherwise, uint32_t low, uint32_t high)
{
    if (value == 0)
        value = otherwise;
    return value < low ? low : value > high ? high : value;
}

/* A new link: its numbers begin at 1, and replies to calls of an older one no longer count. */
static void hello_accepted(struct usher_backend *backend, const Usher__V1__Accepted *accepted)
{
    char *boot = strdup(accepted->node_boot);
    if (boot != NULL) {
        free(backend->node_boot);
        backend->node_boot = boot;
    }
    backend->link = accepted->link;
    backend->link_number = accepted->number;
    backend->link_count++;
    backend->linked_ms = clock_ms();
    backend->submit_seq = 0;
    backend->mail_done = 0;
    backend->park_ms = clamp(accepted->park_ms, PARK_MS_DEFAULT, 1, PARK_MS_MAX);
    queue_frame_bytes(&backend->queue, clamp(accepted->frame_bytes_max, FRAME_BYTES_DEFAULT,
                                             FRAME_BYTES_MIN, FRAME_BYTES_MAX));
    presence_linked(backend, accepted->presence_from);
    tell_linked(backend);
}

/* For good when the node knows us and says no; a busy node is asked again. */
static void hello_refused(struct usher_backend *backend, const Usher__V1__Refused *refused)
{
    const char *detail = refused->detail[0] != '\0' ? refused->detail : "no reason given";
    switch (refused->code) {
    case USHER__V1__REFUSED__CODE__BANNED:
        backend_error(backend,
                      "the node refuses service \"%s\", instance \"%s\" (%s): check the "
                      "token and that no newer instance runs under this name",
                      backend->service, backend->instance, detail);
        backend->fatal = -EACCES;
        break;
    case USHER__V1__REFUSED__CODE__MALFORMED:
        backend_error(backend,
                      "the node does not accept the hello of service \"%s\", instance "
                      "\"%s\" (%s)",
                      backend->service, backend->instance, detail);
        backend->fatal = -EINVAL;
        break;
    default:
        backend_error(backend, "the node is busy (%s); saying hello again", detail);
        backend->submit.retry_at_ms = clock_ms() + BUSY_MS;
        break;
    }
    tell_lost(backend);
}

/* What the node did not do goes out again; what it can never do ends. */
static void batch_refused(struct usher_backend *backend, const Usher__V1__Refused *refused)
{
    switch (refused->code) {
    case USHER__V1__REFUSED__CODE__BUSY:
    case USHER__V1__REFUSED__CODE__PIPELINED:
        /* Not done: the same again, a little later. */
        backend->submit.retry_at_ms = clock_ms() + BUSY_MS;
        return;
    case USHER__V1__REFUSED__CODE__STALE_LINK:
        submit_stale(backend);
        break;
    default:
        submit_fail(backend, USHER_BACKEND_MALFORMED);
        submit_undone(backend);
        break;
    }
    backend->pending = PENDING_NONE;
    if (refused->code != USHER__V1__REFUSED__CODE__MALFORMED &&
        backend->batch.link == backend->link)
        unlink_from_node(backend, refused->detail);
}

static void hello_answered(struct usher_backend *backend, const Usher__V1__LinkAnswer *answer)
{
    if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_REFUSED) {
        hello_refused(backend, answer->refused);
        backend->pending = PENDING_NONE;
    } else if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_ACCEPTED &&
               answer->accepted->link != 0) {
        backend->pending = PENDING_NONE;
        hello_accepted(backend, answer->accepted);
    } else {
        side_failed(backend, &backend->submit, -EPROTO);
    }
}

/* An answer that does not fit says nothing of what was done: that is what LOST is for. */
static void batch_answered(struct usher_backend *backend, const Usher__V1__LinkAnswer *answer)
{
    if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_REFUSED) {
        batch_refused(backend, answer->refused);
        return;
    }
    backend->pending = PENDING_NONE;
    if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_RESULTS &&
        submit_results(backend, answer->results)) {
        tell_linked(backend);
        return;
    }
    submit_fail(backend, USHER_BACKEND_LOST);
    if (backend->batch.link == backend->link)
        unlink_from_node(backend, "its results do not fit what was submitted");
}

static void submit_take(struct usher_backend *backend)
{
    struct bytes frame;
    const Usher__V1__LinkAnswer *answer;
    int error = channel_take(backend->submit.channel, &frame);
    if (error == -EAGAIN)
        return;
    CHECK(backend->pending != PENDING_NONE);
    answer = error == 0 ? side_decode(&backend->submit, frame) : NULL;
    if (answer == NULL)
        side_failed(backend, &backend->submit, error != 0 ? error : -EPROTO);
    else if (backend->pending == PENDING_HELLO)
        hello_answered(backend, answer);
    else
        batch_answered(backend, answer);
}

/* What was sent and is not answered goes first, unchanged; then hello; then commands. */
static bool submit_choose(struct usher_backend *backend, uint64_t now_ms)
{
    if (backend->pending != PENDING_NONE)
        return true;
    if (backend->link == 0) {
        if (hello_build(backend) == 0)
            backend->pending = PENDING_HELLO;
    } else if (submit_build(backend, now_ms)) {
        backend->pending = PENDING_SUBMIT;
    }
    return backend->pending != PENDING_NONE;
}

static struct bytes buffer_bytes(const struct buffer *buffer)
{
    return (struct bytes){buffer->data, buffer->size};
}

static void submit_start(struct usher_backend *backend)
{
    struct side *side = &backend->submit;
    uint64_t now_ms = clock_ms();
    int error;
    if (backend->fatal != 0 || !channel_idle(side->channel) || now_ms < side->retry_at_ms ||
        !submit_choose(backend, now_ms))
        return;
    if (backend->pending == PENDING_SUBMIT)
        backend->batch.attempts++;
    error = channel_start(side->channel, buffer_bytes(&backend->request), REQUEST_TIMEOUT_MS);
    if (error != 0)
        side_failed(backend, side, error);
}

/* --- fetch: calls and presence --- */

/* Redelivered is the node's word: another instance may have seen the call. */
static void mail_call(struct usher_backend *backend, const Usher__V1__UserCall *from)
{
    struct usher_backend_call call = {
        .id = {backend->link_count, from->call},
        .user = from->user,
        .epoch = from->epoch,
        .method = from->method,
        .payload = from->payload.data,
        .payload_size = from->payload.len,
        .timeout_ms = from->timeout_ms,
        .redelivered = from->redelivered,
        .traceparent = from->traceparent,
    };
    if (backend->on.on_call != NULL)
        backend->on.on_call(backend->context, &call);
}

static void mail_login(struct usher_backend *backend, const Usher__V1__AuthCall *from)
{
    struct usher_backend_login login = {
        .id = {backend->link_count, from->call},
        .user = from->user,
        .token = from->token.data,
        .token_size = from->token.len,
        .address = from->address,
        .client = from->client,
        .timeout_ms = from->timeout_ms,
        .redelivered = from->redelivered,
    };
    if (backend->on.on_login != NULL)
        backend->on.on_login(backend->context, &login);
}

static void mail_control(struct usher_backend *backend, const Usher__V1__Control *control)
{
    /* After GOAWAY the link is used until the node drops it, so that replies still get out. */
    if (backend->on.on_drain != NULL && control->kind != USHER__V1__CONTROL__KIND__NONE)
        backend->on.on_drain(backend->context, control->kind == USHER__V1__CONTROL__KIND__GOAWAY,
                             control->detail);
}

/* Mail has no gaps within a link, so a gap means that this is not the link we know. */
static void fetch_batch(struct usher_backend *backend, const Usher__V1__Batch *batch)
{
    tell_linked(backend);
    for (size_t i = 0; i < batch->n_mail; i++) {
        const Usher__V1__Mail *mail = batch->mail[i];
        if (mail->seq <= backend->mail_done)
            continue;
        if (mail->seq != backend->mail_done + 1) {
            unlink_from_node(backend, "mail is missing");
            return;
        }
        if (mail->body_case == USHER__V1__MAIL__BODY_CALL)
            mail_call(backend, mail->call);
        else if (mail->body_case == USHER__V1__MAIL__BODY_CONTROL)
            mail_control(backend, mail->control);
        else if (mail->body_case == USHER__V1__MAIL__BODY_AUTH)
            mail_login(backend, mail->auth);
        else if (mail->body_case == USHER__V1__MAIL__BODY_ASK)
            rooms_ask(backend, mail->ask);
        else if (mail->body_case == USHER__V1__MAIL__BODY_NEWS)
            rooms_news(backend, mail->news);
        else if (mail->body_case == USHER__V1__MAIL__BODY_WATCH)
            friends_ask(backend, mail->watch);
        else if (mail->body_case == USHER__V1__MAIL__BODY_STORED)
            stored_notice(backend, mail->stored);
        backend->mail_done = mail->seq;
    }
    presence_batch(backend, batch);
}

static void fetch_refused(struct usher_backend *backend, const Usher__V1__Refused *refused)
{
    backend->fetch.retry_at_ms = clock_ms() + BUSY_MS;
    if (refused->code != USHER__V1__REFUSED__CODE__BUSY &&
        refused->code != USHER__V1__REFUSED__CODE__PIPELINED) {
        backend->fetch.retry_at_ms = 0;
        unlink_from_node(backend, refused->detail);
    }
}

static void fetch_take(struct usher_backend *backend)
{
    struct side *side = &backend->fetch;
    struct bytes frame;
    const Usher__V1__LinkAnswer *answer;
    int error = channel_take(side->channel, &frame);
    if (error == -EAGAIN)
        return;
    answer = error == 0 ? side_decode(side, frame) : NULL;
    if (answer == NULL)
        side_failed(backend, side, error != 0 ? error : -EPROTO);
    else if (side->link != backend->link)
        return; /* about a link of the past */
    else if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_BATCH)
        fetch_batch(backend, answer->batch);
    else if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_REFUSED)
        fetch_refused(backend, answer->refused);
    else
        side_failed(backend, side, -EPROTO);
}

static int fetch_send(struct usher_backend *backend)
{
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    Usher__V1__Fetch fetch = USHER__V1__FETCH__INIT;
    struct buffer packed = {0};
    uint32_t park_ms = backend->wait_ms != 0 && backend->wait_ms < backend->park_ms
                           ? backend->wait_ms
                           : backend->park_ms;
    int error;
    fetch.link = backend->fetch.link = backend->link;
    fetch.mail_done = backend->mail_done;
    fetch.presence_done = backend->presence.done;
    fetch.wait_ms = backend->wait_ms;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_FETCH;
    request.fetch = &fetch;
    error = request_pack(&packed, &request);
    if (error == 0)
        error =
            channel_start(backend->fetch.channel, buffer_bytes(&packed), park_ms + FETCH_SLACK_MS);
    buffer_fini(&packed);
    return error;
}

/* While events wait for a picture, the arena of the last fetch must stay as it is. */
static void fetch_start(struct usher_backend *backend)
{
    struct side *side = &backend->fetch;
    int error;
    if (backend->fatal != 0 || backend->link == 0 || !channel_idle(side->channel) ||
        clock_ms() < side->retry_at_ms || presence_holds(&backend->presence))
        return;
    error = fetch_send(backend);
    if (error != 0)
        side_failed(backend, side, error);
}

/* --- the loop --- */

static uint64_t earlier(uint64_t now_ms, uint64_t at_ms, uint64_t wait_ms)
{
    return at_ms > now_ms && at_ms - now_ms < wait_ms ? at_ms - now_ms : wait_ms;
}

/* Until the first of all that is due, for a look that began at now_ms: what has become due since
 * then may not have been done by it. */
static int loop_wait_ms(const struct usher_backend *backend, uint64_t now_ms, uint64_t end_ms)
{
    uint64_t wait_ms = IDLE_MS;
    wait_ms = earlier(now_ms, backend->submit.retry_at_ms, wait_ms);
    wait_ms = earlier(now_ms, backend->fetch.retry_at_ms, wait_ms);
    wait_ms = earlier(now_ms, backend->presence.page_at_ms, wait_ms);
    wait_ms = earlier(now_ms, channel_due_ms(backend->submit.channel), wait_ms);
    wait_ms = earlier(now_ms, channel_due_ms(backend->fetch.channel), wait_ms);
    return (int)earlier(now_ms, end_ms, wait_ms);
}

/* What was queued when the stop came should still get out; calls are no longer fetched. */
static void flush(struct usher_backend *backend)
{
    uint64_t end_ms = clock_ms() + FLUSH_MS;
    while (backend->link != 0 && backend->fatal == 0 && clock_ms() < end_ms) {
        uint64_t now_ms = clock_ms();
        submit_take(backend);
        submit_start(backend);
        if (backend->pending == PENDING_NONE && queue_empty(&backend->queue))
            return;
        wake_wait(backend->wake, loop_wait_ms(backend, now_ms, end_ms));
    }
}

static int run(struct usher_backend *backend, int timeout_ms)
{
    uint64_t end_ms = clock_end_ms(timeout_ms);
    while (!atomic_load(&backend->stopping)) {
        uint64_t now_ms = clock_ms();
        /* First all that has come, then all that follows from it: a fetch that is told of a link
         * that has ended is followed by a hello at once, and a hello by a fetch. */
        fetch_take(backend);
        submit_take(backend);
        submit_start(backend);
        fetch_start(backend);
        if (backend->fatal != 0)
            return backend->fatal;
        /* A callback may have stopped us; a completion may have come in meanwhile: the eventfd
         * remembers both. */
        if (atomic_load(&backend->stopping))
            break;
        if (clock_ms() >= end_ms)
            return -ETIMEDOUT;
        wake_wait(backend->wake, loop_wait_ms(backend, now_ms, end_ms));
    }
    flush(backend);
    return 0;
}

int usher_backend_run(struct usher_backend *backend, int timeout_ms)
{
    if (atomic_exchange(&backend->running, true))
        return -EALREADY;
    int result = run(backend, timeout_ms);
    atomic_store(&backend->running, false);
    return result;
}

void usher_backend_stop(struct usher_backend *backend)
{
    int saved = errno;
    atomic_store(&backend->stopping, true);
    wake_set(backend->wake);
    errno = saved;
}
