/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BROKER_BROKER_H
#define USHER_BROKER_BROKER_H

/* One broker: made from its options, started, stopped. All calls come from one thread. */

#include "base/log.h"
#include "broker/config.h"

struct broker;

enum { BROKER_ERROR_BYTES = 512 };

/* Opens the store, the listeners and the link, restores the sessions and starts every thread.
 * 0 gives *broker; otherwise one of the exit codes of docs/operations.md, with one line for a
 * person in `error` (BROKER_ERROR_BYTES). `options` and `log` stay the caller's and must outlive
 * the broker. */
int broker_start(struct broker **broker, const struct options *options, struct log *log,
                 char *error);

/* An orderly stop: accepts nobody, tells everybody, stores what is to be stored, joins its
 * threads and frees. Bounded in time. */
void broker_stop(struct broker *broker);

/* Reads what may change while it runs again: the keys for tokens and the files of tls.*. A faulty
 * file changes nothing. Both are logged. Blocks on the disk. */
void broker_reload(struct broker *broker);

/* Whether the I/O threads, workers, committer and clock come round when they are called: 0, or
 * -ETIME with the first that does not within `patience_ms` in `still`. Waits for that long at most,
 * mostly a millisecond; from any thread that is none of these, until broker_stop. */
int broker_check_moving(struct broker *broker, uint32_t patience_ms, char still[32]);

/* Client connections at this moment. */
uint32_t broker_connections(const struct broker *broker);

/* The port of listen.tcp, or of listen.tls when that is the only one. */
uint16_t broker_port(const struct broker *broker);

#endif
