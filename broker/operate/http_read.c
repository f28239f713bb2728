/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "directory/services.h"
#include "operate/announce.h"
#include "operate/http_private.h"
#include "operate/presence_json.h"
#include "persist/sessions.h"
#include "persist/stored.h"
#include "proto/username.h"

/* What operators read. On the second thread of the admin endpoint, which reads the store itself:
 * any thread may, each read is one consistent state, and a slow disk delays this thread alone. */

enum { SESSIONS_DEFAULT = 100, EVENTS_DEFAULT = 100 };

static unsigned unavailable(json_t *answer, int error)
{
    return admin_fail(answer, 503, "unavailable", strerror(-error));
}

static unsigned limit_of(const struct admin_query *query, unsigned otherwise)
{
    return query->limit != 0 ? query->limit : otherwise;
}

/* --- node ------------------------------------------------------------------------------------- */

static void add_listener(json_t *to, const char *kind, const char *address)
{
    json_array_append_new(to, json_pack("{s:s, s:s}", "kind", kind, "address", address));
}

static json_t *listeners_json(const struct http_options *http)
{
    const struct options *options = http->config;
    char address[NET_ADDRESS_BYTES_MAX];
    json_t *listeners = json_array();
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        if (announce_address(http->net, kind, address))
            add_listener(listeners, listener_rows[kind].name, address);
    for (size_t i = 0; i < options->link_urls.count; i++)
        add_listener(listeners, "link", options->link_urls.items[i]);
    if (options->feed_url[0] != '\0')
        add_listener(listeners, "feed", options->feed_url);
    return listeners;
}

unsigned http_node(void *context, const struct admin_query *query, json_t *answer)
{
    static const char *const modes[] = {[AUTH_MODE_OPEN] = "open",
                                        [AUTH_MODE_TOKEN] = "token",
                                        [AUTH_MODE_SERVICE] = "service",
                                        [AUTH_MODE_HTTP] = "http"};
    const struct http *http = http_of(context);
    const struct http_options *options = &http->options;
    json_t *node =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:b, s:o}", "node",
                  options->config->node_name, "boot", options->node_boot, "version", USHER_VERSION,
                  "pid", (json_int_t)getpid(), "started_ms", (json_int_t)http->started_ms, "now_ms",
                  (json_int_t)env_wall_ms(options->env), "uptime_ms",
                  (json_int_t)(env_monotonic_ms(options->env) - http->health.up_ms), "state",
                  leave_state_name(leave_state(options->leave)), "auth_mode",
                  modes[options->config->auth_mode], "may_change", (int)query->may_change,
                  "listeners", listeners_json(options));
    json_object_update(answer, node);
    json_decref(node);
    return 200;
}

/* --- sessions --------------------------------------------------------------------------------- */

static const char *state_name(enum session_state state)
{
    return state == SESSION_ONLINE ? "online" : "detached";
}

static json_t *session_json(const char *user, const struct session_record *record,
                            uint32_t inbox_messages)
{
    /* Client texts may be any bytes: what is not UTF-8 is left out. */
    json_t *client = json_string(record->client);
    return json_pack("{s:s, s:I, s:s, s:I, s:s, s:s, s:o, s:I}", "user", user, "epoch",
                     (json_int_t)record->epoch, "state", state_name(record->state), "since_ms",
                     (json_int_t)record->since_ms, "address", record->address, "transport",
                     record->transport, "client", client != NULL ? client : json_string("?"),
                     "inbox_messages", (json_int_t)inbox_messages);
}

static bool add_session(void *context, const struct session_row *row)
{
    json_array_append_new(context, session_json(row->user, row->record, row->inbox_messages));
    return true;
}

static bool take_state(const char *text, enum session_state *state)
{
    *state = 0;
    if (text[0] == '\0')
        return true;
    *state = strcmp(text, "online") == 0     ? SESSION_ONLINE
             : strcmp(text, "detached") == 0 ? SESSION_DETACHED
                                             : 0;
    return *state != 0;
}

