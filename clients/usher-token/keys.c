/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-token/keys.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "identity/base64url.h"
#include "identity/keyring.h"

/* What a login service does, for development and tests: makes keys and signs. The members of each
 * kind of key are rows, read in both directions: a new key is written by them, and a key in a file
 * becomes one of the crypto library by them. The broker has the other half, verifying, and shares
 * only the encoding with this. */

enum {
    SECRET_BYTES = 32,
    P256_BYTES = 32,
    RSA_BITS = 2048,
    NUMBER_BYTES_MAX = 1024,
    SIGNATURE_BYTES_MAX = 1024
};

/* Big numbers of a key. */
struct member {
    enum key_algorithm algorithm;
    const char *name;  /* in the JSON Web Key */
    const char *param; /* in the library */
    size_t size;       /* written with so many bytes; 0: as few as it needs */
    bool is_private;
};

static const struct member members[] = {
    {KEY_ES256, "x", OSSL_PKEY_PARAM_EC_PUB_X, P256_BYTES, false},
    {KEY_ES256, "y", OSSL_PKEY_PARAM_EC_PUB_Y, P256_BYTES, false},
    {KEY_ES256, "d", OSSL_PKEY_PARAM_PRIV_KEY, P256_BYTES, true},
    {KEY_RS256, "n", OSSL_PKEY_PARAM_RSA_N, 0, false},
    {KEY_RS256, "e", OSSL_PKEY_PARAM_RSA_E, 0, false},
    {KEY_RS256, "d", OSSL_PKEY_PARAM_RSA_D, 0, true},
    {KEY_RS256, "p", OSSL_PKEY_PARAM_RSA_FACTOR1, 0, true},
    {KEY_RS256, "q", OSSL_PKEY_PARAM_RSA_FACTOR2, 0, true},
    {KEY_RS256, "dp", OSSL_PKEY_PARAM_RSA_EXPONENT1, 0, true},
    {KEY_RS256, "dq", OSSL_PKEY_PARAM_RSA_EXPONENT2, 0, true},
    {KEY_RS256, "qi", OSSL_PKEY_PARAM_RSA_COEFFICIENT1, 0, true},
};

enum { MEMBERS = sizeof(members) / sizeof(*members) };

static const char *const kinds[KEY_ALGORITHMS][2] = {
    [KEY_HS256] = {"oct", NULL},
    [KEY_EDDSA] = {"OKP", "Ed25519"},
    [KEY_ES256] = {"EC", "P-256"},
    [KEY_RS256] = {"RSA", NULL},
};

static bool member_is(const json_t *key, const char *name, const char *wanted)
{
    const char *text = json_string_value(json_object_get(key, name));
    return wanted == NULL || (text != NULL && strcmp(text, wanted) == 0);
}

int token_key_algorithm(const json_t *key)
{
    const json_t *alg = json_object_get(key, "alg");
    for (int i = 0; i < KEY_ALGORITHMS; i++)
        if (member_is(key, "kty", kinds[i][0]) && member_is(key, "crv", kinds[i][1]) &&
            (alg == NULL || member_is(key, "alg", key_algorithm_name((enum key_algorithm)i))))
            return i;
    return -1;
}

static bool put_bytes(json_t *key, const char *name, const uint8_t *data, size_t size)
{
    char text[BASE64URL_TEXT(NUMBER_BYTES_MAX) + 1];
    base64url_encode((struct bytes){data, size}, text);
    bool put = json_object_set_new(key, name, json_string(text)) == 0;
    OPENSSL_cleanse(text, sizeof(text));
    return put;
}

/* The bytes of a member; 0: it is not there, or not such a text. */
static size_t get_bytes(const json_t *key, const char *name, uint8_t *to, size_t room)
{
    const char *text = json_string_value(json_object_get(key, name));
    size_t size = 0;
    return text != NULL && base64url_decode(bytes_of_text(text), to, room, &size) == 0 ? size : 0;
}

/* --- making ----------------------------------------------------------------------------------- */

/* From the library's key into the JSON, by the rows of its algorithm. */
static bool put_numbers(json_t *key, const EVP_PKEY *made, enum key_algorithm algorithm)
{
    bool put = true;
    for (size_t i = 0; i < MEMBERS && put; i++) {
        const struct member *member = &members[i];
        uint8_t bytes[NUMBER_BYTES_MAX];
        BIGNUM *number = NULL;
        if (member->algorithm != algorithm)
            continue;
        put = EVP_PKEY_get_bn_param(made, member->param, &number) == 1;
        if (put) {
            size_t size = member->size != 0 ? member->size : (size_t)BN_num_bytes(number);
            put = BN_bn2binpad(number, bytes, (int)size) == (int)size &&
                  put_bytes(key, member->name, bytes, size);
        }
        BN_clear_free(number);
        OPENSSL_cleanse(bytes, sizeof(bytes));
    }
    return put;
}

