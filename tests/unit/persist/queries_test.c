/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/queries.h"
#include "unit/hall.h"

#include "storage/store_ops.h"

/* What backends read from the store: each kind of query, pages, and a store that fails. */

enum { ROOM = 16000, SESSIONS = 60, EVENTS_KEPT = 25, ACTORS = 256 };

struct stand {
    struct hall hall;
    struct store *store;
    struct queries *queries;
};

/* Takes the store; NULL: one in memory. */
static struct stand *stand_make(struct store *store, uint64_t events_kept)
{
    const struct store_options kept = {.events_kept_max = events_kept};
    struct stand *stand = calloc(1, sizeof(*stand));
    assert_non_null(stand);
    hall_open(&stand->hall, ACTORS, false);
    if (store == NULL)
        assert_int_equal(store_open_memory(&store, &kept), 0);
    stand->store = store;
    const struct queries_options options = {.store = store,
                                            .registry = stand->hall.registry,
                                            .scheduler = stand->hall.scheduler,
                                            .metrics = stand->hall.metrics,
                                            .node = "node-7"};
    assert_int_equal(queries_open(&stand->queries, &options), 0);
    return stand;
}

static void stand_free(struct stand *stand)
{
    queries_close(stand->queries);
    hall_close(&stand->hall);
    store_close(stand->store);
    free(stand);
}

static int tear_down(void **state)
{
    stand_free(*state);
    return 0;
}

/* --- asking ----------------------------------------------------------------------------------- */

static struct query_message *new_query(enum query_kind kind, actor_handle asker, size_t size)
{
    struct query_message *query = message_create(0, sizeof(*query) + size);
    assert_non_null(query);
    query->asker = asker;
    query->kind = kind;
    query->linked = false;
    query->source = 0;
    query->token = 77;
    query->after = 0;
    query->until = UINT64_MAX;
    query->bytes_max = ROOM;
    query->size = (uint32_t)size;
    return query;
}

static struct query_message *command_query(struct probe *asker, const Usher__V1__Command *command,
                                           uint32_t bytes_max, uint64_t token)
{
    size_t size = usher__v1__command__get_packed_size(command);
    struct query_message *query = new_query(QUERY_COMMAND, asker->self, size);
    usher__v1__command__pack(command, query->bytes);
    query->bytes_max = bytes_max;
    query->token = token;
    return query;
}

static void submit(struct stand *stand, struct probe *asker, const Usher__V1__Command *command,
                   uint32_t bytes_max, uint64_t token)
{
    queries_submit(stand->queries, command_query(asker, command, bytes_max, token));
}

static struct query_result_message *next_result(struct stand *stand, struct probe *asker)
{
    hall_run(&stand->hall);
    struct query_result_message *result = (struct query_result_message *)probe_take(asker);
    assert_non_null(result);
    assert_int_equal(result->header.kind, MESSAGE_QUERY_RESULT);
    return result;
}

/* Asks on this thread; the caller frees. The answer keeps within its room. */
static Usher__V1__Result *ask(struct stand *stand, struct probe *asker,
                              const Usher__V1__Command *command, uint32_t bytes_max)
{
    submit(stand, asker, command, bytes_max, 77);
    assert_true(queries_step(stand->queries));
    assert_false(queries_step(stand->queries));
    struct query_result_message *message = next_result(stand, asker);
    assert_int_equal(message->kind, QUERY_COMMAND);
    assert_int_equal(message->token, 77);
    assert_true(message->size <= (bytes_max > 48 ? bytes_max : 48));
    Usher__V1__Result *result = usher__v1__result__unpack(NULL, message->size, message->bytes);
    assert_non_null(result);
    message_destroy(&message->header);
    return result;
}

static void done(Usher__V1__Result *result)
{
    usher__v1__result__free_unpacked(result, NULL);
}

