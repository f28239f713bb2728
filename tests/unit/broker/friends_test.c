/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/broker/broker_fixture.h"

#include "actors/watch.h"

/* From the committer to the shards of friends: nothing while nobody watches, and nothing wrong when
 * a mailbox has no room. */

enum { MANY = 400 };

static void prepare(struct options *options)
{
    options->friends_mode = FRIENDS_OPEN;
    options->limits_mailbox_messages = 2;
}

static int set_up_friends(void **state)
{
    *state = glue_make_with(NULL, 100000, true, prepare);
    return 0;
}

static actor_handle shard_of(const struct glue *glue, const char *name)
{
    const struct settings *settings = &glue->broker.settings;
    return watch_shard(settings, watch_hash(settings, bytes_of_text(name)));
}

static uint32_t waiting(struct glue *glue)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < WATCH_SHARDS; i++)
        sum += mailbox_length(&registry_actor(glue->broker.registry,
                                              actor_slot(glue->broker.settings.watch_shards[i]))
                                   ->mailbox);
    return sum;
}

static void log_all_in(struct glue *glue, unsigned from)
{
    for (unsigned i = 0; i < MANY; i++) {
        char name[16];
        snprintf(name, sizeof(name), "u%u", i);
        log_in(glue, name, from + i);
    }
    run_turns(glue);
    assert_true(committer_step(glue->broker.committer));
}

static void work(struct glue *glue)
{
    while (run_turns(glue) > 0 || queries_step(glue->broker.queries))
        continue;
}

/* The last state of each; gives how many are ONLINE, and frees what has come. */
static unsigned online(struct probe *watcher, uint8_t states[MANY])
{
    struct message *message;
    unsigned sum = 0;
    while ((message = probe_take(watcher)) != NULL) {
        const struct watched_message *single = (const struct watched_message *)message;
        const struct watched_many_message *many = (const struct watched_many_message *)message;
        bool is_many = message->kind == MESSAGE_WATCHED_MANY;
        assert_true(is_many || message->kind == MESSAGE_WATCHED);
        const struct watched *pairs = is_many ? many->pairs : &single->pair;
        for (uint32_t i = 0; i < (is_many ? many->count : 1); i++) {
            const struct shared *record =
                is_many ? message_held(message, i) : message_shared(message);
            states[pairs[i].position] = ((const struct watch_record *)record)->state;
        }
        message_destroy(message);
    }
    for (unsigned i = 0; i < MANY; i++)
        sum += states[i] == WATCH_ONLINE;
    return sum;
}

static void watch_all(struct glue *glue, struct probe *watcher)
{
    atomic_store(&glue->broker.counters.watch_pairs, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        char name[16];
        snprintf(name, sizeof(name), "u%u", i);
        struct bytes text = bytes_of_text(name);
        struct watch_message *message =
            watch_message_create(MESSAGE_WATCH, watcher->self, 1, text.size);
        watch_message_add(message, watch_hash(&glue->broker.settings, text), i, i + 1, text);
        scheduler_tell(glue->broker.scheduler, NULL, shard_of(glue, name), &message->header);
    }
}

static void nothing_is_posted_while_nobody_watches(void **state)
{
    struct glue *glue = *state;
    log_all_in(glue, 1000);
    assert_int_equal(waiting(glue), 0);
    atomic_store(&glue->broker.counters.watch_pairs, 1);
    log_in(glue, "bob", 5000);
    run_turns(glue);
    assert_true(committer_step(glue->broker.committer));
    assert_int_equal(waiting(glue), 1);
    atomic_store(&glue->broker.counters.watch_pairs, 0);
}

static void many_in_one_commit_are_a_crowd(void **state)
{
    struct glue *glue = *state;
    log_in(glue, "bob", 5000);
    run_turns(glue);
    assert_true(committer_step(glue->broker.committer));
    assert_int_equal(atomic_load(&glue->broker.counters.crowd_until_ms), 0);
    log_all_in(glue, 1000);
    assert_true(atomic_load(&glue->broker.counters.crowd_until_ms) > 0);
}

/* Hundreds of events in one commit, and mailboxes of two: what is missed is looked up. */
static void what_a_full_mailbox_misses_is_late_and_right(void **state)
{
    struct glue *glue = *state;
    struct probe *watcher = hall_probe(&glue->hall, "watcher");
    uint8_t states[MANY];
    memset(states, UINT8_MAX, sizeof(states));
    watch_all(glue, watcher);
    work(glue);
    assert_int_equal(online(watcher, states), 0);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(states[i], WATCH_OFFLINE);
    log_all_in(glue, 1000);
    assert_true(waiting(glue) <= 3 * WATCH_SHARDS); /* two, and that some are missed */
    assert_int_not_equal(atomic_load(&glue->broker.counters.watch_stale), 0);
    work(glue);
    assert_int_equal(online(watcher, states), MANY);
    assert_int_equal(atomic_load(&glue->broker.counters.watch_stale), 0);
    assert_true(metric_of(glue, METRIC_friends_stale) >= WATCH_SHARDS / 2);
    atomic_store(&glue->broker.counters.watch_pairs, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_posted_while_nobody_watches, set_up_friends,
                                        tear_down),
        cmocka_unit_test_setup_teardown(many_in_one_commit_are_a_crowd, set_up_friends, tear_down),
        cmocka_unit_test_setup_teardown(what_a_full_mailbox_misses_is_late_and_right,
                                        set_up_friends, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
