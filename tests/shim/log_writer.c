/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim/crash_log.h"
#include "shim/shim.h"
#include "storage/log_entry.h"

/* usher-log-writer, mostly under the preload library: the log of stored messages alone, as the
 * committer writes it.
 *
 *   live FOLDER COMMITS        the life of crash_log.h, in two openings; after each commit it says
 *                              "commit POSITION K": how many records the library had then
 *   weigh FOLDER EACH MESSAGES steady traffic: EACH messages of 128 bytes a commit with as many
 * that are done, and the oldest values dropped as cleaning does it */

enum {
    MAP_BYTES = 64 << 20,
    WEIGHED_BYTES = 128,
    LIVING = 10000,
    USERS = 10000,
    SPARE = 3, /* times what lives, as inbox.log_spare */
};

static int fail(const char *what, const char *detail)
{
    fprintf(stderr, "usher-log-writer: %s: %s\n", what, detail);
    return 1;
}

static int open_store(struct store **store, const char *folder)
{
    char error[STORE_ERROR_BYTES_MAX] = "";
    struct store_options options = {
        .path = folder, .map_bytes_max = MAP_BYTES, .events_kept_max = 1 << 20};
    int result = store_open_lmdb(store, &options, error);
    return result == 0 ? 0 : fail(folder, error);
}

/* --- live --------------------------------------------------------------------------------- */

static const struct shim_control *control_map(void)
{
    const char *path = getenv("USHER_SHIM_CONTROL");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return NULL;
    void *map = mmap(NULL, sizeof(struct shim_control), PROT_READ, MAP_SHARED, file, 0);
    (void)close(file);
    return map == MAP_FAILED ? NULL : map;
}

static int live(const char *folder, uint64_t commits)
{
    const struct shim_control *control = control_map();
    struct store *store;
    if (control == NULL)
        return fail("live", "no preload library");
    for (uint64_t k = 1; k <= commits;) {
        if (open_store(&store, folder) != 0)
            return 1;
        for (uint64_t end = k <= commits / 2 ? commits / 2 : commits; k <= end; k++) {
            int result = crash_log_step(store, k);
            if (result < 0)
                return fail("a commit", store_error_text(result));
            printf("commit %" PRIu64 " %" PRIu64 "\n", atomic_load(&control->records), k);
        }
        store_close(store);
    }
    return 0;
}

/* --- weigh -------------------------------------------------------------------------------- */

/* Values as they are filled, one after the other. */
struct filling {
    struct store *store;
    uint8_t bytes[STORE_LOG_VALUE_BYTES];
    size_t size;
    uint64_t messages, last_of_value; /* the newest message that stands in it */
};

/* What each value has as its newest message, by number; and how far it is dropped. */
static uint64_t *newest_in;
static uint64_t dropped;

static bool flush(struct filling *filling)
{
    uint64_t number;
    if (filling->size == 0)
        return true;
    if (store_append_log(filling->store, (struct bytes){filling->bytes, filling->size}, &number) !=
        1)
        return false;
    newest_in[number] = filling->last_of_value;
    filling->size = 0;
    return true;
}

static bool put(struct filling *filling, const struct log_entry *entry)
{
    size_t size = log_entry_size(entry);
    if (filling->size + size > sizeof(filling->bytes) && !flush(filling))
        return false;
    (void)log_entry_put(filling->bytes + filling->size, entry);
    filling->size += size;
    filling->last_of_value = filling->messages;
    return true;
}

/* Message n is for one of many, and is done when as many have come behind it. */
static bool put_message(struct filling *filling, uint64_t n, bool is_done)
{
    static const uint8_t payload[WEIGHED_BYTES];
    char name[32];
    int size = snprintf(name, sizeof(name), " player-%06" PRIu64, n * 7919 % USERS);
    name[0] = (char)(size - 1);
    const uint64_t time_ms = UINT64_C(1764550000000) + n;
    struct log_entry entry = {
        .kind = is_done ? LOG_ENTRY_DONE : LOG_ENTRY_KEPT,
        .mid = (time_ms << 10) + n,
        .receiver_count = 1,
        .receivers = {(const uint8_t *)name, (size_t)size},
    };
    if (!is_done) {
        entry.time_ms = time_ms;
        entry.expires_ms = time_ms + UINT64_C(7) * 86400000;
        entry.sender = bytes_of_text("player-000001");
        entry.payload = (struct bytes){payload, sizeof(payload)};
    }
    return put(filling, &entry);
}

/* All in them is done: first in, first out, so nothing that lives has to be moved. */
static bool clean(struct filling *filling)
{
    struct store_position position;
    uint64_t living = filling->messages < LIVING ? filling->messages : LIVING;
    if (store_position(filling->store, &position) != 0)
        return false;
    uint64_t bytes = position.log_bytes;
    uint64_t per_value = position.log_values == 0 ? 0 : bytes / position.log_values;
    while (bytes > SPARE * living * (WEIGHED_BYTES + 60) && dropped + 1 < position.log_last &&
           newest_in[dropped + 1] + LIVING < filling->messages) {
        if (store_drop_log(filling->store, ++dropped) != 0)
            return false;
        bytes -= per_value;
    }
    return true;
}

static bool weigh_commit(struct filling *filling, uint64_t each)
{
    bool good = store_begin(filling->store) == 0;
    for (uint64_t i = 0; good && i < each; i++) {
        uint64_t n = ++filling->messages;
        good = put_message(filling, n, false) &&
               (n <= LIVING || put_message(filling, n - LIVING, true));
    }
    good = good && flush(filling) && clean(filling);
    return good && store_commit(filling->store, filling->messages) == 0;
}

static int weigh(const char *folder, uint64_t each, uint64_t messages)
{
    struct filling *filling = calloc(1, sizeof(*filling));
    newest_in = calloc(messages + 1, sizeof(*newest_in)); /* no value has less than a message */
    if (filling == NULL || newest_in == NULL || open_store(&filling->store, folder) != 0)
        return 1;
    bool good = true;
    while (good && filling->messages < messages)
        good = weigh_commit(filling, each);
    struct store_position position;
    good = good && store_position(filling->store, &position) == 0;
    if (good)
        printf("%" PRIu64 " messages, %" PRIu64 " values, %" PRIu64 " bytes\n", filling->messages,
               position.log_values, position.log_bytes);
    store_close(filling->store);
    free(newest_in);
    free(filling);
    return good ? 0 : fail("weigh", "a commit failed");
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "live") == 0)
        return live(argv[2], strtoull(argv[3], NULL, 10));
    if (argc == 5 && strcmp(argv[1], "weigh") == 0)
        return weigh(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
    fprintf(stderr, "usage: usher-log-writer live FOLDER COMMITS | weigh FOLDER EACH MESSAGES\n");
    return 2;
}
