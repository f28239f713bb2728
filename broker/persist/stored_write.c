/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "persist/stored_private.h"

/* Three kinds of entries go into the log, in this order: what a cleaning writes again, what is
 * done, what comes. A start reads the log in its order, so what is done with must stand behind what
 * was written again, and in front of what it is not about. Small entries share values, which the
 * store keeps on shared pages. */

/* --- values ----------------------------------------------------------------------------------- */

/* The value in the making. What is in it hears its number by `tell`, in order. */
struct packer {
    struct stored *stored;
    struct buffer value;
    uint32_t from; /* the first item in it */
    void (*written)(struct plan *plan, uint32_t from, uint32_t to, uint64_t number);
    int error;   /* of the transaction */
    bool spares; /* room for what makes room */
};

static void flush(struct packer *packer, uint32_t to)
{
    struct stored *stored = packer->stored;
    struct plan *plan = &stored->plan;
    uint64_t number = 0;
    if (packer->value.size == 0 || packer->error != 0)
        return;
    const struct bytes value = {packer->value.data, packer->value.size};
    int result = packer->spares ? store_append_log_sparing(stored->options.store, value, &number)
                                : store_append_log(stored->options.store, value, &number);
    packer->error = result < 0 ? result : 0;
    if (result > 0) {
        plan->appended_bytes += value.size;
        plan->appended_room += stored_room_of(value.size);
        plan->appended_values++;
        plan->last_number = number;
        packer->written(plan, packer->from, to, number);
    }
    packer->value.size = 0;
    packer->from = to;
}

/* Gives where in its value it is; `item` is its place in the list. */
static uint32_t pack(struct packer *packer, uint32_t item, const struct log_entry *entry)
{
    size_t size = log_entry_size(entry);
    uint8_t *to;
    if (packer->value.size > 0 && packer->value.size + size > STORE_LOG_VALUE_BYTES)
        flush(packer, item);
    MEMORY_MUST((to = buffer_reserve(&packer->value, size)) != NULL, "a value of the log");
    CHECK(log_entry_put(to, entry) == to + size);
    uint32_t offset = (uint32_t)packer->value.size;
    packer->value.size += size;
    return offset;
}

static int finish(struct packer *packer, uint32_t to)
{
    flush(packer, to);
    buffer_fini(&packer->value);
    return packer->error;
}

/* A name as receivers are written. */
static struct bytes receiver_of(struct bytes name, uint8_t to[1 + STORE_NAME_BYTES_MAX])
{
    CHECK(name.size <= STORE_NAME_BYTES_MAX);
    to[0] = (uint8_t)name.size;
    return (struct bytes){to, (size_t)(bytes_put(to + 1, name) - to)};
}

/* --- entries ---------------------------------------------------------------------------------- */

static void moving_written(struct plan *plan, uint32_t from, uint32_t to, uint64_t number)
{
    for (uint32_t i = from; i < to; i++)
        plan->moving.items[i].number = number;
}

static int write_moving(struct stored *stored)
{
    struct plan *plan = &stored->plan;
    struct packer packer = {.stored = stored, .written = moving_written};
    for (uint32_t i = 0; i < plan->moving.count; i++) {
        struct moving *moving = &plan->moving.items[i];
        moving->entry.receivers.data = plan->names.data + moving->names_at;
        moving->offset = pack(&packer, i, &moving->entry);
    }
    int error = finish(&packer, plan->moving.count);
    plan->moved_bytes = plan->appended_bytes;
    for (uint32_t i = 0, at = 0; error == 0 && i < plan->values.count; i++) {
        uint64_t number = plan->values.items[i].number;
        for (; at < plan->moving.count && plan->moving.items[at].old_number == number; at++)
            if (plan->moving.items[at].number == 0)
                return 0; /* there is no room for what lives in it */
        error = store_drop_log(stored->options.store, number);
        plan->dropped = i + 1;
    }
    return error;
}

static void notes_written(struct plan *plan, uint32_t from, uint32_t to, uint64_t number)
{
    for (uint32_t i = from; i < to; i++)
        if (plan->notes.items[i].lost_mid != 0)
            plan->notes.items[i].lost_number = number;
}

