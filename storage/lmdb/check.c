/* SPDX-License-Identifier: Apache-2.0 */
#include "lmdb/check.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "storage/store_ops.h"

/* LMDB believes its file. It takes an empty file for a new store, dies by SIGBUS on one that was
 * cut short, and by an assertion or worse on a page that is not what its parent says. Each of
 * them must be a clear message instead. So before LMDB opens the file, all pages that the newest
 * meta page leads to are visited here: right number and kind, nodes inside of the page, children
 * inside of the file, no page used twice or used and free at once, entry counts as told.
 *
 * The size of the file alone says nothing: a page that one transaction took and gave back is
 * never written, so a sound file may end before its last page. Only pages in use must be there.
 *
 * The layout is that of LMDB 0.9 data files (version 1) with 64-bit words, which is fixed:
 *
 *   page      number 8, pad 2, flags 2, then lower 2 and upper 2 (or, overflow: pages 4), then
 *             the offsets of the nodes, 2 each, up to `lower`; nodes lie from `upper` on
 *   node      low 2, high 2, flags 2, key size 2, key; in a leaf low and high are the data's
 *             size and the data follows the key; in a branch low, high, flags are the child
 *   database  pad 4, flags 2, depth 2, branch, leaf, overflow pages 8 each, entries 8, root 8
 *   meta      after the page's 16 bytes: magic 4, version 4, address 8, map size 8,
 *             two databases (free pages, main), last page 8, transaction 8
 *
 * The two meta pages hold the states of the last two transactions; the greater number is the state
 * that counts. So taking a transaction back is writing a smaller number over its own: whatever
 * else its meta page says is not read any more, and the next commit writes it anew.
 */

static_assert(sizeof(size_t) == 8, "the file layout below is the 64-bit one");

enum {
    FILE_VERSION = 1,
    PAGE_HEADER_BYTES = 16,
    PAGE_BYTES_MIN = 512,
    PAGE_BYTES_MAX = 32768,
    META_BYTES = 152,
    TRANSACTION_AT = 128, /* in the meta */
    NODE_HEADER_BYTES = 8,
    DATABASE_BYTES = 48,
    DEPTH_MAX = 32,
    PAGE_BRANCH = 1,
    PAGE_LEAF = 2,
    PAGE_OVERFLOW = 4,
    NODE_OVERFLOW = 1, /* the data is a page number, the value lies there */
    NODE_DATABASE = 2, /* the data is a database */
    NODE_FLAGS_NONE = 0,
    DATABASE_INTEGER_KEY = 0x08, /* only and always the free pages */
    DATABASE_NO_SUBDIR = 0x4000, /* left there by the file's birth under another name */
    AHEAD_BYTES = 128 << 10,     /* no more than what the system takes of one request, mostly */
};

static const uint32_t magic = 0xBEEFC0DE;
static const uint64_t page_none = UINT64_MAX;

struct file {
    const uint8_t *data;
    uint64_t bytes;
    uint64_t pages; /* in the file; the last page in use may lie beyond */
    uint64_t page_last;
    uint32_t page_bytes;
    uint8_t *claimed; /* a bit per page of the file */
};

enum tree_kind { TREE_FREE, TREE_MAIN, TREE_NAMED };

struct tree {
    enum tree_kind kind;
    unsigned depth;
    uint64_t root;
    uint64_t entries;
    uint64_t entries_seen;
};

struct node {
    const uint8_t *key_end;
    const uint8_t *page_end;
    uint64_t child;
    uint32_t data_bytes;
    uint16_t flags;
};

static uint16_t read16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static uint32_t read32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static uint64_t read64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

/* Each page has one use: false for the second claim, and for what is no data page at all. */
static bool claim(struct file *file, uint64_t page)
{
    if (page < 2 || page > file->page_last || page >= file->pages)
        return false;
    uint8_t bit = (uint8_t)(1u << (page & 7));
    if (file->claimed[page >> 3] & bit)
        return false;
    file->claimed[page >> 3] |= bit;
    return true;
}

