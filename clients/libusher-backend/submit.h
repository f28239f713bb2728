/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_BACKEND_SUBMIT_H
#define USHER_LIBUSHER_BACKEND_SUBMIT_H

/* Commands under way: batches and their results. For the thread that runs, where nothing else is
 * said. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.pb-c.h"
#include "libusher-backend/queue.h"

enum { BATCH_COMMANDS_MAX = 256 };

struct usher_backend;

/* The batch under way, in its order. */
struct batch {
    struct command *commands[BATCH_COMMANDS_MAX];
    size_t count;
    uint64_t seq;
    uint64_t link;
    unsigned attempts;
};

/* Queues a command, from any thread; see usher_backend.h. */
int submit_command(struct usher_backend *backend, const Usher__V1__Command *message,
                   uint64_t token);

/* Fills backend->batch and backend->request from a wanted snapshot page or else the queue; false
 * when there is nothing to send. */
bool submit_build(struct usher_backend *backend, uint64_t now_ms);

/* The node answered the batch. False when the answer does not fit the batch. */
bool submit_results(struct usher_backend *backend, const Usher__V1__Results *results);

/* The link that the batch was for is gone. */
void submit_stale(struct usher_backend *backend);

/* The node refused the batch: its lane stands where it stood, and the next one bears that number.
 */
void submit_undone(struct usher_backend *backend);

/* Ends every command of the batch with `code`. */
void submit_fail(struct usher_backend *backend, unsigned code);
void batch_fini(struct usher_backend *backend);

#endif
