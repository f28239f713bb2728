/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broken.h"
#include "storage/record.h"
#include "storage/store.h"

/* What store.h and record.h promise of their callers, broken on purpose. */

static struct store *open_store(void)
{
    const struct store_options options = {.events_kept_max = 10};
    struct store *store;
    assert_int_equal(store_open_memory(&store, &options), 0);
    return store;
}

static void *drop_inboxes(void *argument)
{
    store_drop_inboxes(argument);
    return NULL;
}

static void write_on_another_thread(void *argument)
{
    pthread_t thread;
    store_begin(argument);
    pthread_create(&thread, NULL, drop_inboxes, argument);
    pthread_join(thread, NULL);
}

static void *begin(void *argument)
{
    store_begin(argument);
    return NULL;
}

static void commit_what_another_began(void *argument)
{
    pthread_t thread;
    pthread_create(&thread, NULL, begin, argument);
    pthread_join(thread, NULL);
    store_commit(argument, 1);
}

static void a_transaction_is_of_one_thread(void **state)
{
    struct store *store = open_store();
    assert_true(is_broken(write_on_another_thread, store, "on_thread(&store->writer)"));
    assert_true(is_broken(commit_what_another_began, store, "on_thread(&store->writer)"));
    store_close(store);
}

static bool ask_again(void *context, const char *user, const struct session_record *record)
{
    struct store_position position;
    return store_position(context, &position) == 0;
}

static void ask_while_one_is_answered(void *argument)
{
    const char *user = "ann";
    uint64_t last;
    store_look_up(argument, &user, 1, ask_again, argument, &last);
}

static void who_is_called_does_not_call_the_store(void **state)
{
    struct store *store = open_store();
    assert_true(is_broken(ask_while_one_is_answered, store, "!lock_held(lock)"));
    store_close(store);
}

static void a_key_of_a_name_that_is_cut(void *argument)
{
    uint8_t key[RECORD_INBOX_KEY_BYTES_MAX];
    record_inbox_key(argument, 1, key);
}

static void a_key_is_nobody_elses(void **state)
{
    char name[STORE_NAME_BYTES_MAX + 2] = {0};
    for (size_t i = 0; i <= STORE_NAME_BYTES_MAX; i++)
        name[i] = 'a';
    assert_true(is_broken(a_key_of_a_name_that_is_cut, name, "user[size]"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transaction_is_of_one_thread),
        cmocka_unit_test(who_is_called_does_not_call_the_store),
        cmocka_unit_test(a_key_is_nobody_elses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
