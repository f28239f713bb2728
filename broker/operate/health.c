/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "actors/kinds.h"
#include "door/admission.h"
#include "operate/certificate.h"
#include "operate/http.h"
#include "persist/committer.h"

/* Readings and health, for the HTTP thread: atomics and short locks, nothing that waits for the
 * disk.
 *
 * Not alive means that starting the process anew would help: a thread stands still (pulse.c). A
 * disk that hangs or is full is not such a case, so it is told by ready alone, and an orchestrator
 * that kills what is not alive leaves the sessions in peace.
 *
 * Ready means that clients are served well now. After the store has refused, it is called good
 * again some seconds after the last refusal: when a balancer sends nobody here because of that,
 * nobody else would ever try whether it works again. */

enum { PATIENCE_MS = 2000, SLOW_COMMIT_MS = 4000, REFUSAL_HOLDS_MS = 10000 };

static void sum_actors(struct registry *registry, uint64_t readings[READING_COUNT])
{
    uint32_t cursor = 0;
    actor_handle handle;
    while ((handle = registry_next(registry, &cursor, REGISTRY_ALL_KINDS)) != 0) {
        struct actor *actor = registry_actor(registry, actor_slot(handle));
        /* Only users show a number, and a slot that ended has shown 0. */
        readings[READING_inbox_messages] +=
            atomic_load_explicit(&actor->gauge, memory_order_relaxed);
        readings[READING_mailbox_messages] += mailbox_length(&actor->mailbox);
    }
}

static uint64_t file_bytes(const char *folder)
{
    char path[4200];
    struct stat status;
    snprintf(path, sizeof(path), "%s/data.mdb", folder);
    return stat(path, &status) == 0 ? (uint64_t)status.st_size : 0;
}

static uint64_t since(uint64_t now_ms, uint64_t then_ms)
{
    return now_ms > then_ms ? now_ms - then_ms : 0;
}

static void read_certificate(struct broker *broker, uint64_t readings[READING_COUNT])
{
    struct net_validity validity;
    enum certificate_state state = certificate_look(broker, &validity);
    readings[READING_certificate_not_after_timestamp_seconds] =
        validity.ends_s > 0 ? (uint64_t)validity.ends_s : 0;
    readings[READING_certificate_ending] = state != CERTIFICATE_NONE && state != CERTIFICATE_FINE;
}

void admin_read(void *context, uint64_t readings[READING_COUNT])
{
    struct admin_glue *glue = context;
    struct broker *broker = glue->broker;
    uint64_t now_ms = env_monotonic_ms(broker->env);
    struct committer_look commits = committer_look(broker->committer);
    struct link_health link = link_health(broker->link);
    struct net_look net;
    net_look(broker->net, &net);
    sum_actors(broker->registry, readings);
    readings[READING_actors] = registry_count(broker->registry);
    readings[READING_users] = registry_count_of(broker->registry, KIND_USER);
    readings[READING_instances] = registry_count_of(broker->registry, KIND_INSTANCE);
    if (broker->admission != NULL)
        admission_count_keys(broker->admission, &readings[READING_token_keys],
                             &readings[READING_token_keys_passed_over]);
    read_certificate(broker, readings);
    readings[READING_calls_waiting] =
        atomic_load_explicit(&broker->counters.calls_waiting, memory_order_relaxed);
    readings[READING_output_bytes] = net.output_bytes;
    readings[READING_commits_waiting] = commits.waiting;
    readings[READING_commit_stalled_seconds] =
        commits.began_ms != 0 ? since(now_ms, commits.began_ms) / 1000 : 0;
    readings[READING_store_failing] = commits.error != 0;
    readings[READING_store_file_bytes] = file_bytes(broker->options->store_path);
    readings[READING_presence_last] = atomic_load(&broker->counters.presence_last);
    readings[READING_epoch_last] = atomic_load(&broker->counters.epoch_last);
    readings[READING_secrets_exposed] = atomic_load(&broker->secrets_exposed);
    readings[READING_link_listening] = link.listening;
    readings[READING_nng_reaper_stuck] = link.reaper_stuck;
    readings[READING_uptime_seconds] = since(now_ms, glue->up_ms) / 1000;
}

enum admin_state admin_state_of(void *context)
{
    const struct admin_glue *glue = context;
    static const enum admin_state states[] = {
        [BROKER_SERVING] = ADMIN_SERVING,
        [BROKER_DRAINING] = ADMIN_DRAINING,
        [BROKER_STOPPING] = ADMIN_STOPPING,
    };
    return states[broker_state(glue->broker)];
}

static void check(struct admin_check *checks, unsigned *count, const char *name, bool ok,
                  const char *detail)
{
    struct admin_check *to = &checks[(*count)++];
    to->name = name;
    to->ok = ok;
    snprintf(to->detail, sizeof(to->detail), "%s", ok ? "" : detail);
}

unsigned admin_alive(void *context, struct admin_check checks[ADMIN_CHECKS_MAX])
{
    struct admin_glue *glue = context;
    unsigned count = 0;
    char still[32] = "", detail[64];
    /* A broker that stops ends its threads one after the other, in bounded time. */
    bool moving = admin_state_of(glue) == ADMIN_STOPPING ||
                  broker_check_moving(glue->broker, PATIENCE_MS, &glue->stillness, still) == 0;
    snprintf(detail, sizeof(detail), "%s does not go on", still);
    check(checks, &count, "threads", moving, detail);
    return count;
}

static void check_store(struct broker *broker, struct admin_check *checks, unsigned *count)
{
    struct committer_look look = committer_look(broker->committer);
    uint64_t now_ms = env_monotonic_ms(broker->env);
    uint64_t slow_ms = look.began_ms != 0 ? since(now_ms, look.began_ms) : 0;
    bool refuses = look.error != 0 && since(now_ms, look.failed_ms) < REFUSAL_HOLDS_MS;
    char detail[160];
    if (refuses)
        snprintf(detail, sizeof(detail), "%.130s, for %llu s", store_error_text(look.error),
                 (unsigned long long)(since(now_ms, look.failing_since_ms) / 1000));
    else
        snprintf(detail, sizeof(detail), "a transaction has not ended for %llu s",
                 (unsigned long long)(slow_ms / 1000));
    check(checks, count, "store", !refuses && slow_ms < SLOW_COMMIT_MS, detail);
}

unsigned admin_ready(void *context, struct admin_check checks[ADMIN_CHECKS_MAX])
{
    struct admin_glue *glue = context;
    struct broker *broker = glue->broker;
    unsigned count = 0;
    struct net_look net;
    struct link_health link = link_health(broker->link);
    enum admin_state state = admin_state_of(glue);
    net_look(broker->net, &net);
    check_store(broker, checks, &count);
    check(checks, &count, "link", link.listening, "no listener for backends works");
    check(checks, &count, "feed", link.feed_listening, "the listener of the feed is dead");
    check(checks, &count, "reaper", !link.reaper_stuck,
          "nng does not report lost backends: restart at a quiet moment");
    check(checks, &count, "accept", !net.accept_paused,
          "accepting pauses: no descriptors or memory left");
    check(checks, &count, "drain", state == ADMIN_SERVING,
          state == ADMIN_STOPPING ? "the broker stops" : "the broker drains");
    return count;
}
