/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/lock.h"
#include "storage/memory_log.h"
#include "storage/store_ops.h"

/* The store for tests and the simulation: the same contract, no disk.
 *
 * A transaction is a list of changes that nobody else sees; everything that can fail (memory) is
 * done while it grows. Commit applies the list under the mutex, so readers see all of it or
 * nothing, and abort or a crash is throwing the list away.
 *
 * The sessions are a skip list in byte order of the names: search and change cost the logarithm,
 * and a page of a listing is a walk along the lowest level. Heights come from a generator with a
 * fixed seed: the simulation must be the same in every run. The events are a ring, found by seq.
 * The log is memory_log.c's. Saved inboxes are chains under a hash of the name, in order of name
 * and seq; the head of an inbox is its entry of seq 0.
 *
 * A loss of power is a commit that fails and leaves its work behind or not. From then on nothing
 * is answered: what the process would still read is not what it finds after the crash.
 *
 * The writer alone touches the pending changes; everything else is shared and changes under the
 * mutex only, by the writer, so the writer may read it without. Faults and cuts are set by any
 * thread. */

enum {
    HEIGHT_MAX = 18, /* enough for 4^18 names, a level holds a quarter of the one below */
    RING_START = 64,
    INBOX_CHAINS = 1024,
    CURSORS_MAX = 4,
    REFUSALS_PART = 4, /* of the history, in addition */
};

struct session_node {
    struct session_node *pending_next; /* in the transaction */
    struct session_record record;
    uint8_t *rooms; /* of the record; NULL: none */
    bool is_delete;
    char user[STORE_NAME_BYTES_MAX + 1];
    int height;
    struct session_node *next[]; /* height of them; none in a delete */
};

struct event_node {
    struct event_node *pending_next;
    struct presence_event event;
};

struct inbox_entry {
    struct inbox_entry *pending_next;
    struct inbox_entry *next; /* in its chain */
    bool is_drop;             /* of all inboxes; the rest means nothing */
    char user[STORE_NAME_BYTES_MAX + 1];
    struct saved_inbox inbox;     /* of the entry with seq 0 */
    struct saved_message message; /* of the others */
    uint8_t bytes[];              /* name, payload and traceparent */
};

struct cursor {
    char reader[STORE_READER_BYTES_MAX + 1]; /* "": none */
    uint64_t seq;
};

struct history_node {
    struct history_node *pending_next;
    struct history_node *older, *newer;
    enum history_ring ring;
    struct history_record record;
};

struct history_list {
    struct history_node *oldest, *newest;
    uint64_t count, last;
};

struct memory_store {
    struct store base;
    uint64_t events_kept_max; /* set once, as the next two */
    uint64_t history_max[HISTORY_RINGS];
    uint64_t history_age_ms;

    /* the writer's: the open transaction, in order */
    struct session_node *sessions_pending;
    struct session_node **sessions_pending_end;
    struct event_node *events_pending;
    struct event_node **events_pending_end;
    uint64_t events_pending_count;
    struct inbox_entry *inboxes_pending;
    struct inbox_entry **inboxes_pending_end;
    struct cursor cursor_pending;
    struct history_node *history_pending;
    struct history_node **history_pending_end;
    uint64_t random;

    /* shared, changed by the writer under the mutex */
    struct lock mutex;
    struct session_node *head[HEIGHT_MAX];
    struct store_position position;
    struct event_node **ring; /* the event of a seq is in slot seq % ring_slots */
    uint64_t ring_slots;
    struct inbox_entry *inboxes[INBOX_CHAINS];
    struct cursor cursors[CURSORS_MAX];
    struct history_list histories[HISTORY_RINGS];
    struct memory_log log; /* its pending changes are the writer's */

    /* shared, changed by any thread under the mutex */
    int fault;         /* what commits fail with; 0: they do not */
    bool cut_is_armed; /* power is lost in the next commit */
    bool cut_is_kept;  /* and its work stays */
    bool is_cut;       /* it was lost */
};

