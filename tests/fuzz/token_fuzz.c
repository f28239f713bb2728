/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "identity/token.h"
#include "token_make.h"

/* Tokens and key files from anybody. The first byte says what the rest is:
 *
 *   0  a key file
 *   1  a token as it comes
 *   2  header and claims, with a NUL between them, which are signed: what lies behind the signature
 *   3  other keys of a set that begins with one of ours
 *
 * What is taken must be what was signed, and a claim about a name must be a name. Whatever stands
 * beside our key, as long as it is JSON, our key is found. */

enum { INPUT_BYTES_MAX = 6000 };

static const struct token_rules rules = {"", "", 30000};

static void try_keys(struct bytes input)
{
    struct keyring *keyring = NULL;
    char error[KEYRING_ERROR_BYTES] = "";
    if (keyring_read(&keyring, input, error) != 0) {
        FUZZ_CHECK(error[0] != '\0' && strlen(error) < sizeof(error));
        return;
    }
    FUZZ_CHECK(keyring_count(keyring) > 0 && keyring_count(keyring) <= KEYRING_KEYS_MAX);
    for (uint32_t i = 0; i < keyring_passed_count(keyring); i++) {
        const struct key_passed *passed = keyring_passed(keyring, i);
        FUZZ_CHECK(passed->place < KEYRING_SET_KEYS_MAX && passed->why[0] != '\0');
        FUZZ_CHECK(i == 0 || passed->place > passed[-1].place);
    }
    FUZZ_CHECK(keyring_count(keyring) + keyring_passed_count(keyring) <= KEYRING_SET_KEYS_MAX);
    keyring_release(keyring);
}

/* Whether the text is a set of few enough keys, whatever they are. */
static bool is_set(const char *json)
{
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    size_t count = json_array_size(json_object_get(root, "keys"));
    json_decref(root);
    return count > 0 && count <= KEYRING_KEYS_MAX;
}

static void try_beside(struct bytes input)
{
    static const char head[] =
        "{\"keys\":[{\"kid\":\"ours\",\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT "\"},";
    char json[INPUT_BYTES_MAX + sizeof(head) + 4], error[KEYRING_ERROR_BYTES];
    struct keyring *keyring = NULL;
    const struct key *key = NULL;
    snprintf(json, sizeof(json), "%s%.*s]}", head, (int)input.size, (const char *)input.data);
    int failed = keyring_read(&keyring, bytes_of_text(json), error);
    FUZZ_CHECK(failed == 0 || !is_set(json));
    if (failed == 0 && is_set(json))
        FUZZ_CHECK(keyring_find(keyring, bytes_of_text("ours"), KEY_HS256, &key) == 0);
    keyring_release(keyring);
}

static enum token_refusal verify(struct bytes token)
{
    char error[KEYRING_ERROR_BYTES];
    struct keyring *keyring = NULL;
    struct token_claims claims = {0};
    FUZZ_CHECK(keyring_read(&keyring, bytes_of_text(TOKEN_KEYS), error) == 0);
    enum token_refusal refusal = token_verify(keyring, &rules, token, 1700000000000, &claims);
    FUZZ_CHECK(refusal < TOKEN_REFUSALS);
    if (refusal == TOKEN_GOOD) {
        FUZZ_CHECK(username_valid(bytes_of_text(claims.user)));
        FUZZ_CHECK(claims.expires_ms + rules.skew_ms > 1700000000000);
        FUZZ_CHECK(strlen(claims.rooms) <= TOKEN_ROOMS_BYTES_MAX);
    }
    keyring_release(keyring);
    return refusal;
}

static void try_signed(const char *input, size_t size)
{
    char token[TOKEN_MAKE_BYTES];
    size_t header = strnlen(input, size);
    size_t claims = size - header - (header < size);
    char *end = token_put(token, false, input, header);
    token_put(end, true, input + (size - claims), claims);
    token_sign_text(token);
    if (verify(bytes_of_text(token)) != TOKEN_GOOD)
        return;
    /* Anything that is good stays so for its signature alone. */
    char *last = token + strlen(token) - 2;
    *last = *last == 'A' ? 'B' : 'A';
    FUZZ_CHECK(verify(bytes_of_text(token)) == TOKEN_SIGNATURE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > INPUT_BYTES_MAX)
        return 0;
    /* A copy of just that size: a read beyond the end is seen. */
    uint8_t *copy = malloc(size > 1 ? size - 1 : 1);
    FUZZ_CHECK(copy != NULL);
    memcpy(copy, data + 1, size - 1);
    struct bytes rest = {copy, size - 1};
    if (data[0] % 4 == 0)
        try_keys(rest);
    else if (data[0] % 4 == 1)
        FUZZ_CHECK(verify(rest) != TOKEN_GOOD || memchr(copy, '.', rest.size) != NULL);
    else if (data[0] % 4 == 2)
        try_signed((const char *)copy, rest.size);
    else
        try_beside(rest);
    free(copy);
    return 0;
}
