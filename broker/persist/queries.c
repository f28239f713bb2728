/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "actors/events.h"
#include "base/check.h"
#include "base/memory.h"
#include "base/wait.h"
#include "broker/parts.h"
#include "persist/queries.h"
#include "proto/arena.h"
#include "proto/varint.h"

/* The one thread that reads the store for backends, so that a slow disk delays only them. Each
 * query is answered by a post to whoever asked, with a Result already encoded, no longer than the
 * query allows.
 *
 * Who asks much waits for himself. The queries of each *source* (a linked instance, or a connection
 * without a link) wait in a line of their own, and one query of each line is answered in turn;
 * those of instances and those of others take turns as well, so that however many come without a
 * link, an instance waits for one query of theirs at a time. There are as many lines as there are
 * places in a small table, which sources share by chance; a query is short, as its answer is
 * bounded and what it reads with it.
 *
 * A page of sessions or events is cut where the room ends; `more` says so, and the asker goes on
 * after the last name or seq. Every page is one consistent state of the store, and says which. */

enum {
    PAGE_ROWS_MAX = 1024,
    RESULT_OVERHEAD = 48,
    ROW_OVERHEAD = 16,
    EVENT_BYTES_MAX = 512,
    BATCH_PRESENCE_TAG = 2 << 3 | 2
};

enum { LINES = 256 };

/* The queries of a source. While it has some it stands in its round. */
struct line {
    struct message *first, *last;
    struct line *next;
};

/* The lines that wait, the next one first. */
struct round {
    struct line *first, *last;
    struct line lines[LINES];
};

struct queries {
    struct broker *broker;
    pthread_t pthread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t more;
    /* under lock */
    struct round rounds[2]; /* 1: of those who are linked */
    unsigned turn;          /* whose is next */
    bool closing;
};

static void round_add(struct round *round, struct line *line)
{
    line->next = NULL;
    if (round->last != NULL)
        round->last->next = line;
    else
        round->first = line;
    round->last = line;
}

void queries_submit(struct queries *queries, struct query_message *query)
{
    struct round *round = &queries->rounds[query->linked];
    struct line *line = &round->lines[query->source % LINES];
    query->header.next = NULL;
    pthread_mutex_lock(&queries->lock);
    if (line->first != NULL)
        line->last->next = &query->header;
    else
        line->first = &query->header;
    line->last = &query->header;
    if (line->first == &query->header)
        round_add(round, line);
    pthread_mutex_unlock(&queries->lock);
    pthread_cond_signal(&queries->more);
}

/* The lock is held. */
static bool none_waits(const struct queries *queries)
{
    return queries->rounds[0].first == NULL && queries->rounds[1].first == NULL;
}

/* The first of the line whose turn it is, which then goes to the end of its round; NULL: none
 * waits. The lock is held. */
static struct message *take_next(struct queries *queries)
{
    queries->turn = !queries->turn;
    if (queries->rounds[queries->turn].first == NULL)
        queries->turn = !queries->turn;
    struct round *round = &queries->rounds[queries->turn];
    struct line *line = round->first;
    if (line == NULL)
        return NULL;
    struct message *query = line->first;
    line->first = query->next;
    round->first = line->next;
    if (round->first == NULL)
        round->last = NULL;
    if (line->first != NULL)
        round_add(round, line);
    return query;
}

static void reply(struct broker *broker, const struct query_message *query,
                  const struct query_result_message *head, const struct buffer *bytes)
{
    struct query_result_message *result;
    size_t result_bytes = sizeof(*result) + bytes->size;
    MEMORY_MUST((result = message_create(MESSAGE_QUERY_RESULT, result_bytes)) != NULL, "a result");
    struct message header = result->header;
    *result = *head;
    result->header = header;
    result->kind = query->kind;
    result->token = query->token;
    result->size = (uint32_t)bytes->size;
    if (bytes->size > 0)
        memcpy(result->bytes, bytes->data, bytes->size);
    if (scheduler_post(broker->scheduler, NULL, query->asker, &result->header) != 0)
        message_destroy(&result->header);
}

static void pack_result(struct buffer *out, const Usher__V1__Result *result)
{
    size_t size = usher__v1__result__get_packed_size(result);
    uint8_t *to;
    MEMORY_MUST((to = buffer_reserve(out, size)) != NULL, "a result");
    out->size += usher__v1__result__pack(result, to);
}

static void pack_code(struct buffer *out, int error)
{
    Usher__V1__Result result = USHER__V1__RESULT__INIT;
    result.code = error == -ENOENT ? USHER__V1__RESULT__CODE__NOT_ONLINE
                                   : USHER__V1__RESULT__CODE__UNAVAILABLE;
    pack_result(out, &result);
}

