/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "base/metrics.h"
#include "broken.h"
#include "net/ws_frame.h"

/* The rules of RFC 6455 5.2 to 5.5 for a server, as rows: what arrives, and what becomes of it.
 * Each row is read whole, byte by byte, and cut in two at each place. */

enum {
    MESSAGE_BYTES = 300,
    FRAGMENTS = 4,
    WIRE_BYTES_MAX = 140000,
    EVENTS_BYTES_MAX = 4096,
    GAP = 7,
    NEAR = 40, /* a long row is cut so near to its ends */
};

static const uint8_t mask[] = {0x37, 0xfa, 0x21, 0x3d};

/* Bytes in hex, "61*5" five times; `m` is a mask, with which what follows is masked, up to `|`. In
 * a row "@ff" before them is how many a message may have. */
static size_t bytes_of(const char *text, uint8_t *to)
{
    size_t size = 0, masked = 0;
    bool masking = false;
    for (char *end; *text != '\0'; text = end + (*end == ' ')) {
        end = (char *)text + 1;
        if (*text == 'm') {
            memcpy(to + size, mask, sizeof(mask));
            size += sizeof(mask);
            masking = true;
            masked = 0;
        } else if (*text == '|') {
            masking = false;
        } else {
            uint8_t byte = (uint8_t)strtoul(text, &end, 16);
            unsigned long times = *end == '*' ? strtoul(end + 1, &end, 10) : 1;
            for (; times > 0; times--)
                to[size++] = masking ? byte ^ mask[masked++ % sizeof(mask)] : byte;
        }
    }
    assert_true(size <= WIRE_BYTES_MAX);
    return size;
}

/* --- a connection ----------------------------------------------------------------------------- */

struct session {
    struct ws_reader reader;
    struct ws_limits limits;
    uint8_t *data; /* the payload so far, and what has just come */
    size_t payload;
    char events[EVENTS_BYTES_MAX];
    bool over;
};

__attribute__((format(printf, 2, 3))) static void add(struct session *session, const char *format,
                                                      ...)
{
    size_t at = strlen(session->events);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(session->events + at, sizeof(session->events) - at, format, arguments);
    va_end(arguments);
}

/* As bytes_of reads them. */
static void add_bytes(struct session *session, const uint8_t *data, size_t size)
{
    for (size_t i = 0, run; i < size; i += run) {
        for (run = 1; i + run < size && data[i + run] == data[i];)
            run++;
        if (run < 4)
            run = 1;
        add(session, "%s%02x", i > 0 ? " " : "", data[i]);
        if (run > 1)
            add(session, "*%zu", run);
    }
}

static void add_result(struct session *session, int result, const struct ws_control *control)
{
    const char *name = result == WS_PING     ? "ping"
                       : result == WS_PONG   ? "pong"
                       : result == WS_CLOSE  ? "close"
                       : result == -EPROTO   ? "1002"
                       : result == -ENOTSUP  ? "1003"
                       : result == -EILSEQ   ? "1007"
                       : result == -EMSGSIZE ? "1009"
                       : result == -E2BIG    ? "1009"
                                             : "?";
    add(session, "%s", name);
    if (result > 0) {
        add(session, "(");
        add_bytes(session, control->data, control->size);
        add(session, ")");
    }
    add(session, " ");
}

/* The bytes come where nothing of an earlier read lies behind them, so that a sanitizer sees a step
 * too far; `gap` bytes behind the payload that waits. */
static void come(struct session *session, const uint8_t *data, size_t size, size_t gap)
{
    if (session->over)
        return;
    size_t at = session->payload + gap;
    session->data = realloc(session->data, at + size + (at + size == 0));
    assert_non_null(session->data);
    if (size > 0)
        memcpy(session->data + at, data, size);
    struct ws_input input = {session->data, at + size, at, session->payload};
    struct ws_control control;
    int result = 1;
    while (result > 0 && !session->over) {
        result = ws_read(&session->reader, &session->limits, &input, &control);
        assert_true(input.payload <= input.at && input.at <= input.size);
        if (result != 0)
            add_result(session, result, &control);
        session->over = result < 0 || result == WS_CLOSE;
    }
    assert_true(session->over || input.at == input.size);
    session->payload = input.payload;
}

