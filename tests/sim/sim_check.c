/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "backend.pb-c.h"
#include "base/check.h"
#include "sim.h"

/* The rules, over what clients and backends saw and what the store has committed:
 *
 *   A1 A2 A3 A4 A5   epochs are unique; a replaced connection has no effect and gets nothing;
 *                    epochs follow the order of logins; in the end the newest one serves
 *   B1 B2 B3         the stream: numbers without a gap, a chain per user, its end is the truth
 *   C1 C2            order per sender and receiver; what was accepted is delivered or excused
 *   D                nobody who has a session is called offline
 *   P5               every request gets exactly one final answer
 *   P8               when all have left, nothing is left of them
 *   P10              a Welcome is in the store before it is given, and after every crash
 *
 * A connection's place among those of its user is the number of its ONLINE or RESUMED event in
 * the stream, which bears its address: so "later" is what the broker decided, not what a client
 * happened to see first. `superseded_step` is when a Welcome of a later one was received. */

enum { MAP_NONE = 0 };

int user_named(struct world *world, const char *name)
{
    for (int i = 0; i < USERS; i++)
        if (strcmp(world->users[i].name, name) == 0)
            return i;
    broken(world, "B1", "an event of a stranger: %s", name);
    return 0;
}

static int wire_at(const struct world *world, const char *address)
{
    const char *colon = strrchr(address, ':');
    long number = colon != NULL ? strtol(colon + 1, NULL, 10) : -1;
    return number >= 0 && number < (long)world->wire_count ? (int)number : NOBODY;
}

/* --- the stream ------------------------------------------------------------------------------- */

static void bind_wire(struct world *world, const struct presence_event *event)
{
    int number = wire_at(world, event->address);
    if (number == NOBODY)
        return;
    struct wire *wire = &world->wires[number];
    if (wire->bound_seq != 0)
        broken(world, "A1", "wire %d is bound twice", number);
    wire->bound_seq = event->seq;
    wire->bound_epoch = event->epoch;
}

static void on_online(struct world *world, struct user *user, const struct presence_event *event)
{
    bool takeover = event->cause == USHER__V1__PRESENCE_EVENT__CAUSE__TAKEOVER;
    if (takeover != (user->state != MAP_NONE) ||
        event->previous_epoch != (takeover ? user->epoch : 0))
        broken(world, "B2", "ONLINE %s %llu does not close what was there", event->user,
               (unsigned long long)event->epoch);
    if (event->epoch <= user->epoch)
        broken(world, "B1", "the epoch of %s does not rise: %llu after %llu", event->user,
               (unsigned long long)event->epoch, (unsigned long long)user->epoch);
    if (user->state == MAP_NONE)
        user->live_step = world->step;
    user->state = SESSION_ONLINE;
    user->epoch = event->epoch;
    bind_wire(world, event);
}

/* DETACHED, RESUMED and OFFLINE are about the epoch that is there. */
static void on_change(struct world *world, struct user *user, const struct presence_event *event)
{
    if (user->state == MAP_NONE || event->epoch != user->epoch) {
        broken(world, "B2", "event %d of %s is about %llu, which is not there", event->kind,
               event->user, (unsigned long long)event->epoch);
    } else if (event->kind == USHER__V1__PRESENCE_EVENT__KIND__DETACHED) {
        if (user->state != SESSION_ONLINE)
            broken(world, "B2", "%s is detached twice", event->user);
        user->state = SESSION_DETACHED;
    } else if (event->kind == USHER__V1__PRESENCE_EVENT__KIND__RESUMED) {
        user->state = SESSION_ONLINE;
        bind_wire(world, event);
    } else {
        user->state = MAP_NONE;
        user->live_step = 0;
        user->offline_step = world->step;
    }
}

