/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/key.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <stdio.h>
#include <string.h>

#include "base/secret.h"
#include "identity/base64url.h"

/* From a JSON Web Key to something that verifies, and the verification itself.
 *
 * The algorithm is the key's property and is fixed here, once. A verifier that believes the token's
 * own word for it can be shown an HMAC made with the text of a public key, or no signature at all.
 * Each kind of key (kty and crv) is used with one algorithm, so a key without `alg` has that one,
 * and `alg` can only agree with it or take the key away from us. What is too weak to mean anything
 * is no key: one for HMAC shorter than its hash, a small RSA modulus, a point off the curve.
 *
 * A key that says of itself that it is for others (an unknown kty, crv or alg; a use or key_ops
 * that leave out verifying) is told apart from one that has a fault: identity providers publish
 * many of the first, and of the second somebody should hear.
 *
 * Everything is set once and only read afterwards; each verification makes its own context. The
 * crypto library's errors are cleared where they arise: its queue belongs to the thread. */

enum {
    HMAC_KEY_BYTES_MIN = 32,
    HMAC_KEY_BYTES_MAX = 512,
    HMAC_BYTES = 32,
    ED25519_BYTES = 32,
    P256_BYTES = 32,
    RSA_BITS_MIN = 2048,
    RSA_BITS_MAX = 8192,
    NUMBER_BYTES_MAX = RSA_BITS_MAX / 8,
    EXPONENT_BYTES_MAX = 8
};

static const struct {
    const char *name, *kty, *crv;
} algorithms[KEY_ALGORITHMS] = {
    [KEY_HS256] = {"HS256", "oct", NULL},
    [KEY_EDDSA] = {"EdDSA", "OKP", "Ed25519"},
    [KEY_ES256] = {"ES256", "EC", "P-256"},
    [KEY_RS256] = {"RS256", "RSA", NULL},
};

const char *key_algorithm_name(enum key_algorithm algorithm)
{
    return algorithms[algorithm].name;
}

int key_algorithm_find(struct bytes name)
{
    for (int i = 0; i < KEY_ALGORITHMS; i++)
        if (bytes_equal(name, bytes_of_text(algorithms[i].name)))
            return i;
    return -ENOENT;
}

static int fault(char *why, const char *what)
{
    bool no_memory = ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE;
    ERR_clear_error();
    snprintf(why, KEY_WHY_BYTES, "%s", what);
    return no_memory ? -ENOMEM : -EINVAL;
}

static int not_for_us(char *why, const char *what)
{
    snprintf(why, KEY_WHY_BYTES, "%s", what);
    return -ENOTSUP;
}

static bool member_is(const json_t *jwk, const char *name, const char *wanted)
{
    const char *text = json_string_value(json_object_get(jwk, name));
    return text != NULL && strcmp(text, wanted) == 0;
}

/* A member that holds bytes. 0 or -EINVAL. */
static int member_bytes(const json_t *jwk, const char *name, uint8_t *to, size_t room, size_t *size,
                        char *why)
{
    const json_t *member = json_object_get(jwk, name);
    struct bytes text = {(const uint8_t *)json_string_value(member), json_string_length(member)};
    if (json_is_string(member) && text.size > 0 && base64url_decode(text, to, room, size) == 0)
        return 0;
    snprintf(why, KEY_WHY_BYTES, "'%s' is missing, not base64url, or too long", name);
    return -EINVAL;
}

/* --- one kind each ---------------------------------------------------------------------------- */

static int init_mac(struct key *key, const json_t *jwk, char *why)
{
    uint8_t secret[HMAC_KEY_BYTES_MAX];
    size_t size = 0;
    int failed = member_bytes(jwk, "k", secret, sizeof(secret), &size, why);
    if (failed == 0 && size < HMAC_KEY_BYTES_MIN)
        failed = fault(why, "'k' has fewer than 32 bytes, which HS256 needs at least");
    if (failed == 0) {
        EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
        OSSL_PARAM params[] = {
            OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
            OSSL_PARAM_construct_end()};
        key->mac = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;
        EVP_MAC_free(mac);
        if (key->mac == NULL || EVP_MAC_init(key->mac, secret, size, params) != 1)
            failed = fault(why, "the crypto library does not take it");
    }
    OPENSSL_cleanse(secret, sizeof(secret));
    return failed;
}

static int init_ed25519(struct key *key, const json_t *jwk, char *why)
{
    uint8_t point[ED25519_BYTES];
    size_t size = 0;
    int failed = member_bytes(jwk, "x", point, sizeof(point), &size, why);
    if (failed != 0)
        return failed;
    if (size == sizeof(point))
        key->public = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, point, size);
    return key->public != NULL ? 0 : fault(why, "'x' is not a public key of Ed25519");
}

