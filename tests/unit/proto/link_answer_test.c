/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend.pb-c.h"
#include "proto/link_answer.h"
#include "proto/number.h"
#include "proto/varint.h"

/* Each writer against protobuf-c: the fields come back, and the bytes are those that protobuf-c
 * writes itself but for the numbers that are said though they are 0, which take two bytes each. */

static const uint64_t numbers[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX};

enum { NUMBERS = sizeof(numbers) / sizeof(numbers[0]) };

static uint8_t filling[70000];

static void check_canonical(const ProtobufCMessage *read, const struct buffer *out, size_t zeros)
{
    assert_int_equal(protobuf_c_message_get_packed_size(read) + 2 * zeros, out->size);
    if (zeros > 0)
        return;
    uint8_t *packed = malloc(out->size + 1);
    assert_non_null(packed);
    assert_int_equal(protobuf_c_message_pack(read, packed), out->size);
    if (out->size > 0)
        assert_memory_equal(packed, out->data, out->size);
    free(packed);
}

static Usher__V1__LinkAnswer *take(struct buffer *out, size_t zeros)
{
    Usher__V1__LinkAnswer *read = usher__v1__link_answer__unpack(NULL, out->size, out->data);
    assert_non_null(read);
    check_canonical(&read->base, out, zeros);
    buffer_fini(out);
    return read;
}

static void drop(Usher__V1__LinkAnswer *read)
{
    usher__v1__link_answer__free_unpacked(read, NULL);
}

static Usher__V1__Result *take_result(struct buffer *out, size_t zeros)
{
    Usher__V1__Result *read = usher__v1__result__unpack(NULL, out->size, out->data);
    assert_non_null(read);
    check_canonical(&read->base, out, zeros);
    buffer_fini(out);
    return read;
}

static void drop_result(Usher__V1__Result *read)
{
    usher__v1__result__free_unpacked(read, NULL);
}

static void check_run(ProtobufCBinaryData read, struct bytes expected)
{
    assert_true(bytes_equal((struct bytes){read.data, read.len}, expected));
}

static void check_text(const char *read, struct bytes expected)
{
    assert_true(bytes_equal(bytes_of_text(read), expected));
}

static struct bytes filled(size_t size)
{
    assert_true(size <= sizeof(filling));
    return (struct bytes){filling, size};
}

/* --- LinkAnswer ------------------------------------------------------------------------------- */

static void test_accepted(void **state)
{
    for (size_t i = 0; i < NUMBERS; i++) {
        const struct accepted_fields fields = {.link = numbers[i],
                                               .node = i % 2 ? "a node" : "",
                                               .node_boot = i % 3 ? "boot" : NULL,
                                               .frame_bytes_max = (uint32_t)numbers[i],
                                               .park_ms = (uint32_t)numbers[NUMBERS - 1 - i],
                                               .presence_from = numbers[(i + 3) % NUMBERS],
                                               .number = numbers[(i + 5) % NUMBERS]};
        struct buffer out = {0};
        assert_int_equal(link_answer_accepted(&out, &fields), 0);
        Usher__V1__LinkAnswer *read = take(&out, 0);
        assert_int_equal(read->body_case, USHER__V1__LINK_ANSWER__BODY_ACCEPTED);
        const Usher__V1__Accepted *accepted = read->accepted;
        assert_true(accepted->link == fields.link && accepted->number == fields.number);
        assert_true(accepted->presence_from == fields.presence_from);
        assert_int_equal(accepted->frame_bytes_max, fields.frame_bytes_max);
        assert_int_equal(accepted->park_ms, fields.park_ms);
        assert_string_equal(accepted->node, fields.node);
        assert_string_equal(accepted->node_boot, i % 3 ? "boot" : "");
        drop(read);
    }
}

static void test_refused(void **state)
{
    for (uint32_t code = 0; code <= USHER__V1__REFUSED__CODE__BUSY; code++) {
        struct buffer out = {0};
        assert_int_equal(link_answer_refused(&out, code, code % 2 ? "why" : NULL), 0);
        Usher__V1__LinkAnswer *read = take(&out, 0);
        assert_int_equal(read->body_case, USHER__V1__LINK_ANSWER__BODY_REFUSED);
        assert_int_equal(read->refused->code, code);
        assert_string_equal(read->refused->detail, code % 2 ? "why" : "");
        drop(read);
    }
}