static bool put_raw(json_t *key, const EVP_PKEY *made)
{
    uint8_t public[SECRET_BYTES], secret[SECRET_BYTES];
    size_t public_size = sizeof(public), secret_size = sizeof(secret);
    bool put = EVP_PKEY_get_raw_public_key(made, public, &public_size) == 1 &&
               EVP_PKEY_get_raw_private_key(made, secret, &secret_size) == 1 &&
               put_bytes(key, "x", public, public_size) && put_bytes(key, "d", secret, secret_size);
    OPENSSL_cleanse(secret, sizeof(secret));
    return put;
}

static bool put_secret(json_t *key)
{
    uint8_t secret[SECRET_BYTES];
    bool put =
        RAND_priv_bytes(secret, sizeof(secret)) == 1 && put_bytes(key, "k", secret, sizeof(secret));
    OPENSSL_cleanse(secret, sizeof(secret));
    return put;
}

static bool put_material(json_t *key, enum key_algorithm algorithm)
{
    if (algorithm == KEY_HS256)
        return put_secret(key);
    EVP_PKEY *made = algorithm == KEY_EDDSA ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
                     : algorithm == KEY_ES256
                         ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256")
                         : EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)RSA_BITS);
    bool put = made != NULL &&
               (algorithm == KEY_EDDSA ? put_raw(key, made) : put_numbers(key, made, algorithm));
    EVP_PKEY_free(made);
    return put;
}

json_t *token_key_generate(const char *algorithm, const char *kid)
{
    int number = key_algorithm_find(bytes_of_text(algorithm));
    if (number < 0)
        return NULL;
    json_t *key =
        json_pack("{s:s, s:s, s:s}", "kid", kid, "alg", algorithm, "kty", kinds[number][0]);
    if (key != NULL && kinds[number][1] != NULL)
        json_object_set_new(key, "crv", json_string(kinds[number][1]));
    if (key != NULL && put_material(key, (enum key_algorithm)number))
        return key;
    json_decref(key);
    return NULL;
}

json_t *token_key_public(const json_t *key)
{
    if (token_key_algorithm(key) < 0 || token_key_algorithm(key) == KEY_HS256)
        return NULL;
    json_t *public = json_copy((json_t *)(uintptr_t)key);
    json_object_del(public, "d");
    for (size_t i = 0; i < MEMBERS; i++)
        if (members[i].is_private)
            json_object_del(public, members[i].name);
    return public;
}

/* --- signing ---------------------------------------------------------------------------------- */

static bool push_number(OSSL_PARAM_BLD *builder, const json_t *key, const struct member *member,
                        BIGNUM **number)
{
    uint8_t bytes[NUMBER_BYTES_MAX];
    size_t size = get_bytes(key, member->name, bytes, sizeof(bytes));
    *number = size > 0 ? BN_bin2bn(bytes, (int)size, NULL) : NULL;
    OPENSSL_cleanse(bytes, sizeof(bytes));
    return *number != NULL && OSSL_PARAM_BLD_push_BN(builder, member->param, *number) == 1;
}

/* The other way: from the JSON into what the library builds a key of. */
static bool push_numbers(OSSL_PARAM_BLD *builder, const json_t *key, BIGNUM *numbers[MEMBERS],
                         enum key_algorithm algorithm)
{
    bool pushed = true;
    for (size_t i = 0; i < MEMBERS && pushed; i++) {
        /* Of a point the library takes both coordinates as one. */
        bool wanted =
            members[i].algorithm == algorithm && (algorithm != KEY_ES256 || members[i].is_private);
        if (wanted)
            pushed = push_number(builder, key, &members[i], &numbers[i]);
    }
    return pushed;
}

/* The builder borrows `point` until the parameters are made. */
static bool push_point(OSSL_PARAM_BLD *builder, const json_t *key,
                       uint8_t point[1 + 2 * P256_BYTES])
{
    point[0] = POINT_CONVERSION_UNCOMPRESSED;
    return get_bytes(key, "x", point + 1, P256_BYTES) == P256_BYTES &&
           get_bytes(key, "y", point + 1 + P256_BYTES, P256_BYTES) == P256_BYTES &&
           OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) == 1 &&
           OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point,
                                            1 + 2 * P256_BYTES) == 1;
}

static EVP_PKEY *from_params(const char *type, OSSL_PARAM *params)
{
    EVP_PKEY *pair = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (params == NULL || context == NULL || EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &pair, EVP_PKEY_KEYPAIR, params) != 1)
        pair = NULL;
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(params);
    return pair;
}

