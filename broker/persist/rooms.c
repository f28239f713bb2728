/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/rooms.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "actors/kinds.h"

/* The registry gives actors in no order, and a page is the first of them by name, or by what the
 * asker finds most of. So the best so far are kept, and as many again beside them: when those are
 * full too, all are sorted and the worse half is forgotten. What that needs does not depend on how
 * many rooms there are. */

struct best {
    struct room_row *rows;
    size_t count, limit; /* room for twice the limit */
    bool dropped;
};

static int in_order(const void *one, const void *other)
{
    const struct room_row *first = one, *second = other;
    if (first->rank != second->rank)
        return first->rank > second->rank ? -1 : 1;
    return strcmp(first->name, second->name);
}

static void cut(struct best *best)
{
    qsort(best->rows, best->count, sizeof(*best->rows), in_order);
    best->dropped = best->dropped || best->count > best->limit;
    best->count = best->count < best->limit ? best->count : best->limit;
}

static bool is_wanted(const struct room_page *page, const struct registry_row *row)
{
    return row->behaviour->kind == KIND_ROOM && row->numbers[ROOM_NUMBER_INCARNATION] != 0 &&
           strncmp(row->name + 1, page->prefix, strlen(page->prefix)) == 0 &&
           (page->rank != NULL || strcmp(row->name + 1, page->after) > 0);
}

static void keep(struct best *best, const struct room_page *page, const struct registry_row *row)
{
    if (best->count == 2 * best->limit)
        cut(best);
    struct room_row *kept = &best->rows[best->count++];
    *kept = (struct room_row){0};
    strncpy(kept->name, row->name + 1, sizeof(kept->name) - 1);
    memcpy(kept->numbers, row->numbers, sizeof(kept->numbers));
    kept->number = room_number(row->handle);
    if (page->rank != NULL)
        kept->rank = page->rank(page->context, kept->numbers);
}

int rooms_pick(struct registry *registry, struct room_page *page, struct room_row **rows,
               size_t *count)
{
    struct best best = {.limit = page->limit};
    struct registry_row found[REGISTRY_SCAN_ROWS];
    uint64_t cursor = 0;
    size_t some;
    best.rows = calloc(2 * best.limit, sizeof(*best.rows));
    if (best.rows == NULL)
        return -ENOMEM;
    while ((some = registry_scan(registry, &cursor, found)) > 0)
        for (size_t i = 0; i < some; i++)
            if (is_wanted(page, &found[i]))
                keep(&best, page, &found[i]);
    cut(&best);
    page->more = best.dropped;
    *rows = best.rows;
    *count = best.count;
    return 0;
}

const struct room_class *rooms_class(const struct room_classes *classes, const struct room_row *row)
{
    uint64_t index = row->numbers[ROOM_NUMBER_CLASS];
    struct bytes name = bytes_of_text(row->name);
    if (classes != NULL && index < classes->count &&
        room_pattern_fits(bytes_of_text(classes->classes[index].pattern), name))
        return &classes->classes[index];
    return room_class_of(classes, name);
}

static int put(struct link_page *out, const struct room_classes *classes,
               const struct room_row *row)
{
    const struct room_class *class = rooms_class(classes, row);
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
    struct room_row *rows;
    size_t count, told = 0;
    int error = rooms_pick(registry, page, &rows, &count);
    if (error != 0)
        return error;
    while (told < count && (error = put(out, classes, &rows[told])) == 0)
        told++;
    page->more = page->more || told < count;
    free(rows);
    return error == -ENOSPC ? 0 : error;
}
