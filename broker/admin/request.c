/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "admin/admin_private.h"
#include "admin/route.h"
#include "base/memory.h"
#include "base/source.h"

/* One request from its head to its answer, on the HTTP thread.
 *
 * MHD calls the handler when the head is there, with each piece of the body, and at the end. The
 * head is judged first and whole, Host and token before anything else, so whoever may not ask
 * learns nothing and has no body taken. Then the answer is made here, or by the second thread
 * (jobs.c). An answer in the first call makes MHD close the connection, because a body may be on
 * its way; so what brings no body is judged in the second. But for a head that leaves it open where
 * the body ends: whoever stands in between may have read it in another way (RFC 9112, 6.1 and 6.3),
 * so what follows is nobody's request, and the connection is closed with the answer. */

static void address_of(struct MHD_Connection *connection, char text[ADMIN_ADDRESS_BYTES])
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info != NULL ? info->client_addr : NULL;
    text[0] = '\0';
    if (address != NULL)
        source_host(address, text);
}

/* For backends it is the name of a reason code, or looks like one. */
static enum MHD_Result fault(struct exchange *exchange, unsigned status, const char *error,
                             const char *detail)
{
    char name[32];
    size_t size = 0;
    if (exchange->admin->face->asker.step == NULL)
        return reply_error(exchange->connection, status, error, detail);
    for (; error[size] != '\0' && size + 1 < sizeof(name); size++)
        name[size] = (char)toupper((unsigned char)error[size]);
    name[size] = '\0';
    return reply_error(exchange->connection, status, name, detail);
}

static enum MHD_Result refuse(struct exchange *exchange, unsigned status, const char *error,
                              const char *detail)
{
    struct admin *admin = exchange->admin;
    char address[ADMIN_ADDRESS_BYTES];
    address_of(exchange->connection, address);
    metrics_add(admin->options.metrics, admin->options.block, admin->face->refused, 1);
    LOG(admin->options.log, ADMIN_REFUSED, LOG_S("for", admin->face->name), LOG_S("reason", error),
        LOG_S("detail", detail), LOG_S("address", address));
    return fault(exchange, status, error, detail);
}

/* --- the head --------------------------------------------------------------------------------- */

static enum MHD_Result count_hosts(void *context, enum MHD_ValueKind kind, const char *key,
                                   const char *value)
{
    *(unsigned *)context += strcasecmp(key, MHD_HTTP_HEADER_HOST) == 0;
    return MHD_YES;
}

/* HTTP/1.0 needs no Host; no browser speaks it. */
static bool host_is_good(struct exchange *exchange)
{
    unsigned count = 0;
    MHD_get_connection_values(exchange->connection, MHD_HEADER_KIND, count_hosts, &count);
    const char *host =
        MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
    return count == 0 ||
           (count == 1 && host != NULL && access_host(host, exchange->admin->options.host));
}

/* Whether a browser asks for it on behalf of a page from elsewhere, which may not read the answer,
 * but could have it made. Who follows a link comes with a document of his own. Browsers say so to
 * addresses of the loopback; programs say nothing. */
static bool is_for_another_page(struct MHD_Connection *connection)
{
    const char *site = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Sec-Fetch-Site");
    const char *use = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Sec-Fetch-Dest");
    return site != NULL && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0 &&
           (use == NULL || strcmp(use, "document") != 0);
}

static bool is_known(const char *const *arguments, const char *key)
{
    while (*arguments != NULL && strcmp(*arguments, key) != 0)
        arguments++;
    return *arguments != NULL;
}

