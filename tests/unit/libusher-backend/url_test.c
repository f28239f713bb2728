/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher-backend/url.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "usher_backend.h"

static const char *const GOOD[] = {
    "ipc:///run/usher/link.sock",     "ipc://./link.sock",
    "ipc:///a b/with#and@and:0",      "tcp://127.0.0.1:1",
    "tcp://node-1.example.org:65535", "tcp://a_b:7410",
    "tcp://localhost:007410",         "tcp://[::1]:7410",
    "tcp://[fe80::1%eth0]:7410",      "tcp://[::ffff:1.2.3.4]:7410",
};

static const char *const BAD[] = {
    "",
    "no-url",
    "http:///usher",
    "http://localhost:7410",
    "tcp6://localhost:7410",
    "TCP://localhost:7410",
    " tcp://localhost:7410",
    "ipc://",
    "ipc:/run/link.sock",
    "tcp://",
    "tcp://:7410",
    "tcp:///usher",
    "tcp://localhost",
    "tcp://localhost:",
    "tcp://localhost:0",
    "tcp://localhost:000",
    "tcp://localhost:65536",
    "tcp://localhost:72946", /* 65536 and 7410 */
    "tcp://localhost:4294974706",
    "tcp://localhost:18446744073709559026",
    "tcp://localhost:-1",
    "tcp://localhost:+7410",
    "tcp://localhost: 7410",
    "tcp://localhost:7410 ",
    "tcp://localhost:7410/",
    "tcp://localhost:7410#top",
    "tcp://localhost:7410?x",
    "tcp://localhost:7410x",
    "tcp://localhost#top:7410",
    "tcp://local host:7410",
    "tcp://localhost\n:7410",
    "tcp://h\xc3\xa4:7410",
    "tcp://me@localhost:7410",
    "tcp://me:7410@localhost",
    "tcp://me:secret@localhost:7410",
    "tcp://::1:7410",
    "tcp://[]:7410",
    "tcp://[::1]",
    "tcp://[::1:7410",
    "tcp://[::1]7410",
    "tcp://[::1%]]:7410",
    "tcp://[host]:7410",
};

/* Only what is bad is refused, and by the library as by the function. */
static void urls_are_judged(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(GOOD) / sizeof(*GOOD); i++)
        if (!link_url_is_good(GOOD[i]))
            fail_msg("%s was refused", GOOD[i]);
    for (size_t i = 0; i < sizeof(BAD) / sizeof(*BAD); i++) {
        const char *urls[] = {"ipc:///nowhere", BAD[i]};
        struct usher_backend_options options = {.urls = urls, .url_count = 2};
        struct usher_backend *backend;
        if (link_url_is_good(BAD[i]))
            fail_msg("%s was taken", BAD[i]);
        assert_int_equal(usher_backend_open(&backend, &options), -EINVAL);
    }
}

/* n and n + 1: a socket's path has 107 bytes, any URL 255. */
static void lengths_end(void **state)
{
    char url[512];
    (void)state;
    for (int more = 0; more < 2; more++) {
        snprintf(url, sizeof(url), "ipc://%0*d", 107 + more, 1);
        assert_int_equal(link_url_is_good(url), !more);
        snprintf(url, sizeof(url), "tcp://%0*d:7410", 255 - 11 + more, 1);
        assert_int_equal(link_url_is_good(url), !more);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_judged),
        cmocka_unit_test(lengths_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
