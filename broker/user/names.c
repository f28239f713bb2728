/* SPDX-License-Identifier: Apache-2.0 */
#include "user/names.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"

/* Before each name stand its length and how far behind the beginning of the allocation it is, so a
 * pointer to the name is all that is needed. Thousands of names come within a second when a game
 * starts; an allocation for each was a tenth of what its friends cost. */

struct names {
    uint32_t left; /* names that are kept, and one while more may come */
    uint32_t size; /* of the allocation */
    uint32_t used;
    uint8_t bytes[];
};

enum { BEFORE_BYTES = sizeof(uint32_t) + 1 };

struct names *names_create(uint32_t count, size_t bytes)
{
    struct names *names;
    size_t size = sizeof(*names) + count * (size_t)BEFORE_BYTES + bytes;
    CHECK(size <= UINT32_MAX);
    MEMORY_MUST((names = malloc(size)) != NULL, "friends");
    memory_account(MEMORY_OF_FRIENDS, (int64_t)size);
    *names = (struct names){.left = 1, .size = (uint32_t)size, .used = sizeof(*names)};
    return names;
}

static void leave(struct names *names)
{
    CHECK(names->left > 0);
    if (--names->left > 0)
        return;
    memory_account(MEMORY_OF_FRIENDS, -(int64_t)names->size);
    free(names);
}

uint8_t *names_add(struct names *names, struct bytes name)
{
    uint8_t *at = (uint8_t *)names + names->used + BEFORE_BYTES;
    uint32_t offset = names->used + BEFORE_BYTES;
    CHECK(name.size <= UINT8_MAX && offset + name.size <= names->size);
    memcpy(at - BEFORE_BYTES, &offset, sizeof(offset));
    at[-1] = (uint8_t)name.size;
    bytes_put(at, name);
    names->used = offset + (uint32_t)name.size;
    names->left++;
    return at;
}

void names_close(struct names *names)
{
    leave(names);
}

struct bytes names_get(const uint8_t *name)
{
    return (struct bytes){name, name[-1]};
}

void names_release(uint8_t *name)
{
    uint32_t offset;
    memcpy(&offset, name - BEFORE_BYTES, sizeof(offset));
    leave((struct names *)(void *)(name - offset));
}
