/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "unit/libusher/fake_broker.h"

/* Rooms and friends against a broker that follows a script: what the program sees, what a Resume
 * and a new session ask for, and which broker is none. */

static const struct fake_welcome EPOCH_7 = {.epoch = 7};

/* --- what the broker says --------------------------------------------------------------------- */

struct state {
    uint64_t id;
    const char *name;
    uint32_t room;
    uint64_t incarnation, offset;
    int state, replay;
    const char *detail;
    const char *roster[3]; /* the second one is away */
};

static void say_state(struct fake *fake, const struct state *what)
{
    Usher__V1__RoomState state = USHER__V1__ROOM_STATE__INIT;
    Usher__V1__RoomMember members[3];
    Usher__V1__RoomMember *roster[3];
    state.name = (char *)(uintptr_t)what->name;
    state.room = what->room;
    state.incarnation = what->incarnation;
    state.offset = what->offset;
    state.state = (Usher__V1__RoomState__State)what->state;
    state.replay = (Usher__V1__RoomState__Replay)what->replay;
    if (what->detail != NULL)
        state.detail = (char *)(uintptr_t)what->detail;
    state.roster = roster;
    for (; state.n_roster < 3 && what->roster[state.n_roster] != NULL; state.n_roster++) {
        Usher__V1__RoomMember *member = &members[state.n_roster];
        usher__v1__room_member__init(member);
        member->user = (char *)(uintptr_t)what->roster[state.n_roster];
        member->away = state.n_roster == 1;
        roster[state.n_roster] = member;
    }
    state.members = (uint32_t)state.n_roster;
    Usher__V1__BrokerFrame frame = fake_frame(what->id, USHER__V1__BROKER_FRAME__BODY_ROOM_STATE);
    frame.room_state = &state;
    fake_say(fake, &frame);
}

/* So many, "m<offset>" from bob. */
static void say_messages(struct fake *fake, uint32_t room, uint64_t offset, size_t count)
{
    Usher__V1__RoomMessages messages = USHER__V1__ROOM_MESSAGES__INIT;
    Usher__V1__RoomMessage *list = calloc(count + 1, sizeof(*list));
    Usher__V1__RoomMessage **places = calloc(count + 1, sizeof(*places));
    char(*texts)[24] = calloc(count + 1, sizeof(*texts));
    messages.room = room;
    messages.offset = offset;
    messages.messages = places;
    messages.n_messages = count;
    for (size_t i = 0; i < count; i++) {
        usher__v1__room_message__init(&list[i]);
        snprintf(texts[i], sizeof(texts[i]), "m%llu", (unsigned long long)(offset + i));
        list[i].from = (char *)(uintptr_t) "bob";
        list[i].payload.data = (uint8_t *)texts[i];
        list[i].payload.len = strlen(texts[i]);
        list[i].time_ms = 5;
        places[i] = &list[i];
    }
    Usher__V1__BrokerFrame frame = fake_frame(0, USHER__V1__BROKER_FRAME__BODY_ROOM_MESSAGES);
    frame.room_messages = &messages;
    fake_say(fake, &frame);
    free(list);
    free(places);
    free(texts);
}

static void say_event(struct fake *fake, uint32_t room, uint32_t members, const char *user,
                      int kind)
{
    Usher__V1__RoomEvent event = USHER__V1__ROOM_EVENT__INIT;
    Usher__V1__RoomChange change = USHER__V1__ROOM_CHANGE__INIT;
    Usher__V1__RoomChange *changes[] = {&change};
    event.room = room;
    event.members = members;
    event.changes = changes;
    event.n_changes = user != NULL;
    change.user = (char *)(uintptr_t)user;
    change.kind = (Usher__V1__RoomChange__Kind)kind;
    Usher__V1__BrokerFrame frame = fake_frame(0, USHER__V1__BROKER_FRAME__BODY_ROOM_EVENT);
    frame.room_event = &event;
    fake_say(fake, &frame);
}

static void say_published(struct fake *fake, uint64_t id, uint64_t offset)
{
    Usher__V1__Done done = USHER__V1__DONE__INIT;
    done.offset = offset;
    Usher__V1__BrokerFrame frame = fake_frame(id, USHER__V1__BROKER_FRAME__BODY_DONE);
    frame.done = &done;
    fake_say(fake, &frame);
}

/* --- what the program sees -------------------------------------------------------------------- */

/* What the library asks when its time has come. */
static const Usher__V1__ClientFrame *fake_expect_late(struct fake *fake,
                                                      struct usher_client *client)
{
    const Usher__V1__ClientFrame *frame = fake_take(fake, client, 20000);
    assert_non_null(frame);
    return frame;
}

static struct usher_event expect_room(struct usher_client *client, const char *name, int state,
                                      int replay)
{
    struct usher_event event = expect_event(client, USHER_ROOM);
    assert_string_equal(event.room, name);
    assert_int_equal(event.room_state, state);
    assert_int_equal(event.room_replay, replay);
    return event;
}

static void expect_message(struct usher_client *client, const char *name, uint64_t offset)
{
    char text[24];
    struct usher_event event = expect_event(client, USHER_ROOM_MESSAGE);
    assert_string_equal(event.room, name);
    assert_int_equal(event.offset, offset);
    snprintf(text, sizeof(text), "m%llu", (unsigned long long)offset);
    assert_payload(&event, text);
    assert_string_equal(event.from, "bob");
    assert_true(event.time_ms == 5 && event.id == 0 && event.seq == 0);
}

static void expect_break(struct usher_client *client)
{
    struct usher_event event = expect_event(client, USHER_DISCONNECTED);
    assert_int_equal(event.error, -EPROTO);
    assert_non_null(strstr(usher_client_error_text(client), "is it an usher broker?"));
}

/* Joins "match" as number 3, incarnation 100, at that offset. */
static void join(struct fake *fake, struct usher_client *client, uint64_t offset)
{
    uint64_t id;
    assert_int_equal(usher_join(client, "match", &id), 0);
    const Usher__V1__ClientFrame *frame =
        fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_JOIN);
    assert_int_equal(frame->id, id);
    assert_string_equal(frame->join->room, "match");
    assert_false(frame->join->recover);
    say_state(fake, &(struct state){id, "match", 3, 100, offset, 0, 0, NULL, {0}});
    assert_int_equal(expect_room(client, "match", USHER_ROOM_JOINED, USHER_ROOM_NONE).id, id);
}

