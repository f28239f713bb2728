/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/held.h"
#include "actors/push.h"
#include "actors/refuse.h"
#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "instance/submit.h"
#include "proto/broker_frame.h"
#include "proto/link_answer.h"
#include "proto/link_frame.h"

/* What a backend submits: commands, each with one result, all answered together.
 *
 * A command that concerns a user becomes a message to him, whose result comes back as a post; one
 * that reads the store is a query. `token` finds the way back: the number of the Submit, the index
 * of the command in it and, for a Push, the index of the name. The Submit is answered when no
 * command waits any more, and its lane keeps the answer: commands take effect once per (link,
 * lane, seq), and a repetition gets the same results. */

enum {
    RESULT_ROOM_LEAST = 1024,
    COMMANDS_MAX = 4096,
    QUESTIONS_MAX = 4096, /* of one instance, that wait for the store */
};

/* By HTTP, and not by the link. */
static bool is_by_http(const struct link_request_message *request)
{
    return request->by_http[0] != '\0';
}

/* No frame of nng carries what HTTP is answered. */
static uint32_t answer_bytes(const struct submit *submit, const struct turn *turn)
{
    return is_by_http(submit->request) ? HTTP_ANSWER_BYTES : link_frame_bytes(turn->limits);
}

static uint64_t token_of(const struct submit *submit, uint32_t command, uint32_t name)
{
    CHECK(submit->number != 0 && command < submit->count && name <= UINT16_MAX);
    return (uint64_t)submit->number << 32 | (uint64_t)command << 16 | name;
}

/* Of the command that the token was made for. */
static struct command_result *result_of(struct submit *submit, uint64_t token)
{
    uint32_t command = token >> 16 & UINT16_MAX;
    CHECK(command < submit->count);
    return &submit->results[command];
}

static struct submit *find(struct instance *instance, uint64_t token)
{
    struct submit *submit = instance->submits;
    while (submit != NULL && submit->number != (uint32_t)(token >> 32))
        submit = submit->next;
    return submit;
}

/* Numbers come again after some 4 billion Submits: never one that is in progress, and never 0,
 * because a token of 0 would mean that no result is wanted. */
static uint32_t next_number(struct instance *instance)
{
    do
        instance->submit_number++;
    while (instance->submit_number == 0 ||
           find(instance, (uint64_t)instance->submit_number << 32) != NULL);
    return instance->submit_number;
}

static uint16_t result_code(uint16_t code)
{
    switch (code) {
    case 0:
        return USHER__V1__RESULT__CODE__OK;
    case USHER__V1__ERROR__CODE__NOT_ONLINE:
        return USHER__V1__RESULT__CODE__NOT_ONLINE;
    case USHER__V1__ERROR__CODE__INBOX_FULL:
    case USHER__V1__ERROR__CODE__BUSY:
        return USHER__V1__RESULT__CODE__INBOX_FULL;
    case USHER__V1__ERROR__CODE__TOO_LARGE:
        return USHER__V1__RESULT__CODE__TOO_LARGE;
    case RESULT_STALE_EPOCH:
        return USHER__V1__RESULT__CODE__STALE_EPOCH;
    case USHER__V1__ERROR__CODE__NO_ROOM:
        return USHER__V1__RESULT__CODE__NO_ROOM;
    case USHER__V1__ERROR__CODE__ROOM_FULL:
        return USHER__V1__RESULT__CODE__ROOM_FULL;
    case USHER__V1__ERROR__CODE__NOT_MEMBER:
        return USHER__V1__RESULT__CODE__NOT_MEMBER;
    case USHER__V1__ERROR__CODE__RATE_LIMITED:
        return USHER__V1__RESULT__CODE__RATE_LIMITED;
    case USHER__V1__ERROR__CODE__FORBIDDEN:
        return USHER__V1__RESULT__CODE__FORBIDDEN;
    case RESULT_ROOMS_FULL:
        return USHER__V1__RESULT__CODE__FULL;
    case RESULT_MALFORMED:
        return USHER__V1__RESULT__CODE__MALFORMED;
    default:
        return USHER__V1__RESULT__CODE__UNAVAILABLE;
    }
}

/* --- the answer ------------------------------------------------------------------------------- */

