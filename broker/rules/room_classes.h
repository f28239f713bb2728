/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_RULES_ROOM_CLASSES_H
#define USHER_RULES_ROOM_CLASSES_H

/* The classes of rooms, as rooms.classes says them: one item each, a pattern and words.
 *
 *     match:* create=service join=service members=128 tick=50ms roster=list owner=maker
 *
 * docs/operations.md has the words. Made by one thread, and not written to afterwards: any thread
 * may read. Nothing here blocks. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"
#include "proto/username.h"

enum {
    ROOM_MEMBERS_MAX = 1000000,
    ROOM_HISTORY_MESSAGES_MAX = 256,
    ROOM_HISTORY_BYTES_MAX = 256 * 1024,
    ROOM_ROSTER_MEMBERS = 256,      /* of roster=list, when members= is not said */
    ROOM_ROSTER_MEMBERS_MAX = 1024, /* and when it is */
    ROOM_CLASS_ERROR_BYTES = 224,
};

/* Who may do something, from the narrowest on. */
enum room_who {
    ROOM_BACKEND, /* only services, which may do all */
    ROOM_SERVICE, /* clients of whom the owner, who is asked, says so */
    ROOM_TOKEN,   /* clients whose token says so */
    ROOM_MEMBER,  /* publish= only */
    ROOM_CLIENT,  /* create=client, join=any, publish=any */
};

enum room_roster { ROOM_ROSTER_NONE, ROOM_ROSTER_COUNT, ROOM_ROSTER_LIST };

struct room_class {
    char pattern[USERNAME_BYTES_MAX + 2]; /* a name, or the beginning of one and a * */
    char owner[USERNAME_BYTES_MAX + 1];   /* a service; "": none */
    uint8_t create, join, publish;        /* enum room_who */
    uint8_t roster;                       /* enum room_roster */
    bool follows_messages;                /* the owner is told of each, and the webhook */
    bool webhook;                         /* news are posted to webhook.url */
    uint32_t members_max;
    uint32_t history_messages;
    uint32_t tick_ms;    /* 0: at once */
    uint64_t history_ms; /* how old a message of the history may grow */
    uint64_t idle_ms;    /* without a member it is closed then; UINT64_MAX: never */
};

struct room_classes {
    struct room_classes *before; /* those that they replaced: somebody may still be reading */
    size_t count;
    struct room_class classes[];
};

/* Reads the items in their order. 0 with *classes (the caller's, to be destroyed); -EINVAL with a
 * sentence in `error` that names the item, or -ENOMEM. */
int room_classes_read(char *const *items, size_t count, struct room_classes **classes,
                      char error[ROOM_CLASS_ERROR_BYTES]);

/* With all that they replaced. NULL is nothing. */
void room_classes_destroy(struct room_classes *classes);

/* The first whose pattern fits; NULL: none does. `classes` may be NULL. */
const struct room_class *room_class_of(const struct room_classes *classes, struct bytes room);

/* The one with that very pattern, if it fits as well. */
const struct room_class *room_class_named(const struct room_classes *classes, struct bytes pattern,
                                          struct bytes room);

/* Whether the news of some class are posted. */
bool room_classes_post(const struct room_classes *classes);

/* Whether a pattern (a name, or the beginning of one and a *) fits. */
bool room_pattern_fits(struct bytes pattern, struct bytes room);

#endif
