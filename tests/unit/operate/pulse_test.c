/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/pulse.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* Who is called and does not come round is found, and named; who has a reason is excused. The
 * threads are in place of net/, scheduler, committer and clock: each call is a round of those that
 * are sound. */

enum { IO = 2, WORKERS = 3, COMMITTER = IO + WORKERS, CLOCK, PLACES, PATIENCE_MS = 20 };

static struct threads {
    _Atomic uint64_t beats[PLACES];
    int still; /* the place that does not move; -1: all do */
    uint64_t commit_began_ms;
    unsigned calls;
} threads;

static void beat(unsigned from, unsigned to)
{
    for (unsigned place = from; place < to; place++)
        threads.beats[place] += (int)place != threads.still;
}

void net_wake_all(struct net *net)
{
    threads.calls++;
    beat(0, IO);
}

void scheduler_wake_all(struct scheduler *scheduler)
{
    beat(IO, COMMITTER);
}

void committer_prod(struct committer *committer)
{
    beat(COMMITTER, CLOCK);
}

struct committer_look committer_look(struct committer *committer)
{
    return (struct committer_look){.began_ms = threads.commit_began_ms};
}

void clock_prod(struct clock *clock)
{
    beat(CLOCK, PLACES);
}

uint64_t clock_beats(const struct clock *clock)
{
    return threads.beats[CLOCK];
}

/* --- the checks ------------------------------------------------------------------------------- */

static struct pulse make(int still)
{
    struct pulse pulse = {.env = env_system(), .io_count = IO, .worker_count = WORKERS};
    for (unsigned place = 0; place < CLOCK; place++)
        pulse.beats[place] = &threads.beats[place];
    threads.still = still;
    threads.commit_began_ms = 0;
    threads.calls = 0;
    return pulse;
}

static int check(const struct pulse *pulse, struct stillness *known, char *still)
{
    return pulse_check(pulse, PATIENCE_MS, known, still);
}

static void all_who_move_are_not_waited_for(void **state)
{
    struct pulse pulse = make(-1);
    struct stillness known = {0};
    char still[PULSE_NAME_BYTES];
    uint64_t begun_ms = env_monotonic_ms(env_system());
    assert_int_equal(pulse_check(&pulse, 60000, &known, still), 0);
    assert_true(env_monotonic_ms(env_system()) - begun_ms < 30000);
    assert_int_equal(threads.calls, 1);
}

static void each_who_stands_still_is_named(void **state)
{
    static const char *const names[PLACES] = {"io-0",     "io-1",      "worker-0", "worker-1",
                                              "worker-2", "committer", "clock"};
    for (int place = 0; place < PLACES; place++) {
        struct pulse pulse = make(place);
        struct stillness known = {0};
        char still[PULSE_NAME_BYTES];
        assert_int_equal(check(&pulse, &known, still), -ETIME);
        assert_string_equal(still, names[place]);
    }
}

static void a_transaction_excuses_the_committer_alone(void **state)
{
    struct pulse pulse = make(COMMITTER);
    struct stillness known = {0};
    char still[PULSE_NAME_BYTES];
    threads.commit_began_ms = 1;
    assert_int_equal(check(&pulse, &known, still), 0);
    threads.still = CLOCK;
    assert_int_equal(check(&pulse, &known, still), -ETIME);
}

static void who_is_known_is_not_waited_for_again(void **state)
{
    struct pulse pulse = make(IO);
    struct stillness known = {0};
    char still[PULSE_NAME_BYTES];
    assert_int_equal(check(&pulse, &known, still), -ETIME);
    uint64_t begun_ms = env_monotonic_ms(env_system());
    assert_int_equal(pulse_check(&pulse, 60000, &known, still), -ETIME);
    assert_true(env_monotonic_ms(env_system()) - begun_ms < 30000);
    assert_string_equal(still, "worker-0");
    assert_int_equal(threads.calls, 2); /* so that it shows when he goes on */
    threads.still = -1;
    beat(IO, IO + 1);
    assert_int_equal(check(&pulse, &known, still), 0);
    assert_false(known.found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_who_move_are_not_waited_for),
        cmocka_unit_test(each_who_stands_still_is_named),
        cmocka_unit_test(a_transaction_excuses_the_committer_alone),
        cmocka_unit_test(who_is_known_is_not_waited_for_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
