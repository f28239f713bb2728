/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_ROOM_STAGE_ROOM_H
#define USHER_TESTS_ROOM_STAGE_ROOM_H

/* The room "match" on a stage: messages of its users and services go in, and what it asks for is
 * written to a *tape*, one line per effect. The fan-out is carried out by the stage, which also
 * plays the mailboxes. Users are u1, u2, ...; services are s. Lines read
 *
 *   u1 joined at=0 live {state match NONE at=0 of=1 [u1]}   his RoomState message, and its frames
 *   u1 refused ROOM_FULL                                    a Join that ended so
 *   u1 pulled #3 at=5 behind {messages 1..5}                the answer to his pull number 3
 *   u1 owed at=7
 *   u1 < messages 1..2          a bundle that was posted to him
 *   u1 < event of=2 +u2 -u3 ~u4 =u5   joined, left, away, back
 *   u1 < closed at=4
 *   u1 result #9 OK 4           of a Publish
 *   s answer #7 OK <members>
 *   news 2 JOINED u1 ASKED      to the owner
 *   ask JOIN u1 call=1
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/user_call.h"
#include "backend.pb-c.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/frame.h"
#include "room/private.h"

enum { TAPE_BYTES = 256 * 1024, NOW_MS = 1000000, SERVICE = 0x7000, USERS_MAX = 20000 };

static const actor_handle ROOM_SELF = UINT64_C(3) << 32 | 5;

struct stage {
    struct limits limits;
    struct settings settings;
    struct counters counters;
    struct metrics *metrics;
    struct turn turn;
    uint64_t now_ms, timer_ms;
    struct room *room;
    struct room_classes *classes;
    bool quiet;                /* the fan-out is counted, and not on the tape */
    bool holds;                /* nothing is fanned out until stage_more */
    bool waits;                /* a fan-out was asked for, and held */
    bool more;                 /* a MESSAGE_ROOM_MORE is on its way */
    uint64_t gone, full;       /* bit i: of u(i), i < 64 */
    uint32_t posts[USERS_MAX]; /* to each of them */
    size_t size;
    char tape[TAPE_BYTES];
};

__attribute__((format(printf, 2, 3))) static inline void put(struct stage *stage,
                                                             const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t left = TAPE_BYTES - stage->size;
    int size = vsnprintf(stage->tape + stage->size, left, format, arguments);
    va_end(arguments);
    assert_true(size >= 0 && (size_t)size < left);
    stage->size += (size_t)size;
}

static inline actor_handle user(uint32_t number)
{
    return UINT64_C(1) << 32 | number;
}

static inline const char *who(actor_handle actor)
{
    static char names[4][16];
    static unsigned next;
    char *name = names[next++ % 4];
    if (actor == SERVICE)
        return "s";
    snprintf(name, 16, "u%u%s", actor_slot(actor), actor >> 32 == 1 ? "" : "'");
    return name;
}

static inline const char *word(const ProtobufCEnumDescriptor *descriptor, uint32_t value)
{
    const ProtobufCEnumValue *row = protobuf_c_enum_descriptor_get_value(descriptor, (int)value);
    return row != NULL ? row->name : "?";
}

static inline const char *code_word(uint16_t code)
{
    return code == 0                    ? "OK"
           : code == RESULT_STALE_EPOCH ? "STALE_EPOCH"
           : code == RESULT_ROOMS_FULL  ? "ROOMS_FULL"
                                        : word(&usher__v1__error__code__descriptor, code);
}

/* --- frames ----------------------------------------------------------------------------------- */

static inline void put_frame(struct stage *stage, const Usher__V1__BrokerFrame *frame)
{
    static const char kinds[] = "+~=-";
    if (frame->body_case == USHER__V1__BROKER_FRAME__BODY_ROOM_STATE) {
        const Usher__V1__RoomState *state = frame->room_state;
        put(stage, "{");
        if (frame->id != 0)
            put(stage, "#%llu ", (unsigned long long)frame->id);
        put(stage, "%s %s at=%llu of=%u",
            word(&usher__v1__room_state__state__descriptor, state->state),
            word(&usher__v1__room_state__replay__descriptor, state->replay),
            (unsigned long long)state->offset, state->members);
        for (size_t i = 0; i < state->n_roster; i++)
            put(stage, " %s%s", state->roster[i]->user, state->roster[i]->away ? "~" : "");
        put(stage, "}");
    } else if (frame->body_case == USHER__V1__BROKER_FRAME__BODY_ROOM_MESSAGES) {
        const Usher__V1__RoomMessages *messages = frame->room_messages;
        put(stage, "{%llu", (unsigned long long)messages->offset);
        for (size_t i = 0; i < messages->n_messages; i++)
            if (messages->messages[i]->payload.len < 8)
                put(stage, " %.*s", (int)messages->messages[i]->payload.len,
                    (const char *)messages->messages[i]->payload.data);
            else
                put(stage, " <%zu>", messages->messages[i]->payload.len);
        put(stage, "}");
    } else {
        assert_int_equal(frame->body_case, USHER__V1__BROKER_FRAME__BODY_ROOM_EVENT);
        put(stage, "{of=%u", frame->room_event->members);
        for (size_t i = 0; i < frame->room_event->n_changes; i++)
            put(stage, " %c%s", kinds[frame->room_event->changes[i]->kind],
                frame->room_event->changes[i]->user);
        put(stage, "}");
    }
}

