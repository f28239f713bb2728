/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "actors/gate.h"
#include "actors/held.h"
#include "base/memory.h"
#include "backend.pb-c.h"
#include "client.pb-c.h"

/* Housekeeping of a session; what it means is in the handlers. */

static_assert(sizeof(struct session) <= 152, "each user has one; docs/performance.md has the sum");

const char *session_address(const struct session *session)
{
    return session->details != NULL ? session->details : "";
}

const char *session_client(const struct session *session)
{
    return session->details != NULL ? session->details + strlen(session->details) + 1 : "";
}

void session_set_details(struct session *session, const char *address, const char *client)
{
    free(session->details);
    session->details = NULL;
    size_t first = strlen(address) + 1;
    size_t second = strlen(client) + 1;
    if (first + second == 2)
        return;
    MEMORY_MUST((session->details = malloc(first + second)) != NULL, "a session");
    memcpy(session->details, address, first);
    memcpy(session->details + first, client, second);
}

void session_clear(struct session *session, struct turn *turn)
{
    if (session->inbox != NULL) {
        struct deliver_message *message;
        while ((message = inbox_pop(session->inbox)) != NULL)
            deliver_refuse(turn, message, USHER__V1__ERROR__CODE__UNDELIVERED);
        free(session->inbox);
    }
    session_drop_frames(session, turn);
    session_forget_requests(session, turn);
    if (session->held != NULL)
        held_fini(session->held);
    free(session->held);
    spent_put(turn->settings->spent_rates, bytes_of_text(turn->name), session->rate.allowance);
    fight_remember(session->fight, turn->settings->spent_fights, bytes_of_text(turn->name));
    fight_destroy(session->fight);
    source_rates_leave(turn->settings->source_rates, session->source);
    free(session->details);
    *session = (struct session){0};
}

enum { TIMER_STEP_FROM_MS = 1000, TIMER_STEP_MS = 50 };

void session_arm(struct session *session, struct turn *turn)
{
    uint64_t due = requests_due_ms(session->requests);
    if (session->deadline_ms != 0 && session->deadline_ms < due)
        due = session->deadline_ms;
    struct kept_message kept;
    if (session->inbox != NULL && turn->settings->inbox_age_ms != 0 &&
        inbox_oldest(session->inbox, &kept)) {
        uint64_t age_due = kept.arrived_ms + turn->settings->inbox_age_ms;
        due = age_due < due ? age_due : due;
    }
    /* Far ones in steps: a client that asks for ever earlier ones does not move it each time. */
    if (due != UINT64_MAX && due > turn->now_ms + TIMER_STEP_FROM_MS)
        due += TIMER_STEP_MS - due % TIMER_STEP_MS;
    if (due == UINT64_MAX || (session->timer_ms != 0 && session->timer_ms <= due))
        return;
    session->timer_ms = due;
    turn_effect(turn, EFFECT_TIMER, due);
}

void session_show_proof(const struct session *session, struct turn *turn)
{
    turn_effect(turn, EFFECT_PROOF,
                gate_proof(turn->settings->proof_key, session->epoch,
                           (struct bytes){session->secret, SECRET_BYTES}));
}

void session_describe(const struct session *session, struct turn *turn, struct change *change,
                      uint8_t kind, uint8_t cause)
{
    struct session_record *record = &change->record;
    record->epoch = session->epoch;
    record->since_ms = session->since_ms;
    record->state = kind == USHER__V1__PRESENCE_EVENT__KIND__DETACHED ? SESSION_DETACHED
                                                                       : SESSION_ONLINE;
    record->acks = session->acks;
    memcpy(record->secret, session->secret, sizeof(record->secret));
    strncpy(record->address, session_address(session), sizeof(record->address) - 1);
    strncpy(record->client, session_client(session), sizeof(record->client) - 1);
    struct presence_event *event = &change->event;
    event->time_ms = turn->wall_ms;
    event->epoch = session->epoch;
    event->kind = kind;
    event->cause = cause;
    strncpy(event->user, turn->name, sizeof(event->user) - 1);
    memcpy(event->address, record->address, sizeof(event->address));
    memcpy(event->client, record->client, sizeof(event->client));
}
