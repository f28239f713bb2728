/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_RUNTIME_SENDERS_H
#define USHER_RUNTIME_SENDERS_H

/* How many messages each sender has under way to each receiver, so that no sender has a mailbox for
 * himself. Any thread; nothing blocks. */

#include <stdint.h>

struct senders;

/* NULL without memory. */
struct senders *senders_create(void);
void senders_destroy(struct senders *senders); /* NULL is fine */

/* What a message has for a share while nobody could have too much: it counts for nobody. */
enum { SENDERS_NOBODY = 1 };

/* The share of a pair, by a hash of both that neither can choose; neither 0 nor SENDERS_NOBODY. Two
 * pairs may have one, rarely: then they are counted as one. */
uint16_t senders_share(uint64_t hash);

uint32_t senders_count(const struct senders *senders, uint16_t share);
void senders_add(struct senders *senders, uint16_t share);
void senders_remove(struct senders *senders, uint16_t share);

#endif
