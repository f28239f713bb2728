/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "numbers.h"
#include "sim.h"
#include "sim_room.h"

/* Two instances of one service, and an observer. Each has a connection that fetches and two that
 * submit (sim_command.c); it answers calls, late or never, stalls, dies, and its connections
 * break. Number 0 and the observer follow the presence stream, over their own deaths and those of
 * the broker, and keep a mirror of who is there.
 *
 * Rules: MAIL (numbers without a gap, a call is what its user sent), FEED (the stream as fetched
 * is the stream as stored, without a gap; that events are missed is said when they are, and only
 * then; after a snapshot the mirror is the truth), ONCE (a repeated Submit gets the same results),
 * LINK (a backend that keeps to the protocol is not told that it does not). */

enum { OBSERVER = INSTANCES };

void backends_make(struct world *world)
{
    for (unsigned i = 0; i < BACKENDS; i++)
        world->backends[i] = (struct backend){.wants_hello = true, .mirror = {.lost = true}};
}

void backends_free(struct world *world)
{
    for (unsigned i = 0; i < BACKENDS; i++)
        for (unsigned k = 0; k < CHANNELS; k++) {
            buffer_fini(&world->backends[i].channels[k].request);
            buffer_fini(&world->backends[i].channels[k].answer);
            buffer_fini(&world->backends[i].channels[k].lost);
        }
}

static bool follows_presence(uint32_t index)
{
    return index == 0 || index == OBSERVER;
}

void backend_die(struct world *world, uint32_t index)
{
    struct backend *backend = &world->backends[index];
    tell(world, "backend %u dies", index);
    count(world, COUNT_backend_deaths);
    for (unsigned i = 0; i < CHANNELS; i++)
        link_cut(world, &backend->channels[i]);
    *backend = (struct backend){.actor = backend->actor,
                                .incarnation = backend->incarnation,
                                .presence_seen = backend->presence_seen,
                                .mirror = backend->mirror,
                                .acked_link = backend->acked_link,
                                .acked_mail = backend->acked_mail,
                                .wants_hello = true};
}

/* --- asking ----------------------------------------------------------------------------------- */

void backend_ask(struct backend *backend, unsigned which, const Usher__V1__LinkRequest *request)
{
    struct channel *channel = &backend->channels[which];
    channel->request.size = channel->lost.size = 0;
    channel->repeated = false;
    uint8_t *to =
        buffer_reserve(&channel->request, usher__v1__link_request__get_packed_size(request) + 1);
    CHECK_DEBT(to != NULL, "no memory for the simulation");
    channel->request.size = usher__v1__link_request__pack(request, to);
    channel->to_send = true;
}

static void ask_hello(struct world *world, uint32_t index)
{
    static const char *const names[BACKENDS] = {"a", "b", "o"};
    struct backend *backend = &world->backends[index];
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    Usher__V1__Hello hello = USHER__V1__HELLO__INIT;
    hello.service = index == OBSERVER ? (char *)"" : (char *)"svc";
    hello.instance = (char *)names[index];
    hello.incarnation = backend->incarnation;
    hello.presence = follows_presence(index);
    hello.presence_after = backend->presence_seen;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_HELLO;
    request.hello = &hello;
    backend->drained_step = 0; /* it undoes a Drain */
    backend->drains = false;
    backend->member = 0;
    backend_ask(backend, CHANNEL_FETCH, &request);
}

static void ask_fetch(struct world *world, struct backend *backend)
{
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    Usher__V1__Fetch fetch = USHER__V1__FETCH__INIT;
    fetch.link = backend->link;
    fetch.mail_done = backend->fetch_mail = backend->mail_seen;
    fetch.presence_done = backend->fetch_cursor = backend->presence_seen;
    fetch.bytes_max = one_in(world, 4) ? 600 : 0;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_FETCH;
    request.fetch = &fetch;
    backend_ask(backend, CHANNEL_FETCH, &request);
}

/* --- mail ------------------------------------------------------------------------------------- */

