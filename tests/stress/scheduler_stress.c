/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/scheduler.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "runtime/ring.h"
#include "stress/stress.h"

/* A crowd of actors with every role at once: workers, a thread that posts and also runs turns (as
 * an I/O thread does), threads that only post, and one that ends held turns (as the committer
 * does). Actors post on to each other, hold, retire and are claimed again, all at random. Then:
 *
 *   - every post that was accepted is received or bounced, once (count and sum of mixed ids);
 *   - one life of an actor sees the posts of one poster in their order;
 *   - one turn of a slot at a time: `slots` is plain memory that only turns touch, so a missing
 *     order is a report of the thread sanitizer, beside the scheduler's own check;
 *   - nobody sleeps on mail: in the ping phase a poster waits for each of its posts while the
 *     workers fall asleep again and again;
 *   - with nothing to do, no CPU is used.
 *
 * The books are relaxed atomics, so that the test does not order what the runtime ought to. */

enum {
    ACTORS = 32,
    NAMES = 40, /* more than there is room for: the limit is met as well */
    OUTSIDERS = 3,
    POSTERS = OUTSIDERS + 1 + ACTORS, /* outsiders, the I/O thread, and each slot */
    IO_POSTER = OUTSIDERS,
    HOPS_MAX = 4,
    MAILBOX_MAX = 64,
    IN_FLIGHT_MAX = 2000,
    WORKERS_MAX = 4,
    PAUSE_MAX = 100, /* longer, and every worker is already asleep */
    IDLE_MS = 300,
    IDLE_CPU_MS_MAX = 60
};

struct parcel {
    struct message header;
    uint32_t poster;
    uint32_t hops;
    bool leave;      /* the actor retires at the end of this turn */
    uint64_t number; /* of its poster, rising */
    _Atomic bool *pong;
};

struct state {
    uint64_t last[POSTERS];
    bool holds;
    bool leaves;
};

/* Only the turns of that slot touch it. */
struct slot_books {
    uint64_t posted;
    uint64_t turns;
};

struct books {
    _Atomic uint64_t posted, posted_sum;
    _Atomic uint64_t received, bounced, ended_sum;
    _Atomic uint64_t refused, retired, held;
};

struct crowd {
    struct registry *registry;
    struct scheduler *scheduler;
    struct metrics *metrics;
    struct ring held; /* slots whose turn waits for the committer */
    struct books books;
    struct slot_books slots[ACTORS];
    uint64_t worker_rows[WORKERS_MAX];
    uint64_t end_ms;
    _Atomic bool calm; /* no random verdicts any more */
    _Atomic bool committer_ends;
};

struct poster {
    struct crowd *crowd;
    struct runner *runner; /* NULL: it only posts */
    uint32_t number;
    uint64_t posted;
    uint64_t row;
};

static void add(_Atomic uint64_t *to, uint64_t n)
{
    atomic_fetch_add_explicit(to, n, memory_order_relaxed);
}

