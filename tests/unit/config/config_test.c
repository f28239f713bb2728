/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

/* 0: as many as there are. */
static int processors;

/* In the place of the system's: a machine as large as the test wants. */
int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    CPU_ZERO_S(size, set);
    if (processors == 0)
        return syscall(SYS_sched_getaffinity, pid, size, set) < 0 ? -1 : 0;
    for (int i = 0; i < processors; i++)
        CPU_SET_S((size_t)i, size, set);
    return 0;
}

/* A run of config_load and what it said. */
struct run {
    struct options options;
    enum config_action action;
    int result;
    char said[8192];
};

enum { ARGUMENTS_MAX = 16 };

/* The arguments end with NULL. */
static void load(struct run *run, ...)
{
    char *argv[ARGUMENTS_MAX + 2] = {(char *)"usherd"};
    int argc = 1;
    va_list arguments;
    va_start(arguments, run);
    for (char *argument; (argument = va_arg(arguments, char *)) != NULL;) {
        assert_true(argc <= ARGUMENTS_MAX);
        argv[argc++] = argument;
    }
    va_end(arguments);
    memset(run->said, 0, sizeof(run->said));
    FILE *complaints = fmemopen(run->said, sizeof(run->said) - 1, "w");
    run->result = config_load(&run->options, argc, argv, complaints, &run->action);
    fclose(complaints);
}

static void expect_said(const struct run *run, const char *part)
{
    if (strstr(run->said, part) == NULL)
        fail_msg("said \"%s\" without \"%s\"", run->said, part);
}

static char path[64];

static void write_file(const void *data, size_t size)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    fclose(file);
}

static void load_yaml(struct run *run, const char *yaml)
{
    write_file(yaml, strlen(yaml));
    load(run, "--config", path, NULL);
}

static void expect_yaml(const char *yaml, int result, const char *part)
{
    struct run run;
    load_yaml(&run, yaml);
    if (run.result != result)
        fail_msg("%s: result %d, said %s", yaml, run.result, run.said);
    expect_said(&run, part);
    options_fini(&run.options);
}

static void expect_set(const char *setting, int result, const char *part)
{
    struct run run;
    load(&run, "--set", setting, NULL);
    if (run.result != result)
        fail_msg("%s: result %d, said %s", setting, run.result, run.said);
    expect_said(&run, part);
    options_fini(&run.options);
}

static void test_defaults(void **state)
{
    (void)state;
    struct run run;
    load(&run, NULL);
    assert_int_equal(run.result, 0);
    assert_int_equal(run.action, CONFIG_RUN);
    assert_string_equal(run.said, "");
    assert_string_equal(run.options.listen_tcp, "127.0.0.1:7400");
    assert_int_equal(run.options.store_map_bytes, UINT64_C(1) << 30);
    assert_int_equal(run.options.limits_users, 131072);
    assert_int_equal(run.options.log_level, LOG_INFO);
    assert_int_equal(run.options.log_format, LOG_FORMAT_AUTO);
    assert_int_equal(run.options.auth_mode, AUTH_MODE_OPEN);
    assert_false(run.options.auth_allow_open_network);
    /* resolved */
    assert_int_equal(run.options.link_urls.count, 1);
    assert_string_equal(run.options.link_urls.items[0], "ipc://./usher-data/link.sock");
    assert_true(run.options.threads_io >= 1 && run.options.threads_workers >= 1);
    options_fini(&run.options);
    options_fini(&run.options); /* harmless twice */
}

/* What is worked out is in the range of what may be set: the tables of threads have such sizes. */
static void test_threads_of_large_machines(void **state)
{
    (void)state;
    static const struct {
        int processors;
        uint64_t io, workers;
    } machines[] = {{1, 1, 1}, {2, 1, 1}, {6, 3, 3}, {264, 8, 256}, {265, 8, 256}, {1000, 8, 256}};
    for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++) {
        struct run run;
        processors = machines[i].processors;
        load(&run, NULL);
        processors = 0;
        assert_int_equal(run.result, 0);
        assert_int_equal(run.options.threads_io, machines[i].io);
        assert_int_equal(run.options.threads_workers, machines[i].workers);
        options_fini(&run.options);
    }
}

static void test_settings(void **state)
{
    (void)state;
    struct run run;
    load(&run, "--set", "limits.users=5", "--set=log.level=error", "--set",
         "link.urls=ipc:///a,tcp://h:1", "--set", "session.resume_ms=2min", "--set",
         "limits.users=6", "--set", "limits.frame_bytes=64KiB", "--set", "threads.io=3", NULL);
    assert_int_equal(run.result, 0);
    assert_int_equal(run.options.limits_users, 6); /* the later wins */
    assert_int_equal(run.options.log_level, LOG_ERROR);
    assert_int_equal(run.options.link_urls.count, 2);
    assert_string_equal(run.options.link_urls.items[1], "tcp://h:1");
    assert_int_equal(run.options.session_resume_ms, 120000);
    assert_int_equal(run.options.limits_frame_bytes, 65536);
    assert_int_equal(run.options.threads_io, 3);
    options_fini(&run.options);
}

