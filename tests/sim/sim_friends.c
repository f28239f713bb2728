/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "sim.h"

/* Who watches whom, as clients ask for it (friends.mode open) or services say it (backend), and the
 * rules about what clients are shown:
 *
 *   F1  at the end, when each user has asked for a list of his own or was given one, his picture
 * has just those, and each as the stream says F2  a change is of somebody whom a snapshot of that
 * connection has named, and is one; of one user the states shown on a connection are some of the
 * stream's, in its order F3  nobody is shown whom he did not ask for or was not given, nor whom he
 * has taken back when that is answered. What a service has taken back may still be under way when
 * it hears so: it is over for a connection when a Pong was read of what was sent after that
 *
 * Six users fit a frame, so each snapshot is whole. */

enum { ALL = (1 << USERS) - 1, UNKNOWN = -1, LIST_LIFE_MS = 3000 };

/* What a connection has been shown. */
struct picture {
    int8_t states[USERS]; /* UNKNOWN, or FriendState.State */
    char statuses[USERS][4];
    uint64_t floor[USERS]; /* the stream's event that the last state is of, at least */
    uint64_t pong_step;    /* when that was sent whose Pong was read last */
    bool asked_last;       /* it has asked for the list of the end */
};

struct friends_book {
    bool on, open; /* friends.mode is not off; is open */
    struct picture pictures[WIRES_MAX];
    uint8_t asked[SESSIONS_MAX], taken_back[SESSIONS_MAX];
    uint64_t add_id[SESSIONS_MAX][USERS];
    /* by services */
    uint8_t given[USERS];
    uint64_t given_step[USERS][USERS], taken_step[USERS][USERS];
    uint32_t given_open[USERS][USERS]; /* lists that give him, without their result */
    uint8_t last[USERS];               /* the list of the end */
    uint64_t last_epoch[USERS];        /* for which it was given */
    uint32_t lists_open[USERS];        /* without their result: of a link that ended for ever */
    uint64_t list_ms[USERS];           /* when the last one was given */
};

void friends_make(struct world *world)
{
    struct options *options = &world->broker_options;
    static const unsigned modes[] = {FRIENDS_OFF, FRIENDS_OPEN, FRIENDS_BACKEND, FRIENDS_OPEN,
                                     FRIENDS_BACKEND};
    static const uint32_t batches[] = {0, 20, 200};
    world->friends = calloc(1, sizeof(*world->friends));
    CHECK_DEBT(world->friends != NULL, "no memory for the simulation");
    options->friends_mode = modes[below(world, sizeof(modes) / sizeof(modes[0]))];
    options->friends_batch_ms = batches[below(world, 3)];
    world->friends->on = options->friends_mode != FRIENDS_OFF;
    world->friends->open = options->friends_mode == FRIENDS_OPEN;
    for (int i = 0; i < USERS; i++)
        world->friends->last[i] = (uint8_t)below(world, ALL + 1);
}

void friends_free(struct world *world)
{
    free(world->friends);
}

/* A crowd takes more users than there are here. When comes from the step, so that it moves nothing
 * else that a seed chooses. */
void friends_crowd(struct world *world)
{
    uint64_t dice = world->step * UINT64_C(0x9e3779b97f4a7c15) >> 58;
    if (!world->friends->on || world_is_dark(world) || dice % 4 != 0)
        return;
    count(world, COUNT_crowds);
    atomic_store(&world->broker->counters.crowd_until_ms, world->now_ms + 100 + dice * 16);
}

static bool has(uint32_t mask, int user)
{
    return (mask >> user & 1) != 0;
}

/* --- clients ---------------------------------------------------------------------------------- */

static size_t names_of(struct world *world, uint32_t mask, char *names[USERS])
{
    size_t count = 0;
    for (int i = 0; i < USERS; i++)
        if (has(mask, i))
            names[count++] = world->users[i].name;
    return count;
}

