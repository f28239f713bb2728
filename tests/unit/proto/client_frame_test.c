/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/client_frame_oracle.h"
#include "proto/varint.h"

/* Plays by hand for each rule, then random frames against protobuf-c. */

static int read_text(const char *data, size_t size, struct client_frame *frame)
{
    struct bytes bytes = {(const uint8_t *)data, size};
    assert_int_not_equal(oracle_compare(bytes), ORACLE_DIFFER);
    return client_frame_read(bytes, frame);
}

#define READ(text, frame) read_text(text, sizeof(text) - 1, frame)
#define ASSERT_ACCEPTED(text, frame) assert_int_equal(READ(text, frame), 0)
#define ASSERT_REFUSED(text)                             \
    do {                                                 \
        struct client_frame refused;                     \
        assert_int_equal(READ(text, &refused), -EPROTO); \
    } while (0)

static void assert_text(struct bytes bytes, const char *text)
{
    assert_int_equal(bytes.size, strlen(text));
    if (bytes.size > 0)
        assert_memory_equal(bytes.data, text, bytes.size);
}

static void test_empty(void **state)
{
    struct client_frame frame;
    ASSERT_ACCEPTED("", &frame);
    assert_int_equal(frame.body, CLIENT_NONE);
    assert_int_equal(frame.id, 0);
    assert_int_equal(client_frame_read((struct bytes){NULL, 0}, &frame), 0);
}

static void test_login(void **state)
{
    struct client_frame frame;
    ASSERT_ACCEPTED("\x08\x96\x01\x12\x0b\x0a\x01"
                    "a\x12\x01t\x1a\x01"
                    "c\x20\x01",
                    &frame);
    assert_int_equal(frame.id, 150);
    assert_int_equal(frame.body, CLIENT_LOGIN);
    assert_text(frame.login.username, "a");
    assert_text(frame.login.token, "t");
    assert_text(frame.login.client, "c");
    assert_true(frame.login.acks);
}

static void test_resume(void **state)
{
    struct client_frame frame;
    ASSERT_ACCEPTED("\x1a\x0b\x0a\x01"
                    "a\x10\x07\x1a\x02"
                    "se\x20\x09",
                    &frame);
    assert_int_equal(frame.body, CLIENT_RESUME);
    assert_text(frame.resume.username, "a");
    assert_int_equal(frame.resume.epoch, 7);
    assert_text(frame.resume.secret, "se");
    assert_int_equal(frame.resume.last_seq, 9);
}

static void test_send_borrows(void **state)
{
    static const uint8_t data[] = "\x22\x0a\x0a\x03"
                                  "bob\x12\x01p\x18\x01";
    struct client_frame frame;
    assert_int_equal(client_frame_read((struct bytes){data, 12}, &frame), 0);
    assert_int_equal(frame.body, CLIENT_SEND);
    assert_ptr_equal(frame.send.to.data, data + 4);
    assert_text(frame.send.payload, "p");
    assert_int_equal(frame.send.until, 1);
}

static void test_call(void **state)
{
    struct client_frame frame;
    ASSERT_ACCEPTED("\x2a\x0c\x0a\x01s\x12\x01m\x1a\x01p\x20\x88\x27", &frame);
    assert_int_equal(frame.body, CLIENT_CALL);
    assert_text(frame.call.service, "s");
    assert_text(frame.call.method, "m");
    assert_text(frame.call.payload, "p");
    assert_int_equal(frame.call.timeout_ms, 5000);
}

