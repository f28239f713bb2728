/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "net/sources.h"

/* How many connections each address has before they have logged in. */

enum { LIMIT = 3 };

static bool take(struct sources *sources, const char *text, uint32_t *source)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)rand())};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)rand())};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return sources_take(sources, (struct sockaddr *)&v4, source);
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return sources_take(sources, (struct sockaddr *)&v6, source);
}

static void fill(struct sources *sources, const char *text, uint32_t *taken)
{
    for (unsigned i = 0; i < LIMIT; i++)
        assert_true(take(sources, text, &taken[i]));
}

static void each_has_its_own(void **state)
{
    struct sources *sources =
        sources_create(&(struct limits){.limits_prelogin_per_source = LIMIT}, env_system());
    uint32_t taken[3][LIMIT];
    uint32_t extra;
    fill(sources, "10.0.0.1", taken[0]);
    fill(sources, "10.0.0.2", taken[1]);
    fill(sources, "2001:db8::1", taken[2]);
    assert_false(take(sources, "10.0.0.1", &extra));
    assert_int_equal(extra, SOURCE_NONE);
    assert_false(take(sources, "10.0.0.2", &extra));
    sources_give(sources, taken[0][1]);
    assert_true(take(sources, "10.0.0.1", &taken[0][1]));
    assert_false(take(sources, "10.0.0.1", &extra));
    for (unsigned s = 0; s < 3; s++)
        for (unsigned i = 0; i < LIMIT; i++)
            sources_give(sources, taken[s][i]);
    fill(sources, "10.0.0.1", taken[0]);
    sources_destroy(sources);
}

static unsigned random_asked;

static void count_random(void *context, void *to, size_t size)
{
    random_asked++;
    env_random(env_system(), to, size);
}

/* Who could tell where an address goes would aim all of his at one chain. */
static void the_table_has_a_random_key(void **state)
{
    struct env env = *env_system();
    env.random_bytes = count_random;
    sources_destroy(sources_create(&(struct limits){.limits_prelogin_per_source = LIMIT}, &env));
    assert_int_equal(random_asked, 1);
}

static void what_counts_as_one(void **state)
{
    struct sources *sources =
        sources_create(&(struct limits){.limits_prelogin_per_source = LIMIT}, env_system());
    uint32_t taken[LIMIT];
    uint32_t extra;
    /* The first 64 bits of an IPv6 address; an IPv4 address is the same when it is mapped. */
    assert_true(take(sources, "2001:db8:1:2::1", &taken[0]));
    assert_true(take(sources, "2001:db8:1:2:ffff::2", &taken[1]));
    assert_true(take(sources, "2001:db8:1:2:3:4:5:6", &taken[2]));
    assert_false(take(sources, "2001:db8:1:2::9", &extra));
    assert_true(take(sources, "2001:db8:1:3::1", &extra));
    assert_true(take(sources, "192.0.2.1", &extra));
    assert_true(take(sources, "::ffff:192.0.2.1", &extra));
    assert_true(take(sources, "192.0.2.1", &extra));
    assert_false(take(sources, "::ffff:192.0.2.1", &extra));
    fill(sources, "::1", taken);
    assert_false(take(sources, "::1", &extra));
    assert_true(take(sources, "0.0.0.1", &extra));
    sources_destroy(sources);
}

/* Who has a /48 has no more than four sources' worth, however many of its addresses he uses; and
 * everything that was taken comes back. */
static void who_has_more_addresses_has_little_more(void **state)
{
    struct sources *sources =
        sources_create(&(struct limits){.limits_prelogin_per_source = LIMIT}, env_system());
    uint32_t taken[4 * LIMIT];
    uint32_t extra;
    for (unsigned round = 0; round < 2; round++) {
        char text[64];
        for (unsigned i = 0; i < 4 * LIMIT; i++) {
            snprintf(text, sizeof(text), "2001:db8:7:%x::1", i << 8); /* each another /56 */
            assert_true(take(sources, text, &taken[i]));
        }
        assert_false(take(sources, "2001:db8:7:ff00::1", &extra));
        assert_true(take(sources, "2001:db8:8::1", &extra));
        sources_give(sources, extra);
        sources_give(sources, taken[0]);
        assert_true(take(sources, "2001:db8:7:ff00::1", &taken[0]));
        for (unsigned i = 0; i < 4 * LIMIT; i++)
            sources_give(sources, taken[i]);
        for (unsigned i = 0; i < 2 * LIMIT; i++) { /* one /56 */
            snprintf(text, sizeof(text), "2001:db8:7:12%02x::1", i);
            assert_true(take(sources, text, &taken[i]));
        }
        assert_false(take(sources, "2001:db8:7:12ff::1", &extra));
        assert_true(take(sources, "2001:db8:7:1300::1", &extra));
        sources_give(sources, extra);
        for (unsigned i = 0; i < 2 * LIMIT; i++)
            sources_give(sources, taken[i]);
    }
    sources_destroy(sources);
}

