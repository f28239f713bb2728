/* SPDX-License-Identifier: Apache-2.0 */
#include "usher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "libusher/client.h"
#include "libusher/session.h"
#include "proto/client_frame.h"
#include "proto/traceparent.h"

/* The public calls that do not block: checks and bookkeeping around the session. A request is
 * built whole, its bytes and its failure event, before it is queued, so a call that fails leaves
 * nothing behind. */

enum {
    PORT_DEFAULT = 7400,
    NAME_BYTES_MAX = 255,
    TEXT_BYTES_MAX = 255,
};

void usher_options_init(struct usher_options *options)
{
    *options = (struct usher_options){
        .host = "127.0.0.1",
        .port = PORT_DEFAULT,
        .reconnect = true,
        .connect_timeout_ms = 5000,
        .request_timeout_ms = 30000,
        .backoff_min_ms = 100,
        .backoff_max_ms = 30000,
        .in_flight_max = 256,
        .outgoing_bytes_max = 1024 * 1024,
        .events_max = 1024,
        .event_bytes_max = 4 * 1024 * 1024,
        .incoming_frame_bytes_max = 16 * 1024 * 1024,
    };
}

static bool text_fits(const char *text, size_t bytes_max)
{
    return text != NULL && text[0] != '\0' && strlen(text) <= bytes_max;
}

/* No limit may be zero: who wants none has to say how much that is. */
static bool options_valid(const struct usher_options *options)
{
    return text_fits(options->username, NAME_BYTES_MAX) &&
           (options->token_size == 0 || options->token != NULL) &&
           options->token_size <= TOKEN_BYTES_MAX &&
           (options->client == NULL || strlen(options->client) <= TEXT_BYTES_MAX) &&
           ((options->tls_certificate_file == NULL) == (options->tls_key_file == NULL)) &&
           (options->acks || !options->manual_acks) && options->connect_timeout_ms != 0 &&
           options->request_timeout_ms != 0 && options->backoff_min_ms != 0 &&
           options->backoff_max_ms != 0 && options->in_flight_max != 0 &&
           options->outgoing_bytes_max != 0 && options->events_max != 0 &&
           options->event_bytes_max != 0 && options->incoming_frame_bytes_max != 0;
}

/* Where the broker is: what a URL says stands in place of the rest. */
static bool take_place(struct usher_client *client)
{
    struct usher_options *options = &client->options;
    if (options->url == NULL)
        return text_fits(options->host, NAME_BYTES_MAX) && options->port != 0;
    if (url_read(options->url, &client->url) != NULL || (options->tls && !client->url.secure))
        return false; /* nobody who asks for TLS goes without */
    options->host = client->url.host;
    options->port = client->url.port;
    options->tls = client->url.secure;
    return true;
}

const char *usher_url_fault(const char *url)
{
    struct url read;
    return url_read(url, &read);
}

/* Copies `size` bytes and a NUL behind them. */
static char *copy_bytes(const void *data, size_t size)
{
    char *copy = malloc(size + 1);
    if (copy == NULL)
        return NULL;
    if (size > 0)
        memcpy(copy, data, size);
    copy[size] = '\0';
    return copy;
}

static char *copy_text(const char *text)
{
    return copy_bytes(text != NULL ? text : "", text != NULL ? strlen(text) : 0);
}

int usher_client_create(const struct usher_options *options, struct usher_client **client)
{
    if (!options_valid(options))
        return -EINVAL;
    struct usher_client *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return -ENOMEM;
    connection_init(&made->connection);
    made->find_addresses = addresses_of_host;
    made->next_id = 1;
    made->frame_bytes_max = FRAME_BYTES_MAX_UNKNOWN;
    made->options = *options;
    stored_init(&made->stored, options->last_mid);
    if (!take_place(made)) {
        free(made);
        return -EINVAL;
    }
    made->options.host = copy_text(made->options.host);
    made->options.url = NULL; /* it is read */
    made->options.username = copy_text(options->username);
    made->options.client = copy_text(options->client);
    made->options.token = copy_bytes(options->token, options->token_size);
    made->options.tls_ca_file = copy_text(options->tls_ca_file);
    made->options.tls_server_name = copy_text(options->tls_server_name);
    made->options.tls_certificate_file = copy_text(options->tls_certificate_file);
    made->options.tls_key_file = copy_text(options->tls_key_file);
    if (made->options.host == NULL || made->options.username == NULL ||
        made->options.client == NULL || made->options.token == NULL ||
        made->options.tls_ca_file == NULL || made->options.tls_server_name == NULL ||
        made->options.tls_certificate_file == NULL || made->options.tls_key_file == NULL) {
        usher_client_destroy(made);
        return -ENOMEM;
    }
    *client = made;
    return 0;
}

