/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>

#include "unit/libusher-backend/fake_node.h"

#include <errno.h>

#include "usher_backend.h"

/* Friends in libusher-backend: who is asked, what is granted, and the lists that a service gives.
 */

struct service {
    struct usher_backend *backend;
    struct usher_backend_call_id asked;
    unsigned asks, calls, results;
    bool later; /* the ask is answered after the call behind it */
    char text[256];
};

static const char *const granted[] = {"bob", "dan"};

static void on_watch_ask(void *context, const struct usher_backend_watch_ask *ask)
{
    struct service *service = context;
    assert_string_equal(ask->user, "ann");
    assert_int_equal(ask->epoch, 17);
    assert_int_equal(ask->target_count, 3);
    assert_string_equal(ask->targets[0], "bob");
    assert_string_equal(ask->targets[1], "cid");
    assert_string_equal(ask->targets[2], "dan");
    assert_int_equal(ask->timeout_ms, 900);
    assert_true(ask->redelivered);
    service->asked = ask->id;
    service->asks++;
    if (!service->later)
        assert_int_equal(usher_backend_grant(service->backend, ask->id, granted, 2), 0);
}

static void on_call(void *context, const struct usher_backend_call *call)
{
    struct service *service = context;
    service->calls++;
    if (service->later)
        assert_int_equal(usher_backend_grant(service->backend, service->asked, granted, 1), 0);
    usher_backend_stop(service->backend);
}

static void on_result(void *context, uint64_t token, const struct usher_backend_result *result)
{
    struct service *service = context;
    snprintf(service->text + strlen(service->text), 100, "%llu:%s/%u", (unsigned long long)token,
             usher_backend_code_name(result->code), result->accepted);
    for (size_t i = 0; i < result->failure_count; i++)
        snprintf(service->text + strlen(service->text), 100, "[%s %s]", result->failures[i].user,
                 usher_backend_code_name(result->failures[i].code));
    strcat(service->text, " ");
    if (++service->results == 3)
        usher_backend_stop(service->backend);
}

static void service_open(struct service *service, const struct fake *fake, bool listens)
{
    const char *url = fake->url;
    struct usher_backend_options options = {
        .urls = &url,
        .url_count = 1,
        .service = "people",
        .callbacks = {.on_watch_ask = listens ? on_watch_ask : NULL,
                      .on_call = on_call,
                      .on_result = on_result},
        .context = service,
    };
    assert_int_equal(usher_backend_open(&service->backend, &options), 0);
}

/* Mail of one WatchAsk, and a one-way call behind it. */
static void serve_an_ask(struct fake *fake, struct service *service, bool listens)
{
    Usher__V1__WatchAsk ask = USHER__V1__WATCH_ASK__INIT;
    Usher__V1__Mail mail = USHER__V1__MAIL__INIT;
    char *targets[] = {"bob", "cid", "dan"};
    ask.call = 900;
    ask.user = (char *)(uintptr_t) "ann";
    ask.epoch = 17;
    ask.n_targets = 3;
    ask.targets = targets;
    ask.timeout_ms = 900;
    ask.redelivered = true;
    mail.body_case = USHER__V1__MAIL__BODY_WATCH;
    mail.watch = &ask;
    for (unsigned i = 0; i < 2; i++) {
        usher__v1__user_call__init(&fake->calls[i]);
        fake->call_seqs[i] = i + 1;
    }
    fake->instead[0] = &mail;
    fake->call_count = 2;
    service_open(service, fake, listens);
    assert_int_equal(usher_backend_run(service->backend, 5000), 0);
    assert_int_equal(service->calls, 1);
    usher_backend_close(service->backend);
}

static void an_ask_is_answered_with_a_grant(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    serve_an_ask(fake, &service, true);
    assert_int_equal(service.asks, 1);
    assert_int_equal(fake->replies, 1);
    assert_int_equal(fake->reply_call, 900);
    assert_int_equal(fake->reply_status, 0);
    assert_string_equal(fake->reply_text, "\n\3bob\n\3"
                                          "dan");
}

static void it_may_be_answered_later(void **state)
{
    struct fake *fake = *state;
    struct service service = {.later = true};
    serve_an_ask(fake, &service, true);
    assert_int_equal(fake->replies, 1);
    assert_int_equal(fake->reply_call, 900);
    assert_string_equal(fake->reply_text, "\n\3bob");
}

