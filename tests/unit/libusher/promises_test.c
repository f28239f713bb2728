/* SPDX-License-Identifier: Apache-2.0 */
#include "broken.h"
#include "libusher/session.h"
#include "unit/libusher/fake_broker.h"

/* What the parts of libusher promise each other, broken on purpose. */

static void push_twice(void *argument)
{
    struct event_queue queue = {0};
    struct event_node *node = event_create(USHER_PONG, 0);
    events_push(&queue, node);
    events_push(&queue, node);
}

static void pop_what_is_not_counted(void *argument)
{
    struct event_queue queue = {0};
    events_push(&queue, event_create(USHER_PONG, 0));
    queue.bytes = 0;
    events_pop(&queue);
}

static void an_event_is_in_one_queue_once(void **state)
{
    assert_true(is_broken(push_twice, NULL, "node != queue->tail"));
    assert_true(is_broken(pop_what_is_not_counted, NULL, "queue->bytes >= node->bytes"));
}

static void add_without_a_frame(void *argument)
{
    struct requests requests = {0};
    requests_add(&requests, request_create(1, 0));
}

static void forget_more_than_there_is(void *argument)
{
    struct requests requests = {0};
    struct request *request = request_create(1, 0);
    buffer_append(&request->frame, "frame", 5);
    requests_add(&requests, request);
    requests.bytes = 4;
    requests_fini(&requests);
}

static void requests_are_counted(void **state)
{
    assert_true(is_broken(add_without_a_frame, NULL, "request->frame.size > 0"));
    assert_true(
        is_broken(forget_more_than_there_is, NULL, "requests->bytes >= request->frame.size"));
}

static void read_what_is_not_connected(void *argument)
{
    struct connection connection;
    connection_init(&connection);
    connection_read(&connection, 1);
}

static void write_more_than_was_counted(void *argument)
{
    struct connection connection;
    connection_init(&connection);
    connection.connected = true;
    buffer_append(&connection.output, "frame", 5);
    connection_write(&connection);
}

static void open_over_a_socket(void *argument)
{
    struct connection connection;
    struct addresses found = {.count = 0};
    struct address_memory memory = {.count = 0};
    connection_init(&connection);
    connection.fd = STDIN_FILENO;
    connection_open(&connection, NULL, &found, &memory, 0, 1);
}

static void a_connection_is_used_while_it_stands(void **state)
{
    assert_true(is_broken(read_what_is_not_connected, NULL, "connection->connected"));
    assert_true(
        is_broken(write_more_than_was_counted, NULL, "wire_written == connection->output.size"));
    assert_true(is_broken(open_over_a_socket, NULL, "connection->fd < 0"));
}

static void begin_behind_something(void *argument)
{
    struct websocket websocket;
    struct websocket_masks masks = {.left = 0};
    struct buffer output = {0};
    struct url url;
    url_read("ws://h", &url);
    buffer_append(&output, "frame", 5);
    websocket_begin(&websocket, &url, &masks, &output);
}

static void take_before_the_upgrade(void *argument)
{
    struct websocket websocket = {.open = false};
    size_t payload;
    websocket_take(&websocket, NULL, 0, &payload);
}

static void wrap_before_the_upgrade(void *argument)
{
    struct websocket websocket = {.open = false};
    const struct websocket_batch batch = {.bytes_max = 0};
    struct buffer output = {0};
    buffer_append(&output, "\0", 1);
    websocket_wrap(&websocket, &output, &batch);
}

static void wrap_half_a_frame(void *argument)
{
    struct websocket websocket = {.open = true};
    const struct websocket_batch batch = {.bytes_max = 0};
    struct buffer output = {0};
    buffer_append(&output, "\5half", 5);
    websocket_wrap(&websocket, &output, &batch);
}

static void send_what_is_not_wrapped(void *argument)
{
    struct websocket websocket = {.open = true};
    struct buffer output = {0};
    buffer_append(&output, "\0", 1);
    websocket_sent(&websocket, &output, 1);
}

static void a_websocket_has_whole_frames_behind_its_upgrade(void **state)
{
    assert_true(is_broken(begin_behind_something, NULL, "output->size == 0"));
    assert_true(is_broken(take_before_the_upgrade, NULL, "websocket->open"));
    assert_true(is_broken(wrap_before_the_upgrade, NULL, "websocket->open"));
    assert_true(is_broken(wrap_half_a_frame, NULL, "length <= data.size"));
    assert_true(is_broken(send_what_is_not_wrapped, NULL, "count <= websocket->wrapped"));
}

static void greet_nobody(void *argument)
{
    struct usher_client *client = argument;
    session_greet(client);
}

static void a_greeting_has_a_connection(void **state)
{
    struct usher_options options;
    struct usher_client *client;
    usher_options_init(&options);
    options.username = "alice";
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_true(is_broken(greet_nobody, client, "client->connection.connected"));
    usher_client_destroy(client);
}

/* --- what the program must not do ------------------------------------------------------------- */

static int destroy_the_client(void *context, struct usher_token *token)
{
    usher_client_destroy(*(struct usher_client **)context);
    return -EAGAIN;
}

static void log_in_by_it(void *argument)
{
    struct usher_client *client = argument;
    usher_client_set_token_source(client, destroy_the_client, &client);
    usher_login(client, FAKE_PATIENCE_MS, NULL);
}

static void a_token_source_does_not_destroy_its_client(void **state)
{
    struct fake fake;
    char said[512];
    struct usher_client *client;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(broken_signal(log_in_by_it, client, said, sizeof(said)), SIGABRT);
    assert_non_null(strstr(said, "usher_client_destroy within its own token source"));
    usher_client_destroy(client);
    fake_fini(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_is_in_one_queue_once),
        cmocka_unit_test(requests_are_counted),
        cmocka_unit_test(a_connection_is_used_while_it_stands),
        cmocka_unit_test(a_websocket_has_whole_frames_behind_its_upgrade),
        cmocka_unit_test(a_greeting_has_a_connection),
        cmocka_unit_test(a_token_source_does_not_destroy_its_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
