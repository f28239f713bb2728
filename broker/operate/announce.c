/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/announce.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

bool announce_address(struct net *net, enum listener_kind kind, char to[NET_ADDRESS_BYTES_MAX])
{
    bool listens = net_port(net, kind) != 0;
    if (listens)
        net_listen_address(net, kind, to);
    return listens;
}

static void announce_clients(const struct announce *announce, enum listener_kind kind)
{
    char address[NET_ADDRESS_BYTES_MAX];
    if (announce_address(announce->net, kind, address))
        LOG(announce->log, LISTENING, LOG_S("for", listener_rows[kind].whom),
            LOG_S("address", address), LOG_U("port", net_port(announce->net, kind)));
}

static void announce_http(const struct announce *announce, const char *whom, const char *text,
                          uint16_t port)
{
    char address[300];
    if (port == 0)
        return;
    snprintf(address, sizeof(address), "%.*s:%u", (int)(strrchr(text, ':') - text), text, port);
    LOG(announce->log, LISTENING, LOG_S("for", whom), LOG_S("address", address),
        LOG_U("port", port));
}

void announce_all(const struct announce *announce)
{
    const struct options *config = announce->config;
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        announce_clients(announce, kind);
    announce_http(announce, "admin", config->admin_listen, announce->admin_port);
    announce_http(announce, "http", config->http_listen, announce->http_port);
    for (size_t i = 0; i < config->link_urls.count; i++)
        LOG(announce->log, LISTENING, LOG_S("for", "backends"),
            LOG_S("address", config->link_urls.items[i]));
    if (config->feed_url[0] != '\0')
        LOG(announce->log, LISTENING, LOG_S("for", "feed"), LOG_S("address", config->feed_url));
}