/* Takes the parameters. 0, or -EINVAL when they do not make a public key. */
static int init_public(struct key *key, const char *type, OSSL_PARAM *params)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    bool made = params != NULL && context != NULL && EVP_PKEY_fromdata_init(context) == 1 &&
                EVP_PKEY_fromdata(context, &key->public, EVP_PKEY_PUBLIC_KEY, params) == 1;
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(params);
    if (!made)
        return -EINVAL;
    context = EVP_PKEY_CTX_new_from_pkey(NULL, key->public, NULL);
    bool sound = context != NULL && EVP_PKEY_public_check(context) == 1;
    EVP_PKEY_CTX_free(context);
    return sound ? 0 : -EINVAL;
}

static int init_p256(struct key *key, const json_t *jwk, char *why)
{
    uint8_t point[1 + 2 * P256_BYTES] = {POINT_CONVERSION_UNCOMPRESSED};
    size_t x = 0, y = 0;
    int failed = member_bytes(jwk, "x", point + 1, P256_BYTES, &x, why);
    if (failed == 0)
        failed = member_bytes(jwk, "y", point + 1 + P256_BYTES, P256_BYTES, &y, why);
    if (failed != 0)
        return failed;
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    if (builder != NULL && x == P256_BYTES && y == P256_BYTES &&
        OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)) ==
            1)
        params = OSSL_PARAM_BLD_to_param(builder);
    OSSL_PARAM_BLD_free(builder);
    return init_public(key, "EC", params) == 0 ? 0 : fault(why, "x and y are no point of P-256");
}

static OSSL_PARAM *rsa_params(const BIGNUM *n, const BIGNUM *e)
{
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    if (builder != NULL && n != NULL && e != NULL &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) == 1)
        params = OSSL_PARAM_BLD_to_param(builder);
    OSSL_PARAM_BLD_free(builder);
    return params;
}

static int init_rsa(struct key *key, const json_t *jwk, char *why)
{
    uint8_t modulus[NUMBER_BYTES_MAX], exponent[EXPONENT_BYTES_MAX];
    size_t modulus_size = 0, exponent_size = 0;
    int failed = member_bytes(jwk, "n", modulus, sizeof(modulus), &modulus_size, why);
    if (failed == 0)
        failed = member_bytes(jwk, "e", exponent, sizeof(exponent), &exponent_size, why);
    if (failed != 0)
        return failed;
    BIGNUM *n = BN_bin2bn(modulus, (int)modulus_size, NULL);
    BIGNUM *e = BN_bin2bn(exponent, (int)exponent_size, NULL);
    int bits = n != NULL ? BN_num_bits(n) : 0;
    bool usable = e != NULL && BN_is_odd(e) && !BN_is_one(e);
    if (bits < RSA_BITS_MIN)
        failed = fault(why, "'n' has fewer than 2048 bits");
    else if (!usable || init_public(key, "RSA", rsa_params(n, e)) != 0)
        failed = fault(why, "n and e are no public key of RSA");
    BN_free(n);
    BN_free(e);
    return failed;
}

/* --- a key ------------------------------------------------------------------------------------ */

/* Which of our algorithms the kind of the key is for. */
static int read_kind(struct key *key, const json_t *jwk, char *why)
{
    const json_t *kty = json_object_get(jwk, "kty");
    bool known = false;
    if (!json_is_string(kty))
        return fault(why, "'kty' is missing");
    for (int i = 0; i < KEY_ALGORITHMS; i++) {
        if (!member_is(jwk, "kty", algorithms[i].kty))
            continue;
        known = true;
        key->algorithm = (enum key_algorithm)i;
        if (algorithms[i].crv == NULL || member_is(jwk, "crv", algorithms[i].crv))
            return 0;
    }
    if (!known)
        return not_for_us(why, "'kty' is a kind of key that usherd does not use");
    if (!json_is_string(json_object_get(jwk, "crv")))
        return fault(why, "'crv' is missing");
    return not_for_us(why, "'crv' is a curve that usherd does not use");
}

static int check_algorithm(const struct key *key, const json_t *jwk, char *why)
{
    const json_t *alg = json_object_get(jwk, "alg");
    struct bytes name = {(const uint8_t *)json_string_value(alg), json_string_length(alg)};
    if (alg == NULL)
        return 0;
    if (!json_is_string(alg))
        return fault(why, "'alg' is not a text");
    int algorithm = key_algorithm_find(name);
    if (algorithm < 0)
        return not_for_us(why, "'alg' is none of HS256, EdDSA, ES256, RS256");
    return algorithm == (int)key->algorithm ? 0 : fault(why, "'alg' does not suit 'kty'");
}

static bool holds_text(const json_t *array, const char *wanted)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (text != NULL && strcmp(text, wanted) == 0)
            return true;
    }
    return false;
}