static void end(struct session *session)
{
    add(session, "=%s", session->payload > 0 ? " " : "");
    add_bytes(session, session->data, session->payload);
    ws_reader_fini(&session->reader);
    free(session->data);
}

/* --- rows ------------------------------------------------------------------------------------- */

struct row {
    const char *name;
    const char *wire;
    const char *outcome; /* what was given and said in its order, = the payload */
};

static const struct row messages[] = {
    {"nothing", "", "="},
    {"a frame of three bytes", "82 83 m 02 61 62", "= 02 61 62"},
    {"two of them in one message", "82 84 m 01 61 01 62", "= 01 61 01 62"},
    {"frames of no byte", "82 83 m 00 00 00", "= 00 00 00"},
    {"an empty message", "82 80 m", "="},
    {"two messages", "82 82 m 01 61 | 82 82 m 01 62", "= 01 61 01 62"},
    {"lengths of two and of five bytes", "82 88 m 81 00 61 82 80 80 80 00 | 82 83 m 01 61 00",
     "1002 = 81 00 61 82 80 80 80 00"},
    {"a length of five bytes", "82 87 m 82 80 80 80 00 61 62", "= 82 80 80 80 00 61 62"},
    {"125 bytes", "82 fd m 7c 61*124", "= 7c 61*124"},
    {"126 bytes", "82 fe 00 7e m 7d 61*125", "= 7d 61*125"},
    {"65535 bytes", "@ffff 82 fe ff ff m fc ff 03 61*65532", "= fc ff 03 61*65532"},
    {"65536 bytes", "@10000 82 ff 00 00 00 00 00 01 00 00 m fd ff 03 61*65533",
     "= fd ff 03 61*65533"},
    {"a mask of zeros", "82 83 00 00 00 00 02 61 62", "= 02 61 62"},
    {"pieces of each size", "02 81 m 0e | 00 82 m 61 62 | 00 83 m 63 64 65 | 80 89 m 66*9",
     "= 0e 61 62 63 64 65 66*9"},
    {"a piece that is empty", "02 80 m | 00 80 m | 00 82 m 01 61 | 80 80 m", "= 01 61"},
    {"the length in two pieces", "02 81 m 82 | 80 83 m 00 61 62", "= 82 00 61 62"},
    {"a message that is not whole", "02 83 m 04 61 62", "= 04 61 62"},
    {"a frame that is not whole", "82 85 m 04 61 62", "= 04 61 62"},
    {"a header that is not whole", "82 fe 00", "="},
};

static const struct row controls[] = {
    {"a Ping", "89 83 m 61 62 63", "ping(61 62 63) ="},
    {"an empty Ping", "89 80 m", "ping() ="},
    {"a Pong", "8a 83 m 61 62 63", "pong() ="},
    {"an empty Pong", "8a 80 m", "pong() ="},
    {"125 bytes", "89 fd m 61*125 | 8a fd m 61*125", "ping(61*125) pong() ="},
    {"126 bytes of Ping", "89 fe 00 7e m 61*126", "1002 ="},
    {"126 bytes of Pong", "8a fe 00 7e m 61*126", "1002 ="},
    {"126 bytes of Close", "88 fe 00 7e m 03 e8 61*124", "1002 ="},
    {"a length of 64 bits", "89 ff 00 00 00 00 00 00 00 01 m 61", "1002 ="},
    {"a Ping in pieces", "09 81 m 61 | 80 81 m 62", "1002 ="},
    {"a Pong in pieces", "0a 80 m", "1002 ="},
    {"a Close in pieces", "08 80 m", "1002 ="},
    {"between messages", "82 82 m 01 61 | 89 81 m 70 | 82 82 m 01 62", "ping(70) = 01 61 01 62"},
    {"between pieces", "02 82 m 03 61 | 89 81 m 70 | 00 81 m 62 | 8a 81 m 71 | 80 81 m 63",
     "ping(70) pong() = 03 61 62 63"},
    {"between the bytes of a length", "02 81 m 82 | 89 84 m 70 71 72 73 | 80 83 m 00 61 62",
     "ping(70 71 72 73) = 82 00 61 62"},
    {"two Pings", "89 81 m 70 | 89 82 m 71 72", "ping(70) ping(71 72) ="},
    {"not counted as a piece",
     "02 81 m 03 | 89 80 m | 00 81 m 61 | 89 80 m | 00 81 m 62 | 80 81 m 63",
     "ping() ping() = 03 61 62 63"},
    {"a Ping that is not whole", "89 83 m 61 62", "="},
};

