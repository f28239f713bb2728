/* SPDX-License-Identifier: Apache-2.0 */
#include "stored_stand.h"

/* Random changes, failures, crashes and starts, against a model that is a list. After each step
 * somebody's messages are read and compared, and at times everybody's; and the index has to be what
 * a start reads from the log. SEEDS of the environment: so many seeds; SEED: that one alone. */

enum { USERS = 6, STEPS = 120, MESSAGES_MAX = 4, HELD_MAX = 4000, PAYLOAD_MAX = 3500, TAGS = 6 };

struct held {
    unsigned user;
    uint64_t mid;
    uint32_t expires_s;
    uint32_t seed, size;
    bool service;
    unsigned sender;
};

struct seen {
    unsigned user, sender;
    bool service;
    uint64_t tag, mid;
    uint32_t until_s;
};

struct model {
    struct stand *stand;
    struct held held[HELD_MAX];
    unsigned count;
    uint64_t lost[USERS], done[USERS], drop[USERS];
    struct seen seen[HELD_MAX];
    unsigned seen_count;
};

static void name_of(char name[16], const char *kind, unsigned i)
{
    snprintf(name, 16, "%s%u", kind, i);
}

static uint32_t now_s(const struct model *model)
{
    return (uint32_t)(stand_wall(model->stand) / 1000);
}

/* --- the model -------------------------------------------------------------------------------- */

static void model_remove(struct model *model, unsigned i)
{
    memmove(&model->held[i], &model->held[i + 1], (model->count - i - 1) * sizeof(struct held));
    model->count--;
}

static void model_expire(struct model *model)
{
    for (unsigned i = 0; i < model->count;) {
        struct held *held = &model->held[i];
        if (held->expires_s > now_s(model)) {
            i++;
            continue;
        }
        if (held->mid > model->lost[held->user])
            model->lost[held->user] = held->mid;
        model_remove(model, i);
    }
}

/* What was noted is committed. */
static void model_note(struct model *model)
{
    for (unsigned user = 0; user < USERS; user++) {
        for (unsigned i = 0; i < model->count;)
            if (model->held[i].user == user && model->held[i].mid <= model->done[user])
                model_remove(model, i);
            else
                i++;
        if (model->lost[user] <= model->done[user])
            model->lost[user] = 0;
        for (unsigned i = 0; i < model->count;) {
            struct held *held = &model->held[i];
            if (held->user != user || held->mid > model->drop[user]) {
                i++;
                continue;
            }
            if (held->mid > model->lost[user])
                model->lost[user] = held->mid;
            model_remove(model, i);
        }
        model->done[user] = model->drop[user] = 0;
    }
}

static struct seen *model_seen(struct model *model, unsigned user, unsigned sender, bool service,
                               uint64_t tag)
{
    for (unsigned i = 0; i < model->seen_count; i++) {
        struct seen *seen = &model->seen[i];
        if (seen->user == user && seen->sender == sender && seen->service == service &&
            seen->tag == tag && seen->until_s > now_s(model))
            return seen;
    }
    return NULL;
}

/* --- what is stored --------------------------------------------------------------------------- */

