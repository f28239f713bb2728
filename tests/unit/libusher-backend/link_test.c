/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>

#include "unit/libusher-backend/fake_node.h"

#include <errno.h>
#include <poll.h>

#include "usher_backend.h"

/* The link of libusher-backend against a fake node: what is sent, what is sent again, and what
 * the service sees of it. */

struct service {
    struct fake *fake;
    struct usher_backend *backend;
    unsigned calls;
    unsigned calls_wanted; /* stops there */
    struct usher_backend_call_id last_call;
    bool reply_at_once;
    unsigned results;
    unsigned code;
    unsigned linked;
    unsigned lost;
    char last_text[256];
    uint64_t answer_value; /* of a query made within a callback */
};

static void on_call(void *context, const struct usher_backend_call *call)
{
    struct service *service = context;

    service->calls++;
    service->last_call = call->id;
    if (service->reply_at_once)
        assert_int_equal(
            usher_backend_reply(service->backend, call->id, 5, call->payload, call->payload_size),
            0);
    if (service->calls == service->calls_wanted)
        usher_backend_stop(service->backend);
}

static void on_result(void *context, uint64_t token, const struct usher_backend_result *result)
{
    struct service *service = context;

    assert_int_equal(token, 77);
    service->results++;
    service->code = result->code;
    usher_backend_stop(service->backend);
}

static void on_state(void *context, enum usher_backend_state state, const char *text)
{
    struct service *service = context;

    if (state == USHER_BACKEND_LINKED)
        service->linked++;
    else
        service->lost++;
    snprintf(service->last_text, sizeof(service->last_text), "%s", text);
}

static struct usher_backend_options options_for(struct service *service, const char *const *url)
{
    return (struct usher_backend_options){
        .urls = url,
        .url_count = 1,
        .service = "echo",
        .instance = "one",
        .token = "secret",
        .token_size = 6,
        .callbacks = {.on_call = on_call, .on_result = on_result, .on_state = on_state},
        .context = service,
    };
}

static void service_open(struct service *service, struct fake *fake)
{
    const char *url = fake->url;
    struct usher_backend_options options = options_for(service, &url);

    service->fake = fake;
    assert_int_equal(usher_backend_open(&service->backend, &options), 0);
}

static void fake_call(struct fake *fake, uint64_t seq, uint64_t call, const char *payload)
{
    Usher__V1__UserCall *to = &fake->calls[fake->call_count];

    usher__v1__user_call__init(to);
    to->call = call;
    to->user = (char *)(uintptr_t) "alice";
    to->method = (char *)(uintptr_t) "echo";
    to->payload.data = (uint8_t *)(uintptr_t)payload;
    to->payload.len = strlen(payload);
    fake->call_seqs[fake->call_count++] = seq;
}

static void a_call_is_replied(void **state)
{
    struct fake *fake = *state;
    struct service service = {.calls_wanted = 1, .reply_at_once = true};

    fake_call(fake, 1, 900, "hello");
    service_open(&service, fake);
    assert_int_equal(usher_backend_run(service.backend, 3000), 0);
    usher_backend_close(service.backend);
    assert_string_equal(fake->hello_token, "secret");
    assert_int_equal(service.linked, 1);
    assert_int_equal(fake->replies, 1); /* the end of the run waits for it */
    assert_int_equal(fake->reply_call, 900);
    assert_int_equal(fake->reply_status, 5);
    assert_string_equal(fake->reply_text, "hello");
}

static void on_login(void *context, const struct usher_backend_login *login)
{
    struct service *service = context;

    assert_string_equal(login->user, "alice");
    assert_int_equal(login->token_size, 3);
    assert_memory_equal(login->token, "abc", 3);
    assert_string_equal(login->address, "10.0.0.1:5");
    assert_string_equal(login->client, "phone");
    assert_int_equal(login->timeout_ms, 1500);
    service->calls++;
    const char *const rooms[] = {"match-7", "guild-*"};
    assert_int_equal(
        usher_backend_admit_rooms(service->backend, login->id, "alice", 1700000000123, rooms, 2),
        0);
    usher_backend_stop(service->backend);
}

