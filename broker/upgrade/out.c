/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "actors/kinds.h"
#include "instance/instance.h"
#include "proto/handover.h"
#include "room/room.h"
#include "upgrade/shards.h"
#include "upgrade/upgrade.h"
#include "user/user.h"

/* Everything that a broker is, as records; while it is frozen, and nothing of it is changed by
 * that. The connections first, which are a good half of the new process's work. A run is large
 * enough that giving it away costs little beside packing it, and small enough that the new process
 * never waits long for the first, nor this one for the last.
 *
 * Actors and connections go in rising order of their slots, since that is how they are made over
 * there. A connection that cannot go is not mentioned: its user finds out that it did not come. */

enum { ARENA_BYTES = 4 * 1024 * 1024, RUN_BYTES = 128 * 1024 };

struct packing {
    const struct upgrade_parts *parts;
    upgrade_give *give;
    void *context;
    struct upgrade_report *report;
    struct arena arena;
    struct upgrade_load load;
    int error;
};

static int give(struct packing *packing)
{
    struct upgrade_load *load = &packing->load;
    int error = packing->give(packing->context, load);
    load->records.size = 0;
    load->fd_count = 0;
    return error;
}

/* One more, and with it the run if it has become large enough. */
static int append(struct packing *packing, const Usher__V1__HandoverRecord *record)
{
    int error = handover_append(&packing->load.records, record);
    return error == 0 && packing->load.records.size >= RUN_BYTES ? give(packing) : error;
}

static ProtobufCBinaryData key_of(const uint64_t key[2])
{
    return handover_binary((struct bytes){(const uint8_t *)key, 2 * sizeof(key[0])});
}

static int pack_node(struct packing *packing)
{
    const struct upgrade_parts *parts = packing->parts;
    uint8_t key[SERVICES_KEY_BYTES];
    Usher__V1__HandoverNode node = USHER__V1__HANDOVER_NODE__INIT;
    Usher__V1__HandoverRecord record = USHER__V1__HANDOVER_RECORD__INIT;
    struct settings *settings = parts->settings;
    struct counters *counters = parts->counters;
    node.version = USHER_VERSION;
    node.presence_last = atomic_load(&counters->presence_last);
    node.epoch_last = atomic_load(&counters->epoch_last);
    node.call_last = atomic_load(&counters->call_last);
    node.incarnation_last = atomic_load(&counters->incarnation_last);
    node.link_last = atomic_load(&counters->link_last);
    node.boot = settings->node_boot;
    node.link_key = key_of(settings->link_key);
    node.requests_key = key_of(settings->requests_key);
    node.friends_key = key_of(settings->friends_key);
    services_key(parts->services, key);
    node.services_key = handover_binary((struct bytes){key, SERVICES_KEY_BYTES});
    node.conn_generation = net_generation(parts->net);
    node.actor_generation = registry_generation(parts->registry);
    node.io_threads = parts->io_threads;
    node.lost_ns = atomic_load(&parts->awake->lost_ns);
    node.crowd_until_ms = atomic_load(&counters->crowd_until_ms);
    record.body_case = USHER__V1__HANDOVER_RECORD__BODY_NODE;
    record.node = &node;
    return append(packing, &record);
}

/* --- connections ------------------------------------------------------------------------------ */

static void pack_conn(void *context, const struct net_moved *moved)
{
    struct packing *packing = context;
    Usher__V1__HandoverConn conn = USHER__V1__HANDOVER_CONN__INIT;
    Usher__V1__HandoverRecord record = USHER__V1__HANDOVER_RECORD__INIT;
    if (packing->error != 0)
        return;
    conn.handle = moved->handle;
    conn.owner = moved->owner;
    conn.listener = moved->listener;
    conn.welcomed = moved->welcomed;
    conn.fresh = moved->fresh;
    conn.forwards = moved->forwards;
    conn.opened_ms = moved->opened_ms;
    conn.heard_ms = moved->heard_ms;
    conn.unbound_bytes = moved->unbound_bytes;
    conn.early_bytes = moved->early_bytes;
    conn.carry = handover_binary(moved->carry);
    conn.pending = handover_binary(moved->pending);
    conn.websocket = (Usher__V1__HandoverWebSocket *)(uintptr_t)moved->websocket;
    conn.peer = (char *)(uintptr_t)(moved->peer != NULL ? moved->peer : "");
    record.body_case = USHER__V1__HANDOVER_RECORD__BODY_CONN;
    record.conn = &conn;
    packing->report->connections++;
    packing->load.fds[packing->load.fd_count++] = moved->fd;
    packing->error = append(packing, &record);
    if (packing->error == 0 && packing->load.fd_count == UPGRADE_RUN_CONNS)
        packing->error = give(packing);
}

/* --- actors ----------------------------------------------------------------------------------- */

static int refuse(const struct packing *packing, const struct actor *actor)
{
    char *error = packing->report->error;
    snprintf(error, sizeof(packing->report->error), "%s %s cannot be handed over now",
             atomic_load(&actor->behaviour)->name, actor->name);
    return -EBUSY;
}

