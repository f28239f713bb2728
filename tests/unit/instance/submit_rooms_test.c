/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/actors/stage_link.h"

#include "instance/private.h"

/* What services do with rooms: which room or user hears of it, and how it is answered. */

static void set_classes(struct stage *stage, char *const *items, size_t count)
{
    char error[ROOM_CLASS_ERROR_BYTES];
    struct room_classes *classes = NULL;
    assert_int_equal(room_classes_read(items, count, &classes, error), 0);
    stage->settings.room_classes = classes;
}

static int set_up(void **state)
{
    char *const items[] = {"match:* owner=shop", "m*"};
    int error = stage_setup(state);
    set_classes(*state, items, 2);
    link_hello(*state, 50, 1);
    return error;
}

static int tear_down(void **state)
{
    struct stage *stage = *state;
    struct room_classes *classes = stage->settings.room_classes;
    stage->settings.room_classes = NULL;
    free(classes);
    return stage_teardown(state);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

/* --- saying it -------------------------------------------------------------------------------- */

static void say_open(struct script *script, const char *room, const char *class, uint32_t max)
{
    SAY(script, room_open, ROOM_OPEN);
    command->room_open->room = (char *)room;
    command->room_open->class_ = (char *)class;
    command->room_open->members_max = max;
}

static void say_close(struct script *script, const char *room, const char *detail)
{
    SAY(script, room_close, ROOM_CLOSE);
    command->room_close->room = (char *)room;
    command->room_close->detail = (char *)detail;
}

static void say_publish(struct script *script, const char *room, const char *payload)
{
    SAY(script, room_publish, ROOM_PUBLISH);
    command->room_publish->room = (char *)room;
    command->room_publish->payload = payload_of(payload);
}

static void say_members(struct script *script, const char *room, const char *after, uint32_t limit)
{
    SAY(script, room_members, ROOM_MEMBERS);
    command->room_members->room = (char *)room;
    command->room_members->after = (char *)after;
    command->room_members->limit = limit;
}

static void say_rooms(struct script *script)
{
    SAY(script, rooms, ROOMS);
}

static Usher__V1__RoomAdd *say_add(struct script *script, const char *room, char **users,
                                   size_t count)
{
    SAY(script, room_add, ROOM_ADD);
    command->room_add->room = (char *)room;
    command->room_add->users = users;
    command->room_add->n_users = count;
    return command->room_add;
}

static void say_remove(struct script *script, const char *room, char **users, size_t count,
                       const char *detail)
{
    SAY(script, room_remove, ROOM_REMOVE);
    command->room_remove->room = (char *)room;
    command->room_remove->users = users;
    command->room_remove->n_users = count;
    command->room_remove->detail = (char *)detail;
}

/* A room has answered: with a RoomList of that room, or a code. */
static void room_answers(struct stage *stage, uint64_t token, uint16_t code, const char *room)
{
    struct link_page page = {.room = SIZE_MAX};
    struct buffer result = {0};
    const struct room_fields fields = {.name = bytes_of_text(room != NULL ? room : "")};
    if (room != NULL) {
        assert_int_equal(link_page_room(&page, &fields), 0);
        assert_int_equal(link_result_rooms(&result, &page, false), 0);
    }
    struct room_answer_message *answer =
        room_answer_create(token, code, (struct bytes){result.data, result.size});
    assert_non_null(answer);
    link_receive(stage, &answer->header);
    buffer_fini(&page.items);
    buffer_fini(&result);
}

/* --- to the room ------------------------------------------------------------------------------ */

static void what_a_room_is_told(void **state)
{
    struct stage *stage = *state;
    struct script *script = script_create();
    say_open(script, "match:1", "", 4);
    say_open(script, "match:1", "m*", 0);
    say_publish(script, "match:1", "hi");
    say_members(script, "match:1", "77", 9);
    say_close(script, "match:1", "over");
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "room match:1 create open '' max=4", "room match:1 create open 'm*'",
           "room match:1 publish from=shop 'hi'", "room match:1 members '77' limit=9 room=1024",
           "room match:1 close 'over'");
    uint64_t tokens[5];
    memcpy(tokens, stage->tokens, sizeof(tokens));
    room_answers(stage, tokens[1], 0, "match:1");
    room_answers(stage, tokens[0], USHER__V1__ERROR__CODE__NO_ROOM, NULL);
    room_answers(stage, tokens[3], 0, "match:1");
    room_answers(stage, tokens[4], 0, NULL);
    EXPECT_NOTHING(stage);
    room_answers(stage, tokens[2], USHER__V1__ERROR__CODE__RATE_LIMITED, NULL);
    EXPECT(stage, "answer 51 results 1: NO_ROOM OK[match:1] RATE_LIMITED OK[match:1] OK");
}

