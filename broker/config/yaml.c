/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "config/private.h"

/* A configuration file is YAML without YAML's surprises: one mapping, nested or with dotted keys,
 * of plain values and short lists. Anchors, aliases, tags, several documents and deep nesting are
 * refused: no configuration needs them, and each has hidden a mistake somewhere. Scalars keep
 * their text: whether `no` is a word or a truth is decided by the option, not by YAML.
 *
 * libyaml is used through its events. A fault in a value is told and reading goes on, so that all
 * of them are seen at once; a fault in the structure ends the reading (`broken`). Whoever takes an
 * event from the parser deletes it. */

enum { FILE_BYTES_MAX = 1 << 20, KEY_BYTES_MAX = 127, DEPTH_MAX = 3 };

struct reader {
    yaml_parser_t parser;
    const char *path;
    FILE *complaints;
    struct options *options;
    size_t set_at_line[OPTION_COUNT]; /* 0: not yet */
    bool faulty;                      /* something was told */
    bool broken;                      /* stop reading */
};

static const char *where(const struct reader *reader, size_t line, char *text, size_t size)
{
    snprintf(text, size, "%s:%zu", reader->path, line);
    return text;
}

static void complain(struct reader *reader, size_t line, const char *key, const char *what)
{
    char place[512];
    fprintf(reader->complaints, "%s: %s%s%s\n", where(reader, line, place, sizeof(place)), key,
            key[0] != '\0' ? ": " : "", what);
    reader->faulty = true;
}

static void give_up(struct reader *reader, size_t line, const char *what)
{
    complain(reader, line, "", what);
    reader->broken = true;
}

static size_t line_of(const yaml_event_t *event)
{
    return event->start_mark.line + 1;
}

/* What is refused wherever it stands. */
static const char *refusal(const yaml_event_t *event)
{
    if (event->type == YAML_ALIAS_EVENT)
        return "an alias (*name); accepted: plain values";
    if ((event->type == YAML_SCALAR_EVENT &&
         (event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL)) ||
        (event->type == YAML_SEQUENCE_START_EVENT &&
         (event->data.sequence_start.anchor != NULL || event->data.sequence_start.tag != NULL)) ||
        (event->type == YAML_MAPPING_START_EVENT &&
         (event->data.mapping_start.anchor != NULL || event->data.mapping_start.tag != NULL)))
        return "an anchor (&name) or a tag (!name); accepted: plain values";
    if (event->type == YAML_SCALAR_EVENT &&
        strlen((const char *)event->data.scalar.value) != event->data.scalar.length)
        return "a NUL character; accepted: text without it";
    return NULL;
}

/* The next event, to be deleted by the caller; false when reading is over (nothing to delete). */
static bool next(struct reader *reader, yaml_event_t *event)
{
    if (reader->broken)
        return false;
    if (!yaml_parser_parse(&reader->parser, event)) {
        char what[256];
        snprintf(what, sizeof(what), "not YAML: %s%s%s",
                 reader->parser.problem != NULL ? reader->parser.problem : "unreadable",
                 reader->parser.context != NULL ? ", " : "",
                 reader->parser.context != NULL ? reader->parser.context : "");
        size_t line = reader->parser.problem_mark.line;
        give_up(reader, line + 1, what);
        return false;
    }
    const char *refused = refusal(event);
    if (refused != NULL) {
        give_up(reader, line_of(event), refused);
        yaml_event_delete(event);
        return false;
    }
    return true;
}

/* Finds the row that a value is for; complains when there is none or it has its value already. */
static const struct option_row *claim(struct reader *reader, const char *key, size_t line)
{
    char place[512];
    const struct option_row *row = option_find(key);
    if (row == NULL) {
        config_complain_unknown(reader->complaints, where(reader, line, place, sizeof(place)), key);
        reader->faulty = true;
        return NULL;
    }
    size_t *set_at = &reader->set_at_line[row - option_rows];
    if (*set_at != 0) {
        char what[96];
        snprintf(what, sizeof(what), "given twice; accepted: once, the other is on line %zu",
                 *set_at);
        complain(reader, line, key, what);
        return NULL;
    }
    *set_at = line;
    return row;
}

static void tell_value(struct reader *reader, const struct option_row *row, size_t line, int error)
{
    if (error != 0) {
        char place[512];
        config_complain_value(reader->complaints, where(reader, line, place, sizeof(place)), row,
                              error);
        reader->faulty = true;
    }
}

static void read_scalar(struct reader *reader, const char *key, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    bool is_empty = text[0] == '\0' && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (is_empty && option_is_group(key))
        return; /* `limits:` with all its lines commented out */
    const struct option_row *row = claim(reader, key, line_of(event));
    if (row == NULL)
        return;
    if (is_empty) {
        complain(reader, line_of(event), key, "no value; accepted: a value, \"\" for an empty one");
        return;
    }
    tell_value(reader, row, line_of(event), option_set(reader->options, row, text));
}

