/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/crowd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "proto/client_frame.h"
#include "proto/frame.h"
#include "proto/utf8.h"

/* One epoll set, one read and one write per ready connection and turn, so that the load generator
 * costs the machine little beside the broker and makes no system call that a client would not.
 *
 * Output is gathered in the user and written at the start of the next turn: all that one batch of
 * input caused leaves in one write per connection, and acknowledgements are one per batch.
 *
 * A user exists without a connection. What the broker puts off (Error or Close with a time to come
 * again, before Welcome) is done again then, as clients do; what it ends without being asked is a
 * failure of the run. */

enum {
    EVENTS_MAX = 1024,
    FRAME_BYTES_MAX = CROWD_READ_BYTES / 2,
    RETRY_MS = 50, /* when the broker names no time */
    SOURCE_USERS = 5000,
    LOGIN_ID = 1,
};

int crowd_open(struct crowd *crowd, uint32_t first_number, uint32_t count)
{
    crowd->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (crowd->epoll < 0)
        return -errno;
    crowd->count = count;
    crowd->users = calloc(count, sizeof(*crowd->users));
    crowd->dirty = calloc(count, sizeof(*crowd->dirty));
    crowd->input = malloc(CROWD_READ_BYTES + FRAME_BYTES_MAX);
    crowd->pattern = malloc(crowd->options->size_bytes);
    if (crowd->users == NULL || crowd->dirty == NULL || crowd->input == NULL ||
        crowd->pattern == NULL)
        return -ENOMEM;
    stamp_pattern(crowd->pattern, crowd->options->size_bytes);
    for (uint32_t i = 0; i < count; i++) {
        struct user *user = &crowd->users[i];
        user->fd = -1;
        user->number = first_number + i;
        snprintf(user->name, sizeof(user->name), "%s%" PRIu32, crowd->options->prefix,
                 user->number);
    }
    crowd->born_ns = crowd->now_ns = clock_ns();
    return 0;
}

void crowd_close(struct crowd *crowd)
{
    for (uint32_t i = 0; crowd->users != NULL && i < crowd->count; i++) {
        tls_link_destroy(crowd->users[i].tls);
        free(crowd->users[i].websocket);
        if (crowd->users[i].fd >= 0)
            close(crowd->users[i].fd);
        buffer_fini(&crowd->users[i].in);
        buffer_fini(&crowd->users[i].out);
    }
    free(crowd->users);
    free(crowd->dirty);
    free(crowd->input);
    free(crowd->pattern);
    free(crowd->own);
    if (crowd->epoll >= 0)
        close(crowd->epoll);
}

void crowd_note(char reason[CROWD_REASON_BYTES_MAX], const char *name,
                const struct broker_frame *frame)
{
    struct bytes detail = frame != NULL ? frame->run[REFUSAL_DETAIL] : (struct bytes){NULL, 0};
    if (reason[0] != '\0')
        return;
    snprintf(reason, CROWD_REASON_BYTES_MAX, "%s%s%.*s", name, detail.size > 0 ? ", " : "",
             (int)detail.size, detail.size > 0 ? (const char *)detail.data : "");
    utf8_tame(reason); /* these are a stranger's words */
}

void crowd_fail(struct crowd *crowd, const char *format, ...)
{
    va_list arguments;
    if (crowd->error[0] != '\0')
        return;
    va_start(arguments, format);
    vsnprintf(crowd->error, sizeof(crowd->error), format, arguments);
    va_end(arguments);
    /* Release, paired with the watcher's acquire: it reads the text. */
    atomic_store_explicit(&crowd->shown.failed, true, memory_order_release);
}

/* --- connecting ------------------------------------------------------------------------------- */

/* The only place that changes it, so that the three counts stay sums of it. */
static void set_state(struct crowd *crowd, struct user *user, enum user_state state)
{
    bool was_joining = user->state >= USER_CONNECTING && user->state <= USER_JOINING;
    bool is_joining = state >= USER_CONNECTING && state <= USER_JOINING;
    crowd->joining += (uint32_t)is_joining - (uint32_t)was_joining;
    crowd->waiting += (uint32_t)(state == USER_WAITING) - (uint32_t)(user->state == USER_WAITING);
    crowd->online += (uint64_t)(state == USER_ONLINE) - (uint64_t)(user->state == USER_ONLINE);
    user->state = state;
}

/* One address has 28,000 ports to offer and the closed ones rest for a minute, so large crowds come
 * from several addresses of the loopback network. */
