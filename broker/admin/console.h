/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ADMIN_CONSOLE_H
#define USHER_ADMIN_CONSOLE_H

/* The files of broker/admin/console/, made part of the program by console_table.cmake at build. */

#include <stddef.h>

struct console_file {
    const char *path; /* in the URL */
    const char *type;
    const char *etag; /* with its quotes */
    const unsigned char *data;
    size_t size;
    const unsigned char *gzip; /* the same, compressed */
    size_t gzip_size;
};

extern const struct console_file console_files[];
extern const size_t console_file_count;

#endif
