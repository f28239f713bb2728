/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_NAMES_H
#define USHER_USER_NAMES_H

/* Names that are kept for a while, all that came together in one allocation, which is freed with
 * the last of them. Of one thread at a time. In the book of memory. */

#include <stddef.h>

#include "proto/bytes.h"

struct names;

/* Room for that many of so many bytes in all. */
struct names *names_create(uint32_t count, size_t bytes);

/* The next one, at most 255 bytes: what the other functions know it by. */
uint8_t *names_add(struct names *names, struct bytes name);

/* No more will be added. */
void names_close(struct names *names);

struct bytes names_get(const uint8_t *name);
void names_release(uint8_t *name);

#endif
