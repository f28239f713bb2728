/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROCESS_HANDOVER_H
#define USHER_PROCESS_HANDOVER_H

/* The channel between a process and the one that takes its place: words, descriptors, and sealed
 * runs of bytes, each way to a deadline. It knows nothing of what is handed over.
 *
 * One thread of each process; what is said and heard blocks until its deadline at most. Errors are
 * negative errno: -ETIMEDOUT; -EPIPE: the other side has ended, or has let go; -EPROTO: what came
 * cannot be. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is said, in this order. HELLO and READY are the new process's, the others the old one's. */
enum handover_word {
    HANDOVER_HELLO = 1,   /* it has read its configuration and can take over */
    HANDOVER_DESCRIPTORS, /* some, and for each what it is */
    HANDOVER_STATE,       /* sealed bytes; these two again, until the bytes say that it is all */
    HANDOVER_READY,       /* all of it is understood, and there */
    HANDOVER_GO,          /* it is the new process's from here on */
    HANDOVER_REFUSED,     /* either side: why not, for people */
    HANDOVER_WORDS
};

enum {
    HANDOVER_BODY_BYTES_MAX = 16 * 1024,
    HANDOVER_DESCRIPTORS_MAX = 253, /* the kernel's limit for one message */
    HANDOVER_ERROR_BYTES = 512,     /* of a line for a person */
};

/* One message. Only DESCRIPTORS and STATE have descriptors; heard, they are the caller's, closed
 * when a program is started. */
struct handover_message {
    uint8_t word; /* enum handover_word */
    uint16_t fd_count;
    uint32_t size;
    int fds[HANDOVER_DESCRIPTORS_MAX];
    uint8_t body[HANDOVER_BODY_BYTES_MAX];
};

struct handover;

/* --- the process that is there ---------------------------------------------------------------- */

/* Starts `program` with the channel. It gets the arguments and the environment as they are, but for
 * what a service manager has meant for this process alone. 0, or -errno with a line in `error`
 * (HANDOVER_ERROR_BYTES). */
int handover_start(struct handover **handover, const char *program, char *const argv[],
                   char *error);

/* The program that was started as `called`: by its path, where there may be another one by now.
 * Into `found` (PATH_MAX) if need be. */
const char *handover_program(const char *called, char *found);

/* Its process number. */
int64_t handover_process(const struct handover *handover);

/* Whether somebody has asked this process for something that only it can do (SIGUSR2) since it took
 * such a signal last. And what was asked by other signals is passed on to the other one. For the
 * thread that waits for signals, in which all of them are blocked. */
bool handover_is_wanted(void);
void handover_pass_signals(const struct handover *handover);

/* It is not to take over: ended if it has not ended by itself, and waited for. All that it was
 * given is closed there with it. NULL is fine. */
void handover_cancel(struct handover *handover);

/* --- the process that comes ------------------------------------------------------------------- */

/* Whether this one was started by handover_start: 0; -ENOENT if not, which is the usual start.
 * Once, before there are other threads or other descriptors. */
int handover_take(struct handover **handover);

/* Waits until the process before us has ended, which it does with its last word: what it had open
 * is free then. -ETIMEDOUT: it has not. */
int handover_await_end(struct handover *handover, uint64_t until_ms);

/* Lets go of the channel. NULL is fine. */
void handover_close(struct handover *handover);

/* --- both ------------------------------------------------------------------------------------- */

/* The descriptors stay the caller's. */
int handover_say(struct handover *handover, const struct handover_message *message,
                 uint64_t until_ms);

/* The next word, which has to be `word`. -ECANCELED: it is REFUSED, and `error`
 * (HANDOVER_ERROR_BYTES) has why. Descriptors that came with what cannot be are closed. */
int handover_hear(struct handover *handover, enum handover_word word,
                  struct handover_message *message, uint64_t until_ms, char *error);

/* The next word, whichever it is but REFUSED. */
int handover_hear_some(struct handover *handover, struct handover_message *message,
                       uint64_t until_ms, char *error);

/* A REFUSED with that line, as far as it can be said. */
void handover_refuse(struct handover *handover, const char *why);

/* A new descriptor that holds these bytes and can be changed by nobody; -errno. */
int handover_seal(const void *data, size_t size);

/* What such a one holds, mapped until handover_unmap: 0, or -EPROTO for one that could still be
 * changed. */
int handover_map(int fd, const uint8_t **data, size_t *size);
void handover_unmap(const uint8_t *data, size_t size);

#endif
