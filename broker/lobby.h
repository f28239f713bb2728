/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BROKER_LOBBY_H
#define USHER_BROKER_LOBBY_H

/* Where connections are that have no user yet. Called by ingress.c, on the I/O thread of the
 * connection; nothing blocks. */

#include "broker/parts.h"

/* One frame before login. True: the connection is closed now, or *bound to a user's actor. */
bool lobby_admit(struct broker *broker, struct thread *thread, conn_handle conn,
                 struct bytes bytes, bool *bound);

/* Takes a login or resume to its user. Takes the message. False: it was answered, and the
 * connection stays unbound. */
bool lobby_attach(struct broker *broker, struct thread *thread, struct attach_message *message);

/* Goes on with the logins of this thread that were judged. */
void lobby_take_verdicts(struct broker *broker, struct thread *thread);

/* The connection ended, or is to be ended for that reason. */
void lobby_end(struct broker *broker, struct thread *thread, conn_handle conn, enum conn_end end);

#endif
