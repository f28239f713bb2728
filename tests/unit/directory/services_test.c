/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/services.h"
#include "unit/broker/broker_fixture.h"

/* The directory of services: who gets a call, and what happens when an instance goes. */

enum { USERS = 300 };

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
static struct user_call_message *call_of_anna(struct glue *glue, uint64_t number)
{
    struct user_call_message *call = new_call("anna", "chat", number);
    call->caller = registry_claim(glue->broker.registry, "anna", 4, &user_behaviour);
    return call;
}

/* Who gets a call of that user; 0 and *code: nobody. */
static actor_handle route(struct glue *glue, const char *service, unsigned user, uint16_t *code)
{
    char name[16];
    snprintf(name, sizeof(name), "user%u", user);
    struct user_call_message *call = new_call(name, service, 1);
    /* Somebody who is there: the pins of those who are gone may be dropped. */
    call->caller = registry_claim(glue->broker.registry, "caller", 6, &user_behaviour);
    actor_handle to = services_route(glue->broker.services, own_runner(glue), call, code);
    if (to == 0)
        message_destroy(&call->header); /* still ours */
    return to;
}

static actor_handle choose(struct glue *glue, unsigned user)
{
    uint16_t code;
    actor_handle to = route(glue, "chat", user, &code);
    assert_int_not_equal(to, 0);
    return to;
}

static struct probe *join(struct glue *glue, const char *service, const char *name)
{
    struct probe *probe = new_probe(glue, name);
    assert_int_equal(services_join(glue->broker.services, service, probe->self, false), 0);
    return probe;
}

static void leave_with(struct glue *glue, struct probe *probe, struct message *mail)
{
    assert_true(services_begin_leave(glue->broker.services, probe->self));
    services_hand_on(glue->broker.services, own_runner(glue), probe->self, mail);
    assert_true(services_leave(glue->broker.services, probe->self));
}

/* Takes one out that has no mail. */
static void leave(struct glue *glue, struct probe *probe)
{
    run_turns(glue);
    probe_empty(glue, probe);
    leave_with(glue, probe, NULL);
}

/* --- routing ---------------------------------------------------------------------------------- */

static void every_user_has_his_instance(void **state)
{
    struct glue *glue = *state;
    const struct probe *probes[3] = {join(glue, "chat", "!a"), join(glue, "chat", "!b"),
                                     join(glue, "chat", "!c")};
    unsigned counts[3] = {0};
    join(glue, "other", "!d");
    for (unsigned user = 0; user < USERS; user++) {
        actor_handle to = choose(glue, user);
        assert_int_equal(choose(glue, user), to);
        unsigned which = 0;
        while (which < 3 && probes[which]->self != to)
            which++;
        assert_true(which < 3);
        counts[which]++;
    }
    for (unsigned i = 0; i < 3; i++)
        assert_in_range(counts[i], USERS / 6, USERS / 2);
    run_turns(glue);
    assert_int_equal(probe_count(glue, probes[0]) + probe_count(glue, probes[1]) +
                         probe_count(glue, probes[2]),
                     2 * USERS);
}

static void a_pin_holds_while_its_instance_does(void **state)
{
    struct glue *glue = *state;
    struct probe *a = join(glue, "chat", "!a");
    for (unsigned user = 0; user < USERS; user++)
        assert_int_equal(choose(glue, user), a->self);
    /* More come; the pins stay, however many others are made. */
    struct probe *b = join(glue, "chat", "!b");
    for (unsigned user = USERS; user < 5 * USERS; user++)
        choose(glue, user);
    for (unsigned user = 0; user < USERS; user++)
        assert_int_equal(choose(glue, user), a->self);
    leave(glue, a);
    for (unsigned user = 0; user < 5 * USERS; user++)
        assert_int_equal(choose(glue, user), b->self);
}

