/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/keyring.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "token_make.h"

/* The keys, texts and signatures of RFC 7515 appendix A and RFC 8037 appendix A; for RSA a key that
 * was made and used by python3-cryptography. */
static const struct vector {
    enum key_algorithm algorithm;
    const char *key; /* without alg */
    const char *text, *signature;
} vectors[] = {
    {KEY_HS256,
     "\"kty\":\"oct\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-"
     "1qS0gZH75aKtMN3Yj0iPS4hcgUu"
     "TwjAzZr1Z9CAow\"",
     "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh"
     "0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
     "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"},
    {KEY_EDDSA,
     "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"",
     "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
     "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"},
    {KEY_ES256,
     "\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
     "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"",
     "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNv"
     "bS9pc19yb290Ijp0cnVlfQ",
     "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"},
    {KEY_RS256,
     "\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\""
     "tg3C4Sq0pyN-A7nemaZSD_mKQQF_jalkT6_hifzfgs2SIyechJr279-vBb7c37s1hIN5XWD-"
     "_so7ec92JX4OZiG_cSARTXjzABGsnKr_rlRW7xarjKfgxXDmNfNCAR2bEDnWvwnPR3Erae3TIz-"
     "vC-3IhcZ5YRehM5MZ6CdTgXomq5FM1vVCREOFNDll3KD1ggTSrA-sttFqbv-Ucf-"
     "j8qWa27hMkemsko5dBJ8Vfd7Py9cf8nqsTM4J8ypJDC-6-qeyV5t1Eo04kFoZdBf0T2wOLxAXCKIfUr_y33-"
     "7Ct9hLHv4KfCgA0c-XHUXhY53PsPpzkwy3JgJIShfgkq9Aw"
     "\"",
     "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlL"
     "mNvbS9pc19yb290Ijp0cnVlfQ",
     "pbrG6GfxeC3FpNZfqh-yGT7Rm9jQsvqRld_G4uWa93nQfqDxKuMVj4nHdnv9OJJwZY-WVbAIhOvJfNvjSTwfGbCt5X"
     "C021rlYTdEyhqSRyx9pyUr4o7D2RRS0tNylMeiOMAiEAZPxw2mo5Ibrme0YKKpoEkEPyyP1lr8NEFbDem5_0KUh5nN"
     "Q4wMmTR9-"
     "Ddc1ZnDTcyW5e1gILQAYr55uSjZgwy25h0ySKKaQ6FZ6UNkGGu7u2AfBW6hAZb2ZinEm7n10yTpH2PDBTcqoBzQElg"
     "j_kgwiJJwN48ALo3ejUDyboGmSXjb39ajIQ3djzAsOYLTuRm2nq1AWr98qt7t0Q"},
};

enum { VECTORS = sizeof(vectors) / sizeof(*vectors) };

#define KEY(members) \
    "{" members "\"alg\":\"HS256\",\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT "\"}"
#define GOOD KEY("\"kid\":\"good\",")

static struct keyring *read_keys(const char *json)
{
    struct keyring *keyring = NULL;
    char error[KEYRING_ERROR_BYTES] = "";
    if (keyring_read(&keyring, bytes_of_text(json), error) != 0)
        fail_msg("%s: %s", json, error);
    return keyring;
}

static struct keyring *read_vector(const struct vector *vector)
{
    char json[2048];
    snprintf(json, sizeof(json), "{\"keys\":[{\"alg\":\"%s\",%s}]}",
             key_algorithm_name(vector->algorithm), vector->key);
    return read_keys(json);
}

/* NULL: none; what keyring_find says instead is not looked at. */
static const struct key *find(const struct keyring *keyring, const char *id, int algorithm)
{
    const struct key *key = NULL;
    return keyring_find(keyring, bytes_of_text(id), algorithm, &key) == 0 ? key : NULL;
}

static bool verify(const struct vector *vector, struct bytes text, struct bytes signature)
{
    struct keyring *keyring = read_vector(vector);
    const struct key *key = find(keyring, "", (int)vector->algorithm);
    assert_non_null(key);
    assert_int_equal(key_algorithm(key), vector->algorithm);
    bool good = key_verify(key, text, signature);
    keyring_release(keyring);
    return good;
}

