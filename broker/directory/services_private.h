/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_DIRECTORY_SERVICES_PRIVATE_H
#define USHER_DIRECTORY_SERVICES_PRIVATE_H

/* Private to directory/services*.c. */

#include "base/lock.h"
#include "directory/pins.h"
#include "directory/services.h"

enum { INSTANCES_MAX = 256 };

struct member {
    actor_handle instance;
    bool draining;
    bool leaving;
};

struct service {
    char name[USERNAME_BYTES_MAX + 1];
    uint8_t name_size;
    actor_handle mover; /* the one that hands its mail on; 0: none does */
    uint32_t count;
    struct member members[INSTANCES_MAX];
    struct pins pins;
};

struct services {
    struct services_options options;
    uint64_t key[2];
    struct lock lock;
    /* under lock */
    struct service **list;
    uint32_t count, limit;
    struct service **table; /* by name; open addressing */
    uint32_t table_size;    /* power of two, at least twice the limit */
    actor_handle *followers;
    uint32_t follower_count, follower_limit;
};

/* Under the lock. NULL: there are as many as may be, or no memory. */
struct service *services_find_or_add(struct services *services, const char *name);

#endif
