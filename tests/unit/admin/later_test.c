/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/admin.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/lock.h"

/* Another face of the endpoint, whose asker is the test: requests that wait, streams, peers that go
 * or do not read. The clock is the test's. */

enum { PATIENCE_MS = 20000, NAP_NS = 1000000, SECOND_NS = 1000000000 };

#define WAIT_FOR(condition)                                                         \
    do {                                                                            \
        for (unsigned naps = 0; !(condition) && naps < PATIENCE_MS; naps++)         \
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);                 \
        if (!(condition))                                                           \
            fail_msg("%s:%d: never came true: %s", __FILE__, __LINE__, #condition); \
    } while (0)

struct world {
    struct admin *admin;
    struct admin_face face;
    struct metrics *metrics;
    struct env env;
    struct sockaddr_in address;
    _Atomic uint64_t now_ns;
    _Atomic unsigned waiting, gone, over;
    _Atomic uint64_t read;
    struct lock lock;
    struct exchange *exchange; /* that waits, under the lock */
    bool waited;               /* of the HTTP thread */
};

enum { WAIT, ENDLESS, QUIET };

static const struct admin_path paths[] = {
    {"GET", "/wait", false}, {"GET", "/endless", false}, {"GET", "/quiet", false}};
static const char *const arguments[] = {NULL};

static uint64_t clock_of(void *context)
{
    return ((struct world *)context)->now_ns;
}

static void wait_there(struct world *world, struct exchange *exchange)
{
    lock_take(&world->lock);
    world->exchange = exchange;
    admin_suspend(exchange);
    lock_give(&world->lock);
    world->waiting++;
}

static void resume(struct world *world)
{
    lock_take(&world->lock);
    if (world->exchange != NULL)
        admin_resume(world->exchange);
    world->exchange = NULL;
    lock_give(&world->lock);
}

static unsigned step(void *context, struct exchange *exchange, unsigned route,
                     const struct admin_query *query, json_t *answer)
{
    struct world *world = context;
    bool again = admin_own(exchange) != NULL;
    admin_set_own(exchange, world);
    if (route != WAIT)
        return ADMIN_STREAM;
    if (again)
        return 200;
    wait_there(world, exchange);
    return ADMIN_LATER;
}

/* The endless stream always has something, the quiet one has a word and then nothing. */
static ssize_t read_some(void *context, void *own, struct exchange *exchange, char *to, size_t room)
{
    struct world *world = context;
    if (world->face.name[0] == 'q' && world->read > 0) {
        if (world->gone > 0)
            return -1;
        wait_there(world, exchange);
        return 0;
    }
    size_t size = world->face.name[0] == 'q' ? 1 : room;
    memset(to, 'x', size);
    world->read += size;
    return (ssize_t)size;
}

static void on_gone(void *context, void *own)
{
    struct world *world = context;
    assert_ptr_equal(own, world);
    world->gone++;
    resume(world);
}

static void on_over(void *context, void *own)
{
    ((struct world *)context)->over++;
}

static int listen_somewhere(struct world *world)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t size = sizeof(world->address);
    int few = 16384;
    world->address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &few, sizeof(few)); /* those that are accepted, too */
    assert_int_equal(bind(fd, (struct sockaddr *)&world->address, size), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&world->address, &size), 0);
    return fd;
}

static void start(struct world *world, const char *name)
{
    char error[ADMIN_ERROR_BYTES];
    *world = (struct world){.now_ns = UINT64_C(1000) * SECOND_NS};
    lock_init(&world->lock);
    world->env = *env_system();
    world->env.monotonic_ns = clock_of;
    world->env.context = world;
    world->metrics = metrics_create(1);
    world->face = (struct admin_face){
        .name = name,
        .token_option = "token",
        .host_option = "host",
        .page = "there is none",
        .paths = paths,
        .path_count = sizeof(paths) / sizeof(paths[0]),
        .arguments = arguments,
        .body_bytes_max = 100,
        .waiting_max = 8,
        .requests = METRIC_http_requests,
        .refused = METRIC_http_refused,
        .late = METRIC_http_late,
        .quiet = METRIC_http_quiet,
        .displaced = METRIC_http_displaced,
        .asker = {step, read_some, on_gone, on_over},
    };
    const struct admin_options options = {
        .face = &world->face,
        .listener = listen_somewhere(world),
        .node = "n",
        .host = "",
        .token_file = "",
        .view_token_file = "",
        .connections_max = 4,
        .env = &world->env,
        .metrics = world->metrics,
        .context = world,
    };
    assert_int_equal(admin_start(&world->admin, &options, error), 0);
}

