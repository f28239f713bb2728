/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/address.h"
#include "config/private.h"
#include "proto/username.h"
#include "web/target.h"

/* From the command line to a complete struct options: defaults, then files and settings in the
 * order in which they are named, then what concerns several options at once. Every fault is told
 * in one line that says where, which key, and what would be accepted; as many as possible are told
 * in one run. Nothing is changed silently: a value is taken as it is or refused. */

struct load {
    struct options *options;
    FILE *complaints;
    void (*print)(FILE *to); /* asked for on the command line; the last one counts */
    bool check_only;
    int result; /* 0, CONFIG_USAGE or CONFIG_INVALID: the first fault */
};

static void fail(struct load *load, int result)
{
    load->result = load->result != 0 ? load->result : result;
}

static void fail_usage(struct load *load, const char *argument, const char *what)
{
    fprintf(load->complaints, "usherd: %s: %s; usherd --help says more\n", argument, what);
    fail(load, CONFIG_USAGE);
}

static void fail_value(struct load *load, const char *key, const char *what)
{
    fprintf(load->complaints, "configuration: %s: %s\n", key, what);
    fail(load, CONFIG_INVALID);
}

static void print_version(FILE *to)
{
    fputs("usherd " USHER_VERSION "\n", to);
}

static void apply_setting(struct load *load, const char *setting)
{
    const char *equals = strchr(setting, '=');
    if (equals == NULL || equals == setting) {
        fail_usage(load, setting, "not KEY=VALUE");
        return;
    }
    char *key = strndup(setting, (size_t)(equals - setting));
    if (key == NULL) {
        fail_value(load, "--set", "no memory");
        return;
    }
    const struct option_row *row = option_find(key);
    if (row == NULL) {
        config_complain_unknown(load->complaints, "--set", key);
        fail(load, CONFIG_INVALID);
    } else {
        int error = option_set(load->options, row, equals + 1);
        if (error != 0) {
            config_complain_value(load->complaints, "--set", row, error);
            fail(load, CONFIG_INVALID);
        }
    }
    free(key);
}

static void apply_file(struct load *load, const char *path)
{
    int error = config_read_yaml(load->options, path, load->complaints);
    if (error != 0)
        fail(load, error);
}

/* Arguments that stand alone. */
static bool apply_flag(struct load *load, const char *argument)
{
    static const struct {
        const char *name;
        void (*print)(FILE *to);
    } prints[] = {
        {"--help", config_print_help},
        {"-h", config_print_help},
        {"--version", print_version},
        {"--print-config", config_print_yaml},
        {"--print-options-markdown", config_print_markdown},
        {"--print-relations-markdown", config_print_relations},
    };
    for (size_t i = 0; i < sizeof(prints) / sizeof(*prints); i++) {
        if (strcmp(argument, prints[i].name) == 0) {
            load->print = prints[i].print;
            return true;
        }
    }
    if (strcmp(argument, "--check-config") == 0) {
        load->check_only = true;
        return true;
    }
    return false;
}

/* `--name VALUE` or `--name=VALUE`. Gives the value and moves *at; NULL when it is another one. */
static const char *value_of(const char *name, int argc, char **argv, int *at)
{
    size_t size = strlen(name);
    if (strncmp(argv[*at], name, size) != 0)
        return NULL;
    if (argv[*at][size] == '=')
        return argv[*at] + size + 1;
    if (argv[*at][size] == '\0' && *at + 1 < argc)
        return argv[++*at];
    return NULL;
}

static void apply_arguments(struct load *load, int argc, char **argv)
{
    for (int at = 1; at < argc; at++) {
        const char *argument = argv[at];
        const char *value;
        if (apply_flag(load, argument))
            continue;
        if ((value = value_of("--set", argc, argv, &at)) != NULL)
            apply_setting(load, value);
        else if ((value = value_of("--config", argc, argv, &at)) != NULL)
            apply_file(load, value);
        else if (strcmp(argument, "--set") == 0 || strcmp(argument, "--config") == 0)
            fail_usage(load, argument, "its value is missing");
        else
            fail_usage(load, argument, "unknown argument; options are set by --set KEY=VALUE");
    }
}