/* Each number at its bounds and one beyond; nothing that is nearly a number. */
static void test_numbers(void **state)
{
    (void)state;
    expect_set("link.frame_bytes=1024", 0, "");
    expect_set("link.frame_bytes=32768", 0, "");
    expect_set("link.frame_bytes=32KiB", 0, "");
    expect_set("link.frame_bytes=1023", 78,
               "--set: link.frame_bytes: wrong value; accepted: a "
               "whole number 1024..32768 (bytes");
    expect_set("link.frame_bytes=32769", 78, "1024..32768");
    expect_set("session.resume_ms=0", 0, "");
    expect_set("session.resume_ms=86400001", 78, "0..86400000");
    static const char *const wrong[] = {
        "",
        " 5",
        "5 ",
        "+5",
        "-5",
        "5x",
        "5.0",
        "0x10",
        "05",
        "1e3",
        "5 s",
        "5KiB",
        "5 ms",
        "5msx",
        "5S",
        "KiB",
        "s",
        "1_0",
        "18446744073709551616",  /* 2^64 */
        "18446744073709551615h", /* the factor overflows */
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        char setting[64];
        snprintf(setting, sizeof(setting), "session.resume_ms=%s", wrong[i]);
        expect_set(setting, 78, "session.resume_ms: wrong value");
    }
    expect_set("limits.users=5s", 78, "limits.users"); /* the suffix of another unit */
}

static void test_words(void **state)
{
    (void)state;
    expect_set("log.level=warn", 0, "");
    expect_set("log.level=war", 78, "accepted: debug, info, warn, error");
    expect_set("log.level=warn|error", 78, "log.level");
    expect_set("log.level=", 78, "log.level");
    expect_set("auth.allow_open_network=off", 0, "");
    expect_set("auth.allow_open_network=maybe", 78, "true or false");
    expect_set("auth.mode=token", 78, "auth.keys_file: empty, and auth.mode is token");
    expect_set("auth.mode=service", 78, "auth.service: no name of a service");
    expect_set("auth.mode=jwt", 78, "open, token, service");
    expect_set("limits.failed_logins_per_source=0", 0, "");
    expect_set("threads.admission=0", 78, "1..16");
    expect_set("threads.admission=17", 78, "1..16");
    expect_set("node.name=", 78, "node.name");
    expect_set("node.name=a\nb", 78, "node.name");
    expect_set("link.urls=ipc:///a,,ipc:///b", 78, "link.urls");
    expect_set("link.urls=ipc:///a,tcp://h:1,ipc:///a", 78, "link.urls");
    expect_set("admin.listen=127.0.0.1:7400", 78, "admin.listen: that of listen.tcp");
    expect_set("listen.tcp=127.0.0.1:7480", 78, "admin.listen: that of listen.tcp");
    expect_set("listen.tls=127.0.0.1:7480", 78, "admin.listen: that of listen.tls");
    expect_set("admin.listen=127.0.0.1:7401", 0, "");
    expect_set("link.urls=tcp://h:1,tcp://h:1", 0, "");
    expect_set("feed.url=ipc://./usher-data/link.sock", 78, "feed.url");
    expect_set("link.urls=ipc:///1,ipc:///2,ipc:///3,ipc:///4,ipc:///5,ipc:///6,ipc:///7,ipc:///8",
               0, "");
    expect_set("link.urls=ipc:///1,ipc:///2,ipc:///3,ipc:///4,ipc:///5,ipc:///6,ipc:///7,ipc:///"
               "8,ipc:///9",
               78, "too many items");
}

static void test_usage(void **state)
{
    (void)state;
    struct run run;
    static const char *const wrong[] = {"--bogus", "file.yaml", "--set", "--config", "-x", ""};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        load(&run, wrong[i], NULL);
        assert_int_equal(run.result, CONFIG_USAGE);
        expect_said(&run, wrong[i]);
        options_fini(&run.options);
    }
    load(&run, "--set", "limits.users", NULL);
    assert_int_equal(run.result, CONFIG_USAGE);
    options_fini(&run.options);
    load(&run, "--port", "7401", NULL);
    expect_said(&run, "--port: unknown argument; options are set by --set KEY=VALUE");
    options_fini(&run.options);
}

/* Who has a line for each item learns what stands between them. */
static void test_a_list_says_how_it_is_divided(void **state)
{
    (void)state;
    expect_set("rooms.classes=a:* join=any\nb:* join=any", 78, "64 items, commas between them");
}

static void test_unknown_keys(void **state)
{
    (void)state;
    expect_set("limits.user=5", 78,
               "--set: limits.user: unknown key; did you mean "
               "limits.users? usherd --help lists all keys");
    expect_set("session.inbox_bytes=5", 78, "did you mean limits.inbox_bytes?");
    expect_set("resume_ms=5", 78, "did you mean session.resume_ms?");
    expect_set("entirely.different=5", 78,
               "entirely.different: unknown key; usherd --help lists all keys");
    expect_set("limits=5", 78, "limits: unknown key");
    char key[400];
    memset(key, 'k', sizeof(key));
    memcpy(key + 300, "=1", 3);
    expect_set(key, 78, "unknown key");
    expect_set("\x1b[2J=1", 78, "?[2J: unknown key");
}

