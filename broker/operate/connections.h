/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_CONNECTIONS_H
#define USHER_OPERATE_CONNECTIONS_H

/* Who gets how many of the files that this process may have open. */

#include "broker/parts.h"

/* limits.connections, or what is left of the process's files. */
uint32_t connections_max(const struct broker *broker);

/* What connections of the link and the feed may take: what clients do not need, but an eighth.
 * Strangers can take all of that, and nothing else. */
uint64_t link_files(const struct options *options);

/* A line in the log when that is less than limits.connections. */
void connections_warn(struct broker *broker);

#endif
