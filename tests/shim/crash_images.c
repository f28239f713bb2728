/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/crash_check.h"
#include "shim/crash_disk.h"

/* usher-crash-images LOG TOLD FOLDER IMAGES SEED: judges what a loss of power would have left of a
 * store, at every sync and at IMAGES random points of a run that the preload library has recorded
 * (LOG) and of which clients have noted what they were told (TOLD). Images are made in FOLDER. At
 * the first image that breaks a promise it says which, leaves it there and exits with 1.
 *
 * A random image is: the log up to a random record, everything synced, some of the rest, and some
 * of the write in whose middle the power went. The seed fixes all of it. */

struct log {
    uint8_t *bytes;
    struct crash_record *records;
    size_t count;
};

struct counts {
    uint64_t images, at_syncs, torn, before_birth, events_least, events_most;
};

struct run {
    struct log log;
    struct crash_truth truth;
    struct counts counts;
    char folder[4000];
    uint64_t seed;
};

static int fail(const char *what, const char *detail)
{
    fprintf(stderr, "usher-crash-images: %s: %s\n", what, detail);
    return 1;
}

/* --- the log ----------------------------------------------------------------------------- */

static uint8_t *file_read(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    struct stat about;
    if (file == NULL || fstat(fileno(file), &about) < 0)
        return NULL;
    uint8_t *bytes = malloc((size_t)about.st_size + 1);
    *size = bytes == NULL ? 0 : fread(bytes, 1, (size_t)about.st_size, file);
    (void)fclose(file);
    return bytes;
}

static bool log_read(struct log *log, const char *path)
{
    size_t size = 0, capacity = 0;
    log->bytes = file_read(path, &size);
    if (log->bytes == NULL)
        return false;
    for (size_t at = 0; at < size; log->count++) {
        struct shim_record head;
        if (size - at < sizeof(head))
            return false;
        memcpy(&head, log->bytes + at, sizeof(head));
        at += sizeof(head);
        if (head.magic != SHIM_RECORD_MAGIC || head.bytes > size - at)
            return false;
        if (log->count == capacity) {
            capacity = capacity * 2 + 1024;
            log->records = realloc(log->records, capacity * sizeof(*log->records));
            if (log->records == NULL)
                return false;
        }
        struct crash_record *record = &log->records[log->count];
        *record = (struct crash_record){.kind = head.kind,
                                        .offset = head.offset,
                                        .bytes = (size_t)head.bytes,
                                        .data = log->bytes + at};
        memcpy(record->name, head.name, sizeof(record->name));
        record->name[sizeof(record->name) - 1] = '\0';
        at += (size_t)head.bytes;
    }
    return log->count > 0;
}

/* --- images ------------------------------------------------------------------------------ */

static void path_of(const struct run *run, const char *name, char path[4096])
{
    (void)snprintf(path, 4096, "%s/%s", run->folder, name);
}

static bool image_write(const struct run *run, const struct crash_image *image)
{
    static const char *const leftovers[] = {"data.mdb", "data.mdb.new", "lock.mdb"};
    char path[4096];
    for (size_t i = 0; i < sizeof(leftovers) / sizeof(leftovers[0]); i++) {
        path_of(run, leftovers[i], path);
        (void)unlink(path);
    }
    if (image->name == CRASH_ABSENT)
        return true;
    path_of(run, image->name == CRASH_DATA ? "data.mdb" : "data.mdb.new", path);
    FILE *file = fopen(path, "wb");
    if (file == NULL)
        return false;
    bool good = image->size == 0 || fwrite(image->data, image->size, 1, file) == 1;
    return fclose(file) == 0 && good;
}

static bool image_check(struct run *run, struct crash_disk *disk, size_t cut,
                        const struct crash_record *torn, enum crash_choice choice)
{
    char text[CRASH_TEXT_BYTES] = "cannot be written";
    uint64_t events = 0;
    struct crash_image image;
    crash_disk_image(disk, torn, choice, &run->seed, &image);
    bool good =
        image_write(run, &image) && crash_check(&run->truth, run->folder, cut, &events, text);
    if (!good)
        fprintf(stderr,
                "usher-crash-images: image %" PRIu64 ", after record %zu of %zu, choice %d, %zu "
                "left out, in %s: %s\n",
                run->counts.images, cut, run->log.count, choice, image.left_out, run->folder, text);
    run->counts.images++;
    run->counts.torn += choice == CRASH_SECTORS && image.left_out > 0;
    run->counts.before_birth += image.name != CRASH_DATA;
    if (events < run->counts.events_least)
        run->counts.events_least = events;
    if (events > run->counts.events_most)
        run->counts.events_most = events;
    free(image.data);
    return good;
}