static void test_yaml(void **state)
{
    (void)state;
    struct run run;
    expect_yaml("", 78, "is empty; accepted: a YAML file");
    expect_yaml("#", 0, "");
    load_yaml(&run, "# comment\n"
                    "listen:\n  tcp: \"127.0.0.1:0\"\n"
                    "limits.users: 7\n"
                    "link:\n"
                    "  urls:\n    - ipc:///run/a,b\n    - tcp://127.0.0.1:1\n"
                    "  park_ms: 1s\n"
                    "auth:\n  allow_open_network: yes\n"
                    "node: {name: no}\n"
                    "limits:\n");
    assert_string_equal(run.said, "");
    assert_int_equal(run.result, 0);
    assert_string_equal(run.options.listen_tcp, "127.0.0.1:0");
    assert_int_equal(run.options.limits_users, 7);
    assert_int_equal(run.options.link_urls.count, 2);
    assert_string_equal(run.options.link_urls.items[0], "ipc:///run/a,b");
    assert_int_equal(run.options.link_park_ms, 1000);
    assert_true(run.options.auth_allow_open_network);
    assert_string_equal(run.options.node_name, "no"); /* a word, not a truth */
    options_fini(&run.options);
    expect_yaml("\n", 0, "");
    expect_yaml("# nothing\n", 0, "");
    expect_yaml("link: {urls: ipc:///a}\n", 0, "");
}

/* Where, which key, what is accepted. */
static void test_yaml_faults(void **state)
{
    (void)state;
    char expected[256];
    snprintf(expected, sizeof(expected), "%s:3: limits.users: wrong value; accepted: a whole",
             path);
    expect_yaml("\nlimits:\n  users: none\n", 78, expected);
    snprintf(expected, sizeof(expected),
             "%s:2: limits.usres: unknown key; did you mean "
             "limits.users?",
             path);
    expect_yaml("limits:\n  usres: 5\n", 78, expected);
    snprintf(expected, sizeof(expected), "%s:3: limits.users: given twice", path);
    expect_yaml("limits.users: 5\nlimits:\n  users: 5\n", 78, expected);
    expect_yaml("limits: {users: 5, users: 6}\n", 78, "the other is on line 1");
    expect_yaml("limits: 5\n", 78, "limits: unknown key");
    expect_yaml("limits: {users: [5]}\n", 78, ":1: limits.users: wrong value");
    expect_yaml("limits: {users: {a: 5}}\n", 78, ":1: limits.users: wrong value");
    expect_yaml("limits: {users: }\n", 78, "limits.users: no value");
    expect_yaml("node: {name: \"\"}\n", 78, "node.name: wrong value");
    expect_yaml("link: {urls: [[a]]}\n", 78, "a list in a list");
    expect_yaml("link: {urls: [a, b, c, d, e, f, g, h, i, j, k]}\n", 78, "too many items");
    expect_yaml("limits.users: 1 # one\nlimits.bogus: 1\nlog.level: x\n", 78, ":3: log.level");
}

static void test_yaml_traps(void **state)
{
    (void)state;
    expect_yaml("- a\n- b\n", 78, "not a mapping");
    expect_yaml("word\n", 78, "not a mapping");
    expect_yaml("a: &x 5\n", 78, ":1: an anchor");
    expect_yaml("node: &x\n  name: a\n", 78, "an anchor");
    expect_yaml("link: {urls: &x [a]}\n", 78, "an anchor");
    expect_yaml("limits.users: *x\n", 78, "alias");
    expect_yaml("limits.users: !!int 5\n", 78, "tag");
    expect_yaml("limits: {users: 5\n", 78, "not YAML");
    expect_yaml("limits:\n\tusers: 5\n", 78, "not YAML");
    expect_yaml("limits.users: 5\n---\nlimits.users: 5\n", 78, "a second document");
    expect_yaml("a: {b: {c: {d: 5}}}\n", 78, "nested too deeply");
    expect_yaml("? {a: b}\n: c\n", 78, "not a key");
    expect_yaml("? [a]\n: c\n", 78, "not a key");
    expect_yaml("\"\": 5\n", 78, "not a key");
    expect_yaml("node.name: \"a\\0b\"\n", 78, "NUL");
    expect_yaml("node.name: \"a\\nb\"\n", 78, "wrong value");
    expect_yaml("limits.users: 0x10\n", 78, "wrong value");
    expect_yaml("limits.users: 010\n", 78, "wrong value");
    expect_yaml("\x01\n", 78, "not YAML");
    expect_yaml("\xff\xfe\xff", 78, "");
    char deep[4001];
    memset(deep, '[', sizeof(deep) - 1);
    deep[sizeof(deep) - 1] = '\0';
    expect_yaml(deep, 78, "");
}