static void no_limit_counts_nothing(void **state)
{
    struct sources *sources =
        sources_create(&(struct limits){.limits_prelogin_per_source = 0}, env_system());
    uint32_t source;
    for (unsigned i = 0; i < 100; i++) {
        assert_true(take(sources, "10.0.0.1", &source));
        assert_int_equal(source, SOURCE_NONE);
        sources_give(sources, source);
    }
    sources_destroy(sources);
}

static void no_address_at_all(void **state)
{
    struct sources *sources =
        sources_create(&(struct limits){.limits_prelogin_per_source = 1}, env_system());
    struct sockaddr local = {.sa_family = AF_UNIX};
    uint32_t source;
    for (unsigned i = 0; i < 3; i++) {
        assert_true(sources_take(sources, &local, &source));
        assert_int_equal(source, SOURCE_NONE);
    }
    assert_int_equal(sources_take_peer(sources, NULL, -1), SOURCE_NONE);
    sources_destroy(sources);
}

/* Against plain counting, with so many addresses that chains have several. */
static void as_if_counted_by_hand(void **state)
{
    enum { ADDRESSES = 4000, STEPS = 200000 };
    struct sources *sources =
        sources_create(&(struct limits){.limits_prelogin_per_source = LIMIT}, env_system());
    static uint32_t held[ADDRESSES][LIMIT];
    static unsigned count[ADDRESSES];
    srand(7);
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned which = (unsigned)rand() % ADDRESSES;
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(0x0a000000u + which)};
        if (rand() % 2) {
            uint32_t source;
            bool taken = sources_take(sources, (struct sockaddr *)&address, &source);
            assert_int_equal(taken, count[which] < LIMIT);
            if (taken)
                held[which][count[which]++] = source;
        } else if (count[which] > 0) {
            sources_give(sources, held[which][--count[which]]);
        }
    }
    sources_destroy(sources);
}

/* --- who goes for a newcomer ------------------------------------------------------------------ */

enum { AGE_MS = 1000, MUCH = 8, MANY = 100 };

static struct stranger stranger(uint32_t source, uint32_t age_ms)
{
    return (struct stranger){.source = source, .age_ms = age_ms};
}

/* So many more of an address; gives its entry. */
static uint32_t crowd(struct sources *sources, const char *text, unsigned count)
{
    uint32_t source = SOURCE_NONE;
    for (unsigned i = 0; i < count; i++)
        assert_true(take(sources, text, &source));
    return source;
}

static size_t choose(struct sources *sources, uint32_t newcomer, struct stranger first,
                     struct stranger second)
{
    const struct stranger both[] = {first, second};
    return sources_choose(sources, newcomer, false, both, 2, AGE_MS);
}

static void the_oldest_of_the_heaviest(void **state)
{
    struct sources *sources =
        sources_create(&(struct limits){.limits_prelogin_per_source = MANY}, env_system());
    uint32_t one = crowd(sources, "10.0.0.1", 1), three = crowd(sources, "10.0.0.3", 3);
    uint32_t comes = crowd(sources, "10.0.0.9", 1);
    assert_int_equal(choose(sources, comes, stranger(one, 5000), stranger(three, AGE_MS)), 1);
    assert_int_equal(choose(sources, comes, stranger(three, AGE_MS), stranger(one, 5000)), 0);
    assert_int_equal(choose(sources, comes, stranger(three, 1001), stranger(three, 1002)), 1);
    assert_int_equal(choose(sources, comes, stranger(three, 1002), stranger(three, 1001)), 0);
    assert_int_equal(choose(sources, comes, stranger(three, AGE_MS - 1), stranger(one, AGE_MS)), 1);
    assert_int_equal(choose(sources, comes, stranger(three, AGE_MS - 1), stranger(one, 999)), 2);
    /* Of no address, or not counted: as light as can be. */
    assert_int_equal(choose(sources, comes, stranger(SOURCE_NONE, 5000), stranger(one, 1000)), 1);
    assert_int_equal(choose(sources, SOURCE_NONE, stranger(SOURCE_NONE, AGE_MS),
                            stranger(SOURCE_NONE, AGE_MS - 1)),
                     0);
    assert_int_equal(sources_choose(sources, comes, false, NULL, 0, AGE_MS), 0);
    sources_destroy(sources);
}

