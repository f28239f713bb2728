/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/reload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/lock.h"
#include "base/log_line.h"
#include "base/memory.h"
#include "door/admission.h"
#include "operate/start_files.h"
#include "webhook/webhook.h"

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
 * Owners: `in_force` is what the file says as far as it holds, under the lock, which is held while
 * the files are read; the options of the start stay what they were, so everybody may read them. */

struct reload {
    struct reload_options options;
    struct lock lock;
    /* under lock */
    int argc; /* of reload_remember */
    char **argv;
    struct options in_force;
    struct link_token *tokens; /* all that ever held, the newest first */
    char error[BROKER_ERROR_BYTES];
    /* any thread */
    _Atomic uint32_t exposed; /* as last looked at */
};

/* --- what is in use --------------------------------------------------------------------------- */

static void tell_passed(struct log *log, const struct key_passed *passed)
{
    if (passed->faulty)
        LOG(log, KEY_FAULTY, LOG_U("place", passed->place), LOG_S("kid", passed->id),
            LOG_S("detail", passed->why));
    else
        LOG(log, KEY_PASSED_OVER, LOG_U("place", passed->place), LOG_S("kid", passed->id),
            LOG_S("detail", passed->why));
}

static void use_keys(struct reload *reload, const struct options *options, struct keyring *keyring)
{
    struct log *log = reload->options.log;
    if (keyring == NULL)
        return;
    (void)keyring_acquire(keyring);
    admission_set_keys(reload->options.admission, keyring); /* before it is told */
    for (uint32_t i = 0; i < keyring_passed_count(keyring); i++)
        tell_passed(log, keyring_passed(keyring, i));
    LOG(log, KEYS_LOADED, LOG_S("file", options->auth_keys_file),
        LOG_U("keys", keyring_count(keyring)), LOG_U("passed_over", keyring_passed_count(keyring)));
    keyring_release(keyring);
}

static void use_token(struct reload *reload, struct link_token *token)
{
    struct link_token *_Atomic *in_use = reload->options.link_token;
    struct link_token *before = *in_use;
    CHECK(lock_held(&reload->lock));
    bool same = before != NULL && token != NULL && before->size == token->size &&
                memcmp(before->bytes, token->bytes, token->size) == 0;
    if (same || before == token) {
        free(token);
        return;
    }
    if (token != NULL) {
        token->before = reload->tokens;
        reload->tokens = token;
    }
    *in_use = token; /* and the old one stays in the list */
}

static void use_proxies(struct reload *reload, const struct options *options)
{
    struct net_trust trust;
    const char *faulty;
    bool good = options_prefixes(&options->proxy_from, &trust.proxies, &faulty) &&
                options_prefixes(&options->ws_forwarded_from, &trust.forwarders, &faulty);
    CHECK(good); /* by config_load */
    net_set_trust(reload->options.net, &trust);
}

/* Nowhere is a target too. */
static void use_webhook(struct reload *reload, struct web_target *target)
{
    if (reload->options.webhook == NULL) {
        web_target_destroy(target);
        return;
    }
    int failed = webhook_aim(reload->options.webhook, target);
    if (failed != 0)
        LOG(reload->options.log, WEBHOOK_FAILING, LOG_S("error", strerror(-failed)));
}

static void use_auth_http(struct reload *reload, struct web_target *target)
{
    if (target != NULL)
        admission_set_target(reload->options.admission, target);
}

static int read_classes(const struct options *options, struct room_classes **classes, char *error)
{
    const struct text_list *items = &options->rooms_classes;
    char wrong[ROOM_CLASS_ERROR_BYTES];
    int failed = room_classes_read(items->items, items->count, classes, wrong);
    if (failed != 0)
        snprintf(error, BROKER_ERROR_BYTES, "rooms.classes: %s", wrong);
    return failed;
}

static void use_classes(struct reload *reload, struct room_classes *classes)
{
    struct room_classes *_Atomic *in_use = reload->options.room_classes;
    const struct room_classes *before = *in_use;
    CHECK(lock_held(&reload->lock));
    if (before->count == classes->count &&
        memcmp(before->classes, classes->classes, classes->count * sizeof(classes->classes[0])) ==
            0) {
        room_classes_destroy(classes);
        return;
    }
    classes->before = *in_use;
    *in_use = classes;
}

static void log_exposed(void *context, const char *option, const char *path, unsigned mode)
{
    char text[8];
    snprintf(text, sizeof(text), "%04o", mode);
    LOG(context, SECRET_EXPOSED, LOG_S("option", option), LOG_S("path", path), LOG_S("mode", text));
}

static void tell_exposed(struct reload *reload, const struct options *options)
{
    atomic_store(&reload->exposed, start_files_exposed(options, log_exposed, reload->options.log));
}

