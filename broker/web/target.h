/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_WEB_TARGET_H
#define USHER_WEB_TARGET_H

/* Where requests go, and by which secrets the one who gets them knows that they are ours. */

#include <stdbool.h>
#include <stdint.h>

#include "proto/bytes.h"

enum {
    WEB_SECRETS_MAX = 2,
    WEB_SIGNATURE_BYTES = 256, /* of its text, with the NUL */
};

struct web_target {
    char *url;
    char *ca_file;                  /* "": those that the system trusts */
    char *secrets[WEB_SECRETS_MAX]; /* NULL: none; two while one takes the other's place */
};

/* A copy of all of it, the caller's; secrets may be NULL or "". NULL without memory. */
struct web_target *web_target_create(const char *url, const char *ca_file, const char *secret,
                                     const char *other_secret);

/* Leaves nothing of the secrets in memory. NULL is fine. */
void web_target_destroy(struct web_target *target);

/* Whether requests can be sent there: http or https, a host, no user and password (which would
 * stand in logs), nothing behind a #, printable ASCII alone. */
bool web_url_valid(const char *url);

/* The URL up to its path, which may be a secret: for logs. Gives `to`. */
char *web_url_origin(const char *url, char *to, unsigned size);

/* Writes "t=SECONDS,v1=HEX" with a v1 for each secret: HMAC-SHA256 of the seconds as text, a dot
 * and the body. False: the target has no secret, and `to` is "". Any thread. */
bool web_sign(const struct web_target *target, uint64_t wall_s, struct bytes body,
              char to[WEB_SIGNATURE_BYTES]);

#endif