static int choose_source(struct crowd *crowd, const struct user *user, int fd)
{
    const struct sockaddr_in *to = &crowd->address->at.v4;
    uint64_t sources = crowd->options->sources;
    int one = 1;
    if (sources == 0)
        sources = crowd->options->users / SOURCE_USERS + 1;
    if (sources < 2 || to->sin_family != AF_INET || ntohl(to->sin_addr.s_addr) >> 24 != 127)
        return 0;
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(0x7f000002u + user->number % (uint32_t)sources);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    return bind(fd, (const struct sockaddr *)&from, sizeof(from)) == 0 ? 0 : -errno;
}

static int open_socket(struct crowd *crowd, struct user *user)
{
    const struct address *to = crowd->address;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = user};
    int one = 1;
    user->fd = socket(to->at.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (user->fd < 0)
        return -errno;
    setsockopt(user->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    int error = choose_source(crowd, user, user->fd);
    if (error != 0)
        return error;
    if (connect(user->fd, &to->at.any, address_size(to)) != 0 && errno != EINPROGRESS)
        return -errno;
    return epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, user->fd, &event) == 0 ? 0 : -errno;
}

void crowd_join(struct crowd *crowd, struct user *user, uint64_t due_ns)
{
    user->due_ns = due_ns;
    user->out.size = user->out_offset = 0; /* what is left there was for the connection before */
    user->wants_write = true;
    int error = open_socket(crowd, user);
    if (error != 0)
        crowd_fail(crowd, "cannot connect: %s", strerror(-error));
    set_state(crowd, user, error == 0 ? USER_CONNECTING : USER_AWAY);
}

static void hang_up(struct crowd *crowd, struct user *user)
{
    free(user->websocket);
    user->websocket = NULL;
    tls_link_destroy(user->tls);
    user->tls = NULL;
    if (user->fd >= 0)
        close(user->fd);
    user->fd = -1;
    user->in.size = user->out.size = 0;
    user->out_offset = 0;
    user->wants_ack = false;
    set_state(crowd, user, USER_AWAY);
}

void crowd_drop(struct crowd *crowd, struct user *user)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    if (user->fd >= 0)
        setsockopt(user->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    if (user->tls != NULL)
        tls_link_forsake(user->tls);
    hang_up(crowd, user);
}

/* Who has an epoch comes back, as after a loss. */
static void greet(struct crowd *crowd, struct user *user)
{
    struct client_frame hello = {.id = LOGIN_ID};
    set_state(crowd, user, USER_JOINING);
    if (crowd->events->on_login != NULL)
        crowd->events->on_login(crowd, user);
    if (user->epoch != 0) {
        hello.body = CLIENT_RESUME;
        hello.resume.username = bytes_of_text(user->name);
        hello.resume.epoch = user->epoch;
        hello.resume.secret = (struct bytes){user->secret, user->secret_bytes};
        hello.resume.last_seq = hello.resume.received_seq = user->seq;
        if (crowd->events->on_resume != NULL)
            crowd->events->on_resume(crowd, user, &hello);
    } else {
        hello.body = CLIENT_LOGIN;
        hello.login.username = bytes_of_text(user->name);
        hello.login.token = tokens_of(crowd->tokens, user->number);
        hello.login.client = bytes_of_text("usher-bench");
        hello.login.acks = crowd->options->acks;
    }
    int error = client_frame_write(&user->out, &hello, CROWD_READ_BYTES);
    if (error != 0)
        crowd_fail(crowd, "a login does not fit: %s", strerror(-error));
    crowd_touch(crowd, user);
}

/* He tries again when the broker says, or in a while. */
static void put_off(struct crowd *crowd, struct user *user, uint64_t retry_after_ms)
{
    hang_up(crowd, user);
    set_state(crowd, user, USER_WAITING);
    crowd->retries++;
    user->spoke_ns =
        crowd->now_ns + (retry_after_ms != 0 ? retry_after_ms : RETRY_MS) * UINT64_C(1000000);
}

/* Asks the kernel only when it changes: a system call a message would be measured with it. */
static void want_write(struct crowd *crowd, struct user *user, bool wants)
{
    struct epoll_event event = {.events = EPOLLIN | (wants ? EPOLLOUT : 0), .data.ptr = user};
    if (user->wants_write != wants)
        epoll_ctl(crowd->epoll, EPOLL_CTL_MOD, user->fd, &event);
    user->wants_write = wants;
}

