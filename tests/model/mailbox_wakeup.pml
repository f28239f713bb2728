/* SPDX-License-Identifier: Apache-2.0
 *
 * How mail wakes somebody: broker/runtime/mailbox.c (the head word), ring.c (the run queue) and
 * scheduler.c (list, turn, sleep_until_listed) with two actors, two posters that run no turns and
 * two workers that do. With HANDS_ON actor 0 posts each message on to actor 1 from inside its
 * turn: a post of a worker, which wakes nobody. A turn receives one message at most and leaves
 * the rest as backlog.
 *
 * Each atomic operation of the code is a step, with these taken together or left out:
 *   - ring_pop is one step, where its compare-and-swap succeeds or where it sees the unpublished
 *     cell; ring.pml has the ring itself. Claim and publication of a push stay two steps;
 *   - scheduler_backlog is one step: an older tail would only give one more round;
 *   - work() looks at the backlog before it calls sleep_until_listed; that look only saves rounds;
 *   - the wake for a long queue (wake_backlog) and spurious returns of the futex only add wake-ups;
 *   - what only the running turn touches (backlog) has no steps of its own.
 * The futex compares and goes to sleep in one step, as the kernel does. Spin interleaves and does
 * not reorder; the memory orders are argued in scheduler.c.
 *
 * Checked: an actor is run by one worker at a time; it is in the queue at most once; it is never
 * listed while it runs; and when nothing can move any more, everybody who sleeps does so with all
 * mailboxes idle, nothing in the queue and every message received.
 *
 * The tests run POSTS=2 and, with POSTS=1, HANDS_ON=1; both in seconds. The two together hold as
 * well: 31 million states, 1.3 GB and some 40 seconds. */

#define ACTORS 2
#define WORKERS 2
#define POSTERS 2
#ifndef POSTS
#define POSTS 2 /* of each poster */
#endif
#ifndef HANDS_ON
#define HANDS_ON 0
#endif
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
byte on_the_way; /* accepted, not yet received */

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
        on_the_way++
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

proctype poster(byte me)
{
    byte left = POSTS;
    byte actor, position;
    bool edge;
    do
    :: left == 0 -> break
    :: else ->
        atomic {
            if
            :: actor = 0
            :: me > 0 -> actor = 1
            fi;
            push(actor, edge)
        };
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
        d_step {                       /* dead values would only make more states */
            edge = false;
            actor = 0;
            position = 0;
            left--
        }
    od
}

/* scheduler_turn */
inline turn(actor, edge, position)
{
    atomic {
        assert(!running[actor]);
        running[actor] = true
    };
    atomic { /* mailbox_take, if there is no backlog; then one message is received */
        if
        :: backlog[actor] == 0 ->
            assert(mailbox[actor] != IDLE);
            backlog[actor] = mailbox[actor];
            mailbox[actor] = 0
        :: else
        fi;
        assert(backlog[actor] > 0);    /* nobody is listed for nothing */
        backlog[actor]--;
        on_the_way--
    };
    if
    :: HANDS_ON && actor == 0 ->
        push(1, edge);
        if
        :: edge -> enqueue(1, position)
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

proctype worker(byte me)
{
    byte actor, position, seen_epoch;
    bool any;
    do
    :: true ->
        atomic { /* ring_pop */
            any = published[tail];
            if
            :: any ->
                actor = cell[tail];
                cell[tail] = 0;        /* as below: fewer states */
                published[tail] = false;
                tail++;
                listed[actor]--
            :: else
            fi
        };
        if
        :: any -> turn(actor, any, position)
        :: else ->
            /* sleep_until_listed; `any`: something is listed */
#ifdef BUG_LOOK_BEFORE_ANNOUNCING
            any = (head > tail);
#endif
            sleepers++;
#ifndef BUG_LATE_EPOCH
            seen_epoch = epoch;
#endif
#if !defined(BUG_LOOK_BEFORE_ANNOUNCING) && !defined(BUG_NO_SECOND_LOOK)
            any = (head > tail);
#endif
#ifdef BUG_LATE_EPOCH
            seen_epoch = epoch;
#endif
            if
            :: any
            :: else ->
                atomic {               /* FUTEX_WAIT */
                    if
                    :: epoch == seen_epoch -> waits[me] = true
                    :: else
                    fi
                };
end_asleep:     !waits[me]
            fi;
            sleepers--
        fi;
        d_step {                       /* dead values would only make more states */
            actor = 0;
            position = 0;
            seen_epoch = 0;
            any = false
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
            run poster(i)
        }
        for (i : 0 .. WORKERS - 1) {
            run worker(i)
        }
    };
    /* Spin sets `timeout` when nothing else can move: posters never wait, so they
     * are done, and all workers are asleep. */
    timeout;
    d_step {
        assert(waits[0] && waits[1]);
        assert(head == tail);
        for (i : 0 .. ACTORS - 1) {
            assert(mailbox[i] == IDLE);
            assert(backlog[i] == 0 && !running[i] && listed[i] == 0)
        }
        assert(on_the_way == 0)
    }
}
