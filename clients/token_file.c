/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/token_file.h"

#include <stdio.h>
#include <stdlib.h>

/* Better than a token on the command line, which others on the machine can see. */

enum { TOKEN_BYTES_MAX = 4096 };

void *token_file_read(const char *path, size_t *size)
{
    FILE *file = fopen(path, "re");
    char *token = file != NULL ? malloc(TOKEN_BYTES_MAX + 1) : NULL;
    if (token != NULL) {
        *size = fread(token, 1, TOKEN_BYTES_MAX + 1, file);
        if (*size > 0 && token[*size - 1] == '\n')
            (*size)--;
        if (ferror(file) || *size > TOKEN_BYTES_MAX) {
            free(token);
            token = NULL;
        }
    }
    if (file != NULL)
        fclose(file);
    return token;
}
