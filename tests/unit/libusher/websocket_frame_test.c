/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/websocket_frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What a server may send and what it may not, each row as a whole, byte by byte and cut in two at
 * every place: the outcome must be the same, in the bytes of frames as in the control frames. */

enum { STORY_BYTES = 512 };

/* "payload in hex; P(hex) for a Ping, C(hex) for a Close; the error's name". */
struct story {
    char text[STORY_BYTES];
    size_t size;
};

static void tell(struct story *story, const char *what, const uint8_t *data, size_t size)
{
    story->size +=
        (size_t)snprintf(story->text + story->size, STORY_BYTES - story->size, "%s", what);
    for (size_t i = 0; i < size; i++)
        story->size +=
            (size_t)snprintf(story->text + story->size, STORY_BYTES - story->size, "%02x", data[i]);
}

/* Gives 0 to go on. */
static int read_part(struct websocket_reader *reader, const uint8_t *data, size_t size,
                     struct story *story)
{
    uint8_t *copy = malloc(size + 1); /* exact, so that a sanitizer sees one byte too much */
    struct websocket_input input = {.data = copy, .size = size};
    struct bytes control = {0};
    size_t told = 0;
    int result;
    memcpy(copy, data, size);
    do {
        result = websocket_read(reader, &input, &control);
        tell(story, "", input.data + told, input.payload - told);
        told = input.payload;
        if (result > 0)
            tell(story, result == WEBSOCKET_PING ? " P" : " C", control.data, control.size);
        if (result == WEBSOCKET_PING)
            tell(story, " ", NULL, 0);
    } while (result == WEBSOCKET_PING);
    if (result < 0)
        tell(story, strerrorname_np(-result), NULL, 0);
    free(copy);
    return result;
}

static size_t unhex(const char *text, uint8_t *to)
{
    size_t size = 0;
    unsigned byte;
    for (; *text != '\0'; text++)
        if (*text != ' ' && sscanf(text++, "%2x", &byte) == 1)
            to[size++] = (uint8_t)byte;
    return size;
}

static const struct {
    const char *what, *bytes, *story;
} ROWS[] = {
    {"nothing", "", ""},
    {"one frame in one message", "82 03 02 aa bb", "02aabb"},
    {"three frames in one message", "82 06 01 aa 00 02 bb cc", "01aa0002bbcc"},
    {"an empty message", "82 00 82 02 01 aa", "01aa"},
    {"two messages", "82 02 01 aa 82 02 01 bb", "01aa01bb"},
    {"a message in three pieces", "02 01 02 00 01 aa 80 01 bb", "02aabb"},
    {"empty pieces", "02 00 00 00 80 02 01 aa", "01aa"},
    {"a Ping inside of a message", "02 02 03 aa 89 01 77 80 02 bb cc", "03aa P77 bbcc"},
    {"an empty Ping", "89 00 82 02 01 aa", " P 01aa"},
    {"a Pong that nobody asked for", "8a 02 11 22 82 02 01 aa", "01aa"},
    {"a length of two bytes in usher's frame", "82 03 81 00 aa", "8100aa"},
    {"one of five", "82 06 81 80 80 80 00 aa", "8180808000aa"},
    {"an empty Close", "88 00 ff", " C"},
    {"a Close with code and text", "88 05 0f a1 c3 a4 21", " C0fa1c3a421"},
    {"a Close inside of a message", "02 01 02 88 02 03 e8", "02 C03e8"},
    {"what comes behind a Close", "88 02 03 e8 82 02 01 aa", " C03e8"},

    {"a mask", "82 82 00 00 00 00 01 aa", "EPROTO"},
    {"the first reserved bit", "c2 02 01 aa", "EPROTO"},
    {"the second", "a2 02 01 aa", "EPROTO"},
    {"the third", "92 02 01 aa", "EPROTO"},
    {"a reserved bit on a Ping", "c9 00", "EPROTO"},
    {"text", "81 01 61", "EOPNOTSUPP"},
    {"opcode 3", "83 00", "EPROTO"},
    {"opcode 7", "87 00", "EPROTO"},
    {"opcode 11", "8b 00", "EPROTO"},
    {"opcode 15", "8f 00", "EPROTO"},
    {"a Ping of 126 bytes", "89 7e 00 7e", "EPROTO"},
    {"a Close with a length of eight bytes", "88 7f", "EPROTO"},
    {"a Ping in pieces", "09 00", "EPROTO"},
    {"a Close in pieces", "08 00", "EPROTO"},
    {"a piece of nothing", "80 02 01 aa", "EPROTO"},
    {"a new message inside of one", "02 01 02 82 02 01 aa", "02EPROTO"},
    {"two bytes of length for 125", "82 7e 00 7d", "EPROTO"},
    {"eight for 65,535", "82 7f 00 00 00 00 00 00 ff ff", "EPROTO"},
    {"a length with the top bit", "82 7f 80 00 00 00 00 00 00 00", "EPROTO"},
    {"a message that ends inside of a frame", "82 02 02 aa", "02aaEPROTO"},
    {"one that ends inside of a length", "82 01 80", "80EPROTO"},
    {"one in pieces that ends so", "02 01 02 80 01 aa", "02aaEPROTO"},
    {"a length of six bytes", "82 07 81 80 80 80 80 00 aa", "?EPROTO"},
    {"a Close of one byte", "88 01 03", "EPROTO"},
    {"the code 999", "88 02 03 e7", "EPROTO"},
    {"the code 1004", "88 02 03 ec", "EPROTO"},
    {"the code 1005", "88 02 03 ed", "EPROTO"},
    {"the code 1006", "88 02 03 ee", "EPROTO"},
    {"the code 1015", "88 02 03 f7", "EPROTO"},
    {"the code 2999", "88 02 0b b7", "EPROTO"},
    {"the code 5000", "88 02 13 88", "EPROTO"},
    {"the code 4999", "88 02 13 87", " C1387"},
    {"the code 1014", "88 02 03 f6", " C03f6"},
    {"a text that is no UTF-8", "88 04 0f a1 c3 28", "EILSEQ"},
    {"a text that is cut", "88 03 0f a1 c3", "EILSEQ"},
};

