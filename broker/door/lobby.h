/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_DOOR_LOBBY_H
#define USHER_DOOR_LOBBY_H

/* Where connections are that have no user yet. Called by ingress.c, on the I/O thread of the
 * connection; nothing blocks. */

#include "broker/parts.h"

/* One frame before login, and no other one until it is answered. */
void lobby_admit(struct broker *broker, struct thread *thread, conn_handle conn,
                 struct bytes bytes);

/* Takes a login that is good to its user, or answers why not. Takes the message. */
void lobby_attach(struct broker *broker, struct thread *thread, struct attach_message *message);

/* Goes on with the logins of this thread that were judged. */
void lobby_take_verdicts(struct broker *broker, struct thread *thread);

/* The connection ended, or is to be ended for that reason. */
void lobby_end(struct broker *broker, struct thread *thread, conn_handle conn, enum conn_end end);

#endif
