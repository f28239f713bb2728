/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/inboxes.h"

#include <errno.h>

#include "base/memory.h"
#include "proto/link_answer.h"
#include "proto/username.h"

/* A page is cut where its room or its limit ends; the asker goes on behind the last mid. Of each
 * message its head is read, wherever it lies in the log, so a page has few of them. */

enum { PAGE_MESSAGES_MAX = 256 };

struct listing {
    struct link_page page;
    uint32_t count, limit;
    bool more;
};

static bool add(void *context, const struct log_entry *entry)
{
    struct listing *listing = context;
    const struct stored_fields fields = {
        .mid = entry->mid,
        .from = entry->from_service ? (struct bytes){0} : entry->sender,
        .service = entry->from_service ? entry->sender : (struct bytes){0},
        .payload_bytes = (uint32_t)entry->payload.size,
        .time_ms = entry->time_ms,
        .expires_ms = entry->expires_ms,
    };
    int error = -ENOSPC;
    if (listing->count < listing->limit)
        MEMORY_MUST((error = link_page_stored(&listing->page, &fields)) != -ENOMEM, "a page");
    listing->more = error != 0;
    listing->count++;
    return error == 0;
}

static bool refused(struct buffer *out, const char *user)
{
    if (username_valid(bytes_of_text(user)))
        return false;
    MEMORY_MUST(link_result_code(out, USHER__V1__RESULT__CODE__MALFORMED) == 0, "a result");
    return true;
}

void inboxes_list(struct stored *stored, const Usher__V1__Inbox *inbox, size_t room,
                  struct buffer *out)
{
    struct listing listing = {
        .page = {.room = room},
        .limit = inbox->limit != 0 && inbox->limit < PAGE_MESSAGES_MAX ? inbox->limit
                                                                       : PAGE_MESSAGES_MAX,
    };
    struct stored_summary summary;
    if (refused(out, inbox->user))
        return;
    int error = stored_list(stored, inbox->user, inbox->after_mid, listing.limit + 1, add, &listing,
                            &summary);
    if (error != 0)
        MEMORY_MUST(link_result_code(out, USHER__V1__RESULT__CODE__UNAVAILABLE) == 0, "a result");
    else
        MEMORY_MUST(
            link_result_stored(out, &listing.page, listing.more, summary.count, summary.bytes) == 0,
            "a result");
    buffer_fini(&listing.page.items);
}

void inboxes_drop(struct committer *committer, const Usher__V1__InboxDrop *drop, struct buffer *out)
{
    const struct link_page none = {0};
    uint64_t bytes = 0;
    if (refused(out, drop->user))
        return;
    uint32_t count = committer_drop_stored(committer, drop->user, drop->up_to_mid, &bytes);
    MEMORY_MUST(link_result_stored(out, &none, false, count, bytes) == 0, "a result");
}