/* One argument of the query string into the exchange. */
static bool take_argument(struct exchange *exchange, const char *key, const char *value)
{
    uint64_t number = 0;
    size_t size = strlen(value);
    if (!is_known(exchange->admin->face->arguments, key))
        return false;
    if (strcmp(key, "wait_ms") == 0) {
        if (!route_number(value, &exchange->wait_ms))
            return false;
    } else if (strcmp(key, "limit") == 0) {
        if (!route_number(value, &number) || number == 0)
            return false;
        exchange->limit = number < ADMIN_ROWS_MAX ? (unsigned)number : ADMIN_ROWS_MAX;
    } else if (strcmp(key, "prefix") == 0 && size < sizeof(exchange->prefix)) {
        memcpy(exchange->prefix, value, size + 1);
    } else if (strcmp(key, "after") == 0 && size < sizeof(exchange->after)) {
        memcpy(exchange->after, value, size + 1);
        exchange->after_number = route_number(value, &number) ? number : 0;
    } else if (strcmp(key, "state") == 0 && size < sizeof(exchange->state)) {
        memcpy(exchange->state, value, size + 1);
    } else if (strcmp(key, "by") == 0 && size < sizeof(exchange->by)) {
        memcpy(exchange->by, value, size + 1);
    } else {
        return false;
    }
    return true;
}

struct arguments {
    struct exchange *exchange;
    bool good;
};

static enum MHD_Result on_argument(void *context, enum MHD_ValueKind kind, const char *key,
                                   const char *value)
{
    struct arguments *arguments = context;
    char decoded[ADMIN_PREFIX_BYTES_MAX + 1] = "";
    arguments->good = arguments->good && value != NULL &&
                      (value[0] == '\0' || route_decode(value, decoded)) &&
                      take_argument(arguments->exchange, key, decoded);
    return MHD_YES;
}

/* 0, or the status and *detail. */
static unsigned find_route(struct exchange *exchange, const char *method, const char *url,
                           const char **detail)
{
    const struct admin_face *face = exchange->admin->face;
    int route = route_find(face->paths, face->path_count, method, url, exchange->user);
    *detail = face->page;
    if (route == ROUTE_UNKNOWN)
        return MHD_HTTP_NOT_FOUND;
    *detail = "this path wants another method";
    if (route == ROUTE_WRONG_METHOD)
        return MHD_HTTP_METHOD_NOT_ALLOWED;
    *detail = "the path holds no name";
    if (route == ROUTE_BAD)
        return MHD_HTTP_BAD_REQUEST;
    struct arguments arguments = {exchange, true};
    MHD_get_connection_values(exchange->connection, MHD_GET_ARGUMENT_KIND, on_argument, &arguments);
    *detail = "an argument is not known, too long or no number";
    exchange->route = (unsigned)route;
    return arguments.good ? 0 : MHD_HTTP_BAD_REQUEST;
}

static const char *error_name(const struct admin_face *face, unsigned status)
{
    switch (status) {
    case MHD_HTTP_NOT_FOUND:
        return "not_found";
    case MHD_HTTP_METHOD_NOT_ALLOWED:
        return "method_not_allowed";
    default:
        return face->asker.step != NULL ? "malformed" : "bad_request";
    }
}

/* What has no route: numbers, health, the console. *done tells that it was answered. */
static enum MHD_Result reply_builtin(struct exchange *exchange, const char *method, const char *url,
                                     bool *done)
{
    struct admin *admin = exchange->admin;
    struct MHD_Connection *connection = exchange->connection;
    enum MHD_Result result = MHD_YES;
    bool get = strcmp(method, MHD_HTTP_METHOD_GET) == 0 && admin->face->asker.step == NULL;
    *done = true;
    if (get && console_reply(connection, url, &result))
        return result;
    if (get && numbers_are_open(url) && numbers_reply(admin, connection, url, &result))
        return result;
    if (exchange->right == ACCESS_NONE)
        return refuse(exchange, MHD_HTTP_UNAUTHORIZED, "unauthorized",
                      "show the token: Authorization: Bearer TOKEN");
    if (get && numbers_reply(admin, connection, url, &result))
        return result;
    *done = false;
    return MHD_YES;
}

static void log_change(struct exchange *exchange, const char *method, const char *url)
{
    LOG(exchange->admin->options.log, ADMIN_CHANGE, LOG_S("method", method),
        LOG_B("path", url, strlen(url)), LOG_S("address", exchange->address));
}

