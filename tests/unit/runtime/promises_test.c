/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broken.h"
#include "runtime/scheduler.h"

/* What the runtime's headers promise of their callers, broken on purpose. */

enum { ACTORS_MAX = 4, TURN_MESSAGES = 8, STATE_BYTES = 8 };

struct world {
    struct registry *registry;
    struct scheduler *scheduler;
    struct runner runner;
    actor_handle self;
};

static bool receive(void *context, struct runner *runner, actor_handle self, void *state,
                    struct message *message)
{
    message_destroy(message);
    return true;
}

static enum verdict finish(void *context, struct runner *runner, actor_handle self, void *state)
{
    return VERDICT_HOLD;
}

static void bounce(void *context, struct runner *runner, struct message *message)
{
    message_destroy(message);
}

static const struct behaviour holds = {
    .name = "holds", .state_bytes = STATE_BYTES, .receive = receive, .finish = finish};
static const struct behaviour larger = {
    .name = "larger", .state_bytes = STATE_BYTES + 1, .receive = receive, .finish = finish};

static int set_up(void **state)
{
    static struct world world;
    world = (struct world){0};
    assert_int_equal(registry_create(&world.registry, ACTORS_MAX, STATE_BYTES, env_system()), 0);
    const struct scheduler_options options = {.registry = world.registry,
                                              .env = env_system(),
                                              .turn_messages = TURN_MESSAGES,
                                              .bounce = bounce};
    assert_int_equal(scheduler_create(&world.scheduler, &options), 0);
    world.self = registry_claim(world.registry, "ann", 3, &holds);
    *state = &world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    scheduler_destroy(world->scheduler);
    registry_destroy(world->registry);
    return 0;
}

/* --- whose turn it is ------------------------------------------------------------------------- */

static void hold_a_turn(struct world *world)
{
    struct message *message = message_create(1, sizeof(*message));
    scheduler_post(world->scheduler, &world->runner, world->self, message);
    scheduler_run(world->scheduler, &world->runner, 1);
}

static void end_a_turn_that_nobody_holds(void *argument)
{
    struct world *world = argument;
    scheduler_continue(world->scheduler, &world->runner, world->self, VERDICT_GO_ON);
}

static void end_it_twice(void *argument)
{
    struct world *world = argument;
    hold_a_turn(world);
    end_a_turn_that_nobody_holds(world);
    end_a_turn_that_nobody_holds(world);
}

static void end_that_of_an_earlier_life(void *argument)
{
    struct world *world = argument;
    hold_a_turn(world);
    world->self -= UINT64_C(2) << 32;
    end_a_turn_that_nobody_holds(world);
}

static void resume_what_cannot_be(void *argument)
{
    struct world *world = argument;
    hold_a_turn(world);
    scheduler_resume(world->scheduler, &world->runner, world->self, NULL);
}

static void give_the_slot_back_from_outside(void *argument)
{
    struct world *world = argument;
    registry_release(world->registry, actor_slot(world->self));
}

static void turns_are_held_and_ended_once(void **state)
{
    assert_true(is_broken(end_a_turn_that_nobody_holds, *state, "actor_in_turn(actor)"));
    assert_true(is_broken(end_it_twice, *state, "actor_in_turn(actor)"));
    assert_true(is_broken(end_that_of_an_earlier_life, *state, "actor_generation(self)"));
    assert_true(is_broken(resume_what_cannot_be, *state, "resume != NULL"));
    assert_true(is_broken(give_the_slot_back_from_outside, *state, "actor_in_turn(actor)"));
}

/* --- whose thread it is ----------------------------------------------------------------------- */

static void *run(void *argument)
{
    struct world *world = argument;
    scheduler_run(world->scheduler, &world->runner, 1);
    return NULL;
}

static void run_with_the_runner_of_another(void *argument)
{
    struct world *world = argument;
    pthread_t thread;
    thread_begin(&world->runner.mark);
    pthread_create(&thread, NULL, run, world);
    pthread_join(thread, NULL);
}

static void *post(void *argument)
{
    hold_a_turn(argument);
    return NULL;
}

static void post_with_the_runner_of_another(void *argument)
{
    struct world *world = argument;
    pthread_t thread;
    thread_begin(&world->runner.mark);
    pthread_create(&thread, NULL, post, world);
    pthread_join(thread, NULL);
}

static void a_runner_is_of_one_thread(void **state)
{
    assert_true(is_broken(run_with_the_runner_of_another, *state, "off_thread(mark)"));
    assert_true(is_broken(post_with_the_runner_of_another, *state, "on_another_thread"));
}

/* --- what is counted -------------------------------------------------------------------------- */

static void push_twice(void *argument)
{
    struct mailbox mailbox;
    mailbox_init(&mailbox);
    struct message *message = message_create(1, sizeof(*message));
    mailbox_push(&mailbox, message);
    mailbox_push(&mailbox, message);
}

static void hold_what_nobody_holds(void *argument)
{
    struct shared *shared = shared_create(sizeof(*shared));
    shared->holders = 0;
    message_create_holding(1, sizeof(struct message), shared);
}

static void destroy_a_message_of_no_block(void *argument)
{
    struct shared *shared = shared_create(sizeof(*shared));
    struct message_block *block = message_block_create(2, sizeof(struct message), shared);
    message_block_next(block, 1);
    struct message *message = message_block_next(block, 1);
    message->flags--; /* as if the block began in the message before, which is ours to read */
    message_destroy(message);
}

static void a_state_larger_than_its_place(void *argument)
{
    struct world *world = argument;
    registry_claim(world->registry, "bob", 3, &larger);
}

static void a_slot_that_never_was(void *argument)
{
    struct world *world = argument;
    registry_actor(world->registry, ACTORS_MAX);
}

static void what_is_counted_agrees(void **state)
{
    assert_true(is_broken(push_twice, *state, "!= head"));
    assert_true(is_broken(hold_what_nobody_holds, *state, "holders > 0"));
    assert_true(is_broken(destroy_a_message_of_no_block, *state, "message_bytes"));
    assert_true(is_broken(a_state_larger_than_its_place, *state, "state_bytes"));
    assert_true(is_broken(a_slot_that_never_was, *state, "slot < registry->capacity"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(turns_are_held_and_ended_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_runner_is_of_one_thread, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_counted_agrees, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
