/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_BACKEND_QUEUE_H
#define USHER_LIBUSHER_BACKEND_QUEUE_H

/* Commands that wait for the node, encoded, within limits. Any thread, but one at a time for what
 * begins and ends a queue; nothing blocks for longer than its own lock. */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "usher_backend.h"

enum {
    FRAME_BYTES_DEFAULT = 16 * 1024, /* until the node says what it takes */
    FRAME_BYTES_MIN = 1024,
    FRAME_OVERHEAD = 64, /* of a Submit, around its commands */
    COMMANDS_DEFAULT = 4096,
    COMMAND_BYTES_DEFAULT = 4 * 1024 * 1024,
};

enum command_kind {
    COMMAND_PLAIN,
    COMMAND_REPLY,     /* only for the link whose call it answers */
    COMMAND_SNAPSHOT,  /* one page, asked by presence.c */
    COMMAND_TRANSIENT, /* a push that is soon worth nothing */
    COMMAND_STORED,    /* a push that the node is to store */
};

struct command {
    struct command *next;
    enum command_kind kind;
    uint64_t token;
    uint64_t link_count; /* COMMAND_REPLY */
    uint64_t made_ms;    /* COMMAND_TRANSIENT */
    size_t size;
    uint8_t packed[]; /* an encoded Command */
};

struct queue {
    pthread_mutex_t mutex; /* a leaf: nothing is called under it */
    struct command *first;
    struct command **last;
    size_t commands;
    size_t bytes;
    size_t commands_max;
    size_t bytes_max;
    size_t frame_bytes_max;
};

/* 0, -ENOMEM or what else the lock says. */
int queue_init(struct queue *queue, const struct usher_backend_options *options);
void queue_fini(struct queue *queue);
bool queue_empty(struct queue *queue);
void queue_frame_bytes(struct queue *queue, size_t frame_bytes_max);

/* Takes the command: 0; -EMSGSIZE (it fits no frame) and -EAGAIN (the queue is full) leave it. */
int queue_add(struct queue *queue, struct command *command);

/* Gives the first command if it fits into `room` bytes, or NULL; one that fits no frame at all is
 * given too, so that it can be ended. */
struct command *queue_take(struct queue *queue, size_t room);

/* Takes the command back in front, and beyond the limits: it was in the queue before. */
void queue_return(struct queue *queue, struct command *command);

#endif
