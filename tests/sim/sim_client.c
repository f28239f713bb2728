/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "proto/frame.h"
#include "proto/varint.h"
#include "sim.h"
#include "sim_room.h"
#include "token_make.h"

/* What clients do: a few users with a few devices each, which connect, log in, resume, talk, are
 * cut off, vanish and come back. They keep to the protocol most of the time. A device has one
 * connection that it uses; those that it has left behind may still be open, still hold a session
 * in the broker's eyes, and still be written to: the zombies that the rules are about. */

enum {
    PAYLOAD_MAX = 512,
    REST_MS = 400,
    LAG_MS = 2000,
    TIMEOUT_MS_MAX = 1900,
    LOGIN_IDS = 1 << 20,
};

void clients_make(struct world *world)
{
    static const char *const names[USERS] = {"ann", "bob", "cleo", "dan", "eve", "finn"};
    /* With one device sessions live long, with three they fight. */
    world->devices_per_user = 1 + (int)below(world, DEVICES_PER_USER);
    for (int i = 0; i < USERS; i++)
        snprintf(world->users[i].name, sizeof(world->users[i].name), "%s", names[i]);
    for (int i = 0; i < DEVICES; i++)
        world->devices[i] =
            (struct device){.user = i / DEVICES_PER_USER, .wire = NOBODY, .session = NOBODY};
}

/* --- bytes on their way ----------------------------------------------------------------------- */

void wire_send(struct world *world, struct wire *wire, const Usher__V1__ClientFrame *frame)
{
    uint8_t head[VARINT_BYTES_MAX];
    size_t size = usher__v1__client_frame__get_packed_size(frame);
    struct client_session *session =
        wire->partial && wire->session != NOBODY ? &world->sessions[wire->session] : NULL;
    if (session != NULL && session->partial_step < wire->bound_step)
        session->partial_step = wire->bound_step;
    size_t head_size = varint_write(head, size);
    CHECK_DEBT(buffer_append(&wire->up, head, head_size) == 0, "no memory for the simulation");
    uint8_t *to = buffer_reserve(&wire->up, size + 1);
    CHECK_DEBT(to != NULL, "no memory for the simulation");
    wire->up.size += usher__v1__client_frame__pack(frame, to);
}

void wire_close(struct world *world, struct wire *wire, uint64_t visible_ms, bool reset)
{
    if (wire->client_closed || wire->reset)
        return;
    if (wire->input.size > 0)
        count(world, COUNT_frames_cut_down);
    wire->client_closed = true;
    wire->ended_step = world->step;
    wire->reset = reset;
    wire->end_visible_ms = visible_ms;
    tell(world, "client closes wire %d%s", (int)(wire - world->wires), reset ? " hard" : "");
}

static bool is_open(const struct wire *wire)
{
    return !wire->client_closed && !wire->reset && !wire->over;
}

/* As far as can be seen: what was read before may have ended inside a frame too. */
static bool ends_inside_frame(const struct wire *wire, size_t size)
{
    struct bytes left = {wire->up.data, size};
    struct bytes frame;
    size_t used;
    while (frame_next(left, SIZE_MAX, &frame, &used) == 1)
        left = (struct bytes){left.data + used, left.size - used};
    return left.size > 0;
}

/* Any part of what was under way may arrive, at once or late, and the end may be seen or not. */
static void cut(struct world *world, struct wire *wire)
{
    count(world, COUNT_connections_lost);
    if (one_in(world, 2) && wire->up.size > 0) {
        size_t left = below(world, (uint32_t)wire->up.size + 1);
        if (ends_inside_frame(wire, left))
            count(world, COUNT_frames_cut_up);
        wire->up.size = left;
    }
    uint64_t visible_ms = world->now_ms;
    if (one_in(world, 8)) {
        visible_ms = UINT64_MAX; /* half-open: only silence tells */
        count(world, COUNT_connections_half_open);
    } else if (one_in(world, 2))
        visible_ms += below(world, 3000);
    wire_close(world, wire, visible_ms, one_in(world, 2));
}

