/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "base/wait.h"
#include "broker/parts.h"
#include "persist/committer.h"

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

enum { LOOK_MS = 2, PLACES_MAX = 64 + 256 + 2 /* options.def: threads.io, threads.workers */ };

/* I/O threads, workers and the committer as in broker->threads, and the clock behind them. */
static unsigned place_count(const struct broker *broker)
{
    return broker->io_count + broker->worker_count + 2;
}

static uint64_t beats_of(const struct broker *broker, unsigned place)
{
    return place + 1 == place_count(broker)
               ? clock_beats(broker->clock)
               : atomic_load_explicit(&broker->threads[place].beats, memory_order_relaxed);
}

static void name_place(const struct broker *broker, unsigned place, char name[32])
{
    unsigned workers_end = broker->io_count + broker->worker_count;
    if (place < broker->io_count)
        snprintf(name, 32, "io-%u", place);
    else if (place < workers_end)
        snprintf(name, 32, "worker-%u", place - broker->io_count);
    else
        snprintf(name, 32, "%s", place == workers_end ? "committer" : "clock");
}

static void call_everybody(struct broker *broker)
{
    net_wake_all(broker->net);
    scheduler_wake_all(broker->scheduler);
    committer_prod(broker->committer);
    clock_prod(broker->clock);
}

static bool moves(const struct broker *broker, unsigned place, uint64_t before)
{
    bool is_committer = place + 2 == place_count(broker);
    return beats_of(broker, place) != before ||
           (is_committer && committer_look(broker->committer).began_ms != 0);
}

/* The first place from `from` on that has not moved; their number when all have. */
static unsigned first_still(const struct broker *broker, const uint64_t *before, unsigned from)
{
    while (from < place_count(broker) && moves(broker, from, before[from]))
        from++;
    return from;
}

/* Calls everybody and waits; gives the place that has not moved, or their number. */
static unsigned wait_for_all(struct broker *broker, uint32_t patience_ms,
                             uint64_t before[PLACES_MAX])
{
    unsigned count = place_count(broker);
    for (unsigned place = 0; place < count; place++)
        before[place] = beats_of(broker, place);
    call_everybody(broker);
    uint64_t until_ms = env_monotonic_ms(broker->env) + patience_ms;
    unsigned place = first_still(broker, before, 0);
    while (place < count && env_monotonic_ms(broker->env) < until_ms) {
        wait_nap(LOOK_MS);
        place = first_still(broker, before, place);
    }
    return place;
}

int broker_check_moving(struct broker *broker, uint32_t patience_ms, struct stillness *known,
                        char still[32])
{
    uint64_t before[PLACES_MAX];
    if (known->found && moves(broker, known->place, known->beats))
        known->found = false;
    if (!known->found) {
        unsigned place = wait_for_all(broker, patience_ms, before);
        if (place == place_count(broker))
            return 0;
        *known = (struct stillness){.found = true, .place = place, .beats = before[place]};
    } else {
        call_everybody(broker); /* so that it shows when it goes on */
    }
    name_place(broker, known->place, still);
    return -ETIME;
}

uint32_t broker_connections(const struct broker *broker)
{
    return net_count(broker->net);
}