static void test_small_bodies(void **state)
{
    struct client_frame frame;
    ASSERT_ACCEPTED("\x32\x02\x08\x05", &frame);
    assert_int_equal(frame.body, CLIENT_ACK);
    assert_int_equal(frame.ack.seq, 5);
    ASSERT_ACCEPTED("\x3a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &frame);
    assert_int_equal(frame.body, CLIENT_PING);
    assert_true(frame.ping.stamp == UINT64_MAX);
    ASSERT_ACCEPTED("\x42\x00", &frame);
    assert_int_equal(frame.body, CLIENT_LOGOUT);
    ASSERT_ACCEPTED("\x08\x03\x7a\x01x", &frame);
    assert_int_equal(frame.body, CLIENT_NONE);
    assert_int_equal(frame.id, 3);
}

static void assert_next_text(struct client_list *list, const char *wanted)
{
    struct bytes text;
    assert_true(client_list_text(list, &text));
    assert_text(text, wanted);
}

static void test_list_of_texts(void **state)
{
    struct client_frame frame;
    struct bytes text;
    ASSERT_ACCEPTED("\x62\x10\x0a\x01"
                    "a\x12\x01z\x18\x07\x0a\x00\x1b\x1c\x0a\x02"
                    "bc",
                    &frame); /* with another list, a number and a group between */
    assert_int_equal(frame.body, CLIENT_WATCH);
    struct client_list again = frame.watch.add;
    for (int round = 0; round < 2; round++) {
        assert_next_text(&frame.watch.add, "a");
        assert_next_text(&frame.watch.add, "");
        assert_next_text(&frame.watch.add, "bc");
        assert_false(client_list_text(&frame.watch.add, &text));
        assert_false(client_list_text(&frame.watch.add, &text));
        frame.watch.add = again; /* the run is as it was */
    }
    assert_next_text(&frame.watch.remove, "z");
    assert_false(client_list_text(&frame.watch.remove, &text));
    ASSERT_ACCEPTED("\x62\x00", &frame);
    assert_false(client_list_text(&frame.watch.add, &text));
    ASSERT_REFUSED("\x62\x06\x0a\x01\xff\x0a\x01x");
    ASSERT_REFUSED("\x62\x06\x0a\x01x\x0a\x01\x00");
    ASSERT_REFUSED("\x62\x02\x08\x01");
    ASSERT_REFUSED("\x62\x03\x0a\x02x");
}

static void test_list_of_positions(void **state)
{
    struct client_frame frame;
    struct client_position at;
    ASSERT_ACCEPTED("\x1a\x19\x32\x06\x08\x03\x10\x07\x18\x09\x32\x00\x32\x0d"
                    "\x18\x01\x18\x02\x23\x08\x01\x24\x2a\x01x\x08\x05",
                    &frame); /* the last counts; what is unknown in it is passed over */
    struct client_list rooms = frame.resume.rooms;
    assert_true(client_list_position(&rooms, &at));
    assert_true(at.room == 3 && at.incarnation == 7 && at.offset == 9);
    assert_true(client_list_position(&rooms, &at));
    assert_true(at.room == 0 && at.incarnation == 0 && at.offset == 0);
    assert_true(client_list_position(&rooms, &at));
    assert_true(at.room == 5 && at.incarnation == 0 && at.offset == 2);
    assert_false(client_list_position(&rooms, &at));
    ASSERT_ACCEPTED("\x1a\x08\x32\x06\x08\x81\x80\x80\x80\x10", &frame); /* 32 bits of it */
    assert_true(client_list_position(&frame.resume.rooms, &at));
    assert_int_equal(at.room, 1);
    ASSERT_REFUSED("\x1a\x03\x32\x01\x08");         /* cut */
    ASSERT_REFUSED("\x1a\x05\x32\x03\x0a\x01x");    /* a run where a number should be */
    ASSERT_REFUSED("\x1a\x04\x32\x02\x0b\x0c");     /* a group */
    ASSERT_REFUSED("\x1a\x03\x32\x01\x0c");         /* one that nobody opened */
    ASSERT_REFUSED("\x1a\x05\x32\x01\x23\x24\x00"); /* across the end of the position */
    ASSERT_REFUSED("\x1a\x04\x32\x02\x00\x00");
    ASSERT_REFUSED("\x1a\x02\x30\x01");
    ASSERT_REFUSED("\x1a\x02\x33\x34");
}

/* What is repeated stays in one body; the rest of two bodies is merged as ever. */
static void test_list_in_two_bodies(void **state)
{
    struct client_frame frame;
    ASSERT_REFUSED("\x62\x03\x0a\x01"
                   "a\x62\x03\x0a\x01z");
    ASSERT_REFUSED("\x62\x02\x0a\x00\x78\x01\x62\x02\x0a\x00");
    ASSERT_REFUSED("\x1a\x02\x32\x00\x1a\x00\x1a\x02\x32\x00");
    ASSERT_ACCEPTED("\x62\x03\x0a\x01"
                    "a\x62\x03\x12\x01z",
                    &frame);
    assert_next_text(&frame.watch.add, "a");
    assert_next_text(&frame.watch.remove, "z");
    ASSERT_ACCEPTED("\x1a\x02\x10\x07\x1a\x04\x32\x02\x08\x01\x1a\x02\x20\x09", &frame);
    assert_int_equal(frame.resume.epoch, 7);
    assert_int_equal(frame.resume.last_seq, 9);
    ASSERT_ACCEPTED("\x62\x03\x0a\x01"
                    "a\x42\x00\x62\x03\x0a\x01z",
                    &frame); /* the first was replaced */
    assert_next_text(&frame.watch.add, "z");
}

static void test_truncated(void **state)
{
    static const uint8_t data[] = "\x08\x01\x22\x0a\x0a\x03"
                                  "bob\x12\x01p\x18\x01";
    struct client_frame frame;
    for (size_t size = 0; size < 14; size++) {
        bool whole = size == 0 || size == 2;
        assert_int_equal(client_frame_read((struct bytes){data, size}, &frame),
                         whole ? 0 : -EPROTO);
    }
}

static void test_last_wins(void **state)
{
    struct client_frame frame;
    ASSERT_ACCEPTED("\x08\x01\x08\x02\x32\x04\x08\x05\x08\x06", &frame);
    assert_int_equal(frame.id, 2);
    assert_int_equal(frame.ack.seq, 6);
    ASSERT_ACCEPTED("\x22\x05\x0a\x01"
                    "a\x0a\x00",
                    &frame);
    assert_text(frame.send.to, "");
}

static void test_same_body_merges(void **state)
{
    struct client_frame frame;
    ASSERT_ACCEPTED("\x22\x05\x0a\x01"
                    "a\x18\x01\x22\x03\x12\x01p",
                    &frame);
    assert_text(frame.send.to, "a");
    assert_text(frame.send.payload, "p");
    assert_int_equal(frame.send.until, 1);
}

static void test_other_body_replaces(void **state)
{
    struct client_frame frame;
    ASSERT_ACCEPTED("\x22\x05\x0a\x01"
                    "a\x18\x01\x2a\x00",
                    &frame);
    assert_int_equal(frame.body, CLIENT_CALL);
    assert_text(frame.call.service, "");
    assert_int_equal(frame.call.timeout_ms, 0);
    ASSERT_ACCEPTED("\x22\x05\x0a\x01"
                    "a\x18\x01\x42\x00\x22\x03\x12\x01p",
                    &frame);
    assert_int_equal(frame.body, CLIENT_SEND);
    assert_text(frame.send.to, "");
    assert_int_equal(frame.send.until, 0);
    ASSERT_ACCEPTED("\x22\x03\x0a\x01"
                    "a\x7a\x00",
                    &frame); /* an unknown number is no body */
    assert_int_equal(frame.body, CLIENT_SEND);
}

static void test_texts(void **state)
{
    ASSERT_REFUSED("\x12\x03\x0a\x01\x00");
    ASSERT_REFUSED("\x12\x03\x1a\x01\xff");
    ASSERT_REFUSED("\x1a\x03\x0a\x01\x00");
    ASSERT_REFUSED("\x22\x04\x0a\x02\xc0\x80");
    ASSERT_REFUSED("\x2a\x03\x0a\x01\x00");
    ASSERT_REFUSED("\x2a\x05\x12\x03\xed\xa0\x80");
    ASSERT_REFUSED("\x22\x06\x0a\x01\x00\x0a\x01x"); /* also when it is replaced */
    ASSERT_REFUSED("\x22\x03\x0a\x01\x00\x42\x00");
    struct client_frame frame;
    ASSERT_ACCEPTED("\x12\x04\x12\x02\x00\xff", &frame); /* a token is no text */
    ASSERT_ACCEPTED("\x2a\x04\x1a\x02\x00\xff", &frame);
}

static void test_wrong_wire_types(void **state)
{
    ASSERT_REFUSED("\x0a\x01x");
    ASSERT_REFUSED("\x0d\x01\x01\x01\x01");
    ASSERT_REFUSED("\x0b\x0c");
    ASSERT_REFUSED("\x20\x01");
    ASSERT_REFUSED("\x23\x24");
    ASSERT_REFUSED("\x22\x02\x08\x01");
    ASSERT_REFUSED("\x22\x02\x13\x14");
    ASSERT_REFUSED("\x22\x03\x1a\x01x");
    ASSERT_REFUSED("\x12\x05\x25\x01\x00\x00\x00");
    ASSERT_REFUSED("\x4e\x00");
    ASSERT_REFUSED("\x4f\x00");
}

static void test_unknown_fields(void **state)
{
    struct client_frame frame;
    ASSERT_ACCEPTED("\x78\x01\x79"
                    "12345678\x7a\x01x\x7d"
                    "1234\x08\x05",
                    &frame);
    assert_int_equal(frame.id, 5);
    ASSERT_ACCEPTED("\x7b\x0b\x08\x01\x12\x00\x0c\x7c\x08\x05", &frame);
    assert_int_equal(frame.id, 5);
    ASSERT_ACCEPTED("\x42\x04\x0b\x10\x01\x0c", &frame);
    ASSERT_REFUSED("\x79"
                   "1234567");
    ASSERT_REFUSED("\x7d"
                   "123");
    ASSERT_REFUSED("\x7a\x02x");
    ASSERT_REFUSED("\x78");
    ASSERT_REFUSED("\x7b");
    ASSERT_REFUSED("\x7c");
    ASSERT_REFUSED("\x7b\x54");
    ASSERT_REFUSED("\x7b\x53\x7c\x54");
    ASSERT_REFUSED("\x42\x01\x0b\x0c"); /* not across the end of a body */
}

static void test_tags_and_lengths(void **state)
{
    struct client_frame frame;
    ASSERT_REFUSED("\x00\x01");
    ASSERT_REFUSED("\x02\x00");
    ASSERT_REFUSED("\x80\x00\x01");
    ASSERT_REFUSED("\x7b\x00\x01\x7c");
    ASSERT_ACCEPTED("\x88\x80\x80\x80\x00\x07", &frame);
    assert_int_equal(frame.id, 7);
    ASSERT_REFUSED("\x88\x80\x80\x80\x80\x00\x07");
    ASSERT_REFUSED("\x88\x80\x80\x80\x10\x07");
    ASSERT_ACCEPTED("\xf8\xff\xff\xff\x0f\x07", &frame);
    ASSERT_ACCEPTED("\x22\x87\x80\x80\x80\x00\x0a\x84\x00"
                    "abcd\x42\x00",
                    &frame);
    assert_int_equal(frame.body, CLIENT_LOGOUT);
    ASSERT_REFUSED("\x22\x80\x80\x80\x80\x80\x00");
    ASSERT_REFUSED("\x22\xff\xff\xff\xff\x0f");
}

static void test_numbers_wrap(void **state)
{
    struct client_frame frame;
    ASSERT_ACCEPTED("\x08\x81\x80\x80\x80\x80\x80\x80\x80\x80\x7e", &frame);
    assert_int_equal(frame.id, 1);
    ASSERT_REFUSED("\x08\x81\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00");
    ASSERT_ACCEPTED("\x2a\x06\x20\x81\x80\x80\x80\x10", &frame);
    assert_int_equal(frame.call.timeout_ms, 1);
    ASSERT_ACCEPTED("\x12\x06\x20\x80\x80\x80\x80\x10", &frame);
    assert_true(frame.login.acks);
}

static void test_group_depth(void **state)
{
    uint8_t data[2 * ORACLE_GROUP_DEPTH_MAX + 2];
    for (size_t depth = 1; depth <= ORACLE_GROUP_DEPTH_MAX + 1; depth++) {
        struct client_frame frame;
        memset(data, 0x7b, depth);
        memset(data + depth, 0x7c, depth);
        assert_int_equal(client_frame_read((struct bytes){data, 2 * depth}, &frame),
                         depth <= ORACLE_GROUP_DEPTH_MAX ? 0 : -EPROTO);
    }
}

/* Random frames: built from fields that are mostly right, then damaged in half of the cases. */

struct random {
    uint64_t state;
};

static uint32_t random_below(struct random *random, uint32_t limit)
{
    random->state ^= random->state << 13;
    random->state ^= random->state >> 7;
    random->state ^= random->state << 17;
    return (uint32_t)((random->state >> 20) % limit);
}

static void put_varint(struct random *random, struct buffer *out, uint64_t value)
{
    uint8_t data[VARINT_BYTES_MAX + 3];
    size_t size = varint_write(data, value);
    if (random_below(random, 12) == 0) { /* longer than needed */
        size_t extra = 1 + random_below(random, 3);
        for (size_t i = 0; i < extra; i++) {
            data[size - 1] |= 0x80;
            data[size++] = 0;
        }
    }
    assert_int_equal(buffer_append(out, data, size), 0);
}

static uint64_t random_number(struct random *random)
{
    uint64_t wide = random->state;
    switch (random_below(random, 4)) {
    case 0:
        return random_below(random, 3);
    case 1:
        return random_below(random, 1000);
    case 2:
        return wide >> random_below(random, 64);
    default:
        return wide & (UINT64_MAX << 32);
    }
}

static void put_text(struct random *random, struct buffer *out)
{
    static const char *pieces[] = {
        "a",  "bob", "game-1", "12345678",    "\xc3\xa9",        "\xe2\x82\xac",
        "z@", "",    "+",      "abcdefghijk", "\xf0\x9f\x98\x80"};
    static const char *bad[] = {"\xff", "\x80", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80"};
    uint8_t text[64];
    size_t size = 0;
    for (uint32_t count = random_below(random, 4); count > 0; count--) {
        const char *piece = random_below(random, 60) == 0 ? bad[random_below(random, 5)]
                                                          : pieces[random_below(random, 11)];
        memcpy(text + size, piece, strlen(piece));
        size += strlen(piece);
        if (random_below(random, 200) == 0)
            text[size++] = 0;
    }
    put_varint(random, out, size);
    assert_int_equal(buffer_append(out, text, size), 0);
}

static void put_group(struct random *random, struct buffer *out, uint32_t number);

/* A field of this number, of a type that is mostly the one wanted. */
static void put_field(struct random *random, struct buffer *out, uint32_t number, uint32_t type)
{
    if (random_below(random, 40) == 0)
        type = random_below(random, 6);
    if (type == 3 || type == 4) {
        put_group(random, out, number);
        return;
    }
    put_varint(random, out, (uint64_t)number << 3 | type);
    if (type == 0)
        put_varint(random, out, random_number(random));
    else if (type == 2)
        put_text(random, out);
    else
        assert_int_equal(buffer_append(out, "12345678", type == 1 ? 8 : 4), 0);
}

static void put_group(struct random *random, struct buffer *out, uint32_t number)
{
    put_varint(random, out, (uint64_t)number << 3 | 3);
    for (uint32_t count = random_below(random, 3); count > 0; count--)
        put_field(random, out, 1 + random_below(random, 20), random_below(random, 6));
    put_varint(random, out, (uint64_t)number << 3 | 4);
}

static bool is_run(const ProtobufCFieldDescriptor *field)
{
    return field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_BYTES;
}

/* A RoomPosition, as a field of that number. */
static void put_position(struct random *random, struct buffer *out, uint32_t number)
{
    struct buffer item = {0};
    for (uint32_t count = random_below(random, 5); count > 0; count--)
        put_field(random, &item, 1 + random_below(random, 4), 0);
    put_varint(random, out, number << 3 | 2);
    put_varint(random, out, item.size);
    if (item.size > 0)
        assert_int_equal(buffer_append(out, item.data, item.size), 0);
    buffer_fini(&item);
}

static void put_body(struct random *random, struct buffer *out)
{
    struct buffer body = {0};
    const ProtobufCMessageDescriptor *frame = &usher__v1__client_frame__descriptor;
    uint32_t number = frame->fields[1 + random_below(random, frame->n_fields - 1)].id;
    const ProtobufCMessageDescriptor *message = oracle_message(number);
    uint32_t known = message->n_fields;
    for (uint32_t count = random_below(random, 6); count > 0; count--) {
        uint32_t field = 1 + random_below(random, known + 1);
        if (field > known)
            put_field(random, &body, field + random_below(random, 30), random_below(random, 6));
        else if (message->fields[field - 1].type == PROTOBUF_C_TYPE_MESSAGE)
            put_position(random, &body, field);
        else
            put_field(random, &body, field, is_run(&message->fields[field - 1]) ? 2 : 0);
    }
    put_varint(random, out, number << 3 | 2);
    put_varint(random, out, body.size);
    assert_int_equal(buffer_append(out, body.data, body.size), 0);
    buffer_fini(&body);
}

static void put_frame(struct random *random, struct buffer *out)
{
    for (uint32_t count = random_below(random, 5); count > 0; count--) {
        switch (random_below(random, 5)) {
        case 0:
            put_field(random, out, 1, 0);
            break;
        case 1:
            put_field(random, out, 14 + random_below(random, 3000), random_below(random, 6));
            break;
        default:
            put_body(random, out);
        }
    }
}

static void damage(struct random *random, struct buffer *out)
{
    for (uint32_t count = 1 + random_below(random, 2); count > 0 && out->size > 0; count--) {
        size_t at = random_below(random, (uint32_t)out->size);
        switch (random_below(random, 4)) {
        case 0:
            out->data[at] ^= (uint8_t)(1u << random_below(random, 8));
            break;
        case 1:
            out->data[at] = (uint8_t)random_below(random, 256);
            break;
        case 2:
            out->size = at;
            break;
        default:
            memmove(out->data + at, out->data + at + 1, out->size - at - 1);
            out->size--;
        }
    }
}

static void fail_with(const struct buffer *frame, uint64_t seed, unsigned round)
{
    for (size_t i = 0; i < frame->size; i++)
        fprintf(stderr, "\\x%02x", frame->data[i]);
    fail_msg("\nseed %llu, round %u: not as protobuf-c", (unsigned long long)seed, round);
}

static void test_as_protobuf(void **state)
{
    enum { ROUNDS = 200000 };
    const char *given = getenv("USHER_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : 20240607;
    print_message("seed %llu (USHER_TEST_SEED)\n", (unsigned long long)seed);
    struct random random = {seed * 2 + 1};
    struct buffer frame = {0};
    unsigned accepted = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        frame.size = 0;
        put_frame(&random, &frame);
        if (round % 2 == 1)
            damage(&random, &frame);
        enum oracle_verdict verdict = oracle_compare((struct bytes){frame.data, frame.size});
        if (verdict == ORACLE_DIFFER)
            fail_with(&frame, seed, round);
        accepted += verdict == ORACLE_BOTH_ACCEPT;
    }
    print_message("%u of %u accepted\n", accepted, (unsigned)ROUNDS);
    /* or the frames are so good or so bad that nothing was compared */
    assert_in_range(accepted, ROUNDS / 4, ROUNDS / 4 * 3);
    buffer_fini(&frame);
}

/* --- the rows --------------------------------------------------------------------------------- */

struct row {
    unsigned number;
    const char *name;
    enum {
        TEXT,
        PEER = TEXT,
        BYTES,
        PAYLOAD = BYTES,
        UINT64,
        UINT32,
        BOOL,
        TEXTS,
        POSITIONS,
        MESSAGE
    } kind;
    unsigned body; /* 0: it is one */
};

static const struct row rows[] = {
#define FIELD(body, number, kind, name) {number, #name, kind, 0},
#define BODY(number, NAME, name, handler, fields) {number, #name, MESSAGE, number}, fields
#include "proto/client_bodies.def"
#undef BODY
#undef FIELD
};

static bool is_of_kind(const ProtobufCFieldDescriptor *field, int kind)
{
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return kind == (field->type == PROTOBUF_C_TYPE_STRING ? TEXTS : POSITIONS) &&
               (kind == TEXTS || field->descriptor == &usher__v1__room_position__descriptor);
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return kind == TEXT;
    case PROTOBUF_C_TYPE_BYTES:
        return kind == BYTES;
    case PROTOBUF_C_TYPE_UINT64:
        return kind == UINT64;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_ENUM:
        return kind == UINT32;
    case PROTOBUF_C_TYPE_BOOL:
        return kind == BOOL;
    default:
        return kind == MESSAGE;
    }
}

/* Every body and every field of the schema has its row, and no row is without. */
static void test_rows_are_the_schema(void **state)
{
    const ProtobufCMessageDescriptor *frame = &usher__v1__client_frame__descriptor;
    const ProtobufCMessageDescriptor *message = frame;
    size_t wanted = frame->n_fields - 1; /* but the id */
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];
        message = row->body != 0 ? frame : message;
        const ProtobufCFieldDescriptor *field = oracle_field(message, row->number);
        if (field == NULL || strcmp(field->name, row->name) != 0 || !is_of_kind(field, row->kind))
            fail_msg("the row of %s is not that of client.proto", row->name);
        if (row->body != 0)
            message = oracle_message(row->body);
        wanted += row->body != 0 ? message->n_fields : 0;
    }
    assert_int_equal(sizeof(rows) / sizeof(rows[0]), wanted);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* The frame behind `before`, without its length. */