/* A pin counts for its service, also when that takes the place of another. */
static void pins_of_a_service_end_with_it(void **state)
{
    struct glue *glue = *state;
    uint16_t code;
    struct probe *probes[GLUE_SERVICES];
    char name[16];
    for (unsigned i = 0; i < GLUE_SERVICES; i++) {
        snprintf(name, sizeof(name), "s%u", i);
        char instance[16];
        snprintf(instance, sizeof(instance), "!s%u", i);
        probes[i] = join(glue, name, instance);
    }
    assert_int_equal(route(glue, "s0", 1, &code), probes[0]->self);
    assert_int_equal(route(glue, "s1", 1, &code), probes[1]->self);
    leave(glue, probes[0]);
    struct probe *late = join(glue, "late", "!late");
    assert_int_equal(services_join(glue->broker.services, "late", probes[0]->self, false), 0);
    unsigned to_late = 0;
    for (unsigned user = 1; user < 40; user++)
        to_late += route(glue, "late", user, &code) == late->self;
    assert_in_range(to_late, 5, 35);
}

static void a_loss_moves_only_the_users_of_the_lost(void **state)
{
    struct glue *glue = *state;
    struct probe *lost = join(glue, "chat", "!a");
    struct probe *b = join(glue, "chat", "!b");
    struct probe *c = join(glue, "chat", "!c");
    actor_handle before[USERS];
    unsigned to_b = 0;
    unsigned to_c = 0;
    for (unsigned user = 0; user < USERS; user++)
        before[user] = choose(glue, user);
    leave(glue, lost);
    for (unsigned user = 0; user < USERS; user++) {
        actor_handle now = choose(glue, user);
        if (before[user] != lost->self)
            assert_int_equal(now, before[user]);
        to_b += before[user] == lost->self && now == b->self;
        to_c += before[user] == lost->self && now == c->self;
    }
    assert_true(to_b >= 10 && to_c >= 10); /* the lost one's users are shared */
    struct probe *d = join(glue, "chat", "!d");
    unsigned to_d = 0;
    for (unsigned user = 0; user < 2 * USERS; user++) {
        bool newcomer = choose(glue, user) == d->self;
        assert_true(user >= USERS || !newcomer);
        to_d += newcomer;
    }
    assert_true(to_d >= 10); /* of those who come after it */
}

static void one_that_drains_gets_no_new_users(void **state)
{
    struct glue *glue = *state;
    struct probe *a = join(glue, "chat", "!a");
    assert_int_equal(choose(glue, 0), a->self);
    struct probe *b = join(glue, "chat", "!b");
    services_drain(glue->broker.services, a->self, true);
    for (unsigned user = 1; user < USERS; user++)
        assert_int_equal(choose(glue, user), b->self);
    assert_int_equal(choose(glue, 0), a->self); /* it keeps those that it has */
    /* Better a draining one than none. */
    services_drain(glue->broker.services, b->self, true);
    unsigned to_a = 0;
    for (unsigned user = USERS; user < 2 * USERS; user++)
        to_a += choose(glue, user) == a->self;
    assert_in_range(to_a, USERS / 4, USERS * 3 / 4);
    /* Joining again ends it. */
    assert_int_equal(services_join(glue->broker.services, "chat", a->self, false), 0);
    for (unsigned user = 2 * USERS; user < 3 * USERS; user++)
        assert_int_equal(choose(glue, user), a->self);
}

