/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/kinds.h"

#include <assert.h>

#include "actors/kinds.h"
#include "actors/push.h"
#include "base/check.h"
#include "broker/egress.h"
#include "broker/thread.h"
#include "instance/instance.h"
#include "persist/committer.h"
#include "persist/queries.h"
#include "room/room.h"
#include "user/shelf.h"
#include "user/user.h"
#include "watch/watch.h"

/* A row for each kind of actor that runs turns: how a message is received, how what it asked for is
 * carried out, how a turn goes on that waited for the store, and how its state ends with the
 * process. All of them share the turn of their thread. */

static struct turn *begin(struct egress *egress, struct runner *runner, actor_handle self)
{
    struct turn *turn = &((struct thread *)runner->scratch)->turn;
    if (!turn->begun)
        turn_begin(turn, self, registry_actor(egress->registry, actor_slot(self))->name,
                   runner->now_ms, runner->wall_ms);
    return turn;
}

static bool receive_user(void *context, struct runner *runner, actor_handle self, void *state,
                         struct message *message)
{
    struct egress *egress = context;
    struct turn *turn = begin(egress, runner, self);
    if (message_is_transient(message) && output_is_unseen(state, turn))
        output_look(state, turn, net_unsent(egress->net, ((struct session *)state)->conn));
    user_receive(state, message, turn);
    return turn->change == NULL && !turn->retire;
}

static bool joins_user(void *context, struct runner *runner, const struct message *next)
{
    return shelf_joins(&((struct thread *)runner->scratch)->turn, next);
}

/* The turn waits for what it has asked for. */
static enum verdict hold_user(struct egress *egress, struct change *change)
{
    if (change->kind == CHANGE_WINDOW)
        queries_window(egress->queries, change);
    else
        committer_submit(egress->committer, change);
    return VERDICT_HOLD;
}

/* Nobody is there any more. What waits behind it finds that out and comes to whoever is next by
 * that name; but what is to be stored for who is away would find nobody, and he would get another
 * actor at once. */
static enum verdict retire_user(struct egress *egress, actor_handle self)
{
    struct actor *actor = registry_actor(egress->registry, actor_slot(self));
    if (actor->backlog == NULL)
        actor->backlog = mailbox_take(&actor->mailbox);
    for (const struct message *next = actor->backlog; next != NULL; next = next->next)
        if (deliver_is_to_be_stored(next) && next->generation == actor_generation(self))
            return VERDICT_GO_ON;
    return VERDICT_RETIRE;
}

static enum verdict finish_user(void *context, struct runner *runner, actor_handle self,
                                void *state)
{
    struct egress *egress = context;
    struct turn *turn = begin(egress, runner, self);
    egress_perform(egress, runner, turn);
    struct change *change = turn->change;
    bool retire = turn->retire;
    egress_settle(egress, runner, self, state);
    egress_show(egress, self, state);
    turn_reset(turn);
    if (change != NULL)
        return hold_user(egress, change);
    return retire ? retire_user(egress, self) : VERDICT_GO_ON;
}

/* The change that the turn waited for is stored, or is not; or what it asked for was read. */
static enum verdict resume_user(void *context, struct runner *runner, actor_handle self,
                                void *state, void *what)
{
    struct turn *turn = begin(context, runner, self);
    user_committed(state, what, turn);
    return finish_user(context, runner, self, state);
}

static bool receive_instance(void *context, struct runner *runner, actor_handle self, void *state,
                             struct message *message)
{
    struct turn *turn = begin(context, runner, self);
    instance_receive(state, message, turn);
    return !turn->retire;
}

static enum verdict finish_instance(void *context, struct runner *runner, actor_handle self,
                                    void *state)
{
    struct egress *egress = context;
    struct turn *turn = begin(egress, runner, self);
    instance_finish(state, turn);
    egress_perform(egress, runner, turn);
    bool retire = turn->retire;
    instance_show(state);
    if (retire)
        instance_fini(state, turn);
    turn_reset(turn);
    return retire ? VERDICT_RETIRE : VERDICT_GO_ON;
}

static bool receive_room(void *context, struct runner *runner, actor_handle self, void *state,
                         struct message *message)
{
    struct turn *turn = begin(context, runner, self);
    return room_receive(&((struct room_place *)state)->room, message, turn);
}

