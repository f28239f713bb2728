/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_USER_CALL_MOVED_H
#define USHER_ACTORS_USER_CALL_MOVED_H

/* Mail that goes over to another process, with whoever holds it. */

#include "actors/messages.h"
#include "handover.pb-c.h"

/* Borrows of the message. */
void user_call_move_out(const struct user_call_message *message, Usher__V1__HandoverMail *to);

/* Never NULL: it waits for memory. */
struct user_call_message *user_call_move_in(const Usher__V1__HandoverMail *from);

#endif