/* One that would exceed the frame is TOO_LARGE. */
static int put_result(struct link_results *results, struct bytes whole)
{
    int error = link_results_add(results, whole);
    return error != -ENOSPC ? error
                            : link_results_code(results, USHER__V1__RESULT__CODE__TOO_LARGE);
}

static void add_result(struct link_results *results, struct bytes whole)
{
    MEMORY_MUST(put_result(results, whole) == 0, "results");
}

/* What went to one name and failed has the code of that. */
static void add_push(struct link_results *results, const struct command_result *result,
                     const Usher__V1__Command *command)
{
    size_t named;
    char *const *names = submit_names(command, &named);
    struct buffer whole = {0};
    struct link_page failures = {.room = SIZE_MAX};
    size_t count = result->failures.size / 4;
    uint32_t code = result->code;
    for (size_t i = 0; i < count; i++) {
        uint16_t row[2];
        memcpy(row, result->failures.data + i * 4, sizeof(row));
        const char *user = row[0] < named ? names[row[0]] : "";
        MEMORY_MUST(link_page_failure(&failures, user, row[1]) == 0, "a result");
        if (named == 1 && count == 1)
            code = row[1];
    }
    MEMORY_MUST(link_result_push(&whole, code, result->accepted, result->dropped, result->mid,
                                 &failures) == 0,
                "a result");
    add_result(results, (struct bytes){whole.data, whole.size});
    buffer_fini(&failures.items);
    buffer_fini(&whole);
}

/* The LinkAnswer, appended to `out`. */
static void encode_answer(const struct submit *submit, const Usher__V1__Submit *request,
                          uint32_t bytes_max, struct buffer *out)
{
    struct link_results results;
    MEMORY_MUST(link_results_begin(&results, submit->seq, submit->count, bytes_max) == 0,
                "results");
    for (uint32_t i = 0; i < submit->count; i++) {
        const struct command_result *result = &submit->results[i];
        if (result->push)
            add_push(&results, result, request->commands[i]);
        else if (result->encoded.size > 0)
            add_result(&results, (struct bytes){result->encoded.data, result->encoded.size});
        else
            MEMORY_MUST(link_results_code(&results, result->code) == 0, "results");
    }
    MEMORY_MUST(link_answer_results(out, &results) == 0, "results");
    buffer_fini(&results.items);
}

static size_t submit_bytes(size_t count)
{
    return sizeof(struct submit) + count * sizeof(struct command_result);
}

static void destroy(struct submit *submit)
{
    memory_account(MEMORY_OF_BACKENDS, -(int64_t)submit_bytes(submit->count));
    for (uint32_t i = 0; i < submit->count; i++) {
        held_fini(&submit->results[i].failures);
        held_fini(&submit->results[i].encoded);
    }
    message_destroy(&submit->request->header);
    free(submit);
}

/* What strangers may have in progress is the link's to say (link_is_crowded), and no concern of
 * those who ask without a link and are none. HTTP counts for itself (http.requests). */
static bool is_counted(const struct instance *instance, const struct link_request_message *request)
{
    return instance->link != 0 || (!request->stranger && !is_by_http(request));
}

static void uncount(struct instance *instance, const struct submit *submit)
{
    bool counted = is_counted(instance, submit->request);
    CHECK(instance->submit_count >= counted);
    instance->submit_count -= counted;
}

static void unlink_submit(struct instance *instance, struct submit *submit)
{
    uncount(instance, submit);
    struct submit **at = &instance->submits;
    while (*at != submit)
        at = &(*at)->next;
    *at = submit->next;
}

static struct lane *lane_of(struct instance *instance, uint32_t number)
{
    for (unsigned i = 0; i < LANES_MAX; i++)
        if (instance->lanes[i].seq != 0 && instance->lanes[i].number == number)
            return &instance->lanes[i];
    return NULL;
}

static void send_answer(struct turn *turn, uint64_t exchange, struct bytes answer)
{
    size_t offset = turn->out.size;
    MEMORY_MUST(buffer_append(&turn->out, answer.data, answer.size) == 0, "results");
    instance_answer(turn, exchange, offset);
}