uint64_t request_make(struct world *world, enum request_kind kind, int number, int parcel)
{
    if (world->request_count == REQUESTS_MAX)
        return 0;
    struct wire *wire = &world->wires[number];
    uint64_t id = wire->session != NOBODY ? ++world->sessions[wire->session].last_id
                                          : LOGIN_IDS + ++wire->last_id;
    world->requests[world->request_count++] = (struct asked){
        .kind = kind, .id = id, .wire = number, .parcel = parcel, .step = world->step};
    return id;
}

/* --- coming ----------------------------------------------------------------------------------- */

static int open_wire(struct world *world, int device)
{
    if (world->wire_count == WIRES_MAX || world->request_count == REQUESTS_MAX)
        return NOBODY;
    struct wire *wire = &world->wires[world->wire_count];
    bool slow = strikes(world, FAULT_slow, 6);
    *wire = (struct wire){.user = world->devices[device].user,
                          .device = device,
                          .session = NOBODY,
                          .slow = slow,
                          .down_room = slow ? 200 + below(world, 800) : 1 << 20};
    count(world, COUNT_connections);
    return (int)world->wire_count++;
}

/* With auth.mode token: the user's own, good for longer than any world lasts, or one that proves
 * somebody else. */
static void put_token(struct world *world, int number, char token[TOKEN_MAKE_BYTES],
                      Usher__V1__Login *login)
{
    struct wire *wire = &world->wires[number];
    char claims[96 + STORE_NAME_BYTES_MAX];
    wire->forged = false;
    if (world->broker_options.auth_mode != AUTH_MODE_TOKEN)
        return;
    wire->forged = !world->healing && one_in(world, 8);
    int user = wire->forged ? (wire->user + 1) % USERS : wire->user;
    snprintf(claims, sizeof(claims),
             "{\"sub\":\"%s\",\"exp\":10000000000,\"rooms\":[\"d*\",\"hall\"]}",
             world->users[user].name);
    token_make(token, TOKEN_HEADER, claims);
    login->token = (ProtobufCBinaryData){strlen(token), (uint8_t *)token};
}

static void ask_login(struct world *world, int number)
{
    char token[TOKEN_MAKE_BYTES];
    struct wire *wire = &world->wires[number];
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Login login = USHER__V1__LOGIN__INIT;
    wire->asked = true;
    wire->is_resume = false;
    rooms_no_positions(world, number);
    wire->acks = world->healing || !one_in(world, 4);
    wire->asked_epoch = world->users[wire->user].welcomed_epoch;
    wire->asked_step = world->step;
    login.username = world->users[wire->user].name;
    login.client = (char *)"sim";
    login.acks = wire->acks;
    login.last_mid = stored_last_mid(world, number);
    put_token(world, number, token, &login);
    frame.id = request_make(world, ASK_LOGIN, number, NOBODY);
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_LOGIN;
    frame.login = &login;
    tell(world, "wire %d: login of %s acks %d%s", number, login.username, wire->acks,
         wire->forged ? " forged" : "");
    wire_send(world, wire, &frame);
}

static void ask_resume(struct world *world, int number, int session_number)
{
    struct wire *wire = &world->wires[number];
    struct client_session *session = &world->sessions[session_number];
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Resume resume = USHER__V1__RESUME__INIT;
    wire->asked = wire->is_resume = true;
    wire->forged = false;
    wire->acks = session->acks;
    wire->asked_epoch = session->epoch;
    wire->asked_step = world->step;
    wire->last_seq = session->last_seq;
    wire->session = session_number;
    wire->known_step = session->bound_step;
    session->wire = number; /* what still comes on the old one is not looked at */
    if (session->last_seq > session->acked_seq)
        session->acked_seq = session->last_seq;
    resume.username = world->users[wire->user].name;
    resume.epoch = session->epoch;
    resume.secret = (ProtobufCBinaryData){sizeof(session->secret), session->secret};
    resume.last_seq = session->last_seq;
    resume.last_mid = world->devices[wire->device].last_mid;
    rooms_put_positions(world, number, session_number, &resume);
    frame.id = request_make(world, ASK_RESUME, number, NOBODY);
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_RESUME;
    frame.resume = &resume;
    tell(world, "wire %d: resume of %s %llu after %llu", number, resume.username,
         (unsigned long long)session->epoch, (unsigned long long)session->last_seq);
    wire_send(world, wire, &frame);
}

