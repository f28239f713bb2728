/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_FRIENDS_H
#define USHER_USER_FRIENDS_H

/* Whom a user watches, what is gathered for him, and what he says of himself. company.h says when
 * each is called. */

#include "user/company.h"

void friends_lost(struct session *session, struct turn *turn);
void friends_resumed(struct session *session, struct turn *turn);
void friends_taken_over(struct session *session, struct turn *turn, uint64_t old_epoch);
void friends_ended(struct session *session, struct turn *turn);
void friends_clear(struct session *session);
uint64_t friends_due_ms(const struct session *session, const struct turn *turn);
void friends_tick(struct session *session, struct turn *turn);
bool friends_wait(const struct session *session);
void friends_feed(struct session *session, struct turn *turn);

/* friends.service has answered what a Watch may add. */
void friends_answered(struct session *session, const struct call_result_message *result,
                      struct turn *turn);

#endif
