/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/message.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/metrics.h"

struct greeting {
    struct message header;
    char text[40];
};

static void only_the_header_is_set(void **state)
{
    struct greeting *greeting = message_create(17, sizeof(*greeting));
    assert_non_null(greeting);
    assert_null(greeting->header.next);
    assert_int_equal(greeting->header.kind, 17);
    assert_int_equal(greeting->header.flags, 0);
    assert_int_equal(greeting->header.generation, 0);
    assert_int_equal(greeting->header.size, sizeof(*greeting));
    greeting->text[sizeof(greeting->text) - 1] = 'x'; /* the memory is there */
    message_destroy(&greeting->header);
}

/* Each under its own part of the book, for as long as it lives. */
static void a_message_counts_as_what_it_is_for(void **state)
{
    static const struct limits limits;
    enum { SIZE = 1 << 20 };
    struct metrics *metrics = metrics_create(1);
    memory_open(&limits, NULL, metrics);
    struct message *plain = message_create(1, SIZE), *call = message_create(2, 3 * SIZE);
    message_count_as(call, MEMORY_OF_CALLS);
    assert_int_equal(metrics_read(metrics, METRIC_memory_messages_bytes), SIZE);
    assert_int_equal(metrics_read(metrics, METRIC_memory_calls_bytes), 3 * SIZE);
    message_destroy(call);
    assert_int_equal(metrics_read(metrics, METRIC_memory_messages_bytes), SIZE);
    assert_int_equal(metrics_read(metrics, METRIC_memory_calls_bytes), 0);
    message_destroy(plain);
    assert_int_equal(metrics_read(metrics, METRIC_memory_messages_bytes), 0);
    memory_close();
    metrics_destroy(metrics);
}

static void the_smallest_is_a_header(void **state)
{
    struct message *message = message_create(UINT16_MAX, sizeof(*message));
    assert_non_null(message);
    assert_int_equal(message->kind, UINT16_MAX);
    message_destroy(message);
    message_destroy(NULL);
}

static unsigned holders(const struct shared *shared)
{
    return atomic_load(&shared->holders);
}

static void a_message_holds_what_it_was_given(void **state)
{
    struct shared *shared = shared_create(sizeof(*shared) + 100);
    assert_int_equal(holders(shared), 1);
    struct greeting *greeting = message_create_holding(3, sizeof(*greeting), shared);
    memset(greeting->text, 'x', sizeof(greeting->text));
    assert_int_equal(greeting->header.size, sizeof(*greeting));
    assert_int_equal(greeting->header.kind, 3);
    assert_ptr_equal(message_shared(&greeting->header), shared);
    assert_int_equal(holders(shared), 2);
    message_destroy(&greeting->header);
    assert_int_equal(holders(shared), 1);
    shared_release(shared);
    shared_release(NULL);
    struct message *plain = message_create(1, sizeof(*plain));
    assert_null(message_shared(plain));
    message_destroy(plain);
}

/* In every order of: the first goes, the second goes, no more are made. */
static void a_block_lives_as_long_as_its_messages(void **state)
{
    static const char *const orders[] = {"12c", "21c", "1c2", "2c1", "c12", "c21"};
    for (unsigned i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        struct shared *shared = shared_create(sizeof(*shared));
        struct message_block *block = message_block_create(3, sizeof(struct greeting), shared);
        struct message *first = message_block_next(block, 1);
        struct message *second = message_block_next(block, 2);
        for (const char *step = orders[i]; *step != '\0'; step++) {
            assert_int_equal(holders(shared), 2);
            if (*step == '1')
                message_destroy(first);
            else if (*step == '2')
                message_destroy(second);
            else
                message_block_close(block);
        }
        assert_int_equal(holders(shared), 1);
        shared_release(shared);
    }
    message_block_close(NULL);
}

static void a_message_may_hold_several(void **state)
{
    struct shared *one = shared_create(100), *two = shared_create(50);
    struct shared *const held[] = {one, NULL, two};
    struct message *message = message_create_holding_many(3, sizeof(struct message) + 16, held, 3);
    assert_false(message_is_plain(message));
    assert_false(message_is_of_block(message));
    assert_null(message_shared(message));
    shared_release(one);
    shared_release(two); /* the message is the last one that holds it */
    assert_ptr_equal(message_held(message, 0), one);
    assert_null(message_held(message, 1));
    assert_ptr_equal(message_held(message, 2), two);
    shared_hold(one);
    assert_int_equal(atomic_load(&one->holders), 2);
    message_destroy(message);
    assert_int_equal(atomic_load(&one->holders), 1);
    shared_release(one);
}