static void without_an_instance_the_code_says_why(void **state)
{
    struct glue *glue = *state;
    uint16_t code = 0;
    assert_int_equal(route(glue, "chat", 1, &code), 0);
    assert_int_equal(code, USHER__V1__ERROR__CODE__NO_SERVICE);
    struct probe *a = join(glue, "chat", "!a");
    assert_int_equal(route(glue, "cha", 1, &code), 0);
    assert_int_equal(route(glue, "chats", 1, &code), 0);
    leave(glue, a);
    assert_int_equal(route(glue, "chat", 1, &code), 0);
    assert_int_equal(code, USHER__V1__ERROR__CODE__NO_SERVICE);
    struct user_call_message *call = new_call("anna", "chat", 1);
    call->redelivered = true; /* somebody may have done it */
    assert_int_equal(services_route(glue->broker.services, own_runner(glue), call, &code), 0);
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
    struct glue *glue = *state;
    uint16_t code;
    struct probe *a = join(glue, "chat", "!a");
    struct probe *b = join(glue, "chat", "!b");
    leave_with(glue, a, mail_of(10, "chat", 0));
    struct user_call_message *newer = new_call("anna", "chat", 11);
    assert_int_equal(services_route(glue->broker.services, own_runner(glue), newer, &code),
                     b->self);
    run_turns(glue);
    assert_int_equal(probe_count(glue, b), 11);
    for (unsigned i = 1; i <= 11; i++) {
        struct user_call_message *call = (struct user_call_message *)probe_take(glue, b);
        assert_int_equal(call->request, i);
        message_destroy(&call->header);
    }
    assert_int_equal(probe_count(glue, a), 0);
}

/* Whoever's mail has moved goes on where it went, also when others join before his next call:
 * that call must not overtake the mail. */
static void users_move_with_their_mail(void **state)
{
    struct glue *glue = *state;
    uint16_t code;
    struct probe *a = join(glue, "chat", "!a");
    struct user_call_message *first = new_call("anna", "chat", 0);
    assert_int_equal(services_route(glue->broker.services, own_runner(glue), first, &code),
                     a->self);
    struct probe *b = join(glue, "chat", "!b");
    run_turns(glue);
    probe_empty(glue, a);
    leave_with(glue, a, mail_of(10, "chat", 0));
    for (unsigned i = 0; i < 50; i++) {
        char name[16];
        snprintf(name, sizeof(name), "!late%u", i);
        join(glue, "chat", name);
        struct user_call_message *newer = new_call("anna", "chat", 11 + i);
        assert_int_equal(services_route(glue->broker.services, own_runner(glue), newer, &code),
                         b->self);
    }
}

/* Who logs out and in again stays where his calls wait, until the last one's time is over. */
static void pins_outlast_their_user_for_a_while(void **state)
{
    struct glue *glue = *state;
    uint16_t code;
    struct probe *a = join(glue, "chat", "!a");
    struct user_call_message *first = new_call("anna", "chat", 1);
    first->caller = UINT64_C(99) << 32 | 3; /* nobody by now */
    first->deadline_ms = atomic_load(&glue->now_ms) + 1000;
    assert_int_equal(services_route(glue->broker.services, own_runner(glue), first, &code),
                     a->self);
    services_drain(glue->broker.services, a->self, true);
    struct probe *b = join(glue, "chat", "!b");
    for (unsigned user = 0; user < USERS; user++) /* the table grows */
        assert_int_equal(choose(glue, user), b->self);
    struct user_call_message *next = new_call("anna", "chat", 2);
    next->caller = first->caller;
    assert_int_equal(services_route(glue->broker.services, own_runner(glue), next, &code), a->self);
    atomic_fetch_add(&glue->now_ms, 1000);
    for (unsigned user = USERS; user < 5 * USERS; user++)
        choose(glue, user);
    next = new_call("anna", "chat", 3);
    assert_int_equal(services_route(glue->broker.services, own_runner(glue), next, &code), b->self);
}

static void one_with_calls_in_its_mailbox_does_not_leave(void **state)
{
    struct glue *glue = *state;
    uint16_t code;
    struct probe *a = join(glue, "chat", "!a");
    assert_int_equal(route(glue, "chat", 1, &code), a->self);
    assert_true(services_begin_leave(glue->broker.services, a->self));
    assert_false(services_leave(glue->broker.services, a->self));
    assert_int_equal(route(glue, "chat", 1, &code), a->self); /* nothing was done */
    run_turns(glue);
    assert_int_equal(probe_count(glue, a), 2);
    assert_true(services_leave(glue->broker.services, a->self));
    assert_int_equal(route(glue, "chat", 1, &code), 0);
}

