/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_BENCH_CHECK_H
#define USHER_USHER_BENCH_CHECK_H

/* Whether everything that was sent has come, once, in order and unharmed.
 *
 * Each payload begins with a stamp and goes on with a fixed pattern. A lane is what one receiver
 * expects of its one sender; the sums are kept in struct check. One thread at a time for both;
 * nothing blocks or fails. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"

enum {
    STAMP_BYTES = 16,
    STAMPED_BYTES_MAX = 60000,
};

struct stamp {
    uint64_t due_ns; /* when it was, or ought to have been, sent */
    uint32_t sender;
    uint32_t seq; /* of the sender, from 0 */
};

/* Fills a payload with the pattern; stamp_write then replaces the first STAMP_BYTES of it. */
void stamp_pattern(uint8_t *payload, size_t size);
void stamp_write(uint8_t *payload, const struct stamp *stamp);

/* False: the payload is not as long as `pattern`, or differs from it behind the stamp. */
bool stamp_read(struct bytes payload, struct bytes pattern, struct stamp *stamp);

struct check {
    uint64_t sent;
    uint64_t received;   /* of what was sent, everything once */
    uint64_t refused;    /* sent, and answered with an error */
    uint64_t missed;     /* left out, and told so */
    uint64_t repeated;   /* came again, and said so */
    uint64_t disordered; /* came after a later one */
    uint64_t doubled;    /* came twice without saying so, or too late to tell */
    uint64_t strange;    /* not what was sent, or not from whom it should be */
};

struct lane {
    uint64_t seen; /* bit i: seq next - 1 - i has come */
    uint32_t next; /* the seq to come; those before it that are missing may have been refused */
};

/* A message of the lane has come; `again`: the broker says that it may have come before. */
void check_receive(struct check *check, struct lane *lane, uint32_t seq, bool again);

void check_merge(struct check *to, const struct check *from);

/* Neither come nor refused nor told to be missing. */
uint64_t check_lost(const struct check *check);

/* Nothing is lost, disordered, doubled or strange. */
bool check_clean(const struct check *check);

#endif
