/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_IDENTITY_KEYRING_H
#define USHER_IDENTITY_KEYRING_H

/* The keys that tokens are verified with, from a JSON Web Key Set (RFC 7517):
 *
 *   {"keys": [{"kid": "login-1", "alg": "EdDSA", "kty": "OKP", "crv": "Ed25519", "x": "..."}]}
 *
 * Each key is used with one algorithm, that of its kind, which its `alg` may say and cannot change;
 * a token that names another one is refused, whoever wrote it. What of a set is not for us, or
 * cannot be used, is passed over and remembered with the reason. A keyring is immutable and
 * counted, so that it can be replaced while others verify with it. */

#include <stdbool.h>

#include "proto/bytes.h"

enum key_algorithm {
    KEY_HS256, /* kty oct: k, 32 to 512 bytes */
    KEY_EDDSA, /* kty OKP, crv Ed25519: x */
    KEY_ES256, /* kty EC, crv P-256: x, y */
    KEY_RS256, /* kty RSA, 2048 to 8192 bits: n, e */
    KEY_ALGORITHMS
};

enum {
    KEYRING_FILE_BYTES_MAX = 256 * 1024,
    KEYRING_KEYS_MAX = 64,      /* that are used */
    KEYRING_SET_KEYS_MAX = 256, /* in the set, with those that are passed over */
    KEY_ID_BYTES_MAX = 128,
    KEY_WHY_BYTES = 128,
    KEYRING_ERROR_BYTES = 256
};

struct keyring;
struct key;

/* A key of the set that is not used. */
struct key_passed {
    uint32_t place;                /* in the set, from 0 */
    bool faulty;                   /* it may have been meant for us: somebody should look */
    char id[KEY_ID_BYTES_MAX + 1]; /* its kid; empty: it has none that could be one */
    char why[KEY_WHY_BYTES];       /* for people; holds nothing of the key */
};

/* Reads a key set. 0, and the caller holds the keyring; -EINVAL or -ENOMEM with a line for people
 * in `error` (KEYRING_ERROR_BYTES), which holds nothing secret. A set without a single key that
 * can be used is refused. Private parts of a key, and members that RFC 7517 leaves to others, are
 * passed over. Any thread. */
int keyring_read(struct keyring **keyring, struct bytes json, char *error);

/* The same from a file; blocks on the disk. Also -ENOENT, -EACCES and what reading gives. */
int keyring_load(struct keyring **keyring, const char *path, char *error);

/* One more holder; gives the keyring. Any thread that holds it. */
struct keyring *keyring_acquire(struct keyring *keyring);

/* The last holder's release frees it. NULL is fine. Any thread. */
void keyring_release(struct keyring *keyring);

uint32_t keyring_count(const struct keyring *keyring);

/* Those of the set that are not used, in its order. The rows live as long as the keyring. */
uint32_t keyring_passed_count(const struct keyring *keyring);
const struct key_passed *keyring_passed(const struct keyring *keyring, uint32_t i);

/* The key of that name for that algorithm (what key_algorithm_find gives, errors too). An empty
 * name finds the only key there is, or a key that has none. 0 with *key set, which lives as long as
 * the keyring; -ENOTSUP: that name has keys for other algorithms; -ENOENT: no such name. */
int keyring_find(const struct keyring *keyring, struct bytes id, int algorithm,
                 const struct key **key);

enum key_algorithm key_algorithm(const struct key *key);

/* "HS256"; and the other way round, -ENOENT for any other text, case included. */
const char *key_algorithm_name(enum key_algorithm algorithm);
int key_algorithm_find(struct bytes name);

/* Whether the signature, as a token holds it, is the key's over `text`. Any thread. Allocates;
 * without memory no signature holds. */
bool key_verify(const struct key *key, struct bytes text, struct bytes signature);

#endif
