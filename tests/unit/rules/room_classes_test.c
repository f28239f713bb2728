/* SPDX-License-Identifier: Apache-2.0 */
#include "rules/room_classes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Each word at its limits and one beyond them, what is not said, which sentence is told, and which
 * class a room has. */

static struct room_classes *read_items(char *const *items, size_t count)
{
    struct room_classes *classes = NULL;
    char error[ROOM_CLASS_ERROR_BYTES];
    int failed = room_classes_read(items, count, &classes, error);
    assert_string_equal(error, "");
    assert_int_equal(failed, 0);
    assert_int_equal(classes->count, count);
    assert_null(classes->before);
    return classes;
}

/* The class of that one item. */
static struct room_class read_one(const char *item)
{
    struct room_classes *classes = read_items((char *const[]){(char *)item}, 1);
    struct room_class class = classes->classes[0];
    room_classes_destroy(classes);
    return class;
}

static void assert_refused(const char *item, const char *sentence)
{
    struct room_classes *classes = NULL;
    char error[ROOM_CLASS_ERROR_BYTES];
    char *const items[] = {"before", (char *)item, "behind"};
    assert_int_equal(room_classes_read(items, 3, &classes, error), -EINVAL);
    assert_string_equal(error, sentence);
    assert_null(classes);
}

/* "lobby WORD" is refused as that word, with what is accepted. */
static void assert_word_refused(const char *word, const char *accepted)
{
    char item[256], sentence[ROOM_CLASS_ERROR_BYTES];
    snprintf(item, sizeof(item), "lobby %s", word);
    snprintf(sentence, sizeof(sentence), "class lobby: '%.20s' is not one; accepted: %s", word,
             accepted);
    assert_refused(item, sentence);
}

static void test_none(void **state)
{
    struct room_classes *classes = read_items(NULL, 0);
    assert_null(room_class_of(classes, bytes_of_text("lobby")));
    assert_null(room_class_of(NULL, bytes_of_text("lobby")));
    assert_null(room_class_named(NULL, bytes_of_text("*"), bytes_of_text("lobby")));
    room_classes_destroy(classes);
    room_classes_destroy(NULL);
}

/* Whoever says nothing gets what is narrow. */
static void test_defaults(void **state)
{
    struct room_class class = read_one("lobby");
    assert_string_equal(class.pattern, "lobby");
    assert_string_equal(class.owner, "");
    assert_int_equal(class.create, ROOM_BACKEND);
    assert_int_equal(class.join, ROOM_BACKEND);
    assert_int_equal(class.publish, ROOM_MEMBER);
    assert_int_equal(class.roster, ROOM_ROSTER_NONE);
    assert_false(class.follows_messages);
    assert_int_equal(class.members_max, 4096);
    assert_int_equal(class.history_messages, 0);
    assert_true(class.history_ms == 0);
    assert_int_equal(class.tick_ms, 0);
    assert_true(class.idle_ms == UINT64_MAX); /* who can make it anew is told when it is closed */
    assert_true(read_one("lobby create=backend").idle_ms == UINT64_MAX);
    assert_true(read_one("lobby create=client").idle_ms == 12000);
    assert_true(read_one("lobby create=token").idle_ms == 12000);
    assert_true(read_one("lobby create=service owner=maker").idle_ms == 12000);
    assert_true(read_one("lobby create=client idle=never").idle_ms == UINT64_MAX);
    assert_true(read_one("lobby idle=0").idle_ms == 0);
}

