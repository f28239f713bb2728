/* SPDX-License-Identifier: Apache-2.0 */
#include "persist_stand.h"

#include "storage/store_ops.h"

/* Inboxes over an orderly stop: what one broker saves, the next one has, once. */

/* The next broker on the same store. */
static struct stand *restart(struct stand *stand, bool orderly)
{
    char error[BROKER_ERROR_BYTES] = "";
    uint64_t now_ms = atomic_load(&stand->hall.now_ms);
    if (orderly) {
        say_goodbye(stand);
        assert_int_equal(save_inboxes(&stand->survivors, NULL), 0);
    }
    struct stand *next = stand_make(stand_leave(stand));
    atomic_store(&next->hall.now_ms, now_ms);
    assert_int_equal(restore_sessions(&next->survivors, error), 0);
    return next;
}

static const char PARENT[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

static void deliver(struct stand *stand, const char *user, const char *from, const char *payload)
{
    struct deliver_message *message =
        deliver_create_traced(bytes_of_text(from), bytes_of_text(payload), bytes_of_text(PARENT));
    assert_non_null(message);
    message->time_ms = 4711;
    message->arrived_ms = atomic_load(&stand->hall.now_ms);
    actor_handle self = registry_find(stand->hall.registry, user, strlen(user));
    assert_int_equal(scheduler_post(stand->hall.scheduler, NULL, self, &message->header), 0);
    stand_run(stand);
}

/* The inbox in words: "4 bob:hi sent, 5 bob:ho". */
static void expect_inbox(struct stand *stand, const char *user, const char *wanted)
{
    char text[1000] = "";
    const struct session *session = session_of(stand, user);
    struct inbox_place place = {0};
    struct kept_message kept;
    while (session->inbox != NULL && inbox_read(session->inbox, &place, &kept)) {
        size_t size = strlen(text);
        snprintf(text + size, sizeof(text) - size, "%s%llu %.*s:%.*s%s", size > 0 ? ", " : "",
                 (unsigned long long)kept.seq, (int)kept.name.size, (const char *)kept.name.data,
                 (int)kept.payload.size, (const char *)kept.payload.data, kept.sent ? " sent" : "");
        assert_int_equal(kept.time_ms, 4711);
        assert_true(bytes_equal(kept.traceparent, bytes_of_text(PARENT)));
    }
    assert_string_equal(text, wanted);
}

static void what_waits_is_there_after_an_orderly_stop(void **state)
{
    struct stand *stand = *state;
    log_in(stand, "anna", 1);
    log_in(stand, "carl", 2);
    stand_run(stand);
    session_of(stand, "anna")->acks = true; /* as if she had said so */
    deliver(stand, "anna", "bob", "hi");
    atomic_fetch_add(&stand->hall.now_ms, 700);
    deliver(stand, "anna", "bob", "ho");
    deliver(stand, "carl", "bob", "gone"); /* without acks: handed out, done */
    stand = restart(stand, true);
    expect_inbox(stand, "anna", "1 bob:hi sent, 2 bob:ho sent");
    expect_inbox(stand, "carl", "");
    assert_int_equal(session_of(stand, "anna")->next_seq, 3);
    assert_int_equal(session_of(stand, "carl")->next_seq, 2);
    assert_false(session_of(stand, "anna")->unnumbered);
    assert_false(session_of(stand, "carl")->unnumbered);
    /* Their ages go on. */
    struct kept_message kept;
    assert_true(inbox_oldest(session_of(stand, "anna")->inbox, &kept));
    assert_int_equal(kept.arrived_ms, atomic_load(&stand->hall.now_ms) - 700);
    *state = stand;
}

/* What was saved speaks for one stop: a crash after the next start must not bring it back. */
static void it_is_there_once(void **state)
{
    struct stand *stand = *state;
    struct saved_inbox inbox;
    log_in(stand, "anna", 1);
    stand_run(stand);
    session_of(stand, "anna")->acks = true;
    deliver(stand, "anna", "bob", "hi");
    stand = restart(stand, true);
    assert_int_equal(store_read_inbox(stand->store, "anna", &inbox, NULL, NULL), -ENOENT);
    stand = restart(stand, false);
    expect_inbox(stand, "anna", "");
    assert_true(session_of(stand, "anna")->unnumbered);
    *state = stand;
}

/* After a crash the numbering is not known, and an orderly stop does not make it known; but what
 * came since is there. */
static void what_is_not_known_stays_so(void **state)
{
    struct stand *stand = *state;
    log_in(stand, "anna", 1);
    stand_run(stand);
    stand = restart(stand, false);
    assert_true(session_of(stand, "anna")->unnumbered);
    deliver(stand, "anna", "bob", "hi");
    stand = restart(stand, true);
    assert_true(session_of(stand, "anna")->unnumbered);
    expect_inbox(stand, "anna", "1 bob:hi");
    *state = stand;
}

/* What was said to be saved, of each group. */
static uint64_t progress[16];
static unsigned progress_count;

static void note_progress(uint64_t sessions)
{
    assert_true(progress_count < sizeof(progress) / sizeof(progress[0]));
    progress[progress_count++] = sessions;
}

static void keep_and_note(struct stand *stand)
{
    progress_count = 0;
    say_goodbye(stand);
    assert_int_equal(save_inboxes(&stand->survivors, note_progress), 0);
}

static void many_are_saved_in_groups(void **state)
{
    struct stand *stand = *state;
    char name[16];
    for (unsigned i = 0; i < 2100; i++) {
        snprintf(name, sizeof(name), "user%u", i);
        log_in(stand, name, 1 + i);
    }
    stand_run(stand);
    keep_and_note(stand);
    assert_int_equal(progress_count, 3);
    assert_int_equal(progress[0], 1024);
    assert_int_equal(progress[1], 2048);
    assert_int_equal(progress[2], 2100);
    stand = restart(stand, false);
    for (unsigned i = 0; i < 2100; i++) {
        snprintf(name, sizeof(name), "user%u", i);
        assert_false(session_of(stand, name)->unnumbered);
    }
    *state = stand;
}

/* A transaction has some 4 MiB, however few sessions that are. */
static void large_inboxes_are_saved_in_smaller_groups(void **state)
{
    struct stand *stand = *state;
    static char payload[60001];
    char name[16];
    memset(payload, 'p', sizeof(payload) - 1);
    for (unsigned i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "user%u", i);
        log_in(stand, name, 1 + i);
        stand_run(stand);
        session_of(stand, name)->acks = true;
        for (unsigned message = 0; message < 4; message++)
            deliver(stand, name, "bob", payload);
    }
    keep_and_note(stand);
    assert_int_equal(progress_count, 3); /* of 9.6 MB */
    assert_in_range(progress[0], 15, 20);
    assert_int_equal(progress[2], 40);
    stand = restart(stand, false);
    for (unsigned i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "user%u", i);
        assert_int_equal(session_of(stand, name)->inbox->count, 4);
    }
    *state = stand;
}