static bool overflow_check(struct file *file, uint64_t number, uint32_t data_bytes,
                           const uint8_t **data)
{
    if (!claim(file, number))
        return false;
    const uint8_t *page = file->data + number * file->page_bytes;
    uint64_t pages = read32(page + 12);
    if (read64(page) != number || read16(page + 10) != PAGE_OVERFLOW)
        return false;
    if ((uint64_t)data_bytes + PAGE_HEADER_BYTES > pages * file->page_bytes)
        return false;
    for (uint64_t i = 1; i < pages; i++)
        if (!claim(file, number + i))
            return false;
    *data = page + PAGE_HEADER_BYTES;
    return true;
}

/* A list of free pages: how many, then their numbers. They may lie beyond the file's end. */
static bool free_list_check(struct file *file, const uint8_t *data, uint32_t data_bytes)
{
    if (data_bytes < 8 || read64(data) > data_bytes / 8 - 1)
        return false;
    uint64_t count = read64(data);
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t page = read64(data + 8 * i);
        if (page < 2 || page > file->page_last)
            return false;
        if (page < file->pages && !claim(file, page))
            return false;
    }
    return true;
}

static bool node_read(const struct file *file, const uint8_t *page, unsigned index, bool leaf,
                      struct node *node)
{
    unsigned upper = read16(page + 14);
    unsigned offset = read16(page + PAGE_HEADER_BYTES + 2 * index);
    if (offset < upper || offset + NODE_HEADER_BYTES > file->page_bytes)
        return false;
    const uint8_t *at = page + offset;
    node->page_end = page + file->page_bytes;
    node->key_end = at + NODE_HEADER_BYTES + read16(at + 6);
    node->flags = read16(at + 4);
    node->data_bytes = (uint32_t)read16(at) | (uint32_t)read16(at + 2) << 16;
    node->child = (uint64_t)node->data_bytes | (uint64_t)node->flags << 32;
    if (node->key_end > node->page_end)
        return false;
    uint64_t inside = node->flags & NODE_OVERFLOW ? 8 : node->data_bytes;
    return !leaf || inside <= (uint64_t)(node->page_end - node->key_end);
}

static bool tree_check(struct file *file, const uint8_t *database, enum tree_kind kind);

static bool leaf_node_check(struct file *file, const struct tree *tree, const struct node *node)
{
    const uint8_t *data = node->key_end;
    switch (node->flags) {
    case NODE_FLAGS_NONE:
        break;
    case NODE_OVERFLOW:
        if (!overflow_check(file, read64(node->key_end), node->data_bytes, &data))
            return false;
        break;
    case NODE_DATABASE:
        return tree->kind == TREE_MAIN && node->data_bytes == DATABASE_BYTES &&
               tree_check(file, data, TREE_NAMED);
    default:
        return false;
    }
    return tree->kind != TREE_FREE || free_list_check(file, data, node->data_bytes);
}

/* Recursion is bounded by DEPTH_MAX, and all of it by the pages of the file. */
static bool page_check(struct file *file, struct tree *tree, uint64_t number, unsigned depth)
{
    CHECK(depth >= 1 && depth <= tree->depth && tree->depth <= DEPTH_MAX);
    if (!claim(file, number))
        return false;
    bool leaf = depth == tree->depth;
    const uint8_t *page = file->data + number * file->page_bytes;
    if (read64(page) != number || read16(page + 10) != (leaf ? PAGE_LEAF : PAGE_BRANCH))
        return false;
    unsigned lower = read16(page + 12);
    unsigned upper = read16(page + 14);
    if (lower < PAGE_HEADER_BYTES || lower % 2 != 0 || lower > upper || upper > file->page_bytes)
        return false;
    unsigned nodes = (lower - PAGE_HEADER_BYTES) / 2;
    /* LMDB asserts two children everywhere but among the free pages. */
    if (nodes < (leaf || tree->kind == TREE_FREE ? 1u : 2u))
        return false;
    for (unsigned i = 0; i < nodes; i++) {
        struct node node;
        if (!node_read(file, page, i, leaf, &node))
            return false;
        if (!(leaf ? leaf_node_check(file, tree, &node)
                   : page_check(file, tree, node.child, depth + 1)))
            return false;
    }
    if (leaf)
        tree->entries_seen += nodes;
    return true;
}

