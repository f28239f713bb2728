/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "user/friends_private.h"

/* Whom a user watches: places in an array, found by name. The name itself stands in the record that
 * he shares with all who watch the same one, and a part of its hash in the place, so looking for a
 * name is a walk over at most friends.targets places of 16 bytes.
 *
 * A Watch or a WatchList is first made a plan: who comes and who goes, each once. Then the limits
 * are asked, and only if all of it fits anything changes. So nobody has half of a list. Pairs of
 * the whole node are counted when they are planned and given back when they go, by the watcher's
 * own turns, so the count is exact.
 *
 * While a crowd comes, as after a start, what a Watch adds is said to the shards a few batches
 * later: whoever has come by then costs his watchers nothing but a place in their snapshots, and
 * logins go first. */

enum { PLACES_MIN = 4, WAIT_BATCHES_MAX = 8 };

/* UINT32_MAX: he is not watched. */
static uint32_t find(const struct friends *friends, uint64_t hash, struct bytes name)
{
    for (uint32_t i = 0; i < friends->top; i++)
        if (friends->pairs[i].hash == pair_hash(hash) && friends->pairs[i].record != NULL &&
            bytes_equal(pair_name(&friends->pairs[i]), name))
            return i;
    return UINT32_MAX;
}

/* --- plans ------------------------------------------------------------------------------------ */

void plan_begin(struct plan *plan, const struct friends *friends, uint32_t most)
{
    *plan = (struct plan){.capacity = most};
    MEMORY_MUST((plan->wishes = calloc(most + 1, sizeof(*plan->wishes))) != NULL, "friends");
    MEMORY_MUST((plan->goes = calloc(friends->top + 1, sizeof(*plan->goes))) != NULL, "friends");
}

static void let_go(struct plan *plan, uint32_t position, bool goes)
{
    if (plan->goes[position] == goes)
        return;
    plan->goes[position] = goes;
    plan->gone += goes ? 1 : (uint32_t)-1;
}

void plan_remove_all(struct plan *plan, const struct friends *friends)
{
    for (uint32_t i = 0; i < friends->top; i++)
        if (friends->pairs[i].record != NULL)
            let_go(plan, i, true);
}

void plan_remove(struct plan *plan, const struct friends *friends, const struct turn *turn,
                 struct bytes name)
{
    uint32_t position = find(friends, watch_hash(turn->settings, name), name);
    if (position != UINT32_MAX)
        let_go(plan, position, true);
}

void plan_add(struct plan *plan, const struct friends *friends, const struct turn *turn,
              struct bytes name, uint16_t index)
{
    uint64_t hash = watch_hash(turn->settings, name);
    CHECK(plan->count < plan->capacity);
    for (uint32_t i = 0; i < plan->count; i++)
        if (plan->wishes[i].hash == hash && bytes_equal(plan->wishes[i].name, name))
            return;
    uint32_t position = find(friends, hash, name);
    if (position != UINT32_MAX)
        let_go(plan, position, false);
    plan->fresh += position == UINT32_MAX;
    plan->wishes[plan->count++] = (struct wish){name, hash, index, position == UINT32_MAX};
}

void plan_end(struct plan *plan)
{
    free(plan->wishes);
    free(plan->goes);
}

uint64_t pairs_take(struct turn *turn, uint32_t count)
{
    turn_count(turn, METRIC_friends_pairs, count);
    return atomic_fetch_add_explicit(&turn->counters->watch_pairs, count, memory_order_seq_cst);
}

void pairs_give_back(struct turn *turn, uint32_t count)
{
    uint64_t before =
        atomic_fetch_sub_explicit(&turn->counters->watch_pairs, count, memory_order_relaxed);
    CHECK(before >= count);
    turn_count(turn, METRIC_friends_pairs, (uint64_t)0 - count);
}

enum plan_fault plan_reserve(const struct plan *plan, const struct friends *friends,
                             struct turn *turn)
{
    uint64_t after = (uint64_t)friends->count - plan->gone + plan->fresh;
    if (plan->fresh > 0 && after > friends_targets(turn->limits)) {
        turn_count(turn, METRIC_friends_targets_full, 1);
        return PLAN_TARGETS;
    }
    if (plan->fresh <= plan->gone) {
        pairs_give_back(turn, plan->gone - plan->fresh);
        return PLAN_FITS;
    }
    uint32_t more = plan->fresh - plan->gone;
    uint64_t before =
        pairs_take(turn, more); /* before any shard hears of it: see egress_friends.c */
    if (before + more <= friends_pairs(turn->limits))
        return PLAN_FITS;
    pairs_give_back(turn, more);
    turn_count(turn, METRIC_friends_pairs_full, 1);
    LOG(turn->log, LIMIT_HIT, LOG_S("limit", "friends.pairs"), LOG_S("user", turn->name));
    return PLAN_PAIRS;
}

