/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/scheduler.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* One thread, one behaviour that counts: it writes what happens to it into a journal. What the
 * turns do when several threads run them is for tests/stress. */

enum { TURN_MESSAGES = 4, ACTORS = 8, JOURNAL_MAX = 256 };

enum { KIND_PLAIN, KIND_END_TURN, KIND_HOLD, KIND_RETIRE, KIND_RETIRE_AND_END, KIND_PAUSE };

struct note {
    struct message header;
    uint32_t number;
};

struct counts {
    uint32_t received; /* in this life */
    enum verdict verdict;
};

enum entry_kind { RECEIVED, FINISHED, BOUNCED };

struct entry {
    enum entry_kind kind;
    uint32_t number; /* of the message */
    actor_handle self;
};

struct fixture {
    struct registry *registry;
    struct metrics *metrics;
    struct scheduler *scheduler;
    struct runner runner;
    struct entry journal[JOURNAL_MAX];
    size_t entries;
    size_t read;  /* how far the test has compared */
    bool hand_on; /* the next message received posts one to its own actor */
};

static void journal(struct fixture *fixture, enum entry_kind kind, uint32_t number,
                    actor_handle self)
{
    assert_true(fixture->entries < JOURNAL_MAX);
    fixture->journal[fixture->entries++] = (struct entry){kind, number, self};
}

enum { LIMIT = ACTORS * 4 };

/* from 0: nobody's share. */
static int post_from(struct fixture *fixture, actor_handle from, actor_handle to, uint32_t number)
{
    struct note *note = message_create(KIND_PLAIN, sizeof(*note));
    note->number = number;
    int error =
        scheduler_post_from(fixture->scheduler, &fixture->runner, from, to, &note->header, LIMIT);
    if (error != 0)
        message_destroy(&note->header);
    return error;
}

static int post(struct fixture *fixture, actor_handle to, uint16_t kind, uint32_t number)
{
    struct note *note = message_create(kind, sizeof(*note));
    note->number = number;
    int error =
        scheduler_post_from(fixture->scheduler, &fixture->runner, 0, to, &note->header, LIMIT);
    if (error != 0)
        message_destroy(&note->header); /* a call that fails takes nothing */
    return error;
}

static bool on_receive(void *context, struct runner *runner, actor_handle self, void *state,
                       struct message *message)
{
    struct fixture *fixture = context;
    struct counts *counts = state;
    uint16_t kind = message->kind;
    assert_ptr_equal(runner, &fixture->runner);
    assert_null(message->next);
    journal(fixture, RECEIVED, ((struct note *)message)->number, self);
    message_destroy(message);
    counts->received++;
    if (fixture->hand_on) {
        fixture->hand_on = false;
        assert_int_equal(post(fixture, self, KIND_PLAIN, 1000), 0);
    }
    if (kind == KIND_PAUSE)
        runner->pauses = true;
    if (kind == KIND_HOLD)
        counts->verdict = VERDICT_HOLD;
    if (kind == KIND_RETIRE || kind == KIND_RETIRE_AND_END)
        counts->verdict = VERDICT_RETIRE;
    return kind == KIND_PLAIN || kind == KIND_RETIRE;
}

static enum verdict on_finish(void *context, struct runner *runner, actor_handle self, void *state)
{
    struct counts *counts = state;
    enum verdict verdict = counts->verdict;
    counts->verdict = VERDICT_GO_ON;
    journal(context, FINISHED, counts->received, self);
    return verdict;
}

static const struct behaviour counting = {
    .name = "counting", .receive = on_receive, .finish = on_finish};

static void on_bounce(void *context, struct runner *runner, struct message *message)
{
    assert_null(message->next);
    journal(context, BOUNCED, ((struct note *)message)->number, 0);
    message_destroy(message);
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    *state = fixture;
    fixture->metrics = metrics_create(1);
    if (registry_create(&fixture->registry, ACTORS, sizeof(struct counts), env_system()) != 0)
        return -1;
    struct scheduler_options options = {.registry = fixture->registry,
                                        .env = env_system(),
                                        .metrics = fixture->metrics,
                                        .turn_messages = TURN_MESSAGES,
                                        .wake_backlog = 4,
                                        .context = fixture,
                                        .bounce = on_bounce};
    fixture->runner.drains = true;
    return scheduler_create(&fixture->scheduler, &options);
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    scheduler_destroy(fixture->scheduler);
    registry_destroy(fixture->registry);
    metrics_destroy(fixture->metrics);
    free(fixture);
    return 0;
}

