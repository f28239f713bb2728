/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_FUZZ_USER_WORLD_H
#define USHER_TESTS_FUZZ_USER_WORLD_H

/* The user "ann" alone in the world: the real actor, and around it a transport and a store that
 * exist in memory only. Messages go in; each effect comes out through the target's `see`, in order,
 * with the frames decoded by protobuf-c. As in the broker, nothing reaches the actor while a change
 * of its waits for the store. Handlers are pure, so a script of bytes is a run that repeats. */

#include <string.h>

#include "actors/proof.h"
#include "client.pb-c.h"
#include "fuzz/fuzz.h"
#include "proto/frame.h"
#include "runtime/message.h"
#include "user/user.h"

/* What the target sees. `frame` is set for EFFECT_SEND and EFFECT_UNBIND with bytes, once for each
 * frame; otherwise it is NULL. */
typedef void user_world_see(void *context, const struct effect *effect,
                            const Usher__V1__BrokerFrame *frame);

struct user_world {
    struct limits limits;
    struct settings settings;
    struct counters counters;
    struct env env;
    struct turn turn;
    struct session session;
    struct change *change; /* waits for the store */
    struct message *own;   /* posts to itself that are on their way; a list, oldest first */
    uint64_t now_ms, timer_ms;
    uint32_t output; /* what the connection has left of each turn */
    uint8_t random_next;
    uint8_t secret[SECRET_BYTES]; /* of the last Welcome */
    user_world_see *see;
    void *context;
};

enum { WORLD_BEGIN_MS = 1000000 };

static const actor_handle WORLD_SELF = UINT64_C(3) << 32 | 5;

static const struct limits world_limits = {
    .session_heartbeat_ms = 15000,
    .session_resume_ms = 60000,
    .limits_frame_bytes = 1024,
    .limits_output_bytes = 4096,
    .limits_output_soft_bytes = 512,
    .limits_inbox_messages = 6,
    .limits_inbox_bytes = 1024,
    .limits_inbox_age_ms = 30000,
    .limits_transient_age_ms = 200,
    .limits_mailbox_messages = 100,
    .limits_turn_messages = 4,
    .limits_takeovers_per_minute = 0,
    .limits_calls_per_user = 3,
    .limits_one_way_calls_per_user = 3,
    .rooms_news_waiting = 3,
    .link_calls_max = 6,
    .limits_call_timeout_ms = 5000,
    .limits_call_timeout_max_ms = 20000,
};

static const struct settings world_settings = {
    .node = "n1",
    .requests_max = 5,
};

static inline void world_random(void *context, void *to, size_t size)
{
    struct user_world *world = context;
    memset(to, ++world->random_next, size);
}

static inline uint64_t world_monotonic(void *context)
{
    return ((struct user_world *)context)->now_ms * 1000000;
}

static inline uint64_t world_wall(void *context)
{
    return ((struct user_world *)context)->now_ms;
}

static inline void world_init(struct user_world *world, user_world_see *see, void *context)
{
    memset(world, 0, sizeof(*world));
    world->limits = world_limits;
    world->settings = world_settings;
    world->env = (struct env){world_monotonic, world_wall, world_random, world};
    world->now_ms = WORLD_BEGIN_MS;
    world->see = see;
    world->context = context;
    world->turn = (struct turn){.limits = &world->limits,
                                .settings = &world->settings,
                                .counters = &world->counters,
                                .env = &world->env};
}

/* Shows the frames of a send; they must be whole, valid, and within the limit. */
static inline void world_frames(struct user_world *world, const struct effect *effect)
{
    struct bytes left = {world->turn.out.data + effect->offset, effect->size};
    while (left.size > 0) {
        struct bytes bytes;
        size_t used;
        FUZZ_CHECK(frame_next(left, world->limits.limits_frame_bytes, &bytes, &used) == 1);
        Usher__V1__BrokerFrame *frame =
            usher__v1__broker_frame__unpack(NULL, bytes.size, bytes.data);
        FUZZ_CHECK(frame != NULL);
        if (frame->body_case == USHER__V1__BROKER_FRAME__BODY_WELCOME)
            memcpy(world->secret, frame->welcome->secret.data, SECRET_BYTES);
        world->see(world->context, effect, frame);
        usher__v1__broker_frame__free_unpacked(frame, NULL);
        left = (struct bytes){left.data + used, left.size - used};
    }
}

static inline void world_keep_own(struct user_world *world, struct message *message)
{
    struct message **last = &world->own;
    while (*last != NULL)
        last = &(*last)->next;
    message->next = NULL;
    *last = message;
}

static inline void world_effect(struct user_world *world, const struct effect *effect)
{
    bool frames = effect->kind == EFFECT_SEND || effect->kind == EFFECT_UNBIND;
    if (frames && effect->size > 0)
        world_frames(world, effect);
    else
        world->see(world->context, effect, NULL);
    if (effect->kind == EFFECT_TIMER)
        world->timer_ms = effect->value;
    if (effect->message != NULL) {
        if (effect->kind == EFFECT_POST && effect->value == WORLD_SELF)
            world_keep_own(world, effect->message);
        else
            message_destroy(effect->message);
    }
}

