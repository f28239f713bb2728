/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_ACTORS_STAGE_LINK_H
#define USHER_TESTS_ACTORS_STAGE_LINK_H

/* An instance of the service "shop" on the stage: what backends ask (exchanges are numbers from 50
 * on), the calls of users, and what comes back from users and from the store. */

#include "unit/actors/stage.h"

enum { CALLER = 901, COMMANDS_ROOM = 4200, NAMES_ROOM = 8 };

/* --- turns ------------------------------------------------------------------------------------ */

/* One turn with that many messages. An instance that retires is gone afterwards. */
static inline void link_turn(struct stage *stage, struct message **messages, size_t count)
{
    stage_begin(stage);
    for (size_t i = 0; i < count; i++)
        instance_receive(&stage->instance, messages[i], &stage->turn);
    instance_finish(&stage->instance, &stage->turn);
    bool retire = stage->turn.retire;
    stage_end(stage);
    if (!retire)
        return;
    stage_begin(stage);
    instance_fini(&stage->instance, &stage->turn);
    assert_int_equal(stage->turn.count, 0); /* nobody would carry it out */
    tape_put(stage, "retire\n");
}

static inline void link_receive(struct stage *stage, struct message *message)
{
    assert_non_null(message);
    link_turn(stage, &message, 1);
}

static inline void link_bare(struct stage *stage, enum message_kind kind)
{
    link_receive(stage, message_create(kind, sizeof(struct message)));
}

static inline void link_tick(struct stage *stage, uint64_t at_ms)
{
    assert_true(at_ms >= stage->now_ms);
    stage->now_ms = at_ms;
    link_bare(stage, MESSAGE_TICK);
}

/* --- requests --------------------------------------------------------------------------------- */

static inline struct message *request_create(uint64_t exchange,
                                             const Usher__V1__LinkRequest *request)
{
    size_t size = usher__v1__link_request__get_packed_size(request);
    struct link_request_message *message =
        message_create(MESSAGE_LINK_REQUEST, sizeof(*message) + size);
    assert_non_null(message);
    message->exchange = exchange;
    message->stranger = false;
    message->by_http[0] = '\0';
    message->size = (uint32_t)size;
    usher__v1__link_request__pack(request, message->bytes);
    return &message->header;
}

/* From a peer that nobody has vouched for. */
static inline void link_ask_strange(struct stage *stage, uint64_t exchange,
                                    const Usher__V1__LinkRequest *request)
{
    struct message *message = request_create(exchange, request);
    ((struct link_request_message *)message)->stranger = true;
    link_receive(stage, message);
}

static inline Usher__V1__Hello hello_of(uint64_t incarnation)
{
    Usher__V1__Hello hello = USHER__V1__HELLO__INIT;
    hello.service = (char *)"shop";
    hello.instance = (char *)"1";
    hello.incarnation = incarnation;
    return hello;
}

static inline void link_hello_with(struct stage *stage, uint64_t exchange, Usher__V1__Hello hello)
{
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_HELLO;
    request.hello = &hello;
    link_receive(stage, request_create(exchange, &request));
}

static inline void link_hello(struct stage *stage, uint64_t exchange, uint64_t incarnation)
{
    link_hello_with(stage, exchange, hello_of(incarnation));
}

/* Of the link that was accepted last. */
static inline Usher__V1__Fetch fetch_of(struct stage *stage, uint64_t mail_done,
                                        uint64_t presence_done)
{
    Usher__V1__Fetch fetch = USHER__V1__FETCH__INIT;
    fetch.link = stage->link;
    fetch.mail_done = mail_done;
    fetch.presence_done = presence_done;
    return fetch;
}

static inline void link_fetch_with(struct stage *stage, uint64_t exchange, Usher__V1__Fetch fetch)
{
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_FETCH;
    request.fetch = &fetch;
    link_receive(stage, request_create(exchange, &request));
}

static inline void link_fetch(struct stage *stage, uint64_t exchange, uint64_t mail_done)
{
    link_fetch_with(stage, exchange, fetch_of(stage, mail_done, 0));
}

static inline void link_gone(struct stage *stage, uint64_t exchange)
{
    struct link_gone_message *gone = message_create(MESSAGE_LINK_GONE, sizeof(*gone));
    assert_non_null(gone);
    gone->exchange = exchange;
    link_receive(stage, &gone->header);
}

/* --- Submit: a script of commands ------------------------------------------------------------- */