static struct bytes written_of(const struct client_frame *frame, struct buffer *out)
{
    assert_int_equal(buffer_append(out, "before", 6), 0);
    assert_int_equal(client_frame_write(out, frame, SIZE_MAX), 0);
    assert_memory_equal(out->data, "before", 6);
    uint64_t size = 0;
    int head = varint_read((struct bytes){out->data + 6, out->size - 6}, &size);
    assert_true(head > 0 && size == out->size - 6 - (size_t)head);
    return (struct bytes){out->data + 6 + head, (size_t)size};
}

/* A list goes out as its items came in, also with what is unknown in them; what stood between them
 * does not. */
static void check_read_again(const struct client_frame *ours)
{
    struct client_frame again;
    struct buffer out = {0};
    struct bytes written = written_of(ours, &out);
    Usher__V1__ClientFrame *theirs = oracle_unpack(written);
    assert_true(theirs != NULL && oracle_same(ours, theirs));
    assert_int_equal(client_frame_read(written, &again), 0);
    assert_true(oracle_same(&again, theirs));
    usher__v1__client_frame__free_unpacked(theirs, NULL);
    buffer_fini(&out);
}

/* The same list, of items that this library wrote. */
static void rewrite_texts(struct client_list *list, struct buffer *run)
{
    struct bytes text;
    while (client_list_text(list, &text))
        assert_int_equal(client_list_add_text(run, list->number, text), 0);
    list->run = (struct bytes){run->data, run->size};
}

