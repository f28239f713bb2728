/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/store_ops.h"
#include "stored_stand.h"

/* What is stored for users: what each limit says, what damage costs, how much is written and held.
 * Whether it is the right messages is stored_model_test's. */

enum { UNAVAILABLE = USHER__V1__ERROR__CODE__UNAVAILABLE };

static int set_up(void **state)
{
    *state = stand_open(1);
    return 0;
}

static int tear_down(void **state)
{
    stand_close(*state);
    return 0;
}

static struct deliver_message *of_player(struct stand *stand, const char *name, const char *payload)
{
    return message_make(stand, name, payload, 3600);
}

static struct deliver_message *of_service(struct stand *stand, const char *payload)
{
    struct deliver_message *message = message_make(stand, "gifts", payload, 3600);
    message->from_service = true;
    return message;
}

static struct deliver_message *of_size(struct stand *stand, uint32_t size)
{
    uint8_t *payload = calloc(1, size);
    assert_non_null(payload);
    struct deliver_message *message =
        deliver_create(bytes_of_text("gifts"), (struct bytes){payload, size});
    assert_non_null(message);
    message->keep_s = 3600;
    message->time_ms = stand_wall(stand);
    message->from_service = true;
    free(payload);
    return message;
}

static uint16_t store_from(struct stand *stand, const char *sender, const char *user)
{
    return stand_store(stand, user, of_player(stand, sender, "hello"), NULL);
}

static struct stored_summary summary_of(struct stand *stand, const char *user)
{
    struct stored_summary summary;
    assert_int_equal(stored_list(stand->stored, user, 0, 0, NULL, NULL, &summary), 0);
    return summary;
}

/* --- limits ----------------------------------------------------------------------------------- */

static void a_user_has_so_many(void **state)
{
    struct stand *stand = *state;
    stand->limits.inbox_stored_messages = 3;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(store_from(stand, "ann", "bob"), 0);
    assert_int_equal(store_from(stand, "ann", "bob"), USHER__V1__ERROR__CODE__INBOX_FULL);
    assert_int_equal(stand_metric(stand, METRIC_stored_refused_user), 1);
    assert_int_equal(store_from(stand, "ann", "eve"), 0);
    /* Players fill their own part. */
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(stand_store(stand, "bob", of_service(stand, "x"), NULL), 0);
    assert_int_equal(stand_store(stand, "bob", of_service(stand, "x"), NULL),
                     USHER__V1__ERROR__CODE__INBOX_FULL);
    assert_int_equal(summary_of(stand, "bob").count, 6);
    stored_done(stand->stored, "bob", 1001); /* the first */
    change_free(stand_login(stand, "bob", 0));
    assert_int_equal(store_from(stand, "ann", "bob"), 0);
    assert_int_equal(store_from(stand, "ann", "bob"), USHER__V1__ERROR__CODE__INBOX_FULL);
}

static void what_has_expired_is_in_nobodys_way(void **state)
{
    struct stand *stand = *state;
    stand->limits.inbox_stored_messages = 1;
    assert_int_equal(stand_store(stand, "bob", message_make(stand, "ann", "x", 1), NULL), 0);
    assert_int_equal(store_from(stand, "ann", "bob"), USHER__V1__ERROR__CODE__INBOX_FULL);
    stand->ms += 3000;
    assert_int_equal(store_from(stand, "ann", "bob"), 0);
    assert_int_equal(stand_metric(stand, METRIC_stored_expired), 1);
}

static void a_user_has_so_many_bytes(void **state)
{
    struct stand *stand = *state;
    stand->limits.inbox_stored_bytes = 1000;
    assert_int_equal(stand_store(stand, "bob", of_size(stand, 1001), NULL),
                     USHER__V1__ERROR__CODE__INBOX_FULL);
    assert_int_equal(stand_store(stand, "bob", of_size(stand, 600), NULL), 0);
    assert_int_equal(stand_store(stand, "bob", of_size(stand, 401), NULL),
                     USHER__V1__ERROR__CODE__INBOX_FULL);
    assert_int_equal(stand_store(stand, "bob", of_size(stand, 400), NULL), 0);
    assert_int_equal(summary_of(stand, "bob").bytes, 1000);
}

/* Also those of one change, of which none is there yet. */
static void limits_count_within_a_change(void **state)
{
    struct stand *stand = *state;
    stand->limits.inbox_stored_messages = 2;
    struct change *change = change_make(CHANGE_STORE, "bob");
    for (unsigned i = 0; i < 3; i++)
        change_add(change, of_player(stand, "ann", "hello"));
    assert_int_equal(stand_commit(stand, NULL, change), 0);
    const struct deliver_message *message = change->stored;
    assert_int_equal(message->refusal, 0);
    message = (const struct deliver_message *)message->header.next;
    assert_int_equal(message->refusal, 0);
    message = (const struct deliver_message *)message->header.next;
    assert_int_equal(message->refusal, USHER__V1__ERROR__CODE__INBOX_FULL);
    change_free(change);
    change = change_make(CHANGE_STORE, "bob");
    for (unsigned i = 0; i < 3; i++)
        change_add(change, of_service(stand, "x"));
    assert_int_equal(stand_commit(stand, NULL, change), 0);
    assert_int_equal(summary_of(stand, "bob").count, 4);
    change_free(change);
}