static void on_call(struct world *world, uint32_t index, const Usher__V1__UserCall *call)
{
    struct backend *backend = &world->backends[index];
    int number = parcel_read(world, (struct bytes){call->payload.data, call->payload.len}, NOBODY);
    if (number == NOBODY)
        return;
    check_call(world, index, call, number);
    world->parcels[number].mail_link = backend->link;
    world->parcels[number].mail_seq = backend->mail_seen;
    if (call->call != 0 && backend->todo_count < TODO_MAX && !one_in(world, 6)) {
        backend->todo[backend->todo_count].call = call->call;
        backend->todo[backend->todo_count++].parcel = number;
    }
}

static void on_mail(struct world *world, uint32_t index, const Usher__V1__Mail *mail)
{
    struct backend *backend = &world->backends[index];
    if (mail->seq <= backend->mail_seen)
        return; /* again */
    if (mail->seq != backend->mail_seen + 1)
        broken(world, "MAIL", "mail %llu of backend %u follows %llu", (unsigned long long)mail->seq,
               index, (unsigned long long)backend->mail_seen);
    backend->mail_seen = mail->seq;
    if (mail->body_case == USHER__V1__MAIL__BODY_ASK)
        rooms_ask(world, index, mail->ask);
    if (mail->body_case == USHER__V1__MAIL__BODY_NEWS)
        rooms_news(world, index, mail->news);
    if (mail->body_case == USHER__V1__MAIL__BODY_STORED)
        count(world, COUNT_stored_notices);
    if (mail->body_case != USHER__V1__MAIL__BODY_CALL)
        return;
    tell(world, "backend %u: call %llu of %s%s", index, (unsigned long long)mail->call->call,
         mail->call->user, mail->call->redelivered ? " again" : "");
    on_call(world, index, mail->call);
}

/* --- presence --------------------------------------------------------------------------------- */

static void mirror_event(struct world *world, struct mirror *mirror,
                         const Usher__V1__PresenceEvent *event)
{
    int user = user_named(world, event->user);
    mirror->users[user].state = state_at(world, user, event->seq, &mirror->users[user].epoch);
    mirror->seq = event->seq;
}

static void on_presence(struct world *world, struct backend *backend,
                        const Usher__V1__PresenceEvent *event)
{
    if (backend->mirror.lost || event->seq < backend->presence_next)
        return; /* a snapshot comes first; or it has been seen */
    count(world, COUNT_events_fetched);
    if (event->seq != backend->presence_next || !event_matches(world, event)) {
        broken(world, "FEED", "event %llu was fetched, expected %llu as it was stored",
               (unsigned long long)event->seq, (unsigned long long)backend->presence_next);
        return;
    }
    mirror_event(world, &backend->mirror, event);
    backend->presence_next++;
    backend->presence_seen = event->seq;
}

/* It is said until the cursor shows that it was heard, so it may be about a cursor of before. */
static void on_reset(struct world *world, struct backend *backend)
{
    struct store_position position;
    CHECK(store_position(world->store, &position) == 0);
    if (backend->safe_cursor + 1 >= position.presence_first)
        broken(world, "FEED", "events behind %llu are called missed, all from %llu on are there",
               (unsigned long long)backend->safe_cursor,
               (unsigned long long)position.presence_first);
    if (backend->fetch_cursor < backend->resync_seq)
        return;
    count(world, COUNT_presence_resets);
    backend->mirror.lost = true;
}

static void on_batch(struct world *world, uint32_t index, const Usher__V1__Batch *batch)
{
    struct backend *backend = &world->backends[index];
    backend->acked_link = backend->link;
    backend->acked_mail = backend->fetch_mail;
    for (size_t i = 0; i < batch->n_mail; i++)
        on_mail(world, index, batch->mail[i]);
    if (batch->n_presence > 0 && !follows_presence(index))
        broken(world, "FEED", "backend %u gets events and does not follow", index);
    if (batch->presence_reset) {
        on_reset(world, backend); /* what came after the missed ones comes again */
        return;
    }
    if (backend->fetch_cursor > backend->safe_cursor)
        backend->safe_cursor = backend->fetch_cursor;
    for (size_t i = 0; i < batch->n_presence; i++)
        on_presence(world, backend, batch->presence[i]);
}

