/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_USER_STAGE_ROOMS_H
#define USHER_TESTS_USER_STAGE_ROOMS_H

/* The rooms of "ann" on the stage: what she asks them, what they say. They are 801 (number 12816)
 * and 802; their life is 50 unless something else is said. */

#include "proto/broker_frame.h"
#include "unit/actors/stage_user.h"
#include "user/rooms.h"

enum { ROOM = 801, OTHER_ROOM = 802, LIFE = 50 };

static inline int rooms_setup(void **state)
{
    stage_setup(state);
    struct stage *stage = *state;
    char text[] = "talk* create=client join=any", error[ROOM_CLASS_ERROR_BYTES];
    char open[] = "open* create=client join=any publish=any", shut[] = "shut* create=token";
    char *items[] = {text, open, shut};
    struct room_classes *classes;
    assert_int_equal(room_classes_read(items, 3, &classes, error), 0);
    atomic_store(&stage->settings.room_classes, classes);
    stage->limits.rooms_per_user = 3;
    stage->limits.rooms_publish_per_second = 4;
    stage->limits.limits_requests_per_second = 0;
    stage->limits.limits_output_bytes = 65536;
    stage->limits.limits_output_soft_bytes = 16384;
    stage->settings.requests_max = 1000;
    return 0;
}

static inline int rooms_teardown(void **state)
{
    struct room_classes *classes = atomic_load(&((struct stage *)*state)->settings.room_classes);
    stage_teardown(state);
    room_classes_destroy(classes);
    return 0;
}

#define rooms_unit_test(function) \
    cmocka_unit_test_setup_teardown(function, rooms_setup, rooms_teardown)

/* --- what he asks ----------------------------------------------------------------------------- */

static inline void ask_join(struct stage *stage, uint64_t id, const char *room)
{
    Usher__V1__Join join = USHER__V1__JOIN__INIT;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    join.room = (char *)room;
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_JOIN;
    frame.join = &join;
    put_frame(stage, &frame);
    stage_play(stage, stage->session.conn);
}

static inline void ask_leave(struct stage *stage, uint64_t id, uint32_t room)
{
    Usher__V1__Leave leave = USHER__V1__LEAVE__INIT;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    leave.room = room_number(room);
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_LEAVE;
    frame.leave = &leave;
    put_frame(stage, &frame);
    stage_play(stage, stage->session.conn);
}

static inline void ask_publish(struct stage *stage, uint64_t id, uint32_t room, const char *name)
{
    Usher__V1__Publish publish = USHER__V1__PUBLISH__INIT;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    publish.room = room != 0 ? room_number(room) : 0;
    publish.name = (char *)name;
    publish.payload = (ProtobufCBinaryData){2, (uint8_t *)"hi"};
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_PUBLISH;
    frame.publish = &publish;
    put_frame(stage, &frame);
    stage_play(stage, stage->session.conn);
}

/* --- what rooms say --------------------------------------------------------------------------- */

struct says {
    uint64_t room, life, epoch, request, offset;
    uint32_t pull;
    uint16_t code;
    bool joined, again, carry, behind, owed, silent, recovers, partial;
    size_t bytes; /* of the frame */
};

static inline void room_says(struct stage *stage, struct says says)
{
    struct buffer frame = {0};
    char detail[4096] = "";
    if (says.bytes > 0)
        memset(detail, 'x', says.bytes);
    const struct room_state_fields fields = {.room = room_number(ROOM),
                                             .name = bytes_of_text("talk"),
                                             .incarnation = LIFE,
                                             .offset = says.offset,
                                             .detail = bytes_of_text(detail)};
    if (says.code == 0 && !says.silent)
        assert_int_equal(broker_frame_room_state(&frame, says.request, &fields), 0);
    struct room_state_message *state = room_state_create((struct bytes){frame.data, frame.size});
    state->room = says.room != 0 ? says.room : ROOM;
    state->user = STAGE_SELF;
    state->incarnation = says.life != 0 ? says.life : LIFE;
    state->epoch = says.epoch != 0 ? says.epoch : stage->session.epoch;
    state->request = says.request;
    state->offset = says.offset;
    state->pull = says.pull;
    state->code = says.code;
    state->joined = says.joined;
    state->again = says.again;
    state->carry = says.carry;
    state->recovers = says.recovers;
    state->partial = says.partial;
    state->live = !says.behind;
    state->owed = says.owed;
    buffer_fini(&frame);
    stage_receive(stage, &state->header);
}

