/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_SESSION_H
#define USHER_USER_SESSION_H

/* The state of one user, owned by the running turn of his actor. Zeroed memory is a user whom
 * nobody knows yet. Small, because there is one per user: what is rare hangs off a pointer.
 *
 * `epoch`, `status`, `acks`, `listener`, `secret` and `details` are what the store has, changed
 * only after a commit; the rest lives and dies with the process. */

#include "actors/turn.h"
#include "base/check.h"
#include "user/fight.h"
#include "user/inbox.h"
#include "user/rate.h"
#include "user/requests.h"

#define SESSION_OUTPUT_SHUT UINT32_MAX

enum session_status { SESSION_NONE = 0, SESSION_IS_ONLINE = 1, SESSION_IS_DETACHED = 2 };

/* What is seldom looked at. */
struct details {
    uint64_t token_ends_ms; /* monotonic, when the token of the login is good no more; 0: never */
    char text[];            /* address, NUL, client, NUL; and if it has rooms: those, NUL. Behind
                             * them, aligned, a struct change_note when there is one */
};

struct session {
    uint64_t epoch;
    uint64_t conn; /* bound connection; 0: none */
    uint64_t next_seq;
    uint64_t since_ms;    /* wall time of the login */
    uint64_t deadline_ms; /* detached: the end of the window; otherwise a change to try again, by
                           * us, or while there is a connection by him: a Logout; 0: none */
    uint64_t timer_ms;    /* a tick is on its way for then; 0: none */
    struct inbox *inbox;  /* NULL: empty */
    struct requests *requests;
    struct buffer *held;        /* answers that wait for a resume */
    struct message_list unread; /* frames that wait for the next turn */
    struct source_rate *source; /* that he was last connected from; NULL: not counted */
    struct fight *fight;        /* who takes this user over so often; NULL: nobody did */
    struct details *details;    /* NULL: all of it empty */
    struct company *company;    /* his rooms and friends, and what is stored; NULL: none of it */
    uint8_t secret[SECRET_BYTES];
    struct rate rate;   /* of his requests, over all of his connections */
    uint32_t output;    /* bytes that wait in the bound connection: as of the last turn, and what
                         * this one adds. SESSION_OUTPUT_SHUT: it takes nothing more */
    uint8_t status;     /* enum session_status */
    uint8_t loss_cause; /* of the DETACHED event that is not stored yet */
    uint8_t listener;   /* enum listener_kind: that he came by last; LISTENERS: nobody knows */
    bool acks : 1;
    bool unnumbered : 1;  /* from the store, without its inbox: the numbering is not known */
    bool loss_untold : 1; /* he may not have heard yet that something may be gone */
    bool stopping : 1;
    bool flushed : 1; /* this turn writes what waited in the connection */
    bool feeding : 1; /* a turn comes that goes on with what waits */
    bool roomy : 1;   /* the token's rooms stand in the details */
    bool behind : 1;  /* as of this turn: the socket has not sent yet what it was given before */
    bool noted : 1;   /* what the history is to say of that DETACHED stands in the details */
    uint8_t trace;    /* of base/trace.h; 0: not traced */
};

/* Nothing hangs off a user who is not known. */
bool session_is_bare(const struct session *session);

/* What holds between two messages. */
static inline void session_check(const struct session *session)
{
    CHECK(session->conn == 0 || session->status == SESSION_IS_ONLINE);
    CHECK((session->unread.first == NULL) == (session->unread.last == NULL));
    CHECK(session->inbox == NULL || session->inbox->count > 0);
    CHECK(session->status != SESSION_NONE || session_is_bare(session));
}

const char *session_address(const struct session *session);
const char *session_client(const struct session *session);
void session_set_details(struct session *session, const char *address, const char *client);

/* The claim `rooms` of the login's token: names of rooms, or beginnings of names with a *, and a
 * blank between each two. It is stored with the session, so it goes on over a restart; the next
 * login has its own. */
void session_set_rooms(struct session *session, struct bytes rooms);
struct bytes session_rooms(const struct session *session);

/* Whether it holds that room: of classes that say join=token or create=token. */
bool session_may_join(const struct session *session, struct bytes room);

/* When the token of the login ends, from Unix ms, and back; 0: never. In between it is held in the
 * monotonic time of this process, so that a wall clock that is set ends nobody's session. */
void session_set_token_end(struct session *session, const struct turn *turn, uint64_t unix_ms);
uint64_t session_token_end(const struct session *session, const struct turn *turn);

/* As it was held in another process. */
void session_move_token_end(struct session *session, uint64_t ends_ms);

/* For how long the session may still be, in ms; UINT64_MAX: auth.session_ends does not end it. */
uint64_t session_token_left_ms(const struct session *session, const struct turn *turn);

/* It could not be ended now: tries again at that monotonic time. */
void session_put_off_token_end(struct session *session, uint64_t until_ms);

/* Why the connection was lost, while that cannot be stored. Without memory it is not kept: only the
 * history lacks it. Taken once; false: there is none. */
void session_keep_note(struct session *session, const struct change_note *note);
bool session_take_note(struct session *session, struct change_note *note);

/* For so long no other Logout is tried: the store has just failed at one. 0: one may be. */
uint32_t session_logout_wait_ms(const struct session *session, const struct turn *turn);

/* Frees what hangs off it; the session is zeroed. Inbox messages are reported UNDELIVERED. */
void session_clear(struct session *session, struct turn *turn);

/* It counts for the source of the address that it has now, and no more for another. */
void session_hold_source(struct session *session, struct turn *turn);

/* Sets the tick that the session needs next. */
void session_arm(struct session *session, struct turn *turn);

