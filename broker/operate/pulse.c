/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/pulse.h"

#include <errno.h>
#include <stdio.h>

#include "base/check.h"
#include "base/wait.h"

/* Whether the threads move. A thread that sleeps because nothing is to be done looks the same from
 * outside as one that hangs, so each is called: I/O threads, workers, committer and clock count
 * their rounds, and whoever is called and sound makes one within moments. Somebody in an endless
 * turn or in a dead lock makes none. The committer is excused while a transaction of its lasts: a
 * disk that hangs is not mended by ending the process, which would only lose the inboxes. nng's
 * threads are looked after by link/watch.c.
 *
 * Who asks again while the same one stands still is not made to wait again: as long as its counter
 * is where it was, it has not moved, and a probe that waits is a thread that answers nobody else.
 *
 * The counters are relaxed: they are compared with themselves, and nothing is read because of
 * them. */

enum { LOOK_MS = 2, PLACES_MAX = PULSE_THREADS_MAX + 1 };

/* As in pulse->beats, and the clock behind them. */
static unsigned place_count(const struct pulse *pulse)
{
    return pulse->io_count + pulse->worker_count + 2;
}

static uint64_t beats_of(const struct pulse *pulse, unsigned place)
{
    return place + 1 == place_count(pulse)
               ? clock_beats(pulse->clock)
               : atomic_load_explicit(pulse->beats[place], memory_order_relaxed);
}

static void name_place(const struct pulse *pulse, unsigned place, char name[PULSE_NAME_BYTES])
{
    unsigned workers_end = pulse->io_count + pulse->worker_count;
    if (place < pulse->io_count)
        snprintf(name, PULSE_NAME_BYTES, "io-%u", place);
    else if (place < workers_end)
        snprintf(name, PULSE_NAME_BYTES, "worker-%u", place - pulse->io_count);
    else
        snprintf(name, PULSE_NAME_BYTES, "%s", place == workers_end ? "committer" : "clock");
}

static void call_everybody(const struct pulse *pulse)
{
    net_wake_all(pulse->net);
    scheduler_wake_all(pulse->scheduler);
    committer_prod(pulse->committer);
    clock_prod(pulse->clock);
}

static bool moves(const struct pulse *pulse, unsigned place, uint64_t before)
{
    bool is_committer = place + 2 == place_count(pulse);
    return beats_of(pulse, place) != before ||
           (is_committer && committer_look(pulse->committer).began_ms != 0);
}

/* The first place from `from` on that has not moved; their number when all have. */
static unsigned first_still(const struct pulse *pulse, const uint64_t *before, unsigned from)
{
    while (from < place_count(pulse) && moves(pulse, from, before[from]))
        from++;
    return from;
}

/* Calls everybody and waits; gives the place that has not moved, or their number. */
static unsigned wait_for_all(const struct pulse *pulse, uint32_t patience_ms,
                             uint64_t before[PLACES_MAX])
{
    unsigned count = place_count(pulse);
    for (unsigned place = 0; place < count; place++)
        before[place] = beats_of(pulse, place);
    call_everybody(pulse);
    uint64_t until_ms = env_monotonic_ms(pulse->env) + patience_ms;
    unsigned place = first_still(pulse, before, 0);
    while (place < count && env_monotonic_ms(pulse->env) < until_ms) {
        wait_nap(LOOK_MS);
        place = first_still(pulse, before, place);
    }
    return place;
}

int pulse_check(const struct pulse *pulse, uint32_t patience_ms, struct stillness *known,
                char still[PULSE_NAME_BYTES])
{
    uint64_t before[PLACES_MAX];
    CHECK(place_count(pulse) <= PLACES_MAX);
    CHECK(!known->found || known->place < place_count(pulse));
    if (known->found && moves(pulse, known->place, known->beats))
        known->found = false;
    if (!known->found) {
        unsigned place = wait_for_all(pulse, patience_ms, before);
        if (place == place_count(pulse))
            return 0;
        *known = (struct stillness){.found = true, .place = place, .beats = before[place]};
    } else {
        call_everybody(pulse); /* so that it shows when it goes on */
    }
    name_place(pulse, known->place, still);
    return -ETIME;
}