static bool on_event(void *context, const struct presence_event *event)
{
    struct world *world = context;
    if (event->seq != world->event_count + 1 || world->event_count == EVENTS_MAX) {
        broken(world, "B1", "event %llu follows %llu", (unsigned long long)event->seq,
               (unsigned long long)world->event_count);
        return false;
    }
    world->events[world->event_count++] = *event;
    tell(world, "event %llu %s kind %d epoch %llu cause %d %s", (unsigned long long)event->seq,
         event->user, event->kind, (unsigned long long)event->epoch, event->cause,
         event->address);
    struct user *user = &world->users[user_named(world, event->user)];
    if (event->kind == USHER__V1__PRESENCE_EVENT__KIND__ONLINE)
        on_online(world, user, event);
    else
        on_change(world, user, event);
    return true;
}

void check_stream(struct world *world)
{
    struct store_position position;
    store_position(world->store, &position);
    if (position.presence_last == world->event_count)
        return;
    if (position.presence_last < world->event_count)
        broken(world, "B1", "the stream went back");
    store_read_events(world->store, world->event_count, SIZE_MAX, on_event, world, &position);
    check_map(world);
}

/* The map says what the stream says. */
void check_map(struct world *world)
{
    for (int i = 0; i < USERS; i++) {
        const struct user *user = &world->users[i];
        struct session_record record = {0};
        bool there = store_get_session(world->store, user->name, &record) == 0;
        if (there != (user->state != MAP_NONE) || (there && record.epoch != user->epoch) ||
            (there && (int)record.state != user->state))
            broken(world, "P10", "the map has another session of %s than the stream: %llu",
                   user->name, (unsigned long long)record.epoch);
        if (user->welcomed_epoch > user->epoch)
            broken(world, "P10", "the Welcome of %s to epoch %llu is forgotten", user->name,
                   (unsigned long long)user->welcomed_epoch);
    }
}

void check_state_at(struct world *world, int who, uint64_t seq, int state, uint64_t epoch)
{
    const struct user *user = &world->users[who];
    int true_state = MAP_NONE;
    uint64_t true_epoch = 0;
    if (seq > world->event_count) {
        broken(world, "SNAP", "a page is true for an event that does not exist");
        return;
    }
    for (uint64_t i = seq; i > 0; i--) {
        const struct presence_event *event = &world->events[i - 1];
        if (strcmp(event->user, user->name) != 0)
            continue;
        true_epoch = event->epoch;
        if (event->kind == USHER__V1__PRESENCE_EVENT__KIND__DETACHED)
            true_state = SESSION_DETACHED;
        else if (event->kind != USHER__V1__PRESENCE_EVENT__KIND__OFFLINE)
            true_state = SESSION_ONLINE;
        break;
    }
    if (state != true_state || (state != MAP_NONE && epoch != true_epoch))
        broken(world, "SNAP", "%s at %llu: told state %d epoch %llu, true %d %llu", user->name,
               (unsigned long long)seq, state, (unsigned long long)epoch, true_state,
               (unsigned long long)true_epoch);
}

/* --- parcels ---------------------------------------------------------------------------------- */

enum { PARCEL_HEAD_BYTES = 4 };

int parcel_make(struct world *world, enum parcel_kind kind, int from, int to, int wire)
{
    if (world->parcel_count == PARCELS_MAX)
        return NOBODY;
    struct user *receiver = kind == PARCEL_CALL ? &world->users[from] : &world->users[to];
    struct parcel *parcel = &world->parcels[world->parcel_count];
    *parcel = (struct parcel){
        .kind = kind, .from = from, .to = to, .wire = wire, .step = world->step,
        .ms = world->now_ms,
        .order = kind == PARCEL_CALL ? ++receiver->next_call_order : ++receiver->next_order[from],
        .size = PARCEL_HEAD_BYTES + (one_in(world, 8) ? below(world, 300) : below(world, 24)),
    };
    return (int)world->parcel_count++;
}

static uint8_t parcel_byte(uint32_t number, uint32_t at)
{
    return (uint8_t)(at < PARCEL_HEAD_BYTES ? number >> (8 * at) : number * 31 + at);
}

void parcel_fill(struct world *world, int number, uint8_t *payload)
{
    for (uint32_t i = 0; i < world->parcels[number].size; i++)
        payload[i] = parcel_byte((uint32_t)number, i);
}

