/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* The messages of these tests live on the stack: the mailbox only links them. */

static void only_the_push_onto_idle_lists(void **state)
{
    struct mailbox mailbox;
    struct message messages[3] = {0};
    mailbox_init(&mailbox);
    assert_true(mailbox_push(&mailbox, &messages[0]));
    assert_false(mailbox_push(&mailbox, &messages[1]));
    assert_ptr_equal(mailbox_take(&mailbox), &messages[0]);
    /* Taken, but the consumer has not let go: it is still listed or running. */
    assert_false(mailbox_push(&mailbox, &messages[2]));
    assert_ptr_equal(mailbox_take(&mailbox), &messages[2]);
    assert_true(mailbox_mark_idle(&mailbox));
    assert_true(mailbox_push(&mailbox, &messages[0]));
}

static void the_oldest_comes_first(void **state)
{
    struct mailbox mailbox;
    struct message messages[100] = {0};
    mailbox_init(&mailbox);
    for (size_t i = 0; i < 100; i++)
        mailbox_push(&mailbox, &messages[i]);
    struct message *message = mailbox_take(&mailbox);
    for (size_t i = 0; i < 100; i++, message = message->next)
        assert_ptr_equal(message, &messages[i]);
    assert_null(message);
    assert_null(mailbox_take(&mailbox));
}

/* The first message's link must not lead to whatever a former life left in it. */
static void a_used_message_can_be_pushed_again(void **state)
{
    struct mailbox mailbox;
    struct message messages[2] = {{.next = &messages[1]}, {.next = &messages[0]}};
    mailbox_init(&mailbox);
    mailbox_push(&mailbox, &messages[0]);
    assert_ptr_equal(mailbox_take(&mailbox), &messages[0]);
    assert_null(messages[0].next);
    mailbox_push(&mailbox, &messages[1]);
    assert_ptr_equal(mailbox_take(&mailbox), &messages[1]);
    assert_null(messages[1].next);
}

static void it_is_not_idle_after_a_push(void **state)
{
    struct mailbox mailbox;
    struct message messages[2] = {0};
    mailbox_init(&mailbox);
    mailbox_push(&mailbox, &messages[0]);
    mailbox_take(&mailbox);
    mailbox_push(&mailbox, &messages[1]);
    assert_false(mailbox_mark_idle(&mailbox));
    assert_ptr_equal(mailbox_take(&mailbox), &messages[1]);
    assert_true(mailbox_mark_idle(&mailbox));
    assert_false(mailbox_mark_idle(&mailbox)); /* it is idle already: nobody owns it */
}

static void the_length_counts_what_is_not_taken(void **state)
{
    struct mailbox mailbox;
    struct message messages[10] = {0};
    mailbox_init(&mailbox);
    assert_int_equal(mailbox_length(&mailbox), 0);
    for (uint32_t i = 0; i < 10; i++) {
        mailbox_push(&mailbox, &messages[i]);
        assert_int_equal(mailbox_length(&mailbox), i + 1);
    }
    mailbox_take(&mailbox);
    assert_int_equal(mailbox_length(&mailbox), 0);
    mailbox_take(&mailbox);
    assert_int_equal(mailbox_length(&mailbox), 0);
    mailbox_push(&mailbox, &messages[0]);
    assert_int_equal(mailbox_length(&mailbox), 1);
    mailbox_take(&mailbox);
    assert_int_equal(mailbox_length(&mailbox), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_push_onto_idle_lists),
        cmocka_unit_test(the_oldest_comes_first),
        cmocka_unit_test(a_used_message_can_be_pushed_again),
        cmocka_unit_test(it_is_not_idle_after_a_push),
        cmocka_unit_test(the_length_counts_what_is_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
