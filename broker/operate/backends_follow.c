/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/check.h"
#include "base/wait.h"
#include "operate/backends_private.h"

/* The thread that knows what time it is: it ends what waited for too long, and asks for those that
 * are parked when the stream has grown. Commits follow each other by the hundred, and each of those
 * parked would ask after every one; so it takes them together, and not more often than ROUND_MS. */

enum { ROUND_MS = 20, LOOK_MS = 1000 };

struct round {
    uint64_t now_ms, next_ms;
    bool may_ask;
    uint32_t due;
};

static void look_at_parked(struct backends *backends, struct ask *ask, struct round *round,
                           uint64_t last)
{
    if (ask->after < last && round->may_ask) {
        backends->due[round->due++] = ask_set_posted(backends, ask);
    } else if (ask->due_ms <= round->now_ms) {
        ask->state = ASK_IDLE; /* an empty page, or a sign of life */
        ask_wake(backends, ask);
    } else if (ask->after < last) {
        round->next_ms =
            round->now_ms + ROUND_MS < round->next_ms ? round->now_ms + ROUND_MS : round->next_ms;
    }
}

static void look_at(struct backends *backends, struct ask *ask, struct round *round, uint64_t last)
{
    if (ask->state == ASK_PARKED)
        look_at_parked(backends, ask, round, last);
    if (ask->state == ASK_POSTED && ask->due_ms <= round->now_ms) {
        ask->state = ASK_ANSWERED; /* with nothing */
        ask_wake(backends, ask);
    }
    if ((ask->state == ASK_PARKED || ask->state == ASK_POSTED) && ask->due_ms < round->next_ms)
        round->next_ms = ask->due_ms;
}

/* Under the lock: what is to be done now, and when to look again. */
static void look(struct backends *backends, struct round *round)
{
    CHECK(lock_held(&backends->lock));
    uint64_t last = presence_last(backends);
    round->due = 0;
    round->next_ms = round->now_ms + LOOK_MS;
    for (uint32_t i = 0; i < backends->requests_max + backends->waits_max; i++)
        look_at(backends, &backends->asks[i], round, last);
}

/* Nobody else touches one that is POSTED and suspended, but for who ends all of them. */
static void send_all(struct backends *backends, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct ask *ask =
            &backends->asks[(uint32_t)backends->due[i] & (EXCHANGE_OF_HTTP - 1)];
        ask_send(backends, backends->due[i], presence_question(ask));
    }
}

static void *follow(void *argument)
{
    struct backends *backends = argument;
    uint64_t asked_ms = 0;
    lock_take(&backends->lock);
    while (!backends->closing) {
        struct round round = {.now_ms = env_monotonic_ms(backends->options.env)};
        round.may_ask = round.now_ms >= asked_ms + ROUND_MS;
        look(backends, &round);
        if (round.due > 0) {
            asked_ms = round.now_ms;
            lock_give(&backends->lock);
            send_all(backends, round.due);
            lock_take(&backends->lock);
            continue;
        }
        struct timespec until = env_until(backends->options.env, round.next_ms);
        lock_wait_until(&backends->lock, &backends->changed, &until);
    }
    lock_give(&backends->lock);
    return NULL;
}

int follow_start(struct backends *backends)
{
    int error = pthread_create(&backends->thread, NULL, follow, backends);
    backends->started = error == 0;
    return -error;
}

void backends_stored(void *context)
{
    struct backends *backends = context;
    lock_take(&backends->lock);
    if (backends->waits > 0)
        pthread_cond_signal(&backends->changed);
    lock_give(&backends->lock);
}

void follow_stop(struct backends *backends)
{
    lock_take(&backends->lock);
    backends->closing = true;
    for (uint32_t i = 0; i < backends->requests_max + backends->waits_max; i++) {
        struct ask *ask = &backends->asks[i];
        if (ask->state != ASK_PARKED && ask->state != ASK_POSTED)
            continue;
        ask->state = ASK_ANSWERED; /* with nothing */
        ask_wake(backends, ask);
    }
    pthread_cond_signal(&backends->changed);
    lock_give(&backends->lock);
    if (backends->started)
        pthread_join(backends->thread, NULL);
    backends->started = false;
}