static Usher__V1__Result *ask_list(struct stand *stand, struct probe *asker, const char *prefix,
                                   const char *after, uint32_t limit, uint32_t bytes_max)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__List list = USHER__V1__LIST__INIT;
    list.prefix = (char *)(uintptr_t)prefix;
    list.after = (char *)(uintptr_t)after;
    list.limit = limit;
    command.body_case = USHER__V1__COMMAND__BODY_LIST;
    command.list = &list;
    return ask(stand, asker, &command, bytes_max);
}

static Usher__V1__Result *ask_snapshot(struct stand *stand, struct probe *asker, const char *after,
                                       uint32_t limit, uint32_t bytes_max)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Snapshot snapshot = USHER__V1__SNAPSHOT__INIT;
    snapshot.after = (char *)(uintptr_t)after;
    snapshot.limit = limit;
    command.body_case = USHER__V1__COMMAND__BODY_SNAPSHOT;
    command.snapshot = &snapshot;
    return ask(stand, asker, &command, bytes_max);
}

static Usher__V1__Result *ask_lookup(struct stand *stand, struct probe *asker, const char **users,
                                     size_t count, uint32_t bytes_max)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Lookup lookup = USHER__V1__LOOKUP__INIT;
    lookup.users = (char **)(uintptr_t)users;
    lookup.n_users = count;
    command.body_case = USHER__V1__COMMAND__BODY_LOOKUP;
    command.lookup = &lookup;
    return ask(stand, asker, &command, bytes_max);
}

static Usher__V1__Result *ask_events(struct stand *stand, struct probe *asker, uint64_t after,
                                     uint32_t limit, uint32_t bytes_max)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Events events = USHER__V1__EVENTS__INIT;
    events.after = after;
    events.limit = limit;
    command.body_case = USHER__V1__COMMAND__BODY_EVENTS;
    command.events = &events;
    return ask(stand, asker, &command, bytes_max);
}

static Usher__V1__Result *ask_count(struct stand *stand, struct probe *asker)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Count count = USHER__V1__COUNT__INIT;
    command.body_case = USHER__V1__COMMAND__BODY_COUNT;
    command.count = &count;
    return ask(stand, asker, &command, ROOM);
}

static uint64_t number_of(const Usher__V1__Result *result, const char *name)
{
    assert_int_equal(result->value_case, USHER__V1__RESULT__VALUE_NUMBERS);
    for (size_t i = 0; i < result->numbers->n_numbers; i++)
        if (strcmp(result->numbers->numbers[i]->name, name) == 0)
            return result->numbers->numbers[i]->value;
    fail_msg("no number %s", name);
    return 0;
}

/* --- a store with something in it ------------------------------------------------------------- */

static void name_of(unsigned i, char name[16])
{
    snprintf(name, 16, "%s%02u", i % 2 == 0 ? "even" : "odd", i);
}

static void fill_store(struct store *store)
{
    for (unsigned i = 0; i < SESSIONS; i++) {
        struct session_record record = {.epoch = 100 + i,
                                        .since_ms = 5000 + i,
                                        .state = i % 3 == 0 ? SESSION_DETACHED : SESSION_ONLINE,
                                        .address = "192.0.2.1:1",
                                        .client = "test",
                                        .transport = "tcp"};
        struct presence_event event = {.time_ms = 5000 + i,
                                       .epoch = 100 + i,
                                       .kind = USHER__V1__PRESENCE_EVENT__KIND__ONLINE,
                                       .cause = USHER__V1__PRESENCE_EVENT__CAUSE__LOGIN,
                                       .address = "192.0.2.1:1",
                                       .client = "test"};
        name_of(i, event.user);
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_put_session(store, event.user, &record), 0);
        assert_int_equal(store_append_event(store, &event), 0);
        assert_int_equal(store_commit(store, 100 + i), 0);
    }
}

static int set_up_filled(void **state)
{
    struct stand *stand = stand_make(NULL, EVENTS_KEPT);
    fill_store(stand->store);
    hall_probe(&stand->hall, "!asker");
    *state = stand;
    return 0;
}

