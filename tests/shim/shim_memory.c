/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim/shim.h"

/* A preload library that lets allocations fail: one in so many of those that usherd itself makes
 * (the program, not the libraries that it uses) and that are large enough. And it sums what is
 * allocated, by the program and by its libraries, as the heap counts it. The play maps the same
 * file and may change the numbers at any time (tests/play/usherplay/shim.py). It calls glibc's
 * functions by their inner names, so it is not for a program under a sanitizer.
 *
 * The functions that are replaced have no context of ours, so the state is static. */

/* In the order of MEMORY_FIELDS in shim.py. */
struct control {
    _Atomic uint64_t every; /* one in so many fails; 0: none */
    _Atomic uint64_t least; /* of those of at least so many bytes */
    _Atomic uint64_t asked; /* counted up here: those that could have failed */
    _Atomic uint64_t failed;
    _Atomic uint64_t live; /* bytes that are allocated, with the heap's own eight for each */
};

static struct {
    struct control *control;
    uintptr_t from, to; /* where the program's code is */
} shim;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *memory);

enum { HEAP_HEADER_BYTES = 8 };

/* The first is the program itself. */
static int look_at(struct dl_phdr_info *info, size_t size, void *argument)
{
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X)) {
            shim.from = info->dlpi_addr + part->p_vaddr;
            shim.to = shim.from + part->p_memsz;
        }
    }
    return 1;
}

static __attribute__((constructor)) void start(void)
{
    const char *path = getenv("USHER_SHIM_MEMORY");
    int file = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *memory = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    dl_iterate_phdr(look_at, NULL);
    if (memory != MAP_FAILED)
        shim.control = memory;
}

static bool fails(size_t size, const void *caller)
{
    struct control *control = shim.control;
    uintptr_t at = (uintptr_t)caller;
    uint64_t every = control != NULL ? atomic_load(&control->every) : 0;
    if (every == 0 || at < shim.from || at >= shim.to || size < atomic_load(&control->least) ||
        (atomic_fetch_add(&control->asked, 1) + 1) % every != 0)
        return false;
    atomic_fetch_add(&control->failed, 1);
    errno = ENOMEM;
    return true;
}

static uint64_t heap_bytes(void *memory)
{
    return memory != NULL ? malloc_usable_size(memory) + HEAP_HEADER_BYTES : 0;
}

/* Gives it on. */
static void *counted(void *memory)
{
    if (shim.control != NULL)
        atomic_fetch_add_explicit(&shim.control->live, heap_bytes(memory), memory_order_relaxed);
    return memory;
}

static void uncount(uint64_t bytes)
{
    if (shim.control != NULL)
        atomic_fetch_sub_explicit(&shim.control->live, bytes, memory_order_relaxed);
}

SHIM_EXPORT void *malloc(size_t size)
{
    return fails(size, __builtin_return_address(0)) ? NULL : counted(__libc_malloc(size));
}

SHIM_EXPORT void *calloc(size_t count, size_t size)
{
    return fails(count * size, __builtin_return_address(0)) ? NULL
                                                            : counted(__libc_calloc(count, size));
}

SHIM_EXPORT void *realloc(void *memory, size_t size)
{
    if (fails(size, __builtin_return_address(0)))
        return NULL;
    uint64_t before = heap_bytes(memory);
    void *after = __libc_realloc(memory, size);
    if (after != NULL || size == 0) {
        uncount(before);
        counted(after);
    }
    return after;
}

SHIM_EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
    return counted(__libc_memalign(alignment, size));
}

SHIM_EXPORT int posix_memalign(void **memory, size_t alignment, size_t size)
{
    *memory = counted(__libc_memalign(alignment, size));
    return *memory != NULL ? 0 : ENOMEM;
}

SHIM_EXPORT void free(void *memory)
{
    uncount(heap_bytes(memory));
    __libc_free(memory);
}
