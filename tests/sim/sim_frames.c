/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/check.h"
#include "numbers.h"
#include "proto/frame.h"
#include "sim.h"
#include "sim_room.h"

/* What clients read, and what they make of it: each frame is told, checked and acted upon. */

enum { FRAME_BYTES_MAX = 1 << 17 };

static bool is_deaf(const struct wire *wire)
{
    return wire->client_closed || wire->reset || wire->over;
}

static void on_welcome(struct world *world, uint32_t number, const Usher__V1__Welcome *welcome)
{
    struct wire *wire = &world->wires[number];
    struct device *device = &world->devices[wire->device];
    check_welcome(world, number, welcome);
    friends_welcomed(world, number);
    stored_welcomed(world, number, welcome);
    wire->welcomed = true;
    wire->next_seq = welcome->next_seq;
    if (wire->is_resume) {
        struct client_session *session = &world->sessions[wire->session];
        if (session->wire == (int)number) {
            session->last_seq = welcome->next_seq - 1;
            session->bound_step = wire->bound_step;
        }
        return;
    }
    wire->session = (int)world->session_count++;
    struct client_session *session = &world->sessions[wire->session];
    *session = (struct client_session){.user = wire->user,
                                       .device = wire->device,
                                       .wire = (int)number,
                                       .epoch = welcome->epoch,
                                       .acks = wire->acks,
                                       .bound_step = wire->bound_step};
    if (welcome->secret.len == sizeof(session->secret))
        memcpy(session->secret, welcome->secret.data, welcome->secret.len);
    if (device->wire == (int)number)
        device->session = wire->session;
}

static void on_message(struct world *world, uint32_t number, const Usher__V1__Message *message)
{
    struct wire *wire = &world->wires[number];
    int parcel =
        parcel_read(world, (struct bytes){message->payload.data, message->payload.len}, wire->user);
    if (parcel == NOBODY || wire->session == NOBODY)
        return;
    tell(world, "wire %u: message %llu, parcel %d mid %llu%s", number,
         (unsigned long long)message->seq, parcel, (unsigned long long)message->mid,
         message->redelivered ? " again" : "");
    bool transient = message->seq == 0 || world->parcels[parcel].transient;
    if (transient)
        check_transient(world, number, message, parcel);
    else
        check_message(world, number, message, parcel);
    struct client_session *session = &world->sessions[wire->session];
    if (session->wire != (int)number)
        return;
    if (transient) {
        check_transient_processed(world, session, parcel);
        return;
    }
    if (message->seq <= session->last_seq) {
        if (!message->redelivered)
            broken(world, "SEQ", "message %llu of wire %u comes again without a mark",
                   (unsigned long long)message->seq, number);
        return;
    }
    session->last_seq = message->seq;
    if (message->mid != 0 || world->parcels[parcel].keep)
        stored_processed(world, session, parcel, message->mid);
    else
        check_processed(world, session, parcel, message->seq, message->redelivered);
    if (world->healing || one_in(world, 4))
        client_ack(world, session);
}

static void on_done(struct world *world, uint32_t wire, uint64_t id, const Usher__V1__Done *done)
{
    const struct asked *request = check_answer(world, wire, id, true);
    if (request == NULL)
        return;
    if (request->kind >= ASK_JOIN) {
        rooms_done(world, wire, request, done);
        return;
    }
    if (request->kind == ASK_LOGOUT) {
        world->sessions[world->wires[wire].session].over = true;
        return;
    }
    if (request->kind == ASK_WATCH || request->kind == ASK_STATUS) {
        friends_done(world, world->wires[wire].session, request);
        return;
    }
    if (request->parcel == NOBODY) {
        broken(world, "P5", "a Done to request %llu, which is no Send", (unsigned long long)id);
        return;
    }
    struct parcel *parcel = &world->parcels[request->parcel];
    if (parcel->keep) {
        stored_told(world, request->parcel, done->mid);
    } else if (parcel->transient || done->dropped) {
        check_transient_answer(world, request->parcel, !done->dropped, done->dropped);
    } else if (parcel->until_delivered) {
        check_delivered(world, parcel, done->epoch);
    } else {
        parcel->accepted = true;
        parcel->accepted_epoch = done->epoch;
        parcel->accepted_step = world->step;
    }
}