/* Whole frames, no larger than a client takes. */
static inline void put_frames(struct stage *stage, const uint8_t *data, size_t size)
{
    while (size > 0) {
        struct bytes bytes;
        size_t used;
        assert_int_equal(
            frame_next((struct bytes){data, size}, stage->limits.limits_frame_bytes, &bytes, &used),
            1);
        Usher__V1__BrokerFrame *frame =
            usher__v1__broker_frame__unpack(NULL, bytes.size, bytes.data);
        assert_non_null(frame);
        put(stage, " ");
        put_frame(stage, frame);
        usher__v1__broker_frame__free_unpacked(frame, NULL);
        data += used;
        size -= used;
    }
}

/* --- effects ---------------------------------------------------------------------------------- */

static inline void put_state(struct stage *stage, const struct room_state_message *state)
{
    put(stage, "%s ", who(state->user));
    if (state->code != 0) {
        put(stage, "refused %s", code_word(state->code));
        return;
    }
    if (state->joined)
        put(stage, "%s", state->again ? "again" : "joined");
    else if (state->owed)
        put(stage, "owed");
    else
        put(stage, "pulled #%u", state->pull);
    put(stage, " at=%llu%s%s", (unsigned long long)state->offset, state->live ? " live" : "",
        state->carry ? " carry" : "");
    put_frames(stage, state->bytes, state->size);
}

static inline void put_answer(struct stage *stage, const struct room_answer_message *answer)
{
    put(stage, "s answer #%llu %s", (unsigned long long)answer->token, code_word(answer->code));
    if (answer->size == 0)
        return;
    Usher__V1__Result *result = usher__v1__result__unpack(NULL, answer->size, answer->bytes);
    assert_non_null(result);
    if (result->value_case == USHER__V1__RESULT__VALUE_ROOMS)
        put(stage, " at=%llu of=%u", (unsigned long long)result->rooms->rooms[0]->offset,
            result->rooms->rooms[0]->members);
    else {
        assert_int_equal(result->value_case, USHER__V1__RESULT__VALUE_MEMBERS);
        for (size_t i = 0; i < result->members->n_members; i++)
            put(stage, " %s%s%s", result->members->members[i]->user,
                result->members->members[i]->away ? "~" : "",
                result->members->members[i]->carry ? "!" : "");
        put(stage, " next=%s news=%llu", result->members->next,
            (unsigned long long)result->members->news_seq);
    }
    usher__v1__result__free_unpacked(result, NULL);
}

static inline void put_mail(struct stage *stage, const struct user_call_message *mail)
{
    if (mail->body == MAIL_ROOM_NEWS) {
        struct room_news_fields news = user_call_room_news(mail);
        put(stage, "news %llu %s %.*s %s", (unsigned long long)news.news_seq,
            word(&usher__v1__room_news__kind__descriptor, news.kind), (int)news.user.size,
            news.user.size > 0 ? (const char *)news.user.data : "",
            word(&usher__v1__room_news__cause__descriptor, news.cause));
    } else {
        struct room_ask_fields ask = user_call_room_ask(mail);
        put(stage, "ask %s %.*s call=%llu", word(&usher__v1__room_ask__kind__descriptor, ask.kind),
            (int)ask.user.size, (const char *)ask.user.data, (unsigned long long)ask.call);
    }
}

static inline void put_post(struct stage *stage, actor_handle to, const struct message *message)
{
    if (message->kind == MESSAGE_ROOM_STATE) {
        put_state(stage, (const struct room_state_message *)message);
    } else if (message->kind == MESSAGE_ROOM_ANSWER) {
        put_answer(stage, (const struct room_answer_message *)message);
    } else {
        assert_int_equal(message->kind, MESSAGE_RESULT);
        const struct result_message *result = (const struct result_message *)message;
        put(stage, "%s result #%llu %s", who(to), (unsigned long long)result->request,
            code_word(result->code));
        if (result->offset != 0)
            put(stage, " %llu", (unsigned long long)result->offset);
    }
}

static inline bool has(uint64_t set, actor_handle actor)
{
    return actor_slot(actor) < 64 && (set >> actor_slot(actor) & 1) != 0;
}

