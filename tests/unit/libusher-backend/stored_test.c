/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>

#include "unit/libusher-backend/fake_node.h"

#include <errno.h>

#include "usher_backend.h"

/* Stored messages in libusher-backend: what is pushed, what an older node makes of it, what is
 * listed and dropped, and the notice of one for somebody who is away. */

struct service {
    struct usher_backend *backend;
    unsigned notices, results;
    char text[512];
};

static void on_stored_notice(void *context, const struct usher_backend_stored_notice *notice)
{
    struct service *service = context;
    assert_string_equal(notice->user, "ann");
    assert_int_equal(notice->mid, 1700000000001);
    assert_string_equal(notice->from, "bob");
    assert_string_equal(notice->service, "");
    assert_int_equal(notice->payload_bytes, 40);
    assert_int_equal(notice->time_ms, 1700000000000);
    assert_int_equal(notice->count, 3);
    service->notices++;
    usher_backend_stop(service->backend);
}

static void on_result(void *context, uint64_t token, const struct usher_backend_result *result)
{
    struct service *service = context;
    snprintf(service->text + strlen(service->text), 100, "%llu:%s/%u@%llu ",
             (unsigned long long)token, usher_backend_code_name(result->code), result->accepted,
             (unsigned long long)result->mid);
    if (++service->results == 4)
        usher_backend_stop(service->backend);
}

static void service_open(struct service *service, const struct fake *fake)
{
    const char *url = fake->url;
    struct usher_backend_options options = {
        .urls = &url,
        .url_count = 1,
        .service = "post",
        .callbacks = {.on_stored_notice = on_stored_notice, .on_result = on_result},
        .context = service,
    };
    assert_int_equal(usher_backend_open(&service->backend, &options), 0);
}

static void a_notice_is_given(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    Usher__V1__StoredNotice notice = USHER__V1__STORED_NOTICE__INIT;
    Usher__V1__Mail mail = USHER__V1__MAIL__INIT;
    notice.user = (char *)(uintptr_t) "ann";
    notice.mid = 1700000000001;
    notice.from = (char *)(uintptr_t) "bob";
    notice.payload_bytes = 40;
    notice.time_ms = 1700000000000;
    notice.count = 3;
    mail.body_case = USHER__V1__MAIL__BODY_STORED;
    mail.stored = &notice;
    usher__v1__user_call__init(&fake->calls[0]);
    fake->call_seqs[0] = 1;
    fake->call_count = 1;
    fake->instead[0] = &mail;
    service_open(&service, fake);
    assert_int_equal(usher_backend_run(service.backend, 20000), 0);
    usher_backend_close(service.backend);
    assert_int_equal(service.notices, 1);
}

/* Answers as a node that stores for everybody but "old", whom it takes for a push of before. */
static void answer_push(Usher__V1__Result *result, const Usher__V1__Push *push)
{
    static Usher__V1__PushReport reports[4];
    static unsigned count;
    Usher__V1__PushReport *report = &reports[count++ % 4];
    usher__v1__push_report__init(report);
    assert_int_equal(push->keep_s, 3600);
    assert_int_equal(push->epoch, 0);
    assert_false(push->transient);
    report->accepted = strcmp(push->to[0], "full") != 0;
    if (strcmp(push->to[0], "ann") == 0) {
        assert_true(push->tag == UINT64_MAX);
        report->mid = 1700000000001;
    }
    result->value_case = USHER__V1__RESULT__VALUE_PUSH;
    result->push = report;
}

static enum fake_verdict stores(struct fake *fake, const Usher__V1__LinkRequest *request,
                                Usher__V1__LinkAnswer *answer)
{
    static Usher__V1__Results results; /* all under the mutex of the fake */
    static Usher__V1__Result result[8];
    static Usher__V1__Result *list[8];
    static Usher__V1__StoredList dropped;
    if (request->body_case != USHER__V1__LINK_REQUEST__BODY_SUBMIT)
        return FAKE_AS_USUAL;
    usher__v1__results__init(&results);
    results.seq = request->submit->seq;
    results.results = list;
    for (size_t i = 0; i < request->submit->n_commands; i++) {
        const Usher__V1__Command *command = request->submit->commands[i];
        list[i] = &result[i];
        results.n_results++;
        usher__v1__result__init(&result[i]);
        if (command->body_case == USHER__V1__COMMAND__BODY_PUSH) {
            answer_push(&result[i], command->push);
            continue;
        }
        assert_int_equal(command->body_case, USHER__V1__COMMAND__BODY_INBOX_DROP);
        assert_string_equal(command->inbox_drop->user, "ann");
        assert_int_equal(command->inbox_drop->up_to_mid, 1700000000001);
        usher__v1__stored_list__init(&dropped);
        dropped.count = 7;
        result[i].value_case = USHER__V1__RESULT__VALUE_STORED;
        result[i].stored = &dropped;
    }
    answer->body_case = USHER__V1__LINK_ANSWER__BODY_RESULTS;
    answer->results = &results;
    return FAKE_ANSWERED;
}

