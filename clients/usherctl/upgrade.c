/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "usherctl/ctl.h"

/* The node answers who is asked: the process that is to go, until it has gone, and then the one in
 * its place, whose number is another. So this asks once and then looks, until one of them says how
 * it went. */

enum { LOOK_MS = 50, PATIENCE_MS = 60000 };

struct look {
    uint64_t pid, tries, frozen_ms;
    bool failed;
    char error[512];
};

/* Of a line that we know the form of; a number that is not there is 0. */
static uint64_t number_in(const char *line, const char *key)
{
    const char *at = strstr(line, key);
    return at != NULL ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static void text_in(const char *line, const char *key, char *to, size_t size)
{
    const char *at = strstr(line, key);
    size_t count = 0;
    for (at = at != NULL ? at + strlen(key) : ""; *at != '\0' && *at != '"' && count + 1 < size;
         at++)
        if (*at != '\\')
            to[count++] = (unsigned char)*at < ' ' ? ' ' : *at;
    to[count] = '\0';
}

static struct look read_line(const char *line)
{
    struct look look = {.pid = number_in(line, "\"pid\":"),
                        .tries = number_in(line, "\"tries\":"),
                        .frozen_ms = number_in(line, "\"frozen_ms\":"),
                        .failed = strstr(line, "\"state\":\"failed\"") != NULL};
    text_in(line, "\"error\":\"", look.error, sizeof(look.error));
    return look;
}

/* CTL_OK gives a look; CTL_NO_BROKER: nobody answers, now. */
static int ask(const struct ctl *ctl, struct usher_backend *backend,
               enum usher_backend_query_kind kind, bool quiet, struct look *look)
{
    const struct usher_backend_query query = {.kind = kind};
    struct usher_backend_answer *answer = NULL;
    int error = usher_backend_query(backend, &query, &answer);
    int result = CTL_OK;
    if (error != 0)
        result = quiet ? CTL_NO_BROKER : ctl_complain(ctl, error);
    else if (answer->code != USHER_BACKEND_OK || answer->line_count != 1)
        result = CTL_REFUSED;
    else
        *look = read_line(answer->lines[0]);
    if (result == CTL_REFUSED)
        fprintf(stderr, "usherctl: refused: %s%s\n", usher_backend_code_name(answer->code),
                answer->code == USHER_BACKEND_FORBIDDEN     ? " (see --token-file)"
                : answer->code == USHER_BACKEND_UNAVAILABLE ? " (it is on its way out)"
                                                            : "");
    usher_backend_answer_free(answer);
    return result;
}

static int tell(const struct look *before, const struct look *after)
{
    if (after->pid != before->pid) {
        printf("upgraded: process %" PRIu64 " has taken the place of %" PRIu64 "\n", after->pid,
               before->pid);
        return CTL_OK;
    }
    fprintf(stderr, "usherctl: not upgraded, and nothing is lost: %s\n", after->error);
    return CTL_REFUSED;
}

int ctl_upgrade(const struct ctl *ctl)
{
    struct usher_backend *backend;
    struct look before, after;
    int result = ctl_open(ctl, NULL, NULL, &backend);
    if (result != CTL_OK)
        return result;
    result = ask(ctl, backend, USHER_BACKEND_UPGRADE_LOOK, false, &before);
    if (result == CTL_OK)
        result = ask(ctl, backend, USHER_BACKEND_UPGRADE_NODE, false, &after);
    bool over = false;
    const uint64_t end_ms = clock_end_ms(PATIENCE_MS);
    while (result == CTL_OK && !over && clock_left_ms(end_ms) > 0) {
        clock_pause_ms(LOOK_MS);
        if (ask(ctl, backend, USHER_BACKEND_UPGRADE_LOOK, true, &after) == CTL_OK)
            over = after.pid != before.pid || after.tries != before.tries;
    }
    if (result == CTL_OK && over)
        result = tell(&before, &after);
    else if (result == CTL_OK)
        result = ctl_complain(ctl, -ETIMEDOUT);
    usher_backend_close(backend);
    return result;
}