static struct memory_store *memory_of(struct store *base)
{
    return (struct memory_store *)base;
}

/* --- the skip list ----------------------------------------------------------------------- */

/* For each level, the link that leads to the first name that is not before `user`. */
static void list_seek(struct memory_store *store, const char *user,
                      struct session_node **links[HEIGHT_MAX])
{
    CHECK(lock_held(&store->mutex));
    struct session_node *before = NULL;
    for (int level = HEIGHT_MAX - 1; level >= 0; level--) {
        struct session_node **link = before == NULL ? &store->head[level] : &before->next[level];
        while (*link != NULL && strcmp((*link)->user, user) < 0) {
            before = *link;
            link = &before->next[level];
        }
        links[level] = link;
    }
}

static struct session_node *list_first(struct memory_store *store, const char *start)
{
    struct session_node **links[HEIGHT_MAX];
    list_seek(store, start, links);
    return *links[0];
}

static int height_draw(struct memory_store *store)
{
    store->random ^= store->random << 13;
    store->random ^= store->random >> 7;
    store->random ^= store->random << 17;
    int height = 1;
    for (uint64_t bits = store->random; height < HEIGHT_MAX && (bits & 3) == 0; bits >>= 2)
        height++;
    return height;
}

static void session_free(struct session_node *node)
{
    free(node->rooms);
    free(node);
}

/* Takes the node. */
static void apply_put(struct memory_store *store, struct session_node *node)
{
    struct session_node **links[HEIGHT_MAX];
    list_seek(store, node->user, links);
    struct session_node *present = *links[0];
    if (present != NULL && strcmp(present->user, node->user) == 0) {
        uint8_t *old = present->rooms;
        present->record = node->record;
        present->rooms = node->rooms;
        node->rooms = old;
        session_free(node);
        return;
    }
    CHECK(node->height >= 1 && node->height <= HEIGHT_MAX);
    for (int level = 0; level < node->height; level++) {
        node->next[level] = *links[level];
        *links[level] = node;
    }
    store->position.sessions++;
}

/* Takes the node, which only bears the name. */
static void apply_delete(struct memory_store *store, struct session_node *node)
{
    struct session_node **links[HEIGHT_MAX];
    list_seek(store, node->user, links);
    struct session_node *present = *links[0];
    if (present != NULL && strcmp(present->user, node->user) == 0) {
        for (int level = 0; level < present->height; level++)
            *links[level] = present->next[level];
        session_free(present);
        CHECK(store->position.sessions > 0);
        store->position.sessions--;
    }
    session_free(node);
}

/* --- the ring of events ------------------------------------------------------------------ */

static uint64_t events_kept(const struct memory_store *store)
{
    return store->position.presence_last + 1 - store->position.presence_first;
}

/* Room for `count` events. The slots of the old ring move to where their seq says. */
static int ring_reserve(struct memory_store *store, uint64_t count)
{
    if (count <= store->ring_slots)
        return 0;
    uint64_t slots = store->ring_slots == 0 ? RING_START : store->ring_slots;
    while (slots < count)
        slots *= 2;
    struct event_node **ring = calloc(slots, sizeof(struct event_node *));
    if (ring == NULL)
        return -ENOMEM;
    lock_take(&store->mutex);
    const struct store_position *position = &store->position;
    CHECK(events_kept(store) <= store->ring_slots);
    for (uint64_t seq = position->presence_first; seq <= position->presence_last; seq++)
        ring[seq % slots] = store->ring[seq % store->ring_slots];
    struct event_node **old = store->ring;
    store->ring = ring;
    store->ring_slots = slots;
    lock_give(&store->mutex);
    free(old);
    return 0;
}