static void each_code_has_its_own(void **state)
{
    static const struct {
        uint16_t code;
        const char *said;
    } rows[] = {
        {USHER__V1__ERROR__CODE__NO_ROOM, "NO_ROOM"},
        {USHER__V1__ERROR__CODE__ROOM_FULL, "ROOM_FULL"},
        {USHER__V1__ERROR__CODE__NOT_MEMBER, "NOT_MEMBER"},
        {USHER__V1__ERROR__CODE__RATE_LIMITED, "RATE_LIMITED"},
        {USHER__V1__ERROR__CODE__TOO_LARGE, "TOO_LARGE"},
        {USHER__V1__ERROR__CODE__BUSY, "INBOX_FULL"},
        {USHER__V1__ERROR__CODE__FORBIDDEN, "FORBIDDEN"},
        {RESULT_ROOMS_FULL, "FULL"},
        {RESULT_MALFORMED, "MALFORMED"},
        {RESULT_STALE_EPOCH, "STALE_EPOCH"},
    };
    struct stage *stage = *state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct script *script = script_create();
        char wanted[100];
        say_publish(script, "m", "hi");
        link_submit(stage, 51, 1, i + 1, script);
        room_answers(stage, stage->tokens[0], rows[i].code, NULL);
        snprintf(wanted, sizeof(wanted), "answer 51 results %zu: %s", i + 1, rows[i].said);
        EXPECT(stage, wanted);
    }
}

/* Nothing is made of a name that no class fits; and one pattern must both be there and fit. */
static void without_a_class_there_is_no_room(void **state)
{
    struct stage *stage = *state;
    struct script *script = script_create();
    say_open(script, "lobby", "", 0);
    say_open(script, "lobby", "m*", 0);
    say_open(script, "match:1", "mat*", 0);
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "answer 51 results 1: NO_ROOM NO_ROOM NO_ROOM");
}

static void names_are_looked_at(void **state)
{
    struct stage *stage = *state;
    char longest[300] = {0};
    char *users[] = {"ann", "#match:1", "!shop/1", ""};
    struct script *script = script_create();
    memset(longest, 'm', USERNAME_BYTES_MAX + 1);
    say_open(script, longest, "", 0);
    say_close(script, "", "");
    say_publish(script, "#m", "");
    say_add(script, "a b", users, 1);
    say_remove(script, "", users, 1, "");
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "answer 51 results 1: MALFORMED MALFORMED MALFORMED MALFORMED MALFORMED");
    script = script_create();
    memset(longest, '7', UINT8_MAX + 1);
    say_members(script, "m", longest, 0);
    link_submit(stage, 52, 1, 2, script);
    EXPECT(stage, "answer 52 results 2: MALFORMED");
    script = script_create();
    say_add(script, "m", users, 4); /* rooms and instances are no users */
    link_submit(stage, 53, 1, 3, script);
    EXPECT(stage, "forward ann invite m");
    link_result(stage, stage->tokens[0], 0);
    EXPECT(stage, "answer 53 results 3: OK(1 #match:1 NOT_ONLINE !shop/1 NOT_ONLINE  NOT_ONLINE)");
}

/* --- to its members --------------------------------------------------------------------------- */

static void who_is_added_hears_it_himself(void **state)
{
    struct stage *stage = *state;
    struct script *script = script_create();
    char *users[] = {"ann", "bob", "carl", "dora"};
    uint64_t epochs[] = {7, 0, 9, 10};
    Usher__V1__RoomAdd *add = say_add(script, "m", users, 4);
    add->epochs = epochs;
    add->n_epochs = 4;
    add->carry = true;
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "forward ann invite m wanted=7 carry", "forward bob invite m carry",
           "forward carl invite m wanted=9 carry", "forward dora invite m wanted=10 carry");
    uint64_t tokens[4];
    memcpy(tokens, stage->tokens, sizeof(tokens));
    link_result(stage, tokens[0], RESULT_STALE_EPOCH);
    link_result(stage, tokens[1], 0);
    link_result(stage, tokens[2], RESULT_ROOMS_FULL);
    EXPECT_NOTHING(stage);
    link_result(stage, tokens[3], USHER__V1__ERROR__CODE__ROOM_FULL);
    EXPECT(stage, "answer 51 results 1: OK(1 ann STALE_EPOCH carl FULL dora ROOM_FULL)");
}

/* As with a Push: of one name the code says it all. */
static void one_name_has_the_code_of_the_command(void **state)
{
    struct stage *stage = *state;
    struct script *script = script_create();
    char *users[] = {"ann"};
    say_add(script, "m", users, 1);
    say_remove(script, "m", users, 1, "bad manners");
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "forward ann invite m", "forward ann expel m 'bad manners'");
    uint64_t expel = stage->tokens[1];
    link_result(stage, stage->tokens[0], USHER__V1__ERROR__CODE__NOT_ONLINE);
    link_result(stage, expel, USHER__V1__ERROR__CODE__NOT_MEMBER);
    EXPECT(stage, "answer 51 results 1: NOT_ONLINE(0 ann NOT_ONLINE) NOT_MEMBER(0 ann NOT_MEMBER)");
}

