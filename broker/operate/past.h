/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_PAST_H
#define USHER_OPERATE_PAST_H

/* What has happened to a user, from the store's history, and in words. Any thread; reading blocks
 * on the disk, in pieces that are short transactions. */

#include "base/env.h"
#include "storage/store.h"

enum { PAST_RECORDS_MAX = 200, PAST_WORDS_MAX = 800 };

struct past {
    struct store *store;
    const struct env *env;
    uint64_t age_ms; /* older ones are not told; 0: all are */
};

/* The newest, of both rings: at most `limit` of them (0: some). */
struct past_page {
    struct history_record *list; /* to be freed */
    size_t count;
    bool more;         /* older ones are there */
    uint64_t kept;     /* of all users */
    uint64_t first_ms; /* the history goes back to then; 0: there is none */
};

/* 0, -ENOMEM or what the store answers; then there is nothing to be freed. */
int past_read(const struct past *past, const char *user, size_t limit, struct past_page *page);

/* All but the time and the user, as text with a NUL: no sentence, no full stop. */
void past_words(const struct history_record *record, char words[PAST_WORDS_MAX]);

#endif
