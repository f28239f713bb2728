/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "actors/presence.h"
#include "base/check.h"
#include "base/lock.h"
#include "base/memory.h"
#include "base/wait.h"
#include "persist/inboxes.h"
#include "persist/queries.h"
#include "persist/rooms.h"
#include "persist/sessions.h"
#include "proto/link_answer.h"

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
 * Turns of users that wait for a window of what is stored for them (persist/stored.h) stand in a
 * line of their own, and take turns with all queries: a crowd that comes back keeps no backend
 * waiting for more than one window at a time, and the other way round.
 *
 * The shards of friends ask as instances do, each for some names at a time and for no more before
 * it has the answer.
 *
 * A page of sessions or events is cut where the room ends; `more` says so, and the asker goes on
 * after the last name or seq. Every page is one consistent state of the store, and says which. */

enum { PAGE_ROWS_MAX = 1024, LINES = 256 };

/* The queries of a source. While it has some it stands in its round. */
struct line {
    struct message_list queries;
    struct line *next;
};

/* The lines that wait, the next one first. */
struct round {
    struct line *first, *last;
    struct line lines[LINES];
};

struct queries {
    struct queries_options options;
    pthread_t pthread;
    bool started;
    struct thread_mark mark; /* its thread, once it runs */
    struct lock lock;
    pthread_cond_t more;
    /* under lock */
    struct round rounds[2]; /* 1: of those who are linked */
    unsigned turn;          /* whose is next */
    struct change *window, *window_last;
    bool window_next; /* before a query */
    bool reading;     /* a window */
    bool halted;      /* no more of them */
    pthread_cond_t idle;
    bool closing;
};

static void round_add(struct round *round, struct line *line)
{
    CHECK(line->queries.first != NULL); /* it stands there while it has some */
    line->next = NULL;
    if (round->last != NULL)
        round->last->next = line;
    else
        round->first = line;
    round->last = line;
}

static void submit(struct queries *queries, bool linked, uint32_t source, struct message *query)
{
    struct round *round = &queries->rounds[linked];
    struct line *line = &round->lines[source % LINES];
    lock_take(&queries->lock);
    message_append(&line->queries, query);
    if (line->queries.first == query)
        round_add(round, line);
    lock_give(&queries->lock);
    pthread_cond_signal(&queries->more);
}

void queries_submit(struct queries *queries, struct query_message *query)
{
    submit(queries, query->linked, query->source, &query->header);
}

void queries_look_up(struct queries *queries, struct watch_look_message *look)
{
    submit(queries, true, actor_slot(look->shard), &look->header);
}

void queries_window(struct queries *queries, struct change *change)
{
    CHECK(change->kind == CHANGE_WINDOW && change->self != 0);
    change->next = NULL;
    lock_take(&queries->lock);
    if (queries->window_last != NULL)
        queries->window_last->next = change;
    else
        queries->window = change;
    queries->window_last = change;
    lock_give(&queries->lock);
    pthread_cond_signal(&queries->more);
}

/* NULL: none waits. Under the lock. */
static struct change *take_window(struct queries *queries)
{
    CHECK(lock_held(&queries->lock));
    struct change *change = queries->window;
    if (change == NULL)
        return NULL;
    queries->window = change->next;
    if (queries->window == NULL)
        queries->window_last = NULL;
    return change;
}

/* Whose turn it is: a window's, when no query waits or the last one was a query. */
static struct change *window_in_turn(struct queries *queries)
{
    bool only = queries->rounds[0].first == NULL && queries->rounds[1].first == NULL;
    if (queries->halted)
        return NULL;
    queries->window_next = !queries->window_next;
    return only || queries->window_next ? take_window(queries) : NULL;
}

static bool none_waits(const struct queries *queries)
{
    CHECK(lock_held(&queries->lock));
    return queries->rounds[0].first == NULL && queries->rounds[1].first == NULL &&
           (queries->window == NULL || queries->halted);
}

/* The first of the line whose turn it is, which then goes to the end of its round; NULL: none
 * waits. */