static struct probe *asker_of(struct stand *stand)
{
    return &stand->hall.probes[actor_slot(registry_find(stand->hall.registry, "!asker", 6))];
}

/* --- sessions --------------------------------------------------------------------------------- */

static void lookup(void **state)
{
    struct stand *stand = *state;
    char long_name[100] = {0};
    memset(long_name, 'x', sizeof(long_name) - 1);
    const char *users[] = {"odd07", "nobody", "", long_name, "even00", "odd07"};
    actor_handle shown = registry_claim(stand->hall.registry, "odd07", 5, &probe_behaviour);
    atomic_store(&registry_actor(stand->hall.registry, actor_slot(shown))->gauge, 9);
    Usher__V1__Result *result = ask_lookup(stand, asker_of(stand), users, 6, ROOM);
    assert_int_equal(result->code, USHER__V1__RESULT__CODE__OK);
    assert_int_equal(result->value_case, USHER__V1__RESULT__VALUE_SESSIONS);
    assert_int_equal(result->sessions->n_sessions, 6);
    assert_int_equal(result->sessions->presence_seq, SESSIONS);
    assert_false(result->sessions->more);
    for (unsigned i = 0; i < 6; i++)
        assert_string_equal(result->sessions->sessions[i]->user, users[i]);
    const Usher__V1__SessionInfo *seven = result->sessions->sessions[0];
    assert_int_equal(seven->state, USHER__V1__SESSION_INFO__STATE__ONLINE);
    assert_int_equal(seven->epoch, 107);
    assert_int_equal(seven->since_ms, 5007);
    assert_int_equal(seven->inbox_messages, 9);
    assert_string_equal(seven->address, "192.0.2.1:1");
    assert_string_equal(seven->client, "test");
    assert_string_equal(seven->transport, "tcp");
    assert_string_equal(seven->node, "node-7");
    for (unsigned i = 1; i < 4; i++) {
        assert_int_equal(result->sessions->sessions[i]->state,
                         USHER__V1__SESSION_INFO__STATE__GONE);
        assert_int_equal(result->sessions->sessions[i]->epoch, 0);
    }
    assert_int_equal(result->sessions->sessions[4]->state,
                     USHER__V1__SESSION_INFO__STATE__DETACHED);
    done(result);
    result = ask_lookup(stand, asker_of(stand), users, 0, ROOM);
    assert_int_equal(result->sessions->n_sessions, 0);
    done(result);
    /* What has no room is left out, from the end, and it says so. */
    result = ask_lookup(stand, asker_of(stand), users, 6, 300);
    assert_true(result->sessions->more);
    assert_in_range(result->sessions->n_sessions, 1, 5);
    assert_string_equal(result->sessions->sessions[0]->user, "odd07");
    done(result);
}

/* Goes through all pages; gives the rows, which come in order and once. */
static unsigned walk(struct stand *stand, const char *prefix, uint32_t limit, uint32_t bytes_max,
                     unsigned *pages)
{
    char after[80] = "";
    unsigned rows = 0;
    bool more = true;
    *pages = 0;
    while (more) {
        Usher__V1__Result *result =
            prefix != NULL ? ask_list(stand, asker_of(stand), prefix, after, limit, bytes_max)
                           : ask_snapshot(stand, asker_of(stand), after, limit, bytes_max);
        assert_int_equal(result->code, USHER__V1__RESULT__CODE__OK);
        assert_int_equal(result->value_case, USHER__V1__RESULT__VALUE_SESSIONS);
        assert_int_equal(result->sessions->presence_seq, SESSIONS);
        if (limit != 0)
            assert_true(result->sessions->n_sessions <= limit);
        assert_true(result->sessions->n_sessions > 0 || !result->sessions->more);
        for (size_t i = 0; i < result->sessions->n_sessions; i++) {
            const char *user = result->sessions->sessions[i]->user;
            assert_true(strcmp(user, after) > 0);
            snprintf(after, sizeof(after), "%s", user);
            rows++;
        }
        more = result->sessions->more;
        (*pages)++;
        done(result);
    }
    return rows;
}

