/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/service.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "files/token_file.h"
#include "usher-bench/crowd.h"
#include "usher_backend.h"

/* libusher-backend does the link; here is what the bench wants to know of it. Both ends of each
 * message are in this process, so one clock measures the way and nobody else's word is taken.
 *
 * All counts belong to the thread that runs the backend. The watchers read three atomics. A user's
 * time of departure is written by the thread that plays him before his Login leaves, and read when
 * the event arrives, which it caused. */

enum {
    LINK_TIMEOUT_S = 10,
    FETCH_WAIT_MS = 200, /* closing waits as long */
    COMMANDS_SPARE = 4096,
};

struct follow {
    _Atomic uint64_t begun_ns;
    bool online;
};

struct service {
    /* set once */
    struct usher_backend *backend;
    const struct bench_options *options;
    pthread_t thread;
    bool has_thread;
    uint8_t *pattern;
    /* the backend's thread */
    struct service_counts counts;
    struct lane *lanes;     /* of calls, by user */
    struct follow *follows; /* by user */
    uint64_t event_seq;
    /* shared: relaxed, each for itself */
    _Atomic uint64_t refused;
    _Atomic uint64_t online_events;
    _Atomic uint64_t offline_events;
    /* under mutex */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool linked;
    bool ended;
    int error;
};

/* False: not one of ours. */
static bool user_number(const struct service *service, const char *name, uint64_t *number)
{
    size_t prefix = strlen(service->options->prefix);
    char *end;
    if (strncmp(name, service->options->prefix, prefix) != 0 || name[prefix] == '\0')
        return false;
    *number = strtoull(name + prefix, &end, 10);
    return *end == '\0' && *number < service->options->users;
}

/* Echoes, and sees for itself whether a user's calls come once and in order. */
static void on_call(void *context, const struct usher_backend_call *call)
{
    struct service *service = context;
    struct bytes payload = {call->payload, call->payload_size};
    struct bytes pattern = {service->pattern, service->options->size_bytes};
    struct stamp stamp;
    uint64_t number;
    if (!user_number(service, call->user, &number) || !stamp_read(payload, pattern, &stamp) ||
        stamp.sender != number) {
        service->counts.calls.strange++;
        return;
    }
    check_receive(&service->counts.calls, &service->lanes[number], stamp.seq, call->redelivered);
    /* A full queue is not waited for: the caller sees a timeout, which is counted. */
    usher_backend_reply(service->backend, call->id, 0, call->payload, call->payload_size);
}

/* Online and offline take turns for each user; all else is out of order. */
static void on_presence(void *context, const struct usher_backend_event *event)
{
    struct service *service = context;
    uint64_t now_ns = clock_ns();
    uint64_t number;
    if (service->event_seq != 0 && event->seq != service->event_seq + 1)
        service->counts.events_disordered++;
    service->event_seq = event->seq;
    if (!user_number(service, event->user, &number))
        return;
    struct follow *follow = &service->follows[number];
    uint64_t begun_ns = atomic_load_explicit(&follow->begun_ns, memory_order_relaxed);
    uint64_t taken_ns = now_ns > begun_ns ? now_ns - begun_ns : 0;
    if (event->kind == USHER_BACKEND_ONLINE && !follow->online) {
        histogram_add(&service->counts.online, taken_ns);
        atomic_fetch_add_explicit(&service->online_events, 1, memory_order_relaxed);
    } else if (event->kind == USHER_BACKEND_OFFLINE && follow->online) {
        histogram_add(&service->counts.offline, taken_ns);
        atomic_fetch_add_explicit(&service->offline_events, 1, memory_order_relaxed);
    } else {
        service->counts.events_disordered++;
    }
    follow->online = event->kind == USHER_BACKEND_ONLINE;
}

/* The token says how many should have got it. */
static void on_result(void *context, uint64_t token, const struct usher_backend_result *result)
{
    struct service *service = context;
    uint64_t accepted = result->code == USHER_BACKEND_OK ? result->accepted : 0;
    if (accepted < token)
        atomic_fetch_add_explicit(&service->refused, token - accepted, memory_order_relaxed);
}

static void on_state(void *context, enum usher_backend_state state, const char *text)
{
    struct service *service = context;
    pthread_mutex_lock(&service->mutex);
    service->linked = state == USHER_BACKEND_LINKED;
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->mutex);
}

static void *service_thread(void *argument)
{
    struct service *service = argument;
    int error = usher_backend_run(service->backend, -1);
    pthread_mutex_lock(&service->mutex);
    service->ended = true;
    service->error = error;
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->mutex);
    return NULL;
}