/* What was there before stays there. */
static void test_appends(void **state)
{
    struct buffer out = {0}, alone = {0};
    assert_int_equal(buffer_append(&out, "before", 6), 0);
    assert_int_equal(link_answer_refused(&out, 2, "why"), 0);
    assert_int_equal(link_answer_refused(&alone, 2, "why"), 0);
    assert_int_equal(out.size, 6 + alone.size);
    assert_memory_equal(out.data, "before", 6);
    assert_memory_equal(out.data + 6, alone.data, alone.size);
    buffer_fini(&out);
    buffer_fini(&alone);
}

/* --- Batch ------------------------------------------------------------------------------------ */

static Usher__V1__LinkAnswer *take_batch(struct buffer *items, bool reset, uint64_t last)
{
    struct buffer out = {0};
    assert_int_equal(link_answer_batch(&out, (struct bytes){items->data, items->size}, reset, last),
                     0);
    buffer_fini(items);
    Usher__V1__LinkAnswer *read = take(&out, last == 0);
    assert_int_equal(read->body_case, USHER__V1__LINK_ANSWER__BODY_BATCH);
    assert_int_equal(read->batch->presence_reset, reset);
    assert_true(read->batch->presence_last == last);
    return read;
}

static void check_call(uint64_t number, size_t size)
{
    struct user_call_fields fields = {.call = number,
                                      .user = bytes_of_text("ann"),
                                      .epoch = number / 2,
                                      .method = filled(size % 200),
                                      .payload = filled(size),
                                      .timeout_ms = (uint32_t)number,
                                      .redelivered = size % 2,
                                      .traceparent = size % 3 == 0 ? filled(55) : filled(0)};
    struct buffer items = {0};
    assert_int_equal(link_batch_call(&items, number, &fields), 0);
    assert_int_equal(link_batch_item_size((struct bytes){items.data, items.size}), items.size);
    Usher__V1__LinkAnswer *read = take_batch(&items, false, 1);
    assert_int_equal(read->batch->n_mail, 1);
    const Usher__V1__Mail *mail = read->batch->mail[0];
    assert_true(mail->seq == number);
    assert_int_equal(mail->body_case, USHER__V1__MAIL__BODY_CALL);
    assert_true(mail->call->call == number && mail->call->epoch == fields.epoch);
    check_text(mail->call->user, fields.user);
    check_text(mail->call->method, fields.method);
    check_run(mail->call->payload, fields.payload);
    check_text(mail->call->traceparent, fields.traceparent);
    assert_int_equal(mail->call->timeout_ms, fields.timeout_ms);
    assert_int_equal(mail->call->redelivered, fields.redelivered);
    drop(read);
}

/* Payloads around every size at which a length gets one more byte: that of the payload, of the
 * call, of the Mail, and of the Batch. */
static void test_calls(void **state)
{
    for (size_t i = 0; i < NUMBERS; i++) {
        for (size_t size = 0; size < 300; size++)
            check_call(numbers[i], size);
        for (size_t size = 16000; size < 16390; size++)
            check_call(numbers[i], size);
        check_call(numbers[i], sizeof(filling));
    }
}

static void test_auth_calls(void **state)
{
    for (size_t i = 0; i < NUMBERS; i++)
        for (size_t size = 0; size < 300; size++) {
            struct auth_call_fields fields = {.call = numbers[i],
                                              .user = filled(size % 65),
                                              .token = filled(size),
                                              .address = bytes_of_text("[::1]:1"),
                                              .client = filled(size / 5),
                                              .timeout_ms = (uint32_t)numbers[i],
                                              .redelivered = size % 2};
            struct buffer items = {0};
            assert_int_equal(link_batch_auth(&items, 7, &fields), 0);
            Usher__V1__LinkAnswer *read = take_batch(&items, true, numbers[i]);
            const Usher__V1__Mail *mail = read->batch->mail[0];
            assert_int_equal(mail->body_case, USHER__V1__MAIL__BODY_AUTH);
            assert_true(mail->seq == 7 && mail->auth->call == numbers[i]);
            check_text(mail->auth->user, fields.user);
            check_run(mail->auth->token, fields.token);
            check_text(mail->auth->address, fields.address);
            check_text(mail->auth->client, fields.client);
            assert_int_equal(mail->auth->timeout_ms, fields.timeout_ms);
            assert_int_equal(mail->auth->redelivered, fields.redelivered);
            drop(read);
        }
}

