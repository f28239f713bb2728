/* SPDX-License-Identifier: Apache-2.0 */
#include "user/company.h"

#include <stdlib.h>

#include "base/memory.h"
#include "user/friends.h"
#include "user/rooms.h"

struct company *company_of(struct session *session)
{
    if (session->company == NULL)
        MEMORY_MUST((session->company = calloc(1, sizeof(*session->company))) != NULL, "a session");
    return session->company;
}

void company_drop_empty(struct session *session)
{
    struct company *company = session->company;
    if (company == NULL || company->rooms != NULL || company->friends != NULL ||
        company->shelf != NULL)
        return;
    free(company);
    session->company = NULL;
}

void company_lost(struct session *session, struct turn *turn)
{
    if (session->company == NULL)
        return;
    rooms_lost(session, turn);
    friends_lost(session, turn);
}

void company_resumed(struct session *session, struct turn *turn,
                     const struct resume_message *resume)
{
    rooms_resumed(session, turn, resume); /* also positions of rooms that he is not in */
    if (session->company != NULL)
        friends_resumed(session, turn);
}

void company_taken_over(struct session *session, struct turn *turn, uint64_t old_epoch)
{
    if (session->company == NULL)
        return;
    rooms_taken_over(session, turn, old_epoch);
    friends_taken_over(session, turn, old_epoch);
}

void company_ended(struct session *session, struct turn *turn, uint8_t cause)
{
    if (session->company == NULL)
        return;
    rooms_ended(session, turn, cause);
    friends_ended(session, turn);
}

void company_clear(struct session *session)
{
    if (session->company == NULL)
        return;
    rooms_clear(session);
    friends_clear(session);
    company_drop_empty(session);
}

uint64_t company_due_ms(const struct session *session, const struct turn *turn)
{
    return session->company != NULL ? friends_due_ms(session, turn) : UINT64_MAX;
}

void company_tick(struct session *session, struct turn *turn)
{
    if (session->company != NULL)
        friends_tick(session, turn);
}

bool company_waits(const struct session *session)
{
    return session->company != NULL && (rooms_wait(session) || friends_wait(session));
}

void company_feed(struct session *session, struct turn *turn)
{
    if (session->company == NULL)
        return;
    rooms_feed(session, turn);
    friends_feed(session, turn);
}
