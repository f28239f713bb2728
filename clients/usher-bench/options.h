/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_BENCH_OPTIONS_H
#define USHER_USHER_BENCH_OPTIONS_H

/* The command line of usher-bench. One thread, at the start. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libusher/url.h"

enum bench_scenario {
    BENCH_FORWARD,
    BENCH_CALL,
    BENCH_PUSH,
    BENCH_PUSH_ALL,
    BENCH_PRESENCE,
    BENCH_LOGIN,
    BENCH_IDLE,
    BENCH_HERD,
    BENCH_ROOM,
    BENCH_FRIENDS,
    BENCH_SCENARIOS,
};

struct bench_options {
    enum bench_scenario scenario;
    const char *host; /* after reading that of the URL, if there is one */
    const char *url;  /* of the users' port; NULL: host, port and tls say it */
    struct url place; /* what the URL says; no WebSocket without one */
    const char *link; /* URL of the backend link; NULL: usher_backend_default_url() */
    const char *prefix;
    const char *service;
    const char *room;        /* what the rooms' names begin with */
    const char *token_file;  /* the link's */
    const char *tokens_file; /* of users, a line each; NULL: none */
    const char *token_key;   /* with which tokens of users are made; NULL: none */
    const char *issuer, *audience;
    const char *tls_ca, *tls_server_name, *tls_certificate, *tls_key; /* as in usher.h */
    uint64_t port;
    uint64_t users;
    uint64_t window;
    uint64_t size_bytes;
    uint64_t joining_max; /* logins in progress; 0: the scenario's own */
    uint64_t sources;     /* 0: as many as the users need */
    uint64_t threads;
    uint64_t after;      /* idle: messages per user afterwards */
    uint64_t rooms;      /* that the users share evenly */
    uint64_t publishers; /* of the members of each room; 0: all */
    uint64_t away;       /* of the members of each room, while it is measured */
    uint64_t watch;      /* friends: whom each user watches */
    uint64_t ws_frames;  /* that a message of a WebSocket holds at most; 0: as many as wait */
    uint64_t pid;        /* of the broker; 0: not known */
    double rate_per_s;   /* 0: closed loop */
    double seconds;
    double warmup_s;
    double settle_s;
    double patience_s;
    bool acks;
    bool tls;
    bool burst; /* closed loop: a whole window begins when all of the last one has come */
    bool post;  /* messages without an answer */
    bool json;
    bool quiet;
};

enum bench_exit {
    BENCH_OK = 0,
    BENCH_FAILED = 1,    /* something was lost, out of order, strange, or a connection broke */
    BENCH_NO_BROKER = 2, /* nobody answers, or logins are refused */
    BENCH_USAGE = 64,
    BENCH_SHOWN = -1, /* help or version was printed */
};

/* Fills *options, which then stays where it is; texts are borrowed from argv. BENCH_OK,
 * BENCH_SHOWN, or BENCH_USAGE after saying on stderr what is wrong. */
int bench_options_read(struct bench_options *options, int argc, char **argv);

const char *bench_scenario_name(enum bench_scenario scenario);

#endif