static void check_ask(uint64_t number, size_t size)
{
    struct room_ask_fields fields = {.call = number,
                                     .user = filled(size % 65),
                                     .epoch = number / 3,
                                     .room = filled(size / 5),
                                     .kind = USHER__V1__ROOM_ASK__KIND__JOIN,
                                     .timeout_ms = (uint32_t)number,
                                     .redelivered = size % 2};
    struct buffer items = {0};
    assert_int_equal(link_batch_ask(&items, number, &fields), 0);
    assert_int_equal(link_batch_item_size((struct bytes){items.data, items.size}), items.size);
    Usher__V1__LinkAnswer *read = take_batch(&items, false, 1);
    const Usher__V1__Mail *mail = read->batch->mail[0];
    assert_int_equal(mail->body_case, USHER__V1__MAIL__BODY_ASK);
    assert_true(mail->seq == number && mail->ask->call == number);
    check_text(mail->ask->user, fields.user);
    check_text(mail->ask->room, fields.room);
    assert_true(mail->ask->epoch == fields.epoch && mail->ask->kind == fields.kind);
    assert_int_equal(mail->ask->timeout_ms, fields.timeout_ms);
    assert_int_equal(mail->ask->redelivered, fields.redelivered);
    drop(read);
}

static void check_news(uint64_t number, size_t size)
{
    struct room_news_fields fields = {.room = filled(1 + size % 64),
                                      .incarnation = number,
                                      .news_seq = number / 2,
                                      .kind = USHER__V1__ROOM_NEWS__KIND__MESSAGE,
                                      .user = filled(size % 65),
                                      .epoch = number / 3,
                                      .cause = USHER__V1__ROOM_NEWS__CAUSE__LOST,
                                      .offset = number / 5,
                                      .payload = filled(size),
                                      .redelivered = size % 2,
                                      .time_ms = number / 7,
                                      .service = filled(size % 33)};
    struct buffer items = {0};
    assert_int_equal(link_batch_news(&items, number, &fields), 0);
    assert_int_equal(link_batch_item_size((struct bytes){items.data, items.size}), items.size);
    Usher__V1__LinkAnswer *read = take_batch(&items, false, 1);
    assert_int_equal(read->batch->mail[0]->body_case, USHER__V1__MAIL__BODY_NEWS);
    const Usher__V1__RoomNews *news = read->batch->mail[0]->news;
    check_text(news->room, fields.room);
    check_text(news->user, fields.user);
    check_text(news->service, fields.service);
    check_run(news->payload, fields.payload);
    assert_true(news->incarnation == number && news->news_seq == fields.news_seq);
    assert_true(news->epoch == fields.epoch && news->offset == fields.offset);
    assert_true(news->kind == fields.kind && news->cause == fields.cause);
    assert_true(news->time_ms == fields.time_ms && news->redelivered == fields.redelivered);
    drop(read);
}

static void check_watch(uint64_t number, size_t count)
{
    struct buffer targets = {0};
    for (size_t i = 0; i < count; i++)
        assert_int_equal(link_watch_target(&targets, filled(1 + i % 64)), 0);
    struct watch_ask_fields fields = {.call = number,
                                      .user = filled(count % 65),
                                      .epoch = number / 3,
                                      .targets = {targets.data, targets.size},
                                      .timeout_ms = (uint32_t)number,
                                      .redelivered = count % 2};
    struct buffer items = {0};
    assert_int_equal(link_batch_watch(&items, number, &fields), 0);
    buffer_fini(&targets);
    Usher__V1__LinkAnswer *read = take_batch(&items, false, 1);
    assert_int_equal(read->batch->mail[0]->body_case, USHER__V1__MAIL__BODY_WATCH);
    const Usher__V1__WatchAsk *watch = read->batch->mail[0]->watch;
    assert_true(watch->call == number && watch->epoch == fields.epoch);
    check_text(watch->user, fields.user);
    assert_int_equal(watch->n_targets, count);
    for (size_t i = 0; i < count; i++)
        check_text(watch->targets[i], filled(1 + i % 64));
    assert_int_equal(watch->timeout_ms, fields.timeout_ms);
    assert_int_equal(watch->redelivered, fields.redelivered);
    drop(read);
}

