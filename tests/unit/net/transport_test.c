/* SPDX-License-Identifier: Apache-2.0 */
#include "net_fixture.h"

#include "client.pb-c.h"
#include "net/codec.h"
#include "net/transport.h"

/* What every transport and every codec of base/listeners.def has to do, whatever it is: a new row
 * is tried by this without a line here. What one of them does beside that has a test of its own. */

enum { BOTH_ENDS = 2, MAX = 1000 };

static void open_ends(int ends[BOTH_ENDS])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
}

static void close_ends(const int ends[BOTH_ENDS])
{
    close(ends[0]);
    close(ends[1]);
}

/* --- transports ------------------------------------------------------------------------------- */

/* As a connection that never got so far is closed: told, without a state. */
static void ends_without_a_state(void **state)
{
    for (unsigned kind = 0; kind < TRANSPORTS; kind++) {
        int ends[BOTH_ENDS];
        open_ends(ends);
        transports[kind]->shut(ends[0], NULL);
        transports[kind]->destroy(NULL);
        expect_end(ends[1]);
        close_ends(ends);
    }
}

static void looks_at_a_hello_without_taking_it(void **state)
{
    for (unsigned kind = 0; kind < TRANSPORTS; kind++) {
        const struct transport_handshake *handshake = transports[kind]->handshake;
        int ends[BOTH_ENDS];
        if (handshake == NULL)
            continue;
        open_ends(ends);
        assert_int_equal(handshake->peek(ends[0]), HELLO_AWAITED);
        send_all(ends[1], "\xff\xff", 2);
        /* HTTP has no first byte of its own: what is none is met when there is more of it. */
        assert_int_equal(handshake->peek(ends[0]),
                         kind == TRANSPORT_ws ? HELLO_FINE : HELLO_FOREIGN);
        expect_bytes(ends[0], "\xff\xff", 2);
        shutdown(ends[1], SHUT_WR);
        assert_int_equal(handshake->peek(ends[0]), HELLO_END);
        close_ends(ends);
    }
}

/* What is counted tells how it went, and those who speak another language are told which. */
static void has_words_for_its_handshake(void **state)
{
    for (unsigned kind = 0; kind < TRANSPORTS; kind++) {
        const struct transport_handshake *handshake = transports[kind]->handshake;
        if (handshake == NULL)
            continue;
        assert_string_not_equal(handshake->language, "");
        assert_int_not_equal(handshake->done, handshake->failed);
        assert_int_not_equal(handshake->done, handshake->foreign);
        assert_int_not_equal(handshake->failed, handshake->foreign);
    }
}

static void expect_read(const struct transport *transport, int fd, size_t size, ssize_t result,
                        unsigned then)
{
    uint8_t bytes[16];
    struct transport_read read = {.to = bytes, .size = size, .next = 77, .wire_bytes = 77};
    assert_int_equal(transport->read(fd, NULL, &read), result);
    assert_int_equal(read.wire_bytes, result > 0 ? result : 0);
    if (result > 0)
        assert_int_equal(read.next, then);
}

/* Where there is no handshake there is no state, and it can be tried as it is. */
static void reads_until_the_socket_is_empty(void **state)
{
    for (unsigned kind = 0; kind < TRANSPORTS; kind++) {
        const struct transport *transport = transports[kind];
        int ends[BOTH_ENDS];
        if (transport->handshake != NULL)
            continue;
        open_ends(ends);
        expect_read(transport, ends[0], 8, -EAGAIN, 0);
        assert_int_equal(transport->write(ends[1], NULL, "0123456789", 10), 10);
        expect_read(transport, ends[0], 8, 8, TRANSPORT_MORE);
        expect_read(transport, ends[0], 8, 2, 0);
        transport->shut(ends[1], NULL);
        expect_read(transport, ends[0], 8, 0, 0);
        close(ends[1]);
        assert_int_equal(transport->write(ends[0], NULL, "x", 1), -EPIPE); /* and no SIGPIPE */
        close(ends[0]);
    }
}

