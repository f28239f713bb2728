/* SPDX-License-Identifier: Apache-2.0 */
#include "net/forwarded.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/address.h"

/* The list grows at its end, and whoever connects to the first proxy may have written anything in
 * front of that. So it is read from the end: an entry is believed because the proxy behind it is
 * trusted, and the walk ends at the first one that is not, or that is no address, since nothing in
 * front of it is vouched for. Where all are trusted, the foremost may be the stranger's own text.
 */

/* The last entry, without spaces, taken from the list with its comma; false: there is none left. */
static bool take_last(struct bytes *values, struct bytes *entry)
{
    if (values->size == 0)
        return false;
    const uint8_t *comma = memrchr(values->data, ',', values->size);
    const uint8_t *from = comma != NULL ? comma + 1 : values->data;
    const uint8_t *to = values->data + values->size;
    while (from < to && (*from == ' ' || *from == '\t'))
        from++;
    while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
        to--;
    *entry = (struct bytes){from, (size_t)(to - from)};
    values->size = comma != NULL ? (size_t)(comma - values->data) : 0;
    return true;
}

static bool read_host(const char *host, uint16_t port, bool bracketed,
                      struct sockaddr_storage *address)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (!bracketed && inet_pton(AF_INET, host, &four.sin_addr) == 1)
        memcpy(address, &four, sizeof(four));
    else if (inet_pton(AF_INET6, host, &six.sin6_addr) == 1)
        memcpy(address, &six, sizeof(six));
    else
        return false;
    return true;
}

/* "192.0.2.7", "192.0.2.7:4711", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:4711" */
static bool read_entry(struct bytes entry, struct sockaddr_storage *address)
{
    struct address parts;
    char host[INET6_ADDRSTRLEN];
    const char *text = (const char *)entry.data;
    *address = (struct sockaddr_storage){.ss_family = AF_UNSPEC};
    if (entry.size == 0 || memchr(text, '\0', entry.size) != NULL)
        return false;
    if (address_split(&parts, text, entry.size))
        return read_host(parts.host, parts.port, parts.bracketed, address);
    bool bracketed = text[0] == '[' && text[entry.size - 1] == ']' && entry.size > 2;
    if (bracketed)
        entry = (struct bytes){entry.data + 1, entry.size - 2};
    if (entry.size >= sizeof(host))
        return false;
    memcpy(host, entry.data, entry.size);
    host[entry.size] = '\0';
    return read_host(host, 0, bracketed, address);
}

bool forwarded_address(struct bytes values, const struct prefixes *trusted,
                       struct sockaddr_storage *address)
{
    struct bytes entry;
    while (take_last(&values, &entry)) {
        if (entry.size == 0)
            continue; /* a list may have empty entries */
        if (!read_entry(entry, address))
            return false;
        if (!prefixes_hold(trusted, (struct sockaddr *)address))
            return true;
    }
    return false;
}