static void the_node_has_so_many(void **state)
{
    struct stand *stand = *state;
    stand->limits.inbox_stored_total = 2;
    assert_int_equal(store_from(stand, "ann", "bob"), 0);
    assert_int_equal(store_from(stand, "ann", "eve"), 0);
    assert_int_equal(store_from(stand, "ann", "dan"), USHER__V1__ERROR__CODE__INBOX_FULL);
    assert_int_equal(stand_metric(stand, METRIC_stored_refused_total), 1);
    assert_int_equal(stored_look(stand->stored).percent, 100);
    stand->limits.inbox_stored_total = 100;
    assert_int_equal(store_from(stand, "ann", "dan"), 0);
    assert_int_equal(stored_look(stand->stored).percent, 3);
    stand->limits.inbox_stored_total_bytes = stored_look(stand->stored).bytes + 10;
    assert_int_equal(store_from(stand, "ann", "dan"), USHER__V1__ERROR__CODE__INBOX_FULL);
    stand->limits.inbox_stored_messages = 0;
    assert_int_equal(store_from(stand, "ann", "zoe"), USHER__V1__ERROR__CODE__INBOX_FULL);
}

/* Many players are few who have many names: of all there is they get three quarters. */
static void the_last_quarter_is_for_services(void **state)
{
    enum { ALL = 8, PLAYERS = 6 };
    struct stand *stand = *state;
    char user[16];
    stand->limits.inbox_stored_total = ALL;
    for (unsigned i = 0; i < ALL + 2; i++) {
        (void)snprintf(user, sizeof(user), "user%u", i);
        uint16_t code = i < PLAYERS ? 0 : USHER__V1__ERROR__CODE__INBOX_FULL;
        assert_int_equal(store_from(stand, user, user), code);
    }
    assert_int_equal(stored_look(stand->stored).percent, 100); /* one was refused */
    for (unsigned i = 0; i < 4; i++) {
        uint16_t code = i < ALL - PLAYERS ? 0 : USHER__V1__ERROR__CODE__INBOX_FULL;
        assert_int_equal(stand_store(stand, "bob", of_service(stand, "hello"), NULL), code);
    }
    stand->limits.inbox_stored_total = 1000;
    stand->limits.inbox_stored_total_bytes = stored_look(stand->stored).bytes + 100;
    assert_int_equal(store_from(stand, "ann", "bob"), USHER__V1__ERROR__CODE__INBOX_FULL);
    assert_int_equal(stand_store(stand, "bob", of_service(stand, "hello"), NULL), 0);
}

static void senders_have_rates(void **state)
{
    struct stand *stand = *state;
    stand->limits.inbox_stored_per_second = 5;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(store_from(stand, "ann", i % 2 ? "bob" : "eve"), 0);
    assert_int_equal(store_from(stand, "ann", "dan"), USHER__V1__ERROR__CODE__RATE_LIMITED);
    assert_int_equal(stand_metric(stand, METRIC_stored_refused_rate), 1);
    assert_int_equal(store_from(stand, "joe", "bob"), 0);
    for (unsigned i = 0; i < 20; i++) /* services have none */
        assert_int_equal(stand_store(stand, "bob", of_service(stand, "x"), NULL), 0);
    stand->ms += 200;
    assert_int_equal(store_from(stand, "ann", "dan"), 0);
    assert_int_equal(store_from(stand, "ann", "dan"), USHER__V1__ERROR__CODE__RATE_LIMITED);
}

static uint16_t store_away(struct stand *stand, const char *user)
{
    struct change *change = change_make(CHANGE_STORE, user);
    change->away = true;
    change_add(change, of_player(stand, "ann", "hello"));
    assert_int_equal(stand_commit(stand, NULL, change), 0);
    uint16_t refusal = change->stored->refusal;
    change_free(change);
    return refusal;
}

static void to_those_who_are_away_fewer(void **state)
{
    struct stand *stand = *state;
    stand->limits.inbox_offline_per_hour = 3;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(store_away(stand, i == 0 ? "bob" : "eve"), 0);
    assert_int_equal(store_away(stand, "dan"), USHER__V1__ERROR__CODE__RATE_LIMITED);
    assert_int_equal(store_from(stand, "ann", "bob"), 0); /* he is there */
    stand->ms += 20 * 60 * 1000;
    assert_int_equal(store_away(stand, "dan"), 0);
    assert_int_equal(store_away(stand, "dan"), USHER__V1__ERROR__CODE__RATE_LIMITED);
}

