/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/rooms.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "libusher/incoming.h"
#include "libusher/session.h"

/* What RoomState and RoomMessages do to a room, and the rule of the offsets:
 *
 *     NONE      the next is state.offset + 1
 *     COMPLETE  the next is the one behind the last that came
 *     PARTIAL   the next is any greater one
 *
 * and from then on each message is one more than the one before. A broker that breaks it, or that
 * speaks of a room without having said over this connection that the client is in it, is none: the
 * program believes in the order, so it is better told of a lost connection.
 *
 * What the position means: the event queue outlives connections and sessions, so what came counts,
 * whether the program has taken it or not. It is of one incarnation: of another one nothing came.
 *
 * A Join whose answer was lost is answered as well by a RoomState without its number, which comes
 * with each resume of who is a member. */

/* Of a Resume, which must pass before the broker knows who it is. Those that do not fit are told
 * what they would be told as well: from where they go on. */
enum { POSITIONS_BYTES_MAX = 2048 };

struct room *rooms_find(const struct rooms *rooms, struct bytes name)
{
    for (size_t i = 0; i < rooms->count; i++)
        if (bytes_equal(bytes_of_text(rooms->list[i]->name), name))
            return rooms->list[i];
    return NULL;
}

/* Of those of which this connection has spoken. */
static struct room *find_number(const struct rooms *rooms, uint64_t number)
{
    for (size_t i = 0; i < rooms->count; i++)
        if (rooms->list[i]->told && rooms->list[i]->number == number)
            return rooms->list[i];
    return NULL;
}

int rooms_make(struct rooms *rooms, struct bytes name, struct room **room)
{
    *room = rooms_find(rooms, name);
    if (*room != NULL)
        return 0;
    if (rooms->count == ROOMS_MAX)
        return -ENOBUFS;
    struct room **list = realloc(rooms->list, (rooms->count + 1) * sizeof(struct room *));
    if (list != NULL)
        rooms->list = list;
    struct room *made = list != NULL ? calloc(1, sizeof(*made)) : NULL;
    if (made == NULL)
        return -ENOMEM;
    CHECK(name.size <= ROOM_NAME_BYTES_MAX);
    memcpy(made->name, name.data, name.size);
    rooms->list[rooms->count++] = *room = made;
    return 0;
}

/* What waited for it fails. */
static void forget(struct usher_client *client, struct room *room)
{
    struct rooms *rooms = &client->rooms;
    size_t i = 0;
    while (rooms->list[i] != room)
        i++;
    memmove(&rooms->list[i], &rooms->list[i + 1], (rooms->count - i - 1) * sizeof(struct room *));
    rooms->count--;
    requests_fail_held(&client->requests, room, &client->events);
    free(room);
}

void rooms_settle(struct usher_client *client)
{
    struct rooms *rooms = &client->rooms;
    for (size_t i = rooms->count; i-- > 0;)
        if (!rooms->list[i]->joined && rooms->list[i]->again_at_ms == 0 &&
            !requests_join(&client->requests, rooms->list[i]))
            forget(client, rooms->list[i]);
}

void rooms_forget(struct usher_client *client)
{
    while (client->rooms.count > 0)
        forget(client, client->rooms.list[0]);
}

void rooms_fini(struct rooms *rooms)
{
    for (size_t i = 0; i < rooms->count; i++)
        free(rooms->list[i]);
    free(rooms->list);
    *rooms = (struct rooms){0};
}

/* --- connections and sessions ----------------------------------------------------------------- */

int rooms_positions(const struct rooms *rooms, struct buffer *run, struct client_list *list)
{
    enum { RESUME_ROOMS = 6 };
    int result = 0;
    for (size_t i = 0; result == 0 && i < rooms->count && run->size < POSITIONS_BYTES_MAX; i++) {
        const struct room *room = rooms->list[i];
        const struct client_position at = {room->number, room->incarnation, room->offset};
        if (room->joined)
            result = client_list_add_position(run, RESUME_ROOMS, &at);
    }
    *list = (struct client_list){{run->data, run->size}, RESUME_ROOMS};
    return result;
}

void rooms_lost(struct usher_client *client)
{
    for (size_t i = 0; i < client->rooms.count; i++)
        client->rooms.list[i]->told = false;
}

/* The room as it stands in an event of the library's own. NULL without memory. */
static struct event_node *lost_create(const struct room *room)
{
    size_t size = strlen(room->name) + 1;
    struct event_node *node = event_create(USHER_ROOM, size);
    if (node == NULL)
        return NULL;
    memcpy(node->data, room->name, size);
    node->event.room = (const char *)node->data;
    node->event.room_state = USHER_ROOM_LOST;
    node->event.incarnation = room->incarnation;
    node->event.offset = room->offset;
    return node;
}

