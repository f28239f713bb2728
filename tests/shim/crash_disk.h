/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_CRASH_DISK_H
#define USHER_TESTS_CRASH_DISK_H

/* A disk that keeps what was synced and chooses about the rest: the log of the preload library is
 * applied to it record by record, and at any point it gives an image of what a loss of power could
 * have left. One thread; no memory is an end of the program. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/shim.h"

/* A record of the log, with its bytes in the memory of the log. */
struct crash_record {
    enum shim_record_kind kind;
    uint64_t offset;
    size_t bytes;
    const uint8_t *data;
    char name[SHIM_NAME_BYTES];
};

/* Which of the unsynced writes an image has. */
enum crash_choice {
    CRASH_NONE,
    CRASH_ALL,
    CRASH_WRITES,  /* each write with even odds */
    CRASH_PAGES,   /* each page of them */
    CRASH_SECTORS, /* each 512 bytes of them: torn pages */
    CRASH_CHOICES,
};

/* Where the file lies in an image. */
enum crash_name {
    CRASH_ABSENT,
    CRASH_BIRTH, /* under the name under which it is made */
    CRASH_DATA,
};

struct crash_image {
    enum crash_name name;
    uint8_t *data;
    size_t size;
    size_t left_out; /* pages or sectors of unsynced writes that it does not have */
};

struct crash_disk;

struct crash_disk *crash_disk_create(void);
void crash_disk_destroy(struct crash_disk *disk);

/* The record has happened; its bytes are borrowed for as long as the disk lives. False for a
 * record that this model does not know how to keep. */
bool crash_disk_apply(struct crash_disk *disk, const struct crash_record *record);

/* What is there when power is lost now, or while `torn` (NULL: nothing) is being written. Chance
 * comes from *seed. The image is the caller's, who frees its data. */
void crash_disk_image(const struct crash_disk *disk, const struct crash_record *torn,
                      enum crash_choice choice, uint64_t *seed, struct crash_image *image);

/* The next number of a sequence that a seed fixes. */
uint64_t crash_random(uint64_t *seed);

#endif