/* The room for what a Result holds. */
static size_t room_of(const struct query_message *query)
{
    return query->bytes_max > RESULT_OVERHEAD ? query->bytes_max - RESULT_OVERHEAD : 0;
}

/* --- sessions --------------------------------------------------------------------------------- */

struct page {
    struct broker *broker;
    size_t room;
    size_t limit;
    bool full;
    size_t count;
    Usher__V1__SessionInfo *rows[PAGE_ROWS_MAX];
};

static char *copy_of(const char *text)
{
    char *copy;
    MEMORY_MUST((copy = strdup(text)) != NULL, "a page");
    return copy;
}

static Usher__V1__SessionInfo *row_of(struct broker *broker, const char *user,
                                      const struct session_record *record)
{
    Usher__V1__SessionInfo *row;
    MEMORY_MUST((row = malloc(sizeof(*row))) != NULL, "a page");
    usher__v1__session_info__init(row);
    row->user = copy_of(user);
    row->state = USHER__V1__SESSION_INFO__STATE__GONE;
    if (record != NULL) {
        row->state = (Usher__V1__SessionInfo__State)record->state; /* the same numbers */
        row->epoch = record->epoch;
        row->since_ms = record->since_ms;
        row->node = copy_of(broker->settings.node);
        row->address = copy_of(record->address);
        row->client = copy_of(record->client);
    }
    return row;
}

static bool add_row(void *context, const char *user, const struct session_record *record)
{
    struct page *page = context;
    if (page->count == page->limit || page->full) {
        page->full = true;
        return false;
    }
    Usher__V1__SessionInfo *row = row_of(page->broker, user, record);
    size_t size = usher__v1__session_info__get_packed_size(row) + ROW_OVERHEAD;
    if (size > page->room) {
        usher__v1__session_info__free_unpacked(row, NULL);
        page->full = true;
        return false;
    }
    page->room -= size;
    page->rows[page->count++] = row;
    return true;
}

static void pack_page(struct buffer *out, struct page *page, uint64_t presence_seq, bool more)
{
    Usher__V1__Result result = USHER__V1__RESULT__INIT;
    Usher__V1__SessionList list = USHER__V1__SESSION_LIST__INIT;
    for (size_t i = 0; i < page->count; i++)
        page->rows[i]->inbox_messages = registry_gauge(page->broker->registry, page->rows[i]->user,
                                                       strlen(page->rows[i]->user));
    list.sessions = page->rows;
    list.n_sessions = page->count;
    list.presence_seq = presence_seq;
    list.more = more;
    result.value_case = USHER__V1__RESULT__VALUE_SESSIONS;
    result.sessions = &list;
    pack_result(out, &result);
}

static void free_page(struct page *page)
{
    for (size_t i = 0; i < page->count; i++)
        usher__v1__session_info__free_unpacked(page->rows[i], NULL);
    free(page);
}

static struct page *new_page(struct broker *broker, const struct query_message *query,
                             uint32_t limit)
{
    struct page *page;
    MEMORY_MUST((page = calloc(1, sizeof(*page))) != NULL, "a page");
    page->broker = broker;
    page->room = room_of(query);
    page->limit = limit != 0 && limit < PAGE_ROWS_MAX ? limit : PAGE_ROWS_MAX;
    return page;
}

static void list_sessions(struct broker *broker, const struct query_message *query,
                          const char *prefix, const char *after, uint32_t limit, struct buffer *out)
{
    struct page *page = new_page(broker, query, limit);
    uint64_t presence_seq = 0;
    bool more = false;
    int error = store_list_sessions(broker->store, prefix, after, page->limit, add_row, page,
                                    &presence_seq, &more);
    if (error != 0)
        pack_code(out, error);
    else
        pack_page(out, page, presence_seq, more || page->full);
    free_page(page);
}

static void look_up(struct broker *broker, const struct query_message *query,
                    const Usher__V1__Lookup *lookup, struct buffer *out)
{
    struct page *page = new_page(broker, query, 0);
    uint64_t presence_last;
    int error = store_look_up(broker->store, (const char *const *)lookup->users, lookup->n_users,
                              add_row, page, &presence_last);
    if (error != 0)
        pack_code(out, error);
    else
        pack_page(out, page, presence_last, page->full);
    free_page(page);
}

/* --- events ----------------------------------------------------------------------------------- */

struct event_run {
    struct buffer *out; /* fields of a message, each with `tag` */
    uint8_t tag;
    size_t room;
    uint64_t first, last;
};

