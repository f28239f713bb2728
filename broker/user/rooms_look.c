/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/memory.h"
#include "user/rooms.h"
#include "user/user.h"

/* An operator asks which rooms the user is in. */

static bool is_member(const struct membership *membership)
{
    return membership->state <= MEMBER_AWAY;
}

static struct room_of_user row_of(const struct membership *membership)
{
    return (struct room_of_user){
        .room = membership->room,
        .incarnation = membership->incarnation,
        .offset = membership->offset,
        .behind = membership->state == MEMBER_BEHIND || membership->state == MEMBER_PULLING,
        .away = membership->state == MEMBER_AWAY,
    };
}

void user_rooms_look(struct session *session, struct message *message, struct turn *turn)
{
    const struct rooms_look_message *look = (const struct rooms_look_message *)message;
    const struct rooms *rooms = session->company != NULL ? session->company->rooms : NULL;
    size_t most = rooms != NULL ? rooms->count : 0;
    struct room_of_user *rows = NULL;
    size_t count = 0;
    if (most > 0)
        MEMORY_MUST((rows = calloc(most, sizeof(*rows))) != NULL, "an answer");
    for (size_t i = 0; i < most; i++)
        if (is_member(&rooms->memberships[i]))
            rows[count++] = row_of(&rooms->memberships[i]);
    struct room_answer_message *answer;
    const struct bytes bytes = {(const uint8_t *)rows, count * sizeof(*rows)};
    MEMORY_MUST((answer = room_answer_create(look->token, 0, bytes)) != NULL, "an answer");
    turn_post(turn, look->asker, &answer->header);
    free(rows);
    message_destroy(message);
}
