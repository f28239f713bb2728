/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/options.h"
#include "files/token_file.h"
#include "identity/token.h"
#include "usher-token/keys.h"

/* The program usher-token: keys and tokens for development, and a look at a token that a broker
 * refused. A login service does the same with the library of its own language; nothing here is
 * special. Keys and tokens that go to a file can be read by their owner alone, from birth. */

enum { EXIT_OK = 0, EXIT_NOT_GOOD = 1, EXIT_WRONG_USE = 64, EXIT_FILE = 74 };
enum { TTL_S_DEFAULT = 300, TOKEN_ROOM = TOKEN_BYTES_MAX + 2 };

struct arguments {
    const char *algorithm, *kid, *out, *add, *keys, *sub, *issuer, *audience, *ttl, *not_before,
        *token_file, *rooms;
};

static const char USAGE[] =
    "usage: usher-token keygen [--algorithm A] [--kid NAME] [--out FILE | --add FILE]\n"
    "       usher-token public --keys FILE [--out FILE]\n"
    "       usher-token sign   --keys FILE [--kid NAME] --sub USER [--ttl SECONDS]\n"
    "                          [--not-before SECONDS] [--issuer I] [--audience A]\n"
    "                          [--rooms LIST] [--out FILE]\n"
    "       usher-token check  --keys FILE [--issuer I] [--audience A] [--token-file FILE]\n"
    "\n"
    "keygen makes a key: HS256, EdDSA (default), ES256 or RS256. public gives the keys without\n"
    "their private parts, which is what usherd's auth.keys_file needs. sign prints a token.\n"
    "check says whether usherd would take a token.\n"
    "\n"
    "  --kid NAME            of the key (dev; sign: the first key)\n"
    "  --out FILE            a new file, mode 0600, instead of stdout\n"
    "  --add FILE            add the key to that file, or make it\n"
    "  --keys FILE           a key set\n"
    "  --ttl SECONDS         how long the token is good (300); a negative one has expired\n"
    "  --not-before SECONDS  from now until it is good\n"
    "  --rooms LIST          rooms that the user may join, with commas between them; m:* are all "
    "that\n"
    "                        begin with m:\n"
    "  --token-file FILE     the token; without it, stdin\n"
    "  --help, --version\n"
    "\n"
    "Exit codes: 0 ok, 1 the token or key is not good, 64 usage, 74 a file.\n";

static void print_help(void)
{
    fputs(USAGE, stdout);
}

static int fail(int code, const char *what, const char *which)
{
    fprintf(stderr, "usher-token: %s%s%s\n", what, which[0] != '\0' ? ": " : "", which);
    return code;
}

/* --- files ------------------------------------------------------------------------------------ */

static int write_all(int file, const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        ssize_t done = write(file, text, left);
        if (done < 0)
            return -errno;
        text += done;
        left -= (size_t)done;
    }
    return 0;
}

/* A file that was not there before, readable by its owner alone. */
static int write_new(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (file < 0)
        return -errno;
    int error = write_all(file, text);
    if (close(file) != 0 && error == 0)
        error = -errno;
    return error;
}

/* The file as a whole or as it was before: written beside it first. */
static int replace(const char *path, const char *text)
{
    char *beside = NULL;
    if (asprintf(&beside, "%s.new", path) < 0)
        return -ENOMEM;
    int error = write_new(beside, text);
    if (error == 0 && rename(beside, path) != 0)
        error = -errno;
    free(beside);
    return error;
}

static int put_text(const char *path, const char *text)
{
    if (path == NULL) {
        puts(text);
        return EXIT_OK;
    }
    char *line = NULL;
    int error = asprintf(&line, "%s\n", text) < 0 ? -ENOMEM : write_new(path, line);
    free(line);
    return error == 0 ? EXIT_OK : fail(EXIT_FILE, path, strerror(-error));
}

/* `over`: the file was there, and keeps what it had. */
static int put_set(const char *path, json_t *keys, bool over)
{
    json_t *set = json_pack("{s:O}", "keys", keys);
    char *text = set != NULL ? json_dumps(set, JSON_INDENT(2)) : NULL;
    int code = EXIT_OK;
    if (text == NULL)
        code = fail(EXIT_FILE, "no memory", "");
    else if (!over)
        code = put_text(path, text);
    else {
        int error = replace(path, text);
        code = error == 0 ? EXIT_OK : fail(EXIT_FILE, path, strerror(-error));
    }
    free(text);
    json_decref(set);
    return code;
}

