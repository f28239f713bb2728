/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_HEALTH_H
#define USHER_OPERATE_HEALTH_H

/* How the broker is doing: readings for monitoring, and whether it lives and is ready. For the
 * thread that speaks HTTP: atomics and short locks, nothing that waits for the disk. */

#include "admin/admin.h"
#include "base/thread.h"
#include "door/admission.h"
#include "link/link.h"
#include "operate/certificate.h"
#include "operate/leave.h"
#include "operate/pulse.h"
#include "webhook/webhook.h"

/* All that it points to outlives it. */
struct health {
    struct net *net;
    struct link *link;
    struct registry *registry;
    struct committer *committer;
    struct admission *admission; /* NULL with auth.mode open */
    struct webhook *webhook;
    const struct counters *counters;
    const struct env *env;
    const struct limits *limits;
    const char *store_path;
    const struct certificate *certificate;
    const struct leave *leave;
    const struct pulse *pulse;
    const struct reload *reload;
    uint64_t up_ms; /* since then, monotonic */
    /* of its thread, from its first question on */
    struct thread_mark mark;
    struct stillness stillness;
};

void health_read(struct health *health, uint64_t readings[READING_COUNT]);

/* Give how many checks they have filled. Alive: to start the process anew would help nothing; may
 * wait for a thread that stands still. Ready: clients are served well. */
unsigned health_alive(struct health *health, struct admin_check checks[ADMIN_CHECKS_MAX]);
unsigned health_ready(struct health *health, struct admin_check checks[ADMIN_CHECKS_MAX]);

#endif
