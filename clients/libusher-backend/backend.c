/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher-backend/backend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"

/* A backend is made from its options and taken apart again. What it does in between is in
 * link.c.
 *
 * The order of the end matters: first the connections, each after the answer that may be on its
 * way (channel.c says why), then what their completions point to. usher_backend_close also takes
 * apart what usher_backend_open made only in part. */

enum { CLOSE_SLACK_MS = 200 };

static int copy_urls(struct urls *urls, const struct usher_backend_options *options)
{
    if (options->url_count == 0 || options->url_count > USHER_BACKEND_URLS_MAX)
        return -EINVAL;
    for (size_t i = 0; i < options->url_count; i++) {
        const char *url = options->urls[i];
        if (!link_url_is_good(url))
            return -EINVAL;
        memcpy(urls->text[i], url, strlen(url) + 1);
    }
    urls->count = options->url_count;
    return 0;
}

/* Host and process are for people. Two containers may have both in common, and then the newer one
 * would throw the older out: what tells them apart is drawn. */
static char *default_instance(void)
{
    char host[65] = "host";
    char name[96];
    uint32_t chance = 0;
    gethostname(host, sizeof(host) - 1);
    if (getrandom(&chance, sizeof(chance), 0) != sizeof(chance))
        chance = (uint32_t)(clock_ms() ^ (uintptr_t)&chance >> 4);
    snprintf(name, sizeof(name), "%s-%ld-%08x", host, (long)getpid(), chance);
    return strdup(name);
}

/* The incarnation is the wall clock: of two processes under one name the newer one counts. */
static int copy_options(struct usher_backend *backend, const struct usher_backend_options *options)
{
    struct timespec now;
    backend->on = options->callbacks;
    backend->context = options->context;
    backend->wait_ms = options->wait_ms;
    backend->presence.following = options->presence;
    backend->presence.done = options->presence_after;
    backend->service = strdup(options->service != NULL ? options->service : "");
    backend->instance = options->instance != NULL ? strdup(options->instance) : default_instance();
    backend->node_boot = strdup("");
    backend->token = malloc(options->token_size + 1);
    if (backend->service == NULL || backend->instance == NULL || backend->node_boot == NULL ||
        backend->token == NULL)
        return -ENOMEM;
    if (options->token_size > 0)
        memcpy(backend->token, options->token, options->token_size);
    backend->token_size = options->token_size;
    clock_gettime(CLOCK_REALTIME, &now);
    backend->incarnation = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    return copy_urls(&backend->urls, options);
}

static int side_open(struct usher_backend *backend, struct side *side)
{
    int error = arena_init(&side->arena, ARENA_BYTES);
    return error != 0 ? error : channel_open(&side->channel, &backend->urls, backend->wake);
}

int usher_backend_open(struct usher_backend **out, const struct usher_backend_options *options)
{
    struct usher_backend *backend = calloc(1, sizeof(*backend));
    int error;
    if (backend == NULL)
        return -ENOMEM;
    pthread_mutex_init(&backend->query_mutex, NULL);
    backend->park_ms = PARK_MS_DEFAULT;
    backend->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    backend->query_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    error = backend->wake < 0 || backend->query_wake < 0 ? -ENFILE : 0;
    if (queue_init(&backend->queue, options) != 0)
        error = -ENOMEM;
    if (error == 0)
        error = copy_options(backend, options);
    if (error == 0)
        error = side_open(backend, &backend->fetch);
    if (error == 0)
        error = side_open(backend, &backend->submit);
    if (error == 0)
        error = arena_init(&backend->query_arena, ARENA_BYTES);
    if (error != 0) {
        usher_backend_close(backend);
        return error;
    }
    *out = backend;
    return 0;
}

void usher_backend_close(struct usher_backend *backend)
{
    if (backend == NULL)
        return;
    CHECK_CALL(!atomic_load(&backend->running), "usher_backend_close while usher_backend_run runs");
    channel_close(backend->submit.channel, REQUEST_TIMEOUT_MS);
    channel_close(backend->fetch.channel, backend->park_ms + CLOSE_SLACK_MS);
    channel_close(backend->query_channel, 0);
    arena_fini(&backend->fetch.arena);
    arena_fini(&backend->submit.arena);
    arena_fini(&backend->query_arena);
    batch_fini(backend);
    queue_fini(&backend->queue);
    presence_fini(&backend->presence);
    buffer_fini(&backend->request);
    if (backend->wake >= 0)
        close(backend->wake);
    if (backend->query_wake >= 0)
        close(backend->query_wake);
    pthread_mutex_destroy(&backend->query_mutex);
    free(backend->service);
    free(backend->instance);
    free(backend->token);
    free(backend->node_boot);
    free(backend);
}
