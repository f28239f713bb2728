/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "admin/admin_private.h"

/* Responses. Each says that nothing may frame it, guess its type or run what is not of this origin:
 * what users send never becomes markup here, and these headers are for the day when that is wrong.
 * */

void reply_secure(struct MHD_Response *response)
{
    MHD_add_response_header(response, "Content-Security-Policy",
                            "default-src 'self'; base-uri 'none'; form-action 'self'; "
                            "frame-ancestors 'none'");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "X-Frame-Options", "DENY");
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
}

enum MHD_Result reply_text(struct MHD_Connection *connection, unsigned status, const char *type,
                           char *text, size_t size)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size, text, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(text);
        return MHD_NO;
    }
    reply_secure(response);
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (status == MHD_HTTP_TOO_MANY_REQUESTS || status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(response, "Retry-After", "1");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result reply_json(struct MHD_Connection *connection, unsigned status, json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (text == NULL)
        return MHD_NO;
    return reply_text(connection, status, "application/json", text, strlen(text));
}

/* A parser that says which of somebody's names it does not know cuts that where its line is full,
 * within a character too; and of a text that is not UTF-8 there would be no answer at all. */
static json_t *whole_characters(const char *text)
{
    enum { CUT_BYTES_MAX = 3 };
    size_t size = strlen(text);
    json_t *json = json_stringn(text, size);
    for (unsigned cut = 0; json == NULL && size > 0 && cut < CUT_BYTES_MAX; cut++)
        json = json_stringn(text, --size);
    return json != NULL ? json : json_string("?");
}

unsigned admin_fail(json_t *answer, unsigned status, const char *error, const char *detail)
{
    json_object_clear(answer);
    json_object_set_new(answer, "error", json_string(error));
    json_object_set_new(answer, "detail", whole_characters(detail));
    return status;
}

enum MHD_Result reply_error(struct MHD_Connection *connection, unsigned status, const char *error,
                            const char *detail)
{
    json_t *json = json_object();
    admin_fail(json, status, error, detail);
    return reply_json(connection, status, json);
}
