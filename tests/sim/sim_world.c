/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend.pb-c.h"
#include "base/check.h"
#include "directory/services.h"
#include "door/admission.h"
#include "operate/goodbye.h"
#include "persist/committer.h"
#include "persist/queries.h"
#include "persist/restore.h"
#include "persist/save.h"
#include "sim.h"
#include "sim_room.h"
#include "token_make.h"

/* The steps of the world and the lives of the broker in it.
 *
 * First a phase of faults: at each step one of those who could act does, chosen by the seed, so
 * every order that the real threads could produce is possible, and many that they rarely do. The
 * rules of safety are checked as things are observed. Then everything is healed, all work is done
 * until nobody has any, and the rules about the end are checked.
 *
 * A crash throws the whole broker away between two steps; the store keeps what was committed. A
 * loss of power comes inside a commit, whose work is kept or not, and from that moment on nothing
 * that the broker still does has an effect. Since a transaction is one commit, this is also a
 * crash in the middle of a start or of the saving of inboxes. What the dead broker's memory held
 * is freed with its own functions, with net and link silenced: the leak checker stays useful that
 * way. An orderly stop ends as that of broker.c does: what waits is committed, then saved. */

enum { STALE_MS_MAX = 40, QUIET_ROUNDS_MAX = 20000, HEAL_MS = 12000, HEAL_STEP_MS = 20 };

/* --- the broker's life ------------------------------------------------------------------------ */

static void set_limits(struct world *world)
{
    struct options *options = &world->broker_options;
    options->threads_io = 1 + below(world, 2);
    options->threads_workers = 1 + below(world, 2);
    options->auth_mode = one_in(world, 2) ? AUTH_MODE_TOKEN : AUTH_MODE_OPEN;
    options->limits_failed_logins_per_source = 0; /* all come from one address */
    options->limits_logins_per_minute_per_source = options->limits_logins_per_minute_per_user = 0;
    options->limits_logins_waiting = 1 + below(world, 6);
    options->limits_users = 32;
    options->limits_services = 4;
    options->limits_turn_messages = 1 + below(world, 6);
    options->limits_mailbox_messages = 8 + below(world, 40);
    options->limits_inbox_messages = 6 + below(world, 20);
    options->limits_inbox_bytes = 4096;
    options->limits_inbox_age_ms = faults_has(world, FAULT_age) ? 2500 : 3600000;
    options->limits_takeovers_per_minute = one_in(world, 2) ? 0 : 3 + below(world, 60);
    options->limits_output_bytes = 4096;
    options->limits_output_soft_bytes = 1024;
    options->limits_output_soft_ms = 600;
    options->limits_login_deadline_ms = 1000;
    options->limits_close_linger_ms = 200;
    options->limits_requests_per_second = 0;
    options->limits_requests_per_second_per_source = 0;
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
    friends_make(world);
    stored_options(world);
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
    rooms_forget(world);
    free(broker);
    world->broker = NULL;
    world->listed_count = 0;
    net_forget(world);
    link_forget(world);
}

bool world_is_dark(const struct world *world)
{
    return store_memory_is_cut(world->store);
}

/* What was in memory is lost, and was not saved. */
static void lose_memory(struct world *world)
{
    if (world_is_dark(world))
        count(world, world->cut_is_kept ? COUNT_cuts_kept : COUNT_cuts_lost);
    broker_down(world);
    world->faulty = false;
    world->loss_step = world->step;
    world->restart_ms = world->now_ms + below(world, 800);
}

/* In the next commit. */
static void arm_cut(struct world *world)
{
    world->cut_is_kept = one_in(world, 2);
    store_memory_cut(world->store, world->cut_is_kept);
    tell(world, "power will be lost, kept %d", world->cut_is_kept);
}

static void forget_routes(struct world *world)
{
    for (int i = 0; i < USERS; i++) {
        struct user *user = &world->users[i];
        user->first_call_step = user->call_order = user->call_actor = 0;
    }
}

/* The start ended in a loss of power, or the store refused it. */
static void fail_start(struct world *world)
{
    bool dark = world_is_dark(world);
    count(world, dark ? COUNT_cuts_restoring : COUNT_starts_failed);
    if (dark && world->cut_is_kept)
        world->loss_step = world->step; /* the saved inboxes were read and dropped */
    broker_down(world);
    world->faulty = false;
    world->restart_ms = world->now_ms + below(world, 500);
}

static void give_keys(struct world *world)
{
    char error[KEYRING_ERROR_BYTES];
    struct keyring *keyring;
    if (world->broker->admission == NULL)
        return;
    CHECK_DEBT(keyring_read(&keyring, bytes_of_text(TOKEN_KEYS), error) == 0, "no memory");
    admission_set_keys(world->broker->admission, keyring);
}

