/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/refuse.h"

#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/broker_frame.h"
#include "proto/link_answer.h"

void refuse_message(struct turn *turn, struct deliver_message *message, uint16_t code)
{
    if (message->transient && code == USHER__V1__ERROR__CODE__BUSY) {
        refuse_transient(turn, message, 0);
        return;
    }
    turn_count(turn, METRIC_messages_refused, 1);
    turn_result(turn, message->sender, message->request, message->sender_epoch, 0, code);
    message_destroy(&message->header);
}

uint16_t refusal_for_away(struct turn *turn, const struct deliver_message *message)
{
    if (message->from_service)
        return 0;
    if (!turn->settings->stored_for_away)
        return USHER__V1__ERROR__CODE__NOT_ONLINE;
    if (!message->for_present)
        return 0;
    turn_count(turn, METRIC_stored_refused_rate, 1);
    return USHER__V1__ERROR__CODE__RATE_LIMITED;
}

void refuse_transient(struct turn *turn, struct deliver_message *message, uint64_t epoch)
{
    CHECK(message->transient);
    turn_count(turn, METRIC_transient_dropped, 1);
    turn_result(turn, message->sender, message->request, message->sender_epoch, epoch,
                RESULT_DROPPED);
    message_destroy(&message->header);
}

void refuse_request(struct turn *turn, uint64_t conn, uint64_t id, uint32_t code,
                    const char *detail, uint32_t retry_after_ms)
{
    if (id == 0)
        return;
    size_t offset = turn->out.size;
    MEMORY_MUST(broker_frame_error(&turn->out, id, code, detail, retry_after_ms) == 0, "an answer");
    turn_send(turn, conn, offset);
}

void refuse_conn(struct turn *turn, uint64_t conn, uint64_t id, uint32_t code, const char *detail,
                 uint32_t retry_after_ms)
{
    size_t offset = turn->out.size;
    if (id != 0)
        MEMORY_MUST(broker_frame_error(&turn->out, id, code, detail, retry_after_ms) == 0,
                    "an answer");
    struct effect *effect = turn_effect(turn, EFFECT_UNBIND, conn);
    effect->offset = (uint32_t)offset;
    effect->size = (uint32_t)(turn->out.size - offset);
}

static void say_farewell(struct turn *turn, uint64_t conn, uint32_t reason, const char *detail)
{
    size_t offset = turn->out.size;
    MEMORY_MUST(buffer_append(&turn->out, detail, strlen(detail) + 1) == 0, "an answer");
    struct effect *effect = turn_effect(turn, EFFECT_FAREWELL, conn);
    effect->detail = (uint16_t)reason;
    effect->offset = (uint32_t)offset;
    effect->size = (uint32_t)(turn->out.size - offset);
}

void refuse_shut(struct turn *turn, uint64_t conn, uint32_t reason, const char *detail,
                 uint32_t retry_after_ms, bool do_not_return)
{
    size_t offset = turn->out.size;
    MEMORY_MUST(broker_frame_close(&turn->out, reason, detail, retry_after_ms, do_not_return) == 0,
                "an answer");
    turn_send(turn, conn, offset);
    say_farewell(turn, conn, reason, detail);
    turn_effect(turn, EFFECT_RELEASE, conn);
}

void refuse_exchange(struct turn *turn, uint64_t exchange, uint32_t code, const char *detail)
{
    size_t offset = turn->out.size;
    turn_count(turn, METRIC_link_refused, 1);
    LOG(turn->log, LINK_REFUSED, LOG_U("code", code), LOG_S("detail", detail));
    MEMORY_MUST(link_answer_refused(&turn->out, code, detail) == 0, "an answer");
    struct effect *effect = turn_effect(turn, EFFECT_ANSWER, exchange);
    effect->offset = (uint32_t)offset;
    effect->size = (uint32_t)(turn->out.size - offset);
}
