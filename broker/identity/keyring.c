/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "identity/key.h"

/* A set of keys, whole or not at all: one faulty key refuses the file, because a person who made a
 * mistake in it shall hear of that now and not when a player's token is refused.
 *
 * Nothing changes after reading but the count of holders, so any number of threads may verify with
 * a keyring while a newer one takes its place. */

struct keyring {
    atomic_uint holders;
    uint32_t count;
    struct key keys[KEYRING_KEYS_MAX];
};

static int fault(char *error, const char *what)
{
    snprintf(error, KEYRING_ERROR_BYTES, "%s", what);
    return -EINVAL;
}

/* --- reading ---------------------------------------------------------------------------------- */

static int add_key(struct keyring *keyring, const json_t *jwk, char *error)
{
    struct key *key = &keyring->keys[keyring->count];
    char what[KEYRING_ERROR_BYTES] = "no memory";
    int failed = key_init(key, jwk, what);
    if (failed != 0) {
        snprintf(error, KEYRING_ERROR_BYTES, "keys[%u]: %.200s", keyring->count, what);
        return failed;
    }
    keyring->count++;
    for (uint32_t i = 0; i + 1 < keyring->count; i++) {
        if (strcmp(keyring->keys[i].id, key->id) == 0) {
            snprintf(error, KEYRING_ERROR_BYTES, "keys[%u]: the same 'kid' as keys[%u]",
                     keyring->count - 1, i);
            return -EINVAL;
        }
    }
    return 0;
}

static int check_ids(const struct keyring *keyring, char *error)
{
    for (uint32_t i = 0; keyring->count > 1 && i < keyring->count; i++) {
        if (keyring->keys[i].id[0] == '\0') {
            snprintf(error, KEYRING_ERROR_BYTES,
                     "keys[%u]: 'kid' is missing; only a single key may have none", i);
            return -EINVAL;
        }
    }
    return 0;
}

static int add_keys(struct keyring *keyring, const json_t *root, char *error)
{
    const json_t *keys = json_object_get(root, "keys");
    size_t count = json_array_size(keys);
    if (!json_is_array(keys) || count == 0)
        return fault(error, "not a key set: {\"keys\": [...]} with at least one key");
    if (count > KEYRING_KEYS_MAX)
        return fault(error, "more than 64 keys");
    int failed = 0;
    for (size_t i = 0; i < count && failed == 0; i++)
        failed = add_key(keyring, json_array_get(keys, i), error);
    return failed != 0 ? failed : check_ids(keyring, error);
}

static json_t *parse(struct bytes json, char *error)
{
    json_error_t what;
    if (json.size > KEYRING_FILE_BYTES_MAX) {
        fault(error, "larger than 256 KiB");
        return NULL;
    }
    json_t *root = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, &what);
    /* The library's own words may hold a piece of the file, and so of a key. */
    if (root == NULL)
        snprintf(error, KEYRING_ERROR_BYTES,
                 "line %d, column %d: not JSON, or a member is there twice", what.line,
                 what.column);
    return root;
}

int keyring_read(struct keyring **out, struct bytes json, char *error)
{
    json_t *root = parse(json, error);
    if (root == NULL)
        return -EINVAL;
    struct keyring *keyring = calloc(1, sizeof(*keyring));
    int failed = -ENOMEM;
    if (keyring != NULL) {
        atomic_init(&keyring->holders, 1);
        failed = add_keys(keyring, root, error);
    } else {
        fault(error, "no memory");
    }
    json_decref(root);
    if (failed != 0)
        keyring_release(keyring);
    else
        *out = keyring;
    return failed;
}

/* Up to `room` bytes; -errno. */
static ssize_t read_file(const char *path, char *to, size_t room)
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat what;
    size_t size = 0;
    if (file < 0)
        return -errno;
    ssize_t got = -EINVAL;
    if (fstat(file, &what) == 0 && S_ISREG(what.st_mode)) {
        do {
            got = read(file, to + size, room - size);
            size += got > 0 ? (size_t)got : 0;
        } while (got > 0 && size < room);
        got = got < 0 ? -errno : got;
    }
    close(file);
    return got < 0 ? got : (ssize_t)size;
}

int keyring_load(struct keyring **keyring, const char *path, char *error)
{
    const size_t room = KEYRING_FILE_BYTES_MAX + 1;
    char *text = malloc(room);
    if (text == NULL) {
        fault(error, "no memory");
        return -ENOMEM;
    }
    ssize_t size = read_file(path, text, room);
    int failed = 0;
    if (size < 0) {
        failed = (int)size;
        fault(error, size == -EINVAL ? "not a file" : strerror(-failed));
    } else {
        failed = keyring_read(keyring, (struct bytes){(const uint8_t *)text, (size_t)size}, error);
        OPENSSL_cleanse(text, (size_t)size);
    }
    free(text);
    return failed;
}

/* --- holding ---------------------------------------------------------------------------------- */

struct keyring *keyring_acquire(struct keyring *keyring)
{
    /* Relaxed: whoever acquires has it from somebody who holds it. */
    atomic_fetch_add_explicit(&keyring->holders, 1, memory_order_relaxed);
    return keyring;
}

void keyring_release(struct keyring *keyring)
{
    if (keyring == NULL)
        return;
    /* Release and acquire, with the other holders' releases: what they read happened before it is
     * freed. */
    if (atomic_fetch_sub_explicit(&keyring->holders, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < keyring->count; i++)
        key_fini(&keyring->keys[i]);
    free(keyring);
}

uint32_t keyring_count(const struct keyring *keyring)
{
    return keyring->count;
}

const struct key *keyring_find(const struct keyring *keyring, struct bytes id)
{
    if (id.size == 0)
        return keyring->count == 1 ? &keyring->keys[0] : NULL;
    for (uint32_t i = 0; i < keyring->count; i++)
        if (bytes_equal(id, bytes_of_text(keyring->keys[i].id)))
            return &keyring->keys[i];
    return NULL;
}