/* How much of a bad payload was handed on before it was judged depends on the cuts; with "?" only
 * the end counts. */
static void expect_story(const struct story *story, size_t row, size_t cut)
{
    const char *expected = ROWS[row].story;
    const char *got = story->text;
    if (expected[0] == '?' && strstr(got, "E") != NULL) {
        got = strstr(got, "E");
        expected++;
    }
    if (strcmp(got, expected) != 0)
        fail_msg("%s, cut at %zu: \"%s\" instead of \"%s\"", ROWS[row].what, cut, got, expected);
}

static void each_row_however_it_is_cut(void **state)
{
    for (size_t row = 0; row < sizeof(ROWS) / sizeof(*ROWS); row++) {
        uint8_t bytes[64];
        size_t size = unhex(ROWS[row].bytes, bytes);
        for (size_t cut = 0; cut <= size; cut++) {
            struct websocket_reader reader = {0};
            struct story story = {.size = 0};
            if (read_part(&reader, bytes, cut, &story) == 0)
                (void)read_part(&reader, bytes + cut, size - cut, &story);
            expect_story(&story, row, cut);
        }
        struct websocket_reader reader = {0};
        struct story story = {.size = 0};
        for (size_t i = 0; i < size && read_part(&reader, bytes + i, 1, &story) == 0; i++)
            ;
        expect_story(&story, row, SIZE_MAX);
    }
}

/* Lengths at the borders of their forms, and a Ping as long as it may be. */
static void lengths_at_their_borders(void **state)
{
    static const size_t SIZES[] = {125, 126, 65535, 65536, 70000};
    for (size_t i = 0; i < sizeof(SIZES) / sizeof(*SIZES); i++) {
        size_t size = SIZES[i];
        uint8_t *bytes = calloc(1, size + 10);
        size_t more = size < 126 ? 0 : size < 65536 ? 2 : 8;
        bytes[0] = 0x82;
        bytes[1] = (uint8_t)(more == 0 ? size : more == 2 ? 126 : 127);
        for (size_t k = 0; k < more; k++)
            bytes[2 + k] = (uint8_t)((uint64_t)size >> 8 * (more - 1 - k));
        struct websocket_reader reader = {0}; /* the payload is so many empty frames */
        struct websocket_input input = {.data = bytes, .size = 2 + more + size};
        struct bytes control;
        assert_int_equal(websocket_read(&reader, &input, &control), 0);
        assert_int_equal(input.payload, size);
        assert_false(reader.in_frame || reader.in_message);
        free(bytes);
    }
    uint8_t ping[2 + 125] = {0x89, 125, [126] = 7};
    struct websocket_reader reader = {0};
    struct websocket_input input = {.data = ping, .size = sizeof(ping)};
    struct bytes control;
    assert_int_equal(websocket_read(&reader, &input, &control), WEBSOCKET_PING);
    assert_int_equal(control.size, 125);
    assert_int_equal(control.data[124], 7);
}