static void come(struct world *world, int number)
{
    struct device *device = &world->devices[number];
    int wire = open_wire(world, number);
    if (wire == NOBODY)
        return;
    device->wire = wire;
    if (device->session != NOBODY && world->sessions[device->session].over)
        device->session = NOBODY;
    if (device->session != NOBODY && !one_in(world, 4))
        ask_resume(world, wire, device->session);
    else
        ask_login(world, wire);
}

void client_refused(struct world *world, uint32_t number, uint32_t code)
{
    struct wire *wire = &world->wires[number];
    bool free_to_login = code == USHER__V1__ERROR__CODE__RESUME_REJECTED ||
                         code == USHER__V1__ERROR__CODE__RATE_LIMITED ||
                         code == USHER__V1__ERROR__CODE__UNAVAILABLE;
    if (!free_to_login || one_in(world, 3) || world->request_count == REQUESTS_MAX) {
        wire_close(world, wire, world->now_ms + below(world, 50), false);
        return;
    }
    wire->session = NOBODY;
    ask_login(world, (int)number);
}

/* --- requests --------------------------------------------------------------------------------- */

/* One in five requests wants no answer. */
static uint64_t maybe_id(struct world *world, enum request_kind kind, int wire, int parcel)
{
    return one_in(world, 5) ? 0 : request_make(world, kind, wire, parcel);
}

static void ask_send(struct world *world, int number)
{
    struct wire *wire = &world->wires[number];
    uint8_t payload[PAYLOAD_MAX];
    int to = (int)below(world, USERS);
    int parcel = parcel_make(world, PARCEL_SEND, wire->user, &to, 1, number);
    if (parcel == NOBODY)
        return;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Send send = USHER__V1__SEND__INIT;
    count(world, COUNT_sends);
    parcel_fill(world, parcel, payload);
    send.to = world->users[to].name;
    send.payload = (ProtobufCBinaryData){world->parcels[parcel].size, payload};
    if (one_in(world, 4))
        send.transient = world->parcels[parcel].transient = true;
    else if ((send.keep_s = stored_keep_s(world, parcel, 1)) != 0)
        count(world, COUNT_stored_sends);
    else if (one_in(world, 3))
        send.until = USHER__V1__SEND__UNTIL__DELIVERED;
    world->parcels[parcel].until_delivered = send.until == USHER__V1__SEND__UNTIL__DELIVERED;
    frame.id = maybe_id(world, ASK_SEND, number, parcel);
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_SEND;
    frame.send = &send;
    tell(world, "wire %d: send %llu to %s, parcel %d id %llu%s", number,
         (unsigned long long)world->parcels[parcel].order, send.to, parcel,
         (unsigned long long)frame.id,
         send.transient     ? " transient"
         : send.keep_s != 0 ? " to be stored"
                            : "");
    wire_send(world, wire, &frame);
}

static void ask_call(struct world *world, int number)
{
    struct wire *wire = &world->wires[number];
    uint8_t payload[PAYLOAD_MAX];
    int parcel = parcel_make(world, PARCEL_CALL, wire->user, NULL, 1, number);
    if (parcel == NOBODY)
        return;
    struct user *user = &world->users[wire->user];
    if (user->first_call_step == 0)
        user->first_call_step = world->step;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Call call = USHER__V1__CALL__INIT;
    parcel_fill(world, parcel, payload);
    world->parcels[parcel].epoch = world->sessions[wire->session].epoch;
    call.service = (char *)"svc";
    call.method = (char *)"m";
    call.payload = (ProtobufCBinaryData){world->parcels[parcel].size, payload};
    call.timeout_ms = one_in(world, 3) ? 0 : 20 + below(world, TIMEOUT_MS_MAX);
    world->parcels[parcel].timeout_ms = call.timeout_ms;
    frame.id = maybe_id(world, ASK_CALL, number, parcel);
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_CALL;
    frame.call = &call;
    tell(world, "wire %d: call, parcel %d id %llu", number, parcel, (unsigned long long)frame.id);
    wire_send(world, wire, &frame);
}