static void a_login_is_answered(void **state)
{
    struct fake *fake = *state;
    struct service service = {.fake = fake};
    const char *url = fake->url;
    struct usher_backend_options options = options_for(&service, &url);
    Usher__V1__AuthCall login = USHER__V1__AUTH_CALL__INIT;

    login.call = 900;
    login.user = (char *)(uintptr_t) "alice";
    login.token = (ProtobufCBinaryData){3, (uint8_t *)(uintptr_t) "abc"};
    login.address = (char *)(uintptr_t) "10.0.0.1:5";
    login.client = (char *)(uintptr_t) "phone";
    login.timeout_ms = 1500;
    fake_call(fake, 1, 900, "");
    fake->login = &login;
    options.callbacks.on_login = on_login;
    assert_int_equal(usher_backend_open(&service.backend, &options), 0);
    assert_int_equal(usher_backend_run(service.backend, 3000), 0);
    usher_backend_close(service.backend);
    assert_int_equal(service.calls, 1);
    assert_int_equal(fake->reply_call, 900);
    assert_int_equal(fake->reply_status, 0);
    assert_string_equal(fake->reply_text, "alice");
    assert_int_equal(fake->reply_token_ends_ms, 1700000000123);
    assert_string_equal(fake->reply_rooms, "match-7 guild-* ");
}

static void repeated_mail_is_skipped(void **state)
{
    struct fake *fake = *state;
    struct service service = {.calls_wanted = 2};

    fake_call(fake, 1, 900, "a");
    fake_call(fake, 1, 900, "a"); /* the node sends it twice */
    fake_call(fake, 2, 901, "b");
    service_open(&service, fake);
    assert_int_equal(usher_backend_run(service.backend, 3000), 0);
    assert_int_equal(service.last_call.call, 901);
    assert_int_equal(fake->hellos, 1);
    usher_backend_close(service.backend);
}

static enum fake_verdict lose_first_submit(struct fake *fake, const Usher__V1__LinkRequest *request,
                                           Usher__V1__LinkAnswer *answer)
{
    return request->body_case == USHER__V1__LINK_REQUEST__BODY_SUBMIT && fake->submits == 0
               ? FAKE_DISCONNECT
               : FAKE_AS_USUAL;
}

static void a_lost_answer_repeats_the_same_seq(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};

    fake->hook = lose_first_submit;
    service_open(&service, fake);
    assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 77), 0);
    assert_int_equal(usher_backend_run(service.backend, 5000), 0);
    usher_backend_close(service.backend);
    assert_int_equal(fake->submits, 2);
    assert_int_equal(fake->submit_seqs[0], 1);
    assert_int_equal(fake->submit_seqs[1], 1);
    assert_int_equal(fake->submit_links[0], fake->submit_links[1]);
    assert_int_equal(fake->effects, 1);
    assert_int_equal(service.results, 1);
    assert_int_equal(service.code, USHER_BACKEND_OK);
    assert_int_equal(fake->hellos, 1); /* a lost connection is not a lost link */
}

static enum fake_verdict lose_each_first(struct fake *fake, const Usher__V1__LinkRequest *request,
                                         Usher__V1__LinkAnswer *answer)
{
    return request->body_case == USHER__V1__LINK_REQUEST__BODY_SUBMIT &&
                   request->submit->seq > fake->seq_done
               ? FAKE_DISCONNECT
               : FAKE_AS_USUAL;
}

static void push_again(void *context, uint64_t token, const struct usher_backend_result *result)
{
    struct service *service = context;

    if (++service->results == 20)
        usher_backend_stop(service->backend);
    else
        usher_backend_push_all(service->backend, "x", 1, token);
}

/* The listener of nng 1.5 dies of a peer that vanishes during the handshake, which happens when a
 * dialer is closed while it dials again. */
static void lost_connections_do_not_harm_the_node(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    const char *url = fake->url;
    struct usher_backend_options options = options_for(&service, &url);

    options.callbacks.on_result = push_again;
    fake->hook = lose_each_first;
    assert_int_equal(usher_backend_open(&service.backend, &options), 0);
    assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 77), 0);
    assert_int_equal(usher_backend_run(service.backend, 15000), 0);
    usher_backend_close(service.backend);
    assert_int_equal(fake->effects, 20);
}

static void quick_visits_do_not_harm_the_node(void **state)
{
    struct fake *fake = *state;

    for (unsigned i = 0; i < 20; i++) {
        struct service service = {0};

        service_open(&service, fake);
        assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 77), 0);
        assert_int_equal(usher_backend_run(service.backend, 3000), 0);
        usher_backend_close(service.backend);
        assert_int_equal(service.code, USHER_BACKEND_OK);
    }
}