static void send_watch(struct world *world, int number, uint32_t add, uint32_t remove)
{
    struct friends_book *book = world->friends;
    struct wire *wire = &world->wires[number];
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Watch watch = USHER__V1__WATCH__INIT;
    char *adds[USERS], *removes[USERS];
    uint64_t id = request_make(world, ASK_WATCH, number, NOBODY);
    if (id == 0)
        return;
    struct asked *asked = &world->requests[world->request_count - 1];
    asked->friends_add = (uint8_t)add;
    asked->friends_remove = (uint8_t)(remove & ~add);
    book->asked[wire->session] |= (uint8_t)add;
    book->taken_back[wire->session] &= (uint8_t)~add;
    for (int i = 0; i < USERS; i++)
        if (has(add, i))
            book->add_id[wire->session][i] = id;
    watch.add = adds;
    watch.n_add = names_of(world, add, adds);
    watch.remove = removes;
    watch.n_remove = names_of(world, remove, removes);
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_WATCH;
    frame.watch = &watch;
    tell(world, "wire %d: watch +%x -%x id %llu", number, add, remove, (unsigned long long)id);
    wire_send(world, wire, &frame);
}

static void send_status(struct world *world, int number)
{
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__SetStatus status = USHER__V1__SET_STATUS__INIT;
    uint8_t text[2] = {'a' + (uint8_t)below(world, 4), 0};
    status.status = (ProtobufCBinaryData){below(world, 2), text};
    frame.id = request_make(world, ASK_STATUS, number, NOBODY);
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_SET_STATUS;
    frame.set_status = &status;
    if (frame.id != 0)
        wire_send(world, &world->wires[number], &frame);
}

bool friends_speak(struct world *world, int number)
{
    if (!world->friends->on || !one_in(world, 12))
        return false;
    if (!world->friends->open || one_in(world, 4)) {
        count(world, COUNT_statuses);
        send_status(world, number);
    } else {
        count(world, COUNT_watches);
        send_watch(world, number, below(world, ALL + 1) & below(world, ALL + 1),
                   below(world, ALL + 1) & below(world, ALL + 1));
    }
    return true;
}

void friends_heal(struct world *world, int number)
{
    struct friends_book *book = world->friends;
    struct picture *picture = &book->pictures[number];
    if (!book->open || picture->asked_last)
        return;
    picture->asked_last = true;
    uint32_t last = book->last[world->wires[number].user];
    send_watch(world, number, last, ALL & ~last);
}

/* Of a Watch or a SetStatus. */
void friends_done(struct world *world, int session, const struct asked *request)
{
    struct friends_book *book = world->friends;
    for (int i = 0; i < USERS && session != NOBODY; i++)
        if (has(request->friends_remove, i) && book->add_id[session][i] < request->id)
            book->taken_back[session] |= (uint8_t)(1 << i);
}

void friends_pong(struct world *world, uint32_t wire, uint64_t asked_step)
{
    struct picture *picture = &world->friends->pictures[wire];
    if (asked_step > picture->pong_step)
        picture->pong_step = asked_step;
}

/* --- what is shown ---------------------------------------------------------------------------- */

/* The first event from `floor` on behind which the user looks like that; 0: none. Before any event
 * he is offline. */
static bool find_in_stream(const struct world *world, int user, bool online, uint64_t *floor)
{
    uint64_t epoch;
    bool now = state_at(world, user, *floor, &epoch) != 0;
    for (uint64_t i = *floor; i < world->event_count && now != online; i++)
        if (strcmp(world->events[i].user, world->users[user].name) == 0) {
            now = world->events[i].kind != USHER__V1__PRESENCE_EVENT__KIND__OFFLINE;
            *floor = i + 1;
        }
    return now == online;
}

