/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "actors/held.h"
#include "actors/user_call_moved.h"
#include "base/check.h"
#include "base/memory.h"
#include "instance/private.h"
#include "proto/handover.h"

/* An instance that goes over to another process: its number, its cursors, its mail and the calls
 * that it has been given, and what it answered last in each lane. So its backend, which only loses
 * a connection, goes on with the next Fetch and repeats the Submit that was not answered.
 *
 * A Fetch that was parked is gone with the exchange that brought it, as with any connection that is
 * lost. One that is leaving, or that waits for something in the store, does not go: that is over
 * soon.
 */

/* --- out -------------------------------------------------------------------------------------- */

static bool describe_all_mail(const struct instance *instance, struct arena *arena,
                              Usher__V1__HandoverInstance *to)
{
    if (instance->mail_count == 0)
        return true;
    Usher__V1__HandoverMail *list = handover_part(arena, instance->mail_count * sizeof(*list));
    to->mail = handover_part(arena, instance->mail_count * sizeof(*to->mail));
    if (list == NULL || to->mail == NULL)
        return false;
    for (const struct message *mail = instance->mail.first; mail != NULL; mail = mail->next) {
        user_call_move_out((const struct user_call_message *)mail, &list[to->n_mail]);
        to->mail[to->n_mail] = &list[to->n_mail];
        to->n_mail++;
    }
    CHECK(to->n_mail == instance->mail_count);
    return true;
}

static bool describe_calls(const struct instance *instance, struct arena *arena,
                           Usher__V1__HandoverInstance *to)
{
    uint32_t count = calls_count(instance->calls), place = 0;
    if (count == 0)
        return true;
    Usher__V1__HandoverCall *list = handover_part(arena, count * sizeof(*list));
    to->calls = handover_part(arena, count * sizeof(*to->calls));
    if (list == NULL || to->calls == NULL)
        return false;
    for (const struct call *call; (call = calls_next(instance->calls, &place)) != NULL;) {
        Usher__V1__HandoverCall *one = &list[to->n_calls];
        usher__v1__handover_call__init(one);
        one->call = call->call;
        one->caller = call->caller;
        one->epoch = call->epoch;
        one->request = call->request;
        one->deadline_ms = call->deadline_ms;
        one->mail_seq = call->mail_seq;
        one->share = call->share;
        one->inner = call->inner;
        to->calls[to->n_calls++] = one;
    }
    CHECK(to->n_calls == count);
    return true;
}

static bool describe_lanes(const struct instance *instance, struct arena *arena,
                           Usher__V1__HandoverInstance *to)
{
    Usher__V1__HandoverLane *list = handover_part(arena, LANES_MAX * sizeof(*list));
    to->lanes = handover_part(arena, LANES_MAX * sizeof(*to->lanes));
    if (list == NULL || to->lanes == NULL)
        return false;
    for (unsigned i = 0; i < LANES_MAX; i++) {
        const struct lane *lane = &instance->lanes[i];
        if (lane->seq == 0)
            continue;
        Usher__V1__HandoverLane *one = &list[to->n_lanes];
        usher__v1__handover_lane__init(one);
        one->number = lane->number;
        one->seq = lane->seq;
        one->answer = handover_binary((struct bytes){lane->answer.data, lane->answer.size});
        to->lanes[to->n_lanes++] = one;
    }
    return true;
}

static void describe(const struct instance *instance, Usher__V1__HandoverInstance *to)
{
    to->service = (char *)(uintptr_t)instance->service;
    to->instance = (char *)(uintptr_t)instance->name;
    to->link = instance->link;
    to->number = instance->number;
    to->incarnation = instance->incarnation;
    to->joined = instance->joined;
    to->draining = instance->draining;
    to->presence = instance->presence;
    to->goaway = instance->goaway;
    to->drain_waits = instance->drain_waits;
    to->reset_said = instance->reset_said;
    to->reset_from = instance->reset_from;
    to->presence_done = instance->presence_done;
    to->fetched_ms = instance->fetched_ms;
    to->mail_seq = instance->mail_seq;
    to->mail_base = instance->mail_base;
    to->seen_seq = instance->seen_seq;
    to->sent_seq = instance->sent_seq;
    to->mail_number = instance->mail_number;
    to->mail_have = instance->mail_have;
    to->submit_number = instance->submit_number;
}