static inline void world_turn_ends(struct user_world *world)
{
    for (size_t i = 0; i < world->turn.count; i++)
        world_effect(world, &world->turn.effects[i]);
    if (output_settle(&world->session, world->output)) {
        struct writable_message *more = message_create(MESSAGE_WRITABLE, sizeof(*more));
        more->conn = world->session.conn;
        more->go_on = true;
        world_keep_own(world, &more->header);
    }
    FUZZ_CHECK(world->change == NULL);
    world->change = world->turn.change;
    bool retire = world->turn.retire;
    turn_reset(&world->turn);
    if (retire) {
        FUZZ_CHECK(world->change == NULL);
        turn_begin(&world->turn, WORLD_SELF, "ann", world->now_ms, world->now_ms);
        session_clear(&world->session, &world->turn);
        turn_discard(&world->turn);
    }
}

/* The store has answered. */
static inline void world_commit(struct user_world *world, int error)
{
    struct change *change = world->change;
    world->change = NULL;
    change->error = error;
    turn_begin(&world->turn, WORLD_SELF, "ann", world->now_ms, world->now_ms);
    user_committed(&world->session, change, &world->turn);
    FUZZ_CHECK(change->cause == NULL);
    free(change);
    world_turn_ends(world);
}

/* Takes the message. Only while no change waits. */
static inline void world_receive(struct user_world *world, struct message *message)
{
    FUZZ_CHECK(world->change == NULL);
    turn_begin(&world->turn, WORLD_SELF, "ann", world->now_ms, world->now_ms);
    user_receive(&world->session, message, &world->turn);
    world_turn_ends(world);
}

/* One post to itself arrives. */
static inline void world_receive_own(struct user_world *world)
{
    struct message *message = world->own;
    if (message != NULL) {
        world->own = message->next;
        world_receive(world, message);
    }
}

static inline void *world_message(enum message_kind kind, size_t size)
{
    void *message = message_create(kind, size);
    FUZZ_CHECK(message != NULL);
    struct message header = *(struct message *)message;
    memset(message, 0, size);
    *(struct message *)message = header;
    return message;
}

static inline void world_attach(struct user_world *world, uint64_t conn, uint64_t id, bool acks)
{
    struct attach_message *attach = world_message(MESSAGE_ATTACH, sizeof(*attach));
    attach->conn = conn;
    attach->id = id;
    attach->acks = acks;
    strcpy(attach->user, "ann");
    strcpy(attach->address, "10.0.0.1:7");
    world_receive(world, &attach->header);
}

static inline void world_resume(struct user_world *world, uint64_t conn, uint64_t id,
                                uint64_t epoch, uint64_t last_seq, bool right_secret)
{
    struct resume_message *resume = world_message(MESSAGE_RESUME, sizeof(*resume));
    resume->conn = conn;
    resume->id = id;
    resume->epoch = epoch;
    resume->last_seq = last_seq;
    memcpy(resume->secret, world->secret, SECRET_BYTES);
    resume->secret[0] ^= right_secret ? 0 : 1;
    strcpy(resume->address, "10.0.0.1:7");
    world_receive(world, &resume->header);
}

static inline void world_conn_end(struct user_world *world, uint64_t conn, enum loss loss)
{
    struct conn_end_message *end = world_message(MESSAGE_CONN_END, sizeof(*end));
    end->conn = conn;
    end->loss = loss;
    end->reset = false;
    end->limit = NULL;
    end->bound = end->value = 0;
    world_receive(world, &end->header);
}

static inline void world_deliver(struct user_world *world, uint64_t request, struct bytes payload,
                                 bool until_delivered)
{
    struct deliver_message *message = deliver_create(bytes_of_text("bob"), payload);
    FUZZ_CHECK(message != NULL);
    message->sender = 901;
    message->sender_epoch = 9;
    message->request = request;
    message->arrived_ms = world->now_ms;
    message->until_delivered = until_delivered;
    world_receive(world, &message->header);
}

/* Bytes of whole frames, with their lengths. */
static inline void world_play(struct user_world *world, uint64_t conn, struct bytes bytes)
{
    struct frames_message *frames = world_message(MESSAGE_FRAMES, sizeof(*frames) + bytes.size);
    frames->conn = conn;
    frames->welcomed = true;
    frames->size = (uint32_t)bytes.size;
    memcpy(frames->bytes, bytes.data, bytes.size);
    world_receive(world, &frames->header);
}

static inline void world_bare(struct user_world *world, enum message_kind kind)
{
    struct message *message = world_message(kind, sizeof(*message));
    world_receive(world, message);
}

static inline void world_fini(struct user_world *world)
{
    while (world->change != NULL)
        world_commit(world, 0);
    while (world->own != NULL) {
        struct message *next = world->own->next;
        message_destroy(world->own);
        world->own = next;
    }
    turn_begin(&world->turn, WORLD_SELF, "ann", world->now_ms, world->now_ms);
    session_clear(&world->session, &world->turn);
    turn_discard(&world->turn);
    FUZZ_CHECK(atomic_load(&world->counters.calls_waiting) == 0);
    turn_fini(&world->turn);
}

/* --- the script ------------------------------------------------------------------------------- */

struct script {
    const uint8_t *at;
    const uint8_t *end;
};

/* The next byte; 0 behind the end. */
static inline uint8_t script_byte(struct script *script)
{
    return script->at < script->end ? *script->at++ : 0;
}

static inline struct bytes script_run(struct script *script, size_t size)
{
    size_t left = (size_t)(script->end - script->at);
    struct bytes run = {script->at, size < left ? size : left};
    script->at += run.size;
    return run;
}

#endif
