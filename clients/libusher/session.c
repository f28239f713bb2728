/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/session.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/chance.h"
#include "common/check.h"
#include "proto/client_frame.h"
#include "proto/utf8.h"

/* The life of a session over its connections:
 *
 *     IDLE -> CONNECTING -> GREETING -> ONLINE
 *                 ^             |          |
 *                 +-- WAITING <-+----------+----> ENDED
 *
 * Invariants. There is a socket in CONNECTING, GREETING and ONLINE only. Requests enter the
 * output only when ONLINE, so everything else in it (Login, Resume, Ack, Ping) belongs to this
 * connection and dies with it. session_lose is the only way out of a connection but session_end.
 *
 * A try is about all addresses of the host: those that do not connect are sorted out by
 * dial.c, and one that connects and then says nothing that a broker says (a dead host behind
 * something that accepts for it, a certificate of somebody else) gives way to the next, without an
 * event. Each has connect_timeout_ms for its answer. What has led nowhere comes last in later
 * tries.
 *
 * A lost connection is tried again after a random part of a pause that doubles (so that clients
 * of a restarted broker do not come in waves), and never before the broker's retry_after_ms. The
 * doubling starts anew only after a connection that lasted: a broker that welcomes and at once
 * drops a client must not be hammered.
 *
 * A heartbeat is a Ping of id 0. It is due when nothing was sent *or* nothing came for one
 * period, because the broker watches the one direction and this side the other. */

enum {
    LASTING_MS = 5000,
    RETRY_AFTER_MS_MAX = 3600 * 1000,
    DOUBLINGS_MAX = 20,
};

void session_say(struct usher_client *client, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(client->error_text, sizeof(client->error_text), format, arguments);
    va_end(arguments);
    utf8_tame(client->error_text); /* the broker's own words may be in it */
}

bool session_events_full(const struct usher_client *client)
{
    return client->events.count >= client->options.events_max ||
           client->events.bytes >= client->options.event_bytes_max;
}

/* --- losing and trying again ------------------------------------------------------------------ */

/* Random, so that the clients of a broker that restarts do not come as one. */
static uint64_t pause_ms(struct usher_client *client, uint32_t retry_after_ms)
{
    unsigned doublings = client->attempts < DOUBLINGS_MAX ? client->attempts : DOUBLINGS_MAX;
    uint64_t most_ms = (uint64_t)client->options.backoff_min_ms << doublings;
    if (most_ms > client->options.backoff_max_ms)
        most_ms = client->options.backoff_max_ms;
    client->attempts++;
    uint64_t pause = chance_up_to(most_ms);
    if (retry_after_ms > RETRY_AFTER_MS_MAX)
        retry_after_ms = RETRY_AFTER_MS_MAX;
    return pause > retry_after_ms ? pause : retry_after_ms;
}

bool session_may_pass(int64_t code)
{
    switch (code) {
    case USHER_ERROR_BUSY:
    case USHER_ERROR_TIMEOUT:
    case USHER_ERROR_RATE_LIMITED:
    case USHER_ERROR_UNAVAILABLE:
    case USHER_ERROR_DRAINING:
    case USHER_ERROR_INTERNAL:
        return true;
    default:
        return false;
    }
}

uint64_t session_again_ms(uint32_t retry_after_ms)
{
    if (retry_after_ms > RETRY_AFTER_MS_MAX)
        retry_after_ms = RETRY_AFTER_MS_MAX;
    return clock_ms() + (retry_after_ms > AGAIN_MS ? retry_after_ms : AGAIN_MS);
}

void session_end(struct usher_client *client)
{
    connection_close(&client->connection);
    client->paused = false;
    client->epoch = 0;
    client->logging_out = false;
    client->state = USHER_STATE_ENDED;
    requests_fail_all(&client->requests, &client->events);
    rooms_forget(client);
    friends_fini(&client->friends);
}

/* The address led to no broker: true when another one is under way. */
static bool try_another(struct usher_client *client)
{
    bool connecting =
        client->state == USHER_STATE_CONNECTING || client->state == USHER_STATE_GREETING;
    uint64_t now_ms = clock_ms();
    uint64_t end_ms = now_ms + client->options.connect_timeout_ms;
    if (!connecting || client->answered || !connection_again(&client->connection, now_ms, end_ms))
        return false;
    client->state = USHER_STATE_CONNECTING;
    client->hello_deadline_ms = end_ms;
    client->paused = false;
    return true;
}

