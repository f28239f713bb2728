/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/json.h"
#include "storage/inspect.h"
#include "storage/log_entry.h"

/* usher-store: looks into the folder of a store, whether a broker runs on it or not.
 *
 * It reads as the broker itself does, page by page, each page one short transaction; so what it
 * prints of a store that is written to meanwhile is true row by row, and a backup is true as a
 * whole. Secrets and payloads are never printed.
 *
 * A damaged value of the log of stored messages is named, and the walk goes on behind it as a
 * broker does; the store is called damaged at the end. */

enum {
    EXIT_OK = 0,
    EXIT_REFUSED = 1,
    EXIT_WRONG_USE = 64,
    EXIT_DAMAGED = 65,
    PAGE_ROWS = 256,
    NUMBERS_TRIED = 8
};

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
         "       usher-store backup FOLDER TARGET    copy it, consistently and checked, into a new "
         "folder\n"
         "       usher-store restore BACKUP FOLDER   put a backup into the folder of a stopped "
         "broker\n\n"
         "FOLDER is store.path; a broker may be running on it, but for restore. A backup holds the "
         "secrets by which\n"
         "sessions are resumed: keep it private.\n\n"
         "Exit codes: 0 done, 1 refused, 64 usage, 65 the store is damaged.");
    return EXIT_OK;
}

/* --- what is in it, row by row ---------------------------------------------------------------- */

/* What a page prints is collected in `out` and written when the page's transaction is over: whoever
 * reads us may stop for hours (a pager), and a transaction that is open so long keeps the broker
 * from using freed pages again. */
struct walk {
    struct store *store;
    bool print;
    FILE *out;
    char *text;
    size_t text_size;
    uint64_t sessions, events, messages, inboxes, history;
    uint64_t values, entries, damaged; /* of the log */
    uint64_t value_last;
    size_t value_count; /* on the page */
    char last_user[STORE_NAME_BYTES_MAX + 1];
    char users[PAGE_ROWS][STORE_NAME_BYTES_MAX + 1]; /* of the page, for their inboxes */
    size_t user_count;
};

/* Of the token of the login. */
static void print_rooms(FILE *out, struct bytes rooms)
{
    char text[STORE_ROOMS_BYTES_MAX + 1];
    memcpy(text, rooms.data, rooms.size);
    text[rooms.size] = '\0';
    print_json_text(out, ",", "rooms", text);
}

/* Notes whose inbox is to be read, too: the page's transaction is still open. */
static bool on_session(void *context, const char *user, const struct session_record *record)
{
    struct walk *walk = context;
    FILE *out = walk->out;
    walk->sessions++;
    strcpy(walk->last_user, user);
    strcpy(walk->users[walk->user_count++], user);
    if (walk->print) {
        print_json_text(out, "{", "row", "session");
        print_json_text(out, ",", "user", user);
        print_json_text(out, ",", "state", record->state == SESSION_ONLINE ? "online" : "detached");
        print_json_number(out, ",", "epoch", record->epoch);
        print_json_number(out, ",", "since_ms", record->since_ms);
        print_json_number(out, ",", "acks", record->acks);
        print_json_number(out, ",", "token_ends_ms", record->token_ends_ms);
        print_json_text(out, ",", "address", record->address);
        print_json_text(out, ",", "transport", record->transport);
        print_json_text(out, ",", "client", record->client);
        if (record->rooms.size > 0)
            print_rooms(out, record->rooms);
        fputs("}\n", out);
    }
    return true;
}

static bool on_event(void *context, const struct presence_event *event)
{
    struct walk *walk = context;
    FILE *out = walk->out;
    walk->events++;
    if (walk->print) {
        print_json_text(out, "{", "row", "event");
        print_json_number(out, ",", "seq", event->seq);
        print_json_number(out, ",", "time_ms", event->time_ms);
        print_json_text(out, ",", "user", event->user);
        print_json_number(out, ",", "kind", event->kind);
        print_json_number(out, ",", "cause", event->cause);
        print_json_number(out, ",", "epoch", event->epoch);
        print_json_number(out, ",", "previous_epoch", event->previous_epoch);
        fputs("}\n", out);
    }
    return true;
}

static bool on_message(void *context, const struct saved_message *message)
{
    struct walk *walk = context;
    FILE *out = walk->out;
    walk->messages++;
    if (walk->print) {
        char name[STORE_NAME_BYTES_MAX + 1];
        snprintf(name, sizeof(name), "%.*s", (int)message->name.size,
                 (const char *)message->name.data);
        print_json_text(out, "{", "row", "message");
        print_json_text(out, ",", "user", walk->last_user);
        print_json_number(out, ",", "seq", message->seq);
        print_json_text(out, ",", message->from_service ? "service" : "from", name);
        print_json_number(out, ",", "bytes", message->payload.size);
        if (message->mid != 0)
            print_json_number(out, ",", "mid", message->mid);
        fputs("}\n", out);
    }
    return true;
}

static void print_name(FILE *out, const char *key, struct bytes name)
{
    char text[STORE_NAME_BYTES_MAX + 1];
    snprintf(text, sizeof(text), "%.*s", (int)name.size, (const char *)name.data);
    print_json_text(out, ",", key, text);
}

