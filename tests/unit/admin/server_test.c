/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/admin.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* The endpoint with answers of our own, that wait until they are let go: so it is known who waits
 * for the second thread, and who is next. */

#define CHANGE "the-token-that-may-change"
#define VIEW "the-token-that-may-look"

enum { LOOKS = 20, FEW = 4, JOBS = 12 + 4, BYTES_MAX = 4096 };

struct world {
    struct admin *admin;
    struct metrics *metrics;
    uint16_t port;
    char folder[32];
    char change_file[64], view_file[64];
    pthread_mutex_t lock;
    pthread_cond_t news;
    unsigned looks, kicks; /* begun */
    unsigned let_go;       /* how many looks may end */
    struct env env;
    _Atomic uint64_t ahead_ns; /* of the clock */
};

static unsigned look(void *context, const struct admin_query *query, json_t *answer)
{
    struct world *world = context;
    pthread_mutex_lock(&world->lock);
    unsigned place = ++world->looks;
    pthread_cond_broadcast(&world->news);
    while (world->let_go < place)
        pthread_cond_wait(&world->news, &world->lock);
    pthread_mutex_unlock(&world->lock);
    return 200;
}

static unsigned kick(void *context, const struct admin_query *query, json_t *answer)
{
    struct world *world = context;
    pthread_mutex_lock(&world->lock);
    world->kicks++;
    json_object_set_new(answer, "looks", json_integer(world->looks));
    pthread_mutex_unlock(&world->lock);
    return 200;
}

static void let_go(struct world *world, unsigned count)
{
    pthread_mutex_lock(&world->lock);
    world->let_go = count;
    pthread_cond_broadcast(&world->news);
    pthread_mutex_unlock(&world->lock);
}

static void wait_for_looks(struct world *world, unsigned count)
{
    pthread_mutex_lock(&world->lock);
    while (world->looks < count)
        pthread_cond_wait(&world->news, &world->lock);
    pthread_mutex_unlock(&world->lock);
}

/* How many answers. */
static unsigned begun(struct world *world)
{
    pthread_mutex_lock(&world->lock);
    unsigned count = world->looks + world->kicks;
    pthread_mutex_unlock(&world->lock);
    return count;
}

static uint64_t shifted_ns(void *context)
{
    struct world *world = context;
    return env_monotonic_ns(env_system()) + world->ahead_ns;
}

/* --- what it asks ----------------------------------------------------------------------------- */

static void no_readings(void *context, uint64_t readings[READING_COUNT])
{
}

static const char *serving(void *context)
{
    return "serving";
}

static unsigned no_checks(void *context, struct admin_check checks[ADMIN_CHECKS_MAX])
{
    return 0;
}