static void expect_calls(struct glue *glue, struct probe *probe, unsigned first, unsigned last)
{
    run_turns(glue);
    for (unsigned i = first; i <= last; i++) {
        struct user_call_message *call = (struct user_call_message *)probe_take(glue, probe);
        assert_non_null(call);
        assert_int_equal(call->request, i);
        message_destroy(&call->header);
    }
    assert_null(probe_take(glue, probe));
}

/* The mail of one who leaves moves in pieces. Until all of it has, newer calls go behind it, and
 * all of a user's mail goes the same way, whoever joins and drains meanwhile. */
static void a_user_goes_where_the_first_of_his_mail_went(void **state)
{
    struct glue *glue = *state;
    struct services *services = glue->broker.services;
    uint16_t code;
    struct probe *a = join(glue, "chat", "!a");
    struct user_call_message *call = call_of_anna(glue, 1);
    assert_int_equal(services_route(services, own_runner(glue), call, &code), a->self);
    struct probe *b = join(glue, "chat", "!b");
    assert_true(services_begin_leave(services, a->self));
    run_turns(glue);
    services_hand_on(services, own_runner(glue), a->self, probe_take(glue, a));
    expect_calls(glue, b, 1, 1);
    services_drain(services, b->self, true);
    for (unsigned i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof(name), "!late%u", i);
        join(glue, "chat", name);
        call = call_of_anna(glue, 2 + i);
        assert_int_equal(services_route(services, own_runner(glue), call, &code), a->self);
        assert_false(services_leave(services, a->self)); /* it is in the mailbox */
        run_turns(glue);
        services_hand_on(services, own_runner(glue), a->self, probe_take(glue, a));
    }
    expect_calls(glue, b, 2, 21);
    assert_true(services_leave(services, a->self));
    for (unsigned user = 0; user < 5 * USERS; user++)
        choose(glue, user); /* the table of pins grows */
    call = call_of_anna(glue, 22);
    assert_int_equal(services_route(services, own_runner(glue), call, &code), b->self);
}

/* So an heir does not go before all has come to it. New users go to neither. */
static void one_instance_of_a_service_leaves_at_a_time(void **state)
{
    struct glue *glue = *state;
    struct services *services = glue->broker.services;
    uint16_t code;
    struct probe *a = join(glue, "chat", "!a");
    struct user_call_message *call = call_of_anna(glue, 1);
    assert_int_equal(services_route(services, own_runner(glue), call, &code), a->self);
    struct probe *b = join(glue, "chat", "!b");
    struct probe *other = join(glue, "shop", "!other");
    assert_true(services_begin_leave(services, a->self));
    run_turns(glue);
    services_hand_on(services, own_runner(glue), a->self, probe_take(glue, a));
    assert_false(services_begin_leave(services, b->self));
    assert_true(services_begin_leave(services, other->self));
    struct probe *c = join(glue, "chat", "!c");
    for (unsigned user = 0; user < USERS; user++)
        assert_int_equal(choose(glue, user), c->self);
    assert_true(services_begin_leave(services, a->self)); /* it goes on */
    services_hand_on(services, own_runner(glue), a->self, &call_of_anna(glue, 2)->header);
    assert_true(services_leave(services, a->self));
    assert_true(services_begin_leave(services, b->self));
    run_turns(glue);
    assert_int_equal(probe_count(glue, b), 2); /* all of anna's */
    services_hand_on(services, own_runner(glue), b->self, probe_take(glue, b));
    services_hand_on(services, own_runner(glue), b->self, probe_take(glue, b));
    assert_true(services_leave(services, b->self));
    call = call_of_anna(glue, 3);
    assert_int_equal(services_route(services, own_runner(glue), call, &code), c->self);
}