/* What is refused for another reason costs no rate. */
static void a_refusal_spends_nothing(void **state)
{
    struct stand *stand = *state;
    stand->limits.inbox_stored_per_second = 2;
    stand->limits.inbox_stored_messages = 1;
    assert_int_equal(store_from(stand, "ann", "bob"), 0);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(store_from(stand, "ann", "bob"), USHER__V1__ERROR__CODE__INBOX_FULL);
    assert_int_equal(store_from(stand, "ann", "eve"), 0);
    assert_int_equal(store_from(stand, "ann", "dan"), USHER__V1__ERROR__CODE__RATE_LIMITED);
}

/* keep_s above what a reload has made of inbox.keep_max_s is cut. */
static void nothing_is_kept_for_longer(void **state)
{
    struct stand *stand = *state;
    stand->limits.inbox_keep_max_s = 10;
    assert_int_equal(store_from(stand, "ann", "bob"), 0);
    stand->ms += 12000;
    struct change *login = stand_login(stand, "bob", 0);
    assert_int_equal(login->stored_count, 0);
    assert_true(login->stored_lost);
    change_free(login);
}

/* --- the log has no room ---------------------------------------------------------------------- */

/* The store says no: each is told, and what is done makes room again. */
static void a_full_log_refuses_and_recovers(void **state)
{
    struct stand *stand = *state;
    unsigned in = 0;
    uint64_t mid = 0, last = 0;
    store_memory_bound_log(stand->store, 200000);
    while (stand_store(stand, "bob", of_size(stand, 1000), &mid) == 0) {
        last = mid;
        in++;
    }
    assert_true(in > 150 && in < 200);
    assert_int_equal(stand_metric(stand, METRIC_stored_refused_map), 1);
    assert_int_equal(stored_look(stand->stored).percent, 100); /* the store says so, not its size */
    assert_int_equal(summary_of(stand, "bob").count, in);
    stored_done(stand->stored, "bob", last); /* there is no room for that either */
    for (unsigned i = 0; i < 8; i++)
        change_free(stand_login(stand, "bob", 0));
    assert_int_equal(summary_of(stand, "bob").count, 0);
    assert_true(stored_look(stand->stored).log_bytes < 70000);
    assert_int_equal(stand_store(stand, "bob", of_size(stand, 1000), NULL), 0);
    assert_true(stored_look(stand->stored).percent < 10);
    struct stored_summary before = summary_of(stand, "bob");
    stand_restart(stand);
    assert_int_equal(summary_of(stand, "bob").count, before.count);
}

/* Before that its own measure refuses, so that there is room for what makes room. */
/* What lives of it lies everywhere, and there is no room to write again what one transaction reads.
 */
static void a_full_log_is_cleaned_in_parts(void **state)
{
    struct stand *stand = *state;
    char user[16];
    uint64_t mids[10] = {0};
    store_memory_bound_log(stand->store, 300000);
    stand->limits.store_map_bytes = 700000; /* of which the log has half */
    unsigned in = 0;
    for (;; in++) {
        (void)snprintf(user, sizeof(user), "user%u", in % 10);
        if (stand_store(stand, user, of_size(stand, 700), &mids[in % 10]) != 0)
            break;
    }
    store_memory_bound_log(stand->store, stored_look(stand->stored).log_bytes + 3000);
    for (unsigned i = 4; i < 10; i++) {
        (void)snprintf(user, sizeof(user), "user%u", i);
        stored_done(stand->stored, user, mids[i]);
    }
    unsigned rounds = 0;
    do {
        assert_true(rounds++ < 100);
        assert_int_equal(stand_commit(stand, NULL, NULL), 0);
    } while (stored_is_due(stand->stored));
    store_memory_bound_log(stand->store, 300000);
    assert_true(stored_look(stand->stored).log_bytes < 250000);
    assert_int_equal(stand_store(stand, "bob", of_size(stand, 7000), NULL), 0);
    for (int life = 0; life < 2; life++) {
        for (unsigned i = 0; i < 4; i++) {
            (void)snprintf(user, sizeof(user), "user%u", i);
            assert_int_equal(summary_of(stand, user).count, in / 10 + (i < in % 10));
        }
        stand_restart(stand);
    }
}

static void a_part_of_the_map_is_for_cleaning(void **state)
{
    struct stand *stand = *state;
    unsigned in = 0;
    stand->limits.store_map_bytes = 1 << 20;
    while (stand_store(stand, "bob", of_size(stand, 900), NULL) == 0)
        in++;
    uint64_t log_bytes = stored_look(stand->stored).log_bytes;
    assert_int_equal(stand_metric(stand, METRIC_stored_refused_map), 1);
    assert_true(log_bytes > 400000 && log_bytes < (1 << 19) * 7 / 8);
    assert_int_equal(stored_look(stand->stored).percent, 100); /* a message found no room */
    stand->ms += 60000;
    assert_in_range(stored_look(stand->stored).percent, 99, 100);
    stored_done(stand->stored, "bob", atomic_load(&stand->mid_last) - in / 2);
    for (unsigned i = 0; i < 4; i++)
        change_free(stand_login(stand, "bob", 0));
    assert_true(stored_look(stand->stored).log_bytes < log_bytes * 7 / 8);
    assert_int_equal(stand_store(stand, "bob", of_size(stand, 900), NULL), 0);
}