static void list_and_snapshot_in_pages(void **state)
{
    struct stand *stand = *state;
    unsigned pages;
    assert_int_equal(walk(stand, "", 0, ROOM, &pages), SESSIONS);
    assert_int_equal(pages, 1);
    assert_int_equal(walk(stand, "even", 0, ROOM, &pages), SESSIONS / 2);
    assert_int_equal(walk(stand, "even1", 0, ROOM, &pages), 5);
    assert_int_equal(walk(stand, "zzz", 0, ROOM, &pages), 0);
    assert_int_equal(pages, 1);
    assert_int_equal(walk(stand, "odd", 7, ROOM, &pages), SESSIONS / 2);
    assert_int_equal(pages, 5);
    assert_int_equal(walk(stand, "odd", 10, ROOM, &pages), SESSIONS / 2);
    assert_int_equal(pages, 3); /* the last one is full and says that nothing follows */
    assert_int_equal(walk(stand, NULL, 0, ROOM, &pages), SESSIONS);
    assert_int_equal(walk(stand, NULL, 1, ROOM, &pages), SESSIONS);
    assert_int_equal(pages, SESSIONS);
    assert_int_equal(walk(stand, NULL, 1000000, ROOM, &pages), SESSIONS);
    assert_int_equal(pages, 1);
}

static void tiny_rooms(void **state)
{
    struct stand *stand = *state;
    unsigned pages;
    unsigned pages_before = 1000000;
    /* From one row per page on, every room gives every row. */
    for (uint32_t bytes_max = 120; bytes_max <= 1200; bytes_max += 27) {
        assert_int_equal(walk(stand, NULL, 0, bytes_max, &pages), SESSIONS);
        assert_true(pages <= pages_before && pages > 1);
        pages_before = pages;
    }
    /* Below, there are no rows, and nothing breaks. */
    for (uint32_t bytes_max = 0; bytes_max <= 60; bytes_max++) {
        Usher__V1__Result *result = ask_snapshot(stand, asker_of(stand), "", 0, bytes_max);
        assert_int_equal(result->sessions->n_sessions, 0);
        assert_true(result->sessions->more);
        done(result);
        result = ask_events(stand, asker_of(stand), SESSIONS - 5, 0, bytes_max);
        assert_int_equal(result->events->n_events, 0);
        done(result);
    }
}

/* --- events ----------------------------------------------------------------------------------- */

static void events(void **state)
{
    struct stand *stand = *state;
    Usher__V1__Result *result = ask_events(stand, asker_of(stand), SESSIONS - EVENTS_KEPT, 0, ROOM);
    assert_int_equal(result->code, USHER__V1__RESULT__CODE__OK);
    assert_int_equal(result->value_case, USHER__V1__RESULT__VALUE_EVENTS);
    assert_int_equal(result->events->n_events, EVENTS_KEPT);
    assert_int_equal(result->events->presence_last, SESSIONS);
    assert_false(result->events->reset);
    for (unsigned i = 0; i < EVENTS_KEPT; i++) {
        const Usher__V1__PresenceEvent *event = result->events->events[i];
        unsigned number = SESSIONS - EVENTS_KEPT + i;
        char name[16];
        name_of(number, name);
        assert_int_equal(event->seq, number + 1);
        assert_string_equal(event->user, name);
        assert_int_equal(event->epoch, 100 + number);
        assert_int_equal(event->time_ms, 5000 + number);
        assert_int_equal(event->kind, USHER__V1__PRESENCE_EVENT__KIND__ONLINE);
        assert_int_equal(event->cause, USHER__V1__PRESENCE_EVENT__CAUSE__LOGIN);
    }
    done(result);
    /* One older than what is kept. */
    result = ask_events(stand, asker_of(stand), SESSIONS - EVENTS_KEPT - 1, 3, ROOM);
    assert_true(result->events->reset);
    done(result);
    result = ask_events(stand, asker_of(stand), SESSIONS - 10, 3, ROOM);
    assert_int_equal(result->events->n_events, 3);
    assert_int_equal(result->events->events[0]->seq, SESSIONS - 9);
    done(result);
    result = ask_events(stand, asker_of(stand), SESSIONS, 3, ROOM);
    assert_int_equal(result->events->n_events, 0);
    assert_int_equal(result->events->presence_last, SESSIONS);
    assert_false(result->events->reset);
    done(result);
    result = ask_events(stand, asker_of(stand), UINT64_MAX, 3, ROOM);
    assert_int_equal(result->events->n_events, 0);
    assert_false(result->events->reset);
    done(result);
    /* A small room: fewer of them, the oldest. */
    result = ask_events(stand, asker_of(stand), SESSIONS - 10, 0, 250);
    assert_in_range(result->events->n_events, 1, 9);
    assert_int_equal(result->events->events[0]->seq, SESSIONS - 9);
    done(result);
}