static void print_entry(FILE *out, uint64_t value, const struct log_entry *entry)
{
    static const char *const kinds[] = {
        [LOG_ENTRY_KEPT] = "kept",
        [LOG_ENTRY_DONE] = "done",
        [LOG_ENTRY_TAG] = "tag",
        [LOG_ENTRY_LOST] = "lost",
    };
    struct bytes receivers = entry->receivers;
    struct bytes name;
    print_json_text(out, "{", "row", "stored");
    print_json_number(out, ",", "value", value);
    print_json_text(out, ",", "kind", kinds[entry->kind]);
    print_json_number(out, ",", "mid", entry->mid);
    if (entry->sender.size > 0)
        print_name(out, entry->from_service ? "service" : "from", entry->sender);
    if (entry->receiver_count > 1)
        print_json_number(out, ",", "users", entry->receiver_count);
    if (log_receiver_next(&receivers, &name))
        print_name(out, "user", name);
    print_json_number(out, ",", "time_ms", entry->time_ms);
    print_json_number(out, ",", "expires_ms", entry->expires_ms);
    print_json_number(out, ",", "tag", entry->tag);
    print_json_number(out, ",", "bytes", entry->payload.size);
    fputs("}\n", out);
}

/* Its name for whoever looks for what is gone: nothing in it is told any more. */
static void print_damaged(struct walk *walk, uint64_t value)
{
    walk->damaged++;
    print_json_text(walk->out, "{", "row", "damaged");
    print_json_text(walk->out, ",", "part", "log");
    print_json_number(walk->out, ",", "value", value);
    fputs("}\n", walk->out);
}

static bool on_value(void *context, uint64_t number, struct bytes value)
{
    struct walk *walk = context;
    struct log_entry entry;
    walk->values++;
    walk->value_last = number;
    bool is_damaged = value.data == NULL;
    while (!is_damaged && log_entry_read(&value, &entry)) {
        walk->entries++;
        if (walk->print)
            print_entry(walk->out, number, &entry);
    }
    if (is_damaged || value.size > 0)
        print_damaged(walk, number);
    return ++walk->value_count < PAGE_ROWS;
}

static bool on_history(void *context, const struct history_record *record)
{
    struct walk *walk = context;
    FILE *out = walk->out;
    walk->history++;
    if (walk->print) {
        print_json_text(out, "{", "row", "history");
        print_json_number(out, ",", "time_ms", record->time_ms);
        print_json_text(out, ",", "user", record->user);
        print_json_number(out, ",", "kind", record->kind);
        print_json_number(out, ",", "cause", record->cause);
        print_json_number(out, ",", "epoch", record->epoch);
        print_json_text(out, ",", "address", record->address);
        print_json_text(out, ",", "by", record->by);
        print_json_text(out, ",", "detail", record->detail);
        print_json_text(out, ",", "limit", record->limit);
        fputs("}\n", out);
    }
    return true;
}

static bool page_begin(struct walk *walk)
{
    walk->user_count = 0;
    walk->out = open_memstream(&walk->text, &walk->text_size);
    return walk->out != NULL;
}

static void page_end(struct walk *walk)
{
    fclose(walk->out);
    fwrite(walk->text, 1, walk->text_size, stdout);
    free(walk->text);
}

/* Of the users of the page; one who has no saved inbox has an empty one. */
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
        if (!page_begin(walk))
            return -ENOMEM;
        error = store_list_sessions(walk->store, "", after, PAGE_ROWS, on_session, walk,
                                    &presence_last, &more);
        if (error == 0)
            error = walk_inboxes(walk);
        page_end(walk);
    }
    return error;
}

/* Numbers that are gone by now are passed over: the broker drops old events meanwhile. */
static int walk_events(struct walk *walk)
{
    struct store_position position;
    uint64_t after = 0;
    int error = store_position(walk->store, &position);
    uint64_t last = position.presence_last; /* those that come meanwhile are for the next time */
    while (error == 0 && after < last) {
        uint64_t before = walk->events;
        if (!page_begin(walk))
            return -ENOMEM;
        error = store_read_events(walk->store, after, PAGE_ROWS, on_event, walk, &position);
        page_end(walk);
        after = after + 1 < position.presence_first ? position.presence_first - 1 : after;
        after += walk->events - before;
    }
    return error;
}

/* Newest first. */
static int walk_history(struct walk *walk, enum history_ring ring)
{
    struct history_query query = {.ring = ring, .user = "", .limit = PAGE_ROWS};
    struct history_page page = {.next = 0};
    int error = 0;
    do {
        query.before = page.next;
        if (!page_begin(walk))
            return -ENOMEM;
        error = store_read_history(walk->store, &query, on_history, walk, &page);
        page_end(walk);
    } while (error == 0 && page.next != 0);
    return error;
}

