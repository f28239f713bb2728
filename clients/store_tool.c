/* SPDX-License-Identifier: Apache-2.0 */

/* usher-store: looks into the folder of a store, whether a broker runs on it or not.
 *
 * It reads as the broker itself does, page by page, each page one short transaction; so what it
 * prints of a store that is written to meanwhile is true row by row, and a backup is true as a whole.
 * Secrets and payloads are never printed. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/print_json.h"
#include "storage/inspect.h"

enum { EXIT_OK = 0, EXIT_REFUSED = 1, EXIT_WRONG_USE = 64, EXIT_DAMAGED = 65, PAGE_ROWS = 256 };

static int fail(int error, const char *text)
{
    fprintf(stderr, "usher-store: %s\n", text[0] != '\0' ? text : strerror(-error));
    return error == -EUCLEAN ? EXIT_DAMAGED : EXIT_REFUSED;
}

static int help(void)
{
    puts("usher-store - look into a store of usherd\n\n"
         "Usage: usher-store check FOLDER            read and verify every record\n"
         "       usher-store dump FOLDER             print it as JSON lines, without secrets\n"
         "       usher-store backup FOLDER TARGET    copy it, consistently, into a new folder\n\n"
         "FOLDER is store.path; a broker may be running on it. A backup holds the secrets by which\n"
         "sessions are resumed: keep it private.\n\n"
         "Exit codes: 0 done, 1 refused, 64 usage, 65 the store is damaged.");
    return EXIT_OK;
}

/* --- what is in it, row by row ------------------------------------------------------------------ */

struct walk {
    struct store *store;
    bool print;
    uint64_t sessions, events, messages, inboxes;
    char last_user[STORE_NAME_BYTES_MAX + 1];
    char users[PAGE_ROWS][STORE_NAME_BYTES_MAX + 1]; /* of the page, for their inboxes */
    size_t user_count;
};

static bool on_session(void *context, const char *user, const struct session_record *record)
{
    struct walk *walk = context;
    walk->sessions++;
    strcpy(walk->last_user, user);
    strcpy(walk->users[walk->user_count++], user);
    if (walk->print) {
        json_text("{", "row", "session");
        json_text(",", "user", user);
        json_text(",", "state", record->state == SESSION_ONLINE ? "online" : "detached");
        json_number(",", "epoch", record->epoch);
        json_number(",", "since_ms", record->since_ms);
        json_number(",", "acks", record->acks);
        json_text(",", "address", record->address);
        json_text(",", "client", record->client);
        puts("}");
    }
    return true;
}

static bool on_event(void *context, const struct presence_event *event)
{
    struct walk *walk = context;
    walk->events++;
    if (walk->print) {
        json_text("{", "row", "event");
        json_number(",", "seq", event->seq);
        json_number(",", "time_ms", event->time_ms);
        json_text(",", "user", event->user);
        json_number(",", "kind", event->kind);
        json_number(",", "cause", event->cause);
        json_number(",", "epoch", event->epoch);
        json_number(",", "previous_epoch", event->previous_epoch);
        puts("}");
    }
    return true;
}

static bool on_message(void *context, const struct saved_message *message)
{
    struct walk *walk = context;
    walk->messages++;
    if (walk->print) {
        char name[STORE_NAME_BYTES_MAX + 1];
        snprintf(name, sizeof name, "%.*s", (int)message->name.size,
                 (const char *)message->name.data);
        json_text("{", "row", "message");
        json_text(",", "user", walk->last_user);
        json_number(",", "seq", message->seq);
        json_text(",", message->from_service ? "service" : "from", name);
        json_number(",", "bytes", message->payload.size);
        puts("}");
    }
    return true;
}

static int walk_inboxes(struct walk *walk)
{
    int error = 0;
    for (size_t i = 0; error == 0 && i < walk->user_count; i++) {
        struct saved_inbox inbox;
        strcpy(walk->last_user, walk->users[i]);
        error = store_read_inbox(walk->store, walk->users[i], &inbox, on_message, walk);
        walk->inboxes += error == 0;
        error = error == -ENOENT ? 0 : error;
    }
    return error;
}

static int walk_sessions(struct walk *walk)
{
    bool more = true;
    int error = 0;
    while (more && error == 0) {
        uint64_t presence_last;
        char after[STORE_NAME_BYTES_MAX + 1];
        strcpy(after, walk->last_user);
        walk->user_count = 0;
        error = store_list_sessions(walk->store, "", after, PAGE_ROWS, on_session, walk,
                                    &presence_last, &more);
        if (error == 0)
            error = walk_inboxes(walk);
    }
    return error;
}

