/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "backend.pb-c.h"
#include "persist/committer.h"
#include "storage/store_ops.h"
#include "unit/hall.h"

/* Group commit by itself: held turns of actors that only ask for a change and write down how it
 * ended. What clients and followers see of it is commit_test's, beside the glue. */

enum { ACTORS = 4096, PUT = 1 };

/* One change that is over, in the order in which the turns went on. */
struct ending {
    char user[16];
    uint64_t seq;
    int error;
};

struct stand {
    struct hall hall; /* first: the context of the behaviour */
    struct store *store;
    struct runner committing;
    struct committer *committer;
    bool started;
    _Atomic uint64_t epoch_last;
    struct change *asked[ACTORS]; /* by slot: what this turn asks for */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under lock */
    bool closed; /* the gate: whoever is told that something is stored waits at it */
    bool at_gate;
    unsigned told,
        told_before; /* changes that were told as stored; and when the last one went on */
    unsigned count;
    struct ending endings[ACTORS];
};

/* --- actors that wait ------------------------------------------------------------------------- */

static bool receive(void *context, struct runner *runner, actor_handle self, void *state,
                    struct message *message)
{
    struct stand *stand = context;
    struct change *change = calloc(1, sizeof(*change));
    if (change == NULL)
        abort();
    change->self = self;
    change->kind = CHANGE_ATTACH;
    change->record = (struct session_record){.epoch = 1, .state = SESSION_ONLINE};
    change->event = (struct presence_event){.epoch = 1,
                                            .kind = USHER__V1__PRESENCE_EVENT__KIND__ONLINE,
                                            .cause = USHER__V1__PRESENCE_EVENT__CAUSE__LOGIN};
    snprintf(change->event.user, sizeof(change->event.user), "%s",
             registry_actor(stand->hall.registry, actor_slot(self))->name);
    stand->asked[actor_slot(self)] = change;
    message_destroy(message);
    return false;
}

static enum verdict finish(void *context, struct runner *runner, actor_handle self, void *state)
{
    struct stand *stand = context;
    committer_submit(stand->committer, stand->asked[actor_slot(self)]);
    return VERDICT_HOLD;
}

static enum verdict resume(void *context, struct runner *runner, actor_handle self, void *state,
                           void *what)
{
    struct stand *stand = context;
    const struct change *change = what;
    pthread_mutex_lock(&stand->lock);
    struct ending *ending = &stand->endings[stand->count++];
    snprintf(ending->user, sizeof(ending->user), "%.15s", change->event.user);
    ending->seq = change->event.seq;
    ending->error = change->error;
    stand->told_before = stand->told;
    pthread_mutex_unlock(&stand->lock);
    return VERDICT_GO_ON;
}

static const struct behaviour waiting = {
    .name = "waiting", .receive = receive, .finish = finish, .resume = resume};

static void stored(void *context, struct runner *runner, const struct change *list)
{
    struct stand *stand = context;
    pthread_mutex_lock(&stand->lock);
    stand->at_gate = true;
    while (stand->closed)
        pthread_cond_wait(&stand->changed, &stand->lock);
    stand->at_gate = false;
    for (; list != NULL; list = list->next)
        stand->told++;
    pthread_mutex_unlock(&stand->lock);
}

/* --- the stand -------------------------------------------------------------------------------- */

static int set_up(void **state)
{
    const struct store_options kept = {.events_kept_max = 100000};
    struct stand *stand = calloc(1, sizeof(*stand));
    assert_non_null(stand);
    hall_open(&stand->hall, ACTORS, false);
    pthread_mutex_init(&stand->lock, NULL);
    pthread_cond_init(&stand->changed, NULL);
    assert_int_equal(store_open_memory(&stand->store, &kept), 0);
    const struct committer_options options = {.store = stand->store,
                                              .store_path = "",
                                              .env = stand->hall.env,
                                              .metrics = stand->hall.metrics,
                                              .scheduler = stand->hall.scheduler,
                                              .runner = &stand->committing,
                                              .epoch_last = &stand->epoch_last,
                                              .reader = "reader",
                                              .committed = stored,
                                              .context = stand};
    static _Atomic uint64_t beats;
    stand->committing = (struct runner){.beats = &beats};
    assert_int_equal(committer_open(&stand->committer, &options), 0);
    *state = stand;
    return 0;
}

static int tear_down(void **state)
{
    struct stand *stand = *state;
    while (!stand->started && committer_step(stand->committer))
        continue;
    if (stand->committer != NULL)
        committer_close(stand->committer);
    hall_close(&stand->hall);
    store_close(stand->store);
    pthread_mutex_destroy(&stand->lock);
    pthread_cond_destroy(&stand->changed);
    free(stand);
    return 0;
}