static void rewrite_positions(struct client_list *list, struct buffer *run)
{
    struct client_position at;
    while (client_list_position(list, &at))
        assert_int_equal(client_list_add_position(run, list->number, &at), 0);
    list->run = (struct bytes){run->data, run->size};
}

/* The bytes are those of protobuf-c; but for numbers that no enum has, of which protobuf-c makes
 * negative ones of ten bytes. */
static void check_bytes(struct client_frame *ours)
{
    struct buffer runs[2] = {{0}}, out = {0}, tight = {0};
    if (ours->body == CLIENT_SEND)
        ours->send.until &= INT32_MAX;
    if (ours->body == CLIENT_RESUME)
        rewrite_positions(&ours->resume.rooms, &runs[0]);
    if (ours->body == CLIENT_WATCH) {
        rewrite_texts(&ours->watch.add, &runs[0]);
        rewrite_texts(&ours->watch.remove, &runs[1]);
    }
    struct bytes written = written_of(ours, &out);
    Usher__V1__ClientFrame *theirs =
        usher__v1__client_frame__unpack(NULL, written.size, written.data);
    assert_non_null(theirs);
    uint8_t *packed = malloc(written.size + 1);
    assert_int_equal(usher__v1__client_frame__pack(theirs, packed), written.size);
    assert_memory_equal(packed, written.data, written.size);
    free(packed);
    usher__v1__client_frame__free_unpacked(theirs, NULL);

    assert_int_equal(client_frame_write(&tight, ours, written.size), 0);
    if (written.size > 0)
        assert_int_equal(client_frame_write(&tight, ours, written.size - 1), -EMSGSIZE);
    assert_int_equal(tight.size, out.size - 6);
    buffer_fini(&tight);
    buffer_fini(&out);
    buffer_fini(&runs[0]);
    buffer_fini(&runs[1]);
}

