/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>

#include "unit/libusher-backend/fake_node.h"

#include <errno.h>

#include "usher_backend.h"

/* Rooms in libusher-backend: what the owner hears, what it says, and what it asks. */

struct service {
    struct usher_backend *backend;
    unsigned asks, news, results;
    struct usher_backend_room_news last;
    char text[256];
};

static void on_ask(void *context, const struct usher_backend_room_ask *ask)
{
    struct service *service = context;
    service->asks++;
    assert_string_equal(ask->room, "match:7");
    assert_string_equal(ask->user, "alice");
    assert_int_equal(ask->epoch, 12);
    assert_true(ask->creates);
    assert_int_equal(ask->timeout_ms, 900);
    assert_true(ask->redelivered);
    assert_int_equal(usher_backend_reply(service->backend, ask->id, 1, "not today", 9), 0);
}

static void on_news(void *context, const struct usher_backend_room_news *news)
{
    struct service *service = context;
    service->last = *news;
    snprintf(service->text + strlen(service->text), 100, "%llu:%s:%s:%.*s ",
             (unsigned long long)news->news_seq, usher_backend_room_kind_name(news->kind),
             news->user, (int)news->payload_size, (const char *)news->payload);
    if (++service->news == 2)
        usher_backend_stop(service->backend);
}

static void on_result(void *context, uint64_t token, const struct usher_backend_result *result)
{
    struct service *service = context;
    snprintf(service->text + strlen(service->text), 100, "%llu:%s", (unsigned long long)token,
             usher_backend_code_name(result->code));
    if (result->room != NULL)
        snprintf(service->text + strlen(service->text), 100, "(%s@%llu of %s)", result->room->name,
                 (unsigned long long)result->room->offset, result->room->owner);
    for (size_t i = 0; i < result->failure_count; i++)
        snprintf(service->text + strlen(service->text), 100, "[%s %s]", result->failures[i].user,
                 usher_backend_code_name(result->failures[i].code));
    strcat(service->text, " ");
    if (++service->results == 6)
        usher_backend_stop(service->backend);
}

static void service_open(struct service *service, const struct fake *fake)
{
    const char *url = fake->url;
    const struct usher_backend_options options = {
        .urls = &url,
        .url_count = 1,
        .service = "maker",
        .callbacks = {.on_room_ask = on_ask, .on_room_news = on_news, .on_result = on_result},
        .context = service,
    };
    assert_int_equal(usher_backend_open(&service->backend, &options), 0);
}

static void an_ask_is_answered_and_news_come_in_order(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    Usher__V1__RoomAsk ask = USHER__V1__ROOM_ASK__INIT;
    Usher__V1__RoomNews news[2] = {USHER__V1__ROOM_NEWS__INIT, USHER__V1__ROOM_NEWS__INIT};
    Usher__V1__Mail mail[3] = {USHER__V1__MAIL__INIT, USHER__V1__MAIL__INIT, USHER__V1__MAIL__INIT};
    ask.call = 900;
    ask.room = (char *)(uintptr_t) "match:7";
    ask.user = (char *)(uintptr_t) "alice";
    ask.epoch = 12;
    ask.kind = USHER__V1__ROOM_ASK__KIND__CREATE;
    ask.timeout_ms = 900;
    ask.redelivered = true;
    mail[0].body_case = USHER__V1__MAIL__BODY_ASK;
    mail[0].ask = &ask;
    for (unsigned i = 0; i < 2; i++) {
        news[i].room = (char *)(uintptr_t) "match:7";
        news[i].incarnation = 70;
        news[i].news_seq = 4 + i;
        news[i].kind =
            i == 0 ? USHER__V1__ROOM_NEWS__KIND__JOINED : USHER__V1__ROOM_NEWS__KIND__MESSAGE;
        news[i].user = (char *)(uintptr_t)(i == 0 ? "alice" : "");
        news[i].epoch = 12;
        news[i].cause = USHER__V1__ROOM_NEWS__CAUSE__SERVICE;
        news[i].offset = 33;
        news[i].time_ms = 1700000000000;
        mail[1 + i].body_case = USHER__V1__MAIL__BODY_NEWS;
        mail[1 + i].news = &news[i];
    }
    news[1].payload = (ProtobufCBinaryData){2, (uint8_t *)(uintptr_t) "hi"};
    news[1].service = (char *)(uintptr_t) "other";
    news[1].redelivered = true;
    for (unsigned i = 0; i < 3; i++) {
        usher__v1__user_call__init(&fake->calls[i]);
        fake->call_seqs[i] = i + 1;
        fake->instead[i] = &mail[i];
    }
    fake->call_count = 3;
    service_open(&service, fake);
    assert_int_equal(usher_backend_run(service.backend, 5000), 0);
    assert_int_equal(service.asks, 1);
    assert_int_equal(fake->reply_call, 900);
    assert_int_equal(fake->reply_status, 1);
    assert_string_equal(fake->reply_text, "not today");
    assert_string_equal(service.text, "4:joined:alice: 5:message::hi ");
    assert_int_equal(service.last.incarnation, 70);
    assert_int_equal(service.last.epoch, 12);
    assert_int_equal(service.last.offset, 33);
    assert_int_equal(service.last.time_ms, 1700000000000);
    assert_true(service.last.redelivered);
    assert_string_equal(usher_backend_room_cause_name(service.last.cause), "service");
    usher_backend_close(service.backend);
}

