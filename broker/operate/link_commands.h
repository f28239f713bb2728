/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_LINK_COMMANDS_H
#define USHER_OPERATE_LINK_COMMANDS_H

/* Commands of operators that come by the link. */

#include "broker/parts.h"

bool operate(struct broker *broker, const Usher__V1__Command *command, size_t room,
             struct buffer *out);

/* Marks a user who has a session, or had one under a trace that still runs. 0, -ENOENT: nobody of
 * that name is there; others as trace_start. Any thread. To end it: trace_stop; to read:
 * trace_read, both with broker->traces. */
int broker_trace(struct broker *broker, const char *user, uint32_t seconds, uint32_t one_in);

#endif
