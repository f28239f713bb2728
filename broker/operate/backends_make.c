/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "identity/base64url.h"
#include "operate/backends_private.h"
#include "proto/traceparent.h"

/* Requests become commands of backend.proto. A body is read whole and strictly: what is not known,
 * or of another kind, is refused by name, so that a misspelt `transient` keeps nobody's message.
 * What texts and names point to is the body's. */

backend_make *const backend_makes[BACKEND_ROUTES] = {
#define BACKEND(name, method, path, change, make) [BACKEND_##name] = make,
#include "operate/backends.def"
#undef BACKEND
};

void making_fini(struct making *making)
{
    free(making->payload);
    free(making->names);
    free(making->epochs);
}

/* --- pieces of a body ------------------------------------------------------------------------- */

unsigned make_fault(json_t *answer, const char *detail)
{
    return admin_fail(answer, 400, "MALFORMED", detail);
}

unsigned make_unpack(const struct admin_query *query, json_t *answer, const char *format, ...)
{
    json_error_t error;
    va_list arguments;
    va_start(arguments, format);
    int failed = json_vunpack_ex((json_t *)query->body, &error, JSON_STRICT, format, arguments);
    va_end(arguments);
    return failed == 0 ? 0 : make_fault(answer, error.text);
}

unsigned make_epoch(json_int_t number, uint64_t *epoch, json_t *answer)
{
    *epoch = (uint64_t)number;
    return number >= 0 ? 0 : make_fault(answer, "epoch: a number that is not below 0");
}

unsigned make_names(struct making *making, const json_t *names, json_t *answer)
{
    static const char detail[] = "1 to 1000 names, each a text";
    size_t count = json_array_size(names);
    if (count == 0 || count > HTTP_NAMES_MAX)
        return make_fault(answer, detail);
    making->names = calloc(count, sizeof(*making->names));
    if (making->names == NULL)
        return admin_fail(answer, 503, "UNAVAILABLE", "no memory");
    for (size_t i = 0; i < count; i++) {
        making->names[i] = (char *)json_string_value(json_array_get(names, i));
        if (making->names[i] == NULL)
            return make_fault(answer, detail);
    }
    return 0;
}

/* Base64 of either alphabet, padded or not, as tokens have it. */
static size_t as_base64url(const char *from, size_t size, char *to)
{
    if (size % 4 == 0 && size > 0 && from[size - 1] == '=')
        size -= from[size - 2] == '=' ? 2 : 1;
    for (size_t i = 0; i < size; i++)
        to[i] = (char)(from[i] == '+' ? '-' : from[i] == '/' ? '_' : from[i]);
    return size;
}

static unsigned decode(struct making *making, const json_t *base64, ProtobufCBinaryData *payload,
                       json_t *answer)
{
    size_t size = json_string_length(base64);
    char *text = malloc(size + 1);
    making->payload = malloc(BASE64URL_BYTES(size) + 1);
    if (text == NULL || making->payload == NULL) {
        free(text);
        return admin_fail(answer, 503, "UNAVAILABLE", "no memory");
    }
    size = as_base64url(json_string_value(base64), size, text);
    int failed = base64url_decode((struct bytes){(const uint8_t *)text, size}, making->payload,
                                  BASE64URL_BYTES(size), &payload->len);
    free(text);
    payload->data = making->payload;
    return failed == 0 ? 0 : make_fault(answer, "payload: not base64");
}

unsigned make_payload(struct making *making, const json_t *base64, const json_t *text,
                      ProtobufCBinaryData *payload, json_t *answer)
{
    if ((base64 == NULL) == (text == NULL))
        return make_fault(answer, "either payload, which is base64, or payload_text");
    if (!json_is_string(base64 != NULL ? base64 : text))
        return make_fault(answer, "the payload is a text");
    if (base64 != NULL)
        return decode(making, base64, payload, answer);
    payload->data = (uint8_t *)json_string_value(text);
    payload->len = json_string_length(text);
    return 0;
}

/* What is none becomes a short text that is none, which the node counts as any: headers may be long
 * and of any bytes, and the request does not fail for it. */
static char *traceparent_of(const struct admin_query *query)
{
    struct bytes given = bytes_of_text(query->traceparent);
    return (char *)(given.size == 0 || traceparent_valid(given) ? query->traceparent : "none");
}

/* --- users ------------------------------------------------------------------------------------ */

unsigned make_push(struct making *making, const struct admin_query *query, json_t *answer)
{
    const json_t *to = NULL, *base64 = NULL, *text = NULL;
    json_int_t epoch = 0, keep_s = 0, tag = 0;
    int transient = 0;
    Usher__V1__Push *push = &making->of.push;
    usher__v1__push__init(push);
    unsigned status = make_unpack(query, answer, "{s:o, s?o, s?o, s?I, s?b, s?I, s?I}", "to", &to,
                                  "payload", &base64, "payload_text", &text, "epoch", &epoch,
                                  "transient", &transient, "keep_s", &keep_s, "tag", &tag);
    if (status == 0 && (keep_s < 0 || keep_s > UINT32_MAX || tag < 0))
        return make_fault(answer, "keep_s or tag: not such a number");
    status = status != 0 ? status : make_names(making, to, answer);
    status = status != 0 ? status : make_payload(making, base64, text, &push->payload, answer);
    status = status != 0 ? status : make_epoch(epoch, &push->epoch, answer);
    push->to = making->names;
    push->n_to = json_array_size(to);
    push->transient = transient;
    push->traceparent = traceparent_of(query);
    push->keep_s = (uint32_t)keep_s;
    push->tag = (uint64_t)tag;
    making->command.body_case = USHER__V1__COMMAND__BODY_PUSH;
    making->command.push = push;
    return status;
}

