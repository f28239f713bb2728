/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/succession.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

/* The new process is started by the thread that waits for signals, because that one makes and ends
 * the broker. Who asks is a thread that must not wait for it: it would be one of those that are
 * stopped meanwhile. So it is told that it was asked for, and looks again until this process
 * answers that it has failed, or another one answers. */

void succession_init(struct succession *succession)
{
    lock_init(&succession->lock);
}

void succession_fini(struct succession *succession)
{
    lock_destroy(&succession->lock);
}

int succession_ask(struct succession *succession)
{
    int error = 0;
    if (succession->hand_over == NULL)
        return -ENOTSUP;
    lock_take(&succession->lock);
    if (leave_state(succession->leave) != LEAVE_SERVING)
        error = -EBUSY;
    else if (succession->look.state == SUCCESSION_ASKED)
        error = -EALREADY;
    else
        succession->look.state = SUCCESSION_ASKED;
    lock_give(&succession->lock);
    if (error == 0 && kill(getpid(), SIGUSR2) != 0)
        error = -errno;
    return error;
}

struct succession_look succession_look(struct succession *succession)
{
    lock_take(&succession->lock);
    struct succession_look look = succession->look;
    lock_give(&succession->lock);
    return look;
}

void succession_do(struct succession *succession)
{
    struct succession_look look = succession_look(succession);
    if (look.state != SUCCESSION_ASKED)
        return;
    look.frozen_ms = 0;
    look.error[0] = '\0';
    succession->hand_over(succession->context, &look.frozen_ms, look.error);
    look.state = SUCCESSION_FAILED;
    look.tries++;
    lock_take(&succession->lock);
    succession->look = look;
    lock_give(&succession->lock);
}