static EVP_PKEY *read_pair(const json_t *key, enum key_algorithm algorithm)
{
    uint8_t secret[SECRET_BYTES];
    if (algorithm == KEY_EDDSA) {
        size_t size = get_bytes(key, "d", secret, sizeof(secret));
        EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, size);
        OPENSSL_cleanse(secret, sizeof(secret));
        return pair;
    }
    BIGNUM *numbers[MEMBERS] = {NULL};
    uint8_t point[1 + 2 * P256_BYTES];
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    if (builder != NULL && push_numbers(builder, key, numbers, algorithm) &&
        (algorithm != KEY_ES256 || push_point(builder, key, point)))
        params = OSSL_PARAM_BLD_to_param(builder);
    OSSL_PARAM_BLD_free(builder);
    for (size_t i = 0; i < MEMBERS; i++)
        BN_clear_free(numbers[i]);
    return from_params(algorithm == KEY_ES256 ? "EC" : "RSA", params);
}

/* The library gives ASN.1, a token holds the two numbers side by side. */
static size_t unwrap_pair(uint8_t *signature, size_t size)
{
    const uint8_t *at = signature;
    ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)size);
    if (pair == NULL)
        return 0;
    BN_bn2binpad(ECDSA_SIG_get0_r(pair), signature, P256_BYTES);
    BN_bn2binpad(ECDSA_SIG_get0_s(pair), signature + P256_BYTES, P256_BYTES);
    ECDSA_SIG_free(pair);
    return 2 * P256_BYTES;
}

static size_t sign_with_pair(const json_t *key, enum key_algorithm algorithm, struct bytes text,
                             uint8_t signature[SIGNATURE_BYTES_MAX])
{
    size_t size = SIGNATURE_BYTES_MAX;
    EVP_PKEY *pair = read_pair(key, algorithm);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const char *digest = algorithm == KEY_EDDSA ? NULL : "SHA256";
    if (pair == NULL || context == NULL ||
        EVP_DigestSignInit_ex(context, NULL, digest, NULL, NULL, pair, NULL) != 1 ||
        EVP_DigestSign(context, signature, &size, text.data, text.size) != 1)
        size = 0;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(pair);
    return algorithm == KEY_ES256 && size > 0 ? unwrap_pair(signature, size) : size;
}

static size_t sign_with_secret(const json_t *key, struct bytes text,
                               uint8_t signature[SIGNATURE_BYTES_MAX])
{
    uint8_t secret[NUMBER_BYTES_MAX];
    size_t size = 0;
    size_t secret_size = get_bytes(key, "k", secret, sizeof(secret));
    if (secret_size == 0 ||
        EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, secret, secret_size, text.data, text.size,
                  signature, SIGNATURE_BYTES_MAX, &size) == NULL)
        size = 0;
    OPENSSL_cleanse(secret, sizeof(secret));
    return size;
}

/* Behind what is in `token`; false: no memory. */
static bool append_json(struct buffer *token, json_t *object)
{
    char *json = json_dumps(object, JSON_COMPACT);
    size_t size = json != NULL ? strlen(json) : 0;
    uint8_t *to = json != NULL ? buffer_reserve(token, BASE64URL_TEXT(size) + 1) : NULL;
    if (to != NULL)
        token->size += base64url_encode(bytes_of_text(json), (char *)to);
    free(json);
    return to != NULL;
}

static bool append_parts(struct buffer *token, const json_t *key, const json_t *claims)
{
    enum key_algorithm algorithm = (enum key_algorithm)token_key_algorithm(key);
    json_t *header = json_pack("{s:s, s:s, s:O?}", "alg", key_algorithm_name(algorithm), "typ",
                               "JWT", "kid", json_object_get(key, "kid"));
    if (header != NULL && json_is_null(json_object_get(header, "kid")))
        json_object_del(header, "kid");
    bool appended = header != NULL && append_json(token, header) &&
                    buffer_append(token, ".", 1) == 0 &&
                    append_json(token, (json_t *)(uintptr_t)claims);
    json_decref(header);
    return appended;
}

char *token_sign(const json_t *key, const json_t *claims)
{
    struct buffer token = {0};
    uint8_t signature[SIGNATURE_BYTES_MAX];
    size_t size = 0;
    int algorithm = token_key_algorithm(key);
    if (algorithm >= 0 && append_parts(&token, key, claims)) {
        struct bytes text = {token.data, token.size};
        size = algorithm == KEY_HS256
                   ? sign_with_secret(key, text, signature)
                   : sign_with_pair(key, (enum key_algorithm)algorithm, text, signature);
    }
    uint8_t *to = size > 0 && buffer_append(&token, ".", 1) == 0
                      ? buffer_reserve(&token, BASE64URL_TEXT(size) + 1)
                      : NULL;
    if (to == NULL) {
        buffer_fini(&token);
        return NULL;
    }
    base64url_encode((struct bytes){signature, size}, (char *)to);
    return (char *)token.data;
}
