/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broken.h"
#include "http_strict.h"
#include "net/upgrade.h"

/* The head of the request with which a WebSocket begins, as rows: what comes, and what is answered.
 * Each row is judged whole, byte by byte, and cut in two at each place. */

#define GET "GET /usher HTTP/1.1\r\n"
#define HOST "Host: game.example\r\n"
#define UPGRADE "Upgrade: websocket\r\n"
#define CONNECTION "Connection: Upgrade\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define REST UPGRADE CONNECTION KEY VERSION
#define END "\r\n"
#define FINE GET HOST REST END

static const struct upgrade_rules rules = {.path = "/usher", .head_bytes = 8192};

struct row {
    const char *name;
    const char *head;
    size_t size;
    unsigned status;
    const char *reason; /* or a part of it; NULL: none */
};

#define ROW(name, head, status, reason)              \
    {                                                \
        name, head, sizeof(head) - 1, status, reason \
    }

/* As Chromium sends it, as HAProxy passes it on, and others that must be taken. */
static const struct row fine[] = {
    ROW("a name of one letter", GET HOST "a: b\r\n" REST END, 101, NULL),
    ROW("a Host of a blank", GET "Host: \r\n" REST END, 101, NULL),
    ROW("a wave in the query", "GET /usher?~ HTTP/1.1\r\n" HOST REST END, 101, NULL),
    ROW("lists that go on", GET HOST REST "Upgrade: h2c\r\nConnection: close\r\n" END, 101, NULL),
    ROW("the least", FINE, 101, NULL),
    ROW("Chromium",
        GET "Host: localhost:7402\r\n"
            "Connection: Upgrade\r\n"
            "Pragma: no-cache\r\n"
            "Cache-Control: no-cache\r\n"
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n"
            "Upgrade: websocket\r\n"
            "Origin: http://localhost:8000\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Accept-Encoding: gzip, deflate, br\r\n"
            "Accept-Language: en-US,en;q=0.9\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" END,
        101, NULL),
    ROW("Firefox", GET HOST "Connection: keep-alive, Upgrade\r\n" UPGRADE KEY VERSION END, 101,
        NULL),
    ROW("HAProxy",
        GET "host: game.example\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n" END,
        101, NULL),
    ROW("names in capitals",
        GET "HOST: game.example\r\nCONNECTION: UPGRADE\r\nUPGRADE: WEBSOCKET\r\n"
            "SEC-WEBSOCKET-KEY: dGhlIHNhbXBsZSBub25jZQ==\r\nSEC-WEBSOCKET-VERSION: 13\r\n" END,
        101, NULL),
    ROW("no space before values",
        GET "Host:game.example\r\nUpgrade:websocket\r\nConnection:Upgrade\r\n"
            "Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version:13\r\n" END,
        101, NULL),
    ROW("blanks around values",
        GET HOST UPGRADE "Connection: \t Upgrade \t\r\n"
                         "Sec-WebSocket-Key:  dGhlIHNhbXBsZSBub25jZQ==  \r\n" VERSION END,
        101, NULL),
    ROW("lists",
        GET HOST
        "Upgrade: h2c, websocket\r\nConnection: ,, keep-alive ,\tupgrade,\r\n" KEY VERSION END,
        101, NULL),
    ROW("lists in several lines", GET HOST "Upgrade: h2c\r\nConnection: keep-alive\r\n" REST END,
        101, NULL),
    ROW("a query", "GET /usher?token=secret HTTP/1.1\r\n" HOST REST END, 101, NULL),
    ROW("an empty query", "GET /usher? HTTP/1.1\r\n" HOST REST END, 101, NULL),
    ROW("a target as for proxies", "GET http://game.example/usher?a=b HTTP/1.1\r\n" HOST REST END,
        101, NULL),
    ROW("a port in Host", GET "Host: [::1]:7402\r\n" REST END, 101, NULL),
    ROW("a Host that is empty", GET "Host:\r\n" REST END, 101, NULL),
    ROW("no body, and it says so", GET HOST "Content-Length: 0\r\n" REST END, 101, NULL),
    ROW("bytes above ASCII in a value", GET HOST "X-Name: J\xc3\xb6rg \xff\r\n" REST END, 101,
        NULL),
    ROW("an empty value", GET HOST "X-Nothing:\r\n" REST END, 101, NULL),
    ROW("HTTP/1.9", "GET /usher HTTP/1.9\r\n" HOST REST END, 101, NULL),
    ROW("a key of other bytes",
        GET HOST UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: +/+/AAAAzzzz9999ZZZZ00==\r\n" END,
        101, NULL),
};