/* What the broker would not use of a set. */
static void tell_passed(const struct keyring *keyring)
{
    for (uint32_t i = 0; i < keyring_passed_count(keyring); i++) {
        const struct key_passed *passed = keyring_passed(keyring, i);
        fprintf(stderr, "usher-token: not used: keys[%u]: %s\n", passed->place, passed->why);
    }
}

/* The keys of a set, after the broker's own reader has found one in it that it can use. NULL: told.
 */
static json_t *read_keys(const char *path)
{
    char error[KEYRING_ERROR_BYTES];
    struct keyring *keyring;
    if (path == NULL) {
        fail(EXIT_WRONG_USE, "--keys is missing", "");
        return NULL;
    }
    if (keyring_load(&keyring, path, error) != 0) {
        fail(EXIT_FILE, path, error);
        return NULL;
    }
    tell_passed(keyring);
    keyring_release(keyring);
    json_t *set = json_load_file(path, 0, NULL);
    json_t *keys = json_incref(json_object_get(set, "keys"));
    json_decref(set);
    if (keys == NULL)
        fail(EXIT_FILE, path, "it has changed");
    return keys;
}

/* --- commands --------------------------------------------------------------------------------- */

static int run_keygen(const struct arguments *arguments)
{
    const char *algorithm = arguments->algorithm != NULL ? arguments->algorithm : "EdDSA";
    bool add = arguments->add != NULL && access(arguments->add, F_OK) == 0;
    json_t *key = token_key_generate(algorithm, arguments->kid != NULL ? arguments->kid : "dev");
    if (key == NULL)
        return fail(EXIT_WRONG_USE, "no such algorithm", algorithm);
    json_t *keys = add ? read_keys(arguments->add) : json_array();
    int code = EXIT_FILE;
    if (keys != NULL && json_array_append(keys, key) == 0)
        code = put_set(arguments->add != NULL ? arguments->add : arguments->out, keys, add);
    json_decref(keys);
    json_decref(key);
    return code;
}

static int run_public(const struct arguments *arguments)
{
    json_t *keys = read_keys(arguments->keys);
    json_t *public = json_array();
    int code = keys != NULL && public != NULL ? EXIT_OK : EXIT_FILE;
    for (size_t i = 0; code == EXIT_OK && i < json_array_size(keys); i++) {
        const json_t *key = json_array_get(keys, i);
        if (token_key_algorithm(key) == KEY_HS256)
            code = fail(EXIT_NOT_GOOD, "a key of HS256 is secret as a whole", "");
        else if (token_key_algorithm(key) >= 0) /* what of the others is secret we cannot know */
            json_array_append_new(public, token_key_public(key));
    }
    if (code == EXIT_OK)
        code = put_set(arguments->out, public, false);
    json_decref(public);
    json_decref(keys);
    return code;
}

/* The first one that can be used, or the one of that name. */
static const json_t *choose_key(const json_t *keys, const char *kid)
{
    for (size_t i = 0; i < json_array_size(keys); i++) {
        const json_t *key = json_array_get(keys, i);
        const char *name = json_string_value(json_object_get(key, "kid"));
        if (token_key_algorithm(key) >= 0 &&
            (kid == NULL || (name != NULL && strcmp(name, kid) == 0)))
            return key;
    }
    return NULL;
}

static bool read_seconds(const char *text, long long *seconds)
{
    char *end;
    errno = 0;
    *seconds = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *seconds > -4000000000LL &&
           *seconds < 4000000000LL;
}

/* NULL: more than a token may hold, or one is neither a name nor the beginning of one and a *; or
 * no memory. */
static json_t *make_rooms(const char *list)
{
    json_t *rooms = json_array();
    bool good = rooms != NULL;
    while (good) {
        size_t size = strcspn(list, ",");
        bool open = size > 0 && list[size - 1] == '*';
        struct bytes name = {(const uint8_t *)list, size - open};
        good = (username_valid(name) || (open && name.size == 0)) &&
               json_array_size(rooms) < TOKEN_ROOMS_MAX &&
               json_array_append_new(rooms, json_stringn(list, size)) == 0;
        if (list[size] == '\0')
            break;
        list += size + 1;
    }
    if (good)
        return rooms;
    json_decref(rooms);
    return NULL;
}