static void finish_if_done(struct instance *instance, struct submit *submit, struct turn *turn)
{
    if (submit->waiting > 0)
        return;
    struct buffer answer = {0};
    arena_reset(&instance->arena);
    const Usher__V1__LinkRequest *request = link_request_read(
        &instance->arena, (struct bytes){submit->request->bytes, submit->request->size});
    CHECK(request != NULL);
    encode_answer(submit, request->submit, answer_bytes(submit, turn), &answer);
    send_answer(turn, submit->exchange, (struct bytes){answer.data, answer.size});
    struct lane *lane = instance->link != 0 ? lane_of(instance, submit->lane) : NULL;
    if (lane != NULL && lane->seq == submit->seq)
        held_take(&lane->answer, &answer);
    else
        buffer_fini(&answer);
    unlink_submit(instance, submit);
    destroy(submit);
}

void instance_drop_submits(struct instance *instance, struct turn *turn)
{
    while (instance->submits != NULL) {
        struct submit *submit = instance->submits;
        instance->submits = submit->next;
        uncount(instance, submit);
        refuse_exchange(turn, submit->exchange, USHER__V1__REFUSED__CODE__STALE_LINK,
                        "this link has ended; say Hello again");
        destroy(submit);
    }
    CHECK(instance->submit_count == 0);
}

/* --- results that come back ------------------------------------------------------------------- */

static void settle(struct submit *submit, struct command_result *result)
{
    CHECK(result->waiting > 0 && submit->waiting > 0);
    result->waiting--;
    submit->waiting--;
}

void submit_fail(struct command_result *result, uint32_t name, uint16_t code)
{
    const uint16_t row[2] = {(uint16_t)name, code};
    MEMORY_MUST(held_append(&result->failures, row, sizeof(row)) == 0, "a result");
}

void instance_command_done(struct instance *instance, uint64_t token, uint16_t code, uint64_t mid,
                           struct turn *turn)
{
    struct submit *submit = find(instance, token);
    if (submit == NULL)
        return;
    struct command_result *result = result_of(submit, token);
    settle(submit, result);
    result->mid = mid > result->mid ? mid : result->mid;
    if (!result->push)
        result->code = result_code(code);
    else if (code == 0)
        result->accepted++;
    else if (code == RESULT_DROPPED)
        result->dropped++;
    else
        submit_fail(result, (uint16_t)token, result_code(code));
    finish_if_done(instance, submit, turn);
}

void instance_query_done(struct instance *instance, uint64_t token, struct bytes encoded,
                         struct turn *turn)
{
    struct submit *submit = find(instance, token);
    if (submit == NULL)
        return;
    struct command_result *result = result_of(submit, token);
    settle(submit, result);
    submit->encoded_bytes += encoded.size;
    /* A thousand small questions fit one Submit, and their long answers none: what cannot leave is
     * not kept. */
    if (submit->encoded_bytes > answer_bytes(submit, turn)) {
        submit->encoded_bytes -= encoded.size;
        result->code = USHER__V1__RESULT__CODE__TOO_LARGE;
    } else {
        MEMORY_MUST(held_append(&result->encoded, encoded.data, encoded.size) == 0, "a result");
    }
    finish_if_done(instance, submit, turn);
}

void instance_room_done(struct instance *instance, const struct room_answer_message *answer,
                        struct turn *turn)
{
    if (answer->code == 0 && answer->size > 0)
        instance_query_done(instance, answer->token, (struct bytes){answer->bytes, answer->size},
                            turn);
    else
        instance_command_done(instance, answer->token, answer->code, 0, turn);
}

struct command_result *instance_take_result(struct instance *instance, uint64_t token)
{
    struct submit *submit = find(instance, token);
    if (submit == NULL)
        return NULL;
    struct command_result *result = result_of(submit, token);
    settle(submit, result);
    return result;
}

void instance_result_taken(struct instance *instance, uint64_t token, struct turn *turn)
{
    finish_if_done(instance, find(instance, token), turn);
}

void instance_pushed_all(struct instance *instance, struct push_all_message *push,
                         struct turn *turn)
{
    struct submit *submit = find(instance, push->token);
    if (submit == NULL)
        return;
    struct command_result *result = result_of(submit, push->token);
    settle(submit, result);
    result->accepted = push->accepted;
    if (push->transient) {
        result->dropped = push->missed;
        turn_count(turn, METRIC_transient_dropped, push->missed);
    }
    finish_if_done(instance, submit, turn);
}

/* --- commands --------------------------------------------------------------------------------- */

static void wait_for_one(struct submit *submit, struct command_result *result)
{
    result->waiting++;
    submit->waiting++;
}