int parcel_read(struct world *world, struct bytes payload)
{
    uint32_t number = 0;
    for (uint32_t i = 0; i < PARCEL_HEAD_BYTES && i < payload.size; i++)
        number |= (uint32_t)payload.data[i] << (8 * i);
    bool right = payload.size >= PARCEL_HEAD_BYTES && number < world->parcel_count &&
                 world->parcels[number].size == payload.size;
    for (uint32_t i = 0; right && i < payload.size; i++)
        right = payload.data[i] == parcel_byte(number, i);
    if (right)
        return (int)number;
    broken(world, "BYTES", "a payload of %zu bytes that nobody sent", payload.size);
    return NOBODY;
}

/* --- connections ------------------------------------------------------------------------------ */

/* Whether something sent on that wire at that step came after a later Welcome of the user. */
static bool was_superseded(const struct world *world, int wire, uint64_t step)
{
    uint64_t since = world->wires[wire].superseded_step;
    return since != 0 && step > since;
}

void check_welcome(struct world *world, uint32_t number, const Usher__V1__Welcome *welcome)
{
    struct wire *wire = &world->wires[number];
    struct user *user = &world->users[wire->user];
    if (wire->bound_seq == 0 || wire->bound_epoch != welcome->epoch)
        broken(world, "P10", "the Welcome on wire %u to epoch %llu is not in the store", number,
               (unsigned long long)welcome->epoch);
    if (wire->forged)
        broken(world, "P2", "wire %u was welcomed with the token of somebody else", number);
    if (wire->is_resume && welcome->epoch != wire->asked_epoch)
        broken(world, "A1", "a resume of %llu was welcomed to %llu",
               (unsigned long long)wire->asked_epoch, (unsigned long long)welcome->epoch);
    if (!wire->is_resume && welcome->epoch <= wire->asked_epoch)
        broken(world, "A3", "a login got epoch %llu after the user had %llu",
               (unsigned long long)welcome->epoch, (unsigned long long)wire->asked_epoch);
    bool fresh = welcome->replay == USHER__V1__WELCOME__REPLAY__FRESH;
    if (fresh == wire->is_resume || (fresh && welcome->next_seq != 1))
        broken(world, "RESUME", "replay %d on wire %u", (int)welcome->replay, number);
    bool complete = welcome->replay == USHER__V1__WELCOME__REPLAY__COMPLETE;
    if (wire->is_resume && (welcome->next_seq <= wire->last_seq ||
                            (complete && welcome->next_seq != wire->last_seq + 1)))
        broken(world, "RESUME", "after %llu, next_seq %llu, replay %d",
               (unsigned long long)wire->last_seq, (unsigned long long)welcome->next_seq,
               (int)welcome->replay);
    if (welcome->epoch > user->welcomed_epoch)
        user->welcomed_epoch = welcome->epoch;
    for (uint32_t i = 0; i < world->wire_count; i++) {
        struct wire *other = &world->wires[i];
        if (other->user == wire->user && other->bound_seq != 0 &&
            other->bound_seq < wire->bound_seq && other->superseded_step == 0)
            other->superseded_step = world->step;
    }
}

/* The newest request with that id that was asked on the wire or on another one of its session. */
static struct asked *find_request(struct world *world, uint32_t number, uint64_t id)
{
    int session = world->wires[number].session;
    for (uint32_t i = world->request_count; i > 0; i--) {
        struct asked *request = &world->requests[i - 1];
        if (request->id == id &&
            (request->wire == (int)number ||
             (session != NOBODY && world->wires[request->wire].session == session)))
            return request;
    }
    return NULL;
}

const struct asked *check_answer(struct world *world, uint32_t wire, uint64_t id, bool ok)
{
    struct asked *request = find_request(world, wire, id);
    if (request == NULL || request->answered) {
        broken(world, "P5", "request %llu is answered on wire %u %s", (unsigned long long)id, wire,
               request == NULL ? "and was not asked" : "twice");
        return NULL;
    }
    request->answered = true;
    if (ok && request->kind != ASK_LOGIN && request->kind != ASK_RESUME &&
        was_superseded(world, request->wire, request->step))
        broken(world, "A2", "request %llu of wire %d was served after its replacement",
               (unsigned long long)id, request->wire);
    return request;
}

