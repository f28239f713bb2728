/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/token.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "identity/base64url.h"

/* One strict reading, in the order in which trust grows: shape and size, the header, the key that
 * it names, the signature, and only then what the token claims. The header is the one thing that
 * is believed before the signature, and only to choose a key: its `alg` must be that key's own.
 *
 * JSON objects in which a member stands twice are refused, because another reader of the same
 * token might take the other one. So is `crit`: it names what a verifier must understand, and this
 * one understands no extension. Times are compared in ms; `exp` is the first moment at which the
 * token is no good any more. */

enum { HEADER_BYTES_MAX = 1024, SIGNATURE_BYTES_MAX = 1024 };

static const double seconds_max = 1e11; /* the year 5138; in ms it is far from overflowing */

static const struct {
    const char *name, *text;
} refusals[TOKEN_REFUSALS] = {
    [TOKEN_GOOD] = {"good", "the token is good"},
#define REFUSAL(id, name, text) [TOKEN_##id] = {#name, text},
#include "identity/refusal.def"
#undef REFUSAL
};

const char *token_refusal_name(enum token_refusal refusal)
{
    return refusals[refusal].name;
}

const char *token_refusal_text(enum token_refusal refusal)
{
    return refusals[refusal].text;
}

/* --- the three parts -------------------------------------------------------------------------- */

struct parts {
    struct bytes header, payload, signature;
    struct bytes signed_text; /* header, dot, payload */
};

/* False: not three parts, or one is empty. */
static bool split(struct bytes token, struct parts *parts)
{
    const uint8_t *end = token.data + token.size;
    const uint8_t *first = memchr(token.data, '.', token.size);
    if (first == NULL)
        return false;
    const uint8_t *second = memchr(first + 1, '.', (size_t)(end - first - 1));
    if (second == NULL || memchr(second + 1, '.', (size_t)(end - second - 1)) != NULL)
        return false;
    parts->header = (struct bytes){token.data, (size_t)(first - token.data)};
    parts->payload = (struct bytes){first + 1, (size_t)(second - first - 1)};
    parts->signature = (struct bytes){second + 1, (size_t)(end - second - 1)};
    parts->signed_text = (struct bytes){token.data, (size_t)(second - token.data)};
    return parts->header.size > 0 && parts->payload.size > 0 && parts->signature.size > 0;
}

/* The object that a part holds; NULL: none, or one of its members is there twice. */
static json_t *read_object(struct bytes part)
{
    uint8_t json[BASE64URL_BYTES(TOKEN_BYTES_MAX)];
    size_t size = 0;
    if (base64url_decode(part, json, sizeof(json), &size) != 0)
        return NULL;
    json_t *object = json_loadb((const char *)json, size, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(object))
        return object;
    json_decref(object);
    return NULL;
}

static struct bytes text_of(const json_t *value)
{
    return (struct bytes){(const uint8_t *)json_string_value(value), json_string_length(value)};
}

/* --- the header ------------------------------------------------------------------------------- */

static enum token_refusal choose_key(const struct keyring *keyring, const json_t *header,
                                     const struct key **key)
{
    const json_t *kid = json_object_get(header, "kid");
    const json_t *alg = json_object_get(header, "alg");
    if (json_object_get(header, "crit") != NULL)
        return TOKEN_MALFORMED;
    if (kid != NULL && json_string_length(kid) == 0) /* also when it is no text */
        return TOKEN_KEY;
    int algorithm = json_is_string(alg) ? key_algorithm_find(text_of(alg)) : -ENOENT;
    int failed =
        keyring_find(keyring, kid != NULL ? text_of(kid) : (struct bytes){0}, algorithm, key);
    if (failed == 0)
        return TOKEN_GOOD;
    return failed == -ENOTSUP ? TOKEN_ALGORITHM : TOKEN_KEY;
}

static enum token_refusal check_signature(const struct keyring *keyring, const struct parts *parts)
{
    uint8_t signature[SIGNATURE_BYTES_MAX];
    size_t size = 0;
    const struct key *key = NULL;
    if (parts->header.size > HEADER_BYTES_MAX ||
        base64url_decode(parts->signature, signature, sizeof(signature), &size) != 0)
        return TOKEN_MALFORMED;
    json_t *header = read_object(parts->header);
    enum token_refusal refusal =
        header != NULL ? choose_key(keyring, header, &key) : TOKEN_MALFORMED;
    json_decref(header);
    if (refusal != TOKEN_GOOD)
        return refusal;
    return key_verify(key, parts->signed_text, (struct bytes){signature, size}) ? TOKEN_GOOD
                                                                                : TOKEN_SIGNATURE;
}

/* --- the claims ------------------------------------------------------------------------------- */

/* Seconds, perhaps with a fraction. False: not there, or not a time that can be. */
static bool read_time(const json_t *claims, const char *name, uint64_t *time_ms)
{
    const json_t *value = json_object_get(claims, name);
    double seconds = json_number_value(value);
    if (!json_is_number(value) || !(seconds >= 0) || seconds > seconds_max)
        return false;
    *time_ms = (uint64_t)(seconds * 1000);
    return true;
}

