/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_FRIENDS_H
#define USHER_LIBUSHER_FRIENDS_H

/* Whom a client watches and what it says of itself, over its sessions: a new one knows nothing of
 * it, so it is asked again. Nothing blocks; the client's thread. */

#include "libusher/requests.h"

struct usher_client;

enum { WATCHED_MAX = 4096 }; /* more than any broker lets anybody watch */

/* `asked`: the request on whose answer it depends; 0: the broker has taken it. */
struct watched {
    char *name;
    uint64_t asked;
};

struct friends {
    struct watched *list;
    size_t count, staged; /* the last `staged` are of a request that is not taken yet */
    struct buffer status;
    bool has_status, invisible;
    uint64_t status_asked;
    uint64_t again_at_ms;  /* what was asked again was refused for the moment; 0: it was not */
    uint64_t silent_at_ms; /* no picture has come after a resume; 0: it has, or none is due */
};

/* Before a Watch is asked for: room for those who are added. 0, -ENOMEM, -ENOBUFS. */
int friends_stage(struct friends *friends, const char *const *add, size_t count);

/* The Watch has become that request, or none (`result` is negative). */
void friends_staged(struct usher_client *client, int result, uint64_t wire_id,
                    const char *const *add, size_t add_count, const char *const *remove,
                    size_t remove_count);

/* A SetStatus has become that request; without memory for it, it is not asked again. */
void friends_status(struct friends *friends, struct bytes status, bool invisible, uint64_t wire_id);

/* The broker has done what that request asked for. */
void friends_taken(struct friends *friends, uint64_t wire_id);

/* A session is online: a new one, or the old one `resumed`. */
void friends_welcomed(struct usher_client *client, bool resumed);

/* What was asked again has that answer, whose node it takes. */
void friends_reminded(struct usher_client *client, struct event_node *node);

/* A picture has come. */
void friends_pictured(struct friends *friends);

/* What is due by the clock, while online; and when the next is, or UINT64_MAX. */
void friends_check(struct usher_client *client, uint64_t now_ms);
uint64_t friends_due_ms(const struct friends *friends);

void friends_fini(struct friends *friends);

#endif