uint64_t submit_await(const struct running *running, uint32_t name)
{
    wait_for_one(running->submit, running->result);
    return token_of(running->submit, running->index, name);
}

uint32_t submit_room_of(const struct submit *submit, const struct turn *turn)
{
    uint32_t share = (answer_bytes(submit, turn) - 256) / submit->count;
    return share > RESULT_ROOM_LEAST ? share : RESULT_ROOM_LEAST;
}

static void reply_to(struct instance *instance, struct command_result *result,
                     const Usher__V1__ReplyTo *reply, struct turn *turn)
{
    struct call call;
    bool there = instance_close_call(instance, reply->call, &call);
    bool orphan = there && call.mail_seq <= instance->mail_base; /* of an earlier incarnation */
    if (orphan)
        instance_lose_call(turn, &call, USHER__V1__ERROR__CODE__SERVICE_LOST);
    if (!there || orphan || call.deadline_ms <= turn->now_ms) {
        result->code = USHER__V1__RESULT__CODE__GONE;
        turn_count(turn, METRIC_replies_late, 1);
        return;
    }
    struct call_result_message *message;
    struct bytes payload = {reply->payload.data, reply->payload.len};
    if (!call.inner && broker_frame_reply_size(call.request, reply->status, payload) >
                           limits_frame_bytes(turn->limits)) {
        /* His client is told the same instead of it: it was promised smaller frames. */
        result->code = USHER__V1__RESULT__CODE__TOO_LARGE;
        instance_lose_call(turn, &call, USHER__V1__ERROR__CODE__TOO_LARGE);
        return;
    }
    MEMORY_MUST((message = call_result_with_rooms(reply->status, payload, reply->rooms,
                                                  reply->n_rooms)) != NULL,
                "a reply");
    message->token_ends_ms = reply->token_ends_ms;
    message->request = call.request;
    message->call = call.call;
    message->epoch = call.epoch;
    message->stamp_us = call.stamp_us;
    turn_post(turn, call.caller, &message->header);
}

void submit_forward(struct turn *turn, const char *user, struct message *message)
{
    size_t offset = turn->out.size;
    size_t size = strlen(user);
    MEMORY_MUST(buffer_append(&turn->out, user, size) == 0, "a name");
    struct effect *effect = turn_effect(turn, EFFECT_FORWARD, 0);
    effect->message = message;
    effect->offset = (uint32_t)offset;
    effect->size = (uint32_t)size;
}

/* What is stored is for whoever comes, so it names no epoch. 0: nothing is wrong. */
static uint16_t push_fault(const Usher__V1__Push *push, const struct limits *limits)
{
    if (push->keep_s != 0 && (push->transient || push->epoch != 0))
        return USHER__V1__RESULT__CODE__MALFORMED;
    return push->keep_s > inbox_keep_max_s(limits) ? USHER__V1__RESULT__CODE__TOO_LARGE : 0;
}

static void push(struct instance *instance, struct submit *submit, uint32_t index,
                 const Usher__V1__Push *push, struct turn *turn)
{
    struct command_result *result = &submit->results[index];
    if ((result->code = push_fault(push, turn->limits)) != 0)
        return;
    result->push = true;
    struct push_run run;
    struct push text = {bytes_of_text(instance->service),
                        {push->payload.data, push->payload.len},
                        push->transient,
                        turn_traceparent(turn, bytes_of_text(push->traceparent))};
    MEMORY_MUST(push_begin(&run, text, turn->wall_ms, turn->now_ms, (uint32_t)push->n_to) == 0,
                "a push");
    if (push->keep_s != 0)
        push_store(&run, push->keep_s, push->tag);
    for (size_t i = 0; i < push->n_to; i++) {
        struct deliver_message *message;
        MEMORY_MUST((message = push_next(&run)) != NULL, "a push");
        message->sender = turn->self;
        message->request = token_of(submit, index, (uint32_t)i);
        if (push->keep_s == 0)
            message->epoch_wanted = push->epoch;
        wait_for_one(submit, result);
        submit_forward(turn, push->to[i], &message->header);
    }
    push_end(&run);
}

