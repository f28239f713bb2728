/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "actors/held.h"
#include "base/check.h"
#include "base/memory.h"
#include "base/passage.h"
#include "instance/instance.h"
#include "operate/backends_private.h"
#include "proto/link_frame.h"

/* A request of a backend, from HTTP to an actor and back.
 *
 * It becomes a Submit of one command, without a link and a lane, and goes to one actor for all of
 * HTTP, which is an instance in all but name: so a push or a question means here what it means on
 * the link, and waits in the same lines. Its exchange names a place in the table below and what was
 * posted from there last; the answer, which the thread of that actor's turn brings, finds the place
 * by it, or nobody any more. Nothing of JSON or HTTP is done there: it copies a frame and resumes a
 * connection, and the HTTP thread reads what came.
 *
 * As many wait as http.requests and http.waits say; one more is BUSY and waits for nobody. What
 * waits has a deadline, so a place comes back also when a disk hangs. Then the command may still
 * take effect, and who asked is told so. It goes on being held, and whoever is told may come again
 * for as long as the disk hangs: so when as many are under way whom nobody waits for any more as
 * there are places, others are BUSY until some of them have ended. */

enum { ASK_MS = 10000 };

/* --- places ----------------------------------------------------------------------------------- */

unsigned ask_busy(struct backends *backends, json_t *answer, const char *option)
{
    metrics_add(backends->options.metrics, backends->options.block, METRIC_http_busy, 1);
    return admin_fail(answer, 429, "BUSY", option);
}

unsigned ask_draining(json_t *answer)
{
    return admin_fail(answer, 503, "DRAINING",
                      "the broker stops; what was asked for may have taken effect");
}

struct ask *ask_take(struct backends *backends, struct exchange *exchange,
                     const struct admin_query *query, unsigned route, bool waits)
{
    struct ask *ask = NULL;
    lock_take(&backends->lock);
    uint32_t *count = waits ? &backends->waits : &backends->requests;
    uint32_t places = backends->requests_max + backends->waits_max;
    if (*count < (waits ? backends->waits_max : backends->requests_max) &&
        backends->under_way < 2 * places) {
        ask = backends->asks;
        while (ask->state != ASK_FREE)
            ask++;
        (*count)++;
        *ask = (struct ask){.index = ask->index, .generation = ask->generation};
        ask->state = ASK_IDLE;
        ask->waits = waits;
        ask->exchange = exchange;
        ask->route = route;
        message_copy_text(ask->address, sizeof(ask->address),
                          bytes_of_text(query->address[0] != '\0' ? query->address : "?"));
    }
    lock_give(&backends->lock);
    if (ask != NULL)
        admin_set_own(exchange, ask);
    return ask;
}

void backends_over(void *context, void *own)
{
    struct backends *backends = context;
    struct ask *ask = own;
    held_fini(&ask->text);
    lock_take(&backends->lock);
    CHECK(ask->state != ASK_FREE && !ask->suspended);
    held_fini(&ask->frame);
    ask->state = ASK_FREE;
    ask->generation++;
    if (ask->waits)
        backends->waits--;
    else
        backends->requests--;
    pthread_cond_broadcast(&backends->over);
    lock_give(&backends->lock);
}

/* --- there ------------------------------------------------------------------------------------ */

static uint64_t exchange_of(const struct ask *ask)
{
    return (uint64_t)ask->generation << 32 | EXCHANGE_OF_HTTP | ask->index;
}

/* Who wrote it would be told only by the actor that it is too much for it. */
static bool can_be_read(struct backends *backends, const struct link_request_message *message)
{
    struct arena arena;
    if (arena_init(&arena, INSTANCE_ARENA_BYTES) != 0)
        return false;
    const Usher__V1__LinkRequest *request =
        link_request_read(&arena, (struct bytes){message->bytes, message->size});
    bool good = request != NULL &&
                instance_submit_fault(request->submit, true, backends->options.limits) == NULL;
    arena_fini(&arena);
    return good;
}

struct link_request_message *ask_wrap(const struct ask *ask, const Usher__V1__Command *command)
{
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    Usher__V1__Submit submit = USHER__V1__SUBMIT__INIT;
    Usher__V1__Command *commands[] = {(Usher__V1__Command *)command};
    submit.n_commands = 1;
    submit.commands = commands;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_SUBMIT;
    request.submit = &submit;
    size_t size = usher__v1__link_request__get_packed_size(&request);
    struct link_request_message *message =
        message_create(MESSAGE_LINK_REQUEST, sizeof(*message) + size);
    if (message == NULL)
        return NULL;
    message->stranger = false;
    memcpy(message->by_http, ask->address, sizeof(message->by_http));
    message->size = (uint32_t)size;
    usher__v1__link_request__pack(&request, message->bytes);
    return message;
}

void ask_wake(struct backends *backends, struct ask *ask)
{
    CHECK(lock_held(&backends->lock) && ask->state != ASK_POSTED && ask->state != ASK_PARKED);
    if (ask->suspended)
        admin_resume(ask->exchange);
    ask->suspended = false;
}

uint64_t ask_set_posted(struct backends *backends, struct ask *ask)
{
    CHECK(lock_held(&backends->lock) && ask->state != ASK_FREE && ask->state != ASK_POSTED);
    ask->generation++;
    backends->under_way++;
    ask->state = ASK_POSTED;
    ask->due_ms = env_monotonic_ms(backends->options.env) + ASK_MS;
    return exchange_of(ask);
}

