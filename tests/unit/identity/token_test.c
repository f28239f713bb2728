/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "token_make.h"

enum { NOW_S = 1700000000 };
#define NOW_MS ((uint64_t)NOW_S * 1000)
#define CLAIMS "{\"sub\":\"alice\",\"exp\":1700000300}"

static const struct token_rules plain = {"", "", 0};

static struct keyring *keys_of(const char *json)
{
    struct keyring *keyring = NULL;
    char error[KEYRING_ERROR_BYTES] = "";
    if (keyring_read(&keyring, bytes_of_text(json), error) != 0)
        fail_msg("%s", error);
    return keyring;
}

static enum token_refusal judge_at(const char *keys, const struct token_rules *rules,
                                   const char *token, uint64_t now_ms, struct token_claims *claims)
{
    struct keyring *keyring = keys_of(keys);
    enum token_refusal refusal = token_verify(keyring, rules, bytes_of_text(token), now_ms, claims);
    keyring_release(keyring);
    return refusal;
}

static enum token_refusal judge(const char *header, const char *claims,
                                const struct token_rules *rules)
{
    char token[TOKEN_MAKE_BYTES];
    struct token_claims read;
    return judge_at(TOKEN_KEYS, rules, token_make(token, header, claims), NOW_MS, &read);
}

static void expect(enum token_refusal got, enum token_refusal wanted, const char *what)
{
    if (got != wanted)
        fail_msg("%s: %s instead of %s", what, token_refusal_name(got), token_refusal_name(wanted));
}

static void a_good_one(void **state)
{
    char token[TOKEN_MAKE_BYTES];
    struct token_claims claims;
    token_make(token, TOKEN_HEADER, CLAIMS);
    expect(judge_at(TOKEN_KEYS, &plain, token, NOW_MS, &claims), TOKEN_GOOD, "good");
    assert_string_equal(claims.user, "alice");
    assert_int_equal(claims.expires_ms, (uint64_t)1700000300 * 1000);
}

static void every_bit_counts(void **state)
{
    char token[TOKEN_MAKE_BYTES];
    struct token_claims claims;
    token_make(token, TOKEN_HEADER, CLAIMS);
    size_t size = strlen(token);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        token[bit / 8] = (char)(token[bit / 8] ^ 1 << bit % 8);
        if (token[bit / 8] != '\0')
            assert_int_not_equal(judge_at(TOKEN_KEYS, &plain, token, NOW_MS, &claims), TOKEN_GOOD);
        token[bit / 8] = (char)(token[bit / 8] ^ 1 << bit % 8);
    }
    for (size_t end = 0; end < size; end++) {
        char cut[TOKEN_MAKE_BYTES];
        snprintf(cut, sizeof(cut), "%.*s", (int)end, token);
        assert_int_not_equal(judge_at(TOKEN_KEYS, &plain, cut, NOW_MS, &claims), TOKEN_GOOD);
    }
}

static void shapes(void **state)
{
    char token[TOKEN_MAKE_BYTES], changed[TOKEN_MAKE_BYTES + 8];
    struct token_claims claims;
    token_make(token, TOKEN_HEADER, CLAIMS);
    expect(judge_at(TOKEN_KEYS, &plain, "", NOW_MS, &claims), TOKEN_MISSING, "empty");
    static const char *const wrong[] = {".", "..", "...", "a.b", "a.b.c.d", "a..c", ".b.c", "a.b."};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        expect(judge_at(TOKEN_KEYS, &plain, wrong[i], NOW_MS, &claims), TOKEN_MALFORMED, wrong[i]);
    static const char *const around[][2] = {{" ", ""}, {"", " "}, {"", "\n"},
                                            {"", "="}, {"", "."}, {"Bearer ", ""}};
    for (size_t i = 0; i < sizeof(around) / sizeof(*around); i++) {
        snprintf(changed, sizeof(changed), "%s%s%s", around[i][0], token, around[i][1]);
        expect(judge_at(TOKEN_KEYS, &plain, changed, NOW_MS, &claims), TOKEN_MALFORMED, changed);
    }
}

/* A token of exactly that many bytes, by a claim that nobody reads. Not every length can be had,
 * since three bytes make four characters; gives the size. */