static inline struct room_bundle *bundle_of(enum room_bundle_kind kind, uint64_t first,
                                            uint32_t count)
{
    struct buffer items = {0}, frame = {0};
    uint32_t ends[ROOM_BUNDLE_MAX] = {0};
    for (uint32_t i = 0; i < count; i++) {
        broker_frame_room_message(&items, bytes_of_text("bob"), (struct bytes){0},
                                  bytes_of_text("hello"), 7);
        ends[i] = (uint32_t)items.size;
    }
    const struct room_state_fields closed = {.room = room_number(ROOM),
                                             .incarnation = LIFE,
                                             .state = USHER__V1__ROOM_STATE__STATE__CLOSED};
    size_t second = 0;
    if (kind == ROOM_MESSAGES) {
        broker_frame_room_messages(&frame, room_number(ROOM), first,
                                   (struct bytes){items.data, items.size});
    } else if (kind == ROOM_EVENT) {
        broker_frame_room_event(&frame, room_number(ROOM), 3, (struct bytes){0});
    } else {
        broker_frame_room_state(&frame, 0, &closed);
        struct room_state_fields partial = closed;
        partial.replay = USHER__V1__ROOM_STATE__REPLAY__PARTIAL;
        second = frame.size;
        broker_frame_room_state(&frame, 0, &partial);
        second = frame.size - second;
    }
    struct room_bundle *bundle = shared_create(sizeof(*bundle) + frame.size);
    memset((uint8_t *)bundle + sizeof(struct shared), 0, sizeof(*bundle) - sizeof(struct shared));
    bundle->kind = (uint8_t)kind;
    bundle->room = ROOM;
    bundle->incarnation = LIFE;
    bundle->first = first;
    bundle->count = count;
    bundle->size = (uint32_t)(frame.size - second);
    bundle->second_size = (uint32_t)second;
    bundle->items_at = (uint32_t)(frame.size - items.size);
    for (uint32_t i = 0; i < count; i++)
        bundle->ends[i] = bundle->items_at + ends[i];
    memcpy(bundle->bytes, frame.data, frame.size);
    buffer_fini(&items);
    buffer_fini(&frame);
    return bundle;
}

static inline void room_posts(struct stage *stage, enum room_bundle_kind kind, uint64_t first,
                              uint32_t count)
{
    struct room_bundle *bundle = bundle_of(kind, first, count);
    struct message *message = message_create_holding(
        MESSAGE_ROOM_BUNDLE, sizeof(struct room_bundle_message), &bundle->shared);
    shared_release(&bundle->shared);
    stage_receive(stage, message);
}

/* ann, by connection 10, is in room 801 and has everything up to `offset`. */
static inline void be_member(struct stage *stage, uint64_t offset, bool carry)
{
    stage_login(stage, 10, true);
    room_says(stage, (struct says){.joined = true, .offset = offset, .carry = carry});
}

static inline void back(struct stage *stage, uint64_t conn, uint32_t count, uint32_t room,
                        uint64_t life, uint64_t offset)
{
    size_t more = count * sizeof(struct client_position);
    struct resume_message *old = resume_create(stage, conn, 0);
    struct resume_message *resume = message_create(MESSAGE_RESUME, sizeof(*resume) + more);
    memcpy((uint8_t *)resume + sizeof(resume->header), (uint8_t *)old + sizeof(old->header),
           sizeof(*old) - sizeof(old->header));
    message_destroy(&old->header);
    resume->position_count = count;
    for (uint32_t i = 0; i < count; i++)
        resume->positions[i] = (struct client_position){
            .room = room_number(room), .incarnation = life, .offset = offset};
    stage_receive(stage, &resume->header);
    stage_commit(stage, 0);
}

static inline const struct membership *his(struct stage *stage)
{
    return rooms_find(&stage->session, ROOM, LIFE);
}

/* A turn goes on with what waits. */
static inline void writable(struct stage *stage)
{
    struct writable_message *message = message_create(MESSAGE_WRITABLE, sizeof(*message));
    message->conn = stage->session.conn;
    message->go_on = true;
    stage_receive(stage, &message->header);
}

#endif
