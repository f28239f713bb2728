/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/hall.h"

#include <errno.h>
#include <sched.h>

#include "actors/user_call.h"
#include "broken.h"
#include "client.pb-c.h"
#include "directory/services.h"

/* The directory of services: who gets a call, and what happens when an instance goes. */

enum { USERS = 300, SERVICES = 8, ACTORS = 4096, PIECE = 20 };

struct stand {
    struct hall hall; /* first: the probes know it */
    struct services *services;
};

/* A probe that leaves hands on what it received, a piece in each turn, as an instance does. */
static struct message *next_piece(struct probe *probe)
{
    struct message *first = probe->first;
    struct message *last = first;
    for (unsigned i = 1; i < PIECE && last != NULL && last->next != NULL; i++)
        last = last->next;
    probe->first = last != NULL ? last->next : NULL;
    if (last != NULL)
        last->next = NULL;
    if (probe->first == NULL)
        probe->last = NULL;
    return first;
}

static bool receive_order(struct probe *probe, struct message *message)
{
    if (message->kind != MESSAGE_LEAVE)
        return false;
    probe->leaving = true;
    message_destroy(message);
    return true;
}

static enum verdict go_on_leaving(struct probe *probe, struct runner *runner)
{
    if (!probe->leaving)
        return VERDICT_GO_ON;
    struct services *services = ((struct stand *)probe->hall)->services;
    if (services_begin_leave(services, probe->self))
        services_hand_on(services, runner, probe->self, next_piece(probe));
    if (probe->first != NULL || !services_leave(services, probe->self)) {
        struct message *again = message_create(MESSAGE_LEAVE, sizeof(*again));
        if (again == NULL ||
            scheduler_post(probe->hall->scheduler, runner, probe->self, again) != 0)
            abort();
        return VERDICT_GO_ON;
    }
    probe->leaving = false;
    atomic_store(&probe->left, true);
    return VERDICT_RETIRE;
}

static struct stand *make(bool own_clock)
{
    struct stand *stand = calloc(1, sizeof(*stand));
    assert_non_null(stand);
    hall_open(&stand->hall, ACTORS, own_clock);
    stand->hall.receive = receive_order;
    stand->hall.finish = go_on_leaving;
    const struct services_options options = {.registry = stand->hall.registry,
                                             .scheduler = stand->hall.scheduler,
                                             .env = stand->hall.env,
                                             .metrics = stand->hall.metrics,
                                             .services_max = SERVICES,
                                             .users_max = ACTORS};
    assert_int_equal(services_create(&stand->services, &options), 0);
    return stand;
}

static int set_up(void **state)
{
    *state = make(false);
    return 0;
}

static int set_up_own_clock(void **state)
{
    *state = make(true);
    return 0;
}

