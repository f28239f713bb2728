/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_CONNECTIONS_H
#define USHER_OPERATE_CONNECTIONS_H

/* Who gets how many of the files that this process may have open. */

#include "base/log.h"
#include "config/config.h"

/* limits.connections, or what is left of the process's files. */
uint32_t connections_max(const struct options *options);

/* What connections of the link and the feed may take: what clients do not need, but an eighth.
 * Strangers can take all of that, and nothing else. */
uint64_t connections_of_link(const struct options *options);

/* A line in the log when that is less than limits.connections. */
void connections_warn(const struct options *options, struct log *log);

#endif