static bool tree_check(struct file *file, const uint8_t *database, enum tree_kind kind)
{
    struct tree tree = {
        .kind = kind,
        .depth = read16(database + 6),
        .entries = read64(database + 32),
        .root = read64(database + 40),
    };
    unsigned flags = read16(database + 4);
    if (kind == TREE_FREE ? (flags & ~(unsigned)DATABASE_NO_SUBDIR) != DATABASE_INTEGER_KEY
                          : flags != 0)
        return false;
    if (tree.root == page_none)
        return tree.entries == 0;
    if (tree.depth < 1 || tree.depth > DEPTH_MAX)
        return false;
    return page_check(file, &tree, tree.root, 1) && tree.entries_seen == tree.entries;
}

static const uint8_t *meta_at(const struct file *file, unsigned index)
{
    CHECK(index < 2);
    return file->data + (size_t)index * file->page_bytes + PAGE_HEADER_BYTES;
}

static int metas_check(struct file *file, const char *path, char *error)
{
    if (file->bytes < PAGE_BYTES_MIN)
        return store_explain(error, -EUCLEAN, "%s is cut short (%llu bytes)", path,
                             (unsigned long long)file->bytes);
    file->page_bytes = read32(meta_at(file, 0) + 24);
    if (read32(meta_at(file, 0)) != magic || file->page_bytes < PAGE_BYTES_MIN ||
        file->page_bytes > PAGE_BYTES_MAX || (file->page_bytes & (file->page_bytes - 1)) != 0)
        return store_explain(error, -EUCLEAN, "%s is not a store, or its head is damaged", path);
    file->pages = file->bytes / file->page_bytes;
    if (file->pages < 2)
        return store_explain(error, -EUCLEAN, "%s is cut short (%llu bytes)", path,
                             (unsigned long long)file->bytes);
    for (unsigned i = 0; i < 2; i++) {
        if (read32(meta_at(file, i)) != magic || read32(meta_at(file, i) + 24) != file->page_bytes)
            return store_explain(error, -EUCLEAN, "%s: its head is damaged", path);
        if (read32(meta_at(file, i) + 4) != FILE_VERSION)
            return store_explain(error, -EUCLEAN, "%s is of a version that is not read here", path);
    }
    return 0;
}

/* Transactions write the two in turn, so their numbers are neighbours and say which page they are
 * on. NULL when they are not: a flipped bit must not bring an older state back. */
static const uint8_t *meta_newest(const struct file *file)
{
    static_assert(META_BYTES <= PAGE_BYTES_MIN, "a meta page holds a meta");
    uint64_t even = read64(meta_at(file, 0) + TRANSACTION_AT);
    uint64_t odd = read64(meta_at(file, 1) + TRANSACTION_AT);
    if (even % 2 != 0 || odd % 2 != 1 || (odd > even ? odd - even : even - odd) != 1)
        return NULL;
    return meta_at(file, odd > even ? 1 : 0);
}

static int pages_check(struct file *file, const char *path, char *error)
{
    const uint8_t *meta = meta_newest(file);
    if (meta == NULL)
        return store_explain(error, -EUCLEAN, "%s: its head is damaged", path);
    file->page_last = read64(meta + 120);
    file->claimed = calloc(1, file->pages / 8 + 1);
    if (file->claimed == NULL)
        return store_explain(error, -ENOMEM, "no memory to check %s", path);
    bool sound = tree_check(file, meta + 24, TREE_FREE) && tree_check(file, meta + 72, TREE_MAIN);
    free(file->claimed);
    if (sound)
        return 0;
    return store_explain(error, -EUCLEAN,
                         "%s is damaged or cut short; restore it from a backup, or move it away "
                         "to start with an empty store",
                         path);
}

/* All of it will be looked at, in the order of the trees. So it is asked for in the order of the
 * file, which a disk gives much faster, and the looking begins while it comes. What is in memory
 * already is not read again. */
static void read_ahead(int descriptor, off_t bytes)
{
    for (off_t at = 0; at < bytes; at += AHEAD_BYTES)
        (void)posix_fadvise(descriptor, at, AHEAD_BYTES, POSIX_FADV_WILLNEED);
}