static inline void put_bundle(struct stage *stage, actor_handle to,
                              const struct room_bundle *bundle)
{
    stage->posts[actor_slot(to)]++;
    if (stage->quiet)
        return;
    put(stage, "%s <", who(to));
    put_frames(stage, bundle->bytes, bundle->size);
    put(stage, "\n");
}

/* As directory/rooms.c does it. */
static inline void fan_out(struct stage *stage)
{
    struct room_out out = room_out_next(stage->room);
    bool closes = out.bundles[out.count - 1]->kind == ROOM_CLOSED;
    for (uint32_t place = out.from; place < out.to; place++) {
        actor_handle to = room_out_member(stage->room, place, closes);
        bool away = to != 0 && room_out_member(stage->room, place, false) == 0;
        if (to == 0)
            continue;
        if (has(stage->gone, to))
            room_out_gone(stage->room, place);
        else if (has(stage->full, to) && !closes)
            room_out_missed(stage->room, place);
        else
            for (uint32_t i = away || has(stage->full, to) ? out.count - 1 : 0; i < out.count; i++)
                put_bundle(stage, to, out.bundles[i]);
    }
    if (room_out_done(stage->room)) {
        assert_false(stage->more);
        stage->more = true;
    }
}

static inline void put_effect(struct stage *stage, const struct effect *effect)
{
    if (effect->kind == EFFECT_TIMER) {
        stage->timer_ms = effect->value;
        return;
    }
    if (effect->kind == EFFECT_ROOM_OUT) {
        stage->waits = stage->holds;
        if (!stage->holds)
            fan_out(stage);
        return;
    }
    if (effect->kind == EFFECT_ROOM_NEWS)
        put(stage, "posted ");
    if (effect->kind == EFFECT_ROOM_NEWS && effect->message == NULL) {
        put(stage, "nothing");
    } else if (effect->kind == EFFECT_CALL || effect->kind == EFFECT_ROOM_NEWS) {
        put_mail(stage, (const struct user_call_message *)effect->message);
    } else {
        assert_int_equal(effect->kind, EFFECT_POST);
        put_post(stage, effect->value, effect->message);
    }
    put(stage, "\n");
    message_destroy(effect->message);
}

/* --- turns ------------------------------------------------------------------------------------ */

static inline void begin(struct stage *stage)
{
    stage->size = 0;
    stage->tape[0] = '\0';
    stage->waits = false;
    turn_begin(&stage->turn, ROOM_SELF, "#match", stage->now_ms, 5000);
}

static inline void finish(struct stage *stage)
{
    room_finish(&stage->room, &stage->turn);
    for (size_t i = 0; i < stage->turn.count; i++)
        put_effect(stage, &stage->turn.effects[i]);
    if (room_is_over(stage->room)) {
        room_fini(&stage->room);
        put(stage, "over\n");
    }
    turn_reset(&stage->turn);
}

static inline void receive(struct stage *stage, struct message *message)
{
    begin(stage);
    assert_true(room_receive(&stage->room, message, &stage->turn));
    finish(stage);
}

static inline void bare(struct stage *stage, enum message_kind kind)
{
    receive(stage, message_create((uint16_t)kind, sizeof(struct message)));
}

/* Each further slice, and what follows from it. */
static inline void stage_more(struct stage *stage)
{
    assert_true(stage->more);
    stage->more = false;
    bare(stage, MESSAGE_ROOM_MORE);
}

/* Its tick comes. */
static inline void tick(struct stage *stage)
{
    assert_true(stage->timer_ms >= stage->now_ms);
    stage->now_ms = stage->timer_ms;
    stage->timer_ms = 0;
    bare(stage, MESSAGE_TICK);
}

/* Time goes on by so much, and all ticks come on the way. */
static inline void pass(struct stage *stage, uint64_t ms)
{
    uint64_t until_ms = stage->now_ms + ms;
    begin(stage);
    turn_reset(&stage->turn);
    while (stage->room != NULL && stage->timer_ms != 0 && stage->timer_ms <= until_ms)
        tick(stage);
    stage->now_ms = until_ms;
}

static inline struct room_join_message *join_of(uint32_t number, uint64_t epoch)
{
    struct room_join_message *join =
        room_join_create(bytes_of_text("match"), bytes_of_text(who(user(number))));
    join->call.asker = join->user = user(number);
    join->call.may_create = ROOM_MAY;
    join->may_join = ROOM_MAY;
    join->epoch = epoch;
    return join;
}

static inline void enter(struct stage *stage, uint32_t number)
{
    receive(stage, &join_of(number, 1)->call.header);
}

static inline struct room_publish_message *publish_of(uint32_t number, const char *payload,
                                                      size_t size)
{
    struct room_publish_message *publish =
        room_publish_create((struct bytes){0}, bytes_of_text(who(user(number))),
                            (struct bytes){(const uint8_t *)payload, size});
    publish->call.asker = user(number);
    publish->call.asker_epoch = 1;
    publish->call.request = 9;
    publish->member_only = true;
    return publish;
}