/* Numbers only, and the one name that means loopback everywhere: what a name stands for can change
 * after it was checked. */
static bool is_loopback(const char *host)
{
    struct in_addr ipv4;
    struct in6_addr ipv6;
    if (strcmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &ipv4) == 1)
        return ntohl(ipv4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &ipv6) == 1 && IN6_IS_ADDR_LOOPBACK(&ipv6);
}

static void refuse_open(struct load *load, const char *option, const char *why, const char *key)
{
    char what[256];
    snprintf(what, sizeof(what),
             "%s, and %s is not a loopback address; accepted: "
             "a loopback address, or auth.allow_open_network true",
             why, key);
    fail_value(load, option, what);
}

static void check_address(struct load *load, const char *key, const char *address)
{
    const struct options *options = load->options;
    struct address parts;
    if (!address_split(&parts, address, strlen(address))) {
        fail_value(load, key, "not an address; accepted: HOST:PORT, [IPV6]:PORT");
        return;
    }
    if (options->auth_allow_open_network || is_loopback(parts.host))
        return;
    if (options->auth_mode == AUTH_MODE_OPEN)
        refuse_open(load, "auth.mode", "open believes every name", key);
    if (options->friends_mode == FRIENDS_OPEN)
        refuse_open(load, "friends.mode", "open shows everybody to everybody", key);
}

static void check_certificate(struct load *load, const char *listener)
{
    const struct options *options = load->options;
    const char *const files[][2] = {{"tls.certificate_file", options->tls_certificate_file},
                                    {"tls.key_file", options->tls_key_file}};
    char what[96];
    snprintf(what, sizeof(what), "missing; %s needs it: a PEM file", listener);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (files[i][1][0] == '\0')
            fail_value(load, files[i][0], what);
}

/* What it shows is not for everybody, and what a token without TLS is worth ends at the next wire:
 * see docs/admin.md. */
static void check_admin(struct load *load)
{
    const struct options *options = load->options;
    struct address address;
    if (!address_split(&address, options->admin_listen, strlen(options->admin_listen))) {
        fail_value(load, "admin.listen", "not an address; accepted: HOST:PORT, [IPV6]:PORT");
    } else if (!is_loopback(address.host) && options->admin_token_file[0] == '\0') {
        fail_value(load, "admin.token_file",
                   "empty, and admin.listen is not a loopback address; accepted: the path of a "
                   "file with a token");
    }
}

/* The same, for who may push and kick there. */
static void check_http(struct load *load)
{
    const struct options *options = load->options;
    struct address address;
    if (!address_split(&address, options->http_listen, strlen(options->http_listen))) {
        fail_value(load, "http.listen", "not an address; accepted: HOST:PORT, [IPV6]:PORT");
    } else if (!is_loopback(address.host) && options->http_token_file[0] == '\0') {
        fail_value(load, "http.token_file",
                   "empty, and http.listen is not a loopback address; accepted: the path of a file "
                   "with a token");
    }
}

/* As they are written: one that is taken by ourselves looks like another usherd, which may go. Each
 * takes a port of its own with port 0. */
static void check_addresses_differ(struct load *load)
{
    const struct options *options = load->options;
    const char *rows[LISTENERS + 2][2] = {
        [LISTENERS] = {"admin.listen", options->admin_listen},
        [LISTENERS + 1] = {"http.listen", options->http_listen},
    };
    for (unsigned kind = 0; kind < LISTENERS; kind++) {
        rows[kind][0] = listener_rows[kind].option;
        rows[kind][1] = options_listen(options, kind);
    }
    for (size_t i = 1; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct address address;
        if (!address_split(&address, rows[i][1], strlen(rows[i][1])) || address.port == 0)
            continue;
        for (size_t k = 0; k < i; k++) {
            char what[96];
            if (strcmp(rows[i][1], rows[k][1]) != 0)
                continue;
            snprintf(what, sizeof(what), "that of %s; accepted: an address of its own", rows[k][0]);
            fail_value(load, rows[i][0], what);
        }
    }
}

