/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/lock.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "directory/pins.h"
#include "directory/services_private.h"
#include "instance/instance.h"

/* The directory of services: which instances each has, and who follows the presence stream.
 *
 * A user goes to the instance that he is pinned to; without a pin, or when it is gone, to the one
 * with the highest hash of (user, instance) among those that take new users (rendezvous hashing:
 * when an instance goes, only its own users move).
 *
 * Calls are posted to instances under the lock, and an instance leaves under it: so when its
 * mailbox is empty then, no call to it is on its way, and what it had has been handed on before any
 * newer call is routed. Posting takes no lock, so the lock is still a leaf.
 *
 * The pins are kept here and not with the users, because they move with the mail. How much of that
 * there is others choose, so it moves in pieces. Until the last one has moved the users of the one
 * who leaves stay pinned to it, and their newer calls go behind their mail. Each has an *heir*:
 * where the first of his mail went the rest goes too, and he himself when the one who leaves has
 * left. Otherwise his next call could go to an instance that has joined meanwhile, and overtake
 * them. One instance of a service leaves at a time: so an heir is there until all has come to it,
 * whatever becomes of it then. */

int services_create(struct services **out, const struct services_options *options)
{
    struct services *services = calloc(1, sizeof(*services));
    if (services == NULL)
        return -ENOMEM;
    lock_init(&services->lock);
    services->options = *options;
    services->limit = options->services_max;
    services->follower_limit = services->limit * 4;
    services->list = calloc(services->limit, sizeof(struct service *));
    for (services->table_size = 1; services->table_size < 2 * services->limit;)
        services->table_size *= 2;
    services->table = calloc(services->table_size, sizeof(struct service *));
    services->followers = calloc(services->follower_limit, sizeof(actor_handle));
    if (services->list == NULL || services->table == NULL || services->followers == NULL) {
        services_destroy(services);
        return -ENOMEM;
    }
    env_random(options->env, services->key, sizeof(services->key));
    *out = services;
    return 0;
}

void services_destroy(struct services *services)
{
    for (uint32_t i = 0; i < services->count; i++) {
        pins_clear(&services->list[i]->pins);
        free(services->list[i]);
    }
    free(services->list);
    free(services->table);
    free(services->followers);
    lock_destroy(&services->lock);
    free(services);
}

/* Under the lock. The place of that name, or the empty one where it would go. */
static struct service **probe(struct services *services, const void *name, size_t size)
{
    CHECK(lock_held(&services->lock) && services->count < services->table_size);
    uint32_t mask = services->table_size - 1;
    uint32_t at = (uint32_t)hash_keyed(services->key, name, size) & mask;
    for (;; at = (at + 1) & mask) {
        const struct service *service = services->table[at];
        if (service == NULL ||
            (service->name_size == size && memcmp(service->name, name, size) == 0))
            return &services->table[at];
    }
}

/* Under the lock. */
static struct service *find(struct services *services, const void *name, size_t size)
{
    return *probe(services, name, size);
}

/* A name came, or gave its place to another: only when an instance joins. */
static void index_names(struct services *services)
{
    memset(services->table, 0, services->table_size * sizeof(*services->table));
    for (uint32_t i = 0; i < services->count; i++) {
        struct service *service = services->list[i];
        *probe(services, service->name, service->name_size) = service;
    }
}

/* One that nobody serves any more gives its place to a new name. */
static struct service *find_empty(struct services *services)
{
    for (uint32_t i = 0; i < services->count; i++)
        if (services->list[i]->count == 0)
            return services->list[i];
    return NULL;
}

struct service *services_find_or_add(struct services *services, const char *name)
{
    struct service *service = find(services, name, strlen(name));
    if (service != NULL)
        return service;
    CHECK(name[0] != '\0' && strlen(name) < sizeof(service->name));
    service = find_empty(services);
    if (service == NULL) {
        service = services->count < services->limit ? calloc(1, sizeof(*service)) : NULL;
        if (service == NULL)
            return NULL;
        services->list[services->count++] = service;
    }
    CHECK(service->count == 0 && service->mover == 0);
    pins_clear(&service->pins);
    memset(service->name, 0, sizeof(service->name));
    strncpy(service->name, name, sizeof(service->name) - 1);
    service->name_size = (uint8_t)strlen(service->name);
    index_names(services);
    return service;
}

