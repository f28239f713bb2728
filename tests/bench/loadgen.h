/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_LOADGEN_H
#define BENCH_LOADGEN_H

/* The load generator that treats every broker alike: the parts of the program. One process, one
 * thread, one epoll set; it plays every client, so both ends of each message are its own: credits,
 * latency on one clock, order and loss are checked here and not in the broker. */

#include <stdbool.h>

#include "benchnet.h"
#include "usher-bench/histogram.h"
#include "usher-bench/process.h"

enum {
    READ_BYTES = 256 * 1024,
    PAYLOAD_BYTES_MIN = 24,
    PREFIX_BYTES_MAX = 128,
};

#define CREDIT_ENDLESS UINT32_MAX

enum state { CLOSED, CONNECTING, LOGIN, READY };

enum scenario {
    FORWARD,
    FANOUT, /* client 0 publishes, the others subscribe */
    ROOM,   /* rooms of equal size: all of one subscribe, and some of them publish */
    IDLE,   /* also the connect storm */
};

struct conn {
    int fd;
    uint8_t state, dirty, wantw;
    uint32_t id, next_seq, exp_seq;
    uint32_t credit; /* messages that may still follow one that came */
    uint8_t *prefix; /* bytes before the payload, fixed per connection */
    uint32_t prefix_bytes;
    struct buf in, out;
};

struct load;

/* A protocol: how to log in, what stands around a payload, and how to take what comes apart. */
struct protocol {
    const char *name;
    void (*login)(struct load *load, struct conn *conn);
    /* Writes what stands before a payload of `size` bytes to client `to` (or, with `fan`, to that
     * channel); gives its bytes, PREFIX_BYTES_MAX at most. */
    uint32_t (*prefix)(uint8_t *at, uint32_t to, bool fan, uint32_t size);
    /* Takes whole frames out of the bytes, tells on_ready and on_message; gives the bytes used. */
    uint32_t (*parse)(struct load *load, struct conn *conn, uint8_t *bytes, uint32_t size);
    const char *suffix;
};

struct load {
    /* the command line */
    const struct protocol *protocol;
    const char *label;
    enum scenario scenario;
    uint32_t users, window, payload_bytes, joining_max, sources, after_messages, rooms, publishers;
    int port;
    pid_t pid;
    double seconds, warm_s, rate, settle_s;
    /* the run */
    struct conn *conns;
    int epoll;
    uint32_t ready, connecting, connect_next;
    uint32_t *dirty, dirty_count;
    bool running, recording;
    uint64_t now;
    uint64_t due_count; /* ROOM: publications */
    uint64_t sent, got, order_errors, bad;
    struct histogram latency;
    uint8_t *input;
    uint8_t payload[65536];
};

/* --- loadgen_conn.c: connections and turns --- */

void load_send(struct load *load, struct conn *conn, uint64_t stamp);
void load_output(struct load *load, struct conn *conn, const void *bytes, uint32_t size);
void load_flush(struct load *load);

/* One wait and everything that it brought. */
void load_turn(struct load *load, int64_t wait_ns);

/* Turns for so long. */
void load_quiet(struct load *load, double seconds);

/* Connects and logs in everybody; exits when that fails. */
void load_connect(struct load *load);

/* For the parsers. */
void on_ready(struct load *load, struct conn *conn);
void on_message(struct load *load, struct conn *conn, const uint8_t *payload, uint32_t size);

/* ROOM: in which one that client is, and the first client of it; rooms follow each other. */
static inline uint32_t load_room(const struct load *load, uint32_t id)
{
    return id / (load->users / load->rooms);
}

/* Publishes the next message of ROOM: to one room after the other, of its publishers in turn. */
void load_publish(struct load *load, uint64_t stamp);

/* --- loadgen_protocols.c --- */

const struct protocol *protocol_find(const char *name);

/* --- loadgen_machine.c --- */

/* CPU seconds of every process, and what the host took away: tells a disturbed run from a calm
 * one. */
void machine_cpu(double *busy_s, double *stolen_s);

struct memory {
    long rss_kb, pss_kb, anonymous_kb, slab_kb, tcp_pages;
};
struct memory memory_of(pid_t pid);

#endif