static void drop_oldest(struct memory_store *store)
{
    struct event_node **slot = &store->ring[store->position.presence_first % store->ring_slots];
    CHECK(*slot != NULL && (*slot)->event.seq == store->position.presence_first);
    free(*slot);
    *slot = NULL;
    store->position.presence_first++;
}

/* Takes the node. There is space: for as many as are kept, so the oldest goes first. */
static void apply_event(struct memory_store *store, struct event_node *node)
{
    CHECK(lock_held(&store->mutex) && node->event.seq == store->position.presence_last + 1);
    if (events_kept(store) > 0 && events_kept(store) >= store->events_kept_max)
        drop_oldest(store);
    store->position.presence_last++;
    if (store->events_kept_max == 0) {
        store->position.presence_first++;
        free(node);
        return;
    }
    struct event_node **slot = &store->ring[node->event.seq % store->ring_slots];
    CHECK(*slot == NULL && events_kept(store) <= store->ring_slots);
    *slot = node;
}

/* --- saved inboxes ----------------------------------------------------------------------- */

static struct inbox_entry **inbox_chain(struct memory_store *store, const char *user)
{
    uint32_t hash = 2166136261u;
    for (; *user != '\0'; user++)
        hash = (hash ^ (uint8_t)*user) * 16777619u;
    return &store->inboxes[hash % INBOX_CHAINS];
}

/* The link that leads to the first entry of the chain that is not before (user, seq). */
static struct inbox_entry **inbox_seek(struct memory_store *store, const char *user, uint64_t seq)
{
    CHECK(lock_held(&store->mutex));
    struct inbox_entry **link = inbox_chain(store, user);
    for (; *link != NULL; link = &(*link)->next) {
        int order = strcmp((*link)->user, user);
        if (order > 0 || (order == 0 && (*link)->message.seq >= seq))
            break;
    }
    return link;
}

/* Takes the entry. */
static void apply_inbox(struct memory_store *store, struct inbox_entry *entry)
{
    struct inbox_entry **link = inbox_seek(store, entry->user, entry->message.seq);
    struct inbox_entry *present = *link;
    entry->next = present;
    *link = entry;
    if (present != NULL && present->message.seq == entry->message.seq &&
        strcmp(present->user, entry->user) == 0) {
        entry->next = present->next;
        free(present);
    }
}

static void inboxes_free(struct memory_store *store)
{
    for (size_t i = 0; i < INBOX_CHAINS; i++) {
        while (store->inboxes[i] != NULL) {
            struct inbox_entry *next = store->inboxes[i]->next;
            free(store->inboxes[i]);
            store->inboxes[i] = next;
        }
    }
}

/* --- the history ------------------------------------------------------------------------- */

static void drop_oldest_history(struct history_list *list)
{
    struct history_node *oldest = list->oldest;
    list->oldest = oldest->newer;
    if (list->oldest != NULL)
        list->oldest->older = NULL;
    else
        list->newest = NULL;
    list->count--;
    free(oldest);
}

static bool is_too_old(const struct memory_store *store, const struct history_list *list,
                       uint64_t now_ms)
{
    return store->history_age_ms != 0 && now_ms > store->history_age_ms &&
           list->oldest->record.time_ms < now_ms - store->history_age_ms;
}

/* Takes the node. */
static void apply_history(struct memory_store *store, struct history_node *node)
{
    struct history_list *list = &store->histories[node->ring];
    uint64_t now_ms = node->record.time_ms;
    node->record.seq = ++list->last;
    node->older = list->newest;
    node->newer = NULL;
    if (list->newest != NULL)
        list->newest->newer = node;
    else
        list->oldest = node;
    list->newest = node;
    list->count++;
    while (list->count > 0 &&
           (list->count > store->history_max[node->ring] || is_too_old(store, list, now_ms)))
        drop_oldest_history(list);
}

/* --- writing ----------------------------------------------------------------------------- */

