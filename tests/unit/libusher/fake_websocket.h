/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_UNIT_LIBUSHER_FAKE_WEBSOCKET_H
#define USHER_TESTS_UNIT_LIBUSHER_FAKE_WEBSOCKET_H

/* A server of WebSocket that says exactly what a test tells it, and takes from a client only what
 * RFC 6455 lets him send. It shares no line with the library. */

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#include "unit/libusher/fake_broker.h"

#define CUSTOMS "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

struct server {
    struct fake fake;
    char url[64];
    struct buffer raw;    /* came, not yet looked at */
    struct buffer frames; /* of all messages */
    unsigned messages;    /* whole ones */
    size_t message_bytes; /* of the last one */
    uint8_t mask[4];      /* of the last frame */
    uint8_t pong[125];
    size_t pong_bytes;
    unsigned pongs, closes, close_code;
};

static inline void server_open(struct server *server)
{
    memset(server, 0, sizeof(*server));
    fake_open(&server->fake);
    snprintf(server->url, sizeof(server->url), "ws://127.0.0.1:%u", (unsigned)server->fake.port);
}

static inline void server_fini(struct server *server)
{
    buffer_fini(&server->raw);
    buffer_fini(&server->frames);
    fake_fini(&server->fake);
}

static inline void server_receive(struct server *server)
{
    uint8_t *place = buffer_reserve(&server->raw, 65536);
    ssize_t count = recv(server->fake.peer, place, 65536, MSG_DONTWAIT);
    if (count > 0)
        server->raw.size += (size_t)count;
}

/* One frame of the client's, if it is whole: masked, whole messages, nothing reserved. */
static inline bool take_message(struct server *server)
{
    uint8_t *raw = server->raw.data;
    size_t size = server->raw.size;
    if (size < 6)
        return false;
    size_t more = (raw[1] & 0x7f) == 127 ? 8 : (raw[1] & 0x7f) == 126 ? 2 : 0;
    if (size < 6 + more)
        return false;
    uint64_t length = more == 0 ? raw[1] & 0x7f : 0;
    for (size_t i = 0; i < more; i++)
        length = length << 8 | raw[2 + i];
    if (size - 6 - more < length)
        return false;
    assert_int_equal(raw[0] & 0xf0, 0x80);
    assert_int_equal(raw[1] & 0x80, 0x80);
    memcpy(server->mask, raw + 2 + more, 4);
    uint8_t *payload = raw + 6 + more;
    for (uint64_t i = 0; i < length; i++)
        payload[i] ^= server->mask[i % 4];
    if (raw[0] == 0x82) {
        server->messages++;
        server->message_bytes = length;
        buffer_append(&server->frames, payload, length);
    } else if (raw[0] == 0x8a) {
        server->pongs++;
        server->pong_bytes = length;
        memcpy(server->pong, payload, length);
    } else {
        assert_int_equal(raw[0], 0x88);
        server->closes++;
        server->close_code = (unsigned)payload[0] << 8 | payload[1];
    }
    buffer_consume(&server->raw, 6 + more + length);
    return true;
}

/* Whether the request is whole; then its key is given, and nothing may stand behind it. */
static inline bool take_request(struct server *server, char key[25])
{
    uint8_t *raw = server->raw.data;
    size_t size = server->raw.size;
    char *end = size > 0 ? memmem(raw, size, "\r\n\r\n", 4) : NULL;
    if (end == NULL)
        return false;
    char *found = memmem(raw, size, "Sec-WebSocket-Key: ", 19);
    assert_non_null(found);
    memcpy(key, found + 19, 24);
    key[24] = '\0';
    assert_memory_equal(raw, "GET /usher HTTP/1.1\r\n", 21);
    assert_ptr_equal(end + 4, raw + size);
    server->raw.size = 0;
    return true;
}

/* As RFC 6455 says, by another hand than the library's. */
static inline void say_101(struct buffer *out, const char *key)
{
    char text[256];
    uint8_t digest[20], accept[32];
    snprintf(text, sizeof(text), "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    SHA1((uint8_t *)text, strlen(text), digest);
    EVP_EncodeBlock(accept, digest, sizeof(digest));
    int size = snprintf(text, sizeof(text),
                        CUSTOMS "Sec-WebSocket-Accept: %s\r\n"
                                "Sec-WebSocket-Protocol: usher.v1\r\n\r\n",
                        accept);
    buffer_append(out, text, (size_t)size);
}

static inline void put_frame(struct buffer *out, uint8_t first, const void *payload, size_t size)
{
    uint8_t header[10] = {first, (uint8_t)size};
    size_t more = size < 126 ? 0 : size < 65536 ? 2 : 8;
    if (more > 0)
        header[1] = more == 2 ? 126 : 127;
    for (size_t i = 0; i < more; i++)
        header[2 + i] = (uint8_t)((uint64_t)size >> 8 * (more - 1 - i));
    buffer_append(out, header, 2 + more);
    if (size > 0)
        buffer_append(out, payload, size);
}

#endif