static int join_service(struct services *services, const char *name, actor_handle instance,
                        bool *first)
{
    struct service *service = services_find_or_add(services, name);
    if (service == NULL)
        return -ENOSPC;
    for (uint32_t i = 0; i < service->count; i++)
        if (service->members[i].instance == instance) {
            service->members[i].draining = service->members[i].leaving = false;
            return 0;
        }
    if (service->count == INSTANCES_MAX)
        return -ENOSPC;
    service->members[service->count++] = (struct member){.instance = instance};
    *first = service->count == 1;
    return 0;
}

static bool follows(const struct services *services, actor_handle instance)
{
    CHECK(lock_held(&services->lock) && services->follower_count <= services->follower_limit);
    for (uint32_t i = 0; i < services->follower_count; i++)
        if (services->followers[i] == instance)
            return true;
    return false;
}

int services_join(struct services *services, const char *name, actor_handle instance, bool presence)
{
    int error = 0;
    bool first = false;
    lock_take(&services->lock);
    bool follow = presence && !follows(services, instance);
    if (follow && services->follower_count == services->follower_limit)
        error = -ENOSPC;
    if (error == 0 && name[0] != '\0')
        error = join_service(services, name, instance, &first);
    if (error == 0 && follow)
        services->followers[services->follower_count++] = instance;
    if (first)
        LOG(services->options.log, SERVICE_UP, LOG_S("service", name));
    lock_give(&services->lock);
    return error;
}

void services_drain(struct services *services, actor_handle instance, bool drain)
{
    lock_take(&services->lock);
    for (uint32_t i = 0; i < services->count; i++)
        for (uint32_t k = 0; k < services->list[i]->count; k++)
            if (services->list[i]->members[k].instance == instance)
                services->list[i]->members[k].draining = drain;
    lock_give(&services->lock);
}

static bool is_member(const struct service *service, actor_handle instance)
{
    for (uint32_t i = 0; i < service->count; i++)
        if (service->members[i].instance == instance)
            return true;
    return false;
}

/* 0: takes new users; 1: only when nobody better is there; 2: only when nobody else is. */
static unsigned reluctance(const struct member *member)
{
    return member->leaving ? 2 : member->draining;
}

/* The member with the highest hash among the least reluctant; never `but`. */
static actor_handle rendezvous(const struct services *services, const struct service *service,
                               struct bytes user, actor_handle but)
{
    CHECK(lock_held(&services->lock) && service->count <= INSTANCES_MAX);
    actor_handle best = 0;
    uint64_t best_weight = 0;
    unsigned best_reluctance = UINT_MAX;
    for (uint32_t i = 0; i < service->count; i++) {
        const struct member *member = &service->members[i];
        uint64_t key[2] = {services->key[0] ^ member->instance, services->key[1]};
        uint64_t weight = hash_keyed(key, user.data, user.size);
        unsigned reluctant = reluctance(member);
        if (member->instance == but || reluctant > best_reluctance ||
            (reluctant == best_reluctance && weight <= best_weight))
            continue;
        best = member->instance;
        best_weight = weight;
        best_reluctance = reluctant;
    }
    return best;
}

struct sweep {
    struct registry *registry;
    const struct service *service;
    uint64_t now_ms;
};

/* A pin outlives its user until the deadline of his last call: if he is back by then, he must not
 * overtake what he sent before. */
static bool pin_is_used(void *context, const struct pin *pin)
{
    const struct sweep *sweep = context;
    return (is_member(sweep->service, pin->instance) || is_member(sweep->service, pin->heir)) &&
           (pin->until_ms > sweep->now_ms ||
            registry_at(sweep->registry, actor_slot(pin->user)) == pin->user);
}

static void add_pin(struct services *services, struct service *service, const struct pin *pin)
{
    const struct services_options *options = &services->options;
    struct sweep sweep = {options->registry, service, env_monotonic_ms(options->env)};
    /* However fast users come and go, those who are gone take no more room than those who are
     * there may. */
    if (service->pins.count > 2 * (size_t)options->users_max)
        sweep.now_ms = UINT64_MAX;
    MEMORY_MUST(pins_set(&service->pins, pin, pin_is_used, &sweep), "a pin");
}