static void pending_reset(struct memory_store *store)
{
    store->sessions_pending = NULL;
    store->sessions_pending_end = &store->sessions_pending;
    store->events_pending = NULL;
    store->events_pending_end = &store->events_pending;
    store->events_pending_count = 0;
    store->inboxes_pending = NULL;
    store->inboxes_pending_end = &store->inboxes_pending;
    store->cursor_pending.reader[0] = '\0';
    store->history_pending = NULL;
    store->history_pending_end = &store->history_pending;
}

/* Nothing is left of the transaction before. */
static bool is_clear(const struct memory_store *store)
{
    return store->sessions_pending == NULL && store->events_pending == NULL &&
           store->inboxes_pending == NULL && store->history_pending == NULL &&
           store->log.pending == NULL && store->events_pending_count == 0;
}

static int memory_begin(struct store *base)
{
    struct memory_store *store = memory_of(base);
    lock_take(&store->mutex);
    bool is_cut = store->is_cut;
    lock_give(&store->mutex);
    if (is_cut)
        return -EIO;
    CHECK(is_clear(store));
    return 0;
}

static struct session_node *session_node_create(const char *user, int height)
{
    size_t size = sizeof(struct session_node) + (size_t)height * sizeof(struct session_node *);
    CHECK(strlen(user) <= STORE_NAME_BYTES_MAX);
    struct session_node *node = calloc(1, size);
    if (node == NULL)
        return NULL;
    memcpy(node->user, user, strlen(user));
    node->height = height;
    return node;
}

static void session_pend(struct memory_store *store, struct session_node *node)
{
    *store->sessions_pending_end = node;
    store->sessions_pending_end = &node->pending_next;
}

/* The caller's are borrowed. */
static bool keep_rooms(struct session_node *node)
{
    struct bytes *rooms = &node->record.rooms;
    if (rooms->size == 0)
        return true;
    node->rooms = malloc(rooms->size);
    if (node->rooms == NULL)
        return false;
    memcpy(node->rooms, rooms->data, rooms->size);
    rooms->data = node->rooms;
    return true;
}

static int memory_put_session(struct store *base, const char *user,
                              const struct session_record *record)
{
    struct memory_store *store = memory_of(base);
    struct session_node *node = session_node_create(user, height_draw(store));
    if (node == NULL)
        return -ENOMEM;
    node->record = *record;
    if (!keep_rooms(node)) {
        session_free(node);
        return -ENOMEM;
    }
    session_pend(store, node);
    return 0;
}

static int memory_delete_session(struct store *base, const char *user)
{
    struct session_node *node = session_node_create(user, 0);
    if (node == NULL)
        return -ENOMEM;
    node->is_delete = true;
    session_pend(memory_of(base), node);
    return 0;
}

static int memory_append_event(struct store *base, struct presence_event *event)
{
    struct memory_store *store = memory_of(base);
    uint64_t count = events_kept(store) + store->events_pending_count + 1;
    if (count > store->events_kept_max)
        count = store->events_kept_max;
    int result = ring_reserve(store, count);
    if (result < 0)
        return result;
    struct event_node *node = calloc(1, sizeof(*node));
    if (node == NULL)
        return -ENOMEM;
    store->events_pending_count++;
    event->seq = store->position.presence_last + store->events_pending_count;
    node->event = *event;
    *store->events_pending_end = node;
    store->events_pending_end = &node->pending_next;
    return 0;
}

static struct inbox_entry *inbox_pend(struct memory_store *store, const char *user, size_t bytes)
{
    CHECK(strlen(user) <= STORE_NAME_BYTES_MAX);
    struct inbox_entry *entry = calloc(1, sizeof(*entry) + bytes);
    if (entry == NULL)
        return NULL;
    memcpy(entry->user, user, strlen(user));
    *store->inboxes_pending_end = entry;
    store->inboxes_pending_end = &entry->pending_next;
    return entry;
}