/* The head is there. *done: it was answered. */
static enum MHD_Result judge(struct exchange *exchange, const char *method, const char *url,
                             bool *done)
{
    struct MHD_Connection *connection = exchange->connection;
    const struct admin_face *face = exchange->admin->face;
    char text[128];
    const char *detail;
    *done = true;
    snprintf(text, sizeof(text), "Host must be an address, localhost or %s", face->host_option);
    if (!host_is_good(exchange))
        return refuse(exchange, MHD_HTTP_BAD_REQUEST, "bad_host", text);
    if (is_for_another_page(connection))
        return refuse(exchange, MHD_HTTP_FORBIDDEN, "foreign_page",
                      "a page from elsewhere has the browser ask for this");
    exchange->head_only = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    if (exchange->head_only)
        method = MHD_HTTP_METHOD_GET;
    exchange->right = access_right(
        &exchange->admin->access,
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION));
    enum MHD_Result result = reply_builtin(exchange, method, url, done);
    if (*done)
        return result;
    *done = true;
    unsigned status = find_route(exchange, method, url, &detail);
    if (status != 0)
        return fault(exchange, status, error_name(face, status), detail);
    bool change = face->paths[exchange->route].change;
    snprintf(text, sizeof(text), "changing needs the token of %s", face->token_option);
    if (change && exchange->right != ACCESS_CHANGE)
        return refuse(exchange, MHD_HTTP_FORBIDDEN, "forbidden", text);
    if (change || face->asker.step != NULL)
        address_of(connection, exchange->address);
    if (change && face->asker.step == NULL)
        log_change(exchange, method, url);
    *done = false;
    return MHD_YES;
}

/* --- body and answer -------------------------------------------------------------------------- */

void request_hold(struct exchange *exchange, size_t bytes)
{
    exchange->held_bytes += bytes;
    memory_account(MEMORY_OF_HTTP, (int64_t)bytes);
}

static void let_go(struct exchange *exchange)
{
    memory_account(MEMORY_OF_HTTP, -(int64_t)exchange->held_bytes);
    exchange->held_bytes = 0;
    free(exchange->body);
    exchange->body = NULL;
}

/* Beyond the limit it is read and forgotten, and the answer says so. While memory is full too, but
 * for operators: theirs are few and small, and help. */
static void take_body(struct exchange *exchange, const char *bytes, size_t size)
{
    const struct admin_face *face = exchange->admin->face;
    size_t most = face->body_bytes_max;
    size_t whole = exchange->body_size + size;
    bool full = face->asker.step != NULL && memory_level() == MEMORY_FULL;
    char *bigger =
        whole <= most && !full && !exchange->starved ? realloc(exchange->body, whole) : NULL;
    if (bigger != NULL) {
        memcpy(bigger + exchange->body_size, bytes, size);
        exchange->body = bigger;
        request_hold(exchange, size);
    } else {
        exchange->starved = exchange->starved || whole <= most;
        let_go(exchange);
    }
    exchange->body_size = whole <= most ? whole : most + 1;
}

json_t *request_body(const struct exchange *exchange)
{
    json_error_t error;
    if (exchange->body_size == 0)
        return json_object();
    return json_loadb(exchange->body, exchange->body_size, JSON_REJECT_DUPLICATES, &error);
}

/* Of another face; "" without it. */
static const char *header_of(const struct exchange *exchange, const char *name)
{
    const char *value =
        exchange->admin->face->asker.step == NULL
            ? NULL
            : MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, name);
    return value != NULL ? value : "";
}

struct admin_query request_query(const struct exchange *exchange, const json_t *body)
{
    return (struct admin_query){
        .user = exchange->user,
        .prefix = exchange->prefix,
        .after_name = exchange->after,
        .state = exchange->state,
        .by = exchange->by,
        .after = exchange->after_number,
        .limit = exchange->limit,
        .wait_ms = exchange->wait_ms,
        .body = body,
        .address = exchange->address,
        .event_id = header_of(exchange, "Last-Event-ID"),
        .traceparent = header_of(exchange, "traceparent"),
        .may_change = exchange->right == ACCESS_CHANGE,
    };
}

static enum MHD_Result reply_answered(struct exchange *exchange)
{
    char *text = exchange->text;
    exchange->text = NULL;
    if (text == NULL)
        return MHD_NO;
    return reply_text(exchange->connection, exchange->status, "application/json", text,
                      strlen(text));
}