static void calls_that_find_nobody_are_answered_lost(void **state)
{
    struct glue *glue = *state;
    struct probe *a = join(glue, "chat", "!a");
    struct probe *caller = new_probe(glue, "!caller");
    struct message *mail = mail_of(3, "chat", caller->self);
    ((struct user_call_message *)mail->next)->call = 0; /* one way: nobody waits */
    leave_with(glue, a, mail);
    run_turns(glue);
    assert_int_equal(probe_count(glue, caller), 2);
    for (unsigned i = 1; i <= 3; i += 2) {
        struct call_result_message *result = (struct call_result_message *)probe_take(glue, caller);
        assert_int_equal(result->header.kind, MESSAGE_CALL_RESULT);
        assert_int_equal(result->code, USHER__V1__ERROR__CODE__SERVICE_LOST);
        assert_int_equal(result->request, i);
        assert_int_equal(result->call, i);
        assert_int_equal(result->epoch, 1);
        message_destroy(&result->header);
    }
    assert_int_equal(metric_of(glue, METRIC_calls_lost), 3);
}

/* Threads that call as fast as they can, each for users of its own, while the instance leaves
 * with its mail: the other one gets every user's calls in their order, none twice, none lost. */
enum { HAMMERS = 2, CALLS = 4000, USERS_EACH = 3 };

struct hammer {
    struct glue *glue;
    unsigned index;
    actor_handle caller;
    _Atomic unsigned done;
};

static void *hammer(void *argument)
{
    struct hammer *hammer = argument;
    struct glue *glue = hammer->glue;
    for (unsigned i = 0; i < CALLS; i++) {
        unsigned user = i % USERS_EACH;
        char name[16];
        uint16_t code;
        snprintf(name, sizeof(name), "u%u", hammer->index * USERS_EACH + user);
        struct user_call_message *call = new_call(name, "chat", i / USERS_EACH + 1);
        call->caller = hammer->caller;
        if (services_route(glue->broker.services, NULL, call, &code) == 0)
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
    struct glue *glue = *state;
    struct hammer hammers[HAMMERS];
    pthread_t threads[HAMMERS];
    start_workers(glue);
    struct probe *caller = new_probe(glue, "!caller");
    struct probe *leaver = join(glue, "chat", "!leaves");
    for (unsigned i = 0; i < HAMMERS; i++) {
        hammers[i] = (struct hammer){glue, i, caller->self, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &hammers[i]), 0);
    }
    wait_for_hammers(hammers, CALLS / 8);
    struct probe *others[3] = {join(glue, "chat", "!b"), join(glue, "chat", "!c"),
                               new_probe(glue, "!d")}; /* not in the leaver's slot */
    wait_for_hammers(hammers, CALLS / 4);
    struct message *order = message_create(MESSAGE_LEAVE, sizeof(*order));
    assert_int_equal(scheduler_post(glue->broker.scheduler, NULL, leaver->self, order), 0);
    assert_int_equal(services_join(glue->broker.services, "chat", others[2]->self, false), 0);
    for (unsigned i = 0; i < HAMMERS; i++)
        pthread_join(threads[i], NULL);
    WAIT_FOR(atomic_load(&leaver->left));
    WAIT_FOR(probe_count(glue, others[0]) + probe_count(glue, others[1]) +
                 probe_count(glue, others[2]) ==
             HAMMERS * CALLS);
    for (unsigned i = 0; i < 3; i++) {
        /* Each user is at one of them, so each has the calls of some, from the first to the last.
         */
        uint64_t next[HAMMERS * USERS_EACH] = {0};
        struct message *message;
        while ((message = probe_take(glue, others[i])) != NULL) {
            struct user_call_message *call = (struct user_call_message *)message;
            unsigned user = (unsigned)user_call_user(call).data[1] - '0';
            assert_int_equal(call->request, ++next[user]);
            message_destroy(message);
        }
    }
    assert_int_equal(metric_of(glue, METRIC_posts_bounced), 0);
}

/* --- limits ----------------------------------------------------------------------------------- */