static bool add_event(void *context, const struct presence_event *event)
{
    struct event_run *run = context;
    uint8_t bytes[EVENT_BYTES_MAX];
    uint8_t head[1 + VARINT_BYTES_MAX] = {run->tag};
    size_t size = presence_event_pack(event, bytes, sizeof(bytes));
    size_t head_size = 1 + varint_write(head + 1, size);
    if (size == 0 || head_size + size > run->room)
        return false;
    MEMORY_MUST(buffer_append(run->out, head, head_size) == 0, "events");
    MEMORY_MUST(buffer_append(run->out, bytes, size) == 0, "events");
    run->room -= head_size + size;
    run->first = run->first ? run->first : event->seq;
    run->last = event->seq;
    return true;
}

static bool some_are_gone(uint64_t after, const struct store_position *position)
{
    return position->presence_first > after && position->presence_first - after > 1;
}

static void read_presence(struct broker *broker, const struct query_message *query)
{
    struct buffer out = {0};
    struct event_run run = {&out, BATCH_PRESENCE_TAG, query->bytes_max, 0, 0};
    struct store_position position = {0};
    int error =
        store_read_events(broker->store, query->after, PAGE_ROWS_MAX, add_event, &run, &position);
    /* A record that cannot be read is missed like one that is gone, when all before it have been
     * told. */
    bool damaged = error == -EUCLEAN && position.presence_last > query->after;
    struct query_result_message head = {
        .first = run.first,
        .last = run.last,
        .stream_last = position.presence_last,
        .reset = some_are_gone(query->after, &position) || (damaged && run.first == 0),
        .failed = error != 0 && !damaged,
    };
    if (head.failed || head.reset) {
        head.first = head.last = 0;
        out.size = 0;
    }
    head.reset = head.reset && !head.failed;
    reply(broker, query, &head, &out);
    buffer_fini(&out);
}

/* EventList by hand: its events are encoded already. */
static void list_events(struct broker *broker, const struct query_message *query,
                        const Usher__V1__Events *events, struct buffer *out)
{
    enum {
        EVENTS_TAG = 1 << 3 | 2,
        LAST_TAG = 2 << 3,
        RESET_TAG = 3 << 3,
        RESULT_EVENTS_TAG = 3 << 3 | 2
    };
    struct buffer list = {0};
    struct event_run run = {&list, EVENTS_TAG, room_of(query), 0, 0};
    struct store_position position = {0};
    size_t limit =
        events->limit != 0 && events->limit < PAGE_ROWS_MAX ? events->limit : PAGE_ROWS_MAX;
    int error = store_read_events(broker->store, events->after, limit, add_event, &run, &position);
    if (error != 0) {
        pack_code(out, error);
    } else {
        uint8_t tail[2 + VARINT_BYTES_MAX * 2] = {LAST_TAG};
        size_t size = 1 + varint_write(tail + 1, position.presence_last);
        if (some_are_gone(events->after, &position)) {
            tail[size++] = RESET_TAG;
            tail[size++] = 1;
        }
        uint8_t head[1 + VARINT_BYTES_MAX] = {RESULT_EVENTS_TAG};
        MEMORY_MUST(buffer_append(&list, tail, size) == 0, "events");
        size_t head_size = 1 + varint_write(head + 1, list.size);
        MEMORY_MUST(buffer_append(out, head, head_size) == 0, "events");
        MEMORY_MUST(buffer_append(out, list.data, list.size) == 0, "events");
    }
    buffer_fini(&list);
}

/* --- numbers ---------------------------------------------------------------------------------- */

static void pack_numbers(struct buffer *out, Usher__V1__Number *numbers, size_t count)
{
    Usher__V1__Result result = USHER__V1__RESULT__INIT;
    Usher__V1__NumberList list = USHER__V1__NUMBER_LIST__INIT;
    Usher__V1__Number *pointers[METRIC_COUNT + 8];
    for (size_t i = 0; i < count; i++)
        pointers[i] = &numbers[i];
    list.numbers = pointers;
    list.n_numbers = count;
    result.value_case = USHER__V1__RESULT__VALUE_NUMBERS;
    result.numbers = &list;
    pack_result(out, &result);
}

static void put_number(Usher__V1__Number *numbers, size_t *count, const char *name, uint64_t value)
{
    Usher__V1__Number *number = &numbers[(*count)++];
    usher__v1__number__init(number);
    number->name = (char *)name;
    number->value = value;
}

static void count_sessions(struct broker *broker, struct buffer *out)
{
    Usher__V1__Number numbers[4];
    size_t count = 0;
    struct store_position position;
    int error = store_position(broker->store, &position);
    if (error != 0) {
        pack_code(out, error);
        return;
    }
    put_number(numbers, &count, "sessions", position.sessions);
    put_number(numbers, &count, "online", metrics_read(broker->metrics, METRIC_sessions_online));
    put_number(numbers, &count, "detached",
               metrics_read(broker->metrics, METRIC_sessions_detached));
    pack_numbers(out, numbers, count);
}