/* The connection is lost; gives the Resume, under whose id the Welcome comes. */
static const Usher__V1__ClientFrame *lose(struct fake *fake, struct usher_client *client)
{
    fake_hang_up(fake);
    fake_accept(fake, client);
    const Usher__V1__ClientFrame *frame =
        fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_RESUME);
    return frame;
}

static void resume(struct fake *fake, struct usher_client *client, uint64_t id)
{
    struct fake_welcome back = {.id = id, .epoch = 7, .replay = USHER_COMPLETE};
    fake_say_welcome(fake, &back);
    expect_event(client, USHER_DISCONNECTED);
    assert_int_equal(expect_event(client, USHER_WELCOME).replay, USHER_COMPLETE);
}

/* The session is over: the Resume is refused, and a Login begins epoch 8. What was `sent` (0:
 * nothing) has no answer then. */
static void log_in_anew(struct fake *fake, struct usher_client *client, uint64_t sent)
{
    const Usher__V1__ClientFrame *frame = lose(fake, client);
    fake_say_error(fake, frame->id, USHER_ERROR_RESUME_REJECTED, 0);
    frame = fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    struct fake_welcome fresh = {.id = frame->id, .epoch = 8};
    fake_say_welcome(fake, &fresh);
    expect_event(client, USHER_DISCONNECTED);
    if (sent != 0) {
        struct usher_event event = expect_event(client, USHER_ERROR);
        assert_true(event.id == sent && event.code == USHER_ERROR_NO_ANSWER);
    }
    assert_int_equal(expect_event(client, USHER_WELCOME).replay, USHER_FRESH);
}

struct scene {
    struct fake fake;
    struct usher_client *client;
};

static int set_up(void **state)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    fake_open(&scene->fake);
    struct usher_options options = fake_options(&scene->fake);
    options.request_timeout_ms = 5000;
    scene->client = go_online(&scene->fake, &options, &EPOCH_7);
    *state = scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    usher_client_destroy(scene->client);
    fake_fini(&scene->fake);
    free(scene);
    return 0;
}

#define SCENE                         \
    struct scene *scene = *state;     \
    struct fake *fake = &scene->fake; \
    struct usher_client *client = scene->client

/* --- one connection --------------------------------------------------------------------------- */

static void messages_come_in_order_with_their_offsets(void **state)
{
    SCENE;
    join(fake, client, 5);
    say_messages(fake, 3, 6, 1);
    say_messages(fake, 3, 7, 3);
    say_messages(fake, 3, 10, 0);
    say_messages(fake, 3, 10, 256);
    for (uint64_t offset = 6; offset < 266; offset++)
        expect_message(client, "match", offset);
    expect_no_event(client);
}

static void a_broker_that_leaves_something_out_is_none(void **state)
{
    SCENE;
    join(fake, client, 5);
    say_messages(fake, 3, 7, 1);
    expect_break(client);
}

static void a_broker_that_says_something_twice_is_none(void **state)
{
    SCENE;
    join(fake, client, 5);
    say_messages(fake, 3, 6, 2);
    say_messages(fake, 3, 7, 1);
    expect_message(client, "match", 6);
    expect_message(client, "match", 7);
    expect_break(client);
}

static void a_broker_that_speaks_of_another_room_is_none(void **state)
{
    SCENE;
    join(fake, client, 5);
    say_messages(fake, 4, 6, 1);
    expect_break(client);
}

static void a_broker_that_lists_too_much_is_none(void **state)
{
    SCENE;
    join(fake, client, 5);
    say_messages(fake, 3, 6, 257);
    expect_break(client);
}

/* Behind PARTIAL the next may have any greater offset, and each further one is one more. */
static void after_partial_offsets_may_jump_once(void **state)
{
    SCENE;
    join(fake, client, 5);
    say_state(fake, &(struct state){0, "match", 3, 100, 40, 0, USHER_ROOM_PARTIAL, NULL, {0}});
    say_messages(fake, 3, 31, 2);
    say_messages(fake, 3, 33, 1);
    say_messages(fake, 3, 35, 1);
    struct usher_event event = expect_room(client, "match", USHER_ROOM_JOINED, USHER_ROOM_PARTIAL);
    assert_true(event.id == 0 && event.offset == 40);
    expect_message(client, "match", 31);
    expect_message(client, "match", 32);
    expect_message(client, "match", 33);
    expect_break(client);
}

static void after_partial_offsets_do_not_go_back(void **state)
{
    SCENE;
    join(fake, client, 5);
    say_state(fake, &(struct state){0, "match", 3, 100, 40, 0, USHER_ROOM_PARTIAL, NULL, {0}});
    say_messages(fake, 3, 5, 1);
    expect_room(client, "match", USHER_ROOM_JOINED, USHER_ROOM_PARTIAL);
    expect_break(client);
}

/* The offsets of another incarnation begin anew. */
static void another_incarnation_begins_anew(void **state)
{
    SCENE;
    join(fake, client, 5);
    say_state(fake, &(struct state){0, "match", 3, 101, 40, 0, USHER_ROOM_PARTIAL, NULL, {0}});
    say_messages(fake, 3, 2, 1);
    say_state(fake, &(struct state){0, "match", 3, 102, 1, 0, USHER_ROOM_COMPLETE, NULL, {0}});
    say_messages(fake, 3, 1, 1);
    assert_int_equal(
        expect_room(client, "match", USHER_ROOM_JOINED, USHER_ROOM_PARTIAL).incarnation, 101);
    expect_message(client, "match", 2);
    expect_room(client, "match", USHER_ROOM_JOINED, USHER_ROOM_COMPLETE);
    expect_message(client, "match", 1);
}

