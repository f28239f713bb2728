/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/admin.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* Places of HTTP connections, with a real endpoint whose answers wait for the test. Its clock is
 * the test's, so nobody is ever late: who goes, goes for the places. */

enum { PATIENCE_MS = 20000, NAP_NS = 1000000 };

struct world {
    struct admin *admin;
    struct admin_options options;
    struct metrics *metrics;
    struct env env;
    struct sockaddr_in address;
    _Atomic bool answers; /* the second thread may go on */
    _Atomic uint64_t now_ns;
};

static uint64_t clock_of(void *context)
{
    return ((struct world *)context)->now_ns;
}

#define WAIT_FOR(condition)                                                         \
    do {                                                                            \
        for (unsigned naps = 0; !(condition) && naps < PATIENCE_MS; naps++)         \
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);                 \
        if (!(condition))                                                           \
            fail_msg("%s:%d: never came true: %s", __FILE__, __LINE__, #condition); \
    } while (0)

static unsigned answer_late(void *context, const struct admin_query *query, json_t *answer)
{
    struct world *world = context;
    while (!world->answers)
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    return 200;
}

static int listen_somewhere(struct world *world)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t size = sizeof(world->address);
    world->address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)&world->address, size), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&world->address, &size), 0);
    return fd;
}

static void start(struct world *world, unsigned connections_max)
{
    char error[ADMIN_ERROR_BYTES];
    world->env = *env_system();
    world->now_ns = UINT64_C(1000000000000);
    world->env.monotonic_ns = clock_of;
    world->env.context = world;
    world->metrics = metrics_create(1);
    world->options = (struct admin_options){
        .listener = listen_somewhere(world),
        .node = "n",
        .host = "",
        .token_file = "",
        .view_token_file = "",
        .connections_max = connections_max,
        .env = &world->env,
        .metrics = world->metrics,
        .context = world,
        .answers = {[ADMIN_NODE] = answer_late},
    };
    assert_int_equal(admin_start(&world->admin, &world->options, error), 0);
}

static void stop(struct world *world)
{
    world->answers = true;
    admin_stop(world->admin);
    metrics_destroy(world->metrics);
}

static int ask(struct world *world)
{
    static const char request[] = "GET /api/node HTTP/1.1\r\nHost: localhost\r\n\r\n";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(fd, (struct sockaddr *)&world->address, sizeof(world->address)), 0);
    assert_int_equal(send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL), sizeof(request) - 1);
    return fd;
}

static void expect_answer(int fd)
{
    char answer[8];
    assert_int_equal(recv(fd, answer, sizeof(answer), MSG_WAITALL), sizeof(answer));
    assert_memory_equal(answer, "HTTP/1.1", sizeof(answer));
}

/* Nobody may go while the second thread has what he asks for; when all of them are answered, sit
 * there and nobody comes any more, those go who are too many. */
static void places_are_given_back_without_a_newcomer(void **state)
{
    enum { PLACES = 2, PEERS = 5 };
    struct world world = {0};
    int peers[PEERS];
    start(&world, PLACES);
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i] = ask(&world);
        WAIT_FOR(metrics_read(world.metrics, METRIC_admin_requests) == i + 1);
    }
    uint64_t before = metrics_read(world.metrics, METRIC_admin_displaced);
    assert_int_equal(before, 0);
    world.answers = true;
    for (unsigned i = 0; i < PEERS; i++)
        expect_answer(peers[i]);
    nanosleep(&(struct timespec){.tv_nsec = 700 * 1000000}, NULL); /* somebody has looked */
    assert_int_equal(metrics_read(world.metrics, METRIC_admin_displaced),
                     0); /* they have just asked */
    world.now_ns += 2500 * UINT64_C(1000000);
    WAIT_FOR(metrics_read(world.metrics, METRIC_admin_displaced) == PEERS - PLACES);
    assert_int_equal(metrics_read(world.metrics, METRIC_admin_late), 0);
    int next = ask(&world);
    expect_answer(next);
    for (unsigned i = 0; i < PEERS; i++)
        close(peers[i]);
    close(next);
    stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_are_given_back_without_a_newcomer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
