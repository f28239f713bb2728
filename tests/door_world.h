/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_DOOR_WORLD_H
#define USHER_TESTS_DOOR_WORLD_H

/* The broker from the socket to the store, for tests that try its door with any options: the real
 * net/, lobby, actors, committer and admission, on the calling thread alone. Sockets are real ones,
 * of the kind that needs no port; the store is the one in memory; time stands still but for
 * `now_ms`. So a script is a run that repeats.
 *
 * Whatever the broker says is taken apart by protobuf-c: whole frames, and none behind a Close. By
 * WebSocket they come in whole messages of a sane size, and nothing behind its Close either. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/memory.h"
#include "broker/parts.h"
#include "client.pb-c.h"
#include "door/admission.h"
#include "net/private.h"
#include "persist/committer.h"
#include "persist/queries.h"
#include "proto/frame.h"
#include "proto/utf8.h"
#include "proto/varint.h"
#include "token_make.h"
#include "ws_bytes.h"

#define DOOR_CHECK(condition)                                               \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                        \
        }                                                                   \
    } while (0)

enum { DOOR_ROUNDS_MAX = 2000, DOOR_QUIET_ROUNDS = 3 };

struct door {
    struct options options;
    struct env env;
    uint64_t now_ms;
    uint8_t random_next;
    bool by_ws; /* WebSocket is there too; before door_open */
    struct sockaddr_un addresses[LISTENERS];
    socklen_t address_sizes[LISTENERS];
    struct store *store;
    struct broker *broker;
};

/* How far one by WebSocket has come. */
enum door_ws { DOOR_WS_NOT, DOOR_WS_HEAD, DOOR_WS_OPEN, DOOR_WS_CLOSED, DOOR_WS_REFUSED };

struct door_client {
    struct door *door;
    int fd;             /* -1: none */
    bool ended, closed; /* no more will come; a Close came */
    enum door_ws ws;
    unsigned status, ws_code; /* of HTTP, of WebSocket's Close */
    unsigned pings, pongs;
    struct buffer wire; /* by WebSocket: what is not taken apart yet */
    struct buffer input;
    unsigned welcomes, errors, answers; /* answers: frames with an id */
    uint32_t code, reason;              /* of the last Error, of the Close */
    uint64_t epoch, seq;
    uint8_t secret[SECRET_BYTES];
};

/* --- the broker ------------------------------------------------------------------------------- */

static inline uint64_t door_monotonic(void *context)
{
    return ((struct door *)context)->now_ms * 1000000;
}

static inline uint64_t door_wall(void *context)
{
    return 1700000000000 + ((struct door *)context)->now_ms;
}

static inline void door_random(void *context, void *to, size_t size)
{
    struct door *door = context;
    uint8_t *bytes = to;
    for (size_t i = 0; i < size; i++)
        bytes[i] = ++door->random_next;
}

/* What the book of base/memory.h has, to the byte: while there is no broker, whose budget it is. */
static inline int64_t door_held(void)
{
    enum { STEP_BYTES = 64 * 1024, BUDGET_BYTES = 64 };
    const struct limits limits = {.limits_memory_bytes = BUDGET_BYTES};
    memory_open(&limits, NULL, NULL);
    memory_account(MEMORY_OF_OWN, 2 * STEP_BYTES);
    memory_review();
    int64_t end = BUDGET_BYTES / 8 * 7 - BUDGET_BYTES / 16;
    int64_t held = (int64_t)memory_excess(MEMORY_FULL) - 1 + end - 2 * STEP_BYTES;
    memory_account(MEMORY_OF_OWN, -2 * STEP_BYTES);
    memory_close();
    return held;
}

/* Options to be changed by the caller, and then door_open. */
static inline void door_init(struct door *door)
{
    memset(door, 0, sizeof(*door));
    DOOR_CHECK(options_init(&door->options) == 0);
    door->options.threads_io = door->options.threads_workers = 1;
    door->options.limits_users = 16;
    door->options.limits_services = 2;
    door->options.limits_connections = 64;
    free(door->options.admin_listen);
    DOOR_CHECK((door->options.admin_listen = strdup("")) != NULL);
    door->now_ms = 1000000;
    door->env = (struct env){door_monotonic, door_wall, door_random, door};
}

