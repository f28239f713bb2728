/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include <wslay/wslay.h>

#include "fuzz/fuzz.h"
#include "net/ws_frame.h"
#include "proto/frame.h"
#include "proto/utf8.h"

/* ws_read beside libwslay's frame level, and beside itself with the input in pieces.
 *
 * Of an input, byte 0 seeds the pieces, byte 1 sets the limit of bytes and byte 2 that of
 * fragments; the rest is what a client sends. When byte 0 is 0xff it is the text of a Close
 * instead, which libwslay reads.
 *
 * The relation. libwslay reads the same bytes into frames. Each of them has the same payload here
 * as there. What it calls an error is one here, -EPROTO or what the first byte alone says. What it
 * lets pass is judged once more by the rules in this file, in the order of the bytes, and the
 * result must be the very same: for whole frames by what libwslay says of them, for a header that
 * has not come whole by its bytes. The delimited frames in a message are those that frame_next
 * finds in all of its payload. */

enum { INPUT_BYTES_MAX = 16384 };

/* What came of an input. */
struct outcome {
    uint8_t payload[INPUT_BYTES_MAX];
    size_t size;
    uint64_t
        events; /* a digest: which control frames, behind how much payload, with which of theirs */
    size_t controls;
    int end; /* 0, WS_CLOSE or an error */
};

static void add_control(struct outcome *outcome, int opcode, const uint8_t *data, size_t size)
{
    const uint64_t prime = UINT64_C(0x100000001b3);
    outcome->events = (outcome->events ^ (unsigned)opcode) * prime;
    outcome->events = (outcome->events ^ outcome->size) * prime;
    outcome->events = (outcome->events ^ size) * prime;
    for (size_t i = 0; i < size; i++)
        outcome->events = (outcome->events ^ data[i]) * prime;
    outcome->controls++;
    if (opcode == WS_CLOSE)
        outcome->end = WS_CLOSE;
}

/* --- libwslay, and the rules that its frame level leaves to others ---------------------------- */

struct oracle {
    struct outcome *outcome;
    const struct ws_limits *limits;
    struct bytes wire;
    size_t fed;   /* to libwslay */
    size_t begun; /* where the header of the frame in question lies */
    /* the frame */
    bool inside;
    uint64_t left;
    /* the message */
    bool open;
    uint64_t bytes;
    uint32_t fragments;
    size_t frame; /* where the delimited frame begins that is not whole */
    uint8_t control[WS_CONTROL_BYTES_MAX];
    size_t control_size;
};

static ssize_t feed(uint8_t *to, size_t size, int flags, void *context)
{
    struct oracle *oracle = context;
    size_t left = oracle->wire.size - oracle->fed;
    if (left == 0)
        return -1;
    size = size < left ? size : left;
    memcpy(to, oracle->wire.data + oracle->fed, size);
    oracle->fed += size;
    return (ssize_t)size;
}

static int rule_of_the_first_byte(const struct oracle *oracle, unsigned fin, unsigned rsv,
                                  unsigned opcode)
{
    if (rsv != 0)
        return -EPROTO;
    switch (opcode) {
    case WSLAY_CONTINUATION_FRAME:
        return oracle->open ? 0 : -EPROTO;
    case WSLAY_TEXT_FRAME:
        return oracle->open ? -EPROTO : -ENOTSUP;
    case WSLAY_BINARY_FRAME:
        return oracle->open ? -EPROTO : 0;
    case WSLAY_CONNECTION_CLOSE:
    case WSLAY_PING:
    case WSLAY_PONG:
        return fin ? 0 : -EPROTO;
    }
    return -EPROTO;
}

static int rule_of_the_size(const struct oracle *oracle, unsigned opcode, uint64_t size)
{
    if (opcode >= 8)
        return 0;
    if (oracle->fragments + 1 > oracle->limits->fragments)
        return -E2BIG;
    return oracle->bytes + size > oracle->limits->message_bytes ? -EMSGSIZE : 0;
}

