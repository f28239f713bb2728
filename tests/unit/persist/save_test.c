/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/goodbye.h"
#include "persist/committer.h"
#include "persist/restore.h"
#include "persist/save.h"
#include "unit/broker/broker_fixture.h"

#include "storage/store_ops.h"

/* Inboxes over an orderly stop: what one broker saves, the next one has, once. */

static void run_all(struct glue *glue)
{
    do
        run_turns(glue);
    while (committer_step(glue->broker.committer));
}

/* The next broker on the same store. */
static struct glue *restart(struct glue *glue, bool orderly)
{
    char error[BROKER_ERROR_BYTES] = "";
    struct store *store = glue->store;
    uint64_t now_ms = atomic_load(&glue->hall.now_ms);
    if (orderly) {
        goodbye_all(&glue->broker);
        run_all(glue);
        assert_int_equal(keep_inboxes(&glue->broker, NULL), 0);
    }
    glue->broker.store = NULL;
    glue_free(glue);
    struct glue *next = glue_make(store, 0, true);
    atomic_store(&next->hall.now_ms, now_ms);
    assert_int_equal(restore_sessions(&next->broker, error), 0);
    return next;
}

static struct session *session_of(struct glue *glue, const char *user)
{
    actor_handle self = registry_find(glue->broker.registry, user, strlen(user));
    assert_int_not_equal(self, 0);
    return (struct session *)registry_actor(glue->broker.registry, actor_slot(self))->state;
}

static void deliver(struct glue *glue, const char *user, const char *from, const char *payload)
{
    struct deliver_message *message = deliver_create(bytes_of_text(from), bytes_of_text(payload));
    assert_non_null(message);
    message->time_ms = 4711;
    message->arrived_ms = atomic_load(&glue->hall.now_ms);
    actor_handle self = registry_find(glue->broker.registry, user, strlen(user));
    assert_int_equal(scheduler_post(glue->broker.scheduler, NULL, self, &message->header), 0);
    run_all(glue);
}

/* The inbox in words: "4 bob:hi sent, 5 bob:ho". */
static void expect_inbox(struct glue *glue, const char *user, const char *wanted)
{
    char text[1000] = "";
    const struct session *session = session_of(glue, user);
    struct inbox_place place = {0};
    struct kept_message kept;
    while (session->inbox != NULL && inbox_read(session->inbox, &place, &kept)) {
        size_t size = strlen(text);
        snprintf(text + size, sizeof(text) - size, "%s%llu %.*s:%.*s%s", size > 0 ? ", " : "",
                 (unsigned long long)kept.seq, (int)kept.name.size, (const char *)kept.name.data,
                 (int)kept.payload.size, (const char *)kept.payload.data, kept.sent ? " sent" : "");
        assert_int_equal(kept.time_ms, 4711);
    }
    assert_string_equal(text, wanted);
}

static void what_waits_is_there_after_an_orderly_stop(void **state)
{
    struct glue *glue = *state;
    log_in(glue, "anna", 1);
    log_in(glue, "carl", 2);
    run_all(glue);
    session_of(glue, "anna")->acks = true; /* as if she had said so */
    deliver(glue, "anna", "bob", "hi");
    atomic_fetch_add(&glue->hall.now_ms, 700);
    deliver(glue, "anna", "bob", "ho");
    deliver(glue, "carl", "bob", "gone"); /* without acks: handed out, done */
    glue = restart(glue, true);
    expect_inbox(glue, "anna", "1 bob:hi sent, 2 bob:ho sent");
    expect_inbox(glue, "carl", "");
    assert_int_equal(session_of(glue, "anna")->next_seq, 3);
    assert_int_equal(session_of(glue, "carl")->next_seq, 2);
    assert_false(session_of(glue, "anna")->unnumbered);
    assert_false(session_of(glue, "carl")->unnumbered);
    /* Their ages go on. */
    struct kept_message kept;
    assert_true(inbox_oldest(session_of(glue, "anna")->inbox, &kept));
    assert_int_equal(kept.arrived_ms, atomic_load(&glue->hall.now_ms) - 700);
    *state = glue;
}

/* What was saved speaks for one stop: a crash after the next start must not bring it back. */
static void it_is_there_once(void **state)
{
    struct glue *glue = *state;
    struct saved_inbox inbox;
    log_in(glue, "anna", 1);
    run_all(glue);
    session_of(glue, "anna")->acks = true;
    deliver(glue, "anna", "bob", "hi");
    glue = restart(glue, true);
    assert_int_equal(store_read_inbox(glue->store, "anna", &inbox, NULL, NULL), -ENOENT);
    glue = restart(glue, false);
    expect_inbox(glue, "anna", "");
    assert_true(session_of(glue, "anna")->unnumbered);
    *state = glue;
}

/* After a crash the numbering is not known, and an orderly stop does not make it known; but what
 * came since is there. */
static void what_is_not_known_stays_so(void **state)
{
    struct glue *glue = *state;
    log_in(glue, "anna", 1);
    run_all(glue);
    glue = restart(glue, false);
    assert_true(session_of(glue, "anna")->unnumbered);
    deliver(glue, "anna", "bob", "hi");
    glue = restart(glue, true);
    assert_true(session_of(glue, "anna")->unnumbered);
    expect_inbox(glue, "anna", "1 bob:hi");
    *state = glue;
}