static enum fake_verdict forget_after_loss(struct fake *fake, const Usher__V1__LinkRequest *request,
                                           Usher__V1__LinkAnswer *answer)
{
    enum fake_verdict verdict = lose_first_submit(fake, request, answer);

    if (fake->submits == 1 && request->body_case == USHER__V1__LINK_REQUEST__BODY_SUBMIT)
        fake->link = 12; /* the repetition finds another life of the node */
    return verdict;
}

static void a_doubtful_command_is_lost_not_repeated(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};

    fake->hook = forget_after_loss;
    service_open(&service, fake);
    assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 77), 0);
    assert_int_equal(usher_backend_run(service.backend, 5000), 0);
    usher_backend_close(service.backend);
    assert_int_equal(fake->effects, 1);
    assert_int_equal(service.code, USHER_BACKEND_LOST);
}

/* It is soon worth nothing: what has waited for the node for more than a second is not sent. */
static void a_transient_push_does_not_wait_for_the_node(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    const char *users[] = {"ann"};

    service_open(&service, fake);
    assert_int_equal(usher_backend_push_transient(service.backend, users, 1, "x", 1, 0, 0), 0);
    assert_int_equal(usher_backend_push_all_transient(service.backend, "x", 1, 77), 0);
    poll(NULL, 0, 1100);
    assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 0), 0);
    assert_int_equal(usher_backend_run(service.backend, 5000), 0);
    assert_int_equal(service.code, USHER_BACKEND_LOST);
    assert_int_equal(fake->effects, 1); /* the one that may wait */
    assert_int_equal(usher_backend_push_all_transient(service.backend, "x", 1, 77), 0);
    assert_int_equal(usher_backend_run(service.backend, 5000), 0);
    assert_int_equal(service.code, USHER_BACKEND_OK);
    assert_int_equal(fake->effects, 2);
    usher_backend_close(service.backend);
}

static void a_stale_link_says_hello_again(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};

    /* The node forgets the link while a call is unanswered. */
    fake_call(fake, 1, 900, "a");
    service_open(&service, fake);
    assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 0), 0);
    while (service.calls == 0)
        assert_int_equal(usher_backend_run(service.backend, 50), -ETIMEDOUT);
    pthread_mutex_lock(&fake->mutex);
    assert_int_equal(fake->submits, 1);
    fake->link = 12;
    fake->call_count = 0;
    pthread_mutex_unlock(&fake->mutex);
    while (service.linked < 2)
        assert_int_equal(usher_backend_run(service.backend, 50), -ETIMEDOUT);
    assert_int_equal(service.lost, 1);
    /* A reply to the link of the past would answer some other call. */
    assert_int_equal(usher_backend_reply(service.backend, service.last_call, 0, "late", 4), 0);
    assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 77), 0);
    assert_int_equal(usher_backend_run(service.backend, 3000), 0);
    usher_backend_close(service.backend);
    assert_int_equal(fake->hellos, 2);
    assert_string_equal(fake->hello_node_boot, "boot-1");
    assert_int_equal(fake->replies, 0);
    assert_int_equal(fake->submit_links[fake->submits - 1], 12);
    assert_int_equal(fake->submit_seqs[fake->submits - 1], 1); /* numbers begin anew */
    assert_int_equal(service.code, USHER_BACKEND_OK);
}

static bool fake_has(struct fake *fake, const unsigned *counter, unsigned count)
{
    pthread_mutex_lock(&fake->mutex);
    bool has = *counter >= count;
    pthread_mutex_unlock(&fake->mutex);
    return has;
}

/* Nobody looks at the link meanwhile. */
static void fake_await(struct fake *fake, const unsigned *counter, unsigned count)
{
    for (unsigned i = 0; i < 3000 && !fake_has(fake, counter, count); i++)
        usleep(10 * 1000);
    assert_true(fake_has(fake, counter, count));
}

/* The look at the link that learns that it is over says hello, and the one that learns of the new
 * link fetches: what waits for the next look may wait for a second. So each look is one here. */
static void each_look_does_what_follows_from_it(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};

    service_open(&service, fake);
    while (service.linked == 0)
        assert_int_equal(usher_backend_run(service.backend, 0), -ETIMEDOUT);
    fake_await(fake, &fake->fetches, 1);
    pthread_mutex_lock(&fake->mutex);
    fake->link = 12;
    pthread_mutex_unlock(&fake->mutex);
    while (service.lost == 0)
        assert_int_equal(usher_backend_run(service.backend, 0), -ETIMEDOUT);
    fake_await(fake, &fake->hellos, 2);
    unsigned fetches = fake->fetches; /* none is under way */
    while (service.linked == 1)
        assert_int_equal(usher_backend_run(service.backend, 0), -ETIMEDOUT);
    fake_await(fake, &fake->fetches, fetches + 1);
    usher_backend_close(service.backend);
    assert_int_equal(fake->hellos, 2);
}