static void test_asks_and_news(void **state)
{
    for (size_t i = 0; i < NUMBERS; i++) {
        for (size_t size = 0; size < 300; size++) {
            check_ask(numbers[i], size);
            check_news(numbers[i], size);
        }
        for (size_t count = 0; count < 70; count++)
            check_watch(numbers[i], count);
        check_news(numbers[i], sizeof(filling));
    }
}

static const struct event_fields event = {.seq = 300,
                                          .time_ms = UINT64_MAX,
                                          .user = "ann",
                                          .kind = USHER__V1__PRESENCE_EVENT__KIND__OFFLINE,
                                          .epoch = 5,
                                          .previous_epoch = 4,
                                          .cause = USHER__V1__PRESENCE_EVENT__CAUSE__KICKED,
                                          .until_ms = 1,
                                          .address = "[::1]:1",
                                          .client = "a client"};

static void check_event(const Usher__V1__PresenceEvent *read, const struct event_fields *fields)
{
    assert_true(read->seq == fields->seq && read->time_ms == fields->time_ms);
    assert_string_equal(read->user, fields->user);
    assert_true(read->kind == fields->kind && read->cause == fields->cause);
    assert_true(read->epoch == fields->epoch && read->previous_epoch == fields->previous_epoch);
    assert_true(read->until_ms == fields->until_ms);
    assert_string_equal(read->address, fields->address);
    assert_string_equal(read->client, fields->client);
}

/* Mail, events, and what follows them, each in its place. */
static void test_batch(void **state)
{
    struct buffer items = {0};
    struct link_page page = {.room = SIZE_MAX};
    struct event_fields none = {.user = "", .address = "", .client = ""};
    const struct user_call_fields call = {.call = 1, .payload = bytes_of_text("hello")};
    assert_int_equal(link_batch_call(&items, 1, &call), 0);
    assert_int_equal(link_batch_control(&items, 2, USHER__V1__CONTROL__KIND__GOAWAY), 0);
    assert_int_equal(link_page_batch_event(&page, &event), 0);
    assert_int_equal(link_page_batch_event(&page, &none), 0);
    assert_int_equal(buffer_append(&items, page.items.data, page.items.size), 0);
    buffer_fini(&page.items);
    Usher__V1__LinkAnswer *read = take_batch(&items, true, 300);
    assert_int_equal(read->batch->n_mail, 2);
    assert_int_equal(read->batch->mail[1]->body_case, USHER__V1__MAIL__BODY_CONTROL);
    assert_int_equal(read->batch->mail[1]->control->kind, USHER__V1__CONTROL__KIND__GOAWAY);
    assert_int_equal(read->batch->n_presence, 2);
    check_event(read->batch->presence[0], &event);
    check_event(read->batch->presence[1], &none);
    drop(read);
    drop(take_batch(&items, false, 0));
}

/* Items are found one after the other, and one that is not whole is none. */
static void test_item_sizes(void **state)
{
    struct link_page page = {.room = SIZE_MAX};
    struct event_fields longer = event;
    char client[300] = {0};
    memset(client, 'c', sizeof(client) - 1);
    longer.client = client;
    assert_int_equal(link_page_batch_event(&page, &event), 0);
    size_t first = page.items.size;
    assert_int_equal(link_page_batch_event(&page, &longer), 0);
    size_t second = page.items.size - first;
    for (size_t size = 0; size < page.items.size + 1; size++) {
        struct bytes items = {page.items.data, size};
        assert_int_equal(link_batch_item_size(items), size < first ? 0 : first);
        items = (struct bytes){page.items.data + first, size < first ? 0 : size - first};
        assert_int_equal(link_batch_item_size(items), items.size < second ? 0 : second);
    }
    buffer_fini(&page.items);
}

static void test_events(void **state)
{
    for (size_t i = 0; i < NUMBERS; i++) {
        struct event_fields fields = event;
        uint8_t bytes[200];
        fields.seq = fields.epoch = numbers[i];
        fields.until_ms = numbers[NUMBERS - 1 - i];
        size_t size = link_event_size(&fields);
        assert_true(size < sizeof(bytes));
        memset(bytes, 0xee, sizeof(bytes));
        link_event_write(bytes, &fields);
        assert_int_equal(bytes[size], 0xee);
        Usher__V1__PresenceEvent *read = usher__v1__presence_event__unpack(NULL, size, bytes);
        assert_non_null(read);
        check_event(read, &fields);
        check_canonical(&read->base, &(struct buffer){.data = bytes, .size = size}, 0);
        usher__v1__presence_event__free_unpacked(read, NULL);
    }
}

