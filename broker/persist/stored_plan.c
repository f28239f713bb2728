/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/push.h"
#include "client.pb-c.h"
#include "persist/stored_private.h"

/* What goes into the next transaction: each message is judged and gets its mid, in the order of the
 * changes. The index knows nothing of it before it is committed, so there is nothing to be undone
 * when it fails, but for the tags: they are entered at once, since a tag may come twice in one
 * transaction, and are marked until it is over.
 *
 * A receiver has one change in a list at most, because his actor waits for it. A payload that
 * several receivers get (push.h) is one entry as long as its mid is above what each of them got
 * before it in the same list. */

enum { SHARERS_LOOKED_AT = 32 };

static const struct push_body *shared_body(const struct deliver_message *message)
{
    return message_is_plain(&message->header) ? NULL : push_body_of(message);
}

/* An entry that the message can share; NULL: none. */
static struct coming *sharer(struct plan *plan, const struct deliver_message *message,
                             uint64_t above_mid)
{
    const struct push_body *body = shared_body(message);
    for (uint32_t i = 0; body != NULL && i < plan->coming.count && i < SHARERS_LOOKED_AT; i++) {
        struct coming *coming = &plan->coming.items[plan->coming.count - 1 - i];
        if (shared_body(coming->message) == body && coming->mid > above_mid &&
            coming->message->keep_s == message->keep_s && coming->message->tag == message->tag &&
            coming->receiver_count < ENTRY_RECEIVERS_MAX)
            return coming;
    }
    return NULL;
}

static struct coming *new_coming(struct stored *stored, struct deliver_message *message)
{
    struct coming *coming = LIST_ADD(&stored->plan.coming);
    coming->message = message;
    coming->mid = atomic_fetch_add(stored->options.mid_last, 1) + 1;
    coming->first = coming->last = UINT32_MAX;
    return coming;
}

static void join(struct plan *plan, struct coming *coming, uint32_t keep, size_t name_size)
{
    if (coming->first == UINT32_MAX)
        coming->first = keep;
    else
        plan->keeps.items[coming->last].next = keep;
    coming->last = keep;
    coming->receiver_count++;
    coming->names_size += 1 + (uint32_t)name_size;
}

/* True: its tag has been seen, and it is that one. */
static bool is_repeated(struct stored *stored, struct keep *keep)
{
    struct tag *tag = keep->tag_key != 0 ? tag_find(stored, keep->tag_key) : NULL;
    if (tag == NULL)
        return false;
    keep->message->mid = tag->mid;
    keep->message->repeated = keep->repeated = true;
    keep->entry = tag->unproven; /* 0: of an earlier transaction */
    return true;
}

static void remember_tag(struct stored *stored, const struct keep *keep, uint64_t mid)
{
    if (keep->tag_key == 0)
        return;
    uint32_t until_s = tag_until_s(stored->plan.now_ms, 0);
    struct tag *tag = tag_set(stored, keep->tag_key, mid, until_s);
    tag->unproven = (keep->entry + 1) & 0x3FFFFF;
}

/* One message of a receiver. */
static void plan_message(struct stored *stored, const struct change *change, uint64_t key,
                         struct deliver_message *message, struct admitting *so_far, uint64_t *above)
{
    struct plan *plan = &stored->plan;
    struct bytes user = bytes_of_text(change->event.user);
    struct bytes sender = deliver_name(message);
    struct keep keep = {.message = message, .user = change->event.user, .key = key};
    keep.next = UINT32_MAX;
    if (message->tag != 0)
        keep.tag_key = stored_tag_key(stored, message->from_service, sender, user, message->tag);
    if (is_repeated(stored, &keep)) {
        *LIST_ADD(&plan->keeps) = keep;
        return;
    }
    struct coming *coming = sharer(plan, message, *above);
    so_far->entry_bytes = coming != NULL ? 0
                                         : ENTRY_BYTES + sender.size + message->payload_size +
                                               (message->traced ? TRACEPARENT_PACKED_BYTES : 0);
    so_far->name_bytes = 1 + user.size;
    message->refusal = stored_admit(stored, key, change->away, message, so_far);
    if (message->refusal != 0)
        return;
    if (coming == NULL)
        coming = new_coming(stored, message);
    keep.entry = (uint32_t)(coming - plan->coming.items);
    join(plan, coming, plan->keeps.count, user.size);
    *LIST_ADD(&plan->keeps) = keep;
    remember_tag(stored, &keep, coming->mid);
    *above = message->mid = coming->mid;
}