static void broker_up(struct world *world)
{
    char error[BROKER_ERROR_BYTES] = "";
    world->broker = calloc(1, sizeof(*world->broker));
    CHECK_DEBT(world->broker != NULL, "no memory for the simulation");
    int failed =
        broker_assemble(world->broker, &world->broker_options, &world->env, NULL, world->store);
    CHECK_DEBT(failed == 0, "no memory for the simulation");
    give_keys(world);
    net_make(world);
    link_make(world);
    world->stopping = false;
    forget_routes(world);
    if (!world->healing && strikes(world, FAULT_cut, 6))
        arm_cut(world);
    failed = restore_sessions(&world->broker->survivors, error);
    tell(world, "broker up: %d", failed);
    if (failed != 0) {
        fail_start(world);
    } else {
        check_stream(world);
        check_no_inboxes(world);
        world->published_seq = world->event_count;
    }
    check_stream(world);
    check_map(world);
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
    count(world, world->stopping ? COUNT_crashes_stopping : COUNT_crashes);
    lose_memory(world);
    if (world->options.bug == BUG_LOST_RECORD)
        lose_a_record(world);
    check_stream(world);
    check_map(world);
}

static void stop_orderly(struct world *world)
{
    tell(world, "stop");
    world->stopping = true;
    world->stop_step = world->step;
    struct broker *broker = world->broker;
    goodbye_all(
        &(struct goodbye){broker->registry, broker->scheduler, broker->env, &broker->limits},
        "the node was stopped");
    world->restart_ms = world->now_ms + 100 + below(world, 800);
}

static bool ignore_message(void *context, const struct saved_message *message)
{
    return false;
}

/* Every session has its inbox in the store. */
static bool all_is_kept(const struct world *world)
{
    bool all = true;
    struct saved_inbox inbox;
    for (int i = 0; i < USERS; i++)
        all = all &&
              (world->users[i].state == 0 || (store_read_inbox(world->store, world->users[i].name,
                                                               &inbox, ignore_message, NULL) == 0 &&
                                              inbox.epoch == world->users[i].epoch));
    return all;
}

/* Nobody runs a turn any more. */
static void end_stop(struct world *world)
{
    if (!world->healing && strikes(world, FAULT_cut, 6))
        arm_cut(world);
    while (!world_is_dark(world) && committer_step(world->broker->committer))
        continue;
    if (!world_is_dark(world))
        committer_note(world->broker->committer);
    if (!world_is_dark(world)) {
        check_stream(world);
        save_inboxes(&world->broker->survivors, NULL);
    }
    if (!world_is_dark(world) && all_is_kept(world)) {
        tell(world, "stopped");
        count(world, COUNT_stops);
        broker_down(world);
        world->faulty = false;
        world->restart_ms = world->now_ms + below(world, 800);
    } else {
        tell(world, "stopped, and not all is kept");
        count(world, COUNT_stops_spoiled);
        if (!world->faulty && !world_is_dark(world))
            broken(world, "KEEP", "inboxes are not saved, and nothing failed");
        lose_memory(world);
    }
    check_stream(world);
    check_map(world);
}

/* --- threads ---------------------------------------------------------------------------------- */

static void take_listed(struct world *world)
{
    uint32_t slot;
    while (world->listed_count < LISTED_MAX && scheduler_take(world->broker->scheduler, &slot))
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
        &broker->threads[below(world, thread_place(broker->counts, ROLE_COMMITTER))].runner;
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
    if (!any && !world->healing && one_in(world, 4))
        committer_note(world->broker->committer);
    friends_crowd(world);
    if (world_is_dark(world)) {
        tell(world, "power is lost");
        lose_memory(world);
    }
    if (any)
        check_stream(world);
    if (any && world->broker != NULL && world->published_seq != world->event_count)
        broken(world, "FEED", "published up to %llu, stored up to %llu",
               (unsigned long long)world->published_seq, (unsigned long long)world->event_count);
    return any;
}

/* BUG_ADDED_EVENT: an event that no turn of its user made. */
static void add_an_event(struct world *world)
{
    const struct user *user = &world->users[below(world, USERS)];
    struct presence_event event = {.epoch = user->epoch,
                                   .kind = USHER__V1__PRESENCE_EVENT__KIND__OFFLINE};
    memcpy(event.user, user->name, sizeof(user->name));
    store_begin(world->store);
    store_append_event(world->store, &event);
    store_commit(world->store, 0);
    if (world_is_dark(world)) {
        lose_memory(world); /* it was this commit that the power was to be lost in */
        return;
    }
    check_stream(world);
    world->published_seq = world->event_count;
}

static bool is_leaving(struct world *world, const char *name)
{
    struct service_look rows[BACKENDS];
    size_t count =
        world->broker == NULL ? 0 : services_look(world->broker->services, rows, BACKENDS);
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].instance, name) == 0)
            return rows[i].leaving;
    return false;
}