/* --- pages ------------------------------------------------------------------------------------ */

static const struct session_fields session = {.user = "ann",
                                              .state = USHER__V1__SESSION_INFO__STATE__DETACHED,
                                              .epoch = 9,
                                              .node = "a node",
                                              .since_ms = UINT64_MAX,
                                              .address = "[::1]:1",
                                              .client = "a client",
                                              .inbox_messages = UINT32_MAX,
                                              .transport = "tls"};

static int add_session(struct link_page *page)
{
    return link_page_session(page, &session);
}

static int add_event(struct link_page *page)
{
    return link_page_event(page, &event);
}

static int add_batch_event(struct link_page *page)
{
    return link_page_batch_event(page, &event);
}

static int add_number(struct link_page *page)
{
    return link_page_number(page, "sessions", 300);
}

static int add_line(struct link_page *page)
{
    return link_page_line(page, filled(300));
}

static int add_failure(struct link_page *page)
{
    return link_page_failure(page, "ann", USHER__V1__RESULT__CODE__NOT_ONLINE);
}

static int add_stored(struct link_page *page)
{
    const struct stored_fields stored = {.mid = 1700000000001,
                                         .service = filled(64),
                                         .payload_bytes = 300,
                                         .time_ms = 5,
                                         .expires_ms = UINT32_MAX};
    return link_page_stored(page, &stored);
}

/* With room for n there are n, with one byte less n - 1, and then nothing more, however short. */
static void test_rooms(void **state)
{
    static const struct {
        int (*add)(struct link_page *page);
        size_t left; /* of the room, for the end of the list */
    } kinds[] = {
        {add_session, 0}, {add_event, 0},   {add_batch_event, 0}, {add_number, 0},
        {add_line, 16},   {add_failure, 0}, {add_stored, 0},
    };
    for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
        struct link_page one = {.room = 100000};
        assert_int_equal(kinds[kind].add(&one), 0);
        size_t item = one.items.size;
        size_t taken = 100000 - one.room;
        assert_true(kinds[kind].add == add_session ? taken >= item : taken == item);
        buffer_fini(&one.items);
        for (size_t n = 1; n < 20; n++)
            for (size_t missing = 0; missing < 2; missing++) {
                struct link_page page = {.room = n * taken + kinds[kind].left - missing};
                for (size_t i = 0; i < n - missing; i++)
                    assert_int_equal(kinds[kind].add(&page), 0);
                assert_false(page.full);
                assert_int_equal(kinds[kind].add(&page), -ENOSPC);
                assert_true(page.full);
                assert_int_equal(link_page_line(&page, filled(0)), -ENOSPC);
                assert_int_equal(page.items.size, (n - missing) * item);
                buffer_fini(&page.items);
            }
    }
}

/* Where a page of sessions ends does not depend on what waits for them. */
static void test_sessions_room(void **state)
{
    struct link_page with = {.room = 1000}, without = {.room = 1000};
    struct session_fields empty = session;
    empty.inbox_messages = 0;
    while (link_page_session(&with, &session) == 0)
        assert_int_equal(link_page_session(&without, &empty), 0);
    assert_int_equal(link_page_session(&without, &empty), -ENOSPC);
    assert_true(with.items.size <= 1000);
    buffer_fini(&with.items);
    buffer_fini(&without.items);
}

/* --- Result ----------------------------------------------------------------------------------- */

static void test_codes(void **state)
{
    for (uint32_t code = 0; code <= USHER__V1__RESULT__CODE__FORBIDDEN; code++) {
        struct buffer out = {0};
        assert_int_equal(link_result_code(&out, code), 0);
        assert_int_equal(out.size, 2);
        Usher__V1__Result *read = take_result(&out, code == 0);
        assert_int_equal(read->code, code);
        assert_int_equal(read->value_case, USHER__V1__RESULT__VALUE__NOT_SET);
        drop_result(read);
    }
}