static void plan_change(struct stored *stored, struct change *change)
{
    struct admitting so_far = {0};
    uint64_t above = 0;
    uint64_t key = stored_key(stored, bytes_of_text(change->event.user));
    for (struct message *next = (struct message *)change->stored; next != NULL; next = next->next) {
        struct deliver_message *message = (struct deliver_message *)next;
        message->repeated = false;
        if (message->refusal != 0)
            stored_count(stored, METRIC_stored_refused_busy, 1); /* by committer_submit */
        else
            plan_message(stored, change, key, message, &so_far, &above);
    }
}

static bool has_any(struct stored *stored, const char *user)
{
    uint64_t key = stored_key(stored, bytes_of_text(user));
    lock_take(&stored->lock);
    bool any = index_box(stored, key) != NULL || bank_find(&stored->index.losses, key) != NULL;
    lock_give(&stored->lock);
    return any;
}

static void note_sessions(struct stored *stored, const struct change *sessions)
{
    for (; sessions != NULL; sessions = sessions->next)
        if ((sessions->kind == CHANGE_ATTACH || sessions->kind == CHANGE_RESUME) &&
            sessions->last_mid != 0 && has_any(stored, sessions->event.user))
            stored_done(stored, sessions->event.user, sessions->last_mid);
}

/* A commit has failed. A transaction that begins makes sure that nothing of it remains; then the
 * store says what it has. */
static void look_again(struct stored *stored)
{
    struct store_position position;
    if (store_begin(stored->options.store) != 0)
        return;
    store_abort(stored->options.store);
    if (store_position(stored->options.store, &position) != 0)
        return; /* nothing will be written */
    if (position.log_last == stored->log_last && position.log_values == stored->log_values)
        stored->doubtful = false;
    else
        stored_scan(stored);
}

static bool is_empty(const struct plan *plan)
{
    return plan->keeps.count == 0 && plan->notes.count == 0 && plan->values.count == 0;
}

/* It is not known what the log has: nothing is promised on top of it, and sessions do not wait. */
static void refuse_all(struct stored *stored)
{
    uint64_t count = 0;
    for (struct change *change = stored->plan.stores; change != NULL; change = change->next)
        for (struct message *next = (struct message *)change->stored; next != NULL;
             next = next->next) {
            struct deliver_message *message = (struct deliver_message *)next;
            message->repeated = false;
            message->refusal = USHER__V1__ERROR__CODE__UNAVAILABLE;
            count++;
        }
    stored_count(stored, METRIC_stored_refused_store, count);
}

static void plan_all(struct stored *stored)
{
    lock_take(&stored->lock);
    stored->settling = true;
    index_sweep(stored, stored->plan.now_s);
    tags_sweep(stored);
    for (struct change *change = stored->plan.stores; change != NULL; change = change->next)
        plan_change(stored, change);
    lock_give(&stored->lock);
    clean_plan(stored);
}

bool stored_plan(struct stored *stored, const struct change *sessions, struct change *stores)
{
    struct plan *plan = &stored->plan;
    CHECK(!plan->open);
    plan->open = true;
    plan->stores = stores;
    plan->now_ms = env_monotonic_ms(stored->options.env);
    plan->wall_ms = env_wall_ms(stored->options.env);
    plan->now_s = (uint32_t)(plan->wall_ms / 1000);
    if (stored->doubtful)
        look_again(stored);
    note_sessions(stored, sessions);
    if (stored->doubtful) {
        refuse_all(stored);
    } else {
        notes_take(stored);
        plan_all(stored);
    }
    if (!is_empty(plan))
        return true;
    plan_over(stored);
    stored_tell_full(stored);
    return false;
}