static void check_listen(struct load *load)
{
    const struct options *options = load->options;
    unsigned wanted = 0;
    check_addresses_differ(load);
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        wanted += options_listen(options, kind)[0] != '\0';
    for (unsigned kind = 0; kind < LISTENERS; kind++) {
        const struct listener_row *row = &listener_rows[kind];
        bool is_wanted = options_listen(options, kind)[0] != '\0';
        if (is_wanted || (kind == 0 && wanted == 0))
            check_address(load, row->option, options_listen(options, kind));
        if (is_wanted && row->by_tls)
            check_certificate(load, row->option);
    }
    if (options->admin_listen[0] != '\0')
        check_admin(load);
    if (options->http_listen[0] != '\0')
        check_http(load);
}

static void check_prefixes(struct load *load, const char *key, const struct text_list *list)
{
    struct prefixes prefixes;
    const char *faulty;
    char what[256];
    if (options_prefixes(list, &prefixes, &faulty))
        return;
    snprintf(what, sizeof(what),
             "'%.49s' is no address and no prefix; accepted: 192.0.2.7, 10.0.0.0/8, 2001:db8::/32, "
             "with no bit set behind the prefix",
             faulty);
    fail_value(load, key, what);
}

static void check_rooms(struct load *load)
{
    const struct text_list *items = &load->options->rooms_classes;
    struct room_classes *classes = NULL;
    char error[ROOM_CLASS_ERROR_BYTES];
    int failed = room_classes_read(items->items, items->count, &classes, error);
    if (failed != 0)
        fail_value(load, "rooms.classes", failed == -ENOMEM ? "no memory" : error);
    room_classes_destroy(classes);
}

/* What a client can ask for, and is not answered as something else. */
static bool is_path(const char *path)
{
    size_t size = strlen(path);
    for (size_t i = 0; i < size; i++)
        if (path[i] <= ' ' || path[i] > '~' || path[i] == '?' || path[i] == '#')
            return false;
    return path[0] == '/' && strcmp(path, "/health") != 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), length = strlen(end);
    return size >= length && strcmp(text + size - length, end) == 0;
}

