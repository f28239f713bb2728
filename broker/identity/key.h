/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_IDENTITY_KEY_H
#define USHER_IDENTITY_KEY_H

/* Private to identity/: one key of a keyring, from one JSON Web Key. */

#include <jansson.h>
#include <openssl/evp.h>

#include "identity/keyring.h"

struct key {
    char id[KEY_ID_BYTES_MAX + 1]; /* empty: the file gives none */
    enum key_algorithm algorithm;
    EVP_MAC_CTX *mac; /* HS256: initialised with the key; copied for each use */
    EVP_PKEY *public; /* the others */
    EVP_MD *digest;   /* fetched once; NULL for EdDSA, which brings its own */
};

/* 0; -ENOTSUP: the key is sound as far as one can see, and not for us; -EINVAL: it is faulty; both
 * with a line in `why` (KEY_WHY_BYTES); or -ENOMEM. A failure leaves nothing to finish. */
int key_init(struct key *key, const json_t *jwk, char *why);

/* The kid of a key into `id` (KEY_ID_BYTES_MAX + 1), empty when there is none. False: it is no text
 * of 1 to 128 bytes. */
bool key_read_id(const json_t *jwk, char *id);

/* Harmless on zeroed memory. */
void key_fini(struct key *key);

#endif
