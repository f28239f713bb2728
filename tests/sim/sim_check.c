/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "backend.pb-c.h"
#include "sim.h"

/* The rules over what clients and instances saw; those about the stream are in sim_stream.c:
 *
 *   NOW              a transient message has no number and comes at most once, to a connection that
 *                    was asked for before its sender was told of it, never when he was told that it
 *                    was dropped, and in his order among all that he sends; when he was told that
 *                    it went it is there, or the connection has ended
 *   A2 A3 A4 A5      a replaced connection has no effect and gets nothing; epochs follow the order
 *                    of logins; in the end the newest one serves
 *   B3               in the end the stream is the truth
 *   C1 C2            order per sender and receiver; what was accepted is delivered or excused, and
 *                    nothing is called delivered that was not acknowledged
 *   COMPLETE         a resume that is called complete brings everything that is known to have been
 *                    accepted; one that is called partial has a cause
 *   NUMBER           what clients and backends are told is below 2^53 (numbers.h)
 *   D                nobody who has a session is called offline
 *   FENCE            a Push to one epoch comes to no other
 *   LOST             a call whose instance is lost says so, and does not wait for its time
 *   P5               every request gets exactly one final answer
 *   P8               when all have left, nothing is left of them
 *   P10              a Welcome is in the store before it is given
 *   PIN DRAIN        a user's calls go to one instance; one that drains gets no new users
 *
 * `superseded_step` of a connection is when a Welcome of a later one of its user was received. */

enum { MAP_NONE = 0, STALE_MS = 100, IDLE_MS_MAX = 400 };

/* --- parcels ---------------------------------------------------------------------------------- */

enum { PARCEL_HEAD_BYTES = 4 };

static void add_parcel(struct world *world, const struct parcel *like)
{
    struct parcel *parcel = &world->parcels[world->parcel_count++];
    *parcel = *like;
    struct user *user = &world->users[parcel->kind == PARCEL_CALL ? parcel->from : parcel->to];
    parcel->order =
        parcel->kind == PARCEL_CALL ? ++user->next_call_order : ++user->next_order[parcel->from];
}

int parcel_make(struct world *world, enum parcel_kind kind, int from, const int *to, int names,
                int wire)
{
    if (world->parcel_count + (uint32_t)names > PARCELS_MAX)
        return NOBODY;
    int first = (int)world->parcel_count;
    struct parcel parcel = {
        .kind = kind,
        .from = from,
        .first = first,
        .wire = wire,
        .step = world->step,
        .ms = world->now_ms,
        .seen_session = NOBODY,
        .size = PARCEL_HEAD_BYTES + (one_in(world, 8) ? below(world, 300) : below(world, 24)),
    };
    for (int i = 0; i < names; i++) {
        parcel.to = kind == PARCEL_CALL ? NOBODY : to[i];
        add_parcel(world, &parcel);
    }
    return first;
}

static uint8_t parcel_byte(uint32_t number, uint32_t at)
{
    return (uint8_t)(at < PARCEL_HEAD_BYTES ? number >> (8 * at) : number * 31 + at);
}

void parcel_fill(struct world *world, int number, uint8_t *payload)
{
    for (uint32_t i = 0; i < world->parcels[number].size; i++)
        payload[i] = parcel_byte((uint32_t)world->parcels[number].first, i);
}

/* Of a group, the one for that receiver. */
static int in_group(const struct world *world, uint32_t first, int receiver)
{
    for (uint32_t i = first; i < world->parcel_count; i++) {
        if (world->parcels[i].first != (int)first)
            break;
        if (world->parcels[i].to == receiver)
            return (int)i;
    }
    return (int)first;
}