static void test_who(void **state)
{
    static const struct {
        const char *word;
        size_t place;
        enum room_who who;
    } said[] = {
        {"create=backend", offsetof(struct room_class, create), ROOM_BACKEND},
        {"create=service", offsetof(struct room_class, create), ROOM_SERVICE},
        {"create=token", offsetof(struct room_class, create), ROOM_TOKEN},
        {"create=client", offsetof(struct room_class, create), ROOM_CLIENT},
        {"join=backend", offsetof(struct room_class, join), ROOM_BACKEND},
        {"join=service", offsetof(struct room_class, join), ROOM_SERVICE},
        {"join=token", offsetof(struct room_class, join), ROOM_TOKEN},
        {"join=any", offsetof(struct room_class, join), ROOM_CLIENT},
        {"publish=backend", offsetof(struct room_class, publish), ROOM_BACKEND},
        {"publish=member", offsetof(struct room_class, publish), ROOM_MEMBER},
        {"publish=any", offsetof(struct room_class, publish), ROOM_CLIENT},
        {"roster=none", offsetof(struct room_class, roster), (enum room_who)ROOM_ROSTER_NONE},
        {"roster=count", offsetof(struct room_class, roster), (enum room_who)ROOM_ROSTER_COUNT},
        {"roster=list", offsetof(struct room_class, roster), (enum room_who)ROOM_ROSTER_LIST},
    };
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
        char item[64];
        snprintf(item, sizeof(item), "lobby owner=maker %s", said[i].word);
        struct room_class class = read_one(item);
        assert_int_equal(*((const uint8_t *)&class + said[i].place), said[i].who);
    }
    static const char create[] = "create=backend|service|token|client";
    static const char join[] = "join=backend|service|token|any";
    static const char publish[] = "publish=backend|member|any";
    assert_word_refused("create=any", create);
    assert_word_refused("create=member", create);
    assert_word_refused("create=", create);
    assert_word_refused("create=Client", create);
    assert_word_refused("join=client", join);
    assert_word_refused("join=anyone", join);
    assert_word_refused("publish=token", publish);
    assert_word_refused("publish=service", publish);
    assert_word_refused("roster=names", "roster=none|count|list");
}

static void test_members(void **state)
{
    static const char accepted[] = "members= 1 to 1000000";
    assert_int_equal(read_one("lobby members=1").members_max, 1);
    assert_int_equal(read_one("lobby members=1000000").members_max, ROOM_MEMBERS_MAX);
    assert_word_refused("members=0", accepted);
    assert_word_refused("members=1000001", accepted);
    assert_word_refused("members=99999999999999999999999", accepted);
    assert_word_refused("members=-1", accepted);
    assert_word_refused("members=10k", accepted);
    assert_word_refused("members=", accepted);
}

/* What everybody is shown is shorter. */
static void test_roster(void **state)
{
    static const char sentence[] = "class lobby says roster=list, which has members=1024 at most";
    assert_int_equal(read_one("lobby roster=list").members_max, 256);
    assert_int_equal(read_one("lobby roster=list members=1024").members_max, 1024);
    assert_int_equal(read_one("lobby members=1024 roster=list").members_max, 1024);
    assert_refused("lobby roster=list members=1025", sentence);
    assert_refused("lobby members=1025 roster=list", sentence);
    assert_int_equal(read_one("lobby roster=count members=1025").members_max, 1025);
    assert_int_equal(read_one("lobby roster=count").members_max, 4096);
}

static void test_history(void **state)
{
    static const char accepted[] = "history=MESSAGES/TIME, 0 to 256 messages, as in 64/60s";
    struct room_class class = read_one("lobby history=64/60s");
    assert_int_equal(class.history_messages, 64);
    assert_true(class.history_ms == 60000);
    class = read_one("lobby history=256/7d");
    assert_int_equal(class.history_messages, ROOM_HISTORY_MESSAGES_MAX);
    assert_true(class.history_ms == UINT64_C(7) * 86400 * 1000);
    class = read_one("lobby history=0/0");
    assert_int_equal(class.history_messages, 0);
    assert_word_refused("history=257/60s", accepted);
    assert_word_refused("history=64/8d", accepted);
    assert_word_refused("history=64/604800001ms", accepted);
    assert_word_refused("history=64", accepted);
    assert_word_refused("history=64/", accepted);
    assert_word_refused("history=/60s", accepted);
    assert_word_refused("history=64/60", accepted);
    assert_word_refused("history=64/60s/1", accepted);
    assert_word_refused("history=0000000000000064/60s", accepted); /* sixteen digits */
}

