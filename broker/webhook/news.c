/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook/news.h"

#include <stdlib.h>

#include "backend.pb-c.h"
#include "base/check.h"
#include "web/base64.h"

/* Numbers of what waits, and of what is taken, are each without a gap, because only what is oldest
 * goes. Between the two there may be one: what fell out while a request was under way. The stream
 * is shown the taken ones alone as long as there are any, so it posts them, again if it must, and
 * sees the gap when they are answered for and its cursor is before what is next. Then it makes a
 * RESET of it. So no number is passed over, and nothing that is under way is taken away under it.
 *
 * One request carries so many bytes of news and then no more, whatever the batch is: with messages
 * of rooms they may be large. */

enum { TAKE_BYTES = 256 * 1024 };

static struct user_call_message *first_of(const struct message_list *list)
{
    return (struct user_call_message *)list->first;
}

static void destroy_all(struct message_list *list)
{
    struct message *message;
    while ((message = message_take(list)) != NULL)
        message_destroy(message);
}

/* Gives how many. */
static uint64_t destroy_counted(struct message_list *list)
{
    uint64_t count = 0;
    for (const struct message *message = list->first; message != NULL; message = message->next)
        count++;
    destroy_all(list);
    return count;
}

void hook_news_init(struct hook_news *news)
{
    *news = (struct hook_news){0};
    lock_init(&news->lock);
}

void hook_news_fini(struct hook_news *news)
{
    destroy_all(&news->waiting);
    destroy_all(&news->taken);
    lock_destroy(&news->lock);
}

/* Under the lock: the oldest, moved to `to`. */
static void drop_oldest(struct hook_news *news, struct message_list *to)
{
    CHECK(lock_held(&news->lock));
    struct message *message = message_take(&news->waiting);
    CHECK(message != NULL && news->bytes >= message->size);
    news->bytes -= message->size;
    message_append(to, message);
}

static void drop_waiting(struct hook_news *news, struct message_list *to)
{
    CHECK(lock_held(&news->lock) && to->first == NULL);
    *to = news->waiting;
    news->waiting = (struct message_list){0};
    news->bytes = 0;
}

void hook_news_keep(struct hook_news *news, bool on)
{
    struct message_list dropped = {0};
    lock_take(&news->lock);
    news->on = on;
    if (!on)
        drop_waiting(news, &dropped);
    lock_give(&news->lock);
    destroy_all(&dropped);
}

uint64_t hook_news_add(struct hook_news *news, struct user_call_message *message,
                       uint64_t bytes_max)
{
    struct message_list dropped = {0};
    lock_take(&news->lock);
    bool on = news->on, kept = on && message != NULL;
    news->last++;
    if (kept) {
        message->mail_seq = news->last;
        message_append(&news->waiting, &message->header);
        news->bytes += message->header.size;
        while (news->bytes > bytes_max && news->waiting.first != news->waiting.last)
            drop_oldest(news, &dropped);
    } else {
        drop_waiting(news, &dropped);
    }
    lock_give(&news->lock);
    if (!kept)
        message_destroy(message != NULL ? &message->header : NULL);
    return destroy_counted(&dropped) + (on && message == NULL);
}

uint64_t hook_news_behind(struct hook_news *news, uint64_t cursor)
{
    lock_take(&news->lock);
    uint64_t last = news->last;
    lock_give(&news->lock);
    return last > cursor ? last - cursor : 0;
}

/* --- the posting thread ----------------------------------------------------------------------- */

static void forget_taken(struct hook_news *news, uint64_t cursor)
{
    while (news->taken.first != NULL && first_of(&news->taken)->mail_seq <= cursor)
        message_destroy(message_take(&news->taken));
}

static void take_more(struct hook_news *news, uint64_t cursor, uint32_t batch)
{
    struct message_list dropped = {0};
    size_t bytes = 0;
    lock_take(&news->lock);
    while (news->waiting.first != NULL && first_of(&news->waiting)->mail_seq <= cursor)
        drop_oldest(news, &dropped);
    for (uint32_t i = 0; i < batch && news->waiting.first != NULL && bytes < TAKE_BYTES; i++) {
        news->taken_last = first_of(&news->waiting)->mail_seq;
        bytes += news->waiting.first->size;
        drop_oldest(news, &news->taken);
    }
    news->seen_last = news->last;
    lock_give(&news->lock);
    destroy_all(&dropped);
}

struct hook_kept hook_news_window(struct hook_news *news, uint64_t cursor, uint32_t batch)
{
    CHECK(batch > 0);
    forget_taken(news, cursor);
    if (news->taken.first == NULL)
        take_more(news, cursor, batch);
    if (news->taken.first == NULL)
        return (struct hook_kept){news->seen_last + 1, news->seen_last};
    return (struct hook_kept){first_of(&news->taken)->mail_seq, news->taken_last};
}

static const char *word(const ProtobufCEnumDescriptor *words, uint32_t value)
{
    const ProtobufCEnumValue *found = protobuf_c_enum_descriptor_get_value(words, (int)value);
    return found != NULL ? found->name : "UNKNOWN";
}

static void set_bytes(json_t *object, const char *key, struct bytes text)
{
    if (text.size > 0)
        (void)json_object_set_new(object, key, json_stringn((const char *)text.data, text.size));
}

/* Names are ASCII (proto/username.h), numbers below 2^53. */
static json_t *one_json(const struct user_call_message *message)
{
    const struct room_news_fields fields = user_call_room_news(message);
    json_t *object = json_pack(
        "{s:I, s:I, s:s%, s:I, s:I, s:s}", "seq", (json_int_t)message->mail_seq, "time_ms",
        (json_int_t)fields.time_ms, "room", (const char *)fields.room.data, fields.room.size,
        "incarnation", (json_int_t)fields.incarnation, "news_seq", (json_int_t)fields.news_seq,
        "kind", word(&usher__v1__room_news__kind__descriptor, fields.kind));
    set_bytes(object, "user", fields.user);
    if (fields.user.size > 0)
        (void)json_object_set_new(object, "epoch", json_integer((json_int_t)fields.epoch));
    (void)json_object_set_new(
        object, "cause", json_string(word(&usher__v1__room_news__cause__descriptor, fields.cause)));
    (void)json_object_set_new(object, "offset", json_integer((json_int_t)fields.offset));
    set_bytes(object, "service", fields.service);
    if (fields.kind == USHER__V1__ROOM_NEWS__KIND__MESSAGE) {
        char *payload = web_base64(fields.payload);
        (void)json_object_set_new(object, "payload", json_string(payload));
        free(payload);
    }
    return object;
}

json_t *hook_news_json(const struct hook_news *news, uint64_t first, uint64_t last)
{
    json_t *list = json_array();
    for (const struct message *at = news->taken.first; at != NULL; at = at->next) {
        const struct user_call_message *message = (const struct user_call_message *)at;
        if (message->mail_seq >= first && message->mail_seq <= last)
            (void)json_array_append_new(list, one_json(message));
    }
    return list;
}

uint64_t hook_news_oldest_ms(const struct hook_news *news)
{
    return news->taken.first != NULL ? user_call_room_news(first_of(&news->taken)).time_ms : 0;
}