static actor_handle claim(struct fixture *fixture, const char *name)
{
    actor_handle handle = registry_claim(fixture->registry, name, strlen(name), &counting);
    assert_int_not_equal(handle, 0);
    return handle;
}

static void post_many(struct fixture *fixture, actor_handle to, uint32_t from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(post(fixture, to, KIND_PLAIN, from + i), 0);
}

static size_t run(struct fixture *fixture, size_t turns_max)
{
    return scheduler_run(fixture->scheduler, &fixture->runner, turns_max);
}

static void expect(struct fixture *fixture, enum entry_kind kind, uint32_t number)
{
    assert_true(fixture->read < fixture->entries);
    const struct entry *entry = &fixture->journal[fixture->read++];
    assert_int_equal(entry->kind, kind);
    assert_int_equal(entry->number, number);
}

static void expect_received(struct fixture *fixture, uint32_t from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        expect(fixture, RECEIVED, from + i);
}

static void expect_no_more(struct fixture *fixture)
{
    assert_int_equal(fixture->read, fixture->entries);
}

static void messages_come_in_order_and_the_turn_is_finished_once(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    post_many(fixture, ann, 0, 3);
    assert_true(scheduler_backlog(fixture->scheduler));
    assert_int_equal(run(fixture, 100), 1);
    expect_received(fixture, 0, 3);
    expect(fixture, FINISHED, 3);
    expect_no_more(fixture);
    assert_int_equal(fixture->journal[0].self, ann);
    assert_int_equal(fixture->journal[3].self, ann);
    assert_false(scheduler_backlog(fixture->scheduler));
    assert_int_equal(run(fixture, 100), 0); /* nothing left: it is idle */
    assert_int_equal(metrics_read(fixture->metrics, METRIC_turns), 1);
}

static void an_idle_actor_is_listed_again_by_the_next_post(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    for (uint32_t i = 0; i < 20; i++) {
        post_many(fixture, ann, i, 1);
        assert_int_equal(run(fixture, 100), 1);
        expect(fixture, RECEIVED, i);
        expect(fixture, FINISHED, i + 1);
        expect_no_more(fixture);
    }
}

/* At the limit one turn does it, one above takes two. */
static void a_turn_has_a_limit(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    post_many(fixture, ann, 0, TURN_MESSAGES);
    assert_int_equal(run(fixture, 100), 1);
    expect_received(fixture, 0, TURN_MESSAGES);
    expect(fixture, FINISHED, TURN_MESSAGES);
    post_many(fixture, ann, 10, TURN_MESSAGES + 1);
    assert_int_equal(run(fixture, 1), 1);
    expect_received(fixture, 10, TURN_MESSAGES);
    expect(fixture, FINISHED, 2 * TURN_MESSAGES);
    expect_no_more(fixture);
    post_many(fixture, ann, 20, 1); /* behind the one that was left */
    assert_int_equal(run(fixture, 100), 1);
    expect(fixture, RECEIVED, 10 + TURN_MESSAGES);
    expect(fixture, RECEIVED, 20);
    expect(fixture, FINISHED, 2 * TURN_MESSAGES + 2);
    expect_no_more(fixture);
}

static void a_busy_actor_lets_the_others_run(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    actor_handle bob = claim(fixture, "bob");
    post_many(fixture, ann, 0, TURN_MESSAGES + 2);
    post_many(fixture, bob, 100, 1);
    assert_int_equal(run(fixture, 100), 3);
    expect_received(fixture, 0, TURN_MESSAGES);
    expect(fixture, FINISHED, TURN_MESSAGES);
    expect(fixture, RECEIVED, 100);
    expect(fixture, FINISHED, 1);
    expect_received(fixture, TURN_MESSAGES, 2);
    expect(fixture, FINISHED, TURN_MESSAGES + 2);
    expect_no_more(fixture);
}

/* The run ends behind that turn, once. */
static void a_turn_can_ask_for_a_pause(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    actor_handle bob = claim(fixture, "bob");
    assert_int_equal(post(fixture, ann, KIND_PAUSE, 0), 0);
    post_many(fixture, bob, 100, 1);
    post_many(fixture, claim(fixture, "cid"), 200, 1);
    assert_int_equal(run(fixture, 100), 1);
    assert_true(scheduler_backlog(fixture->scheduler));
    assert_int_equal(run(fixture, 100), 2);
    assert_false(scheduler_backlog(fixture->scheduler));
    assert_false(fixture->runner.pauses);
}

