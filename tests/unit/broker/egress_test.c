/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/broker/broker_fixture.h"

/* What leaves a turn by the name of a receiver: deliveries, which limits.mailbox_messages may
 * refuse, and kicks, which it may not. */

enum { ROOM = 5, REQUEST = 77 };

static void a_small_mailbox(struct options *options)
{
    options->limits_mailbox_messages = ROOM;
}

static int set_up_small(void **state)
{
    *state = glue_make_with(NULL, 1000, true, a_small_mailbox);
    return 0;
}

/* One turn of the sender, in which it forwards that message to bob. Nobody else has a turn. */
static void forward(struct glue *glue, const struct probe *sender, struct message *message)
{
    struct turn *turn = &glue->broker.threads[0].turn;
    turn_begin(turn, sender->self, "ann", 1000, 1000);
    size_t offset = turn->out.size;
    assert_int_equal(buffer_append(&turn->out, "bob", 3), 0);
    struct effect *effect = turn_effect(turn, EFFECT_FORWARD, 0);
    effect->message = message;
    effect->offset = (uint32_t)offset;
    effect->size = 3;
    egress_perform(&glue->broker.egress, own_runner(glue), turn);
    turn_reset(turn);
}

static struct message *delivery(const struct probe *sender, uint64_t request)
{
    struct deliver_message *message = deliver_create(bytes_of_text("ann"), bytes_of_text("hello"));
    assert_non_null(message);
    message->sender = sender->self;
    message->sender_epoch = 1;
    message->request = request;
    return &message->header;
}

static struct message *kick(const struct probe *sender)
{
    struct kick_message *message = message_create(MESSAGE_KICK, sizeof(*message));
    struct message header = message->header;
    memset(message, 0, sizeof(*message));
    message->header = header;
    message->by = sender->self;
    return &message->header;
}

/* The code of the one answer that the sender has got. */
static uint32_t answer(struct glue *glue, struct probe *sender)
{
    run_turns(glue);
    struct result_message *result = (struct result_message *)probe_take(sender);
    assert_non_null(result);
    assert_int_equal(result->header.kind, MESSAGE_RESULT);
    assert_int_equal(result->request, REQUEST);
    uint32_t code = result->code;
    message_destroy(&result->header);
    assert_null(probe_take(sender));
    return code;
}

static void a_full_mailbox_is_busy(void **state)
{
    struct glue *glue = *state;
    struct probe *ann = hall_probe(&glue->hall, "ann");
    struct probe *bob = hall_probe(&glue->hall, "bob");
    for (int round = 0; round < 2; round++) {
        unsigned before = bob->count;
        for (unsigned i = 0; i < ROOM; i++)
            forward(glue, ann, delivery(ann, 0));
        forward(glue, ann, delivery(ann, REQUEST)); /* one more than there is room for */
        assert_int_equal(answer(glue, ann), USHER__V1__ERROR__CODE__BUSY);
        assert_int_equal(probe_count(bob) - before, ROOM); /* who has room again now */
    }
}

/* A user has his share of it, and what services push does not depend on users. */
static void each_sender_has_a_share(void **state)
{
    struct glue *glue = *state;
    struct probe *ann = hall_probe(&glue->hall, "ann"), *eve = hall_probe(&glue->hall, "eve");
    struct probe *bob = hall_probe(&glue->hall, "bob");
    for (unsigned i = 0; i <= ROOM; i++)
        forward(glue, eve, delivery(eve, 0));
    forward(glue, ann, delivery(ann, 0));
    for (unsigned i = 0; i <= ROOM; i++) {
        struct message *push = delivery(ann, 0);
        ((struct deliver_message *)push)->from_service = true;
        forward(glue, ann, push);
    }
    run_turns(glue);
    assert_int_equal(probe_count(bob), ROOM + 1 + ROOM);
}

static void a_kick_comes_to_a_full_mailbox(void **state)
{
    struct glue *glue = *state;
    struct probe *ann = hall_probe(&glue->hall, "ann");
    struct probe *bob = hall_probe(&glue->hall, "bob");
    for (unsigned i = 0; i < ROOM; i++)
        forward(glue, ann, delivery(ann, 0));
    forward(glue, ann, kick(ann));
    run_turns(glue);
    assert_int_equal(probe_count(bob), ROOM + 1);
    assert_int_equal(probe_count(ann), 0);
}

static void nobody_of_that_name(void **state)
{
    struct glue *glue = *state;
    struct probe *ann = hall_probe(&glue->hall, "ann");
    forward(glue, ann, delivery(ann, REQUEST));
    assert_int_equal(answer(glue, ann), USHER__V1__ERROR__CODE__NOT_ONLINE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_full_mailbox_is_busy, set_up_small, tear_down),
        cmocka_unit_test_setup_teardown(each_sender_has_a_share, set_up_small, tear_down),
        cmocka_unit_test_setup_teardown(a_kick_comes_to_a_full_mailbox, set_up_small, tear_down),
        cmocka_unit_test_setup_teardown(nobody_of_that_name, set_up_small, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
