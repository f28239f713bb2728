/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_INCOMING_H
#define USHER_LIBUSHER_INCOMING_H

/* What the broker says, as events. Pure; any thread. */

#include "libusher/events.h"
#include "libusher/frame.h"

/* Gives the event that a frame holds that was read; borrows the frame. A Welcome's secret is its
 * payload. -ENOMSG (nothing that this version knows; also what is of rooms and friends), -ENOMEM.
 */
int incoming_decode(const struct broker_frame *frame, struct event_node **node);

/* The most that a frame of rooms or friends may list; each costs more here than in the frame. */
enum { INCOMING_MESSAGES_MAX = 256, INCOMING_ITEMS_MAX = 4096 };

/* The same of rooms and friends: appends one event, or of RoomMessages one for each message, to the
 * queue. `room` is the name that the events bear, but for a RoomState, which has it itself; that
 * one's number is in `code`. -EPROTO (not well-formed, or it lists too much), -ENOMEM; what is in
 * the queue then means nothing. */
int incoming_company(const struct broker_frame *frame, const char *room, struct event_queue *queue);

#endif
