/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher-backend/queue.h"

#include <errno.h>
#include <stdlib.h>

#include "common/check.h"

/* A list and three sums under one lock, a leaf: nothing is called under it. What any thread adds is
 * counted before anybody is told that it is there. */

int queue_init(struct queue *queue, const struct usher_backend_options *options)
{
    int error = pthread_mutex_init(&queue->mutex, NULL);
    if (error != 0)
        return -error;
    queue->last = &queue->first;
    queue->commands_max =
        options->queue_commands_max != 0 ? options->queue_commands_max : COMMANDS_DEFAULT;
    queue->bytes_max =
        options->queue_bytes_max != 0 ? options->queue_bytes_max : COMMAND_BYTES_DEFAULT;
    queue->frame_bytes_max = FRAME_BYTES_DEFAULT;
    return 0;
}

void queue_fini(struct queue *queue)
{
    while (queue->first != NULL) {
        struct command *next = queue->first->next;
        free(queue->first);
        queue->first = next;
    }
    pthread_mutex_destroy(&queue->mutex);
}

bool queue_empty(struct queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    bool empty = queue->first == NULL;
    pthread_mutex_unlock(&queue->mutex);
    return empty;
}

void queue_frame_bytes(struct queue *queue, size_t frame_bytes_max)
{
    pthread_mutex_lock(&queue->mutex);
    queue->frame_bytes_max = frame_bytes_max;
    pthread_mutex_unlock(&queue->mutex);
}

static bool fits_frame(size_t command_bytes, size_t frame_bytes_max)
{
    return command_bytes + FRAME_OVERHEAD <= frame_bytes_max;
}

int queue_add(struct queue *queue, struct command *command)
{
    int error = 0;
    pthread_mutex_lock(&queue->mutex);
    if (!fits_frame(command->size, queue->frame_bytes_max)) {
        error = -EMSGSIZE;
    } else if (queue->commands >= queue->commands_max ||
               queue->bytes + command->size > queue->bytes_max) {
        error = -EAGAIN;
    } else {
        *queue->last = command;
        queue->last = &command->next;
        queue->commands++;
        queue->bytes += command->size;
    }
    pthread_mutex_unlock(&queue->mutex);
    return error;
}

struct command *queue_take(struct queue *queue, size_t room)
{
    struct command *command;
    pthread_mutex_lock(&queue->mutex);
    command = queue->first;
    if (command != NULL && command->size > room &&
        fits_frame(command->size, queue->frame_bytes_max))
        command = NULL;
    if (command != NULL) {
        CHECK(queue->commands > 0 && queue->bytes >= command->size);
        queue->first = command->next;
        if (queue->first == NULL)
            queue->last = &queue->first;
        queue->commands--;
        queue->bytes -= command->size;
        command->next = NULL;
    }
    pthread_mutex_unlock(&queue->mutex);
    return command;
}

void queue_return(struct queue *queue, struct command *command)
{
    pthread_mutex_lock(&queue->mutex);
    command->next = queue->first;
    if (queue->first == NULL)
        queue->last = &command->next;
    queue->first = command;
    queue->commands++;
    queue->bytes += command->size;
    pthread_mutex_unlock(&queue->mutex);
}
