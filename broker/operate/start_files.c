/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/start_files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/access.h"
#include "admin/admin.h"
#include "files/token_file.h"
#include "link/link.h"
#include "net/net.h"
#include "process/failure.h"

/* One reading for all who ask: what would end a start is what --check-config complains about and
 * what refuses a reload or a restart. A file that others may reach is told and does no more: it may
 * be meant so, and who runs the node is somebody else than who writes this. */

int start_files_token(const struct options *options, struct link_token **token, char *error)
{
    const char *path = options->link_token_file;
    char *text = NULL;
    size_t size = 0;
    if (path[0] == '\0')
        return 0;
    int failed = file_check(path);
    if (failed == 0)
        failed = token_file_read(path, &text, &size);
    *token = failed == 0 ? malloc(sizeof(**token) + size) : NULL;
    if (failed == 0 && *token == NULL)
        failed = -ENOMEM;
    if (failed != 0) {
        snprintf(error, BROKER_ERROR_BYTES, "link.token_file %s: %s", path,
                 token_file_fault(failed));
    } else {
        (*token)->before = NULL;
        (*token)->size = size;
        memcpy((*token)->bytes, text, size);
    }
    free(text);
    return failed;
}

int start_files_keys(const struct options *options, struct keyring **keyring, char *error)
{
    char what[KEYRING_ERROR_BYTES];
    if (options->auth_mode != AUTH_MODE_TOKEN)
        return 0;
    if (options->auth_keys_file[0] == '\0') { /* of a file that asks for another mode */
        snprintf(error, BROKER_ERROR_BYTES,
                 "auth.keys_file: empty, and auth.mode is token until a "
                 "restart");
        return -EINVAL;
    }
    int failed = keyring_load(keyring, options->auth_keys_file, what);
    if (failed != 0)
        snprintf(error, BROKER_ERROR_BYTES, "auth.keys_file %.200s: %s", options->auth_keys_file,
                 what);
    return failed;
}

/* --- targets of requests ---------------------------------------------------------------------- */

/* Of which options a target is made. */
struct target_options {
    const char *url;
    const char *names[3], *paths[3]; /* secret, other secret, authorities; "" is none */
};

static int read_secret(const char *name, const char *path, char **secret, char *error)
{
    size_t size;
    if (path[0] == '\0')
        return 0;
    int failed = file_check(path);
    if (failed == 0)
        failed = token_file_read(path, secret, &size);
    if (failed != 0)
        snprintf(error, BROKER_ERROR_BYTES, "%s %.300s: %s", name, path, token_file_fault(failed));
    return failed;
}

static int check_authorities(const char *name, const char *path, char *error)
{
    int failed = path[0] != '\0' ? file_check(path) : 0;
    if (failed == 0 && path[0] != '\0' && access(path, R_OK) != 0)
        failed = -errno;
    if (failed != 0)
        snprintf(error, BROKER_ERROR_BYTES, "%s %.300s: %s", name, path, file_fault(failed));
    return failed;
}

