/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instance/instance.h"
#include "proto/arena.h"
#include "proto/varint.h"
#include "room/room.h"
#include "upgrade/shards.h"
#include "upgrade/upgrade.h"
#include "upgrade/watcher.h"
#include "user/user.h"

/* Of records what they were of. Nobody else runs yet. What cannot be is refused, as bytes of a file
 * would be: then the process before us goes on with what it has, and has lost nothing. */

enum { ARENA_BYTES = 256 * 1024 }; /* the usual record has some hundred */

struct upgrade_unpacking {
    struct arena arena; /* of one record */
    const struct upgrade_parts *parts;
    const int *fds;
    size_t fd_count, fd_used;
    struct upgrade_report *report;
    struct shards shards;
    struct watcher *watcher;
    bool begun, ended;
};

static int refuse(struct upgrade_unpacking *unpacking, int error, const char *what, uint64_t which)
{
    snprintf(unpacking->report->error, sizeof(unpacking->report->error), "%s %llu: %s", what,
             (unsigned long long)which, strerror(-error));
    return error;
}

static bool has_size(ProtobufCBinaryData data, size_t size)
{
    return data.len == size;
}

static int take_node(struct upgrade_unpacking *unpacking, const Usher__V1__HandoverNode *node)
{
    const struct upgrade_parts *parts = unpacking->parts;
    struct settings *settings = parts->settings;
    struct counters *counters = parts->counters;
    struct store_position position;
    int error = store_position(parts->store, &position);
    if (error != 0)
        return refuse(unpacking, error, "store", 0);
    error = stored_read_anew(parts->stored);
    if (error != 0)
        return refuse(unpacking, error, "what is stored, at presence", node->presence_last);
    if (position.presence_last != node->presence_last || node->epoch_last < position.epoch_last)
        return refuse(unpacking, -EUCLEAN, "the store is not at presence", node->presence_last);
    if (unpacking->begun || node->io_threads != parts->io_threads ||
        !has_size(node->link_key, sizeof(settings->link_key)) ||
        !has_size(node->requests_key, sizeof(settings->requests_key)) ||
        !has_size(node->friends_key, sizeof(settings->friends_key)) ||
        !has_size(node->services_key, SERVICES_KEY_BYTES) ||
        strlen(node->boot) >= sizeof(settings->node_boot))
        return refuse(unpacking, -EPROTO, "node of I/O threads", node->io_threads);
    unpacking->begun = true;
    atomic_store(&counters->presence_last, node->presence_last);
    atomic_store(&counters->epoch_last, node->epoch_last);
    atomic_store(&counters->call_last, node->call_last);
    atomic_store(&counters->incarnation_last, node->incarnation_last);
    atomic_store(&counters->link_last, node->link_last);
    strcpy(settings->node_boot, node->boot);
    memcpy(settings->link_key, node->link_key.data, sizeof(settings->link_key));
    memcpy(settings->requests_key, node->requests_key.data, sizeof(settings->requests_key));
    memcpy(settings->friends_key, node->friends_key.data, sizeof(settings->friends_key));
    services_move_key(parts->services, node->services_key.data);
    atomic_store(&parts->awake->lost_ns, node->lost_ns);
    atomic_store(&counters->crowd_until_ms, node->crowd_until_ms);
    registry_begin_above(parts->registry, node->actor_generation);
    net_begin_above(parts->net, node->conn_generation);
    return 0;
}

static int take_conn(struct upgrade_unpacking *unpacking, const Usher__V1__HandoverConn *conn)
{
    if (unpacking->fd_used == unpacking->fd_count)
        return refuse(unpacking, -EPROTO, "no descriptor for connection", conn->handle);
    const struct net_moved moved = {
        .handle = conn->handle,
        .owner = conn->owner,
        .fd = unpacking->fds[unpacking->fd_used],
        .listener = conn->listener < LISTENERS ? (uint8_t)conn->listener : LISTENERS,
        .welcomed = conn->welcomed,
        .fresh = conn->fresh,
        .forwards = conn->forwards,
        .opened_ms = conn->opened_ms,
        .heard_ms = conn->heard_ms,
        .unbound_bytes = conn->unbound_bytes,
        .early_bytes = conn->early_bytes,
        .carry = {conn->carry.data, conn->carry.len},
        .pending = {conn->pending.data, conn->pending.len},
        .peer = conn->peer[0] != '\0' ? conn->peer : NULL,
        .websocket = conn->websocket,
    };
    int error = net_move_in(unpacking->parts->net, &moved);
    if (error != 0)
        return refuse(unpacking, error, "connection", conn->handle);
    unpacking->fd_used++;
    unpacking->report->connections++;
    error = watcher_add(unpacking->watcher, conn->handle);
    return error == 0 ? 0 : refuse(unpacking, error, "connection", conn->handle);
}

