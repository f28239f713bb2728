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

/* A set of keys, as far as it is for us. Identity providers publish sets that others use too: keys
 * for encryption, for algorithms that are not spoken here, of kinds that are yet to come. Were one
 * of them to refuse the set, the day on which a provider changes its keys would be the day on which
 * nobody gets in. So each key stands for itself (RFC 7517, section 5), and what is passed over is
 * remembered for whoever tells people; only a set in which nothing is left is refused.
 *
 * Of two keys with one name and one algorithm the first is taken: which is meant cannot be known,
 * and to try both would let whoever sends a token choose how much it costs.
 *
 * Nothing changes after reading but the count of holders, so any number of threads may verify with
 * a keyring while a newer one takes its place. */

struct keyring {
    atomic_uint holders;
    uint32_t count, passed_count;
    struct key_passed *passed; /* with room for the whole set */
    struct key keys[KEYRING_KEYS_MAX];
};

static int fault(char *error, const char *what)
{
    snprintf(error, KEYRING_ERROR_BYTES, "%s", what);
    return -EINVAL;
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool is_there(const struct keyring *keyring, const struct key *key)
{
    for (uint32_t i = 0; i < keyring->count; i++)
        if (keyring->keys[i].algorithm == key->algorithm &&
            strcmp(keyring->keys[i].id, key->id) == 0)
            return true;
    return false;
}

static void pass_over(struct keyring *keyring, const json_t *jwk, uint32_t place, int failed,
                      const char *why)
{
    struct key_passed *passed = &keyring->passed[keyring->passed_count++];
    passed->place = place;
    passed->faulty = failed == -EINVAL;
    (void)key_read_id(jwk, passed->id);
    snprintf(passed->why, sizeof(passed->why), "%s", why);
}

/* 0 also when the key is passed over. */
static int add_key(struct keyring *keyring, const json_t *jwk, uint32_t place, char *error)
{
    struct key key;
    char why[KEY_WHY_BYTES] = "";
    int failed = key_init(&key, jwk, why);
    if (failed == 0 && is_there(keyring, &key)) {
        snprintf(why, sizeof(why), "another key of %s before it has the same 'kid', or none either",
                 key_algorithm_name(key.algorithm));
        key_fini(&key);
        failed = -EINVAL;
    }
    if (failed == -ENOMEM) {
        fault(error, "no memory");
        return failed;
    }
    if (failed != 0) {
        pass_over(keyring, jwk, place, failed, why);
        return 0;
    }
    if (keyring->count < KEYRING_KEYS_MAX) {
        keyring->keys[keyring->count++] = key;
        return 0;
    }
    key_fini(&key);
    return fault(error, "more than 64 keys that are for usherd");
}

/* None can be used: a person who made a mistake in the file shall hear which. */
static int refuse(const struct keyring *keyring, char *error)
{
    uint32_t first = 0;
    while (first < keyring->passed_count && !keyring->passed[first].faulty)
        first++;
    const struct key_passed *passed = &keyring->passed[first < keyring->passed_count ? first : 0];
    snprintf(error, KEYRING_ERROR_BYTES, "no key that usherd can use, of %u; keys[%u]: %s",
             keyring->passed_count, passed->place, passed->why);
    return -EINVAL;
}

static int add_keys(struct keyring *keyring, const json_t *root, char *error)
{
    const json_t *keys = json_object_get(root, "keys");
    size_t count = json_array_size(keys);
    if (!json_is_array(keys) || count == 0)
        return fault(error, "not a key set: {\"keys\": [...]} with at least one key");
    if (count > KEYRING_SET_KEYS_MAX)
        return fault(error, "more than 256 keys");
    keyring->passed = calloc(count, sizeof(*keyring->passed));
    int failed = keyring->passed != NULL ? 0 : -ENOMEM;
    if (failed != 0)
        fault(error, "no memory");
    for (uint32_t i = 0; i < count && failed == 0; i++)
        failed = add_key(keyring, json_array_get(keys, i), i, error);
    return failed == 0 && keyring->count == 0 ? refuse(keyring, error) : failed;
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
    free(keyring->passed);
    free(keyring);
}

uint32_t keyring_count(const struct keyring *keyring)
{
    return keyring->count;
}

uint32_t keyring_passed_count(const struct keyring *keyring)
{
    return keyring->passed_count;
}

const struct key_passed *keyring_passed(const struct keyring *keyring, uint32_t i)
{
    return &keyring->passed[i];
}

int keyring_find(const struct keyring *keyring, struct bytes id, int algorithm,
                 const struct key **key)
{
    bool named = false;
    for (uint32_t i = 0; i < keyring->count; i++) {
        const struct key *one = &keyring->keys[i];
        bool only = id.size == 0 && keyring->count == 1;
        if (!only && !bytes_equal(id, bytes_of_text(one->id)))
            continue;
        named = true;
        if ((int)one->algorithm == algorithm) {
            *key = one;
            return 0;
        }
    }
    return named ? -ENOTSUP : -ENOENT;
}
