/* SPDX-License-Identifier: Apache-2.0 */
#include "user/friends.h"

#include "client.pb-c.h"
#include "proto/client_frame.h"
#include "user/user.h"

void friends_lost(struct session *session, struct turn *turn)
{
    (void)session;
    (void)turn;
}

void friends_resumed(struct session *session, struct turn *turn)
{
    (void)session;
    (void)turn;
}

void friends_taken_over(struct session *session, struct turn *turn, uint64_t old_epoch)
{
    (void)session;
    (void)turn;
    (void)old_epoch;
}

void friends_ended(struct session *session, struct turn *turn)
{
    (void)session;
    (void)turn;
}

void friends_clear(struct session *session)
{
    (void)session;
}

uint64_t friends_due_ms(const struct session *session, const struct turn *turn)
{
    (void)session;
    (void)turn;
    return UINT64_MAX;
}

void friends_tick(struct session *session, struct turn *turn)
{
    (void)session;
    (void)turn;
}

bool friends_wait(const struct session *session)
{
    (void)session;
    return false;
}

void friends_feed(struct session *session, struct turn *turn)
{
    (void)session;
    (void)turn;
}

void user_watch(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__FORBIDDEN,
                  "friends.mode is off");
}

void user_set_status(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__FORBIDDEN,
                  "friends.mode is off");
}