/* TCP stands, and TLS if there is one: asks for a WebSocket, or greets. */
static void begin_frames(struct crowd *crowd, struct user *user)
{
    const struct url *place = &crowd->options->place;
    int error = 0;
    if (!place->websocket) {
        greet(crowd, user);
        return;
    }
    user->websocket = malloc(sizeof(*user->websocket));
    error = user->websocket != NULL
                ? websocket_begin(user->websocket, place, &crowd->masks, &user->out)
                : -ENOMEM;
    if (error != 0) {
        crowd_fail(crowd, "no WebSocket can begin: %s", strerror(-error));
        hang_up(crowd, user);
        return;
    }
    set_state(crowd, user, USER_UPGRADING);
    crowd_touch(crowd, user);
}

/* A step of TLS's handshake. A broker that is full ends it without a word. */
static void secure(struct crowd *crowd, struct user *user)
{
    int result = tls_link_handshake(user->tls);
    if (result == 1) {
        begin_frames(crowd, user);
    } else if (result == 0) {
        want_write(crowd, user, tls_link_wants_write(user->tls));
    } else if (result == -EPROTO) {
        crowd_fail(crowd, "no TLS with %.60s: %.60s; check port, certificate and authority",
                   crowd->options->host, tls_link_fault(user->tls));
        hang_up(crowd, user);
    } else {
        crowd_note(crowd->put_off_by, "closed in the TLS handshake, see the broker's log", NULL);
        put_off(crowd, user, 0);
    }
}

static void on_connected(struct crowd *crowd, struct user *user)
{
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(user->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error == 0 && crowd->security != NULL) {
        user->tls = tls_link_create(crowd->security, user->fd);
        error = user->tls == NULL ? ENOMEM : 0;
    }
    if (error != 0) {
        hang_up(crowd, user);
        crowd_fail(crowd, "cannot connect: %s", strerror(error));
    } else if (user->tls != NULL) {
        set_state(crowd, user, USER_SECURING);
        secure(crowd, user);
    } else {
        begin_frames(crowd, user);
    }
}

/* --- what the broker says --------------------------------------------------------------------- */

/* What of several frames goes into one message: as much as the broker takes, and is of use. */
static size_t message_bytes_of(uint64_t frame_bytes_max)
{
    if (frame_bytes_max == 0 || frame_bytes_max > WEBSOCKET_BATCH_BYTES_MAX)
        return WEBSOCKET_BATCH_BYTES_MAX;
    return frame_bytes_max;
}

static void on_welcome(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    const struct bytes *secret = &frame->run[WELCOME_SECRET];
    user->epoch = frame->number[WELCOME_EPOCH];
    user->secret_bytes = secret->size < sizeof(user->secret) ? secret->size : sizeof(user->secret);
    if (user->secret_bytes > 0)
        memcpy(user->secret, secret->data, user->secret_bytes);
    user->seq = frame->number[WELCOME_NEXT_SEQ] - 1;
    user->spoke_ns = crowd->now_ns;
    crowd->heartbeat_ms = frame->number[WELCOME_HEARTBEAT_MS];
    crowd->message_bytes_max = message_bytes_of(frame->number[WELCOME_FRAME_BYTES_MAX]);
    set_state(crowd, user, USER_ONLINE);
    crowd->was_online = true;
    crowd->events->on_welcome(crowd, user, frame);
}

/* A session that is gone begins anew; what may pass is waited for; the rest ends the run. */
static void on_refusal(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    uint64_t code = frame->number[ERROR_CODE];
    if (code == USHER_ERROR_RESUME_REJECTED) {
        crowd->rejected++;
        user->epoch = 0;
        greet(crowd, user);
    } else if (code == USHER_ERROR_BUSY || code == USHER_ERROR_UNAVAILABLE ||
               code == USHER_ERROR_RATE_LIMITED || code == USHER_ERROR_DRAINING) {
        crowd_note(crowd->put_off_by, usher_error_name((int64_t)code), frame);
        put_off(crowd, user, frame->number[REFUSAL_RETRY_AFTER_MS]);
    } else {
        char reason[CROWD_REASON_BYTES_MAX] = "";
        crowd_note(reason, usher_error_name((int64_t)code), frame);
        crowd_fail(crowd, "the login of %s is refused: %s%s", user->name, reason,
                   code == USHER_ERROR_UNAUTHENTICATED ? " (see --token-key and --tokens)" : "");
        hang_up(crowd, user);
    }
}

