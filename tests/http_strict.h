/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_HTTP_STRICT_H
#define USHER_TESTS_HTTP_STRICT_H

/* What RFC 9112 and RFC 6455 say of a handshake and of an answer, spelled out once more and in
 * another way than broker/net/upgrade.c does: over texts, line by line, with the functions of
 * string.h. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HTTP_STRICT_BYTES_MAX = 65536, HTTP_STRICT_LINES_MAX = 8192 };

#define HTTP_TOKEN "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"
#define HTTP_HOST \
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=%:[]"
#define HTTP_BASE64 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"

struct http_strict {
    char text[HTTP_STRICT_BYTES_MAX + 1];
    char *line; /* the first one */
    struct {
        char *name, *value;
    } fields[HTTP_STRICT_LINES_MAX];
    size_t count;
    const char *body;
};

static inline char *http_strict_trim(char *text)
{
    text += strspn(text, " \t");
    for (size_t size = strlen(text); size > 0 && strchr(" \t", text[size - 1]) != NULL; size--)
        text[size - 1] = '\0';
    return text;
}

/* Takes the text apart: lines and fields, each of them a text. False: it is no head. */
static inline bool http_strict_take(struct http_strict *strict, const uint8_t *data, size_t size)
{
    strict->count = 0;
    if (size > HTTP_STRICT_BYTES_MAX || memchr(data, 0, size) != NULL)
        return false;
    memcpy(strict->text, data, size);
    strict->text[size] = '\0';
    char *end = strstr(strict->text, "\r\n\r\n");
    if (end == NULL)
        return false;
    strict->body = end + 4;
    end[2] = '\0';
    for (const char *at = strict->text; *at != '\0'; at++)
        if ((*at == '\r') != (at[1] == '\n') || *at == 127 ||
            (*at > 0 && *at < 32 && strchr("\r\n\t", *at) == NULL))
            return false;
    strict->line = strict->text;
    char *line = strict->text;
    for (char *next; (next = strstr(line, "\r\n")) != NULL; line = next + 2) {
        *next = '\0';
        size_t length = strspn(line, HTTP_TOKEN);
        if (line == strict->line)
            continue;
        if (length == 0 || line[length] != ':' || strict->count == HTTP_STRICT_LINES_MAX)
            return false;
        line[length] = '\0';
        strict->fields[strict->count].name = line;
        strict->fields[strict->count++].value = http_strict_trim(line + length + 1);
    }
    return true;
}

/* How often the field stands there; *value is that of the last one. */
static inline unsigned http_strict_field(const struct http_strict *strict, const char *name,
                                         const char **value)
{
    unsigned count = 0;
    for (size_t i = 0; i < strict->count; i++)
        if (strcasecmp(strict->fields[i].name, name) == 0) {
            count++;
            *value = strict->fields[i].value;
        }
    return count;
}

/* Whether one of the fields of that name has the word in its list. */
static inline bool http_strict_lists(const struct http_strict *strict, const char *name,
                                     const char *word, int (*compare)(const char *, const char *))
{
    for (size_t i = 0; i < strict->count; i++) {
        if (strcasecmp(strict->fields[i].name, name) != 0)
            continue;
        char *copy = strdup(strict->fields[i].value), *left = copy, *one;
        bool found = false;
        while ((one = strsep(&left, ",")) != NULL)
            found |= compare(http_strict_trim(one), word) == 0;
        free(copy);
        if (found)
            return true;
    }
    return false;
}

/* A request line GET TARGET HTTP/1.1 (or a later one) for that path, also with a query or as
 * proxies are asked. */