/* --- pairs ------------------------------------------------------------------------------------ */

void pairs_grow(struct friends *friends, uint32_t size)
{
    struct pair *pairs;
    MEMORY_MUST((pairs = realloc(friends->pairs, size * sizeof(*pairs))) != NULL, "friends");
    memory_account(MEMORY_OF_FRIENDS, (int64_t)((size - friends->size) * sizeof(*pairs)));
    friends->pairs = pairs;
    friends->size = size;
}

static uint32_t take_place(struct friends *friends)
{
    if (friends->free != 0) {
        uint32_t position = friends->free - 1;
        friends->free = friends->pairs[position].serial;
        return position;
    }
    if (friends->top == friends->size) {
        uint32_t size = friends->size + friends->size / 2;
        pairs_grow(friends, size > PLACES_MIN ? size : PLACES_MIN);
    }
    return friends->top++;
}

/* Places of which the shards are to be told, by shard. */
struct posts {
    uint16_t kind;
    bool asks;
    struct places {
        uint32_t count, names_bytes;
        uint32_t positions[WATCH_PAIRS_MAX];
    } of_shard[WATCH_SHARDS];
};

static void posts_send(const struct friends *friends, const struct posts *posts,
                       struct places *places, struct turn *turn)
{
    struct watch_message *message =
        watch_message_create(posts->kind, turn->self, places->count, places->names_bytes);
    message->asks = posts->asks;
    uint64_t hash = 0;
    for (uint32_t i = 0; i < places->count; i++) {
        const struct pair *pair = &friends->pairs[places->positions[i]];
        struct bytes name = pair_name(pair);
        hash = watch_hash(turn->settings, name);
        watch_message_add(message, hash, places->positions[i], pair->serial, name);
    }
    turn_post(turn, watch_shard(turn->settings, hash), &message->header);
    places->count = places->names_bytes = 0;
}

static void posts_add(const struct friends *friends, struct posts *posts, uint32_t position,
                      struct turn *turn)
{
    const struct pair *pair = &friends->pairs[position];
    struct places *places = &posts->of_shard[pair->hash % WATCH_SHARDS];
    places->positions[places->count++] = position;
    places->names_bytes += (uint32_t)pair_name(pair).size;
    if (places->count == WATCH_PAIRS_MAX)
        posts_send(friends, posts, places, turn);
}

static void posts_end(const struct friends *friends, struct posts *posts, struct turn *turn)
{
    for (uint32_t i = 0; i < WATCH_SHARDS; i++)
        if (posts->of_shard[i].count > 0)
            posts_send(friends, posts, &posts->of_shard[i], turn);
}

static uint32_t add(struct friends *friends, const struct wish *wish, bool service, uint8_t *name,
                    struct list_wait *list)
{
    uint32_t position = take_place(friends);
    struct pair *pair = &friends->pairs[position];
    *pair = (struct pair){
        .name = name,
        .serial = ++friends->serial,
        .hash = pair_hash(wish->hash),
        .pending = 1,
        .service = service,
    };
    friends->count++;
    friends->pending++;
    if (list != NULL)
        list_wait_for(list, position, pair->serial, wish->index);
    return position;
}

struct watch_record *pair_replace(struct friends *friends, uint32_t position,
                                  struct watch_record *record)
{
    struct pair *pair = &friends->pairs[position];
    struct watch_record *before = pair->pending ? NULL : pair->record;
    if (pair->pending)
        names_release(pair->name);
    friends->pending -= pair->pending;
    pair->pending = 0;
    shared_hold(&record->header);
    pair->record = record;
    return before;
}

static void release(struct pair *pair)
{
    if (pair->pending)
        names_release(pair->name);
    else
        shared_release(&pair->record->header);
}

void pair_free(struct friends *friends, uint32_t position)
{
    struct pair *pair = &friends->pairs[position];
    CHECK(pair->record != NULL && friends->count > 0 && friends->pending >= pair->pending &&
          friends->unsaid >= pair->unsaid);
    friends->unsaid -= pair->unsaid;
    friends->pending -= pair->pending;
    friends->count--;
    release(pair);
    *pair = (struct pair){.serial = friends->free};
    friends->free = position + 1;
}