/* --- tags ------------------------------------------------------------------------------------- */

static struct deliver_message *tagged(struct stand *stand, uint64_t tag)
{
    struct deliver_message *message = of_player(stand, "ann", "hello");
    message->tag = tag;
    return message;
}

/* --- what lies beside a payload --------------------------------------------------------------- */

#define TRACEPARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static struct deliver_message *of_trace(struct stand *stand, const char *payload, const char *trace)
{
    struct deliver_message *message =
        deliver_create_traced(bytes_of_text("anna"), bytes_of_text(payload), bytes_of_text(trace));
    assert_non_null(message);
    message->keep_s = 3600;
    message->time_ms = stand_wall(stand);
    return message;
}

static void assert_traces(struct stand *stand)
{
    struct change *window = stand_window(stand, "bob", 0, 10, 10000);
    const struct deliver_message *message = window->stored;
    for (int i = 0; i < 3; i++) {
        const char *wanted = i == 1 ? "" : TRACEPARENT;
        assert_non_null(message);
        assert_true(bytes_equal(deliver_payload(message), bytes_of_text(i == 1 ? "" : "gift")));
        assert_true(bytes_equal(deliver_traceparent(message), bytes_of_text(wanted)));
        message = (const struct deliver_message *)message->header.next;
    }
    assert_null(message);
    change_free(window);
}

/* As it was given, after a crash, and when it was written again by a cleaning. */
static void a_traceparent_stays(void **state)
{
    struct stand *stand = *state;
    assert_int_equal(stand_store(stand, "bob", of_trace(stand, "gift", TRACEPARENT), NULL), 0);
    assert_int_equal(stand_store(stand, "bob", of_trace(stand, "", ""), NULL), 0);
    assert_int_equal(stand_store(stand, "bob", of_trace(stand, "gift", TRACEPARENT), NULL), 0);
    assert_traces(stand);
    stand_restart(stand);
    assert_traces(stand);
    uint64_t first = stand->stored->log_first;
    for (int i = 0; i < 400; i++) {
        uint64_t mid;
        assert_int_equal(stand_store(stand, "carol", of_size(stand, 1900), &mid), 0);
        stored_done(stand->stored, "carol", mid);
    }
    assert_true(stand->stored->log_first > first + 100); /* the old values are gone */
    assert_traces(stand);
    stand_restart(stand);
    assert_traces(stand);
}

static void a_tag_is_known_for_ten_minutes(void **state)
{
    struct stand *stand = *state;
    uint64_t first, second;
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 7), &first), 0);
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 7), &second), 0);
    assert_int_equal(first, second);
    assert_int_equal(stand_metric(stand, METRIC_stored_repeated), 1);
    assert_int_equal(stand_store(stand, "eve", tagged(stand, 7), &second), 0);
    assert_int_not_equal(first, second);
    stand->ms += 599000;
    stand_restart(stand);
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 7), &second), 0);
    assert_int_equal(first, second);
    stand->ms += 3000;
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 7), &second), 0);
    assert_int_not_equal(first, second);
}

/* Ten minutes are ten minutes, whoever sets the clock meanwhile; after a start an entry that seems
 * to come from the future is as new as can be. */
static void a_tag_follows_no_clock_that_is_set(void **state)
{
    enum { HOUR_MS = 3600000 };
    struct stand *stand = *state;
    uint64_t first, second;
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 7), &first), 0);
    stand->wall_off_ms = HOUR_MS;
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 7), &second), 0);
    assert_int_equal(first, second);
    stand->wall_off_ms = -24 * HOUR_MS;
    stand->ms += 500000;
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 7), &second), 0);
    assert_int_equal(first, second);
    stand->ms += 102000;
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 7), &second), 0);
    assert_true(second > first);
    stand->wall_off_ms -= HOUR_MS;
    stand_restart(stand);
    stand->ms += 500000;
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 7), &first), 0);
    assert_int_equal(first, second);
    stand->ms += 102000;
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 7), &first), 0);
    assert_true(first > second);
}

/* A message with a tag that could not be remembered is not stored: it could come twice. */
static void tags_are_bounded(void **state)
{
    struct stand *stand = *state;
    uint64_t first, again;
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 1), &first), 0);
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 2), NULL), 0);
    stored_done(stand->stored, "bob", atomic_load(&stand->mid_last));
    stand->limits.inbox_stored_total = 2;
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 3), NULL),
                     USHER__V1__ERROR__CODE__BUSY);
    stand->limits.inbox_stored_total = 3; /* rounded up: all of so few */
    struct deliver_message *gift = of_service(stand, "hello");
    gift->tag = 1;
    assert_int_equal(stand_store(stand, "bob", gift, NULL), 0);
    stand->limits.inbox_stored_total = 4;
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 3), NULL),
                     USHER__V1__ERROR__CODE__BUSY);
    gift = of_service(stand, "hello");
    gift->tag = 2;
    assert_int_equal(stand_store(stand, "bob", gift, NULL), 0);               /* the last quarter */
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 1), &again), 0); /* it is known */
    assert_int_equal(first, again);
    assert_int_equal(store_from(stand, "ann", "bob"), 0);
    stand->limits.inbox_stored_total = 10;
    stand->ms += 601000;
    for (unsigned i = 0; i < 8; i++)
        change_free(stand_login(stand, "nobody", 0)); /* they are looked for */
    assert_int_equal(stand_store(stand, "bob", tagged(stand, 3), NULL), 0);
}

