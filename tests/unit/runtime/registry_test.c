/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/registry.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STATE_BYTES = 40 };

static const struct behaviour nothing = {.name = "nothing"};

static struct registry *create(uint32_t actors_max)
{
    struct registry *registry = NULL;
    assert_int_equal(registry_create(&registry, actors_max, STATE_BYTES, env_system()), 0);
    return registry;
}

static actor_handle claim(struct registry *registry, const char *name)
{
    return registry_claim(registry, name, strlen(name), &nothing);
}

static actor_handle find(struct registry *registry, const char *name)
{
    return registry_find(registry, name, strlen(name));
}

/* As the actor's own turn does. */
static void release(struct registry *registry, uint32_t slot)
{
    struct actor *actor = registry_actor(registry, slot);
    atomic_store(&actor->running, true);
    registry_release(registry, slot);
    atomic_store(&actor->running, false);
}

static void a_claimed_name_is_found_until_it_is_released(void **state)
{
    struct registry *registry = create(10);
    assert_int_equal(find(registry, "ann"), 0);
    actor_handle ann = claim(registry, "ann");
    assert_int_not_equal(ann, 0);
    assert_int_equal(find(registry, "ann"), ann);
    assert_int_equal(claim(registry, "ann"), ann); /* finds, makes no second one */
    assert_int_equal(registry_count(registry), 1);
    struct actor *actor = registry_actor(registry, actor_slot(ann));
    assert_string_equal(actor->name, "ann");
    assert_ptr_equal(actor->behaviour, &nothing);
    release(registry, actor_slot(ann));
    assert_int_equal(find(registry, "ann"), 0);
    assert_int_equal(registry_count(registry), 0);
    registry_destroy(registry);
}

static void names_are_bytes_and_differ_by_length(void **state)
{
    struct registry *registry = create(10);
    char longest[REGISTRY_NAME_BYTES_MAX];
    memset(longest, 'n', sizeof(longest));
    actor_handle a = registry_claim(registry, longest, sizeof(longest), &nothing);
    actor_handle b = registry_claim(registry, longest, sizeof(longest) - 1, &nothing);
    actor_handle c = registry_claim(registry, longest, 1, &nothing);
    actor_handle d = registry_claim(registry, "N", 1, &nothing);
    assert_true(a != 0 && b != 0 && c != 0 && d != 0);
    assert_true(a != b && b != c && a != c && c != d);
    assert_int_equal(registry_find(registry, longest, sizeof(longest)), a);
    assert_int_equal(registry_find(registry, longest, sizeof(longest) - 1), b);
    assert_int_equal(registry_find(registry, longest, 1), c);
    assert_int_equal(registry_find(registry, longest, 2), 0);
    registry_destroy(registry);
}

static void the_generation_is_odd_while_in_use_and_never_comes_back(void **state)
{
    struct registry *registry = create(1);
    actor_handle before = 0;
    for (uint32_t life = 0; life < 1000; life++) {
        actor_handle handle = claim(registry, "ann");
        struct actor *actor = registry_actor(registry, actor_slot(handle));
        assert_int_equal(actor_generation(handle), 2 * life + 1);
        assert_int_equal(atomic_load(&actor->generation), actor_generation(handle));
        assert_int_equal(registry_at(registry, 0), handle);
        assert_true(handle != before);
        release(registry, actor_slot(handle));
        assert_int_equal(atomic_load(&actor->generation), 2 * life + 2);
        assert_int_equal(registry_at(registry, 0), 0);
        before = handle;
    }
    registry_destroy(registry);
}

static void the_state_of_the_next_owner_is_zero(void **state)
{
    static const uint8_t zero[STATE_BYTES];
    struct registry *registry = create(2);
    for (int life = 0; life < 3; life++) {
        actor_handle handle = claim(registry, "ann");
        struct actor *actor = registry_actor(registry, actor_slot(handle));
        assert_memory_equal(actor->state, zero, STATE_BYTES);
        memset(actor->state, 0xee, STATE_BYTES);
        /* The neighbour's memory is its own. */
        actor_handle other = claim(registry, "bob");
        assert_memory_equal(registry_actor(registry, actor_slot(other))->state, zero, STATE_BYTES);
        release(registry, actor_slot(handle));
        release(registry, actor_slot(other));
    }
    registry_destroy(registry);
}