/* An actor of that handle, with its first message (taken; NULL: there is no memory). One that is
 * there already, with more of the same. */
static int place(struct upgrade_unpacking *unpacking, uint64_t handle, const char *name,
                 const struct behaviour *behaviour, struct message *message, bool there)
{
    const struct upgrade_parts *parts = unpacking->parts;
    int error = message != NULL ? 0 : -ENOMEM;
    if (error == 0 && !there)
        error = registry_place(parts->registry, handle, name, strlen(name), behaviour);
    if (error == 0)
        error = scheduler_post(parts->scheduler, parts->runner, handle, message);
    if (error != 0) {
        if (message != NULL)
            message_destroy(message);
        return refuse(unpacking, error, "actor with the handle", handle);
    }
    scheduler_run(parts->scheduler, parts->runner, SIZE_MAX);
    return 0;
}

static int take_user(struct upgrade_unpacking *unpacking, const Usher__V1__HandoverUser *user)
{
    const struct upgrade_parts *parts = unpacking->parts;
    bool connected = user->conn != 0 && net_owner(parts->net, user->conn) == user->handle;
    const struct moved_records records = {shards_find, &unpacking->shards};
    unpacking->report->users++;
    return place(unpacking, user->handle, user->name, parts->user,
                 user_move_in(user, connected, &records), false);
}

static int take_instance(struct upgrade_unpacking *unpacking,
                         const Usher__V1__HandoverInstance *instance)
{
    unpacking->report->instances++;
    return place(unpacking, instance->handle, instance->name, unpacking->parts->instance,
                 instance_move_in(instance), false);
}

static int take_room(struct upgrade_unpacking *unpacking, const Usher__V1__HandoverRoom *room)
{
    unpacking->report->rooms++;
    return place(unpacking, room->handle, room->name, unpacking->parts->room, room_move_in(room),
                 false);
}

static int take_shard(struct upgrade_unpacking *unpacking, const Usher__V1__HandoverShard *shard)
{
    const struct upgrade_parts *parts = unpacking->parts;
    bool there = registry_find(parts->registry, shard->name, strlen(shard->name)) == shard->handle;
    int error =
        place(unpacking, shard->handle, shard->name, parts->shard, watch_move_in(shard), there);
    if (error == 0 && !shards_know(&unpacking->shards,
                                   registry_actor(parts->registry, actor_slot(shard->handle))))
        return refuse(unpacking, -EPROTO, "no shard, the actor with the handle", shard->handle);
    return error;
}

static int take_service(struct upgrade_unpacking *unpacking,
                        const Usher__V1__HandoverService *service)
{
    int error = services_move_in(unpacking->parts->services, service);
    return error == 0 ? 0 : refuse(unpacking, error, "service of instances", service->n_members);
}

static int take_followers(struct upgrade_unpacking *unpacking,
                          const Usher__V1__HandoverFollowers *followers)
{
    int error = services_move_followers(unpacking->parts->services, followers);
    return error == 0 ? 0 : refuse(unpacking, error, "followers", followers->n_instances);
}

static int take_spent(struct upgrade_unpacking *unpacking, const Usher__V1__HandoverSpent *spent)
{
    int error = upgrade_take_spent(unpacking->parts, spent);
    return error == 0 ? 0 : refuse(unpacking, error, "what was spent, of table", spent->table);
}

static int take_end(struct upgrade_unpacking *unpacking, const Usher__V1__HandoverEnd *end)
{
    const struct upgrade_report *report = unpacking->report;
    unpacking->ended = true;
    int error = watcher_finish(unpacking->watcher);
    if (error != 0)
        return refuse(unpacking, error, "sockets cannot be waited for, of", end->conns);
    if (end->conns != report->connections || end->users != report->users ||
        end->instances != report->instances || end->rooms != report->rooms)
        return refuse(unpacking, -EPROTO, "not as many as said, users", end->users);
    return 0;
}

