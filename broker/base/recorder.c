/* SPDX-License-Identifier: Apache-2.0 */
#include "base/recorder.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/lock.h"
#include "base/recorder_private.h"

/* Why: a log that is quiet enough for every day has left out what one wants to know after a crash,
 * and a log that has it all is too much. So everything is kept for a short while, and only looked
 * at when somebody asks.
 *
 * Lines stand behind each other in a ring of bytes. Positions only rise; a position modulo the size
 * is a place. Whole lines lie between `tail` and `head`, always: who adds one first moves the tail
 * past what will be overwritten, then copies, then moves the head. A thread that dies in between,
 * or one that is stopped there when another one dies, leaves whole lines, and that is what the
 * signal handler relies upon, which takes no lock.
 *
 * Readers copy piece by piece under the lock and look at the copy without it, so nobody who logs
 * waits for more than one piece. */

/* A line that finds no room in a piece would end the reading. */
enum { PIECE_BYTES = RECORDER_LINE_BYTES_MAX };

struct recorder *recorder_create(size_t bytes)
{
    struct recorder *recorder = malloc(sizeof(*recorder) + bytes);
    if (recorder == NULL)
        return NULL;
    lock_init(&recorder->lock);
    atomic_init(&recorder->tail, 0);
    atomic_init(&recorder->head, 0);
    atomic_init(&recorder->frozen, false);
    recorder->size = bytes;
    /* Touched now: a page that is there cannot be missing in a crash for want of memory. */
    memset(recorder->bytes, '\n', bytes);
    return recorder;
}

void recorder_destroy(struct recorder *recorder)
{
    if (recorder == NULL)
        return;
    lock_destroy(&recorder->lock);
    free(recorder);
}

size_t recorder_capacity(const struct recorder *recorder)
{
    return recorder->size;
}

/* The bytes at a position lie in one piece up to the end of the ring, or in two. */
static size_t first_part(const struct recorder *recorder, uint64_t position, size_t size)
{
    size_t left = recorder->size - (size_t)(position % recorder->size);
    return size < left ? size : left;
}

static void copy_in(struct recorder *recorder, uint64_t position, const char *from, size_t size)
{
    CHECK(lock_held(&recorder->lock));
    size_t first = first_part(recorder, position, size);
    memcpy(recorder->bytes + position % recorder->size, from, first);
    memcpy(recorder->bytes, from + first, size - first);
}

static void copy_out(const struct recorder *recorder, uint64_t position, char *to, size_t size)
{
    CHECK(lock_held(&recorder->lock) && size <= recorder->size);
    size_t first = first_part(recorder, position, size);
    memcpy(to, recorder->bytes + position % recorder->size, first);
    memcpy(to + first, recorder->bytes, size - first);
}

/* The beginning of the first line that begins at or after `position`, which is not before the
 * tail. */
static uint64_t line_from(const struct recorder *recorder, uint64_t position, uint64_t tail,
                          uint64_t head)
{
    CHECK(tail <= head && head - tail <= recorder->size && position >= tail);
    if (position == tail)
        return tail;
    for (position--; position < head; position++)
        if (recorder->bytes[position % recorder->size] == '\n')
            return position + 1;
    return head;
}

void recorder_add(struct recorder *recorder, const char *line, size_t size)
{
    if (recorder == NULL || size == 0 || size > recorder->size || size > RECORDER_LINE_BYTES_MAX)
        return;
    CHECK(line[size - 1] == '\n');
    lock_take(&recorder->lock);
    uint64_t head = atomic_load_explicit(&recorder->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&recorder->tail, memory_order_relaxed);
    bool frozen = atomic_load_explicit(&recorder->frozen, memory_order_relaxed);
    if (!frozen) {
        if (head + size > tail + recorder->size)
            tail = line_from(recorder, head + size - recorder->size, tail, head);
        atomic_store_explicit(&recorder->tail, tail, memory_order_relaxed);
        /* The handler may run in this very thread from here on: the tail before the bytes, the
         * bytes before the head. */
        atomic_thread_fence(memory_order_seq_cst);
        copy_in(recorder, head, line, size);
        atomic_store_explicit(&recorder->head, head + size, memory_order_release);
    }
    lock_give(&recorder->lock);
}

/* Copies whole lines from `*position` on, or the tail if that is later. 0: there are none. */
static size_t take_piece(struct recorder *recorder, uint64_t *position, char piece[PIECE_BYTES])
{
    lock_take(&recorder->lock);
    uint64_t head = atomic_load_explicit(&recorder->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&recorder->tail, memory_order_relaxed);
    *position = *position < tail ? tail : line_from(recorder, *position, tail, head);
    size_t size = *position < head ? (size_t)(head - *position) : 0;
    size = size < PIECE_BYTES ? size : PIECE_BYTES;
    copy_out(recorder, *position, piece, size);
    lock_give(&recorder->lock);
    const char *last = memrchr(piece, '\n', size);
    return last != NULL ? (size_t)(last - piece) + 1 : 0;
}

/* A quote inside of a value is escaped, so the name of a field cannot be found in one. Names of
 * users need no escape. */
static bool names_user(const char *line, size_t size, const char *user)
{
    static const char key[] = ",\"user\":\"";
    const char *at = memmem(line, size, key, sizeof(key) - 1);
    if (at == NULL)
        return false;
    at += sizeof(key) - 1;
    size_t length = strlen(user);
    size_t left = size - (size_t)(at - line);
    return left > length && memcmp(at, user, length) == 0 && at[length] == '"';
}

uint64_t recorder_read(struct recorder *recorder, uint64_t position, const char *user,
                       recorder_each *each, void *context)
{
    char piece[PIECE_BYTES];
    size_t size;
    while ((size = take_piece(recorder, &position, piece)) > 0) {
        for (size_t at = 0; at < size;) {
            const char *line = piece + at;
            size_t length = (size_t)((const char *)memchr(line, '\n', size - at) - line);
            bool wanted = user == NULL || user[0] == '\0' || names_user(line, length, user);
            if (wanted && !each(context, line, length))
                return position + at;
            at += length + 1;
        }
        position += size;
    }
    return position;
}

struct skip {
    size_t count;
};

static bool count_line(void *context, const char *line, size_t size)
{
    (void)line;
    (void)size;
    ((struct skip *)context)->count++;
    return true;
}

static bool skip_line(void *context, const char *line, size_t size)
{
    (void)line;
    (void)size;
    struct skip *skip = context;
    if (skip->count == 0)
        return false;
    skip->count--;
    return true;
}

uint64_t recorder_newest(struct recorder *recorder, const char *user, size_t count)
{
    struct skip skip = {0};
    (void)recorder_read(recorder, 0, user, count_line, &skip);
    skip.count = skip.count > count ? skip.count - count : 0;
    return recorder_read(recorder, 0, user, skip_line, &skip);
}