void check_not_online(struct world *world, int who, uint64_t asked_step)
{
    const struct user *user = &world->users[who];
    if (user->live_step != 0 && user->live_step < asked_step)
        broken(world, "D", "%s is called offline, but has had a session since step %llu",
               user->name, (unsigned long long)user->live_step);
}

/* --- messages --------------------------------------------------------------------------------- */

/* Whether the sessions of that epoch acknowledge; what a login asked for whose Welcome may not
 * have been received. */
static bool epoch_has_acks(const struct world *world, int user, uint64_t epoch)
{
    for (uint32_t i = 0; i < world->wire_count; i++) {
        const struct wire *wire = &world->wires[i];
        if (wire->user == user && wire->bound_epoch == epoch && !wire->is_resume)
            return wire->acks;
    }
    return false;
}

void check_delivered(struct world *world, const struct parcel *parcel, uint64_t epoch)
{
    if (epoch_has_acks(world, parcel->to, epoch) && parcel->processed == 0)
        broken(world, "C2", "message %llu from %d to %s is reported delivered and was not",
               (unsigned long long)parcel->order, parcel->from, world->users[parcel->to].name);
}

void check_message(struct world *world, uint32_t number, const Usher__V1__Message *message,
                   int which)
{
    struct wire *wire = &world->wires[number];
    const struct parcel *parcel = &world->parcels[which];
    if (message->seq != wire->next_seq)
        broken(world, "SEQ", "message %llu on wire %u, expected %llu",
               (unsigned long long)message->seq, number, (unsigned long long)wire->next_seq);
    wire->next_seq = message->seq + 1;
    const char *from = parcel->from < USERS ? world->users[parcel->from].name : "svc";
    bool right = parcel->to == wire->user &&
                 strcmp(parcel->from < USERS ? message->from : message->service, from) == 0;
    if (!right)
        broken(world, "BYTES", "a message of %s for user %d came to user %d", from, parcel->to,
               wire->user);
    if (was_superseded(world, (int)number, parcel->step))
        broken(world, "A5", "wire %u got a message that was sent after its replacement", number);
    if (parcel->wire != NOBODY && was_superseded(world, parcel->wire, parcel->step))
        broken(world, "A2", "a message that was sent on wire %d after its replacement arrived",
               parcel->wire);
}

void check_processed(struct world *world, struct client_session *session, int which,
                     bool redelivered)
{
    struct parcel *parcel = &world->parcels[which];
    int from = parcel->from;
    bool inverted = parcel->order <= session->last_order[from];
    for (uint32_t i = 0; i < world->session_count && !redelivered; i++) {
        const struct client_session *other = &world->sessions[i];
        if (other->user != session->user || other == session)
            continue;
        if (other->epoch < session->epoch && other->last_order[from] >= parcel->order)
            inverted = true;
        if (other->epoch > session->epoch && other->first_fresh[from] != 0 &&
            other->first_fresh[from] <= parcel->order)
            inverted = true;
    }
    if (inverted)
        broken(world, "C1", "message %llu from %d to %s comes after %llu",
               (unsigned long long)parcel->order, from, world->users[parcel->to].name,
               (unsigned long long)session->last_order[from]);
    /* Without acks it was done with when it was handed out; an older session may read it late. */
    if (parcel->spent_epoch != 0 && session->epoch >= parcel->spent_epoch)
        broken(world, "C2", "message %llu from %d to %s was delivered twice",
               (unsigned long long)parcel->order, from, world->users[parcel->to].name);
    session->last_order[from] = parcel->order;
    if (!redelivered && session->first_fresh[from] == 0)
        session->first_fresh[from] = parcel->order;
    parcel->processed++;
    if (!session->acks && parcel->spent_epoch == 0)
        parcel->spent_epoch = session->epoch;
}