static int write_notes(struct stored *stored)
{
    struct plan *plan = &stored->plan;
    struct packer packer = {.stored = stored, .written = notes_written};
    uint8_t name[1 + STORE_NAME_BYTES_MAX];
    for (uint32_t i = 0; i < plan->notes.count; i++) {
        struct note *note = &plan->notes.items[i];
        struct log_entry entry = {.kind = LOG_ENTRY_DONE,
                                  .receiver_count = 1,
                                  .receivers = receiver_of(bytes_of_text(note->user), name)};
        entry.mid = note->done_mid > note->drop_mid ? note->done_mid : note->drop_mid;
        if (entry.mid != 0)
            pack(&packer, i, &entry);
        if (note->lost_mid == 0)
            continue;
        entry.kind = LOG_ENTRY_LOST;
        entry.mid = note->lost_mid;
        entry.time_ms = plan->wall_ms;
        note->lost_bytes = (uint16_t)log_entry_size(&entry);
        pack(&packer, i, &entry);
    }
    return finish(&packer, plan->notes.count);
}

static void coming_written(struct plan *plan, uint32_t from, uint32_t to, uint64_t number)
{
    for (uint32_t i = from; i < to; i++)
        plan->coming.items[i].number = number;
}

uint64_t expires_ms(const struct stored *stored, const struct deliver_message *message)
{
    uint64_t max_s = inbox_keep_max_s(stored->options.limits);
    uint64_t keep_s = message->keep_s < max_s ? message->keep_s : max_s;
    return (stored->plan.wall_ms / 1000 + 1 + keep_s) * 1000;
}

static void put_names(struct stored *stored, const struct coming *coming)
{
    struct plan *plan = &stored->plan;
    uint8_t *to;
    plan->receivers.size = 0;
    MEMORY_MUST((to = buffer_reserve(&plan->receivers, coming->names_size)) != NULL, "names");
    for (uint32_t at = coming->first; at != UINT32_MAX; at = plan->keeps.items[at].next) {
        struct bytes user = bytes_of_text(plan->keeps.items[at].user);
        *to++ = (uint8_t)user.size;
        to = bytes_put(to, user);
    }
    plan->receivers.size = coming->names_size;
}

static struct bytes packed_of(const struct deliver_message *message,
                              uint8_t packed[TRACEPARENT_PACKED_BYTES])
{
    if (!message->traced)
        return (struct bytes){0};
    traceparent_pack(deliver_traceparent(message), packed);
    return (struct bytes){packed, TRACEPARENT_PACKED_BYTES};
}

static int write_coming(struct stored *stored)
{
    struct plan *plan = &stored->plan;
    struct packer packer = {.stored = stored, .written = coming_written, .spares = true};
    uint8_t traceparent[TRACEPARENT_PACKED_BYTES];
    for (uint32_t i = 0; i < plan->coming.count; i++) {
        struct coming *coming = &plan->coming.items[i];
        const struct deliver_message *message = coming->message;
        put_names(stored, coming);
        const struct log_entry entry = {.kind = LOG_ENTRY_KEPT,
                                        .from_service = message->from_service,
                                        .mid = coming->mid,
                                        .time_ms = message->time_ms,
                                        .expires_ms = expires_ms(stored, message),
                                        .tag = message->tag,
                                        .traceparent = packed_of(message, traceparent),
                                        .sender = deliver_name(message),
                                        .payload = deliver_payload(message),
                                        .receiver_count = coming->receiver_count,
                                        .receivers = {plan->receivers.data, plan->receivers.size}};
        coming->bytes = (uint32_t)(log_entry_size(&entry) - entry.receivers.size);
        coming->offset = pack(&packer, i, &entry);
    }
    return finish(&packer, plan->coming.count);
}

/* A transaction that was tried before has left nothing. */
static void begin_anew(struct plan *plan)
{
    for (uint32_t i = 0; i < plan->moving.count; i++)
        plan->moving.items[i].number = 0;
    for (uint32_t i = 0; i < plan->notes.count; i++)
        plan->notes.items[i].lost_number = 0;
    for (uint32_t i = 0; i < plan->coming.count; i++)
        plan->coming.items[i].number = 0;
    plan->appended_bytes = plan->appended_room = plan->appended_values = plan->moved_bytes = 0;
    plan->dropped = 0;
}

int stored_write(struct stored *stored)
{
    CHECK(stored->plan.open && !stored->doubtful);
    begin_anew(&stored->plan);
    int error = write_moving(stored);
    if (error == 0)
        error = write_notes(stored);
    return error == 0 ? write_coming(stored) : error;
}