/* A payload says its own seed, by which it can be checked. */
static void fill_payload(uint8_t *to, uint32_t seed, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        to[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}

struct planned {
    struct held held;
    uint64_t tag;
    struct deliver_message *message;
};

struct transaction {
    struct change *stores, *sessions;
    struct planned planned[USERS * (MESSAGES_MAX + 2)];
    unsigned count;
};

static struct change *change_of(struct transaction *transaction, unsigned user)
{
    char name[16];
    name_of(name, "user", user);
    struct change **end = &transaction->stores;
    for (; *end != NULL; end = &(*end)->next)
        if (strcmp((*end)->event.user, name) == 0)
            return *end;
    *end = change_make(CHANGE_STORE, name);
    return *end;
}

static void add_message(struct model *model, struct transaction *transaction, unsigned user,
                        struct deliver_message *message, struct held held, uint64_t tag)
{
    message->tag = tag;
    message->from_service = held.service;
    message->time_ms = stand_wall(model->stand);
    held.user = user;
    held.expires_s = now_s(model) + 1 + message->keep_s;
    change_add(change_of(transaction, user), message);
    transaction->planned[transaction->count++] = (struct planned){held, tag, message};
}

static uint32_t draw_keep_s(struct stand *stand)
{
    static const uint32_t keeps[] = {1, 5, 60, 3600, 604800, 604800};
    return keeps[below(stand, 6)];
}

static uint32_t draw_size(struct stand *stand)
{
    return below(stand, 8) == 0 ? below(stand, PAYLOAD_MAX) : below(stand, 400);
}

static void add_plain(struct model *model, struct transaction *transaction)
{
    struct stand *stand = model->stand;
    uint8_t payload[PAYLOAD_MAX];
    char sender[16];
    struct held held = {.seed = below(stand, 1000),
                        .size = draw_size(stand),
                        .service = below(stand, 2) == 0,
                        .sender = below(stand, 3)};
    uint64_t tag = below(stand, 3) == 0 ? 1 + below(stand, TAGS) : 0;
    name_of(sender, held.service ? "service" : "player", held.sender);
    fill_payload(payload, held.seed, held.size);
    struct deliver_message *message =
        deliver_create(bytes_of_text(sender), (struct bytes){payload, held.size});
    assert_non_null(message);
    message->keep_s = draw_keep_s(stand) & KEEP_S_MAX;
    add_message(model, transaction, below(stand, USERS), message, held, tag);
}

/* To several users at once. */
static void add_push(struct model *model, struct transaction *transaction)
{
    struct stand *stand = model->stand;
    struct push_run run;
    uint8_t payload[PAYLOAD_MAX];
    char sender[16];
    struct held held = {.seed = below(stand, 1000),
                        .size = draw_size(stand),
                        .service = true,
                        .sender = below(stand, 3)};
    uint64_t tag = below(stand, 4) == 0 ? 1 + below(stand, TAGS) : 0;
    uint32_t keep_s = draw_keep_s(stand);
    name_of(sender, "service", held.sender);
    fill_payload(payload, held.seed, held.size);
    const struct push push = {.service = bytes_of_text(sender), .payload = {payload, held.size}};
    assert_int_equal(push_begin(&run, push, stand_wall(stand), 0, USERS), 0);
    for (unsigned user = 0; user < USERS; user++) {
        if (below(stand, 3) == 0)
            continue;
        struct deliver_message *message = push_next(&run);
        assert_non_null(message);
        message->keep_s = keep_s & KEEP_S_MAX;
        add_message(model, transaction, user, message, held, tag);
    }
    push_end(&run);
}

/* The transaction is there: the model has what it says, in the order of its changes. */
static void model_commit(struct model *model, const struct transaction *transaction,
                         const uint64_t mids[])
{
    model_note(model);
    for (unsigned i = 0; i < transaction->count; i++) {
        const struct planned *planned = &transaction->planned[i];
        struct held held = planned->held;
        if (mids[i] == 0)
            continue;
        held.mid = mids[i];
        if (planned->tag != 0)
            model->seen[model->seen_count++] =
                (struct seen){held.user,    held.sender, held.service,
                              planned->tag, held.mid,    tag_until_s(planned->message->time_ms, 0)};
        model->held[model->count++] = held;
        assert_true(model->count < HELD_MAX && model->seen_count < HELD_MAX);
    }
}

/* Each is told its mid, or is known by its tag. Gives the mids of those that are new. */
static void check_plan(struct model *model, const struct transaction *transaction, uint64_t mids[],
                       bool bounded)
{
    uint64_t above[USERS] = {0};
    for (unsigned i = 0; i < transaction->count; i++) {
        const struct planned *planned = &transaction->planned[i];
        const struct held *held = &planned->held;
        const struct deliver_message *message = planned->message;
        const struct seen *seen = planned->tag == 0 ? NULL
                                                    : model_seen(model, held->user, held->sender,
                                                                 held->service, planned->tag);
        mids[i] = 0;
        assert_true(bounded || message->refusal == 0);
        bool repeats = seen != NULL;
        for (unsigned j = 0; seen == NULL && planned->tag != 0 && j < i; j++) {
            const struct held *other = &transaction->planned[j].held;
            if (mids[j] != 0 && transaction->planned[j].tag == planned->tag &&
                other->user == held->user && other->sender == held->sender &&
                other->service == held->service) {
                repeats = true;
                assert_int_equal(message->mid, mids[j]);
            }
        }
        if (seen != NULL)
            assert_int_equal(message->mid, seen->mid);
        assert_int_equal(message->repeated, repeats);
        if (message->repeated || message->refusal != 0)
            continue;
        mids[i] = message->mid;
        assert_true(mids[i] > above[held->user]);
        above[held->user] = mids[i];
    }
}

enum fate { FATE_GOOD, FATE_FULL, FATE_FAILS, FATE_ABORT, FATE_CUT, FATE_CUT_KEPT, FATES };

static void refused_all(const struct transaction *transaction)
{
    for (unsigned i = 0; i < transaction->count; i++)
        assert_int_not_equal(transaction->planned[i].message->refusal, 0);
}

/* The power fails in the middle of it, and comes back: the process too, or only the disk. */
static void survive(struct model *model)
{
    struct stand *stand = model->stand;
    if (below(stand, 2) == 0) {
        store_memory_crash(stand->store);
        assert_int_equal(stand_commit(stand, NULL, NULL), 0); /* it looks at what is there */
        model_note(model);
        return;
    }
    memset(model->done, 0, sizeof(model->done));
    memset(model->drop, 0, sizeof(model->drop));
    stand_restart(stand);
}

static void set_fate(struct stand *stand, enum fate fate)
{
    if (fate == FATE_FULL || fate == FATE_FAILS)
        store_memory_fail(stand->store, fate == FATE_FULL ? -ENOSPC : -EIO);
    if (fate == FATE_CUT || fate == FATE_CUT_KEPT)
        store_memory_cut(stand->store, fate == FATE_CUT_KEPT);
}

static void commit(struct model *model, struct transaction *transaction, enum fate fate)
{
    struct stand *stand = model->stand;
    uint64_t mids[USERS * (MESSAGES_MAX + 2)];
    if (!stored_plan(stand->stored, transaction->sessions, transaction->stores)) {
        assert_int_equal(transaction->count, 0);
        model_note(model); /* nothing of it meant anything */
        return;
    }
    set_fate(stand, fate);
    check_plan(model, transaction, mids, false);
    assert_int_equal(store_begin(stand->store), 0);
    int error = stored_write(stand->stored);
    assert_int_equal(error, 0);
    if (fate == FATE_ABORT) {
        store_abort(stand->store);
        error = -ENOSPC;
    } else {
        error = store_commit(stand->store, atomic_load(&stand->mid_last));
    }
    store_memory_fail(stand->store, 0);
    assert_int_equal(error == 0, fate == FATE_GOOD);
    stored_settle(stand->stored, error);
    if (error == 0)
        stored_welcome(stand->stored, transaction->sessions);
    else
        refused_all(transaction);
    if (fate == FATE_GOOD || fate == FATE_CUT_KEPT)
        model_commit(model, transaction, mids);
    if (store_memory_is_cut(stand->store))
        survive(model);
}

/* --- comparing -------------------------------------------------------------------------------- */

static void compare_message(const struct held *held, const struct deliver_message *message)
{
    char sender[16];
    uint8_t payload[PAYLOAD_MAX];
    name_of(sender, held->service ? "service" : "player", held->sender);
    fill_payload(payload, held->seed, held->size);
    assert_int_equal(message->mid, held->mid);
    assert_int_equal(message->from_service, held->service);
    assert_true(bytes_equal(deliver_name(message), bytes_of_text(sender)));
    assert_true(bytes_equal(deliver_payload(message), (struct bytes){payload, held->size}));
}

/* All that he has, by windows of some size. */
static void compare_user(struct model *model, unsigned user)
{
    struct stand *stand = model->stand;
    char name[16];
    uint64_t after = 0;
    unsigned at = 0;
    bool more = true;
    uint32_t messages_max = 1 + below(stand, 20), bytes_max = 1 + below(stand, 4000);
    name_of(name, "user", user);
    model_expire(model);
    while (more) {
        struct change *window = stand_window(stand, name, after, messages_max, bytes_max);
        uint32_t count = 0, bytes = 0;
        assert_int_equal(window->error, 0);
        for (struct deliver_message *message = window->stored; message != NULL;
             message = (struct deliver_message *)message->header.next) {
            while (at < model->count && model->held[at].user != user)
                at++;
            assert_true(at < model->count);
            compare_message(&model->held[at++], message);
            after = message->mid;
            bytes += message->payload_size;
            count++;
        }
        assert_true(count <= messages_max && (bytes <= bytes_max || count == 1));
        more = window->more;
        assert_true(count > 0 || !more);
        change_free(window);
    }
    for (; at < model->count; at++)
        assert_int_not_equal(model->held[at].user, user);
}

/* Told to a login that has processed nothing. */
static void compare_welcome(struct model *model, unsigned user)
{
    char name[16];
    unsigned count = 0;
    name_of(name, "user", user);
    model_expire(model);
    struct change *change = change_make(CHANGE_RESUME, name);
    stored_welcome(model->stand->stored, change);
    for (unsigned i = 0; i < model->count; i++)
        count += model->held[i].user == user;
    assert_int_equal(change->stored_count, count);
    assert_int_equal(change->stored_lost, model->lost[user] != 0);
    change_free(change);
}

/* The index is what a start makes of the log. */
static void compare_index(struct model *model)
{
    struct stand *stand = model->stand;
    struct stored *running = stand->stored;
    for (unsigned user = 0; user < USERS; user++)
        compare_welcome(model, user); /* expires what has expired */
    stand_start(stand);
    assert_int_equal(stand->stored->index.messages, running->index.messages);
    assert_int_equal(stand->stored->index.boxes.count, running->index.boxes.count);
    assert_int_equal(stand->stored->index.live_bytes, running->index.live_bytes);
    assert_true(stand->stored->index.other_bytes <= running->index.other_bytes);
    assert_int_equal(stand->stored->log_bytes, running->log_bytes);
    assert_int_equal(stand->stored->log_room, running->log_room);
    assert_int_equal(stand->stored->log_last, running->log_last);
    assert_int_equal(stand->stored->log_values, running->log_values);
    for (unsigned user = 0; user < USERS; user++) {
        compare_user(model, user);
        compare_welcome(model, user);
    }
    stored_close(stand->stored);
    stand->stored = running;
}

/* --- steps ------------------------------------------------------------------------------------ */

static void add_sessions(struct model *model, struct transaction *transaction)
{
    struct stand *stand = model->stand;
    unsigned user = below(stand, USERS);
    char name[16];
    name_of(name, "user", user);
    transaction->sessions = change_make(CHANGE_ATTACH, name);
    if (model->count == 0 || below(stand, 3) == 0)
        return;
    const struct held *held = &model->held[below(stand, model->count)];
    /* A client may also say what is not its own. */
    transaction->sessions->last_mid = below(stand, 20) == 0 ? UINT64_MAX : held->mid;
    uint64_t mid = below(stand, 20) == 0 ? held->mid : transaction->sessions->last_mid;
    transaction->sessions->last_mid = mid;
    if (mid > atomic_load(&stand->mid_last))
        mid = atomic_load(&stand->mid_last);
    model->done[user] = mid > model->done[user] ? mid : model->done[user];
}

static void step_commit(struct model *model)
{
    struct stand *stand = model->stand;
    struct transaction transaction = {0};
    unsigned plain = below(stand, USERS);
    model_expire(model);
    if (below(stand, 3) == 0)
        add_push(model, &transaction);
    for (unsigned i = 0; i < plain; i++)
        add_plain(model, &transaction);
    if (below(stand, 3) == 0)
        add_push(model, &transaction);
    if (below(stand, 3) == 0)
        add_sessions(model, &transaction);
    enum fate fate = below(stand, 3) != 0 ? FATE_GOOD : (enum fate)below(stand, FATES);
    commit(model, &transaction, fate);
    change_free(transaction.stores);
    change_free(transaction.sessions);
}

static void step_done(struct model *model)
{
    char name[16];
    if (model->count == 0)
        return;
    const struct held *held = &model->held[below(model->stand, model->count)];
    name_of(name, "user", held->user);
    stored_done(model->stand->stored, name, held->mid);
    if (held->mid > model->done[held->user])
        model->done[held->user] = held->mid;
}

static void step_drop(struct model *model)
{
    char name[16];
    if (model->count == 0)
        return;
    model_expire(model);
    if (model->count == 0)
        return;
    const struct held *held = &model->held[below(model->stand, model->count)];
    name_of(name, "user", held->user);
    assert_int_not_equal(stored_drop(model->stand->stored, name, held->mid, NULL), 0);
    if (held->mid > model->drop[held->user])
        model->drop[held->user] = held->mid;
}

static void step(struct model *model)
{
    struct stand *stand = model->stand;
    uint32_t what = below(stand, 100);
    if (what < 60)
        step_commit(model);
    else if (what < 78)
        step_done(model);
    else if (what < 80)
        step_drop(model);
    else if (what < 88)
        stand->ms += below(stand, 3000);
    else if (what < 90)
        stand->ms += below(stand, 700000);
    else if (what < 94) {
        memset(model->done, 0, sizeof(model->done));
        memset(model->drop, 0, sizeof(model->drop));
        stand_restart(stand);
    } else if (what < 97)
        compare_index(model);
    compare_user(model, below(stand, USERS));
    compare_welcome(model, below(stand, USERS));
}

static unsigned cleanings;

static void run_seed(uint64_t seed)
{
    struct model *model = calloc(1, sizeof(*model));
    assert_non_null(model);
    model->stand = stand_open(seed);
    model->stand->clean_bytes = 1000 + below(model->stand, 100000);
    model->stand->stored->clean_bytes = model->stand->clean_bytes;
    for (unsigned i = 0; i < STEPS; i++)
        step(model);
    compare_index(model);
    cleanings += stand_metric(model->stand, METRIC_log_cleaned_bytes) > 0;
    assert_int_equal(stand_metric(model->stand, METRIC_log_damaged), 0);
    stand_close(model->stand);
    free(model);
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void a_model_agrees(void **state)
{
    uint64_t alone = number_of("SEED", 0), seeds = number_of("SEEDS", 2000);
    for (uint64_t seed = alone != 0 ? alone : 1; seed <= (alone != 0 ? alone : seeds); seed++) {
        printf(alone != 0 || seed % 500 == 0 ? "seed %llu\n" : "", (unsigned long long)seed);
        run_seed(seed);
    }
    printf("%u of them were cleaned\n", cleanings);
    assert_true(alone != 0 || cleanings > seeds / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_model_agrees)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