static const struct row closes[] = {
    {"without a payload", "88 80 m", "close() ="},
    {"a code", "88 82 m 03 e8", "close(03 e8) ="},
    {"a code and a text", "88 84 m 03 e9 6f 6b", "close(03 e9 6f 6b) ="},
    {"a text of 123 bytes", "88 fd m 03 e8 61*123", "close(03 e8 61*123) ="},
    {"half a code", "88 81 m 03", "1002 ="},
    {"what is behind it is not read", "88 82 m 03 e8 | 82 82 m 01 61", "close(03 e8) ="},
    {"in the middle of a message", "02 81 m 05 | 88 82 m 03 e8", "close(03 e8) = 05"},
    {"characters of each size", "88 8c m 03 e8 61 c3 a4 e2 82 ac f0 9f 98 80",
     "close(03 e8 61 c3 a4 e2 82 ac f0 9f 98 80) ="},
    {"a NUL", "88 83 m 03 e8 00", "close(03 e8 00) ="},
    {"a byte that begins nothing", "88 83 m 03 e8 ff", "1007 ="},
    {"an overlong character", "88 84 m 03 e8 c0 80", "1007 ="},
    {"a surrogate", "88 85 m 03 e8 ed a0 80", "1007 ="},
    {"beyond U+10FFFF", "88 86 m 03 e8 f4 90 80 80", "1007 ="},
    {"a character that is cut", "88 84 m 03 e8 e2 82", "1007 ="},
    {"a wrong code before the text", "88 83 m 03 ec ff", "1002 ="},
};

static const struct row headers[] = {
    {"no mask", "82 03 02 61 62", "1002 ="},
    {"a Ping without mask", "89 00", "1002 ="},
    {"RSV1", "c2 83 m 02 61 62", "1002 ="},
    {"RSV2", "a2 83 m 02 61 62", "1002 ="},
    {"RSV3", "92 83 m 02 61 62", "1002 ="},
    {"RSV1 of a Ping", "c9 80 m", "1002 ="},
    {"RSV1 in the second piece", "02 81 m 02 | c0 82 m 61 62", "1002 = 02"},
    {"text", "81 83 m 02 61 62", "1003 ="},
    {"text that is cut", "01 83 m 02 61 62", "1003 ="},
    {"RSV1 of a text", "c1 83 m 02 61 62", "1002 ="},
    {"a continuation of nothing", "80 83 m 02 61 62", "1002 ="},
    {"the first piece of nothing", "00 83 m 02 61 62", "1002 ="},
    {"a continuation behind a message", "82 82 m 01 61 | 80 82 m 01 62", "1002 = 01 61"},
    {"a message inside a message", "02 82 m 03 61 | 82 82 m 62 63", "1002 = 03 61"},
    {"the beginning of one inside another", "02 82 m 03 61 | 02 82 m 62 63", "1002 = 03 61"},
    {"a text inside a message", "02 82 m 03 61 | 81 82 m 62 63", "1002 = 03 61"},
    {"0 bytes in 16 bits", "82 fe 00 00 m", "1002 ="},
    {"125 bytes in 16 bits", "82 fe 00 7d m 7c 61*124", "1002 ="},
    {"0 bytes in 64 bits", "82 ff 00 00 00 00 00 00 00 00 m", "1002 ="},
    {"125 bytes in 64 bits", "82 ff 00 00 00 00 00 00 00 7d m 7c 61*124", "1002 ="},
    {"65535 bytes in 64 bits", "@11170 82 ff 00 00 00 00 00 00 ff ff m fc ff 03 61*65532",
     "1002 ="},
    {"the top bit", "82 ff 80 00 00 00 00 01 00 00 m", "1002 ="},
    {"all bits", "82 ff ff*8 m", "1002 ="},
    {"2^63 - 1 bytes", "82 ff 7f ff*7 m", "1009 ="},
    {"2^32 bytes", "@ffffffff 82 ff 00 00 00 01 00*4 m", "1009 ="},
    {"2^32 + 5 bytes", "@ffffffff 82 ff 00 00 00 01 00 00 00 05 m 04 61*4", "1009 ="},
    {"2^32 - 1 bytes", "@ffffffff 82 ff 00 00 00 00 ff*4 m", "1009 ="},
    {"2^32 - 2 bytes", "@ffffffff 82 ff 00 00 00 00 ff ff ff fe m 01 61", "= 01 61"},
    {"an HTTP request", "47 45 54 20 2f", "1002 ="},
    {"a hello of TLS", "16 03 01 02 00", "1002 ="},
};