static enum fake_verdict ban(struct fake *fake, const Usher__V1__LinkRequest *request,
                             Usher__V1__LinkAnswer *answer)
{
    static Usher__V1__Refused refused; /* under the mutex of the fake */

    fake_refuse(answer, &refused, USHER__V1__REFUSED__CODE__BANNED);
    refused.detail = (char *)(uintptr_t) "wrong token";
    return FAKE_ANSWERED;
}

static enum fake_verdict always_stale(struct fake *fake, const Usher__V1__LinkRequest *request,
                                      Usher__V1__LinkAnswer *answer)
{
    static Usher__V1__Refused refused; /* under the mutex of the fake */

    if (request->body_case != USHER__V1__LINK_REQUEST__BODY_FETCH)
        return FAKE_AS_USUAL;
    fake_refuse(answer, &refused, USHER__V1__REFUSED__CODE__STALE_LINK);
    refused.detail = (char *)(uintptr_t) "of\nyesterday\x1b[2J\xc2\x9b";
    return FAKE_ANSWERED;
}

/* A node that links and at once knows nothing of it: it would be asked as often as it can answer.
 */
static void a_node_that_forgets_each_link_is_not_hammered(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};

    fake->hook = always_stale;
    service_open(&service, fake);
    assert_int_equal(usher_backend_run(service.backend, 1500), -ETIMEDOUT);
    assert_in_range(fake->hellos, 3, 14);
    assert_non_null(strstr(usher_backend_error_text(service.backend), "(of?yesterday?[2J?)"));
    /* And it is linked when the node has come to its senses. */
    pthread_mutex_lock(&fake->mutex);
    fake->hook = NULL;
    pthread_mutex_unlock(&fake->mutex);
    assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 77), 0);
    assert_int_equal(usher_backend_run(service.backend, 6000), 0);
    usher_backend_close(service.backend);
}

static enum fake_verdict refuses_one_submit(struct fake *fake,
                                            const Usher__V1__LinkRequest *request,
                                            Usher__V1__LinkAnswer *answer)
{
    static Usher__V1__Refused refused; /* under the mutex of the fake */

    if (request->body_case != USHER__V1__LINK_REQUEST__BODY_SUBMIT)
        return FAKE_AS_USUAL;
    fake_refuse(answer, &refused, USHER__V1__REFUSED__CODE__MALFORMED);
    fake->hook = NULL;
    return FAKE_ANSWERED;
}

/* What a node cannot do costs that and nothing that comes later. */
static void a_refused_batch_is_the_only_one(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};

    fake->hook = refuses_one_submit;
    service_open(&service, fake);
    assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 77), 0);
    assert_int_equal(usher_backend_run(service.backend, 6000), 0);
    assert_int_equal(service.code, USHER_BACKEND_MALFORMED);
    assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 77), 0);
    assert_int_equal(usher_backend_run(service.backend, 6000), 0);
    assert_int_equal(service.code, USHER_BACKEND_OK);
    usher_backend_close(service.backend);
}

static void a_banned_instance_gives_up(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};

    fake->hook = ban;
    service_open(&service, fake);
    assert_int_equal(usher_backend_run(service.backend, 3000), -EACCES);
    assert_non_null(strstr(usher_backend_error_text(service.backend), "wrong token"));
    usher_backend_close(service.backend);
}

static void nobody_there_is_told_once(void **state)
{
    const char *urls[] = {"ipc:///tmp/usher-nobody-1.sock", "ipc:///tmp/usher-nobody-2.sock"};
    struct service service = {0};
    struct usher_backend_options options = options_for(&service, urls);

    options.url_count = 2;
    assert_int_equal(usher_backend_open(&service.backend, &options), 0);
    assert_int_equal(usher_backend_run(service.backend, 4600), -ETIMEDOUT);
    assert_int_equal(service.lost, 1);
    assert_non_null(strstr(service.last_text, "is usherd running"));
    assert_non_null(strstr(service.last_text, "usher-nobody-1"));
    /* the second try went to the second URL */
    assert_non_null(strstr(usher_backend_error_text(service.backend), "usher-nobody-2"));
    usher_backend_close(service.backend);
}

