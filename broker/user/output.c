/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "user/company.h"
#include "user/session.h"

/* What goes to the bound connection, and when.
 *
 * Nobody is closed because of what others send to him while he reads: a message or a Reply goes to
 * the connection only while little waits in it (output_takes), and otherwise waits in the session,
 * in the inbox or among the held answers, whose limits refuse who sends. What he causes himself
 * (Done, Error, Pong, all of them small) goes out at once and has the room between that mark and
 * limits.output_bytes.
 *
 * What waits goes on in steps: a turn hands out until the mark is passed; when its effects are done
 * the session learns how much the socket has left (output_settle), and a turn goes on when nothing
 * is left or something could be written. So while anything waits, either a turn is on its way or
 * the connection holds bytes, and then it tells when it can be written to (MESSAGE_WRITABLE). */

void output_send(struct session *session, struct turn *turn, size_t offset)
{
    CHECK(session->conn != 0 && offset <= turn->out.size);
    size_t size = turn->out.size - offset;
    if (session->output != SESSION_OUTPUT_SHUT)
        session->output = size < SESSION_OUTPUT_SHUT - 1 - session->output
                              ? session->output + (uint32_t)size
                              : SESSION_OUTPUT_SHUT - 1;
    turn_send(turn, session->conn, offset);
}

bool output_takes(const struct session *session, const struct turn *turn, size_t size)
{
    uint64_t max = output_max(turn->limits);
    return session->output == 0 ||
           (session->output <= output_window(turn->limits) &&
            session->output + size <= max - max / 4); /* the rest is for his own answers */
}

bool output_waits(const struct session *session)
{
    return (session->inbox != NULL && session->inbox->waiting > 0) ||
           (session->held != NULL && session->held->size > 0) || company_waits(session);
}

bool output_is_unseen(const struct session *session, const struct turn *turn)
{
    return session->conn != 0 && !turn->looked;
}

void output_look(struct session *session, struct turn *turn, uint32_t unsent)
{
    CHECK(session->conn != 0 && !turn->looked);
    turn->looked = true;
    session->behind = unsent > 0;
}

bool output_is_behind(const struct session *session)
{
    return session->behind || output_waits(session);
}

bool output_settle(struct session *session, uint32_t output)
{
    session->output = output;
    bool goes_on = session->conn != 0 && !session->feeding && (output == 0 || session->flushed) &&
                   output_waits(session);
    session->flushed = false;
    session->feeding = session->feeding || goes_on;
    return goes_on;
}