static const struct row limits[] = {
    {"300 bytes", "82 fe 01 2c m aa 02 61*298", "= aa 02 61*298"},
    {"301 bytes", "82 fe 01 2d m ab 02 61*299", "1009 ="},
    {"said before the mask", "82 fe 01 2d", "1009 ="},
    {"not before the length", "82 fe 01", "="},
    {"300 in pieces", "02 fe 00 c8 m aa 02 61*198 | 80 e4 m 61*100", "= aa 02 61*298"},
    {"301 in pieces", "02 fe 00 c8 m aa 02 61*198 | 80 e5 m 61*101", "1009 = aa 02 61*198"},
    {"301 in three pieces", "02 fe 00 c8 m aa 02 61*198 | 00 b2 m 61*50 | 80 b3 m 61*51",
     "1009 = aa 02 61*248"},
    {"300 and an empty piece", "02 fe 01 2c m aa 02 61*298 | 80 80 m", "= aa 02 61*298"},
    {"300 and then 300", "82 fe 01 2c m aa 02 61*298 | 82 fe 01 2c m aa 02 61*298",
     "= aa 02 61*298 aa 02 61*298"},
    {"four pieces", "02 81 m 03 | 00 81 m 61 | 00 81 m 62 | 80 81 m 63", "= 03 61 62 63"},
    {"five pieces", "02 81 m 03 | 00 81 m 61 | 00 81 m 62 | 00 81 m 63 | 80 80 m",
     "1009 = 03 61 62 63"},
    {"four and then four",
     "02 80 m | 00 80 m | 00 80 m | 80 80 m | 02 80 m | 00 80 m | 00 80 m | 80 80 m", "="},
    {"five empty pieces", "02 80 m | 00 80 m | 00 80 m | 00 80 m | 00 80 m", "1009 ="},
    {"a frame of 300 bytes begins", "02 82 m ac 02", "= ac 02"},
    {"a frame of 301 bytes begins", "02 82 m ad 02", "1009 = ad"},
    {"a frame of 2^32 - 1 bytes begins", "@ffffffff 02 85 m ff ff ff ff 0f", "= ff*4 0f"},
    {"a frame of 2^32 bytes begins", "@ffffffff 02 85 m 80 80 80 80 10", "1009 = 80*4"},
    {"a frame of 2^35 - 1 bytes begins", "@ffffffff 02 85 m ff ff ff ff 7f", "1009 = ff*4"},
    {"a length of six bytes", "02 86 m 80 80 80 80 80 00", "1002 = 80*4"},
};

static const struct row ends[] = {
    {"in a frame", "82 82 m 02 61", "1002 = 02 61"},
    {"in the second frame", "82 84 m 01 61 02 62", "1002 = 01 61 02 62"},
    {"in a length", "82 81 m 80", "1002 = 80"},
    {"behind a length", "82 81 m 01", "1002 = 01"},
    {"in a frame, in the last piece", "02 81 m 03 | 80 82 m 61 62", "1002 = 03 61 62"},
    {"in a frame, and the last piece is empty", "02 82 m 02 61 | 80 80 m", "1002 = 02 61"},
    {"in a frame, and the next message has the rest", "82 82 m 02 61 | 82 81 m 62", "1002 = 02 61"},
    {"behind a frame, not where a piece ends", "02 83 m 01 61 01 | 80 81 m 62", "= 01 61 01 62"},
};