/* A header that libwslay calls wrong, or of which it has not said anything because bytes are
 * missing; it may be whole. */
static int rule_of_a_part(const struct oracle *oracle, bool wrong)
{
    const uint8_t *at = oracle->wire.data + oracle->begun;
    size_t have = oracle->wire.size - oracle->begun;
    if (have == 0)
        return 0;
    unsigned opcode = at[0] & 15;
    int result = rule_of_the_first_byte(oracle, at[0] >> 7, at[0] >> 4 & 7, opcode);
    if (result != 0 || have == 1)
        return result;
    unsigned size = at[1] & 127;
    if (wrong || at[1] < 128)
        return -EPROTO;
    if (size < 126)
        return rule_of_the_size(oracle, opcode, size);
    if (size == 126)
        return have < 4 ? 0 : rule_of_the_size(oracle, opcode, (unsigned)at[2] << 8 | at[3]);
    if (have > 2 && at[2] >= 128)
        return -EPROTO;
    if (have >= 8 && memcmp(at + 2, "\0\0\0\0\0", 6) == 0)
        return -EPROTO;
    uint64_t long_size = 0;
    for (size_t i = 2; i < 10 && i < have; i++)
        long_size = long_size << 8 | at[i];
    return have < 10 ? 0 : rule_of_the_size(oracle, opcode, long_size);
}

static int rules_of_a_header(struct oracle *oracle, const struct wslay_frame_iocb *frame)
{
    int result = rule_of_the_first_byte(oracle, frame->fin, frame->rsv, frame->opcode);
    if (result == 0 && !frame->mask)
        result = -EPROTO;
    if (result == 0)
        result = rule_of_the_size(oracle, frame->opcode, frame->payload_length);
    if (result < 0)
        return result;
    uint64_t size = frame->payload_length;
    size_t header = (size < 126 ? 2 : size < 65536 ? 4 : 10) + 4u;
    oracle->begun += header + size; /* of the next one, if it comes */
    oracle->inside = true;
    oracle->left = size;
    oracle->control_size = 0;
    if (frame->opcode >= 8)
        return 0;
    oracle->open = true;
    oracle->bytes += size;
    oracle->fragments++;
    return 0;
}

/* Goes on from one delimited frame of the message to the next. The byte that makes a length wrong,
 * and what lies behind it, is not given any more. */
static int rule_of_the_frames(struct oracle *oracle)
{
    struct outcome *outcome = oracle->outcome;
    for (;;) {
        struct bytes rest = {outcome->payload + oracle->frame, outcome->size - oracle->frame};
        struct bytes frame;
        size_t used = 0;
        int result = frame_next(rest, oracle->limits->message_bytes, &frame, &used);
        if (result == 0)
            return 0;
        if (result < 0) {
            for (used = 1; rest.data[used - 1] >= 128 && used < 5;)
                used++;
            outcome->size = oracle->frame + used - 1;
            return result;
        }
        oracle->frame += used;
    }
}

static int rules_of_a_close(const uint8_t *data, size_t size)
{
    static const uint16_t ranges[][2] = {{1000, 1003}, {1007, 1014}, {3000, 4999}};
    unsigned code = size < 2 ? 0 : (unsigned)data[0] << 8 | data[1];
    bool known = size == 0;
    for (size_t i = 0; i < 3; i++)
        known |= code >= ranges[i][0] && code <= ranges[i][1];
    if (!known)
        return -EPROTO;
    /* utf8_valid knows no NUL */
    uint8_t text[WS_CONTROL_BYTES_MAX];
    size_t length = size < 2 ? 0 : size - 2;
    for (size_t i = 0; i < length; i++)
        text[i] = data[2 + i] == 0 ? ' ' : data[2 + i];
    return utf8_valid((struct bytes){text, length}) ? 0 : -EILSEQ;
}