static int memory_put_inbox(struct store *base, const char *user, const struct saved_inbox *inbox)
{
    struct inbox_entry *entry = inbox_pend(memory_of(base), user, 0);
    if (entry == NULL)
        return -ENOMEM;
    entry->inbox = *inbox;
    return 0;
}

static struct bytes bytes_copy(uint8_t *to, struct bytes bytes)
{
    if (bytes.size > 0)
        memcpy(to, bytes.data, bytes.size);
    return (struct bytes){to, bytes.size};
}

static int memory_put_message(struct store *base, const char *user,
                              const struct saved_message *message)
{
    size_t bytes = message->name.size + message->payload.size + message->traceparent.size;
    struct inbox_entry *entry = inbox_pend(memory_of(base), user, bytes);
    if (entry == NULL)
        return -ENOMEM;
    entry->message = *message;
    entry->message.name = bytes_copy(entry->bytes, message->name);
    entry->message.payload = bytes_copy(entry->bytes + message->name.size, message->payload);
    entry->message.traceparent =
        bytes_copy(entry->bytes + message->name.size + message->payload.size, message->traceparent);
    return 0;
}

static int memory_drop_inboxes(struct store *base)
{
    struct inbox_entry *entry = inbox_pend(memory_of(base), "", 0);
    if (entry == NULL)
        return -ENOMEM;
    entry->is_drop = true;
    return 0;
}

/* The place of that reader, or a free one; NULL: there is none. */
static struct cursor *cursor_find(struct memory_store *store, const char *reader)
{
    for (size_t i = 0; i < CURSORS_MAX; i++)
        if (store->cursors[i].reader[0] == '\0' || strcmp(store->cursors[i].reader, reader) == 0)
            return &store->cursors[i];
    return NULL;
}

/* One in a transaction, which is all that anybody puts. */
static int memory_put_cursor(struct store *base, const char *reader, uint64_t seq)
{
    struct memory_store *store = memory_of(base);
    CHECK(strlen(reader) <= STORE_READER_BYTES_MAX);
    if (cursor_find(store, reader) == NULL)
        return -ENOSPC;
    strcpy(store->cursor_pending.reader, reader);
    store->cursor_pending.seq = seq;
    return 0;
}

static int memory_append_history(struct store *base, enum history_ring ring,
                                 const struct history_record *record)
{
    struct memory_store *store = memory_of(base);
    if (store->history_max[ring] == 0)
        return 0;
    struct history_node *node = calloc(1, sizeof(*node));
    if (node == NULL)
        return -ENOMEM;
    node->ring = ring;
    node->record = *record;
    *store->history_pending_end = node;
    store->history_pending_end = &node->pending_next;
    return 1;
}

static int memory_append_log(struct store *base, struct bytes value, bool spares, uint64_t *number)
{
    struct memory_store *store = memory_of(base);
    return memory_log_append(&store->log, &store->mutex, value, spares, number);
}

static int memory_drop_log(struct store *base, uint64_t number)
{
    return memory_log_drop(&memory_of(base)->log, number);
}

static void memory_abort(struct store *base)
{
    struct memory_store *store = memory_of(base);
    struct session_node *session = store->sessions_pending;
    while (session != NULL) {
        struct session_node *next = session->pending_next;
        session_free(session);
        session = next;
    }
    struct event_node *event = store->events_pending;
    while (event != NULL) {
        struct event_node *next = event->pending_next;
        free(event);
        event = next;
    }
    struct inbox_entry *entry = store->inboxes_pending;
    while (entry != NULL) {
        struct inbox_entry *next = entry->pending_next;
        free(entry);
        entry = next;
    }
    struct history_node *told = store->history_pending;
    while (told != NULL) {
        struct history_node *next = told->pending_next;
        free(told);
        told = next;
    }
    memory_log_abort(&store->log);
    pending_reset(store);
}

