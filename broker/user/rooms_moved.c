/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "proto/handover.h"
#include "user/rooms.h"

/* The memberships of a user who goes over to another process (moved.c), each with its position: so
 * what the room says next is what he has not had. A pull is answered before anything goes, and a
 * Join that waits for an owner waits in the room. */

/* --- out -------------------------------------------------------------------------------------- */

static void describe(const struct membership *membership, Usher__V1__HandoverMembership *to)
{
    usher__v1__handover_membership__init(to);
    to->room = membership->room;
    to->incarnation = membership->incarnation;
    to->offset = membership->offset;
    to->request = membership->request;
    to->rate_due_ns = membership->rate.due_ns;
    to->pull = membership->pull;
    to->state = membership->state;
    to->carry = membership->carry;
    to->fresh = membership->fresh;
    to->resumed = membership->resumed;
    to->partial = membership->partial;
    to->roster = membership->roster;
}

bool rooms_move_out(const struct session *session, struct arena *arena,
                    Usher__V1__HandoverUser *user)
{
    const struct rooms *rooms = session->company != NULL ? session->company->rooms : NULL;
    if (rooms == NULL)
        return true;
    Usher__V1__HandoverMemberships *to = handover_part(arena, sizeof(*to));
    Usher__V1__HandoverMembership *list = handover_part(arena, rooms->count * sizeof(*list));
    Usher__V1__HandoverMembership **rows = handover_part(arena, rooms->count * sizeof(list));
    if (to == NULL || list == NULL || rows == NULL)
        return false;
    usher__v1__handover_memberships__init(to);
    to->capacity = rooms->capacity;
    to->asked = rooms->asked;
    to->by_name_due_ns = rooms->by_name.due_ns;
    to->joins_due_ns = rooms->joins.due_ns;
    to->left_due_ns = rooms->left.due_ns;
    to->list = rows;
    for (uint32_t i = 0; i < rooms->count; i++) {
        describe(&rooms->memberships[i], &list[i]);
        rows[to->n_list++] = &list[i];
    }
    user->memberships = to;
    return true;
}

/* --- in --------------------------------------------------------------------------------------- */

static void fill(struct session *session, struct membership *membership,
                 const Usher__V1__HandoverMembership *from)
{
    CHECK(from->state <= MEMBER_WAS_CLOSED);
    *membership = (struct membership){
        .room = from->room,
        .incarnation = from->incarnation,
        .offset = from->offset,
        .request = from->request,
        .pull = from->pull,
        .state = MEMBER_AWAY,
        .carry = from->carry,
        .fresh = from->fresh,
        .resumed = from->resumed,
        .partial = from->partial,
        .roster = from->roster,
        .rate.due_ns = from->rate_due_ns,
    };
    rooms_set(session, membership, (enum membership_state)from->state);
}

void rooms_move_in(struct session *session, const Usher__V1__HandoverMemberships *from, bool lost)
{
    CHECK(from->capacity >= from->n_list && from->capacity <= UINT16_MAX);
    struct rooms *rooms = rooms_with_room(session, from->capacity);
    rooms->asked = from->asked;
    rooms->by_name.due_ns = from->by_name_due_ns;
    rooms->joins.due_ns = from->joins_due_ns;
    rooms->left.due_ns = from->left_due_ns;
    for (size_t i = 0; i < from->n_list; i++)
        fill(session, &rooms->memberships[rooms->count++], from->list[i]);
    /* Without his connection he takes nothing; the rooms are told when the loss is stored. */
    for (uint32_t i = 0; lost && i < rooms->count; i++)
        if (rooms->memberships[i].state < MEMBER_AWAY)
            rooms_set(session, &rooms->memberships[i], MEMBER_BEHIND);
}