static void push_all(struct instance *instance, struct submit *submit, uint32_t index,
                     const Usher__V1__PushAll *push, struct turn *turn)
{
    struct bytes name = bytes_of_text(instance->service);
    struct push_all_message *message;
    struct bytes payload = {push->payload.data, push->payload.len};
    struct bytes traceparent = turn_traceparent(turn, bytes_of_text(push->traceparent));
    size_t bytes = sizeof(*message) + name.size + payload.size + traceparent.size;
    MEMORY_MUST((message = message_create(MESSAGE_PUSHED_ALL, bytes)) != NULL, "a push");
    message->token = token_of(submit, index, 0);
    message->accepted = message->missed = 0;
    message->transient = push->transient;
    message->name_size = (uint8_t)name.size;
    message->trace_size = (uint8_t)traceparent.size;
    message->payload_size = (uint32_t)payload.size;
    bytes_put(bytes_put(bytes_put(message->bytes, name), payload), traceparent);
    submit->results[index].push = true;
    wait_for_one(submit, &submit->results[index]);
    struct effect *effect = turn_effect(turn, EFFECT_LINK, 0);
    effect->detail = LINK_PUSH_ALL;
    effect->message = &message->header;
}

struct push instance_push_text(const struct push_all_message *push)
{
    return (struct push){{push->bytes, push->name_size},
                         {push->bytes + push->name_size, push->payload_size},
                         push->transient,
                         {push->bytes + push->name_size + push->payload_size, push->trace_size}};
}

/* Who kicks, for the log; and for the player, when the backend has nothing to say to him. */
static void name_kicker(const struct instance *instance, const struct submit *submit,
                        struct kick_message *message)
{
    if (is_by_http(submit->request))
        snprintf(message->kicker, sizeof(message->kicker), "%s %s", HTTP_SERVICE,
                 submit->request->by_http);
    else
        snprintf(message->kicker, sizeof(message->kicker), "%s/%s", instance->service,
                 instance->name);
    if (message->detail[0] == '\0')
        snprintf(message->detail, sizeof(message->detail), "kicked by %s",
                 instance->service[0] != '\0' ? instance->service : "a backend");
}

static void kick(struct instance *instance, struct submit *submit, uint32_t index,
                 const Usher__V1__Kick *kick, struct turn *turn)
{
    struct kick_message *message = message_create(MESSAGE_KICK, sizeof(*message));
    message->by = turn->self;
    message->request = token_of(submit, index, 0);
    message->epoch = kick->epoch;
    message->reason = kick->reason ? kick->reason : USHER__V1__CLOSE__REASON__KICKED;
    message->retry_after_ms = kick->retry_after_ms;
    message->do_not_return = kick->do_not_return;
    message_copy_text(message->detail, sizeof(message->detail), bytes_of_text(kick->detail));
    name_kicker(instance, submit, message);
    wait_for_one(submit, &submit->results[index]);
    submit_forward(turn, kick->user, &message->header);
}

/* The source is the instance, or else the exchange: a peer has one at a time. All of HTTP is one
 * that has shown its token, as an instance is. */
static void query(struct instance *instance, struct submit *submit, uint32_t index,
                  const Usher__V1__Command *command, struct turn *turn)
{
    size_t size = usher__v1__command__get_packed_size(command);
    struct query_message *query;
    MEMORY_MUST((query = message_create(0, sizeof(*query) + size)) != NULL, "a query");
    query->asker = turn->self;
    query->kind = QUERY_COMMAND;
    query->linked = instance->link != 0 || is_by_http(submit->request);
    query->source = query->linked ? actor_slot(turn->self) : (uint32_t)submit->exchange;
    query->token = token_of(submit, index, 0);
    query->after = 0;
    query->bytes_max = submit_room_of(submit, turn);
    query->size = (uint32_t)size;
    usher__v1__command__pack(command, query->bytes);
    instance->questions++;
    wait_for_one(submit, &submit->results[index]);
    struct effect *effect = turn_effect(turn, EFFECT_LINK, 0);
    effect->detail = LINK_QUERY;
    effect->message = &query->header;
}

/* The directory looks for it among all members, so it is told once, however often a Submit says it.
 */
static void drain(struct instance *instance, struct turn *turn)
{
    if (instance->draining)
        return;
    instance->draining = true;
    if (!instance->drain_waits) /* a Hello in between takes the drain back, not the mail */
        instance_put_control(instance, USHER__V1__CONTROL__KIND__DRAIN, turn);
    instance->drain_waits = true;
    turn_effect(turn, EFFECT_LINK, 1)->detail = LINK_DRAIN;
}

