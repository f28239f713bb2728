/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/room.h"

/* A map that is full to the last page could not even delete: a change copies the pages on its
 * way, and the copied ones are free for the next but one transaction only. So each transaction
 * leaves PAGES_KEPT free pages to the next, and one that makes the content grow leaves twice as
 * many and what the events may still need. Refused are then new names, while those who are there
 * can change and leave, which makes room again.
 *
 * The estimate: a change copies two pages of its trees, but no page is copied twice, and what is
 * put fills new pages by half.
 *
 * Saved inboxes may be by far the most of a store, and they are written when it stops. They must
 * not keep the next start from its work, so they leave room for
 *   - an update of every session with an event each, in one transaction, and
 *   - the list of the pages that dropping them sets free. That list is one value, so if it is
 *     longer than a page it needs pages in a row: behind the file's last page, where what was
 *     just estimated leaves them, or a row of free pages that is longer than all of it. (LMDB
 *     takes from the low end of a row, so its high end is still one afterwards.) */

enum {
    PAGES_KEPT = 16, /* what a transaction must leave for the next; see above */
    PAGE_HEADER_BYTES = 16,
    NODE_BYTES = 10,        /* of a key and its value on a page */
    NODES_PER_PAGE_MIN = 2, /* a value that leaves no room for others has pages of its own */
    PAGE_NUMBER_BYTES = 8,
    UPDATES_PER_SESSION = 2, /* of a start: the session and an event */
};

static uint64_t at_most(uint64_t value, uint64_t limit)
{
    return value < limit ? value : limit;
}

static uint64_t pages_of(const struct room *room, uint64_t bytes)
{
    return (bytes + room->file.page_bytes - 1) / room->file.page_bytes;
}

void room_begin(struct room *room, const struct room_file *file)
{
    *room = (struct room){.file = *file};
}

void room_add(struct room *room, enum room_change change, size_t bytes)
{
    if (change != ROOM_MESSAGE) {
        room->changes++;
        room->bytes += bytes;
        return;
    }
    room->inbox_changes++;
    if (bytes + NODE_BYTES > (room->file.page_bytes - PAGE_HEADER_BYTES) / NODES_PER_PAGE_MIN)
        room->inbox_value_pages += pages_of(room, bytes + PAGE_HEADER_BYTES);
    else
        room->inbox_bytes += bytes + NODE_BYTES;
}

void room_list(struct room *room, uint64_t pages, uint64_t run)
{
    room->listed_pages = pages;
    room->listed_run = run;
    room->listed = true;
}

/* What the changes take, the values on pages of their own left out. */
static uint64_t pages_taken(const struct room *room)
{
    const struct room_file *file = &room->file;
    uint64_t copied = at_most(2 * room->changes, file->session_pages + file->event_pages);
    uint64_t inbox_copied = at_most(2 * room->inbox_changes, file->inbox_pages);
    return copied + inbox_copied + 2 * pages_of(room, room->bytes) +
           2 * pages_of(room, room->inbox_bytes);
}

static uint64_t pages_for_events(const struct room *room)
{
    return pages_of(room, room->file.events_missing * ROOM_EVENT_BYTES_MAX);
}

/* An event is not larger than the session that it tells of. */
static uint64_t pages_for_start(const struct room *room)
{
    const struct room_file *file = &room->file;
    uint64_t copied =
        at_most(2 * UPDATES_PER_SESSION * file->sessions, file->session_pages + file->event_pages);
    return copied + 2 * UPDATES_PER_SESSION * file->session_pages;
}

/* The list of free pages after a start that dropped everything. */
static uint64_t pages_for_drop(const struct room *room)
{
    const struct room_file *file = &room->file;
    uint64_t pages = file->inbox_pages + file->inbox_value_pages + room->inbox_value_pages +
                     2 * pages_of(room, room->inbox_bytes) + pages_for_start(room) + PAGES_KEPT;
    return pages_of(room, pages * PAGE_NUMBER_BYTES) + 1;
}

static bool message_fits(const struct room *room)
{
    const struct room_file *file = &room->file;
    uint64_t drop = pages_for_drop(room);
    uint64_t single =
        pages_taken(room) + pages_for_start(room) + pages_for_events(room) + 2 * PAGES_KEPT;
    uint64_t wanted = single + room->inbox_value_pages + drop;
    uint64_t behind = file->pages - file->pages_used;
    if (wanted > behind + room->listed_pages)
        return false;
    uint64_t single_behind = single > room->listed_pages ? single - room->listed_pages : 0;
    return drop <= 2 || wanted <= room->listed_run ||
           single_behind + room->inbox_value_pages + drop <= behind;
}

bool room_fits(const struct room *room, enum room_change change)
{
    const struct room_file *file = &room->file;
    if (file->pages_used > file->pages)
        return false;
    if (change == ROOM_MESSAGE)
        return message_fits(room);
    uint64_t wanted = pages_taken(room) + room->inbox_value_pages;
    wanted += change == ROOM_GROWS ? 2 * PAGES_KEPT + pages_for_events(room) : PAGES_KEPT;
    return wanted <= file->pages - file->pages_used + room->listed_pages;
}
