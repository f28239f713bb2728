/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher-backend/friends.h"

#include <errno.h>
#include <stdlib.h>

#include "libusher-backend/backend.h"
#include "libusher-backend/pack.h"

/* An ask is a call, and its yes is a reply whose payload is a WatchGrant. Who may see nobody of
 * those whom he asked for gets a plain reply that is no yes. */

void friends_ask(struct usher_backend *backend, const Usher__V1__WatchAsk *from)
{
    const struct usher_backend_watch_ask ask = {
        .id = {backend->link_count, from->call},
        .user = from->user,
        .epoch = from->epoch,
        .targets = (const char *const *)from->targets,
        .target_count = from->n_targets,
        .timeout_ms = from->timeout_ms,
        .redelivered = from->redelivered,
    };
    if (backend->on.on_watch_ask != NULL)
        backend->on.on_watch_ask(backend->context, &ask);
}

int usher_backend_grant(struct usher_backend *backend, struct usher_backend_call_id id,
                        const char *const *targets, size_t target_count)
{
    Usher__V1__WatchGrant grant = USHER__V1__WATCH_GRANT__INIT;
    if (target_count > FRAME_BYTES_MAX)
        return -EMSGSIZE;
    grant.n_targets = target_count;
    grant.targets = (char **)(uintptr_t)targets;
    size_t size = usher__v1__watch_grant__get_packed_size(&grant);
    if (size > FRAME_BYTES_MAX)
        return -EMSGSIZE;
    uint8_t *packed = malloc(size + 1);
    if (packed == NULL)
        return -ENOMEM;
    usher__v1__watch_grant__pack(&grant, packed);
    int error = usher_backend_reply(backend, id, 0, packed, size);
    free(packed);
    return error;
}

int usher_backend_watch_list(struct usher_backend *backend,
                             const struct usher_backend_watch_list *list, uint64_t token)
{
    Usher__V1__WatchList body = USHER__V1__WATCH_LIST__INIT;
    Usher__V1__Command message = USHER__V1__COMMAND__INIT;
    if (list->target_count > FRAME_BYTES_MAX)
        return -EMSGSIZE;
    body.user = pack_text(list->user);
    body.epoch = list->epoch;
    body.mode = (Usher__V1__WatchList__Mode)list->mode;
    body.n_targets = list->target_count;
    body.targets = (char **)(uintptr_t)list->targets;
    message.body_case = USHER__V1__COMMAND__BODY_WATCH_LIST;
    message.watch_list = &body;
    return submit_command(backend, &message, token);
}