static void the_queue_is_bounded(void **state)
{
    const char *url = "ipc:///tmp/usher-nobody-1.sock";
    static char large[20000];
    struct service service = {0};
    struct usher_backend_options options = options_for(&service, &url);

    options.queue_commands_max = 3;
    options.queue_bytes_max = 10000;
    assert_int_equal(usher_backend_open(&service.backend, &options), 0);
    assert_int_equal(usher_backend_push_all(service.backend, large, sizeof(large), 0), -EMSGSIZE);
    for (int i = 0; i < 3; i++)
        assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 0), 0);
    assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 0), -EAGAIN);
    usher_backend_close(service.backend);

    assert_int_equal(usher_backend_open(&service.backend, &options), 0);
    assert_int_equal(usher_backend_push_all(service.backend, large, 9000, 0), 0);
    assert_int_equal(usher_backend_push_all(service.backend, large, 1000, 0), -EAGAIN);
    usher_backend_close(service.backend);
}

static void many_commands_share_frames(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    static char large[9000];

    service_open(&service, fake);
    for (int i = 0; i < 5; i++)
        assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 0), 0);
    assert_int_equal(usher_backend_push_all(service.backend, large, sizeof(large), 0), 0);
    assert_int_equal(usher_backend_push_all(service.backend, large, sizeof(large), 77), 0);
    assert_int_equal(usher_backend_run(service.backend, 3000), 0);
    usher_backend_close(service.backend);
    assert_int_equal(fake->effects, 7);
    assert_int_equal(fake->submits, 2); /* two large ones do not fit one frame */
    assert_int_equal(fake->submit_seqs[1], 2);
}

/* The largest that a frame takes: nothing goes with it. */
static void a_full_frame_is_not_overfilled(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    static char large[16384];
    size_t bytes = sizeof(large);

    service_open(&service, fake);
    while (usher_backend_push_all(service.backend, large, bytes, 0) == -EMSGSIZE)
        bytes--;
    assert_in_range(bytes, sizeof(large) - 100, sizeof(large));
    assert_int_equal(usher_backend_push_all(service.backend, large, 9000, 0), 0);
    assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 77), 0);
    assert_int_equal(usher_backend_run(service.backend, 3000), 0);
    usher_backend_close(service.backend);
    assert_int_equal(fake->effects, 3);
    assert_int_equal(fake->submits, 2);
}

static void ask_in_call(void *context, const struct usher_backend_call *call)
{
    struct service *service = context;
    struct usher_backend_query query = {.kind = USHER_BACKEND_COUNT};
    struct usher_backend_answer *answer = NULL;

    assert_int_equal(usher_backend_query(service->backend, &query, &answer), 0);
    assert_int_equal(answer->number_count, 1);
    assert_string_equal(answer->numbers[0].name, "sessions");
    service->answer_value = answer->numbers[0].value;
    usher_backend_answer_free(answer);
    usher_backend_stop(service->backend);
}

static void a_query_works_within_a_callback(void **state)
{
    struct fake *fake = *state;
    struct service service = {.fake = fake};
    const char *url = fake->url;
    struct usher_backend_options options = options_for(&service, &url);

    options.callbacks.on_call = ask_in_call;
    fake_call(fake, 1, 900, "a");
    assert_int_equal(usher_backend_open(&service.backend, &options), 0);
    assert_int_equal(usher_backend_run(service.backend, 3000), 0);
    assert_int_equal(service.answer_value, 42);
    usher_backend_close(service.backend);
}

static void a_query_copies_what_it_gives(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    struct usher_backend_query query = {.kind = USHER_BACKEND_SNAPSHOT};
    struct usher_backend_answer *first = NULL;
    struct usher_backend_answer *second = NULL;

    fake->pages[0] = (struct fake_page){"", {"alice", "bob"}, 5, true};
    fake->pages[1] = (struct fake_page){"bob", {"carol"}, 6, false};
    fake->page_count = 2;
    service_open(&service, fake);
    assert_int_equal(usher_backend_query(service.backend, &query, &first), 0);
    query.after_user = first->sessions[1].user;
    assert_int_equal(usher_backend_query(service.backend, &query, &second), 0);
    assert_string_equal(first->sessions[0].user, "alice");
    assert_string_equal(first->sessions[1].user, "bob");
    assert_true(first->more);
    assert_int_equal(first->seq, 5);
    assert_string_equal(second->sessions[0].user, "carol");
    assert_false(second->more);
    assert_int_equal(fake->hellos, 0);
    usher_backend_answer_free(first);
    usher_backend_answer_free(second);
    usher_backend_close(service.backend);
}

