/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_SHELF_H
#define USHER_USER_SHELF_H

/* Messages with keep_s, on their way to the disk and from it (docs/decisions/0139). Owned by the
 * user's turn. Pure. */

#include "handover.pb-c.h"
#include "user/company.h"

/* Who has never sent nor got one has none of these. */
struct shelf {
    uint64_t seen_mid;        /* the highest that the inbox of this session has had */
    uint64_t retry_ms;        /* before that no window is asked for: the last one brought none */
    struct allowance second;  /* his own, of inbox.stored_per_second */
    struct allowance to_away; /* his own, of inbox.offline_per_hour */
    bool reads;               /* a window: the turn is held */
    bool more;                /* there are more on disk than those that the inbox has had */
};

/* --- as a sender ------------------------------------------------------------------------------ */

/* One more is stored for him: 0, or in how many ms it may be. */
uint32_t shelf_take_rate(struct session *session, struct turn *turn);

/* He has stored enough for users who are away: what he sends now is not for such. */
bool shelf_is_for_present(const struct session *session, const struct turn *turn);

/* One of his was stored for somebody who is away. */
void shelf_for_away(struct session *session, struct turn *turn);

/* --- as a receiver ---------------------------------------------------------------------------- */

/* A message with keep_s, for the user: takes it. It ends the turn, as a change; one that follows
 * it in the mailbox joins it. */
void shelf_take(struct session *session, struct deliver_message *message, struct turn *turn);
bool shelf_joins(const struct turn *turn, const struct message *message);

/* The disk has messages that come before whatever is new: nobody may overtake them. */
static inline bool shelf_waits(const struct session *session)
{
    const struct company *company = session->company;
    return company != NULL && company->shelf != NULL && company->shelf->more;
}

/* A turn of his waits for a window. */
static inline bool shelf_reads(const struct session *session)
{
    const struct company *company = session->company;
    return company != NULL && company->shelf != NULL && company->shelf->reads;
}

/* The inbox has that one. */
void shelf_saw(struct session *session, struct turn *turn, uint64_t mid);

/* From a start on: the disk has more than the inbox that was saved. */
void shelf_left(struct session *session, struct turn *turn);

/* Everything up to that mid (0: nothing) has left the inbox, processed. */
void shelf_done(struct turn *turn, uint64_t mid);

/* A connection was bound, and the change has told what is stored for him. */
void shelf_bound(struct session *session, const struct change *change, struct turn *turn);

/* Asks for the next window when there is one, and room for it. It ends the turn. */
void shelf_look(struct session *session, struct turn *turn);

/* When it is to look again; UINT64_MAX: no time is set. */
uint64_t shelf_due_ms(const struct session *session);

void shelf_clear(struct session *session, struct turn *turn);

/* It goes over to another process; false: a turn waits for a window. And over there. */
bool shelf_move_out(const struct session *session, Usher__V1__HandoverShelf *to);
void shelf_move_in(struct session *session, const Usher__V1__HandoverShelf *from,
                   struct turn *turn);

/* --- changes that are done: committed.c asks for these ---------------------------------------- */

void shelf_committed(struct session *session, struct change *change, struct turn *turn);
void shelf_read(struct session *session, struct change *change, struct turn *turn);

#endif