static int rules_of_an_end(struct oracle *oracle, const struct wslay_frame_iocb *frame)
{
    const uint8_t *control = oracle->control;
    size_t size = oracle->control_size;
    oracle->inside = false;
    if (frame->opcode < 8 && frame->fin) {
        oracle->open = false;
        oracle->bytes = oracle->fragments = 0;
        return oracle->frame == oracle->outcome->size ? 0 : -EPROTO;
    }
    if (frame->opcode == WSLAY_CONNECTION_CLOSE && rules_of_a_close(control, size) < 0)
        return rules_of_a_close(control, size);
    if (frame->opcode >= 8)
        add_control(oracle->outcome, frame->opcode, control, frame->opcode == WS_PONG ? 0 : size);
    return 0;
}

static int take_payload(struct oracle *oracle, const struct wslay_frame_iocb *frame)
{
    if (frame->data_length == 0)
        return 0;
    oracle->left -= frame->data_length;
    if (frame->opcode >= 8) {
        memcpy(oracle->control + oracle->control_size, frame->data, frame->data_length);
        oracle->control_size += frame->data_length;
        return 0;
    }
    memcpy(oracle->outcome->payload + oracle->outcome->size, frame->data, frame->data_length);
    oracle->outcome->size += frame->data_length;
    return rule_of_the_frames(oracle);
}

static void ask_oracle(struct oracle *oracle)
{
    struct wslay_frame_callbacks callbacks = {.recv_callback = feed};
    wslay_frame_context_ptr wslay;
    int result = 0;
    FUZZ_CHECK(wslay_frame_context_init(&wslay, &callbacks, oracle) == 0);
    while (result == 0 && oracle->outcome->end == 0) {
        struct wslay_frame_iocb frame;
        ssize_t got = wslay_frame_recv(wslay, &frame);
        if (got < 0) {
            FUZZ_CHECK(got == WSLAY_ERR_WANT_READ || got == WSLAY_ERR_PROTO);
            FUZZ_CHECK(got == WSLAY_ERR_WANT_READ || !oracle->inside);
            result = oracle->inside ? 0 : rule_of_a_part(oracle, got == WSLAY_ERR_PROTO);
            break;
        }
        if (!oracle->inside)
            result = rules_of_a_header(oracle, &frame);
        if (result == 0)
            result = take_payload(oracle, &frame);
        if (result == 0 && oracle->left == 0)
            result = rules_of_an_end(oracle, &frame);
    }
    if (result != 0)
        oracle->outcome->end = result;
    wslay_frame_context_free(wslay);
}

/* --- what is tested --------------------------------------------------------------------------- */

/* One piece, at the very end of the memory, so that a sanitizer sees a look behind it; perhaps
 * `gap` bytes behind where its payload goes. */
static void read_piece(struct ws_reader *reader, const struct ws_limits *limits, struct bytes piece,
                       size_t gap, struct outcome *outcome)
{
    static uint8_t memory[INPUT_BYTES_MAX];
    uint8_t *data = memory + sizeof(memory) - piece.size - gap;
    bytes_put(data + gap, piece);
    struct ws_input input = {data, gap + piece.size, gap, 0};
    for (int result = 1; result > 0 && outcome->end == 0;) {
        struct ws_control control;
        size_t before = input.payload;
        result = ws_read(reader, limits, &input, &control);
        FUZZ_CHECK(before <= input.payload && input.payload <= input.at && input.at <= input.size);
        FUZZ_CHECK(result != 0 || input.at == input.size);
        memcpy(outcome->payload + outcome->size, data + before, input.payload - before);
        outcome->size += input.payload - before;
        if (result > 0)
            add_control(outcome, result, control.data, control.size);
        else
            outcome->end = result;
    }
}

static void read_in_pieces(struct bytes wire, const struct ws_limits *limits, uint8_t seed,
                           struct outcome *outcome)
{
    struct ws_reader reader = {0};
    uint32_t random = seed | 1u;
    for (size_t at = 0; at < wire.size && outcome->end == 0;) {
        random = random * 1664525u + 1013904223u;
        size_t step = seed == 0 ? 1 : 1 + (random >> 24) % seed;
        step = step < wire.size - at ? step : wire.size - at;
        read_piece(&reader, limits, (struct bytes){wire.data + at, step}, random >> 16 & 3,
                   outcome);
        at += step;
    }
    ws_reader_fini(&reader);
}

