/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_UPGRADE_WATCHER_H
#define USHER_UPGRADE_WATCHER_H

/* Has connections that have come watched by a thread of its own, while others come. For the thread
 * that takes what another process hands over. */

#include "net/net.h"

struct watcher;

struct watcher *watcher_create(struct net *net); /* or NULL */

/* One that is to be watched. 0 or -ENOMEM. */
int watcher_add(struct watcher *watcher, conn_handle handle);

/* Begins with those that were added; waits for those before. 0 or -errno: one cannot be watched. */
int watcher_begin(struct watcher *watcher);

/* Waits for the last ones. 0 or -errno, as above. */
int watcher_finish(struct watcher *watcher);

void watcher_destroy(struct watcher *watcher); /* or NULL */

#endif