/* --- in the end ------------------------------------------------------------------------------- */

/* Why an accepted message may be lost: what it was accepted into was volatile, or was given up. */
static bool is_excused(const struct world *world, const struct parcel *parcel)
{
    const struct user *user = &world->users[parcel->to];
    if (world->crash_step >= parcel->step || user->offline_step >= parcel->step)
        return true;
    if (world->now_ms - parcel->ms >= world->broker_options.limits_inbox_age_ms)
        return true;
    for (uint32_t i = 0; i < world->wire_count; i++) {
        const struct wire *wire = &world->wires[i];
        if (wire->user == parcel->to && wire->bound_epoch >= parcel->accepted_epoch &&
            !wire->is_resume && !wire->acks)
            return true;
    }
    return false;
}

static void check_parcels(struct world *world)
{
    for (uint32_t i = 0; i < world->parcel_count; i++) {
        const struct parcel *parcel = &world->parcels[i];
        if (parcel->accepted && parcel->processed == 0 && !parcel->reported &&
            !is_excused(world, parcel))
            broken(world, "C2", "message %llu from %d to %s was accepted and is lost",
                   (unsigned long long)parcel->order, parcel->from,
                   world->users[parcel->to].name);
    }
}

static void check_requests(struct world *world)
{
    for (uint32_t i = 0; i < world->request_count; i++) {
        const struct asked *request = &world->requests[i];
        const struct wire *wire = &world->wires[request->wire];
        bool open = !wire->client_closed && !wire->reset && !wire->over;
        if (open && !request->answered && wire->superseded_step == 0)
            broken(world, "P5", "request %llu (kind %d, step %llu) of wire %d has no answer",
                   (unsigned long long)request->id, (int)request->kind,
                   (unsigned long long)request->step, request->wire);
    }
}

/* Everybody reads, nothing fails, all is quiet: who is there is who the stream says. */
void check_healed(struct world *world)
{
    uint64_t online = 0, detached = 0;
    for (int i = 0; i < USERS; i++) {
        const struct user *user = &world->users[i];
        int open = NOBODY;
        for (uint32_t k = 0; k < world->wire_count; k++) {
            const struct wire *wire = &world->wires[k];
            if (wire->user != i || !wire->welcomed || wire->client_closed || wire->over ||
                wire->reset)
                continue;
            if (open != NOBODY)
                broken(world, "A4", "%s has two connections: %d and %u", user->name, open, k);
            open = (int)k;
        }
        if (open != NOBODY && (user->state != SESSION_ONLINE ||
                               world->wires[open].bound_epoch != user->epoch))
            broken(world, "B3", "%s is connected, the stream says %d", user->name, user->state);
        if (open == NOBODY && user->state == SESSION_ONLINE)
            broken(world, "B3", "%s is a ghost: online without a connection", user->name);
        online += user->state == SESSION_ONLINE;
        detached += user->state == SESSION_DETACHED;
    }
    check_requests(world);
    check_parcels(world);
    const struct metrics *metrics = world->broker->metrics;
    if (metrics_read(metrics, METRIC_sessions_online) != online ||
        metrics_read(metrics, METRIC_sessions_detached) != detached)
        broken(world, "COUNT", "the gauges say %llu online and %llu detached",
               (unsigned long long)metrics_read(metrics, METRIC_sessions_online),
               (unsigned long long)metrics_read(metrics, METRIC_sessions_detached));
}

/* Everybody has left and every window is over: nothing is left of anybody. */
void check_empty(struct world *world)
{
    for (int i = 0; i < USERS; i++) {
        const struct user *user = &world->users[i];
        if (user->state != MAP_NONE)
            broken(world, "P8", "%s still has epoch %llu", user->name,
                   (unsigned long long)user->epoch);
        if (registry_find(world->broker->registry, user->name, strlen(user->name)) != 0)
            broken(world, "P8", "%s still has an actor", user->name);
    }
    if (net_slots_used(world) != 0)
        broken(world, "P8", "%u connections are left", net_slots_used(world));
}