static uint64_t get(_Atomic uint64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

static uint64_t id_of(const struct parcel *parcel)
{
    return stress_mix(parcel->number * POSTERS + parcel->poster + 1);
}

static actor_handle somebody(struct crowd *crowd, uint64_t *row, const struct behaviour *behaviour)
{
    char name[16];
    int size = snprintf(name, sizeof(name), "actor%u", stress_random(row, NAMES));
    return registry_claim(crowd->registry, name, (size_t)size, behaviour);
}

/* The caller's `posted` is the poster's own row of numbers. */
static void post(struct crowd *crowd, struct runner *runner, actor_handle to,
                 const struct parcel *wanted, uint64_t *posted)
{
    struct parcel *parcel = message_create(1, sizeof(*parcel));
    CHECK(parcel != NULL);
    parcel->poster = wanted->poster;
    parcel->hops = wanted->hops;
    parcel->leave = wanted->leave;
    parcel->pong = wanted->pong;
    parcel->number = ++*posted;
    uint64_t id = id_of(parcel);
    /* Counted first: it may be received before the call returns. */
    add(&crowd->books.posted, 1);
    add(&crowd->books.posted_sum, id);
    if (scheduler_post_from(crowd->scheduler, runner, wanted->poster % 3, to, &parcel->header,
                            MAILBOX_MAX) != 0) {
        CHECK(wanted->pong == NULL);
        add(&crowd->books.posted, UINT64_MAX);
        add(&crowd->books.posted_sum, UINT64_C(0) - id);
        add(&crowd->books.refused, 1);
        message_destroy(&parcel->header);
    }
}

static bool on_receive(void *context, struct runner *runner, actor_handle self, void *memory,
                       struct message *message);
static enum verdict on_finish(void *context, struct runner *runner, actor_handle self,
                              void *memory);

static const struct behaviour crowding = {
    .name = "crowding", .receive = on_receive, .finish = on_finish};

static bool on_receive(void *context, struct runner *runner, actor_handle self, void *memory,
                       struct message *message)
{
    struct crowd *crowd = context;
    struct state *state = memory;
    struct parcel *parcel = (struct parcel *)message;
    uint64_t *row = runner->scratch;
    CHECK(state->last[parcel->poster] < parcel->number);
    state->last[parcel->poster] = parcel->number;
    if (parcel->hops > 0) {
        struct parcel next = {.poster = IO_POSTER + 1 + actor_slot(self), .hops = parcel->hops - 1};
        post(crowd, runner, somebody(crowd, row, &crowding), &next,
             &crowd->slots[actor_slot(self)].posted);
    }
    state->leaves = state->leaves || parcel->leave;
    _Atomic bool *pong = parcel->pong;
    add(&crowd->books.ended_sum, id_of(parcel));
    message_destroy(message);
    add(&crowd->books.received, 1);
    if (pong != NULL)
        atomic_store_explicit(pong, true, memory_order_relaxed);
    return stress_random(row, 16) != 0;
}

static enum verdict on_finish(void *context, struct runner *runner, actor_handle self, void *memory)
{
    struct crowd *crowd = context;
    struct state *state = memory;
    uint64_t *row = runner->scratch;
    crowd->slots[actor_slot(self)].turns++;
    CHECK(!state->holds);
    if (state->leaves)
        return VERDICT_RETIRE;
    if (atomic_load_explicit(&crowd->calm, memory_order_relaxed))
        return VERDICT_GO_ON;
    if (stress_random(row, 8) == 0) {
        add(&crowd->books.held, 1);
        state->holds = true;
        /* From here on the committer may end the turn, before this call has returned. */
        CHECK(ring_push(&crowd->held, actor_slot(self)));
        return VERDICT_HOLD;
    }
    if (stress_random(row, 32) != 0)
        return VERDICT_GO_ON;
    add(&crowd->books.retired, 1);
    return VERDICT_RETIRE;
}

static void on_bounce(void *context, struct runner *runner, struct message *message)
{
    struct crowd *crowd = context;
    add(&crowd->books.ended_sum, id_of((struct parcel *)message));
    message_destroy(message);
    add(&crowd->books.bounced, 1);
}

static void *commit(void *argument)
{
    struct crowd *crowd = argument;
    uint64_t row = 99;
    uint32_t slot;
    while (!atomic_load_explicit(&crowd->committer_ends, memory_order_relaxed)) {
        if (!ring_pop(&crowd->held, &slot)) {
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
            continue;
        }
        /* The turn is ours until it is continued: the slot cannot change its owner. */
        struct state *state = (struct state *)registry_actor(crowd->registry, slot)->state;
        CHECK(state->holds);
        state->holds = false;
        scheduler_continue(crowd->scheduler, NULL, registry_at(crowd->registry, slot),
                           stress_random(&row, 8) == 0 ? VERDICT_RETIRE : VERDICT_GO_ON);
    }
    return NULL;
}

/* --- the storm: everybody posts ------------------------------------------------------------ */

static uint64_t in_flight(struct crowd *crowd)
{
    /* Ended before posted: what ends meanwhile makes the answer too large, never too small. */
    uint64_t ended = get(&crowd->books.received);
    ended += get(&crowd->books.bounced);
    uint64_t posted = get(&crowd->books.posted);
    return posted > ended ? posted - ended : 0;
}

static void post_burst(struct poster *poster)
{
    struct crowd *crowd = poster->crowd;
    for (uint32_t left = 1 + stress_random(&poster->row, 8); left > 0; left--) {
        struct parcel parcel = {.poster = poster->number,
                                .hops = stress_random(&poster->row, HOPS_MAX)};
        actor_handle to = somebody(crowd, &poster->row, &crowding);
        post(crowd, poster->runner, to, &parcel, &poster->posted);
    }
}

static void *storm(void *argument)
{
    struct poster *poster = argument;
    while (stress_now_ms() < poster->crowd->end_ms) {
        post_burst(poster);
        uint64_t lost_ms = stress_now_ms() + STRESS_PATIENCE_MS;
        while (in_flight(poster->crowd) > IN_FLIGHT_MAX) {
            CHECK(stress_now_ms() < lost_ms); /* nobody runs what is listed */
            sched_yield();
        }
    }
    return NULL;
}

/* As an I/O thread: posts a batch, runs a little of what is listed, hands the rest over. */
static void *storm_and_run(void *argument)
{
    struct poster *poster = argument;
    struct scheduler *scheduler = poster->crowd->scheduler;
    while (stress_now_ms() < poster->crowd->end_ms) {
        if (in_flight(poster->crowd) <= IN_FLIGHT_MAX)
            post_burst(poster);
        scheduler_run(scheduler, poster->runner, 8);
        if (scheduler_backlog(scheduler))
            scheduler_wake(scheduler);
        if (stress_random(&poster->row, 64) == 0)
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    return NULL;
}

/* --- the ping: everybody waits for the answer ---------------------------------------------- */

static void await(const _Atomic bool *pong)
{
    uint64_t lost_ms = stress_now_ms() + STRESS_PATIENCE_MS;
    /* No yield at first: the next post must be early enough to meet a worker that is about to
     * fall asleep, which takes it less than a microsecond. */
    for (uint32_t spins = 1; !atomic_load_explicit(pong, memory_order_relaxed); spins++) {
        if (spins % 4096 == 0) {
            CHECK(stress_now_ms() < lost_ms); /* a wake-up was lost */
            sched_yield();
        }
    }
}

/* One post at a time, each at another moment of a worker's falling asleep. */
static void *ping(void *argument)
{
    struct poster *poster = argument;
    struct crowd *crowd = poster->crowd;
    _Atomic bool pong;
    char name[16];
    int size = snprintf(name, sizeof(name), "pinged%u", poster->number);
    actor_handle to = registry_claim(crowd->registry, name, (size_t)size, &crowding);
    struct parcel parcel = {.poster = poster->number, .pong = &pong};
    CHECK(to != 0);
    while (stress_now_ms() < crowd->end_ms) {
        atomic_store_explicit(&pong, false, memory_order_relaxed);
        post(crowd, NULL, to, &parcel, &poster->posted);
        await(&pong);
        for (uint32_t wait = stress_random(&poster->row, PAUSE_MAX); wait > 0; wait--)
            atomic_load_explicit(&pong, memory_order_relaxed);
    }
    return NULL;
}

/* --- the whole ----------------------------------------------------------------------------- */

static void prepare(void *context, struct runner *runner, unsigned worker)
{
    struct crowd *crowd = context;
    crowd->worker_rows[worker] = worker + 1000;
    runner->index = worker;
    runner->scratch = &crowd->worker_rows[worker];
}

static struct crowd *open_crowd(unsigned workers)
{
    struct crowd *crowd = calloc(1, sizeof(*crowd));
    CHECK(crowd != NULL);
    crowd->metrics = metrics_create(WORKERS_MAX + 1);
    CHECK(crowd->metrics != NULL);
    CHECK(registry_create(&crowd->registry, ACTORS, sizeof(struct state), env_system()) == 0);
    CHECK(ring_init(&crowd->held, ACTORS * 2) == 0);
    struct scheduler_options options = {.registry = crowd->registry,
                                        .env = env_system(),
                                        .metrics = crowd->metrics,
                                        .turn_messages = 8,
                                        .wake_backlog = 4,
                                        .context = crowd,
                                        .bounce = on_bounce};
    CHECK(scheduler_create(&crowd->scheduler, &options) == 0);
    CHECK(scheduler_start(crowd->scheduler, workers, prepare) == 0);
    return crowd;
}

static void close_crowd(struct crowd *crowd)
{
    scheduler_stop(crowd->scheduler);
    CHECK(get(&crowd->books.ended_sum) == get(&crowd->books.posted_sum));
    for (uint32_t slot = 0; slot < ACTORS; slot++) {
        struct message last = {0};
        struct actor *actor = registry_actor(crowd->registry, slot);
        CHECK(actor->backlog == NULL && mailbox_length(&actor->mailbox) == 0 &&
              mailbox_shared(&actor->mailbox) == 0);
        CHECK(mailbox_push(&actor->mailbox, &last)); /* it was idle */
        CHECK(mailbox_take(&actor->mailbox) == &last);
    }
    scheduler_destroy(crowd->scheduler);
    registry_destroy(crowd->registry);
    ring_fini(&crowd->held);
    metrics_destroy(crowd->metrics);
    free(crowd);
}

/* Waits until everything that was posted has ended. */
static void settle(struct crowd *crowd)
{
    uint64_t lost_ms = stress_now_ms() + STRESS_PATIENCE_MS;
    while (in_flight(crowd) > 0) {
        CHECK(stress_now_ms() < lost_ms); /* a message or a wake-up was lost */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void run_posters(struct crowd *crowd, struct poster *posters, unsigned count,
                        void *(*run)(void *))
{
    pthread_t threads[OUTSIDERS + 1];
    for (unsigned i = 0; i < count; i++)
        stress_start(&threads[i], posters[i].runner != NULL ? storm_and_run : run, &posters[i]);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

static uint64_t cpu_ms(void)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

static uint64_t rest(void)
{
    uint64_t before_ms = cpu_ms();
    nanosleep(&(struct timespec){.tv_nsec = IDLE_MS * 1000000L}, NULL);
    return cpu_ms() - before_ms;
}

/* No verdict is random any more and every actor leaves, so that no turn is held. */
static void retire_all(struct crowd *crowd, struct poster *poster)
{
    uint64_t lost_ms = stress_now_ms() + STRESS_PATIENCE_MS;
    uint32_t cursor = 0;
    struct parcel leave = {.poster = poster->number, .leave = true};
    atomic_store_explicit(&crowd->calm, true, memory_order_relaxed);
    for (actor_handle handle;
         (handle = registry_next(crowd->registry, &cursor, REGISTRY_ALL_KINDS)) != 0;)
        post(crowd, NULL, handle, &leave, &poster->posted);
    settle(crowd);
    while (registry_count(crowd->registry) > 0) {
        CHECK(stress_now_ms() < lost_ms);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void run_crowd(unsigned workers, uint64_t duration_ms)
{
    struct crowd *crowd = open_crowd(workers);
    struct poster posters[OUTSIDERS + 1];
    uint64_t io_row = 7;
    struct runner io_runner = {.index = WORKERS_MAX, .drains = true, .scratch = &io_row};
    pthread_t committer;
    for (unsigned i = 0; i <= OUTSIDERS; i++)
        posters[i] = (struct poster){.crowd = crowd, .number = i, .row = i + workers * 10};
    posters[IO_POSTER].runner = &io_runner;
    stress_start(&committer, commit, crowd);
    crowd->end_ms = stress_now_ms() + duration_ms / 4;
    run_posters(crowd, posters, OUTSIDERS + 1, storm);
    settle(crowd);
    retire_all(crowd, &posters[0]);
    atomic_store_explicit(&crowd->committer_ends, true, memory_order_relaxed);
    pthread_join(committer, NULL);
    uint64_t stormed = get(&crowd->books.posted);
    uint64_t used_ms = rest();
    /* One alone first: nobody else's post repairs what it loses. */
    crowd->end_ms = stress_now_ms() + duration_ms / 2;
    run_posters(crowd, posters, 1, ping);
    crowd->end_ms = stress_now_ms() + duration_ms / 4;
    run_posters(crowd, posters, OUTSIDERS, ping);
    settle(crowd);
    used_ms += rest();
    CHECK(used_ms <= IDLE_CPU_MS_MAX);
    printf("%u workers: %lu posts (%lu bounced, %lu refused, %lu retired, %lu held), "
           "%lu pings, %lu wake-ups, idle %lu ms CPU\n",
           workers, (unsigned long)stormed, (unsigned long)get(&crowd->books.bounced),
           (unsigned long)get(&crowd->books.refused), (unsigned long)get(&crowd->books.retired),
           (unsigned long)get(&crowd->books.held),
           (unsigned long)(get(&crowd->books.posted) - stormed),
           (unsigned long)metrics_read(crowd->metrics, METRIC_wakeups), (unsigned long)used_ms);
    close_crowd(crowd);
}

int main(void)
{
    uint64_t duration_ms = stress_duration_ms();
    for (unsigned workers = WORKERS_MAX; workers > 0; workers--)
        run_crowd(workers, duration_ms / WORKERS_MAX);
    return 0;
}