static void test_files(void **state)
{
    (void)state;
    struct run run;
    load(&run, "--config", "/", NULL);
    assert_int_equal(run.result, 78);
    expect_said(&run, "/: is a folder");
    options_fini(&run.options);
    load(&run, "--config", "/nonexistent/x.yaml", NULL);
    assert_int_equal(run.result, 78);
    expect_said(&run, "/nonexistent/x.yaml: No such file");
    options_fini(&run.options);
    load(&run, "--config=/proc/self/mem", NULL); /* it opens, and cannot be read */
    assert_int_equal(run.result, 78);
    expect_said(&run, "/proc/self/mem: Input/output error");
    options_fini(&run.options);
    load(&run, "--config=/dev/zero", NULL); /* no size, no end */
    assert_int_equal(run.result, 78);
    expect_said(&run, "too large");
    options_fini(&run.options);

    enum { MIB = 1 << 20 };
    char *text = malloc(MIB + 1);
    memset(text, '#', MIB + 1);
    write_file(text, MIB);
    load(&run, "--config", path, NULL);
    assert_int_equal(run.result, 0);
    options_fini(&run.options);
    write_file(text, MIB + 1);
    load(&run, "--config", path, NULL);
    assert_int_equal(run.result, 78);
    expect_said(&run, "too large");
    options_fini(&run.options);
    free(text);
}

/* The order on the command line decides between files and settings. */
static void test_order(void **state)
{
    (void)state;
    struct run run;
    const char yaml[] = "limits.users: 7\n";
    write_file(yaml, sizeof(yaml) - 1);
    load(&run, "--set", "limits.users=5", "--config", path, NULL);
    assert_int_equal(run.options.limits_users, 7);
    options_fini(&run.options);
    load(&run, "--config", path, "--set", "limits.users=5", NULL);
    assert_int_equal(run.options.limits_users, 5);
    options_fini(&run.options);
}

static void test_open_network(void **state)
{
    (void)state;
    static const char *const loopback[] = {"127.0.0.1:1", "127.9.9.9:65535", "[::1]:0",
                                           "localhost:7400"};
    static const char *const open[] = {
        "0.0.0.0:1",        "[::]:1", "10.0.0.1:1", "example.org:1", "[::ffff:127.0.0.1]:1",
        "localhost.evil:1", "127.1:1"};
    static const char *const wrong[] = {"127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
                                        ":74000",    "::1:7400",   "127.0.0.1:1x",
                                        "[]:1",      ":74"};
    char setting[64];
    for (size_t i = 0; i < sizeof(loopback) / sizeof(*loopback); i++) {
        snprintf(setting, sizeof(setting), "listen.tcp=%s", loopback[i]);
        expect_set(setting, 0, "");
    }
    for (size_t i = 0; i < sizeof(open) / sizeof(*open); i++) {
        snprintf(setting, sizeof(setting), "listen.tcp=%s", open[i]);
        expect_set(setting, 78, "auth.mode: open believes every name");
        struct run run;
        load(&run, "--set", setting, "--set", "auth.allow_open_network=true", NULL);
        assert_int_equal(run.result, 0);
        options_fini(&run.options);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        snprintf(setting, sizeof(setting), "listen.tcp=%s", wrong[i]);
        expect_set(setting, 78, "listen.tcp");
    }
}

static void expect_tls(const char *one, const char *two, const char *three, int result,
                       const char *said)
{
    struct run run;
    load(&run, "--set", one, "--set", two, "--set", three, NULL);
    assert_int_equal(run.result, result);
    if (strstr(run.said, said) == NULL)
        fail_msg("'%s' is not in '%s'", said, run.said);
    options_fini(&run.options);
}

/* Who may see everybody is as much a secret as who anybody is. */
static void test_open_friends(void **state)
{
    (void)state;
    static const char *const places[] = {"listen.tcp=0.0.0.0:1", "proxy.from=127.0.0.1",
                                         "ws.forwarded_from=::1"};
    static const char *const says[] = {"friends.mode: open shows everybody to everybody",
                                       "proxy.from: it is set, and friends.mode is open",
                                       "ws.forwarded_from: it is set, and friends.mode is open"};
    expect_tls("listen.tcp=127.0.0.1:1", "auth.mode=service", "friends.mode=open", 78,
               "auth.service"); /* of itself it is allowed there */
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        expect_tls(places[i], "auth.mode=token", "friends.mode=open", 78, says[i]);
        struct run run;
        load(&run, "--set", places[i], "--set", "friends.mode=open", "--set",
             "auth.allow_open_network=true", NULL);
        assert_int_equal(run.result, 0);
        options_fini(&run.options);
    }
}

/* Nobody is asked about a Watch where nobody is named. */
static void test_friends_service(void **state)
{
    (void)state;
    static const char *const bad[] = {"friends.service=", "friends.service=a b"};
    struct run run;
    for (size_t i = 0; i < 2; i++) {
        load(&run, "--set", "friends.mode=service", "--set", bad[i], NULL);
        assert_int_equal(run.result, 78);
        assert_non_null(strstr(run.said, "friends.service: no name of a service"));
        options_fini(&run.options);
    }
    load(&run, "--set", "friends.mode=service", "--set", "friends.service=people", NULL);
    assert_int_equal(run.result, 0);
    options_fini(&run.options);
}

