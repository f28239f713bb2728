/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/kinds.h"
#include "actors/refusals.h"
#include "base/check.h"
#include "base/memory.h"
#include "broker/parts.h"
#include "directory/services.h"
#include "door/admission.h"
#include "door/logins.h"
#include "persist/committer.h"
#include "persist/queries.h"
#include "watch/watch.h"
#include "webhook/webhook.h"

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

static void fill_settings(struct settings *settings, const struct options *options,
                          const struct env *env)
{
    uint8_t boot[8];
    *settings = (struct settings){
        .node = options->node_name,
        .ends_with_token = options->auth_session_ends == SESSION_ENDS_WITH_TOKEN,
        .requests_max = REQUESTS_PER_USER_MAX,
        .link_submits_max = (uint32_t)options->link_contexts / LINK_STRANGERS_PART,
        .friends_mode = (uint8_t)options->friends_mode,
        .friends_show_away = options->friends_show_away,
        .friends_service = options->friends_service,
        .stored_for_away = options->inbox_offline_from == OFFLINE_FROM_ANY,
        .stored_service = options->inbox_notify_service,
    };
    env_random(env, boot, sizeof(boot));
    env_random(env, settings->requests_key, sizeof(settings->requests_key));
    env_random(env, settings->link_key, sizeof(settings->link_key));
    env_random(env, settings->proof_key, sizeof(settings->proof_key));
    env_random(env, settings->friends_key, sizeof(settings->friends_key));
    for (unsigned i = 0; i < sizeof(boot); i++)
        snprintf(settings->node_boot + 2 * i, 3, "%02x", boot[i]);
}

/* Those of the start; a reload puts others before them (operate/reload.c). */
static int make_classes(struct settings *settings, const struct options *options)
{
    const struct text_list *items = &options->rooms_classes;
    struct room_classes *classes = NULL;
    char error[ROOM_CLASS_ERROR_BYTES];
    int failed = room_classes_read(items->items, items->count, &classes, error);
    CHECK(failed != -EINVAL); /* by config_load */
    settings->room_classes = classes;
    return failed;
}

/* Who is refused is remembered where a history is kept. */
static int make_refusals(struct broker *broker)
{
    if (broker->options->history_events == 0)
        return 0;
    broker->settings.refusals = refusals_create(broker->env, broker->metrics);
    return broker->settings.refusals != NULL ? 0 : -ENOMEM;
}

static struct thread *thread_of(struct broker *broker, enum thread_role role)
{
    return &broker->threads[thread_place(broker->counts, role)];
}

static int make_threads(struct broker *broker)
{
    const struct turn turn = {.limits = &broker->limits,
                              .settings = &broker->settings,
                              .counters = &broker->counters,
                              .env = broker->env,
                              .metrics = broker->metrics,
                              .log = broker->log,
                              .traces = broker->traces};
    unsigned count = thread_place(broker->counts, ROLES);
    struct thread *threads = calloc(count, sizeof(*threads));
    broker->threads = threads;
    if (threads == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        threads[i].runner =
            (struct runner){.index = i, .drains = i < broker->counts.io, .scratch = &threads[i]};
        threads[i].turn = turn;
        threads[i].turn.block = i;
    }
    thread_of(broker, ROLE_LINK)->runner.drains = true;
    return 0;
}

static int make_numbers(struct broker *broker)
{
    const struct limits *limits = &broker->limits;
    broker->counts = (struct thread_counts){.io = (unsigned)threads_io(limits),
                                            .workers = (unsigned)threads_workers(limits)};
    broker->metrics = metrics_create(thread_place(broker->counts, ROLES));
    broker->traces = traces_create();
    return broker->metrics != NULL && broker->traces != NULL ? 0 : -ENOMEM;
}

uint32_t broker_instances_max(const struct broker *broker)
{
    return (uint32_t)limits_services(&broker->limits) * INSTANCES_PER_SERVICE;
}

static int open_services(struct broker *broker)
{
    const struct options *options = broker->options;
    const struct services_options services = {
        .registry = broker->registry,
        .scheduler = broker->scheduler,
        .env = broker->env,
        .metrics = broker->metrics,
        .log = broker->log,
        .services_max = (uint32_t)options->limits_services,
        .users_max = (uint32_t)options->limits_users,
    };
    return services_create(&broker->services, &services);
}

static int open_stored(struct broker *broker)
{
    const struct stored_options stored = {
        .store = broker->store,
        .limits = &broker->limits,
        .env = broker->env,
        .metrics = broker->metrics,
        .log = broker->log,
        .block = thread_place(broker->counts, ROLE_COMMITTER),
        .mid_last = &broker->counters.epoch_last,
    };
    return stored_open(&broker->stored, &stored);
}

