/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/services.h"
#include "persist/committer.h"
#include "unit/broker/broker_fixture.h"

#include "storage/store_ops.h"

/* Group commit, seen from both ends: what the store has and what clients and followers are told. */

enum { WELCOME = USHER__V1__BROKER_FRAME__BODY_WELCOME };

static void log_in_many(struct glue *glue, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        char user[16];
        snprintf(user, sizeof(user), "user%u", i);
        log_in(glue, user, 1000 + i);
    }
    run_turns(glue);
}

struct events {
    unsigned count;
    struct presence_event list[2000];
};

static bool add_event(void *context, const struct presence_event *event)
{
    struct events *events = context;
    events->list[events->count++] = *event;
    return true;
}

/* All that the store has; the caller frees. Seqs have no gaps, or the test fails. */
static struct events *read_events(struct glue *glue)
{
    struct events *events = calloc(1, sizeof(*events));
    struct store_position position;
    assert_non_null(events);
    assert_int_equal(store_read_events(glue->store, 0, 2000, add_event, events, &position), 0);
    for (unsigned i = 0; i < events->count; i++)
        assert_int_equal(events->list[i].seq, i + 1);
    assert_int_equal(position.presence_last, events->count);
    return events;
}

static void one_transaction_for_all_that_wait(void **state)
{
    struct glue *glue = *state;
    log_in_many(glue, 0, 100);
    assert_int_equal(metric_of(glue, METRIC_turns_held), 100);
    assert_int_equal(metric_of(glue, METRIC_commits), 0);
    assert_true(committer_step(glue->broker.committer));
    assert_int_equal(metric_of(glue, METRIC_commits), 1);
    assert_int_equal(metric_of(glue, METRIC_commit_turns), 100);
    assert_int_equal(metric_of(glue, METRIC_presence_events), 100);
    assert_int_equal(position_of(glue).sessions, 100);
    assert_int_equal(position_of(glue).epoch_last, 100);
    assert_int_equal(told_times(&glue->net, TOLD_WRITE, 0), 100);
    assert_false(committer_step(glue->broker.committer));
    assert_int_equal(metric_of(glue, METRIC_commits), 1);
}

/* The order in which the turns ended is the order of the stream and of the Welcomes. */
static void seqs_in_the_order_of_submission(void **state)
{
    struct glue *glue = *state;
    for (unsigned i = 0; i < 50; i++) {
        char user[16];
        snprintf(user, sizeof(user), "user%u", i * 37 % 50);
        log_in(glue, user, 1000 + i);
    }
    run_turns(glue);
    while (committer_step(glue->broker.committer))
        continue;
    struct events *events = read_events(glue);
    assert_int_equal(events->count, 50);
    for (unsigned i = 0; i < 50; i++) {
        char user[16];
        snprintf(user, sizeof(user), "user%u", i * 37 % 50);
        assert_string_equal(events->list[i].user, user);
        assert_int_equal(events->list[i].kind, USHER__V1__PRESENCE_EVENT__KIND__ONLINE);
        struct told told = told_find(&glue->net, TOLD_WRITE, 0, i);
        assert_int_equal(told.conn, 1000 + i);
        assert_int_equal(told.epoch, events->list[i].epoch);
    }
    free(events);
}

static void nothing_leaves_before_the_commit(void **state)
{
    struct glue *glue = *state;
    struct probe *follower = hall_probe(&glue->hall, "!follower");
    assert_int_equal(services_join(glue->broker.services, "", follower->self, true), 0);
    log_in_many(glue, 0, 10);
    assert_int_equal(glue->net.told_count, 0);
    assert_int_equal(atomic_load(&glue->broker.counters.presence_last), 0);
    assert_int_equal(probe_count(follower), 0);
    assert_true(committer_step(glue->broker.committer));
    for (unsigned i = 0; i < 10; i++) {
        struct told told = told_find(&glue->net, TOLD_WRITE, 1000 + i, 0);
        assert_int_equal(told.body, WELCOME);
        assert_int_equal(told.presence_last, 10); /* whoever is told can read it all */
    }
    run_turns(glue);
    assert_int_equal(probe_count(follower), 1);
    struct presence_message *presence = (struct presence_message *)probe_take(follower);
    assert_int_equal(presence->header.kind, MESSAGE_PRESENCE);
    assert_int_equal(presence->last, 10);
    message_destroy(&presence->header);
}