/* Nobody takes it for stored where the node is older: that is told apart from nobody at all. */
static void what_is_pushed_and_what_comes_of_it(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    const char *const ann[] = {"ann"}, *const old[] = {"old"}, *const full[] = {"full"};
    fake->hook = stores;
    service_open(&service, fake);
    struct usher_backend *backend = service.backend;
    assert_int_equal(usher_backend_push_stored(backend, ann, 1, "x", 1, 0, 0, 9), -EINVAL);
    assert_int_equal(usher_backend_push_stored(backend, ann, 1, "x", 1, 3600, UINT64_MAX, 1), 0);
    assert_int_equal(usher_backend_push_stored(backend, old, 1, "x", 1, 3600, 0, 2), 0);
    assert_int_equal(usher_backend_push_stored(backend, full, 1, "x", 1, 3600, 0, 3), 0);
    assert_int_equal(usher_backend_inbox_drop(backend, "ann", 1700000000001, 4), 0);
    assert_int_equal(usher_backend_run(backend, 20000), 0);
    usher_backend_close(backend);
    assert_string_equal(service.text, "1:ok/1@1700000000001 2:not-stored/1@0 3:ok/0@0 4:ok/7@0 ");
}

static enum fake_verdict lists(struct fake *fake, const Usher__V1__LinkRequest *request,
                               Usher__V1__LinkAnswer *answer)
{
    static Usher__V1__Results results;
    static Usher__V1__Result result;
    static Usher__V1__Result *list[] = {&result};
    static Usher__V1__StoredList stored;
    static Usher__V1__StoredInfo info;
    static Usher__V1__StoredInfo *infos[] = {&info};
    if (request->body_case != USHER__V1__LINK_REQUEST__BODY_SUBMIT)
        return FAKE_AS_USUAL;
    const Usher__V1__Command *command = request->submit->commands[0];
    assert_int_equal(command->body_case, USHER__V1__COMMAND__BODY_INBOX);
    assert_string_equal(command->inbox->user, "ann");
    assert_int_equal(command->inbox->after_mid, 41);
    assert_int_equal(command->inbox->limit, 1);
    usher__v1__results__init(&results);
    usher__v1__result__init(&result);
    usher__v1__stored_list__init(&stored);
    usher__v1__stored_info__init(&info);
    info.mid = 42;
    info.service = (char *)(uintptr_t) "post";
    info.payload_bytes = 9;
    info.time_ms = 1000;
    info.expires_ms = 2000;
    stored.n_messages = 1;
    stored.messages = infos;
    stored.more = true;
    stored.count = 5;
    stored.bytes = 45;
    result.value_case = USHER__V1__RESULT__VALUE_STORED;
    result.stored = &stored;
    results.seq = request->submit->seq;
    results.n_results = 1;
    results.results = list;
    answer->body_case = USHER__V1__LINK_ANSWER__BODY_RESULTS;
    answer->results = &results;
    return FAKE_ANSWERED;
}

static void an_inbox_is_listed(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    struct usher_backend_answer *answer = NULL;
    const struct usher_backend_query query = {
        .kind = USHER_BACKEND_INBOX, .user = "ann", .mid = 41, .limit = 1};
    fake->hook = lists;
    service_open(&service, fake);
    assert_int_equal(usher_backend_query(service.backend, &query, &answer), 0);
    usher_backend_close(service.backend);
    assert_int_equal(answer->stored_rows, 1);
    assert_int_equal(answer->stored[0].mid, 42);
    assert_string_equal(answer->stored[0].from, "");
    assert_string_equal(answer->stored[0].service, "post");
    assert_int_equal(answer->stored[0].payload_bytes, 9);
    assert_int_equal(answer->stored[0].time_ms, 1000);
    assert_int_equal(answer->stored[0].expires_ms, 2000);
    assert_int_equal(answer->stored_count, 5);
    assert_int_equal(answer->stored_bytes, 45);
    assert_true(answer->more);
    usher_backend_answer_free(answer);
}

#define WITH_NODE(test) cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_NODE(a_notice_is_given),
        WITH_NODE(what_is_pushed_and_what_comes_of_it),
        WITH_NODE(an_inbox_is_listed),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nng_fini();
    return failed;
}
