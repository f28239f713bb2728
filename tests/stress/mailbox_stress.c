/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/mailbox.h"
#include "stress/stress.h"

/* Producers at one mailbox, and two consumers who follow its protocol: who gets the edge lists
 * the mailbox, who takes it off the list runs the turn. Every message comes once and in the order
 * of its producer, one consumer at a time, and the mailbox does not become idle with mail in it.
 *
 * `turn` is plain memory that only the turn may touch, so a missing order between two turns is a
 * report of the thread sanitizer. Messages are freed in the turn and their addresses come back in
 * the producers: the compare-and-swap meets the same address with another life. */

enum { PRODUCERS = 3, CONSUMERS = 2, LENGTH_MAX = 20 };

struct letter {
    struct message header;
    uint32_t producer;
    uint64_t number;
};

struct turn {
    uint64_t received[PRODUCERS];
    uint64_t turns;
};

struct post_office {
    struct mailbox mailbox;
    _Atomic bool listed; /* the run queue, of one place */
    _Atomic bool closed; /* no producer is left */
    uint64_t end_ms;
    struct turn turn;
};

struct producer {
    struct post_office *office;
    uint32_t number;
    uint64_t sent;
};

static void list(struct post_office *office)
{
    /* Twice in the queue would be two consumers at once. */
    CHECK(!atomic_exchange_explicit(&office->listed, true, memory_order_release));
}

static void *produce(void *argument)
{
    struct producer *producer = argument;
    struct post_office *office = producer->office;
    uint64_t row = producer->number;
    while (stress_now_ms() < office->end_ms) {
        /* Bursts and single ones: the edge to idle and back is where it is difficult. */
        for (uint32_t left = 1 + stress_random(&row, 8); left > 0; left--) {
            struct letter *letter = message_create(1, sizeof(*letter));
            CHECK(letter != NULL);
            letter->producer = producer->number;
            letter->number = producer->sent++;
            if (mailbox_push(&office->mailbox, &letter->header))
                list(office);
        }
        while (mailbox_length(&office->mailbox) > LENGTH_MAX)
            sched_yield();
    }
    return NULL;
}

static void run_turn(struct post_office *office)
{
    office->turn.turns++;
    struct message *message = mailbox_take(&office->mailbox);
    while (message != NULL) {
        struct letter *letter = (struct letter *)message;
        message = message->next;
        CHECK(letter->number == office->turn.received[letter->producer]);
        office->turn.received[letter->producer]++;
        message_destroy(&letter->header);
    }
    if (!mailbox_mark_idle(&office->mailbox))
        list(office);
}

static void *consume(void *argument)
{
    struct post_office *office = argument;
    for (;;) {
        bool closed = atomic_load_explicit(&office->closed, memory_order_acquire);
        if (atomic_exchange_explicit(&office->listed, false, memory_order_acquire))
            run_turn(office);
        else if (closed)
            return NULL; /* a turn that is still running elsewhere lists again if it must */
        else
            sched_yield();
    }
}

int main(void)
{
    struct post_office office = {.end_ms = stress_now_ms() + stress_duration_ms()};
    struct producer producers[PRODUCERS];
    pthread_t producing[PRODUCERS];
    pthread_t consuming[CONSUMERS];
    mailbox_init(&office.mailbox);
    for (uint32_t i = 0; i < CONSUMERS; i++)
        stress_start(&consuming[i], consume, &office);
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.office = &office, .number = i};
        stress_start(&producing[i], produce, &producers[i]);
    }
    for (uint32_t i = 0; i < PRODUCERS; i++)
        pthread_join(producing[i], NULL);
    atomic_store_explicit(&office.closed, true, memory_order_release);
    for (uint32_t i = 0; i < CONSUMERS; i++)
        pthread_join(consuming[i], NULL);
    uint64_t total = 0;
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        CHECK(office.turn.received[i] == producers[i].sent);
        total += producers[i].sent;
    }
    struct message last = {0};
    CHECK(mailbox_length(&office.mailbox) == 0);
    CHECK(mailbox_push(&office.mailbox, &last)); /* it was idle */
    CHECK(mailbox_take(&office.mailbox) == &last && last.next == NULL);
    printf("%lu messages in %lu turns\n", (unsigned long)total, (unsigned long)office.turn.turns);
    return 0;
}
