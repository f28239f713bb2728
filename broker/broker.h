/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BROKER_BROKER_H
#define USHER_BROKER_BROKER_H

/* One broker: made from its options, started, stopped. All calls come from one thread, but for
 * those that say otherwise. */

#include "base/log.h"
#include "config/config.h"
#include "process/failure.h"

struct broker;

/* Whether every file that a start with these options uses (keys, tokens, certificates) can be used:
 * read and judged as the start itself does. What --check-config, the start and a reload ask. 0, or
 * EXIT_CONFIGURATION with a line for each fault in `complaints`. Blocks on the disk. */
int broker_check_files(const struct options *options, FILE *complaints);

/* Opens the store, the listeners and the link, restores the sessions and starts every thread.
 * 0 gives *broker; otherwise BROKER_CANCELLED, or one of the exit codes of docs/operations.md with
 * one line for a person in `error` (BROKER_ERROR_BYTES). `options` and `log` stay the caller's and
 * must outlive the broker. */
int broker_start(struct broker **broker, const struct options *options, struct log *log,
                 char *error);

/* An orderly stop: accepts nobody, tells everybody, stores what is to be stored, joins its
 * threads and frees. Bounded in time, but for a slow disk. 0, or EXIT_UNSAVED when it could not
 * store what waits for some users. */
int broker_stop(struct broker *broker);

/* The command line by which config_load made the options, for broker_reload; borrowed. */
void broker_remember(struct broker *broker, int argc, char **argv);

/* What a reload did. */
struct reload_report {
    char error[BROKER_ERROR_BYTES]; /* why nothing at all was changed; "": it was */
    size_t count;
    struct option_change changes[OPTION_CHANGES_MAX];
};

/* Reads the command line's files again, the keys for tokens, the files of tls.* and the link's
 * token: if any is faulty nothing changes (-EINVAL, with report->error). Otherwise what may change
 * while it runs has changed when it returns, and the report says what, and what needs a restart.
 * Logged. Any thread; blocks on the disk. */
int broker_reload(struct broker *broker, struct reload_report *report);

/* Why the last reload was refused; "": it was not, or there was none. Any thread. */
void broker_reload_error(struct broker *broker, char error[BROKER_ERROR_BYTES]);

enum broker_state { BROKER_SERVING, BROKER_DRAINING, BROKER_STOPPING };

/* Any thread. */
enum broker_state broker_state(const struct broker *broker);
const char *broker_state_name(enum broker_state state);

/* Asks the thread that waits for signals to drain, over so many ms (0: process.drain_ms), by the
 * signal SIGUSR2. 0, or -EALREADY while a drain or stop goes on. Any thread; returns at once. */
int broker_drain(struct broker *broker, uint64_t ms);

/* Asks it in the same way to stop without a drain and to begin again. -EINVAL: the start would
 * refuse the configuration or a file that it names, `error` says which, and nothing was asked for.
 * Blocks on the disk. */
int broker_restart(struct broker *broker, char error[BROKER_ERROR_BYTES]);
bool broker_restarts(const struct broker *broker);

/* For that thread: begins the drain that was asked for, or goes on with it. True: everybody has
 * been sent away, stop. Otherwise it is to be called again within *wait_ms. */
bool broker_drain_step(struct broker *broker, unsigned *wait_ms);

/* For that thread, each time it comes round: says what there is to say of the TLS certificates.
 * Gives within how many ms it is to be called again; 0: never. */
unsigned broker_watch_certificate(struct broker *broker);

/* What whoever asks the following remembers of his last time; all zero at first. */
struct stillness {
    bool found; /* somebody stood still: */
    unsigned place;
    uint64_t beats;
};

/* Whether the I/O threads, workers, committer and clock come round when they are called: 0, or
 * -ETIME with the first that does not within `patience_ms` in `still`. Waits for that long at most,
 * mostly a millisecond, and not at all while the one that is `known` has still not moved; from any
 * thread that is none of these, until broker_stop. */
int broker_check_moving(struct broker *broker, uint32_t patience_ms, struct stillness *known,
                        char still[32]);

/* Client connections at this moment. */
uint32_t broker_connections(const struct broker *broker);

/* The port of listen.tcp, or of listen.tls when that is the only one. */
uint16_t broker_port(const struct broker *broker);

#endif
