/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_STORED_STAND_H
#define USHER_TESTS_STORED_STAND_H

/* What is stored for users above a store in memory, and nothing around it: the test is the
 * committer, and its clock goes as the test says. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/push.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "persist/stored_private.h"

enum { START_S = 1700000000 };

struct stand {
    struct store *store;
    struct stored *stored;
    struct limits limits;
    struct metrics *metrics;
    struct env env;
    _Atomic uint64_t mid_last;
    uint64_t ms;         /* since the start */
    int64_t wall_off_ms; /* somebody has set the wall clock */
    uint64_t random;
    uint64_t clean_bytes; /* of a transaction; 0: as it is */
};

static inline uint64_t stand_ns(void *context)
{
    return (((struct stand *)context)->ms + 1000) * 1000000;
}

static inline uint64_t stand_wall(void *context)
{
    const struct stand *stand = context;
    return UINT64_C(1000) * START_S + stand->ms + (uint64_t)stand->wall_off_ms;
}

static inline uint64_t draw(struct stand *stand)
{
    stand->random ^= stand->random << 13;
    stand->random ^= stand->random >> 7;
    stand->random ^= stand->random << 17;
    return stand->random * UINT64_C(0x2545F4914F6CDD1D) >> 16;
}

static inline uint32_t below(struct stand *stand, uint32_t n)
{
    return (uint32_t)(draw(stand) % n);
}

static inline void stand_random(void *context, void *to, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)to)[i] = (uint8_t)draw(context);
}

static inline void stand_start(struct stand *stand)
{
    const struct stored_options options = {.store = stand->store,
                                           .limits = &stand->limits,
                                           .env = &stand->env,
                                           .metrics = stand->metrics,
                                           .mid_last = &stand->mid_last};
    assert_int_equal(stored_open(&stand->stored, &options), 0);
    if (stand->clean_bytes != 0)
        stand->stored->clean_bytes = stand->clean_bytes;
}

static inline struct stand *stand_open(uint64_t seed)
{
    const struct store_options options = {.events_kept_max = 1000};
    struct stand *stand = calloc(1, sizeof(*stand));
    assert_non_null(stand);
    stand->env = (struct env){stand_ns, stand_wall, stand_random, stand};
    stand->random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    stand->mid_last = 1000;
    stand->limits = (struct limits){.store_map_bytes = 1 << 30,
                                    .inbox_keep_max_s = 604800,
                                    .inbox_stored_messages = 1000,
                                    .inbox_stored_bytes = 1 << 20,
                                    .inbox_stored_total = 1000000,
                                    .inbox_stored_total_bytes = 256 << 20,
                                    .inbox_log_spare = 3};
    stand->metrics = metrics_create(1);
    assert_non_null(stand->metrics);
    assert_int_equal(store_open_memory(&stand->store, &options), 0);
    stand_start(stand);
    return stand;
}

static inline void stand_close(struct stand *stand)
{
    stored_close(stand->stored);
    store_close(stand->store);
    metrics_destroy(stand->metrics);
    free(stand);
}

/* As kill -9 and a start. */
static inline void stand_restart(struct stand *stand)
{
    store_memory_crash(stand->store);
    stored_close(stand->stored);
    stand_start(stand);
}

static inline uint64_t stand_metric(const struct stand *stand, enum metric_id id)
{
    return metrics_read(stand->metrics, id);
}

/* --- changes ---------------------------------------------------------------------------------- */

static inline struct change *change_make(enum change_kind kind, const char *user)
{
    struct change *change = calloc(1, sizeof(*change));
    assert_non_null(change);
    change->kind = kind;
    snprintf(change->event.user, sizeof(change->event.user), "%s", user);
    return change;
}

static inline void change_add(struct change *change, struct deliver_message *message)
{
    struct deliver_message **end = &change->stored;
    while (*end != NULL)
        end = (struct deliver_message **)&(*end)->header.next;
    message->header.next = NULL;
    *end = message;
}

static inline void change_free(struct change *change)
{
    while (change != NULL) {
        struct change *next = change->next;
        while (change->stored != NULL) {
            struct deliver_message *message = change->stored;
            change->stored = (struct deliver_message *)message->header.next;
            message_destroy(&message->header);
        }
        free(change);
        change = next;
    }
}

static inline struct deliver_message *message_make(struct stand *stand, const char *sender,
                                                   const char *payload, uint32_t keep_s)
{
    struct deliver_message *message = deliver_create(bytes_of_text(sender), bytes_of_text(payload));
    assert_non_null(message);
    message->keep_s = keep_s & KEEP_S_MAX;
    message->time_ms = stand_wall(stand);
    return message;
}

/* How the transaction for these ends: planned, written, committed, settled. */
static inline int stand_commit(struct stand *stand, struct change *sessions, struct change *stores)
{
    bool any = stored_plan(stand->stored, sessions, stores);
    int error = any ? store_begin(stand->store) : 0;
    if (any && error == 0) {
        error = stored_write(stand->stored);
        if (error == 0)
            error = store_commit(stand->store, atomic_load(&stand->mid_last));
        else
            store_abort(stand->store);
    }
    if (any)
        stored_settle(stand->stored, error);
    if (error == 0)
        stored_welcome(stand->stored, sessions);
    return error;
}

/* One message for one user in a transaction of its own; its refusal. */
static inline uint16_t stand_store(struct stand *stand, const char *user,
                                   struct deliver_message *message, uint64_t *mid)
{
    struct change *change = change_make(CHANGE_STORE, user);
    change_add(change, message);
    stand_commit(stand, NULL, change);
    uint16_t refusal = message->refusal;
    if (mid != NULL)
        *mid = message->mid;
    change_free(change);
    return refusal;
}

/* What his next login hears. */
static inline struct change *stand_login(struct stand *stand, const char *user, uint64_t last_mid)
{
    struct change *change = change_make(CHANGE_ATTACH, user);
    change->last_mid = last_mid;
    assert_int_equal(stand_commit(stand, change, NULL), 0);
    return change;
}

static inline struct change *stand_window(struct stand *stand, const char *user, uint64_t after,
                                          uint32_t messages_max, uint32_t bytes_max)
{
    struct change *change = change_make(CHANGE_WINDOW, user);
    change->after_mid = after;
    change->messages_max = messages_max;
    change->bytes_max = bytes_max;
    stored_window(stand->stored, change);
    return change;
}

#endif
