/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_WEBHOOK_ANSWER_H
#define USHER_WEBHOOK_ANSWER_H

/* What a receiver's answer says, as docs/webhooks.md has it. Pure. */

#include "web/client.h"
#include "webhook/stream.h"

/* NULL: it is a good one; else why not, for the log. */
const char *hook_answer_read(const struct web_answer *from, struct hook_answer *answer);

#endif