/* A resume that had to succeed: the session was there all the time. */
static void check_refused_resume(struct world *world, const struct wire *wire)
{
    const struct user *user = &world->users[wire->user];
    bool due = user->state != 0 && user->epoch == wire->asked_epoch &&
               user->live_step < wire->asked_step && world->stop_step < wire->asked_step &&
               !world->stopping;
    if (due)
        broken(world, "RESUME", "the resume of %s to epoch %llu is refused", user->name,
               (unsigned long long)wire->asked_epoch);
}

static void count_error(struct world *world, uint32_t code)
{
    if (code == USHER__V1__ERROR__CODE__RESUME_REJECTED)
        count(world, COUNT_resumes_refused);
    else if (code == USHER__V1__ERROR__CODE__UNAVAILABLE)
        count(world, COUNT_refused_unavailable);
    else if (code == USHER__V1__ERROR__CODE__DRAINING)
        count(world, COUNT_refused_draining);
    else if (code == USHER__V1__ERROR__CODE__RATE_LIMITED)
        count(world, COUNT_refused_rate);
    else if (code == USHER__V1__ERROR__CODE__UNDELIVERED)
        count(world, COUNT_undelivered);
    else if (code == USHER__V1__ERROR__CODE__SERVICE_LOST)
        count(world, COUNT_services_lost);
}

static void on_error(struct world *world, uint32_t number, uint64_t id,
                     const Usher__V1__Error *error)
{
    struct wire *wire = &world->wires[number];
    const struct asked *request = check_answer(world, number, id, false);
    if (request == NULL)
        return;
    count_error(world, error->code);
    if (error->code == USHER__V1__ERROR__CODE__UNAUTHENTICATED && !wire->forged)
        broken(world, "P2", "wire %u is refused with its own token", number);
    if (error->code == USHER__V1__ERROR__CODE__RESUME_REJECTED) {
        check_refused_resume(world, wire);
        struct device *device = &world->devices[wire->device];
        world->sessions[wire->session].over = true;
        if (device->session == wire->session)
            device->session = NOBODY;
        wire->session = NOBODY;
    }
    if (request->kind == ASK_RESUME || request->kind == ASK_LOGIN)
        client_refused(world, number, error->code);
    if (request->kind >= ASK_JOIN)
        rooms_refused(world, number, request, error->code);
    if (request->parcel == NOBODY || request->kind >= ASK_JOIN)
        return;
    struct parcel *parcel = &world->parcels[request->parcel];
    parcel->reported = true;
    parcel->timed_out =
        parcel->kind == PARCEL_CALL && error->code == USHER__V1__ERROR__CODE__TIMEOUT;
    if (parcel->timed_out)
        check_timeout(world, parcel);
    if (parcel->kind == PARCEL_SEND && error->code == USHER__V1__ERROR__CODE__NOT_ONLINE)
        check_not_online(world, parcel->to, request->step);
}

static void on_reply(struct world *world, uint32_t wire, uint64_t id, const Usher__V1__Reply *reply)
{
    const struct asked *request = check_answer(world, wire, id, true);
    if (request == NULL)
        return;
    int parcel =
        parcel_read(world, (struct bytes){reply->payload.data, reply->payload.len}, NOBODY);
    count(world, COUNT_replies);
    if (parcel != NOBODY && parcel != request->parcel)
        broken(world, "P5", "request %llu got the reply to parcel %d", (unsigned long long)id,
               parcel);
}

static void on_pong(struct world *world, uint32_t wire, uint64_t id)
{
    const struct asked *request = id != 0 ? check_answer(world, wire, id, true) : NULL;
    if (request != NULL)
        friends_pong(world, wire, request->step);
}

static void on_close(struct world *world, uint32_t number, const Usher__V1__Close *close)
{
    struct wire *wire = &world->wires[number];
    struct device *device = &world->devices[wire->device];
    wire->got_close = true;
    bool ended = close->reason == USHER__V1__CLOSE__REASON__REPLACED ||
                 close->reason == USHER__V1__CLOSE__REASON__KICKED ||
                 close->reason == USHER__V1__CLOSE__REASON__LOGGED_OUT;
    if (ended && wire->session != NOBODY) {
        world->sessions[wire->session].over = true;
        if (device->session == wire->session)
            device->session = NOBODY;
    }
    device->rest_until_ms = world->now_ms + below(world, 300);
    if (device->wire == (int)number)
        device->wire = NOBODY;
    if (world->healing || !one_in(world, 3))
        wire_close(world, wire, world->now_ms + below(world, 50), false);
}

