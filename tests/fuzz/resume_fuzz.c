/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/user_world.h"

/* Delivery, acknowledgement and resume of one user against a model that is an array of messages.
 *
 * An input is a script: messages arrive, the client acknowledges, loses its connection, resumes
 * with some last_seq (true or not), logs in anew with or without acks; the store accepts or
 * refuses. After each step the frames that the client was sent must be those that the model wants,
 * one by one: seq, payload, redelivered; COMPLETE, PARTIAL or refused. Time stands still, so
 * nothing grows old and no window ends. */

enum { INBOX_MAX = 6, WANTED_MAX = 32, STEPS_MAX = 200 };

struct item {
    uint64_t seq;
    uint8_t payload;
    bool sent, redelivered;
};

enum wanted_kind { WANT_WELCOME, WANT_MESSAGE, WANT_CLOSE, WANT_ERROR };

struct wanted {
    enum wanted_kind kind;
    uint64_t conn;
    uint64_t number; /* seq of a message, next_seq of a Welcome, code or reason */
    uint8_t payload; /* or replay of a Welcome */
    bool redelivered;
};

struct model {
    struct user_world world;
    bool exists, acks;
    uint64_t conn; /* 0: detached */
    uint64_t epoch, next_seq;
    struct item items[INBOX_MAX];
    size_t count;
    uint64_t conn_last;
    struct wanted wanted[WANTED_MAX];
    size_t wanted_count, seen;
};

static void want(struct model *model, struct wanted wanted)
{
    FUZZ_CHECK(model->wanted_count < WANTED_MAX);
    model->wanted[model->wanted_count++] = wanted;
}

static struct wanted seen_frame(uint64_t conn, const Usher__V1__BrokerFrame *frame)
{
    struct wanted seen = {.conn = conn};
    switch (frame->body_case) {
    case USHER__V1__BROKER_FRAME__BODY_WELCOME:
        seen.kind = WANT_WELCOME;
        seen.number = frame->welcome->next_seq;
        seen.payload = (uint8_t)frame->welcome->replay;
        break;
    case USHER__V1__BROKER_FRAME__BODY_MESSAGE:
        FUZZ_CHECK(frame->message->payload.len == 1);
        seen.kind = WANT_MESSAGE;
        seen.number = frame->message->seq;
        seen.payload = frame->message->payload.data[0];
        seen.redelivered = frame->message->redelivered != 0;
        break;
    case USHER__V1__BROKER_FRAME__BODY_CLOSE:
        seen.kind = WANT_CLOSE;
        seen.number = (uint64_t)frame->close->reason;
        break;
    default:
        FUZZ_CHECK(frame->body_case == USHER__V1__BROKER_FRAME__BODY_ERROR);
        seen.kind = WANT_ERROR;
        seen.number = (uint64_t)frame->error->code;
        break;
    }
    return seen;
}

static void see(void *context, const struct effect *effect, const Usher__V1__BrokerFrame *frame)
{
    struct model *model = context;
    if (frame == NULL)
        return;
    struct wanted seen = seen_frame(effect->value, frame);
    FUZZ_CHECK(model->seen < model->wanted_count);
    const struct wanted *wanted = &model->wanted[model->seen++];
    FUZZ_CHECK(seen.kind == wanted->kind && seen.conn == wanted->conn);
    FUZZ_CHECK(seen.number == wanted->number && seen.payload == wanted->payload);
    FUZZ_CHECK(seen.redelivered == wanted->redelivered);
    if (seen.kind == WANT_WELCOME)
        model->epoch = frame->welcome->epoch;
}

static void settle(struct model *model)
{
    FUZZ_CHECK(model->seen == model->wanted_count);
    model->seen = model->wanted_count = 0;
}

/* --- what should happen ----------------------------------------------------------------------- */

static void drop_first(struct model *model, size_t count)
{
    model->count -= count;
    memmove(model->items, model->items + count, model->count * sizeof(*model->items));
}

static void drop_upto(struct model *model, uint64_t seq)
{
    size_t count = 0;
    while (count < model->count && model->items[count].seq <= seq)
        count++;
    drop_first(model, count);
}

static void want_message(struct model *model, struct item *item)
{
    want(model,
         (struct wanted){WANT_MESSAGE, model->conn, item->seq, item->payload, item->redelivered});
    item->sent = true;
}

static void want_replay(struct model *model, uint64_t last_seq)
{
    for (size_t i = 0; i < model->count; i++) {
        struct item *item = &model->items[i];
        item->redelivered = item->redelivered || item->sent;
        if (item->seq > last_seq)
            want_message(model, item);
    }
    if (!model->acks)
        model->count = 0;
}

static void step_deliver(struct model *model, uint8_t payload)
{
    bool kept = model->acks || model->conn == 0;
    if (model->exists && (!kept || model->count < INBOX_MAX)) {
        struct item item = {.seq = model->next_seq++, .payload = payload};
        if (model->conn != 0)
            want_message(model, &item);
        if (kept)
            model->items[model->count++] = item;
    }
    world_deliver(&model->world, 7, (struct bytes){&payload, 1}, payload % 2 == 0);
}

