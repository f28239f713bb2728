/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/hall.h"

#include "actors/kinds.h"
#include "actors/messages.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "directory/away.h"

/* What is to be stored finds its receiver's actor, or makes one for who is away: while there is
 * room for those who come themselves, and for names that can be. */

enum { ACTORS = 64, USERS = 32, LAST = USERS / 16, MAILBOX = 4, SENDER = 1 };

static const struct behaviour user_probe = {
    .name = "user", .kind = KIND_USER, .receive = probe_receive, .finish = probe_finish};

struct stand {
    struct hall hall; /* first: the probes know it */
    struct limits limits;
    struct settings settings;
    struct away away;
    struct turn turn;
    struct probe *sender;
};

static int setup(void **state)
{
    struct stand *stand = calloc(1, sizeof(*stand));
    assert_non_null(stand);
    hall_open(&stand->hall, ACTORS, true);
    stand->limits = (struct limits){.limits_users = USERS, .limits_mailbox_messages = MAILBOX};
    stand->settings.stored_for_away = true;
    stand->away = (struct away){.registry = stand->hall.registry,
                                .scheduler = stand->hall.scheduler,
                                .metrics = stand->hall.metrics,
                                .limits = &stand->limits,
                                .user = &user_probe};
    actor_handle sender = registry_claim(stand->hall.registry, "bert", 4, &user_probe);
    stand->sender = hall_adopt(&stand->hall, sender);
    stand->turn = (struct turn){
        .self = stand->sender->self, .limits = &stand->limits, .settings = &stand->settings};
    *state = stand;
    return 0;
}

static int teardown(void **state)
{
    struct stand *stand = *state;
    turn_discard(&stand->turn);
    turn_fini(&stand->turn);
    hall_run(&stand->hall);
    hall_close(&stand->hall);
    free(stand);
    return 0;
}

/* The code of the refusal; 0: it was posted. */
static uint16_t send(struct stand *stand, const char *to, bool from_service, bool for_present)
{
    struct turn *turn = &stand->turn;
    struct deliver_message *message = deliver_create(bytes_of_text("shop"), bytes_of_text("gift"));
    assert_non_null(message);
    message->from_service = from_service;
    message->for_present = for_present;
    message->keep_s = 60;
    message->request = 5;
    message->sender = stand->sender->self;
    turn_discard(turn);
    struct effect *effect = turn_effect(turn, EFFECT_FORWARD, 0);
    effect->offset = (uint32_t)turn->out.size;
    effect->size = (uint32_t)strlen(to);
    effect->message = &message->header;
    assert_int_equal(buffer_append(&turn->out, to, strlen(to)), 0);
    const struct effect asked = *effect;
    turn->count = 0; /* it is carried out */
    away_forward(&stand->away, &stand->hall.runner, turn, &asked);
    if (turn->count == 0)
        return 0;
    assert_int_equal(turn->count, 1);
    const struct message *told = turn->effects[0].message;
    assert_int_equal(told->kind, MESSAGE_RESULT);
    assert_int_equal(((const struct result_message *)told)->request, 5);
    return ((const struct result_message *)told)->code;
}

static uint16_t gift(struct stand *stand, const char *to)
{
    return send(stand, to, true, false);
}

static void who_is_there_gets_it(void **state)
{
    struct stand *stand = *state;
    actor_handle ann = registry_claim(stand->hall.registry, "ann", 3, &user_probe);
    struct probe *probe = hall_adopt(&stand->hall, ann);
    assert_int_equal(gift(stand, "ann"), 0);
    hall_run(&stand->hall);
    assert_int_equal(probe_count(probe), 1);
    assert_int_equal(registry_count_of(stand->hall.registry, KIND_USER), SENDER + 1);
}

static void who_is_away_gets_an_actor_for_it(void **state)
{
    struct stand *stand = *state;
    assert_int_equal(gift(stand, "ann"), 0);
    assert_int_equal(gift(stand, "ann"), 0); /* the same */
    actor_handle ann = registry_find(stand->hall.registry, "ann", 3);
    assert_int_not_equal(ann, 0);
    hall_run(&stand->hall);
    assert_int_equal(stand->hall.probes[actor_slot(ann)].count, 2);
    assert_int_equal(registry_count_of(stand->hall.registry, KIND_USER), SENDER + 1);
}

static void nobody_can_have_such_a_name(void **state)
{
    struct stand *stand = *state;
    uint64_t before = hall_metric(&stand->hall, METRIC_sends_not_online);
    const char *const names[] = {"", "a b", "#room", "!name", "\xff"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_int_equal(gift(stand, names[i]), USHER__V1__ERROR__CODE__NOT_ONLINE);
    assert_int_equal(hall_metric(&stand->hall, METRIC_sends_not_online) - before, 5);
    assert_int_equal(registry_count_of(stand->hall.registry, KIND_USER), SENDER);
}

static void a_player_stores_for_who_is_away_where_he_may(void **state)
{
    struct stand *stand = *state;
    assert_int_equal(send(stand, "ann", false, false), 0);
    assert_int_equal(send(stand, "bob", false, true), USHER__V1__ERROR__CODE__RATE_LIMITED);
    stand->settings.stored_for_away = false;
    assert_int_equal(send(stand, "bob", false, false), USHER__V1__ERROR__CODE__NOT_ONLINE);
    assert_int_equal(send(stand, "ann", false, false), 0); /* her actor is there */
    assert_int_equal(send(stand, "bob", true, false), 0);
}

/* n and n + 1: the last places are for who logs in. */
static void the_last_places_are_for_who_comes(void **state)
{
    struct stand *stand = *state;
    char name[16];
    for (unsigned i = SENDER; i < USERS - LAST; i++) {
        snprintf(name, sizeof(name), "user%u", i);
        assert_int_equal(gift(stand, name), 0);
    }
    assert_int_equal(gift(stand, "more"), USHER__V1__ERROR__CODE__BUSY);
    assert_int_equal(gift(stand, "user1"), 0);
    assert_int_equal(registry_count_of(stand->hall.registry, KIND_USER), USERS - LAST);
}

static void a_full_mailbox_is_busy_for_players(void **state)
{
    struct stand *stand = *state;
    for (unsigned i = 0; i < MAILBOX; i++)
        assert_int_equal(send(stand, "ann", false, false), 0);
    assert_int_equal(send(stand, "ann", false, false), USHER__V1__ERROR__CODE__BUSY);
    assert_int_equal(send(stand, "bob", false, false), 0);
}

static void with_no_memory_left_nothing_is_taken(void **state)
{
    enum { BUDGET = 1 << 20 };
    struct stand *stand = *state;
    stand->limits.limits_memory_bytes = BUDGET;
    memory_open(&stand->limits, NULL, stand->hall.metrics);
    memory_account(MEMORY_OF_OWN, BUDGET);
    assert_int_equal(memory_level(), MEMORY_FULL);
    uint16_t code = gift(stand, "ann");
    memory_account(MEMORY_OF_OWN, -BUDGET);
    memory_close();
    assert_int_equal(code, USHER__V1__ERROR__CODE__BUSY);
    assert_int_equal(registry_count_of(stand->hall.registry, KIND_USER), SENDER);
}

#define hall_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        hall_test(who_is_there_gets_it),
        hall_test(who_is_away_gets_an_actor_for_it),
        hall_test(nobody_can_have_such_a_name),
        hall_test(a_player_stores_for_who_is_away_where_he_may),
        hall_test(the_last_places_are_for_who_comes),
        hall_test(a_full_mailbox_is_busy_for_players),
        hall_test(with_no_memory_left_nothing_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
