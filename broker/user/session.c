/* SPDX-License-Identifier: Apache-2.0 */
#include "user/session.h"
#include "actors/proof.h"
#include "actors/refuse.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "actors/held.h"
#include "backend.pb-c.h"
#include "base/check.h"
#include "base/listeners.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "user/company.h"
#include "user/shelf.h"

/* Housekeeping of a session; what it means is in the handlers. */

static_assert(sizeof(struct session) <= 160, "each user has one; docs/performance.md has the sum");

/* Of a token that is said to be good for longer: a thousand years. */
static const uint64_t LIFE_MS_MAX = UINT64_C(1000) * 365 * 86400 * 1000;

bool session_is_bare(const struct session *session)
{
    return session->inbox == NULL && session->requests == NULL && session->held == NULL &&
           session->source == NULL && session->details == NULL && session->company == NULL;
}

const char *session_address(const struct session *session)
{
    return session->details != NULL ? session->details->text : "";
}

const char *session_client(const struct session *session)
{
    const char *address = session_address(session);
    return session->details != NULL ? address + strlen(address) + 1 : "";
}

static uint64_t token_ends_ms(const struct session *session)
{
    return session->details != NULL ? session->details->token_ends_ms : 0;
}

struct bytes session_rooms(const struct session *session)
{
    const char *client = session_client(session);
    return session->roomy ? bytes_of_text(client + strlen(client) + 1) : (struct bytes){0};
}

/* Few have rooms, and they may be much longer than all the rest: they count as held. */
static void drop_details(struct session *session)
{
    memory_account(MEMORY_OF_SESSIONS, -(int64_t)(session_rooms(session).size +
                                                  session->noted * sizeof(struct change_note)));
    free(session->details);
    session->details = NULL;
    session->roomy = session->noted = false;
}

/* What is passed in may be of the details that were there. */
static void make_details(struct session *session, uint64_t ends_ms, const char *address,
                         const char *client, struct bytes rooms)
{
    size_t first = strlen(address) + 1;
    size_t second = strlen(client) + 1;
    size_t third = rooms.size > 0 ? rooms.size + 1 : 0;
    struct details *details = NULL;
    if (first + second + third > 2 || ends_ms != 0) {
        size_t size = sizeof(*details) + first + second + third;
        MEMORY_MUST((details = malloc(size)) != NULL, "a session");
        details->token_ends_ms = ends_ms;
        memcpy(details->text, address, first);
        memcpy(details->text + first, client, second);
        if (third > 0)
            *bytes_put((uint8_t *)details->text + first + second, rooms) = '\0';
        memory_account(MEMORY_OF_SESSIONS, (int64_t)rooms.size);
    }
    drop_details(session);
    session->details = details;
    session->roomy = rooms.size > 0;
}

void session_set_details(struct session *session, const char *address, const char *client)
{
    make_details(session, token_ends_ms(session), address, client, session_rooms(session));
}

void session_set_rooms(struct session *session, struct bytes rooms)
{
    CHECK(rooms.size <= STORE_ROOMS_BYTES_MAX);
    if (rooms.size > 0 || session_rooms(session).size > 0)
        make_details(session, token_ends_ms(session), session_address(session),
                     session_client(session), rooms);
}

bool session_may_join(const struct session *session, struct bytes room)
{
    struct bytes rest = session_rooms(session);
    while (rest.size > 0) {
        const uint8_t *blank = memchr(rest.data, ' ', rest.size);
        size_t size = blank != NULL ? (size_t)(blank - rest.data) : rest.size;
        if (room_pattern_fits((struct bytes){rest.data, size}, room))
            return true;
        size += blank != NULL;
        rest.data += size;
        rest.size -= size;
    }
    return false;
}

void session_move_token_end(struct session *session, uint64_t ends_ms)
{
    if (session->details != NULL)
        session->details->token_ends_ms = ends_ms;
    else
        make_details(session, ends_ms, "", "", (struct bytes){0});
}

void session_set_token_end(struct session *session, const struct turn *turn, uint64_t unix_ms)
{
    uint64_t ends_ms = 0;
    if (unix_ms != 0) {
        uint64_t left_ms = unix_ms > turn->wall_ms ? unix_ms - turn->wall_ms : 0;
        ends_ms = left_ms < LIFE_MS_MAX ? turn->now_ms + left_ms : turn->now_ms + LIFE_MS_MAX;
        ends_ms = ends_ms > 0 ? ends_ms : 1;
    }
    session_move_token_end(session, ends_ms);
}

uint64_t session_token_end(const struct session *session, const struct turn *turn)
{
    uint64_t ends_ms = token_ends_ms(session);
    if (ends_ms == 0)
        return 0;
    ends_ms += turn->wall_ms;
    return ends_ms > turn->now_ms ? ends_ms - turn->now_ms : 1;
}

uint64_t session_token_left_ms(const struct session *session, const struct turn *turn)
{
    if (!turn->settings->ends_with_token)
        return UINT64_MAX; /* each turn asks: nothing of the session is looked at for it */
    uint64_t ends_ms = token_ends_ms(session);
    if (ends_ms == 0)
        return UINT64_MAX;
    return ends_ms > turn->now_ms ? ends_ms - turn->now_ms : 0;
}

void session_put_off_token_end(struct session *session, uint64_t until_ms)
{
    session->details->token_ends_ms = until_ms;
}

/* Where a note is, or is to be: behind the texts. */
static size_t note_at(const struct session *session)
{
    size_t size = sizeof(struct details) + strlen(session_address(session)) + 1 +
                  strlen(session_client(session)) + 1;
    size += session->roomy ? session_rooms(session).size + 1 : 0;
    return (size + _Alignof(struct change_note) - 1) / _Alignof(struct change_note) *
           _Alignof(struct change_note);
}

