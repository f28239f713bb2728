/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/hall.h"

#include <errno.h>

#include "actors/kinds.h"
#include "actors/room_messages.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "directory/rooms.h"
#include "room/private.h"

/* Rooms by name, made when they may be and while there is room for them; and the fan-out, to full
 * mailboxes, to who is gone, and to whom the end must come in any case. */

enum { ACTORS = 64, ROOMS = 4, MAILBOX = 8 };

static const struct behaviour room_probe = {
    .name = "probe", .kind = KIND_ROOM, .receive = probe_receive, .finish = probe_finish};

struct stand {
    struct hall hall; /* first: the probes know it */
    struct limits limits;
    struct settings settings;
    struct counters counters;
    struct rooms_directory rooms;
    struct turn turn;
    struct room *room;
};

static int setup(void **state)
{
    struct stand *stand = calloc(1, sizeof(*stand));
    assert_non_null(stand);
    hall_open(&stand->hall, ACTORS, true);
    stand->limits = (struct limits){
        .limits_frame_bytes = 65536, .limits_mailbox_messages = MAILBOX, .limits_memory_bytes = 0};
    stand->rooms = (struct rooms_directory){.registry = stand->hall.registry,
                                            .scheduler = stand->hall.scheduler,
                                            .limits = &stand->limits,
                                            .behaviour = &room_probe,
                                            .rooms_max = ROOMS};
    char text[] = "match create=client join=any roster=none tick=50ms",
         error[ROOM_CLASS_ERROR_BYTES];
    char *items[] = {text};
    struct room_classes *classes;
    assert_int_equal(room_classes_read(items, 1, &classes, error), 0);
    atomic_store(&stand->settings.room_classes, classes);
    stand->turn = (struct turn){
        .limits = &stand->limits, .settings = &stand->settings, .counters = &stand->counters};
    *state = stand;
    return 0;
}

static int teardown(void **state)
{
    struct stand *stand = *state;
    turn_discard(&stand->turn);
    turn_fini(&stand->turn);
    room_fini(&stand->room);
    hall_run(&stand->hall);
    hall_close(&stand->hall);
    room_classes_destroy(atomic_load(&stand->settings.room_classes));
    free(stand);
    return 0;
}

#define hall_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

/* --- by name ---------------------------------------------------------------------------------- */

static struct room_join_message *join_of(const char *room, actor_handle user, bool creates)
{
    char name[24];
    snprintf(name, sizeof(name), "u%llx", (unsigned long long)user); /* one member of a name */
    struct room_join_message *join = room_join_create(bytes_of_text(room), bytes_of_text(name));
    join->call.asker = join->user = user;
    join->call.may_create = creates ? ROOM_MAY : ROOM_MAY_NOT;
    join->may_join = ROOM_MAY;
    join->epoch = 1;
    join->user_request = 7;
    return join;
}

/* The code; what was not taken is destroyed. */
static uint16_t send(struct stand *stand, struct room_call *call)
{
    uint16_t code = rooms_send(&stand->rooms, &stand->hall.runner, call);
    if (code != 0)
        message_destroy(&call->header);
    return code;
}

static void rooms_are_found_or_made(void **state)
{
    struct stand *stand = *state;
    assert_int_equal(send(stand, &join_of("a", 0, false)->call), USHER__V1__ERROR__CODE__NO_ROOM);
    assert_false(hall_knows(&stand->hall, "#a"));
    assert_int_equal(send(stand, &join_of("a", 0, true)->call), 0);
    assert_true(hall_knows(&stand->hall, "#a"));
    assert_int_equal(send(stand, &join_of("a", 0, false)->call), 0);
    assert_int_equal(registry_count_of(stand->hall.registry, KIND_ROOM), 1);
    hall_run(&stand->hall);
    struct probe *probe =
        &stand->hall.probes[actor_slot(registry_find(stand->hall.registry, "#a", 2))];
    assert_int_equal(probe_count(probe), 2);
}

static void names_as_long_as_they_may_be(void **state)
{
    struct stand *stand = *state;
    char name[USERNAME_BYTES_MAX + 1];
    memset(name, 'n', USERNAME_BYTES_MAX);
    name[USERNAME_BYTES_MAX] = '\0';
    assert_int_equal(send(stand, &join_of(name, 0, true)->call), 0);
    struct room_member_message *invite =
        room_member_create(MESSAGE_ROOM_INVITE, bytes_of_text(name), (struct bytes){0});
    rooms_resolve(&stand->rooms, invite);
    assert_int_not_equal(invite->room, 0);
    message_destroy(&invite->header);
    invite = room_member_create(MESSAGE_ROOM_INVITE, bytes_of_text("b"), (struct bytes){0});
    rooms_resolve(&stand->rooms, invite);
    assert_int_equal(invite->room, 0);
    message_destroy(&invite->header);
}

