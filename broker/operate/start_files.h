/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_START_FILES_H
#define USHER_OPERATE_START_FILES_H

/* The files that the configuration names (keys, tokens, certificates): read, and judged as a start
 * judges them. What --check-config, the start and a reload ask. Any thread; blocks on the disk.
 * Lines for a person have room in BROKER_ERROR_BYTES. */

#include "actors/turn.h"
#include "config/config.h"
#include "identity/keyring.h"
#include "web/target.h"

/* What link.token_file holds, the caller's; *token stays NULL when there is to be none. 0 or -errno
 * with `error` set. */
int start_files_token(const struct options *options, struct link_token **token, char *error);

/* The keys for tokens, a reference of the caller's; *keyring stays NULL when there are to be none.
 * The same. */
int start_files_keys(const struct options *options, struct keyring **keyring, char *error);

/* Where the presence stream is posted, and where logins are asked about, the caller's; *target
 * stays NULL when that is nowhere. The same. */
int start_files_webhook(const struct options *options, struct web_target **target, char *error);
int start_files_auth_http(const struct options *options, struct web_target **target, char *error);

/* Each file that is used with these options, read as it will be read and put away again; those of
 * tls.* if `certificates`. `each` gets the faults: `text` is a line that begins with the option. */
typedef void start_files_fault(void *context, const char *option, const char *text);
void start_files_check(const struct options *options, bool certificates, start_files_fault *each,
                       void *context);

/* Each file with a secret that is used with these options, and the store's folder, which holds the
 * secrets of sessions, if others than their owner and group may read or write it. How many they
 * are. */
typedef void start_files_open(void *context, const char *option, const char *path, unsigned mode);
unsigned start_files_exposed(const struct options *options, start_files_open *each, void *context);

/* Both, for who reads `complaints`: 0, or EXIT_CONFIGURATION with a line for each fault. */
int start_files_complain(const struct options *options, FILE *complaints);

/* The part of that for http.token_file: a file that cannot be used, or a token that gives a right
 * elsewhere too. */
void start_files_check_http_token(const struct options *options, start_files_fault *each,
                                  void *context);

#endif
