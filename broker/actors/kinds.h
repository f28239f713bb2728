/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_KINDS_H
#define USHER_ACTORS_KINDS_H

/* The kinds of actors. What one is stands in a row of its own: struct behaviour (runtime/actor.h),
 * in broker/kinds.c for those that run turns. Only users take places of limits.users, only
 * instances those of limits.services, only rooms those of rooms.count; there are WATCH_SHARDS of
 * who watches whom, and of the others one each at most. */

enum { WATCH_SHARDS = 16 };

enum actor_kind {
    KIND_USER,
    KIND_INSTANCE,
    KIND_ROOM,
    KIND_WATCH,     /* who watches some of the users */
    KIND_VISITORS,  /* who asks by the link without having said hello */
    KIND_ADMISSION, /* gets the answers of the service that judges logins */
    KIND_ADMIN,     /* gets the results of what the admin endpoint asks for */
    KIND_HTTP,      /* asks for backends that come by HTTP */
    KIND_COUNT,
    KIND_SINGLES = KIND_COUNT - KIND_VISITORS
};

#endif
