/* SPDX-License-Identifier: Apache-2.0 */
#include "broken.h"
#include "door_stand.h"
#include "token_make.h"

/* What the door's headers promise of their callers, broken on purpose. */

static void by_token(struct options *options)
{
    options->auth_mode = AUTH_MODE_TOKEN;
}

static int set_up(void **state)
{
    *state = stand_make(true, by_token);
    return 0;
}

static int tear_down(void **state)
{
    stand_free(*state);
    return 0;
}

/* --- what breaks a promise -------------------------------------------------------------------- */

static void speak_while_judged(void *argument)
{
    struct stand *stand = argument;
    give_token(stand, 1, "anna", "");
    give_token(stand, 1, "anna", "");
}

static void take_the_verdicts_of_another(void *argument)
{
    struct stand *stand = argument;
    (void)admission_verdicts(stand->admission, 1);
}

static void submit_for_nobody(void *argument)
{
    struct stand *stand = argument;
    struct attach_message *attach = message_create(MESSAGE_ATTACH, sizeof(*attach));
    memset(attach->address, 0, sizeof(attach->address));
    struct login_job *job = admission_job_create(7, attach, (struct bytes){0});
    (void)admission_submit(stand->admission, job);
}

static void start_without_keys(void *argument)
{
    (void)admission_start(((struct stand *)argument)->admission);
}

static void start_twice(void *argument)
{
    struct stand *stand = argument;
    char error[KEYRING_ERROR_BYTES];
    struct keyring *keyring;
    if (keyring_read(&keyring, bytes_of_text(TOKEN_KEYS), error) != 0)
        return;
    admission_set_keys(stand->admission, keyring);
    (void)admission_start(stand->admission);
    (void)admission_start(stand->admission);
}

static void take_a_login_of_nobody(void *argument)
{
    struct stand *stand = argument;
    (void)logins_take(stand->logins, (struct bytes){0}, bytes_of_text("10.0.0.1:1"), false);
}

static void attach_nobody(void *argument)
{
    struct stand *stand = argument;
    struct attach_message *attach = message_create(MESSAGE_ATTACH, sizeof(*attach));
    attach->user[0] = '\0';
    lobby_attach(&stand->lobby, &stand->hall.runner, attach);
}

static void promises(void **state)
{
    assert_true(is_broken(speak_while_judged, *state, "net_kept"));
    assert_true(is_broken(take_the_verdicts_of_another, *state, "home <"));
    assert_true(is_broken(submit_for_nobody, *state, "home <"));
    assert_true(is_broken(start_without_keys, *state, "keyring != NULL"));
    assert_true(is_broken(start_twice, *state, "started == 0"));
    assert_true(is_broken(take_a_login_of_nobody, *state, "user.size > 0"));
    assert_true(is_broken(attach_nobody, *state, "attach->user"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(promises, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
