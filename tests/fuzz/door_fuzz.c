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
 * In some of these worlds there is a listener for WebSocket too, and some of the connections come
 * there: with heads that are well-formed, cut, changed or none; their frames in messages and
 * fragments with control frames between, or changed, or in no message at all.
 *
 * Rules: what the broker says is whole frames that protobuf-c can read, by WebSocket in messages as
 * they may be, and nothing comes behind a Close (door_world.h). What was held for all of that is
 * given back: the book of base/memory.h ends where it began. */

enum { CLIENTS = 4, STEPS_MAX = 120, FRAME_BYTES_MAX = 200000, DRAIN = 255 };

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
    X(session_resume_ms) X(link_frame_bytes)                                                     \
    X(ws_head_bytes) X(ws_fragments) X(ws_control_per_second) X(limits_handshakes)               \
    X(limits_handshake_deadline_ms)

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

static void draw_options(struct door *door, struct script *script)
{
    struct options *options = &door->options;
    uint8_t draws = next(script), mode = next(script);
    door->by_ws = mode >= 128;
    unsigned rows = door->by_ws ? DRAWN_COUNT : DRAWN_ws_head_bytes; /* the others are for it */
    unsigned count = draws % (rows + 1);
    options->auth_mode = mode % 4 == 0 ? AUTH_MODE_TOKEN : AUTH_MODE_OPEN;
    for (unsigned i = 0; i < count; i++) {
        struct range range = range_of((enum drawn)(next(script) % rows));
        struct range other = range_of((enum drawn)(next(script) % rows));
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

static void pass_time(struct scene *scene, uint8_t choice)
{
    scene->door.now_ms += (uint64_t)choice * choice;
    door_settle(&scene->door);
}

/* With an origin, and as long as somebody else's cookies make it. */
static void put_head(struct scene *scene, struct script *script, struct buffer *out)
{
    static const char *const fields[] = {"", "Origin: null\r\n", "Origin: http://localhost:1\r\n",
                                         "Origin: https://foreign.example\r\n",
                                         "X-Forwarded-For: 192.0.2.7, ::1\r\n"};
    static const char health[] = "GET /health HTTP/1.0\r\n";
    uint8_t choice = next(script);
    const char *field = fields[choice % 5];
    size_t bytes_max = scene->door.options.ws_head_bytes;
    if (choice & 16)
        ws_bytes_append(out, health, sizeof(health) - 1);
    else
        ws_bytes_append(out, ws_bytes_head, sizeof(ws_bytes_head) - 1);
    ws_bytes_append(out, field, strlen(field));
    if (choice & 32) {
        ws_bytes_append(out, "Cookie: ", 8);
        size_t end = bytes_max + choice / 64u - 1 - strlen("\r\n\r\n");
        while (out->size < end)
            ws_bytes_append(out, "c", 1);
        ws_bytes_append(out, "\r\n", 2);
    }
    ws_bytes_append(out, "\r\n", 2);
}

/* Whole and well-formed, changed in one place, in two parts, or a part of it. */
static void say_head(struct scene *scene, struct script *script, struct door_client *client)
{
    struct buffer out = {0};
    uint8_t choice = next(script);
    put_head(scene, script, &out);
    size_t at = (size_t)choice * out.size / 256;
    if (choice % 8 == 5)
        out.data[at] ^= next(script);
    size_t first = choice % 8 > 5 ? at : out.size;
    if (choice != DRAIN && client_send(client, out.data, first)) {
        if (choice % 8 == 6)
            pass_time(scene, next(script));
        door_settle(&scene->door);
        if (choice % 8 != 7)
            (void)client_send(client, out.data + first, out.size - first);
    }
    buffer_fini(&out);
    door_settle(&scene->door);
    (void)client_read_once(client);
}

static struct door_client *client_at(struct scene *scene, struct script *script, uint8_t choice)
{
    struct door_client *client = &scene->clients[choice % CLIENTS];
    bool by_ws = scene->door.by_ws && (choice & CLIENTS) != 0;
    if (client->fd >= 0)
        return client;
    client_open_at(client, &scene->door, by_ws ? LISTENER_ws : LISTENER_tcp);
    if (by_ws)
        say_head(scene, script, client);
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

/* Bytes of the script in a control frame, perhaps too many of them. */
static void put_control(struct script *script, struct buffer *out)
{
    uint8_t choice = next(script);
    size_t size = choice < 128 ? 0 : choice - 124u;
    size_t left = (size_t)(script->end - script->at);
    size = size < left ? size : left;
    ws_bytes_put(out, WS_BYTES_FIN | (uint8_t)(WS_BYTES_CLOSE + choice % 4),
                 (struct bytes){script->at, size}, choice);
    script->at += size;
}

/* In as many fragments as the script makes cuts, with control frames between. */
static void put_fragments(struct script *script, const struct buffer *frames, struct buffer *out)
{
    uint8_t cuts = next(script) % 80;
    size_t at = 0;
    for (unsigned i = 0; i < cuts; i++) {
        uint8_t choice = next(script);
        size_t left = frames->size - at;
        size_t size = left < choice / 2u ? left : choice / 2u;
        ws_bytes_put(out, i == 0 ? WS_BYTES_BINARY : WS_BYTES_CONTINUATION,
                     (struct bytes){frames->data + at, size}, WS_BYTES_MASK);
        at += size;
        if (choice % 2 != 0 && choice % 8 == 1)
            put_control(script, out);
    }
    ws_bytes_put(out, WS_BYTES_FIN | (cuts == 0 ? WS_BYTES_BINARY : WS_BYTES_CONTINUATION),
                 (struct bytes){frames->data + at, frames->size - at}, WS_BYTES_MASK);
}

/* As one who speaks WebSocket says it, more or less. */
static void give_by_ws(struct scene *scene, struct script *script, struct door_client *client,
                       const struct buffer *frames)
{
    struct buffer out = {0};
    const struct bytes payload = {frames->data, frames->size};
    uint8_t choice = next(script);
    if (choice % 8 == 0)
        ws_bytes_append(&out, frames->data, frames->size);
    else if (choice % 8 == 1)
        put_fragments(script, frames, &out);
    else if (choice % 8 == 2)
        ws_bytes_put(&out, next(script), payload, choice);
    else
        ws_bytes_message(&out, payload);
    if (choice % 8 == 3)
        put_control(script, &out);
    if (choice % 8 == 4 && out.size > 0)
        out.data[next(script) * out.size / 256] ^= next(script);
    give(scene, script, client, &out);
    buffer_fini(&out);
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
    if (out.size > 0 && client->ws != DOOR_WS_NOT)
        give_by_ws(scene, script, client, &out);
    else if (out.size > 0)
        give(scene, script, client, &out);
    buffer_fini(&out);
}

/* Or the broker begins to leave. */
static void wait_some(struct scene *scene, uint8_t choice)
{
    if (choice == DRAIN && scene->door.by_ws)
        net_drain(scene->door.broker->egress.net);
    pass_time(scene, choice);
}

static void step(struct scene *scene, struct script *script)
{
    uint8_t choice = next(script);
    struct door_client *client = client_at(scene, script, choice >> 4);
    switch (choice % 10) {
    case 0:
        wait_some(scene, next(script));
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
    int64_t held = door_held();
    door_init(&scene->door);
    draw_options(&scene->door, &script);
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
    DOOR_CHECK(door_held() == held);
    free(scene);
    return 0;
}
