/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "actors/kinds.h"
#include "base/check.h"
#include "base/memory.h"
#include "broker/parts.h"
#include "directory/services.h"
#include "door/admission.h"
#include "door/logins.h"
#include "persist/committer.h"
#include "persist/queries.h"

/* The parts of a broker that are the same whoever brings clock, store, clients and backends: put
 * together and taken apart here, started by nobody. broker.c adds the real edges and the threads;
 * the simulation adds its own edges and takes every step itself. */

enum {
    WAKE_BACKLOG = 1024,
    REQUESTS_PER_USER_MAX = 4096,
    INSTANCES_PER_SERVICE = 4,
    SLOTS_MAX = 1 << 24, /* so many bits of a number say which slot */
};

/* For jansson, whose parser follows pointers to nowhere when it is refused: what operators ask, and
 * tokens of strangers, must not be the end of a process that is short of memory for a moment. */
static void *json_memory(size_t size)
{
    void *memory;
    MEMORY_MUST((memory = malloc(size)) != NULL, "JSON");
    return memory;
}

static void fill_settings(struct broker *broker)
{
    const struct options *options = broker->options;
    uint8_t boot[8];
    broker->settings = (struct settings){
        .node = options->node_name,
        .ends_with_token = options->auth_session_ends == SESSION_ENDS_WITH_TOKEN,
        .requests_max = REQUESTS_PER_USER_MAX,
        .link_submits_max = (uint32_t)options->link_contexts / LINK_STRANGERS_PART,
    };
    env_random(broker->env, boot, sizeof(boot));
    env_random(broker->env, broker->settings.requests_key, sizeof(broker->settings.requests_key));
    env_random(broker->env, broker->settings.link_key, sizeof(broker->settings.link_key));
    env_random(broker->env, broker->settings.proof_key, sizeof(broker->settings.proof_key));
    for (unsigned i = 0; i < sizeof(boot); i++)
        snprintf(broker->settings.node_boot + 2 * i, 3, "%02x", boot[i]);
}

/* A backend's requests outlive the process that they were meant for: the transport repeats them to
 * the next one. So calls are not counted from 1 again, or an old number would name the call of
 * somebody else. The number of a link is sealed with a key of this process. */
static void fill_counters(struct broker *broker)
{
    uint32_t start;
    env_random(broker->env, &start, sizeof(start));
    atomic_store(&broker->counters.call_last, start);
}

static struct thread *committer_thread(struct broker *broker)
{
    return &broker->threads[broker->io_count + broker->worker_count];
}

static unsigned thread_count(const struct broker *broker)
{
    return broker->io_count + broker->worker_count + 3;
}

static int make_threads(struct broker *broker)
{
    broker->io_count = (unsigned)broker->options->threads_io;
    broker->worker_count = (unsigned)broker->options->threads_workers;
    unsigned count = thread_count(broker);
    broker->threads = calloc(count, sizeof(*broker->threads));
    broker->metrics = metrics_create(count);
    broker->traces = traces_create();
    if (broker->threads == NULL || broker->metrics == NULL || broker->traces == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        struct thread *thread = &broker->threads[i];
        thread->runner =
            (struct runner){.index = i, .drains = i < broker->io_count, .scratch = thread};
        thread->turn = (struct turn){.limits = &broker->limits,
                                     .settings = &broker->settings,
                                     .counters = &broker->counters,
                                     .env = broker->env,
                                     .metrics = broker->metrics,
                                     .log = broker->log,
                                     .traces = broker->traces,
                                     .block = i};
    }
    struct thread *nng = committer_thread(broker) + 1;
    nng->runner.drains = true;
    link_turns_init(broker, nng);
    return 0;
}

static size_t state_bytes(void)
{
    return sizeof(struct session) > sizeof(struct instance_place) ? sizeof(struct session)
                                                                  : sizeof(struct instance_place);
}

