/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/user_call.h"
#include "backend.pb-c.h"
#include "base/memory.h"
#include "room/private.h"

/* What the owner of a room hears of it. Each piece of news has a number, also the one that cannot
 * be sent: so the owner sees that it has missed something. */

enum { LINK_OVERHEAD_BYTES = 512 };

void news_tell(struct room *room, const struct news *news, struct turn *turn)
{
    if (room->class.owner[0] == '\0' ||
        (room->closed && news->kind != USHER__V1__ROOM_NEWS__KIND__CLOSED))
        return;
    room->news_seq++;
    const struct room_news fields = {
        .room = bytes_of_text(room->name),
        .owner = bytes_of_text(room->class.owner),
        .incarnation = room->incarnation,
        .news_seq = room->news_seq,
        .kind = news->kind,
        .cause = news->cause,
        .user = news->user,
        .epoch = news->epoch,
        .offset = news->offset != 0 ? news->offset : room->offset,
        .payload = news->payload,
        .service = news->service,
        .time_ms = turn->wall_ms,
        .actor = turn->self,
        .pin_ms = turn->now_ms + limits_call_timeout_max_ms(turn->limits),
    };
    struct user_call_message *message = NULL;
    if (news->payload.size + LINK_OVERHEAD_BYTES <= link_frame_bytes(turn->limits) &&
        (news->payload.size == 0 || memory_level() != MEMORY_FULL))
        message = room_news_create(&fields);
    if (message != NULL)
        turn_effect(turn, EFFECT_CALL, 0)->message = &message->header;
    else
        turn_count(turn, METRIC_room_news_lost, 1);
}

bool news_ask(struct room *room, const struct room_join_message *join, bool creates, uint64_t call,
              uint64_t deadline_ms, struct turn *turn)
{
    const struct room_ask ask = {
        .room = bytes_of_text(room->name),
        .owner = bytes_of_text(room->class.owner),
        .user = {join->bytes + join->call.name_size, join->user_size},
        .epoch = join->epoch,
        .kind = creates ? USHER__V1__ROOM_ASK__KIND__CREATE : USHER__V1__ROOM_ASK__KIND__JOIN,
        .caller = turn->self,
        .call = call,
        .deadline_ms = deadline_ms,
    };
    if (room->class.owner[0] == '\0')
        return false;
    struct user_call_message *message;
    MEMORY_MUST((message = room_ask_create(&ask)) != NULL, "a question");
    turn_effect(turn, EFFECT_CALL, 0)->message = &message->header;
    return true;
}