static void step_ack(struct model *model, uint64_t seq)
{
    if (model->conn == 0)
        return;
    bool lies = seq >= model->next_seq;
    if (lies)
        want(model, (struct wanted){WANT_CLOSE, model->conn,
                                    USHER__V1__CLOSE__REASON__PROTOCOL_ERROR, 0, false});
    else
        drop_upto(model, seq);
    /* ack { seq } with a varint of two bytes: 0 to 16383 */
    uint8_t frame[] = {5, 0x32, 3, 0x08, (uint8_t)(seq % 128 + 128), (uint8_t)(seq / 128 % 128)};
    world_play(&model->world, model->conn, (struct bytes){frame, sizeof(frame)});
    if (lies) {
        model->conn = 0;
        FUZZ_CHECK(model->world.change != NULL);
        world_commit(&model->world, 0);
    }
}

static void step_lose(struct model *model)
{
    if (model->conn == 0)
        return;
    uint64_t conn = model->conn;
    model->conn = 0;
    world_conn_end(&model->world, conn, LOSS_GONE);
    FUZZ_CHECK(model->world.change != NULL);
    world_commit(&model->world, 0);
}

static uint64_t sent_max(const struct model *model)
{
    for (size_t i = 0; i < model->count; i++)
        if (!model->items[i].sent)
            return model->items[i].seq - 1;
    return model->next_seq - 1;
}

/* Behind the posted request: the store's answer, and what the model wants of it. */
static void refused(struct model *model, uint64_t conn)
{
    want(model, (struct wanted){WANT_ERROR, conn, USHER__V1__ERROR__CODE__UNAVAILABLE, 0, false});
    world_commit(&model->world, -28);
}

static void step_resume(struct model *model, uint64_t last_seq, bool stale, bool store_works)
{
    uint64_t conn = ++model->conn_last;
    bool right = model->exists && !stale && last_seq <= sent_max(model);
    if (!right)
        want(model,
             (struct wanted){WANT_ERROR, conn, USHER__V1__ERROR__CODE__RESUME_REJECTED, 0, false});
    world_resume(&model->world, conn, 1, model->epoch, last_seq, !stale);
    FUZZ_CHECK((model->world.change != NULL) == right);
    if (!right)
        return;
    if (!store_works) {
        refused(model, conn);
        return;
    }
    if (model->conn != 0)
        want(model, (struct wanted){WANT_CLOSE, model->conn,
                                    USHER__V1__CLOSE__REASON__STALE_SESSION, 0, false});
    model->conn = conn;
    drop_upto(model, last_seq);
    uint64_t first = model->count > 0 ? model->items[0].seq : model->next_seq;
    bool complete = first == last_seq + 1;
    want(model, (struct wanted){WANT_WELCOME, conn, first,
                                complete ? USHER__V1__WELCOME__REPLAY__COMPLETE
                                         : USHER__V1__WELCOME__REPLAY__PARTIAL,
                                false});
    want_replay(model, last_seq);
    world_commit(&model->world, 0);
}

static void step_login(struct model *model, bool acks, bool store_works)
{
    uint64_t conn = ++model->conn_last;
    world_attach(&model->world, conn, 1, acks);
    FUZZ_CHECK(model->world.change != NULL);
    if (!store_works) {
        refused(model, conn);
        return;
    }
    if (model->conn != 0)
        want(model, (struct wanted){WANT_CLOSE, model->conn, USHER__V1__CLOSE__REASON__REPLACED, 0,
                                    false});
    model->exists = true;
    model->acks = acks;
    model->conn = conn;
    for (size_t i = 0; i < model->count; i++) {
        model->items[i].seq = i + 1;
        model->items[i].redelivered = true;
    }
    model->next_seq = model->count + 1;
    want(model, (struct wanted){WANT_WELCOME, conn, 1, USHER__V1__WELCOME__REPLAY__FRESH, false});
    want_replay(model, 0);
    world_commit(&model->world, 0);
}

static void step(struct model *model, struct script *script)
{
    uint8_t choice = script_byte(script);
    uint8_t argument = script_byte(script);
    switch (choice % 8) {
    case 0:
    case 1:
    case 2:
        step_deliver(model, argument);
        break;
    case 3:
        step_ack(model, argument);
        break;
    case 4:
        step_lose(model);
        break;
    case 5:
        step_resume(model, argument, choice >= 0xe0, choice < 0xc0);
        break;
    case 6: /* what an honest client would say: something between what is known and sent */
        step_resume(model, model->exists ? argument % (sent_max(model) + 1) : 0, false, true);
        break;
    default:
        step_login(model, argument % 2 != 0, argument < 0xe0);
        break;
    }
    settle(model);
    FUZZ_CHECK(model->world.change == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model *model = calloc(1, sizeof(*model));
    FUZZ_CHECK(model != NULL);
    world_init(&model->world, see, model);
    model->world.limits.limits_inbox_messages = INBOX_MAX;
    struct script script = {data, data + size};
    for (int steps = 0; script.at < script.end && steps < STEPS_MAX; steps++)
        step(model, &script);
    world_fini(&model->world);
    free(model);
    return 0;
}