static int walk_events(struct walk *walk)
{
    struct store_position position;
    uint64_t after = 0;
    int error = store_position(walk->store, &position);
    uint64_t last = position.presence_last; /* those that come meanwhile are for the next time */
    while (error == 0 && after < last) {
        uint64_t before = walk->events;
        error = store_read_events(walk->store, after, PAGE_ROWS, on_event, walk, &position);
        after = after + 1 < position.presence_first ? position.presence_first - 1 : after;
        after += walk->events - before;
    }
    return error;
}

static void print_about(const struct store_about *about, const struct store_position *position)
{
    json_text("{", "row", "store");
    json_text(",", "schema", about->schema);
    json_text(",", "state", about->live ? "live" : "at rest");
    json_number(",", "file_bytes", about->file_bytes);
    json_number(",", "map_bytes", about->map_bytes);
    json_number(",", "sessions", position->sessions);
    json_number(",", "epoch_last", position->epoch_last);
    json_number(",", "presence_first", position->presence_first);
    json_number(",", "presence_last", position->presence_last);
    puts("}");
}

static int walk_all(const char *path, struct walk *walk, struct store_about *about)
{
    char text[STORE_ERROR_BYTES_MAX] = "";
    struct store_position position;
    int error = store_open_reader(&walk->store, path, about, text);
    if (error != 0)
        return fail(error, text);
    error = store_position(walk->store, &position);
    if (error == 0)
        print_about(about, &position);
    if (error == 0)
        error = walk_sessions(walk);
    if (error == 0)
        error = walk_events(walk);
    store_close(walk->store);
    return error == 0 ? EXIT_OK : fail(error, error == -EUCLEAN ? "a record is damaged" : "");
}

/* --- commands ----------------------------------------------------------------------------------- */

static int with_walk(const char *path, bool print, struct walk **out, struct store_about *about)
{
    struct walk *walk = calloc(1, sizeof *walk);
    if (walk == NULL)
        return fail(-ENOMEM, "");
    walk->print = print;
    *out = walk;
    return walk_all(path, walk, about);
}

/* The structure first: a record of a file whose pages are damaged is not to be looked for. */
static int check(const char *path)
{
    char text[STORE_ERROR_BYTES_MAX] = "";
    struct store_about about;
    struct walk *walk = NULL;
    int error = store_check_structure(path, text);
    if (error != 0 && error != -EBUSY)
        return fail(error, text);
    int result = with_walk(path, false, &walk, &about);
    if (result == EXIT_OK) {
        json_text("{", "row", "checked");
        json_text(",", "structure", error == 0 ? "good" : "not looked at: a broker writes to it");
        json_text(",", "records", "good");
        json_number(",", "sessions", walk->sessions);
        json_number(",", "events", walk->events);
        json_number(",", "inboxes", walk->inboxes);
        json_number(",", "messages", walk->messages);
        puts("}");
    }
    free(walk);
    return result;
}

static int dump(const char *path)
{
    struct store_about about;
    struct walk *walk = NULL;
    int result = with_walk(path, true, &walk, &about);
    free(walk);
    return result;
}

static int backup(const char *path, const char *folder)
{
    char text[STORE_ERROR_BYTES_MAX] = "";
    uint64_t bytes = 0;
    int error = store_backup(path, folder, &bytes, text);
    if (error != 0)
        return fail(error, text);
    json_text("{", "row", "backup");
    json_text(",", "folder", folder);
    json_number(",", "bytes", bytes);
    puts("}");
    return EXIT_OK;
}

int main(int argc, char **argv)
{
    int result = EXIT_WRONG_USE;
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        result = help();
    else if (argc == 2 && strcmp(argv[1], "--version") == 0)
        result = puts("usher-store " USHER_VERSION) < 0;
    else if (argc == 3 && strcmp(argv[1], "check") == 0)
        result = check(argv[2]);
    else if (argc == 3 && strcmp(argv[1], "dump") == 0)
        result = dump(argv[2]);
    else if (argc == 4 && strcmp(argv[1], "backup") == 0)
        result = backup(argv[2], argv[3]);
    else
        fputs("usher-store: see usher-store --help\n", stderr);
    if (fflush(stdout) != 0 || ferror(stdout))
        result = result == EXIT_OK ? EXIT_REFUSED : result;
    return result;
}