static inline void door_listen(struct door *door, enum listener_kind kind)
{
    struct sockaddr_un none = {.sun_family = AF_UNIX};
    struct sockaddr *address = (struct sockaddr *)&door->addresses[kind];
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    door->address_sizes[kind] = sizeof(door->addresses[kind]);
    DOOR_CHECK(listener >= 0 &&
               bind(listener, (struct sockaddr *)&none, sizeof(none.sun_family)) == 0 &&
               listen(listener, 64) == 0 &&
               getsockname(listener, address, &door->address_sizes[kind]) == 0);
    door->broker->passed.fds[kind] = listener;
}

static inline void door_open(struct door *door)
{
    const struct store_options kept = {.events_kept_max = 1024};
    char error[KEYRING_ERROR_BYTES + BROKER_ERROR_BYTES] = "";
    struct broker *broker = calloc(1, sizeof(*broker));
    struct keyring *keyring;
    DOOR_CHECK(broker != NULL && store_open_memory(&door->store, &kept) == 0);
    door->broker = broker;
    DOOR_CHECK(broker_assemble(broker, &door->options, &door->env, NULL, door->store) == 0);
    if (broker->admission != NULL) {
        DOOR_CHECK(keyring_read(&keyring, bytes_of_text(TOKEN_KEYS), error) == 0);
        admission_set_keys(broker->admission, keyring);
    }
    door_listen(door, LISTENER_tcp);
    if (door->by_ws)
        door_listen(door, LISTENER_ws);
    DOOR_CHECK(broker_open_net(broker, error) == 0);
    listener_resume(&broker->egress.net->reactors[0]);
}

/* Everybody works until nobody has anything to do, or for a bounded time. */
static inline void door_settle(struct door *door)
{
    struct broker *broker = door->broker;
    struct reactor *reactor = &broker->egress.net->reactors[0];
    unsigned quiet = 0;
    for (unsigned i = 0; i < DOOR_ROUNDS_MAX && quiet < DOOR_QUIET_ROUNDS; i++) {
        reactor_round(reactor, false);
        bool moved = reactor->more || scheduler_backlog(broker->scheduler);
        moved = committer_step(broker->committer) || moved;
        moved = queries_step(broker->queries) || moved;
        if (broker->admission != NULL)
            moved = admission_step(broker->admission) || moved;
        clock_step(broker->clock);
        quiet = moved ? 0 : quiet + 1;
    }
}

static inline void door_close(struct door *door)
{
    struct broker *broker = door->broker;
    struct net *net = broker->egress.net;
    store_memory_fail(door->store, 0);
    while (committer_step(broker->committer))
        continue;
    broker_dismantle(broker);
    net_close(net);
    free(broker);
    options_fini(&door->options);
}

/* --- clients ---------------------------------------------------------------------------------- */

static inline void client_open_at(struct door_client *client, struct door *door,
                                  enum listener_kind kind)
{
    memset(client, 0, sizeof(*client));
    client->door = door;
    client->ws = kind == LISTENER_ws ? DOOR_WS_HEAD : DOOR_WS_NOT;
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    DOOR_CHECK(client->fd >= 0);
    if (connect(client->fd, (struct sockaddr *)&door->addresses[kind], door->address_sizes[kind]) !=
        0)
        client->ended = true; /* more knock than may wait, or it has closed */
    door_settle(door);
}

static inline void client_open(struct door_client *client, struct door *door)
{
    client_open_at(client, door, LISTENER_tcp);
}

static inline void client_close(struct door_client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    buffer_fini(&client->input);
    buffer_fini(&client->wire);
}

static inline void client_hears(struct door_client *client, const Usher__V1__BrokerFrame *frame)
{
    DOOR_CHECK(!client->closed);
    client->answers += frame->id != 0;
    switch (frame->body_case) {
    case USHER__V1__BROKER_FRAME__BODY_WELCOME:
        client->welcomes++;
        client->epoch = frame->welcome->epoch;
        DOOR_CHECK(frame->welcome->secret.len == SECRET_BYTES);
        memcpy(client->secret, frame->welcome->secret.data, SECRET_BYTES);
        break;
    case USHER__V1__BROKER_FRAME__BODY_MESSAGE:
        client->seq = frame->message->seq;
        break;
    case USHER__V1__BROKER_FRAME__BODY_ERROR:
        client->errors++;
        client->code = frame->error->code;
        break;
    case USHER__V1__BROKER_FRAME__BODY_CLOSE:
        client->closed = true;
        client->reason = frame->close->reason;
        break;
    default:
        break;
    }
}