static void run_command(struct instance *instance, struct submit *submit, uint32_t index,
                        const Usher__V1__Command *command, struct turn *turn)
{
    struct command_result *result = &submit->results[index];
    const struct running running = {instance, submit, index, result};
    if (submit_is_of_room(command)) {
        submit_run_of_room(&running, command, turn);
        return;
    }
    switch (command->body_case) {
    case USHER__V1__COMMAND__BODY_REPLY_TO:
        reply_to(instance, result, command->reply_to, turn);
        break;
    case USHER__V1__COMMAND__BODY_PUSH:
        push(instance, submit, index, command->push, turn);
        break;
    case USHER__V1__COMMAND__BODY_PUSH_ALL:
        push_all(instance, submit, index, command->push_all, turn);
        break;
    case USHER__V1__COMMAND__BODY_KICK:
        kick(instance, submit, index, command->kick, turn);
        break;
    case USHER__V1__COMMAND__BODY_DRAIN:
        drain(instance, turn);
        break;
    case USHER__V1__COMMAND__BODY_WATCH_LIST:
        submit_watch_list(&running, command->watch_list, turn);
        break;
    case USHER__V1__COMMAND__BODY__NOT_SET:
        result->code = USHER__V1__RESULT__CODE__MALFORMED;
        break;
    default:
        query(instance, submit, index, command, turn);
        break;
    }
}

/* It changes nothing, or it bears a token itself: from RECORDER on, where one is needed. */
static bool is_question(const Usher__V1__Command *command)
{
    switch (command->body_case) {
    case USHER__V1__COMMAND__BODY_DRAIN:
    case USHER__V1__COMMAND__BODY_ROOM_OPEN:
    case USHER__V1__COMMAND__BODY_ROOM_CLOSE:
    case USHER__V1__COMMAND__BODY_ROOM_ADD:
    case USHER__V1__COMMAND__BODY_ROOM_REMOVE:
    case USHER__V1__COMMAND__BODY_ROOM_PUBLISH:
    case USHER__V1__COMMAND__BODY_WATCH_LIST:
    case USHER__V1__COMMAND__BODY_INBOX_DROP:
        return false;
    default:
        return command->body_case >= USHER__V1__COMMAND__BODY_LOOKUP;
    }
}

/* In the line of the store, from which nothing is taken. */
static bool is_query(const Usher__V1__Command *command)
{
    return (is_question(command) && !submit_is_of_room(command)) ||
           command->body_case == USHER__V1__COMMAND__BODY_INBOX_DROP;
}

/* For others than the store, who answer. */
static bool is_awaited(const Usher__V1__Command *command)
{
    return command->body_case == USHER__V1__COMMAND__BODY_PUSH ||
           command->body_case == USHER__V1__COMMAND__BODY_PUSH_ALL ||
           command->body_case == USHER__V1__COMMAND__BODY_KICK ||
           command->body_case == USHER__V1__COMMAND__BODY_WATCH_LIST || submit_is_of_room(command);
}

const char *instance_submit_fault(const Usher__V1__Submit *submit, bool may_change,
                                  const struct limits *limits)
{
    if (submit->n_commands > COMMANDS_MAX ||
        submit->n_commands * LINK_RESULTS_CODE_BYTES + LINK_RESULTS_OVERHEAD >
            link_frame_bytes(limits))
        return "too many commands in one Submit";
    for (size_t i = 0; i < submit->n_commands; i++) {
        const Usher__V1__Command *command = submit->commands[i];
        if (submit->link == 0 && !may_change && !is_question(command))
            return "a Submit with link 0 may hold queries only; say Hello first";
        size_t names;
        (void)submit_names(command, &names);
        if (names > UINT16_MAX)
            return "too many names in one command";
    }
    return NULL;
}

static void refuse_busy(uint64_t exchange, struct turn *turn)
{
    refuse_exchange(turn, exchange, USHER__V1__REFUSED__CODE__BUSY,
                    "too much of this link is in progress; see link.contexts");
}

/* Whether one more must not begin. Each Submit that has to wait holds an exchange of the link,
 * which others need for their Fetches; and its questions wait in a line from which they are not
 * taken when the link ends, so who says Hello and asks in turns would fill the memory. Those who
 * have no link are bounded by their exchanges alone. What waits for nobody, as replies do, always
 * begins. */
