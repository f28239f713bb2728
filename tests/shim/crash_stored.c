/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/crash_stored.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "persist/stored.h"
#include "shim/crash_check.h"

/* The start is the broker's own: the index from the log (stored_open), windows from it, and a
 * transaction on top of it, planned, written and settled as the committer does it. */

enum { KEEP_S = 3600, EVERYTHING = 1 << 20 };

static const char SERVICE[] = "post";

bool crash_stored_line(struct crash_stored_list *list, const char *line)
{
    struct crash_stored one = {.ended = UINT64_MAX};
    uint64_t position, mid;
    if (sscanf(line, "done %" SCNu64 " %64s %" SCNu64, &position, one.user, &mid) == 3) {
        for (size_t i = 0; i < list->count; i++) {
            struct crash_stored *item = &list->items[i];
            if (item->mid <= mid && item->ended > position && strcmp(item->user, one.user) == 0)
                item->ended = position;
        }
        return true;
    }
    if (sscanf(line, "stored %" SCNu64 " %64s %" SCNu64 " %" SCNu64 " %" SCNu64, &one.told,
               one.user, &one.mid, &one.tag, &one.text) != 5)
        return false;
    list->items = realloc(list->items, (list->count + 1) * sizeof(*list->items));
    if (list->items == NULL)
        abort();
    list->items[list->count++] = one;
    return true;
}

/* --- a broker's part of it -------------------------------------------------------------------- */

struct part {
    struct store *store;
    struct stored *stored;
    struct metrics *metrics;
    struct limits limits;
    _Atomic uint64_t mid_last;
};

static bool part_open(struct part *part)
{
    struct store_position position;
    const struct stored_options options = {.store = part->store,
                                           .limits = &part->limits,
                                           .env = env_system(),
                                           .metrics = part->metrics,
                                           .mid_last = &part->mid_last};
    if (store_position(part->store, &position) != 0)
        return false;
    atomic_store(&part->mid_last, position.epoch_last);
    return stored_open(&part->stored, &options) == 0;
}

static struct change *change_of(enum change_kind kind, const char *user)
{
    struct change *change = calloc(1, sizeof(*change));
    if (change == NULL)
        abort();
    change->kind = kind;
    memcpy(change->event.user, user, strlen(user) + 1);
    return change;
}

static void change_end(struct change *change)
{
    while (change->stored != NULL) {
        struct deliver_message *message = change->stored;
        change->stored = (struct deliver_message *)message->header.next;
        message_destroy(&message->header);
    }
    free(change);
}

/* One message for a user, committed. Gives its mid; 0: it was not stored. */
static uint64_t part_store(struct part *part, const char *user, uint64_t tag, bool *repeated)
{
    struct change *change = change_of(CHANGE_STORE, user);
    struct deliver_message *message =
        deliver_create(bytes_of_text(SERVICE), bytes_of_text("0 again"));
    if (message == NULL)
        abort();
    message->from_service = true;
    message->keep_s = KEEP_S;
    message->tag = tag;
    message->time_ms = env_wall_ms(env_system());
    change->stored = message;
    bool planned = stored_plan(part->stored, NULL, change);
    int error = planned ? store_begin(part->store) : 0;
    if (planned && error == 0)
        error = stored_write(part->stored);
    if (planned && error == 0)
        error = store_commit(part->store, atomic_load(&part->mid_last));
    if (planned)
        stored_settle(part->stored, error);
    uint64_t mid = error == 0 && message->refusal == 0 ? message->mid : 0;
    *repeated = message->repeated;
    change_end(change);
    return mid;
}

/* --- one image -------------------------------------------------------------------------------- */

static bool say(char *text, const char *line, const char *user, uint64_t number)
{
    (void)snprintf(text, CRASH_TEXT_BYTES, "%s: %s (%" PRIu64 ")", user, line, number);
    return false;
}

static const struct crash_stored *find(const struct crash_stored_list *list, const char *user,
                                       uint64_t mid)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].mid == mid && strcmp(list->items[i].user, user) == 0)
            return &list->items[i];
    return NULL;
}

static bool is_as_sent(const struct deliver_message *message, const struct crash_stored *sent)
{
    char number[32];
    struct bytes payload = deliver_payload(message);
    int size = snprintf(number, sizeof(number), "%" PRIu64 " ", sent->text);
    return payload.size >= (size_t)size && memcmp(payload.data, number, (size_t)size) == 0 &&
           message->from_service && bytes_equal(deliver_name(message), bytes_of_text(SERVICE));
}