static void writes_what_the_socket_takes(void **state)
{
    for (unsigned kind = 0; kind < TRANSPORTS; kind++) {
        static const uint8_t much[1 << 22];
        const struct transport *transport = transports[kind];
        int ends[BOTH_ENDS];
        if (transport->handshake != NULL)
            continue;
        open_ends(ends);
        ssize_t taken = transport->write(ends[0], NULL, much, sizeof(much));
        assert_true(taken > 0 && taken < (ssize_t)sizeof(much));
        assert_int_equal(transport->write(ends[0], NULL, much, sizeof(much)), -EAGAIN);
        close_ends(ends);
    }
}

/* --- codecs ----------------------------------------------------------------------------------- */

/* What it says to one who is not let in. */
static struct buffer last_words(const struct codec *codec)
{
    struct buffer out = {0};
    assert_int_equal(codec->close(&out, USHER__V1__CLOSE__REASON__OVERLOADED, "later", 5), 0);
    assert_true(out.size > 0);
    return out;
}

static void says_why_it_lets_nobody_in(void **state)
{
    for (unsigned kind = 0; kind < CODECS; kind++) {
        struct buffer out = last_words(codecs[kind]);
        assert_non_null(memmem(out.data, out.size, "later", 5));
        buffer_fini(&out);
    }
}

/* The same bytes are the same frames however they come, and the end of one is known from its
 * beginning. */
static void finds_frames_byte_by_byte(void **state)
{
    const struct codec *codec = &codec_frames;
    struct buffer in = {0};
    add_frame(&in, 200, 'a');
    add_frame(&in, 0, 0);
    add_frame(&in, 3, 'b');
    for (size_t size = 0; size <= in.size; size++) {
        size_t whole = 77, one = 77;
        size_t expected = size < 202 ? 0 : size < 203 ? 202 : size < 207 ? 203 : 207;
        struct bytes input = {in.data, size};
        assert_int_equal(codec->whole(input, MAX, SIZE_MAX, &whole), 0);
        assert_int_equal(codec->whole(input, MAX, 1, &one), 0);
        assert_int_equal(whole, expected);
        assert_int_equal(one, expected < 202 ? 0 : 202);
        assert_int_equal(codec->arriving(input), size < 2 ? 0 : 202);
    }
    buffer_fini(&in);
}

/* What is whole before a fault goes up all the same. */
static void says_what_is_wrong_behind_whole_frames(void **state)
{
    const struct codec *codec = &codec_frames;
    static const struct {
        const char *bytes;
        size_t size;
        int fault;
    } rows[] = {{"\x01x\xe9\x07", 4, -EMSGSIZE},
                {"\x01x\xe8\x07", 4, 0},
                {"\x01x\xff\xff\xff\xff\xff", 7, -EPROTO}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t whole = 77;
        struct bytes input = {(const uint8_t *)rows[i].bytes, rows[i].size};
        assert_int_equal(codec->whole(input, MAX, SIZE_MAX, &whole), rows[i].fault);
        assert_int_equal(whole, 2);
        assert_int_equal(codec->whole(input, MAX, 1, &whole), 0);
    }
}

static void knows_what_it_puts_round_a_frame(void **state)
{
    size_t most = 0;
    for (unsigned kind = 0; kind < CODECS; kind++)
        most = codecs[kind]->overhead_bytes > most ? codecs[kind]->overhead_bytes : most;
    assert_int_equal(codec_overhead_bytes(), most);
    assert_true(most >= FRAME_PREFIX_BYTES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_without_a_state),
        cmocka_unit_test(looks_at_a_hello_without_taking_it),
        cmocka_unit_test(has_words_for_its_handshake),
        cmocka_unit_test(reads_until_the_socket_is_empty),
        cmocka_unit_test(writes_what_the_socket_takes),
        cmocka_unit_test(says_why_it_lets_nobody_in),
        cmocka_unit_test(finds_frames_byte_by_byte),
        cmocka_unit_test(says_what_is_wrong_behind_whole_frames),
        cmocka_unit_test(knows_what_it_puts_round_a_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
