/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/turn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "proto/traceparent.h"

/* The buffers of a turn grow to what the largest turn needed and are cut back when that was
 * unusual, so a burst does not keep its memory. */

enum { EFFECTS_KEPT = 4096, OUT_BYTES_KEPT = 256 * 1024 };

void turn_begin(struct turn *turn, actor_handle self, const char *name, uint64_t now_ms,
                uint64_t wall_ms)
{
    CHECK(!turn->begun && turn->change == NULL);
    turn->begun = true;
    turn->looked = false;
    turn->self = self;
    turn->name = name;
    turn->now_ms = now_ms;
    turn->wall_ms = wall_ms;
}

void turn_reset(struct turn *turn)
{
    turn->begun = false;
    turn->count = 0;
    turn->out.size = 0;
    turn->change = NULL;
    turn->retire = false;
    turn->stamp_us = 0;
    turn->mark_count = 0;
    if (turn->out.capacity > OUT_BYTES_KEPT)
        buffer_fini(&turn->out);
    if (turn->capacity > EFFECTS_KEPT) {
        free(turn->effects);
        turn->effects = NULL;
        turn->capacity = 0;
    }
}

void turn_discard(struct turn *turn)
{
    for (size_t i = 0; i < turn->count; i++)
        if (turn->effects[i].message != NULL)
            message_destroy(turn->effects[i].message);
    turn_reset(turn);
}

struct bytes turn_traceparent(struct turn *turn, struct bytes given)
{
    if (given.size == 0 || traceparent_valid(given))
        return given;
    turn_count(turn, METRIC_traceparents_invalid, 1);
    return (struct bytes){0};
}

void turn_fini(struct turn *turn)
{
    buffer_fini(&turn->out);
    free(turn->effects);
    turn->effects = NULL;
    turn->capacity = 0;
}

struct effect *turn_effect(struct turn *turn, enum effect_kind kind, uint64_t value)
{
    if (turn->count == turn->capacity) {
        struct effect *effects;
        turn->capacity = turn->capacity ? turn->capacity * 2 : 64;
        MEMORY_MUST((effects = realloc(turn->effects, turn->capacity * sizeof(*effects))) != NULL,
                    "the effects of a turn");
        turn->effects = effects;
    }
    struct effect *effect = &turn->effects[turn->count++];
    *effect = (struct effect){.kind = (uint8_t)kind, .value = value};
    return effect;
}

void turn_send(struct turn *turn, uint64_t conn, size_t offset)
{
    CHECK(offset <= turn->out.size && turn->out.size <= UINT32_MAX);
    uint32_t size = (uint32_t)(turn->out.size - offset);
    if (size == 0)
        return;
    if (turn->count > 0) {
        struct effect *last = &turn->effects[turn->count - 1];
        if (last->kind == EFFECT_SEND && last->value == conn &&
            last->offset + last->size == offset) {
            last->size += size;
            return;
        }
    }
    struct effect *effect = turn_effect(turn, EFFECT_SEND, conn);
    effect->offset = (uint32_t)offset;
    effect->size = size;
}

void turn_post(struct turn *turn, actor_handle to, struct message *message)
{
    turn_effect(turn, EFFECT_POST, to)->message = message;
}

static void post_result(struct turn *turn, actor_handle to, const struct result_message *what)
{
    if (to == 0 || what->request == 0)
        return;
    struct result_message *result = message_create(MESSAGE_RESULT, sizeof(*result));
    struct message header = result->header;
    *result = *what;
    result->header = header;
    turn_post(turn, to, &result->header);
}

void turn_result(struct turn *turn, actor_handle to, uint64_t request, uint64_t asker_epoch,
                 uint64_t epoch, uint16_t code)
{
    post_result(turn, to,
                &(struct result_message){
                    .request = request, .asker_epoch = asker_epoch, .epoch = epoch, .code = code});
}

void turn_stored(struct turn *turn, actor_handle to, uint64_t request, uint64_t asker_epoch,
                 uint64_t epoch, uint64_t mid)
{
    CHECK(mid != 0);
    post_result(turn, to,
                &(struct result_message){
                    .request = request, .asker_epoch = asker_epoch, .epoch = epoch, .mid = mid});
}

struct change *turn_change(struct turn *turn, enum change_kind kind, struct message *cause)
{
    CHECK(turn->begun && turn->change == NULL);
    struct change *change = calloc(1, sizeof(*change));
    if (change == NULL)
        return NULL;
    change->self = turn->self;
    change->kind = kind;
    change->cause = cause;
    turn->change = change;
    return change;
}

static void cut_text(char *to, size_t bytes_max, const char *from)
{
    size_t size = strnlen(from, bytes_max);
    memcpy(to, from, size);
    to[size] = '\0';
}

void turn_note(struct turn *turn, const char *detail, const char *limit, uint64_t bound,
               uint64_t value)
{
    CHECK(turn->change != NULL);
    struct change_note *note = &turn->change->note;
    cut_text(note->detail, STORE_DETAIL_BYTES_MAX, detail);
    note->limit = limit;
    note->bound = bound;
    note->value = value;
}

void turn_note_by(struct turn *turn, const char *by)
{
    CHECK(turn->change != NULL);
    cut_text(turn->change->note.by, STORE_BY_BYTES_MAX, by);
}

void turn_record_marks(struct turn *turn)
{
    uint32_t now_us = env_stamp_us(turn->env);
    for (unsigned i = 0; i < turn->mark_count; i++) {
        int32_t passed_us = (int32_t)(now_us - turn->marks[i].stamp_us);
        /* Two threads' clocks may differ by a little. */
        metrics_record(turn->metrics, turn->block, turn->marks[i].histogram,
                       passed_us > 0 ? (uint64_t)passed_us * 1000 : 0);
    }
    turn->mark_count = 0;
}

/* --- what turns go by ------------------------------------------------------------------------- */

/* A backend's requests outlive the process that they were meant for: the transport repeats them to
 * the next one. So calls are not counted from 1 again, or an old number would name the call of
 * somebody else. The number of a link is sealed with a key of this process. Rooms are not stored,
 * but a client remembers where it was in one: what a process calls their lives is above what the
 * one before it did, as long as it makes fewer than so many in each millisecond, and another number
 * in any case. Epochs are not for that: nobody stores those that rooms would have drawn. */
enum { INCARNATIONS_PER_MS = 1024 };

void counters_start(struct counters *counters, const struct env *env)
{
    uint32_t start;
    env_random(env, &start, sizeof(start));
    atomic_store(&counters->call_last, start);
    atomic_store(&counters->incarnation_last,
                 env_wall_ms(env) * INCARNATIONS_PER_MS + start % INCARNATIONS_PER_MS);
}

int settings_make_rates(struct settings *settings, const struct limits *limits,
                        const struct env *env)
{
    settings->source_rates = source_rates_create(limits, env);
    settings->spent_rates = spent_create(env);
    settings->spent_fights = spent_create(env);
    settings->spent_to_away = spent_create(env);
    bool made = settings->source_rates != NULL && settings->spent_rates != NULL &&
                settings->spent_fights != NULL && settings->spent_to_away != NULL;
    return made ? 0 : -ENOMEM;
}

void settings_destroy_rates(struct settings *settings)
{
    source_rates_destroy(settings->source_rates);
    spent_destroy(settings->spent_rates);
    spent_destroy(settings->spent_fights);
    spent_destroy(settings->spent_to_away);
}
