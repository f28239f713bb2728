/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "client.pb-c.h"
#include "persist/committer.h"
#include "persist/queries.h"
#include "storage/store_ops.h"
#include "unit/hall.h"

/* Messages to be stored beside sessions, in the committer and in the queries: who gives way to
 * whom, who hears of it and when, what waits. Actors only ask for a change, and write down how it
 * ended. */

enum { ACTORS = 8192, ASK = 1, PAYLOAD = 100 };

struct ending {
    char user[16];
    enum change_kind kind;
    int error;
    unsigned stored, refused; /* messages */
    uint16_t refusal;         /* of the last that was */
    unsigned on_disk;         /* values of the log when the turn went on */
    uint32_t stored_count;
    uint64_t last_mid;
    bool by_queries;
};

struct stand {
    struct hall hall; /* first: the context of the behaviour */
    struct store *store;
    struct limits limits;
    struct runner committing, querying;
    struct stored *stored;
    struct committer *committer;
    struct queries *queries;
    bool started; /* the committer's thread */
    _Atomic uint64_t epoch_last;
    struct change *asked[ACTORS]; /* by slot */
    pthread_mutex_t lock;
    _Atomic unsigned count;
    struct ending endings[ACTORS]; /* under lock */
};

static bool receive(void *context, struct runner *runner, actor_handle self, void *state,
                    struct message *message)
{
    message_destroy(message);
    return false;
}

static enum verdict finish(void *context, struct runner *runner, actor_handle self, void *state)
{
    struct stand *stand = context;
    struct change *change = stand->asked[actor_slot(self)];
    if (change->kind == CHANGE_WINDOW)
        queries_window(stand->queries, change);
    else
        committer_submit(stand->committer, change);
    return VERDICT_HOLD;
}

static void end_messages(struct change *change, struct ending *ending)
{
    while (change->stored != NULL) {
        struct deliver_message *message = change->stored;
        change->stored = (struct deliver_message *)message->header.next;
        ending->stored += message->refusal == 0;
        ending->refused += message->refusal != 0;
        ending->refusal = message->refusal != 0 ? message->refusal : ending->refusal;
        ending->last_mid = message->mid;
        message_destroy(&message->header);
    }
}

static enum verdict resume(void *context, struct runner *runner, actor_handle self, void *state,
                           void *what)
{
    struct stand *stand = context;
    struct change *change = what;
    struct store_position position = {0};
    store_position(stand->store, &position);
    pthread_mutex_lock(&stand->lock);
    struct ending *ending = &stand->endings[stand->count];
    snprintf(ending->user, sizeof(ending->user), "%.15s", change->event.user);
    ending->kind = change->kind;
    ending->error = change->error;
    ending->on_disk = (unsigned)position.log_values;
    ending->stored_count = change->stored_count;
    ending->by_queries = runner == &stand->querying;
    end_messages(change, ending);
    stand->count++;
    pthread_mutex_unlock(&stand->lock);
    return VERDICT_GO_ON;
}

static const struct behaviour waiting = {
    .name = "waiting", .receive = receive, .finish = finish, .resume = resume};

static void committed(void *context, struct runner *runner, const struct change *list)
{
    for (; list != NULL; list = list->next)
        assert_true(list->kind < CHANGE_STORE); /* nobody else hears of them */
}

static void open_parts(struct stand *stand)
{
    const struct stored_options stored = {.store = stand->store,
                                          .limits = &stand->limits,
                                          .env = stand->hall.env,
                                          .metrics = stand->hall.metrics,
                                          .mid_last = &stand->epoch_last};
    assert_int_equal(stored_open(&stand->stored, &stored), 0);
    const struct committer_options options = {.store = stand->store,
                                              .store_path = "",
                                              .env = stand->hall.env,
                                              .metrics = stand->hall.metrics,
                                              .scheduler = stand->hall.scheduler,
                                              .runner = &stand->committing,
                                              .epoch_last = &stand->epoch_last,
                                              .stored = stand->stored,
                                              .limits = &stand->limits,
                                              .committed = committed,
                                              .context = stand};
    assert_int_equal(committer_open(&stand->committer, &options), 0);
    const struct queries_options queries = {.store = stand->store,
                                            .registry = stand->hall.registry,
                                            .scheduler = stand->hall.scheduler,
                                            .metrics = stand->hall.metrics,
                                            .node = "n1",
                                            .stored = stand->stored,
                                            .env = stand->hall.env,
                                            .runner = &stand->querying};
    assert_int_equal(queries_open(&stand->queries, &queries), 0);
}