static int tear_down(void **state)
{
    struct stand *stand = *state;
    scheduler_stop(stand->hall.scheduler);
    services_destroy(stand->services);
    hall_close(&stand->hall);
    free(stand);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static struct user_call_message *new_call(const char *user, const char *service, uint64_t number)
{
    struct user_call_message *call = user_call_create(bytes_of_text(user), bytes_of_text(service),
                                                      bytes_of_text("m"), (struct bytes){NULL, 0});
    assert_non_null(call);
    call->caller = 0;
    call->epoch = 1;
    call->request = call->call = number;
    call->deadline_ms = call->mail_seq = 0;
    call->redelivered = false;
    return call;
}

/* Of somebody who is there: the pins of those who are gone may be dropped. */
static struct user_call_message *call_of_anna(struct stand *stand, uint64_t number)
{
    struct user_call_message *call = new_call("anna", "chat", number);
    call->caller = registry_claim(stand->hall.registry, "anna", 4, &probe_behaviour);
    return call;
}

/* Who gets a call of that user; 0 and *code: nobody. */
static actor_handle route(struct stand *stand, const char *service, unsigned user, uint16_t *code)
{
    char name[16];
    snprintf(name, sizeof(name), "user%u", user);
    struct user_call_message *call = new_call(name, service, 1);
    /* Somebody who is there: the pins of those who are gone may be dropped. */
    call->caller = registry_claim(stand->hall.registry, "caller", 6, &probe_behaviour);
    actor_handle to = services_route(stand->services, &stand->hall.runner, call, code);
    if (to == 0)
        message_destroy(&call->header); /* still ours */
    return to;
}

static actor_handle choose(struct stand *stand, unsigned user)
{
    uint16_t code;
    actor_handle to = route(stand, "chat", user, &code);
    assert_int_not_equal(to, 0);
    return to;
}

static struct probe *join(struct stand *stand, const char *service, const char *name)
{
    struct probe *probe = hall_probe(&stand->hall, name);
    assert_int_equal(services_join(stand->services, service, probe->self, false), 0);
    return probe;
}

/* As in a turn of the probe's own. */
static void set_turn(struct stand *stand, struct probe *probe, bool runs)
{
    atomic_store(&registry_actor(stand->hall.registry, actor_slot(probe->self))->running, runs);
}

static bool begin_leave(struct stand *stand, struct probe *probe)
{
    set_turn(stand, probe, true);
    bool may = services_begin_leave(stand->services, probe->self);
    set_turn(stand, probe, false);
    return may;
}

static bool has_left(struct stand *stand, struct probe *probe)
{
    set_turn(stand, probe, true);
    bool left = services_leave(stand->services, probe->self);
    set_turn(stand, probe, false);
    return left;
}

static void leave_with(struct stand *stand, struct probe *probe, struct message *mail)
{
    assert_true(begin_leave(stand, probe));
    services_hand_on(stand->services, &stand->hall.runner, probe->self, mail);
    assert_true(has_left(stand, probe));
}

/* Takes one out that has no mail. */
static void leave(struct stand *stand, struct probe *probe)
{
    hall_run(&stand->hall);
    probe_empty(probe);
    leave_with(stand, probe, NULL);
}

/* --- routing ---------------------------------------------------------------------------------- */

static void every_user_has_his_instance(void **state)
{
    struct stand *stand = *state;
    const struct probe *probes[3] = {join(stand, "chat", "!a"), join(stand, "chat", "!b"),
                                     join(stand, "chat", "!c")};
    unsigned counts[3] = {0};
    join(stand, "other", "!d");
    for (unsigned user = 0; user < USERS; user++) {
        actor_handle to = choose(stand, user);
        assert_int_equal(choose(stand, user), to);
        unsigned which = 0;
        while (which < 3 && probes[which]->self != to)
            which++;
        assert_true(which < 3);
        counts[which]++;
    }
    for (unsigned i = 0; i < 3; i++)
        assert_in_range(counts[i], USERS / 6, USERS / 2);
    hall_run(&stand->hall);
    assert_int_equal(probe_count(probes[0]) + probe_count(probes[1]) + probe_count(probes[2]),
                     2 * USERS);
}

static void a_pin_holds_while_its_instance_does(void **state)
{
    struct stand *stand = *state;
    struct probe *a = join(stand, "chat", "!a");
    for (unsigned user = 0; user < USERS; user++)
        assert_int_equal(choose(stand, user), a->self);
    /* More come; the pins stay, however many others are made. */
    struct probe *b = join(stand, "chat", "!b");
    for (unsigned user = USERS; user < 5 * USERS; user++)
        choose(stand, user);
    for (unsigned user = 0; user < USERS; user++)
        assert_int_equal(choose(stand, user), a->self);
    leave(stand, a);
    for (unsigned user = 0; user < 5 * USERS; user++)
        assert_int_equal(choose(stand, user), b->self);
}

/* A pin counts for its service, also when that takes the place of another. */
static void pins_of_a_service_end_with_it(void **state)
{
    struct stand *stand = *state;
    uint16_t code;
    struct probe *probes[SERVICES];
    char name[16];
    for (unsigned i = 0; i < SERVICES; i++) {
        snprintf(name, sizeof(name), "s%u", i);
        char instance[16];
        snprintf(instance, sizeof(instance), "!s%u", i);
        probes[i] = join(stand, name, instance);
    }
    assert_int_equal(route(stand, "s0", 1, &code), probes[0]->self);
    assert_int_equal(route(stand, "s1", 1, &code), probes[1]->self);
    leave(stand, probes[0]);
    struct probe *late = join(stand, "late", "!late");
    assert_int_equal(services_join(stand->services, "late", probes[0]->self, false), 0);
    unsigned to_late = 0;
    for (unsigned user = 1; user < 40; user++)
        to_late += route(stand, "late", user, &code) == late->self;
    assert_in_range(to_late, 5, 35);
}

static void a_loss_moves_only_the_users_of_the_lost(void **state)
{
    struct stand *stand = *state;
    struct probe *lost = join(stand, "chat", "!a");
    struct probe *b = join(stand, "chat", "!b");
    struct probe *c = join(stand, "chat", "!c");
    actor_handle before[USERS];
    unsigned to_b = 0;
    unsigned to_c = 0;
    for (unsigned user = 0; user < USERS; user++)
        before[user] = choose(stand, user);
    leave(stand, lost);
    for (unsigned user = 0; user < USERS; user++) {
        actor_handle now = choose(stand, user);
        if (before[user] != lost->self)
            assert_int_equal(now, before[user]);
        to_b += before[user] == lost->self && now == b->self;
        to_c += before[user] == lost->self && now == c->self;
    }
    assert_true(to_b >= 10 && to_c >= 10); /* the lost one's users are shared */
    struct probe *d = join(stand, "chat", "!d");
    unsigned to_d = 0;
    for (unsigned user = 0; user < 2 * USERS; user++) {
        bool newcomer = choose(stand, user) == d->self;
        assert_true(user >= USERS || !newcomer);
        to_d += newcomer;
    }
    assert_true(to_d >= 10); /* of those who come after it */
}

static void one_that_drains_gets_no_new_users(void **state)
{
    struct stand *stand = *state;
    struct probe *a = join(stand, "chat", "!a");
    assert_int_equal(choose(stand, 0), a->self);
    struct probe *b = join(stand, "chat", "!b");
    services_drain(stand->services, a->self, true);
    for (unsigned user = 1; user < USERS; user++)
        assert_int_equal(choose(stand, user), b->self);
    assert_int_equal(choose(stand, 0), a->self); /* it keeps those that it has */
    /* Better a draining one than none. */
    services_drain(stand->services, b->self, true);
    unsigned to_a = 0;
    for (unsigned user = USERS; user < 2 * USERS; user++)
        to_a += choose(stand, user) == a->self;
    assert_in_range(to_a, USERS / 4, USERS * 3 / 4);
    /* Joining again ends it. */
    assert_int_equal(services_join(stand->services, "chat", a->self, false), 0);
    for (unsigned user = 2 * USERS; user < 3 * USERS; user++)
        assert_int_equal(choose(stand, user), a->self);
}

static void without_an_instance_the_code_says_why(void **state)
{
    struct stand *stand = *state;
    uint16_t code = 0;
    assert_int_equal(route(stand, "chat", 1, &code), 0);
    assert_int_equal(code, USHER__V1__ERROR__CODE__NO_SERVICE);
    struct probe *a = join(stand, "chat", "!a");
    assert_int_equal(route(stand, "cha", 1, &code), 0);
    assert_int_equal(route(stand, "chats", 1, &code), 0);
    leave(stand, a);
    assert_int_equal(route(stand, "chat", 1, &code), 0);
    assert_int_equal(code, USHER__V1__ERROR__CODE__NO_SERVICE);
    struct user_call_message *call = new_call("anna", "chat", 1);
    call->redelivered = true; /* somebody may have done it */
    assert_int_equal(services_route(stand->services, &stand->hall.runner, call, &code), 0);
    assert_int_equal(code, USHER__V1__ERROR__CODE__SERVICE_LOST);
    message_destroy(&call->header);
}

/* --- leaving ---------------------------------------------------------------------------------- */

static struct message *mail_of(unsigned count, const char *service, actor_handle caller)
{
    struct message *first = NULL;
    struct message **last = &first;
    for (unsigned i = 1; i <= count; i++) {
        struct user_call_message *call = new_call("anna", service, i);
        call->caller = caller;
        call->header.next = NULL;
        *last = &call->header;
        last = &call->header.next;
    }
    return first;
}

static void the_mail_comes_before_newer_calls(void **state)
{
    struct stand *stand = *state;
    uint16_t code;
    struct probe *a = join(stand, "chat", "!a");
    struct probe *b = join(stand, "chat", "!b");
    leave_with(stand, a, mail_of(10, "chat", 0));
    struct user_call_message *newer = new_call("anna", "chat", 11);
    assert_int_equal(services_route(stand->services, &stand->hall.runner, newer, &code), b->self);
    hall_run(&stand->hall);
    assert_int_equal(probe_count(b), 11);
    for (unsigned i = 1; i <= 11; i++) {
        struct user_call_message *call = (struct user_call_message *)probe_take(b);
        assert_int_equal(call->request, i);
        message_destroy(&call->header);
    }
    assert_int_equal(probe_count(a), 0);
}

/* Whoever's mail has moved goes on where it went, also when others join before his next call:
 * that call must not overtake the mail. */
static void users_move_with_their_mail(void **state)
{
    struct stand *stand = *state;
    uint16_t code;
    struct probe *a = join(stand, "chat", "!a");
    struct user_call_message *first = new_call("anna", "chat", 0);
    assert_int_equal(services_route(stand->services, &stand->hall.runner, first, &code), a->self);
    struct probe *b = join(stand, "chat", "!b");
    hall_run(&stand->hall);
    probe_empty(a);
    leave_with(stand, a, mail_of(10, "chat", 0));
    for (unsigned i = 0; i < 50; i++) {
        char name[16];
        snprintf(name, sizeof(name), "!late%u", i);
        join(stand, "chat", name);
        struct user_call_message *newer = new_call("anna", "chat", 11 + i);
        assert_int_equal(services_route(stand->services, &stand->hall.runner, newer, &code),
                         b->self);
    }
}

/* Who logs out and in again stays where his calls wait, until the last one's time is over. */
static void pins_outlast_their_user_for_a_while(void **state)
{
    struct stand *stand = *state;
    uint16_t code;
    struct probe *a = join(stand, "chat", "!a");
    struct user_call_message *first = new_call("anna", "chat", 1);
    first->caller = UINT64_C(99) << 32 | 3; /* nobody by now */
    first->deadline_ms = atomic_load(&stand->hall.now_ms) + 1000;
    assert_int_equal(services_route(stand->services, &stand->hall.runner, first, &code), a->self);
    services_drain(stand->services, a->self, true);
    struct probe *b = join(stand, "chat", "!b");
    for (unsigned user = 0; user < USERS; user++) /* the table grows */
        assert_int_equal(choose(stand, user), b->self);
    struct user_call_message *next = new_call("anna", "chat", 2);
    next->caller = first->caller;
    assert_int_equal(services_route(stand->services, &stand->hall.runner, next, &code), a->self);
    atomic_fetch_add(&stand->hall.now_ms, 1000);
    for (unsigned user = USERS; user < 5 * USERS; user++)
        choose(stand, user);
    next = new_call("anna", "chat", 3);
    assert_int_equal(services_route(stand->services, &stand->hall.runner, next, &code), b->self);
}

static actor_handle route_ask(struct stand *stand, actor_handle caller)
{
    uint16_t code;
    const struct room_ask ask = {.room = bytes_of_text("match"),
                                 .owner = bytes_of_text("chat"),
                                 .user = bytes_of_text("ann"),
                                 .caller = caller,
                                 .call = 1,
                                 .deadline_ms = 1};
    return services_route(stand->services, &stand->hall.runner, room_ask_create(&ask), &code);
}

static actor_handle route_news(struct stand *stand, actor_handle room)
{
    uint16_t code;
    const struct room_news news = {
        .room = bytes_of_text("match"), .owner = bytes_of_text("chat"), .actor = room};
    return services_route(stand->services, &stand->hall.runner, room_news_create(&news), &code);
}

/* The mail of a room has one pin, that of the room: who asks for it and goes does not take the pin
 * along. */
static void a_room_stays_where_it_is_as_long_as_it_lives(void **state)
{
    struct stand *stand = *state;
    struct probe *a = join(stand, "chat", "!a");
    actor_handle gone = UINT64_C(99) << 32 | 3;
    const struct probe *room = hall_probe(&stand->hall, "#match");
    assert_int_equal(route_ask(stand, gone), a->self);
    assert_int_equal(route_news(stand, room->self), a->self);
    assert_int_equal(route_ask(stand, gone), a->self);
    services_drain(stand->services, a->self, true);
    struct probe *b = join(stand, "chat", "!b");
    for (unsigned user = 0; user < 5 * USERS; user++) /* the table of pins grows */
        assert_int_equal(choose(stand, user), b->self);
    assert_int_equal(route_news(stand, room->self), a->self);
}

/* So a later room of that name does not overtake what the earlier one has told. */
static void a_room_s_pin_outlasts_it_for_a_while(void **state)
{
    struct stand *stand = *state;
    uint16_t code;
    struct probe *a = join(stand, "chat", "!a");
    const struct room_news closed = {.room = bytes_of_text("match"),
                                     .owner = bytes_of_text("chat"),
                                     .actor = UINT64_C(99) << 32 | 3, /* nobody by now */
                                     .pin_ms = atomic_load(&stand->hall.now_ms) + 1000};
    assert_int_equal(
        services_route(stand->services, &stand->hall.runner, room_news_create(&closed), &code),
        a->self);
    services_drain(stand->services, a->self, true);
    struct probe *b = join(stand, "chat", "!b");
    for (unsigned user = 0; user < USERS; user++) /* the table of pins grows */
        assert_int_equal(choose(stand, user), b->self);
    assert_int_equal(route_news(stand, UINT64_C(98) << 32 | 3), a->self);
}

static void news_that_find_nobody_are_counted(void **state)
{
    struct stand *stand = *state;
    struct probe *a = join(stand, "chat", "!a");
    const struct room_news news = {.room = bytes_of_text("match"), .owner = bytes_of_text("chat")};
    leave_with(stand, a, &room_news_create(&news)->header);
    assert_int_equal(hall_metric(&stand->hall, METRIC_room_news_lost), 1);
    assert_int_equal(hall_metric(&stand->hall, METRIC_calls_lost), 0);
}

static void one_with_calls_in_its_mailbox_does_not_leave(void **state)
{
    struct stand *stand = *state;
    uint16_t code;
    struct probe *a = join(stand, "chat", "!a");
    assert_int_equal(route(stand, "chat", 1, &code), a->self);
    assert_true(begin_leave(stand, a));
    assert_false(has_left(stand, a));
    assert_int_equal(route(stand, "chat", 1, &code), a->self); /* nothing was done */
    hall_run(&stand->hall);
    assert_int_equal(probe_count(a), 2);
    assert_true(has_left(stand, a));
    assert_int_equal(route(stand, "chat", 1, &code), 0);
}

static void expect_calls(struct stand *stand, struct probe *probe, unsigned first, unsigned last)
{
    hall_run(&stand->hall);
    for (unsigned i = first; i <= last; i++) {
        struct user_call_message *call = (struct user_call_message *)probe_take(probe);
        assert_non_null(call);
        assert_int_equal(call->request, i);
        message_destroy(&call->header);
    }
    assert_null(probe_take(probe));
}

/* The mail of one who leaves moves in pieces. Until all of it has, newer calls go behind it, and
 * all of a user's mail goes the same way, whoever joins and drains meanwhile. */
static void a_user_goes_where_the_first_of_his_mail_went(void **state)
{
    struct stand *stand = *state;
    struct services *services = stand->services;
    uint16_t code;
    struct probe *a = join(stand, "chat", "!a");
    struct user_call_message *call = call_of_anna(stand, 1);
    assert_int_equal(services_route(services, &stand->hall.runner, call, &code), a->self);
    struct probe *b = join(stand, "chat", "!b");
    assert_true(begin_leave(stand, a));
    hall_run(&stand->hall);
    services_hand_on(services, &stand->hall.runner, a->self, probe_take(a));
    expect_calls(stand, b, 1, 1);
    services_drain(services, b->self, true);
    for (unsigned i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof(name), "!late%u", i);
        join(stand, "chat", name);
        call = call_of_anna(stand, 2 + i);
        assert_int_equal(services_route(services, &stand->hall.runner, call, &code), a->self);
        assert_false(has_left(stand, a)); /* it is in the mailbox */
        hall_run(&stand->hall);
        services_hand_on(services, &stand->hall.runner, a->self, probe_take(a));
    }
    expect_calls(stand, b, 2, 21);
    assert_true(has_left(stand, a));
    for (unsigned user = 0; user < 5 * USERS; user++)
        choose(stand, user); /* the table of pins grows */
    call = call_of_anna(stand, 22);
    assert_int_equal(services_route(services, &stand->hall.runner, call, &code), b->self);
}

