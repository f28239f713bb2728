/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_BENCH_TOKENS_H
#define USHER_USHER_BENCH_TOKENS_H

/* What proves the users' names to the broker. Made before the run begins, because signing would be
 * measured with it; then any thread may read. */

#include "proto/bytes.h"
#include "usher-bench/options.h"

enum { TOKENS_ERROR_BYTES = 160 };

struct bench_tokens;

/* Reads or makes a token for each user, as the options say: 0, with *tokens NULL if they want none.
 * -EINVAL or -ENOMEM with a line in `error`. Blocks on files, and computes. */
int tokens_open(struct bench_tokens **tokens, const struct bench_options *options,
                char error[TOKENS_ERROR_BYTES]);

/* User number's; empty if there are none. `tokens` may be NULL. */
struct bytes tokens_of(const struct bench_tokens *tokens, uint32_t number);

void tokens_close(struct bench_tokens *tokens); /* NULL is fine */

#endif
