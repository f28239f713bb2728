/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/certificate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* When a certificate is due, at the second, and when it is told; how it is read is net's, with
 * which words it is told 16-certificate's. */

enum { DAY = 86400, BEGINS = 1700000000 };

/* --- in place of net/ and the clock ----------------------------------------------------------- */

static struct net_validity in_use;
static bool has_one;
static int64_t now_s;

bool net_certificate_validity(struct net *net, struct net_validity *validity)
{
    *validity = in_use;
    return has_one;
}

static uint64_t monotonic_ns(void *context)
{
    return 0;
}

static uint64_t wall_ms(void *context)
{
    return (uint64_t)now_s * 1000;
}

/* --- when it is due --------------------------------------------------------------------------- */

static void at_the_second(void **state)
{
    static const struct {
        int64_t life_s, at_s;
        enum certificate_state wanted;
    } rows[] = {
        {90 * DAY, -1, CERTIFICATE_NOT_YET},
        {90 * DAY, 0, CERTIFICATE_FINE},
        {90 * DAY, 76 * DAY - 1, CERTIFICATE_FINE}, /* two weeks before */
        {90 * DAY, 76 * DAY, CERTIFICATE_NEAR},
        {90 * DAY, 90 * DAY - 1, CERTIFICATE_NEAR},
        {90 * DAY, 90 * DAY, CERTIFICATE_EXPIRED},
        {90 * DAY, 5000 * DAY, CERTIFICATE_EXPIRED},
        {6 * DAY, 4 * DAY - 1, CERTIFICATE_FINE}, /* the last third of a short life */
        {6 * DAY, 4 * DAY, CERTIFICATE_NEAR},
        {42 * DAY, 28 * DAY - 1, CERTIFICATE_FINE}, /* where both rules meet */
        {42 * DAY, 28 * DAY, CERTIFICATE_NEAR},
        {0, 0, CERTIFICATE_EXPIRED},
        {-5, -1, CERTIFICATE_EXPIRED}, /* it ends before it begins */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct net_validity validity = {BEGINS, BEGINS + rows[i].life_s,
                                        rows[i].life_s > 0 ? rows[i].life_s : 0};
        if (certificate_judge(&validity, BEGINS + rows[i].at_s) != rows[i].wanted)
            fail_msg("row %zu", i);
    }
}

/* The signer's certificate may be much younger, or older, than the one that ends first. */
static void the_life_is_that_of_the_one_that_ends(void **state)
{
    struct net_validity validity = {BEGINS + 80 * DAY, BEGINS + 90 * DAY, 90 * DAY};
    assert_int_equal(certificate_judge(&validity, BEGINS + 81 * DAY), CERTIFICATE_NEAR);
    validity.life_s = 9 * DAY;
    assert_int_equal(certificate_judge(&validity, BEGINS + 81 * DAY), CERTIFICATE_FINE);
}

/* --- when it is told -------------------------------------------------------------------------- */

static bool count_line(void *context, const char *line, size_t size)
{
    ++*(unsigned *)context;
    return true;
}

/* Lines since the last time. */
static unsigned lines_of(struct log *log)
{
    static uint64_t read;
    unsigned count = 0;
    read = recorder_read(log_recorder(log), read, NULL, count_line, &count);
    return count;
}

static void each_state_once_and_then_each_day(void **state)
{
    const struct env env = {.monotonic_ns = monotonic_ns, .wall_ms = wall_ms};
    struct log *log;
    struct recorder *recorder = recorder_create(65536);
    const struct log_options options = {
        .level = LOG_ERROR, .fd = -1, .env = env_system(), .recorder = recorder};
    assert_int_equal(log_open(&log, &options), 0);
    struct certificate certificate = {.env = &env, .log = log, .lock = LOCK_INITIALIZER};
    assert_int_equal(certificate_watch(&certificate), 0); /* without TLS nobody asks again */
    has_one = true;
    in_use = (struct net_validity){BEGINS, BEGINS + 90 * DAY, 90 * DAY};
    now_s = BEGINS + DAY;
    assert_true(certificate_watch(&certificate) > 0);
    assert_int_equal(lines_of(log), 0); /* it is fine */
    now_s = BEGINS + 77 * DAY;
    certificate_watch(&certificate);
    certificate_watch(&certificate);
    assert_int_equal(lines_of(log), 1);
    certificate_tell(&certificate, true);
    assert_int_equal(lines_of(log), 1);
    now_s += DAY - 1;
    certificate_watch(&certificate);
    assert_int_equal(lines_of(log), 0);
    now_s += 1;
    certificate_watch(&certificate);
    assert_int_equal(lines_of(log), 1);
    now_s -= 10; /* the clock was set */
    certificate_watch(&certificate);
    assert_int_equal(lines_of(log), 1);
    in_use.ends_s = now_s; /* another one, on the same day */
    certificate_watch(&certificate);
    assert_int_equal(lines_of(log), 1);
    log_close(log);
    recorder_destroy(recorder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(at_the_second),
                                       cmocka_unit_test(the_life_is_that_of_the_one_that_ends),
                                       cmocka_unit_test(each_state_once_and_then_each_day)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
