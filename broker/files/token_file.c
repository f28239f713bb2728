/* SPDX-License-Identifier: Apache-2.0 */
#include "files/token_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Better than a token on the command line, which others on the machine can see.
 *
 * One rule for every program, because the same file goes to several of them: an editor that ends
 * lines as Windows does, a shell that adds one, a note below the token must not make a token that
 * one takes and another refuses. */

/* A line end, and blanks enough around a token that is as long as may be. */
enum { LINE_BYTES_MAX = TOKEN_FILE_BYTES_MAX + 256 };

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r';
}

/* Cuts the token out of what was read of a file; it stays where it is. */
static int cut(char *text, size_t size, char **first, size_t *length)
{
    char *end = memchr(text, '\n', size);
    char *begin = text;
    if (end == NULL)
        end = text + size;
    while (begin < end && is_blank(*begin))
        begin++;
    while (end > begin && is_blank(end[-1]))
        end--;
    *first = begin;
    *length = (size_t)(end - begin);
    if (*length == 0)
        return -ENODATA;
    if (memchr(begin, '\0', *length) != NULL)
        return -EILSEQ;
    return *length > TOKEN_FILE_BYTES_MAX ? -EMSGSIZE : 0;
}

int token_file_read(const char *path, char **token, size_t *size)
{
    char text[LINE_BYTES_MAX];
    char *first = text;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -errno;
    errno = EIO;
    size_t got = fread(text, 1, sizeof(text), file);
    int error = ferror(file) ? -errno : cut(text, got, &first, size);
    fclose(file);
    *token = error == 0 ? malloc(*size + 1) : NULL;
    if (error == 0 && *token == NULL)
        error = -ENOMEM;
    if (error == 0) {
        memcpy(*token, first, *size);
        (*token)[*size] = '\0';
    }
    explicit_bzero(text, sizeof(text));
    return error;
}

const char *token_file_fault(int error)
{
    switch (error) {
    case -ENODATA:
        return "the first line is empty; it has to be the token";
    case -EMSGSIZE:
        return "the first line is longer than 4096 bytes; it has to be the token alone";
    case -EILSEQ:
        return "there is a NUL in the first line, which has to be the token";
    default:
        return file_fault(error);
    }
}

/* A daemon reads them while others wait for it, a signal that ends it among them; so it does not
 * begin with what may have no end. Looked at by name and not by descriptor, for libraries that open
 * by name: whoever can put a pipe there in between is the one who writes the configuration. */
int file_check(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return -ENOTSUP;
    return status.st_size <= NAMED_FILE_BYTES_MAX ? 0 : -EFBIG;
}

const char *file_fault(int error)
{
    switch (error) {
    case -ENOTSUP:
        return "it is a folder, a pipe or a device; it has to be a file";
    case -EFBIG:
        return "it is larger than 1 MiB";
    default:
        return strerror(-error);
    }
}

bool file_is_open_to_others(const char *path, unsigned *mode)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return false;
    *mode = status.st_mode & 07777;
    return (status.st_mode & S_IRWXO) != 0;
}