void session_lose(struct usher_client *client, int error, uint32_t retry_after_ms, bool final)
{
    if (!final && try_another(client))
        return;
    bool was_online = client->state == USHER_STATE_ONLINE;
    final =
        final || client->once || !client->options.reconnect || (was_online && client->logging_out);
    uint64_t now_ms = clock_ms();
    if (was_online && now_ms - client->online_since_ms >= LASTING_MS)
        client->attempts = 0;
    uint64_t wait_ms = 0;
    if (final) {
        session_end(client);
    } else {
        connection_close(&client->connection);
        requests_unpass(&client->requests, &client->events);
        requests_renumber(&client->requests, &client->next_id, &client->events);
        rooms_lost(client);
        client->paused = false;
        client->state = USHER_STATE_WAITING;
        wait_ms = pause_ms(client, retry_after_ms);
        client->retry_at_ms = now_ms + wait_ms;
    }
    struct event_node *node = event_create(USHER_DISCONNECTED, 0);
    if (node == NULL)
        return; /* the state says the same */
    node->event.error = error;
    node->event.will_retry = !final;
    node->event.retry_after_ms = (uint32_t)wait_ms;
    events_push(&client->events, node);
}

static void say_connect_failure(struct usher_client *client, int error)
{
    const char *host = client->options.host;
    unsigned port = client->options.port;
    const char *fault = connection_fault(&client->connection);
    if (fault[0] != '\0')
        session_say(client, "no TLS with %s:%u: %s; check port, certificate and authority", host,
                    port, fault);
    else if (connection_answer(&client->connection) != NULL && error == -ESHUTDOWN)
        session_say(client, "%s:%u closed the connection in place of a WebSocket: check the port",
                    host, port);
    else if (client->connection.tls != NULL && error == -ESHUTDOWN)
        session_say(client, "%s:%u broke the TLS handshake off: see the broker's log", host, port);
    else if (error == -ECONNREFUSED)
        session_say(client,
                    "connection refused by %s:%u: is usherd running? start it with ./dev run", host,
                    port);
    else if (error == -EHOSTUNREACH || error == -ENETUNREACH)
        session_say(client, "cannot reach %s:%u: check the host name and the network", host, port);
    else if (error == -ETIMEDOUT)
        session_say(client, "no answer from %s:%u in %u ms: check address and firewall", host, port,
                    (unsigned)client->options.connect_timeout_ms);
    else
        session_say(client, "cannot connect to %s:%u: %s", host, port, strerrordesc_np(-error));
}

static void say_loss(struct usher_client *client, int error)
{
    if (error == -ESHUTDOWN)
        session_say(client, "%s:%u closed the connection without a word: see the broker's log",
                    client->options.host, (unsigned)client->options.port);
    else if (error == -ETIMEDOUT)
        session_say(client, "nothing came from %s:%u for two heartbeats: the connection is lost",
                    client->options.host, (unsigned)client->options.port);
    else
        session_say(client, "the connection to %s:%u is lost: %s", client->options.host,
                    (unsigned)client->options.port, strerrordesc_np(-error));
}

/* --- connecting and greeting ------------------------------------------------------------------ */

/* What to do about an answer to the upgrade, by its status. */
static const char *upgrade_advice(unsigned status)
{
    switch (status) {
    case 401:
    case 407:
        return "a proxy wants to know who it is; the token is for the broker alone";
    case 403:
        return "a proxy forbids it, or ws.origins of the broker";
    case 404:
        return "check the path of the URL, it is ws.path of the broker";
    case 426:
        return "check the port of the URL, it is that of listen.ws or listen.wss";
    case 502:
    case 504:
        return "a proxy finds no broker behind it";
    default:
        return status >= 300 && status < 400 ? "it leads elsewhere, and is not followed"
                                             : "is it an usher broker?";
    }
}

