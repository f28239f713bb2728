/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "actors/user_call_moved.h"
#include "base/check.h"
#include "base/memory.h"
#include "proto/handover.h"
#include "webhook/news.h"

/* Rooms go over to another process, and so does the stream of their news: the numbers and the boot
 * stay, and with them what the receiver believes. What he has got and did not answer is among those
 * that were taken, and is posted again. */

static size_t count_of(const struct message_list *list)
{
    size_t count = 0;
    for (const struct message *message = list->first; message != NULL; message = message->next)
        count++;
    return count;
}

static Usher__V1__HandoverMail *describe(const struct message_list *list,
                                         Usher__V1__HandoverMail *mail, Usher__V1__HandoverNews *to)
{
    for (const struct message *message = list->first; message != NULL; message = message->next) {
        user_call_move_out((const struct user_call_message *)message, mail);
        to->list[to->n_list++] = mail++;
    }
    return mail;
}

bool hook_news_move_out(struct hook_news *news, const struct hook_stream *stream,
                        struct buffer *out)
{
    Usher__V1__HandoverNews to = USHER__V1__HANDOVER_NEWS__INIT;
    Usher__V1__HandoverRecord record = USHER__V1__HANDOVER_RECORD__INIT;
    lock_take(&news->lock);
    size_t taken = count_of(&news->taken), count = taken + count_of(&news->waiting);
    Usher__V1__HandoverMail *mail = calloc(count + 1, sizeof(*mail));
    to.list = calloc(count + 1, sizeof(*to.list));
    bool packed = mail != NULL && to.list != NULL;
    if (packed) {
        to.last = news->last;
        to.cursor = stream->cursor;
        to.reset = stream->reset;
        to.taken = (uint32_t)taken;
        describe(&news->waiting, describe(&news->taken, mail, &to), &to);
        record.body_case = USHER__V1__HANDOVER_RECORD__BODY_NEWS;
        record.news = &to;
        packed = handover_append(out, &record) == 0;
    }
    lock_give(&news->lock);
    free(mail);
    free(to.list);
    return packed;
}

void hook_news_move_in(struct hook_news *news, struct hook_stream *stream,
                       const Usher__V1__HandoverNews *from)
{
    CHECK(news->last == 0 && from->taken <= from->n_list && from->reset <= HOOK_RESET_BOOT);
    *stream = (struct hook_stream){.cursor = from->cursor, .reset = (enum hook_reset)from->reset};
    lock_take(&news->lock);
    news->last = news->seen_last = from->last;
    for (size_t i = 0; i < from->n_list; i++) {
        struct user_call_message *message = user_call_move_in(from->list[i]);
        if (i < from->taken) {
            news->taken_last = message->mail_seq;
            message_append(&news->taken, &message->header);
            continue;
        }
        message_append(&news->waiting, &message->header);
        news->bytes += message->header.size;
    }
    lock_give(&news->lock);
}