static struct query_result_message *ask_presence(struct stand *stand, uint64_t after,
                                                 uint32_t bytes_max)
{
    struct query_message *query = new_query(QUERY_PRESENCE, asker_of(stand)->self, 0);
    query->after = after;
    query->bytes_max = bytes_max;
    queries_submit(stand->queries, query);
    assert_true(queries_step(stand->queries));
    struct query_result_message *message = next_result(stand, asker_of(stand));
    assert_int_equal(message->kind, QUERY_PRESENCE);
    assert_int_equal(message->stream_last, SESSIONS);
    assert_true(message->size <= bytes_max);
    return message;
}

/* The store has more than who asks knows of: whoever is told of an event says that he has got it,
 * and would be taken for one of another life of the store. */
static void nothing_is_told_behind_what_is_asked_for(void **state)
{
    struct stand *stand = *state;
    struct query_message *query = new_query(QUERY_PRESENCE, asker_of(stand)->self, 0);
    query->after = SESSIONS - 5;
    query->until = SESSIONS - 2;
    queries_submit(stand->queries, query);
    assert_true(queries_step(stand->queries));
    struct query_result_message *message = next_result(stand, asker_of(stand));
    assert_int_equal(message->first, SESSIONS - 4);
    assert_int_equal(message->last, SESSIONS - 2);
    assert_int_equal(message->stream_last, SESSIONS - 2);
    message_destroy(&message->header);
    query = new_query(QUERY_PRESENCE, asker_of(stand)->self, 0);
    query->after = 0; /* those are gone */
    query->until = SESSIONS - 2;
    queries_submit(stand->queries, query);
    assert_true(queries_step(stand->queries));
    message = next_result(stand, asker_of(stand));
    assert_true(message->reset);
    assert_int_equal(message->stream_last, SESSIONS - 2);
    message_destroy(&message->header);
}

/* Its bytes are the fields of a Batch. */
static void presence_for_a_batch(void **state)
{
    struct stand *stand = *state;
    for (uint32_t bytes_max = 90; bytes_max < 2000; bytes_max += 91) {
        uint64_t after = SESSIONS - EVENTS_KEPT;
        while (after < SESSIONS) {
            struct query_result_message *message = ask_presence(stand, after, bytes_max);
            Usher__V1__Batch *batch = usher__v1__batch__unpack(NULL, message->size, message->bytes);
            assert_non_null(batch);
            assert_false(message->reset);
            assert_int_equal(batch->n_mail, 0);
            assert_true(batch->n_presence > 0);
            assert_int_equal(message->first, after + 1);
            for (size_t i = 0; i < batch->n_presence; i++)
                assert_int_equal(batch->presence[i]->seq, ++after);
            assert_int_equal(message->last, after);
            usher__v1__batch__free_unpacked(batch, NULL);
            message_destroy(&message->header);
        }
    }
    struct query_result_message *message =
        ask_presence(stand, SESSIONS - EVENTS_KEPT - 1, ROOM); /* too old */
    assert_true(message->reset);
    assert_int_equal(message->size, 0);
    assert_int_equal(message->first, 0);
    assert_int_equal(message->last, 0);
    message_destroy(&message->header);
    message = ask_presence(stand, SESSIONS, ROOM); /* up to date */
    assert_false(message->reset);
    assert_int_equal(message->first, 0);
    assert_int_equal(message->size, 0);
    message_destroy(&message->header);
    message = ask_presence(stand, SESSIONS - 1, 10); /* no room */
    assert_int_equal(message->first, 0);
    assert_int_equal(message->size, 0);
    message_destroy(&message->header);
}

