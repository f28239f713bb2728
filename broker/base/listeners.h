/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_LISTENERS_H
#define USHER_BASE_LISTENERS_H

/* The rows of listeners.def as data: LISTENER_tcp and so on. Constants; any thread. */

#include <stdbool.h>

#include "base/metrics.h"

enum transport_kind {
#define TRANSPORT(name, by_tls, by_http) TRANSPORT_##name,
#include "base/listeners.def"
    TRANSPORTS
};

enum codec_kind {
#define CODEC(name) CODEC_##name,
#include "base/listeners.def"
    CODECS
};

enum listener_kind {
#define LISTENER(name, codec, transport, standard, whom, help) LISTENER_##name,
#include "base/listeners.def"
    LISTENERS
};

struct listener_row {
    const char *name;   /* "tcp" */
    const char *option; /* "listen.tcp" */
    const char *whom;   /* "clients" */
    enum codec_kind codec;
    enum transport_kind transport;
    bool by_tls, by_http;          /* of the transport */
    enum metric_id accepted, open; /* its part of connections_accepted, connections_open */
};

extern const struct listener_row listener_rows[LISTENERS];

/* Whether what is set for the one holds for the other too: both show the certificate, or both are
 * of the web. */
bool listener_is_like(enum listener_kind kind, enum listener_kind other);

/* What a name has at most, without its NUL. */
enum { LISTENER_NAME_BYTES_MAX = 8 };

/* The one whose option that is; LISTENERS: none. */
enum listener_kind listener_of_option(const char *option);

/* Its name, which is what clients came by for whoever looks at them; "" for LISTENERS, and back: a
 * name that the store has may be of a row that there is no more. */
const char *listener_name(enum listener_kind kind);
enum listener_kind listener_of_name(const char *name);

#endif