static void check_granted(struct world *world, uint32_t number, int target)
{
    struct friends_book *book = world->friends;
    const struct wire *wire = &world->wires[number];
    const char *name = world->users[target].name;
    int session = wire->session;
    if (book->open) {
        if (!has(book->asked[session], target))
            broken(world, "F3", "wire %u is shown %s, for whom it has not asked", number, name);
        if (has(book->taken_back[session], target) && world->sessions[session].wire == (int)number)
            broken(world, "F3", "wire %u is shown %s, whom it has taken back", number, name);
        return;
    }
    uint64_t taken_step = book->taken_step[wire->user][target];
    if (!has(book->given[wire->user], target))
        broken(world, "F3", "wire %u is shown %s, whom no service gave it", number, name);
    if (taken_step != 0 && book->pictures[number].pong_step > taken_step)
        broken(world, "F3", "wire %u is shown %s, who was taken back at step %llu", number, name,
               (unsigned long long)taken_step);
}

static void show(struct world *world, uint32_t number, const Usher__V1__FriendState *friend,
                 bool snapshot)
{
    struct picture *picture = &world->friends->pictures[number];
    int target = user_named(world, friend->user);
    if (target == NOBODY)
        return; /* a broken rule */
    char status[4] = "";
    if (friend->status.len > 0)
        memcpy(status, friend->status.data, friend->status.len < 3 ? friend->status.len : 3);
    check_granted(world, number, target);
    bool same = picture->states[target] == (int)friend->state &&
                strcmp(picture->statuses[target], status) == 0;
    if (!snapshot && picture->states[target] == UNKNOWN)
        broken(world, "F2", "wire %u hears of %s before a snapshot has", number, friend->user);
    else if (!snapshot && same)
        broken(world, "F2", "wire %u is told twice how %s is", number, friend->user);
    if (!find_in_stream(world, target, friend->state != 0, &picture->floor[target]))
        broken(world, "F2", "wire %u is told that %s is %d, and since %llu he is not", number,
               friend->user, (int)friend->state, (unsigned long long)picture->floor[target]);
    picture->states[target] = (int8_t) friend->state;
    memcpy(picture->statuses[target], status, sizeof(status));
}

void friends_in(struct world *world, uint32_t number, const Usher__V1__FriendStates *states)
{
    struct picture *picture = &world->friends->pictures[number];
    if (!world->friends->on || world->wires[number].session == NOBODY) {
        broken(world, "F3", "wire %u is shown friends, and may not be", number);
        return;
    }
    tell(world, "wire %u: %zu friends%s", number, states->n_friends,
         states->snapshot ? ", all" : "");
    count(world, states->snapshot ? COUNT_snapshots_of_friends : COUNT_changes_of_friends);
    if (states->snapshot)
        memset(picture->states, UNKNOWN, sizeof(picture->states));
    for (size_t i = 0; i < states->n_friends; i++)
        show(world, number, states->friends[i], states->snapshot);
}

void friends_welcomed(struct world *world, uint32_t number)
{
    memset(world->friends->pictures[number].states, UNKNOWN, USERS);
}

/* --- services --------------------------------------------------------------------------------- */

static bool is_due(const struct world *world, int user)
{
    return world->users[user].state == SESSION_ONLINE &&
           world->friends->last_epoch[user] != world->users[user].epoch &&
           (world->friends->lists_open[user] == 0 ||
            world->friends->list_ms[user] + LIST_LIFE_MS < world->now_ms);
}

bool friends_are_due(const struct world *world)
{
    bool due = false;
    for (int i = 0; i < USERS; i++)
        due = due || is_due(world, i);
    return due && world->healing && world->friends->on && !world->friends->open;
}

