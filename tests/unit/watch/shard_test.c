/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/watch/scene.h"

static void the_first_state_is_the_stores(void **state)
{
    struct scene *scene = *state;
    watch(scene, ANN, 1, "bob");
    EXPECT(scene, "look bob\n");
    watch(scene, EVE, 4, "bob"); /* meanwhile: the same answer will do */
    EXPECT(scene, "");
    answer(scene, 0, WATCH_ONLINE, 3);
    EXPECT(scene, "901 0/1 bob ONLINE since 50\n902 0/4 bob ONLINE since 50\n");
    watch(scene, EVE, 5, "cid");
    answer(scene, 0, WATCH_OFFLINE, 0);
    EXPECT(scene, "902 0/5 cid OFFLINE\n");
    give(scene, event(scene, "bob", OFFLINE, 3));
    EXPECT(scene, "901 0/1 bob OFFLINE since 100\n902 0/4 bob OFFLINE since 100\n");
    watch(scene, ANN, 2, "bob"); /* known: at once */
    EXPECT(scene, "901 0/2 bob OFFLINE since 100\n");
}

/* What comes before the answer is told by nobody before it; behind the stamp it is what counts. */
static void no_event_is_told_before_the_first_state(void **state)
{
    struct scene *scene = *state;
    watch(scene, ANN, 1, "bob");
    give(scene, event(scene, "bob", ONLINE, 3));
    EXPECT(scene, "");
    give(scene, event(scene, "bob", OFFLINE, 3));
    EXPECT(scene, "");
    give(scene, event(scene, "bob", ONLINE, 4));
    answer(scene, 1, WATCH_ONLINE, 3);
    EXPECT(scene, "901 0/1 bob ONLINE since 300\n");
}

/* The store had seen more than has come through the mailbox: what comes of it is passed over. */
static void what_the_stamp_covers_is_passed_over(void **state)
{
    struct scene *scene = *state;
    watch(scene, ANN, 1, "bob");
    struct message *first = event(scene, "bob", ONLINE, 3);
    struct message *second = event(scene, "bob", OFFLINE, 3);
    give(scene, first);
    answer(scene, 2, WATCH_OFFLINE, 0);
    EXPECT(scene, "901 0/1 bob OFFLINE\n");
    give(scene, second);
    EXPECT(scene, "");
    give(scene, event(scene, "bob", ONLINE, 4));
    EXPECT(scene, "901 0/1 bob ONLINE since 300\n");
}

static void a_lost_connection_is_shown_only_if_that_is_wanted(void **state)
{
    struct scene *scene = *state;
    for (unsigned show = 0; show < 2; show++) {
        scene->settings.friends_show_away = show != 0;
        watch(scene, ANN, 1, "bob");
        answer(scene, scene->seq, WATCH_ONLINE, 3);
        give(scene, event(scene, "bob", DETACHED, 3));
        EXPECT(scene, show == 0 ? "" : "901 0/1 bob AWAY since 600\n");
        give(scene, event(scene, "bob", RESUMED, 3));
        EXPECT(scene, show == 0 ? "" : "901 0/1 bob ONLINE since 700\n");
        give(scene, event(scene, "bob", ONLINE, 4)); /* a takeover */
        EXPECT(scene, "");
        give(scene, event(scene, "bob", DETACHED, 4));
        give(scene, event(scene, "bob", OFFLINE, 4));
        EXPECT(scene,
               show == 0 ? "901 0/1 bob OFFLINE since 500\n" : "901 0/1 bob OFFLINE since 1000\n");
        unwatch(scene, ANN, 1, "bob");
    }
}

static void a_status_ends_with_the_login_that_said_it(void **state)
{
    struct scene *scene = *state;
    say(scene, "bob", 3, "early", false, false); /* before anybody watches */
    EXPECT(scene, "");
    watch(scene, ANN, 1, "bob");
    answer(scene, 0, WATCH_ONLINE, 3);
    EXPECT(scene, "901 0/1 bob ONLINE 'early' since 50\n");
    say(scene, "bob", 3, "more", false, false);
    EXPECT(scene, "901 0/1 bob ONLINE 'more' since 5000\n");
    give(scene, event(scene, "bob", ONLINE, 4));
    EXPECT(scene, "901 0/1 bob ONLINE since 100\n");
    say(scene, "bob", 3, "late", false, false);
    EXPECT(scene, "");
    say(scene, "bob", 4, "hidden", true, false);
    EXPECT(scene, "901 0/1 bob OFFLINE since 5000\n");
    give(scene, event(scene, "bob", DETACHED, 4));
    give(scene, event(scene, "bob", OFFLINE, 4));
    EXPECT(scene, "");
    say(scene, "bob", 4, "", false, true);
    EXPECT(scene, "");
    give(scene, event(scene, "bob", ONLINE, 5));
    EXPECT(scene, "901 0/1 bob ONLINE since 400\n");
}