static void a_block_is_used_up(void **state)
{
    struct shared *shared = shared_create(sizeof(*shared));
    struct message_block *block =
        message_block_create(MESSAGE_BLOCK_MAX, sizeof(struct greeting), shared);
    struct message *made[MESSAGE_BLOCK_MAX];
    for (unsigned i = 0; i < MESSAGE_BLOCK_MAX; i++) {
        made[i] = message_block_next(block, (uint16_t)i);
        assert_non_null(made[i]);
        memset(((struct greeting *)made[i])->text, (int)i, sizeof(((struct greeting *)0)->text));
    }
    assert_null(message_block_next(block, 0));
    for (unsigned i = 0; i < MESSAGE_BLOCK_MAX; i++) {
        assert_int_equal(made[i]->kind, i);
        assert_int_equal(made[i]->size, sizeof(struct greeting));
        assert_null(made[i]->next);
        assert_int_equal((uint8_t)((struct greeting *)made[i])->text[39], (uint8_t)i);
        assert_ptr_equal(message_shared(made[i]), shared);
        message_destroy(made[i]);
    }
    message_block_close(block);
    assert_int_equal(holders(shared), 1);
    shared_release(shared);
}

enum { THREADS = 4, ROUNDS = 200 };

static void *destroy_all(void *argument)
{
    struct message *message = argument;
    while (message != NULL) {
        struct message *next = message->next;
        message_destroy(message);
        message = next;
    }
    return NULL;
}

static void its_messages_end_on_many_threads(void **state)
{
    struct shared *shared = shared_create(sizeof(*shared));
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct message *lists[THREADS] = {NULL};
        pthread_t threads[THREADS];
        struct message_block *block =
            message_block_create(16 * THREADS, sizeof(struct message), shared);
        for (unsigned i = 0; i < 16 * THREADS; i++) {
            struct message *message = message_block_next(block, 0);
            message->next = lists[i % THREADS];
            lists[i % THREADS] = message;
        }
        for (unsigned i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, destroy_all, lists[i]), 0);
        message_block_close(block);
        for (unsigned i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        assert_int_equal(holders(shared), 1);
    }
    shared_release(shared);
}

/* The kinds of all in the list, from the first to the last. */
static void assert_list(const struct message_list *list, const char *kinds)
{
    const struct message *last = NULL;
    for (const struct message *at = list->first; at != NULL; at = at->next) {
        assert_int_equal(at->kind, *kinds++);
        last = at;
    }
    assert_int_equal(*kinds, '\0');
    assert_ptr_equal(list->last, last);
}

static void append(struct message_list *list, uint16_t kind)
{
    struct message *message = message_create(kind, sizeof(*message));
    message->next = message; /* whatever it was before */
    message_append(list, message);
}

static void take(struct message_list *list, struct message *before, uint16_t kind)
{
    struct message *taken = message_take_behind(list, before);
    assert_non_null(taken);
    assert_int_equal(taken->kind, kind);
    assert_null(taken->next);
    message_destroy(taken);
}

static void a_list_gives_the_oldest_first(void **state)
{
    struct message_list list = {0};
    assert_null(message_take(&list));
    for (unsigned round = 0; round < 2; round++) { /* it is as new when it has been emptied */
        append(&list, 'a');
        assert_list(&list, "a");
        append(&list, 'b');
        append(&list, 'c');
        assert_list(&list, "abc");
        take(&list, NULL, 'a');
        append(&list, 'd');
        assert_list(&list, "bcd");
        take(&list, NULL, 'b');
        take(&list, NULL, 'c');
        take(&list, NULL, 'd');
        assert_list(&list, "");
        assert_null(message_take(&list));
    }
}

static void from_a_list_one_is_taken_behind_another(void **state)
{
    struct message_list list = {0};
    append(&list, 'a');
    append(&list, 'b');
    append(&list, 'c');
    append(&list, 'd');
    take(&list, list.first, 'b');
    assert_list(&list, "acd");
    take(&list, list.first->next, 'd'); /* the last */
    assert_list(&list, "ac");
    append(&list, 'e');
    assert_list(&list, "ace");
    assert_null(message_take_behind(&list, list.last));
    assert_list(&list, "ace");
    take(&list, list.first, 'c');
    take(&list, list.first, 'e');
    take(&list, NULL, 'a');
    assert_list(&list, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_header_is_set),
        cmocka_unit_test(a_message_counts_as_what_it_is_for),
        cmocka_unit_test(the_smallest_is_a_header),
        cmocka_unit_test(a_message_holds_what_it_was_given),
        cmocka_unit_test(a_block_lives_as_long_as_its_messages),
        cmocka_unit_test(a_message_may_hold_several),
        cmocka_unit_test(a_block_is_used_up),
        cmocka_unit_test(its_messages_end_on_many_threads),
        cmocka_unit_test(a_list_gives_the_oldest_first),
        cmocka_unit_test(from_a_list_one_is_taken_behind_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