/* --- numbers ---------------------------------------------------------------------------------- */

static void count(void **state)
{
    struct stand *stand = *state;
    metrics_add(stand->hall.metrics, 0, METRIC_sessions_online, 40);
    metrics_add(stand->hall.metrics, 1, METRIC_sessions_detached, 20);
    Usher__V1__Result *result = ask_count(stand, asker_of(stand));
    assert_int_equal(result->code, USHER__V1__RESULT__CODE__OK);
    assert_int_equal(number_of(result, "sessions"), SESSIONS);
    assert_int_equal(number_of(result, "online"), 40);
    assert_int_equal(number_of(result, "detached"), 20);
    done(result);
}

/* --- a store that fails ----------------------------------------------------------------------- */

/* Reads fail with `error`, or after `good` of them. */
struct sick_store {
    struct store base;
    int error;
    unsigned good;
    uint64_t damaged, last; /* of the events: that one, up to there; 0: there are none */
};

static int sick(struct store *store)
{
    struct sick_store *self = (struct sick_store *)store;
    if (self->good == 0)
        return self->error;
    self->good--;
    return 0;
}

static void sick_close(struct store *store)
{
    free(store);
}

static int sick_position(struct store *store, struct store_position *position)
{
    *position = (struct store_position){.presence_first = 1};
    return sick(store);
}

static int sick_look_up(struct store *store, const char *const *users, size_t count,
                        store_session_each *each, void *context, uint64_t *presence_last)
{
    struct session_record record = {.epoch = 1, .state = SESSION_ONLINE};
    each(context, users[0], &record);
    return sick(store);
}

/* A page of which the second record is damaged. */
static int sick_list(struct store *store, const struct store_query *query, store_session_each *each,
                     void *context, uint64_t *presence_last, bool *more)
{
    struct session_record record = {.epoch = 1, .state = SESSION_ONLINE};
    each(context, "anna", &record);
    return sick(store);
}

static int sick_events(struct store *store, uint64_t after, size_t limit, store_event_each *each,
                       void *context, struct store_position *position)
{
    const struct sick_store *self = (struct sick_store *)store;
    struct presence_event event = {.seq = after + 1, .kind = 1, .user = "anna"};
    position->presence_first = self->last > 0;
    position->presence_last = self->last;
    while (self->last == 0 ? event.seq == after + 1 : event.seq < self->damaged) {
        each(context, &event);
        event.seq++;
    }
    return sick(store);
}

static void sick_abort(struct store *store)
{
}

static const struct store_ops sick_ops = {
    .close = sick_close,
    .abort = sick_abort,
    .position = sick_position,
    .look_up = sick_look_up,
    .list_sessions = sick_list,
    .read_events = sick_events,
};

static void expect_unavailable(Usher__V1__Result *result)
{
    assert_int_equal(result->code, USHER__V1__RESULT__CODE__UNAVAILABLE);
    assert_int_equal(result->value_case, USHER__V1__RESULT__VALUE__NOT_SET);
    done(result);
}