static void a_publish_is_answered_with_its_offset(void **state)
{
    SCENE;
    uint64_t id;
    join(fake, client, 5);
    assert_int_equal(usher_publish(client, "match", "hi", 2, &id), 0);
    const Usher__V1__ClientFrame *frame =
        fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_PUBLISH);
    assert_int_equal(frame->id, id);
    assert_int_equal(frame->publish->room, 3);
    assert_string_equal(frame->publish->name, "");
    assert_memory_equal(frame->publish->payload.data, "hi", 2);
    say_published(fake, id, 6);
    say_messages(fake, 3, 6, 1);
    struct usher_event event = expect_event(client, USHER_DONE);
    assert_true(event.id == id && event.offset == 6);
    expect_message(client, "match", 6);
    assert_int_equal(usher_post_publish(client, "match", "hi", 2), 0);
    assert_int_equal(fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_PUBLISH)->id, 0);

    /* Where one is not a member the name says it. */
    assert_int_equal(usher_publish(client, "news", "hi", 2, &id), 0);
    frame = fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_PUBLISH);
    assert_int_equal(frame->publish->room, 0);
    assert_string_equal(frame->publish->name, "news");
    fake_say_error(fake, id, USHER_ERROR_FORBIDDEN, 0);
    assert_int_equal(expect_event(client, USHER_ERROR).code, USHER_ERROR_FORBIDDEN);
}

static void the_roster_goes_on_in_events(void **state)
{
    SCENE;
    uint64_t id;
    assert_int_equal(usher_join(client, "party", &id), 0);
    fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_JOIN);
    say_state(fake, &(struct state){id, "party", 9, 1, 0, 0, 0, NULL, {"bob", "eve", "alice"}});
    say_event(fake, 9, 4, "zoe", USHER_PRESENCE_AWAY);
    say_event(fake, 9, 3, "eve", USHER_PRESENCE_LEFT);
    say_event(fake, 9, 12, NULL, 0);
    struct usher_event event = expect_room(client, "party", USHER_ROOM_JOINED, USHER_ROOM_NONE);
    assert_int_equal(event.change_count, 3);
    assert_int_equal(event.members, 3);
    assert_string_equal(event.changes[0].user, "bob");
    assert_int_equal(event.changes[0].presence, USHER_PRESENCE_JOINED);
    assert_string_equal(event.changes[1].user, "eve");
    assert_int_equal(event.changes[1].presence, USHER_PRESENCE_AWAY);
    assert_string_equal(event.changes[2].user, "alice");
    event = expect_event(client, USHER_ROOM_MEMBERS);
    assert_string_equal(event.room, "party");
    assert_true(event.members == 4 && event.change_count == 1);
    assert_string_equal(event.changes[0].user, "zoe");
    assert_int_equal(event.changes[0].presence, USHER_PRESENCE_AWAY);
    assert_int_equal(expect_event(client, USHER_ROOM_MEMBERS).changes[0].presence,
                     USHER_PRESENCE_LEFT);
    event = expect_event(client, USHER_ROOM_MEMBERS);
    assert_true(event.members == 12 && event.change_count == 0 && event.changes == NULL);
}

static void leaving_is_done_and_then_left(void **state)
{
    SCENE;
    uint64_t id;
    assert_int_equal(usher_leave(client, "match", &id), -ENOENT);
    join(fake, client, 5);
    assert_int_equal(usher_leave(client, "match", &id), 0);
    const Usher__V1__ClientFrame *frame =
        fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_LEAVE);
    assert_true(frame->id == id && frame->leave->room == 3);
    say_messages(fake, 3, 6, 1); /* was on its way */
    fake_say_done(fake, id, 0);
    say_state(fake, &(struct state){0, "", 3, 100, 6, USHER_ROOM_LEFT, 0, NULL, {0}});
    expect_message(client, "match", 6);
    assert_int_equal(expect_event(client, USHER_DONE).id, id);
    expect_room(client, "match", USHER_ROOM_LEFT, USHER_ROOM_NONE);
    assert_int_equal(usher_leave(client, "match", &id), -ENOENT);
    say_messages(fake, 3, 7, 1); /* and now it is nobody's */
    expect_break(client);
}

static void a_service_adds_and_removes(void **state)
{
    SCENE;
    say_state(fake, &(struct state){0, "match", 3, 100, 5, 0, 0, NULL, {0}});
    say_messages(fake, 3, 6, 1);
    say_state(fake, &(struct state){0, "match", 3, 100, 6, USHER_ROOM_REMOVED, 0, "cheated", {0}});
    say_state(fake, &(struct state){0, "hall", 4, 101, 0, 0, 0, NULL, {0}});
    say_state(fake, &(struct state){0, "hall", 4, 101, 0, USHER_ROOM_CLOSED, 2, "over", {0}});
    assert_int_equal(expect_room(client, "match", 0, 0).id, 0);
    expect_message(client, "match", 6);
    assert_string_equal(expect_room(client, "match", USHER_ROOM_REMOVED, 0).detail, "cheated");
    expect_room(client, "hall", 0, 0);
    assert_string_equal(expect_room(client, "hall", USHER_ROOM_CLOSED, USHER_ROOM_PARTIAL).detail,
                        "over");
    /* what is said of rooms that nobody knows is nobody's */
    say_state(fake, &(struct state){0, "hall", 4, 101, 0, USHER_ROOM_CLOSED, 0, NULL, {0}});
    say_state(fake, &(struct state){0, "hall", 4, 101, 0, 17, 0, NULL, {0}});
    expect_no_event(client);
}

static void a_refused_join_is_an_error_and_the_room_is_not_there(void **state)
{
    SCENE;
    uint64_t id, publish, other;
    assert_int_equal(usher_join(client, "match", &id), 0);
    assert_int_equal(usher_join(client, "match", &other), -EALREADY);
    assert_int_equal(usher_publish(client, "match", "hi", 2, &publish), 0);
    fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_JOIN);
    assert_null(fake_take(fake, client, 30)); /* the Publish waits for the number */
    assert_false(usher_client_wants_write(client));
    fake_say_error(fake, id, USHER_ERROR_ROOM_FULL, 0);
    struct usher_event event = expect_event(client, USHER_ERROR);
    assert_true(event.id == id && event.code == USHER_ERROR_ROOM_FULL);
    event = expect_event(client, USHER_ERROR);
    assert_true(event.id == publish && event.code == USHER_ERROR_NOT_SENT);
    assert_int_equal(usher_leave(client, "match", &other), -ENOENT);
    assert_int_equal(usher_join(client, "match", &other), 0);
}