static void pending_apply(struct memory_store *store)
{
    struct session_node *session = store->sessions_pending;
    while (session != NULL) {
        struct session_node *next = session->pending_next;
        if (session->is_delete)
            apply_delete(store, session);
        else
            apply_put(store, session);
        session = next;
    }
    struct event_node *event = store->events_pending;
    while (event != NULL) {
        struct event_node *next = event->pending_next;
        apply_event(store, event);
        event = next;
    }
    struct inbox_entry *entry = store->inboxes_pending;
    while (entry != NULL) {
        struct inbox_entry *next = entry->pending_next;
        if (entry->is_drop) {
            inboxes_free(store);
            free(entry);
        } else {
            apply_inbox(store, entry);
        }
        entry = next;
    }
    struct history_node *told = store->history_pending;
    while (told != NULL) {
        struct history_node *next = told->pending_next;
        apply_history(store, told);
        told = next;
    }
}

static void cursor_apply(struct memory_store *store)
{
    const struct cursor *pending = &store->cursor_pending;
    if (pending->reader[0] != '\0')
        *cursor_find(store, pending->reader) = *pending;
}

/* Takes the pending changes over; they are gone from the list then. */
static void commit_apply(struct memory_store *store, uint64_t epoch_last)
{
    uint64_t last = store->position.presence_last + store->events_pending_count;
    pending_apply(store);
    cursor_apply(store);
    memory_log_apply(&store->log);
    pending_reset(store);
    CHECK(store->position.presence_last == last);
    if (epoch_last > store->position.epoch_last)
        store->position.epoch_last = epoch_last;
}

static int memory_commit(struct store *base, uint64_t epoch_last)
{
    struct memory_store *store = memory_of(base);
    lock_take(&store->mutex);
    int result = store->fault;
    if (result == 0 && store->cut_is_armed) {
        store->is_cut = true;
        result = -EIO;
    }
    if (result == 0 || (store->is_cut && store->cut_is_kept))
        commit_apply(store, epoch_last);
    lock_give(&store->mutex);
    memory_abort(base);
    return result;
}

/* --- reading ----------------------------------------------------------------------------- */

/* Every 0 is followed by read_end. */
static int read_begin(struct memory_store *store)
{
    lock_take(&store->mutex);
    if (!store->is_cut)
        return 0;
    lock_give(&store->mutex);
    return -EIO;
}

static void read_end(struct memory_store *store)
{
    lock_give(&store->mutex);
}

static struct store_position position_of(const struct memory_store *store)
{
    struct store_position position = store->position;
    memory_log_position(&store->log, &position);
    return position;
}

static int memory_position(struct store *base, struct store_position *position)
{
    struct memory_store *store = memory_of(base);
    int result = read_begin(store);
    if (result < 0)
        return result;
    *position = position_of(store);
    read_end(store);
    return 0;
}

static int memory_look_up(struct store *base, const char *const *users, size_t count,
                          store_session_each *each, void *context, uint64_t *presence_last)
{
    struct memory_store *store = memory_of(base);
    int result = read_begin(store);
    if (result < 0)
        return result;
    *presence_last = store->position.presence_last;
    bool wanted = true;
    for (size_t i = 0; wanted && i < count; i++) {
        const struct session_node *node =
            store_name_is_usable(users[i]) ? list_first(store, users[i]) : NULL;
        bool found = node != NULL && strcmp(node->user, users[i]) == 0;
        wanted = each(context, users[i], found ? &node->record : NULL);
    }
    read_end(store);
    return 0;
}

static int memory_list_sessions(struct store *base, const struct store_query *query,
                                store_session_each *each, void *context, uint64_t *presence_last,
                                bool *more)
{
    struct memory_store *store = memory_of(base);
    size_t given = 0;
    bool wanted = true;
    *more = false;
    int result = read_begin(store);
    if (result < 0)
        return result;
    *presence_last = store->position.presence_last;
    const struct session_node *node = list_first(store, query->start);
    for (; node != NULL && !store_query_is_past(query, node->user); node = node->next[0]) {
        if (!store_query_matches(query, node->user))
            continue;
        if (!wanted || given == query->limit) {
            *more = true;
            break;
        }
        given++;
        wanted = each(context, node->user, &node->record);
    }
    read_end(store);
    return 0;
}