/* --- its life --------------------------------------------------------------------------------- */

/* Keys, token and proxies of the start. */
static int use_first(struct reload *reload, char *error)
{
    const struct options *config = reload->options.config;
    struct keyring *keyring = NULL;
    struct link_token *token = NULL;
    struct web_target *hook = NULL, *asked = NULL;
    int failed = config_copy(&reload->in_force, config);
    if (failed == 0)
        failed = start_files_token(config, &token, error);
    if (failed == 0)
        failed = start_files_keys(config, &keyring, error);
    if (failed == 0)
        failed = start_files_webhook(config, &hook, error);
    if (failed == 0)
        failed = start_files_auth_http(config, &asked, error);
    if (failed != 0) {
        free(token);
        keyring_release(keyring);
        web_target_destroy(hook);
        return failed;
    }
    use_token(reload, token);
    use_keys(reload, config, keyring);
    use_proxies(reload, config);
    use_auth_http(reload, asked);
    if (hook != NULL)
        use_webhook(reload, hook);
    tell_exposed(reload, config);
    return 0;
}

int reload_open(struct reload **out, const struct reload_options *options, char *error)
{
    struct reload *reload = calloc(1, sizeof(*reload));
    if (reload == NULL)
        return -ENOMEM;
    reload->options = *options;
    lock_init(&reload->lock);
    lock_take(&reload->lock);
    int failed = use_first(reload, error);
    lock_give(&reload->lock);
    *out = reload;
    return failed;
}

void reload_close(struct reload *reload)
{
    if (reload == NULL)
        return;
    options_fini(&reload->in_force);
    while (reload->tokens != NULL) {
        struct link_token *before = reload->tokens->before;
        free(reload->tokens);
        reload->tokens = before;
    }
    lock_destroy(&reload->lock);
    free(reload);
}

/* --- limits ----------------------------------------------------------------------------------- */

/* Then those look who do not ask before they are asked: memory has a level, admission waits. */
static void use_limits(struct reload *reload, const struct options *options)
{
    limits_follow(reload->options.limits, options);
    memory_review();
    if (reload->options.admission != NULL)
        admission_review(reload->options.admission);
}

/* --- all of it -------------------------------------------------------------------------------- */

void reload_remember(struct reload *reload, int argc, char **argv)
{
    lock_take(&reload->lock);
    reload->argc = argc;
    reload->argv = argv;
    lock_give(&reload->lock);
}

/* The first complaint is the report's; the others are for who asks with --check-config. */
static int read_options(struct reload *reload, struct options *fresh, char *error)
{
    char *complaints = NULL;
    size_t size = 0;
    enum config_action action = CONFIG_RUN;
    FILE *file = reload->argv != NULL ? open_memstream(&complaints, &size) : NULL;
    if (file == NULL) {
        snprintf(error, BROKER_ERROR_BYTES, "the command line is not known");
        return -EINVAL;
    }
    int failed = config_load(fresh, reload->argc, reload->argv, file, &action);
    fclose(file);
    if (failed != 0)
        snprintf(error, BROKER_ERROR_BYTES, "%.*s", (int)strcspn(complaints, "\n"), complaints);
    free(complaints);
    return failed != 0 ? -EINVAL : 0;
}

static bool is_passed_like(const struct reload *reload, enum listener_kind like)
{
    bool passed = false;
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        passed = passed || (listener_is_like(kind, like) && reload->options.passed->managed[kind]);
    return passed;
}

/* Whether that option is one of listeners, and such a socket was passed: the address says nothing.
 */
static bool is_passed(const struct reload *reload, const char *option)
{
    enum listener_kind kind = listener_of_option(option);
    return kind != LISTENERS && is_passed_like(reload, kind);
}

static void tell_odd(struct reload *reload, const struct options *options)
{
    struct option_conflict conflicts[OPTION_CONFLICTS_MAX];
    size_t count = config_conflicts(options, conflicts);
    for (size_t i = 0; i < count; i++)
        if (!is_passed(reload, conflicts[i].other))
            LOG(reload->options.log, OPTIONS_AT_ODDS, LOG_S("option", conflicts[i].option),
                LOG_S("other", conflicts[i].other), LOG_S("detail", conflicts[i].text));
}

/* The file agrees with itself (config_load has looked), but some of it holds after a restart only:
 * does what may change now agree with what stays? */
static int check_mixture(const struct options *mixture, char *error)
{
    struct option_conflict conflicts[OPTION_CONFLICTS_MAX];
    size_t count = config_conflicts(mixture, conflicts);
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
    struct log *log;
    char *error; /* the first one's, BROKER_ERROR_BYTES */
};