/* Full, or about to stop: as a Close that says so. */
static void upgrade_overloaded(struct usher_client *client, uint32_t retry_after_ms)
{
    struct event_node *node = event_create(USHER_CLOSE, 0);
    client->answered = true;
    if (node != NULL) {
        node->event.code = USHER_CLOSE_OVERLOADED;
        node->event.retry_after_ms = retry_after_ms;
        events_push(&client->events, node);
    }
    session_say(client, "%s:%u has no place now (503); come back later", client->options.host,
                (unsigned)client->options.port);
    session_lose(client, -ECONNABORTED, retry_after_ms, false);
}

/* The server has answered, and it does not become a WebSocket. */
static void upgrade_failed(struct usher_client *client, const struct websocket_answer *answer)
{
    const char *host = client->options.host;
    unsigned port = client->options.port;
    uint32_t retry_after_ms = answer->retry_after_ms;
    if (answer->status == 503) {
        upgrade_overloaded(client, retry_after_ms);
        return;
    }
    if (answer->fault[0] != '\0')
        session_say(client, "%s:%u sent %s: is it an usher broker?", host, port, answer->fault);
    else
        session_say(client, "%s:%u refuses the WebSocket %.80s with %u: %s", host, port,
                    client->url.path, answer->status, upgrade_advice(answer->status));
    session_lose(client, answer->status == 403 ? -EACCES : -EPROTO, retry_after_ms, false);
}

static void connect_failed(struct usher_client *client, int error)
{
    const struct websocket_answer *answer = connection_answer(&client->connection);
    if (answer != NULL && (answer->status != 0 || answer->fault[0] != '\0')) {
        upgrade_failed(client, answer);
        return;
    }
    say_connect_failure(client, error);
    session_lose(client, error, 0, false);
}

/* Nothing counts from before this moment: the silence of a connection begins with it. */
static void connected(struct usher_client *client)
{
    uint64_t now_ms = clock_ms();
    CHECK(client->requests.passed.head == NULL); /* they count the bytes of one connection */
    client->passing_bytes = 0;
    client->last_received_ms = now_ms;
    client->last_sent_ms = now_ms;
    client->last_ping_ms = now_ms;
    client->state = USHER_STATE_GREETING;
    session_greet(client);
}

/* False: it never will be, and the client was told. */
static bool secured(struct usher_client *client)
{
    char error[TLS_CLIENT_ERROR_BYTES] = "no memory";
    if (!client->options.tls || client->security != NULL)
        return true;
    int result = tls_client_create(&client->security, &client->options, error);
    if (result == 0)
        return true;
    session_say(client, "%s", error);
    session_lose(client, result, 0, result == -EINVAL);
    return false;
}

/* One try: the files of TLS if they are needed, the look-up, the first address. */
static void begin_connecting(struct usher_client *client)
{
    struct addresses found;
    client->state = USHER_STATE_CONNECTING;
    client->answered = false;
    if (!secured(client))
        return;
    int result = client->find_addresses(client->options.host, client->options.port, &found);
    uint64_t now_ms = clock_ms(); /* only now: the look-up may have taken long */
    client->hello_deadline_ms = now_ms + client->options.connect_timeout_ms;
    if (result == 0) {
        const struct connection_ways ways = {
            .security = client->security,
            .websocket = client->url.websocket ? &client->url : NULL,
        };
        addresses_order(&found, &client->addresses);
        result = connection_open(&client->connection, &ways, &found, &client->addresses, now_ms,
                                 client->hello_deadline_ms);
    }
    if (result < 0)
        connect_failed(client, result);
    else if (result == 1)
        connected(client);
}

void session_start(struct usher_client *client)
{
    client->attempts = 0;
    client->epoch = 0;
    client->token_refused = false;
    client->error_text[0] = '\0';
    begin_connecting(client);
}

/* With acks all that the program is not done with comes again. */
static int append_resume(struct usher_client *client)
{
    /* Without acks the broker forgets what it handed over, so what came is what counts. */
    client->hello_last_seq = client->options.acks ? client->processed_seq : client->received_seq;
    struct client_frame frame = {
        .id = client->hello_id,
        .body = CLIENT_RESUME,
        .resume = {.username = bytes_of_text(client->options.username),
                   .epoch = client->epoch,
                   .secret = {client->secret, client->secret_bytes},
                   .last_seq = client->hello_last_seq,
                   .received_seq = client->received_seq,
                   .last_mid = client->stored.processed},
    };
    struct buffer positions = {0};
    int result = rooms_positions(&client->rooms, &positions, &frame.resume.rooms);
    if (result == 0)
        result = client_frame_write(&client->connection.output, &frame, CONTROL_BYTES_MAX);
    buffer_fini(&positions);
    return result;
}

