/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_COMMON_OPTIONS_H
#define USHER_COMMON_OPTIONS_H

/* Private to our own programs: which options a command takes. An option that would be taken and
 * ignored is worse than one that is refused, because its user believes that it did something. */

#include <getopt.h>
#include <stdint.h>

/* The name of the first of `options` that was given (bit i: options[i]) and stands neither in
 * `always` nor in `own`, which are names with a blank between them; NULL: all are in place. Any
 * thread; never blocks. */
const char *option_out_of_place(const struct option *options, uint64_t given, const char *always,
                                const char *own);

#endif