static const struct row syntax[] = {
    ROW("a name that begins with a bracket", GET HOST "(X: a\r\n" REST END, 400, "NAME: VALUE"),
    ROW("a value that begins with an escape", GET HOST "X: \x1b\r\n" REST END, 400,
        "control character"),
    ROW("a target that begins above ASCII", "GET \xff HTTP/1.1\r\n" HOST REST END, 400,
        "request line"),
    ROW("an empty target", "GET  HTTP/1.1\r\n" HOST REST END, 400, "request line"),
    ROW("a folded line", GET HOST "X-Folded: a\r\n b\r\n" REST END, 400, "folded"),
    ROW("a line folded by a tab", GET HOST "X-Folded: a\r\n\tb\r\n" REST END, 400, "folded"),
    ROW("a blank before the first field", GET " " HOST REST END, 400, "folded"),
    ROW("a line of a blank", GET HOST " \r\n" REST END, 400, "folded"),
    ROW("a carriage return in a value", GET "Host: a\rb\r\n" REST END, 400, "control character"),
    ROW("a carriage return before the end", GET "Host: a\r\r\n" REST END, 400, "control character"),
    ROW("a carriage return in a name", GET HOST "X\rY: a\r\n" REST END, 400, "NAME: VALUE"),
    ROW("a NUL in a value", GET HOST "X-Nul: a\0b\r\n" REST END, 400, "control character"),
    ROW("a NUL in a name", GET HOST "X\0Y: a\r\n" REST END, 400, "NAME: VALUE"),
    ROW("a NUL in the target", "GET /usher\0 HTTP/1.1\r\n" HOST REST END, 400, "request line"),
    ROW("an escape in a value", GET HOST "X-Escape: \x1b[2J\r\n" REST END, 400,
        "control character"),
    ROW("DEL in a value", GET HOST "X-Del: \x7f\r\n" REST END, 400, "control character"),
    ROW("no colon", GET HOST "X-Field\r\n" REST END, 400, "NAME: VALUE"),
    ROW("no name", GET HOST ": a\r\n" REST END, 400, "NAME: VALUE"),
    ROW("a blank before the colon", GET HOST "X-Field : a\r\n" REST END, 400, "NAME: VALUE"),
    ROW("a name with a bracket", GET HOST "X(Field): a\r\n" REST END, 400, "NAME: VALUE"),
    ROW("a name above ASCII", GET HOST "X-\xc3\xa4: a\r\n" REST END, 400, "NAME: VALUE"),
    ROW("nothing but an end", "\r\n", 400, "request line"),
    ROW("a blank before the method", " " FINE, 400, "request line"),
    ROW("two blanks", "GET  /usher HTTP/1.1\r\n" HOST REST END, 400, "request line"),
    ROW("two blanks before the version", "GET /usher  HTTP/1.1\r\n" HOST REST END, 400,
        "request line"),
    ROW("a blank behind the version", "GET /usher HTTP/1.1 \r\n" HOST REST END, 400,
        "request line"),
    ROW("a tab", "GET\t/usher HTTP/1.1\r\n" HOST REST END, 400, "request line"),
    ROW("no target", "GET HTTP/1.1\r\n" HOST REST END, 400, "request line"),
    ROW("HTTP/0.9", "GET /usher\r\n" HOST REST END, 400, "request line"),
    ROW("a version in small letters", "GET /usher http/1.1\r\n" HOST REST END, 400, "request line"),
    ROW("a version of two digits", "GET /usher HTTP/1.10\r\n" HOST REST END, 400, "request line"),
    ROW("a version of one number", "GET /usher HTTP/1\r\n" HOST REST END, 400, "request line"),
    ROW("a version with a comma", "GET /usher HTTP/1,1\r\n" HOST REST END, 400, "request line"),
    ROW("a version of a letter", "GET /usher HTTP/1.x\r\n" HOST REST END, 400, "request line"),
    ROW("a version before 0", "GET /usher HTTP//.1\r\n" HOST REST END, 400, "request line"),
    ROW("HTTP/2.0", "GET /usher HTTP/2.0\r\n" HOST REST END, 505, "version"),
    ROW("HTTP/0.9 that says so", "GET /usher HTTP/0.9\r\n" HOST REST END, 505, "version"),
    ROW("a fragment", "GET /usher#part HTTP/1.1\r\n" HOST REST END, 400, "request line"),
    ROW("a target above ASCII", "GET /usher?\xc3\xa4 HTTP/1.1\r\n" HOST REST END, 400,
        "request line"),
    ROW("DEL in the target", "GET /usher?\x7f HTTP/1.1\r\n" HOST REST END, 400, "request line"),
};

/* What is wrong is said where it is, though the head is not whole. */
static const struct row line_feeds[] = {
    ROW("a line feed behind the request", "GET /usher HTTP/1.1\n", 400, "line feed"),
    ROW("a line feed behind a field", GET "Host: game.example\n", 400, "line feed"),
    ROW("a line feed for the end", GET HOST REST "\n", 400, "line feed"),
    ROW("a line feed first", "\n", 400, "line feed"),
};