static enum MHD_Result finish(struct exchange *exchange)
{
    if (exchange->answered)
        return reply_answered(exchange);
    const struct admin_face *face = exchange->admin->face;
    char detail[64];
    snprintf(detail, sizeof(detail), "a body has at most %zu bytes", face->body_bytes_max);
    if (exchange->body_size > face->body_bytes_max)
        return fault(exchange, MHD_HTTP_CONTENT_TOO_LARGE, "too_large", detail);
    if (exchange->starved)
        return fault(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, "busy",
                     "the memory of the node is full");
    if (face->asker.step != NULL)
        return later_step(exchange);
    conns_set(exchange->admin, exchange->connection, CONN_ASKS);
    if (jobs_add(exchange->admin, exchange))
        return MHD_YES;
    return reply_error(exchange->connection, MHD_HTTP_TOO_MANY_REQUESTS, "busy",
                       "too many requests wait; try again");
}

struct framing {
    unsigned lengths, encodings;
    bool unknown;
};

static enum MHD_Result on_header(void *context, enum MHD_ValueKind kind, const char *key,
                                 const char *value)
{
    struct framing *framing = context;
    if (strcasecmp(key, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0)
        framing->lengths++;
    if (strcasecmp(key, MHD_HTTP_HEADER_TRANSFER_ENCODING) != 0)
        return MHD_YES;
    framing->encodings++;
    framing->unknown = value == NULL || strcasecmp(value, "chunked") != 0;
    return MHD_YES;
}

/* It is said once, and in a way that we know, how long the body is. */
static bool framing_is_plain(struct MHD_Connection *connection)
{
    struct framing framing = {0};
    MHD_get_connection_values(connection, MHD_HEADER_KIND, on_header, &framing);
    return framing.lengths + framing.encodings <= 1 && !framing.unknown;
}

/* Whatever its method is: a stranger's GET is not given room for a body either. */
static bool brings_a_body(struct MHD_Connection *connection)
{
    const char *length =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return (length != NULL && strcmp(length, "0") != 0) ||
           MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
                                       MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
}

static enum MHD_Result begin(struct admin *admin, struct MHD_Connection *connection,
                             const char *method, const char *url, void **slot)
{
    struct exchange *exchange = calloc(1, sizeof(*exchange));
    bool done;
    *slot = exchange;
    if (exchange == NULL)
        return MHD_NO;
    exchange->admin = admin;
    exchange->connection = connection;
    metrics_add(admin->options.metrics, admin->options.block, admin->face->requests, 1);
    if (!framing_is_plain(connection))
        return refuse(exchange, MHD_HTTP_BAD_REQUEST, "bad_framing",
                      "one Content-Length, or Transfer-Encoding: chunked, and not both");
    if (!brings_a_body(connection))
        return MHD_YES;
    exchange->judged = true;
    return judge(exchange, method, url, &done);
}

enum MHD_Result request_handle(void *context, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_size, void **slot)
{
    struct exchange *exchange = *slot;
    if (exchange == NULL)
        return begin(context, connection, method, url, slot);
    if (*upload_size > 0) {
        take_body(exchange, upload, *upload_size);
        *upload_size = 0;
        return MHD_YES;
    }
    if (!exchange->is_job || exchange->answered)
        conns_set(exchange->admin, connection, CONN_ANSWERS);
    bool done = false;
    enum MHD_Result result = MHD_YES;
    if (!exchange->judged) {
        exchange->judged = true;
        result = judge(exchange, method, url, &done);
    }
    return done ? result : finish(exchange);
}

void request_completed(void *context, struct MHD_Connection *connection, void **slot,
                       enum MHD_RequestTerminationCode code)
{
    struct exchange *exchange = *slot;
    *slot = NULL;
    if (exchange == NULL)
        return;
    conns_set(context, connection, CONN_WAITS);
    if (exchange->own != NULL)
        exchange->admin->face->asker.over(exchange->admin->options.context, exchange->own);
    let_go(exchange);
    free(exchange->text);
    free(exchange);
}
