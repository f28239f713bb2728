/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_NET_FIXTURE_H
#define USHER_TESTS_NET_FIXTURE_H

/* A front end with real sockets on loopback, above it a layer that only writes down what it is
 * told, and clients that are plain blocking sockets.
 *
 * The test thread plays the write-side owner of bound connections. What the recording layer does
 * by itself (bind, consume, flush, release) is a switch.
 *
 * Every wait is bounded; a time that must have passed is checked exactly, one that may have
 * passed has seconds of slack, because the machine may be busy. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/net.h"
#include "proto/frame.h"

enum { RECORDS_MAX = 512, WAIT_MS_MAX = 20000, OWNER = 77, SLACK_MS = 5000 };

/* What was told about one connection. */
struct record {
    conn_handle conn;
    void *thread;
    struct buffer frames;
    unsigned calls; /* of on_frames */
    uint64_t owner; /* of the last event */
    bool welcomed;  /* of the last on_frames */
    unsigned ends;
    enum conn_end end; /* of the last on_end */
    uint64_t end_owner;
    uint64_t end_ms;
    unsigned writables;
    unsigned calls_after_end;
};

/* What the I/O thread of a connection alone may ask about it. */
struct question {
    conn_handle conn;
    bool asked;
    uint64_t owner;
    bool has_address;
    enum listener_kind listener; /* when it has an address */
    char address[NET_ADDRESS_BYTES_MAX];
};

struct fixture {
    struct limits limits;
    struct net_options options;
    struct net *net;
    struct metrics *metrics;
    char threads[NET_REACTORS_MAX]; /* only their addresses count */
    /* switches */
    _Atomic bool binds;     /* the first frames bind the connection to OWNER and welcome it */
    _Atomic bool judges;    /* it is not welcomed by itself */
    _Atomic bool remembers; /* something is kept for an unbound one from its frames on */
    _Atomic bool releases;  /* the first frames release it */
    _Atomic bool holds;     /* nothing is consumed by itself */
    _Atomic bool keeps;     /* an ended connection is not released by itself */
    _Atomic bool flushes_not;
    _Atomic bool answers;   /* behind the gate it is written to, until its peer is gone */
    _Atomic unsigned rings; /* in so many batches somebody rings when they have begun */
    /* shared, under lock */
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool gate_closed; /* on_frames waits for it to open */
    unsigned passes;  /* so many go through it while it is closed */
    struct record records[RECORDS_MAX];
    unsigned count;
    struct question question;
    unsigned broken; /* calls whose bytes were not whole frames */
    uint64_t batches;
};

static inline uint64_t clock_ms(void)
{
    return env_monotonic_ms(env_system());
}