/* So an heir does not go before all has come to it. New users go to neither. */
static void one_instance_of_a_service_leaves_at_a_time(void **state)
{
    struct stand *stand = *state;
    struct services *services = stand->services;
    uint16_t code;
    struct probe *a = join(stand, "chat", "!a");
    struct user_call_message *call = call_of_anna(stand, 1);
    assert_int_equal(services_route(services, &stand->hall.runner, call, &code), a->self);
    struct probe *b = join(stand, "chat", "!b");
    struct probe *other = join(stand, "shop", "!other");
    assert_true(begin_leave(stand, a));
    hall_run(&stand->hall);
    services_hand_on(services, &stand->hall.runner, a->self, probe_take(a));
    assert_false(begin_leave(stand, b));
    assert_true(begin_leave(stand, other));
    struct probe *c = join(stand, "chat", "!c");
    for (unsigned user = 0; user < USERS; user++)
        assert_int_equal(choose(stand, user), c->self);
    assert_true(begin_leave(stand, a)); /* it goes on */
    services_hand_on(services, &stand->hall.runner, a->self, &call_of_anna(stand, 2)->header);
    assert_true(has_left(stand, a));
    assert_true(begin_leave(stand, b));
    hall_run(&stand->hall);
    assert_int_equal(probe_count(b), 2); /* all of anna's */
    services_hand_on(services, &stand->hall.runner, b->self, probe_take(b));
    services_hand_on(services, &stand->hall.runner, b->self, probe_take(b));
    assert_true(has_left(stand, b));
    call = call_of_anna(stand, 3);
    assert_int_equal(services_route(services, &stand->hall.runner, call, &code), c->self);
}

