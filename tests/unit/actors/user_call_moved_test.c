/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/user_call.h"
#include "actors/user_call_moved.h"
#include "backend.pb-c.h"

/* Mail of every kind is over there what it was here, and what a program may know of another one is
 * the record: numbers by name, and of a payload what was published. */

static const char trace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

static Usher__V1__HandoverMail *record_of(const struct user_call_message *message)
{
    Usher__V1__HandoverMail mail;
    uint8_t bytes[4096];
    user_call_move_out(message, &mail);
    assert_true(usher__v1__handover_mail__get_packed_size(&mail) <= sizeof(bytes));
    size_t size = usher__v1__handover_mail__pack(&mail, bytes);
    Usher__V1__HandoverMail *read = usher__v1__handover_mail__unpack(NULL, size, bytes);
    assert_non_null(read);
    return read;
}

static void assert_payload(const Usher__V1__HandoverMail *mail, const char *text)
{
    assert_int_equal(mail->payload.len, strlen(text));
    if (text[0] != '\0')
        assert_memory_equal(mail->payload.data, text, strlen(text));
}

static void assert_same_text(struct bytes one, struct bytes other)
{
    assert_int_equal(one.size, other.size);
    assert_memory_equal(one.data, other.data, one.size);
}

static void assert_same_news(const struct user_call_message *one,
                             const struct user_call_message *other)
{
    const struct room_news_fields left = user_call_room_news(one);
    const struct room_news_fields right = user_call_room_news(other);
    assert_same_text(left.room, right.room);
    assert_same_text(left.user, right.user);
    assert_same_text(left.service, right.service);
    assert_same_text(left.payload, right.payload);
    assert_int_equal(left.incarnation, right.incarnation);
    assert_int_equal(left.news_seq, right.news_seq);
    assert_int_equal(left.kind, right.kind);
    assert_int_equal(left.cause, right.cause);
    assert_int_equal(left.offset, right.offset);
    assert_int_equal(left.time_ms, right.time_ms);
}

static void assert_same_notice(const struct user_call_message *one,
                               const struct user_call_message *other)
{
    const struct stored_notice_fields left = user_call_stored(one);
    const struct stored_notice_fields right = user_call_stored(other);
    assert_same_text(left.user, right.user);
    assert_same_text(left.from, right.from);
    assert_same_text(left.service, right.service);
    assert_int_equal(left.mid, right.mid);
    assert_int_equal(left.time_ms, right.time_ms);
    assert_int_equal(left.payload_bytes, right.payload_bytes);
    assert_int_equal(left.count, right.count);
}

/* The names and what is of every kind stand first. Of news and notices the payload has gaps. */
static void assert_same(const struct user_call_message *one, const struct user_call_message *other)
{
    bool gaps = one->body == MAIL_ROOM_NEWS || one->body == MAIL_STORED;
    size_t size = gaps ? offsetof(struct user_call_message, bytes) + one->user_size +
                             one->service_size + one->method_size
                       : one->header.size;
    assert_int_equal(one->header.size, other->header.size);
    assert_int_equal(one->header.part, other->header.part);
    assert_memory_equal((const uint8_t *)one + sizeof(struct message),
                        (const uint8_t *)other + sizeof(struct message),
                        size - sizeof(struct message));
    if (one->body == MAIL_ROOM_NEWS)
        assert_same_news(one, other);
    if (one->body == MAIL_STORED)
        assert_same_notice(one, other);
}

/* Takes the message. */
static void assert_goes_over(struct user_call_message *message, const char *payload)
{
    message->mail_seq = 11;
    message->mail_number = 12;
    message->share = 13;
    message->redelivered = true;
    message->client_size = 4;
    Usher__V1__HandoverMail *mail = record_of(message);
    assert_payload(mail, payload);
    struct user_call_message *over = user_call_move_in(mail);
    usher__v1__handover_mail__free_unpacked(mail, NULL);
    assert_same(message, over);
    message_destroy(&over->header);
    message_destroy(&message->header);
}

static void calls(void **state)
{
    struct user_call_message *message =
        user_call_create_traced(bytes_of_text("ann"), bytes_of_text("shop"), bytes_of_text("buy"),
                                bytes_of_text("a sword"), bytes_of_text(trace));
    message->caller = 1;
    message->epoch = 2;
    message->request = 3;
    message->call = 4;
    message->deadline_ms = 5;
    message->control = 2;
    assert_goes_over(message, "a sword");
    assert_goes_over(user_call_create(bytes_of_text("ann"), bytes_of_text("shop"),
                                      bytes_of_text("buy"), (struct bytes){0}),
                     "");
}

static void what_rooms_ask(void **state)
{
    const struct room_ask ask = {.room = bytes_of_text("match:1"),
                                 .owner = bytes_of_text("keeper"),
                                 .user = bytes_of_text("ann"),
                                 .epoch = 7,
                                 .kind = USHER__V1__ROOM_ASK__KIND__CREATE,
                                 .caller = 8,
                                 .request = 9,
                                 .call = 10,
                                 .deadline_ms = 11};
    assert_goes_over(room_ask_create(&ask), "");
}

static struct room_news news_of(const char *service)
{
    return (struct room_news){.room = bytes_of_text("match:1"),
                              .owner = bytes_of_text("keeper"),
                              .incarnation = 1,
                              .news_seq = 2,
                              .kind = USHER__V1__ROOM_NEWS__KIND__MESSAGE,
                              .cause = USHER__V1__ROOM_NEWS__CAUSE__SERVICE,
                              .user = bytes_of_text("ann"),
                              .epoch = 3,
                              .offset = 4,
                              .payload = bytes_of_text("e4"),
                              .service = bytes_of_text(service),
                              .time_ms = 5,
                              .actor = 6,
                              .pin_ms = 7};
}

static void news_of_rooms(void **state)
{
    struct room_news news = news_of("arena");
    assert_goes_over(room_news_create(&news), "e4");
    news = news_of("");
    assert_goes_over(room_news_create(&news), "e4");
}

static void notices_of_what_is_stored(void **state)
{
    const struct stored_notice notice = {.user = bytes_of_text("ann"),
                                         .service = bytes_of_text("push"),
                                         .sender = bytes_of_text("bob"),
                                         .mid = 1,
                                         .time_ms = 2,
                                         .payload_bytes = 3,
                                         .count = 4};
    struct stored_notice of_service = notice;
    of_service.from_service = true;
    assert_goes_over(stored_notice_create(&notice), "");
    assert_goes_over(stored_notice_create(&of_service), "");
}

static void whom_a_client_may_watch(void **state)
{
    const struct bytes targets[] = {bytes_of_text("bob"), bytes_of_text("cleo")};
    const struct watch_ask ask = {.user = bytes_of_text("ann"),
                                  .service = bytes_of_text("people"),
                                  .epoch = 1,
                                  .targets = targets,
                                  .target_count = 2,
                                  .caller = 2,
                                  .request = 3,
                                  .call = 4,
                                  .deadline_ms = 5};
    struct user_call_message *message = watch_ask_create(&ask);
    struct bytes payload = user_call_payload(message);
    char text[64] = "";
    memcpy(text, payload.data, payload.size);
    assert_goes_over(message, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls),
        cmocka_unit_test(what_rooms_ask),
        cmocka_unit_test(news_of_rooms),
        cmocka_unit_test(notices_of_what_is_stored),
        cmocka_unit_test(whom_a_client_may_watch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
