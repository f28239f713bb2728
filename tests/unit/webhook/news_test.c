/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/user_call.h"
#include "backend.pb-c.h"
#include "proto/varint.h"
#include "webhook/news.h"

/* What waits, what goes, and what a receiver is told of it; and at last all of it together with the
 * rules of the stream, against a receiver of chance: no number is passed over in silence. */

static struct hook_news news;

static int begin(void **state)
{
    hook_news_init(&news);
    hook_news_keep(&news, true);
    return 0;
}

static int end(void **state)
{
    hook_news_fini(&news);
    return 0;
}

static struct user_call_message *make(size_t payload_size)
{
    static uint8_t payload[64 * 1024];
    static uint64_t number;
    number++;
    const struct room_news fields = {
        .room = bytes_of_text("match:7"),
        .owner = {0},
        .incarnation = 9,
        .news_seq = number,
        .kind = payload_size > 0 ? USHER__V1__ROOM_NEWS__KIND__MESSAGE
                                 : USHER__V1__ROOM_NEWS__KIND__JOINED,
        .cause = USHER__V1__ROOM_NEWS__CAUSE__ASKED,
        .user = bytes_of_text("alice"),
        .epoch = 5,
        .payload = {payload, payload_size},
        .time_ms = 1000 + number,
    };
    struct user_call_message *message = room_news_create(&fields);
    assert_non_null(message);
    return message;
}

static uint64_t size_of_one(void)
{
    struct user_call_message *message = make(0);
    uint64_t size = message->header.size;
    message_destroy(&message->header);
    return size;
}

static void add(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(hook_news_add(&news, make(0), 1 << 20), 0);
}

static void assert_window(uint64_t cursor, uint32_t batch, uint64_t first, uint64_t last)
{
    struct hook_kept kept = hook_news_window(&news, cursor, batch);
    assert_int_equal(kept.first, first);
    assert_int_equal(kept.last, last);
}

static void test_window(void **state)
{
    assert_window(0, 10, 1, 0); /* nothing is there, and nothing was */
    add(5);
    assert_window(0, 3, 1, 3);
    assert_window(0, 3, 1, 3); /* the same again, until it is answered for */
    assert_window(2, 3, 3, 3); /* a part */
    assert_window(3, 3, 4, 5);
    assert_int_equal(hook_news_behind(&news, 3), 2);
    assert_window(5, 3, 6, 5);
    assert_int_equal(hook_news_behind(&news, 5), 0);
    add(1);
    assert_window(5, 3, 6, 6);
    assert_window(4, 3, 6, 6); /* it fell back: what it has answered for is gone */
}

static void test_oldest_go(void **state)
{
    uint64_t one = size_of_one();
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(hook_news_add(&news, make(0), 4 * one), 0);
    assert_int_equal(hook_news_add(&news, make(0), 4 * one), 1);
    assert_int_equal(hook_news_add(&news, make(0), 2 * one), 3); /* by a reload */
    assert_window(0, 10, 5, 6);
    /* What is under way stays, and the gap is behind it. */
    for (unsigned i = 0; i < 5; i++)
        hook_news_add(&news, make(0), 2 * one);
    assert_window(0, 10, 5, 6);
    assert_window(6, 10, 10, 11);
    /* One that is larger than all waits alone. */
    assert_int_equal(hook_news_add(&news, make(4096), 2 * one), 0);
    assert_int_equal(hook_news_add(&news, make(4096), 2 * one), 1);
    assert_window(11, 10, 13, 13);
}

static void test_what_cannot_be_made(void **state)
{
    add(3);
    assert_int_equal(hook_news_add(&news, NULL, 1 << 20), 4); /* with those before it */
    assert_window(0, 10, 5, 4);
    add(1);
    assert_window(0, 10, 5, 5);
}

static void test_nobody_is_there(void **state)
{
    add(3);
    hook_news_keep(&news, false);
    assert_int_equal(hook_news_add(&news, make(0), 1 << 20), 0);
    assert_int_equal(hook_news_add(&news, NULL, 1 << 20), 0);
    assert_null(news.waiting.first);
    assert_int_equal(news.bytes, 0);
    hook_news_keep(&news, true);
    add(1);
    assert_window(0, 10, 6, 6);
}

/* A request is bounded by bytes as well. */
static void test_large(void **state)
{
    for (unsigned i = 0; i < 20; i++)
        hook_news_add(&news, make(60 * 1024), 1 << 30);
    assert_window(0, 100, 1, 5);
}