static enum token_refusal check_times(const json_t *object, const struct token_rules *rules,
                                      uint64_t now_ms, uint64_t *expires_ms)
{
    uint64_t not_before_ms = 0;
    if (!read_time(object, "exp", expires_ms))
        return TOKEN_CLAIMS;
    if (json_object_get(object, "nbf") != NULL && !read_time(object, "nbf", &not_before_ms))
        return TOKEN_CLAIMS;
    if (now_ms >= *expires_ms + rules->skew_ms)
        return TOKEN_EXPIRED;
    return now_ms + rules->skew_ms < not_before_ms ? TOKEN_NOT_YET : TOKEN_GOOD;
}

static bool is_text(const json_t *value, const char *wanted)
{
    return json_is_string(value) && bytes_equal(text_of(value), bytes_of_text(wanted));
}

static enum token_refusal check_issuer(const json_t *object, const struct token_rules *rules)
{
    return rules->issuer[0] == '\0' || is_text(json_object_get(object, "iss"), rules->issuer)
               ? TOKEN_GOOD
               : TOKEN_ISSUER;
}

/* Who is not told what to answer to must not take a token that is meant for somebody. */
static enum token_refusal check_audience(const json_t *object, const struct token_rules *rules)
{
    const json_t *audience = json_object_get(object, "aud");
    if (rules->audience[0] == '\0')
        return audience == NULL ? TOKEN_GOOD : TOKEN_AUDIENCE;
    if (is_text(audience, rules->audience))
        return TOKEN_GOOD;
    for (size_t i = 0; i < json_array_size(audience); i++)
        if (is_text(json_array_get(audience, i), rules->audience))
            return TOKEN_GOOD;
    return TOKEN_AUDIENCE;
}

static enum token_refusal read_subject(const json_t *object, struct token_claims *claims)
{
    const json_t *subject = json_object_get(object, "sub");
    struct bytes name = text_of(subject);
    if (!json_is_string(subject) || !username_valid(name))
        return TOKEN_SUBJECT;
    memcpy(claims->user, name.data, name.size);
    claims->user[name.size] = '\0';
    return TOKEN_GOOD;
}

/* A name of a room, or the beginning of one, which may be empty, and a *. */
static bool is_pattern(struct bytes text)
{
    bool open = text.size > 0 && text.data[text.size - 1] == '*';
    text.size -= open;
    return username_valid(text) || (open && text.size == 0);
}

bool token_add_room(char rooms[TOKEN_ROOMS_BYTES_MAX + 1], size_t count, struct bytes room)
{
    size_t size = strlen(rooms);
    if (count >= TOKEN_ROOMS_MAX || !is_pattern(room))
        return false;
    if (count > 0)
        rooms[size++] = ' ';
    memcpy(rooms + size, room.data, room.size);
    rooms[size + room.size] = '\0';
    return true;
}

/* Anything but an array of them is no token at all: whoever wrote it meant to let somebody in
 * somewhere, and nobody would see that it has failed. */
static enum token_refusal read_rooms(const json_t *object, struct token_claims *claims)
{
    const json_t *rooms = json_object_get(object, "rooms");
    claims->rooms[0] = '\0';
    if (rooms == NULL)
        return TOKEN_GOOD;
    if (!json_is_array(rooms))
        return TOKEN_CLAIMS;
    for (size_t i = 0; i < json_array_size(rooms); i++) {
        struct bytes room = text_of(json_array_get(rooms, i));
        if (!json_is_string(json_array_get(rooms, i)) || !token_add_room(claims->rooms, i, room))
            return TOKEN_CLAIMS;
    }
    return TOKEN_GOOD;
}

static enum token_refusal check_claims(const json_t *object, const struct token_rules *rules,
                                       uint64_t now_ms, struct token_claims *claims)
{
    enum token_refusal refusal = check_times(object, rules, now_ms, &claims->expires_ms);
    if (refusal == TOKEN_GOOD)
        refusal = check_issuer(object, rules);
    if (refusal == TOKEN_GOOD)
        refusal = check_audience(object, rules);
    if (refusal == TOKEN_GOOD)
        refusal = read_subject(object, claims);
    return refusal == TOKEN_GOOD ? read_rooms(object, claims) : refusal;
}

enum token_refusal token_verify(const struct keyring *keyring, const struct token_rules *rules,
                                struct bytes token, uint64_t now_ms, struct token_claims *claims)
{
    struct parts parts;
    if (token.size == 0)
        return TOKEN_MISSING;
    if (token.size > TOKEN_BYTES_MAX)
        return TOKEN_TOO_LONG;
    if (!split(token, &parts))
        return TOKEN_MALFORMED;
    enum token_refusal refusal = check_signature(keyring, &parts);
    if (refusal != TOKEN_GOOD)
        return refusal;
    json_t *object = read_object(parts.payload);
    refusal = object != NULL ? check_claims(object, rules, now_ms, claims) : TOKEN_MALFORMED;
    json_decref(object);
    return refusal;
}