static void wipe(char *secret)
{
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static int make_target(const struct target_options *from, struct web_target **target, char *error)
{
    char *secrets[WEB_SECRETS_MAX] = {NULL};
    int failed = 0;
    for (unsigned i = 0; failed == 0 && i < WEB_SECRETS_MAX; i++)
        failed = read_secret(from->names[i], from->paths[i], &secrets[i], error);
    if (failed == 0)
        failed = check_authorities(from->names[2], from->paths[2], error);
    if (failed == 0) {
        *target = web_target_create(from->url, from->paths[2], secrets[0], secrets[1]);
        failed = *target != NULL ? 0 : -ENOMEM;
    }
    for (unsigned i = 0; i < WEB_SECRETS_MAX; i++)
        wipe(secrets[i]);
    return failed;
}

int start_files_webhook(const struct options *options, struct web_target **target, char *error)
{
    const struct target_options from = {
        options->webhook_url,
        {"webhook.secret_file", "webhook.other_secret_file", "webhook.ca_file"},
        {options->webhook_secret_file, options->webhook_other_secret_file,
         options->webhook_ca_file}};
    return from.url[0] != '\0' ? make_target(&from, target, error) : 0;
}

int start_files_auth_http(const struct options *options, struct web_target **target, char *error)
{
    const struct target_options from = {
        options->auth_http_url,
        {"auth.http.secret_file", "auth.http.other_secret_file", "auth.http.ca_file"},
        {options->auth_http_secret_file, options->auth_http_other_secret_file,
         options->auth_http_ca_file}};
    if (options->auth_mode != AUTH_MODE_HTTP)
        return 0;
    if (from.url[0] == '\0') { /* of a file that asks for another mode */
        snprintf(error, BROKER_ERROR_BYTES,
                 "auth.http.url: empty, and auth.mode is http until a restart");
        return -EINVAL;
    }
    return make_target(&from, target, error);
}

/* --- whether they can be used ----------------------------------------------------------------- */

static void check_link_token(const struct options *options, start_files_fault *each, void *context)
{
    char error[BROKER_ERROR_BYTES];
    struct link_token *token = NULL;
    if (start_files_token(options, &token, error) != 0)
        each(context, "link.token_file", error);
    free(token);
}

static void check_keys(const struct options *options, start_files_fault *each, void *context)
{
    char error[BROKER_ERROR_BYTES];
    struct keyring *keyring = NULL;
    if (start_files_keys(options, &keyring, error) != 0)
        each(context, "auth.keys_file", error);
    keyring_release(keyring);
}

static void check_targets(const struct options *options, start_files_fault *each, void *context)
{
    char error[BROKER_ERROR_BYTES] = "no memory";
    struct web_target *target = NULL;
    if (start_files_webhook(options, &target, error) != 0)
        each(context, "webhook.url", error);
    web_target_destroy(target);
    target = NULL;
    if (start_files_auth_http(options, &target, error) != 0)
        each(context, "auth.http.url", error);
    web_target_destroy(target);
}

static void check_admin_tokens(const struct options *options, start_files_fault *each,
                               void *context)
{
    struct access access = {0};
    access_read(&access, options->admin_token_file, options->admin_view_token_file, each, context);
    explicit_bzero(&access, sizeof(access));
}

static void ignore(void *context, const char *option, const char *text)
{
}

void start_files_check_http_token(const struct options *options, start_files_fault *each,
                                  void *context)
{
    char error[BROKER_ERROR_BYTES];
    struct access_token token = {0};
    struct access admin = {0};
    access_read_one(&token, "http.token_file", options->http_token_file, each, context);
    if (options->admin_listen[0] != '\0')
        access_read(&admin, options->admin_token_file, options->admin_view_token_file, ignore,
                    NULL);
    if (access_same(&token, &admin.change) || access_same(&token, &admin.view)) {
        snprintf(error, sizeof(error),
                 "http.token_file %.300s: a token of the admin endpoint; accepted: another one",
                 options->http_token_file);
        each(context, "http.token_file", error);
    }
    explicit_bzero(&admin, sizeof(admin));
    explicit_bzero(&token, sizeof(token));
}

static void check_certificates(const struct options *options, start_files_fault *each,
                               void *context)
{
    const struct net_tls_files files = {options->tls_certificate_file, options->tls_key_file,
                                        options->tls_client_ca_file};
    char error[BROKER_ERROR_BYTES];
    if (net_check_tls(&files, error) != 0)
        each(context, "tls", error[0] != '\0' ? error : "tls.certificate_file: no memory");
}

/* It is written when something has gone wrong, which is no time to learn that it cannot be. */
static void check_recorder(const struct options *options, start_files_fault *each, void *context)
{
    char error[BROKER_ERROR_BYTES];
    const char *path = options->recorder_file;
    if (path[0] == '\0' || file_check(path) != -ENOTSUP)
        return;
    snprintf(error, sizeof(error), "recorder.file %.300s: %s", path, file_fault(-ENOTSUP));
    each(context, "recorder.file", error);
}

/* No file of ours, but one of the system's, and the start ends as it would with a wrong one. */
static void check_group(const struct options *options, start_files_fault *each, void *context)
{
    char error[BROKER_ERROR_BYTES];
    if (link_check_group(options->link_socket_group, error) != 0)
        each(context, "link.socket_group", error);
}

void start_files_check(const struct options *options, bool certificates, start_files_fault *each,
                       void *context)
{
    check_link_token(options, each, context);
    check_keys(options, each, context);
    check_targets(options, each, context);
    check_recorder(options, each, context);
    check_group(options, each, context);
    if (options->admin_listen[0] != '\0')
        check_admin_tokens(options, each, context);
    if (options->http_listen[0] != '\0')
        start_files_check_http_token(options, each, context);
    if (certificates)
        check_certificates(options, each, context);
}

/* --- whether others may reach them ------------------------------------------------------------ */

unsigned start_files_exposed(const struct options *options, start_files_open *each, void *context)
{
    bool admin = options->admin_listen[0] != '\0';
    bool http = options->http_listen[0] != '\0';
    bool asks = options->auth_mode == AUTH_MODE_HTTP, posts = options->webhook_url[0] != '\0';
    const struct {
        const char *option, *path;
        bool used;
    } rows[] = {
        {"store.path", options->store_path, true},
        {"link.token_file", options->link_token_file, true},
        {"admin.token_file", options->admin_token_file, admin},
        {"admin.view_token_file", options->admin_view_token_file, admin},
        {"http.token_file", options->http_token_file, http},
        {"tls.key_file", options->tls_key_file, true}, /* it may be used by a passed socket */
        {"auth.keys_file", options->auth_keys_file, options->auth_mode == AUTH_MODE_TOKEN},
        {"auth.http.secret_file", options->auth_http_secret_file, asks},
        {"auth.http.other_secret_file", options->auth_http_other_secret_file, asks},
        {"webhook.secret_file", options->webhook_secret_file, posts},
        {"webhook.other_secret_file", options->webhook_other_secret_file, posts},
    };
    unsigned count = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        unsigned mode;
        if (!rows[i].used || rows[i].path[0] == '\0' ||
            !file_is_open_to_others(rows[i].path, &mode))
            continue;
        count++;
        each(context, rows[i].option, rows[i].path, mode);
    }
    return count;
}

static void print_exposed(void *context, const char *option, const char *path, unsigned mode)
{
    fprintf(context, "configuration: warning: %s: others may read or write %s (mode %04o)\n",
            option, path, mode);
}

struct complaint {
    FILE *to;
    int result;
};

static void complain(void *context, const char *option, const char *text)
{
    struct complaint *complaint = context;
    fprintf(complaint->to, "configuration: %s\n", text);
    complaint->result = EXIT_CONFIGURATION;
}

int start_files_complain(const struct options *options, FILE *complaints)
{
    struct complaint complaint = {.to = complaints};
    start_files_check(options, options_listen_like(options, LISTENER_tls), complain, &complaint);
    (void)start_files_exposed(options, print_exposed, complaints);
    return complaint.result;
}
