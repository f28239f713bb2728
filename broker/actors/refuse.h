/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_REFUSE_H
#define USHER_ACTORS_REFUSE_H

/* Answers that need nothing of the state of whoever gives them: a refusal to the sender of a
 * message, to a connection, to an exchange of the link. Each appends to the turn. */

#include "actors/turn.h"

/* Tells the sender why it was not taken; takes the message. Where it is transient and the code is
 * BUSY it is dropped: to come again later is not what it is for. */
void refuse_message(struct turn *turn, struct deliver_message *message, uint16_t code);

/* Why a message with keep_s is not for a user who is away: an Error.Code; 0: it may be. */
uint16_t refusal_for_away(struct turn *turn, const struct deliver_message *message);

/* It was transient and does not go; `epoch` is its receiver's, 0 where that is not known. Tells the
 * sender; takes the message. */
void refuse_transient(struct turn *turn, struct deliver_message *message, uint64_t epoch);

/* An Error to one connection, whoever owns the session. */
void refuse_request(struct turn *turn, uint64_t conn, uint64_t id, uint32_t code,
                    const char *detail, uint32_t retry_after_ms);

/* The login or resume on it is refused; it may try again. */
void refuse_conn(struct turn *turn, uint64_t conn, uint64_t id, uint32_t code, const char *detail,
                 uint32_t retry_after_ms);

/* Close, and the connection is given back. */
void refuse_shut(struct turn *turn, uint64_t conn, uint32_t reason, const char *detail,
                 uint32_t retry_after_ms, bool do_not_return);

/* The exchange is answered Refused. */
void refuse_exchange(struct turn *turn, uint64_t exchange, uint32_t code, const char *detail);

#endif