static struct message *take_next(struct queries *queries)
{
    CHECK(lock_held(&queries->lock));
    queries->turn = !queries->turn;
    if (queries->rounds[queries->turn].first == NULL)
        queries->turn = !queries->turn;
    struct round *round = &queries->rounds[queries->turn];
    struct line *line = round->first;
    if (line == NULL)
        return NULL;
    struct message *query = message_take(&line->queries);
    CHECK(query != NULL);
    round->first = line->next;
    if (round->first == NULL)
        round->last = NULL;
    if (line->queries.first != NULL)
        round_add(round, line);
    return query;
}

static void reply(const struct queries_options *options, const struct query_message *query,
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
    scheduler_tell(options->scheduler, NULL, query->asker, &result->header);
}

static void fail(struct buffer *out, int error)
{
    uint32_t code = error == -ENOENT ? USHER__V1__RESULT__CODE__NOT_ONLINE
                                     : USHER__V1__RESULT__CODE__UNAVAILABLE;
    MEMORY_MUST(link_result_code(out, code) == 0, "a result");
}

/* The room for what a Result holds. */
static size_t room_of(const struct query_message *query)
{
    return query->bytes_max > LINK_RESULT_OVERHEAD ? query->bytes_max - LINK_RESULT_OVERHEAD : 0;
}

/* --- sessions --------------------------------------------------------------------------------- */

struct session_run {
    const char *node;
    struct link_page page;
};

static bool add_session(void *context, const struct session_row *row)
{
    struct session_run *run = context;
    const struct session_record *record = row->record;
    struct session_fields fields = {.user = row->user,
                                    .state = USHER__V1__SESSION_INFO__STATE__GONE,
                                    .inbox_messages = row->inbox_messages};
    if (record != NULL) {
        fields.state = record->state; /* the same numbers */
        fields.epoch = record->epoch;
        fields.node = run->node;
        fields.since_ms = record->since_ms;
        fields.address = record->address;
        fields.client = record->client;
        fields.transport = record->transport;
    }
    int error = 0;
    MEMORY_MUST((error = link_page_session(&run->page, &fields)) != -ENOMEM, "a page");
    return error == 0;
}

/* Ends the run. */
static void put_sessions(struct buffer *out, struct session_run *run, int error,
                         uint64_t presence_seq, bool more)
{
    if (error != 0)
        fail(out, error);
    else
        MEMORY_MUST(link_result_sessions(out, &run->page, presence_seq, more) == 0, "a result");
    buffer_fini(&run->page.items);
}

static void list_sessions(const struct queries_options *options, const struct query_message *query,
                          const char *prefix, const char *after, uint32_t limit, struct buffer *out)
{
    const struct sessions sessions = {options->store, options->registry};
    struct session_run run = {.node = options->node, .page = {.room = room_of(query)}};
    struct session_page page = {
        .prefix = prefix,
        .after = after,
        .limit = limit != 0 && limit < PAGE_ROWS_MAX ? limit : PAGE_ROWS_MAX,
    };
    int error = sessions_list(&sessions, &page, add_session, &run);
    put_sessions(out, &run, error, page.presence_seq, page.more);
}

static void look_up(const struct queries_options *options, const struct query_message *query,
                    const Usher__V1__Lookup *lookup, struct buffer *out)
{
    const struct sessions sessions = {options->store, options->registry};
    struct session_run run = {.node = options->node, .page = {.room = room_of(query)}};
    size_t count = lookup->n_users < PAGE_ROWS_MAX ? lookup->n_users : PAGE_ROWS_MAX;
    uint64_t presence_last = 0;
    bool more = false;
    int error = sessions_look_up(&sessions, (const char *const *)lookup->users, count, add_session,
                                 &run, &presence_last, &more);
    put_sessions(out, &run, error, presence_last, more || count < lookup->n_users);
}

/* --- events ----------------------------------------------------------------------------------- */

struct event_run {
    /* link_page_event or link_page_batch_event */
    int (*add)(struct link_page *page, const struct event_fields *event);
    struct link_page page;
    uint64_t first, last;
    uint64_t until; /* none behind it */
};

