/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "config/private.h"

/* Everything about options that people read, made from the rows, so that it cannot differ from
 * what is accepted. What --print-config prints is itself a valid configuration file. */

static void describe_number(const struct option_row *row, FILE *to)
{
    fprintf(to, "a whole number %" PRIu64 "..%" PRIu64 " (%s", row->min, row->max, row->unit);
    if (strcmp(row->unit, "bytes") == 0)
        fputs("; KiB, MiB, GiB, TiB may follow", to);
    else if (strcmp(row->unit, "ms") == 0)
        fputs("; s, min, h may follow", to);
    fputc(')', to);
}

static void describe_text(const struct option_row *row, const char *noun, FILE *to)
{
    fprintf(to, "%s of %" PRIu64 "..%" PRIu64 " bytes", noun, row->min, row->max);
    if (row->unit[0] != '\0')
        fprintf(to, " (%s)", row->unit);
}

void config_describe_option(const struct option_row *row, FILE *to)
{
    switch (row->type) {
    case OPTION_BOOL:
        fputs("true or false", to);
        break;
    case OPTION_UNSIGNED:
        describe_number(row, to);
        break;
    case OPTION_TEXT:
        describe_text(row, "a text", to);
        break;
    case OPTION_ENUM:
        for (const char *word = row->unit; *word != '\0'; word++)
            if (*word == '|')
                fputs(", ", to);
            else
                fputc(*word, to);
        break;
    case OPTION_TEXT_LIST:
        fprintf(to, "up to %zu items, commas between them, each ", option_items_max(row));
        describe_text(row, "a text", to);
        break;
    }
}

/* Hostile or mistyped keys and values are not repeated raw: a terminal may be reading. */
static void put_safely(FILE *to, const char *text)
{
    for (size_t i = 0; text[i] != '\0' && i < 100; i++)
        fputc((unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i], to);
}

void config_complain_value(FILE *complaints, const char *where, const struct option_row *row,
                           int error)
{
    fprintf(complaints, "%s: %s: %s; accepted: ", where, row->key,
            error == -ENOMEM  ? "no memory"
            : error == -E2BIG ? "too many items"
                              : "wrong value");
    config_describe_option(row, complaints);
    fputc('\n', complaints);
}

void config_complain_unknown(FILE *complaints, const char *where, const char *key)
{
    const char *nearest = option_nearest(key);
    fprintf(complaints, "%s: ", where);
    put_safely(complaints, key);
    fputs(": unknown key; ", complaints);
    if (nearest != NULL)
        fprintf(complaints, "did you mean %s? ", nearest);
    fputs("usherd --help lists all keys\n", complaints);
}

/* Fills lines of at most `width` characters, each begun with `prefix`. */
static void put_wrapped(FILE *to, const char *prefix, const char *text, size_t width)
{
    while (*text != '\0') {
        size_t size = strlen(text);
        if (size > width) {
            size = width;
            while (size > 1 && text[size] != ' ')
                size--;
        }
        fprintf(to, "%s%.*s\n", prefix, (int)size, text);
        text += size;
        text += strspn(text, " ");
    }
}

void config_print_help(FILE *to)
{
    fputs("usherd [--config FILE] [--set KEY=VALUE]...\n"
          "\n"
          "  --config FILE             read options from a YAML file\n"
          "  --set KEY=VALUE           set one option; of several settings the last one wins\n"
          "  --check-config            say whether the configuration is valid, and exit\n"
          "  --print-config            print a configuration file with all defaults, and exit\n"
          "  --print-options-markdown  print the table of options for the documentation, and exit\n"
          "  --print-relations-markdown  the same for what they make of each other\n"
          "  --version, --help         what they say, and exit\n"
          "\n"
          "Exit codes: 0 orderly end, 64 usage, 65 damaged store, 69 store or address in use,\n"
          "70 internal error, 71 no memory, files or threads, 73 no room on the disk, 74 the disk\n"
          "fails, 75 some inboxes could not be saved, 78 configuration.\n"
          "\n"
          "Options:\n",
          to);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        fprintf(to, "  %s (default %s): ", row->key,
                row->default_text[0] != '\0' ? row->default_text : "empty");
        config_describe_option(row, to);
        fputc('\n', to);
        put_wrapped(to, "      ", row->help, 86);
    }
}

static void put_yaml_value(FILE *to, const struct option_row *row)
{
    if (row->type == OPTION_TEXT || row->type == OPTION_ENUM)
        fprintf(to, "\"%s\"\n", row->default_text);
    else if (row->type == OPTION_TEXT_LIST)
        fputs("[]\n", to);
    else
        fprintf(to, "%s\n", row->default_text);
}

void config_print_yaml(FILE *to)
{
    const char *group = "";
    size_t group_size = 0;
    fputs("# usherd: every option with its default. Keep only the lines that you change.\n", to);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        const char *dot = strchr(row->key, '.');
        if ((size_t)(dot - row->key) != group_size || memcmp(group, row->key, group_size) != 0) {
            group = row->key;
            group_size = (size_t)(dot - row->key);
            fprintf(to, "\n%.*s:\n", (int)group_size, group);
        }
        put_wrapped(to, "  # ", row->help, 92);
        fputs("  # Accepted: ", to);
        config_describe_option(row, to);
        fprintf(to, "\n  %s: ", dot + 1);
        put_yaml_value(to, row);
    }
}

/* A table cell: the character that ends a cell is written otherwise. */
static void put_cell(FILE *to, const char *text)
{
    for (; *text != '\0'; text++)
        if (*text == '|')
            fputs("\\|", to);
        else
            fputc(*text, to);
}

void config_print_markdown(FILE *to)
{
    fputs("| Option | Default | Accepted | Changes by | What and why |\n"
          "| --- | --- | --- | --- | --- |\n",
          to);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        const char *mark = row->default_text[0] != '\0' ? "`" : "";
        fprintf(to, "| `%s` | %s%s%s | ", row->key, mark,
                row->default_text[0] != '\0' ? row->default_text : "empty", mark);
        config_describe_option(row, to);
        fputs(row->holds != HOLDS_START ? " | reload | " : " | restart | ", to);
        put_cell(to, row->help);
        fputs(" |\n", to);
    }
}
