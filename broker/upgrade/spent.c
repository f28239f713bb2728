/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "actors/spent.h"
#include "proto/handover.h"
#include "upgrade/upgrade.h"

/* What limits remember of those who are gone, or have no session: without it whoever brings about
 * an upgrade, or hears of one, begins anew with all of his allowances. Only what is not whole again
 * goes, so these records are small but under an attack. */

enum { KEY_BYTES = 2 * sizeof(uint64_t) };

/* A record that is being made. */
struct list {
    uint64_t *numbers;
    size_t count, capacity;
    bool failed;
};

static void add(struct list *list, uint64_t number, struct allowance allowance)
{
    if (list->count + 2 > list->capacity && !list->failed) {
        size_t capacity = list->capacity != 0 ? list->capacity * 2 : 256;
        uint64_t *bigger = realloc(list->numbers, capacity * sizeof(*bigger));
        list->failed = bigger == NULL;
        list->numbers = bigger != NULL ? bigger : list->numbers;
        list->capacity = bigger != NULL ? capacity : list->capacity;
    }
    if (list->failed)
        return;
    list->numbers[list->count++] = number;
    list->numbers[list->count++] = allowance.due_ns;
}

/* The context is one list, or two. */
static void add_first(void *context, uint64_t number, struct allowance allowance)
{
    add(context, number, allowance);
}

static void add_second(void *context, uint64_t number, struct allowance allowance)
{
    add((struct list *)context + 1, number, allowance);
}

static int finish(struct list *list, Usher__V1__HandoverSpent__Table table, const uint64_t key[2],
                  struct buffer *out)
{
    Usher__V1__HandoverSpent spent = USHER__V1__HANDOVER_SPENT__INIT;
    Usher__V1__HandoverRecord record = USHER__V1__HANDOVER_RECORD__INIT;
    spent.table = table;
    if (key != NULL)
        spent.key = handover_binary((struct bytes){(const uint8_t *)key, KEY_BYTES});
    spent.n_spent = list->count;
    spent.spent = list->numbers;
    record.body_case = USHER__V1__HANDOVER_RECORD__BODY_SPENT;
    record.spent = &spent;
    int error = list->failed ? -ENOMEM : handover_append(out, &record);
    free(list->numbers);
    return error;
}

static int pack_table(struct spent *spent, Usher__V1__HandoverSpent__Table table, uint64_t now_ns,
                      struct buffer *out)
{
    struct list list = {0};
    uint64_t key[2];
    if (spent == NULL)
        return 0;
    spent_move_out(spent, now_ns, key, add_first, &list);
    return finish(&list, table, key, out);
}

static int pack_logins(const struct logins *logins, uint64_t now_ns, struct buffer *out)
{
    struct list lists[2] = {{0}, {0}};
    uint64_t key[2];
    logins_move_out(logins, now_ns, key, add_first, add_second, lists);
    int error = finish(&lists[0], USHER__V1__HANDOVER_SPENT__TABLE__SOURCES, key, out);
    int other = finish(&lists[1], USHER__V1__HANDOVER_SPENT__TABLE__LOGINS, key, out);
    return error != 0 ? error : other;
}

int upgrade_pack_spent(const struct upgrade_parts *parts, struct buffer *out)
{
    const struct settings *settings = parts->settings;
    const uint64_t now_ns = env_monotonic_ns(parts->env);
    int error =
        pack_table(settings->spent_rates, USHER__V1__HANDOVER_SPENT__TABLE__RATES, now_ns, out);
    if (error == 0)
        error = pack_table(settings->spent_fights, USHER__V1__HANDOVER_SPENT__TABLE__FIGHTS, now_ns,
                           out);
    if (error == 0)
        error = pack_table(settings->spent_to_away, USHER__V1__HANDOVER_SPENT__TABLE__TO_AWAY,
                           now_ns, out);
    if (error == 0)
        error = pack_logins(parts->logins, now_ns, out);
    return error;
}

/* --- there ------------------------------------------------------------------------------------ */

static struct spent *table_of(const struct settings *settings,
                              Usher__V1__HandoverSpent__Table table)
{
    return table == USHER__V1__HANDOVER_SPENT__TABLE__RATES     ? settings->spent_rates
           : table == USHER__V1__HANDOVER_SPENT__TABLE__FIGHTS  ? settings->spent_fights
           : table == USHER__V1__HANDOVER_SPENT__TABLE__TO_AWAY ? settings->spent_to_away
                                                                : NULL;
}

static void take_key(const struct upgrade_parts *parts, Usher__V1__HandoverSpent__Table table,
                     const uint64_t key[2])
{
    struct spent *spent = table_of(parts->settings, table);
    if (spent != NULL)
        spent_move_key(spent, key);
    else if (table == USHER__V1__HANDOVER_SPENT__TABLE__LOGINS)
        logins_move_key(parts->logins, key);
}

static void take_one(const struct upgrade_parts *parts, Usher__V1__HandoverSpent__Table table,
                     uint64_t number, struct allowance allowance)
{
    struct spent *spent = table_of(parts->settings, table);
    if (spent != NULL)
        spent_move_in(spent, number, allowance);
    else if (table == USHER__V1__HANDOVER_SPENT__TABLE__LOGINS)
        logins_move_in_user(parts->logins, number, allowance);
    else if (table == USHER__V1__HANDOVER_SPENT__TABLE__SOURCES)
        logins_move_in_source(parts->logins, number, allowance);
}

/* A table that nobody here knows is passed over: it is a limit that begins anew. */
int upgrade_take_spent(const struct upgrade_parts *parts, const Usher__V1__HandoverSpent *spent)
{
    uint64_t key[2];
    if (spent->n_spent % 2 != 0 || (spent->key.len != 0 && spent->key.len != KEY_BYTES))
        return -EPROTO;
    if (spent->key.len != 0) {
        memcpy(key, spent->key.data, KEY_BYTES);
        take_key(parts, spent->table, key);
    }
    for (size_t i = 0; i < spent->n_spent; i += 2)
        if (spent->spent[i] != 0)
            take_one(parts, spent->table, spent->spent[i], (struct allowance){spent->spent[i + 1]});
    return 0;
}