/* Its secret is another from now on: shown to whoever judges a Resume (proof_of_resume). Before
 * anybody is told the secret. */
void session_show_proof(const struct session *session, struct turn *turn);

/* The record and the event of a change, filled from the session. */
void session_describe(const struct session *session, struct turn *turn, struct change *change,
                      uint8_t kind, uint8_t cause);

/* Of a record: by which listener he came, as its name. */
void session_name_transport(struct session_record *record, uint8_t listener);

/* --- output.c: what goes to the bound connection ---------------------------------------------- */

/* What is appended to turn->out since `offset` goes there. */
void output_send(struct session *session, struct turn *turn, size_t offset);

/* So many bytes more may go there now. What others send waits until they may; answers to what he
 * has asked for himself need not. */
bool output_takes(const struct session *session, const struct turn *turn, size_t size);

/* A message of the inbox or an answer waits to be handed out. */
bool output_waits(const struct session *session);

/* So much of what earlier turns wrote to the bound connection has not been sent. Nothing of this
 * turn is written before its end, so once is enough for it. */
bool output_is_unseen(const struct session *session, const struct turn *turn);
void output_look(struct session *session, struct turn *turn, uint32_t unsent);

/* Something waits for him, of whatever kind, on its way to him: what is new would come late. */
bool output_is_behind(const struct session *session);

/* The turn's effects are done, and so much waits in the bound connection (SESSION_OUTPUT_SHUT: it
 * takes nothing more). True: a MESSAGE_WRITABLE to go on must be posted to him. */
bool output_settle(struct session *session, uint32_t output);

/* --- answer.c: final answers, to the bound connection or kept for a resume -------------------- */

/* The request gets one, from somebody else. True: it is remembered, or nobody waits (id 0).
 * Otherwise too many wait, and that was the answer. */
bool answer_owe(struct session *session, struct turn *turn, const struct request *request);

/* All requests in flight are forgotten, nobody is answered. */
void answer_forget(struct session *session, struct turn *turn);

/* To request `id` (0: nothing is sent). */
void answer_done(struct session *session, struct turn *turn, uint64_t id, uint64_t epoch);
void answer_stored(struct session *session, struct turn *turn, uint64_t id, uint64_t epoch,
                   uint64_t mid);
void answer_published(struct session *session, struct turn *turn, uint64_t id, uint64_t offset);
void answer_dropped(struct session *session, struct turn *turn, uint64_t id, uint64_t epoch);
void answer_error(struct session *session, struct turn *turn, uint64_t id, uint32_t code,
                  const char *detail, uint32_t retry_after_ms);
void answer_reply(struct session *session, struct turn *turn, uint64_t id, uint32_t status,
                  struct bytes payload);

/* An Error, counted as a message that was refused; the second one for want of memory. */
void answer_refuse(struct session *session, struct turn *turn, uint64_t id, uint32_t code,
                   const char *detail);
void answer_refuse_for_memory(struct session *session, struct turn *turn, uint64_t id);

/* Those that were held, as far as the connection takes them. */
void answer_send_held(struct session *session, struct turn *turn);

/* --- call.c ----------------------------------------------------------------------------------- */

/* So many calls less wait for their answer, of those that all users have. */
void call_ended(struct turn *turn, uint32_t count);

/* --- frames.c --------------------------------------------------------------------------------- */

/* The frames that wait are dropped. */
void frames_drop(struct session *session, struct turn *turn);

/* --- delivery.c ------------------------------------------------------------------------------- */

/* A message for the user: takes it. */
void delivery_take(struct session *session, struct deliver_message *message, struct turn *turn);

/* Several pushes for the user: takes the message. */
void delivery_take_bundle(struct session *session, struct bundle_message *message,
                          struct turn *turn);

/* Behind what the inbox holds; takes the message, which has its seq. */
void delivery_keep(struct session *session, struct deliver_message *message);

/* Hands out what the inbox holds, as far as the connection takes it now; the rest follows as it is
 * read. */
void delivery_feed(struct session *session, struct turn *turn);

/* The highest seq that any connection of this epoch was given, and the one up to which everything
 * is out of the inbox: seq has no gaps there. */
uint64_t delivery_sent_seq(const struct session *session);
uint64_t delivery_acked_seq(const struct session *session);

/* The inbox under new numbers, from `first` on, all marked redelivered. */
void delivery_renumber(struct session *session, uint64_t first);

/* Everything up to seq is done. */
void delivery_acknowledge(struct session *session, struct turn *turn, uint64_t seq);

/* Of a message with keep_s: why nobody could ever hand it out; 0: somebody can. */
uint16_t delivery_stored_refusal(struct session *session, const struct deliver_message *message,
                                 struct turn *turn);

/* A message that is on the disk: whether it is taken now, and then takes it, under the next seq. */
bool delivery_has_room(struct session *session, const struct deliver_message *message,
                       struct turn *turn);
void delivery_take_stored(struct session *session, struct deliver_message *message,
                          struct turn *turn);

/* Those that its client has processed and that are the oldest leave the inbox. */
void delivery_drop_done(struct session *session, uint64_t last_mid);

/* Gives up what is older than the limit. What is on the disk has no age, and what stands behind it
 * waits for it. */
void delivery_age(struct session *session, struct turn *turn);

/* --- changes.c -------------------------------------------------------------------------------- */

/* The connection is gone, shut or released: forgets it and asks for DETACHED to be stored. */
void change_detach(struct session *session, struct turn *turn, uint8_t cause);

/* The session ends with that cause; `cause` (may be NULL) is taken. */
void change_end(struct session *session, struct turn *turn, uint8_t cause, struct message *because);

#endif