static const struct row fields[] = {
    ROW("a key that begins with another letter",
        GET HOST UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: -GhlIHNhbXBsZSBub25jZQ==\r\n" END,
        400, "Key"),
    ROW("a body, and then none", GET HOST "Content-Length: 5\r\nContent-Length: 0\r\n" REST END,
        400, "a body"),
    ROW("no Host", GET REST END, 400, "no Host"),
    ROW("two Host", GET HOST HOST REST END, 400, "two Host"),
    ROW("two Host in other letters", GET HOST "hOST: other.example\r\n" REST END, 400, "two Host"),
    ROW("a Host with a blank", GET "Host: game.example other.example\r\n" REST END, 400,
        "no Host, or one"),
    ROW("a Host with a slash", GET "Host: game.example/x\r\n" REST END, 400, "no Host, or one"),
    ROW("a Host with an at", GET "Host: me@game.example\r\n" REST END, 400, "no Host, or one"),
    ROW("a Host above ASCII", GET "Host: g\xc3\xa4me\r\n" REST END, 400, "no Host, or one"),
    ROW("two keys", GET HOST REST KEY END, 400, "two Sec-WebSocket-Key"),
    ROW("two versions", GET HOST REST VERSION END, 400, "two Sec-WebSocket-Version"),
    ROW("two origins", GET HOST "Origin: null\r\nOrigin: null\r\n" REST END, 400, "two Origin"),
    ROW("no key", GET HOST UPGRADE CONNECTION VERSION END, 400, "Key"),
    ROW("an empty key", GET HOST UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: \r\n" END, 400,
        "Key"),
    ROW("a key of 15 bytes",
        GET HOST UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n" END, 400,
        "Key"),
    ROW("a key of 17 bytes",
        GET HOST UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWE=\r\n" END,
        400, "Key"),
    ROW("a key of 18 bytes",
        GET HOST UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWFh\r\n" END,
        400, "Key"),
    ROW("a key of 19 bytes",
        GET HOST UPGRADE CONNECTION VERSION
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAAAA==\r\n" END,
        400, "Key"),
    ROW("a key without its end",
        GET HOST UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n" END,
        400, "Key"),
    ROW("a key of another alphabet",
        GET HOST UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: -_hlIHNhbXBsZSBub25jZQ==\r\n" END,
        400, "Key"),
    ROW("a key with an end inside",
        GET HOST UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j====\r\n" END,
        400, "Key"),
    ROW("a key with a blank inside",
        GET HOST UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: dGhl HNhbXBsZSBub25jZQ==\r\n" END,
        400, "Key"),
    ROW("no version", GET HOST UPGRADE CONNECTION KEY END, 426, "Version"),
    ROW("version 8", GET HOST UPGRADE CONNECTION KEY "Sec-WebSocket-Version: 8\r\n" END, 426,
        "Version"),
    ROW("version 130", GET HOST UPGRADE CONNECTION KEY "Sec-WebSocket-Version: 130\r\n" END, 426,
        "Version"),
    ROW("two versions in one",
        GET HOST UPGRADE CONNECTION KEY "Sec-WebSocket-Version: 13, 8\r\n" END, 426, "Version"),
    ROW("no Upgrade", GET HOST CONNECTION KEY VERSION END, 426, "no Upgrade"),
    ROW("another Upgrade", GET HOST "Upgrade: websocket2, web\r\n" CONNECTION KEY VERSION END, 426,
        "no Upgrade"),
    ROW("a page that is asked for", GET HOST "Connection: keep-alive\r\nAccept: */*\r\n" END, 426,
        "no Upgrade"),
    ROW("no Connection", GET HOST UPGRADE KEY VERSION END, 426, "no Connection"),
    ROW("another Connection", GET HOST UPGRADE "Connection: close, upgraded\r\n" KEY VERSION END,
        426, "no Connection"),
    ROW("HTTP/1.0", "GET /usher HTTP/1.0\r\n" HOST REST END, 426, "HTTP/1.0"),
    ROW("HTTP/1.0 without Host", "GET /usher HTTP/1.0\r\n" REST END, 426, "HTTP/1.0"),
    ROW("a body", GET HOST "Content-Length: 5\r\n" REST END, 400, "a body"),
    ROW("a length that is empty", GET HOST "Content-Length:\r\n" REST END, 400, "a body"),
    ROW("a length of +0", GET HOST "Content-Length: +0\r\n" REST END, 400, "a body"),
    ROW("a length of 00", GET HOST "Content-Length: 00\r\n" REST END, 400, "a body"),
    ROW("two lengths", GET HOST "Content-Length: 0\r\nContent-Length: 5\r\n" REST END, 400,
        "a body"),
    ROW("a length below zero", GET HOST "Content-Length: -1\r\n" REST END, 400, "a body"),
    ROW("a coding", GET HOST "Transfer-Encoding: chunked\r\n" REST END, 400, "a body"),
    ROW("any coding", GET HOST "transfer-encoding: identity\r\n" REST END, 400, "a body"),
    ROW("an empty coding", GET HOST "Transfer-Encoding:\r\n" REST END, 400, "a body"),
};

static const struct row targets[] = {
    ROW("the root", "GET / HTTP/1.1\r\n" HOST REST END, 404, "path"),
    ROW("a longer path", "GET /usher/ HTTP/1.1\r\n" HOST REST END, 404, "path"),
    ROW("a shorter path", "GET /ushe HTTP/1.1\r\n" HOST REST END, 404, "path"),
    ROW("a path in capitals", "GET /Usher HTTP/1.1\r\n" HOST REST END, 404, "path"),
    ROW("a path in percents", "GET /%75sher HTTP/1.1\r\n" HOST REST END, 404, "path"),
    ROW("a path with dots", "GET /x/../usher HTTP/1.1\r\n" HOST REST END, 404, "path"),
    ROW("two slashes", "GET //usher HTTP/1.1\r\n" HOST REST END, 404, "path"),
    ROW("no slash", "GET usher HTTP/1.1\r\n" HOST REST END, 404, "path"),
    ROW("a query with the path", "GET /?/usher HTTP/1.1\r\n" HOST REST END, 404, "path"),
    ROW("a proxy's target without a path", "GET http://game.example HTTP/1.1\r\n" HOST REST END,
        404, "path"),
    ROW("a proxy's target with another", "GET http://usher/x HTTP/1.1\r\n" HOST REST END, 404,
        "path"),
    ROW("a scheme that is none", "GET :///usher HTTP/1.1\r\n" HOST REST END, 404, "path"),
    ROW("of a proxy", "CONNECT game.example:80 HTTP/1.1\r\n" HOST END, 404, "path"),
    ROW("of the server", "OPTIONS * HTTP/1.1\r\n" HOST END, 404, "path"),
    ROW("POST elsewhere", "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n" END, 404, "path"),
    ROW("POST", "POST /usher HTTP/1.1\r\n" HOST REST END, 405, "method"),
    ROW("POST with a body", "POST /usher HTTP/1.1\r\n" HOST "Content-Length: 5\r\n" END, 405,
        "method"),
    ROW("HEAD", "HEAD /usher HTTP/1.1\r\n" HOST END, 405, "method"),
    ROW("OPTIONS", "OPTIONS /usher HTTP/1.1\r\n" HOST END, 405, "method"),
    ROW("a method in small letters", "get /usher HTTP/1.1\r\n" HOST REST END, 405, "method"),
    ROW("a method of no one", "GETX /usher HTTP/1.1\r\n" HOST REST END, 405, "method"),
};