void backend_resync(struct world *world, struct backend *backend,
                    const Usher__V1__SessionList *list)
{
    count(world, COUNT_presence_resyncs);
    memset(backend->mirror.users, 0, sizeof(backend->mirror.users));
    for (size_t i = 0; i < list->n_sessions; i++) {
        int user = user_named(world, list->sessions[i]->user);
        backend->mirror.users[user].state = (int)list->sessions[i]->state;
        backend->mirror.users[user].epoch = list->sessions[i]->epoch;
    }
    backend->mirror.seq = backend->presence_seen = backend->resync_seq = list->presence_seq;
    backend->presence_next = list->presence_seq + 1;
    backend->mirror.lost = false;
}

/* When all is quiet the mirrors are the truth. */
void check_mirrors(struct world *world)
{
    for (uint32_t i = 0; i < BACKENDS; i++) {
        const struct mirror *mirror = &world->backends[i].mirror;
        if (!follows_presence(i))
            continue;
        if (mirror->lost || mirror->seq != world->event_count)
            broken(world, "FEED", "backend %u is at event %llu of %llu", i,
                   (unsigned long long)mirror->seq, (unsigned long long)world->event_count);
        for (int k = 0; k < USERS; k++) {
            const struct user *user = &world->users[k];
            if (mirror->users[k].state != user->state ||
                (user->state != 0 && mirror->users[k].epoch != user->epoch))
                broken(world, "FEED", "backend %u takes %s for %d, true is %d", i, user->name,
                       mirror->users[k].state, user->state);
        }
    }
}

/* --- answers ---------------------------------------------------------------------------------- */

static void on_accepted(struct world *world, struct backend *backend,
                        const Usher__V1__Accepted *accepted)
{
    bool follows = follows_presence((uint32_t)(backend - world->backends));
    backend->wants_hello = false;
    if (backend->link != accepted->link || backend->new_boot) {
        backend->mail_seen = backend->todo_count = 0;
        world->rooms->ask_count[backend - world->backends] = 0;
        memset(backend->lane_seq, 0, sizeof(backend->lane_seq));
        memset(backend->call_order, 0, sizeof(backend->call_order));
    }
    backend->link = accepted->link;
    world_watch_instances(world);
    backend->member = backend->actor;
    backend->member_step = world->step;
    backend->new_boot = false;
    backend->safe_cursor = accepted->presence_from - 1;
    backend->presence_next = accepted->presence_from;
    if (!follows)
        return;
    if (backend->presence_seen == 0)
        backend->mirror.lost = true; /* it is sent what comes from now on */
    else if (accepted->presence_from != backend->presence_seen + 1)
        broken(world, "FEED", "events from %llu on after %llu",
               (unsigned long long)accepted->presence_from,
               (unsigned long long)backend->presence_seen);
}

/* What it did wrong is nothing. */
static void on_refused(struct world *world, struct backend *backend, unsigned which,
                       const Usher__V1__Refused *refused)
{
    if (refused->code == USHER__V1__REFUSED__CODE__MALFORMED ||
        refused->code == USHER__V1__REFUSED__CODE__BANNED)
        broken(world, "LINK", "refused as %d: %s", (int)refused->code, refused->detail);
    if (which != CHANNEL_FETCH)
        backend->lane_seq[backend->errands[which].lane]--; /* its number is free again */
    if (refused->code == USHER__V1__REFUSED__CODE__STALE_LINK)
        backend->wants_hello = true;
}

static void compare_with_lost(struct world *world, struct channel *channel)
{
    if (channel->lost.size == 0)
        return;
    count(world, COUNT_submits_repeated);
    if (!bytes_equal((struct bytes){channel->lost.data, channel->lost.size},
                     (struct bytes){channel->answer.data, channel->answer.size}))
        broken(world, "ONCE", "a repeated Submit gets other results");
    channel->lost.size = 0;
}