static void start(struct session *session, uint32_t message_bytes)
{
    memset(session, 0, sizeof(*session));
    session->limits = (struct ws_limits){message_bytes, FRAGMENTS};
}

static void expect(struct session *session, const struct row *row, const char *how, size_t cut)
{
    end(session);
    if (strcmp(session->events, row->outcome) != 0)
        fail_msg("%s, %s %zu: %.200s", row->name, how, cut, session->events);
}

static void read_row(const struct row *row, const uint8_t *wire, size_t size, uint32_t most)
{
    struct session session;
    start(&session, most);
    come(&session, wire, size, 0);
    expect(&session, row, "whole", size);
    start(&session, most);
    for (size_t i = 0; i < size; i++) {
        size_t step = size > 2000 && i == NEAR ? size - i - NEAR : 1;
        come(&session, wire + i, step, i % GAP);
        i += step - 1;
    }
    expect(&session, row, "byte by byte", size);
    for (size_t cut = 0; cut <= size; cut++) {
        if (size > 2000 && cut == NEAR)
            cut = size - NEAR;
        start(&session, most);
        come(&session, wire, cut, cut % GAP);
        come(&session, wire + cut, size - cut, cut % 2 * GAP);
        expect(&session, row, "cut at", cut);
    }
}

static void read_rows(const struct row *rows, size_t count)
{
    uint8_t *wire = malloc(WIRE_BYTES_MAX);
    assert_non_null(wire);
    for (size_t i = 0; i < count; i++) {
        char *text = (char *)rows[i].wire;
        bool limited = *text == '@';
        uint32_t most = limited ? (uint32_t)strtoul(text + 1, &text, 16) : MESSAGE_BYTES;
        read_row(&rows[i], wire, bytes_of(text + limited, wire), most);
    }
    free(wire);
}

#define ROWS(rows) read_rows(rows, sizeof(rows) / sizeof(*(rows)))

static void messages_are_unmasked_and_moved_together(void **state)
{
    ROWS(messages);
}

static void control_frames_stand_anywhere_and_are_short(void **state)
{
    ROWS(controls);
}

static void a_close_has_a_code_and_a_text(void **state)
{
    ROWS(closes);
}

static void a_header_that_breaks_a_rule_is_refused(void **state)
{
    ROWS(headers);
}

static void limits_hold_at_n_and_not_at_n_and_1(void **state)
{
    ROWS(limits);
}

static void a_message_ends_where_a_frame_does(void **state)
{
    ROWS(ends);
}

/* --- all values ------------------------------------------------------------------------------- */

static const char *outcome_of(struct session *session, const uint8_t *wire, size_t size)
{
    start(session, MESSAGE_BYTES);
    come(session, wire, size, 0);
    end(session);
    return session->events;
}

static void first_bytes_are_these_alone(void **state)
{
    struct session session;
    for (unsigned first = 0; first < 256; first++) {
        uint8_t wire[] = {(uint8_t)first, 0x80, 0, 0, 0, 0};
        const char *wanted = first == 0x02 || first == 0x82   ? "="
                             : first == 0x01 || first == 0x81 ? "1003 ="
                             : first == 0x88                  ? "close() ="
                             : first == 0x89                  ? "ping() ="
                             : first == 0x8a                  ? "pong() ="
                                                              : "1002 =";
        assert_string_equal(outcome_of(&session, wire, sizeof(wire)), wanted);
        bool judged = strstr(wanted, "100") != NULL; /* then at once */
        assert_string_equal(outcome_of(&session, wire, 1), judged ? wanted : "=");
    }
}

static void codes_of_a_close_are_these_alone(void **state)
{
    for (unsigned code = 0; code < 65536; code++) {
        uint8_t wire[] = {0x88, 0x82, 0, 0, 0, 0, (uint8_t)(code >> 8), (uint8_t)code};
        struct ws_reader reader = {0};
        struct ws_input input = {wire, sizeof(wire), 0, 0};
        struct ws_control control;
        int result = ws_read(&reader, &(struct ws_limits){300, 4}, &input, &control);
        bool wanted = code >= 1000 && code < 5000 && code != 1004 && code != 1005 && code != 1006 &&
                      (code < 1015 || code >= 3000);
        assert_int_equal(result, wanted ? WS_CLOSE : -EPROTO);
        if (wanted)
            assert_int_equal(ws_close_code(&control), code);
    }
    assert_int_equal(ws_close_code(&(struct ws_control){0}), 1005);
}