static const struct row health[] = {
    ROW("GET", "GET /health HTTP/1.1\r\n" HOST END, 200, NULL),
    ROW("HEAD", "HEAD /health HTTP/1.1\r\n" HOST END, 200, NULL),
    ROW("HTTP/1.0 without Host", "GET /health HTTP/1.0\r\n\r\n", 200, NULL),
    ROW("HEAD of HTTP/1.0", "HEAD /health HTTP/1.0\r\n\r\n", 200, NULL),
    ROW("a query", "GET /health?from=balancer HTTP/1.1\r\n" HOST END, 200, NULL),
    ROW("with an Upgrade", "GET /health HTTP/1.1\r\n" HOST REST END, 200, NULL),
    ROW("HTTP/1.1 without Host", "GET /health HTTP/1.1\r\n\r\n", 400, "no Host"),
    ROW("HTTP/1.0 with two Host", "GET /health HTTP/1.0\r\n" HOST HOST END, 400, "two Host"),
    ROW("POST", "POST /health HTTP/1.1\r\n" HOST END, 405, "method"),
    ROW("a body", "GET /health HTTP/1.1\r\n" HOST "Content-Length: 1\r\n" END, 400, "a body"),
    ROW("a longer path", "GET /healthy HTTP/1.1\r\n" HOST END, 404, "path"),
};

/* Only when it has come in one piece with the head. */
static const struct row behind[] = {
    ROW("a head behind an empty line", END FINE, 400, "request line"),
    ROW("a byte", FINE "x", 400, "behind"),
    ROW("a frame",
        FINE "\x82\x80"
             "abcd",
        400, "behind"),
    ROW("a second request", FINE FINE, 400, "behind"),
    ROW("behind a look at the health", "GET /health HTTP/1.1\r\n" HOST END "x", 400, "behind"),
    ROW("the body of a POST", "POST /usher HTTP/1.1\r\n" HOST "Content-Length: 1\r\n" END "x", 405,
        "method"),
    ROW("behind what is wrong", GET REST END "x", 400, "no Host"),
};

/* --- judging ---------------------------------------------------------------------------------- */

static void judge(struct upgrade *upgrade, const struct upgrade_rules *by, const char *head,
                  size_t size)
{
    uint8_t *exact = malloc(size + (size == 0)); /* so that a look behind it is seen */
    assert_non_null(exact);
    memcpy(exact, head, size);
    upgrade_judge((struct bytes){exact, size}, by, upgrade);
    if (upgrade->verdict == UPGRADE_ACCEPTED)
        assert_in_range(upgrade->key.data - exact, 1, size - 24);
    upgrade->key.data =
        (const uint8_t *)head + (upgrade->key.size > 0 ? upgrade->key.data - exact : 0);
    free(exact);
}

static void expect(const struct upgrade *upgrade, const struct row *row, const char *how,
                   size_t cut)
{
    static const enum upgrade_verdict verdicts[] = {
        [1] = UPGRADE_ACCEPTED, [2] = UPGRADE_HEALTH, [4] = UPGRADE_REFUSED, [5] = UPGRADE_REFUSED};
    bool right = upgrade->verdict == verdicts[row->status / 100] &&
                 upgrade->status == row->status &&
                 (upgrade->reason == NULL) == (row->reason == NULL);
    if (!right || (row->reason != NULL && strstr(upgrade->reason, row->reason) == NULL))
        fail_msg("%s, %s %zu: %d %u %s", row->name, how, cut, upgrade->verdict, upgrade->status,
                 upgrade->reason);
    struct http_strict *strict = malloc(sizeof(*strict));
    struct buffer out = {0};
    assert_int_equal(upgrade_answer(&out, upgrade), 0);
    const char *fault =
        http_strict_answer(strict, out.data, out.size, upgrade->status, upgrade->head);
    if (fault != NULL)
        fail_msg("%s: %s: %.*s", row->name, fault, (int)out.size, (char *)out.data);
    free(strict);
    buffer_fini(&out);
}

static void expect_awaited(const struct upgrade *upgrade, const struct row *row, size_t cut)
{
    if (upgrade->verdict != UPGRADE_AWAITED || upgrade->status != 0 || upgrade->size != cut)
        fail_msg("%s, %zu bytes of it: %d %u %s", row->name, cut, upgrade->verdict, upgrade->status,
                 upgrade->reason);
}