static inline void client_parse(struct door_client *client)
{
    struct bytes left = {client->input.data, client->input.size};
    struct bytes bytes;
    size_t used;
    while (frame_next(left, UINT32_MAX, &bytes, &used) == 1) {
        Usher__V1__BrokerFrame *frame =
            usher__v1__broker_frame__unpack(NULL, bytes.size, bytes.data);
        DOOR_CHECK(frame != NULL);
        client_hears(client, frame);
        usher__v1__broker_frame__free_unpacked(frame, NULL);
        left = (struct bytes){left.data + used, left.size - used};
    }
    if (left.size > 0)
        memmove(client->input.data, left.data, left.size);
    client->input.size = left.size;
}

static inline void client_drop_wire(struct door_client *client, size_t size)
{
    memmove(client->wire.data, client->wire.data + size, client->wire.size - size);
    client->wire.size -= size;
}

/* A binary message: whole frames, not many bytes of them unless it is one. */
static inline void client_takes_message(struct door_client *client, struct bytes payload)
{
    struct bytes first;
    size_t used;
    DOOR_CHECK(client->input.size == 0 && payload.size > 0);
    DOOR_CHECK(frame_next(payload, UINT32_MAX, &first, &used) == 1);
    DOOR_CHECK(payload.size <= WS_MESSAGE_BYTES || used == payload.size);
    DOOR_CHECK(buffer_append(&client->input, payload.data, payload.size) == 0);
    client_parse(client);
    DOOR_CHECK(client->input.size == 0);
}

static inline void client_takes_close(struct door_client *client, const struct ws_bytes_seen *seen)
{
    unsigned code = client->ws_code = ws_bytes_code(seen);
    DOOR_CHECK(seen->payload.size != 1 && code >= 1000 && code <= 4999);
    DOOR_CHECK(code != 1004 && code != 1006 && (code != 1005 || seen->payload.size == 0));
    for (size_t at = 2, size; at < seen->payload.size; at += size)
        DOOR_CHECK((size = utf8_size(seen->payload.data + at, seen->payload.size - at)) > 0);
    client->ws = DOOR_WS_CLOSED;
}

static inline void client_parse_messages(struct door_client *client)
{
    struct ws_bytes_seen seen;
    size_t used;
    int result;
    while ((result = ws_bytes_take((struct bytes){client->wire.data, client->wire.size}, &seen,
                                   &used)) == 1) {
        DOOR_CHECK(client->ws == DOOR_WS_OPEN);
        client->pings += seen.opcode == WS_BYTES_PING;
        client->pongs += seen.opcode == WS_BYTES_PONG;
        if (seen.opcode == WS_BYTES_BINARY)
            client_takes_message(client, seen.payload);
        else if (seen.opcode == WS_BYTES_CLOSE)
            client_takes_close(client, &seen);
        client_drop_wire(client, used);
    }
    DOOR_CHECK(result == 0);
}

/* HTTP, or frames for one who has sent frames. */
static inline void client_parse_head(struct door_client *client)
{
    struct buffer *wire = &client->wire;
    uint8_t *end = wire->size < 4 ? NULL : memmem(wire->data, wire->size, "\r\n\r\n", 4);
    if (wire->size >= 4 && memcmp(wire->data, "HTTP", 4) != 0) {
        DOOR_CHECK(buffer_append(&client->input, wire->data, wire->size) == 0);
        wire->size = 0;
        client_parse(client);
    } else if (end != NULL) {
        *end = '\0'; /* so that it is text */
        DOOR_CHECK(sscanf((const char *)wire->data, "HTTP/1.1 %3u ", &client->status) == 1);
        client->ws = client->status == 101 ? DOOR_WS_OPEN : DOOR_WS_REFUSED;
        client_drop_wire(client, (size_t)(end - wire->data) + 4);
    }
}

static inline void client_parse_wire(struct door_client *client)
{
    if (client->ws == DOOR_WS_HEAD)
        client_parse_head(client);
    if (client->ws == DOOR_WS_OPEN || client->ws == DOOR_WS_CLOSED)
        client_parse_messages(client);
}

/* One who began with HTTP where frames are spoken is told so in his own language, and no more. */
static inline bool client_is_refused(struct door_client *client)
{
    static const char refusal[] = "HTTP/1.1 426 ";
    bool refused = client->welcomes + client->answers == 0 &&
                   client->input.size > sizeof(refusal) &&
                   memcmp(client->input.data, refusal, sizeof(refusal) - 1) == 0;
    if (refused)
        client->ws = DOOR_WS_REFUSED;
    return refused;
}

