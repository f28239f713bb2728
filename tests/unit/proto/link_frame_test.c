/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "proto/link_frame.h"
#include "proto/link_submit.h"

enum { ARENA_BYTES = 64 * 1024 };

static int make_arena(void **state)
{
    struct arena *arena = calloc(1, sizeof(*arena));
    if (arena == NULL || arena_init(arena, ARENA_BYTES) < 0)
        return -1;
    *state = arena;
    return 0;
}

static int drop_arena(void **state)
{
    arena_fini(*state);
    free(*state);
    return 0;
}

#define BYTES(text) ((struct bytes){(const uint8_t *)(text), sizeof(text) - 1})

static void test_hello(void **state)
{
    const Usher__V1__LinkRequest *request =
        link_request_read(*state, BYTES("\x0a\x0a\x0a\x04"
                                        "chat\x18\x05\x28\x01"));
    assert_non_null(request);
    assert_int_equal(request->body_case, USHER__V1__LINK_REQUEST__BODY_HELLO);
    assert_string_equal(request->hello->service, "chat");
    assert_int_equal(request->hello->incarnation, 5);
    assert_true(request->hello->presence);
    assert_string_equal(request->hello->node_boot, "");
}

static void test_empty(void **state)
{
    const Usher__V1__LinkRequest *request = link_request_read(*state, (struct bytes){NULL, 0});
    assert_non_null(request);
    assert_int_equal(request->body_case, USHER__V1__LINK_REQUEST__BODY__NOT_SET);
}

/* Every text of a Submit, found by its descriptor: good passes; NUL and bad UTF-8 do not. */
static void test_texts(void **state)
{
    static const struct {
        uint8_t command;
        uint8_t number;
        bool text;
    } rows[] = {
        {1, 3, false}, {2, 1, true}, {2, 2, false}, {3, 1, false},
        {4, 1, true},  {4, 4, true}, {5, 1, true},  {6, 1, true},
        {6, 2, true},  {8, 1, true}, {7, 1, false}, {10, 1, false}, /* unknown there */
    };
    static const uint8_t contents[] = {'a', 0x00, 0xff};
    for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
        for (size_t i = 0; i < sizeof(contents); i++) {
            uint8_t frame[] = {
                0x1a,
                7,
                0x22,
                5,
                (uint8_t)(rows[row].command << 3 | 2),
                3,
                (uint8_t)(rows[row].number << 3 | 2),
                1,
                contents[i],
            };
            arena_reset(*state);
            bool accepted = link_request_read(*state, (struct bytes){frame, sizeof(frame)}) != NULL;
            assert_int_equal(accepted, i == 0 || !rows[row].text);
        }
    }
}

static void test_texts_of_hello(void **state)
{
    for (uint8_t number = 1; number <= 7; number++) {
        uint8_t frame[] = {0x0a, 3, (uint8_t)(number << 3 | 2), 1, 0};
        bool accepted = link_request_read(*state, (struct bytes){frame, sizeof(frame)}) != NULL;
        /* 4 is bytes; 3, 5 and 6 are numbers, and a run is wrong for them */
        assert_int_equal(accepted, number == 4);
    }
}

static void test_broken(void **state)
{
    assert_null(link_request_read(*state, BYTES("\x0a\x05\x0a\x01"
                                                "a")));
    assert_null(link_request_read(*state, BYTES("\x08\x01")));
    assert_null(link_request_read(*state, BYTES("\x0a")));
    assert_null(link_request_read(*state, BYTES("\x80\x00\x01")));
    assert_null(link_request_read(*state, BYTES("\x4b\x4c")));
    assert_null(link_request_read(*state, BYTES("\x0a\x09\x29\x01\x01\x01\x01\x01\x01\x01\x01")));
    assert_non_null(link_request_read(*state, BYTES("\x4a\x01\xff\x48\x01")));
}

/* The ceiling: the same frame fits a large arena and not a small one; after a reset it fits again
 * and again. */
static void test_too_large(void **state)
{
    uint8_t frame[512];
    for (size_t i = 0; i < sizeof(frame); i += 2) {
        frame[i] = 0x78;
        frame[i + 1] = 0;
    }
    struct bytes bytes = {frame, sizeof(frame)};
    struct arena small;
    assert_int_equal(arena_init(&small, 1024), 0);
    assert_null(link_request_read(&small, bytes));
    arena_fini(&small);
    for (int i = 0; i < 100; i++) {
        arena_reset(*state);
        assert_non_null(link_request_read(*state, bytes));
    }
}

/* Epochs of a RoomAdd that was encoded so; NULL: refused. */
static const Usher__V1__RoomAdd *read_add(struct arena *arena, const char *body, size_t size)
{
    uint8_t frame[100] = {0x1a, 0, 0x22, 0, 0x92, 0x01, 0};
    assert_true(size < 90);
    frame[1] = (uint8_t)(size + 5);
    frame[3] = (uint8_t)(size + 3);
    frame[6] = (uint8_t)size;
    memcpy(frame + 7, body, size);
    arena_reset(arena);
    const Usher__V1__LinkRequest *request =
        link_request_read(arena, (struct bytes){frame, size + 7});
    return request != NULL ? request->submit->commands[0]->room_add : NULL;
}