/* Words are unmasked, and what is left of them: all sizes, at all places, turned by all parts. */
static void all_sizes_are_unmasked(void **state)
{
    uint8_t wire[128], *data = malloc(128 + 16);
    for (size_t size = 0; size <= 60; size++)
        for (size_t shift = 0; shift < 16; shift++)
            for (size_t cut = 0; cut <= size; cut++) {
                struct ws_reader reader = {0};
                struct ws_control control;
                struct ws_limits wide = {1000, 1000};
                wire[0] = 0x02;
                wire[1] = (uint8_t)(0x80 | size);
                memcpy(wire + 2, mask, sizeof(mask));
                for (size_t i = 0; i < size; i++)
                    wire[6 + i] = (uint8_t)(i == 0 ? 0x7f : i) ^ mask[i % 4];
                memcpy(data + shift, wire, 6 + cut);
                struct ws_input input = {data, shift + 6 + cut, shift, 0};
                assert_int_equal(ws_read(&reader, &wide, &input, &control), 0);
                assert_int_equal(input.payload, cut);
                memcpy(data + cut, wire + 6 + cut, size - cut);
                input = (struct ws_input){data, size, cut, cut};
                assert_int_equal(ws_read(&reader, &wide, &input, &control), 0);
                assert_int_equal(input.payload, size);
                for (size_t i = 0; i < size; i++)
                    assert_int_equal(data[i], i == 0 ? 0x7f : i);
            }
    free(data);
}

/* --- memory ----------------------------------------------------------------------------------- */

static void part_of_a_control_frame_is_in_the_book(void **state)
{
    enum { READERS = 20000, BUDGET = 2 * 1024 * 1024 };
    static struct limits budget;
    struct metrics *metrics = metrics_create(1);
    struct ws_reader *readers = calloc(READERS, sizeof(*readers));
    struct ws_limits wide = {1000, 1000};
    struct ws_control control;
    budget.limits_memory_bytes = BUDGET;
    memory_open(&budget, NULL, metrics);
    for (unsigned i = 0; i < READERS; i++) {
        uint8_t wire[] = {i % 2 == 0 ? 0x89 : 0x88, 0x80 | 125, 0, 0, 0, 0, 3, 0xe8};
        struct ws_input input = {wire, sizeof(wire), 0, 0};
        assert_int_equal(ws_read(&readers[i], &wide, &input, &control), 0);
        assert_non_null(readers[i].control);
    }
    assert_int_equal(memory_level(), MEMORY_FULL);
    for (unsigned i = 0; i < READERS; i++) {
        uint8_t rest[123] = {0};
        struct ws_input input = {rest, sizeof(rest), 0, 0};
        if (i % 3 == 0)
            ws_reader_fini(&readers[i]);
        else
            assert_true(ws_read(&readers[i], &wide, &input, &control) > 0);
        assert_null(readers[i].control);
    }
    assert_int_equal(memory_level(), MEMORY_AMPLE);
    assert_int_equal(memory_excess(MEMORY_TIGHT), 0);
    memory_close();
    metrics_destroy(metrics);
    free(readers);
}

/* A Ping that comes in one piece, a Pong and an empty one leave none. */
static void whole_control_frames_keep_no_memory(void **state)
{
    uint8_t wire[] = {0x8a, 0x83, 0, 0, 0, 0, 'a', 'b', 0x89, 0x80, 0, 0, 0};
    struct ws_reader reader = {0};
    struct ws_limits wide = {1000, 1000};
    struct ws_control control;
    struct ws_input input = {wire, 8, 0, 0};
    assert_int_equal(ws_read(&reader, &wide, &input, &control), 0);
    assert_null(reader.control);
    uint8_t ping[] = {'c', 0x89, 0x82, 0, 0, 0, 0, 'x', 'y', 0x89, 0x81, 0, 0, 0, 0};
    input = (struct ws_input){ping, sizeof(ping), 0, 0};
    assert_int_equal(ws_read(&reader, &wide, &input, &control), WS_PONG);
    assert_int_equal(ws_read(&reader, &wide, &input, &control), WS_PING);
    assert_null(reader.control);
    assert_int_equal(ws_read(&reader, &wide, &input, &control), 0);
    assert_null(reader.control); /* its payload has not begun */
    assert_true(sizeof(reader) <= 32);
}

