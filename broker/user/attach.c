/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "actors/held.h"
#include "actors/refusals.h"
#include "actors/refuse.h"
#include "backend.pb-c.h"
#include "base/check.h"
#include "base/listeners.h"
#include "base/memory.h"
#include "base/secret.h"
#include "client.pb-c.h"
#include "proto/broker_frame.h"
#include "proto/number.h"
#include "user/company.h"
#include "user/shelf.h"
#include "user/user.h"

/* A verified login. The newest wins: it gets a new epoch, stored together with its ONLINE event
 * before anybody hears of it. Until then the old connection goes on undisturbed (its frames wait
 * in the mailbox, behind the held turn); if the store refuses, the newcomer alone is told.
 *
 * A resume binds another connection to the session as it is; the same two steps. */

enum { RETRY_UNAVAILABLE_MS = 1000 };

/* In the history: the other connection was there until then. */
static const char CONNECTED[] = "connected";

/* After a crash the numbers are the client's own; nobody has seen so many. */
static const uint64_t LAST_SEQ_MAX = NUMBER_START_MAX;

/* For the history, what a Login or Resume says of who asks. */
struct asker {
    enum history_kind kind;
    const char *address, *client;
    uint8_t listener;
};

static void note_refusal(struct turn *turn, const struct asker *asker, const char *detail,
                         const char *limit, uint64_t bound)
{
    const struct refusal refusal = {.kind = asker->kind,
                                    .user = turn->name,
                                    .address = asker->address,
                                    .client = asker->client,
                                    .transport = listener_name(asker->listener),
                                    .detail = detail,
                                    .limit = limit,
                                    .bound = bound};
    refusals_note(turn->settings->refusals, &refusal);
}

static struct asker asker_of_login(const struct attach_message *attach)
{
    return (struct asker){HISTORY_LOGIN_REFUSED, attach->address, attach->client, attach->listener};
}

static struct asker asker_of_resume(const struct resume_message *resume)
{
    return (struct asker){HISTORY_RESUME_REFUSED, resume->address, NULL, resume->listener};
}

static void refuse_stopping(struct turn *turn, uint64_t conn, uint64_t id,
                            const struct asker *asker)
{
    note_refusal(turn, asker, "the broker stops", NULL, 0);
    uint32_t retry_ms = env_spread_ms(turn->env, RETRY_UNAVAILABLE_MS);
    refuse_request(turn, conn, id, USHER__V1__ERROR__CODE__DRAINING, "the broker stops", retry_ms);
    refuse_shut(turn, conn, USHER__V1__CLOSE__REASON__SHUTDOWN, "", retry_ms, false);
}

/* A newcomer who would throw a living connection out has to wait when his host has done that too
 * often lately (fight.c). True: he was told so. */
static bool refuse_fight(struct session *session, struct turn *turn, uint64_t conn, uint64_t id,
                         const struct asker *asker)
{
    if (session->conn == 0)
        return false;
    const struct fight_owner owner = {bytes_of_text(turn->name), turn->settings->spent_fights};
    uint32_t per_minute = (uint32_t)limits_takeovers_per_minute(turn->limits);
    uint32_t wait_ms = fight_takeover(&session->fight, owner, bytes_of_text(asker->address),
                                      per_minute, turn->now_ms);
    if (wait_ms == 0)
        return false;
    turn_count(turn, METRIC_takeovers_damped, 1);
    LOG(turn->log, TAKEOVER_DAMPED, LOG_S("user", turn->name), LOG_U("epoch", session->epoch),
        LOG_S("address", asker->address), LOG_U("retry_after_ms", wait_ms));
    note_refusal(turn, asker, "it took the user over too often from there",
                 "limits.takeovers_per_minute", per_minute);
    refuse_conn(turn, conn, id, USHER__V1__ERROR__CODE__RATE_LIMITED,
                "this user was taken over too often from there", wait_ms);
    return true;
}