static bool add_event(void *context, const struct presence_event *event)
{
    struct event_run *run = context;
    struct event_fields fields = presence_event_fields(event);
    int error = 0;
    if (event->seq > run->until)
        return false;
    MEMORY_MUST((error = run->add(&run->page, &fields)) != -ENOMEM, "events");
    if (error != 0)
        return false;
    run->first = run->first ? run->first : event->seq;
    run->last = event->seq;
    return true;
}

static bool some_are_gone(uint64_t after, const struct store_position *position)
{
    return position->presence_first > after && position->presence_first - after > 1;
}

static void read_presence(const struct queries_options *options, const struct query_message *query)
{
    struct event_run run = {
        .add = link_page_batch_event, .page = {.room = query->bytes_max}, .until = query->until};
    struct store_position position = {0};
    int error =
        store_read_events(options->store, query->after, PAGE_ROWS_MAX, add_event, &run, &position);
    /* A record that cannot be read is missed like one that is gone, when all before it have been
     * told. */
    bool damaged = error == -EUCLEAN && position.presence_last > query->after;
    struct query_result_message head = {
        .first = run.first,
        .last = run.last,
        .stream_last =
            position.presence_last < query->until ? position.presence_last : query->until,
        .reset = some_are_gone(query->after, &position) || (damaged && run.first == 0),
        .failed = error != 0 && !damaged,
    };
    CHECK(run.page.items.size <= query->bytes_max);
    if (head.failed || head.reset) {
        head.first = head.last = 0;
        run.page.items.size = 0;
    }
    head.reset = head.reset && !head.failed;
    reply(options, query, &head, &run.page.items);
    buffer_fini(&run.page.items);
}

static void list_events(const struct queries_options *options, const struct query_message *query,
                        const Usher__V1__Events *events, struct buffer *out)
{
    struct event_run run = {
        .add = link_page_event, .page = {.room = room_of(query)}, .until = UINT64_MAX};
    struct store_position position = {0};
    size_t limit =
        events->limit != 0 && events->limit < PAGE_ROWS_MAX ? events->limit : PAGE_ROWS_MAX;
    int error = store_read_events(options->store, events->after, limit, add_event, &run, &position);
    if (error != 0)
        fail(out, error);
    else
        MEMORY_MUST(link_result_events(out, &run.page, position.presence_last,
                                       some_are_gone(events->after, &position)) == 0,
                    "a result");
    buffer_fini(&run.page.items);
}

/* --- friends ---------------------------------------------------------------------------------- */

struct look_run {
    struct watch_look *row;
};

static bool add_look(void *context, const char *user, const struct session_record *record)
{
    struct look_run *run = context;
    struct watch_look *row = run->row++;
    row->state = record == NULL                      ? WATCH_OFFLINE
                 : record->state == SESSION_DETACHED ? WATCH_AWAY
                                                     : WATCH_ONLINE;
    row->epoch = record != NULL ? record->epoch : 0;
    row->since_ms = record != NULL && record->state == SESSION_ONLINE ? record->since_ms : 0;
    return true;
}

/* Goes back to the shard as its own answer. */
static void look_up_watched(const struct queries_options *options, struct watch_look_message *look)
{
    const char *users[WATCH_LOOK_MAX];
    struct look_run run = {look->rows};
    for (uint32_t i = 0; i < look->count; i++)
        users[i] = look->rows[i].user;
    look->failed =
        store_look_up(options->store, users, look->count, add_look, &run, &look->presence_seq) != 0;
    scheduler_tell(options->scheduler, NULL, look->shard, &look->header);
}

/* --- numbers ---------------------------------------------------------------------------------- */

/* They are few and ours, and need no room. */
static struct link_page no_numbers(void)
{
    return (struct link_page){.room = SIZE_MAX};
}

static void put_number(struct link_page *page, const char *name, uint64_t value)
{
    MEMORY_MUST(link_page_number(page, name, value) == 0, "numbers");
}

