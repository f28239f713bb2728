/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend.pb-c.h"
#include "base/check.h"
#include "sim.h"

/* The steps of the world and the lives of the broker in it.
 *
 * First a phase of faults: at each step one of those who could act does, chosen by the seed, so
 * every order that the real threads could produce is possible, and many that they rarely do. The
 * rules of safety are checked as things are observed. Then everything is healed, all work is done
 * until nobody has any, and the rules about the end are checked.
 *
 * A crash throws the whole broker away between two steps; the store keeps what was committed.
 * What the dead broker's memory held is freed with its own functions, with net and link silenced:
 * the leak checker stays useful that way. */

enum { STALE_MS_MAX = 40, QUIET_ROUNDS_MAX = 20000, HEAL_MS = 12000, HEAL_STEP_MS = 20 };

/* --- the broker's life ------------------------------------------------------------------------ */

static void set_limits(struct world *world)
{
    struct options *options = &world->broker_options;
    options->threads_io = 1 + below(world, 2);
    options->threads_workers = 1 + below(world, 2);
    options->limits_users = 32;
    options->limits_services = 4;
    options->limits_turn_messages = 1 + below(world, 6);
    options->limits_mailbox_messages = 8 + below(world, 40);
    options->limits_inbox_messages = 6 + below(world, 20);
    options->limits_inbox_bytes = 4096;
    options->limits_inbox_age_ms = one_in(world, 4) ? 2500 : 3600000;
    options->limits_output_bytes = 4096;
    options->limits_output_soft_bytes = 1024;
    options->limits_output_soft_ms = 600;
    options->limits_login_deadline_ms = 1000;
    options->limits_close_linger_ms = 200;
    options->limits_requests_per_second = 0;
    options->limits_calls_per_user = 4;
    options->limits_call_timeout_ms = 600;
    options->limits_call_timeout_max_ms = 2000;
    options->session_resume_ms = 1500 + below(world, 4000);
    options->session_heartbeat_ms = 1500;
    options->link_frame_bytes = 2048;
    options->link_park_ms = 200;
    options->link_grace_ms = 300;
    options->link_fetch_timeout_ms = 900;
    options->link_mail_items = 8;
}

static void broker_down(struct world *world)
{
    struct broker *broker = world->broker;
    net_silence(world);
    link_silence(world);
    /* The changes that wait are refused, which frees them; nobody hears of it. */
    store_memory_crash(world->store);
    store_memory_fail(world->store, -EIO);
    while (committer_step(broker->committer))
        continue;
    store_memory_fail(world->store, 0);
    broker->store = NULL; /* it outlives the broker */
    broker_dismantle(broker);
    free(broker);
    world->broker = NULL;
    world->listed_count = 0;
    net_forget(world);
    link_forget(world);
}

static void broker_up(struct world *world)
{
    char error[BROKER_ERROR_BYTES] = "";
    world->broker = calloc(1, sizeof(*world->broker));
    CHECK_DEBT(world->broker != NULL, "no memory for the simulation");
    int failed = broker_assemble(world->broker, &world->broker_options, &world->env, NULL,
                                 world->store);
    CHECK_DEBT(failed == 0, "no memory for the simulation");
    net_make(world);
    link_make(world);
    failed = restore_sessions(world->broker, error);
    tell(world, "broker up: %d", failed);
    check_stream(world);
    check_map(world);
    world->stopping = false;
    if (failed != 0) {
        broker_down(world);
        world->restart_ms = world->now_ms + below(world, 500);
    }
}

static bool forget_one(void *context, const char *user, const struct session_record *record)
{
    memcpy(context, user, strlen(user) + 1);
    return false;
}

/* BUG_LOST_RECORD: an answer that was given before the sync. */
static void lose_a_record(struct world *world)
{
    char user[STORE_NAME_BYTES_MAX + 1] = "";
    uint64_t last;
    bool more;
    store_list_sessions(world->store, "", "", 1, forget_one, user, &last, &more);
    if (user[0] == '\0')
        return;
    store_begin(world->store);
    store_delete_session(world->store, user);
    store_commit(world->store, 0);
}

static void crash(struct world *world)
{
    tell(world, "crash");
    broker_down(world);
    world->faulty = false;
    world->crash_step = world->step;
    world->restart_ms = world->now_ms + below(world, 800);
    if (world->options.bug == BUG_LOST_RECORD)
        lose_a_record(world);
    check_map(world);
}

static void stop_orderly(struct world *world)
{
    tell(world, "stop");
    world->stopping = true;
    world->stop_step = world->step;
    broker_tell_all(world->broker);
    world->restart_ms = world->now_ms + 100 + below(world, 800);
}

/* --- threads ---------------------------------------------------------------------------------- */

static void take_listed(struct world *world)
{
    uint32_t slot;
    while (world->listed_count < LISTED_MAX &&
           scheduler_take(world->broker->scheduler, &slot))
        world->listed[world->listed_count++] = slot;
}

