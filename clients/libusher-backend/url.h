/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_BACKEND_URL_H
#define USHER_LIBUSHER_BACKEND_URL_H

/* Where a node is, for those who serve it. Pure; any thread. */

#include <stdbool.h>

enum { URL_BYTES_MAX = 256 /* with the NUL */ };

/* ipc://PATH or tcp://HOST:PORT, with a port that is one and nothing that does not belong there: a
 * user's name, a path, a fragment, blanks. IPv6 addresses stand in brackets. */
bool link_url_is_good(const char *url);

#endif