static void a_behaviour_can_end_its_turn(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    post_many(fixture, ann, 0, 1);
    assert_int_equal(post(fixture, ann, KIND_END_TURN, 1), 0);
    post_many(fixture, ann, 2, 1);
    assert_int_equal(run(fixture, 1), 1);
    expect_received(fixture, 0, 2);
    expect(fixture, FINISHED, 2);
    expect_no_more(fixture);
    assert_int_equal(run(fixture, 100), 1);
    expect(fixture, RECEIVED, 2);
    expect(fixture, FINISHED, 3);
    expect_no_more(fixture);
}

static void what_a_turn_posts_to_itself_is_received(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    fixture->hand_on = true;
    post_many(fixture, ann, 0, TURN_MESSAGES);
    assert_int_equal(run(fixture, 100), 2);
    expect_received(fixture, 0, TURN_MESSAGES);
    expect(fixture, FINISHED, TURN_MESSAGES);
    expect(fixture, RECEIVED, 1000);
    expect(fixture, FINISHED, TURN_MESSAGES + 1);
    expect_no_more(fixture);
}

static void a_held_turn_waits_until_it_is_continued(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    assert_int_equal(post(fixture, ann, KIND_HOLD, 0), 0);
    post_many(fixture, ann, 1, 2);
    assert_int_equal(run(fixture, 100), 1);
    expect(fixture, RECEIVED, 0);
    expect(fixture, FINISHED, 1);
    post_many(fixture, ann, 3, 1); /* does not list it */
    assert_false(scheduler_backlog(fixture->scheduler));
    assert_int_equal(run(fixture, 100), 0);
    expect_no_more(fixture);
    scheduler_continue(fixture->scheduler, &fixture->runner, ann, VERDICT_GO_ON);
    assert_int_equal(run(fixture, 100), 1);
    expect_received(fixture, 1, 3);
    expect(fixture, FINISHED, 4);
    expect_no_more(fixture);
    assert_int_equal(metrics_read(fixture->metrics, METRIC_turns_held), 1);
}

static void a_held_turn_without_further_mail_becomes_idle(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    assert_int_equal(post(fixture, ann, KIND_HOLD, 0), 0);
    assert_int_equal(run(fixture, 100), 1);
    scheduler_continue(fixture->scheduler, &fixture->runner, ann, VERDICT_GO_ON);
    assert_false(scheduler_backlog(fixture->scheduler));
    post_many(fixture, ann, 1, 1);
    assert_int_equal(run(fixture, 100), 1);
}

static void a_held_turn_can_end_in_retirement(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    assert_int_equal(post(fixture, ann, KIND_HOLD, 0), 0);
    post_many(fixture, ann, 1, 1);
    assert_int_equal(run(fixture, 100), 1);
    scheduler_continue(fixture->scheduler, &fixture->runner, ann, VERDICT_RETIRE);
    assert_int_equal(registry_find(fixture->registry, "ann", 3), 0);
    assert_int_equal(run(fixture, 100), 1);
    expect(fixture, RECEIVED, 0);
    expect(fixture, FINISHED, 1);
    expect(fixture, BOUNCED, 1);
    expect_no_more(fixture);
}

static void a_retired_actor_bounces_what_came_later(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    assert_int_equal(post(fixture, ann, KIND_RETIRE_AND_END, 0), 0);
    post_many(fixture, ann, 1, 3);
    assert_int_equal(run(fixture, 100), 2);
    expect(fixture, RECEIVED, 0);
    expect(fixture, FINISHED, 1);
    for (uint32_t i = 1; i <= 3; i++)
        expect(fixture, BOUNCED, i); /* and no turn is finished for them */
    expect_no_more(fixture);
    assert_int_equal(metrics_read(fixture->metrics, METRIC_posts_bounced), 3);
    assert_int_equal(post(fixture, ann, KIND_PLAIN, 9), -ESRCH);
    assert_false(scheduler_backlog(fixture->scheduler));
}