static inline bool http_strict_line(const char *line, const char *path)
{
    if (strncmp(line, "GET ", 4) != 0)
        return false;
    const char *target = line + 4, *space = strchr(target, ' ');
    if (space == NULL || strncmp(space, " HTTP/1.", 8) != 0 ||
        strspn(space + 8, "123456789") != 1 || space[9] != '\0')
        return false;
    for (const char *at = target; at < space; at++)
        if (*at < 33 || *at > 126 || *at == '#')
            return false;
    const char *scheme = strstr(target, "://");
    if (scheme != NULL && scheme > target &&
        strspn(target, HTTP_TOKEN) == (size_t)(scheme - target))
        target = scheme + 3 + strcspn(scheme + 3, "/ ");
    return strncmp(target, path, strlen(path)) == 0 && strchr("? ", target[strlen(path)]) != NULL;
}

/* Whether these bytes, and none behind them, are a handshake for that path by a client that may
 * come from anywhere. */
static inline bool http_strict_is_handshake(struct http_strict *strict, const uint8_t *data,
                                            size_t size, const char *path)
{
    const char *host = "", *key = "", *version = "", *value = "";
    if (!http_strict_take(strict, data, size) || *strict->body != '\0' ||
        !http_strict_line(strict->line, path))
        return false;
    for (size_t i = 0; i < strict->count; i++)
        if (strcasecmp(strict->fields[i].name, "content-length") == 0 &&
            strcmp(strict->fields[i].value, "0") != 0)
            return false;
    return http_strict_field(strict, "host", &host) == 1 && host[strspn(host, HTTP_HOST)] == '\0' &&
           http_strict_field(strict, "sec-websocket-key", &key) == 1 && strlen(key) == 24 &&
           strspn(key, HTTP_BASE64) == 22 && strcmp(key + 22, "==") == 0 &&
           http_strict_field(strict, "sec-websocket-version", &version) == 1 &&
           strcmp(version, "13") == 0 && http_strict_field(strict, "origin", &value) <= 1 &&
           http_strict_field(strict, "transfer-encoding", &value) == 0 &&
           http_strict_lists(strict, "upgrade", "websocket", strcasecmp) &&
           http_strict_lists(strict, "connection", "upgrade", strcasecmp);
}

/* NULL, or what is wrong with this answer of a server that closes behind it, but for 101. */
static inline const char *http_strict_answer(struct http_strict *strict, const uint8_t *data,
                                             size_t size, unsigned status, bool head)
{
    char start[32];
    const char *value = "";
    snprintf(start, sizeof(start), "HTTP/1.1 %u ", status);
    if (!http_strict_take(strict, data, size))
        return "no head";
    if (strncmp(strict->line, start, strlen(start)) != 0 || strict->line[strlen(start)] == '\0')
        return "another status, or no phrase";
    for (const char *at = strict->line; *at != '\0'; at++)
        if (*at < 32 || *at > 126)
            return "a status line that is not ASCII";
    if (status == 101) {
        if (http_strict_field(strict, "content-length", &value) != 0 || *strict->body != '\0')
            return "a body behind 101";
        if (http_strict_field(strict, "upgrade", &value) != 1 || strcmp(value, "websocket") != 0 ||
            http_strict_field(strict, "connection", &value) != 1 || strcmp(value, "Upgrade") != 0)
            return "101 without Upgrade";
        if (http_strict_field(strict, "sec-websocket-accept", &value) != 1 || strlen(value) != 28)
            return "101 without Sec-WebSocket-Accept";
        return NULL;
    }
    if (!http_strict_lists(strict, "connection", "close", strcmp))
        return "no Connection: close";
    if (http_strict_field(strict, "content-length", &value) != 1 ||
        (head ? *strict->body != '\0' : strtoul(value, NULL, 10) != strlen(strict->body)))
        return "a body of another length";
    if (http_strict_field(strict, "content-type", &value) != 1)
        return "no Content-Type";
    if ((status == 426) != (http_strict_field(strict, "upgrade", &value) == 1 &&
                            http_strict_lists(strict, "connection", "upgrade", strcasecmp)))
        return "Upgrade where none is, or none with 426";
    if ((status == 405) != (http_strict_field(strict, "allow", &value) == 1))
        return "Allow where it is not 405, or none";
    return NULL;
}

#endif