static void test_tls(void **state)
{
    (void)state;
    const char *certificate = "tls.certificate_file=/c.pem";
    const char *key = "tls.key_file=/k.pem";
    expect_tls("listen.tls=127.0.0.1:7401", certificate, key, 0, "");
    expect_tls("listen.tls=[::1]:0", certificate, key, 0, "");
    expect_tls("listen.tls=127.0.0.1:7401", certificate, "tls.key_file=", 78,
               "tls.key_file: missing");
    expect_tls("listen.tls=127.0.0.1:7401", "tls.certificate_file=", key, 78,
               "tls.certificate_file: missing");
    expect_tls("listen.tls=7401", certificate, key, 78, "listen.tls: not an address");
    expect_tls("listen.tls=0.0.0.0:7401", certificate, key, 78, "auth.mode: open");
    /* One of the two must be there. */
    expect_set("listen.tcp=", 78, "listen.tcp: not an address");
    struct run run;
    load(&run, "--set", "listen.tcp=", "--set", "listen.tls=127.0.0.1:1", "--set", certificate,
         "--set", key, NULL);
    assert_int_equal(run.result, 0);
    options_fini(&run.options);
}

static void test_urls(void **state)
{
    (void)state;
    expect_set("link.urls=http://a", 78, "link.urls: 'http://a' is not a URL");
    expect_set("link.urls=ipc://", 78, "link.urls");
    expect_set("link.urls=tcp://127.0.0.1", 78, "link.urls");
    expect_set("feed.url=nonsense", 78, "feed.url");
    expect_set("feed.url=tcp://127.0.0.1:7402", 0, "");
    expect_set("admin.listen=127.0.0.1:1", 0, "");
    expect_set("admin.listen=[::1]:1", 0, "");
    expect_set("admin.listen=", 0, "");
    expect_set("admin.listen=1", 78, "admin.listen");
    expect_set("admin.listen=0.0.0.0:7480", 78, "admin.token_file");
    expect_set("admin.connections=3", 78, "admin.connections");
    expect_set("limits.call_timeout_ms=60001", 78, "limits.call_timeout_ms");
    char setting[300] = "store.path=/";
    size_t size = strlen(setting);
    memset(setting + size, 'x', 96); /* + "/" + "/link.sock" = 107 bytes, the most there may be */
    expect_set(setting, 0, "");
    setting[size + 96] = 'x';
    expect_set(setting, 78, "store.path is too long");
}

static void test_check_only(void **state)
{
    (void)state;
    struct run run;
    load(&run, "--check-config", "--set", "limits.users=5", NULL);
    assert_int_equal(run.result, 0);
    assert_int_equal(run.action, CONFIG_CHECK);
    options_fini(&run.options);
    load(&run, "--check-config", "--set", "limits.users=0", NULL);
    assert_int_equal(run.result, 78);
    options_fini(&run.options);
    load(&run, "--check-config", "--set", "rooms.classes=match:* join=any, lobby tick=50ms", NULL);
    assert_int_equal(run.result, 0);
    assert_int_equal(run.options.rooms_classes.count, 2);
    options_fini(&run.options);
    load(&run, "--check-config", "--set", "rooms.classes=match:* join=any, lobby tick=50", NULL);
    assert_int_equal(run.result, 78);
    expect_said(&run, "rooms.classes: class lobby: 'tick=50' is not one");
    options_fini(&run.options);
}

/* What is printed as a configuration is one, and changes nothing. */
static void test_printed_config_is_valid(void **state)
{
    (void)state;
    FILE *file = fopen(path, "w");
    config_print_yaml(file);
    fclose(file);
    struct run printed;
    struct run plain;
    load(&printed, "--config", path, NULL);
    load(&plain, NULL);
    assert_string_equal(printed.said, "");
    assert_int_equal(printed.result, 0);
#define SAME_BOOL(field) assert_int_equal(printed.options.field, plain.options.field)
#define SAME_UNSIGNED(field) SAME_BOOL(field)
#define SAME_ENUM(field) SAME_BOOL(field)
#define SAME_TEXT(field) assert_string_equal(printed.options.field, plain.options.field)
#define SAME_TEXT_LIST(field) SAME_BOOL(field.count)
#define OPTION(field, key, type, holds, default_text, min, max, unit, help) SAME_##type(field);
#include "base/options.def"
#undef OPTION
    options_fini(&printed.options);
    options_fini(&plain.options);
}

/* Every option has its place in the help and in the table. */
static void test_printed_tables(void **state)
{
    (void)state;
    char *help = NULL;
    char *table = NULL;
    size_t size;
    FILE *to = open_memstream(&help, &size);
    config_print_help(to);
    fclose(to);
    assert_non_null(strstr(help, " node.name (default usher-1): a text of 1..64 bytes\n"));
    assert_null(strstr(help, "\n       ")); /* broken lines begin where the first one does */
    to = open_memstream(&table, &size);
    config_print_markdown(to);
    fclose(to);
#define OPTION(field, key, type, holds, default_text, min, max, unit, text) \
    assert_non_null(strstr(help, "  " key " (default "));                   \
    assert_non_null(strstr(table, "| `" key "` | "));
#include "base/options.def"
#undef OPTION
    free(help);
    free(table);
}