static void the_next_owner_of_a_slot_gets_only_its_own_mail(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    assert_int_equal(post(fixture, ann, KIND_RETIRE_AND_END, 0), 0);
    post_many(fixture, ann, 1, 2);
    assert_int_equal(run(fixture, 1), 1); /* retired; 1 and 2 are still in the mailbox */
    actor_handle again = claim(fixture, "ann");
    assert_int_not_equal(again, ann);
    assert_int_equal(actor_slot(again), actor_slot(ann));
    post_many(fixture, again, 10, 2);
    assert_int_equal(post(fixture, ann, KIND_PLAIN, 9), -ESRCH);
    assert_int_equal(run(fixture, 100), 1);
    expect(fixture, RECEIVED, 0);
    expect(fixture, FINISHED, 1);
    expect(fixture, BOUNCED, 1);
    expect(fixture, BOUNCED, 2);
    expect_received(fixture, 10, 2);
    expect(fixture, FINISHED, 2); /* counted from zero: the state was cleared */
    expect_no_more(fixture);
    assert_int_equal(fixture->journal[fixture->entries - 1].self, again);
}

static void stale_handles_are_refused(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    assert_int_equal(post(fixture, 0, KIND_PLAIN, 0), -ESRCH);
    assert_int_equal(post(fixture, ann - (UINT64_C(1) << 32), KIND_PLAIN, 0), -ESRCH);
    assert_int_equal(post(fixture, ann + (UINT64_C(2) << 32), KIND_PLAIN, 0), -ESRCH);
    assert_int_equal(post(fixture, ann, KIND_RETIRE, 0), 0);
    assert_int_equal(run(fixture, 100), 1);
    assert_int_equal(post(fixture, ann, KIND_PLAIN, 0), -ESRCH);
}

static void what_is_told_comes_or_is_dropped(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    struct shared *shared = shared_create(sizeof(*shared));
    for (unsigned holders = 2; holders > 0; holders--) {
        struct note *note = message_create_holding(KIND_RETIRE, sizeof(*note), shared);
        note->number = 7;
        scheduler_tell(fixture->scheduler, &fixture->runner, ann, &note->header);
        assert_int_equal(atomic_load(&shared->holders), holders); /* the second time she is gone */
        assert_int_equal(run(fixture, 100), holders - 1);
        assert_int_equal(fixture->journal[0].number, 7);
    }
    shared_release(shared);
}

static void a_mailbox_has_a_limit(void **state)
{
    struct fixture *fixture = *state;
    actor_handle ann = claim(fixture, "ann");
    post_many(fixture, ann, 0, LIMIT);
    assert_int_equal(post(fixture, ann, KIND_PLAIN, LIMIT), -ENOBUFS);
    assert_int_equal(metrics_read(fixture->metrics, METRIC_mailbox_full), 1);
    struct note *note = message_create(KIND_PLAIN, sizeof(*note)); /* 0: no limit */
    note->number = LIMIT;
    assert_int_equal(scheduler_post(fixture->scheduler, &fixture->runner, ann, &note->header), 0);
    run(fixture, 100);
    uint32_t number = 0;
    for (size_t i = 0; i < fixture->entries; i++)
        if (fixture->journal[i].kind == RECEIVED)
            assert_int_equal(fixture->journal[i].number, number++);
    assert_int_equal(number, LIMIT + 1);
    assert_int_equal(post(fixture, ann, KIND_PLAIN, 0), 0);
}

/* Posts until there is no room; gives how many there were. */
static unsigned fill(struct fixture *fixture, actor_handle from, actor_handle to)
{
    unsigned count = 0;
    while (post_from(fixture, from, to, 0) == 0)
        count++;
    return count;
}

/* So many are not counted, because nobody could have too much then. */
enum { NOT_COUNTED = LIMIT / 8 };

/* Each gets what one may have, and no more than is free of twice as much; what is of no user has a
 * part of its own. */
static void nobody_has_a_mailbox_for_himself(void **state)
{
    struct fixture *fixture = *state;
    actor_handle bob = claim(fixture, "bob"), other = claim(fixture, "other");
    enum { ANN = 1001, EVE, JOE };
    unsigned alone = fill(fixture, ANN, bob);
    assert_int_equal(alone, LIMIT + NOT_COUNTED / 2);
    assert_int_equal(fill(fixture, EVE, bob), (2 * LIMIT - alone) / 2);
    assert_int_equal(post_from(fixture, ANN, bob, 0), -ENOBUFS);
    assert_in_range(fill(fixture, JOE, bob), LIMIT / 4 - 1, LIMIT / 4);
    assert_int_equal(fill(fixture, 0, bob), LIMIT);
    assert_int_equal(fill(fixture, ANN, other), alone); /* it is a share of one mailbox */
    run(fixture, 1000);
    assert_int_equal(fill(fixture, 0, bob), LIMIT); /* which takes nothing from users */
    assert_int_equal(fill(fixture, ANN, bob), LIMIT);
    run(fixture, 1000);
}

