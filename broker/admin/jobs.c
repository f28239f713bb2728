/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/admin_private.h"
#include "base/lock.h"

/* The second thread: what may wait for the disk or for an actor. While a request is its job the
 * connection is suspended and MHD does not touch the exchange; resuming gives it back, with the
 * answer in it, and MHD calls the handler again.
 *
 * Who may change something does so when things go wrong, and that is when everybody looks. So
 * changes have a line of their own, which goes first, and some of the places are theirs: however
 * many look, and however often, a kick waits for one answer. */

static bool is_change(const struct exchange *exchange)
{
    return exchange->admin->face->paths[exchange->route].change;
}

/* Under the lock. */
static void line_add(struct admin *admin, struct job_line *line, struct exchange *exchange)
{
    CHECK(lock_held(&admin->lock) && (line->first == NULL) == (line->count == 0));
    exchange->next = NULL;
    if (line->last != NULL)
        line->last->next = exchange;
    else
        line->first = exchange;
    line->last = exchange;
    line->count++;
}

/* Under the lock; NULL: nobody waits in it. */
static struct exchange *line_take(struct admin *admin, struct job_line *line)
{
    CHECK(lock_held(&admin->lock) && (line->first == NULL) == (line->count == 0));
    struct exchange *exchange = line->first;
    if (exchange == NULL)
        return NULL;
    line->first = exchange->next;
    if (line->first == NULL)
        line->last = NULL;
    line->count--;
    return exchange;
}

/* Under the lock. */
static bool has_room(const struct admin *admin, bool change)
{
    CHECK(lock_held(&admin->lock) && admin->looks.count + admin->changes.count <= JOBS_MAX);
    return !admin->closing && admin->looks.count + admin->changes.count < JOBS_MAX &&
           (change || admin->looks.count < LOOKS_MAX);
}

bool jobs_add(struct admin *admin, struct exchange *exchange)
{
    lock_take(&admin->lock);
    bool room = has_room(admin, is_change(exchange));
    if (room) {
        exchange->is_job = true;
        /* Before anybody can resume it. */
        MHD_suspend_connection(exchange->connection);
        line_add(admin, is_change(exchange) ? &admin->changes : &admin->looks, exchange);
    }
    lock_give(&admin->lock);
    if (room)
        pthread_cond_signal(&admin->more);
    return room;
}

static unsigned answer(struct exchange *exchange, json_t *to)
{
    const struct admin_options *options = &exchange->admin->options;
    admin_answer *function = options->answers[exchange->route];
    if (function == NULL)
        return admin_fail(to, MHD_HTTP_SERVICE_UNAVAILABLE, "unavailable",
                          "this broker does not have it");
    json_t *body = request_body(exchange);
    if (!json_is_object(body)) {
        json_decref(body);
        return admin_fail(to, MHD_HTTP_BAD_REQUEST, "bad_request", "the body is not a JSON object");
    }
    const struct admin_query query = request_query(exchange, body);
    unsigned status = function(options->context, &query, to);
    json_decref(body);
    return status;
}

static void run_job(struct exchange *exchange, bool closing)
{
    json_t *to = json_object();
    if (closing)
        exchange->status =
            admin_fail(to, MHD_HTTP_SERVICE_UNAVAILABLE, "unavailable", "the broker stops");
    else
        exchange->status = answer(exchange, to);
    exchange->text = json_dumps(to, JSON_COMPACT);
    json_decref(to);
    CHECK(exchange->is_job && !exchange->answered);
    exchange->answered = true;
    MHD_resume_connection(exchange->connection); /* it may be gone from here on */
}

/* Whether somebody waits, or it closes, before the moment. */
static bool wait_until(struct admin *admin, uint64_t at_ms)
{
    struct timespec until = env_until(admin->options.env, at_ms);
    CHECK(lock_held(&admin->lock));
    bool late = false;
    while (admin->looks.first == NULL && admin->changes.first == NULL && !admin->closing && !late)
        late = !lock_wait_until(&admin->lock, &admin->more, &until);
    return !late;
}

/* The broker's own, when it is due; gives when it is next. However late it was, it is not made up
 * for. */
static uint64_t tick(struct admin *admin, uint64_t due_ms)
{
    const struct admin_options *options = &admin->options;
    uint64_t now_ms = env_monotonic_ms(options->env);
    if (options->tick == NULL || now_ms < due_ms)
        return due_ms;
    options->tick(options->context);
    return now_ms + options->tick_ms;
}

/* Waits for it, with `tick` meanwhile; NULL: it closes, and nobody is left. */
static struct exchange *take_next(struct admin *admin, uint64_t *due_ms, bool *closing)
{
    bool ready = admin->options.tick == NULL;
    do {
        *due_ms = tick(admin, *due_ms);
        lock_take(&admin->lock);
        if (ready)
            while (admin->looks.first == NULL && admin->changes.first == NULL && !admin->closing)
                lock_wait(&admin->lock, &admin->more);
        else
            ready = wait_until(admin, *due_ms);
        if (!ready)
            lock_give(&admin->lock);
    } while (!ready);
    *closing = admin->closing;
    struct exchange *exchange = line_take(admin, &admin->changes);
    if (exchange == NULL)
        exchange = line_take(admin, &admin->looks);
    lock_give(&admin->lock);
    return exchange;
}

static void *run(void *argument)
{
    struct admin *admin = argument;
    struct exchange *exchange;
    bool closing;
    uint64_t due_ms = 0;
    while ((exchange = take_next(admin, &due_ms, &closing)) != NULL)
        run_job(exchange, closing);
    return NULL;
}

int jobs_start(struct admin *admin)
{
    int error = pthread_create(&admin->jobs_thread, NULL, run, admin);
    admin->jobs_started = error == 0;
    return -error;
}

void jobs_stop(struct admin *admin)
{
    lock_take(&admin->lock);
    admin->closing = true;
    lock_give(&admin->lock);
    pthread_cond_signal(&admin->more);
    pthread_cond_signal(&admin->closed);
    if (admin->jobs_started)
        pthread_join(admin->jobs_thread, NULL);
    admin->jobs_started = false;
}
