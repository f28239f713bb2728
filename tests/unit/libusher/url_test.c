/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Each row is read and said again in parts; what is no URL of ours says why. */

static const struct {
    const char *text, *parts;
} ROWS[] = {
    {"tcp://127.0.0.1", "127.0.0.1 7400 usual"},
    {"tcp://127.0.0.1:7400/", "127.0.0.1 7400 usual"},
    {"TLS://game.example.org", "game.example.org 7443 usual secure"},
    {"tls://[::1]:1", "::1 1 secure"},
    {"ws://localhost", "localhost 80 usual websocket /usher"},
    {"ws://localhost:65535", "localhost 65535 websocket /usher"},
    {"ws://localhost/", "localhost 80 usual websocket /"},
    {"ws://localhost:80/a/b?c=d", "localhost 80 usual websocket /a/b?c=d"},
    {"wss://a_b-c.d/%20~!", "a_b-c.d 443 usual secure websocket /%20~!"},
    {"wss://[fe80::1:2.3.4.5]/usher", "fe80::1:2.3.4.5 443 usual secure websocket /usher"},
    {"", "it does not begin with tcp://, tls://, ws:// or wss://"},
    {"ws:/localhost", "it does not begin with tcp://, tls://, ws:// or wss://"},
    {"http://localhost", "it does not begin with tcp://, tls://, ws:// or wss://"},
    {"ipc://link.sock", "it does not begin with tcp://, tls://, ws:// or wss://"},
    {"http:///usher", "it does not begin with tcp://, tls://, ws:// or wss://"},
    {"//localhost", "it does not begin with tcp://, tls://, ws:// or wss://"},
    {"tcp://", "that is no host"},
    {"tcp://:7400", "that is no host"},
    {"tls:///", "that is no host"},
    {"wss://?x", "that is no host"},
    {"wss://#x", "that is no host"},
    {"ws://@host", "that is no host"},
    {"tcp://alice:1@host", "only ws and wss have a path"},
    {"ws://alice:1@host", "only /PATH may stand behind host and port"},
    {"tcp:// host", "that is no host"},
    {"tcp://host ", "that is no host"},
    {"tcp://host: 7400", "that is no port"},
    {"tcp://host:7400 ", "only ws and wss have a path"},
    {"tcp://host:0", "that is no port"},
    {"tcp://host:00", "that is no port"},
    {"tcp://host:65536", "that is no port"},
    {"tcp://host:4294974696", "that is no port"}, /* 2^32 and 7400 */
    {"tcp://host#x", "only ws and wss have a path"},
    {"ws://host#x", "only /PATH may stand behind host and port"},
    {" ws://localhost", "it does not begin with tcp://, tls://, ws:// or wss://"},
    {"ws://", "that is no host"},
    {"ws://:80", "that is no host"},
    {"ws:///usher", "that is no host"},
    {"ws://alice:secret@host", "that is no port"},
    {"ws://alice@host", "that is no host"},
    {"ws://a host", "that is no host"},
    {"ws://h\r\nX: y", "that is no host"},
    {"ws://h\xc3\xa4", "that is no host"},
    {"ws://[::1", "that is no host"},
    {"ws://[]", "that is no host"},
    {"ws://[host]", "that is no host"},
    {"ws://[12]", "that is no host"},
    {"ws://::1", "that is no host"},
    {"ws://h:", "that is no port"},
    {"ws://h:0", "that is no port"},
    {"ws://h:65536", "that is no port"},
    {"ws://h:99999999999999999999", "that is no port"},
    {"ws://h:-1", "that is no port"},
    {"ws://h:+1", "that is no port"},
    {"ws://h:1x", "only /PATH may stand behind host and port"},
    {"ws://h?x", "only /PATH may stand behind host and port"},
    {"ws://[::1]x", "only /PATH may stand behind host and port"},
    {"ws://h/a b", "the path holds what a URL may not"},
    {"ws://h/a\r\nX: y", "the path holds what a URL may not"},
    {"ws://h/a\x7f", "the path holds what a URL may not"},
    {"ws://h/\xc3\xa4", "the path holds what a URL may not"},
    {"ws://h/a#b", "the path holds what a URL may not"},
    {"tcp://h/path", "only ws and wss have a path"},
    {"tls://h:1?x", "only ws and wss have a path"},
};

static void urls_are_read(void **state)
{
    for (size_t i = 0; i < sizeof(ROWS) / sizeof(*ROWS); i++) {
        struct url url;
        char parts[2048];
        const char *fault = url_read(ROWS[i].text, &url);
        if (fault == NULL)
            snprintf(parts, sizeof(parts), "%s %u%s%s%s%s", url.host, (unsigned)url.port,
                     url.port_is_usual ? " usual" : "", url.secure ? " secure" : "",
                     url.websocket ? " websocket " : "", url.path);
        assert_string_equal(fault != NULL ? fault : parts, ROWS[i].parts);
    }
}

/* n and n + 1. */
static void lengths_end(void **state)
{
    char text[2048];
    struct url url;
    for (int more = 0; more < 2; more++) {
        snprintf(text, sizeof(text), "ws://%0*d/x", URL_HOST_BYTES_MAX + more, 1);
        assert_int_equal(url_read(text, &url) != NULL, more);
        snprintf(text, sizeof(text), "ws://h/%0*d", URL_PATH_BYTES_MAX - 1 + more, 1);
        assert_int_equal(url_read(text, &url) != NULL, more);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_read),
        cmocka_unit_test(lengths_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
