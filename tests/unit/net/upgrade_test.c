/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "net/upgrade.h"

/* The head of the request with which a WebSocket begins. */

static const struct upgrade_rules rules = {.path = "/usher", .head_bytes = 8192};

static void the_example_of_the_rfc(void **state)
{
    struct upgrade upgrade = {0};
    struct buffer out = {0};
    upgrade_judge(bytes_of_text("GET /usher HTTP/1.1\r\n"
                                "Host: server.example.com\r\n"
                                "Upgrade: websocket\r\n"
                                "Connection: Upgrade\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                "Origin: http://example.com\r\n"
                                "Sec-WebSocket-Protocol: chat, usher.v1\r\n"
                                "Sec-WebSocket-Version: 13\r\n"
                                "\r\n"),
                  &rules, &upgrade);
    assert_int_equal(upgrade.verdict, UPGRADE_ACCEPTED);
    assert_int_equal(upgrade_answer(&out, &upgrade), 0);
    assert_int_equal(buffer_append(&out, "", 1), 0);
    assert_string_equal((char *)out.data, "HTTP/1.1 101 Switching Protocols\r\n"
                                          "Upgrade: websocket\r\n"
                                          "Connection: Upgrade\r\n"
                                          "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                                          "Sec-WebSocket-Protocol: usher.v1\r\n"
                                          "\r\n");
    buffer_fini(&out);
}

static unsigned status_of(const struct upgrade_rules *site, const char *origin)
{
    char head[512];
    struct upgrade upgrade = {0};
    snprintf(head, sizeof(head),
             "GET /usher HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
             "Origin: %s\r\n\r\n",
             origin);
    upgrade_judge(bytes_of_text(head), site, &upgrade);
    return upgrade.status;
}

/* A page of evil.example had a sandboxed frame connect, which says "null", and was anybody. */
static void a_sandboxed_frame_is_no_page_of_this_machine(void **state)
{
    static const char *const origins[] = {"null"};
    struct upgrade_rules open = rules, named = rules;
    open.open = named.open = true;
    named.origins = origins;
    named.origins_count = 1;
    assert_int_equal(status_of(&open, "http://localhost:8080"), 101);
    assert_int_equal(status_of(&open, "file://"), 101);
    assert_int_equal(status_of(&open, "https://evil.example"), 403);
    assert_int_equal(status_of(&open, "null"), 403);
    assert_int_equal(status_of(&named, "null"), 101);
    assert_int_equal(status_of(&rules, "null"), 101); /* who he is, his token says */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_the_rfc),
        cmocka_unit_test(a_sandboxed_frame_is_no_page_of_this_machine),
    };
    return cmocka_run_group_tests_name("net.upgrade", tests, NULL, NULL);
}