static void a_publish_waits_for_the_join(void **state)
{
    SCENE;
    uint64_t id, publish;
    assert_int_equal(usher_join_behind(client, "match", 99, 4, &id), 0);
    const Usher__V1__ClientFrame *frame =
        fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_JOIN);
    assert_true(frame->join->recover && frame->join->incarnation == 99 && frame->join->offset == 4);
    assert_int_equal(usher_publish(client, "match", "hi", 2, &publish), 0);
    say_state(fake, &(struct state){id, "match", 3, 100, 9, 0, USHER_ROOM_PARTIAL, NULL, {0}});
    expect_room(client, "match", 0, USHER_ROOM_PARTIAL);
    frame = fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_PUBLISH);
    assert_true(frame->id == publish && frame->publish->room == 3);
    assert_memory_equal(frame->publish->payload.data, "hi", 2);
}

static void what_cannot_be_asked_is_refused_at_once(void **state)
{
    struct scene *scene = *state;
    struct usher_client *client = scene->client;
    char long_name[300];
    uint64_t id;
    memset(long_name, 'n', sizeof(long_name));
    long_name[256] = '\0';
    assert_int_equal(usher_join(client, NULL, &id), -EINVAL);
    assert_int_equal(usher_join(client, "", &id), -EINVAL);
    assert_int_equal(usher_join(client, long_name, &id), -EINVAL);
    assert_int_equal(usher_publish(client, "", "x", 1, &id), -EINVAL);
    assert_int_equal(usher_publish(client, "match", NULL, 1, &id), -EINVAL);
    assert_int_equal(usher_leave(client, "", &id), -EINVAL);
    assert_int_equal(usher_watch(client, NULL, 1, NULL, 0, &id), -EINVAL);
    assert_int_equal(usher_set_status(client, NULL, 1, false, &id), -EINVAL);
    usher_client_stop(client);
    assert_int_equal(usher_join(client, "match", &id), -ENOTCONN);
    assert_int_equal(usher_publish(client, "match", "x", 1, &id), -ENOTCONN);
}

/* Of more rooms than anybody may be in a broker does not speak. */
static void a_broker_with_too_many_rooms_is_none(void **state)
{
    SCENE;
    for (uint32_t i = 0; i <= 1024; i++) {
        char name[16];
        snprintf(name, sizeof(name), "r%u", i);
        say_state(fake, &(struct state){0, name, i, 100, 0, 0, 0, NULL, {0}});
        if (i < 1024)
            expect_room(client, name, 0, 0);
    }
    expect_break(client);
}

static void a_message_that_is_too_large_is_told_and_passed_over(void **state)
{
    struct fake fake;
    static char text[5000];
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.incoming_frame_bytes_max = 4096;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    join(&fake, client, 5);
    memset(text, 'x', sizeof(text));
    Usher__V1__RoomMessage large = USHER__V1__ROOM_MESSAGE__INIT;
    Usher__V1__RoomMessage *list[] = {&large};
    large.payload.data = (uint8_t *)text;
    large.payload.len = sizeof(text);
    Usher__V1__RoomMessages messages = USHER__V1__ROOM_MESSAGES__INIT;
    messages.room = 3;
    messages.offset = 6;
    messages.messages = list;
    messages.n_messages = 1;
    Usher__V1__BrokerFrame frame = fake_frame(0, USHER__V1__BROKER_FRAME__BODY_ROOM_MESSAGES);
    frame.room_messages = &messages;
    fake_say(&fake, &frame);
    say_messages(&fake, 3, 7, 1);
    say_messages(&fake, 3, 9, 1);
    struct usher_event event = expect_event(client, USHER_ERROR);
    assert_true(event.code == USHER_ERROR_TOO_LARGE && event.id == 0 && event.seq == 0);
    assert_string_equal(event.room, "match");
    expect_message(client, "match", 7);
    expect_break(client);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* --- over a resume ---------------------------------------------------------------------------- */

static void a_resume_says_how_far_the_rooms_have_come(void **state)
{
    SCENE;
    uint64_t publish;
    join(fake, client, 5);
    say_state(fake, &(struct state){0, "hall", 4, 101, 1, 0, 0, NULL, {0}});
    say_messages(fake, 3, 6, 2);
    expect_room(client, "hall", 0, 0);
    expect_message(client, "match", 6);
    expect_message(client, "match", 7);
    const Usher__V1__ClientFrame *frame = lose(fake, client);
    assert_int_equal(frame->resume->n_rooms, 2);
    assert_true(frame->resume->rooms[0]->room == 3 && frame->resume->rooms[0]->offset == 7 &&
                frame->resume->rooms[0]->incarnation == 100);
    assert_true(frame->resume->rooms[1]->room == 4 && frame->resume->rooms[1]->offset == 1 &&
                frame->resume->rooms[1]->incarnation == 101);
    uint64_t id = frame->id;
    assert_int_equal(usher_publish(client, "match", "hi", 2, &publish), 0);
    resume(fake, client, id);
    assert_null(fake_take(fake, client, 30)); /* it waits for its room */
    say_state(fake, &(struct state){0, "match", 3, 100, 9, 0, USHER_ROOM_COMPLETE, NULL, {0}});
    say_messages(fake, 3, 8, 2);
    say_state(fake, &(struct state){0, "hall", 4, 101, 9, 0, USHER_ROOM_PARTIAL, NULL, {0}});
    say_messages(fake, 4, 8, 2);
    expect_room(client, "match", 0, USHER_ROOM_COMPLETE);
    expect_message(client, "match", 8);
    expect_message(client, "match", 9);
    expect_room(client, "hall", 0, USHER_ROOM_PARTIAL);
    expect_message(client, "hall", 8);
    expect_message(client, "hall", 9);
    frame = fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_PUBLISH);
    assert_true(frame->id == publish && frame->publish->room == 3);
}

static void before_its_state_a_resumed_room_says_nothing(void **state)
{
    SCENE;
    join(fake, client, 5);
    uint64_t id = lose(fake, client)->id;
    resume(fake, client, id);
    say_messages(fake, 3, 6, 1);
    expect_break(client);
}