static void test_sessions(void **state)
{
    for (size_t i = 0; i < NUMBERS; i++)
        for (size_t count = 0; count < 5; count++) {
            struct buffer out = {0};
            struct link_page page = {.room = SIZE_MAX};
            struct session_fields gone = {.user = "bob",
                                          .state = USHER__V1__SESSION_INFO__STATE__GONE};
            for (size_t k = 0; k < count; k++)
                assert_int_equal(link_page_session(&page, k == 1 ? &gone : &session), 0);
            assert_int_equal(link_result_sessions(&out, &page, numbers[i], i % 2), 0);
            buffer_fini(&page.items);
            Usher__V1__Result *read = take_result(&out, 0);
            assert_int_equal(read->value_case, USHER__V1__RESULT__VALUE_SESSIONS);
            assert_int_equal(read->sessions->n_sessions, count);
            assert_true(read->sessions->presence_seq == numbers[i]);
            assert_int_equal(read->sessions->more, i % 2);
            for (size_t k = 0; k < count; k++) {
                const Usher__V1__SessionInfo *row = read->sessions->sessions[k];
                assert_string_equal(row->user, k == 1 ? "bob" : "ann");
                assert_true(row->state == (k == 1 ? gone.state : session.state));
                assert_true(row->epoch == (k == 1 ? 0 : session.epoch));
                assert_string_equal(row->node, k == 1 ? "" : session.node);
                assert_true(row->since_ms == (k == 1 ? 0 : session.since_ms));
                assert_string_equal(row->address, k == 1 ? "" : session.address);
                assert_string_equal(row->client, k == 1 ? "" : session.client);
                assert_string_equal(row->transport, k == 1 ? "" : session.transport);
                assert_true(row->inbox_messages == (k == 1 ? 0 : session.inbox_messages));
            }
            drop_result(read);
        }
}

static void test_event_lists(void **state)
{
    for (size_t i = 0; i < NUMBERS; i++)
        for (size_t count = 0; count < 5; count++) {
            struct buffer out = {0};
            struct link_page page = {.room = SIZE_MAX};
            for (size_t k = 0; k < count; k++)
                assert_int_equal(link_page_event(&page, &event), 0);
            assert_int_equal(link_result_events(&out, &page, numbers[i], i % 2), 0);
            buffer_fini(&page.items);
            Usher__V1__Result *read = take_result(&out, numbers[i] == 0);
            assert_int_equal(read->value_case, USHER__V1__RESULT__VALUE_EVENTS);
            assert_int_equal(read->events->n_events, count);
            for (size_t k = 0; k < count; k++)
                check_event(read->events->events[k], &event);
            assert_true(read->events->presence_last == numbers[i]);
            assert_int_equal(read->events->reset, i % 2);
            drop_result(read);
        }
}

static void test_numbers(void **state)
{
    struct buffer out = {0};
    struct link_page page = {.room = SIZE_MAX};
    for (size_t i = 0; i < NUMBERS; i++)
        assert_int_equal(link_page_number(&page, i % 2 ? "odd" : "even", numbers[i]), 0);
    assert_int_equal(link_result_numbers(&out, &page), 0);
    buffer_fini(&page.items);
    Usher__V1__Result *read = take_result(&out, 0);
    assert_int_equal(read->value_case, USHER__V1__RESULT__VALUE_NUMBERS);
    assert_int_equal(read->numbers->n_numbers, NUMBERS);
    for (size_t i = 0; i < NUMBERS; i++) {
        assert_string_equal(read->numbers->numbers[i]->name, i % 2 ? "odd" : "even");
        uint64_t told = numbers[i] < NUMBER_TOLD_MAX ? numbers[i] : NUMBER_TOLD_MAX;
        assert_true(read->numbers->numbers[i]->value == told);
    }
    drop_result(read);
}

static void test_lines(void **state)
{
    for (size_t i = 0; i < NUMBERS; i++)
        for (uint32_t code = 0; code < 3; code++) {
            struct buffer out = {0};
            struct link_page page = {.room = SIZE_MAX};
            for (size_t size = 0; size < 300; size++)
                assert_int_equal(link_page_line(&page, filled(size)), 0);
            assert_int_equal(link_result_lines(&out, code, &page, numbers[i], i % 2), 0);
            buffer_fini(&page.items);
            size_t zeros = (code == 0) + (numbers[i] == 0) + (i % 2 == 0);
            Usher__V1__Result *read = take_result(&out, zeros);
            assert_int_equal(read->code, code);
            assert_int_equal(read->value_case, USHER__V1__RESULT__VALUE_LINES);
            assert_int_equal(read->lines->n_lines, 300);
            for (size_t size = 0; size < 300; size++)
                check_text(read->lines->lines[size], filled(size));
            assert_true(read->lines->next == numbers[i]);
            assert_int_equal(read->lines->more, i % 2);
            drop_result(read);
        }
}

