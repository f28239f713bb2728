/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_DIRECTORY_SERVICES_H
#define USHER_DIRECTORY_SERVICES_H

/* The directory of services: which instances each has, and who follows the presence stream. */

#include "actors/messages.h"
#include "base/env.h"
#include "base/log.h"
#include "base/metrics.h"
#include "handover.pb-c.h"
#include "proto/bytes.h"
#include "runtime/scheduler.h"

struct services;

/* All that it points to outlives the directory. */
struct services_options {
    struct registry *registry;
    struct scheduler *scheduler;
    const struct env *env;
    struct metrics *metrics;
    struct log *log;
    uint32_t services_max;
    uint32_t users_max;
};

int services_create(struct services **services, const struct services_options *options);
void services_destroy(struct services *services);

/* 0, or -ENOSPC when there are too many services or instances; then nothing was done. Joining
 * again ends a drain. */
int services_join(struct services *services, const char *service, actor_handle instance,
                  bool presence);
void services_drain(struct services *services, actor_handle instance, bool drain);

/* Routes a call to the instance of its service that its user is pinned to, otherwise by
 * rendezvous hashing, which pins him. Takes the message when it returns the instance; 0 with
 * *code set: why not, and the message is still the caller's. */
actor_handle services_route(struct services *services, struct runner *runner,
                            struct user_call_message *call, uint16_t *code);

/* How an instance goes, called in its own turns: it begins, hands its unprocessed mail on in as
 * many pieces as it likes, and leaves. New users are sent elsewhere from the beginning on; those
 * that it has go on coming to it until it has left, and then where their mail went, so no newer
 * call overtakes what it hands on.
 *
 * False: another one of its service is at that; new users are sent elsewhere all the same. */
bool services_begin_leave(struct services *services, actor_handle instance);

/* Some of its mail (a list, oldest first; taken) goes to other instances. Calls that find nobody
 * are answered SERVICE_LOST. */
void services_hand_on(struct services *services, struct runner *runner, actor_handle instance,
                      struct message *mail);

/* Takes it out. False: calls are still in its mailbox; nothing was done. */
bool services_leave(struct services *services, actor_handle instance);

/* Everybody in the directory, instances of one service in a row; a service without any has one row
 * with an empty instance. Gives how many; the lock is held while they are copied. */
struct service_look {
    char service[USERNAME_BYTES_MAX + 1];
    char instance[USERNAME_BYTES_MAX + 1];
    bool draining, leaving, lost, presence;
    uint32_t mail_waiting, calls_open;
    uint64_t last_fetch_ms; /* wall; 0: never */
};
size_t services_look(struct services *services, struct service_look *rows, size_t max);

/* --- services_moved.c: they go over to another process; one thread ---------------------------- */

/* The key by which all is chosen, copied; it never changes. */
enum { SERVICES_KEY_BYTES = 16 };
void services_key(const struct services *services, uint8_t key[SERVICES_KEY_BYTES]);

/* Appends what is there as HandoverRecords with their lengths. False: one is about to leave, or
 * there is no memory. */
bool services_move_out(struct services *services, struct buffer *out);

/* Over there, of an empty directory; the instances are made. The key first. 0, -EINVAL or -ENOMEM.
 */
void services_move_key(struct services *services, const uint8_t key[SERVICES_KEY_BYTES]);
int services_move_in(struct services *services, const Usher__V1__HandoverService *service);
int services_move_followers(struct services *services,
                            const Usher__V1__HandoverFollowers *followers);

/* Posts the stream's new end to all who follow it. */
void services_tell_presence(struct services *services, struct runner *runner, uint64_t last);

#endif
