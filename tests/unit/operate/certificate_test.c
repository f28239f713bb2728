/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/certificate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* When a certificate is due, at the second; how it is read is net's, that it is told
 * 16-certificate's. */

enum { DAY = 86400, BEGINS = 1700000000 };

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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(at_the_second),
                                       cmocka_unit_test(the_life_is_that_of_the_one_that_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