void session_keep_note(struct session *session, const struct change_note *note)
{
    CHECK(!session->noted);
    bool bare = session->details == NULL;
    size_t at = note_at(session);
    struct details *details = realloc(session->details, at + sizeof(*note));
    if (details == NULL)
        return;
    if (bare)
        memset(details, 0, at);
    memcpy((char *)details + at, note, sizeof(*note));
    memory_account(MEMORY_OF_SESSIONS, sizeof(*note));
    session->details = details;
    session->noted = true;
}

bool session_take_note(struct session *session, struct change_note *note)
{
    if (!session->noted)
        return false;
    size_t at = note_at(session);
    memcpy(note, (char *)session->details + at, sizeof(*note));
    memory_account(MEMORY_OF_SESSIONS, -(int64_t)sizeof(*note));
    session->noted = false;
    struct details *details = realloc(session->details, at);
    session->details = details != NULL ? details : session->details;
    return true;
}

void session_clear(struct session *session, struct turn *turn)
{
    if (session->inbox != NULL) {
        struct deliver_message *message;
        while ((message = inbox_pop(session->inbox)) != NULL)
            if (message->stored)
                message_destroy(&message->header); /* it comes again */
            else
                refuse_message(turn, message, USHER__V1__ERROR__CODE__UNDELIVERED);
        CHECK(session->inbox->count == 0 && session->inbox->first == NULL);
        free(session->inbox);
    }
    frames_drop(session, turn);
    answer_forget(session, turn);
    if (session->held != NULL)
        held_fini(session->held);
    free(session->held);
    spent_put(turn->settings->spent_rates, bytes_of_text(turn->name), session->rate.allowance);
    fight_remember(session->fight,
                   (struct fight_owner){bytes_of_text(turn->name), turn->settings->spent_fights});
    fight_destroy(session->fight);
    source_rates_leave(turn->settings->source_rates, session->source);
    drop_details(session);
    shelf_clear(session, turn);
    company_clear(session);
    *session = (struct session){0};
}

void session_hold_source(struct session *session, struct turn *turn)
{
    struct source_rate *before = session->source;
    session->source =
        source_rates_enter(turn->settings->source_rates, bytes_of_text(session_address(session)));
    source_rates_leave(turn->settings->source_rates, before);
}

enum { TIMER_STEP_FROM_MS = 1000, TIMER_STEP_MS = 50 };

void session_arm(struct session *session, struct turn *turn)
{
    CHECK(session->status != SESSION_NONE);
    uint64_t due = requests_due_ms(session->requests);
    if (session->deadline_ms != 0 && session->deadline_ms < due)
        due = session->deadline_ms;
    uint64_t company_due = company_due_ms(session, turn);
    due = company_due < due ? company_due : due;
    uint64_t stored_due = shelf_due_ms(session);
    due = stored_due < due ? stored_due : due;
    uint64_t left_ms = session->stopping ? UINT64_MAX : session_token_left_ms(session, turn);
    if (left_ms != UINT64_MAX && turn->now_ms + left_ms < due)
        due = turn->now_ms + left_ms;
    struct kept_message kept;
    if (session->inbox != NULL && limits_inbox_age_ms(turn->limits) != 0 &&
        inbox_oldest(session->inbox, &kept) && kept.mid == 0) {
        uint64_t age_due = kept.arrived_ms + limits_inbox_age_ms(turn->limits);
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

uint32_t session_logout_wait_ms(const struct session *session, const struct turn *turn)
{
    bool waits = session->conn != 0 && session->deadline_ms > turn->now_ms;
    return waits ? (uint32_t)(session->deadline_ms - turn->now_ms) : 0;
}

void session_show_proof(const struct session *session, struct turn *turn)
{
    turn_effect(turn, EFFECT_PROOF,
                proof_of_resume(turn->settings->proof_key, session->epoch,
                                (struct bytes){session->secret, SECRET_BYTES}));
}

void session_name_transport(struct session_record *record, uint8_t listener)
{
    static_assert((int)STORE_TRANSPORT_BYTES_MAX == LISTENER_NAME_BYTES_MAX, "names fit");
    memset(record->transport, 0, sizeof(record->transport));
    strncpy(record->transport, listener_name(listener), sizeof(record->transport) - 1);
}

void session_describe(const struct session *session, struct turn *turn, struct change *change,
                      uint8_t kind, uint8_t cause)
{
    CHECK(change == turn->change && strlen(turn->name) < sizeof(change->event.user));
    struct session_record *record = &change->record;
    record->epoch = session->epoch;
    record->since_ms = session->since_ms;
    record->state =
        kind == USHER__V1__PRESENCE_EVENT__KIND__DETACHED ? SESSION_DETACHED : SESSION_ONLINE;
    record->token_ends_ms = session_token_end(session, turn);
    record->acks = session->acks;
    memcpy(record->secret, session->secret, sizeof(record->secret));
    strncpy(record->address, session_address(session), sizeof(record->address) - 1);
    strncpy(record->client, session_client(session), sizeof(record->client) - 1);
    session_name_transport(record, session->listener);
    record->rooms = session_rooms(session);
    struct presence_event *event = &change->event;
    event->time_ms = turn->wall_ms;
    event->epoch = session->epoch;
    event->kind = kind;
    event->cause = cause;
    strncpy(event->user, turn->name, sizeof(event->user) - 1);
    memcpy(event->address, record->address, sizeof(event->address));
    memcpy(event->client, record->client, sizeof(event->client));
}