void client_frame_in(struct world *world, uint32_t number, struct bytes bytes)
{
    struct wire *wire = &world->wires[number];
    Usher__V1__BrokerFrame *frame = usher__v1__broker_frame__unpack(NULL, bytes.size, bytes.data);
    if (frame == NULL) {
        broken(world, "BYTES", "wire %u got a frame that is none", number);
        return;
    }
    const char *large = number_too_large(&frame->base);
    if (large != NULL)
        broken(world, "NUMBER", "wire %u got a %s of 2^53 or more", number, large);
    if (wire->got_close)
        broken(world, "CLOSE", "wire %u got frame %d to %llu behind a Close", number,
               (int)frame->body_case, (unsigned long long)frame->id);
    tell(world, "wire %u: frame %d id %llu detail %d", number, (int)frame->body_case,
         (unsigned long long)frame->id,
         frame->body_case == USHER__V1__BROKER_FRAME__BODY_ERROR   ? (int)frame->error->code
         : frame->body_case == USHER__V1__BROKER_FRAME__BODY_CLOSE ? (int)frame->close->reason
                                                                   : 0);
    switch (frame->body_case) {
    case USHER__V1__BROKER_FRAME__BODY_WELCOME:
        if (check_answer(world, number, frame->id, true) != NULL)
            on_welcome(world, number, frame->welcome);
        break;
    case USHER__V1__BROKER_FRAME__BODY_MESSAGE:
        on_message(world, number, frame->message);
        break;
    case USHER__V1__BROKER_FRAME__BODY_DONE:
        on_done(world, number, frame->id, frame->done);
        break;
    case USHER__V1__BROKER_FRAME__BODY_REPLY:
        on_reply(world, number, frame->id, frame->reply);
        break;
    case USHER__V1__BROKER_FRAME__BODY_ERROR:
        on_error(world, number, frame->id, frame->error);
        break;
    case USHER__V1__BROKER_FRAME__BODY_PONG:
        on_pong(world, number, frame->id);
        break;
    case USHER__V1__BROKER_FRAME__BODY_FRIENDS:
        friends_in(world, number, frame->friends);
        break;
    case USHER__V1__BROKER_FRAME__BODY_ROOM_STATE:
    case USHER__V1__BROKER_FRAME__BODY_ROOM_MESSAGES:
    case USHER__V1__BROKER_FRAME__BODY_ROOM_EVENT:
        rooms_frame(world, number, frame);
        break;
    case USHER__V1__BROKER_FRAME__BODY_CLOSE:
        on_close(world, number, frame->close);
        break;
    default:
        broken(world, "BYTES", "wire %u got a frame without a body", number);
        break;
    }
    usher__v1__broker_frame__free_unpacked(frame, NULL);
}

/* The broker's side is closed and everything is read. */
static void on_end_of_file(struct world *world, uint32_t number)
{
    struct wire *wire = &world->wires[number];
    bool excused = wire->got_close || wire->crashed || wire->choked;
    if (!excused)
        broken(world, "CLOSE", "wire %u is closed without a Close", number);
    if (wire->input.size > 0)
        count(world, COUNT_frames_cut_down);
    wire->input.size = 0;
    wire->over = true;
    tell(world, "wire %u: end of file", number);
    wire_close(world, wire, world->now_ms, false);
}

bool client_read(struct world *world, uint32_t number, bool all)
{
    struct wire *wire = &world->wires[number];
    if (is_deaf(wire) || wire->lag_until_ms > world->now_ms ||
        (wire->slow && !all && !one_in(world, 12)))
        return false;
    if (wire->down.size == 0) {
        if (!wire->broker_closed)
            return false;
        on_end_of_file(world, number);
        return true;
    }
    size_t size = wire->down.size;
    if (!all && one_in(world, 2))
        size = 1 + below(world, (uint32_t)size);
    CHECK_DEBT(buffer_append(&wire->input, wire->down.data, size) == 0, "no memory");
    buffer_consume(&wire->down, size);
    struct bytes frame;
    size_t used;
    while (!is_deaf(wire) && world->rule == NULL) {
        int result = frame_next((struct bytes){wire->input.data, wire->input.size}, FRAME_BYTES_MAX,
                                &frame, &used);
        if (result < 0)
            broken(world, "BYTES", "wire %u got a length that cannot be", number);
        if (result != 1)
            break;
        client_frame_in(world, number, frame);
        buffer_consume(&wire->input, used);
    }
    return true;
}

bool clients_read_all(struct world *world)
{
    bool any = false;
    for (uint32_t i = 0; i < world->wire_count; i++)
        any = client_read(world, i, true) || any;
    return any;
}