static size_t sized(char *token, size_t wanted)
{
    char claims[TOKEN_MAKE_BYTES / 2];
    for (int padding = 0; padding < 4000; padding++) {
        snprintf(claims, sizeof(claims), "{\"sub\":\"alice\",\"exp\":1700000300,\"x\":\"%0*d\"}",
                 padding, 7);
        token_make(token, TOKEN_HEADER, claims);
        if (strlen(token) >= wanted)
            break;
    }
    return strlen(token);
}

static void no_longer_than_4096(void **state)
{
    char token[TOKEN_MAKE_BYTES];
    struct token_claims claims;
    assert_int_equal(sized(token, TOKEN_BYTES_MAX), TOKEN_BYTES_MAX);
    expect(judge_at(TOKEN_KEYS, &plain, token, NOW_MS, &claims), TOKEN_GOOD, "4096");
    assert_int_equal(sized(token, TOKEN_BYTES_MAX + 1), TOKEN_BYTES_MAX + 1);
    expect(judge_at(TOKEN_KEYS, &plain, token, NOW_MS, &claims), TOKEN_TOO_LONG, "4097");
}

static void headers(void **state)
{
    static const struct {
        const char *header;
        enum token_refusal wanted;
    } rows[] = {
        {"{\"alg\":\"HS256\",\"typ\":\"JWT\"}", TOKEN_GOOD},
        {"{\"alg\":\"HS256\",\"typ\":\"at+jwt\",\"x\":{\"y\":[1]}}", TOKEN_GOOD},
        {"{\"alg\":\"none\"}", TOKEN_ALGORITHM},
        {"{\"alg\":\"None\"}", TOKEN_ALGORITHM},
        {"{\"alg\":\"hs256\"}", TOKEN_ALGORITHM},
        {"{\"alg\":\"HS256 \"}", TOKEN_ALGORITHM},
        {"{\"alg\":\"HS384\"}", TOKEN_ALGORITHM},
        {"{\"alg\":\"RS256\"}", TOKEN_ALGORITHM},
        {"{\"alg\":\"EdDSA\"}", TOKEN_ALGORITHM},
        {"{\"alg\":\"\"}", TOKEN_ALGORITHM},
        {"{\"alg\":null}", TOKEN_ALGORITHM},
        {"{\"alg\":[\"HS256\"]}", TOKEN_ALGORITHM},
        {"{}", TOKEN_ALGORITHM},
        {"{\"alg\":\"HS256\",\"alg\":\"HS256\"}", TOKEN_MALFORMED},
        {"{\"alg\":\"none\",\"alg\":\"HS256\"}", TOKEN_MALFORMED},
        {"{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}", TOKEN_MALFORMED},
        {"{\"alg\":\"HS256\",\"crit\":[]}", TOKEN_MALFORMED},
        {"{\"alg\":\"HS256\",\"kid\":\"a\"}", TOKEN_KEY},
        {"{\"alg\":\"HS256\",\"kid\":\"\"}", TOKEN_KEY},
        {"{\"alg\":\"HS256\",\"kid\":7}", TOKEN_KEY},
        {"{\"alg\":\"HS256\",\"kid\":null}", TOKEN_KEY},
        {"[\"HS256\"]", TOKEN_MALFORMED},
        {"\"HS256\"", TOKEN_MALFORMED},
        {"{\"alg\":\"HS256\"} {}", TOKEN_MALFORMED},
        {"{\"alg\":\"HS256\\u0000\"}", TOKEN_MALFORMED},
        {"{\"alg\":\"\xff\"}", TOKEN_MALFORMED},
        {"x", TOKEN_MALFORMED},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        expect(judge(rows[i].header, CLAIMS, &plain), rows[i].wanted, rows[i].header);
}

/* Signed with HMAC under the text of a public key, which everybody knows. */
static void a_public_key_is_no_secret(void **state)
{
    static const char keys[] =
        "{\"keys\":[{\"alg\":\"EdDSA\",\"kty\":\"OKP\",\"crv\":\"Ed25519\","
        "\"x\":\"" TOKEN_SECRET_TEXT "\"}]}"; /* the same bytes as the secret that signs below */
    char token[TOKEN_MAKE_BYTES];
    struct token_claims claims;
    token_make(token, "{\"alg\":\"HS256\"}", CLAIMS);
    expect(judge_at(keys, &plain, token, NOW_MS, &claims), TOKEN_ALGORITHM, "HS256");
    token_make(token, "{\"alg\":\"EdDSA\"}", CLAIMS);
    expect(judge_at(keys, &plain, token, NOW_MS, &claims), TOKEN_SIGNATURE, "EdDSA");
}

static void several_keys(void **state)
{
    static const char keys[] =
        "{\"keys\":[{\"kid\":\"a\",\"alg\":\"HS256\",\"kty\":\"oct\",\"k\":\"" TOKEN_SECRET_TEXT
        "\"},"
        "{\"kid\":\"b\",\"alg\":\"HS256\",\"kty\":\"oct\","
        "\"k\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}";
    static const struct {
        const char *header;
        enum token_refusal wanted;
    } rows[] = {
        {"{\"alg\":\"HS256\",\"kid\":\"a\"}", TOKEN_GOOD},
        {"{\"alg\":\"HS256\",\"kid\":\"b\"}", TOKEN_SIGNATURE},
        {"{\"alg\":\"HS256\",\"kid\":\"c\"}", TOKEN_KEY},
        {"{\"alg\":\"HS256\"}", TOKEN_KEY},
        {"{\"alg\":\"HS256\",\"kid\":\"b\",\"kid\":\"a\"}", TOKEN_MALFORMED},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char token[TOKEN_MAKE_BYTES];
        struct token_claims claims;
        token_make(token, rows[i].header, CLAIMS);
        expect(judge_at(keys, &plain, token, NOW_MS, &claims), rows[i].wanted, rows[i].header);
    }
}

static void claims_of_the_wrong_kind(void **state)
{
    static const struct {
        const char *claims;
        enum token_refusal wanted;
    } rows[] = {
        {"{\"sub\":\"alice\"}", TOKEN_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":\"1700000300\"}", TOKEN_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":null}", TOKEN_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":true}", TOKEN_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":[1700000300]}", TOKEN_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":-1}", TOKEN_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1e300}", TOKEN_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":9223372036854775807}", TOKEN_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":18446744073709551616}", TOKEN_MALFORMED},
        {"{\"sub\":\"alice\",\"exp\":1700000300,\"nbf\":\"1\"}", TOKEN_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1700000300,\"nbf\":null}", TOKEN_CLAIMS},
        {"{\"sub\":\"alice\",\"exp\":1,\"exp\":1700000300}", TOKEN_MALFORMED},
        {"{\"sub\":\"bob\",\"sub\":\"alice\",\"exp\":1700000300}", TOKEN_MALFORMED},
        {"{\"sub\":\"alice\",\"exp\":1700000300}}", TOKEN_MALFORMED},
        {"[]", TOKEN_MALFORMED},
        {"null", TOKEN_MALFORMED},
        {"{\"exp\":1700000300}", TOKEN_SUBJECT},
        {"{\"sub\":\"\",\"exp\":1700000300}", TOKEN_SUBJECT},
        {"{\"sub\":7,\"exp\":1700000300}", TOKEN_SUBJECT},
        {"{\"sub\":\"a b\",\"exp\":1700000300}", TOKEN_SUBJECT},
        {"{\"sub\":\"!/a\",\"exp\":1700000300}", TOKEN_SUBJECT},
        {"{\"sub\":\"alic\\u00e9\",\"exp\":1700000300}", TOKEN_SUBJECT},
        {"{\"sub\":\"alice\\u0000\",\"exp\":1700000300}", TOKEN_MALFORMED},
        {"{\"sub\":\"alice\",\"exp\":1700000300.5,\"iat\":0}", TOKEN_GOOD},
        {"{\"sub\":\"alice\",\"exp\":1.7000003e9}", TOKEN_GOOD},
        {"{\"sub\":\"alice\",\"exp\":100000000000}", TOKEN_GOOD},
        {"{\"sub\":\"alice\",\"exp\":100000000001}", TOKEN_CLAIMS},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        expect(judge(TOKEN_HEADER, rows[i].claims, &plain), rows[i].wanted, rows[i].claims);
}

