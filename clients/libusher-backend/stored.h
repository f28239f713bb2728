/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_BACKEND_STORED_H
#define USHER_LIBUSHER_BACKEND_STORED_H

/* Stored messages: the mail about them, and what a push of one has come to. For the thread that
 * runs. */

#include "backend.pb-c.h"
#include "usher_backend.h"

void stored_notice(struct usher_backend *backend, const Usher__V1__StoredNotice *notice);

/* The result of a push that was to be stored. */
void stored_judge(struct usher_backend_result *result);

#endif