static inline void nap_ms(unsigned ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

/* Fails the test when the condition does not come true in time. */
#define WAIT_FOR(condition)                                                         \
    do {                                                                            \
        uint64_t give_up_ms = clock_ms() + WAIT_MS_MAX;                             \
        while (!(condition) && clock_ms() < give_up_ms)                             \
            nap_ms(1);                                                              \
        if (!(condition))                                                           \
            fail_msg("%s:%d: never came true: %s", __FILE__, __LINE__, #condition); \
    } while (0)

/* --- the recording layer ---------------------------------------------------------------------- */

/* Under lock. */
static inline struct record *record_of(struct fixture *fixture, conn_handle conn)
{
    for (unsigned i = fixture->count; i > 0; i--)
        if (fixture->records[i - 1].conn == conn)
            return &fixture->records[i - 1];
    if (fixture->count == RECORDS_MAX)
        abort();
    fixture->records[fixture->count].conn = conn;
    return &fixture->records[fixture->count++];
}

static inline void record_begin(void *context, void *thread, uint64_t now_ms)
{
    struct fixture *fixture = context;
    struct question *question = &fixture->question;
    if (fixture->rings > 0) {
        fixture->rings--;
        net_wake(fixture->net, 0);
    }
    pthread_mutex_lock(&fixture->lock);
    if (question->asked && thread == &fixture->threads[question->conn >> 24 & 0xff]) {
        question->owner = net_owner(fixture->net, question->conn);
        question->has_address = net_address(fixture->net, question->conn, question->address);
        if (question->has_address)
            question->listener = net_listener(fixture->net, question->conn);
        question->asked = false;
    }
    pthread_mutex_unlock(&fixture->lock);
}

static inline bool are_whole_frames(struct bytes bytes)
{
    while (bytes.size > 0) {
        struct bytes frame;
        size_t used;
        if (frame_next(bytes, UINT32_MAX, &frame, &used) != 1)
            return false;
        bytes = (struct bytes){bytes.data + used, bytes.size - used};
    }
    return true;
}

static inline void record_frames(void *context, void *thread, conn_handle conn, uint64_t owner,
                                 struct bytes frames, bool welcomed)
{
    struct fixture *fixture = context;
    /* First, so that whoever sees the record may use the write side. */
    if (owner == 0 && fixture->binds)
        net_bind(fixture->net, conn, OWNER);
    else if (owner == 0 && fixture->remembers)
        net_keep(fixture->net, conn, fixture);
    if (owner == 0 && fixture->binds && !fixture->judges)
        net_welcome(fixture->net, conn);
    pthread_mutex_lock(&fixture->lock);
    struct record *record = record_of(fixture, conn);
    record->thread = thread;
    record->calls++;
    record->owner = owner;
    record->welcomed = welcomed;
    record->calls_after_end += record->ends > 0;
    fixture->broken += frames.size == 0 || !are_whole_frames(frames);
    if (buffer_append(&record->frames, frames.data, frames.size) != 0)
        abort();
    while (fixture->gate_closed && fixture->passes == 0)
        pthread_cond_wait(&fixture->opened, &fixture->lock);
    fixture->passes -= fixture->gate_closed;
    pthread_mutex_unlock(&fixture->lock);
    while (fixture->answers && net_write(fixture->net, 0, conn, "x", 1) != -EPIPE)
        nap_ms(1);
    if (!fixture->holds)
        net_consumed(fixture->net, conn);
    if (fixture->releases)
        net_release(fixture->net, conn);
}

static inline void record_end(void *context, void *thread, conn_handle conn, uint64_t owner,
                              enum conn_end end)
{
    struct fixture *fixture = context;
    pthread_mutex_lock(&fixture->lock);
    struct record *record = record_of(fixture, conn);
    record->thread = thread;
    record->ends++;
    record->end = end;
    record->end_owner = owner;
    record->end_ms = clock_ms();
    pthread_mutex_unlock(&fixture->lock);
    if (!fixture->keeps)
        net_release(fixture->net, conn);
}

/* The item says whom to bind to; NULL: nobody. */
static inline void record_returned(void *context, void *thread, conn_handle conn, void *item)
{
    struct fixture *fixture = context;
    uint64_t *owner = item;
    if (owner != NULL)
        net_bind(fixture->net, conn, *owner);
    free(item);
}

static inline void record_writable(void *context, void *thread, conn_handle conn, uint64_t owner)
{
    struct fixture *fixture = context;
    pthread_mutex_lock(&fixture->lock);
    record_of(fixture, conn)->writables++;
    pthread_mutex_unlock(&fixture->lock);
    if (!fixture->flushes_not)
        net_flush(fixture->net, 0, conn);
}

static inline bool record_batch_end(void *context, void *thread)
{
    struct fixture *fixture = context;
    pthread_mutex_lock(&fixture->lock);
    fixture->batches++;
    pthread_mutex_unlock(&fixture->lock);
    return false;
}

/* A copy without the frames' bytes. */
static inline struct record look(struct fixture *fixture, conn_handle conn)
{
    pthread_mutex_lock(&fixture->lock);
    struct record record = *record_of(fixture, conn);
    pthread_mutex_unlock(&fixture->lock);
    return record;
}

static inline bool question_waits(struct fixture *fixture)
{
    pthread_mutex_lock(&fixture->lock);
    bool waits = fixture->question.asked;
    pthread_mutex_unlock(&fixture->lock);
    return waits;
}

/* The connection's I/O thread answers, also when the handle is stale. */
static inline struct question ask(struct fixture *fixture, conn_handle conn)
{
    pthread_mutex_lock(&fixture->lock);
    fixture->question = (struct question){.conn = conn, .asked = true};
    pthread_mutex_unlock(&fixture->lock);
    net_wake(fixture->net, conn);
    WAIT_FOR(!question_waits(fixture));
    return fixture->question;
}

static inline unsigned records_count(struct fixture *fixture)
{
    pthread_mutex_lock(&fixture->lock);
    unsigned count = fixture->count;
    pthread_mutex_unlock(&fixture->lock);
    return count;
}

static inline uint64_t batches_count(struct fixture *fixture)
{
    pthread_mutex_lock(&fixture->lock);
    uint64_t count = fixture->batches;
    pthread_mutex_unlock(&fixture->lock);
    return count;
}

static inline conn_handle record_handle(struct fixture *fixture, unsigned index)
{
    pthread_mutex_lock(&fixture->lock);
    conn_handle conn = fixture->records[index].conn;
    pthread_mutex_unlock(&fixture->lock);
    return conn;
}

static inline size_t frames_size(struct fixture *fixture, conn_handle conn)
{
    pthread_mutex_lock(&fixture->lock);
    size_t size = record_of(fixture, conn)->frames.size;
    pthread_mutex_unlock(&fixture->lock);
    return size;
}

static inline void forget_frames(struct fixture *fixture, conn_handle conn)
{
    pthread_mutex_lock(&fixture->lock);
    struct record *record = record_of(fixture, conn);
    record->frames.size = 0;
    record->calls = 0;
    pthread_mutex_unlock(&fixture->lock);
}

/* Waits for that many bytes and compares them. */
static inline void expect_frames(struct fixture *fixture, conn_handle conn, const void *data,
                                 size_t size)
{
    WAIT_FOR(frames_size(fixture, conn) >= size);
    pthread_mutex_lock(&fixture->lock);
    struct record *record = record_of(fixture, conn);
    bool same = record->frames.size == size && memcmp(record->frames.data, data, size) == 0;
    unsigned broken = fixture->broken;
    pthread_mutex_unlock(&fixture->lock);
    assert_true(same);
    assert_int_equal(broken, 0);
}

static inline void gate(struct fixture *fixture, bool closed)
{
    pthread_mutex_lock(&fixture->lock);
    fixture->gate_closed = closed;
    pthread_cond_broadcast(&fixture->opened);
    pthread_mutex_unlock(&fixture->lock);
}

/* Who waits at the closed gate goes on; the next one waits there. */
static inline void gate_pass(struct fixture *fixture)
{
    pthread_mutex_lock(&fixture->lock);
    fixture->passes++;
    pthread_cond_broadcast(&fixture->opened);
    pthread_mutex_unlock(&fixture->lock);
}

/* --- the front end ---------------------------------------------------------------------------- */

static inline int open_front(struct fixture *fixture, char *error)
{
    const struct net_events events = {
        .context = fixture,
        .on_begin = record_begin,
        .on_frames = record_frames,
        .on_end = record_end,
        .on_writable = record_writable,
        .on_returned = record_returned,
        .on_batch_end = record_batch_end,
    };
    for (unsigned i = 0; i < fixture->options.reactors; i++)
        fixture->options.threads[i] = &fixture->threads[i];
    return net_open(&fixture->net, &fixture->options, &events, error);
}

static inline void start(struct fixture *fixture)
{
    char error[256] = "";
    int failed = open_front(fixture, error);
    if (failed != 0)
        fail_msg("net_open: %d %s", failed, error);
    assert_int_equal(net_start(fixture->net), 0);
}

static inline int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    pthread_mutex_init(&fixture->lock, NULL);
    pthread_cond_init(&fixture->opened, NULL);
    fixture->metrics = metrics_create(4);
    fixture->limits = (struct limits){
        .limits_prelogin_connections = 32,
        .limits_frame_bytes = 65536,
        .limits_prelogin_bytes = 4096,
        .limits_output_bytes = 1024 * 1024,
        .limits_output_soft_bytes = 256 * 1024,
        .limits_output_soft_ms = 60000,
        .limits_login_deadline_ms = 60000,
        .limits_close_linger_ms = 30000,
    };
    fixture->options = (struct net_options){
        .limits = &fixture->limits,
        .listen[LISTENER_tcp].address = "127.0.0.1:0",
        .reactors = 1,
        .connections_max = 64,
        .unbound_age_ms = 3600 * 1000, /* nobody goes for a newcomer */
        .silence_ms = 240000,
        .env = env_system(),
        .metrics = fixture->metrics,
    };
    *state = fixture;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *fixture = *state;
    if (fixture->net != NULL) {
        gate(fixture, false);
        net_stop(fixture->net);
        net_close(fixture->net);
    }
    for (unsigned i = 0; i < fixture->count; i++)
        buffer_fini(&fixture->records[i].frames);
    metrics_destroy(fixture->metrics);
    pthread_mutex_destroy(&fixture->lock);
    pthread_cond_destroy(&fixture->opened);
    free(fixture);
    return 0;
}

static inline uint64_t metric_of(struct fixture *fixture, enum metric_id id)
{
    return metrics_read(fixture->metrics, id);
}

/* --- clients ---------------------------------------------------------------------------------- */

struct peer {
    int fd;
    conn_handle conn;
};

static inline int new_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct timeval timeout = {.tv_sec = WAIT_MS_MAX / 1000};
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static inline int connect_to(struct fixture *fixture, int fd, enum listener_kind kind)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(net_port(fixture->net, kind)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : -errno;
}

static inline int connect_socket(struct fixture *fixture, int fd)
{
    return connect_to(fixture, fd, LISTENER_tcp);
}

static inline int client(struct fixture *fixture)
{
    int fd = new_socket();
    assert_int_equal(connect_socket(fixture, fd), 0);
    return fd;
}

static inline void send_all(int fd, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent <= 0)
            fail_msg("send: %s", strerror(errno));
        at += sent;
        size -= (size_t)sent;
    }
}

