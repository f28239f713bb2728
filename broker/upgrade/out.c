/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/kinds.h"
#include "instance/instance.h"
#include "proto/handover.h"
#include "room/room.h"
#include "upgrade/shards.h"
#include "upgrade/upgrade.h"
#include "user/user.h"

/* Everything that a broker is, as records; while it is frozen, and nothing of it is changed by
 * that. The connections first, which are a good half of the new process's work: it has it done
 * while the actors are packed.
 *
 * Actors and connections go in rising order of their slots, since that is how they are made over
 * there. A connection that cannot go is not mentioned: its user finds out that it did not come. */

enum { ARENA_BYTES = 4 * 1024 * 1024 };

static ProtobufCBinaryData key_of(const uint64_t key[2])
{
    return handover_binary((struct bytes){(const uint8_t *)key, 2 * sizeof(key[0])});
}

static int pack_node(const struct upgrade_parts *parts, struct buffer *out)
{
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
    return handover_append(out, &record);
}

/* --- connections ------------------------------------------------------------------------------ */

struct packing {
    struct upgrade_load *load;
    int error;
};

static int add_descriptor(struct upgrade_load *load, int fd)
{
    if (load->fd_count == load->fd_capacity) {
        size_t capacity = load->fd_capacity != 0 ? load->fd_capacity * 2 : 1024;
        int *bigger = realloc(load->fds, capacity * sizeof(*bigger));
        if (bigger == NULL)
            return -ENOMEM;
        load->fds = bigger;
        load->fd_capacity = capacity;
    }
    load->fds[load->fd_count++] = fd;
    return 0;
}

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
    packing->error = handover_append(&packing->load->records, &record);
    if (packing->error == 0)
        packing->error = add_descriptor(packing->load, moved->fd);
}

/* --- actors ----------------------------------------------------------------------------------- */

static int refuse(struct upgrade_report *report, const struct actor *actor)
{
    snprintf(report->error, sizeof(report->error), "%s %s cannot be handed over now",
             atomic_load(&actor->behaviour)->name, actor->name);
    return -EBUSY;
}

static int pack_instance(struct actor *actor, actor_handle handle, struct arena *arena,
                         struct upgrade_load *load, struct upgrade_report *report)
{
    Usher__V1__HandoverInstance instance = USHER__V1__HANDOVER_INSTANCE__INIT;
    Usher__V1__HandoverRecord record = USHER__V1__HANDOVER_RECORD__INIT;
    arena_reset(arena);
    if (!instance_move_out((const struct instance_place *)(const void *)actor->state, arena,
                           &instance))
        return refuse(report, actor);
    instance.handle = handle;
    instance.name = actor->name;
    record.body_case = USHER__V1__HANDOVER_RECORD__BODY_INSTANCE;
    record.instance = &instance;
    report->instances++;
    return handover_append(&load->records, &record);
}

static int pack_shard(struct actor *actor, actor_handle handle, struct arena *arena,
                      struct upgrade_load *load, struct upgrade_report *report)
{
    int error = shards_pack(actor, handle, arena, &load->records);
    return error == -EBUSY ? refuse(report, actor) : error;
}

static int pack_user(const struct upgrade_parts *parts, struct actor *actor, actor_handle handle,
                     struct arena *arena, struct upgrade_load *load, struct upgrade_report *report)
{
    report->users++;
    user_move_fights((const struct session *)actor->state, actor->name, parts->settings);
    return user_move_out((const struct session *)actor->state, handle, actor->name, arena,
                         &load->records)
               ? 0
               : refuse(report, actor);
}

static int pack_room(const struct actor *actor, actor_handle handle, struct upgrade_load *load,
                     struct upgrade_report *report)
{
    const struct room_place *place = (const struct room_place *)(const void *)actor->state;
    report->rooms++;
    return room_move_out(place->room, handle, actor->name, &load->records) ? 0
                                                                           : refuse(report, actor);
}

/* Those that are made by every process for itself, and hold nothing, do not go. */
static int pack_actor(const struct upgrade_parts *parts, actor_handle handle, struct arena *arena,
                      struct upgrade_load *load, struct upgrade_report *report)
{
    struct actor *actor = registry_actor(parts->registry, actor_slot(handle));
    switch (atomic_load(&actor->behaviour)->kind) {
    case KIND_USER:
        return pack_user(parts, actor, handle, arena, load, report);
    case KIND_INSTANCE:
        return pack_instance(actor, handle, arena, load, report);
    case KIND_WATCH:
        return pack_shard(actor, handle, arena, load, report);
    case KIND_ROOM:
        return pack_room(actor, handle, load, report);
    default:
        return 0;
    }
}

static int pack_actors(const struct upgrade_parts *parts, struct upgrade_load *load,
                       struct upgrade_report *report)
{
    struct arena arena;
    uint32_t cursor = 0;
    actor_handle handle;
    int error = arena_init(&arena, ARENA_BYTES);
    while (error == 0 &&
           (handle = registry_next(parts->registry, &cursor, REGISTRY_ALL_KINDS)) != 0)
        error = pack_actor(parts, handle, &arena, load, report);
    arena_fini(&arena);
    return error;
}

static int pack_end(struct upgrade_load *load, const struct upgrade_report *report)
{
    Usher__V1__HandoverEnd end = USHER__V1__HANDOVER_END__INIT;
    Usher__V1__HandoverRecord record = USHER__V1__HANDOVER_RECORD__INIT;
    end.conns = load->fd_count;
    end.users = report->users;
    end.instances = report->instances;
    end.rooms = report->rooms;
    record.body_case = USHER__V1__HANDOVER_RECORD__BODY_END;
    record.end = &end;
    return handover_append(&load->records, &record);
}

static int explain(struct upgrade_report *report, int error)
{
    if (error == -EBUSY && report->error[0] == '\0')
        snprintf(report->error, sizeof(report->error), "an instance of a service is leaving");
    if (error == -ENOMEM)
        snprintf(report->error, sizeof(report->error),
                 "there is no memory for what is handed over");
    return error;
}

int upgrade_pack_conns(const struct upgrade_parts *parts, struct upgrade_load *load,
                       struct upgrade_report *report)
{
    struct packing packing = {.load = load};
    int error = pack_node(parts, &load->records);
    if (error == 0) {
        report->left = net_move_out(parts->net, pack_conn, &packing);
        error = packing.error;
    }
    report->connections = load->fd_count;
    return explain(report, error);
}

int upgrade_pack_rest(const struct upgrade_parts *parts, struct upgrade_load *load,
                      struct upgrade_report *report)
{
    int error = pack_actors(parts, load, report);
    if (error == 0)
        error = services_move_out(parts->services, &load->records) ? 0 : -EBUSY;
    if (error == 0 && !webhook_move_out(parts->webhook, &load->records))
        error = -ENOMEM;
    if (error == 0)
        error = upgrade_pack_spent(parts, &load->records);
    if (error == 0)
        error = pack_end(load, report);
    return explain(report, error);
}

void upgrade_load_fini(struct upgrade_load *load)
{
    buffer_fini(&load->records);
    free(load->fds);
    *load = (struct upgrade_load){0};
}