/* --- damage ----------------------------------------------------------------------------------- */

/* What is in it is lost, and only that; its receivers are told. */
static void damage_costs_what_is_in_it(void **state)
{
    struct stand *stand = *state;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(store_from(stand, "ann", "bob"), 0);
    store_memory_damage_log(stand->store, 3);
    struct change *window = stand_window(stand, "bob", 0, 100, 100000);
    unsigned count = 0;
    for (struct message *next = &window->stored->header; next != NULL; next = next->next)
        count++;
    assert_int_equal(window->error, 0);
    assert_int_equal(count, 4);
    assert_int_equal(stand_metric(stand, METRIC_log_damaged), 1);
    change_free(window);
    change_free(stand_window(stand, "bob", 0, 100, 100000));
    assert_int_equal(stand_metric(stand, METRIC_log_damaged), 1); /* once */
    for (unsigned round = 0; round < 2; round++) {
        struct change *login = stand_login(stand, "bob", 0);
        assert_int_equal(login->stored_count, 4);
        assert_true(login->stored_lost);
        change_free(login);
        stand_restart(stand);
    }
    assert_true(stand_metric(stand, METRIC_log_damaged) > 1); /* by each start */
}

/* A start and a cleaning pass over it. */
static void damage_is_cleaned_away(void **state)
{
    struct stand *stand = *state;
    uint64_t mid;
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(stand_store(stand, "bob", of_size(stand, 1900), &mid), 0);
    for (uint64_t number = 10; number < 20; number++)
        store_memory_damage_log(stand->store, number);
    stand_restart(stand);
    assert_int_equal(stand_metric(stand, METRIC_log_damaged), 10);
    assert_int_equal(summary_of(stand, "bob").count, 90);
    stored_done(stand->stored, "bob", mid - 5);
    for (unsigned i = 0; i < 5; i++)
        change_free(stand_login(stand, "bob", 0));
    assert_int_equal(summary_of(stand, "bob").count, 5);
    assert_true(stored_look(stand->stored).log_bytes < 70000);
    struct store_position position;
    assert_int_equal(store_position(stand->store, &position), 0);
    assert_true(position.log_values < 40 && position.log_first > 50);
    assert_int_equal(stored_look(stand->stored).log_bytes, position.log_bytes);
}

/* --- cleaning --------------------------------------------------------------------------------- */

/* However much comes and goes, the log stays within some times of what lives, and no transaction
 * writes much more than what it was asked to. */
static void the_log_stays_small(void **state)
{
    struct stand *stand = *state;
    const uint32_t sizes[] = {20, 128, 1900, 60000};
    stand->limits.inbox_stored_bytes = 1 << 30;
    stand->limits.inbox_stored_messages = 1000000;
    for (unsigned round = 0; round < 4000; round++) {
        char user[16];
        snprintf(user, sizeof(user), "user%u", round % 50);
        uint64_t cleaned = stand_metric(stand, METRIC_log_cleaned_bytes);
        struct change *change = change_make(CHANGE_STORE, user);
        uint32_t size = sizes[round / 1000];
        for (unsigned i = 0; i < 8; i++)
            change_add(change, of_size(stand, size));
        assert_int_equal(stand_commit(stand, NULL, change), 0);
        assert_int_equal(change->stored->refusal, 0);
        stored_done(stand->stored, user, change->stored->mid);
        change_free(change);
        cleaned = stand_metric(stand, METRIC_log_cleaned_bytes) - cleaned;
        uint64_t budget = 4 * 8 * (size + 100);
        assert_true(cleaned <= (budget > CLEAN_BYTES ? budget : CLEAN_BYTES) + 2000);
        struct stored_look look = stored_look(stand->stored);
        assert_true(look.log_bytes <= 4 * look.bytes + 2 * CLEAN_FLOOR_BYTES);
    }
}

/* What nobody asks for any more is written to by nobody: cleaning comes to an end. */
static void cleaning_ends(void **state)
{
    struct stand *stand = *state;
    for (unsigned i = 0; i < 300; i++)
        assert_int_equal(stand_store(stand, "bob", of_size(stand, 1000), NULL), 0);
    stored_done(stand->stored, "bob", atomic_load(&stand->mid_last) - 20);
    unsigned rounds = 0;
    while (stored_is_due(stand->stored) || rounds == 0) {
        assert_true(rounds++ < 20);
        stand->ms += 1000;
        assert_int_equal(stand_commit(stand, NULL, NULL), 0);
    }
    assert_true(stored_look(stand->stored).log_bytes <= CLEAN_FLOOR_BYTES);
    assert_int_equal(summary_of(stand, "bob").count, 20);
}