bool instance_move_out(const struct instance_place *place, struct arena *arena,
                       Usher__V1__HandoverInstance *to)
{
    const struct instance *instance = place->instance;
    if (instance == NULL || instance->link == 0 || instance->leaving || instance->hands_on ||
        instance->reading || instance->submits != NULL || instance->questions > 0)
        return false;
    describe(instance, to);
    return describe_all_mail(instance, arena, to) && describe_calls(instance, arena, to) &&
           describe_lanes(instance, arena, to);
}

/* --- in --------------------------------------------------------------------------------------- */

struct moved_message {
    struct message header;
    const Usher__V1__HandoverInstance *instance;
};

struct message *instance_move_in(const Usher__V1__HandoverInstance *instance)
{
    struct moved_message *message = message_create(MESSAGE_MOVED, sizeof(*message));
    if (message != NULL)
        message->instance = instance;
    return message != NULL ? &message->header : NULL;
}

static void fill_calls(struct instance *instance, const Usher__V1__HandoverInstance *from)
{
    for (size_t i = 0; i < from->n_calls; i++) {
        const Usher__V1__HandoverCall *one = from->calls[i];
        const struct call call = {.call = one->call,
                                  .caller = one->caller,
                                  .epoch = one->epoch,
                                  .request = one->request,
                                  .deadline_ms = one->deadline_ms,
                                  .mail_seq = one->mail_seq,
                                  .share = one->share,
                                  .inner = one->inner};
        int error = 0;
        MEMORY_MUST((error = calls_add(instance->calls, &call)) != -ENOMEM, "a call");
        CHECK(error == 0);
        if (call.share != 0)
            MEMORY_MUST(shares_take(&instance->asked, call.share, UINT32_MAX) == 0, "a share");
    }
}

static void fill_lanes(struct instance *instance, const Usher__V1__HandoverInstance *from)
{
    CHECK(from->n_lanes <= LANES_MAX);
    for (size_t i = 0; i < from->n_lanes; i++) {
        struct lane *lane = &instance->lanes[i];
        lane->number = from->lanes[i]->number;
        lane->seq = from->lanes[i]->seq;
        MEMORY_MUST(held_append(&lane->answer, from->lanes[i]->answer.data,
                                from->lanes[i]->answer.len) == 0,
                    "an answer");
    }
}

static void fill(struct instance *instance, const Usher__V1__HandoverInstance *from)
{
    CHECK(strlen(from->service) < sizeof(instance->service) &&
          strlen(from->instance) < sizeof(instance->name) && from->link != 0);
    strcpy(instance->service, from->service);
    strcpy(instance->name, from->instance);
    instance->link = from->link;
    instance->number = from->number;
    instance->incarnation = from->incarnation;
    instance->joined = from->joined;
    instance->draining = from->draining;
    instance->presence = from->presence;
    instance->goaway = from->goaway;
    instance->reset_said = from->reset_said;
    instance->reset_from = from->reset_from;
    instance->presence_done = from->presence_done;
    instance->fetched_ms = from->fetched_ms;
    instance->mail_base = from->mail_base;
    instance->seen_seq = from->seen_seq;
    instance->sent_seq = from->sent_seq;
    instance->mail_number = from->mail_number;
    instance->mail_have = from->mail_have;
    instance->submit_number = from->submit_number;
}

void instance_moved(struct instance *instance, struct message *message, struct turn *turn)
{
    const Usher__V1__HandoverInstance *from = ((const struct moved_message *)message)->instance;
    CHECK(instance->link == 0 && instance->mail_count == 0);
    fill(instance, from);
    for (size_t i = 0; i < from->n_mail; i++)
        instance_put_moved(instance, user_call_move_in(from->mail[i]));
    instance->mail_seq = from->mail_seq;
    instance->drain_waits = from->drain_waits;
    fill_calls(instance, from);
    fill_lanes(instance, from);
    if (instance->goaway)
        atomic_fetch_add_explicit(&turn->counters->goaways, 1, memory_order_relaxed);
    /* Its connection is lost. */
    instance->gone = true;
    instance->lost_due_ms = turn->now_ms + link_grace_ms(turn->limits);
    instance_arm(instance, turn, instance->lost_due_ms + 1);
    message_destroy(message);
}