/* A Join that the program has not asked for; its failure says that the room is lost. */
static int join_again(struct usher_client *client, struct room *room)
{
    const struct client_frame join = {.id = client->next_id,
                                      .body = CLIENT_JOIN,
                                      .join = {.room = bytes_of_text(room->name),
                                               .recover = true,
                                               .incarnation = room->incarnation,
                                               .offset = room->offset}};
    struct request *request = request_create(0, clock_ms() + client->options.request_timeout_ms);
    if (request == NULL)
        return -ENOMEM;
    request->wire_id = client->next_id++;
    request->room = room;
    request->joins = true;
    request->failure = lost_create(room);
    if (request->failure == NULL ||
        client_frame_write(&request->frame, &join, CONTROL_BYTES_MAX) < 0) {
        request_destroy(request);
        return -ENOMEM;
    }
    requests_add(&client->requests, request);
    return 0;
}

/* Nothing is to be had of it in this session. */
static void tell_lost(struct usher_client *client, struct room *room, int code)
{
    struct event_node *node = lost_create(room);
    if (node != NULL) {
        node->event.code = code;
        node->event.detail = "the session that was in it is over";
        events_push(&client->events, node);
    }
    forget(client, room);
}

void rooms_begin_epoch(struct usher_client *client)
{
    size_t kept = 0;
    while (kept < client->rooms.count) {
        struct room *room = client->rooms.list[kept];
        room->joined = room->told = false;
        room->again_at_ms = 0;
        if (requests_join(&client->requests, room) || /* the program is asking */
            (room->wanted && join_again(client, room) == 0))
            kept++;
        else
            tell_lost(client, room, room->wanted ? USHER_ERROR_NOT_SENT : 0);
    }
}

void rooms_check(struct usher_client *client, uint64_t now_ms)
{
    for (size_t i = client->rooms.count; i-- > 0;) {
        struct room *room = client->rooms.list[i];
        if (room->again_at_ms == 0 || room->again_at_ms > now_ms)
            continue;
        room->again_at_ms = join_again(client, room) < 0 ? now_ms + AGAIN_MS : 0;
    }
}

uint64_t rooms_due_ms(const struct rooms *rooms)
{
    uint64_t due_ms = UINT64_MAX;
    for (size_t i = 0; i < rooms->count; i++)
        if (rooms->list[i]->again_at_ms != 0 && rooms->list[i]->again_at_ms < due_ms)
            due_ms = rooms->list[i]->again_at_ms;
    return due_ms;
}

void rooms_refused(struct usher_client *client, struct request *request, struct event_node *node)
{
    struct event_node *lost = NULL;
    struct room *room = request->room;
    request_answered(&client->requests, request, &lost);
    if (node->event.id == 0 && room != NULL && session_may_pass(node->event.code)) {
        room->again_at_ms = session_again_ms(node->event.retry_after_ms);
        free(lost);
        free(node);
    } else if (node->event.id != 0 || lost == NULL) {
        free(lost);
        events_push(&client->events, node);
    } else {
        lost->event.code = node->event.code;
        lost->event.retry_after_ms = node->event.retry_after_ms;
        lost->event.detail = usher_error_name(node->event.code);
        free(node);
        events_push(&client->events, lost);
    }
    rooms_settle(client);
}

/* --- what the broker says --------------------------------------------------------------------- */

static void take_position(struct room *room, const struct usher_event *state)
{
    bool same = room->incarnation == state->incarnation;
    room->open = state->room_replay == USHER_ROOM_PARTIAL;
    if (state->room_replay == USHER_ROOM_NONE)
        room->offset = state->offset;
    else if (!same)
        room->offset = 0;
    room->incarnation = state->incarnation;
}

/* False: the connection is lost. */
static bool joined(struct usher_client *client, struct event_node *node)
{
    struct room *room;
    uint64_t id = 0;
    int result = node->event.room[0] != '\0'
                     ? rooms_make(&client->rooms, bytes_of_text(node->event.room), &room)
                     : -EPROTO;
    if (result < 0) {
        free(node);
        session_break_off(client, result == -ENOMEM ? result : -EPROTO,
                          "a room too many, or without a name");
        return false;
    }
    if (node->event.id == 0 && requests_joined(&client->requests, room, &id))
        node->event.id = id;
    room->number = (uint32_t)node->event.code;
    node->event.code = 0;
    room->joined = room->told = true;
    room->again_at_ms = 0;
    take_position(room, &node->event);
    events_push(&client->events, node);
    requests_release(&client->requests, room, room->number, &client->events);
    return true;
}

