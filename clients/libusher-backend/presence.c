/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher-backend/backend.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* Who is online, without a gap.
 *
 * Events of a node are numbered without gaps, and a cursor (`done`) says how far we are. Below
 * it: seen, skipped. The next one: told. Beyond it, or when the node says so: something was
 * missed, and the picture is taken anew from Snapshot pages.
 *
 * Each page bears a stamp: it contains every event up to that seq. The stamps rise from page to
 * page while life goes on, so after the picture an event is old news for exactly the names of
 * pages with a stamp not below it. Therefore the pages are kept as (last name, stamp) until the
 * stream has passed the last stamp. The stream itself goes on after the first stamp, the lowest.
 *
 * While the picture is being taken, one batch of events is held back and no further one is
 * fetched: the stream is stored at the node and will not run away. */

enum { PAGE_RETRY_MS = 200 };

void session_convert(struct usher_backend_session *to, const Usher__V1__SessionInfo *from)
{
    *to = (struct usher_backend_session){
        .user = from->user,
        .state = (unsigned)from->state,
        .epoch = from->epoch,
        .node = from->node,
        .since_ms = from->since_ms,
        .address = from->address,
        .client = from->client,
        .inbox_messages = from->inbox_messages,
        .transport = from->transport,
    };
}

void event_convert(struct usher_backend_event *to, const Usher__V1__PresenceEvent *from)
{
    *to = (struct usher_backend_event){
        .seq = from->seq,
        .time_ms = from->time_ms,
        .user = from->user,
        .kind = (unsigned)from->kind,
        .epoch = from->epoch,
        .previous_epoch = from->previous_epoch,
        .cause = (unsigned)from->cause,
        .until_ms = from->until_ms,
        .address = from->address,
        .client = from->client,
    };
}

static void pages_clear(struct presence *presence)
{
    for (size_t i = 0; i < presence->page_count; i++)
        free(presence->pages[i].last);
    presence->page_count = 0;
}

void presence_fini(struct presence *presence)
{
    pages_clear(presence);
    free(presence->pages);
    presence->pages = NULL;
    presence->page_capacity = 0;
}

bool presence_holds(const struct presence *presence)
{
    return presence->held != NULL;
}

bool presence_wants_page(const struct presence *presence, uint64_t now_ms)
{
    return presence->snapshotting && presence->page_wanted && now_ms >= presence->page_at_ms;
}

const char *presence_page_after(const struct presence *presence)
{
    return presence->page_count > 0 ? presence->pages[presence->page_count - 1].last : "";
}

/* The picture is taken anew, and the stream goes on behind `done`. */
static void begin(struct usher_backend *backend, uint64_t done)
{
    struct presence *presence = &backend->presence;
    pages_clear(presence);
    presence->done = done;
    presence->page_at_ms = 0;
    presence->snapshotting = presence->page_wanted = backend->on.on_presence_snapshot != NULL;
    if (backend->on.on_presence_reset != NULL)
        backend->on.on_presence_reset(backend->context);
}

void presence_linked(struct usher_backend *backend, uint64_t presence_from)
{
    struct presence *presence = &backend->presence;
    bool first = presence->done == 0 && !presence->snapshotting;
    bool gap = presence_from != 0 && presence_from != presence->done + 1;
    presence->held = NULL;
    if (!presence->following)
        return;
    /* An interrupted picture is worth nothing; neither is one of a node whose numbers do not go
     * on where ours end. */
    if (first || gap || presence->snapshotting)
        begin(backend, presence_from != 0 ? presence_from - 1 : presence->done);
}

/* Whether the picture already contains the event. */
static bool pictured(struct presence *presence, uint64_t seq, const char *user)
{
    size_t low = 0;
    size_t high = presence->page_count;
    if (high == 0)
        return false;
    if (seq > presence->pages[high - 1].stamp) {
        pages_clear(presence); /* nothing newer can be in it */
        return false;
    }
    while (low + 1 < high) { /* the first page whose last name is not before the user */
        size_t middle = low + (high - 1 - low) / 2;
        if (strcmp(presence->pages[middle].last, user) < 0)
            low = middle + 1;
        else
            high = middle + 1;
    }
    return seq <= presence->pages[low].stamp;
}

static void tell(struct usher_backend *backend, const Usher__V1__PresenceEvent *from)
{
    struct usher_backend_event event;
    if (pictured(&backend->presence, from->seq, from->user) || backend->on.on_presence == NULL)
        return;
    event_convert(&event, from);
    backend->on.on_presence(backend->context, &event);
}

