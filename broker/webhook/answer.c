/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook/answer.h"

#include <jansson.h>
#include <string.h>

/* An object may say the receiver's seq, and then has to say it well: of one that was cut off nobody
 * knows what it would have said. Other text, as "ok", says nothing. */
static const char *read_body(struct bytes body, struct hook_answer *answer)
{
    json_error_t error;
    const char *problem = NULL;
    while (body.size > 0 && strchr(" \t\r\n", body.data[0]) != NULL && body.data[0] != '\0')
        body = (struct bytes){body.data + 1, body.size - 1};
    if (body.size == 0 || body.data[0] != '{')
        return NULL;
    json_t *object = json_loadb((const char *)body.data, body.size, JSON_REJECT_DUPLICATES, &error);
    const json_t *seq = json_object_get(object, "seq");
    if (object == NULL)
        problem = "the answer begins as a JSON object and is none";
    else if (seq != NULL && (!json_is_integer(seq) || json_integer_value(seq) < 0))
        problem = "the answer has a seq that is no number";
    answer->has_seq = problem == NULL && seq != NULL;
    answer->seq = answer->has_seq ? (uint64_t)json_integer_value(seq) : 0;
    json_decref(object);
    return problem;
}

const char *hook_answer_read(const struct web_answer *from, struct hook_answer *answer)
{
    *answer = (struct hook_answer){.retry_after_ms = from->retry_after_ms,
                                   .too_large = from->status == 413};
    if (from->error != NULL)
        return from->error;
    if (from->status / 100 == 3)
        return "a redirect, which is not followed: webhook.url has to be where it leads";
    if (from->status / 100 != 2)
        return "the receiver refuses";
    const char *problem = read_body(from->body, answer);
    answer->good = problem == NULL;
    return problem;
}
