/* SPDX-License-Identifier: Apache-2.0 */
#include "user/friends.h"

#include <stdlib.h>

#include "backend.pb-c.h"
#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/client_frame.h"
#include "user/friends_private.h"

/* What happens to a user's session, as far as his friends go, and what his client asks for.
 *
 * Everything about a pair goes through the turns of the watcher: he tells the target's shard that
 * he watches and that he does not any more, so the shard needs no epochs, and forgets nobody who
 * has not gone. A watch is his session's: at its end he takes all of them back; at a takeover those
 * that his client asked for, since the next client knows nothing of them. What he says of himself
 * goes to the shard that has him as a target, and ends with the login that said it. */

enum {
    SAY_PAUSE_MS = 1000,
    RETRY_BUSY_MS = 100,
    NAMES_A_REQUEST = 16, /* so many names are as much work as a request, and count as one */
};

struct friends *friends_if_any(const struct session *session)
{
    return session->company != NULL ? session->company->friends : NULL;
}

struct friends *friends_of(struct session *session)
{
    struct company *company = company_of(session);
    if (company->friends == NULL) {
        MEMORY_MUST((company->friends = calloc(1, sizeof(*company->friends))) != NULL, "friends");
        memory_account(MEMORY_OF_FRIENDS, (int64_t)sizeof(*company->friends));
    }
    return company->friends;
}

/* --- what he says of himself ------------------------------------------------------------------ */

static void say(struct friends *friends, struct watch_status_message *status, struct turn *turn)
{
    struct bytes name = bytes_of_text(turn->name);
    turn_post(turn, watch_shard(turn->settings, watch_hash(turn->settings, name)), &status->header);
    friends->said = !status->gone;
    friends->say_next_ms = turn->now_ms + SAY_PAUSE_MS;
}

static void say_what_waits(struct friends *friends, struct turn *turn)
{
    if (friends->to_say == NULL || friends->say_next_ms > turn->now_ms)
        return;
    say(friends, friends->to_say, turn);
    friends->to_say = NULL;
}

/* The login that said it is over. */
static void say_no_more(struct friends *friends, uint64_t epoch, struct turn *turn)
{
    if (friends->to_say != NULL)
        message_destroy(&friends->to_say->header);
    friends->to_say = NULL;
    if (!friends->said)
        return;
    struct watch_status_message *status =
        watch_status_create(bytes_of_text(turn->name), (struct bytes){0});
    status->epoch = epoch;
    status->gone = true;
    say(friends, status, turn);
}

void user_set_status(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    struct bytes text = frame->set_status.status;
    if (turn->settings->friends_mode == FRIENDS_OFF) {
        answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__FORBIDDEN,
                      "friends.mode is off");
        return;
    }
    if (text.size > WATCH_STATUS_BYTES_MAX) {
        answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__TOO_LARGE,
                      "a status is at most 128 bytes");
        return;
    }
    if (memory_level() == MEMORY_FULL) {
        answer_refuse_for_memory(session, turn, frame->id);
        return;
    }
    struct friends *friends = friends_of(session);
    if (friends->to_say != NULL)
        message_destroy(&friends->to_say->header);
    friends->to_say = watch_status_create(bytes_of_text(turn->name), text);
    friends->to_say->epoch = session->epoch;
    friends->to_say->invisible = frame->set_status.invisible;
    friends->to_say->gone = text.size == 0 && !frame->set_status.invisible;
    answer_done(session, turn, frame->id, session->epoch);
    say_what_waits(friends, turn);
}

/* --- whom he watches -------------------------------------------------------------------------- */

uint32_t friends_count_names(struct client_list list)
{
    uint32_t count = 0;
    struct bytes name;
    while (client_list_text(&list, &name))
        count++;
    return count;
}

/* The first name that is none makes it a refusal of the whole. */
static bool names_are_valid(struct client_list list)
{
    struct bytes name;
    while (client_list_text(&list, &name))
        if (!username_valid(name))
            return false;
    return true;
}