/* Only who was asked to leave may go, and only who is not in yet may be sent away for now. */
static void on_close(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    uint64_t reason = frame->number[CLOSE_REASON];
    bool left = reason == USHER_CLOSE_LOGGED_OUT;
    if (left) {
        crowd->left++;
        user->epoch = 0;
        hang_up(crowd, user);
    } else if (user->state == USER_JOINING && reason == USHER_CLOSE_OVERLOADED) {
        crowd_note(crowd->put_off_by, usher_close_name((int64_t)reason), frame);
        put_off(crowd, user, frame->number[REFUSAL_RETRY_AFTER_MS]);
    } else {
        char words[CROWD_REASON_BYTES_MAX] = "";
        crowd_note(words, usher_close_name((int64_t)reason), frame);
        crowd_fail(crowd, "the broker closed the connection of %s: %s", user->name, words);
        hang_up(crowd, user);
    }
}

static void on_frame(struct crowd *crowd, struct user *user, struct bytes bytes)
{
    struct broker_frame frame;
    if (crowd->events->on_company != NULL && crowd->events->on_company(crowd, user, bytes))
        return;
    if (broker_frame_read(bytes, &frame) != 0) {
        crowd->check.strange++;
        return;
    }
    switch (frame.body) {
    case BROKER_MESSAGE:
        user->seq = frame.number[MESSAGE_SEQ];
        user->wants_ack = crowd->options->acks;
        crowd->events->on_message(crowd, user, &frame);
        break;
    case BROKER_WELCOME:
        on_welcome(crowd, user, &frame);
        break;
    case BROKER_ERROR:
        if (user->state == USER_JOINING) {
            on_refusal(crowd, user, &frame);
            break;
        }
        /* fall through */
    case BROKER_DONE:
    case BROKER_REPLY:
        crowd->events->on_answer(crowd, user, &frame);
        break;
    case BROKER_CLOSE:
        on_close(crowd, user, &frame);
        break;
    case BROKER_PONG:
        break;
    case BROKER_NONE:
    case BROKER_ROOM_STATE:
    case BROKER_ROOM_MESSAGES:
    case BROKER_ROOM_EVENT:
    case BROKER_FRIENDS:
        crowd->check.strange++;
        break;
    }
}

/* One acknowledgement for all that one read brought. */
static void take_frames(struct crowd *crowd, struct user *user, struct bytes input)
{
    struct bytes frame;
    size_t used;
    int found = 0;
    /* A frame may end the connection; what stands behind it is nobody's then. */
    while (user->fd >= 0 && (found = frame_next(input, FRAME_BYTES_MAX, &frame, &used)) > 0) {
        input.data += used;
        input.size -= used;
        on_frame(crowd, user, frame);
    }
    if (found < 0)
        crowd_fail(crowd, "%s got a frame that cannot be", user->name);
    if (user->fd >= 0 && input.size > 0 && buffer_append(&user->in, input.data, input.size) != 0)
        crowd_fail(crowd, "no memory");
    if (user->fd >= 0 && user->wants_ack && !crowd->hold_acks) {
        const struct client_frame ack = {.body = CLIENT_ACK, .ack = {.seq = user->seq}};
        user->wants_ack = false;
        if (client_frame_write(&user->out, &ack, CROWD_READ_BYTES) != 0)
            crowd_fail(crowd, "no memory");
        crowd_touch(crowd, user);
    }
}

/* Before the greeting it is a limit of the broker's; afterwards nobody is to lose a connection. */
static void on_end(struct crowd *crowd, struct user *user, int error)
{
    if (user->state == USER_JOINING || user->state == USER_UPGRADING) {
        crowd_note(crowd->put_off_by, "closed without a word, see the broker's log", NULL);
        put_off(crowd, user, 0);
    } else {
        hang_up(crowd, user);
    }
    if (!crowd->leaving && user->state != USER_WAITING)
        crowd_fail(crowd, "%s lost its connection: %s", user->name,
                   error != 0 ? strerror(error) : "end of file");
}

