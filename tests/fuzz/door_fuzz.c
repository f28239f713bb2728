/* SPDX-License-Identifier: Apache-2.0 */
#include "door_world.h"
#include "fuzz/fuzz.h"

/* The whole of net/, lobby and users behind a real socket, with options that the input draws: each
 * at its least, its most or its default, or beside another one. Not asked is whether such a
 * configuration would be accepted (relations.def): no CHECK and no byte beyond a buffer may be
 * within a peer's reach, whatever the options are. Then a script of connections, frames of sizes
 * around the limits, raw bytes, parts of frames, reading and not reading, ends, ticks and a store
 * that refuses.
 *
 * Rules: what the broker says is whole frames that protobuf-c can read, and nothing comes behind a
 * Close (door_world.h). */

enum { CLIENTS = 4, STEPS_MAX = 120, FRAME_BYTES_MAX = 200000 };

struct script {
    const uint8_t *at;
    const uint8_t *end;
};

static uint8_t next(struct script *script)
{
    return script->at < script->end ? *script->at++ : 0;
}

struct scene {
    struct door door;
    struct door_client clients[CLIENTS];
    uint64_t id_last;
};

/* --- options ---------------------------------------------------------------------------------- */

/* clang-format off */
#define DRAWN(X)                                                                                 \
    X(limits_frame_bytes) X(limits_prelogin_bytes) X(limits_prelogin_output_bytes)               \
    X(limits_output_bytes) X(limits_output_soft_bytes) X(limits_output_total_bytes)              \
    X(limits_memory_bytes) X(limits_inbox_bytes) X(limits_inbox_messages)                        \
    X(limits_mailbox_messages) X(limits_turn_messages) X(limits_requests_per_second)             \
    X(limits_requests_per_second_per_source) X(limits_prelogin_connections)                      \
    X(limits_login_deadline_ms) X(limits_close_linger_ms) X(limits_output_soft_ms)               \
    X(limits_inbox_age_ms) X(limits_calls_per_user) X(limits_call_timeout_ms)                    \
    X(limits_logins_waiting) X(limits_takeovers_per_minute) X(session_heartbeat_ms)              \
    X(session_resume_ms) X(link_frame_bytes)

enum drawn {
#define NAME(field) DRAWN_##field,
    DRAWN(NAME)
#undef NAME
    DRAWN_COUNT
};
/* clang-format on */

struct range {
    size_t offset;
    uint64_t min, max;
};

static const struct range ranges[DRAWN_COUNT] = {
#define RANGE(of) [DRAWN_##of] = {offsetof(struct options, of), 0, 0},
    DRAWN(RANGE)
#undef RANGE
};

/* From options.def: the range of the number at that place. */
static struct range range_of(enum drawn drawn)
{
    struct range range = ranges[drawn];
#define OPTION(field, key, type, holds, default_text, least, most, unit, help) \
    if (offsetof(struct options, field) == range.offset) {                     \
        range.min = least;                                                     \
        range.max = most;                                                      \
    }
#include "base/options.def"
#undef OPTION
    return range;
}

/* Memory that an extreme value would take is not what is looked for. */
static uint64_t clamp(uint64_t value, const struct range *range)
{
    enum { MOST = 1 << 21 };
    uint64_t max = range->max < MOST ? range->max : MOST;
    return value < range->min ? range->min : value > max ? max : value;
}

static void draw_options(struct options *options, struct script *script)
{
    uint8_t count = next(script) % (DRAWN_COUNT + 1);
    options->auth_mode = next(script) % 4 == 0 ? AUTH_MODE_TOKEN : AUTH_MODE_OPEN;
    for (uint8_t i = 0; i < count; i++) {
        struct range range = range_of((enum drawn)(next(script) % DRAWN_COUNT));
        struct range other = range_of((enum drawn)(next(script) % DRAWN_COUNT));
        uint64_t *value = (uint64_t *)((char *)options + range.offset);
        uint64_t beside = *(uint64_t *)((char *)options + other.offset);
        uint8_t how = next(script) % 6;
        *value = clamp(how == 0   ? range.min
                       : how == 1 ? range.min + 1
                       : how == 2 ? range.max
                       : how == 3 ? beside - (beside > 0)
                       : how == 4 ? beside
                                  : beside + 1,
                       &range);
    }
}

/* --- steps ------------------------------------------------------------------------------------ */

static struct door_client *client_at(struct scene *scene, uint8_t choice)
{
    struct door_client *client = &scene->clients[choice % CLIENTS];
    if (client->fd < 0)
        client_open(client, &scene->door);
    return client;
}

/* Around a limit, or small. */
static size_t draw_size(struct scene *scene, struct script *script)
{
    const struct options *options = &scene->door.options;
    uint8_t choice = next(script);
    size_t near = (size_t)(choice & 8    ? options->limits_frame_bytes
                           : choice & 16 ? options->limits_inbox_bytes
                           : choice & 32 ? options->limits_output_bytes
                                         : options->limits_prelogin_bytes);
    size_t size = choice & 4 ? near + choice % 4 - 2 : (size_t)next(script) * 4;
    return size < FRAME_BYTES_MAX ? size : FRAME_BYTES_MAX;
}

/* Whole, or in two parts, or its first part alone. */
static void give(struct scene *scene, struct script *script, struct door_client *client,
                 const struct buffer *bytes)
{
    uint8_t choice = next(script);
    size_t first = choice < 128 ? bytes->size : bytes->size * (choice - 128u) / 128;
    if (!client_send(client, bytes->data, first) || first == bytes->size || choice % 4 == 0)
        return;
    door_settle(&scene->door);
    (void)client_send(client, bytes->data + first, bytes->size - first);
}

