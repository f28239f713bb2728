/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher-backend/url.h"

#include <stdint.h>
#include <string.h>
#include <sys/un.h>

/* What is no URL is told at once, to whoever opens the backend. Tried, it would look like a node
 * that is away, for as long as somebody waits; and a port of 65537 would be port 1 of another. */

#define DIGITS "0123456789"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

static bool is_path(const char *path)
{
    size_t size = strlen(path);
    return size > 0 && size < sizeof(((struct sockaddr_un *)0)->sun_path);
}

/* Gives where the host ends, or NULL. */
static const char *skip_host(const char *at)
{
    if (*at != '[') {
        size_t size = strspn(at, LETTERS DIGITS "-._");
        return size > 0 ? at + size : NULL;
    }
    size_t size = strcspn(++at, "]");
    size_t address = strspn(at, DIGITS "abcdefABCDEF:.");
    if (at[address] == '%') /* and the interface of a link-local one */
        address += 1 + strspn(at + address + 1, LETTERS DIGITS "-._");
    return at[size] == ']' && address == size && memchr(at, ':', size) != NULL ? at + size + 1
                                                                               : NULL;
}

static bool is_port(const char *at)
{
    uint32_t port = 0;
    size_t digits = strspn(at, DIGITS);
    for (size_t i = 0; i < digits && port <= UINT16_MAX; i++)
        port = port * 10 + (uint32_t)(at[i] - '0');
    return digits > 0 && at[digits] == '\0' && port > 0 && port <= UINT16_MAX;
}

bool link_url_is_good(const char *url)
{
    if (strlen(url) >= URL_BYTES_MAX)
        return false;
    if (strncmp(url, "ipc://", 6) == 0)
        return is_path(url + 6);
    const char *end = strncmp(url, "tcp://", 6) == 0 ? skip_host(url + 6) : NULL;
    return end != NULL && *end == ':' && is_port(end + 1);
}