static void one_epoch_for_each_or_none(void **state)
{
    struct stage *stage = *state;
    char *users[] = {"ann", "bob"};
    uint64_t epochs[] = {7, 8, 9};
    for (size_t count = 1; count <= 3; count += 2) {
        struct script *script = script_create();
        Usher__V1__RoomAdd *add = say_add(script, "m", users, 2);
        add->epochs = epochs;
        add->n_epochs = count;
        link_submit(stage, 51, 1, 1 + count / 2, script);
        assert_non_null(strstr(stage->tape, ": MALFORMED\n"));
    }
}

/* A text for the members is cut between characters, as that of a Kick is. */
static void details_are_cut(void **state)
{
    struct stage *stage = *state;
    struct script *script = script_create();
    char detail[400] = {0};
    assert_int_equal(DETAIL_BYTES_MAX, 120);
    strcat(detail, "x");
    for (unsigned i = 0; i < 100; i++)
        strcat(detail, "\xe2\x82\xac");
    say_close(script, "m", detail);
    link_submit(stage, 51, 1, 1, script);
    EXPECT(stage, "room m close <118 bytes>");
    room_answers(stage, stage->tokens[0], 0, NULL);
    EXPECT(stage, "answer 51 results 1: OK");
}

/* --- who may ask ------------------------------------------------------------------------------ */

/* Without a link one may ask and change nothing. */
static void strangers_may_look(void **state)
{
    static const bool may[] = {false, false, false, false, false, true, true};
    struct stage *stage = *state;
    struct limits limits = stage->limits;
    char *users[] = {"ann"};
    for (size_t i = 0; i < sizeof(may) / sizeof(may[0]); i++) {
        struct script *script = script_create();
        switch (i) {
        case 0:
            say_open(script, "m", "", 0);
            break;
        case 1:
            say_close(script, "m", "");
            break;
        case 2:
            say_add(script, "m", users, 1);
            break;
        case 3:
            say_remove(script, "m", users, 1, "");
            break;
        case 4:
            say_publish(script, "m", "");
            break;
        case 5:
            say_members(script, "m", "", 0);
            break;
        default:
            say_rooms(script);
            break;
        }
        Usher__V1__Submit submit = USHER__V1__SUBMIT__INIT;
        submit.n_commands = 1;
        submit.commands = script->list;
        assert_int_equal(instance_submit_fault(&submit, false, &limits) == NULL, may[i]);
        submit.link = 1;
        assert_null(instance_submit_fault(&submit, false, &limits));
        free(script);
    }
}

/* Each of them holds an exchange of the link until it is answered. */
static void what_waits_is_counted(void **state)
{
    struct stage *stage = *state;
    stage->settings.link_submits_max = 2;
    for (uint32_t lane = 1; lane <= 3; lane++) {
        struct script *script = script_create();
        say_publish(script, "m", "");
        link_submit(stage, 50 + lane, lane, 1, script);
    }
    EXPECT(stage, "answer 53 refused BUSY");
}

static void too_many_names_are_refused(void **state)
{
    struct stage *stage = *state;
    struct script *script = script_create();
    char **users = calloc(UINT16_MAX + 1, sizeof(*users));
    assert_non_null(users);
    for (size_t i = 0; i <= UINT16_MAX; i++)
        users[i] = "a";
    Usher__V1__RoomAdd *add = say_add(script, "m", users, UINT16_MAX + 1);
    Usher__V1__Submit submit = USHER__V1__SUBMIT__INIT;
    submit.link = 1;
    submit.n_commands = 1;
    submit.commands = script->list;
    assert_non_null(instance_submit_fault(&submit, false, &stage->limits));
    add->n_users--;
    assert_null(instance_submit_fault(&submit, false, &stage->limits));
    free(users);
    free(script);
}

/* A link that ended has nobody to tell. */
static void late_answers_find_nobody(void **state)
{
    struct stage *stage = *state;
    struct script *script = script_create();
    say_publish(script, "m", "");
    link_submit(stage, 51, 1, 1, script);
    uint64_t token = stage->tokens[0];
    link_hello(stage, 52, 2);
    room_answers(stage, token, 0, "m");
    room_answers(stage, token, USHER__V1__ERROR__CODE__NO_ROOM, NULL);
    EXPECT_NOTHING(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_a_room_is_told),
        TEST(each_code_has_its_own),
        TEST(without_a_class_there_is_no_room),
        TEST(names_are_looked_at),
        TEST(who_is_added_hears_it_himself),
        TEST(one_name_has_the_code_of_the_command),
        TEST(one_epoch_for_each_or_none),
        TEST(details_are_cut),
        TEST(strangers_may_look),
        TEST(what_waits_is_counted),
        TEST(too_many_names_are_refused),
        TEST(late_answers_find_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
