/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_BACKEND_PRESENCE_H
#define USHER_LIBUSHER_BACKEND_PRESENCE_H

/* The cursor in the presence stream, gaps, and pictures of who is there. For the thread that runs,
 * but for what converts. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.pb-c.h"
#include "usher_backend.h"

enum { SNAPSHOT_PAGES_MAX = 65536 };

struct snapshot_page {
    char *last;     /* the page is about the names up to this one, after the page before */
    uint64_t stamp; /* and contains every event up to this seq */
};

struct presence {
    bool following;
    uint64_t done; /* every event up to it is processed */
    bool snapshotting;
    bool page_wanted;
    uint64_t page_at_ms;          /* not before */
    const Usher__V1__Batch *held; /* arrived during a snapshot; lives in the fetch arena */
    struct snapshot_page *pages;  /* sorted by name; the last one is about all names behind it */
    size_t page_count;
    size_t page_capacity;
};

void presence_linked(struct usher_backend *backend, uint64_t presence_from);
void presence_batch(struct usher_backend *backend, const Usher__V1__Batch *batch);

/* True while the events of the last batch wait for a snapshot: its arena must stay. */
bool presence_holds(const struct presence *presence);
bool presence_wants_page(const struct presence *presence, uint64_t now_ms);
const char *presence_page_after(const struct presence *presence);

/* A page arrived, or (NULL) will not come. */
void presence_page(struct usher_backend *backend, const Usher__V1__Result *result);
void presence_fini(struct presence *presence);

void session_convert(struct usher_backend_session *to, const Usher__V1__SessionInfo *from);
void event_convert(struct usher_backend_event *to, const Usher__V1__PresenceEvent *from);

#endif