/* The stop goes on without, and the next start says so. */
static void a_store_that_refuses_loses_them_honestly(void **state)
{
    struct stand *stand = *state;
    log_in(stand, "anna", 1);
    stand_run(stand);
    session_of(stand, "anna")->acks = true;
    deliver(stand, "anna", "bob", "hi");
    say_goodbye(stand);
    store_memory_fail(stand->store, -ENOSPC);
    assert_int_equal(save_inboxes(&stand->survivors, NULL), 1);
    store_memory_fail(stand->store, 0);
    stand = restart(stand, false);
    expect_inbox(stand, "anna", "");
    assert_true(session_of(stand, "anna")->unnumbered);
    *state = stand;
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
    struct stand *stand = *state;
    for (unsigned i = 0; i < 3; i++) {
        log_in(stand, names[i], 1 + i);
        stand_run(stand);
        session_of(stand, names[i])->acks = true;
        deliver(stand, names[i], "bob", "hi");
    }
    say_goodbye(stand);
    const struct store_ops *ops = stand->store->ops;
    refusing = *ops;
    put_message = ops->put_message;
    refusing.put_message = put_no_message_of_berta;
    stand->store->ops = &refusing;
    assert_int_equal(save_inboxes(&stand->survivors, NULL), 2);
    stand->store->ops = ops;
    stand = restart(stand, false);
    expect_inbox(stand, "anna", "1 bob:hi sent");
    expect_inbox(stand, "berta", "");
    *state = stand;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_waits_is_there_after_an_orderly_stop),
        TEST(it_is_there_once),
        TEST(what_is_not_known_stays_so),
        TEST(many_are_saved_in_groups),
        TEST(large_inboxes_are_saved_in_smaller_groups),
        TEST(one_that_is_refused_costs_those_before_it_nothing),
        TEST(a_store_that_refuses_loses_them_honestly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