static int pack_instance(struct packing *packing, struct actor *actor, actor_handle handle)
{
    Usher__V1__HandoverInstance instance = USHER__V1__HANDOVER_INSTANCE__INIT;
    Usher__V1__HandoverRecord record = USHER__V1__HANDOVER_RECORD__INIT;
    arena_reset(&packing->arena);
    if (!instance_move_out((const struct instance_place *)(const void *)actor->state,
                           &packing->arena, &instance))
        return refuse(packing, actor);
    instance.handle = handle;
    instance.name = actor->name;
    record.body_case = USHER__V1__HANDOVER_RECORD__BODY_INSTANCE;
    record.instance = &instance;
    packing->report->instances++;
    return append(packing, &record);
}

static int pack_shard(struct packing *packing, struct actor *actor, actor_handle handle)
{
    int error = shards_pack(actor, handle, &packing->arena, &packing->load.records);
    return error == -EBUSY ? refuse(packing, actor) : error;
}

static int pack_user(struct packing *packing, struct actor *actor, actor_handle handle)
{
    const struct session *session = (const struct session *)actor->state;
    packing->report->users++;
    user_move_fights(session, actor->name, packing->parts->settings);
    return user_move_out(session, handle, actor->name, &packing->arena, &packing->load.records)
               ? 0
               : refuse(packing, actor);
}

static int pack_room(struct packing *packing, const struct actor *actor, actor_handle handle)
{
    const struct room_place *place = (const struct room_place *)(const void *)actor->state;
    packing->report->rooms++;
    return room_move_out(place->room, handle, actor->name, &packing->load.records)
               ? 0
               : refuse(packing, actor);
}

/* Those that are made by every process for itself, and hold nothing, do not go. */
static int pack_actor(struct packing *packing, actor_handle handle)
{
    struct actor *actor = registry_actor(packing->parts->registry, actor_slot(handle));
    switch (atomic_load(&actor->behaviour)->kind) {
    case KIND_USER:
        return pack_user(packing, actor, handle);
    case KIND_INSTANCE:
        return pack_instance(packing, actor, handle);
    case KIND_WATCH:
        return pack_shard(packing, actor, handle);
    case KIND_ROOM:
        return pack_room(packing, actor, handle);
    default:
        return 0;
    }
}

static int pack_actors(struct packing *packing)
{
    uint32_t cursor = 0;
    actor_handle handle;
    int error = 0;
    while (error == 0 &&
           (handle = registry_next(packing->parts->registry, &cursor, REGISTRY_ALL_KINDS)) != 0) {
        error = pack_actor(packing, handle);
        if (error == 0 && packing->load.records.size >= RUN_BYTES)
            error = give(packing);
    }
    return error;
}

/* And with it the last run. */
static int pack_end(struct packing *packing)
{
    Usher__V1__HandoverEnd end = USHER__V1__HANDOVER_END__INIT;
    Usher__V1__HandoverRecord record = USHER__V1__HANDOVER_RECORD__INIT;
    end.conns = packing->report->connections;
    end.users = packing->report->users;
    end.instances = packing->report->instances;
    end.rooms = packing->report->rooms;
    record.body_case = USHER__V1__HANDOVER_RECORD__BODY_END;
    record.end = &end;
    int error = handover_append(&packing->load.records, &record);
    return error == 0 ? give(packing) : error;
}

static int pack_conns(struct packing *packing)
{
    int error = pack_node(packing);
    if (error != 0)
        return error;
    packing->report->left = net_move_out(packing->parts->net, pack_conn, packing);
    return packing->error == 0 ? give(packing) : packing->error;
}

static int pack_rest(struct packing *packing)
{
    const struct upgrade_parts *parts = packing->parts;
    struct buffer *records = &packing->load.records;
    int error = pack_actors(packing);
    if (error == 0)
        error = services_move_out(parts->services, records) ? 0 : -EBUSY;
    if (error == 0 && !webhook_move_out(parts->webhook, records))
        error = -ENOMEM;
    if (error == 0)
        error = upgrade_pack_spent(parts, records);
    return error == 0 ? pack_end(packing) : error;
}

static void explain(struct upgrade_report *report, int error)
{
    if (error == 0 || report->error[0] != '\0')
        return;
    snprintf(report->error, sizeof(report->error), "%s",
             error == -EBUSY    ? "an instance of a service is leaving"
             : error == -ENOMEM ? "there is no memory for what is handed over"
                                : strerror(-error));
}

int upgrade_pack(const struct upgrade_parts *parts, upgrade_give *gives, void *context,
                 struct upgrade_report *report)
{
    struct packing packing = {.parts = parts, .give = gives, .context = context, .report = report};
    int error = arena_init(&packing.arena, ARENA_BYTES);
    if (error == 0)
        error = pack_conns(&packing);
    if (error == 0)
        error = pack_rest(&packing);
    arena_fini(&packing.arena);
    buffer_fini(&packing.load.records);
    explain(report, error);
    return error;
}
