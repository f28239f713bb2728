/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_SHIM_H
#define USHER_TESTS_SHIM_H

/* What a play and the preload library share: a control file, mapped by both, and a log of what
 * was written. The library (libusher_shim.so) is for usherd under a play; it needs
 *
 *   USHER_SHIM_CONTROL   the control file, made by the play (tests/play/usherplay/shim.py)
 *   USHER_SHIM_FOLDER    the folder whose files are watched, with their absolute names
 *   USHER_SHIM_LOG       where to record; nothing is recorded without it
 *
 * Without a control file every call goes through untouched. Watched are the files below the
 * folder whose names begin with "data.mdb", and the folder itself; lock files are not. */

#include <stdatomic.h>
#include <stdint.h>

#define SHIM_EXPORT __attribute__((visibility("default")))

enum { SHIM_CONTROL_MAGIC = 0x6d696873, SHIM_RECORD_MAGIC = 0x64636572, SHIM_NAME_BYTES = 32 };

/* Kinds of calls, as bits of `calls` and `hold`. */
enum {
    SHIM_WRITES = 1,        /* write, writev, pwrite, pwritev */
    SHIM_SYNCS = 2,         /* fsync, fdatasync, msync */
    SHIM_SYNCED_WRITES = 4, /* a write through a descriptor opened with O_DSYNC */
};

/* How a call fails. */
enum {
    SHIM_REFUSED = 0,         /* nothing was done */
    SHIM_DONE_AND_DENIED = 1, /* it was done, and fails all the same */
    SHIM_HALF = 2,            /* a write does half of its bytes and says so; a sync is refused */
    SHIM_DONE_THEN_DEAD = 3,  /* the first is done and denied, then all kinds are refused */
};

/* The numbers' order is that of FIELDS in shim.py. The play writes, the library reads, but for
 * those that are marked: both ways by single atomic stores, each of which stands for itself. */
struct shim_control {
    _Atomic uint64_t magic;
    _Atomic uint64_t calls; /* which kinds of calls fail; the play sets it last */
    _Atomic uint64_t error; /* with which errno */
    _Atomic uint64_t manner;
    _Atomic uint64_t skip;   /* so many go through before; counted down by the library */
    _Atomic uint64_t count;  /* so many fail; counted down by the library */
    _Atomic uint64_t failed; /* counted up by the library */
    _Atomic int64_t realtime_offset_ms;
    _Atomic uint64_t hold;     /* calls of these kinds wait while their bit is set */
    _Atomic uint64_t held;     /* how many have begun to wait; counted up by the library */
    _Atomic uint64_t records;  /* whole records in the log; counted up by the library */
    _Atomic uint64_t delay_us; /* every sync takes so much longer */
};

enum shim_record_kind {
    SHIM_RECORD_START = 1, /* a process begins */
    SHIM_RECORD_WRITE,
    SHIM_RECORD_SYNCED_WRITE,
    SHIM_RECORD_SYNC,
    SHIM_RECORD_TRUNCATE, /* to `offset` bytes */
    SHIM_RECORD_RENAME,   /* the bytes are the new name */
    SHIM_RECORD_UNLINK,
    SHIM_RECORD_FOLDER_SYNC,
};

/* One record of the log; `bytes` bytes follow it. Only calls that succeeded are recorded, with
 * what they did, in the order in which they ended. */
struct shim_record {
    uint32_t magic;
    uint32_t kind;
    uint64_t offset;
    uint64_t bytes;
    char name[SHIM_NAME_BYTES]; /* without the folder, NUL-terminated */
};

#endif
