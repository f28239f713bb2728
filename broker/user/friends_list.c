/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "backend.pb-c.h"
#include "base/check.h"
#include "base/memory.h"
#include "user/friends_private.h"

/* The WatchList of a service: whom this login watches. It comes to the user's own turn, so it
 * cannot be for another login than the one that is bound now, and what it takes away is told no
 * more from this turn on, before it is answered. It is answered when each target's shard has said
 * whether there is room for one more watcher. */

static void *grow(void *rows, uint32_t *capacity, size_t row_bytes)
{
    uint32_t more = *capacity > 0 ? *capacity * 2 : 8;
    void *after;
    MEMORY_MUST((after = realloc(rows, more * row_bytes)) != NULL, "a list of friends");
    memory_account(MEMORY_OF_FRIENDS, (int64_t)((more - *capacity) * row_bytes));
    *capacity = more;
    return after;
}

void list_wait_for(struct list_wait *list, uint32_t position, uint32_t serial, uint16_t index)
{
    if (list->count == list->capacity)
        list->rows = grow(list->rows, &list->capacity, sizeof(*list->rows));
    list->rows[list->count].position = position;
    list->rows[list->count].serial = serial;
    list->rows[list->count++].index = index;
}

static void fail(struct list_wait *list, uint16_t index, uint16_t code)
{
    if (list->failure_count == list->failure_capacity)
        list->failures = grow(list->failures, &list->failure_capacity, sizeof(*list->failures));
    list->failures[list->failure_count++] = (struct watch_failure){index, code};
}

static void destroy(struct list_wait *list)
{
    memory_account(MEMORY_OF_FRIENDS,
                   -(int64_t)(sizeof(*list) + list->capacity * sizeof(*list->rows) +
                              list->failure_capacity * sizeof(*list->failures)));
    free(list->rows);
    free(list->failures);
    free(list);
}

static void answer(struct list_wait *list, struct turn *turn)
{
    watch_listed(turn, list->by, list->request, USHER__V1__RESULT__CODE__OK, list->accepted,
                 list->failures, list->failure_count);
    destroy(list);
}

/* True: it was waited for. */
static bool settle(struct list_wait *list, uint32_t position, uint32_t serial, uint16_t code)
{
    for (uint32_t i = 0; i < list->count; i++) {
        struct list_row row = list->rows[i];
        if (row.position != position || row.serial != serial)
            continue;
        list->rows[i] = list->rows[--list->count];
        if (code == USHER__V1__RESULT__CODE__OK)
            list->accepted++;
        else
            fail(list, row.index, code);
        return true;
    }
    return false;
}

void list_answered(struct friends *friends, uint32_t position, uint32_t serial, uint16_t code,
                   struct turn *turn)
{
    for (struct list_wait **at = &friends->lists; *at != NULL; at = &(*at)->next) {
        struct list_wait *list = *at;
        if (!settle(list, position, serial, code))
            continue;
        if (list->count > 0)
            return;
        *at = list->next;
        answer(list, turn);
        return;
    }
}

void lists_end(struct friends *friends, uint16_t code, struct turn *turn)
{
    struct list_wait *list;
    while ((list = friends->lists) != NULL) {
        friends->lists = list->next;
        if (turn != NULL)
            watch_listed(turn, list->by, list->request, code, 0, NULL, 0);
        destroy(list);
    }
}

static struct list_wait *begin(const struct watch_list_message *message)
{
    struct list_wait *list;
    MEMORY_MUST((list = calloc(1, sizeof(*list))) != NULL, "a list of friends");
    memory_account(MEMORY_OF_FRIENDS, (int64_t)sizeof(*list));
    list->by = message->by;
    list->request = message->request;
    return list;
}

/* Its names, in order; false: that was the last one. */
static bool next_name(const struct watch_list_message *message, uint32_t *offset,
                      struct bytes *name)
{
    if (*offset == message->size)
        return false;
    *name = (struct bytes){message->names + *offset + 1, message->names[*offset]};
    *offset += 1 + (uint32_t)name->size;
    CHECK(*offset <= message->size); /* by instance/submit_watch.c */
    return true;
}

static void plan_list(struct plan *plan, const struct friends *friends, struct list_wait *list,
                      const struct watch_list_message *message, struct turn *turn)
{
    struct bytes name;
    uint32_t offset = 0;
    if (message->mode == USHER__V1__WATCH_LIST__MODE__SET)
        plan_remove_all(plan, friends);
    for (uint16_t index = 0; next_name(message, &offset, &name); index++) {
        if (!username_valid(name)) {
            fail(list, index, USHER__V1__RESULT__CODE__MALFORMED);
        } else if (message->mode == USHER__V1__WATCH_LIST__MODE__REMOVE) {
            plan_remove(plan, friends, turn, name);
            list->accepted++;
        } else {
            plan_add(plan, friends, turn, name, index);
        }
    }
}

/* Result.Code of the whole. */
static uint16_t refusal(const struct session *session, const struct watch_list_message *message,
                        struct turn *turn)
{
    if (session->status == SESSION_NONE)
        return USHER__V1__RESULT__CODE__NOT_ONLINE;
    if (message->epoch != 0 && message->epoch != session->epoch)
        return USHER__V1__RESULT__CODE__STALE_EPOCH;
    bool takes_away = message->mode == USHER__V1__WATCH_LIST__MODE__REMOVE;
    if (!takes_away && message->count > friends_targets(turn->limits)) {
        turn_count(turn, METRIC_friends_targets_full, 1);
        return USHER__V1__RESULT__CODE__FULL;
    }
    return !takes_away && memory_level() == MEMORY_FULL ? USHER__V1__RESULT__CODE__UNAVAILABLE
                                                        : USHER__V1__RESULT__CODE__OK;
}

void user_watch_list(struct session *session, struct message *message_, struct turn *turn)
{
    const struct watch_list_message *message = (const struct watch_list_message *)message_;
    uint16_t code = refusal(session, message, turn);
    if (code != USHER__V1__RESULT__CODE__OK) {
        watch_listed(turn, message->by, message->request, code, 0, NULL, 0);
        message_destroy(message_);
        return;
    }
    struct friends *friends = friends_of(session);
    struct list_wait *list = begin(message);
    struct plan plan;
    plan_begin(&plan, friends, message->count);
    plan_list(&plan, friends, list, message, turn);
    if (plan_reserve(&plan, friends, turn) != PLAN_FITS) {
        watch_listed(turn, list->by, list->request, USHER__V1__RESULT__CODE__FULL, 0, NULL, 0);
        destroy(list);
    } else {
        plan_carry_out(&plan, friends, true, list, turn);
        tell_all(friends, turn);
        if (list->count == 0) {
            answer(list, turn);
        } else {
            list->next = friends->lists;
            friends->lists = list;
        }
    }
    plan_end(&plan);
    message_destroy(message_);
    tell_due(session, friends, turn);
}
