/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_HASH_H
#define USHER_BASE_HASH_H

/* SipHash-1-3: a keyed hash for tables whose keys strangers choose. With a random key per start
 * nobody outside can aim at one bucket. Pure; any thread; data may be NULL when size is 0. */

#include <stddef.h>
#include <stdint.h>

uint64_t hash_keyed(const uint64_t key[2], const void *data, size_t size);

#endif