/* RFC 7517, 4.2 and 4.3: what the key is published for. */
static int check_purpose(const json_t *jwk, char *why)
{
    const json_t *use = json_object_get(jwk, "use");
    const json_t *operations = json_object_get(jwk, "key_ops");
    if (use != NULL && !json_is_string(use))
        return fault(why, "'use' is not a text");
    if (use != NULL && !member_is(jwk, "use", "sig"))
        return not_for_us(why, "'use' is not sig");
    if (operations != NULL && !json_is_array(operations))
        return fault(why, "'key_ops' is not a list");
    if (operations != NULL && !holds_text(operations, "verify"))
        return not_for_us(why, "'key_ops' does not hold verify");
    return 0;
}

bool key_read_id(const json_t *jwk, char *id)
{
    const json_t *kid = json_object_get(jwk, "kid");
    size_t size = json_string_length(kid);
    bool sound = json_is_string(kid) && size > 0 && size <= KEY_ID_BYTES_MAX;
    if (sound)
        memcpy(id, json_string_value(kid), size);
    id[sound ? size : 0] = '\0';
    return sound || kid == NULL;
}

static int read_material(struct key *key, const json_t *jwk, char *why)
{
    static int (*const readers[KEY_ALGORITHMS])(struct key *, const json_t *, char *) = {
        [KEY_HS256] = init_mac,
        [KEY_EDDSA] = init_ed25519,
        [KEY_ES256] = init_p256,
        [KEY_RS256] = init_rsa,
    };
    int failed = readers[key->algorithm](key, jwk, why);
    if (failed != 0 || key->algorithm == KEY_HS256 || key->algorithm == KEY_EDDSA)
        return failed;
    key->digest = EVP_MD_fetch(NULL, "SHA256", NULL);
    return key->digest != NULL ? 0 : -ENOMEM;
}

int key_init(struct key *key, const json_t *jwk, char *why)
{
    *key = (struct key){0};
    if (!json_is_object(jwk))
        return fault(why, "not an object");
    int failed = read_kind(key, jwk, why);
    if (failed == 0)
        failed = check_algorithm(key, jwk, why);
    if (failed == 0)
        failed = check_purpose(jwk, why);
    if (failed == 0 && !key_read_id(jwk, key->id))
        failed = fault(why, "'kid' must be a text of 1 to 128 bytes");
    if (failed == 0)
        failed = read_material(key, jwk, why);
    if (failed != 0)
        key_fini(key);
    return failed;
}

void key_fini(struct key *key)
{
    EVP_MAC_CTX_free(key->mac);
    EVP_PKEY_free(key->public);
    EVP_MD_free(key->digest);
    *key = (struct key){0};
}

enum key_algorithm key_algorithm(const struct key *key)
{
    return key->algorithm;
}

/* --- verifying -------------------------------------------------------------------------------- */

static bool verify_mac(const struct key *key, struct bytes text, struct bytes signature)
{
    uint8_t wanted[HMAC_BYTES];
    size_t size = 0;
    EVP_MAC_CTX *context = EVP_MAC_CTX_dup(key->mac);
    bool made = context != NULL && EVP_MAC_update(context, text.data, text.size) == 1 &&
                EVP_MAC_final(context, wanted, &size, sizeof(wanted)) == 1;
    EVP_MAC_CTX_free(context);
    return made && size == sizeof(wanted) &&
           secret_equal(wanted, size, signature.data, signature.size);
}

static bool verify_public(const struct key *key, struct bytes text, struct bytes signature)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good =
        context != NULL &&
        EVP_DigestVerifyInit(context, NULL, key->digest, NULL, key->public) == 1 &&
        EVP_DigestVerify(context, signature.data, signature.size, text.data, text.size) == 1;
    EVP_MD_CTX_free(context);
    return good;
}

/* A token holds the two numbers side by side, the library wants them in ASN.1. */
static bool verify_p256(const struct key *key, struct bytes text, struct bytes signature)
{
    if (signature.size != 2 * P256_BYTES)
        return false;
    ECDSA_SIG *pair = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature.data, P256_BYTES, NULL);
    BIGNUM *s = BN_bin2bn(signature.data + P256_BYTES, P256_BYTES, NULL);
    uint8_t *encoded = NULL;
    int size = 0;
    if (pair != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(pair, r, s) == 1) {
        r = s = NULL; /* the pair's now */
        size = i2d_ECDSA_SIG(pair, &encoded);
    }
    bool good = size > 0 && verify_public(key, text, (struct bytes){encoded, (size_t)size});
    OPENSSL_free(encoded);
    ECDSA_SIG_free(pair);
    BN_free(r);
    BN_free(s);
    return good;
}

bool key_verify(const struct key *key, struct bytes text, struct bytes signature)
{
    bool good = false;
    if (key->algorithm == KEY_HS256)
        good = verify_mac(key, text, signature);
    else if (key->algorithm == KEY_ES256)
        good = verify_p256(key, text, signature);
    else
        good = verify_public(key, text, signature);
    if (!good)
        ERR_clear_error();
    return good;
}