static int open_committer(struct broker *broker)
{
    struct thread *thread = thread_of(broker, ROLE_COMMITTER);
    const struct committer_options committer = {
        .store = broker->store,
        .store_path = broker->options->store_path,
        .env = broker->env,
        .metrics = broker->metrics,
        .log = broker->log,
        .scheduler = broker->scheduler,
        .runner = &thread->runner,
        .epoch_last = &broker->counters.epoch_last,
        .reader = WEBHOOK_READER,
        .keeps_history = broker->options->history_events != 0,
        .refusals = broker->settings.refusals,
        .stored = broker->stored,
        .limits = &broker->limits,
        .committed = egress_stored,
        .context = &broker->egress,
    };
    thread->runner.beats = &thread->beats;
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
        .room_classes = &broker->settings.room_classes,
        .stored = broker->stored,
        .committer = broker->committer,
        .env = broker->env,
        .runner = &thread_of(broker, ROLE_QUERIES)->runner,
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
    net_wake(((struct egress *)context)->net, conn);
}

static int open_admission(struct broker *broker)
{
    const struct admission_options admission = {
        .options = broker->options,
        .limits = &broker->limits,
        .env = broker->env,
        .log = broker->log,
        .metrics = broker->metrics,
        .block = thread_place(broker->counts, ROLE_OTHERS),
        .homes = broker->counts.io,
        .wake = wake_home,
        .registry = broker->registry,
        .services = broker->services,
        .passage = &broker->passage,
        .call_last = &broker->counters.call_last,
        .bounce = egress_bounce,
        .context = &broker->egress,
    };
    return admission_open(&broker->admission, &admission);
}

int broker_make_own(struct broker *broker)
{
    /* Also with friends.mode off: the process after this one may have another, and wants to find
     * them before all users. */
    int error = watch_claim(broker->registry, &watch_behaviour, &broker->settings.watch_shards);
    if (error == 0 && broker->options->auth_mode != AUTH_MODE_OPEN)
        error = open_admission(broker);
    broker->ingress.lobby.admission = broker->admission;
    return error;
}

static void fill_egress(struct broker *broker)
{
    broker->egress = (struct egress){
        .registry = broker->registry,
        .scheduler = broker->scheduler,
        .services = broker->services,
        .rooms = {.registry = broker->registry,
                  .scheduler = broker->scheduler,
                  .limits = &broker->limits,
                  .behaviour = &room_behaviour,
                  .rooms_max = (uint32_t)rooms_count(&broker->limits)},
        .clock = broker->clock,
        .committer = broker->committer,
        .queries = broker->queries,
        .workers = thread_of(broker, ROLE_WORKER),
        .limits = &broker->limits,
        .settings = &broker->settings,
        .counters = &broker->counters,
        .env = broker->env,
        .metrics = broker->metrics,
    };
}

static void fill_ingress(struct broker *broker)
{
    const struct egress *egress = &broker->egress;
    broker->ingress = (struct ingress){
        .egress = egress,
        .registry = egress->registry,
        .scheduler = egress->scheduler,
        .limits = egress->limits,
        .settings = &broker->settings,
        .env = egress->env,
        .metrics = egress->metrics,
        .traces = broker->traces,
        .log = broker->log,
        .instances_max = broker_instances_max(broker),
        .passage = &broker->passage,
    };
    broker->ingress.lobby = (struct lobby){
        .registry = egress->registry,
        .scheduler = egress->scheduler,
        .user = &user_behaviour,
        .admission = broker->admission,
        .logins = broker->logins,
        .refusals = broker->settings.refusals,
        .proof_key = broker->settings.proof_key,
        .users_max = limits_users(egress->limits),
        .limits = egress->limits,
        .env = egress->env,
        .metrics = egress->metrics,
        .log = broker->log,
    };
    guest_turns_init(&broker->ingress.guest_turns, egress->scheduler, egress->env,
                     &thread_of(broker, ROLE_LINK)->runner);
}

static void fill_survivors(struct broker *broker)
{
    const struct egress *egress = &broker->egress;
    broker->survivors = (struct survivors){
        .store = broker->store,
        .stored = broker->stored,
        .store_path = broker->options->store_path,
        .env = egress->env,
        .log = broker->log,
        .registry = egress->registry,
        .scheduler = egress->scheduler,
        .runner = &broker->threads[0].runner,
        .user = &user_behaviour,
        /* The room for instances may be lent, that for the broker's own actors may not. */
        .users_max = limits_users(egress->limits) + broker_instances_max(broker),
        .limits = egress->limits,
        .epoch_last = &broker->counters.epoch_last,
        .presence_last = &broker->counters.presence_last,
    };
}