static const char *name_at(uint8_t choice)
{
    static const char *const names[] = {"ann", "bob", "nobody", "an\xc3\xa9"};
    return names[choice % 4];
}

static void put_login(struct scene *scene, struct script *script, struct buffer *out)
{
    char token[TOKEN_MAKE_BYTES] = "";
    uint8_t choice = next(script);
    const char *user = name_at(choice % 2);
    if (choice & 8) {
        char claims[64];
        snprintf(claims, sizeof(claims), "{\"sub\":\"%s\",\"exp\":1900000000}", user);
        token_make(token, TOKEN_HEADER, claims);
    }
    door_put_login(out, user, bytes_of_text(token), choice & 4,
                   choice & 16 ? draw_size(scene, script) : 0);
}

static void put_body(struct scene *scene, struct script *script, struct door_client *client,
                     struct buffer *out)
{
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Resume resume = USHER__V1__RESUME__INIT;
    Usher__V1__Ack ack = USHER__V1__ACK__INIT;
    Usher__V1__Ping ping = USHER__V1__PING__INIT;
    Usher__V1__Call call = USHER__V1__CALL__INIT;
    Usher__V1__Logout logout = USHER__V1__LOGOUT__INIT;
    uint8_t choice = next(script);
    frame.id = choice & 8 ? ++scene->id_last : 0;
    switch (choice % 5) {
    case 0:
        frame.body_case = USHER__V1__CLIENT_FRAME__BODY_RESUME;
        frame.resume = &resume;
        resume.username = (char *)name_at(choice >> 4);
        resume.epoch = client->epoch + (choice >> 7);
        resume.secret = (ProtobufCBinaryData){.len = SECRET_BYTES, .data = client->secret};
        resume.last_seq = next(script);
        break;
    case 1:
        frame.body_case = USHER__V1__CLIENT_FRAME__BODY_ACK;
        frame.ack = &ack;
        ack.seq = choice & 16 ? next(script) : client->seq;
        break;
    case 2:
        frame.body_case = USHER__V1__CLIENT_FRAME__BODY_PING;
        frame.ping = &ping;
        break;
    case 3:
        frame.body_case = USHER__V1__CLIENT_FRAME__BODY_CALL;
        frame.call = &call;
        call.service = (char *)"shop";
        call.method = (char *)"buy";
        break;
    default:
        frame.body_case = USHER__V1__CLIENT_FRAME__BODY_LOGOUT;
        frame.logout = &logout;
        break;
    }
    door_put_frame(out, &frame, choice & 32 ? draw_size(scene, script) : 0);
}

static void put_send(struct scene *scene, struct script *script, struct buffer *out)
{
    static uint8_t payload[FRAME_BYTES_MAX];
    uint8_t choice = next(script);
    size_t size = draw_size(scene, script);
    struct bytes body = {payload, choice & 4 ? size : size % 256};
    door_put_send(out, choice & 8 ? ++scene->id_last : 0, name_at(choice), body,
                  choice & 4 ? 0 : size);
}

static void put_raw(struct script *script, struct buffer *out)
{
    size_t size = next(script);
    for (; size > 0 && script->at < script->end; size--)
        DOOR_CHECK(buffer_append(out, script->at++, 1) == 0);
}

static void pass_time(struct scene *scene, uint8_t choice)
{
    scene->door.now_ms += (uint64_t)choice * choice;
    door_settle(&scene->door);
}

static void end_client(struct door_client *client, bool reset)
{
    const struct linger none = {.l_onoff = 1};
    if (reset)
        setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
    client_close(client);
}

/* Some frames in one breath. */
static void say(struct scene *scene, struct script *script, struct door_client *client)
{
    struct buffer out = {0};
    for (unsigned count = 1 + next(script) % 3; count > 0; count--) {
        uint8_t kind = next(script) % 6;
        if (kind < 2)
            put_login(scene, script, &out);
        else if (kind == 2)
            put_body(scene, script, client, &out);
        else if (kind < 5)
            put_send(scene, script, &out);
        else
            put_raw(script, &out);
    }
    if (out.size > 0)
        give(scene, script, client, &out);
    buffer_fini(&out);
}

static void step(struct scene *scene, struct script *script)
{
    uint8_t choice = next(script);
    struct door_client *client = client_at(scene, choice >> 4);
    switch (choice % 10) {
    case 0:
        pass_time(scene, next(script));
        break;
    case 1:
        end_client(client, choice >= 128);
        break;
    case 2:
        store_memory_fail(scene->door.store, choice >= 192 ? -ENOSPC : 0);
        break;
    case 3:
    case 4:
        client_read(client);
        break;
    default:
        say(scene, script, client);
        break;
    }
    door_settle(&scene->door);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    struct script script = {data, data + size};
    FUZZ_CHECK(scene != NULL);
    door_init(&scene->door);
    draw_options(&scene->door.options, &script);
    door_open(&scene->door);
    for (unsigned i = 0; i < CLIENTS; i++)
        scene->clients[i].fd = -1;
    for (int steps = 0; script.at < script.end && steps < STEPS_MAX; steps++)
        step(scene, &script);
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (scene->clients[i].fd >= 0)
            client_read(&scene->clients[i]);
        client_close(&scene->clients[i]);
    }
    door_close(&scene->door);
    free(scene);
    return 0;
}
