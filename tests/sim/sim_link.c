/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/check.h"
#include "sim.h"

/* The contract of broker/link/link.h: every request that arrives is an exchange and wants exactly
 * one answer. A request waits on its channel until the world carries it over; the end of a peer is
 * told some time later, or never, as nng does when its reaper is stuck.
 *
 * A connection that breaks loses the request or the answer that is on it, and the request is sent
 * again, to the next process too when the broker was started anew. So the broker gets the same
 * Fetch and the same Submit more than once; rule ONCE compares what a repeated Submit is told.
 *
 * The feed is here as well: everything that is published is checked (rule FEED). */

struct exchange {
    struct channel *channel; /* NULL: the peer is gone */
    uint64_t owner;
    bool answered, end_to_tell;
};

struct link {
    struct world *world;
    bool silent;
    struct feed *feed;
    uint32_t count;
    struct exchange exchanges[EXCHANGES_MAX];
};

struct feed {
    struct world *world;
};

void link_make(struct world *world)
{
    world->link = calloc(1, sizeof(*world->link));
    CHECK_DEBT(world->link != NULL, "no memory for the simulation");
    world->link->world = world;
    world->link->feed = calloc(1, sizeof(struct feed));
    CHECK_DEBT(world->link->feed != NULL, "no memory for the simulation");
    world->link->feed->world = world;
    world->broker->egress.link = world->link;
    world->broker->egress.feed = world->link->feed;
}

void link_silence(struct world *world)
{
    world->link->silent = true;
}

void link_forget(struct world *world)
{
    for (unsigned i = 0; i < BACKENDS; i++)
        for (unsigned k = 0; k < CHANNELS; k++) {
            struct channel *channel = &world->backends[i].channels[k];
            if (channel->waiting && !channel->answered) {
                channel->waiting = false;
                channel->to_send = one_in(world, 2); /* or it fails, and Hello is next */
            }
            world->backends[i].wants_hello = true;
            world->backends[i].new_boot = true;
        }
    free(world->link->feed);
    free(world->link);
    world->link = NULL;
}

uint32_t link_waiting(struct world *world)
{
    uint32_t waiting = 0;
    for (uint32_t i = 0; i < world->link->count; i++)
        waiting += !world->link->exchanges[i].answered;
    return waiting;
}

/* The peer closes its connection; what it had asked for finds nobody. */
void link_cut(struct world *world, struct channel *channel)
{
    if (channel->waiting && !channel->answered && world->link != NULL) {
        struct exchange *exchange = &world->link->exchanges[channel->exchange];
        exchange->channel = NULL;
        exchange->end_to_tell = !one_in(world, 5);
    }
    buffer_fini(&channel->request);
    buffer_fini(&channel->answer);
    buffer_fini(&channel->lost);
    *channel = (struct channel){0};
}

static void lose_answer(struct world *world, struct channel *channel)
{
    Usher__V1__LinkAnswer *answer =
        usher__v1__link_answer__unpack(NULL, channel->answer.size, channel->answer.data);
    CHECK(answer != NULL);
    if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_BATCH)
        count(world, COUNT_batches_lost);
    if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_RESULTS) {
        count(world, COUNT_results_lost);
        channel->lost.size = 0;
        CHECK_DEBT(buffer_append(&channel->lost, channel->answer.data, channel->answer.size) == 0,
                   "no memory for the simulation");
    }
    usher__v1__link_answer__free_unpacked(answer, NULL);
}

void link_break(struct world *world, struct channel *channel)
{
    if (!channel->waiting || world->link == NULL)
        return;
    count(world, COUNT_lines_broken);
    struct exchange *exchange = &world->link->exchanges[channel->exchange];
    if (channel->answered) {
        lose_answer(world, channel);
    } else {
        exchange->channel = NULL;
        exchange->end_to_tell = !one_in(world, 5);
    }
    channel->waiting = channel->answered = false;
    channel->to_send = channel->repeated = true;
}

static bool carry(struct link *link, struct channel *channel)
{
    if (!channel->to_send || link->count == EXCHANGES_MAX)
        return false;
    channel->to_send = false;
    channel->waiting = true;
    channel->answered = false;
    channel->exchange = (int)link->count++;
    struct exchange *exchange = &link->exchanges[channel->exchange];
    *exchange = (struct exchange){.channel = channel};
    const struct link_events events = ingress_link_events(&link->world->broker->ingress);
    exchange->owner =
        events.on_request(events.context, (uint64_t)channel->exchange + 1,
                          (struct bytes){channel->request.data, channel->request.size});
    return true;
}

bool link_step(struct world *world, bool all)
{
    struct link *link = world->link;
    bool any = false;
    for (unsigned i = 0; i < BACKENDS; i++)
        for (unsigned k = 0; k < CHANNELS; k++)
            if (all || one_in(world, 3))
                any = carry(link, &world->backends[i].channels[k]) || any;
    for (uint32_t i = link->count; i > 0 && i + 32 > link->count; i--) {
        struct exchange *exchange = &link->exchanges[i - 1];
        if (!exchange->end_to_tell || exchange->answered || !(all || one_in(world, 4)))
            continue;
        exchange->end_to_tell = false;
        any = true;
        const struct link_events events = ingress_link_events(&world->broker->ingress);
        if (exchange->owner != 0)
            events.on_gone(events.context, exchange->owner, i);
    }
    return any;
}

/* Whoever is vouched for once more than needed loses nothing. */
bool link_is_stranger(struct link *link, uint64_t number)
{
    return true;
}

/* Ends that are told without an exchange that waits only make a wait shorter; here none is. */
void link_follow(struct link *link, uint64_t number)
{
}

bool link_is_crowded(struct link *link)
{
    return false;
}

void link_vouch(struct link *link, uint64_t number)
{
    if (number == 0 || number > link->count)
        broken(link->world, "LINK", "nobody asked with exchange %llu", (unsigned long long)number);
}

void link_answer(struct link *link, uint64_t number, struct bytes frame)
{
    struct world *world = link->world;
    if (link->silent || world_is_dark(world))
        return;
    if (number == 0 || number > link->count || link->exchanges[number - 1].answered) {
        broken(world, "LINK", "exchange %llu is answered twice", (unsigned long long)number);
        return;
    }
    struct exchange *exchange = &link->exchanges[number - 1];
    exchange->answered = true;
    if (frame.size > world->broker_options.link_frame_bytes)
        broken(world, "LINK", "an answer of %zu bytes", frame.size);
    struct channel *channel = exchange->channel;
    if (channel == NULL || (world->options.bug == BUG_LOST_ANSWER && one_in(world, 10)))
        return;
    channel->answered = true;
    channel->answer.size = 0;
    CHECK_DEBT(buffer_append(&channel->answer, frame.data, frame.size) == 0,
               "no memory for the simulation");
}

struct link_health link_health(struct link *link)
{
    return (struct link_health){.listening = true};
}

void feed_publish(struct feed *feed, struct bytes topic, struct bytes body)
{
    if (!feed->world->link->silent && !world_is_dark(feed->world))
        check_published(feed->world, topic, body);
}