static inline void say(struct stage *stage, uint32_t number, const char *payload)
{
    receive(stage, &publish_of(number, payload, strlen(payload))->call.header);
}

static inline struct room_pull_message *pull_of(struct stage *stage, uint32_t number,
                                                uint64_t offset)
{
    struct room_pull_message *pull = message_create(MESSAGE_ROOM_PULL, sizeof(*pull));
    memset((uint8_t *)pull + sizeof(pull->header), 0, sizeof(*pull) - sizeof(pull->header));
    pull->user = user(number);
    pull->epoch = 1;
    pull->incarnation = stage->room->incarnation;
    pull->offset = offset;
    pull->bytes_max = 65536;
    pull->pull = 3;
    pull->back = true;
    return pull;
}

static inline void pull(struct stage *stage, uint32_t number, uint64_t offset)
{
    receive(stage, &pull_of(stage, number, offset)->header);
}

static inline void away(struct stage *stage, uint32_t number, uint64_t epoch)
{
    struct room_away_message *message = message_create(MESSAGE_ROOM_AWAY, sizeof(*message));
    message->user = user(number);
    message->epoch = epoch;
    receive(stage, &message->header);
}

static inline void leave(struct stage *stage, uint32_t number, uint64_t epoch, uint64_t token)
{
    struct room_leave_message *message = message_create(MESSAGE_ROOM_LEAVE, sizeof(*message));
    message->user = user(number);
    message->epoch = epoch;
    message->cause = USHER__V1__ROOM_NEWS__CAUSE__LOGOUT;
    message->asker = SERVICE;
    message->token = token;
    receive(stage, &message->header);
}

static inline struct room_command_message *command_of(enum room_command command, const char *text)
{
    struct room_command_message *message =
        room_command_create(command, bytes_of_text("match"), bytes_of_text(text));
    message->call.from_service = true;
    message->call.asker = SERVICE;
    message->call.request = 7;
    message->bytes_max = 4096;
    return message;
}

static inline void command(struct stage *stage, enum room_command what, const char *text)
{
    receive(stage, &command_of(what, text)->call.header);
}

static inline void answer_ask(struct stage *stage, uint64_t call, uint16_t code, uint32_t status,
                              const char *text)
{
    struct call_result_message *result = call_result_create(code, status, bytes_of_text(text));
    result->call = call;
    receive(stage, &result->header);
}

/* --- setting up ------------------------------------------------------------------------------- */

/* The class of the room from now on, as a reload gives it. */
static inline void set_class(struct stage *stage, const char *words)
{
    char text[200], error[ROOM_CLASS_ERROR_BYTES];
    struct room_classes *classes;
    snprintf(text, sizeof(text), "%s", words);
    char *items[] = {text};
    if (room_classes_read(items, 1, &classes, error) != 0)
        fail_msg("%s", error);
    classes->before = stage->classes;
    stage->classes = classes;
    atomic_store(&stage->settings.room_classes, classes);
}

static inline int setup(void **state)
{
    struct stage *stage = calloc(1, sizeof(*stage));
    assert_non_null(stage);
    stage->limits = (struct limits){.limits_frame_bytes = 65536,
                                    .limits_call_timeout_max_ms = 20000,
                                    .link_frame_bytes = 16384,
                                    .rooms_deliveries_per_second = 0,
                                    .rooms_ask_ms = 5000};
    stage->now_ms = NOW_MS;
    stage->metrics = metrics_create(1);
    stage->turn = (struct turn){.limits = &stage->limits,
                                .settings = &stage->settings,
                                .counters = &stage->counters,
                                .metrics = stage->metrics};
    set_class(stage, "match create=client join=any roster=none history=8/60s");
    *state = stage;
    return 0;
}

static inline int teardown(void **state)
{
    struct stage *stage = *state;
    room_fini(&stage->room);
    room_classes_destroy(stage->classes);
    turn_fini(&stage->turn);
    metrics_destroy(stage->metrics);
    free(stage);
    return 0;
}

static inline void check_tape(struct stage *stage, const char *wanted, const char *file, int line)
{
    if (strcmp(stage->tape, wanted) == 0)
        return;
    print_error("--- wanted:\n%s--- on the tape:\n%s", wanted, stage->tape);
    _fail(file, line);
}

/* The whole tape of the last turn. */
#define TAPE(stage_, wanted_) check_tape((stage_), wanted_, __FILE__, __LINE__)
#define COUNTED(stage_, metric_, n_) \
    assert_int_equal(metrics_read((stage_)->metrics, METRIC_##metric_), (n_))
#define room_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

#endif
