/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "config/config.h"
#include "sim.h"

/* Stored messages (keep_s), and the rules about them:
 *
 *   I1   whose sender heard Done is received, unless it may have expired, or was handed to the
 *        socket of a session without acks, which is all that such a one is promised
 *   I2   each device processes a mid once: what comes again is told by its mid alone
 *   I3   the mids of a user rise: what is not above the highest that was processed has been before
 *   TWICE  nor does a session bring a mid twice, as long as the broker has its memory
 *   MID  a message has one mid, the same in Done and in each Message
 *   P4   a message is not overtaken by what its sender sent later to the same receiver, stored or
 *        not
 *
 * A device remembers the highest mid that it has processed over all of its sessions, says it in
 * Login and Resume, and drops what is not above it. Sometimes it is a new one that knows nothing.
 */

enum { KEEP_LONG_S = 600000, KEEP_SHORT_S = 2, NEW_DEVICE = 12 };

void stored_options(struct world *world)
{
    struct options *options = &world->broker_options;
    options->inbox_offline_from = one_in(world, 2) ? OFFLINE_FROM_ANY : OFFLINE_FROM_SERVICES;
    options->inbox_offline_per_hour = options->inbox_stored_per_second = 0;
    options->inbox_stored_messages = one_in(world, 4) ? 2 + below(world, 6) : 1000;
    world->stores = !one_in(world, 4);
    if (one_in(world, 2)) {
        free(options->inbox_notify_service);
        CHECK_DEBT((options->inbox_notify_service = strdup("svc")) != NULL, "no memory");
    }
}

uint32_t stored_keep_s(struct world *world, int first, int names)
{
    if (!world->stores || !one_in(world, 3))
        return 0;
    bool expires = one_in(world, 10);
    for (int i = 0; i < names; i++) {
        struct parcel *parcel = &world->parcels[first + i];
        parcel->keep = true;
        parcel->may_expire = expires;
    }
    return expires ? KEEP_SHORT_S : KEEP_LONG_S;
}

uint64_t stored_last_mid(struct world *world, int number)
{
    struct wire *wire = &world->wires[number];
    wire->of_new_device = !world->healing && one_in(world, NEW_DEVICE);
    return wire->of_new_device ? 0 : world->devices[wire->device].last_mid;
}

/* The wall clock may have said that it is over, and be set back. */
static bool may_return(const struct world *world, const struct parcel *parcel)
{
    return parcel->may_expire && faults_has(world, FAULT_clock);
}

/* What it is called everywhere. */
static void check_mid(struct world *world, struct parcel *parcel, uint64_t mid)
{
    if (mid == 0 || (parcel->mid != 0 && parcel->mid != mid))
        broken(world, "MID", "message %llu from %d to %s is %llu and %llu",
               (unsigned long long)parcel->order, parcel->from, world->users[parcel->to].name,
               (unsigned long long)parcel->mid, (unsigned long long)mid);
    parcel->mid = mid;
}

void stored_told(struct world *world, int which, uint64_t mid)
{
    struct parcel *parcel = &world->parcels[which];
    count(world, COUNT_stored_told);
    if (mid != 0 || parcel->kind == PARCEL_SEND)
        check_mid(world, parcel, mid);
    parcel->told = true;
    tell(world, "parcel %d is stored as %llu", which, (unsigned long long)mid);
}

void stored_welcomed(struct world *world, uint32_t number, const Usher__V1__Welcome *welcome)
{
    const struct wire *wire = &world->wires[number];
    struct device *device = &world->devices[wire->device];
    if (welcome->epoch > device->newest_epoch) {
        device->newest_epoch = welcome->epoch;
        device->last_mid = wire->of_new_device ? 0 : device->last_mid;
    }
    if (welcome->stored_messages > 0)
        count(world, COUNT_stored_welcomes);
    if (welcome->stored == USHER__V1__WELCOME__REPLAY__PARTIAL)
        count(world, COUNT_stored_lost);
    tell(world, "wire %u: %u are stored, %d", number, welcome->stored_messages,
         (int)welcome->stored);
}