/* Removed while away, closed while away, and a broker that knows no more than the number. */
static void what_is_over_while_away_is_told(void **state)
{
    SCENE;
    uint64_t publish;
    join(fake, client, 5);
    say_state(fake, &(struct state){0, "hall", 4, 101, 1, 0, 0, NULL, {0}});
    expect_room(client, "hall", 0, 0);
    uint64_t id = lose(fake, client)->id;
    assert_int_equal(usher_publish(client, "hall", "hi", 2, &publish), 0);
    resume(fake, client, id);
    say_state(fake, &(struct state){0, "match", 3, 100, 0, USHER_ROOM_REMOVED, 0, "idle", {0}});
    say_state(fake, &(struct state){0, "", 4, 101, 0, USHER_ROOM_CLOSED, 0, NULL, {0}});
    assert_string_equal(expect_room(client, "match", USHER_ROOM_REMOVED, 0).detail, "idle");
    expect_room(client, "hall", USHER_ROOM_CLOSED, 0);
    struct usher_event event = expect_event(client, USHER_ERROR);
    assert_true(event.id == publish && event.code == USHER_ERROR_NOT_SENT);
    assert_int_equal(lose(fake, client)->resume->n_rooms, 0);
}

/* It is asked again, under another number; what is said under the old one is true as well. */
static void a_join_without_an_answer_is_asked_again(void **state)
{
    SCENE;
    uint64_t id;
    assert_int_equal(usher_join(client, "match", &id), 0);
    assert_int_equal(fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_JOIN)->id, id);
    uint64_t hello = lose(fake, client)->id;
    resume(fake, client, hello);
    const Usher__V1__ClientFrame *frame =
        fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_JOIN);
    uint64_t again = frame->id;
    assert_true(again != 0 && again != id);
    assert_string_equal(frame->join->room, "match");
    say_state(fake, &(struct state){again, "match", 3, 100, 5, 0, 0, NULL, {0}});
    assert_int_equal(expect_room(client, "match", 0, 0).id, id);
    say_state(fake, &(struct state){id, "match", 3, 100, 5, 0, 1, NULL, {0}});
    assert_int_equal(expect_room(client, "match", 0, USHER_ROOM_COMPLETE).id, 0);
}

static void a_join_whose_answer_was_lost_is_answered_by_the_state(void **state)
{
    SCENE;
    uint64_t id;
    assert_int_equal(usher_join(client, "match", &id), 0);
    fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_JOIN);
    uint64_t hello = lose(fake, client)->id;
    resume(fake, client, hello);
    say_state(fake, &(struct state){0, "match", 3, 100, 5, 0, 0, NULL, {0}});
    assert_int_equal(expect_room(client, "match", 0, 0).id, id);
    say_messages(fake, 3, 6, 1);
    expect_message(client, "match", 6);
}

static void a_join_while_away_is_asked_then(void **state)
{
    SCENE;
    uint64_t id;
    const Usher__V1__ClientFrame *frame = lose(fake, client);
    uint64_t hello = frame->id;
    assert_int_equal(usher_join(client, "match", &id), 0);
    resume(fake, client, hello);
    assert_int_equal(fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_JOIN)->id, id);
    say_state(fake, &(struct state){id, "match", 3, 100, 5, 0, 0, NULL, {0}});
    assert_int_equal(expect_room(client, "match", 0, 0).id, id);
}

static void a_join_that_nobody_answers_fails(void **state)
{
    struct fake fake;
    uint64_t id, publish;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.request_timeout_ms = 60;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    assert_int_equal(usher_join(client, "match", &id), 0);
    assert_int_equal(usher_publish(client, "match", "hi", 2, &publish), 0);
    fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_JOIN);
    struct usher_event event = expect_event(client, USHER_ERROR);
    assert_true(event.id == id && event.code == USHER_ERROR_NO_ANSWER);
    event = expect_event(client, USHER_ERROR);
    assert_true(event.id == publish && event.code == USHER_ERROR_NOT_SENT);
    say_state(&fake, &(struct state){id, "match", 3, 100, 5, 0, 0, NULL, {0}}); /* late and true */
    assert_int_equal(expect_room(client, "match", 0, 0).id, 0);
    assert_int_equal(usher_leave(client, "match", &id), 0);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* --- over a new session ----------------------------------------------------------------------- */

/* What the program joined is joined again, behind the last that came; the rest is lost. */
static void a_new_session_joins_again(void **state)
{
    SCENE;
    uint64_t sent, waiting;
    join(fake, client, 5);
    say_state(fake, &(struct state){0, "hall", 4, 101, 1, 0, 0, NULL, {0}});
    say_messages(fake, 3, 6, 2);
    expect_room(client, "hall", 0, 0);
    expect_message(client, "match", 6);
    expect_message(client, "match", 7);
    assert_int_equal(usher_publish(client, "match", "one", 3, &sent), 0);
    fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_PUBLISH);
    fake_hang_up(fake);
    while (usher_client_state(client) == USHER_STATE_ONLINE)
        fake_tick(client);
    assert_int_equal(usher_publish(client, "match", "two", 3, &waiting), 0);
    log_in_anew(fake, client, sent);
    expect_room(client, "hall", USHER_ROOM_LOST, 0);
    const Usher__V1__ClientFrame *frame =
        fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_JOIN);
    assert_string_equal(frame->join->room, "match");
    assert_true(frame->id != 0 && frame->join->recover);
    assert_true(frame->join->incarnation == 100 && frame->join->offset == 7);
    say_state(fake, &(struct state){frame->id, "match", 8, 100, 9, 0, 1, NULL, {0}});
    say_messages(fake, 8, 8, 2);
    assert_int_equal(expect_room(client, "match", 0, USHER_ROOM_COMPLETE).id, 0);
    expect_message(client, "match", 8);
    expect_message(client, "match", 9);
    frame = fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_PUBLISH);
    assert_true(frame->id == waiting && frame->publish->room == 8);
    assert_memory_equal(frame->publish->payload.data, "two", 3);
}

