/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/crash_disk.h"

#include <stdlib.h>
#include <string.h>

/* There is one file, data.mdb, which is born as data.mdb.new and renamed. Its durable content is a
 * buffer; what was written since is a list of pieces, none larger than a page, in the order of
 * writing. A sync moves all pieces into the buffer. A write through an O_DSYNC descriptor moves
 * those of its own pages: the kernel writes pages, so older bytes of the same page go with it, and
 * those of others do not.
 *
 * The rename is durable when the folder was synced; before, an image may have either name. */

enum { PAGE = 4096, SECTOR = 512 };

static const char data_name[] = "data.mdb";
static const char birth_name[] = "data.mdb.new";

struct piece {
    uint64_t offset;
    size_t bytes;
    const uint8_t *data;
    uint64_t write; /* pieces of one write have one number */
};

struct content {
    uint8_t *data;
    size_t size, capacity;
};

struct crash_disk {
    struct content durable;
    struct piece *pending;
    size_t pending_count, pending_capacity;
    uint64_t writes;
    enum crash_name name;
    bool renamed; /* to data.mdb, and the folder was not synced since */
};

uint64_t crash_random(uint64_t *seed)
{
    /* splitmix64 */
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static bool coin(uint64_t *seed)
{
    return (crash_random(seed) & 1) != 0;
}

static void *grown(void *memory, size_t bytes)
{
    void *result = realloc(memory, bytes);
    if (result == NULL)
        abort();
    return result;
}

/* What lies between the old end and a write beyond it is a hole of zeros. */
static void content_write(struct content *content, uint64_t offset, const uint8_t *data,
                          size_t bytes)
{
    size_t end = (size_t)offset + bytes;
    if (end > content->capacity) {
        content->capacity = end * 2;
        content->data = grown(content->data, content->capacity);
    }
    if (end > content->size) {
        memset(content->data + content->size, 0, end - content->size);
        content->size = end;
    }
    memcpy(content->data + offset, data, bytes);
}

struct crash_disk *crash_disk_create(void)
{
    struct crash_disk *disk = calloc(1, sizeof(*disk));
    if (disk == NULL)
        abort();
    return disk;
}

void crash_disk_destroy(struct crash_disk *disk)
{
    free(disk->durable.data);
    free(disk->pending);
    free(disk);
}

static void pending_add(struct crash_disk *disk, struct piece piece)
{
    if (disk->pending_count == disk->pending_capacity) {
        disk->pending_capacity = disk->pending_capacity * 2 + 64;
        disk->pending = grown(disk->pending, disk->pending_capacity * sizeof(*disk->pending));
    }
    disk->pending[disk->pending_count++] = piece;
}

/* Cuts a write at the borders of pages. */
static void write_apply(struct crash_disk *disk, const struct crash_record *record)
{
    disk->writes++;
    for (size_t at = 0; at < record->bytes;) {
        uint64_t offset = record->offset + at;
        size_t bytes = PAGE - (size_t)(offset % PAGE);
        if (bytes > record->bytes - at)
            bytes = record->bytes - at;
        pending_add(disk, (struct piece){offset, bytes, record->data + at, disk->writes});
        at += bytes;
    }
}

/* Moves the pieces of the pages from `first` to `last` into what is durable. */
static void pages_sync(struct crash_disk *disk, uint64_t first, uint64_t last)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->pending_count; i++) {
        const struct piece *piece = &disk->pending[i];
        uint64_t page = piece->offset / PAGE;
        if (page >= first && page <= last)
            content_write(&disk->durable, piece->offset, piece->data, piece->bytes);
        else
            disk->pending[kept++] = *piece;
    }
    disk->pending_count = kept;
}

static void forget(struct crash_disk *disk)
{
    disk->durable.size = 0;
    disk->pending_count = 0;
    disk->name = CRASH_ABSENT;
    disk->renamed = false;
}

static bool name_is(const struct crash_record *record, const char *name)
{
    return strcmp(record->name, name) == 0;
}