/* Appends a frame of that many payload bytes, all of them `fill`. */
static inline void add_frame(struct buffer *out, size_t size, uint8_t fill)
{
    uint8_t prefix[FRAME_PREFIX_BYTES_MAX];
    size_t count = 0;
    size_t left = size;
    do {
        prefix[count++] = (uint8_t)(left & 0x7f) | (left > 0x7f ? 0x80 : 0);
        left >>= 7;
    } while (left > 0);
    assert_int_equal(buffer_append(out, prefix, count), 0);
    uint8_t *to = buffer_reserve(out, size + 1);
    assert_non_null(to);
    memset(to, fill, size);
    out->size += size;
}

static inline void send_frame(int fd, size_t size, uint8_t fill)
{
    struct buffer out = {0};
    add_frame(&out, size, fill);
    send_all(fd, out.data, out.size);
    buffer_fini(&out);
}

/* A client whose connection is known, because it has sent one frame; the record is empty again.
 * One at a time. */
static inline struct peer new_peer(struct fixture *fixture)
{
    unsigned before = records_count(fixture);
    struct peer peer = {.fd = client(fixture)};
    send_frame(peer.fd, 1, 'h');
    WAIT_FOR(records_count(fixture) > before);
    peer.conn = record_handle(fixture, before);
    forget_frames(fixture, peer.conn);
    return peer;
}

static inline void read_exactly(int fd, void *to, size_t size)
{
    uint8_t *at = to;
    while (size > 0) {
        ssize_t got = recv(fd, at, size, 0);
        if (got <= 0)
            fail_msg("%zu bytes missing: %s", size, got == 0 ? "end" : strerror(errno));
        at += got;
        size -= (size_t)got;
    }
}

static inline void expect_bytes(int fd, const void *data, size_t size)
{
    uint8_t *got = malloc(size + 1);
    read_exactly(fd, got, size);
    assert_memory_equal(got, data, size);
    free(got);
}

static inline void expect_end(int fd)
{
    uint8_t byte;
    ssize_t got = recv(fd, &byte, 1, 0);
    if (got != 0)
        fail_msg("no end of file: %zd %s", got, got < 0 ? strerror(errno) : "");
}

static inline void expect_silence(int fd, unsigned ms)
{
    uint8_t byte;
    nap_ms(ms);
    ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
    assert_int_equal(got, -1);
    assert_int_equal(errno, EAGAIN);
}

/* The process's CPU time so far. */
static inline uint64_t cpu_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

#endif