static enum verdict finish_room(void *context, struct runner *runner, actor_handle self,
                                void *state)
{
    struct egress *egress = context;
    struct room_place *place = state;
    struct turn *turn = begin(egress, runner, self);
    room_finish(&place->room, turn);
    egress_perform(egress, runner, turn);
    bool over = room_is_over(place->room);
    if (over)
        room_fini(&place->room);
    else
        room_show(place);
    turn_reset(turn);
    return over ? VERDICT_RETIRE : VERDICT_GO_ON;
}

static void show_room(const void *state, uint64_t numbers[ACTOR_NUMBERS])
{
    static_assert((int)ROOM_NUMBERS <= (int)ACTOR_NUMBERS, "there is room for them");
    room_show_numbers(state, numbers);
}

static void clear_room(void *context, struct runner *runner, actor_handle self, void *state)
{
    room_fini(&((struct room_place *)state)->room);
}

static bool receive_watch(void *context, struct runner *runner, actor_handle self, void *state,
                          struct message *message)
{
    watch_receive(state, message, begin(context, runner, self));
    return true;
}

static enum verdict finish_watch(void *context, struct runner *runner, actor_handle self,
                                 void *state)
{
    struct turn *turn = begin(context, runner, self);
    watch_finish(state, turn);
    egress_perform(context, runner, turn);
    turn_reset(turn);
    return VERDICT_GO_ON;
}

static void clear_watch(void *context, struct runner *runner, actor_handle self, void *state)
{
    watch_clear(state);
}

static void clear_user(void *context, struct runner *runner, actor_handle self, void *state)
{
    session_clear(state, begin(context, runner, self));
    turn_discard(&((struct thread *)runner->scratch)->turn);
}

static void clear_instance(void *context, struct runner *runner, actor_handle self, void *state)
{
    instance_end(state, begin(context, runner, self));
    turn_discard(&((struct thread *)runner->scratch)->turn);
}

const struct behaviour user_behaviour = {
    .name = "user",
    .kind = KIND_USER,
    .state_bytes = sizeof(struct session),
    .receive = receive_user,
    .joins = joins_user,
    .finish = finish_user,
    .resume = resume_user,
    .clear = clear_user,
};
const struct behaviour instance_behaviour = {
    .name = "instance",
    .kind = KIND_INSTANCE,
    .state_bytes = sizeof(struct instance_place),
    .receive = receive_instance,
    .finish = finish_instance,
    .clear = clear_instance,
};
const struct behaviour visitors_behaviour = {
    .name = "visitors",
    .kind = KIND_VISITORS,
    .state_bytes = sizeof(struct instance_place),
    .receive = receive_instance,
    .finish = finish_instance,
    .clear = clear_instance,
};
const struct behaviour http_behaviour = {
    .name = "http",
    .kind = KIND_HTTP,
    .state_bytes = sizeof(struct instance_place),
    .receive = receive_instance,
    .finish = finish_instance,
    .clear = clear_instance,
};
const struct behaviour watch_behaviour = {
    .name = "watch",
    .kind = KIND_WATCH,
    .state_bytes = sizeof(struct watch_place),
    .receive = receive_watch,
    .finish = finish_watch,
    .clear = clear_watch,
};

const struct behaviour room_behaviour = {
    .name = "room",
    .kind = KIND_ROOM,
    .state_bytes = sizeof(struct room_place),
    .receive = receive_room,
    .finish = finish_room,
    .clear = clear_room,
    .show = show_room,
};

size_t kinds_state_bytes(void)
{
    static const struct behaviour *const rows[] = {&user_behaviour,     &instance_behaviour,
                                                   &visitors_behaviour, &http_behaviour,
                                                   &room_behaviour,     &watch_behaviour};
    size_t most = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        most = rows[i]->state_bytes > most ? rows[i]->state_bytes : most;
    return most;
}

void kinds_prepare_worker(void *context, struct runner *runner, unsigned worker)
{
    struct thread *thread = &((struct egress *)context)->workers[worker];
    runner->index = thread->runner.index;
    runner->scratch = thread;
    runner->beats = &thread->beats;
}