static int take_record(struct upgrade_unpacking *unpacking, const Usher__V1__HandoverRecord *record)
{
    if (unpacking->ended ||
        (!unpacking->begun && record->body_case != USHER__V1__HANDOVER_RECORD__BODY_NODE))
        return refuse(unpacking, -EPROTO, "out of order: a record of kind", record->body_case);
    switch (record->body_case) {
    case USHER__V1__HANDOVER_RECORD__BODY_NODE:
        return take_node(unpacking, record->node);
    case USHER__V1__HANDOVER_RECORD__BODY_CONN:
        return take_conn(unpacking, record->conn);
    case USHER__V1__HANDOVER_RECORD__BODY_USER:
        return take_user(unpacking, record->user);
    case USHER__V1__HANDOVER_RECORD__BODY_INSTANCE:
        return take_instance(unpacking, record->instance);
    case USHER__V1__HANDOVER_RECORD__BODY_SHARD:
        return take_shard(unpacking, record->shard);
    case USHER__V1__HANDOVER_RECORD__BODY_ROOM:
        return take_room(unpacking, record->room);
    case USHER__V1__HANDOVER_RECORD__BODY_NEWS:
        webhook_move_in(unpacking->parts->webhook, record->news);
        return 0;
    case USHER__V1__HANDOVER_RECORD__BODY_SERVICE:
        return take_service(unpacking, record->service);
    case USHER__V1__HANDOVER_RECORD__BODY_FOLLOWERS:
        return take_followers(unpacking, record->followers);
    case USHER__V1__HANDOVER_RECORD__BODY_SPENT:
        return take_spent(unpacking, record->spent);
    case USHER__V1__HANDOVER_RECORD__BODY_END:
        return take_end(unpacking, record->end);
    default:
        return refuse(unpacking, -EPROTO, "a record of a kind that is not known",
                      record->body_case);
    }
}

/* The next one. Gives the bytes that it took, or -errno. */
static int64_t take_next(struct upgrade_unpacking *unpacking, struct bytes rest)
{
    uint64_t size = 0;
    int head = varint_read(rest, &size);
    if (head <= 0 || size > rest.size - (size_t)head)
        return refuse(unpacking, -EPROTO, "the records are cut short, left", rest.size);
    /* A large one, of a room or a shard, has memory of its own. */
    ProtobufCAllocator *allocator = arena_allocator(&unpacking->arena);
    arena_reset(&unpacking->arena);
    Usher__V1__HandoverRecord *record =
        usher__v1__handover_record__unpack(allocator, (size_t)size, rest.data + head);
    if (record == NULL) {
        allocator = NULL;
        record = usher__v1__handover_record__unpack(NULL, (size_t)size, rest.data + head);
    }
    if (record == NULL)
        return refuse(unpacking, -EPROTO, "a record that cannot be read, of bytes", size);
    int error = take_record(unpacking, record);
    if (allocator == NULL)
        usher__v1__handover_record__free_unpacked(record, NULL);
    return error != 0 ? error : head + (int64_t)size;
}

struct upgrade_unpacking *upgrade_unpacking_create(const struct upgrade_parts *parts,
                                                   struct upgrade_report *report)
{
    struct upgrade_unpacking *unpacking = calloc(1, sizeof(*unpacking));
    if (unpacking == NULL || arena_init(&unpacking->arena, ARENA_BYTES) != 0) {
        free(unpacking);
        return NULL;
    }
    unpacking->parts = parts;
    unpacking->report = report;
    unpacking->shards.settings = parts->settings;
    unpacking->watcher = watcher_create(parts->net);
    if (unpacking->watcher == NULL) {
        upgrade_unpacking_destroy(unpacking);
        return NULL;
    }
    return unpacking;
}

int upgrade_unpack(struct upgrade_unpacking *unpacking, struct bytes records, const int *fds,
                   size_t fd_count)
{
    const struct upgrade_parts *parts = unpacking->parts;
    parts->runner->now_ms = env_monotonic_ms(parts->env);
    parts->runner->wall_ms = env_wall_ms(parts->env);
    unpacking->report->bytes += records.size;
    unpacking->fds = fds;
    unpacking->fd_count = fd_count;
    unpacking->fd_used = 0;
    while (records.size > 0) {
        int64_t took = take_next(unpacking, records);
        if (took < 0)
            return (int)took;
        records = (struct bytes){records.data + took, records.size - (size_t)took};
    }
    if (unpacking->fd_used != unpacking->fd_count)
        return refuse(unpacking, -EPROTO, "no connections for descriptors",
                      unpacking->fd_count - unpacking->fd_used);
    int error = watcher_begin(unpacking->watcher);
    if (error != 0)
        return refuse(unpacking, error, "sockets cannot be waited for, of", fd_count);
    return unpacking->ended;
}

void upgrade_unpacking_destroy(struct upgrade_unpacking *unpacking)
{
    if (unpacking == NULL)
        return;
    watcher_destroy(unpacking->watcher);
    arena_fini(&unpacking->arena);
    free(unpacking);
}
