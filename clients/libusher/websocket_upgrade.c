/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/websocket_upgrade.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

/* The key and its answer prove that the other end knows WebSocket and has seen this very request: a
 * server of another kind, or a cache on the way, cannot be talked into a connection. The
 * sub-protocol proves that it is usher's. So both are demanded, and whatever else an answer would
 * have to be understood for (an extension, a second value of one name) is refused.
 *
 * Nothing in the request is secret or steers anything: the token is in the Login, because proxies
 * log URLs and heads.
 *
 * The head is looked at anew with each piece that comes, until it is whole or too long; only what
 * can never become HTTP is refused before. */

static const char PROTOCOL[] = "usher.v1";
static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

enum {
    KEY_BYTES = 16,
    KEY_TEXT_BYTES = 24,
    RETRY_AFTER_S_MAX = 3600,
    REQUEST_BYTES_MAX = URL_HOST_BYTES_MAX + URL_PATH_BYTES_MAX + 256,
};

/* --- the request ------------------------------------------------------------------------------ */

/* What the answer to a key must be (RFC 6455, 4.2.2). */
static bool expected_accept(const char *key, char accept[UPGRADE_ACCEPT_BYTES + 1])
{
    uint8_t digest[SHA_DIGEST_LENGTH];
    char text[KEY_TEXT_BYTES + sizeof(GUID)];
    int size = snprintf(text, sizeof(text), "%s%s", key, GUID);
    if (SHA1((const uint8_t *)text, (size_t)size, digest) == NULL)
        return false;
    return EVP_EncodeBlock((uint8_t *)accept, digest, sizeof(digest)) == UPGRADE_ACCEPT_BYTES;
}

