/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_ROOMS_H
#define USHER_USER_ROOMS_H

/* The rooms that a user is in, as his own turns know them. company.h says when each is called. */

#include "user/company.h"

void rooms_lost(struct session *session, struct turn *turn);
void rooms_resumed(struct session *session, struct turn *turn, const struct resume_message *resume);
void rooms_taken_over(struct session *session, struct turn *turn, uint64_t old_epoch);
void rooms_ended(struct session *session, struct turn *turn, uint8_t cause);
void rooms_clear(struct session *session);
bool rooms_wait(const struct session *session);
void rooms_feed(struct session *session, struct turn *turn);

#endif