/* Gives what the program says, or what the options hold. */
static int find_token(struct usher_client *client, struct usher_token *token)
{
    *token = (struct usher_token){client->options.token, client->options.token_size};
    if (client->token_source == NULL)
        return 0;
    *token = (struct usher_token){NULL, 0};
    client->asks_token = true;
    int result = client->token_source(client->token_context, token);
    client->asks_token = false;
    if (result > 0 || (result == 0 &&
                       (token->size > TOKEN_BYTES_MAX || (token->data == NULL && token->size > 0))))
        return -EINVAL;
    return result;
}

bool session_token_refused(struct usher_client *client)
{
    bool first = !client->token_refused;
    client->token_refused = true;
    return first && client->token_source != NULL;
}

static int append_login(struct usher_client *client, const struct usher_token *token)
{
    const struct client_frame frame = {
        .id = client->hello_id,
        .body = CLIENT_LOGIN,
        .login = {.username = bytes_of_text(client->options.username),
                  .token = {token->data, token->size},
                  .client = bytes_of_text(client->options.client),
                  .acks = client->options.acks,
                  .last_mid = client->stored.processed},
    };
    return client_frame_write(&client->connection.output, &frame, CONTROL_BYTES_MAX);
}

static void append_hello(struct usher_client *client, const struct usher_token *token)
{
    size_t before = client->connection.output.size;
    client->hello_id = client->next_id++;
    int result = client->hello_resumes ? append_resume(client) : append_login(client, token);
    client->connection.wire_total += client->connection.output.size - before;
    if (result < 0) {
        say_loss(client, result);
        session_lose(client, result, 0, false);
    }
}

void session_greet(struct usher_client *client)
{
    struct usher_token token;
    CHECK(client->connection.connected);
    client->hello_resumes = client->epoch != 0;
    int result = client->hello_resumes ? 0 : find_token(client, &token);
    if (result == 0) {
        append_hello(client, &token);
        return;
    }
    client->answered = true; /* it is not the address's fault */
    session_say(client, "there is no token for %s: %s", client->options.username,
                result == -EAGAIN ? "asking again later" : strerrordesc_np(-result));
    session_lose(client, result, 0, result != -EAGAIN);
}

static void continue_connecting(struct usher_client *client)
{
    int result = connection_continue(&client->connection, clock_ms());
    if (result == 1)
        connected(client);
    else if (result < 0)
        connect_failed(client, result);
}

/* --- time ------------------------------------------------------------------------------------- */

static uint64_t later(uint64_t a_ms, uint64_t b_ms)
{
    return a_ms > b_ms ? a_ms : b_ms;
}

static uint64_t earlier(uint64_t a_ms, uint64_t b_ms)
{
    return a_ms < b_ms ? a_ms : b_ms;
}

static uint64_t ping_due_ms(const struct usher_client *client)
{
    return client->heartbeat_ms +
           later(client->last_ping_ms, earlier(client->last_sent_ms, client->last_received_ms));
}

static uint64_t loss_due_ms(const struct usher_client *client)
{
    return client->last_received_ms + 2 * (uint64_t)client->heartbeat_ms;
}

static void keep_heartbeat(struct usher_client *client, uint64_t now_ms)
{
    if (client->heartbeat_ms == 0)
        return;
    if (now_ms >= loss_due_ms(client)) {
        say_loss(client, -ETIMEDOUT);
        session_lose(client, -ETIMEDOUT, 0, false);
        return;
    }
    if (now_ms < ping_due_ms(client))
        return;
    const struct client_frame ping = {.body = CLIENT_PING};
    size_t before = client->connection.output.size;
    if (client_frame_write(&client->connection.output, &ping, CONTROL_BYTES_MAX) == 0)
        client->connection.wire_total += client->connection.output.size - before;
    client->last_ping_ms = now_ms; /* without memory the next one may go */
}