uint32_t broker_instances_max(const struct broker *broker)
{
    return (uint32_t)broker->options->limits_services * INSTANCES_PER_SERVICE;
}

static int open_services(struct broker *broker)
{
    const struct services_options services = {
        .registry = broker->registry,
        .scheduler = broker->scheduler,
        .env = broker->env,
        .metrics = broker->metrics,
        .log = broker->log,
        .services_max = (uint32_t)broker->options->limits_services,
        .users_max = (uint32_t)broker->options->limits_users,
    };
    return services_create(&broker->services, &services);
}

static int open_committer(struct broker *broker)
{
    struct runner *runner = &committer_thread(broker)->runner;
    const struct committer_options committer = {
        .store = broker->store,
        .store_path = broker->options->store_path,
        .env = broker->env,
        .metrics = broker->metrics,
        .log = broker->log,
        .scheduler = broker->scheduler,
        .runner = runner,
        .epoch_last = &broker->counters.epoch_last,
        .stored = egress_stored,
        .context = broker,
    };
    runner->beats = &committer_thread(broker)->beats;
    return committer_open(&broker->committer, &committer);
}

static int open_queries(struct broker *broker)
{
    const struct queries_options queries = {
        .store = broker->store,
        .registry = broker->registry,
        .scheduler = broker->scheduler,
        .metrics = broker->metrics,
        .node = broker->options->node_name,
        .operate = broker->operate,
        .context = broker,
    };
    return queries_open(&broker->queries, &queries);
}

static int open_clock(struct broker *broker)
{
    const struct clock_options clock = {
        .registry = broker->registry,
        .scheduler = broker->scheduler,
        .env = broker->env,
        .awake = broker->awake.machine != NULL ? &broker->awake : NULL,
        .metrics = broker->metrics,
        .log = broker->log,
        .tick = MESSAGE_TICK,
    };
    return clock_open(&broker->clock, &clock);
}

static void wake_home(void *context, uint64_t conn)
{
    struct broker *broker = context;
    net_wake(broker->net, conn);
}

static int open_admission(struct broker *broker)
{
    const struct admission_options admission = {
        .options = broker->options,
        .limits = &broker->limits,
        .env = broker->env,
        .homes = broker->io_count,
        .wake = wake_home,
        .registry = broker->registry,
        .services = broker->services,
        .call_last = &broker->counters.call_last,
        .bounce = egress_bounce,
        .context = broker,
    };
    return admission_open(&broker->admission, &admission);
}

static void open_lobby(struct broker *broker)
{
    broker->lobby = (struct lobby){
        .registry = broker->registry,
        .scheduler = broker->scheduler,
        .user = &user_behaviour,
        .admission = broker->admission,
        .logins = broker->logins,
        .proof_key = broker->settings.proof_key,
        .users_max = broker->options->limits_users,
        .env = broker->env,
        .metrics = broker->metrics,
        .log = broker->log,
    };
}

static void fill_survivors(struct broker *broker)
{
    broker->survivors = (struct survivors){
        .store = broker->store,
        .store_path = broker->options->store_path,
        .env = broker->env,
        .log = broker->log,
        .registry = broker->registry,
        .scheduler = broker->scheduler,
        .runner = &broker->threads[0].runner,
        .user = &user_behaviour,
        /* The room for instances may be lent, that for the broker's own actors may not. */
        .users_max = broker->options->limits_users + broker_instances_max(broker),
        .limits = &broker->limits,
        .epoch_last = &broker->counters.epoch_last,
        .presence_last = &broker->counters.presence_last,
    };
}