static void a_failure_is_told_to_every_change(void **state)
{
    struct glue *glue = *state;
    static const int errors[] = {-EIO, -ENOSPC};
    struct probe *follower = hall_probe(&glue->hall, "!follower");
    assert_int_equal(services_join(glue->broker.services, "", follower->self, true), 0);
    unsigned failures = 0;
    for (unsigned round = 0; round < 2; round++) {
        store_memory_fail(glue->store, errors[round]);
        log_in_many(glue, round * 20, 20);
        failures += errors[round] == -ENOSPC ? 20 : 1; /* each alone, at last */
        assert_true(committer_step(glue->broker.committer));
        for (unsigned i = 0; i < 20; i++) {
            struct told told = told_find(&glue->net, TOLD_UNBIND, 1000 + round * 20 + i, 0);
            assert_int_equal(told.kind, TOLD_UNBIND);
            assert_int_equal(told.code, USHER__V1__ERROR__CODE__UNAVAILABLE);
        }
        run_turns(glue);
        assert_int_equal(told_times(&glue->net, TOLD_WRITE, 0), 0);
        assert_int_equal(probe_count(follower), 0);
        assert_int_equal(atomic_load(&glue->broker.counters.presence_last), 0);
        assert_int_equal(position_of(glue).presence_last, 0);
        assert_int_equal(position_of(glue).sessions, 0);
        assert_int_equal(metric_of(glue, METRIC_commit_failures), failures);
        assert_int_equal(metric_of(glue, METRIC_commits), 0);
        assert_int_equal(metric_of(glue, METRIC_presence_events), 0);
        assert_int_equal(registry_count_of(glue->broker.registry, KIND_USER), 1); /* the follower */
    }
}

static void it_recovers(void **state)
{
    struct glue *glue = *state;
    log_in_many(glue, 0, 5);
    assert_true(committer_step(glue->broker.committer));
    store_memory_fail(glue->store, -EIO);
    log_in_many(glue, 5, 5);
    assert_true(committer_step(glue->broker.committer));
    store_memory_fail(glue->store, 0);
    log_in_many(glue, 5, 10);
    assert_true(committer_step(glue->broker.committer));
    assert_int_equal(told_times(&glue->net, TOLD_UNBIND, 0), 5);
    assert_int_equal(told_times(&glue->net, TOLD_WRITE, 0), 15);
    struct events *events = read_events(glue);
    assert_int_equal(events->count, 15);
    assert_string_equal(events->list[5].user, "user5");
    /* An epoch that was not stored is not given again. */
    assert_int_equal(events->list[4].epoch, 5);
    assert_true(events->list[5].epoch > 10);
    free(events);
}

/* A store that refuses the newcomer does not disturb who is there. */
static void a_refused_takeover_leaves_the_old_one(void **state)
{
    struct glue *glue = *state;
    log_in(glue, "anna", 1);
    run_turns(glue);
    committer_step(glue->broker.committer);
    store_memory_fail(glue->store, -EIO);
    log_in(glue, "anna", 2);
    run_turns(glue);
    committer_step(glue->broker.committer);
    assert_int_equal(told_times(&glue->net, TOLD_UNBIND, 2), 1);
    assert_int_equal(told_times(&glue->net, TOLD_RELEASE, 1), 0);
    store_memory_fail(glue->store, 0);
    log_in(glue, "anna", 3);
    run_turns(glue);
    assert_int_equal(told_times(&glue->net, TOLD_RELEASE, 1), 0); /* not before it is stored */
    committer_step(glue->broker.committer);
    assert_int_equal(told_times(&glue->net, TOLD_RELEASE, 1), 1);
    assert_int_equal(told_find(&glue->net, TOLD_WRITE, 1, 1).code,
                     USHER__V1__CLOSE__REASON__REPLACED);
    assert_int_equal(told_find(&glue->net, TOLD_WRITE, 3, 0).body, WELCOME);
    struct events *events = read_events(glue);
    assert_int_equal(events->count, 2);
    assert_int_equal(events->list[1].cause, USHER__V1__PRESENCE_EVENT__CAUSE__TAKEOVER);
    assert_int_equal(events->list[1].previous_epoch, events->list[0].epoch);
    free(events);
}

