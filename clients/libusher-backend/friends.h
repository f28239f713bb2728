/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_BACKEND_FRIENDS_H
#define USHER_LIBUSHER_BACKEND_FRIENDS_H

/* Friends: the mail about them. For the thread that runs. */

#include "backend.pb-c.h"
#include "usher_backend.h"

void friends_ask(struct usher_backend *backend, const Usher__V1__WatchAsk *ask);

#endif