/* Where the user is pinned, who may have an heir. */
static void renew_pin(struct services *services, struct service *service, struct pin *pin,
                      struct bytes user, actor_handle from)
{
    if (is_member(service, pin->instance))
        return;
    pin->instance =
        is_member(service, pin->heir) ? pin->heir : rendezvous(services, service, user, from);
    pin->heir = 0;
}

/* Under the lock. Where the user's calls go. `from` hands them on because it leaves; 0: they are
 * new. */
static actor_handle choose(struct services *services, struct service *service,
                           const struct user_call_message *call, actor_handle from)
{
    CHECK(lock_held(&services->lock));
    struct bytes user = user_call_user(call);
    if (call->body == MAIL_LOGIN || call->body == MAIL_STORED)
        /* Each stands alone, and strangers choose the names: nothing is remembered of them. */
        return rendezvous(services, service, user.size > 0 ? user : user_call_payload(call), from);
    uint64_t key = hash_keyed(services->key, user.data, user.size) | 1;
    struct pin *pin = pins_find(&service->pins, key);
    if (pin == NULL) {
        struct pin first = {.key = key,
                            .user = call->caller,
                            .instance = rendezvous(services, service, user, from),
                            .until_ms = call->deadline_ms};
        add_pin(services, service, &first);
        return first.instance;
    }
    renew_pin(services, service, pin, user, from);
    if (call->body != MAIL_ROOM_ASK) /* who wants into the room is not the room */
        pin->user = call->caller;
    pin->until_ms = call->deadline_ms > pin->until_ms ? call->deadline_ms : pin->until_ms;
    if (from == 0 || pin->instance != from)
        return pin->instance;
    if (!is_member(service, pin->heir))
        pin->heir = rendezvous(services, service, user, from);
    return pin->heir;
}

/* Under the lock. */
static actor_handle route(struct services *services, struct runner *runner,
                          struct user_call_message *call, actor_handle from, uint16_t *code)
{
    CHECK(lock_held(&services->lock) && call->header.kind == MESSAGE_USER_CALL);
    struct bytes name = user_call_service(call);
    struct service *service = find(services, name.data, name.size);
    *code = call->redelivered ? USHER__V1__ERROR__CODE__SERVICE_LOST
                              : USHER__V1__ERROR__CODE__NO_SERVICE;
    if (service == NULL || service->count == 0)
        return 0;
    actor_handle instance = choose(services, service, call, from);
    if (instance == 0)
        return 0; /* it was the only one */
    /* The mail has limits of its own, and shares (instance/mail.c). */
    int error = scheduler_post(services->options.scheduler, runner, instance, &call->header);
    return error == 0 ? instance : 0;
}

actor_handle services_route(struct services *services, struct runner *runner,
                            struct user_call_message *call, uint16_t *code)
{
    lock_take(&services->lock);
    actor_handle instance = route(services, runner, call, 0, code);
    lock_give(&services->lock);
    return instance;
}

/* Gives the service that has no instance any more, or NULL. */
static const char *remove_member(struct services *services, actor_handle instance)
{
    CHECK(lock_held(&services->lock));
    const char *emptied = NULL;
    for (uint32_t i = 0; i < services->count; i++) {
        struct service *service = services->list[i];
        for (uint32_t k = 0; k < service->count; k++)
            if (service->members[k].instance == instance) {
                if (service->mover == instance)
                    service->mover = 0;
                service->members[k] = service->members[--service->count];
                CHECK(!is_member(service, instance)); /* it was there once */
                if (service->count == 0)
                    emptied = service->name; /* services are never freed before the end */
            }
    }
    for (uint32_t i = 0; i < services->follower_count; i++)
        if (services->followers[i] == instance)
            services->followers[i--] = services->followers[--services->follower_count];
    return emptied;
}

static void answer_lost(struct services *services, struct runner *runner,
                        struct user_call_message *call)
{
    metrics_add(services->options.metrics, runner->index,
                call->body == MAIL_ROOM_NEWS ? METRIC_room_news_lost : METRIC_calls_lost, 1);
    if (call->call != 0) {
        struct call_result_message *result;
        MEMORY_MUST((result = call_result_create(USHER__V1__ERROR__CODE__SERVICE_LOST, 0,
                                                 (struct bytes){0})) != NULL,
                    "a result");
        result->request = call->request;
        result->call = call->call;
        result->epoch = call->epoch;
        scheduler_tell(services->options.scheduler, runner, call->caller, &result->header);
    }
    message_destroy(&call->header);
}