/* What is wrong with it whoever may watch whom; 0: nothing. */
static uint32_t watch_fault(const struct client_frame *frame, struct turn *turn,
                            const char **detail)
{
    const struct client_list *add = &frame->watch.add, *remove = &frame->watch.remove;
    if (turn->settings->friends_mode != FRIENDS_OPEN &&
        turn->settings->friends_mode != FRIENDS_SERVICE) {
        *detail = turn->settings->friends_mode == FRIENDS_OFF
                      ? "friends.mode is off"
                      : "friends.mode is backend: services say who watches whom";
        return USHER__V1__ERROR__CODE__FORBIDDEN;
    }
    if (friends_count_names(*add) > friends_targets(turn->limits) ||
        friends_count_names(*remove) > friends_targets(turn->limits)) {
        turn_count(turn, METRIC_friends_targets_full, 1);
        *detail = "more names than friends.targets";
        return USHER__V1__ERROR__CODE__ROOM_FULL;
    }
    if (!names_are_valid(*add) || !names_are_valid(*remove)) {
        *detail = "a name that no user can have";
        return USHER__V1__ERROR__CODE__INVALID_NAME;
    }
    return 0;
}

static void answer_plan(struct session *session, struct turn *turn, uint64_t id,
                        enum plan_fault fault)
{
    if (fault == PLAN_FITS) {
        answer_done(session, turn, id, session->epoch);
    } else if (fault == PLAN_TARGETS) {
        answer_refuse(session, turn, id, USHER__V1__ERROR__CODE__ROOM_FULL,
                      "more users than friends.targets");
    } else {
        turn_count(turn, METRIC_messages_refused, 1);
        answer_error(session, turn, id, USHER__V1__ERROR__CODE__BUSY,
                     "as many are watched as may be (friends.pairs)", RETRY_BUSY_MS);
    }
}

/* All of it or nothing, and the answer; his snapshot follows. */
static void carry_out(struct session *session, struct turn *turn, uint64_t id, struct plan *plan)
{
    struct friends *friends = friends_of(session);
    enum plan_fault fault = plan_reserve(plan, friends, turn);
    if (fault == PLAN_FITS) {
        plan_carry_out(plan, friends, false, NULL, turn);
        tell_all(friends, turn);
    }
    answer_plan(session, turn, id, fault);
    plan_end(plan);
    tell_due(session, friends, turn);
}

static void plan_of_frame(struct plan *plan, struct session *session,
                          const struct client_frame *frame, bool adds, struct turn *turn)
{
    struct friends *friends = friends_of(session);
    struct client_list add = frame->watch.add, remove = frame->watch.remove;
    struct bytes name;
    plan_begin(plan, friends, friends_count_names(add));
    while (client_list_text(&remove, &name))
        plan_remove(plan, friends, turn, name);
    while (adds && client_list_text(&add, &name))
        plan_add(plan, friends, turn, name, 0);
}

void user_watch(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    const char *detail = "";
    uint32_t code = watch_fault(frame, turn, &detail);
    if (code != 0) {
        answer_refuse(session, turn, frame->id, code, detail);
        return;
    }
    uint32_t names =
        friends_count_names(frame->watch.add) + friends_count_names(frame->watch.remove);
    rate_spend(&session->rate, limits_requests_per_second(turn->limits), names / NAMES_A_REQUEST,
               turn->now_ms);
    if (frame->watch.add.run.size > 0 && memory_level() == MEMORY_FULL) {
        answer_refuse_for_memory(session, turn, frame->id);
        return;
    }
    struct plan plan;
    bool asks = turn->settings->friends_mode == FRIENDS_SERVICE && frame->watch.add.run.size > 0;
    if (asks && frame->id != 0 && !friends_ask(session, frame, turn))
        return; /* without an id nobody could be answered, and nobody is asked */
    plan_of_frame(&plan, session, frame, !asks, turn);
    carry_out(session, turn, asks ? 0 : frame->id, &plan);
}

