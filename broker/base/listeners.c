/* SPDX-License-Identifier: Apache-2.0 */
#include "base/listeners.h"

#include <assert.h>
#include <string.h>

/* What a listener is called, for all who name one: its row is the only place that says so. */

enum {
#define TRANSPORT(name, by_tls, by_http) BY_TLS_##name = by_tls, BY_HTTP_##name = by_http,
#include "base/listeners.def"
};

const struct listener_row listener_rows[LISTENERS] = {
#define LISTENER(name, codec, transport, standard, whom, help) \
    {#name,                                                    \
     "listen." #name,                                          \
     whom,                                                     \
     CODEC_##codec,                                            \
     TRANSPORT_##transport,                                    \
     BY_TLS_##transport,                                       \
     BY_HTTP_##transport,                                      \
     METRIC_connections_accepted_##name,                       \
     METRIC_connections_open_##name},
#include "base/listeners.def"
};

#define LISTENER(name, codec, transport, standard, whom, help) \
    static_assert(sizeof(#name) <= LISTENER_NAME_BYTES_MAX + 1, "records have room for so much");
#include "base/listeners.def"

bool listener_is_like(enum listener_kind kind, enum listener_kind other)
{
    const struct listener_row *one = &listener_rows[kind], *two = &listener_rows[other];
    return kind == other || (one->by_tls && two->by_tls) || (one->by_http && two->by_http);
}

enum listener_kind listener_of_option(const char *option)
{
    enum listener_kind kind = 0;
    while (kind < LISTENERS && strcmp(listener_rows[kind].option, option) != 0)
        kind++;
    return kind;
}

const char *listener_name(enum listener_kind kind)
{
    return kind < LISTENERS ? listener_rows[kind].name : "";
}

enum listener_kind listener_of_name(const char *name)
{
    enum listener_kind kind = 0;
    while (kind < LISTENERS && strcmp(listener_rows[kind].name, name) != 0)
        kind++;
    return kind;
}