int websocket_request(struct buffer *out, const struct url *url,
                      char accept[UPGRADE_ACCEPT_BYTES + 1])
{
    uint8_t random[KEY_BYTES];
    char key[KEY_TEXT_BYTES + 1];
    char port[8] = "";
    bool brackets = strchr(url->host, ':') != NULL;
    if (getrandom(random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
        return -EAGAIN;
    EVP_EncodeBlock((uint8_t *)key, random, sizeof(random));
    if (!expected_accept(key, accept))
        return -ENOMEM;
    if (!url->port_is_usual)
        snprintf(port, sizeof(port), ":%u", (unsigned)url->port);
    char *place = (char *)buffer_reserve(out, REQUEST_BYTES_MAX);
    if (place == NULL)
        return -ENOMEM;
    int size = snprintf(place, REQUEST_BYTES_MAX,
                        "GET %s HTTP/1.1\r\n"
                        "Host: %s%s%s%s\r\n"
                        "Upgrade: websocket\r\n"
                        "Connection: Upgrade\r\n"
                        "Sec-WebSocket-Key: %s\r\n"
                        "Sec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Protocol: %s\r\n"
                        "\r\n",
                        url->path, brackets ? "[" : "", url->host, brackets ? "]" : "", port, key,
                        PROTOCOL);
    if (size >= REQUEST_BYTES_MAX)
        return -EMSGSIZE;
    out->size += (size_t)size;
    return 0;
}

/* --- the answer ------------------------------------------------------------------------------- */

/* What the fields of a head say. */
struct fields {
    bool upgrade, connection, extensions;
    unsigned accepts, protocols; /* how often they were there */
    bool accept_is_right, protocol_is_right;
    uint32_t retry_after_s;
};

static struct bytes trimmed(const char *at, const char *end)
{
    while (at != end && (*at == ' ' || *at == '\t'))
        at++;
    while (at != end && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return (struct bytes){(const uint8_t *)at, (size_t)(end - at)};
}

static bool same_word(struct bytes a, const char *b)
{
    return a.size == strlen(b) && strncasecmp((const char *)a.data, b, a.size) == 0;
}

/* Whether a list by commas holds that word. */
static bool list_holds(struct bytes list, const char *word)
{
    const char *at = (const char *)list.data;
    const char *end = at + list.size;
    while (at != end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma != NULL ? comma : end;
        if (same_word(trimmed(at, stop), word))
            return true;
        at = comma != NULL ? comma + 1 : end;
    }
    return false;
}

/* Seconds; a date instead of them says nothing here. */
static uint32_t seconds_of(struct bytes value)
{
    uint32_t seconds = 0;
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return 0;
        seconds = seconds * 10 + (uint32_t)(value.data[i] - '0');
        if (seconds > RETRY_AFTER_S_MAX)
            seconds = RETRY_AFTER_S_MAX;
    }
    return seconds;
}

static void take_field(struct bytes name, struct bytes value, const char *accept,
                       struct fields *fields)
{
    if (same_word(name, "upgrade")) {
        fields->upgrade = fields->upgrade || list_holds(value, "websocket");
    } else if (same_word(name, "connection")) {
        fields->connection = fields->connection || list_holds(value, "upgrade");
    } else if (same_word(name, "sec-websocket-accept")) {
        fields->accepts++;
        fields->accept_is_right = bytes_equal(value, bytes_of_text(accept));
    } else if (same_word(name, "sec-websocket-protocol")) {
        fields->protocols++;
        fields->protocol_is_right = bytes_equal(value, bytes_of_text(PROTOCOL));
    } else if (same_word(name, "sec-websocket-extensions")) {
        fields->extensions = true;
    } else if (same_word(name, "retry-after")) {
        fields->retry_after_s = seconds_of(value);
    }
}

/* NAME: VALUE. A name is at least one byte and has no blanks, so that no line goes on in the next.
 */
static bool read_line(const char *at, const char *end, const char *accept, struct fields *fields)
{
    const char *colon = memchr(at, ':', (size_t)(end - at));
    if (colon == NULL || colon == at)
        return false;
    for (const char *byte = at; byte != end; byte++)
        if ((unsigned char)*byte < ' ' && (*byte != '\t' || byte < colon))
            return false;
    if (memchr(at, ' ', (size_t)(colon - at)) != NULL)
        return false;
    take_field((struct bytes){(const uint8_t *)at, (size_t)(colon - at)}, trimmed(colon + 1, end),
               accept, fields);
    return true;
}

/* HTTP/1.x, a blank, three digits, and a blank or the end. Gives the status, or 0. */
static unsigned read_status(const char *at, size_t size)
{
    if (size < 12 || at[7] < '0' || at[7] > '9' || at[8] != ' ' || (size > 12 && at[12] != ' '))
        return 0;
    unsigned status = 0;
    for (size_t i = 9; i < 12; i++) {
        if (at[i] < '0' || at[i] > '9')
            return 0;
        status = status * 10 + (unsigned)(at[i] - '0');
    }
    return status >= 100 ? status : 0;
}

/* Whether it is, or can still become, an HTTP answer. */
static bool begins_well(struct bytes input)
{
    static const char HTTP[] = "HTTP/1.";
    size_t size = input.size < sizeof(HTTP) - 1 ? input.size : sizeof(HTTP) - 1;
    return size == 0 || memcmp(input.data, HTTP, size) == 0;
}

static const char *judge(const struct fields *fields, bool http_1_0)
{
    if (http_1_0 || !fields->upgrade || !fields->connection)
        return "an answer that is no upgrade to WebSocket";
    if (fields->accepts != 1 || !fields->accept_is_right)
        return "the wrong Sec-WebSocket-Accept";
    if (fields->extensions)
        return "an extension that nobody asked for";
    if (fields->protocols != 1 || !fields->protocol_is_right)
        return "another sub-protocol than usher.v1";
    return "";
}

static int fault(struct websocket_answer *answer, const char *what)
{
    answer->fault = what;
    return -EPROTO;
}

/* The whole head, with the empty line at its end. */
static int read_head(const char *at, const char *end, const char *accept,
                     struct websocket_answer *answer)
{
    struct fields fields = {0};
    const char *stop = memmem(at, (size_t)(end - at), "\r\n", 2);
    bool http_1_0 = at[7] == '0';
    answer->status = read_status(at, (size_t)(stop - at));
    for (at = stop + 2; answer->status != 0 && at != end - 2; at = stop + 2) {
        stop = memmem(at, (size_t)(end - at), "\r\n", 2);
        if (!read_line(at, stop, accept, &fields))
            answer->status = 0;
    }
    if (answer->status == 0)
        return fault(answer, "a head that is not HTTP");
    answer->retry_after_ms = fields.retry_after_s * 1000;
    if (answer->status != 101)
        return -ECONNREFUSED;
    answer->fault = judge(&fields, http_1_0);
    return answer->fault[0] == '\0' ? 1 : -EPROTO;
}

int websocket_answer_read(struct bytes input, const char *accept, struct websocket_answer *answer)
{
    *answer = (struct websocket_answer){.fault = ""};
    if (!begins_well(input))
        return fault(answer, "what is no HTTP");
    const char *at = (const char *)input.data;
    size_t size = input.size < UPGRADE_ANSWER_BYTES_MAX ? input.size : UPGRADE_ANSWER_BYTES_MAX;
    const char *blank = size > 0 ? memmem(at, size, "\r\n\r\n", 4) : NULL;
    if (blank == NULL)
        return size < UPGRADE_ANSWER_BYTES_MAX ? 0 : fault(answer, "a head without an end");
    answer->size = (size_t)(blank - at) + 4;
    return read_head(at, at + answer->size, accept, answer);
}
