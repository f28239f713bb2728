/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "libusher/frame.h"
#include "libusher/incoming.h"
#include "libusher/names.h"
#include "proto/frame.h"

/* What each kind of frame from the broker does to the session. The broker is believed as little
 * as any peer: what it may not say ends the connection, and when the program does not take its
 * events, reading stops and TCP holds the broker back.
 *
 * Frames have two limits: what the broker told in its Welcome, beyond which it is no broker, and
 * what this client will hold. A message between the two must not end the connection, because it
 * would come again with the next one, and again: it is passed over without being held, the
 * program is told of it in its place, and it is acknowledged like any other.
 *
 * Duplicates: within one epoch a message counts only if its seq is higher than all before it. So
 * a message that still waits in the event queue when the session is resumed, and comes again, is
 * given once. A transient message has no number, and is never a repetition. A stored one has a
 * number of its own, which holds over all epochs (stored.c). */

enum {
    READ_BYTES = TLS_RECORD_BYTES_MAX, /* or poll would not tell of the rest of a record */
    READS_MAX = 64, /* of one round, so that a flood does not keep the program from its turn */
    HEARTBEAT_MS_MIN = 50,
    /* What answers a Login, and what a broker may always send. */
    GREETING_BYTES_MAX = 64 * 1024,
    DETAIL_BYTES_MAX = 128,
    INPUT_BYTES_KEPT = 256 * 1024,
    CLOSE_CODE_REASONS = 4000, /* a reason of Close and this is the code of a WebSocket's end */
};

void session_break_off(struct usher_client *client, int error, const char *what)
{
    session_say(client, "%s:%u sent %s: is it an usher broker?", client->options.host,
                (unsigned)client->options.port, what);
    session_lose(client, error, 0, false);
}

/* --- greeting --------------------------------------------------------------------------------- */

/* A new session: the numbers begin with the broker's, and what was asked of the old one is lost. */
static void begin_epoch(struct usher_client *client, struct usher_event *welcome)
{
    requests_fail_sent(&client->requests, &client->events);
    welcome->replay = USHER_FRESH;
    client->epoch = welcome->epoch;
    client->received_seq = welcome->seq > 0 ? welcome->seq - 1 : 0;
    client->processed_seq = client->received_seq;
    client->acked_seq = client->received_seq;
    client->missed = 0;
    stored_begin_epoch(&client->stored, client->options.manual_acks);
}

/* The old one: its numbers and what it was asked go on. */
static void continue_epoch(struct usher_client *client, const struct usher_event *welcome)
{
    requests_resumed(&client->requests, clock_ms() + client->options.request_timeout_ms);
    client->acked_seq = client->hello_last_seq;
    if (welcome->seq == 0 || welcome->seq > client->hello_last_seq)
        return;
    /* The broker counts from an earlier number: what comes now is new under old numbers. */
    client->received_seq = welcome->seq - 1;
    client->processed_seq = client->received_seq;
    client->acked_seq = client->received_seq;
    client->missed = 0;
    stored_begin_epoch(&client->stored, client->options.manual_acks);
}

/* Everything that a connection's greeting settles, in one place. */
static void receive_welcome(struct usher_client *client, struct event_node *node)
{
    struct usher_event *welcome = &node->event;
    if (welcome->payload_size > SECRET_BYTES_MAX || welcome->epoch == 0) {
        free(node);
        session_break_off(client, -EPROTO, "a Welcome that makes no sense");
        return;
    }
    bool resumed = client->hello_resumes && welcome->epoch == client->epoch;
    if (resumed)
        continue_epoch(client, welcome);
    else
        begin_epoch(client, welcome);
    if (welcome->payload_size > 0)
        memcpy(client->secret, welcome->payload, welcome->payload_size);
    client->secret_bytes = welcome->payload_size;
    welcome->payload = NULL; /* the secret stays here */
    welcome->payload_size = 0;
    welcome->id = 0;
    client->heartbeat_ms = welcome->heartbeat_ms;
    if (client->heartbeat_ms != 0 && client->heartbeat_ms < HEARTBEAT_MS_MIN)
        client->heartbeat_ms = HEARTBEAT_MS_MIN;
    client->frame_bytes_max =
        welcome->frame_bytes_max != 0 ? welcome->frame_bytes_max : FRAME_BYTES_MAX_UNKNOWN;
    requests_fail_larger(&client->requests, client->frame_bytes_max, &client->events);
    client->connection.message_bytes_max = client->frame_bytes_max + FRAME_PREFIX_BYTES_MAX;
    client->state = USHER_STATE_ONLINE;
    client->online_since_ms = clock_ms();
    dial_good(&client->connection.dial);
    client->error_text[0] = '\0';
    client->token_refused = false;
    events_push(&client->events, node);
    if (!resumed)
        rooms_begin_epoch(client);
    friends_welcomed(client, resumed);
}

