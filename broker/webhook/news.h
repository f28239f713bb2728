/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_WEBHOOK_NEWS_H
#define USHER_WEBHOOK_NEWS_H

/* News of rooms that wait for the receiver, numbered from 1 in each start of the broker. What does
 * not fit goes, the oldest first. */

#include <jansson.h>

#include "actors/user_call.h"
#include "base/lock.h"
#include "handover.pb-c.h"
#include "webhook/stream.h"

struct hook_news {
    struct lock lock;
    /* under lock */
    bool on;                     /* somebody is to get them; else they are only counted */
    struct message_list waiting; /* user_call_messages, whose mail_seq is their number */
    uint64_t bytes;              /* of those */
    uint64_t last;               /* the newest number */
    /* the posting thread's */
    struct message_list taken; /* out of those, for the request that is next or under way */
    uint64_t taken_last;       /* the newest number of those */
    uint64_t seen_last;        /* `last`, as it was when they were taken */
};

void hook_news_init(struct hook_news *news);

/* Nobody uses it any more. */
void hook_news_fini(struct hook_news *news);

/* Whether they are kept; what waits is dropped when they are not. Any thread. */
void hook_news_keep(struct hook_news *news, bool on);

/* One more; takes it. NULL: it could not be made, and is missing with all before it. Gives how many
 * are lost to somebody by that. Any thread; holds the lock for some pointers. */
uint64_t hook_news_add(struct hook_news *news, struct user_call_message *message,
                       uint64_t bytes_max);

/* How many wait, with those taken and not answered for: those behind `cursor`. Any thread. */
uint64_t hook_news_behind(struct hook_news *news, uint64_t cursor);

/* --- for the posting thread ------------------------------------------------------------------- */

/* Drops what is not behind the cursor, takes up to `batch` of the rest unless some are taken still,
 * and says what there is to be sent now. */
struct hook_kept hook_news_window(struct hook_news *news, uint64_t cursor, uint32_t batch);

/* Those taken with numbers from `first` to `last`, as a new array. */
json_t *hook_news_json(const struct hook_news *news, uint64_t first, uint64_t last);

/* When the oldest of those taken happened, Unix; 0: none is. */
uint64_t hook_news_oldest_ms(const struct hook_news *news);

/* --- news_moved.c: to another process, while nobody posts ------------------------------------- */

/* Appends a HandoverNews, with how far the receiver is in them. False: there is no memory. */
bool hook_news_move_out(struct hook_news *news, const struct hook_stream *stream,
                        struct buffer *out);

/* Into one that is new. */
void hook_news_move_in(struct hook_news *news, struct hook_stream *stream,
                       const Usher__V1__HandoverNews *from);

#endif
