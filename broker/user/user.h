/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_USER_H
#define USHER_USER_USER_H

/* The behaviour of a user's actor. Pure: state, message and turn in, effects out. */

#include "handover.pb-c.h"
#include "proto/arena.h"
#include "user/session.h"

/* One message; takes it. */
void user_receive(struct session *session, struct message *message, struct turn *turn);

/* Goes on after a change was synced (change->error 0) or was refused. Takes change->cause and what
 * is stored; the change itself stays the caller's. May ask for a window (CHANGE_WINDOW). */
void user_committed(struct session *session, struct change *change, struct turn *turn);

/* --- moved.c: a user goes over to another process --------------------------------------------- */

/* What he has spent in fights goes with what others have who are gone. */
void user_move_fights(const struct session *session, const char *name,
                      const struct settings *settings);

/* Appends his HandoverRecord with its length; between two turns of his. What is made on the way is
 * in the arena. False: he cannot go now, or there is no memory. */
bool user_move_out(const struct session *session, actor_handle self, const char *name,
                   struct arena *arena, struct buffer *out);

struct watch_record; /* actors/watch.h */

/* Over there: who knows how those who are watched look. Of each name, borrowed; NULL: there is
 * none.
 */
struct moved_records {
    void (*find)(void *context, const struct bytes *names, uint32_t count,
                 struct watch_record **records);
    void *context;
};

/* The message that makes him what he was, to be posted to an actor of that handle and name.
 * `connected`: his connection has come over, too. Borrows `user` until a turn has received
 * that. NULL without memory. */
struct message *user_move_in(const Usher__V1__HandoverUser *user, bool connected,
                             const struct moved_records *records);

/* --- the rows of the table: each takes its message ------------------------------------------- */
typedef void user_handler(struct session *session, struct message *message, struct turn *turn);

user_handler user_attach, user_resume, user_frames, user_more_frames, user_conn_end, user_writable,
    user_deliver, user_bundle, user_call_result, user_kick, user_result, user_tick, user_restore,
    user_stop, user_watched, user_watched_many, user_watch_list, user_room_state, user_room_bundle,
    user_room_invite, user_room_expel, user_rooms_look, user_moved;

/* --- what a change means, when it was synced or refused: committed.c asks for these ----------- */

enum { CHANGE_RETRY_MS = 1000 };

void attach_committed(struct session *session, struct change *change, struct turn *turn);
void attach_resume_committed(struct session *session, struct change *change, struct turn *turn);
void logout_committed(struct session *session, struct change *change, struct turn *turn);
void kick_committed(struct session *session, struct change *change, struct turn *turn);

/* The session is over, and that is stored: it is counted, and cleared. */
void user_ended(struct session *session, struct turn *turn, uint8_t cause);

/* --- one client frame of the bound connection ------------------------------------------------- */

struct client_frame;

/* The handlers that the rows of client_bodies.def name. */
#define FIELD(body, number, kind, name)
#define BODY(number, NAME, name, handler, fields) \
    void handler(struct session *session, const struct client_frame *frame, struct turn *turn);
#include "proto/client_bodies.def"
#undef BODY
#undef FIELD

/* The client broke the protocol: Error (if it has an id), Close, detached. */
void user_protocol_error(struct session *session, struct turn *turn, uint64_t id,
                         const char *detail);

#endif