/* While somebody reads, what he looks for is moved: he finds it. */
struct mover {
    struct stand *stand;
    unsigned rounds;
    int (*get_log)(struct store *store, const uint64_t *numbers, size_t count, store_log_each *each,
                   void *context);
};

static struct mover mover;
static struct store_ops moving_ops;

static int move_first(struct store *store, const uint64_t *numbers, size_t count,
                      store_log_each *each, void *context)
{
    if (mover.rounds > 0) {
        mover.rounds--;
        assert_int_equal(stand_commit(mover.stand, NULL, NULL), 0);
    }
    return mover.get_log(store, numbers, count, each, context);
}

/* Of small messages between long names the names are most: who did not count them would believe
 * that most of the log is dead, and write it again for ever. */
static void what_lives_is_not_cleaned(void **state)
{
    struct stand *stand = *state;
    char name[STORE_NAME_BYTES_MAX + 1] = "", user[STORE_NAME_BYTES_MAX + 1] = "";
    memset(name, 'n', STORE_NAME_BYTES_MAX);
    memset(user, 'u', STORE_NAME_BYTES_MAX);
    stand->limits.inbox_log_spare = 2;
    for (unsigned i = 0; i < 1000; i++) {
        struct deliver_message *message = deliver_create_traced(
            bytes_of_text(name), bytes_of_text("x"), bytes_of_text(TRACEPARENT));
        assert_non_null(message);
        message->keep_s = 3600;
        message->tag = UINT64_MAX - i;
        message->time_ms = stand_wall(stand);
        (void)snprintf(user, 8, "%06u-", i / 100);
        user[7] = 'u';
        assert_int_equal(stand_store(stand, user, message, NULL), 0);
    }
    assert_true(stored_look(stand->stored).log_bytes > 2 * CLEAN_FLOOR_BYTES);
    assert_false(stored_is_due(stand->stored));
    stand->limits.store_map_bytes = stored_look(stand->stored).log_bytes * 5 / 2;
    assert_false(stored_is_due(stand->stored)); /* nor when it is all that it has */
    stand_restart(stand);
    assert_false(stored_is_due(stand->stored));
    assert_int_equal(stand_metric(stand, METRIC_log_cleaned_bytes), 0);
}

static void a_reader_finds_what_is_moved(void **state)
{
    struct stand *stand = *state;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(stand_store(stand, "bob", of_size(stand, 1500), NULL), 0);
        for (unsigned j = 0; j < 5; j++)
            assert_int_equal(stand_store(stand, "eve", of_size(stand, 1500), NULL), 0);
    }
    stored_done(stand->stored, "eve", atomic_load(&stand->mid_last));
    assert_int_equal(stand_commit(stand, NULL, NULL), 0);
    assert_true(stored_is_due(stand->stored));
    const struct store_ops *ops = stand->store->ops;
    moving_ops = *ops;
    mover = (struct mover){stand, 2, ops->get_log};
    moving_ops.get_log = move_first;
    stand->store->ops = &moving_ops;
    struct change *window = stand_window(stand, "bob", 0, 100, 1 << 20);
    stand->store->ops = ops;
    unsigned count = 0;
    for (struct message *next = &window->stored->header; next != NULL; next = next->next)
        count++;
    assert_int_equal(mover.rounds, 0);
    assert_true(stand_metric(stand, METRIC_log_cleaned_bytes) > 0);
    assert_int_equal(count, 100);
    assert_int_equal(stand_metric(stand, METRIC_log_damaged), 0);
    change_free(window);
}

/* --- what is noted ---------------------------------------------------------------------------- */

static void notes_are_bounded(void **state)
{
    struct stand *stand = *state;
    char user[16];
    bool soon = false;
    assert_int_equal(store_from(stand, "ann", "bob"), 0);
    for (unsigned i = 0; i < DONES_MAX + 10; i++) {
        snprintf(user, sizeof(user), "user%u", i);
        soon = stored_done(stand->stored, user, 1);
        assert_int_equal(soon, i + 1 >= DONES_SOON);
    }
    assert_int_equal(stand_metric(stand, METRIC_stored_done_missed), 10);
    uint64_t bytes = stored_look(stand->stored).log_bytes;
    assert_int_equal(stand_commit(stand, NULL, NULL), 0); /* nobody has anything */
    assert_int_equal(stored_look(stand->stored).log_bytes, bytes);
    stored_done(stand->stored, "bob", atomic_load(&stand->mid_last));
    assert_false(stored_is_due(stand->stored));
    stand->ms += 1000;
    assert_true(stored_is_due(stand->stored));
    assert_int_equal(stand_commit(stand, NULL, NULL), 0);
    assert_false(stored_is_due(stand->stored));
    assert_int_equal(stand_metric(stand, METRIC_stored_done), 1);
}