static struct bytes signature_of(const struct vector *vector, uint8_t room[512])
{
    size_t size = 0;
    assert_int_equal(base64url_decode(bytes_of_text(vector->signature), room, 512, &size), 0);
    return (struct bytes){room, size};
}

static void signatures_of_the_standards_hold(void **state)
{
    for (size_t i = 0; i < VECTORS; i++) {
        uint8_t room[512];
        struct bytes signature = signature_of(&vectors[i], room);
        if (!verify(&vectors[i], bytes_of_text(vectors[i].text), signature))
            fail_msg("vector %zu", i);
    }
}

static void one_bit_and_it_does_not_hold(void **state)
{
    for (size_t i = 0; i < VECTORS; i++) {
        uint8_t room[512];
        struct bytes signature = signature_of(&vectors[i], room);
        struct bytes text = bytes_of_text(vectors[i].text);
        for (size_t bit = 0; bit < 8 * signature.size; bit += 29) {
            room[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_false(verify(&vectors[i], text, signature));
            room[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_false(verify(&vectors[i], (struct bytes){text.data, text.size - 1}, signature));
        assert_false(verify(&vectors[i], text, (struct bytes){room, signature.size - 1}));
        assert_false(verify(&vectors[i], text, (struct bytes){room, 0}));
        room[signature.size] = 0;
        assert_false(verify(&vectors[i], text, (struct bytes){room, signature.size + 1}));
    }
}

/* A pair of zeros, and the signature in ASN.1, as libraries that are not for tokens give it. */
static void es256_takes_only_its_own_form(void **state)
{
    uint8_t zeros[64] = {0}, room[512], encoded[80] = {0x30, 70, 0x02, 33};
    struct bytes text = bytes_of_text(vectors[2].text);
    struct bytes raw = signature_of(&vectors[2], room);
    assert_false(verify(&vectors[2], text, (struct bytes){zeros, sizeof(zeros)}));
    encoded[1] = 2 + 32 + 2 + 33;
    encoded[3] = 32;
    memcpy(encoded + 4, raw.data, 32);
    encoded[36] = 0x02;
    encoded[37] = 33;
    memcpy(encoded + 39, raw.data + 32, 32);
    assert_false(verify(&vectors[2], text, (struct bytes){encoded, 71}));
}

/* Beside one key that is good: each of these costs nobody but itself. */
static void keys_that_are_passed_over(void **state)
{
    static const struct {
        const char *key, *id, *says;
        bool faulty;
    } rows[] = {
        /* as identity providers publish them */
        {"{\"kid\":\"enc\",\"kty\":\"RSA\",\"use\":\"enc\",\"alg\":\"RSA-OAEP\",\"n\":\"AAAA\","
         "\"e\":\"AQAB\"}",
         "enc", "'alg'", false},
        {"{\"kid\":\"e\",\"kty\":\"EC\",\"crv\":\"P-384\",\"alg\":\"ES384\",\"use\":\"sig\"}", "e",
         "'crv'", false},
        {"{\"kid\":\"pq\",\"kty\":\"AKP\",\"alg\":\"ML-DSA-44\",\"pub\":\"AAAA\"}", "pq", "'kty'",
         false},
        {"{\"kty\":\"RSA\",\"alg\":\"PS256\"}", "", "'alg'", false},
        {"{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"AA\"}", "", "'crv'", false},
        {"{\"kty\":\"OKP\",\"crv\":\"Ed448\",\"alg\":\"EdDSA\"}", "", "'crv'", false},
        {"{\"kty\":\"oct\",\"alg\":\"A256GCM\",\"k\":\"" TOKEN_SECRET_TEXT "\"}", "", "'alg'",
         false},
        {"{\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT "\",\"use\":\"enc\"}", "", "'use'", false},
        {"{\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT "\",\"use\":\"Sig\"}", "", "'use'", false},
        {"{\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT "\",\"key_ops\":[\"sign\"]}", "",
         "'key_ops'", false},
        {"{\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT "\",\"key_ops\":[]}", "", "'key_ops'",
         false},
        {"{\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT
         "\",\"use\":\"sig\",\"key_ops\":[\"deriveKey\",7]}",
         "", "'key_ops'", false},
        /* as people write them */
        {"7", "", "not an object", true},
        {"null", "", "not an object", true},
        {"{\"kid\":\"x\"}", "x", "'kty'", true},
        {"{\"kty\":[\"RSA\"]}", "", "'kty'", true},
        {"{\"kty\":\"EC\"}", "", "'crv'", true},
        {"{\"kty\":\"RSA\",\"alg\":\"HS256\"}", "", "does not suit", true},
        {"{\"kty\":\"RSA\",\"alg\":5}", "", "'alg'", true},
        {"{\"kty\":\"oct\",\"alg\":\"RS256\",\"k\":\"" TOKEN_SECRET_TEXT "\"}", "", "does not suit",
         true},
        {"{\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT "\",\"use\":7}", "", "'use'", true},
        {"{\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT "\",\"key_ops\":\"verify\"}", "",
         "'key_ops'", true},
        {"{\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT "\",\"kid\":7}", "", "'kid'", true},
        {"{\"kid\":\"short\",\"kty\":\"oct\",\"k\":\"AAAA\"}", "short", "32 bytes", true},
        {"{\"kid\":\"small\",\"kty\":\"RSA\",\"n\":\"AAAA\",\"e\":\"AQAB\"}", "small", "2048",
         true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char json[2048];
        for (int before = 0; before < 2; before++) {
            snprintf(json, sizeof(json), "{\"keys\":[%s,%s]}", before ? rows[i].key : GOOD,
                     before ? GOOD : rows[i].key);
            struct keyring *keyring = read_keys(json);
            assert_int_equal(keyring_count(keyring), 1);
            assert_non_null(find(keyring, "good", KEY_HS256));
            assert_int_equal(keyring_passed_count(keyring), 1);
            const struct key_passed *passed = keyring_passed(keyring, 0);
            if (passed->faulty != rows[i].faulty || strstr(passed->why, rows[i].says) == NULL)
                fail_msg("%s: %s", rows[i].key, passed->why);
            assert_string_equal(passed->id, rows[i].id);
            assert_int_equal(passed->place, before ? 0 : 1);
            assert_null(strstr(passed->why, "0MTIz")); /* nothing of a key */
            keyring_release(keyring);
        }
    }
}

/* Members that say nothing against it. */
static void keys_that_are_taken(void **state)
{
    static const char *const members[] = {
        "\"use\":\"sig\",", "\"key_ops\":[\"verify\"],", "\"key_ops\":[\"sign\",\"verify\"],",
        "\"use\":\"sig\",\"key_ops\":[\"verify\"],\"x5c\":[\"MIIC\"],\"x5t\":\"x\",\"exp\":1,"};
    for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++) {
        char json[512];
        snprintf(json, sizeof(json), "{\"keys\":[{%s\"kty\":\"oct\",\"k\":\"%s\"}]}", members[i],
                 TOKEN_SECRET_TEXT);
        struct keyring *keyring = read_keys(json);
        assert_int_equal(keyring_count(keyring), 1);
        assert_int_equal(keyring_passed_count(keyring), 0);
        keyring_release(keyring);
    }
}

/* A key without alg is used with what its kind is for and with nothing else: above all no public
 * key of RSA with an HMAC, whose secret would be a text that everybody knows. */
static void without_alg_the_kind_decides(void **state)
{
    for (size_t i = 0; i < VECTORS; i++) {
        char json[2048];
        uint8_t room[512];
        snprintf(json, sizeof(json), "{\"keys\":[{\"kid\":\"a\",%s}]}", vectors[i].key);
        struct keyring *keyring = read_keys(json);
        for (int algorithm = -1; algorithm < KEY_ALGORITHMS; algorithm++) {
            const struct key *key = NULL;
            int wanted = algorithm == (int)vectors[i].algorithm ? 0 : -ENOTSUP;
            assert_int_equal(keyring_find(keyring, bytes_of_text("a"), algorithm, &key), wanted);
            assert_int_equal(keyring_find(keyring, bytes_of_text(""), algorithm, &key), wanted);
        }
        assert_true(key_verify(find(keyring, "a", (int)vectors[i].algorithm),
                               bytes_of_text(vectors[i].text), signature_of(&vectors[i], room)));
        keyring_release(keyring);
    }
}

static void files_with_a_fault(void **state)
{
    static const struct {
        const char *json, *says;
    } rows[] = {
        {"", "line 1"},
        {"{", "line 1"},
        {"[]", "not a key set"},
        {"{}", "not a key set"},
        {"{\"keys\":[]}", "not a key set"},
        {"{\"keys\":{}}", "not a key set"},
        {"{\"keys\":[1]}", "of 1; keys[0]: not an object"},
        {TOKEN_KEYS "x", "line 1"},
        {"{\"keys\":[],\"keys\":[]}", "twice"},
        {"{\"keys\":[{}]}", "'kty'"},
        {"{\"keys\":[{\"kty\":\"AKP\",\"alg\":\"ML-DSA-44\"},{},7]}", "of 3; keys[1]: 'kty'"},
        {"{\"keys\":[{\"kty\":\"AKP\",\"alg\":\"ML-DSA-44\"}]}", "of 1; keys[0]: 'kty'"},
        {"{\"keys\":[{\"alg\":\"none\",\"kty\":\"oct\"}]}", "'alg'"},
        {"{\"keys\":[{\"alg\":\"hs256\",\"kty\":\"oct\"}]}", "'alg'"},
        {"{\"keys\":[{\"alg\":5,\"kty\":\"oct\"}]}", "'alg'"},
        {"{\"keys\":[{\"alg\":\"HS256\"}]}", "'kty'"},
        {"{\"keys\":[{\"alg\":\"HS256\",\"kty\":\"RSA\"}]}", "'alg' does not suit"},
        {"{\"keys\":[{\"alg\":\"HS256\",\"kty\":\"oct\"}]}", "'k'"},
        {"{\"keys\":[{\"alg\":\"HS256\",\"kty\":\"oct\",\"k\":\"\"}]}", "'k'"},
        {"{\"keys\":[{\"alg\":\"HS256\",\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT "=\"}]}",
         "'k'"},
        {"{\"keys\":[{\"alg\":\"HS256\",\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT
         "\",\"use\":\"enc\"}]}",
         "'use'"},
        {"{\"keys\":[{\"alg\":\"HS256\",\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT
         "\",\"kid\":\"\"}]}",
         "'kid'"},
        {"{\"keys\":[{\"alg\":\"HS256\",\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT
         "\",\"kid\":7}]}",
         "'kid'"},
        {"{\"keys\":[{\"alg\":\"EdDSA\",\"kty\":\"OKP\"}]}", "'crv'"},
        {"{\"keys\":[{\"alg\":\"EdDSA\",\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"AA\"}]}",
         "'crv'"},
        {"{\"keys\":[{\"alg\":\"EdDSA\",\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}]}",
         "'x'"},
        {"{\"keys\":[{\"alg\":\"ES256\",\"kty\":\"EC\",\"crv\":\"P-256\","
         "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
         "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a4\"}]}",
         "no point"},
        {"{\"keys\":[{\"alg\":\"RS256\",\"kty\":\"RSA\",\"n\":\"AAAA\",\"e\":\"AQAB\"}]}", "2048"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct keyring *keyring = NULL;
        char error[KEYRING_ERROR_BYTES] = "";
        if (keyring_read(&keyring, bytes_of_text(rows[i].json), error) != -EINVAL)
            fail_msg("taken: %s", rows[i].json);
        if (strstr(error, rows[i].says) == NULL || strchr(error, '\n') != NULL)
            fail_msg("%s says: %s", rows[i].json, error);
        assert_null(strstr(error, "0MTIz")); /* nothing of a key */
    }
}

/* A set of `count` keys named k0, k1..., and `foreign` others; the caller's to free. */
static char *many(unsigned count, unsigned foreign, size_t padding)
{
    char *json = malloc((count + foreign) * 160 + padding + 64);
    assert_non_null(json);
    char *to = json + sprintf(json, "{\"keys\":[");
    for (unsigned i = 0; i < foreign; i++)
        to += sprintf(to, "{\"kid\":\"k0\",\"kty\":\"AKP\"},");
    for (unsigned i = 0; i < count; i++)
        to += sprintf(to, "%s{\"kid\":\"k%u\",\"alg\":\"HS256\",\"kty\":\"oct\",\"k\":\"%s\"}",
                      i > 0 ? "," : "", i, TOKEN_SECRET_TEXT);
    memset(to, ' ', padding);
    strcpy(to + padding, "]}");
    return json;
}

static int read_and_free(char *json)
{
    struct keyring *keyring = NULL;
    char error[KEYRING_ERROR_BYTES];
    int result = keyring_read(&keyring, bytes_of_text(json), error);
    keyring_release(keyring);
    free(json);
    return result;
}

static void limits_at_n_and_one_more(void **state)
{
    char *json = many(1, 0, 0);
    size_t base = strlen(json);
    free(json);
    assert_int_equal(read_and_free(many(KEYRING_KEYS_MAX, 0, 0)), 0);
    assert_int_equal(read_and_free(many(KEYRING_KEYS_MAX + 1, 0, 0)), -EINVAL);
    const unsigned others = KEYRING_SET_KEYS_MAX - KEYRING_KEYS_MAX;
    assert_int_equal(read_and_free(many(KEYRING_KEYS_MAX, others, 0)), 0);
    assert_int_equal(read_and_free(many(KEYRING_KEYS_MAX, others + 1, 0)), -EINVAL);
    assert_int_equal(read_and_free(many(1, 0, KEYRING_FILE_BYTES_MAX - base)), 0);
    assert_int_equal(read_and_free(many(1, 0, KEYRING_FILE_BYTES_MAX - base + 1)), -EINVAL);
    for (size_t size = 31; size <= 513; size++) {
        uint8_t secret[513] = {1};
        char text[BASE64URL_TEXT(513) + 1];
        base64url_encode((struct bytes){secret, size}, text);
        json = malloc(1024);
        assert_non_null(json);
        sprintf(json, "{\"keys\":[{\"alg\":\"HS256\",\"kty\":\"oct\",\"k\":\"%s\"}]}", text);
        assert_int_equal(read_and_free(json), size >= 32 && size <= 512 ? 0 : -EINVAL);
    }
    for (int size = 127; size <= 129; size++) {
        json = malloc(1024);
        assert_non_null(json);
        sprintf(json,
                "{\"keys\":[{\"kid\":\"%0*d\",\"alg\":\"HS256\",\"kty\":\"oct\",\"k\":\"%s\"}]}",
                size, 7, TOKEN_SECRET_TEXT);
        assert_int_equal(read_and_free(json), size <= KEY_ID_BYTES_MAX ? 0 : -EINVAL);
    }
}

static void keys_are_found_by_name(void **state)
{
    struct keyring *two =
        read_keys("{\"keys\":[" KEY("\"kid\":\"a\",") "," KEY("\"kid\":\"b\",") "]}");
    assert_int_equal(keyring_count(two), 2);
    assert_non_null(find(two, "a", KEY_HS256));
    assert_ptr_not_equal(find(two, "a", KEY_HS256), find(two, "b", KEY_HS256));
    const struct key *key = NULL;
    assert_int_equal(keyring_find(two, bytes_of_text("c"), KEY_HS256, &key), -ENOENT);
    assert_int_equal(keyring_find(two, bytes_of_text("A"), KEY_HS256, &key), -ENOENT);
    assert_int_equal(keyring_find(two, bytes_of_text("a"), KEY_RS256, &key), -ENOTSUP);
    assert_int_equal(keyring_find(two, bytes_of_text("a"), -ENOENT, &key), -ENOTSUP);
    assert_int_equal(keyring_find(two, bytes_of_text(""), KEY_HS256, &key), -ENOENT);
    keyring_release(two);
    struct keyring *one = read_keys("{\"keys\":[" KEY("\"kid\":\"a\",") "]}");
    assert_non_null(find(one, "", KEY_HS256));
    assert_null(find(one, "b", KEY_HS256));
    keyring_release(one);
}

/* RFC 7517, 4.5: keys of different kinds may share a name. */
static void one_name_for_several_keys(void **state)
{
    static const char other[] = /* another secret */
        "{\"kid\":\"a\",\"kty\":\"oct\",\"k\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}";
    char json[2048];
    snprintf(json, sizeof(json), "{\"keys\":[%s,{\"kid\":\"a\",%s},%s]}", KEY("\"kid\":\"a\","),
             vectors[KEY_EDDSA].key, other);
    struct keyring *keyring = read_keys(json);
    assert_int_equal(keyring_count(keyring), 2);
    assert_int_equal(key_algorithm(find(keyring, "a", KEY_EDDSA)), KEY_EDDSA);
    assert_int_equal(key_algorithm(find(keyring, "a", KEY_HS256)), KEY_HS256);
    assert_null(find(keyring, "", KEY_HS256));
    assert_int_equal(keyring_passed_count(keyring), 1);
    assert_int_equal(keyring_passed(keyring, 0)->place, 2);
    assert_true(keyring_passed(keyring, 0)->faulty);
    assert_non_null(strstr(keyring_passed(keyring, 0)->why, "same 'kid'"));
    char token[TOKEN_MAKE_BYTES]; /* the first of them is the one that holds */
    uint8_t mac[32];
    size_t size = 0;
    token_make(token, "h", "c");
    char *signature = strrchr(token, '.');
    *signature++ = '\0';
    assert_int_equal(base64url_decode(bytes_of_text(signature), mac, sizeof(mac), &size), 0);
    assert_true(
        key_verify(find(keyring, "a", KEY_HS256), bytes_of_text(token), (struct bytes){mac, size}));
    keyring_release(keyring);
}

/* As long as their kinds differ a token's alg says which is meant. */
static void keys_without_a_name(void **state)
{
    char json[2048];
    snprintf(json, sizeof(json), "{\"keys\":[%s,{%s},%s]}", KEY(""), vectors[KEY_EDDSA].key,
             KEY(""));
    struct keyring *keyring = read_keys(json);
    assert_int_equal(keyring_count(keyring), 2);
    assert_int_equal(keyring_passed_count(keyring), 1);
    assert_non_null(find(keyring, "", KEY_HS256));
    assert_non_null(find(keyring, "", KEY_EDDSA));
    assert_null(find(keyring, "a", KEY_EDDSA));
    keyring_release(keyring);
}

static void from_a_file(void **state)
{
    char path[] = "/tmp/keyring-test-XXXXXX", error[KEYRING_ERROR_BYTES];
    struct keyring *keyring = NULL;
    int file = mkstemp(path);
    assert_true(file >= 0 && write(file, TOKEN_KEYS, strlen(TOKEN_KEYS)) > 0);
    close(file);
    assert_int_equal(keyring_load(&keyring, path, error), 0);
    assert_int_equal(keyring_count(keyring), 1);
    keyring_release(keyring);
    unlink(path);
    assert_int_equal(keyring_load(&keyring, path, error), -ENOENT);
    assert_int_equal(keyring_load(&keyring, "/tmp", error), -EINVAL);
    assert_int_equal(keyring_load(&keyring, "/dev/zero", error), -EINVAL);
}

/* Replaced while others use it: the sanitizers look whether it is freed too early, or twice. */
static void *use(void *argument)
{
    struct keyring *keyring = argument;
    for (unsigned i = 0; i < 2000; i++) {
        struct keyring *mine = keyring_acquire(keyring);
        assert_false(
            key_verify(find(mine, "", KEY_HS256), bytes_of_text("text"), bytes_of_text("no")));
        keyring_release(mine);
    }
    keyring_release(keyring);
    return NULL;
}

static void held_by_several_threads(void **state)
{
    pthread_t threads[4];
    struct keyring *keyring = read_keys(TOKEN_KEYS);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use, keyring_acquire(keyring)), 0);
    keyring_release(keyring);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    keyring_release(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures_of_the_standards_hold),
        cmocka_unit_test(one_bit_and_it_does_not_hold),
        cmocka_unit_test(es256_takes_only_its_own_form),
        cmocka_unit_test(keys_that_are_passed_over),
        cmocka_unit_test(keys_that_are_taken),
        cmocka_unit_test(without_alg_the_kind_decides),
        cmocka_unit_test(files_with_a_fault),
        cmocka_unit_test(limits_at_n_and_one_more),
        cmocka_unit_test(keys_are_found_by_name),
        cmocka_unit_test(one_name_for_several_keys),
        cmocka_unit_test(keys_without_a_name),
        cmocka_unit_test(from_a_file),
        cmocka_unit_test(held_by_several_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