static void list_numbers(struct broker *broker, struct buffer *out)
{
    Usher__V1__Number numbers[METRIC_COUNT + 8];
    size_t count = 0;
    for (int id = 0; id < METRIC_COUNT; id++)
        put_number(numbers, &count, metrics_name((enum metric_id)id),
                   metrics_read(broker->metrics, (enum metric_id)id));
    struct store_position position;
    if (store_position(broker->store, &position) == 0) {
        put_number(numbers, &count, "stored_sessions", position.sessions);
        put_number(numbers, &count, "presence_first", position.presence_first);
        put_number(numbers, &count, "presence_last", position.presence_last);
        put_number(numbers, &count, "epoch_last", position.epoch_last);
    }
    put_number(numbers, &count, "actors", registry_count(broker->registry));
    struct link_health health = link_health(broker->link);
    put_number(numbers, &count, "secrets_exposed", atomic_load(&broker->secrets_exposed));
    put_number(numbers, &count, "link_listening", health.listening);
    put_number(numbers, &count, "nng_reaper_stuck", health.reaper_stuck);
    pack_numbers(out, numbers, count);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void answer(struct broker *broker, const struct query_message *query,
                   const Usher__V1__Command *command, struct buffer *out)
{
    switch (command->body_case) {
    case USHER__V1__COMMAND__BODY_LOOKUP:
        look_up(broker, query, command->lookup, out);
        break;
    case USHER__V1__COMMAND__BODY_LIST:
        list_sessions(broker, query, command->list->prefix, command->list->after,
                      command->list->limit, out);
        break;
    case USHER__V1__COMMAND__BODY_SNAPSHOT:
        list_sessions(broker, query, "", command->snapshot->after, command->snapshot->limit, out);
        break;
    case USHER__V1__COMMAND__BODY_EVENTS:
        list_events(broker, query, command->events, out);
        break;
    case USHER__V1__COMMAND__BODY_COUNT:
        count_sessions(broker, out);
        break;
    default:
        list_numbers(broker, out);
        break;
    }
}

static void run_command(struct broker *broker, const struct query_message *query)
{
    struct buffer out = {0};
    Usher__V1__Command *command = usher__v1__command__unpack(NULL, query->size, query->bytes);
    CHECK(command != NULL); /* our own encoding */
    if (broker->operate == NULL || !broker->operate(broker, command, room_of(query), &out))
        answer(broker, query, command, &out);
    usher__v1__command__free_unpacked(command, NULL);
    struct query_result_message head = {0};
    reply(broker, query, &head, &out);
    buffer_fini(&out);
}

bool queries_step(struct queries *queries)
{
    pthread_mutex_lock(&queries->lock);
    struct query_message *query = (struct query_message *)take_next(queries);
    pthread_mutex_unlock(&queries->lock);
    if (query == NULL)
        return false;
    if (query->kind == QUERY_PRESENCE)
        read_presence(queries->broker, query);
    else
        run_command(queries->broker, query);
    message_destroy(&query->header);
    return true;
}

/* False: it closes, and what waits is not answered any more: a stop must not wait for whoever asks
 * most. */
static bool wait_for_one(struct queries *queries)
{
    pthread_mutex_lock(&queries->lock);
    while (none_waits(queries) && !queries->closing)
        pthread_cond_wait(&queries->more, &queries->lock);
    bool open = !queries->closing;
    pthread_mutex_unlock(&queries->lock);
    return open;
}

static void *run(void *argument)
{
    struct queries *queries = argument;
    while (wait_for_one(queries))
        queries_step(queries);
    return NULL;
}

int queries_open(struct queries **out, struct broker *broker)
{
    struct queries *queries = calloc(1, sizeof(*queries));
    if (queries == NULL)
        return -ENOMEM;
    queries->broker = broker;
    pthread_mutex_init(&queries->lock, NULL);
    wait_condition_init(&queries->more);
    *out = queries;
    return 0;
}

int queries_start(struct queries *queries)
{
    int error = pthread_create(&queries->pthread, NULL, run, queries);
    queries->started = error == 0;
    return -error;
}

void queries_close(struct queries *queries)
{
    pthread_mutex_lock(&queries->lock);
    queries->closing = true;
    pthread_mutex_unlock(&queries->lock);
    pthread_cond_signal(&queries->more);
    if (queries->started)
        pthread_join(queries->pthread, NULL);
    for (struct message *query; (query = take_next(queries)) != NULL;)
        message_destroy(query);
    pthread_mutex_destroy(&queries->lock);
    pthread_cond_destroy(&queries->more);
    free(queries);
}