void friends_granted(struct session *session, uint64_t id, struct bytes *names, size_t count,
                     struct turn *turn)
{
    struct plan plan;
    size_t valid = 0;
    plan_begin(&plan, friends_of(session), (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        if (!username_valid(names[i]))
            continue;
        valid++;
        plan_add(&plan, friends_of(session), turn, names[i], 0);
    }
    if (valid > 0) {
        carry_out(session, turn, id, &plan);
        return;
    }
    plan_end(&plan);
    answer_refuse(session, turn, id, USHER__V1__ERROR__CODE__FORBIDDEN,
                  "the service lets this user watch none of them");
}

/* What a shard says of a pair. Of one that is not there any more it is late. */
static void take_watched(struct session *session, struct friends *friends,
                         const struct watched *watched, struct shared *record, struct turn *turn)
{
    bool full = watched->what == WATCHED_FULL;
    bool there = watched->position < friends->top &&
                 friends->pairs[watched->position].record != NULL &&
                 friends->pairs[watched->position].serial == watched->serial;
    if (friends->lists != NULL)
        list_answered(friends, watched->position, watched->serial,
                      full ? USHER__V1__RESULT__CODE__FULL : USHER__V1__RESULT__CODE__OK, turn);
    if (there && full) {
        pair_free(friends, watched->position);
        pairs_give_back(turn, 1);
    } else if (there && watched->what == WATCHED_STATE) {
        tell_changed(session, friends, watched->position, (struct watch_record *)record, turn);
    }
}

void user_watched(struct session *session, struct message *message, struct turn *turn)
{
    const struct watched_message *watched = (const struct watched_message *)message;
    struct friends *friends = friends_if_any(session);
    if (friends != NULL) {
        take_watched(session, friends, &watched->pair, message_shared(message), turn);
        tell_due(session, friends, turn);
    }
    message_destroy(message);
}

void user_watched_many(struct session *session, struct message *message, struct turn *turn)
{
    const struct watched_many_message *many = (const struct watched_many_message *)message;
    struct friends *friends = friends_if_any(session);
    for (uint32_t i = 0; friends != NULL && i < many->count; i++)
        take_watched(session, friends, &many->pairs[i], message_held(message, i), turn);
    message_destroy(message);
    if (friends != NULL)
        tell_due(session, friends, turn);
}

/* --- what happens to the session -------------------------------------------------------------- */

void friends_lost(struct session *session, struct turn *turn)
{
    struct friends *friends = friends_if_any(session);
    (void)turn;
    if (friends != NULL)
        tell_nothing(friends);
}

void friends_resumed(struct session *session, struct turn *turn)
{
    struct friends *friends = friends_if_any(session);
    if (friends == NULL)
        return;
    tell_nothing(friends); /* the connection before may have been there until now */
    if (friends->count > 0)
        tell_all(friends, turn);
    tell_due(session, friends, turn);
}

static bool is_own(const struct friends *friends, uint32_t position, const void *own)
{
    (void)own;
    return !friends->pairs[position].service;
}

static void remove_own(struct friends *friends, struct turn *turn)
{
    uint32_t before = friends->count;
    pairs_remove(friends, (struct pair_choice){is_own, NULL}, turn);
    pairs_give_back(turn, before - friends->count);
}

void friends_taken_over(struct session *session, struct turn *turn, uint64_t old_epoch)
{
    struct friends *friends = friends_if_any(session);
    if (friends == NULL)
        return;
    say_no_more(friends, old_epoch, turn);
    remove_own(friends, turn);
    friends_resumed(session, turn);
}

void friends_ended(struct session *session, struct turn *turn)
{
    struct friends *friends = friends_if_any(session);
    if (friends == NULL)
        return;
    say_no_more(friends, session->epoch, turn);
    for (uint32_t i = 0; i < friends->top; i++)
        if (friends->pairs[i].record != NULL)
            friends->pairs[i].service = 0;
    remove_own(friends, turn);
    lists_end(friends, USHER__V1__RESULT__CODE__NOT_ONLINE, turn);
}

void friends_clear(struct session *session)
{
    struct friends *friends = friends_if_any(session);
    if (friends == NULL)
        return;
    tell_nothing(friends);
    lists_end(friends, 0, NULL);
    if (friends->to_say != NULL)
        message_destroy(&friends->to_say->header);
    pairs_fini(friends);
    memory_account(MEMORY_OF_FRIENDS, -(int64_t)sizeof(*friends));
    free(friends);
    session->company->friends = NULL;
}

uint64_t friends_due_ms(const struct session *session, const struct turn *turn)
{
    const struct friends *friends = friends_if_any(session);
    if (friends == NULL)
        return UINT64_MAX;
    uint64_t due_ms = tell_due_ms(session, friends, turn);
    if (friends->to_say != NULL && friends->say_next_ms < due_ms)
        due_ms = friends->say_next_ms;
    if (friends->unsaid > 0 && friends->say_due_ms < due_ms)
        due_ms = friends->say_due_ms;
    return due_ms;
}

void friends_tick(struct session *session, struct turn *turn)
{
    struct friends *friends = friends_if_any(session);
    if (friends == NULL)
        return;
    say_what_waits(friends, turn);
    pairs_say(friends, turn);
    tell_due(session, friends, turn);
}

bool friends_wait(const struct session *session)
{
    const struct friends *friends = friends_if_any(session);
    return friends != NULL && friends->blocks;
}

void friends_feed(struct session *session, struct turn *turn)
{
    struct friends *friends = friends_if_any(session);
    if (friends != NULL && friends->blocks)
        tell_due(session, friends, turn);
}
