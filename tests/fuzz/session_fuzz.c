/* SPDX-License-Identifier: Apache-2.0 */
#include "door/gate.h"
#include "fuzz/user_world.h"

/* The state machine of connections and of the one user whom they want: a script of frames (made
 * well, or raw bytes), ends, ticks, messages and answers of others, kicks, and a store that accepts
 * or refuses. Behind the gate as in the broker: before a connection is bound its frames are judged
 * by gate_frame, afterwards the actor gets them.
 *
 * Rules: nothing is sent to a connection that was given back; at most one connection is welcomed
 * at a time; Close is the last frame; a request has one answer; message numbers have no gap before
 * one can be too old; frames of a connection that was given back have no effect. */

enum { SLOTS = 4, STEPS_MAX = 300, BATCH_BYTES_MAX = 2048 };

/* Ids of requests made by the script itself begin here; raw frames with such ids are left out. */
#define FIRST_ID (UINT64_C(1) << 40)

enum { IDS_MAX = 512 };

struct line {
    uint64_t conn; /* 0: not made */
    bool asked;    /* a Login or Resume of it waits for its answer */
    bool bound;    /* its frames go to the actor */
    bool welcomed, closed;
    bool ended; /* told, or given back */
    uint64_t next_seq;
};

struct scene {
    struct user_world world;
    struct line lines[SLOTS];
    uint64_t conn_last;
    uint64_t id_last;
    bool answered[IDS_MAX];
    bool is_call[IDS_MAX];
    bool late; /* the frames that are played came from a connection that was given back */
};

static struct line *line_of(struct scene *scene, uint64_t conn)
{
    for (int i = 0; i < SLOTS; i++)
        if (scene->lines[i].conn == conn)
            return &scene->lines[i];
    return NULL;
}

static void see_answer(struct scene *scene, uint64_t id)
{
    if (id < FIRST_ID)
        return;
    FUZZ_CHECK(id - FIRST_ID < scene->id_last && !scene->answered[id - FIRST_ID]);
    scene->answered[id - FIRST_ID] = true;
}

/* What grew too old before it was handed out is the one gap that there may be. */
static bool may_be_too_old(const struct user_world *world)
{
    return world->now_ms >= WORLD_BEGIN_MS + world->limits.limits_inbox_age_ms;
}

static void see_frame(struct scene *scene, struct line *line, const Usher__V1__BrokerFrame *frame)
{
    FUZZ_CHECK(!line->closed);
    if (frame->body_case == USHER__V1__BROKER_FRAME__BODY_MESSAGE) {
        uint64_t seq = frame->message->seq;
        FUZZ_CHECK(line->welcomed && seq >= line->next_seq);
        FUZZ_CHECK(seq == line->next_seq || may_be_too_old(&scene->world));
        line->next_seq = seq + 1;
        return;
    }
    if (frame->body_case == USHER__V1__BROKER_FRAME__BODY_CLOSE) {
        line->closed = true;
        return;
    }
    if (frame->body_case == USHER__V1__BROKER_FRAME__BODY_WELCOME) {
        for (int i = 0; i < SLOTS; i++)
            FUZZ_CHECK(!scene->lines[i].welcomed || scene->lines[i].ended ||
                       scene->lines[i].closed || &scene->lines[i] == line);
        line->next_seq = frame->welcome->next_seq;
    }
    see_answer(scene, frame->id);
}

static void see(void *context, const struct effect *effect, const Usher__V1__BrokerFrame *frame)
{
    struct scene *scene = context;
    FUZZ_CHECK(!scene->late || effect->kind == EFFECT_CONSUMED || effect->kind == EFFECT_TIMER);
    bool to_conn = effect->kind == EFFECT_SEND || effect->kind == EFFECT_WELCOMED ||
                   effect->kind == EFFECT_RELEASE || effect->kind == EFFECT_UNBIND;
    if (!to_conn)
        return;
    struct line *line = line_of(scene, effect->value);
    FUZZ_CHECK(line != NULL && line->bound);
    if (frame != NULL)
        see_frame(scene, line, frame);
    if (effect->kind == EFFECT_WELCOMED) {
        FUZZ_CHECK(!line->welcomed);
        line->welcomed = true;
    } else if (effect->kind == EFFECT_UNBIND) {
        FUZZ_CHECK(!line->welcomed);
        line->bound = false;
    } else if (effect->kind == EFFECT_RELEASE) {
        line->bound = false;
        line->ended = true;
    }
}

