/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/console.h"

#include <string.h>

#include "admin/admin_private.h"

/* The console's files come from a table in the program: there is no path to leave, and nothing to
 * install beside it. They hold no data, so they need no token; the page asks for it and shows it
 * with each request. */

static bool has(struct MHD_Connection *connection, const char *header, const char *word)
{
    const char *value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, header);
    return value != NULL && strstr(value, word) != NULL;
}

static enum MHD_Result reply_file(struct MHD_Connection *connection,
                                  const struct console_file *file)
{
    bool same = has(connection, "If-None-Match", file->etag);
    bool gzip = !same && has(connection, "Accept-Encoding", "gzip");
    size_t size = same ? 0 : gzip ? file->gzip_size : file->size;
    struct MHD_Response *response = MHD_create_response_from_buffer(
        size, (void *)(gzip ? file->gzip : file->data), MHD_RESPMEM_PERSISTENT);
    if (response == NULL)
        return MHD_NO;
    reply_secure(response);
    MHD_add_response_header(response, "Content-Type", file->type);
    MHD_add_response_header(response, "ETag", file->etag);
    MHD_add_response_header(response, "Cache-Control", "no-cache");
    MHD_add_response_header(response, "Vary", "Accept-Encoding");
    if (gzip)
        MHD_add_response_header(response, "Content-Encoding", "gzip");
    enum MHD_Result result =
        MHD_queue_response(connection, same ? MHD_HTTP_NOT_MODIFIED : MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

bool console_reply(struct MHD_Connection *connection, const char *path, enum MHD_Result *result)
{
    const char *wanted = strcmp(path, "/") == 0 ? "/index.html" : path;
    for (size_t i = 0; i < console_file_count; i++)
        if (strcmp(console_files[i].path, wanted) == 0) {
            *result = reply_file(connection, &console_files[i]);
            return true;
        }
    return false;
}
