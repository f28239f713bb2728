/* SPDX-License-Identifier: Apache-2.0 */
#include "common/options.h"

#include <getopt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* A program of two commands: what its rows make of a command line. */

enum { GO, STAY };

struct values {
    bool quick;
    uint64_t count;
    double seconds;
    const char *name;
};

#define FIELD(field) offsetof(struct values, field)

static const struct option_row rows[] = {
    {"quick", 'q', OPTION_FLAG, FIELD(quick), 0, 0, 1 << GO, NULL, NULL},
    {"slow", 0, OPTION_NO_FLAG, FIELD(quick), 0, 0, 0, NULL, NULL},
    {"count", 'c', OPTION_COUNT, FIELD(count), 2, OPTION_COUNT_MAX, 0, NULL, NULL},
    {"seconds", 0, OPTION_REAL, FIELD(seconds), 0.5, 10, 1 << STAY, NULL, NULL},
    {"name", 0, OPTION_TEXT, FIELD(name), 0, 0, 0, NULL, NULL},
};

static void print_help(void)
{
    puts("help");
}

static const struct option_set set = {
    .program = "walk",
    .print_help = print_help,
    .rows = rows,
    .count = sizeof(rows) / sizeof(*rows),
    .passes_on = "store",
};

/* What a command line of these words came to; `line` is cut up and must stay. */
static struct line {
    char text[128];
    char *argv[16];
    struct values values;
    struct option_words words;
    enum option_end end;
} line;

static void read_line(const char *text)
{
    int argc = 0;
    memset(&line, 0, sizeof(line));
    snprintf(line.text, sizeof(line.text), "walk %s", text);
    for (char *word = strtok(line.text, " "); word != NULL; word = strtok(NULL, " "))
        line.argv[argc++] = word;
    optind = 0; /* getopt begins anew */
    line.end = options_read(&set, argc, line.argv, &line.values, &line.words);
}

static void reads(const char *text)
{
    read_line(text);
    assert_int_equal(line.end, OPTIONS_READ);
}

static void is_wrong(const char *text)
{
    read_line(text);
    assert_int_equal(line.end, OPTIONS_WRONG);
}

static void options_stand_anywhere(void **state)
{
    reads("-q go --count=7 there --seconds 1.5 --name x");
    assert_true(line.values.quick);
    assert_int_equal(line.values.count, 7);
    assert_true(line.values.seconds == 1.5);
    assert_string_equal(line.values.name, "x");
    assert_int_equal(line.words.count, 2);
    assert_string_equal(line.words.words[0], "go");
    assert_string_equal(line.words.words[1], "there");
    assert_int_equal(line.words.given, 1 | 4 | 8 | 16);
}

static void the_last_one_counts(void **state)
{
    reads("go -q --slow --name a --name b");
    assert_false(line.values.quick);
    assert_string_equal(line.values.name, "b");
}

static void options_end(void **state)
{
    reads("go -- -q --count 3");
    assert_false(line.values.quick);
    assert_int_equal(line.words.count, 4);
    assert_string_equal(line.words.words[1], "-q");
}

/* Only as the first word: behind it stands what another program reads. */
static void a_word_passes_on_what_follows(void **state)
{
    reads("-q store --nonsense -x");
    assert_true(line.values.quick);
    assert_int_equal(line.words.count, 3);
    assert_string_equal(line.words.words[1], "--nonsense");
    reads("go store -q");
    assert_true(line.values.quick);
    assert_int_equal(line.words.count, 2);
}

static void a_count_keeps_all_its_digits(void **state)
{
    reads("--count 18446744073709551615");
    assert_true(line.values.count == UINT64_MAX);
    reads("--count 1e5");
    assert_int_equal(line.values.count, 100000);
    is_wrong("--count 18446744073709551616");
    is_wrong("--count 1");
    is_wrong("--count 2.5");
    is_wrong("--count -3");
    is_wrong("--count 3x");
    is_wrong("--count ten");
    is_wrong("--count=");
}

static void a_real_has_its_bounds(void **state)
{
    reads("--seconds 0.5");
    reads("--seconds 10");
    is_wrong("--seconds 0.49");
    is_wrong("--seconds 10.1");
    is_wrong("--seconds nan");
    is_wrong("--seconds x");
}

static void what_is_not_known_is_refused(void **state)
{
    is_wrong("--nonsense");
    is_wrong("-z");
    is_wrong("go --name");
}

static void help_and_version_are_all_that_is_done(void **state)
{
    read_line("--help --nonsense");
    assert_int_equal(line.end, OPTIONS_SHOWN);
    read_line("go --version");
    assert_int_equal(line.end, OPTIONS_SHOWN);
}

static void an_option_means_something_for_the_command(void **state)
{
    reads("-q --count 3");
    assert_true(options_fit(&set, &line.words, GO, "go"));
    assert_false(options_fit(&set, &line.words, STAY, "stay"));
    reads("--slow --seconds 1");
    assert_false(options_fit(&set, &line.words, GO, "go"));
    assert_true(options_fit(&set, &line.words, STAY, "stay"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_stand_anywhere),
        cmocka_unit_test(the_last_one_counts),
        cmocka_unit_test(options_end),
        cmocka_unit_test(a_word_passes_on_what_follows),
        cmocka_unit_test(a_count_keeps_all_its_digits),
        cmocka_unit_test(a_real_has_its_bounds),
        cmocka_unit_test(what_is_not_known_is_refused),
        cmocka_unit_test(help_and_version_are_all_that_is_done),
        cmocka_unit_test(an_option_means_something_for_the_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
