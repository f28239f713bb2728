/* SPDX-License-Identifier: Apache-2.0 */
#include "user/shelf.h"

#include <stdlib.h>
#include <string.h>

#include "actors/kinds.h"
#include "actors/refuse.h"
#include "actors/user_call.h"
#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/number.h"
#include "user/user.h"

/* A stored message is nobody's before it is on the disk. Its receiver's turn asks for that as for
 * any change and is held, so what comes behind it waits: the order of each pair holds over stored
 * and other messages, a login cannot come in between, and nobody sees what a crash takes back. Who
 * is away has an actor for the time that it takes (egress.c).
 *
 * Then it goes on like every message, under a seq, as long as the inbox has room and the disk has
 * none before it (`more`). What has no room stays on disk, and what comes behind it too, or is
 * refused: it would overtake. From there they come in windows, read as soon as half of the inbox
 * is free; a window is a held turn as well, so nothing moves meanwhile and the inbox is always the
 * next piece of what the disk has. `seen_mid` says where that piece ends. It outlives what has left
 * the inbox, because the disk learns a little later what was processed.
 *
 * What has left the inbox because its receiver has it is done. All else that ends an inbox (the
 * session's end, a crash) says nothing to the disk, and it comes again with the same mid. */

static const uint64_t HOUR_US = UINT64_C(3600) * 1000000;
enum { SECOND_US = 1000000 };

/* NULL: he has none. */
static struct shelf *look(const struct session *session)
{
    return session->company != NULL ? session->company->shelf : NULL;
}

static struct shelf *shelf_of(struct session *session, struct turn *turn)
{
    struct shelf *shelf = look(session);
    if (shelf != NULL)
        return shelf;
    MEMORY_MUST((shelf = calloc(1, sizeof(*shelf))) != NULL, "what is stored");
    memory_account(MEMORY_OF_STORED, sizeof(*shelf));
    shelf->to_away = spent_take(turn->settings->spent_to_away, bytes_of_text(turn->name));
    company_of(session)->shelf = shelf;
    return shelf;
}

void shelf_clear(struct session *session, struct turn *turn)
{
    struct shelf *shelf = look(session);
    if (shelf == NULL)
        return;
    spent_put(turn->settings->spent_to_away, bytes_of_text(turn->name), shelf->to_away);
    memory_account(MEMORY_OF_STORED, -(int64_t)sizeof(*shelf));
    free(shelf);
    session->company->shelf = NULL;
    company_drop_empty(session);
}

bool shelf_move_out(const struct session *session, Usher__V1__HandoverShelf *to)
{
    const struct shelf *shelf = look(session);
    if (shelf == NULL || shelf->reads)
        return shelf == NULL;
    to->seen_mid = shelf->seen_mid;
    to->retry_ms = shelf->retry_ms;
    to->second_due_ns = shelf->second.due_ns;
    to->to_away_due_ns = shelf->to_away.due_ns;
    to->more = shelf->more;
    return true;
}

void shelf_move_in(struct session *session, const Usher__V1__HandoverShelf *from, struct turn *turn)
{
    struct shelf *shelf = shelf_of(session, turn);
    shelf->seen_mid = from->seen_mid;
    shelf->retry_ms = from->retry_ms;
    shelf->second.due_ns = from->second_due_ns;
    shelf->to_away.due_ns = from->to_away_due_ns;
    shelf->more = from->more;
}

/* --- as a sender ------------------------------------------------------------------------------ */

uint32_t shelf_take_rate(struct session *session, struct turn *turn)
{
    uint32_t per_second = (uint32_t)inbox_stored_per_second(turn->limits);
    struct allowance *second = &shelf_of(session, turn)->second;
    if (per_second == 0)
        return 0;
    struct allowance_terms terms = allowance_over(per_second, SECOND_US);
    uint32_t wait_ms = allowance_wait_ms(second, terms, turn->now_ms);
    if (wait_ms == 0)
        allowance_spend(second, terms, turn->now_ms);
    return wait_ms;
}

