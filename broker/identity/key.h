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
    EVP_MAC_CTX *mac;  /* HS256: initialised with the key; copied for each use */
    EVP_PKEY *public;  /* the others */
    EVP_MD *digest;    /* fetched once; NULL for EdDSA, which brings its own */
};

/* 0, -EINVAL with the fault in `error` (KEYRING_ERROR_BYTES), or -ENOMEM. A failure leaves nothing
 * to finish. */
int key_init(struct key *key, const json_t *jwk, char *error);

/* Harmless on zeroed memory. */
void key_fini(struct key *key);

#endif
