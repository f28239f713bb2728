/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_PERSIST_STAND_H
#define USHER_TESTS_PERSIST_STAND_H

/* The parts that touch the store, with real users above a store in memory and nobody around them:
 * what a turn asks for is dropped, but for the change that it waits for. The test's own thread runs
 * turns and commits. */

#include <errno.h>

#include "actors/kinds.h"
#include "persist/committer.h"
#include "persist/restore.h"
#include "persist/save.h"
#include "process/failure.h"
#include "unit/hall.h"
#include "user/user.h"

enum { STAND_ACTORS = 8192 };

struct stand {
    struct hall hall; /* first: the context of all behaviours */
    struct store *store;
    struct limits limits;
    struct settings settings;
    struct counters counters;
    struct turn turn;
    struct runner committing; /* the committer's */
    struct committer *committer;
    struct survivors survivors;
    unsigned stored, refused; /* changes that turns have waited for */
};

/* --- users ------------------------------------------------------------------------------------ */

static inline struct turn *stand_begin(struct stand *stand, struct runner *runner,
                                       actor_handle self)
{
    struct turn *turn = &stand->turn;
    if (!turn->begun)
        turn_begin(turn, self, registry_actor(stand->hall.registry, actor_slot(self))->name,
                   runner->now_ms, runner->wall_ms);
    return turn;
}

static inline bool stand_receive(void *context, struct runner *runner, actor_handle self,
                                 void *state, struct message *message)
{
    struct turn *turn = stand_begin(context, runner, self);
    user_receive(state, message, turn);
    return turn->change == NULL && !turn->retire;
}

static inline void stand_settle(struct stand *stand, struct runner *runner, actor_handle self,
                                struct session *session)
{
    if (!output_settle(session, 0))
        return;
    struct writable_message *more = message_create(MESSAGE_WRITABLE, sizeof(*more));
    assert_non_null(more);
    more->conn = session->conn;
    more->go_on = true;
    assert_int_equal(scheduler_post(stand->hall.scheduler, runner, self, &more->header), 0);
}

static inline enum verdict stand_finish(void *context, struct runner *runner, actor_handle self,
                                        void *state)
{
    struct stand *stand = context;
    struct turn *turn = stand_begin(stand, runner, self);
    struct change *change = turn->change;
    bool retire = turn->retire;
    stand_settle(stand, runner, self, state);
    turn_discard(turn);
    if (change == NULL)
        return retire ? VERDICT_RETIRE : VERDICT_GO_ON;
    committer_submit(stand->committer, change);
    return VERDICT_HOLD;
}

static inline enum verdict stand_resume(void *context, struct runner *runner, actor_handle self,
                                        void *state, void *what)
{
    struct stand *stand = context;
    struct change *change = what;
    stand->stored += change->error == 0;
    stand->refused += change->error != 0;
    user_committed(state, change, stand_begin(stand, runner, self));
    return stand_finish(context, runner, self, state);
}

static inline void stand_clear(void *context, struct runner *runner, actor_handle self, void *state)
{
    struct stand *stand = context;
    session_clear(state, stand_begin(stand, runner, self));
    turn_discard(&stand->turn);
}

static const struct behaviour stand_user = {.name = "user",
                                            .kind = KIND_USER,
                                            .receive = stand_receive,
                                            .finish = stand_finish,
                                            .resume = stand_resume,
                                            .clear = stand_clear};

static inline struct session *session_of(struct stand *stand, const char *user)
{
    actor_handle self = registry_find(stand->hall.registry, user, strlen(user));
    assert_int_not_equal(self, 0);
    return (struct session *)registry_actor(stand->hall.registry, actor_slot(self))->state;
}

/* --- the stand -------------------------------------------------------------------------------- */

static inline void stand_ignore(void *context, struct runner *runner, const struct change *list)
{
}

static inline void stand_wire(struct stand *stand)
{
    struct hall *hall = &stand->hall;
    const struct committer_options committer = {.store = stand->store,
                                                .store_path = "",
                                                .env = hall->env,
                                                .metrics = hall->metrics,
                                                .scheduler = hall->scheduler,
                                                .runner = &stand->committing,
                                                .epoch_last = &stand->counters.epoch_last,
                                                .committed = stand_ignore,
                                                .context = stand};
    assert_int_equal(committer_open(&stand->committer, &committer), 0);
    stand->survivors = (struct survivors){.store = stand->store,
                                          .store_path = "",
                                          .env = hall->env,
                                          .registry = hall->registry,
                                          .scheduler = hall->scheduler,
                                          .runner = &hall->runner,
                                          .user = &stand_user,
                                          .users_max = STAND_ACTORS,
                                          .limits = &stand->limits,
                                          .epoch_last = &stand->counters.epoch_last,
                                          .presence_last = &stand->counters.presence_last};
}

