/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_ANNOUNCE_H
#define USHER_OPERATE_ANNOUNCE_H

/* Where the broker listens, for the log and for whoever asks. Any thread. */

#include "config/config.h"
#include "net/net.h"

/* Where clients connect to that listener. False: nowhere. */
bool announce_address(struct net *net, enum listener_kind kind, char to[NET_ADDRESS_BYTES_MAX]);

struct announce {
    struct net *net;
    const struct options *config;
    struct log *log;
    uint16_t admin_port, http_port; /* 0: none */
};

/* A line in the log for each address. */
void announce_all(const struct announce *announce);

#endif
