/* SPDX-License-Identifier: Apache-2.0
 *
 * broker/runtime/ring.c with two cells, two producers and two consumers. Each atomic operation of
 * the code is a step of its own; so is the plain write and the plain read of the value, because
 * those are what the turn numbers protect. Spin interleaves, it does not reorder: the memory
 * orders are for the thread sanitizer and the stress test.
 *
 * Checked: every item comes out once; a cell is never written while it holds a value that nobody
 * has read, and never read before it is written; one producer's items are claimed in their order;
 * in the end the ring is empty. */

#define SIZE 2
#define PRODUCERS 2
#define CONSUMERS 2
#define ITEMS 2 /* of each producer */
#define TOTAL 4

byte turn[SIZE];
byte value[SIZE];
byte head;
byte tail;

/* What the code does not have: the books of the check. */
bool holds[SIZE];      /* written and not yet read */
bool seen[TOTAL];
byte item_at[TOTAL];   /* by position */
byte next[PRODUCERS];  /* the item that the next position with that producer's mail must hold */
byte popped;
byte done;

/* compare-and-swap: ok says whether it was done, position becomes what was found */
inline claim(word, position, ok)
{
#ifdef BUG_CLAIM_WITHOUT_CAS
    ok = (word == position);
    if
    :: ok -> word = position + 1
    :: else -> position = word
    fi
#else
    atomic {
        if
        :: word == position -> word = position + 1; ok = true
        :: else -> position = word; ok = false
        fi
    }
#endif
}

proctype producer(byte number)
{
    byte item = 0;
    byte position, found;
    bool ok;
    do
    :: item == ITEMS -> break
    :: else ->
load:   position = head;
again:  found = turn[position % SIZE];
        if
        :: found == position ->
            claim(head, position, ok);
            if
            :: ok
            :: else -> goto again
            fi
        :: found < position -> goto load   /* full: the caller tries again */
        :: found > position -> goto load
        fi;
#ifdef BUG_PUBLISH_FIRST
        turn[position % SIZE] = position + 1;
#endif
        atomic {
            assert(!holds[position % SIZE]);
            holds[position % SIZE] = true;
            value[position % SIZE] = number * ITEMS + item
        };
#ifndef BUG_PUBLISH_FIRST
        turn[position % SIZE] = position + 1;
#endif
        item++
    od;
    done++
}

proctype consumer()
{
    byte position, found, item;
    bool ok;
    do
    :: popped == TOTAL -> break
    :: else ->
load:   position = tail;
again:  found = turn[position % SIZE];
        if
        :: found == position + 1 ->
            claim(tail, position, ok);
            if
            :: ok
            :: else -> goto again
            fi
        :: found < position + 1 ->         /* empty: the caller tries again */
            if
            :: popped == TOTAL -> break
            :: else -> goto load
            fi
        :: found > position + 1 -> goto load
        fi;
#ifdef BUG_FREE_FIRST
        turn[position % SIZE] = position + SIZE;
#endif
        atomic {
            assert(holds[position % SIZE]);
            holds[position % SIZE] = false;
            item = value[position % SIZE];
            assert(!seen[item]);
            seen[item] = true;
            item_at[position] = item;
            popped++
        };
#ifndef BUG_FREE_FIRST
        turn[position % SIZE] = position + SIZE
#endif
    od;
    done++
}

init
{
    byte i;
    atomic {
        for (i : 0 .. SIZE - 1) {
            turn[i] = i
        }
        for (i : 0 .. PRODUCERS - 1) {
            run producer(i)
        }
        for (i : 0 .. CONSUMERS - 1) {
            run consumer()
        }
    };
    done == PRODUCERS + CONSUMERS;
    d_step {
        assert(head == TOTAL && tail == TOTAL && popped == TOTAL);
        for (i : 0 .. TOTAL - 1) {
            assert(item_at[i] % ITEMS == next[item_at[i] / ITEMS]);
            next[item_at[i] / ITEMS]++
        }
        for (i : 0 .. SIZE - 1) {
            assert(!holds[i])
        }
    }
}
