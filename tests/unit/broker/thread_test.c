/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/thread.h"

/* Each thread has a place of its own, however many there are. */

static void roles_follow_each_other(void **state)
{
    (void)state;
    static const struct thread_counts counts[] = {{1, 1}, {2, 3}, {8, 64}};
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        unsigned both = counts[i].io + counts[i].workers;
        assert_int_equal(thread_place(counts[i], ROLE_IO), 0);
        assert_int_equal(thread_place(counts[i], ROLE_WORKER), counts[i].io);
        assert_int_equal(thread_place(counts[i], ROLE_COMMITTER), both);
        assert_int_equal(thread_place(counts[i], ROLE_QUERIES), both + 1);
        assert_int_equal(thread_place(counts[i], ROLE_LINK), both + 2);
        assert_int_equal(thread_place(counts[i], ROLE_OTHERS), both + 3);
        assert_int_equal(thread_place(counts[i], ROLES), both + 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roles_follow_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
