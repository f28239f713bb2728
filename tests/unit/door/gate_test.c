/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/messages.h"
#include "actors/proof.h"
#include "door/gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "client.pb-c.h"
#include "proto/username.h"

/* Frames as bytes: field 1 is the id (here 5), then the body. */
struct row {
    const char *what;
    const char *bytes;
    size_t size;
    enum gate_verdict verdict;
    uint32_t code;
    uint32_t reason;
    uint64_t id;
};

#define FRAME(bytes_) (bytes_), sizeof(bytes_) - 1
#define PROTOCOL USHER__V1__ERROR__CODE__PROTOCOL
#define INVALID_NAME USHER__V1__ERROR__CODE__INVALID_NAME
#define PROTOCOL_ERROR USHER__V1__CLOSE__REASON__PROTOCOL_ERROR
#define AUTH_FAILED USHER__V1__CLOSE__REASON__AUTH_FAILED

static const struct row rows[] = {
    {"Login",
     FRAME("\x08\x05\x12\x05\x0a\x03"
           "ann"),
     GATE_ATTACH, 0, 0, 5},
    {"Login without an id",
     FRAME("\x12\x05\x0a\x03"
           "ann"),
     GATE_ATTACH, 0, 0, 0},
    {"Login with a token, a client text and acks",
     FRAME("\x08\x05\x12\x0d\x0a\x03"
           "ann\x12\x01t\x1a\x01"
           "c\x20\x01"),
     GATE_ATTACH, 0, 0, 5},
    {"Login of nobody", FRAME("\x08\x05\x12\x00"), GATE_CLOSE, INVALID_NAME, AUTH_FAILED, 5},
    {"Login with a space in the name",
     FRAME("\x08\x05\x12\x05\x0a\x03"
           "a n"),
     GATE_CLOSE, INVALID_NAME, AUTH_FAILED, 5},
    {"Login under the name of an instance",
     FRAME("\x08\x05\x12\x05\x0a\x03"
           "!/a"),
     GATE_CLOSE, INVALID_NAME, AUTH_FAILED, 5},
    {"Resume",
     FRAME("\x08\x05\x1a\x07\x0a\x03"
           "ann\x10\x02"),
     GATE_RESUME, 0, 0, 5},
    {"Resume of nobody", FRAME("\x08\x05\x1a\x02\x10\x02"), GATE_CLOSE, INVALID_NAME, AUTH_FAILED,
     5},
    {"Send",
     FRAME("\x08\x05\x22\x05\x0a\x03"
           "bob"),
     GATE_CLOSE, PROTOCOL, PROTOCOL_ERROR, 5},
    {"Call", FRAME("\x08\x05\x2a\x03\x0a\x01s"), GATE_CLOSE, PROTOCOL, PROTOCOL_ERROR, 5},
    {"Ack", FRAME("\x08\x05\x32\x02\x08\x01"), GATE_CLOSE, PROTOCOL, PROTOCOL_ERROR, 5},
    {"Ping", FRAME("\x08\x05\x3a\x02\x08\x01"), GATE_CLOSE, PROTOCOL, PROTOCOL_ERROR, 5},
    {"Logout", FRAME("\x08\x05\x42\x00"), GATE_CLOSE, PROTOCOL, PROTOCOL_ERROR, 5},
    {"an empty frame", FRAME(""), GATE_ANSWER, PROTOCOL, 0, 0},
    {"an id alone", FRAME("\x08\x05"), GATE_ANSWER, PROTOCOL, 0, 5},
    {"a body of the future", FRAME("\x08\x05\x7a\x01x"), GATE_ANSWER, PROTOCOL, 0, 5},
    {"broken protobuf: the id is not believed", FRAME("\x08\x05\x12\x7f"), GATE_CLOSE, PROTOCOL,
     PROTOCOL_ERROR, 0},
    {"a name that is not UTF-8", FRAME("\x08\x05\x12\x04\x0a\x02\xc3("), GATE_CLOSE, PROTOCOL,
     PROTOCOL_ERROR, 0},
    {"a name with a NUL",
     FRAME("\x08\x05\x12\x05\x0a\x03"
           "a\0n"),
     GATE_CLOSE, PROTOCOL, PROTOCOL_ERROR, 0},
    {"a Login of the wrong wire type", FRAME("\x08\x05\x10\x01"), GATE_CLOSE, PROTOCOL,
     PROTOCOL_ERROR, 0},
};