static int set_up(void **state)
{
    static _Atomic uint64_t beats;
    const struct store_options kept = {.events_kept_max = 100000};
    struct stand *stand = calloc(1, sizeof(*stand));
    assert_non_null(stand);
    hall_open(&stand->hall, ACTORS, false);
    pthread_mutex_init(&stand->lock, NULL);
    stand->committing = stand->querying = (struct runner){.beats = &beats};
    stand->limits = (struct limits){.store_map_bytes = 1 << 30,
                                    .inbox_keep_max_s = 604800,
                                    .inbox_stored_messages = 1000,
                                    .inbox_stored_bytes = 1 << 20,
                                    .inbox_stored_total = 1000000,
                                    .inbox_stored_total_bytes = 256 << 20,
                                    .inbox_log_spare = 3,
                                    .inbox_waiting_bytes = 16 << 20};
    stand->epoch_last = 1000;
    assert_int_equal(store_open_memory(&stand->store, &kept), 0);
    open_parts(stand);
    *state = stand;
    return 0;
}

static void start(struct stand *stand)
{
    assert_int_equal(committer_start(stand->committer), 0);
    stand->started = true;
}

static void close_parts(struct stand *stand)
{
    stand->started = false;
    queries_halt(stand->queries);
    committer_close(stand->committer);
    queries_close(stand->queries);
    stored_close(stand->stored);
}

static int tear_down(void **state)
{
    struct stand *stand = *state;
    while (!stand->started && committer_step(stand->committer))
        continue;
    close_parts(stand);
    hall_close(&stand->hall);
    store_close(stand->store);
    pthread_mutex_destroy(&stand->lock);
    free(stand);
    return 0;
}

/* --- asking ----------------------------------------------------------------------------------- */

static struct change *begin(struct stand *stand, enum change_kind kind, const char *user)
{
    struct change *change = calloc(1, sizeof(*change));
    assert_non_null(change);
    change->self = registry_claim(stand->hall.registry, user, strlen(user), &waiting);
    assert_int_not_equal(change->self, 0);
    change->kind = kind;
    snprintf(change->event.user, sizeof(change->event.user), "%s", user);
    stand->asked[actor_slot(change->self)] = change;
    return change;
}

static void ask(struct stand *stand, struct change *change)
{
    struct message *message = message_create(ASK, sizeof(*message));
    assert_non_null(message);
    assert_int_equal(scheduler_post(stand->hall.scheduler, NULL, change->self, message), 0);
    hall_run(&stand->hall);
}

static void store_some(struct stand *stand, const char *user, unsigned count, uint32_t size)
{
    struct change *change = begin(stand, CHANGE_STORE, user);
    struct deliver_message **end = &change->stored;
    uint8_t *payload = calloc(1, size);
    assert_non_null(payload);
    for (unsigned i = 0; i < count; i++) {
        *end = deliver_create(bytes_of_text("gifts"), (struct bytes){payload, size});
        assert_non_null(*end);
        (*end)->keep_s = 3600;
        (*end)->from_service = true;
        (*end)->time_ms = env_wall_ms(stand->hall.env);
        (*end)->header.next = NULL;
        end = (struct deliver_message **)&(*end)->header.next;
    }
    free(payload);
    ask(stand, change);
}

static void log_in(struct stand *stand, const char *user, uint64_t last_mid)
{
    struct change *change = begin(stand, CHANGE_ATTACH, user);
    change->record = (struct session_record){.epoch = 1, .state = SESSION_ONLINE};
    change->event.epoch = 1;
    change->event.kind = 1;
    change->event.cause = 1;
    change->last_mid = last_mid;
    ask(stand, change);
}

static const struct ending *ending_of(struct stand *stand, const char *user)
{
    for (unsigned i = stand->count; i > 0; i--)
        if (strcmp(stand->endings[i - 1].user, user) == 0)
            return &stand->endings[i - 1];
    fail_msg("%s did not go on", user);
    return NULL;
}

static unsigned commits(struct stand *stand)
{
    return (unsigned)hall_metric(&stand->hall, METRIC_commits);
}

