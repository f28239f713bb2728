/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <endian.h>
#include <string.h>

/* SipHash-1-3 as published by Aumasson and Bernstein: one round per 8 bytes, three at the end.
 * The names that are hashed come from strangers, so an unkeyed hash would let them fill one
 * bucket. Pure functions. */

struct sip {
    uint64_t a;
    uint64_t b;
    uint64_t c;
    uint64_t d;
};

static inline uint64_t rotate_left(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

static inline void sip_round(struct sip *sip)
{
    sip->a += sip->b;
    sip->b = rotate_left(sip->b, 13) ^ sip->a;
    sip->a = rotate_left(sip->a, 32);
    sip->c += sip->d;
    sip->d = rotate_left(sip->d, 16) ^ sip->c;
    sip->a += sip->d;
    sip->d = rotate_left(sip->d, 21) ^ sip->a;
    sip->c += sip->b;
    sip->b = rotate_left(sip->b, 17) ^ sip->c;
    sip->c = rotate_left(sip->c, 32);
}

static inline void sip_word(struct sip *sip, uint64_t word)
{
    sip->d ^= word;
    sip_round(sip);
    sip->a ^= word;
}

uint64_t hash_keyed(const uint64_t key[2], const void *data, size_t size)
{
    struct sip sip = {
        .a = key[0] ^ UINT64_C(0x736f6d6570736575),
        .b = key[1] ^ UINT64_C(0x646f72616e646f6d),
        .c = key[0] ^ UINT64_C(0x6c7967656e657261),
        .d = key[1] ^ UINT64_C(0x7465646279746573),
    };
    const unsigned char *next = data;
    size_t left = size;
    for (; left >= 8; left -= 8, next += 8) {
        uint64_t word;
        memcpy(&word, next, 8);
        sip_word(&sip, le64toh(word));
    }
    uint64_t last = (uint64_t)(size & 0xff) << 56;
    for (size_t i = 0; i < left; i++)
        last |= (uint64_t)next[i] << (8 * i);
    sip_word(&sip, last);
    sip.c ^= 0xff;
    sip_round(&sip);
    sip_round(&sip);
    sip_round(&sip);
    return sip.a ^ sip.b ^ sip.c ^ sip.d;
}