/* While nobody watches no events come, so an answer that was asked for before may be too old. */
static void who_comes_back_is_looked_up_anew(void **state)
{
    struct scene *scene = *state;
    watch(scene, ANN, 1, "bob");
    unwatch(scene, ANN, 1, "bob");
    scene->seq++; /* an event that nobody posts */
    watch(scene, ANN, 2, "bob");
    EXPECT(scene, "");
    answer(scene, 0, WATCH_ONLINE, 3);
    EXPECT(scene, "look bob\n");
    answer(scene, 1, WATCH_OFFLINE, 0);
    EXPECT(scene, "901 0/2 bob OFFLINE\n");
    unwatch(scene, ANN, 2, "bob");
    watch(scene, ANN, 3, "bob");
    EXPECT(scene, "look bob\n");
}

static void a_stale_shard_asks_for_all(void **state)
{
    struct scene *scene = *state;
    watch(scene, ANN, 1, "bob");
    answer(scene, 0, WATCH_ONLINE, 3);
    scene->seq++; /* bob's OFFLINE, for which there was no room */
    atomic_store(&scene->counters.watch_stale, 1 | 4);
    struct watch_stale_message *stale = message_create(MESSAGE_WATCH_STALE, sizeof(*stale));
    stale->number = 0;
    give(scene, &stale->header);
    EXPECT(scene, "look bob\n");
    assert_int_equal(atomic_load(&scene->counters.watch_stale), 4);
    give(scene, event(scene, "bob", ONLINE, 4)); /* newer than the answer will be */
    answer(scene, 1, WATCH_OFFLINE, 0);
    EXPECT(scene, "");
    give(scene, event(scene, "bob", OFFLINE, 4));
    EXPECT(scene, "901 0/1 bob OFFLINE since 300\n");
    stale = message_create(MESSAGE_WATCH_STALE, sizeof(*stale));
    stale->number = 0;
    give(scene, &stale->header);
    answer(scene, 4, WATCH_ONLINE, 5);
    EXPECT(scene, "901 0/1 bob ONLINE since 50\n");
}

static void a_store_that_fails_is_asked_again(void **state)
{
    struct scene *scene = *state;
    watch(scene, ANN, 1, "bob");
    scene->asked->failed = true;
    answer(scene, 0, WATCH_OFFLINE, 0);
    EXPECT(scene, "timer +1000\n");
    watch(scene, EVE, 1, "cid");
    EXPECT(scene, "");
    scene->now_ms += 1000;
    give(scene, message_create(MESSAGE_TICK, sizeof(struct message)));
    EXPECT(scene, "look bob cid\n");
    answer(scene, 0, WATCH_OFFLINE, 0);
    EXPECT(scene, "901 0/1 bob OFFLINE\n902 0/1 cid OFFLINE\n");
}

static void watchers_are_limited(void **state)
{
    struct scene *scene = *state;
    scene->limits.friends_watchers = 1;
    struct watch_message *message = pair(scene, MESSAGE_WATCH, ANN, 1, "bob");
    message->asks = true;
    give(scene, &message->header);
    EXPECT(scene, "901 0/1 taken\nlook bob\n");
    watch(scene, EVE, 1, "bob");
    EXPECT(scene, "902 0/1 full\n");
    unwatch(scene, EVE, 1, "bob");
    answer(scene, 0, WATCH_ONLINE, 3);
    EXPECT(scene, "901 0/1 bob ONLINE since 50\n");
    unwatch(scene, ANN, 1, "bob");
    watch(scene, EVE, 2, "bob");
    answer(scene, 0, WATCH_ONLINE, 3);
    EXPECT(scene, "902 0/2 bob ONLINE since 50\n");
    assert_int_equal(metrics_read(scene->metrics, METRIC_friends_watchers_full), 1);
}

