/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_IDENTITY_KEYRING_H
#define USHER_IDENTITY_KEYRING_H

/* The keys that tokens are verified with, from a JSON Web Key Set (RFC 7517):
 *
 *   {"keys": [{"kid": "login-1", "alg": "EdDSA", "kty": "OKP", "crv": "Ed25519", "x": "..."}]}
 *
 * Each key names the one algorithm that it is used with; a token that names another one is
 * refused, whoever wrote it. A keyring is immutable and counted, so that it can be replaced while
 * others verify with it. */

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
    KEYRING_KEYS_MAX = 64,
    KEY_ID_BYTES_MAX = 128,
    KEYRING_ERROR_BYTES = 256
};

struct keyring;
struct key;

/* Reads a key set. 0, and the caller holds the keyring; -EINVAL or -ENOMEM with a line for people
 * in `error` (KEYRING_ERROR_BYTES), which holds nothing secret. Private parts of a key, and
 * members that RFC 7517 leaves to others, are passed over. Any thread. */
int keyring_read(struct keyring **keyring, struct bytes json, char *error);

/* The same from a file; blocks on the disk. Also -ENOENT, -EACCES and what reading gives. */
int keyring_load(struct keyring **keyring, const char *path, char *error);

/* One more holder; gives the keyring. Any thread that holds it. */
struct keyring *keyring_acquire(struct keyring *keyring);

/* The last holder's release frees it. NULL is fine. Any thread. */
void keyring_release(struct keyring *keyring);

uint32_t keyring_count(const struct keyring *keyring);

/* The key of that name. An empty name finds the only key there is. NULL: none. Lives as long as
 * the keyring. */
const struct key *keyring_find(const struct keyring *keyring, struct bytes id);

enum key_algorithm key_algorithm(const struct key *key);

/* "HS256"; and the other way round, -ENOENT for any other text, case included. */
const char *key_algorithm_name(enum key_algorithm algorithm);
int key_algorithm_find(struct bytes name);

/* Whether the signature, as a token holds it, is the key's over `text`. Any thread. Allocates;
 * without memory no signature holds. */
bool key_verify(const struct key *key, struct bytes text, struct bytes signature);

#endif
