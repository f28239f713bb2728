/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/route.h"

#include <string.h>

#include "proto/utf8.h"

/* Paths are matched as they were sent, and only the part that stands for a name is decoded, after
 * the match: so an encoded slash is part of a name and never of a path. Nothing here is a file.
 * What is decoded is UTF-8, as in a body: answers that repeat it are JSON, and commands are
 * protobuf.
 *
 * Browsers, curl and proxies are told by the standards of URLs that `.` and `..` in a path are
 * steps, encoded or not, and take them. They are names of users all the same, and who has one must
 * not be out of an operator's reach: so a `~`, which is in no name, may stand before any, and is
 * passed over (docs/decisions/0090). */

const struct admin_path admin_routes[ADMIN_ROUTES] = {
#define ROUTE(name, method, path, change) {method, path, change},
#include "admin/routes.def"
#undef ROUTE
};

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool decode(const char *from, size_t size, char to[ADMIN_USER_BYTES_MAX + 1])
{
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        int c = (unsigned char)from[i];
        if (c == '%') {
            int high = i + 2 < size ? digit_of(from[i + 1]) : -1;
            int low = high >= 0 ? digit_of(from[i + 2]) : -1;
            if (low < 0)
                return false;
            c = high * 16 + low;
            i += 2;
        }
        if (c < ' ' || c == 127 || used == ADMIN_USER_BYTES_MAX)
            return false;
        to[used++] = (char)c;
    }
    to[used] = '\0';
    return used > 0 && utf8_valid((struct bytes){(const uint8_t *)to, used});
}

_Static_assert(ADMIN_USER_BYTES_MAX == ADMIN_PREFIX_BYTES_MAX, "one size for what is decoded");

bool route_decode(const char *from, char to[ADMIN_PREFIX_BYTES_MAX + 1])
{
    return decode(from, strlen(from), to);
}

/* Whether the path fits the pattern; *name is what stands for its star, without a ~ before it. */
static bool fits(const char *pattern, const char *path, const char **name, size_t *size)
{
    const char *star = strchr(pattern, '*');
    if (star == NULL)
        return strcmp(pattern, path) == 0;
    size_t head = (size_t)(star - pattern);
    if (strncmp(pattern, path, head) != 0)
        return false;
    *name = path + head + (path[head] == '~');
    *size = strcspn(*name, "/");
    return strcmp(star + 1, *name + *size) == 0;
}

int route_find(const struct admin_path *paths, unsigned count, const char *method, const char *path,
               char user[ADMIN_USER_BYTES_MAX + 1])
{
    int found = ROUTE_UNKNOWN;
    user[0] = '\0';
    for (unsigned i = 0; i < count; i++) {
        const char *name = NULL;
        size_t size = 0;
        if (!fits(paths[i].path, path, &name, &size))
            continue;
        if (strcmp(paths[i].method, method) != 0) {
            found = ROUTE_WRONG_METHOD;
            continue;
        }
        return name == NULL || decode(name, size, user) ? (int)i : ROUTE_BAD;
    }
    return found;
}

bool route_number(const char *text, uint64_t *number)
{
    uint64_t value = 0;
    if (text[0] == '\0')
        return false;
    for (; *text != '\0'; text++) {
        unsigned digit = (unsigned)(*text - '0');
        if (*text < '0' || *text > '9' || value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *number = value;
    return true;
}