/* Ends the page. */
static void put_numbers(struct buffer *out, struct link_page *page)
{
    MEMORY_MUST(link_result_numbers(out, page) == 0, "a result");
    buffer_fini(&page->items);
}

static void count_sessions(const struct queries_options *options, struct buffer *out)
{
    struct link_page page = no_numbers();
    struct store_position position;
    int error = store_position(options->store, &position);
    if (error != 0) {
        fail(out, error);
        return;
    }
    put_number(&page, "sessions", position.sessions);
    put_number(&page, "online", metrics_read(options->metrics, METRIC_sessions_online));
    put_number(&page, "detached", metrics_read(options->metrics, METRIC_sessions_detached));
    put_numbers(out, &page);
}

/* --- rooms ------------------------------------------------------------------------------------ */

static void list_rooms(const struct queries_options *options, const struct query_message *query,
                       const Usher__V1__Rooms *rooms, struct buffer *out)
{
    struct link_page list = {.room = room_of(query)};
    struct room_page page = {
        .prefix = rooms->prefix,
        .after = rooms->after,
        .limit = rooms->limit != 0 && rooms->limit < PAGE_ROWS_MAX ? rooms->limit : PAGE_ROWS_MAX,
    };
    const struct room_classes *classes =
        options->room_classes != NULL ? atomic_load(options->room_classes) : NULL;
    MEMORY_MUST(rooms_list(options->registry, classes, &page, &list) == 0, "a page");
    MEMORY_MUST(link_result_rooms(out, &list, page.more) == 0, "a result");
    buffer_fini(&list.items);
}

/* --- the thread ------------------------------------------------------------------------------- */

/* False: it is about something else. */
static bool answer_of_inbox(const struct queries_options *options,
                            const struct query_message *query, const Usher__V1__Command *command,
                            struct buffer *out)
{
    bool lists = command->body_case == USHER__V1__COMMAND__BODY_INBOX;
    if (options->stored == NULL ||
        (!lists && command->body_case != USHER__V1__COMMAND__BODY_INBOX_DROP))
        return false;
    if (lists)
        inboxes_list(options->stored, command->inbox, room_of(query), out);
    else
        inboxes_drop(options->committer, command->inbox_drop, out);
    return true;
}

static void answer(const struct queries_options *options, const struct query_message *query,
                   const Usher__V1__Command *command, struct buffer *out)
{
    if (answer_of_inbox(options, query, command, out))
        return;
    switch (command->body_case) {
    case USHER__V1__COMMAND__BODY_LOOKUP:
        look_up(options, query, command->lookup, out);
        break;
    case USHER__V1__COMMAND__BODY_LIST:
        list_sessions(options, query, command->list->prefix, command->list->after,
                      command->list->limit, out);
        break;
    case USHER__V1__COMMAND__BODY_SNAPSHOT:
        list_sessions(options, query, "", command->snapshot->after, command->snapshot->limit, out);
        break;
    case USHER__V1__COMMAND__BODY_EVENTS:
        list_events(options, query, command->events, out);
        break;
    case USHER__V1__COMMAND__BODY_ROOMS:
        list_rooms(options, query, command->rooms, out);
        break;
    case USHER__V1__COMMAND__BODY_COUNT:
        count_sessions(options, out);
        break;
    default: /* an operator's, and there are none */
        fail(out, -ENOSYS);
        break;
    }
}

static void *take_memory(void *context, size_t size)
{
    void *memory;
    MEMORY_MUST((memory = malloc(size)) != NULL, "a command");
    return memory;
}

static void give_memory(void *context, void *memory)
{
    free(memory);
}

static void run_command(const struct queries_options *options, const struct query_message *query)
{
    /* So that a command that cannot be read is not one for which there was no memory. */
    ProtobufCAllocator allocator = {.alloc = take_memory, .free = give_memory};
    struct buffer out = {0};
    Usher__V1__Command *command = usher__v1__command__unpack(&allocator, query->size, query->bytes);
    CHECK(command != NULL); /* our own encoding */
    if (options->operate == NULL ||
        !options->operate(options->context, command, room_of(query), &out))
        answer(options, query, command, &out);
    usher__v1__command__free_unpacked(command, &allocator);
    struct query_result_message head = {0};
    reply(options, query, &head, &out);
    buffer_fini(&out);
}