static void calls_that_find_nobody_are_answered_lost(void **state)
{
    struct stand *stand = *state;
    struct probe *a = join(stand, "chat", "!a");
    struct probe *caller = hall_probe(&stand->hall, "!caller");
    struct message *mail = mail_of(3, "chat", caller->self);
    ((struct user_call_message *)mail->next)->call = 0; /* one way: nobody waits */
    leave_with(stand, a, mail);
    hall_run(&stand->hall);
    assert_int_equal(probe_count(caller), 2);
    for (unsigned i = 1; i <= 3; i += 2) {
        struct call_result_message *result = (struct call_result_message *)probe_take(caller);
        assert_int_equal(result->header.kind, MESSAGE_CALL_RESULT);
        assert_int_equal(result->code, USHER__V1__ERROR__CODE__SERVICE_LOST);
        assert_int_equal(result->request, i);
        assert_int_equal(result->call, i);
        assert_int_equal(result->epoch, 1);
        message_destroy(&result->header);
    }
    assert_int_equal(hall_metric(&stand->hall, METRIC_calls_lost), 3);
}

/* Threads that call as fast as they can, each for users of its own, while the instance leaves
 * with its mail: the other one gets every user's calls in their order, none twice, none lost. */
enum { HAMMERS = 2, CALLS = 4000, USERS_EACH = 3 };

