/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/admin_private.h"

/* The second thread: what may wait for the disk or for an actor. While a request is its job the
 * connection is suspended and MHD does not touch the exchange; resuming gives it back, with the
 * answer in it, and MHD calls the handler again. */

bool jobs_add(struct admin *admin, struct exchange *exchange)
{
    pthread_mutex_lock(&admin->lock);
    bool room = admin->job_count < JOBS_MAX && !admin->closing;
    if (room) {
        exchange->is_job = true;
        exchange->next = NULL;
        /* Before anybody can resume it. */
        MHD_suspend_connection(exchange->connection);
        if (admin->last != NULL)
            admin->last->next = exchange;
        else
            admin->first = exchange;
        admin->last = exchange;
        admin->job_count++;
    }
    pthread_mutex_unlock(&admin->lock);
    if (room)
        pthread_cond_signal(&admin->more);
    return room;
}

static json_t *body_of(const struct exchange *exchange, json_error_t *error)
{
    if (exchange->body_size == 0)
        return json_object();
    return json_loadb(exchange->body, exchange->body_size, JSON_REJECT_DUPLICATES, error);
}

static unsigned answer(struct exchange *exchange, json_t *to)
{
    const struct admin_options *options = &exchange->admin->options;
    admin_answer *function = options->answers[exchange->route];
    if (function == NULL)
        return admin_fail(to, MHD_HTTP_SERVICE_UNAVAILABLE, "unavailable",
                          "this broker does not have it");
    json_error_t error;
    json_t *body = body_of(exchange, &error);
    if (!json_is_object(body)) {
        json_decref(body);
        return admin_fail(to, MHD_HTTP_BAD_REQUEST, "bad_request",
                          "the body is not a JSON object");
    }
    struct admin_query query = {
        .user = exchange->user,
        .prefix = exchange->prefix,
        .after_name = exchange->after,
        .state = exchange->state,
        .after = exchange->after_number,
        .limit = exchange->limit,
        .body = body,
        .address = exchange->address,
        .may_change = exchange->right == ACCESS_CHANGE,
    };
    unsigned status = function(options->context, &query, to);
    json_decref(body);
    return status;
}

static void run_job(struct exchange *exchange, bool closing)
{
    json_t *to = json_object();
    if (closing)
        exchange->status = admin_fail(to, MHD_HTTP_SERVICE_UNAVAILABLE, "unavailable",
                                      "the broker stops");
    else
        exchange->status = answer(exchange, to);
    exchange->text = json_dumps(to, JSON_COMPACT);
    json_decref(to);
    exchange->answered = true;
    MHD_resume_connection(exchange->connection); /* it may be gone from here on */
}

static void *run(void *argument)
{
    struct admin *admin = argument;
    for (;;) {
        pthread_mutex_lock(&admin->lock);
        while (admin->first == NULL && !admin->closing)
            pthread_cond_wait(&admin->more, &admin->lock);
        bool closing = admin->closing;
        struct exchange *exchange = admin->first;
        if (exchange != NULL) {
            admin->first = exchange->next;
            if (admin->first == NULL)
                admin->last = NULL;
            admin->job_count--;
        }
        pthread_mutex_unlock(&admin->lock);
        if (exchange == NULL)
            return NULL;
        run_job(exchange, closing);
    }
}

int jobs_start(struct admin *admin)
{
    int error = pthread_create(&admin->jobs_thread, NULL, run, admin);
    admin->jobs_started = error == 0;
    return -error;
}

void jobs_stop(struct admin *admin)
{
    pthread_mutex_lock(&admin->lock);
    admin->closing = true;
    pthread_mutex_unlock(&admin->lock);
    pthread_cond_signal(&admin->more);
    pthread_cond_signal(&admin->closed);
    if (admin->jobs_started)
        pthread_join(admin->jobs_thread, NULL);
    admin->jobs_started = false;
}