static void what_a_new_session_may_not_join_is_lost(void **state)
{
    SCENE;
    uint64_t waiting;
    join(fake, client, 5);
    fake_hang_up(fake);
    while (usher_client_state(client) == USHER_STATE_ONLINE)
        fake_tick(client);
    assert_int_equal(usher_publish(client, "match", "two", 3, &waiting), 0);
    log_in_anew(fake, client, 0);
    fake_say_error(fake, fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_JOIN)->id,
                   USHER_ERROR_NO_ROOM, 70);
    struct usher_event event = expect_room(client, "match", USHER_ROOM_LOST, 0);
    assert_true(event.code == USHER_ERROR_NO_ROOM && event.id == 0 && event.retry_after_ms == 70);
    assert_true(event.incarnation == 100 && event.offset == 5);
    event = expect_event(client, USHER_ERROR);
    assert_true(event.id == waiting && event.code == USHER_ERROR_NOT_SENT);
    assert_int_equal(usher_leave(client, "match", NULL), -ENOENT);
}

/* What says nothing against this user is asked again, and what waits for the room waits on. */
static void a_rejoin_that_is_refused_for_the_moment_is_asked_again(void **state)
{
    SCENE;
    uint64_t waiting;
    join(fake, client, 5);
    log_in_anew(fake, client, 0);
    fake_say_error(fake, fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_JOIN)->id,
                   USHER_ERROR_BUSY, 70);
    assert_null(fake_take(fake, client, 100));
    expect_no_event(client);
    assert_int_equal(usher_publish(client, "match", "two", 3, &waiting), 0);
    assert_in_range(usher_client_timeout_ms(client), 0, 1000);
    const Usher__V1__ClientFrame *frame = fake_expect_late(fake, client);
    assert_int_equal(frame->body_case, USHER__V1__CLIENT_FRAME__BODY_JOIN);
    assert_string_equal(frame->join->room, "match");
    assert_true(frame->join->recover && frame->join->incarnation == 100);
    fake_say_error(fake, frame->id, USHER_ERROR_RATE_LIMITED, 0);
    frame = fake_expect_late(fake, client);
    assert_true(frame->join->recover && frame->join->offset == 5);
    say_state(fake, &(struct state){frame->id, "match", 8, 100, 5, 0, 1, NULL, {0}});
    assert_int_equal(expect_room(client, "match", 0, USHER_ROOM_COMPLETE).id, 0);
    frame = fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_PUBLISH);
    assert_true(frame->id == waiting && frame->publish->room == 8);
    assert_int_equal(usher_client_timeout_ms(client) > 1000, 1); /* of the request alone */
}

static void what_was_left_is_not_joined_again(void **state)
{
    SCENE;
    uint64_t id;
    join(fake, client, 5);
    assert_int_equal(usher_leave(client, "match", &id), 0);
    fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_LEAVE);
    log_in_anew(fake, client, id);
    expect_room(client, "match", USHER_ROOM_LOST, 0);
    assert_null(fake_take(fake, client, 30));
}

/* More than the socket takes, in the room "match"; gives its id. */
static uint64_t publish_much(struct fake *fake, struct usher_client *client)
{
    static char text[1 << 22];
    uint64_t id;
    join(fake, client, 5);
    assert_int_equal(usher_publish(client, "match", text, sizeof(text), &id), 0);
    assert_true(usher_client_wants_write(client));
    return id;
}

static struct usher_client *client_of_much(struct fake *fake)
{
    fake_open(fake);
    struct usher_options options = fake_options(fake);
    options.outgoing_bytes_max = 1 << 24;
    return go_online(fake, &options,
                     &(struct fake_welcome){.epoch = 7, .frame_bytes_max = 1 << 24});
}

/* What was not written whole goes to the room under the number that it has by then. */
static void a_publish_that_was_cut_waits_for_its_room(void **state)
{
    struct fake fake;
    struct usher_client *client = client_of_much(&fake);
    uint64_t much = publish_much(&fake, client), small;
    assert_int_equal(usher_publish(client, "match", "hi", 2, &small), 0); /* behind it */
    uint64_t hello = lose(&fake, client)->id;
    fake_say_welcome(
        &fake, &(struct fake_welcome){
                   .id = hello, .epoch = 7, .replay = USHER_COMPLETE, .frame_bytes_max = 1 << 24});
    expect_event(client, USHER_DISCONNECTED);
    expect_event(client, USHER_WELCOME);
    assert_null(fake_take(&fake, client, 30));
    say_state(&fake, &(struct state){0, "match", 9, 100, 5, 0, 1, NULL, {0}});
    expect_room(client, "match", 0, USHER_ROOM_COMPLETE);
    const Usher__V1__ClientFrame *frame =
        fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_PUBLISH);
    assert_true(frame->id == much && frame->publish->room == 9);
    frame = fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_PUBLISH);
    assert_true(frame->id == small && frame->publish->room == 9);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* The number of a room that is no more may be another one's by then. */