static int open_backend(struct service *service, bool presence)
{
    const struct bench_options *options = service->options;
    const char *url = options->link != NULL ? options->link : usher_backend_default_url();
    size_t token_size = 0;
    char *token = NULL;
    int token_error =
        options->token_file != NULL ? token_file_read(options->token_file, &token, &token_size) : 0;
    size_t in_flight = (size_t)(options->users * options->window) + COMMANDS_SPARE;
    struct usher_backend_options backend = {
        .urls = &url,
        .url_count = 1,
        .service = presence ? NULL : options->service,
        /* A fixed name: the node knows at once that the instance of the run before is gone, and
         * does not keep its users' calls for it. */
        .instance = "usher-bench",
        .token = token,
        .token_size = token_size,
        .presence = presence,
        .wait_ms = FETCH_WAIT_MS,
        .queue_commands_max = in_flight,
        .queue_bytes_max = in_flight * (options->size_bytes + 256),
        .callbacks = {.on_call = on_call, .on_result = on_result, .on_state = on_state},
        .context = service,
    };
    if (presence)
        backend.callbacks.on_presence = on_presence;
    if (token_error != 0)
        return -ENOKEY;
    int error = usher_backend_open(&service->backend, &backend);
    free(token);
    return error;
}

/* Without a link the crowd's calls would be refused, and would count as the broker's refusals. */
static int wait_linked(struct service *service)
{
    const struct timespec end = clock_timespec(clock_ns() + LINK_TIMEOUT_S * UINT64_C(1000000000));
    pthread_mutex_lock(&service->mutex);
    int error = 0;
    while (!service->linked && !service->ended && error == 0)
        error = pthread_cond_clockwait(&service->changed, &service->mutex, CLOCK_MONOTONIC, &end);
    if (service->ended)
        error = -service->error;
    pthread_mutex_unlock(&service->mutex);
    return -error;
}

static void service_free(struct service *service)
{
    usher_backend_close(service->backend);
    pthread_cond_destroy(&service->changed);
    pthread_mutex_destroy(&service->mutex);
    free(service->pattern);
    free(service->lanes);
    free(service->follows);
    free(service);
}

static int start_thread(struct service *service, bool presence)
{
    if (service->pattern == NULL || service->lanes == NULL || service->follows == NULL)
        return -ENOMEM;
    stamp_pattern(service->pattern, service->options->size_bytes);
    int error = open_backend(service, presence);
    if (error != 0)
        return error;
    error = -pthread_create(&service->thread, NULL, service_thread, service);
    service->has_thread = error == 0;
    return error != 0 ? error : wait_linked(service);
}

int service_start(struct service **made, const struct bench_options *options, bool presence,
                  char *text)
{
    struct service *service = calloc(1, sizeof(*service));
    if (service == NULL)
        return -ENOMEM;
    service->options = options;
    pthread_mutex_init(&service->mutex, NULL);
    pthread_cond_init(&service->changed, NULL);
    service->pattern = malloc(options->size_bytes);
    service->lanes = calloc(options->users, sizeof(*service->lanes));
    service->follows = calloc(options->users, sizeof(*service->follows));
    int error = start_thread(service, presence);
    if (error != 0) {
        snprintf(text, CROWD_ERROR_BYTES_MAX, "the backend link, %.80s: %s",
                 options->link != NULL ? options->link : usher_backend_default_url(),
                 error == -ENOKEY      ? "the token file cannot be read"
                 : error == -EACCES    ? "the broker refuses us: check --token-file"
                 : error == -ETIMEDOUT ? "no broker answers there: see --url"
                                       : strerror(-error));
        service_stop(service, NULL);
        return error;
    }
    *made = service;
    return 0;
}

void service_stop(struct service *service, struct service_counts *counts)
{
    if (service == NULL)
        return;
    if (service->has_thread) {
        usher_backend_stop(service->backend);
        pthread_join(service->thread, NULL);
    }
    if (counts != NULL)
        *counts = service->counts;
    service_free(service);
}

int service_push(struct service *service, const char *user, struct bytes payload)
{
    return usher_backend_push(service->backend, &user, 1, payload.data, payload.size, 0, 1);
}

int service_push_all(struct service *service, struct bytes payload)
{
    return usher_backend_push_all(service->backend, payload.data, payload.size,
                                  service->options->users);
}

uint64_t service_refused(struct service *service)
{
    return atomic_load_explicit(&service->refused, memory_order_relaxed);
}

void service_user_begins(struct service *service, uint32_t number, uint64_t now_ns)
{
    atomic_store_explicit(&service->follows[number].begun_ns, now_ns, memory_order_relaxed);
}

uint64_t service_online_events(struct service *service)
{
    return atomic_load_explicit(&service->online_events, memory_order_relaxed);
}

uint64_t service_offline_events(struct service *service)
{
    return atomic_load_explicit(&service->offline_events, memory_order_relaxed);
}