/* Several at once are answered at once, each in its own way. */
static void several_are_answered_together(void **state)
{
    struct scene *scene = *state;
    scene->limits.friends_watchers = 1;
    watch(scene, EVE, 1, "bob");
    watch(scene, ANN, 1, "cid");
    answer(scene, 0, WATCH_ONLINE, 3);
    answer(scene, 0, WATCH_ONLINE, 3);
    unwatch(scene, ANN, 1, "cid");
    watch(scene, ANN, 2, "dan");
    answer(scene, 0, WATCH_OFFLINE, 0);
    scene->limits.friends_watchers = 2;
    watch(scene, EVE, 2, "dan");
    struct watch_message *message = watch_message_create(MESSAGE_WATCH, ANN, 4, 12);
    message->asks = true;
    add_pair(scene, message, 7, "bob");
    add_pair(scene, message, 8, "dan");
    add_pair(scene, message, 9, "new");
    add_pair(scene, message, 10, "cid");
    give(scene, &message->header);
    EXPECT(scene, "901 0/7 bob ONLINE since 50\n901 0/8 full\n901 0/9 taken\n901 0/10 taken\n"
                  "look new cid\n");
    message = watch_message_create(MESSAGE_UNWATCH, ANN, 2, 6);
    add_pair(scene, message, 7, "bob");
    add_pair(scene, message, 9, "new");
    give(scene, &message->header);
    answer(scene, scene->seq, WATCH_ONLINE, 3);
    EXPECT(scene, "901 0/10 cid ONLINE since 50\n");
}

/* 10,000 watchers: no turn tells more than 4,096, nobody is left out, whoever leaves between. */
static void many_are_told_in_slices(void **state)
{
    struct scene *scene = *state;
    enum { MANY = 10000, SLICE = 4096 };
    uint8_t *seen = calloc(MANY + 1, 1);
    begin(scene);
    for (uint32_t i = 1; i <= MANY; i++)
        watch_receive(&scene->place, &pair(scene, MESSAGE_WATCH, 1000 + i, i, "bob")->header,
                      &scene->turn);
    end(scene);
    answer(scene, 0, WATCH_ONLINE, 3);
    uint32_t told = scene->told;
    assert_int_equal(told, SLICE);
    for (unsigned turns = 0; strstr(scene->tape, "more") != NULL; turns++) {
        assert_true(scene->told <= SLICE && turns < 4);
        for (char *line = scene->tape; *line != '\0' && *line != 'm'; line = strchr(line, '\n') + 1)
            seen[atoi(strchr(line, '/') + 1)] = 1;
        /* One who has been told, and one who has not. */
        begin(scene);
        for (uint32_t i = 0; i < 2; i++)
            watch_receive(&scene->place,
                          &pair(scene, MESSAGE_UNWATCH, 1000 + (i ? MANY - turns : 1 + turns),
                                i ? MANY - turns : 1 + turns, "bob")
                               ->header,
                          &scene->turn);
        watch_receive(&scene->place, message_create(MESSAGE_WATCH_MORE, sizeof(struct message)),
                      &scene->turn);
        end(scene);
    }
    for (char *line = scene->tape; *line != '\0'; line = strchr(line, '\n') + 1)
        seen[atoi(strchr(line, '/') + 1)] = 1;
    for (uint32_t i = 1; i <= MANY - 2; i++)
        assert_true(seen[i]);
    free(seen);
}

/* All that it held is given back. */
static void nothing_is_left_of_who_is_not_watched(void **state)
{
    struct scene *scene = *state;
    char name[16];
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 1000; i++) {
            snprintf(name, sizeof(name), "u%u", i);
            watch(scene, ANN, i + 1, name);
            if (scene->asked != NULL)
                answer(scene, 0, WATCH_ONLINE, 3);
        }
        while (scene->asked != NULL)
            answer(scene, 0, WATCH_ONLINE, 3);
        for (uint32_t i = 0; i < 1000; i++) {
            snprintf(name, sizeof(name), "u%u", i);
            unwatch(scene, ANN, i + 1, name);
            give(scene, event(scene, name, OFFLINE, 3));
            EXPECT(scene, "");
        }
    }
    watch(scene, ANN, 1, "u7");
    EXPECT(scene, "look u7\n");
}

/* By a command that names this actor as if it were a user. */
static void it_is_nobodys_friend(void **state)
{
    struct scene *scene = *state;
    struct deliver_message *message = deliver_create(bytes_of_text("x"), bytes_of_text("y"));
    message->sender = ANN;
    message->request = 7;
    give(scene, &message->header);
    EXPECT(scene, "?\n"); /* the refusal */
}

#define scene_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        scene_test(the_first_state_is_the_stores),
        scene_test(no_event_is_told_before_the_first_state),
        scene_test(what_the_stamp_covers_is_passed_over),
        scene_test(a_lost_connection_is_shown_only_if_that_is_wanted),
        scene_test(a_status_ends_with_the_login_that_said_it),
        scene_test(who_comes_back_is_looked_up_anew),
        scene_test(a_stale_shard_asks_for_all),
        scene_test(a_store_that_fails_is_asked_again),
        scene_test(watchers_are_limited),
        scene_test(several_are_answered_together),
        scene_test(many_are_told_in_slices),
        scene_test(nothing_is_left_of_who_is_not_watched),
        scene_test(it_is_nobodys_friend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