static void say_refusal(struct usher_client *client, const char *what, const char *name,
                        const struct usher_event *event, const char *advice)
{
    session_say(client, "the broker %s %s: %s%s%.100s%s; %s", what, client->options.username, name,
                event->detail[0] != '\0' ? " (" : "", event->detail,
                event->detail[0] != '\0' ? ")" : "", advice);
}

/* A session that cannot be resumed is not the end: there is still a login. */
static void receive_refusal(struct usher_client *client, struct event_node *node)
{
    int64_t code = node->event.code;
    uint32_t retry_after_ms = node->event.retry_after_ms;
    bool again = session_may_pass(code);
    if (client->hello_resumes && !again) {
        free(node);
        client->epoch = 0;
        session_greet(client); /* the refusal leaves this connection free to log in */
        return;
    }
    if (code == USHER_ERROR_UNAUTHENTICATED)
        again = session_token_refused(client);
    say_refusal(client, "refused", usher_error_name(code), &node->event, error_advice(code));
    node->event.id = 0;
    events_push(&client->events, node);
    session_lose(client, -EACCES, retry_after_ms, !again);
}

/* --- online ----------------------------------------------------------------------------------- */

/* Its place in the session. True: it is for the program. */
static bool take_number(struct usher_client *client, struct usher_event *event)
{
    uint64_t after_seq = client->received_seq;
    client->missed += event->seq - after_seq - 1;
    client->received_seq = event->seq;
    if (event->mid != 0 && !stored_take(&client->stored, after_seq, event->seq, event->mid)) {
        client->processed_seq = stored_settle(&client->stored, client->processed_seq);
        return false;
    }
    if (event->mid != 0 && client->options.manual_acks)
        stored_mark(&client->stored, event->seq, event->mid);
    event->id = 0;
    event->epoch = client->epoch;
    event->missed = client->missed;
    client->missed = 0;
    return true;
}

/* A number that was there before is a repetition, and not for the program. */
static void receive_message(struct usher_client *client, struct event_node *node)
{
    if (node->event.seq == 0) {
        node->event.id = 0;
        node->event.epoch = client->epoch;
        node->event.transient = true;
        events_push(&client->events, node);
        return;
    }
    if (node->event.seq > client->received_seq && take_number(client, &node->event))
        events_push(&client->events, node);
    else
        free(node);
}

/* In the place of a message that this client will not hold; nobody misses a transient one. */
static void tell_passed_message(struct usher_client *client, const struct broker_head *head,
                                struct event_node *node)
{
    node->event.seq = head->seq;
    if (head->seq > client->received_seq && take_number(client, &node->event))
        events_push(&client->events, node);
    else
        free(node);
}

/* A broker of before stored messages took it for one that is not, and that is no success. */
static void tell_not_stored(struct usher_event *event)
{
    event->type = USHER_ERROR;
    event->code = USHER_ERROR_NOT_STORED;
    event->epoch = 0;
    event->detail = "the broker is of a version that stores none: it was sent, and may be lost";
}

/* An answer to nothing is dropped: its request may have timed out here, or in an earlier life. */
static void receive_answer(struct usher_client *client, struct event_node *node)
{
    if (node->event.id == 0 && node->event.type == USHER_ERROR) {
        events_push(&client->events, node);
        return;
    }
    struct request *request = requests_answered(&client->requests, node->event.id);
    if (request == NULL) {
        free(node);
        return;
    }
    node->event.id = request->id;
    if (request->joins) {
        rooms_refused(client, request, node);
        return;
    }
    if (node->event.type == USHER_DONE && request->stored && node->event.mid == 0)
        tell_not_stored(&node->event);
    if (node->event.type != USHER_ERROR)
        friends_taken(&client->friends, request->wire_id);
    bool reminds = request->reminds;
    request_answered(&client->requests, request, NULL);
    if (reminds)
        friends_reminded(client, node);
    else
        events_push(&client->events, node);
}

static bool is_final(const struct usher_event *close)
{
    return close->do_not_return || close->code == USHER_CLOSE_REPLACED ||
           close->code == USHER_CLOSE_AUTH_FAILED || close->code == USHER_CLOSE_LOGGED_OUT ||
           close->code == USHER_CLOSE_STALE_SESSION;
}