struct hammer {
    struct stand *stand;
    unsigned index;
    actor_handle caller;
    _Atomic unsigned done;
};

static void *hammer(void *argument)
{
    struct hammer *hammer = argument;
    struct stand *stand = hammer->stand;
    for (unsigned i = 0; i < CALLS; i++) {
        unsigned user = i % USERS_EACH;
        char name[16];
        uint16_t code;
        snprintf(name, sizeof(name), "u%u", hammer->index * USERS_EACH + user);
        struct user_call_message *call = new_call(name, "chat", i / USERS_EACH + 1);
        call->caller = hammer->caller;
        if (services_route(stand->services, NULL, call, &code) == 0)
            abort();
        atomic_store(&hammer->done, i + 1);
    }
    return NULL;
}

static void wait_for_hammers(struct hammer *hammers, unsigned calls)
{
    for (unsigned i = 0; i < HAMMERS; i++)
        while (atomic_load(&hammers[i].done) < calls)
            sched_yield();
}

/* Everybody begins at the one that leaves; two more join before it does, and one just after. */
static void order_survives_a_leave_under_fire(void **state)
{
    struct stand *stand = *state;
    struct hammer hammers[HAMMERS];
    pthread_t threads[HAMMERS];
    hall_start_workers(&stand->hall);
    struct probe *caller = hall_probe(&stand->hall, "!caller");
    struct probe *leaver = join(stand, "chat", "!leaves");
    for (unsigned i = 0; i < HAMMERS; i++) {
        hammers[i] = (struct hammer){stand, i, caller->self, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &hammers[i]), 0);
    }
    wait_for_hammers(hammers, CALLS / 8);
    struct probe *others[3] = {join(stand, "chat", "!b"), join(stand, "chat", "!c"),
                               hall_probe(&stand->hall, "!d")}; /* not in the leaver's slot */
    wait_for_hammers(hammers, CALLS / 4);
    struct message *order = message_create(MESSAGE_LEAVE, sizeof(*order));
    assert_int_equal(scheduler_post(stand->hall.scheduler, NULL, leaver->self, order), 0);
    assert_int_equal(services_join(stand->services, "chat", others[2]->self, false), 0);
    for (unsigned i = 0; i < HAMMERS; i++)
        pthread_join(threads[i], NULL);
    WAIT_FOR(atomic_load(&leaver->left));
    WAIT_FOR(probe_count(others[0]) + probe_count(others[1]) + probe_count(others[2]) ==
             HAMMERS * CALLS);
    for (unsigned i = 0; i < 3; i++) {
        /* Each user is at one of them, so each has the calls of some, from the first to the last.
         */
        uint64_t next[HAMMERS * USERS_EACH] = {0};
        struct message *message;
        while ((message = probe_take(others[i])) != NULL) {
            struct user_call_message *call = (struct user_call_message *)message;
            unsigned user = (unsigned)user_call_user(call).data[1] - '0';
            assert_int_equal(call->request, ++next[user]);
            message_destroy(message);
        }
    }
    assert_int_equal(hall_metric(&stand->hall, METRIC_posts_bounced), 0);
}

