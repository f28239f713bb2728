/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files/token_file.h"

/* The one rule by which all programs read tokens, and who may reach a secret. */

static char path[] = "/tmp/usher-token-XXXXXX";

static int set_up(void **state)
{
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
    return unlink(path);
}

static int read_as(const void *content, size_t size, char **token, size_t *token_size)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return token_file_read(path, token, token_size);
}

static void the_first_line_is_the_token(void **state)
{
    const char *const contents[] = {
        "abc def",         "abc def\n",
        "abc def\r\n",     "abc def\n\n",
        "abc def\nsecond", "abc def\r\nnext\r\n",
        " abc def \t\r\n", "\tabc def",
        "abc def\r",       "abc def\n# the token of the link\n",
    };
    for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
        char *token;
        size_t size;
        assert_int_equal(read_as(contents[i], strlen(contents[i]), &token, &size), 0);
        assert_int_equal(size, strlen("abc def"));
        assert_string_equal(token, "abc def");
        free(token);
    }
}

static void what_is_no_token_is_refused_and_why(void **state)
{
    const struct {
        const char *content;
        size_t size;
        int error;
    } rows[] = {{"", 0, -ENODATA},           {"\n", 1, -ENODATA},  {"\r\n", 2, -ENODATA},
                {" \t\r\nabc", 7, -ENODATA}, {"a\0b", 3, -EILSEQ}, {"\0", 1, -EILSEQ}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *token;
        size_t size;
        assert_int_equal(read_as(rows[i].content, rows[i].size, &token, &size), rows[i].error);
        assert_null(token);
        assert_non_null(strstr(token_file_fault(rows[i].error), "the first line"));
    }
    char *token;
    size_t size;
    assert_int_equal(token_file_read("/nowhere/token", &token, &size), -ENOENT);
    assert_int_equal(token_file_read("/tmp", &token, &size), -EISDIR);
    assert_string_equal(token_file_fault(-ENOENT), strerror(ENOENT));
}

static void its_length_is_limited(void **state)
{
    static char content[TOKEN_FILE_BYTES_MAX + 1000];
    char *token;
    size_t size;
    memset(content, 'x', sizeof(content));
    content[TOKEN_FILE_BYTES_MAX] = '\r';
    content[TOKEN_FILE_BYTES_MAX + 1] = '\n';
    assert_int_equal(read_as(content, sizeof(content), &token, &size), 0);
    assert_int_equal(size, TOKEN_FILE_BYTES_MAX);
    free(token);
    content[TOKEN_FILE_BYTES_MAX] = 'x';
    assert_int_equal(read_as(content, sizeof(content), &token, &size), -EMSGSIZE);
    memset(content, 'x', sizeof(content)); /* without an end */
    assert_int_equal(read_as(content, sizeof(content), &token, &size), -EMSGSIZE);
}

static void who_may_reach_it(void **state)
{
    const struct {
        mode_t mode;
        bool open;
    } rows[] = {{0600, false}, {0400, false}, {0640, false}, {0660, false}, {0604, true},
                {0602, true},  {0606, true},  {0601, true},  {0644, true},  {0666, true}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        unsigned mode = 0;
        assert_int_equal(chmod(path, rows[i].mode), 0);
        assert_int_equal(file_is_open_to_others(path, &mode), rows[i].open);
        assert_int_equal(mode, rows[i].mode);
    }
    unsigned mode = 0;
    assert_false(file_is_open_to_others("/nowhere/token", &mode));
}

/* Whoever opens the others may wait for ever. */
static void what_has_an_end(void **state)
{
    char pipe[] = "/tmp/usher-named-XXXXXX";
    assert_non_null(mkdtemp(pipe));
    assert_int_equal(file_check(path), 0);
    assert_int_equal(file_check("/nowhere/file"), -ENOENT);
    assert_int_equal(file_check(pipe), -ENOTSUP);
    assert_int_equal(rmdir(pipe), 0);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(file_check(pipe), -ENOTSUP);
    assert_int_equal(unlink(pipe), 0);
    assert_int_equal(file_check("/dev/null"), -ENOTSUP);
    assert_int_equal(truncate(path, NAMED_FILE_BYTES_MAX), 0);
    assert_int_equal(file_check(path), 0);
    assert_int_equal(truncate(path, NAMED_FILE_BYTES_MAX + 1), 0);
    assert_int_equal(file_check(path), -EFBIG);
    assert_string_equal(file_fault(-ENOENT), strerror(ENOENT));
    assert_string_equal(token_file_fault(-EFBIG), file_fault(-EFBIG));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_line_is_the_token),
        cmocka_unit_test(what_is_no_token_is_refused_and_why),
        cmocka_unit_test(its_length_is_limited),
        cmocka_unit_test(who_may_reach_it),
        cmocka_unit_test(what_has_an_end),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
