/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/access.h"
#include "admin/admin.h"
#include "base/log_line.h"
#include "base/memory.h"
#include "broker/parts.h"
#include "door/admission.h"
#include "files/token_file.h"
#include "operate/certificate.h"
#include "operate/reload.h"

/* The files that the configuration names, read at the start, and all of it read again while usherd
 * runs.
 *
 * All or nothing: everything that can be refused is read first and put aside (the options, the
 * keys, the token); the certificates come last, because net_reload_tls itself changes all or
 * nothing. What follows cannot fail.
 *
 * How a changed value reaches the threads: numbers are atomics (struct limits), so the next reader
 * finds the new one; a reader that looks twice may see both, and both are good. Keys and
 * certificates are swapped under their own locks. A replaced token is kept until the end, because a
 * turn may be comparing with it; it is some bytes.
 *
 * Owners: `in_force` is what the file says as far as it holds, under `reload_lock`; broker->options
 * stays what it was at the start, so everybody may read it. */

/* --- files ------------------------------------------------------------------------------------ */

/* What link.token_file holds; *token stays NULL when there is to be none. */
static int read_token(const struct options *options, struct link_token **token, char *error)
{
    const char *path = options->link_token_file;
    char *text = NULL;
    size_t size = 0;
    if (path[0] == '\0')
        return 0;
    int failed = named_file_check(path);
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

/* The keys for tokens, if there are to be any. */
static int read_keys(const struct options *options, struct keyring **keyring, char *error)
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

/* --- whether they can be used ----------------------------------------------------------------- */

/* `text` is a line that begins with the option. */
typedef void file_fault(void *context, const char *option, const char *text);

static void check_link_token(const struct options *options, file_fault *each, void *context)
{
    char error[BROKER_ERROR_BYTES];
    struct link_token *token = NULL;
    if (read_token(options, &token, error) != 0)
        each(context, "link.token_file", error);
    free(token);
}

static void check_keys(const struct options *options, file_fault *each, void *context)
{
    char error[BROKER_ERROR_BYTES];
    struct keyring *keyring = NULL;
    if (read_keys(options, &keyring, error) != 0)
        each(context, "auth.keys_file", error);
    keyring_release(keyring);
}

static void check_admin_tokens(const struct options *options, file_fault *each, void *context)
{
    struct access access = {0};
    access_read(&access, options->admin_token_file, options->admin_view_token_file, each, context);
    explicit_bzero(&access, sizeof(access));
}

static void check_certificates(const struct options *options, file_fault *each, void *context)
{
    const struct net_tls_files files = {options->tls_certificate_file, options->tls_key_file,
                                        options->tls_client_ca_file};
    char error[BROKER_ERROR_BYTES];
    if (net_check_tls(&files, error) != 0)
        each(context, "tls", error[0] != '\0' ? error : "tls.certificate_file: no memory");
}

/* It is written when something has gone wrong, which is no time to learn that it cannot be. */
static void check_recorder(const struct options *options, file_fault *each, void *context)
{
    char error[BROKER_ERROR_BYTES];
    const char *path = options->recorder_file;
    if (path[0] == '\0' || named_file_check(path) != -ENOTSUP)
        return;
    snprintf(error, sizeof(error), "recorder.file %.300s: %s", path, named_file_fault(-ENOTSUP));
    each(context, "recorder.file", error);
}

/* No file of ours, but one of the system's, and the start ends as it would with a wrong one. */
static void check_group(const struct options *options, file_fault *each, void *context)
{
    char error[BROKER_ERROR_BYTES];
    if (link_check_group(options->link_socket_group, error) != 0)
        each(context, "link.socket_group", error);
}

/* Each file that is used with these options, read as it will be read and put away again. */
static void check_files(const struct options *options, bool tls, file_fault *each, void *context)
{
    check_link_token(options, each, context);
    check_keys(options, each, context);
    check_recorder(options, each, context);
    check_group(options, each, context);
    if (options->admin_listen[0] != '\0')
        check_admin_tokens(options, each, context);
    if (tls)
        check_certificates(options, each, context);
}

/* --- whether others may reach them ------------------------------------------------------------ */

typedef void exposed_file(void *context, const char *option, const char *path, unsigned mode);

/* Each file with a secret that is used with these options, and the store's folder, which holds the
 * secrets of sessions, if others than their owner and group may read or write it. How many they
 * are. */
static unsigned each_exposed(const struct options *options, exposed_file *each, void *context)
{
    bool admin = options->admin_listen[0] != '\0';
    const struct {
        const char *option, *path;
        bool used;
    } rows[] = {
        {"store.path", options->store_path, true},
        {"link.token_file", options->link_token_file, true},
        {"admin.token_file", options->admin_token_file, admin},
        {"admin.view_token_file", options->admin_view_token_file, admin},
        {"tls.key_file", options->tls_key_file, true}, /* it may be used by a passed socket */
        {"auth.keys_file", options->auth_keys_file, options->auth_mode == AUTH_MODE_TOKEN},
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

static void log_exposed(void *context, const char *option, const char *path, unsigned mode)
{
    struct broker *broker = context;
    char text[8];
    snprintf(text, sizeof(text), "%04o", mode);
    LOG(broker->log, SECRET_EXPOSED, LOG_S("option", option), LOG_S("path", path),
        LOG_S("mode", text));
}

static void tell_exposed(struct broker *broker, const struct options *options)
{
    atomic_store(&broker->secrets_exposed, each_exposed(options, log_exposed, broker));
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

int broker_check_files(const struct options *options, FILE *complaints)
{
    struct complaint complaint = {.to = complaints};
    check_files(options, options_listen_by(options, TRANSPORT_tls), complain, &complaint);
    (void)each_exposed(options, print_exposed, complaints);
    return complaint.result;
}

/* --- keys and tokens in use ------------------------------------------------------------------- */

static void tell_passed(struct broker *broker, const struct key_passed *passed)
{
    if (passed->faulty)
        LOG(broker->log, KEY_FAULTY, LOG_U("place", passed->place), LOG_S("kid", passed->id),
            LOG_S("detail", passed->why));
    else
        LOG(broker->log, KEY_PASSED_OVER, LOG_U("place", passed->place), LOG_S("kid", passed->id),
            LOG_S("detail", passed->why));
}

static void use_keys(struct broker *broker, const struct options *options, struct keyring *keyring)
{
    if (keyring == NULL)
        return;
    (void)keyring_acquire(keyring);
    admission_set_keys(broker->admission, keyring); /* before it is told */
    for (uint32_t i = 0; i < keyring_passed_count(keyring); i++)
        tell_passed(broker, keyring_passed(keyring, i));
    LOG(broker->log, KEYS_LOADED, LOG_S("file", options->auth_keys_file),
        LOG_U("keys", keyring_count(keyring)), LOG_U("passed_over", keyring_passed_count(keyring)));
    keyring_release(keyring);
}

static void use_token(struct broker *broker, struct link_token *token)
{
    struct link_token *before = broker->settings.link_token;
    bool same = before != NULL && token != NULL && before->size == token->size &&
                memcmp(before->bytes, token->bytes, token->size) == 0;
    if (same || before == token) {
        free(token);
        return;
    }
    if (token != NULL)
        token->before = broker->link_tokens;
    else
        broker->settings.link_token = NULL; /* and the old one stays in the list */
    if (token != NULL) {
        broker->link_tokens = token;
        broker->settings.link_token = token;
    }
}

int reload_first(struct broker *broker, char *error)
{
    struct keyring *keyring = NULL;
    struct link_token *token = NULL;
    int failed = options_copy(&broker->in_force, broker->options);
    if (failed == 0)
        failed = read_token(broker->options, &token, error);
    if (failed == 0)
        failed = read_keys(broker->options, &keyring, error);
    if (failed != 0) {
        free(token);
        return failed;
    }
    use_token(broker, token);
    use_keys(broker, broker->options, keyring);
    tell_exposed(broker, broker->options);
    return 0;
}

void reload_fini(struct broker *broker)
{
    options_fini(&broker->in_force);
    while (broker->link_tokens != NULL) {
        struct link_token *before = broker->link_tokens->before;
        free(broker->link_tokens);
        broker->link_tokens = before;
    }
}

/* --- limits ----------------------------------------------------------------------------------- */

/* Then those look who do not ask before they are asked: memory has a level, admission waits. */
static void use_limits(struct broker *broker, const struct options *options)
{
    limits_follow(&broker->limits, options);
    memory_review();
    if (broker->admission != NULL)
        admission_review(broker->admission);
}

/* --- all of it -------------------------------------------------------------------------------- */

void broker_remember(struct broker *broker, int argc, char **argv)
{
    pthread_mutex_lock(&broker->reload_lock);
    broker->argc = argc;
    broker->argv = argv;
    pthread_mutex_unlock(&broker->reload_lock);
}

/* The first complaint is the report's; the others are for who asks with --check-config. */
static int read_options(struct broker *broker, struct options *fresh, char *error)
{
    char *complaints = NULL;
    size_t size = 0;
    enum config_action action = CONFIG_RUN;
    FILE *file = broker->argv != NULL ? open_memstream(&complaints, &size) : NULL;
    if (file == NULL) {
        snprintf(error, BROKER_ERROR_BYTES, "the command line is not known");
        return -EINVAL;
    }
    int failed = config_load(fresh, broker->argc, broker->argv, file, &action);
    fclose(file);
    if (failed != 0)
        snprintf(error, BROKER_ERROR_BYTES, "%.*s", (int)strcspn(complaints, "\n"), complaints);
    free(complaints);
    return failed != 0 ? -EINVAL : 0;
}

static bool is_passed_by(const struct broker *broker, enum transport_kind transport)
{
    bool passed = false;
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        passed =
            passed || (listener_rows[kind].transport == transport && broker->passed.fds[kind] != 0);
    return passed;
}

/* Whether that option is one of listeners, and such a socket was passed: the address says nothing.
 */
static bool is_passed(const struct broker *broker, const char *option)
{
    enum listener_kind kind = listener_of_option(option);
    return kind != LISTENERS && is_passed_by(broker, listener_rows[kind].transport);
}

void reload_tell_odd(struct broker *broker, const struct options *options)
{
    struct option_conflict conflicts[OPTION_CONFLICTS_MAX];
    size_t count = options_conflicts(options, conflicts);
    for (size_t i = 0; i < count; i++)
        if (!is_passed(broker, conflicts[i].other))
            LOG(broker->log, OPTIONS_AT_ODDS, LOG_S("option", conflicts[i].option),
                LOG_S("other", conflicts[i].other), LOG_S("detail", conflicts[i].text));
}

/* The file agrees with itself (config_load has looked), but some of it holds after a restart only:
 * does what may change now agree with what stays? */
static int check_mixture(const struct options *mixture, char *error)
{
    struct option_conflict conflicts[OPTION_CONFLICTS_MAX];
    size_t count = options_conflicts(mixture, conflicts);
    for (size_t i = 0; i < count; i++) {
        if (!conflicts[i].refused)
            continue;
        snprintf(error, BROKER_ERROR_BYTES,
                 "configuration: %s: %s (as long as it runs; one of "
                 "them changes by a restart only)",
                 conflicts[i].option, conflicts[i].text);
        return -EINVAL;
    }
    return 0;
}

struct refusal {
    struct broker *broker;
    char *error; /* the first one's, BROKER_ERROR_BYTES */
};

static void refuse_file(void *context, const char *option, const char *text)
{
    struct refusal *refusal = context;
    if (strcmp(option, "auth.keys_file") == 0)
        LOG(refusal->broker->log, KEYS_REFUSED, LOG_S("detail", text));
    else if (strcmp(option, "tls") == 0)
        LOG(refusal->broker->log, TLS_REFUSED, LOG_S("error", text));
    if (refusal->error[0] == '\0')
        snprintf(refusal->error, BROKER_ERROR_BYTES, "%s", text);
}

/* Those of the new configuration, and of what runs and does not change. */
static int check_fresh_files(struct broker *broker, const struct options *fresh, bool serves_tls,
                             char *error)
{
    struct refusal refusal = {broker, error};
    check_files(fresh, serves_tls || options_listen_by(fresh, TRANSPORT_tls), refuse_file,
                &refusal);
    return error[0] != '\0' ? -EINVAL : 0;
}

static int use_certificates(struct broker *broker, const struct options *options, char *error)
{
    const struct net_tls_files files = {options->tls_certificate_file, options->tls_key_file,
                                        options->tls_client_ca_file};
    char what[BROKER_ERROR_BYTES];
    int failed = net_reload_tls(broker->net, &files, what);
    if (failed == -ENOTSUP)
        return 0;
    if (failed == 0) {
        LOG(broker->log, TLS_RELOADED, LOG_S("certificate", options->tls_certificate_file));
        certificate_tell(broker, true);
        return 0;
    }
    snprintf(error, BROKER_ERROR_BYTES, "%s", what[0] != '\0' ? what : "no memory");
    LOG(broker->log, TLS_REFUSED, LOG_S("error", error));
    return failed;
}

/* What was read and is not in force yet. */
struct fresh_files {
    struct keyring *keyring;
    struct link_token *token;
};

/* Reads what may have to be refused; a word of options.def without its case, here and in use(),
 * does not compile. The last one changes what is in force already, when it does not refuse. */
static int prepare(struct broker *broker, enum option_holds what, const struct options *options,
                   struct fresh_files *files, char *error)
{
    int failed = 0;
    switch (what) {
    case HOLDS_LINK_TOKEN:
        return read_token(options, &files->token, error);
    case HOLDS_KEYS:
        failed = read_keys(options, &files->keyring, error);
        if (failed != 0)
            LOG(broker->log, KEYS_REFUSED, LOG_S("detail", error));
        return failed;
    case HOLDS_CERTIFICATES:
        return use_certificates(broker, options, error);
    case HOLDS_START:
    case HOLDS_LIVE:
    case HOLDS_LOG_LEVEL:
    case HOLDS_COUNT:
        break;
    }
    return 0;
}

/* Takes what was prepared. Cannot fail. */
static void use(struct broker *broker, enum option_holds what, const struct options *options,
                struct fresh_files *files)
{
    switch (what) {
    case HOLDS_LINK_TOKEN:
        use_token(broker, files->token);
        break;
    case HOLDS_KEYS:
        use_keys(broker, options, files->keyring);
        break;
    case HOLDS_LIVE:
        use_limits(broker, options);
        break;
    case HOLDS_LOG_LEVEL:
        log_set_level(broker->log, (enum log_level)options->log_level);
        break;
    case HOLDS_START:
    case HOLDS_CERTIFICATES: /* are in use */
    case HOLDS_COUNT:
        break;
    }
}

/* Changes everything, or nothing. */
static int use_all(struct broker *broker, const struct options *options, char *error)
{
    struct fresh_files files = {0};
    int failed = 0;
    for (enum option_holds what = 0; failed == 0 && what < HOLDS_COUNT; what++)
        failed = prepare(broker, what, options, &files, error);
    if (failed != 0) {
        free(files.token);
        keyring_release(files.keyring);
        return failed;
    }
    for (enum option_holds what = 0; what < HOLDS_COUNT; what++)
        use(broker, what, options, &files);
    tell_exposed(broker, options);
    return 0;
}

/* What holds from now on: the values of the file that a reload changes, beside the others as they
 * have been since the start. Never the file as it is: the parts are those of the start, and a file
 * that asks for another auth.mode has keys for a part that is not there. `fresh` gets what held
 * before. */
static int use_fresh(struct broker *broker, struct options *fresh, char *error)
{
    struct options *mixture = &broker->in_force;
    options_swap_reloadable(mixture, fresh);
    int failed = check_mixture(mixture, error);
    if (failed == 0)
        failed = use_all(broker, mixture, error);
    if (failed != 0)
        options_swap_reloadable(mixture, fresh);
    return failed;
}

static void tell(struct broker *broker, const struct reload_report *report)
{
    size_t changed = 0;
    if (report->error[0] != '\0') {
        LOG(broker->log, RELOAD_REFUSED, LOG_S("error", report->error));
        return;
    }
    for (size_t i = 0; i < report->count; i++) {
        const struct option_change *change = &report->changes[i];
        changed += !change->restart;
        LOG(broker->log, OPTION_CHANGED, LOG_S("option", change->option),
            LOG_S("from", change->from), LOG_S("to", change->to),
            LOG_S("holds", change->restart ? "after a restart" : "now"));
    }
    LOG(broker->log, RELOADED, LOG_U("changed", changed),
        LOG_U("restart_needed", report->count - changed));
}

static bool put_line(struct log_line *line, recorder_each *each, void *context,
                     const struct log_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++)
        log_line_field(line, &fields[i]);
    log_line_end(line);
    return each(context, line->text, line->size - 1);
}

static void begin_line(struct broker *broker, struct log_line *line, enum log_event_id id)
{
    log_line_begin_record(line, env_wall_ms(broker->env), log_event_level(id), log_event_name(id));
}

static void put_refusal(struct broker *broker, enum log_event_id id, const char *error,
                        recorder_each *each, void *context)
{
    struct log_line line;
    const struct log_field fields[] = {LOG_S("error", error)};
    begin_line(broker, &line, id);
    (void)put_line(&line, each, context, fields, 1);
}

void restart_lines(struct broker *broker, const char *error, recorder_each *each, void *context)
{
    put_refusal(broker, LOG_EVENT_RESTART_REFUSED, error, each, context);
}

void reload_lines(struct broker *broker, const struct reload_report *report, recorder_each *each,
                  void *context)
{
    struct log_line line;
    if (report->error[0] != '\0')
        put_refusal(broker, LOG_EVENT_RELOAD_REFUSED, report->error, each, context);
    for (size_t i = 0; i < report->count; i++) {
        const struct option_change *change = &report->changes[i];
        const struct log_field fields[] = {
            LOG_S("option", change->option), LOG_S("from", change->from), LOG_S("to", change->to),
            LOG_S("holds", change->restart ? "after a restart" : "now")};
        begin_line(broker, &line, LOG_EVENT_OPTION_CHANGED);
        if (!put_line(&line, each, context, fields, 4))
            return;
    }
}

int reload_check_start(struct broker *broker, char *error)
{
    struct options fresh = {0};
    error[0] = '\0';
    pthread_mutex_lock(&broker->reload_lock);
    int failed = read_options(broker, &fresh, error);
    if (failed == 0)
        failed = check_fresh_files(broker, &fresh, is_passed_by(broker, TRANSPORT_tls), error);
    if (failed != 0)
        LOG(broker->log, RESTART_REFUSED, LOG_S("error", error));
    pthread_mutex_unlock(&broker->reload_lock);
    options_fini(&fresh);
    return failed != 0 ? -EINVAL : 0;
}

int broker_reload(struct broker *broker, struct reload_report *report)
{
    struct options fresh = {0};
    report->error[0] = '\0';
    report->count = 0;
    pthread_mutex_lock(&broker->reload_lock);
    int failed = read_options(broker, &fresh, report->error);
    if (failed == 0)
        failed = check_fresh_files(broker, &fresh, net_has_certificate(broker->net), report->error);
    if (failed == 0)
        report->count = options_compare(&broker->in_force, &fresh, report->changes);
    if (failed == 0)
        failed = use_fresh(broker, &fresh, report->error);
    if (failed != 0)
        report->count = 0;
    tell(broker, report);
    snprintf(broker->reload_error, sizeof(broker->reload_error), "%s", report->error);
    if (failed == 0)
        reload_tell_odd(broker, &broker->in_force);
    pthread_mutex_unlock(&broker->reload_lock);
    options_fini(&fresh);
    return failed != 0 ? -EINVAL : 0;
}

void broker_reload_error(struct broker *broker, char error[BROKER_ERROR_BYTES])
{
    pthread_mutex_lock(&broker->reload_lock);
    memcpy(error, broker->reload_error, sizeof(broker->reload_error));
    pthread_mutex_unlock(&broker->reload_lock);
}
