/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/tokens.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "usher-token/keys.h"

/* An operator has either the key with which his login service signs (at least in a staging place),
 * or a way to have tokens made: so both, a key set and a file with a line for each user. */

enum { LIFE_S = 24 * 3600 };

struct bench_tokens {
    uint64_t count;
    char *texts[];
};

static int read_lines(struct bench_tokens *tokens, uint64_t users, const char *path, char *error)
{
    FILE *file = fopen(path, "re");
    size_t room = 0;
    if (file == NULL) {
        snprintf(error, TOKENS_ERROR_BYTES, "%.100s: %s", path, strerror(errno));
        return -EINVAL;
    }
    while (tokens->count < users) {
        char **line = &tokens->texts[tokens->count];
        room = 0;
        if (getline(line, &room, file) < 0) {
            free(*line); /* it makes room before it looks */
            break;
        }
        (*line)[strcspn(*line, "\r\n")] = '\0';
        tokens->count++;
    }
    fclose(file);
    if (tokens->count == users)
        return 0;
    snprintf(error, TOKENS_ERROR_BYTES, "%.60s holds %" PRIu64 " tokens for %" PRIu64 " users",
             path, tokens->count, users);
    return -EINVAL;
}

/* One user's, as a login service would. */
static char *make(const struct bench_options *options, const json_t *key, uint64_t number)
{
    json_int_t now = (json_int_t)time(NULL);
    char *user = NULL;
    if (asprintf(&user, "%s%" PRIu64, options->prefix, number) < 0)
        return NULL;
    json_t *claims = json_pack("{s:s, s:I, s:I}", "sub", user, "iat", now, "exp", now + LIFE_S);
    if (options->issuer != NULL)
        json_object_set_new(claims, "iss", json_string(options->issuer));
    if (options->audience != NULL)
        json_object_set_new(claims, "aud", json_string(options->audience));
    char *token = claims != NULL ? token_sign(key, claims) : NULL;
    json_decref(claims);
    free(user);
    return token;
}

static int make_all(struct bench_tokens *tokens, const struct bench_options *options, char *error)
{
    json_t *set = json_load_file(options->token_key, 0, NULL);
    const json_t *key = json_array_get(json_object_get(set, "keys"), 0);
    while (key != NULL && tokens->count < options->users) {
        char *token = make(options, key, tokens->count);
        if (token == NULL)
            break;
        tokens->texts[tokens->count++] = token;
    }
    json_decref(set);
    if (tokens->count == options->users)
        return 0;
    snprintf(error, TOKENS_ERROR_BYTES,
             "%.60s has no key that can sign: usher-token keygen --out FILE makes one",
             options->token_key);
    return -EINVAL;
}

int tokens_open(struct bench_tokens **out, const struct bench_options *options,
                char error[TOKENS_ERROR_BYTES])
{
    *out = NULL;
    if (options->tokens_file == NULL && options->token_key == NULL)
        return 0;
    struct bench_tokens *tokens =
        calloc(1, sizeof(*tokens) + options->users * sizeof(*tokens->texts));
    if (tokens == NULL) {
        snprintf(error, TOKENS_ERROR_BYTES, "no memory");
        return -ENOMEM;
    }
    *out = tokens;
    return options->tokens_file != NULL
               ? read_lines(tokens, options->users, options->tokens_file, error)
               : make_all(tokens, options, error);
}

struct bytes tokens_of(const struct bench_tokens *tokens, uint32_t number)
{
    return tokens != NULL ? bytes_of_text(tokens->texts[number]) : (struct bytes){NULL, 0};
}

void tokens_close(struct bench_tokens *tokens)
{
    if (tokens == NULL)
        return;
    for (uint64_t i = 0; i < tokens->count; i++)
        free(tokens->texts[i]);
    free(tokens);
}