static void names_of_64_bytes_and_65(void **state)
{
    for (int size = 63; size <= 65; size++) {
        char text[256];
        snprintf(text, sizeof(text), "{\"sub\":\"%0*d\",\"exp\":1700000300}", size, 7);
        expect(judge(TOKEN_HEADER, text, &plain), size <= 64 ? TOKEN_GOOD : TOKEN_SUBJECT, text);
    }
}

static void times_to_the_ms(void **state)
{
    static const struct token_rules skewed = {"", "", 30000};
    static const struct {
        const char *claims;
        const struct token_rules *rules;
        uint64_t now_ms;
        enum token_refusal wanted;
    } rows[] = {
        {"{\"sub\":\"a\",\"exp\":1000}", &plain, 999999, TOKEN_GOOD},
        {"{\"sub\":\"a\",\"exp\":1000}", &plain, 1000000, TOKEN_EXPIRED},
        {"{\"sub\":\"a\",\"exp\":1000.5}", &plain, 1000499, TOKEN_GOOD},
        {"{\"sub\":\"a\",\"exp\":1000.5}", &plain, 1000500, TOKEN_EXPIRED},
        {"{\"sub\":\"a\",\"exp\":1000}", &skewed, 1029999, TOKEN_GOOD},
        {"{\"sub\":\"a\",\"exp\":1000}", &skewed, 1030000, TOKEN_EXPIRED},
        {"{\"sub\":\"a\",\"exp\":0}", &plain, 0, TOKEN_EXPIRED},
        {"{\"sub\":\"a\",\"exp\":2000,\"nbf\":1000}", &plain, 999999, TOKEN_NOT_YET},
        {"{\"sub\":\"a\",\"exp\":2000,\"nbf\":1000}", &plain, 1000000, TOKEN_GOOD},
        {"{\"sub\":\"a\",\"exp\":2000,\"nbf\":1000}", &skewed, 969999, TOKEN_NOT_YET},
        {"{\"sub\":\"a\",\"exp\":2000,\"nbf\":1000}", &skewed, 970000, TOKEN_GOOD},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char token[TOKEN_MAKE_BYTES];
        struct token_claims claims;
        token_make(token, TOKEN_HEADER, rows[i].claims);
        expect(judge_at(TOKEN_KEYS, rows[i].rules, token, rows[i].now_ms, &claims), rows[i].wanted,
               rows[i].claims);
    }
}

