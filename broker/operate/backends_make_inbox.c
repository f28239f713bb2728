/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/backends_private.h"

/* Requests about what is stored for users become commands. */

unsigned make_inbox(struct making *making, const struct admin_query *query, json_t *answer)
{
    Usher__V1__Inbox *inbox = &making->of.inbox;
    usher__v1__inbox__init(inbox);
    inbox->user = (char *)query->user;
    inbox->after_mid = query->after;
    inbox->limit = query->limit != 0 ? query->limit : HTTP_ROWS;
    making->command.body_case = USHER__V1__COMMAND__BODY_INBOX;
    making->command.inbox = inbox;
    return 0;
}

unsigned make_inbox_drop(struct making *making, const struct admin_query *query, json_t *answer)
{
    json_int_t up_to_mid = 0;
    Usher__V1__InboxDrop *drop = &making->of.inbox_drop;
    usher__v1__inbox_drop__init(drop);
    unsigned status = make_unpack(query, answer, "{s:I}", "up_to_mid", &up_to_mid);
    if (status == 0 && up_to_mid < 0)
        return make_fault(answer, "up_to_mid: a number that is not below 0");
    drop->user = (char *)query->user;
    drop->up_to_mid = (uint64_t)up_to_mid;
    making->command.body_case = USHER__V1__COMMAND__BODY_INBOX_DROP;
    making->command.inbox_drop = drop;
    return status;
}