/* The connection of a slot; a new one when the old one has ended, unless that is wanted: what it
 * had sent may come late. */
static struct line *line_at(struct scene *scene, uint8_t slot, bool old)
{
    struct line *line = &scene->lines[slot % SLOTS];
    if (line->conn == 0 || (line->ended && !old))
        *line = (struct line){.conn = ++scene->conn_last};
    return line;
}

static uint64_t next_id(struct scene *scene)
{
    return scene->id_last < IDS_MAX ? FIRST_ID + scene->id_last++ : 0;
}

/* --- steps ------------------------------------------------------------------------------------ */

static void login(struct scene *scene, struct line *line, uint64_t id, bool acks)
{
    if (line->bound)
        return;
    line->bound = true;
    world_attach(&scene->world, line->conn, id, acks);
}

static void resume(struct scene *scene, struct line *line, uint64_t id, uint8_t last_seq,
                   bool right)
{
    if (line->bound)
        return;
    line->bound = true;
    world_resume(&scene->world, line->conn, id, scene->world.session.epoch, last_seq, right);
}

/* What ingress does with a frame of a connection without an owner. */
static void before_login(struct scene *scene, struct line *line, struct bytes bytes)
{
    struct client_frame frame;
    struct gate_decision decision = gate_frame(bytes, false, &frame);
    if (decision.verdict == GATE_ATTACH)
        login(scene, line, frame.id, frame.login.acks);
    else if (decision.verdict == GATE_RESUME)
        resume(scene, line, frame.id, (uint8_t)frame.resume.last_seq, frame.resume.epoch % 2 != 0);
    else if (decision.verdict == GATE_CLOSE)
        line->ended = true;
}

/* A raw frame of the script that claims an id of ours would be a second request under it. */
static bool is_ours(struct bytes bytes)
{
    struct client_frame frame;
    return client_frame_read(bytes, &frame) == 0 && frame.id >= FIRST_ID;
}

static void raw_frames(struct scene *scene, struct script *script, struct line *line)
{
    uint8_t batch[BATCH_BYTES_MAX];
    size_t size = 0;
    for (int count = 1 + script_byte(script) % 6; count > 0; count--) {
        struct bytes frame = script_run(script, script_byte(script) % 100);
        if (is_ours(frame))
            continue;
        if (!line->bound && !line->ended && scene->world.change == NULL) {
            before_login(scene, line, frame);
            continue;
        }
        batch[size++] = (uint8_t)frame.size;
        if (frame.size > 0)
            memcpy(batch + size, frame.data, frame.size);
        size += frame.size;
    }
    if (scene->world.change != NULL)
        world_commit(&scene->world, 0);
    if (line->bound && size > 0)
        world_play(&scene->world, line->conn, (struct bytes){batch, size});
}

/* A frame of the schema under a fresh id. */
static void good_frame(struct scene *scene, struct script *script, struct line *line)
{
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Send send = USHER__V1__SEND__INIT;
    Usher__V1__Call call = USHER__V1__CALL__INIT;
    Usher__V1__Ping ping = USHER__V1__PING__INIT;
    Usher__V1__Logout logout = USHER__V1__LOGOUT__INIT;
    uint8_t choice = script_byte(script);
    send.to = (char *)(choice & 8 ? "ann" : "bob");
    send.until = choice >> 4;
    call.service = (char *)"shop";
    call.method = (char *)"buy";
    frame.id = choice & 4 ? next_id(scene) : 0;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_SEND;
    frame.send = &send;
    if (choice % 4 == 1) {
        frame.body_case = USHER__V1__CLIENT_FRAME__BODY_CALL;
        frame.call = &call;
        if (frame.id != 0)
            scene->is_call[frame.id - FIRST_ID] = true;
    } else if (choice % 4 == 2) {
        frame.body_case = USHER__V1__CLIENT_FRAME__BODY_PING;
        frame.ping = &ping;
    } else if (choice % 4 == 3 && choice > 0xc0) {
        frame.body_case = USHER__V1__CLIENT_FRAME__BODY_LOGOUT;
        frame.logout = &logout;
    }
    uint8_t bytes[128];
    FUZZ_CHECK(usher__v1__client_frame__get_packed_size(&frame) < 100);
    bytes[0] = (uint8_t)usher__v1__client_frame__pack(&frame, bytes + 1);
    scene->late = line->ended;
    if (line->bound || (line->ended && line->welcomed))
        world_play(&scene->world, line->conn, (struct bytes){bytes, bytes[0] + 1u});
    else if (frame.id != 0)
        scene->answered[frame.id - FIRST_ID] = true; /* never asked */
    scene->late = false;
}

