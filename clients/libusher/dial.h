/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_DIAL_H
#define USHER_LIBUSHER_DIAL_H

/* A TCP connection to one of several addresses, the first that stands (RFC 8305). Nothing blocks;
 * one thread at a time. Errors are negative errno. */

#include "common/addresses.h"

enum {
    DIAL_ADDRESSES_MAX = 8, /* of one try; the memory of failures puts the others first next time */
    DIAL_PACE_MS = 250,     /* between the beginnings of two attempts */
    DIAL_DOUBT_MS = 1000,   /* for those that failed before, when the others have failed now */
};

struct dial_attempt {
    struct address address;
    int fd;        /* -1: not under way */
    bool failed;   /* in this try */
    bool doubtful; /* it has failed before */
};

/* dial_init makes it usable. */
struct dial {
    struct dial_attempt attempts[DIAL_ADDRESSES_MAX];
    size_t count;
    size_t chosen;                 /* the one that stands; `count`: none */
    struct address_memory *memory; /* borrowed */
    int epoll;                     /* becomes readable when there is something to do; or -1 */
    uint64_t pace_ms;
    uint64_t next_ms;  /* the next attempt begins */
    uint64_t begun_ms; /* the last one has begun */
    uint64_t end_ms;
    int error; /* the last attempt's */
};

void dial_init(struct dial *dial);

/* Takes the addresses in the order in which they are worth trying; the first attempt begins with
 * the next dial_step. Each of them will have begun well before end_ms. `memory` is borrowed until
 * dial_close, and learns which of them failed. */
void dial_begin(struct dial *dial, const struct addresses *found, struct address_memory *memory,
                uint64_t now_ms, uint64_t end_ms);

/* 1: *fd is connected, and the caller's to close; 0: under way; -ETIMEDOUT (end_ms has come), or
 * what the last attempt that ended said. */
int dial_step(struct dial *dial, uint64_t now_ms, int *fd);

/* When to call dial_step even if `epoll` is quiet. */
uint64_t dial_due_ms(const struct dial *dial);

/* What stands is no good: the rest of the addresses is tried, until end_ms. False: there is none.
 */
bool dial_again(struct dial *dial, uint64_t now_ms, uint64_t end_ms);

/* What stands is good. */
void dial_good(struct dial *dial);

void dial_close(struct dial *dial);

#endif
