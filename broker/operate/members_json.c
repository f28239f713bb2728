/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/members_json.h"

json_t *members_json(const Usher__V1__RoomMemberList *list)
{
    json_t *members = json_array();
    for (size_t i = 0; i < list->n_members; i++) {
        const Usher__V1__RoomMemberInfo *member = list->members[i];
        json_array_append_new(members, json_pack("{s:s, s:I, s:b, s:b}", "user", member->user,
                                                 "epoch", (json_int_t)member->epoch, "away",
                                                 (int)member->away, "carry", (int)member->carry));
    }
    return members;
}