void stored_handed_out(struct world *world, const struct wire *wire,
                       const Usher__V1__Message *message)
{
    if (message->mid == 0 || wire->acks)
        return;
    for (uint32_t i = 0; i < world->parcel_count; i++) {
        struct parcel *parcel = &world->parcels[i];
        if (parcel->keep && parcel->to == wire->user &&
            (parcel->mid == message->mid || parcel->mid == 0))
            parcel->spent = true; /* where the mid is not known, any of them may be it */
    }
}

/* What he sent later was there before, and this one was not. */
static void check_overtaken(struct world *world, const struct client_session *session,
                            const struct parcel *parcel)
{
    for (uint32_t i = 0; i < world->session_count; i++) {
        const struct client_session *other = &world->sessions[i];
        if (other->user == session->user && other->epoch <= session->epoch &&
            other->last_order[parcel->from] > parcel->order)
            broken(world, "P4", "message %llu from %d to %s was overtaken by %llu",
                   (unsigned long long)parcel->order, parcel->from, world->users[parcel->to].name,
                   (unsigned long long)other->last_order[parcel->from]);
    }
}

void stored_processed(struct world *world, struct client_session *session, int which, uint64_t mid)
{
    struct parcel *parcel = &world->parcels[which];
    struct device *device = &world->devices[session->device];
    if (!parcel->keep)
        broken(world, "MID", "message %llu from %d was not to be stored, and has a mid",
               (unsigned long long)parcel->order, parcel->from);
    check_mid(world, parcel, mid);
    if (mid <= session->last_mid && world->loss_step < session->mid_step)
        broken(world, "TWICE", "mid %llu comes to %s after %llu, in one session",
               (unsigned long long)mid, world->users[parcel->to].name,
               (unsigned long long)session->last_mid);
    session->last_mid = mid;
    session->mid_step = world->step;
    if (session->epoch < device->newest_epoch) {
        parcel->glimpsed = true;
        return;
    }
    if (mid <= device->last_mid) {
        count(world, COUNT_stored_again);
        if (parcel->processed == 0 && !may_return(world, parcel))
            broken(world, "I3", "mid %llu comes to %s after %llu, and for the first time",
                   (unsigned long long)mid, world->users[parcel->to].name,
                   (unsigned long long)device->last_mid);
        return;
    }
    count(world, COUNT_stored_messages);
    if (parcel->order <= session->last_order[parcel->from] && !may_return(world, parcel))
        broken(world, "C1", "message %llu from %d to %s comes after %llu",
               (unsigned long long)parcel->order, parcel->from, world->users[parcel->to].name,
               (unsigned long long)session->last_order[parcel->from]);
    if (parcel->processed == 0 && !parcel->glimpsed && !may_return(world, parcel))
        check_overtaken(world, session, parcel);
    if (parcel->order > session->last_order[parcel->from])
        session->last_order[parcel->from] = parcel->order;
    device->last_mid = mid;
    parcel->processed++;
}

static bool is_due(const struct parcel *parcel)
{
    return parcel->keep && parcel->told && parcel->processed == 0 && !parcel->may_expire &&
           !parcel->spent;
}

bool stored_waits_for(const struct world *world, int user)
{
    for (uint32_t i = 0; i < world->parcel_count; i++)
        if (world->parcels[i].to == user && is_due(&world->parcels[i]))
            return true;
    return false;
}

void stored_check_healed(struct world *world)
{
    for (uint32_t i = 0; i < world->parcel_count; i++) {
        const struct parcel *parcel = &world->parcels[i];
        if (is_due(parcel))
            broken(world, "I1", "message %llu from %d to %s, mid %llu, was stored and is lost",
                   (unsigned long long)parcel->order, parcel->from, world->users[parcel->to].name,
                   (unsigned long long)parcel->mid);
    }
}
