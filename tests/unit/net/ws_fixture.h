/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_WS_FIXTURE_H
#define USHER_TESTS_WS_FIXTURE_H

/* A front end with listeners for WebSocket, and clients that speak it by ws_bytes.h, over plain
 * sockets or TLS.
 *
 * It runs in threads (start), or by hand: then the test's own thread does the I/O thread's rounds
 * wherever a client waits for something, and time is what the test says. */

#include "net/private.h"
#include "tls_fixture.h"
#include "ws_bytes.h"

#include <fcntl.h>
#include <sys/syscall.h>

static const char ws_hello[] = "\x01h"; /* a frame */

/* One at a time in a program: what its tests share. */
static struct {
    bool by_hand;
    uint64_t now_ms;
    struct files files;
    struct identity server;
    /* What that descriptor may still send, a byte at a time if need be; 0: nothing is watched. */
    _Atomic int held_fd;
    _Atomic size_t budget;
} ws_world;

/* --- sockets that take as many bytes as a test says ------------------------------------------- */

/* Stand in front of those of libc. */
ssize_t send(int fd, const void *data, size_t size, int flags)
{
    if (fd == ws_world.held_fd) {
        if (ws_world.budget == 0) {
            errno = EAGAIN;
            return -1;
        }
        size = size < ws_world.budget ? size : ws_world.budget;
        ws_world.budget -= size;
    }
    return syscall(SYS_sendto, fd, data, size, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    uint8_t bytes[65536];
    size_t size = 0;
    if (fd != ws_world.held_fd)
        return syscall(SYS_sendmsg, fd, message, flags);
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        size_t part = message->msg_iov[i].iov_len;
        part = part < sizeof(bytes) - size ? part : sizeof(bytes) - size;
        memcpy(bytes + size, message->msg_iov[i].iov_base, part);
        size += part;
    }
    return send(fd, bytes, size, flags);
}

/* The broker's end of the connection takes so many bytes from now on. */
static inline void ws_hold(struct fixture *fixture, conn_handle conn, size_t bytes)
{
    ws_world.budget = bytes;
    ws_world.held_fd = slot_find(fixture->net, conn)->fd;
}

static inline void ws_let_go(void)
{
    ws_world.held_fd = 0;
}

/* --- the front end ---------------------------------------------------------------------------- */

static inline int ws_set_up(void **state)
{
    set_up(state);
    struct fixture *fixture = *state;
    ws_world.by_hand = false;
    ws_let_go();
    fixture->options.listen[LISTENER_ws].address = "127.0.0.1:0";
    fixture->options.ws_path = "/usher";
    fixture->limits.ws_head_bytes = 8192;
    fixture->limits.ws_fragments = 64;
    fixture->limits.ws_control_per_second = 20;
    fixture->limits.limits_handshakes = 16;
    fixture->limits.limits_handshake_deadline_ms = 60000;
    return 0;
}

/* With TLS beside it. */
static inline int wss_set_up(void **state)
{
    ws_set_up(state);
    struct fixture *fixture = *state;
    fixture->options.listen[LISTENER_wss].address = "127.0.0.1:0";
    fixture->options.listen[LISTENER_tls].address = "127.0.0.1:0";
    fixture->options.tls_certificate_file = ws_world.files.certificate;
    fixture->options.tls_key_file = ws_world.files.key;
    fixture->options.tls_client_ca_file = "";
    return 0;
}

static inline int ws_set_up_group(void **state)
{
    signal(SIGPIPE, SIG_IGN);
    open_files(&ws_world.files);
    ws_world.server = make_identity("server", NULL);
    write_identity(&ws_world.files, &ws_world.server);
    return 0;
}

static inline int ws_tear_down_group(void **state)
{
    drop_identity(&ws_world.server);
    remove_files(&ws_world.files);
    return 0;
}

static inline uint64_t ws_monotonic(void *context)
{
    return ws_world.now_ms * 1000000;
}

static inline uint64_t ws_wall(void *context)
{
    return ws_world.now_ms;
}

static inline void ws_random(void *context, void *to, size_t size)
{
    memset(to, 7, size);
}

/* Instead of start(). */
static inline void ws_by_hand(struct fixture *fixture)
{
    static const struct env env = {ws_monotonic, ws_wall, ws_random, NULL};
    char error[256] = "";
    ws_world.by_hand = true;
    ws_world.now_ms = 1000000;
    fixture->options.env = &env;
    if (open_front(fixture, error) != 0)
        fail_msg("%s", error);
    listener_resume(&fixture->net->reactors[0]);
}

static inline void ws_pause(struct fixture *fixture)
{
    if (ws_world.by_hand)
        reactor_round(&fixture->net->reactors[0], false);
    else
        nap_ms(1);
}

