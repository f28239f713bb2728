/* SPDX-License-Identifier: Apache-2.0 */
#include "persist_stand.h"

#include <sys/mman.h>
#include <unistd.h>

/* What the log says of a start and of a stop is so. */

enum { TEXT_BYTES = 65536 };

static int open_logged(struct stand *stand)
{
    const struct log_options options = {.fd = memfd_create("log", MFD_CLOEXEC),
                                        .json = true,
                                        .env = stand->hall.env,
                                        .lines_per_second_per_event = UINT32_MAX};
    assert_int_equal(log_open(&stand->survivors.log, &options), 0);
    return options.fd;
}

static void expect_logged(struct stand *stand, int fd, const char *part)
{
    static char text[TEXT_BYTES];
    log_close(stand->survivors.log);
    stand->survivors.log = NULL;
    ssize_t size = pread(fd, text, sizeof(text) - 1, 0);
    assert_true(size >= 0);
    text[size] = '\0';
    close(fd);
    if (strstr(text, part) == NULL)
        fail_msg("no \"%s\" in: %s", part, text);
}

static void log_some_in(struct stand *stand, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "user%u", i);
        log_in(stand, name, 1 + i);
    }
    stand_run(stand);
}

static void how_many_were_restored(void **state)
{
    char error[BROKER_ERROR_BYTES];
    struct stand *stand = *state;
    log_some_in(stand, 300);
    stand = stand_make(stand_leave(stand));
    *state = stand;
    int fd = open_logged(stand);
    assert_int_equal(restore_sessions(&stand->survivors, error), 0);
    expect_logged(stand, fd, "\"event\":\"restored\",\"sessions\":300,");
}

static void how_many_inboxes_were_saved(void **state)
{
    struct stand *stand = *state;
    log_some_in(stand, 3);
    int fd = open_logged(stand);
    assert_int_equal(save_inboxes(&stand->survivors, NULL), 0);
    expect_logged(stand, fd, "\"event\":\"inboxes_saved\",\"sessions\":3,\"messages\":0,");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(how_many_were_restored),
        TEST(how_many_inboxes_were_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
