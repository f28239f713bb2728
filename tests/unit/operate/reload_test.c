/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/reload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/net.h"

/* A file with another value in every row that may change: after a reload each of them is what the
 * layers read, and no number that is of the start. Which rows there are comes from the table, so a
 * new one needs no line here. What each does to clients is 93-reload's. */

/* --- in place of net/ ------------------------------------------------------------------------ */

static int certificates; /* what becomes of them: the last that can be refused */

int net_reload_tls(struct net *net, const struct net_tls_files *files, char *error)
{
    error[0] = '\0';
    return certificates;
}

bool net_has_certificate(const struct net *net)
{
    return false;
}

int net_check_tls(const struct net_tls_files *files, char *error)
{
    return 0;
}

bool net_certificate_validity(struct net *net, struct net_validity *validity)
{
    return false;
}

static struct net_trust trusted;

void net_set_trust(struct net *net, const struct net_trust *trust)
{
    trusted = *trust;
}

/* --- the numbers ------------------------------------------------------------------------------ */

static const struct {
    const char *key;
    size_t place; /* in struct options */
    uint64_t max;
    limit_reader *read;
    enum option_holds holds;
} rows[] = {
#define ROW(field, key, holds, max) \
    {key, offsetof(struct options, field), max, field, HOLDS_##holds},
#define OPTION(field, key, type, holds, default_text, min, max, unit, help) \
    LIMIT_OF_##type(ROW(field, key, holds, max))
#include "base/options.def"
#undef OPTION
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static uint64_t number_of(const struct options *options, size_t row)
{
    return *(const uint64_t *)((const char *)options + rows[row].place);
}

/* Near the default, so that what the options make of each other still holds. */
static uint64_t another(const struct options *options, size_t row)
{
    uint64_t number = number_of(options, row);
    return number < rows[row].max ? number + 1 : number - 1;
}

/* --- the scene -------------------------------------------------------------------------------- */

struct scene {
    char path[32];
    char *arguments[4];
    struct options options;
    struct limits limits;
    struct passed_sockets passed;
    struct certificate certificate;
    struct link_token *_Atomic link_token;
    struct room_classes *_Atomic room_classes;
    struct reload *reload;
};

/* Those of the start, as the broker does. */
static void make_classes(struct scene *scene)
{
    const struct text_list *items = &scene->options.rooms_classes;
    char error[ROOM_CLASS_ERROR_BYTES];
    struct room_classes *classes;
    assert_int_equal(room_classes_read(items->items, items->count, &classes, error), 0);
    scene->room_classes = classes;
}

/* As the file says. */
static void open_scene(struct scene *scene)
{
    enum config_action action;
    char error[BROKER_ERROR_BYTES] = "";
    assert_int_equal(config_load(&scene->options, 3, scene->arguments, stderr, &action), 0);
    make_classes(scene);
    limits_fill(&scene->limits, &scene->options);
    const struct reload_options options = {
        .config = &scene->options,
        .passed = &scene->passed,
        .env = env_system(),
        .certificate = &scene->certificate,
        .limits = &scene->limits,
        .link_token = &scene->link_token,
        .room_classes = &scene->room_classes,
    };
    assert_int_equal(reload_open(&scene->reload, &options, error), 0);
    reload_remember(scene->reload, 3, scene->arguments);
}

static void write_file(const struct scene *scene, const char *text)
{
    FILE *file = fopen(scene->path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int set_up(void **state)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    assert_non_null(scene);
    certificates = -ENOTSUP; /* there are none */
    strcpy(scene->path, "/tmp/reload_test.XXXXXX");
    close(mkstemp(scene->path));
    write_file(scene, "# nothing\n");
    scene->arguments[0] = "usherd";
    scene->arguments[1] = "--config";
    scene->arguments[2] = scene->path;
    open_scene(scene);
    *state = scene;
    return 0;
}

static void close_scene(struct scene *scene)
{
    reload_close(scene->reload);
    room_classes_destroy(scene->room_classes);
    options_fini(&scene->options);
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    close_scene(scene);
    unlink(scene->path);
    free(scene);
    return 0;
}

/* --- the tests -------------------------------------------------------------------------------- */

static void every_live_number_is_what_the_file_says(void **state)
{
    struct scene *scene = *state;
    static struct reload_report report;
    FILE *file = fopen(scene->path, "w");
    size_t live = 0;
    for (size_t i = 0; i < ROWS; i++) {
        fprintf(file, "%s: %" PRIu64 "\n", rows[i].key, another(&scene->options, i));
        live += rows[i].holds == HOLDS_LIVE;
    }
    fclose(file);
    int failed = reload_run(scene->reload, &report);
    assert_string_equal(report.error, "");
    assert_int_equal(failed, 0);
    assert_int_equal(report.count, ROWS);
    for (size_t i = 0; i < ROWS; i++) {
        uint64_t wanted = rows[i].holds == HOLDS_LIVE ? another(&scene->options, i)
                                                      : number_of(&scene->options, i);
        live -= !report.changes[i].restart;
        if (rows[i].read(&scene->limits) != wanted)
            fail_msg("%s is not what it is to be", rows[i].key);
    }
    assert_int_equal(live, 0); /* so many were told as changed */
}

/* All or nothing, whoever refuses. */
static void what_is_refused_changes_no_number(void **state)
{
    struct scene *scene = *state;
    static struct reload_report report;
    static const char *const last_lines[] = {"link.token_file: /nowhere/to/be/found\n", ""};
    for (size_t turn = 0; turn < 2; turn++) {
        FILE *file = fopen(scene->path, "w");
        for (size_t i = 0; i < ROWS; i++)
            if (rows[i].holds == HOLDS_LIVE)
                fprintf(file, "%s: %" PRIu64 "\n", rows[i].key, another(&scene->options, i));
        fputs(last_lines[turn], file);
        fclose(file);
        certificates = turn == 1 ? -EINVAL : -ENOTSUP;
        assert_int_not_equal(reload_run(scene->reload, &report), 0);
        for (size_t i = 0; i < ROWS; i++)
            assert_int_equal(rows[i].read(&scene->limits), number_of(&scene->options, i));
    }
}

static bool is_trusted(uint32_t address)
{
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    return prefixes_hold(&trusted.proxies, (struct sockaddr *)&from);
}

/* Proxies come and go while it runs; and none while that would open the broker to everybody, though
 * the file says of the next start that it is not. */
static void proxies_are_what_the_file_says(void **state)
{
    struct scene *scene = *state;
    static struct reload_report report;
    assert_false(is_trusted(0x0a000001));
    write_file(scene, "proxy.from: [10.0.0.0/8]\nlimits.users: 5\n"
                      "auth.mode: service\nauth.service: door\n");
    assert_int_equal(reload_run(scene->reload, &report), -EINVAL);
    assert_non_null(strstr(report.error, "proxy.from: it is set, and auth.mode is open"));
    assert_false(is_trusted(0x0a000001));
    close_scene(scene);
    write_file(scene, "auth.allow_open_network: true\n");
    open_scene(scene);
    write_file(scene, "proxy.from: [10.0.0.0/8, 192.0.2.7]\nws.forwarded_from: ['::1']\n"
                      "auth.allow_open_network: true\n");
    assert_int_equal(reload_run(scene->reload, &report), 0);
    assert_int_equal(report.count, 2);
    assert_false(report.changes[0].restart || report.changes[1].restart);
    assert_int_equal(trusted.forwarders.count, 1);
    assert_true(is_trusted(0x0a000001));
    assert_true(is_trusted(0xc0000207));
    write_file(scene, "proxy.from: [10.0.0.1/8]\nauth.allow_open_network: true\n");
    assert_int_equal(reload_run(scene->reload, &report), -EINVAL);
    assert_non_null(strstr(report.error, "proxy.from: '10.0.0.1/8' is no address"));
    assert_true(is_trusted(0xc0000207));
    write_file(scene, "auth.allow_open_network: true\n");
    assert_int_equal(reload_run(scene->reload, &report), 0);
    assert_false(is_trusted(0x0a000001));
}

static uint32_t members_of(const struct scene *scene, const char *room)
{
    const struct room_class *class = room_class_of(scene->room_classes, bytes_of_text(room));
    return class != NULL ? class->members_max : 0;
}

/* What a turn is reading is there for as long as it reads. */
static void classes_are_what_the_file_says(void **state)
{
    struct scene *scene = *state;
    static struct reload_report report;
    const struct room_classes *first = scene->room_classes;
    assert_int_equal(members_of(scene, "match:1"), 0);
    write_file(scene, "rooms.classes: ['match:* members=7', '* members=9']\n");
    assert_int_equal(reload_run(scene->reload, &report), 0);
    assert_int_equal(report.count, 1);
    assert_string_equal(report.changes[0].option, "rooms.classes");
    assert_false(report.changes[0].restart);
    const struct room_classes *second = scene->room_classes;
    assert_int_equal(members_of(scene, "match:1"), 7);
    assert_int_equal(members_of(scene, "lobby"), 9);
    assert_ptr_equal(second->before, first);
    assert_int_equal(first->count, 0);
    assert_int_equal(reload_run(scene->reload, &report),
                     0); /* what is the same stays in its place */
    assert_ptr_equal(scene->room_classes, second);

    write_file(scene, "rooms.classes: ['* members=7', 'lobby members=0']\n");
    assert_int_equal(reload_run(scene->reload, &report), -EINVAL);
    assert_non_null(strstr(report.error, "rooms.classes: class lobby: 'members=0' is not one; "
                                         "accepted: members= 1 to 1000000"));
    assert_ptr_equal(scene->room_classes, second);
    write_file(scene, "rooms.classes: ['* members=5']\nlink.token_file: /nowhere/to/be/found\n");
    assert_int_not_equal(reload_run(scene->reload, &report), 0); /* for another reason */
    assert_ptr_equal(scene->room_classes, second);

    write_file(scene, "# nothing\n");
    assert_int_equal(reload_run(scene->reload, &report), 0);
    assert_int_equal(members_of(scene, "lobby"), 0);
    assert_ptr_equal(scene->room_classes->before, second);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_live_number_is_what_the_file_says),
        TEST(what_is_refused_changes_no_number),
        TEST(proxies_are_what_the_file_says),
        TEST(classes_are_what_the_file_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
