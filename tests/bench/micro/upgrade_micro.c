/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "micro.h"
#include "net/upgrade.h"

/* Judging the head that Chromium sends, and the answer with its hash. */

static const char head[] =
    "GET /usher HTTP/1.1\r\n"
    "Host: localhost:7402\r\n"
    "Connection: Upgrade\r\n"
    "Pragma: no-cache\r\n"
    "Cache-Control: no-cache\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "HeadlessChrome/142.0.0.0 Safari/537.36\r\n"
    "Upgrade: websocket\r\n"
    "Origin: http://localhost:8000\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: en-US,en;q=0.9\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    "Sec-WebSocket-Protocol: usher.v1\r\n"
    "\r\n";

static struct buffer out;

void micro_setup(void)
{
    micro_need(buffer_reserve(&out, 1024) != NULL, "no memory");
}

void micro_loop(void)
{
    const struct upgrade_rules rules = {.path = "/usher", .open = true, .head_bytes = 8192};
    for (unsigned i = 0; i < MICRO_ROUNDS; i++) {
        struct upgrade upgrade = {0};
        upgrade_judge((struct bytes){(const uint8_t *)head, sizeof(head) - 1}, &rules, &upgrade);
        micro_need(upgrade.verdict == UPGRADE_ACCEPTED, "the head was refused");
        out.size = 0;
        micro_need(upgrade_answer(&out, &upgrade) == 0, "no memory");
        micro_sink += out.size;
    }
}