/* What a reload finds: each kind of option, in the words of a user. */
static void test_what_differs(void **state)
{
    (void)state;
    static struct option_change changes[OPTION_CHANGES_MAX];
    struct run one;
    struct run other;
    load_yaml(&one, "link: {urls: [ipc:///a, ipc:///b]}\nnode.name: one\nlimits.users: 5\n"
                    "log: {level: info, format: text}\n");
    load_yaml(&other, "link: {urls: [ipc:///a, ipc:///c]}\nnode.name: two\nlimits.users: 6\n"
                      "log: {level: warn, format: text}\n");
    assert_int_equal(one.result + other.result, 0);
    assert_int_equal(config_compare(&one.options, &one.options, changes), 0);
    static const struct option_change expected[] = {
        {.option = "node.name", .restart = true, .from = "one", .to = "two"},
        {.option = "link.urls",
         .restart = true,
         .from = "ipc:///a,ipc:///b",
         .to = "ipc:///a,ipc:///c"},
        {.option = "limits.users", .restart = true, .from = "5", .to = "6"},
        {.option = "log.level", .from = "info", .to = "warn"},
    };
    const size_t count = sizeof(expected) / sizeof(expected[0]);
    assert_int_equal(config_compare(&one.options, &other.options, changes), count);
    for (size_t i = 0; i < count; i++) {
        size_t at = 0;
        while (at < count && strcmp(changes[at].option, expected[i].option) != 0)
            at++;
        assert_true(at < count);
        assert_int_equal(changes[at].restart, expected[i].restart);
        assert_string_equal(changes[at].from, expected[i].from);
        assert_string_equal(changes[at].to, expected[i].to);
    }
    options_fini(&one.options);
    options_fini(&other.options);
}

static const char *key_at(size_t offset)
{
#define OPTION(field, key, type, holds, default_text, min, max, unit, help) \
    if (offsetof(struct options, field) == offset)                          \
        return key;
#include "base/options.def"
#undef OPTION
    return "";
}

enum compared { AT_MOST, LESS, ZERO_TOO };

static bool compare(uint64_t option, enum compared how, uint64_t other)
{
    return how == LESS      ? option < other
           : how == AT_MOST ? option <= other
                            : option > 0 || other == 0;
}

/* The row about these two is there exactly when it does not hold. */
static void expect_conflict(const struct options *options, bool holds, const char *key,
                            const char *other_key, enum compared how, bool refused)
{
    static const char *const words[] = {"at most", "less than", "0 only with"};
    struct option_conflict conflicts[OPTION_CONFLICTS_MAX];
    size_t count = config_conflicts(options, conflicts);
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(conflicts[i].option, key) != 0 || strcmp(conflicts[i].other, other_key) != 0 ||
            strstr(conflicts[i].text, words[how]) == NULL)
            continue;
        found = true;
        assert_int_equal(conflicts[i].refused, refused);
        assert_non_null(strstr(conflicts[i].text, other_key));
        assert_true(strlen(conflicts[i].text) < OPTION_CONFLICT_BYTES - 1);
    }
    assert_int_equal(found, !holds);
}

/* One row of relations.def at its boundary and one on either side, whatever else that makes odd. */
static void expect_relation(struct options *options, uint64_t *option, uint64_t factor,
                            enum compared how, uint64_t *other, const char *key,
                            const char *other_key, bool refused)
{
    unsigned held = 0;
    for (uint64_t at = 0; at < 3; at++) {
        *other = how == ZERO_TOO ? at % 2 : 1000000;
        *option = how == ZERO_TOO ? at / 2 : *other / factor + at - 1;
        bool holds = compare(*option * factor, how, *other);
        expect_conflict(options, holds, key, other_key, how, refused);
        held += holds;
    }
    assert_int_equal(held, how == LESS ? 1 : 2);
}

/* What one option has to be beside another one: each row, and that the defaults keep all. */
static void test_relations(void **state)
{
    (void)state;
    enum { TOLD = false, REFUSED = true };
    struct option_conflict conflicts[OPTION_CONFLICTS_MAX];
    struct options options;
    assert_int_equal(options_init(&options), 0);
    assert_int_equal(config_conflicts(&options, conflicts), 0);
    options_fini(&options);
#define RELATION(kind, field, factor, comparison, other, when, why)               \
    assert_int_equal(options_init(&options), 0);                                  \
    options.auth_mode = AUTH_MODE_SERVICE;                                        \
    expect_relation(&options, &options.field, factor, comparison, &options.other, \
                    key_at(offsetof(struct options, field)),                      \
                    key_at(offsetof(struct options, other)), kind);               \
    options_fini(&options);
#include "config/relations.def"
#undef RELATION
}

/* 0 is no limit, and what concerns a service concerns nobody without one. */
static void test_relations_that_do_not_matter(void **state)
{
    (void)state;
    expect_set("limits.memory_bytes=0", 0, "");
    expect_set("limits.memory_bytes=65536", 0, "");
    expect_set("limits.memory_bytes=65535", 78,
               "configuration: limits.frame_bytes: 65536, and limits.memory_bytes is 65535: ");
    expect_set("limits.memory_bytes=65535", 78,
               "accepted: limits.frame_bytes at most limits.memory_bytes");
    expect_set("auth.deadline_ms=3000", 0, "");
    expect_set("link.mail_bytes=16384", 0, "");
    expect_set("link.mail_bytes=16383", 78,
               "link.frame_bytes: 16384, and link.mail_bytes is 16383");
    struct run run;
    load(&run, "--check-config", "--set", "limits.prelogin_connections=32", NULL);
    assert_int_equal(run.result, 0);
    expect_said(&run,
                "note: limits.prelogin_per_source: 32, and limits.prelogin_connections is 32");
    options_fini(&run.options);
}