/* True: something came. */
static inline bool client_read_once(struct door_client *client)
{
    struct buffer *to = client->ws != DOOR_WS_NOT ? &client->wire : &client->input;
    uint8_t *room = buffer_reserve(to, 65536);
    DOOR_CHECK(room != NULL);
    ssize_t got = client->ended ? 0 : recv(client->fd, room, 65536, MSG_DONTWAIT);
    if (got > 0) {
        to->size += (size_t)got;
        if (client->ws != DOOR_WS_NOT)
            client_parse_wire(client);
        else if (!client_is_refused(client))
            client_parse(client);
        return true;
    }
    client->ended = client->ended || got == 0 || errno != EAGAIN;
    return false;
}

/* All that is to come. */
static inline void client_read(struct door_client *client)
{
    do
        door_settle(client->door);
    while (client_read_once(client));
}

/* What does not fit into the socket goes when the broker has read; what it does not read, not at
 * all. False: that happened, or the connection has ended. */
static inline bool client_send(struct door_client *client, const void *data, size_t size)
{
    const uint8_t *at = data;
    for (unsigned tries = 0; size > 0 && tries < 64; tries++) {
        ssize_t sent = send(client->fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN)
            return false;
        if (sent > 0) {
            at += sent;
            size -= (size_t)sent;
            tries = 0;
        }
        if (size > 0)
            door_settle(client->door);
    }
    return size == 0;
}

/* --- frames of any size ----------------------------------------------------------------------- */

static inline void door_put_varint(struct buffer *out, uint64_t value)
{
    uint8_t bytes[VARINT_BYTES_MAX];
    DOOR_CHECK(buffer_append(out, bytes, varint_write(bytes, value)) == 0);
}

/* Fields that nobody knows, of so many bytes in all: 0, or 2 and more. */
static inline void door_put_padding(struct buffer *out, size_t size)
{
    enum { TAG = 15 << 3 | 2, TAG_NUMBER = 15 << 3 };
    static const uint8_t number[2] = {TAG_NUMBER, 0};
    size_t length_bytes = 1;
    while (size >= 2 && varint_size(size - 1 - length_bytes) > length_bytes)
        length_bytes++;
    if (size >= 4 && varint_size(size - 1 - length_bytes) != length_bytes) {
        DOOR_CHECK(buffer_append(out, number, sizeof(number)) == 0);
        door_put_padding(out, size - sizeof(number));
        return;
    }
    if (size < 2)
        return;
    static const uint8_t tag = TAG;
    DOOR_CHECK(buffer_append(out, &tag, 1) == 0);
    door_put_varint(out, size - 1 - length_bytes);
    uint8_t *to = buffer_reserve(out, size);
    DOOR_CHECK(to != NULL);
    memset(to, 'p', size - 1 - length_bytes);
    out->size += size - 1 - length_bytes;
}

/* Appends the frame with its length, padded to `size` bytes if it has fewer. */
static inline void door_put_frame(struct buffer *out, const Usher__V1__ClientFrame *frame,
                                  size_t size)
{
    struct buffer body = {0};
    size_t packed = usher__v1__client_frame__get_packed_size(frame);
    uint8_t *to = buffer_reserve(&body, packed);
    DOOR_CHECK(to != NULL);
    body.size += usher__v1__client_frame__pack(frame, to);
    if (packed < size)
        door_put_padding(&body, size - packed);
    door_put_varint(out, body.size);
    DOOR_CHECK(buffer_append(out, body.data, body.size) == 0);
    buffer_fini(&body);
}

static inline void door_put_login(struct buffer *out, const char *user, struct bytes token,
                                  bool acks, size_t size)
{
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Login login = USHER__V1__LOGIN__INIT;
    frame.id = 1;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_LOGIN;
    frame.login = &login;
    login.username = (char *)user;
    login.acks = acks;
    login.token = (ProtobufCBinaryData){.len = token.size, .data = (uint8_t *)token.data};
    door_put_frame(out, &frame, size);
}

static inline void door_put_send(struct buffer *out, uint64_t id, const char *user,
                                 struct bytes payload, size_t size)
{
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Send send = USHER__V1__SEND__INIT;
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_SEND;
    frame.send = &send;
    send.to = (char *)user;
    send.payload = (ProtobufCBinaryData){.len = payload.size, .data = (uint8_t *)payload.data};
    door_put_frame(out, &frame, size);
}

#endif
