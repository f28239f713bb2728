/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_ROOMS_H
#define USHER_LIBUSHER_ROOMS_H

/* Which rooms a client is in, and how far their messages have come; over its connections and
 * sessions. Nothing blocks; the client's thread. */

#include "libusher/frame.h"
#include "libusher/requests.h"
#include "proto/client_frame.h"

struct usher_client;

enum {
    ROOM_NAME_BYTES_MAX = 255, /* as of others that are given; the broker takes less */
    ROOMS_MAX = 1024,          /* of one client: as many as a broker lets anybody be in */
};

/* One is there while it is joined, or while its Join has no answer. */
struct room {
    bool joined;          /* in this session */
    bool told;            /* over this connection, so that its messages may come */
    bool wanted;          /* the program has joined it, so a new session does too */
    uint64_t again_at_ms; /* its Join was refused for the moment; 0: it was not */
    bool open;            /* something is missing: the next message may have any greater offset */
    uint32_t number;
    uint64_t incarnation, offset; /* of the last message that came */
    char name[ROOM_NAME_BYTES_MAX + 1];
};

struct rooms {
    struct room **list; /* each by itself: requests point to them */
    size_t count;
};

/* NULL: there is none. */
struct room *rooms_find(const struct rooms *rooms, struct bytes name);

/* Gives it, made if it was not there: 0, -ENOMEM, or -ENOBUFS. */
int rooms_make(struct rooms *rooms, struct bytes name, struct room **room);

/* What a Resume says of them: 0 or -ENOMEM. `run` is what the list borrows. */
int rooms_positions(const struct rooms *rooms, struct buffer *run, struct client_list *list);

/* The connection is lost: what the broker said of them counts no more. */
void rooms_lost(struct usher_client *client);

/* The session is another one: those that the program wants are joined again, and it is told of the
 * others. */
void rooms_begin_epoch(struct usher_client *client);

/* Frames of rooms and friends. May lose the connection. */
void rooms_receive(struct usher_client *client, const struct broker_frame *frame);

/* So many bytes of the messages of a room were passed over; `node` becomes an event about it. */
void rooms_passed_over(struct usher_client *client, uint64_t number, struct event_node *node);

/* The Join of the room was refused, by that node. It becomes the event, or is freed. */
void rooms_refused(struct usher_client *client, struct request *request, struct event_node *node);

/* What is due by the clock, while online; and when the next is, or UINT64_MAX. */
void rooms_check(struct usher_client *client, uint64_t now_ms);
uint64_t rooms_due_ms(const struct rooms *rooms);

/* Forgets those that are not joined and not asked for any more. */
void rooms_settle(struct usher_client *client);

/* Forgets all. */
void rooms_forget(struct usher_client *client);
void rooms_fini(struct rooms *rooms);

#endif