/* At the limit, one above it, and again after one has gone. 300 crosses a chunk of slots. */
static void the_limit_holds(void **state)
{
    static const uint32_t limits[] = {1, 2, 255, 256, 257, 300};
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        uint32_t limit = limits[i];
        struct registry *registry = create(limit);
        char name[32];
        assert_int_equal(registry_capacity(registry), limit);
        for (uint32_t n = 0; n < limit; n++) {
            snprintf(name, sizeof(name), "user%u", n);
            assert_int_not_equal(claim(registry, name), 0);
        }
        assert_int_equal(registry_count(registry), limit);
        assert_int_equal(claim(registry, "one more"), 0);
        assert_int_equal(find(registry, "one more"), 0);
        assert_int_not_equal(claim(registry, "user0"), 0); /* it is there: found */
        release(registry, actor_slot(find(registry, "user0")));
        assert_int_not_equal(claim(registry, "one more"), 0);
        assert_int_equal(claim(registry, "user0"), 0);
        assert_int_equal(registry_count(registry), limit);
        registry_destroy(registry);
    }
}

static void walking_visits_every_actor_once(void **state)
{
    enum { ACTORS = 700 };
    struct registry *registry = create(1000);
    bool seen[ACTORS] = {false};
    char name[32];
    uint32_t cursor = 0;
    assert_int_equal(registry_next(registry, &cursor, REGISTRY_ALL_KINDS), 0);
    for (uint32_t n = 0; n < ACTORS; n++) {
        snprintf(name, sizeof(name), "%u", n);
        claim(registry, name);
    }
    for (uint32_t n = 0; n < ACTORS; n += 3) {
        snprintf(name, sizeof(name), "%u", n);
        release(registry, actor_slot(find(registry, name)));
    }
    cursor = 0;
    for (actor_handle handle;
         (handle = registry_next(registry, &cursor, REGISTRY_ALL_KINDS)) != 0;) {
        unsigned long n = strtoul(registry_actor(registry, actor_slot(handle))->name, NULL, 10);
        assert_true(n < ACTORS && n % 3 != 0 && !seen[n]);
        seen[n] = true;
    }
    for (uint32_t n = 0; n < ACTORS; n++)
        assert_int_equal(seen[n], n % 3 != 0);
    assert_int_equal(registry_next(registry, &cursor, REGISTRY_ALL_KINDS), 0);
    registry_destroy(registry);
}

static void a_walk_for_a_kind_meets_nobody_else(void **state)
{
    static const struct behaviour other = {.name = "other", .kind = 1};
    struct registry *registry = create(10);
    actor_handle ann = claim(registry, "ann");
    actor_handle shop = registry_claim(registry, "shop", 4, &other);
    actor_handle bob = claim(registry, "bob");
    uint32_t cursor = 0;
    assert_int_equal(registry_next(registry, &cursor, 0), ann);
    assert_int_equal(registry_next(registry, &cursor, 0), bob);
    assert_int_equal(registry_next(registry, &cursor, 0), 0);
    cursor = 0;
    assert_int_equal(registry_next(registry, &cursor, 1), shop);
    assert_int_equal(registry_next(registry, &cursor, 1), 0);
    /* The slot changes hands. */
    release(registry, actor_slot(ann));
    actor_handle mart = registry_claim(registry, "mart", 4, &other);
    assert_int_equal(actor_slot(mart), actor_slot(ann));
    cursor = 0;
    assert_int_equal(registry_next(registry, &cursor, 0), bob);
    registry_destroy(registry);
}

static void an_actor_shows_its_number_by_its_name(void **state)
{
    struct registry *registry = create(10);
    actor_handle ann = claim(registry, "ann");
    claim(registry, "bob");
    atomic_store(&registry_actor(registry, actor_slot(ann))->gauge, 7);
    assert_int_equal(registry_gauge(registry, "ann", 3), 7);
    assert_int_equal(registry_gauge(registry, "bob", 3), 0);
    assert_int_equal(registry_gauge(registry, "an", 2), 0);
    struct registry_row row;
    assert_true(registry_look(registry, "ann", 3, &row));
    assert_string_equal(row.name, "ann");
    assert_int_equal(row.handle, ann);
    assert_int_equal(row.gauge, 7);
    assert_int_equal(row.numbers[0], 0); /* its kind shows none */
    assert_false(registry_look(registry, "an", 2, &row));
    registry_destroy(registry);
}