static void write_token(const char *path, const char *token)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(token, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int open_port(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static int set_up(void **state, unsigned connections_max)
{
    struct world *world = calloc(1, sizeof(*world));
    world->env = *env_system();
    world->env.monotonic_ns = shifted_ns;
    world->env.context = world;
    char error[ADMIN_ERROR_BYTES];
    pthread_mutex_init(&world->lock, NULL);
    pthread_cond_init(&world->news, NULL);
    strcpy(world->folder, "/tmp/usher-admin-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    snprintf(world->change_file, sizeof(world->change_file), "%s/change", world->folder);
    snprintf(world->view_file, sizeof(world->view_file), "%s/view", world->folder);
    write_token(world->change_file, CHANGE);
    write_token(world->view_file, VIEW);
    world->metrics = metrics_create(1);
    struct admin_options options = {
        .listener = open_port(&world->port),
        .node = "node",
        .host = "",
        .token_file = world->change_file,
        .view_token_file = world->view_file,
        .connections_max = connections_max,
        .env = &world->env,
        .metrics = world->metrics,
        .context = world,
        .read = no_readings,
        .state = serving,
        .alive = no_checks,
        .ready = no_checks,
    };
    options.answers[ADMIN_NODE] = look;
    options.answers[ADMIN_KICK] = kick;
    assert_int_equal(admin_start(&world->admin, &options, error), 0);
    *state = world;
    return 0;
}

static int setup(void **state)
{
    return set_up(state, 64);
}

static int setup_few(void **state)
{
    return set_up(state, FEW);
}

static int teardown(void **state)
{
    struct world *world = *state;
    let_go(world, UINT32_MAX);
    admin_stop(world->admin);
    metrics_destroy(world->metrics);
    unlink(world->change_file);
    unlink(world->view_file);
    rmdir(world->folder);
    pthread_mutex_destroy(&world->lock);
    pthread_cond_destroy(&world->news);
    free(world);
    return 0;
}

/* --- who asks --------------------------------------------------------------------------------- */

static int ask(const struct world *world, const char *line, const char *token, const char *rest)
{
    char text[BYTES_MAX];
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons(world->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    int size = snprintf(text, sizeof(text), "%s HTTP/1.1\r\nHost: localhost\r\n%s%s%s%s\r\n", line,
                        token[0] != '\0' ? "Authorization: Bearer " : "", token,
                        token[0] != '\0' ? "\r\n" : "", rest);
    assert_int_equal(send(fd, text, (size_t)size, MSG_NOSIGNAL), size);
    return fd;
}

/* Reads until the answer is whole; gives its status, 0 when there is none. Closes. */
static unsigned status_of(int fd, char answer[BYTES_MAX])
{
    size_t size = 0;
    ssize_t more;
    unsigned status = 0;
    answer[0] = '\0';
    while (strchr(answer, '}') == NULL &&
           (more = recv(fd, answer + size, BYTES_MAX - 1 - size, 0)) > 0) {
        size += (size_t)more;
        answer[size] = '\0';
    }
    close(fd);
    (void)sscanf(answer, "HTTP/1.1 %u", &status);
    return status;
}

static unsigned asked(const struct world *world, const char *line, const char *token,
                      const char *rest)
{
    char answer[BYTES_MAX];
    return status_of(ask(world, line, token, rest), answer);
}

/* Until so many have come and were given to the second thread, or refused: the thread that counts
 * them does that next, and answers whoever comes later afterwards. */
static void wait_for_requests(const struct world *world, uint64_t count)
{
    while (metrics_read(world->metrics, METRIC_admin_requests) < count)
        usleep(1000);
    assert_int_equal(asked(world, "GET /healthz", "", ""), 200);
}

/* --- tests ------------------------------------------------------------------------------------ */

/* However many look, there is a place for who changes something, and he is next. */
static void a_change_waits_for_no_more_than_one_look(void **state)
{
    struct world *world = *state;
    int looks[LOOKS];
    unsigned busy = 0, good = 0;
    char answer[BYTES_MAX];
    looks[0] = ask(world, "GET /api/node", VIEW, "");
    wait_for_looks(world, 1);
    for (unsigned i = 1; i < LOOKS; i++)
        looks[i] = ask(world, "GET /api/node", VIEW, "");
    wait_for_requests(world, LOOKS);
    int change = ask(world, "POST /api/sessions/alice/kick", CHANGE, "Content-Length: 0\r\n");
    wait_for_requests(world, LOOKS + 2); /* with the one by which it was waited before */
    let_go(world, 1);
    assert_int_equal(status_of(change, answer), 200);
    assert_non_null(strstr(answer, "{\"looks\":1}"));
    let_go(world, UINT32_MAX);
    for (unsigned i = 0; i < LOOKS; i++) {
        unsigned status = status_of(looks[i], answer);
        busy += status == 429;
        good += status == 200;
    }
    assert_int_equal(good, 1 + 12);
    assert_int_equal(busy, LOOKS - good);
}

/* Whatever is announced, the answer does not wait for it: four seconds later it would be too late.
 */
static void a_stranger_has_no_body_taken(void **state)
{
    struct world *world = *state;
    static const char *const bodies[] = {"Content-Length: 60000\r\n",
                                         "Transfer-Encoding: chunked\r\n"};
    static const char *const lines[] = {"GET /api/node", "HEAD /api/node", "GET /nothing",
                                        "POST /api/sessions/a/kick", "DELETE /api/trace/a"};
    let_go(world, UINT32_MAX);
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < sizeof(lines) / sizeof(lines[0]); j++)
            assert_int_equal(asked(world, lines[j], "", bodies[i]), 401);
    assert_int_equal(begun(world), 0);
    assert_int_equal(asked(world, "GET /api/node", VIEW, "Content-Length: 2\r\n\r\n{}"), 200);
}

static void nothing_is_answered_for_a_page_from_elsewhere(void **state)
{
    struct world *world = *state;
    static const char *const bad[] = {
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: empty\r\n", "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: iframe\r\n", "Sec-Fetch-Site: x\r\n"};
    static const char *const good[] = {
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Dest: empty\r\n", "Sec-Fetch-Site: none\r\n",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: document\r\n", ""};
    let_go(world, UINT32_MAX);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(asked(world, "GET /api/node", VIEW, bad[i]), 403);
        assert_int_equal(asked(world, "GET /readyz", "", bad[i]), 403);
        assert_int_equal(asked(world, "POST /api/sessions/a/kick", CHANGE, bad[i]), 403);
    }
    assert_int_equal(begun(world), 0);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(asked(world, "GET /api/node", VIEW, good[i]), 200);
}

/* Those for whom the second thread works, or will, and who are late meanwhile, are still there for
 * libmicrohttpd: they take nobody's place. */
static void who_waits_for_a_disk_that_hangs_keeps_no_probe_out(void **state)
{
    struct world *world = *state;
    int held[1 + JOBS + 2 * FEW];
    unsigned count = 0;
    /* One after the other: while one is not taken yet, it would have to go for the next. */
    held[count++] = ask(world, "GET /api/node", VIEW, "");
    wait_for_looks(world, 1);
    for (; count < 1 + JOBS; count++) {
        uint64_t before = metrics_read(world->metrics, METRIC_admin_requests);
        bool look = count < 1 + 12;
        held[count] = ask(world, look ? "GET /api/node" : "POST /api/sessions/alice/kick",
                          look ? VIEW : CHANGE, "");
        wait_for_requests(world, before + 1);
    }
    world->ahead_ns = UINT64_C(20) * 1000000000;
    while (metrics_read(world->metrics, METRIC_admin_late) < count)
        usleep(1000);
    uint64_t displaced = metrics_read(world->metrics, METRIC_admin_displaced);
    while (count < 1 + JOBS + 2 * FEW)
        held[count++] = ask(world, "GET /healthz", "", "X: "); /* and not the rest of it */
    assert_int_equal(asked(world, "GET /healthz", "", ""), 200);
    /* Somebody had to go for each of the last ones: nobody had to wait until others were late. */
    assert_true(metrics_read(world->metrics, METRIC_admin_displaced) >= displaced + FEW);
    let_go(world, UINT32_MAX);
    while (count > 0)
        close(held[--count]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_change_waits_for_no_more_than_one_look, setup, teardown),
        cmocka_unit_test_setup_teardown(who_waits_for_a_disk_that_hangs_keeps_no_probe_out,
                                        setup_few, teardown),
        cmocka_unit_test_setup_teardown(a_stranger_has_no_body_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_answered_for_a_page_from_elsewhere, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