/* Of the right kind for the request, but perhaps for another call, late, or once more. */
static void answer_of_others(struct scene *scene, struct script *script)
{
    uint8_t choice = script_byte(script);
    if (scene->id_last == 0)
        return;
    uint64_t at = script_byte(script) % scene->id_last;
    uint64_t request = FIRST_ID + at;
    uint64_t call_last = atomic_load(&scene->world.counters.call_last);
    if (!scene->is_call[at]) {
        struct result_message *result = world_message(MESSAGE_RESULT, sizeof(*result));
        result->request = request;
        result->asker_epoch = choice & 2 ? scene->world.session.epoch : 1;
        result->code = choice >> 4;
        world_receive(&scene->world, &result->header);
        return;
    }
    struct call_result_message *result = call_result_create(choice >> 4, 0, bytes_of_text("r"));
    FUZZ_CHECK(result != NULL);
    result->request = request;
    result->epoch = choice & 2 ? scene->world.session.epoch : 1;
    result->call = call_last > 4 ? call_last - (choice >> 2) % 4 : call_last;
    world_receive(&scene->world, &result->header);
}

static void kick(struct scene *scene, uint8_t choice)
{
    struct kick_message *kick = world_message(MESSAGE_KICK, sizeof(*kick));
    kick->by = 901;
    kick->request = 44;
    kick->epoch = choice & 1 ? scene->world.session.epoch : choice & 2;
    kick->reason = USHER__V1__CLOSE__REASON__KICKED;
    world_receive(&scene->world, &kick->header);
}

static void pass_time(struct scene *scene, uint8_t choice)
{
    struct user_world *world = &scene->world;
    if (choice % 2 != 0 || world->timer_ms == 0) {
        world->now_ms += (uint64_t)choice * choice;
        return;
    }
    if (world->timer_ms > world->now_ms)
        world->now_ms = world->timer_ms;
    world->timer_ms = 0;
    world_bare(world, MESSAGE_TICK);
}

/* The store's answer comes before anything else can reach the actor. */
static void settle(struct scene *scene, uint8_t choice)
{
    for (int tries = 0; scene->world.change != NULL; tries++)
        world_commit(&scene->world, tries == 0 && choice >= 0xd0 ? -28 : 0);
}

static void step(struct scene *scene, struct script *script)
{
    uint8_t choice = script_byte(script);
    uint8_t kind = choice % 12;
    struct line *line = line_at(scene, choice >> 4, kind == 4 || kind == 5);
    switch (kind) {
    case 0:
        login(scene, line, next_id(scene), script_byte(script) % 2 != 0);
        break;
    case 1: {
        uint8_t last_seq = script_byte(script);
        resume(scene, line, next_id(scene), last_seq % 8, last_seq < 0xe0);
        break;
    }
    case 2:
    case 3:
        raw_frames(scene, script, line);
        break;
    case 4:
    case 5:
        good_frame(scene, script, line);
        break;
    case 6: { /* told once; an actor that was left may hear of it late */
        bool tell = line->bound;
        enum loss loss = (enum loss)(1 + script_byte(script) % 5);
        if (tell)
            world_conn_end(&scene->world, line->conn, loss);
        else
            line->ended = true;
        break;
    }
    case 7:
        pass_time(scene, script_byte(script));
        break;
    case 8: {
        uint8_t size = script_byte(script);
        static const uint8_t payload[256];
        world_deliver(&scene->world, 7, (struct bytes){payload, size}, size % 2 != 0);
        break;
    }
    case 9:
        answer_of_others(scene, script);
        break;
    case 10:
        kick(scene, script_byte(script));
        break;
    default:
        world_receive_own(&scene->world);
        break;
    }
    settle(scene, script_byte(script));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    FUZZ_CHECK(scene != NULL);
    world_init(&scene->world, see, scene);
    struct script script = {data, data + size};
    for (int steps = 0; script.at < script.end && steps < STEPS_MAX; steps++)
        step(scene, &script);
    world_fini(&scene->world);
    free(scene);
    return 0;
}