static uint64_t newest(const Usher__V1__Batch *batch)
{
    uint64_t seq = batch->presence_last;
    for (size_t i = 0; i < batch->n_presence; i++)
        if (batch->presence[i]->seq > seq)
            seq = batch->presence[i]->seq;
    return seq;
}

/* Events before `next` (NULL: nobody knows which) will not come. True: a picture replaces them, and
 * the rest of the batch with them. Who takes no pictures is told of the hole and goes on. */
static bool missed(struct usher_backend *backend, const Usher__V1__Batch *batch,
                   const Usher__V1__PresenceEvent *next)
{
    bool picture = backend->on.on_presence_snapshot != NULL;
    begin(backend, !picture && next != NULL && next->seq > 0 ? next->seq - 1 : newest(batch));
    return picture;
}

/* Events in their order; the first one that is missing ends it when a picture will replace them. */
static void apply(struct usher_backend *backend, const Usher__V1__Batch *batch)
{
    struct presence *presence = &backend->presence;
    if (batch->presence_reset &&
        missed(backend, batch, batch->n_presence > 0 ? batch->presence[0] : NULL))
        return;
    for (size_t i = 0; i < batch->n_presence; i++) {
        const Usher__V1__PresenceEvent *event = batch->presence[i];
        if (event->seq <= presence->done)
            continue;
        if (event->seq != presence->done + 1 && missed(backend, batch, event))
            return;
        presence->done = event->seq;
        tell(backend, event);
    }
}

void presence_batch(struct usher_backend *backend, const Usher__V1__Batch *batch)
{
    struct presence *presence = &backend->presence;
    if (!presence->following || (batch->n_presence == 0 && !batch->presence_reset))
        return;
    CHECK(presence->held == NULL); /* its events would be lost */
    if (presence->snapshotting)
        presence->held = batch;
    else
        apply(backend, batch);
}

/* Notes what the page covers. Without memory or room it is added to the page before, under that
 * page's older stamp: then some events are told again, in order, and the end is the same. */
static bool note_page(struct presence *presence, const char *last, uint64_t stamp)
{
    char *copy = strdup(last);
    if (copy == NULL)
        return false;
    if (presence->page_count == presence->page_capacity &&
        presence->page_capacity < SNAPSHOT_PAGES_MAX) {
        size_t capacity = presence->page_capacity == 0 ? 16 : presence->page_capacity * 2;
        struct snapshot_page *pages = realloc(presence->pages, capacity * sizeof(*pages));
        if (pages != NULL) {
            presence->pages = pages;
            presence->page_capacity = capacity;
        }
    }
    if (presence->page_count < presence->page_capacity) {
        presence->pages[presence->page_count++] = (struct snapshot_page){copy, stamp};
        return true;
    }
    if (presence->page_count == 0) {
        free(copy);
        return false;
    }
    free(presence->pages[presence->page_count - 1].last);
    presence->pages[presence->page_count - 1].last = copy;
    return true;
}

/* The picture is whole; what came meanwhile is told now, as far as it is not in it. */
static void finish(struct usher_backend *backend)
{
    struct presence *presence = &backend->presence;
    const Usher__V1__Batch *held = presence->held;
    presence->snapshotting = false;
    presence->held = NULL;
    if (backend->on.on_presence_current != NULL)
        backend->on.on_presence_current(backend->context);
    if (held != NULL)
        apply(backend, held);
}

static void page_again(struct presence *presence)
{
    presence->page_wanted = true;
    presence->page_at_ms = clock_ms() + PAGE_RETRY_MS;
}

void presence_page(struct usher_backend *backend, const Usher__V1__Result *result)
{
    struct presence *presence = &backend->presence;
    const Usher__V1__SessionList *list;
    const char *last;
    if (!presence->snapshotting)
        return;
    if (result == NULL || result->code != USHER__V1__RESULT__CODE__OK ||
        result->value_case != USHER__V1__RESULT__VALUE_SESSIONS) {
        page_again(presence);
        return;
    }
    list = result->sessions;
    last = list->n_sessions > 0 ? list->sessions[list->n_sessions - 1]->user
                                : presence_page_after(presence);
    /* A page that does not get ahead would be asked for without end. */
    bool more = list->more && strcmp(last, presence_page_after(presence)) > 0;
    bool first = presence->page_count == 0;
    if (!note_page(presence, last, list->presence_seq)) {
        page_again(presence);
        return;
    }
    if (first && list->presence_seq > presence->done)
        presence->done = list->presence_seq;
    for (size_t i = 0; i < list->n_sessions; i++) {
        struct usher_backend_session session;
        session_convert(&session, list->sessions[i]);
        backend->on.on_presence_snapshot(backend->context, &session);
    }
    presence->page_wanted = more;
    if (!more)
        finish(backend);
}
