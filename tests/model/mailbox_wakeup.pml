/* SPDX-License-Identifier: Apache-2.0
 *
 * How mail wakes somebody: broker/runtime/mailbox.c (the head word), ring.c (the run queue) and
 * scheduler.c (list, turn, sleep_until_listed) with two actors, two posters that run no turns and
 * two workers that do. Actor 0 posts each message on to actor 1, from inside its turn, as worker's
 * posts that wake nobody. A turn receives one message at most and leaves the rest as backlog.
 *
 * Each atomic operation of the code is a step; the ring is ring.c's in steps that matter here:
 * claim, publish, and a pop that stops at what is claimed but not published. The futex compares
 * and goes to sleep in one step, as the kernel does. Left out: the wake for a long queue
 * (wake_backlog), which only adds wake-ups, and spurious returns of the futex, which only add
 * rounds. Spin interleaves and does not reorder; the orders are argued in scheduler.c.
 *
 * Checked: an actor is run by one worker at a time; it is in the queue at most once; it is never
 * listed while it runs; and when nothing can move any more, everybody who sleeps does so with all
 * mailboxes idle, nothing in the queue and every message received. */

#define ACTORS 2
#define WORKERS 2
#define POSTERS 2
#define POSTS 2 /* of each poster */
#define CELLS 10
#define IDLE 255

/* mailbox.c: IDLE, or how many messages are in the list */
byte mailbox[ACTORS];
/* ring.c; positions are not used twice, so a cell is never used twice either */
byte cell[CELLS];
bool published[CELLS];
byte head;
byte tail;
/* scheduler.c */
byte sleepers;
byte epoch;
byte backlog[ACTORS];
bool running[ACTORS];
/* the kernel's side of the futex */
bool waits[WORKERS];

/* What the code does not have: the books of the check. */
byte listed[ACTORS];
byte accepted;
byte received;
byte posters_left = POSTERS;

/* list(): without the wake-up */
inline enqueue(actor, position)
{
    atomic {
        assert(listed[actor] == 0 && !running[actor]);
        listed[actor]++;
        assert(head < CELLS);
        position = head;
        head++
    };
    atomic { /* the value is nobody's business before it is published */
        cell[position] = actor;
        published[position] = true
    }
}

/* mailbox_push: one compare-and-swap that succeeded */
inline push(actor, edge)
{
    atomic {
        edge = (mailbox[actor] == IDLE);
        if
        :: edge -> mailbox[actor] = 1
        :: else -> mailbox[actor]++
        fi;
        accepted++
    }
#ifdef BUG_LIST_ALWAYS
    edge = true;
#endif
}

/* FUTEX_WAKE of one, whichever */
inline futex_wake()
{
    atomic {
        if
        :: waits[0] -> waits[0] = false
        :: waits[1] -> waits[1] = false
        :: !waits[0] && !waits[1]
        fi
    }
}

proctype poster()
{
    byte left = POSTS;
    byte actor, position;
    bool edge;
    do
    :: left == 0 -> break
    :: else ->
        if
        :: actor = 0
        :: actor = 1
        fi;
        push(actor, edge);
        if
        :: edge ->
            enqueue(actor, position);
            if
            :: sleepers == 0           /* the read-modify-write of scheduler_wake */
            :: else ->
                epoch++;
                futex_wake()
            fi
        :: else
        fi;
        edge = false;
        left--
    od;
    posters_left--
}

/* scheduler_turn */
inline turn(actor, edge, position)
{
    atomic {
        assert(!running[actor]);
        running[actor] = true
    };
    if
    :: backlog[actor] == 0 ->
        atomic { /* mailbox_take */
            assert(mailbox[actor] != IDLE);
            backlog[actor] = mailbox[actor];
            mailbox[actor] = 0
        }
    :: else
    fi;
    if
    :: backlog[actor] > 0 ->
        atomic {
            backlog[actor]--;
            received++
        };
        if
        :: actor == 0 ->
            push(1, edge);
            if
            :: edge -> enqueue(1, position)
            :: else
            fi
        :: else
        fi
    :: else
    fi;
    /* end_turn */
    atomic {
        edge = backlog[actor] > 0;     /* `left` */
        running[actor] = false
    };
    if
    :: edge
    :: else ->
#ifdef BUG_IDLE_BY_STORE
        edge = mailbox[actor] != 0;
        if
        :: edge
        :: else -> mailbox[actor] = IDLE
        fi
#else
        atomic {                       /* mailbox_mark_idle */
            edge = mailbox[actor] != 0;
            if
            :: edge
            :: else -> mailbox[actor] = IDLE
            fi
        }
#endif
    fi;
#ifndef BUG_NO_RELIST
    if
    :: edge -> enqueue(actor, position)
    :: else
    fi;
#endif
    edge = false
}

/* scheduler_backlog: two loads, tail first */
inline backlogged(position, any)
{
    position = tail;
    any = head > position
}

proctype worker(byte me)
{
    byte actor, position, seen_epoch;
    bool any, looked;
    do
    :: true ->
        /* ring_pop */
        any = false;
        position = tail;
        if
        :: published[position] ->
            atomic {
                if
                :: tail == position ->
                    tail++;
                    actor = cell[position];
                    listed[actor]--;
                    any = true
                :: else
                fi
            }
            /* A claim that failed starts again; as a new round it is the same. */
            if
            :: any ->
                any = false;
                turn(actor, any, position)
            :: else
            fi
        :: else ->
            backlogged(position, any);
            if
            :: any                     /* listed, not yet published: sched_yield */
            :: else ->
                /* sleep_until_listed */
#ifdef BUG_LOOK_BEFORE_ANNOUNCING
                backlogged(position, looked);
#endif
                sleepers++;
#ifndef BUG_LATE_EPOCH
                seen_epoch = epoch;
#endif
#ifdef BUG_NO_SECOND_LOOK
                looked = false;
#endif
#if !defined(BUG_LOOK_BEFORE_ANNOUNCING) && !defined(BUG_NO_SECOND_LOOK)
                backlogged(position, looked);
#endif
#ifdef BUG_LATE_EPOCH
                seen_epoch = epoch;
#endif
                if
                :: looked
                :: else ->
                    atomic {           /* FUTEX_WAIT */
                        if
                        :: epoch == seen_epoch -> waits[me] = true
                        :: else
                        fi
                    };
end_asleep:         !waits[me]
                fi;
                sleepers--
            fi
        fi;
        /* Dead values would only make more states. */
        d_step {
            actor = 0;
            position = 0;
            seen_epoch = 0;
            any = false;
            looked = false
        }
    od
}

init
{
    byte i;
    atomic {
        for (i : 0 .. ACTORS - 1) {
            mailbox[i] = IDLE
        }
        for (i : 0 .. POSTERS - 1) {
            run poster()
        }
        for (i : 0 .. WORKERS - 1) {
            run worker(i)
        }
    };
    /* Spin sets `timeout` when nothing else can move: all posters are done, all workers asleep. */
    timeout;
    d_step {
        assert(posters_left == 0);
        assert(waits[0] && waits[1]);
        assert(head == tail);
        for (i : 0 .. ACTORS - 1) {
            assert(mailbox[i] == IDLE);
            assert(backlog[i] == 0 && !running[i] && listed[i] == 0)
        }
        assert(received == accepted)
    }
}