bool shelf_is_for_present(const struct session *session, const struct turn *turn)
{
    uint32_t per_hour = (uint32_t)inbox_offline_per_hour(turn->limits);
    const struct shelf *shelf = look(session);
    return per_hour != 0 && shelf != NULL &&
           allowance_wait_ms(&shelf->to_away, allowance_over(per_hour, HOUR_US), turn->now_ms) > 0;
}

void shelf_for_away(struct session *session, struct turn *turn)
{
    uint32_t per_hour = (uint32_t)inbox_offline_per_hour(turn->limits);
    if (per_hour != 0)
        allowance_spend(&shelf_of(session, turn)->to_away, allowance_over(per_hour, HOUR_US),
                        turn->now_ms);
}

/* --- to the disk ------------------------------------------------------------------------------ */

bool shelf_joins(const struct turn *turn, const struct message *message)
{
    return turn->change != NULL && turn->change->kind == CHANGE_STORE &&
           deliver_is_to_be_stored(message);
}

/* Of the user that its event names, and it is no event. */
static struct change *begin(struct turn *turn, enum change_kind kind)
{
    struct change *change;
    MEMORY_MUST((change = turn_change(turn, kind, NULL)) != NULL, "a change");
    strncpy(change->event.user, turn->name, sizeof(change->event.user) - 1);
    return change;
}

void shelf_take(struct session *session, struct deliver_message *message, struct turn *turn)
{
    CHECK(message->keep_s != 0 && !message->transient && !message->until_delivered);
    bool away = session->status == SESSION_NONE;
    uint16_t code = away ? refusal_for_away(turn, message) : 0;
    if (code == 0)
        code = delivery_stored_refusal(session, message, turn);
    if (code != 0) {
        refuse_message(turn, message, code);
        return;
    }
    struct change *change = turn->change != NULL ? turn->change : begin(turn, CHANGE_STORE);
    CHECK(change->kind == CHANGE_STORE && (change->stored == NULL || change->away == away));
    change->away = away;
    message->header.next = NULL;
    if (change->stored == NULL)
        change->stored = message;
    else
        change->stored_last->header.next = &message->header;
    change->stored_last = message;
}

/* The first of a list, taken out of it. */
static struct deliver_message *take_first(struct change *change)
{
    struct deliver_message *first = change->stored;
    if (first != NULL) {
        change->stored = (struct deliver_message *)first->header.next;
        first->header.next = NULL;
    }
    return first;
}

/* He has no session: whoever can reach him elsewhere hears of it. */
static void notify(const struct deliver_message *message, uint32_t count, struct turn *turn)
{
    const char *service = turn->settings->stored_service;
    if (service == NULL || service[0] == '\0')
        return;
    const struct stored_notice notice = {
        .user = bytes_of_text(turn->name),
        .service = bytes_of_text(service),
        .sender = deliver_name(message),
        .from_service = message->from_service,
        .mid = message->mid,
        .payload_bytes = message->payload_size,
        .time_ms = message->time_ms,
        .count = count,
    };
    struct user_call_message *mail = stored_notice_create(&notice);
    if (mail != NULL)
        turn_effect(turn, EFFECT_CALL, 0)->message = &mail->header;
}

/* Its sender hears that it is stored; then it goes on, or stays where it is. */
static void one_committed(struct session *session, struct deliver_message *message, uint32_t count,
                          struct turn *turn)
{
    turn_stored(turn, message->sender, message->request, message->sender_epoch, session->epoch,
                message->mid);
    message->request = 0;
    if (message->repeated) {
        message_destroy(&message->header);
        return;
    }
    message->stored = true;
    if (session->status == SESSION_NONE) {
        notify(message, count, turn);
        message_destroy(&message->header);
    } else if (shelf_waits(session) || !delivery_has_room(session, message, turn)) {
        shelf_of(session, turn)->more = true;
        message_destroy(&message->header);
    } else {
        shelf_saw(session, turn, message->mid);
        delivery_take_stored(session, message, turn);
    }
}