/* How an instance goes is for its own turns alone. */
static bool in_its_turn(const struct services *services, actor_handle instance)
{
    return actor_in_turn(registry_actor(services->options.registry, actor_slot(instance)));
}

bool services_begin_leave(struct services *services, actor_handle instance)
{
    bool may = true;
    CHECK(in_its_turn(services, instance));
    lock_take(&services->lock);
    for (uint32_t i = 0; i < services->count; i++) {
        struct service *service = services->list[i];
        for (uint32_t k = 0; k < service->count; k++)
            if (service->members[k].instance == instance) {
                service->members[k].leaving = true;
                if (service->mover == 0)
                    service->mover = instance;
                may = may && service->mover == instance;
            }
    }
    lock_give(&services->lock);
    return may;
}

void services_hand_on(struct services *services, struct runner *runner, actor_handle instance,
                      struct message *mail)
{
    struct message_list lost = {0};
    struct message *call;
    lock_take(&services->lock);
    while (mail != NULL) {
        struct message *next = mail->next;
        uint16_t code;
        if (route(services, runner, (struct user_call_message *)mail, instance, &code) == 0)
            message_append(&lost, mail);
        mail = next;
    }
    lock_give(&services->lock);
    while ((call = message_take(&lost)) != NULL)
        answer_lost(services, runner, (struct user_call_message *)call);
}

bool services_leave(struct services *services, actor_handle instance)
{
    struct actor *actor = registry_actor(services->options.registry, actor_slot(instance));
    CHECK(in_its_turn(services, instance));
    lock_take(&services->lock);
    /* The backlog is the turn's, and this is it. */
    bool empty = actor->backlog == NULL && mailbox_length(&actor->mailbox) == 0;
    const char *emptied = empty ? remove_member(services, instance) : NULL;
    if (emptied != NULL) /* before its place is another's, and before it is up again */
        LOG(services->options.log, SERVICE_DOWN, LOG_S("service", emptied));
    lock_give(&services->lock);
    return empty;
}

static void look_at(const struct services *services, const struct member *member,
                    struct service_look *row)
{
    CHECK(lock_held(&services->lock));
    const struct actor *actor =
        registry_actor(services->options.registry, actor_slot(member->instance));
    /* It leaves the directory before it retires, so its name and its place are there. */
    const void *state = actor->state;
    const struct instance_shown *shown = &((const struct instance_place *)state)->shown;
    const char *name = strrchr(actor->name, '/');
    strncpy(row->instance, name != NULL ? name + 1 : actor->name, sizeof(row->instance) - 1);
    row->draining = member->draining;
    row->leaving = member->leaving;
    row->presence = follows(services, member->instance);
    row->lost = atomic_load_explicit(&shown->lost, memory_order_relaxed);
    row->mail_waiting = atomic_load_explicit(&shown->mail_waiting, memory_order_relaxed);
    row->calls_open = atomic_load_explicit(&shown->calls_open, memory_order_relaxed);
    row->last_fetch_ms = atomic_load_explicit(&shown->last_fetch_ms, memory_order_relaxed);
}

size_t services_look(struct services *services, struct service_look *rows, size_t max)
{
    size_t count = 0;
    lock_take(&services->lock);
    for (uint32_t i = 0; i < services->count; i++) {
        const struct service *service = services->list[i];
        for (uint32_t k = 0; count < max && k < (service->count > 0 ? service->count : 1); k++) {
            struct service_look *row = &rows[count++];
            *row = (struct service_look){0};
            memcpy(row->service, service->name, sizeof(row->service));
            if (service->count > 0)
                look_at(services, &service->members[k], row);
        }
    }
    lock_give(&services->lock);
    return count;
}

void services_tell_presence(struct services *services, struct runner *runner, uint64_t last)
{
    lock_take(&services->lock);
    for (uint32_t i = 0; i < services->follower_count; i++) {
        struct presence_message *message = message_create(MESSAGE_PRESENCE, sizeof(*message));
        message->last = last;
        scheduler_tell(services->options.scheduler, runner, services->followers[i],
                       &message->header);
    }
    lock_give(&services->lock);
}
