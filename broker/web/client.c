/* SPDX-License-Identifier: Apache-2.0 */
#include "web/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/env.h"
#include "base/memory.h"

/* libcurl's multi interface, so that one thread has many requests under way and waits for none.
 *
 * Everything that an answer can be is bounded before it comes: its time, the bytes of its head (an
 * endless one is an error, also one of endless interim answers) and those of its body. Whatever is
 * held for a request is in the book of base/memory.h, libcurl's own share as a flat sum.
 *
 * libcurl must not raise signals (NOSIGNAL), must not wait for a thread that looks up a name when a
 * request is given up (QUICK_EXIT), and must not listen to what it finds in the environment: a
 * proxy that somebody has set for apt would get every event. */

enum {
    HEAD_BYTES_MAX = 16 * 1024,
    REQUEST_BYTES = 32 * 1024, /* what libcurl needs for one, about */
};

struct web_request {
    struct web_client *client;
    struct web_request *next, **link; /* among those under way */
    CURL *easy;
    struct curl_slist *headers;
    web_done *done;
    void *context;
    struct buffer answer;
    size_t head_bytes;
    bool too_large;
    char error[CURL_ERROR_SIZE];
    size_t body_size;
    uint8_t body[];
};

struct web_client {
    struct web_client_options options;
    CURLM *multi;
    struct web_target *target;
    struct web_request *requests;
    unsigned busy;
    bool running; /* in web_client_run, from which nobody closes it */
};

/* --- one request ------------------------------------------------------------------------------ */

static int64_t held(const struct web_request *request)
{
    return (int64_t)(sizeof(*request) + request->body_size + REQUEST_BYTES);
}

static size_t on_body(char *data, size_t one, size_t size, void *context)
{
    struct web_request *request = context;
    size_t before = request->answer.capacity;
    CHECK(one == 1);
    if (request->answer.size + size > WEB_ANSWER_BYTES_MAX) {
        request->too_large = true;
        return 0;
    }
    if (buffer_append(&request->answer, data, size) != 0)
        return 0;
    memory_account(MEMORY_OF_HTTP, (int64_t)(request->answer.capacity - before));
    return size;
}

static size_t on_head(char *data, size_t one, size_t size, void *context)
{
    struct web_request *request = context;
    (void)data;
    request->head_bytes += one * size;
    request->too_large = request->too_large || request->head_bytes > HEAD_BYTES_MAX;
    return request->too_large ? 0 : one * size;
}

static void destroy(struct web_request *request)
{
    memory_account(MEMORY_OF_HTTP, -held(request) - (int64_t)request->answer.capacity);
    if (request->easy != NULL)
        curl_easy_cleanup(request->easy);
    curl_slist_free_all(request->headers);
    buffer_fini(&request->answer);
    explicit_bzero(request->body, request->body_size); /* it may hold the token of a login */
    free(request);
}

static struct web_request *create(struct web_client *client, struct bytes body)
{
    struct web_request *request = calloc(1, sizeof(*request) + body.size);
    if (request == NULL)
        return NULL;
    request->client = client;
    request->body_size = body.size;
    memcpy(request->body, body.data, body.size);
    memory_account(MEMORY_OF_HTTP, held(request));
    request->easy = curl_easy_init();
    if (request->easy != NULL)
        return request;
    destroy(request);
    return NULL;
}

static bool add_header(struct web_request *request, const char *line)
{
    struct curl_slist *longer = curl_slist_append(request->headers, line);
    if (longer != NULL)
        request->headers = longer;
    return longer != NULL;
}

static bool add_headers(struct web_request *request)
{
    char signature[WEB_SIGNATURE_BYTES], line[WEB_SIGNATURE_BYTES + 32];
    const struct web_client *client = request->client;
    struct bytes body = {request->body, request->body_size};
    bool added = add_header(request, "Content-Type: application/json") &&
                 add_header(request, "Accept: application/json") && add_header(request, "Expect:");
    if (!added ||
        !web_sign(client->target, env_wall_ms(client->options.env) / 1000, body, signature))
        return added &&
               !(client->target->secrets[0] != NULL && client->target->secrets[0][0] != '\0');
    snprintf(line, sizeof(line), "Usher-Signature: %s", signature);
    return add_header(request, line);
}

#define SET(easy, option, value) (curl_easy_setopt((easy), CURLOPT_##option, (value)) == CURLE_OK)

/* Where it goes, and whom it believes. */
static bool set_place(struct web_request *request)
{
    CURL *easy = request->easy;
    const struct web_target *target = request->client->target;
    bool set = SET(easy, URL, target->url) && SET(easy, PROTOCOLS_STR, "http,https") &&
               SET(easy, FOLLOWLOCATION, 0L) && SET(easy, PROXY, "") && SET(easy, NOPROXY, "*") &&
               SET(easy, HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) &&
               SET(easy, SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) &&
               SET(easy, SSL_VERIFYPEER, 1L) && SET(easy, SSL_VERIFYHOST, 2L);
    if (set && target->ca_file[0] != '\0') /* read for each connection, so it may be renewed */
        set = SET(easy, CAINFO, target->ca_file) && SET(easy, CAPATH, NULL) &&
              SET(easy, CA_CACHE_TIMEOUT, 0L);
    return set;
}