void shelf_committed(struct session *session, struct change *change, struct turn *turn)
{
    struct deliver_message *message;
    CHECK(change->cause == NULL && change->away == (session->status == SESSION_NONE));
    while ((message = take_first(change)) != NULL)
        if (change->error != 0)
            refuse_message(turn, message, USHER__V1__ERROR__CODE__UNAVAILABLE);
        else if (message->refusal != 0)
            refuse_message(turn, message, message->refusal);
        else
            one_committed(session, message, change->stored_count, turn);
    change->stored_last = NULL;
}

/* --- from the disk ---------------------------------------------------------------------------- */

void shelf_saw(struct session *session, struct turn *turn, uint64_t mid)
{
    struct shelf *shelf = shelf_of(session, turn);
    CHECK(mid > shelf->seen_mid);
    shelf->seen_mid = mid;
}

void shelf_left(struct session *session, struct turn *turn)
{
    shelf_of(session, turn)->more = true;
}

void shelf_done(struct turn *turn, uint64_t mid)
{
    if (mid != 0)
        turn_effect(turn, EFFECT_DONE, mid);
}

/* Most of it may be in the inbox already: a window that is empty says so. */
void shelf_bound(struct session *session, const struct change *change, struct turn *turn)
{
    if (change->stored_count == 0 && look(session) == NULL)
        return;
    struct shelf *shelf = shelf_of(session, turn);
    shelf->more = change->stored_count > 0;
    shelf->retry_ms = 0;
}

static uint64_t free_of(uint64_t most, uint64_t taken)
{
    return most > taken ? most - taken : 1;
}

static bool is_half_free(const struct session *session, const struct turn *turn)
{
    return session->inbox == NULL ||
           (session->inbox->count <= limits_inbox_messages(turn->limits) / 2 &&
            session->inbox->bytes <= limits_inbox_bytes(turn->limits) / 2);
}

void shelf_look(struct session *session, struct turn *turn)
{
    if (!shelf_waits(session) || session->conn == 0 || session->stopping ||
        look(session)->retry_ms > turn->now_ms || !is_half_free(session, turn))
        return;
    struct change *change = begin(turn, CHANGE_WINDOW);
    look(session)->reads = true;
    const struct inbox none = {0};
    const struct inbox *inbox = session->inbox != NULL ? session->inbox : &none;
    change->after_mid = look(session)->seen_mid;
    change->messages_max = (uint32_t)free_of(limits_inbox_messages(turn->limits), inbox->count);
    change->bytes_max = (uint32_t)free_of(limits_inbox_bytes(turn->limits), inbox->bytes);
}

uint64_t shelf_due_ms(const struct session *session)
{
    const struct shelf *shelf = look(session);
    bool waits = shelf != NULL && shelf->more && session->conn != 0 && shelf->retry_ms != 0;
    return waits ? shelf->retry_ms : UINT64_MAX;
}

void shelf_read(struct session *session, struct change *change, struct turn *turn)
{
    struct deliver_message *message;
    struct shelf *shelf = look(session);
    CHECK(shelf != NULL && shelf->more && session->status != SESSION_NONE);
    shelf->reads = false;
    shelf->more = change->error != 0 || change->more;
    bool fails = shelf->more && change->stored == NULL;
    shelf->retry_ms = fails ? turn->now_ms + CHANGE_RETRY_MS : 0;
    while ((message = take_first(change)) != NULL) {
        message->stored = true;
        if (message->mid <= shelf->seen_mid) {
            message_destroy(&message->header);
            continue;
        }
        shelf_saw(session, turn, message->mid);
        delivery_take_stored(session, message, turn);
    }
}