static uint64_t sessions_of(struct stand *stand)
{
    struct store_position position;
    assert_int_equal(store_position(stand->store, &position), 0);
    return position.sessions;
}

/* --- one transaction -------------------------------------------------------------------------- */

static void they_share_a_transaction(void **state)
{
    struct stand *stand = *state;
    log_in(stand, "ann", 0);
    store_some(stand, "bob", 3, PAYLOAD);
    log_in(stand, "cid", 0);
    store_some(stand, "dan", 1, PAYLOAD);
    assert_true(committer_step(stand->committer));
    assert_int_equal(commits(stand), 1);
    assert_int_equal(hall_metric(&stand->hall, METRIC_commit_turns), 4);
    assert_int_equal(hall_metric(&stand->hall, METRIC_presence_events), 2);
    assert_int_equal(sessions_of(stand), 2);
    assert_int_equal(ending_of(stand, "bob")->stored, 3);
    assert_int_equal(ending_of(stand, "bob")->stored_count, 3);
    assert_int_equal(ending_of(stand, "dan")->stored, 1);
    for (unsigned i = 0; i < stand->count; i++)
        assert_true(stand->endings[i].on_disk > 0); /* nobody went on before it was there */
    assert_false(committer_step(stand->committer));
}

static void a_failure_is_everybodys(void **state)
{
    struct stand *stand = *state;
    store_memory_fail(stand->store, -EIO);
    log_in(stand, "ann", 0);
    store_some(stand, "bob", 2, PAYLOAD);
    assert_true(committer_step(stand->committer));
    assert_int_equal(ending_of(stand, "ann")->error, -EIO);
    assert_int_equal(ending_of(stand, "bob")->refused, 2);
    assert_int_equal(ending_of(stand, "bob")->refusal, USHER__V1__ERROR__CODE__UNAVAILABLE);
    store_memory_fail(stand->store, 0);
    store_some(stand, "bob", 1, PAYLOAD);
    assert_true(committer_step(stand->committer));
    assert_int_equal(ending_of(stand, "bob")->stored, 1);
    assert_int_equal(ending_of(stand, "bob")->stored_count, 1);
}

static struct store_ops refusing;

static int no_room_for_log(struct store *store, struct bytes value, bool spares, uint64_t *number)
{
    return -ENOSPC; /* of the disk, and not of the log's part */
}

/* A full store refuses no login because of them. */
static void they_give_way_to_sessions(void **state)
{
    struct stand *stand = *state;
    store_some(stand, "cid", 2, PAYLOAD);
    assert_true(committer_step(stand->committer));
    const struct store_ops *ops = stand->store->ops;
    refusing = *ops;
    refusing.append_log = no_room_for_log;
    stand->store->ops = &refusing;
    log_in(stand, "ann", 0);
    store_some(stand, "bob", 2, PAYLOAD);
    log_in(stand, "cid", atomic_load(&stand->epoch_last)); /* he has all that he had */
    assert_true(committer_step(stand->committer));
    assert_int_equal(ending_of(stand, "cid")->stored_count, 0);
    assert_int_equal(sessions_of(stand), 2);
    assert_int_equal(ending_of(stand, "ann")->error, 0);
    assert_int_equal(ending_of(stand, "cid")->error, 0);
    assert_int_equal(ending_of(stand, "bob")->refused, 2);
    assert_int_equal(ending_of(stand, "bob")->refusal, USHER__V1__ERROR__CODE__UNAVAILABLE);
    assert_int_equal(hall_metric(&stand->hall, METRIC_stored_refused_store), 2);
    stand->store->ops = ops;
    store_some(stand, "bob", 2, PAYLOAD);
    assert_true(committer_step(stand->committer));
    assert_int_equal(ending_of(stand, "bob")->stored, 2);
}

static int (*put_session)(struct store *store, const char *user,
                          const struct session_record *record);

static int no_room_for_user7(struct store *store, const char *user,
                             const struct session_record *record)
{
    return strcmp(user, "user7") == 0 ? -ENOSPC : put_session(store, user, record);
}

