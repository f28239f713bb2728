/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "sim.h"

/* The rules about what is stored, and about what backends are told of it:
 *
 *   A1        a connection is bound once
 *   B1 B2     the stream: numbers without a gap, epochs that rise, a chain per user
 *   B3        whose window is over was detached
 *   P10       the map says what the stream says, and knows every Welcome
 *   KICK      an OFFLINE by a kick was asked for, for that epoch, and not used up before
 *   KEEP      saved inboxes are gone once a start has read them
 *   FEED      what is published is what was stored, all of it, in order
 *   SNAP      a page of sessions, a page of events and a count are true for the position they name
 *
 * A connection's place among those of its user is the number of its ONLINE or RESUMED event, which
 * bears its address: so "later" is what the broker decided, not what a client happened to see
 * first. */

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
    wire->bound_step = world->step;
    const struct user *user = &world->users[wire->user];
    wire->written_seq = user->written_epoch == event->epoch ? user->written_seq : 0;
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
    count(world, takeover ? COUNT_takeovers : COUNT_logins);
    if (user->state == MAP_NONE)
        user->live_step = world->step;
    user->state = SESSION_ONLINE;
    user->epoch_before = user->epoch;
    user->epoch = event->epoch;
    bind_wire(world, event);
}

static void on_kicked(struct world *world, int who, uint64_t epoch)
{
    count(world, COUNT_kicks);
    struct kick *found = NULL;
    for (uint32_t i = 0; i < world->kick_count; i++) {
        struct kick *kick = &world->kicks[i];
        bool fits = kick->user == who && !kick->used && (kick->fence == 0 || kick->fence == epoch);
        /* Of those that would explain it the one that explains nothing else. */
        if (fits && (found == NULL || kick->fence != 0))
            found = kick;
    }
    if (found == NULL)
        broken(world, "KICK", "nobody asked to kick %s %llu", world->users[who].name,
               (unsigned long long)epoch);
    else
        found->used = true;
}

