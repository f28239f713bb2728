/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_FRIENDS_MOVED_H
#define USHER_USER_FRIENDS_MOVED_H

/* The friends of a user who goes over to another process: for moved.c. */

#include "proto/handover.h"
#include "user/user.h"

/* Into the record; what is made on the way is in the arena. False: they cannot go now, or it is
 * full. */
bool friends_move_out(const struct session *session, struct arena *arena,
                      Usher__V1__HandoverUser *user);

/* A message of at least that size that holds how those whom he watches look. NULL without memory.
 */
void *friends_move_message(const Usher__V1__HandoverUser *user, size_t size,
                           const struct moved_records *records);

/* Out of the record, with what that message holds. */
void friends_move_in(struct session *session, const Usher__V1__HandoverUser *user,
                     const struct message *message, struct turn *turn);

#endif
