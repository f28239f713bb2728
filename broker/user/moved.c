/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "actors/held.h"
#include "backend.pb-c.h"
#include "base/check.h"
#include "base/memory.h"
#include "proto/handover.h"
#include "user/friends_moved.h"
#include "user/rooms.h"
#include "user/shelf.h"
#include "user/user.h"

/* A user who goes over to another process, between two of his turns: what he is, in a record, and
 * out of a record what he was.
 *
 * All that a session holds is in there, or follows from it: the tick that it needs, its place among
 * those of its source, the proof of its secret. What is not in there is lost with the old process:
 * that he is being traced. No frame of his is left between
 * the connection and the session, since he had no message any more.
 *
 * Over there he is made by a message, in a turn like any other. If his connection could not come
 * over he has lost it: that is stored by the tick that tries again what could not be stored, and so
 * after the hand-over. */

/* --- out -------------------------------------------------------------------------------------- */

static void describe_message(const struct kept_message *kept, Usher__V1__HandoverMessage *to)
{
    usher__v1__handover_message__init(to);
    to->seq = kept->seq;
    to->arrived_ms = kept->arrived_ms;
    to->time_ms = kept->time_ms;
    to->from_service = kept->from_service;
    to->redelivered = kept->redelivered;
    to->sent = kept->sent;
    to->mid = kept->mid;
    to->name = handover_binary(kept->name);
    to->payload = handover_binary(kept->payload);
    to->traceparent = handover_binary(kept->traceparent);
    if (kept->held != NULL && kept->held->until_delivered) {
        to->sender = kept->held->sender;
        to->sender_epoch = kept->held->sender_epoch;
        to->request = kept->held->request;
    }
}

static bool describe_inbox(const struct inbox *inbox, struct arena *arena,
                           Usher__V1__HandoverUser *user)
{
    struct inbox_place place = {0};
    struct kept_message kept;
    if (inbox == NULL)
        return true;
    Usher__V1__HandoverMessage *messages = handover_part(arena, inbox->count * sizeof(*messages));
    user->inbox = handover_part(arena, inbox->count * sizeof(*user->inbox));
    if (messages == NULL || user->inbox == NULL)
        return false;
    while (inbox_read(inbox, &place, &kept)) {
        describe_message(&kept, &messages[user->n_inbox]);
        user->inbox[user->n_inbox] = &messages[user->n_inbox];
        user->n_inbox++;
    }
    CHECK(user->n_inbox == inbox->count);
    user->waiting = inbox->waiting;
    user->unseen = inbox->unseen;
    return true;
}

static bool describe_requests(const struct requests *requests, struct arena *arena,
                              Usher__V1__HandoverUser *user)
{
    uint32_t count = requests_count(requests), place = 0;
    if (count == 0)
        return true;
    Usher__V1__HandoverRequest *list = handover_part(arena, count * sizeof(*list));
    user->requests = handover_part(arena, count * sizeof(*user->requests));
    if (list == NULL || user->requests == NULL)
        return false;
    for (const struct request *request; (request = requests_next(requests, &place)) != NULL;) {
        Usher__V1__HandoverRequest *to = &list[user->n_requests];
        usher__v1__handover_request__init(to);
        to->id = request->id;
        to->call = request->call;
        to->deadline_ms = request->deadline_ms;
        to->watch = request->watch;
        user->requests[user->n_requests++] = to;
    }
    CHECK(user->n_requests == count);
    return true;
}