/* Who comes fast from one address has only young ones there, and pushes out nobody else's. */
static void much_pays_young_and_takes_from_nobody(void **state)
{
    struct sources *sources =
        sources_create(&(struct limits){.limits_prelogin_per_source = MANY}, env_system());
    uint32_t much = crowd(sources, "10.0.0.1", MUCH), one = crowd(sources, "10.0.0.2", 1);
    struct stranger young = stranger(much, AGE_MS / 4), old = stranger(one, 10 * AGE_MS);
    assert_int_equal(choose(sources, one, young, young), 2);
    assert_int_equal(choose(sources, much, old, young), 0);
    crowd(sources, "10.0.0.1", 1);
    assert_int_equal(choose(sources, one, old, young), 1);
    assert_int_equal(choose(sources, one, stranger(much, AGE_MS / 4 - 1), old), 1);
    assert_int_equal(choose(sources, much, old, young), 2);
    assert_int_equal(choose(sources, much, old, stranger(much, AGE_MS)), 1);
    uint32_t more = crowd(sources, "10.0.0.3", MUCH + 2);
    assert_int_equal(choose(sources, more, young, young), 2);
    assert_int_equal(choose(sources, much, stranger(more, AGE_MS / 4), old), 0);
    sources_destroy(sources);
}

/* One /48 with one in each of 40 households weighs as ten of one address do. */
static void who_is_spread_weighs_together(void **state)
{
    struct sources *sources =
        sources_create(&(struct limits){.limits_prelogin_per_source = MANY}, env_system());
    uint32_t spread = SOURCE_NONE;
    for (unsigned i = 0; i < 40; i++) {
        char text[64];
        snprintf(text, sizeof(text), "2a01:4f8:1:%x::1", i << 8);
        spread = crowd(sources, text, 1);
    }
    uint32_t nine = crowd(sources, "10.0.0.1", 9), comes = crowd(sources, "10.0.0.2", 1);
    assert_int_equal(choose(sources, comes, stranger(nine, 5000), stranger(spread, AGE_MS)), 1);
    crowd(sources, "10.0.0.1", 2);
    assert_int_equal(choose(sources, comes, stranger(nine, 5000), stranger(spread, 6000)), 0);
    sources_destroy(sources);
}

/* Only those of what is full come into question: here the /56, whose two networks are not. */
static void within_what_is_full(void **state)
{
    struct limits limits = {.limits_prelogin_per_source = LIMIT};
    struct sources *sources = sources_create(&limits, env_system());
    uint32_t taken[LIMIT], extra;
    fill(sources, "2a01:4f8:1:1::1", taken);
    uint32_t first = taken[0];
    fill(sources, "2a01:4f8:1:2::1", taken);
    uint32_t other = crowd(sources, "10.0.0.1", LIMIT);
    assert_false(sources_is_over(sources, first));
    assert_false(take(sources, "2a01:4f8:1:3::1", &extra));
    struct sockaddr_in6 third = {.sin6_family = AF_INET6};
    assert_int_equal(inet_pton(AF_INET6, "2a01:4f8:1:3::1", &third.sin6_addr), 1);
    uint32_t comes = sources_take_beyond(sources, (struct sockaddr *)&third);
    assert_true(sources_is_over(sources, comes));
    assert_false(sources_is_over(sources, other));
    const struct stranger all[] = {stranger(other, 9000), stranger(first, 1001),
                                   stranger(taken[0], 1002), stranger(first, 999)};
    assert_int_equal(sources_choose(sources, comes, true, all, 4, AGE_MS), 2);
    assert_int_equal(sources_choose(sources, comes, true, all, 2, AGE_MS), 1);
    assert_int_equal(sources_choose(sources, comes, true, all, 1, AGE_MS), 1);
    assert_int_equal(sources_choose(sources, comes, true, all + 3, 1, AGE_MS), 1);
    assert_int_equal(sources_choose(sources, other, true, all, 4, AGE_MS), 4);
    limits.limits_prelogin_per_source = 0;
    assert_false(sources_is_over(sources, comes));
    sources_destroy(sources);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_has_its_own),
        cmocka_unit_test(what_counts_as_one),
        cmocka_unit_test(the_table_has_a_random_key),
        cmocka_unit_test(who_has_more_addresses_has_little_more),
        cmocka_unit_test(no_limit_counts_nothing),
        cmocka_unit_test(no_address_at_all),
        cmocka_unit_test(as_if_counted_by_hand),
        cmocka_unit_test(the_oldest_of_the_heaviest),
        cmocka_unit_test(much_pays_young_and_takes_from_nobody),
        cmocka_unit_test(who_is_spread_weighs_together),
        cmocka_unit_test(within_what_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