static void test_json(void **state)
{
    hook_news_add(&news, make(0), 1 << 20);
    hook_news_add(&news, make(4), 1 << 20);
    hook_news_window(&news, 0, 10);
    json_t *list = hook_news_json(&news, 2, 2);
    assert_int_equal(json_array_size(list), 1);
    json_decref(list);
    list = hook_news_json(&news, 1, 2);
    char *text = json_dumps(json_array_get(list, 0), JSON_COMPACT);
    const struct room_news_fields fields =
        user_call_room_news((const struct user_call_message *)news.taken.first);
    char wanted[300];
    snprintf(wanted, sizeof(wanted),
             "{\"seq\":1,\"time_ms\":%llu,\"room\":\"match:7\",\"incarnation\":9,\"news_seq\":%llu,"
             "\"kind\":\"JOINED\",\"user\":\"alice\",\"epoch\":5,\"cause\":\"ASKED\",\"offset\":0}",
             (unsigned long long)fields.time_ms, (unsigned long long)fields.news_seq);
    assert_string_equal(text, wanted);
    free(text);
    const json_t *second = json_array_get(list, 1);
    assert_string_equal(json_string_value(json_object_get(second, "payload")), "AAAAAA==");
    assert_string_equal(json_string_value(json_object_get(second, "kind")), "MESSAGE");
    assert_int_equal(hook_news_oldest_ms(&news), fields.time_ms);
    json_decref(list);
}

/* Another process in the place of this one, which has the same. */
static void goes_over(struct hook_stream *stream)
{
    struct buffer out = {0};
    uint64_t size = 0, bytes = news.bytes, last = news.last;
    assert_true(hook_news_move_out(&news, stream, &out));
    end(NULL);
    *stream = (struct hook_stream){0};
    hook_news_init(&news);
    int head = varint_read((struct bytes){out.data, out.size}, &size);
    assert_int_equal(head + (int)size, out.size);
    Usher__V1__HandoverRecord *record =
        usher__v1__handover_record__unpack(NULL, (size_t)size, out.data + head);
    assert_non_null(record);
    hook_news_move_in(&news, stream, record->news);
    hook_news_keep(&news, true);
    assert_int_equal(news.bytes, bytes);
    assert_int_equal(news.last, last);
    usher__v1__handover_record__free_unpacked(record, NULL);
    buffer_fini(&out);
}

static void test_goes_over(void **state)
{
    struct hook_stream stream;
    hook_stream_begin(&stream, true, 1);
    add(4);
    assert_window(1, 2, 2, 3); /* under way, and not answered */
    goes_over(&stream);
    assert_int_equal(stream.cursor, 1);
    assert_int_equal(stream.reset, HOOK_RESET_NONE);
    assert_int_equal(news.seen_last, 4);
    assert_window(1, 10, 2, 3);
    add(1);
    assert_window(3, 10, 4, 5);
    hook_stream_begin_boot(&stream);
    goes_over(&stream);
    assert_int_equal(stream.reset, HOOK_RESET_BOOT);
}

/* A receiver that takes, takes a part, loses the answer, falls back or says nothing. */
static void test_chance(void **state)
{
    static const struct hook_pace pace = {1, 2};
    uint64_t one = size_of_one(), has = 0, now = 0, told = 0, lost = 0;
    struct hook_stream stream;
    hook_stream_begin_boot(&stream);
    bool fell = false;
    srand(7);
    for (unsigned turn = 0; turn < 200000; turn++) {
        for (int i = rand() % 4; i > 0; i--)
            hook_news_add(&news, rand() % 50 == 0 ? NULL : make(0), 8 * one);
        if (rand() % 50 == 0)
            goes_over(&stream);
        const struct hook_kept kept = hook_news_window(&news, stream.cursor, 5);
        const struct hook_post post = hook_stream_next(&stream, &kept, 5);
        if (post.kind == HOOK_NOTHING)
            continue;
        bool hears = rand() % 4 != 0, says = rand() % 2 == 0;
        if (hears && post.kind == HOOK_RESET && post.reset != HOOK_RESET_BOOT && post.seq > has) {
            assert_true(post.reset != HOOK_RESET_TRIMMED || post.first <= has + 1 || fell);
            fell = false;
            lost += post.seq - has;
            has = post.seq;
        } else if (hears && post.kind == HOOK_EVENTS) {
            json_t *list = hook_news_json(&news, post.first, post.last);
            assert_int_equal(json_array_size(list), post.last - post.first + 1);
            for (size_t i = 0; i < json_array_size(list); i++) {
                const json_t *seq = json_object_get(json_array_get(list, i), "seq");
                assert_int_equal(json_integer_value(seq), post.first + i);
                bool next = post.first + i == has + 1;
                has += next;
                told += next;
            }
            json_decref(list);
        }
        if (hears && rand() % 200 == 0) { /* from a backup */
            has -= has < 3 ? has : 3;
            fell = true; /* and a RESET that does not know it yet tells the list all the same */
        }
        struct hook_answer answer = {
            .good = hears && rand() % 5 != 0, .has_seq = says || has < post.seq, .seq = has};
        hook_stream_answered(&stream, &post, &answer, news.seen_last, &pace, 0, now += 10);
    }
    assert_true(told > 10000 && lost > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_window, begin, end),
        cmocka_unit_test_setup_teardown(test_oldest_go, begin, end),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_made, begin, end),
        cmocka_unit_test_setup_teardown(test_nobody_is_there, begin, end),
        cmocka_unit_test_setup_teardown(test_large, begin, end),
        cmocka_unit_test_setup_teardown(test_json, begin, end),
        cmocka_unit_test_setup_teardown(test_goes_over, begin, end),
        cmocka_unit_test_setup_teardown(test_chance, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