/* As a browser writes it: in small letters, without the usual port, and nothing behind it. */
static bool is_origin(const char *origin)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789+.-";
    size_t scheme = strspn(origin, letters);
    const char *host = origin + scheme + 3;
    if (strcmp(origin, "null") == 0 || strcmp(origin, "file://") == 0)
        return true;
    if (scheme == 0 || strncmp(origin + scheme, "://", 3) != 0 || host[0] == '\0' ||
        host[strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789.-_:[]")] != '\0')
        return false;
    return !(strncmp(origin, "https:", 6) == 0 && ends_with(host, ":443")) &&
           !(strncmp(origin, "http:", 5) == 0 && ends_with(host, ":80"));
}

/* Compared as they are, so what cannot be equal to anything would shut all pages out. */
static void check_web(struct load *load)
{
    const struct options *options = load->options;
    if (!is_path(options->ws_path))
        fail_value(load, "ws.path",
                   "no path that could be asked for; accepted: / and printable ASCII without ? and "
                   "#, and not /health");
    for (size_t i = 0; i < options->ws_origins.count; i++) {
        char what[512];
        if (is_origin(options->ws_origins.items[i]))
            continue;
        snprintf(
            what, sizeof(what),
            "'%.255s' is nothing that a browser says; accepted: https://HOST or "
            "https://HOST:PORT in small letters, without the port 443 (http: 80) and without a "
            "slash at the end, null, file://",
            options->ws_origins.items[i]);
        fail_value(load, "ws.origins", what);
    }
}

static void check_auth(struct load *load)
{
    const struct options *options = load->options;
    if (options->auth_mode == AUTH_MODE_TOKEN && options->auth_keys_file[0] == '\0') {
        fail_value(load, "auth.keys_file",
                   "empty, and auth.mode is token; accepted: the path of a JSON key set");
    }
    if (options->auth_session_ends == SESSION_ENDS_WITH_TOKEN &&
        options->auth_mode == AUTH_MODE_OPEN) {
        fail_value(
            load, "auth.session_ends",
            "with_token, and auth.mode open looks at no token; accepted: never, or auth.mode "
            "token, service or http");
    }
    if (options->auth_mode != AUTH_MODE_SERVICE)
        return;
    if (!username_valid(bytes_of_text(options->auth_service))) {
        fail_value(load, "auth.service",
                   "no name of a service, and auth.mode is service; accepted: 1 to 64 of A-Z a-z "
                   "0-9 . _ - @ : +");
    }
}

/* Whether the host of an http URL is one that no packet leaves the machine for. */
static bool is_near(const char *url)
{
    char host[256];
    const char *from = strstr(url, "://") + 3;
    bool bracket = from[0] == '[';
    from += bracket;
    snprintf(host, sizeof(host), "%.*s", (int)strcspn(from, bracket ? "]/?" : ":/?"), from);
    return is_loopback(host);
}

static bool check_place(struct load *load, const char *key, const char *url)
{
    if (web_url_valid(url))
        return true;
    fail_value(load, key,
               "not a URL to post to; accepted: http://HOST/PATH, https://HOST:PORT/PATH, without "
               "user, password and #");
    return false;
}

static void check_webhook(struct load *load)
{
    const struct options *options = load->options;
    if (options->webhook_url[0] == '\0')
        return;
    (void)check_place(load, "webhook.url", options->webhook_url);
    if (options->webhook_secret_file[0] == '\0')
        fail_value(load, "webhook.secret_file",
                   "empty, and webhook.url is set; accepted: the path of a file with a secret");
}

static void check_auth_http(struct load *load)
{
    const struct options *options = load->options;
    const char *url = options->auth_http_url;
    if (options->auth_mode != AUTH_MODE_HTTP && url[0] == '\0')
        return;
    if (!check_place(load, "auth.http.url", url))
        return;
    if (strncmp(url, "http://", 7) == 0 && !is_near(url) && !options->auth_http_plain)
        fail_value(
            load, "auth.http.url",
            "http:// to another machine, and whoever is on the way can be anybody; accepted: "
            "https://, a loopback address, or auth.http.plain true");
}

static void check_inbox(struct load *load)
{
    const char *service = load->options->inbox_notify_service;
    if (service[0] != '\0' && !username_valid(bytes_of_text(service)))
        fail_value(load, "inbox.notify_service",
                   "no name of a service; accepted: 1 to 64 of A-Z a-z 0-9 . _ - @ : +, or empty");
}

static void check_friends(struct load *load)
{
    const struct options *options = load->options;
    if (options->friends_mode == FRIENDS_SERVICE &&
        !username_valid(bytes_of_text(options->friends_service))) {
        fail_value(load, "friends.service",
                   "no name of a service, and friends.mode is service; accepted: 1 to 64 of A-Z "
                   "a-z 0-9 . _ - @ : +");
    }
}

/* ipc paths become socket addresses, whose size the system fixes. */
static bool is_url(const char *url)
{
    struct address address;
    if (strncmp(url, "ipc://", 6) == 0) {
        size_t size = strlen(url + 6);
        return size > 0 && size < sizeof(((struct sockaddr_un *)0)->sun_path);
    }
    return strncmp(url, "tcp://", 6) == 0 && address_split(&address, url + 6, strlen(url + 6));
}

static void default_link_url(struct load *load)
{
    char *url = NULL;
    if (asprintf(&url, "ipc://%s/link.sock", load->options->store_path) < 0) {
        fail_value(load, "link.urls", "no memory");
        return;
    }
    load->options->link_urls.items[0] = url;
    load->options->link_urls.count = 1;
    if (!is_url(url)) {
        fail_value(load, "link.urls",
                   "empty, and store.path is too long to hold its socket; accepted: a shorter "
                   "store.path, or an ipc:// URL of your own");
    }
}

/* Two of us at one path look like another usherd there, at each start anew. Spares of a tcp address
 * may be the same. */
static void check_paths_differ(struct load *load)
{
    const struct text_list *urls = &load->options->link_urls;
    for (size_t i = 0; i < urls->count; i++) {
        bool twice = false;
        for (size_t k = 0; k < i; k++)
            twice = twice || strcmp(urls->items[i], urls->items[k]) == 0;
        if (twice && strncmp(urls->items[i], "ipc://", 6) == 0)
            fail_value(load, "link.urls", "holds one path twice; accepted: each once");
        if (strcmp(urls->items[i], load->options->feed_url) == 0)
            fail_value(load, "feed.url", "is one of link.urls; accepted: an address of its own");
    }
}

static void check_urls(struct load *load)
{
    struct options *options = load->options;
    for (size_t i = 0; i < options->link_urls.count; i++) {
        if (!is_url(options->link_urls.items[i])) {
            char what[512];
            snprintf(what, sizeof(what),
                     "'%.300s' is not a URL that backends can use; accepted: ipc://PATH of up to "
                     "107 bytes, tcp://HOST:PORT",
                     options->link_urls.items[i]);
            fail_value(load, "link.urls", what);
        }
    }
    if (options->link_urls.count == 0)
        default_link_url(load);
    if (options->feed_url[0] != '\0' && !is_url(options->feed_url))
        fail_value(load, "feed.url", "not a URL; accepted: ipc://PATH, tcp://HOST:PORT");
    check_paths_differ(load);
}

/* What is only odd is told by the log of each start; who only asks is told here. */
static void check_relations(struct load *load)
{
    struct option_conflict conflicts[OPTION_CONFLICTS_MAX];
    size_t count = config_conflicts(load->options, conflicts);
    for (size_t i = 0; i < count; i++)
        if (conflicts[i].refused)
            fail_value(load, conflicts[i].option, conflicts[i].text);
        else if (load->check_only)
            fprintf(load->complaints, "note: %s: %s\n", conflicts[i].option, conflicts[i].text);
}

/* One I/O thread per two processors up to a small number: they run most turns themselves, and the
 * clients, the store and the services on the same machine need the others
 * (docs/decisions/0013). The workers are for whoever is behind. */
static void resolve_threads(struct options *options)
{
    enum { IO_MAX = 8, WORKERS_MAX = 256 }; /* the second as in options.def */
    cpu_set_t set;
    uint64_t processors = 1;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        processors = (uint64_t)CPU_COUNT(&set);
    if (options->threads_io == 0) {
        options->threads_io = processors / 2 < 1 ? 1 : processors / 2;
        options->threads_io = options->threads_io < IO_MAX ? options->threads_io : IO_MAX;
    }
    if (options->threads_workers == 0) {
        options->threads_workers =
            processors > options->threads_io ? processors - options->threads_io : 1;
        if (options->threads_workers > WORKERS_MAX)
            options->threads_workers = WORKERS_MAX;
    }
}

/* Half a configuration file on a full disk is no answer. */
static int finish_print(FILE *complaints)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    fprintf(complaints, "usherd: cannot write what was asked for: %s\n", strerror(errno));
    return CONFIG_UNWRITTEN;
}

int config_load(struct options *options, int argc, char **argv, FILE *complaints,
                enum config_action *action)
{
    struct load load = {.options = options, .complaints = complaints};
    *action = CONFIG_RUN;
    if (options_init(options) != 0) {
        fputs("usherd: no memory\n", complaints);
        return CONFIG_INVALID;
    }
    apply_arguments(&load, argc, argv);
    if (load.result == 0 && load.print != NULL) {
        load.print(stdout);
        *action = CONFIG_EXIT;
        return finish_print(complaints);
    }
    if (load.result == 0) {
        check_listen(&load);
        check_prefixes(&load, "proxy.from", &options->proxy_from);
        check_prefixes(&load, "ws.forwarded_from", &options->ws_forwarded_from);
        check_auth(&load);
        check_auth_http(&load);
        check_webhook(&load);
        check_friends(&load);
        check_inbox(&load);
        check_web(&load);
        check_urls(&load);
        check_rooms(&load);
        check_relations(&load);
        resolve_threads(options);
    }
    if (load.check_only)
        *action = CONFIG_CHECK;
    return load.result;
}
