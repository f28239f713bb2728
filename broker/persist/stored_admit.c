/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "client.pb-c.h"
#include "persist/stored_private.h"

/* Whether one more may be stored. Everything that a sender could fill is somebody's part: of a
 * receiver's room players have one and services another; of all the room there is for what lives,
 * and of the tags that are remembered, the last quarter is for services, since rates bound a player
 * and nobody knows how many players are one; and the log keeps an eighth of its half of the map for
 * what makes room (what is done, and what is moved by a cleaning), so that it is never too full to
 * get emptier.
 *
 * Rates are kept by the name of the sender, in tables that forget who has spent least
 * (actors/spent.h). They are spent by what is stored and not by what is refused otherwise. */

enum {
    HOUR_S = 3600,
    SERVICES_PART = 4, /* 1/n of all, which players do not get */
    FULL_TOLD = 80,
    FULL_OVER = 70,
    ALL = 100,
    TOLD_AGAIN_MS = 60000
};

static const char MAP[] = "store.map_bytes";

static bool rate_allows(struct spent *spent, struct bytes sender, uint64_t limit,
                        uint64_t period_us, uint64_t now_ms, bool spend)
{
    if (limit == 0)
        return true;
    struct allowance_terms terms = allowance_over((uint32_t)limit, period_us);
    struct allowance allowance = spent_take(spent, sender);
    bool allowed = allowance_wait_ms(&allowance, terms, now_ms) == 0;
    if (allowed && spend)
        allowance_spend(&allowance, terms, now_ms);
    spent_put(spent, sender, allowance);
    return allowed;
}

static bool rates_allow(struct stored *stored, bool away, const struct deliver_message *message,
                        bool spend)
{
    const struct limits *limits = stored->options.limits;
    struct bytes sender = deliver_name(message);
    uint64_t now_ms = stored->plan.now_ms;
    if (message->from_service)
        return true;
    if (!rate_allows(stored->rates, sender, inbox_stored_per_second(limits), 1000000, now_ms,
                     spend))
        return false;
    return !away || rate_allows(stored->away_rates, sender, inbox_offline_per_hour(limits),
                                UINT64_C(1000000) * HOUR_S, now_ms, spend);
}

/* Of the receiver: what he has, and what comes before this one. */
static bool user_has_room(struct stored *stored, uint64_t key,
                          const struct deliver_message *message, const struct admitting *so_far)
{
    const struct limits *limits = stored->options.limits;
    const struct box *box = index_box(stored, key);
    uint64_t count = so_far->count, bytes = so_far->bytes;
    if (message->from_service) {
        count = so_far->service_count + (box != NULL ? box->service_count : 0);
        bytes = (uint64_t)so_far->service_bytes + (box != NULL ? box->service_bytes : 0);
    } else if (box != NULL) {
        count += box->count - box->service_count;
        bytes += box->bytes;
    }
    return count < inbox_stored_messages(limits) &&
           bytes + message->payload_size <= inbox_stored_bytes(limits);
}

/* How much of all there is for who sends it. */
uint64_t stored_part_for(const struct deliver_message *message, uint64_t all)
{
    return message->from_service ? all : all - all / SERVICES_PART;
}

/* The option that says no; NULL: there is room. */
static const char *total_refuses(const struct stored *stored, const struct deliver_message *message,
                                 uint64_t entry_bytes)
{
    const struct limits *limits = stored->options.limits;
    const struct index *index = &stored->index;
    if (index->messages + stored->plan.messages >=
        stored_part_for(message, inbox_stored_total(limits)))
        return "inbox.stored_total";
    if (index->live_bytes + stored->plan.bytes + entry_bytes >
        stored_part_for(message, inbox_stored_total_bytes(limits)))
        return "inbox.stored_total_bytes";
    return NULL;
}

static bool log_has_room(const struct stored *stored, const struct deliver_message *message,
                         uint64_t entry_bytes)
{
    uint64_t max = stored_room_max(stored);
    return stored->log_room + stored_room_of(stored->plan.bytes + entry_bytes) <=
           stored_part_for(message, max - max / 8);
}

static void no_room(struct stored *stored, const char *limit)
{
    stored->refusing = limit;
    stored->refused_ms = stored->plan.now_ms;
}

void stored_no_room(struct stored *stored)
{
    stored_count(stored, METRIC_stored_refused_map, 1);
    no_room(stored, MAP);
}

static uint16_t refuse(const struct stored *stored, enum metric_id metric, uint16_t code)
{
    stored_count(stored, metric, 1);
    return code;
}