static void read_window(struct queries *queries, struct change *change)
{
    const struct queries_options *options = &queries->options;
    struct runner *runner = options->runner;
    stored_window(options->stored, change);
    runner->now_ms = env_monotonic_ms(options->env);
    runner->wall_ms = env_wall_ms(options->env);
    scheduler_resume(options->scheduler, runner, change->self, change);
    free(change);
    lock_take(&queries->lock);
    queries->reading = false;
    lock_give(&queries->lock);
    pthread_cond_broadcast(&queries->idle);
}

void queries_halt(struct queries *queries)
{
    lock_take(&queries->lock);
    queries->halted = true;
    while (queries->reading)
        lock_wait(&queries->lock, &queries->idle);
    lock_give(&queries->lock);
}

bool queries_step(struct queries *queries)
{
    CHECK(on_thread(&queries->mark) || off_thread(&queries->mark));
    lock_take(&queries->lock);
    struct change *window = window_in_turn(queries);
    struct message *next = window == NULL ? take_next(queries) : NULL;
    queries->reading = window != NULL;
    lock_give(&queries->lock);
    if (window != NULL)
        read_window(queries, window);
    if (next == NULL)
        return window != NULL;
    if (next->kind == MESSAGE_WATCH_LOOKED) {
        look_up_watched(&queries->options, (struct watch_look_message *)next);
        return true;
    }
    struct query_message *query = (struct query_message *)next;
    if (query->kind == QUERY_PRESENCE)
        read_presence(&queries->options, query);
    else
        run_command(&queries->options, query);
    message_destroy(&query->header);
    return true;
}

/* False: it closes, and what waits is not answered any more: a stop must not wait for whoever asks
 * most. */
static bool wait_for_one(struct queries *queries)
{
    lock_take(&queries->lock);
    while (none_waits(queries) && !queries->closing)
        lock_wait(&queries->lock, &queries->more);
    bool open = !queries->closing;
    lock_give(&queries->lock);
    return open;
}

static void *run(void *argument)
{
    struct queries *queries = argument;
    thread_begin(&queries->mark);
    while (wait_for_one(queries))
        queries_step(queries);
    thread_end(&queries->mark);
    return NULL;
}

int queries_open(struct queries **out, const struct queries_options *options)
{
    struct queries *queries = calloc(1, sizeof(*queries));
    if (queries == NULL)
        return -ENOMEM;
    queries->options = *options;
    lock_init(&queries->lock);
    wait_condition_init(&queries->more);
    wait_condition_init(&queries->idle);
    *out = queries;
    return 0;
}

int queries_start(struct queries *queries)
{
    CHECK(!queries->started);
    int error = pthread_create(&queries->pthread, NULL, run, queries);
    queries->started = error == 0;
    return -error;
}

/* Its turn never goes on. */
static void drop_window(struct change *change)
{
    message_destroy(change->cause);
    free(change);
}

static void end_thread(struct queries *queries)
{
    lock_take(&queries->lock);
    queries->closing = true;
    lock_give(&queries->lock);
    pthread_cond_signal(&queries->more);
    if (queries->started)
        pthread_join(queries->pthread, NULL);
    queries->started = false;
}

void queries_pause(struct queries *queries)
{
    end_thread(queries);
    while (queries_step(queries)) /* what it had not come to */
        continue;
    queries->closing = false;
}

void queries_close(struct queries *queries)
{
    end_thread(queries);
    lock_take(&queries->lock);
    for (struct message *query; (query = take_next(queries)) != NULL;)
        message_destroy(query);
    for (struct change *window; (window = take_window(queries)) != NULL;)
        drop_window(window);
    lock_give(&queries->lock);
    lock_destroy(&queries->lock);
    pthread_cond_destroy(&queries->more);
    pthread_cond_destroy(&queries->idle);
    free(queries);
}