static void what_was_cut_on_its_way_to_a_closed_room_is_not_sent(void **state)
{
    struct fake fake;
    struct usher_client *client = client_of_much(&fake);
    uint64_t id = publish_much(&fake, client);
    say_state(&fake, &(struct state){0, "match", 3, 100, 5, USHER_ROOM_CLOSED, 0, NULL, {0}});
    expect_room(client, "match", USHER_ROOM_CLOSED, 0);
    uint64_t hello = lose(&fake, client)->id;
    fake_say_welcome(
        &fake, &(struct fake_welcome){
                   .id = hello, .epoch = 7, .replay = USHER_COMPLETE, .frame_bytes_max = 1 << 24});
    struct usher_event event = expect_event(client, USHER_ERROR);
    assert_true(event.id == id && event.code == USHER_ERROR_NOT_SENT);
    expect_event(client, USHER_DISCONNECTED);
    expect_event(client, USHER_WELCOME);
    assert_null(fake_take(&fake, client, 30));
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* --- friends ---------------------------------------------------------------------------------- */

static void friends_are_watched_and_their_states_come(void **state)
{
    SCENE;
    uint64_t id;
    static const char *const add[] = {"bob", "eve"};
    static const char *const remove[] = {"zoe"};
    assert_int_equal(usher_watch(client, add, 2, remove, 1, &id), 0);
    const Usher__V1__ClientFrame *frame =
        fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_WATCH);
    assert_true(frame->id == id && frame->watch->n_add == 2 && frame->watch->n_remove == 1);
    assert_string_equal(frame->watch->add[0], "bob");
    assert_string_equal(frame->watch->add[1], "eve");
    assert_string_equal(frame->watch->remove[0], "zoe");
    fake_say_done(fake, id, 0);
    Usher__V1__FriendState bob = USHER__V1__FRIEND_STATE__INIT, eve = USHER__V1__FRIEND_STATE__INIT;
    Usher__V1__FriendState *list[] = {&bob, &eve};
    bob.user = (char *)(uintptr_t) "bob";
    bob.state = USHER__V1__FRIEND_STATE__STATE__ONLINE;
    bob.since_ms = 77;
    bob.status.data = (uint8_t *)(uintptr_t) "in a match";
    bob.status.len = 10;
    eve.user = (char *)(uintptr_t) "eve";
    Usher__V1__FriendStates friends = USHER__V1__FRIEND_STATES__INIT;
    friends.snapshot = true;
    friends.friends = list;
    friends.n_friends = 2;
    Usher__V1__BrokerFrame out = fake_frame(0, USHER__V1__BROKER_FRAME__BODY_FRIENDS);
    out.friends = &friends;
    fake_say(fake, &out);
    assert_int_equal(expect_event(client, USHER_DONE).id, id);
    struct usher_event event = expect_event(client, USHER_FRIENDS);
    assert_true(event.snapshot && event.friend_count == 2);
    assert_string_equal(event.friends[0].user, "bob");
    assert_int_equal(event.friends[0].state, USHER_FRIEND_ONLINE);
    assert_int_equal(event.friends[0].since_ms, 77);
    assert_int_equal(event.friends[0].status_size, 10);
    assert_memory_equal(event.friends[0].status, "in a match", 10);
    assert_string_equal(event.friends[1].user, "eve");
    assert_int_equal(event.friends[1].state, USHER_FRIEND_OFFLINE);
    assert_null(event.friends[1].status);

    assert_int_equal(usher_set_status(client, "afk", 3, true, &id), 0);
    frame = fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_SET_STATUS);
    assert_true(frame->id == id && frame->set_status->invisible);
    assert_memory_equal(frame->set_status->status.data, "afk", 3);
}

/* Asks for one to come and one to go (NULL: nobody); the broker takes it, or says `code`. */
static void watch(struct fake *fake, struct usher_client *client, const char *add,
                  const char *remove, int code)
{
    uint64_t id;
    assert_int_equal(usher_watch(client, &add, add != NULL, &remove, remove != NULL, &id), 0);
    assert_int_equal(fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_WATCH)->id, id);
    if (code != 0)
        fake_say_error(fake, id, code, 0);
    else
        fake_say_done(fake, id, 0);
    assert_int_equal(expect_event(client, code != 0 ? USHER_ERROR : USHER_DONE).id, id);
}

/* The Watch that the library asks by itself; gives its id. */
static uint64_t expect_reminder(struct fake *fake, struct usher_client *client, const char *first,
                                const char *second)
{
    const Usher__V1__ClientFrame *frame = fake_expect_late(fake, client);
    assert_int_equal(frame->body_case, USHER__V1__CLIENT_FRAME__BODY_WATCH);
    assert_int_equal(frame->watch->n_add, 1 + (second != NULL));
    assert_int_equal(frame->watch->n_remove, 0);
    assert_string_equal(frame->watch->add[0], first);
    if (second != NULL)
        assert_string_equal(frame->watch->add[1], second);
    return frame->id;
}

/* Those whom the broker has taken, and nobody who was refused or taken off the list. */
static void a_new_session_watches_again(void **state)
{
    SCENE;
    uint64_t id;
    watch(fake, client, "bob", NULL, 0);
    watch(fake, client, "eve", NULL, 0);
    watch(fake, client, "zoe", NULL, USHER_ERROR_FORBIDDEN);
    watch(fake, client, "kim", "eve", 0);
    watch(fake, client, "bob", NULL, USHER_ERROR_BUSY); /* who is watched already */
    assert_int_equal(usher_set_status(client, "one", 3, false, NULL), 0);
    assert_int_equal(usher_set_status(client, "in a match", 10, true, &id), 0);
    for (unsigned i = 0; i < 2; i++) {
        fake_say_done(fake, fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_SET_STATUS)->id,
                      0);
        expect_event(client, USHER_DONE);
    }
    log_in_anew(fake, client, 0);
    fake_say_done(fake, expect_reminder(fake, client, "bob", "kim"), 0);
    const Usher__V1__ClientFrame *frame =
        fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_SET_STATUS);
    assert_true(frame->set_status->invisible && frame->set_status->status.len == 10);
    assert_memory_equal(frame->set_status->status.data, "in a match", 10);
    fake_say_done(fake, frame->id, 0);
    expect_no_event(client);
    assert_null(fake_take(fake, client, 30));
}

/* A Watch that is under way comes by itself; the program has been told of one that was lost. */
static void what_has_no_answer_is_not_asked_again(void **state)
{
    SCENE;
    const char *name = "bob", *other = "eve";
    uint64_t lost, waiting;
    assert_int_equal(usher_watch(client, &name, 1, NULL, 0, &lost), 0);
    fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_WATCH);
    fake_hang_up(fake);
    while (usher_client_state(client) == USHER_STATE_ONLINE)
        fake_tick(client);
    assert_int_equal(usher_watch(client, &other, 1, NULL, 0, &waiting), 0);
    log_in_anew(fake, client, lost);
    assert_int_equal(expect_reminder(fake, client, "eve", NULL), waiting);
    assert_null(fake_take(fake, client, 30));
}

static void a_reminder_that_is_refused(void **state)
{
    SCENE;
    watch(fake, client, "bob", NULL, 0);
    log_in_anew(fake, client, 0);
    fake_say_error(fake, expect_reminder(fake, client, "bob", NULL), USHER_ERROR_BUSY, 30);
    assert_null(fake_take(fake, client, 30));
    expect_no_event(client);
    fake_say_error(fake, expect_reminder(fake, client, "bob", NULL), USHER_ERROR_FORBIDDEN, 0);
    struct usher_event event = expect_event(client, USHER_ERROR);
    assert_true(event.id == 0 && event.code == USHER_ERROR_FORBIDDEN);
    assert_int_equal(usher_client_timeout_ms(client), -1);
}