/* What he would get: each once, and of those that were sent. `mine`: what he must not miss. */
static bool check_user(const struct crash_stored_list *list, struct part *part, const char *user,
                       uint64_t position, uint64_t mine, char *text)
{
    struct change *window = change_of(CHANGE_WINDOW, user);
    window->messages_max = window->bytes_max = EVERYTHING << 8;
    stored_window(part->stored, window);
    bool good = window->error == 0 || say(text, "his window cannot be read", user, 0);
    uint64_t before = 0, found = 0;
    for (const struct deliver_message *message = window->stored; good && message != NULL;
         message = (const struct deliver_message *)message->header.next) {
        const struct crash_stored *sent = find(list, user, message->mid);
        if (message->mid <= before)
            good = say(text, "a mid that does not rise", user, message->mid);
        else if (sent == NULL || !is_as_sent(message, sent))
            good = say(text, "a message that was never sent so", user, message->mid);
        else
            found += sent->told <= position && sent->ended > position;
        before = message->mid;
    }
    if (good && found != mine)
        good = say(text, "stored messages are lost, so many are there", user, found);
    if (good && before > atomic_load(&part->mid_last))
        good = say(text, "the counter of mids is behind", user, before);
    change_end(window);
    return good;
}

static bool is_first_of(const struct crash_stored_list *list, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (strcmp(list->items[i].user, list->items[at].user) == 0)
            return false;
    return true;
}

static bool check_users(const struct crash_stored_list *list, struct part *part, uint64_t position,
                        char *text)
{
    for (size_t at = 0; at < list->count; at++) {
        const char *user = list->items[at].user;
        uint64_t mine = 0;
        if (!is_first_of(list, at))
            continue;
        for (size_t i = at; i < list->count; i++)
            mine += list->items[i].told <= position && list->items[i].ended > position &&
                    strcmp(list->items[i].user, user) == 0;
        if (!check_user(list, part, user, position, mine, text))
            return false;
    }
    return true;
}

/* The last of which Done was heard is known by its tag; a new one comes behind all. */
static bool check_goes_on(const struct crash_stored_list *list, struct part *part,
                          uint64_t position, char *text)
{
    const struct crash_stored *last = NULL;
    uint64_t highest = 0;
    bool repeated;
    for (size_t i = 0; i < list->count && list->items[i].told <= position; i++) {
        last = &list->items[i];
        highest = last->mid > highest ? last->mid : highest;
    }
    const char *user = last != NULL ? last->user : "after";
    if (last != NULL && (part_store(part, user, last->tag, &repeated) != last->mid || !repeated))
        return say(text, "a tag that is not known again", user, last->tag);
    uint64_t mid = part_store(part, user, 0, &repeated);
    return mid > highest || say(text, "a new mid is not above all that were told", user, mid);
}

bool crash_stored_check(const struct crash_stored_list *list, struct store *store,
                        uint64_t position, char *text)
{
    struct part part = {.store = store,
                        .metrics = metrics_create(1),
                        .limits = {.store_map_bytes = 64 << 20,
                                   .inbox_keep_max_s = KEEP_S,
                                   .inbox_stored_messages = EVERYTHING,
                                   .inbox_stored_bytes = EVERYTHING << 8,
                                   .inbox_stored_total = EVERYTHING,
                                   .inbox_stored_total_bytes = EVERYTHING << 8,
                                   .inbox_log_spare = 2}};
    bool good = part.metrics != NULL && part_open(&part);
    if (!good)
        return say(text, "what is stored cannot be opened", "", 0);
    good = check_users(list, &part, position, text) && check_goes_on(list, &part, position, text);
    struct stored_look before = stored_look(part.stored);
    uint64_t damaged = metrics_read(part.metrics, METRIC_log_damaged);
    stored_close(part.stored);
    if (good && damaged > 0)
        good = say(text, "values of the log are damaged", "", damaged);
    if (good && !part_open(&part))
        return say(text, "what is stored cannot be opened again", "", 0);
    if (good) {
        struct stored_look after = stored_look(part.stored);
        if (after.messages != before.messages || after.bytes != before.bytes)
            good = say(text, "a start finds another number", "", after.messages);
        stored_close(part.stored);
    }
    metrics_destroy(part.metrics);
    return good;
}