static void a_damaged_store_is_unavailable(void **state)
{
    static const int errors[] = {-EUCLEAN, -EIO};
    const char *users[] = {"anna", "berta", "carla"};
    for (unsigned i = 0; i < 2; i++) {
        struct sick_store *store = calloc(1, sizeof(*store));
        store->base.ops = &sick_ops;
        store->error = errors[i];
        struct stand *stand = stand_make(&store->base, 0);
        struct probe *asker = hall_probe(&stand->hall, "!asker");
        expect_unavailable(ask_list(stand, asker, "", "", 0, ROOM));
        expect_unavailable(ask_snapshot(stand, asker, "", 0, ROOM));
        expect_unavailable(ask_events(stand, asker, 0, 0, ROOM));
        expect_unavailable(ask_count(stand, asker));
        expect_unavailable(ask_lookup(stand, asker, users, 3, ROOM));
        struct query_message *query = new_query(QUERY_PRESENCE, asker->self, 0);
        queries_submit(stand->queries, query);
        assert_true(queries_step(stand->queries));
        struct query_result_message *message = next_result(stand, asker);
        assert_int_equal(message->first, 0); /* nothing half-read */
        assert_int_equal(message->size, 0);
        assert_false(message->reset);
        assert_true(message->failed);
        message_destroy(&message->header);
        stand_free(stand);
    }
}

/* Those before it are told, and then that something is missing: asked for it again and again,
 * nobody would ever hear of what comes behind. */
static void a_damaged_event_is_missed_like_one_that_is_gone(void **state)
{
    enum { DAMAGED = 4, LAST = 9 };
    struct sick_store *store = calloc(1, sizeof(*store));
    store->base.ops = &sick_ops;
    store->error = -EUCLEAN;
    store->damaged = DAMAGED;
    store->last = LAST;
    struct stand *stand = stand_make(&store->base, 0);
    struct probe *asker = hall_probe(&stand->hall, "!asker");
    for (uint64_t after = 1; after <= 3; after += 2) {
        struct query_message *query = new_query(QUERY_PRESENCE, asker->self, 0);
        query->after = after;
        queries_submit(stand->queries, query);
        assert_true(queries_step(stand->queries));
        struct query_result_message *message = next_result(stand, asker);
        assert_false(message->failed);
        assert_int_equal(message->reset, after == 3);
        assert_int_equal(message->first, after == 3 ? 0 : 2);
        assert_int_equal(message->last, after == 3 ? 0 : 3);
        assert_int_equal(message->stream_last, LAST);
        message_destroy(&message->header);
    }
    stand_free(stand);
}

/* --- the queue -------------------------------------------------------------------------------- */

static void submit_counts(struct stand *stand, struct probe *asker, unsigned first, unsigned count)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Count body = USHER__V1__COUNT__INIT;
    command.body_case = USHER__V1__COMMAND__BODY_COUNT;
    command.count = &body;
    for (unsigned i = first; i < first + count; i++)
        submit(stand, asker, &command, ROOM, i);
}

static void answers_come_in_order(void **state)
{
    struct stand *stand = *state;
    submit_counts(stand, asker_of(stand), 0, 10);
    for (unsigned i = 0; i < 10; i++)
        assert_true(queries_step(stand->queries));
    assert_false(queries_step(stand->queries));
    for (unsigned i = 0; i < 10; i++) {
        struct query_result_message *message = next_result(stand, asker_of(stand));
        assert_int_equal(message->token, i);
        message_destroy(&message->header);
    }
}

/* From one source, so many. */
static void submit_from(struct stand *stand, bool linked, uint32_t source, unsigned count)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    Usher__V1__Count body = USHER__V1__COUNT__INIT;
    command.body_case = USHER__V1__COMMAND__BODY_COUNT;
    command.count = &body;
    for (unsigned i = 0; i < count; i++) {
        struct query_message *query =
            command_query(asker_of(stand), &command, ROOM, source * 100 + i);
        query->linked = linked;
        query->source = source;
        queries_submit(stand->queries, query);
    }
}

