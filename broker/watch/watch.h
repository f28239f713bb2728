/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_WATCH_WATCH_H
#define USHER_WATCH_WATCH_H

/* The behaviour of one of the WATCH_SHARDS actors that know who watches whom: some of the targets,
 * by a hash of their names, how each of them looks, and their watchers. Events of the presence
 * stream and what users say of themselves go in, posts to watchers come out. Pure like a user's
 * (actors/turn.h); actors/watch.h has the messages. Owned by the actor's turn, never blocks. */

#include "actors/watch.h"
#include "handover.pb-c.h"
#include "proto/arena.h"
#include "runtime/registry.h"

struct watch_shard;

/* The state of a shard's actor. */
struct watch_place {
    struct watch_shard *shard; /* NULL: nobody has been watched yet */
};

/* The name of the actor with that number. No user and no instance can have it. */
enum { WATCH_NAME_BYTES = 8 };
void watch_name(unsigned number, char name[WATCH_NAME_BYTES]);

/* The actors of all of them, who are there from the beginning and for as long as the process: an
 * array, the caller's, also when it fails. 0 or -ENOMEM. */
int watch_claim(struct registry *registry, const struct behaviour *behaviour,
                const actor_handle **shards);

/* Takes the message. */
void watch_receive(struct watch_place *place, struct message *message, struct turn *turn);

/* The messages of the turn are done: tells watchers, so many in one turn, and asks the store. */
void watch_finish(struct watch_place *place, struct turn *turn);

/* The process ends: frees it all, and tells nobody. */
void watch_clear(struct watch_place *place);

/* --- moved.c: a shard goes over to another process -------------------------------------------- */

/* How far it has come. All zero: nothing of it has been described. */
struct watch_walk {
    uint32_t target, watcher;
    bool over; /* there is no more */
};

/* The next of its targets, as many as one record should have; between two turns. What it refers to
 * is the shard's and the arena's. False: it cannot go now, or the arena is full. */
bool watch_move_out(const struct watch_place *place, struct watch_walk *walk, struct arena *arena,
                    Usher__V1__HandoverShard *shard);

/* Over there: the message that adds them to a shard; borrows them until a turn has received it.
 * NULL without memory. */
struct message *watch_move_in(const Usher__V1__HandoverShard *shard);

/* How that one of its targets looks, borrowed; NULL: there is no such. Between two turns. It is
 * found sooner if its memory was sent for before, step by step, and others' between the steps. */
enum { WATCH_FETCH_STEPS = 3 };
void watch_fetch(const struct watch_place *place, uint64_t hash, unsigned step);
struct watch_record *watch_record_of(const struct watch_place *place, uint64_t hash,
                                     struct bytes name);

#endif
