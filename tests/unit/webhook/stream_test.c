/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "webhook/stream.h"

/* What an answer means, one by one; and then a receiver and a network of chance, against a stream
 * that is trimmed: none lost without being named, none twice, in order. */

static const struct hook_pace pace = {100, 1600};

static const struct hook_answer plain = {.good = true}, bad = {.good = false};

static struct hook_answer says(uint64_t seq)
{
    return (struct hook_answer){.good = true, .has_seq = true, .seq = seq};
}

static struct hook_post next(struct hook_stream *stream, uint64_t first, uint64_t last)
{
    const struct hook_kept kept = {first, last};
    return hook_stream_next(stream, &kept, 10);
}

static enum hook_result answered(struct hook_stream *stream, const struct hook_post *post,
                                 struct hook_answer answer)
{
    return hook_stream_answered(stream, post, &answer, 100, &pace, 0, 1000);
}

/* A boot begins at 1, whatever has happened in it by then, and nothing of it is passed over. */
static void test_begins_with_a_boot(void **state)
{
    struct hook_stream stream;
    hook_stream_begin_boot(&stream);
    struct hook_post post = next(&stream, 1, 40);
    assert_int_equal(post.kind, HOOK_RESET);
    assert_int_equal(post.reset, HOOK_RESET_BOOT);
    assert_string_equal(hook_reset_name(post.reset), "boot");
    assert_int_equal(post.seq, 0);
    assert_true(post.first > post.last);
    assert_int_equal(answered(&stream, &post, bad), HOOK_FAILED);
    assert_int_equal(answered(&stream, &post, says(7)), HOOK_FAILED); /* of which boot? */
    assert_int_equal(next(&stream, 1, 40).reset, HOOK_RESET_BOOT);
    assert_int_equal(answered(&stream, &post, says(0)), HOOK_TAKEN);
    post = next(&stream, 1, 40);
    assert_int_equal(post.kind, HOOK_EVENTS);
    assert_int_equal(post.first, 1);
    hook_stream_begin_boot(&stream);
    post = next(&stream, 31, 40); /* some have gone already */
    assert_int_equal(post.reset, HOOK_RESET_BOOT);
    assert_int_equal(answered(&stream, &post, plain), HOOK_TAKEN);
    post = next(&stream, 31, 40);
    assert_int_equal(post.reset, HOOK_RESET_TRIMMED);
    assert_true(post.first == 1 && post.last == 30 && post.seq == 30);
}

static void test_begins(void **state)
{
    struct hook_stream stream;
    hook_stream_begin(&stream, false, 0);
    struct hook_post post = next(&stream, 5, 40);
    assert_int_equal(post.kind, HOOK_RESET);
    assert_int_equal(post.reset, HOOK_RESET_FIRST);
    assert_int_equal(post.seq, 40);
    assert_true(post.first > post.last);
    assert_int_equal(answered(&stream, &post, bad), HOOK_FAILED);
    assert_int_equal(next(&stream, 5, 40).kind, HOOK_RESET);
    assert_int_equal(answered(&stream, &post, says(101)), HOOK_AHEAD);
    post = next(&stream, 5, 40);
    assert_int_equal(post.reset, HOOK_RESET_AHEAD);
    assert_int_equal(answered(&stream, &post, says(3)), HOOK_FAILED); /* it did not listen */
    hook_stream_begin(&stream, false, 0);
    post = next(&stream, 5, 40);
    assert_int_equal(answered(&stream, &post, says(17)), HOOK_TAKEN); /* it knows where it was */
    assert_int_equal(next(&stream, 5, 40).first, 18);
    hook_stream_begin(&stream, false, 0);
    post = next(&stream, 5, 40);
    assert_int_equal(answered(&stream, &post, plain), HOOK_TAKEN);
    assert_int_equal(stream.cursor, 40);
    assert_int_equal(next(&stream, 5, 40).kind, HOOK_NOTHING);
    hook_stream_begin(&stream, true, 0);
    post = next(&stream, 1, 3);
    assert_int_equal(post.kind, HOOK_EVENTS);
    assert_int_equal(post.first, 1);
    assert_int_equal(post.last, 3);
}

