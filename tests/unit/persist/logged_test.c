/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/committer.h"
#include "persist/restore.h"
#include "persist/save.h"
#include "unit/broker/broker_fixture.h"

#include <sys/mman.h>
#include <unistd.h>

/* What the log says of a start and of a stop is so. */

enum { TEXT_BYTES = 65536 };

static int open_logged(struct glue *glue)
{
    const struct log_options options = {.fd = memfd_create("log", MFD_CLOEXEC),
                                        .json = true,
                                        .env = glue->broker.env,
                                        .lines_per_second_per_event = UINT32_MAX};
    assert_int_equal(log_open(&glue->broker.log, &options), 0);
    return options.fd;
}

static void expect_logged(struct glue *glue, int fd, const char *part)
{
    static char text[TEXT_BYTES];
    log_close(glue->broker.log);
    glue->broker.log = NULL;
    ssize_t size = pread(fd, text, sizeof(text) - 1, 0);
    assert_true(size >= 0);
    text[size] = '\0';
    close(fd);
    if (strstr(text, part) == NULL)
        fail_msg("no \"%s\" in: %s", part, text);
}

static void log_some_in(struct glue *glue, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "user%u", i);
        log_in(glue, name, 1 + i);
    }
    do
        run_turns(glue);
    while (committer_step(glue->broker.committer));
}

static void how_many_were_restored(void **state)
{
    char error[BROKER_ERROR_BYTES];
    struct glue *glue = *state;
    struct store *store = glue->store;
    log_some_in(glue, 300);
    glue->broker.store = NULL;
    glue_free(glue);
    glue = glue_make(store, 0, true);
    *state = glue;
    int fd = open_logged(glue);
    assert_int_equal(restore_sessions(&glue->broker, error), 0);
    expect_logged(glue, fd, "\"event\":\"restored\",\"sessions\":300,");
}

static void how_many_inboxes_were_saved(void **state)
{
    struct glue *glue = *state;
    log_some_in(glue, 3);
    int fd = open_logged(glue);
    assert_int_equal(keep_inboxes(&glue->broker, NULL), 0);
    expect_logged(glue, fd, "\"event\":\"inboxes_saved\",\"sessions\":3,\"messages\":0,");
}

#define TEST_OWN_CLOCK(name) cmocka_unit_test_setup_teardown(name, set_up_own_clock, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OWN_CLOCK(how_many_were_restored),
        TEST_OWN_CLOCK(how_many_inboxes_were_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