static void reset(struct outcome *outcome)
{
    outcome->size = outcome->controls = 0;
    outcome->events = 0;
    outcome->end = 0;
}

static void compare(const struct outcome *a, const struct outcome *b)
{
    FUZZ_CHECK(a->end == b->end);
    FUZZ_CHECK(a->size == b->size && memcmp(a->payload, b->payload, a->size) == 0);
    FUZZ_CHECK(a->controls == b->controls && a->events == b->events);
}

static void read_all_ways(struct bytes wire, const struct ws_limits *limits, uint8_t seed)
{
    static struct outcome wanted, whole, pieces;
    struct oracle oracle = {.outcome = &wanted, .limits = limits, .wire = wire};
    struct ws_reader reader = {0};
    reset(&wanted);
    reset(&whole);
    reset(&pieces);
    ask_oracle(&oracle);
    read_piece(&reader, limits, wire, 0, &whole);
    ws_reader_fini(&reader);
    read_in_pieces(wire, limits, seed, &pieces);
    compare(&wanted, &whole);
    compare(&wanted, &pieces);
}

/* --- what is sent ----------------------------------------------------------------------------- */

/* libwslay reads the Close that was made of any text; and the header of any size. */
static void write_a_close(const uint8_t *data, size_t size)
{
    uint8_t frame[WS_CLOSE_FRAME_BYTES_MAX + WS_HEADER_BYTES_MAX];
    char text[512];
    size_t length = size - 2 < sizeof(text) ? size - 2 : sizeof(text) - 1;
    memcpy(text, data + 2, length);
    text[length] = '\0';
    length = strlen(text);
    uint16_t code = (uint16_t)(1000 + data[0] * 16 + data[1] % 16);
    size_t used = ws_close_frame(frame, code, text);
    used += ws_header(frame + used, WS_BINARY, length << data[0] % 40);
    struct oracle oracle = {.wire = {frame, used}};
    struct wslay_frame_callbacks callbacks = {.recv_callback = feed};
    struct wslay_frame_iocb iocb;
    wslay_frame_context_ptr wslay;
    FUZZ_CHECK(wslay_frame_context_init(&wslay, &callbacks, &oracle) == 0);
    FUZZ_CHECK(wslay_frame_recv(wslay, &iocb) >= 2);
    FUZZ_CHECK(iocb.fin && iocb.rsv == 0 && iocb.opcode == WSLAY_CONNECTION_CLOSE && !iocb.mask);
    FUZZ_CHECK(iocb.data_length == iocb.payload_length);
    FUZZ_CHECK(((unsigned)iocb.data[0] << 8 | iocb.data[1]) == code);
    struct bytes sent = {iocb.data + 2, iocb.data_length - 2};
    FUZZ_CHECK(sent.size <= length && memcmp(sent.data, text, sent.size) == 0 && utf8_valid(sent));
    size_t next = sent.size < length /* the character that was left out, if it is one */
                      ? utf8_size((uint8_t *)text + sent.size, length - sent.size)
                      : 0;
    FUZZ_CHECK(next == 0 || 2 + sent.size + next > WS_CONTROL_BYTES_MAX);
    ssize_t got = wslay_frame_recv(wslay, &iocb);
    FUZZ_CHECK(got == (length == 0 ? 0 : WSLAY_ERR_WANT_READ));
    wslay_frame_context_free(wslay);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3 || size > INPUT_BYTES_MAX)
        return 0;
    struct ws_limits limits = {(uint32_t)data[1] * data[1], data[2] % 8u};
    if (data[0] == 0xff)
        write_a_close(data + 1, size - 1);
    else
        read_all_ways((struct bytes){data + 3, size - 3}, &limits, data[0]);
    return 0;
}