int parcel_read(struct world *world, struct bytes payload, int receiver)
{
    uint32_t number = 0;
    for (uint32_t i = 0; i < PARCEL_HEAD_BYTES && i < payload.size; i++)
        number |= (uint32_t)payload.data[i] << (8 * i);
    bool right = payload.size >= PARCEL_HEAD_BYTES && number < world->parcel_count &&
                 world->parcels[number].first == (int)number &&
                 world->parcels[number].size == payload.size;
    for (uint32_t i = 0; right && i < payload.size; i++)
        right = payload.data[i] == parcel_byte(number, i);
    if (right)
        return in_group(world, number, receiver);
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

/* Whether something was lost that the client did not know of when it asked. */
static bool may_miss(const struct world *world, const struct wire *wire)
{
    const struct client_session *session = &world->sessions[wire->session];
    uint64_t age_ms = world->broker_options.limits_inbox_age_ms;
    if (world->loss_step >= wire->known_step)
        return true;
    if (session->partial_step != 0 && session->partial_step >= wire->known_step)
        return true; /* it may be said again until the client has said something; the two Welcomes
                      * may come in any order */
    if (!session->acks && wire->written_seq > wire->last_seq)
        return true; /* handed out, to a connection that was lost */
    if (session->acked_seq > wire->last_seq)
        return true; /* acknowledged on another connection meanwhile */
    for (uint32_t i = 0; i < world->parcel_count; i++) {
        const struct parcel *parcel = &world->parcels[i];
        if (parcel->kind != PARCEL_CALL && !parcel->transient && parcel->to == wire->user &&
            parcel->seen_session != wire->session &&
            world->now_ms + STALE_MS >= parcel->ms + age_ms)
            return true;
    }
    return false;
}

static void check_replay(struct world *world, uint32_t number, const Usher__V1__Welcome *welcome)
{
    struct wire *wire = &world->wires[number];
    bool complete = welcome->replay == USHER__V1__WELCOME__REPLAY__COMPLETE;
    if (welcome->next_seq <= wire->last_seq ||
        (complete && welcome->next_seq != wire->last_seq + 1))
        broken(world, "RESUME", "after %llu, next_seq %llu, replay %d",
               (unsigned long long)wire->last_seq, (unsigned long long)welcome->next_seq,
               (int)welcome->replay);
    count(world, complete ? COUNT_resumes_complete : COUNT_resumes_partial);
    wire->vouched = complete;
    wire->partial = !complete;
    struct client_session *session = &world->sessions[wire->session];
    if (!complete && !may_miss(world, wire))
        broken(world, "COMPLETE", "the resume on wire %u is called partial without a cause",
               number);
    /* With acks only what was acknowledged, or grew too old, has left the inbox under its number.
     */
    if (session->acks && session->acked_seq <= wire->last_seq && !faults_has(world, FAULT_age) &&
        welcome->next_seq != wire->last_seq + 1)
        broken(world, "GAP",
               "a loss of %llu messages after %llu is told to wire %u, and none is known",
               (unsigned long long)(welcome->next_seq - wire->last_seq - 1),
               (unsigned long long)wire->last_seq, number);
    if (!complete && session->wire == (int)number)
        session->partial_step = wire->bound_step;
}

/* May have been given up, before or after the Welcome. */
static bool is_too_old(const struct world *world, const struct parcel *parcel)
{
    return world->now_ms + STALE_MS >= parcel->ms + world->broker_options.limits_inbox_age_ms;
}

void check_vouched(struct world *world, uint32_t number)
{
    struct wire *wire = &world->wires[number];
    wire->vouched = false;
    const struct client_session *session = &world->sessions[wire->session];
    if (session->wire != (int)number)
        return; /* the client listens elsewhere */
    for (uint32_t i = 0; i < world->parcel_count; i++) {
        const struct parcel *parcel = &world->parcels[i];
        if (parcel->kind != PARCEL_CALL && parcel->to == wire->user && parcel->accepted &&
            parcel->accepted_epoch == wire->asked_epoch &&
            parcel->accepted_step < wire->asked_step && parcel->step > session->partial_step &&
            parcel->processed == 0 && !is_too_old(world, parcel))
            broken(world, "COMPLETE",
                   "the resume on wire %u is called complete, message %llu from %d is missing",
                   number, (unsigned long long)parcel->order, parcel->from);
    }
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
    if (wire->is_resume)
        check_replay(world, number, welcome);
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

static bool was_acked(const struct world *world, const struct parcel *parcel)
{
    return parcel->acked || (parcel->seen_session != NOBODY &&
                             parcel->seen_seq <= world->sessions[parcel->seen_session].acked_seq);
}

void check_delivered(struct world *world, const struct parcel *parcel, uint64_t epoch)
{
    count(world, COUNT_delivered);
    if (epoch_has_acks(world, parcel->to, epoch) && !was_acked(world, parcel))
        broken(world, "C2", "message %llu from %d to %s is called delivered, not acknowledged",
               (unsigned long long)parcel->order, parcel->from, world->users[parcel->to].name);
}

/* Whose it is, whom it is for, and whether it may be on that wire at all. */
static void check_origin(struct world *world, uint32_t number, const Usher__V1__Message *message,
                         const struct parcel *parcel)
{
    struct wire *wire = &world->wires[number];
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

void check_message(struct world *world, uint32_t number, const Usher__V1__Message *message,
                   int which)
{
    struct wire *wire = &world->wires[number];
    const struct parcel *parcel = &world->parcels[which];
    if (wire->vouched && parcel->step > wire->asked_step)
        check_vouched(world, number);
    /* What grew too old while it waited for a client who did not read leaves its number out. */
    bool follows = faults_has(world, FAULT_age) ? message->seq >= wire->next_seq
                                                : message->seq == wire->next_seq;
    if (!follows)
        broken(world, "SEQ", "message %llu on wire %u, expected %llu",
               (unsigned long long)message->seq, number, (unsigned long long)wire->next_seq);
    wire->next_seq = message->seq + 1;
    check_origin(world, number, message, parcel);
}

static bool comes_too_late(const struct world *world, const struct client_session *session,
                           const struct parcel *parcel, bool redelivered)
{
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
    return inverted;
}

static void note_processed(struct world *world, struct client_session *session,
                           struct parcel *parcel, uint64_t seq)
{
    /* A replaced session may read it late, and cannot acknowledge it any more. */
    if (parcel->seen_session == NOBODY ||
        world->sessions[parcel->seen_session].epoch <= session->epoch) {
        parcel->acked = was_acked(world, parcel);
        parcel->seen_session = (int)(session - world->sessions);
        parcel->seen_seq = seq;
    }
    parcel->processed++;
    if (!session->acks && parcel->spent_epoch == 0)
        parcel->spent_epoch = session->epoch;
}

void check_processed(struct world *world, struct client_session *session, int which, uint64_t seq,
                     bool redelivered)
{
    struct parcel *parcel = &world->parcels[which];
    int from = parcel->from;
    count(world, redelivered ? COUNT_messages_again : COUNT_messages);
    if (parcel->fence != 0 &&
        (session->epoch < parcel->fence || (session->epoch > parcel->fence && !redelivered)))
        broken(world, "FENCE", "a push to epoch %llu came to %llu",
               (unsigned long long)parcel->fence, (unsigned long long)session->epoch);
    if (comes_too_late(world, session, parcel, redelivered))
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
    note_processed(world, session, parcel, seq);
}

/* --- transient messages ----------------------------------------------------------------------- */

void check_transient(struct world *world, uint32_t number, const Usher__V1__Message *message,
                     int which)
{
    const struct wire *wire = &world->wires[number];
    const struct parcel *parcel = &world->parcels[which];
    if (!parcel->transient || message->seq != 0 || message->redelivered)
        broken(world, "NOW", "message %llu on wire %u is %stransient%s",
               (unsigned long long)message->seq, number, parcel->transient ? "" : "not ",
               message->redelivered ? " and comes again" : "");
    if (parcel->answered_step != 0 && parcel->answered_step < wire->asked_step)
        broken(world, "NOW", "message %llu from %d comes on wire %u, which is younger than its end",
               (unsigned long long)parcel->order, parcel->from, number);
    if (parcel->fence != 0 && world->sessions[wire->session].epoch != parcel->fence)
        broken(world, "FENCE", "a transient push to epoch %llu came to another",
               (unsigned long long)parcel->fence);
    check_origin(world, number, message, parcel);
}

void check_transient_processed(struct world *world, struct client_session *session, int which)
{
    struct parcel *parcel = &world->parcels[which];
    count(world, COUNT_transients);
    if (parcel->processed++ > 0 || parcel->dropped)
        broken(world, "NOW", "message %llu from %d to %s %s", (unsigned long long)parcel->order,
               parcel->from, world->users[parcel->to].name,
               parcel->dropped ? "was called dropped" : "was delivered twice");
    if (comes_too_late(world, session, parcel, false))
        broken(world, "NOW", "message %llu from %d to %s comes after %llu",
               (unsigned long long)parcel->order, parcel->from, world->users[parcel->to].name,
               (unsigned long long)session->last_order[parcel->from]);
    session->last_order[parcel->from] = parcel->order;
    if (session->first_fresh[parcel->from] == 0)
        session->first_fresh[parcel->from] = parcel->order;
}

void check_transient_answer(struct world *world, int which, bool went, bool dropped)
{
    struct parcel *parcel = &world->parcels[which];
    parcel->answered_step = world->step;
    parcel->went = went;
    parcel->dropped = dropped;
    if (dropped)
        count(world, COUNT_transients_dropped);
    if (dropped && (!parcel->transient || parcel->processed > 0))
        broken(world, "NOW", "message %llu from %d to %s is called dropped and is %s",
               (unsigned long long)parcel->order, parcel->from, world->users[parcel->to].name,
               parcel->transient ? "there" : "not transient");
}

/* --- calls ------------------------------------------------------------------------------------ */

void check_lost(struct world *world, uint32_t index)
{
    const struct backend *backend = &world->backends[index];
    for (uint32_t i = 0; i < world->parcel_count; i++) {
        struct parcel *parcel = &world->parcels[i];
        if (parcel->kind == PARCEL_CALL && parcel->mail_link == backend->acked_link &&
            parcel->mail_seq != 0 && parcel->mail_seq <= backend->acked_mail &&
            parcel->lost_ms == 0)
            parcel->lost_ms = world->now_ms;
    }
}

/* Its caller was told that the instance is lost, before the time was over: unless he did nothing
 * all that time, so that the end of it came to him together with the news. */
void check_timeout(struct world *world, const struct parcel *parcel)
{
    uint64_t timeout_ms =
        parcel->timeout_ms != 0 ? parcel->timeout_ms : world->broker_options.limits_call_timeout_ms;
    if (parcel->lost_ms > world->leap_ms && parcel->ms + timeout_ms > parcel->lost_ms + IDLE_MS_MAX)
        broken(world, "LOST", "call %llu of %d ran out of time, but its instance was lost before",
               (unsigned long long)parcel->order, parcel->from);
}

bool backend_is_instance(const struct backend *backend)
{
    return backend->actor != 0 && backend->member == backend->actor && !backend->leaving;
}

/* All calls of the user were made while the one was draining and the other would take him. */
static bool was_kept_out(const struct world *world, int drained, int other,
                         const struct parcel *parcel)
{
    const struct backend *old = &world->backends[drained];
    const struct backend *taker = &world->backends[other];
    uint64_t first_step = world->users[parcel->from].first_call_step;
    return old->drained_step != 0 && first_step > old->drained_step && backend_is_instance(taker) &&
           !taker->drains && first_step > taker->member_step;
}

/* Calls that no mark excuses, at an instance that is one. */
static void check_route(struct world *world, int which, const struct parcel *parcel)
{
    struct user *user = &world->users[parcel->from];
    struct backend *backend = &world->backends[which];
    int other = INSTANCES - 1 - which;
    if (parcel->order < user->call_order)
        broken(world, "C1", "call %llu of %s comes after %llu, which another instance had",
               (unsigned long long)parcel->order, user->name, (unsigned long long)user->call_order);
    if (user->call_backend != which && user->call_actor != 0 &&
        user->call_actor == world->backends[user->call_backend].actor &&
        !world->backends[user->call_backend].leaving)
        broken(world, "PIN", "call %llu of %s leaves its instance",
               (unsigned long long)parcel->order, user->name);
    if (was_kept_out(world, which, other, parcel))
        broken(world, "DRAIN", "call %llu of %s, who is new, came to an instance that drains",
               (unsigned long long)parcel->order, user->name);
    if (was_kept_out(world, other, which, parcel))
        count(world, COUNT_drains_kept_out);
    user->call_order = parcel->order;
    user->call_backend = which;
    user->call_actor = backend->actor;
}

void check_call(struct world *world, uint32_t index, const Usher__V1__UserCall *call, int number)
{
    struct backend *backend = &world->backends[index];
    struct parcel *parcel = &world->parcels[number];
    count(world, call->redelivered ? COUNT_calls_again : COUNT_calls);
    if (parcel->wire != NOBODY && was_superseded(world, parcel->wire, parcel->step))
        broken(world, "A2", "a call that was made on wire %d after its replacement arrived",
               parcel->wire);
    bool right = parcel->kind == PARCEL_CALL && parcel->epoch == call->epoch &&
                 strcmp(world->users[parcel->from].name, call->user) == 0;
    if (!right) {
        broken(world, "MAIL", "parcel %d as a call of %s %llu", number, call->user,
               (unsigned long long)call->epoch);
        return;
    }
    if (parcel->order <= backend->call_order[parcel->from] ||
        (!call->redelivered && parcel->processed++ > 0))
        broken(world, "C1", "call %llu of %s comes after %llu", (unsigned long long)parcel->order,
               call->user, (unsigned long long)backend->call_order[parcel->from]);
    backend->call_order[parcel->from] = parcel->order;
    world_watch_instances(world);
    if (!call->redelivered && backend_is_instance(backend))
        check_route(world, (int)index, parcel);
}

/* --- in the end ------------------------------------------------------------------------------- */

/* Why an accepted message may be lost: what it was accepted into was volatile, or was given up. */
static bool is_excused(const struct world *world, const struct parcel *parcel)
{
    const struct user *user = &world->users[parcel->to];
    if (world->loss_step >= parcel->step || user->offline_step >= parcel->step)
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

/* One connection of the receiver's was there when it was sent and still is, and he has had no other
 * since. */
static bool has_stayed(const struct world *world, const struct parcel *parcel)
{
    bool stayed = false;
    for (uint32_t i = 0; i < world->wire_count; i++) {
        const struct wire *wire = &world->wires[i];
        if (wire->user != parcel->to)
            continue;
        if (wire->ended_step >= parcel->step || wire->bound_step >= parcel->step)
            return false;
        stayed = stayed || (wire->welcomed && wire->ended_step == 0 && wire->superseded_step == 0);
    }
    return stayed;
}

static void check_parcels(struct world *world)
{
    for (uint32_t i = 0; i < world->parcel_count; i++) {
        const struct parcel *parcel = &world->parcels[i];
        if (parcel->went && parcel->processed == 0 && has_stayed(world, parcel))
            broken(world, "NOW", "message %llu from %d to %s is said to have gone, and is lost",
                   (unsigned long long)parcel->order, parcel->from, world->users[parcel->to].name);
        if (parcel->accepted && parcel->processed == 0 && !parcel->reported &&
            !is_excused(world, parcel))
            broken(world, "C2", "message %llu from %d to %s was accepted and is lost",
                   (unsigned long long)parcel->order, parcel->from, world->users[parcel->to].name);
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

/* A call that timed out and that no backend saw was late in its mail, or was refused: an instance
 * that is full says BUSY to whatever comes, also of a caller who has been told TIMEOUT or is told
 * so before the BUSY is there. Nothing else took it away. What a broker that is gone had counted is
 * not known, and the mail of an instance that was lost may come to its end just as its callers are
 * told. */
static void check_unseen_calls(struct world *world)
{
    uint64_t unseen = 0;
    uint64_t late = metrics_read(world->broker->metrics, METRIC_calls_late);
    uint64_t refused = metrics_read(world->broker->metrics, METRIC_calls_refused);
    for (uint32_t i = 0; i < world->parcel_count; i++)
        unseen += world->parcels[i].timed_out && world->parcels[i].mail_link == 0;
    if (world->loss_step == 0 && world->stop_step == 0 &&
        world->counts[COUNT_instances_lost] == 0 && unseen > late + refused)
        broken(world, "MAIL", "%llu calls timed out unseen, %llu were late and %llu refused",
               (unsigned long long)unseen, (unsigned long long)late, (unsigned long long)refused);
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
        if (open != NOBODY)
            friends_check(world, (uint32_t)open);
        if (open != NOBODY && world->wires[open].vouched)
            check_vouched(world, (uint32_t)open);
        if (open != NOBODY &&
            (user->state != SESSION_ONLINE || world->wires[open].bound_epoch != user->epoch))
            broken(world, "B3", "%s is connected, the stream says %d", user->name, user->state);
        if (open == NOBODY && user->state == SESSION_ONLINE)
            broken(world, "B3", "%s is a ghost: online without a connection", user->name);
        online += user->state == SESSION_ONLINE;
        detached += user->state == SESSION_DETACHED;
    }
    check_requests(world);
    check_parcels(world);
    check_unseen_calls(world);
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