/* --- limits ----------------------------------------------------------------------------------- */

static void limit_of_services(void **state)
{
    struct stand *stand = *state;
    char name[16];
    struct probe *probes[SERVICES];
    for (unsigned i = 0; i < SERVICES; i++) {
        snprintf(name, sizeof(name), "s%u", i);
        char instance[16];
        snprintf(instance, sizeof(instance), "!s%u", i);
        probes[i] = join(stand, name, instance);
    }
    struct probe *late = hall_probe(&stand->hall, "!late");
    assert_int_equal(services_join(stand->services, "late", late->self, true), -ENOSPC);
    assert_int_equal(services_join(stand->services, "s0", late->self, false), 0);
    /* A failed join did nothing. */
    services_tell_presence(stand->services, &stand->hall.runner, 1);
    hall_run(&stand->hall);
    assert_int_equal(probe_count(late), 0);
    /* One that nobody serves any more makes room. */
    leave(stand, probes[3]);
    uint16_t code;
    assert_int_equal(services_join(stand->services, "late", late->self, false), 0);
    assert_int_equal(route(stand, "late", 1, &code), late->self);
    assert_int_equal(route(stand, "s3", 1, &code), 0);
    assert_int_equal(services_join(stand->services, "s3", late->self, false), -ENOSPC);
}

