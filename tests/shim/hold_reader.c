/* SPDX-License-Identifier: Apache-2.0 */
#include <lmdb.h>
#include <stdio.h>
#include <unistd.h>

/* usher-hold-reader FOLDER: a foreign process with a read transaction on a store, as a backup or a
 * curious person would have. It says "holding N" (N: the transaction that it sees), keeps it until
 * its standard input ends, and says "released". Killed before, it leaves its place in LMDB's table
 * of readers behind, which is what it is for. */

static int fail(const char *what, int code)
{
    fprintf(stderr, "usher-hold-reader: %s: %s\n", what, mdb_strerror(code));
    return 1;
}

static int hold(MDB_env *env)
{
    MDB_txn *transaction;
    int code = mdb_txn_begin(env, NULL, MDB_RDONLY, &transaction);
    if (code != 0)
        return fail("begin", code);
    printf("holding %zu\n", mdb_txn_id(transaction));
    fflush(stdout);
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    mdb_txn_abort(transaction);
    printf("released\n");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: usher-hold-reader FOLDER\n");
        return 2;
    }
    MDB_env *env;
    int code = mdb_env_create(&env);
    if (code != 0)
        return fail("create", code);
    code = mdb_env_open(env, argv[1], MDB_RDONLY, 0600);
    int result = code == 0 ? hold(env) : fail(argv[1], code);
    mdb_env_close(env);
    return result;
}