/* A list of numbers may come in one run, or one by one, or in both ways; what is in a run is looked
 * at as all else is. */
static void test_packed(void **state)
{
    static const struct {
        const char *body;
        size_t size, count;
    } good[] = {{"\x1a\x04\x07\x80\x01\x08", 6, 3},
                {"\x18\x07\x18\x80\x01\x18\x08", 7, 3},
                {"\x18\x07\x1a\x03\x80\x01\x08", 7, 3},
                {"\x1a\x00", 2, 0}};
    static const struct {
        const char *body;
        size_t size;
    } bad[] = {{"\x1a\x04\x07\x80\x01", 5},
               {"\x1a\x02\x07\x80", 4},
               {"\x1a\x0b\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 13},
               {"\x22\x01\x01", 3}}; /* carry is no list */
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        const Usher__V1__RoomAdd *add = read_add(*state, good[i].body, good[i].size);
        assert_non_null(add);
        assert_int_equal(add->n_epochs, good[i].count);
        if (good[i].count == 3)
            assert_true(add->epochs[0] == 7 && add->epochs[1] == 128 && add->epochs[2] == 8);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_null(read_add(*state, bad[i].body, bad[i].size));
}

static void test_answer(void **state)
{
    const Usher__V1__LinkAnswer *answer =
        link_answer_read(*state, BYTES("\x12\x0d\x0a\x0b\x08\x01\x12\x07\x08\x09\x12\x03"
                                       "bob"));
    assert_non_null(answer);
    assert_int_equal(answer->body_case, USHER__V1__LINK_ANSWER__BODY_BATCH);
    assert_int_equal(answer->batch->n_mail, 1);
    const Usher__V1__Mail *mail = answer->batch->mail[0];
    assert_int_equal(mail->body_case, USHER__V1__MAIL__BODY_CALL);
    assert_int_equal(mail->call->call, 9);
    assert_string_equal(mail->call->user, "bob");
    assert_null(link_answer_read(*state, BYTES("\x12\x0d\x0a\x0b\x08\x01\x12\x07\x08\x09\x12\x03"
                                               "b\0b")));
}

/* A Submit that is written around encoded commands is the one that protobuf-c would pack. */
static void test_submit_around_commands(void **state)
{
    static char filling[70000];
    static const size_t sizes[] = {0, 1, 100, 119, 120, 121, 16250, 16360, 16384, sizeof(filling)};
    static const uint64_t numbers[] = {0, 1, 127, 128, UINT64_MAX};
    memset(filling, 'x', sizeof(filling));
    for (size_t i = 0; i < 50; i++)
        for (size_t count = 0; count < 4; count++) {
            Usher__V1__Kick kick = USHER__V1__KICK__INIT;
            Usher__V1__Push push = USHER__V1__PUSH__INIT;
            Usher__V1__Command first = USHER__V1__COMMAND__INIT, other = first;
            Usher__V1__Command *commands[] = {&first, &other, &first};
            Usher__V1__Submit submit = USHER__V1__SUBMIT__INIT;
            Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
            push.payload = (ProtobufCBinaryData){sizes[i % 10], (uint8_t *)filling};
            kick.user = "ann";
            first.body_case = USHER__V1__COMMAND__BODY_PUSH;
            first.push = &push;
            other.body_case = USHER__V1__COMMAND__BODY_KICK;
            other.kick = &kick;
            submit.link = numbers[i / 10];
            submit.seq = numbers[4 - i / 10];
            submit.commands = commands;
            submit.n_commands = count;
            request.body_case = USHER__V1__LINK_REQUEST__BODY_SUBMIT;
            request.submit = &submit;

            struct buffer out = {0}, command = {0};
            size_t bytes = 0;
            for (size_t k = 0; k < count; k++)
                bytes += link_submit_command_size(usher__v1__command__get_packed_size(commands[k]));
            assert_int_equal(link_submit_begin(&out, submit.link, submit.seq, bytes), 0);
            for (size_t k = 0; k < count; k++) {
                command.size = 0;
                buffer_reserve(&command, usher__v1__command__get_packed_size(commands[k]) + 1);
                command.size = usher__v1__command__pack(commands[k], command.data);
                link_submit_command(&out, (struct bytes){command.data, command.size});
            }
            uint8_t *theirs = malloc(usher__v1__link_request__get_packed_size(&request) + 1);
            assert_int_equal(usher__v1__link_request__pack(&request, theirs), out.size);
            assert_memory_equal(theirs, out.data, out.size);
            free(theirs);
            buffer_fini(&command);
            buffer_fini(&out);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_submit_around_commands),
        cmocka_unit_test_setup_teardown(test_hello, make_arena, drop_arena),
        cmocka_unit_test_setup_teardown(test_empty, make_arena, drop_arena),
        cmocka_unit_test_setup_teardown(test_texts, make_arena, drop_arena),
        cmocka_unit_test_setup_teardown(test_texts_of_hello, make_arena, drop_arena),
        cmocka_unit_test_setup_teardown(test_broken, make_arena, drop_arena),
        cmocka_unit_test_setup_teardown(test_too_large, make_arena, drop_arena),
        cmocka_unit_test_setup_teardown(test_packed, make_arena, drop_arena),
        cmocka_unit_test_setup_teardown(test_answer, make_arena, drop_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
