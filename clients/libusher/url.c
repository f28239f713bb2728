/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/url.h"

#include <string.h>
#include <strings.h>

/* A URL of ours must mean the same as in a browser's `new WebSocket(url)`: so the ports of ws and
 * wss are those of HTTP, names of schemes have no case, and a fragment is refused. Host and path go
 * into the head of an HTTP request, so only what may stand there is taken: no blanks, no controls,
 * nothing beyond ASCII. A user's name is refused, because what stands in a URL is logged on the
 * way. */

static const struct scheme {
    const char *prefix;
    uint16_t port;
    bool secure, websocket;
} SCHEMES[] = {
    {"tcp://", 7400, false, false},
    {"tls://", 7443, true, false},
    {"ws://", 80, false, true},
    {"wss://", 443, true, true},
};

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static const char *read_scheme(const char *text, const struct scheme **scheme)
{
    for (size_t i = 0; i < sizeof(SCHEMES) / sizeof(*SCHEMES); i++) {
        size_t size = strlen(SCHEMES[i].prefix);
        *scheme = &SCHEMES[i];
        if (strncasecmp(text, SCHEMES[i].prefix, size) == 0)
            return text + size;
    }
    return NULL;
}

/* Takes `size` bytes as the host, of which each must be in `allowed`. */
static bool take_host(const char *at, size_t size, const char *allowed, struct url *url)
{
    if (size == 0 || size > URL_HOST_BYTES_MAX || strspn(at, allowed) < size)
        return false;
    memcpy(url->host, at, size);
    url->host[size] = '\0';
    return true;
}

/* Gives where the host ends, or NULL. */
static const char *read_host(const char *at, struct url *url)
{
    if (*at != '[') {
        size_t size = strcspn(at, ":/?#");
        return take_host(at, size, LETTERS DIGITS "-._", url) ? at + size : NULL;
    }
    size_t size = strcspn(++at, "]");
    if (at[size] != ']' || memchr(at, ':', size) == NULL)
        return NULL;
    return take_host(at, size, DIGITS "abcdefABCDEF:.", url) ? at + size + 1 : NULL;
}

static const char *read_port(const char *at, struct url *url)
{
    uint32_t port = 0;
    if (*at != ':')
        return at;
    size_t digits = strspn(++at, DIGITS);
    for (size_t i = 0; i < digits && port <= UINT16_MAX; i++)
        port = port * 10 + (uint32_t)(at[i] - '0');
    if (digits == 0 || port == 0 || port > UINT16_MAX)
        return NULL;
    url->port = (uint16_t)port;
    return at + digits;
}

/* What HTTP takes as a target; only a fragment has no place there. */
static const char *read_path(const char *at, struct url *url)
{
    size_t size = strlen(at);
    if (size == 0)
        at = "/usher";
    else if (*at != '/')
        return "only /PATH may stand behind host and port";
    size = strlen(at);
    if (size > URL_PATH_BYTES_MAX)
        return "the path is too long";
    for (size_t i = 0; i < size; i++)
        if (at[i] <= ' ' || at[i] > '~' || at[i] == '#')
            return "the path holds what a URL may not";
    memcpy(url->path, at, size + 1);
    return NULL;
}

const char *url_read(const char *text, struct url *url)
{
    const struct scheme *scheme;
    const char *at = read_scheme(text, &scheme);
    if (at == NULL)
        return "it does not begin with tcp://, tls://, ws:// or wss://";
    *url = (struct url){
        .port = scheme->port, .secure = scheme->secure, .websocket = scheme->websocket};
    at = read_host(at, url);
    if (at == NULL)
        return "that is no host";
    at = read_port(at, url);
    if (at == NULL)
        return "that is no port";
    url->port_is_usual = url->port == scheme->port;
    if (url->websocket)
        return read_path(at, url);
    return *at == '\0' || strcmp(at, "/") == 0 ? NULL : "only ws and wss have a path";
}