static void describe(const struct session *session, actor_handle self, const char *name,
                     const char *rooms, Usher__V1__HandoverUser *user)
{
    user->handle = self;
    user->name = (char *)(uintptr_t)name;
    user->epoch = session->epoch;
    user->conn = session->conn;
    user->next_seq = session->next_seq;
    user->since_ms = session->since_ms;
    user->deadline_ms = session->deadline_ms;
    user->status = session->status;
    user->loss_cause = session->loss_cause;
    user->listener = session->listener;
    user->acks = session->acks;
    user->unnumbered = session->unnumbered;
    user->loss_untold = session->loss_untold;
    user->stopping = session->stopping;
    user->secret = (ProtobufCBinaryData){SECRET_BYTES, (uint8_t *)(uintptr_t)session->secret};
    user->address = (char *)(uintptr_t)session_address(session);
    user->client = (char *)(uintptr_t)session_client(session);
    user->rooms = (char *)(uintptr_t)rooms;
    user->token_ends_ms = session->details != NULL ? session->details->token_ends_ms : 0;
    user->rate_due_ns = session->rate.allowance.due_ns;
    user->rate_refused = session->rate.refused;
    user->output_bytes = session->output;
    if (session->held != NULL)
        user->held = (ProtobufCBinaryData){session->held->size, session->held->data};
}

/* They last longer than a session, and lie where they would at its end. */
void user_move_fights(const struct session *session, const char *name,
                      const struct settings *settings)
{
    fight_remember(session->fight,
                   (struct fight_owner){bytes_of_text(name), settings->spent_fights});
}

bool user_move_out(const struct session *session, actor_handle self, const char *name,
                   struct arena *arena, struct buffer *out)
{
    Usher__V1__HandoverUser user = USHER__V1__HANDOVER_USER__INIT;
    Usher__V1__HandoverRecord record = USHER__V1__HANDOVER_RECORD__INIT;
    struct bytes rooms = session_rooms(session);
    char text[STORE_ROOMS_BYTES_MAX + 1];
    session_check(session);
    Usher__V1__HandoverShelf shelf = USHER__V1__HANDOVER_SHELF__INIT;
    const struct company *company = session->company;
    if (session->status == SESSION_NONE || session->unread.first != NULL || session->feeding ||
        !shelf_move_out(session, &shelf))
        return false;
    user.shelf = company != NULL && company->shelf != NULL ? &shelf : NULL;
    *bytes_put((uint8_t *)text, rooms) = '\0';
    describe(session, self, name, text, &user);
    arena_reset(arena);
    if (!describe_inbox(session->inbox, arena, &user) ||
        !describe_requests(session->requests, arena, &user) ||
        !rooms_move_out(session, arena, &user) || !friends_move_out(session, arena, &user))
        return false;
    record.body_case = USHER__V1__HANDOVER_RECORD__BODY_USER;
    record.user = &user;
    return handover_append(out, &record) == 0;
}

/* --- in --------------------------------------------------------------------------------------- */

struct moved_message {
    struct message header;
    bool connected;
    const Usher__V1__HandoverUser *user;
};

struct message *user_move_in(const Usher__V1__HandoverUser *user, bool connected,
                             const struct moved_records *records)
{
    struct moved_message *message = friends_move_message(user, sizeof(*message), records);
    if (message == NULL)
        return NULL;
    message->connected = connected;
    message->user = user;
    return &message->header;
}

static void fill_inbox(struct session *session, const Usher__V1__HandoverUser *user)
{
    for (size_t i = 0; i < user->n_inbox; i++) {
        const Usher__V1__HandoverMessage *from = user->inbox[i];
        struct deliver_message *message;
        const struct bytes name = handover_bytes(from->name);
        const struct bytes payload = handover_bytes(from->payload);
        const struct bytes traceparent = handover_bytes(from->traceparent);
        CHECK(traceparent.size == 0 || traceparent_valid(traceparent));
        MEMORY_MUST((message = deliver_create_traced(name, payload, traceparent)) != NULL,
                    "a message");
        bool waits = i + user->waiting >= user->n_inbox;
        message->seq = from->seq;
        message->arrived_ms = from->arrived_ms;
        message->time_ms = from->time_ms;
        message->from_service = from->from_service;
        message->redelivered = from->redelivered || (from->sent && waits);
        message->sent = !waits;
        message->stored = from->mid != 0;
        if (message->stored) /* in the place of its age */
            message->mid = from->mid;
        message->sender = from->sender;
        message->sender_epoch = from->sender_epoch;
        message->request = from->request;
        message->until_delivered = from->request != 0;
        delivery_keep(session, message);
    }
    if (session->inbox != NULL)
        inbox_seen(session->inbox, user->unseen);
}