static void ask(struct stand *stand, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "user%u", i);
        actor_handle self = registry_claim(stand->hall.registry, name, strlen(name), &waiting);
        struct message *message = message_create(PUT, sizeof(*message));
        assert_true(self != 0 && message != NULL);
        assert_int_equal(scheduler_post(stand->hall.scheduler, NULL, self, message), 0);
    }
    hall_run(&stand->hall);
}

static void start(struct stand *stand)
{
    assert_int_equal(committer_start(stand->committer), 0);
    stand->started = true;
}

static void set_gate(struct stand *stand, bool closed)
{
    pthread_mutex_lock(&stand->lock);
    stand->closed = closed;
    pthread_cond_broadcast(&stand->changed);
    pthread_mutex_unlock(&stand->lock);
}

static bool somebody_is_at_the_gate(struct stand *stand)
{
    pthread_mutex_lock(&stand->lock);
    bool any = stand->at_gate;
    pthread_mutex_unlock(&stand->lock);
    return any;
}

static uint64_t stored_sessions(struct stand *stand)
{
    struct store_position position;
    assert_int_equal(store_position(stand->store, &position), 0);
    return position.sessions;
}

/* --- one step --------------------------------------------------------------------------------- */

static void one_transaction_for_all_that_wait(void **state)
{
    struct stand *stand = *state;
    ask(stand, 0, 100);
    assert_int_equal(committer_look(stand->committer).waiting, 100);
    assert_int_equal(stand->count, 0);
    assert_true(committer_step(stand->committer));
    assert_int_equal(hall_metric(&stand->hall, METRIC_commits), 1);
    assert_int_equal(hall_metric(&stand->hall, METRIC_commit_turns), 100);
    assert_int_equal(committer_look(stand->committer).waiting, 0);
    assert_int_equal(stored_sessions(stand), 100);
    assert_int_equal(stand->told_before, 100); /* all was told before anybody went on */
    assert_int_equal(stand->count, 100);
    for (unsigned i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof(name), "user%u", i);
        assert_string_equal(stand->endings[i].user, name);
        assert_int_equal(stand->endings[i].seq, i + 1);
        assert_int_equal(stand->endings[i].error, 0);
    }
    assert_false(committer_step(stand->committer));
}

static void a_failure_is_everybodys(void **state)
{
    struct stand *stand = *state;
    store_memory_fail(stand->store, -EIO);
    ask(stand, 0, 20);
    assert_true(committer_step(stand->committer));
    assert_int_equal(stand->count, 20);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(stand->endings[i].error, -EIO);
    assert_int_equal(stand->told, 0);
    assert_int_equal(committer_look(stand->committer).error, -EIO);
    assert_int_not_equal(committer_look(stand->committer).failing_since_ms, 0);
    store_memory_fail(stand->store, 0);
    ask(stand, 0, 1);
    assert_true(committer_step(stand->committer));
    assert_int_equal(stand->endings[20].error, 0);
    assert_int_equal(committer_look(stand->committer).error, 0);
    assert_int_equal(committer_look(stand->committer).failing_since_ms, 0);
}

static int (*put_session)(struct store *store, const char *user,
                          const struct session_record *record);

static int no_room_for_user7(struct store *store, const char *user,
                             const struct session_record *record)
{
    return strcmp(user, "user7") == 0 ? -ENOSPC : put_session(store, user, record);
}

/* What does not fit is not told to those who do. */
static void who_does_not_fit_is_refused_alone(void **state)
{
    struct stand *stand = *state;
    static struct store_ops refusing;
    const struct store_ops *ops = stand->store->ops;
    refusing = *ops;
    put_session = ops->put_session;
    refusing.put_session = no_room_for_user7;
    stand->store->ops = &refusing;
    ask(stand, 0, 50);
    assert_true(committer_step(stand->committer));
    stand->store->ops = ops;
    assert_int_equal(stand->count, 50);
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(stand->endings[i].error,
                         strcmp(stand->endings[i].user, "user7") == 0 ? -ENOSPC : 0);
    assert_int_equal(stored_sessions(stand), 49);
    assert_int_equal(stand->told, 49);
}

static uint64_t kept(struct stand *stand)
{
    uint64_t seq = 0;
    int found = store_get_cursor(stand->store, "reader", &seq);
    assert_true(found == 0 || found == -ENOENT);
    return seq;
}

/* Beside what is committed anyway, and only when that was. */
static void how_far_a_reader_has_come_goes_along(void **state)
{
    struct stand *stand = *state;
    committer_keep(stand->committer, 5);
    assert_false(committer_step(stand->committer));
    assert_int_equal(kept(stand), 0); /* no transaction for it alone, yet */
    store_memory_fail(stand->store, -EIO);
    ask(stand, 0, 1);
    assert_true(committer_step(stand->committer));
    assert_int_equal(kept(stand), 0);
    store_memory_fail(stand->store, 0);
    committer_keep(stand->committer, 9);
    committer_keep(stand->committer, 7);
    ask(stand, 1, 1);
    assert_true(committer_step(stand->committer));
    assert_int_equal(kept(stand), 7);
    assert_int_equal(hall_metric(&stand->hall, METRIC_commits), 1);
}