static json_t *make_claims(const struct arguments *arguments, long long ttl_s,
                           long long not_before_s)
{
    json_int_t now = (json_int_t)time(NULL);
    json_t *claims = json_pack("{s:s, s:I, s:I}", "sub", arguments->sub, "iat", now, "exp",
                               now + (json_int_t)ttl_s);
    if (claims == NULL)
        return NULL;
    if (arguments->not_before != NULL)
        json_object_set_new(claims, "nbf", json_integer(now + (json_int_t)not_before_s));
    if (arguments->issuer != NULL)
        json_object_set_new(claims, "iss", json_string(arguments->issuer));
    if (arguments->audience != NULL)
        json_object_set_new(claims, "aud", json_string(arguments->audience));
    if (arguments->rooms != NULL)
        json_object_set_new(claims, "rooms", make_rooms(arguments->rooms));
    return claims;
}

static int run_sign(const struct arguments *arguments)
{
    long long ttl_s = TTL_S_DEFAULT, not_before_s = 0;
    if (arguments->sub == NULL)
        return fail(EXIT_WRONG_USE, "--sub is missing", "");
    if (!username_valid(bytes_of_text(arguments->sub)))
        return fail(EXIT_WRONG_USE, "--sub is not a name: 1 to 64 of A-Z a-z 0-9 . _ - @ : +",
                    arguments->sub);
    if (arguments->ttl != NULL && !read_seconds(arguments->ttl, &ttl_s))
        return fail(EXIT_WRONG_USE, "--ttl is no number of seconds", arguments->ttl);
    if (arguments->not_before != NULL && !read_seconds(arguments->not_before, &not_before_s))
        return fail(EXIT_WRONG_USE, "--not-before is no number of seconds", arguments->not_before);
    json_t *rooms = arguments->rooms != NULL ? make_rooms(arguments->rooms) : NULL;
    if (arguments->rooms != NULL && rooms == NULL)
        return fail(EXIT_WRONG_USE, "--rooms are 16 names at most, each may end with *",
                    arguments->rooms);
    json_decref(rooms);
    json_t *keys = read_keys(arguments->keys);
    if (keys == NULL)
        return EXIT_FILE;
    const json_t *key = choose_key(keys, arguments->kid);
    json_t *claims = make_claims(arguments, ttl_s, not_before_s);
    char *token = key != NULL && claims != NULL ? token_sign(key, claims) : NULL;
    int code = token != NULL ? put_text(arguments->out, token)
                             : fail(EXIT_NOT_GOOD, "no such key, or it cannot sign", "");
    free(token);
    json_decref(claims);
    json_decref(keys);
    return code;
}

/* A token of a login, from a file as the clients read it, or all of stdin. EXIT_OK, with a text
 * that is the caller's to free, or it was said what is wrong. */
static int read_token(const char *path, char **token, size_t *size)
{
    if (path != NULL) {
        int error = token_file_read(path, token, size);
        return error == 0 ? EXIT_OK : fail(EXIT_FILE, path, token_file_fault(error));
    }
    *token = malloc(TOKEN_ROOM);
    if (*token == NULL)
        return fail(EXIT_FILE, "no memory", "");
    *size = fread(*token, 1, TOKEN_ROOM, stdin);
    *size -= *size > 0 && (*token)[*size - 1] == '\n';
    return EXIT_OK;
}

static int check_token(const struct arguments *arguments, struct bytes token)
{
    char error[KEYRING_ERROR_BYTES];
    struct keyring *keyring;
    if (keyring_load(&keyring, arguments->keys, error) != 0)
        return fail(EXIT_FILE, arguments->keys, error);
    tell_passed(keyring);
    struct token_rules rules = {arguments->issuer != NULL ? arguments->issuer : "",
                                arguments->audience != NULL ? arguments->audience : "", 0};
    struct token_claims claims;
    enum token_refusal refusal =
        token_verify(keyring, &rules, token, (uint64_t)time(NULL) * 1000, &claims);
    keyring_release(keyring);
    if (refusal != TOKEN_GOOD)
        return fail(EXIT_NOT_GOOD, token_refusal_name(refusal), token_refusal_text(refusal));
    printf("good: %s, for another %lld s%s%s\n", claims.user,
           (long long)(claims.expires_ms / 1000) - (long long)time(NULL),
           claims.rooms[0] != '\0' ? ", rooms " : "", claims.rooms);
    return EXIT_OK;
}

