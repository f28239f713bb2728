/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "actors/push.h"
#include "backend.pb-c.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "operate/http_private.h"

/* Kick and push for operators. */

#define PUSH_NAME "admin" /* the service that a pushed message is from */

/* A transient push that did not go is no failure: its operator wanted it now or never. */
static unsigned done(json_t *answer, uint64_t epoch, bool dropped)
{
    json_object_set_new(answer, "code", json_string("OK"));
    if (epoch != 0)
        json_object_set_new(answer, "epoch", json_integer((json_int_t)epoch));
    if (dropped)
        json_object_set_new(answer, "dropped", json_true());
    return 200;
}

/* Takes the message. */
static unsigned run_command(struct http *http, const char *user, struct message *message,
                            json_t *answer)
{
    struct result_message result;
    bool transient = message_is_transient(message);
    int error = http_ask(http, bytes_of_text(user), message, &result, NULL);
    if (error == -ESRCH)
        return http_conflict(answer, "NOT_ONLINE", "that user has no session");
    if (error == -ETIMEDOUT)
        return admin_fail(answer, 503, "timeout", "no result came; it may still take effect");
    if (error != 0)
        return transient ? done(answer, 0, true)
                         : http_conflict(answer, "BUSY", "that user's mailbox is full");
    switch (result.code) {
    case 0:
        return done(answer, result.epoch, false);
    case RESULT_DROPPED:
        return done(answer, result.epoch, true);
    case RESULT_STALE_EPOCH:
        return http_conflict(answer, "STALE_EPOCH", "that user has another epoch by now");
    case USHER__V1__ERROR__CODE__NOT_ONLINE:
        return http_conflict(answer, "NOT_ONLINE", "that user has no session");
    case USHER__V1__ERROR__CODE__INBOX_FULL:
        return http_conflict(answer, "INBOX_FULL", "that user's inbox is full");
    default:
        return http_conflict(answer, "UNAVAILABLE",
                             "the store refused, or the message is too large");
    }
}

bool http_number_of(const json_t *body, const char *key, uint64_t *number)
{
    const json_t *value = json_object_get(body, key);
    *number =
        value != NULL && json_integer_value(value) > 0 ? (uint64_t)json_integer_value(value) : 0;
    return value == NULL || (json_is_integer(value) && json_integer_value(value) >= 0);
}

unsigned http_kick(void *context, const struct admin_query *query, json_t *answer)
{
    struct http *http = http_of(context);
    const json_t *detail = json_object_get(query->body, "detail");
    const json_t *stay = json_object_get(query->body, "do_not_return");
    uint64_t epoch, retry_after_ms;
    bool good = http_number_of(query->body, "epoch", &epoch) &&
                http_number_of(query->body, "retry_after_ms", &retry_after_ms) &&
                retry_after_ms <= UINT32_MAX && (detail == NULL || json_is_string(detail)) &&
                (stay == NULL || json_is_boolean(stay));
    if (!good)
        return admin_fail(answer, 400, "bad_request",
                          "epoch and retry_after_ms are numbers, detail a text, do_not_return true "
                          "or false");
    struct kick_message *kick = message_create(MESSAGE_KICK, sizeof(*kick));
    kick->by = http->actor;
    kick->request = http_expect(http);
    kick->epoch = epoch;
    kick->reason = USHER__V1__CLOSE__REASON__KICKED;
    kick->retry_after_ms = (uint32_t)retry_after_ms;
    kick->do_not_return = json_is_true(stay);
    message_copy_text(kick->detail, sizeof(kick->detail),
                      bytes_of_text(detail != NULL && json_string_length(detail) > 0
                                        ? json_string_value(detail)
                                        : "kicked by an operator"));
    snprintf(kick->kicker, sizeof(kick->kicker), "admin %s", query->address);
    return run_command(http, query->user, &kick->header, answer);
}

unsigned http_push(void *context, const struct admin_query *query, json_t *answer)
{
    struct http *http = http_of(context);
    const json_t *text = json_object_get(query->body, "text");
    const json_t *transient = json_object_get(query->body, "transient");
    uint64_t epoch;
    if (!json_is_string(text) || !http_number_of(query->body, "epoch", &epoch) ||
        (transient != NULL && !json_is_boolean(transient)))
        return admin_fail(answer, 400, "bad_request",
                          "text is a text, epoch a number, transient true or false");
    struct deliver_message *deliver = deliver_create(
        bytes_of_text(PUSH_NAME),
        (struct bytes){(const uint8_t *)json_string_value(text), json_string_length(text)});
    if (deliver == NULL) {
        memory_refused();
        return admin_fail(answer, 503, "unavailable", "no memory");
    }
    deliver->sender = http->actor;
    deliver->request = http_expect(http);
    deliver->epoch_wanted = epoch;
    deliver->from_service = true;
    deliver->transient = json_is_true(transient);
    deliver->time_ms = env_wall_ms(http->options.env);
    deliver->arrived_ms = env_monotonic_ms(http->options.env);
    return run_command(http, query->user, &deliver->header, answer);
}
