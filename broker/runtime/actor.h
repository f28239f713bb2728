/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_RUNTIME_ACTOR_H
#define USHER_RUNTIME_ACTOR_H

/* What an actor is: a slot that is never freed, a name, a mailbox and a behaviour.
 *
 * Others know an actor by its handle: slot and generation. A generation is odd while the slot is
 * in use and rises when it is given back, so an old handle finds nothing. A message carries the
 * generation it was posted to; one that arrives after its actor has gone is *bounced*. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/thread.h"
#include "runtime/mailbox.h"

typedef uint64_t actor_handle; /* generation << 32 | slot; 0: nobody */

static inline uint32_t actor_slot(actor_handle handle)
{
    return (uint32_t)handle;
}

static inline uint32_t actor_generation(actor_handle handle)
{
    return (uint32_t)(handle >> 32);
}

/* A thread that runs turns. One per thread, made by whoever owns the thread. */
struct runner {
    unsigned index;   /* its block of the metrics */
    bool drains;      /* it runs what it lists before it sleeps, so its posts wake nobody */
    uint64_t now_ms;  /* monotonic; read once per batch by the owner */
    uint64_t wall_ms; /* for stamps */
    unsigned turns;   /* that it has run */
    bool pauses;      /* the last turn has more to do, and wants sockets to be looked at before */
    void *scratch;    /* the owner's, for the behaviours */
    _Atomic uint64_t *beats; /* counts the rounds of a worker, for whoever looks; may be NULL */
    struct thread_mark mark; /* of the thread that runs turns with it now */
};

/* What becomes of the actor at the end of its turn. */
enum verdict {
    VERDICT_GO_ON,
    VERDICT_HOLD,   /* the turn waits for something; scheduler_continue ends it */
    VERDICT_RETIRE, /* the name is free again and every handle stale */
};

enum { ACTOR_KINDS = 8, ACTOR_NUMBERS = 8 };

/* All calls of one actor come from one thread at a time. */
struct behaviour {
    const char *name;
    uint8_t kind;       /* below ACTOR_KINDS; the registry counts by it */
    size_t state_bytes; /* of its state; no more than the registry gives to each */

    /* One message; takes it. False ends the turn here: later messages wait for the next. */
    bool (*receive)(void *context, struct runner *runner, actor_handle self, void *state,
                    struct message *message);

    /* `receive` has ended the turn, and this one is next: true when the turn takes it all the same.
     * NULL: it never does. */
    bool (*joins)(void *context, struct runner *runner, const struct message *next);

    /* The turn's messages are done: carry out what they asked for. On VERDICT_RETIRE the state
     * holds nothing any more; it is zeroed for the next owner of the slot. */
    enum verdict (*finish)(void *context, struct runner *runner, actor_handle self, void *state);

    /* What finish held the turn for is done, and `what` says how (scheduler_resume). NULL: it never
     * holds one. */
    enum verdict (*resume)(void *context, struct runner *runner, actor_handle self, void *state,
                           void *what);

    /* The process ends, and nobody is told: frees what the state holds. NULL: it holds nothing. */
    void (*clear)(void *context, struct runner *runner, actor_handle self, void *state);

    /* What the state shows to whoever walks the actors, on any thread and during turns: atomics
     * that are read. NULL: nothing. */
    void (*show)(const void *state, uint64_t numbers[ACTOR_NUMBERS]);
};

struct actor {
    /* shared */
    struct mailbox mailbox;
    _Atomic uint32_t generation;
    _Atomic uint32_t gauge; /* one number that the behaviour shows to others */
    _Atomic uint64_t proof; /* what whoever claims to belong to it has to show; 0: nobody does */
    /* owned by the turn */
    struct message *backlog; /* taken from the mailbox, not yet received */
    /* Set by registry_claim before the generation becomes odd. The name is for the turn, and for
     * others under the shard's lock; who asks what kind of actor it is uses registry_next. */
    const struct behaviour *_Atomic behaviour;
    char *name;
    union {
        uint32_t name_hash; /* in use */
        uint32_t next_free; /* free: slot + 1 of the next one that is, under the free list's lock */
    };
    _Atomic bool running; /* shared: the one-runner check */
    /* owned by the turn; its size is the registry's option. Aligned for 64-bit numbers and
     * pointers, no more: there is one per user. */
    uint64_t state[];
};

/* A turn of it runs or is held: what is for the actor's own turns alone checks it. */
static inline bool actor_in_turn(const struct actor *actor)
{
    return atomic_load_explicit(&actor->running, memory_order_relaxed);
}

#endif
