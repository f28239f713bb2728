/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_TOKEN_KEYS_H
#define USHER_USHER_TOKEN_KEYS_H

/* Private to the program usher-token: keys with their private parts, as JSON Web Keys, and tokens
 * signed with them. Nothing is kept between calls; every function may allocate. */

#include <jansson.h>
#include <stdbool.h>

/* A new key; the caller's reference. NULL: there is no such algorithm, or no memory. */
json_t *token_key_generate(const char *algorithm, const char *kid);

/* What the key is used with: its alg, or without one what its kind says; enum key_algorithm, or -1
 * for a key of others. */
int token_key_algorithm(const json_t *key);

/* The key without its private parts; the caller's reference. NULL: it has no public ones. */
json_t *token_key_public(const json_t *key);

/* A compact token with these claims, the caller's to free. NULL: the key cannot sign. */
char *token_sign(const json_t *key, const json_t *claims);

#endif