/* --- commands and questions ------------------------------------------------------------------- */

static Usher__V1__RoomInfo info;
static Usher__V1__RoomInfo *infos[] = {&info, &info};
static Usher__V1__RoomList rooms;
static Usher__V1__RoomMemberInfo member;
static Usher__V1__RoomMemberInfo *members[] = {&member};
static Usher__V1__RoomMemberList member_list;
static Usher__V1__PushFailure failure;
static Usher__V1__PushFailure *failures[] = {&failure};
static Usher__V1__PushReport report;
static Usher__V1__Result one;
static Usher__V1__Result *list[8];
static Usher__V1__Results results;
static char said[512];

static void lay_out(void)
{
    usher__v1__room_info__init(&info);
    info.name = (char *)(uintptr_t) "match:7";
    info.owner = (char *)(uintptr_t) "maker";
    info.class_ = (char *)(uintptr_t) "match:*";
    info.offset = 33;
    info.members = 5;
    info.away = 2;
    usher__v1__room_list__init(&rooms);
    rooms.n_rooms = 1;
    rooms.rooms = infos;
    usher__v1__room_member_info__init(&member);
    member.user = (char *)(uintptr_t) "alice";
    member.epoch = 12;
    member.away = true;
    usher__v1__room_member_list__init(&member_list);
    member_list.n_members = 1;
    member_list.members = members;
    member_list.next = (char *)(uintptr_t) "88";
    member_list.news_seq = 6;
    member_list.incarnation = 70;
    member_list.offset = 33;
    usher__v1__push_failure__init(&failure);
    failure.user = (char *)(uintptr_t) "bob";
    failure.code = USHER__V1__RESULT__CODE__FULL;
    usher__v1__push_report__init(&report);
    report.n_failures = 1;
    report.failures = failures;
    usher__v1__results__init(&results);
    results.results = list;
    said[0] = '\0';
}

static void say(const Usher__V1__Command *command)
{
    char *to = said + strlen(said);
    size_t room = sizeof(said) - strlen(said);
    if (command->body_case == USHER__V1__COMMAND__BODY_ROOM_OPEN)
        snprintf(to, room, "open %s %s %u;", command->room_open->room, command->room_open->class_,
                 command->room_open->members_max);
    else if (command->body_case == USHER__V1__COMMAND__BODY_ROOM_CLOSE)
        snprintf(to, room, "close %s %s;", command->room_close->room, command->room_close->detail);
    else if (command->body_case == USHER__V1__COMMAND__BODY_ROOM_ADD)
        snprintf(to, room, "add %s %s %zu %zu %d;", command->room_add->room,
                 command->room_add->users[1], command->room_add->n_epochs,
                 command->room_add->n_epochs > 0 ? (size_t)command->room_add->epochs[1] : 0,
                 command->room_add->carry);
    else if (command->body_case == USHER__V1__COMMAND__BODY_ROOM_REMOVE)
        snprintf(to, room, "remove %s %s %s;", command->room_remove->room,
                 command->room_remove->users[0], command->room_remove->detail);
    else if (command->body_case == USHER__V1__COMMAND__BODY_ROOM_PUBLISH)
        snprintf(to, room, "publish %s %.*s;", command->room_publish->room,
                 (int)command->room_publish->payload.len,
                 (const char *)command->room_publish->payload.data);
    else if (command->body_case == USHER__V1__COMMAND__BODY_ROOMS)
        snprintf(to, room, "rooms %s %s %u;", command->rooms->prefix, command->rooms->after,
                 command->rooms->limit);
    else if (command->body_case == USHER__V1__COMMAND__BODY_ROOM_MEMBERS)
        snprintf(to, room, "members %s %s %u;", command->room_members->room,
                 command->room_members->after, command->room_members->limit);
}

static void answer_one(const Usher__V1__Command *command)
{
    usher__v1__result__init(&one);
    if (command->body_case == USHER__V1__COMMAND__BODY_ROOM_MEMBERS) {
        one.value_case = USHER__V1__RESULT__VALUE_MEMBERS;
        one.members = &member_list;
    } else if (command->body_case == USHER__V1__COMMAND__BODY_ROOM_ADD ||
               command->body_case == USHER__V1__COMMAND__BODY_ROOM_REMOVE) {
        one.code = USHER__V1__RESULT__CODE__NO_ROOM;
        one.value_case = USHER__V1__RESULT__VALUE_PUSH;
        one.push = &report;
    } else if (command->body_case != USHER__V1__COMMAND__BODY_ROOM_CLOSE) {
        one.value_case = USHER__V1__RESULT__VALUE_ROOMS;
        one.rooms = &rooms;
    }
}