static bool is_sync(const struct crash_record *record)
{
    return record->kind == SHIM_RECORD_SYNC || record->kind == SHIM_RECORD_SYNCED_WRITE ||
           record->kind == SHIM_RECORD_FOLDER_SYNC;
}

/* All images of one point: `random` ones, and an exact one behind a sync. */
static bool point_check(struct run *run, struct crash_disk *disk, size_t cut, uint32_t random)
{
    const struct log *log = &run->log;
    bool good = true;
    if (cut > 0 && is_sync(&log->records[cut - 1])) {
        good = image_check(run, disk, cut, NULL, CRASH_NONE);
        run->counts.at_syncs++;
    }
    const struct crash_record *torn = cut < log->count ? &log->records[cut] : NULL;
    for (; good && random > 0; random--)
        good = image_check(run, disk, cut, torn,
                           (enum crash_choice)(crash_random(&run->seed) % CRASH_CHOICES));
    return good;
}

/* Where the random images are taken. */
static uint32_t *points_choose(struct run *run, uint64_t images)
{
    uint32_t *points = calloc(run->log.count + 1, sizeof(*points));
    for (; points != NULL && images > 0; images--)
        points[crash_random(&run->seed) % (run->log.count + 1)]++;
    return points;
}

static bool all_check(struct run *run, uint64_t images)
{
    uint32_t *points = points_choose(run, images);
    struct crash_disk *disk = crash_disk_create();
    bool good = points != NULL;
    for (size_t cut = 0; good && cut <= run->log.count; cut++) {
        if (cut > 0 && !crash_disk_apply(disk, &run->log.records[cut - 1])) {
            good = false;
            (void)fail("a record that is not understood", run->log.records[cut - 1].name);
        }
        good = good && point_check(run, disk, cut, points[cut]);
    }
    crash_disk_destroy(disk);
    free(points);
    return good;
}

/* The end of the log, with everything: its stream is the truth. */
static bool truth_find(struct run *run, const char *told, char *text)
{
    struct crash_disk *disk = crash_disk_create();
    struct crash_image image;
    for (size_t i = 0; i < run->log.count; i++)
        (void)crash_disk_apply(disk, &run->log.records[i]);
    crash_disk_image(disk, NULL, CRASH_ALL, &run->seed, &image);
    crash_disk_destroy(disk);
    struct store_options options = {
        .path = run->folder, .map_bytes_max = 64 << 20, .events_kept_max = 1 << 20};
    struct store *store;
    (void)snprintf(text, CRASH_TEXT_BYTES, "the final image cannot be written");
    bool good = image_write(run, &image);
    free(image.data);
    if (!good || store_open_lmdb(&store, &options, text) < 0)
        return false;
    good = crash_truth_load(&run->truth, store, text) && crash_truth_read(&run->truth, told, text);
    store_close(store);
    return good;
}

static void run_fini(struct run *run)
{
    crash_truth_fini(&run->truth);
    free(run->log.records);
    free(run->log.bytes);
}

int main(int argc, char **argv)
{
    char text[CRASH_TEXT_BYTES];
    if (argc != 6) {
        fprintf(stderr, "usage: usher-crash-images LOG TOLD FOLDER IMAGES SEED\n");
        return 2;
    }
    struct run run = {.seed = strtoull(argv[5], NULL, 10), .counts = {.events_least = UINT64_MAX}};
    (void)snprintf(run.folder, sizeof(run.folder), "%s", argv[3]);
    if (mkdir(run.folder, 0700) < 0 && errno != EEXIST)
        return fail(run.folder, strerror(errno));
    int result = 1;
    if (!log_read(&run.log, argv[1]))
        (void)fail(argv[1], "no whole log");
    else if (!truth_find(&run, argv[2], text))
        (void)fail("the end of the run", text);
    else if (all_check(&run, strtoull(argv[4], NULL, 10)))
        result = 0;
    const struct counts *counts = &run.counts;
    printf("%" PRIu64 " images (%" PRIu64 " at syncs, %" PRIu64 " torn, %" PRIu64
           " before the birth) of %zu records; %" PRIu64 " to %" PRIu64
           " of %zu events or commits, %zu told, %zu of them stored messages\n",
           counts->images, counts->at_syncs, counts->torn, counts->before_birth, run.log.count,
           counts->events_least, counts->events_most,
           run.truth.events_count + run.truth.commits_count,
           run.truth.acks_count + run.truth.commits_count + run.truth.stored.count,
           run.truth.stored.count);
    run_fini(&run);
    return result;
}