void usher_client_destroy(struct usher_client *client)
{
    if (client == NULL)
        return;
    CHECK_CALL(!client->asks_token, "usher_client_destroy within its own token source");
    connection_close(&client->connection);
    tls_client_destroy(client->security);
    requests_fini(&client->requests);
    rooms_fini(&client->rooms);
    friends_fini(&client->friends);
    stored_fini(&client->stored);
    events_fini(&client->events);
    free(client->current);
    free((void *)(uintptr_t)client->options.host);
    free((void *)(uintptr_t)client->options.username);
    free((void *)(uintptr_t)client->options.client);
    free((void *)(uintptr_t)client->options.tls_ca_file);
    free((void *)(uintptr_t)client->options.tls_server_name);
    free((void *)(uintptr_t)client->options.tls_certificate_file);
    free((void *)(uintptr_t)client->options.tls_key_file);
    if (client->options.token != NULL)
        explicit_bzero((void *)(uintptr_t)client->options.token, client->options.token_size);
    free((void *)(uintptr_t)client->options.token);
    explicit_bzero(client->secret, sizeof(client->secret));
    free(client);
}

static bool under_way(const struct usher_client *client)
{
    return client->state != USHER_STATE_IDLE && client->state != USHER_STATE_ENDED;
}

int usher_client_set_token_source(struct usher_client *client, usher_token_source *source,
                                  void *context)
{
    if (under_way(client))
        return -EALREADY;
    client->token_source = source;
    client->token_context = context;
    return 0;
}

int usher_client_start(struct usher_client *client)
{
    if (under_way(client))
        return -EALREADY;
    events_fini(&client->events);
    session_start(client);
    return 0;
}

void usher_client_stop(struct usher_client *client)
{
    if (under_way(client))
        session_end(client);
}

enum usher_state usher_client_state(const struct usher_client *client)
{
    return client->state;
}

const char *usher_client_error_text(const struct usher_client *client)
{
    return client->error_text;
}

int usher_client_fd(const struct usher_client *client)
{
    return connection_descriptor(&client->connection);
}

bool usher_client_wants_write(const struct usher_client *client)
{
    if (client->state == USHER_STATE_CONNECTING)
        return connection_connects_by_writing(&client->connection);
    return client->connection.connected &&
           (client->connection.output.size > 0 ||
            (client->state == USHER_STATE_ONLINE && requests_ready(&client->requests)));
}

int usher_client_timeout_ms(const struct usher_client *client)
{
    if (client->events.head != NULL || client->paused)
        return 0;
    return session_timeout_ms(client);
}

int usher_client_process(struct usher_client *client)
{
    if (!under_way(client))
        return -ENOTCONN;
    session_process(client);
    return 0;
}

/* A message, or the word of one that was passed over. */
static bool has_seq(const struct usher_event *event)
{
    return event->type == USHER_MESSAGE || (event->type == USHER_ERROR && event->seq != 0);
}

/* A mid counts in each epoch, a seq in its own. */
static void processed(struct usher_client *client, const struct usher_event *event)
{
    stored_leave(&client->stored, event->mid);
    if (event->epoch == client->epoch && event->seq <= client->received_seq &&
        event->seq > client->processed_seq)
        client->processed_seq = event->seq;
    client->processed_seq = stored_settle(&client->stored, client->processed_seq);
}

