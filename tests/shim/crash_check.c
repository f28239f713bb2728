/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/crash_check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/crash_log.h"

/* The truth is the stream of the store at the end of the run, held against everything that clients
 * and backends were told meanwhile. An image with n events must have exactly the first n of it;
 * its map must be what these n events make of an empty one, record by record, because both are
 * written in one transaction; and n must reach what had been told. So nothing is lost that was
 * promised, nothing is there that was not written, and map and stream agree.
 *
 * A run of usher-log-writer has no stream: the number of its commit is the epoch that it stored,
 * and the log must be to the byte what a store in memory has after as many. */

enum { KIND_ONLINE = 1, KIND_DETACHED, KIND_RESUMED, KIND_OFFLINE, MAP_BYTES = 64 << 20 };

static const uint64_t EVERYTHING = 1 << 20;

static bool say(char *text, const char *line, uint64_t number)
{
    (void)snprintf(text, CRASH_TEXT_BYTES, "%s (%" PRIu64 ")", line, number);
    return false;
}

static void *grown(void *memory, size_t count, size_t bytes)
{
    void *result = realloc(memory, count * bytes);
    if (result == NULL)
        abort();
    return result;
}

/* --- the truth --------------------------------------------------------------------------- */

struct event_list {
    struct presence_event *events;
    size_t count;
};

static bool keep_event(void *context, const struct presence_event *event)
{
    struct event_list *list = context;
    list->events = grown(list->events, list->count + 1, sizeof(*list->events));
    list->events[list->count++] = *event;
    return true;
}

bool crash_truth_load(struct crash_truth *truth, struct store *store, char *text)
{
    struct store_position position;
    struct event_list list = {0};
    int result = store_read_events(store, 0, EVERYTHING, keep_event, &list, &position);
    truth->events = list.events;
    truth->events_count = list.count;
    if (result < 0)
        return say(text, "the final stream cannot be read", (uint64_t)-result);
    if (list.count != position.presence_last || position.presence_first != 1)
        return say(text, "the final stream does not begin at 1", position.presence_first);
    return true;
}

/* 0: none. */
static uint64_t seq_of(const struct crash_truth *truth, const char *user, uint64_t epoch,
                       unsigned kind)
{
    for (size_t i = 0; i < truth->events_count; i++) {
        const struct presence_event *event = &truth->events[i];
        if (event->epoch == epoch && event->kind == kind && strcmp(event->user, user) == 0)
            return event->seq;
    }
    return 0;
}

static void ack_add(struct crash_truth *truth, uint64_t position, uint64_t seq)
{
    truth->acks = grown(truth->acks, truth->acks_count + 1, sizeof(*truth->acks));
    truth->acks[truth->acks_count++] = (struct crash_ack){position, seq};
}

static bool secret_add(struct crash_truth *truth, uint64_t epoch, const char *hex)
{
    struct crash_secret secret = {.epoch = epoch};
    for (int i = 0; i < STORE_SECRET_BYTES; i++)
        if (sscanf(hex + 2 * i, "%2hhx", &secret.bytes[i]) != 1)
            return false;
    truth->secrets = grown(truth->secrets, truth->secrets_count + 1, sizeof(*truth->secrets));
    truth->secrets[truth->secrets_count++] = secret;
    return true;
}

static bool event_read(struct crash_truth *truth, const char *line)
{
    char user[STORE_NAME_BYTES_MAX + 1];
    uint64_t position, seq, epoch;
    unsigned kind;
    if (sscanf(line, "event %" SCNu64 " %" SCNu64 " %64s %" SCNu64 " %u", &position, &seq, user,
               &epoch, &kind) != 5 ||
        seq == 0 || seq > truth->events_count)
        return false;
    const struct presence_event *event = &truth->events[seq - 1];
    ack_add(truth, position, seq);
    return event->epoch == epoch && event->kind == kind && strcmp(event->user, user) == 0;
}

static bool commit_read(struct crash_truth *truth, const char *line)
{
    struct crash_ack ack;
    if (sscanf(line, "commit %" SCNu64 " %" SCNu64, &ack.position, &ack.seq) != 2)
        return false;
    truth->commits = grown(truth->commits, truth->commits_count + 1, sizeof(*truth->commits));
    truth->commits[truth->commits_count++] = ack;
    return ack.seq == truth->commits_count;
}

static bool line_read(struct crash_truth *truth, const char *line)
{
    char user[STORE_NAME_BYTES_MAX + 1];
    char hex[2 * STORE_SECRET_BYTES + 1];
    uint64_t position, epoch, seq;
    if (strncmp(line, "event ", 6) == 0)
        return event_read(truth, line);
    if (strncmp(line, "commit ", 7) == 0)
        return commit_read(truth, line);
    if (crash_stored_line(&truth->stored, line))
        return true;
    if (sscanf(line, "welcome %" SCNu64 " %64s %" SCNu64 " %32s", &position, user, &epoch, hex) ==
        4) {
        seq = seq_of(truth, user, epoch, KIND_ONLINE);
        ack_add(truth, position, seq);
        return seq != 0 && secret_add(truth, epoch, hex);
    }
    if (sscanf(line, "logout %" SCNu64 " %64s %" SCNu64, &position, user, &epoch) == 3) {
        seq = seq_of(truth, user, epoch, KIND_OFFLINE);
        ack_add(truth, position, seq);
        return seq != 0;
    }
    return false;
}