/* How many bytes; 0: none now; negative: the end, and why. */
static ssize_t receive(struct user *user, uint8_t *to)
{
    if (user->tls != NULL)
        return tls_link_read(user->tls, to, CROWD_READ_BYTES);
    ssize_t got = recv(user->fd, to, CROWD_READ_BYTES, 0);
    if (got > 0)
        return got;
    if (got == 0)
        return -ESHUTDOWN;
    return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

/* A broker that is full says so to the upgrade. */
static void on_no_upgrade(struct crowd *crowd, struct user *user)
{
    const struct websocket_answer answer = user->websocket->answer;
    if (answer.status == 503) {
        crowd_note(crowd->put_off_by, "OVERLOADED", NULL);
        put_off(crowd, user, answer.retry_after_ms);
        return;
    }
    if (answer.fault[0] != '\0')
        crowd_fail(crowd, "%.60s sent %s in place of a WebSocket", crowd->options->host,
                   answer.fault);
    else
        crowd_fail(crowd, "%.60s refuses the WebSocket with %u; check port and path of --url",
                   crowd->options->host, answer.status);
    hang_up(crowd, user);
}

/* Before the upgrade is done what comes is HTTP. Gives the bytes that are of frames. */
static size_t take_answer(struct crowd *crowd, struct user *user, size_t size)
{
    size_t used;
    int result = websocket_open(user->websocket, (struct bytes){crowd->input, size}, &used);
    if (result == 0 && buffer_append(&user->in, crowd->input, size) != 0)
        crowd_fail(crowd, "no memory");
    if (result < 0)
        on_no_upgrade(crowd, user);
    if (result != 1)
        return 0;
    memmove(crowd->input, crowd->input + used, size - used);
    greet(crowd, user);
    return size - used;
}

/* What came behind the first `carried` bytes of the input is a WebSocket's. A Close of it comes
 * behind the broker's own, so whoever is still there then was not told. */
static void take_messages(struct crowd *crowd, struct user *user, size_t carried, size_t size)
{
    size_t payload;
    int error = websocket_take(user->websocket, crowd->input + carried, size, &payload);
    take_frames(crowd, user, (struct bytes){crowd->input, carried + payload});
    if (user->fd < 0)
        return;
    if (user->websocket->pong_waits)
        crowd_touch(crowd, user);
    if (error == -ESHUTDOWN)
        on_end(crowd, user, 0);
    else if (error != 0)
        crowd_fail(crowd, "%s got a message that cannot be", user->name);
}

/* What was carried stands in front of what comes, so that a frame is read in one piece. */
static void on_readable(struct crowd *crowd, struct user *user)
{
    size_t carried = user->in.size;
    if (carried > 0)
        memcpy(crowd->input, user->in.data, carried);
    ssize_t got = receive(user, crowd->input + carried);
    if (got == 0)
        return;
    if (got < 0) {
        on_end(crowd, user, got == -ESHUTDOWN ? 0 : (int)-got);
        return;
    }
    buffer_fini(&user->in);
    crowd->now_ns = clock_ns();
    size_t size = (size_t)got;
    if (user->state == USER_UPGRADING) {
        size = take_answer(crowd, user, carried + size);
        carried = 0;
    }
    if (size > 0 && user->websocket != NULL)
        take_messages(crowd, user, carried, size);
    else if (size > 0)
        take_frames(crowd, user, (struct bytes){crowd->input, carried + size});
}

/* --- output and turns ------------------------------------------------------------------------- */

void crowd_touch(struct crowd *crowd, struct user *user)
{
    if (user->dirty)
        return;
    user->dirty = true;
    crowd->dirty[crowd->dirty_count++] = (uint32_t)(user - crowd->users);
}

/* Over a WebSocket frames leave in messages. */
static void wrap(struct crowd *crowd, struct user *user)
{
    struct websocket_batch batch = {.frames_max = crowd->options->ws_frames};
    if (user->state == USER_ONLINE)
        batch.bytes_max = crowd->message_bytes_max;
    if (user->websocket != NULL && websocket_wrap(user->websocket, &user->out, &batch) != 0)
        crowd_fail(crowd, "no memory, or no random numbers");
}

/* How many bytes were taken; 0: none now; negative: the connection is broken. */
static ssize_t transmit(struct user *user)
{
    const uint8_t *data = user->out.data + user->out_offset;
    size_t size = user->out.size - user->out_offset;
    ssize_t sent;
    if (user->tls != NULL)
        return tls_link_write(user->tls, data, size);
    do
        sent = send(user->fd, data, size, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 && errno == EAGAIN ? 0 : sent;
}

static void flush_user(struct crowd *crowd, struct user *user)
{
    wrap(crowd, user);
    while (user->fd >= 0 && user->out_offset < user->out.size) {
        ssize_t sent = transmit(user);
        if (sent <= 0) {
            /* A broken connection is told by the next read. */
            want_write(crowd, user, sent == 0);
            return;
        }
        user->out_offset += (size_t)sent;
    }
    user->out.size = user->out_offset = 0;
    if (user->websocket != NULL)
        user->websocket->wrapped = 0;
    user->spoke_ns = crowd->now_ns;
    if (crowd->options->scenario == BENCH_IDLE)
        buffer_fini(&user->out); /* so that both ends of many users fit one machine */
    if (user->fd >= 0)
        want_write(crowd, user, false);
}

/* Once a turn, so that a user's frames leave together. */
static void flush_all(struct crowd *crowd)
{
    for (uint32_t i = 0; i < crowd->dirty_count; i++) {
        struct user *user = &crowd->users[crowd->dirty[i]];
        user->dirty = false;
        if (user->state >= USER_UPGRADING && user->state <= USER_ONLINE)
            flush_user(crowd, user);
    }
    crowd->dirty_count = 0;
}

static void rejoin(struct crowd *crowd)
{
    /* All are looked at, five milliseconds apart: the times to wait differ. */
    if (crowd->waiting == 0 || crowd->now_ns - crowd->waiting_ns < 5000000)
        return;
    crowd->waiting_ns = crowd->now_ns;
    for (uint32_t i = 0; i < crowd->count; i++) {
        struct user *user = &crowd->users[i];
        if (user->state == USER_WAITING && user->spoke_ns <= crowd->now_ns &&
            crowd->joining < crowd->options->joining_max)
            crowd_join(crowd, user, user->due_ns);
    }
}

/* Passes over everybody once per heartbeat, at an even pace, and pings who has been silent. */
static void beat(struct crowd *crowd)
{
    uint64_t heartbeat_ns = crowd->heartbeat_ms * 1000000;
    if (heartbeat_ns == 0)
        return;
    if (crowd->beat_ns == 0)
        crowd->beat_ns = crowd->now_ns;
    uint64_t step_ns = heartbeat_ns / 2 / crowd->count + 1;
    while (crowd->beat_ns + step_ns <= crowd->now_ns) {
        struct user *user = &crowd->users[crowd->beat_next];
        crowd->beat_ns += step_ns;
        crowd->beat_next = (crowd->beat_next + 1) % crowd->count;
        if (user->state != USER_ONLINE || crowd->now_ns < user->spoke_ns + heartbeat_ns)
            continue;
        const struct client_frame ping = {.body = CLIENT_PING};
        if (client_frame_write(&user->out, &ping, CROWD_READ_BYTES) != 0)
            crowd_fail(crowd, "no memory");
        crowd_touch(crowd, user);
    }
}

void crowd_show(struct crowd *crowd)
{
    struct crowd_shown *shown = &crowd->shown;
    atomic_store_explicit(&shown->sent, crowd->check.sent, memory_order_relaxed);
    atomic_store_explicit(&shown->received, crowd->check.received, memory_order_relaxed);
    atomic_store_explicit(&shown->refused, crowd->check.refused, memory_order_relaxed);
    atomic_store_explicit(&shown->repeated, crowd->check.repeated, memory_order_relaxed);
    atomic_store_explicit(&shown->missed, crowd->check.missed, memory_order_relaxed);
    atomic_store_explicit(&shown->reached, crowd->reached, memory_order_relaxed);
    atomic_store_explicit(&shown->online, crowd->online, memory_order_relaxed);
    atomic_store_explicit(&shown->left, crowd->left, memory_order_relaxed);
    atomic_store_explicit(&shown->retries, crowd->retries, memory_order_relaxed);
}

void crowd_turn(struct crowd *crowd, uint64_t wait_ns)
{
    struct epoll_event events[EVENTS_MAX];
    const struct timespec wait = clock_timespec(wait_ns);
    beat(crowd);
    rejoin(crowd);
    flush_all(crowd);
    crowd_show(crowd);
    int count = epoll_pwait2(crowd->epoll, events, EVENTS_MAX, &wait, NULL);
    crowd->now_ns = clock_ns();
    for (int i = 0; i < count; i++) {
        struct user *user = events[i].data.ptr;
        if (user->state == USER_CONNECTING)
            on_connected(crowd, user);
        else if (user->state == USER_SECURING)
            secure(crowd, user);
        else if (user->fd >= 0 && (events[i].events & EPOLLOUT))
            crowd_touch(crowd, user);
        if (user->fd >= 0 && user->state != USER_SECURING &&
            (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
            on_readable(crowd, user);
    }
    flush_all(crowd);
    crowd_show(crowd);
}
