/* SPDX-License-Identifier: Apache-2.0 */
#include "room/private.h"

/* What the owner of a room hears of it. */

void news_tell(struct room *room, const struct news *news, struct turn *turn)
{
    if (room->class.owner[0] != '\0')
        room->news_seq++;
}

bool news_ask(struct room *room, const struct room_join_message *join, bool creates, uint64_t call,
              uint64_t deadline_ms, struct turn *turn)
{
    return false;
}