static void headers_are_in_their_shortest_form(void **state)
{
    static const struct {
        size_t size;
        const char *header;
    } HEADERS[] = {
        {0, "828001020304"},
        {125, "82fd01020304"},
        {126, "82fe007e01020304"},
        {65535, "82feffff01020304"},
        {65536, "82ff000000000001000001020304"},
    };
    static const uint8_t MASK[] = {1, 2, 3, 4};
    for (size_t i = 0; i < sizeof(HEADERS) / sizeof(*HEADERS); i++) {
        uint8_t header[16];
        struct story story = {.size = 0};
        size_t size = websocket_header(header, WEBSOCKET_BINARY, HEADERS[i].size, MASK);
        assert_int_equal(size, websocket_header_bytes(HEADERS[i].size));
        tell(&story, "", header, size);
        assert_string_equal(story.text, HEADERS[i].header);
    }
}

static void masks_go_on_and_off(void **state)
{
    static const uint8_t MASK[] = {0x11, 0x22, 0x44, 0x88};
    for (size_t size = 0; size < 40; size++) {
        uint8_t data[40];
        for (size_t i = 0; i < size; i++)
            data[i] = (uint8_t)(i * 7);
        websocket_mask(data, size, MASK);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(data[i], (uint8_t)(i * 7) ^ MASK[i % 4]);
    }
}

/* Frames of 3, 1, 130 + 2 and 2 bytes. */
static void messages_are_cut_between_frames(void **state)
{
    uint8_t frames[3 + 1 + 132 + 2] = {2, 0, 0, 0, 0x82, 1, [136] = 1, 0};
    const struct bytes all = {frames, sizeof(frames)};
    static const struct {
        size_t bytes_max, frames_max, size;
    } CUTS[] = {
        {0, 0, 3},     {3, 0, 3},     {4, 0, 4},        {135, 0, 4},      {136, 0, 136},
        {137, 0, 136}, {138, 0, 138}, {SIZE_MAX, 1, 3}, {SIZE_MAX, 2, 4}, {SIZE_MAX, 9, 138},
    };
    for (size_t i = 0; i < sizeof(CUTS) / sizeof(*CUTS); i++)
        assert_int_equal(websocket_cut(all, CUTS[i].bytes_max, CUTS[i].frames_max), CUTS[i].size);
}

/* Bytes by chance, of headers that are often good: nothing is written where it may not be (a
 * sanitizer looks), and the cuts change nothing. */
static void noise(void **state)
{
    srand(7);
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[48];
        size_t size = (size_t)rand() % sizeof(bytes);
        for (size_t i = 0; i < size; i++)
            bytes[i] = rand() % 3 != 0 ? (uint8_t)(rand() % 4) : (uint8_t)rand();
        for (size_t i = 0; i + 1 < size; i += 1 + (size_t)rand() % 6) {
            static const uint8_t FIRST[] = {0x82, 0x02, 0x80, 0x00, 0x89, 0x88, 0x8a};
            bytes[i] = FIRST[(size_t)rand() % sizeof(FIRST)];
            bytes[i + 1] = (uint8_t)(rand() % 5);
        }
        struct websocket_reader whole = {0}, cut = {0};
        struct story story = {.size = 0}, other = {.size = 0};
        int result = read_part(&whole, bytes, size, &story);
        size_t at = size > 0 ? (size_t)rand() % size : 0;
        int again = read_part(&cut, bytes, at, &other);
        if (again == 0)
            again = read_part(&cut, bytes + at, size - at, &other);
        assert_int_equal(result, again);
        if (result >= 0)
            assert_string_equal(story.text, other.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_however_it_is_cut),
        cmocka_unit_test(lengths_at_their_borders),
        cmocka_unit_test(headers_are_in_their_shortest_form),
        cmocka_unit_test(masks_go_on_and_off),
        cmocka_unit_test(messages_are_cut_between_frames),
        cmocka_unit_test(noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
