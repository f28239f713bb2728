/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_TOLD_H
#define USHER_TESTS_TOLD_H

/* In place of net/: a front end without sockets, which writes down what it is told. Its functions
 * have the names of net/net.h, so a test that links that layer gets these. */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client.pb-c.h"
#include "net/net.h"
#include "proto/frame.h"

enum { TOLD_MAX = 8192, TOLD_CONNS = 64 };

/* One call of the front end. */
enum told_kind { TOLD_WRITE, TOLD_RELEASE, TOLD_UNBIND, TOLD_RETURN, TOLD_CONSUMED, TOLD_WAKE };

struct told {
    enum told_kind kind;
    conn_handle conn;
    int body;               /* of the last frame: a USHER__V1__BROKER_FRAME__BODY */
    uint32_t code;          /* of an Error, reason of a Close */
    uint64_t epoch;         /* of a Welcome */
    uint64_t presence_last; /* at that time */
};

struct net {
    pthread_mutex_t lock;
    const _Atomic uint64_t *presence_last; /* NULL: nobody asks */
    struct net_events *events;             /* for net_return, with the thread */
    void *thread;
    const char *address;         /* of every connection; NULL: none */
    enum listener_kind listener; /* that they all came by */
    bool reset;                  /* all of them are */
    /* under lock */
    struct told told[TOLD_MAX];
    unsigned told_count;
    void *kept[TOLD_CONNS];     /* by connection */
    uint64_t owner[TOLD_CONNS]; /* the same */
};

static inline void told_init(struct net *net)
{
    memset(net, 0, sizeof(*net));
    pthread_mutex_init(&net->lock, NULL);
}

static inline void told_fini(struct net *net)
{
    pthread_mutex_destroy(&net->lock);
}

static inline void describe_frame(struct told *told, const void *data, size_t size)
{
    struct bytes left = {data, size};
    struct bytes frame;
    size_t used;
    while (frame_next(left, UINT32_MAX, &frame, &used) == 1) {
        Usher__V1__BrokerFrame *said =
            usher__v1__broker_frame__unpack(NULL, frame.size, frame.data);
        if (said == NULL)
            abort();
        told->body = (int)said->body_case;
        if (said->body_case == USHER__V1__BROKER_FRAME__BODY_ERROR)
            told->code = said->error->code;
        if (said->body_case == USHER__V1__BROKER_FRAME__BODY_CLOSE)
            told->code = said->close->reason;
        if (said->body_case == USHER__V1__BROKER_FRAME__BODY_WELCOME)
            told->epoch = said->welcome->epoch;
        usher__v1__broker_frame__free_unpacked(said, NULL);
        left = (struct bytes){left.data + used, left.size - used};
    }
}

static inline void tell(struct net *net, enum told_kind kind, conn_handle conn, const void *data,
                        size_t size)
{
    struct told told = {.kind = kind, .conn = conn};
    describe_frame(&told, data, size);
    told.presence_last = net->presence_last != NULL ? atomic_load(net->presence_last) : 0;
    pthread_mutex_lock(&net->lock);
    if (net->told_count == TOLD_MAX)
        abort();
    net->told[net->told_count++] = told;
    pthread_mutex_unlock(&net->lock);
}

int net_write(struct net *net, unsigned block, conn_handle conn, const void *data, size_t size)
{
    tell(net, TOLD_WRITE, conn, data, size);
    return 0;
}

struct net_loss net_loss(struct net *net, conn_handle conn)
{
    return (struct net_loss){.silent_ms = 1};
}

uint32_t net_waiting(struct net *net, conn_handle conn)
{
    return 0;
}

uint32_t net_unsent(struct net *net, conn_handle conn)
{
    return 0;
}

int net_flush(struct net *net, unsigned block, conn_handle conn)
{
    return 0;
}

void net_welcome(struct net *net, conn_handle conn)
{
}

/* Its words stand in the Close before it. */
void net_farewell(struct net *net, conn_handle conn, uint32_t reason, const char *detail)
{
}

void net_release(struct net *net, conn_handle conn)
{
    tell(net, TOLD_RELEASE, conn, NULL, 0);
}

void net_unbind(struct net *net, conn_handle conn, const void *last_words, size_t size)
{
    tell(net, TOLD_UNBIND, conn, last_words, size);
}

void net_return(struct net *net, conn_handle conn, void *item)
{
    tell(net, TOLD_RETURN, conn, NULL, 0);
    net->events->on_returned(net->events->context, net->thread, conn, item);
}

void net_consumed(struct net *net, conn_handle conn)
{
    tell(net, TOLD_CONSUMED, conn, NULL, 0);
}

void net_bind(struct net *net, conn_handle conn, uint64_t owner)
{
    net->owner[conn % TOLD_CONNS] = owner;
}

uint64_t net_owner(struct net *net, conn_handle conn)
{
    return net->owner[conn % TOLD_CONNS];
}

bool net_address(struct net *net, conn_handle conn, char text[NET_ADDRESS_BYTES_MAX])
{
    snprintf(text, NET_ADDRESS_BYTES_MAX, "%s", net->address != NULL ? net->address : "");
    return !net->reset;
}

enum listener_kind net_listener(struct net *net, conn_handle conn)
{
    return net->listener;
}

void net_keep(struct net *net, conn_handle conn, void *item)
{
    net->kept[conn % TOLD_CONNS] = item;
}

void *net_kept(struct net *net, conn_handle conn)
{
    return net->kept[conn % TOLD_CONNS];
}

void net_wake(struct net *net, conn_handle conn)
{
    tell(net, TOLD_WAKE, conn, NULL, 0);
}

/* --- what was told ---------------------------------------------------------------------------- */

/* The how-many-th call of that kind about that connection (0: any), from 0; kind -1 without. */
static inline struct told told_find(struct net *net, enum told_kind kind, conn_handle conn,
                                    unsigned number)
{
    struct told found = {.kind = (enum told_kind) - 1};
    pthread_mutex_lock(&net->lock);
    for (unsigned i = 0; i < net->told_count; i++)
        if (net->told[i].kind == kind && (conn == 0 || net->told[i].conn == conn) &&
            number-- == 0) {
            found = net->told[i];
            break;
        }
    pthread_mutex_unlock(&net->lock);
    return found;
}

static inline unsigned told_times(struct net *net, enum told_kind kind, conn_handle conn)
{
    unsigned count = 0;
    pthread_mutex_lock(&net->lock);
    for (unsigned i = 0; i < net->told_count; i++)
        count += net->told[i].kind == kind && (conn == 0 || net->told[i].conn == conn);
    pthread_mutex_unlock(&net->lock);
    return count;
}

#endif
