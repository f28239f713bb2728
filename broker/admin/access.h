/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ADMIN_ACCESS_H
#define USHER_ADMIN_ACCESS_H

/* Who may look and who may change. Pure but for access_load; any thread once loaded. */

#include <stdbool.h>
#include <stddef.h>

enum { ACCESS_TOKEN_BYTES_MAX = 512 };

/* What the holder of a token may do. */
enum access_right { ACCESS_NONE, ACCESS_LOOK, ACCESS_CHANGE };

struct access_token {
    size_t size; /* 0: there is none */
    char bytes[ACCESS_TOKEN_BYTES_MAX];
};

struct access {
    struct access_token change, view;
};

/* Reads the first line of a file. 0, or -errno with a line in `error` (256 bytes): a token has at
 * least ADMIN_TOKEN_BYTES_MIN visible characters. */
int access_load(struct access_token *token, const char *option, const char *path, char *error);

/* Reads the files that are named ("": none) as access_load does, and tells their faults. One token
 * for both rights is a fault too: whoever is given it to look could change. */
typedef void access_fault(void *context, const char *option, const char *text);
void access_read_one(struct access_token *token, const char *option, const char *path,
                     access_fault *each, void *context);
void access_read(struct access *access, const char *token_file, const char *view_token_file,
                 access_fault *each, void *context);

/* Whether both are there and the same. */
bool access_same(const struct access_token *one, const struct access_token *other);

/* `header` is the value of Authorization, or NULL. Takes equally long for every wrong token of a
 * length. */
enum access_right access_right(const struct access *access, const char *header);

/* Whether a Host header is an address, localhost, or `name` ("": none), with any port. */
bool access_host(const char *host, const char *name);

#endif