static struct ask *ask_of(struct backends *backends, uint64_t exchange)
{
    CHECK(lock_held(&backends->lock));
    uint32_t index = (uint32_t)exchange & (EXCHANGE_OF_HTTP - 1);
    if (index >= backends->requests_max + backends->waits_max)
        return NULL;
    struct ask *ask = &backends->asks[index];
    return ask->state == ASK_POSTED && exchange_of(ask) == exchange ? ask : NULL;
}

void ask_send(struct backends *backends, uint64_t exchange, struct link_request_message *message)
{
    if (message != NULL) {
        message->exchange = exchange;
        passage_enter(backends->options.passage);
        int error =
            scheduler_post(backends->options.scheduler, NULL, backends->actor, &message->header);
        passage_leave(backends->options.passage);
        if (error == 0)
            return;
        message_destroy(&message->header);
    }
    backends_answer(backends, exchange, (struct bytes){0});
}

bool ask_post(struct backends *backends, struct ask *ask, struct link_request_message *message)
{
    uint64_t exchange = 0;
    lock_take(&backends->lock);
    bool open = !backends->closing;
    if (open) {
        CHECK(ask->state == ASK_IDLE && !ask->suspended);
        exchange = ask_set_posted(backends, ask);
        ask->suspended = true;
        admin_suspend(ask->exchange);
    }
    lock_give(&backends->lock);
    if (open)
        ask_send(backends, exchange, message);
    else if (message != NULL)
        message_destroy(&message->header);
    return open;
}

/* --- and back --------------------------------------------------------------------------------- */

void backends_answer(void *context, uint64_t exchange, struct bytes frame)
{
    struct backends *backends = context;
    lock_take(&backends->lock);
    CHECK(backends->under_way > 0); /* each is answered once */
    backends->under_way--;
    struct ask *ask = ask_of(backends, exchange);
    if (ask != NULL) {
        ask->state = ASK_ANSWERED;
        if (frame.size > 0) /* without memory nothing came */
            (void)held_append(&ask->frame, frame.data, frame.size);
        ask_wake(backends, ask);
    }
    lock_give(&backends->lock);
}

struct buffer ask_take_frame(struct backends *backends, struct ask *ask)
{
    lock_take(&backends->lock);
    struct buffer frame = ask->frame;
    ask->frame = (struct buffer){0};
    ask->state = ASK_IDLE;
    lock_give(&backends->lock);
    return frame;
}

static unsigned nothing_came(struct backends *backends, json_t *answer)
{
    lock_take(&backends->lock);
    bool closing = backends->closing;
    lock_give(&backends->lock);
    if (closing)
        return ask_draining(answer);
    return admin_fail(answer, 504, "TIMEOUT", "no result came; it may still take effect");
}

const Usher__V1__Result *ask_result(struct backends *backends, const struct buffer *frame,
                                    json_t *answer, unsigned *status)
{
    if (frame->size == 0) {
        *status = nothing_came(backends, answer);
        return NULL;
    }
    arena_reset(&backends->arena);
    const Usher__V1__LinkAnswer *told =
        link_answer_read(&backends->arena, (struct bytes){frame->data, frame->size});
    if (told != NULL && told->body_case == USHER__V1__LINK_ANSWER__BODY_RESULTS &&
        told->results->n_results == 1)
        return told->results->results[0];
    if (told != NULL && told->body_case == USHER__V1__LINK_ANSWER__BODY_REFUSED)
        *status = admin_fail(answer, 503, "BUSY", told->refused->detail);
    else
        *status = admin_fail(answer, 413, "TOO_LARGE", "the answer is; ask for less at once");
    return NULL;
}

static unsigned go_on(struct backends *backends, struct ask *ask, json_t *answer)
{
    unsigned status;
    struct buffer frame = ask_take_frame(backends, ask);
    const Usher__V1__Result *result = ask_result(backends, &frame, answer, &status);
    if (result != NULL)
        status = show_result(result, ask->route == BACKEND_SESSION, answer);
    held_fini(&frame);
    return status;
}

/* --- from its beginning ----------------------------------------------------------------------- */

static unsigned begin(struct backends *backends, struct exchange *exchange, unsigned route,
                      const struct admin_query *query, const struct making *making, json_t *answer)
{
    struct ask *ask = ask_take(backends, exchange, query, route, false);
    if (ask == NULL)
        return ask_busy(backends, answer, "as many requests wait as http.requests says");
    struct link_request_message *message = ask_wrap(ask, &making->command);
    if (message != NULL && !can_be_read(backends, message)) {
        message_destroy(&message->header);
        return admin_fail(answer, 413, "TOO_LARGE", "that is too much for one request");
    }
    return ask_post(backends, ask, message) ? ADMIN_LATER : ask_draining(answer);
}

unsigned backends_step(void *context, struct exchange *exchange, unsigned route,
                       const struct admin_query *query, json_t *answer)
{
    struct backends *backends = context;
    struct ask *ask = admin_own(exchange);
    bool presence = backend_makes[route] == NULL;
    if (ask != NULL)
        return presence ? presence_go_on(backends, ask, answer) : go_on(backends, ask, answer);
    if (memory_level() == MEMORY_FULL)
        return admin_fail(answer, 503, "BUSY", "the memory of the node is full");
    if (presence)
        return presence_begin(backends, exchange, route, query, answer);
    struct making making = {.command = USHER__V1__COMMAND__INIT};
    unsigned status = backend_makes[route](&making, query, answer);
    if (status == 0)
        status = begin(backends, exchange, route, query, &making, answer);
    making_fini(&making);
    return status;
}
