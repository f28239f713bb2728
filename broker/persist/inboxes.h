/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_INBOXES_H
#define USHER_PERSIST_INBOXES_H

/* What is stored for users, as backends and operators see it: answers of the thread that reads the
 * store. */

#include "backend.pb-c.h"
#include "persist/committer.h"
#include "persist/stored.h"
#include "proto/bytes.h"

/* Appends a Result of at most `room` bytes and some. Reads the disk. */
void inboxes_list(struct stored *stored, const Usher__V1__Inbox *inbox, size_t room,
                  struct buffer *out);

/* The same; what is dropped is so at once, and on disk within some seconds. */
void inboxes_drop(struct committer *committer, const Usher__V1__InboxDrop *drop,
                  struct buffer *out);

#endif