static void judge_row(const struct row *row)
{
    struct upgrade upgrade = {0};
    judge(&upgrade, &rules, row->head, row->size);
    expect(&upgrade, row, "whole", row->size);
    upgrade = (struct upgrade){0};
    for (size_t i = 1; i < row->size; i++) {
        judge(&upgrade, &rules, row->head, i);
        expect_awaited(&upgrade, row, i);
    }
    judge(&upgrade, &rules, row->head, row->size);
    expect(&upgrade, row, "byte by byte", row->size);
    for (size_t cut = 0; cut < row->size; cut++) {
        upgrade = (struct upgrade){0};
        judge(&upgrade, &rules, row->head, cut);
        expect_awaited(&upgrade, row, cut);
        judge(&upgrade, &rules, row->head, row->size);
        expect(&upgrade, row, "cut at", cut);
    }
}

#define ROWS(rows)                                              \
    for (size_t i = 0; i < sizeof(rows) / sizeof(*(rows)); i++) \
        judge_row(&(rows)[i]);

static void what_browsers_and_proxies_send_is_accepted(void **state)
{
    ROWS(fine);
}

static void what_is_no_head_is_refused(void **state)
{
    ROWS(syntax);
    ROWS(line_feeds);
}

static void fields_are_as_they_must_be(void **state)
{
    ROWS(fields);
}

static void only_two_paths_are_here(void **state)
{
    ROWS(targets);
}

static void health_is_asked_for_by_old_means_too(void **state)
{
    ROWS(health);
}

static void nothing_comes_behind_the_head(void **state)
{
    for (size_t i = 0; i < sizeof(behind) / sizeof(*behind); i++) {
        struct upgrade upgrade = {0};
        judge(&upgrade, &rules, behind[i].head, behind[i].size);
        expect(&upgrade, &behind[i], "whole", behind[i].size);
    }
}

/* Whatever is in them, the rows agree with another reading of the rules. */
static void another_reading_agrees(void **state)
{
    struct http_strict *strict = malloc(sizeof(*strict));
    const struct {
        const struct row *rows;
        size_t count;
    } tables[] = {{fine, sizeof(fine) / sizeof(*fine)},
                  {syntax, sizeof(syntax) / sizeof(*syntax)},
                  {line_feeds, sizeof(line_feeds) / sizeof(*line_feeds)},
                  {fields, sizeof(fields) / sizeof(*fields)},
                  {targets, sizeof(targets) / sizeof(*targets)},
                  {health, sizeof(health) / sizeof(*health)},
                  {behind, sizeof(behind) / sizeof(*behind)}};
    for (size_t t = 0; t < sizeof(tables) / sizeof(*tables); t++)
        for (size_t i = 0; i < tables[t].count; i++) {
            const struct row *row = &tables[t].rows[i];
            bool is =
                http_strict_is_handshake(strict, (const uint8_t *)row->head, row->size, "/usher");
            if (is != (row->status == 101))
                fail_msg("%s", row->name);
        }
    free(strict);
}

/* --- sizes ------------------------------------------------------------------------------------ */

/* A head of that size, filled with a cookie. */
static char *head_of(size_t size)
{
    static const char start[] = GET HOST REST "Cookie: ";
    char *head = malloc(size + 1);
    memset(head, 'c', size);
    memcpy(head, start, sizeof(start) - 1);
    strcpy(head + size - 4, "\r\n\r\n");
    return head;
}

static void a_head_has_a_size(void **state)
{
    const size_t sizes[] = {1024, 7 * 1024, 8191, 8192, 8193, 9 * 1024};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        char *head = head_of(sizes[i]);
        struct upgrade whole = {0}, bytes = {0};
        bool fits = sizes[i] <= 8192;
        judge(&whole, &rules, head, sizes[i]);
        assert_int_equal(whole.status, fits ? 101 : 431);
        for (size_t size = 1; size < 8192 && size < sizes[i]; size++) {
            judge(&bytes, &rules, head, size);
            assert_int_equal(bytes.verdict, UPGRADE_AWAITED);
        }
        size_t last = fits ? sizes[i] : 8192; /* more need not be seen */
        judge(&bytes, &rules, head, last);
        assert_int_equal(bytes.status, fits ? 101 : 431);
        free(head);
    }
}

static void a_head_without_end_is_refused_at_its_size(void **state)
{
    const struct upgrade_rules small = {.path = "/usher", .head_bytes = 100};
    char endless[200];
    memset(endless, 'G', sizeof(endless));
    for (size_t size = 0; size < 110; size++) {
        struct upgrade upgrade = {0};
        judge(&upgrade, &small, endless, size);
        assert_int_equal(upgrade.status, size < 100 ? 0 : 431);
    }
}

/* --- origins ---------------------------------------------------------------------------------- */

static unsigned status_from(const struct upgrade_rules *by, const char *origin)
{
    char head[1024];
    struct upgrade upgrade = {0};
    snprintf(head, sizeof(head), "%s%s%s%s", GET HOST,
             origin == NULL ? "" : "Origin: ", origin == NULL ? "" : origin,
             origin == NULL ? REST END : "\r\n" REST END);
    judge(&upgrade, by, head, strlen(head));
    if (upgrade.status == 403)
        assert_non_null(strstr(upgrade.reason, "ws.origins"));
    return upgrade.status;
}

