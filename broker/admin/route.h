/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ADMIN_ROUTE_H
#define USHER_ADMIN_ROUTE_H

/* From a path and its arguments to a route. Pure. */

#include "admin/admin.h"

extern const struct admin_path admin_routes[ADMIN_ROUTES];

enum { ROUTE_UNKNOWN = -1, ROUTE_WRONG_METHOD = -2, ROUTE_BAD = -3 };

/* Which of the paths it is, and the decoded name in it, or one of the above; ROUTE_BAD: the name is
 * too long, empty, or decodes to a control character or NUL. */
int route_find(const struct admin_path *paths, unsigned count, const char *method, const char *path,
               char user[ADMIN_USER_BYTES_MAX + 1]);

/* Percent-decodes a text of at most ADMIN_PREFIX_BYTES_MAX bytes, not empty, without control
 * characters. */
bool route_decode(const char *from, char to[ADMIN_PREFIX_BYTES_MAX + 1]);

/* An unsigned number in digits alone. */
bool route_number(const char *text, uint64_t *number);

#endif
