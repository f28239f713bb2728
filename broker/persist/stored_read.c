/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/memory.h"
#include "persist/stored_private.h"

/* Reading what is stored for somebody: the index says where, and then the store is asked without
 * the lock. Meanwhile a cleaning may move what is being looked for, so what was not found is looked
 * up again by its mid: it is elsewhere now, or done with, or it stays where it was and is not
 * there, which is damage: counted, taken out of the index, and its receiver is told that something
 * is lost.
 *
 * Between the commit of a transaction and its being in the index a value may be gone that the index
 * still names. Whoever finds nothing then waits until it is settled before he believes it. */

/* One that is looked for. */
struct wanted {
    uint64_t mid, number;
    uint32_t offset, expires_s, size;
    bool over; /* there is nothing more to be looked for */
    struct deliver_message *message;
};

struct search {
    struct stored *stored;
    uint64_t key;
    bool heads; /* without their payloads */
    LIST_OF(struct wanted) wanted;
    LIST_OF(uint32_t) order; /* of those that are looked for, by where they are */
    LIST_OF(uint64_t) numbers;
    uint32_t at; /* in the order */
};

/* Those behind `after_mid`; true: there are more. */
static bool collect(struct search *search, uint64_t after_mid, uint32_t count_max,
                    uint64_t bytes_max)
{
    struct stored *stored = search->stored;
    uint32_t now_s = (uint32_t)(env_wall_ms(stored->options.env) / 1000);
    uint64_t bytes = 0;
    bool more = false;
    lock_take(&stored->lock);
    const struct box *box = index_box(stored, search->key);
    uint32_t at =
        box != NULL ? index_seek(box, after_mid < UINT64_MAX ? after_mid + 1 : after_mid) : 0;
    for (; box != NULL && at < box->count && !more; at++) {
        const struct place *place = &box->places[box->first + at];
        if (place->expires_s <= now_s)
            continue;
        bytes += place->size;
        more = search->wanted.count == count_max || (search->wanted.count > 0 && bytes > bytes_max);
        if (!more)
            *LIST_ADD(&search->wanted) = (struct wanted){.mid = place->mid,
                                                         .number = place->number,
                                                         .offset = place->offset,
                                                         .expires_s = place->expires_s,
                                                         .size = place->size};
    }
    lock_give(&stored->lock);
    return more;
}

static int compare(const void *a, const void *b, void *context)
{
    const struct wanted *items = context;
    const struct wanted *one = &items[*(const uint32_t *)a], *other = &items[*(const uint32_t *)b];
    return (one->number > other->number) - (one->number < other->number);
}

/* In which order they are read; none is left: false. */
static bool put_in_order(struct search *search)
{
    search->order.count = search->numbers.count = search->at = 0;
    for (uint32_t i = 0; i < search->wanted.count; i++)
        if (!search->wanted.items[i].over)
            *LIST_ADD(&search->order) = i;
    if (search->order.count == 0)
        return false;
    qsort_r(search->order.items, search->order.count, sizeof(*search->order.items), compare,
            search->wanted.items);
    for (uint32_t i = 0; i < search->order.count; i++) {
        uint64_t number = search->wanted.items[search->order.items[i]].number;
        if (i == 0 || search->numbers.items[search->numbers.count - 1] != number)
            *LIST_ADD(&search->numbers) = number;
    }
    return true;
}

static void find_in(const struct search *search, struct wanted *wanted, struct bytes value)
{
    struct log_entry entry;
    if (value.data == NULL || wanted->offset >= value.size)
        return;
    struct bytes rest = {value.data + wanted->offset, value.size - wanted->offset};
    if (!log_entry_read(&rest, &entry) || entry.kind != LOG_ENTRY_KEPT ||
        entry.mid != wanted->mid || entry.payload.size != wanted->size)
        return;
    const struct bytes payload = search->heads ? (struct bytes){0} : entry.payload;
    uint8_t text[TRACEPARENT_BYTES];
    bool traced = entry.traceparent.size > 0 && traceparent_unpack(entry.traceparent.data, text);
    wanted->message = deliver_create_traced(
        entry.sender, payload, traced ? (struct bytes){text, sizeof(text)} : (struct bytes){0});
    MEMORY_MUST(wanted->message != NULL, "a message");
    wanted->message->from_service = entry.from_service;
    wanted->message->time_ms = entry.time_ms;
    wanted->message->mid = entry.mid;
    wanted->over = true;
}

static bool take_value(void *context, uint64_t number, struct bytes value)
{
    struct search *search = context;
    for (; search->at < search->order.count; search->at++) {
        struct wanted *wanted = &search->wanted.items[search->order.items[search->at]];
        if (wanted->number > number)
            break;
        if (wanted->number == number)
            find_in(search, wanted, value);
    }
    return true;
}