static void origins_are_compared_as_one_text(void **state)
{
    static const char *const list[] = {"https://game.example", "http://localhost:8000", "null"};
    struct upgrade_rules by = {.path = "/usher", .head_bytes = 8192, .origins = list};
    const struct {
        const char *origin;
        unsigned of_two, of_all;
    } rows[] = {
        {NULL, 101, 101},
        {"https://game.example", 101, 101},
        {"http://localhost:8000", 101, 101},
        {"null", 403, 101},
        {"http://game.example", 403, 403},
        {"https://game.example:443", 403, 403},
        {"https://game.example/", 403, 403},
        {"https://Game.example", 403, 403},
        {"https://game.example.evil.example", 403, 403},
        {"https://evil.example/https://game.example", 403, 403},
        {"https://game.exampl", 403, 403},
        {"https://game.example https://evil.example", 403, 403},
        {"http://127.0.0.1:8000", 403, 403},
        {"", 403, 403},
    };
    for (unsigned open = 0; open < 2; open++)
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
            by.open = open;
            by.origins_count = 2;
            assert_int_equal(status_from(&by, rows[i].origin), rows[i].of_two);
            by.origins_count = 3;
            assert_int_equal(status_from(&by, rows[i].origin), rows[i].of_all);
        }
}

static void without_a_list_only_an_open_broker_asks(void **state)
{
    struct upgrade_rules by = {.path = "/usher", .head_bytes = 8192};
    const struct {
        const char *origin;
        unsigned open;
    } rows[] = {
        {NULL, 101},
        {"null", 403}, /* a sandboxed frame of any page says so: anybody */
        {"file://", 101},
        {"http://localhost", 101},
        {"https://localhost:8443", 101},
        {"http://localhost:", 101},
        {"capacitor://localhost", 101},
        {"http://127.0.0.1", 101},
        {"http://127.0.0.1:8000", 101},
        {"http://127.255.255.254:1", 101},
        {"http://[::1]", 101},
        {"http://[::1]:8000", 101},
        {"", 403},
        {"NULL", 403},
        {"localhost", 403},
        {"://localhost", 403},
        {"http:/localhost", 403},
        {"file:///home", 403},
        {"http://", 403},
        {"http://:80", 403},
        {"http://game.example", 403},
        {"http://localhost.game.example", 403},
        {"http://game.localhost", 403},
        {"http://localhost@game.example", 403},
        {"http://localhost:80@game.example", 403},
        {"http://localhost:80:90", 403},
        {"http://localhost:x", 403},
        {"(ttp://localhost", 403},
        {"http://localhost:80/", 403},
        {"http://localhost/", 403},
        {"http://game.example://localhost", 403},
        {"http://127.0.0.1.game.example", 403},
        {"http://127.1", 403},
        {"http://127.0.0.256", 403},
        {"http://128.0.0.1", 403},
        {"http://126.255.255.255", 403},
        {"http://0127.0.0.1", 403},
        {"http://2130706433", 403},
        {"http://127.000.000.0001", 403},
        {"http://0.0.0.0", 403},
        {"http://[::1", 403},
        {"http://[::1]x", 403},
        {"http://[::2]", 403},
        {"http://[::1]:80]", 403},
        {"http://::1", 403},
        {"http://[127.0.0.1]", 403},
        {"http://[localhost]", 403},
        {"http://127.0.0.1 ", 101}, /* a blank behind a value is none of it */
        {"http://localhost http://game.example", 403},
        {"http://1234567890123456789.1234567890", 403},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        by.open = true;
        if (status_from(&by, rows[i].origin) != rows[i].open)
            fail_msg("%s", rows[i].origin);
        by.open = false;
        assert_int_equal(status_from(&by, rows[i].origin), 101);
    }
}

/* --- what is given ---------------------------------------------------------------------------- */