/* How many notes --check-config has with both settings ("": only one). */
static unsigned notes_with(const char *setting, const char *beside, const char *said)
{
    unsigned notes = 0;
    struct run run;
    if (beside[0] != '\0')
        load(&run, "--check-config", "--set", setting, "--set", beside, NULL);
    else
        load(&run, "--check-config", "--set", setting, NULL);
    assert_int_equal(run.result, 0);
    for (const char *at = run.said; (at = strstr(at, "note: ")) != NULL; at++)
        notes++;
    if (notes > 0)
        expect_said(&run, said);
    options_fini(&run.options);
    return notes;
}

/* What is no prefix is named with its option; and nobody is open to whom a proxy brings without
 * having said so. */
static void test_proxies(void **state)
{
    (void)state;
    static const char *const wrong[] = {"10.0.0", "10.0.0.1/8", "proxy", "10.0.0.0/8, ::1"};
    char setting[64];
    struct run run;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        snprintf(setting, sizeof(setting), "proxy.from=192.0.2.1,%s", wrong[i]);
        expect_set(setting, 78, "proxy.from: '");
    }
    expect_set("proxy.from=192.0.2.1,", 78, "proxy.from: wrong value");
    expect_set("ws.forwarded_from=10.0.0.1/8", 78, "ws.forwarded_from: '10.0.0.1/8'");
    expect_set("ws.forwarded_from=::1", 78, "ws.forwarded_from: it is set, and auth.mode is open");
    expect_set("proxy.from=127.0.0.1", 78, "proxy.from: it is set, and auth.mode is open");
    load(&run, "--set", "proxy.from=127.0.0.1,10.0.0.0/8,2001:db8::/32", "--set",
         "auth.allow_open_network=true", NULL);
    assert_int_equal(run.result, 0);
    assert_int_equal(run.options.proxy_from.count, 3);
    options_fini(&run.options);
    load(&run, "--set", "proxy.from=127.0.0.1", "--set", "auth.mode=token", "--set",
         "auth.keys_file=/keys", NULL);
    assert_int_equal(run.result, 0);
    options_fini(&run.options);
}

/* A list of so many items, as an argument of --set and as YAML. */
static void expect_list(const char *key, const char *item, unsigned count, int result,
                        const char *said)
{
    char setting[4096], yaml[4096];
    int at = snprintf(setting, sizeof(setting), "%s=%s", key, item);
    int in = snprintf(yaml, sizeof(yaml), "auth.allow_open_network: true\n%s: [%s", key, item);
    for (unsigned i = 1; i < count; i++) {
        at += snprintf(setting + at, sizeof(setting) - (size_t)at, ",%s", item);
        in += snprintf(yaml + in, sizeof(yaml) - (size_t)in, ", %s", item);
    }
    snprintf(yaml + in, sizeof(yaml) - (size_t)in, "]\n");
    expect_yaml(yaml, result, said);
    if (strcmp(key, "ws.origins") == 0 || result != 0)
        expect_set(setting, result, said);
}

/* What a content network publishes fits: 22 prefixes, and more. */
static void test_lists_hold_n_items(void **state)
{
    (void)state;
    static const char many[] = "up to 64 items", few[] = "up to 8 items";
    expect_list("proxy.from", "192.0.2.0/24", 64, 0, "");
    expect_list("proxy.from", "192.0.2.0/24", 65, 78, many);
    expect_list("ws.forwarded_from", "192.0.2.0/24", 64, 0, "");
    expect_list("ws.forwarded_from", "192.0.2.0/24", 65, 78, many);
    expect_list("ws.origins", "https://game.example", 64, 0, "");
    expect_list("ws.origins", "https://game.example", 65, 78, many);
    expect_list("ws.origins", "https://game.example", 100, 78, many);
    expect_list("link.urls", "tcp://h:1", 8, 0, "");
    expect_list("link.urls", "tcp://h:1", 9, 78, few);
}