static void test_push(void **state)
{
    for (size_t i = 0; i < NUMBERS; i++)
        for (size_t count = 0; count < 5; count++) {
            struct buffer out = {0};
            struct link_page page = {.room = SIZE_MAX};
            for (uint32_t code = 0; code < count; code++)
                assert_int_equal(link_page_failure(&page, code % 2 ? "ann" : "", code), 0);
            uint32_t accepted = (uint32_t)numbers[i];
            uint32_t dropped = (uint32_t)numbers[NUMBERS - 1 - i];
            assert_int_equal(link_result_push(&out, (uint32_t)count, accepted, dropped, 0, &page),
                             0);
            buffer_fini(&page.items);
            Usher__V1__Result *read = take_result(&out, 0);
            assert_int_equal(read->code, count);
            assert_int_equal(read->value_case, USHER__V1__RESULT__VALUE_PUSH);
            assert_int_equal(read->push->accepted, accepted);
            assert_int_equal(read->push->dropped, dropped);
            assert_int_equal(read->push->n_failures, count);
            for (uint32_t code = 0; code < count; code++) {
                assert_string_equal(read->push->failures[code]->user, code % 2 ? "ann" : "");
                assert_int_equal(read->push->failures[code]->code, code);
            }
            drop_result(read);
        }
}

static void test_stored(void **state)
{
    for (size_t i = 0; i < NUMBERS; i++)
        for (size_t rows = 0; rows < 3; rows++) {
            struct buffer out = {0};
            struct link_page page = {.room = SIZE_MAX};
            for (size_t row = 0; row < rows; row++) {
                const struct stored_fields stored = {.mid = numbers[i],
                                                     .from = filled(row),
                                                     .payload_bytes = (uint32_t)numbers[i],
                                                     .time_ms = numbers[NUMBERS - 1 - i],
                                                     .expires_ms = numbers[i]};
                assert_int_equal(link_page_stored(&page, &stored), 0);
            }
            assert_int_equal(
                link_result_stored(&out, &page, rows == 2, (uint32_t)numbers[i], numbers[i]), 0);
            buffer_fini(&page.items);
            Usher__V1__Result *read = take_result(&out, 0);
            assert_int_equal(read->value_case, USHER__V1__RESULT__VALUE_STORED);
            assert_int_equal(read->stored->more, rows == 2);
            assert_int_equal(read->stored->count, (uint32_t)numbers[i]);
            assert_true(read->stored->bytes == numbers[i]);
            assert_int_equal(read->stored->n_messages, rows);
            for (size_t row = 0; row < rows; row++) {
                const Usher__V1__StoredInfo *info = read->stored->messages[row];
                assert_true(info->mid == numbers[i]);
                check_text(info->from, filled(row));
                assert_string_equal(info->service, "");
                assert_int_equal(info->payload_bytes, (uint32_t)numbers[i]);
                assert_true(info->time_ms == numbers[NUMBERS - 1 - i]);
                assert_true(info->expires_ms == numbers[i]);
            }
            drop_result(read);
        }
}

/* --- Results ---------------------------------------------------------------------------------- */

static Usher__V1__LinkAnswer *take_results(struct link_results *results, size_t bytes_max,
                                           size_t zeros)
{
    struct buffer out = {0};
    assert_int_equal(link_answer_results(&out, results), 0);
    assert_true(out.size <= bytes_max);
    buffer_fini(&results->items);
    Usher__V1__LinkAnswer *read = take(&out, zeros);
    assert_int_equal(read->body_case, USHER__V1__LINK_ANSWER__BODY_RESULTS);
    return read;
}