static void limit_of_instances(void **state)
{
    struct stand *stand = *state;
    /* The directory takes whatever handle it is given. */
    for (uint64_t i = 1; i <= 256; i++)
        assert_int_equal(services_join(stand->services, "chat", i << 32, false), 0);
    assert_int_equal(services_join(stand->services, "chat", UINT64_C(257) << 32, false), -ENOSPC);
    assert_int_equal(services_join(stand->services, "chat", UINT64_C(7) << 32, false), 0);
}

static void limit_of_followers(void **state)
{
    struct stand *stand = *state;
    uint64_t i = 1;
    int error = 0;
    while (error == 0 && i < 100000)
        error = services_join(stand->services, "", (1000 + i++) << 32, true);
    assert_int_equal(error, -ENOSPC);
    assert_true(i > SERVICES);
    uint16_t code;
    struct probe *late = hall_probe(&stand->hall, "!late");
    assert_int_equal(services_join(stand->services, "chat", late->self, true), -ENOSPC);
    assert_int_equal(route(stand, "chat", 1, &code), 0);
}

/* --- followers -------------------------------------------------------------------------------- */

static void followers_hear_of_the_stream(void **state)
{
    struct stand *stand = *state;
    struct probe *a = hall_probe(&stand->hall, "!a");
    struct probe *b = hall_probe(&stand->hall, "!b");
    struct probe *deaf = join(stand, "chat", "!c");
    assert_int_equal(services_join(stand->services, "chat", a->self, true), 0);
    assert_int_equal(services_join(stand->services, "", b->self, true), 0);
    assert_int_equal(services_join(stand->services, "", b->self, true), 0); /* once more */
    services_tell_presence(stand->services, &stand->hall.runner, 42);
    hall_run(&stand->hall);
    assert_int_equal(probe_count(a), 1);
    assert_int_equal(probe_count(b), 1);
    assert_int_equal(probe_count(deaf), 0);
    struct presence_message *message = (struct presence_message *)probe_take(a);
    assert_int_equal(message->header.kind, MESSAGE_PRESENCE);
    assert_int_equal(message->last, 42);
    message_destroy(&message->header);
    leave(stand, a);
    services_tell_presence(stand->services, &stand->hall.runner, 43);
    hall_run(&stand->hall);
    assert_int_equal(probe_count(a), 1);
    assert_int_equal(probe_count(b), 2);
}

