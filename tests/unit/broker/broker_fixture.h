/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_BROKER_FIXTURE_H
#define USHER_TESTS_BROKER_FIXTURE_H

/* A broker without sockets: broker_assemble with the memory store, and in place of net/ and the
 * link what writes down that it was told (told.h) and what does nothing. Its threads are started by
 * the tests that want them; without them the test's own thread runs turns and steps. */

#include "unit/hall.h"
#include "unit/told.h"

#include "backend.pb-c.h"
#include "broker/parts.h"
#include "directory/services.h"
#include "persist/committer.h"

enum { GLUE_USERS = 4096, GLUE_SERVICES = 8 };

struct glue {
    struct broker broker; /* first: the behaviours get its address */
    struct net net;
    struct net_events net_events; /* of that */
    struct hall hall;
    struct options options;
    struct store *store; /* the broker's */
    bool committing;     /* its committer has its thread */
};

/* --- in place of the link --------------------------------------------------------------------- */

void link_answer(struct link *link, uint64_t exchange, struct bytes frame)
{
}

bool link_is_stranger(struct link *link, uint64_t exchange)
{
    return false;
}

void link_follow(struct link *link, uint64_t exchange)
{
}

bool link_is_crowded(struct link *link)
{
    return false;
}

void link_vouch(struct link *link, uint64_t exchange)
{
}

struct link_health link_health(struct link *link)
{
    return (struct link_health){.listening = true};
}

/* --- the broker ------------------------------------------------------------------------------- */

static inline struct runner *own_runner(struct glue *glue)
{
    return &glue->broker.threads[0].runner;
}

/* Runs what is listed, on this thread. */
static inline size_t run_turns(struct glue *glue)
{
    struct runner *runner = own_runner(glue);
    runner->now_ms = env_monotonic_ms(glue->broker.env);
    runner->wall_ms = env_wall_ms(glue->broker.env);
    return scheduler_run(glue->broker.scheduler, runner, 1000000);
}

static inline void start_workers(struct glue *glue)
{
    assert_int_equal(
        scheduler_start(glue->broker.scheduler, glue->broker.counts.workers, kinds_prepare_worker),
        0);
}

static inline void start_committer(struct glue *glue)
{
    assert_int_equal(committer_start(glue->broker.committer), 0);
    glue->committing = true;
}

/* Takes the store; NULL: a memory store that keeps `events_kept` events. own_clock: time stands
 * still but for glue->now_ms. `prepare` may change the options; NULL: nothing. */
static inline struct glue *glue_make_with(struct store *store, uint64_t events_kept, bool own_clock,
                                          void (*prepare)(struct options *options))
{
    struct glue *glue = calloc(1, sizeof(*glue));
    const struct store_options kept = {.events_kept_max = events_kept};
    assert_non_null(glue);
    assert_int_equal(options_init(&glue->options), 0);
    glue->options.limits_users = GLUE_USERS;
    glue->options.limits_services = GLUE_SERVICES;
    glue->options.threads_io = 1;
    glue->options.threads_workers = 2;
    if (prepare != NULL)
        prepare(&glue->options);
    hall_set_time(&glue->hall, own_clock);
    told_init(&glue->net);
    if (store == NULL)
        assert_int_equal(store_open_memory(&store, &kept), 0);
    glue->store = store;
    assert_int_equal(broker_assemble(&glue->broker, &glue->options, glue->hall.env, NULL, store),
                     0);
    broker_join_net(&glue->broker, &glue->net);
    glue->net.presence_last = &glue->broker.counters.presence_last;
    glue->net_events = ingress_net_events(&glue->broker.ingress);
    glue->net.events = &glue->net_events;
    glue->net.thread = &glue->broker.threads[0];
    glue->broker.egress.link = (struct link *)(uintptr_t)glue;
    hall_join(&glue->hall, glue->broker.registry);
    glue->hall.scheduler = glue->broker.scheduler;
    return glue;
}

static inline struct glue *glue_make(struct store *store, uint64_t events_kept, bool own_clock)
{
    return glue_make_with(store, events_kept, own_clock, NULL);
}

static inline void glue_free(struct glue *glue)
{
    uint32_t capacity = registry_capacity(glue->broker.registry);
    scheduler_stop(glue->broker.scheduler);
    while (!glue->committing && committer_step(glue->broker.committer))
        continue;
    broker_dismantle(&glue->broker);
    hall_leave(&glue->hall, capacity);
    told_fini(&glue->net);
    options_fini(&glue->options);
    free(glue);
}

static inline int set_up(void **state)
{
    *state = glue_make(NULL, 100000, false);
    return 0;
}

static inline int set_up_own_clock(void **state)
{
    *state = glue_make(NULL, 100000, true);
    return 0;
}

static inline int tear_down(void **state)
{
    glue_free(*state);
    return 0;
}

static inline uint64_t metric_of(struct glue *glue, enum metric_id id)
{
    return metrics_read(glue->broker.metrics, id);
}

/* A login that passed the gate; nobody has run its turn yet. */
static inline actor_handle log_in(struct glue *glue, const char *user, conn_handle conn)
{
    struct attach_message *attach = message_create(MESSAGE_ATTACH, sizeof(*attach));
    struct message header = attach->header;
    memset(attach, 0, sizeof(*attach));
    attach->header = header;
    attach->conn = conn;
    attach->id = 1;
    snprintf(attach->user, sizeof(attach->user), "%s", user);
    snprintf(attach->address, sizeof(attach->address), "192.0.2.1:%u", (unsigned)conn);
    actor_handle self = registry_claim(glue->broker.registry, user, strlen(user), &user_behaviour);
    assert_int_not_equal(self, 0);
    assert_int_equal(scheduler_post(glue->broker.scheduler, NULL, self, &attach->header), 0);
    return self;
}

static inline struct store_position position_of(struct glue *glue)
{
    struct store_position position = {0};
    assert_int_equal(store_position(glue->store, &position), 0);
    return position;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
