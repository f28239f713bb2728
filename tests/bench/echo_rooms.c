/* SPDX-License-Identifier: Apache-2.0 */
#include "limit.h"
#include "proto/broker_frame.h"
#include "proto/client_frame.h"
#include "proto/frame.h"

/* The 'limit' of rooms: the least that a single-threaded broker can do which gives each message of
 * a room its number and sends it to every member (limit.c is its loop).
 *
 * It speaks client.proto, as much of it as usher-bench needs: Login is answered by Welcome and not
 * looked at, Join by RoomState, Publish by Done(offset) if it has an id; and a frame RoomMessages
 * is made of each message and copied to the output of each member. Nobody is refused, nothing is
 * kept, whose connection ends is a member no more.
 *
 * usage: echo_rooms PORT
 */

enum { ROOMS_MAX = 1 << 16, NAME_BYTES = 64, REPLAY_NONE = 0, CLOSE_LOGGED_OUT = 11 };

struct room {
    char name[NAME_BYTES];
    size_t name_bytes;
    uint32_t number;
    uint64_t offset;
    struct conn **members;
    uint32_t count, capacity;
};

static struct room *rooms[ROOMS_MAX];
static uint32_t room_count;
static struct buffer out; /* a frame that is made */
static struct buf names;  /* of all connections, one behind the other */
static uint8_t *name_bytes;

static void say(struct conn *c)
{
    buf_add(&c->out, out.data, (uint32_t)out.size);
    out.size = 0;
    mark(c);
}

static struct room *room_of(struct bytes name)
{
    for (uint32_t i = room_count; i > 0; i--)
        if (rooms[i - 1]->name_bytes == name.size &&
            memcmp(rooms[i - 1]->name, name.data, name.size) == 0)
            return rooms[i - 1];
    if (room_count == ROOMS_MAX || name.size > NAME_BYTES)
        return NULL;
    struct room *room = calloc(1, sizeof(*room));
    memcpy(room->name, name.data, name.size);
    room->name_bytes = name.size;
    room->number = room_count + 1;
    rooms[room_count++] = room;
    return room;
}

static void on_drop(struct conn *c)
{
    struct room *room = c->room;
    if (!room)
        return;
    room->members[c->place] = room->members[--room->count];
    room->members[c->place]->place = c->place;
}

static void join(struct conn *c, const struct client_frame *frame)
{
    struct room *room = room_of(frame->join.room);
    if (!room || c->room)
        die("join");
    if (room->count == room->capacity) {
        room->capacity = room->capacity ? room->capacity * 2 : 16;
        room->members = realloc(room->members, room->capacity * sizeof(*room->members));
    }
    c->room = room;
    c->place = room->count;
    room->members[room->count++] = c;
    const struct room_state_fields state = {
        .name = frame->join.room,
        .room = room->number,
        .incarnation = 1,
        .offset = room->offset,
        .replay = REPLAY_NONE,
    };
    broker_frame_room_state(&out, frame->id, &state);
    say(c);
}

/* The name of a connection, as its Login said it: a byte that says how long, and the bytes. */
static void keep_name(struct conn *c, struct bytes name)
{
    uint8_t size = (uint8_t)name.size;
    c->id = names.len;
    buf_add(&names, &size, 1);
    buf_add(&names, name.data, size);
    name_bytes = names.p;
}

static void publish(struct conn *c, const struct client_frame *frame)
{
    static struct buffer messages;
    struct room *room = c->room;
    struct timespec now;
    if (!room)
        die("publish");
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    messages.size = 0;
    broker_frame_room_message(&messages, (struct bytes){name_bytes + c->id + 1, name_bytes[c->id]},
                              (struct bytes){NULL, 0}, frame->publish.payload,
                              (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
    room->offset++;
    if (frame->id) {
        broker_frame_published(&out, frame->id, room->offset);
        say(c);
    }
    broker_frame_room_messages(&out, room->number, room->offset,
                               (struct bytes){messages.data, messages.size});
    for (uint32_t i = 0; i < room->count; i++) {
        buf_add(&room->members[i]->out, out.data, (uint32_t)out.size);
        mark(room->members[i]);
    }
    out.size = 0;
}

static void welcome(struct conn *c, const struct client_frame *frame)
{
    const struct welcome_fields fields = {.epoch = 1, .next_seq = 1};
    keep_name(c, frame->login.username);
    broker_frame_welcome(&out, frame->id, &fields);
    say(c);
}

static void on_frame(struct conn *c, const struct client_frame *frame)
{
    switch (frame->body) {
    case CLIENT_PUBLISH:
        publish(c, frame);
        break;
    case CLIENT_JOIN:
        join(c, frame);
        break;
    case CLIENT_LOGIN:
        welcome(c, frame);
        break;
    case CLIENT_LOGOUT:
        broker_frame_close(&out, CLOSE_LOGGED_OUT, NULL, 0, false);
        say(c);
        break;
    default:
        die("a frame that this program does not know");
    }
}

static uint32_t consume(struct conn *c, uint8_t *p, uint32_t n)
{
    struct bytes input = {p, n}, bytes;
    size_t used;
    int found;
    while ((found = frame_next(input, LIMIT_READ_BYTES / 2, &bytes, &used)) > 0) {
        struct client_frame frame;
        input.data += used;
        input.size -= used;
        if (client_frame_read(bytes, &frame))
            return UINT32_MAX;
        on_frame(c, &frame);
    }
    return found < 0 ? UINT32_MAX : n - (uint32_t)input.size;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 2;
    }
    limit.consume = consume;
    limit.on_drop = on_drop;
    limit_run(atoi(argv[1]));
}