static void test_results(void **state)
{
    for (size_t i = 0; i < NUMBERS; i++) {
        struct link_results results;
        struct buffer lookup = {0};
        struct link_page page = {.room = SIZE_MAX};
        assert_int_equal(link_page_session(&page, &session), 0);
        assert_int_equal(link_result_sessions(&lookup, &page, 3, false), 0);
        buffer_fini(&page.items);
        assert_int_equal(link_results_begin(&results, numbers[i], 3, 1000), 0);
        assert_int_equal(link_results_code(&results, 0), 0);
        assert_int_equal(link_results_add(&results, (struct bytes){lookup.data, lookup.size}), 0);
        buffer_fini(&lookup);
        assert_int_equal(link_results_code(&results, USHER__V1__RESULT__CODE__GONE), 0);
        assert_int_equal(link_results_add(&results, filled(0)), -ENOSPC); /* there are three */
        Usher__V1__LinkAnswer *read = take_results(&results, 1000, numbers[i] == 0);
        assert_true(read->results->seq == numbers[i]);
        assert_int_equal(read->results->n_results, 3);
        assert_int_equal(read->results->results[0]->code, 0);
        assert_int_equal(read->results->results[1]->value_case, USHER__V1__RESULT__VALUE_SESSIONS);
        assert_int_equal(read->results->results[1]->sessions->presence_seq, 3);
        assert_int_equal(read->results->results[2]->code, USHER__V1__RESULT__CODE__GONE);
        drop(read);
    }
}

/* A Result of that many bytes: lines that say nothing. */
static struct buffer result_of(size_t bytes)
{
    struct buffer out = {0};
    for (size_t line = 0; out.size < bytes; line++) {
        struct link_page page = {.room = SIZE_MAX};
        out.size = 0;
        assert_int_equal(link_page_line(&page, filled(line)), 0);
        assert_int_equal(link_result_lines(&out, 1, &page, 1, true), 0);
        buffer_fini(&page.items);
    }
    return out;
}

/* Whatever comes, all of them are answered within bytes_max; and where one is given up, a byte
 * more would have let it through. */
static void check_results_room(size_t bytes_max, size_t count, size_t result_bytes)
{
    struct link_results results;
    struct buffer result = result_of(result_bytes);
    assert_int_equal(link_results_begin(&results, UINT64_MAX, count, bytes_max), 0);
    for (size_t i = 0; i < count; i++) {
        struct bytes whole = {result.data, result.size};
        size_t needed = 1 + varint_size(whole.size) + whole.size + results.items.size +
                        (count - i - 1) * LINK_RESULTS_CODE_BYTES + 6;
        int error = link_results_add(&results, whole);
        assert_int_equal(error, needed <= bytes_max ? 0 : -ENOSPC);
        if (error != 0)
            assert_int_equal(link_results_code(&results, USHER__V1__RESULT__CODE__TOO_LARGE), 0);
    }
    Usher__V1__LinkAnswer *read = take_results(&results, bytes_max, 0);
    assert_int_equal(read->results->n_results, count);
    drop(read);
    buffer_fini(&result);
}

static void test_results_room(void **state)
{
    for (size_t count = 1; count < 20; count++) {
        size_t least = count * LINK_RESULTS_CODE_BYTES + LINK_RESULTS_OVERHEAD;
        for (size_t bytes_max = least; bytes_max < least + 300; bytes_max++)
            check_results_room(bytes_max, count, 20 + count);
        check_results_room(least + 20000, count, 16384);
    }
}

static void test_answer_codes(void **state)
{
    for (size_t count = 0; count < 300; count += 7) {
        struct buffer out = {0};
        assert_int_equal(link_answer_codes(&out, 5, USHER__V1__RESULT__CODE__FORBIDDEN, count), 0);
        Usher__V1__LinkAnswer *read = take(&out, 0);
        assert_int_equal(read->body_case, USHER__V1__LINK_ANSWER__BODY_RESULTS);
        assert_int_equal(read->results->seq, 5);
        assert_int_equal(read->results->n_results, count);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(read->results->results[i]->code, USHER__V1__RESULT__CODE__FORBIDDEN);
        drop(read);
    }
}

int main(void)
{
    memset(filling, 'x', sizeof(filling));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),      cmocka_unit_test(test_refused),
        cmocka_unit_test(test_appends),       cmocka_unit_test(test_calls),
        cmocka_unit_test(test_auth_calls),    cmocka_unit_test(test_asks_and_news),
        cmocka_unit_test(test_batch),         cmocka_unit_test(test_item_sizes),
        cmocka_unit_test(test_events),        cmocka_unit_test(test_rooms),
        cmocka_unit_test(test_sessions_room), cmocka_unit_test(test_codes),
        cmocka_unit_test(test_sessions),      cmocka_unit_test(test_event_lists),
        cmocka_unit_test(test_numbers),       cmocka_unit_test(test_lines),
        cmocka_unit_test(test_stored),        cmocka_unit_test(test_push),
        cmocka_unit_test(test_results),       cmocka_unit_test(test_results_room),
        cmocka_unit_test(test_answer_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