static int memory_read_events(struct store *base, uint64_t after, size_t limit,
                              store_event_each *each, void *context,
                              struct store_position *position)
{
    struct memory_store *store = memory_of(base);
    int result = read_begin(store);
    if (result < 0)
        return result;
    *position = position_of(store);
    uint64_t seq = position->presence_first;
    if (after >= position->presence_last)
        limit = 0;
    else if (after >= seq)
        seq = after + 1;
    for (; limit > 0 && seq <= position->presence_last; limit--, seq++) {
        const struct event_node *node = store->ring[seq % store->ring_slots];
        CHECK(node->event.seq == seq);
        if (!each(context, &node->event))
            break;
    }
    read_end(store);
    return 0;
}

static int memory_get_cursor(struct store *base, const char *reader, uint64_t *seq)
{
    struct memory_store *store = memory_of(base);
    int result = read_begin(store);
    if (result < 0)
        return result;
    const struct cursor *cursor = cursor_find(store, reader);
    bool found = cursor != NULL && cursor->reader[0] != '\0';
    if (found)
        *seq = cursor->seq;
    read_end(store);
    return found ? 0 : -ENOENT;
}

/* NULL: there is none. */
static const struct history_node *newest_before(const struct history_list *list, uint64_t before)
{
    const struct history_node *node = list->newest;
    while (node != NULL && before != 0 && node->record.seq >= before)
        node = node->older;
    return node;
}

static int memory_read_history(struct store *base, const struct history_query *query,
                               store_history_each *each, void *context, struct history_page *page)
{
    struct memory_store *store = memory_of(base);
    int result = read_begin(store);
    if (result < 0)
        return result;
    const struct history_list *list = &store->histories[query->ring];
    size_t given = 0;
    page->records = list->count;
    page->first_ms = list->oldest != NULL ? list->oldest->record.time_ms : 0;
    for (const struct history_node *node = newest_before(list, query->before); node != NULL;
         node = node->older) {
        if (given == query->limit) {
            page->next = node->record.seq + 1;
            break;
        }
        bool wanted = query->user[0] == '\0' || strcmp(query->user, node->record.user) == 0;
        if (!wanted || node->record.time_ms < query->since_ms)
            continue;
        given++;
        if (!each(context, &node->record)) {
            page->next = node->record.seq + 1;
            break;
        }
    }
    read_end(store);
    return 0;
}

static int memory_read_log(struct store *base, uint64_t from, store_log_each *each, void *context)
{
    struct memory_store *store = memory_of(base);
    int result = read_begin(store);
    if (result < 0)
        return result;
    memory_log_read(&store->log, from, each, context);
    read_end(store);
    return 0;
}

static int memory_get_log(struct store *base, const uint64_t *numbers, size_t count,
                          store_log_each *each, void *context)
{
    struct memory_store *store = memory_of(base);
    int result = read_begin(store);
    if (result < 0)
        return result;
    memory_log_get(&store->log, numbers, count, each, context);
    read_end(store);
    return 0;
}

static int memory_read_inbox(struct store *base, const char *user, struct saved_inbox *inbox,
                             store_message_each *each, void *context)
{
    struct memory_store *store = memory_of(base);
    int result = read_begin(store);
    if (result < 0)
        return result;
    const struct inbox_entry *entry = *inbox_seek(store, user, 0);
    bool found = entry != NULL && entry->message.seq == 0 && strcmp(entry->user, user) == 0;
    if (found)
        *inbox = entry->inbox;
    while (found && (entry = entry->next) != NULL && strcmp(entry->user, user) == 0)
        if (!each(context, &entry->message))
            break;
    read_end(store);
    return found ? 0 : -ENOENT;
}

