/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/parts.h"
#include "persist/committer.h"
#include "persist/queries.h"
#include "process/notify.h"
#include "upgrade/upgrade.h"

/* One broker after another (docs/decisions/0140): where the parts come from that are handed over,
 * and what is done on both sides of the last word. */

static struct upgrade_parts parts_of(struct broker *broker)
{
    const struct egress *egress = &broker->egress;
    return (struct upgrade_parts){
        .env = broker->env,
        .awake = &broker->awake,
        .log = broker->log,
        .store = broker->store,
        .registry = broker->registry,
        .scheduler = broker->scheduler,
        .clock = broker->clock,
        .committer = broker->committer,
        .queries = broker->queries,
        .net = egress->net,
        .services = broker->services,
        .admission = broker->admission,
        .settings = &broker->settings,
        .counters = &broker->counters,
        .passage = &broker->passage,
        .runner = &broker->threads[0].runner,
        .io_threads = broker->counts.io,
        .workers = broker->counts.workers,
        .prepare = kinds_prepare_worker,
        .user = &user_behaviour,
        .instance = &instance_behaviour,
        .shard = &watch_behaviour,
    };
}

/* As this one was started: by its path, which may have another program by now. */
static void find_program(const char *called, char program[PATH_MAX])
{
    static const char gone[] = " (deleted)";
    snprintf(program, PATH_MAX, "%s", called);
    if (strchr(called, '/') != NULL)
        return;
    ssize_t size = readlink("/proc/self/exe", program, PATH_MAX - 1);
    program[size > 0 ? size : 0] = '\0';
    char *end = strstr(program, gone);
    if (end != NULL && end[sizeof(gone) - 1] == '\0')
        *end = '\0';
}

void broker_succeed(void *context, uint64_t *frozen_ms, char *error)
{
    struct broker *broker = context;
    const struct upgrade_parts parts = parts_of(broker);
    struct upgrade_report report;
    char program[PATH_MAX];
    if (broker->options->process_upgrade_program[0] != '\0')
        snprintf(program, sizeof(program), "%s", broker->options->process_upgrade_program);
    else
        find_program(broker->arguments[0], program);
    LOG(broker->log, UPGRADING, LOG_S("program", program));
    if (!upgrade_hand_over(&parts, program, broker->arguments, &report)) {
        LOG(broker->log, UPGRADE_FAILED, LOG_S("error", report.error),
            LOG_U("frozen_ms", report.frozen_ms));
        *frozen_ms = report.frozen_ms;
        snprintf(error, BROKER_ERROR_BYTES, "%s", report.error);
        return;
    }
    LOG(broker->log, UPGRADED, LOG_U("to", (uint64_t)report.process), LOG_U("users", report.users),
        LOG_U("instances", report.instances), LOG_U("connections", report.connections),
        LOG_U("left", report.left), LOG_U("bytes", report.bytes),
        LOG_U("frozen_ms", report.frozen_ms));
    log_close(broker->log); /* it writes what it has */
    _exit(0);
}

static int explain(const struct upgrade_report *report, int failed, char *error)
{
    if (failed != 0)
        snprintf(error, BROKER_ERROR_BYTES, "cannot take over: %.400s", report->error);
    return failed;
}

int broker_take(struct broker *broker, char *error)
{
    const struct upgrade_parts parts = parts_of(broker);
    struct upgrade_report report;
    int failed = explain(&report, upgrade_take(&parts, broker->handover, &report), error);
    if (failed == 0)
        failed = broker_make_own(broker);
    if (failed == 0)
        LOG(broker->log, TAKEN_OVER, LOG_U("users", report.users),
            LOG_U("instances", report.instances), LOG_U("connections", report.connections),
            LOG_U("bytes", report.bytes));
    return failed;
}

int broker_confirm(struct broker *broker, char *error)
{
    struct upgrade_report report = {0};
    return explain(&report, upgrade_confirm(broker->handover, &report), error);
}
