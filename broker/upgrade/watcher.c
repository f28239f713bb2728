/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/watcher.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* A connection costs its socket's way into an epoll more than all the rest of it, and nobody else
 * waits for that until the last word. So there are two lists: one that is filled, and one that the
 * thread goes through; they change places when it has ended. The thread lives for one list, which
 * is what makes the connections in it its own: they were made before it began, and what it does is
 * seen by whoever has waited for its end. */

struct list {
    conn_handle *items;
    size_t count, capacity;
};

struct watcher {
    struct net *net;
    struct list filled;
    struct list watched; /* the thread's, while it runs */
    pthread_t thread;
    bool runs;
    int error; /* the thread's, while it runs */
};

struct watcher *watcher_create(struct net *net)
{
    struct watcher *watcher = calloc(1, sizeof(*watcher));
    if (watcher != NULL)
        watcher->net = net;
    return watcher;
}

int watcher_add(struct watcher *watcher, conn_handle handle)
{
    struct list *list = &watcher->filled;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity != 0 ? list->capacity * 2 : 1024;
        conn_handle *bigger = realloc(list->items, capacity * sizeof(*bigger));
        if (bigger == NULL)
            return -ENOMEM;
        list->items = bigger;
        list->capacity = capacity;
    }
    list->items[list->count++] = handle;
    return 0;
}

static void *run(void *context)
{
    struct watcher *watcher = context;
    for (size_t i = 0; i < watcher->watched.count && watcher->error == 0; i++)
        watcher->error = net_move_watch(watcher->net, watcher->watched.items[i]);
    return NULL;
}

int watcher_finish(struct watcher *watcher)
{
    if (watcher->runs)
        pthread_join(watcher->thread, NULL);
    watcher->runs = false;
    return watcher->error;
}

int watcher_begin(struct watcher *watcher)
{
    if (watcher->filled.count == 0)
        return 0;
    int error = watcher_finish(watcher);
    if (error != 0)
        return error;
    struct list done = watcher->watched;
    watcher->watched = watcher->filled;
    watcher->filled = (struct list){done.items, 0, done.capacity};
    watcher->runs = pthread_create(&watcher->thread, NULL, run, watcher) == 0;
    if (!watcher->runs)
        run(watcher);
    return 0;
}

void watcher_destroy(struct watcher *watcher)
{
    if (watcher == NULL)
        return;
    (void)watcher_finish(watcher);
    free(watcher->filled.items);
    free(watcher->watched.items);
    free(watcher);
}