/* A session that was online ended with its token, and a new one begins a new session. */
static bool another_token_helps(struct usher_client *client)
{
    if (client->state != USHER_STATE_ONLINE)
        return session_token_refused(client);
    if (client->token_source == NULL)
        return false;
    client->epoch = 0;
    return true;
}

/* The broker says why, and with that whether there is a way back. */
static void receive_close(struct usher_client *client, struct event_node *node)
{
    uint32_t retry_after_ms = node->event.retry_after_ms;
    bool final = is_final(&node->event);
    if (node->event.code == USHER_CLOSE_AUTH_FAILED && !node->event.do_not_return)
        final = !another_token_helps(client);
    if (node->event.code == USHER_CLOSE_TOKEN_EXPIRED)
        client->epoch = 0; /* there is no session to resume */
    say_refusal(client, "closed the connection of", usher_close_name(node->event.code),
                &node->event, close_advice(node->event.code));
    node->event.id = 0;
    events_push(&client->events, node);
    session_lose(client, -ECONNABORTED, retry_after_ms, final);
}

/* Whatever becomes of the greeting, this address leads to a broker. */
static bool says_a_broker(const struct usher_event *event, uint64_t hello_id)
{
    return event->type == USHER_WELCOME || event->type == USHER_CLOSE ||
           (event->type == USHER_ERROR && event->id == hello_id);
}

static void receive_greeting(struct usher_client *client, struct event_node *node)
{
    client->answered = client->answered || says_a_broker(&node->event, client->hello_id);
    switch (node->event.type) {
    case USHER_WELCOME:
        receive_welcome(client, node);
        return;
    case USHER_CLOSE:
        receive_close(client, node);
        return;
    case USHER_ERROR:
        if (node->event.id == client->hello_id) {
            receive_refusal(client, node);
            return;
        }
        break;
    case USHER_PONG:
        free(node);
        return;
    default:
        break;
    }
    free(node);
    session_break_off(client, -EPROTO, "something else than a Welcome");
}

/* A second Welcome would change numbers under the program's feet. */
static void receive_online(struct usher_client *client, struct event_node *node)
{
    switch (node->event.type) {
    case USHER_MESSAGE:
        receive_message(client, node);
        return;
    case USHER_CLOSE:
        receive_close(client, node);
        return;
    case USHER_WELCOME:
        free(node);
        session_break_off(client, -EPROTO, "a second Welcome");
        return;
    default:
        receive_answer(client, node);
        return;
    }
}

/* --- bytes ------------------------------------------------------------------------------------ */

static void receive_frame(struct usher_client *client, struct bytes bytes)
{
    struct event_node *node = NULL;
    struct broker_frame frame;
    int result = broker_frame_read(bytes, &frame);
    if (result == 0 && frame.body >= BROKER_ROOM_STATE && client->state == USHER_STATE_ONLINE) {
        rooms_receive(client, &frame);
        return;
    }
    if (result == 0)
        result = incoming_decode(&frame, &node);
    if (result == -ENOMSG)
        return; /* something newer than this version */
    if (result < 0)
        session_break_off(client, result, "a frame that cannot be read");
    else if (client->state == USHER_STATE_GREETING)
        receive_greeting(client, node);
    else
        receive_online(client, node);
}