/* --- limits that change ----------------------------------------------------------------------- */

/* They may be lower for the next piece than what has come already. */
static void limits_may_change_inside_a_message(void **state)
{
    uint8_t wire[] = {0x02, 0x83, 0, 0, 0, 0, 0x7f, 'a', 'b'};
    uint8_t more[] = {0x00, 0x81, 0, 0, 0, 0, 'c'};
    const struct {
        struct ws_limits first, second;
        int result;
    } rows[] = {
        {{200, 4}, {200, 4}, 0},       {{200, 4}, {4, 2}, 0},        {{200, 4}, {3, 4}, -EMSGSIZE},
        {{200, 4}, {2, 4}, -EMSGSIZE}, {{200, 4}, {200, 1}, -E2BIG}, {{200, 1}, {200, 4}, 0},
        {{200, 4}, {0, 4}, -EMSGSIZE}, {{200, 4}, {0, 0}, -E2BIG},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct ws_reader reader = {0};
        struct ws_control control;
        uint8_t data[sizeof(wire)];
        memcpy(data, wire, sizeof(wire));
        struct ws_input input = {data, sizeof(wire), 0, 0};
        assert_int_equal(ws_read(&reader, &rows[i].first, &input, &control), 0);
        memcpy(data, more, sizeof(more));
        input = (struct ws_input){data, sizeof(more), 0, 0};
        assert_int_equal(ws_read(&reader, &rows[i].second, &input, &control), rows[i].result);
    }
}

static void read_behind_the_end(void *argument)
{
    struct ws_reader reader = {0};
    struct ws_input input = {argument, 0, 1, 0};
    ws_read(&reader, &(struct ws_limits){300, 4}, &input, &(struct ws_control){0});
}

static void read_over_the_payload(void *argument)
{
    struct ws_reader reader = {0};
    struct ws_input input = {argument, 2, 1, 2};
    ws_read(&reader, &(struct ws_limits){300, 4}, &input, &(struct ws_control){0});
}

static void an_input_that_cannot_be_is_seen(void **state)
{
    uint8_t data[2] = {0};
    assert_true(is_broken(read_behind_the_end, data, "input->at <= input->size"));
    assert_true(is_broken(read_over_the_payload, data, "input->payload <= input->at"));
}

/* --- what is sent ----------------------------------------------------------------------------- */