/* Whom the newcomer displaces, if anybody. */
static void note_who_goes(const struct session *session, struct turn *turn)
{
    if (session->status != SESSION_NONE)
        turn_note_by(turn, session_address(session));
    if (session->conn != 0)
        turn_note(turn, CONNECTED, NULL, 0, 0);
}

void user_attach(struct session *session, struct message *message, struct turn *turn)
{
    struct attach_message *attach = (struct attach_message *)message;
    const struct asker asker = asker_of_login(attach);
    if (session->stopping) {
        refuse_stopping(turn, attach->conn, attach->id, &asker);
        message_destroy(message);
        return;
    }
    if (refuse_fight(session, turn, attach->conn, attach->id, &asker)) {
        message_destroy(message);
        return;
    }
    struct change *change;
    MEMORY_MUST((change = turn_change(turn, CHANGE_ATTACH, message)) != NULL, "a login");
    bool takeover = session->status != SESSION_NONE;
    session_describe(session, turn, change, USHER__V1__PRESENCE_EVENT__KIND__ONLINE,
                     takeover ? USHER__V1__PRESENCE_EVENT__CAUSE__TAKEOVER
                              : USHER__V1__PRESENCE_EVENT__CAUSE__LOGIN);
    change->event.previous_epoch = session->epoch;
    change->event.epoch =
        atomic_fetch_add_explicit(&turn->counters->epoch_last, 1, memory_order_relaxed) + 1;
    CHECK(change->event.epoch > session->epoch);
    struct session_record *record = &change->record;
    record->epoch = change->event.epoch;
    record->since_ms = turn->wall_ms;
    record->token_ends_ms = attach->token_ends_ms;
    record->acks = attach->acks;
    memcpy(record->address, attach->address, sizeof(record->address));
    memcpy(record->client, attach->client, sizeof(record->client));
    session_name_transport(record, attach->listener);
    record->rooms = attach_rooms(attach);
    memcpy(change->event.address, attach->address, sizeof(change->event.address));
    memcpy(change->event.client, attach->client, sizeof(change->event.client));
    env_random(turn->env, record->secret, sizeof(record->secret));
    change->last_mid = attach->last_mid;
    note_who_goes(session, turn);
}

static bool resume_is_right(const struct session *session, const struct turn *turn,
                            const struct resume_message *resume)
{
    bool same = secret_equal(session->secret, SECRET_BYTES, resume->secret, SECRET_BYTES);
    uint64_t last_seq_max = session->unnumbered ? LAST_SEQ_MAX : delivery_sent_seq(session);
    return session->status != SESSION_NONE && resume->epoch == session->epoch && same &&
           resume->last_seq <= last_seq_max &&
           (!session->unnumbered || resume->received_seq <= last_seq_max) &&
           session_token_left_ms(session, turn) > 0;
}

void user_resume(struct session *session, struct message *message, struct turn *turn)
{
    struct resume_message *resume = (struct resume_message *)message;
    const struct asker asker = asker_of_resume(resume);
    if (session->stopping) {
        /* Not rejected: the session is there again when the broker is. */
        refuse_stopping(turn, resume->conn, resume->id, &asker);
        message_destroy(message);
        return;
    }
    if (!resume_is_right(session, turn, resume)) {
        turn_count(turn, METRIC_resumes_rejected, 1);
        note_refusal(turn, &asker, "there is no such session", NULL, 0);
        refuse_conn(turn, resume->conn, resume->id, USHER__V1__ERROR__CODE__RESUME_REJECTED,
                    "no such session to resume; log in", 0);
        message_destroy(message);
        return;
    }
    if (refuse_fight(session, turn, resume->conn, resume->id, &asker)) {
        message_destroy(message);
        return;
    }
    struct change *change;
    MEMORY_MUST((change = turn_change(turn, CHANGE_RESUME, message)) != NULL, "a resume");
    session_describe(session, turn, change, USHER__V1__PRESENCE_EVENT__KIND__RESUMED,
                     USHER__V1__PRESENCE_EVENT__CAUSE__UNKNOWN);
    memcpy(change->record.address, resume->address, sizeof(change->record.address));
    session_name_transport(&change->record, resume->listener);
    memcpy(change->event.address, resume->address, sizeof(change->event.address));
    change->last_mid = resume->last_mid;
    note_who_goes(session, turn);
}