static bool is_busy(const struct instance *instance, const Usher__V1__Submit *request,
                    const struct turn *turn)
{
    uint32_t most = turn->settings->link_submits_max > 0 ? turn->settings->link_submits_max : 1;
    size_t questions = 0;
    size_t others = 0;
    for (size_t i = 0; i < request->n_commands; i++) {
        questions += is_query(request->commands[i]);
        others += is_awaited(request->commands[i]);
    }
    if (questions + others > 0 && instance->submit_count >= most)
        return true;
    return questions > 0 && instance->link != 0 && instance->questions > 0 &&
           instance->questions + questions > QUESTIONS_MAX;
}

/* True: it repeats the last one of its lane, and is or will be answered as that. */
static bool repeats(struct instance *instance, const struct lane *lane, uint64_t exchange,
                    const Usher__V1__Submit *request, struct turn *turn)
{
    if (request->seq != lane->seq)
        return false;
    if (lane->answer.size > 0) {
        send_answer(turn, exchange, (struct bytes){lane->answer.data, lane->answer.size});
        return true;
    }
    /* Still running: the repetition gets the answer, the first exchange is given up. */
    for (struct submit *submit = instance->submits; submit != NULL; submit = submit->next)
        if (submit->lane == request->lane && submit->seq == request->seq) {
            refuse_exchange(turn, submit->exchange, USHER__V1__REFUSED__CODE__BUSY,
                            "this Submit was repeated");
            submit->exchange = exchange;
            return true;
        }
    return false;
}

/* NULL: all are taken. */
static struct lane *free_lane(struct instance *instance)
{
    for (unsigned i = 0; i < LANES_MAX; i++)
        if (instance->lanes[i].seq == 0)
            return &instance->lanes[i];
    return NULL;
}

/* True: the lane has dealt with it (a repetition, or out of order, or too much). */
static bool lane_refuses(struct instance *instance, struct link_request_message *message,
                         const Usher__V1__Submit *request, struct turn *turn)
{
    struct lane *lane = lane_of(instance, request->lane);
    if (lane != NULL && repeats(instance, lane, message->exchange, request, turn))
        return true;
    if (lane == NULL)
        lane = free_lane(instance);
    if (lane == NULL) {
        refuse_exchange(turn, message->exchange, USHER__V1__REFUSED__CODE__MALFORMED,
                        "too many lanes");
        return true;
    }
    if (request->seq != lane->seq + 1) {
        refuse_exchange(turn, message->exchange, USHER__V1__REFUSED__CODE__MALFORMED,
                        "seq must be one more than the lane's last");
        return true;
    }
    if (is_busy(instance, request, turn)) {
        refuse_busy(message->exchange, turn);
        return true;
    }
    lane->number = request->lane;
    lane->seq = request->seq;
    held_fini(&lane->answer);
    return false;
}

void instance_submit(struct instance *instance, struct link_request_message *message,
                     const Usher__V1__Submit *request, struct turn *turn)
{
    const char *detail = instance_submit_fault(request, is_by_http(message), turn->limits);
    turn_count(turn, METRIC_link_submits, 1);
    turn_count(turn, METRIC_link_commands, request->n_commands);
    if (detail != NULL) {
        refuse_exchange(turn, message->exchange, USHER__V1__REFUSED__CODE__MALFORMED, detail);
        message_destroy(&message->header);
        return;
    }
    if (instance->link != 0 && lane_refuses(instance, message, request, turn)) {
        message_destroy(&message->header);
        return;
    }
    if (instance->link == 0 && is_counted(instance, message) && is_busy(instance, request, turn)) {
        refuse_busy(message->exchange, turn);
        message_destroy(&message->header);
        return;
    }
    struct submit *submit;
    size_t bytes = submit_bytes(request->n_commands);
    MEMORY_MUST((submit = calloc(1, bytes)) != NULL, "a Submit");
    memory_account(MEMORY_OF_BACKENDS, (int64_t)bytes);
    submit->exchange = message->exchange;
    submit->seq = request->seq;
    submit->lane = request->lane;
    submit->number = next_number(instance);
    submit->count = (uint32_t)request->n_commands;
    submit->request = message;
    submit->next = instance->submits;
    instance->submits = submit;
    instance->submit_count += is_counted(instance, message);
    for (uint32_t i = 0; i < submit->count; i++)
        run_command(instance, submit, i, request->commands[i], turn);
    finish_if_done(instance, submit, turn);
}
