/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_REQUESTS_H
#define USHER_USER_REQUESTS_H

/* The requests of one session that wait for their answer, by the id that the client gave. Owned
 * by the session's turn. A session without any has no table. */

#include <stdbool.h>
#include <stdint.h>

struct request {
    uint64_t id;               /* not 0 */
    uint64_t call;             /* 0: a Send */
    uint64_t deadline_ms : 63; /* of a call */
    uint64_t watch : 1;        /* it asks friends.service, and its answer is not the client's */
};

struct requests;

/* 0; -EEXIST: that id is in flight; -ENOSPC: `max` are; -ENOMEM. *requests may be NULL. `key` is
 * random, the same for the life of a table, and unknown to the client who chooses the ids. */
int requests_add(struct requests **requests, const struct request *request, uint32_t max,
                 const uint64_t key[2]);

/* NULL: not in flight. Valid until the next add or remove. */
const struct request *requests_find(const struct requests *requests, uint64_t id);

/* Frees the table with the last one. */
void requests_remove(struct requests **requests, uint64_t id);

uint32_t requests_count(const struct requests *requests);
uint32_t requests_calls(const struct requests *requests);

/* The earliest deadline of a call, UINT64_MAX without one; may be too early. */
uint64_t requests_due_ms(const struct requests *requests);

/* Takes out one call whose deadline has passed. False: none. */
bool requests_expire(struct requests **requests, uint64_t now_ms, struct request *expired);

/* The next one of a walk that changes nothing; *place is 0 at first. NULL: no more. */
const struct request *requests_next(const struct requests *requests, uint32_t *place);

/* Takes out any one. False: none is left. */
bool requests_take(struct requests **requests, struct request *taken);

void requests_destroy(struct requests *requests);

#endif