#define WITH(members) "{\"sub\":\"alice\",\"exp\":1700000300" members "}"

static void issuer_and_audience(void **state)
{
    static const struct token_rules ours = {"login", "", 0}, game = {"", "game", 0};
    static const struct {
        const char *claims;
        const struct token_rules *rules;
        enum token_refusal wanted;
    } rows[] = {
        {WITH(",\"iss\":\"login\""), &ours, TOKEN_GOOD},
        {WITH(",\"iss\":\"other\""), &plain, TOKEN_GOOD},
        {WITH(""), &ours, TOKEN_ISSUER},
        {WITH(",\"iss\":\"Login\""), &ours, TOKEN_ISSUER},
        {WITH(",\"iss\":\"login2\""), &ours, TOKEN_ISSUER},
        {WITH(",\"iss\":[\"login\"]"), &ours, TOKEN_ISSUER},
        {WITH(",\"aud\":\"game\""), &game, TOKEN_GOOD},
        {WITH(",\"aud\":[\"web\",\"game\"]"), &game, TOKEN_GOOD},
        {WITH(",\"aud\":[]"), &game, TOKEN_AUDIENCE},
        {WITH(",\"aud\":[\"web\"]"), &game, TOKEN_AUDIENCE},
        {WITH(",\"aud\":[[\"game\"]]"), &game, TOKEN_AUDIENCE},
        {WITH(",\"aud\":{\"game\":1}"), &game, TOKEN_AUDIENCE},
        {WITH(",\"aud\":\"games\""), &game, TOKEN_AUDIENCE},
        {WITH(""), &game, TOKEN_AUDIENCE},
        {WITH(",\"aud\":\"game\""), &plain, TOKEN_AUDIENCE},
        {WITH(",\"aud\":\"\""), &plain, TOKEN_AUDIENCE},
        {WITH(",\"aud\":[]"), &plain, TOKEN_AUDIENCE},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        expect(judge(TOKEN_HEADER, rows[i].claims, rows[i].rules), rows[i].wanted, rows[i].claims);
}

#define NAME_64 "0123456789012345678901234567890123456789012345678901234567890123"

/* Up to sixteen names or beginnings of names; anything else is no token. */
static void rooms(void **state)
{
    static const struct {
        const char *claims, *rooms; /* NULL: refused */
    } rows[] = {
        {WITH(""), ""},
        {WITH(",\"rooms\":[]"), ""},
        {WITH(",\"rooms\":[\"lobby\"]"), "lobby"},
        {WITH(",\"rooms\":[\"match:7\",\"party:*\",\"*\"]"), "match:7 party:* *"},
        {WITH(",\"rooms\":[\"" NAME_64 "\",\"" NAME_64 "*\"]"), NAME_64 " " NAME_64 "*"},
        {WITH(",\"rooms\":[\"" NAME_64 "x\"]"), NULL},
        {WITH(",\"rooms\":[\"" NAME_64 "x*\"]"), NULL},
        {WITH(",\"rooms\":\"lobby\""), NULL},
        {WITH(",\"rooms\":null"), NULL},
        {WITH(",\"rooms\":{\"lobby\":true}"), NULL},
        {WITH(",\"rooms\":[7]"), NULL},
        {WITH(",\"rooms\":[[\"lobby\"]]"), NULL},
        {WITH(",\"rooms\":[\"\"]"), NULL},
        {WITH(",\"rooms\":[\"a b\"]"), NULL},
        {WITH(",\"rooms\":[\"#a\"]"), NULL},
        {WITH(",\"rooms\":[\"a*b\"]"), NULL},
        {WITH(",\"rooms\":[\"**\"]"), NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char token[TOKEN_MAKE_BYTES];
        struct token_claims claims;
        token_make(token, TOKEN_HEADER, rows[i].claims);
        expect(judge_at(TOKEN_KEYS, &plain, token, NOW_MS, &claims),
               rows[i].rooms != NULL ? TOKEN_GOOD : TOKEN_CLAIMS, rows[i].claims);
        if (rows[i].rooms != NULL)
            assert_string_equal(claims.rooms, rows[i].rooms);
    }
}

/* The longest that there are fill the room for them, and one more is too many. */
static void sixteen_rooms_and_seventeen(void **state)
{
    for (unsigned count = TOKEN_ROOMS_MAX; count <= TOKEN_ROOMS_MAX + 1; count++) {
        char token[TOKEN_MAKE_BYTES],
            text[4096] = "{\"sub\":\"alice\",\"exp\":1700000300,\"rooms\":[";
        struct token_claims claims;
        for (unsigned i = 0; i < count; i++)
            strcat(text, i > 0 ? ",\"" NAME_64 "*\"" : "\"" NAME_64 "*\"");
        strcat(text, "]}");
        token_make(token, TOKEN_HEADER, text);
        expect(judge_at(TOKEN_KEYS, &plain, token, NOW_MS, &claims),
               count <= TOKEN_ROOMS_MAX ? TOKEN_GOOD : TOKEN_CLAIMS, text);
        if (count == TOKEN_ROOMS_MAX)
            assert_int_equal(strlen(claims.rooms), TOKEN_ROOMS_BYTES_MAX);
    }
}

/* What a stranger can write costs nothing but the signature: the claims are not even JSON. */
static void nothing_is_read_before_the_signature(void **state)
{
    char token[TOKEN_MAKE_BYTES];
    struct token_claims claims;
    token_make(token, TOKEN_HEADER, "not JSON");
    expect(judge_at(TOKEN_KEYS, &plain, token, NOW_MS, &claims), TOKEN_MALFORMED, "signed");
    token[strlen(token) - 2] = token[strlen(token) - 2] == 'A' ? 'B' : 'A';
    expect(judge_at(TOKEN_KEYS, &plain, token, NOW_MS, &claims), TOKEN_SIGNATURE, "not signed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_one),
        cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(shapes),
        cmocka_unit_test(no_longer_than_4096),
        cmocka_unit_test(headers),
        cmocka_unit_test(a_public_key_is_no_secret),
        cmocka_unit_test(several_keys),
        cmocka_unit_test(claims_of_the_wrong_kind),
        cmocka_unit_test(names_of_64_bytes_and_65),
        cmocka_unit_test(times_to_the_ms),
        cmocka_unit_test(issuer_and_audience),
        cmocka_unit_test(rooms),
        cmocka_unit_test(sixteen_rooms_and_seventeen),
        cmocka_unit_test(nothing_is_read_before_the_signature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
