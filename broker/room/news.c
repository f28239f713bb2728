/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/user_call.h"
#include "backend.pb-c.h"
#include "base/memory.h"
#include "room/private.h"

/* What the owner of a room hears of it, and the receiver of the webhook. Each piece of news has a
 * number, also the one that cannot be sent: so they see that they have missed something. */

enum { LINK_OVERHEAD_BYTES = 512 };

/* NULL: it cannot be sent. */
static struct user_call_message *make(const struct room_news *fields, const struct turn *turn)
{
    bool fits = fields->payload.size + LINK_OVERHEAD_BYTES <= link_frame_bytes(turn->limits) &&
                (fields->payload.size == 0 || memory_level() != MEMORY_FULL);
    return fits ? room_news_create(fields) : NULL;
}

static void tell_owner(const struct room_news *fields, struct turn *turn)
{
    struct user_call_message *message = make(fields, turn);
    if (message != NULL)
        turn_effect(turn, EFFECT_CALL, 0)->message = &message->header;
    else
        turn_count(turn, METRIC_room_news_lost, 1);
}

/* Also of what is missing: it has a number there. */
static void tell_webhook(const struct room_news *fields, struct turn *turn)
{
    struct user_call_message *message = make(fields, turn);
    turn_effect(turn, EFFECT_ROOM_NEWS, 0)->message = message != NULL ? &message->header : NULL;
}

void news_tell(struct room *room, const struct news *news, struct turn *turn)
{
    bool owned = room->class.owner[0] != '\0';
    if ((!owned && !room->class.webhook) ||
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
    if (owned)
        tell_owner(&fields, turn);
    if (room->class.webhook)
        tell_webhook(&fields, turn);
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