static void refuse_file(void *context, const char *option, const char *text)
{
    struct refusal *refusal = context;
    if (strcmp(option, "auth.keys_file") == 0)
        LOG(refusal->log, KEYS_REFUSED, LOG_S("detail", text));
    else if (strcmp(option, "tls") == 0)
        LOG(refusal->log, TLS_REFUSED, LOG_S("error", text));
    if (refusal->error[0] == '\0')
        snprintf(refusal->error, BROKER_ERROR_BYTES, "%s", text);
}

/* Those of the new configuration, and of what runs and does not change. */
static int check_fresh_files(struct reload *reload, const struct options *fresh, bool serves_tls,
                             char *error)
{
    struct refusal refusal = {reload->options.log, error};
    start_files_check(fresh, serves_tls || options_listen_like(fresh, LISTENER_tls), refuse_file,
                      &refusal);
    return error[0] != '\0' ? -EINVAL : 0;
}

static int use_certificates(struct reload *reload, const struct options *options, char *error)
{
    const struct net_tls_files files = {options->tls_certificate_file, options->tls_key_file,
                                        options->tls_client_ca_file};
    char what[BROKER_ERROR_BYTES];
    int failed = net_reload_tls(reload->options.net, &files, what);
    if (failed == -ENOTSUP)
        return 0;
    if (failed == 0) {
        LOG(reload->options.log, TLS_RELOADED, LOG_S("certificate", options->tls_certificate_file));
        certificate_tell(reload->options.certificate, true);
        return 0;
    }
    snprintf(error, BROKER_ERROR_BYTES, "%s", what[0] != '\0' ? what : "no memory");
    LOG(reload->options.log, TLS_REFUSED, LOG_S("error", error));
    return failed;
}

/* What was read and is not in force yet. */
struct fresh_files {
    struct keyring *keyring;
    struct link_token *token;
    struct room_classes *classes;
    struct web_target *webhook, *auth_http;
};

/* Reads what may have to be refused; a word of options.def without its case, here and in use(),
 * does not compile. The last one changes what is in force already, when it does not refuse. */
static int prepare(struct reload *reload, enum option_holds what, const struct options *options,
                   struct fresh_files *files, char *error)
{
    int failed = 0;
    switch (what) {
    case HOLDS_LINK_TOKEN:
        return start_files_token(options, &files->token, error);
    case HOLDS_KEYS:
        failed = start_files_keys(options, &files->keyring, error);
        if (failed != 0)
            LOG(reload->options.log, KEYS_REFUSED, LOG_S("detail", error));
        return failed;
    case HOLDS_ROOMS:
        return read_classes(options, &files->classes, error);
    case HOLDS_WEBHOOK:
        return start_files_webhook(options, &files->webhook, error);
    case HOLDS_AUTH_HTTP:
        return start_files_auth_http(options, &files->auth_http, error);
    case HOLDS_CERTIFICATES:
        return use_certificates(reload, options, error);
    case HOLDS_START:
    case HOLDS_LIVE:
    case HOLDS_LOG_LEVEL:
    case HOLDS_PROXIES:
    case HOLDS_COUNT:
        break;
    }
    return 0;
}

/* Takes what was prepared. Cannot fail. */
static void use(struct reload *reload, enum option_holds what, const struct options *options,
                struct fresh_files *files)
{
    switch (what) {
    case HOLDS_LINK_TOKEN:
        use_token(reload, files->token);
        break;
    case HOLDS_KEYS:
        use_keys(reload, options, files->keyring);
        break;
    case HOLDS_LIVE:
        use_limits(reload, options);
        break;
    case HOLDS_LOG_LEVEL:
        log_set_level(reload->options.log, (enum log_level)options->log_level);
        break;
    case HOLDS_PROXIES:
        use_proxies(reload, options);
        break;
    case HOLDS_ROOMS:
        use_classes(reload, files->classes);
        break;
    case HOLDS_WEBHOOK:
        use_webhook(reload, files->webhook);
        break;
    case HOLDS_AUTH_HTTP:
        use_auth_http(reload, files->auth_http);
        break;
    case HOLDS_START:
    case HOLDS_CERTIFICATES: /* are in use */
    case HOLDS_COUNT:
        break;
    }
}

/* Changes everything, or nothing. */
static int use_all(struct reload *reload, const struct options *options, char *error)
{
    struct fresh_files files = {0};
    int failed = 0;
    for (enum option_holds what = 0; failed == 0 && what < HOLDS_COUNT; what++)
        failed = prepare(reload, what, options, &files, error);
    if (failed != 0) {
        free(files.token);
        room_classes_destroy(files.classes);
        web_target_destroy(files.webhook);
        web_target_destroy(files.auth_http);
        keyring_release(files.keyring);
        return failed;
    }
    for (enum option_holds what = 0; what < HOLDS_COUNT; what++)
        use(reload, what, options, &files);
    tell_exposed(reload, options);
    return 0;
}