static void sub_protocols_are_a_list(void **state)
{
    const struct {
        const char *fields;
        bool chosen;
    } rows[] = {
        {"", false},
        {"Sec-WebSocket-Protocol: usher.v1\r\n", true},
        {"Sec-WebSocket-Protocol: usher.v1\r\nSec-WebSocket-Protocol: chat\r\n", true},
        {"sec-websocket-protocol: chat,usher.v1 , other\r\n", true},
        {"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: usher.v1\r\n", true},
        {"Sec-WebSocket-Protocol: chat\r\n", false},
        {"Sec-WebSocket-Protocol: Usher.v1\r\n", false},
        {"Sec-WebSocket-Protocol: usher.v10\r\n", false},
        {"Sec-WebSocket-Protocol: usher.v\r\n", false},
        {"Sec-WebSocket-Protocol: chat usher.v1\r\n", false},
        {"Sec-WebSocket-Protocol:\r\n", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char head[1024];
        struct upgrade upgrade = {0};
        struct buffer out = {0};
        snprintf(head, sizeof(head), "%s%s%s", GET HOST, rows[i].fields, REST END);
        judge(&upgrade, &rules, head, strlen(head));
        assert_int_equal(upgrade.status, 101);
        assert_int_equal(upgrade.protocol, rows[i].chosen);
        assert_int_equal(upgrade_answer(&out, &upgrade), 0);
        assert_int_equal(buffer_append(&out, "", 1), 0);
        const char *given = strstr((char *)out.data, "Sec-WebSocket-Protocol: usher.v1\r\n");
        assert_int_equal(given != NULL, rows[i].chosen);
        buffer_fini(&out);
    }
}

static void expect_forwarded(const char *lines, const char *list)
{
    char *head = malloc(8192);
    struct upgrade upgrade = {0};
    struct buffer out = {0};
    snprintf(head, 8192, "%s%s%s", GET HOST, lines, REST END);
    upgrade_judge(bytes_of_text(head), &rules, &upgrade);
    assert_int_equal(upgrade.status, 101);
    assert_int_equal(upgrade_forwarded(&out, &upgrade), 0);
    assert_int_equal(buffer_append(&out, "", 1), 0);
    assert_string_equal((char *)out.data, list);
    buffer_fini(&out);
    free(head);
}

/* The last ones, when there are more than anybody passes through. */
static void forwarded_addresses_are_one_list(void **state)
{
    expect_forwarded("", "");
    expect_forwarded("X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1");
    expect_forwarded(
        "x-forwarded-for:  192.0.2.1, 10.0.0.1 \r\nX-Other: a\r\nX-FORWARDED-FOR: ::1\r\n",
        "192.0.2.1, 10.0.0.1, ::1");
    expect_forwarded("X-Forwarded-For: 1\r\nX-Forwarded-For:\r\nX-Forwarded-For: 3\r\n", "1, , 3");
    expect_forwarded("X-Forwarded-For: 1\r\nX-Forwarded-For: 2\r\nX-Forwarded-For: 3\r\n"
                     "X-Forwarded-For: 4\r\nX-Forwarded-For: 5\r\nX-Forwarded-For: 6\r\n"
                     "X-Forwarded-For: 7\r\nX-Forwarded-For: 8\r\n",
                     "1, 2, 3, 4, 5, 6, 7, 8");
    expect_forwarded("X-Forwarded-For: 1\r\nX-Forwarded-For: 2\r\nX-Forwarded-For: 3\r\n"
                     "X-Forwarded-For: 4\r\nX-Forwarded-For: 5\r\nX-Forwarded-For: 6\r\n"
                     "X-Forwarded-For: 7\r\nX-Forwarded-For: 8\r\nX-Forwarded-For: 9\r\n",
                     "2, 3, 4, 5, 6, 7, 8, 9");
}

static void the_origin_and_the_key_are_given(void **state)
{
    struct upgrade upgrade = {0};
    static const char head[] = GET HOST "Origin:  https://game.example \r\n" REST END;
    upgrade_judge(bytes_of_text(head), &rules, &upgrade);
    assert_true(bytes_equal(upgrade.origin, bytes_of_text("https://game.example")));
    assert_true(bytes_equal(upgrade.key, bytes_of_text("dGhlIHNhbXBsZSBub25jZQ==")));
    assert_int_equal(upgrade.size, sizeof(head) - 1);
    assert_false(upgrade.health);
    upgrade = (struct upgrade){0};
    upgrade_judge(bytes_of_text(FINE), &rules, &upgrade);
    assert_int_equal(upgrade.origin.size, 0);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void expect_answer(const struct buffer *out, const char *text)
{
    if (out->size != strlen(text) || memcmp(out->data, text, out->size) != 0)
        fail_msg("%.*s", (int)out->size, (char *)out->data);
}

/* The key of RFC 6455 1.3, and what it says to it. */
static void the_example_of_the_rfc(void **state)
{
    struct upgrade upgrade = {0};
    struct buffer out = {0};
    upgrade_judge(bytes_of_text(GET HOST "Sec-WebSocket-Protocol: chat, usher.v1\r\n" REST END),
                  &rules, &upgrade);
    assert_int_equal(upgrade_answer(&out, &upgrade), 0);
    expect_answer(&out, "HTTP/1.1 101 Switching Protocols\r\n"
                        "Upgrade: websocket\r\n"
                        "Connection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                        "Sec-WebSocket-Protocol: usher.v1\r\n"
                        "\r\n");
    buffer_fini(&out);
}

static void expect_answer_to(const char *head, bool draining, const char *text)
{
    struct upgrade upgrade = {0};
    struct upgrade_rules by = rules;
    struct buffer out = {0};
    by.draining = draining;
    upgrade_judge(bytes_of_text(head), &by, &upgrade);
    assert_int_equal(upgrade_answer(&out, &upgrade), 0);
    expect_answer(&out, text);
    buffer_fini(&out);
}

#define PLAIN(length)                             \
    "Content-Type: text/plain; charset=utf-8\r\n" \
    "Content-Length: " length "\r\n"              \
    "Cache-Control: no-store\r\n"

static void answers_say_what_is_wrong(void **state)
{
    expect_answer_to("GET /health HTTP/1.1\r\n" HOST END, false,
                     "HTTP/1.1 200 OK\r\n" PLAIN("6") "Connection: close\r\n\r\nready\n");
    expect_answer_to(
        "GET /health HTTP/1.0\r\n\r\n", true,
        "HTTP/1.1 503 Service Unavailable\r\n" PLAIN("9") "Connection: close\r\n\r\ndraining\n");
    expect_answer_to("HEAD /health HTTP/1.0\r\n\r\n", true,
                     "HTTP/1.1 503 Service Unavailable\r\n" PLAIN("9") "Connection: close\r\n\r\n");
    expect_answer_to("HEAD /usher HTTP/1.1\r\n" HOST END, false,
                     "HTTP/1.1 405 Method Not Allowed\r\n" PLAIN(
                         "24") "Connection: close\r\nAllow: GET\r\n\r\n");
    expect_answer_to(
        "POST /health HTTP/1.1\r\n" HOST END, false,
        "HTTP/1.1 405 Method Not Allowed\r\n" PLAIN(
            "24") "Connection: close\r\nAllow: GET, HEAD\r\n\r\na method other than GET\n");
    expect_answer_to(GET HOST END, false,
                     "HTTP/1.1 426 Upgrade Required\r\n" PLAIN(
                         "22") "Connection: close, Upgrade\r\nUpgrade: websocket\r\n"
                               "Sec-WebSocket-Version: 13\r\n\r\nno Upgrade: websocket\n");
    expect_answer_to(FINE, true,
                     "HTTP/1.1 101 Switching Protocols\r\n"
                     "Upgrade: websocket\r\n"
                     "Connection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                     "\r\n");
}

static void answer_with_no_phrase(void *argument)
{
    struct buffer out = {0};
    upgrade_answer(&out,
                   &(struct upgrade){.verdict = UPGRADE_REFUSED, .status = 418, .reason = ""});
}

/* What only others decide: too late; and what nobody knows. */
static void each_status_has_its_phrase(void **state)
{
    const struct upgrade late = {.verdict = UPGRADE_REFUSED, .status = 408, .reason = "late"};
    struct buffer out = {0};
    assert_int_equal(upgrade_answer(&out, &late), 0);
    expect_answer(&out,
                  "HTTP/1.1 408 Request Timeout\r\n" PLAIN("5") "Connection: close\r\n\r\nlate\n");
    buffer_fini(&out);
    assert_true(is_broken(answer_with_no_phrase, NULL, "i < sizeof(rows)"));
}

/* Who is refused unread, or speaks HTTP where frames are spoken. */
static void answers_without_a_question(void **state)
{
    const struct {
        uint32_t retry_after_ms;
        const char *seconds;
    } rows[] = {{0, "0"}, {1, "1"}, {1000, "1"}, {1001, "2"}, {UINT32_MAX, "4294968"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char text[512];
        struct buffer out = {0};
        snprintf(text, sizeof(text),
                 "HTTP/1.1 503 Service Unavailable\r\n" PLAIN("5") "Connection: close\r\n"
                                                                   "Retry-After: %s\r\n\r\nfull\n",
                 rows[i].seconds);
        assert_int_equal(upgrade_overloaded(&out, rows[i].retry_after_ms, "full"), 0);
        expect_answer(&out, text);
        buffer_fini(&out);
    }
    struct http_strict *strict = malloc(sizeof(*strict));
    struct buffer out = {0};
    assert_int_equal(upgrade_wrong_port(&out, "usher's frames", "listen.ws", "port 7402"), 0);
    assert_null(http_strict_answer(strict, out.data, out.size, 426, false));
    assert_string_equal(strict->body,
                        "this port speaks usher's frames; WebSocket is at listen.ws, port 7402\n");
    out.size = 0;
    assert_int_equal(upgrade_wrong_port(&out, "TLS", "listen.ws", NULL), 0);
    assert_null(http_strict_answer(strict, out.data, out.size, 426, false));
    assert_string_equal(strict->body, "this port speaks TLS; listen.ws is not set\n");
    free(strict);
    buffer_fini(&out);
}

/* --- the first bytes -------------------------------------------------------------------------- */

static void requests_are_known_by_their_method(void **state)
{
    const struct {
        const char *text;
        bool http, awaited;
    } rows[] = {
        {"", false, true},
        {"G", false, true},
        {"GET", false, true},
        {"GET ", true, false},
        {"GET /usher HTTP/1.1\r\n", true, false},
        {"HEAD ", true, false},
        {"POST ", true, false},
        {"PUT ", true, false},
        {"DELETE ", true, false},
        {"OPTIONS ", true, false},
        {"PATCH ", true, false},
        {"CONNECT ", true, false},
        {"TRACE ", true, false},
        {"P", false, true},
        {"PA", false, true},
        {"OPTIONS", false, true},
        {"GETS", false, false},
        {"X", false, false},
        {"GET\t", false, false},
        {"get ", false, false},
        {" GET ", false, false},
        {"PRI * HTTP/2.0", false, false},
        {"\r\nGET ", false, false},
        {"\x0a\x08", false, false},
        {"\x16\x03\x01", false, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        bool awaited = !rows[i].awaited;
        if (upgrade_is_http(bytes_of_text(rows[i].text), &awaited) != rows[i].http ||
            awaited != rows[i].awaited)
            fail_msg("%s", rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_browsers_and_proxies_send_is_accepted),
        cmocka_unit_test(what_is_no_head_is_refused),
        cmocka_unit_test(fields_are_as_they_must_be),
        cmocka_unit_test(only_two_paths_are_here),
        cmocka_unit_test(health_is_asked_for_by_old_means_too),
        cmocka_unit_test(nothing_comes_behind_the_head),
        cmocka_unit_test(another_reading_agrees),
        cmocka_unit_test(a_head_has_a_size),
        cmocka_unit_test(a_head_without_end_is_refused_at_its_size),
        cmocka_unit_test(origins_are_compared_as_one_text),
        cmocka_unit_test(without_a_list_only_an_open_broker_asks),
        cmocka_unit_test(sub_protocols_are_a_list),
        cmocka_unit_test(forwarded_addresses_are_one_list),
        cmocka_unit_test(the_origin_and_the_key_are_given),
        cmocka_unit_test(the_example_of_the_rfc),
        cmocka_unit_test(answers_say_what_is_wrong),
        cmocka_unit_test(each_status_has_its_phrase),
        cmocka_unit_test(answers_without_a_question),
        cmocka_unit_test(requests_are_known_by_their_method),
    };
    return cmocka_run_group_tests_name("net.upgrade", tests, NULL, NULL);
}