/* Answers by what was asked, one command in each Submit. */
static enum fake_verdict about_rooms(struct fake *fake, const Usher__V1__LinkRequest *request,
                                     Usher__V1__LinkAnswer *answer)
{
    static Usher__V1__Result all[8];
    if (request->body_case != USHER__V1__LINK_REQUEST__BODY_SUBMIT)
        return FAKE_AS_USUAL;
    results.seq = request->submit->seq;
    results.n_results = 0;
    for (size_t i = 0; i < request->submit->n_commands && i < 8; i++) {
        say(request->submit->commands[i]);
        answer_one(request->submit->commands[i]);
        all[i] = one;
        list[results.n_results++] = &all[i];
    }
    answer->body_case = USHER__V1__LINK_ANSWER__BODY_RESULTS;
    answer->results = &results;
    return FAKE_ANSWERED;
}

static void commands_and_their_results(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    const char *users[] = {"alice", "bob"};
    const uint64_t epochs[] = {12, 13};
    struct usher_backend_room_add add = {
        .room = "match:7", .users = users, .user_count = 2, .epochs = epochs, .carry = true};
    lay_out();
    fake->hook = about_rooms;
    service_open(&service, fake);
    assert_int_equal(usher_backend_room_open(service.backend, "match:7", "match:*", 4, 1), 0);
    assert_int_equal(usher_backend_room_add(service.backend, &add, 2), 0);
    add.epochs = NULL;
    add.carry = false;
    assert_int_equal(usher_backend_room_add(service.backend, &add, 3), 0);
    assert_int_equal(usher_backend_room_publish(service.backend, "match:7", "hi", 2, 4), 0);
    assert_int_equal(usher_backend_room_remove(service.backend, "match:7", users, 2, "bye", 5), 0);
    assert_int_equal(usher_backend_room_close(service.backend, "match:7", NULL, 6), 0);
    assert_int_equal(usher_backend_room_publish(service.backend, "m", "", 70000, 7), -EMSGSIZE);
    assert_int_equal(usher_backend_run(service.backend, 5000), 0);
    assert_string_equal(said, "open match:7 match:* 4;add match:7 bob 2 13 1;add match:7 bob 0 0 0;"
                              "publish match:7 hi;remove match:7 alice bye;close match:7 ;");
    assert_string_equal(service.text,
                        "1:ok(match:7@33 of maker) 2:no-room[bob full] 3:no-room[bob full] "
                        "4:ok(match:7@33 of maker) 5:no-room[bob full] 6:ok ");
    usher_backend_close(service.backend);
}

static void questions_and_their_answers(void **state)
{
    struct fake *fake = *state;
    struct service service = {0};
    struct usher_backend_query query = {
        .kind = USHER_BACKEND_ROOMS, .prefix = "ma", .after_user = "maa", .limit = 9};
    struct usher_backend_answer *answer;
    lay_out();
    rooms.n_rooms = 2;
    rooms.more = true;
    fake->hook = about_rooms;
    service_open(&service, fake);
    assert_int_equal(usher_backend_query(service.backend, &query, &answer), 0);
    assert_int_equal(answer->room_count, 2);
    assert_true(answer->more);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(answer->rooms[i].name, "match:7");
        assert_string_equal(answer->rooms[i].room_class, "match:*");
        assert_string_equal(answer->rooms[i].owner, "maker");
        assert_int_equal(answer->rooms[i].members, 5);
        assert_int_equal(answer->rooms[i].away, 2);
    }
    assert_string_equal(answer->next, "");
    usher_backend_answer_free(answer);
    query = (struct usher_backend_query){
        .kind = USHER_BACKEND_ROOM_MEMBERS, .room = "match:7", .after_user = "77", .limit = 3};
    assert_int_equal(usher_backend_query(service.backend, &query, &answer), 0);
    assert_int_equal(answer->member_count, 1);
    assert_string_equal(answer->members[0].user, "alice");
    assert_int_equal(answer->members[0].epoch, 12);
    assert_true(answer->members[0].away && !answer->members[0].carry);
    assert_string_equal(answer->next, "88");
    assert_true(answer->more);
    assert_int_equal(answer->seq, 6);
    assert_int_equal(answer->incarnation, 70);
    assert_int_equal(answer->offset, 33);
    usher_backend_answer_free(answer);
    assert_string_equal(said, "rooms ma maa 9;members match:7 77 3;");
    usher_backend_close(service.backend);
}

#define WITH_NODE(test) cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_NODE(an_ask_is_answered_and_news_come_in_order),
        WITH_NODE(commands_and_their_results),
        WITH_NODE(questions_and_their_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
