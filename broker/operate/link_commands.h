/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_LINK_COMMANDS_H
#define USHER_OPERATE_LINK_COMMANDS_H

/* Operators ask by the link: commands that are answered by lines or numbers. */

#include <stdatomic.h>

#include "actors/turn.h"
#include "backend.pb-c.h"
#include "base/thread.h"
#include "link/link.h"
#include "operate/follow.h"
#include "operate/leave.h"
#include "operate/past.h"
#include "operate/reload.h"
#include "operate/succession.h"
#include "storage/store.h"

/* All that it points to outlives it. */
struct link_commands {
    const struct settings *settings; /* link_token */
    struct log *log;
    struct metrics *metrics;
    struct store *store;
    struct registry *registry;
    struct link *_Atomic link; /* NULL until its address is open, when backends are there already */
    const struct follow *follow;
    struct leave *leave;
    struct succession *succession;
    struct reload *reload;
    struct past past;
    /* of whoever answers one, while he does */
    struct thread_mark mark;
};

/* Answers a command of operators with a Result of at most `room` bytes and some. False: it is
 * another's. One thread's, that of persist/queries.h; blocks on the disk. */
bool link_commands_answer(struct link_commands *commands, const Usher__V1__Command *command,
                          size_t room, struct buffer *out);

#endif
