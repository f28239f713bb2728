/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_HALL_H
#define USHER_TESTS_HALL_H

/* A registry and a scheduler for tests of the parts that post to actors: nothing above runtime/.
 * The test's own thread runs turns, unless it starts workers.
 *
 * A *probe* is an actor that keeps whatever it receives. Who claims an actor with probe_behaviour
 * makes one too. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/env.h"
#include "base/metrics.h"
#include "runtime/scheduler.h"

enum { HALL_WAIT_MS = 20000, HALL_BLOCKS = 8, HALL_STATE_BYTES = 4096 };

struct hall;

struct probe {
    struct hall *hall;
    actor_handle self;
    struct message *first, *last; /* what it received, oldest first */
    unsigned count;
    uint64_t first_ms; /* when the first came */
    unsigned place;    /* of the first, among all that all probes received */
    bool leaving;      /* for `finish` */
    _Atomic bool left;
};

struct hall {
    struct env own_env;      /* stands still but for now_ms */
    _Atomic uint64_t now_ms; /* of that */
    const struct env *env;   /* that, or the system's */
    struct metrics *metrics;
    struct registry *registry;
    struct scheduler *scheduler;
    struct runner runner; /* of the test's thread */
    /* Instead of keeping it: true, it took the message; and the end of a turn. NULL: neither. */
    bool (*receive)(struct probe *probe, struct message *message);
    enum verdict (*finish)(struct probe *probe, struct runner *runner);
    unsigned bounced;
    pthread_mutex_t lock;
    /* under lock */
    unsigned places;
    struct probe *probes; /* by slot */
};

static inline uint64_t clock_ms(void)
{
    return env_monotonic_ms(env_system());
}