/* What holds from now on: the values of the file that a reload changes, beside the others as they
 * have been since the start. Never the file as it is: the parts are those of the start, and a file
 * that asks for another auth.mode has keys for a part that is not there. `fresh` gets what held
 * before. */
static int use_fresh(struct reload *reload, struct options *fresh, char *error)
{
    struct options *mixture = &reload->in_force;
    CHECK(lock_held(&reload->lock));
    config_swap_reloadable(mixture, fresh);
    int failed = check_mixture(mixture, error);
    if (failed == 0)
        failed = use_all(reload, mixture, error);
    if (failed != 0)
        config_swap_reloadable(mixture, fresh);
    return failed;
}

static void tell(struct reload *reload, const struct reload_report *report)
{
    size_t changed = 0;
    if (report->error[0] != '\0') {
        LOG(reload->options.log, RELOAD_REFUSED, LOG_S("error", report->error));
        return;
    }
    for (size_t i = 0; i < report->count; i++) {
        const struct option_change *change = &report->changes[i];
        changed += !change->restart;
        LOG(reload->options.log, OPTION_CHANGED, LOG_S("option", change->option),
            LOG_S("from", change->from), LOG_S("to", change->to),
            LOG_S("holds", change->restart ? "after a restart" : "now"));
    }
    LOG(reload->options.log, RELOADED, LOG_U("changed", changed),
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

static void begin_line(struct reload *reload, struct log_line *line, enum log_event_id id)
{
    log_line_begin_record(line, env_wall_ms(reload->options.env), log_event_level(id),
                          log_event_name(id));
}

static void put_refusal(struct reload *reload, enum log_event_id id, const char *error,
                        recorder_each *each, void *context)
{
    struct log_line line;
    const struct log_field fields[] = {LOG_S("error", error)};
    begin_line(reload, &line, id);
    (void)put_line(&line, each, context, fields, 1);
}

void reload_restart_lines(struct reload *reload, const char *error, recorder_each *each,
                          void *context)
{
    put_refusal(reload, LOG_EVENT_RESTART_REFUSED, error, each, context);
}

void reload_lines(struct reload *reload, const struct reload_report *report, recorder_each *each,
                  void *context)
{
    struct log_line line;
    if (report->error[0] != '\0')
        put_refusal(reload, LOG_EVENT_RELOAD_REFUSED, report->error, each, context);
    for (size_t i = 0; i < report->count; i++) {
        const struct option_change *change = &report->changes[i];
        const struct log_field fields[] = {
            LOG_S("option", change->option), LOG_S("from", change->from), LOG_S("to", change->to),
            LOG_S("holds", change->restart ? "after a restart" : "now")};
        begin_line(reload, &line, LOG_EVENT_OPTION_CHANGED);
        if (!put_line(&line, each, context, fields, 4))
            return;
    }
}

int reload_check_start(struct reload *reload, char *error)
{
    struct options fresh = {0};
    error[0] = '\0';
    lock_take(&reload->lock);
    int failed = read_options(reload, &fresh, error);
    if (failed == 0)
        failed = check_fresh_files(reload, &fresh, is_passed_like(reload, LISTENER_tls), error);
    if (failed != 0)
        LOG(reload->options.log, RESTART_REFUSED, LOG_S("error", error));
    lock_give(&reload->lock);
    options_fini(&fresh);
    return failed != 0 ? -EINVAL : 0;
}

int reload_run(struct reload *reload, struct reload_report *report)
{
    struct options fresh = {0};
    report->error[0] = '\0';
    report->count = 0;
    lock_take(&reload->lock);
    int failed = read_options(reload, &fresh, report->error);
    if (failed == 0)
        failed = check_fresh_files(reload, &fresh, net_has_certificate(reload->options.net),
                                   report->error);
    if (failed == 0)
        report->count = config_compare(&reload->in_force, &fresh, report->changes);
    if (failed == 0)
        failed = use_fresh(reload, &fresh, report->error);
    if (failed != 0)
        report->count = 0;
    tell(reload, report);
    snprintf(reload->error, sizeof(reload->error), "%s", report->error);
    if (failed == 0)
        tell_odd(reload, &reload->in_force);
    lock_give(&reload->lock);
    options_fini(&fresh);
    return failed != 0 ? -EINVAL : 0;
}

void reload_tell_odd(struct reload *reload)
{
    tell_odd(reload, reload->options.config);
}

void reload_error(struct reload *reload, char error[BROKER_ERROR_BYTES])
{
    lock_take(&reload->lock);
    memcpy(error, reload->error, sizeof(reload->error));
    lock_give(&reload->lock);
}

uint32_t reload_exposed(const struct reload *reload)
{
    return atomic_load(&reload->exposed);
}