unsigned http_sessions(void *context, const struct admin_query *query, json_t *answer)
{
    const struct http_options *options = &http_of(context)->options;
    const struct sessions sessions = {options->store, options->registry};
    struct session_page page = {.prefix = query->prefix,
                                .after = query->after_name,
                                .limit = limit_of(query, SESSIONS_DEFAULT)};
    if (!take_state(query->state, &page.state))
        return admin_fail(answer, 400, "bad_request", "state is online or detached");
    json_t *rows = json_array();
    int error = sessions_list(&sessions, &page, add_session, rows);
    if (error != 0) {
        json_decref(rows);
        return unavailable(answer, error);
    }
    json_object_set_new(answer, "sessions", rows);
    json_object_set_new(answer, "more", json_boolean(page.more));
    if (page.more)
        json_object_set_new(answer, "next", json_string(page.last));
    json_object_set_new(answer, "presence_seq", json_integer((json_int_t)page.presence_seq));
    return 200;
}

/* --- the past --------------------------------------------------------------------------------- */

/* Texts of others may be any bytes. */
static json_t *text_json(const char *text)
{
    json_t *value = json_string(text);
    return value != NULL ? value : json_string("?");
}

static const char *past_kind(uint8_t kind)
{
    static const char *const names[HISTORY_KINDS] = {
        [HISTORY_ONLINE] = "ONLINE",
        [HISTORY_DETACHED] = "DETACHED",
        [HISTORY_RESUMED] = "RESUMED",
        [HISTORY_OFFLINE] = "OFFLINE",
        [HISTORY_LOGIN_REFUSED] = "LOGIN_REFUSED",
        [HISTORY_RESUME_REFUSED] = "RESUME_REFUSED",
    };
    return kind < HISTORY_KINDS && names[kind] != NULL ? names[kind] : "NONE";
}

static json_t *past_json(const struct history_record *record)
{
    char words[PAST_WORDS_MAX];
    past_words(record, words);
    return json_pack("{s:I, s:s, s:s, s:I, s:o, s:s, s:o, s:o, s:o, s:s, s:I, s:I, s:I, s:I, s:o}",
                     "time_ms", (json_int_t)record->time_ms, "kind", past_kind(record->kind),
                     "cause", record->cause != 0 ? presence_cause_name(record->cause) : "", "epoch",
                     (json_int_t)record->epoch, "address", text_json(record->address), "transport",
                     record->transport, "client", text_json(record->client), "by",
                     text_json(record->by), "detail", text_json(record->detail), "limit",
                     record->limit, "bound", (json_int_t)record->bound, "value",
                     (json_int_t)record->value, "count", (json_int_t)record->count, "missing",
                     (json_int_t)record->missing, "text", text_json(words));
}

/* Into the answer: the newest of what has happened to the user. Gives how many. */
static int add_past(const struct http_options *options, const struct admin_query *query,
                    json_t *answer, size_t *count)
{
    struct past_page page;
    int error = past_read(&options->past, query->user, query->limit, &page);
    *count = 0;
    if (error != 0)
        return error;
    json_t *rows = json_array();
    for (size_t i = 0; i < page.count; i++)
        json_array_append_new(rows, past_json(&page.list[i]));
    *count = page.count;
    json_object_set_new(answer, "history", rows);
    json_object_set_new(answer, "history_more", json_boolean(page.more));
    json_object_set_new(answer, "history_first_ms", json_integer((json_int_t)page.first_ms));
    free(page.list);
    return 0;
}

/* What is stored for the user, also when he has no session: how many, in the answer. */
static int add_stored(const struct http_options *options, const struct admin_query *query,
                      json_t *answer, uint32_t *count)
{
    struct stored_summary stored;
    int error = stored_list(options->stored, query->user, 0, 0, NULL, NULL, &stored);
    *count = stored.count;
    json_object_set_new(answer, "stored",
                        json_pack("{s:I, s:I}", "messages", (json_int_t)stored.count, "bytes",
                                  (json_int_t)stored.bytes));
    return error;
}

