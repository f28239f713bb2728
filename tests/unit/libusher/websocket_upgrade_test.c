/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/websocket_upgrade.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What asks for a WebSocket, and every answer that a server, a proxy or somebody else may give to
 * it, byte by byte: until the last byte that is needed nothing is decided, unless it never could be
 * good. */

static const char ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; /* of the key in RFC 6455, 1.3 */

#define SWITCHES "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
#define ACCEPTS "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
#define USHER "Sec-WebSocket-Protocol: usher.v1\r\n"

static const struct {
    const char *what, *head;
    int result;
    unsigned status;
    const char *fault;
    uint32_t retry_after_ms;
} ROWS[] = {
    {"the broker's", SWITCHES ACCEPTS USHER "\r\n", 1, 101, "", 0},
    {"a proxy's, in small letters",
     "HTTP/1.1 101\r\nupgrade:WebSocket\r\nconnection: keep-alive,\tupgrade \r\n"
     "sec-websocket-accept:s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\t\r\nsec-websocket-protocol: usher.v1\r\n"
     "Set-Cookie: a=b; c\r\nX-Empty:\r\n\r\n",
     1, 101, "", 0},
    {"a list of two upgrades, and Connection twice",
     "HTTP/1.1 101 x\r\nUpgrade: h2c, websocket\r\nConnection: close\r\nConnection: "
     "upgrade\r\n" ACCEPTS USHER "\r\n",
     1, 101, "", 0},
    {"no Upgrade", "HTTP/1.1 101 x\r\nConnection: Upgrade\r\n" ACCEPTS USHER "\r\n", -EPROTO, 101,
     "an answer that is no upgrade to WebSocket", 0},
    {"another one",
     "HTTP/1.1 101 x\r\nUpgrade: websocketx\r\nConnection: Upgrade\r\n" ACCEPTS USHER "\r\n",
     -EPROTO, 101, "an answer that is no upgrade to WebSocket", 0},
    {"no Connection", "HTTP/1.1 101 x\r\nUpgrade: websocket\r\n" ACCEPTS USHER "\r\n", -EPROTO, 101,
     "an answer that is no upgrade to WebSocket", 0},
    {"HTTP/1.0",
     "HTTP/1.0 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" ACCEPTS USHER "\r\n",
     -EPROTO, 101, "an answer that is no upgrade to WebSocket", 0},
    {"no accept", SWITCHES USHER "\r\n", -EPROTO, 101, "the wrong Sec-WebSocket-Accept", 0},
    {"a wrong one", SWITCHES "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOp=\r\n" USHER "\r\n",
     -EPROTO, 101, "the wrong Sec-WebSocket-Accept", 0},
    {"one in another case",
     SWITCHES "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" USHER "\r\n", -EPROTO, 101,
     "the wrong Sec-WebSocket-Accept", 0},
    {"a shorter one", SWITCHES "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo\r\n" USHER "\r\n",
     -EPROTO, 101, "the wrong Sec-WebSocket-Accept", 0},
    {"two of them", SWITCHES ACCEPTS ACCEPTS USHER "\r\n", -EPROTO, 101,
     "the wrong Sec-WebSocket-Accept", 0},
    {"an extension", SWITCHES ACCEPTS USHER "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
     -EPROTO, 101, "an extension that nobody asked for", 0},
    {"no sub-protocol", SWITCHES ACCEPTS "\r\n", -EPROTO, 101, "another sub-protocol than usher.v1",
     0},
    {"another one", SWITCHES ACCEPTS "Sec-WebSocket-Protocol: mqtt\r\n\r\n", -EPROTO, 101,
     "another sub-protocol than usher.v1", 0},
    {"two of them", SWITCHES ACCEPTS USHER USHER "\r\n", -EPROTO, 101,
     "another sub-protocol than usher.v1", 0},

    {"full", "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\n\r\n",
     -ECONNREFUSED, 503, "", 2000},
    {"for an hour and more", "HTTP/1.1 503 x\r\nRetry-After: 99999999999999999999\r\n\r\n",
     -ECONNREFUSED, 503, "", 3600000},
    {"until a date", "HTTP/1.1 503 x\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\n",
     -ECONNREFUSED, 503, "", 0},
    {"forbidden", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n", -ECONNREFUSED, 403, "", 0},
    {"not here", "HTTP/1.1 404 Not Found\r\n\r\n", -ECONNREFUSED, 404, "", 0},
    {"without fields or words", "HTTP/1.0 426\r\n\r\n", -ECONNREFUSED, 426, "", 0},
    {"elsewhere", "HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", -ECONNREFUSED, 302, "", 0},

    {"frames", "\x0a\x08\x05", -EPROTO, 0, "what is no HTTP", 0},
    {"a greeting of another server", "SSH-2.0-x\r\n", -EPROTO, 0, "what is no HTTP", 0},
    {"HTTP/2", "HTTP/2 101\r\n\r\n", -EPROTO, 0, "what is no HTTP", 0},
    {"no status", "HTTP/1.1 \r\n\r\n", -EPROTO, 0, "a head that is not HTTP", 0},
    {"nothing at all", "HTTP/1.\r\n\r\n", -EPROTO, 0, "a head that is not HTTP", 0},
    {"letters", "HTTP/1.1 1O1 x\r\n\r\n", -EPROTO, 0, "a head that is not HTTP", 0},
    {"four digits", "HTTP/1.1 1010\r\n\r\n", -EPROTO, 0, "a head that is not HTTP", 0},
    {"a low one", "HTTP/1.1 099 x\r\n\r\n", -EPROTO, 0, "a head that is not HTTP", 0},
    {"a line that goes on", SWITCHES ACCEPTS " x\r\n" USHER "\r\n", -EPROTO, 0,
     "a head that is not HTTP", 0},
    {"a line without a colon", SWITCHES "x\r\n" ACCEPTS USHER "\r\n", -EPROTO, 0,
     "a head that is not HTTP", 0},
    {"a field without a name", SWITCHES ": x\r\n" ACCEPTS USHER "\r\n", -EPROTO, 0,
     "a head that is not HTTP", 0},
    {"a blank before the colon", SWITCHES "Sec-WebSocket-Accept : x\r\n" ACCEPTS USHER "\r\n",
     -EPROTO, 0, "a head that is not HTTP", 0},
    {"a bare line feed", SWITCHES "X: y\nZ: w\r\n" ACCEPTS USHER "\r\n", -EPROTO, 0,
     "a head that is not HTTP", 0},
    {"a bare carriage return", SWITCHES "X: y\rZ: w\r\n" ACCEPTS USHER "\r\n", -EPROTO, 0,
     "a head that is not HTTP", 0},
};

static int read_copy(const char *head, size_t size, struct websocket_answer *answer)
{
    uint8_t *copy = malloc(size + 1); /* exact but for one byte, which a sanitizer would see */
    memcpy(copy, head, size);
    copy[size] = '\n';
    int result = websocket_answer_read((struct bytes){copy, size}, ACCEPT, answer);
    free(copy);
    return result;
}

static void each_answer_byte_by_byte(void **state)
{
    for (size_t row = 0; row < sizeof(ROWS) / sizeof(*ROWS); row++) {
        struct websocket_answer answer;
        size_t size = strlen(ROWS[row].head);
        for (size_t cut = 0; cut < size; cut++) {
            int result = read_copy(ROWS[row].head, cut, &answer);
            if (result != 0 && (ROWS[row].status != 0 || result != -EPROTO))
                fail_msg("%s: %d after %zu bytes", ROWS[row].what, result, cut);
        }
        if (read_copy(ROWS[row].head, size, &answer) != ROWS[row].result ||
            answer.status != ROWS[row].status || strcmp(answer.fault, ROWS[row].fault) != 0 ||
            answer.retry_after_ms != ROWS[row].retry_after_ms)
            fail_msg("%s: %u \"%s\" %u", ROWS[row].what, answer.status, answer.fault,
                     answer.retry_after_ms);
    }
}

/* What stands behind the head is frames, and none of its business. */
static void a_head_ends_where_it_ends(void **state)
{
    static const char HEAD[] = SWITCHES ACCEPTS USHER "\r\n\x82\x00\r\n\r\n";
    struct websocket_answer answer;
    assert_int_equal(read_copy(HEAD, sizeof(HEAD) - 1, &answer), 1);
    assert_int_equal(answer.size, sizeof(HEAD) - 1 - 6);
}

static void a_nul_is_no_field(void **state)
{
    char head[] = SWITCHES ACCEPTS USHER "X: y\r\n\r\n";
    struct websocket_answer answer;
    *strchr(head, 'y') = '\0';
    assert_int_equal(read_copy(head, sizeof(head) - 1, &answer), -EPROTO);
}

/* n and n + 1 bytes, and a head that never ends. */
static void a_head_has_its_length(void **state)
{
    static const char END[] = "\r\n" ACCEPTS USHER "\r\n";
    static const char BEGINNING[] = SWITCHES "X: ";
    for (int more = 0; more < 2; more++) {
        char head[UPGRADE_ANSWER_BYTES_MAX + 2];
        struct websocket_answer answer;
        size_t filled = UPGRADE_ANSWER_BYTES_MAX + (size_t)more - strlen(END);
        memset(head, 'x', sizeof(head));
        memcpy(head, BEGINNING, strlen(BEGINNING));
        memcpy(head + filled, END, sizeof(END));
        int result = read_copy(head, filled + strlen(END), &answer);
        assert_int_equal(result, more == 0 ? 1 : -EPROTO);
        assert_string_equal(answer.fault, more == 0 ? "" : "a head without an end");
    }
}

static void request_is(const char *url_text, const char *expected)
{
    struct url url;
    char accept[UPGRADE_ACCEPT_BYTES + 1];
    struct buffer out = {0};
    assert_null(url_read(url_text, &url));
    assert_int_equal(websocket_request(&out, &url, accept), 0);
    char *text = strndup((char *)out.data, out.size);
    char *key = strstr(text, "Sec-WebSocket-Key: ");
    assert_non_null(key);
    memset(key + strlen("Sec-WebSocket-Key: "), 'k', 24);
    assert_string_equal(text, expected);
    free(text);
    buffer_fini(&out);
}

#define BEHIND_HOST                                                        \
    "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " \
    "kkkkkkkkkkkkkkkkkkkkkkkk\r\n"                                         \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: usher.v1\r\n\r\n"

static void requests_name_host_and_path(void **state)
{
    request_is("ws://game.example.org",
               "GET /usher HTTP/1.1\r\nHost: game.example.org" BEHIND_HOST);
    request_is("ws://game.example.org:7480/",
               "GET / HTTP/1.1\r\nHost: game.example.org:7480" BEHIND_HOST);
    request_is("wss://[::1]:443/a?b", "GET /a?b HTTP/1.1\r\nHost: [::1]" BEHIND_HOST);
    request_is("wss://[::1]:80", "GET /usher HTTP/1.1\r\nHost: [::1]:80" BEHIND_HOST);
}

/* The longest there is, and keys that differ. */
static void a_request_has_room_and_a_key_of_its_own(void **state)
{
    char text[2048], accepts[2][UPGRADE_ACCEPT_BYTES + 1];
    struct url url;
    snprintf(text, sizeof(text), "ws://%0*d:65535/%0*d", URL_HOST_BYTES_MAX, 1,
             URL_PATH_BYTES_MAX - 1, 1);
    assert_null(url_read(text, &url));
    for (int i = 0; i < 2; i++) {
        struct buffer out = {0};
        assert_int_equal(websocket_request(&out, &url, accepts[i]), 0);
        assert_int_equal(strlen(accepts[i]), UPGRADE_ACCEPT_BYTES);
        buffer_fini(&out);
    }
    assert_string_not_equal(accepts[0], accepts[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_answer_byte_by_byte),
        cmocka_unit_test(a_head_ends_where_it_ends),
        cmocka_unit_test(a_nul_is_no_field),
        cmocka_unit_test(a_head_has_its_length),
        cmocka_unit_test(requests_name_host_and_path),
        cmocka_unit_test(a_request_has_room_and_a_key_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