/* Taken from the mailbox and not received yet, it is its sender's still; bounced it is not. */
static void a_share_is_given_back_when_it_is_received(void **state)
{
    struct fixture *fixture = *state;
    actor_handle bob = claim(fixture, "bob");
    enum { ANN = 1001, ALONE = LIMIT + NOT_COUNTED / 2 };
    assert_int_equal(fill(fixture, ANN, bob), ALONE);
    run(fixture, 1);
    assert_in_range(fill(fixture, ANN, bob), LIMIT / 2, LIMIT / 2 + NOT_COUNTED);
    run(fixture, 1000);
    assert_int_equal(post(fixture, bob, KIND_RETIRE, 0), 0);
    assert_int_equal(fill(fixture, ANN, bob), ALONE);
    run(fixture, 1000);
    bob = claim(fixture, "bob");
    assert_int_equal(fill(fixture, ANN, bob), ALONE);
    run(fixture, 1000);
}

static void every_slot_can_be_listed_at_once(void **state)
{
    struct fixture *fixture = *state;
    char name[16];
    for (uint32_t i = 0; i < ACTORS; i++) {
        snprintf(name, sizeof(name), "%u", i);
        post_many(fixture, claim(fixture, name), i, 1);
    }
    assert_int_equal(run(fixture, 3), 3);
    assert_true(scheduler_backlog(fixture->scheduler));
    assert_int_equal(run(fixture, 100), ACTORS - 3);
    for (uint32_t i = 0; i < ACTORS; i++) {
        expect(fixture, RECEIVED, i);
        expect(fixture, FINISHED, 1);
    }
    expect_no_more(fixture);
}

/* As a seeded simulation does it: take all, run them in another order. */
static void listed_slots_can_be_run_in_any_order(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slots[3];
    post_many(fixture, claim(fixture, "a"), 0, 1);
    post_many(fixture, claim(fixture, "b"), 1, 1);
    post_many(fixture, claim(fixture, "c"), 2, 1);
    for (int i = 0; i < 3; i++)
        assert_true(scheduler_take(fixture->scheduler, &slots[i]));
    assert_false(scheduler_take(fixture->scheduler, &slots[0]));
    for (int i = 2; i >= 0; i--) {
        scheduler_turn(fixture->scheduler, &fixture->runner, slots[i]);
        expect(fixture, RECEIVED, (uint32_t)i);
        expect(fixture, FINISHED, 1);
    }
    expect_no_more(fixture);
}

static void what_was_never_run_is_freed_with_the_registry(void **state)
{
    struct fixture *fixture = *state;
    post_many(fixture, claim(fixture, "a"), 0, TURN_MESSAGES + 3);
    assert_int_equal(run(fixture, 1), 1);
    post_many(fixture, claim(fixture, "a"), 10, 2);
    post_many(fixture, claim(fixture, "b"), 0, 1); /* the leak checker looks */
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(messages_come_in_order_and_the_turn_is_finished_once),
        WITH_FIXTURE(an_idle_actor_is_listed_again_by_the_next_post),
        WITH_FIXTURE(a_turn_has_a_limit),
        WITH_FIXTURE(a_busy_actor_lets_the_others_run),
        WITH_FIXTURE(a_turn_can_ask_for_a_pause),
        WITH_FIXTURE(a_behaviour_can_end_its_turn),
        WITH_FIXTURE(what_a_turn_posts_to_itself_is_received),
        WITH_FIXTURE(a_held_turn_waits_until_it_is_continued),
        WITH_FIXTURE(a_held_turn_without_further_mail_becomes_idle),
        WITH_FIXTURE(a_held_turn_can_end_in_retirement),
        WITH_FIXTURE(a_retired_actor_bounces_what_came_later),
        WITH_FIXTURE(the_next_owner_of_a_slot_gets_only_its_own_mail),
        WITH_FIXTURE(stale_handles_are_refused),
        WITH_FIXTURE(what_is_told_comes_or_is_dropped),
        WITH_FIXTURE(a_mailbox_has_a_limit),
        WITH_FIXTURE(nobody_has_a_mailbox_for_himself),
        WITH_FIXTURE(a_share_is_given_back_when_it_is_received),
        WITH_FIXTURE(every_slot_can_be_listed_at_once),
        WITH_FIXTURE(listed_slots_can_be_run_in_any_order),
        WITH_FIXTURE(what_was_never_run_is_freed_with_the_registry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
