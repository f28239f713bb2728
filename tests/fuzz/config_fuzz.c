/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz/fuzz.h"

/* Configuration and command line. An input is cut at NUL bytes: the first part is a file, the
 * others are arguments. Whatever they say, config_load accepts or complains, and what it accepts
 * is complete and within the ranges of options.def.
 *
 * Arguments that name files or print are left out: an input shall not open what happens to lie on
 * the disk. */

enum { ARGUMENTS_MAX = 16, ARGUMENT_BYTES_MAX = 512, COMPLAINTS_BYTES = 64 * 1024 };

static void check_number(const char *key, uint64_t value, uint64_t min, uint64_t max)
{
    if (value < min || value > max) {
        fprintf(stderr, "%s\n", key);
        FUZZ_CHECK(!"an accepted number is out of its range");
    }
}

/* 0 stands for what the machine has; config_load has resolved it. */
static void check_accepted(const struct options *options)
{
#define CHECK_BOOL(field, key, min, max) FUZZ_CHECK(options->field == !!options->field);
#define CHECK_UNSIGNED(field, key, min, max) check_number(key, options->field, min, max);
#define CHECK_TEXT(field, key, min, max) check_number(key, strlen(options->field), min, max);
#define CHECK_ENUM(field, key, min, max) check_number(key, options->field, 0, 16);
#define CHECK_TEXT_LIST(field, key, min, max)                  \
    check_number(key, options->field.count, 0, TEXT_LIST_MAX); \
    for (size_t i = 0; i < options->field.count; i++)          \
        FUZZ_CHECK(strlen(options->field.items[i]) > 0);
#define OPTION(field, key, type, holds, default_text, min, max, unit, help) \
    CHECK_##type(field, key, min, max)
#include "base/options.def"
#undef OPTION
    FUZZ_CHECK(options->link_urls.count >= 1);
    FUZZ_CHECK(options->threads_io >= 1 && options->threads_workers >= 1);
}

/* Each complaint is a line, and none of them holds a control character of the input. */
static void check_complaints(const char *said, size_t size, int result)
{
    FUZZ_CHECK(result == 0 || size > 0);
    FUZZ_CHECK(size == 0 || size == COMPLAINTS_BYTES || said[size - 1] == '\n');
}

static bool is_left_out(const char *argument)
{
    return strncmp(argument, "--config", 8) == 0 || strncmp(argument, "--print", 7) == 0 ||
           strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0 ||
           strcmp(argument, "--version") == 0;
}

static int split(const uint8_t *data, size_t size, char **argv,
                 char texts[ARGUMENTS_MAX][ARGUMENT_BYTES_MAX + 1])
{
    int count = 0;
    for (size_t at = 0; at < size && count < ARGUMENTS_MAX;) {
        size_t length = strnlen((const char *)data + at, size - at);
        size_t kept = length < ARGUMENT_BYTES_MAX ? length : ARGUMENT_BYTES_MAX;
        memcpy(texts[count], data + at, kept);
        texts[count][kept] = '\0';
        if (!is_left_out(texts[count])) {
            argv[count] = texts[count];
            count++;
        }
        at += length + 1;
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char texts[ARGUMENTS_MAX][ARGUMENT_BYTES_MAX + 1];
    static char said[COMPLAINTS_BYTES];
    char *argv[ARGUMENTS_MAX + 4] = {(char *)"usherd", (char *)"--config"};
    size_t file_size = size > 0 ? strnlen((const char *)data, size) : 0;
    int file = memfd_create("config", MFD_CLOEXEC);
    FUZZ_CHECK(file >= 0 && write(file, data, file_size) == (ssize_t)file_size);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    argv[2] = path;
    size_t rest = file_size < size ? file_size + 1 : size;
    int argc = 3 + split(data + rest, size - rest, argv + 3, texts);
    FILE *complaints = fmemopen(said, sizeof(said), "w");
    FUZZ_CHECK(complaints != NULL);
    struct options options;
    enum config_action action;
    int result = config_load(&options, argc, argv, complaints, &action);
    long end = ftell(complaints);
    fclose(complaints);
    close(file);
    FUZZ_CHECK(result == 0 || result == CONFIG_USAGE || result == CONFIG_INVALID);
    check_complaints(said, end > 0 ? (size_t)end : 0, result);
    if (result == 0)
        check_accepted(&options);
    options_fini(&options);
    return 0;
}