struct script {
    size_t count;
    Usher__V1__Command *list[COMMANDS_ROOM];
    Usher__V1__Command commands[COMMANDS_ROOM];
    union {
        Usher__V1__ReplyTo reply_to;
        Usher__V1__Push push;
        Usher__V1__PushAll push_all;
        Usher__V1__Kick kick;
        Usher__V1__Lookup lookup;
        Usher__V1__List list;
        Usher__V1__Count count;
        Usher__V1__Snapshot snapshot;
        Usher__V1__Events events;
        Usher__V1__Stats stats;
        Usher__V1__Drain drain;
        Usher__V1__RoomOpen room_open;
        Usher__V1__RoomClose room_close;
        Usher__V1__RoomAdd room_add;
        Usher__V1__RoomRemove room_remove;
        Usher__V1__RoomPublish room_publish;
        Usher__V1__RoomMembers room_members;
        Usher__V1__Rooms rooms;
    } bodies[COMMANDS_ROOM];
    char *names[COMMANDS_ROOM][NAMES_ROOM];
};

static inline struct script *script_create(void)
{
    struct script *script = calloc(1, sizeof(*script));
    assert_non_null(script);
    return script;
}

static inline Usher__V1__Command *say_nothing(struct script *script)
{
    assert_true(script->count < COMMANDS_ROOM);
    Usher__V1__Command *command = &script->commands[script->count];
    usher__v1__command__init(command);
    script->list[script->count++] = command;
    return command;
}

#define SAY(script_, name_, NAME_)                                   \
    Usher__V1__Command *command = say_nothing(script_);              \
    command->body_case = USHER__V1__COMMAND__BODY_##NAME_;           \
    command->name_ = &(script_)->bodies[(script_)->count - 1].name_; \
    usher__v1__##name_##__init(command->name_)

static inline ProtobufCBinaryData payload_of(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
}

static inline void say_reply(struct script *script, uint64_t call, uint32_t status,
                             const char *payload)
{
    SAY(script, reply_to, REPLY_TO);
    command->reply_to->call = call;
    command->reply_to->status = status;
    command->reply_to->payload = payload_of(payload);
}

/* names ends with NULL. */
static inline void say_push(struct script *script, const char *const *names, const char *payload,
                            uint64_t epoch)
{
    SAY(script, push, PUSH);
    char **to = script->names[script->count - 1];
    while (names[command->push->n_to] != NULL) {
        assert_true(command->push->n_to < NAMES_ROOM);
        to[command->push->n_to] = (char *)names[command->push->n_to];
        command->push->n_to++;
    }
    command->push->to = to;
    command->push->payload = payload_of(payload);
    command->push->epoch = epoch;
}

static inline void say_push_1(struct script *script, const char *name, const char *payload)
{
    say_push(script, (const char *const[]){name, NULL}, payload, 0);
}

static inline void say_push_transient(struct script *script, const char *const *names,
                                      const char *payload)
{
    say_push(script, names, payload, 0);
    script->list[script->count - 1]->push->transient = true;
}

static inline void say_push_all(struct script *script, const char *payload)
{
    SAY(script, push_all, PUSH_ALL);
    command->push_all->payload = payload_of(payload);
}

static inline Usher__V1__Kick *say_kick(struct script *script, const char *user)
{
    SAY(script, kick, KICK);
    command->kick->user = (char *)user;
    return command->kick;
}

static inline void say_drain(struct script *script)
{
    SAY(script, drain, DRAIN);
}

static inline void say_count(struct script *script)
{
    SAY(script, count, COUNT);
}

static inline void say_stats(struct script *script)
{
    SAY(script, stats, STATS);
}

static inline void say_lookup(struct script *script)
{
    SAY(script, lookup, LOOKUP);
}

static inline void say_list(struct script *script)
{
    SAY(script, list, LIST);
}

static inline void say_snapshot(struct script *script)
{
    SAY(script, snapshot, SNAPSHOT);
}

static inline void say_events(struct script *script)
{
    SAY(script, events, EVENTS);
}

/* Takes the script. */
static inline struct message *submit_create(struct stage *stage, uint64_t exchange, uint32_t lane,
                                            uint64_t seq, struct script *script)
{
    Usher__V1__LinkRequest request = USHER__V1__LINK_REQUEST__INIT;
    Usher__V1__Submit submit = USHER__V1__SUBMIT__INIT;
    submit.link = stage->link;
    submit.lane = lane;
    submit.seq = seq;
    submit.n_commands = script->count;
    submit.commands = script->list;
    request.body_case = USHER__V1__LINK_REQUEST__BODY_SUBMIT;
    request.submit = &submit;
    struct message *message = request_create(exchange, &request);
    free(script);
    return message;
}

/* Takes the script. */
static inline void link_submit(struct stage *stage, uint64_t exchange, uint32_t lane, uint64_t seq,
                               struct script *script)
{
    link_receive(stage, submit_create(stage, exchange, lane, seq, script));
}

/* --- what comes from users and from the store ------------------------------------------------- */

