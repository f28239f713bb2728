/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_STORAGE_MEDDLE_H
#define USHER_TESTS_STORAGE_MEDDLE_H

/* Changes a store's file behind its back. The store must be closed. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <lmdb.h>

/* Changes the file through LMDB itself: sound pages, wrong content. An empty one: the database
 * goes. */
static inline void meddle_value(const char *folder, const char *database, MDB_val key,
                                MDB_val value)
{
    MDB_env *env;
    MDB_txn *transaction;
    MDB_dbi handle;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 4), 0);
    assert_int_equal(mdb_env_open(env, folder, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &transaction), 0);
    assert_int_equal(mdb_dbi_open(transaction, database, 0, &handle), 0);
    if (value.mv_size == 0)
        assert_int_equal(mdb_drop(transaction, handle, 1), 0);
    else
        assert_int_equal(mdb_put(transaction, handle, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(transaction), 0);
    mdb_env_close(env);
}

static inline void meddle_bytes(const char *folder, const char *database, MDB_val key,
                                const char *content)
{
    meddle_value(folder, database, key, (MDB_val){strlen(content), (void *)content});
}

static inline void meddle(const char *folder, const char *database, const char *name,
                          const char *content)
{
    meddle_bytes(folder, database, (MDB_val){strlen(name), (void *)name}, content);
}

/* As a program of version 2 left it: another version in meta and no log. */
static inline void meddle_to_version_2(const char *folder)
{
    meddle(folder, "log", "", "");
    meddle(folder, "meta", "schema", "usher-store-2");
}

/* And of version 1, which had no inboxes either. */
static inline void meddle_to_version_1(const char *folder)
{
    meddle_to_version_2(folder);
    meddle(folder, "inboxes", "", "");
    meddle(folder, "meta", "schema", "usher-store-1");
}

#endif
