/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_IDENTITY_TOKEN_H
#define USHER_IDENTITY_TOKEN_H

/* JSON Web Tokens (RFC 7519) in the compact form of a signed one (RFC 7515), as login services
 * issue them: who the bearer is, and until when that is true. */

#include <stdint.h>

#include "identity/keyring.h"
#include "proto/username.h"

enum {
    TOKEN_BYTES_MAX = 4096,
    TOKEN_ROOMS_MAX = 16,
    TOKEN_ROOMS_BYTES_MAX = TOKEN_ROOMS_MAX * (USERNAME_BYTES_MAX + 2) - 1,
};

enum token_refusal {
    TOKEN_GOOD = 0,
#define REFUSAL(id, name, text) TOKEN_##id,
#include "identity/refusal.def"
#undef REFUSAL
    TOKEN_REFUSALS
};

struct token_rules {
    const char *issuer;   /* what iss must be; "": anything */
    const char *audience; /* what aud must be or hold; "": no token that has one is accepted */
    uint32_t skew_ms;     /* how far the issuer's clock may be off */
};

struct token_claims {
    char user[USERNAME_BYTES_MAX + 1];     /* sub */
    uint64_t expires_ms;                   /* exp, Unix ms */
    char rooms[TOKEN_ROOMS_BYTES_MAX + 1]; /* names, or beginnings of names with a *, and a blank
                                            * between each two; "": none */
};

/* Verifies: the signature by the keyring's key, then exp (required), nbf, iss, aud, sub and rooms
 * at the time now_ms (Unix). TOKEN_GOOD with *claims set, or the first reason against it. Nothing
 * of the token but its header is looked at before the signature holds. Any thread; never blocks;
 * allocates, and without memory the token is MALFORMED or its SIGNATURE does not hold. */
enum token_refusal token_verify(const struct keyring *keyring, const struct token_rules *rules,
                                struct bytes token, uint64_t now_ms, struct token_claims *claims);

/* Adds one to the claim `rooms`, which has `count`: false when that is too many, or it is neither
 * the name of a room nor the beginning of one and a *. Any thread. */
bool token_add_room(char rooms[TOKEN_ROOMS_BYTES_MAX + 1], size_t count, struct bytes room);

/* "expired", and a sentence for people. */
const char *token_refusal_name(enum token_refusal refusal);
const char *token_refusal_text(enum token_refusal refusal);

#endif
