/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher-backend/stored.h"

#include <errno.h>

#include "libusher-backend/backend.h"
#include "libusher-backend/pack.h"

/* A node of before stored messages takes one for a push like any other: whoever is online gets it,
 * and it is on no disk. Such a node gives no mid, and its OK is none. */

void stored_notice(struct usher_backend *backend, const Usher__V1__StoredNotice *from)
{
    const struct usher_backend_stored_notice notice = {
        .user = from->user,
        .mid = from->mid,
        .from = from->from,
        .service = from->service,
        .payload_bytes = from->payload_bytes,
        .time_ms = from->time_ms,
        .count = from->count,
    };
    if (backend->on.on_stored_notice != NULL)
        backend->on.on_stored_notice(backend->context, &notice);
}

void stored_judge(struct usher_backend_result *result)
{
    if (result->code == USHER_BACKEND_OK && result->accepted > 0 && result->mid == 0)
        result->code = USHER_BACKEND_NOT_STORED;
}

int usher_backend_push_stored(struct usher_backend *backend, const char *const *users,
                              size_t user_count, const void *payload, size_t payload_size,
                              uint32_t keep_s, uint64_t tag, uint64_t token)
{
    const struct usher_backend_message message = {
        .users = users,
        .user_count = user_count,
        .payload = payload,
        .payload_size = payload_size,
        .keep_s = keep_s,
        .tag = tag,
    };
    return keep_s != 0 ? usher_backend_push_message(backend, &message, token) : -EINVAL;
}

int usher_backend_inbox_drop(struct usher_backend *backend, const char *user, uint64_t up_to_mid,
                             uint64_t token)
{
    Usher__V1__InboxDrop drop = USHER__V1__INBOX_DROP__INIT;
    Usher__V1__Command message = USHER__V1__COMMAND__INIT;
    drop.user = pack_text(user);
    drop.up_to_mid = up_to_mid;
    message.body_case = USHER__V1__COMMAND__BODY_INBOX_DROP;
    message.inbox_drop = &drop;
    return submit_command(backend, &message, token);
}