static bool set_work(struct web_request *request, uint64_t timeout_ms)
{
    CURL *easy = request->easy;
    return SET(easy, POST, 1L) && SET(easy, POSTFIELDSIZE_LARGE, (curl_off_t)request->body_size) &&
           SET(easy, POSTFIELDS, (char *)request->body) &&
           SET(easy, HTTPHEADER, request->headers) &&
           SET(easy, USERAGENT, request->client->options.agent) &&
           SET(easy, TIMEOUT_MS, (long)timeout_ms) &&
           SET(easy, CONNECTTIMEOUT_MS, (long)timeout_ms) && SET(easy, NOSIGNAL, 1L) &&
           SET(easy, QUICK_EXIT, 1L) && SET(easy, ERRORBUFFER, request->error) &&
           SET(easy, WRITEFUNCTION, on_body) && SET(easy, WRITEDATA, request) &&
           SET(easy, HEADERFUNCTION, on_head) && SET(easy, HEADERDATA, request) &&
           SET(easy, PRIVATE, request);
}

static void unlink_request(struct web_request *request)
{
    struct web_client *client = request->client;
    CHECK(client->busy > 0);
    *request->link = request->next;
    if (request->next != NULL)
        request->next->link = request->link;
    client->busy--;
    (void)curl_multi_remove_handle(client->multi, request->easy);
}

int web_client_post(struct web_client *client, struct bytes body, uint64_t timeout_ms,
                    web_done *done, void *context)
{
    if (client->target == NULL)
        return -EDESTADDRREQ;
    if (client->busy >= client->options.connections)
        return -EBUSY;
    struct web_request *request = create(client, body);
    if (request == NULL)
        return -ENOMEM;
    request->done = done;
    request->context = context;
    if (!add_headers(request) || !set_place(request) || !set_work(request, timeout_ms) ||
        curl_multi_add_handle(client->multi, request->easy) != CURLM_OK) {
        destroy(request);
        return -ENOMEM;
    }
    request->next = client->requests;
    request->link = &client->requests;
    if (request->next != NULL)
        request->next->link = &request->next;
    client->requests = request;
    client->busy++;
    return 0;
}

/* Why nothing came that can be used; NULL: it did. */
static const char *error_of(const struct web_request *request, CURLcode code)
{
    if (request->too_large)
        return request->head_bytes > HEAD_BYTES_MAX ? "the head of the answer is larger than 16 KiB"
                                                    : "the answer is larger than 64 KiB";
    if (code == CURLE_OK)
        return NULL;
    return request->error[0] != '\0' ? request->error : curl_easy_strerror(code);
}

/* Takes the request. */
static void finish(struct web_request *request, const char *error)
{
    long status = 0;
    curl_off_t retry_after_s = 0;
    unlink_request(request);
    (void)curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(request->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
    const struct web_answer answer = {
        .error = error,
        .status = error == NULL ? (unsigned)status : 0,
        .retry_after_ms = retry_after_s > 0 ? (uint64_t)retry_after_s * 1000 : 0,
        .body = {request->answer.data, request->answer.size},
    };
    request->done(request->context, &answer);
    destroy(request);
}

/* --- the client ------------------------------------------------------------------------------- */

int web_client_open(struct web_client **out, const struct web_client_options *options)
{
    struct web_client *client = calloc(1, sizeof(*client));
    if (client == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(client);
        return -ENOMEM;
    }
    client->options = *options;
    client->multi = curl_multi_init();
    if (client->multi == NULL) {
        web_client_close(client);
        return -ENOMEM;
    }
    (void)curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long)options->connections);
    (void)curl_multi_setopt(client->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
                            (long)options->connections);
    *out = client;
    return 0;
}

void web_client_aim(struct web_client *client, struct web_target *target)
{
    web_target_destroy(client->target);
    client->target = target;
}

unsigned web_client_busy(const struct web_client *client)
{
    return client->busy;
}

/* Gives how many. */
static unsigned finish_those_done(struct web_client *client)
{
    unsigned count = 0;
    int left;
    const CURLMsg *message;
    while ((message = curl_multi_info_read(client->multi, &left)) != NULL) {
        struct web_request *request = NULL;
        CURLcode code = message->data.result; /* the message goes with the handle */
        if (message->msg != CURLMSG_DONE)
            continue;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&request);
        finish(request, error_of(request, code));
        count++;
    }
    return count;
}

void web_client_run(struct web_client *client, uint64_t wait_ms)
{
    enum { WAIT_MS_MAX = 60 * 1000 };
    int running;
    CHECK(!client->running);
    client->running = true;
    (void)curl_multi_perform(client->multi, &running);
    if (finish_those_done(client) == 0 && wait_ms > 0) {
        (void)curl_multi_poll(client->multi, NULL, 0,
                              (int)(wait_ms < WAIT_MS_MAX ? wait_ms : WAIT_MS_MAX), NULL);
        (void)curl_multi_perform(client->multi, &running);
        (void)finish_those_done(client);
    }
    client->running = false;
}

void web_client_wake(struct web_client *client)
{
    (void)curl_multi_wakeup(client->multi);
}

void web_client_close(struct web_client *client)
{
    if (client == NULL)
        return;
    CHECK(!client->running);
    while (client->requests != NULL)
        finish(client->requests, "given up, because the broker stops");
    if (client->multi != NULL)
        (void)curl_multi_cleanup(client->multi);
    web_target_destroy(client->target);
    free(client);
    curl_global_cleanup();
}