static void on_offline(struct world *world, struct user *user, const struct presence_event *event)
{
    user->state = MAP_NONE;
    user->live_step = 0;
    user->offline_step = world->step;
    if (event->cause == USHER__V1__PRESENCE_EVENT__CAUSE__KICKED)
        on_kicked(world, (int)(user - world->users), event->epoch);
    else if (event->cause == USHER__V1__PRESENCE_EVENT__CAUSE__EXPIRED)
        count(world, COUNT_expiries);
    else
        count(world, COUNT_logouts);
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
        if (event->cause == USHER__V1__PRESENCE_EVENT__CAUSE__EXPIRED &&
            user->state != SESSION_DETACHED)
            broken(world, "B3", "the window of %s is over, who is connected", event->user);
        on_offline(world, user, event);
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
    count(world, COUNT_events);
    tell(world, "event %llu %s kind %d epoch %llu cause %d %s", (unsigned long long)event->seq,
         event->user, event->kind, (unsigned long long)event->epoch, event->cause, event->address);
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
    CHECK(store_position(world->store, &position) == 0);
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

static bool ignore_message(void *context, const struct saved_message *message)
{
    return false;
}

void check_no_inboxes(struct world *world)
{
    struct saved_inbox inbox;
    for (int i = 0; i < USERS; i++)
        if (store_read_inbox(world->store, world->users[i].name, &inbox, ignore_message, NULL) !=
            -ENOENT)
            broken(world, "KEEP", "the saved inbox of %s is still there", world->users[i].name);
}

bool event_matches(const struct world *world, const Usher__V1__PresenceEvent *event)
{
    if (event->seq == 0 || event->seq > world->event_count)
        return false;
    const struct presence_event *stored = &world->events[event->seq - 1];
    return strcmp(stored->user, event->user) == 0 && stored->epoch == event->epoch &&
           (int)event->kind == stored->kind && (int)event->cause == stored->cause &&
           stored->previous_epoch == event->previous_epoch &&
           strcmp(stored->address, event->address) == 0;
}

void check_published(struct world *world, struct bytes topic, struct bytes body)
{
    char expected[16 + STORE_NAME_BYTES_MAX] = "presence/";
    Usher__V1__PresenceEvent *event = usher__v1__presence_event__unpack(NULL, body.size, body.data);
    check_stream(world);
    count(world, COUNT_events_published);
    if (event == NULL) {
        broken(world, "BYTES", "what is published is no event");
        return;
    }
    strncat(expected, event->user, STORE_NAME_BYTES_MAX);
    if (!bytes_equal(topic, bytes_of_text(expected)) || !event_matches(world, event))
        broken(world, "FEED", "what is published as %llu is not what was stored",
               (unsigned long long)event->seq);
    if (event->seq != world->published_seq + 1)
        broken(world, "FEED", "event %llu is published behind %llu", (unsigned long long)event->seq,
               (unsigned long long)world->published_seq);
    world->published_seq = event->seq;
    usher__v1__presence_event__free_unpacked(event, NULL);
}

/* --- what is told of it ----------------------------------------------------------------------- */

int state_at(const struct world *world, int who, uint64_t seq, uint64_t *epoch)
{
    *epoch = 0;
    for (uint64_t i = seq; i > 0; i--) {
        const struct presence_event *event = &world->events[i - 1];
        if (strcmp(event->user, world->users[who].name) != 0)
            continue;
        if (event->kind == USHER__V1__PRESENCE_EVENT__KIND__OFFLINE)
            return MAP_NONE;
        *epoch = event->epoch;
        return event->kind == USHER__V1__PRESENCE_EVENT__KIND__DETACHED ? SESSION_DETACHED
                                                                        : SESSION_ONLINE;
    }
    return MAP_NONE;
}

bool was_kicked(const struct world *world, int user, uint64_t epoch, uint64_t since_seq)
{
    for (uint64_t i = since_seq; i < world->event_count; i++) {
        const struct presence_event *event = &world->events[i];
        if (event->cause == USHER__V1__PRESENCE_EVENT__CAUSE__KICKED &&
            strcmp(event->user, world->users[user].name) == 0 &&
            (epoch == 0 || event->epoch == epoch))
            return true;
    }
    return false;
}

static void check_row(struct world *world, int who, uint64_t seq, const Usher__V1__SessionInfo *row)
{
    uint64_t epoch;
    int state = state_at(world, who, seq, &epoch);
    int told = row->state == USHER__V1__SESSION_INFO__STATE__GONE ? MAP_NONE : (int)row->state;
    if (told != state || row->epoch != epoch)
        broken(world, "SNAP", "%s at %llu: told state %d epoch %llu, true %d %llu",
               world->users[who].name, (unsigned long long)seq, told,
               (unsigned long long)row->epoch, state, (unsigned long long)epoch);
}

/* Names are in order: a page is the next rows of those that match, `more` tells of others. */
void check_page(struct world *world, const Usher__V1__SessionList *list,
                const struct asked_command *asked)
{
    size_t at = 0;
    bool more = false;
    count(world, COUNT_pages);
    if (list->presence_seq > world->event_count) {
        broken(world, "SNAP", "a page is true for an event that does not exist");
        return;
    }
    for (int i = 0; i < USERS; i++) {
        uint64_t epoch;
        const char *name = world->users[i].name;
        bool listed = state_at(world, i, list->presence_seq, &epoch) != MAP_NONE &&
                      strcmp(name, asked->after_name) > 0 &&
                      strncmp(name, asked->prefix, strlen(asked->prefix)) == 0;
        if (!listed)
            continue;
        more = at == list->n_sessions;
        if (more)
            break;
        if (strcmp(list->sessions[at]->user, name) != 0)
            broken(world, "SNAP", "a page names %s where %s ought to be", list->sessions[at]->user,
                   name);
        check_row(world, i, list->presence_seq, list->sessions[at++]);
    }
    if (at != list->n_sessions || more != list->more || (asked->limit != 0 && at > asked->limit))
        broken(world, "SNAP", "a page of %zu rows, %zu of them true, more %d", list->n_sessions, at,
               list->more);
}

void check_lookup(struct world *world, const Usher__V1__SessionList *list,
                  const struct asked_command *asked)
{
    count(world, COUNT_pages);
    if (list->presence_seq > world->event_count || list->n_sessions > (size_t)asked->names ||
        (list->n_sessions < (size_t)asked->names && !list->more)) {
        broken(world, "SNAP", "a Lookup of %d names gave %zu", asked->names, list->n_sessions);
        return;
    }
    for (size_t i = 0; i < list->n_sessions; i++) {
        if (strcmp(list->sessions[i]->user, world->users[asked->users[i]].name) != 0)
            broken(world, "SNAP", "a Lookup gave %s", list->sessions[i]->user);
        check_row(world, asked->users[i], list->presence_seq, list->sessions[i]);
    }
}

void check_event_page(struct world *world, const Usher__V1__EventList *list,
                      const struct asked_command *asked)
{
    uint64_t next = asked->after + 1;
    count(world, COUNT_event_pages);
    if (list->reset && list->n_events > 0) {
        /* As many as this stood behind it, so that the rest could be dropped. */
        next = list->events[0]->seq;
        if (next <= asked->after + 1)
            broken(world, "SNAP", "events are called gone that are not");
    }
    if (list->presence_last > world->event_count || list->n_events > asked->limit)
        broken(world, "SNAP", "%zu events, the last is said to be %llu", list->n_events,
               (unsigned long long)list->presence_last);
    for (size_t i = 0; i < list->n_events; i++, next++)
        if (list->events[i]->seq != next || !event_matches(world, list->events[i]))
            broken(world, "SNAP", "event %llu of a page, expected %llu",
                   (unsigned long long)list->events[i]->seq, (unsigned long long)next);
    if (list->n_events == 0 && asked->after < list->presence_last)
        broken(world, "SNAP", "no event behind %llu, but %llu is stored",
               (unsigned long long)asked->after, (unsigned long long)list->presence_last);
}

static uint64_t number_named(const Usher__V1__NumberList *list, const char *name)
{
    for (size_t i = 0; i < list->n_numbers; i++)
        if (strcmp(list->numbers[i]->name, name) == 0)
            return list->numbers[i]->value;
    return UINT64_MAX;
}

/* True at some position since then. */
void check_numbers(struct world *world, const Usher__V1__NumberList *list, uint64_t since_seq)
{
    count(world, COUNT_numbers);
    for (uint64_t seq = since_seq; seq <= world->event_count; seq++) {
        uint64_t online = 0, detached = 0, epoch;
        for (int i = 0; i < USERS; i++) {
            int state = state_at(world, i, seq, &epoch);
            online += state == SESSION_ONLINE;
            detached += state == SESSION_DETACHED;
        }
        if (number_named(list, "online") == online && number_named(list, "detached") == detached &&
            number_named(list, "sessions") == online + detached)
            return;
    }
    broken(world, "SNAP", "a Count was never true: %llu online of %llu",
           (unsigned long long)number_named(list, "online"),
           (unsigned long long)number_named(list, "sessions"));
}