/* The shards are told before the names go; freed from the end on, so that what comes next takes the
 * first places again. */
void pairs_remove(struct friends *friends, struct pair_choice choice, struct turn *turn)
{
    struct posts posts = {.kind = MESSAGE_UNWATCH};
    for (uint32_t i = 0; i < friends->top; i++)
        if (friends->pairs[i].record != NULL && !friends->pairs[i].unsaid &&
            choice.goes(friends, i, choice.own))
            posts_add(friends, &posts, i, turn);
    posts_end(friends, &posts, turn);
    for (uint32_t i = friends->top; i > 0; i--)
        if (friends->pairs[i - 1].record != NULL && choice.goes(friends, i - 1, choice.own))
            pair_free(friends, i - 1);
}

static bool goes_by_plan(const struct friends *friends, uint32_t position, const void *own)
{
    const struct plan *plan = own;
    (void)friends;
    return plan->goes[position];
}

static bool in_a_crowd(const struct turn *turn)
{
    return atomic_load_explicit(&turn->counters->crowd_until_ms, memory_order_relaxed) >
           turn->now_ms;
}

static void say_later(struct friends *friends, uint32_t position, const struct turn *turn)
{
    if (friends->unsaid == 0) {
        friends->say_due_ms = turn->now_ms + friends_batch_ms(turn->limits);
        friends->say_last_ms =
            turn->now_ms + WAIT_BATCHES_MAX * (uint64_t)friends_batch_ms(turn->limits);
    }
    friends->pairs[position].unsaid = 1;
    friends->unsaid++;
}

void pairs_say(struct friends *friends, struct turn *turn)
{
    struct posts posts = {.kind = MESSAGE_WATCH};
    if (friends->unsaid == 0 || friends->say_due_ms > turn->now_ms)
        return;
    if (in_a_crowd(turn) && turn->now_ms < friends->say_last_ms) {
        friends->say_due_ms = turn->now_ms + friends_batch_ms(turn->limits);
        return;
    }
    for (uint32_t i = 0; i < friends->top; i++) {
        if (friends->pairs[i].record == NULL || !friends->pairs[i].unsaid)
            continue;
        friends->pairs[i].unsaid = 0;
        posts_add(friends, &posts, i, turn);
    }
    posts_end(friends, &posts, turn);
    friends->unsaid = 0;
    friends->wanted_ms = turn->now_ms;
}

static void add_fresh(const struct plan *plan, struct friends *friends, bool service,
                      struct list_wait *list, struct turn *turn)
{
    struct posts posts = {.kind = MESSAGE_WATCH, .asks = list != NULL};
    bool later = list == NULL && friends_batch_ms(turn->limits) > 0 && in_a_crowd(turn);
    size_t names_bytes = 0;
    for (uint32_t i = 0; i < plan->count; i++)
        names_bytes += plan->wishes[i].fresh ? plan->wishes[i].name.size : 0;
    struct names *names = names_create(plan->fresh, names_bytes);
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct wish *wish = &plan->wishes[i];
        if (!wish->fresh)
            continue;
        uint32_t position = add(friends, wish, service, names_add(names, wish->name), list);
        if (later)
            say_later(friends, position, turn);
        else
            posts_add(friends, &posts, position, turn);
    }
    names_close(names);
    posts_end(friends, &posts, turn);
}

void plan_carry_out(const struct plan *plan, struct friends *friends, bool service,
                    struct list_wait *list, struct turn *turn)
{
    if (plan->gone > 0)
        pairs_remove(friends, (struct pair_choice){goes_by_plan, plan}, turn);
    if (plan->fresh > 0)
        add_fresh(plan, friends, service, list, turn);
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct wish *wish = &plan->wishes[i];
        if (wish->fresh)
            continue;
        if (list != NULL)
            list->accepted++;
        if (service)
            friends->pairs[find(friends, wish->hash, wish->name)].service = 1;
    }
}

void pairs_fini(struct friends *friends)
{
    for (uint32_t i = 0; i < friends->top; i++)
        if (friends->pairs[i].record != NULL)
            release(&friends->pairs[i]);
    memory_account(MEMORY_OF_FRIENDS, -(int64_t)(friends->size * sizeof(struct pair)));
    free(friends->pairs);
}
