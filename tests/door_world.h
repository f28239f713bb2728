/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_DOOR_WORLD_H
#define USHER_TESTS_DOOR_WORLD_H

/* The broker from the socket to the store, for tests that try its door with any options: the real
 * net/, lobby, actors, committer and admission, on the calling thread alone. Sockets are real ones,
 * of the kind that needs no port; the store is the one in memory; time stands still but for
 * `now_ms`. So a script is a run that repeats.
 *
 * Whatever the broker says is taken apart by protobuf-c: whole frames, and none behind a Close. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "broker/parts.h"
#include "client.pb-c.h"
#include "door/admission.h"
#include "net/private.h"
#include "persist/committer.h"
#include "persist/queries.h"
#include "proto/frame.h"
#include "proto/varint.h"
#include "token_make.h"

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
    int listener;
    struct sockaddr_un address;
    socklen_t address_size;
    struct store *store;
    struct broker *broker;
};

struct door_client {
    struct door *door;
    int fd;             /* -1: none */
    bool ended, closed; /* no more will come; a Close came */
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

static inline void door_listen(struct door *door)
{
    struct sockaddr_un none = {.sun_family = AF_UNIX};
    door->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    door->address_size = sizeof(door->address);
    DOOR_CHECK(
        door->listener >= 0 &&
        bind(door->listener, (struct sockaddr *)&none, sizeof(none.sun_family)) == 0 &&
        listen(door->listener, 64) == 0 &&
        getsockname(door->listener, (struct sockaddr *)&door->address, &door->address_size) == 0);
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
    door_listen(door);
    broker->passed.fds[LISTENER_tcp] = door->listener;
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

static inline void client_open(struct door_client *client, struct door *door)
{
    memset(client, 0, sizeof(*client));
    client->door = door;
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    DOOR_CHECK(client->fd >= 0);
    if (connect(client->fd, (struct sockaddr *)&door->address, door->address_size) != 0)
        client->ended = true; /* more knock than may wait */
    door_settle(door);
}

static inline void client_close(struct door_client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    buffer_fini(&client->input);
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

/* True: something came. */
static inline bool client_read_once(struct door_client *client)
{
    uint8_t *to = buffer_reserve(&client->input, 65536);
    DOOR_CHECK(to != NULL);
    ssize_t got = client->ended ? 0 : recv(client->fd, to, 65536, MSG_DONTWAIT);
    if (got > 0) {
        client->input.size += (size_t)got;
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
