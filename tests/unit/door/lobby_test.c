/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/mman.h>
#include <unistd.h>

#include "actors/proof.h"
#include "door_stand.h"

/* Connections without a user, when nobody judges their logins: who comes to his user, what the
 * others are told, and what is left of it in the log. */

enum { TEXT_BYTES = 4096 };

static void two_users(struct options *options)
{
    options->limits_users = 2;
}

static void seldom(struct options *options)
{
    options->limits_logins_per_minute_per_user = 1;
}

static void a_login_comes_to_its_user(void **state)
{
    struct stand *stand = stand_make(true, NULL);
    stand->net.address = "192.0.2.7:4711";
    stand->net.listener = LISTENER_tls;
    give_token(stand, 1, "anna", "whatever");
    hall_run(&stand->hall);
    expect_attached(stand, 1);
    const struct attach_message *attach = attach_of(stand, 1);
    assert_int_equal(attach->id, 7);
    assert_int_equal(attach->token_ends_ms, 0);
    assert_string_equal(attach->user, "anna");
    assert_string_equal(attach->address, "192.0.2.7:4711");
    assert_int_equal(attach->listener, LISTENER_tls);
    assert_int_equal(stand->net.told_count, 0);
    stand_free(stand);
}

/* The place is for users: those who are there log in again. */
static void there_is_room_for_n_users(void **state)
{
    struct stand *stand = stand_make(true, two_users);
    give_token(stand, 1, "anna", "");
    give_token(stand, 2, "berta", "");
    give_token(stand, 3, "carl", "");
    give_token(stand, 4, "anna", "");
    hall_run(&stand->hall);
    expect_attached(stand, 2);
    expect_said(stand, 3, 0, USHER__V1__BROKER_FRAME__BODY_ERROR, USHER__V1__ERROR__CODE__BUSY);
    assert_int_equal(told_times(&stand->net, TOLD_RELEASE, 3), 0); /* it may try again */
    assert_false(hall_knows(&stand->hall, "carl"));
    expect_attached(stand, 4);
    stand_free(stand);
}

static void who_logs_in_too_often_waits(void **state)
{
    struct stand *stand = stand_make(true, seldom);
    stand->net.address = "192.0.2.7:4711";
    give_token(stand, 1, "anna", "");
    give_token(stand, 2, "anna", "");
    expect_said(stand, 2, 0, USHER__V1__BROKER_FRAME__BODY_ERROR,
                USHER__V1__ERROR__CODE__RATE_LIMITED);
    assert_int_equal(hall_metric(&stand->hall, METRIC_logins_refused_rate), 1);
    atomic_fetch_add(&stand->hall.now_ms, 60000);
    give_token(stand, 3, "anna", "");
    hall_run(&stand->hall);
    expect_attached(stand, 3);
    stand_free(stand);
}

/* Nobody could say any more where he came from. */
static void who_has_reset_his_connection_is_gone(void **state)
{
    struct stand *stand = stand_make(true, NULL);
    stand->net.reset = true;
    give_token(stand, 1, "anna", "");
    assert_false(hall_knows(&stand->hall, "anna"));
    assert_int_equal(stand->net.told_count, 0);
    assert_int_equal(hall_metric(&stand->hall, METRIC_frames_stale), 1);
    stand_free(stand);
}

static void give_resume(struct stand *stand, conn_handle conn, const char *user,
                        const uint8_t *secret)
{
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Resume resume = USHER__V1__RESUME__INIT;
    resume.username = (char *)(uintptr_t)user;
    resume.epoch = 3;
    resume.secret = (ProtobufCBinaryData){SECRET_BYTES, (uint8_t *)(uintptr_t)secret};
    frame.id = 7;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_RESUME;
    frame.resume = &resume;
    give_frame(stand, conn, &frame);
}

/* Whoever does not know the secret is answered as if there were nobody. */
static void a_resume_has_to_show_the_secret(void **state)
{
    struct stand *stand = stand_make(true, NULL);
    uint8_t secret[SECRET_BYTES] = "the secret", wrong[SECRET_BYTES] = "the wrong one";
    struct probe *anna = hall_probe(&stand->hall, "anna");
    give_resume(stand, 1, "anna", secret); /* her session has shown nothing yet */
    registry_set_proof(
        stand->hall.registry, anna->self,
        proof_of_resume(stand->proof_key, 3, (struct bytes){secret, sizeof(secret)}));
    give_resume(stand, 2, "anna", wrong);
    give_resume(stand, 3, "nobody", secret);
    for (conn_handle conn = 1; conn <= 3; conn++) {
        expect_said(stand, conn, 0, USHER__V1__BROKER_FRAME__BODY_ERROR,
                    USHER__V1__ERROR__CODE__RESUME_REJECTED);
        assert_int_equal(told_times(&stand->net, TOLD_RELEASE, conn), 0);
    }
    assert_int_equal(hall_run(&stand->hall), 0);
    give_resume(stand, 4, "anna", secret);
    assert_int_equal(hall_run(&stand->hall), 1);
    struct message *resume = probe_take(anna);
    assert_int_equal(resume->kind, MESSAGE_RESUME);
    assert_int_equal(net_owner(&stand->net, 4), anna->self);
    message_destroy(resume);
    stand_free(stand);
}

static int open_log(struct stand *stand)
{
    const struct log_options options = {.fd = memfd_create("log", MFD_CLOEXEC),
                                        .json = true,
                                        .env = stand->hall.env,
                                        .lines_per_second_per_event = UINT32_MAX};
    assert_int_equal(log_open(&stand->log, &options), 0);
    stand->lobby.log = stand->log;
    return options.fd;
}

static void expect_logged(struct stand *stand, int fd, const char *part)
{
    static char text[TEXT_BYTES];
    log_close(stand->log);
    ssize_t size = pread(fd, text, sizeof(text) - 1, 0);
    assert_true(size >= 0);
    text[size] = '\0';
    close(fd);
    if (strstr(text, part) == NULL)
        fail_msg("no \"%s\" in: %s", part, text);
}

static void the_log_says_who_was_refused(void **state)
{
    struct stand *stand = stand_make(true, NULL);
    stand->net.address = "192.0.2.7:4711";
    int fd = open_log(stand);
    give_token(stand, 1, " anna", "");
    expect_logged(stand, fd, "\"reason\":\"name_invalid\",\"address\":\"192.0.2.7:4711\"");
    assert_int_equal(hall_metric(&stand->hall, METRIC_logins_refused_name_invalid), 1);
    expect_refused(stand, 1, USHER__V1__ERROR__CODE__INVALID_NAME,
                   USHER__V1__CLOSE__REASON__AUTH_FAILED);
    stand_free(stand);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_login_comes_to_its_user),
        cmocka_unit_test(there_is_room_for_n_users),
        cmocka_unit_test(who_logs_in_too_often_waits),
        cmocka_unit_test(who_has_reset_his_connection_is_gone),
        cmocka_unit_test(a_resume_has_to_show_the_secret),
        cmocka_unit_test(the_log_says_who_was_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