unsigned http_session(void *context, const struct admin_query *query, json_t *answer)
{
    const struct http *http = http_of(context);
    const struct http_options *options = &http->options;
    struct session_record record;
    if (!username_valid(bytes_of_text(query->user)))
        return admin_fail(answer, 400, "bad_request", "that is no username");
    int error = store_get_session(options->store, query->user, &record);
    if (error != 0 && error != -ENOENT)
        return unavailable(answer, error);
    size_t told = 0;
    uint32_t stored = 0;
    int failed = add_past(options, query, answer, &told);
    failed = failed != 0 ? failed : add_stored(options, query, answer, &stored);
    if (failed != 0)
        return unavailable(answer, failed);
    json_t *timeline = http_timeline(http, query->user);
    if (error == -ENOENT && json_array_size(timeline) == 0 && told == 0 && stored == 0) {
        json_decref(timeline);
        json_object_clear(answer);
        return admin_fail(answer, 404, "not_found",
                          "that user has no session, and nothing is told of that name");
    }
    uint32_t waiting = registry_gauge(options->registry, query->user, strlen(query->user));
    json_t *session = error == 0 ? session_json(query->user, &record, waiting) : json_null();
    json_object_set_new(answer, "session", session);
    json_object_set_new(answer, "timeline", timeline);
    return 200;
}

/* --- services --------------------------------------------------------------------------------- */

static json_t *instance_json(const struct service_look *row)
{
    const char *state = row->lost ? "lost" : row->draining ? "draining" : "serving";
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:b}", "instance", row->instance, "state", state,
                     "mail_waiting", (json_int_t)row->mail_waiting, "calls_open",
                     (json_int_t)row->calls_open, "last_fetch_ms", (json_int_t)row->last_fetch_ms,
                     "presence", (int)row->presence);
}

unsigned http_services(void *context, const struct admin_query *query, json_t *answer)
{
    const struct http_options *options = &http_of(context)->options;
    size_t room = options->instances_max + (size_t)limits_services(options->limits);
    struct service_look *rows = calloc(room, sizeof(*rows));
    if (rows == NULL)
        return unavailable(answer, -ENOMEM);
    size_t count = services_look(options->services, rows, room);
    json_t *services = json_array();
    json_t *instances = NULL;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || strcmp(rows[i].service, rows[i - 1].service) != 0) {
            instances = json_array();
            json_array_append_new(
                services, json_pack("{s:s, s:o}", "name", rows[i].service, "instances", instances));
        }
        if (rows[i].instance[0] != '\0')
            json_array_append_new(instances, instance_json(&rows[i]));
    }
    free(rows);
    json_object_set_new(answer, "services", services);
    return 200;
}

/* --- presence --------------------------------------------------------------------------------- */

static bool add_event(void *context, const struct presence_event *event)
{
    const struct event_fields fields = presence_event_fields(event);
    json_array_append_new(context, presence_json(&fields));
    return true;
}

unsigned http_presence(void *context, const struct admin_query *query, json_t *answer)
{
    const struct http_options *options = &http_of(context)->options;
    unsigned limit = limit_of(query, EVENTS_DEFAULT);
    struct store_position position;
    uint64_t after = query->after;
    int error = store_position(options->store, &position);
    if (error == 0 && query->after_name[0] == '\0') /* the newest ones */
        after = position.presence_last > limit ? position.presence_last - limit : 0;
    json_t *events = json_array();
    if (error == 0)
        error = store_read_events(options->store, after, limit, add_event, events, &position);
    if (error != 0) {
        json_decref(events);
        return unavailable(answer, error);
    }
    bool reset = query->after_name[0] != '\0' && position.presence_first > after &&
                 position.presence_first - after > 1;
    json_object_set_new(answer, "events", events);
    json_object_set_new(answer, "presence_last", json_integer((json_int_t)position.presence_last));
    json_object_set_new(answer, "reset", json_boolean(reset));
    return 200;
}