/* And then who does not fit is refused alone, as without them. */
static void sessions_are_halved_without_them(void **state)
{
    struct stand *stand = *state;
    const struct store_ops *ops = stand->store->ops;
    refusing = *ops;
    put_session = ops->put_session;
    refusing.put_session = no_room_for_user7;
    stand->store->ops = &refusing;
    for (unsigned i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof(name), "user%u", i);
        log_in(stand, name, 0);
    }
    store_some(stand, "bob", 2, PAYLOAD);
    assert_true(committer_step(stand->committer));
    stand->store->ops = ops;
    assert_int_equal(sessions_of(stand), 19);
    assert_int_equal(ending_of(stand, "user7")->error, -ENOSPC);
    assert_int_equal(ending_of(stand, "user8")->error, 0);
    assert_int_equal(ending_of(stand, "bob")->refused, 2);
    assert_int_equal(stand->count, 21);
}

/* Nobody's login waits for all of what is to be stored. */
static void many_go_in_several_transactions(void **state)
{
    struct stand *stand = *state;
    for (unsigned i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof(name), "user%u", i);
        store_some(stand, name, 1, 20000);
    }
    log_in(stand, "ann", 0);
    assert_true(committer_step(stand->committer));
    assert_int_equal(ending_of(stand, "ann")->error, 0);
    assert_true(stand->count > 2 && stand->count < 20);
    assert_int_equal(committer_look(stand->committer).waiting, 101 - stand->count);
    while (committer_step(stand->committer))
        continue;
    assert_int_equal(stand->count, 101);
    for (unsigned i = 1; i < 101; i++) /* in their order */
        assert_true(stand->endings[i].last_mid > stand->endings[i - 1].last_mid ||
                    stand->endings[i].kind != CHANGE_STORE ||
                    stand->endings[i - 1].kind != CHANGE_STORE);
    assert_true(commits(stand) >= 7);
}

static void what_waits_is_bounded(void **state)
{
    struct stand *stand = *state;
    stand->limits.inbox_waiting_bytes = 65536;
    store_some(stand, "ann", 1, 100000); /* one always may */
    store_some(stand, "bob", 1, 10);
    while (committer_step(stand->committer))
        continue;
    assert_int_equal(ending_of(stand, "ann")->stored, 1);
    assert_int_equal(ending_of(stand, "bob")->refusal, USHER__V1__ERROR__CODE__BUSY);
    store_some(stand, "bob", 1, 10); /* nothing waits any more */
    assert_true(committer_step(stand->committer));
    assert_int_equal(ending_of(stand, "bob")->stored, 1);
}

/* --- what clients have processed -------------------------------------------------------------- */

static void a_login_hears_what_is_left(void **state)
{
    struct stand *stand = *state;
    store_some(stand, "bob", 5, PAYLOAD);
    assert_true(committer_step(stand->committer));
    uint64_t mid = ending_of(stand, "bob")->last_mid;
    log_in(stand, "bob", 0);
    assert_true(committer_step(stand->committer));
    assert_int_equal(ending_of(stand, "bob")->stored_count, 5);
    log_in(stand, "bob", mid - 2);
    assert_true(committer_step(stand->committer));
    assert_int_equal(ending_of(stand, "bob")->stored_count, 2);
    log_in(stand, "bob", 0); /* it is done */
    assert_true(committer_step(stand->committer));
    assert_int_equal(ending_of(stand, "bob")->stored_count, 2);
    committer_done(stand->committer, "bob", mid - 1);
    log_in(stand, "bob", 0); /* what was noted goes along, and in front */
    assert_true(committer_step(stand->committer));
    assert_int_equal(ending_of(stand, "bob")->stored_count, 1);
    close_parts(stand);
    open_parts(stand);
    log_in(stand, "bob", 0);
    assert_true(committer_step(stand->committer));
    assert_int_equal(ending_of(stand, "bob")->stored_count, 1);
}

/* By the thread within some seconds, and by the end. */
static void what_is_done_is_noted_when_nobody_comes(void **state)
{
    struct stand *stand = *state;
    store_some(stand, "bob", 5, PAYLOAD);
    assert_true(committer_step(stand->committer));
    uint64_t mid = ending_of(stand, "bob")->last_mid;
    start(stand);
    committer_done(stand->committer, "bob", mid - 3);
    WAIT_FOR(hall_metric(&stand->hall, METRIC_stored_done) == 2);
    uint64_t bytes;
    assert_int_equal(committer_drop_stored(stand->committer, "bob", mid - 2, &bytes), 1);
    assert_int_equal(bytes, PAYLOAD);
    WAIT_FOR(hall_metric(&stand->hall, METRIC_stored_dropped) == 1);
    committer_done(stand->committer, "bob", mid - 1);
    close_parts(stand);
    assert_int_equal(hall_metric(&stand->hall, METRIC_stored_done), 3);
    open_parts(stand);
    log_in(stand, "bob", 0);
    assert_true(committer_step(stand->committer));
    assert_int_equal(ending_of(stand, "bob")->stored_count, 1);
}