bool world_turn(struct world *world)
{
    struct broker *broker = world->broker;
    take_listed(world);
    if (world->listed_count == 0)
        return false;
    uint32_t at = below(world, world->listed_count);
    uint32_t slot = world->listed[at];
    world->listed[at] = world->listed[--world->listed_count];
    struct runner *runner =
        &broker->threads[below(world, broker->io_count + broker->worker_count)].runner;
    /* A thread reads the clock once per batch, so what it goes by may be a little old. */
    if (one_in(world, 2) || world->healing || runner->now_ms + STALE_MS_MAX < world->now_ms) {
        runner->now_ms = world->now_ms;
        runner->wall_ms = env_wall_ms(&world->env);
    }
    scheduler_turn(broker->scheduler, runner, slot);
    return true;
}

static bool commit_step(struct world *world)
{
    bool any = committer_step(world->broker->committer);
    if (any)
        check_stream(world);
    return any;
}

/* BUG_ADDED_EVENT: an event that no turn of its user made. */
static void add_an_event(struct world *world)
{
    const struct user *user = &world->users[below(world, USERS)];
    struct presence_event event = {
        .epoch = user->epoch, .kind = USHER__V1__PRESENCE_EVENT__KIND__OFFLINE};
    memcpy(event.user, user->name, sizeof(user->name));
    store_begin(world->store);
    store_append_event(world->store, &event);
    store_commit(world->store, 0);
    check_stream(world);
}

/* When an instance came or went, which moves calls (sim_backend.c). */
static void watch_instances(struct world *world)
{
    static const char *const names[BACKENDS] = {"!svc/a", "!svc/b"};
    for (unsigned i = 0; i < BACKENDS && world->broker != NULL; i++) {
        actor_handle now =
            registry_find(world->broker->registry, names[i], strlen(names[i]));
        if (now != world->backends[i].actor)
            world->moved_step = world->step;
        world->backends[i].actor = now;
    }
}

/* --- faults ----------------------------------------------------------------------------------- */

static void fault(struct world *world)
{
    uint32_t chance = below(world, 100);
    if (chance < 25) {
        world->wall_offset_ms += (int64_t)below(world, 7200000) - 3600000;
        tell(world, "the wall clock steps to %+lld", (long long)world->wall_offset_ms);
    } else if (chance < 60) {
        world->faulty = !world->faulty;
        store_memory_fail(world->store,
                          !world->faulty ? 0 : one_in(world, 2) ? -EIO : -ENOSPC);
        tell(world, "the store %s", world->faulty ? "fails" : "works");
    } else if (chance < 75) {
        advance(world, below(world, 3000));
    } else if (world->broker == NULL) {
        return;
    } else if (chance < 93) {
        crash(world);
    } else if (!world->stopping) {
        stop_orderly(world);
    }
    if (world->options.bug == BUG_ADDED_EVENT && !world->faulty && world->broker != NULL &&
        one_in(world, 4))
        add_an_event(world);
}

/* --- steps ------------------------------------------------------------------------------------ */

static bool step_broker(struct world *world, uint32_t chance)
{
    if (chance < 28)
        return world_turn(world);
    if (chance < 33)
        return commit_step(world);
    if (chance < 35)
        return queries_step(world->broker->queries);
    if (chance < 55)
        return net_step_random(world);
    if (chance < 58)
        return link_step(world, false);
    if (world->options.bug != BUG_FROZEN_TIMERS)
        clock_step(world->broker->clock);
    return false;
}

static bool step_peers(struct world *world, uint32_t chance)
{
    if (chance < 18) {
        uint32_t recent = world->wire_count < 50 ? world->wire_count : 50;
        return recent > 0 &&
               client_read(world, world->wire_count - 1 - below(world, recent), false);
    }
    if (chance < 32)
        return client_act(world);
    return backend_act(world, below(world, BACKENDS), false);
}

static void look_after_broker(struct world *world)
{
    if (world->broker != NULL && world->stopping && world->restart_ms <= world->now_ms)
        crash(world); /* the end of an orderly stop; its wait is over */
    if (world->broker == NULL && world->restart_ms <= world->now_ms)
        broker_up(world);
}

/* One who could act does; whoever has nothing to do leaves it to another. */
static void act(struct world *world)
{
    for (unsigned tries = 0; tries < 6; tries++) {
        uint32_t chance = below(world, 100);
        if (chance >= 60 ? step_peers(world, chance - 60)
                         : world->broker != NULL && step_broker(world, chance))
            return;
    }
}

static void step(struct world *world)
{
    world->step++;
    look_after_broker(world);
    watch_instances(world);
    if (one_in(world, 8))
        advance(world, one_in(world, 40) ? below(world, 900) : below(world, 12));
    if (one_in(world, 500))
        fault(world);
    else
        act(world);
}

/* --- healing ---------------------------------------------------------------------------------- */

