/* SPDX-License-Identifier: Apache-2.0 */
#include "lmdb/private.h"

/* There is no log on disk yet: nothing has room in it, and there is nothing to be read. */

int lmdb_append_log(struct store *base, struct bytes value, uint64_t *number)
{
    (void)base;
    (void)value;
    *number = 0;
    return 0;
}

int lmdb_drop_log(struct store *base, uint64_t number)
{
    (void)base;
    (void)number;
    return 0;
}

int lmdb_read_log(struct store *base, uint64_t from, store_log_each *each, void *context)
{
    (void)base;
    (void)from;
    (void)each;
    (void)context;
    return 0;
}

int lmdb_get_log(struct store *base, const uint64_t *numbers, size_t count, store_log_each *each,
                 void *context)
{
    (void)base;
    (void)numbers;
    (void)count;
    (void)each;
    (void)context;
    return 0;
}