/* What was said to be saved, of each group. */
static uint64_t progress[16];
static unsigned progress_count;

static void note_progress(uint64_t sessions)
{
    assert_true(progress_count < sizeof(progress) / sizeof(progress[0]));
    progress[progress_count++] = sessions;
}

static void keep_and_note(struct glue *glue)
{
    progress_count = 0;
    goodbye_all(&glue->broker);
    run_all(glue);
    assert_int_equal(keep_inboxes(&glue->broker, note_progress), 0);
}

static void many_are_saved_in_groups(void **state)
{
    struct glue *glue = *state;
    char name[16];
    for (unsigned i = 0; i < 2100; i++) {
        snprintf(name, sizeof(name), "user%u", i);
        log_in(glue, name, 1 + i);
    }
    run_all(glue);
    keep_and_note(glue);
    assert_int_equal(progress_count, 3);
    assert_int_equal(progress[0], 1024);
    assert_int_equal(progress[1], 2048);
    assert_int_equal(progress[2], 2100);
    glue = restart(glue, false);
    for (unsigned i = 0; i < 2100; i++) {
        snprintf(name, sizeof(name), "user%u", i);
        assert_false(session_of(glue, name)->unnumbered);
    }
    *state = glue;
}

/* A transaction has some 4 MiB, however few sessions that are. */
static void large_inboxes_are_saved_in_smaller_groups(void **state)
{
    struct glue *glue = *state;
    static char payload[60001];
    char name[16];
    memset(payload, 'p', sizeof(payload) - 1);
    for (unsigned i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "user%u", i);
        log_in(glue, name, 1 + i);
        run_all(glue);
        session_of(glue, name)->acks = true;
        for (unsigned message = 0; message < 4; message++)
            deliver(glue, name, "bob", payload);
    }
    keep_and_note(glue);
    assert_int_equal(progress_count, 3); /* of 9.6 MB */
    assert_in_range(progress[0], 15, 20);
    assert_int_equal(progress[2], 40);
    glue = restart(glue, false);
    for (unsigned i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "user%u", i);
        assert_int_equal(session_of(glue, name)->inbox->count, 4);
    }
    *state = glue;
}

/* The stop goes on without, and the next start says so. */
static void a_store_that_refuses_loses_them_honestly(void **state)
{
    struct glue *glue = *state;
    log_in(glue, "anna", 1);
    run_all(glue);
    session_of(glue, "anna")->acks = true;
    deliver(glue, "anna", "bob", "hi");
    goodbye_all(&glue->broker);
    run_all(glue);
    store_memory_fail(glue->store, -ENOSPC);
    assert_int_equal(keep_inboxes(&glue->broker, NULL), 1);
    store_memory_fail(glue->store, 0);
    glue = restart(glue, false);
    expect_inbox(glue, "anna", "");
    assert_true(session_of(glue, "anna")->unnumbered);
    *state = glue;
}

static int (*put_message)(struct store *store, const char *user, const struct saved_message *saved);

static int put_no_message_of_berta(struct store *store, const char *user,
                                   const struct saved_message *saved)
{
    return strcmp(user, "berta") == 0 ? -ENOSPC : put_message(store, user, saved);
}

/* They are tried one after the other, each once, until one is refused. */
static void one_that_is_refused_costs_those_before_it_nothing(void **state)
{
    static const char *const names[] = {"anna", "berta", "carl"};
    static struct store_ops refusing;
    struct glue *glue = *state;
    for (unsigned i = 0; i < 3; i++) {
        log_in(glue, names[i], 1 + i);
        run_all(glue);
        session_of(glue, names[i])->acks = true;
        deliver(glue, names[i], "bob", "hi");
    }
    goodbye_all(&glue->broker);
    run_all(glue);
    const struct store_ops *ops = glue->store->ops;
    refusing = *ops;
    put_message = ops->put_message;
    refusing.put_message = put_no_message_of_berta;
    glue->store->ops = &refusing;
    assert_int_equal(keep_inboxes(&glue->broker, NULL), 2);
    glue->store->ops = ops;
    glue = restart(glue, false);
    expect_inbox(glue, "anna", "1 bob:hi sent");
    expect_inbox(glue, "berta", "");
    *state = glue;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_waits_is_there_after_an_orderly_stop, set_up_own_clock,
                                        tear_down),
        cmocka_unit_test_setup_teardown(it_is_there_once, set_up_own_clock, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_known_stays_so, set_up_own_clock, tear_down),
        cmocka_unit_test_setup_teardown(many_are_saved_in_groups, set_up_own_clock, tear_down),
        cmocka_unit_test_setup_teardown(large_inboxes_are_saved_in_smaller_groups, set_up_own_clock,
                                        tear_down),
        cmocka_unit_test_setup_teardown(one_that_is_refused_costs_those_before_it_nothing,
                                        set_up_own_clock, tear_down),
        cmocka_unit_test_setup_teardown(a_store_that_refuses_loses_them_honestly, set_up_own_clock,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