bool friends_list(struct world *world, struct asked_command *asked)
{
    struct friends_book *book = world->friends;
    if (!book->on || book->open)
        return false;
    int user = (int)below(world, USERS);
    for (int i = 0; world->healing && i < USERS && !is_due(world, user); i++)
        user = (user + 1) % USERS;
    asked->names = 1;
    asked->users[0] = user;
    asked->friends_mask = (uint8_t)(below(world, ALL + 1) & below(world, ALL + 1));
    asked->friends_mode = (uint8_t)below(world, 3);
    const struct user *who = &world->users[user];
    asked->user_epoch = who->epoch;
    asked->user_live_step = who->live_step;
    asked->fence = one_in(world, 2) ? 0 : one_in(world, 3) ? who->epoch_before : who->epoch;
    if (world->healing) { /* the list of the end, to somebody who has not got it */
        if (!is_due(world, user))
            return false;
        asked->fence = who->epoch;
        asked->friends_mask = book->last[user];
        asked->friends_last = true;
        asked->friends_mode = USHER__V1__WATCH_LIST__MODE__SET;
    }
    bool gives = asked->friends_mode != USHER__V1__WATCH_LIST__MODE__REMOVE;
    for (int i = 0; gives && i < USERS; i++)
        if (has(asked->friends_mask, i)) {
            book->given[user] |= (uint8_t)(1 << i);
            book->given_step[user][i] = world->step;
            book->taken_step[user][i] = 0;
            book->given_open[user][i]++;
        }
    count(world, COUNT_lists_of_friends);
    book->lists_open[user]++;
    book->list_ms[user] = world->now_ms;
    return true;
}

size_t friends_list_names(struct world *world, const struct asked_command *asked,
                          char *names[USERS])
{
    return names_of(world, asked->friends_mask, names);
}

void friends_listed(struct world *world, const struct errand *errand,
                    const struct asked_command *asked, const Usher__V1__Result *result)
{
    struct friends_book *book = world->friends;
    int user = asked->users[0];
    bool ok = result->code == USHER__V1__RESULT__CODE__OK;
    book->lists_open[user]--;
    bool gives = asked->friends_mode != USHER__V1__WATCH_LIST__MODE__REMOVE;
    uint32_t takes = gives ? asked->friends_mode == USHER__V1__WATCH_LIST__MODE__SET
                                 ? ALL & ~(uint32_t)asked->friends_mask
                                 : 0
                           : asked->friends_mask;
    for (int i = 0; i < USERS; i++) {
        if (gives && has(asked->friends_mask, i)) {
            book->given_open[user][i]--;
            book->given_step[user][i] = world->step;
        }
        if (ok && has(takes, i) && book->given_open[user][i] == 0 &&
            book->given_step[user][i] < errand->step)
            book->taken_step[user][i] = world->step;
    }
    if (ok && (result->value_case != USHER__V1__RESULT__VALUE_PUSH || result->push->n_failures > 0))
        broken(world, "MAIL", "a list of friends is reported otherwise");
    if (ok && asked->fence != 0 && asked->fence < asked->user_epoch)
        broken(world, "FENCE", "a list for %s %llu was taken by a later login",
               world->users[user].name, (unsigned long long)asked->fence);
    if (ok && asked->friends_last)
        book->last_epoch[user] = asked->fence;
}

/* --- the end ---------------------------------------------------------------------------------- */

void friends_check(struct world *world, uint32_t number)
{
    const struct friends_book *book = world->friends;
    const struct wire *wire = &world->wires[number];
    const struct picture *picture = &book->pictures[number];
    bool given =
        book->open ? picture->asked_last : book->last_epoch[wire->user] == wire->bound_epoch;
    if (!book->on || world->users[wire->user].state != SESSION_ONLINE)
        return;
    if (!given)
        broken(world, "LIVE", "wire %u never had its last list of friends", number);
    for (int i = 0; i < USERS; i++) {
        int state = picture->states[i];
        int wanted = has(book->last[wire->user], i) ? world->users[i].state != 0 : UNKNOWN;
        if (state != wanted)
            broken(world, "F1", "wire %u sees %s as %d at the end, and he is %d", number,
                   world->users[i].name, state, wanted);
    }
}