static void a_slot_that_was_never_made_has_no_handle(void **state)
{
    struct registry *registry = create(1000);
    assert_int_equal(registry_at(registry, 0), 0);
    actor_handle ann = claim(registry, "ann");
    assert_int_equal(registry_at(registry, actor_slot(ann)), ann);
    assert_int_equal(registry_at(registry, actor_slot(ann) + 1), 0);
    assert_int_equal(registry_at(registry, 999), 0);
    assert_int_equal(registry_at(registry, 1000), 0);
    assert_int_equal(registry_at(registry, UINT32_MAX), 0);
    registry_destroy(registry);
}

/* The same random byte for everybody would make the key known; a fixed one makes a test repeat. */
static void fixed_bytes(void *context, void *to, size_t size)
{
    memset(to, *(const uint8_t *)context, size);
}

static void check_against(struct registry *registry, const actor_handle *model, uint32_t names)
{
    char name[32];
    uint32_t count = 0;
    for (uint32_t n = 0; n < names; n++) {
        snprintf(name, sizeof(name), "player-%u", n);
        assert_int_equal(find(registry, name), model[n]);
        count += model[n] != 0;
    }
    assert_int_equal(registry_count(registry), count);
}

/* Tables that grow, wrap and close gaps, for several keys, against an array by name. */
static void it_agrees_with_a_model(void **state)
{
    enum { NAMES = 4000, LIMIT = 3000, STEPS = 60000 };
    actor_handle *model = calloc(NAMES, sizeof(*model));
    for (uint8_t key = 1; key <= 3; key++) {
        struct env env = *env_system();
        env.random_bytes = fixed_bytes;
        env.context = &key;
        struct registry *registry = NULL;
        assert_int_equal(registry_create(&registry, LIMIT, STATE_BYTES, &env), 0);
        memset(model, 0, NAMES * sizeof(*model));
        uint32_t count = 0;
        char name[32];
        srand(key);
        for (uint32_t step = 0; step < STEPS; step++) {
            /* Phases that fill and phases that empty, so that the limit is met too. */
            bool fills = step / 10000 % 2 == 0;
            uint32_t n = (uint32_t)rand() % NAMES;
            snprintf(name, sizeof(name), "player-%u", n);
            if (model[n] != 0 && (!fills || rand() % 4 == 0)) {
                release(registry, actor_slot(model[n]));
                model[n] = 0;
                count--;
            } else if (model[n] != 0 || fills || rand() % 4 == 0) {
                actor_handle handle = claim(registry, name);
                assert_int_equal(handle != 0, model[n] != 0 || count < LIMIT);
                assert_true(model[n] == 0 || handle == model[n]);
                count += model[n] == 0 && handle != 0;
                model[n] = handle;
            }
            if (step % 5000 == 0)
                check_against(registry, model, NAMES);
        }
        check_against(registry, model, NAMES);
        registry_destroy(registry);
    }
    free(model);
}

static void destroying_drops_the_mail(void **state)
{
    struct registry *registry = create(2);
    struct actor *actor = registry_actor(registry, actor_slot(claim(registry, "ann")));
    for (int i = 0; i < 3; i++)
        mailbox_push(&actor->mailbox, message_create(1, sizeof(struct message)));
    actor->backlog = mailbox_take(&actor->mailbox);
    mailbox_push(&actor->mailbox, message_create(1, sizeof(struct message)));
    claim(registry, "bob");     /* idle and empty */
    registry_destroy(registry); /* the leak checker looks */
}

enum { QUICK_LIVES = 2000 };

/* Whoever finds the actor ends it, as a turn does, while its claim is not over yet. */
static void *end_whoever_is_there(void *argument)
{
    struct registry *registry = argument;
    for (int life = 0; life < QUICK_LIVES;) {
        actor_handle handle = find(registry, "ann");
        if (handle != 0) {
            release(registry, actor_slot(handle));
            life++;
        }
    }
    return NULL;
}

