/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/rooms.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "actors/kinds.h"
#include "actors/room_messages.h"

/* The registry gives actors in no order, and a page is the first of them by name. So the best so
 * far are kept, and as many again beside them: when those are full too, all are sorted and the
 * worse half is forgotten. What that needs does not depend on how many rooms there are. */

struct row {
    char name[USERNAME_BYTES_MAX + 1];
    uint64_t numbers[ROOM_NUMBERS];
};

struct best {
    struct row *rows;
    size_t count, limit; /* room for twice the limit */
    bool dropped;
};

static int by_name(const void *one, const void *other)
{
    return strcmp(((const struct row *)one)->name, ((const struct row *)other)->name);
}

static void cut(struct best *best)
{
    qsort(best->rows, best->count, sizeof(*best->rows), by_name);
    best->dropped = best->dropped || best->count > best->limit;
    best->count = best->count < best->limit ? best->count : best->limit;
}

static bool is_wanted(const struct room_page *page, const struct registry_row *row)
{
    return row->behaviour->kind == KIND_ROOM && row->numbers[ROOM_NUMBER_INCARNATION] != 0 &&
           strncmp(row->name + 1, page->prefix, strlen(page->prefix)) == 0 &&
           strcmp(row->name + 1, page->after) > 0;
}

static void keep(struct best *best, const struct registry_row *row)
{
    if (best->count == 2 * best->limit)
        cut(best);
    struct row *kept = &best->rows[best->count++];
    *kept = (struct row){0};
    strncpy(kept->name, row->name + 1, sizeof(kept->name) - 1);
    memcpy(kept->numbers, row->numbers, sizeof(kept->numbers));
}

/* The class that the room says it is of, unless a reload has just come between. */
static const struct room_class *class_of(const struct room_classes *classes, const struct row *row)
{
    uint64_t index = row->numbers[ROOM_NUMBER_CLASS];
    struct bytes name = bytes_of_text(row->name);
    if (classes != NULL && index < classes->count &&
        room_pattern_fits(bytes_of_text(classes->classes[index].pattern), name))
        return &classes->classes[index];
    return room_class_of(classes, name);
}

static int put(struct link_page *out, const struct room_classes *classes, const struct row *row)
{
    const struct room_class *class = class_of(classes, row);
    const struct room_fields fields = {
        .name = bytes_of_text(row->name),
        .incarnation = row->numbers[ROOM_NUMBER_INCARNATION],
        .offset = row->numbers[ROOM_NUMBER_OFFSET],
        .members = (uint32_t)row->numbers[ROOM_NUMBER_MEMBERS],
        .pattern = bytes_of_text(class != NULL ? class->pattern : ""),
        .owner = bytes_of_text(class != NULL ? class->owner : ""),
        .away = (uint32_t)(row->numbers[ROOM_NUMBER_MEMBERS] >> 32),
        .history_messages = (uint32_t)row->numbers[ROOM_NUMBER_HISTORY_MESSAGES],
        .history_bytes = row->numbers[ROOM_NUMBER_HISTORY_BYTES],
        .deliveries = row->numbers[ROOM_NUMBER_DELIVERIES],
        .opened_ms = row->numbers[ROOM_NUMBER_OPENED_MS],
    };
    return link_page_room(out, &fields);
}

int rooms_list(struct registry *registry, const struct room_classes *classes,
               struct room_page *page, struct link_page *out)
{
    struct best best = {.limit = page->limit};
    struct registry_row rows[REGISTRY_SCAN_ROWS];
    uint64_t cursor = 0;
    size_t count;
    best.rows = calloc(2 * best.limit, sizeof(*best.rows));
    if (best.rows == NULL)
        return -ENOMEM;
    while ((count = registry_scan(registry, &cursor, rows)) > 0)
        for (size_t i = 0; i < count; i++)
            if (is_wanted(page, &rows[i]))
                keep(&best, &rows[i]);
    cut(&best);
    int error = 0;
    size_t told = 0;
    while (told < best.count && (error = put(out, classes, &best.rows[told])) == 0)
        told++;
    page->more = best.dropped || told < best.count;
    free(best.rows);
    return error == -ENOSPC ? 0 : error;
}