/* Behind a sequence's start. */
static void read_sequence(struct reader *reader, const char *key, size_t line)
{
    char *items[TEXT_LIST_MAX + 1] = {NULL};
    size_t count = 0;
    yaml_event_t event;
    bool ended = false;
    while (!ended && next(reader, &event)) {
        ended = event.type == YAML_SEQUENCE_END_EVENT;
        if (event.type == YAML_SCALAR_EVENT && count <= TEXT_LIST_MAX) {
            items[count] = strdup((const char *)event.data.scalar.value);
            if (items[count++] == NULL) {
                give_up(reader, line_of(&event), "no memory");
                count--;
            }
        } else if (!ended && event.type != YAML_SCALAR_EVENT) {
            give_up(reader, line_of(&event), "a list in a list; accepted: plain values");
        }
        yaml_event_delete(&event);
    }
    const struct option_row *row = ended && !reader->broken ? claim(reader, key, line) : NULL;
    if (row != NULL) {
        tell_value(reader, row, line,
                   option_set_list(reader->options, row, (const char *const *)items, count));
    }
    for (size_t i = 0; i < count; i++)
        free(items[i]);
}

static void read_mapping(struct reader *reader, const char *prefix, unsigned depth);

static void read_value(struct reader *reader, const char *key, unsigned depth)
{
    yaml_event_t event;
    if (!next(reader, &event))
        return;
    if (event.type == YAML_SCALAR_EVENT) {
        read_scalar(reader, key, &event);
    } else if (event.type == YAML_SEQUENCE_START_EVENT) {
        read_sequence(reader, key, line_of(&event));
    } else if (depth >= DEPTH_MAX) {
        give_up(reader, line_of(&event), "nested too deeply; accepted: group.key");
    } else if (option_find(key) != NULL) {
        tell_value(reader, option_find(key), line_of(&event), -EINVAL);
        reader->broken = true; /* what stands below it means nothing */
    } else {
        read_mapping(reader, key, depth + 1);
    }
    yaml_event_delete(&event);
}

/* Behind a mapping's start, up to its end. */
static void read_mapping(struct reader *reader, const char *prefix, unsigned depth)
{
    yaml_event_t event;
    while (next(reader, &event)) {
        char key[KEY_BYTES_MAX + 1];
        int size = -1;
        if (event.type == YAML_SCALAR_EVENT) {
            size = snprintf(key, sizeof(key), "%s%s%s", prefix, prefix[0] != '\0' ? "." : "",
                            (const char *)event.data.scalar.value);
        }
        bool ended = event.type == YAML_MAPPING_END_EVENT;
        if (!ended && (size <= 0 || size > KEY_BYTES_MAX))
            give_up(reader, line_of(&event), "not a key; accepted: the keys of usherd --help");
        yaml_event_delete(&event);
        if (ended)
            return;
        if (!reader->broken)
            read_value(reader, key, depth);
    }
}

/* A file of comments is a valid one; anything but one mapping is not. */
static void read_documents(struct reader *reader)
{
    yaml_event_t event;
    unsigned documents = 0;
    for (bool ended = false; !ended && next(reader, &event);) {
        size_t line = line_of(&event);
        yaml_event_type_t type = event.type;
        ended = type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
        if (type == YAML_DOCUMENT_START_EVENT && ++documents > 1)
            give_up(reader, line, "a second document; accepted: one");
        else if (type == YAML_MAPPING_START_EVENT)
            read_mapping(reader, "", 1);
        else if (type == YAML_SCALAR_EVENT || type == YAML_SEQUENCE_START_EVENT)
            give_up(reader, line, "not a mapping; accepted: lines of `key: value`");
    }
}

/* The whole file in memory, given to the caller; NULL with a complaint when that fails. */
static char *read_file(const char *path, FILE *complaints, size_t *size)
{
    char *text = NULL;
    struct stat status;
    const char *problem = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &status) != 0) {
        problem = strerror(errno);
    } else if (S_ISDIR(status.st_mode)) {
        problem = "is a folder; accepted: a YAML file";
    } else if (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode)) {
        /* Empty when nobody writes: a reload would take it for a file without settings. */
        problem = "is a pipe, which cannot be read again; accepted: a YAML file";
    } else {
        text = malloc(FILE_BYTES_MAX + 1);
        problem = text == NULL ? "no memory" : NULL;
    }
    *size = 0;
    for (ssize_t got = 1; problem == NULL && got > 0; *size += (size_t)got) {
        got = read(fd, text + *size, FILE_BYTES_MAX + 1 - *size);
        if (got < 0) {
            problem = strerror(errno);
            got = 0;
        }
    }
    /* What a full disk, a loss of power and an editor in the middle of its work leave behind:
     * everything would be as by default, the token of the link and the store's folder too. */
    if (problem == NULL && *size == 0 && S_ISREG(status.st_mode))
        problem = "is empty; accepted: a YAML file, with a comment when nothing is to be set";
    if (problem == NULL && *size > FILE_BYTES_MAX)
        problem = "is too large; accepted: up to 1 MiB";
    if (fd >= 0)
        close(fd);
    if (problem != NULL) {
        fprintf(complaints, "%s: %s\n", path, problem);
        free(text);
        return NULL;
    }
    return text;
}

int config_read_yaml(struct options *options, const char *path, FILE *complaints)
{
    size_t size;
    char *text = read_file(path, complaints, &size);
    if (text == NULL)
        return CONFIG_INVALID;
    struct reader reader = {.path = path, .complaints = complaints, .options = options};
    if (!yaml_parser_initialize(&reader.parser)) {
        fprintf(complaints, "%s: no memory\n", path);
        free(text);
        return CONFIG_INVALID;
    }
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, size);
    read_documents(&reader);
    yaml_parser_delete(&reader.parser);
    free(text);
    return reader.faulty ? CONFIG_INVALID : 0;
}