/* --- life -------------------------------------------------------------------------------- */

static void memory_close(struct store *base)
{
    struct memory_store *store = memory_of(base);
    CHECK(is_clear(store));
    struct session_node *node = store->head[0];
    while (node != NULL) {
        struct session_node *next = node->next[0];
        session_free(node);
        node = next;
    }
    while (events_kept(store) > 0)
        drop_oldest(store);
    free(store->ring);
    inboxes_free(store);
    for (int ring = 0; ring < HISTORY_RINGS; ring++)
        while (store->histories[ring].count > 0)
            drop_oldest_history(&store->histories[ring]);
    memory_log_fini(&store->log);
    lock_destroy(&store->mutex);
    free(store);
}

static const struct store_ops memory_ops = {
    .close = memory_close,
    .begin = memory_begin,
    .put_session = memory_put_session,
    .delete_session = memory_delete_session,
    .append_event = memory_append_event,
    .append_history = memory_append_history,
    .append_log = memory_append_log,
    .drop_log = memory_drop_log,
    .put_inbox = memory_put_inbox,
    .put_message = memory_put_message,
    .drop_inboxes = memory_drop_inboxes,
    .put_cursor = memory_put_cursor,
    .commit = memory_commit,
    .abort = memory_abort,
    .position = memory_position,
    .look_up = memory_look_up,
    .list_sessions = memory_list_sessions,
    .read_events = memory_read_events,
    .get_cursor = memory_get_cursor,
    .read_history = memory_read_history,
    .read_log = memory_read_log,
    .get_log = memory_get_log,
    .read_inbox = memory_read_inbox,
};

int store_open_memory(struct store **out, const struct store_options *options)
{
    struct memory_store *store = calloc(1, sizeof(*store));
    if (store == NULL)
        return -ENOMEM;
    lock_init(&store->mutex);
    store->base.ops = &memory_ops;
    store->events_kept_max = options->events_kept_max;
    store->history_max[HISTORY_SESSIONS] = options->history_max;
    store->history_max[HISTORY_REFUSALS] = options->history_max / REFUSALS_PART;
    store->history_age_ms = options->history_age_ms;
    store->position.presence_first = 1;
    store->random = UINT64_C(0x9E3779B97F4A7C15);
    memory_log_init(&store->log);
    pending_reset(store);
    *out = &store->base;
    return 0;
}

void store_memory_fail(struct store *base, int error)
{
    struct memory_store *store = memory_of(base);
    lock_take(&store->mutex);
    store->fault = error;
    lock_give(&store->mutex);
}

void store_memory_crash(struct store *base)
{
    struct memory_store *store = memory_of(base);
    store_abort(base);
    lock_take(&store->mutex);
    store->cut_is_armed = false;
    store->is_cut = false;
    lock_give(&store->mutex);
}

void store_memory_cut(struct store *base, bool kept)
{
    struct memory_store *store = memory_of(base);
    lock_take(&store->mutex);
    store->cut_is_armed = true;
    store->cut_is_kept = kept;
    lock_give(&store->mutex);
}

bool store_memory_is_cut(const struct store *base)
{
    struct memory_store *store = memory_of((struct store *)base);
    lock_take(&store->mutex);
    bool is_cut = store->is_cut;
    lock_give(&store->mutex);
    return is_cut;
}

void store_memory_bound_log(struct store *base, uint64_t bytes_max)
{
    struct memory_store *store = memory_of(base);
    lock_take(&store->mutex);
    store->log.bytes_max = bytes_max;
    lock_give(&store->mutex);
}

void store_memory_damage_log(struct store *base, uint64_t number)
{
    struct memory_store *store = memory_of(base);
    lock_take(&store->mutex);
    memory_log_damage(&store->log, number);
    lock_give(&store->mutex);
}