/* Who does not listen says nothing, and the mail behind it comes all the same. */
static void without_the_callback_nothing_is_said(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    serve_an_ask(fake, &service, false);
    assert_int_equal(fake->replies, 0);
}

/* --- lists ------------------------------------------------------------------------------------ */

static char said[256];

static void say(const Usher__V1__WatchList *list)
{
    snprintf(said + strlen(said), sizeof(said) - strlen(said), "%s@%llu %d", list->user,
             (unsigned long long)list->epoch, (int)list->mode);
    for (size_t i = 0; i < list->n_targets; i++)
        snprintf(said + strlen(said), sizeof(said) - strlen(said), " %s", list->targets[i]);
    strcat(said, ";");
}

static enum fake_verdict about_lists(struct fake *fake, const Usher__V1__LinkRequest *request,
                                     Usher__V1__LinkAnswer *answer)
{
    static Usher__V1__PushFailure failure = USHER__V1__PUSH_FAILURE__INIT;
    static Usher__V1__PushFailure *failures[] = {&failure};
    static Usher__V1__PushReport report = USHER__V1__PUSH_REPORT__INIT;
    static Usher__V1__Result all[8];
    static Usher__V1__Result *list[8];
    static Usher__V1__Results results = USHER__V1__RESULTS__INIT;
    if (request->body_case != USHER__V1__LINK_REQUEST__BODY_SUBMIT)
        return FAKE_AS_USUAL;
    failure.user = (char *)(uintptr_t) "cid";
    failure.code = USHER__V1__RESULT__CODE__FULL;
    report.accepted = 1;
    report.n_failures = 1;
    report.failures = failures;
    results.seq = request->submit->seq;
    results.results = list;
    results.n_results = 0;
    for (size_t i = 0; i < request->submit->n_commands && i < 8; i++) {
        const Usher__V1__Command *command = request->submit->commands[i];
        assert_int_equal(command->body_case, USHER__V1__COMMAND__BODY_WATCH_LIST);
        say(command->watch_list);
        usher__v1__result__init(&all[i]);
        if (command->watch_list->mode == USHER__V1__WATCH_LIST__MODE__REMOVE) {
            all[i].code = USHER__V1__RESULT__CODE__NOT_ONLINE;
        } else {
            all[i].value_case = USHER__V1__RESULT__VALUE_PUSH;
            all[i].push = &report;
        }
        list[results.n_results++] = &all[i];
    }
    answer->body_case = USHER__V1__LINK_ANSWER__BODY_RESULTS;
    answer->results = &results;
    return FAKE_ANSWERED;
}

static void lists_and_their_results(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    const char *targets[] = {"bob", "cid"};
    struct usher_backend_watch_list list = {
        .user = "ann", .epoch = 17, .targets = targets, .target_count = 2};
    said[0] = '\0';
    fake->hook = about_lists;
    service_open(&service, fake, true);
    assert_int_equal(usher_backend_watch_list(service.backend, &list, 1), 0);
    list.epoch = 0;
    list.mode = USHER_BACKEND_WATCH_ADD;
    list.target_count = 1;
    assert_int_equal(usher_backend_watch_list(service.backend, &list, 2), 0);
    list.mode = USHER_BACKEND_WATCH_REMOVE;
    assert_int_equal(usher_backend_watch_list(service.backend, &list, 3), 0);
    list.target_count = 70000;
    assert_int_equal(usher_backend_watch_list(service.backend, &list, 4), -EMSGSIZE);
    assert_int_equal(usher_backend_run(service.backend, 5000), 0);
    assert_string_equal(said, "ann@17 0 bob cid;ann@0 1 bob;ann@0 2 bob;");
    assert_string_equal(service.text, "1:ok/1[cid full] 2:ok/1[cid full] 3:not-online/0 ");
    usher_backend_close(service.backend);
}

#define WITH_NODE(test) cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_NODE(an_ask_is_answered_with_a_grant),
        WITH_NODE(it_may_be_answered_later),
        WITH_NODE(without_the_callback_nothing_is_said),
        WITH_NODE(lists_and_their_results),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