static int no_room_for_cursors(struct store *store, const char *reader, uint64_t seq)
{
    return -ENOSPC;
}

/* A full store refuses nobody for it. */
static void a_reader_is_in_nobodys_way(void **state)
{
    struct stand *stand = *state;
    static struct store_ops refusing;
    const struct store_ops *ops = stand->store->ops;
    refusing = *ops;
    refusing.put_cursor = no_room_for_cursors;
    stand->store->ops = &refusing;
    committer_keep(stand->committer, 5);
    ask(stand, 0, 10);
    assert_true(committer_step(stand->committer));
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(stand->endings[i].error, 0);
    assert_int_equal(hall_metric(&stand->hall, METRIC_commit_turns), 10);
    assert_int_equal(kept(stand), 0);
    stand->store->ops = ops;
    ask(stand, 10, 1); /* and it comes later */
    assert_true(committer_step(stand->committer));
    assert_int_equal(kept(stand), 5);
}

/* When nobody wants anything, and at the end. */
static void a_reader_alone_is_kept_too(void **state)
{
    struct stand *stand = *state;
    start(stand);
    committer_keep(stand->committer, 5);
    WAIT_FOR(kept(stand) == 5);
    committer_keep(stand->committer, 6);
    committer_close(stand->committer);
    stand->committer = NULL;
    assert_int_equal(kept(stand), 6);
}

static unsigned rests;

static void count_rest(struct store *store)
{
    rests++;
}

/* Seldom enough to cost nothing. */
static void memory_is_given_back_after_n_changes(void **state)
{
    struct stand *stand = *state;
    static struct store_ops counting;
    const struct store_ops *ops = stand->store->ops;
    counting = *ops;
    counting.rest = count_rest;
    stand->store->ops = &counting;
    for (unsigned round = 0; round < 2; round++) {
        rests = 0;
        ask(stand, round * 1024, 1023);
        assert_true(committer_step(stand->committer));
        assert_int_equal(rests, 0);
        ask(stand, round * 1024 + 1023, 1);
        assert_true(committer_step(stand->committer));
        assert_int_equal(rests, 1);
    }
    stand->store->ops = ops;
}

/* --- the thread ------------------------------------------------------------------------------- */

/* While one transaction's turns go on, the next one grows. */
static void what_comes_during_a_commit_shares_the_next(void **state)
{
    struct stand *stand = *state;
    set_gate(stand, true);
    start(stand);
    ask(stand, 0, 1);
    WAIT_FOR(somebody_is_at_the_gate(stand));
    ask(stand, 1, 59);
    set_gate(stand, false);
    committer_drain(stand->committer);
    assert_int_equal(stand->count, 60);
    assert_int_equal(hall_metric(&stand->hall, METRIC_commits), 2);
    assert_int_equal(hall_metric(&stand->hall, METRIC_commit_turns), 60);
}

struct drainer {
    struct stand *stand;
    _Atomic bool done;
};

static void *drain(void *argument)
{
    struct drainer *drainer = argument;
    committer_drain(drainer->stand->committer);
    atomic_store(&drainer->done, true);
    return NULL;
}

static void drain_waits_for_what_is_queued_and_in_progress(void **state)
{
    struct stand *stand = *state;
    struct drainer drainer = {.stand = stand};
    pthread_t thread;
    committer_drain(stand->committer); /* not started */
    start(stand);
    committer_drain(stand->committer); /* idle */
    set_gate(stand, true);
    ask(stand, 0, 1);
    WAIT_FOR(somebody_is_at_the_gate(stand));
    assert_int_equal(pthread_create(&thread, NULL, drain, &drainer), 0);
    nap_ms(100);
    bool early = atomic_load(&drainer.done); /* nothing queued, one in progress */
    ask(stand, 1, 5);
    set_gate(stand, false);
    pthread_join(thread, NULL);
    assert_false(early);
    assert_int_equal(stand->count, 6);
}

static void close_commits_what_is_queued(void **state)
{
    struct stand *stand = *state;
    ask(stand, 0, 10);
    start(stand);
    committer_close(stand->committer);
    stand->committer = NULL;
    assert_int_equal(stored_sessions(stand), 10);
    assert_int_equal(stand->count, 10);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_transaction_for_all_that_wait),
        TEST(a_failure_is_everybodys),
        TEST(who_does_not_fit_is_refused_alone),
        TEST(how_far_a_reader_has_come_goes_along),
        TEST(a_reader_is_in_nobodys_way),
        TEST(a_reader_alone_is_kept_too),
        TEST(memory_is_given_back_after_n_changes),
        TEST(what_comes_during_a_commit_shares_the_next),
        TEST(drain_waits_for_what_is_queued_and_in_progress),
        TEST(close_commits_what_is_queued),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