/* Nobody says a drop again, so it has a place where what is processed has none. */
static void a_drop_is_always_noted(void **state)
{
    struct stand *stand = *state;
    char user[16];
    uint64_t mid;
    assert_int_equal(stand_store(stand, "bob", of_size(stand, 10), &mid), 0);
    for (unsigned i = 0; i < DONES_MAX + 10; i++) {
        (void)snprintf(user, sizeof(user), "user%u", i);
        stored_done(stand->stored, user, 1);
    }
    assert_int_equal(stored_drop(stand->stored, "bob", mid, NULL), 1);
    assert_int_equal(stand_commit(stand, NULL, NULL), 0);
    assert_int_equal(summary_of(stand, "bob").count, 0);
    assert_int_equal(stand_metric(stand, METRIC_stored_dropped), 1);
}

/* A login says how far it was. Who has nothing leaves no note, however many names come. */
static void who_has_nothing_leaves_no_note(void **state)
{
    struct stand *stand = *state;
    struct change *login = change_make(CHANGE_ATTACH, "eve");
    uint64_t mid;
    login->last_mid = 7;
    assert_false(stored_plan(stand->stored, login, NULL));
    assert_int_equal(stand_store(stand, "bob", of_size(stand, 10), &mid), 0);
    store_memory_cut(stand->store, false);
    assert_int_equal(stand_store(stand, "bob", of_size(stand, 10), NULL), UNAVAILABLE);
    assert_false(stored_plan(stand->stored, login, NULL));
    assert_int_equal(stand->stored->notes.count, 0);
    change_free(login);
    login = change_make(CHANGE_ATTACH, "bob");
    login->last_mid = mid;
    assert_false(stored_plan(stand->stored, login, NULL)); /* it waits until the store is sound */
    store_memory_crash(stand->store);
    assert_int_equal(stand_commit(stand, NULL, NULL), 0);
    assert_int_equal(summary_of(stand, "bob").count, 0);
    change_free(login);
}

/* --- a store that fails ----------------------------------------------------------------------- */

/* As long as nobody can tell what the log has nothing is stored, and it is not in the way of who
 * logs in: there is nothing to be written. */
static void in_doubt_nothing_is_stored(void **state)
{
    struct stand *stand = *state;
    struct change *change = change_make(CHANGE_STORE, "bob");
    change_add(change, of_size(stand, 10));
    assert_int_equal(stand_store(stand, "bob", of_size(stand, 10), NULL), 0);
    store_memory_cut(stand->store, false);
    assert_int_equal(stand_store(stand, "bob", of_size(stand, 10), NULL), UNAVAILABLE);
    assert_false(stored_plan(stand->stored, NULL, change));
    assert_int_equal(change->stored->refusal, UNAVAILABLE);
    assert_int_equal(stand_metric(stand, METRIC_stored_refused_store), 2);
    store_memory_crash(stand->store);
    assert_int_equal(stand_store(stand, "bob", of_size(stand, 10), NULL), 0);
    assert_int_equal(summary_of(stand, "bob").count, 2);
    change_free(change);
}

static void what_is_dropped_is_told(void **state)
{
    struct stand *stand = *state;
    uint64_t mid, bytes;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(stand_store(stand, "bob", of_size(stand, 10), &mid), 0);
    assert_int_equal(stored_drop(stand->stored, "bob", mid - 1, &bytes), 3);
    assert_int_equal(bytes, 30);
    assert_int_equal(stand_commit(stand, NULL, NULL), 0);
    assert_int_equal(stand_metric(stand, METRIC_stored_dropped), 3);
    stand_restart(stand);
    struct change *login = stand_login(stand, "bob", 0);
    assert_int_equal(login->stored_count, 1);
    assert_true(login->stored_lost);
    change_free(login);
    login = stand_login(stand, "bob", mid); /* he has what came after it */
    assert_int_equal(login->stored_count, 0);
    assert_false(login->stored_lost);
    change_free(login);
    stand_restart(stand);
    login = stand_login(stand, "bob", 0);
    assert_false(login->stored_lost);
    change_free(login);
}

/* Who does not come for a month is not told. */
static void losses_are_forgotten(void **state)
{
    struct stand *stand = *state;
    assert_int_equal(stand_store(stand, "bob", message_make(stand, "ann", "x", 1), NULL), 0);
    stand->ms += 3000;
    change_free(stand_login(stand, "bob", 0));
    stand->ms += UINT64_C(86400000) * 29;
    struct change *login = stand_login(stand, "bob", 0);
    assert_true(login->stored_lost);
    change_free(login);
    stand->ms += UINT64_C(86400000) * 2;
    for (unsigned i = 0; i < 4; i++)
        change_free(stand_login(stand, "nobody", 0));
    login = stand_login(stand, "bob", 0);
    assert_false(login->stored_lost);
    change_free(login);
    assert_int_equal(stand_metric(stand, METRIC_stored_losses_forgotten), 1);
}

/* --- one payload for many --------------------------------------------------------------------- */