/* What is due by the clock alone. */
static void check_time(struct usher_client *client)
{
    uint64_t now_ms = clock_ms();
    requests_expire(&client->requests, now_ms, &client->events);
    rooms_settle(client);
    bool hello = client->state == USHER_STATE_CONNECTING || client->state == USHER_STATE_GREETING;
    if (hello && now_ms >= client->hello_deadline_ms)
        connect_failed(client, -ETIMEDOUT);
    else if (client->state == USHER_STATE_ONLINE) {
        rooms_check(client, now_ms);
        friends_check(client, now_ms);
        keep_heartbeat(client, now_ms);
    }
}

static uint64_t online_due_ms(const struct usher_client *client)
{
    uint64_t due_ms = earlier(rooms_due_ms(&client->rooms), friends_due_ms(&client->friends));
    if (client->heartbeat_ms == 0)
        return due_ms;
    return earlier(due_ms, earlier(ping_due_ms(client), loss_due_ms(client)));
}

static uint64_t state_due_ms(const struct usher_client *client)
{
    switch (client->state) {
    case USHER_STATE_WAITING:
        return session_events_full(client) ? UINT64_MAX : client->retry_at_ms;
    case USHER_STATE_CONNECTING:
        return earlier(client->hello_deadline_ms, connection_due_ms(&client->connection));
    case USHER_STATE_GREETING:
        return client->hello_deadline_ms;
    case USHER_STATE_ONLINE:
        return online_due_ms(client);
    default:
        return UINT64_MAX;
    }
}

int session_timeout_ms(const struct usher_client *client)
{
    uint64_t due_ms = state_due_ms(client);
    uint64_t request_due_ms = requests_deadline_ms(&client->requests);
    if (request_due_ms != 0)
        due_ms = earlier(due_ms, request_due_ms);
    if (due_ms == UINT64_MAX)
        return -1;
    uint64_t now_ms = clock_ms();
    if (due_ms <= now_ms)
        return 0;
    return due_ms - now_ms < INT_MAX ? (int)(due_ms - now_ms) : INT_MAX;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* One for all that was processed since the last. */
static void append_ack(struct usher_client *client)
{
    if (!client->options.acks || client->processed_seq <= client->acked_seq)
        return;
    const struct client_frame ack = {.body = CLIENT_ACK, .ack = {.seq = client->processed_seq}};
    size_t before = client->connection.output.size;
    if (client_frame_write(&client->connection.output, &ack, CONTROL_BYTES_MAX) < 0)
        return; /* a later one says the same and more */
    client->connection.wire_total += client->connection.output.size - before;
    client->acked_seq = client->processed_seq;
}

/* 0, or why the socket failed. */
static int write_all(struct usher_client *client)
{
    struct connection *connection = &client->connection;
    if (!connection->connected)
        return 0;
    uint64_t written_before = connection->wire_written;
    int result = 0;
    if (client->state == USHER_STATE_ONLINE)
        append_ack(client);
    do {
        if (client->state == USHER_STATE_ONLINE)
            result = requests_pass(&client->requests, &connection->output, &connection->wire_total);
        if (result == 0)
            result = connection_write(connection);
        requests_written(&client->requests, connection->wire_written);
    } while (result == 0 && connection->output.size == 0 && client->state == USHER_STATE_ONLINE &&
             requests_ready(&client->requests));
    if (connection->wire_written != written_before)
        client->last_sent_ms = clock_ms();
    return result;
}

void session_flush(struct usher_client *client)
{
    (void)write_all(client);
}

static void write_or_lose(struct usher_client *client)
{
    int result = write_all(client);
    if (result == 0)
        return;
    /* The broker may have said why before it closed. */
    receive_all(client);
    if (!client->connection.connected)
        return;
    say_loss(client, result);
    session_lose(client, result, 0, false);
}

void session_process(struct usher_client *client)
{
    if (client->state == USHER_STATE_WAITING && clock_ms() >= client->retry_at_ms &&
        !session_events_full(client))
        begin_connecting(client);
    else if (client->state == USHER_STATE_CONNECTING)
        continue_connecting(client);
    if (client->connection.connected)
        receive_all(client);
    check_time(client);
    if (client->connection.connected)
        write_or_lose(client);
}