static void on_answer(struct world *world, uint32_t index, unsigned which)
{
    struct backend *backend = &world->backends[index];
    struct channel *channel = &backend->channels[which];
    channel->waiting = channel->answered = false;
    Usher__V1__LinkAnswer *answer =
        usher__v1__link_answer__unpack(NULL, channel->answer.size, channel->answer.data);
    if (answer == NULL) {
        broken(world, "BYTES", "backend %u got an answer that is none", index);
        return;
    }
    const char *large = number_too_large(&answer->base);
    if (large != NULL)
        broken(world, "NUMBER", "backend %u got a %s of 2^53 or more", index, large);
    tell(world, "backend %u: answer %d of %zu bytes", index, (int)answer->body_case,
         channel->answer.size);
    if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_ACCEPTED) {
        on_accepted(world, backend, answer->accepted);
    } else if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_BATCH) {
        on_batch(world, index, answer->batch);
    } else if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_RESULTS) {
        compare_with_lost(world, channel);
        command_results(world, index, which, answer->results);
    } else {
        on_refused(world, backend, which, answer->refused);
    }
    usher__v1__link_answer__free_unpacked(answer, NULL);
}

/* --- acting ----------------------------------------------------------------------------------- */

static void be_born(struct world *world, struct backend *backend)
{
    backend->alive = true;
    backend->incarnation++;
    tell(world, "backend %d is born", (int)(backend - world->backends));
}

static bool is_idle(const struct channel *channel)
{
    return !channel->to_send && !channel->waiting;
}

static bool has_work(const struct world *world, uint32_t index)
{
    const struct backend *backend = &world->backends[index];
    return !world->healing || backend->todo_count > 0 || rooms_have_work(world, index) ||
           (backend->mirror.lost && follows_presence(index)) ||
           (index < INSTANCES && friends_are_due(world));
}

/* A request that fails because the broker is gone leaves its channel idle; so does an answer. */
static bool go_on(struct world *world, uint32_t index)
{
    struct backend *backend = &world->backends[index];
    struct channel *channels = backend->channels;
    bool any = false;
    for (unsigned i = 0; i < CHANNELS; i++)
        if (channels[i].waiting && channels[i].answered) {
            on_answer(world, index, i);
            any = true;
        }
    if (world->broker == NULL)
        return any;
    if (is_idle(&channels[CHANNEL_FETCH])) {
        if (!backend->wants_hello)
            ask_fetch(world, backend);
        else if (is_idle(&channels[CHANNEL_SUBMIT]) && is_idle(&channels[CHANNEL_OTHER]))
            ask_hello(world, index);
    }
    for (unsigned i = CHANNEL_SUBMIT; i < CHANNELS; i++)
        if (is_idle(&channels[i]) && !backend->wants_hello && backend->member != 0 &&
            has_work(world, index))
            command_submit(world, index, i);
    return any;
}

/* Something goes wrong with it. */
static bool suffer(struct world *world, uint32_t index)
{
    struct backend *backend = &world->backends[index];
    if (strikes(world, FAULT_death, 150)) {
        backend_die(world, index);
    } else if (strikes(world, FAULT_stall, 100)) {
        count(world, COUNT_backend_stalls);
        backend->stalled_until_ms = world->now_ms + below(world, 4000);
    } else if (strikes(world, FAULT_line, 25)) {
        link_break(world, &backend->channels[below(world, CHANNELS)]);
    } else {
        return false;
    }
    return true;
}

bool backend_act(struct world *world, uint32_t index, bool all)
{
    struct backend *backend = &world->backends[index];
    if (!backend->alive) {
        /* The observer stays away for longer, so that it misses events. */
        if (!all && !one_in(world, index == OBSERVER ? 60 : 10))
            return false;
        be_born(world, backend);
        return true;
    }
    if (!all && backend->stalled_until_ms > world->now_ms)
        return false;
    if (!all && suffer(world, index))
        return true;
    return go_on(world, index);
}