/* --- windows ---------------------------------------------------------------------------------- */

static void ask_window(struct stand *stand, const char *user)
{
    struct change *change = begin(stand, CHANGE_WINDOW, user);
    change->messages_max = 10;
    change->bytes_max = 100000;
    ask(stand, change);
}

static void a_turn_goes_on_with_its_window(void **state)
{
    struct stand *stand = *state;
    store_some(stand, "bob", 5, PAYLOAD);
    assert_true(committer_step(stand->committer));
    ask_window(stand, "bob");
    assert_int_equal(stand->count, 1);
    assert_true(queries_step(stand->queries));
    assert_int_equal(ending_of(stand, "bob")->kind, CHANGE_WINDOW);
    assert_int_equal(ending_of(stand, "bob")->stored, 5);
    assert_true(ending_of(stand, "bob")->by_queries);
    assert_false(queries_step(stand->queries));
}

static void a_window_of_a_store_that_fails_says_so(void **state)
{
    struct stand *stand = *state;
    store_some(stand, "bob", 5, PAYLOAD);
    assert_true(committer_step(stand->committer));
    store_memory_cut(stand->store, false);
    log_in(stand, "ann", 0);
    assert_true(committer_step(stand->committer));
    ask_window(stand, "bob");
    assert_true(queries_step(stand->queries));
    assert_int_equal(ending_of(stand, "bob")->error, -EIO);
    assert_int_equal(ending_of(stand, "bob")->stored, 0);
    store_memory_crash(stand->store);
    ask_window(stand, "bob");
    assert_true(queries_step(stand->queries));
    assert_int_equal(ending_of(stand, "bob")->stored, 5);
}

/* Threads of both, windows beside what comes and goes. */
static void windows_beside_commits(void **state)
{
    enum { ROUNDS = 300, USERS = 20 };
    struct stand *stand = *state;
    start(stand);
    assert_int_equal(queries_start(stand->queries), 0);
    hall_start_workers(&stand->hall);
    for (unsigned i = 0; i < ROUNDS; i++) {
        char name[16];
        unsigned before = stand->count;
        for (unsigned j = 0; j < USERS; j++) {
            snprintf(name, sizeof(name), "user%u", j);
            if ((i + j) % 2 == 0)
                store_some(stand, name, 2, 1000);
            else
                ask_window(stand, name);
        }
        WAIT_FOR(stand->count == before + USERS);
        for (unsigned j = before; j < stand->count; j++) {
            const struct ending *ending = &stand->endings[j];
            assert_int_equal(ending->error, 0);
            if (ending->kind == CHANGE_WINDOW && ending->last_mid != 0)
                committer_done(stand->committer, ending->user, ending->last_mid);
        }
    }
    assert_true(hall_metric(&stand->hall, METRIC_log_cleaned_bytes) > 0);
    assert_int_equal(hall_metric(&stand->hall, METRIC_log_damaged), 0);
}

static void a_stop_leaves_windows_unread(void **state)
{
    struct stand *stand = *state;
    ask_window(stand, "bob");
    assert_int_equal(queries_start(stand->queries), 0);
    WAIT_FOR(stand->count == 1);
    queries_halt(stand->queries);
    ask_window(stand, "ann");
    nap_ms(50);
    assert_int_equal(stand->count, 1); /* and queries_close frees it */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(they_share_a_transaction),        TEST(a_failure_is_everybodys),
        TEST(they_give_way_to_sessions),       TEST(sessions_are_halved_without_them),
        TEST(many_go_in_several_transactions), TEST(what_waits_is_bounded),
        TEST(a_login_hears_what_is_left),      TEST(what_is_done_is_noted_when_nobody_comes),
        TEST(a_turn_goes_on_with_its_window),  TEST(a_window_of_a_store_that_fails_says_so),
        TEST(windows_beside_commits),          TEST(a_stop_leaves_windows_unread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
