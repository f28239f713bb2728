/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_COMMON_OPTIONS_H
#define USHER_COMMON_OPTIONS_H

/* The options of our own programs, as rows: where the value goes, what is accepted, and for which
 * commands it means something. An option that would be taken and ignored is worse than one that is
 * refused, because its user believes that it did something. Main thread, at the start: getopt keeps
 * where it is. What is wrong is said on stderr. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
    OPTION_FLAG,    /* bool */
    OPTION_NO_FLAG, /* the same, and clears it */
    OPTION_COUNT,   /* uint64_t */
    OPTION_REAL,    /* double */
    OPTION_TEXT,    /* const char *, borrowed from the command line */
};

/* The greatest number of an OPTION_COUNT that has no limit. */
#define OPTION_COUNT_MAX 0x1p64

struct option_row {
    const char *name;
    char letter; /* 0: none */
    enum option_type type;
    size_t offset;     /* of the value in the program's struct */
    double min, max;   /* OPTION_COUNT and OPTION_REAL */
    unsigned commands; /* a bit for each command that it means something for; 0: for all */
    const char *argument, *help; /* for a program that prints its rows; may be NULL */
};

enum { OPTION_ROWS_MAX = 64 };

struct option_set {
    const char *program;
    void (*print_help)(void);
    const struct option_row *rows;
    size_t count;          /* OPTION_ROWS_MAX at most */
    const char *passes_on; /* a first word behind which nothing is an option of ours; or NULL */
};

/* What stands on a command line beside options. */
struct option_words {
    char **words; /* in their order, behind the program's name */
    size_t count;
    uint64_t given; /* bit i: rows[i] was there */
};

enum option_end {
    OPTIONS_READ,
    OPTIONS_SHOWN, /* --help or --version, and it was printed: the program ends */
    OPTIONS_WRONG,
};

/* Reads argv into the struct at `values`, wherever the options stand; `--` ends them. The words
 * that are none are moved to the front of argv. */
enum option_end options_read(const struct option_set *set, int argc, char **argv, void *values,
                             struct option_words *words);

/* Whether all that was given means something for this command (a number, as in the bits). */
bool options_fit(const struct option_set *set, const struct option_words *words, unsigned command,
                 const char *name);

/* "PROGRAM: --OPTION VALUE: what; PROGRAM --help tells more". What is NULL is left out. */
void options_complain(const struct option_set *set, const char *option, const char *value,
                      const char *what);

#endif
