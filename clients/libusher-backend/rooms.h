/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_BACKEND_ROOMS_H
#define USHER_LIBUSHER_BACKEND_ROOMS_H

/* Rooms: the mail about them, and what is told of one. For the thread that runs, but the last. */

#include "backend.pb-c.h"
#include "usher_backend.h"

void rooms_ask(struct usher_backend *backend, const Usher__V1__RoomAsk *ask);
void rooms_news(struct usher_backend *backend, const Usher__V1__RoomNews *news);

/* Borrowed from `from`. Any thread. */
void room_convert(struct usher_backend_room *room, const Usher__V1__RoomInfo *from);

#endif