/* A list that fits no frame becomes several, with everybody in one of them. */
static void a_long_list_is_asked_in_parts(void **state)
{
    SCENE;
    enum { MANY = 300 };
    static char texts[MANY][64];
    static const char *names[MANY];
    bool seen[MANY] = {false};
    uint64_t id;
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(texts[i], sizeof(texts[i]), "%04u-a-name-that-is-rather-long-but-still-good", i);
        names[i] = texts[i];
    }
    assert_int_equal(usher_watch(client, names, MANY, NULL, 0, &id), 0);
    fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_WATCH);
    fake_say_done(fake, id, 0);
    expect_event(client, USHER_DONE);
    log_in_anew(fake, client, 0);
    unsigned frames = 0, count = 0;
    for (; count < MANY; frames++) {
        const Usher__V1__ClientFrame *frame = fake_expect_late(fake, client);
        assert_int_equal(frame->body_case, USHER__V1__CLIENT_FRAME__BODY_WATCH);
        assert_in_range(usher__v1__client_frame__get_packed_size(frame), 1, 8 * 1024 + 100);
        for (size_t i = 0; i < frame->watch->n_add; i++, count++) {
            unsigned long number = strtoul(frame->watch->add[i], NULL, 10);
            assert_false(seen[number]);
            seen[number] = true;
        }
    }
    assert_true(frames > 1);
}

/* A broker that has crashed resumes the session, and knows of no watches. */
static void after_a_resume_without_a_picture_it_watches_again(void **state)
{
    SCENE;
    watch(fake, client, "bob", NULL, 0);
    assert_int_equal(usher_client_timeout_ms(client), -1);
    resume(fake, client, lose(fake, client)->id);
    assert_in_range(usher_client_timeout_ms(client), 0, 5000);
    Usher__V1__FriendStates friends = USHER__V1__FRIEND_STATES__INIT;
    friends.snapshot = true;
    Usher__V1__BrokerFrame picture = fake_frame(0, USHER__V1__BROKER_FRAME__BODY_FRIENDS);
    picture.friends = &friends;
    fake_say(fake, &picture);
    expect_event(client, USHER_FRIENDS);
    assert_int_equal(usher_client_timeout_ms(client), -1);
    resume(fake, client, lose(fake, client)->id);
    fake_say_done(fake, expect_reminder(fake, client, "bob", NULL), 0);
    expect_no_event(client);
}

/* --- bytes ------------------------------------------------------------------------------------ */

/* Items that are cut, or of another kind: the connection ends, and nothing else. */
static void broken_items_end_the_connection(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } frames[] = {
        {"\x05\x4a\x03\x4a\x02\x0a", 6},             /* a roster's member, cut */
        {"\x06\x4a\x04\x4a\x02\x0a\x05", 7},         /* a name longer than its member */
        {"\x06\x52\x04\x08\x03\x1a\x05", 7},         /* a message, cut */
        {"\x08\x5a\x06\x08\x03\x1a\x02\x0a\x09", 9}, /* a change, cut */
        {"\x06\x62\x04\x12\x02\x0a\x09", 7},         /* a friend, cut */
        {"\x04\x4a\x02\x10\x03", 5},                 /* joined, and no name */
        {"\x07\x4a\x05\x0a\x03\x61\x00\x62", 8},     /* a NUL in it */
    };
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        struct fake fake;
        fake_open(&fake);
        struct usher_options options = fake_options(&fake);
        struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
        join(&fake, client, 5);
        fake_bytes(&fake, frames[i].bytes, frames[i].size);
        expect_break(client);
        usher_client_destroy(client);
        fake_fini(&fake);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(messages_come_in_order_with_their_offsets),
        TEST(a_broker_that_leaves_something_out_is_none),
        TEST(a_broker_that_says_something_twice_is_none),
        TEST(a_broker_that_speaks_of_another_room_is_none),
        TEST(a_broker_that_lists_too_much_is_none),
        TEST(after_partial_offsets_may_jump_once),
        TEST(after_partial_offsets_do_not_go_back),
        TEST(another_incarnation_begins_anew),
        TEST(a_publish_is_answered_with_its_offset),
        TEST(the_roster_goes_on_in_events),
        TEST(leaving_is_done_and_then_left),
        TEST(a_service_adds_and_removes),
        TEST(a_refused_join_is_an_error_and_the_room_is_not_there),
        TEST(a_publish_waits_for_the_join),
        TEST(what_cannot_be_asked_is_refused_at_once),
        TEST(a_broker_with_too_many_rooms_is_none),
        cmocka_unit_test(a_message_that_is_too_large_is_told_and_passed_over),
        TEST(a_resume_says_how_far_the_rooms_have_come),
        TEST(before_its_state_a_resumed_room_says_nothing),
        TEST(what_is_over_while_away_is_told),
        TEST(a_join_without_an_answer_is_asked_again),
        TEST(a_join_whose_answer_was_lost_is_answered_by_the_state),
        TEST(a_join_while_away_is_asked_then),
        cmocka_unit_test(a_join_that_nobody_answers_fails),
        TEST(a_new_session_joins_again),
        TEST(what_a_new_session_may_not_join_is_lost),
        TEST(a_rejoin_that_is_refused_for_the_moment_is_asked_again),
        TEST(what_was_left_is_not_joined_again),
        cmocka_unit_test(a_publish_that_was_cut_waits_for_its_room),
        cmocka_unit_test(what_was_cut_on_its_way_to_a_closed_room_is_not_sent),
        TEST(friends_are_watched_and_their_states_come),
        TEST(a_new_session_watches_again),
        TEST(what_has_no_answer_is_not_asked_again),
        TEST(a_reminder_that_is_refused),
        TEST(a_long_list_is_asked_in_parts),
        TEST(after_a_resume_without_a_picture_it_watches_again),
        cmocka_unit_test(broken_items_end_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