static void check_written(const struct buffer *frame)
{
    struct client_frame ours;
    if (client_frame_read((struct bytes){frame->data, frame->size}, &ours) != 0)
        return;
    check_read_again(&ours);
    check_bytes(&ours);
}

static void test_written_as_protobuf(void **state)
{
    struct random random = {20241};
    struct buffer frame = {0};
    for (unsigned round = 0; round < 50000; round++) {
        frame.size = 0;
        put_frame(&random, &frame);
        check_written(&frame);
    }
    buffer_fini(&frame);
}

/* --- what people are told --------------------------------------------------------------------- */

static void test_gist(void **state)
{
    struct client_frame frame = {.body = CLIENT_NONE};
    struct client_frame_gist gist = client_frame_gist(&frame);
    assert_string_equal(gist.word, "other");
    assert_int_equal(gist.peer.size + gist.payload_bytes, 0);
    frame.body = CLIENT_SEND;
    frame.send.to = bytes_of_text("bob");
    frame.send.payload = bytes_of_text("hello");
    gist = client_frame_gist(&frame);
    assert_string_equal(gist.word, "send");
    assert_text(gist.peer, "bob");
    assert_int_equal(gist.payload_bytes, 5);
    memset(&frame, 0, sizeof(frame));
    frame.body = CLIENT_CALL;
    frame.call.service = bytes_of_text("echo");
    frame.call.method = bytes_of_text("say");
    frame.call.payload = bytes_of_text("hello!");
    gist = client_frame_gist(&frame);
    assert_string_equal(gist.word, "call");
    assert_text(gist.peer, "echo");
    assert_int_equal(gist.payload_bytes, 6);
    memset(&frame, 0, sizeof(frame));
    frame.body = CLIENT_RESUME;
    frame.resume.username = bytes_of_text("bob");
    frame.resume.secret = bytes_of_text("hush");
    gist = client_frame_gist(&frame);
    assert_string_equal(gist.word, "resume");
    assert_int_equal(gist.peer.size + gist.payload_bytes, 0); /* least of all the secret */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_login),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_send_borrows),
        cmocka_unit_test(test_call),
        cmocka_unit_test(test_small_bodies),
        cmocka_unit_test(test_list_of_texts),
        cmocka_unit_test(test_list_of_positions),
        cmocka_unit_test(test_list_in_two_bodies),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_last_wins),
        cmocka_unit_test(test_same_body_merges),
        cmocka_unit_test(test_other_body_replaces),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_wrong_wire_types),
        cmocka_unit_test(test_unknown_fields),
        cmocka_unit_test(test_tags_and_lengths),
        cmocka_unit_test(test_numbers_wrap),
        cmocka_unit_test(test_group_depth),
        cmocka_unit_test(test_as_protobuf),
        cmocka_unit_test(test_rows_are_the_schema),
        cmocka_unit_test(test_written_as_protobuf),
        cmocka_unit_test(test_gist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