static void ask_ping(struct world *world, int number)
{
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Ping ping = USHER__V1__PING__INIT;
    ping.stamp = world->step;
    frame.id = maybe_id(world, ASK_PING, number, NOBODY);
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_PING;
    frame.ping = &ping;
    wire_send(world, &world->wires[number], &frame);
}

static void ask_logout(struct world *world, int number)
{
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Logout logout = USHER__V1__LOGOUT__INIT;
    frame.id = request_make(world, ASK_LOGOUT, number, NOBODY);
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_LOGOUT;
    frame.logout = &logout;
    tell(world, "wire %d: logout id %llu", number, (unsigned long long)frame.id);
    wire_send(world, &world->wires[number], &frame);
}

void client_ack(struct world *world, struct client_session *session)
{
    struct wire *wire = &world->wires[session->wire];
    if (!session->acks || session->last_seq == 0 || !wire->welcomed || !is_open(wire) ||
        wire->session != (int)(session - world->sessions))
        return;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Ack ack = USHER__V1__ACK__INIT;
    ack.seq = one_in(world, 8) ? 1 + below(world, (uint32_t)session->last_seq) : session->last_seq;
    if (world->healing)
        ack.seq = session->last_seq;
    if (ack.seq > session->acked_seq)
        session->acked_seq = ack.seq;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_ACK;
    frame.ack = &ack;
    tell(world, "wire %d: ack %llu", session->wire, (unsigned long long)ack.seq);
    wire_send(world, wire, &frame);
}

