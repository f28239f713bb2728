/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_WEB_SERVER_H
#define USHER_TESTS_WEB_SERVER_H

/* A web server on loopback for who asks by HTTP. It keeps what it was asked, answers with `status`,
 * `head` and `body`, and misbehaves as `does` says, in a thread for each connection. */

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum web_deed {
    WEB_ANSWERS,
    WEB_HANGS,        /* reads, and says nothing */
    WEB_DRIPS,        /* a byte now and then */
    WEB_FLOODS,       /* a body of a megabyte */
    WEB_HEADS,        /* a head without an end */
    WEB_INTERIM,      /* interim answers without an end */
    WEB_RESETS,       /* the connection */
    WEB_CUTS,         /* the body is shorter than its head says */
    WEB_BABBLES,      /* no HTTP */
    WEB_ANSWERS_ONCE, /* and then closes the connection, which its head does not say */
};

enum { WEB_CONNECTIONS = 64, WEB_REQUEST_BYTES = 64 * 1024 };

struct web_server {
    int listener;
    unsigned port;
    /* what it does; set while nothing is asked */
    _Atomic int does;
    unsigned status;
    const char *head; /* more lines, each with its end */
    const char *body;
    pthread_t thread;
    pthread_t serving[WEB_CONNECTIONS];
    int sockets[WEB_CONNECTIONS];
    _Atomic unsigned connections, requests, hanging;
    _Atomic bool closing;
    pthread_mutex_t lock;
    char request[WEB_REQUEST_BYTES]; /* the newest, with its body; under lock */
};

struct web_connection {
    struct web_server *server;
    int socket;
};

static inline bool web_say(int socket, const char *data, size_t size)
{
    return send(socket, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

/* A request is there whole. */
static inline bool web_is_whole(const char *text)
{
    const char *end = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "content-length:");
    return end != NULL && length != NULL &&
           strlen(end + 4) >= (size_t)strtoul(length + strlen("content-length:"), NULL, 10);
}

/* False: the connection has ended. */
static inline bool web_read(struct web_server *server, int socket)
{
    char *text = calloc(1, WEB_REQUEST_BYTES);
    size_t size = 0;
    ssize_t more = 1;
    while (more > 0 && !web_is_whole(text) && size < WEB_REQUEST_BYTES - 1) {
        more = recv(socket, text + size, WEB_REQUEST_BYTES - 1 - size, 0);
        size += more > 0 ? (size_t)more : 0;
    }
    bool whole = web_is_whole(text);
    pthread_mutex_lock(&server->lock);
    if (whole)
        memcpy(server->request, text, WEB_REQUEST_BYTES);
    pthread_mutex_unlock(&server->lock);
    free(text);
    return whole;
}

static inline bool web_answer(struct web_server *server, int socket, size_t more_than_there_is)
{
    char head[1024];
    const char *body = server->body != NULL ? server->body : "";
    int size = snprintf(head, sizeof(head), "HTTP/1.1 %u X\r\nContent-Length: %zu\r\n%s\r\n",
                        server->status, strlen(body) + more_than_there_is,
                        server->head != NULL ? server->head : "");
    return web_say(socket, head, (size_t)size) && web_say(socket, body, strlen(body));
}

static inline void web_repeat(struct web_server *server, int socket, const char *text,
                              unsigned pause_ms)
{
    while (!atomic_load(&server->closing) && web_say(socket, text, strlen(text)))
        if (pause_ms > 0)
            usleep(pause_ms * 1000);
}

/* Until the other side has gone, or the server is closed. */
static inline void web_hang(struct web_server *server, int socket)
{
    char byte;
    atomic_fetch_add(&server->hanging, 1);
    while (recv(socket, &byte, 1, 0) > 0)
        continue;
    atomic_fetch_sub(&server->hanging, 1);
}

/* Whether the connection goes on. */
static inline bool web_do(struct web_server *server, int socket)
{
    static char much[64 * 1024];
    const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    switch ((enum web_deed)atomic_load(&server->does)) {
    case WEB_ANSWERS:
        return web_answer(server, socket, 0);
    case WEB_ANSWERS_ONCE:
        web_answer(server, socket, 0);
        return false;
    case WEB_HANGS:
        web_hang(server, socket);
        return false;
    case WEB_DRIPS:
        web_say(socket, "HTTP/1.1 200 X\r\nContent-Length: 10000\r\n\r\n", 42);
        web_repeat(server, socket, "x", 20);
        return false;
    case WEB_FLOODS:
        memset(much, 'x', sizeof(much) - 1);
        web_say(socket, "HTTP/1.1 200 X\r\nContent-Length: 104857600\r\n\r\n", 46);
        web_repeat(server, socket, much, 0);
        return false;
    case WEB_HEADS:
        web_say(socket, "HTTP/1.1 200 X\r\n", 16);
        web_repeat(server, socket, "X-Filler: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n", 0);
        return false;
    case WEB_INTERIM:
        web_repeat(server, socket, "HTTP/1.1 100 Continue\r\nX-Filler: yyyyyyyyyyyy\r\n\r\n", 0);
        return false;
    case WEB_RESETS:
        connect(socket, &nobody, sizeof(nobody)); /* tells the peer, and leaves the descriptor */
        return false;
    case WEB_CUTS:
        web_answer(server, socket, 10);
        return false;
    case WEB_BABBLES:
        web_say(socket, "\x16\x03\x01 no such thing\r\n\r\n", 20);
        return false;
    }
    return false;
}

static inline void *web_serve(void *argument)
{
    struct web_connection connection = *(struct web_connection *)argument;
    struct web_server *server = connection.server;
    free(argument);
    while (web_read(server, connection.socket)) {
        atomic_fetch_add(&server->requests, 1);
        if (!web_do(server, connection.socket))
            break;
    }
    /* Closed at the end of all, so that its number is nobody else's; the peer hears of it now. */
    shutdown(connection.socket, SHUT_RDWR);
    return NULL;
}

static inline void *web_accept(void *argument)
{
    struct web_server *server = argument;
    int socket;
    while ((socket = accept(server->listener, NULL, NULL)) >= 0) {
        struct web_connection *connection = malloc(sizeof(*connection));
        unsigned place = atomic_load(&server->connections);
        assert_true(place < WEB_CONNECTIONS);
        *connection = (struct web_connection){server, socket};
        server->sockets[place] = socket;
        pthread_create(&server->serving[place], NULL, web_serve, connection);
        atomic_store(&server->connections, place + 1);
    }
    return NULL;
}

static inline struct web_server *web_server_open(void)
{
    struct web_server *server = calloc(1, sizeof(*server));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    assert_non_null(server);
    server->status = 200;
    pthread_mutex_init(&server->lock, NULL);
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(server->listener, 64), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &size), 0);
    server->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&server->thread, NULL, web_accept, server), 0);
    return server;
}

static inline void web_server_close(struct web_server *server)
{
    atomic_store(&server->closing, true);
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->listener);
    unsigned count = atomic_load(&server->connections);
    for (unsigned i = 0; i < count; i++)
        shutdown(server->sockets[i], SHUT_RDWR);
    for (unsigned i = 0; i < count; i++) {
        pthread_join(server->serving[i], NULL);
        close(server->sockets[i]);
    }
    pthread_mutex_destroy(&server->lock);
    free(server);
}

/* A copy of the newest request, the caller's. */
static inline char *web_server_request(struct web_server *server)
{
    pthread_mutex_lock(&server->lock);
    char *request = strdup(server->request);
    pthread_mutex_unlock(&server->lock);
    return request;
}

#endif
