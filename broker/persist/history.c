/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/history.h"

#include <string.h>

#include "base/check.h"

/* Records for people go with the changes that they tell of, in the same transaction and behind all
 * of it, so whoever was answered is in the history too, and nobody waits for a sync because of it.
 * Refusals are nobody's change: they wait for the next transaction, for REFUSALS_MS at least (a
 * flood must not be written as fast as it comes), and when none comes they get one of their own.
 *
 * When the store has no room the history is the first to go without: what was to be stored is tried
 * again without it, and for QUIET_MS no more is tried, so that a full disk is not asked twice for
 * each login. What is left out is counted, and the next record that is stored says how many there
 * were. */

enum { REFUSALS_MS = 5000, QUIET_MS = 10000 };

static uint64_t now_ms(const struct history *history)
{
    return env_monotonic_ms(history->env);
}

static void copy(char *to, size_t room, const char *from)
{
    size_t size = strnlen(from, room - 1);
    memcpy(to, from, size);
    to[size] = '\0';
}

static void describe_event(struct history_record *record, const struct presence_event *event,
                           const char *transport)
{
    *record = (struct history_record){.time_ms = event->time_ms,
                                      .epoch = event->epoch,
                                      .until_ms = event->until_ms,
                                      .kind = event->kind,
                                      .cause = event->cause};
    copy(record->user, sizeof(record->user), event->user);
    copy(record->address, sizeof(record->address), event->address);
    copy(record->client, sizeof(record->client), event->client);
    copy(record->transport, sizeof(record->transport), transport);
}

static void describe(struct history_record *record, const struct change *change)
{
    const struct change_note *note = &change->note;
    describe_event(record, &change->event, change->record.transport);
    copy(record->by, sizeof(record->by), note->by);
    copy(record->detail, sizeof(record->detail), note->detail);
    copy(record->limit, sizeof(record->limit), note->limit != NULL ? note->limit : "");
    record->bound = note->bound;
    record->value = note->value;
}

void history_of_restart(struct history_record *record, const struct presence_event *event,
                        const char *transport)
{
    describe_event(record, event, transport);
}

static int append(struct history *history, struct store *store, enum history_ring ring,
                  struct history_record *record)
{
    uint64_t *missing = &history->missing_now[ring];
    record->missing += *missing;
    int result = store_append_history(store, ring, record);
    if (result < 0) {
        history->failed = true;
        return result;
    }
    history->stored += result == 1;
    history->left_out += result == 0;
    *missing = result == 1 ? 0 : record->missing + 1;
    return 0;
}

static bool is_quiet(const struct history *history)
{
    return now_ms(history) < history->quiet_until_ms;
}

static int append_refusals(struct history *history, struct store *store)
{
    if (!history_is_due(history))
        return 0;
    history->taken_ms = now_ms(history);
    history->taken = refusals_take(history->refusals, history->list);
    int error = 0;
    for (size_t i = 0; error == 0 && i < history->taken; i++)
        error = append(history, store, HISTORY_REFUSALS, &history->list[i]);
    return error;
}

int history_write(struct history *history, struct store *store, const struct change *list)
{
    int error = 0;
    history->failed = false;
    history->stored = history->left_out = history->taken = 0;
    memcpy(history->missing_now, history->missing, sizeof(history->missing));
    if (!history->keeps)
        return 0;
    bool quiet = is_quiet(history);
    for (; error == 0 && list != NULL; list = list->next) {
        struct history_record record;
        history->missing_now[HISTORY_SESSIONS] += quiet;
        history->left_out += quiet;
        if (quiet)
            continue;
        describe(&record, list);
        error = append(history, store, HISTORY_SESSIONS, &record);
    }
    return error == 0 && !quiet ? append_refusals(history, store) : error;
}

/* The refusals that were taken are nowhere now. */
static void forget_refusals(struct history *history)
{
    for (size_t i = 0; i < history->taken; i++)
        history->missing[HISTORY_REFUSALS] += 1 + history->list[i].missing;
    metrics_add(history->metrics, history->block, METRIC_history_missing, history->taken);
}

void history_settle(struct history *history, int error)
{
    if (error != 0) {
        forget_refusals(history);
        return;
    }
    memcpy(history->missing, history->missing_now, sizeof(history->missing));
    metrics_add(history->metrics, history->block, METRIC_history_stored, history->stored);
    metrics_add(history->metrics, history->block, METRIC_history_missing, history->left_out);
}

bool history_gives_way(struct history *history, int error)
{
    bool tried = history->failed || history->stored > 0;
    if (error == 0 || !tried || (!history->failed && !store_is_full(error)))
        return false;
    forget_refusals(history);
    LOG(history->log, HISTORY_LEFT_OUT, LOG_S("error", store_error_text(error)));
    history->quiet_until_ms = now_ms(history) + QUIET_MS;
    return true;
}

bool history_is_due(const struct history *history)
{
    return history->keeps && refusals_wait(history->refusals) && !is_quiet(history) &&
           now_ms(history) >= history->taken_ms + REFUSALS_MS;
}