/* Takes the store; NULL: one in memory. */
static inline struct stand *stand_make(struct store *store)
{
    const struct store_options kept = {.events_kept_max = 100000};
    struct stand *stand = calloc(1, sizeof(*stand));
    assert_non_null(stand);
    hall_open(&stand->hall, STAND_ACTORS, true);
    if (store == NULL)
        assert_int_equal(store_open_memory(&store, &kept), 0);
    stand->store = store;
    stand->settings = (struct settings){.node = "n1", .requests_max = 16};
    stand->limits = (struct limits){.session_heartbeat_ms = 15000,
                                    .session_resume_ms = 60000,
                                    .limits_frame_bytes = 65536,
                                    .limits_output_bytes = 1 << 20,
                                    .limits_output_soft_bytes = 1 << 19,
                                    .limits_inbox_messages = 100,
                                    .limits_inbox_bytes = 1 << 20,
                                    .limits_inbox_age_ms = 3600000,
                                    .limits_mailbox_messages = 100,
                                    .limits_turn_messages = 64};
    stand->turn = (struct turn){.limits = &stand->limits,
                                .settings = &stand->settings,
                                .counters = &stand->counters,
                                .env = stand->hall.env,
                                .metrics = stand->hall.metrics};
    stand_wire(stand);
    return stand;
}

/* Gives the store, the caller's from now on. */
static inline struct store *stand_leave(struct stand *stand)
{
    struct store *store = stand->store;
    uint32_t cursor = 0;
    actor_handle self;
    while (committer_step(stand->committer))
        continue;
    committer_close(stand->committer);
    while ((self = registry_next(stand->hall.registry, &cursor, KIND_USER)) != 0)
        stand_clear(stand, &stand->hall.runner, self,
                    registry_actor(stand->hall.registry, actor_slot(self))->state);
    turn_fini(&stand->turn);
    hall_close(&stand->hall);
    free(stand);
    return store;
}

static inline void stand_run(struct stand *stand)
{
    do
        hall_run(&stand->hall);
    while (committer_step(stand->committer));
}

/* A login that passed the gate; nobody has run its turn yet. */
static inline void log_in(struct stand *stand, const char *user, uint64_t conn)
{
    struct attach_message *attach = message_create(MESSAGE_ATTACH, sizeof(*attach));
    struct message header = attach->header;
    memset(attach, 0, sizeof(*attach));
    attach->header = header;
    attach->conn = conn;
    attach->id = 1;
    snprintf(attach->user, sizeof(attach->user), "%s", user);
    snprintf(attach->address, sizeof(attach->address), "192.0.2.1:%u", (unsigned)conn);
    actor_handle self = registry_claim(stand->hall.registry, user, strlen(user), &stand_user);
    assert_int_not_equal(self, 0);
    assert_int_equal(scheduler_post(stand->hall.scheduler, NULL, self, &attach->header), 0);
}

/* Everybody is told that the broker stops, and goes. */
static inline void say_goodbye(struct stand *stand)
{
    uint32_t cursor = 0;
    actor_handle self;
    while ((self = registry_next(stand->hall.registry, &cursor, KIND_USER)) != 0) {
        struct stop_message *stop = message_create(MESSAGE_STOP, sizeof(*stop));
        assert_non_null(stop);
        stop->retry_after_ms = 0;
        stop->later = false;
        stop->why = "the node was stopped";
        assert_int_equal(scheduler_post(stand->hall.scheduler, NULL, self, &stop->header), 0);
    }
    stand_run(stand);
}

static inline struct store_position position_of(struct stand *stand)
{
    struct store_position position = {0};
    assert_int_equal(store_position(stand->store, &position), 0);
    return position;
}

static inline int set_up(void **state)
{
    *state = stand_make(NULL);
    return 0;
}

static inline int tear_down(void **state)
{
    store_close(stand_leave(*state));
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
