/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "fuzz/fuzz.h"
#include "http_strict.h"
#include "net/upgrade.h"

/* upgrade_judge beside another reading of the rules, and beside itself with the input in pieces.
 *
 * Of an input, byte 0 seeds the pieces, byte 1 has the rules and byte 2 the largest head; the rest
 * is what a client sends. What must be so: a head is accepted exactly when the other reading calls
 * it a handshake, but for origins; an origin is asked for by its rule alone; what is decided of
 * some bytes does not depend on the pieces, and stays, but that something behind a good head makes
 * it a bad one; each answer is HTTP that closes. */

static const char *const listed[] = {"https://game.example", "null"};

static struct upgrade judge(struct bytes input, const struct upgrade_rules *rules)
{
    struct upgrade upgrade = {0};
    upgrade_judge(input, rules, &upgrade);
    return upgrade;
}

static void same(const struct upgrade *a, const struct upgrade *b)
{
    FUZZ_CHECK(a->verdict == b->verdict && a->status == b->status && a->reason == b->reason);
    FUZZ_CHECK(a->size == b->size && a->protocol == b->protocol && a->head == b->head);
    FUZZ_CHECK(a->health == b->health && bytes_equal(a->key, b->key));
    FUZZ_CHECK(bytes_equal(a->origin, b->origin) && a->forwarded_count == b->forwarded_count);
    for (size_t i = 0; i < a->forwarded_count; i++)
        FUZZ_CHECK(bytes_equal(a->forwarded[i], b->forwarded[i]));
}

static void judge_in_pieces(struct bytes input, const struct upgrade_rules *rules, uint8_t seed,
                            const struct upgrade *whole)
{
    struct upgrade upgrade = {0};
    uint32_t random = seed | 1u;
    for (size_t at = 0; at < input.size && upgrade.verdict == UPGRADE_AWAITED;) {
        random = random * 1664525u + 1013904223u;
        size_t step = seed == 0 ? 1 : 1 + (random >> 24) % seed;
        at = step < input.size - at ? at + step : input.size;
        upgrade_judge((struct bytes){input.data, at}, rules, &upgrade);
        struct upgrade fresh = judge((struct bytes){input.data, at}, rules);
        same(&upgrade, &fresh);
    }
    if (upgrade.verdict == UPGRADE_REFUSED || upgrade.verdict == UPGRADE_AWAITED ||
        upgrade.size == input.size) {
        same(&upgrade, whole);
        return;
    }
    FUZZ_CHECK(whole->verdict == UPGRADE_REFUSED && whole->status == 400);
    FUZZ_CHECK(strcmp(whole->reason, "bytes behind the head") == 0);
}

static void answer(const struct upgrade *upgrade)
{
    static struct http_strict strict;
    struct buffer out = {0};
    if (upgrade->verdict == UPGRADE_AWAITED)
        return;
    FUZZ_CHECK(upgrade_answer(&out, upgrade) == 0);
    const char *fault =
        http_strict_answer(&strict, out.data, out.size, upgrade->status, upgrade->head);
    if (fault != NULL)
        fprintf(stderr, "%s\n", fault);
    FUZZ_CHECK(fault == NULL);
    FUZZ_CHECK(upgrade->verdict == UPGRADE_REFUSED ? upgrade->status >= 400 && upgrade->reason
                                                   : upgrade->reason == NULL);
    buffer_fini(&out);
    FUZZ_CHECK(upgrade_forwarded(&out, upgrade) == 0);
    FUZZ_CHECK(out.size == 0 || memchr(out.data, '\n', out.size) == NULL);
    buffer_fini(&out);
}

/* SCHEME://HOST or SCHEME://HOST:PORT of this machine. */
static bool is_here(char *text)
{
    unsigned a, b, c, d;
    char again[64];
    size_t scheme = strspn(text, HTTP_TOKEN);
    char *host = text + scheme + 3, *port = strrchr(text, ':');
    if (scheme == 0 || strncmp(text + scheme, "://", 3) != 0)
        return false;
    if (port > host && strspn(port + 1, "0123456789") == strlen(port + 1) &&
        strcmp(host, "[::1]") != 0)
        *port = '\0';
    if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
        return true;
    if (sscanf(host, "%3u.%3u.%3u.%3u", &a, &b, &c, &d) != 4 || b > 255 || c > 255 || d > 255)
        return false;
    snprintf(again, sizeof(again), "%u.%u.%u.%u", a, b, c, d);
    return a == 127 && strcmp(again, host) == 0;
}

static bool may_come(const struct upgrade_rules *rules, struct bytes origin)
{
    static char text[HTTP_STRICT_BYTES_MAX + 1];
    *bytes_put((uint8_t *)text, origin) = '\0';
    if (origin.data == NULL)
        return true;
    if (rules->origins_count > 0)
        return strcmp(text, listed[0]) == 0 || strcmp(text, listed[1]) == 0;
    return !rules->open || strcmp(text, "file://") == 0 || is_here(text);
}

/* What would be accepted from anywhere is a handshake, and is judged by its origin. */
static void ask_for_the_origin(struct bytes input, const struct upgrade_rules *rules,
                               const struct upgrade *whole)
{
    static struct http_strict strict;
    struct upgrade_rules anywhere = *rules;
    anywhere.open = false;
    anywhere.origins_count = 0;
    struct upgrade head = judge((struct bytes){input.data, whole->size}, &anywhere);
    struct upgrade all = judge(input, &anywhere);
    bool handshake = http_strict_is_handshake(&strict, input.data, whole->size, rules->path);
    FUZZ_CHECK(handshake == (head.verdict == UPGRADE_ACCEPTED));
    if (head.verdict == UPGRADE_ACCEPTED && !may_come(rules, head.origin))
        FUZZ_CHECK(whole->status == 403);
    else
        same(&all, whole);
}

static void know_the_method(struct bytes input)
{
    bool awaited = false, whole_awaited = false;
    bool http = upgrade_is_http(input, &whole_awaited);
    FUZZ_CHECK(!http || !whole_awaited);
    for (size_t size = 0; size < input.size && size < 10; size++) {
        bool part = upgrade_is_http((struct bytes){input.data, size}, &awaited);
        FUZZ_CHECK(part ? http && !awaited : awaited || (!http && !whole_awaited));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_strict strict;
    if (size < 3 || size > HTTP_STRICT_BYTES_MAX)
        return 0;
    struct bytes input = {data + 3, size - 3};
    struct upgrade_rules rules = {
        .path = data[1] & 8 ? "/" : "/usher",
        .origins = listed,
        .origins_count = data[1] & 1 ? 2 : 0,
        .open = (data[1] & 2) != 0,
        .draining = (data[1] & 4) != 0,
        .head_bytes = 1 + data[2] * 32u,
    };
    struct upgrade whole = judge(input, &rules);
    FUZZ_CHECK(whole.size <= input.size && whole.size <= rules.head_bytes);
    FUZZ_CHECK(whole.verdict != UPGRADE_AWAITED || input.size < rules.head_bytes);
    judge_in_pieces(input, &rules, data[0], &whole);
    answer(&whole);
    ask_for_the_origin(input, &rules, &whole);
    know_the_method(input);
    bool handshake = input.size <= rules.head_bytes &&
                     http_strict_is_handshake(&strict, input.data, input.size, rules.path);
    FUZZ_CHECK(!handshake || whole.status == 101 || whole.status == 403);
    return 0;
}