/* The program is done with the event given before. */
static void leave_current(struct usher_client *client)
{
    struct event_node *node = client->current;
    if (node == NULL)
        return;
    client->current = NULL;
    if (has_seq(&node->event) && !client->options.manual_acks)
        processed(client, &node->event);
    free(node);
}

void usher_client_leave(struct usher_client *client)
{
    leave_current(client);
    session_flush(client);
}

int client_give(struct usher_client *client, struct event_node *node, struct usher_event *event)
{
    leave_current(client);
    client->current = node;
    *event = node->event;
    return 1;
}

int usher_client_next(struct usher_client *client, struct usher_event *event)
{
    leave_current(client);
    struct event_node *node = events_pop(&client->events);
    if (node == NULL && client->paused) {
        session_process(client);
        node = events_pop(&client->events);
    }
    if (node != NULL)
        return client_give(client, node, event);
    session_flush(client); /* the acknowledgement of what was just left */
    return 0;
}

/* --- requests --------------------------------------------------------------------------------- */

int client_begin_request(struct usher_client *client, bool answered, uint64_t timeout_ms,
                         struct request **request)
{
    if (!under_way(client) || client->logging_out)
        return -ENOTCONN;
    if (answered && client->requests.count >= client->options.in_flight_max)
        return -ENOBUFS;
    uint64_t deadline_ms = timeout_ms != 0 ? clock_ms() + timeout_ms : 0;
    *request = request_create(answered ? client->next_id : 0, deadline_ms);
    return *request != NULL ? 0 : -ENOMEM;
}

int client_submit(struct usher_client *client, struct request *request, int result, uint64_t *id)
{
    /* One that is larger than the limit goes alone; it would be told to come later for ever. */
    if (result == 0 && client->requests.bytes > 0 &&
        client->requests.bytes + request->frame.size > client->options.outgoing_bytes_max)
        result = -ENOBUFS;
    if (result < 0) {
        request_destroy(request);
        return result;
    }
    if (request->id != 0)
        client->next_id++;
    if (id != NULL)
        *id = request->id;
    requests_add(&client->requests, request);
    session_flush(client);
    return 0;
}

/* A frame that asks for something; its id is filled in. */
static int ask(struct usher_client *client, bool answered, uint64_t timeout_ms,
               struct client_frame *frame, size_t frame_bytes_max, uint64_t *id)
{
    struct request *request;
    int result = client_begin_request(client, answered, timeout_ms, &request);
    if (result < 0)
        return result;
    request->transient = frame->body == CLIENT_SEND && frame->send.transient;
    request->stored = frame->body == CLIENT_SEND && frame->send.keep_s != 0;
    frame->id = request->id;
    result = client_frame_write(&request->frame, frame, frame_bytes_max);
    return client_submit(client, request, result, id);
}

/* What is sent now would not go out now. */
static bool would_wait(const struct usher_client *client)
{
    return client->state != USHER_STATE_ONLINE || requests_ready(&client->requests) ||
           connection_is_behind(&client->connection);
}

static struct bytes traceparent_of(const struct usher_client *client)
{
    return bytes_of_text(client->traceparent);
}

int usher_set_traceparent(struct usher_client *client, const char *traceparent)
{
    bool valid = traceparent != NULL && traceparent_valid(bytes_of_text(traceparent));
    memset(client->traceparent, 0, sizeof(client->traceparent));
    if (valid)
        memcpy(client->traceparent, traceparent, TRACEPARENT_BYTES);
    return valid || traceparent == NULL ? 0 : -EINVAL;
}

static int send_request(struct usher_client *client, bool answered, const char *to,
                        struct bytes payload, enum usher_until until, uint64_t *id)
{
    bool transient = until == USHER_TRANSIENT;
    struct client_frame frame = {.body = CLIENT_SEND,
                                 .send = {.to = bytes_of_text(to),
                                          .payload = payload,
                                          .until = transient ? USHER_ACCEPTED : until,
                                          .transient = transient,
                                          .traceparent = traceparent_of(client)}};
    uint64_t timeout_ms = until == USHER_DELIVERED ? 0 : client->options.request_timeout_ms;
    if (to == NULL || (payload.data == NULL && payload.size > 0))
        return -EINVAL;
    if (transient && under_way(client) && !client->logging_out && would_wait(client))
        return -EAGAIN;
    return ask(client, answered, timeout_ms, &frame, client->frame_bytes_max, id);
}

