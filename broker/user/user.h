/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_USER_H
#define USHER_USER_USER_H

/* The behaviour of a user's actor. Pure: state, message and turn in, effects out. */

#include "user/session.h"

/* One message; takes it. */
void user_receive(struct session *session, struct message *message, struct turn *turn);

/* Goes on after a change was synced (change->error 0) or was refused. Takes change->cause; the
 * change itself stays the caller's. */
void user_committed(struct session *session, struct change *change, struct turn *turn);

/* --- the rows of the table: each takes its message ------------------------------------------- */
typedef void user_handler(struct session *session, struct message *message, struct turn *turn);

user_handler handle_attach, handle_resume, handle_frames, handle_more_frames, handle_conn_end,
    handle_writable, handle_deliver, handle_bundle, handle_call_result, handle_kick, handle_result,
    handle_tick, handle_restore, handle_stop;

struct client_frame;

/* One client frame of the bound connection: the handlers that the rows of client_bodies.def name.
 */
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