static int make_actors(struct broker *broker)
{
    const struct options *options = broker->options;
    uint32_t actors_max =
        (uint32_t)options->limits_users + broker_instances_max(broker) + KIND_SINGLES;
    CHECK(actors_max <= SLOTS_MAX); /* by the ranges in options.def */
    int error = registry_create(&broker->registry, actors_max, state_bytes(), broker->env);
    if (error != 0)
        return error;
    struct scheduler_options scheduler = {
        .registry = broker->registry,
        .env = broker->env,
        .metrics = broker->metrics,
        .turn_messages = (uint32_t)options->limits_turn_messages,
        .wake_backlog = WAKE_BACKLOG,
        .context = broker,
        .bounce = egress_bounce,
    };
    error = scheduler_create(&broker->scheduler, &scheduler);
    if (error == 0)
        error = open_services(broker);
    if (error == 0)
        error = open_committer(broker);
    if (error == 0 && broker->options->auth_mode != AUTH_MODE_OPEN)
        error = open_admission(broker);
    if (error == 0)
        error = open_clock(broker);
    if (error == 0)
        error = open_queries(broker);
    open_lobby(broker);
    fill_survivors(broker);
    return error;
}

int broker_assemble(struct broker *broker, const struct options *options, const struct env *env,
                    struct log *log, struct store *store)
{
    broker->options = options;
    broker->env = env;
    broker->log = log;
    broker->store = store;
    limits_fill(&broker->limits, options);
    fill_settings(broker);
    fill_counters(broker);
    ingress_wire(broker);
    int failed = make_threads(broker);
    broker->settings.source_rates = source_rates_create(&broker->limits, env);
    broker->settings.spent_rates = spent_create(env);
    broker->settings.spent_fights = spent_create(env);
    if (broker->settings.source_rates == NULL || broker->settings.spent_rates == NULL ||
        broker->settings.spent_fights == NULL)
        failed = failed != 0 ? failed : -ENOMEM;
    failed = failed != 0 ? failed : logins_open(&broker->logins, &broker->limits, env);
    log_set_metrics(log, broker->metrics);
    memory_open(&broker->limits, log, broker->metrics);
    json_set_alloc_funcs(json_memory, free);
    return failed != 0 ? failed : make_actors(broker);
}

void broker_join_net(struct broker *broker, struct net *net)
{
    broker->net = broker->lobby.net = net;
}

void broker_halt(struct broker *broker)
{
    if (broker->scheduler != NULL)
        scheduler_stop(broker->scheduler);
    if (broker->committer != NULL)
        committer_close(broker->committer);
    broker->committer = NULL;
}

/* The actors end as the process does: their state is freed, nobody is told. */
static void free_actors(struct broker *broker)
{
    struct runner *runner = &committer_thread(broker)->runner;
    uint32_t cursor = 0;
    actor_handle handle;
    while ((handle = registry_next(broker->registry, &cursor, REGISTRY_ALL_KINDS)) != 0) {
        struct actor *actor = registry_actor(broker->registry, actor_slot(handle));
        const struct behaviour *behaviour = actor->behaviour;
        if (behaviour->clear != NULL)
            behaviour->clear(broker, runner, handle, actor->state);
    }
    registry_destroy(broker->registry);
}

void broker_dismantle(struct broker *broker)
{
    broker_halt(broker);
    if (broker->admission != NULL)
        admission_close(broker->admission);
    if (broker->queries != NULL)
        queries_close(broker->queries);
    if (broker->clock != NULL)
        clock_close(broker->clock);
    if (broker->services != NULL)
        services_destroy(broker->services);
    if (broker->scheduler != NULL)
        scheduler_destroy(broker->scheduler);
    if (broker->registry != NULL)
        free_actors(broker);
    if (broker->store != NULL)
        store_close(broker->store);
    for (unsigned i = 0; broker->threads != NULL && i < thread_count(broker); i++)
        turn_fini(&broker->threads[i].turn);
    link_turns_fini(broker);
    free(broker->threads);
    memory_close();
    log_set_metrics(broker->log, NULL);
    metrics_destroy(broker->metrics);
    source_rates_destroy(broker->settings.source_rates);
    spent_destroy(broker->settings.spent_rates);
    spent_destroy(broker->settings.spent_fights);
    logins_close(broker->logins);
    traces_destroy(broker->traces);
}