/* Oldest first, of those that are there now. */
static int walk_log(struct walk *walk)
{
    struct store_position position;
    int error = store_position(walk->store, &position);
    do {
        walk->value_count = 0;
        if (error != 0 || walk->value_last >= position.log_last)
            break;
        if (!page_begin(walk))
            return -ENOMEM;
        error = store_read_log(walk->store, walk->value_last + 1, on_value, walk);
        page_end(walk);
    } while (walk->value_count > 0);
    return error;
}

static void print_about(const struct store_about *about, const struct store_position *position)
{
    FILE *out = stdout;
    print_json_text(out, "{", "row", "store");
    print_json_text(out, ",", "schema", about->schema);
    print_json_text(out, ",", "state", about->live ? "live" : "at rest");
    print_json_number(out, ",", "file_bytes", about->file_bytes);
    print_json_number(out, ",", "map_bytes", about->map_bytes);
    print_json_number(out, ",", "sessions", position->sessions);
    print_json_number(out, ",", "epoch_last", position->epoch_last);
    print_json_number(out, ",", "presence_first", position->presence_first);
    print_json_number(out, ",", "presence_last", position->presence_last);
    print_json_number(out, ",", "log_first", position->log_first);
    print_json_number(out, ",", "log_last", position->log_last);
    print_json_number(out, ",", "log_values", position->log_values);
    print_json_number(out, ",", "log_bytes", position->log_bytes);
    fputs("}\n", out);
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
    for (int ring = 0; error == 0 && ring < HISTORY_RINGS; ring++)
        error = walk_history(walk, ring);
    if (error == 0)
        error = walk_log(walk);
    store_close(walk->store);
    if (error == 0 && walk->damaged > 0)
        return fail(-EUCLEAN, "values of the log are damaged; a broker goes on without what is in "
                              "them");
    return error == 0 ? EXIT_OK : fail(error, error == -EUCLEAN ? "a record is damaged" : "");
}

/* --- commands --------------------------------------------------------------------------------- */

static int with_walk(const char *path, bool print, struct walk **out, struct store_about *about)
{
    struct walk *walk = calloc(1, sizeof(*walk));
    if (walk == NULL)
        return fail(-ENOMEM, "");
    walk->print = print;
    *out = walk;
    return walk_all(path, walk, about);
}

/* The structure is looked at when it is opened. */
static int check(const char *path)
{
    FILE *out = stdout;
    struct store_about about;
    struct walk *walk = NULL;
    int result = with_walk(path, false, &walk, &about);
    if (result == EXIT_OK) {
        print_json_text(out, "{", "row", "checked");
        print_json_text(out, ",", "structure",
                        about.live ? "not looked at: a broker writes to it" : "good");
        print_json_text(out, ",", "records", "good");
        print_json_number(out, ",", "sessions", walk->sessions);
        print_json_number(out, ",", "events", walk->events);
        print_json_number(out, ",", "inboxes", walk->inboxes);
        print_json_number(out, ",", "messages", walk->messages);
        print_json_number(out, ",", "history", walk->history);
        print_json_number(out, ",", "log_values", walk->values);
        print_json_number(out, ",", "log_entries", walk->entries);
        fputs("}\n", out);
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

typedef int transferring(const char *path, const char *folder, uint64_t *bytes, char *error);

/* A backup or a restore. */
static int bring(const char *row, transferring *transfer, const char *path, const char *folder)
{
    FILE *out = stdout;
    char text[STORE_ERROR_BYTES_MAX] = "";
    uint64_t bytes = 0;
    int error = transfer(path, folder, &bytes, text);
    if (error != 0)
        return fail(error, text);
    print_json_text(out, "{", "row", row);
    print_json_text(out, ",", "folder", folder);
    print_json_number(out, ",", "bytes", bytes);
    fputs("}\n", out);
    return EXIT_OK;
}

/* Goes on in a child, whose end is then ours. */
static void become_child(void)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (child <= 0)
        return;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_REFUSED);
}

/* A process of another container may have our number, and then one of us could not read (see
 * store_number_is_taken). Number 1 is left to brokers in any case, which cannot choose. */
static void take_another_number(const char *path)
{
    for (int tries = 0; tries < NUMBERS_TRIED; tries++)
        if (getpid() == 1 || store_number_is_taken(path))
            become_child();
}

int main(int argc, char **argv)
{
    int result = EXIT_WRONG_USE;
    if (argc > 2)
        take_another_number(argv[2]);
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        result = help();
    else if (argc == 2 && strcmp(argv[1], "--version") == 0)
        result = puts("usher-store " USHER_VERSION) < 0;
    else if (argc == 3 && strcmp(argv[1], "check") == 0)
        result = check(argv[2]);
    else if (argc == 3 && strcmp(argv[1], "dump") == 0)
        result = dump(argv[2]);
    else if (argc == 4 && strcmp(argv[1], "backup") == 0)
        result = bring("backup", store_backup, argv[2], argv[3]);
    else if (argc == 4 && strcmp(argv[1], "restore") == 0)
        result = bring("restore", store_restore, argv[2], argv[3]);
    else
        fputs("usher-store: see usher-store --help\n", stderr);
    if (fflush(stdout) != 0 || ferror(stdout))
        result = result == EXIT_OK ? EXIT_REFUSED : result;
    return result;
}
