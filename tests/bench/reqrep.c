/* SPDX-License-Identifier: Apache-2.0 */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "usher-bench/histogram.h"

/* The least that a call to a service can take: an nng REQ/REP round trip between two threads, one
 * at a time, 32 bytes. usage: reqrep URL; prints one JSON object. */

enum { ROUNDS = 3000, WARM_UP = 200, BYTES = 32 };

static void *answer(void *argument)
{
    nng_socket *socket = argument;
    char message[BYTES];
    size_t size = sizeof(message);

    while (nng_recv(*socket, message, &size, 0) == 0 && nng_send(*socket, message, size, 0) == 0)
        size = sizeof(message);
    return NULL;
}

static bool ask(nng_socket socket, struct histogram *taken)
{
    char message[BYTES];

    memset(message, 'x', sizeof(message));
    for (int i = 0; i < WARM_UP + ROUNDS; i++) {
        uint64_t begun_ns = clock_ns();
        size_t size = sizeof(message);

        if (nng_send(socket, message, sizeof(message), 0) != 0 ||
            nng_recv(socket, message, &size, 0) != 0)
            return false;
        if (i >= WARM_UP)
            histogram_add(taken, clock_ns() - begun_ns);
    }
    return true;
}

int main(int argc, char **argv)
{
    static struct histogram taken;
    nng_socket rep, req;
    pthread_t thread;

    if (argc != 2 || nng_rep0_open(&rep) != 0 || nng_req0_open(&req) != 0 ||
        nng_listen(rep, argv[1], NULL, 0) != 0 || nng_dial(req, argv[1], NULL, 0) != 0 ||
        pthread_create(&thread, NULL, answer, &rep) != 0) {
        fprintf(stderr, "reqrep: cannot begin\n");
        return 2;
    }
    bool done = ask(req, &taken);
    nng_close(req);
    nng_close(rep);
    pthread_join(thread, NULL);
    printf("{\"p50_us\":%.1f,\"p99_us\":%.1f}\n", (double)histogram_quantile(&taken, 0.5) / 1e3,
           (double)histogram_quantile(&taken, 0.99) / 1e3);
    return done ? 0 : 1;
}
