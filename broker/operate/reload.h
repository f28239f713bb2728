/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_RELOAD_H
#define USHER_OPERATE_RELOAD_H

/* Options that change while the broker runs. */

#include "broker/parts.h"

/* Keys and token at the start, and what a later reload compares with. 0 or -errno with `error` set
 * (BROKER_ERROR_BYTES). */
int reload_first(struct broker *broker, char *error);
void reload_fini(struct broker *broker);

/* Whether a start of today would take the configuration and its files: 0, or -EINVAL with the first
 * fault (BROKER_ERROR_BYTES), logged. Any thread; blocks on the disk. */
int reload_check_start(struct broker *broker, char *error);

/* The report as the lines of the recorder have it: one of option_changed for each, or one of
 * reload_refused. */
void reload_lines(struct broker *broker, const struct reload_report *report, recorder_each *each,
                  void *context);

/* In the same way the one of restart_refused. */
void restart_lines(struct broker *broker, const char *error, recorder_each *each, void *context);

/* A line for each pair of options that goes badly together and is not refused. */
void reload_tell_odd(struct broker *broker, const struct options *options);

#endif
