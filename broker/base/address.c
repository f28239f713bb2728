/* SPDX-License-Identifier: Apache-2.0 */
#include "base/address.h"

#include <string.h>

/* Strict, because what is guessed here is listened on: a host has to be there, a port is digits
 * (a service's name would be one more thing to look up), and an IPv6 address without brackets is
 * refused, since nobody can tell where its port begins. */

enum { PORT_DIGITS_MAX = 5 };

static bool read_port(uint16_t *port, const char *text, size_t size)
{
    uint32_t number = 0;
    if (size == 0 || size > PORT_DIGITS_MAX)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        number = number * 10 + (uint32_t)(text[i] - '0');
    }
    *port = (uint16_t)number;
    return number <= UINT16_MAX;
}

bool address_split(struct address *address, const char *text, size_t size)
{
    const char *colon = size > 0 ? memrchr(text, ':', size) : NULL;
    if (colon == NULL)
        return false;
    size_t host_size = (size_t)(colon - text);
    if (!read_port(&address->port, colon + 1, size - host_size - 1))
        return false;
    address->bracketed = text[0] == '[' && text[host_size - 1] == ']';
    if (address->bracketed) {
        text++;
        host_size -= 2;
    } else if (memchr(text, ':', host_size) != NULL) {
        return false;
    }
    if (host_size == 0 || host_size >= sizeof(address->host))
        return false;
    memcpy(address->host, text, host_size);
    address->host[host_size] = '\0';
    return true;
}
