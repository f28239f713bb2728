/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_COMPANY_H
#define USHER_USER_COMPANY_H

/* Whom a user has to do with beside those he writes to: the rooms he is in, the friends he watches;
 * and where he stands with what is stored for him (shelf.h). Hangs off the session by one pointer,
 * so that who has none of it pays for that alone. What happens to a session is told here, and goes
 * on to rooms.c and friends.c. Owned by the user's turn. */

#include "actors/messages.h"
#include "user/session.h"

struct rooms;
struct friends;
struct shelf;

struct company {
    struct rooms *rooms;     /* NULL: in none */
    struct friends *friends; /* NULL: watches nobody, and has no status */
    struct shelf *shelf;     /* NULL: has neither stored anything nor got it */
};

/* Makes it when there is none. */
struct company *company_of(struct session *session);

/* Frees it when nothing hangs off it any more. */
void company_drop_empty(struct session *session);

/* --- what has happened to the session --------------------------------------------------------- */

/* The connection is gone; the session waits for a resume. */
void company_lost(struct session *session, struct turn *turn);

/* A connection is bound again, and its Welcome stands in the turn. */
void company_resumed(struct session *session, struct turn *turn,
                     const struct resume_message *resume);

/* A Login is bound, and its Welcome stands in the turn; old_epoch 0: there was no session. */
void company_taken_over(struct session *session, struct turn *turn, uint64_t old_epoch);

/* The session is over, by that PresenceEvent.Cause; it is cleared next. */
void company_ended(struct session *session, struct turn *turn, uint8_t cause);

/* Frees all of it, and tells nobody: the process ends. */
void company_clear(struct session *session);

/* When it wants a company_tick; UINT64_MAX: it does not. */
uint64_t company_due_ms(const struct session *session, const struct turn *turn);
void company_tick(struct session *session, struct turn *turn);

/* Something waits until more can go to the connection; and now it may. */
bool company_waits(const struct session *session);
void company_feed(struct session *session, struct turn *turn);

#endif