static void refuse(struct turn *turn, uint64_t conn, uint64_t id, const struct asker *asker)
{
    note_refusal(turn, asker, "the session could not be stored", NULL, 0);
    refuse_conn(turn, conn, id, USHER__V1__ERROR__CODE__UNAVAILABLE,
                "the session could not be stored; try again",
                env_spread_ms(turn->env, RETRY_UNAVAILABLE_MS));
}

/* Nothing is said to who has never had one. */
static uint32_t stored_replay(const struct change *change)
{
    return change->stored_lost ? USHER__V1__WELCOME__REPLAY__PARTIAL
           : change->last_mid != 0 || change->stored_count != 0
               ? USHER__V1__WELCOME__REPLAY__COMPLETE
               : USHER__V1__WELCOME__REPLAY__FRESH;
}

/* The Welcome to a login or a resume that is stored. */
static void welcome(struct session *session, struct turn *turn, uint64_t id, uint32_t replay,
                    uint64_t next_seq, const struct change *change)
{
    uint64_t token_ms = session_token_left_ms(session, turn);
    struct welcome_fields fields = {
        .epoch = session->epoch,
        .secret = {session->secret, SECRET_BYTES},
        .replay = replay,
        .next_seq = next_seq,
        .heartbeat_ms = session_heartbeat_ms(turn->limits),
        .resume_ms = session_resume_ms(turn->limits),
        .frame_bytes_max = limits_frame_bytes(turn->limits),
        .time_ms = turn->wall_ms,
        .node = bytes_of_text(turn->settings->node),
        .token_ms = token_ms != UINT64_MAX ? token_ms : 0,
        .stored = stored_replay(change),
        .stored_messages = change->stored_count,
    };
    size_t offset = turn->out.size;
    MEMORY_MUST(broker_frame_welcome(&turn->out, id, &fields) == 0, "a Welcome");
    turn_effect(turn, EFFECT_WELCOMED, session->conn);
    output_send(session, turn, offset);
}

static void bind(struct session *session, struct turn *turn, uint64_t conn)
{
    CHECK(conn != 0);
    if (session->status == SESSION_IS_DETACHED)
        turn_count(turn, METRIC_sessions_detached, (uint64_t)-1);
    if (session->status != SESSION_IS_ONLINE)
        turn_count(turn, METRIC_sessions_online, 1);
    session->status = SESSION_IS_ONLINE;
    session->conn = conn;
    session->output = 0;
    session->deadline_ms = 0;
    delivery_age(session, turn); /* its timer may be late, and a Welcome says what is there */
    if (session->inbox != NULL)
        inbox_rewind(session->inbox);
}