/* It is where the index says, and cannot be read. */
static uint64_t give_up(struct search *search, struct wanted *wanted)
{
    struct stored *stored = search->stored;
    struct box *box = index_box(stored, search->key);
    wanted->over = true;
    index_forget(stored, box, index_seek(box, wanted->mid));
    index_lose(stored, search->key, wanted->mid);
    return wanted->mid;
}

/* Those that were not found; gives the highest mid that is lost, 0: none is. */
static uint64_t look_again(struct search *search)
{
    struct stored *stored = search->stored;
    uint64_t lost = 0;
    CHECK(lock_held(&stored->lock));
    for (uint32_t i = 0; i < search->order.count; i++) {
        struct wanted *wanted = &search->wanted.items[search->order.items[i]];
        const struct place *place =
            wanted->over ? NULL : index_place(stored, search->key, wanted->mid);
        if (place == NULL) {
            wanted->over = true;
            continue;
        }
        while (place != NULL && stored->settling && place->number == wanted->number) {
            lock_wait(&stored->lock, &stored->settled);
            place = index_place(stored, search->key, wanted->mid);
        }
        if (place == NULL) {
            wanted->over = true;
        } else if (place->number != wanted->number || place->offset != wanted->offset) {
            wanted->number = place->number;
            wanted->offset = place->offset;
        } else {
            stored_damaged(stored, wanted->number);
            uint64_t mid = give_up(search, wanted);
            lost = mid > lost ? mid : lost;
        }
    }
    return lost;
}

/* Reads them all. 0, or what the store says. */
static int read_wanted(struct search *search, const char *user)
{
    struct stored *stored = search->stored;
    while (put_in_order(search)) {
        int error = store_get_log(stored->options.store, search->numbers.items,
                                  search->numbers.count, take_value, search);
        if (error != 0)
            return error;
        lock_take(&stored->lock);
        uint64_t lost = look_again(search);
        lock_give(&stored->lock);
        if (lost != 0)
            stored_lost(stored, user, lost);
    }
    return 0;
}

static void end_search(struct search *search)
{
    for (uint32_t i = 0; i < search->wanted.count; i++)
        if (search->wanted.items[i].message != NULL)
            message_destroy(&search->wanted.items[i].message->header);
    LIST_FREE(&search->wanted);
    LIST_FREE(&search->order);
    LIST_FREE(&search->numbers);
}

void stored_window(struct stored *stored, struct change *change)
{
    const char *user = change->event.user;
    struct search search = {.stored = stored, .key = stored_key(stored, bytes_of_text(user))};
    struct message_list list = {0};
    change->more = collect(&search, change->after_mid, change->messages_max, change->bytes_max);
    change->error = read_wanted(&search, user);
    for (uint32_t i = 0; change->error == 0 && i < search.wanted.count; i++) {
        struct deliver_message *message = search.wanted.items[i].message;
        search.wanted.items[i].message = NULL;
        if (message != NULL)
            message_append(&list, &message->header);
    }
    change->stored = (struct deliver_message *)list.first;
    end_search(&search);
}

static void sum_up(struct stored *stored, uint64_t key, struct stored_summary *summary)
{
    lock_take(&stored->lock);
    const struct box *box = index_box(stored, key);
    if (box != NULL)
        *summary = (struct stored_summary){box->count, (uint64_t)box->bytes + box->service_bytes};
    lock_give(&stored->lock);
}

int stored_list(struct stored *stored, const char *user, uint64_t after_mid, uint32_t limit,
                stored_each *each, void *context, struct stored_summary *summary)
{
    struct search search = {
        .stored = stored, .key = stored_key(stored, bytes_of_text(user)), .heads = true};
    *summary = (struct stored_summary){0};
    collect(&search, after_mid, limit, UINT64_MAX);
    int error = read_wanted(&search, user);
    for (uint32_t i = 0; error == 0 && i < search.wanted.count; i++) {
        const struct wanted *wanted = &search.wanted.items[i];
        if (wanted->message == NULL)
            continue;
        const struct log_entry entry = {.kind = LOG_ENTRY_KEPT,
                                        .from_service = wanted->message->from_service,
                                        .mid = wanted->mid,
                                        .time_ms = wanted->message->time_ms,
                                        .expires_ms = (uint64_t)wanted->expires_s * 1000,
                                        .sender = deliver_name(wanted->message),
                                        .payload = {NULL, wanted->size}};
        if (!each(context, &entry))
            break;
    }
    end_search(&search);
    sum_up(stored, search.key, summary);
    return error;
}