static void rooms_count_at_n_and_one_more(void **state)
{
    struct stand *stand = *state;
    static const char *const names[] = {"a", "b", "c", "d"};
    for (unsigned i = 0; i < ROOMS; i++)
        assert_int_equal(send(stand, &join_of(names[i], 0, true)->call), 0);
    assert_int_equal(send(stand, &join_of("e", 0, true)->call), RESULT_ROOMS_FULL);
    assert_int_equal(send(stand, &join_of("a", 0, true)->call), 0);
    assert_int_equal(send(stand, &join_of("e", 0, false)->call), USHER__V1__ERROR__CODE__NO_ROOM);
}

/* A member publishes to his room, and to no later one of that name. */
static void a_handle_is_one_life(void **state)
{
    struct stand *stand = *state;
    struct room_publish_message *publish =
        room_publish_create((struct bytes){0}, bytes_of_text("ann"), bytes_of_text("x"));
    publish->call.room = UINT64_C(9) << 32 | 3;
    publish->call.asker = hall_probe(&stand->hall, "ann")->self;
    assert_int_equal(send(stand, &publish->call), USHER__V1__ERROR__CODE__NOT_MEMBER);
}

static void a_full_mailbox_of_a_room_is_busy(void **state)
{
    struct stand *stand = *state;
    actor_handle ann = hall_probe(&stand->hall, "ann")->self;
    actor_handle bob = hall_probe(&stand->hall, "bob")->self;
    unsigned taken = 0;
    while (taken < 100 && send(stand, &join_of("a", ann, true)->call) == 0)
        taken++;
    assert_in_range(taken, MAILBOX, MAILBOX + 1);
    assert_int_equal(send(stand, &join_of("a", ann, true)->call), USHER__V1__ERROR__CODE__BUSY);
    assert_int_equal(send(stand, &join_of("a", bob, true)->call), 0); /* who has his own part */
}

static void a_refusal_is_an_answer(void **state)
{
    struct stand *stand = *state;
    turn_begin(&stand->turn, 5, "ann", 1, 1);
    rooms_refuse(&stand->turn, &join_of("a", 5, true)->call, RESULT_ROOMS_FULL);
    const struct effect *effect = &stand->turn.effects[0];
    const struct room_state_message *answer = (const struct room_state_message *)effect->message;
    assert_int_equal(stand->turn.count, 1);
    assert_int_equal(answer->header.kind, MESSAGE_ROOM_STATE);
    assert_int_equal(answer->code, RESULT_ROOMS_FULL);
    assert_int_equal(answer->request, 7);
    struct room_join_message *again = join_of("a", 5, false);
    again->again_only = true;
    rooms_refuse(&stand->turn, &again->call, USHER__V1__ERROR__CODE__NO_ROOM);
    answer = (const struct room_state_message *)stand->turn.effects[1].message;
    assert_int_equal(answer->code, RESULT_ROOMS_FULL);
}

/* --- the fan-out ------------------------------------------------------------------------------ */

static void receive(struct stand *stand, struct message *message)
{
    turn_begin(&stand->turn, UINT64_C(1) << 32 | 60, "#match", 1000, 1000);
    room_receive(&stand->room, message, &stand->turn);
    room_finish(&stand->room, &stand->turn);
    turn_discard(&stand->turn);
    turn_reset(&stand->turn);
}

static struct probe *enter(struct stand *stand, const char *name)
{
    struct probe *probe = hall_probe(&stand->hall, name);
    receive(stand, &join_of("match", probe->self, true)->call.header);
    return probe;
}

/* So many messages, each in a bundle of its own, and out with them. */
static struct rooms_posted say(struct stand *stand, struct probe *from, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct room_publish_message *publish =
            room_publish_create((struct bytes){0}, bytes_of_text("ann"), bytes_of_text("x"));
        publish->call.asker = from->self;
        publish->call.asker_epoch = 1;
        receive(stand, &publish->call.header);
        publish_seal(stand->room, &stand->turn);
    }
    stand->room->out_ready = stand->room->out_count;
    struct rooms_posted posted = rooms_fan_out(&stand->rooms, &stand->hall.runner, stand->room);
    room_out_done(stand->room);
    return posted;
}

static unsigned waiting(struct stand *stand, struct probe *probe)
{
    hall_run(&stand->hall);
    unsigned count = probe_count(probe);
    probe_empty(probe);
    probe->count = 0;
    return count;
}

static void all_members_get_all_bundles(void **state)
{
    struct stand *stand = *state;
    struct probe *ann = enter(stand, "ann"), *bob = enter(stand, "bob");
    struct rooms_posted posted = say(stand, ann, 3);
    assert_int_equal(posted.count, 6);
    assert_int_equal(posted.missed, 0);
    assert_int_equal(waiting(stand, ann), 3);
    assert_int_equal(waiting(stand, bob), 3);
}

