/* SPDX-License-Identifier: Apache-2.0 */
#include "lmdb/private.h"

#include <errno.h>

/* What LMDB answers, as one of the errors of storage/store.h: a page that cannot be right is
 * damage, and what nobody expects is an error of the disk. */

int lmdb_translate(int code)
{
    switch (code) {
    case MDB_SUCCESS:
        return 0;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
        return -EXFULL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EISDIR: /* something is in the way of a file */
    case EEXIST:
    case ELOOP:
        return -code;
    case MDB_NOTFOUND:
        return -ENOENT;
    case MDB_INVALID:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
        return -EUCLEAN;
    case MDB_READERS_FULL:
        return -EAGAIN;
    case EAGAIN: /* see number_take in open.c */
        return -EBUSY;
    case ENOMEM:
        return -ENOMEM;
    case EACCES:
    case EPERM:
    case EROFS:
        return -EACCES;
    default:
        return -EIO;
    }
}
