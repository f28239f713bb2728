/* SPDX-License-Identifier: Apache-2.0 */
#include "base/listeners.h"
#include "persist_stand.h"

#include "storage/store_ops.h"

/* The start: from where epochs are counted, and what it does not believe. */

static uint64_t wall_now_ms;

static uint64_t set_wall_ms(void *context)
{
    return wall_now_ms;
}

enum { FLOOR_BITS = 16 };
static const uint64_t START_S = 1767225600; /* 2026-01-01 */

static uint64_t epoch_after_start(struct stand *stand, uint64_t wall_s)
{
    char error[BROKER_ERROR_BYTES];
    wall_now_ms = wall_s * 1000;
    stand->hall.own_env.wall_ms = set_wall_ms;
    assert_int_equal(restore_sessions(&stand->survivors, error), 0);
    return atomic_load(&stand->counters.epoch_last);
}

static void store_epoch(struct stand *stand, uint64_t epoch)
{
    assert_int_equal(store_begin(stand->store), 0);
    assert_int_equal(store_commit(stand->store, epoch), 0);
}

static void epochs_begin_at_the_time(void **state)
{
    struct stand *stand = *state;
    assert_int_equal(epoch_after_start(stand, START_S - 1), 0);
    assert_int_equal(epoch_after_start(stand, START_S), 0);
    assert_int_equal(epoch_after_start(stand, START_S + 1), 1 << FLOOR_BITS);
}

/* 65,535 logins a second would have to have come, for all the time since the backup was made,
 * before its epochs came again. */
static void a_store_from_an_old_backup_gives_no_epoch_again(void **state)
{
    struct stand *stand = *state;
    uint64_t backup = epoch_after_start(stand, START_S + 1000) + 10;
    store_epoch(stand, backup); /* more logins followed, which it does not know */
    assert_int_equal(epoch_after_start(stand, START_S + 1100), UINT64_C(1100) << FLOOR_BITS);
}

/* The clock may have been set back. */
static void epochs_never_go_back(void **state)
{
    struct stand *stand = *state;
    uint64_t epoch = (UINT64_C(5000) << FLOOR_BITS) + 7;
    store_epoch(stand, epoch);
    assert_int_equal(epoch_after_start(stand, START_S + 4999), epoch);
    assert_int_equal(epoch_after_start(stand, START_S + 5000), epoch);
    assert_int_equal(epoch_after_start(stand, START_S + 5001), UINT64_C(5001) << FLOOR_BITS);
}

static const char *failure_of_start(struct stand *stand)
{
    static char error[BROKER_ERROR_BYTES];
    assert_int_equal(restore_sessions(&stand->survivors, error), -EUCLEAN);
    return error;
}

static void store_session(struct stand *stand, const char *user, uint64_t epoch,
                          const struct saved_inbox *inbox, uint64_t seq)
{
    const struct session_record record = {.epoch = epoch, .state = SESSION_ONLINE};
    const struct saved_message message = {.seq = seq, .payload = bytes_of_text("hi")};
    assert_int_equal(store_begin(stand->store), 0);
    (void)store_put_session(stand->store, user, &record);
    if (inbox != NULL)
        (void)store_put_inbox(stand->store, user, inbox);
    if (seq != 0)
        (void)store_put_message(stand->store, user, &message);
    assert_int_equal(store_commit(stand->store, 1), 0);
}

/* What nobody stores, under a checksum that is right, ends the start and not the process. */
static void a_name_of_nobody_is_damage(void **state)
{
    store_session(*state, "!", 1, NULL, 0);
    assert_non_null(strstr(failure_of_start(*state), "a record is damaged"));
}

static void an_epoch_beyond_all_is_damage(void **state)
{
    store_session(*state, "anna", UINT64_MAX, NULL, 0);
    assert_non_null(strstr(failure_of_start(*state), "a record is damaged"));
}

static void the_next_login_is_above_every_record(void **state)
{
    struct stand *stand = *state;
    store_session(stand, "anna", 1000, NULL, 0);
    assert_int_equal(epoch_after_start(stand, START_S), 1000);
    log_in(stand, "anna", 1);
    stand_run(stand);
    assert_int_equal(session_of(stand, "anna")->epoch, 1001);
}

/* By what he came is known of who is away, also when he was here before this process; a listener
 * that this version does not have is forgotten with the next change. */