/* One more than were told: the power may go in the last one, or behind it. */
static bool digests_make(struct crash_truth *truth, char *text)
{
    struct store_options options = {.events_kept_max = 1};
    struct store *store;
    if (truth->commits_count == 0)
        return true;
    if (store_open_memory(&store, &options) != 0)
        abort();
    int result = 0;
    for (uint64_t k = 0; result == 0 && k <= truth->commits_count + 1; k++) {
        truth->digests = grown(truth->digests, k + 1, sizeof(*truth->digests));
        if (k > 0)
            result = crash_log_step(store, k);
        if (result == 0)
            result = crash_log_digest(store, &truth->digests[k]);
        truth->digests_count = k + 1;
    }
    store_close(store);
    return result == 0 || say(text, "the log in memory fails", (uint64_t)-result);
}

bool crash_truth_read(struct crash_truth *truth, const char *path, char *text)
{
    char line[256];
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return say(text, "the list of what was told cannot be read", (uint64_t)errno);
    bool good = true;
    while (good && fgets(line, sizeof(line), file) != NULL)
        good = line_read(truth, line);
    (void)fclose(file);
    if (!good)
        (void)snprintf(text, CRASH_TEXT_BYTES, "told, and not in the final stream: %s", line);
    return good && digests_make(truth, text);
}

void crash_truth_fini(struct crash_truth *truth)
{
    free(truth->events);
    free(truth->acks);
    free(truth->secrets);
    free(truth->commits);
    free(truth->digests);
    free(truth->stored.items);
    *truth = (struct crash_truth){0};
}

/* --- one image --------------------------------------------------------------------------- */

struct checking {
    const struct crash_truth *truth;
    uint64_t events;   /* how many the image has */
    uint64_t sessions; /* how many of its map were looked at */
    char *text;
    bool good;
};

static bool same_event(const struct presence_event *a, const struct presence_event *b)
{
    return a->seq == b->seq && a->time_ms == b->time_ms && a->epoch == b->epoch &&
           a->previous_epoch == b->previous_epoch && a->until_ms == b->until_ms &&
           a->kind == b->kind && a->cause == b->cause && strcmp(a->user, b->user) == 0 &&
           strcmp(a->address, b->address) == 0 && strcmp(a->client, b->client) == 0;
}

static bool check_event(void *context, const struct presence_event *event)
{
    struct checking *checking = context;
    uint64_t next = checking->events + 1;
    if (event->seq != next)
        checking->good = say(checking->text, "the stream has a gap before", event->seq);
    else if (next > checking->truth->events_count)
        checking->good = say(checking->text, "an event that was never written", next);
    else if (!same_event(event, &checking->truth->events[next - 1]))
        checking->good = say(checking->text, "an event differs from what was written", next);
    else
        checking->events = next;
    return checking->good;
}

/* What the first `events` of the stream say of the user: the epoch, or 0 for nobody. */
static uint64_t told_of(const struct checking *checking, const char *user,
                        const struct presence_event **login, enum session_state *state)
{
    *login = NULL;
    for (size_t i = 0; i < checking->events; i++) {
        const struct presence_event *event = &checking->truth->events[i];
        if (strcmp(event->user, user) != 0)
            continue;
        if (event->kind == KIND_ONLINE)
            *login = event;
        else if (event->kind == KIND_OFFLINE)
            *login = NULL;
        *state = event->kind == KIND_DETACHED ? SESSION_DETACHED : SESSION_ONLINE;
    }
    return *login == NULL ? 0 : (*login)->epoch;
}

static bool secret_is(const struct crash_truth *truth, const struct session_record *record)
{
    for (size_t i = 0; i < truth->secrets_count; i++)
        if (truth->secrets[i].epoch == record->epoch)
            return memcmp(truth->secrets[i].bytes, record->secret, STORE_SECRET_BYTES) == 0;
    return true; /* its Welcome was not read by anybody */
}

static bool check_session(void *context, const char *user, const struct session_record *record)
{
    struct checking *checking = context;
    const struct presence_event *login;
    enum session_state state = SESSION_ONLINE;
    uint64_t epoch = told_of(checking, user, &login, &state);
    checking->sessions++;
    if (epoch == 0)
        checking->good = say(checking->text, "a session of one who is gone", record->epoch);
    else if (epoch != record->epoch || state != record->state)
        checking->good = say(checking->text, "a session that the stream contradicts", epoch);
    else if (strcmp(login->client, record->client) != 0 || !secret_is(checking->truth, record))
        checking->good = say(checking->text, "a session that was never written so", epoch);
    return checking->good;
}