static void test_answers(void **state)
{
    const struct {
        struct hook_answer answer;
        enum hook_result result;
        uint64_t cursor;
    } rows[] = {
        {bad, HOOK_FAILED, 20},
        {plain, HOOK_TAKEN, 30},
        {says(30), HOOK_TAKEN, 30},
        {says(21), HOOK_TAKEN, 21},
        {says(20), HOOK_FAILED, 20},
        {says(19), HOOK_REWOUND, 19},
        {says(0), HOOK_REWOUND, 0},
        {says(31), HOOK_TAKEN, 31},
        {says(100), HOOK_TAKEN, 100},
        {says(101), HOOK_AHEAD, 20},
        {says(UINT64_MAX), HOOK_AHEAD, 20},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hook_stream stream;
        hook_stream_begin(&stream, true, 20);
        struct hook_post post = next(&stream, 1, 100);
        assert_int_equal(post.first, 21);
        assert_int_equal(post.last, 30);
        assert_int_equal(answered(&stream, &post, rows[i].answer), rows[i].result);
        assert_int_equal(stream.cursor, rows[i].cursor);
        /* whatever does not move it forward costs a wait */
        assert_int_equal(stream.due_ms > 1000, rows[i].result != HOOK_TAKEN);
        if (rows[i].result == HOOK_AHEAD)
            assert_int_equal(next(&stream, 1, 100).reset, HOOK_RESET_AHEAD);
    }
}

static void test_trimmed(void **state)
{
    struct hook_stream stream;
    hook_stream_begin(&stream, true, 20);
    assert_int_equal(next(&stream, 21, 60).kind, HOOK_EVENTS); /* just not */
    struct hook_post post = next(&stream, 22, 60);
    assert_int_equal(post.kind, HOOK_RESET);
    assert_int_equal(post.reset, HOOK_RESET_TRIMMED);
    assert_int_equal(post.first, 21);
    assert_int_equal(post.last, 21);
    assert_int_equal(post.seq, 21);
    assert_int_equal(answered(&stream, &post, bad), HOOK_FAILED);
    post = next(&stream, 50, 60); /* more are gone meanwhile */
    assert_int_equal(post.first, 21);
    assert_int_equal(post.last, 49);
    assert_int_equal(answered(&stream, &post, says(48)), HOOK_FAILED);
    assert_int_equal(answered(&stream, &post, says(49)), HOOK_TAKEN);
    assert_int_equal(next(&stream, 50, 60).first, 50);
    hook_stream_begin(&stream, true, 20); /* an answer was lost: it has more */
    post = next(&stream, 50, 60);
    assert_int_equal(answered(&stream, &post, says(55)), HOOK_TAKEN);
    assert_int_equal(next(&stream, 50, 60).first, 56);
}

static void test_waits(void **state)
{
    struct hook_stream stream;
    static const uint64_t least[] = {50, 100, 200, 400, 800, 800, 800};
    hook_stream_begin(&stream, true, 1);
    for (size_t i = 0; i < sizeof(least) / sizeof(least[0]); i++) {
        hook_stream_failed(&stream, 0, &pace, 0, 0);
        assert_int_equal(stream.due_ms, least[i]);
    }
    for (uint32_t random = 0; random < 5000; random += 7) {
        hook_stream_failed(&stream, 0, &pace, random, 0);
        assert_in_range(stream.due_ms, 800, 1600);
    }
    hook_stream_failed(&stream, 5000, &pace, 0, 0);
    assert_int_equal(stream.due_ms, 5000);
    hook_stream_failed(&stream, UINT64_MAX, &pace, 0, 0); /* a day is not waited for */
    assert_int_equal(stream.due_ms, 3600 * 1000);
    hook_stream_hurry(&stream);
    assert_int_equal(stream.due_ms, 0);
}