static void every_first_frame_has_its_decision(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];
        struct client_frame frame;
        struct gate_decision decision =
            gate_frame((struct bytes){(const uint8_t *)row->bytes, row->size}, false, &frame);
        if (decision.verdict != row->verdict || decision.code != row->code ||
            decision.reason != row->reason || frame.id != row->id)
            fail_msg("%s: verdict %d, code %u, reason %u, id %llu", row->what,
                     (int)decision.verdict, decision.code, decision.reason,
                     (unsigned long long)frame.id);
        if (decision.verdict == GATE_ANSWER || decision.verdict == GATE_CLOSE)
            assert_non_null(decision.detail);
    }
}

static enum gate_verdict login_of(size_t name_bytes)
{
    uint8_t bytes[4 + USERNAME_BYTES_MAX + 1] = {0x12, (uint8_t)(2 + name_bytes), 0x0a,
                                                 (uint8_t)name_bytes};
    struct client_frame frame;
    memset(bytes + 4, 'n', name_bytes);
    return gate_frame((struct bytes){bytes, 4 + name_bytes}, false, &frame).verdict;
}

static void a_name_may_have_64_bytes(void **state)
{
    assert_int_equal(login_of(1), GATE_ATTACH);
    assert_int_equal(login_of(USERNAME_BYTES_MAX), GATE_ATTACH);
    assert_int_equal(login_of(USERNAME_BYTES_MAX + 1), GATE_CLOSE);
}

static void the_frame_is_read_for_the_caller(void **state)
{
    struct client_frame frame;
    const struct row *row = &rows[2];
    gate_frame((struct bytes){(const uint8_t *)row->bytes, row->size}, false, &frame);
    assert_int_equal(frame.body, CLIENT_LOGIN);
    assert_true(bytes_equal(frame.login.username, bytes_of_text("ann")));
    assert_true(bytes_equal(frame.login.token, bytes_of_text("t")));
    assert_true(bytes_equal(frame.login.client, bytes_of_text("c")));
    assert_true(frame.login.acks);
}

/* Every bit of epoch, secret and key counts; a secret of another size proves nothing. */
static void only_the_secret_of_that_epoch_proves(void **state)
{
    uint64_t key[2] = {1, 2};
    uint8_t secret[SECRET_BYTES + 1] = "0123456789abcdef";
    uint64_t proof = proof_of_resume(key, 7, (struct bytes){secret, SECRET_BYTES});
    assert_int_not_equal(proof, 0);
    assert_int_equal(proof_of_resume(key, 7, (struct bytes){secret, SECRET_BYTES}), proof);
    assert_int_not_equal(proof_of_resume(key, 8, (struct bytes){secret, SECRET_BYTES}), proof);
    assert_int_equal(proof_of_resume(key, 7, (struct bytes){secret, SECRET_BYTES - 1}), 0);
    assert_int_equal(proof_of_resume(key, 7, (struct bytes){secret, SECRET_BYTES + 1}), 0);
    assert_int_equal(proof_of_resume(key, 7, (struct bytes){NULL, 0}), 0);
    for (unsigned bit = 0; bit < SECRET_BYTES * 8; bit++) {
        secret[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(proof_of_resume(key, 7, (struct bytes){secret, SECRET_BYTES}), proof);
        secret[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    key[1]++;
    assert_int_not_equal(proof_of_resume(key, 7, (struct bytes){secret, SECRET_BYTES}), proof);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_first_frame_has_its_decision),
        cmocka_unit_test(a_name_may_have_64_bytes),
        cmocka_unit_test(the_frame_is_read_for_the_caller),
        cmocka_unit_test(only_the_secret_of_that_epoch_proves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
