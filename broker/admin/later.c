/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "admin/admin_private.h"

/* Requests of a face that has an asker. The HTTP thread calls it, and is done at once: with an
 * answer, or with a connection that is suspended until the asker resumes it, from whichever thread
 * has what was asked for. Then MHD calls the handler again, which ends here again. An exchange and
 * its asker's part of it end on the HTTP thread, so it is there for as long as the asker has not
 * heard `over`.
 *
 * A stream has no length and no end of its own. MHD asks for its bytes when it has room for some,
 * and is suspended when there are none. A peer that does not read what there is has the time of any
 * other answer for each piece; one that waits has all the time that he wants. */

enum { PIECE_BYTES = 16 * 1024 };

void *admin_own(const struct exchange *exchange)
{
    return exchange->own;
}

void admin_set_own(struct exchange *exchange, void *own)
{
    exchange->own = own;
}

void admin_suspend(struct exchange *exchange)
{
    MHD_suspend_connection(exchange->connection);
}

void admin_resume(struct exchange *exchange)
{
    MHD_resume_connection(exchange->connection);
}

static ssize_t read_stream(void *context, uint64_t position, char *to, size_t room)
{
    struct exchange *exchange = context;
    struct admin *admin = exchange->admin;
    ssize_t size =
        admin->face->asker.read(admin->options.context, exchange->own, exchange, to, room);
    conns_later(exchange, size != 0);
    return size >= 0 ? size : MHD_CONTENT_READER_END_OF_STREAM;
}

/* Who asks for the head of a stream gets no end of one either: MHD would write that of a chunked
 * body, which the client takes for the beginning of the next answer. */
static struct MHD_Response *make_stream(struct exchange *exchange)
{
    if (exchange->head_only)
        return MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE_BYTES,
                                                                      read_stream, exchange, NULL);
    if (response != NULL)
        request_hold(exchange, PIECE_BYTES); /* which it has for as long as the stream lasts */
    return response;
}

static enum MHD_Result reply_stream(struct exchange *exchange)
{
    struct MHD_Response *response = make_stream(exchange);
    if (response == NULL)
        return MHD_NO;
    reply_secure(response);
    MHD_add_response_header(response, "Content-Type", "text/event-stream");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Accel-Buffering", "no"); /* for a proxy in front */
    conns_later(exchange, true);
    enum MHD_Result result = MHD_queue_response(exchange->connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

/* The answer is held until it is read, or given up. */
static enum MHD_Result reply_held(struct exchange *exchange, unsigned status, const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);
    if (text == NULL)
        return MHD_NO;
    size_t size = strlen(text);
    request_hold(exchange, size);
    return reply_text(exchange->connection, status, "application/json", text, size);
}

static unsigned ask(struct exchange *exchange, json_t *answer)
{
    struct admin *admin = exchange->admin;
    json_t *body = exchange->asked ? NULL : request_body(exchange);
    if (!exchange->asked && !json_is_object(body)) {
        json_decref(body);
        return admin_fail(answer, MHD_HTTP_BAD_REQUEST, "MALFORMED",
                          "the body is not a JSON object");
    }
    exchange->asked = true;
    const struct admin_query query = request_query(exchange, body);
    unsigned status =
        admin->face->asker.step(admin->options.context, exchange, exchange->route, &query, answer);
    json_decref(body);
    return status;
}

enum MHD_Result later_step(struct exchange *exchange)
{
    enum MHD_Result result = MHD_YES;
    json_t *answer = json_object();
    unsigned status = ask(exchange, answer);
    if (status == ADMIN_LATER)
        conns_later(exchange, false);
    else if (status == ADMIN_STREAM)
        result = reply_stream(exchange);
    else
        result = reply_held(exchange, status, answer);
    json_decref(answer);
    return result;
}