/* By hand: whatever is there to be done. */
static inline void ws_rounds(struct fixture *fixture)
{
    for (unsigned i = 0; i < 20; i++)
        reactor_round(&fixture->net->reactors[0], false);
}

static inline void ws_pass(struct fixture *fixture, uint64_t ms)
{
    ws_rounds(fixture);
    ws_world.now_ms += ms;
    ws_rounds(fixture);
}

#define WS_WAIT(fixture, condition)                                                 \
    do {                                                                            \
        uint64_t give_up_ms = clock_ms() + WAIT_MS_MAX;                             \
        while (!(condition) && clock_ms() < give_up_ms)                             \
            ws_pause(fixture);                                                      \
        if (!(condition))                                                           \
            fail_msg("%s:%d: never came true: %s", __FILE__, __LINE__, #condition); \
    } while (0)

/* --- clients ---------------------------------------------------------------------------------- */

struct ws_peer {
    struct fixture *fixture;
    int fd;
    SSL *ssl; /* NULL: plain */
    conn_handle conn;
    struct buffer input;
    size_t used; /* of it, borrowed from the call before */
    bool ended;
};

static inline struct ws_peer ws_connect(struct fixture *fixture, enum listener_kind kind)
{
    static const struct manner any = {0};
    struct ws_peer peer = {.fixture = fixture, .fd = new_socket()};
    assert_int_equal(connect_to(fixture, peer.fd, kind), 0);
    if (!listener_rows[kind].by_tls)
        return peer;
    fcntl(peer.fd, F_SETFL, fcntl(peer.fd, F_GETFL) | O_NONBLOCK);
    peer.ssl = tls_client_on(peer.fd, &any);
    for (int result; (result = SSL_connect(peer.ssl)) != 1; ws_pause(fixture))
        assert_int_equal(SSL_get_error(peer.ssl, result), SSL_ERROR_WANT_READ);
    return peer;
}

static inline void ws_close(struct ws_peer *peer)
{
    SSL_free(peer->ssl);
    close(peer->fd);
    buffer_fini(&peer->input);
}

static inline void ws_send(struct ws_peer *peer, const void *data, size_t size)
{
    size_t sent = 0;
    if (peer->ssl == NULL)
        send_all(peer->fd, data, size);
    for (size_t done = 0; peer->ssl != NULL && done < size; done += sent)
        if (SSL_write_ex(peer->ssl, (const uint8_t *)data + done, size - done, &sent) != 1)
            ws_pause(peer->fixture);
}

/* In two parts, cut at `at`. */
static inline void ws_send_cut(struct ws_peer *peer, const struct buffer *bytes, size_t at)
{
    ws_send(peer, bytes->data, at);
    nap_ms(1);
    ws_send(peer, bytes->data + at, bytes->size - at);
}

/* One look at the socket. False: nothing has come. */
static inline bool ws_more(struct ws_peer *peer)
{
    uint8_t bytes[16384];
    ssize_t got;
    if (peer->ssl != NULL) {
        got = SSL_read(peer->ssl, bytes, sizeof(bytes));
        if (got <= 0)
            got = SSL_get_error(peer->ssl, (int)got) == SSL_ERROR_WANT_READ ? -1 : 0;
    } else {
        got = recv(peer->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        got = got < 0 && errno != EAGAIN ? 0 : got;
    }
    peer->ended = peer->ended || got == 0;
    if (got > 0)
        ws_bytes_append(&peer->input, bytes, (size_t)got);
    return got > 0;
}

static inline struct bytes ws_left(struct ws_peer *peer)
{
    if (peer->used > 0)
        memmove(peer->input.data, peer->input.data + peer->used, peer->input.size - peer->used);
    peer->input.size -= peer->used;
    peer->used = 0;
    return (struct bytes){peer->input.data, peer->input.size};
}

/* The next frame of the broker; its payload is borrowed until the next call. */
static inline struct ws_bytes_seen ws_next(struct ws_peer *peer)
{
    struct ws_bytes_seen seen;
    int result;
    uint64_t give_up_ms = clock_ms() + WAIT_MS_MAX;
    while ((result = ws_bytes_take(ws_left(peer), &seen, &peer->used)) == 0) {
        if (ws_more(peer))
            continue;
        if (peer->ended || clock_ms() > give_up_ms)
            fail_msg("no frame: %s, %zu bytes", peer->ended ? "the end" : "nothing",
                     peer->input.size);
        ws_pause(peer->fixture);
    }
    if (result < 0)
        fail_msg("no frame of a server: %02x %02x", peer->input.data[0], peer->input.data[1]);
    return seen;
}

static inline void ws_expect(struct ws_peer *peer, uint8_t opcode, const void *data, size_t size)
{
    struct ws_bytes_seen seen = ws_next(peer);
    assert_int_equal(seen.opcode, opcode);
    assert_int_equal(seen.payload.size, size);
    if (size > 0)
        assert_memory_equal(seen.payload.data, data, size);
}

static inline void ws_expect_end(struct ws_peer *peer)
{
    while (!peer->ended)
        if (!ws_more(peer) && !peer->ended)
            ws_pause(peer->fixture);
    assert_int_equal(ws_left(peer).size, 0);
}

/* And nothing behind it. */
static inline void ws_expect_close(struct ws_peer *peer, unsigned code)
{
    struct ws_bytes_seen seen = ws_next(peer);
    assert_int_equal(seen.opcode, WS_BYTES_CLOSE);
    assert_int_equal(ws_bytes_code(&seen), code);
    ws_expect_end(peer);
}

/* Nothing has come that was not taken. */
static inline void ws_expect_silence(struct ws_peer *peer)
{
    if (!ws_world.by_hand)
        nap_ms(30);
    ws_pause(peer->fixture);
    while (ws_more(peer))
        continue;
    assert_int_equal(ws_left(peer).size, 0);
    assert_false(peer->ended);
}

static inline void ws_send_head(struct ws_peer *peer)
{
    ws_send(peer, ws_bytes_head, strlen(ws_bytes_head));
    ws_send(peer, "\r\n", 2);
}

/* The answer's status; what stays is its body, or what comes behind. `head` may be NULL. */
static inline unsigned ws_status(struct ws_peer *peer, struct buffer *head)
{
    unsigned status = 0;
    uint8_t *end = NULL;
    uint64_t give_up_ms = clock_ms() + WAIT_MS_MAX;
    for (;;) {
        struct bytes left = ws_left(peer);
        end = left.size == 0 ? NULL : memmem(left.data, left.size, "\r\n\r\n", 4);
        if (end != NULL || peer->ended || clock_ms() > give_up_ms)
            break;
        if (!ws_more(peer))
            ws_pause(peer->fixture);
    }
    if (end == NULL)
        fail_msg("no answer: %s", peer->ended ? "the end" : "nothing");
    peer->used = (size_t)(end - peer->input.data) + 4;
    if (head != NULL)
        ws_bytes_append(head, peer->input.data, peer->used);
    end[3] = '\0';
    assert_int_equal(sscanf((char *)peer->input.data, "HTTP/1.1 %3u ", &status), 1);
    if (status == 101)
        assert_non_null(strstr((char *)peer->input.data, ws_bytes_accept));
    return status;
}

static inline void ws_upgrade(struct ws_peer *peer)
{
    ws_send_head(peer);
    assert_int_equal(ws_status(peer, NULL), 101);
}

/* So many bytes as one message. */
static inline void ws_say(struct ws_peer *peer, const void *data, size_t size)
{
    struct buffer out = {0};
    ws_bytes_message(&out, (struct bytes){data, size});
    ws_send(peer, out.data, out.size);
    buffer_fini(&out);
}

/* A frame of the protocol. */
static inline void ws_say_frame(struct ws_peer *peer, size_t size, uint8_t fill)
{
    struct buffer frame = {0};
    add_frame(&frame, size, fill);
    ws_say(peer, frame.data, frame.size);
    buffer_fini(&frame);
}

static inline void ws_control(struct ws_peer *peer, uint8_t opcode, const char *text)
{
    struct buffer out = {0};
    ws_bytes_put(&out, WS_BYTES_FIN | opcode, (struct bytes){(const uint8_t *)text, strlen(text)},
                 WS_BYTES_MASK);
    ws_send(peer, out.data, out.size);
    buffer_fini(&out);
}

/* A client whose connection is known, as new_peer makes them. */
static inline struct ws_peer ws_new_peer(struct fixture *fixture, enum listener_kind kind)
{
    unsigned before = records_count(fixture);
    struct ws_peer peer = ws_connect(fixture, kind);
    ws_upgrade(&peer);
    ws_say(&peer, ws_hello, 2);
    WS_WAIT(fixture, records_count(fixture) > before);
    peer.conn = record_handle(fixture, before);
    forget_frames(fixture, peer.conn);
    return peer;
}

static inline void ws_expect_frames(struct fixture *fixture, conn_handle conn, const void *data,
                                    size_t size)
{
    WS_WAIT(fixture, frames_size(fixture, conn) >= size);
    expect_frames(fixture, conn, data, size);
    forget_frames(fixture, conn);
}

static inline void ws_expect_conn_end(struct fixture *fixture, conn_handle conn, enum conn_end end)
{
    WS_WAIT(fixture, look(fixture, conn).ends > 0);
    assert_int_equal(look(fixture, conn).end, end);
    assert_int_equal(look(fixture, conn).ends, 1);
}

#endif
