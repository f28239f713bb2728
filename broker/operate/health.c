/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/health.h"

#include <stdio.h>
#include <sys/stat.h>

#include "actors/kinds.h"
#include "actors/room_messages.h"
#include "base/check.h"
#include "persist/committer.h"

/* Not alive means that starting the process anew would help: a thread stands still (pulse.c). A
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

/* As rooms show it, which they do in memory that outlives them. */
static uint64_t sum_histories(struct registry *registry)
{
    uint32_t cursor = 0;
    uint64_t sum = 0;
    actor_handle handle;
    while ((handle = registry_next(registry, &cursor, KIND_ROOM)) != 0) {
        const struct room_place *place =
            (const void *)registry_actor(registry, actor_slot(handle))->state;
        sum += atomic_load_explicit(&place->shown.numbers[ROOM_NUMBER_HISTORY_BYTES],
                                    memory_order_relaxed);
    }
    return sum;
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

static void read_certificate(const struct health *health, uint64_t readings[READING_COUNT])
{
    struct net_validity validity;
    enum certificate_state state = certificate_look(health->certificate, &validity);
    readings[READING_certificate_not_after_timestamp_seconds] =
        validity.ends_s > 0 ? (uint64_t)validity.ends_s : 0;
    readings[READING_certificate_ending] = state != CERTIFICATE_NONE && state != CERTIFICATE_FINE;
}

/* It is one thread's. */
static void check_thread(struct health *health)
{
    if (off_thread(&health->mark))
        thread_begin(&health->mark);
    CHECK(on_thread(&health->mark));
}

static void read_webhook(const struct health *health, uint64_t readings[READING_COUNT])
{
    struct webhook_look look = webhook_look(health->webhook);
    uint64_t age_ms = look.oldest_ms != 0 ? since(env_wall_ms(health->env), look.oldest_ms) : 0;
    readings[READING_webhook_on] = look.on;
    readings[READING_webhook_lag_events] = look.behind;
    readings[READING_webhook_lag_seconds] = age_ms / 1000;
    readings[READING_webhook_news_waiting] = look.news_waiting;
    readings[READING_webhook_failing] = look.failing;
}

void health_read(struct health *health, uint64_t readings[READING_COUNT])
{
    check_thread(health);
    uint64_t now_ms = env_monotonic_ms(health->env);
    struct committer_look commits = committer_look(health->committer);
    struct link_health link = link_health(health->link);
    struct net_look net;
    net_look(health->net, &net);
    sum_actors(health->registry, readings);
    readings[READING_actors] = registry_count(health->registry);
    readings[READING_users] = registry_count_of(health->registry, KIND_USER);
    readings[READING_rooms] = registry_count_of(health->registry, KIND_ROOM);
    readings[READING_instances] = registry_count_of(health->registry, KIND_INSTANCE);
    if (health->admission != NULL)
        admission_count_keys(health->admission, &readings[READING_token_keys],
                             &readings[READING_token_keys_passed_over]);
    read_certificate(health, readings);
    readings[READING_calls_waiting] =
        atomic_load_explicit(&health->counters->calls_waiting, memory_order_relaxed);
    readings[READING_output_bytes] = net.output_bytes;
    readings[READING_memory_limit_bytes] = limits_memory_bytes(health->limits);
    readings[READING_room_history_bytes] = sum_histories(health->registry);
    readings[READING_commits_waiting] = commits.waiting;
    readings[READING_commit_stalled_seconds] =
        commits.began_ms != 0 ? since(now_ms, commits.began_ms) / 1000 : 0;
    readings[READING_store_failing] = commits.error != 0;
    readings[READING_stored_messages] = commits.stored.messages;
    readings[READING_stored_bytes] = commits.stored.bytes;
    readings[READING_stored_full_percent] = commits.stored.percent;
    readings[READING_log_bytes] = commits.stored.log_bytes;
    readings[READING_store_file_bytes] = file_bytes(health->store_path);
    read_webhook(health, readings);
    readings[READING_presence_last] = atomic_load(&health->counters->presence_last);
    readings[READING_epoch_last] = atomic_load(&health->counters->epoch_last);
    readings[READING_secrets_exposed] = reload_exposed(health->reload);
    readings[READING_link_listening] = link.listening;
    readings[READING_nng_reaper_stuck] = link.reaper_stuck;
    readings[READING_uptime_seconds] = since(now_ms, health->up_ms) / 1000;
}

static void check(struct admin_check *checks, unsigned *count, const char *name, bool ok,
                  const char *detail)
{
    struct admin_check *to = &checks[(*count)++];
    to->name = name;
    to->ok = ok;
    snprintf(to->detail, sizeof(to->detail), "%s", ok ? "" : detail);
}

unsigned health_alive(struct health *health, struct admin_check checks[ADMIN_CHECKS_MAX])
{
    unsigned count = 0;
    char still[PULSE_NAME_BYTES] = "", detail[64];
    check_thread(health);
    /* A broker that stops ends its threads one after the other, in bounded time. */
    bool moving = leave_state(health->leave) == LEAVE_STOPPING ||
                  pulse_check(health->pulse, PATIENCE_MS, &health->stillness, still) == 0;
    snprintf(detail, sizeof(detail), "%s does not go on", still);
    check(checks, &count, "threads", moving, detail);
    return count;
}

static void check_store(const struct health *health, struct admin_check *checks, unsigned *count)
{
    struct committer_look look = committer_look(health->committer);
    uint64_t now_ms = env_monotonic_ms(health->env);
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

unsigned health_ready(struct health *health, struct admin_check checks[ADMIN_CHECKS_MAX])
{
    unsigned count = 0;
    struct net_look net;
    struct link_health link = link_health(health->link);
    enum leave_state state = leave_state(health->leave);
    check_thread(health);
    net_look(health->net, &net);
    check_store(health, checks, &count);
    check(checks, &count, "link", link.listening, "no listener for backends works");
    check(checks, &count, "feed", link.feed_listening, "the listener of the feed is dead");
    check(checks, &count, "reaper", !link.reaper_stuck,
          "nng does not report lost backends: restart at a quiet moment");
    check(checks, &count, "accept", !net.accept_paused,
          "accepting pauses: no descriptors or memory left");
    check(checks, &count, "drain", state == LEAVE_SERVING,
          state == LEAVE_STOPPING ? "the broker stops" : "the broker drains");
    return count;
}