static uint16_t judge(struct stored *stored, uint64_t key, bool away,
                      const struct deliver_message *message, const struct admitting *so_far)
{
    if (memory_level() == MEMORY_FULL || (message->tag != 0 && tags_are_full(stored, message)))
        return refuse(stored, METRIC_stored_refused_busy, USHER__V1__ERROR__CODE__BUSY);
    if (!rates_allow(stored, away, message, false))
        return refuse(stored, METRIC_stored_refused_rate, USHER__V1__ERROR__CODE__RATE_LIMITED);
    if (!user_has_room(stored, key, message, so_far)) {
        index_expire(stored, key, stored->plan.now_s);
        if (!user_has_room(stored, key, message, so_far))
            return refuse(stored, METRIC_stored_refused_user, USHER__V1__ERROR__CODE__INBOX_FULL);
    }
    const char *refusing = total_refuses(stored, message, so_far->entry_bytes + so_far->name_bytes);
    if (refusing != NULL) {
        no_room(stored, refusing);
        return refuse(stored, METRIC_stored_refused_total, USHER__V1__ERROR__CODE__INBOX_FULL);
    }
    if (!log_has_room(stored, message, so_far->entry_bytes + so_far->name_bytes)) {
        no_room(stored, MAP);
        return refuse(stored, METRIC_stored_refused_map, USHER__V1__ERROR__CODE__INBOX_FULL);
    }
    return 0;
}

uint16_t stored_admit(struct stored *stored, uint64_t key, bool away,
                      const struct deliver_message *message, struct admitting *so_far)
{
    CHECK(lock_held(&stored->lock));
    uint16_t code = judge(stored, key, away, message, so_far);
    if (code != 0)
        return code;
    rates_allow(stored, away, message, true);
    so_far->count += !message->from_service;
    so_far->bytes += message->from_service ? 0 : message->payload_size;
    so_far->service_count += message->from_service;
    so_far->service_bytes += message->from_service ? message->payload_size : 0;
    stored->plan.messages++;
    stored->plan.bytes += so_far->entry_bytes + so_far->name_bytes;
    return 0;
}

/* --- how full it is --------------------------------------------------------------------------- */

static uint32_t percent_of(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0 : (uint32_t)(part >= whole ? ALL : part * ALL / whole);
}

/* Of the fullest, whose option is *limit. One that had no room for the last that came is full, for
 * a minute, whatever there is of it: sessions may have what is missing, or it was a player's part.
 */
static uint32_t fullest(const struct stored *stored, const char **limit)
{
    const struct limits *limits = stored->options.limits;
    uint64_t room_max = stored_room_max(stored);
    const struct {
        const char *limit;
        uint32_t percent;
    } rooms[] = {
        {"inbox.stored_total", percent_of(stored->index.messages, inbox_stored_total(limits))},
        {"inbox.stored_total_bytes",
         percent_of(stored->index.live_bytes, inbox_stored_total_bytes(limits))},
        {MAP, percent_of(stored->log_room, room_max - room_max / 8)},
    };
    unsigned most = 0;
    for (unsigned i = 1; i < sizeof(rooms) / sizeof(*rooms); i++)
        most = rooms[i].percent > rooms[most].percent ? i : most;
    *limit = rooms[most].limit;
    bool refuses = stored->refusing != NULL &&
                   env_monotonic_ms(stored->options.env) - stored->refused_ms < TOLD_AGAIN_MS;
    if (!refuses)
        return rooms[most].percent;
    *limit = stored->refusing;
    return ALL;
}

struct stored_look stored_look(struct stored *stored)
{
    const char *limit;
    lock_take(&stored->lock);
    struct stored_look look = {.messages = stored->index.messages,
                               .bytes = stored->index.live_bytes,
                               .log_bytes = stored->log_bytes,
                               .percent = fullest(stored, &limit)};
    lock_give(&stored->lock);
    return look;
}

void stored_tell_full(struct stored *stored)
{
    const char *limit;
    lock_take(&stored->lock);
    unsigned percent = fullest(stored, &limit);
    lock_give(&stored->lock);
    unsigned mark = percent >= ALL ? ALL : percent >= FULL_TOLD ? FULL_TOLD : 0;
    uint64_t now_ms = env_monotonic_ms(stored->options.env);
    if (mark > stored->told_full) {
        LOG(stored->options.log, STORED_FULL, LOG_U("percent", percent), LOG_S("limit", limit));
        stored->told_full = mark;
        stored->told_ms = now_ms;
    } else if (percent < FULL_OVER && now_ms - stored->told_ms >= TOLD_AGAIN_MS) {
        stored->told_full = mark; /* not for each that just fits, and does not again */
    }
}