/* What the broker may send: as large as its Welcome said. */
static size_t frame_bytes_told(const struct usher_client *client)
{
    if (client->state != USHER_STATE_ONLINE || client->frame_bytes_max < GREETING_BYTES_MAX)
        return GREETING_BYTES_MAX;
    return client->frame_bytes_max;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* A frame that is larger than this client will hold begins here. 1: its bytes are to be passed
 * over; 0: more are needed to tell what it is; or a negative errno. */
static int begin_passing(struct usher_client *client, struct bytes input)
{
    struct broker_head head;
    struct event_node *node;
    if (input.size < BROKER_HEAD_BYTES)
        return 0; /* what is too large is longer than that */
    if (broker_head_read(input, &head) < 0 ||
        (head.body != BROKER_MESSAGE && head.body != BROKER_REPLY &&
         head.body != BROKER_ROOM_MESSAGES) ||
        head.frame_bytes > frame_bytes_told(client))
        return -EMSGSIZE;
    node = event_create(USHER_ERROR, DETAIL_BYTES_MAX);
    if (node == NULL)
        return -ENOMEM;
    snprintf((char *)node->data, DETAIL_BYTES_MAX,
             "passed over: a frame of %zu bytes, and incoming_frame_bytes_max is %zu",
             head.frame_bytes, client->options.incoming_frame_bytes_max);
    node->event.detail = (const char *)node->data;
    node->event.code = USHER_ERROR_TOO_LARGE;
    node->event.id = head.id;
    if (head.body == BROKER_MESSAGE)
        tell_passed_message(client, &head, node);
    else if (head.body == BROKER_ROOM_MESSAGES)
        rooms_passed_over(client, head.seq, node);
    else
        receive_answer(client, node);
    client->passing_bytes = head.length_bytes + head.frame_bytes;
    return 1;
}

/* Takes from the input what belongs to the frame that is passed over. */
static size_t pass_over(struct usher_client *client, size_t available)
{
    size_t taken = smaller(client->passing_bytes, available);
    client->passing_bytes -= taken;
    return taken;
}

/* Handles the whole frames in the input. False when the connection is gone or reading is to
 * pause. */
static bool receive_input(struct usher_client *client)
{
    struct connection *connection = &client->connection;
    size_t taken = 0;
    while (connection->connected) {
        if (session_events_full(client)) {
            client->paused = true;
            break;
        }
        if (taken == connection->input.size)
            break;
        if (client->passing_bytes > 0) {
            taken += pass_over(client, connection->input.size - taken);
            continue;
        }
        struct bytes input = {connection->input.data + taken, connection->input.size - taken};
        struct bytes frame;
        size_t used = 0;
        int result = frame_next(
            input, smaller(frame_bytes_told(client), client->options.incoming_frame_bytes_max),
            &frame, &used);
        if (result == -EMSGSIZE && client->state == USHER_STATE_ONLINE) {
            result = begin_passing(client, input);
            if (result == 1)
                continue;
        }
        if (result == 0)
            break;
        if (result < 0) {
            session_break_off(client, result,
                              result == -EMSGSIZE ? "a frame beyond the limit" : "no usher frame");
            return false;
        }
        taken += used;
        receive_frame(client, frame);
    }
    if (!connection->connected)
        return false;
    CHECK(taken <= connection->input.size);
    if (taken > 0)
        buffer_consume(&connection->input, taken);
    if (connection->input.size == 0 && connection->input.capacity > INPUT_BYTES_KEPT)
        buffer_fini(&connection->input); /* one large frame is no reason to keep so much */
    return !client->paused;
}

/* The reason of a Close that did not come: the code of the WebSocket's end stands for it. */
static bool receive_close_code(struct usher_client *client, unsigned code, const char *text)
{
    size_t size = strlen(text) + 1;
    struct event_node *node = NULL;
    if (code > CLOSE_CODE_REASONS && code < CLOSE_CODE_REASONS + 1000)
        node = event_create(USHER_CLOSE, size);
    if (node == NULL)
        return false;
    memcpy(node->data, text, size);
    node->event.code = code - CLOSE_CODE_REASONS;
    node->event.detail = (const char *)node->data;
    client->answered = true;
    receive_close(client, node);
    return true;
}

/* No more will come, and no Close has said why. */
static void receive_end(struct usher_client *client, int error)
{
    const char *host = client->options.host;
    unsigned port = client->options.port;
    const char *text = "";
    unsigned code = connection_close_code(&client->connection, &text);
    if (receive_close_code(client, code, text))
        return;
    if (code != 0)
        session_say(client, "%s:%u closed the WebSocket with %u%s%.100s: see the broker's log",
                    host, port, code, text[0] != '\0' ? " " : "", text);
    else if (error == -EPROTO || error == -ENOTSUP || error == -EILSEQ)
        session_say(client,
                    "%s:%u sent what usher's WebSocket does not hold: is it an usher broker?", host,
                    port);
    else
        session_say(client, "%s:%u closed the connection: %s", host, port,
                    error == -ESHUTDOWN ? "see the broker's log" : strerrordesc_np(-error));
    session_lose(client, error, 0, false);
}

void receive_all(struct usher_client *client)
{
    if (client->paused) {
        client->paused = false;
        /* That silence was our own. */
        client->last_received_ms = clock_ms();
    }
    /* Behind the end of a WebSocket the socket may stay quiet, so that is not left for later. */
    for (int reads = 0; reads < READS_MAX || client->connection.end != 0; reads++) {
        if (!receive_input(client))
            return;
        int result = connection_read(&client->connection, READ_BYTES);
        if (result == 0)
            break;
        if (result < 0) {
            receive_end(client, result);
            return;
        }
        client->last_received_ms = clock_ms();
    }
    /* What is still there after the last read is handled before the socket is asked again. */
    (void)receive_input(client);
}