static void expect_tokens(struct stand *stand, const unsigned *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_true(queries_step(stand->queries));
    assert_false(queries_step(stand->queries));
    for (size_t i = 0; i < count; i++) {
        struct query_result_message *message = next_result(stand, asker_of(stand));
        assert_int_equal(message->token, tokens[i]);
        message_destroy(&message->header);
    }
}

/* Three peers, of whom one asks much: each is answered in turn, in his own order. */
static void who_asks_much_waits_for_himself(void **state)
{
    struct stand *stand = *state;
    submit_from(stand, false, 1, 4);
    submit_from(stand, false, 2, 1);
    submit_from(stand, false, 3, 2);
    const unsigned tokens[] = {100, 200, 300, 101, 301, 102, 103};
    expect_tokens(stand, tokens, sizeof(tokens) / sizeof(tokens[0]));
    submit_from(stand, false, 2, 1); /* the line is as good as new */
    expect_tokens(stand, &tokens[1], 1);
}

/* However many come without a link, an instance waits for one query of theirs at a time. */
static void instances_do_not_wait_for_a_crowd(void **state)
{
    struct stand *stand = *state;
    for (unsigned i = 10; i < 15; i++)
        submit_from(stand, false, i, 1);
    submit_from(stand, true, 1, 2);
    submit_from(stand, true, 2, 1);
    const unsigned tokens[] = {100, 1000, 200, 1100, 101, 1200, 1300, 1400};
    expect_tokens(stand, tokens, sizeof(tokens) / sizeof(tokens[0]));
}

static void an_answer_for_nobody_is_dropped(void **state)
{
    struct stand *stand = *state;
    struct probe gone = {.self = asker_of(stand)->self + (UINT64_C(2) << 32)};
    submit_counts(stand, &gone, 0, 1);
    assert_true(queries_step(stand->queries));
    hall_run(&stand->hall);
    assert_int_equal(probe_count(asker_of(stand)), 0);
}

static void the_thread_answers(void **state)
{
    struct stand *stand = *state;
    struct probe *asker = asker_of(stand);
    hall_start_workers(&stand->hall);
    assert_int_equal(queries_start(stand->queries), 0);
    for (unsigned i = 0; i < 50; i++) {
        submit_counts(stand, asker, i * 4, 4);
        if (i % 5 == 0)
            nap_ms(2); /* it falls asleep in between */
    }
    WAIT_FOR(probe_count(asker) == 200);
    for (unsigned i = 0; i < 200; i++) {
        struct query_result_message *message = (struct query_result_message *)probe_take(asker);
        assert_int_equal(message->token, i);
        message_destroy(&message->header);
    }
    submit_counts(stand, asker, 0, 20); /* some of them are dropped with the thread */
}

static void queries_that_wait_are_freed(void **state)
{
    struct stand *stand = *state;
    submit_counts(stand, asker_of(stand), 0, 5);
}

#define TEST_FILLED(name) cmocka_unit_test_setup_teardown(name, set_up_filled, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_FILLED(lookup),
        TEST_FILLED(list_and_snapshot_in_pages),
        TEST_FILLED(tiny_rooms),
        TEST_FILLED(events),
        TEST_FILLED(nothing_is_told_behind_what_is_asked_for),
        TEST_FILLED(presence_for_a_batch),
        TEST_FILLED(count),
        cmocka_unit_test(a_damaged_store_is_unavailable),
        cmocka_unit_test(a_damaged_event_is_missed_like_one_that_is_gone),
        TEST_FILLED(answers_come_in_order),
        TEST_FILLED(who_asks_much_waits_for_himself),
        TEST_FILLED(instances_do_not_wait_for_a_crowd),
        TEST_FILLED(an_answer_for_nobody_is_dropped),
        TEST_FILLED(the_thread_answers),
        TEST_FILLED(queries_that_wait_are_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
