/* SPDX-License-Identifier: Apache-2.0 */
#include "user/rooms.h"

#include "client.pb-c.h"
#include "proto/client_frame.h"
#include "user/user.h"

void rooms_lost(struct session *session, struct turn *turn)
{
    (void)session;
    (void)turn;
}

void rooms_resumed(struct session *session, struct turn *turn, const struct resume_message *resume)
{
    (void)session;
    (void)turn;
    (void)resume;
}

void rooms_taken_over(struct session *session, struct turn *turn, uint64_t old_epoch)
{
    (void)session;
    (void)turn;
    (void)old_epoch;
}

void rooms_ended(struct session *session, struct turn *turn, uint8_t cause)
{
    (void)session;
    (void)turn;
    (void)cause;
}

void rooms_clear(struct session *session)
{
    (void)session;
}

bool rooms_wait(const struct session *session)
{
    (void)session;
    return false;
}

void rooms_feed(struct session *session, struct turn *turn)
{
    (void)session;
    (void)turn;
}

void user_join(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__NO_ROOM, "there are no rooms");
}

void user_leave(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__NOT_MEMBER, "not in that room");
}

void user_publish(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__NOT_MEMBER, "not in that room");
}
