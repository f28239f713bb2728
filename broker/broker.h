/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BROKER_BROKER_H
#define USHER_BROKER_BROKER_H

/* One broker: made from its options, started, stopped. All calls come from one thread. */

#include <signal.h>

#include "base/log.h"
#include "config/config.h"
#include "process/failure.h"

struct broker;
struct handover;
struct kept_sockets;

/* Opens the store, the listeners and the link, restores the sessions and starts every thread.
 * 0 gives *broker; otherwise BROKER_CANCELLED, or one of the exit codes of docs/operations.md with
 * one line for a person in `error` (BROKER_ERROR_BYTES). `options` and `log` stay the caller's and
 * must outlive the broker. With a hand-over, which is taken, it becomes what the process before it
 * was. */
int broker_start(struct broker **broker, const struct options *options, struct log *log,
                 struct handover *handover, char *error);

/* The command line by which config_load made the options, for a reload; borrowed. */
void broker_remember(struct broker *broker, int argc, char **argv);

/* The sockets that the service manager has passed, for a process that begins again. */
void broker_keep_sockets(const struct broker *broker, struct kept_sockets *kept);

/* Does what is asked for by the signals in `set` (operate/signals.h) until the broker is to stop.
 * `recorder_path` is where the flight recorder is written. True: it is to begin again afterwards.
 */
bool broker_serve(struct broker *broker, const sigset_t *set, const char *recorder_path);

/* An orderly stop: accepts nobody, tells everybody, stores what is to be stored, joins its
 * threads and frees. Bounded in time, but for a slow disk. 0, or EXIT_UNSAVED when it could not
 * store what waits for some users. */
int broker_stop(struct broker *broker);

#endif