static inline struct user_call_message *call_create_traced(struct stage *stage, uint64_t call,
                                                           const char *method, size_t payload_bytes,
                                                           const char *traceparent)
{
    uint8_t *payload = calloc(1, payload_bytes + 1);
    assert_non_null(payload);
    struct user_call_message *message =
        user_call_create_traced(bytes_of_text("ann"), bytes_of_text("shop"), bytes_of_text(method),
                                (struct bytes){payload, payload_bytes}, bytes_of_text(traceparent));
    assert_non_null(message);
    free(payload);
    message->caller = CALLER;
    message->epoch = 3;
    message->request = call != 0 ? call + 100 : 0;
    message->call = call;
    message->deadline_ms = stage->now_ms + 5000;
    return message;
}

static inline struct user_call_message *call_create(struct stage *stage, uint64_t call,
                                                    const char *method, size_t payload_bytes)
{
    return call_create_traced(stage, call, method, payload_bytes, "");
}

static inline void link_call(struct stage *stage, uint64_t call, const char *method)
{
    link_receive(stage, &call_create(stage, call, method, 1)->header);
}

/* How a command for a user ended; stage->tokens says which. */
static inline void link_result(struct stage *stage, uint64_t token, uint16_t code)
{
    struct result_message *result = message_create(MESSAGE_RESULT, sizeof(*result));
    result->offset = result->mid = 0;
    assert_non_null(result);
    result->request = token;
    result->asker_epoch = 0;
    result->epoch = 8;
    result->code = code;
    link_receive(stage, &result->header);
}

static inline void link_query_result(struct stage *stage, uint64_t token,
                                     const Usher__V1__Result *value)
{
    size_t size = usher__v1__result__get_packed_size(value);
    struct query_result_message *result =
        message_create(MESSAGE_QUERY_RESULT, sizeof(*result) + size);
    assert_non_null(result);
    result->kind = QUERY_COMMAND;
    result->token = token;
    result->size = (uint32_t)size;
    usher__v1__result__pack(value, result->bytes);
    link_receive(stage, &result->header);
}

/* A result of that one number, under a name of that many bytes. */
static inline void link_number(struct stage *stage, uint64_t token, size_t name_bytes,
                               uint64_t number)
{
    Usher__V1__Result result = USHER__V1__RESULT__INIT;
    Usher__V1__NumberList list = USHER__V1__NUMBER_LIST__INIT;
    Usher__V1__Number one = USHER__V1__NUMBER__INIT;
    Usher__V1__Number *numbers[] = {&one};
    char *name = calloc(1, name_bytes + 1);
    assert_non_null(name);
    memset(name, 'n', name_bytes);
    one.name = name;
    one.value = number;
    list.n_numbers = 1;
    list.numbers = numbers;
    result.value_case = USHER__V1__RESULT__VALUE_NUMBERS;
    result.numbers = &list;
    link_query_result(stage, token, &result);
    free(name);
}

/* The stream has grown. */
static inline void link_presence(struct stage *stage, uint64_t last)
{
    struct presence_message *message = message_create(MESSAGE_PRESENCE, sizeof(*message));
    assert_non_null(message);
    message->last = last;
    atomic_store(&stage->counters.presence_last, last);
    link_receive(stage, &message->header);
}

/* The events from first to last (0: none) as the answer to a query, for users "u8" with that many
 * u. */
static inline void link_events_of(struct stage *stage, uint64_t first, uint64_t last, bool reset,
                                  uint32_t name_bytes)
{
    uint8_t bytes[8192];
    struct buffer out = {0};
    for (uint64_t seq = first; first != 0 && seq <= last; seq++) {
        Usher__V1__Batch batch = USHER__V1__BATCH__INIT;
        Usher__V1__PresenceEvent event = USHER__V1__PRESENCE_EVENT__INIT;
        Usher__V1__PresenceEvent *events[] = {&event};
        char user[80];
        assert_true(name_bytes <= 60);
        memset(user, 'u', name_bytes);
        snprintf(user + name_bytes, sizeof(user) - name_bytes, "%u", (unsigned)seq);
        event.seq = seq;
        event.user = user;
        batch.n_presence = 1;
        batch.presence = events;
        assert_true(usher__v1__batch__get_packed_size(&batch) <= sizeof(bytes));
        size_t size = usher__v1__batch__pack(&batch, bytes);
        assert_int_equal(buffer_append(&out, bytes, size), 0);
    }
    struct query_result_message *result =
        message_create(MESSAGE_QUERY_RESULT, sizeof(*result) + out.size);
    assert_non_null(result);
    result->kind = QUERY_PRESENCE;
    result->token = stage->asked_after;
    result->first = first;
    result->last = last;
    result->stream_last = atomic_load(&stage->counters.presence_last);
    result->reset = reset;
    result->failed = false;
    result->size = (uint32_t)out.size;
    if (out.size > 0)
        memcpy(result->bytes, out.data, out.size);
    buffer_fini(&out);
    link_receive(stage, &result->header);
}

static inline void link_events(struct stage *stage, uint64_t first, uint64_t last)
{
    link_events_of(stage, first, last, false, 1);
}

#endif