static void by_what_they_came_outlives_a_start(void **state)
{
    static const struct {
        const char *user, *stored;
        enum listener_kind listener;
    } rows[] = {
        {"anna", "tls", LISTENER_tls}, {"berta", "pigeon", LISTENERS}, {"carl", "", LISTENERS}};
    struct stand *stand = *state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct session_record record = {.epoch = 1 + i, .state = SESSION_ONLINE};
        strcpy(record.transport, rows[i].stored);
        assert_int_equal(store_begin(stand->store), 0);
        assert_int_equal(store_put_session(stand->store, rows[i].user, &record), 0);
        assert_int_equal(store_commit(stand->store, 1 + i), 0);
    }
    (void)epoch_after_start(stand, START_S);
    stand_run(stand);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct session_record record;
        assert_int_equal(store_get_session(stand->store, rows[i].user, &record), 0);
        assert_int_equal(record.state, SESSION_DETACHED);
        assert_string_equal(record.transport, rows[i].stored);
        assert_int_equal(session_of(stand, rows[i].user)->listener, rows[i].listener);
    }
}

static bool copy_rooms(void *context, const char *user, const struct session_record *record)
{
    *bytes_put(context, record->rooms) = '\0';
    return true;
}

/* Also of who was online, and is written anew as detached. */
static void what_their_tokens_hold_outlives_a_start(void **state)
{
    static const struct {
        const char *user, *rooms;
        enum session_state state;
    } rows[] = {{"anna", "lobby m:*", SESSION_ONLINE},
                {"berta", "lobby", SESSION_DETACHED},
                {"carl", "", SESSION_ONLINE}};
    struct stand *stand = *state;
    const char *users[] = {"anna"};
    char rooms[100] = "";
    uint64_t presence_last;
    assert_int_equal(store_begin(stand->store), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct session_record record = {
            .epoch = 1 + i, .state = rows[i].state, .rooms = bytes_of_text(rows[i].rooms)};
        assert_int_equal(store_put_session(stand->store, rows[i].user, &record), 0);
    }
    assert_int_equal(store_commit(stand->store, 3), 0);
    (void)epoch_after_start(stand, START_S);
    stand_run(stand);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_true(bytes_equal(session_rooms(session_of(stand, rows[i].user)),
                                bytes_of_text(rows[i].rooms)));
    assert_int_equal(store_look_up(stand->store, users, 1, copy_rooms, rooms, &presence_last), 0);
    assert_string_equal(rooms, "lobby m:*");
}

static void a_message_of_the_future_is_damage(void **state)
{
    store_session(*state, "anna", 1, &(struct saved_inbox){.epoch = 1, .next_seq = 5}, 5);
    assert_non_null(strstr(failure_of_start(*state), "a record is damaged"));
}

static void an_inbox_without_numbers_is_damage(void **state)
{
    store_session(*state, "anna", 1, &(struct saved_inbox){.epoch = 1, .next_seq = 0}, 0);
    assert_non_null(strstr(failure_of_start(*state), "a record is damaged"));
}

static void numbers_that_begin_again_are_damage(void **state)
{
    store_session(*state, "anna", 1, &(struct saved_inbox){.epoch = 1, .next_seq = UINT64_MAX}, 0);
    assert_non_null(strstr(failure_of_start(*state), "a record is damaged"));
}

/* What an older broker let a client count to is no damage; nobody is told such a number. */
static void numbers_that_no_double_holds_are_given_up(void **state)
{
    struct stand *stand = *state;
    uint64_t most = NUMBER_TOLD_MAX - UINT32_MAX;
    store_session(stand, "anna", 1, &(struct saved_inbox){.epoch = 1, .next_seq = most}, most - 1);
    store_session(stand, "bert", 1, &(struct saved_inbox){.epoch = 1, .next_seq = most + 1}, most);
    (void)epoch_after_start(stand, START_S);
    assert_true(session_of(stand, "anna")->next_seq == most);
    assert_false(session_of(stand, "anna")->unnumbered);
    assert_true(session_of(stand, "bert")->unnumbered);
    assert_null(session_of(stand, "bert")->inbox);
}

static unsigned rests;

static void count_rest(struct store *store)
{
    rests++;
}

/* A start has looked at every page. */
static void memory_is_given_back_after_the_start(void **state)
{
    struct stand *stand = *state;
    static struct store_ops counting;
    const struct store_ops *ops = stand->store->ops;
    counting = *ops;
    counting.rest = count_rest;
    stand->store->ops = &counting;
    (void)epoch_after_start(stand, START_S);
    assert_int_equal(rests, 1);
    stand->store->ops = ops;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(epochs_begin_at_the_time),
        TEST(a_store_from_an_old_backup_gives_no_epoch_again),
        TEST(epochs_never_go_back),
        TEST(a_name_of_nobody_is_damage),
        TEST(an_epoch_beyond_all_is_damage),
        TEST(the_next_login_is_above_every_record),
        TEST(by_what_they_came_outlives_a_start),
        TEST(what_their_tokens_hold_outlives_a_start),
        TEST(a_message_of_the_future_is_damage),
        TEST(an_inbox_without_numbers_is_damage),
        TEST(numbers_that_begin_again_are_damage),
        TEST(numbers_that_no_double_holds_are_given_up),
        TEST(memory_is_given_back_after_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