static void stop(struct world *world)
{
    admin_stop(world->admin);
    metrics_destroy(world->metrics);
    lock_destroy(&world->lock);
}

static int ask(struct world *world, const char *path)
{
    char request[128];
    int size =
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int few = 4096;
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &few, sizeof(few));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(fd, (struct sockaddr *)&world->address, sizeof(world->address)), 0);
    assert_int_equal(send(fd, request, (size_t)size, MSG_NOSIGNAL), size);
    return fd;
}

static void expect_status(int fd, const char *status)
{
    char answer[13] = "";
    assert_int_equal(recv(fd, answer, 12, MSG_WAITALL), 12);
    assert_string_equal(answer + 9, status);
}

/* However long it takes: nobody who waits is late, or goes for a newcomer. */
static void who_waits_is_answered_when_he_is_resumed(void **state)
{
    struct world world;
    start(&world, "http");
    int fd = ask(&world, "/wait");
    WAIT_FOR(world.waiting == 1);
    world.now_ns += UINT64_C(600) * SECOND_NS;
    nanosleep(&(struct timespec){.tv_nsec = 700 * NAP_NS}, NULL); /* somebody has looked */
    assert_int_equal(metrics_read(world.metrics, METRIC_http_late), 0);
    resume(&world);
    expect_status(fd, "200");
    WAIT_FOR(world.over == 1);
    close(fd);
    stop(&world);
}

/* MHD does not look at who is suspended. */
static void the_asker_hears_of_who_has_gone(void **state)
{
    struct world world;
    start(&world, "http");
    int fd = ask(&world, "/wait");
    WAIT_FOR(world.waiting == 1);
    assert_int_equal(world.gone, 0);
    close(fd);
    WAIT_FOR(world.gone > 0);
    WAIT_FOR(world.over == 1);
    stop(&world);
}

static void who_does_not_read_his_stream_is_late(void **state)
{
    struct world world;
    start(&world, "http");
    int fd = ask(&world, "/endless");
    expect_status(fd, "200");
    uint64_t before;
    do {
        before = world.read;
        nanosleep(&(struct timespec){.tv_nsec = 100 * NAP_NS}, NULL);
    } while (world.read != before);
    world.now_ns += UINT64_C(14) * SECOND_NS;
    nanosleep(&(struct timespec){.tv_nsec = 700 * NAP_NS}, NULL);
    assert_int_equal(metrics_read(world.metrics, METRIC_http_late), 0);
    world.now_ns += UINT64_C(2) * SECOND_NS;
    WAIT_FOR(metrics_read(world.metrics, METRIC_http_late) == 1);
    WAIT_FOR(world.over == 1);
    close(fd);
    stop(&world);
}

/* A stream without news is nobody's fault; and it ends when its reader goes. */
static void a_quiet_stream_lasts_as_long_as_its_reader(void **state)
{
    struct world world;
    start(&world, "quiet");
    int fd = ask(&world, "/quiet");
    expect_status(fd, "200");
    WAIT_FOR(world.waiting == 1);
    world.now_ns += UINT64_C(600) * SECOND_NS;
    nanosleep(&(struct timespec){.tv_nsec = 700 * NAP_NS}, NULL);
    assert_int_equal(metrics_read(world.metrics, METRIC_http_late), 0);
    close(fd);
    WAIT_FOR(world.over == 1);
    stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_waits_is_answered_when_he_is_resumed),
        cmocka_unit_test(the_asker_hears_of_who_has_gone),
        cmocka_unit_test(who_does_not_read_his_stream_is_late),
        cmocka_unit_test(a_quiet_stream_lasts_as_long_as_its_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
