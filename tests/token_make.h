/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_TOKEN_MAKE_H
#define USHER_TESTS_TOKEN_MAKE_H

/* Tokens of any content, signed with HS256, for tests: header and claims are texts that need not
 * be JSON. */

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "identity/base64url.h"

enum { TOKEN_MAKE_BYTES = 16384 };

#define TOKEN_SECRET "0123456789abcdef0123456789abcdef"
/* The same as base64url, and a key set with it alone. */
#define TOKEN_SECRET_TEXT "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
#define TOKEN_KEYS \
    "{\"keys\":[{\"alg\":\"HS256\",\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT "\"}]}"
#define TOKEN_HEADER "{\"alg\":\"HS256\"}"

/* Appends dot (if `dot`) and the encoded text; gives the new end. */
static inline char *token_put(char *to, bool dot, const void *data, size_t size)
{
    if (dot)
        *to++ = '.';
    return to + base64url_encode((struct bytes){data, size}, to);
}

/* Appends the signature to "HEADER.CLAIMS". */
static inline void token_sign_text(char *token)
{
    uint8_t mac[32];
    size_t size = 0;
    if (EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, TOKEN_SECRET, strlen(TOKEN_SECRET),
                  (const uint8_t *)token, strlen(token), mac, sizeof(mac), &size) == NULL)
        abort();
    token_put(token + strlen(token), true, mac, size);
}

/* Into `token` (TOKEN_MAKE_BYTES); gives it. */
static inline char *token_make(char *token, const char *header, const char *claims)
{
    char *end = token_put(token, false, header, strlen(header));
    token_put(end, true, claims, strlen(claims));
    token_sign_text(token);
    return token;
}

#endif