/* How many users are here by the stream. */
static uint64_t count_living(const struct checking *checking)
{
    uint64_t living = 0;
    for (size_t i = 0; i < checking->events; i++) {
        const struct presence_event *event = &checking->truth->events[i];
        if (event->kind == KIND_ONLINE && event->previous_epoch == 0)
            living++;
        else if (event->kind == KIND_OFFLINE)
            living--;
    }
    return living;
}

static bool check_content(struct checking *checking, struct store *store, uint64_t position_told)
{
    struct store_position position;
    uint64_t presence_last = 0, epoch_highest = 0;
    bool more = false;
    int result = store_read_events(store, 0, EVERYTHING, check_event, checking, &position);
    if (result < 0 || !checking->good)
        return checking->good &&
               say(checking->text, "the events cannot be read", (uint64_t)-result);
    for (size_t i = 0; i < checking->truth->acks_count; i++) {
        const struct crash_ack *ack = &checking->truth->acks[i];
        if (ack->position <= position_told && ack->seq > checking->events)
            return say(checking->text, "lost, though it was acknowledged: event", ack->seq);
    }
    for (size_t i = 0; i < checking->events; i++)
        if (checking->truth->events[i].epoch > epoch_highest)
            epoch_highest = checking->truth->events[i].epoch;
    if (position.epoch_last < epoch_highest)
        return say(checking->text, "the counter of epochs is behind", position.epoch_last);
    result = store_list_sessions(store, "", "", SIZE_MAX, check_session, checking, &presence_last,
                                 &more);
    if (result < 0 || !checking->good)
        return checking->good && say(checking->text, "the map cannot be read", (uint64_t)-result);
    if (checking->sessions != count_living(checking) || presence_last != checking->events)
        return say(checking->text, "the map has not those who are here", checking->sessions);
    return true;
}

static bool log_is(struct checking *checking, struct store *store, uint64_t k)
{
    uint64_t digest = 0;
    int result = crash_log_digest(store, &digest);
    if (result < 0)
        return say(checking->text, "the log cannot be read", (uint64_t)-result);
    return digest == checking->truth->digests[k] ||
           say(checking->text, "the log is not that of commit", k);
}

/* All of one commit and of none behind it, at least of the last that was told; and it goes on. */
static bool check_log(struct checking *checking, struct store *store, uint64_t position_told)
{
    const struct crash_truth *truth = checking->truth;
    struct store_position position;
    int result = store_position(store, &position);
    if (result < 0 || position.epoch_last + 1 >= truth->digests_count)
        return say(checking->text, "a commit that never was", position.epoch_last);
    uint64_t k = position.epoch_last;
    for (size_t i = 0; i < truth->commits_count; i++)
        if (truth->commits[i].position <= position_told && truth->commits[i].seq > k)
            return say(checking->text, "lost, though it was told: commit", truth->commits[i].seq);
    checking->events = k;
    if (!log_is(checking, store, k))
        return false;
    result = crash_log_step(store, k + 1);
    if (result < 0)
        return say(checking->text, "the log takes no commit", (uint64_t)-result);
    return log_is(checking, store, k + 1);
}

/* A store that survived must also go on. */
static bool check_goes_on(struct checking *checking, struct store *store)
{
    struct session_record record = {.epoch = UINT64_C(1) << 60, .state = SESSION_ONLINE};
    struct presence_event event = {.epoch = record.epoch, .kind = KIND_ONLINE, .cause = 1};
    memcpy(event.user, "after", 6);
    int result = store_begin(store);
    if (result == 0)
        result = store_put_session(store, event.user, &record);
    if (result == 0)
        result = store_append_event(store, &event);
    if (result == 0)
        result = store_commit(store, record.epoch);
    if (result < 0)
        return say(checking->text, "it takes no login", (uint64_t)-result);
    if (event.seq != checking->events + 1)
        return say(checking->text, "the next event has a wrong number", event.seq);
    return true;
}

bool crash_check(const struct crash_truth *truth, const char *folder, uint64_t position,
                 uint64_t *events, char *text)
{
    char error[STORE_ERROR_BYTES_MAX] = "";
    struct store *store;
    struct store_options options = {
        .path = folder, .map_bytes_max = MAP_BYTES, .events_kept_max = EVERYTHING};
    struct checking checking = {.truth = truth, .text = text, .good = true};
    if (store_open_lmdb(&store, &options, error) < 0) {
        (void)snprintf(text, CRASH_TEXT_BYTES, "it does not open: %s", error);
        return false;
    }
    bool good = check_content(&checking, store, position);
    if (good && truth->stored.count > 0)
        good = crash_stored_check(&truth->stored, store, position, text);
    if (good && truth->commits_count > 0)
        good = check_log(&checking, store, position);
    else if (good)
        good = check_goes_on(&checking, store);
    *events = checking.events;
    store_close(store);
    return good;
}