static void limit_of_services(void **state)
{
    struct glue *glue = *state;
    char name[16];
    struct probe *probes[GLUE_SERVICES];
    for (unsigned i = 0; i < GLUE_SERVICES; i++) {
        snprintf(name, sizeof(name), "s%u", i);
        char instance[16];
        snprintf(instance, sizeof(instance), "!s%u", i);
        probes[i] = join(glue, name, instance);
    }
    struct probe *late = new_probe(glue, "!late");
    assert_int_equal(services_join(glue->broker.services, "late", late->self, true), -ENOSPC);
    assert_int_equal(services_join(glue->broker.services, "s0", late->self, false), 0);
    /* A failed join did nothing. */
    services_tell_presence(glue->broker.services, own_runner(glue), 1);
    run_turns(glue);
    assert_int_equal(probe_count(glue, late), 0);
    /* One that nobody serves any more makes room. */
    leave(glue, probes[3]);
    uint16_t code;
    assert_int_equal(services_join(glue->broker.services, "late", late->self, false), 0);
    assert_int_equal(route(glue, "late", 1, &code), late->self);
    assert_int_equal(route(glue, "s3", 1, &code), 0);
    assert_int_equal(services_join(glue->broker.services, "s3", late->self, false), -ENOSPC);
}

static void limit_of_instances(void **state)
{
    struct glue *glue = *state;
    /* The directory takes whatever handle it is given. */
    for (uint64_t i = 1; i <= 256; i++)
        assert_int_equal(services_join(glue->broker.services, "chat", i << 32, false), 0);
    assert_int_equal(services_join(glue->broker.services, "chat", UINT64_C(257) << 32, false),
                     -ENOSPC);
    assert_int_equal(services_join(glue->broker.services, "chat", UINT64_C(7) << 32, false), 0);
}

static void limit_of_followers(void **state)
{
    struct glue *glue = *state;
    uint64_t i = 1;
    int error = 0;
    while (error == 0 && i < 100000)
        error = services_join(glue->broker.services, "", (1000 + i++) << 32, true);
    assert_int_equal(error, -ENOSPC);
    assert_true(i > GLUE_SERVICES);
    uint16_t code;
    struct probe *late = new_probe(glue, "!late");
    assert_int_equal(services_join(glue->broker.services, "chat", late->self, true), -ENOSPC);
    assert_int_equal(route(glue, "chat", 1, &code), 0);
}

/* --- followers -------------------------------------------------------------------------------- */

static void followers_hear_of_the_stream(void **state)
{
    struct glue *glue = *state;
    struct probe *a = new_probe(glue, "!a");
    struct probe *b = new_probe(glue, "!b");
    struct probe *deaf = join(glue, "chat", "!c");
    assert_int_equal(services_join(glue->broker.services, "chat", a->self, true), 0);
    assert_int_equal(services_join(glue->broker.services, "", b->self, true), 0);
    assert_int_equal(services_join(glue->broker.services, "", b->self, true), 0); /* once more */
    services_tell_presence(glue->broker.services, own_runner(glue), 42);
    run_turns(glue);
    assert_int_equal(probe_count(glue, a), 1);
    assert_int_equal(probe_count(glue, b), 1);
    assert_int_equal(probe_count(glue, deaf), 0);
    struct presence_message *message = (struct presence_message *)probe_take(glue, a);
    assert_int_equal(message->header.kind, MESSAGE_PRESENCE);
    assert_int_equal(message->last, 42);
    message_destroy(&message->header);
    leave(glue, a);
    services_tell_presence(glue->broker.services, own_runner(glue), 43);
    run_turns(glue);
    assert_int_equal(probe_count(glue, a), 1);
    assert_int_equal(probe_count(glue, b), 2);
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
        TEST(one_with_calls_in_its_mailbox_does_not_leave),
        TEST(a_user_goes_where_the_first_of_his_mail_went),
        TEST(one_instance_of_a_service_leaves_at_a_time),
        TEST(calls_that_find_nobody_are_answered_lost),
        TEST(order_survives_a_leave_under_fire),
        TEST(limit_of_services),
        TEST(limit_of_instances),
        TEST(limit_of_followers),
        TEST(followers_hear_of_the_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