int lmdb_file_check(const char *path, char *error)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* it may be a pipe */
    struct stat status;
    if (descriptor < 0 || fstat(descriptor, &status) < 0) {
        int code = errno;
        if (descriptor >= 0)
            (void)close(descriptor);
        return store_explain(error, -code, "cannot read %s: %s", path, strerror(code));
    }
    struct file file = {.bytes = (uint64_t)status.st_size};
    void *map = MAP_FAILED;
    if (S_ISREG(status.st_mode) && file.bytes > 0) {
        read_ahead(descriptor, status.st_size);
        map = mmap(NULL, file.bytes, PROT_READ, MAP_SHARED, descriptor, 0);
    }
    (void)close(descriptor);
    if (map == MAP_FAILED)
        return store_explain(error, -EUCLEAN,
                             "%s is empty or no file; restore it from a backup, "
                             "or move it away to start with an empty store",
                             path);
    file.data = map;
    int result = metas_check(&file, path, error);
    if (result == 0)
        result = pages_check(&file, path, error);
    (void)munmap(map, file.bytes);
    return result;
}

/* --- the map ------------------------------------------------------------------------------- */

/* LMDB does not tell where it has mapped the file. Each page begins with its number, so one page
 * tells it; the head of the file proves it. Pages of another size than the system's need not lie
 * at multiples of their size. */
void *lmdb_file_map(const void *inside, uint64_t page_bytes)
{
    if (page_bytes != (uint64_t)sysconf(_SC_PAGESIZE))
        return NULL;
    const uint8_t *page = (const uint8_t *)((uintptr_t)inside & ~(uintptr_t)(page_bytes - 1));
    const uint8_t *start = page - read64(page) * page_bytes;
    return read32(start + PAGE_HEADER_BYTES) == magic ? (void *)start : NULL;
}

/* --- sync and undo ----------------------------------------------------------------------- */

int lmdb_file_sync(const char *path, char *error)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int code = descriptor < 0 || fdatasync(descriptor) < 0 ? errno : 0;
    if (descriptor >= 0)
        (void)close(descriptor);
    return code == 0 ? 0 : store_explain(error, -code, "cannot sync %s: %s", path, strerror(code));
}

static int number_read(int descriptor, uint64_t page_bytes, unsigned index, uint64_t *number)
{
    uint8_t meta[META_BYTES];
    ssize_t got =
        pread(descriptor, meta, sizeof(meta), (off_t)(index * page_bytes + PAGE_HEADER_BYTES));
    if (got < 0)
        return -errno;
    if (got != META_BYTES || read32(meta) != magic || read32(meta + 24) != page_bytes)
        return -EUCLEAN;
    *number = read64(meta + TRANSACTION_AT);
    return 0;
}

/* The number is written also when it is there already: the page in the cache may be older than the
 * failure, and not what the disk holds. 8 aligned bytes lie in one sector. */
static int number_write(int descriptor, uint64_t page_bytes, unsigned index, uint64_t number)
{
    CHECK(index == number % 2); /* or the state that counts would be written over */
    off_t at = (off_t)(index * page_bytes + PAGE_HEADER_BYTES + TRANSACTION_AT);
    ssize_t put = pwrite(descriptor, &number, sizeof(number), at);
    if (put != (ssize_t)sizeof(number))
        return put < 0 ? -errno : -EIO;
    return fdatasync(descriptor) < 0 ? -errno : 0;
}

static int undo(int descriptor, uint64_t last)
{
    uint8_t head[META_BYTES];
    uint64_t number = 0;
    unsigned index = last % 2 == 0;
    if (last == 0)
        return -EUCLEAN;
    ssize_t got = pread(descriptor, head, sizeof(head), PAGE_HEADER_BYTES);
    if (got != META_BYTES)
        return got < 0 ? -errno : -EUCLEAN;
    uint64_t page_bytes = read32(head + 24);
    int result = number_read(descriptor, page_bytes, index ^ 1, &number);
    if (result == 0 && number != last)
        result = -EUCLEAN;
    if (result == 0)
        result = number_read(descriptor, page_bytes, index, &number);
    if (result == 0 && number != last + 1 && number != last - 1)
        result = -EUCLEAN;
    return result == 0 ? number_write(descriptor, page_bytes, index, last - 1) : result;
}

int lmdb_file_undo(const char *path, uint64_t transaction_last)
{
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0)
        return -errno;
    int result = undo(descriptor, transaction_last);
    (void)close(descriptor);
    return result;
}
