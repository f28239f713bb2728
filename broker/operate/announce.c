/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/announce.h"

#include <string.h>

#include "operate/certificate.h"
#include "operate/http.h"

bool announced_client_address(const struct broker *broker, enum listener_kind kind,
                              char to[NET_ADDRESS_BYTES_MAX])
{
    bool listens = net_port(broker->net, kind) != 0;
    if (listens)
        net_listen_address(broker->net, kind, to);
    return listens;
}

static void announce_clients(struct broker *broker, enum listener_kind kind)
{
    char address[NET_ADDRESS_BYTES_MAX];
    if (announced_client_address(broker, kind, address))
        LOG(broker->log, LISTENING, LOG_S("for", listener_rows[kind].whom),
            LOG_S("address", address), LOG_U("port", net_port(broker->net, kind)));
}

static void announce_admin(struct broker *broker)
{
    const char *text = broker->options->admin_listen;
    char address[300];
    if (broker->admin == NULL)
        return;
    snprintf(address, sizeof(address), "%.*s:%u", (int)(strrchr(text, ':') - text), text,
             broker->admin->port);
    LOG(broker->log, LISTENING, LOG_S("for", "admin"), LOG_S("address", address),
        LOG_U("port", broker->admin->port));
}

void announce(struct broker *broker)
{
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        announce_clients(broker, kind);
    certificate_tell(broker, true);
    announce_admin(broker);
    for (size_t i = 0; i < broker->options->link_urls.count; i++)
        LOG(broker->log, LISTENING, LOG_S("for", "backends"),
            LOG_S("address", broker->options->link_urls.items[i]));
    if (broker->feed != NULL)
        LOG(broker->log, LISTENING, LOG_S("for", "feed"),
            LOG_S("address", broker->options->feed_url));
}