static void headers_have_the_shortest_length(void **state)
{
    const struct {
        uint64_t size;
        const char *header;
    } rows[] = {
        {0, "82 00"},
        {1, "82 01"},
        {125, "82 7d"},
        {126, "82 7e 00 7e"},
        {65535, "82 7e ff ff"},
        {65536, "82 7f 00 00 00 00 00 01 00 00"},
        {UINT64_C(0x123456789a), "82 7f 00 00 00 12 34 56 78 9a"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        uint8_t header[WS_HEADER_BYTES_MAX], wanted[WS_HEADER_BYTES_MAX];
        size_t size = bytes_of(rows[i].header, wanted);
        assert_int_equal(ws_header(header, WS_BINARY, rows[i].size), size);
        assert_memory_equal(header, wanted, size);
    }
    uint8_t header[WS_HEADER_BYTES_MAX];
    ws_header(header, WS_PING, 0);
    assert_int_equal(header[0], 0x89);
    ws_header(header, WS_PONG, 5);
    assert_int_equal(header[0], 0x8a);
}

static void expect_close(uint16_t code, const char *detail, const char *wanted)
{
    uint8_t frame[WS_CLOSE_FRAME_BYTES_MAX], bytes[WS_CLOSE_FRAME_BYTES_MAX];
    size_t size = bytes_of(wanted, bytes);
    assert_int_equal(ws_close_frame(frame, code, detail), size);
    assert_memory_equal(frame, bytes, size);
}

static void a_close_has_as_many_characters_as_fit(void **state)
{
    char text[200];
    expect_close(0, "not said", "88 00");
    expect_close(4001, NULL, "88 02 0f a1");
    expect_close(1009, "", "88 02 03 f1");
    expect_close(4014, "ok", "88 04 0f ae 6f 6b");
    memset(text, 'a', sizeof(text));
    text[123] = '\0';
    expect_close(1000, text, "88 7d 03 e8 61*123");
    text[123] = 'a';
    text[124] = '\0';
    expect_close(1000, text, "88 7d 03 e8 61*123");
    for (size_t before = 120; before <= 124; before++) {
        strcpy(text + before, "\xe2\x82\xac!");
        char wanted[64];
        snprintf(wanted, sizeof(wanted), "88 %zx 03 e8 61*%zu%s",
                 before == 120 ? 125 : 2 + (before < 123 ? before : 123),
                 before < 123 ? before : 123, before == 120 ? " e2 82 ac" : "");
        expect_close(1000, text, wanted);
        memset(text, 'a', sizeof(text));
    }
    expect_close(1000,
                 "ab\xff"
                 "cd",
                 "88 04 03 e8 61 62");
}

static void messages_are_cut_between_frames(void **state)
{
    const struct {
        const char *frames;
        size_t max, cut;
    } rows[] = {
        {"", 0, 0},
        {"", 10, 0},
        {"02 61 62", 3, 3},
        {"02 61 62", 2, 3}, /* alone it goes whatever its size is */
        {"02 61 62", 0, 3},
        {"01 61 01 62", 4, 4},
        {"01 61 01 62", 3, 2},
        {"01 61 01 62", 2, 2},
        {"01 61 01 62", 1, 2},
        {"01 61 00 00 00 01 62", 5, 5},
        {"01 61 00 00 00 01 62", 4, 4},
        {"05 61*5 01 62", 3, 6},
        {"01 61 05 61*5 01 62", 6, 2},
        {"01 61 05 61*5 01 62", 8, 8},
        {"c8 01 61*200 01 62", 203, 202},
        {"c8 01 61*200 01 62", 204, 204},
        {"00 05 61*5", 4, 1},
        {"01 61 03 61 62", 4, 5},
        {"01 61 80 80", 3, 4},
        {"05 61 62", 2, 3},       /* not whole */
        {"01 61 05 61 62", 2, 2}, /* the first one is */
        {"01 61 05 61 62", 4, 5},
        {"80*11", 4, 11},        /* not a length */
        {"ff*9 01 61*3", 4, 13}, /* 2^64 - 1 bytes */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        uint8_t bytes[256], *frames = malloc(sizeof(bytes));
        size_t size = bytes_of(rows[i].frames, bytes);
        frames = realloc(frames, size + (size == 0)); /* so that a look behind them is seen */
        size_t cut = ws_cut((struct bytes){memcpy(frames, bytes, size), size}, rows[i].max);
        free(frames);
        if (cut != rows[i].cut)
            fail_msg("%s at most %zu: %zu", rows[i].frames, rows[i].max, cut);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_unmasked_and_moved_together),
        cmocka_unit_test(control_frames_stand_anywhere_and_are_short),
        cmocka_unit_test(a_close_has_a_code_and_a_text),
        cmocka_unit_test(a_header_that_breaks_a_rule_is_refused),
        cmocka_unit_test(limits_hold_at_n_and_not_at_n_and_1),
        cmocka_unit_test(a_message_ends_where_a_frame_does),
        cmocka_unit_test(first_bytes_are_these_alone),
        cmocka_unit_test(codes_of_a_close_are_these_alone),
        cmocka_unit_test(all_sizes_are_unmasked),
        cmocka_unit_test(part_of_a_control_frame_is_in_the_book),
        cmocka_unit_test(whole_control_frames_keep_no_memory),
        cmocka_unit_test(limits_may_change_inside_a_message),
        cmocka_unit_test(an_input_that_cannot_be_is_seen),
        cmocka_unit_test(headers_have_the_shortest_length),
        cmocka_unit_test(a_close_has_as_many_characters_as_fit),
        cmocka_unit_test(messages_are_cut_between_frames),
    };
    return cmocka_run_group_tests_name("net.ws_frame", tests, NULL, NULL);
}