static void test_times(void **state)
{
    static const char tick[] = "tick=TIME, 0 to 60s, as in 50ms";
    static const char idle[] = "idle=TIME, 0 to 7d, as in 12s, or never";
    assert_int_equal(read_one("lobby tick=0").tick_ms, 0);
    assert_int_equal(read_one("lobby tick=50ms").tick_ms, 50);
    assert_int_equal(read_one("lobby tick=60000ms").tick_ms, 60000);
    assert_int_equal(read_one("lobby tick=60s").tick_ms, 60000);
    assert_int_equal(read_one("lobby tick=1m").tick_ms, 60000);
    assert_word_refused("tick=60001ms", tick);
    assert_word_refused("tick=61s", tick);
    assert_word_refused("tick=2m", tick);
    assert_word_refused("tick=1h", tick);
    assert_word_refused("tick=50", tick);
    assert_word_refused("tick=ms", tick);
    assert_word_refused("tick=never", tick);
    assert_word_refused("tick=5sec", tick);
    assert_true(read_one("lobby idle=1h").idle_ms == 3600000);
    assert_true(read_one("lobby idle=7d").idle_ms == UINT64_C(7) * 86400 * 1000);
    assert_true(read_one("lobby idle=168h").idle_ms == UINT64_C(7) * 86400 * 1000);
    assert_true(read_one("lobby idle=604800000ms").idle_ms == UINT64_C(7) * 86400 * 1000);
    assert_word_refused("idle=604800001ms", idle);
    assert_word_refused("idle=169h", idle);
    assert_word_refused("idle=8d", idle);
    assert_word_refused("idle=ever", idle);
}

static void test_owner(void **state)
{
    char item[160], name[66];
    memset(name, 'n', sizeof(name));
    snprintf(item, sizeof(item), "lobby owner=%.64s", name);
    assert_int_equal(strlen(read_one(item).owner), 64);
    snprintf(item, sizeof(item), "owner=%.65s", name);
    assert_word_refused(item, "owner=SERVICE");
    assert_word_refused("owner=", "owner=SERVICE");
    assert_word_refused("owner=a/b", "owner=SERVICE");
    assert_refused("lobby create=service", "class lobby asks its owner, and names none");
    assert_refused("lobby join=service", "class lobby asks its owner, and names none");
    assert_int_equal(read_one("lobby join=service owner=maker").join, ROOM_SERVICE);
    assert_true(read_one("lobby follow=messages owner=maker").follows_messages);
    assert_false(read_one("lobby follow=members").follows_messages);
    assert_refused("lobby follow=messages",
                   "class lobby says follow=messages, and neither owner nor webhook");
    assert_true(read_one("lobby follow=messages webhook=yes").follows_messages);
    assert_word_refused("follow=all", "follow=members|messages");
}

static void test_webhook(void **state)
{
    char *items[] = {"lobby join=any", "match:* webhook=yes"};
    struct room_classes *classes = NULL;
    char error[ROOM_CLASS_ERROR_BYTES];
    assert_true(read_one("lobby webhook=yes").webhook);
    assert_false(read_one("lobby webhook=no").webhook || read_one("lobby").webhook);
    assert_word_refused("webhook=true", "webhook=yes|no");
    assert_false(room_classes_post(NULL));
    for (size_t count = 1; count <= 2; count++) {
        assert_int_equal(room_classes_read(items, count, &classes, error), 0);
        assert_int_equal(room_classes_post(classes), count == 2);
        room_classes_destroy(classes);
    }
}

static void test_words(void **state)
{
    struct room_class class =
        read_one(" \tlobby \t tick=50ms\towner=maker  join=any roster=count history=8/5m "
                 "create=token publish=any members=9 idle=1d follow=messages ");
    assert_string_equal(class.pattern, "lobby");
    assert_string_equal(class.owner, "maker");
    assert_true(class.create == ROOM_TOKEN && class.join == ROOM_CLIENT);
    assert_true(class.publish == ROOM_CLIENT && class.roster == ROOM_ROSTER_COUNT);
    assert_true(class.members_max == 9 && class.history_messages == 8 && class.tick_ms == 50);
    assert_true(class.history_ms == 300000 && class.idle_ms == 86400000);
    assert_refused("lobby join", "class lobby: 'join' is not of the form name=value");
    assert_refused("lobby join=any join=any", "class lobby: 'join' stands twice");
    assert_refused("lobby Join=any",
                   "class lobby: 'Join' is none of create, join, publish, roster, members, "
                   "history, tick, idle, owner, follow, webhook");
    assert_refused("lobby =any",
                   "class lobby: '' is none of create, join, publish, roster, members, "
                   "history, tick, idle, owner, follow, webhook");
}