static void a_full_mailbox_misses_and_is_owed(void **state)
{
    struct stand *stand = *state;
    struct probe *ann = enter(stand, "ann"), *bob = enter(stand, "bob");
    assert_int_equal(say(stand, ann, MAILBOX).missed, 0);
    waiting(stand, ann);
    /* bob's is full now; and ann's is not harmed by it. */
    for (unsigned i = 0; i < MAILBOX; i++)
        scheduler_post_from(stand->hall.scheduler, &stand->hall.runner, 0, bob->self,
                            message_create(MESSAGE_TICK, sizeof(struct message)), MAILBOX);
    struct rooms_posted posted = say(stand, ann, 1);
    assert_int_equal(posted.count, 1);
    assert_int_equal(posted.missed, 1);
    assert_int_equal(stand->room->owed, 1);
    assert_int_equal(waiting(stand, ann), 1);
}

static void the_end_comes_to_a_full_mailbox_too(void **state)
{
    struct stand *stand = *state;
    struct probe *ann = enter(stand, "ann"), *bob = enter(stand, "bob");
    struct room_away_message *away = message_create(MESSAGE_ROOM_AWAY, sizeof(*away));
    away->user = bob->self;
    away->epoch = 1;
    receive(stand, &away->header);
    struct probe *cid = enter(stand, "cid");
    for (unsigned i = 0; i < MAILBOX; i++)
        scheduler_post_from(stand->hall.scheduler, &stand->hall.runner, 0, cid->self,
                            message_create(MESSAGE_TICK, sizeof(struct message)), MAILBOX);
    struct room_publish_message *publish =
        room_publish_create((struct bytes){0}, bytes_of_text("ann"), bytes_of_text("x"));
    publish->call.asker = ann->self;
    publish->call.asker_epoch = 1;
    receive(stand, &publish->call.header);
    struct room_command_message *close =
        room_command_create(ROOM_CLOSE, bytes_of_text("match"), (struct bytes){0});
    receive(stand, &close->call.header);
    assert_int_equal(stand->room->out_count, 2);
    rooms_fan_out(&stand->rooms, &stand->hall.runner, stand->room);
    room_out_done(stand->room);
    assert_true(room_is_over(stand->room));
    assert_int_equal(waiting(stand, ann), 2);
    hall_run(&stand->hall);
    assert_int_equal(((struct room_bundle_message *)bob->last)->header.kind, MESSAGE_ROOM_BUNDLE);
    assert_int_equal(waiting(stand, bob), 1);
    const struct room_bundle *last = room_bundle_of((struct room_bundle_message *)cid->last);
    assert_int_equal(last->kind, ROOM_CLOSED);
    assert_int_equal(waiting(stand, cid), MAILBOX + 1); /* that, and nothing of the rest */
}

static void who_is_gone_is_marked(void **state)
{
    struct stand *stand = *state;
    struct probe *ann = enter(stand, "ann");
    struct room_join_message *join = join_of("match", UINT64_C(77) << 32 | 40, true);
    receive(stand, &join->call.header);
    say(stand, ann, 1);
    assert_int_equal(stand->room->gone, 1);
    say(stand, ann, 1);
    assert_int_equal(stand->room->gone, 1);
    receive(stand, message_create(MESSAGE_ROOM_MORE, sizeof(struct message)));
    assert_int_equal(stand->room->gone, 0);
    assert_int_equal(stand->room->count, 1);
}

static void without_memory_nothing_goes_out_and_nobody_comes_in(void **state)
{
    struct stand *stand = *state;
    struct probe *ann = enter(stand, "ann");
    stand->limits.limits_memory_bytes = 64 * 1024 * 1024;
    memory_open(&stand->limits, NULL, stand->hall.metrics);
    memory_account(MEMORY_OF_OWN, 60 * 1024 * 1024);
    assert_int_equal(memory_level(), MEMORY_FULL);
    assert_int_equal(send(stand, &join_of("a", 0, true)->call), USHER__V1__ERROR__CODE__BUSY);
    struct room_command_message *end =
        room_command_create(ROOM_CLOSE, bytes_of_text("nowhere"), (struct bytes){0});
    assert_int_equal(send(stand, &end->call), USHER__V1__ERROR__CODE__NO_ROOM); /* and no BUSY */
    struct room_command_message *close =
        room_command_create(ROOM_CLOSE, bytes_of_text("match"), (struct bytes){0});
    stand->room->out_ready = stand->room->out_count;
    receive(stand, &close->call.header); /* but that it is over */
    rooms_fan_out(&stand->rooms, &stand->hall.runner, stand->room);
    room_out_done(stand->room);
    assert_int_equal(waiting(stand, ann), 1);
    memory_account(MEMORY_OF_OWN, -60 * 1024 * 1024);
    memory_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        hall_test(rooms_are_found_or_made),
        hall_test(names_as_long_as_they_may_be),
        hall_test(rooms_count_at_n_and_one_more),
        hall_test(a_handle_is_one_life),
        hall_test(a_full_mailbox_of_a_room_is_busy),
        hall_test(a_refusal_is_an_answer),
        hall_test(all_members_get_all_bundles),
        hall_test(a_full_mailbox_misses_and_is_owed),
        hall_test(the_end_comes_to_a_full_mailbox_too),
        hall_test(who_is_gone_is_marked),
        hall_test(without_memory_nothing_goes_out_and_nobody_comes_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
