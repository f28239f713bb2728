/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_USER_MOVED_STAGE_H
#define USHER_TESTS_USER_MOVED_STAGE_H

/* A user who goes from one stage to another. */

#include "proto/varint.h"
#include "unit/actors/stage_user.h"

enum { ARENA_BYTES = 1 << 20 };

/* But for the settings, in which each has things of its own. */
static inline void copy_world(struct stage *to, const struct stage *from)
{
    to->limits = from->limits;
    to->random_next = from->random_next;
    to->now_ms = from->now_ms;
    to->wall_ms = from->wall_ms;
    to->output = from->output;
    to->proof = from->proof;
    to->welcome_proof = from->welcome_proof;
    memcpy(to->secret, from->secret, sizeof(to->secret));
    atomic_store(&to->counters.epoch_last, atomic_load(&from->counters.epoch_last));
    atomic_store(&to->counters.call_last, atomic_load(&from->counters.call_last));
    atomic_store(&to->counters.crowd_until_ms, atomic_load(&from->counters.crowd_until_ms));
}

/* As a record, and out of it. `records`: of those whom he watches. */
static inline void move(struct stage *from, struct stage *to, bool connected,
                        const struct moved_records *records)
{
    struct arena arena;
    struct buffer out = {0};
    uint64_t size = 0;
    assert_int_equal(arena_init(&arena, ARENA_BYTES), 0);
    assert_true(user_move_out(&from->session, STAGE_SELF, "ann", &arena, &out));
    int head = varint_read((struct bytes){out.data, out.size}, &size);
    assert_int_equal(head + (int)size, out.size);
    Usher__V1__HandoverRecord *record =
        usher__v1__handover_record__unpack(NULL, (size_t)size, out.data + head);
    assert_non_null(record);
    assert_int_equal(record->user->handle, STAGE_SELF);
    assert_string_equal(record->user->name, "ann");
    copy_world(to, from);
    stage_receive(to, user_move_in(record->user, connected, records));
    usher__v1__handover_record__free_unpacked(record, NULL);
    buffer_fini(&out);
    arena_fini(&arena);
}

#endif
