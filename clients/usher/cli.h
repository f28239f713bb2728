/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_CLI_H
#define USHER_USHER_CLI_H

/* What the program `usher` was asked to do. One thread; calls may block on the broker and on
 * stdout. */

#include "usher.h"
#include "usher/print.h"

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
    const char *host;           /* NULL, and port 0: as the library has it, or as the URL says */
    uint64_t port;
    double timeout_s;       /* negative: none was given */
    const char *token_text; /* the token itself */
    const char *token_file; /* read anew for each login */
    void *token;            /* its content: owned */
    const char *to;
    const char *service;
    const char *method;
    bool json;
    bool delivered, transient;
    uint64_t keep_s, tag;    /* 0: none */
    const char *traceparent; /* of the request; NULL: none */
    uint64_t count;          /* messages to wait for; 0: no limit */
    int timeout_ms;          /* -1: no limit */
};

/* Runs the interactive client until /quit, the end of stdin or of the session; gives the exit
 * code. Borrows the client, which is online. */
int chat_run(struct usher_client *client, const struct printer *printer,
             const struct cli_options *options);

#endif