static void a_query_without_a_node_ends_in_time(void **state)
{
    const char *url = "ipc:///tmp/usher-nobody-1.sock";
    struct service service = {0};
    struct usher_backend_options options = options_for(&service, &url);
    struct usher_backend_query query = {.kind = USHER_BACKEND_COUNT, .timeout_ms = 200};
    struct usher_backend_answer *answer = NULL;

    assert_int_equal(usher_backend_open(&service.backend, &options), 0);
    assert_int_equal(usher_backend_query(service.backend, &query, &answer), -ETIMEDOUT);
    assert_null(answer);
    usher_backend_close(service.backend);
}

static void *reply_later(void *argument)
{
    struct service *service = argument;

    usleep(30 * 1000);
    usher_backend_reply(service->backend, service->last_call, 0, "later", 5);
    usher_backend_stop(service->backend);
    return NULL;
}

static void a_reply_may_come_from_another_thread(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    pthread_t thread;

    fake_call(fake, 1, 900, "a");
    service_open(&service, fake);
    while (service.calls == 0)
        assert_int_equal(usher_backend_run(service.backend, 50), -ETIMEDOUT);
    pthread_create(&thread, NULL, reply_later, &service);
    assert_int_equal(usher_backend_run(service.backend, 3000), 0);
    pthread_join(thread, NULL);
    assert_string_equal(fake->reply_text, "later");
    usher_backend_close(service.backend);
}

static enum fake_verdict nonsense(struct fake *fake, const Usher__V1__LinkRequest *request,
                                  Usher__V1__LinkAnswer *answer)
{
    /* An answer without a body, to everything but the first of each. */
    return fake->hellos == 0 ? FAKE_AS_USUAL : FAKE_ANSWERED;
}

static void nonsense_is_survived(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};

    fake->hook = nonsense;
    service_open(&service, fake);
    assert_int_equal(usher_backend_run(service.backend, 300), -ETIMEDOUT);
    assert_int_equal(service.lost, 1);
    pthread_mutex_lock(&fake->mutex);
    fake->hook = NULL;
    pthread_mutex_unlock(&fake->mutex);
    assert_int_equal(usher_backend_push_all(service.backend, "x", 1, 77), 0);
    assert_int_equal(usher_backend_run(service.backend, 5000), 0);
    usher_backend_close(service.backend);
}

static void bad_options_are_refused(void **state)
{
    const char *urls[USHER_BACKEND_URLS_MAX + 1] = {"no-url"};
    struct service service = {0};
    struct usher_backend_options options = options_for(&service, urls);

    assert_int_equal(usher_backend_open(&service.backend, &options), -EINVAL);
    options.url_count = 0;
    assert_int_equal(usher_backend_open(&service.backend, &options), -EINVAL);
    options.url_count = USHER_BACKEND_URLS_MAX + 1;
    assert_int_equal(usher_backend_open(&service.backend, &options), -EINVAL);
}

#define WITH_NODE(test) cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_NODE(a_call_is_replied),
        WITH_NODE(a_login_is_answered),
        WITH_NODE(repeated_mail_is_skipped),
        WITH_NODE(a_lost_answer_repeats_the_same_seq),
        WITH_NODE(lost_connections_do_not_harm_the_node),
        WITH_NODE(quick_visits_do_not_harm_the_node),
        WITH_NODE(a_doubtful_command_is_lost_not_repeated),
        WITH_NODE(a_transient_push_does_not_wait_for_the_node),
        WITH_NODE(a_stale_link_says_hello_again),
        WITH_NODE(each_look_does_what_follows_from_it),
        WITH_NODE(a_node_that_forgets_each_link_is_not_hammered),
        WITH_NODE(a_refused_batch_is_the_only_one),
        WITH_NODE(a_banned_instance_gives_up),
        cmocka_unit_test(nobody_there_is_told_once),
        cmocka_unit_test(the_queue_is_bounded),
        WITH_NODE(many_commands_share_frames),
        WITH_NODE(a_full_frame_is_not_overfilled),
        WITH_NODE(a_query_works_within_a_callback),
        WITH_NODE(a_query_copies_what_it_gives),
        cmocka_unit_test(a_query_without_a_node_ends_in_time),
        WITH_NODE(a_reply_may_come_from_another_thread),
        WITH_NODE(nonsense_is_survived),
        cmocka_unit_test(bad_options_are_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    nng_fini();
    return failed;
}