void attach_committed(struct session *session, struct change *change, struct turn *turn)
{
    struct attach_message *attach = (struct attach_message *)change->cause;
    CHECK(attach->header.kind == MESSAGE_ATTACH && change->record.epoch > session->epoch);
    if (change->error != 0) {
        const struct asker asker = asker_of_login(attach);
        refuse(turn, attach->conn, attach->id, &asker);
        return;
    }
    if (session->conn != 0)
        refuse_shut(turn, session->conn, USHER__V1__CLOSE__REASON__REPLACED,
                    "the same user logged in elsewhere", 0, true);
    turn_count(turn, METRIC_logins, 1);
    if (session->status != SESSION_NONE) {
        turn_count(turn, METRIC_takeovers, 1);
        LOG(turn->log, TAKEOVER, LOG_S("user", turn->name), LOG_U("epoch", change->record.epoch),
            LOG_U("previous_epoch", session->epoch), LOG_S("address", attach->address),
            LOG_S("transport", listener_name(attach->listener)));
    } else {
        session->rate.allowance =
            spent_take(turn->settings->spent_rates, bytes_of_text(turn->name));
        LOG(turn->log, LOGIN, LOG_S("user", turn->name), LOG_U("epoch", change->record.epoch),
            LOG_S("address", attach->address), LOG_S("transport", listener_name(attach->listener)),
            LOG_S("client", attach->client));
    }
    uint64_t old_epoch = session->epoch;
    answer_forget(session, turn);
    if (session->held != NULL)
        held_fini(session->held);
    session->epoch = change->record.epoch;
    session->since_ms = change->record.since_ms;
    session_set_token_end(session, turn, change->record.token_ends_ms);
    session->acks = attach->acks;
    session->unnumbered = session->loss_untold = false;
    memcpy(session->secret, change->record.secret, SECRET_BYTES);
    session_show_proof(session, turn);
    session_set_details(session, attach->address, attach->client);
    session->listener = attach->listener;
    session_set_rooms(session, attach_rooms(attach));
    session_hold_source(session, turn);
    bind(session, turn, attach->conn);
    delivery_drop_done(session, change->last_mid);
    delivery_renumber(session, 1);
    shelf_bound(session, change, turn);
    welcome(session, turn, attach->id, USHER__V1__WELCOME__REPLAY__FRESH, 1, change);
    turn_mark(turn, HISTOGRAM_login_latency, attach->stamp_us);
    company_taken_over(session, turn, old_epoch);
    delivery_feed(session, turn);
}

void attach_resume_committed(struct session *session, struct change *change, struct turn *turn)
{
    struct resume_message *resume = (struct resume_message *)change->cause;
    CHECK(resume->header.kind == MESSAGE_RESUME && session->status != SESSION_NONE);
    if (change->error != 0) {
        const struct asker asker = asker_of_resume(resume);
        refuse(turn, resume->conn, resume->id, &asker);
        return;
    }
    if (session->conn != 0)
        refuse_shut(turn, session->conn, USHER__V1__CLOSE__REASON__STALE_SESSION,
                    "the session was resumed elsewhere", 0, true);
    turn_count(turn, METRIC_resumes, 1);
    LOG(turn->log, RESUMED, LOG_S("user", turn->name), LOG_U("epoch", session->epoch),
        LOG_S("transport", listener_name(resume->listener)), LOG_U("last_seq", resume->last_seq));
    char client[CLIENT_TEXT_BYTES_MAX + 1];
    strncpy(client, session_client(session), sizeof(client) - 1);
    client[sizeof(client) - 1] = '\0';
    session_set_details(session, resume->address, client);
    session->listener = resume->listener;
    session_hold_source(session, turn);
    bind(session, turn, resume->conn);
    if (session->unnumbered) {
        /* The process that counted is gone. What the client has keeps its numbers, and nothing is
         * left out for what he may miss, because nobody knows whether there was any. */
        delivery_renumber(session,
                          1 + (resume->received_seq > resume->last_seq ? resume->received_seq
                                                                       : resume->last_seq));
        session->loss_untold = true;
    } else {
        delivery_acknowledge(session, turn, resume->last_seq);
    }
    /* What comes after last_seq: complete when nothing of it has left the inbox, or may have with
     * an earlier process. That is said until he has heard it: a Welcome can be lost. */
    struct kept_message kept;
    uint64_t first = session->inbox != NULL && inbox_oldest(session->inbox, &kept)
                         ? kept.seq
                         : session->next_seq;
    bool complete = first == resume->last_seq + 1 && !session->loss_untold;
    session->unnumbered = false;
    welcome(session, turn, resume->id,
            complete ? USHER__V1__WELCOME__REPLAY__COMPLETE : USHER__V1__WELCOME__REPLAY__PARTIAL,
            first, change);
    shelf_bound(session, change, turn);
    company_resumed(session, turn, resume);
    delivery_feed(session, turn);
    answer_send_held(session, turn);
}
