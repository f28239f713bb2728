/* SPDX-License-Identifier: Apache-2.0 */
#include "common/addresses.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* A failure is remembered by address and not by place, because a resolver may give another order
 * each time. The memory is as long as a name can have addresses; beyond that the oldest failure
 * is forgotten, which costs one try. */

socklen_t address_size(const struct address *address)
{
    return address->at.any.sa_family == AF_INET6 ? sizeof(address->at.v6) : sizeof(address->at.v4);
}

bool address_equal(const struct address *a, const struct address *b)
{
    if (a->at.any.sa_family != b->at.any.sa_family)
        return false;
    if (a->at.any.sa_family == AF_INET)
        return a->at.v4.sin_port == b->at.v4.sin_port &&
               a->at.v4.sin_addr.s_addr == b->at.v4.sin_addr.s_addr;
    return a->at.v6.sin6_port == b->at.v6.sin6_port &&
           a->at.v6.sin6_scope_id == b->at.v6.sin6_scope_id &&
           memcmp(&a->at.v6.sin6_addr, &b->at.v6.sin6_addr, sizeof(a->at.v6.sin6_addr)) == 0;
}

/* Gives its place, or `count`. */
static size_t place_of(const struct address *list, size_t count, const struct address *address)
{
    size_t place = 0;
    while (place < count && !address_equal(&list[place], address))
        place++;
    return place;
}

/* Only what TCP can be spoken to, and once: some resolvers repeat themselves. */
static void add(struct addresses *found, const struct addrinfo *info)
{
    struct address address = {0};
    if ((info->ai_family != AF_INET && info->ai_family != AF_INET6) ||
        info->ai_addrlen > sizeof(address.at) || found->count == ADDRESSES_MAX)
        return;
    memcpy(&address.at, info->ai_addr, info->ai_addrlen);
    if (place_of(found->list, found->count, &address) == found->count)
        found->list[found->count++] = address;
}

int addresses_of_host(const char *host, uint16_t port, struct addresses *found)
{
    char service[8];
    struct addrinfo *all = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    found->count = 0;
    snprintf(service, sizeof(service), "%u", (unsigned)port);
    int failure = getaddrinfo(host, service, &hints, &all);
    if (failure == EAI_MEMORY)
        return -ENOMEM;
    if (failure != 0)
        return failure == EAI_SYSTEM && errno != 0 ? -errno : -EHOSTUNREACH;
    for (const struct addrinfo *info = all; info != NULL; info = info->ai_next)
        add(found, info);
    freeaddrinfo(all);
    return found->count > 0 ? 0 : -EHOSTUNREACH;
}

bool address_has_failed(const struct address_memory *memory, const struct address *address)
{
    return place_of(memory->failed, memory->count, address) < memory->count;
}

/* The next one of that family, or else of any, that is not taken yet. */
static size_t next_of(const struct addresses *from, const bool *taken, sa_family_t family)
{
    size_t other = from->count;
    for (size_t i = 0; i < from->count; i++) {
        if (taken[i])
            continue;
        if (from->list[i].at.any.sa_family == family)
            return i;
        if (other == from->count)
            other = i;
    }
    return other;
}

void addresses_order(struct addresses *addresses, const struct address_memory *memory)
{
    struct addresses from = *addresses;
    bool taken[ADDRESSES_MAX] = {false};
    size_t count = 0;
    for (size_t i = 0; i < from.count; i++)
        taken[i] = address_has_failed(memory, &from.list[i]);
    sa_family_t family = from.count > 0 ? from.list[0].at.any.sa_family : AF_UNSPEC;
    for (size_t i; (i = next_of(&from, taken, family)) < from.count;) {
        taken[i] = true;
        addresses->list[count++] = from.list[i];
        family = from.list[i].at.any.sa_family == AF_INET6 ? AF_INET : AF_INET6;
    }
    for (size_t i = 0; i < memory->count; i++)
        if (place_of(from.list, from.count, &memory->failed[i]) < from.count)
            addresses->list[count++] = memory->failed[i];
}

static void forget(struct address_memory *memory, size_t place)
{
    memory->count--;
    memmove(memory->failed + place, memory->failed + place + 1,
            (memory->count - place) * sizeof(*memory->failed));
}

void address_works(struct address_memory *memory, const struct address *address)
{
    size_t place = place_of(memory->failed, memory->count, address);
    if (place < memory->count)
        forget(memory, place);
}

void address_failed(struct address_memory *memory, const struct address *address)
{
    address_works(memory, address);
    if (memory->count == ADDRESSES_MAX)
        forget(memory, 0);
    memory->failed[memory->count++] = *address;
}