/* Which backends are instances in the broker's eyes. */
void world_watch_instances(struct world *world)
{
    static const char *const names[BACKENDS] = {"!svc/a", "!svc/b", "!/o"};
    for (unsigned i = 0; i < BACKENDS; i++) {
        struct backend *backend = &world->backends[i];
        actor_handle now = world->broker == NULL
                               ? 0
                               : registry_find(world->broker->registry, names[i], strlen(names[i]));
        if (backend->actor != 0 && backend->actor != now && world->broker != NULL) {
            count(world, COUNT_instances_lost);
            check_lost(world, i);
        }
        backend->actor = now;
        backend->leaving = now != 0 && is_leaving(world, strrchr(names[i], '/') + 1);
    }
}

/* --- faults ----------------------------------------------------------------------------------- */

static void fault_store(struct world *world)
{
    world->faulty = !world->faulty;
    if (world->faulty)
        count(world, COUNT_store_failures);
    store_memory_fail(world->store, !world->faulty ? 0 : one_in(world, 2) ? -EIO : -ENOSPC);
    tell(world, "the store %s", world->faulty ? "fails" : "works");
}

static void fault_clock(struct world *world)
{
    count(world, COUNT_clock_steps);
    world->wall_offset_ms += (int64_t)below(world, 7200000) - 3600000;
    tell(world, "the wall clock steps to %+lld", (long long)world->wall_offset_ms);
}

static void fault_sleep(struct world *world)
{
    count(world, COUNT_sleeps);
    advance(world, below(world, 3000));
}

static void fault_broker(struct world *world, enum fault kind)
{
    if (kind == FAULT_crash)
        crash(world);
    else if (kind == FAULT_cut)
        arm_cut(world);
    else if (!world->stopping)
        stop_orderly(world);
}

static void fault(struct world *world)
{
    static const enum fault kinds[] = {FAULT_store, FAULT_store, FAULT_clock, FAULT_sleep,
                                       FAULT_crash, FAULT_cut,   FAULT_stop,  FAULT_stop};
    enum fault kind = kinds[below(world, sizeof(kinds) / sizeof(kinds[0]))];
    if (!faults_has(world, kind))
        return;
    if (kind == FAULT_store)
        fault_store(world);
    else if (kind == FAULT_clock)
        fault_clock(world);
    else if (kind == FAULT_sleep)
        fault_sleep(world);
    else if (world->broker != NULL)
        fault_broker(world, kind);
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
    if (chance < 38)
        return world->broker->admission != NULL && admission_step(world->broker->admission);
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

static bool is_quiet(struct world *world)
{
    return net_slots_used(world) == 0 && world->listed_count == 0 &&
           !scheduler_backlog(world->broker->scheduler);
}

static void look_after_broker(struct world *world)
{
    if (world->broker != NULL && world->stopping &&
        (world->restart_ms <= world->now_ms || is_quiet(world))) {
        if (!is_quiet(world))
            count(world, COUNT_stops_hurried); /* its wait is over */
        end_stop(world);
    }
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
    world_watch_instances(world);
    if (one_in(world, 8))
        advance(world, one_in(world, 40) ? below(world, 900) : below(world, 12));
    if (one_in(world, 300))
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
    while (world->broker->admission != NULL && admission_step(world->broker->admission))
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
        world_watch_instances(world);
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
    store_memory_crash(world->store); /* no power is lost any more */
    if (world->broker != NULL && world->stopping)
        end_stop(world);
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
            if (channel->waiting && !channel->answered && k != CHANNEL_FETCH)
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
        check_mirrors(world);
        rooms_check_healed(world);
        stored_check_healed(world);
    }
    clients_leave(world);
    run_for(world, world->broker_options.session_resume_ms + 2000, false);
    if (world->rule == NULL) {
        check_empty(world);
        rooms_check_empty(world);
    }
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
    world->kicks = room(KICKS_MAX, sizeof(*world->kicks));
    env_init(world, options->seed);
    faults_choose(world);
    /* A commit has one event per user at most, and the checker must see each. */
    struct store_options store = {
        .path = "",
        .events_kept_max = faults_has(world, FAULT_log) ? USERS + below(world, 24) : EVENTS_MAX,
        .history_max = 64};
    CHECK_DEBT(options_init(&world->broker_options) == 0 &&
                   store_open_memory(&world->store, &store) == 0,
               "no memory for the simulation");
    set_limits(world);
    rooms_make(world);
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
    rooms_free(world);
    options_fini(&world->broker_options);
    for (uint32_t i = 0; i < world->wire_count; i++) {
        buffer_fini(&world->wires[i].up);
        buffer_fini(&world->wires[i].down);
        buffer_fini(&world->wires[i].input);
    }
    backends_free(world);
    friends_free(world);
    free(world->wires);
    free(world->sessions);
    free(world->requests);
    free(world->parcels);
    free(world->events);
    free(world->kicks);
}
