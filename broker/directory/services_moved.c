/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "directory/services_private.h"
#include "proto/handover.h"

/* The directory that goes over to another process: which instances each service has, who follows
 * the stream, and to which instance each user's calls go. With the key by which an instance is
 * chosen, so that a user without a pin goes where he would have gone. */

enum { PIN_NUMBERS = 5 };

static size_t add_pins(const struct pin *slots, size_t from, size_t size, uint64_t *numbers)
{
    size_t count = 0;
    for (size_t i = from; i < size; i++) {
        const struct pin *pin = &slots[i];
        const uint64_t values[PIN_NUMBERS] = {pin->key, pin->user, pin->instance, pin->heir,
                                              pin->until_ms};
        if (pin->key == 0)
            continue;
        memcpy(numbers + count, values, sizeof(values));
        count += PIN_NUMBERS;
    }
    return count;
}

static bool pack_service(const struct service *service, uint64_t *pins, struct buffer *out)
{
    uint64_t members[INSTANCES_MAX];
    protobuf_c_boolean draining[INSTANCES_MAX];
    Usher__V1__HandoverService to = USHER__V1__HANDOVER_SERVICE__INIT;
    Usher__V1__HandoverRecord record = USHER__V1__HANDOVER_RECORD__INIT;
    for (uint32_t i = 0; i < service->count; i++) {
        members[i] = service->members[i].instance;
        draining[i] = service->members[i].draining;
        if (service->members[i].leaving)
            return false;
    }
    to.name = (char *)(uintptr_t)service->name;
    to.members = members;
    to.n_members = service->count;
    to.draining = draining;
    to.n_draining = service->count;
    to.pins = pins;
    to.n_pins = add_pins(service->pins.slots, 0, service->pins.size, pins);
    if (service->pins.old != NULL)
        to.n_pins += add_pins(service->pins.old, service->pins.moved_to, service->pins.old_size,
                              pins + to.n_pins);
    record.body_case = USHER__V1__HANDOVER_RECORD__BODY_SERVICE;
    record.service = &to;
    return handover_append(out, &record) == 0;
}

static bool pack_services(struct services *services, struct buffer *out)
{
    bool packed = true;
    for (uint32_t i = 0; packed && i < services->count; i++) {
        const struct service *service = services->list[i];
        size_t most = service->pins.count + 1;
        uint64_t *pins = malloc(most * PIN_NUMBERS * sizeof(*pins));
        packed = pins != NULL && pack_service(service, pins, out);
        free(pins);
    }
    return packed;
}

static bool pack_followers(const struct services *services, struct buffer *out)
{
    Usher__V1__HandoverFollowers to = USHER__V1__HANDOVER_FOLLOWERS__INIT;
    Usher__V1__HandoverRecord record = USHER__V1__HANDOVER_RECORD__INIT;
    to.instances = services->followers;
    to.n_instances = services->follower_count;
    record.body_case = USHER__V1__HANDOVER_RECORD__BODY_FOLLOWERS;
    record.followers = &to;
    return handover_append(out, &record) == 0;
}

void services_key(const struct services *services, uint8_t key[SERVICES_KEY_BYTES])
{
    memcpy(key, services->key, sizeof(services->key));
}

bool services_move_out(struct services *services, struct buffer *out)
{
    lock_take(&services->lock);
    bool packed = pack_services(services, out) && pack_followers(services, out);
    lock_give(&services->lock);
    return packed;
}

/* --- in --------------------------------------------------------------------------------------- */

void services_move_key(struct services *services, const uint8_t key[SERVICES_KEY_BYTES])
{
    CHECK(services->count == 0);
    memcpy(services->key, key, sizeof(services->key));
}

static bool all_are_wanted(void *context, const struct pin *pin)
{
    return true;
}

static int fill(struct services *services, struct service *service,
                const Usher__V1__HandoverService *from)
{
    for (size_t i = 0; i < from->n_members; i++) {
        if (registry_at(services->options.registry, actor_slot(from->members[i])) !=
            from->members[i])
            return -EINVAL;
        service->members[service->count++] =
            (struct member){.instance = from->members[i], .draining = from->draining[i]};
    }
    for (size_t i = 0; i < from->n_pins; i += PIN_NUMBERS) {
        const uint64_t *numbers = from->pins + i;
        const struct pin pin = {.key = numbers[0],
                                .user = numbers[1],
                                .instance = numbers[2],
                                .heir = numbers[3],
                                .until_ms = numbers[4]};
        if (pin.key % 2 == 0 || pins_find(&service->pins, pin.key) != NULL)
            return -EINVAL;
        if (!pins_set(&service->pins, &pin, all_are_wanted, NULL))
            return -ENOMEM;
    }
    return 0;
}

int services_move_in(struct services *services, const Usher__V1__HandoverService *from)
{
    size_t name_size = strlen(from->name);
    if (name_size == 0 || name_size > USERNAME_BYTES_MAX || from->n_members > INSTANCES_MAX ||
        from->n_draining != from->n_members || from->n_pins % PIN_NUMBERS != 0)
        return -EINVAL;
    lock_take(&services->lock);
    uint32_t before = services->count;
    struct service *service = services_find_or_add(services, from->name);
    int error = service == NULL             ? -ENOMEM
                : services->count == before ? -EINVAL /* it was there, or there is no more room */
                                            : fill(services, service, from);
    lock_give(&services->lock);
    return error;
}

int services_move_followers(struct services *services, const Usher__V1__HandoverFollowers *from)
{
    int error = from->n_instances <= services->follower_limit ? 0 : -EINVAL;
    lock_take(&services->lock);
    for (size_t i = 0; error == 0 && i < from->n_instances; i++)
        if (registry_at(services->options.registry, actor_slot(from->instances[i])) !=
            from->instances[i])
            error = -EINVAL;
        else
            services->followers[services->follower_count++] = from->instances[i];
    lock_give(&services->lock);
    return error;
}
