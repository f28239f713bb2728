/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "actors/user_call.h"
#include "backend.pb-c.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/client_frame.h"
#include "user/friends_private.h"

/* friends.mode service: whom a client may watch is asked of friends.service, as a call. It counts
 * to his calls and to those of all, has a deadline as they have, and its answer comes as theirs
 * does (results.c). Nobody comes into his list for lack of an answer. */

static bool is_busy(const struct session *session, const struct turn *turn)
{
    return requests_calls(session->requests) >= limits_calls_per_user(turn->limits) ||
           atomic_load_explicit(&turn->counters->calls_waiting, memory_order_relaxed) >=
               link_calls_max(turn->limits);
}

static struct user_call_message *make(const struct session *session,
                                      const struct client_frame *frame,
                                      const struct request *request, const struct turn *turn)
{
    struct client_list add = frame->watch.add;
    struct bytes *names;
    size_t count = friends_count_names(add);
    MEMORY_MUST((names = calloc(count + 1, sizeof(*names))) != NULL, "a question");
    for (size_t i = 0; client_list_text(&add, &names[i]);)
        i++;
    const struct watch_ask ask = {
        .user = bytes_of_text(turn->name),
        .service = bytes_of_text(turn->settings->friends_service),
        .epoch = session->epoch,
        .targets = names,
        .target_count = count,
        .caller = turn->self,
        .request = request->id,
        .call = request->call,
        .deadline_ms = request->deadline_ms,
    };
    struct user_call_message *message = watch_ask_create(&ask);
    free(names);
    return message;
}

bool friends_ask(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    if (frame->watch.add.run.size + 512 > link_frame_bytes(turn->limits)) {
        answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__TOO_LARGE,
                      "more names than one link frame carries: ask for some at a time");
        return false;
    }
    if (is_busy(session, turn)) {
        answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__BUSY,
                      "too many calls in flight");
        return false;
    }
    struct request request = {
        .id = frame->id,
        .call = atomic_fetch_add_explicit(&turn->counters->call_last, 1, memory_order_relaxed) + 1,
        .deadline_ms = turn->now_ms + friends_ask_ms(turn->limits),
        .watch = true,
    };
    struct user_call_message *message = make(session, frame, &request, turn);
    if (message == NULL) {
        answer_refuse_for_memory(session, turn, frame->id);
        return false;
    }
    if (!answer_owe(session, turn, &request)) {
        message_destroy(&message->header);
        return false;
    }
    atomic_fetch_add_explicit(&turn->counters->calls_waiting, 1, memory_order_relaxed);
    turn_count(turn, METRIC_calls, 1);
    turn_effect(turn, EFFECT_CALL, 0)->message = &message->header;
    return true;
}

/* --- the answer ------------------------------------------------------------------------------- */

void friends_answered(struct session *session, const struct call_result_message *result,
                      struct turn *turn)
{
    Usher__V1__WatchGrant *grant =
        result->status == 0
            ? usher__v1__watch_grant__unpack(NULL, result->payload_size, result->payload)
            : NULL;
    size_t count = grant != NULL ? grant->n_targets : 0;
    if (count > friends_targets(turn->limits)) {
        turn_count(turn, METRIC_friends_targets_full, 1);
        answer_refuse(session, turn, result->request, USHER__V1__ERROR__CODE__ROOM_FULL,
                      "more users than friends.targets");
    } else {
        struct bytes *names;
        MEMORY_MUST((names = calloc(count + 1, sizeof(*names))) != NULL, "friends");
        for (size_t i = 0; i < count; i++)
            names[i] = bytes_of_text(grant->targets[i]);
        friends_granted(session, result->request, names, count, turn);
        free(names);
    }
    if (grant != NULL)
        usher__v1__watch_grant__free_unpacked(grant, NULL);
}