/* What a client must not do: it is answered and, mostly, shown out. */
static void misbehave(struct world *world, int number)
{
    static const uint8_t garbage[] = {3, 0xff, 0xff, 0xff};
    static const uint8_t endless[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct wire *wire = &world->wires[number];
    tell(world, "wire %d misbehaves", number);
    count(world, COUNT_abuses);
    switch (below(world, wire->welcomed ? 4 : 3)) {
    case 0:
        CHECK_DEBT(buffer_append(&wire->up, garbage, sizeof(garbage)) == 0, "no memory");
        break;
    case 1:
        CHECK_DEBT(buffer_append(&wire->up, endless, sizeof(endless)) == 0, "no memory");
        break;
    case 2: {
        Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
        Usher__V1__Ack ack = USHER__V1__ACK__INIT;
        ack.seq = UINT64_MAX;
        frame.body_case = USHER__V1__CLIENT_FRAME__BODY_ACK;
        frame.ack = &ack;
        wire_send(world, wire, &frame);
        break;
    }
    default: {
        Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
        Usher__V1__Login login = USHER__V1__LOGIN__INIT;
        frame.id = request_make(world, ASK_OTHER, number, NOBODY);
        login.username = world->users[wire->user].name;
        frame.body_case = USHER__V1__CLIENT_FRAME__BODY_LOGIN;
        frame.login = &login;
        wire_send(world, wire, &frame);
        break;
    }
    }
}

/* --- acting ----------------------------------------------------------------------------------- */

static void speak(struct world *world, int number)
{
    uint32_t chance = below(world, 100);
    if (friends_speak(world, number) || (one_in(world, 2) && rooms_speak(world, number)))
        return;
    if (chance < 60)
        ask_send(world, number);
    else if (chance < 75)
        ask_call(world, number);
    else if (chance < 90)
        ask_ping(world, number);
    else
        client_ack(world, &world->sessions[world->wires[number].session]);
}

/* On any connection that is still open, perhaps one that lost its session long ago. */
static void speak_on_zombie(struct world *world)
{
    for (unsigned tries = 0; tries < 8 && world->wire_count > 0; tries++) {
        uint32_t back = below(world, world->wire_count < 40 ? world->wire_count : 40);
        uint32_t number = world->wire_count - 1 - back;
        struct wire *wire = &world->wires[number];
        if (!wire->welcomed || !is_open(wire) || wire->broker_closed)
            continue;
        if (one_in(world, 2))
            ask_ping(world, (int)number);
        else
            ask_send(world, (int)number);
        return;
    }
}

static void leave_behind(struct world *world, struct device *device)
{
    count(world, COUNT_zombies);
    device->wire = NOBODY;
}

static void lag(struct world *world, struct wire *wire)
{
    count(world, COUNT_lags);
    wire->lag_until_ms = world->now_ms + below(world, LAG_MS);
}

static bool live_on(struct world *world, struct device *device)
{
    struct wire *wire = &world->wires[device->wire];
    uint32_t chance = below(world, 400);
    if (chance < 330 && wire->welcomed) {
        speak(world, device->wire);
    } else if (chance < 350) {
        speak_on_zombie(world);
    } else if (chance < 360 && faults_has(world, FAULT_loss)) {
        cut(world, wire);
        device->wire = NOBODY;
        device->rest_until_ms = world->now_ms + below(world, REST_MS);
    } else if (chance >= 360 && chance < 365 && faults_has(world, FAULT_zombie)) {
        leave_behind(world, device);
    } else if (chance >= 365 && chance < 367 && wire->welcomed) {
        ask_logout(world, device->wire);
    } else if (chance >= 367 && chance < 369 && faults_has(world, FAULT_abuse)) {
        misbehave(world, device->wire);
    } else if (chance >= 369 && chance < 373 && faults_has(world, FAULT_lag)) {
        lag(world, wire);
    } else {
        return false;
    }
    return true;
}

bool client_act(struct world *world)
{
    int number = (int)(below(world, USERS) * DEVICES_PER_USER +
                       below(world, (uint32_t)world->devices_per_user));
    struct device *device = &world->devices[number];
    if (device->wire != NOBODY && !is_open(&world->wires[device->wire]))
        device->wire = NOBODY;
    if (device->wire != NOBODY)
        return live_on(world, device);
    if (device->rest_until_ms > world->now_ms || one_in(world, 2))
        return false;
    come(world, number);
    return true;
}

/* --- healing ---------------------------------------------------------------------------------- */

/* One that its device looks at: not one that it has left behind. */
static bool has_connection(const struct world *world, int user)
{
    for (uint32_t i = 0; i < world->wire_count; i++) {
        const struct wire *wire = &world->wires[i];
        if (wire->user == user && is_open(wire) && wire->welcomed && wire->superseded_step == 0 &&
            wire->bound_epoch == world->users[user].epoch && wire->session != NOBODY &&
            world->sessions[wire->session].wire == (int)i)
            return true;
    }
    return false;
}

/* What his devices have left behind would keep him out, if he was thrown out too often. */
static void tidy_up(struct world *world, int user)
{
    for (uint32_t i = 0; i < world->wire_count; i++)
        if (world->wires[i].user == user)
            wire_close(world, &world->wires[i], world->now_ms, false);
}

void clients_come_home(struct world *world)
{
    for (int i = 0; i < USERS; i++) {
        if ((world->users[i].state == 0 && !stored_waits_for(world, i)) || has_connection(world, i))
            continue;
        tidy_up(world, i);
        int wire = open_wire(world, i * DEVICES_PER_USER);
        if (wire == NOBODY)
            continue;
        world->devices[i * DEVICES_PER_USER].wire = wire;
        ask_login(world, wire);
    }
}

void clients_ping(struct world *world)
{
    for (uint32_t i = 0; i < world->session_count; i++)
        client_ack(world, &world->sessions[i]);
    for (uint32_t i = 0; i < world->wire_count; i++)
        if (world->wires[i].welcomed && is_open(&world->wires[i])) {
            ask_ping(world, (int)i);
            friends_heal(world, (int)i);
        }
    rooms_heal(world);
}

void clients_leave(struct world *world)
{
    for (uint32_t i = 0; i < world->wire_count; i++) {
        struct wire *wire = &world->wires[i];
        wire_close(world, wire, world->now_ms, false);
        if (wire->end_visible_ms > world->now_ms)
            wire->end_visible_ms = world->now_ms;
    }
}