static void a_payload_for_many_is_written_once(void **state)
{
    enum { MANY = 1000, SIZE = 1500 };
    struct stand *stand = *state;
    static uint8_t payload[SIZE];
    struct push_run run;
    const struct push push = {.service = bytes_of_text("gifts"), .payload = {payload, SIZE}};
    struct change *first = NULL, **end = &first;
    assert_int_equal(push_begin(&run, push, stand_wall(stand), 0, MANY), 0);
    for (unsigned i = 0; i < MANY; i++) {
        char user[16];
        snprintf(user, sizeof(user), "user%u", i);
        *end = change_make(CHANGE_STORE, user);
        struct deliver_message *message = push_next(&run);
        assert_non_null(message);
        message->keep_s = 3600;
        message->tag = 5;
        change_add(*end, message);
        end = &(*end)->next;
    }
    push_end(&run);
    assert_int_equal(stand_commit(stand, NULL, first), 0);
    change_free(first);
    struct stored_look look = stored_look(stand->stored);
    assert_int_equal(look.messages, MANY);
    assert_true(look.log_bytes < 4 * (SIZE + 100) + MANY * 20);
    assert_true(look.log_bytes > 4 * SIZE); /* and an entry stays a small piece of work */
    struct change *window = stand_window(stand, "user999", 0, 10, 10000);
    assert_non_null(window->stored);
    assert_int_equal(window->stored->payload_size, SIZE);
    change_free(window);
    stand_restart(stand);
    assert_int_equal(stored_look(stand->stored).bytes, look.bytes);
}

/* --- how much --------------------------------------------------------------------------------- */

static int64_t held;

static uint64_t now_us(void)
{
    return env_monotonic_ns(env_system()) / 1000;
}

static void a_million(void **state)
{
    enum { MILLION = 1000000, USERS = 100000, AT_ONCE = 1000 };
    struct stand *stand = *state;
    stand->limits.inbox_stored_total = 2 * MILLION;
    stand->limits.store_map_bytes = UINT64_C(16) << 30;
    for (unsigned round = 0; round < MILLION / AT_ONCE; round++) {
        struct change *first = NULL, **end = &first;
        for (unsigned i = 0; i < AT_ONCE; i++, end = &(*end)->next) {
            char user[24];
            snprintf(user, sizeof(user), "user%u", (round * AT_ONCE + i) % USERS);
            *end = change_make(CHANGE_STORE, user);
            change_add(*end, of_size(stand, 128));
        }
        assert_int_equal(stand_commit(stand, NULL, first), 0);
        change_free(first);
    }
    struct bank *boxes = &stand->stored->index.boxes;
    uint64_t places = 0, rows = 0;
    struct bank_place place = {0};
    uint32_t looks = UINT32_MAX;
    for (uint64_t left = boxes->count; left > 0; left--)
        places += ((struct box *)bank_walk(boxes, &place, &looks))->capacity;
    for (unsigned i = 0; i < BANK_SHARDS; i++)
        rows += boxes->shards[i].size;
    held = (int64_t)(places * sizeof(struct place));
    uint64_t began_us = now_us();
    stand_restart(stand);
    printf("1000000 for 100000 users: %.1f B a message, %.1f B a user; read in %.0f ms\n",
           (double)held / MILLION, (double)rows * sizeof(struct box) / USERS,
           (double)(now_us() - began_us) / 1000);
    assert_int_equal(stored_look(stand->stored).messages, MILLION);
    assert_true(held <= 40 * (int64_t)MILLION);
    assert_true(rows * sizeof(struct box) <= 128 * USERS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_user_has_so_many),
        TEST(what_has_expired_is_in_nobodys_way),
        TEST(a_user_has_so_many_bytes),
        TEST(limits_count_within_a_change),
        TEST(the_node_has_so_many),
        TEST(the_last_quarter_is_for_services),
        TEST(senders_have_rates),
        TEST(to_those_who_are_away_fewer),
        TEST(a_refusal_spends_nothing),
        TEST(nothing_is_kept_for_longer),
        TEST(a_full_log_refuses_and_recovers),
        TEST(a_full_log_is_cleaned_in_parts),
        TEST(a_part_of_the_map_is_for_cleaning),
        TEST(a_traceparent_stays),
        TEST(a_tag_is_known_for_ten_minutes),
        TEST(a_tag_follows_no_clock_that_is_set),
        TEST(tags_are_bounded),
        TEST(damage_costs_what_is_in_it),
        TEST(damage_is_cleaned_away),
        TEST(the_log_stays_small),
        TEST(cleaning_ends),
        TEST(what_lives_is_not_cleaned),
        TEST(a_reader_finds_what_is_moved),
        TEST(notes_are_bounded),
        TEST(a_drop_is_always_noted),
        TEST(who_has_nothing_leaves_no_note),
        TEST(in_doubt_nothing_is_stored),
        TEST(what_is_dropped_is_told),
        TEST(losses_are_forgotten),
        TEST(a_payload_for_many_is_written_once),
        TEST(a_million),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