static int make_actors(struct broker *broker)
{
    const struct options *options = broker->options;
    uint32_t actors_max = (uint32_t)options->limits_users + broker_instances_max(broker) +
                          (uint32_t)options->rooms_count + WATCH_SHARDS + KIND_SINGLES;
    CHECK(actors_max <= SLOTS_MAX); /* by the ranges in options.def */
    int error = registry_create(&broker->registry, actors_max, kinds_state_bytes(), broker->env);
    if (error != 0)
        return error;
    struct scheduler_options scheduler = {
        .registry = broker->registry,
        .env = broker->env,
        .metrics = broker->metrics,
        .turn_messages = (uint32_t)options->limits_turn_messages,
        .wake_backlog = WAKE_BACKLOG,
        .context = &broker->egress, /* of all behaviours */
        .bounce = egress_bounce,
    };
    error = scheduler_create(&broker->scheduler, &scheduler);
    if (error == 0)
        error = open_services(broker);
    if (error == 0)
        error = open_stored(broker);
    if (error == 0)
        error = open_committer(broker);
    if (error == 0 && broker->handover == NULL)
        error = broker_make_own(broker);
    if (error == 0)
        error = open_clock(broker);
    if (error == 0)
        error = open_queries(broker);
    fill_egress(broker);
    fill_ingress(broker);
    fill_survivors(broker);
    return error;
}

int broker_assemble(struct broker *broker, const struct options *options, const struct env *env,
                    struct log *log, struct store *store)
{
    const struct limits *limits = &broker->limits;
    passage_init(&broker->passage);
    broker->options = options;
    broker->env = env;
    broker->log = log;
    broker->store = store;
    limits_fill(&broker->limits, options);
    fill_settings(&broker->settings, options, env);
    counters_start(&broker->counters, env);
    int failed = settings_make_rates(&broker->settings, limits, env);
    failed = failed != 0 ? failed : make_classes(&broker->settings, options);
    failed = failed != 0 ? failed : make_numbers(broker);
    failed = failed != 0 ? failed : make_refusals(broker);
    failed = failed != 0 ? failed : make_threads(broker);
    failed = failed != 0 ? failed : logins_open(&broker->logins, limits, env);
    log_set_metrics(log, broker->metrics);
    memory_open(limits, log, broker->metrics);
    json_set_alloc_funcs(json_memory, free);
    return failed != 0 ? failed : make_actors(broker);
}

void broker_join_net(struct broker *broker, struct net *net)
{
    broker->egress.net = broker->ingress.lobby.net = net;
}

void broker_halt(struct broker *broker)
{
    if (broker->scheduler != NULL)
        scheduler_stop(broker->scheduler);
    if (broker->queries != NULL)
        queries_halt(broker->queries);
    if (broker->committer != NULL)
        committer_close(broker->committer);
    broker->committer = NULL;
}

/* The actors end as the process does: their state is freed, nobody is told. */
static void free_actors(struct broker *broker)
{
    struct registry *registry = broker->registry;
    struct runner *runner = &thread_of(broker, ROLE_COMMITTER)->runner;
    uint32_t cursor = 0;
    actor_handle handle;
    while ((handle = registry_next(registry, &cursor, REGISTRY_ALL_KINDS)) != 0) {
        struct actor *actor = registry_actor(registry, actor_slot(handle));
        const struct behaviour *behaviour = actor->behaviour;
        if (behaviour->clear != NULL)
            behaviour->clear(&broker->egress, runner, handle, actor->state);
    }
    registry_destroy(registry);
}

void broker_dismantle(struct broker *broker)
{
    broker_halt(broker);
    if (broker->admission != NULL)
        admission_close(broker->admission);
    if (broker->queries != NULL)
        queries_close(broker->queries);
    stored_close(broker->stored);
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
    for (unsigned i = 0; broker->threads != NULL && i < thread_place(broker->counts, ROLES); i++)
        turn_fini(&broker->threads[i].turn);
    guest_turns_fini(&broker->ingress.guest_turns);
    free(broker->threads);
    memory_close();
    log_set_metrics(broker->log, NULL);
    metrics_destroy(broker->metrics);
    settings_destroy_rates(&broker->settings);
    refusals_destroy(broker->settings.refusals);
    room_classes_destroy(broker->settings.room_classes);
    free((void *)broker->settings.watch_shards);
    logins_close(broker->logins);
    traces_destroy(broker->traces);
}
