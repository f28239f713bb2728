/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "actors/kinds.h"
#include "base/check.h"
#include "persist/save.h"
#include "user/session.h"
#include "user/shelf.h"

/* The end of an orderly stop: what waits for users goes to the store, so that after the next start
 * a resume is complete and a login inherits what its predecessor had not acknowledged.
 *
 * Every session gets a record, also one with an empty inbox: it says that the numbering of its
 * messages is known (or, of one that came out of a crash and was not resumed since, that it is
 * not). The start that reads the records drops them before it lets anybody in, so they
 * never speak for more than one stop; after a crash there are none, and a resume says PARTIAL.
 *
 * Sessions are saved in groups, a transaction each. Of a group that the store refuses (a full
 * disk) they are tried one by one until one is refused, so that one large inbox does not cost the
 * others theirs, and a store that refuses everything does not hold up the stop. */

enum { GROUP_SESSIONS = 1024, GROUP_BYTES = 4 << 20 };

struct group {
    actor_handle users[GROUP_SESSIONS];
    size_t count;
    size_t bytes;
};

struct outcome {
    uint64_t sessions, messages, failed;
    int error; /* of the last that failed */
};

static const struct session *session_of(const struct survivors *survivors, actor_handle user)
{
    const struct actor *actor = registry_actor(survivors->registry, actor_slot(user));
    const struct session *session = (const struct session *)actor->state;
    /* Nobody runs one any more. Who waits for a window is as he was when he asked for it. */
    CHECK(!actor_in_turn(actor) || shelf_reads(session));
    return session;
}

static int put_messages(const struct survivors *survivors, const char *name,
                        const struct session *session, uint64_t now_ms, uint64_t *count)
{
    int error = 0;
    struct inbox_place place = {0};
    struct kept_message kept;
    while (error == 0 && session->inbox != NULL && inbox_read(session->inbox, &place, &kept)) {
        struct saved_message saved = {
            .seq = kept.seq,
            .time_ms = kept.time_ms,
            .mid = kept.mid,
            .age_ms = kept.mid == 0 && now_ms > kept.arrived_ms ? now_ms - kept.arrived_ms : 0,
            .from_service = kept.from_service,
            .redelivered = kept.redelivered,
            .sent = kept.sent,
            .name = kept.name,
            .payload = kept.payload,
            .traceparent = kept.traceparent,
        };
        error = store_put_message(survivors->store, name, &saved);
        (*count)++;
    }
    return error;
}

static int put_session(const struct survivors *survivors, actor_handle user, uint64_t *messages)
{
    const struct session *session = session_of(survivors, user);
    CHECK(session->status != SESSION_NONE);
    const char *name = registry_actor(survivors->registry, actor_slot(user))->name;
    struct saved_inbox inbox = {session->epoch, session->next_seq, delivery_acked_seq(session),
                                session->unnumbered, session->loss_untold};
    int error = store_put_inbox(survivors->store, name, &inbox);
    return error != 0
               ? error
               : put_messages(survivors, name, session, env_monotonic_ms(survivors->env), messages);
}

/* One transaction. */
static int save(const struct survivors *survivors, const actor_handle *users, size_t count,
                struct outcome *outcome)
{
    uint64_t messages = 0;
    int error = store_begin(survivors->store);
    if (error != 0)
        return error;
    for (size_t i = 0; error == 0 && i < count; i++)
        error = put_session(survivors, users[i], &messages);
    if (error == 0)
        error = store_commit(survivors->store, atomic_load(survivors->epoch_last));
    else
        store_abort(survivors->store);
    if (error == 0) {
        outcome->sessions += count;
        outcome->messages += messages;
    }
    return error;
}

static void save_group(const struct survivors *survivors, struct group *group,
                       struct outcome *outcome, save_progress *saved_so_far)
{
    if (group->count > 0 && save(survivors, group->users, group->count, outcome) != 0) {
        size_t saved = 0;
        int error = 0;
        while (saved < group->count &&
               (error = save(survivors, &group->users[saved], 1, outcome)) == 0)
            saved++;
        outcome->failed += group->count - saved;
        outcome->error = error != 0 ? error : outcome->error;
    }
    group->count = group->bytes = 0;
    if (saved_so_far != NULL)
        saved_so_far(outcome->sessions);
}

static bool has_session(const struct survivors *survivors, actor_handle user)
{
    return session_of(survivors, user)->status != SESSION_NONE;
}

uint64_t save_inboxes(const struct survivors *survivors, save_progress *saved_so_far)
{
    struct group group = {.count = 0};
    struct outcome outcome = {0};
    uint64_t start_ms = env_monotonic_ms(survivors->env);
    uint64_t sessions = 0;
    uint32_t cursor = 0;
    actor_handle user;
    while ((user = registry_next(survivors->registry, &cursor, KIND_USER)) != 0) {
        if (!has_session(survivors, user))
            continue;
        const struct session *session = session_of(survivors, user);
        CHECK(group.count < GROUP_SESSIONS);
        group.users[group.count++] = user;
        sessions++;
        group.bytes += session->inbox != NULL ? session->inbox->bytes : 0;
        if (group.count == GROUP_SESSIONS || group.bytes >= GROUP_BYTES)
            save_group(survivors, &group, &outcome, saved_so_far);
    }
    save_group(survivors, &group, &outcome, saved_so_far);
    CHECK(outcome.sessions + outcome.failed == sessions);
    LOG(survivors->log, INBOXES_SAVED, LOG_U("sessions", outcome.sessions),
        LOG_U("messages", outcome.messages), LOG_U("failed", outcome.failed),
        LOG_U("took_ms", env_monotonic_ms(survivors->env) - start_ms));
    if (outcome.failed > 0)
        LOG(survivors->log, INBOXES_LOST, LOG_U("sessions", outcome.failed),
            LOG_S("error", store_error_text(outcome.error)), LOG_S("path", survivors->store_path));
    return outcome.failed;
}