/* One round of everything that anybody can do now. */
static bool work(struct world *world)
{
    bool any = net_step_all(world);
    any = link_step(world, true) || any;
    while (world_turn(world))
        any = true;
    any = commit_step(world) || any;
    while (queries_step(world->broker->queries))
        any = true;
    any = clients_read_all(world) || any;
    for (uint32_t i = 0; i < BACKENDS; i++)
        any = backend_act(world, i, true) || any;
    return any;
}

static void run_until_quiet(struct world *world)
{
    for (unsigned round = 0; world->rule == NULL; round++) {
        world->step++;
        watch_instances(world);
        if (round == QUIET_ROUNDS_MAX) {
            broken(world, "LIVE", "the world does not become quiet");
            return;
        }
        if (world->options.bug != BUG_FROZEN_TIMERS)
            clock_step(world->broker->clock);
        if (!work(world))
            return;
    }
}

static void run_for(struct world *world, uint64_t ms, bool pings)
{
    uint64_t until_ms = world->now_ms + ms;
    uint64_t ping_ms = world->now_ms;
    while (world->now_ms < until_ms && world->rule == NULL) {
        if (pings && world->now_ms >= ping_ms) {
            clients_come_home(world);
            clients_ping(world);
            ping_ms = world->now_ms + world->broker_options.session_heartbeat_ms / 2;
        }
        run_until_quiet(world);
        advance(world, HEAL_STEP_MS);
    }
    run_until_quiet(world);
}

static void heal(struct world *world)
{
    tell(world, "heal");
    world->healing = true;
    world->faulty = false;
    store_memory_fail(world->store, 0);
    if (world->broker != NULL && world->stopping)
        crash(world);
    if (world->broker == NULL)
        broker_up(world);
    for (unsigned i = 0; i < BACKENDS; i++)
        world->backends[i].stalled_until_ms = 0;
}

static void check_links(struct world *world)
{
    for (unsigned i = 0; i < BACKENDS; i++)
        for (unsigned k = 0; k < CHANNELS; k++) {
            const struct channel *channel = &world->backends[i].channels[k];
            if (channel->waiting && !channel->answered && k == CHANNEL_SUBMIT)
                broken(world, "LIVE", "a Submit of backend %u has no answer", i);
        }
    if (link_waiting(world) > BACKENDS)
        broken(world, "LIVE", "%u exchanges have no answer", link_waiting(world));
    if (scheduler_backlog(world->broker->scheduler) || world->listed_count > 0)
        broken(world, "LIVE", "actors are listed that nobody ran");
}

static void run_to_the_end(struct world *world)
{
    heal(world);
    run_for(world, HEAL_MS, true);
    if (world->rule == NULL) {
        check_healed(world);
        check_links(world);
    }
    clients_leave(world);
    run_for(world, world->broker_options.session_resume_ms + 2000, false);
    if (world->rule == NULL)
        check_empty(world);
}

/* --- from the beginning ----------------------------------------------------------------------- */

static void *room(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    CHECK_DEBT(memory != NULL, "no memory for the simulation");
    return memory;
}

static void make(struct world *world, const struct sim_options *options)
{
    *world = (struct world){.options = *options};
    world->wires = room(WIRES_MAX, sizeof(*world->wires));
    world->sessions = room(SESSIONS_MAX, sizeof(*world->sessions));
    world->requests = room(REQUESTS_MAX, sizeof(*world->requests));
    world->parcels = room(PARCELS_MAX, sizeof(*world->parcels));
    world->events = room(EVENTS_MAX, sizeof(*world->events));
    env_init(world, options->seed);
    struct store_options store = {.path = "", .events_kept_max = EVENTS_MAX};
    CHECK_DEBT(options_init(&world->broker_options) == 0 &&
                   store_open_memory(&world->store, &store) == 0,
               "no memory for the simulation");
    set_limits(world);
    clients_make(world);
    backends_make(world);
}

void world_run(struct world *world, const struct sim_options *options)
{
    make(world, options);
    broker_up(world);
    while (world->step < options->steps && world->rule == NULL)
        step(world);
    if (world->rule == NULL)
        run_to_the_end(world);
    tell(world, "end: %u wires, %u sessions, %u requests, %u parcels", world->wire_count,
         world->session_count, world->request_count, world->parcel_count);
}

void world_free(struct world *world)
{
    if (world->broker != NULL)
        broker_down(world);
    store_close(world->store);
    options_fini(&world->broker_options);
    for (uint32_t i = 0; i < world->wire_count; i++) {
        buffer_fini(&world->wires[i].up);
        buffer_fini(&world->wires[i].down);
        buffer_fini(&world->wires[i].input);
    }
    for (unsigned i = 0; i < BACKENDS; i++)
        for (unsigned k = 0; k < CHANNELS; k++) {
            buffer_fini(&world->backends[i].channels[k].request);
            buffer_fini(&world->backends[i].channels[k].answer);
        }
    free(world->wires);
    free(world->sessions);
    free(world->requests);
    free(world->parcels);
    free(world->events);
}
