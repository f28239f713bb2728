/* SPDX-License-Identifier: Apache-2.0 */
#include "micro.h"
#include "runtime/mailbox.h"

/* A message through a mailbox: push onto idle, take, mark idle. Four at a time, as under load. */

enum { BATCH = 4 };

static struct mailbox mailbox;
static struct message *messages[BATCH];

void micro_setup(void)
{
    mailbox_init(&mailbox);
    for (unsigned i = 0; i < BATCH; i++) {
        messages[i] = message_create(1, 64);
        micro_need(messages[i] != NULL, "message_create");
    }
}

void micro_loop(void)
{
    for (unsigned i = 0; i < MICRO_ROUNDS / BATCH; i++) {
        for (unsigned k = 0; k < BATCH; k++)
            micro_sink += mailbox_push(&mailbox, messages[k]);
        for (struct message *message = mailbox_take(&mailbox); message != NULL;
             message = message->next)
            micro_sink += message->kind;
        micro_need(mailbox_mark_idle(&mailbox), "mailbox_mark_idle");
    }
}
