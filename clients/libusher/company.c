/* SPDX-License-Identifier: Apache-2.0 */
#include "usher.h"

#include <errno.h>
#include <string.h>

#include "libusher/client.h"
#include "libusher/session.h"
#include "proto/client_frame.h"

/* The public calls about rooms and friends. What is for a room says its number, which only a room
 * that is joined has: until then it is held (requests.c). */

enum { WATCH_ADD = 1, WATCH_REMOVE = 2 };

/* Gives a request for the frame, with its id in it; not yet taken. */
static int prepare(struct usher_client *client, bool answered, struct client_frame *frame,
                   struct request **request)
{
    int result =
        client_begin_request(client, answered, client->options.request_timeout_ms, request);
    if (result == 0)
        frame->id = (*request)->id;
    return result;
}

static bool name_fits(const char *room)
{
    return room != NULL && room[0] != '\0' && strlen(room) <= ROOM_NAME_BYTES_MAX;
}

static int join(struct usher_client *client, struct client_frame *frame, uint64_t *id)
{
    struct request *request;
    struct room *room;
    const struct room *known = rooms_find(&client->rooms, frame->join.room);
    if (known != NULL && requests_join(&client->requests, known))
        return -EALREADY;
    int result = prepare(client, true, frame, &request);
    if (result < 0)
        return result;
    result = client_frame_write(&request->frame, frame, client->frame_bytes_max);
    if (result == 0)
        result = rooms_make(&client->rooms, frame->join.room, &room);
    if (result == 0) {
        request->joins = true;
        request->room = room;
    }
    result = client_submit(client, request, result, id);
    if (result == 0) {
        room->wanted = true;
        room->again_at_ms = 0;
    } else {
        rooms_settle(client);
    }
    return result;
}

int usher_join(struct usher_client *client, const char *room, uint64_t *id)
{
    struct client_frame frame = {.body = CLIENT_JOIN, .join = {.room = bytes_of_text(room)}};
    return name_fits(room) ? join(client, &frame, id) : -EINVAL;
}

int usher_join_behind(struct usher_client *client, const char *room, uint64_t incarnation,
                      uint64_t offset, uint64_t *id)
{
    struct client_frame frame = {.body = CLIENT_JOIN,
                                 .join = {.room = bytes_of_text(room),
                                          .recover = true,
                                          .incarnation = incarnation,
                                          .offset = offset}};
    return name_fits(room) ? join(client, &frame, id) : -EINVAL;
}

/* About a room that this client is in, or waits to be in. */
static int ask_room(struct usher_client *client, bool answered, struct room *room,
                    struct client_frame *frame, uint64_t *id)
{
    struct request *request;
    int result = prepare(client, answered, frame, &request);
    if (result < 0)
        return result;
    request->room = room;
    request->held = room != NULL && !room->told;
    result = client_frame_write(&request->frame, frame, client->frame_bytes_max);
    return client_submit(client, request, result, id);
}

int usher_leave(struct usher_client *client, const char *room, uint64_t *id)
{
    if (!name_fits(room))
        return -EINVAL;
    struct room *known = rooms_find(&client->rooms, bytes_of_text(room));
    if (known == NULL)
        return -ENOENT;
    struct client_frame frame = {.body = CLIENT_LEAVE, .leave = {.room = known->number}};
    int result = ask_room(client, true, known, &frame, id);
    if (result == 0)
        known->wanted = false;
    return result;
}

static int publish(struct usher_client *client, bool answered, const char *room,
                   struct bytes payload, uint64_t *id)
{
    if (!name_fits(room) || (payload.data == NULL && payload.size > 0))
        return -EINVAL;
    struct room *known = rooms_find(&client->rooms, bytes_of_text(room));
    struct client_frame frame = {.body = CLIENT_PUBLISH, .publish = {.payload = payload}};
    if (known != NULL)
        frame.publish.room = known->number;
    else
        frame.publish.name = bytes_of_text(room);
    return ask_room(client, answered, known, &frame, id);
}

int usher_publish(struct usher_client *client, const char *room, const void *payload,
                  size_t payload_size, uint64_t *id)
{
    return publish(client, true, room, (struct bytes){payload, payload_size}, id);
}

int usher_post_publish(struct usher_client *client, const char *room, const void *payload,
                       size_t payload_size)
{
    return publish(client, false, room, (struct bytes){payload, payload_size}, NULL);
}

/* --- friends ---------------------------------------------------------------------------------- */

static int add_names(struct buffer *run, uint32_t number, const char *const *names, size_t count,
                     struct client_list *list)
{
    int result = names == NULL && count > 0 ? -EINVAL : 0;
    for (size_t i = 0; result == 0 && i < count; i++)
        result =
            names[i] != NULL ? client_list_add_text(run, number, bytes_of_text(names[i])) : -EINVAL;
    *list = (struct client_list){{run->data, run->size}, number};
    return result;
}

int usher_watch(struct usher_client *client, const char *const *add, size_t add_count,
                const char *const *remove, size_t remove_count, uint64_t *id)
{
    struct client_frame frame = {.body = CLIENT_WATCH};
    struct buffer added = {0}, removed = {0};
    uint64_t wire_id = 0;
    int result = add_names(&added, WATCH_ADD, add, add_count, &frame.watch.add);
    if (result == 0)
        result = add_names(&removed, WATCH_REMOVE, remove, remove_count, &frame.watch.remove);
    if (result == 0)
        result = friends_stage(&client->friends, add, add_count);
    if (result == 0) {
        result = ask_room(client, true, NULL, &frame, &wire_id);
        friends_staged(client, result, wire_id, add, add_count, remove, remove_count);
    }
    if (result == 0 && id != NULL)
        *id = wire_id;
    buffer_fini(&added);
    buffer_fini(&removed);
    return result;
}

int usher_set_status(struct usher_client *client, const void *status, size_t status_size,
                     bool invisible, uint64_t *id)
{
    struct client_frame frame = {
        .body = CLIENT_SET_STATUS,
        .set_status = {.status = {status, status_size}, .invisible = invisible}};
    if (status == NULL && status_size > 0)
        return -EINVAL;
    uint64_t wire_id;
    int result = ask_room(client, true, NULL, &frame, &wire_id);
    if (result < 0)
        return result;
    friends_status(&client->friends, frame.set_status.status, invisible, wire_id);
    if (id != NULL)
        *id = wire_id;
    return 0;
}
