/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_RELOAD_H
#define USHER_OPERATE_RELOAD_H

/* Options that change while the broker runs. Any thread, and it blocks on the disk, but for what
 * says otherwise. */

#include "actors/turn.h"
#include "base/limits.h"
#include "config/config.h"
#include "operate/certificate.h"
#include "process/activation.h"
#include "process/failure.h"

struct admission;
struct reload;
struct webhook;

/* All that it points to outlives it. */
struct reload_options {
    const struct options *config; /* that of the start, which stays as it is */
    const struct passed_sockets *passed;
    const struct env *env;
    struct log *log;
    struct certificate *certificate;
    /* where what has changed holds */
    struct net *net;
    struct admission *admission; /* NULL with auth.mode open */
    struct webhook *webhook;     /* NULL: there is none */
    struct limits *limits;
    struct link_token *_Atomic *link_token;
    struct room_classes *_Atomic *room_classes; /* those before hang off the new ones */
};

/* Puts keys, token and proxies of the start in their places, and keeps what a later reload compares
 * with. 0 or -errno, mostly with `error` set (BROKER_ERROR_BYTES); *reload is NULL or to be closed.
 */
int reload_open(struct reload **reload, const struct reload_options *options, char *error);
void reload_close(struct reload *reload); /* NULL is fine */

/* The command line by which config_load made the options; borrowed. */
void reload_remember(struct reload *reload, int argc, char **argv);

/* What a reload did. */
struct reload_report {
    char error[BROKER_ERROR_BYTES]; /* why nothing at all was changed; "": it was */
    size_t count;
    struct option_change changes[OPTION_CHANGES_MAX];
};

/* Reads the command line's files again, the keys for tokens, the files of tls.* and the link's
 * token: if any is faulty nothing changes (-EINVAL, with report->error). Otherwise what may change
 * while it runs has changed when it returns, and the report says what, and what needs a restart.
 * Logged. */
int reload_run(struct reload *reload, struct reload_report *report);

/* Why the last reload was refused; "": it was not, or there was none. Blocks on nothing. */
void reload_error(struct reload *reload, char error[BROKER_ERROR_BYTES]);

/* Whether a start of today would take the configuration and its files: 0, or -EINVAL with the first
 * fault (BROKER_ERROR_BYTES), logged. */
int reload_check_start(struct reload *reload, char *error);

/* The report as the lines of the recorder have it: one of option_changed for each, or one of
 * reload_refused. */
void reload_lines(struct reload *reload, const struct reload_report *report, recorder_each *each,
                  void *context);

/* In the same way the one of restart_refused. */
void reload_restart_lines(struct reload *reload, const char *error, recorder_each *each,
                          void *context);

/* A line in the log for each pair of options at the start that goes badly together and is not
 * refused. */
void reload_tell_odd(struct reload *reload);

/* How many files with secrets others may reach, as last looked at. Blocks on nothing. */
uint32_t reload_exposed(const struct reload *reload);

#endif
