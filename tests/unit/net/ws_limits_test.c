/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/transport.h"
#include "net/ws.h"

/* What the limits of WebSocket make of those who do right, at the ends of other options. */

struct scene {
    int ends[2]; /* ours, his */
    void *state;
    struct limits limits;
    uint64_t now_ms;
    size_t frame_bytes_max;
};

static void set_up(struct scene *scene)
{
    static const char head[] =
        "GET /usher HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    struct ws_site site = {.path = "/usher", .limits = &scene->limits};
    const struct transport_site all = {.ws = &site, .limits = &scene->limits};
    const struct transport_handshake *handshake = transport_ws.handshake;
    char answer[512];
    atomic_store(&scene->limits.ws_head_bytes, 8192);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, scene->ends), 0);
    assert_int_equal(send(scene->ends[1], head, sizeof(head) - 1, 0), sizeof(head) - 1);
    scene->state = handshake->begin(&all, scene->ends[0], "10.0.0.1:1", false);
    assert_non_null(scene->state);
    assert_int_equal(handshake->shake(&all, scene->ends[0], scene->state), SHAKEN_DONE);
    assert_true(recv(scene->ends[1], answer, sizeof(answer), 0) > 0);
    assert_memory_equal(answer, "HTTP/1.1 101", 12);
}

static void tear_down(struct scene *scene)
{
    transport_ws.destroy(scene->state);
    close(scene->ends[0]);
    close(scene->ends[1]);
}

/* A frame with a mask of zeros. */
static ssize_t gives(struct scene *scene, uint8_t first, uint8_t size, const void *payload)
{
    uint8_t frame[6 + 125] = {first, 0x80 | size};
    uint8_t bytes[4096];
    struct transport_read read = {.to = bytes,
                                  .size = sizeof(bytes),
                                  .frame_bytes_max = scene->frame_bytes_max,
                                  .now_ms = scene->now_ms,
                                  .limits = &scene->limits};
    memcpy(frame + 6, payload, size);
    assert_int_equal(send(scene->ends[1], frame, 6u + size, 0), 6 + size);
    return transport_ws.read(scene->ends[0], scene->state, &read);
}

enum { PONG = 0x8a, BEGIN = 0x02, GO_ON = 0x00 };

/* A short session.heartbeat_ms and a low ws.control_per_second ended everybody who was quiet. */
static void a_pong_that_was_asked_for_is_free(void **state)
{
    struct scene scene = {.limits = {.ws_control_per_second = 1, .ws_fragments = 1},
                          .frame_bytes_max = 100};
    uint8_t ping[8];
    set_up(&scene);
    for (unsigned i = 0; i < 5; i++) {
        assert_true(transport_ws.rouse(scene.state));
        assert_int_equal(transport_ws.settle(scene.ends[0], scene.state), 0);
        assert_int_equal(recv(scene.ends[1], ping, sizeof(ping), 0), 2);
        assert_int_equal(gives(&scene, 0x82, 2, "\1a"), 2); /* he speaks meanwhile */
        assert_int_equal(gives(&scene, PONG, 0, ""), -EAGAIN);
    }
    assert_int_equal(gives(&scene, PONG, 0, ""), -EAGAIN); /* that of this second */
    assert_int_equal(gives(&scene, PONG, 0, ""), -EDQUOT);
    tear_down(&scene);
}

/* Gives after how many fragments of a message it ended. */
static unsigned fragments_of(size_t frame_bytes_max, unsigned most)
{
    struct scene scene = {.limits = {.ws_control_per_second = 1, .ws_fragments = 64},
                          .frame_bytes_max = frame_bytes_max};
    unsigned count = 0;
    set_up(&scene);
    while (count < most && gives(&scene, count == 0 ? BEGIN : GO_ON, 0, "") == -EAGAIN)
        count++;
    tear_down(&scene);
    return count;
}

/* A browser cuts a message every 128 KiB: one of 9 MB ended its sender, with a limit of 16 MiB. */
static void a_large_message_may_come_in_pieces(void **state)
{
    assert_int_equal(fragments_of(4096, 1000), 64);
    assert_int_equal(fragments_of(64 * 1024, 1000), 64);
    assert_int_equal(fragments_of(64 * 1024 + 1, 1000), 65);
    assert_int_equal(fragments_of(16 * 1024 * 1024, 1000), 64 + 255);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pong_that_was_asked_for_is_free),
        cmocka_unit_test(a_large_message_may_come_in_pieces),
    };
    return cmocka_run_group_tests_name("net.ws_limits", tests, NULL, NULL);
}