unsigned make_push_all(struct making *making, const struct admin_query *query, json_t *answer)
{
    const json_t *base64 = NULL, *text = NULL;
    int transient = 0;
    Usher__V1__PushAll *push = &making->of.push_all;
    usher__v1__push_all__init(push);
    unsigned status = make_unpack(query, answer, "{s?o, s?o, s?b}", "payload", &base64,
                                  "payload_text", &text, "transient", &transient);
    status = status != 0 ? status : make_payload(making, base64, text, &push->payload, answer);
    push->transient = transient;
    push->traceparent = traceparent_of(query);
    making->command.body_case = USHER__V1__COMMAND__BODY_PUSH_ALL;
    making->command.push_all = push;
    return status;
}

unsigned make_kick(struct making *making, const struct admin_query *query, json_t *answer)
{
    const char *detail = "";
    json_int_t epoch = 0, reason = 0, retry_after_ms = 0;
    int do_not_return = 0;
    Usher__V1__Kick *kick = &making->of.kick;
    usher__v1__kick__init(kick);
    unsigned status = make_unpack(query, answer, "{s?I, s?I, s?s, s?I, s?b}", "epoch", &epoch,
                                  "reason", &reason, "detail", &detail, "retry_after_ms",
                                  &retry_after_ms, "do_not_return", &do_not_return);
    status = status != 0 ? status : make_epoch(epoch, &kick->epoch, answer);
    if (status == 0 &&
        (reason < 0 || reason > UINT16_MAX || retry_after_ms < 0 || retry_after_ms > UINT32_MAX))
        return make_fault(answer, "reason or retry_after_ms: not such a number");
    kick->user = (char *)query->user;
    kick->reason = (uint32_t)reason;
    kick->detail = (char *)detail;
    kick->retry_after_ms = (uint32_t)retry_after_ms;
    kick->do_not_return = do_not_return;
    making->command.body_case = USHER__V1__COMMAND__BODY_KICK;
    making->command.kick = kick;
    return status;
}

unsigned make_watch_list(struct making *making, const struct admin_query *query, json_t *answer)
{
    const json_t *targets = NULL;
    const char *mode = NULL;
    json_int_t epoch = 0;
    Usher__V1__WatchList *list = &making->of.watch_list;
    usher__v1__watch_list__init(list);
    unsigned status = make_unpack(query, answer, "{s:s, s:o, s?I}", "mode", &mode, "targets",
                                  &targets, "epoch", &epoch);
    status = status != 0 ? status : make_epoch(epoch, &list->epoch, answer);
    if (status == 0 && (!json_is_array(targets) || json_array_size(targets) > 0))
        status = make_names(making, targets, answer);
    const ProtobufCEnumValue *value = status == 0
                                          ? protobuf_c_enum_descriptor_get_value_by_name(
                                                &usher__v1__watch_list__mode__descriptor, mode)
                                          : NULL;
    if (status == 0 && value == NULL)
        return make_fault(answer, "mode is SET, ADD or REMOVE");
    list->user = (char *)query->user;
    list->mode = value != NULL ? (Usher__V1__WatchList__Mode)value->value : 0;
    list->targets = making->names;
    list->n_targets = json_array_size(targets);
    making->command.body_case = USHER__V1__COMMAND__BODY_WATCH_LIST;
    making->command.watch_list = list;
    return status;
}

/* --- who is there ----------------------------------------------------------------------------- */

unsigned make_list(struct making *making, const struct admin_query *query, json_t *answer)
{
    Usher__V1__List *list = &making->of.list;
    usher__v1__list__init(list);
    list->prefix = (char *)query->prefix;
    list->after = (char *)query->after_name;
    list->limit = query->limit != 0 ? query->limit : HTTP_ROWS;
    making->command.body_case = USHER__V1__COMMAND__BODY_LIST;
    making->command.list = list;
    return 0;
}

static unsigned look_up(struct making *making, size_t count)
{
    Usher__V1__Lookup *lookup = &making->of.lookup;
    usher__v1__lookup__init(lookup);
    lookup->users = making->names;
    lookup->n_users = count;
    making->command.body_case = USHER__V1__COMMAND__BODY_LOOKUP;
    making->command.lookup = lookup;
    return 0;
}

unsigned make_session(struct making *making, const struct admin_query *query, json_t *answer)
{
    making->names = calloc(1, sizeof(*making->names));
    if (making->names == NULL)
        return admin_fail(answer, 503, "UNAVAILABLE", "no memory");
    making->names[0] = (char *)query->user;
    return look_up(making, 1);
}

unsigned make_lookup(struct making *making, const struct admin_query *query, json_t *answer)
{
    const json_t *users = NULL;
    unsigned status = make_unpack(query, answer, "{s:o}", "users", &users);
    status = status != 0 ? status : make_names(making, users, answer);
    return status != 0 ? status : look_up(making, json_array_size(users));
}

unsigned make_count(struct making *making, const struct admin_query *query, json_t *answer)
{
    usher__v1__count__init(&making->of.count);
    making->command.body_case = USHER__V1__COMMAND__BODY_COUNT;
    making->command.count = &making->of.count;
    return 0;
}
