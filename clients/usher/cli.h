/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_CLI_H
#define USHER_USHER_CLI_H

/* The parts of the program `usher`. One thread; calls may block on the broker and on stdout. */

#include <stdio.h>

#include "usher.h"

/* The program's exit codes. */
enum {
    EXIT_OK = 0,
    EXIT_REFUSED = 1, /* the broker said no, or ended the session */
    EXIT_NO_CONNECTION = 2,
    EXIT_WRONG_USE = 64,
};

/* What the command line says. */
struct cli_options {
    struct usher_options usher; /* borrows from the rest */
    uint64_t port;
    double timeout_s;       /* negative: none was given */
    const char *token_text; /* the token itself */
    const char *token_file; /* read anew for each login */
    void *token;            /* its content: owned */
    const char *to;
    const char *service;
    const char *method;
    bool json;
    bool delivered;
    uint64_t count; /* messages to wait for; 0: no limit */
    int timeout_ms; /* -1: no limit */
};

/* How events are shown. */
struct printer {
    FILE *stream;
    bool json;
    bool escape; /* control bytes, because a terminal may obey them */
};

/* One line for the event: text for a person, or one JSON object. */
void print_event(const struct printer *printer, const struct usher_event *event);

/* Text from elsewhere, escaped if the printer escapes. */
void print_text(const struct printer *printer, const void *data, size_t size);

/* Runs the interactive client until /quit, the end of stdin or of the session; gives the exit
 * code. Borrows the client, which is online. */
int chat_run(struct usher_client *client, const struct printer *printer,
             const struct cli_options *options);

#endif
