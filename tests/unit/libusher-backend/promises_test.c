/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "broken.h"
#include "common/clock.h"
#include "libusher-backend/backend.h"

/* What the parts of libusher-backend promise each other, broken on purpose. nng does not live on in
 * a child, so each opens its own. Nobody listens at that URL. */

static const char *const nowhere = "tcp://127.0.0.1:1";

static struct usher_backend *backend_open(const struct usher_backend_callbacks *callbacks,
                                          void *context)
{
    struct usher_backend_options options = {.urls = &nowhere, .url_count = 1, .context = context};
    struct usher_backend *backend;
    if (callbacks != NULL)
        options.callbacks = *callbacks;
    return usher_backend_open(&backend, &options) == 0 ? backend : NULL;
}

static void start_twice(void *argument)
{
    struct usher_backend *backend = backend_open(NULL, NULL);
    channel_start(backend->fetch.channel, (struct bytes){(const uint8_t *)"a", 1}, 1000);
    channel_start(backend->fetch.channel, (struct bytes){(const uint8_t *)"b", 1}, 1000);
}

static void fail_under_way(void *argument)
{
    struct usher_backend *backend = backend_open(NULL, NULL);
    channel_start(backend->fetch.channel, (struct bytes){(const uint8_t *)"a", 1}, 1000);
    channel_failed(backend->fetch.channel, -ETIMEDOUT);
}

static void a_channel_has_one_request(void **state)
{
    assert_true(is_broken(start_twice, NULL, "channel_idle(channel)"));
    assert_true(is_broken(fail_under_way, NULL, "channel_idle(channel)"));
}

static void build_over_a_batch(void *argument)
{
    struct usher_backend *backend = backend_open(NULL, NULL);
    backend->batch.commands[backend->batch.count++] = calloc(1, sizeof(struct command));
    submit_build(backend, 0);
}

static void take_what_is_not_counted(void *argument)
{
    struct usher_backend *backend = backend_open(NULL, NULL);
    usher_backend_drain(backend, 1);
    backend->queue.commands = 0;
    submit_build(backend, 0);
}

static void fill_a_frame_of_nothing(void *argument)
{
    struct usher_backend *backend = backend_open(NULL, NULL);
    usher_backend_drain(backend, 1);
    queue_frame_bytes(&backend->queue, FRAME_OVERHEAD - 1);
    submit_build(backend, 0);
}

static void commands_are_counted_and_end_once(void **state)
{
    assert_true(is_broken(build_over_a_batch, NULL, "batch->count == 0"));
    assert_true(is_broken(take_what_is_not_counted, NULL, "queue->commands > 0"));
    assert_true(is_broken(fill_a_frame_of_nothing, NULL, "frame_bytes_max >= FRAME_BYTES_MIN"));
}

static void bring_events_while_some_are_held(void *argument)
{
    struct usher_backend *backend = backend_open(NULL, NULL);
    Usher__V1__Batch batch = USHER__V1__BATCH__INIT;
    batch.presence_reset = true;
    backend->presence.following = backend->presence.snapshotting = true;
    presence_batch(backend, &batch);
    presence_batch(backend, &batch);
}

static void events_that_are_held_are_not_overwritten(void **state)
{
    assert_true(is_broken(bring_events_while_some_are_held, NULL, "presence->held == NULL"));
}

/* --- what the program must not do ------------------------------------------------------------- */

struct service {
    struct usher_backend *backend;
    int answer; /* to a run within a run */
};

static void run_again(void *context, enum usher_backend_state state, const char *text)
{
    struct service *service = context;
    service->answer = usher_backend_run(service->backend, 0);
    usher_backend_stop(service->backend);
}

/* Answered, because it can be. */
static void it_runs_once_at_a_time(void **state)
{
    struct usher_backend_callbacks callbacks = {.on_state = run_again};
    struct service service = {.answer = 0};
    service.backend = backend_open(&callbacks, &service);
    assert_int_equal(usher_backend_run(service.backend, 10000), 0);
    assert_int_equal(service.answer, -EALREADY);
    assert_int_equal(usher_backend_run(service.backend, 0), 0); /* it was stopped; and may run */
    usher_backend_close(service.backend);
}

static void close_it(void *context, enum usher_backend_state state, const char *text)
{
    struct service *service = context;
    usher_backend_close(service->backend);
}

static void close_while_it_runs(void *argument)
{
    struct usher_backend_callbacks callbacks = {.on_state = close_it};
    struct service service = {.answer = 0};
    service.backend = backend_open(&callbacks, &service);
    usher_backend_run(service.backend, 10000);
}

static void it_is_not_closed_while_it_runs(void **state)
{
    char said[512];
    assert_int_equal(broken_signal(close_while_it_runs, NULL, said, sizeof(said)), SIGABRT);
    assert_non_null(strstr(said, "usher_backend_close while usher_backend_run runs"));
}

/* A dialer of nng may be dead without a word. So a request that finds no connection does not wait
 * for as long as its answer might take. */
static void a_request_that_does_not_go_out_is_given_up(void **state)
{
    static const struct urls urls = {.text = {"ipc:///tmp/usher-nobody-2.sock"}, .count = 1};
    const struct bytes request = {(const uint8_t *)"a", 1};
    const uint64_t began_ms = clock_ms();
    struct channel *channel = NULL;
    struct bytes answer;
    int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error;

    assert_int_equal(channel_open(&channel, &urls, wake), 0);
    assert_int_equal(channel_start(channel, request, 600000), 0);
    while ((error = channel_take(channel, &answer)) == -EAGAIN)
        wake_wait(wake, 50);
    assert_int_equal(error, -ETIMEDOUT);
    assert_in_range(clock_ms() - began_ms, 0, 60000);
    channel_close(channel, 0);
    close(wake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_channel_has_one_request),
        cmocka_unit_test(commands_are_counted_and_end_once),
        cmocka_unit_test(events_that_are_held_are_not_overwritten),
        cmocka_unit_test(it_is_not_closed_while_it_runs),
        /* These two last: nng is this process's then. */
        cmocka_unit_test(it_runs_once_at_a_time),
        cmocka_unit_test(a_request_that_does_not_go_out_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