static void an_actor_may_end_before_its_claim_returns(void **state)
{
    struct registry *registry = create(2);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, end_whoever_is_there, registry), 0);
    for (int life = 0; life < QUICK_LIVES; life++) {
        assert_int_not_equal(claim(registry, "ann"), 0);
        while (find(registry, "ann") != 0)
            sched_yield();
    }
    pthread_join(thread, NULL);
    assert_int_equal(registry_count(registry), 0);
    registry_destroy(registry);
}

/* As they were in an earlier process, and nobody else gets a handle that anybody had there. */
static void actors_of_an_earlier_process_keep_their_handles(void **state)
{
    struct registry *before = create(2000);
    actor_handle old[1200];
    char name[16];
    for (unsigned i = 0; i < 1200; i++) {
        snprintf(name, sizeof(name), "a%u", i);
        old[i] = claim(before, name);
    }
    for (unsigned i = 0; i < 1200; i += 2)
        release(before, actor_slot(old[i]));
    old[0] = claim(before, "again"); /* the second life of a slot */
    struct registry *after = create(2000);
    registry_begin_above(after, registry_generation(before));
    unsigned placed = 0;
    for (uint32_t slot = 0; slot < 1200; slot++) {
        actor_handle handle = registry_at(before, slot);
        if (handle == 0)
            continue;
        const char *called = registry_actor(before, slot)->name;
        assert_int_equal(registry_place(after, handle, called, strlen(called), &nothing), 0);
        assert_int_equal(find(after, called), handle);
        placed++;
    }
    assert_int_equal(registry_count(after), 601);
    assert_int_equal(placed, 601);
    for (unsigned i = 0; i < 1399; i++) {
        snprintf(name, sizeof(name), "new%u", i);
        actor_handle handle = claim(after, name);
        assert_int_not_equal(handle, 0);
        for (unsigned k = 0; k < 1200; k += 7)
            assert_int_not_equal(handle, old[k]);
        assert_true(actor_generation(handle) > registry_generation(before));
    }
    assert_int_equal(claim(after, "one too many"), 0);
    registry_destroy(before);
    registry_destroy(after);
}

static void what_cannot_be_is_not_placed(void **state)
{
    struct registry *registry = create(10);
    const actor_handle ann = UINT64_C(3) << 32 | 4;
    assert_int_equal(registry_place(registry, UINT64_C(2) << 32 | 4, "ann", 3, &nothing), -EINVAL);
    assert_int_equal(registry_place(registry, UINT64_C(3) << 32 | 10, "ann", 3, &nothing), -EINVAL);
    assert_int_equal(registry_place(registry, ann, "", 0, &nothing), -EINVAL);
    assert_int_equal(registry_place(registry, ann, "ann", 3, &nothing), 0);
    assert_int_equal(registry_place(registry, ann, "bob", 3, &nothing), -EINVAL);
    assert_int_equal(registry_place(registry, ann + 1, "ann", 3, &nothing), -EINVAL);
    assert_int_equal(registry_place(registry, ann - 1, "bob", 3, &nothing), -EINVAL);
    assert_int_equal(registry_count(registry), 1);
    assert_int_equal(find(registry, "ann"), ann);
    registry_destroy(registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_claimed_name_is_found_until_it_is_released),
        cmocka_unit_test(names_are_bytes_and_differ_by_length),
        cmocka_unit_test(the_generation_is_odd_while_in_use_and_never_comes_back),
        cmocka_unit_test(the_state_of_the_next_owner_is_zero),
        cmocka_unit_test(the_limit_holds),
        cmocka_unit_test(walking_visits_every_actor_once),
        cmocka_unit_test(a_walk_for_a_kind_meets_nobody_else),
        cmocka_unit_test(an_actor_shows_its_number_by_its_name),
        cmocka_unit_test(a_slot_that_was_never_made_has_no_handle),
        cmocka_unit_test(it_agrees_with_a_model),
        cmocka_unit_test(destroying_drops_the_mail),
        cmocka_unit_test(an_actor_may_end_before_its_claim_returns),
        cmocka_unit_test(actors_of_an_earlier_process_keep_their_handles),
        cmocka_unit_test(what_cannot_be_is_not_placed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