struct act {
    struct stand *stand;
    struct probe *probe;
};

static void leave_outside_a_turn(void *argument)
{
    const struct act *act = argument;
    services_leave(act->stand->services, act->probe->self);
}

static void hand_on_what_is_no_call(void *argument)
{
    const struct act *act = argument;
    struct message *tick = message_create(MESSAGE_TICK, sizeof(*tick));
    services_hand_on(act->stand->services, &act->stand->hall.runner, act->probe->self, tick);
}

static void promises_of_an_instance_are_checked(void **state)
{
    struct act act = {*state, join(*state, "chat", "!a")};
    assert_true(is_broken(leave_outside_a_turn, &act, "in_its_turn"));
    assert_true(is_broken(hand_on_what_is_no_call, &act, "MESSAGE_USER_CALL"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_user_has_his_instance),
        TEST(a_pin_holds_while_its_instance_does),
        TEST(pins_of_a_service_end_with_it),
        TEST(a_loss_moves_only_the_users_of_the_lost),
        TEST(one_that_drains_gets_no_new_users),
        TEST(without_an_instance_the_code_says_why),
        TEST(the_mail_comes_before_newer_calls),
        TEST(users_move_with_their_mail),
        cmocka_unit_test_setup_teardown(pins_outlast_their_user_for_a_while, set_up_own_clock,
                                        tear_down),
        TEST(a_room_stays_where_it_is_as_long_as_it_lives),
        cmocka_unit_test_setup_teardown(a_room_s_pin_outlasts_it_for_a_while, set_up_own_clock,
                                        tear_down),
        TEST(news_that_find_nobody_are_counted),
        TEST(one_with_calls_in_its_mailbox_does_not_leave),
        TEST(a_user_goes_where_the_first_of_his_mail_went),
        TEST(one_instance_of_a_service_leaves_at_a_time),
        TEST(calls_that_find_nobody_are_answered_lost),
        TEST(order_survives_a_leave_under_fire),
        TEST(limit_of_services),
        TEST(limit_of_instances),
        TEST(limit_of_followers),
        TEST(followers_hear_of_the_stream),
        TEST(promises_of_an_instance_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