static inline void nap_ms(unsigned ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

#define WAIT_FOR(condition)                                                         \
    do {                                                                            \
        uint64_t give_up_ms = clock_ms() + HALL_WAIT_MS;                            \
        while (!(condition) && clock_ms() < give_up_ms)                             \
            nap_ms(1);                                                              \
        if (!(condition))                                                           \
            fail_msg("%s:%d: never came true: %s", __FILE__, __LINE__, #condition); \
    } while (0)

/* --- probes ----------------------------------------------------------------------------------- */

static inline struct probe *hall_adopt(struct hall *hall, actor_handle self)
{
    struct probe *probe = &hall->probes[actor_slot(self)];
    struct probe **state = (void *)registry_actor(hall->registry, actor_slot(self))->state;
    *probe = (struct probe){.hall = hall, .self = self};
    *state = probe;
    return probe;
}

static inline void keep_message(struct probe *probe, struct message *message)
{
    struct hall *hall = probe->hall;
    pthread_mutex_lock(&hall->lock);
    probe->first_ms = probe->count == 0 ? env_monotonic_ms(hall->env) : probe->first_ms;
    probe->place = probe->count == 0 ? hall->places : probe->place;
    hall->places++;
    probe->count++;
    message->next = NULL;
    if (probe->last != NULL)
        probe->last->next = message;
    else
        probe->first = message;
    probe->last = message;
    pthread_mutex_unlock(&hall->lock);
}

static inline bool probe_receive(void *context, struct runner *runner, actor_handle self,
                                 void *state, struct message *message)
{
    struct probe *probe = *(struct probe **)state;
    if (probe == NULL) /* claimed by a part, hence in a hall of its own */
        probe = hall_adopt(context, self);
    if (probe->hall->receive == NULL || !probe->hall->receive(probe, message))
        keep_message(probe, message);
    return true;
}

static inline enum verdict probe_finish(void *context, struct runner *runner, actor_handle self,
                                        void *state)
{
    struct probe *probe = *(struct probe **)state;
    return probe->hall->finish != NULL ? probe->hall->finish(probe, runner) : VERDICT_GO_ON;
}

static const struct behaviour probe_behaviour = {
    .name = "probe", .receive = probe_receive, .finish = probe_finish};

static inline struct probe *hall_probe(struct hall *hall, const char *name)
{
    actor_handle self = registry_claim(hall->registry, name, strlen(name), &probe_behaviour);
    assert_int_not_equal(self, 0);
    return hall_adopt(hall, self);
}

static inline unsigned probe_count(const struct probe *probe)
{
    pthread_mutex_lock(&probe->hall->lock);
    unsigned count = probe->count;
    pthread_mutex_unlock(&probe->hall->lock);
    return count;
}

/* The oldest that it received and was not asked for, or NULL; the caller's from now on. */
static inline struct message *probe_take(struct probe *probe)
{
    pthread_mutex_lock(&probe->hall->lock);
    struct message *message = probe->first;
    if (message != NULL) {
        probe->first = message->next;
        probe->last = probe->first == NULL ? NULL : probe->last;
        message->next = NULL;
    }
    pthread_mutex_unlock(&probe->hall->lock);
    return message;
}

static inline void probe_empty(struct probe *probe)
{
    struct message *message;
    while (probe->hall != NULL && (message = probe_take(probe)) != NULL)
        message_destroy(message);
}

/* --- the hall --------------------------------------------------------------------------------- */

static inline uint64_t hall_monotonic_ns(void *context)
{
    return atomic_load(&((struct hall *)context)->now_ms) * 1000000;
}

static inline uint64_t hall_wall_ms(void *context)
{
    return 1700000000000;
}

static inline void hall_random(void *context, void *to, size_t size)
{
    env_random(env_system(), to, size);
}

/* A time of its own stands still but for now_ms. */
static inline void hall_set_time(struct hall *hall, bool own_clock)
{
    hall->own_env = (struct env){hall_monotonic_ns, hall_wall_ms, hall_random, hall};
    atomic_store(&hall->now_ms, 1000);
    hall->env = own_clock ? &hall->own_env : env_system();
}

/* In somebody else's registry, whose turns are run by somebody else. */
static inline void hall_join(struct hall *hall, struct registry *registry)
{
    pthread_mutex_init(&hall->lock, NULL);
    hall->registry = registry;
    hall->probes = calloc(registry_capacity(registry), sizeof(struct probe));
    assert_non_null(hall->probes);
}

/* After whoever may use the probes is gone. */
static inline void hall_leave(struct hall *hall, uint32_t capacity)
{
    for (uint32_t i = 0; i < capacity; i++)
        probe_empty(&hall->probes[i]);
    pthread_mutex_destroy(&hall->lock);
    free(hall->probes);
}

static inline void hall_bounce(void *context, struct runner *runner, struct message *message)
{
    struct hall *hall = context;
    pthread_mutex_lock(&hall->lock);
    hall->bounced++;
    pthread_mutex_unlock(&hall->lock);
    message_destroy(message);
}

/* At most so many actors; all calls come with the hall as context. */
static inline void hall_open(struct hall *hall, uint32_t actors_max, bool own_clock)
{
    struct registry *registry;
    memset(hall, 0, sizeof(*hall));
    hall_set_time(hall, own_clock);
    hall->metrics = metrics_create(HALL_BLOCKS);
    assert_non_null(hall->metrics);
    assert_int_equal(registry_create(&registry, actors_max, HALL_STATE_BYTES, hall->env), 0);
    hall_join(hall, registry);
    const struct scheduler_options scheduler = {
        .registry = registry,
        .env = hall->env,
        .metrics = hall->metrics,
        .turn_messages = 64,
        .wake_backlog = 1024,
        .context = hall,
        .bounce = hall_bounce,
    };
    assert_int_equal(scheduler_create(&hall->scheduler, &scheduler), 0);
    hall->runner = (struct runner){.drains = true};
}

static inline void hall_close(struct hall *hall)
{
    uint32_t capacity = registry_capacity(hall->registry);
    scheduler_stop(hall->scheduler);
    scheduler_destroy(hall->scheduler);
    registry_destroy(hall->registry);
    hall_leave(hall, capacity);
    metrics_destroy(hall->metrics);
}

/* Runs what is listed, on this thread; gives the turns. */
static inline size_t hall_run(struct hall *hall)
{
    hall->runner.now_ms = env_monotonic_ms(hall->env);
    hall->runner.wall_ms = env_wall_ms(hall->env);
    return scheduler_run(hall->scheduler, &hall->runner, 1000000);
}

static inline void hall_prepare_worker(void *context, struct runner *runner, unsigned worker)
{
    runner->index = 1 + worker;
}

static inline void hall_start_workers(struct hall *hall)
{
    assert_int_equal(scheduler_start(hall->scheduler, 2, hall_prepare_worker), 0);
}

static inline bool hall_knows(struct hall *hall, const char *name)
{
    return registry_find(hall->registry, name, strlen(name)) != 0;
}

static inline uint64_t hall_metric(struct hall *hall, enum metric_id id)
{
    return metrics_read(hall->metrics, id);
}

#endif
