/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/access.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "admin/admin.h"
#include "base/secret.h"
#include "files/token_file.h"

/* Tokens, and the Host of a request.
 *
 * Without any token file whoever reaches the address may look and nobody may change: to change, a
 * request has to show a token in a header, which no other page in the operator's browser can make
 * it do. The Host is checked because such a page could let its own name point at this address (DNS
 * rebinding) and would then read the answers: an address in digits cannot be pointed elsewhere, so
 * digits, localhost and the one name that the operator gives are let through. */

int access_load(struct access_token *token, const char *option, const char *path, char *error)
{
    char *line;
    size_t size;
    int failed = file_check(path);
    if (failed == 0)
        failed = token_file_read(path, &line, &size);
    if (failed != 0) {
        snprintf(error, ADMIN_ERROR_BYTES, "%s %.100s: %s", option, path, token_file_fault(failed));
        return failed;
    }
    bool visible = true;
    for (size_t i = 0; i < size; i++)
        visible = visible && line[i] > ' ' && line[i] < 127;
    if (size < ADMIN_TOKEN_BYTES_MIN || size > ACCESS_TOKEN_BYTES_MAX || !visible) {
        free(line);
        snprintf(error, ADMIN_ERROR_BYTES,
                 "%s %.100s: the first line must be a token of %d to %d visible characters", option,
                 path, ADMIN_TOKEN_BYTES_MIN, ACCESS_TOKEN_BYTES_MAX);
        return -EINVAL;
    }
    memcpy(token->bytes, line, size);
    token->size = size;
    free(line);
    return 0;
}

void access_read_one(struct access_token *token, const char *option, const char *path,
                     access_fault *each, void *context)
{
    char error[ADMIN_ERROR_BYTES];
    if (path[0] != '\0' && access_load(token, option, path, error) != 0)
        each(context, option, error);
}

bool access_same(const struct access_token *one, const struct access_token *other)
{
    return one->size != 0 && one->size == other->size &&
           memcmp(one->bytes, other->bytes, one->size) == 0;
}

void access_read(struct access *access, const char *token_file, const char *view_token_file,
                 access_fault *each, void *context)
{
    static const char view[] = "admin.view_token_file";
    char error[ADMIN_ERROR_BYTES];
    access_read_one(&access->change, "admin.token_file", token_file, each, context);
    access_read_one(&access->view, view, view_token_file, each, context);
    if (!access_same(&access->view, &access->change))
        return;
    snprintf(error, sizeof(error),
             "%s %.100s: the token of admin.token_file, so who may look could change; accepted: "
             "another token, or none",
             view, view_token_file);
    each(context, view, error);
}

static bool is_token(const struct access_token *token, const char *shown, size_t size)
{
    return secret_equal(token->bytes, token->size, shown, size);
}

enum access_right access_right(const struct access *access, const char *header)
{
    static const char scheme[] = "Bearer ";
    if (access->change.size == 0 && access->view.size == 0)
        return ACCESS_LOOK;
    if (header == NULL || strncasecmp(header, scheme, sizeof(scheme) - 1) != 0)
        return ACCESS_NONE;
    const char *shown = header + sizeof(scheme) - 1;
    size_t size = strlen(shown);
    bool change = is_token(&access->change, shown, size);
    bool view = is_token(&access->view, shown, size);
    if (change)
        return ACCESS_CHANGE;
    if (view)
        return ACCESS_LOOK;
    return ACCESS_NONE;
}

bool access_host(const char *host, const char *name)
{
    char text[256];
    struct in6_addr address;
    size_t size = strlen(host);
    if (size >= sizeof(text))
        return false;
    memcpy(text, host, size + 1);
    if (text[0] == '[') {
        char *end = strchr(text, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return false;
        *end = '\0';
        return inet_pton(AF_INET6, text + 1, &address) == 1;
    }
    char *colon = strchr(text, ':');
    if (colon != NULL) {
        if (colon[1 + strspn(colon + 1, "0123456789")] != '\0')
            return false;
        *colon = '\0';
    }
    return inet_pton(AF_INET, text, &address) == 1 || strcasecmp(text, "localhost") == 0 ||
           (name[0] != '\0' && strcasecmp(text, name) == 0);
}