static void test_too_large(void **state)
{
    struct hook_stream stream;
    const struct hook_answer large = {.too_large = true};
    hook_stream_begin(&stream, true, 0);
    for (uint64_t wanted = 10; wanted > 0; wanted /= 2) {
        struct hook_post post = next(&stream, 1, 1000);
        assert_int_equal(post.last - post.first + 1, wanted);
        assert_int_equal(answered(&stream, &post, large), HOOK_FAILED);
    }
    struct hook_post post = next(&stream, 1, 1000);
    assert_int_equal(post.last, 1); /* one at least */
    assert_int_equal(answered(&stream, &post, plain), HOOK_TAKEN);
    post = next(&stream, 1, 1000);
    assert_int_equal(post.last - post.first + 1, 2);
}

/* --- chance ----------------------------------------------------------------------------------- */

struct world {
    struct hook_stream stream;
    struct hook_kept kept;
    uint64_t stored; /* the cursor that a crash finds */
    uint64_t has;    /* the receiver's seq */
    uint64_t taken, missing;
    uint32_t random;
};

static uint32_t draw(struct world *world, uint32_t below)
{
    world->random = world->random * 1664525 + 1013904223;
    return (world->random >> 8) % below;
}

/* As docs/webhooks.md tells receivers to do it. */
static void receive(struct world *world, const struct hook_post *post, uint64_t until)
{
    if (post->kind == HOOK_RESET) {
        assert_int_equal(post->reset, HOOK_RESET_TRIMMED);
        if (post->seq <= world->has)
            return;
        assert_true(post->first <= world->has + 1); /* what is missing is named whole */
        world->missing += post->seq - world->has;
        world->has = post->seq;
        return;
    }
    for (uint64_t seq = post->first; seq <= until; seq++) {
        if (seq != world->has + 1)
            continue;
        world->has = seq;
        world->taken++;
    }
}

enum { LOST_REQUEST, PART, LOST_ANSWER, FATES = 5 };

static void exchange(struct world *world)
{
    struct hook_post post = hook_stream_next(&world->stream, &world->kept, 1 + draw(world, 8));
    uint32_t fate = draw(world, FATES);
    uint64_t until = post.first + draw(world, 3);
    if (post.kind == HOOK_NOTHING)
        return;
    if (fate != LOST_REQUEST)
        receive(world, &post, fate == PART && until < post.last ? until : post.last);
    const struct hook_answer answer = {
        .good = fate != LOST_REQUEST && fate != LOST_ANSWER,
        .has_seq = world->has != post.seq || draw(world, 2) == 0,
        .seq = world->has,
    };
    (void)hook_stream_answered(&world->stream, &post, &answer, world->kept.last, &pace, 0, 0);
    if (draw(world, 3) == 0)
        world->stored = world->stream.cursor;
}

static void run_world(struct world *world, uint64_t kept_max)
{
    hook_stream_begin(&world->stream, true, 0);
    for (unsigned step = 0; step < 2000; step++) {
        world->kept.last += draw(world, 4);
        while (world->kept.last + 1 - world->kept.first > kept_max)
            world->kept.first++;
        if (draw(world, 50) == 0)
            hook_stream_begin(&world->stream, true, world->stored); /* kill -9 */
        exchange(world);
    }
    while (world->has < world->kept.last)
        exchange(world);
    assert_int_equal(world->taken + world->missing, world->kept.last);
}

static void test_chance(void **state)
{
    uint64_t missing = 0;
    for (uint32_t seed = 0; seed < 300; seed++) {
        struct world all = {.kept = {1, 0}, .random = seed};
        run_world(&all, UINT64_MAX);
        assert_int_equal(all.missing, 0);
        struct world trimmed = {.kept = {1, 0}, .random = seed};
        run_world(&trimmed, 10);
        missing += trimmed.missing;
    }
    assert_true(missing > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_begins),  cmocka_unit_test(test_begins_with_a_boot),
        cmocka_unit_test(test_answers), cmocka_unit_test(test_trimmed),
        cmocka_unit_test(test_waits),   cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_chance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
