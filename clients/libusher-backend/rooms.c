/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher-backend/rooms.h"

#include <errno.h>

#include "libusher-backend/backend.h"
#include "libusher-backend/pack.h"

/* An ask is a call: it is answered by usher_backend_reply, under the number of the link that it
 * came in on. News are acknowledged with the mail they came in, when the callback has returned, so
 * who dies in it leaves them to another instance. */

void rooms_ask(struct usher_backend *backend, const Usher__V1__RoomAsk *from)
{
    const struct usher_backend_room_ask ask = {
        .id = {backend->link_count, from->call},
        .room = from->room,
        .user = from->user,
        .epoch = from->epoch,
        .creates = from->kind == USHER__V1__ROOM_ASK__KIND__CREATE,
        .timeout_ms = from->timeout_ms,
        .redelivered = from->redelivered,
    };
    if (backend->on.on_room_ask != NULL)
        backend->on.on_room_ask(backend->context, &ask);
}

void rooms_news(struct usher_backend *backend, const Usher__V1__RoomNews *from)
{
    const struct usher_backend_room_news news = {
        .room = from->room,
        .incarnation = from->incarnation,
        .news_seq = from->news_seq,
        .kind = (unsigned)from->kind,
        .user = from->user,
        .epoch = from->epoch,
        .cause = (unsigned)from->cause,
        .offset = from->offset,
        .payload = from->payload.data,
        .payload_size = from->payload.len,
        .service = from->service,
        .time_ms = from->time_ms,
        .redelivered = from->redelivered,
    };
    if (backend->on.on_room_news != NULL)
        backend->on.on_room_news(backend->context, &news);
}

void room_convert(struct usher_backend_room *room, const Usher__V1__RoomInfo *from)
{
    *room = (struct usher_backend_room){
        .name = from->name,
        .incarnation = from->incarnation,
        .offset = from->offset,
        .members = from->members,
        .away = from->away,
        .room_class = from->class_,
        .owner = from->owner,
        .history_messages = from->history_messages,
        .history_bytes = from->history_bytes,
        .deliveries = from->deliveries,
        .opened_ms = from->opened_ms,
    };
}

/* --- commands --------------------------------------------------------------------------------- */

int usher_backend_room_open(struct usher_backend *backend, const char *room, const char *room_class,
                            uint32_t members_max, uint64_t token)
{
    Usher__V1__RoomOpen open = USHER__V1__ROOM_OPEN__INIT;
    Usher__V1__Command message = USHER__V1__COMMAND__INIT;
    open.room = pack_text(room);
    open.class_ = pack_text(room_class);
    open.members_max = members_max;
    message.body_case = USHER__V1__COMMAND__BODY_ROOM_OPEN;
    message.room_open = &open;
    return submit_command(backend, &message, token);
}

int usher_backend_room_close(struct usher_backend *backend, const char *room, const char *detail,
                             uint64_t token)
{
    Usher__V1__RoomClose close = USHER__V1__ROOM_CLOSE__INIT;
    Usher__V1__Command message = USHER__V1__COMMAND__INIT;
    close.room = pack_text(room);
    close.detail = pack_text(detail);
    message.body_case = USHER__V1__COMMAND__BODY_ROOM_CLOSE;
    message.room_close = &close;
    return submit_command(backend, &message, token);
}

int usher_backend_room_add(struct usher_backend *backend, const struct usher_backend_room_add *add,
                           uint64_t token)
{
    Usher__V1__RoomAdd body = USHER__V1__ROOM_ADD__INIT;
    Usher__V1__Command message = USHER__V1__COMMAND__INIT;
    if (add->user_count > FRAME_BYTES_MAX)
        return -EMSGSIZE;
    body.room = pack_text(add->room);
    body.n_users = add->user_count;
    body.users = (char **)(uintptr_t)add->users;
    body.n_epochs = add->epochs != NULL ? add->user_count : 0;
    body.epochs = (uint64_t *)(uintptr_t)add->epochs;
    body.carry = add->carry;
    message.body_case = USHER__V1__COMMAND__BODY_ROOM_ADD;
    message.room_add = &body;
    return submit_command(backend, &message, token);
}

int usher_backend_room_remove(struct usher_backend *backend, const char *room,
                              const char *const *users, size_t user_count, const char *detail,
                              uint64_t token)
{
    Usher__V1__RoomRemove remove = USHER__V1__ROOM_REMOVE__INIT;
    Usher__V1__Command message = USHER__V1__COMMAND__INIT;
    if (user_count > FRAME_BYTES_MAX)
        return -EMSGSIZE;
    remove.room = pack_text(room);
    remove.n_users = user_count;
    remove.users = (char **)(uintptr_t)users;
    remove.detail = pack_text(detail);
    message.body_case = USHER__V1__COMMAND__BODY_ROOM_REMOVE;
    message.room_remove = &remove;
    return submit_command(backend, &message, token);
}

int usher_backend_room_publish(struct usher_backend *backend, const char *room, const void *payload,
                               size_t payload_size, uint64_t token)
{
    Usher__V1__RoomPublish publish = USHER__V1__ROOM_PUBLISH__INIT;
    Usher__V1__Command message = USHER__V1__COMMAND__INIT;
    if (payload_size > FRAME_BYTES_MAX)
        return -EMSGSIZE;
    publish.room = pack_text(room);
    publish.payload = pack_bytes(payload, payload_size);
    message.body_case = USHER__V1__COMMAND__BODY_ROOM_PUBLISH;
    message.room_publish = &publish;
    return submit_command(backend, &message, token);
}