static void fill_requests(struct session *session, const Usher__V1__HandoverUser *user,
                          struct turn *turn)
{
    for (size_t i = 0; i < user->n_requests; i++) {
        const Usher__V1__HandoverRequest *from = user->requests[i];
        const struct request request = {.id = from->id,
                                        .call = from->call,
                                        .deadline_ms = from->deadline_ms,
                                        .watch = from->watch};
        int error = 0;
        MEMORY_MUST((error = requests_add(&session->requests, &request, UINT32_MAX,
                                          turn->settings->requests_key)) != -ENOMEM,
                    "a request");
        CHECK(error == 0); /* or two have one id */
    }
    atomic_fetch_add_explicit(&turn->counters->calls_waiting, requests_calls(session->requests),
                              memory_order_relaxed);
}

static void fill(struct session *session, const Usher__V1__HandoverUser *user, struct turn *turn)
{
    session->epoch = user->epoch;
    session->conn = user->conn;
    session->next_seq = user->next_seq;
    session->since_ms = user->since_ms;
    session->deadline_ms = user->deadline_ms;
    session->status = (uint8_t)user->status;
    session->loss_cause = (uint8_t)user->loss_cause;
    session->listener = (uint8_t)user->listener;
    session->acks = user->acks;
    session->unnumbered = user->unnumbered;
    session->loss_untold = user->loss_untold;
    session->stopping = user->stopping;
    memcpy(session->secret, user->secret.data, SECRET_BYTES);
    session->rate.allowance.due_ns = user->rate_due_ns;
    session->rate.refused = user->rate_refused;
    session->output = user->output_bytes;
    session_set_details(session, user->address, user->client);
    session_set_rooms(session, bytes_of_text(user->rooms));
    if (user->token_ends_ms != 0)
        session_move_token_end(session, user->token_ends_ms);
    session_hold_source(session, turn);
    session_show_proof(session, turn);
    if (user->held.len == 0)
        return;
    MEMORY_MUST((session->held = calloc(1, sizeof(*session->held))) != NULL, "an answer");
    MEMORY_MUST(held_append(session->held, user->held.data, user->held.len) == 0, "an answer");
}

static bool is_one(const Usher__V1__HandoverUser *user)
{
    return user->epoch != 0 && user->secret.len == SECRET_BYTES &&
           (user->status == SESSION_IS_ONLINE || user->status == SESSION_IS_DETACHED) &&
           user->unseen <= user->waiting && user->waiting <= user->n_inbox &&
           strlen(user->rooms) <= STORE_ROOMS_BYTES_MAX &&
           strlen(user->address) <= ADDRESS_BYTES_MAX &&
           strlen(user->client) <= CLIENT_TEXT_BYTES_MAX;
}

void user_moved(struct session *session, struct message *message, struct turn *turn)
{
    const struct moved_message *moved = (const struct moved_message *)message;
    const Usher__V1__HandoverUser *user = moved->user;
    /* It is this process that ends otherwise, and the one before it goes on. */
    CHECK(session->status == SESSION_NONE && is_one(user));
    fill(session, user, turn);
    fill_inbox(session, user);
    fill_requests(session, user, turn);
    if (user->shelf != NULL)
        shelf_move_in(session, user->shelf, turn);
    if (user->memberships != NULL)
        rooms_move_in(session, user->memberships, session->conn != 0 && !moved->connected);
    friends_move_in(session, user, message, turn);
    turn_count(turn,
               session->status == SESSION_IS_ONLINE ? METRIC_sessions_online
                                                    : METRIC_sessions_detached,
               1);
    if (!moved->connected && session->conn != 0) {
        session->conn = 0;
        session->output = 0;
        session->loss_cause = USHER__V1__PRESENCE_EVENT__CAUSE__SHUTDOWN;
        session->deadline_ms = turn->now_ms;
    }
    message_destroy(message);
}