static int run_check(const struct arguments *arguments)
{
    char *token;
    size_t size;
    if (arguments->keys == NULL)
        return fail(EXIT_WRONG_USE, "--keys is missing", "");
    int code = read_token(arguments->token_file, &token, &size);
    if (code != EXIT_OK)
        return code;
    code = check_token(arguments, (struct bytes){(const uint8_t *)token, size});
    free(token);
    return code;
}

/* --- command line ----------------------------------------------------------------------------- */

enum {
    COMMAND_KEYGEN,
    COMMAND_PUBLIC,
    COMMAND_SIGN,
    COMMAND_CHECK,
    COMMANDS,
};

static const struct command {
    const char *name;
    int (*run)(const struct arguments *arguments);
} commands[COMMANDS] = {
    [COMMAND_KEYGEN] = {"keygen", run_keygen},
    [COMMAND_PUBLIC] = {"public", run_public},
    [COMMAND_SIGN] = {"sign", run_sign},
    [COMMAND_CHECK] = {"check", run_check},
};

enum {
    KEYGEN = 1 << COMMAND_KEYGEN,
    PUBLIC = 1 << COMMAND_PUBLIC,
    SIGN = 1 << COMMAND_SIGN,
    CHECK = 1 << COMMAND_CHECK,
};

#define FIELD(field) offsetof(struct arguments, field)

static const struct option_row rows[] = {
    {.name = "algorithm", .type = OPTION_TEXT, .offset = FIELD(algorithm), .commands = KEYGEN},
    {.name = "kid", .type = OPTION_TEXT, .offset = FIELD(kid), .commands = KEYGEN | SIGN},
    {.name = "out", .type = OPTION_TEXT, .offset = FIELD(out), .commands = KEYGEN | PUBLIC | SIGN},
    {.name = "add", .type = OPTION_TEXT, .offset = FIELD(add), .commands = KEYGEN},
    {.name = "keys", .type = OPTION_TEXT, .offset = FIELD(keys), .commands = PUBLIC | SIGN | CHECK},
    {.name = "sub", .type = OPTION_TEXT, .offset = FIELD(sub), .commands = SIGN},
    {.name = "issuer", .type = OPTION_TEXT, .offset = FIELD(issuer), .commands = SIGN | CHECK},
    {.name = "audience", .type = OPTION_TEXT, .offset = FIELD(audience), .commands = SIGN | CHECK},
    {.name = "rooms", .type = OPTION_TEXT, .offset = FIELD(rooms), .commands = SIGN},
    {.name = "ttl", .type = OPTION_TEXT, .offset = FIELD(ttl), .commands = SIGN},
    {.name = "not-before", .type = OPTION_TEXT, .offset = FIELD(not_before), .commands = SIGN},
    {.name = "token-file", .type = OPTION_TEXT, .offset = FIELD(token_file), .commands = CHECK},
};

static const struct option_set options = {
    .program = "usher-token",
    .print_help = print_help,
    .rows = rows,
    .count = sizeof(rows) / sizeof(*rows),
};

static int run_words(const struct arguments *arguments, const struct option_words *words)
{
    unsigned number = 0;
    while (words->count > 0 && number < COMMANDS &&
           strcmp(commands[number].name, words->words[0]) != 0)
        number++;
    if (words->count == 0 || number == COMMANDS) {
        fputs(USAGE, stderr);
        return EXIT_WRONG_USE;
    }
    if (words->count > 1)
        return fail(EXIT_WRONG_USE, "one word too many", words->words[1]);
    if (!options_fit(&options, words, number, commands[number].name))
        return EXIT_WRONG_USE;
    if (arguments->out != NULL && arguments->add != NULL)
        return fail(EXIT_WRONG_USE, "--out or --add, not both", "");
    return commands[number].run(arguments);
}

int main(int count, char **words)
{
    struct arguments arguments = {0};
    struct option_words read;
    enum option_end end = options_read(&options, count, words, &arguments, &read);
    if (end != OPTIONS_READ)
        return end == OPTIONS_SHOWN ? EXIT_OK : EXIT_WRONG_USE;
    return run_words(&arguments, &read);
}