static bool rename_apply(struct crash_disk *disk, const struct crash_record *record)
{
    if (!name_is(record, birth_name) || record->bytes != strlen(data_name) ||
        memcmp(record->data, data_name, record->bytes) != 0)
        return false;
    disk->name = CRASH_DATA;
    disk->renamed = true;
    return true;
}

bool crash_disk_apply(struct crash_disk *disk, const struct crash_record *record)
{
    bool writes = record->kind == SHIM_RECORD_WRITE || record->kind == SHIM_RECORD_SYNCED_WRITE;
    if (writes && !name_is(record, data_name) && !name_is(record, birth_name))
        return false;
    if (writes && disk->name == CRASH_ABSENT)
        disk->name = name_is(record, data_name) ? CRASH_DATA : CRASH_BIRTH;
    switch (record->kind) {
    case SHIM_RECORD_WRITE:
        write_apply(disk, record);
        return true;
    case SHIM_RECORD_SYNCED_WRITE:
        write_apply(disk, record);
        pages_sync(disk, record->offset / PAGE, (record->offset + record->bytes - 1) / PAGE);
        return true;
    case SHIM_RECORD_SYNC:
        pages_sync(disk, 0, UINT64_MAX);
        return true;
    case SHIM_RECORD_FOLDER_SYNC:
        disk->renamed = false;
        return true;
    case SHIM_RECORD_RENAME:
        return rename_apply(disk, record);
    case SHIM_RECORD_UNLINK:
        if (!name_is(record, birth_name))
            return false;
        forget(disk);
        return true;
    case SHIM_RECORD_START:
        return true;
    default:
        return false;
    }
}

/* Puts a piece into the image, whole, in part or not. */
static void piece_choose(struct content *content, const struct piece *piece,
                         enum crash_choice choice, uint64_t *seed, size_t *left_out)
{
    size_t step = choice == CRASH_SECTORS ? SECTOR : PAGE;
    for (size_t at = 0; at < piece->bytes;) {
        uint64_t offset = piece->offset + at;
        size_t bytes = step - (size_t)(offset % step);
        if (bytes > piece->bytes - at)
            bytes = piece->bytes - at;
        if (choice != CRASH_NONE && (choice == CRASH_ALL || coin(seed)))
            content_write(content, offset, piece->data + at, bytes);
        else
            (*left_out)++;
        at += bytes;
    }
}

/* CRASH_WRITES decides once for the pieces of one write. */
static void pieces_choose(struct content *content, const struct piece *pieces, size_t count,
                          enum crash_choice choice, uint64_t *seed, size_t *left_out)
{
    enum crash_choice one = choice;
    for (size_t i = 0; i < count; i++) {
        if (choice == CRASH_WRITES && (i == 0 || pieces[i].write != pieces[i - 1].write))
            one = coin(seed) ? CRASH_ALL : CRASH_NONE;
        piece_choose(content, &pieces[i], one, seed, left_out);
    }
}

void crash_disk_image(const struct crash_disk *disk, const struct crash_record *torn,
                      enum crash_choice choice, uint64_t *seed, struct crash_image *image)
{
    struct content content = {0};
    *image = (struct crash_image){.name = disk->name};
    if (disk->renamed && choice != CRASH_ALL && coin(seed))
        image->name = CRASH_BIRTH;
    if (disk->durable.size > 0)
        content_write(&content, 0, disk->durable.data, disk->durable.size);
    pieces_choose(&content, disk->pending, disk->pending_count, choice, seed, &image->left_out);
    if (torn != NULL &&
        (torn->kind == SHIM_RECORD_WRITE || torn->kind == SHIM_RECORD_SYNCED_WRITE)) {
        struct crash_disk half = {.name = disk->name};
        write_apply(&half, torn);
        pieces_choose(&content, half.pending, half.pending_count, choice, seed, &image->left_out);
        free(half.pending);
        if (image->name == CRASH_ABSENT)
            image->name = strcmp(torn->name, data_name) == 0 ? CRASH_DATA : CRASH_BIRTH;
    }
    image->data = content.data;
    image->size = content.size;
}