int usher_send(struct usher_client *client, const char *to, const void *payload,
               size_t payload_size, enum usher_until until, uint64_t *id)
{
    return send_request(client, true, to, (struct bytes){payload, payload_size}, until, id);
}

int usher_send_stored(struct usher_client *client, const char *to, const void *payload,
                      size_t payload_size, uint32_t keep_s, uint64_t tag, uint64_t *id)
{
    struct client_frame frame = {.body = CLIENT_SEND,
                                 .send = {.to = bytes_of_text(to),
                                          .payload = {payload, payload_size},
                                          .keep_s = keep_s,
                                          .tag = tag,
                                          .traceparent = traceparent_of(client)}};
    if (to == NULL || (payload == NULL && payload_size > 0) || keep_s == 0)
        return -EINVAL;
    return ask(client, true, client->options.request_timeout_ms, &frame, client->frame_bytes_max,
               id);
}

uint64_t usher_last_mid(const struct usher_client *client)
{
    return client->stored.processed;
}

int usher_post(struct usher_client *client, const char *to, const void *payload,
               size_t payload_size)
{
    return send_request(client, false, to, (struct bytes){payload, payload_size}, USHER_ACCEPTED,
                        NULL);
}

int usher_post_transient(struct usher_client *client, const char *to, const void *payload,
                         size_t payload_size)
{
    return send_request(client, false, to, (struct bytes){payload, payload_size}, USHER_TRANSIENT,
                        NULL);
}

static int call_request(struct usher_client *client, bool answered, struct client_frame *call,
                        uint64_t *id)
{
    uint64_t timeout_ms = (uint64_t)call->call.timeout_ms + client->options.request_timeout_ms;
    if (call->call.service.data == NULL ||
        (call->call.payload.data == NULL && call->call.payload.size > 0))
        return -EINVAL;
    return ask(client, answered, timeout_ms, call, client->frame_bytes_max, id);
}

int usher_call(struct usher_client *client, const char *service, const char *method,
               const void *payload, size_t payload_size, uint32_t timeout_ms, uint64_t *id)
{
    struct client_frame call = {.body = CLIENT_CALL,
                                .call = {.service = bytes_of_text(service),
                                         .method = bytes_of_text(method),
                                         .payload = {payload, payload_size},
                                         .timeout_ms = timeout_ms,
                                         .traceparent = traceparent_of(client)}};
    return call_request(client, true, &call, id);
}

int usher_post_call(struct usher_client *client, const char *service, const char *method,
                    const void *payload, size_t payload_size)
{
    struct client_frame call = {.body = CLIENT_CALL,
                                .call = {.service = bytes_of_text(service),
                                         .method = bytes_of_text(method),
                                         .payload = {payload, payload_size},
                                         .traceparent = traceparent_of(client)}};
    return call_request(client, false, &call, NULL);
}

int usher_ping(struct usher_client *client, uint64_t *id)
{
    struct client_frame ping = {.body = CLIENT_PING};
    return ask(client, true, client->options.request_timeout_ms, &ping, CONTROL_BYTES_MAX, id);
}

int usher_logout(struct usher_client *client, uint64_t *id)
{
    struct client_frame logout = {.body = CLIENT_LOGOUT};
    int result =
        ask(client, true, client->options.request_timeout_ms, &logout, CONTROL_BYTES_MAX, id);
    if (result == 0)
        client->logging_out = true;
    return result;
}

int usher_ack(struct usher_client *client, uint64_t seq)
{
    if (!client->options.manual_acks || seq > client->received_seq)
        return -EINVAL;
    if (seq > client->processed_seq) {
        stored_leave_marked(&client->stored, seq);
        client->processed_seq = stored_settle(&client->stored, seq);
        session_flush(client);
    }
    return 0;
}
