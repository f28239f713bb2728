/* SPDX-License-Identifier: Apache-2.0 */
#include "web/target.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* The moment is part of what is signed, so that whoever sees a request cannot show it again later
 * than its receiver allows; the text is that of Stripe's header, for which receivers exist. */

static bool copy(char **to, const char *from)
{
    *to = strdup(from != NULL ? from : "");
    return *to != NULL;
}

struct web_target *web_target_create(const char *url, const char *ca_file, const char *secret,
                                     const char *other_secret)
{
    struct web_target *target = calloc(1, sizeof(*target));
    if (target != NULL && copy(&target->url, url) && copy(&target->ca_file, ca_file) &&
        copy(&target->secrets[0], secret) && copy(&target->secrets[1], other_secret))
        return target;
    web_target_destroy(target);
    return NULL;
}

void web_target_destroy(struct web_target *target)
{
    if (target == NULL)
        return;
    for (unsigned i = 0; i < WEB_SECRETS_MAX; i++) {
        if (target->secrets[i] != NULL)
            explicit_bzero(target->secrets[i], strlen(target->secrets[i]));
        free(target->secrets[i]);
    }
    free(target->url);
    free(target->ca_file);
    free(target);
}

/* Behind the scheme; NULL: it has another one. */
static const char *authority_of(const char *url)
{
    if (strncmp(url, "https://", 8) == 0)
        return url + 8;
    return strncmp(url, "http://", 7) == 0 ? url + 7 : NULL;
}

bool web_url_valid(const char *url)
{
    const char *host = authority_of(url);
    if (host == NULL)
        return false;
    for (const char *at = url; *at != '\0'; at++)
        if (*at <= ' ' || *at > '~' || *at == '#' || *at == '\\')
            return false;
    size_t size = strcspn(host, "/?");
    return size > 0 && host[0] != ':' && memchr(host, '@', size) == NULL;
}

char *web_url_origin(const char *url, char *to, unsigned size)
{
    const char *host = authority_of(url);
    size_t length = host != NULL ? (size_t)(host - url) + strcspn(host, "/?") : 0;
    snprintf(to, size, "%.*s", (int)length, url);
    return to;
}

/* --- the signature ---------------------------------------------------------------------------- */

/* One part behind the other, so that megabytes are not copied. */
static bool digest_of(const char *secret, struct bytes head, struct bytes body, uint8_t digest[32])
{
    size_t size = 0;
    OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string("digest", (char *)"SHA256", 0),
                               OSSL_PARAM_construct_end()};
    EVP_MAC *kind = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *mac = kind != NULL ? EVP_MAC_CTX_new(kind) : NULL;
    bool made = mac != NULL &&
                EVP_MAC_init(mac, (const uint8_t *)secret, strlen(secret), parameters) == 1 &&
                EVP_MAC_update(mac, head.data, head.size) == 1 &&
                EVP_MAC_update(mac, body.data, body.size) == 1 &&
                EVP_MAC_final(mac, digest, &size, 32) == 1 && size == 32;
    EVP_MAC_CTX_free(mac);
    EVP_MAC_free(kind);
    return made;
}

bool web_sign(const struct web_target *target, uint64_t wall_s, struct bytes body,
              char to[WEB_SIGNATURE_BYTES])
{
    char head[32];
    size_t at = (size_t)snprintf(to, WEB_SIGNATURE_BYTES, "t=%" PRIu64, wall_s);
    unsigned count = 0;
    snprintf(head, sizeof(head), "%" PRIu64 ".", wall_s);
    for (unsigned i = 0; i < WEB_SECRETS_MAX; i++) {
        uint8_t digest[32];
        const char *secret = target->secrets[i];
        if (secret == NULL || secret[0] == '\0')
            continue;
        if (!digest_of(secret, bytes_of_text(head), body, digest))
            break;
        count++;
        at += (size_t)snprintf(to + at, WEB_SIGNATURE_BYTES - at, ",v1=");
        for (unsigned k = 0; k < sizeof(digest); k++)
            at += (size_t)snprintf(to + at, WEB_SIGNATURE_BYTES - at, "%02x", digest[k]);
        CHECK(at < WEB_SIGNATURE_BYTES);
    }
    if (count == 0)
        to[0] = '\0';
    return count > 0;
}