/* The longest sentence about the longest pattern is told to its end. */
static void test_long(void **state)
{
    char item[300], name[66], sentence[ROOM_CLASS_ERROR_BYTES];
    memset(name, 'n', sizeof(name));
    snprintf(item, sizeof(item), "%.64s* abcdefghijklmnopqrstuvwxyz=1", name);
    int size = snprintf(sentence, sizeof(sentence),
                        "class %.64s*: 'abcdefghijklmnopqrst' is none of create, join, publish, "
                        "roster, members, history, tick, idle, owner, follow, webhook",
                        name);
    assert_in_range(size, 1, ROOM_CLASS_ERROR_BYTES - 1);
    assert_refused(item, sentence);
    memset(item, ' ', sizeof(item));
    memcpy(item, "lobby", 5);
    item[255] = '\0';
    assert_string_equal(read_one(item).pattern, "lobby");
    item[255] = ' ';
    item[256] = '\0';
    assert_refused(item, "a class of more than 255 bytes");
}

static void assert_pattern_refused(const char *pattern)
{
    char sentence[ROOM_CLASS_ERROR_BYTES];
    snprintf(sentence, sizeof(sentence),
             "'%.60s' does not begin with a pattern: a name, or the beginning of one and a *",
             pattern);
    assert_refused(pattern, sentence);
}

static void test_patterns(void **state)
{
    char name[70];
    memset(name, 'n', sizeof(name));
    name[64] = '\0';
    assert_string_equal(read_one(name).pattern, name);
    strcpy(name + 64, "*");
    assert_string_equal(read_one(name).pattern, name);
    strcpy(name + 64, "n");
    assert_pattern_refused(name);
    strcpy(name + 64, "n*");
    assert_pattern_refused(name);
    assert_string_equal(read_one("*").pattern, "*");
    assert_pattern_refused("");
    assert_pattern_refused("  ");
    assert_pattern_refused("**");
    assert_pattern_refused("a*b");
    assert_pattern_refused("*a");
    assert_pattern_refused("a/b");
    assert_pattern_refused("join=any"); /* the pattern was forgotten */
}

static bool fits(const char *pattern, const char *room)
{
    return room_pattern_fits(bytes_of_text(pattern), bytes_of_text(room));
}

static void test_fits(void **state)
{
    assert_true(fits("lobby", "lobby"));
    assert_false(fits("lobby", "lobby1"));
    assert_false(fits("lobby", "lobb"));
    assert_false(fits("lobby", "Lobby"));
    assert_true(fits("match:*", "match:1"));
    assert_true(fits("match:*", "match:"));
    assert_false(fits("match:*", "match"));
    assert_false(fits("match:*", "rematch:1"));
    assert_true(fits("*", "a"));
    assert_true(fits("*", ""));
    assert_false(fits("", "a"));
}

static const struct room_class *named(const struct room_classes *classes, const char *pattern)
{
    return room_class_named(classes, bytes_of_text(pattern), bytes_of_text("match:1"));
}

/* The order counts, not which pattern is longer. */
static void test_first_match(void **state)
{
    char *const items[] = {"match:1* members=1", "match:* members=2", "match:12 members=3",
                           "* members=4"};
    struct room_classes *classes = read_items(items, 4);
    assert_ptr_equal(room_class_of(classes, bytes_of_text("match:1")), &classes->classes[0]);
    assert_ptr_equal(room_class_of(classes, bytes_of_text("match:12")), &classes->classes[0]);
    assert_ptr_equal(room_class_of(classes, bytes_of_text("match:2")), &classes->classes[1]);
    assert_ptr_equal(room_class_of(classes, bytes_of_text("lobby")), &classes->classes[3]);
    assert_ptr_equal(named(classes, "match:*"), &classes->classes[1]);
    assert_ptr_equal(named(classes, "*"), &classes->classes[3]);
    assert_null(named(classes, "match:12")); /* it is one, and does not fit */
    assert_null(named(classes, "match:"));
    assert_null(named(classes, ""));
    room_classes_destroy(classes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),    cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_who),     cmocka_unit_test(test_members),
        cmocka_unit_test(test_roster),  cmocka_unit_test(test_history),
        cmocka_unit_test(test_times),   cmocka_unit_test(test_owner),
        cmocka_unit_test(test_webhook), cmocka_unit_test(test_words),
        cmocka_unit_test(test_long),    cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_fits),    cmocka_unit_test(test_first_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