/* Of a room that is left, or was before a Resume named it, the broker may say the number alone. */
static struct room *find_named(const struct rooms *rooms, struct usher_event *event)
{
    struct room *found = NULL;
    if (event->room[0] != '\0')
        return rooms_find(rooms, bytes_of_text(event->room));
    for (size_t i = 0; i < rooms->count; i++) {
        struct room *room = rooms->list[i];
        bool fits = room->joined && room->number == (uint32_t)event->code;
        if (fits && (found == NULL || room->incarnation == event->incarnation))
            found = room;
    }
    if (found != NULL)
        strcpy((char *)(uintptr_t)event->room, found->name);
    return found;
}

/* It is over with the room, in whatever way; unless the program is asking for it again. */
static void left(struct usher_client *client, struct event_node *node)
{
    struct room *room = find_named(&client->rooms, &node->event);
    node->event.id = 0;
    node->event.code = 0;
    if (room != NULL) {
        room->joined = room->told = false;
        room->again_at_ms = 0;
        events_push(&client->events, node);
        rooms_settle(client);
    } else {
        free(node); /* of a room that was left in an earlier session, perhaps */
    }
}

/* An answer that is not asked for any more is no less true. */
static void receive_state(struct usher_client *client, struct event_node *node)
{
    struct request *request = requests_answered(&client->requests, node->event.id);
    node->event.id = request != NULL ? request->id : 0;
    if (request != NULL)
        request_answered(&client->requests, request, NULL);
    switch (node->event.room_state) {
    case USHER_ROOM_JOINED:
        (void)joined(client, node);
        return;
    case USHER_ROOM_LEFT:
    case USHER_ROOM_REMOVED:
    case USHER_ROOM_CLOSED:
        left(client, node);
        return;
    case USHER_ROOM_LOST:
        break;
    }
    free(node); /* something newer than this version */
}

/* One after the other: the rule of the offsets. */
static void receive_messages(struct usher_client *client, struct room *room, uint64_t offset,
                             struct event_queue *messages)
{
    bool fits = room->open ? offset > room->offset : offset == room->offset + 1;
    if (messages->count > 0 && (!fits || offset > UINT64_MAX - messages->count)) {
        events_fini(messages);
        session_break_off(client, -EPROTO, "messages of a room out of their order");
        return;
    }
    struct event_node *node;
    while ((node = events_pop(messages)) != NULL) {
        node->event.incarnation = room->incarnation;
        room->open = false;
        room->offset = offset;
        node->event.offset = offset++;
        events_push(&client->events, node);
    }
}

static const struct room NOBODYS = {.name = ""};

void rooms_receive(struct usher_client *client, const struct broker_frame *frame)
{
    struct event_queue nodes = {0};
    struct room *room = NULL;
    bool of_room = frame->body == BROKER_ROOM_MESSAGES || frame->body == BROKER_ROOM_EVENT;
    if (of_room) {
        room = find_number(&client->rooms, frame->number[MESSAGES_ROOM]);
        if (room == NULL) {
            session_break_off(client, -EPROTO, "something of a room that it has not named");
            return;
        }
    }
    int result = incoming_company(frame, room != NULL ? room->name : NOBODYS.name, &nodes);
    if (result < 0) {
        events_fini(&nodes);
        session_break_off(client, result, "a frame of rooms or friends that cannot be read");
        return;
    }
    if (frame->body == BROKER_ROOM_MESSAGES) {
        receive_messages(client, room, frame->number[MESSAGES_OFFSET], &nodes);
        return;
    }
    struct event_node *node = events_pop(&nodes);
    if (frame->body == BROKER_FRIENDS && node->event.snapshot)
        friends_pictured(&client->friends);
    if (frame->body == BROKER_ROOM_STATE)
        receive_state(client, node);
    else
        events_push(&client->events, node);
}

void rooms_passed_over(struct usher_client *client, uint64_t number, struct event_node *node)
{
    struct room *room = find_number(&client->rooms, number);
    struct event_node *named = event_create(USHER_ERROR, ROOM_NAME_BYTES_MAX + 1);
    if (room == NULL || named == NULL) {
        free(named);
        free(node);
        return; /* the next one of a room that is none ends it */
    }
    room->open = true;
    strcpy((char *)named->data, room->name);
    named->event.room = (const char *)named->data;
    named->event.code = node->event.code;
    named->event.detail = "passed over: a frame beyond incoming_frame_bytes_max";
    free(node);
    events_push(&client->events, named);
}
