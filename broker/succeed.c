/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <unistd.h>

#include "broker/parts.h"
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
        .stored = broker->stored,
        .queries = broker->queries,
        .net = egress->net,
        .passed = &broker->passed,
        .services = broker->services,
        .webhook = broker->webhook,
        .admission = broker->admission,
        .logins = broker->logins,
        .limits = &broker->limits,
        .settings = &broker->settings,
        .counters = &broker->counters,
        .passage = &broker->passage,
        .runner = &broker->threads[0].runner,
        .io_threads = broker->counts.io,
        .workers = broker->counts.workers,
        .prepare = kinds_prepare_worker,
        .user = &user_behaviour,
        .instance = &instance_behaviour,
        .room = &room_behaviour,
        .shard = &watch_behaviour,
    };
}

void broker_succeed(void *context, uint64_t *frozen_ms, char *error)
{
    struct broker *broker = context;
    const struct upgrade_parts parts = parts_of(broker);
    struct upgrade_report report;
    if (upgrade_hand_over(&parts, broker->options->process_upgrade_program, broker->arguments,
                          &report)) {
        log_finish(broker->log); /* threads of nng and HTTP may be about to say something */
        link_hide(broker->egress.link);
        _exit(0);
    }
    *frozen_ms = report.frozen_ms;
    snprintf(error, BROKER_ERROR_BYTES, "%s", report.error);
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
    struct upgrade_report *report = &broker->taken;
    int failed = explain(report, upgrade_take(&parts, broker->handover, report), error);
    if (failed == 0)
        failed = broker_make_own(broker);
    return failed;
}

int broker_confirm(struct broker *broker, char *error)
{
    struct upgrade_report *report = &broker->taken;
    return explain(report, upgrade_confirm(broker->handover, report), error);
}
