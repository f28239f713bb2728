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
    struct sources *sources = sources_create(LIMIT, env_system());
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
    sources_destroy(sources_create(LIMIT, &env));
    assert_int_equal(random_asked, 1);
}

static void what_counts_as_one(void **state)
{
    struct sources *sources = sources_create(LIMIT, env_system());
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
    struct sources *sources = sources_create(LIMIT, env_system());
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
    struct sources *sources = sources_create(0, env_system());
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
    struct sources *sources = sources_create(1, env_system());
    struct sockaddr local = {.sa_family = AF_UNIX};
    uint32_t source;
    for (unsigned i = 0; i < 3; i++) {
        assert_true(sources_take(sources, &local, &source));
        assert_int_equal(source, SOURCE_NONE);
    }
    assert_int_equal(sources_take_peer(sources, -1), SOURCE_NONE);
    sources_destroy(sources);
}

/* Against plain counting, with so many addresses that chains have several. */
static void as_if_counted_by_hand(void **state)
{
    enum { ADDRESSES = 4000, STEPS = 200000 };
    struct sources *sources = sources_create(LIMIT, env_system());
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_has_its_own),      cmocka_unit_test(what_counts_as_one),
        cmocka_unit_test(the_table_has_a_random_key),
        cmocka_unit_test(who_has_more_addresses_has_little_more),
        cmocka_unit_test(no_limit_counts_nothing), cmocka_unit_test(no_address_at_all),
        cmocka_unit_test(as_if_counted_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