/* The second login waits behind the first one's commit. That fails and the actor retires; the
 * second finds nobody and makes a new one. */
static void a_login_behind_a_failed_one_starts_anew(void **state)
{
    struct glue *glue = *state;
    store_memory_fail(glue->store, -EIO);
    log_in(glue, "anna", 1);
    run_turns(glue);
    log_in(glue, "anna", 2);
    assert_int_equal(run_turns(glue), 0); /* held */
    committer_step(glue->broker.committer);
    store_memory_fail(glue->store, 0);
    run_turns(glue);
    assert_int_equal(told_times(&glue->net, TOLD_RETURN, 2), 1);
    assert_true(committer_step(glue->broker.committer));
    assert_int_equal(told_times(&glue->net, TOLD_UNBIND, 1), 1);
    assert_int_equal(told_times(&glue->net, TOLD_UNBIND, 2), 0);
    assert_int_equal(told_find(&glue->net, TOLD_WRITE, 2, 0).body, WELCOME);
    assert_int_equal(position_of(glue).sessions, 1);
}

static void sessions_that_end_are_removed(void **state)
{
    struct glue *glue = *state;
    actor_handle anna = log_in(glue, "anna", 1);
    log_in(glue, "berta", 2);
    run_turns(glue);
    committer_step(glue->broker.committer);
    struct kick_message *kick = message_create(MESSAGE_KICK, sizeof(*kick));
    struct message header = kick->header;
    memset(kick, 0, sizeof(*kick));
    kick->header = header;
    kick->reason = USHER__V1__CLOSE__REASON__KICKED;
    assert_int_equal(scheduler_post(glue->broker.scheduler, NULL, anna, &kick->header), 0);
    run_turns(glue);
    assert_int_equal(position_of(glue).sessions, 2);
    assert_int_equal(registry_find(glue->broker.registry, "anna", 4), anna);
    committer_step(glue->broker.committer);
    assert_int_equal(position_of(glue).sessions, 1);
    assert_int_equal(position_of(glue).presence_last, 3);
    assert_int_equal(registry_find(glue->broker.registry, "anna", 4), 0);
    assert_int_equal(told_times(&glue->net, TOLD_RELEASE, 1), 1);
}

/* --- the thread ------------------------------------------------------------------------------- */

enum { POSTERS = 3, EACH = 300 };

struct poster {
    struct glue *glue;
    unsigned first;
};

static void *post_logins(void *argument)
{
    struct poster *poster = argument;
    for (unsigned i = poster->first; i < poster->first + EACH; i++) {
        char user[16];
        snprintf(user, sizeof(user), "user%u", i);
        log_in(poster->glue, user, 1000 + i);
    }
    return NULL;
}

static void many_threads_share_commits(void **state)
{
    struct glue *glue = *state;
    pthread_t threads[POSTERS];
    struct poster posters[POSTERS];
    start_workers(glue);
    start_committer(glue);
    for (unsigned i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){glue, i * EACH};
        assert_int_equal(pthread_create(&threads[i], NULL, post_logins, &posters[i]), 0);
    }
    for (unsigned i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    WAIT_FOR(told_times(&glue->net, TOLD_WRITE, 0) == POSTERS * EACH);
    committer_drain(glue->broker.committer);
    struct events *events = read_events(glue);
    assert_int_equal(events->count, POSTERS * EACH);
    for (unsigned i = 0; i < events->count; i++) {
        struct told told = told_find(&glue->net, TOLD_WRITE, 0, i);
        assert_int_equal(told.epoch, events->list[i].epoch);
        assert_true(told.presence_last >= events->list[i].seq);
    }
    assert_int_equal(metric_of(glue, METRIC_commit_turns), POSTERS * EACH);
    free(events);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_transaction_for_all_that_wait),
        TEST(seqs_in_the_order_of_submission),
        TEST(nothing_leaves_before_the_commit),
        TEST(a_failure_is_told_to_every_change),
        TEST(it_recovers),
        TEST(a_refused_takeover_leaves_the_old_one),
        TEST(a_login_behind_a_failed_one_starts_anew),
        TEST(sessions_that_end_are_removed),
        TEST(many_threads_share_commits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