/* What is too long for a report is cut, and says so. */
static void test_long_values_are_cut(void **state)
{
    (void)state;
    static struct option_change changes[OPTION_CHANGES_MAX];
    const struct {
        size_t first, last;
        const char *end;
    } rows[] = {{63, 63, "b"}, {64, 62, "b"}, {64, 63, "..."}, {100, 100, "..."}, {127, 0, "a"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char yaml[512];
        struct run none, run;
        int at = snprintf(yaml, sizeof(yaml), "ws.origins: ['http://%s", "");
        memset(yaml + at, 'a', rows[i].first - 7);
        at += (int)rows[i].first - 7;
        at += snprintf(yaml + at, sizeof(yaml) - (size_t)at, "'");
        if (rows[i].last > 0) {
            at += snprintf(yaml + at, sizeof(yaml) - (size_t)at, ", 'http://");
            memset(yaml + at, 'b', rows[i].last - 7);
            at += (int)rows[i].last - 7;
            at += snprintf(yaml + at, sizeof(yaml) - (size_t)at, "'");
        }
        snprintf(yaml + at, sizeof(yaml) - (size_t)at, "]\n");
        load_yaml(&run, yaml);
        load_yaml(&none, "\n");
        assert_int_equal(run.result + none.result, 0);
        assert_int_equal(config_compare(&none.options, &run.options, changes), 1);
        size_t size = strlen(changes[0].to), end = strlen(rows[i].end);
        assert_true(size < OPTION_TEXT_BYTES);
        assert_string_equal(changes[0].to + size - end, rows[i].end);
        options_fini(&run.options);
        options_fini(&none.options);
    }
}

/* What nobody can ask for shut everybody out, and the start said nothing. */
static void test_what_no_browser_says(void **state)
{
    (void)state;
    static const char *const paths[] = {"usher", "/health", "/a b", "/\xc3\xa4", "/x?y", "/x#y"};
    static const char *const origins[] = {
        "game.example",         "https://game.example/",    "*",           "https://*.example",
        "https://Game.example", "https://game.example:443", "http://a:80", "https://",
    };
    static const char good[] =
        "ws.origins=https://game.example,http://localhost:8080,http://[::1]:443,"
        "https://a:80,null,file://,app://localhost,http://127.0.0.1";
    char setting[64];
    struct run run;
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        snprintf(setting, sizeof(setting), "ws.path=%s", paths[i]);
        expect_set(setting, 78, "ws.path: no path");
    }
    for (size_t i = 0; i < sizeof(origins) / sizeof(*origins); i++) {
        snprintf(setting, sizeof(setting), "ws.origins=http://a,%s", origins[i]);
        expect_set(setting, 78, "is nothing that a browser says");
    }
    load(&run, "--set", "ws.path=/", "--set", good, NULL);
    assert_int_equal(run.result, 0);
    assert_int_equal(run.options.ws_origins.count, 8);
    options_fini(&run.options);
}

/* What is set and does nothing: told, unless the other option makes it do something. */
static void test_what_does_nothing(void **state)
{
    (void)state;
    const struct {
        const char *setting, *without, *with, *said;
    } rows[] = {
        {"auth.keys_file=/k", "", "auth.mode=token",
         "note: auth.keys_file: it is set, and auth.mode is open: "},
        {"auth.keys_file=/k", "auth.allow_open_network=true", "auth.mode=token",
         "auth.mode is open"},
        {"auth.issuer=me", "", "", "auth.issuer"},
        {"auth.audience=me", "", "", "auth.audience"},
        {"auth.service=door", "", "auth.mode=service", "note: auth.service: "},
        {"tls.client_ca_file=/c", "", "", "listen.tls is empty: no client has to show"},
        {"tls.certificate_file=/c", "", "", "listen.tls is empty: nobody is served by TLS"},
        {"admin.token_file=/t", "admin.listen=", "", "admin.listen is empty"},
        {"admin.view_token_file=/t", "admin.listen=", "", "admin.listen is empty"},
        {"link.socket_group=1", "link.socket_mode=0600", "link.socket_mode=0660",
         "socket_mode is 0600"},
        {"friends.service=people", "", "friends.mode=service", "note: friends.service: "},
        {"friends.service=people", "friends.mode=backend", "", "friends.mode is backend"},
        {"rooms.classes=a:* create=token join=any", "", "",
         "note: rooms.classes: a class says token, and auth.mode is open"},
        {"rooms.classes=a:* create=client join=token", "", "", "nobody has the claim"},
        {"rooms.classes=a:* create=client webhook=yes", "", "", "posted to nobody"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(notes_with(rows[i].setting, rows[i].without, rows[i].said), 1);
        if (rows[i].with[0] != '\0')
            assert_int_equal(notes_with(rows[i].setting, rows[i].with, ""), 0);
    }
    assert_int_equal(notes_with("admin.token_file=/t", "", ""), 0);
    assert_int_equal(notes_with("rooms.classes=a:* create=client join=any", "", ""), 0);
    /* One mode or the other: neither looks at what the third one needs. */
    struct option_conflict conflicts[OPTION_CONFLICTS_MAX];
    struct options options;
    assert_int_equal(options_init(&options), 0);
    options.auth_mode = AUTH_MODE_SERVICE;
    free(options.auth_keys_file);
    options.auth_keys_file = strdup("/k");
    assert_int_equal(config_conflicts(&options, conflicts), 1);
    assert_string_equal(conflicts[0].option, "auth.keys_file");
    assert_false(conflicts[0].refused);
    options_fini(&options);
}

static int set_up(void **state)
{
    (void)state;
    strcpy(path, "/tmp/usher-config-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_threads_of_large_machines),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_a_list_says_how_it_is_divided),
        cmocka_unit_test(test_unknown_keys),
        cmocka_unit_test(test_yaml),
        cmocka_unit_test(test_yaml_faults),
        cmocka_unit_test(test_yaml_traps),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_open_network),
        cmocka_unit_test(test_open_friends),
        cmocka_unit_test(test_friends_service),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_proxies),
        cmocka_unit_test(test_what_no_browser_says),
        cmocka_unit_test(test_lists_hold_n_items),
        cmocka_unit_test(test_long_values_are_cut),
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_check_only),
        cmocka_unit_test(test_printed_config_is_valid),
        cmocka_unit_test(test_printed_tables),
        cmocka_unit_test(test_what_differs),
        cmocka_unit_test(test_relations),
        cmocka_unit_test(test_relations_that_do_not_matter),
        cmocka_unit_test(test_what_does_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
